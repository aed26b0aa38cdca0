/*
 * scale_type.c - the table of the types that scales are stored as
 */
#include "scale_type.h"
#include "../base/float8.h"

#include <float.h>
#include <math.h>

/* ---- the nearest number of a type ----------------------------------------------------------------------------- */

static float nearest_f32(float x)
{
    return x;
}

static float nearest_f16(float x)
{
    return qz_rounded_to_f16(x);
}

static float nearest_bf16(float x)
{
    return qz_rounded_to_bf16(x);
}

#define NEAREST(type, ...)                                                                                             \
    static float nearest_##type(float x)                                                                               \
    {                                                                                                                  \
        return qz_f32_from_f8(type, qz_f8_from_f32(type, x));                                                          \
    }
QZ_FLOAT8_TYPES(NEAREST)

static float nearest_e8m0(float x)
{
    return x > 0 ? qz_nearest_power(x) : 0.0f;
}

static float nearest_i6(float x)
{
    return rintf(x < -32.0f ? -32.0f : x > 31.0f ? 31.0f : x);
}

static float nearest_u6(float x)
{
    return rintf(x < 0.0f ? 0.0f : x > 63.0f ? 63.0f : x);
}

static float nearest_i7(float x)
{
    return rintf(x < -64.0f ? -64.0f : x > 63.0f ? 63.0f : x);
}

/* ---- the table ------------------------------------------------------------------------------------------------ */

#define ANY_ZERO (1u << QZ_ZERO_NONE | 1u << QZ_ZERO_UINT4 | 1u << QZ_ZERO_OFFSET | 1u << QZ_ZERO_FLOAT)
#define WITHOUT  (1u << QZ_ZERO_NONE)
#define WITH_ONE (1u << QZ_ZERO_OFFSET)

/* `top` is less than the type can hold, since a search makes some scales larger. How much less was found by trying, on
 * normal and Student t5 values. */
static const struct qz_scale_type types[] = {
    [QZ_F32] = {.zeros = ANY_ZERO, .levels = {23, -149, {0x7f7fffff, 0x7f7fffff}}, .nearest = nearest_f32},
    [QZ_F16] = {.zeros = ANY_ZERO, .levels = {10, -24, {0x7bff, 0x7bff}}, .nearest = nearest_f16},
    [QZ_BF16] = {.zeros = ANY_ZERO, .levels = {7, -133, {0x7f7f, 0x7f7f}}, .nearest = nearest_bf16},
#define FLOAT8(type, name, sign, mantissa, bias, last)                                                                 \
    [type] = {.super = QZ_SUPER_MAY,                                                                                   \
              .zeros = WITHOUT,                                                                                        \
              .top = 0.5f * QZ_FLOAT8_MOST(mantissa, bias, last),                                                      \
              .levels = {mantissa, 1 - (bias) - (mantissa), {last, (sign) ? (last) : 0}},                              \
              .nearest = nearest_##type},
    QZ_FLOAT8_TYPES(FLOAT8)
#undef FLOAT8
        [QZ_E8M0] = {.zeros = WITHOUT, .levels = {0, -127, {255, 0}}, .nearest = nearest_e8m0},
    [QZ_I6] = {.super = QZ_SUPER_ALWAYS,
               .zeros = WITHOUT,
               .least = -32.0f,
               .most = 31.0f,
               .top = 31.0f / 1.1f,
               .levels = {5, 0, {31, 32}},
               .nearest = nearest_i6},
    /* Both super scales follow from the groups that they serve, which must be known together. */
    [QZ_U6] = {.super = QZ_SUPER_ROW_PART,
               .zeros = WITH_ONE,
               .pairs = 1,
               .least = 0.0f,
               .most = 63.0f,
               .top = 63.0f,
               .levels = {6, 0, {63, 0}},
               .nearest = nearest_u6},
    [QZ_I7] = {.super = QZ_SUPER_ALWAYS,
               .zeros = WITHOUT,
               .dual = 1,
               .least = -64.0f,
               .most = 63.0f,
               .top = 63.0f / 1.05f,
               .levels = {6, 0, {63, 64}},
               .nearest = nearest_i7},
};

const struct qz_scale_type *qz_scale_type_of(qz_dtype dtype)
{
    size_t i = (size_t)dtype;
    return i < sizeof types / sizeof types[0] && types[i].nearest ? &types[i] : NULL;
}

/* ---- bytes ---------------------------------------------------------------------------------------------------- */

int qz_is_scale_byte(const struct qz_scale_type *type, uint8_t byte)
{
    if (type->most == 0.0f || type->dual)
        return 1;
    int number = byte < 128 ? byte : byte - 256;
    return (float)number >= type->least && (float)number <= type->most;
}

/* Integers lo..hi times super: the bytes of those nearest to n scales. Adding 1.5 * 2^23 rounds to an integer, which is
 * then in the lowest bits. */
static void nearest_integers(const float *scale, size_t n, float super, float lo, float hi, uint8_t *bytes)
{
    for (size_t i = 0; i < n; i++) {
        float steps = super != 0.0f ? scale[i] / super : 0.0f;
        steps = steps > lo ? steps : lo;
        steps = steps < hi ? steps : hi;
        bytes[i] = (uint8_t)qz_bits(steps + 0x1.8p23f);
    }
}

/* The power of two below 1.5 * scale: for E2M1, two binades below the largest magnitude (OCP MX 1.0, 6.3). */
static uint8_t e8m0_from(float scale)
{
    float wanted = scale * 1.5f;
    return (uint8_t)(wanted < FLT_MIN ? 0 : qz_bits(wanted) >> 23);
}

/* Floats of a byte times super, never -0. */
static inline __attribute__((always_inline)) void nearest_float8(qz_dtype dtype, const float *scale, size_t n,
                                                                 float super, uint8_t *bytes)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t byte = qz_f8_from_f32(dtype, super != 0.0f ? scale[i] / super : 0.0f);
        bytes[i] = byte == 0x80 && qz_float8_of(dtype).sign ? 0 : byte;
    }
}

void qz_bytes_of_scales(qz_dtype dtype, const float *scale, const float *zero, size_t n, float super, uint8_t *bytes)
{
    const struct qz_scale_type *type = &types[dtype];
    if (type->most != 0.0f)
        nearest_integers(scale, n, super, type->least, type->most, bytes);
    if (type->dual)
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)(bytes[i] << 1 | (zero[i] != 0.0f));
#define FLOAT8(type, ...)                                                                                              \
    if (dtype == type)                                                                                                 \
        nearest_float8(type, scale, n, super, bytes);
    QZ_FLOAT8_TYPES(FLOAT8)
    if (dtype == QZ_E8M0)
        for (size_t i = 0; i < n; i++)
            bytes[i] = e8m0_from(scale[i]);
}

void qz_bytes_of_offsets(qz_dtype dtype, const float *offset, size_t n, float super, uint8_t *bytes)
{
    nearest_integers(offset, n, -super, types[dtype].least, types[dtype].most, bytes);
}
