/*
 * test_gptq.c - codes chosen with a Gram matrix: the same bytes everywhere, what they are good for, what is refused
 *
 * tests/python/test_gptq.py holds the results against a naive version.
 */
#include "support/program.h"

#include "support/cases.h"
#include "support/guard.h"
#include "support/reference.h"

/* ---- inputs -------------------------------------------------------------------------------------------------- */

/* The Gram matrix of `count` inputs that are mixtures of others and differ in power, in a matrix of any type. */
static struct field make_gram(struct rng *rng, size_t cols, size_t count, qz_dtype dtype, enum layout layout)
{
    struct field field = field_make(dtype, cols, cols, layout);
    double *sums = calloc(cols * cols + 1, sizeof *sums), *x = calloc(cols + 1, sizeof *x);
    for (size_t t = 0; t < count; t++) {
        for (size_t i = 0; i < cols; i++)
            x[i] = (i ? 0.8 * x[i - 1] : 0.0) + (double)(rng_normal(rng) * (i % 7 == 3 ? 4.0f : 1.0f));
        for (size_t i = 0; i < cols; i++)
            for (size_t j = 0; j < cols; j++)
                sums[i * cols + j] += x[i] * x[j] / (double)count;
    }
    for (size_t i = 0; i < cols; i++)
        for (size_t j = 0; j < cols; j++)
            field_put(&field.matrix, i, j, sums[i * cols + j]);
    free(sums);
    free(x);
    return field;
}

/* The sum over the rows of e gram e^T, the diagonal of gram multiplied with 1 + damping. */
static double output_error(const qz_scheme *scheme, const qz_matrix *w, const qz_matrix *gram, double damping,
                           const qz_packed *packed)
{
    size_t n = (size_t)w->cols;
    double total = 0.0, *e = malloc(n * sizeof *e);
    float *decoded = malloc((size_t)w->rows * n * sizeof *decoded);
    qz_matrix values = {decoded, QZ_F32, w->rows, w->cols, (int64_t)w->cols, 1};
    assert_int_equal(QZ_OK, qz_decode(scheme, packed, &values, NULL, NULL));
    for (size_t r = 0; r < w->rows; r++) {
        for (size_t i = 0; i < n; i++)
            e[i] = (double)(float)ref_load(field_at(w, r, i), w->dtype) - (double)decoded[r * n + i];
        for (size_t i = 0; i < n; i++) {
            total += damping * ref_load(field_at(gram, i, i), gram->dtype) * e[i] * e[i];
            for (size_t j = 0; j < n; j++)
                total += e[i] * ref_load(field_at(gram, i, j), gram->dtype) * e[j];
        }
    }
    free(e);
    free(decoded);
    return total;
}

/* Super scales for a plain form that ends its parts at guard pages. */
static struct guard make_supers(struct plain *plain, const qz_scheme *scheme, size_t rows)
{
    size_t bytes = (size_t)plain->sizes.super_bytes * (scheme->super_size == QZ_WHOLE_MATRIX ? 1 : rows);
    struct guard guard = guard_make(bytes);
    plain->packed.supers = guard_end(guard, bytes, 0);
    plain->packed.super_stride = (int64_t)plain->sizes.super_bytes;
    return guard;
}

/* ---- the same bytes ------------------------------------------------------------------------------------------ */

static void test_same_bytes(void **state)
{
    (void)state;
    static const size_t widths[] = {1, 2, 31, 32, 33, 64, 65, 100, 131, 260, 330};
    static const uint64_t group_sizes[] = {1, 3, 7, 16, 32, 33, 48, 128, QZ_WHOLE_ROW};
    const char *usual = qz_kernels();
    struct rng rng = rng_make(300);
    qz_pool *pool;
    assert_int_equal(QZ_OK, qz_pool_create(3, &pool));
    for (size_t repeat = 0; repeat < cases(30, 12); repeat++) {
        size_t rows = 1 + rng_below(&rng, repeat % 5 ? 40 : 200), cols = PICK(&rng, widths);
        qz_gptq_options options = QZ_GPTQ_OPTIONS_INIT;
        qz_scheme scheme = scheme_kind(repeat % SCHEME_KINDS, PICK(&rng, group_sizes), &options.method);
        if (repeat % 2) { /* a row of the table, as it is */
            size_t rows_there = 0;
            while (qz_scheme_at(rows_there))
                rows_there++;
            scheme = *qz_scheme_at(rng_below(&rng, rows_there));
            options.method = QZ_DEFAULT;
        }
        options.act_order = (int)rng_below(&rng, 2);
        options.sweeps = (unsigned)rng_below(&rng, 4);
        struct field w = field_make(PICK(&rng, all_dtypes), rows, cols, (enum layout)rng_below(&rng, INPUT_LAYOUTS));
        struct field gram =
            make_gram(&rng, cols, 40, repeat % 3 ? QZ_F64 : QZ_F32, (enum layout)rng_below(&rng, LAYOUTS));
        field_fill(&rng, &w.matrix, DATA_NORMAL);
        struct plain wanted = plain_make(&scheme, rows, cols, 0);
        struct guard wanted_supers = make_supers(&wanted, &scheme, rows);
        qz_stats wanted_stats = QZ_STATS_INIT;
        qz_gptq_outcome wanted_outcome = {0};
        options.examples = repeat % 4 * 20;
        options.holdout = repeat % 3 ? &gram.matrix : NULL;
        options.outcome = &wanted_outcome;
        assert_int_equal(QZ_OK, qz_kernels_use("scalar"));
        assert_int_equal(
            QZ_OK, CALL(qz_gptq(&scheme, &w.matrix, &gram.matrix, &options, &wanted.packed, &wanted_stats, NULL)));
        assert_int_equal(QZ_OK, qz_validate(&scheme, &wanted.packed, rows, cols, NULL));
        assert_int_equal(QZ_OK, qz_kernels_use(usual));
        for (int with_pool = 0; with_pool < 2; with_pool++) {
            struct plain got = plain_make(&scheme, rows, cols, 0);
            struct guard supers = make_supers(&got, &scheme, rows);
            qz_stats stats = QZ_STATS_INIT;
            qz_gptq_outcome outcome = {0};
            options.outcome = &outcome;
            options.pool = with_pool ? pool : NULL;
            assert_int_equal(QZ_OK,
                             CALL(qz_gptq(&scheme, &w.matrix, &gram.matrix, &options, &got.packed, &stats, NULL)));
            assert_memory_equal(&outcome, &wanted_outcome, sizeof outcome);
            if (!same_memory("codes", got.codes, wanted.codes, 1) ||
                !same_memory("scales", got.scales, wanted.scales, qz_dtype_size(scheme.scale_dtype)) ||
                !same_memory("zeros", got.zeros, wanted.zeros, 1) ||
                !same_memory("super scales", supers, wanted_supers, 1) ||
                memcmp(&stats, &wanted_stats, sizeof stats) != 0)
                fail_msg("%zu x %zu, codes %d, scales %d, zero %d, group size %llu, method %d, %u sweeps, pool %d",
                         rows, cols, scheme.codes, scheme.scale_dtype, scheme.zero,
                         (unsigned long long)scheme.group_size, options.method, options.sweeps, with_pool);
            plain_free(got);
            guard_free(supers);
        }
        plain_free(wanted);
        guard_free(wanted_supers);
        field_free(w);
        field_free(gram);
    }
    qz_pool_destroy(pool);
}

/* Rows with gaps between them keep the gaps, and a matrix of other strides is the same matrix. */
static void test_strides(void **state)
{
    (void)state;
    struct rng rng = rng_make(301);
    for (size_t kind = 0; kind < SCHEME_KINDS; kind++) {
        qz_gptq_options options = QZ_GPTQ_OPTIONS_INIT;
        qz_scheme scheme = scheme_kind(kind, 5, &options.method);
        size_t rows = 70, cols = 33;
        struct field w = field_make(QZ_F32, rows, cols, LAYOUT_ROWS),
                     moved = field_make(QZ_F32, rows, cols, LAYOUT_COLUMN_GAPS);
        struct field gram = make_gram(&rng, cols, 50, QZ_F64, LAYOUT_ROWS);
        field_fill(&rng, &w.matrix, DATA_NORMAL);
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < cols; c++)
                field_put(&moved.matrix, r, c, ref_load(field_at(&w.matrix, r, c), QZ_F32));
        struct plain tight = plain_make(&scheme, rows, cols, 0), loose = plain_make(&scheme, rows, cols, 3);
        assert_int_equal(QZ_OK, CALL(qz_gptq(&scheme, &w.matrix, &gram.matrix, &options, &tight.packed, NULL, NULL)));
        assert_int_equal(QZ_OK,
                         CALL(qz_gptq(&scheme, &moved.matrix, &gram.matrix, &options, &loose.packed, NULL, NULL)));
        for (size_t r = 0; r < rows; r++) {
            const char *parts[3] = {"codes", "scales", "zeros"};
            char *a[3] = {tight.packed.codes, tight.packed.scales, tight.packed.zeros};
            char *b[3] = {loose.packed.codes, loose.packed.scales, loose.packed.zeros};
            int64_t steps[3][2] = {{tight.packed.code_stride, loose.packed.code_stride},
                                   {tight.packed.scale_stride, loose.packed.scale_stride},
                                   {tight.packed.zero_stride, loose.packed.zero_stride}};
            for (size_t i = 0; i < (scheme.zero ? 3 : 2); i++) {
                size_t bytes = (size_t)steps[i][0];
                uint8_t *behind = (uint8_t *)b[i] + (int64_t)r * steps[i][1] + bytes;
                assert_true(
                    same_bytes(parts[i], b[i] + (int64_t)r * steps[i][1], a[i] + (int64_t)r * steps[i][0], bytes, 1));
                for (int64_t k = 0; r + 1 < rows && k < steps[i][1] - steps[i][0]; k++)
                    assert_int_equal(behind[k], CANARY);
            }
        }
        plain_free(tight);
        plain_free(loose);
        field_free(w);
        field_free(moved);
        field_free(gram);
    }
}

/* ---- what it is good for ------------------------------------------------------------------------------------- */

/* Better than qz_encode on correlated inputs, and no sweep makes it worse, apart from what decoded values lose when
 * they are rounded to float32. */
static void test_output_error(void **state)
{
    (void)state;
    static const uint64_t group_sizes[] = {8, 32, 50, QZ_WHOLE_ROW};
    struct rng rng = rng_make(302);
    for (size_t kind = 0; kind < SCHEME_KINDS; kind++)
        for (size_t g = 0; g < COUNT(group_sizes); g++) {
            qz_options plainly = QZ_OPTIONS_INIT;
            qz_gptq_options options = QZ_GPTQ_OPTIONS_INIT;
            qz_scheme scheme = scheme_kind(kind, group_sizes[g], &options.method);
            plainly.method = options.method;
            options.damping = 0.01;
            size_t rows = 20, cols = 100;
            struct field w = field_make(QZ_F32, rows, cols, LAYOUT_ROWS);
            struct field gram = make_gram(&rng, cols, 300, QZ_F64, LAYOUT_ROWS);
            field_fill(&rng, &w.matrix, DATA_NORMAL);
            struct plain plain = plain_make(&scheme, rows, cols, 0);
            assert_int_equal(QZ_OK, qz_encode(&scheme, &w.matrix, &plain.packed, &plainly, NULL, NULL));
            double before = output_error(&scheme, &w.matrix, &gram.matrix, options.damping, &plain.packed);
            before *= 0.6; /* less than half is usual */
            for (options.sweeps = 0; options.sweeps < 5; options.sweeps++) {
                assert_int_equal(QZ_OK,
                                 CALL(qz_gptq(&scheme, &w.matrix, &gram.matrix, &options, &plain.packed, NULL, NULL)));
                double after = output_error(&scheme, &w.matrix, &gram.matrix, options.damping, &plain.packed);
                if (!(after <= before * (1.0 + 0x1p-20)))
                    fail_msg("kind %zu, group size %llu, %u sweeps: %g after %g", kind,
                             (unsigned long long)scheme.group_size, options.sweeps, after, before);
                before = after;
            }
            plain_free(plain);
            field_free(w);
            field_free(gram);
        }
}

/* The sums for the outputs, and how many weights are clipped, against plain loops. */
static void test_outcome(void **state)
{
    (void)state;
    struct rng rng = rng_make(307);
    for (size_t repeat = 0; repeat < cases(24, 12); repeat++) {
        qz_gptq_options options = QZ_GPTQ_OPTIONS_INIT;
        qz_scheme scheme = scheme_kind(repeat % SCHEME_KINDS, 16, &options.method);
        size_t rows = 1 + rng_below(&rng, 150), cols = 1 + rng_below(&rng, 90);
        struct field w = field_make(QZ_F32, rows, cols, LAYOUT_ROWS);
        struct field gram = make_gram(&rng, cols, 30, QZ_F64, LAYOUT_ROWS);
        struct field other = make_gram(&rng, cols, 60, QZ_F64, LAYOUT_ROWS);
        struct plain plain = plain_make(&scheme, rows, cols, 0), nothing = plain_make(&scheme, rows, cols, 0);
        field_fill(&rng, &w.matrix, DATA_NORMAL);
        qz_stats stats = QZ_STATS_INIT;
        qz_gptq_outcome outcome = {0};
        options.holdout = &other.matrix;
        options.outcome = &outcome;
        options.examples = 30;
        assert_int_equal(QZ_OK, CALL(qz_gptq(&scheme, &w.matrix, &gram.matrix, &options, &plain.packed, &stats, NULL)));
        assert_int_equal(outcome.size, sizeof outcome);
        assert_true(cols < 2 ? outcome.damping == 0 : outcome.damping >= 0.001 && outcome.damping <= 1024);
        memset(nothing.packed.codes, 0, (size_t)nothing.packed.code_stride * rows); /* decodes to zeros, at scale 0 */
        memset(nothing.packed.scales, 0, (size_t)nothing.packed.scale_stride * rows);
        if (scheme.zero)
            memset(nothing.packed.zeros, 0, (size_t)nothing.packed.zero_stride * rows);
        for (int held = 0; held < 2; held++) {
            const qz_matrix *matrix = held ? &other.matrix : &gram.matrix;
            double largest = 0.0, signal = held ? outcome.holdout_signal : outcome.output_signal;
            double error = held ? outcome.holdout_error : outcome.output_error;
            for (size_t i = 0; i < cols; i++)
                largest = fmax(largest, ref_load(field_at(matrix, i, i), QZ_F64));
            int exponent;
            frexp(largest, &exponent);
            double wanted = ldexp(output_error(&scheme, &w.matrix, matrix, 0.0, &nothing.packed), -exponent);
            assert_true(fabs(signal - wanted) <= 1e-9 * wanted);
            double lost = ldexp(output_error(&scheme, &w.matrix, matrix, 0.0, &plain.packed), -exponent);
            assert_true(fabs(error - lost) <= 1e-9 * wanted);
        }
        double usual = outcome.damping;
        options.examples = 3000; /* more of them are believed more, and fewer less */
        assert_int_equal(QZ_OK, CALL(qz_gptq(&scheme, &w.matrix, &gram.matrix, &options, &plain.packed, NULL, NULL)));
        assert_true(cols < 2 ? outcome.damping == usual : outcome.damping < usual);
        plain_free(plain);
        plain_free(nothing);
        field_free(w);
        field_free(gram);
        field_free(other);
    }
}

/* Options as they were before they had examples, holdout and outcome. */
static void test_fewer_options(void **state)
{
    (void)state;
    struct rng rng = rng_make(308);
    size_t rows = 7, cols = 50;
    qz_scheme scheme = *qz_scheme_by_name("int4");
    struct field w = field_make(QZ_F32, rows, cols, LAYOUT_ROWS);
    struct field gram = make_gram(&rng, cols, 40, QZ_F64, LAYOUT_ROWS);
    struct plain all = plain_make(&scheme, rows, cols, 0), old = plain_make(&scheme, rows, cols, 0);
    field_fill(&rng, &w.matrix, DATA_NORMAL);
    qz_gptq_options options = QZ_GPTQ_OPTIONS_INIT;
    options.damping = 0.01;
    assert_int_equal(QZ_OK, CALL(qz_gptq(&scheme, &w.matrix, &gram.matrix, &options, &all.packed, NULL, NULL)));
    size_t bytes = offsetof(qz_gptq_options, examples);
    struct guard guard = guard_make(bytes); /* not a byte behind them is read */
    qz_gptq_options *fewer = guard_end(guard, bytes, 0);
    options.size = bytes;
    memcpy(fewer, &options, bytes);
    assert_int_equal(QZ_OK, CALL(qz_gptq(&scheme, &w.matrix, &gram.matrix, fewer, &old.packed, NULL, NULL)));
    assert_true(same_memory("codes", old.codes, all.codes, 1));
    assert_true(same_memory("scales", old.scales, all.scales, 1));
    guard_free(guard);
    plain_free(all);
    plain_free(old);
    field_free(w);
    field_free(gram);
}

/* Inputs that do not depend on each other leave nothing to make up for. */
static void test_diagonal(void **state)
{
    (void)state;
    struct rng rng = rng_make(303);
    for (size_t kind = 0; kind < SCHEME_KINDS; kind++) {
        qz_options plainly = QZ_OPTIONS_INIT;
        qz_gptq_options options = QZ_GPTQ_OPTIONS_INIT;
        qz_scheme scheme = scheme_kind(kind, 32, &options.method);
        plainly.method = options.method;
        options.sweeps = 0;
        size_t rows = 65, cols = 90;
        struct field w = field_make(QZ_F32, rows, cols, LAYOUT_ROWS);
        struct field gram = field_make(QZ_F64, cols, cols, LAYOUT_ROWS);
        field_fill(&rng, &w.matrix, DATA_NORMAL);
        for (size_t i = 0; i < cols; i++)
            for (size_t j = 0; j < cols; j++)
                field_put(&gram.matrix, i, j, i == j ? 3.0 : 0.0);
        struct plain wanted = plain_make(&scheme, rows, cols, 0), got = plain_make(&scheme, rows, cols, 0);
        qz_stats wanted_stats = QZ_STATS_INIT, stats = QZ_STATS_INIT;
        assert_int_equal(QZ_OK, qz_encode(&scheme, &w.matrix, &wanted.packed, &plainly, &wanted_stats, NULL));
        assert_int_equal(QZ_OK, CALL(qz_gptq(&scheme, &w.matrix, &gram.matrix, &options, &got.packed, &stats, NULL)));
        assert_true(same_memory("scales", got.scales, wanted.scales, 1));
        assert_true(same_memory("zeros", got.zeros, wanted.zeros, 1));
        float values[2][65 * 90];
        qz_matrix decoded[2] = {{values[0], QZ_F32, rows, cols, (int64_t)cols, 1},
                                {values[1], QZ_F32, rows, cols, (int64_t)cols, 1}};
        assert_int_equal(QZ_OK, qz_decode(&scheme, &got.packed, &decoded[0], NULL, NULL));
        assert_int_equal(QZ_OK, qz_decode(&scheme, &wanted.packed, &decoded[1], NULL, NULL));
        size_t ties = 0;
        for (size_t i = 0; i < rows * cols; i++)
            if (values[0][i] != values[1][i]) { /* halfway between two, as far as the encoder's float32 can tell */
                float w_i = ((const float *)w.matrix.data)[i], middle = 0.5f * (values[0][i] + values[1][i]);
                assert_true(fabsf(w_i - middle) <= 4e-6f * fabsf(values[0][i] - values[1][i]));
                ties++;
            }
        assert_true(ties < 4);
        if (ties)
            goto next; /* the errors are as large, but for the last bit */
        assert_true(stats.count == wanted_stats.count && stats.max_error == wanted_stats.max_error &&
                    stats.max_index == wanted_stats.max_index && stats.clipped == wanted_stats.clipped);
    next:
        plain_free(wanted);
        plain_free(got);
        field_free(w);
        field_free(gram);
    }
}

/* Inputs that are always 0 do not disturb the others, with or without damping; a matrix of zeros is no error. */
static void test_dead_inputs(void **state)
{
    (void)state;
    struct rng rng = rng_make(304);
    size_t rows = 5, cols = 40;
    qz_scheme scheme = *qz_scheme_by_name("int4");
    scheme.group_size = 4;
    struct field w = field_make(QZ_F32, rows, cols, LAYOUT_ROWS),
                 some = field_make(QZ_F32, rows, cols / 2, LAYOUT_ROWS);
    struct field small = make_gram(&rng, cols / 2, 100, QZ_F64, LAYOUT_ROWS);
    struct field gram = field_make(QZ_F64, cols, cols, LAYOUT_ROWS);
    field_fill(&rng, &w.matrix, DATA_NORMAL);
    for (size_t i = 0; i < cols; i++) /* groups are alive and dead in turns */
        for (size_t j = 0; j < cols; j++)
            field_put(&gram.matrix, i, j,
                      i / 4 % 2 || j / 4 % 2
                          ? 0.0
                          : ref_load(field_at(&small.matrix, i / 8 * 4 + i % 4, j / 8 * 4 + j % 4), QZ_F64));
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < cols / 2; i++)
            field_put(&some.matrix, r, i, ref_load(field_at(&w.matrix, r, i / 4 * 8 + i % 4), QZ_F32));
    for (int damped = 0; damped < 2; damped++) {
        qz_gptq_options options = QZ_GPTQ_OPTIONS_INIT;
        options.method = QZ_ABSMAX;
        options.sweeps = 0;
        struct plain all = plain_make(&scheme, rows, cols, 0), half = plain_make(&scheme, rows, cols / 2, 0);
        struct plain plain = plain_make(&scheme, rows, cols, 0);
        qz_options plainly = QZ_OPTIONS_INIT;
        plainly.method = QZ_ABSMAX;
        options.damping = damped ? 0.01 : 0.0;
        assert_int_equal(QZ_OK, CALL(qz_gptq(&scheme, &w.matrix, &gram.matrix, &options, &all.packed, NULL, NULL)));
        assert_int_equal(QZ_OK,
                         CALL(qz_gptq(&scheme, &some.matrix, &small.matrix, &options, &half.packed, NULL, NULL)));
        assert_int_equal(QZ_OK, qz_encode(&scheme, &w.matrix, &plain.packed, &plainly, NULL, NULL));
        for (size_t r = 0; r < rows; r++)
            for (size_t byte = 0; byte < cols / 2; byte++) {
                const uint8_t *got = (uint8_t *)all.packed.codes + r * cols / 2 + byte;
                const uint8_t *alive = (uint8_t *)half.packed.codes + r * cols / 4 + byte / 4 * 2 + byte % 2;
                const uint8_t *dead = (uint8_t *)plain.packed.codes + r * cols / 2 + byte;
                assert_int_equal(*got, byte / 2 % 2 ? *dead : *alive);
            }
        for (size_t i = 0; i < cols && damped; i++)
            for (size_t j = 0; j < cols; j++)
                field_put(&gram.matrix, i, j, 0.0);
        if (damped) {
            assert_int_equal(QZ_OK, CALL(qz_gptq(&scheme, &w.matrix, &gram.matrix, &options, &all.packed, NULL, NULL)));
            assert_true(same_memory("codes", all.codes, plain.codes, 1));
        }
        plain_free(all);
        plain_free(half);
        plain_free(plain);
    }
    field_free(w);
    field_free(some);
    field_free(small);
    field_free(gram);
}

/* ---- what is refused ----------------------------------------------------------------------------------------- */

static void test_errors(void **state)
{
    (void)state;
    enum { ROWS = 3, COLS = 6 };
    float values[ROWS * COLS];
    double h[COLS * COLS];
    struct rng rng = rng_make(305);
    fill_floats(&rng, DATA_NORMAL, values, ROWS * COLS);
    qz_matrix w = {values, QZ_F32, ROWS, COLS, COLS, 1}, gram = {h, QZ_F64, COLS, COLS, COLS, 1};
    qz_scheme scheme = *qz_scheme_by_name("int4");
    struct plain plain = plain_make(&scheme, ROWS, COLS, 0);
    qz_gptq_options options = QZ_GPTQ_OPTIONS_INIT;
    qz_stats stats = QZ_STATS_INIT;
    qz_detail detail = QZ_DETAIL_INIT;
    static const struct {
        size_t row, col;
        double value, damping;
        uint64_t index; /* that is reported; UINT64_MAX: no error */
    } grams[] = {
        {0, 0, 2.0, 0.0, UINT64_MAX},         {2, 3, NAN, 0.01, 2 * COLS + 3},    {5, 0, INFINITY, 0.01, 5 * COLS},
        {5, 5, INFINITY, 0.01, 5 * COLS + 5}, {4, 4, -1e-30, 0.01, 4 * COLS + 4}, {4, 1, 0.25, 0.01, 4 * COLS + 1},
        {1, 4, 0.25, 0.01, 4 * COLS + 1},                                     /* the lower one of the two is named */
        {1, 4, 0.5005, 0.01, UINT64_MAX},     {3, 3, 0.2, 0.0, 4 * COLS + 4}, /* less power than its share in input 4
                                                                               */
        {3, 3, 0.0, 1e-9, 4 * COLS + 4},      {3, 3, 0.2, 1.0, UINT64_MAX},
    };
    for (size_t i = 0; i < COUNT(grams); i++) {
        for (size_t k = 0; k < COLS * COLS; k++) /* input 4 is half of 1, 2 and 3 each, and a little more */
            h[k] = k % (COLS + 1) == 0 ? 1.0 : 0.0;
        for (size_t k = 1; k < 4; k++)
            h[4 * COLS + k] = h[k * COLS + 4] = 0.5;
        h[grams[i].row * COLS + grams[i].col] = grams[i].value;
        options.damping = grams[i].damping;
        for (options.act_order = 0; options.act_order < 2; options.act_order++) {
            detail = (qz_detail)QZ_DETAIL_INIT;
            qz_result result = CALL(qz_gptq(&scheme, &w, &gram, &options, &plain.packed, &stats, &detail));
            assert_int_equal(result, grams[i].index == UINT64_MAX ? QZ_OK : QZ_ERROR_GRAM);
            if (result == QZ_OK)
                continue;
            uint64_t diagonal = detail.index % (COLS + 1);
            if (grams[i].row == 3) /* which of those that depend on each other is found does not matter */
                assert_int_equal(diagonal, 0);
            else
                assert_int_equal(detail.index, grams[i].index);
            double reported = h[detail.index];
            assert_int_equal(bits_of_double(detail.value), bits_of_double(reported));
            assert_int_equal(QZ_ERROR_GRAM, CALL(qz_gptq(&scheme, &w, &gram, &options, &plain.packed, NULL, NULL)));
        }
    }

    for (size_t k = 0; k < COLS * COLS; k++)
        h[k] = k % (COLS + 1) == 0 ? 1.0 : 0.0;
    options = (qz_gptq_options)QZ_GPTQ_OPTIONS_INIT;
#define RESULT(wanted)                                                                                                 \
    assert_int_equal(wanted, CALL(qz_gptq(&scheme, &w, &gram, &options, &plain.packed, &stats, &detail)))
    RESULT(QZ_OK);
    static const double bad[] = {-0.01, NAN, INFINITY};
    for (size_t i = 0; i < COUNT(bad); i++) {
        options.damping = bad[i];
        RESULT(QZ_ERROR_ARGUMENT);
    }
    options.damping = 0.0;
    options.size--;
    RESULT(QZ_ERROR_ARGUMENT);
    options.size++;
    qz_matrix holdout = gram;
    double other[COLS * COLS] = {[COLS + 2] = NAN};
    options.holdout = &holdout;
    RESULT(QZ_OK);
    holdout.data = other;
    RESULT(QZ_ERROR_GRAM);
    assert_int_equal(detail.index, COLS + 2);
    assert_int_equal(detail.count, 1);
    h[3] = INFINITY;
    other[COLS + 2] = 0.0;
    RESULT(QZ_ERROR_GRAM);
    assert_int_equal(detail.index, 3);
    assert_int_equal(detail.count, 0);
    h[3] = 0.0;
    holdout.rows--;
    RESULT(QZ_ERROR_ARGUMENT);
    holdout.rows++;
    holdout.dtype = QZ_I7;
    RESULT(QZ_ERROR_ARGUMENT);
    options.size = offsetof(qz_gptq_options, examples); /* then nothing behind is looked at */
    RESULT(QZ_OK);
    options.size = sizeof options;
    options.holdout = NULL;
    options.method = QZ_MINMAX;
    RESULT(QZ_ERROR_ARGUMENT);
    options.method = QZ_DEFAULT;
    gram.rows--;
    RESULT(QZ_ERROR_ARGUMENT);
    gram.rows++;
    gram.cols++;
    RESULT(QZ_ERROR_ARGUMENT);
    gram.cols--;
    gram.dtype = (qz_dtype)0;
    RESULT(QZ_ERROR_ARGUMENT);
    gram.dtype = QZ_F64;
    plain.packed.code_stride--;
    RESULT(QZ_ERROR_ARGUMENT);
    plain.packed.code_stride++;
    values[7] = NAN;
    values[8] = INFINITY;
    RESULT(QZ_ERROR_NONFINITE);
    assert_int_equal(detail.index, 7);
    assert_int_equal(detail.count, 2);
    values[7] = 1e30f;
    values[8] = 0;
    RESULT(QZ_ERROR_SCALE);
    assert_int_equal(detail.group, 1);
    values[7] = 0;
    w.cols = gram.rows = gram.cols = UINT64_C(1) << 40;
    w.row_stride = w.col_stride = gram.row_stride = gram.col_stride = 0;
    plain.packed.code_stride = plain.packed.scale_stride = INT64_C(1) << 40;
    RESULT(QZ_ERROR_SIZE);
    w.cols = gram.rows = gram.cols = 0;
    RESULT(QZ_OK);
    w.cols = gram.rows = gram.cols = COLS;
    w.rows = 0;
    RESULT(QZ_OK);
    plain_free(plain);
}

/* Groups whose scales vanish, are subnormal or are as large as can be: codes stay what decoding can use. */
static void test_extremes(void **state)
{
    (void)state;
    struct rng rng = rng_make(306);
    size_t rows = 30, cols = 70;
    for (size_t repeat = 0; repeat < cases(30, 12); repeat++) {
        qz_gptq_options options = QZ_GPTQ_OPTIONS_INIT;
        qz_scheme scheme = scheme_kind(repeat % SCHEME_KINDS, 1 + rng_below(&rng, 40), &options.method);
        struct field w = field_make(QZ_F32, rows, cols, LAYOUT_ROWS);
        struct field gram = make_gram(&rng, cols, 100, QZ_F64, LAYOUT_ROWS);
        struct plain plain = plain_make(&scheme, rows, cols, 0);
        field_fill(&rng, &w.matrix, DATA_NORMAL);
        for (size_t r = 0; r < rows; r++) {
            int exponent = (int)rng_below(&rng, scheme.scale_dtype == QZ_F16 ? 44 : 270);
            exponent -= scheme.scale_dtype == QZ_F16 ? 32 : 149;
            for (size_t c = 0; c < cols; c++)
                field_put(&w.matrix, r, c, ref_load(field_at(&w.matrix, r, c), QZ_F32) * ldexp(1.0, exponent));
        }
        qz_stats stats = QZ_STATS_INIT;
        assert_int_equal(QZ_OK, CALL(qz_gptq(&scheme, &w.matrix, &gram.matrix, &options, &plain.packed, &stats, NULL)));
        assert_int_equal(QZ_OK, qz_validate(&scheme, &plain.packed, rows, cols, NULL));
        assert_true(isfinite(stats.error) && stats.error <= stats.signal);
        plain_free(plain);
        field_free(w);
        field_free(gram);
    }
}

/* Whatever the weights and inputs are, in any scheme: what is said to be done is valid, and finite. */
static void test_all_magnitudes(void **state)
{
    (void)state;
    struct rng rng = rng_make(309);
    size_t done = 0, refused = 0, schemes = 0;
    while (qz_scheme_at(schemes))
        schemes++;
    for (size_t repeat = 0; repeat < cases(750, 150); repeat++) {
        static const qz_method methods[] = {QZ_DEFAULT, QZ_MINMAX, QZ_ABSMAX, QZ_ABSMAX7, QZ_SEARCH, QZ_EXACT};
        qz_gptq_options options = QZ_GPTQ_OPTIONS_INIT;
        qz_scheme scheme = *qz_scheme_at(repeat % schemes);
        float table[16];
        size_t rows = 1 + rng_below(&rng, 4), cols = 1 + rng_below(&rng, scheme.super_size ? 300 : 60);
        if (rng_below(&rng, 2) && scheme.scale_dtype <= QZ_BF16)
            scheme.scale_dtype = PICK(&rng, scale_dtypes);
        if (scheme.codes == QZ_TABLE && rng_below(&rng, 2)) {
            int exponent = (int)rng_below(&rng, 250) - 125;
            for (size_t i = 0; i < 16; i++)
                table[i] = ldexpf(rng_normal(&rng), exponent);
            scheme.table = table;
        }
        options.method = PICK(&rng, methods);
        if (qz_scheme_check(&scheme, options.method) != QZ_OK)
            options.method = QZ_DEFAULT;
        options.act_order = (int)rng_below(&rng, 2);
        options.sweeps = (unsigned)rng_below(&rng, 3);
        options.damping = rng_below(&rng, 2) ? 0.01 : QZ_DAMPING_FOLLOWS;
        struct field w = field_make(QZ_F32, rows, cols, LAYOUT_ROWS);
        struct field gram = make_gram(&rng, cols, 1 + rng_below(&rng, 20), QZ_F64, LAYOUT_ROWS);
        /* Magnitudes of a kind, of rows that differ, or of values that do; and inputs of any power. */
        int spread = (int)rng_below(&rng, 3), exponent = (int)rng_below(&rng, 278) - 149;
        int side = (int)rng_below(&rng, 3) - 1;
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < cols; c++) {
                if (spread == 2 || (spread == 1 && c == 0))
                    exponent = (int)rng_below(&rng, 278) - 149;
                double value = (double)rng_normal(&rng);
                value = ldexp(side ? side * fabs(value) : value, exponent);
                field_put(&w.matrix, r, c, fmin(fmax(value, -3.4e38), 3.4e38));
            }
        for (size_t i = 0, wild = rng_below(&rng, 2); i < cols && wild; i++) {
            double power = ldexp(1.0, (int)rng_below(&rng, 900) - 450);
            for (size_t j = 0; j < cols; j++) {
                field_put(&gram.matrix, i, j, ref_load(field_at(&gram.matrix, i, j), QZ_F64) * power);
                field_put(&gram.matrix, j, i, ref_load(field_at(&gram.matrix, j, i), QZ_F64) * power);
            }
        }
        struct plain plain = plain_make(&scheme, rows, cols, 0);
        struct guard supers = make_supers(&plain, &scheme, rows);
        qz_stats stats = QZ_STATS_INIT;
        qz_gptq_outcome outcome = {0};
        options.outcome = &outcome;
        options.holdout = &gram.matrix;
        qz_detail detail = QZ_DETAIL_INIT;
        qz_result result = CALL(qz_gptq(&scheme, &w.matrix, &gram.matrix, &options, &plain.packed, &stats, &detail));
        if (result == QZ_OK) {
            float *decoded = malloc(rows * cols * sizeof *decoded);
            qz_matrix values = {decoded, QZ_F32, rows, cols, (int64_t)cols, 1};
            assert_int_equal(QZ_OK, qz_validate(&scheme, &plain.packed, rows, cols, NULL));
            assert_int_equal(QZ_OK, qz_decode(&scheme, &plain.packed, &values, NULL, NULL));
            for (size_t i = 0; i < rows * cols; i++)
                if (!isfinite(decoded[i]))
                    fail_msg("case %zu, %s: value %zu is %g", repeat, scheme.name, i, (double)decoded[i]);
            assert_true(isfinite(stats.signal) && isfinite(stats.error) && isfinite(stats.max_error));
            assert_true(isfinite(outcome.output_signal) && isfinite(outcome.output_error));
            assert_true(outcome.output_signal >= 0 && outcome.output_error >= 0 && isfinite(outcome.damping));
            assert_true(outcome.holdout_signal == outcome.output_signal &&
                        outcome.holdout_error == outcome.output_error);
            free(decoded);
            done++;
        } else {
            refused++;
            if (result != QZ_ERROR_SCALE) {
                assert_int_equal(result, QZ_ERROR_GRAM); /* fewer examples than inputs, without much damping */
                assert_true(options.damping == 0.01);
            }
        }
        plain_free(plain);
        guard_free(supers);
        field_free(w);
        field_free(gram);
    }
    assert_true(done > refused / 4 && refused > 0);
}

int main(void)
{
    start_program("test_gptq");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bytes),    cmocka_unit_test(test_strides),
        cmocka_unit_test(test_output_error),  cmocka_unit_test(test_outcome),
        cmocka_unit_test(test_fewer_options), cmocka_unit_test(test_diagonal),
        cmocka_unit_test(test_dead_inputs),   cmocka_unit_test(test_errors),
        cmocka_unit_test(test_extremes),      cmocka_unit_test(test_all_magnitudes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
