/*
 * test_linear.c - qz_linear against sums of products with decoded values
 *
 * Sums of float32 are computed once more in the order that quantize.h states and must agree to the last bit; products
 * of bytes must be within the stated bound of float64 sums, and the same on every kernel set. All of it for every
 * scheme, rows and columns of the packed matrix, any shape, type and strides, and every number of threads.
 */
#include "support/program.h"

#include "support/calls.h"
#include "support/cases.h"
#include "support/pieces.h"

#include <float.h>
#include <math.h>

enum { CHAIN = 64, BLOCK = 32, TILE = 4096 };

static qz_pool *pools[4]; /* the first one is NULL */

/* ---- plain sums ---------------------------------------------------------------------------------------------- */

static float plain_sum(const float *x, const float *w, size_t n)
{
    float total = 0;
    for (size_t first = 0; first < n; first += CHAIN) {
        float chain = 0;
        for (size_t i = first; i < n && i < first + CHAIN; i++)
            chain = fmaf(x[i], w[i], chain);
        total += chain;
    }
    return isnan(total) ? NAN : total;
}

static float block_most(const float *x, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++)
        most = isnan(x[i]) || isnan(most) ? NAN : fmaxf(most, fabsf(x[i]));
    return most;
}

/* What a row becomes for QZ_ACTIVATIONS_I8. */
static void round_plainly(const float *x, size_t n, float *to)
{
    for (size_t first = 0; first < n; first += BLOCK) {
        size_t count = n - first < BLOCK ? n - first : BLOCK;
        float most = block_most(x + first, count), step = most / 127.0f, inverse = 127.0f / most;
        for (size_t i = first; i < first + count; i++)
            to[i] = most >= 0x1p-60f && most <= 0x1p60f ? step * rintf(x[i] * inverse) : x[i];
    }
}

/* ---- a case -------------------------------------------------------------------------------------------------- */

struct linear_case {
    qz_scheme scheme;
    struct pieces packed;
    size_t rows, cols, count; /* of the packed matrix; rows of x */
    int columns;
    qz_matrix x;
    float *values;  /* x as float32, contiguous */
    float *weights; /* outputs x inner: decoded, and turned with `columns` */
    size_t inner, outputs;
};

static void make_weights(struct linear_case *c)
{
    float *decoded = malloc((c->rows * c->cols + 1) * sizeof *decoded);
    const qz_matrix matrix = {decoded, QZ_F32, c->rows, c->cols, (int64_t)c->cols, 1};
    assert_int_equal(qz_decode(&c->scheme, &c->packed.packed, &matrix, NULL, NULL), QZ_OK);
    c->inner = c->columns ? c->rows : c->cols;
    c->outputs = c->columns ? c->cols : c->rows;
    c->weights = malloc((c->rows * c->cols + 1) * sizeof *c->weights);
    for (size_t o = 0; o < c->outputs; o++)
        for (size_t i = 0; i < c->inner; i++)
            c->weights[o * c->inner + i] = c->columns ? decoded[i * c->cols + o] : decoded[o * c->cols + i];
    free(decoded);
}

static void describe(const struct linear_case *c, qz_activations how, const char *set, size_t pool, char text[256])
{
    snprintf(text, 256, "%s, group %lld, %zu x %zu, %s, %zu rows of %s, activations %d, %s, pool %zu",
             c->scheme.name ? c->scheme.name : "own", (long long)c->scheme.group_size, c->rows, c->cols,
             c->columns ? "columns" : "rows", c->count, qz_dtype_name(c->x.dtype), (int)how, set, pool);
}

static int has_bytes(const struct linear_case *c)
{
    uint64_t group = c->scheme.group_size;
    return (c->scheme.codes == QZ_INT4 || c->scheme.codes == QZ_UINT4 || c->scheme.codes == QZ_FP4) && !c->columns &&
           (group % BLOCK == 0 || group >= c->cols);
}

/* Weights that were prepared make the same, to the last bit; those without products of bytes are refused. */
static void call_prepared(const struct linear_case *c, const qz_linear_options *options, struct field *y)
{
    qz_linear_options with = *options;
    qz_linear_prepared *prepared;
    qz_result result = CALL(qz_linear_prepare(&c->scheme, &c->packed.packed, c->rows, c->cols, options, &prepared));
    assert_int_equal(result, has_bytes(c) ? QZ_OK : QZ_ERROR_ARGUMENT);
    if (!prepared)
        return;
    char *before = malloc(y->bytes + 1);
    memcpy(before, y->start, y->bytes);
    memset(y->start, 0x55, y->bytes);
    with.prepared = prepared;
    assert_int_equal(CALL(qz_linear(&c->scheme, &c->packed.packed, c->rows, c->cols, &c->x, &with, &y->matrix, NULL)),
                     QZ_OK);
    assert_true(same_bytes("prepared", y->start, before, y->bytes, 4));
    qz_linear_prepared_free(prepared);
    free(before);
}

static void call(const struct linear_case *c, qz_activations how, const struct qz_kernels *set, size_t pool,
                 struct field *y)
{
    qz_linear_options options = QZ_LINEAR_OPTIONS_INIT;
    options.activations = how;
    options.columns = c->columns;
    options.pool = pools[pool];
    assert_int_equal(qz_kernels_use(set->name), QZ_OK);
    memset(y->start, 0x55, y->bytes);
    assert_int_equal(
        CALL(qz_linear(&c->scheme, &c->packed.packed, c->rows, c->cols, &c->x, &options, &y->matrix, NULL)), QZ_OK);
    if (how != QZ_ACTIVATIONS_AUTO)
        call_prepared(c, &options, y);
}

/* The bound of products of bytes around the exact sum with rounded floats. */
static void check_bytes(const struct linear_case *c, size_t r, size_t o, float got, const char *text)
{
    const float *x = c->values + r * c->inner, *w = c->weights + o * c->inner;
    double exact = 0, size = 0, moved = 0, most = 0;
    for (size_t i = 0; i < c->inner; i++) /* more than any value of the group: scales and zeros are not known here */
        most = fmax(most, fabs((double)w[i]));
    for (size_t i = 0; i < c->inner; i++) {
        size_t first = i / BLOCK * BLOCK, count = c->inner - first < BLOCK ? c->inner - first : BLOCK;
        exact += (double)x[i] * (double)w[i];
        size += fabs((double)x[i]);
        moved += (double)block_most(x + first, count) / 127 * fabs((double)w[i]);
    }
    const size_t sums = c->inner / 32 + 24;
    double bound = 0.5001 * moved + (double)sums * 0x1p-22 * size * 40 * most + 1e-37;
    if (!(fabs((double)got - exact) <= bound))
        fail_msg("%s: element %zu, %zu is %.9g, not %.9g +- %.3g", text, r, o, (double)got, exact, bound);
}

static void check_values(const struct linear_case *c, qz_activations how, const struct field *y, const char *text)
{
    float *rounded = malloc((c->inner + 1) * sizeof *rounded);
    int of_bytes = has_bytes(c), sums = how == QZ_ACTIVATIONS_F32 || !of_bytes;
    for (size_t r = 0; r < c->count; r++) {
        memcpy(rounded, c->values + r * c->inner, c->inner * sizeof *rounded);
        if (how == QZ_ACTIVATIONS_I8 && !of_bytes)
            round_plainly(c->values + r * c->inner, c->inner, rounded);
        for (size_t o = 0; o < c->outputs; o++) {
            float got = *(float *)field_at(&y->matrix, r, o);
            if (!sums) {
                check_bytes(c, r, o, got, text);
                continue;
            }
            float wanted = plain_sum(rounded, c->weights + o * c->inner, c->inner);
            double size = 0, exact = 0;
            for (size_t i = 0; i < c->inner; i++) {
                exact += (double)rounded[i] * (double)c->weights[o * c->inner + i];
                size += fabs((double)rounded[i] * (double)c->weights[o * c->inner + i]);
            }
            const size_t roundings = c->inner / CHAIN + 66;
            double bound = (double)roundings * 0x1p-24 * size + (double)c->inner * 0x1p-149;
            if (bits_of_float(got) != bits_of_float(wanted) ||
                (isfinite(size) && size < 1e38 && !(fabs((double)got - exact) <= bound)))
                fail_msg("%s: element %zu, %zu is %a, not %a (%.9g)", text, r, o, (double)got, (double)wanted, exact);
        }
    }
    free(rounded);
}

static void check_case(struct linear_case *c, struct rng *rng)
{
    char text[256];
    make_weights(c);
    for (qz_activations how = QZ_ACTIVATIONS_F32; how <= QZ_ACTIVATIONS_AUTO; how++) {
        enum layout layout = (enum layout)rng_below(rng, LAYOUTS);
        struct field first = field_make(QZ_F32, c->count, c->outputs, layout),
                     y = field_make(QZ_F32, c->count, c->outputs, layout);
        call(c, how, &qz_kernels_scalar, 0, &first);
        for (size_t s = 0; s < set_count; s++)
            for (size_t p = 0; p < COUNT(pools); p++) {
                describe(c, how, sets[s]->name, p, text);
                snprintf(guard_doing, sizeof guard_doing, "%s", text);
                call(c, how, sets[s], p, &y);
                if (!same_bytes(text, y.start, first.start, y.bytes, 4)) /* the gaps between elements too */
                    fail_msg("%s", text);
            }
        describe(c, how, "all sets", 0, text);
        check_values(c, how, &first, text);
        field_free(first);
        field_free(y);
    }
    free(c->weights);
}

/* ---- shapes -------------------------------------------------------------------------------------------------- */

static const size_t lengths[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 257};

static void fill(struct rng *rng, float *x, size_t n, float magnitude)
{
    for (size_t i = 0; i < n; i++)
        x[i] = magnitude * rng_normal(rng);
}

static void fill_inputs(struct rng *rng, struct linear_case *c, struct field *field, float magnitude)
{
    for (size_t r = 0; r < c->count; r++)
        for (size_t i = 0; i < c->inner; i++) {
            double x = (double)magnitude * (double)rng_normal(rng);
            if (rng_below(rng, 50) == 0)
                x = 0;
            if (r % 3 == 1 && i / BLOCK == r / 3 % 3)
                x *= 0x1p-70; /* too small to be rounded, among others that are not */
            field_put(&field->matrix, r, i, x);
            c->values[r * c->inner + i] = (float)ref_element(&field->matrix, r, i);
        }
}

/* A scheme of the table, or with `changes` one with groups of another size. */
static qz_scheme scheme_of(size_t number, struct rng *rng, int changes, size_t cols)
{
    static const uint64_t sizes[] = {1, 2, 5, 8, 16, 31, 32, 48, 64, 96, 128, 160, QZ_WHOLE_ROW};
    qz_scheme scheme = *qz_scheme_at(number), other = scheme;
    other.group_size = rng_below(rng, 5) == 0 ? (uint64_t)cols + 1 : PICK(rng, sizes);
    other.name = NULL;
    other.rule = QZ_RULE_NONE;
    if (changes && other.super_size == 0 && scheme.method != QZ_REFERENCE &&
        qz_scheme_check(&other, QZ_DEFAULT) == QZ_OK)
        scheme = other;
    for (qz_method plain = QZ_MINMAX; plain <= QZ_ABSMAX; plain++) /* quicker, and as good for this */
        if (scheme.method == QZ_SEARCH && qz_scheme_check(&scheme, plain) == QZ_OK)
            scheme.method = plain;
    return scheme;
}

static void shape_case(const qz_scheme *scheme, struct rng *rng, size_t rows, size_t cols, size_t count, int columns,
                       float magnitude)
{
    struct linear_case c = {.scheme = *scheme, .rows = rows, .cols = cols, .count = count, .columns = columns};
    c.inner = columns ? rows : cols;
    float *base = malloc((rows * cols + 1) * sizeof *base);
    fill(rng, base, rows * cols, magnitude);
    c.packed = pieces_make(scheme, rows, cols);
    const qz_matrix matrix = {base, QZ_F32, rows, cols, (int64_t)cols, 1};
    qz_result result = qz_encode(scheme, &matrix, &c.packed.packed, NULL, NULL, NULL);
    if (result == QZ_OK) {
        struct field x = field_make(PICK(rng, all_dtypes), count, c.inner, (enum layout)rng_below(rng, INPUT_LAYOUTS));
        c.x = x.matrix;
        c.values = malloc((count * c.inner + 1) * sizeof *c.values);
        fill_inputs(rng, &c, &x, 1.0f);
        for (size_t r = 0; r < count; r++) /* where strides are 0, the last one counts */
            for (size_t i = 0; i < c.inner; i++)
                c.values[r * c.inner + i] = (float)ref_element(&x.matrix, r, i);
        check_case(&c, rng);
        free(c.values);
        field_free(x);
    } else {
        assert_int_equal(result, QZ_ERROR_SCALE);
    }
    pieces_free(&c.packed);
    free(base);
}

static size_t scheme_count(void)
{
    size_t count = 0;
    while (qz_scheme_at(count))
        count++;
    return count;
}

static void every_scheme_and_shape(void **state)
{
    (void)state;
    size_t schemes = scheme_count();
    for (size_t i = 0; i < cases(40, 8) * schemes; i++) {
        struct rng rng = rng_make(i);
        size_t rows = PICK(&rng, lengths), cols = PICK(&rng, lengths),
               count = rng_below(&rng, 4) ? rng_below(&rng, 10) : PICK(&rng, lengths);
        qz_scheme scheme = scheme_of(i % schemes, &rng, rng_below(&rng, 3) == 0, cols);
        shape_case(&scheme, &rng, rows, cols, count, (int)rng_below(&rng, 2), 1.0f);
    }
}

/* More columns than are added up at once, in groups that divide that number and in others. */
static void long_rows(void **state)
{
    (void)state;
    static const size_t longs[] = {1000, 1024, 1025, 2048, 3000, 4096, 4097, 5000, 8200};
    size_t schemes = scheme_count();
    for (size_t i = 0; i < 2 * COUNT(longs) * 3; i++) {
        struct rng rng = rng_make(5000 + i);
        if (left_out(&rng, 1, 4))
            continue;
        size_t length = longs[i % COUNT(longs)], other = 1 + rng_below(&rng, 40),
               count = 1 + rng_below(&rng, i % 4 ? 5 : 20);
        int columns = rng_below(&rng, 4) == 0;
        qz_scheme scheme = scheme_of(rng_below(&rng, schemes), &rng, rng_below(&rng, 2) == 0, length);
        size_t kind = i / COUNT(longs) % 3;
        if (kind < 2)
            scheme = *qz_scheme_by_name(i % 2 ? "uint4" : "int4");
        if (kind == 1) { /* of which 4096 elements are no multiple; of uint4 a group with an odd number begins there */
            scheme.name = NULL;
            scheme.group_size = i % 2 ? 160 : 96;
        }
        shape_case(&scheme, &rng, columns ? length : other, columns ? other : length, count, columns, 1.0f);
    }
}

/* ---- numbers ------------------------------------------------------------------------------------------------- */

/* NaN and infinity in x and in the scales: what float sums make of them, in each way of multiplying. */
static void strange_numbers(void **state)
{
    (void)state;
    static const float strange[] = {NAN, INFINITY, -INFINITY, 3e38f, 1e-44f, 0.0f, 1e25f};
    static const uint16_t strange_half[COUNT(strange)] = {0x7e00, 0x7c00, 0xfc00, 0x7bff, 1, 0, 0x7800};
    enum { ROWS = 40, COLS = 4200, COUNT_X = 4 };
    static float base[ROWS * COLS], values[COUNT_X * COLS];
    for (size_t i = 0; i < 4 * COUNT(strange); i++) {
        struct rng rng = rng_make(900 + i);
        const size_t which = i / 2 % COUNT(strange), halves = i / (2 * COUNT(strange));
        if (left_out(&rng, 1, 2))
            continue;
        struct linear_case c = {.scheme = *qz_scheme_by_name("int4"), .rows = ROWS, .cols = COLS, .count = COUNT_X};
        c.scheme.scale_dtype = halves ? QZ_F16 : QZ_F32;
        c.scheme.name = NULL;
        c.packed = pieces_make(&c.scheme, ROWS, COLS);
        fill(&rng, base, (size_t)ROWS * COLS, 1.0f);
        fill(&rng, values, (size_t)COUNT_X * COLS, 1.0f);
        const qz_matrix matrix = {base, QZ_F32, ROWS, COLS, COLS, 1};
        assert_int_equal(qz_encode(&c.scheme, &matrix, &c.packed.packed, NULL, NULL, NULL), QZ_OK);
        if (i % 2)
            values[2 * COLS + rng_below(&rng, COLS)] = strange[which], values[2 * COLS + COLS - 1] = strange[which];
        else {
            const size_t group = 5 * c.packed.sizes.row_groups + rng_below(&rng, COLS / 32);
            if (halves)
                ((uint16_t *)c.packed.packed.scales)[group] = strange_half[which];
            else
                ((float *)c.packed.packed.scales)[group] = strange[which];
        }
        c.x = (qz_matrix){values, QZ_F32, COUNT_X, COLS, COLS, 1};
        c.values = values;
        c.inner = COLS;
        make_weights(&c);
        struct field first = field_make(QZ_F32, COUNT_X, ROWS, LAYOUT_ROWS),
                     y = field_make(QZ_F32, COUNT_X, ROWS, LAYOUT_ROWS);
        for (qz_activations how = QZ_ACTIVATIONS_F32; how <= QZ_ACTIVATIONS_I8; how++)
            for (size_t s = 0; s < set_count; s++) {
                call(&c, how, &qz_kernels_scalar, 0, &first);
                call(&c, how, sets[s], 0, &y);
                assert_true(same_bytes("strange", y.start, first.start, y.bytes, 4));
                for (size_t r = 0; r < COUNT_X && s == 0; r++)
                    for (size_t o = 0; o < ROWS; o++) {
                        float got = ((float *)first.start)[r * ROWS + o];
                        float wanted = plain_sum(values + r * COLS, c.weights + o * COLS, COLS);
                        int touched = i % 2 ? r == 2 : o == 5;
                        if (how == QZ_ACTIVATIONS_F32 || (touched && !isfinite(wanted)))
                            assert_int_equal(bits_of_float(got), bits_of_float(wanted));
                        else if (!touched)
                            assert_true(fabsf(got - wanted) < 5.0f);
                        else
                            check_bytes(&c, r, o, got, "strange");
                    }
            }
        field_free(first);
        field_free(y);
        free(c.weights);
        pieces_free(&c.packed);
    }
}

/* ---- single promises ----------------------------------------------------------------------------------------- */

/* One row gives what it gives among others; rows of the packed matrix give what they give in a slice. */
static void parts_are_the_whole(void **state)
{
    (void)state;
    enum { ROWS = 70, COLS = 1100, MANY = 50 };
    static float base[ROWS * COLS], x[MANY * COLS], whole[MANY * ROWS], part[MANY * ROWS];
    struct rng rng = rng_make(31);
    fill(&rng, base, (size_t)ROWS * COLS, 1.0f);
    fill(&rng, x, (size_t)MANY * COLS, 1.0f);
    for (size_t s = 0; s < scheme_count(); s++) {
        qz_scheme scheme = scheme_of(s, &rng, 0, COLS);
        struct pieces packed = pieces_make(&scheme, ROWS, COLS);
        const qz_matrix matrix = {base, QZ_F32, ROWS, COLS, COLS, 1};
        const qz_matrix left = {x, QZ_F32, MANY, COLS, COLS, 1}, y = {whole, QZ_F32, MANY, ROWS, ROWS, 1};
        assert_int_equal(qz_encode(&scheme, &matrix, &packed.packed, NULL, NULL, NULL), QZ_OK);
        for (qz_activations how = QZ_ACTIVATIONS_F32; how <= QZ_ACTIVATIONS_I8; how++) {
            qz_linear_options options = QZ_LINEAR_OPTIONS_INIT;
            options.activations = how;
            assert_int_equal(qz_linear(&scheme, &packed.packed, ROWS, COLS, &left, &options, &y, NULL), QZ_OK);
            for (size_t repeat = 0; repeat < cases(10, 4); repeat++) {
                size_t row = rng_below(&rng, ROWS), rows = 1 + rng_below(&rng, ROWS - row);
                size_t first = rng_below(&rng, MANY), count = 1 + rng_below(&rng, MANY - first);
                qz_packed some = pieces_at(&packed, &scheme, row, 0);
                const qz_matrix few = {x + first * COLS, QZ_F32, count, COLS, COLS, 1};
                const qz_matrix to = {part, QZ_F32, count, rows, (int64_t)rows, 1};
                assert_int_equal(qz_linear(&scheme, &some, rows, COLS, &few, &options, &to, NULL), QZ_OK);
                for (size_t r = 0; r < count; r++)
                    assert_memory_equal(part + r * rows, whole + (first + r) * ROWS + row, rows * sizeof(float));
            }
        }
        pieces_free(&packed);
    }
}

/* The same scales as float16 and as float32, which come to the kernels in different ways: the same bits. */
static void types_of_scales_agree(void **state)
{
    (void)state;
    enum { ROWS = 19, COLS = 8200, COUNT_X = 3 };
    static const uint64_t sizes[] = {32, 96, 160, QZ_WHOLE_ROW};
    static float base[ROWS * COLS], x[COUNT_X * COLS], y[2][COUNT_X * ROWS];
    for (size_t i = 0; i < 2 * COUNT(sizes); i++) {
        struct rng rng = rng_make(600 + i);
        qz_scheme scheme[2] = {*qz_scheme_by_name(i % 2 ? "uint4" : "int4")};
        fill(&rng, base, (size_t)ROWS * COLS, 1.0f);
        fill(&rng, x, (size_t)COUNT_X * COLS, 1.0f);
        scheme[0].name = NULL;
        scheme[0].group_size = sizes[i / 2];
        scheme[1] = scheme[0];
        scheme[1].scale_dtype = QZ_F32;
        const qz_matrix matrix = {base, QZ_F32, ROWS, COLS, COLS, 1}, inputs = {x, QZ_F32, COUNT_X, COLS, COLS, 1};
        struct pieces packed = pieces_make(&scheme[0], ROWS, COLS);
        assert_int_equal(qz_encode(&scheme[0], &matrix, &packed.packed, NULL, NULL, NULL), QZ_OK);
        size_t groups = (size_t)packed.sizes.row_groups;
        float *scales = malloc(ROWS * groups * sizeof *scales);
        for (size_t r = 0; r < ROWS; r++)
            for (size_t g = 0; g < groups; g++)
                scales[r * groups + g] = (float)ref_load(
                    (char *)packed.packed.scales + (int64_t)r * packed.packed.scale_stride + 2 * g, QZ_F16);
        qz_packed floats = packed.packed;
        floats.scales = scales;
        floats.scale_stride = (int64_t)(groups * sizeof *scales);
        qz_linear_options options = QZ_LINEAR_OPTIONS_INIT;
        options.activations = QZ_ACTIVATIONS_I8;
        for (size_t k = 0; k < 2; k++) {
            const qz_matrix outputs = {y[k], QZ_F32, COUNT_X, ROWS, ROWS, 1};
            assert_int_equal(
                qz_linear(&scheme[k], k ? &floats : &packed.packed, ROWS, COLS, &inputs, &options, &outputs, NULL),
                QZ_OK);
        }
        if (!same_bytes("scales of float32", y[1], y[0], sizeof y[0], 4))
            fail_msg("%s in groups of %llu", i % 2 ? "uint4" : "int4", (unsigned long long)sizes[i / 2]);
        free(scales);
        pieces_free(&packed);
    }
}

/* Parts that end at guard pages, of each length up to 100 and some more. */
static void nothing_else_is_read(void **state)
{
    (void)state;
    static const char *const names[] = {"int4", "uint4", "uint4_offset", "nf4"};
    enum { ROWS = 5 };
    float base[ROWS * 2100], y[3 * 2100];
    for (size_t cols = 1; cols <= 2100; cols += cols < 100 ? 1 : 97) {
        struct rng rng = rng_make(cols);
        qz_scheme scheme = *qz_scheme_by_name(names[cols % COUNT(names)]);
        struct plain plain = plain_make(&scheme, ROWS, cols, cols % 3);
        struct field x = field_make(QZ_F32, 3, cols, LAYOUT_ROWS), other = field_make(QZ_F32, 3, ROWS, LAYOUT_ROWS);
        fill(&rng, base, ROWS * cols, 1.0f);
        fill(&rng, x.start, 3 * cols, 1.0f);
        fill(&rng, other.start, (size_t)3 * ROWS, 1.0f);
        const qz_matrix matrix = {base, QZ_F32, ROWS, cols, (int64_t)cols, 1};
        const qz_matrix to = {y, QZ_F32, 3, ROWS, ROWS, 1}, wide = {y, QZ_F32, 3, cols, (int64_t)cols, 1};
        assert_int_equal(qz_encode(&scheme, &matrix, &plain.packed, NULL, NULL, NULL), QZ_OK);
        for (size_t s = 0; s < set_count; s++)
            for (qz_activations how = QZ_ACTIVATIONS_F32; how <= QZ_ACTIVATIONS_I8; how++) {
                qz_linear_options options = QZ_LINEAR_OPTIONS_INIT;
                options.activations = how;
                snprintf(guard_doing, sizeof guard_doing, "%s, %s, %zu columns", sets[s]->name, scheme.name, cols);
                assert_int_equal(qz_kernels_use(sets[s]->name), QZ_OK);
                assert_int_equal(qz_linear(&scheme, &plain.packed, ROWS, cols, &x.matrix, &options, &to, NULL), QZ_OK);
                options.columns = 1;
                assert_int_equal(qz_linear(&scheme, &plain.packed, ROWS, cols, &other.matrix, &options, &wide, NULL),
                                 QZ_OK);
            }
        field_free(x);
        field_free(other);
        plain_free(plain);
    }
}

/* The kernels, at every length, with rows that touch what must not be touched. Floats that come next are fetched and not
 * read, wherever they are, and NaN has one form among outputs. */
static void kernels_agree(void **state)
{
    (void)state;
    enum { MOST = 300 };
    for (size_t i = 0; i < cases(300, 60); i++) {
        struct rng rng = rng_make(3000 + i);
        size_t n = i < 70 ? i : rng_below(&rng, MOST + 1), rows = 1 + rng_below(&rng, QZ_PRODUCT_ROWS);
        size_t sides = 1 + rng_below(&rng, QZ_PRODUCT_SIDES), weights = sides * QZ_SIDE,
               ahead = rng_below(&rng, 1 << 20);
        struct field x = field_make(QZ_F32, rows, n, LAYOUT_ROWS), w = field_make(QZ_F32, weights, n, LAYOUT_ROWS);
        struct field beside = field_make(QZ_F32, n, rows, LAYOUT_ROWS);
        struct field across = field_make(QZ_F32, sides * n, QZ_SIDE, LAYOUT_ROWS);
        struct field sums = field_make(QZ_F32, rows, weights, LAYOUT_ROWS);
        struct field wanted = field_make(QZ_F32, rows, weights, LAYOUT_GAPS),
                     y = field_make(QZ_F32, rows, weights, LAYOUT_GAPS);
        field_fill(&rng, &x.matrix, (enum data_kind)rng_below(&rng, DATA_KINDS));
        field_fill(&rng, &w.matrix, (enum data_kind)rng_below(&rng, DATA_KINDS));
        for (size_t r = 0; r < rows; r++)
            for (size_t k = 0; k < n; k++)
                *(float *)field_at(&beside.matrix, k, r) = *(float *)field_at(&x.matrix, r, k);
        for (size_t c = 0; c < weights; c++)
            for (size_t k = 0; k < n; k++)
                *(float *)field_at(&across.matrix, c / QZ_SIDE * n + k, c % QZ_SIDE) =
                    *(float *)field_at(&w.matrix, c, k);
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < weights; c++)
                *(float *)field_at(&wanted.matrix, r, c) =
                    plain_sum(field_at(&x.matrix, r, 0), field_at(&w.matrix, c, 0), n);
        for (size_t s = 0; s < set_count; s++) {
            snprintf(guard_doing, sizeof guard_doing, "%s products, %zu rows of %zu, %zu sides", sets[s]->name, rows, n,
                     sides);
            memset(sums.start, 0, sums.bytes);
            sets[s]->products(beside.matrix.data, rows, ahead, across.matrix.data, n * QZ_SIDE, sides, n,
                              sums.matrix.data);
            sets[s]->product_outputs(sums.matrix.data, rows, weights, y.matrix.data, (ptrdiff_t)y.matrix.row_stride);
            if (!same_bytes(guard_doing, y.start, wanted.start, y.bytes, 4))
                fail_msg("%s", guard_doing);
        }
        field_free(x);
        field_free(w);
        field_free(beside);
        field_free(across);
        field_free(sums);
        field_free(y);
        field_free(wanted);
    }
}

/* ---- kernels of bytes ---------------------------------------------------------------------------------------- */

enum { SIDE = QZ_SIDE, MOST_ROWS = 27, MOST_BLOCKS = 40 };

/* Blocks of 16 weights and some rows: random ones, or all of them as large as may be; levels may be the codes, or the
 * codes with the highest bit turned. Rows end where nothing may be touched. */
struct bytes_case {
    uint8_t level[16], *packed[SIDE];
    struct qz_side side;
    struct qz_byte_rows x;
    float scale[MOST_BLOCKS * SIDE], bias[MOST_BLOCKS * SIDE];
    float *step, *start;
    int8_t *code;
    float before[MOST_ROWS * SIDE], wanted[MOST_ROWS * SIDE];
};

static struct guard ends[SIDE + 4];

/* n bytes before a page that cannot be touched. */
static uint8_t *before_end(size_t which, size_t n)
{
    if (!ends[which].bytes)
        ends[which] = guard_make((MOST_BLOCKS + 2) * BLOCK * MOST_ROWS);
    return ends[which].bytes + ends[which].size - n;
}

/* Where element i of a row is among its bytes. */
static size_t place_of(size_t i)
{
    return i / 8 * 8 + i % 2 * 4 + i % 8 / 2;
}

static float plain_bytes(const struct bytes_case *c, size_t r, size_t w)
{
    float sum = c->before[r * SIDE + w];
    for (size_t b = 0; b < c->side.blocks; b++) {
        size_t at = r * c->x.pitch + b;
        long total = 0;
        for (size_t i = 0; i < BLOCK; i++) {
            int code = c->packed[w][(b * BLOCK + i) / 2] >> (i % 2 * 4) & 15;
            total += (long)c->level[code] * c->code[at * BLOCK + place_of(i)];
        }
        sum = fmaf(c->bias[b * SIDE + w], c->start[at], sum);
        float scale = c->scale[b * SIDE + w] * c->step[at];
        sum = fmaf(scale, (float)total, sum);
    }
    return sum;
}

static void make_bytes_case(struct bytes_case *c, struct rng *rng, int largest)
{
    static const size_t tops[] = {1, 15, 16, 17, 24, 32, 33, 63, 64, 65, 127};
    size_t blocks = rng_below(rng, MOST_BLOCKS + 1), rows = rng_below(rng, MOST_ROWS + 1);
    c->side = (struct qz_side){blocks, PICK(rng, tops), c->scale, c->bias};
    size_t pitch = blocks + rng_below(rng, 3), all = rows ? (rows - 1) * pitch + blocks : 0, turned = rng_below(rng, 4);
    c->code = (int8_t *)before_end(SIDE + 1, all * BLOCK);
    c->step = (float *)(void *)before_end(SIDE + 2, all * sizeof(float));
    c->start = (float *)(void *)before_end(SIDE + 3, all * sizeof(float));
    c->x = (struct qz_byte_rows){rows, pitch, c->code, c->step, c->start};
    for (size_t i = 0; i < 16; i++)
        c->level[i] = (uint8_t)(largest                            ? c->side.most
                                : turned < 3 && c->side.most >= 15 ? i ^ turned % 2 * 8
                                                                   : rng_below(rng, c->side.most + 1));
    if (turned == 2) /* all but one */
        c->level[15] = 0;
    for (size_t w = 0; w < SIDE; w++) {
        c->packed[w] = before_end(w, blocks * BLOCK / 2);
        for (size_t i = 0; i < blocks * BLOCK / 2; i++)
            c->packed[w][i] = (uint8_t)rng_below(rng, 256);
    }
    for (size_t i = 0; i < all * BLOCK; i++)
        c->code[i] = (int8_t)(largest ? (i / 400 % 2 ? 127 : -127) : (int)rng_below(rng, 255) - 127);
    fill(rng, c->scale, COUNT(c->scale), 1.0f);
    fill(rng, c->bias, COUNT(c->bias), 30.0f);
    fill(rng, c->step, all, 0.1f);
    fill(rng, c->start, all, 10.0f);
    fill(rng, c->before, COUNT(c->before), 100.0f);
    for (size_t r = 0; r < rows; r++)
        for (size_t w = 0; w < SIDE; w++)
            c->wanted[r * SIDE + w] = plain_bytes(c, r, w);
}

static void check_sums(const struct bytes_case *c, const float *sum, const char *kernel, size_t set)
{
    char text[128];
    snprintf(text, sizeof text, "%s %s, levels up to %zu, %zu blocks, %zu rows", sets[set]->name, kernel, c->side.most,
             c->side.blocks, c->x.rows);
    if (!same_bytes(text, (const uint8_t *)sum, (const uint8_t *)c->wanted, c->x.rows * SIDE * sizeof *sum, 4))
        fail_msg("%s", text);
    for (size_t i = c->x.rows * SIDE; i < MOST_ROWS * SIDE; i++)
        assert_true(bits_of_float(sum[i]) == bits_of_float(c->before[i]));
}

static void bytes_agree(void **state)
{
    (void)state;
    static struct bytes_case c;
    for (size_t i = 0; i < cases(200, 40); i++) {
        struct rng rng = rng_make(7000 + i);
        make_bytes_case(&c, &rng, i % 3 == 0);
        for (size_t s = 0; s < set_count; s++) {
            float sum[MOST_ROWS * SIDE];
            uint8_t *level = before_end(SIDE, c.side.blocks * BLOCK * SIDE);
            snprintf(guard_doing, sizeof guard_doing, "%s, %zu blocks", sets[s]->name, c.side.blocks);
            sets[s]->product_levels((const uint8_t *const *)c.packed, c.side.blocks, c.level, level);
            memcpy(sum, c.before, sizeof sum);
            sets[s]->product_bytes(&c.side, level, &c.x, sum);
            check_sums(&c, sum, "product_bytes", s);
            memcpy(sum, c.before, sizeof sum);
            sets[s]->product_packed(&c.side, (const uint8_t *const *)c.packed, c.level, &c.x, sum);
            check_sums(&c, sum, "product_packed", s);
        }
    }
}

/* Bytes of rows of floats: of all magnitudes, with halves between bytes, and blocks that are not rounded. */
static void inputs_agree(void **state)
{
    (void)state;
    static const float special[] = {0.0f,     -0.0f,    NAN,        INFINITY, -INFINITY, 0x1p60f, -0x1.000002p60f,
                                    0x1p-60f, 0x1p-61f, -0x1p-149f, FLT_MAX,  63.5f,     -127.0f};
    enum { BLOCKS = 5 };
    for (size_t i = 0; i < cases(2000, 400); i++) {
        struct rng rng = rng_make(7000 + i);
        const size_t blocks = 1 + rng_below(&rng, BLOCKS), n = blocks * BLOCK;
        float *x = (float *)(void *)before_end(0, n * sizeof *x), step[BLOCKS], start[BLOCKS];
        int8_t wanted[BLOCKS * BLOCK];
        uint8_t strange[BLOCKS];
        fill(&rng, x, n, powf(2.0f, (float)rng_below(&rng, 150) - 75.0f));
        for (size_t k = 0; k < n && i % 3 == 0; k++)
            x[k] = 0.5f * (float)((int)rng_below(&rng, 509) - 254); /* up to 127, and halves */
        if (i % 5 == 0)
            memset(x, 0, BLOCK * sizeof *x);
        for (size_t k = 0; k < rng_below(&rng, 4); k++)
            x[rng_below(&rng, n)] = PICK(&rng, special);
        for (size_t b = 0; b < blocks; b++) {
            float largest = 0.0f;
            int sum = 0, is_ordinary = 1;
            for (size_t k = 0; k < BLOCK; k++) {
                is_ordinary &= !isnan(x[b * BLOCK + k]);
                largest = fmaxf(largest, fabsf(x[b * BLOCK + k]));
            }
            is_ordinary &= largest == 0.0f || (largest >= 0x1p-60f && largest <= 0x1p60f);
            const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
            for (size_t k = 0; k < BLOCK; k++) {
                const size_t at = b * BLOCK + k / 8 * 8 + k % 2 * 4 + k % 8 / 2;
                volatile float product = x[b * BLOCK + k] * inverse;
                wanted[at] = (int8_t)(is_ordinary ? rintf(product) : 0.0f);
                sum += wanted[at];
            }
            strange[b] = !is_ordinary;
            step[b] = is_ordinary ? largest / 127.0f : 0.0f;
            start[b] = step[b] * (float)sum;
        }
        for (size_t s = 0; s < set_count; s++) {
            int8_t code[BLOCKS * BLOCK];
            float steps[BLOCKS], starts[BLOCKS];
            uint8_t found[BLOCKS];
            snprintf(guard_doing, sizeof guard_doing, "%s input_bytes, %zu blocks", sets[s]->name, blocks);
            sets[s]->input_bytes(x, blocks, code, steps, starts, found);
            assert_memory_equal(code, wanted, n);
            assert_memory_equal(steps, step, blocks * sizeof *step);
            assert_memory_equal(starts, start, blocks * sizeof *start);
            assert_memory_equal(found, strange, blocks);
        }
    }
}

/* Scales and zeros, ordinary ones and others. */
static void numbers_agree(void **state)
{
    (void)state;
    static const float special[] = {
        0.0f, -0.0f, NAN, INFINITY, -INFINITY, 0x1p60f, -0x1.000002p60f, 0x1p-60f, 0x1.fffffep-61f, -0x1p-149f, 3e38f};
    static const qz_zero kinds[] = {QZ_ZERO_NONE, QZ_ZERO_UINT4, QZ_ZERO_FLOAT, QZ_ZERO_OFFSET};
    enum { GROUPS = 9 };
    for (size_t i = 0; i < cases(2000, 400); i++) {
        struct rng rng = rng_make(8000 + i);
        size_t groups = 1 + rng_below(&rng, GROUPS), n = groups * SIDE;
        qz_zero kind = kinds[i % COUNT(kinds)];
        float scale[GROUPS * SIDE], zero[GROUPS * SIDE], wanted_scale[GROUPS * SIDE], wanted[GROUPS * SIDE];
        float unit = rng_below(&rng, 2) ? 1.0f : 0.5f, base = -(float)rng_below(&rng, 9);
        uint8_t strange[SIDE] = {0}, got[SIDE];
        fill(&rng, scale, n, 1.0f);
        fill(&rng, zero, n, 5.0f);
        for (size_t k = 0; k < rng_below(&rng, 4); k++)
            (rng_below(&rng, 2) ? scale : zero)[rng_below(&rng, n)] = PICK(&rng, special);
        for (size_t k = 0; k < n; k++) {
            float part = scale[k] * base, of_zero = scale[k] * zero[k], size = fabsf(scale[k]);
            wanted[k] = kind == QZ_ZERO_NONE ? part : kind == QZ_ZERO_OFFSET ? part + zero[k] : part - of_zero;
            wanted_scale[k] = scale[k] * unit;
            int ordinary = size == 0.0f || (size >= 0x1p-60f && size <= 0x1p60f);
            strange[k % SIDE] |= !ordinary || !(fabsf(wanted[k]) <= 0x1p60f);
        }
        for (size_t s = 0; s < set_count; s++) {
            float some[GROUPS * SIDE], bias[GROUPS * SIDE];
            memcpy(some, scale, sizeof some);
            memcpy(bias, zero, sizeof bias);
            sets[s]->product_numbers(kind, unit, base, groups, some, bias, got);
            assert_memory_equal(got, strange, SIDE);
            for (size_t k = 0; k < n; k++)
                if (!strange[k % SIDE]) {
                    assert_int_equal(bits_of_float(some[k]), bits_of_float(wanted_scale[k]));
                    assert_int_equal(bits_of_float(bias[k]), bits_of_float(wanted[k]));
                }
        }
    }
}

/* Numbers as rows have them stored, which end where nothing may be touched; any float16, or finite ones alone. */
static void stored_numbers_agree(void **state)
{
    (void)state;
    static const float bases[] = {-8.0f, 0.0f, -6.0f, 3.5f};
    enum { GROUPS = 5 * QZ_STORED_GROUPS, N = GROUPS * SIDE };
    for (size_t i = 0; i < cases(1000, 200); i++) {
        struct rng rng = rng_make(9000 + i);
        size_t groups = (1 + rng_below(&rng, 5)) * QZ_STORED_GROUPS, strange = rng_below(&rng, 3) ? N : 0;
        qz_zero kind = i % 2 ? QZ_ZERO_UINT4 : QZ_ZERO_NONE;
        float unit = rng_below(&rng, 2) ? 1.0f : 0.5f, base = PICK(&rng, bases), wanted_scale[N], wanted[N];
        uint8_t *scales[SIDE], *zeros[SIDE];
        int finite = 1;
        strange = strange ? strange : rng_below(&rng, groups * SIDE);
        for (size_t w = 0; w < SIDE; w++) {
            scales[w] = before_end(w, 2 * groups);
            zeros[w] = before_end(w, 2 * groups + groups / 2); /* before them */
            for (size_t g = 0; g < groups; g++) {
                uint16_t half = (uint16_t)rng_below(&rng, 1 << 16);
                half = g * SIDE + w == strange ? (half & 0x8001) | 0x7c00 : half & 0xbfff; /* those are below 2 */
                memcpy(scales[w] + 2 * g, &half, sizeof half);
                float s = (float)ref_load(&half, QZ_F16), part = s * base;
                uint8_t code = (uint8_t)rng_below(&rng, 16), *two = zeros[w] + g / 2;
                *two = (uint8_t)(g % 2 ? (*two & 15) | code << 4 : code);
                float of_zero = s * (float)code;
                wanted_scale[g * SIDE + w] = s * unit;
                wanted[g * SIDE + w] = kind == QZ_ZERO_NONE ? part : part - of_zero;
                finite &= isfinite(s) != 0;
            }
        }
        for (size_t s = 0; s < set_count; s++) {
            float scale[N], bias[N];
            snprintf(guard_doing, sizeof guard_doing, "%s product_stored, %zu groups", sets[s]->name, groups);
            int done = sets[s]->product_stored(kind, unit, base, (const uint8_t *const *)scales,
                                               (const uint8_t *const *)zeros, groups, scale, bias);
            assert_int_equal(done != 0, finite);
            if (done && (!same_bytes(guard_doing, scale, wanted_scale, groups * SIDE * sizeof *scale, 4) ||
                         !same_bytes(guard_doing, bias, wanted, groups * SIDE * sizeof *bias, 4)))
                fail_msg("%s, kind %d", guard_doing, (int)kind);
        }
    }
}

static int stop_at_once(void *context)
{
    ++*(int *)context;
    return 1;
}

static void arguments(void **state)
{
    (void)state;
    const qz_scheme *scheme = qz_scheme_by_name("int4");
    enum { ROWS = 4, COLS = 64 };
    static float base[ROWS * COLS], out[4 * COLS];
    double x[2 * COLS] = {0};
    struct pieces packed = pieces_make(scheme, ROWS, COLS);
    const qz_matrix matrix = {base, QZ_F32, ROWS, COLS, COLS, 1};
    qz_matrix left = {x, QZ_F64, 2, COLS, COLS, 1}, y = {out, QZ_F32, 2, ROWS, ROWS, 1};
    qz_linear_options options = QZ_LINEAR_OPTIONS_INIT;
    qz_detail detail = QZ_DETAIL_INIT;
    assert_int_equal(qz_encode(scheme, &matrix, &packed.packed, NULL, NULL, NULL), QZ_OK);
#define LINEAR() qz_linear(scheme, &packed.packed, ROWS, COLS, &left, &options, &y, &detail)
    assert_int_equal(LINEAR(), QZ_OK);
    assert_int_equal(qz_linear(scheme, &packed.packed, ROWS, COLS, &left, NULL, &y, NULL), QZ_OK);
    x[COLS + 3] = 1e39;
    x[COLS + 7] = -1e300;
    x[1] = (double)NAN;
    assert_int_equal(LINEAR(), QZ_ERROR_RANGE);
    assert_true(detail.index == COLS + 3 && detail.count == 2 && detail.value == 1e39);
    x[COLS + 3] = (double)INFINITY;
    x[COLS + 7] = 0;
    assert_int_equal(LINEAR(), QZ_OK);
    assert_true(isnan(out[0]));
    left.cols = COLS - 1;
    assert_int_equal(LINEAR(), QZ_ERROR_ARGUMENT);
    left.cols = COLS;
    y.rows = 1;
    assert_int_equal(LINEAR(), QZ_ERROR_ARGUMENT);
    y.rows = 2;
    y.cols = 3;
    assert_int_equal(LINEAR(), QZ_ERROR_ARGUMENT);
    y.cols = ROWS;
    y.dtype = QZ_F16;
    assert_int_equal(LINEAR(), QZ_ERROR_ARGUMENT);
    y.dtype = QZ_F32;
    left.dtype = QZ_E4M3;
    assert_int_equal(LINEAR(), QZ_ERROR_ARGUMENT);
    left.dtype = QZ_F64;
    options.activations = (qz_activations)3;
    assert_int_equal(LINEAR(), QZ_ERROR_ARGUMENT);
    options.activations = QZ_ACTIVATIONS_F32;
    options.size = 1;
    assert_int_equal(LINEAR(), QZ_ERROR_ARGUMENT);
    options = (qz_linear_options)QZ_LINEAR_OPTIONS_INIT;
    left.row_stride = INT64_MAX;
    assert_int_equal(LINEAR(), QZ_ERROR_SIZE);
    left.row_stride = COLS;
    packed.packed.code_stride = 1;
    assert_int_equal(LINEAR(), QZ_ERROR_ARGUMENT);
    packed.packed.code_stride = COLS / 2;
    qz_linear_prepared *prepared;
    assert_int_equal(qz_linear_prepare(scheme, &packed.packed, ROWS, COLS, NULL, &prepared), QZ_OK);
    assert_true(qz_linear_prepared_bytes(prepared) > ROWS * COLS / 2);
    options.prepared = prepared;
    assert_int_equal(LINEAR(), QZ_OK);
    packed.packed.scales = (char *)packed.packed.scales + packed.packed.scale_stride; /* of other rows */
    assert_int_equal(LINEAR(), QZ_ERROR_ARGUMENT);
    packed.packed.scales = (char *)packed.packed.scales - packed.packed.scale_stride;
    qz_linear_prepared_free(prepared);
    options.columns = 1;
    options.prepared = NULL;
    assert_int_equal(qz_linear_prepare(scheme, &packed.packed, ROWS, COLS, &options, &prepared), QZ_ERROR_ARGUMENT);
    assert_null(prepared);
#undef LINEAR
    /* Nothing to add up, and nothing to do. */
    memset(out, 0xff, sizeof out);
    qz_matrix none = {NULL, QZ_F32, 2, 0, 0, 1};
    assert_int_equal(qz_linear(scheme, &packed.packed, ROWS, 0, &none, NULL, &y, NULL), QZ_OK);
    for (size_t i = 0; i < 2 * ROWS; i++)
        assert_int_equal(bits_of_float(out[i]), 0);
    y.rows = left.rows = 0;
    assert_int_equal(qz_linear(scheme, &packed.packed, ROWS, COLS, &left, NULL, &y, NULL), QZ_OK);
    pieces_free(&packed);
}

static void stops(void **state)
{
    (void)state;
    enum { ROWS = 2000, COLS = 4096, MANY = 300 };
    const qz_scheme *scheme = qz_scheme_by_name("int4");
    struct pieces packed = pieces_make(scheme, ROWS, COLS); /* all zeros */
    float *x = calloc((size_t)MANY * COLS, sizeof *x), *out = calloc((size_t)MANY * ROWS, sizeof *out);
    const qz_matrix left = {x, QZ_F32, MANY, COLS, COLS, 1}, y = {out, QZ_F32, MANY, ROWS, ROWS, 1};
    qz_linear_options options = QZ_LINEAR_OPTIONS_INIT;
    int asked = 0;
    options.stop = stop_at_once;
    options.stop_context = &asked;
    assert_int_equal(qz_kernels_use("scalar"), QZ_OK); /* which takes long enough to be asked */
    assert_int_equal(qz_linear(scheme, &packed.packed, ROWS, COLS, &left, &options, &y, NULL), QZ_ERROR_STOPPED);
    assert_int_equal(asked, 1);
    free(x);
    free(out);
    pieces_free(&packed);
}

int main(void)
{
    start_program("test_linear");
    choose_sets();
    guard_report_faults();
    static const size_t threads[] = {2, 3, 8};
    for (size_t p = 0; p < COUNT(threads); p++)
        if (qz_pool_create(threads[p], &pools[p + 1]) != QZ_OK)
            return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_agree),
        cmocka_unit_test(types_of_scales_agree),
        cmocka_unit_test(inputs_agree),
        cmocka_unit_test(numbers_agree),
        cmocka_unit_test(stored_numbers_agree),
        cmocka_unit_test(kernels_agree),
        cmocka_unit_test(every_scheme_and_shape),
        cmocka_unit_test(long_rows),
        cmocka_unit_test(strange_numbers),
        cmocka_unit_test(parts_are_the_whole),
        cmocka_unit_test(nothing_else_is_read),
        cmocka_unit_test(arguments),
        cmocka_unit_test(stops),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t p = 1; p < COUNT(pools); p++)
        qz_pool_destroy(pools[p]);
    return failed;
}
