/*
 * test_kernels_range.c - kernels with numbers from the whole range of floats
 *
 * The other test_kernels_*.c give kernels what the drivers make of data of many kinds; the scales there suit the
 * values. Here they need not: a value whose weight is 0, or an outlier in a group whose scale was searched, lies beyond
 * the codes by any number of steps. Every set must make the same bits as scalar.c, and scalar.c the code of the end
 * that is nearer. QUANTIZE_KERNELS restricts the comparison to one set.
 */
#include "support/program.h"

#include "support/cases.h"
#include "support/guard.h"
#include "support/sets.h"

#include "scales/encoder.h"
#include "base/number.h"
#include "packed/scheme.h"

#include <float.h>
#include <math.h>

enum { COLUMN_LINES = 64, COLUMN_WIDTH = 32 };

/* ---- numbers ------------------------------------------------------------------------------------------------- */

/* Any finite float: all exponents are as likely. */
static float any_float(struct rng *rng)
{
    float x;
    fill_floats(rng, DATA_BITS, &x, 1);
    return x;
}

/* A power of two within 2^-126..2^127, some of its neighbours, or one of the ends of the range. */
static float any_magnitude(struct rng *rng)
{
    static const float ends[] = {0.0f, 0x1p-149f, FLT_MIN, 0x1p-127f, 0x1p30f, 0x1p31f, 0x1p32f, 0x1p63f, FLT_MAX};
    if (rng_below(rng, 4) == 0)
        return PICK(rng, ends);
    float x = power_of_two((int)rng_below(rng, 254) - 126);
    return float_of_bits(bits_of_float(x) + (uint32_t)rng_below(rng, 5) - 2);
}

static float clamped(float x)
{
    return x > FLT_MAX ? FLT_MAX : x < -FLT_MAX ? -FLT_MAX : x;
}

/* ---- grids --------------------------------------------------------------------------------------------------- */

/* Every kind of codes with every kind of zero that kernels know, and tables of the caller's with and without cells. */
enum { GRIDS = 16 };

static struct qz_grid grid_number(struct rng *rng, size_t i)
{
    static const struct {
        const char *scheme;
        qz_method method;
        int zero; /* -1: the scheme's */
    } kinds[GRIDS] = {
        {"int4", QZ_ABSMAX, -1},         {"int4", QZ_ABSMAX7, -1},          {"uint4", QZ_MINMAX, -1},
        {"uint4_offset", QZ_MINMAX, -1}, {"uint4_float", QZ_MINMAX, -1},    {"nf4", QZ_ABSMAX, -1},
        {"fp4", QZ_ABSMAX, -1},          {"fp4_bnb", QZ_ABSMAX, -1},        {"iq4_nl", QZ_ABSMAX, -1},
        {"dual4", QZ_ABSMAX, -1},        {"nf4", QZ_ABSMAX, QZ_ZERO_FLOAT}, {"iq4_nl", QZ_ABSMAX, QZ_ZERO_OFFSET},
        {NULL, QZ_ABSMAX, -1},           {NULL, QZ_ABSMAX, QZ_ZERO_FLOAT},  {NULL, QZ_ABSMAX, QZ_ZERO_OFFSET},
        {NULL, QZ_ABSMAX, -1},
    };
    float table[16];
    qz_scheme scheme = *qz_scheme_by_name(kinds[i].scheme ? kinds[i].scheme : "nf4");
    if (!kinds[i].scheme) {
        int even = (int)rng_below(rng, 2); /* then there are cells */
        float unit = power_of_two((int)rng_below(rng, 100) - 60);
        for (int k = 0; k < 16; k++)
            table[k] =
                (even ? (float)(k * 7 % 16) - 6.5f : rng_normal(rng) * power_of_two(-(int)rng_below(rng, 12))) * unit;
        scheme.codes = QZ_TABLE;
        scheme.table = table;
    }
    struct qz_grid grid = qz_scheme_grid(&scheme, kinds[i].method);
    if (kinds[i].zero >= 0)
        grid.zero = (qz_zero)kinds[i].zero;
    return grid;
}

/* What is rounded to a code, as docs/format.md has it. */
static float steps_of(float x, float inverse, float zero, qz_zero kind)
{
    float y = (kind == QZ_ZERO_OFFSET ? x - zero : x) * inverse;
    return kind == QZ_ZERO_FLOAT ? y + zero : y;
}

struct tile {
    float x[QZ_TILE], scale[QZ_TILE], inverse[QZ_TILE], zero[QZ_TILE];
};

/* Whether all sets take such a value. */
static int is_near(const struct qz_grid *grid, float x, float inverse, float zero)
{
    float y = (grid->zero == QZ_ZERO_OFFSET ? x - zero : x) * inverse;
    return !grid->uniform || (fabsf(y) <= 0x1p29f && (grid->zero != QZ_ZERO_FLOAT || fabsf(zero) <= 0x1p29f));
}

/* Groups with scales from anywhere, and values anywhere from 0 to far beyond what their codes reach; with `near` only
 * so far as all sets take them. */
static void far_tile(struct rng *rng, const struct qz_grid *grid, int near, struct tile *tile, size_t n,
                     size_t group_size)
{
    for (size_t i = 0; i < n; i++) {
        size_t g = i / group_size;
        if (i % group_size == 0) {
            float s = rng_below(rng, 2) ? any_magnitude(rng) : fabsf(any_float(rng));
            int normal = s >= FLT_MIN && s <= 0x1p120f;
            tile->scale[g] = rng_below(rng, 2) ? -s : s;
            tile->inverse[g] = normal ? 1.0f / tile->scale[g] : 0.0f;
            float middle = grid->value[rng_below(rng, 16)] * (rng_below(rng, 3) ? 1.0f : any_magnitude(rng));
            tile->zero[g] = grid->zero == QZ_ZERO_UINT4    ? (float)rng_below(rng, 16)
                            : grid->zero == QZ_ZERO_OFFSET ? rng_below(rng, 2) ? any_float(rng) : middle
                            : grid->zero == QZ_ZERO_FLOAT  ? clamped(middle)
                                                           : 0.0f;
            tile->zero[g] = clamped(tile->zero[g]) + 0.0f;
            if (near && grid->zero == QZ_ZERO_FLOAT && !is_near(grid, 0.0f, 0.0f, tile->zero[g]))
                tile->zero[g] = 0.0f;
        }
        float steps = any_magnitude(rng) * (rng_below(rng, 2) ? 1.0f : -1.0f);
        float x = rng_below(rng, 2) ? any_float(rng) : clamped(steps * tile->scale[g]);
        if (isnan(steps_of(x, tile->inverse[g], tile->zero[g], grid->zero))) /* which the drivers see to */
            x = 0.0f;
        if (near && !is_near(grid, x, tile->inverse[g], tile->zero[g]))
            x = grid->zero == QZ_ZERO_OFFSET ? tile->zero[g] : clamped(rng_normal(rng) * tile->scale[g]);
        tile->x[i] = isnan(steps_of(x, tile->inverse[g], tile->zero[g], grid->zero)) ? tile->zero[g] : x;
    }
}

/* The rule, in double: the nearest of the values from lo to hi for what lies between them, else the nearer end. */
static int is_right_code(const struct qz_grid *grid, float y, float zero, int code)
{
    if (grid->uniform) {
        double wanted = rint((double)y) + (grid->zero == QZ_ZERO_UINT4 ? (double)zero : 0.0);
        int end = wanted < grid->lo ? grid->lo : wanted > grid->hi ? grid->hi : (int)wanted;
        return code == (end & 15);
    }
    double value = (double)grid->value[code], least = INFINITY;
    if (y > grid->sorted[15] || y < grid->sorted[0])
        return value == (double)grid->sorted[y > 0 ? 15 : 0];
    for (int i = 0; i < 16; i++)
        least = fmin(least, fabs((double)grid->value[i] - (double)y));
    return fabs(value - (double)y) <= least;
}

static size_t some_group_size(struct rng *rng)
{
    static const size_t usual[] = {8, 16, 32, 64, 128, 256};
    return rng_below(rng, 3) ? PICK(rng, usual) : 1 + rng_below(rng, 300);
}

static void test_group_codes(void **state)
{
    (void)state;
    static struct tile tile;
    static uint8_t wanted[QZ_TILE / 2], got[QZ_TILE / 2];
    struct rng rng = rng_make(900);
    for (size_t repeat = 0; repeat < cases(3000, 200); repeat++) {
        struct qz_grid grid = grid_number(&rng, repeat % GRIDS);
        size_t n = 1 + rng_below(&rng, repeat % 3 ? 600 : QZ_TILE), group_size = some_group_size(&rng);
        int near = repeat / GRIDS % 2 == 0;
        far_tile(&rng, &grid, near, &tile, n, group_size);
        size_t clipped = qz_kernels_scalar.group_codes(tile.x, n, group_size, &grid, tile.inverse, tile.zero, wanted),
               counted = 0;
        for (size_t i = 0; i < n; i++) {
            float zero = tile.zero[i / group_size];
            float y = steps_of(tile.x[i], tile.inverse[i / group_size], zero, grid.zero);
            int code = wanted[i / 2] >> (i % 2 * 4) & 15;
            if (!is_right_code(&grid, y, zero, code))
                fail_msg("grid %zu: %a steps, zero %a, became the code %d", repeat % GRIDS, (double)y, (double)zero,
                         code);
            double whole = rint((double)y) + (grid.zero == QZ_ZERO_UINT4 ? (double)zero : 0.0);
            counted += grid.uniform ? whole < grid.lo || whole > grid.hi : y < grid.least || y > grid.most;
        }
        assert_int_equal(clipped, counted);
        for (size_t s = 0; s < set_count && (near || !grid.uniform); s++) {
            size_t same = sets[s]->group_codes(tile.x, n, group_size, &grid, tile.inverse, tile.zero, got);
            if (!same_bytes(sets[s]->name, got, wanted, n / 2 + n % 2, 1) || same != clipped)
                fail_msg("group_codes of %s: grid %zu, n %zu, group size %zu: clipped %zu, wanted %zu", sets[s]->name,
                         repeat % GRIDS, n, group_size, same, clipped);
        }
    }
}

/* Sums may be infinite, but never NaN. */
static void test_group_codes_error(void **state)
{
    (void)state;
    static struct tile tile;
    static uint8_t wanted[QZ_TILE / 2], got[QZ_TILE / 2];
    struct rng rng = rng_make(901);
    for (size_t repeat = 0; repeat < cases(3000, 200); repeat++) {
        struct qz_grid grid = grid_number(&rng, repeat % GRIDS);
        size_t n = 1 + rng_below(&rng, repeat % 3 ? 600 : QZ_TILE), group_size = some_group_size(&rng);
        struct qz_sums sums, others;
        far_tile(&rng, &grid, 1, &tile, n, group_size);
        size_t clipped = qz_kernels_scalar.group_codes_error(tile.x, n, group_size, &grid, tile.scale, tile.inverse,
                                                             tile.zero, wanted, &sums);
        for (size_t s = 0; s < set_count; s++) {
            size_t same = sets[s]->group_codes_error(tile.x, n, group_size, &grid, tile.scale, tile.inverse, tile.zero,
                                                     got, &others);
            if (!same_bytes(sets[s]->name, got, wanted, n / 2 + n % 2, 1) ||
                !same_bytes(sets[s]->name, &others, &sums, sizeof sums, 4) || same != clipped)
                fail_msg("group_codes_error of %s: grid %zu, n %zu, group size %zu: clipped %zu, wanted %zu",
                         sets[s]->name, repeat % GRIDS, n, group_size, same, clipped);
        }
    }
}

static void test_columns_codes(void **state)
{
    (void)state;
    enum { MOST = COLUMN_LINES * COLUMN_WIDTH };
    static struct tile tile;
    static float turned[MOST];
    static uint8_t wanted[MOST / 2], got[MOST / 2];
    struct rng rng = rng_make(902);
    for (size_t repeat = 0; repeat < cases(1500, 100); repeat++) {
        struct qz_grid grid = grid_number(&rng, repeat % GRIDS);
        size_t width = 16 * (1 + rng_below(&rng, 2)), lines = 32 * (1 + rng_below(&rng, 2)), n = width * lines;
        far_tile(&rng, &grid, 1, &tile, n, lines);
        for (size_t i = 0; i < n; i++)
            turned[i % lines * width + i / lines] = tile.x[i];
        struct qz_ahead ahead = {(uintptr_t)turned, 64, 64, 1, 1, 64, (uintptr_t)turned}, again = ahead;
        size_t clipped = qz_kernels_scalar.columns_codes(turned, lines, width, &grid, tile.inverse, tile.zero, wanted,
                                                         (ptrdiff_t)lines / 2, &ahead);
        for (size_t s = 0; s < set_count; s++) {
            size_t same = sets[s]->columns_codes(turned, lines, width, &grid, tile.inverse, tile.zero, got,
                                                 (ptrdiff_t)lines / 2, &again);
            if (!same_bytes(sets[s]->name, got, wanted, n / 2, 1) || same != clipped)
                fail_msg("columns_codes of %s: grid %zu, %zu x %zu: clipped %zu, wanted %zu", sets[s]->name,
                         repeat % GRIDS, lines, width, same, clipped);
        }
    }
}

/* ---- the drivers --------------------------------------------------------------------------------------------- */

/* Values whose weight is 0 have no say in the scale of their group. They get the code of the end on their side, from
 * each set and by each method, in groups that are searched together and in ones that come in pieces. */
static void test_values_without_weight(void **state)
{
    (void)state;
    enum { COLS = 5000 };
    static const char *const names[] = {"int4", "uint4", "uint4_offset", "uint4_float", "nf4", "iq4_nl", "fp4"};
    static const uint64_t sizes[] = {32, 64, 600, COLS};
    static float x[COLS], w[COLS];
    static uint8_t wanted[COLS / 2], got[COLS / 2], zeros[4 * COLS];
    static float scales[COLS];
    const char *usual = qz_kernels();
    struct rng rng = rng_make(907);
    for (size_t repeat = 0; repeat < cases(240, 60); repeat++) {
        qz_scheme scheme = *qz_scheme_by_name(names[repeat % COUNT(names)]);
        qz_options options = QZ_OPTIONS_INIT;
        scheme.scale_dtype = QZ_F32;
        scheme.group_size = sizes[repeat / COUNT(names) % COUNT(sizes)];
        options.method = scheme.zero <= QZ_ZERO_UINT4 && repeat % 2 ? QZ_EXACT : QZ_SEARCH;
        options.stochastic = rng_below(&rng, 4) == 0;
        size_t cols = scheme.group_size == COLS || repeat % 3 == 0 ? COLS : 640;
        for (size_t i = 0; i < cols; i++) {
            x[i] = rng_normal(&rng);
            w[i] = 1.0f;
            if (i % 29 == 3) {
                x[i] = (i % 2 ? 1.0f : -1.0f) * power_of_two(20 + (int)rng_below(&rng, 40));
                w[i] = 0.0f;
            }
        }
        qz_matrix src = {x, QZ_F32, 1, cols, (int64_t)cols, 1}, weights = src;
        weights.data = w;
        options.weights = &weights;
        qz_packed to = {wanted, scales, scheme.zero ? zeros : NULL, COLS / 2, 4 * COLS, 4 * COLS, NULL, 0};
        qz_stats first = QZ_STATS_INIT, stats = QZ_STATS_INIT;
        assert_int_equal(QZ_OK, qz_kernels_use("scalar"));
        assert_int_equal(QZ_OK, qz_encode(&scheme, &src, &to, &options, &first, NULL));
        struct qz_grid grid = qz_scheme_grid(&scheme, options.method);
        for (size_t i = 3; i < cols; i += 29) {
            int end = (x[i] > 0) == (scales[i / scheme.group_size] > 0) ? 15 : 0, code = wanted[i / 2] >> (i % 2 * 4);
            if (fabsf(x[i]) > fabsf(scales[i / scheme.group_size]) * 0x1p20f &&
                grid.value[code & 15] != grid.sorted[end])
                fail_msg("%s: %a with the scale %a has the code %d", names[repeat % COUNT(names)], (double)x[i],
                         (double)scales[i / scheme.group_size], code & 15);
        }
        to.codes = got;
        for (size_t s = 0; s < set_count; s++) {
            assert_int_equal(QZ_OK, qz_kernels_use(sets[s]->name));
            assert_int_equal(QZ_OK, qz_encode(&scheme, &src, &to, &options, s % 2 ? NULL : &stats, NULL));
            if (!same_bytes(sets[s]->name, got, wanted, cols / 2, 1) || (s % 2 == 0 && stats.clipped != first.clipped))
                fail_msg("%s: %s, group %llu", sets[s]->name, names[repeat % COUNT(names)],
                         (unsigned long long)scheme.group_size);
        }
    }
    assert_int_equal(QZ_OK, qz_kernels_use(usual));
}

/* ---- whole arrays -------------------------------------------------------------------------------------------- */

static void test_codes_f64(void **state)
{
    (void)state;
    static double x[600];
    static int8_t wanted[600], got[600];
    struct rng rng = rng_make(903);
    for (size_t repeat = 0; repeat < cases(3000, 200); repeat++) {
        size_t n = 1 + rng_below(&rng, 600);
        double scale = ldexp(1.0 + (double)rng_below(&rng, 8) / 8, (int)rng_below(&rng, 2000) - 1000);
        double zero_point = rint(ldexp((double)rng_normal(&rng), (int)rng_below(&rng, 80)));
        for (size_t i = 0; i < n; i++) {
            uint64_t bits = rng_next(&rng);
            memcpy(&x[i], &bits, sizeof bits);
            if (!isfinite(x[i]) || rng_below(&rng, 2))
                x[i] = fmax(-DBL_MAX, fmin(DBL_MAX, scale * ldexp((double)rng_normal(&rng), (int)rng_below(&rng, 70))));
        }
        qz_kernels_scalar.codes_f64(x, n, scale, zero_point, wanted);
        for (size_t s = 0; s < set_count; s++) {
            sets[s]->codes_f64(x, n, scale, zero_point, got);
            if (!same_bytes(sets[s]->name, got, wanted, n, 1))
                fail_msg("codes_f64 of %s", sets[s]->name);
        }
    }
}

/* ---- scales -------------------------------------------------------------------------------------------------- */

/* Equal bits, or NaN both. */
static int same_floats(const float *got, const float *wanted, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bits_of_float(got[i]) != bits_of_float(wanted[i]) && !(isnan(got[i]) && isnan(wanted[i]))) {
            printf("[%zu]: got %a, wanted %a\n", i, (double)got[i], (double)wanted[i]);
            return 0;
        }
    return 1;
}

/* The rule of every scheme; and of tables whose ends are anywhere. */
static void test_fit(void **state)
{
    (void)state;
    static float min[300], max[300], wanted[3][300], got[3][300];
    struct rng rng = rng_make(904);
    for (size_t repeat = 0; repeat < cases(6000, 300); repeat++) {
        size_t n = 1 + rng_below(&rng, 300), kind = repeat % GRIDS;
        struct qz_grid grid = grid_number(&rng, kind);
        qz_scheme scheme = *qz_scheme_by_name("nf4");
        scheme.zero = kind < 5 ? grid.zero : QZ_ZERO_NONE;
        scheme.scale_dtype = PICK(&rng, scale_dtypes);
        scheme.positive = (int)rng_below(&rng, 2);
        struct qz_fit rule = qz_scheme_fit(&scheme, kind == 1 ? QZ_ABSMAX7 : QZ_ABSMAX, &grid);
        if (rule.zero == QZ_ZERO_OFFSET)
            rule.method = QZ_MINMAX;
        for (size_t i = 0; i < n; i++) {
            float a = any_float(&rng), b = any_magnitude(&rng) * (rng_below(&rng, 2) ? 1.0f : -1.0f);
            min[i] = a < b ? a : b;
            max[i] = a < b ? b : a;
        }
        memset(wanted, 0, sizeof wanted);
        memset(got, 0, sizeof got);
        unsigned flags = qz_kernels_scalar.fit(&rule, n, min, max, wanted[0], wanted[1], wanted[2]);
        for (size_t s = 0; s < set_count; s++) {
            unsigned same = sets[s]->fit(&rule, n, min, max, got[0], got[1], got[2]);
            if (same != flags || !same_floats(got[0], wanted[0], n) || !same_floats(got[1], wanted[1], n) ||
                !same_floats(got[2], wanted[2], n))
                fail_msg("fit of %s: grid %zu, flags %u, wanted %u", sets[s]->name, kind, same, flags);
        }
    }
}

static void test_byte_scales(void **state)
{
    (void)state;
    static const qz_dtype types[] = {QZ_E4M3, QZ_E8M0, QZ_I6, QZ_U6, QZ_I7};
    static uint8_t bytes[300];
    static float super[300], wanted[2][300], got[2][300];
    struct rng rng = rng_make(905);
    for (size_t repeat = 0; repeat < cases(3000, 200); repeat++) {
        qz_dtype type = types[repeat % COUNT(types)];
        size_t n = 1 + rng_below(&rng, 300), each = 1 + rng_below(&rng, 40);
        for (size_t i = 0; i < n; i++) {
            bytes[i] = (uint8_t)(type == QZ_U6 ? rng_below(&rng, 64) : rng_below(&rng, 256));
            super[i] = rng_below(&rng, 2) ? any_float(&rng) : any_magnitude(&rng);
            if (type == QZ_I6)
                bytes[i] = (uint8_t)((int)rng_below(&rng, 64) - 32);
        }
        memset(wanted, 0, sizeof wanted);
        memset(got, 0, sizeof got);
        qz_kernels_scalar.byte_scales(type, bytes, n, super, each, 5.0f, wanted[0], wanted[1]);
        for (size_t s = 0; s < set_count; s++) {
            sets[s]->byte_scales(type, bytes, n, super, each, 5.0f, got[0], got[1]);
            if (!same_floats(got[0], wanted[0], n) || !same_floats(got[1], wanted[1], n))
                fail_msg("byte_scales of %s: type %s", sets[s]->name, qz_dtype_name(type));
        }
    }
}

/* Rounding, tables with and without cells, two tables; every type of scales. */
static const struct {
    const char *scheme;
    qz_dtype dtype;
} searched[] = {
    {"int4", QZ_F16},  {"int4", QZ_BF16},    {"nf4", QZ_F32},  {"nf4", QZ_E8M0}, {"fp4", QZ_E4M3}, {"fp4", QZ_E8M0},
    {"iq4_nl", QZ_I6}, {"fp4_bnb", QZ_E4M3}, {"dual4", QZ_I7}, {NULL, QZ_F32},   {NULL, QZ_E4M3},
};

enum { SEARCH_RULES = COUNT(searched) };

static struct qz_search search_rule_number(size_t i, size_t n, size_t list)
{
    static const float table[16] = {3, -20, 0.5f, 7, 7, 1e-3f, -0.25f, -6, 1.5f, 12, -1, 0, 2, -0.0f, 30, -3};
    qz_scheme scheme = *qz_scheme_by_name(searched[i].scheme ? searched[i].scheme : "nf4");
    if (!searched[i].scheme) {
        scheme.codes = QZ_TABLE;
        scheme.table = table;
    }
    scheme.scale_dtype = searched[i].dtype;
    scheme.group_size = n;
    if (searched[i].dtype == QZ_I6) {
        scheme.super_dtype = QZ_F16;
        scheme.super_size = QZ_WHOLE_ROW;
    }
    struct qz_view view;
    struct qz_encoder encoder;
    qz_view_make(&view, &qz_kernels_scalar, &scheme, NULL, QZ_BLOCK, n, n);
    qz_encoder_make(&encoder, &view, &scheme, QZ_SEARCH, QZ_F32);
    return encoder.search[list];
}

/* Scales to begin with that need not suit the values: what is near a table's ends in one group is far beyond it in the
 * next. All lists of candidates, and all numbers of groups whose result is wanted. */
static void test_search_scale(void **state)
{
    (void)state;
    enum { LONGEST = 40 };
    static float v[QZ_BLOCK * LONGEST], w[QZ_BLOCK * LONGEST];
    struct rng rng = rng_make(906);
    for (size_t repeat = 0; repeat < cases(1500, 60); repeat++) {
        size_t n = 1 + rng_below(&rng, LONGEST);
        struct qz_search rule = search_rule_number(repeat % SEARCH_RULES, n, rng_below(&rng, QZ_CANDIDATE_LISTS));
        size_t lanes = rng_below(&rng, 2) ? QZ_BLOCK : 1 + rng_below(&rng, QZ_BLOCK);
        float unit[QZ_BLOCK], super[QZ_BLOCK], first[QZ_BLOCK], wanted[QZ_BLOCK], got[QZ_BLOCK];
        float other[QZ_BLOCK], largest[QZ_BLOCK];
        uint8_t second[QZ_BLOCK], same[QZ_BLOCK];
        struct qz_gains gains, same_gains;
        int32_t suspicion[QZ_BLOCK], same_suspicion[QZ_BLOCK];
        float low[QZ_BLOCK], spread[QZ_BLOCK], same_spread[QZ_BLOCK];
        for (size_t l = 0; l < QZ_BLOCK; l++) {
            unit[l] = power_of_two((int)rng_below(&rng, 252) - 126);
            super[l] = any_magnitude(&rng);
            first[l] = (rng_below(&rng, 2) ? 1.0f : -1.0f) * any_magnitude(&rng);
            if (rng_below(&rng, 4) == 0)
                first[l] = rng_normal(&rng);
            other[l] = any_magnitude(&rng);
            largest[l] = any_magnitude(&rng);
            low[l] = -any_magnitude(&rng);
        }
        for (size_t i = 0; i < n * QZ_BLOCK; i++) {
            float size = rng_below(&rng, 2) ? 1.0f : power_of_two(-(int)rng_below(&rng, 126));
            v[i] = rng_normal(&rng) * 0.15f * size;
            w[i] = rng_below(&rng, 4) ? (float)rng_below(&rng, 1000) * 0x1p-10f : 0.0f;
        }
        const float *weight = repeat / SEARCH_RULES % 2 ? w : NULL;
        memcpy(wanted, first, sizeof first);
        qz_kernels_scalar.search_scale(&rule, v, weight, n, lanes, unit, super, other, wanted, second, &gains);
        const struct qz_look look = {v, weight, n, low, largest};
        struct qz_symmetric_look more = {.uniform = rule.uniform,
                                         .has_tiny = (int)rng_below(&rng, 2),
                                         .least_spread = 2.5f,
                                         .scale = wanted,
                                         .unit = unit,
                                         .few_steps = 0x1p-18f,
                                         .super = rng_below(&rng, 2) ? super : NULL,
                                         .coarse = 4.0f,
                                         .end = 6.0f,
                                         .gains = &gains};
        int32_t any = qz_kernels_scalar.look_symmetric(&look, &more, suspicion, spread);
        for (size_t s = 0; s < set_count; s++) {
            memcpy(got, first, sizeof first);
            sets[s]->search_scale(&rule, v, weight, n, lanes, unit, super, other, got, same, &same_gains);
            int32_t same_any = sets[s]->look_symmetric(&look, &more, same_suspicion, same_spread);
            if (!same_floats(got, wanted, lanes) || memcmp(same, second, lanes) != 0 ||
                !same_floats(same_gains.best, gains.best, lanes) ||
                !same_floats(same_gains.other, gains.other, lanes) ||
                !same_floats(same_gains.energy, gains.energy, lanes) ||
                memcmp(same_suspicion, suspicion, sizeof suspicion) != 0 ||
                !same_floats(same_spread, spread, QZ_BLOCK) || !same_any != !any)
                fail_msg("search_scale of %s: rule %zu, n %zu, %zu lanes", sets[s]->name, repeat % SEARCH_RULES, n,
                         lanes);
        }
    }
}

/* What is said of scales that were found, of any size, zeros of both signs among the numbers. */
static void test_found_scales(void **state)
{
    (void)state;
    enum { MOST = 40 };
    struct rng rng = rng_make(907);
    for (size_t repeat = 0; repeat < cases(3000, 300); repeat++) {
        const qz_zero kind = (qz_zero)rng_below(&rng, 4);
        const struct qz_grid grid = {.zero = kind, .lo = 0, .hi = 15};
        const int half = (int)rng_below(&rng, 2);
        size_t count = 1 + rng_below(&rng, MOST);
        float min[MOST], max[MOST], scale[MOST], zero[MOST], inverse[MOST], same_zero[MOST], same_inverse[MOST];
        int32_t special[MOST], same_special[MOST];
        for (size_t g = 0; g < count; g++) {
            float a = any_float(&rng), b = any_float(&rng);
            min[g] = a < b ? a : b;
            max[g] = a < b ? b : a;
            scale[g] = rng_below(&rng, 8) ? max[g] * 0x1p-4f * rng_normal(&rng) : (float)rng_below(&rng, 2) * -0.0f;
            zero[g] = rng_below(&rng, 2) ? -(float)rng_below(&rng, 16) : any_float(&rng);
            special[g] = (int32_t)rng_below(&rng, 128);
        }
        memcpy(same_zero, zero, sizeof zero);
        memcpy(same_special, special, sizeof special);
        unsigned flags = qz_kernels_scalar.flag_scales(half, kind, count, min, max, scale, zero, inverse);
        qz_kernels_scalar.note_codes(&grid, count, min, max, scale, zero, special);
        for (size_t s = 0; s < set_count; s++) {
            float got_zero[MOST];
            int32_t got_special[MOST];
            memcpy(got_zero, same_zero, sizeof got_zero);
            memcpy(got_special, same_special, sizeof got_special);
            unsigned got = sets[s]->flag_scales(half, kind, count, min, max, scale, got_zero, same_inverse);
            sets[s]->note_codes(&grid, count, min, max, scale, got_zero, got_special);
            if (got != flags || !same_floats(same_inverse, inverse, count) || !same_floats(got_zero, zero, count) ||
                memcmp(got_special, special, count * sizeof *special) != 0)
                fail_msg("found scales of %s: kind %d, %zu groups", sets[s]->name, (int)kind, count);
        }
    }
}

int main(void)
{
    start_program("test_kernels_range");
    choose_sets();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_group_codes),   cmocka_unit_test(test_group_codes_error),
        cmocka_unit_test(test_columns_codes), cmocka_unit_test(test_codes_f64),
        cmocka_unit_test(test_fit),           cmocka_unit_test(test_byte_scales),
        cmocka_unit_test(test_search_scale),  cmocka_unit_test(test_values_without_weight),
        cmocka_unit_test(test_found_scales),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
