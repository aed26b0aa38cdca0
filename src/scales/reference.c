/*
 * reference.c - the plain rules of other tools, bit for bit
 *
 * Every operation is in float32 and in the order of the tool. If the tool computes in float16 or bfloat16, each result
 * is then rounded to that type, as PyTorch does on the CPU. Unusual operations here are those of the tools. Where a
 * tool converts an infinity or NaN to an integer, which is undefined in C, the code is 0, as on x86.
 */
#include "reference.h"
#include "../base/float8.h"
#include "../kernels/rule_search.h"

#include <float.h>
#include <math.h>

enum { SEARCHED = QZ_RULE_SEARCHED };

/* ---- numbers ------------------------------------------------------------------------------------------------- */

/*
 * Rules fit many groups in a loop. Where they have no branches, compilers make vectors of it, which takes comparisons of
 * integers: floats that are not NaN have the order of their bits where one of them, at most, is negative.
 */

static inline int is_zero(float x)
{
    return qz_magnitude_bits(x) == 0;
}

static inline float inverse(float x)
{
    const float divided = 1.0f / x;
    return qz_float(qz_either(is_zero(x), 0, qz_bits(divided)));
}

static inline float larger(float a, float b)
{
    return a > b ? a : b;
}

/* The larger of x and 0, the smaller: 0 for -0. */
static inline float above_0(float x)
{
    return qz_float(qz_either((int32_t)qz_bits(x) > 0, qz_bits(x), 0));
}

static inline float below_0(float x)
{
    return qz_float(qz_either(qz_bits(x) > 0x80000000u, qz_bits(x), 0));
}

/* The nearest whole number, ties to even, as a level 0..15; NaN is 0. */
static inline float nearest_level(float y)
{
    const float round = 0x1.8p23f;
    const int32_t bits = (int32_t)qz_bits((y + round) - round), most = (int32_t)qz_bits(15.0f);
    const uint32_t level = qz_either(bits > most, (uint32_t)most, (uint32_t)bits);
    return qz_float(qz_either((bits > 0) & (bits <= 0x7f800000), level, 0));
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

/* ---- values to codes ------------------------------------------------------------------------------------------- */

static const struct qz_rule_codes codes_q4_0 = {.rounding = QZ_ROUND_SHIFTED, .shift = 8.5f, .offset = 8};
static const struct qz_rule_codes codes_q4_1 = {.steps = QZ_STEPS_ABOVE, .rounding = QZ_ROUND_SHIFTED, .shift = 0.5f};
static const struct qz_rule_codes codes_matmulnbits = {.rounding = QZ_ROUND_AWAY, .offset = 8};
static const struct qz_rule_codes codes_matmulnbits_zero = {.rounding = QZ_ROUND_AWAY};
static const struct qz_rule_codes codes_compressed_tensors = {
    .steps = QZ_STEPS_OVER, .rounding = QZ_ROUND_EVEN_WITH, .offset = 8};
static const struct qz_rule_codes codes_compressed_tensors_zero = {.steps = QZ_STEPS_OVER,
                                                                   .rounding = QZ_ROUND_EVEN_WITH};
static const struct qz_rule_codes codes_gptq = {
    .steps = QZ_STEPS_OVER, .rounding = QZ_ROUND_EVEN_THEN_ADD, .offset = 8};
static const struct qz_rule_codes codes_gptq_zero = {.steps = QZ_STEPS_OVER, .rounding = QZ_ROUND_EVEN_THEN_ADD};
static const struct qz_rule_codes codes_awq = {
    .steps = QZ_STEPS_OVER, .rounding = QZ_ROUND_EVEN_THEN_ADD, .values = QZ_F16, .type = QZ_F16};
static const struct qz_rule_codes codes_e2m1 = {.rounding = QZ_ROUND_E2M1};

/* The nearest, ties to an even code; what is below zero stays there as -0. A tie that goes down is left behind by the
 * first float32 above it, here and below. */
static const struct qz_rule_codes codes_e2m1_even = {
    .steps = QZ_STEPS_OVER,
    .rounding = QZ_ROUND_TABLE,
    .upper = {-5.0f, -0x1.bffffep1f, -2.5f, -0x1.bffffep0f, -1.25f, -0x1.7ffffep-1f, -0.25f, 0.0f, 0x1.000002p-2f,
              0.75f, 0x1.400002p0f, 1.75f, 0x1.400002p1f, 3.5f, 0x1.400002p2f, INFINITY},
    .code = {15, 14, 13, 12, 11, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7}};

/* bitsandbytes' own points, halfway between the values of codes, and that rounded; ties go down. It clamps values to
 * -1..1 before, which changes no code. The last block, if it is short, is divided, others are multiplied. */
static const struct qz_rule_codes codes_nf4 = {
    .rounding = QZ_ROUND_TABLE,
    .upper = {-0x1.b239aep-1f, -0x1.38a4dep-1f, -0x1.d708fep-2f, -0x1.5bd4eap-2f, -0x1.e079d6p-3f, -0x1.1a7176p-3f,
              -0x1.74f0e0p-5f, 0x1.45f600p-5f, 0x1.ec90c6p-4f, 0x1.a0cfc2p-3f, 0x1.2b05aap-2f, 0x1.8ea7f4p-2f,
              0x1.00da0ap-1f, 0x1.491b60p-1f, 0x1.b913b6p-1f, INFINITY},
    .code = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};

/* Sorting the values of the codes leaves 0 before -0, and a tie goes down: what is positive and next to 0 becomes -0,
 * what is negative and there becomes 0. */
static const struct qz_rule_codes codes_fp4 = {
    .rounding = QZ_ROUND_TABLE,
    .upper = {-0x1.aaaaaap-1f, -0x1.2aaaaap-1f, -0x1.aaaaaap-2f, -0x1.2aaaaap-2f, -0x1.aaaaaap-3f, -0x1.5ffffep-4f,
              -0x1.555554p-9f, 0x1p-149f, 0x1.555558p-9f, 0x1.600002p-4f, 0x1.aaaaaep-3f, 0x1.2aaaaep-2f,
              0x1.aaaaaep-2f, 0x1.2aaaaep-1f, 0x1.aaaaaep-1f, INFINITY},
    .code = {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3}};

/* The nearest value of IQ4, the larger of two. */
static int code_iq4(float x, float by)
{
    int code = 0;
    while (code < 15 && x * by >= qz_iq4_levels.upper[0][code])
        code++;
    return code;
}

/* ---- ranges to scales ------------------------------------------------------------------------------------------ */

/* The numbers of a group. `by` and `from` are for its codes: before rounding to the stored type or after it, as the tool
 * has it. */
struct numbers {
    float scale, zero, by, from;
};

static inline float largest_magnitude(const struct qz_reference_range *range)
{
    return fabsf(range->largest);
}

static inline void fit_q4_0(const struct qz_reference_how *how, const struct qz_reference_range *range,
                            struct numbers *fit)
{
    (void)how;
    float d = range->largest / -8.0f;
    fit->scale = qz_through(d, QZ_F16);
    fit->by = inverse(d);
}

static inline void fit_q4_1(const struct qz_reference_how *how, const struct qz_reference_range *range,
                            struct numbers *fit)
{
    (void)how;
    float d = (range->max - range->min) / 15.0f;
    fit->scale = qz_through(d, QZ_F16);
    fit->zero = qz_through(range->min, QZ_F16);
    fit->by = inverse(d);
    fit->from = range->min;
}

static inline void fit_mxfp4(const struct qz_reference_how *how, const struct qz_reference_range *range,
                             struct numbers *fit)
{
    (void)how;
    float largest = largest_magnitude(range);
    /* The logarithm is rounded to float32 before it is rounded down: just below a power of two that gives the power.
     * Through double it comes out the same with any mathematical library. The exponent wraps around in its byte. */
    uint32_t bits = qz_bits(largest), near = 0x7f8000u;
    int e = 0;
    if (bits >> 23 && (bits & near) != near) /* a normal number that is not just below a power */
        e = ((int)(bits >> 23) - 127 + 125) & 255;
    else if (largest > 0.0f)
        e = ((int)floorf((float)log2((double)largest)) + 125) & 255;
    fit->scale = fit->by = qz_f32_from_e8m0((uint8_t)e);
}

static inline void fit_nvfp4(const struct qz_reference_how *how, const struct qz_reference_range *range,
                             struct numbers *fit)
{
    (void)how;
    fit->scale = fit->by = ggml_e4m3(largest_magnitude(range) / 6.0f);
}

/* ONNX Runtime makes codes with the scale as stored in float32 or float16. Weights in bfloat16 become float32 before,
 * and their scales bfloat16 when all is done. */
static inline float known_scale(float s, qz_dtype dtype)
{
    return dtype == QZ_F16 ? qz_through(s, dtype) : s;
}

static inline void fit_matmulnbits(const struct qz_reference_how *how, const struct qz_reference_range *range,
                                   struct numbers *fit)
{
    const int above = qz_magnitude_bits(range->max) > qz_magnitude_bits(range->min);
    float s = qz_float(qz_either(above, qz_bits(range->max), qz_bits(range->min))) / -8.0f;
    fit->scale = qz_through(s, how->scale_dtype);
    fit->by = inverse(known_scale(s, how->scale_dtype));
    fit->from = 8.0f;
}

static inline void fit_matmulnbits_zero(const struct qz_reference_how *how, const struct qz_reference_range *range,
                                        struct numbers *fit)
{
    float min = below_0(range->min), s = (above_0(range->max) - min) / 15.0f;
    fit->zero = fit->from = s != 0.0f ? (float)qz_rule_level(roundf(0.0f - min / s)) : 0.0f;
    fit->scale = qz_through(s, how->scale_dtype);
    fit->by = inverse(known_scale(s, how->scale_dtype));
}

static inline void fit_bitsandbytes(const struct qz_reference_how *how, const struct qz_reference_range *range,
                                    struct numbers *fit)
{
    float largest = largest_magnitude(range), guarded = larger(largest, 1e-38f);
    fit->scale = how->short_group ? guarded : largest;
    fit->by = how->short_group ? guarded : 1.0f / guarded;
}

/* The scale as stored; instead of 0 the machine epsilon of its type. */
static inline float stored_or_epsilon(float s, qz_dtype dtype)
{
    const float epsilon = dtype == QZ_F16 ? 0x1p-10f : dtype == QZ_BF16 ? 0x1p-7f : FLT_EPSILON;
    s = qz_through(s, dtype);
    return qz_float(qz_either(is_zero(s), qz_bits(epsilon), qz_bits(s)));
}

/* compressed-tensors computes in the type of the weights, and codes with the scale as it is in that type. */
static inline void fit_compressed_tensors(const struct qz_reference_how *how, const struct qz_reference_range *range,
                                          struct numbers *fit)
{
    fit->scale = stored_or_epsilon(qz_through(largest_magnitude(range) / 7.5f, how->weights), how->scale_dtype);
    fit->by = qz_through(fit->scale, how->weights);
}

static inline void fit_compressed_tensors_zero(const struct qz_reference_how *how,
                                               const struct qz_reference_range *range, struct numbers *fit)
{
    float min = below_0(range->min);
    float s = qz_through(qz_through(above_0(range->max) - min, how->weights) / 15.0f, how->weights);
    float zero = qz_through(-8.0f - qz_through(min / s, how->weights), how->weights); /* infinite or NaN where s is 0 */
    fit->zero = isnan(zero) ? 8.0f : (float)qz_rule_level(rintf(zero) + 8.0f);
    fit->from = fit->zero - 8.0f;
    fit->scale = stored_or_epsilon(s, how->scale_dtype);
    fit->by = qz_through(fit->scale, how->weights);
}

/* Only M / 6 is in the type of the weights: the divisor is a float32, and so is all that it meets. */
static inline void fit_compressed_tensors_nvfp4(const struct qz_reference_how *how,
                                                const struct qz_reference_range *range, struct numbers *fit)
{
    float s = how->divisor * qz_through(largest_magnitude(range) / 6.0f, how->weights);
    s = qz_f32_from_f8(QZ_E4M3, qz_f8_from_f32(QZ_E4M3, s < 448.0f ? s : 448.0f));
    fit->scale = s != 0.0f ? s : 0.125f;
    fit->by = fit->scale / how->divisor;
}

/* The exponent of the largest magnitude, one more from a mantissa of 1.75 on, is taken from the bits of the number in
 * the type of the weights. bfloat16 has those of float32. In float16, below 0.75 * 2^-14, the exponent is that of 0,
 * whose scale, 2^-127, is 0 there, and becomes the 1 that replaces a 0; from 57344 on the scale is infinite. */
static inline void fit_compressed_tensors_mxfp4(const struct qz_reference_how *how,
                                                const struct qz_reference_range *range, struct numbers *fit)
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
    fit->scale = fit->by = qz_f32_from_e8m0((uint8_t)e);
}

static inline void fit_gptq(const struct qz_reference_how *how, const struct qz_reference_range *range,
                            struct numbers *fit)
{
    /* Twice the largest magnitude where a value is negative, or all are 0, which count as -1 to 1. */
    const float largest = qz_float(qz_either(is_zero(range->largest), 0x3f800000u, qz_bits(largest_magnitude(range))));
    const int both = is_zero(range->largest) | (qz_bits(range->min) > 0x80000000u);
    fit->by = (largest + qz_float(qz_either(both, qz_bits(largest), 0))) / 15.0f;
    fit->scale = qz_through(fit->by, how->scale_dtype);
    fit->from = 8.0f;
}

static inline void fit_gptq_zero(const struct qz_reference_how *how, const struct qz_reference_range *range,
                                 struct numbers *fit)
{
    float min = below_0(range->min), max = above_0(range->max);
    if (range->largest == 0.0f) {
        min = -1.0f;
        max = 1.0f;
    }
    fit->by = (max - min) / 15.0f;
    fit->scale = qz_through(fit->by, how->scale_dtype);
    fit->zero = fit->from = nearest_level(-min / fit->by);
}

/* AutoAWQ works in float16, whatever the weights were. The range need not hold 0. What is infinite there makes the
 * width infinite or NaN. */
static inline void fit_awq(const struct qz_reference_how *how, const struct qz_reference_range *range,
                           struct numbers *fit)
{
    float min = qz_through(range->min, QZ_F16), width = qz_through(qz_through(range->max, QZ_F16) - min, QZ_F16);
    const float least = qz_through(1e-5f, QZ_F16);
    width = qz_float(qz_either(qz_bits(width) < qz_bits(least), qz_bits(least), qz_bits(width)));
    fit->by = qz_through(width / 15.0f, QZ_F16);
    fit->scale = qz_through(fit->by, how->scale_dtype);
    fit->zero = fit->from = nearest_level(-qz_through(min / fit->by, QZ_F16));
}

/* The same of many groups; what a rule does not set is 0. */
#define EACH(fit, how)                                                                                                 \
    for (size_t i = 0; i < n; i++) {                                                                                   \
        const struct qz_reference_range range = {groups->min[i], groups->max[i], groups->largest[i]};                  \
        struct numbers found = {0};                                                                                    \
        fit(&(how), &range, &found);                                                                                   \
        groups->scale[i] = found.scale;                                                                                \
        groups->zero[i] = found.zero;                                                                                  \
        groups->by[i] = found.by;                                                                                      \
        groups->from[i] = found.from;                                                                                  \
    }

#define MANY(fit)                                                                                                      \
    static void many_##fit(const struct qz_reference_how *how, struct qz_reference_many *groups, size_t n)             \
    {                                                                                                                  \
        EACH(fit, *how)                                                                                                \
    }

/* A loop for scales of float16 and float32, of weights in float32: which types they are would be branches. */
#define MANY_OF_TYPES(fit)                                                                                             \
    static void many_##fit(const struct qz_reference_how *how, struct qz_reference_many *groups, size_t n)             \
    {                                                                                                                  \
        struct qz_reference_how f32 = *how, f16 = *how;                                                                \
        const int usual = how->weights != QZ_F16 && how->weights != QZ_BF16;                                           \
        f32.weights = f16.weights = f32.scale_dtype = QZ_F32;                                                          \
        f16.scale_dtype = QZ_F16;                                                                                      \
        if (usual && how->scale_dtype == QZ_F16)                                                                       \
            EACH(fit, f16)                                                                                             \
        else if (usual && how->scale_dtype == QZ_F32)                                                                  \
            EACH(fit, f32)                                                                                             \
        else                                                                                                           \
            EACH(fit, *how)                                                                                            \
    }

MANY(fit_q4_0)
MANY(fit_q4_1)
MANY(fit_mxfp4)
MANY(fit_nvfp4)
MANY_OF_TYPES(fit_matmulnbits)
MANY(fit_matmulnbits_zero)
MANY(fit_bitsandbytes)
MANY_OF_TYPES(fit_compressed_tensors)
MANY(fit_compressed_tensors_zero)
MANY(fit_compressed_tensors_nvfp4)
MANY(fit_compressed_tensors_mxfp4)
MANY_OF_TYPES(fit_gptq)
MANY(fit_gptq_zero)
MANY_OF_TYPES(fit_awq)
#undef MANY_OF_TYPES
#undef MANY
#undef EACH

/* ---- the rules that search ------------------------------------------------------------------------------------- */

static void codes_iq4(const float *x, float by, uint8_t *codes)
{
    for (int i = 0; i < SEARCHED; i++)
        codes[i] = (uint8_t)code_iq4(x[i], by);
}

/* Groups by the search of a rule. Codes are NULL where they are not wanted, here and below. */
struct searched {
    const float *scale, *min, *by, *from; /* Q4_K: all; else scales only */
    const float *x;
};

static void block_iq4_nl(const struct searched *found, struct qz_reference *fit, uint8_t *codes)
{
    fit->scale[0] = qz_through(found->scale[0], QZ_F16);
    if (codes)
        codes_iq4(found->x, inverse(found->scale[0]), codes);
}

static void block_iq4_xs(const struct searched *found, struct qz_reference *fit, uint8_t *codes)
{
    struct qz_reference_range range = QZ_REFERENCE_NOTHING;
    qz_reference_range(&range, found->scale, QZ_REFERENCE_GROUPS);
    float d = -range.largest / 32.0f;
    fit->super[0] = qz_through(d, QZ_F16);
    for (int g = 0; g < QZ_REFERENCE_GROUPS; g++) {
        fit->scale[g] = (float)truncate_to(rintf(inverse(d) * found->scale[g]), -32, 31);
        if (!qz_is_finite(found->scale[g])) /* ggml would leave the group out, and go on */
            fit->super[0] = NAN;
        if (codes)
            codes_iq4(found->x + g * SEARCHED, inverse(d * fit->scale[g]), codes + g * SEARCHED);
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
    return qz_through(largest / 63.0f, QZ_F16);
}

static void block_q4_k(const struct searched *found, struct qz_reference *fit, uint8_t *codes)
{
    for (int g = 0; g < QZ_REFERENCE_GROUPS; g++) {
        fit->scale[g] = found->scale[g];
        fit->zero[g] = -found->min[g];
    }
    fit->super[0] = six_bits(fit->scale);
    fit->super[1] = six_bits(fit->zero);
    for (int g = 0; g < QZ_REFERENCE_GROUPS && codes; g++) {
        float step = fit->super[0] * fit->scale[g], min = fit->super[1] * fit->zero[g];
        for (int i = g * SEARCHED; i < (g + 1) * SEARCHED; i++) {
            float x = found->x[i], y = step != 0.0f ? (x + min) / step : found->by[g] * (x - found->from[g]);
            codes[i] = (uint8_t)truncate_to(rintf(y), 0, 15);
        }
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
    void (*fit)(const struct qz_reference_how *how, struct qz_reference_many *groups, size_t n);
    const struct qz_rule_codes *codes;
    void (*block)(const struct searched *found, struct qz_reference *fit, uint8_t *codes);
} rules[] = {
    [QZ_RULE_Q4_0] = {{"q4_0", INT4, QZ_F16, NO_SUPER, 32, 32, QZ_ENDS_FULL}, many_fit_q4_0, &codes_q4_0, NULL},
    [QZ_RULE_Q4_1] = {{"q4_1", OFFSET, QZ_F16, NO_SUPER, 32, 32, QZ_ENDS_FULL}, many_fit_q4_1, &codes_q4_1, NULL},
    [QZ_RULE_MXFP4] = {{"mxfp4", TABLE(QZ_FP4), QZ_E8M0, NO_SUPER, 32, 32, QZ_ENDS_FULL},
                       many_fit_mxfp4,
                       &codes_e2m1,
                       NULL},
    [QZ_RULE_NVFP4] = {{"nvfp4", TABLE(QZ_FP4), QZ_E4M3, QZ_F32, QZ_WHOLE_MATRIX, 16, 16, QZ_ENDS_FULL},
                       many_fit_nvfp4,
                       &codes_e2m1,
                       NULL},
    [QZ_RULE_IQ4_NL] = {{"iq4_nl", TABLE(QZ_IQ4), QZ_F16, NO_SUPER, 32, 32, QZ_ENDS_FULL}, NULL, NULL, block_iq4_nl},
    [QZ_RULE_IQ4_XS] = {{"iq4_xs", TABLE(QZ_IQ4), QZ_I6, QZ_F16, 256, 32, 256, QZ_ENDS_FULL}, NULL, NULL, block_iq4_xs},
    [QZ_RULE_Q4_K] = {{"q4_k", OFFSET, QZ_U6, QZ_F16, 256, 32, 256, QZ_ENDS_FULL}, NULL, NULL, block_q4_k},
    [QZ_RULE_MATMULNBITS] = {{"matmulnbits", INT4, 0, NO_SUPER, 0, 0, QZ_ENDS_SHORT},
                             many_fit_matmulnbits,
                             &codes_matmulnbits,
                             NULL},
    [QZ_RULE_MATMULNBITS_ZERO] = {{"matmulnbits_zero", UINT4, 0, NO_SUPER, 0, 0, QZ_ENDS_SHORT},
                                  many_fit_matmulnbits_zero,
                                  &codes_matmulnbits_zero,
                                  NULL},
    [QZ_RULE_BNB_NF4] = {{"bnb_nf4", TABLE(QZ_NF4), QZ_F32, NO_SUPER, 0, 0, QZ_ENDS_SHORT_ALONE},
                         many_fit_bitsandbytes,
                         &codes_nf4,
                         NULL},
    [QZ_RULE_BNB_FP4] = {{"bnb_fp4", TABLE(QZ_FP4_BNB), QZ_F32, NO_SUPER, 0, 0, QZ_ENDS_SHORT_ALONE},
                         many_fit_bitsandbytes,
                         &codes_fp4,
                         NULL},
    [QZ_RULE_COMPRESSED_TENSORS] = {{"compressed_tensors", INT4, 0, NO_SUPER, 0, 0, QZ_ENDS_FULL},
                                    many_fit_compressed_tensors,
                                    &codes_compressed_tensors,
                                    NULL},
    [QZ_RULE_COMPRESSED_TENSORS_ZERO] = {{"compressed_tensors_zero", UINT4, 0, NO_SUPER, 0, 0, QZ_ENDS_FULL},
                                         many_fit_compressed_tensors_zero,
                                         &codes_compressed_tensors_zero,
                                         NULL},
    [QZ_RULE_COMPRESSED_TENSORS_NVFP4] = {{"compressed_tensors_nvfp4", TABLE(QZ_FP4), QZ_E4M3, QZ_F32, QZ_WHOLE_MATRIX,
                                           16, 16, QZ_ENDS_FULL},
                                          many_fit_compressed_tensors_nvfp4,
                                          &codes_e2m1_even,
                                          NULL},
    [QZ_RULE_COMPRESSED_TENSORS_MXFP4] = {{"compressed_tensors_mxfp4", TABLE(QZ_FP4), QZ_E8M0, NO_SUPER, 32, 32,
                                           QZ_ENDS_FULL},
                                          many_fit_compressed_tensors_mxfp4,
                                          &codes_e2m1_even,
                                          NULL},
    [QZ_RULE_GPTQ] = {{"gptq", INT4, 0, NO_SUPER, 0, 0, QZ_ENDS_SHORT}, many_fit_gptq, &codes_gptq, NULL},
    [QZ_RULE_GPTQ_ZERO] = {{"gptq_zero", UINT4, 0, NO_SUPER, 0, 0, QZ_ENDS_SHORT},
                           many_fit_gptq_zero,
                           &codes_gptq_zero,
                           NULL},
    [QZ_RULE_AWQ] = {{"awq", UINT4, 0, NO_SUPER, 0, 0, QZ_ENDS_FULL}, many_fit_awq, &codes_awq, NULL},
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
    float divisor = qz_through(qz_through(1.0f / largest, weights) * (448.0f * 6.0f), weights);
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

int qz_reference_is_finite(const struct qz_reference *fit)
{
    int finite = qz_is_finite(fit->super[0]) && qz_is_finite(fit->super[1]);
    for (int g = 0; g < QZ_REFERENCE_GROUPS; g++)
        finite &= qz_is_finite(fit->scale[g]) && qz_is_finite(fit->zero[g]);
    return finite;
}

int qz_reference_fit(qz_rule rule, const struct qz_reference_how *how, const struct qz_reference_range *range,
                     struct qz_reference *fit)
{
    struct qz_reference_many one;
    one.min[0] = range->min;
    one.max[0] = range->max;
    one.largest[0] = range->largest;
    rules[rule].fit(how, &one, 1);
    *fit = unfitted;
    fit->scale[0] = one.scale[0];
    fit->zero[0] = one.zero[0];
    fit->by = one.by[0];
    fit->from = one.from[0];
    if (rule == QZ_RULE_COMPRESSED_TENSORS_NVFP4)
        fit->super[0] = how->divisor;
    return qz_is_finite(fit->scale[0]) & qz_is_finite(fit->zero[0]) & qz_is_finite(fit->super[0]);
}

void qz_reference_fit_many(qz_rule rule, const struct qz_reference_how *how, struct qz_reference_many *groups, size_t n)
{
    rules[rule].fit(how, groups, n);
}

int qz_reference_searches(qz_rule rule)
{
    return rules[rule].block != NULL;
}

struct qz_rule_codes qz_reference_codes_of(qz_rule rule, const struct qz_reference_how *how)
{
    struct qz_rule_codes codes = *rules[rule].codes;
    if (rule == QZ_RULE_COMPRESSED_TENSORS || rule == QZ_RULE_COMPRESSED_TENSORS_ZERO ||
        rule == QZ_RULE_COMPRESSED_TENSORS_MXFP4)
        codes.type = how->weights;
    if ((rule == QZ_RULE_BNB_NF4 || rule == QZ_RULE_BNB_FP4) && how->short_group)
        codes.steps = QZ_STEPS_OVER;
    return codes;
}

/* As many groups as a kernel takes, or fewer; those that are left out are 0. */
static void search_groups(const struct qz_kernels *kernels, qz_rule rule, const float *x, size_t groups,
                          struct qz_rule_groups *found)
{
    float part[QZ_RULE_TOGETHER * SEARCHED], v[QZ_RULE_TOGETHER * SEARCHED];
    const float *all = x;
    if (groups < QZ_RULE_TOGETHER) {
        memset(part, 0, sizeof part);
        memcpy(part, x, groups * SEARCHED * sizeof *x);
        all = part;
    }
    for (size_t i = 0; i < QZ_RULE_TOGETHER * SEARCHED; i += QZ_BLOCK * SEARCHED)
        kernels->interleave(all + i, SEARCHED, v + i);
    (rule == QZ_RULE_Q4_K ? kernels->rule_q4_k : kernels->rule_iq4)(v, found);
}

void qz_reference_search(const struct qz_kernels *kernels, qz_rule rule, const float *x, size_t blocks,
                         struct qz_reference *fit, uint8_t *codes)
{
    const size_t each = rules[rule].info.block / SEARCHED, most = QZ_RULE_TOGETHER / each;
    for (size_t i = 0, count; i < blocks; i += count) {
        struct qz_rule_groups groups;
        count = qz_least(blocks - i, most);
        search_groups(kernels, rule, x + i * each * SEARCHED, count * each, &groups);
        for (size_t k = 0; k < count; k++) {
            const size_t g = k * each, start = (i + k) * each * SEARCHED;
            const struct searched found = {groups.scale + g, groups.min + g, groups.by + g, groups.from + g, x + start};
            fit[i + k] = unfitted;
            rules[rule].block(&found, &fit[i + k], codes ? codes + start : NULL);
        }
    }
}
