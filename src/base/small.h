/*
 * small.h - a few functions that all layers need
 */
#ifndef QZ_SMALL_H
#define QZ_SMALL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "quantize.h"

static inline uint64_t qz_divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

static inline size_t qz_least(uint64_t a, uint64_t b)
{
    return (size_t)(a < b ? a : b);
}

static inline float qz_larger(float a, float b)
{
    return a > b ? a : b;
}

static inline int qz_are_all(const float *x, size_t n, float value)
{
    for (size_t i = 0; i < n; i++)
        if (x[i] != value)
            return 0;
    return 1;
}

/* Counts something that is wrong, and tells where the first is; `detail` may be NULL. */
static inline void qz_note_wrong(qz_detail *detail, uint64_t index, double value)
{
    if (detail && detail->count++ == 0) {
        detail->index = index;
        detail->value = value;
    }
}

/* Which bit is the lowest one that is set; there is one. */
static inline size_t qz_lowest_bit(uint64_t bits)
{
#ifdef __GNUC__
    return (size_t)__builtin_ctzll(bits);
#else
    size_t i = 0;
    while (!(bits >> i & 1))
        i++;
    return i;
#endif
}

/* Number `index`, from 1 on, of the generator SplitMix64. */
static inline uint64_t qz_splitmix(uint64_t seed, uint64_t index)
{
    uint64_t z = seed + index * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* memcpy for a few bytes, many times: without a call, by pieces that may overlap. */
static inline void qz_copy_few(void *dst, const void *src, size_t n)
{
    char *to = dst;
    const char *from = src;
    if (n >= 16) {
        for (size_t i = 0; i + 16 < n; i += 16)
            memcpy(to + i, from + i, 16);
        memcpy(to + n - 16, from + n - 16, 16);
    } else if (n >= 4) {
        memcpy(to, from, 4);
        memcpy(to + n / 8 * 4, from + n / 8 * 4, 4);
        memcpy(to + n - 4 - n / 8 * 4, from + n - 4 - n / 8 * 4, 4);
        memcpy(to + n - 4, from + n - 4, 4);
    } else {
        for (size_t i = 0; i < n; i++)
            to[i] = from[i];
    }
}

#endif
