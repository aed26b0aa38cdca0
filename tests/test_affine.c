/*
 * test_affine.c - the search for scale and zero: every set against scalar.c, bit for bit, and scalar.c against what the
 * search promises
 *
 * The promises are checked in double and without the tricks of the kernels: errors are sums of squared differences,
 * fits solve the two normal equations. QUANTIZE_KERNELS restricts the comparison to one set.
 */
#include "support/program.h"

#include "support/guard.h"
#include "support/sets.h"

#include "scales/affine_super.h"
#include "kernels/kernels.h"
#include "kernels/special.h"
#include "base/number.h"

#include <math.h>

enum { LONGEST = 2048, KINDS = QZ_AFFINE_MIN + 1 };

static struct guard v_guard, w_guard;

static const char *const kind_names[KINDS] = {"uint4", "float", "offset", "min"};
static const qz_dtype dtypes[] = {QZ_F32, QZ_F16, QZ_BF16};

/* ---- blocks -------------------------------------------------------------------------------------------------- */

/* Kinds of data besides those of random.h. */
enum { DATA_POSITIVE = DATA_KINDS, DATA_NEGATIVE, DATA_FAR, DATA_GRID, DATA_MIXED, BLOCK_DATA };

static int usable(int data) /* not those whose scales are so large or small that the search is not called */
{
    return data != DATA_BITS && data != DATA_SUBNORMAL && data != DATA_HUGE;
}

enum weighting { NO_WEIGHTS, SOME_WEIGHTS, FEW_WEIGHTS, LIGHT_OUTLIERS, WEIGHTINGS };

/* What goes into a kernel, in guarded memory, and comes out of it. */
struct block {
    enum qz_affine_kind kind;
    enum qz_affine_list list;
    qz_dtype dtype;
    size_t n;
    float *v, *w;
    float unit[QZ_BLOCK], scale[QZ_BLOCK], zero[QZ_BLOCK]; /* those of QZ_MINMAX */
    int has_rule;
    float rule_scale[QZ_BLOCK], rule_zero[QZ_BLOCK]; /* next to them */
};

static void fill_group(struct rng *rng, int data, float *x, size_t n)
{
    if (data == DATA_MIXED) {
        do
            data = (int)rng_below(rng, DATA_MIXED);
        while (!usable(data));
    }
    fill_floats(rng, data < DATA_KINDS ? (enum data_kind)data : DATA_NORMAL, x, n);
    float step = power_of_two((int)rng_below(rng, 20) - 10), base = (float)((int)rng_below(rng, 33) - 16);
    for (size_t i = 0; i < n; i++) {
        if (data == DATA_POSITIVE)
            x[i] = fabsf(x[i]) + 0.25f;
        else if (data == DATA_NEGATIVE)
            x[i] = -fabsf(x[i]) - 0.25f;
        else if (data == DATA_FAR)
            x[i] = 1e3f + (float)(rng_next(rng) & 0xffff) * 0x1p-16f;
        else if (data == DATA_GRID) /* values that 16 codes can give */
            x[i] = ((float)(rng_next(rng) & 15) + base) * step;
    }
}

static float stored_as(float x, qz_dtype dtype)
{
    return dtype == QZ_F16    ? qz_f32_from_f16(qz_f16_from_f32(x))
           : dtype == QZ_BF16 ? qz_f32_from_bf16(qz_bf16_from_f32(x))
                              : x;
}

static void fill_block(struct rng *rng, struct block *block, int data, enum weighting weighting)
{
    size_t n = block->n, bytes = QZ_BLOCK * n * sizeof(float);
    float x[LONGEST];
    block->v = guard_end(v_guard, bytes, 0);
    block->w = weighting == NO_WEIGHTS ? NULL : guard_end(w_guard, bytes, 0);
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        float min, max, inverse;
        fill_group(rng, data, x, n);
        min = max = x[0];
        for (size_t i = 0; i < n; i++) {
            min = x[i] < min ? x[i] : min;
            max = x[i] > max ? x[i] : max;
        }
        struct qz_fit rule = {.method = QZ_MINMAX,
                              .zero = block->kind == QZ_AFFINE_OFFSET ? QZ_ZERO_OFFSET : QZ_ZERO_UINT4,
                              .scale_dtype = block->dtype};
        qz_kernels_scalar.fit(&rule, 1, &min, &max, &block->scale[l], &inverse, &block->zero[l]);
        if (block->kind == QZ_AFFINE_FLOAT)
            block->zero[l] = stored_as((min < 0 ? -min : 0.0f) * inverse, block->dtype);
        int exponent = 0;
        if (min != 0 || max != 0)
            frexpf(fmaxf(-min, max), &exponent);
        block->unit[l] = power_of_two(exponent);
        block->scale[l] /= block->unit[l];
        if (block->kind == QZ_AFFINE_OFFSET)
            block->zero[l] /= block->unit[l];
        block->has_rule = block->kind != QZ_AFFINE_MIN && rng_below(rng, 2);
        block->rule_scale[l] = block->scale[l] * (1 + 0.01f * (float)rng_below(rng, 8));
        block->rule_zero[l] = rng_below(rng, 4) ? block->zero[l] : 1.0f;
        for (size_t i = 0; i < n; i++) {
            block->v[QZ_BLOCK * i + l] = x[i] / block->unit[l];
            float w = (float)(1 + rng_below(rng, 0xffffff)) * 0x1p-24f;
            if (weighting == FEW_WEIGHTS)
                w = rng_below(rng, 4) && i ? 0.0f : w * power_of_two(-(int)rng_below(rng, 20));
            if (weighting == LIGHT_OUTLIERS && fabsf(x[i]) == fmaxf(-min, max))
                w = 0x1p-14f;
            if (weighting != NO_WEIGHTS)
                block->w[QZ_BLOCK * i + l] = w;
        }
    }
}

struct result {
    float scale[QZ_BLOCK], zero[QZ_BLOCK];
    struct qz_affine_error error;
    float pairs[2][QZ_BLOCK]; /* errors of what was found and of the rule */
    int32_t special[QZ_BLOCK];
};

static enum qz_affine_list any_list(struct rng *rng)
{
    return (enum qz_affine_list)rng_below(rng, QZ_AFFINE_LATTICES + 1);
}

static void run(const struct qz_kernels *set, const struct block *block, struct result *result)
{
    memset(result, 0, sizeof *result);
    memcpy(result->scale, block->scale, sizeof result->scale);
    memcpy(result->zero, block->zero, sizeof result->zero);
    set->search_affine(block->kind, block->list, block->dtype, block->v, block->w, block->n, block->unit,
                       block->has_rule ? &(struct qz_affine_rule){block->rule_scale, block->rule_zero} : NULL,
                       result->scale, result->zero, &result->error);
    float low[QZ_BLOCK], high[QZ_BLOCK];
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        low[l] = high[l] = block->v[l];
        for (size_t i = 1; i < block->n; i++) {
            low[l] = fminf(low[l], block->v[QZ_BLOCK * i + l]);
            high[l] = fmaxf(high[l], block->v[QZ_BLOCK * i + l]);
        }
    }
    const struct qz_look look = {block->v, block->w, block->n, low, high};
    set->look_affine(&look, &result->error, block->kind == QZ_AFFINE_UINT4, result->special);
    const struct qz_affine_rule pairs[2] = {{result->scale, result->zero}, {block->rule_scale, block->rule_zero}};
    if (block->kind != QZ_AFFINE_MIN)
        set->pair_errors(block->kind, &look, pairs, result->pairs);
}

/* ---- sets ---------------------------------------------------------------------------------------------------- */

static void test_sets(void **state)
{
    (void)state;
    static const size_t long_ones[] = {128, 256, 257, 512, 513, 1000, 2048};
    struct rng rng = rng_make(1);
    size_t lengths = 70 + sizeof long_ones / sizeof long_ones[0], changed = 0;
    int32_t seen = 0, unseen = 0; /* what is special about some, and not about others */
    for (size_t i = 0; i < lengths; i++)
        for (int kind = 0; kind < KINDS; kind++)
            for (int data = 0; data < BLOCK_DATA; data++) {
                struct block block = {.kind = (enum qz_affine_kind)kind, .n = i < 70 ? i + 1 : long_ones[i - 70]};
                if (!usable(data) || left_out(&rng, block.n > 24 ? 6 : 1, block.n > 24 ? 20 : 2))
                    continue;
                for (int weighting = 0; weighting < WEIGHTINGS; weighting++)
                    for (size_t d = 0; d < (kind == QZ_AFFINE_MIN ? 1 : 3); d++) {
                        struct result wanted, got;
                        block.dtype = dtypes[d];
                        block.list = any_list(&rng);
                        fill_block(&rng, &block, data, (enum weighting)weighting);
                        run(&qz_kernels_scalar, &block, &wanted);
                        if (kind != QZ_AFFINE_MIN)
                            assert_memory_equal(wanted.pairs[0], wanted.error.curve, sizeof wanted.pairs[0]);
                        if (kind != QZ_AFFINE_MIN && block.has_rule)
                            assert_memory_equal(wanted.pairs[1], wanted.error.rule, sizeof wanted.pairs[1]);
                        changed += memcmp(wanted.scale, block.scale, sizeof wanted.scale) != 0;
                        for (size_t l = 0; l < QZ_BLOCK; l++) {
                            seen |= wanted.special[l];
                            unseen |= ~wanted.special[l];
                        }
                        for (size_t s = 0; s < set_count; s++) {
                            run(sets[s], &block, &got);
                            if (memcmp(&got, &wanted, sizeof got) != 0)
                                fail_msg("%s: kind %s, data %d, weights %d, type %d, groups of %zu differ",
                                         sets[s]->name, kind_names[kind], data, weighting, (int)block.dtype, block.n);
                        }
                    }
            }
    assert_true(changed > cases(1000, 500));
    const int32_t all = QZ_SPECIAL | QZ_SPECIAL_GRID | QZ_SPECIAL_REPEATED | QZ_SPECIAL_ENDS | QZ_SPECIAL_WAVE |
                        QZ_SPECIAL_SLOPES | QZ_SPECIAL_FAR_SLOPES | QZ_SPECIAL_WEIGHTS | QZ_SPECIAL_LATTICE;
    assert_int_equal(seen, all);
    assert_int_equal(unseen & all, all);
}

/* Lanes do not depend on each other: a block whose groups are moved round has moved results. */
static void test_lanes(void **state)
{
    (void)state;
    struct rng rng = rng_make(2);
    for (int kind = 0; kind < KINDS; kind++) {
        struct block block = {.kind = (enum qz_affine_kind)kind, .dtype = QZ_F16, .n = 33};
        struct result before, after;
        fill_block(&rng, &block, DATA_MIXED, SOME_WEIGHTS);
        run(&qz_kernels_scalar, &block, &before);
        struct block moved = block;
        float v[QZ_BLOCK * 33], w[QZ_BLOCK * 33];
        moved.v = v;
        moved.w = w;
        for (size_t l = 0; l < QZ_BLOCK; l++) {
            size_t from = (l + 5) % QZ_BLOCK;
            moved.unit[l] = block.unit[from];
            moved.scale[l] = block.scale[from];
            moved.zero[l] = block.zero[from];
            moved.rule_scale[l] = block.rule_scale[from];
            moved.rule_zero[l] = block.rule_zero[from];
            for (size_t i = 0; i < block.n; i++) {
                v[QZ_BLOCK * i + l] = block.v[QZ_BLOCK * i + from];
                w[QZ_BLOCK * i + l] = block.w[QZ_BLOCK * i + from];
            }
        }
        for (size_t s = 0; s < set_count; s++) {
            run(sets[s], &moved, &after);
            for (size_t l = 0; l < QZ_BLOCK; l++) {
                size_t from = (l + 5) % QZ_BLOCK;
                assert_int_equal(bits_of_float(before.scale[from]), bits_of_float(after.scale[l]));
                assert_int_equal(bits_of_float(before.zero[from]), bits_of_float(after.zero[l]));
                assert_int_equal(before.special[from], after.special[l]);
            }
        }
    }
}

/* Results do not depend on the powers of two by which values and weights were divided. */
static void test_units(void **state)
{
    (void)state;
    struct rng rng = rng_make(8);
    for (size_t i = 0; i < cases(400, 40); i++) {
        struct block block = {.kind = (enum qz_affine_kind)(i % KINDS),
                              .list = any_list(&rng),
                              .dtype = dtypes[rng_below(&rng, 3)],
                              .n = 1 + rng_below(&rng, 70)};
        int data = (int)rng_below(&rng, BLOCK_DATA);
        struct result before, after;
        if (!usable(data))
            continue;
        fill_block(&rng, &block, data, rng_below(&rng, 2) ? NO_WEIGHTS : SOME_WEIGHTS);
        run(&qz_kernels_scalar, &block, &before);
        float factor[QZ_BLOCK], weight_factor = power_of_two((int)rng_below(&rng, 61) - 30);
        for (size_t l = 0; l < QZ_BLOCK; l++) {
            factor[l] = power_of_two((int)rng_below(&rng, 61) - 30);
            block.unit[l] /= factor[l];
            block.scale[l] *= factor[l];
            if (block.kind == QZ_AFFINE_OFFSET)
                block.zero[l] *= factor[l];
            for (size_t k = 0; k < block.n; k++) {
                block.v[QZ_BLOCK * k + l] *= factor[l];
                if (block.w)
                    block.w[QZ_BLOCK * k + l] *= weight_factor;
            }
        }
        for (size_t s = 0; s < set_count; s++) {
            run(sets[s], &block, &after);
            for (size_t l = 0; l < QZ_BLOCK; l++) {
                float zero_factor = block.kind >= QZ_AFFINE_OFFSET ? factor[l] : 1.0f;
                if (!isfinite(before.scale[l])) /* the search is not called */
                    continue;
                if (after.scale[l] != before.scale[l] * factor[l] || after.zero[l] != before.zero[l] * zero_factor)
                    fail_msg("%s: kind %s, data %d, %zu values: scale %a zero %a by a factor of %a: %a %a",
                             sets[s]->name, kind_names[block.kind], data, block.n, (double)before.scale[l],
                             (double)before.zero[l], (double)factor[l], (double)after.scale[l], (double)after.zero[l]);
            }
        }
    }
}

static float unit_random(struct rng *rng)
{
    return (float)rng_below(rng, 1 << 16) * 0x1p-16f;
}

/* What is special about values of each kind is noted: a lane has one kind. */
static void test_special(void **state)
{
    (void)state;
    enum { N = 64, KINDS_OF_VALUES = 6 };
    static const int32_t wanted[KINDS_OF_VALUES] = {
        0, QZ_SPECIAL_WAVE, QZ_SPECIAL_ENDS, QZ_SPECIAL_GRID, QZ_SPECIAL_REPEATED, QZ_SPECIAL_SLOPES};
    struct rng rng = rng_make(17);
    struct block block = {.kind = QZ_AFFINE_OFFSET, .dtype = QZ_F32, .n = N};
    size_t noted[KINDS_OF_VALUES] = {0}, times = cases(2000, 200);
    for (size_t repeat = 0; repeat < times; repeat++) {
        struct result result;
        fill_block(&rng, &block, DATA_NORMAL, NO_WEIGHTS);
        const double pace = 0.6 + (double)unit_random(&rng);
        for (size_t i = 0; i < N; i++) {
            float *v = block.v + QZ_BLOCK * i;
            v[1] = (float)sin(pace * (double)i + 1);
            v[2] = rng_below(&rng, 2) ? 0.9f + 0.1f * unit_random(&rng) : -0.9f - 0.1f * unit_random(&rng);
            v[3] = ((float)rng_below(&rng, 12) + 0.25f) * 0.125f;
            v[4] = i % 2 ? 0.3f : unit_random(&rng);
            v[5] = fabsf((float)(i % 9) - 4.0f) * 0.77f + unit_random(&rng) * 0x1p-12f;
        }
        run(&qz_kernels_scalar, &block, &result);
        for (int k = 0; k < KINDS_OF_VALUES; k++)
            noted[k] += k ? (result.special[k] & wanted[k]) != 0
                          : (result.special[k] & (QZ_SPECIAL | QZ_SPECIAL_WAVE | QZ_SPECIAL_ENDS)) == 0;
    }
    for (int k = 0; k < KINDS_OF_VALUES; k++)
        if (noted[k] * 10 < times * 9)
            fail_msg("kind %d: noted %zu times of %zu", k, noted[k], times);
}

/* ---- promises ------------------------------------------------------------------------------------------------ */

/* A group of a block in double. */
struct group {
    enum qz_affine_kind kind;
    enum qz_affine_list list;
    size_t n;
    double x[LONGEST], w[LONGEST];
    double total, mean, lo, hi, spread; /* spread: the error of a constant, or of zeros for QZ_AFFINE_UINT4 */
};

static void get_group(const struct block *block, size_t l, struct group *g)
{
    g->kind = block->kind;
    g->list = block->list;
    g->n = block->n;
    g->total = g->mean = g->spread = 0;
    g->lo = g->hi = (double)block->v[l];
    for (size_t i = 0; i < g->n; i++) {
        g->x[i] = (double)block->v[QZ_BLOCK * i + l];
        g->w[i] = block->w ? (double)block->w[QZ_BLOCK * i + l] : 1;
        g->total += g->w[i];
        g->mean += g->w[i] * g->x[i];
        g->lo = fmin(g->lo, g->x[i]);
        g->hi = fmax(g->hi, g->x[i]);
    }
    g->mean /= g->total;
    for (size_t i = 0; i < g->n; i++) {
        double difference = g->x[i] - (g->kind == QZ_AFFINE_UINT4 ? 0 : g->mean);
        g->spread += g->w[i] * difference * difference;
    }
}

/* The error of a group whose codes are made as group_codes makes them. */
static double stored_error(const struct group *g, float scale, float zero)
{
    float inverse = scale != 0 ? 1 / scale : 0;
    double sum = 0;
    for (size_t i = 0; i < g->n; i++) {
        float x = (float)g->x[i], y = (g->kind >= QZ_AFFINE_OFFSET ? x - zero : x) * inverse;
        float code = g->kind == QZ_AFFINE_UINT4 ? rintf(y) + zero : rintf(g->kind == QZ_AFFINE_FLOAT ? y + zero : y);
        double q = fmin(fmax((double)code, 0), 15);
        double value =
            g->kind >= QZ_AFFINE_OFFSET ? (double)scale * q + (double)zero : (double)scale * (q - (double)zero);
        sum += g->w[i] * (g->x[i] - value) * (g->x[i] - value);
    }
    return sum;
}

/* What roundings to float32 can add to the root of an error: values are below 1. */
static double rounding(const struct group *g)
{
    return sqrt(g->total) * 0x1p-23;
}

/* A fit: x is about scale * q + offset. With QZ_AFFINE_UINT4 q goes from -zero, and offset is 0. Where a value was so
 * near to a boundary between codes that float32 may have put it on the other side, nothing is known about the fit. */
struct guess {
    double scale, offset, zero, error;
    int unsure;
};

/* Codes by one guess, and the least-squares fit with these codes. */
static struct guess refit(const struct group *g, struct guess guess)
{
    double q[LONGEST], sq = 0, sqq = 0, sxq = 0, least = g->kind == QZ_AFFINE_UINT4 ? -guess.zero : 0;
    struct guess fit = {0, 0, guess.zero, 0, 0};
    for (size_t i = 0; i < g->n; i++) {
        double y = (g->x[i] - guess.offset) / guess.scale;
        q[i] = fmin(fmax(rint(y), least), least + 15);
        fit.unsure |= fabs(fabs(y - q[i]) - 0.5) < 1e-5;
        sq += g->w[i] * q[i];
        sqq += g->w[i] * q[i] * q[i];
        sxq += g->w[i] * q[i] * g->x[i];
    }
    double vary = sqq - sq * sq / g->total;
    if (g->kind == QZ_AFFINE_UINT4) {
        fit.scale = sqq > 0 ? sxq / sqq : 0;
    } else {
        fit.scale = vary > 1e-5 * sqq ? (sxq - sq * g->mean) / vary : 0;
        fit.offset = g->mean - fit.scale * sq / g->total;
        if (g->kind == QZ_AFFINE_MIN && fit.offset > 0) {
            fit.offset = 0;
            fit.scale = sqq > 0 ? sxq / sqq : 0;
        }
    }
    for (size_t i = 0; i < g->n; i++) {
        double difference = g->x[i] - (fit.scale * q[i] + fit.offset);
        fit.error += g->w[i] * difference * difference;
    }
    return fit;
}

static double nearest_zero(double zero)
{
    return fmin(fmax(rint(zero), 0), 15);
}

/* A start, fitted. */
static struct guess start_of(const struct group *g, double lo, double hi, int i)
{
    struct qz_affine_begin share = qz_affine_start(g->kind, g->list, g->n, i);
    double low = lo + (double)share.low * (g->mean - lo), high = hi - (double)share.high * (hi - g->mean);
    struct guess guess = {(high - low) / (double)share.steps, low, 0, 0, 0};
    if (!(high > low))
        return (struct guess){0, 0, 0, g->spread, 1};
    if (g->kind == QZ_AFFINE_UINT4)
        guess = (struct guess){guess.scale, 0, nearest_zero(-low / guess.scale), 0, 0};
    int unsure = fabs(fabs(low / guess.scale - rint(low / guess.scale)) - 0.5) < 1e-5;
    guess = refit(g, guess);
    guess.unsure |= unsure;
    return guess;
}

/* The least error of all candidates that are sure. *sure is 0 where it is not known which start leads on, as with
 * QZ_AFFINE_ANYWHERE, which has many: then the moves are not among them; QZ_AFFINE_LATTICES has none. */
static double best_candidate(const struct group *g, int *sure)
{
    int from_zero = g->kind == QZ_AFFINE_UINT4 || g->kind == QZ_AFFINE_MIN;
    double lo = from_zero ? fmin(g->lo, 0) : g->lo, hi = g->kind == QZ_AFFINE_UINT4 ? fmax(g->hi, 0) : g->hi;
    struct guess start[QZ_AFFINE_STARTS], best;
    double least = g->spread;
    for (int i = 0; i < qz_affine_start_count(g->list); i++) {
        best = start_of(g, lo, hi, i);
        least = fmin(least, best.unsure ? least : best.error);
        start[i % QZ_AFFINE_STARTS] = best;
    }
    *sure = 0;
    if (g->list == QZ_AFFINE_ANYWHERE || g->list == QZ_AFFINE_LATTICES)
        return least;
    int same = fabs(start[0].scale - start[1].scale) <= 1e-9 * start[0].scale && start[0].zero == start[1].zero &&
               fabs(start[0].offset - start[1].offset) <= 1e-9 * start[0].scale;
    *sure = !start[0].unsure && !start[1].unsure && (same || fabs(start[0].error - start[1].error) > 1e-6 * g->spread);
    best = start[start[1].error < start[0].error];
    const struct qz_affine_move *moves = qz_affine_moves(g->kind, g->list, g->n);
    for (int i = 0; i < qz_affine_move_count(g->list) && *sure && best.scale > 0; i++) {
        double low = (double)moves[i].low, high = (double)moves[i].high;
        struct guess guess = best;
        if (g->kind == QZ_AFFINE_UINT4) {
            guess.scale *= (15 - low) / 15;
            guess.zero = nearest_zero(best.zero + high);
        } else {
            guess.offset += low * best.scale;
            guess.scale *= (15 - low - high) / 15;
            if (g->kind == QZ_AFFINE_MIN)
                guess.offset = fmin(guess.offset, 0);
        }
        guess = refit(g, guess);
        least = fmin(least, guess.unsure ? least : guess.error);
    }
    return least;
}

/* Results are numbers of their type, and no worse than what came in. */
static void test_never_worse(void **state)
{
    (void)state;
    static struct group g;
    struct rng rng = rng_make(3);
    for (size_t i = 0; i < cases(3000, 200); i++) {
        struct block block = {.kind = (enum qz_affine_kind)rng_below(&rng, QZ_AFFINE_MIN),
                              .list = any_list(&rng),
                              .dtype = dtypes[rng_below(&rng, 3)],
                              .n = 1 + rng_below(&rng, i % 64 ? 70 : LONGEST)};
        int data = (int)rng_below(&rng, BLOCK_DATA);
        struct result result;
        if (!usable(data))
            continue;
        fill_block(&rng, &block, data, (enum weighting)rng_below(&rng, WEIGHTINGS));
        run(&qz_kernels_scalar, &block, &result);
        for (size_t l = 0; l < QZ_BLOCK; l++) {
            float scale = result.scale[l] * block.unit[l], zero = result.zero[l];
            get_group(&block, l, &g);
            if (!isfinite(block.scale[l])) /* the search is not called */
                continue;
            double before = stored_error(&g, block.scale[l], block.zero[l]);
            double after = stored_error(&g, result.scale[l], result.zero[l]);
            if (!(sqrt(after) <= sqrt(before) * (1 + 1e-5) + rounding(&g)))
                fail_msg("kind %s, data %d, %zu values: error %g became %g", kind_names[block.kind], data, block.n,
                         before, after);
            if (data == DATA_GRID && before == 0)
                assert_true(after == 0);
            assert_true(scale == stored_as(scale, block.dtype));
            if (block.kind == QZ_AFFINE_UINT4)
                assert_true(zero >= 0 && zero <= 15 && zero == rintf(zero));
            else if (block.kind == QZ_AFFINE_FLOAT)
                assert_true(zero == stored_as(zero, block.dtype));
            else
                assert_true(zero * block.unit[l] == stored_as(zero * block.unit[l], block.dtype));
        }
    }
}

/* With float32 scales and zeros, which round nothing away, the result is as good as the best of the candidates. A zero
 * of QZ_AFFINE_FLOAT is rounded to a part of its size, so its groups must not be far from 0. */
static void test_best_candidate(void **state)
{
    (void)state;
    static const int datas[] = {DATA_NORMAL, DATA_OUTLIER, DATA_FAR, DATA_POSITIVE, DATA_NEGATIVE};
    static struct group g;
    struct rng rng = rng_make(4);
    size_t compared = 0, whole = 0;
    for (size_t i = 0; i < cases(2000, 150); i++) {
        struct block block = {.kind = (enum qz_affine_kind)(i % KINDS),
                              .list = any_list(&rng),
                              .dtype = QZ_F32,
                              .n = 2 + rng_below(&rng, i % 64 ? 70 : LONGEST - 1)};
        int data = datas[rng_below(&rng, sizeof datas / sizeof datas[0])];
        struct result result;
        if (data == DATA_FAR && block.kind == QZ_AFFINE_FLOAT)
            continue;
        static const enum weighting weightings[] = {NO_WEIGHTS, SOME_WEIGHTS, LIGHT_OUTLIERS};
        fill_block(&rng, &block, data, weightings[rng_below(&rng, 3)]);
        run(&qz_kernels_scalar, &block, &result);
        for (size_t l = 0; l < QZ_BLOCK; l++) {
            int sure;
            get_group(&block, l, &g);
            double wanted = best_candidate(&g, &sure), got = stored_error(&g, result.scale[l], result.zero[l]);
            if (!(sqrt(got) <= sqrt(wanted + 1e-5 * g.spread) + rounding(&g)))
                fail_msg("kind %s, data %d, %zu values: error %g, but a candidate has %g", kind_names[block.kind], data,
                         block.n, got, wanted);
            if (block.kind == QZ_AFFINE_MIN)
                assert_true(result.zero[l] <= 0 && result.scale[l] >= 0);
            compared += block.list != QZ_AFFINE_ANYWHERE && block.list != QZ_AFFINE_LATTICES;
            whole += (size_t)sure;
        }
    }
    assert_true(whole > compared * 9 / 10);
}

/* What the search is for: on normal data, how much of the error of minimum and maximum is left. */
static void test_gain(void **state)
{
    (void)state;
    static const struct {
        enum qz_affine_kind kind;
        size_t n;
        double most;
    } goals[] = {
        {QZ_AFFINE_OFFSET, 32, 0.79}, {QZ_AFFINE_OFFSET, 128, 0.85}, {QZ_AFFINE_FLOAT, 32, 0.80},
        {QZ_AFFINE_UINT4, 32, 0.92},  {QZ_AFFINE_UINT4, 128, 0.91},
    };
    static struct group g;
    struct rng rng = rng_make(5);
    for (size_t i = 0; i < sizeof goals / sizeof goals[0]; i++) {
        struct block block = {.kind = goals[i].kind, .dtype = QZ_F16, .n = goals[i].n};
        double before = 0, after = 0;
        for (size_t k = 0; k < 60; k++) {
            struct result result;
            fill_block(&rng, &block, DATA_NORMAL, NO_WEIGHTS);
            run(&qz_kernels_scalar, &block, &result);
            for (size_t l = 0; l < QZ_BLOCK; l++) {
                double square = (double)block.unit[l] * (double)block.unit[l];
                get_group(&block, l, &g);
                before += square * stored_error(&g, block.scale[l], block.zero[l]);
                after += square * stored_error(&g, result.scale[l], result.zero[l]);
            }
        }
        if (!(after <= before * goals[i].most))
            fail_msg("kind %s, groups of %zu: %.3f of the error is left", kind_names[block.kind], block.n,
                     after / before);
    }
}

/* The error around the fit of QZ_AFFINE_MIN grows as the kernel says it does. What it says is for the codes that led to
 * the fit, which can be had only if the fit leads to them again; the sum of their squares tells. */
static void test_error_growth(void **state)
{
    (void)state;
    static struct group g;
    struct rng rng = rng_make(6);
    size_t same = 0, all = 0;
    for (size_t i = 0; i < cases(200, 20); i++) {
        struct block block = {.kind = QZ_AFFINE_MIN, .dtype = QZ_F32, .n = 32};
        struct result result;
        fill_block(&rng, &block, DATA_NORMAL, i % 2 ? SOME_WEIGHTS : NO_WEIGHTS);
        run(&qz_kernels_scalar, &block, &result);
        for (size_t l = 0; l < QZ_BLOCK; l++, all++) {
            double scale = (double)result.scale[l], offset = (double)result.zero[l], e0 = 0, e1 = 0, sqq = 0;
            double curve = (double)result.error.curve[l], slope = (double)result.error.slope[l];
            double rest = (double)result.error.rest[l], more = scale * 0.02, lower = scale * 0.5;
            get_group(&block, l, &g);
            for (size_t k = 0; k < g.n; k++) {
                double q = fmin(fmax(rint((g.x[k] - offset) / scale), 0), 15);
                e0 += g.w[k] * pow(g.x[k] - (scale * q + offset), 2);
                e1 += g.w[k] * pow(g.x[k] - ((scale + more) * q + offset - lower), 2);
                sqq += g.w[k] * q * q;
            }
            if (!(offset < 0) || fabs(sqq - curve) > 1e-6 * curve)
                continue;
            same++;
            double grown = curve * pow(more - slope * lower, 2) + rest * lower * lower;
            assert_true(fabs(e1 - e0 - grown) <= 1e-4 * (e1 + e0));
        }
    }
    assert_true(same > all / 2);
}

/* ---- super blocks -------------------------------------------------------------------------------------------- */

static double super_error(size_t groups, const float *scale, const float *minimum, const float *curve,
                          const float *slope, const float *rest, const float super[2], const uint8_t *sc,
                          const uint8_t *mn)
{
    double sum = 0;
    for (size_t g = 0; g < groups; g++) {
        double d = (double)super[1] * mn[g] - (double)minimum[g];
        double s = (double)super[0] * sc[g] - (double)scale[g] - (double)slope[g] * d;
        sum += (double)curve[g] * s * s + (double)rest[g] * d * d;
    }
    return sum;
}

static void test_super(void **state)
{
    (void)state;
    enum { MOST = 24 };
    struct rng rng = rng_make(7);
    double searched = 0, plain = 0;
    for (size_t i = 0; i < cases(20000, 1000); i++) {
        size_t groups = 8 * (1 + rng_below(&rng, 3)), used = groups - rng_below(&rng, 8);
        float scale[MOST] = {0}, minimum[MOST] = {0}, curve[MOST] = {0}, slope[MOST] = {0}, rest[MOST] = {0};
        float super[2], again[2], size = power_of_two((int)rng_below(&rng, 20) - 12);
        uint8_t sc[MOST], mn[MOST], sc2[MOST], mn2[MOST];
        for (size_t g = 0; g < used; g++) {
            scale[g] = size * (1 + 0.3f * rng_normal(&rng));
            scale[g] = scale[g] > 0 && rng_below(&rng, 20) ? scale[g] : 0;
            minimum[g] = rng_below(&rng, 20) ? size * fabsf(7 + 2 * rng_normal(&rng)) : 0;
            curve[g] = 2000 + 300 * rng_normal(&rng);
            slope[g] = 0.1f;
            rest[g] = 8;
        }
        qz_affine_super(groups, scale, minimum, curve, slope, rest, super, sc, mn);
        for (size_t g = 0; g < groups; g++)
            assert_true(sc[g] <= 63 && mn[g] <= 63);
        for (size_t g = used; g < groups; g++)
            assert_true(sc[g] == 0 && mn[g] == 0);
        assert_true(super[0] >= 0 && super[0] == stored_as(super[0], QZ_F16));
        assert_true(super[1] >= 0 && super[1] == stored_as(super[1], QZ_F16));
        double error = super_error(groups, scale, minimum, curve, slope, rest, super, sc, mn);

        /* The largest becomes 63 and all are rounded to nearest: never better. */
        float most[2] = {0, 0};
        for (size_t g = 0; g < used; g++) {
            most[0] = fmaxf(most[0], scale[g]);
            most[1] = fmaxf(most[1], minimum[g]);
        }
        for (int k = 0; k < 2; k++)
            again[k] = stored_as(most[k] / 63, QZ_F16);
        for (size_t g = 0; g < groups; g++) {
            sc2[g] = (uint8_t)(again[0] > 0 ? fminf(rintf(scale[g] / again[0]), 63) : 0);
            mn2[g] = (uint8_t)(again[1] > 0 ? fminf(rintf(minimum[g] / again[1]), 63) : 0);
        }
        double nearest = super_error(groups, scale, minimum, curve, slope, rest, again, sc2, mn2);
        assert_true(error <= nearest * (1 + 1e-4));
        searched += error / (double)(size * size);
        plain += nearest / (double)(size * size);

        /* Each scale is the best for its minimum. */
        for (size_t g = 0; g < used; g++)
            for (int step = -1; step <= 1; step += 2) {
                memcpy(sc2, sc, sizeof sc);
                if (sc[g] + step < 0 || sc[g] + step > 63)
                    continue;
                sc2[g] = (uint8_t)(sc[g] + step);
                assert_true(super_error(groups, scale, minimum, curve, slope, rest, super, sc2, mn) >=
                            error * (1 - 1e-4));
            }
    }
    assert_true(searched < plain * 0.6);

    /* Nothing, and what float16 cannot hold. */
    float none[8] = {0}, huge[8] = {1e8f, 1e7f}, super[2];
    uint8_t sc[8], mn[8];
    qz_affine_super(8, none, none, none, none, none, super, sc, mn);
    assert_true(super[0] == 0 && super[1] == 0 && sc[0] == 0 && mn[7] == 0);
    qz_affine_super(8, huge, huge, none, none, none, super, sc, mn);
    assert_true(super[0] == 65504 && super[1] == 65504 && sc[0] == 63 && mn[0] == 63 && sc[2] == 0);
}

int main(void)
{
    start_program("test_affine");
    choose_sets();
    v_guard = guard_make(QZ_BLOCK * LONGEST * sizeof(float));
    w_guard = guard_make(QZ_BLOCK * LONGEST * sizeof(float));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sets),         cmocka_unit_test(test_lanes),          cmocka_unit_test(test_units),
        cmocka_unit_test(test_never_worse),  cmocka_unit_test(test_best_candidate), cmocka_unit_test(test_gain),
        cmocka_unit_test(test_error_growth), cmocka_unit_test(test_super),          cmocka_unit_test(test_special),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
