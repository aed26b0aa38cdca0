/*
 * reference.c - the plain rules of other tools, number for number
 *
 * Every operation is in float32 and in the order in which the tool has it; where the tool works in float16 or bfloat16,
 * each result is then rounded to that type, which is how PyTorch does it on the CPU. What looks odd here is odd there.
 * Where a tool converts an infinity or NaN to an integer, which C leaves undefined, the code is the 0 that x86 makes of
 * it.
 */
#include "reference.h"
#include "../base/number.h"

#include <float.h>
#include <math.h>

enum { SEARCHED = 32 }; /* values in a group of the rules that search */

/* ---- numbers ------------------------------------------------------------------------------------------------- */

/* Rounds to float16 or bfloat16; other types hold any float32, or are not for this. */
static float stored(float x, qz_dtype dtype)
{
    return dtype == QZ_F16    ? qz_f32_from_f16(qz_f16_from_f32(x))
           : dtype == QZ_BF16 ? qz_f32_from_bf16(qz_bf16_from_f32(x))
                              : x;
}

static float inverse(float x)
{
    return x != 0.0f ? 1.0f / x : 0.0f;
}

static float larger(float a, float b)
{
    return a > b ? a : b;
}

/* Rounds to E4M3 as ggml does: halves up, and what would be 256 or more becomes 448. */
static float ggml_e4m3(float x)
{
    if (!(x > 0.0f))
        return 0.0f;
    if (x < 0x1p-6f) {
        int steps = (int)(x * 512.0f + 0.5f);
        return (float)(steps < 7 ? steps : 7) / 512.0f;
    }
    float rounded = qz_float((qz_bits(x) + 0x80000u) & 0xfff00000u);
    return rounded < 256.0f ? rounded : 448.0f;
}

/* Integers lo..hi by truncation. */
static int truncate_to(float y, int lo, int hi)
{
    if (!(fabsf(y) < 0x1p31f))
        return lo > 0 ? lo : 0;
    int i = (int)y;
    return i < lo ? lo : i > hi ? hi : i;
}

/* 0..15 of a float without fraction, clamped before it is converted. */
static int level(float y)
{
    return y > 0.0f ? y < 15.0f ? (int)y : 15 : 0;
}

static int count_above(float y, const float *points, int n)
{
    int count = 0;
    while (count < n && y > points[count])
        count++;
    return count;
}

/* ---- values to codes ------------------------------------------------------------------------------------------- */

static const float e2m1[8] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
static const float iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static int code_q4_0(const struct qz_reference *fit, float x)
{
    return truncate_to(x * fit->by + 8.5f, 0, 15);
}

static int code_q4_1(const struct qz_reference *fit, float x)
{
    return truncate_to((x - fit->from) * fit->by + 0.5f, 0, 15);
}

/* Ties away from zero, after the zero was added. */
static int code_matmulnbits(const struct qz_reference *fit, float x)
{
    return level(roundf(x * fit->by + fit->from));
}

/* Ties to even, after the zero was added: -8..7 first, as in a signed byte. */
static int code_compressed_tensors(const struct qz_reference *fit, float x)
{
    float y = stored(x / fit->by, fit->type);
    return level(rintf(stored(y + fit->from, fit->type)) + 8.0f);
}

/* Ties to even, before the zero is added. */
static int code_gptq(const struct qz_reference *fit, float x)
{
    return level(rintf(x / fit->by) + fit->from);
}

/* The same in float16, to which the values are rounded first. */
static int code_awq(const struct qz_reference *fit, float x)
{
    return level(rintf(stored(stored(x, QZ_F16) / fit->by, QZ_F16)) + fit->from);
}

/* The nearest, the smaller of two; never -0. */
static int code_e2m1(const struct qz_reference *fit, float x)
{
    float size = fabsf(x), least = size;
    int code = 0;
    for (int i = 1; i < 8; i++) {
        float error = fabsf(e2m1[i] * fit->by - size);
        if (error < least) {
            least = error;
            code = i;
        }
    }
    return code && x < 0.0f ? code + 8 : code;
}

/* The nearest, ties to an even code; what is below zero stays there as -0. */
static int code_e2m1_even(const struct qz_reference *fit, float x)
{
    float y = stored(x / fit->by, fit->type), size = fabsf(y);
    int code = (size > 0.25f) + (size >= 0.75f) + (size > 1.25f) + (size >= 1.75f) + (size > 2.5f) + (size >= 3.5f) +
               (size > 5.0f);
    return y < 0.0f ? code + 8 : code;
}

/* A value for bitsandbytes, which clamps it to -1..1; that changes no code. */
static float normalized(const struct qz_reference *fit, float x)
{
    return fit->divide ? x / fit->by : x * fit->by;
}

/* Ties go down. Points are float32 numbers, halfway between the values of codes, and that rounded. */
static int code_nf4(const struct qz_reference *fit, float x)
{
    static const float points[15] = {-0x1.b239b0p-1f, -0x1.38a4e0p-1f, -0x1.d70900p-2f, -0x1.5bd4ecp-2f,
                                     -0x1.e079d8p-3f, -0x1.1a7178p-3f, -0x1.74f0e2p-5f, 0x1.45f5fep-5f,
                                     0x1.ec90c4p-4f,  0x1.a0cfc0p-3f,  0x1.2b05a8p-2f,  0x1.8ea7f2p-2f,
                                     0x1.00da08p-1f,  0x1.491b5ep-1f,  0x1.b913b4p-1f};
    return count_above(normalized(fit, x), points, 15);
}

/* Sorting the values of the codes leaves 0 before -0, and a tie goes down: what is positive and next to 0 becomes -0,
 * what is negative and there becomes 0. */
static int code_fp4(const struct qz_reference *fit, float x)
{
    static const float points[15] = {-0x1.aaaaacp-1f, -0x1.2aaaacp-1f, -0x1.aaaaacp-2f, -0x1.2aaaacp-2f,
                                     -0x1.aaaaacp-3f, -0x1.600000p-4f, -0x1.555556p-9f, 0.0f,
                                     0x1.555556p-9f,  0x1.600000p-4f,  0x1.aaaaacp-3f,  0x1.2aaaacp-2f,
                                     0x1.aaaaacp-2f,  0x1.2aaaacp-1f,  0x1.aaaaacp-1f};
    static const uint8_t ascending[16] = {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3};
    return ascending[count_above(normalized(fit, x), points, 15)];
}

/* The nearest, the larger of two. */
static int code_iq4(const struct qz_reference *fit, float x)
{
    float y = x * fit->by;
    if (y <= iq4[0])
        return 0;
    int low = 0;
    while (low < 14 && y >= iq4[low + 1])
        low++;
    return y - iq4[low] < iq4[low + 1] - y ? low : low + 1;
}

/* ---- ranges to scales ------------------------------------------------------------------------------------------ */

static float largest_magnitude(const struct qz_reference_range *range)
{
    return fabsf(range->largest);
}

static void fit_q4_0(const struct qz_reference_how *how, const struct qz_reference_range *range,
                     struct qz_reference *fit)
{
    (void)how;
    float d = range->largest / -8.0f;
    fit->scale[0] = stored(d, QZ_F16);
    fit->by = inverse(d);
    fit->offset = 8;
}

static void fit_q4_1(const struct qz_reference_how *how, const struct qz_reference_range *range,
                     struct qz_reference *fit)
{
    (void)how;
    float d = (range->max - range->min) / 15.0f;
    fit->scale[0] = stored(d, QZ_F16);
    fit->zero[0] = stored(range->min, QZ_F16);
    fit->by = inverse(d);
    fit->from = range->min;
}

static void fit_mxfp4(const struct qz_reference_how *how, const struct qz_reference_range *range,
                      struct qz_reference *fit)
{
    (void)how;
    float largest = largest_magnitude(range);
    /* The logarithm is rounded to float32 before it is rounded down: just below a power of two that gives the power.
     * Through double it comes out the same with any mathematical library. The exponent wraps around in its byte. */
    int e = largest > 0.0f ? ((int)floorf((float)log2((double)largest)) + 125) & 255 : 0;
    fit->scale[0] = fit->by = qz_f32_from_e8m0((uint8_t)e);
}

static void fit_nvfp4(const struct qz_reference_how *how, const struct qz_reference_range *range,
                      struct qz_reference *fit)
{
    (void)how;
    fit->scale[0] = fit->by = ggml_e4m3(largest_magnitude(range) / 6.0f);
}

/* ONNX Runtime makes codes with the scale as stored in float32 or float16. Weights in bfloat16 become float32 before,
 * and their scales bfloat16 when all is done. */
static float known_scale(float s, qz_dtype dtype)
{
    return dtype == QZ_F16 ? stored(s, dtype) : s;
}

static void fit_matmulnbits(const struct qz_reference_how *how, const struct qz_reference_range *range,
                            struct qz_reference *fit)
{
    float end = fabsf(range->max) > fabsf(range->min) ? range->max : range->min, s = end / -8.0f;
    fit->scale[0] = stored(s, how->scale_dtype);
    fit->by = inverse(known_scale(s, how->scale_dtype));
    fit->from = 8.0f;
    fit->offset = 8;
}

static void fit_matmulnbits_zero(const struct qz_reference_how *how, const struct qz_reference_range *range,
                                 struct qz_reference *fit)
{
    float min = range->min < 0.0f ? range->min : 0.0f, s = (larger(range->max, 0.0f) - min) / 15.0f;
    fit->zero[0] = fit->from = s != 0.0f ? (float)level(roundf(0.0f - min / s)) : 0.0f;
    fit->scale[0] = stored(s, how->scale_dtype);
    fit->by = inverse(known_scale(s, how->scale_dtype));
}

static void fit_bitsandbytes(const struct qz_reference_how *how, const struct qz_reference_range *range,
                             struct qz_reference *fit)
{
    float largest = largest_magnitude(range), guarded = larger(largest, 1e-38f);
    fit->scale[0] = how->short_group ? guarded : largest;
    fit->divide = how->short_group;
    fit->by = how->short_group ? guarded : 1.0f / guarded;
}

/* The scale as stored; instead of 0 the machine epsilon of its type. */
static float stored_or_epsilon(float s, qz_dtype dtype)
{
    s = stored(s, dtype);
    return s != 0.0f ? s : dtype == QZ_F16 ? 0x1p-10f : dtype == QZ_BF16 ? 0x1p-7f : FLT_EPSILON;
}

/* compressed-tensors computes in the type of the weights, and codes with the scale as it is in that type. */
static void fit_compressed_tensors(const struct qz_reference_how *how, const struct qz_reference_range *range,
                                   struct qz_reference *fit)
{
    fit->type = how->weights;
    fit->scale[0] = stored_or_epsilon(stored(largest_magnitude(range) / 7.5f, fit->type), how->scale_dtype);
    fit->by = stored(fit->scale[0], fit->type);
    fit->offset = 8;
}

static void fit_compressed_tensors_zero(const struct qz_reference_how *how, const struct qz_reference_range *range,
                                        struct qz_reference *fit)
{
    fit->type = how->weights;
    float min = range->min < 0.0f ? range->min : 0.0f;
    float s = stored(stored(larger(range->max, 0.0f) - min, fit->type) / 15.0f, fit->type);
    float zero = stored(-8.0f - stored(min / s, fit->type), fit->type); /* infinite or NaN where s is 0 */
    fit->zero[0] = isnan(zero) ? 8.0f : (float)level(rintf(zero) + 8.0f);
    fit->from = fit->zero[0] - 8.0f;
    fit->scale[0] = stored_or_epsilon(s, how->scale_dtype);
    fit->by = stored(fit->scale[0], fit->type);
}

/* Only M / 6 is in the type of the weights: the divisor is a float32, and so is all that it meets. */
static void fit_compressed_tensors_nvfp4(const struct qz_reference_how *how, const struct qz_reference_range *range,
                                         struct qz_reference *fit)
{
    float s = how->divisor * stored(largest_magnitude(range) / 6.0f, how->weights);
    s = qz_f32_from_e4m3(qz_e4m3_from_f32(s < 448.0f ? s : 448.0f));
    fit->scale[0] = s != 0.0f ? s : 0.125f;
    fit->super[0] = how->divisor;
    fit->by = fit->scale[0] / how->divisor;
}

/* The exponent of the largest magnitude, one more from a mantissa of 1.75 on, is taken from the bits of the number in
 * the type of the weights. bfloat16 has those of float32. In float16, below 0.75 * 2^-14, the exponent is that of 0,
 * whose scale, 2^-127, is 0 there, and becomes the 1 that replaces a 0; from 57344 on the scale is infinite. */
static void fit_compressed_tensors_mxfp4(const struct qz_reference_how *how, const struct qz_reference_range *range,
                                         struct qz_reference *fit)
{
    float largest = largest_magnitude(range);
    int e;
    if (how->weights == QZ_F16) {
        e = (qz_f16_from_f32(largest) + 0x100) >> 10;
        e = e == 31 ? 255 : e > 0 ? e + 110 : 127;
    } else {
        e = (int)((qz_bits(largest) + 0x200000u) >> 23);
        e = e == 255 ? 255 : e > 2 ? e - 2 : 0;
    }
    fit->type = how->weights;
    fit->scale[0] = fit->by = qz_f32_from_e8m0((uint8_t)e);
}

static void fit_gptq(const struct qz_reference_how *how, const struct qz_reference_range *range,
                     struct qz_reference *fit)
{
    float largest = largest_magnitude(range), min = range->min < 0.0f ? -largest : 0.0f;
    if (largest == 0.0f) {
        min = -1.0f;
        largest = 1.0f;
    }
    fit->by = (largest - min) / 15.0f;
    fit->scale[0] = stored(fit->by, how->scale_dtype);
    fit->from = 8.0f;
    fit->offset = 8;
}

static void fit_gptq_zero(const struct qz_reference_how *how, const struct qz_reference_range *range,
                          struct qz_reference *fit)
{
    float min = range->min < 0.0f ? range->min : 0.0f, max = larger(range->max, 0.0f);
    if (range->largest == 0.0f) {
        min = -1.0f;
        max = 1.0f;
    }
    fit->by = (max - min) / 15.0f;
    fit->scale[0] = stored(fit->by, how->scale_dtype);
    fit->zero[0] = fit->from = (float)level(rintf(-min / fit->by));
}

/* AutoAWQ works in float16, whatever the weights were. The range need not hold 0. What is infinite there makes the
 * width infinite or NaN. */
static void fit_awq(const struct qz_reference_how *how, const struct qz_reference_range *range,
                    struct qz_reference *fit)
{
    float min = stored(range->min, QZ_F16), width = stored(stored(range->max, QZ_F16) - min, QZ_F16);
    float least = stored(1e-5f, QZ_F16);
    fit->by = stored((width < least ? least : width) / 15.0f, QZ_F16);
    fit->scale[0] = stored(fit->by, how->scale_dtype);
    fit->zero[0] = fit->from = (float)level(-rintf(stored(min / fit->by, QZ_F16)));
}

/* ---- the rules that search ------------------------------------------------------------------------------------- */

/* Sums over a group for the codes that are nearest to x * by: weights are the squares of the values. */
static void sums_iq4(const float *x, float by, float *along, float *square)
{
    struct qz_reference fit = {.by = by};
    *along = *square = 0.0f;
    for (int i = 0; i < SEARCHED; i++) {
        float q = iq4[code_iq4(&fit, x[i])], wq = x[i] * x[i] * q;
        *along += wq * x[i];
        *square += wq * q;
    }
}

/* The scale of a group, not rounded yet. */
static float search_iq4(const float *x)
{
    struct qz_reference_range range = QZ_REFERENCE_NOTHING;
    qz_reference_range(&range, x, SEARCHED);
    if (fabsf(range.largest) < 1e-15f)
        return 0.0f;
    float along, square;
    sums_iq4(x, 1.0f / (range.largest / 127.0f), &along, &square);
    float scale = along / square, best = scale * along;
    for (int t = -7; t <= 7; t++) {
        sums_iq4(x, (float)(t - 127) / range.largest, &along, &square);
        if (square > 0.0f && along * along > best * square) {
            scale = along / square;
            best = scale * along;
        }
    }
    return scale;
}

static void block_iq4_nl(const float *x, struct qz_reference *fit, uint8_t *codes)
{
    float d = search_iq4(x);
    fit->scale[0] = stored(d, QZ_F16);
    fit->by = inverse(d);
    qz_reference_codes(QZ_RULE_IQ4_NL, fit, x, SEARCHED, codes);
}

static void block_iq4_xs(const float *x, struct qz_reference *fit, uint8_t *codes)
{
    float found[QZ_REFERENCE_GROUPS];
    for (int g = 0; g < QZ_REFERENCE_GROUPS; g++)
        found[g] = search_iq4(x + g * SEARCHED);
    struct qz_reference_range range = QZ_REFERENCE_NOTHING;
    qz_reference_range(&range, found, QZ_REFERENCE_GROUPS);
    float d = -range.largest / 32.0f;
    fit->super[0] = stored(d, QZ_F16);
    for (int g = 0; g < QZ_REFERENCE_GROUPS; g++) {
        fit->scale[g] = (float)truncate_to(rintf(inverse(d) * found[g]), -32, 31);
        fit->by = inverse(d * fit->scale[g]);
        fit->super[0] = qz_is_finite(found[g]) ? fit->super[0] : NAN; /* ggml would leave the group out, and go on */
        qz_reference_codes(QZ_RULE_IQ4_XS, fit, x + g * SEARCHED, SEARCHED, codes + g * SEARCHED);
    }
}

/* A group of Q4_K: values, their weights, and the sums that do not change. */
struct q4_k {
    const float *x;
    float w[SEARCHED], sum_w, sum_x;
};

static void codes_q4_k(const struct q4_k *group, float min, float by, uint8_t *codes)
{
    for (int i = 0; i < SEARCHED; i++)
        codes[i] = (uint8_t)truncate_to(rintf(by * (group->x[i] - min)), 0, 15);
}

static float error_q4_k(const struct q4_k *group, float scale, float min, const uint8_t *codes)
{
    float sum = 0.0f;
    for (int i = 0; i < SEARCHED; i++) {
        float off = scale * (float)codes[i] + min - group->x[i];
        sum += group->w[i] * (off * off);
    }
    return sum;
}

/* Scale and minimum that suit codes best; 0 if the codes do not tell. */
static int refit_q4_k(const struct q4_k *group, const uint8_t *codes, float *scale, float *min)
{
    float sum_l = 0.0f, sum_l2 = 0.0f, sum_xl = 0.0f;
    for (int i = 0; i < SEARCHED; i++) {
        float l = (float)codes[i], wl = group->w[i] * l;
        sum_l += wl;
        sum_l2 += wl * l;
        sum_xl += wl * group->x[i];
    }
    float det = group->sum_w * sum_l2 - sum_l * sum_l;
    if (!(det > 0.0f))
        return 0;
    *scale = (group->sum_w * sum_xl - group->sum_x * sum_l) / det;
    *min = (sum_l2 * group->sum_x - sum_l * sum_xl) / det;
    if (*min > 0.0f) {
        *min = 0.0f;
        *scale = sum_xl / sum_l2;
    }
    return 1;
}

/* Scale, minimum and codes of a group, not rounded yet. */
static void search_q4_k(const float *x, float *scale, float *min, uint8_t *codes)
{
    struct q4_k group = {.x = x};
    float squares = 0.0f, max = x[0];
    *min = x[0];
    for (int i = 0; i < SEARCHED; i++) {
        squares += x[i] * x[i];
        *min = x[i] < *min ? x[i] : *min;
        max = larger(x[i], max);
    }
    float typical = sqrtf(squares / (float)SEARCHED);
    for (int i = 0; i < SEARCHED; i++) {
        group.w[i] = typical + fabsf(x[i]);
        group.sum_w += group.w[i];
        group.sum_x += group.w[i] * x[i];
    }
    *min = *min < 0.0f ? *min : 0.0f;
    if (max == *min) {
        *scale = 0.0f;
        memset(codes, 0, SEARCHED);
        return;
    }
    float by = 15.0f / (max - *min);
    *scale = 1.0f / by;
    codes_q4_k(&group, *min, by, codes);
    float best = error_q4_k(&group, *scale, *min, codes);
    for (int t = 0; t <= 20; t++) {
        uint8_t trial[SEARCHED];
        float new_scale, new_min;
        codes_q4_k(&group, *min, (14.0f + 0.1f * (float)t) / (max - *min), trial);
        if (!refit_q4_k(&group, trial, &new_scale, &new_min))
            continue;
        float error = error_q4_k(&group, new_scale, new_min, trial);
        if (error < best) {
            best = error;
            *scale = new_scale;
            *min = new_min; /* which the later trials count from */
            memcpy(codes, trial, SEARCHED);
        }
    }
}

/* Turns numbers into multiples 0..63 of the number that is returned. */
static float six_bits(float numbers[QZ_REFERENCE_GROUPS])
{
    float largest = 0.0f;
    for (int g = 0; g < QZ_REFERENCE_GROUPS; g++)
        largest = larger(numbers[g], largest);
    float by = largest > 0.0f ? 63.0f / largest : 0.0f;
    for (int g = 0; g < QZ_REFERENCE_GROUPS; g++)
        numbers[g] = (float)truncate_to(rintf(by * numbers[g]), 0, 63);
    return stored(largest / 63.0f, QZ_F16);
}

static void block_q4_k(const float *x, struct qz_reference *fit, uint8_t *codes)
{
    for (int g = 0; g < QZ_REFERENCE_GROUPS; g++) {
        float min;
        search_q4_k(x + g * SEARCHED, &fit->scale[g], &min, codes + g * SEARCHED);
        fit->zero[g] = -min;
    }
    fit->super[0] = six_bits(fit->scale);
    fit->super[1] = six_bits(fit->zero);
    for (int g = 0; g < QZ_REFERENCE_GROUPS; g++) {
        float by = fit->super[0] * fit->scale[g], min = fit->super[1] * fit->zero[g];
        for (int i = g * SEARCHED; i < (g + 1) * SEARCHED && by != 0.0f; i++)
            codes[i] = (uint8_t)truncate_to(rintf((x[i] + min) / by), 0, 15);
    }
}

/* ---- the table ------------------------------------------------------------------------------------------------- */

#define INT4     QZ_INT4, QZ_ZERO_NONE
#define UINT4    QZ_UINT4, QZ_ZERO_UINT4
#define OFFSET   QZ_UINT4, QZ_ZERO_OFFSET
#define TABLE(t) t, QZ_ZERO_NONE
#define NO_SUPER 0, 0

/* A rule either fits ranges or works on whole blocks. */
static const struct rule {
    struct qz_rule_info info;
    void (*fit)(const struct qz_reference_how *how, const struct qz_reference_range *range, struct qz_reference *fit);
    int (*code)(const struct qz_reference *fit, float x);
    void (*block)(const float *x, struct qz_reference *fit, uint8_t *codes);
} rules[] = {
    [QZ_RULE_Q4_0] = {{"q4_0", INT4, QZ_F16, NO_SUPER, 32, 32, QZ_ENDS_FULL}, fit_q4_0, code_q4_0, NULL},
    [QZ_RULE_Q4_1] = {{"q4_1", OFFSET, QZ_F16, NO_SUPER, 32, 32, QZ_ENDS_FULL}, fit_q4_1, code_q4_1, NULL},
    [QZ_RULE_MXFP4] = {{"mxfp4", TABLE(QZ_FP4), QZ_E8M0, NO_SUPER, 32, 32, QZ_ENDS_FULL}, fit_mxfp4, code_e2m1, NULL},
    [QZ_RULE_NVFP4] = {{"nvfp4", TABLE(QZ_FP4), QZ_E4M3, QZ_F32, QZ_WHOLE_MATRIX, 16, 16, QZ_ENDS_FULL},
                       fit_nvfp4,
                       code_e2m1,
                       NULL},
    [QZ_RULE_IQ4_NL] = {{"iq4_nl", TABLE(QZ_IQ4), QZ_F16, NO_SUPER, 32, 32, QZ_ENDS_FULL},
                        NULL,
                        code_iq4,
                        block_iq4_nl},
    [QZ_RULE_IQ4_XS] = {{"iq4_xs", TABLE(QZ_IQ4), QZ_I6, QZ_F16, 256, 32, 256, QZ_ENDS_FULL},
                        NULL,
                        code_iq4,
                        block_iq4_xs},
    [QZ_RULE_Q4_K] = {{"q4_k", OFFSET, QZ_U6, QZ_F16, 256, 32, 256, QZ_ENDS_FULL}, NULL, NULL, block_q4_k},
    [QZ_RULE_MATMULNBITS] = {{"matmulnbits", INT4, 0, NO_SUPER, 0, 0, QZ_ENDS_SHORT},
                             fit_matmulnbits,
                             code_matmulnbits,
                             NULL},
    [QZ_RULE_MATMULNBITS_ZERO] = {{"matmulnbits_zero", UINT4, 0, NO_SUPER, 0, 0, QZ_ENDS_SHORT},
                                  fit_matmulnbits_zero,
                                  code_matmulnbits,
                                  NULL},
    [QZ_RULE_BNB_NF4] = {{"bnb_nf4", TABLE(QZ_NF4), QZ_F32, NO_SUPER, 0, 0, QZ_ENDS_SHORT_ALONE},
                         fit_bitsandbytes,
                         code_nf4,
                         NULL},
    [QZ_RULE_BNB_FP4] = {{"bnb_fp4", TABLE(QZ_FP4_BNB), QZ_F32, NO_SUPER, 0, 0, QZ_ENDS_SHORT_ALONE},
                         fit_bitsandbytes,
                         code_fp4,
                         NULL},
    [QZ_RULE_COMPRESSED_TENSORS] = {{"compressed_tensors", INT4, 0, NO_SUPER, 0, 0, QZ_ENDS_FULL},
                                    fit_compressed_tensors,
                                    code_compressed_tensors,
                                    NULL},
    [QZ_RULE_COMPRESSED_TENSORS_ZERO] = {{"compressed_tensors_zero", UINT4, 0, NO_SUPER, 0, 0, QZ_ENDS_FULL},
                                         fit_compressed_tensors_zero,
                                         code_compressed_tensors,
                                         NULL},
    [QZ_RULE_COMPRESSED_TENSORS_NVFP4] = {{"compressed_tensors_nvfp4", TABLE(QZ_FP4), QZ_E4M3, QZ_F32, QZ_WHOLE_MATRIX,
                                           16, 16, QZ_ENDS_FULL},
                                          fit_compressed_tensors_nvfp4,
                                          code_e2m1_even,
                                          NULL},
    [QZ_RULE_COMPRESSED_TENSORS_MXFP4] = {{"compressed_tensors_mxfp4", TABLE(QZ_FP4), QZ_E8M0, NO_SUPER, 32, 32,
                                           QZ_ENDS_FULL},
                                          fit_compressed_tensors_mxfp4,
                                          code_e2m1_even,
                                          NULL},
    [QZ_RULE_GPTQ] = {{"gptq", INT4, 0, NO_SUPER, 0, 0, QZ_ENDS_SHORT}, fit_gptq, code_gptq, NULL},
    [QZ_RULE_GPTQ_ZERO] = {{"gptq_zero", UINT4, 0, NO_SUPER, 0, 0, QZ_ENDS_SHORT}, fit_gptq_zero, code_gptq, NULL},
    [QZ_RULE_AWQ] = {{"awq", UINT4, 0, NO_SUPER, 0, 0, QZ_ENDS_FULL}, fit_awq, code_awq, NULL},
};

const struct qz_rule_info *qz_rule_info(qz_rule rule)
{
    size_t i = (size_t)rule;
    return i != QZ_RULE_NONE && i < sizeof rules / sizeof rules[0] ? &rules[i].info : NULL;
}

const char *qz_rule_name(qz_rule rule)
{
    const struct qz_rule_info *info = qz_rule_info(rule);
    return info ? info->name : rule == QZ_RULE_NONE ? "none" : NULL;
}

float qz_reference_divisor(float largest, qz_dtype weights)
{
    float divisor = stored(stored(1.0f / largest, weights) * (448.0f * 6.0f), weights);
    return qz_is_finite(divisor) ? divisor : 1.0f;
}

void qz_reference_range(struct qz_reference_range *range, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        range->min = x[i] < range->min ? x[i] : range->min;
        range->max = x[i] > range->max ? x[i] : range->max;
        range->largest = fabsf(x[i]) > fabsf(range->largest) ? x[i] : range->largest;
    }
}

static const struct qz_reference unfitted = {.super = {1.0f, 1.0f}};

static int is_finite(const struct qz_reference *fit)
{
    int finite = qz_is_finite(fit->super[0]) && qz_is_finite(fit->super[1]);
    for (int g = 0; g < QZ_REFERENCE_GROUPS; g++)
        finite &= qz_is_finite(fit->scale[g]) && qz_is_finite(fit->zero[g]);
    return finite;
}

int qz_reference_fit(qz_rule rule, const struct qz_reference_how *how, const struct qz_reference_range *range,
                     struct qz_reference *fit)
{
    *fit = unfitted;
    rules[rule].fit(how, range, fit);
    return is_finite(fit);
}

void qz_reference_codes(qz_rule rule, const struct qz_reference *fit, const float *x, size_t n, uint8_t *codes)
{
    for (size_t i = 0; i < n; i++)
        codes[i] = (uint8_t)((rules[rule].code(fit, x[i]) - fit->offset) & 15);
}

int qz_reference_block(qz_rule rule, const struct qz_reference_how *how, const float *x, size_t n,
                       struct qz_reference *fit, uint8_t *codes)
{
    if (rules[rule].block) {
        *fit = unfitted;
        rules[rule].block(x, fit, codes);
        return is_finite(fit);
    }
    struct qz_reference_range range = QZ_REFERENCE_NOTHING;
    qz_reference_range(&range, x, n);
    int fits = qz_reference_fit(rule, how, &range, fit);
    qz_reference_codes(rule, fit, x, n, codes);
    return fits;
}
