/*
 * careful_affine.h - searches groups with a zero or an offset for which the search side by side is not enough
 */
#ifndef QZ_CAREFUL_AFFINE_H
#define QZ_CAREFUL_AFFINE_H

#include "encoder.h"
#include "exact.h"
#include "../kernels/special.h"

/* Whether values are a wave, as the first ones say: each is the same multiple of the mean of its neighbours, and a
 * constant. */
int qz_is_wave(const float *x, size_t n);

/* A scale and a zero or offset. */
struct qz_pair {
    float scale, zero;
};

/* The plain zero where float32 does not do: codes come from the careful rule. `zero` if there is none to be found. */
float qz_careful_zero(const struct qz_view *view, float min, float scale, float zero);

/* Whether the values of a group seem to be on a grid of 8 to 15 steps. */
int qz_is_grid(const struct qz_view *view, const float *x, size_t n, float min, float max);

/* Whether there are 16 different values at most, and three quarters as many as elements, or a quarter of the elements
 * are the same, of all or up to the 17th value: then it matters most how near these come. */
int qz_has_few_values(const float *x, size_t n, float same);

/* Gives the least value code 0, where that takes no other values than can be stored. Returns 0 if so few codes are in
 * use that it takes more than this for a pair to be normal (careful_affine.c). */
int qz_make_affine_normal(const struct qz_view *view, float min, float max, struct qz_pair *pair);

/* A better pair, or the plain one, in place of one that was found. */
void qz_careful_affine(const struct qz_encoder *encoder, const struct qz_exact_source *source, float min, float max,
                       struct qz_pair *pair);

/* A better pair, in place of one that was found, for values that go up or down by even steps, as those of triangles,
 * sawteeth and short ramps do: they lie on few lattices of the same step, of which a part is tried as the scale. `special`
 * says which values are taken for neighbours. */
void qz_try_slopes(const struct qz_encoder *encoder, const struct qz_exact_source *source, float min, float max,
                   int special, struct qz_pair *pair);

/* The pairs of the scheme's rule, for groups of these ranges, as they are stored; some may not be storable. */
void qz_rule_pairs(const struct qz_encoder *encoder, size_t count, const float *min, const float *max, float *scale,
                   float *zero);

/* `other` in place of a pair that was found, if it is storable and has less error. */
void qz_take_better_pair(const struct qz_view *view, const struct qz_exact_source *source, const struct qz_pair *other,
                         struct qz_pair *pair);

/* Whether values are near a lattice that divides their range, to which 0 belongs if zeros are integers. */
int qz_is_near_lattice(const struct qz_view *view, const float *x, size_t n, float min, float max);

/* The best pair; `pair` is one that was searched. */
void qz_exact_affine_group(const struct qz_encoder *encoder, const struct qz_exact_source *source, float min, float max,
                           struct qz_pair *pair);

#endif
