/*
 * recode.c - rewrites the numbers of one scheme as those of another scheme that decode to the same values
 *
 * Codes keep their places; only the numbers beside them are expressed in another way. A value is
 *
 *     scale * (code - zero)    or    scale * code + offset
 *
 * An offset of -zero * scale gives the same value where neither product is rounded, except for the sign of 0. A float
 * zero that has the value of an integer can become an integer. int4 codes are uint4 codes with zeros of 8. A group may
 * become several groups with the same numbers.
 */
#include "recode.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* ---- numbers in their types ---- */

typedef struct float_type {
    int mantissa, least, most; /* bits after the point; exponents of the least and the largest normal number */
    float largest;
} float_type;

static const float_type float16 = {10, -14, 15, 65504}, e4m3 = {3, -6, 8, 448};

/* 2^e, a normal number: what ldexpf() multiplies by. */
static float power_of(int e)
{
    const uint32_t bits = (uint32_t)(e + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

static float from_bits(const float_type *t, unsigned bits, int width)
{
    unsigned exponent = bits >> t->mantissa & ((1u << (width - 1 - t->mantissa)) - 1);
    unsigned mantissa = bits & ((1u << t->mantissa) - 1);
    if (exponent != 0)
        mantissa |= 1u << t->mantissa;
    float magnitude = (float)mantissa * power_of((int)exponent - (exponent != 0) + t->least - t->mantissa);
    return bits >> (width - 1) & 1 ? -magnitude : magnitude;
}

/* The bits of a number that is one of the type; -1 if it is none. */
static long to_bits(const float_type *t, float x, int width)
{
    float magnitude = fabsf(x);
    long sign = signbit(x) ? 1L << (width - 1) : 0;
    if (magnitude == 0)
        return sign;
    if (!(magnitude <= t->largest))
        return -1;
    int exponent = ilogbf(magnitude);
    if (exponent < t->least)
        exponent = t->least;
    float units = magnitude * power_of(t->mantissa - exponent);
    if (units != floorf(units))
        return -1;
    return sign + ((long)(exponent - t->least) << t->mantissa) + (long)units;
}

/* Finite numbers only: what is read was validated. */
static float load(qz_dtype dtype, const void *at)
{
    uint16_t half;
    uint32_t word;
    float x;
    switch (dtype) {
    case QZ_F32:
        memcpy(&x, at, sizeof x);
        return x;
    case QZ_F16:
        memcpy(&half, at, sizeof half);
        return from_bits(&float16, half, 16);
    case QZ_BF16:
        memcpy(&half, at, sizeof half);
        word = (uint32_t)half << 16;
        memcpy(&x, &word, sizeof x);
        return x;
    case QZ_E4M3:
        return from_bits(&e4m3, *(const uint8_t *)at, 8);
    default:
        return ldexpf(1.0f, *(const uint8_t *)at - 127);
    }
}

/* Stores a number if the type has it. */
static int store(qz_dtype dtype, float x, void *at)
{
    uint32_t word;
    long bits = -1;
    uint16_t half;
    memcpy(&word, &x, sizeof word);
    switch (dtype) {
    case QZ_F32:
        memcpy(at, &x, sizeof x);
        return isfinite(x);
    case QZ_F16:
        bits = to_bits(&float16, x, 16);
        break;
    case QZ_BF16:
        bits = isfinite(x) && (word & 0xffff) == 0 ? (long)(word >> 16) : -1;
        break;
    case QZ_E4M3:
        bits = to_bits(&e4m3, x, 8);
        break;
    default:
        if (x > 0 && isfinite(x) && ldexpf(1.0f, ilogbf(x)) == x && ilogbf(x) >= -127)
            bits = ilogbf(x) + 127;
        break;
    }
    if (bits < 0)
        return 0;
    half = (uint16_t)bits;
    if (qz_dtype_size(dtype) == 1)
        *(uint8_t *)at = (uint8_t)bits;
    else
        memcpy(at, &half, sizeof half);
    return 1;
}

/* ---- whether ---- */

static int has_own_scales(const qz_scheme *s)
{
    return s->scale_dtype == QZ_F32 || s->scale_dtype == QZ_F16 || s->scale_dtype == QZ_BF16 ||
           s->scale_dtype == QZ_E4M3 || s->scale_dtype == QZ_E8M0;
}

static int is_integer(const qz_scheme *s)
{
    return s->codes == QZ_INT4 || (s->codes == QZ_UINT4 && s->zero == QZ_ZERO_UINT4);
}

/* Whether values are scale * (code - zero). */
static int has_zeros(const qz_scheme *s)
{
    return is_integer(s) || (s->codes == QZ_UINT4 && s->zero == QZ_ZERO_FLOAT);
}

static int has_offsets(const qz_scheme *s)
{
    return s->codes == QZ_UINT4 && s->zero == QZ_ZERO_OFFSET && s->super_size == 0;
}

/* Whether every number of a type is one of another. */
static int is_wider(qz_dtype wide, qz_dtype narrow)
{
    return wide == narrow || wide == QZ_F32 || (wide == QZ_F16 && narrow == QZ_E4M3) ||
           (wide == QZ_BF16 && (narrow == QZ_E4M3 || narrow == QZ_E8M0));
}

static recode_grade grade_scales(const qz_scheme *from, const qz_scheme *to)
{
    if (from->super_size == to->super_size && from->super_dtype == to->super_dtype &&
        from->scale_dtype == to->scale_dtype)
        return RECODE_ALWAYS;
    if (!has_own_scales(from) || !has_own_scales(to) || (to->super_size != 0 && from->super_size != 0))
        return RECODE_NEVER;
    if (to->super_size != 0) /* with a super scale of 1 */
        return to->super_size == QZ_WHOLE_MATRIX && to->super_dtype == QZ_F32 && from->scale_dtype == to->scale_dtype
                   ? RECODE_ALWAYS
                   : RECODE_NEVER;
    if (from->super_size != 0) /* scale * super, as decoding rounds it */
        return from->super_size != QZ_WHOLE_MATRIX || from->super_dtype != QZ_F32 ? RECODE_NEVER
               : to->scale_dtype == QZ_F32                                        ? RECODE_ALWAYS
                                                                                  : RECODE_PERHAPS;
    return is_wider(to->scale_dtype, from->scale_dtype) ? RECODE_ALWAYS : RECODE_PERHAPS;
}

static recode_grade grade_zeros(const qz_scheme *from, const qz_scheme *to)
{
    if (from->codes == to->codes && from->zero == to->zero)
        return from->codes == QZ_TABLE && memcmp(from->table, to->table, 16 * sizeof *to->table) != 0 ? RECODE_NEVER
                                                                                                      : RECODE_ALWAYS;
    if (has_zeros(from) && has_zeros(to))
        return from->codes == QZ_INT4 || to->zero == QZ_ZERO_FLOAT ? RECODE_ALWAYS : RECODE_PERHAPS;
    if (is_integer(from) && has_offsets(to) && to->scale_dtype == QZ_F32 && from->super_size == 0 &&
        (from->scale_dtype == QZ_F16 || from->scale_dtype == QZ_E4M3)) /* no product with a zero is rounded */
        return RECODE_ALWAYS;
    return (has_zeros(from) && has_offsets(to)) || (has_offsets(from) && has_zeros(to)) ? RECODE_PERHAPS : RECODE_NEVER;
}

recode_grade recode_grade_of(const qz_scheme *from, const qz_scheme *to)
{
    recode_grade scales = grade_scales(from, to), zeros = grade_zeros(from, to);
    int same = from->group_size == to->group_size;
    if (!same && (from->super_size != 0 || to->super_size != 0))
        return RECODE_NEVER;
    if (!same && from->group_size != QZ_WHOLE_ROW && from->group_size % to->group_size != 0)
        return RECODE_NEVER;
    return scales < zeros ? scales : zeros;
}

/* ---- how ---- */

typedef struct recoder {
    const qz_scheme *from, *to;
    const qz_packed *src, *dst;
    uint64_t cols;
    char *why;
    size_t why_size;
} recoder;

static int refuse(const recoder *r, uint64_t row, uint64_t group, const char *what, double number)
{
    snprintf(r->why, r->why_size, "row %" PRIu64 ", group %" PRIu64 " of the block: %s %.9g", row, group, what, number);
    return 0;
}

static unsigned nibble_at(const void *row, uint64_t i)
{
    return (unsigned)((const uint8_t *)row)[i / 2] >> (i % 2 * 4) & 15u;
}

static void set_nibble(void *row, uint64_t i, unsigned value)
{
    uint8_t *at = (uint8_t *)row + i / 2;
    *at = (uint8_t)(i % 2 != 0 ? (*at & 15u) | value << 4 : value);
}

/* What stands beside the codes of a group; a zero that is a float is kept as the offset. */
typedef struct numbers {
    float scale, offset;
    unsigned zero;
} numbers;

static numbers numbers_of(const recoder *r, uint64_t row, uint64_t group)
{
    const qz_scheme *s = r->from;
    size_t size = qz_dtype_size(s->scale_dtype);
    const char *scales = (const char *)r->src->scales + (int64_t)row * r->src->scale_stride;
    const char *zeros = (const char *)r->src->zeros + (r->src->zeros ? (int64_t)row * r->src->zero_stride : 0);
    numbers n = {load(s->scale_dtype, scales + group * size), 0, 8};
    if (s->super_size != 0 && r->to->super_size == 0)
        n.scale *= load(QZ_F32, r->src->supers);
    if (s->zero == QZ_ZERO_UINT4)
        n.zero = nibble_at(zeros, group);
    else if (s->zero != QZ_ZERO_NONE)
        n.offset = load(s->scale_dtype, zeros + group * size);
    return n;
}

/* Whether sums and products with codes are the same in both forms: no product is rounded. The sign of a 0 may be
 * another: -1 * (8 - 8) is -0, and -1 * 8 + 8 is 0. */
static int is_exact(float scale)
{
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    return (bits & 15) == 0 && fabsf(scale) <= 0x1p120f;
}

static int is_zero(float zero)
{
    return zero >= 0 && zero <= 15 && zero == floorf(zero);
}

/* The integer that the zero or the offset of a group is. */
static int find_zero(const recoder *r, uint64_t row, uint64_t group, numbers *n)
{
    if (r->from->zero == QZ_ZERO_FLOAT && !is_zero(n->offset))
        return refuse(r, row, group, "no zero from 0 to 15 is", (double)n->offset);
    if (r->from->zero == QZ_ZERO_FLOAT)
        n->zero = (unsigned)n->offset;
    if (r->from->zero != QZ_ZERO_OFFSET)
        return 1;
    float zero = -n->offset / n->scale;
    if (!is_exact(n->scale))
        return refuse(r, row, group, "products with codes are rounded for the scale", (double)n->scale);
    if (!is_zero(zero) || zero * n->scale != -n->offset)
        return refuse(r, row, group, "no zero from 0 to 15 stands for the offset", (double)n->offset);
    n->zero = (unsigned)zero;
    return 1;
}

/* Says the zero of a group as an offset, or the other way round. */
static int turn_zero(const recoder *r, uint64_t row, uint64_t group, numbers *n)
{
    int had = r->from->zero == QZ_ZERO_OFFSET;
    if (r->from->zero == r->to->zero || (n->scale == 0 && n->offset == 0 && had))
        return 1;
    if (!find_zero(r, row, group, n))
        return 0;
    if (r->to->zero == QZ_ZERO_OFFSET && !is_exact(n->scale))
        return refuse(r, row, group, "products with codes are rounded for the scale", (double)n->scale);
    n->offset = r->to->zero == QZ_ZERO_OFFSET ? 0.0f - n->scale * (float)n->zero : (float)n->zero;
    return 1;
}

static int refuse_number(const recoder *r, uint64_t row, uint64_t group, float number)
{
    char what[80];
    snprintf(what, sizeof what, "%s has no", qz_dtype_name(r->to->scale_dtype));
    return refuse(r, row, group, what, (double)number);
}

static int put_numbers(const recoder *r, uint64_t row, uint64_t group, const numbers *n)
{
    const qz_scheme *s = r->to;
    size_t size = qz_dtype_size(s->scale_dtype);
    char *scales = (char *)r->dst->scales + (int64_t)row * r->dst->scale_stride;
    char *zeros = (char *)r->dst->zeros + (r->dst->zeros ? (int64_t)row * r->dst->zero_stride : 0);
    if (!store(s->scale_dtype, n->scale, scales + group * size))
        return refuse_number(r, row, group, n->scale);
    if (s->zero == QZ_ZERO_UINT4)
        set_nibble(zeros, group, n->zero);
    else if (s->zero == QZ_ZERO_NONE && r->from->zero != QZ_ZERO_NONE && n->zero != 8)
        return refuse(r, row, group, "int4 has zeros of 8, not", n->zero);
    else if (s->zero != QZ_ZERO_NONE && !store(s->scale_dtype, n->offset, zeros + group * size))
        return refuse_number(r, row, group, n->offset);
    return 1;
}

/* ---- many groups at a time ---- */

enum { SOME = 256 };

/* What load() gives for some numbers of two or four bytes. */
static void load_some(qz_dtype dtype, const void *from, size_t count, float *to)
{
    uint16_t halves[SOME];
    uint32_t words[SOME];
    memcpy(dtype == QZ_F32 ? (void *)to : halves, from, count * (dtype == QZ_F32 ? sizeof *to : sizeof *halves));
    if (dtype == QZ_F32)
        return;
    if (dtype == QZ_BF16) {
        for (size_t i = 0; i < count; i++)
            words[i] = (uint32_t)halves[i] << 16;
        memcpy(to, words, count * sizeof *to);
        return;
    }
    for (size_t i = 0; i < count; i++) /* with the exponent of float16, which the product corrects */
        words[i] = (uint32_t)(halves[i] & 0x8000) << 16 | (uint32_t)(halves[i] & 0x7fff) << 13;
    memcpy(to, words, count * sizeof *to);
    for (size_t i = 0; i < count; i++)
        to[i] *= 0x1p112f;
}

/* Whether numbers of groups only become wider ones, or offsets besides, and groups stay what they are. */
static int is_plain(const qz_scheme *from, const qz_scheme *to)
{
    const int wide = from->scale_dtype == QZ_F32 || from->scale_dtype == QZ_F16 || from->scale_dtype == QZ_BF16;
    const int zeros = (from->zero == QZ_ZERO_NONE && to->zero == QZ_ZERO_NONE) ||
                      (from->zero == QZ_ZERO_OFFSET && to->zero == QZ_ZERO_OFFSET) ||
                      (is_integer(from) && to->zero == QZ_ZERO_OFFSET);
    return wide && zeros && to->scale_dtype == QZ_F32 && from->super_size == 0 && to->super_size == 0 &&
           from->group_size == to->group_size;
}

/* Offsets instead of zeros from a group on, the number of which is even; 0 if a product would be rounded. */
static int find_offsets(const recoder *r, const uint8_t *zeros, size_t count, const float *scale, float *offset)
{
    int exact = 1;
    for (size_t i = 0; i < count; i++)
        offset[i] = r->from->zero == QZ_ZERO_NONE ? 8.0f : (float)(zeros[i / 2] >> (i % 2 * 4) & 15);
    for (size_t i = 0; i < count; i++) {
        exact &= is_exact(scale[i]);
        offset[i] = 0.0f - scale[i] * offset[i];
    }
    return exact;
}

static int all_finite(const float *values, size_t count)
{
    int finite = 1;
    for (size_t i = 0; i < count; i++)
        finite &= fabsf(values[i]) <= FLT_MAX;
    return finite;
}

/* As recode_row(), where is_plain(); 0: groups have to be looked at one by one, to say what is wrong. */
static int recode_plain_row(const recoder *r, uint64_t row)
{
    const uint64_t size = r->to->group_size, groups = size >= r->cols ? 1 : r->cols / size + (r->cols % size != 0);
    const size_t each = qz_dtype_size(r->from->scale_dtype);
    const char *scales = (const char *)r->src->scales + (int64_t)row * r->src->scale_stride;
    const char *zeros = (const char *)r->src->zeros + (r->src->zeros ? (int64_t)row * r->src->zero_stride : 0);
    char *to = (char *)r->dst->scales + (int64_t)row * r->dst->scale_stride;
    char *offsets = (char *)r->dst->zeros + (r->dst->zeros ? (int64_t)row * r->dst->zero_stride : 0);
    float scale[SOME], offset[SOME];
    int fine = 1;
    for (uint64_t g = 0; g < groups && fine; g += SOME) {
        const size_t count = groups - g < SOME ? (size_t)(groups - g) : SOME;
        load_some(r->from->scale_dtype, scales + g * each, count, scale);
        fine = all_finite(scale, count);
        memcpy(to + g * sizeof *scale, scale, count * sizeof *scale);
        if (r->to->zero == QZ_ZERO_NONE)
            continue;
        if (r->from->zero == QZ_ZERO_OFFSET)
            load_some(r->from->scale_dtype, zeros + g * each, count, offset);
        else
            fine &= find_offsets(r, (const uint8_t *)zeros + g / 2, count, scale, offset);
        fine &= all_finite(offset, count);
        memcpy(offsets + g * sizeof *offset, offset, count * sizeof *offset);
    }
    return fine;
}

static int recode_row(const recoder *r, uint64_t row)
{
    if (is_plain(r->from, r->to) && recode_plain_row(r, row))
        return 1;
    uint64_t size = r->to->group_size, groups = size >= r->cols ? 1 : r->cols / size + (r->cols % size != 0);
    for (uint64_t g = 0; g < groups; g++) {
        uint64_t of = r->from->group_size >= r->cols ? 0 : g * size / r->from->group_size;
        numbers n = numbers_of(r, row, of);
        if (!turn_zero(r, row, of, &n) || !put_numbers(r, row, g, &n))
            return 0;
    }
    return 1;
}

static void recode_codes(const recoder *r, uint64_t row)
{
    uint64_t bytes = r->cols / 2 + r->cols % 2;
    const uint8_t *src = (const uint8_t *)r->src->codes + (int64_t)row * r->src->code_stride;
    uint8_t *dst = (uint8_t *)r->dst->codes + (int64_t)row * r->dst->code_stride;
    uint8_t flip = (r->from->codes == QZ_INT4) != (r->to->codes == QZ_INT4) ? 0x88 : 0;
    for (uint64_t i = 0; i < bytes; i++)
        dst[i] = src[i] ^ flip;
    if (r->cols % 2 != 0)
        dst[bytes - 1] &= 15;
}

/* Scales as they are, whatever their types and super scales. */
static void copy_numbers(const recoder *r, uint64_t rows)
{
    qz_sizes sizes = {.size = sizeof sizes};
    if (qz_scheme_sizes(r->from, rows, r->cols, &sizes) != QZ_OK)
        return; /* it was read, so it has a size */
    memcpy(r->dst->scales, r->src->scales, rows * sizes.scale_bytes);
    if (sizes.zero_bytes != 0)
        memcpy(r->dst->zeros, r->src->zeros, rows * sizes.zero_bytes);
    if (sizes.super_bytes != 0)
        memcpy(r->dst->supers, r->src->supers,
               r->from->super_size == QZ_WHOLE_MATRIX ? sizes.super_bytes : rows * sizes.super_bytes);
}

static int numbers_stay(const qz_scheme *from, const qz_scheme *to)
{
    return from->zero == to->zero && from->group_size == to->group_size && from->scale_dtype == to->scale_dtype &&
           from->super_size == to->super_size;
}

int recode_is_nothing(const qz_scheme *from, const qz_scheme *to, uint64_t cols)
{
    return numbers_stay(from, to) && from->codes == to->codes && cols % 2 == 0;
}

int recode_block(const qz_scheme *from, const qz_packed *src, const qz_scheme *to, const qz_packed *dst, uint64_t rows,
                 uint64_t cols, char *why, size_t why_size)
{
    const recoder r = {from, to, src, dst, cols, why, why_size};
    const float one = 1.0f;
    int as_is = numbers_stay(from, to);
    if (as_is)
        copy_numbers(&r, rows);
    else if (to->super_size != 0)
        memcpy(dst->supers, &one, sizeof one);
    for (uint64_t row = 0; row < rows; row++) {
        if (src->codes)
            recode_codes(&r, row);
        if (!as_is && cols != 0 && !recode_row(&r, row))
            return 0;
    }
    return 1;
}
