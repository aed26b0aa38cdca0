/*
 * float8.h - 8-bit floats that scales are stored as: a table with one row for each type
 *
 * A row is X(dtype, name, sign, mantissa, bias, last): the number of bits of the sign (0 or 1) and of the mantissa, the
 * bias of the exponent, and the byte of the largest number. Bytes with a larger magnitude are NaN; there must be at
 * least one. Bytes with an exponent of 0 are subnormal. Kernels, the table of scale types and the names of types are
 * made from these rows, so a new type needs only a row here and an enumerator in quantize.h.
 */
#ifndef QZ_FLOAT8_H
#define QZ_FLOAT8_H

#include "number.h"
#include "quantize.h"

#define QZ_FLOAT8_TYPES(X) X(QZ_E4M3, "float8_e4m3", 1, 3, 7, 0x7e)

/* The largest number of a type, as a constant. */
#define QZ_FLOAT8_MOST(mantissa, bias, last)                                                                           \
    ((float)((1 << (mantissa)) + (last) % (1 << (mantissa))) * (float)(1ll << ((last) >> (mantissa))) /                \
     (float)(1ll << ((bias) + (mantissa))))

struct qz_float8 {
    uint32_t sign, mantissa, bias, last;
    float most;
};

/* The row of a type; `last` is 0 for types that have none. Where `dtype` is a constant, so is the row. */
static inline __attribute__((always_inline)) struct qz_float8 qz_float8_of(qz_dtype dtype)
{
#define ROW(type, name, sign, mantissa, bias, last)                                                                    \
    if (dtype == type)                                                                                                 \
        return (struct qz_float8){sign, mantissa, bias, last, QZ_FLOAT8_MOST(mantissa, bias, last)};
    QZ_FLOAT8_TYPES(ROW)
#undef ROW
    return (struct qz_float8){0, 0, 0, 0, 0.0f};
}

static inline __attribute__((always_inline)) int qz_is_float8(qz_dtype dtype)
{
    return qz_float8_of(dtype).last != 0;
}

/* 2^power, for powers of normal numbers. */
static inline float qz_float_power(int power)
{
    return qz_float((uint32_t)(127 + power) << 23);
}

/* Conversions have no branches, so that loops over them become vectors. */

/* The bits of a float32 whose exponent is too low by what biases differ. NaN has no sign. */
static inline __attribute__((always_inline)) float qz_f32_from_f8(qz_dtype dtype, uint8_t byte)
{
    const struct qz_float8 type = qz_float8_of(dtype);
    uint32_t magnitude = byte & 0xffu >> type.sign, sign = (uint32_t)(byte ^ magnitude) << 24;
    uint32_t nan = 0u - (uint32_t)(magnitude > type.last); /* all bits or none: compilers make vectors of that */
    float x = qz_float(magnitude << (23 - type.mantissa)) * qz_float_power(127 - (int)type.bias);
    return qz_float(((qz_bits(x) | sign) & ~nan) | (0x7fc00000u & nan));
}

/* The largest float32 that rounds to the largest number. */
static inline __attribute__((always_inline)) float qz_f8_reach(qz_dtype dtype)
{
    const struct qz_float8 type = qz_float8_of(dtype);
    const uint32_t drop = 23 - type.mantissa;
    return qz_float((type.last << drop) + ((127 - type.bias) << 23) + (1u << (drop - 1)) - (type.last & 1));
}

/* To nearest even; NaN for NaN and for what rounds to more than the largest number, 0 for what is below 0 and has no
 * sign. */
static inline __attribute__((always_inline)) uint8_t qz_f8_from_f32(qz_dtype dtype, float x)
{
    const struct qz_float8 type = qz_float8_of(dtype);
    const uint32_t drop = 23 - type.mantissa, half = (1u << (drop - 1)) - 1;
    const uint32_t adder = (128 + drop - type.bias) << 23 | 1u << 22; /* 1.5 * 2^23 subnormal steps */
    uint32_t bits = qz_bits(x), sign = bits >> 24 & 0x80u, magnitude = bits & 0x7fffffffu;
    uint32_t normal = (magnitude + half + (magnitude >> drop & 1) - ((127 - type.bias) << 23)) >> drop;
    uint32_t subnormal = qz_bits(qz_float(magnitude) + qz_float(adder)) - adder;
    int32_t least_normal = (int32_t)((128 - type.bias) << 23), reach = (int32_t)qz_bits(qz_f8_reach(dtype));
    uint32_t rounded =
        (int32_t)magnitude < least_normal ? subnormal : normal; /* signed: vectors compare these faster */
    rounded = (int32_t)magnitude > reach ? 0xffu >> type.sign : rounded;
    if (!type.sign) /* a constant */
        return (uint8_t)(x < 0.0f ? 0 : rounded);
    return (uint8_t)(sign | rounded);
}

#endif
