/*
 * careful_affine.h - groups with a zero or an offset for which the search side by side is not enough
 */
#ifndef QZ_CAREFUL_AFFINE_H
#define QZ_CAREFUL_AFFINE_H

#include "encoder.h"
#include "exact.h"

#include <math.h>

/* How far values may be from a grid, in steps. A random one is nearer with a chance of an eighth. */
#define QZ_GRID_NEAR 0x1p-4f

/* Whether few of n weights count, by their sum and the sum of their squares: sum^2 / squares is n where all are the
 * same, and k where k of them are and the others 0. */
static inline int qz_few_weights(float sum, float squares, float n)
{
    return sum * sum < squares * (n * (1.0f / 6) + 2.0f);
}

/* What may be special about a group: it is to be searched alone; or if it is on a grid, few codes are in use, or one
 * value is frequent; or its values gather at the ends of the range, or do so if they are a wave; or some
 * neighbours lie on a straight line. */
enum {
    QZ_SPECIAL = 1,
    QZ_SPECIAL_GRID = 2,
    QZ_SPECIAL_CODES = 4,
    QZ_SPECIAL_REPEATED = 8,
    QZ_SPECIAL_ENDS = 16,
    QZ_SPECIAL_WAVE = 32,
    QZ_SPECIAL_SLOPES = 64
};

/* How far the middle one of three neighbours may be from a straight line, twice, as a share of the range. Of random
 * values one in a hundred is nearer. */
#define QZ_STRAIGHT 0x1p-7f

/* The variance, as a share of the greatest that values in their range may have: from the first on they may be a wave,
 * of which it is 1/2, from the second on they gather at the ends of their range whatever they are. Of n evenly spread
 * values it is 1/3, but more if they are few, whose range is smaller: above the second in one group of 1,000. */
#define QZ_MAYBE_WAVE 0.43f
static inline float qz_at_ends(size_t n)
{
    return 0.46f + 2.6f / (float)n;
}

/* Whether values are a wave, as the first ones say: each is the same multiple of the mean of its neighbours, and a
 * constant. */
int qz_is_wave(const float *x, size_t n);

/* A scale and a zero or offset. */
struct qz_pair {
    float scale, zero;
};

/* Whether the values of a group seem to be on a grid of 8 to 15 steps. */
int qz_is_grid(const struct qz_view *view, const float *x, size_t n, float min, float max);

/* How far values of such a range may be apart to count as the same: next to a step, 1/15 of the range, it is little. In
 * mixtures of magnitudes most values are as near to each other as that, and to 0. */
static inline float qz_same_value(float min, float max)
{
    return (max - min) * 0x1p-12f;
}

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
 * sawteeth and short ramps do: they lie on few lattices of the same step, of which a part is tried as the scale. */
void qz_try_slopes(const struct qz_encoder *encoder, const struct qz_exact_source *source, float min, float max,
                   struct qz_pair *pair);

/* Whether the pair of the scheme's rule may be better than one that was found. It is the plain one or next to it,
 * unless that widens the range to hold 0 and the rule does not; and a search that found a better one than the plain one
 * has looked there. */
static inline int qz_rule_may_be_better(const struct qz_view *view, float min, float max, const struct qz_pair *plain,
                                        const struct qz_pair *pair)
{
    int next = view->grid.zero == QZ_ZERO_OFFSET || (min <= 0.0f && max >= 0.0f);
    return !next || (pair->scale == plain->scale && pair->zero == plain->zero);
}

/* The pair of the scheme's rule, in place of one that was found, if it has less error; where it is the plain pair, that
 * was compared. */
void qz_take_rule(const struct qz_encoder *encoder, const struct qz_exact_source *source, float min, float max,
                  const struct qz_pair *plain, struct qz_pair *pair);

/* The best pair; `pair` is one that was searched. */
void qz_exact_affine_group(const struct qz_encoder *encoder, const struct qz_exact_source *source, float min, float max,
                           struct qz_pair *pair);

#endif
