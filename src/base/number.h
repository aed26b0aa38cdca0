/*
 * number.h - float16 and bfloat16 by integer arithmetic, with the same results on every machine
 *
 * Every file that computes includes this header. It does not compile where float operations are not rounded to float,
 * or with -ffast-math.
 */
#ifndef QZ_NUMBER_H
#define QZ_NUMBER_H

#include "rounded.h"

#include <float.h>
#include <stdint.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0
#error                                                                                                                 \
    "results must be rounded after every operation: use -std=gnu11 instead of c11 (s390x), -mfpmath=sse -msse2 (i386)"
#endif

#if defined __FAST_MATH__ || (defined __FINITE_MATH_ONLY__ && __FINITE_MATH_ONLY__)
#error "compile quantize without -ffast-math and -Ofast: NaN, infinities and the order of operations have meaning here"
#endif

static inline uint32_t qz_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float qz_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline int qz_is_finite(float x)
{
    return (qz_bits(x) & 0x7f800000u) != 0x7f800000u;
}

static inline int qz_is_finite_f64(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits & 0x7ff0000000000000u) != 0x7ff0000000000000u;
}

static inline float qz_f32_from_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3ffu;
    if (exponent == 31) /* infinity, or NaN made quiet */
        return qz_float(sign | 0x7f800000u | mantissa << 13 | (mantissa ? 0x400000u : 0));
    if (exponent == 0) { /* subnormal: an exact multiple of 2^-24 */
        float magnitude = (float)(int)mantissa * 0x1p-24f;
        return qz_float(sign | qz_bits(magnitude));
    }
    return qz_float(sign | (exponent + 112) << 23 | mantissa << 13);
}

static inline uint16_t qz_f16_from_f32(float x)
{
    uint32_t bits = qz_bits(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) /* NaN */
        return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x477ff000u) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) { /* below 2^-14: adding 0.5 leaves a multiple of 2^-24 in the low bits, rounded */
        float shifted = qz_float(magnitude) + 0.5f;
        return (uint16_t)(sign | (qz_bits(shifted) - 0x3f000000u));
    }
    /* Drop 13 bits, ties to even; a carry may run into the exponent, as it should. */
    uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (rounded - 0x38000000u) >> 13);
}

static inline float qz_f32_from_bf16(uint16_t half)
{
    return qz_float((uint32_t)half << 16);
}

static inline uint16_t qz_bf16_from_f32(float x)
{
    uint32_t bits = qz_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

/* One of two numbers, without a branch. */
static inline uint32_t qz_either(int first, uint32_t a, uint32_t b)
{
    const uint32_t mask = 0u - (uint32_t)first; /* all bits or none: compilers make vectors of that */
    return (a & mask) | (b & ~mask);
}

/* What the two conversions make of a float, there and back. They have no branches, so that loops become vectors. */
static inline float qz_rounded_to_f16(float x)
{
    const uint32_t bits = qz_bits(x), sign = bits & 0x80000000u;
    const int32_t magnitude = (int32_t)(bits & 0x7fffffffu);
    const uint32_t normal = ((uint32_t)magnitude + 0xfffu + (bits >> 13 & 1)) & ~0x1fffu;
    const uint32_t subnormal = qz_bits(qz_float((uint32_t)magnitude) + 0.5f - 0.5f); /* a multiple of 2^-24 */
    const uint32_t quiet = ((uint32_t)magnitude & ~0x1fffu) | 0x7fc00000u;
    uint32_t rounded = qz_either(magnitude < 0x38800000, subnormal, normal); /* below 2^-14 */
    rounded = qz_either(magnitude >= 0x477ff000, 0x7f800000u, rounded);      /* 65520 */
    return qz_float(sign | qz_either(magnitude > 0x7f800000, quiet, rounded));
}

static inline float qz_rounded_to_bf16(float x)
{
    const uint32_t bits = qz_bits(x);
    const uint32_t quiet = (bits & 0xffff0000u) | 0x400000u,
                   rounded = (bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u;
    return qz_float(qz_either((int32_t)(bits & 0x7fffffffu) > 0x7f800000, quiet, rounded));
}

/* The least float that such a narrow type has no finite number for. */
#define QZ_F16_BEYOND  65520.0f
#define QZ_BF16_BEYOND 0x1.ffp127f

/* The power of two at or below |x|; 0 if x is subnormal, infinity if it is not finite. */
static inline float qz_power(float x)
{
    return qz_float(qz_bits(x) & 0x7f800000u);
}

/* The one nearest to |x|, as logarithms go. */
static inline float qz_nearest_power(float x)
{
    return qz_power(x * 0x1.6a09e6p+0f);
}

/* float8 E8M0: a power of two. */
static inline float qz_f32_from_e8m0(uint8_t byte)
{
    return qz_float(byte == 255 ? 0x7fc00000u : byte == 0 ? 0x400000u : (uint32_t)byte << 23);
}

/* The bits of |x|, which are in the order of the magnitudes, NaN above all. With comparisons of integers alone
 * compilers make vectors of loops. */
static inline int32_t qz_magnitude_bits(float x)
{
    return (int32_t)(qz_bits(x) & 0x7fffffffu);
}

#endif
