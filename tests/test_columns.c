/*
 * test_columns.c - a matrix and the same one with its columns next to each other: the same bytes, the same values
 *
 * The second goes other ways, by groups side by side, by tiles that are turned, and past the cache; the first is held
 * against plain rules in test_groups.c.
 */
#include "support/program.h"

#include "support/cases.h"
#include "support/fpmode.h"

static void same_both_ways(struct rng *rng, const qz_scheme *scheme, qz_method method, uint64_t rows, uint64_t cols,
                           qz_dtype dtype, enum data_kind kind, size_t gap)
{
    enum layout layout = rng_below(rng, 2) ? LAYOUT_COLUMNS : LAYOUT_COLUMN_GAPS;
    struct field a = field_make(dtype, rows, cols, LAYOUT_ROWS), b = field_make(dtype, rows, cols, layout);
    struct plain wanted = plain_make(scheme, rows, cols, gap), got = plain_make(scheme, rows, cols, gap);
    field_fill(rng, &a.matrix, kind);
    if (rng_below(rng, 4) == 0) /* one group in a tile needs a second look */
        field_put(&a.matrix, rng_below(rng, rows), rng_below(rng, cols), rng_below(rng, 2) ? 1e5 : 1e-30);
    for (uint64_t r = 0; r < rows; r++)
        for (uint64_t c = 0; c < cols; c++)
            memcpy(field_at(&b.matrix, r, c), field_at(&a.matrix, r, c), qz_dtype_size(dtype));
    qz_options options = QZ_OPTIONS_INIT;
    options.method = method;
    qz_result result = CALL(qz_encode(scheme, &a.matrix, &wanted.packed, &options, NULL, NULL));
    assert_int_equal(result, CALL(qz_encode(scheme, &b.matrix, &got.packed, &options, NULL, NULL)));
    if (result == QZ_OK) {
        assert_true(same_memory("codes", got.codes, wanted.codes, 1));
        assert_true(same_memory("scales", got.scales, wanted.scales, 1));
        assert_true(same_memory("zeros", got.zeros, wanted.zeros, 1));
        result = CALL(qz_decode(scheme, &wanted.packed, &a.matrix, NULL, NULL)); /* float16 may be too narrow */
        assert_int_equal(result, CALL(qz_decode(scheme, &wanted.packed, &b.matrix, NULL, NULL)));
        for (uint64_t r = 0; r < rows && result == QZ_OK; r++)
            for (uint64_t c = 0; c < cols; c++)
                if (memcmp(field_at(&b.matrix, r, c), field_at(&a.matrix, r, c), qz_dtype_size(dtype)) != 0)
                    fail_msg("value (%d, %d) of %d x %d, groups of %d", (int)r, (int)c, (int)rows, (int)cols,
                             (int)scheme->group_size);
        assert_true(guard_check(b.guard, b.start, b.bytes));
    }
    field_free(a);
    field_free(b);
    plain_free(wanted);
    plain_free(got);
}

static void test_columns(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {31, 32, 32, 32, 64, 96, 128, 160, 512, 544};
    static const enum data_kind kinds[] = {DATA_NORMAL, DATA_NORMAL, DATA_NORMAL, DATA_OUTLIER, DATA_PLUS_MINUS};
    struct rng rng = rng_make(31);
    for (size_t repeat = 0; repeat < cases(50, 40); repeat++) {
        qz_method method;
        qz_scheme scheme = scheme_kind(repeat % SCHEME_KINDS, PICK(&rng, sizes), &method);
        uint64_t rows = 1 + rng_below(&rng, rng_below(&rng, 2) ? 70 : 600);
        uint64_t cols = 1 + rng_below(&rng, rng_below(&rng, 2) ? 300 : 1200);
        if (rng_below(&rng, 2))
            cols = (1 + rng_below(&rng, 1 + 600 / scheme.group_size)) * scheme.group_size;
        same_both_ways(&rng, &scheme, method, rows, cols, PICK(&rng, all_dtypes), PICK(&rng, kinds),
                       rng_below(&rng, 3));
    }
    static const char *const tables[] = {"nf4", "fp4", "iq4_nl"};
    for (size_t repeat = 0; repeat < cases(20, 6); repeat++) {
        qz_scheme scheme = *qz_scheme_by_name(PICK(&rng, tables));
        scheme.name = NULL;
        scheme.group_size = 32 + 32 * rng_below(&rng, 3);
        same_both_ways(&rng, &scheme, QZ_ABSMAX, 1 + rng_below(&rng, 300), scheme.group_size * (1 + rng_below(&rng, 5)),
                       QZ_F32, DATA_NORMAL, 0);
    }
}

/* So large that codes, or values, leave past the cache. */
static void test_large_columns(void **state)
{
    (void)state;
    if (short_mode)
        skip();
    struct rng rng = rng_make(32);
    same_both_ways(&rng, qz_scheme_by_name("int4"), QZ_ABSMAX, 2090, 16416, QZ_F32, DATA_NORMAL, 0);
    same_both_ways(&rng, qz_scheme_by_name("uint4"), QZ_MINMAX, 1039, 4192, QZ_F32, DATA_NORMAL, 1);
    same_both_ways(&rng, qz_scheme_by_name("uint4_offset"), QZ_MINMAX, 2064, 4096, QZ_F16, DATA_NORMAL, 0);
    static const uint64_t sizes[] = {32, 32, 64, 96, 128, 512};
    for (size_t repeat = 0; repeat < SCHEME_KINDS; repeat++) { /* panels, and tiles, that are cut short */
        if (left_out(&rng, 3, 3))
            continue;
        qz_method method;
        qz_scheme scheme = scheme_kind(repeat % SCHEME_KINDS, PICK(&rng, sizes), &method);
        qz_dtype dtype = PICK(&rng, all_dtypes);
        uint64_t rows = 300 + rng_below(&rng, 1200), cols = (17 << 20) / qz_dtype_size(dtype) / rows;
        if (rng_below(&rng, 4))
            cols = (cols / scheme.group_size + 1) * scheme.group_size;
        same_both_ways(&rng, &scheme, method, rows, cols, dtype, DATA_NORMAL, 0);
    }
}

int main(void)
{
    start_program("test_columns");
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_columns), cmocka_unit_test(test_large_columns)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
