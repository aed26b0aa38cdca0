/*
 * products_scalar.h - products of bytes in plain C: the specification, and the kernels of sets that have none
 */
#ifndef QZ_PRODUCTS_SCALAR_H
#define QZ_PRODUCTS_SCALAR_H

#include "kernels.h"
#include "../base/number.h"

#include <string.h>

#ifndef HAS_PRODUCT_STORED
static int product_stored(qz_zero kind, float unit, float base, const uint8_t *const scales[QZ_SIDE],
                          const uint8_t *const zeros[QZ_SIDE], size_t groups, float *scale, float *bias)
{
    int finite = 1;
    for (size_t g = 0; g < groups; g++)
        for (size_t w = 0; w < QZ_SIDE; w++, scale++, bias++) {
            uint16_t half;
            memcpy(&half, scales[w] + 2 * g, sizeof half);
            float s = qz_f32_from_f16(half), of_base = s * base, of_zero = 0.0f;
            if (kind != QZ_ZERO_NONE)
                of_zero = s * (float)(zeros[w][g / 2] >> g % 2 * 4 & 15);
            *scale = s * unit;
            *bias = kind == QZ_ZERO_NONE ? of_base : of_base - of_zero;
            finite &= (half & 0x7fff) < 0x7c00;
        }
    return finite;
}
#endif

static void product_levels(const uint8_t *const packed[QZ_SIDE], size_t blocks, const uint8_t level[16], uint8_t *dst)
{
    for (size_t four = 0; four < blocks * QZ_LEVELS / 8; four++, dst += 8 * QZ_SIDE)
        for (size_t w = 0; w < QZ_SIDE; w++)
            for (size_t i = 0; i < 4; i++) {
                unsigned two = packed[w][4 * four + i];
                dst[4 * w + i] = level[two & 15];
                dst[4 * (w + QZ_SIDE) + i] = level[two >> 4];
            }
}

/* One block of levels with one of a row. */
static void product_block(const struct qz_side *side, const uint8_t *level, const struct qz_byte_rows *x, size_t b,
                          size_t at, float *sum)
{
    int32_t total[QZ_SIDE] = {0};
    for (size_t i = 0; i < QZ_LEVELS; i++)
        for (size_t w = 0; w < QZ_SIDE; w++)
            total[w] += level[i / 4 * 4 * QZ_SIDE + 4 * w + i % 4] * x->code[at * QZ_LEVELS + i];
    for (size_t w = 0; w < QZ_SIDE; w++) {
        float scale = side->scale[b * QZ_SIDE + w] * x->step[at];
        sum[w] = fmaf(side->bias[b * QZ_SIDE + w], x->start[at], sum[w]);
        sum[w] = fmaf(scale, (float)total[w], sum[w]);
    }
}

static void product_bytes(const struct qz_side *side, const uint8_t *level, const struct qz_byte_rows *x, float *sum)
{
    for (size_t r = 0; r < x->rows; r++)
        for (size_t b = 0; b < side->blocks; b++)
            product_block(side, level + b * QZ_LEVELS * QZ_SIDE, x, b, r * x->pitch + b, sum + r * QZ_SIDE);
}

static void product_packed(const struct qz_side *side, const uint8_t *const packed[QZ_SIDE], const uint8_t level[16],
                           const struct qz_byte_rows *x, float *sum)
{
    uint8_t some[QZ_LEVELS * QZ_SIDE];
    for (size_t b = 0; b < side->blocks; b++) {
        const uint8_t *from[QZ_SIDE];
        for (size_t w = 0; w < QZ_SIDE; w++)
            from[w] = packed[w] + b * (QZ_LEVELS / 2);
        product_levels(from, 1, level, some);
        for (size_t r = 0; r < x->rows; r++)
            product_block(side, some, x, b, r * x->pitch + b, sum + r * QZ_SIDE);
    }
}

static void product_ready(const struct qz_ready_side *side, const struct qz_byte_rows *x, float *sum)
{
    uint8_t level[QZ_LEVELS * QZ_SIDE];
    float computed[QZ_SIDE];
    for (size_t b = 0; b < side->blocks; b++) {
        const size_t first = (side->head + b) / side->each * QZ_SIDE;
        const float *scale = side->scale + first, *bias = side->bias ? side->bias + first : computed;
        for (size_t w = 0; w < QZ_SIDE; w++)
            computed[w] = scale[w] * side->base;
        for (size_t i = 0; i < QZ_READY_BYTES; i++) {
            const unsigned two = side->packed[b * QZ_READY_BYTES + i];
            const size_t to = i / (4 * QZ_SIDE) * (8 * QZ_SIDE) + i % (4 * QZ_SIDE);
            level[to] = side->level[two & 15];
            level[to + 4 * QZ_SIDE] = side->level[two >> 4];
        }
        const struct qz_side one = {1, side->most, scale, bias};
        for (size_t r = 0; r < x->rows; r++)
            product_block(&one, level, x, 0, r * x->pitch + b, sum + r * QZ_SIDE);
    }
}

#endif
