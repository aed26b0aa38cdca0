/*
 * random.h - random numbers, and float data of the kinds that find mistakes
 *
 * Everything is made by integer arithmetic and exact float operations: one seed gives the same data everywhere.
 */
#ifndef QZ_TEST_RANDOM_H
#define QZ_TEST_RANDOM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static uint64_t test_seed;

struct rng {
    uint64_t state;
};

/* A stream of its own for each purpose. */
static inline struct rng rng_make(uint64_t stream)
{
    return (struct rng){test_seed * 0x2545f4914f6cdd1du + stream * 0x9e3779b97f4a7c15u};
}

/* A counter, and a hash of it: every state is as good as any other. */
static inline uint64_t rng_next(struct rng *rng)
{
    uint64_t x = rng->state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

/* 0..n - 1 */
static inline size_t rng_below(struct rng *rng, size_t n)
{
    return (size_t)((rng_next(rng) >> 32) * n >> 32);
}

static inline float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t bits_of_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline uint64_t bits_of_double(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* 2^exponent, -126..127 */
static inline float power_of_two(int exponent)
{
    return float_of_bits((uint32_t)(exponent + 127) << 23);
}

/* About normal with standard deviation 1: a sum of twelve uniform numbers, a multiple of 2^-20. */
static inline float rng_normal(struct rng *rng)
{
    int64_t sum = 0;
    for (int i = 0; i < 6; i++) {
        uint64_t bits = rng_next(rng);
        sum += (int64_t)(bits & 0xfffff) + (int64_t)(bits >> 32 & 0xfffff) - 0xfffff;
    }
    return (float)sum * 0x1p-20f;
}

enum data_kind {
    DATA_NORMAL,     /* what weights look like */
    DATA_BITS,       /* any finite float */
    DATA_BF16,       /* few mantissa bits, so that ties are common */
    DATA_HALF_STEPS, /* multiples of half a step: every second value is a tie */
    DATA_SUBNORMAL,  /* below 2^-126 and a little above */
    DATA_HUGE,       /* up to the end of the range */
    DATA_CONSTANT,   /* all equal */
    DATA_ZEROS,      /* +0 and -0 */
    DATA_OUTLIER,    /* one large value among small ones */
    DATA_PLUS_MINUS, /* the largest magnitude with both signs, in either order */
    DATA_OFFSET,     /* a narrow range far from 0 */
    DATA_TINY,       /* scales around the least float16 numbers */
    DATA_KINDS
};

static inline const char *data_name(enum data_kind kind)
{
    static const char *const names[] = {"normal",   "any bits", "bfloat16", "half steps", "subnormal", "huge",
                                        "constant", "zeros",    "outlier",  "plus-minus", "offset",    "tiny"};
    return names[kind];
}

static inline void fill_floats(struct rng *rng, enum data_kind kind, float *x, size_t n)
{
    float step = power_of_two((int)rng_below(rng, 40) - 20), base = rng_normal(rng);
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = rng_next(rng);
        switch (kind) {
        case DATA_BITS: {
            uint32_t word = (uint32_t)bits;
            x[i] = float_of_bits((word & 0x7f800000u) == 0x7f800000u ? word & 0xbfffffffu : word);
            break;
        }
        case DATA_BF16:
            x[i] = float_of_bits(bits_of_float(rng_normal(rng)) & 0xffff0000u);
            break;
        case DATA_HALF_STEPS:
            x[i] = (float)((int)(bits % 33) - 16) * step;
            break;
        case DATA_SUBNORMAL:
            x[i] = float_of_bits((uint32_t)bits & 0x80ffffffu & ~(bits >> 40 & 1 ? 0x00f00000u : 0u));
            break;
        case DATA_HUGE:
            x[i] = float_of_bits(((uint32_t)bits & 0x81ffffffu) | 0x7e000000u);
            if ((bits_of_float(x[i]) & 0x7f800000u) == 0x7f800000u)
                x[i] = float_of_bits(bits_of_float(x[i]) & 0xff7fffffu);
            break;
        case DATA_CONSTANT:
            x[i] = base;
            break;
        case DATA_ZEROS:
            x[i] = bits & 1 ? 0.0f : -0.0f;
            break;
        case DATA_OUTLIER:
            x[i] = rng_normal(rng) * 0.01f;
            break;
        case DATA_PLUS_MINUS:
            x[i] = (bits & 3) == 0 ? -step * 16 : (bits & 3) == 1 ? step * 16 : rng_normal(rng) * step;
            break;
        case DATA_OFFSET:
            x[i] = 1e6f + rng_normal(rng);
            break;
        case DATA_TINY:
            x[i] = rng_normal(rng) * power_of_two((int)(bits % 20) - 28);
            break;
        default:
            x[i] = rng_normal(rng);
        }
    }
    if (kind == DATA_OUTLIER && n)
        x[rng_below(rng, n)] = rng_next(rng) & 1 ? 50.0f : -50.0f;
}

#endif
