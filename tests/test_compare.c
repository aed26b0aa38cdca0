/*
 * test_compare.c - qz_compare and qz_compare_matrices where one side is float64, and errors of all magnitudes
 *
 * The numbers are compared as they are: against sums in long double, over magnitudes from 1e-300 to 1e300, for every
 * other type, layout and kernel set, with and without threads.
 */
#include "support/program.h"

#include "support/cases.h"

#include <float.h>
#include <math.h>

static const qz_dtype types[] = {QZ_F64, QZ_F32, QZ_F16, QZ_BF16};

/* |got - wanted| within the rounding of a sum of n squares in double. */
static int is_near(double got, long double wanted, uint64_t n)
{
    return fabsl((long double)got - wanted) <= wanted * (long double)n * DBL_EPSILON + DBL_MIN;
}

static void against_long_double(void **state)
{
    (void)state;
    qz_pool *pool;
    assert_int_equal(qz_pool_create(3, &pool), QZ_OK);
    for (size_t i = 0; i < cases(600, 60); i++) {
        struct rng rng = rng_make(i);
        uint64_t rows = 1 + rng_below(&rng, i % 20 == 0 ? 90 : 9), cols = 1 + rng_below(&rng, i % 20 == 0 ? 1500 : 80);
        qz_dtype other = types[rng_below(&rng, 4)];
        int swapped = (int)rng_below(&rng, 2);
        struct field a = field_make(swapped ? other : QZ_F64, rows, cols, (enum layout)rng_below(&rng, LAYOUTS));
        struct field b = field_make(swapped ? QZ_F64 : other, rows, cols, (enum layout)rng_below(&rng, LAYOUTS));
        /* Squares of what is this large or small still fit, unless the other side is a narrow type. */
        int spread = other == QZ_F64 ? 140 : other == QZ_F16 ? 3 : 30;
        double magnitude = pow(10, (double)rng_below(&rng, (size_t)(2 * spread + 1)) - spread);
        long double signal = 0, error = 0;
        double most = 0;
        uint64_t where = 0;
        for (uint64_t r = 0; r < rows; r++)
            for (uint64_t c = 0; c < cols; c++) {
                double x = magnitude * (double)rng_normal(&rng);
                field_put(&a.matrix, r, c, x);
                field_put(&b.matrix, r, c, rng_below(&rng, 3) == 0 ? x : x * (1 + 1e-12 * (double)rng_normal(&rng)));
                double p = ref_element(&a.matrix, r, c), q = ref_element(&b.matrix, r, c);
                signal += (long double)p * p;
                error += (long double)(p - q) * (p - q);
                if (fabs(p - q) > most)
                    most = fabs(p - q), where = r * cols + c;
            }
        qz_stats stats = QZ_STATS_INIT, threaded = QZ_STATS_INIT;
        assert_int_equal(CALL(qz_compare_matrices(&a.matrix, &b.matrix, NULL, &stats, NULL)), QZ_OK);
        assert_int_equal(CALL(qz_compare_matrices(&a.matrix, &b.matrix, pool, &threaded, NULL)), QZ_OK);
        assert_memory_equal(&stats, &threaded, sizeof stats);
        if (stats.count != rows * cols || stats.max_error != most || stats.max_index != where ||
            !is_near(stats.signal, signal, stats.count) || !is_near(stats.error, error, stats.count))
            fail_msg("case %zu: %g %Lg, %g %Lg, %g %g at %llu %llu\n", i, stats.signal, signal, stats.error, error,
                     stats.max_error, most, (unsigned long long)stats.max_index, (unsigned long long)where);
        field_free(a);
        field_free(b);
    }
    qz_pool_destroy(pool);
}

/* Whatever finite numbers are compared: the statistics are finite, and say whether there is a difference. */
static void ends_of_the_range(void **state)
{
    (void)state;
    static const double ends[] = {0,      5e-324, 1e-310, 2.3e-308, 1e-200,  1e-50,  0.1,     1,
                                  3.5e38, 1e150,  1e160,  1e300,    1.7e308, -1e300, -1e-200, -1.7e308};
    enum { N = sizeof ends / sizeof ends[0] };
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double x[3] = {ends[i], 1e-300, ends[i]}, y[3] = {ends[j], 1e-300, ends[j]};
            const qz_matrix a = {x, QZ_F64, 1, 3, 3, 1}, b = {y, QZ_F64, 1, 3, 3, 1};
            qz_stats stats = QZ_STATS_INIT;
            assert_int_equal(qz_compare_matrices(&a, &b, NULL, &stats, NULL), QZ_OK);
            assert_true(isfinite(stats.signal) && isfinite(stats.error) && isfinite(stats.max_error));
            assert_int_equal(stats.max_error > 0, i != j);
            assert_int_equal(stats.error > 0, i != j);
            assert_int_equal(stats.max_index, 0);
        }
}

/* A float of any magnitude: its exponent is even over all that float32 has. */
static float any_magnitude(struct rng *rng)
{
    return ldexpf(1.0f + (float)rng_below(rng, 1 << 20) * 0x1p-20f, (int)rng_below(rng, 270) - 145) *
           (rng_below(rng, 2) ? 1.0f : -1.0f);
}

static void check_floats(const qz_stats *stats, const float *x, const float *y, size_t n, size_t case_number)
{
    long double error = 0;
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = fabs((double)x[i] - (double)y[i]);
        error += (long double)difference * difference;
        most = difference > most ? difference : most;
    }
    if (fabs(stats->max_error - most) > 1e-6 * most || fabsl((long double)stats->error - error) > 1e-5L * error)
        fail_msg("case %zu: largest %g, not %g; sum %g, not %Lg", case_number, stats->max_error, most, stats->error,
                 error);
}

/* Errors are found however small they are beside the largest value: float32 cannot hold the squares of both. */
static void floats_of_all_magnitudes(void **state)
{
    (void)state;
    enum { MOST = 300 };
    qz_scheme scheme = *qz_scheme_by_name("int4");
    scheme.scale_dtype = QZ_F32;
    qz_options options = QZ_OPTIONS_INIT;
    options.method = QZ_ABSMAX;
    for (size_t i = 0; i < cases(20000, 2000); i++) {
        struct rng rng = rng_make(i);
        const size_t n = 1 + rng_below(&rng, i % 8 ? 5 : MOST);
        scheme.group_size = i % 3 ? 32 : QZ_WHOLE_ROW;
        float x[MOST], y[MOST], decoded[MOST];
        for (size_t k = 0; k < n; k++) {
            x[k] = k % 4 || n < 4 ? any_magnitude(&rng) : 0.0f;
            const uint64_t kind = rng_below(&rng, 6);
            y[k] = kind == 0 ? 0.0f : kind == 1 ? nextafterf(x[k], 0.0f) : x[k];
        }
        const qz_matrix a = {x, QZ_F32, 1, n, (int64_t)n, 1}, b = {y, QZ_F32, 1, n, (int64_t)n, 1},
                        out = {decoded, QZ_F32, 1, n, (int64_t)n, 1};
        qz_stats stats = QZ_STATS_INIT;
        assert_int_equal(qz_compare_matrices(&a, &b, NULL, &stats, NULL), QZ_OK);
        check_floats(&stats, x, y, n, i);
        struct plain packed = plain_make(&scheme, 1, n, 0);
        assert_int_equal(qz_encode(&scheme, &a, &packed.packed, &options, &stats, NULL), QZ_OK);
        assert_int_equal(qz_decode(&scheme, &packed.packed, &out, NULL, NULL), QZ_OK);
        check_floats(&stats, x, decoded, n, i);
        stats = (qz_stats)QZ_STATS_INIT;
        assert_int_equal(qz_compare(&scheme, &packed.packed, &a, NULL, &stats, NULL), QZ_OK);
        check_floats(&stats, x, decoded, n, i);
        plain_free(packed);
    }
}

/* Against a packed matrix: as against the floats that it decodes to. */
static void packed_sides(void **state)
{
    (void)state;
    const qz_scheme *scheme;
    for (size_t i = 0; (scheme = qz_scheme_at(i)) != NULL; i++) {
        enum { ROWS = 5, COLS = 256 };
        struct rng rng = rng_make(i);
        static double x[ROWS * COLS];
        static float decoded[ROWS * COLS];
        for (size_t k = 0; k < ROWS * COLS; k++)
            x[k] = (double)rng_normal(&rng) * (1 + 1e-9);
        const qz_matrix a = {x, QZ_F64, ROWS, COLS, COLS, 1}, out = {decoded, QZ_F32, ROWS, COLS, COLS, 1};
        static float supers[ROWS * 64];
        struct plain packed = plain_make(scheme, ROWS, COLS, 0);
        packed.packed.supers = scheme->super_size != 0 ? supers : NULL;
        packed.packed.super_stride = (int64_t)packed.sizes.super_bytes;
        qz_stats stats = QZ_STATS_INIT, floats = QZ_STATS_INIT;
        assert_int_equal(qz_encode(scheme, &a, &packed.packed, NULL, NULL, NULL), QZ_OK);
        assert_int_equal(qz_decode(scheme, &packed.packed, &out, NULL, NULL), QZ_OK);
        assert_int_equal(qz_compare(scheme, &packed.packed, &a, NULL, &stats, NULL), QZ_OK);
        assert_int_equal(qz_compare_matrices(&a, &out, NULL, &floats, NULL), QZ_OK);
        assert_true(stats.max_error == floats.max_error && stats.max_index == floats.max_index);
        assert_true(is_near(stats.error, (long double)floats.error, ROWS * COLS));
        assert_true(is_near(stats.signal, (long double)floats.signal, ROWS * COLS));
        plain_free(packed);
    }
}

static void nonfinite(void **state)
{
    (void)state;
    double x[4] = {1e300, NAN, 2, 3}, y[4] = {1, 2, 3, 4};
    const qz_matrix a = {x, QZ_F64, 2, 2, 2, 1}, b = {y, QZ_F64, 2, 2, 2, 1};
    qz_detail detail = QZ_DETAIL_INIT;
    assert_int_equal(qz_compare_matrices(&a, &b, NULL, NULL, &detail), QZ_ERROR_NONFINITE);
    assert_true(detail.index == 1 && detail.count == 1);
    assert_int_equal(qz_compare_matrices(&b, &a, NULL, NULL, &detail), QZ_ERROR_NONFINITE);
    assert_true(detail.index == 1 && detail.count == 1);
    x[1] = 0;
    assert_int_equal(qz_compare_matrices(&b, &a, NULL, NULL, &detail), QZ_OK);
}

int main(void)
{
    start_program("test_compare");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_long_double),
        cmocka_unit_test(ends_of_the_range),
        cmocka_unit_test(floats_of_all_magnitudes),
        cmocka_unit_test(packed_sides),
        cmocka_unit_test(nonfinite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
