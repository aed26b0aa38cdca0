/*
 * affine_super.c - finds two super scales for the scales and minima of the groups of a super block
 *
 * The code is the same on every machine. It is written in eights, so that compilers vectorize it.
 */
#include "affine_super.h"
#include "../kernels/kernels.h"
#include "../base/number.h"

#include <string.h>

/* Super scales that are tried side by side: the largest number becomes 63, 62, 61 or 60 of it. */
enum { WAYS = 4 };

struct ways {
    float super[WAYS], inverse[WAYS];
};

/* The float16 numbers near x / 63 ... x / 60 of which x is less than 63.5 times as much, but for the largest one:
 * subnormal ones are far apart, and the next larger one is taken where need be. Written so that compilers make vectors
 * of it: with comparisons of integers alone, and without branches. x >= 0. */
static void make_ways(float x, struct ways *ways)
{
    for (int i = 0; i < WAYS; i++) {
        float wanted = x / (float)(63 - i);
        uint32_t bits = qz_bits(wanted), normal = (bits + 0xfffu + (bits >> 13 & 1)) & ~0x1fffu;
        uint32_t subnormal = qz_bits((wanted + 0.5f) - 0.5f); /* a multiple of 2^-24 */
        uint32_t rounded = (int32_t)bits < 0x38800000 ? subnormal : normal;
        uint32_t short_of = (int32_t)qz_bits(qz_float(rounded) * 0x1.02p0f) < (int32_t)bits ? qz_bits(0x1p-24f) : 0;
        rounded = qz_bits(qz_float(rounded) + qz_float(short_of));
        rounded = (int32_t)rounded < 0x477fe000 ? rounded : 0x477fe000u;
        uint32_t none = rounded == 0 ? ~0u : 0;
        float inverse = 1.0f / qz_float(rounded | (none & 0x3f800000u));
        ways->super[i] = qz_float(rounded);
        ways->inverse[i] = qz_float(qz_bits(inverse) & ~none);
    }
}

/* The nearest integer of 0..63. Adding 1.5 * 2^23 leaves no room for a fraction, and the bits of such sums, taken for
 * integers, are in order. */
static inline float nearest_u6(float x)
{
    const int32_t zero = 0x4b400000;
    int32_t bits = (int32_t)qz_bits(x + 0x1.8p23f);
    bits = bits > zero ? bits : zero;
    bits = bits < zero + 63 ? bits : zero + 63;
    return qz_float((uint32_t)bits) - 0x1.8p23f;
}

/* The same of a number that is in -0.5..63.5, as all are but those that no super scale is large enough for. */
static inline float nearest(float x)
{
    return (x + 0x1.8p23f) - 0x1.8p23f;
}

static int least_of(const float error[WAYS])
{
    int best = 0;
    for (int i = 1; i < WAYS; i++)
        best = error[i] < error[best] ? i : best;
    return best;
}

void qz_affine_super(size_t groups, const float *scale, const float *minimum, const float *curve, const float *slope,
                     const float *rest, float super[2], uint8_t *sc, uint8_t *mn)
{
    float most_scale = 0, most_minimum = 0, error[WAYS] = {0}, wanted[QZ_SUPER_GROUPS_MOST];
    struct ways scales, minima;
    for (size_t g = 0; g < groups; g++) {
        most_scale = scale[g] > most_scale ? scale[g] : most_scale;
        most_minimum = minimum[g] > most_minimum ? minimum[g] : most_minimum;
    }
    make_ways(most_scale, &scales);
    make_ways(most_minimum, &minima);
    /* First the minima, with the first of the super scales for scales; then these. */
    for (size_t g = 0; g < groups; g++)
        for (int i = 0; i < WAYS; i++) {
            float off = nearest(minimum[g] * minima.inverse[i]) * minima.super[i] - minimum[g];
            float best = scale[g] + slope[g] * off;
            float scale_off = nearest_u6(best * scales.inverse[0]) * scales.super[0] - best;
            error[i] += curve[g] * (scale_off * scale_off) + rest[g] * (off * off);
        }
    int m = least_of(error);
    for (size_t g = 0; g < groups; g++) {
        float integer = nearest_u6(minimum[g] * minima.inverse[m]);
        mn[g] = (uint8_t)(int)integer;
        wanted[g] = scale[g] + slope[g] * (integer * minima.super[m] - minimum[g]);
    }
    memset(error, 0, sizeof error);
    for (size_t g = 0; g < groups; g++)
        for (int i = 0; i < WAYS; i++) {
            float off = nearest_u6(wanted[g] * scales.inverse[i]) * scales.super[i] - wanted[g];
            error[i] += curve[g] * (off * off);
        }
    int s = least_of(error);
    for (size_t g = 0; g < groups; g++)
        sc[g] = (uint8_t)(int)nearest_u6(wanted[g] * scales.inverse[s]);
    super[0] = scales.super[s];
    super[1] = minima.super[m];
}
