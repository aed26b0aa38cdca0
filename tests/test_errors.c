/*
 * test_errors.c - what encoding, decoding, comparing and validating refuse, and which place they name
 */
#include "support/program.h"

#include "support/cases.h"
#include "support/pieces.h"
#include "support/reference.h"

/* ---- values and scales --------------------------------------------------------------------------------------- */

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

/* ---- packed data --------------------------------------------------------------------------------------------- */

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

/* ---- arguments ----------------------------------------------------------------------------------------------- */

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

int main(void)
{
    start_program("test_errors");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_places),
        cmocka_unit_test(test_error_places_large),
        cmocka_unit_test(test_decode_unused_codes),
        cmocka_unit_test(test_compare_errors),
        cmocka_unit_test(test_validate),
        cmocka_unit_test(test_grouped_arguments),
        cmocka_unit_test(test_part_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
