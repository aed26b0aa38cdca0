/*
 * checked.h - arithmetic on sizes that come from outside
 *
 * Each function returns 1 and stores the result, or returns 0 if the result does not fit 64 bits. No size that was read
 * from a file is added, multiplied or rounded up in any other way.
 */
#ifndef QZ_CHECKED_H
#define QZ_CHECKED_H

#include <stddef.h>
#include <stdint.h>

static inline int qz_add(uint64_t a, uint64_t b, uint64_t *sum)
{
    *sum = a + b;
    return b <= UINT64_MAX - a;
}

static inline int qz_mul(uint64_t a, uint64_t b, uint64_t *product)
{
    *product = a * b;
    return b == 0 || a <= UINT64_MAX / b;
}

/* Whether the range of `count` items from `first` lies within `total`; never wraps. */
static inline int qz_within(uint64_t first, uint64_t count, uint64_t total)
{
    return first <= total && count <= total - first;
}

/* 1 if n bytes can be an allocation. Half the address space is the limit, as PTRDIFF_MAX is for objects. */
static inline int qz_fits_memory(uint64_t n)
{
    return n <= (uint64_t)(SIZE_MAX / 2);
}

#endif
