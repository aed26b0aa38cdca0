/*
 * scalar.c - every kernel in plain C: the specification
 *
 * The code is written to be obviously right, and shares nothing with the other sets, which are tested against it bit
 * for bit. It must be compiled without contraction of a * b + c (-ffp-contract=off). Where an operation is fused, the
 * code says fmaf.
 */
#include "kernels.h"
#include "../base/number.h"

#include <float.h>
#include <math.h>

/* ---- whole arrays -------------------------------------------------------------------------------------------- */

static int range_f32(const float *x, size_t n, float range[2])
{
    float min = x[0], max = x[0];
    int bad = 0;
    for (size_t i = 0; i < n; i++) {
        bad |= !qz_is_finite(x[i]);
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
    }
    range[0] = min;
    range[1] = max;
    return bad;
}

static int range_f64(const double *x, size_t n, double range[2])
{
    double min = x[0], max = x[0];
    int bad = 0;
    for (size_t i = 0; i < n; i++) {
        bad |= !qz_is_finite_f64(x[i]);
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
    }
    range[0] = min;
    range[1] = max;
    return bad;
}

static int8_t whole_array_code(double x, double scale, double zero_point)
{
    double code = rint(x / scale) + zero_point;
    return (int8_t)(code < -8 ? -8 : code > 7 ? 7 : code);
}

static void codes_f32(const float *x, size_t n, const struct qz_steps *steps, int8_t *codes)
{
    for (size_t i = 0; i < n; i++)
        codes[i] = whole_array_code((double)x[i], steps->scale, steps->zero_point);
}

static void codes_f64(const double *x, size_t n, double scale, double zero_point, int8_t *codes)
{
    for (size_t i = 0; i < n; i++)
        codes[i] = whole_array_code(x[i], scale, zero_point);
}

static int decode_f32(const int8_t *codes, size_t n, const float table[16], float *dst)
{
    int bad = 0;
    for (size_t i = 0; i < n; i++) {
        bad |= codes[i] < -8 || codes[i] > 7;
        dst[i] = table[codes[i] & 15];
    }
    return bad;
}

static int decode_f64(const int8_t *codes, size_t n, const double table[16], double *dst)
{
    int bad = 0;
    for (size_t i = 0; i < n; i++) {
        bad |= codes[i] < -8 || codes[i] > 7;
        dst[i] = table[codes[i] & 15];
    }
    return bad;
}

static int pack(const int8_t *codes, size_t n, uint8_t *packed)
{
    int bad = 0;
    for (size_t i = 0; i < n; i += 2) {
        int low = codes[i], high = i + 1 < n ? codes[i + 1] : 0;
        bad |= low < -8 || low > 7 || high < -8 || high > 7;
        packed[i / 2] = (uint8_t)((low & 15) | (high & 15) << 4);
    }
    return bad;
}

static void unpack(const uint8_t *packed, size_t n, int8_t *codes)
{
    for (size_t i = 0; i < n; i += 2) {
        int low = packed[i / 2] & 15, high = packed[i / 2] >> 4;
        codes[i] = (int8_t)(low < 8 ? low : low - 16);
        if (i + 1 < n)
            codes[i + 1] = (int8_t)(high < 8 ? high : high - 16);
    }
}

/* ---- conversions and moves ----------------------------------------------------------------------------------- */

static void f32_from_f16(const uint16_t *src, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = qz_f32_from_f16(src[i]);
}

static void f32_from_bf16(const uint16_t *src, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = qz_f32_from_bf16(src[i]);
}

static int f32_from_f64(const double *src, size_t n, float *dst)
{
    int bad = 0;
    for (size_t i = 0; i < n; i++) {
        dst[i] = (float)src[i];
        bad |= !qz_is_finite(dst[i]);
    }
    return bad;
}

static void f16_from_f32(const float *src, size_t n, uint16_t *dst)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = qz_f16_from_f32(src[i]);
}

static void bf16_from_f32(const float *src, size_t n, uint16_t *dst)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = qz_bf16_from_f32(src[i]);
}

static void transpose(const float *src, ptrdiff_t src_stride, size_t rows, size_t cols, float *dst,
                      ptrdiff_t dst_stride)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            dst[(ptrdiff_t)r * dst_stride + (ptrdiff_t)c] = src[(ptrdiff_t)c * src_stride + (ptrdiff_t)r];
}

static void stream(void *dst, const void *src, size_t bytes)
{
    memcpy(dst, src, bytes);
}

static void stream_end(void) {}

/* ---- groups -------------------------------------------------------------------------------------------------- */

static int group_range(const float *x, size_t n, size_t group_size, float *min, float *max)
{
    int bad = 0;
    for (size_t i = 0, g = 0; i < n; i += group_size, g++) {
        size_t length = n - i < group_size ? n - i : group_size;
        float range[2];
        bad |= range_f32(x + i, length, range);
        min[g] = range[0];
        max[g] = range[1];
    }
    return bad;
}

static float least_normal(qz_dtype dtype)
{
    return dtype == QZ_F16 ? 0x1p-14f : FLT_MIN;
}

/*
 * Adding 0.0f turns -0 into +0: the sign of a zero range is unspecified, and a stored zero has none. Halves
 * keep differences of huge values finite. Divisions by 7 and 7.5 are true divisions.
 */
static unsigned fit(const struct qz_fit *rule, size_t groups, const float *min, const float *max, float *scale,
                    float *inverse, float *zero)
{
    unsigned flags = 0;
    for (size_t g = 0; g < groups; g++) {
        float lo = min[g], hi = max[g], s;
        int beyond = 0;
        if (rule->method == QZ_ABSMAX) {
            s = (hi > -lo ? hi : rule->positive ? -lo : lo) / rule->end;
            if (hi == -lo && hi != 0 && !rule->positive)
                flags |= QZ_FIT_TIE;
        } else if (rule->zero == QZ_ZERO_OFFSET) {
            float offset = qz_through(lo + 0.0f, rule->scale_dtype);
            float above = hi * 0.5f - offset * 0.5f, below = lo * 0.5f - offset * 0.5f;
            s = (fabsf(above) >= fabsf(below) ? above : below) / 7.5f;
            zero[g] = offset;
            beyond = !(fabsf(offset) <= 0x1p126f);
        } else {
            lo = lo < 0 ? lo : 0;
            hi = hi > 0 ? hi : 0;
            s = (hi * 0.5f - lo * 0.5f) / 7.5f;
        }
        s = qz_through(s, rule->scale_dtype) + 0.0f;
        beyond |= !(fabsf(s) <= 0x1p120f);
        int normal = fabsf(s) >= FLT_MIN && !beyond;
        scale[g] = s;
        inverse[g] = normal ? 1.0f / s : 0.0f;
        if (fabsf(s) < least_normal(rule->scale_dtype) && (lo != 0 || hi != 0))
            flags |= QZ_FIT_TINY;
        if (beyond)
            flags |= QZ_FIT_HUGE;
        if (rule->zero == QZ_ZERO_UINT4) {
            float z = rintf(-lo * inverse[g]);
            zero[g] = (z > 0 ? z : 0) < 15 ? (z > 0 ? z : 0) : 15;
        }
        if (rule->zero == QZ_ZERO_FLOAT)
            zero[g] = rule->method == QZ_ABSMAX ? 0.0f : qz_through(-lo * inverse[g], rule->scale_dtype);
    }
    return flags;
}

static void put_code(uint8_t *packed, size_t i, int code)
{
    if (i % 2)
        packed[i / 2] = (uint8_t)(packed[i / 2] | (code & 15) << 4);
    else
        packed[i / 2] = (uint8_t)(code & 15);
}

/* Clamped before it becomes an integer, which what is far beyond the codes does not fit. */
static int uniform_code(float x, float inverse, float zero, const struct qz_grid *grid, size_t *clipped)
{
    float steps = (grid->zero == QZ_ZERO_OFFSET ? x - zero : x) * inverse, lo = (float)grid->lo, hi = (float)grid->hi;
    if (grid->zero == QZ_ZERO_FLOAT)
        steps = steps + zero;
    float wanted = rintf(steps) + (grid->zero == QZ_ZERO_UINT4 ? zero : 0.0f);
    float code = wanted > lo ? wanted : lo; /* NaN, too */
    code = code < hi ? code : hi;
    *clipped += (wanted < code) | (wanted > code);
    return (int)code;
}

static int table_code(float x, float inverse, float zero, const struct qz_grid *grid, size_t *clipped)
{
    float y = (grid->zero == QZ_ZERO_OFFSET ? x - zero : x) * inverse;
    if (grid->zero == QZ_ZERO_FLOAT)
        y = y + zero;
    size_t index = 0;
    while (index < 15 && y >= grid->upper[index]) /* an infinity reaches the last one, too */
        index++;
    *clipped += y < grid->least || y > grid->most;
    return grid->code[index];
}

static size_t group_codes(const float *x, size_t n, size_t group_size, const struct qz_grid *grid, const float *inverse,
                          const float *zero, uint8_t *packed)
{
    size_t clipped = 0;
    for (size_t i = 0; i < n; i++) {
        size_t g = i / group_size;
        float z = grid->zero == QZ_ZERO_NONE ? 0.0f : zero[g];
        put_code(packed, i,
                 grid->uniform ? uniform_code(x[i], inverse[g], z, grid, &clipped)
                               : table_code(x[i], inverse[g], z, grid, &clipped));
    }
    return clipped;
}

static void break_tie(const float *x, size_t n, float *min, float *max)
{
    size_t i = 0;
    if (*max != -*min)
        return;
    while (i < n && fabsf(x[i]) != *max)
        i++;
    if (i == n)
        return;
    float *other = x[i] > 0 ? min : max;
    if (*other != 0.0f) /* the float next to it, towards 0 */
        *other = qz_float(qz_bits(*other) - 1);
}

void qz_break_ties(const float *x, size_t n, size_t group_size, float *min, float *max)
{
    for (size_t g = 0, i = 0; i < n; g++, i += group_size)
        break_tie(x + i, n - i < group_size ? n - i : group_size, &min[g], &max[g]);
}

static int group_encode(const struct qz_fit *rule, const struct qz_grid *grid, const float *x, size_t n,
                        size_t group_size, const struct qz_numbers *to, uint8_t *packed)
{
    const size_t groups = (n - 1) / group_size + 1;
    if (group_range(x, n, group_size, to->min, to->max))
        return 1;
    if (rule->method == QZ_ABSMAX && !rule->positive)
        qz_break_ties(x, n, group_size, to->min, to->max);
    if (fit(rule, groups, to->min, to->max, to->scale, to->inverse, to->zero))
        return 1;
    group_codes(x, n, group_size, grid, to->inverse, to->zero, packed);
    return 0;
}

static void rule_codes(const struct qz_rule_codes *rule, const float *x, size_t n, size_t group_size, const float *by,
                       const float *from, uint8_t *packed)
{
    for (size_t i = 0; i < n; i++)
        put_code(packed, i, qz_rule_code(rule, x[i], by[i / group_size], from[i / group_size]) - rule->offset);
}

int qz_careful_code(float x, float scale, float zero, const struct qz_grid *grid, size_t *clipped)
{
    double y = ((double)x - (grid->zero == QZ_ZERO_OFFSET ? (double)zero : 0.0)) / (double)scale;
    if (grid->zero == QZ_ZERO_FLOAT)
        y += (double)zero;
    int index, origin = 0; /* in `sorted`; that whose value is near 0 */
    if (grid->uniform) {
        double wanted = rint(y) + (grid->zero == QZ_ZERO_UINT4 ? (double)zero : 0.0);
        int code = wanted >= grid->lo ? wanted <= grid->hi ? (int)wanted : grid->hi : grid->lo; /* NaN, too */
        *clipped += wanted < grid->lo || wanted > grid->hi;
        index = code - (int)grid->sorted[0];
    } else {
        for (index = 0; index < 15 && y >= (double)grid->upper[index];)
            index++;
        *clipped += y < (double)grid->least || y > (double)grid->most;
    }
    float origin_value = grid->zero == QZ_ZERO_UINT4 || grid->zero == QZ_ZERO_FLOAT ? zero : 0.0f;
    while (origin < 15 && grid->sorted[origin] < origin_value)
        origin++;
    /* Near the end of float32's range the nearest code's value may round to infinity: take the next one inwards. */
    while (index != origin && !qz_is_finite(qz_value(grid->sorted[index], scale, zero, grid->zero)))
        index += index < origin ? 1 : -1;
    return grid->code[index];
}

static void group_decode(const uint8_t *packed, size_t n, size_t group_size, const struct qz_grid *grid,
                         const float *scale, const float *zero, float *dst)
{
    for (size_t i = 0; i < n; i++) {
        float value = grid->value[packed[i / 2] >> (i % 2 * 4) & 15];
        size_t g = i / group_size;
        dst[i] = qz_value(value, scale[g], grid->zero == QZ_ZERO_NONE ? 0.0f : zero[g], grid->zero);
    }
}

static void error(const float *x, const float *y, size_t n, struct qz_sums *sums)
{
    for (size_t i = 0; i < n; i++) {
        size_t lane = i % QZ_SUMS_LANES;
        float difference = x[i] - y[i];
        sums->signal[lane] = fmaf(x[i], x[i], sums->signal[lane]);
        sums->error[lane] = fmaf(difference, difference, sums->error[lane]);
        sums->max_error = fabsf(difference) > sums->max_error ? fabsf(difference) : sums->max_error;
    }
}

static size_t group_codes_error(const float *x, size_t n, size_t group_size, const struct qz_grid *grid,
                                const float *scale, const float *inverse, const float *zero, uint8_t *packed,
                                struct qz_sums *sums)
{
    float decoded[QZ_TILE];
    size_t clipped = group_codes(x, n, group_size, grid, inverse, zero, packed);
    group_decode(packed, n, group_size, grid, scale, zero, decoded);
    *sums = (struct qz_sums){{0}, {0}, 0};
    error(x, decoded, n, sums);
    return clipped;
}

/* A scale's byte as a number: an integer where the type is none of the floating ones. */
static float number_of_byte(qz_dtype dtype, uint8_t byte)
{
    switch (dtype) {
#define FLOAT8(type, ...)                                                                                              \
    case type:                                                                                                         \
        return qz_f32_from_f8(type, byte);
        QZ_FLOAT8_TYPES(FLOAT8)
#undef FLOAT8
    case QZ_E8M0:
        return qz_f32_from_e8m0(byte);
    case QZ_I7:
        return (float)(((byte ^ 0x80) >> 1) - 64);
    default: /* QZ_I6 and, always positive, QZ_U6 */
        return (float)((byte ^ 0x80) - 0x80);
    }
}

static void byte_scales(qz_dtype dtype, const uint8_t *bytes, size_t n, const float *super, size_t each, float shift,
                        float *scale, float *zero)
{
    for (size_t i = 0; i < n; i++) {
        scale[i] = number_of_byte(dtype, bytes[i]) * super[i / each];
        if (dtype == QZ_I7)
            zero[i] = bytes[i] & 1 ? -shift : 0.0f;
    }
}

/* Number i of those that are stored from p on. */
static float stored_number(qz_dtype dtype, const void *p, size_t i)
{
    const uint8_t *bytes = p;
    uint16_t half;
    float x;
    if (dtype == QZ_F32) {
        memcpy(&x, bytes + i * sizeof x, sizeof x);
        return x;
    }
    if (dtype > QZ_BF16)
        return number_of_byte(dtype, bytes[i]);
    memcpy(&half, bytes + i * sizeof half, sizeof half);
    return dtype == QZ_F16 ? qz_f32_from_f16(half) : qz_f32_from_bf16(half);
}

/* Scale and zero of group g; 0 where there are no zeros. */
static void numbers_of_group(const struct qz_stored *stored, const struct qz_grid *grid, size_t g, float *scale,
                             float *zero)
{
    qz_dtype dtype = stored->dtype;
    const uint8_t *zeros = stored->zero;
    size_t s = g < stored->first ? 0 : (g - stored->first) / stored->each + 1;
    *scale = stored_number(dtype, stored->scale, g);
    *zero = 0.0f;
    if (dtype > QZ_BF16)
        *scale = *scale * stored->super[s];
    if (grid->zero == QZ_ZERO_UINT4)
        *zero = (float)(zeros[g / 2] >> (g % 2 * 4) & 15);
    else if (dtype == QZ_I7)
        *zero = ((const uint8_t *)stored->scale)[g] & 1 ? -grid->shift : 0.0f;
    else if (dtype == QZ_U6)
        *zero = stored_number(dtype, zeros, g) * stored->super_zero[s];
    else if (grid->zero != QZ_ZERO_NONE)
        *zero = stored_number(dtype, zeros, g);
}

static int stored_decode(const uint8_t *packed, size_t groups, size_t group_size, const struct qz_grid *grid,
                         const struct qz_stored *stored, qz_dtype dtype, void *dst)
{
    float limit = dtype == QZ_F16 ? QZ_F16_BEYOND : QZ_BF16_BEYOND, value;
    float *wide = dst;
    uint16_t *narrow = dst;
    int beyond = 0;
    for (size_t g = 0, i = 0; g < groups; g++) {
        float scale, zero;
        numbers_of_group(stored, grid, g, &scale, &zero);
        for (int code = 0; code < 16 && dtype != QZ_F32; code++)
            beyond |= !(fabsf(qz_value(grid->value[code], scale, zero, grid->zero)) < limit);
        for (size_t end = i + group_size; i < end; i++) {
            value = qz_value(grid->value[packed[i / 2] >> (i % 2 * 4) & 15], scale, zero, grid->zero);
            if (dtype == QZ_F32)
                wide[i] = value;
            else
                narrow[i] = dtype == QZ_F16 ? qz_f16_from_f32(value) : qz_bf16_from_f32(value);
        }
    }
    return beyond;
}

static int columns_range(const float *x, ptrdiff_t stride, size_t lines, size_t width, float *copy, float *min,
                         float *max, struct qz_ahead *ahead)
{
    (void)ahead;
    int bad = 0;
    for (size_t i = 0; i < width; i++) {
        float column[QZ_COLUMN_MOST] = {0}, range[2];
        for (size_t k = 0; k < lines; k++)
            column[k] = copy[k * width + i] = x[(ptrdiff_t)k * stride + (ptrdiff_t)i];
        bad |= range_f32(column, lines, range);
        min[i] = range[0];
        max[i] = range[1];
    }
    return bad;
}

static size_t columns_codes(const float *x, size_t lines, size_t width, const struct qz_grid *grid,
                            const float *inverse, const float *zero, uint8_t *packed, ptrdiff_t pitch,
                            struct qz_ahead *ahead)
{
    (void)ahead;
    size_t clipped = 0;
    for (size_t i = 0; i < width; i++) {
        float column[QZ_COLUMN_MOST] = {0};
        for (size_t k = 0; k < lines; k++)
            column[k] = x[k * width + i];
        clipped += group_codes(column, lines, lines, grid, &inverse[i], &zero[i], packed + (ptrdiff_t)i * pitch);
    }
    return clipped;
}

static void columns_decode(const uint8_t *packed, ptrdiff_t pitch, size_t lines, size_t width,
                           const struct qz_grid *grid, const float *scale, const float *zero, float *dst,
                           ptrdiff_t stride)
{
    for (size_t i = 0; i < width; i++) {
        float column[QZ_COLUMN_MOST] = {0};
        group_decode(packed + (ptrdiff_t)i * pitch, lines, lines, grid, &scale[i], &zero[i], column);
        for (size_t k = 0; k < lines; k++)
            dst[(ptrdiff_t)k * stride + (ptrdiff_t)i] = column[k];
    }
}

static size_t find_error(const float *x, const float *y, size_t n, float wanted)
{
    for (size_t i = 0; i < n; i++)
        if (fabsf(x[i] - y[i]) == wanted)
            return i;
    return n;
}

static double weighted_error(const float *x, const float *y, const float *w, size_t n)
{
    double lane[QZ_WEIGHTED_LANES] = {0};
    for (size_t i = 0; i < n; i++)
        lane[i % QZ_WEIGHTED_LANES] = qz_weighted_square(x[i], y[i], w[i], lane[i % QZ_WEIGHTED_LANES]);
    return qz_weighted_lanes(lane);
}

static double dot(const float *x, const float *y, size_t n)
{
    double lane[QZ_WEIGHTED_LANES] = {0};
    for (size_t i = 0; i < n; i++)
        lane[i % QZ_WEIGHTED_LANES] += (double)x[i] * (double)y[i];
    return qz_weighted_lanes(lane);
}

static double distance(const float *x, const float *y, size_t n)
{
    double lane[QZ_WEIGHTED_LANES] = {0};
    for (size_t i = 0; i < n; i++)
        lane[i % QZ_WEIGHTED_LANES] = qz_squared_difference(x[i], y[i], lane[i % QZ_WEIGHTED_LANES]);
    return qz_weighted_lanes(lane);
}

#include "affine_scalar.h"
#include "nearest_scalar.h"
#include "products_scalar.h"
#include "signs_scalar.h"

static void measure(const struct qz_measure *rule, size_t n, size_t groups, size_t pitch, float *scale,
                    const float *zero, float *bias, float *spread, float *size)
{
    for (size_t r = 0; r < n; r++) {
        spread[r] = size[r] = 0.0f;
        for (size_t g = 0, at = r; g < groups; g++, at += pitch)
            qz_measure_group(rule, scale + at, rule->kind == QZ_ZERO_NONE ? 0.0f : zero[at], bias + at, spread + r,
                             size + r);
        spread[r] = qz_measure_row(rule, spread[r], size[r]);
    }
}

static void reach(const struct qz_reach *rows, const int32_t *sum, size_t queries, const float *start,
                  const float (*factor)[2], const float *limit, uint64_t *within)
{
    for (size_t q = 0; q < queries; q++, sum += rows->groups * rows->pitch, start += rows->terms) {
        within[q] = 0;
        for (size_t r = 0; r < rows->rows; r++)
            if (!(qz_upper_of_row(rows, factor[q], r, qz_near_of_row(rows, sum, start, r)) < limit[q]))
                within[q] |= (uint64_t)1 << r;
    }
}

#include "search_scalar.h"

#include "rule_search_scalar.h"

#include "fixed_scalar.h"
#include "fixed_affine_scalar.h"
#include "look_scalar.h"

#define TARGET /* nothing to enable */
#include "input_template.h"
#include "special_template.h"

/* ---- matrices ------------------------------------------------------------------------------------------------ */

static void multiply_add(const double *a, size_t a_pitch, size_t cols, const double *x, size_t x_pitch, size_t rows,
                         size_t depth, double *y, size_t y_pitch)
{
    for (size_t c = 0; c < cols; c++)
        for (size_t k = 0; k < depth; k++)
            for (size_t r = 0; r < rows; r++)
                y[c * y_pitch + r] = fma(a[k * a_pitch + c], x[k * x_pitch + r], y[c * y_pitch + r]);
}

static void project(const float *x, size_t rows, size_t cols, const float *matrix, size_t outs, size_t count, float *y)
{
    for (size_t r = 0; r < rows; r++, x += cols, y += outs) {
        memset(y, 0, count * sizeof *y);
        for (size_t i = 0; i < cols; i++)
            for (size_t j = 0; j < count; j++)
                y[j] += x[i] * matrix[i * outs + j];
    }
}

static void products(const float *x, size_t rows, size_t ahead, const float *w, size_t w_pitch, size_t sides, size_t n,
                     float *sum)
{
    (void)ahead;
    for (size_t s = 0; s < sides; s++)
        for (size_t r = 0; r < rows; r++)
            for (size_t first = 0, end; first < n; first = end) {
                float chain[QZ_SIDE] = {0};
                end = n - first < QZ_PRODUCT_CHAIN ? n : first + QZ_PRODUCT_CHAIN;
                for (size_t k = first; k < end; k++)
                    for (size_t c = 0; c < QZ_SIDE; c++)
                        chain[c] = fmaf(x[k * rows + r], w[s * w_pitch + k * QZ_SIDE + c], chain[c]);
                for (size_t c = 0; c < QZ_SIDE; c++)
                    sum[(r * sides + s) * QZ_SIDE + c] += chain[c];
            }
}

static void product_outputs(const float *sum, size_t rows, size_t n, float *y, ptrdiff_t y_pitch)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++)
            y[(ptrdiff_t)r * y_pitch + (ptrdiff_t)i] = isnan(sum[r * n + i]) ? qz_float(0x7fc00000u) : sum[r * n + i];
}

static void product_numbers(qz_zero kind, float unit, float base, size_t groups, float *scale, float *bias,
                            uint8_t strange[QZ_SIDE])
{
    memset(strange, 0, QZ_SIDE);
    for (size_t i = 0; i < groups * QZ_SIDE; i++) {
        float size = fabsf(scale[i]), part = scale[i] * base, of_zero = scale[i] * bias[i];
        bias[i] = kind == QZ_ZERO_NONE ? part : kind == QZ_ZERO_OFFSET ? part + bias[i] : part - of_zero;
        scale[i] *= unit;
        if (!(size <= QZ_ORDINARY_MOST && (size >= QZ_ORDINARY_LEAST || size == 0.0f)) ||
            !(fabsf(bias[i]) <= QZ_ORDINARY_MOST))
            strange[i % QZ_SIDE] = 1;
    }
}

const struct qz_kernels qz_kernels_scalar = QZ_KERNEL_TABLE("scalar", 0, product, NULL, NULL);
