/*
 * test_array.c - one scale for a whole array: the public functions against docs/format.md, as support/reference.h
 * states it, in memory between guard pages and in hostile floating-point modes
 */
#include "support/program.h"

#include "support/cases.h"
#include "support/guard.h"
#include "support/reference.h"

/* ---- one scale for a whole array ----------------------------------------------------------------------------- */

/* Quantizes values that are given as doubles, after rounding them to `dtype`, and compares all outputs with the
 * reference; then decodes and compares again. Returns 1 if all is well. */
static int whole_array_case(const double *values, size_t n, qz_dtype dtype, qz_method method, double *scale,
                            double *zero_point, int8_t *codes_out)
{
    size_t size = qz_dtype_size(dtype);
    double *x = malloc(n * sizeof *x + 1), wanted_scale, wanted_zero;
    struct guard source = guard_make(n * size), target = guard_make(n), floats = guard_make(n * 8);
    char *src = guard_end(source, n * size, 0);
    int8_t *codes = guard_end(target, n, 0);
    for (size_t i = 0; i < n; i++) {
        x[i] = ref_round(values[i], dtype);
        ref_store(src + i * size, dtype, x[i]);
    }
    int good = CALL(qz_quantize_i4(src, dtype, n, method, codes, scale, zero_point, NULL, NULL)) == QZ_OK;
    ref_whole_scale(x, n, method, &wanted_scale, &wanted_zero);
    if (bits_of_double(*scale) != bits_of_double(wanted_scale) ||
        bits_of_double(*zero_point) != bits_of_double(wanted_zero)) {
        printf("scale %a, zero point %a, wanted %a, %a\n", *scale, *zero_point, wanted_scale, wanted_zero);
        good = 0;
    }
    for (size_t i = 0; good && i < n; i++)
        if (codes[i] != ref_whole_code(x[i], wanted_scale, wanted_zero)) {
            printf("x[%zu] = %a: code %d, wanted %d (scale %a, zero point %a)\n", i, x[i], codes[i],
                   ref_whole_code(x[i], wanted_scale, wanted_zero), wanted_scale, wanted_zero);
            good = 0;
        }
    good &= guard_check(target, codes, n);
    if (good && codes_out)
        memcpy(codes_out, codes, n);

    qz_detail detail = QZ_DETAIL_INIT;
    qz_result result = QZ_OK;
    size_t first = n;
    for (size_t i = 0; first == n && i < n; i++)
        first = isinf(ref_whole_value(codes[i], *scale, *zero_point)) ? i : n;
    double *decoded = guard_end(floats, n * sizeof *decoded, 0);
    result = CALL(qz_dequantize_i4(codes, n, *scale, *zero_point, decoded, QZ_F64, NULL, &detail));
    good = good && result == (first < n ? QZ_ERROR_RANGE : QZ_OK) && guard_check(floats, decoded, n * sizeof *decoded);
    good = good && (first == n || detail.index == first);
    for (size_t i = 0; good && first == n && i < n; i++) {
        double value = ref_whole_value(codes[i], *scale, *zero_point);
        /* Half a step; a few roundings of double arithmetic on numbers as large as these. */
        double bound = *scale * 0.5 + (fabs(x[i]) + fabs(*zero_point * *scale)) * 0x1p-50;
        if (bits_of_double(decoded[i]) != bits_of_double(value) || !(fabs(decoded[i] - x[i]) <= bound)) {
            printf("x[%zu] = %a, code %d, decodes to %a, wanted %a; scale %a\n", i, x[i], codes[i], decoded[i], value,
                   *scale);
            good = 0;
        }
    }
    guard_fill(floats);
    float *narrow = guard_end(floats, n * sizeof *narrow, 0);
    if (good) {
        first = n;
        for (size_t i = 0; first == n && i < n; i++)
            first = isinf((float)ref_whole_value(codes[i], *scale, *zero_point)) ? i : n;
        result = CALL(qz_dequantize_i4(codes, n, *scale, *zero_point, narrow, QZ_F32, NULL, &detail));
        good &= result == (first < n ? QZ_ERROR_RANGE : QZ_OK) && guard_check(floats, narrow, n * sizeof *narrow);
        good &= first == n || detail.index == first;
        for (size_t i = 0; good && first == n && i < n; i++)
            if (bits_of_float(narrow[i]) != bits_of_float((float)ref_whole_value(codes[i], *scale, *zero_point))) {
                printf("x[%zu] = %a decodes to %a as float32\n", i, x[i], (double)narrow[i]);
                good = 0;
            }
    }
    guard_free(source);
    guard_free(target);
    guard_free(floats);
    free(x);
    return good;
}

static void test_whole_array_random(void **state)
{
    (void)state;
    struct rng rng = rng_make(1);
    static const size_t lengths[] = {1, 2, 3, 7, 31, 32, 33, 63, 64, 65, 100, 255, 1000, 4095, 4096, 4097, 70000};
    for (size_t repeat = 0; repeat < cases(20, 2); repeat++)
        for (int kind = 0; kind < DATA_KINDS; kind++)
            for (size_t d = 0; d < COUNT(all_dtypes); d++)
                for (int method = QZ_MINMAX; method <= QZ_ABSMAX7; method += QZ_ABSMAX7 - QZ_MINMAX) {
                    size_t n = lengths[rng_below(&rng, COUNT(lengths) - (repeat > 1))];
                    struct field field = field_make(QZ_F64, 1, n, LAYOUT_ROWS);
                    float *values = malloc(n * sizeof *values);
                    fill_floats(&rng, (enum data_kind)kind, values, n);
                    for (size_t i = 0; i < n; i++)
                        field_put(&(qz_matrix){field.start, QZ_F64, 1, n, (int64_t)n, 1}, 0, i,
                                  fmax(fmin((double)values[i], all_dtypes[d] == QZ_F16 ? 65504 : DBL_MAX),
                                       all_dtypes[d] == QZ_F16 ? -65504 : -DBL_MAX) *
                                      (all_dtypes[d] == QZ_BF16 ? 0.99 : 1.0));
                    double scale, zero_point;
                    if (!whole_array_case(field.start, n, all_dtypes[d], (qz_method)method, &scale, &zero_point, NULL))
                        fail_msg("%s data, %s, %s, n = %zu, mode %s", data_name((enum data_kind)kind),
                                 qz_dtype_name(all_dtypes[d]), method_name((qz_method)method), n,
                                 fp_mode_name(fp_calls));
                    free(values);
                    field_free(field);
                }
}

/* Each float32 value where a code begins, and its neighbours: where guesses go wrong. */
static void test_whole_array_thresholds(void **state)
{
    (void)state;
    struct rng rng = rng_make(2);
    for (size_t repeat = 0; repeat < cases(2000, 50); repeat++) {
        double values[2 + 15 * 5 + 5], scale, zero_point;
        int wide = (int)rng_below(&rng, 80);
        float low = rng_normal(&rng) * power_of_two((int)rng_below(&rng, 60) - 30);
        float high = low + fabsf(low) * power_of_two(-wide % 24) + power_of_two((int)rng_below(&rng, 100) - 50);
        qz_method method = repeat % 2 ? QZ_MINMAX : QZ_ABSMAX7;
        values[0] = (double)low;
        values[1] = (double)high;
        ref_whole_scale(values, 2, method, &scale, &zero_point);
        size_t n = 2;
        for (int code = -7; code <= 7; code++) {
            float x = (float)((code - 0.5 - zero_point) * scale);
            for (int i = 0; i < 2; i++)
                x = nextafterf(x, -INFINITY);
            for (int i = 0; i < 5; i++, x = nextafterf(x, INFINITY))
                if (x >= low && x <= high)
                    values[n++] = (double)x;
        }
        double got_scale, got_zero;
        if (!whole_array_case(values, n, QZ_F32, method, &got_scale, &got_zero, NULL) || scale != got_scale)
            fail_msg("range %a..%a, %s", (double)low, (double)high, method_name(method));
    }
}

struct known {
    const char *name;
    qz_method method;
    qz_dtype dtype;
    size_t n;
    double x[5], scale, zero_point;
    int8_t codes[5];
};

#define LEAST 0x1p-1074 /* the least positive double */

/* Worked by hand. */
static const struct known known[] = {
    {"symmetric", QZ_MINMAX, QZ_F64, 4, {-1, -0.25, 0.5, 1}, 2.0 / 15, 0, {-8, -2, 4, 7}},
    {"positive", QZ_MINMAX, QZ_F32, 3, {0, 7, 15}, 1, -8, {-8, -1, 7}},
    {"negative", QZ_MINMAX, QZ_F32, 3, {-15, -8, 0}, 1, 7, {-8, -1, 7}},
    {"skewed", QZ_MINMAX, QZ_F64, 4, {10, 11.5, 13, 25}, 1, -18, {-8, -6, -5, 7}},
    {"offset", QZ_MINMAX, QZ_F64, 2, {1e6, 1e6 + 1}, 1.0 / 15, -15000008, {-8, 7}},
    {"whole range of double", QZ_MINMAX, QZ_F64, 3, {-1.7e308, 0, 1.7e308}, 1.7e308 / 7.5, 0, {-8, 0, 7}},
    {"all of the range of double", QZ_MINMAX, QZ_F64, 2, {-DBL_MAX, DBL_MAX}, DBL_MAX / 7.5, 0, {-7, 7}},
    {"upper half", QZ_MINMAX, QZ_F64, 2, {0, 1.5e308}, 1e307, -8, {-8, 7}},
    {"constant", QZ_MINMAX, QZ_F64, 3, {2.5, 2.5, 2.5}, 1, -2.5, {0, 0, 0}},
    {"constant, not representable", QZ_MINMAX, QZ_F64, 2, {0.1, 0.1}, 1, -0.1, {0, 0}},
    {"huge constant", QZ_MINMAX, QZ_F64, 1, {-1.7e308}, 1, 1.7e308, {0}},
    {"subnormal constant", QZ_MINMAX, QZ_F64, 1, {LEAST}, 1, -LEAST, {0}},
    {"zeros of both signs", QZ_MINMAX, QZ_F32, 3, {0.0, -0.0, 0.0}, 1, 0, {0, 0, 0}},
    {"the least range", QZ_MINMAX, QZ_F64, 2, {0, LEAST}, LEAST, -8, {-8, -7}},
    {"the least range about 0", QZ_MINMAX, QZ_F64, 3, {-LEAST, 0, LEAST}, LEAST, 0, {-1, 0, 1}},
    {"subnormal, a whole number of steps", QZ_MINMAX, QZ_F64, 3, {0, LEAST * 7, LEAST * 15}, LEAST, -8, {-8, -1, 7}},
    {"subnormal, a part of a step", QZ_MINMAX, QZ_F64, 3, {-LEAST * 16, 0, LEAST * 4}, 2 * LEAST, 4, {-4, 4, 6}},
    {"empty", QZ_MINMAX, QZ_F32, 0, {0}, 1, 0, {0}},
    {"absmax", QZ_ABSMAX7, QZ_F64, 4, {-1, -0.25, 0.5, 1}, 1.0 / 7, 0, {-7, -2, 4, 7}},
    {"absmax ties", QZ_ABSMAX7, QZ_F32, 5, {7, 0.5, 1.5, 2.5, -2.5}, 1, 0, {7, 0, 2, 2, -2}},
    {"absmax, huge", QZ_ABSMAX7, QZ_F64, 2, {-1.4e308, 0.7e308}, 2e307, 0, {-7, 4}},
    {"absmax of zeros", QZ_ABSMAX7, QZ_F64, 2, {-0.0, 0}, 1, 0, {0, 0}},
    {"absmax constant", QZ_ABSMAX7, QZ_F32, 2, {-14, -14}, 2, 0, {-7, -7}},
    {"absmax, least", QZ_ABSMAX7, QZ_F64, 2, {-LEAST, 0}, LEAST, 0, {-1, 0}},
    {"absmax, empty", QZ_ABSMAX7, QZ_F16, 0, {0}, 1, 0, {0}},
};

static void test_whole_array_known(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(known); i++) {
        const struct known *k = &known[i];
        double scale, zero_point;
        int8_t codes[5];
        if (!whole_array_case(k->x, k->n, k->dtype, k->method, &scale, &zero_point, codes))
            fail_msg("%s: not what the reference does", k->name);
        if (fabs(scale - k->scale) > k->scale * 0x1p-52 || zero_point != k->zero_point ||
            signbit(zero_point) > (zero_point < 0))
            fail_msg("%s: scale %a, zero point %a, not %a, %a", k->name, scale, zero_point, k->scale, k->zero_point);
        if (k->n && memcmp(codes, k->codes, k->n) != 0)
            fail_msg("%s: codes %d %d %d %d %d", k->name, codes[0], codes[1], codes[2], codes[3], codes[4]);
    }
}

/* All ranges of a few of the least doubles, with every number in them: a step of a whole number of those is rarely a
 * fifteenth or seventh of the range. */
static void test_whole_array_least(void **state)
{
    (void)state;
    int most = short_mode ? 18 : 40;
    for (int min = -most; min <= most; min++)
        for (int max = min; max <= most; max++)
            for (int method = QZ_MINMAX; method <= QZ_ABSMAX7; method += QZ_ABSMAX7 - QZ_MINMAX) {
                double values[81], scale, zero_point;
                for (int i = min; i <= max; i++)
                    values[i - min] = i * LEAST;
                if (!whole_array_case(values, (size_t)(max - min + 1), QZ_F64, (qz_method)method, &scale, &zero_point,
                                      NULL))
                    fail_msg("%d..%d times the least double, %s", min, max, method_name((qz_method)method));
            }
}

static void test_whole_array_both_ends(void **state)
{
    (void)state;
    struct rng rng = rng_make(3);
    for (size_t repeat = 0; repeat < cases(500, 50); repeat++) {
        double values[40], scale, zero_point;
        int8_t codes[40];
        double factor = ldexp(1.0, (int)rng_below(&rng, 1600) - 800), shift = (double)rng_normal(&rng) * 5;
        for (size_t i = 0; i < COUNT(values); i++)
            values[i] = ((double)rng_normal(&rng) + shift) * factor;
        assert_true(whole_array_case(values, 40, QZ_F64, QZ_MINMAX, &scale, &zero_point, codes));
        int least = 7, most = -8;
        for (size_t i = 0; i < COUNT(codes); i++) {
            least = codes[i] < least ? codes[i] : least;
            most = codes[i] > most ? codes[i] : most;
        }
        assert_int_equal(least, -8);
        assert_int_equal(most, 7);
    }
}

static void test_whole_array_nonfinite(void **state)
{
    (void)state;
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t d = 0; d < COUNT(all_dtypes); d++)
        for (size_t n = 1; n < 400; n += n < 70 ? 1 : 37)
            for (size_t at = 0; at < n; at += n < 70 ? 1 : 5)
                for (size_t b = 0; b < COUNT(bad); b++) {
                    qz_dtype dtype = all_dtypes[d];
                    double values[400], scale, zero_point;
                    int8_t codes[400];
                    qz_matrix row = {values, dtype, 1, n, (int64_t)n, 1};
                    for (size_t i = 0; i < n; i++)
                        ref_store(field_at(&row, 0, i), dtype, (double)i);
                    ref_store(field_at(&row, 0, at), dtype, bad[b]);
                    ref_store(field_at(&row, 0, n - 1), dtype, bad[b]);
                    qz_detail detail = QZ_DETAIL_INIT;
                    for (int method = QZ_MINMAX; method <= QZ_ABSMAX7; method += 2) {
                        assert_int_equal(QZ_ERROR_NONFINITE,
                                         CALL(qz_quantize_i4(values, dtype, n, (qz_method)method, codes, &scale,
                                                             &zero_point, NULL, &detail)));
                        assert_int_equal(detail.index, at);
                        assert_int_equal(detail.count, at == n - 1 ? 1 : 2);
                        assert_true(isnan(bad[b]) ? isnan(detail.value) : detail.value == bad[b]);
                        assert_int_equal(QZ_ERROR_NONFINITE,
                                         CALL(qz_quantize_i4(values, dtype, n, (qz_method)method, codes, &scale,
                                                             &zero_point, NULL, NULL)));
                    }
                }
}

static void test_whole_array_arguments(void **state)
{
    (void)state;
    float x[2] = {1, 2}, y[2];
    int8_t codes[2];
    double scale = 0, zero_point = 0;
    static const int methods[] = {QZ_DEFAULT, QZ_ABSMAX, 4, -1};
    for (size_t i = 0; i < COUNT(methods); i++)
        assert_int_equal(QZ_ERROR_ARGUMENT, CALL(qz_quantize_i4(x, QZ_F32, 2, (qz_method)methods[i], codes, &scale,
                                                                &zero_point, NULL, NULL)));
    static const int dtypes[] = {0, 5, -1, 1000};
    for (size_t i = 0; i < COUNT(dtypes); i++) {
        assert_int_equal(QZ_ERROR_ARGUMENT, CALL(qz_quantize_i4(x, (qz_dtype)dtypes[i], 2, QZ_MINMAX, codes, &scale,
                                                                &zero_point, NULL, NULL)));
        assert_int_equal(QZ_ERROR_ARGUMENT, CALL(qz_dequantize_i4(codes, 2, 1, 0, y, (qz_dtype)dtypes[i], NULL, NULL)));
    }
    assert_int_equal(QZ_ERROR_ARGUMENT, CALL(qz_dequantize_i4(codes, 2, 1, 0, y, QZ_F16, NULL, NULL)));
    assert_int_equal(QZ_ERROR_ARGUMENT, CALL(qz_dequantize_i4(codes, 2, 1, 0, y, QZ_BF16, NULL, NULL)));
    static const double scales[] = {0, -0.0, -1, NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < COUNT(scales); i++)
        assert_int_equal(QZ_ERROR_ARGUMENT, CALL(qz_dequantize_i4(codes, 2, scales[i], 0, y, QZ_F32, NULL, NULL)));
    assert_int_equal(QZ_ERROR_ARGUMENT, CALL(qz_dequantize_i4(codes, 2, 1, NAN, y, QZ_F32, NULL, NULL)));
    assert_int_equal(QZ_ERROR_ARGUMENT, CALL(qz_dequantize_i4(codes, 2, 1, INFINITY, y, QZ_F32, NULL, NULL)));

    /* Nothing to do, nothing to point at. */
    assert_int_equal(QZ_OK, CALL(qz_quantize_i4(NULL, QZ_F64, 0, QZ_MINMAX, NULL, &scale, &zero_point, NULL, NULL)));
    assert_true(scale == 1.0 && zero_point == 0.0);
    assert_int_equal(QZ_OK, CALL(qz_dequantize_i4(NULL, 0, 1, 0, NULL, QZ_F32, NULL, NULL)));
    assert_int_equal(QZ_OK, CALL(qz_pack_i4(NULL, 0, NULL, NULL, NULL)));
    assert_int_equal(QZ_OK, CALL(qz_unpack_i4(NULL, 0, NULL, NULL)));
}

static void test_dequantize_codes(void **state)
{
    (void)state;
    struct rng rng = rng_make(4);
    for (size_t n = 1; n < 200; n += 1 + n / 20)
        for (size_t at = 0; at < n; at++) {
            int8_t codes[200];
            double y[200];
            qz_detail detail = QZ_DETAIL_INIT;
            for (size_t i = 0; i < n; i++)
                codes[i] = (int8_t)((int)rng_below(&rng, 16) - 8);
            codes[at] = (int8_t)(at % 2 ? 8 + (int)rng_below(&rng, 120) : -9 - (int)rng_below(&rng, 120));
            codes[n - 1] = at == n - 1 ? codes[at] : 8;
            for (int narrow = 0; narrow < 2; narrow++) {
                assert_int_equal(QZ_ERROR_CODE,
                                 CALL(qz_dequantize_i4(codes, n, 0.5, 0, y, narrow ? QZ_F32 : QZ_F64, NULL, &detail)));
                assert_int_equal(detail.index, at);
                assert_int_equal(detail.count, at == n - 1 ? 1 : 2);
                assert_true(detail.value == codes[at]);
            }
            uint8_t packed[100];
            detail = (qz_detail)QZ_DETAIL_INIT;
            assert_int_equal(QZ_ERROR_CODE, CALL(qz_pack_i4(codes, n, packed, NULL, &detail)));
            assert_int_equal(detail.index, at);
            assert_int_equal(detail.count, at == n - 1 ? 1 : 2);
            assert_true(detail.value == codes[at]);
            assert_int_equal(QZ_ERROR_CODE, CALL(qz_pack_i4(codes, n, packed, NULL, NULL)));
            assert_int_equal(QZ_ERROR_CODE, CALL(qz_dequantize_i4(codes, n, 0.5, 0, y, QZ_F64, NULL, NULL)));
        }
}

static void test_dequantize_range(void **state)
{
    (void)state;
    /* 7 * 2^125 is the only value beyond float32: FLT_MAX is just below 2^128. */
    int8_t codes[100];
    float y[100];
    double z[100];
    for (int i = 0; i < 100; i++)
        codes[i] = (int8_t)(i % 15 - 8);
    qz_detail detail = QZ_DETAIL_INIT;
    assert_int_equal(QZ_OK, CALL(qz_dequantize_i4(codes, 100, 0x1p124, 0, y, QZ_F32, NULL, &detail)));
    codes[37] = 7;
    codes[99] = 7;
    assert_int_equal(QZ_OK, CALL(qz_dequantize_i4(codes, 100, 0x1p124, 0, y, QZ_F32, NULL, &detail)));
    assert_int_equal(QZ_ERROR_RANGE, CALL(qz_dequantize_i4(codes, 100, 0x1.2p125, 0, y, QZ_F32, NULL, &detail)));
    assert_int_equal(detail.index, 0); /* -8 * 2^125 */
    assert_true(detail.value == -0x1.2p128);
    assert_int_equal(QZ_OK, CALL(qz_dequantize_i4(codes, 100, 0x1.2p125, 0, z, QZ_F64, NULL, &detail)));

    /* With zero point 1, code -8 would be 9 steps away: it is not used, so nothing is wrong. */
    for (int i = 0; i < 100; i++)
        codes[i] = (int8_t)(i % 4);
    codes[37] = codes[41] = 7;
    double scale = (double)FLT_MAX / 6.9;
    assert_int_equal(QZ_ERROR_RANGE, CALL(qz_dequantize_i4(codes, 100, scale, 0, y, QZ_F32, NULL, &detail)));
    assert_int_equal(detail.index, 37);
    assert_int_equal(detail.count, 2);
    assert_true(detail.value == scale * 7);
    assert_int_equal(QZ_ERROR_RANGE, CALL(qz_dequantize_i4(codes, 100, scale, 0, y, QZ_F32, NULL, NULL)));
    assert_int_equal(QZ_OK, CALL(qz_dequantize_i4(codes, 100, scale, 1, y, QZ_F32, NULL, &detail)));

    /* On the edge: what rounds to FLT_MAX fits. */
    codes[0] = 1;
    assert_int_equal(QZ_OK,
                     CALL(qz_dequantize_i4(codes, 1, nextafter(0x1.ffffffp127, 0), 0, y, QZ_F32, NULL, &detail)));
    assert_true(y[0] == FLT_MAX);
    assert_int_equal(QZ_ERROR_RANGE, CALL(qz_dequantize_i4(codes, 1, 0x1.ffffffp127, 0, y, QZ_F32, NULL, &detail)));
    assert_int_equal(QZ_ERROR_RANGE, CALL(qz_dequantize_i4(codes, 1, 1.7e308, -1, z, QZ_F64, NULL, &detail)));
    assert_true(isinf(detail.value));
}

static void test_pack(void **state)
{
    (void)state;
    struct rng rng = rng_make(5);
    for (size_t n = 0; n < 70000; n += n < 300 ? 1 : n / 3) {
        struct guard codes_guard = guard_make(n), packed_guard = guard_make(n), back_guard = guard_make(n);
        int8_t *codes = guard_end(codes_guard, n, 0), *back = guard_end(back_guard, n, 0);
        size_t bytes = n / 2 + n % 2;
        uint8_t *packed = guard_end(packed_guard, bytes, 0);
        assert_int_equal(qz_packed_bytes(n), bytes);
        for (size_t i = 0; i < n; i++)
            codes[i] = (int8_t)((int)rng_below(&rng, 16) - 8);
        assert_int_equal(QZ_OK, CALL(qz_pack_i4(codes, n, packed, NULL, NULL)));
        for (size_t i = 0; i < bytes; i++)
            assert_int_equal(packed[i], (codes[2 * i] & 15) | (2 * i + 1 < n ? (codes[2 * i + 1] & 15) << 4 : 0));
        assert_true(guard_check(packed_guard, packed, bytes));
        if (n % 2)
            packed[bytes - 1] |= 0x70; /* not looked at */
        assert_int_equal(QZ_OK, CALL(qz_unpack_i4(packed, n, back, NULL)));
        assert_true(same_bytes("unpacked codes", back, codes, n, 1));
        assert_true(guard_check(back_guard, back, n));
        guard_free(codes_guard);
        guard_free(packed_guard);
        guard_free(back_guard);
    }
    assert_int_equal(qz_packed_bytes(SIZE_MAX), SIZE_MAX / 2 + 1);
}

/* Past 16 MiB of output the stores are others. */
static void test_large_outputs(void **state)
{
    (void)state;
    if (short_mode)
        skip();
    struct rng rng = rng_make(6);
    size_t n = (34u << 20) + 77;
    struct guard floats = guard_make(n * sizeof(float)), codes = guard_make(n), packed = guard_make(n / 2 + 1);
    float *x = guard_end(floats, n * sizeof *x, 0);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(int32_t)rng_next(&rng) * 0x1p-31f;
    x[5] = -1;
    x[n - 1] = 1;
    int8_t *c = guard_end(codes, n, 0);
    uint8_t *p = guard_end(packed, n / 2 + 1, 0);
    double scale, zero_point;
    assert_int_equal(QZ_OK, CALL(qz_quantize_i4(x, QZ_F32, n, QZ_MINMAX, c, &scale, &zero_point, NULL, NULL)));
    assert_true(scale == 2.0 / 15 && zero_point == 0);
    for (size_t i = 0; i < n; i++)
        if (c[i] != ref_whole_code((double)x[i], scale, zero_point))
            fail_msg("x[%zu] = %a: code %d", i, (double)x[i], c[i]);
    assert_int_equal(QZ_OK, CALL(qz_pack_i4(c, n, p, NULL, NULL)));
    for (size_t i = 0; i < n; i++)
        if (ref_get_code(p, i) != (c[i] & 15))
            fail_msg("packed[%zu]", i);
    assert_int_equal(p[n / 2] >> 4, 0);
    assert_int_equal(QZ_OK, CALL(qz_dequantize_i4(c, n, scale, zero_point, x, QZ_F32, NULL, NULL)));
    for (size_t i = 0; i < n; i++)
        if (x[i] != (float)(c[i] * scale))
            fail_msg("decoded[%zu]", i);
    memset(c, 99, n);
    assert_int_equal(QZ_OK, CALL(qz_unpack_i4(p, n, c, NULL)));
    for (size_t i = 0; i < n; i++)
        if (x[i] != (float)(c[i] * scale))
            fail_msg("unpacked[%zu]", i);
    assert_true(guard_check(codes, c, n) && guard_check(packed, p, n / 2 + 1) && guard_check(floats, x, n * 4));

    /* Slices of several threads, from anywhere in a cache line on. */
    qz_pool *pool = NULL;
    assert_int_equal(QZ_OK, qz_pool_create(3, &pool));
    for (size_t gap = 0; gap < 64; gap += 8) {
        size_t m = (2u << 20) + 99 + gap;
        guard_fill(floats);
        double *d = guard_end(floats, m * sizeof *d, gap);
        assert_int_equal(QZ_OK, CALL(qz_dequantize_i4(c, m, scale, zero_point, d, QZ_F64, pool, NULL)));
        for (size_t i = 0; i < m; i++)
            if (bits_of_double(d[i]) != bits_of_double(c[i] * scale))
                fail_msg("decoded[%zu], gap %zu", i, gap);
        assert_true(guard_check_near(floats, d, m * sizeof *d, 4096));
    }
    qz_pool_destroy(pool);
    guard_free(floats);
    guard_free(codes);
    guard_free(packed);
}

/* The same in each hostile floating-point mode. */
static void test_whole_array_modes(void **state)
{
    enum fp_mode usual = fp_calls;
    for (int mode = 0; mode < FP_MODES; mode++) {
        if (!fp_mode_exists((enum fp_mode)mode) || (enum fp_mode)mode == usual)
            continue;
        fp_calls = (enum fp_mode)mode;
        test_whole_array_known(state);
        test_whole_array_thresholds(state);
        test_dequantize_range(state);
    }
    fp_calls = usual;
}

int main(void)
{
    start_program("test_array");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_array_known),      cmocka_unit_test(test_whole_array_random),
        cmocka_unit_test(test_whole_array_thresholds), cmocka_unit_test(test_whole_array_least),
        cmocka_unit_test(test_whole_array_both_ends),  cmocka_unit_test(test_whole_array_nonfinite),
        cmocka_unit_test(test_whole_array_arguments),  cmocka_unit_test(test_dequantize_codes),
        cmocka_unit_test(test_dequantize_range),       cmocka_unit_test(test_pack),
        cmocka_unit_test(test_large_outputs),          cmocka_unit_test(test_whole_array_modes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
