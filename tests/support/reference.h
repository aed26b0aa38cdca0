/*
 * reference.h - the rules of docs/format.md once more, slow and plain
 *
 * Shares nothing with src/: elements are fetched one by one, float16 and bfloat16 are rounded by double arithmetic, and
 * nothing is cut into pieces. float operations are written one to a statement, so that each is rounded once.
 */
#ifndef QZ_TEST_REFERENCE_H
#define QZ_TEST_REFERENCE_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "quantize.h"

/* ---- numbers ------------------------------------------------------------------------------------------------- */

/* x rounded to a number of `digits` binary digits whose last place is worth at least 2^least: the general rule for
 * binary formats. From 2^most on, infinity. */
static inline double ref_round_to(double x, int digits, int least, int most)
{
    if (x == 0.0 || isnan(x) || isinf(x))
        return x;
    int exponent;
    frexp(x, &exponent); /* |x| in [2^(exponent - 1), 2^exponent) */
    int place = exponent - digits > least ? exponent - digits : least;
    double rounded = ldexp(rint(ldexp(x, -place)), place);
    return fabs(rounded) >= ldexp(1.0, most) ? copysign((double)INFINITY, x) : rounded;
}

static inline double ref_round(double x, qz_dtype dtype)
{
    switch (dtype) {
    case QZ_F16:
        return ref_round_to(x, 11, -24, 16);
    case QZ_BF16:
        return ref_round_to(x, 8, -133, 128);
    case QZ_F32:
        return (double)(float)x;
    default:
        return x;
    }
}

/* The bits of a float16 or bfloat16 number. */
static inline uint16_t ref_half_bits(double x, qz_dtype dtype)
{
    int mantissa_bits = dtype == QZ_F16 ? 10 : 7, bias = dtype == QZ_F16 ? 15 : 127;
    uint16_t sign = signbit(x) ? 0x8000 : 0, ones = (uint16_t)(dtype == QZ_F16 ? 0x7c00 : 0x7f80);
    x = fabs(x);
    if (isnan(x))
        return (uint16_t)(sign | ones | 1u << (mantissa_bits - 1));
    if (isinf(x))
        return (uint16_t)(sign | ones);
    double unit = ldexp(1.0, 1 - bias - mantissa_bits); /* of subnormal numbers, and of the first binade */
    unsigned exponent = 1;
    while (x >= ldexp(unit, mantissa_bits + 1)) {
        unit *= 2;
        exponent++;
    }
    /* Mantissa with its leading 1, which makes a 0 exponent 1 by itself. */
    return (uint16_t)(sign | (((exponent - 1) << mantissa_bits) + (unsigned)(x / unit)));
}

static inline double ref_from_half(uint16_t bits, qz_dtype dtype)
{
    int mantissa_bits = dtype == QZ_F16 ? 10 : 7, bias = dtype == QZ_F16 ? 15 : 127;
    int exponent = (bits & 0x7fff) >> mantissa_bits, mantissa = bits & ((1 << mantissa_bits) - 1);
    int most = dtype == QZ_F16 ? 31 : 255;
    double x = exponent == most ? (mantissa ? (double)NAN : (double)INFINITY)
               : exponent == 0  ? ldexp(mantissa, 1 - bias - mantissa_bits)
                                : ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
    return bits & 0x8000 ? -x : x;
}

/* A scale's byte as the formats define it. */
static inline double ref_from_byte(qz_dtype dtype, unsigned byte)
{
    int8_t integer = (int8_t)byte;
    switch (dtype) {
    case QZ_E4M3: {
        int exponent = (int)(byte >> 3 & 15), mantissa = (int)(byte & 7);
        double magnitude = exponent ? ldexp(8 + mantissa, exponent - 10) : ldexp(mantissa, -9);
        return (byte & 0x7f) == 0x7f ? (double)NAN : byte & 0x80 ? -magnitude : magnitude;
    }
    case QZ_E8M0:
        return byte == 255 ? (double)NAN : ldexp(1.0, (int)byte - 127);
    case QZ_I7:
        return floor(integer / 2.0);
    default:
        return integer;
    }
}

static inline double ref_load(const void *at, qz_dtype dtype)
{
    if (dtype == QZ_F64) {
        double x;
        memcpy(&x, at, sizeof x);
        return x;
    }
    if (dtype == QZ_F32) {
        float x;
        memcpy(&x, at, sizeof x);
        return (double)x;
    }
    uint16_t bits;
    memcpy(&bits, at, sizeof bits);
    return ref_from_half(bits, dtype);
}

/* x must be a number of that type. */
static inline void ref_store(void *at, qz_dtype dtype, double x)
{
    if (dtype == QZ_F64) {
        memcpy(at, &x, sizeof x);
    } else if (dtype == QZ_F32) {
        float narrow = (float)x;
        memcpy(at, &narrow, sizeof narrow);
    } else {
        uint16_t bits = ref_half_bits(x, dtype);
        memcpy(at, &bits, sizeof bits);
    }
}

static inline double ref_clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

/* ---- one scale for a whole array ----------------------------------------------------------------------------- */

static inline void ref_whole_scale(const double *x, size_t n, qz_method method, double *scale, double *zero_point)
{
    *scale = 1.0;
    *zero_point = 0.0;
    if (n == 0)
        return;
    double min = x[0], max = x[0];
    for (size_t i = 1; i < n; i++) {
        min = fmin(min, x[i]);
        max = fmax(max, x[i]);
    }
    if (min == max && (method == QZ_MINMAX || min == 0.0)) {
        *zero_point = min == 0.0 ? 0.0 : -min;
        return;
    }
    double span, steps;
    if (method == QZ_ABSMAX7) {
        span = fmax(max, -min);
        steps = 7;
        *scale = span / 7;
    } else {
        int large = max - min > 0x1p1000 || fabs(max + min) > 0x1p1000;
        double low = large ? min / 16 : min, high = large ? max / 16 : max;
        span = high - low;
        steps = 15;
        *scale = large ? span / 15 * 16 : span / 15;
        *zero_point = rint(-0.5 - 7.5 * (high + low) / span);
    }
    if (*scale < DBL_MIN) {
        if (*scale == 0.0 || span - steps * *scale > ldexp(*scale, -20))
            *scale = nextafter(*scale, 1.0);
        if (method == QZ_MINMAX) {
            double least = -8 - rint(min / *scale), most = 7 - rint(max / *scale);
            *zero_point = least > most ? rint((least + most) / 2) : ref_clamp(*zero_point, least, most);
        }
    }
    if (*zero_point == 0.0)
        *zero_point = 0.0; /* not -0 */
}

static inline int8_t ref_whole_code(double x, double scale, double zero_point)
{
    return (int8_t)ref_clamp(rint(x / scale) + zero_point, -8, 7);
}

/* A value beyond the largest double by half a step at most becomes the largest double. */
static inline double ref_whole_value(int code, double scale, double zero_point)
{
    double value = (code - zero_point) * scale;
    if (isinf(value) &&
        fabsl((long double)code - (long double)zero_point) * (long double)scale - (long double)scale / 2 <=
            (long double)DBL_MAX)
        value = copysign(DBL_MAX, value);
    return value;
}

/* ---- groups -------------------------------------------------------------------------------------------------- */

static inline double ref_element(const qz_matrix *matrix, uint64_t row, uint64_t col)
{
    int64_t at = (int64_t)row * matrix->row_stride + (int64_t)col * matrix->col_stride;
    return ref_load((const char *)matrix->data + at * (int64_t)qz_dtype_size(matrix->dtype), matrix->dtype);
}

static inline int ref_get_code(const void *row, uint64_t i)
{
    uint8_t byte = ((const uint8_t *)row)[i / 2];
    return i % 2 ? byte >> 4 : byte & 15;
}

/* Writing the low half clears the high one: padding is 0, and elements are written in order. */
static inline void ref_put_code(void *row, uint64_t i, int code)
{
    uint8_t *byte = (uint8_t *)row + i / 2;
    *byte = (uint8_t)(i % 2 ? (*byte & 15) | (code & 15) << 4 : code & 15);
}

struct ref_group {
    float scale, zero; /* as stored; zero also holds an offset */
    int lo, hi;        /* codes */
};

/* Scale and zero of a group of n finite values. 0 if they do not fit. */
static inline int ref_fit(const qz_scheme *scheme, qz_method method, const float *x, size_t n, struct ref_group *group)
{
    float min = x[0], max = x[0], first_extreme = 0.0f, scale;
    for (size_t i = 0; i < n; i++) {
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
        if (fabsf(x[i]) > fabsf(first_extreme))
            first_extreme = x[i];
    }
    *group = (struct ref_group){.lo = 0, .hi = 15};
    if (scheme->zero == QZ_ZERO_NONE) {
        group->lo = method == QZ_ABSMAX7 ? -7 : -8;
        group->hi = 7;
        scale = method == QZ_ABSMAX7 ? fabsf(first_extreme) / 7 : first_extreme * -0.125f;
    } else if (scheme->zero == QZ_ZERO_UINT4) {
        min = min < 0 ? min : 0;
        max = max > 0 ? max : 0;
        float half_min = min * 0.5f, half_max = max * 0.5f, half = half_max - half_min;
        scale = half / 7.5f;
    } else {
        float offset = (float)ref_round((double)(min == 0 ? 0.0f : min), scheme->scale_dtype);
        group->zero = offset;
        if (isinf(offset))
            return 0;
        float half_min = min * 0.5f, half_max = max * 0.5f, half_offset = offset * 0.5f;
        float a = half_max - half_offset, b = half_min - half_offset;
        scale = (fabsf(a) >= fabsf(b) ? a : b) / 7.5f;
    }
    group->scale = (float)ref_round((double)scale, scheme->scale_dtype);
    if (group->scale == 0)
        group->scale = 0.0f;
    /* The product of an offset group's last code must exist, though its value may be in range with the offset added. */
    if (isinf(group->scale) || (scheme->zero == QZ_ZERO_OFFSET && isinf(group->scale * 15.0f)))
        return 0;
    if (scheme->zero == QZ_ZERO_UINT4 && group->scale != 0) {
        float magnitude = fabsf(group->scale), inverse = 1.0f / group->scale, product = -min * inverse;
        int divide = magnitude < FLT_MIN || magnitude > 0x1p120f;
        double steps = divide ? -(double)min / (double)group->scale : (double)product;
        group->zero = (float)ref_clamp(rint(steps), 0, 15);
        if (group->zero == 0)
            group->zero = 0.0f;
    }
    return 1;
}

static inline float ref_value(const qz_scheme *scheme, int code, float scale, float zero)
{
    if (scheme->zero == QZ_ZERO_OFFSET) {
        float product = scale * (float)code;
        return product + zero;
    }
    float steps = scheme->zero == QZ_ZERO_UINT4 ? (float)code - zero : (float)code;
    return scale * steps;
}

static inline int ref_code(const qz_scheme *scheme, const struct ref_group *group, float x, uint64_t *clipped)
{
    float magnitude = fabsf(group->scale);
    double zero = scheme->zero == QZ_ZERO_UINT4 ? (double)group->zero : 0.0, wanted;
    float offset = scheme->zero == QZ_ZERO_OFFSET ? group->zero : 0.0f;
    int divide = magnitude < FLT_MIN || magnitude > 0x1p120f || fabsf(offset) > 0x1p126f;
    if (group->scale == 0)
        return 0;
    if (divide) {
        wanted = rint(((double)x - (double)offset) / (double)group->scale) + zero;
    } else {
        float distance = x - offset, inverse = 1.0f / group->scale, steps = distance * inverse;
        wanted = rint((double)steps) + zero;
    }
    *clipped += wanted < group->lo || wanted > group->hi;
    int code = (int)ref_clamp(wanted, group->lo, group->hi), origin = (int)zero;
    while (divide && isinf(ref_value(scheme, code, group->scale, group->zero)))
        code += code > origin ? -1 : 1;
    return code;
}

struct ref_stats {
    long double signal, error;
    float max_error, largest;
    uint64_t max_index, clipped, zeroed_groups, subnormal_scales, replaced;
};

static inline void ref_add_error(struct ref_stats *stats, float x, float y, uint64_t index)
{
    float difference = fabsf(x - y);
    long double exact = (long double)x - (long double)y;
    stats->signal += (long double)x * (long double)x;
    stats->error += exact * exact;
    stats->largest = fmaxf(stats->largest, fmaxf(fabsf(x), fabsf(y)));
    if (difference > stats->max_error) {
        stats->max_error = difference;
        stats->max_index = index;
    }
}

/* The first group that does not fit goes to detail->group, the first value that is refused to index, value and count.
 */
static inline qz_result ref_encode(const qz_scheme *scheme, qz_method method, qz_nonfinite nonfinite,
                                   const qz_matrix *src, const qz_packed *dst, struct ref_stats *stats,
                                   qz_detail *detail)
{
    if (method == QZ_DEFAULT)
        method = scheme->method;
    *stats = (struct ref_stats){0};
    qz_detail bad = {0}, beyond = {0};
    for (uint64_t r = 0; r < src->rows; r++)
        for (uint64_t c = 0; c < src->cols; c++) {
            double x = ref_element(src, r, c);
            qz_detail *found = isnan(x) || isinf(x) ? &bad : isinf((float)x) ? &beyond : NULL;
            if (found && found->count++ == 0) {
                found->index = r * src->cols + c;
                found->value = x;
            }
        }
    if (bad.count && nonfinite == QZ_REFUSE) {
        *detail = bad;
        return QZ_ERROR_NONFINITE;
    }
    if (beyond.count) {
        *detail = beyond;
        return QZ_ERROR_RANGE;
    }
    uint64_t group_size = scheme->group_size < src->cols ? scheme->group_size : src->cols;
    uint64_t row_groups = src->cols ? (src->cols - 1) / group_size + 1 : 0;
    size_t scale_size = qz_dtype_size(scheme->scale_dtype);
    float *x = malloc((size_t)group_size * sizeof *x + 1);
    qz_result result = QZ_OK;
    for (uint64_t r = 0; r < src->rows && result == QZ_OK; r++) {
        char *codes = (char *)dst->codes + (int64_t)r * dst->code_stride;
        char *scales = (char *)dst->scales + (int64_t)r * dst->scale_stride;
        char *zeros = scheme->zero ? (char *)dst->zeros + (int64_t)r * dst->zero_stride : NULL;
        for (uint64_t g = 0; g < row_groups && result == QZ_OK; g++) {
            size_t n = 0;
            float limit = 0.0f;
            for (uint64_t c = g * group_size; c < src->cols && n < group_size; c++, n++) {
                x[n] = (float)ref_element(src, r, c);
                if (!isnan(x[n]) && !isinf(x[n]))
                    limit = fmaxf(limit, fabsf(x[n]));
            }
            for (size_t i = 0; i < n; i++)
                if (isnan(x[i]) || isinf(x[i])) {
                    x[i] = isnan(x[i]) ? 0.0f : copysignf(limit, x[i]);
                    stats->replaced++;
                }
            struct ref_group group;
            if (!ref_fit(scheme, method, x, n, &group)) {
                float most = 0.0f;
                for (size_t i = 0; i < n; i++)
                    most = fmaxf(most, fabsf(x[i]));
                detail->group = r * row_groups + g;
                detail->value = (double)most;
                result = QZ_ERROR_SCALE;
                break;
            }
            ref_store(scales + g * scale_size, scheme->scale_dtype, (double)group.scale);
            if (scheme->zero == QZ_ZERO_OFFSET)
                ref_store(zeros + g * scale_size, scheme->scale_dtype, (double)group.zero);
            if (scheme->zero == QZ_ZERO_UINT4)
                ref_put_code(zeros, g, (int)group.zero);
            float background = scheme->zero == QZ_ZERO_OFFSET ? group.zero : 0.0f;
            int erased = 0;
            for (size_t i = 0; i < n; i++) {
                int code = ref_code(scheme, &group, x[i], &stats->clipped);
                ref_put_code(codes, g * group_size + i, code);
                ref_add_error(stats, x[i], ref_value(scheme, code, group.scale, group.zero),
                              r * src->cols + g * group_size + i);
                erased |= group.scale == 0 && x[i] != background;
            }
            stats->zeroed_groups += (uint64_t)erased;
            double normal = scheme->scale_dtype == QZ_F16 ? 0x1p-14 : (double)FLT_MIN;
            stats->subnormal_scales += group.scale != 0 && fabs((double)group.scale) < normal;
        }
    }
    free(x);
    return result;
}

static inline float ref_decoded(const qz_scheme *scheme, const qz_packed *src, uint64_t cols, uint64_t r, uint64_t c)
{
    uint64_t group_size = scheme->group_size < cols ? scheme->group_size : cols, g = c / group_size;
    size_t scale_size = qz_dtype_size(scheme->scale_dtype);
    const char *codes = (const char *)src->codes + (int64_t)r * src->code_stride;
    const char *scales = (const char *)src->scales + (int64_t)r * src->scale_stride;
    const char *zeros = scheme->zero ? (const char *)src->zeros + (int64_t)r * src->zero_stride : NULL;
    int code = ref_get_code(codes, c);
    if (scheme->codes == QZ_INT4 && code > 7)
        code -= 16;
    float scale = (float)ref_load(scales + g * scale_size, scheme->scale_dtype), zero = 0.0f;
    if (scheme->zero == QZ_ZERO_OFFSET)
        zero = (float)ref_load(zeros + g * scale_size, scheme->scale_dtype);
    if (scheme->zero == QZ_ZERO_UINT4)
        zero = (float)ref_get_code(zeros, g);
    return ref_value(scheme, code, scale, zero);
}

static inline qz_result ref_decode(const qz_scheme *scheme, const qz_packed *src, const qz_matrix *dst,
                                   qz_detail *detail)
{
    qz_detail beyond = {0};
    for (uint64_t r = 0; r < dst->rows; r++)
        for (uint64_t c = 0; c < dst->cols; c++) {
            float value = ref_decoded(scheme, src, dst->cols, r, c);
            double rounded = ref_round((double)value, dst->dtype);
            if (!isinf(value) && isinf(rounded) && beyond.count++ == 0) {
                beyond.index = r * dst->cols + c;
                beyond.value = (double)value;
            }
            int64_t at = (int64_t)r * dst->row_stride + (int64_t)c * dst->col_stride;
            ref_store((char *)dst->data + at * (int64_t)qz_dtype_size(dst->dtype), dst->dtype, rounded);
        }
    *detail = beyond;
    return beyond.count ? QZ_ERROR_RANGE : QZ_OK;
}

#endif
