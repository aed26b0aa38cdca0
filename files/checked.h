/*
 * checked.h - arithmetic on sizes that come from outside
 *
 * qz_add() and qz_mul() return 1 and store the result, or return 0 if the result does not fit into 64 bits. qz_sum()
 * and qz_product() return the largest number in that case, which is more than any file or limit has. Sizes that were
 * read from a file are added, multiplied and rounded up only by these functions.
 */
#ifndef QZ_CHECKED_H
#define QZ_CHECKED_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

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

static inline uint64_t qz_sum(uint64_t a, uint64_t b)
{
    return b <= UINT64_MAX - a ? a + b : UINT64_MAX;
}

static inline uint64_t qz_product(uint64_t a, uint64_t b)
{
    return b == 0 || a <= UINT64_MAX / b ? a * b : UINT64_MAX;
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

/* As malloc(), of which addresses of 32 bits have no room for some sizes. */
static inline void *qz_allocate(uint64_t n)
{
    return qz_fits_memory(n) ? malloc((size_t)n) : NULL;
}

#endif
