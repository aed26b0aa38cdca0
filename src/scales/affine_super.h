/*
 * affine_super.h - two super scales for the scales and minima of the groups of a super block
 */
#ifndef QZ_AFFINE_SUPER_H
#define QZ_AFFINE_SUPER_H

#include <stddef.h>
#include <stdint.h>

/*
 * Two super scales and, for each group, two integers 0..63 that stand for its scale and its minimum: super[0] * sc[g]
 * and super[1] * mn[g]. minimum = -offset >= 0. What rounding does to a minimum is made up for by the scale. Super
 * scales are float16 numbers.
 */
void qz_affine_super(size_t groups, const float *scale, const float *minimum, const float *curve, const float *slope,
                     const float *rest, float super[2], uint8_t *sc, uint8_t *mn);

#endif
