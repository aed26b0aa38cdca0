/*
 * test_one_group.c - single groups whose codes and scales are known: ties, zeros, constants, the ends of types
 */
#include "support/program.h"

#include "support/cases.h"
#include "support/reference.h"

/* One group of n values through encode and decode. */
struct one {
    qz_result result;
    qz_stats stats;
    qz_detail detail;
    float scale, zero, y[64];
    int codes[64];
};

static struct one one_group(const char *name, qz_dtype scale_dtype, qz_method method, const float *x, size_t n)
{
    struct one one = {.stats = QZ_STATS_INIT, .detail = QZ_DETAIL_INIT};
    qz_scheme scheme = *qz_scheme_by_name(name);
    scheme.scale_dtype = scale_dtype;
    scheme.group_size = QZ_WHOLE_ROW;
    uint8_t codes[32];
    double scale[1], zero[1] = {0}; /* room for any type */
    float copy[64];
    memcpy(copy, x, n * sizeof *x);
    qz_matrix src = {copy, QZ_F32, 1, n, (int64_t)n, 1}, dst = {one.y, QZ_F32, 1, n, (int64_t)n, 1};
    qz_packed packed = {codes, scale, zero, 32, 4, 4, NULL, 0};
    qz_options options = QZ_OPTIONS_INIT;
    options.method = method;
    one.result = CALL(qz_encode(&scheme, &src, &packed, &options, &one.stats, &one.detail));
    if (one.result != QZ_OK)
        return one;
    assert_int_equal(QZ_OK, CALL(qz_decode(&scheme, &packed, &dst, NULL, NULL)));
    one.scale = (float)ref_load(scale, scale_dtype);
    one.zero = scheme.zero == QZ_ZERO_UINT4    ? (float)ref_get_code(zero, 0)
               : scheme.zero == QZ_ZERO_OFFSET ? (float)ref_load(zero, scale_dtype)
                                               : 0.0f;
    for (size_t i = 0; i < n; i++) {
        one.codes[i] = ref_get_code(codes, i);
        if (scheme.codes == QZ_INT4 && one.codes[i] > 7)
            one.codes[i] -= 16;
    }
    return one;
}

static void test_ties(void **state)
{
    (void)state;
    /* Of +m and -m the first becomes -8; the other can only be 7. */
    struct one one = one_group("int4", QZ_F32, QZ_ABSMAX, (float[]){0.5f, 8, -8, 1}, 4);
    assert_true(one.scale == -1.0f && one.codes[1] == -8 && one.codes[2] == 7);
    assert_int_equal(one.stats.clipped, 1);
    assert_true(one.stats.max_error == 1.0 && one.stats.max_index == 2);
    one = one_group("int4", QZ_F32, QZ_ABSMAX, (float[]){0.5f, -8, 8, 1}, 4);
    assert_true(one.scale == 1.0f && one.codes[1] == -8 && one.codes[2] == 7);
    one = one_group("int4", QZ_F16, QZ_ABSMAX7, (float[]){-7, 7, 0.5f, 1.5f, 2.5f}, 5);
    assert_true(one.scale == 1.0f && one.codes[0] == -7 && one.codes[1] == 7);
    assert_true(one.codes[2] == 0 && one.codes[3] == 2 && one.codes[4] == 2); /* halves go to the even code */

    /* Wherever the two stand in groups of all lengths. */
    for (size_t n = 2; n <= 64; n++)
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < n; k++) {
                float x[64] = {0};
                if (i == k)
                    continue;
                x[i] = 4;
                x[k] = -4;
                one = one_group("int4", QZ_F16, QZ_ABSMAX, x, n);
                assert_true(one.scale == (i < k ? -0.5f : 0.5f));
                assert_true(one.codes[i < k ? i : k] == -8 && one.codes[i < k ? k : i] == 7);
            }
}

/* A scale of E8M0 is two binades below the largest magnitude: 4 is four times its scale, 7.9 is beyond the value 6. */
static void test_exponents(void **state)
{
    (void)state;
    static const float wanted[][2] = {
        {4, 4}, {5.5f, 6}, {6, 6}, {7.9f, 6}, {8, 8}, {3.9f, 3}, {0.75f, 0.75f}, {0x1p-100f, 0x1p-100f},
    };
    for (size_t i = 0; i < COUNT(wanted); i++)
        for (int sign = -1; sign <= 1; sign += 2) {
            const float x[] = {0, (float)sign * wanted[i][0], wanted[i][0] * 0.25f};
            struct one one = one_group("mxfp4", QZ_E8M0, QZ_ABSMAX, x, COUNT(x));
            assert_int_equal(QZ_OK, one.result);
            assert_true(one.y[1] == (float)sign * wanted[i][1]);
        }
}

static void test_zeros(void **state)
{
    (void)state;
    static const char *const names[] = {"int4", "uint4", "uint4_offset"};
    const float x[] = {0.0f, -0.0f, 0.0f, -0.0f, -0.0f};
    for (size_t s = 0; s < COUNT(names); s++)
        for (size_t d = 0; d < COUNT(scale_dtypes); d++) {
            struct one one = one_group(names[s], scale_dtypes[d], QZ_DEFAULT, x, COUNT(x));
            assert_int_equal(one.result, QZ_OK);
            assert_int_equal(bits_of_float(one.scale), 0);
            assert_int_equal(bits_of_float(one.zero), 0);
            for (size_t i = 0; i < COUNT(x); i++)
                assert_true(one.y[i] == 0.0f && one.codes[i] == 0);
            assert_true(one.stats.zeroed_groups == 0 && one.stats.subnormal_scales == 0 && one.stats.error == 0 &&
                        one.stats.max_error == 0 && one.stats.clipped == 0);
        }
}

/* Equal values are exact wherever their type lets them be. */
static void test_constants(void **state)
{
    (void)state;
    static const float values[] = {1.0f, -3.0f, 0.5f, 96.0f, -0x1p-10f};
    for (size_t v = 0; v < COUNT(values); v++)
        for (size_t d = 0; d < COUNT(scale_dtypes); d++) {
            float x[5] = {values[v], values[v], values[v], values[v], values[v]};
            struct one one = one_group("int4", scale_dtypes[d], QZ_ABSMAX, x, 5);
            for (size_t i = 0; i < 5; i++)
                assert_true(one.y[i] == x[i] && one.codes[i] == -8);
            one = one_group("uint4_offset", scale_dtypes[d], QZ_DEFAULT, x, 5);
            for (size_t i = 0; i < 5; i++)
                assert_true(one.y[i] == x[i] && one.codes[i] == 0);
            assert_int_equal(one.stats.zeroed_groups, 0);
            one = one_group("uint4", scale_dtypes[d], QZ_DEFAULT, x, 5);
            for (size_t i = 0; i < 5; i++)
                assert_true(one.y[i] == x[i]);
        }
}

static void test_scale_limits(void **state)
{
    (void)state;
    /* Beyond float16: refused with the group's largest magnitude; the same in bfloat16 and float32 is fine. */
    struct one one = one_group("int4", QZ_F16, QZ_ABSMAX, (float[]){1, -600000, 2}, 3);
    assert_int_equal(one.result, QZ_ERROR_SCALE);
    assert_true(one.detail.group == 0 && one.detail.value == 600000.0);
    assert_int_equal(one_group("int4", QZ_F16, QZ_ABSMAX, (float[]){1, -524000, 2}, 3).result, QZ_OK);
    assert_int_equal(one_group("int4", QZ_BF16, QZ_ABSMAX, (float[]){1, -600000, 2}, 3).result, QZ_OK);
    assert_int_equal(one_group("int4", QZ_F32, QZ_ABSMAX, (float[]){1, -600000, 2}, 3).result, QZ_OK);
    one = one_group("uint4_offset", QZ_F16, QZ_DEFAULT, (float[]){70000, 70001}, 2); /* the offset */
    assert_int_equal(one.result, QZ_ERROR_SCALE);
    assert_true(one.detail.value == 70001.0);
    one = one_group("uint4_offset", QZ_BF16, QZ_DEFAULT, (float[]){-FLT_MAX, 1}, 2);
    assert_int_equal(one.result, QZ_ERROR_SCALE);

    /* Vanishing: decodes to zeros and is counted. 2^-25 / 8 is half of the least float16. */
    one = one_group("int4", QZ_F16, QZ_ABSMAX, (float[]){0x1p-22f, 0}, 2);
    assert_true(one.result == QZ_OK && one.stats.zeroed_groups == 1 && one.y[0] == 0 && one.codes[0] == 0);
    assert_true(one.stats.error == 0x1p-44 && one.stats.max_error == 0x1p-22);
    /* Subnormal scales work, and are counted. */
    one = one_group("int4", QZ_F16, QZ_ABSMAX, (float[]){0x1p-21f, 0}, 2);
    assert_true(one.stats.zeroed_groups == 0 && one.stats.subnormal_scales == 1 && one.y[0] == 0x1p-21f);
    one = one_group("int4", QZ_F16, QZ_ABSMAX, (float[]){0x1p-11f, 0}, 2);
    assert_true(one.stats.subnormal_scales == 0 && one.y[0] == 0x1p-11f);
    one = one_group("int4", QZ_F32, QZ_ABSMAX, (float[]){0x1p-126f, 0x1p-128f, -0x1p-126f, 3 * 0x1p-129f}, 4);
    assert_true(one.stats.subnormal_scales == 1 && one.y[0] == 0x1p-126f && one.y[1] == 0x1p-128f);
    assert_true(one.codes[0] == -8 && one.codes[1] == -2 && one.codes[2] == 7 && one.codes[3] == -3);
    one = one_group("int4", QZ_F32, QZ_ABSMAX, (float[]){0x1p-149f, 0}, 2);
    assert_true(one.stats.zeroed_groups == 1 && one.y[0] == 0);
    one = one_group("uint4_offset", QZ_F32, QZ_DEFAULT, (float[]){0x1p-149f, 15 * 0x1p-149f, 0}, 3);
    assert_true(one.y[0] == 0x1p-149f && one.y[1] == 15 * 0x1p-149f && one.y[2] == 0);
}

/* Up to the end of float32's range, no value becomes infinite and none is off by more than half a step. */
static void test_huge_groups(void **state)
{
    (void)state;
    static const float ends[][2] = {{-FLT_MAX, FLT_MAX},
                                    {FLT_MAX, -FLT_MAX},
                                    {FLT_MAX, FLT_MAX},
                                    {-3e38f, 3e38f},
                                    {3e38f, 1},
                                    {0, FLT_MAX},
                                    {-FLT_MAX, 0},
                                    {-3.3e38f, 3.1e38f},
                                    {0x1.fep127f, FLT_MAX},
                                    {-0x1.fep127f, FLT_MAX},
                                    {0x1.fcp127f, FLT_MAX},
                                    {0x1.fep127f, 0x1.ffp127f},
                                    {0x1p127f, FLT_MAX},
                                    {0x1.8p127f, FLT_MAX}};
    static const char *const names[] = {"int4", "int4", "uint4", "uint4_offset"};
    for (size_t e = 0; e < COUNT(ends); e++)
        for (size_t s = 0; s < COUNT(names); s++)
            for (size_t d = 0; d < COUNT(scale_dtypes); d++) {
                float x[33];
                for (int i = 0; i < 33; i++)
                    x[i] = ends[e][0] * (1 - (float)i / 32) + ends[e][1] * ((float)i / 32);
                qz_method method = s == 0 ? QZ_ABSMAX : s == 1 ? QZ_ABSMAX7 : QZ_DEFAULT;
                struct one one = one_group(names[s], scale_dtypes[d], method, x, 33);
                if (scale_dtypes[d] == QZ_F16) {
                    assert_int_equal(one.result, QZ_ERROR_SCALE);
                    continue;
                }
                if (one.result == QZ_ERROR_SCALE) { /* an offset beyond bfloat16, or 15 steps beyond float32 */
                    float span = fabsf(ends[e][1] * 0.5f - ends[e][0] * 0.5f);
                    assert_true(s == 3 && (scale_dtypes[d] == QZ_BF16 || span >= 0x1p127f));
                    continue;
                }
                assert_int_equal(one.result, QZ_OK);
                uint64_t clipped = 0;
                for (int i = 0; i < 33; i++) {
                    double step = fabs((double)one.scale), off = fabs((double)one.y[i] - (double)x[i]);
                    /* absmax has no code for the other end, and where the last value is infinite the code next to it
                     * stands in. A bfloat16 scale is up to 2^-9 short or long, 15 times. */
                    double bound = step * (scale_dtypes[d] == QZ_BF16 ? 1.1 : 1.01);
                    if (isinf(one.y[i]) || !(off <= bound))
                        fail_msg("%s, %s, %a..%a: x[%d] = %a became %a, scale %a, zero %a", names[s],
                                 qz_dtype_name(scale_dtypes[d]), (double)ends[e][0], (double)ends[e][1], i,
                                 (double)x[i], (double)one.y[i], (double)one.scale, (double)one.zero);
                    clipped += off > step * 0.45; /* a tie at the end may count, or not */
                }
                if (one.stats.clipped > clipped || isinf(one.stats.error) || isnan(one.stats.error))
                    fail_msg("%s, %s, %a..%a: %d clipped, error %g", names[s], qz_dtype_name(scale_dtypes[d]),
                             (double)ends[e][0], (double)ends[e][1], (int)one.stats.clipped, one.stats.error);
            }
}

int main(void)
{
    start_program("test_one_group");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ties),      cmocka_unit_test(test_exponents),    cmocka_unit_test(test_zeros),
        cmocka_unit_test(test_constants), cmocka_unit_test(test_scale_limits), cmocka_unit_test(test_huge_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
