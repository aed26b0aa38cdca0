/*
 * exact_affine.h - finds the best scale and offset, or float zero, of a group, with a proof
 *
 * Values are scale * code + offset or scale * (code - zero), codes are 0..15, and both numbers are stored in one type.
 * exact_affine.c explains the method and proves it. (With integer zeros there are only sixteen problems with one
 * number: exact.c.)
 */
#ifndef QZ_EXACT_AFFINE_H
#define QZ_EXACT_AFFINE_H

#include "exact.h"
#include "../base/number.h"
#include "quantize.h"

#include <float.h>
#include <math.h>

struct qz_exact_affine {
    qz_dtype dtype; /* of both numbers: QZ_F32, QZ_F16 or QZ_BF16 */
    qz_zero zero;   /* QZ_ZERO_OFFSET or QZ_ZERO_FLOAT */

    /* What is looked for. exact: the best pair of all, to the tolerance below. Otherwise a good one: scales are at most
     * `largest` of the range of values whose weights are not 0, and positive unless errors are near to the rounding of
     * both numbers; and an error is good enough if none is less by more than this share of it,
     * or after so many looks that little more is to be expected. */
    int exact;
    double largest, enough;
};

/*
 * Puts a better pair in place of *scale and *zero, which may be any that can be stored, if there is one. Scales are of
 * either sign.
 *
 * No pair has an error less than (1 - 2^-13) E - W (2^-22 M)^2, or with types of 16 bits (1 - 2^-16) E - W (2^-22 M)^2,
 * where E is the error of this one, W the sum of the weights and M the largest magnitude: less than what the
 * rounding of decoded values to float32 can do. Groups as for qz_exact_scale; results do not depend on compiler or
 * machine.
 */
void qz_exact_pair(const struct qz_exact_affine *rule, const struct qz_exact_source *source, float *scale, float *zero);

/* Whether encoding takes a pair: its values are finite. */
static inline int qz_is_storable_pair(qz_zero kind, float scale, float zero)
{
    return kind == QZ_ZERO_OFFSET ? qz_is_finite(scale * 15.0f) && fabsf(zero) <= 0x1p126f
                                  : qz_is_finite(scale) && qz_is_finite(zero);
}

/* 1 / scale, or 0 where codes come from the careful rule (qz_flag_scales). */
static inline float qz_affine_inverse(qz_zero kind, float scale, float zero)
{
    int usable =
        fabsf(scale) >= FLT_MIN && fabsf(scale) <= 0x1p120f && (kind != QZ_ZERO_OFFSET || fabsf(zero) <= 0x1p126f);
    return usable ? 1.0f / scale : 0.0f;
}

/* The code 0..15 that the encoder makes of x. */
static inline float qz_affine_code(qz_zero kind, float x, float scale, float inverse, float zero)
{
    const float round = 0x1.8p23f,
                most = 0x1p20f; /* up to there, adding and subtracting `round` rounds as rintf does */
    float y = (kind == QZ_ZERO_OFFSET ? x - zero : x) * inverse, moved = kind == QZ_ZERO_OFFSET ? 0.0f : zero;
    if (inverse == 0.0f) {
        double steps = ((double)x - (kind == QZ_ZERO_OFFSET ? (double)zero : 0.0)) / (double)scale;
        steps = kind == QZ_ZERO_FLOAT ? rint(steps + (double)zero) : rint(steps) + (double)moved;
        return steps > 0 ? steps < 15 ? (float)steps : 15.0f : 0.0f;
    }
    y = kind == QZ_ZERO_FLOAT ? y + zero : y;
    y = y > -most ? y < most ? y : most : -most;
    float code = (y + round) - round;
    code = kind == QZ_ZERO_UINT4 ? code + zero : code;
    return code > 0 ? code < 15 ? code : 15.0f : 0.0f;
}

/* The error of a pair, with codes as the encoder makes them and values as the decoder has them, in double. Any zero. */
double qz_affine_error(qz_zero kind, const struct qz_exact_source *source, float scale, float zero);

#endif
