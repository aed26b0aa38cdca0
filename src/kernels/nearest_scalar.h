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

static int32_t scan_chunk(const uint8_t *codes, const uint8_t level[16], const int8_t *query)
{
    int32_t sum = 0;
    for (size_t b = 0; b < QZ_CHUNK / 2; b++)
        sum += level[codes[b] & 15] * query[b] + level[codes[b] >> 4] * query[QZ_CHUNK / 2 + b];
    return sum;
}

static void scan(const struct qz_scan *rows, const int8_t *query, size_t queries, int32_t *sum)
{
    for (size_t q = 0; q < queries; q++, query += rows->chunks * QZ_CHUNK)
        for (size_t g = 0, first = 0; g < rows->groups; first = qz_group_end(rows, g), g++, sum += rows->pitch)
            for (size_t r = 0; r < rows->rows; r++) {
                const uint8_t *codes = rows->codes + (ptrdiff_t)r * rows->stride;
                sum[r] = 0;
                for (size_t c = first; c < qz_group_end(rows, g); c++)
                    sum[r] += scan_chunk(codes + qz_chunk_start(rows, c), rows->level, query + c * QZ_CHUNK);
            }
}

#endif
