/*
 * exact_affine.h - the best scale and offset, or float zero, of a group, with a proof
 *
 * Values are scale * code + offset or scale * (code - zero), codes are 0..15, and both numbers are stored in one type.
 * exact_affine.c says how the best pair is found and why none is better. (With integer zeros there are but sixteen
 * problems of one number: exact.c.)
 */
#ifndef QZ_EXACT_AFFINE_H
#define QZ_EXACT_AFFINE_H

#include "exact.h"
#include "quantize.h"

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
 * Puts a better pair in place of *scale and *zero, which may be any that can be stored, if there is one. Scales are
 * in 2^-100..2^100, of either sign.
 *
 * No pair has an error less than (1 - 2^-13) E - W (2^-22 M)^2, or with types of 16 bits (1 - 2^-16) E - W (2^-22 M)^2,
 * where E is the error of this one, W the sum of the weights and M the largest magnitude: less than what the
 * rounding of decoded values to float32 can do. Groups as for qz_exact_scale; results do not depend on compiler or
 * machine.
 */
void qz_exact_pair(const struct qz_exact_affine *rule, const struct qz_exact_source *source, float *scale, float *zero);

/* The error of a pair, with codes as the encoder makes them and values as the decoder has them, in double. Any zero. */
double qz_affine_error(qz_zero kind, const struct qz_exact_source *source, float scale, float zero);

#endif
