/*
 * test_groups.c - matrices of groups: encoding, decoding and comparing against docs/format.md, as
 * support/reference.h states it, in every layout, in memory between guard pages and in hostile floating-point modes
 */
#include "support/program.h"

#include "support/cases.h"
#include "support/guard.h"
#include "support/reference.h"

/* ---- a case -------------------------------------------------------------------------------------------------- */

struct grouped {
    qz_scheme scheme;
    qz_method method;
    qz_dtype dtype, out_dtype;
    enum layout layout, out_layout;
    enum data_kind data;
    uint64_t rows, cols;
    size_t gap;
    qz_nonfinite nonfinite;
    int bad; /* put so many NaN and infinities in */
};

static void print_case(const struct grouped *g)
{
    printf(
        "%s, %s scales, zero %s, group size %llu, %llu x %llu %s (%s), %s data, gap %zu, out %s (%s), %d not finite%s, "
        "mode %s\n",
        method_name(g->method), qz_dtype_name(g->scheme.scale_dtype), zero_name(g->scheme.zero),
        (unsigned long long)g->scheme.group_size, (unsigned long long)g->rows, (unsigned long long)g->cols,
        qz_dtype_name(g->dtype), layout_name(g->layout), data_name(g->data), g->gap, qz_dtype_name(g->out_dtype),
        layout_name(g->out_layout), g->bad, g->nonfinite == QZ_CLIP ? " clipped" : "", fp_mode_name(fp_calls));
}

/* Decodes what was encoded, into any type and layout, against the reference. */
static int decode_case(const struct grouped *g, const struct plain *plain)
{
    struct field out = field_make(g->out_dtype, g->rows, g->cols, g->out_layout);
    struct field wanted = field_make(g->out_dtype, g->rows, g->cols, g->out_layout);
    qz_detail detail = QZ_DETAIL_INIT, wanted_detail = QZ_DETAIL_INIT;
    qz_result result = CALL(qz_decode(&g->scheme, &plain->packed, &out.matrix, NULL, &detail));
    qz_result wanted_result = ref_decode(&g->scheme, &plain->packed, &wanted.matrix, &wanted_detail);
    int good = result == wanted_result;
    if (!good)
        printf("qz_decode: result %d, wanted %d\n", result, wanted_result);
    else if (result == QZ_OK)
        good = same_memory("decoded", out.guard, wanted.guard, qz_dtype_size(g->out_dtype));
    else if (detail.index != wanted_detail.index || detail.count != wanted_detail.count ||
             detail.value != wanted_detail.value) {
        printf("qz_decode: %llu values beyond range, the first is [%llu] = %a, wanted %llu, [%llu] = %a\n",
               (unsigned long long)detail.count, (unsigned long long)detail.index, detail.value,
               (unsigned long long)wanted_detail.count, (unsigned long long)wanted_detail.index, wanted_detail.value);
        good = 0;
    }
    field_free(out);
    field_free(wanted);
    return good;
}

/* The statistics of a float64 source, which is not rounded: the same in double. */
static int same_double_stats(const qz_stats *got, const qz_matrix *x, const qz_matrix *y)
{
    long double error = 0;
    double most = 0;
    uint64_t where = 0;
    for (uint64_t r = 0; r < x->rows; r++)
        for (uint64_t c = 0; c < x->cols; c++) {
            double difference = fabs(ref_element(x, r, c) - ref_element(y, r, c));
            error += (long double)difference * (long double)difference;
            if (difference > most)
                most = difference, where = r * x->cols + c;
        }
    return got->count == x->rows * x->cols && got->max_error == most && got->max_index == where &&
           fabsl((long double)got->error - error) <= error * 1e-9L + 0x1p-1000L;
}

/* qz_compare and qz_compare_matrices against sums in long double. The decoded values are those of the reference. */
static int compare_case(const struct grouped *g, const struct field *src, const struct plain *plain)
{
    struct field decoded = field_make(QZ_F32, g->rows, g->cols, g->out_layout);
    qz_detail detail = QZ_DETAIL_INIT;
    ref_decode(&g->scheme, &plain->packed, &decoded.matrix, &detail);
    struct ref_stats wanted = {0};
    for (uint64_t r = 0; r < g->rows; r++)
        for (uint64_t c = 0; c < g->cols; c++)
            ref_add_error(&wanted, (float)ref_element(&src->matrix, r, c), (float)ref_element(&decoded.matrix, r, c),
                          r * g->cols + c);
    qz_stats stats = QZ_STATS_INIT;
    int wide = src->matrix.dtype == QZ_F64;
    int good = CALL(qz_compare(&g->scheme, &plain->packed, &src->matrix, NULL, &stats, NULL)) == QZ_OK &&
               (wide ? same_double_stats(&stats, &src->matrix, &decoded.matrix)
                     : same_stats(&stats, &wanted, g->rows * g->cols));
    if (!good)
        printf("qz_compare\n");
    stats = (qz_stats)QZ_STATS_INIT;
    int also = CALL(qz_compare_matrices(&src->matrix, &decoded.matrix, NULL, &stats, NULL)) == QZ_OK &&
               (wide ? same_double_stats(&stats, &src->matrix, &decoded.matrix)
                     : same_stats(&stats, &wanted, g->rows * g->cols));
    if (!also)
        printf("qz_compare_matrices\n");
    field_free(decoded);
    return good && also;
}

static void put_nonfinite(struct rng *rng, const struct grouped *g, const struct field *src)
{
    static const double bad[] = {NAN, INFINITY, -INFINITY, NAN, INFINITY};
    for (int i = 0; i < g->bad; i++)
        ref_store(field_at(&src->matrix, rng_below(rng, (size_t)g->rows), rng_below(rng, (size_t)g->cols)), g->dtype,
                  PICK(rng, bad));
}

/* Encodes one matrix; all memory around and between the outputs must keep the canary, as in the reference's copy. */
static int grouped_case(struct rng *rng, const struct grouped *g)
{
    struct field src = field_make(g->dtype, g->rows, g->cols, g->layout);
    memset(src.guard.bytes, 0xff, src.guard.size); /* gaps hold NaN: reading one would show */
    field_fill(rng, &src.matrix, g->data);
    if (g->rows && g->cols)
        put_nonfinite(rng, g, &src);
    struct plain plain = plain_make(&g->scheme, g->rows, g->cols, g->gap);
    struct plain wanted = plain_make(&g->scheme, g->rows, g->cols, g->gap);
    struct ref_stats wanted_stats;
    qz_detail detail = QZ_DETAIL_INIT, wanted_detail = QZ_DETAIL_INIT;
    qz_stats stats = QZ_STATS_INIT;
    qz_options options = QZ_OPTIONS_INIT;
    options.method = g->method;
    options.nonfinite = g->nonfinite;

    qz_result wanted_result =
        ref_encode(&g->scheme, g->method, g->nonfinite, &src.matrix, &wanted.packed, &wanted_stats, &wanted_detail);
    qz_result result = CALL(qz_encode(&g->scheme, &src.matrix, &plain.packed, &options, &stats, &detail));
    int good = result == wanted_result;
    if (!good) {
        printf("qz_encode: result %d, wanted %d\n", result, wanted_result);
    } else if (result == QZ_OK) {
        good &= same_memory("scales", plain.scales, wanted.scales, qz_dtype_size(g->scheme.scale_dtype));
        good &= same_memory("zeros", plain.zeros, wanted.zeros,
                            g->scheme.zero == QZ_ZERO_OFFSET ? qz_dtype_size(g->scheme.scale_dtype) : 1);
        good &= same_memory("codes", plain.codes, wanted.codes, 1);
        good &= same_stats(&stats, &wanted_stats, g->rows * g->cols);
        good &= CALL(qz_validate(&g->scheme, &plain.packed, g->rows, g->cols, NULL)) == QZ_OK;

        guard_fill(plain.codes); /* without statistics the work is done differently */
        guard_fill(plain.scales);
        guard_fill(plain.zeros);
        good &= CALL(qz_encode(&g->scheme, &src.matrix, &plain.packed, &options, NULL, NULL)) == QZ_OK &&
                same_memory("codes without statistics", plain.codes, wanted.codes, 1) &&
                same_memory("scales without statistics", plain.scales, wanted.scales, 1) &&
                same_memory("zeros without statistics", plain.zeros, wanted.zeros, 1);
        good = good && decode_case(g, &plain);
        good = good && (wanted_stats.replaced || compare_case(g, &src, &plain));
    } else if (result == QZ_ERROR_SCALE) {
        good = detail.group == wanted_detail.group && detail.value == wanted_detail.value;
        if (!good)
            printf("group %llu, value %a, wanted %llu, %a\n", (unsigned long long)detail.group, detail.value,
                   (unsigned long long)wanted_detail.group, wanted_detail.value);
    } else {
        good = detail.index == wanted_detail.index && detail.count == wanted_detail.count &&
               (detail.value == wanted_detail.value || (isnan(detail.value) && isnan(wanted_detail.value)));
        if (!good)
            printf("index %llu, count %llu, value %a, wanted %llu, %llu, %a\n", (unsigned long long)detail.index,
                   (unsigned long long)detail.count, detail.value, (unsigned long long)wanted_detail.index,
                   (unsigned long long)wanted_detail.count, wanted_detail.value);
    }
    if (!good)
        print_case(g);
    field_free(src);
    plain_free(plain);
    plain_free(wanted);
    return good;
}

/* ---- many cases ---------------------------------------------------------------------------------------------- */

static struct grouped random_case(struct rng *rng)
{
    static const uint64_t sizes[] = {1,  2,  3,  4,  5,  7,   8,   13,  15,  16,  17,  31,   32,  33,
                                     48, 63, 64, 96, 99, 100, 127, 128, 129, 255, 256, 1000, 2047};
    struct grouped g;
    memset(&g, 0, sizeof g);
    uint64_t group_size = PICK(rng, sizes);
    g.cols = 1 + rng_below(rng, rng_below(rng, 8) ? 200 : 3000);
    if (rng_below(rng, 3) == 0) /* around whole numbers of groups */
        g.cols = group_size * (1 + rng_below(rng, 5)) + rng_below(rng, 3) - (group_size > 1);
    switch (rng_below(rng, 20)) {
    case 0:
        group_size = QZ_WHOLE_ROW;
        break;
    case 1:
        group_size = g.cols;
        break;
    case 2:
        group_size = g.cols + 1 + rng_below(rng, 3);
        break;
    case 3:
        group_size = g.cols > 1 ? g.cols - 1 : 1;
        break;
    default:
        break;
    }
    g.rows = 1 + rng_below(rng, rng_below(rng, 4) ? 8 : 80);
    if (g.rows * g.cols > 20000)
        g.rows = 20000 / g.cols + 1;
    if (rng_below(rng, 200) == 0)
        g.rows = 0;
    if (rng_below(rng, 200) == 0)
        g.cols = 0;
    g.scheme = scheme_kind(rng_below(rng, SCHEME_KINDS), group_size, &g.method);
    g.dtype = PICK(rng, all_dtypes);
    g.out_dtype = PICK(rng, all_dtypes);
    g.layout = (enum layout)rng_below(rng, rng_below(rng, 3) ? LAYOUT_SPREAD : INPUT_LAYOUTS);
    g.out_layout = (enum layout)rng_below(rng, rng_below(rng, 3) ? LAYOUT_SPREAD : LAYOUTS);
    g.data = (enum data_kind)rng_below(rng, DATA_KINDS);
    g.gap = rng_below(rng, 2) * rng_below(rng, 7);
    if (rng_below(rng, 6) == 0) {
        g.bad = 1 + (int)rng_below(rng, rng_below(rng, 2) ? 3 : 500);
        g.nonfinite = rng_below(rng, 4) ? QZ_CLIP : QZ_REFUSE;
    }
    return g;
}

/* Groups and rows of 1, 2, 3, ... : all the ways in which a few elements can be cut. */
static void test_grouped_small(void **state)
{
    (void)state;
    struct rng rng = rng_make(9);
    uint64_t most = short_mode ? 9 : 20;
    for (uint64_t cols = 1; cols <= most; cols++)
        for (uint64_t group_size = 1; group_size <= cols + 1; group_size++)
            for (uint64_t rows = 1; rows <= 3; rows++)
                for (size_t kind = 0; kind < SCHEME_KINDS; kind++) {
                    struct grouped g = {.rows = rows, .cols = cols, .dtype = QZ_F32, .out_dtype = QZ_F32};
                    g.scheme = scheme_kind(kind, group_size, &g.method);
                    g.data = (enum data_kind)rng_below(&rng, DATA_KINDS);
                    g.layout = rng_below(&rng, 2) ? LAYOUT_ROWS : LAYOUT_COLUMNS;
                    assert_true(grouped_case(&rng, &g));
                }
}

static void test_grouped_random(void **state)
{
    (void)state;
    struct rng rng = rng_make(8);
    for (size_t repeat = 0; repeat < cases(2500, 300); repeat++) {
        struct grouped g = random_case(&rng);
        assert_true(grouped_case(&rng, &g));
    }
}

/* Groups around the sizes at which tiles are cut, and rows long enough for several slices. */
static void test_grouped_long(void **state)
{
    (void)state;
    struct rng rng = rng_make(10);
    static const uint64_t sizes[] = {1024, 1365, 2047, 2048, 2049, 3001, 4095, 4096, 4097, 8191, 8192, 9999, 20001};
    static const uint64_t columns[] = {4096, 4097, 8195, 12289, 20001, 40003};
    for (size_t kind = 0; kind < 4; kind++) /* odd groups in an odd row: the second starts in the middle of a byte */
        for (int bad = 0; bad < 6; bad += 3) {
            struct grouped g = {.rows = 2, .cols = 4097, .gap = 1, .dtype = QZ_F32, .out_dtype = QZ_F64};
            g.scheme = scheme_kind(kind, 2049, &g.method);
            g.bad = bad;
            g.nonfinite = QZ_CLIP;
            assert_true(grouped_case(&rng, &g));
            g.scheme.group_size = 2731; /* ends with a whole byte */
            assert_true(grouped_case(&rng, &g));
        }
    for (size_t repeat = 0; repeat < cases(160, 12); repeat++) {
        struct grouped g = random_case(&rng);
        g.scheme = scheme_kind(repeat % SCHEME_KINDS, PICK(&rng, sizes), &g.method);
        g.cols = PICK(&rng, columns);
        g.rows = 1 + rng_below(&rng, 3);
        assert_true(grouped_case(&rng, &g));
    }
    for (size_t repeat = 0; repeat < cases(15, 2); repeat++) { /* several slices: 2^15 elements each */
        struct grouped g = random_case(&rng);
        static const uint64_t few[] = {1, 32, 100, 128};
        g.scheme = scheme_kind(repeat % SCHEME_KINDS, PICK(&rng, few), &g.method);
        g.cols = 500 + rng_below(&rng, 600);
        g.rows = 130 + rng_below(&rng, 100);
        assert_true(grouped_case(&rng, &g));
    }
}

/* Bytes from elsewhere: decoding them is safe, qz_validate finds what is wrong with them. */
static void test_foreign_bytes(void **state)
{
    (void)state;
    struct rng rng = rng_make(14);
    for (size_t repeat = 0; repeat < cases(250, 50); repeat++) {
        struct grouped g = random_case(&rng);
        struct plain plain = plain_make(&g.scheme, g.rows, g.cols, g.gap);
        for (size_t i = 0; i < plain.codes.size; i++)
            plain.codes.bytes[i] = (uint8_t)rng_next(&rng);
        for (size_t i = 0; i < plain.scales.size; i++)
            plain.scales.bytes[i] = (uint8_t)rng_next(&rng);
        for (size_t i = 0; i < plain.zeros.size; i++)
            plain.zeros.bytes[i] = (uint8_t)rng_next(&rng);
        struct field out = field_make(g.out_dtype, g.rows, g.cols, g.out_layout);
        qz_result result = CALL(qz_decode(&g.scheme, &plain.packed, &out.matrix, NULL, NULL));
        assert_true(result == QZ_OK || result == QZ_ERROR_RANGE);
        for (uint64_t r = 0; result == QZ_OK && r < g.rows; r++)
            for (uint64_t c = 0; c < g.cols; c++) {
                double wanted = ref_round((double)ref_decoded(&g.scheme, &plain.packed, g.cols, r, c), g.out_dtype);
                double got = ref_element(&out.matrix, r, c);
                if (!(got == wanted || (isnan(got) && isnan(wanted)))) {
                    print_case(&g);
                    fail_msg("(%d, %d) decodes to %a, wanted %a", (int)r, (int)c, got, wanted);
                }
            }
        CALL(qz_validate(&g.scheme, &plain.packed, g.rows, g.cols, NULL));
        field_free(out);
        plain_free(plain);
    }
}

/* Sums with weights, of ordinary magnitudes and of such that products of weights and values leave float32's range. */
static void test_weighted_statistics(void **state)
{
    (void)state;
    static const int exponents[][2] = {{0, 0}, {100, 100}, {20, -90}, {-30, 20}}; /* of values, of weights */
    struct rng rng = rng_make(17);
    for (size_t repeat = 0; repeat < cases(200, 64); repeat++) {
        uint64_t rows = 1 + rng_below(&rng, 5), cols = 1 + rng_below(&rng, 300), group_size = 1 + rng_below(&rng, 40);
        qz_options options = QZ_OPTIONS_INIT;
        qz_scheme scheme = scheme_kind(repeat % 4, group_size, &options.method); /* float32 scales */
        if (repeat % 3 == 0)
            options.method = QZ_SEARCH;
        float value = power_of_two(exponents[repeat / 4 % 4][0]), weight = power_of_two(exponents[repeat / 4 % 4][1]);
        struct field src = field_make(QZ_F32, rows, cols, (enum layout)rng_below(&rng, LAYOUTS));
        struct field weights = field_make(QZ_F32, rows, cols, (enum layout)rng_below(&rng, LAYOUTS));
        struct field decoded = field_make(QZ_F32, rows, cols, LAYOUT_ROWS);
        struct plain plain = plain_make(&scheme, rows, cols, 0);
        for (uint64_t r = 0; r < rows; r++)
            for (uint64_t c = 0; c < cols; c++) {
                int none = c % group_size != 0 && rng_below(&rng, 4) == 0; /* not a whole group */
                field_put(&src.matrix, r, c, (double)(rng_normal(&rng) * value));
                field_put(&weights.matrix, r, c, none ? 0.0 : (double)((0.1f + fabsf(rng_normal(&rng))) * weight));
            }
        options.weights = &weights.matrix;
        qz_stats stats = QZ_STATS_INIT;
        assert_int_equal(QZ_OK, CALL(qz_encode(&scheme, &src.matrix, &plain.packed, &options, &stats, NULL)));
        assert_int_equal(QZ_OK, CALL(qz_decode(&scheme, &plain.packed, &decoded.matrix, NULL, NULL)));
        long double signal = 0, error = 0;
        for (uint64_t r = 0; r < rows; r++)
            for (uint64_t c = 0; c < cols; c++) {
                double x = ref_element(&src.matrix, r, c), off = x - ref_element(&decoded.matrix, r, c);
                long double w = (long double)ref_element(&weights.matrix, r, c);
                signal += w * (long double)x * (long double)x;
                error += w * (long double)off * (long double)off;
            }
        if (!(fabsl((long double)stats.weighted_signal - signal) <= signal * 1e-5L) ||
            !(fabsl((long double)stats.weighted_error - error) <= error * 1e-5L + signal * 0x1p-44L))
            fail_msg("case %zu: weighted signal %.9g, wanted %.9Lg; error %.9g, wanted %.9Lg", repeat,
                     stats.weighted_signal, signal, stats.weighted_error, error);
        field_free(src);
        field_free(weights);
        field_free(decoded);
        plain_free(plain);
    }
}

/* ---- floating-point modes ------------------------------------------------------------------------------------ */

/* Each kind of data with each scheme, in each hostile floating-point mode. */
static void test_grouped_modes(void **state)
{
    (void)state;
    enum fp_mode usual = fp_calls;
    struct rng rng = rng_make(11);
    for (int mode = 0; mode < FP_MODES; mode++) {
        if (!fp_mode_exists((enum fp_mode)mode))
            continue;
        fp_calls = (enum fp_mode)mode;
        for (size_t kind = 0; kind < SCHEME_KINDS; kind++)
            for (int data = 0; data < DATA_KINDS; data++)
                for (size_t repeat = 0; repeat < cases(3, 1); repeat++) {
                    struct grouped g = random_case(&rng);
                    static const uint64_t few[] = {1, 7, 32, 128};
                    g.scheme = scheme_kind(kind, PICK(&rng, few), &g.method);
                    g.rows = g.rows < 4 ? g.rows : 4;
                    g.cols = g.cols < 300 ? g.cols : 300;
                    g.data = (enum data_kind)data;
                    assert_true(grouped_case(&rng, &g));
                }
    }
    fp_calls = usual;
}

/* Statistics are sums over many slices: their bits, too, must not depend on the caller's mode. */
static void test_statistics_modes(void **state)
{
    (void)state;
    enum fp_mode usual = fp_calls;
    struct rng rng = rng_make(12);
    struct field src = field_make(QZ_F32, 300, 1000, LAYOUT_ROWS);
    field_fill(&rng, &src.matrix, DATA_NORMAL);
    struct plain plain = plain_make(qz_scheme_by_name("int4"), 300, 1000, 0);
    qz_stats first = QZ_STATS_INIT, first_compared = QZ_STATS_INIT;
    for (int mode = 0; mode < FP_MODES; mode++) {
        if (!fp_mode_exists((enum fp_mode)mode))
            continue;
        fp_calls = (enum fp_mode)mode;
        qz_stats stats = QZ_STATS_INIT, compared = QZ_STATS_INIT;
        assert_int_equal(QZ_OK,
                         CALL(qz_encode(qz_scheme_by_name("int4"), &src.matrix, &plain.packed, NULL, &stats, NULL)));
        assert_int_equal(
            QZ_OK, CALL(qz_compare(qz_scheme_by_name("int4"), &plain.packed, &src.matrix, NULL, &compared, NULL)));
        if (mode == 0) {
            first = stats;
            first_compared = compared;
        }
        fp_calls = usual;
        if (memcmp(&stats, &first, sizeof stats) != 0 || memcmp(&compared, &first_compared, sizeof compared) != 0)
            fail_msg("rounding %s: signal %a error %a, to nearest %a, %a", fp_mode_name((enum fp_mode)mode),
                     stats.signal, stats.error, first.signal, first.error);
    }
    field_free(src);
    plain_free(plain);
}

int main(void)
{
    start_program("test_groups");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grouped_small),       cmocka_unit_test(test_grouped_random),
        cmocka_unit_test(test_grouped_long),        cmocka_unit_test(test_foreign_bytes),
        cmocka_unit_test(test_weighted_statistics), cmocka_unit_test(test_grouped_modes),
        cmocka_unit_test(test_statistics_modes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
