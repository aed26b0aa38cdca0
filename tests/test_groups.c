/*
 * test_groups.c - schemes, grouped encoding and decoding, comparing: against docs/format.md, as support/reference.h
 * states it, in every layout, in memory between guard pages and in hostile floating-point modes
 */
#include "support/program.h"

#include "support/cases.h"
#include "support/guard.h"
#include "support/reference.h"

/* ---- schemes ------------------------------------------------------------------------------------------------- */

static void test_scheme_table(void **state)
{
    (void)state;
    size_t n = 0;
    for (const qz_scheme *scheme; (scheme = qz_scheme_at(n)); n++) {
        assert_int_equal(scheme->size, sizeof *scheme);
        assert_non_null(scheme->name);
        assert_non_null(scheme->summary);
        assert_ptr_equal(qz_scheme_by_name(scheme->name), scheme);
        assert_int_equal(QZ_OK, qz_scheme_check(scheme, QZ_DEFAULT));
        assert_int_equal(QZ_OK, qz_scheme_check(scheme, scheme->method));
    }
    assert_in_range(n, 3, 1000);
    assert_null(qz_scheme_at(n + 1));
    assert_null(qz_scheme_at(SIZE_MAX));
    assert_null(qz_scheme_by_name(""));
    assert_null(qz_scheme_by_name("INT4"));
    assert_non_null(qz_scheme_by_name("int4"));
    assert_non_null(qz_scheme_by_name("uint4"));
    assert_non_null(qz_scheme_by_name("uint4_offset"));
}

/* All combinations of small numbers: legal exactly where the header says so. */
static void test_scheme_check(void **state)
{
    (void)state;
    for (int codes = -1; codes < 3; codes++)
        for (int dtype = -1; dtype < 5; dtype++)
            for (int zero = -1; zero < 3; zero++)
                for (int method = -1; method < 6; method++)
                    for (uint64_t group_size = 0; group_size < 3; group_size++)
                        for (int own = 0; own < 2; own++) {
                            qz_scheme scheme = {
                                .size = sizeof scheme,
                                .codes = (qz_codes)codes,
                                .scale_dtype = (qz_dtype)dtype,
                                .zero = (qz_zero)zero,
                                .method = (qz_method)(own ? method : QZ_DEFAULT),
                                .group_size = group_size,
                            };
                            int symmetric = codes == QZ_INT4 && zero == QZ_ZERO_NONE &&
                                            (method == QZ_ABSMAX || method == QZ_ABSMAX7 || method == QZ_SEARCH ||
                                             method == QZ_EXACT);
                            int affine = codes == QZ_UINT4 && (zero == QZ_ZERO_UINT4 || zero == QZ_ZERO_OFFSET) &&
                                         (method == QZ_MINMAX || method == QZ_SEARCH || method == QZ_EXACT);
                            int legal = (symmetric || affine) && group_size > 0 &&
                                        (dtype == QZ_F32 || dtype == QZ_F16 || dtype == QZ_BF16);
                            assert_int_equal(legal ? QZ_OK : QZ_ERROR_ARGUMENT,
                                             qz_scheme_check(&scheme, own ? QZ_DEFAULT : (qz_method)method));
                        }
    qz_scheme scheme = *qz_scheme_by_name("int4");
    scheme.size--;
    assert_int_equal(QZ_ERROR_ARGUMENT, qz_scheme_check(&scheme, QZ_DEFAULT));
    scheme.size = 0;
    assert_int_equal(QZ_ERROR_ARGUMENT, qz_scheme_check(&scheme, QZ_DEFAULT));
}

static void test_scheme_sizes(void **state)
{
    (void)state;
    struct rng rng = rng_make(7);
    for (size_t repeat = 0; repeat < 1000; repeat++) {
        uint64_t rows = rng_below(&rng, 9), cols = rng_below(&rng, 300);
        uint64_t group_size = repeat % 10 ? 1 + rng_below(&rng, 100) : QZ_WHOLE_ROW - rng_below(&rng, 2);
        qz_method method;
        qz_scheme scheme = scheme_kind(repeat % SCHEME_KINDS, group_size, &method);
        qz_sizes sizes = {.size = sizeof sizes};
        assert_int_equal(QZ_OK, CALL(qz_scheme_sizes(&scheme, rows, cols, &sizes)));
        uint64_t groups = 0, size = qz_dtype_size(scheme.scale_dtype);
        for (uint64_t c = 0; c < cols; c++)
            groups += c % group_size == 0;
        assert_int_equal(sizes.row_groups, groups);
        assert_int_equal(sizes.code_bytes, (cols + 1) / 2);
        assert_int_equal(sizes.scale_bytes, groups * size);
        uint64_t zeros = scheme.zero == QZ_ZERO_NONE    ? 0
                         : scheme.zero == QZ_ZERO_UINT4 ? (groups + 1) / 2
                                                        : groups * size;
        assert_int_equal(sizes.zero_bytes, zeros);
        assert_int_equal(sizes.total_bytes, rows * (sizes.code_bytes + sizes.scale_bytes + zeros));
        double bits = rows && cols ? 8.0 * (double)sizes.total_bytes / (double)(rows * cols) : 0.0;
        assert_true(fabs(sizes.bits_per_value - bits) <= bits * 1e-15);
    }
    qz_sizes sizes = {.size = sizeof sizes};
    assert_int_equal(QZ_OK, qz_scheme_sizes(qz_scheme_by_name("int4"), 1, 32, &sizes));
    assert_true(sizes.bits_per_value == 4.5);

    /* Where sums and products would wrap. */
    static const uint64_t large[] = {UINT64_MAX,        UINT64_MAX - 1,   UINT64_C(1) << 63, (UINT64_C(1) << 63) - 1,
                                     UINT64_C(1) << 62, UINT64_C(1) << 61};
    for (size_t i = 0; i < COUNT(large); i++)
        for (size_t j = 0; j < COUNT(large); j++)
            for (size_t kind = 0; kind < SCHEME_KINDS; kind++) {
                qz_method method;
                qz_scheme scheme = scheme_kind(kind, 1, &method);
                assert_int_equal(QZ_ERROR_SIZE, qz_scheme_sizes(&scheme, large[i], large[j], &sizes));
                assert_int_equal(QZ_ERROR_SIZE, qz_scheme_sizes(&scheme, large[i], 2, &sizes));
                assert_int_equal(QZ_ERROR_SIZE, qz_scheme_sizes(&scheme, 3, large[j], &sizes));
            }
    assert_int_equal(QZ_OK, qz_scheme_sizes(qz_scheme_by_name("int4"), UINT64_C(1) << 40, 1 << 10, &sizes));
    assert_int_equal(sizes.total_bytes, (UINT64_C(1) << 40) * (512 + 64));
    sizes.size = 1;
    assert_int_equal(QZ_ERROR_ARGUMENT, qz_scheme_sizes(qz_scheme_by_name("int4"), 1, 1, &sizes));
}

/* ---- grouped encoding and decoding --------------------------------------------------------------------------- */

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

static void test_grouped_random(void **state)
{
    (void)state;
    struct rng rng = rng_make(8);
    for (size_t repeat = 0; repeat < cases(6000, 300); repeat++) {
        struct grouped g = random_case(&rng);
        assert_true(grouped_case(&rng, &g));
    }
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
    for (size_t repeat = 0; repeat < cases(400, 12); repeat++) {
        struct grouped g = random_case(&rng);
        g.scheme = scheme_kind(repeat % SCHEME_KINDS, PICK(&rng, sizes), &g.method);
        g.cols = PICK(&rng, columns);
        g.rows = 1 + rng_below(&rng, 3);
        assert_true(grouped_case(&rng, &g));
    }
    for (size_t repeat = 0; repeat < cases(36, 2); repeat++) { /* several slices: 2^15 elements each */
        struct grouped g = random_case(&rng);
        static const uint64_t few[] = {1, 32, 100, 128};
        g.scheme = scheme_kind(repeat % SCHEME_KINDS, PICK(&rng, few), &g.method);
        g.cols = 500 + rng_below(&rng, 600);
        g.rows = 130 + rng_below(&rng, 100);
        assert_true(grouped_case(&rng, &g));
    }
}

/* Each kind of data with each scheme, in each hostile floating-point mode. */
static void test_grouped_modes(void **state)
{
    enum fp_mode usual = fp_calls;
    struct rng rng = rng_make(11);
    for (int mode = 0; mode < FP_MODES; mode++) {
        if (!fp_mode_exists((enum fp_mode)mode))
            continue;
        fp_calls = (enum fp_mode)mode;
        test_scheme_sizes(state);
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

/* Each group has its own range and its own mistakes: the right group is named. */
static void test_error_places(void **state)
{
    (void)state;
    for (int layout = 0; layout < LAYOUT_ONE_ROW; layout++)
        for (size_t d = 0; d < COUNT(all_dtypes); d++) {
            qz_dtype dtype = all_dtypes[d];
            struct field src = field_make(dtype, 7, 50, (enum layout)layout);
            struct rng rng = rng_make(13);
            qz_method method;
            qz_scheme scheme = scheme_kind(4, 9, &method); /* absmax, float16: six groups a row */
            struct plain plain = plain_make(&scheme, 7, 50, 0);
            qz_detail detail = QZ_DETAIL_INIT;
            qz_options options = QZ_OPTIONS_INIT;
            field_fill(&rng, &src.matrix, DATA_NORMAL);
            ref_store(field_at(&src.matrix, 3, 20), dtype, NAN);
            ref_store(field_at(&src.matrix, 5, 1), dtype, -INFINITY);
            assert_int_equal(QZ_ERROR_NONFINITE,
                             CALL(qz_encode(&scheme, &src.matrix, &plain.packed, &options, NULL, &detail)));
            assert_int_equal(detail.index, 3 * 50 + 20);
            assert_int_equal(detail.count, 2);
            assert_int_equal(QZ_ERROR_NONFINITE,
                             CALL(qz_encode(&scheme, &src.matrix, &plain.packed, NULL, NULL, NULL)));
            qz_stats stats = QZ_STATS_INIT;
            assert_int_equal(QZ_ERROR_NONFINITE,
                             CALL(qz_compare(&scheme, &plain.packed, &src.matrix, NULL, &stats, &detail)));
            assert_int_equal(detail.index, 3 * 50 + 20);
            assert_int_equal(detail.count, 2);
            if (dtype == QZ_F64) {
                field_fill(&rng, &src.matrix, DATA_NORMAL);
                ref_store(field_at(&src.matrix, 4, 30), dtype, -1e300);
                ref_store(field_at(&src.matrix, 6, 49), dtype, 0x1.ffffffp127);
                for (int clip = 0; clip < 2; clip++) {
                    options.nonfinite = clip ? QZ_CLIP : QZ_REFUSE;
                    assert_int_equal(QZ_ERROR_RANGE,
                                     CALL(qz_encode(&scheme, &src.matrix, &plain.packed, &options, NULL, &detail)));
                    assert_int_equal(detail.index, 4 * 50 + 30);
                    assert_int_equal(detail.count, 2);
                    assert_true(detail.value == -1e300);
                }
                options.nonfinite = QZ_REFUSE;
            }
            if (dtype != QZ_F16) {
                field_fill(&rng, &src.matrix, DATA_NORMAL);
                ref_store(field_at(&src.matrix, 2, 49), dtype, -0x1p20);
                ref_store(field_at(&src.matrix, 6, 0), dtype, 0x1p24);
                assert_int_equal(QZ_ERROR_SCALE,
                                 CALL(qz_encode(&scheme, &src.matrix, &plain.packed, &options, NULL, &detail)));
                assert_int_equal(detail.group, 2 * 6 + 5);
                assert_true(detail.value == 0x1p20);
            }
            field_free(src);
            plain_free(plain);
        }
}

/* The first of several mistakes is named, whichever thread or part of the work finds it. */
static void test_error_places_large(void **state)
{
    (void)state;
    for (int columns = 0; columns < 2; columns++) {
        struct field src = field_make(QZ_F32, 700, 300, columns ? LAYOUT_COLUMNS : LAYOUT_ROWS);
        qz_scheme scheme = *qz_scheme_by_name("int4");
        struct plain plain = plain_make(&scheme, 700, 300, 0);
        struct rng rng = rng_make(16);
        qz_detail detail = QZ_DETAIL_INIT;
        field_fill(&rng, &src.matrix, DATA_NORMAL);
        for (uint64_t r = 150; r < 700; r += 100) {
            field_put(&src.matrix, r, 40, 1e9 + (double)r);
            field_put(&src.matrix, r + 1, 40, 1e9 + (double)r);
        }
        assert_int_equal(QZ_ERROR_SCALE, CALL(qz_encode(&scheme, &src.matrix, &plain.packed, NULL, NULL, &detail)));
        assert_int_equal(detail.group, 150 * 10 + 1);
        assert_true(detail.value == (double)(float)(1e9 + 150));
        for (uint64_t r = 250; r < 700; r += 100)
            field_put(&src.matrix, r, 299, (double)INFINITY);
        assert_int_equal(QZ_ERROR_NONFINITE, CALL(qz_encode(&scheme, &src.matrix, &plain.packed, NULL, NULL, &detail)));
        assert_int_equal(detail.index, 250 * 300 + 299);
        assert_int_equal(detail.count, 5);
        field_free(src);
        plain_free(plain);
    }
}

static void test_compare_errors(void **state)
{
    (void)state;
    /* Scales that are not finite are not the fault of the floats. */
    float one_value = 1;
    uint8_t one_code = 1;
    uint16_t infinite = 0x7c00;
    qz_packed broken = {&one_code, &infinite, NULL, 1, 2, 0, NULL, 0};
    qz_matrix one_by_one = {&one_value, QZ_F32, 1, 1, 1, 1};
    qz_stats no_stats = QZ_STATS_INIT;
    assert_int_equal(QZ_ERROR_PACKED,
                     CALL(qz_compare(qz_scheme_by_name("int4"), &broken, &one_by_one, NULL, &no_stats, NULL)));

    float a[6] = {1, 2, 3, 4, 5, 6}, b[6] = {1, 2, 3, 4, 5, 6.5f};
    qz_matrix x = {a, QZ_F32, 2, 3, 3, 1}, y = {b, QZ_F32, 2, 3, 3, 1};
    qz_stats stats = QZ_STATS_INIT;
    qz_detail detail = QZ_DETAIL_INIT;
    assert_int_equal(QZ_OK, CALL(qz_compare_matrices(&x, &y, NULL, &stats, &detail)));
    assert_true(stats.count == 6 && stats.signal == 91 && stats.error == 0.25 && stats.max_error == 0.5 &&
                stats.max_index == 5);
    b[4] = NAN;
    assert_int_equal(QZ_ERROR_NONFINITE, CALL(qz_compare_matrices(&x, &y, NULL, &stats, &detail)));
    assert_int_equal(detail.index, 4);
    a[1] = INFINITY;
    assert_int_equal(QZ_ERROR_NONFINITE, CALL(qz_compare_matrices(&x, &y, NULL, &stats, &detail)));
    assert_int_equal(detail.index, 1);
    assert_int_equal(QZ_ERROR_NONFINITE, CALL(qz_compare_matrices(&x, &y, NULL, &stats, NULL)));
    y.cols = 2;
    assert_int_equal(QZ_ERROR_ARGUMENT, CALL(qz_compare_matrices(&x, &y, NULL, &stats, &detail)));
    y.cols = 3;
    y.dtype = (qz_dtype)9;
    assert_int_equal(QZ_ERROR_ARGUMENT, CALL(qz_compare_matrices(&x, &y, NULL, &stats, &detail)));
}

/* Bytes from elsewhere: decoding them is safe, qz_validate finds what is wrong with them. */
static void test_foreign_bytes(void **state)
{
    (void)state;
    struct rng rng = rng_make(14);
    for (size_t repeat = 0; repeat < cases(500, 50); repeat++) {
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

static void test_validate(void **state)
{
    (void)state;
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t kind = 0; kind < SCHEME_KINDS; kind++) {
        qz_method method;
        qz_scheme scheme = scheme_kind(kind, 4, &method);
        uint64_t rows = 3, cols = 11; /* three groups, one code and (uint4) one zero of padding */
        size_t unit = qz_dtype_size(scheme.scale_dtype);
        struct plain plain = plain_make(&scheme, rows, cols, 2);
        struct field src = field_make(QZ_F32, rows, cols, LAYOUT_ROWS);
        struct rng rng = rng_make(15);
        field_fill(&rng, &src.matrix, DATA_NORMAL);
        qz_options options = QZ_OPTIONS_INIT;
        options.method = method;
        assert_int_equal(QZ_OK, CALL(qz_encode(&scheme, &src.matrix, &plain.packed, &options, NULL, NULL)));
        assert_int_equal(QZ_OK, CALL(qz_validate(&scheme, &plain.packed, rows, cols, NULL)));
        qz_detail detail = QZ_DETAIL_INIT;
        for (uint64_t r = 0; r < rows; r++) {
            for (uint64_t g = 0; g < 3; g++)
                for (size_t b = 0; b < COUNT(bad); b++)
                    for (int offset = 0; offset <= (scheme.zero == QZ_ZERO_OFFSET); offset++) {
                        char *at = offset ? (char *)plain.packed.zeros + (int64_t)r * plain.packed.zero_stride
                                          : (char *)plain.packed.scales + (int64_t)r * plain.packed.scale_stride;
                        double kept = ref_load(at + g * unit, scheme.scale_dtype);
                        ref_store(at + g * unit, scheme.scale_dtype, bad[b]);
                        assert_int_equal(QZ_ERROR_PACKED,
                                         CALL(qz_validate(&scheme, &plain.packed, rows, cols, &detail)));
                        assert_int_equal(detail.group, r * 3 + g);
                        assert_int_equal(QZ_ERROR_PACKED, CALL(qz_validate(&scheme, &plain.packed, rows, cols, NULL)));
                        ref_store(at + g * unit, scheme.scale_dtype, kept);
                    }
            for (int part = 0; part <= (scheme.zero == QZ_ZERO_UINT4); part++) {
                uint8_t *at = part ? (uint8_t *)plain.packed.zeros + (int64_t)r * plain.packed.zero_stride + 1
                                   : (uint8_t *)plain.packed.codes + (int64_t)r * plain.packed.code_stride + 5;
                for (int bit = 4; bit < 8; bit++) {
                    *at ^= (uint8_t)(1 << bit);
                    assert_int_equal(QZ_ERROR_PACKED, CALL(qz_validate(&scheme, &plain.packed, rows, cols, &detail)));
                    assert_int_equal(detail.group, r * 3 + 2);
                    *at ^= (uint8_t)(1 << bit);
                }
            }
        }
        assert_int_equal(QZ_OK, CALL(qz_validate(&scheme, &plain.packed, rows, cols, &detail)));
        field_free(src);
        plain_free(plain);
    }
}

static void test_grouped_arguments(void **state)
{
    (void)state;
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    uint8_t codes[8];
    uint16_t scales[8];
    qz_scheme scheme = *qz_scheme_by_name("int4");
    scheme.group_size = 2;
    qz_matrix matrix = {x, QZ_F32, 2, 4, 4, 1};
    qz_packed packed = {codes, scales, NULL, 2, 4, 0, NULL, 0};
    qz_options options = QZ_OPTIONS_INIT;
    qz_stats stats = QZ_STATS_INIT;
    assert_int_equal(QZ_OK, CALL(qz_encode(&scheme, &matrix, &packed, &options, &stats, NULL)));
    assert_int_equal(QZ_OK, CALL(qz_decode(&scheme, &packed, &matrix, NULL, NULL)));

#define REFUSED_WITH(code, change)                                                                                     \
    do {                                                                                                               \
        qz_scheme scheme_kept = scheme;                                                                                \
        qz_matrix matrix_kept = matrix;                                                                                \
        qz_packed packed_kept = packed;                                                                                \
        change;                                                                                                        \
        assert_int_equal(code, CALL(qz_encode(&scheme, &matrix, &packed, NULL, NULL, NULL)));                          \
        assert_int_equal(code, CALL(qz_decode(&scheme, &packed, &matrix, NULL, NULL)));                                \
        assert_int_equal(code, CALL(qz_compare(&scheme, &packed, &matrix, NULL, &stats, NULL)));                       \
        scheme = scheme_kept;                                                                                          \
        matrix = matrix_kept;                                                                                          \
        packed = packed_kept;                                                                                          \
    } while (0)
    REFUSED_WITH(QZ_ERROR_ARGUMENT, scheme.size = 3);
    REFUSED_WITH(QZ_ERROR_ARGUMENT, scheme.group_size = 0);
    REFUSED_WITH(QZ_ERROR_ARGUMENT, scheme.scale_dtype = QZ_F64);
    REFUSED_WITH(QZ_ERROR_ARGUMENT, scheme.zero = QZ_ZERO_OFFSET);
    REFUSED_WITH(QZ_ERROR_ARGUMENT, scheme.method = QZ_MINMAX);
    REFUSED_WITH(QZ_ERROR_ARGUMENT, matrix.dtype = (qz_dtype)0);
    REFUSED_WITH(QZ_ERROR_ARGUMENT, matrix.dtype = (qz_dtype)77);
    REFUSED_WITH(QZ_ERROR_ARGUMENT, packed.code_stride = 1);
    REFUSED_WITH(QZ_ERROR_ARGUMENT, packed.code_stride = -2);
    REFUSED_WITH(QZ_ERROR_ARGUMENT, packed.scale_stride = 3);
    REFUSED_WITH(QZ_ERROR_ARGUMENT, packed.scale_stride = INT64_MIN);
    REFUSED_WITH(QZ_ERROR_SIZE, matrix.rows = UINT64_MAX);
    REFUSED_WITH(QZ_ERROR_SIZE, matrix.cols = UINT64_MAX);
    REFUSED_WITH(QZ_ERROR_SIZE, (matrix.cols = UINT64_C(1) << 40, matrix.rows = UINT64_C(1) << 40));
    REFUSED_WITH(QZ_ERROR_SIZE, matrix.row_stride = INT64_MAX);
    REFUSED_WITH(QZ_ERROR_SIZE, matrix.row_stride = INT64_MIN);
    REFUSED_WITH(QZ_ERROR_SIZE, matrix.col_stride = INT64_MIN / 2);
    REFUSED_WITH(QZ_ERROR_SIZE, (matrix.rows = UINT64_C(1) << 62, matrix.row_stride = 0));

    assert_int_equal(QZ_ERROR_ARGUMENT, CALL(qz_encode(&scheme, &matrix, &packed, &(qz_options){0}, NULL, NULL)));
    options.nonfinite = (qz_nonfinite)2;
    assert_int_equal(QZ_ERROR_ARGUMENT, CALL(qz_encode(&scheme, &matrix, &packed, &options, NULL, NULL)));
    options.nonfinite = QZ_REFUSE;
    options.method = QZ_MINMAX;
    assert_int_equal(QZ_ERROR_ARGUMENT, CALL(qz_encode(&scheme, &matrix, &packed, &options, NULL, NULL)));

    /* Nothing to do, nothing to point at; statistics of nothing. */
    static const uint64_t shapes[][2] = {{0, 0}, {0, 5}, {5, 0}};
    for (size_t i = 0; i < COUNT(shapes); i++) {
        qz_matrix empty = {NULL, QZ_F64, shapes[i][0], shapes[i][1], 5, 1};
        qz_packed nothing = {NULL, NULL, NULL, 3, 6, 0, NULL, 0};
        stats = (qz_stats){.size = sizeof stats, .count = 9, .signal = 9, .max_error = 9, .max_index = 9};
        assert_int_equal(QZ_OK, CALL(qz_encode(&scheme, &empty, &nothing, NULL, &stats, NULL)));
        assert_true(stats.size == sizeof stats && stats.count == 0 && stats.signal == 0 && stats.max_error == 0 &&
                    stats.max_index == 0);
        assert_int_equal(QZ_OK, CALL(qz_decode(&scheme, &nothing, &empty, NULL, NULL)));
        assert_int_equal(QZ_OK, CALL(qz_compare(&scheme, &nothing, &empty, NULL, &stats, NULL)));
        assert_int_equal(QZ_OK, CALL(qz_compare_matrices(&empty, &empty, NULL, &stats, NULL)));
        /* What turns, or has the same weights for every row, has nothing to divide by either. */
        qz_matrix turned = empty, weights = empty;
        turned.row_stride = 1;
        turned.col_stride = 5;
        weights.row_stride = 0;
        qz_options shared = QZ_OPTIONS_INIT;
        assert_int_equal(QZ_OK, CALL(qz_encode(&scheme, &turned, &nothing, &shared, NULL, NULL)));
        assert_int_equal(QZ_OK, CALL(qz_decode(&scheme, &nothing, &turned, NULL, NULL)));
        shared.weights = &weights;
        assert_int_equal(QZ_OK, CALL(qz_encode(&scheme, &empty, &nothing, &shared, &stats, NULL)));
        assert_int_equal(QZ_OK, CALL(qz_validate(&scheme, &nothing, shapes[i][0], shapes[i][1], NULL)));
    }
    assert_int_equal(QZ_ERROR_SIZE, CALL(qz_validate(&scheme, &packed, UINT64_MAX, 4, NULL)));
    assert_int_equal(QZ_ERROR_ARGUMENT, CALL(qz_validate(&scheme, &packed, 2, 5, NULL)));
}

/* ---- parts of a matrix --------------------------------------------------------------------------------------- */

struct pieces {
    qz_packed packed;
    qz_sizes sizes;
};

static struct pieces pieces_make(const qz_scheme *scheme, uint64_t rows, uint64_t cols)
{
    struct pieces p = {.sizes = {.size = sizeof p.sizes}};
    assert_int_equal(QZ_OK, qz_scheme_sizes(scheme, rows, cols, &p.sizes));
    p.packed = (qz_packed){calloc(rows + 1, p.sizes.code_bytes + 1),
                           calloc(rows + 1, p.sizes.scale_bytes + 1),
                           calloc(rows + 1, p.sizes.zero_bytes + 1),
                           (int64_t)p.sizes.code_bytes,
                           (int64_t)p.sizes.scale_bytes,
                           (int64_t)p.sizes.zero_bytes,
                           calloc(rows + 1, p.sizes.super_bytes + 1),
                           (int64_t)p.sizes.super_bytes};
    return p;
}

static void pieces_free(struct pieces *p)
{
    free(p->packed.codes);
    free(p->packed.scales);
    free(p->packed.zeros);
    free(p->packed.supers);
}

/* The places of what begins at (row, col), at an even group. */
static qz_packed pieces_at(const struct pieces *p, const qz_scheme *scheme, uint64_t row, uint64_t col)
{
    uint64_t group = col / scheme->group_size, each = qz_dtype_size(scheme->scale_dtype);
    qz_packed at = p->packed;
    at.codes = (char *)at.codes + row * p->sizes.code_bytes + col / 2;
    at.scales = (char *)at.scales + row * p->sizes.scale_bytes + group * each;
    at.zeros =
        (char *)at.zeros + row * p->sizes.zero_bytes + (scheme->zero == QZ_ZERO_UINT4 ? group / 2 : group * each);
    if (scheme->super_size < QZ_WHOLE_MATRIX && scheme->super_size != 0)
        at.supers = (char *)at.supers + row * p->sizes.super_bytes +
                    col / scheme->super_size *
                        (p->sizes.super_bytes /
                         ((p->sizes.row_groups * scheme->group_size + scheme->super_size - 1) / scheme->super_size));
    else if (scheme->super_size == QZ_WHOLE_ROW)
        at.supers = (char *)at.supers + row * p->sizes.super_bytes;
    return at;
}

static void assert_same_pieces(const struct pieces *a, const struct pieces *b, const qz_scheme *scheme, uint64_t rows)
{
    assert_memory_equal(a->packed.codes, b->packed.codes, rows * a->sizes.code_bytes);
    assert_memory_equal(a->packed.scales, b->packed.scales, rows * a->sizes.scale_bytes);
    assert_memory_equal(a->packed.zeros, b->packed.zeros, rows * a->sizes.zero_bytes);
    assert_memory_equal(a->packed.supers, b->packed.supers,
                        (scheme->super_size == QZ_WHOLE_MATRIX ? 1 : rows) * a->sizes.super_bytes);
}

/* Decodes to float16 and bfloat16, with a pool and without: the numbers nearest to `values`. */
static void check_narrow(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols,
                         const double *values, qz_pool *pool)
{
    static const qz_dtype dtypes[] = {QZ_F16, QZ_BF16};
    size_t n = (size_t)(rows * cols);
    uint16_t *halves = malloc(n * sizeof *halves), *wanted = malloc(n * sizeof *wanted);
    for (size_t i = 0; i < COUNT(dtypes); i++) {
        qz_matrix to = {halves, dtypes[i], rows, cols, (int64_t)cols, 1};
        for (size_t k = 0; k < n; k++)
            wanted[k] = ref_half_bits(ref_round(values[k], dtypes[i]), dtypes[i]);
        for (int pooled = 0; pooled < 2; pooled++) {
            memset(halves, 0xff, n * sizeof *halves);
            assert_int_equal(QZ_OK, CALL(qz_decode(scheme, packed, &to, pooled ? pool : NULL, NULL)));
            assert_memory_equal(halves, wanted, n * sizeof *halves);
        }
    }
    free(halves);
    free(wanted);
}

/* Long rows that are decoded in place are decoded in wider tiles than others: the values are those that come out where
 * they must be rounded on the way, to float64, which changes none. */
static void test_decode_wide(void **state)
{
    (void)state;
    qz_pool *pool;
    assert_int_equal(QZ_OK, qz_pool_create(2, &pool));
    static const uint64_t widths[] = {256, 288, 1280, 4096, 4097, 8192, 16384, 16416, 20001, 40000};
    static const uint64_t group_sizes[] = {0, 16, 32, 48, 96}; /* 0: the scheme's own */
    struct rng rng = rng_make(22);
    for (size_t i = 0; qz_scheme_at(i); i++)
        for (size_t k = i % (short_mode ? 3 : 1); k < COUNT(widths); k += short_mode ? 3 : 1)
            for (size_t j = 0; j < COUNT(group_sizes); j++) {
                qz_scheme scheme = *qz_scheme_at(i);
                uint64_t cols = widths[k], rows = 1 + rng_below(&rng, cols < 4096 ? 5 : 2);
                if (group_sizes[j])
                    scheme.group_size = group_sizes[j];
                if (qz_scheme_check(&scheme, QZ_DEFAULT) != QZ_OK)
                    continue;
                struct pieces pieces = pieces_make(&scheme, rows, cols);
                float *x = malloc(rows * cols * sizeof *x), *narrow = malloc(rows * cols * sizeof *narrow);
                double *wide = malloc(rows * cols * sizeof *wide);
                for (uint64_t n = 0; n < rows * cols; n++)
                    x[n] = rng_normal(&rng);
                qz_matrix src = {x, QZ_F32, rows, cols, (int64_t)cols, 1}, to = src, other = src;
                to.data = narrow;
                other.data = wide;
                other.dtype = QZ_F64;
                qz_options options = QZ_OPTIONS_INIT;
                options.method = scheme.zero == QZ_ZERO_NONE ? QZ_ABSMAX : QZ_MINMAX;
                assert_int_equal(QZ_OK, CALL(qz_encode(&scheme, &src, &pieces.packed, &options, NULL, NULL)));
                assert_int_equal(QZ_OK, CALL(qz_decode(&scheme, &pieces.packed, &to, NULL, NULL)));
                assert_int_equal(QZ_OK, CALL(qz_decode(&scheme, &pieces.packed, &other, NULL, NULL)));
                for (uint64_t n = 0; n < rows * cols; n++)
                    assert_true((double)narrow[n] == wide[n]);
                if (j == (i + k) % COUNT(group_sizes)) /* that takes a while */
                    check_narrow(&scheme, &pieces.packed, rows, cols, wide, pool);
                for (uint64_t r = 0; r < rows; r++) { /* and row by row */
                    qz_packed row = pieces_at(&pieces, &scheme, r, 0);
                    qz_matrix one = {x, QZ_F32, 1, cols, (int64_t)cols, 1};
                    assert_int_equal(QZ_OK, CALL(qz_decode(&scheme, &row, &one, NULL, NULL)));
                    assert_memory_equal(x, narrow + r * cols, cols * sizeof *x);
                }
                pieces_free(&pieces);
                free(x);
                free(narrow);
                free(wide);
            }
    qz_pool_destroy(pool);
}

/* Super scales at any address, as rows of them any number of bytes apart have. */
static void test_decode_odd_supers(void **state)
{
    (void)state;
    enum { COLS = 4096, ROWS = 3 };
    static const char *const names[] = {"iq4_xs", "q4_k", "dual4", "nvfp4"};
    static float x[ROWS * COLS], wanted[ROWS * COLS], got[ROWS * COLS];
    static uint8_t moved[ROWS * (COLS + 1) + 1];
    struct rng rng = rng_make(62);
    for (size_t i = 0; i < COUNT(names); i++) {
        const qz_scheme *scheme = qz_scheme_by_name(names[i]);
        struct pieces pieces = pieces_make(scheme, ROWS, COLS);
        qz_matrix src = {x, QZ_F32, ROWS, COLS, COLS, 1}, to = src;
        for (size_t n = 0; n < ROWS * COLS; n++)
            x[n] = rng_normal(&rng);
        qz_packed odd = pieces.packed;
        assert_int_equal(QZ_OK, CALL(qz_encode(scheme, &src, &odd, NULL, NULL, NULL)));
        to.data = wanted;
        assert_int_equal(QZ_OK, CALL(qz_decode(scheme, &odd, &to, NULL, NULL)));
        size_t bytes = (size_t)pieces.sizes.super_bytes;
        odd.supers = moved + 1;
        odd.super_stride = (int64_t)bytes + 1;
        for (size_t r = 0; r < (scheme->super_size == QZ_WHOLE_MATRIX ? 1 : ROWS); r++)
            memcpy((char *)odd.supers + r * (bytes + 1), (const char *)pieces.packed.supers + r * bytes, bytes);
        to.data = got;
        assert_int_equal(QZ_OK, CALL(qz_decode(scheme, &odd, &to, NULL, NULL)));
        assert_memory_equal(got, wanted, sizeof got);
        pieces_free(&pieces);
    }
}

/* A float16 has no number for -8 * 9000: an error where a code says so, none where no code does. */
static void test_decode_unused_codes(void **state)
{
    (void)state;
    enum { N = 8192 };
    static uint8_t codes[N / 2];
    static uint16_t scales[N / 32], y[N];
    qz_scheme scheme = *qz_scheme_by_name("int4");
    qz_packed packed = {codes, scales, NULL, N / 2, N / 16, 0, NULL, 0};
    qz_matrix to = {y, QZ_F16, 1, N, N, 1};
    qz_detail detail = QZ_DETAIL_INIT;
    memset(codes, 0x77, sizeof codes);
    for (size_t g = 0; g < COUNT(scales); g++)
        scales[g] = ref_half_bits(g == 100 ? 9000.0 : 1.0, QZ_F16);
    assert_int_equal(QZ_OK, CALL(qz_decode(&scheme, &packed, &to, NULL, &detail)));
    for (size_t i = 0; i < N; i++)
        assert_int_equal(y[i], ref_half_bits(i / 32 == 100 ? 63008.0 : 7.0, QZ_F16)); /* 63000 rounded */
    codes[3200 / 2 + 3] = 0x87;
    codes[N / 2 - 1] = 0x88;
    assert_int_equal(QZ_ERROR_RANGE, CALL(qz_decode(&scheme, &packed, &to, NULL, &detail)));
    assert_int_equal(detail.index, 3200 + 7);
    assert_int_equal(detail.count, 1);
    assert_true(detail.value == -72000.0);
    to.dtype = QZ_BF16;
    assert_int_equal(QZ_OK, CALL(qz_decode(&scheme, &packed, &to, NULL, &detail)));
}

/* Values that are so many that they leave past the caches: one row again and again, as it is decoded alone. */
static void test_decode_streamed(void **state)
{
    (void)state;
    enum { COLS = 8200, ROWS = (16 << 20) / COLS / 2 + 1, PITCH = COLS + 24 };
    static const uint64_t group_sizes[] = {16, 48, 128, 2048};
    static const qz_dtype dtypes[] = {QZ_F32, QZ_F16, QZ_BF16};
    static uint8_t row[COLS], wanted[COLS * 4];
    uint8_t *codes = malloc((size_t)ROWS * COLS / 2), *scales = malloc((size_t)ROWS * (COLS / 8 + 2));
    uint8_t *zeros = malloc((size_t)ROWS * COLS / 8), *y = malloc((size_t)ROWS * PITCH * 4);
    assert_true(codes && scales && zeros && y);
    struct rng rng = rng_make(61);
    for (size_t i = 0; i < COUNT(group_sizes) * COUNT(dtypes); i += short_mode ? 5 : 1) { /* 5: each type once */
        qz_scheme scheme = *qz_scheme_by_name(i % 2 ? "uint4" : "nf4");
        qz_dtype dtype = dtypes[i % COUNT(dtypes)];
        scheme.group_size = group_sizes[i / COUNT(dtypes)];
        qz_sizes sizes = {.size = sizeof sizes};
        assert_int_equal(QZ_OK, qz_scheme_sizes(&scheme, ROWS, COLS, &sizes));
        for (size_t k = 0; k < COUNT(row); k++)
            row[k] = (uint8_t)rng_below(&rng, 256);
        for (size_t r = 0; r < ROWS; r++) {
            memcpy(codes + r * sizes.code_bytes, row, sizes.code_bytes);
            memcpy(zeros + r * sizes.zero_bytes, row, sizes.zero_bytes);
            for (size_t g = 0; g < sizes.row_groups; g++) {
                uint16_t half = ref_half_bits(ref_round(0.01 + (double)row[g], QZ_F16), QZ_F16);
                memcpy(scales + r * sizes.scale_bytes + 2 * g, &half, sizeof half);
            }
        }
        qz_packed packed = {
            codes, scales, zeros, (int64_t)sizes.code_bytes, (int64_t)sizes.scale_bytes, (int64_t)sizes.zero_bytes,
            NULL,  0};
        size_t unit = qz_dtype_size(dtype), gap = dtype == QZ_F32 ? 1 : 8, pitch = COLS + gap;
        qz_matrix alone = {wanted, dtype, 1, COLS, COLS, 1};
        qz_matrix all = {y, dtype, ROWS, COLS, (int64_t)pitch, 1};
        memset(y, CANARY, all.rows * pitch * unit);
        assert_true(all.rows * COLS * unit > 16 << 20);
        assert_int_equal(QZ_OK, qz_decode(&scheme, &packed, &alone, NULL, NULL));
        assert_int_equal(QZ_OK, qz_decode(&scheme, &packed, &all, NULL, NULL));
        for (size_t r = 0; r < all.rows; r++) {
            assert_memory_equal(y + r * pitch * unit, wanted, COLS * unit);
            for (size_t b = 0; b < gap * unit; b++)
                assert_int_equal(y[(r * pitch + COLS) * unit + b], CANARY);
        }
    }
    free(codes), free(scales), free(zeros), free(y);
}

/* Bytes do not depend on how a matrix is divided, whatever scheme, method or seed. */
static void test_parts(void **state)
{
    (void)state;
    static const float numbers[16] = {-9, -6, -4, -3, -2, -1.5f, -1, -0.5f, 0, 0.5f, 1, 2, 3, 5, 8, 12};
    struct rng rng = rng_make(21);
    size_t schemes = 0;
    while (qz_scheme_at(schemes))
        schemes++;
    for (size_t repeat = 0; repeat < cases(20, 2) * (schemes + 1); repeat++) {
        qz_scheme scheme = *qz_scheme_at(repeat % (schemes + 1) % schemes);
        if (repeat % (schemes + 1) == schemes) {
            scheme.codes = QZ_TABLE;
            scheme.table = numbers;
        }
        static const uint64_t sizes[] = {80, 600, 2500};
        if (scheme.super_size == 0 && rng_below(&rng, 3) == 0)
            scheme.group_size = PICK(&rng, sizes);
        uint64_t unit = scheme.super_size == 0 && scheme.group_size > 64 ? 2 * scheme.group_size
                        : scheme.group_size > 64 || (scheme.super_size > 64 && scheme.super_size < QZ_WHOLE_MATRIX)
                            ? 256
                            : 2 * scheme.group_size;
        uint64_t rows = 1 + rng_below(&rng, 6), cols = unit * (1 + rng_below(&rng, 3)) + rng_below(&rng, unit);
        for (int method = QZ_MINMAX; qz_method_name((qz_method)method); method++) {
            qz_options options = QZ_OPTIONS_INIT;
            options.method = (qz_method)method;
            if (qz_scheme_check(&scheme, options.method) != QZ_OK || (method == QZ_EXACT && rows * cols > 1000))
                continue;
            options.stochastic = method != QZ_REFERENCE && rng_below(&rng, 2);
            options.seed = rng_next(&rng);
            struct field src = field_make(PICK(&rng, all_dtypes), rows, cols, (enum layout)rng_below(&rng, LAYOUTS));
            field_fill(&rng, &src.matrix, DATA_NORMAL);
            struct pieces whole = pieces_make(&scheme, rows, cols), parts = pieces_make(&scheme, rows, cols);
            float *largest = calloc(rows, sizeof *largest);
            qz_result wanted = CALL(qz_encode(&scheme, &src.matrix, &whole.packed, &options, NULL, NULL));
            assert_true(wanted == QZ_OK || (wanted == QZ_ERROR_ARGUMENT && method == QZ_REFERENCE));

            int divided = rows > 1 && rng_below(&rng, 2), by_row = scheme.super_size == QZ_WHOLE_ROW;
            uint64_t width = divided ? unit : cols;
            int supers = scheme.super_size >= QZ_WHOLE_MATRIX;
            for (int pass = !supers; pass < 2; pass++)
                for (uint64_t r = 0, height; r < rows; r += height) {
                    height = 1 + rng_below(&rng, rows - r);
                    for (uint64_t c = 0; c < cols; c += width) {
                        qz_matrix part = src.matrix;
                        part.rows = height;
                        part.cols = width < cols - c ? width : cols - c;
                        part.data = (char *)part.data + ((int64_t)r * part.row_stride + (int64_t)c * part.col_stride) *
                                                            (int64_t)qz_dtype_size(part.dtype);
                        float *known = supers ? largest + (by_row ? r : 0) : NULL;
                        if (pass == 0) {
                            assert_int_equal(QZ_OK, CALL(qz_largest(&scheme, &part, known, NULL)));
                            continue;
                        }
                        qz_whole place = {sizeof place, rows, cols, r, c, by_row && !divided ? NULL : known};
                        qz_packed to = pieces_at(&parts, &scheme, r, c);
                        options.whole = &place;
                        assert_int_equal(wanted, CALL(qz_encode(&scheme, &part, &to, &options, NULL, NULL)));
                    }
                }
            if (wanted == QZ_OK)
                assert_same_pieces(&whole, &parts, &scheme, rows);
            pieces_free(&whole);
            pieces_free(&parts);
            free(largest);
            field_free(src);
        }
    }
}

/* Leaves bytes of a kind where the next call has its variables. */
static void dirty_stack(int byte)
{
    volatile uint8_t dirt[240 << 10];
    for (size_t i = 0; i < sizeof dirt; i++)
        dirt[i] = (uint8_t)byte;
    assert_int_equal(dirt[rng_below(&(struct rng){1}, sizeof dirt)], byte);
}

/* Groups that a search leaves alone, the constant ones and the very long ones, depend on nothing else. */
static void test_same_bytes_again(void **state)
{
    (void)state;
    static const uint64_t sizes[][2] = {{32, 256}, {1024, 2048}}; /* of groups and super scales */
    for (size_t kind = 0; kind < COUNT(sizes); kind++)
        for (size_t constant = 0; constant < 2; constant++) {
            qz_scheme scheme = *qz_scheme_by_name("q4_k");
            scheme.group_size = sizes[kind][0];
            scheme.super_size = sizes[kind][1];
            uint64_t cols = 3 * scheme.group_size + 1;
            struct field src = field_make(QZ_F32, 2, cols, LAYOUT_ROWS);
            struct rng rng = rng_make(22);
            field_fill(&rng, &src.matrix, DATA_NORMAL);
            for (size_t i = 0; i < 2 * cols && constant; i++)
                ((float *)src.matrix.data)[i] = i % scheme.group_size < 7 ? -1 : -0.75f;
            struct pieces first = pieces_make(&scheme, 2, cols), second = pieces_make(&scheme, 2, cols);
            dirty_stack(0x3f);
            assert_int_equal(QZ_OK, qz_encode(&scheme, &src.matrix, &first.packed, NULL, NULL, NULL));
            dirty_stack(0xc1);
            assert_int_equal(QZ_OK, qz_encode(&scheme, &src.matrix, &second.packed, NULL, NULL, NULL));
            assert_same_pieces(&first, &second, &scheme, 2);
            pieces_free(&first);
            pieces_free(&second);
            field_free(src);
        }
}

/* Places that a part cannot have. */
static void test_part_arguments(void **state)
{
    (void)state;
    static float x[2 * 1024];
    static const struct {
        const char *scheme;
        uint64_t rows, cols, row, col, of_rows, of_cols;
        int known;
        qz_result result;
    } places[] = {
        {"int4", 2, 64, 0, 64, 2, 128, 0, QZ_OK},
        {"int4", 2, 64, 1, 64, 3, 130, 0, QZ_OK},
        {"int4", 0, 0, 0, 0, 9, 999, 0, QZ_OK},
        {"int4", 2, 64, 0, 32, 2, 96, 0, QZ_ERROR_ARGUMENT},   /* an odd group */
        {"int4", 2, 60, 0, 0, 2, 128, 0, QZ_ERROR_ARGUMENT},   /* a group is divided */
        {"int4", 2, 64, 0, 128, 2, 128, 0, QZ_ERROR_ARGUMENT}, /* beyond the last column */
        {"int4", 2, 64, 0, UINT64_MAX - 63, 2, 128, 0, QZ_ERROR_ARGUMENT},
        {"int4", 2, 64, 1, 0, 2, 64, 0, QZ_ERROR_ARGUMENT}, /* beyond the last row */
        {"int4", 2, 64, UINT64_MAX, 0, 2, 64, 0, QZ_ERROR_ARGUMENT},
        {"q4_k", 2, 512, 0, 256, 2, 768, 0, QZ_OK},
        {"q4_k", 2, 64, 0, 0, 2, 512, 0, QZ_ERROR_ARGUMENT}, /* super scales are divided */
        {"nvfp4", 2, 64, 0, 0, 2, 128, 1, QZ_OK},
        {"nvfp4", 2, 64, 0, 0, 2, 64, 0, QZ_ERROR_ARGUMENT}, /* largest magnitude not known */
        {"dual4", 2, 64, 0, 0, 4, 64, 0, QZ_OK},
        {"dual4", 2, 64, 0, 0, 2, 128, 1, QZ_OK},
        {"dual4", 2, 64, 0, 0, 2, 128, 0, QZ_ERROR_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++)
        x[i] = (float)i;
    for (size_t i = 0; i < COUNT(places); i++) {
        const qz_scheme *scheme = qz_scheme_by_name(places[i].scheme);
        float largest[2] = {2048, 2048};
        struct pieces p = pieces_make(scheme, 2, 512);
        qz_matrix part = {x, QZ_F32, places[i].rows, places[i].cols, (int64_t)places[i].cols, 1};
        qz_whole place = {sizeof place,  places[i].of_rows, places[i].of_cols,
                          places[i].row, places[i].col,     places[i].known ? largest : NULL};
        qz_options options = QZ_OPTIONS_INIT;
        options.whole = &place;
        if (places[i].result != CALL(qz_encode(scheme, &part, &p.packed, &options, NULL, NULL)))
            fail_msg("place %zu\n", i);
        place.size = 0;
        assert_int_equal(QZ_ERROR_ARGUMENT, CALL(qz_encode(scheme, &part, &p.packed, &options, NULL, NULL)));
        pieces_free(&p);
    }
    float largest = 3;
    qz_matrix matrix = {x, QZ_F32, 1, 2, 2, 1};
    assert_int_equal(QZ_ERROR_ARGUMENT, CALL(qz_largest(qz_scheme_by_name("int4"), &matrix, &largest, NULL)));
    matrix.rows = 0;
    assert_int_equal(QZ_OK, CALL(qz_largest(qz_scheme_by_name("nvfp4"), &matrix, &largest, NULL)));
    assert_true(largest == 3);
    x[0] = NAN;
    x[1] = -7;
    matrix.rows = 1;
    assert_int_equal(QZ_OK, CALL(qz_largest(qz_scheme_by_name("nvfp4"), &matrix, &largest, NULL)));
    assert_true(largest == 7);
    matrix.dtype = (qz_dtype)0;
    assert_int_equal(QZ_ERROR_ARGUMENT, CALL(qz_largest(qz_scheme_by_name("nvfp4"), &matrix, &largest, NULL)));
}

/* What is so large that its codes bypass the caches: one row again and again, each encoded as it is alone. */
static void test_streamed(void **state)
{
    (void)state;
    enum { COLS = 8192, ROWS = (32 << 20) / COLS + 1 };
    static const uint64_t group_sizes[] = {32, 48, 1024};
    float *row = malloc(COLS * sizeof *row);
    uint8_t *codes = malloc((size_t)ROWS * COLS / 2), *scales = malloc((size_t)ROWS * COLS / 8);
    uint8_t *zeros = malloc((size_t)ROWS * COLS / 32);
    assert_true(row && codes && scales && zeros);
    struct rng rng = rng_make(58);
    for (size_t s = 0; s < COUNT(group_sizes); s++) {
        qz_scheme scheme = *qz_scheme_by_name(s == 1 ? "int4" : "uint4");
        scheme.group_size = group_sizes[s];
        qz_options options = QZ_OPTIONS_INIT;
        options.method = s == 1 ? QZ_ABSMAX : QZ_MINMAX;
        for (size_t i = 0; i < COLS; i++)
            row[i] = i / 64 == 77 ? 0.0f : i / 64 == 100 ? rng_normal(&rng) * 1e-30f : rng_normal(&rng);
        qz_sizes sizes = {.size = sizeof sizes};
        assert_int_equal(QZ_OK, qz_scheme_sizes(&scheme, ROWS, COLS, &sizes));
        qz_matrix matrix = {.data = row, .dtype = QZ_F32, .rows = ROWS, .cols = COLS, .col_stride = 1};
        qz_packed all = {
            codes, scales, zeros, (int64_t)sizes.code_bytes, (int64_t)sizes.scale_bytes, (int64_t)sizes.zero_bytes,
            NULL,  0};
        assert_int_equal(QZ_OK, qz_encode(&scheme, &matrix, &all, &options, NULL, NULL));
        uint8_t one_codes[COLS / 2], one_scales[COLS / 8], one_zeros[COLS / 32] = {0};
        qz_packed one = {one_codes, one_scales, one_zeros, 0, 0, 0, NULL, 0};
        matrix.rows = 1;
        assert_int_equal(QZ_OK, qz_encode(&scheme, &matrix, &one, &options, NULL, NULL));
        for (size_t r = 0; r < ROWS; r++) {
            assert_memory_equal(codes + r * sizes.code_bytes, one_codes, sizes.code_bytes);
            assert_memory_equal(scales + r * sizes.scale_bytes, one_scales, sizes.scale_bytes);
            assert_memory_equal(zeros + r * sizes.zero_bytes, one_zeros, sizes.zero_bytes);
        }
    }
    free(row), free(codes), free(scales), free(zeros);
}

static void test_method_names(void **state)
{
    (void)state;
    assert_string_equal(qz_method_name(QZ_DEFAULT), "default");
    assert_string_equal(qz_method_name(QZ_REFERENCE), "reference");
    assert_null(qz_method_name((qz_method)(QZ_REFERENCE + 1)));
    assert_null(qz_method_name((qz_method)-1));
}

int main(void)
{
    start_program("test_groups");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scheme_table),
        cmocka_unit_test(test_scheme_check),
        cmocka_unit_test(test_scheme_sizes),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_zeros),
        cmocka_unit_test(test_constants),
        cmocka_unit_test(test_scale_limits),
        cmocka_unit_test(test_huge_groups),
        cmocka_unit_test(test_error_places),
        cmocka_unit_test(test_error_places_large),
        cmocka_unit_test(test_grouped_small),
        cmocka_unit_test(test_grouped_random),
        cmocka_unit_test(test_grouped_long),
        cmocka_unit_test(test_compare_errors),
        cmocka_unit_test(test_foreign_bytes),
        cmocka_unit_test(test_validate),
        cmocka_unit_test(test_grouped_arguments),
        cmocka_unit_test(test_decode_wide),
        cmocka_unit_test(test_decode_unused_codes),
        cmocka_unit_test(test_decode_odd_supers),
        cmocka_unit_test(test_decode_streamed),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_part_arguments),
        cmocka_unit_test(test_same_bytes_again),
        cmocka_unit_test(test_streamed),
        cmocka_unit_test(test_method_names),
        cmocka_unit_test(test_grouped_modes),
        cmocka_unit_test(test_statistics_modes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
