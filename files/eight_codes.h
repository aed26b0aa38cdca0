/*
 * eight_codes.h - codes of eight bits with a scale for each group
 *
 * The functions work on memory and know no files. The public ones are in quantize_file.h.
 */
#ifndef QZ_FILE_EIGHT_CODES_H
#define QZ_FILE_EIGHT_CODES_H

#include "system.h"

#include "quantize_file.h"

/* A float16 as the number that it is, and the nearest float16 to a number: ties go to the even one. */
float qz_half_value(uint16_t half);
uint16_t qz_half_of(float x);

static inline int qz_half_is_finite(uint16_t half)
{
    return (half & 0x7c00) != 0x7c00;
}

/* How many groups so many values are. */
static inline uint64_t qz_eight_groups(uint64_t count)
{
    return count / QZ_EIGHT_GROUP + (count % QZ_EIGHT_GROUP != 0);
}

/* Decodes `count` values, of which the first is value `at` of the first group: its scale is scales[0]. */
void qz_eight_decode_from(const int8_t *codes, const uint16_t *scales, size_t at, size_t count, float *values);

#endif
