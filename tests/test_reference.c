/*
 * test_reference.c - the rules of other tools, against bytes that these tools wrote
 */
#include "support/program.h"

#include "scales/reference.h"

#include <float.h>
#include <math.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { MOST = QZ_REFERENCE_VALUES, RULES = QZ_RULE_AWQ };

static const float v8[8] = {-8, -4, 0, 4, 7, -2, 3, 1};

/* ---- how the tools arrange codes and scales -------------------------------------------------------------------- */

/* Bytes in the making. */
struct bytes {
    uint8_t at[160];
    size_t n;
};

static void put(struct bytes *to, unsigned byte)
{
    to->at[to->n++] = (uint8_t)byte;
}

/* A float16, low byte first. x is one, so that no bit is lost. */
static void put_half(struct bytes *to, float x)
{
    unsigned sign = bits_of_float(x) >> 31 << 15, bits = 0;
    float size = fabsf(x);
    if (size > 0) {
        int exponent = (int)(bits_of_float(size) >> 23) - 127;
        if (exponent >= -14)
            bits = (unsigned)(exponent + 15) << 10 | (bits_of_float(size) >> 13 & 0x3ff);
        else
            bits = (unsigned)(size * 0x1p24f);
    }
    put(to, (sign | bits) & 255);
    put(to, (sign | bits) >> 8);
}

/* Runs of n codes: a byte holds one from each half of the run. `flip` is 8 for codes stored as code - 8. */
static void put_halves(struct bytes *to, const uint8_t *codes, size_t count, size_t n, unsigned flip)
{
    for (size_t run = 0; run < count; run += n)
        for (size_t i = run; i < run + n / 2; i++)
            put(to, (codes[i] ^ flip) | (unsigned)(codes[i + n / 2] ^ flip) << 4);
}

static void put_pairs(struct bytes *to, const uint8_t *codes, size_t count, unsigned flip)
{
    put_halves(to, codes, count, 2, flip);
}

/* An unsigned E4M3 from 2^-6 up, or 0. */
static void put_e4m3(struct bytes *to, float x)
{
    put(to, x > 0 ? (bits_of_float(x) >> 20) - (120 << 3) : 0);
}

/* Scales and minima of Q4_K: six bits each, the upper two of the last four with the first four. */
static void put_q4_k_scales(struct bytes *to, const float *scale, const float *zero)
{
    for (int i = 0; i < 4; i++)
        put(to, (unsigned)scale[i] | (unsigned)scale[i + 4] >> 4 << 6);
    for (int i = 0; i < 4; i++)
        put(to, (unsigned)zero[i] | (unsigned)zero[i + 4] >> 4 << 6);
    for (int i = 4; i < 8; i++)
        put(to, ((unsigned)scale[i] & 15) | ((unsigned)zero[i] & 15) << 4);
}

/* Scales of IQ4_XS: the upper two bits of all, then the lower four. */
static void put_iq4_xs_scales(struct bytes *to, const float *scale)
{
    unsigned stored[8], high = 0;
    for (int i = 0; i < 8; i++) {
        stored[i] = (unsigned)(scale[i] + 32.0f);
        high |= stored[i] >> 4 << 2 * i;
    }
    put(to, high & 255);
    put(to, high >> 8);
    for (int i = 0; i < 8; i += 2)
        put(to, (stored[i] & 15) | (stored[i + 1] & 15) << 4);
}

/* The codes of fitted values, one a byte: 0..15, symmetric int4 in two's complement. */
static void reference_codes(qz_rule rule, const struct qz_reference_how *how, const struct qz_reference *fit,
                            const float *x, size_t n, uint8_t *codes)
{
    const struct qz_rule_codes of_values = qz_reference_codes_of(rule, how);
    for (size_t i = 0; i < n; i++)
        codes[i] = (uint8_t)((qz_rule_code(&of_values, x[i], fit->by, fit->from) - of_values.offset) & 15);
}

/* A block by any rule. Returns 0 as qz_reference_fit does. */
static int reference_block(qz_rule rule, const struct qz_reference_how *how, const float *x, size_t n,
                           struct qz_reference *fit, uint8_t *codes)
{
    struct qz_reference_range range = QZ_REFERENCE_NOTHING;
    if (qz_reference_searches(rule)) {
        qz_reference_search(&qz_kernels_scalar, rule, x, 1, fit, codes);
        return qz_reference_is_finite(fit);
    }
    qz_reference_range(&range, x, n);
    int fits = qz_reference_fit(rule, how, &range, fit);
    reference_codes(rule, how, fit, x, n, codes);
    return fits;
}

/* The block of ggml that holds these values. */
static struct bytes ggml_block(qz_rule rule, const float *x)
{
    struct bytes block = {{0}, 0};
    struct qz_reference fit;
    uint8_t codes[MOST];
    size_t n = qz_rule_info(rule)->block;
    if (rule == QZ_RULE_NVFP4) { /* four groups in a block, scales first */
        for (size_t g = 0; g < 4; g++) {
            assert_true(reference_block(rule, NULL, x + 16 * g, n, &fit, codes + 16 * g));
            put_e4m3(&block, fit.scale[0]);
        }
        put_halves(&block, codes, 64, 16, 0);
        return block;
    }
    assert_true(reference_block(rule, NULL, x, n, &fit, codes));
    switch (rule) {
    case QZ_RULE_Q4_0:
        put_half(&block, fit.scale[0]);
        put_halves(&block, codes, n, 32, 8);
        break;
    case QZ_RULE_Q4_1:
        put_half(&block, fit.scale[0]);
        put_half(&block, fit.zero[0]);
        put_halves(&block, codes, n, 32, 0);
        break;
    case QZ_RULE_MXFP4:
        put(&block, bits_of_float(fit.scale[0]) == 0x00400000u ? 0 : bits_of_float(fit.scale[0]) >> 23);
        put_halves(&block, codes, n, 32, 0);
        break;
    case QZ_RULE_IQ4_NL:
        put_half(&block, fit.scale[0]);
        put_halves(&block, codes, n, 32, 0);
        break;
    case QZ_RULE_Q4_K:
        put_half(&block, fit.super[0]);
        put_half(&block, fit.super[1]);
        put_q4_k_scales(&block, fit.scale, fit.zero);
        put_halves(&block, codes, n, 64, 0);
        break;
    default:
        put_half(&block, fit.super[0]);
        put_iq4_xs_scales(&block, fit.scale);
        put_halves(&block, codes, n, 32, 0);
    }
    return block;
}

static void assert_hex(const struct bytes *found, const char *expected)
{
    char text[2 * sizeof found->at + 1] = "";
    for (size_t i = 0; i < found->n; i++)
        snprintf(text + 2 * i, 3, "%02x", found->at[i]);
    assert_string_equal(text, expected);
}

static void assert_float(float found, float expected)
{
    assert_int_equal(bits_of_float(found), bits_of_float(expected));
}

static void assert_pairs(const uint8_t *codes, size_t n, unsigned flip, const char *expected)
{
    struct bytes bytes = {{0}, 0};
    put_pairs(&bytes, codes, n, flip);
    assert_hex(&bytes, expected);
}

/* ---- ggml ------------------------------------------------------------------------------------------------------ */

#define E16 "88888888888888888888888888888888" /* codes of zeros */
#define O16 "00000000000000000000000000000000"

/* Values: those of the rule x[i] = ((37 i mod 101) - 50) / 16, v8 again and again, zeros, or `count` values and then
 * zeros. */
static const struct {
    qz_rule rule;
    enum { RULED, AGAIN, GIVEN } what;
    size_t count;
    float values[32];
    const char *expected;
} ggml_vectors[] = {
    {QZ_RULE_Q4_0, RULED, 0, {0}, "4036e046acf258bd1379df358be046acf268"},
    {QZ_RULE_Q4_1, RULED, 0, {0}, "ab3640c2d0369bf257bd1369ce258ae0469cf258"},
    {QZ_RULE_MXFP4, RULED, 0, {0}, "7e6fdb257ec946fea267ec146fda357eb0"},
    {QZ_RULE_NVFP4, RULED, 0, {0}, "303030307fcb45fea956ee0266ed1267dc347fba45ffb956ee0167dd0267dc347fca56fe"},
    {QZ_RULE_IQ4_NL, RULED, 0, {0}, "ab26e035acf157ce1369df249be136adf258"},
    {QZ_RULE_Q4_K,
     RULED,
     0,
     {0},
     "de1e2c2afefffffcfffdfefecfdcfffea0156bc1278cd3489e045ab0167bc2378de349ae056ab1267cd2389de459af15268ce248ad0459b0"
     "157bd1379ce348ae046ac0267bd2379df359be156ac1268c9df359be157ac1268ce248ad0459b0157bd1379ce348ae046ac0267bd2379df3"
     "156ac1268cd2489df459b0157bc1378ce348ae046ab0267bd2379de359ae156a"},
    {QZ_RULE_IQ4_XS,
     RULED,
     0,
     {0},
     "ab920ccfe021fff2e035acf157ce1369df249be136adf258630fc942fea721ec751fda530eb842fd47be1269df248be035adf157ce137adf"
     "0269df138be035adf147ce1269df249b31ec8520db641fb942fda731ec751fda8520db641fc942fea731ec851fda630e259cf147be0269df"
     "138be035adf147ce1fc952fea731ec8520db641fb942fda7"},
    {QZ_RULE_Q4_0, GIVEN, 0, {0}, "0080" E16}, /* the scale is -0 */
    {QZ_RULE_Q4_0, GIVEN, 1, {-0.0f}, "0080" E16},
    {QZ_RULE_Q4_1, GIVEN, 0, {0}, "00000000" O16},
    {QZ_RULE_Q4_1, GIVEN, 1, {-0.0f}, "00000080" O16},
    {QZ_RULE_MXFP4, GIVEN, 0, {0}, "00" O16},
    {QZ_RULE_NVFP4, GIVEN, 0, {0}, "00000000" O16 O16},
    {QZ_RULE_IQ4_NL, GIVEN, 0, {0}, "0000" E16},
    {QZ_RULE_Q4_K, GIVEN, 0, {0}, O16 O16 O16 O16 O16 O16 O16 O16 O16},
    {QZ_RULE_IQ4_XS, GIVEN, 0, {0}, "0080aaaa00000000" E16 E16 E16 E16 E16 E16 E16 E16},
    {QZ_RULE_Q4_0, AGAIN, 0, {0}, "003c004488ccff66bb99004488ccff66bb99"},
    {QZ_RULE_Q4_1, AGAIN, 0, {0}, "003c00c8004488ccff66bb99004488ccff66bb99"},
    {QZ_RULE_MXFP4, AGAIN, 0, {0}, "80eecc004455aa3311eecc004455aa3311"}, /* 7 / 2 lies between 3 and 4: the smaller */
    {QZ_RULE_NVFP4, AGAIN, 0, {0}, "3b3b3b3bffdd005577bb4411ffdd005577bb4411ffdd005577bb4411ffdd005577bb4411"},
    {QZ_RULE_Q4_0, /* positive extreme: a negative scale */
     GIVEN,
     32,
     {-15, -14, -13, -12, -11, -10, -9, -8, -7, -6, -5, -4, -3, -2, -1, 0,
      1,   2,   3,   4,   5,   6,   7,  8,  9,  10, 11, 12, 13, 14, 15, 16},
     "00c08f7f7f6e6e5d5d4c4c3b3b2a2a191908"},
    {QZ_RULE_Q4_0,
     GIVEN,
     32,
     {-16, -15, -14, -13, -12, -11, -10, -9, -8, -7, -6, -5, -4, -3, -2, -1,
      0,   1,   2,   3,   4,   5,   6,   7,  8,  9,  10, 11, 12, 13, 14, 15},
     "0040809191a2a2b3b3c4c4d5d5e6e6f7f7f8"},
    {QZ_RULE_MXFP4,
     GIVEN,
     32,
     {-16, -15, -14, -13, -12, -11, -10, -9, -8, -7, -6, -5, -4, -3, -2, -1,
      0,   1,   2,   3,   4,   5,   6,   7,  8,  9,  10, 11, 12, 13, 14, 15},
     "810e0e1d1d2d2d3c3c4c4b4b5a5a595960"},
    {QZ_RULE_Q4_0, /* half-way between codes of a scale of 1: up */
     GIVEN,
     10,
     {-8, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 7.5f, 7, 6.5f},
     "003c80898a8b8887868f8f8f888888888888"},
    {QZ_RULE_MXFP4, /* half-way: towards 0 */
     GIVEN,
     16,
     {6, 0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5, -0.25f, -0.75f, -1.25f, -1.75f, -2.5f, -3.5f, -5, 7.5f},
     "7f070001020304050600090a0b0c0d0e07"},
};

static void test_ggml(void **state)
{
    (void)state;
    for (size_t t = 0; t < COUNT(ggml_vectors); t++) {
        float x[MOST];
        for (size_t i = 0; i < MOST; i++)
            x[i] = ggml_vectors[t].what == RULED   ? (float)((int)(37 * i % 101) - 50) / 16.0f
                   : ggml_vectors[t].what == AGAIN ? v8[i % 8]
                   : i < ggml_vectors[t].count     ? ggml_vectors[t].values[i]
                                                   : 0.0f;
        struct bytes block = ggml_block(ggml_vectors[t].rule, x);
        assert_hex(&block, ggml_vectors[t].expected);
    }
}

static void test_ggml_constant(void **state)
{
    (void)state;
    float x[32];
    for (size_t i = 0; i < 32; i++)
        x[i] = 3.0f;
    struct bytes q4_0 = ggml_block(QZ_RULE_Q4_0, x), q4_1 = ggml_block(QZ_RULE_Q4_1, x);
    assert_hex(&q4_0, "00b6" O16);
    assert_hex(&q4_1, "00000042" O16);
}

static float scale_of(qz_rule rule, float largest)
{
    struct qz_reference fit;
    struct qz_reference_range range = {-largest, 0.5f * largest, -largest};
    struct qz_reference_how how = {QZ_F32, 1, 0, QZ_F32};
    qz_reference_fit(rule, &how, &range, &fit);
    return fit.scale[0];
}

/* MXFP4 of compressed-tensors for weights in float16. */
static float half_scale_of(float largest)
{
    struct qz_reference fit;
    struct qz_reference_range range = {-largest, 0.5f * largest, -largest};
    struct qz_reference_how how = {QZ_F32, 1, 0, QZ_F16};
    qz_reference_fit(QZ_RULE_COMPRESSED_TENSORS_MXFP4, &how, &range, &fit);
    return fit.scale[0];
}

/* Scales that are powers of two: ggml rounds the exponent down, compressed-tensors up from a mantissa of 1.75. */
static void test_exponents(void **state)
{
    (void)state;
    static const struct {
        float largest, down, even;
    } cases[] = {{4, 1, 1}, {5, 1, 1}, {6, 1, 1}, {6.1f, 1, 1}, {7, 1, 2}, {7.9f, 1, 2}, {8, 2, 2}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_float(scale_of(QZ_RULE_MXFP4, cases[i].largest), cases[i].down);
        assert_float(scale_of(QZ_RULE_COMPRESSED_TENSORS_MXFP4, cases[i].largest), cases[i].even);
    }
    /* ggml's logarithm is a float: 3 for the number below 8, less for the one before. Its exponents wrap. */
    assert_float(scale_of(QZ_RULE_MXFP4, 8.0f - 0x1p-21f), 2);
    assert_float(scale_of(QZ_RULE_MXFP4, 8.0f - 0x1p-20f), 1);
    assert_float(scale_of(QZ_RULE_MXFP4, 0x1p-125f), 0x1p-127f);
    assert_true(isnan(scale_of(QZ_RULE_MXFP4, 0x1p-126f)));
    assert_float(scale_of(QZ_RULE_MXFP4, 0x1p-149f), 0x1p105f);
    assert_float(scale_of(QZ_RULE_MXFP4, FLT_MAX), 0x1p126f);
    assert_float(scale_of(QZ_RULE_COMPRESSED_TENSORS_MXFP4, 0x1p-149f), 0x1p-127f);
    assert_float(scale_of(QZ_RULE_COMPRESSED_TENSORS_MXFP4, 0x1.bffffep127f), 0x1p125f);
    assert_true(isnan(scale_of(QZ_RULE_COMPRESSED_TENSORS_MXFP4, 0x1.cp127f)));
    assert_float(half_scale_of(0), 1);
    assert_float(half_scale_of(0x1p-15f), 1);
    assert_float(half_scale_of(0x1.8p-15f), 0x1p-16f);
    assert_float(half_scale_of(57312), 0x1p13f);
    assert_true(isnan(half_scale_of(57344)));
}

/* ggml's E4M3: halves up, and nothing between 240 and 448. */
static void test_e4m3(void **state)
{
    (void)state;
    static const struct {
        float x, expected;
    } cases[] = {{0.0009765625f, 0x1p-9f},
                 {0.5f, 0.5f},
                 {1, 1},
                 {1.0625f, 1.125f},
                 {1.1875f, 1.25f},
                 {1.3125f, 1.375f},
                 {4 / 3.f, 1.375f},
                 {247, 240},
                 {248, 448},
                 {300, 448},
                 {448, 448},
                 {1e30f, 448},
                 {0x1p-11f, 0},
                 {0x1.fep-7f, 7 * 0x1p-9f}};
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_float(scale_of(QZ_RULE_NVFP4, 6.0f * cases[i].x), cases[i].expected);
}

/* Values for which the last of Q4_K's trials is the best: few are like that. */
static void test_last_trial(void **state)
{
    (void)state;
    static const int8_t sixteenths[32] = {-9, -5,  13, -2, -20, 5,   -12, 23, 2, -6, 1,  3, -29, 10, -12, -12,
                                          -7, -19, 23, -9, 1,   -23, 26,  -6, 4, -2, 22, 1, -4,  5,  -14, -17};
    static const uint8_t expected[32] = {6, 7, 12, 8, 3, 10, 5,  15, 9,  7, 9,  9, 0, 11, 5, 5,
                                         7, 3, 15, 6, 9, 2,  15, 7,  10, 8, 15, 9, 7, 10, 5, 4};
    struct qz_reference fit;
    float x[MOST];
    uint8_t codes[MOST];
    for (size_t i = 0; i < MOST; i++)
        x[i] = (float)sixteenths[i % 32] / 16.0f;
    assert_true(reference_block(QZ_RULE_Q4_K, NULL, x, MOST, &fit, codes));
    assert_float(fit.super[0], 0x1.d08p-9f);
    assert_float(fit.scale[7], 63);
    assert_memory_equal(codes, expected, 32);
    assert_memory_equal(codes + MOST - 32, expected, 32);
}

/* ---- the others ------------------------------------------------------------------------------------------------- */

/* One group by one rule, with scales in float32 if it is free to have them. */
static struct qz_reference group(qz_rule rule, const float *x, size_t n, uint8_t *codes)
{
    struct qz_reference_how how = {QZ_F32, qz_reference_divisor(8, QZ_F32), 0, QZ_F32};
    struct qz_reference fit;
    assert_true(reference_block(rule, &how, x, n, &fit, codes));
    return fit;
}

static void test_matmulnbits(void **state)
{
    (void)state;
    static const float ties[8] = {0.5f, -0.5f, 1.5f, -1.5f, 2.5f, -2.5f, -8, 7};
    uint8_t codes[16];
    float x[16];
    for (size_t i = 0; i < 16; i++)
        x[i] = v8[i % 8];
    struct qz_reference fit = group(QZ_RULE_MATMULNBITS, x, 16, codes);
    assert_float(fit.scale[0], 1);
    assert_pairs(codes, 16, 8, "40c86f9b40c86f9b");
    fit = group(QZ_RULE_MATMULNBITS_ZERO, x, 16, codes);
    assert_float(fit.scale[0], 1);
    assert_float(fit.zero[0], 8);
    assert_pairs(codes, 16, 0, "40c86f9b40c86f9b");
    for (size_t i = 0; i < 16; i++)
        x[i] = -x[i];
    fit = group(QZ_RULE_MATMULNBITS, x, 16, codes);
    assert_float(fit.scale[0], -1);
    assert_pairs(codes, 16, 8, "40c86f9b40c86f9b");
    group(QZ_RULE_MATMULNBITS, ties, 8, codes);
    assert_pairs(codes, 8, 8, "897a6bf0"); /* 9 8 10 7 11 6 0 15 */

    static const struct {
        float value, scale, zero;
        const char *codes;
    } constant[] = {{1, 0.06666667f, 0, "ffff"}, {-1, 0.06666667f, 15, "0000"}, {0, 0, 0, "0000"}};
    for (size_t t = 0; t < COUNT(constant); t++) {
        float four[4] = {constant[t].value, constant[t].value, constant[t].value, constant[t].value};
        fit = group(QZ_RULE_MATMULNBITS_ZERO, four, 4, codes);
        assert_float(fit.scale[0], constant[t].scale);
        assert_float(fit.zero[0], constant[t].zero);
        assert_pairs(codes, 4, 0, constant[t].codes);
    }
    static const float zeros[4] = {0};
    fit = group(QZ_RULE_MATMULNBITS, zeros, 4, codes);
    assert_true(fit.scale[0] == 0);
    assert_pairs(codes, 4, 8, "8888");

    /* Codes follow a scale that is stored as float16: -438.9 is 3.5007 times 125.375 and 3.497 times 125.5. For
     * bfloat16 it is rounded when the codes have been made. */
    static const float close[2] = {1003.0f, -438.9f};
    struct qz_reference_how half = {QZ_F16, 0, 0, QZ_F32}, brain = {QZ_BF16, 0, 0, QZ_F32};
    assert_true(reference_block(QZ_RULE_MATMULNBITS, &half, close, 2, &fit, codes));
    assert_float(fit.scale[0], -125.375f);
    assert_int_equal(codes[1], 4);
    assert_true(reference_block(QZ_RULE_MATMULNBITS, &brain, close, 2, &fit, codes));
    assert_float(fit.scale[0], -125.5f);
    assert_int_equal(codes[1], 4);
}

static void test_bitsandbytes(void **state)
{
    (void)state;
    static const uint8_t nf4[8] = {0, 2, 7, 12, 15, 4, 11, 9}, fp4[8] = {11, 13, 0, 5, 3, 15, 4, 6};
    static const float zeros[4] = {0};
    uint8_t codes[8];
    struct qz_reference fit = group(QZ_RULE_BNB_NF4, v8, 8, codes);
    assert_float(fit.scale[0], 8);
    assert_memory_equal(codes, nf4, 8);
    fit = group(QZ_RULE_BNB_FP4, v8, 8, codes);
    assert_float(fit.scale[0], 8);
    assert_memory_equal(codes, fp4, 8);
    fit = group(QZ_RULE_BNB_NF4, zeros, 4, codes);
    assert_float(fit.scale[0], 0);
    assert_pairs(codes, 4, 0, "7777");
    group(QZ_RULE_BNB_FP4, zeros, 4, codes);
    assert_pairs(codes, 4, 0, "0000");

    /* What lies exactly on a decision point takes the lower code, of 0 and -0 too. */
    static const float nf4_points[] = {-0x1.b239b0p-1f, -0x1.38a4e0p-1f, -0x1.d70900p-2f, -0x1.5bd4ecp-2f,
                                       -0x1.e079d8p-3f, -0x1.1a7178p-3f, -0x1.74f0e2p-5f, 0x1.45f5fep-5f,
                                       0x1.ec90c4p-4f,  0x1.a0cfc0p-3f,  0x1.2b05a8p-2f,  0x1.8ea7f2p-2f,
                                       0x1.00da08p-1f,  0x1.491b5ep-1f,  0x1.b913b4p-1f};
    static const float fp4_points[] = {
        -0.833333373f,  -0.583333373f, -0.416666687f, -0.291666687f, -0.208333343f, -0.0859375f,  -0.00260416674f, 0,
        0.00260416674f, 0.0859375f,    0.208333343f,  0.291666687f,  0.416666687f,  0.583333373f, 0.833333373f};
    static const uint8_t ascending[] = {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3};
    for (uint8_t i = 0; i < 15; i++) {
        float x[3] = {nf4_points[i], nextafterf(nf4_points[i], 1), 1};
        group(QZ_RULE_BNB_NF4, x, 3, codes);
        assert_int_equal(codes[0], i);
        assert_int_equal(codes[1], i + 1);
    }
    for (size_t i = 0; i < 15; i++) {
        float x[3] = {fp4_points[i], nextafterf(fp4_points[i], 1), 1};
        group(QZ_RULE_BNB_FP4, x, 3, codes);
        assert_int_equal(codes[0], ascending[i]);
        assert_int_equal(codes[1], ascending[i + 1]);
    }

    /* The last block of a tensor, if it is short, is divided; others are multiplied with the inverse. */
    static const float decisive[2] = {3.0f, -0x1.d4f74ep+0f};
    struct qz_reference_how last = {QZ_F32, 0, 1, QZ_F32};
    group(QZ_RULE_BNB_NF4, decisive, 2, codes);
    assert_int_equal(codes[1], 1);
    assert_true(reference_block(QZ_RULE_BNB_NF4, &last, decisive, 2, &fit, codes));
    assert_int_equal(codes[1], 2);
    assert_true(reference_block(QZ_RULE_BNB_NF4, &last, zeros, 4, &fit, codes));
    assert_float(fit.scale[0], 1e-38f);
}

static void test_compressed_tensors(void **state)
{
    (void)state;
    static const float zeros[4] = {0};
    uint8_t codes[32];
    struct qz_reference fit = group(QZ_RULE_COMPRESSED_TENSORS, v8, 8, codes);
    assert_float(fit.scale[0], 1.0666667f);
    assert_pairs(codes, 8, 8, "41c86f9b"); /* -8 / 1.0666667 is a little more than -7.5 */
    fit = group(QZ_RULE_COMPRESSED_TENSORS_ZERO, v8, 8, codes);
    assert_float(fit.scale[0], 1);
    assert_float(fit.zero[0], 8);
    assert_pairs(codes, 8, 0, "40c86f9b");

    static const struct {
        qz_dtype dtype;
        float epsilon;
    } types[] = {{QZ_F32, 0x1p-23f}, {QZ_F16, 0x1p-10f}, {QZ_BF16, 0x1p-7f}};
    for (size_t t = 0; t < COUNT(types); t++) {
        struct qz_reference_how how = {types[t].dtype, 0, 0, QZ_F32};
        assert_true(reference_block(QZ_RULE_COMPRESSED_TENSORS, &how, zeros, 4, &fit, codes));
        assert_float(fit.scale[0], types[t].epsilon);
        assert_pairs(codes, 4, 0, "0000");
        assert_true(reference_block(QZ_RULE_COMPRESSED_TENSORS_ZERO, &how, zeros, 4, &fit, codes));
        assert_float(fit.scale[0], types[t].epsilon);
        assert_float(fit.zero[0], 8);
        assert_pairs(codes, 4, 0, "8888");
    }

    /* In bfloat16, 1.3828125 / 0.18457 is 7.5. */
    static const float brain[2] = {-1.3828125f, -1.3828125f};
    struct qz_reference_how how = {QZ_BF16, 0, 0, QZ_F32};
    assert_true(reference_block(QZ_RULE_COMPRESSED_TENSORS, &how, brain, 2, &fit, codes));
    assert_pairs(codes, 2, 8, "11");
    how.weights = QZ_BF16;
    assert_true(reference_block(QZ_RULE_COMPRESSED_TENSORS, &how, brain, 2, &fit, codes));
    assert_pairs(codes, 2, 8, "00");

    assert_float(qz_reference_divisor(8, QZ_F32), 336);
    assert_float(qz_reference_divisor(15, QZ_F32), 0x1.666668p+7f); /* 2688 / 15 is less */
    assert_float(qz_reference_divisor(15, QZ_BF16), 180);
    assert_float(qz_reference_divisor(0, QZ_F32), 1);
    assert_float(qz_reference_divisor(0x1p-127f, QZ_BF16), 1);
    assert_float(qz_reference_divisor(0.04f, QZ_F16), 1);
    fit = group(QZ_RULE_COMPRESSED_TENSORS_NVFP4, v8, 8, codes);
    assert_float(fit.scale[0], 448);
    assert_float(fit.super[0], 336);
    assert_pairs(codes, 8, 0, "df50b724");
    fit = group(QZ_RULE_COMPRESSED_TENSORS_NVFP4, zeros, 4, codes);
    assert_float(fit.scale[0], 0.125f);
    assert_pairs(codes, 4, 0, "0000");
    fit = group(QZ_RULE_COMPRESSED_TENSORS_MXFP4, v8, 8, codes);
    assert_float(fit.scale[0], 2);
    assert_pairs(codes, 8, 0, "ce40a613");
    static const float ties[16] = {0.25f,  0.75f,  1.25f,  1.75f,  2.5f,  3.5f,  5,  6,
                                   -0.25f, -0.75f, -1.25f, -1.75f, -2.5f, -3.5f, -5, -0.0f};
    group(QZ_RULE_COMPRESSED_TENSORS_MXFP4, ties, 16, codes);
    assert_pairs(codes, 16, 0, "20426476a8caec0e"); /* to even; only what is below 0 becomes -0 */
}

static void test_gptq_and_awq(void **state)
{
    (void)state;
    static const float zeros[4] = {0}, positive[6] = {0, 1, 2, 7, 8, 15}, narrow[4] = {100, 101, 110, 115};
    uint8_t codes[8];
    struct qz_reference fit = group(QZ_RULE_GPTQ, v8, 8, codes);
    assert_float(fit.scale[0], 1.0666667f);
    assert_pairs(codes, 8, 8, "41c86f9b");
    fit = group(QZ_RULE_GPTQ, positive, 6, codes); /* the upper half of the codes has to do */
    assert_float(fit.scale[0], 1);
    assert_pairs(codes, 6, 8, "98faff");
    fit = group(QZ_RULE_GPTQ, zeros, 4, codes);
    assert_float(fit.scale[0], 2.0f / 15.0f);
    assert_pairs(codes, 4, 8, "8888");
    fit = group(QZ_RULE_GPTQ_ZERO, v8, 8, codes);
    assert_float(fit.scale[0], 1);
    assert_float(fit.zero[0], 8);
    assert_pairs(codes, 8, 0, "40c86f9b");
    fit = group(QZ_RULE_GPTQ_ZERO, zeros, 4, codes);
    assert_float(fit.scale[0], 2.0f / 15.0f);
    assert_float(fit.zero[0], 7); /* 1 / (2 / 15) is a little less than 7.5 */
    assert_pairs(codes, 4, 0, "7777");
    fit = group(QZ_RULE_AWQ, v8, 8, codes);
    assert_float(fit.scale[0], 1);
    assert_float(fit.zero[0], 8);
    assert_pairs(codes, 8, 0, "40c86f9b");
    fit = group(QZ_RULE_AWQ, narrow, 4, codes); /* the range does not reach down to 0 */
    assert_float(fit.scale[0], 1);
    assert_float(fit.zero[0], 0);
    assert_pairs(codes, 4, 0, "ffff");
    fit = group(QZ_RULE_AWQ, zeros, 4, codes);
    assert_float(fit.scale[0], 0x0bp-24f); /* 1e-5 / 15 in float16 */
    assert_float(fit.zero[0], 0);
    assert_pairs(codes, 4, 0, "0000");
    static const float both[2] = {-1, 1};
    fit = group(QZ_RULE_AWQ, both, 2, codes);
    assert_float(fit.scale[0], 0x1.11p-3f);
    assert_float(fit.zero[0], 8); /* -7.5 in float16 */
}

/* ---- all of them ------------------------------------------------------------------------------------------------ */

/* What value i of a block decodes to. */
static double decoded(qz_rule rule, const struct qz_reference *fit, const uint8_t *codes, size_t i)
{
    static const double e2m1[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    static const double fp4[8] = {0, 0.0625 / 12, 8 / 12.0, 1, 4 / 12.0, 6 / 12.0, 2 / 12.0, 3 / 12.0};
    static const double iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    static const double nf4[16] = {-1.0,    -0.69619, -0.52507, -0.39492, -0.28444, -0.18477, -0.09105, 0.0,
                                   0.07958, 0.16093,  0.24611,  0.33792,  0.44071,  0.56262,  0.72296,  1.0};
    size_t g = qz_rule_info(rule)->block == MOST ? i / 32 : 0;
    double scale = (double)fit->scale[g], zero = (double)fit->zero[g], code = codes[i], sign = codes[i] < 8 ? 1 : -1;
    switch (rule) {
    case QZ_RULE_Q4_0:
    case QZ_RULE_MATMULNBITS:
    case QZ_RULE_COMPRESSED_TENSORS:
    case QZ_RULE_GPTQ:
        return scale * (code < 8 ? code : code - 16);
    case QZ_RULE_Q4_1:
        return scale * code + zero;
    case QZ_RULE_MXFP4:
    case QZ_RULE_NVFP4:
    case QZ_RULE_COMPRESSED_TENSORS_MXFP4:
        return scale * sign * e2m1[codes[i] & 7];
    case QZ_RULE_COMPRESSED_TENSORS_NVFP4:
        return scale * sign * e2m1[codes[i] & 7] / (double)fit->super[0];
    case QZ_RULE_BNB_NF4:
        return scale * nf4[codes[i]];
    case QZ_RULE_BNB_FP4:
        return scale * sign * fp4[codes[i] & 7];
    case QZ_RULE_IQ4_NL:
    case QZ_RULE_IQ4_XS:
        return (double)fit->super[0] * scale * iq4[codes[i]];
    case QZ_RULE_Q4_K:
        return (double)fit->super[0] * scale * code - (double)fit->super[1] * zero;
    default:
        return scale * (code - zero);
    }
}

static size_t values_of(qz_rule rule, struct rng *rng)
{
    size_t block = qz_rule_info(rule)->block;
    return block ? block : 1 + rng_below(rng, 100);
}

/* Codes and scales mean what the plain form says they mean: values come back, and none of the rules is far off. */
static void test_meaning(void **state)
{
    (void)state;
    struct rng rng = rng_make(1);
    assert_null(qz_rule_info((qz_rule)(RULES + 1)));
    for (qz_rule rule = QZ_RULE_Q4_0; qz_rule_info(rule); rule++) {
        double signal = 0, error = 0;
        for (int t = 0; t < 200; t++) {
            float x[MOST];
            uint8_t codes[MOST];
            size_t n = qz_rule_info(rule)->block;
            n = n ? n : 32;
            fill_floats(&rng, DATA_NORMAL, x, n);
            struct qz_reference_how how = {QZ_F16, qz_reference_divisor(4, QZ_F32), 0, QZ_F32};
            struct qz_reference fit;
            assert_true(reference_block(rule, &how, x, n, &fit, codes));
            for (size_t i = 0; i < n; i++) {
                double off = (double)x[i] - decoded(rule, &fit, codes, i);
                signal += (double)x[i] * (double)x[i];
                error += off * off;
            }
        }
        double sqnr = 10 * log10(signal / error);
        print_message("rule %2d: %.2f dB\n", (int)rule, sqnr);
        assert_true(sqnr > 18 && sqnr < 25);
    }
}

/* Whatever the values: codes are 0..15, numbers are finite or the call says that they are not; and a rule that takes
 * pieces makes the same of them. */
static void test_any_values(void **state)
{
    (void)state;
    struct rng rng = rng_make(2);
    size_t unfit = 0;
    for (size_t t = 0; t < cases(6000, 600); t++) {
        qz_rule rule = (qz_rule)(1 + rng_below(&rng, RULES));
        static const qz_dtype dtypes[] = {QZ_F32, QZ_F16, QZ_BF16};
        float x[MOST];
        uint8_t codes[MOST], again[MOST];
        size_t n = values_of(rule, &rng);
        fill_floats(&rng, (enum data_kind)rng_below(&rng, DATA_KINDS), x, n);
        float largest = 0;
        for (size_t i = 0; i < n; i++)
            largest = fmaxf(largest, fabsf(x[i]));
        qz_dtype weights = dtypes[rng_below(&rng, 3)];
        struct qz_reference_how how = {dtypes[rng_below(&rng, 3)], qz_reference_divisor(largest, weights),
                                       (int)rng_below(&rng, 2), weights};
        struct qz_reference fit, second;
        int fits = reference_block(rule, &how, x, n, &fit, codes),
            finite = isfinite(fit.super[0]) && isfinite(fit.super[1]);
        for (int g = 0; g < QZ_REFERENCE_GROUPS; g++)
            finite = finite && isfinite(fit.scale[g]) && isfinite(fit.zero[g]);
        assert_int_equal(fits, finite != 0);
        unfit += !fits;
        for (size_t i = 0; i < n; i++)
            assert_true(codes[i] < 16);
        if (qz_rule_info(rule)->group)
            continue;
        struct qz_reference_range range = QZ_REFERENCE_NOTHING;
        size_t cut = rng_below(&rng, n + 1);
        qz_reference_range(&range, x, cut);
        qz_reference_range(&range, x + cut, n - cut);
        assert_int_equal(qz_reference_fit(rule, &how, &range, &second), fits);
        reference_codes(rule, &how, &second, x, cut, again);
        reference_codes(rule, &how, &second, x + cut, n - cut, again + cut);
        assert_memory_equal(again, codes, n);
        assert_memory_equal(second.scale, fit.scale, sizeof fit.scale);
        assert_memory_equal(second.zero, fit.zero, sizeof fit.zero);
    }
    assert_true(unfit > 0);
}

static uint64_t add_bytes(uint64_t sum, const void *data, size_t n)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ bytes[i]) * 0x100000001b3u; /* FNV-1a */
    return sum;
}

/* Blocks of all kinds of values come out as they always did, on every machine: checksums of codes and numbers. That
 * they are right is for tests/python/test_reference.py to say, where the rules are written a second time. */
static void test_sums(void **state)
{
    (void)state;
    static const uint64_t expected[RULES + 1] = {
        [QZ_RULE_Q4_0] = 0xe3c678fb74a42afbu,
        [QZ_RULE_Q4_1] = 0x5143f95e1367ec35u,
        [QZ_RULE_MXFP4] = 0xe879284b8b9bc5e4u,
        [QZ_RULE_NVFP4] = 0xafbff866b3a90040u,
        [QZ_RULE_IQ4_NL] = 0x4b8e174b562e0bb0u,
        [QZ_RULE_IQ4_XS] = 0x0fb373eb320b9972u,
        [QZ_RULE_Q4_K] = 0xbb09f90ff355ad90u,
        [QZ_RULE_MATMULNBITS] = 0x6c72b32a572968f9u,
        [QZ_RULE_MATMULNBITS_ZERO] = 0xa3045ff8bcf3a782u,
        [QZ_RULE_BNB_NF4] = 0x3c6fbe1ad7fba3abu,
        [QZ_RULE_BNB_FP4] = 0xb9cbc55337be883eu,
        [QZ_RULE_COMPRESSED_TENSORS] = 0xcbc328f327a6aa18u,
        [QZ_RULE_COMPRESSED_TENSORS_ZERO] = 0x872174666c7ae12cu,
        [QZ_RULE_COMPRESSED_TENSORS_NVFP4] = 0xc8aec27c9f023910u,
        [QZ_RULE_COMPRESSED_TENSORS_MXFP4] = 0x07057f63895ba642u,
        [QZ_RULE_GPTQ] = 0x0021b2e2c4872dedu,
        [QZ_RULE_GPTQ_ZERO] = 0x0f43f68cf79d72d2u,
        [QZ_RULE_AWQ] = 0x3955fd18c87956d4u,
    };
    uint64_t seed = test_seed;
    test_seed = 1;
    for (qz_rule rule = QZ_RULE_Q4_0; qz_rule_info(rule); rule++) {
        struct rng rng = rng_make((uint64_t)rule);
        uint64_t sum = 0xcbf29ce484222325u;
        for (size_t t = 0; t < 60 * DATA_KINDS; t++) {
            static const qz_dtype dtypes[] = {QZ_F32, QZ_F16, QZ_BF16};
            float x[MOST];
            uint8_t codes[MOST];
            size_t n = values_of(rule, &rng);
            fill_floats(&rng, (enum data_kind)(t % DATA_KINDS), x, n);
            struct qz_reference_how how = {dtypes[t % 3], qz_reference_divisor(4, QZ_F32), t % 2, dtypes[t / 6 % 3]};
            struct qz_reference fit;
            if (!reference_block(rule, &how, x, n, &fit, codes))
                continue;
            sum = add_bytes(sum, codes, n);
            for (int g = 0; g < QZ_REFERENCE_GROUPS; g++) { /* in any byte order */
                uint32_t scale = bits_of_float(fit.scale[g]), zero = bits_of_float(fit.zero[g]);
                for (int shift = 0; shift < 32; shift += 8) {
                    uint8_t pair[2] = {(uint8_t)(scale >> shift), (uint8_t)(zero >> shift)};
                    sum = add_bytes(sum, pair, 2);
                }
            }
        }
        if (sum != expected[rule])
            print_error("%s: 0x%016llx\n", qz_rule_name(rule), (unsigned long long)sum);
        assert_true(sum == expected[rule]);
    }
    test_seed = seed;
}

/* Values whose scale has no place in float16, and values at the ends of float32. */
static void test_ends(void **state)
{
    (void)state;
    static const float sizes[] = {FLT_MAX, 1e30f, 1e7f, 1, 1e-7f, 1e-15f, 1e-30f, FLT_MIN, 0x1p-140f, 0x1p-149f};
    for (qz_rule rule = QZ_RULE_Q4_0; qz_rule_info(rule); rule++)
        for (size_t s = 0; s < COUNT(sizes); s++)
            for (int sign = 0; sign < 3; sign++) {
                float x[MOST];
                uint8_t codes[MOST];
                const struct qz_rule_info *info = qz_rule_info(rule);
                size_t n = info->block ? info->block : 64;
                for (size_t i = 0; i < n; i++)
                    x[i] = sign == 0 ? sizes[s] : sign == 1 ? -sizes[s] : i % 2 ? sizes[s] : -sizes[s];
                struct qz_reference_how half = {QZ_F16, 1, 0, QZ_F32};
                struct qz_reference fit;
                int fits = reference_block(rule, &half, x, n, &fit, codes);
                if (sizes[s] <= 1 && rule != QZ_RULE_MXFP4) /* whose exponent wraps around to NaN at 2^-126 */
                    assert_true(fits);
                if (sizes[s] >= 1e30f && info->scale_dtype == 0 && (rule != QZ_RULE_AWQ || sign == 2))
                    assert_false(fits);
                for (size_t i = 0; i < n; i++)
                    assert_true(codes[i] < 16);
            }
}

/* Rounding without branches is what the conversions make there and back: each sign, exponent and upper mantissa, and next
 * to each where the rest decides. */
static void test_rounding(void **state)
{
    (void)state;
    static const uint32_t rest[] = {0,      1,      0xfff,  0x1000, 0x1001, 0x1fff, 0x2fff, 0x3000,
                                    0x3001, 0x7fff, 0x8000, 0x8001, 0xefff, 0xf000, 0xf001, 0xffff};
    for (uint32_t top = 0; top <= 0xffff; top++)
        for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++) {
            const float x = qz_float(top << 16 | rest[i]);
            assert_int_equal(qz_bits(qz_rounded_to_f16(x)), qz_bits(qz_f32_from_f16(qz_f16_from_f32(x))));
            assert_int_equal(qz_bits(qz_rounded_to_bf16(x)), qz_bits(qz_f32_from_bf16(qz_bf16_from_f32(x))));
        }
}

int main(void)
{
    start_program("test_reference");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ggml),         cmocka_unit_test(test_ggml_constant),
        cmocka_unit_test(test_exponents),    cmocka_unit_test(test_e4m3),
        cmocka_unit_test(test_last_trial),   cmocka_unit_test(test_matmulnbits),
        cmocka_unit_test(test_bitsandbytes), cmocka_unit_test(test_compressed_tensors),
        cmocka_unit_test(test_gptq_and_awq), cmocka_unit_test(test_meaning),
        cmocka_unit_test(test_any_values),   cmocka_unit_test(test_sums),
        cmocka_unit_test(test_ends),         cmocka_unit_test(test_rounding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
