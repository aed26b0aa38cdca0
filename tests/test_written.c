/*
 * test_written.c - what was written can be read
 *
 * The law: where qz_encode returns QZ_OK, qz_validate accepts the result, all decoded values are finite, and so are the
 * statistics. Where a number does not fit its type, it is QZ_ERROR_SCALE with the group and which number it is, by
 * every method alike if the scheme has no super scales. Held against schemes with every type of scale, magnitudes from
 * the least float to the largest, and weights of all kinds.
 */
#include "support/program.h"

#include "support/cases.h"

#include "kernels/kernels.h"
#include "packed/scheme.h"

#include <float.h>
#include <math.h>

enum { MOST = 4096, LONGEST = 3000, ROWS_MOST = 8 };

static float x[ROWS_MOST * LONGEST], weights[ROWS_MOST * LONGEST], decoded[ROWS_MOST * LONGEST];
static uint8_t codes[ROWS_MOST * LONGEST], scales[ROWS_MOST * LONGEST * 4], zeros[ROWS_MOST * LONGEST * 4];
static float supers[ROWS_MOST * LONGEST * 2];

static const uint64_t super_sizes[] = {32, 256, QZ_WHOLE_ROW, QZ_WHOLE_MATRIX};

/* A scheme that the library accepts: any codes, scales, zeros and super scales. */
static qz_scheme random_scheme(struct rng *rng, float table[16])
{
    static const qz_dtype types[] = {QZ_F32, QZ_F16, QZ_BF16, QZ_E4M3, QZ_E8M0, QZ_I6, QZ_U6, QZ_I7};
    static const uint64_t sizes[] = {16, 32, 64, 128, 1, 7, 2048, 5000};
    if (rng_below(rng, 3) == 0) {
        qz_scheme named = *qz_scheme_at(rng_below(rng, 22));
        return named;
    }
    for (;;) {
        qz_scheme scheme = *qz_scheme_by_name("nf4");
        scheme.name = NULL;
        scheme.rule = QZ_RULE_NONE;
        scheme.codes = (qz_codes)(1 + rng_below(rng, 8));
        scheme.scale_dtype = PICK(rng, types);
        scheme.zero = (qz_zero)rng_below(rng, 4);
        scheme.group_size = PICK(rng, sizes);
        scheme.positive = rng_below(rng, 3) == 0;
        scheme.method = QZ_SEARCH;
        if (rng_below(rng, 2)) {
            scheme.super_dtype = rng_below(rng, 2) ? QZ_F32 : QZ_F16;
            scheme.super_size = PICK(rng, super_sizes);
        }
        if (scheme.codes == QZ_TABLE) {
            float unit = power_of_two((int)rng_below(rng, 120) - 61);
            for (int k = 0; k < 16; k++)
                table[k] = fmaxf(-0x1p60f, fminf(0x1p60f, rng_normal(rng) * unit));
            scheme.table = table;
        }
        if (qz_scheme_check(&scheme, QZ_SEARCH) == QZ_OK)
            return scheme;
    }
}

/* Values up to a magnitude from anywhere in the range of floats; groups may differ by much. */
static void fill_values(struct rng *rng, size_t rows, size_t cols)
{
    float magnitude = power_of_two((int)rng_below(rng, 254) - 126);
    enum data_kind kind = (enum data_kind)rng_below(rng, DATA_KINDS);
    size_t spread = rng_below(rng, 2) ? 0 : rng_below(rng, 60), n = rows * cols;
    if (rng_below(rng, 4) == 0)
        magnitude = rng_below(rng, 2) ? 0x1p127f : 0x1p-126f;
    fill_floats(rng, kind, x, n);
    for (size_t i = 0; i < n; i++) {
        if (kind != DATA_BITS && kind != DATA_HUGE && kind != DATA_SUBNORMAL)
            x[i] *= magnitude;
        if (spread && i / 16 % 3 == 0)
            x[i] *= power_of_two(-(int)spread);
        if (rng_below(rng, 500) == 0)
            x[i] = rng_below(rng, 2) ? FLT_MAX : -FLT_MAX;
        x[i] = fmaxf(-FLT_MAX, fminf(FLT_MAX, x[i]));
    }
}

/* 0: none; random ones; mostly 0; of huge ratios; huge or tiny ones. */
static int fill_weights(struct rng *rng, size_t n)
{
    size_t kind = rng_below(rng, 5);
    float unit = power_of_two((int)rng_below(rng, 250) - 126);
    for (size_t i = 0; i < n; i++) {
        float w = (float)(1 + rng_below(rng, 1000)) * 0x1p-10f;
        weights[i] = kind == 1   ? w
                     : kind == 2 ? (rng_below(rng, 10) ? 0.0f : w)
                     : kind == 3 ? w * power_of_two((int)rng_below(rng, 200) - 100)
                                 : w * unit;
    }
    return kind != 0;
}

static const char *scheme_text(const qz_scheme *s, qz_method method)
{
    static char text[200];
    snprintf(text, sizeof text, "%s, codes %d, scales %s, zero %d, group %llu, super %s of %llu, method %s",
             s->name ? s->name : "a scheme", (int)s->codes, qz_dtype_name(s->scale_dtype), (int)s->zero,
             (unsigned long long)s->group_size, s->super_size ? qz_dtype_name(s->super_dtype) : "none",
             (unsigned long long)s->super_size, qz_method_name(method));
    return text;
}

static int stats_are_finite(const qz_stats *s)
{
    return isfinite(s->signal) && isfinite(s->error) && isfinite(s->max_error) && isfinite(s->weighted_signal) &&
           isfinite(s->weighted_error);
}

static qz_packed packed_room(const qz_scheme *scheme, const qz_sizes *sizes)
{
    return (qz_packed){codes,
                       scales,
                       scheme->zero ? zeros : NULL,
                       (int64_t)sizes->code_bytes,
                       (int64_t)sizes->scale_bytes,
                       (int64_t)sizes->zero_bytes,
                       scheme->super_size ? supers : NULL,
                       (int64_t)sizes->super_bytes};
}

static qz_result check_law(const qz_scheme *scheme, qz_method method, size_t rows, size_t cols, qz_options *options)
{
    qz_sizes sizes = {.size = sizeof sizes};
    assert_int_equal(qz_scheme_sizes(scheme, rows, cols, &sizes), QZ_OK);
    qz_packed packed = packed_room(scheme, &sizes);
    qz_matrix src = {x, QZ_F32, rows, cols, (int64_t)cols, 1}, dst = {decoded, QZ_F32, rows, cols, (int64_t)cols, 1};
    qz_stats stats = QZ_STATS_INIT;
    qz_detail detail = QZ_DETAIL_INIT;
    options->method = method;
    qz_result result =
        CALL(qz_encode(scheme, &src, &packed, options, rng_below(&(struct rng){cols}, 4) ? &stats : NULL, &detail));
    if (result == QZ_ERROR_SCALE) {
        if (detail.group >= rows * sizes.row_groups || detail.number < QZ_NUMBER_SCALE ||
            detail.number > QZ_NUMBER_SUPER_OFFSET)
            fail_msg("%s: error in group %llu, number %d", scheme_text(scheme, method),
                     (unsigned long long)detail.group, detail.number);
        return result;
    }
    if (result != QZ_OK)
        return result;
    if (CALL(qz_validate(scheme, &packed, rows, cols, NULL)) != QZ_OK)
        fail_msg("%s: invalid", scheme_text(scheme, method));
    assert_int_equal(CALL(qz_decode(scheme, &packed, &dst, NULL, NULL)), QZ_OK);
    for (size_t i = 0; i < rows * cols; i++)
        if (!isfinite(decoded[i]))
            fail_msg("%s: [%zu], %a of %zu columns, decodes to %a", scheme_text(scheme, method), i, (double)x[i], cols,
                     (double)decoded[i]);
    if (!stats_are_finite(&stats))
        fail_msg("%s: statistics %g %g %g %g %g", scheme_text(scheme, method), stats.signal, stats.error,
                 stats.max_error, stats.weighted_signal, stats.weighted_error);
    if (scheme->scale_dtype == QZ_E4M3)
        for (size_t i = 0; i < rows * sizes.row_groups; i++)
            if (scales[i] == 0x80)
                fail_msg("%s: a scale of -0", scheme_text(scheme, method));
    return result;
}

static void test_law(void **state)
{
    (void)state;
    struct rng rng = rng_make(950);
    static const qz_method methods[] = {QZ_MINMAX, QZ_ABSMAX, QZ_ABSMAX7, QZ_SEARCH, QZ_EXACT, QZ_REFERENCE};
    for (size_t repeat = 0; repeat < cases(4000, 300); repeat++) {
        float table[16];
        qz_scheme scheme = random_scheme(&rng, table);
        size_t rows = 1 + rng_below(&rng, 3), cols = 1 + rng_below(&rng, rng_below(&rng, 8) ? 300 : LONGEST);
        if (scheme.rule != QZ_RULE_NONE)
            cols = (cols + 255) / 256 * 256 % LONGEST;
        if (cols == 0)
            continue;
        fill_values(&rng, rows, cols);
        qz_options options = QZ_OPTIONS_INIT;
        qz_matrix w = {weights, QZ_F32, rows, cols, (int64_t)cols, 1};
        if (fill_weights(&rng, rows * cols))
            options.weights = &w;
        options.stochastic = rng_below(&rng, 4) == 0;
        options.seed = rng_next(&rng);
        qz_result plain = QZ_OK;
        for (size_t m = 0, first = 1; m < COUNT(methods); m++) {
            if (qz_scheme_check(&scheme, methods[m]) != QZ_OK)
                continue;
            if (methods[m] == QZ_EXACT && rng_below(&rng, 4))
                continue;
            int seeded = options.stochastic;
            options.stochastic = seeded && methods[m] != QZ_REFERENCE;
            qz_result result = check_law(&scheme, methods[m], rows, cols, &options);
            options.stochastic = seeded;
            if (methods[m] == QZ_REFERENCE || result == QZ_ERROR_ARGUMENT)
                continue;
            if (result != QZ_OK && result != QZ_ERROR_SCALE)
                fail_msg("%s: %s", scheme_text(&scheme, methods[m]), qz_result_text(result));
            if (first)
                plain = result;
            first = 0;
            if (plain == QZ_ERROR_SCALE && result == QZ_OK && scheme.super_size == 0 && methods[m] != QZ_ABSMAX7)
                fail_msg("%s: the plain scale does not fit, but no error", scheme_text(&scheme, methods[m]));
        }
    }
}

int main(void)
{
    start_program("test_written");
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_law)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
