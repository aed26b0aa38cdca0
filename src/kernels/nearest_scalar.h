/*
 * nearest_scalar.h - what rows make with a query, in plain C: the specification, and the kernels of sets that have none
 */
#ifndef QZ_NEAREST_SCALAR_H
#define QZ_NEAREST_SCALAR_H

#include "kernels.h"

static void levels(const uint8_t *packed, size_t n, const uint8_t level[16], uint8_t *dst)
{
    for (size_t i = 0; i < n; i += QZ_LEVELS)
        for (size_t b = 0; b < QZ_LEVELS / 2; b++) {
            size_t at = i / 2 + b;
            unsigned two = at < n / 2 + n % 2 ? packed[at] : 0;
            dst[i + b] = level[two & 15];
            dst[i + QZ_LEVELS / 2 + b] = level[two >> 4];
        }
}

static float near_row(const struct qz_near *rows, size_t r, const int8_t *query, const float *start)
{
    float lane[QZ_NEAR_LANES] = {0};
    const uint8_t *level = rows->level + r * rows->n;
    for (size_t t = 0; t < rows->terms; t++)
        lane[t % QZ_NEAR_LANES] = fmaf(rows->bias[r * rows->terms + t], start[t], lane[t % QZ_NEAR_LANES]);
    for (size_t g = 0, i = 0; g < rows->groups; g++) {
        int32_t sum[QZ_NEAR_LANES] = {0};
        size_t end = rows->n - i < rows->group_size ? rows->n : i + rows->group_size;
        for (; i < end; i++)
            sum[i % QZ_LEVELS / 4] += level[i] * query[i];
        for (size_t l = 0; l < QZ_NEAR_LANES; l++)
            lane[l] = fmaf(rows->scale[r * rows->groups + g], (float)sum[l], lane[l]);
    }
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

static void near(const struct qz_near *rows, const int8_t *query, const float *start, float *near)
{
    for (size_t r = 0; r < rows->rows; r++)
        near[r] = near_row(rows, r, query, start);
}

static size_t reach(const float *near, const float *spread, const float *size, size_t n, const float factor[2],
                    float limit, float *upper, uint32_t *which)
{
    size_t count = 0;
    for (size_t r = 0; r < n; r++) {
        upper[r] = fmaf(spread[r], factor[0], fmaf(size[r], factor[1], near[r]));
        if (!(upper[r] < limit))
            which[count++] = (uint32_t)r;
    }
    return count;
}

#endif
