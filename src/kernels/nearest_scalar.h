/*
 * nearest_scalar.h - what rows make with a query, in plain C: the specification, and the kernels of sets that have none
 */
#ifndef QZ_NEAREST_SCALAR_H
#define QZ_NEAREST_SCALAR_H

#include "kernels.h"

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
                    sum[r] += scan_chunk(codes + qz_chunk_start(rows->bytes, rows->chunks, c), rows->level,
                                         query + c * QZ_CHUNK);
            }
}

static void scan_beside(const struct qz_beside *rows, const int8_t *query, int32_t *sum)
{
    for (size_t g = 0; g < rows->groups; g++, sum += QZ_BESIDE_ROWS)
        for (size_t r = 0; r < QZ_BESIDE_ROWS; r++) {
            sum[r] = 0;
            for (size_t s = g * rows->group_steps; s < rows->steps && s < (g + 1) * rows->group_steps; s++)
                for (size_t b = 0; b < QZ_BESIDE_CODES / 2; b++) {
                    uint8_t two = rows->codes[s * QZ_BESIDE_STEP + r * (QZ_BESIDE_CODES / 2) + b];
                    const int8_t *of = query + s * QZ_BESIDE_CODES + b;
                    sum[r] += (two & 15) * of[0] + (two >> 4) * of[QZ_BESIDE_CODES / 2];
                }
        }
}

#endif
