/*
 * test_schemes.c - schemes: their table, which ones are legal, how many bytes they need; names of methods
 */
#include "support/program.h"

#include "support/cases.h"

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

/* The same in each hostile floating-point mode. */
static void test_scheme_sizes_modes(void **state)
{
    enum fp_mode usual = fp_calls;
    for (int mode = 0; mode < FP_MODES; mode++) {
        if (!fp_mode_exists((enum fp_mode)mode))
            continue;
        fp_calls = (enum fp_mode)mode;
        test_scheme_sizes(state);
    }
    fp_calls = usual;
}

static void test_method_names(void **state)
{
    (void)state;
    assert_string_equal(qz_method_name(QZ_DEFAULT), "default");
    assert_string_equal(qz_method_name(QZ_REFERENCE), "reference");
    assert_null(qz_method_name((qz_method)(QZ_REFERENCE + 1)));
    assert_null(qz_method_name((qz_method)-1));
}

/* Sixteen finite values that differ, and one above 0 where scales are positive. */
static void test_table_check(void **state)
{
    (void)state;
    float table[16];
    qz_scheme scheme = *qz_scheme_by_name("nf4");
    scheme.codes = QZ_TABLE;
    scheme.table = table;
    for (int i = 0; i < 16; i++)
        table[i] = -1.0f;
    assert_int_equal(QZ_ERROR_ARGUMENT, qz_scheme_check(&scheme, QZ_DEFAULT));
    table[15] = -2.0f;
    assert_int_equal(QZ_OK, qz_scheme_check(&scheme, QZ_DEFAULT));
    scheme.positive = 1;
    assert_int_equal(QZ_ERROR_ARGUMENT, qz_scheme_check(&scheme, QZ_DEFAULT));
    table[3] = 0x1p60f;
    assert_int_equal(QZ_OK, qz_scheme_check(&scheme, QZ_DEFAULT));
    table[3] = NAN;
    assert_int_equal(QZ_ERROR_ARGUMENT, qz_scheme_check(&scheme, QZ_DEFAULT));
    scheme.table = NULL;
    assert_int_equal(QZ_ERROR_ARGUMENT, qz_scheme_check(&scheme, QZ_DEFAULT));
}

int main(void)
{
    start_program("test_schemes");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scheme_table),       cmocka_unit_test(test_scheme_check),
        cmocka_unit_test(test_table_check),        cmocka_unit_test(test_scheme_sizes),
        cmocka_unit_test(test_scheme_sizes_modes), cmocka_unit_test(test_method_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
