/*
 * shuffled.h - quantized tensors whose columns belong to groups in any order: they are decoded as they are read
 */
#ifndef QZ_LAYOUTS_SHUFFLED_H
#define QZ_LAYOUTS_SHUFFLED_H

#include "foreign.h"

/* Adds a tensor of float32, called like the found one with that end, in place of its members. `list` has the group of
 * each column. If the groups are not of one size, nothing is added, and the members stay what they are. */
qz_file_result qz_shuffled_add(const qz_found *found, size_t list, const char *suffix, qz_file_error *error);

#endif
