/*
 * lanes.h - groups side by side, as kernels that search in 16-bit integers get them, with the values that are hardest
 * for these
 */
#ifndef QZ_TEST_LANES_H
#define QZ_TEST_LANES_H

#include "cases.h"

#include "base/number.h"
#include "kernels/kernels.h"

#include <math.h>

struct lanes {
    size_t n;
    float low[QZ_BLOCK], high[QZ_BLOCK], unit[QZ_BLOCK];
    float v[QZ_BLOCK * QZ_FIXED_LONGEST];
};

enum {
    NORMAL,
    EVEN,       /* evenly spread */
    ONE_SIDED,  /* not below 0 */
    LATTICE,    /* next to multiples of a step */
    HALF_STEPS, /* next to the middle between multiples of a plain scale: its roundings matter most there */
    TWO_VALUES,
    TAILS, /* a few large values */
    TINY,  /* next to 0, but for one */
    EQUAL,
    KINDS
};

/* A kind of values for each group of a block: in most blocks the same for all. */
static inline int block_kind(struct rng *rng)
{
    return (int)rng_below(rng, KINDS + 1);
}

static inline int lane_kind(struct rng *rng, int block)
{
    return block < KINDS ? block : (int)rng_below(rng, KINDS);
}

/* Values of group l, added to `from`; of lattices so many steps from `least` on, of `step` each. */
static inline void fill_lane(struct rng *rng, struct lanes *lanes, size_t l, int kind, int least, float step,
                             float from)
{
    const float noise = rng_below(rng, 2) ? 0.0f : 0x1p-13f * (float)(1 + rng_below(rng, 64));
    const float same = rng_below(rng, 2) ? 0.0f : step;
    for (size_t k = 0; k < lanes->n; k++) {
        float x = rng_normal(rng), even = (float)((int)rng_below(rng, 2001) - 1000) * 1e-3f;
        const float whole = (float)(least + (int)rng_below(rng, 15));
        switch (kind) {
        case EVEN:
            x = even;
            break;
        case ONE_SIDED:
            x = fabsf(x);
            break;
        case LATTICE:
            x = (whole + noise * x) * step;
            break;
        case HALF_STEPS:
            x = (whole + 0.5f + noise * x) * step;
            break;
        case TWO_VALUES:
            x = rng_below(rng, 3) ? step : -0.7f * step;
            break;
        case TAILS:
            x *= rng_below(rng, 20) ? 0.1f : 1.0f;
            break;
        case TINY:
            x *= 1e-3f;
            break;
        case EQUAL:
            x = same;
            break;
        default:
            break;
        }
        lanes->v[QZ_BLOCK * k + l] = x + from;
    }
}

/* The range of a group, which holds `inside`; and its unit: of any magnitude that a search meets, for groups that are
 * far from 1 come with one. */
static inline void measure_lane(struct rng *rng, struct lanes *lanes, size_t l, float inside)
{
    lanes->unit[l] = rng_below(rng, 4) ? 1.0f : power_of_two((int)rng_below(rng, 20) - 10);
    lanes->low[l] = lanes->high[l] = inside;
    for (size_t k = 0; k < lanes->n; k++) {
        lanes->low[l] = fminf(lanes->low[l], lanes->v[QZ_BLOCK * k + l]);
        lanes->high[l] = fmaxf(lanes->high[l], lanes->v[QZ_BLOCK * k + l]);
    }
}

static inline struct qz_look look_at_lanes(const struct lanes *lanes)
{
    return (struct qz_look){lanes->v, NULL, lanes->n, lanes->low, lanes->high};
}

/* A number as it is stored, where values are divided by a unit. */
static inline float stored_in_unit(float x, float unit, qz_dtype dtype)
{
    return qz_through(x * unit, dtype) / unit;
}

static inline int same_bits(float a, float b)
{
    return bits_of_float(a) == bits_of_float(b);
}

#endif
