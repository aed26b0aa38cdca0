/*
 * shuffled.h - quantized tensors that no scheme describes, which are decoded as they are read
 *
 * They are tensors whose columns belong to groups in any order, and tensors with numbers that are added to the values
 * of signed codes.
 */
#ifndef QZ_LAYOUTS_SHUFFLED_H
#define QZ_LAYOUTS_SHUFFLED_H

#include "foreign.h"

/* qz_found_note() of one with a list of the group of each column, or none (SIZE_MAX). If the groups are out of order, a
 * tensor of float32 with the same name is added in place of the members; if they are not of one size either, nothing is
 * added, and the members stay what they are. */
qz_file_result qz_shuffled_note(qz_found *found, size_t list, const char *suffix, qz_file_error *error);

/* Adds a tensor of float32 in place of the members of one of int4 with such numbers: what was found describes it with
 * codes of uint4 and offsets, which are the values of code 0. What is wrong with it is noted, as by qz_found_note(). */
qz_file_result qz_added_note(qz_found *found, qz_file_error *error);

#endif
