/*
 * test_nearest.c - qz_nearest against all scores, computed from decoded rows in the order that quantize.h states
 *
 * Scores and rows must be the same to the last bit: for every scheme, metric, kernel set and number of threads, with
 * masks, ties, few rows and many, and numbers of any magnitude.
 */
#include "support/program.h"

#include "signs.h"
#include "support/calls.h"
#include "support/cases.h"
#include "support/pieces.h"

#include <float.h>
#include <math.h>

/* ---- the plain answer ---------------------------------------------------------------------------------------- */

enum { PIECE = 4096, LANES = 8 };

static double sum_of_lanes(const double lane[LANES])
{
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static double plain_sum(const float *x, const float *y, size_t n, int squares)
{
    double total = 0;
    for (size_t first = 0; first < n; first += PIECE) {
        double lane[LANES] = {0};
        for (size_t i = first; i < n && i < first + PIECE; i++) {
            double difference = (double)x[i] - (double)y[i];
            if (squares)
                lane[i % LANES] = fma(difference, difference, lane[i % LANES]);
            else
                lane[i % LANES] += (double)x[i] * (double)y[i];
        }
        total += sum_of_lanes(lane);
    }
    return total;
}

static double plain_score(const float *x, const float *y, size_t n, qz_metric metric)
{
    double sum = plain_sum(x, y, n, metric == QZ_L2);
    if (metric != QZ_COSINE)
        return sum + 0.0;
    double lengths = sqrt(plain_sum(x, x, n, 0)) * sqrt(plain_sum(y, y, n, 0));
    return (lengths == 0 ? 0 : sum / lengths) + 0.0;
}

struct scored {
    double score;
    int64_t id;
};

static int by_score(const void *a, const void *b) /* ascending; then by number */
{
    const struct scored *x = a, *y = b;
    return x->score < y->score ? -1 : x->score > y->score ? 1 : x->id < y->id ? -1 : x->id > y->id;
}

/* The k best rows, by sorting all of them. */
static void plain_nearest(const float *base, size_t rows, size_t cols, const float *query, size_t k, qz_metric metric,
                          const uint8_t *mask, double *scores, int64_t *ids)
{
    double sign = metric == QZ_L2 ? 1 : -1;
    struct scored *all = malloc((rows + 1) * sizeof *all);
    size_t count = 0;
    for (size_t r = 0; r < rows; r++)
        if (!mask || mask[r])
            all[count++] = (struct scored){sign * plain_score(query, base + r * cols, cols, metric), (int64_t)r};
    qsort(all, count, sizeof *all, by_score);
    for (size_t i = 0; i < k; i++) {
        scores[i] = i < count ? sign * all[i].score + 0.0 : sign * (double)INFINITY;
        ids[i] = i < count ? all[i].id : -1;
    }
    free(all);
}

/* ---- a case -------------------------------------------------------------------------------------------------- */

struct nearest_case {
    const qz_scheme *scheme;
    qz_packed packed;
    size_t rows, cols, queries, k;
    const float *base; /* decoded */
    qz_matrix matrix;  /* of the queries */
    const float *values;
    qz_metric metric;
    const uint8_t *mask;
};

static qz_pool *pools[3];

/* The numbers of rows, and their codes too in every second round, or nothing. */
static qz_prepared *prepare_case(const struct nearest_case *c, size_t round, qz_pool *pool)
{
    qz_prepare_options options = QZ_PREPARE_OPTIONS_INIT;
    qz_prepared *prepared;
    options.metric = c->metric;
    options.codes = round == 2;
    options.pool = pool;
    if (round == 0)
        return NULL;
    assert_int_equal(CALL(qz_prepare(c->scheme, &c->packed, c->rows, c->cols, &options, &prepared)), QZ_OK);
    assert_true(prepared && qz_prepared_bytes(prepared) > 0);
    return prepared;
}

/* Every set and number of threads gives the plain answer, whatever was prepared. */
static void check_case(const struct nearest_case *c, const char *what)
{
    size_t results = c->queries * c->k;
    double *scores = malloc((results + 1) * sizeof *scores), *wanted = malloc((results + 1) * sizeof *wanted);
    int64_t *ids = malloc((results + 1) * sizeof *ids), *wanted_ids = malloc((results + 1) * sizeof *ids);
    for (size_t q = 0; q < c->queries; q++)
        plain_nearest(c->base, c->rows, c->cols, c->values + q * c->cols, c->k, c->metric, c->mask, wanted + q * c->k,
                      wanted_ids + q * c->k);
    for (size_t s = 0; s < set_count; s++)
        for (size_t p = 0, round = 0; p <= COUNT(pools); p += round == 2, round = (round + 1) % 3) {
            qz_nearest_options options = QZ_NEAREST_OPTIONS_INIT;
            options.metric = c->metric;
            options.mask = c->mask;
            options.pool = p ? pools[p - 1] : NULL;
            assert_int_equal(qz_kernels_use(sets[s]->name), QZ_OK);
            qz_prepared *prepared = prepare_case(c, round, options.pool);
            options.prepared = prepared;
            memset(scores, 0x55, results * sizeof *scores);
            memset(ids, 0x55, results * sizeof *ids);
            assert_int_equal(
                CALL(qz_nearest(c->scheme, &c->packed, c->rows, &c->matrix, c->k, &options, scores, ids, NULL)), QZ_OK);
            qz_prepared_free(prepared);
            for (size_t i = 0; i < results; i++)
                if (ids[i] != wanted_ids[i] || bits_of_double(scores[i]) != bits_of_double(wanted[i]))
                    fail_msg(
                        "%s, %s, %s, %zu x %zu, group %llu, metric %d, k %zu, pool %zu, prepared %zu: result %zu is "
                        "%lld (%.17g), not %lld (%.17g)",
                        what, sets[s]->name, c->scheme->name ? c->scheme->name : "own", c->rows, c->cols,
                        (unsigned long long)c->scheme->group_size, c->metric, c->k, p, round, i, (long long)ids[i],
                        scores[i], (long long)wanted_ids[i], wanted[i]);
        }
    free(scores);
    free(wanted);
    free(ids);
    free(wanted_ids);
}

/* Values around a few centres, some rows twice, some all zeros. */
static void fill_base(struct rng *rng, float *x, size_t rows, size_t cols, float magnitude)
{
    size_t kind = rng_below(rng, 4);
    for (size_t r = 0; r < rows; r++) {
        float *row = x + r * cols;
        for (size_t c = 0; c < cols; c++)
            row[c] = magnitude * (float)rng_normal(rng);
        if (r > 0 && rng_below(rng, 4) == 0) /* a neighbour of another one, or its twin */
            for (size_t c = 0, other = rng_below(rng, r); c < cols; c++)
                row[c] = x[other * cols + c] + (kind == 0 ? 0.0f : 0.01f * row[c]);
        if (kind == 2 && rng_below(rng, 9) == 0)
            memset(row, 0, cols * sizeof *row);
        if (kind == 3) /* rows of very different lengths */
            for (size_t c = 0, shrink = rng_below(rng, 20); c < cols; c++)
                row[c] = ldexpf(row[c], -(int)shrink);
    }
}

/* Group sizes that have bounds, and others. */
static uint64_t some_group_size(struct rng *rng, size_t cols)
{
    static const uint64_t sizes[] = {1, 2, 3, 5, 8, 16, 31, 32, 33, 48, 64, 96, 128, 160, 256, QZ_WHOLE_ROW};
    return rng_below(rng, 5) == 0 ? (uint64_t)cols + 1 : PICK(rng, sizes);
}

/* A scheme of the table, or one with groups of another size where that is one. */
static qz_scheme some_scheme(struct rng *rng, size_t cols)
{
    size_t count = 0;
    while (qz_scheme_at(count))
        count++;
    qz_scheme scheme = *qz_scheme_at(rng_below(rng, count)), other = scheme;
    other.group_size = some_group_size(rng, cols);
    other.name = NULL;
    other.rule = QZ_RULE_NONE;
    if (other.super_size == 0 && scheme.method != QZ_REFERENCE && qz_scheme_check(&other, QZ_DEFAULT) == QZ_OK &&
        rng_below(rng, 3) > 0)
        scheme = other;
    if (scheme.method == QZ_SEARCH && qz_scheme_check(&scheme, QZ_ABSMAX) == QZ_OK)
        scheme.method = QZ_ABSMAX; /* quicker, and as good for this */
    return scheme;
}

static void random_case(size_t number, float base_magnitude, float query_magnitude, size_t most_rows)
{
    static const size_t widths[] = {1, 2, 3, 7, 16, 31, 32, 33, 50, 63, 64, 65, 96, 100, 128, 255, 256, 384, 513};
    struct rng rng = rng_make(number);
    struct nearest_case c = {.metric = (qz_metric)(1 + rng_below(&rng, 3))};
    c.rows = rng_below(&rng, most_rows);
    c.cols = PICK(&rng, widths);
    c.queries = rng_below(&rng, number % 5 == 0 ? 70 : 5);
    c.k = rng_below(&rng, 4) == 0 ? rng_below(&rng, 2 * c.rows + 3) : 1 + rng_below(&rng, 12);
    qz_scheme scheme = some_scheme(&rng, c.cols);
    float *base = malloc((c.rows * c.cols + 1) * sizeof *base);
    fill_base(&rng, base, c.rows, c.cols, base_magnitude);
    struct pieces packed = pieces_make(&scheme, c.rows, c.cols);
    const qz_matrix matrix = {base, QZ_F32, c.rows, c.cols, (int64_t)c.cols, 1};
    qz_result result = qz_encode(&scheme, &matrix, &packed.packed, NULL, NULL, NULL);
    if (result == QZ_OK) {
        assert_int_equal(qz_decode(&scheme, &packed.packed, &matrix, NULL, NULL), QZ_OK);
        int narrow = query_magnitude > 1e3f; /* too large for float16 */
        struct field queries = field_make(narrow ? QZ_F32 : PICK(&rng, all_dtypes), c.queries, c.cols,
                                          (enum layout)rng_below(&rng, LAYOUTS));
        float *values = malloc((c.queries * c.cols + 1) * sizeof *values);
        uint8_t *mask = malloc(c.rows + 1);
        size_t kind = rng_below(&rng, 6);
        for (size_t q = 0; q < c.queries; q++)
            for (size_t i = 0; i < c.cols; i++) {
                size_t near = c.rows ? (q * 7919) % c.rows : 0;
                double x = (double)query_magnitude * (double)rng_normal(&rng);
                if (kind < 3 && c.rows) /* near a row */
                    x = (double)base[near * c.cols + i] * (double)(query_magnitude / base_magnitude) + 0.2 * x;
                if (kind == 5 && c.rows) /* sums of products as large as they get */
                    x = copysign((double)query_magnitude, (double)base[near * c.cols + i]);
                x = kind == 4 ? 0 : fmax(fmin(x, 3e38), -3e38);
                field_put(&queries.matrix, q, i, x);
                values[q * c.cols + i] = (float)ref_element(&queries.matrix, q, i);
            }
        for (size_t r = 0; r < c.rows; r++)
            mask[r] = rng_below(&rng, 3) == 0 ? 0 : (uint8_t)(1 + rng_below(&rng, 255));
        if (rng_below(&rng, 8) == 0)
            memset(mask, 0, c.rows);
        c.scheme = &scheme;
        c.packed = packed.packed;
        c.base = base;
        c.matrix = queries.matrix;
        c.values = values;
        c.mask = rng_below(&rng, 2) ? mask : NULL;
        char what[32];
        snprintf(what, sizeof what, "case %zu", number);
        check_case(&c, what);
        free(values);
        free(mask);
        field_free(queries);
    } else {
        assert_int_equal(result, QZ_ERROR_SCALE);
    }
    pieces_free(&packed);
    free(base);
}

static void against_all_scores(void **state)
{
    (void)state;
    for (size_t i = 0; i < cases(200, 60); i++)
        random_case(i, 1.0f, 1.0f, i % 10 == 0 ? 3000 : 200);
}

/* Twenty-five thousand queries for each kernel set, many of them near to rows, most of them in large batches. */
static void many_queries(void **state)
{
    (void)state;
    enum { MOST = 300, WIDE = 64, BATCH = 97, FEW = 3 };
    static float decoded[MOST * WIDE], values[(BATCH + FEW) * WIDE];
    for (size_t i = 0; i < cases(250, 20); i++) {
        struct rng rng = rng_make(980000 + i);
        size_t rows = 100 + rng_below(&rng, MOST - 100);
        qz_scheme scheme = *qz_scheme_by_name(i % 3 ? "int4" : "nf4");
        scheme.group_size = i % 2 ? QZ_WHOLE_ROW : 32;
        scheme.method = QZ_ABSMAX;
        fill_base(&rng, decoded, rows, WIDE, 1.0f);
        struct pieces packed = pieces_make(&scheme, rows, WIDE);
        qz_matrix matrix = {decoded, QZ_F32, rows, WIDE, WIDE, 1};
        assert_int_equal(qz_encode(&scheme, &matrix, &packed.packed, NULL, NULL, NULL), QZ_OK);
        assert_int_equal(qz_decode(&scheme, &packed.packed, &matrix, NULL, NULL), QZ_OK);
        for (size_t q = 0; q < BATCH + FEW; q++)
            for (size_t c = 0, near = rng_below(&rng, rows); c < WIDE; c++)
                values[q * WIDE + c] = (q % 3 ? decoded[near * WIDE + c] : 0.0f) + 0.5f * (float)rng_normal(&rng);
        struct nearest_case c = {&scheme, packed.packed, rows, WIDE, BATCH, 10, decoded, {0}, values, QZ_DOT, NULL};
        c.metric = (qz_metric)(1 + i % 3);
        c.matrix = (qz_matrix){values, QZ_F32, BATCH, WIDE, WIDE, 1};
        check_case(&c, "a batch");
        c.values = values + BATCH * WIDE;
        c.queries = FEW;
        c.matrix = (qz_matrix){values + BATCH * WIDE, QZ_F32, FEW, WIDE, WIDE, 1};
        check_case(&c, "a few");
        pieces_free(&packed);
    }
}

/* A query of which all but one value become the integer 0, and a row with the signs of these: it is the best one, and
 * only what is known of the rounding errors says that it may be. */
static void errors_that_agree(void **state)
{
    (void)state;
    enum { MANY = 150, WIDE = 64 };
    static float base[MANY * WIDE], values[WIDE];
    for (size_t i = 0; i < 30; i++) {
        struct rng rng = rng_make(995000 + i);
        const size_t wanted = rng_below(&rng, MANY);
        qz_scheme scheme = *qz_scheme_by_name(i % 2 ? "int4" : "uint4");
        scheme.group_size = i % 4 < 2 ? QZ_WHOLE_ROW : 32;
        values[0] = 127.0f;
        for (size_t c = 1; c < WIDE; c++)
            values[c] = rng_below(&rng, 2) ? 0.49f : -0.49f;
        for (size_t r = 0; r < MANY; r++)
            for (size_t c = 0; c < WIDE; c++)
                base[r * WIDE + c] = c == 0
                                         ? (r == wanted ? 0.0f : 0.2f)
                                         : copysignf(1.0f, r == wanted || rng_below(&rng, 2) ? values[c] : -values[c]);
        struct pieces packed = pieces_make(&scheme, MANY, WIDE);
        qz_matrix matrix = {base, QZ_F32, MANY, WIDE, WIDE, 1};
        assert_int_equal(qz_encode(&scheme, &matrix, &packed.packed, NULL, NULL, NULL), QZ_OK);
        assert_int_equal(qz_decode(&scheme, &packed.packed, &matrix, NULL, NULL), QZ_OK);
        struct nearest_case c = {&scheme, packed.packed, MANY, WIDE, 1, 3, base, {0}, values, QZ_DOT, NULL};
        c.metric = (qz_metric)(1 + i % 3);
        c.matrix = (qz_matrix){values, QZ_F32, 1, WIDE, WIDE, 1};
        check_case(&c, "errors");
        pieces_free(&packed);
    }
}

/* Rows of two values and queries with their signs: sums of products are as large as integers of a query allow. With
 * one sign in all of a row they are twice as large; where most of a query is small, only those of its first part are. */
static void signs_that_agree(void **state)
{
    (void)state;
    enum { MANY = 200, WIDE = 1024, LARGE = 512, KINDS = 4 };
    static const size_t widths[] = {64, 127, 384, WIDE};
    static const char *const names[] = {"int4", "uint4", "fp4", "nf4"};
    static float base[MANY * WIDE], values[WIDE];
    for (size_t i = 0; i < COUNT(widths) * COUNT(names) * KINDS; i++) {
        struct rng rng = rng_make(990000 + i);
        if (left_out(&rng, 1, 3))
            continue;
        const size_t wide = widths[i / KINDS % COUNT(widths)], wanted = rng_below(&rng, MANY);
        const int one_sign = i % 2, first_part = i % KINDS >= 2;
        qz_scheme scheme = *qz_scheme_by_name(names[i / KINDS / COUNT(widths)]);
        scheme.group_size = QZ_WHOLE_ROW;
        for (size_t k = 0; k < MANY * wide; k++)
            base[k] = (one_sign && k / wide == wanted) || rng_below(&rng, 2) ? 1.0f : -1.0f;
        struct pieces packed = pieces_make(&scheme, MANY, wide);
        qz_matrix matrix = {base, QZ_F32, MANY, wide, (int64_t)wide, 1};
        assert_int_equal(qz_encode(&scheme, &matrix, &packed.packed, NULL, NULL, NULL), QZ_OK);
        assert_int_equal(qz_decode(&scheme, &packed.packed, &matrix, NULL, NULL), QZ_OK);
        for (size_t k = 0; k < wide; k++)
            values[k] = copysignf(first_part && k >= qz_least(wide / 2, LARGE) ? 0.01f : 1.0f, base[wanted * wide + k]);
        struct nearest_case c = {&scheme, packed.packed, MANY, wide, 1, 3, base, {0}, values, QZ_DOT, NULL};
        c.matrix = (qz_matrix){values, QZ_F32, 1, wide, (int64_t)wide, 1};
        check_case(&c, "signs that agree");
        pieces_free(&packed);
    }
}

/* Numbers whose products and squares are far from 1: where bounds are in doubt, there are none. */
static void any_magnitude(void **state)
{
    (void)state;
    static const float magnitudes[] = {1e-44f, 1e-38f, 1e-20f, 1e-12f, 1e-9f, 1e-3f, 1e3f, 1e9f, 1e12f, 1e20f, 3e36f};
    struct rng rng = rng_make(996000);
    for (size_t i = 0; i < COUNT(magnitudes); i++)
        for (size_t j = 0; j < COUNT(magnitudes); j++)
            for (size_t k = 0; k < 3; k++)
                if (!left_out(&rng, 1, 9))
                    random_case(100000 + (i * 100 + j) * 100 + k, magnitudes[i], magnitudes[j], 150);
}

/* ---- single promises ------------------------------------------------------------------------------------------ */

enum { ROWS = 700, COLS = 96 };

/* Int4 rows of COLS values whose parts end at guard pages. */
static struct plain guarded_rows(qz_scheme *scheme, float *decoded)
{
    struct rng rng = rng_make(77);
    *scheme = *qz_scheme_by_name("int4");
    fill_base(&rng, decoded, ROWS, COLS, 1.0f);
    struct plain plain = plain_make(scheme, ROWS, COLS, 3);
    const qz_matrix matrix = {decoded, QZ_F32, ROWS, COLS, COLS, 1};
    assert_int_equal(qz_encode(scheme, &matrix, &plain.packed, NULL, NULL, NULL), QZ_OK);
    assert_int_equal(qz_decode(scheme, &plain.packed, &matrix, NULL, NULL), QZ_OK);
    return plain;
}

/* Rows with gaps between them, at the end of memory that can be touched; and rows of each length up to 100. */
static void nothing_else_is_read(void **state)
{
    (void)state;
    static float decoded[ROWS * COLS];
    qz_scheme scheme;
    struct plain plain = guarded_rows(&scheme, decoded);
    for (size_t m = QZ_DOT; m <= QZ_L2; m++) {
        struct nearest_case c = {&scheme, plain.packed, ROWS, COLS, 3, 5, decoded, {0}, decoded, (qz_metric)m, NULL};
        c.matrix = (qz_matrix){decoded, QZ_F32, 3, COLS, COLS, 1};
        snprintf(guard_doing, sizeof guard_doing, "metric %zu", m);
        check_case(&c, "guarded");
    }
    plain_free(plain);
    for (size_t cols = 1; cols <= 100; cols++) {
        enum { FEW = 9 };
        float values[FEW * 100];
        struct rng rng = rng_make(cols);
        fill_base(&rng, values, FEW, cols, 1.0f);
        plain = plain_make(&scheme, FEW, cols, 0);
        const qz_matrix matrix = {values, QZ_F32, FEW, cols, (int64_t)cols, 1};
        assert_int_equal(qz_encode(&scheme, &matrix, &plain.packed, NULL, NULL, NULL), QZ_OK);
        assert_int_equal(qz_decode(&scheme, &plain.packed, &matrix, NULL, NULL), QZ_OK);
        struct nearest_case c = {&scheme, plain.packed, FEW, cols, 2, 4, values, matrix, values, QZ_DOT, NULL};
        c.matrix.rows = 2;
        snprintf(guard_doing, sizeof guard_doing, "%zu columns", cols);
        check_case(&c, "guarded");
        plain_free(plain);
    }
}

/* All rows are equal: the first ones are the best. */
static void ties_by_number(void **state)
{
    (void)state;
    enum { MANY = 5000, WIDE = 64 };
    static float decoded[MANY * WIDE];
    qz_scheme scheme = *qz_scheme_by_name("int4");
    for (size_t i = 0; i < (size_t)MANY * WIDE; i++)
        decoded[i] = (float)(i % WIDE % 7) - 3.0f;
    struct pieces packed = pieces_make(&scheme, MANY, WIDE);
    const qz_matrix matrix = {decoded, QZ_F32, MANY, WIDE, WIDE, 1};
    assert_int_equal(qz_encode(&scheme, &matrix, &packed.packed, NULL, NULL, NULL), QZ_OK);
    assert_int_equal(qz_decode(&scheme, &packed.packed, &matrix, NULL, NULL), QZ_OK);
    for (size_t k = 1; k <= 1000; k *= 10) {
        struct nearest_case c = {&scheme, packed.packed, MANY, WIDE, 1, k, decoded, matrix, decoded, QZ_COSINE, NULL};
        c.matrix.rows = 1;
        check_case(&c, "ties");
    }
    pieces_free(&packed);
}

/* Rows longer than a tile, in groups that do not divide it. */
static void long_rows(void **state)
{
    (void)state;
    static const uint64_t group_sizes[] = {32, 50, 1000, 4095, 5000, QZ_WHOLE_ROW};
    enum { FEW = 20, LONG = 9001 };
    static float decoded[FEW * LONG];
    for (size_t g = 0; g < COUNT(group_sizes); g++) {
        struct rng rng = rng_make(g);
        qz_scheme scheme = *qz_scheme_by_name("int4");
        scheme.group_size = group_sizes[g];
        scheme.method = QZ_ABSMAX;
        fill_base(&rng, decoded, FEW, LONG, 1.0f);
        struct pieces packed = pieces_make(&scheme, FEW, LONG);
        const qz_matrix matrix = {decoded, QZ_F32, FEW, LONG, LONG, 1};
        assert_int_equal(qz_encode(&scheme, &matrix, &packed.packed, NULL, NULL, NULL), QZ_OK);
        assert_int_equal(qz_decode(&scheme, &packed.packed, &matrix, NULL, NULL), QZ_OK);
        struct nearest_case c = {&scheme, packed.packed, FEW, LONG, 2, 7, decoded, matrix, decoded, QZ_DOT, NULL};
        c.matrix.rows = 2;
        for (size_t m = QZ_DOT; m <= QZ_L2; m++) {
            c.metric = (qz_metric)m;
            check_case(&c, "long rows");
        }
        pieces_free(&packed);
    }
}

static void bad_queries(void **state)
{
    (void)state;
    static float decoded[ROWS * COLS];
    qz_scheme scheme;
    struct plain plain = guarded_rows(&scheme, decoded);
    double values[3 * COLS] = {0}, scores[3];
    int64_t ids[3];
    qz_matrix queries = {values, QZ_F64, 3, COLS, COLS, 1};
    qz_detail detail = QZ_DETAIL_INIT;
    values[COLS + 5] = NAN;
    values[2 * COLS] = (double)INFINITY;
    for (size_t k = 0; k <= 1; k++) {
        assert_int_equal(qz_nearest(&scheme, &plain.packed, ROWS, &queries, k, NULL, scores, ids, &detail),
                         QZ_ERROR_NONFINITE);
        assert_true(detail.index == COLS + 5 && detail.count == 2);
    }
    assert_int_equal(qz_nearest(&scheme, &plain.packed, 0, &queries, 1, NULL, scores, ids, NULL), QZ_ERROR_NONFINITE);
    values[COLS + 5] = -1e39;
    values[2 * COLS] = 1;
    assert_int_equal(qz_nearest(&scheme, &plain.packed, ROWS, &queries, 1, NULL, scores, ids, &detail), QZ_ERROR_RANGE);
    assert_true(detail.index == COLS + 5 && detail.count == 1 && detail.value == -1e39);
    plain_free(plain);
}

/* Scales that are not finite, or too large for their codes: the first such row is named, unless it is left out. */
static void bad_rows(void **state)
{
    (void)state;
    static const float bad[] = {INFINITY, -INFINITY, NAN, 3e38f};
    static float decoded[ROWS * COLS];
    static uint8_t mask[ROWS];
    struct rng rng = rng_make(5);
    fill_base(&rng, decoded, ROWS, COLS, 1.0f);
    for (size_t i = 0; i < COUNT(bad); i++)
        for (size_t whole = 0; whole < 2; whole++)
            for (size_t m = QZ_DOT; m <= QZ_L2; m++) {
                qz_scheme scheme = *qz_scheme_by_name("int4");
                scheme.scale_dtype = QZ_F32;
                if (whole)
                    scheme.group_size = QZ_WHOLE_ROW;
                struct pieces packed = pieces_make(&scheme, ROWS, COLS);
                const qz_matrix matrix = {decoded, QZ_F32, ROWS, COLS, COLS, 1},
                                query = {decoded, QZ_F32, 1, COLS, COLS, 1};
                assert_int_equal(qz_encode(&scheme, &matrix, &packed.packed, NULL, NULL, NULL), QZ_OK);
                size_t groups = (size_t)packed.sizes.row_groups, group = whole ? 0 : 1;
                ((float *)packed.packed.scales)[650 * groups] = bad[i];
                ((float *)packed.packed.scales)[300 * groups + group] = bad[i];
                memset((uint8_t *)packed.packed.codes + 300 * packed.sizes.code_bytes, 0x77, packed.sizes.code_bytes);
                qz_nearest_options options = QZ_NEAREST_OPTIONS_INIT;
                options.metric = (qz_metric)m;
                qz_detail detail = QZ_DETAIL_INIT;
                double scores[4];
                int64_t ids[4];
                for (size_t p = 0; p <= COUNT(pools); p++) {
                    options.pool = p ? pools[p - 1] : NULL;
                    options.mask = NULL;
                    assert_int_equal(
                        qz_nearest(&scheme, &packed.packed, ROWS, &query, 4, &options, scores, ids, &detail),
                        QZ_ERROR_PACKED);
                    assert_true(detail.group == 300 * groups + group && detail.index == 300 * COLS + group * 32);
                    memset(mask, 1, ROWS);
                    mask[300] = mask[650] = 0;
                    options.mask = mask;
                    assert_int_equal(
                        qz_nearest(&scheme, &packed.packed, ROWS, &query, 4, &options, scores, ids, &detail), QZ_OK);
                }
                pieces_free(&packed);
            }
}

static int say_stop(void *context)
{
    (void)context;
    return 1;
}

static void arguments(void **state)
{
    (void)state;
    static float decoded[ROWS * COLS];
    qz_scheme scheme;
    struct plain plain = guarded_rows(&scheme, decoded);
    qz_matrix queries = {decoded, QZ_F32, 1, COLS, COLS, 1};
    qz_nearest_options options = QZ_NEAREST_OPTIONS_INIT;
    double scores[4];
    int64_t ids[4];
#define NEAREST(k) qz_nearest(&scheme, &plain.packed, ROWS, &queries, k, &options, scores, ids, NULL)
    assert_int_equal(NEAREST(4), QZ_OK);
    assert_int_equal(NEAREST(0), QZ_OK);
    options.metric = (qz_metric)0;
    assert_int_equal(NEAREST(4), QZ_ERROR_ARGUMENT);
    options.metric = (qz_metric)4;
    assert_int_equal(NEAREST(4), QZ_ERROR_ARGUMENT);
    options.metric = QZ_L2;
    options.size--;
    assert_int_equal(NEAREST(4), QZ_ERROR_ARGUMENT);
    options.size++;
    queries.dtype = QZ_E4M3;
    assert_int_equal(NEAREST(4), QZ_ERROR_ARGUMENT);
    queries.dtype = QZ_F32;
    plain.packed.code_stride = 1;
    assert_int_equal(NEAREST(4), QZ_ERROR_ARGUMENT);
    plain.packed.code_stride = (int64_t)plain.sizes.code_bytes + 3;
    queries.rows = (uint64_t)1 << 40;
    queries.row_stride = 0;
    assert_int_equal(NEAREST((uint64_t)1 << 40), QZ_ERROR_SIZE);
    queries.rows = 0;
    assert_int_equal(NEAREST(4), QZ_OK);
    queries.rows = 1;
    options.stop = say_stop; /* asked for the first time after a tenth of a second */
    qz_result result = QZ_OK;
    for (int i = 0; i < 100 && result == QZ_OK; i++)
        result = NEAREST(4);
    assert_true(result == QZ_OK || result == QZ_ERROR_STOPPED);
    assert_string_equal(qz_metric_name(QZ_DOT), "dot");
    assert_string_equal(qz_metric_name(QZ_COSINE), "cosine");
    assert_string_equal(qz_metric_name(QZ_L2), "l2");
    assert_null(qz_metric_name((qz_metric)0));
    assert_null(qz_metric_name((qz_metric)4));
    plain_free(plain);
}

/* ---- kernels --------------------------------------------------------------------------------------------------- */

/* Rows of codes with gaps between them, and queries whose sums of neighbours fill 16 bits, as far as `steps` allows. */
static void scans_agree(void **state)
{
    (void)state;
    for (size_t i = 0; i < cases(4000, 400); i++) {
        struct rng rng = rng_make(950000 + i);
        size_t row_bytes = 16 + rng_below(&rng, 200), chunks = (row_bytes + 15) / 16,
               group = 1 + rng_below(&rng, chunks);
        size_t rows = 1 + rng_below(&rng, 11), groups = (chunks + group - 1) / group, pitch = rows + rng_below(&rng, 3);
        size_t stride = row_bytes + rng_below(&rng, 20);
        size_t most = 1 + rng_below(&rng, QZ_LEVEL_MOST), steps = qz_level_steps(most),
               size = (rows - 1) * stride + row_bytes;
        size_t count = groups * pitch, numbers = chunks * QZ_CHUNK;
        struct guard packed = guard_make(size), codes = guard_make(numbers), sums = guard_make(count * 4);
        uint8_t level[16], *from = guard_end(packed, size, 0);
        int8_t *code = guard_end(codes, numbers, 0);
        int32_t *sum = guard_end(sums, count * 4, 0), *wanted = calloc(count, sizeof *wanted);
        fill_bytes(&rng, from, size);
        for (size_t l = 0; l < 16; l++)
            level[l] = (uint8_t)(l == 5 ? most : rng_below(&rng, most + 1));
        if (i % 4 == 1)
            memset(from, 0x55, size);
        for (size_t l = 0; i % 4 == 2 && l < 16; l++) /* codes with some bits turned */
            level[l] = (uint8_t)(l ^ (i / 4 % 16));
        if (i % 4 == 2)
            steps = qz_level_steps(15);
        int large = i % 3 == 0; /* the largest sums there are; else small numbers, more of which may be added */
        for (size_t l = 0; l < numbers; l++)
            code[l] = (int8_t)(large ? (i % 2 ? 127 : -127) : (int)rng_below(&rng, 31) - 15);
        if (!large)
            steps *= 8;
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < chunks; c++)
                for (size_t b = 0; b < 32; b++) {
                    size_t at = r * stride + (c + 1 < chunks ? c * 16 : row_bytes - 16) + b % 16;
                    unsigned nibble = b < 16 ? from[at] & 15 : from[at] >> 4;
                    wanted[c / group * pitch + r] += level[nibble] * code[c * 32 + b];
                }
        const struct qz_scan scan = {from, (ptrdiff_t)stride, rows, row_bytes, chunks, group, groups, level, steps,
                                     pitch};
        for (size_t s = 0; s < set_count; s++) {
            snprintf(guard_doing, sizeof guard_doing, "%s, case %zu", sets[s]->name, i);
            guard_fill(sums);
            sets[s]->scan(&scan, code, sum);
            for (size_t at = 0; at < count; at++)
                if (at % pitch < rows && sum[at] != wanted[at])
                    fail_msg("%s, case %zu: sum %zu is %d, not %d", sets[s]->name, i, at, sum[at], wanted[at]);
        }
        free(wanted);
        guard_free(packed);
        guard_free(codes);
        guard_free(sums);
    }
}

/* Codes side by side with some queries: levels of every kind, and the largest sums there are. */
static void beside_agrees(void **state)
{
    (void)state;
    for (size_t i = 0; i < cases(1200, 120); i++) {
        struct rng rng = rng_make(970000 + i);
        size_t steps = 1 + rng_below(&rng, i % 10 ? 40 : 300), group = i % 3 ? 1 + rng_below(&rng, steps) : steps;
        size_t groups = (steps + group - 1) / group, rows = 16 * (1 + rng_below(&rng, QZ_BESIDE_ROWS / 16));
        size_t queries = 1 + rng_below(&rng, 19), pitch = steps * QZ_BESIDE_CODES + 8 * rng_below(&rng, 3);
        size_t size = steps * rows * 4, numbers = (queries - 1) * pitch + steps * QZ_BESIDE_CODES;
        size_t count = queries * groups * rows;
        struct guard packed = guard_make(size), codes = guard_make(numbers), sums = guard_make(count * 4);
        uint8_t level[16], *at = guard_end(packed, size, 0);
        int8_t *query = guard_end(codes, numbers, 0);
        int32_t *sum = guard_end(sums, count * 4, 0), *wanted = calloc(count, sizeof *wanted);
        int table = i % 4 == 0, large = i % 5 == 0;
        for (size_t l = 0; l < 16; l++) /* of a table, or codes with some bits turned */
            level[l] = (uint8_t)(!table ? l ^ (i / 4 % 16) : l == 5 ? QZ_LEVEL_MOST : rng_below(&rng, 128));
        fill_bytes(&rng, at, size);
        for (size_t n = 0; large && n < size; n++) /* mostly the largest level */
            at[n] = rng_below(&rng, 50) ? (uint8_t)((table ? 5 : 15 ^ (i / 4 % 16)) * 0x11) : at[n];
        for (size_t n = 0; n < numbers; n++)
            query[n] = (int8_t)(large ? (i % 2 ? 127 : -127) : (int)rng_below(&rng, 255) - 127);
        for (size_t q = 0; q < queries; q++)
            for (size_t s = 0; s < steps; s++)
                for (size_t r = 0; r < rows; r++)
                    for (size_t b = 0; b < 4; b++) {
                        uint8_t two = at[(s * rows + r) * 4 + b];
                        const int8_t *of = query + q * pitch + s * QZ_BESIDE_CODES + b;
                        wanted[(q * groups + s / group) * rows + r] +=
                            level[two & 15] * of[0] + level[two >> 4] * of[4];
                    }
        const struct qz_beside beside = {at, rows, steps, group, groups, level};
        for (size_t s = 0; s < set_count; s++) {
            snprintf(guard_doing, sizeof guard_doing, "%s, case %zu", sets[s]->name, i);
            guard_fill(sums);
            sets[s]->scan_beside(&beside, query, pitch, queries, sum);
            for (size_t n = 0; n < count; n++)
                if (sum[n] != wanted[n])
                    fail_msg("%s, case %zu: sum %zu is %d, not %d", sets[s]->name, i, n, sum[n], wanted[n]);
        }
        free(wanted);
        guard_free(packed);
        guard_free(codes);
        guard_free(sums);
    }
}

/* Rows that are sums of a few others, and noise: of every three columns two vary more. */
static void mix_rows(struct rng *rng, size_t rows, size_t cols, float *x)
{
    enum { FEW = 20, LONGEST = 512 };
    static float few[FEW * LONGEST];
    for (size_t i = 0; i < FEW * cols; i++)
        few[i] = rng_below(rng, 2) ? 1.0f : -1.0f;
    for (size_t r = 0; r < rows; r++, x += cols) {
        float part[FEW];
        for (size_t f = 0; f < FEW; f++)
            part[f] = (float)rng_normal(rng);
        for (size_t c = 0; c < cols; c++) {
            x[c] = 1.5f * (float)rng_normal(rng);
            for (size_t f = 0; f < FEW; f++)
                x[c] += part[f] * few[f * cols + c];
            x[c] = x[c] * (c % 3 ? 1.0f : 0.7f) + 1.0f;
        }
    }
}

/* Rows as they are seen by what chooses columns. */
static void choose(const float *x, size_t rows, size_t cols, double cached, struct qz_sign_columns *columns,
                   int *enough)
{
    qz_scheme scheme = *qz_scheme_by_name("int4");
    scheme.group_size = QZ_WHOLE_ROW;
    struct pieces packed = pieces_make(&scheme, rows, cols);
    const qz_matrix matrix = {(void *)x, QZ_F32, rows, cols, (ptrdiff_t)cols, 1};
    struct qz_view view;
    assert_int_equal(qz_encode(&scheme, &matrix, &packed.packed, NULL, NULL, NULL), QZ_OK);
    qz_view_make(&view, qz_kernels_active(), &scheme, &packed.packed, rows, cols, cols);
    assert_true(qz_signs_choose(&view, QZ_COSINE, rows, cached, columns, enough));
    pieces_free(&packed);
}

/* The columns whose signs are looked at first are those that vary most; all of them where a part says too little. */
static void columns_of_signs(void **state)
{
    (void)state;
    enum { MANY = 1200, WIDE = 480 };
    static float x[MANY * WIDE];
    struct qz_sign_columns columns;
    struct rng rng = rng_make(986000);
    int enough, seen[WIDE] = {0};
    mix_rows(&rng, MANY, WIDE, x);
    choose(x, MANY, WIDE, QZ_SIGNS_CACHED, &columns, &enough);
    assert_true(enough && columns.first >= 90 && columns.first <= 300 && columns.more == WIDE - columns.first);
    assert_true(columns.worth[0] > 30 && columns.worth[0] < columns.worth[1] && columns.worth[1] < 1.2 * WIDE);
    for (size_t i = 0; i < WIDE; i++) {
        assert_true(columns.column[i] < WIDE && !seen[columns.column[i]]++);
        assert_true(i >= columns.first || columns.column[i] % 3 != 0);
        assert_true(i == 0 || i == columns.first || columns.column[i - 1] < columns.column[i]);
    }
    for (size_t i = 0; i < MANY * WIDE; i++)
        x[i] = (float)rng_normal(&rng);
    choose(x, MANY, WIDE, QZ_SIGNS_CACHED, &columns, &enough);
    assert_true(enough && columns.first == WIDE && columns.more == 0);
    for (size_t i = 0; i < MANY * WIDE; i += WIDE)
        x[i] *= 50.0f;
    choose(x, MANY, WIDE, QZ_SIGNS_CACHED, &columns, &enough);
    assert_false(enough);
}

/* First signs of rows with little in common save less than a quarter of the time of all signs: they are taken only where
 * all signs, with a byte more, are not cached. */
static void columns_of_signs_in_memory(void **state)
{
    (void)state;
    enum { MANY = 1200, WIDE = 480 };
    static float x[MANY * WIDE];
    struct qz_sign_columns cached, large;
    struct rng rng = rng_make(987000);
    int enough;
    mix_rows(&rng, MANY, WIDE, x);
    for (size_t i = 0; i < MANY * WIDE; i++)
        x[i] += 10.0f * (float)rng_normal(&rng);
    const double held = MANY * WIDE / 8.0;
    choose(x, MANY, WIDE, held, &cached, &enough);
    assert_true(enough && cached.first == WIDE && cached.more == 0);
    choose(x, MANY, WIDE, held - 1.0, &large, &enough);
    assert_true(enough && large.first < WIDE && large.more == WIDE - large.first);
}

/* Searches by short lists: scores are those of their rows, nearly all rows are found, and every set and pool finds the
 * same, with one query in a call, too. Rows of clusters are chosen by all signs at once, mixed ones by some first. */
static void check_lists(int mixed)
{
    enum { MANY = 6000, WIDEST = 512, ASKED = 70, K = 5 };
    static float base[MANY * WIDEST], values[ASKED * WIDEST];
    const size_t wide = mixed ? WIDEST : 256;
    static uint8_t mask[MANY];
    static double scores[2][ASKED * K];
    static int64_t ids[2][ASKED * K];
    const qz_metric metrics[] = {QZ_L2, QZ_DOT, QZ_COSINE};
    for (size_t m = 0; m < cases(3, 3); m++) {
        const qz_metric metric = metrics[m];
        struct rng rng = rng_make(985000 + (uint64_t)metric);
        qz_scheme scheme = *qz_scheme_by_name("int4");
        struct qz_sign_columns columns;
        int enough;
        scheme.group_size = QZ_WHOLE_ROW;
        scheme.method = QZ_ABSMAX;
        if (mixed)
            mix_rows(&rng, MANY, wide, base);
        for (size_t i = 0; !mixed && i < MANY * wide; i++) /* some around 1, the others around one of these */
            base[i] = (i < 500 * wide ? 1.0f : base[i % (500 * wide)]) + (float)rng_normal(&rng);
        choose(base, MANY, wide, QZ_SIGNS_CACHED, &columns, &enough);
        assert_true(enough && (columns.more > 0) == mixed);
        for (size_t r = 0; r < MANY; r++)
            mask[r] = rng_below(&rng, 3) != 0;
        for (size_t i = 0; i < ASKED * wide; i++)
            values[i] = base[13 * wide + i] + 0.5f * (float)rng_normal(&rng);
        struct pieces packed = pieces_make(&scheme, MANY, wide);
        qz_matrix matrix = {base, QZ_F32, MANY, wide, wide, 1}, asked = {values, QZ_F32, ASKED, wide, wide, 1};
        assert_int_equal(qz_encode(&scheme, &matrix, &packed.packed, NULL, NULL, NULL), QZ_OK);
        assert_int_equal(qz_decode(&scheme, &packed.packed, &matrix, NULL, NULL), QZ_OK);
        for (size_t s = 0; s < set_count; s++)
            for (size_t p = 0; p <= COUNT(pools); p++) {
                const int first = s == 0 && p == 0;
                qz_prepare_options how = QZ_PREPARE_OPTIONS_INIT;
                qz_nearest_options options = QZ_NEAREST_OPTIONS_INIT;
                qz_prepared *prepared;
                how.metric = options.metric = metric;
                how.pool = options.pool = p ? pools[p - 1] : NULL;
                how.signs = options.approximate = 1;
                how.codes = p % 2 == 1;
                options.mask = mask;
                assert_int_equal(qz_kernels_use(sets[s]->name), QZ_OK);
                assert_int_equal(qz_prepare(&scheme, &packed.packed, MANY, wide, &how, &prepared), QZ_OK);
                options.prepared = prepared;
                assert_int_equal(
                    qz_nearest(&scheme, &packed.packed, MANY, &asked, K, &options, scores[!first], ids[!first], NULL),
                    QZ_OK);
                for (size_t q = 0; !first && q < ASKED; q += 23) { /* one by one */
                    const qz_matrix one = {values + q * wide, QZ_F32, 1, wide, wide, 1};
                    assert_int_equal(qz_nearest(&scheme, &packed.packed, MANY, &one, K, &options, scores[1] + q * K,
                                                ids[1] + q * K, NULL),
                                     QZ_OK);
                }
                qz_prepared_free(prepared);
                if (!first &&
                    (memcmp(ids[0], ids[1], sizeof ids[0]) != 0 || memcmp(scores[0], scores[1], sizeof scores[0]) != 0))
                    fail_msg("%s, pool %zu, metric %d: another result", sets[s]->name, p, (int)metric);
            }
        size_t found = 0;
        for (size_t q = 0; q < ASKED; q++) {
            double best[K];
            int64_t best_ids[K];
            plain_nearest(base, MANY, wide, values + q * wide, K, metric, mask, best, best_ids);
            for (size_t i = 0; i < K; i++) {
                const int64_t id = ids[0][q * K + i];
                assert_true(id >= 0 && id < MANY && mask[id]);
                const double score = plain_score(values + q * wide, base + id * wide, wide, metric);
                assert_true(bits_of_double(scores[0][q * K + i]) == bits_of_double(score + 0.0));
                for (size_t j = 0; j < K; j++)
                    found += best_ids[j] == id;
            }
        }
        assert_true(found * 100 >= ASKED * K * 99);
        pieces_free(&packed);
    }
}

static void short_lists(void **state)
{
    (void)state;
    check_lists(0);
}

static void short_lists_by_stages(void **state)
{
    (void)state;
    check_lists(1);
}

/* A table as the kernels take it, of integers for all signs of some steps. */
static void table_of_signs(const int8_t *whole, size_t steps, uint8_t *table)
{
    for (size_t s = 0; s < steps; s++, whole += QZ_SIGN_CODES)
        for (size_t place = 0; place < QZ_SIGN_TABLE + QZ_SIGN_UPPER; place++) {
            int upper = place >= QZ_SIGN_TABLE, sum = 0;
            size_t bits = upper ? place % 4 * 16 : place;
            for (size_t i = 0; i < QZ_SIGN_CODES; i++)
                sum += bits >> i & 1 ? (upper ? 2 : 1) * whole[i] : upper ? 0 : -whole[i];
            table[upper ? steps * QZ_SIGN_TABLE + s * QZ_SIGN_UPPER + place - QZ_SIGN_TABLE
                        : s * QZ_SIGN_TABLE + place] = (uint8_t)sum;
        }
}

/* Integers whose magnitudes are QZ_SIGN_MOST together in each run at most, in some runs exactly. */
static void random_runs(struct rng *rng, size_t count, int8_t *whole)
{
    enum { RUN = QZ_SIGN_RUN * QZ_SIGN_CODES };
    for (size_t n = 0, left = 0; n < count; n++) {
        const int kind = (int)rng_below(rng, 8);
        left = n % RUN ? left : QZ_SIGN_MOST;
        const size_t most = kind == 0  ? left
                            : left < 5 ? left
                                       : 5,
                     size = n % RUN == RUN - 1 && kind < 4 ? left : rng_below(rng, most + 1);
        whole[n] = (int8_t)(rng_below(rng, 2) ? (int)size : -(int)size);
        left -= size;
    }
}

/* Sign n of a row. Of 24 signs six are in each of three bytes, and the last six in the upper bits of these. */
static int is_positive(const uint8_t *of_row, size_t n)
{
    const size_t left = n % 24, byte = left < 18 ? left / 6 : (left - 18) / 2,
                 bit = left < 18 ? left % 6 : 6 + left % 2;
    return of_row[(n / 24 * 3 + byte) * QZ_SIGN_ROWS] >> bit & 1;
}

/* Whether a row may reach a limit: by its estimate, or by integers, which never leave out what reaches it. */
static int may_reach(const struct qz_sign_rows *block, size_t count, size_t r, int sum, float near, float limit)
{
    const int reaches = !(block->factor[r] * (float)sum + near < limit);
    const int least = (int)floor((double)qz_sign_least(limit, block->scale) * block->inverse[r] / 65536.0);
    const int may = block->bias || count == 1 ? reaches : !(limit > 0.0f) || sum >= least;
    assert_true(may || !reaches);
    return may;
}

/* Sums of integers by the signs of rows, the largest ones, too, and which rows may reach a limit. */
static void sums_of_signs_agree(void **state)
{
    (void)state;
    for (size_t i = 0; i < cases(600, 60); i++) {
        struct rng rng = rng_make(980000 + i);
        const size_t steps = 4 * (1 + rng_below(&rng, i % 10 ? 30 : QZ_SIGN_STEPS / 4)), rows = 1 + rng_below(&rng, 64);
        const size_t count = 1 + rng_below(&rng, QZ_SIGN_QUERIES), size = qz_sign_bytes(steps) * QZ_SIGN_ROWS;
        const size_t tables = (count - 1) * qz_sign_table(steps) + steps * (QZ_SIGN_TABLE + QZ_SIGN_UPPER);
        struct guard signs = guard_make(size), made = guard_make(tables), numbers = guard_make(2 * 256 + 128);
        uint8_t *plane = guard_end(signs, size, 0), *table = guard_end(made, tables, 0);
        float *factor = guard_end(numbers, 2 * 256 + 128, 0), *bias = factor + 64;
        uint16_t *inverse = (uint16_t *)(bias + 64);
        float start[QZ_SIGN_QUERIES], limit[QZ_SIGN_QUERIES], near[QZ_SIGN_QUERIES * QZ_SIGN_ROWS] = {0};
        int16_t wanted[QZ_SIGN_QUERIES * QZ_SIGN_ROWS] = {0};
        int8_t *whole = calloc(count * steps, QZ_SIGN_CODES);
        for (size_t n = 0; n < size; n++)
            plane[n] = (uint8_t)(i % 7 ? rng_below(&rng, 256) : i % 2 ? 255 : 0);
        for (size_t r = 0; r < 64; r++) {
            factor[r] = i % 2 ? (float)rng_below(&rng, 4) * 0.3f : 0.3f + (float)rng_below(&rng, 1000) * 1e-4f;
            bias[r] = (float)rng_normal(&rng);
        }
        for (size_t r = 0; r < 64; r++)
            inverse[r] = qz_sign_inverse(factor[r], 1.0f / 0.3f);
        const struct qz_sign_rows block = {plane, steps, rows, factor, i % 3 ? NULL : bias, inverse, 1.0f / 0.3f};
        for (size_t q = 0; q < count; q++) {
            int8_t *of = whole + q * steps * QZ_SIGN_CODES;
            random_runs(&rng, steps * QZ_SIGN_CODES, of);
            for (size_t n = 0; n < steps * QZ_SIGN_CODES && i % 7 == 0; n++) /* with equal signs: the largest sums */
                of[n] = (int8_t)(i % 4 < 2 ? abs(of[n]) : -abs(of[n]));
            table_of_signs(of, steps, table + q * qz_sign_table(steps));
            start[q] = (float)rng_normal(&rng);
            for (size_t r = 0; r < rows; r++) {
                int sum = 0;
                for (size_t n = 0; n < steps * QZ_SIGN_CODES; n++)
                    sum += is_positive(plane + qz_sign_place(r), n) ? of[n] : -of[n];
                wanted[q * QZ_SIGN_ROWS + r] = (int16_t)sum;
                near[q * QZ_SIGN_ROWS + r] = block.bias ? bias[r] * start[q] : 0.0f;
            }
            const size_t one = rng_below(&rng, rows), at = q * QZ_SIGN_ROWS + one;
            limit[q] = rng_below(&rng, 4) ? factor[one] * (float)wanted[at] + near[at] : -INFINITY;
        }
        const struct qz_sign_queries queries = {count, table, start, limit};
        for (size_t s = 0; s < set_count; s++) {
            int16_t sum[QZ_SIGN_QUERIES * QZ_SIGN_ROWS];
            uint64_t within[QZ_SIGN_QUERIES];
            snprintf(guard_doing, sizeof guard_doing, "%s, case %zu", sets[s]->name, i);
            sets[s]->signs(&block, &queries, sum, within);
            for (size_t q = 0; q < count; q++)
                for (size_t r = 0; r < QZ_SIGN_ROWS; r++) {
                    size_t at = q * QZ_SIGN_ROWS + r;
                    const int may = r < rows && may_reach(&block, count, r, wanted[at], near[at], limit[q]);
                    if ((r < rows && sum[at] != wanted[at]) || (within[q] >> r & 1) != (unsigned)may)
                        fail_msg("%s, case %zu: row %zu of %zu, query %zu", sets[s]->name, i, r, rows, q);
                }
        }
        free(whole);
        guard_free(signs);
        guard_free(made);
        guard_free(numbers);
    }
}

/* What was prepared of other rows, or for another metric, is refused; and arguments that make no sense. */
static void prepared_arguments(void **state)
{
    (void)state;
    static float decoded[ROWS * COLS];
    double scores[4];
    int64_t ids[4];
    qz_scheme scheme, wrong;
    struct plain plain = guarded_rows(&scheme, decoded);
    const qz_matrix queries = {decoded, QZ_F32, 1, COLS, COLS, 1};
    qz_prepare_options how = QZ_PREPARE_OPTIONS_INIT;
    qz_nearest_options options = QZ_NEAREST_OPTIONS_INIT;
    qz_prepared *prepared, *none;
    how.codes = 1;
    assert_int_equal(qz_prepare(&scheme, &plain.packed, ROWS, COLS, &how, &prepared), QZ_OK);
    assert_true(qz_prepared_bytes(prepared) >= ROWS * COLS / 2);
    options.prepared = prepared;
    qz_packed moved = plain.packed;
    assert_int_equal(qz_nearest(&scheme, &moved, ROWS, &queries, 4, &options, scores, ids, NULL), QZ_OK);
    assert_int_equal(qz_nearest(&scheme, &moved, ROWS - 1, &queries, 4, &options, scores, ids, NULL),
                     QZ_ERROR_ARGUMENT);
    options.metric = QZ_COSINE;
    assert_int_equal(qz_nearest(&scheme, &moved, ROWS, &queries, 4, &options, scores, ids, NULL), QZ_ERROR_ARGUMENT);
    options.metric = QZ_DOT;
    moved.codes = (uint8_t *)moved.codes + moved.code_stride;
    assert_int_equal(qz_nearest(&scheme, &moved, ROWS, &queries, 4, &options, scores, ids, NULL), QZ_ERROR_ARGUMENT);
    qz_prepared_free(prepared);
    how.metric = (qz_metric)9;
    assert_int_equal(qz_prepare(&scheme, &plain.packed, ROWS, COLS, &how, &none), QZ_ERROR_ARGUMENT);
    assert_null(none);
    wrong = scheme;
    wrong.group_size = 0;
    assert_int_equal(qz_prepare(&wrong, &plain.packed, ROWS, COLS, NULL, &none), QZ_ERROR_ARGUMENT);
    assert_int_equal(qz_prepare(&scheme, &plain.packed, UINT64_MAX, COLS, NULL, &none), QZ_ERROR_SIZE);
    how.metric = QZ_L2;
    how.stop = say_stop;
    qz_result result = qz_prepare(&scheme, &plain.packed, ROWS, COLS, &how, &prepared);
    assert_true(result == QZ_OK || (result == QZ_ERROR_STOPPED && !prepared));
    qz_prepared_free(prepared);
    qz_prepared_free(NULL);
    plain_free(plain);
}

/* Whether rows with a scheme are searched with what was prepared of them. */
static qz_result search_prepared(const qz_scheme *scheme, const qz_packed *packed, const qz_prepared *prepared)
{
    static const float query[256];
    const qz_matrix queries = {(void *)(uintptr_t)query, QZ_F32, 1, 256, 256, 1};
    qz_nearest_options options = QZ_NEAREST_OPTIONS_INIT;
    double score;
    int64_t id;
    options.prepared = prepared;
    return qz_nearest(scheme, packed, 1, &queries, 1, &options, &score, &id, NULL);
}

/* Other zeros, super scales, strides of these, or a table with other values are other rows. */
static void prepared_of_other_rows(void **state)
{
    (void)state;
    static uint8_t codes[128], scales[2][64];
    static float zeros[2][16], supers[2][2] = {{1.0f, 1.0f}, {1.0f, 1.0f}};
    static const char *const names[] = {"int4", "uint4_float", "nvfp4", "dual4", "q4_k"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        qz_scheme scheme = *qz_scheme_by_name(names[i]);
        const qz_packed made = {codes, scales[0], zeros[0], 128, 64, 64, supers[0], 16};
        qz_prepared *prepared;
        assert_int_equal(qz_prepare(&scheme, &made, 1, 256, NULL, &prepared), QZ_OK);
        int has_zeros = scheme.zero != QZ_ZERO_NONE, has_supers = scheme.super_size != 0;
        int whole = scheme.super_size == QZ_WHOLE_MATRIX;
        qz_packed packed = made;
        assert_int_equal(search_prepared(&scheme, &packed, prepared), QZ_OK);
        packed.zeros = zeros[1];
        assert_int_equal(search_prepared(&scheme, &packed, prepared), has_zeros ? QZ_ERROR_ARGUMENT : QZ_OK);
        packed = made;
        packed.zero_stride = 68;
        assert_int_equal(search_prepared(&scheme, &packed, prepared), has_zeros ? QZ_ERROR_ARGUMENT : QZ_OK);
        packed = made;
        packed.supers = supers[1];
        assert_int_equal(search_prepared(&scheme, &packed, prepared), has_supers ? QZ_ERROR_ARGUMENT : QZ_OK);
        packed = made;
        packed.super_stride = 20;
        assert_int_equal(search_prepared(&scheme, &packed, prepared), has_supers && !whole ? QZ_ERROR_ARGUMENT : QZ_OK);
        if (has_supers && !whole && scheme.super_dtype == QZ_F32) {
            qz_scheme other = scheme;
            other.super_dtype = QZ_F16;
            assert_int_equal(search_prepared(&other, &made, prepared), QZ_ERROR_ARGUMENT);
        }
        qz_prepared_free(prepared);
    }
    float table[2][16];
    for (int i = 0; i < 16; i++)
        table[0][i] = table[1][i] = (float)i - 7.0f;
    qz_scheme scheme = *qz_scheme_by_name("int4");
    scheme.codes = QZ_TABLE;
    scheme.table = table[0];
    const qz_packed made = {.codes = codes, .scales = scales[0], .code_stride = 128, .scale_stride = 64};
    qz_prepared *prepared;
    assert_int_equal(qz_prepare(&scheme, &made, 1, 256, NULL, &prepared), QZ_OK);
    scheme.table = table[1];
    assert_int_equal(search_prepared(&scheme, &made, prepared), QZ_OK);
    table[1][3] = -4.5f;
    assert_int_equal(search_prepared(&scheme, &made, prepared), QZ_ERROR_ARGUMENT);
    table[0][3] = -4.5f; /* the caller's, of which a copy was made */
    assert_int_equal(search_prepared(&scheme, &made, prepared), QZ_ERROR_ARGUMENT);
    qz_prepared_free(prepared);
}

enum { SIDE = 64, SIDE_GROUPS = 3, SIDE_QUERIES = 5 };

struct rows_of_numbers {
    float scale[SIDE_GROUPS * SIDE], zero[SIDE_GROUPS * SIDE], bias[(SIDE_GROUPS + 1) * SIDE];
    float spread[SIDE], size[SIDE];
    int32_t sum[SIDE_QUERIES * SIDE_GROUPS * SIDE];
    uint64_t within[SIDE_QUERIES];
};

static void measure_and_reach(const struct qz_kernels *kernels, const struct qz_measure *rule, size_t n, size_t groups,
                              size_t terms, const float *limit, struct rows_of_numbers *rows)
{
    static const float factor[SIDE_QUERIES][2] = {
        {0.375f, 0.01f}, {0.0f, 0.25f}, {1e3f, 0.0f}, {2.0f, 3.0f}, {0.1f, 0.1f}};
    float start[SIDE_QUERIES * (SIDE_GROUPS + 1)];
    for (size_t t = 0; t < SIDE_QUERIES * terms; t++)
        start[t] = 3.0f * (float)(t % 7) - 8.5f;
    const struct qz_reach reach = {n, SIDE, groups, terms, rows->scale, rows->bias, rows->spread, rows->size};
    kernels->measure(rule, n, groups, SIDE, rows->scale, rows->zero, rows->bias, rows->spread, rows->size);
    kernels->reach(&reach, rows->sum, SIDE_QUERIES, start, factor, limit, rows->within);
}

static void floats_agree(const float *a, const float *b, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i] && (a[i] == a[i] || b[i] == b[i]))
            fail_msg("%s: %s %zu is %a, not %a", guard_doing, what, i, (double)a[i], (double)b[i]);
}

/* Numbers of rows and their bounds are those of scalar.c, also where they are out of bounds. */
static void numbers_agree(void **state)
{
    (void)state;
    static const float special[] = {0.0f, 1e-42f, 1e-30f, 3e38f, INFINITY, -INFINITY, NAN};
    static const qz_zero kinds[] = {QZ_ZERO_NONE, QZ_ZERO_UINT4, QZ_ZERO_OFFSET, QZ_ZERO_FLOAT};
    for (size_t i = 0; i < cases(4000, 200); i++) {
        struct rng rng = rng_make(970000 + i);
        static struct rows_of_numbers given, wanted, got;
        size_t n = 1 + rng_below(&rng, SIDE), groups = 1 + rng_below(&rng, SIDE_GROUPS);
        size_t terms = groups + rng_below(&rng, 2);
        float limit[SIDE_QUERIES];
        for (size_t q = 0; q < SIDE_QUERIES; q++)
            limit[q] = (i + q) % 9 ? 1e4f * (float)rng_normal(&rng) : -INFINITY;
        const struct qz_measure rule = {0.5f, -6.0f, 24.0f, 0x1p-80f, 0x1p30f, 1.000001f, PICK(&rng, kinds)};
        for (size_t l = 0; l < (size_t)SIDE_GROUPS * SIDE; l++) {
            given.scale[l] = rng_below(&rng, 9) == 0 ? PICK(&rng, special) : 0.01f * (float)rng_normal(&rng);
            given.zero[l] = rng_below(&rng, 40) == 0 ? PICK(&rng, special) : (float)rng_normal(&rng);
        }
        for (size_t l = 0; l < (size_t)SIDE_QUERIES * SIDE_GROUPS * SIDE; l++)
            given.sum[l] = (int32_t)rng_below(&rng, 1 << 22) - (1 << 21);
        for (size_t l = 0; l < (size_t)(SIDE_GROUPS + 1) * SIDE; l++)
            given.bias[l] = (float)rng_normal(&rng);
        wanted = given;
        measure_and_reach(&qz_kernels_scalar, &rule, n, groups, terms, limit, &wanted);
        for (size_t s = 0; s < set_count; s++) {
            snprintf(guard_doing, sizeof guard_doing, "%s, case %zu", sets[s]->name, i);
            got = given;
            measure_and_reach(sets[s], &rule, n, groups, terms, limit, &got);
            floats_agree(got.spread, wanted.spread, n, "spread");
            floats_agree(got.size, wanted.size, n, "size");
            for (size_t g = 0; g < groups; g++) {
                floats_agree(got.scale + g * SIDE, wanted.scale + g * SIDE, n, "scale");
                floats_agree(got.bias + g * SIDE, wanted.bias + g * SIDE, n, "bias");
            }
            for (size_t q = 0; q < SIDE_QUERIES; q++)
                assert_true(got.within[q] == wanted.within[q]);
        }
    }
}

/* Sums in double, for any floats; and a bound that is NaN keeps a row. */
static void sums_agree(void **state)
{
    (void)state;
    for (size_t n = 0; n < 70; n++)
        for (size_t kind = 0; kind < 8; kind++) {
            struct rng rng = rng_make(n * 8 + kind);
            struct guard a = guard_make(n * 4), b = guard_make(n * 4);
            float *x = guard_end(a, n * 4, 0), *y = guard_end(b, n * 4, 0);
            for (size_t i = 0; i < n; i++) {
                x[i] = ldexpf((float)rng_normal(&rng), (int)rng_below(&rng, 200) - 140);
                y[i] = kind < 2 ? x[i] : ldexpf((float)rng_normal(&rng), (int)rng_below(&rng, 200) - 140);
            }
            for (size_t s = 0; s < set_count; s++) {
                snprintf(guard_doing, sizeof guard_doing, "%s, %zu values", sets[s]->name, n);
                assert_true(bits_of_double(sets[s]->dot(x, y, n)) == bits_of_double(qz_kernels_scalar.dot(x, y, n)));
                assert_true(bits_of_double(sets[s]->distance(x, y, n)) ==
                            bits_of_double(qz_kernels_scalar.distance(x, y, n)));
                assert_true(bits_of_double(sets[s]->dot(x, y, n)) == bits_of_double(plain_sum(x, y, n, 0)));
            }
            guard_free(a);
            guard_free(b);
        }
    float bias[32] = {0}, none[32] = {0}, start = 1.0f, limit = 0.0f;
    const float factor[1][2] = {{1.0f, 1.0f}};
    for (size_t i = 0; i < 17; i++)
        bias[i] = i % 3 == 0 ? NAN : -5.0f;
    const struct qz_reach rows = {17, 32, 0, 1, none, bias, none, none};
    for (size_t s = 0; s < set_count; s++) {
        uint64_t within = 0;
        sets[s]->reach(&rows, NULL, 1, &start, factor, &limit, &within);
        assert_true(within == 0x9249);
    }
}

int main(void)
{
    start_program("test_nearest");
    choose_sets();
    guard_report_faults();
    static const size_t threads[] = {2, 3, 8};
    for (size_t p = 0; p < COUNT(pools); p++)
        if (qz_pool_create(threads[p], &pools[p]) != QZ_OK)
            return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_agree),
        cmocka_unit_test(against_all_scores),
        cmocka_unit_test(any_magnitude),
        cmocka_unit_test(nothing_else_is_read),
        cmocka_unit_test(ties_by_number),
        cmocka_unit_test(long_rows),
        cmocka_unit_test(bad_queries),
        cmocka_unit_test(bad_rows),
        cmocka_unit_test(arguments),
        cmocka_unit_test(many_queries),
        cmocka_unit_test(signs_that_agree),
        cmocka_unit_test(beside_agrees),
        cmocka_unit_test(prepared_arguments),
        cmocka_unit_test(prepared_of_other_rows),
        cmocka_unit_test(scans_agree),
        cmocka_unit_test(numbers_agree),
        cmocka_unit_test(errors_that_agree),
        cmocka_unit_test(sums_of_signs_agree),
        cmocka_unit_test(short_lists),
        cmocka_unit_test(columns_of_signs),
        cmocka_unit_test(columns_of_signs_in_memory),
        cmocka_unit_test(short_lists_by_stages),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t p = 0; p < COUNT(pools); p++)
        qz_pool_destroy(pools[p]);
    return failed;
}
