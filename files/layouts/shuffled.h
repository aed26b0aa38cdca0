/*
 * shuffled.h - quantized tensors whose columns belong to groups in any order: they are decoded as they are read
 */
#ifndef QZ_LAYOUTS_SHUFFLED_H
#define QZ_LAYOUTS_SHUFFLED_H

#include "foreign.h"

/* qz_found_note() of one with a list of the group of each column, or none (SIZE_MAX). If the groups are out of order, a
 * tensor of float32 with the same name is added in place of the members; if they are not of one size either, nothing is
 * added, and the members stay what they are. */
qz_file_result qz_shuffled_note(qz_found *found, size_t list, const char *suffix, qz_file_error *error);

#endif
