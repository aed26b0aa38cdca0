/*
 * look_scalar.h - what is looked at in groups with a zero or an offset: the specification; part of scalar.c
 */
#ifndef QZ_LOOK_SCALAR_H
#define QZ_LOOK_SCALAR_H

#include "special.h"

/* How far twelve values, or twice as many of long groups, are from the nearest of the lattices that divide a span into 8
 * to 15 steps: the sum, in 1/4096 of a step. Values that are all next to each other are near none. GCC makes vectors of
 * loops over groups unless it unrolls them. */
static void measure_lattices(const struct qz_look *look, const float from[QZ_BLOCK], const float span[QZ_BLOCK],
                             float *restrict distance)
{
    enum { SAMPLES = QZ_LOOKS, FEWEST = QZ_FEWEST_STEPS, MOST = QZ_MOST_STEPS };
    uint16_t at[SAMPLES][QZ_BLOCK], sum[MOST - FEWEST + 1][QZ_BLOCK] = {{0}};
    int32_t spread[QZ_BLOCK] = {0};
    float factor[QZ_BLOCK];
    const size_t all = SAMPLES * (size_t)qz_lattice_rounds(look->n);
#pragma GCC unroll 1
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        factor[l] = QZ_PLACES / span[l];
        distance[l] = INFINITY;
    }
    for (size_t first = 0; first < all; first += SAMPLES) {
        for (size_t i = 0; i < SAMPLES; i++) {
            const float *v = look->v + look->n * (first + i) / all * QZ_BLOCK;
#pragma GCC unroll 1
            for (size_t l = 0; l < QZ_BLOCK; l++)
                at[i][l] = qz_place((v[l] - from[l]) * factor[l]);
        }
        for (size_t i = 0; i < SAMPLES / 2; i++)
#pragma GCC unroll 1
            for (size_t l = 0; l < QZ_BLOCK; l++) {
                int32_t apart = at[i][l] - at[i + SAMPLES / 2][l];
                spread[l] += (apart < 0 ? -apart : apart) >> 4;
            }
        for (unsigned steps = FEWEST; steps <= MOST; steps++)
            for (size_t i = 0; i < SAMPLES; i += 4)
#pragma GCC unroll 1
                for (size_t l = 0; l < QZ_BLOCK; l++) {
                    uint16_t a = qz_off_lattice(at[i][l], steps), b = qz_off_lattice(at[i + 1][l], steps);
                    uint16_t c = qz_off_lattice(at[i + 2][l], steps), d = qz_off_lattice(at[i + 3][l], steps);
                    uint16_t four = (uint16_t)((uint16_t)(a + b) + (uint16_t)(c + d));
                    sum[steps - FEWEST][l] = (uint16_t)(sum[steps - FEWEST][l] + four);
                }
    }
    for (int32_t steps = FEWEST; steps <= MOST; steps++)
#pragma GCC unroll 1
        for (size_t l = 0; l < QZ_BLOCK; l++) {
            int32_t near = sum[steps - FEWEST][l];
            float found = 2 * near <= steps * spread[l] ? (float)near : INFINITY;
            distance[l] = found < distance[l] ? found : distance[l];
        }
}

/* Whether more than `chance` pairs of twelve values are the same, 1 or 0. */
static void note_repeats(const struct qz_look *look, float chance, float *restrict repeated)
{
    const float *v[QZ_LOOKS];
    for (size_t i = 0; i < QZ_LOOKS; i++)
        v[i] = look->v + look->n * i / QZ_LOOKS * QZ_BLOCK;
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        const float same = qz_same_value(look->low[l], look->high[l]);
        int32_t pairs = 0;
#pragma GCC unroll 12
        for (int i = 0; i < QZ_LOOKS; i++)
#pragma GCC unroll 12
            for (int k = 0; k < i; k++)
                pairs += fabsf(v[i][l] - v[k][l]) <= same;
        repeated[l] = (float)pairs > chance ? 1.0f : 0.0f;
    }
}

#endif
