/*
 * nearest_scalar.h - products and bounds of rows for a query, in plain C: the specification, and the kernels of sets
 * that have none
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

static void scan(const struct qz_scan *rows, const int8_t *query, int32_t *sum)
{
    for (size_t g = 0, first = 0; g < rows->groups; first = qz_group_end(rows, g), g++, sum += rows->pitch)
        for (size_t r = 0; r < rows->rows; r++) {
            const uint8_t *codes = rows->codes + (ptrdiff_t)r * rows->stride;
            sum[r] = 0;
            for (size_t c = first; c < qz_group_end(rows, g); c++)
                sum[r] +=
                    scan_chunk(codes + qz_chunk_start(rows->bytes, rows->chunks, c), rows->level, query + c * QZ_CHUNK);
        }
}

static int32_t beside_step(const uint8_t *codes, const uint8_t level[16], const int8_t *query)
{
    int32_t sum = 0;
    for (size_t b = 0; b < QZ_BESIDE_CODES / 2; b++)
        sum += level[codes[b] & 15] * query[b] + level[codes[b] >> 4] * query[QZ_BESIDE_CODES / 2 + b];
    return sum;
}

static void product_beside(const struct qz_beside *rows, const int8_t *query, size_t pitch, size_t queries,
                           int32_t *sum)
{
    for (size_t q = 0; q < queries; q++, query += pitch)
        for (size_t g = 0, first = 0; g < rows->groups; first = qz_beside_group_end(rows, g), g++, sum += rows->rows)
            for (size_t r = 0; r < rows->rows; r++) {
                sum[r] = 0;
                for (size_t s = first; s < qz_beside_group_end(rows, g); s++)
                    sum[r] += beside_step(rows->codes + (s * rows->rows + r) * (QZ_BESIDE_CODES / 2), rows->level,
                                          query + s * QZ_BESIDE_CODES);
            }
}

#endif
