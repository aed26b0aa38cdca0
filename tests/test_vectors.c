/*
 * test_vectors.c - qz_normalize, qz_rotate and qz_project against their definitions, computed plainly
 *
 * The plain versions take one element after another; both must agree to the last bit, for every dimension and number of
 * rows and threads. That lengths are 1, or stay as they are, is checked beside it.
 */
#include "support/program.h"

#include "support/guard.h"

#include <math.h>

enum { STEPS = 6, COLS_MOST = 5000 };

static qz_pool *pool;

static uint64_t splitmix(uint64_t state)
{
    uint64_t z = (state ^ state >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void plain_signs(float *x, size_t cols, uint64_t seed, size_t step)
{
    for (size_t i = 0; i < cols; i++)
        if (splitmix(seed + (step * cols + i + 1) * 0x9e3779b97f4a7c15u) >> 63)
            x[i] = -x[i];
}

static void plain_transform(float *x, size_t cols, size_t step)
{
    size_t n = 1;
    while (2 * n <= cols)
        n *= 2;
    float *at = step % 2 ? x + cols - n : x, scale = (float)pow((double)n, -0.5);
    for (size_t h = 1; h < n; h *= 2)
        for (size_t i = 0; i < n; i++)
            if (!(i & h)) {
                float one = at[i], other = at[i + h];
                at[i] = one + other;
                at[i + h] = one - other;
            }
    for (size_t i = 0; i < n; i++)
        at[i] *= scale;
}

static void plain_rotation(float *x, size_t cols, uint64_t seed, int back)
{
    for (size_t s = 0; s < STEPS; s++) {
        size_t step = back ? STEPS - 1 - s : s;
        if (!back)
            plain_signs(x, cols, seed, step);
        plain_transform(x, cols, step);
        if (back)
            plain_signs(x, cols, seed, step);
    }
}

static void fill(struct rng *rng, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = ((float)rng_below(rng, 1 << 20) - 524288.0f) / 1024.0f;
}

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Squares are folded in an array as long as the vector. */
static void plain_normalization(float *x, size_t cols)
{
    double *sum = malloc(cols * sizeof *sum), aside = 0;
    for (size_t i = 0; i < cols; i++)
        sum[i] = (double)x[i] * (double)x[i];
    size_t n = cols;
    for (; n > 1; n /= 2) {
        if (n % 2)
            aside += sum[n - 1];
        for (size_t i = 0; i < n / 2; i++)
            sum[i] = sum[i] + sum[n / 2 + i];
    }
    double length = sqrt(aside + sum[0]);
    for (size_t i = 0; i < cols && length > 0; i++)
        x[i] = (float)((double)x[i] / length);
    free(sum);
}

static void lengths_agree(struct rng *rng, size_t rows, size_t cols)
{
    const size_t bytes = rows * cols * sizeof(float);
    struct guard guard = guard_make(bytes);
    float *x = guard_end(guard, bytes, 0), *plain = malloc(bytes);
    snprintf(guard_doing, sizeof guard_doing, "%zu x %zu", rows, cols);
    for (int threads = 0; threads <= 1; threads++) {
        fill(rng, x, rows * cols);
        memset(x + rng_below(rng, rows) * cols, 0, cols * sizeof *x);
        memcpy(plain, x, bytes);
        assert_int_equal(CALL(qz_normalize(x, rows, cols, threads ? pool : NULL)), QZ_OK);
        for (size_t r = 0; r < rows; r++) {
            double square = dot(x + r * cols, x + r * cols, cols);
            plain_normalization(plain + r * cols, cols);
            assert_true(square == 0.0 || fabs(square - 1.0) < 1e-6);
        }
        assert_memory_equal(x, plain, bytes);
        assert_true(guard_check(guard, x, bytes));
    }
    free(plain);
    guard_free(guard);
}

static void lengths(void **state)
{
    (void)state;
    static const size_t long_ones[] = {2047, 2048, 2049, 4097, 8195, 20001};
    struct rng rng = rng_make(3);
    for (size_t cols = 1; cols <= 70; cols++)
        lengths_agree(&rng, 1 + rng_below(&rng, 40), cols);
    for (size_t i = 0; i < sizeof long_ones / sizeof long_ones[0]; i++)
        lengths_agree(&rng, 1 + rng_below(&rng, 9), long_ones[i]);
}

static void agrees(struct rng *rng, size_t rows, size_t cols)
{
    const uint64_t seed = rng_below(rng, 4) ? rng_next(rng) : UINT64_MAX;
    const size_t bytes = rows * cols * sizeof(float);
    struct guard guard = guard_make(bytes);
    float *x = guard_end(guard, bytes, 0), *given = malloc(bytes), *plain = malloc(bytes);
    fill(rng, given, rows * cols);
    snprintf(guard_doing, sizeof guard_doing, "%zu x %zu", rows, cols);
    for (int back = 0; back <= 1; back++)
        for (int threads = 0; threads <= 1; threads++) {
            memcpy(x, given, bytes);
            memcpy(plain, given, bytes);
            assert_int_equal(CALL(qz_rotate(x, rows, cols, seed, back, threads ? pool : NULL)), QZ_OK);
            for (size_t r = 0; r < rows; r++)
                plain_rotation(plain + r * cols, cols, seed, back);
            assert_memory_equal(x, plain, bytes);
            assert_true(guard_check(guard, x, bytes));
        }
    for (size_t r = 1; r < rows; r++) {
        const float *a = given + (r - 1) * cols, *b = a + cols;
        double size = sqrt(dot(a, a, cols) * dot(b, b, cols));
        assert_true(fabs(dot(x + (r - 1) * cols, x + r * cols, cols) - dot(a, b, cols)) <= 1e-5 * size);
    }
    assert_int_equal(CALL(qz_rotate(x, rows, cols, seed, 0, pool)), QZ_OK); /* x was turned back: undoes that */
    for (size_t i = 0; i < rows * cols; i++)
        assert_true(fabsf(x[i] - given[i]) <= 0.01f);
    free(given);
    free(plain);
    guard_free(guard);
}

static void any_shape(void **state)
{
    (void)state;
    struct rng rng = rng_make(1);
    for (size_t cols = 1; cols <= 70; cols++)
        agrees(&rng, 1 + rng_below(&rng, 40), cols);
    for (size_t i = 0; i < cases(100, 10); i++)
        agrees(&rng, 1 + rng_below(&rng, 60), 1 + rng_below(&rng, COLS_MOST));
}

/* All elements of a vector with a single one become of about the same size. */
static void mixes(void **state)
{
    (void)state;
    static const size_t cols[] = {64, 100, 384, 1000, 1536};
    float x[1536];
    for (size_t c = 0; c < sizeof cols / sizeof cols[0]; c++)
        for (size_t i = 0; i < cols[c]; i += 7) {
            memset(x, 0, sizeof x);
            x[i] = 1;
            assert_int_equal(CALL(qz_rotate(x, 1, cols[c], 5, 0, NULL)), QZ_OK);
            float most = 0;
            for (size_t k = 0; k < cols[c]; k++)
                most = fmaxf(most, fabsf(x[k]));
            assert_true(most < 6.0f / sqrtf((float)cols[c]));
        }
}

static void products_agree(struct rng *rng, size_t rows, size_t cols, size_t outs)
{
    const size_t bytes = rows * outs * sizeof(float);
    float *x = malloc(rows * cols * sizeof *x + 1), *matrix = malloc(cols * outs * sizeof *matrix + 1);
    struct guard guard = guard_make(bytes);
    float *y = guard_end(guard, bytes, 0);
    fill(rng, x, rows * cols);
    fill(rng, matrix, cols * outs);
    snprintf(guard_doing, sizeof guard_doing, "%zu x %zu to %zu", rows, cols, outs);
    for (int threads = 0; threads <= 1; threads++) {
        guard_fill(guard);
        assert_int_equal(CALL(qz_project(x, rows, cols, matrix, outs, y, threads ? pool : NULL)), QZ_OK);
        assert_true(guard_check(guard, y, bytes));
        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < outs; j++) {
                volatile float sum = 0; /* rounds every step */
                for (size_t i = 0; i < cols; i++) {
                    volatile float product = x[r * cols + i] * matrix[i * outs + j];
                    sum = sum + product;
                }
                assert_int_equal(bits_of_float(y[r * outs + j]), bits_of_float(sum));
            }
    }
    free(x);
    free(matrix);
    guard_free(guard);
}

static void products(void **state)
{
    (void)state;
    struct rng rng = rng_make(4);
    for (size_t i = 0; i < cases(300, 60); i++)
        products_agree(&rng, 1 + rng_below(&rng, 20), rng_below(&rng, 80), 1 + rng_below(&rng, 100));
    products_agree(&rng, 300, 64, 65);
}

static void other_modes(void **state)
{
    (void)state;
    float x[300], plain[300];
    for (enum fp_mode mode = FP_DEFAULT; mode < FP_MODES; mode++) {
        if (!fp_mode_exists(mode))
            continue;
        struct rng rng = rng_make(2);
        fill(&rng, x, 300);
        memcpy(plain, x, sizeof x);
        plain_rotation(plain, 300, 9, 0);
        enum fp_mode usual = fp_calls;
        fp_calls = mode;
        assert_int_equal(CALL(qz_rotate(x, 1, 300, 9, 0, NULL)), QZ_OK);
        fp_calls = usual;
        assert_memory_equal(x, plain, sizeof x);
        fp_calls = mode;
        assert_int_equal(CALL(qz_normalize(x, 1, 300, NULL)), QZ_OK);
        fp_calls = usual;
        plain_normalization(plain, 300);
        assert_memory_equal(x, plain, sizeof x);
    }
}

static void arguments(void **state)
{
    (void)state;
    float x[4] = {1, 2, 3, 4}, same[4] = {1, 2, 3, 4};
    assert_int_equal(CALL(qz_normalize(NULL, 4, 0, NULL)), QZ_OK);
    assert_int_equal(CALL(qz_normalize(NULL, 1, 4, NULL)), QZ_ERROR_ARGUMENT);
    assert_int_equal(CALL(qz_normalize(x, 4, UINT64_MAX / 2, NULL)), QZ_ERROR_SIZE);
    assert_int_equal(CALL(qz_rotate(NULL, 0, 4, 1, 0, NULL)), QZ_OK);
    assert_int_equal(CALL(qz_rotate(NULL, 4, 0, 1, 0, NULL)), QZ_OK);
    assert_int_equal(CALL(qz_rotate(NULL, 1, 4, 1, 0, NULL)), QZ_ERROR_ARGUMENT);
    assert_int_equal(CALL(qz_rotate((float *)((char *)x + 1), 1, 3, 1, 0, NULL)), QZ_ERROR_ARGUMENT);
    assert_int_equal(CALL(qz_rotate(x, UINT64_MAX / 2, 4, 1, 0, NULL)), QZ_ERROR_SIZE);
    assert_memory_equal(x, same, sizeof x);
    float y[4] = {9, 9, 9, 9};
    assert_int_equal(CALL(qz_project(x, 0, 2, NULL, 2, NULL, NULL)), QZ_OK);
    assert_int_equal(CALL(qz_project(NULL, 2, 2, x, 2, y, NULL)), QZ_ERROR_ARGUMENT);
    assert_int_equal(CALL(qz_project(x, 2, 2, NULL, 2, y, NULL)), QZ_ERROR_ARGUMENT);
    assert_int_equal(CALL(qz_project(x, 2, 2, x, 2, NULL, NULL)), QZ_ERROR_ARGUMENT);
    assert_int_equal(CALL(qz_project(x, 2, UINT64_MAX / 4, x, 2, y, NULL)), QZ_ERROR_SIZE);
    assert_int_equal(CALL(qz_project(x, 2, 2, x, UINT64_MAX / 4, y, NULL)), QZ_ERROR_SIZE);
    assert_true(y[0] == 9 && y[3] == 9);
}

int main(void)
{
    start_program("test_vectors");
    guard_report_faults();
    if (qz_pool_create(3, &pool) != QZ_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths),  cmocka_unit_test(any_shape),   cmocka_unit_test(mixes),
        cmocka_unit_test(products), cmocka_unit_test(other_modes), cmocka_unit_test(arguments),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    qz_pool_destroy(pool);
    return failed;
}
