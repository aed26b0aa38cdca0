/*
 * eight_codes.c - encodes and decodes codes of eight bits that have a scale for each group
 *
 * The rule is that of ggml's Q8_0. It is computed operation by operation in float32, so that the bytes are the same as
 * ggml's. The functions work on memory and know no files.
 */
#include "eight_codes.h"

#include <math.h>
#include <string.h>

/* ---- numbers of two bytes ---- */

float qz_half_value(uint16_t half)
{
    uint32_t bits = half, sign = (bits & 0x8000) << 16;
    uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
    float value;
    if (exponent == 0) { /* multiples of 2^-24 */
        value = (float)fraction * 0x1p-24f;
        return sign != 0 ? -value : value;
    }
    bits = sign | (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint16_t qz_half_of(float x)
{
    uint32_t bits, sign;
    memcpy(&bits, &x, sizeof bits);
    sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000)
        return (uint16_t)(sign | 0x7e00); /* NaN */
    if (bits >= 0x477ff000)               /* 65520, half a step above the largest one */
        return (uint16_t)(sign | 0x7c00);
    if (bits < 0x38800000) { /* 2^-14: below it are multiples of 2^-24, and so are the steps of numbers around 0.5 */
        float shifted = fabsf(x) + 0.5f;
        memcpy(&bits, &shifted, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    bits += 0xfff + (bits >> 13 & 1);
    return (uint16_t)(sign | ((bits - (UINT32_C(112) << 23)) >> 13));
}

static float bfloat_value(uint16_t bits)
{
    uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

int qz_element_floats(qz_element element, const void *src, size_t count, float *dst)
{
    uint16_t half;
    double wide;
    for (size_t i = 0; i < count; i++) {
        const char *at = (const char *)src + i * qz_element_size(element);
        switch (element) {
        case QZ_ELEMENT_F32:
            memcpy(&dst[i], at, sizeof *dst);
            break;
        case QZ_ELEMENT_F64:
            memcpy(&wide, at, sizeof wide);
            dst[i] = (float)wide;
            break;
        case QZ_ELEMENT_F16:
        case QZ_ELEMENT_BF16:
            memcpy(&half, at, sizeof half);
            dst[i] = element == QZ_ELEMENT_F16 ? qz_half_value(half) : bfloat_value(half);
            break;
        default:
            return 0;
        }
    }
    return 1;
}

/* ---- codes ---- */

uint64_t qz_eight_bytes(uint64_t count)
{
    return count + 2 * qz_eight_groups(count);
}

/* The whole number nearest to x, of two the one further from 0. |x| is below 2^23. */
static inline float rounded(float x)
{
    float whole = (float)(int32_t)x, rest = x - whole; /* exact */
    return rest >= 0.5f ? whole + 1 : rest <= -0.5f ? whole - 1 : whole;
}

/* Encodes one group; 0 if a value or the scale is not finite. A scale so small that 1 / scale is infinite is 0 as a
 * float16, so that codes mean nothing: they are 0. */
static int encode_group(const float *values, size_t count, int8_t *codes, uint16_t *scale)
{
    uint32_t most = 0; /* magnitudes are ordered as their bits are */
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        bits &= 0x7fffffff;
        most = bits > most ? bits : most;
    }
    float largest;
    memcpy(&largest, &most, sizeof largest);
    float step = largest / 127, inverse = step != 0 ? 1 / step : 0;
    *scale = qz_half_of(step);
    if (!qz_half_is_finite(*scale))
        return 0;
    inverse = isfinite(inverse) ? inverse : 0;
    for (size_t i = 0; i < count; i++)
        codes[i] = (int8_t)rounded(values[i] * inverse);
    return 1;
}

size_t qz_eight_encode(const float *values, size_t count, int8_t *codes, uint16_t *scales)
{
    for (size_t at = 0; at < count; at += QZ_EIGHT_GROUP) {
        size_t n = count - at < QZ_EIGHT_GROUP ? count - at : QZ_EIGHT_GROUP;
        if (!encode_group(values + at, n, codes + at, scales++))
            return at;
    }
    return count;
}

void qz_eight_decode_from(const int8_t *codes, const uint16_t *scales, size_t at, size_t count, float *values)
{
    while (count != 0) {
        size_t left = QZ_EIGHT_GROUP - at, n = count < left ? count : left;
        float scale = qz_half_value(*scales++);
        for (size_t i = 0; i < n; i++)
            values[i] = (float)codes[i] * scale;
        codes += n;
        values += n;
        count -= n;
        at = 0;
    }
}

void qz_eight_decode(const int8_t *codes, const uint16_t *scales, size_t count, float *values)
{
    qz_eight_decode_from(codes, scales, 0, count, values);
}
