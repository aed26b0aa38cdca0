/*
 * special.h - the properties that make a group special for a search, as far as kernels can tell
 */
#ifndef QZ_SPECIAL_H
#define QZ_SPECIAL_H

#include "../base/number.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>

/* What a group with neither a zero nor an offset is suspected of. */
enum {
    QZ_SUSPECT_VALUES = 1,  /* to have few values */
    QZ_SUSPECT_CLOSE = 2,   /* two candidates are too close to tell apart in float32 */
    QZ_SUSPECT_WIDE = 4,    /* to have its best scale where ordinary groups do not */
    QZ_SUSPECT_EXACT = 8,   /* to need the exact method: next to no error, no gain, or next to no weights */
    QZ_SUSPECT_LARGE = 16,  /* to have most of its energy in one value, which is to meet a code */
    QZ_SUSPECT_COARSE = 32, /* to have a scale of few steps of a super scale: one of few that there are */
    QZ_SUSPECT_LATTICE = 64 /* to have values near a lattice */
};

/* What float32 can make of the gains of two candidates, as a share of the energy; QZ_GAINS_MORE. */
#define QZ_CLOSE 0x1p-19f

/* What may be special about a group with a zero or an offset: it is to be searched alone; or if it is on a grid, few
 * codes are in use, or one value is frequent; or its values gather at the ends of the range, or most are next to 0, or
 * they do so if they are a wave; or some neighbours, or values that are farther apart, lie on straight lines; or few
 * of its weights count; or the pair of another tool's rule may be better; or its values are near a lattice. */
enum {
    QZ_SPECIAL = 1,
    QZ_SPECIAL_GRID = 2,
    QZ_SPECIAL_CODES = 4,
    QZ_SPECIAL_REPEATED = 8,
    QZ_SPECIAL_ENDS = 16,
    QZ_SPECIAL_WAVE = 32,
    QZ_SPECIAL_SLOPES = 64,
    QZ_SPECIAL_FAR_SLOPES = 128,
    QZ_SPECIAL_WEIGHTS = 256,
    QZ_SPECIAL_RULE = 512,
    QZ_SPECIAL_LATTICE = 1024
};

/* Errors that are smaller than this share of the largest magnitude are too small for float32 sums. */
#define QZ_SMALL_ERROR 0x1p-9f

/* Smaller shares of the largest magnitude are next to 0: beside 32 normal values every 40th is. */
#define QZ_NEXT_TO_0 0x1p-6f

/* Of n weights, so few are searched one at a time where the others are no larger than this share of the largest one:
 * the error jumps up and down with the scale. */
#define QZ_NO_WEIGHT 0x1p-10f
static inline int qz_few_of(size_t n)
{
    return 5 + (int)(n / 16);
}

/* How much the distances of all values from a grid may vary, in steps: where there is no grid it is 1/12. */
#define QZ_GRID_VARIANCE 0.006f

/* Lattices divide the range of a group into so many steps; those of fewer steps are among those of twice as many. */
enum { QZ_FEWEST_STEPS = 8, QZ_MOST_STEPS = 15 };

/* A place in a range, in 1/65536 of it, mod 65536: the nearest integer is in the last bits of the sum. */
#define QZ_PLACES 65536.0f
static inline uint16_t qz_place(float x)
{
    return (uint16_t)qz_bits(x + 0x1.8p23f);
}

/* How far a place is from the nearest point of a lattice, in 1/4096 of a step. Multiples are taken mod 65536: beyond the
 * middle of a step they are below the next point. */
static inline uint16_t qz_off_lattice(uint16_t place, unsigned steps)
{
    uint16_t beyond = (uint16_t)(steps * place), below = (uint16_t)(0u - beyond);
    uint16_t off = beyond < below ? beyond : below;
    return (uint16_t)(off >> 4);
}

/* Of a group of n values so many are looked at, or twice as many. */
enum { QZ_LOOKS = 12 };
static inline int32_t qz_lattice_rounds(size_t n)
{
    return n < 64 ? 1 : 2;
}

/* How far so many values together may be from a lattice, in these units. Where there is none each is a quarter of a step
 * from it on the mean, and all are nearer than the second of these for one lattice in 500, or in 3,000 if they are more. */
static inline int32_t qz_on_lattice(size_t n)
{
    return qz_lattice_rounds(n) * 4400;
}

static inline int32_t qz_next_to_lattice(size_t n)
{
    return qz_lattice_rounds(n) > 1 ? 14700 : 6400;
}

/* Whether few of n weights count, by their sum and the sum of their squares: sum^2 / squares is n where all are the
 * same, and k where k of them are and the others 0. */
static inline int qz_few_weights(float sum, float squares, float n)
{
    return sum * sum < squares * (n * (1.0f / 6) + 2.0f);
}

/* Likewise, whether some count far more than others: enough to move the best ends where these are far from the mean, by
 * more than 2.4 standard deviations. */
static inline int qz_some_weights(float sum, float squares, float n)
{
    return sum * sum < squares * (n * 0.4f);
}

/* How far the middle one of three values may be from a straight line, twice, as a share of the range. Of random values
 * one in a hundred is nearer. The values are neighbours, or up to so many apart: a wave of few values a period meets the
 * same side again after one or two periods. */
#define QZ_STRAIGHT 0x1p-7f
enum { QZ_LAGS = 5 };
static inline size_t qz_next_lag(size_t lag) /* 1, 2, 3, 5 */
{
    return lag < 3 ? lag + 1 : lag + 2;
}

/* The variance, as a share of the greatest that values in their range may have: from the first on they may be a wave,
 * of which it is 1/2, from the second on they gather at the ends of their range whatever they are. Of n evenly spread
 * values it is 1/3, but more if they are few, whose range is smaller: above the second in one group of 1,000. Up to
 * eight values get the many moves of those at the ends in any case. */
#define QZ_MAYBE_WAVE 0.43f
static inline float qz_at_ends(size_t n)
{
    return n <= 8 ? -1.0f : 0.46f + 2.6f / (float)n;
}

/* How far values of such a range may be apart to count as the same: next to a step, 1/15 of the range, it is little. In
 * mixtures of magnitudes most values are as near to each other as that, and to 0. */
#define QZ_SAME_PART 0x1p-12f
static inline float qz_same_value(float min, float max)
{
    return (max - min) * QZ_SAME_PART;
}

#endif
