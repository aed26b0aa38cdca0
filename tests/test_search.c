/*
 * test_search.c - the search for scales: every set against scalar.c, bit for bit, and scalar.c against what the search
 * promises
 *
 * The promises are checked in double, by trying all values for every element and all numbers of a type for every scale.
 * QUANTIZE_KERNELS restricts the comparison to one set.
 */
#include "support/program.h"

#include "support/guard.h"
#include "support/sets.h"

#include "scales/encoder.h"
#include "kernels/special.h"
#include "base/float8.h"

#include <float.h>
#include <math.h>

enum { LONGEST = 2048 };

static struct guard v_guard, w_guard;

/* ---- blocks -------------------------------------------------------------------------------------------------- */

/* Every kind of values with every type of scales that goes with it; `positive` as in a scheme. */
static const float caller_table[16] = {3, -20, 0.5f, 7, 7, 1e-3f, -0.25f, -6, 1.5f, 12, -1, 0, 2, -0.0f, 30, -3};

static const struct {
    const char *scheme;
    qz_dtype dtype; /* 0: the scheme's */
    int positive;
} rules[] = {
    {"int4", QZ_F16, 0},    {"int4", QZ_F32, 0}, {"int4", QZ_BF16, 0}, {"int4", QZ_F16, 1},
    {"int4", QZ_I6, 0},     {"nf4", QZ_F16, 0},  {"nf4", QZ_F32, 1},   {"fp4", QZ_F16, 0},
    {"fp4_bnb", QZ_F32, 0}, {"mxfp4", 0, 0},     {"nvfp4", 0, 0},      {"iq4_nl", QZ_F16, 0},
    {"iq4_xs", 0, 0},       {"dual4", 0, 0},     {NULL, QZ_F16, 0},    {NULL, QZ_BF16, 1},
};

enum { RULES = sizeof rules / sizeof rules[0], NO_WEIGHTS = 0, SOME_WEIGHTS, FEW_WEIGHTS, WEIGHTINGS };

struct block {
    struct qz_view view;
    struct qz_encoder encoder;
    struct qz_search rule;
    size_t n;
    float *v, *w;
    float unit[QZ_BLOCK], super[QZ_BLOCK], scale[QZ_BLOCK], other[QZ_BLOCK], largest[QZ_BLOCK];
};

static void make_encoder(struct block *block, size_t i, size_t n)
{
    qz_scheme scheme = *qz_scheme_by_name(rules[i].scheme ? rules[i].scheme : "nf4");
    if (!rules[i].scheme) {
        scheme.codes = QZ_TABLE;
        scheme.table = caller_table;
    }
    if (rules[i].dtype)
        scheme.scale_dtype = rules[i].dtype;
    if (rules[i].dtype == QZ_I6) {
        scheme.super_dtype = QZ_F16;
        scheme.super_size = QZ_WHOLE_ROW;
    }
    scheme.positive |= rules[i].positive;
    scheme.group_size = n;
    qz_view_make(&block->view, &qz_kernels_scalar, &scheme, NULL, QZ_BLOCK, n, n);
    qz_encoder_make(&block->encoder, &block->view, &scheme, QZ_SEARCH, QZ_F32);
}

static int needs_super(qz_dtype dtype)
{
    return dtype == QZ_E4M3 || dtype == QZ_I6 || dtype == QZ_I7;
}

/* Groups with a scale that a search may begin with: not tiny, not huge. Units are 1 or what makes the largest magnitude
 * 0.5 to 1. */
static void fill_block(struct rng *rng, struct block *block, size_t rule, int data, int weighting)
{
    size_t n = block->n, bytes = QZ_BLOCK * n * sizeof(float);
    float x[LONGEST], largest = 0;
    make_encoder(block, rule, n);
    block->rule = block->encoder.search[rng_below(rng, QZ_CANDIDATE_LISTS)];
    block->v = guard_end(v_guard, bytes, 0);
    block->w = weighting == NO_WEIGHTS ? NULL : guard_end(w_guard, bytes, 0);
    int normalise = (int)rng_below(rng, 2), kind = data;
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        while (data == DATA_KINDS) { /* another kind in each lane */
            kind = (int)rng_below(rng, DATA_KINDS);
            if (kind != DATA_BITS && kind != DATA_SUBNORMAL && kind != DATA_HUGE)
                break;
        }
        fill_floats(rng, (enum data_kind)kind, x, n);
        float min = x[0], max = x[0], inverse, zero;
        for (size_t i = 0; i < n; i++) {
            min = x[i] < min ? x[i] : min;
            max = x[i] > max ? x[i] : max;
        }
        struct qz_fit fit = block->encoder.fit;
        fit.scale_dtype = QZ_F32;
        qz_kernels_scalar.fit(&fit, 1, &min, &max, &block->scale[l], &inverse, &zero);
        int exponent = 0;
        if (normalise && (min != 0 || max != 0))
            frexpf(fmaxf(-min, max), &exponent);
        block->unit[l] = power_of_two(exponent);
        block->scale[l] /= block->unit[l];
        largest = fmaxf(largest, fabsf(block->scale[l]) * block->unit[l]);
        for (size_t i = 0; i < n; i++) {
            block->v[QZ_BLOCK * i + l] = x[i] / block->unit[l];
            float w = (float)(1 + rng_below(rng, 0xffffff)) * 0x1p-24f;
            if (weighting == FEW_WEIGHTS)
                w = rng_below(rng, 4) && i ? 0.0f : w * power_of_two(-(int)rng_below(rng, 20));
            if (weighting != NO_WEIGHTS)
                block->w[QZ_BLOCK * i + l] = w;
        }
    }
    /* A super scale that serves the largest, or now and then none, or one that clips. */
    static const float top[] = {25, 31, 50, 200, 12};
    float super = largest / top[rng_below(rng, 5)];
    for (size_t l = 0; l < QZ_BLOCK; l++)
        block->super[l] = rng_below(rng, 40) ? super / block->unit[l] : 0.0f;
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        block->other[l] = block->scale[l] * (8.0f / 7.0f);
        block->largest[l] = 0.0f;
        for (size_t i = 0; i < block->n; i++)
            block->largest[l] = fmaxf(block->largest[l], fabsf(block->v[QZ_BLOCK * i + l]));
    }
}

struct result {
    float scale[QZ_BLOCK];
    uint8_t second[QZ_BLOCK];
    struct qz_gains gains;
    int32_t any, suspicion[QZ_BLOCK];
    float spread[QZ_BLOCK];
};

static void run(const struct qz_kernels *set, const struct block *block, struct result *result)
{
    memset(result, 0xa5, sizeof *result);
    memcpy(result->scale, block->scale, sizeof result->scale);
    set->search_scale(&block->rule, block->v, block->w, block->n, QZ_BLOCK, block->unit,
                      needs_super(block->rule.scale_dtype) ? block->super : NULL,
                      block->rule.as_stored > 1 ? block->other : NULL, result->scale, result->second, &result->gains);
    float low[QZ_BLOCK], high[QZ_BLOCK];
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        low[l] = block->largest[l] * -0x1p-5f;
        high[l] = block->largest[l];
    }
    const struct qz_look look = {block->v, block->w, block->n, low, high};
    const struct qz_symmetric_look more = {
        .uniform = block->rule.uniform,
        .has_tiny = !block->rule.uniform,
        .least_spread = 2.5f,
        .scale = result->scale,
        .unit = block->unit,
        .few_steps = block->rule.scale_dtype == QZ_F16 ? 0x1p-18f : 0.0f,
        .super = needs_super(block->rule.scale_dtype) ? block->super : NULL,
        .coarse = 4.0f,
        .end = -8.0f,
        .gains = &result->gains,
    };
    result->any = set->look_symmetric(&look, &more, result->suspicion, result->spread) != 0;
}

/* ---- sets ---------------------------------------------------------------------------------------------------- */

static void test_sets(void **state)
{
    (void)state;
    static const size_t long_ones[] = {128, 256, 257, 512, 1000, 2048};
    struct rng rng = rng_make(1);
    size_t lengths = 70 + sizeof long_ones / sizeof long_ones[0], seconds = 0, changed = 0;
    int32_t seen = 0, unseen = 0; /* what some are suspected of, and others are not */
    for (size_t i = 0; i < lengths; i++)
        for (size_t rule = 0; rule < RULES; rule++)
            for (int data = 0; data <= DATA_KINDS; data++) {
                struct block block = {.n = i < 70 ? i + 1 : long_ones[i - 70]};
                if (data == DATA_BITS || data == DATA_SUBNORMAL || data == DATA_HUGE ||
                    left_out(&rng, block.n > 36 ? 8 : 2, block.n > 36 ? 30 : 3))
                    continue;
                for (int weighting = 0; weighting < WEIGHTINGS; weighting++) {
                    struct result wanted, got;
                    fill_block(&rng, &block, rule, data, weighting);
                    run(&qz_kernels_scalar, &block, &wanted);
                    for (size_t l = 0; l < QZ_BLOCK; l++) {
                        seconds += wanted.second[l];
                        changed += wanted.scale[l] != block.scale[l];
                        seen |= wanted.suspicion[l];
                        unseen |= ~wanted.suspicion[l];
                    }
                    for (size_t s = 0; s < set_count; s++) {
                        run(sets[s], &block, &got);
                        if (memcmp(&got, &wanted, sizeof got) != 0)
                            fail_msg("%s: rule %zu, data %d, weights %d, groups of %zu differ", sets[s]->name, rule,
                                     data, weighting, block.n);
                    }
                }
            }
    assert_true(seconds > cases(500, 300) && changed > cases(50000, 30000));
    const int32_t all = QZ_SUSPECT_VALUES | QZ_SUSPECT_CLOSE | QZ_SUSPECT_WIDE | QZ_SUSPECT_EXACT | QZ_SUSPECT_LARGE |
                        QZ_SUSPECT_COARSE | QZ_SUSPECT_LATTICE;
    assert_int_equal(seen, all);
    assert_int_equal(unseen & all, all);
}

/* Groups laid side by side, of every length and with nothing beyond them. */
static void test_lay(void **state)
{
    (void)state;
    struct rng rng = rng_make(12);
    for (size_t n = 1; n <= 520; n += n < 140 ? 1 : 127) {
        size_t bytes = QZ_BLOCK * n * sizeof(float);
        float *x = guard_end(v_guard, bytes, 0), *to = guard_end(w_guard, bytes, 0);
        fill_floats(&rng, DATA_NORMAL, x, QZ_BLOCK * n);
        for (size_t s = 0; s < set_count; s++) {
            memset(to, 0xa5, bytes);
            sets[s]->interleave(x, n, to);
            for (size_t i = 0; i < QZ_BLOCK * n; i++)
                if (to[QZ_BLOCK * (i % n) + i / n] != x[i])
                    fail_msg("%s: element %zu of groups of %zu", sets[s]->name, i, n);
        }
    }
}

/* Lanes do not depend on each other: a block whose groups are moved round has moved results. */
static void test_lanes(void **state)
{
    (void)state;
    struct rng rng = rng_make(2);
    for (size_t rule = 0; rule < RULES; rule++) {
        struct block block = {.n = 33};
        struct result before, after;
        fill_block(&rng, &block, rule, DATA_KINDS, SOME_WEIGHTS);
        run(&qz_kernels_scalar, &block, &before);
        struct block moved = block;
        float v[QZ_BLOCK * 33], w[QZ_BLOCK * 33];
        moved.v = v;
        moved.w = w;
        for (size_t l = 0; l < QZ_BLOCK; l++) {
            size_t from = (l + 5) % QZ_BLOCK;
            moved.unit[l] = block.unit[from];
            moved.super[l] = block.super[from];
            moved.scale[l] = block.scale[from];
            moved.other[l] = block.other[from];
            moved.largest[l] = block.largest[from];
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
                assert_int_equal(before.second[from], after.second[l]);
                assert_int_equal(before.suspicion[from], after.suspicion[l]);
                assert_int_equal(bits_of_float(before.spread[from]), bits_of_float(after.spread[l]));
                assert_int_equal(bits_of_float(before.gains.best[from]), bits_of_float(after.gains.best[l]));
                assert_int_equal(bits_of_float(before.gains.energy[from]), bits_of_float(after.gains.energy[l]));
            }
        }
    }
}

/* Nor does what is in a lane depend on what is in the others, some of which go up by even steps, and down. */
static void test_other_lanes(void **state)
{
    (void)state;
    enum { LANE = 3, MOST = 40 };
    static float v[QZ_BLOCK * MOST], w[QZ_BLOCK * MOST];
    struct rng rng = rng_make(4);
    for (size_t repeat = 0; repeat < cases(20000, 4000); repeat++) {
        struct block block = {.n = 1 + rng_below(&rng, repeat % 2 ? MOST : 16)};
        struct result one, other;
        const int data = (int)rng_below(&rng, 2) ? DATA_NORMAL : DATA_BF16;
        const int weighting = repeat % 3 ? NO_WEIGHTS : SOME_WEIGHTS;
        fill_block(&rng, &block, repeat % RULES, data, weighting);
        run(&qz_kernels_scalar, &block, &one);
        struct block others = block;
        memcpy(v, block.v, QZ_BLOCK * block.n * sizeof *v);
        if (block.w)
            memcpy(w, block.w, QZ_BLOCK * block.n * sizeof *w);
        others.v = v;
        others.w = block.w ? w : NULL;
        for (size_t l = 0; l < QZ_BLOCK; l++)
            for (size_t i = 0; i < block.n && l != LANE; i++)
                v[QZ_BLOCK * i + l] = (fabsf((float)((i + l) % 9) - 4.0f) - 1.0f) * 0.25f * block.largest[l];
        run(&qz_kernels_scalar, &others, &other);
        assert_int_equal(bits_of_float(one.scale[LANE]), bits_of_float(other.scale[LANE]));
        assert_int_equal(bits_of_float(one.spread[LANE]), bits_of_float(other.spread[LANE]));
        assert_int_equal(one.suspicion[LANE], other.suspicion[LANE]);
    }
}

/* ---- promises ------------------------------------------------------------------------------------------------ */

/* The number of a type that is nearest, by trying all; where two are, the even one, which has an even place. */
static double nearest_of(const double *numbers, size_t count, double x)
{
    size_t best = 0;
    for (size_t i = 1; i < count; i++) {
        double here = fabs(x - numbers[i]), there = fabs(x - numbers[best]);
        if (here < there || (here == there && i % 2 == 0))
            best = i;
    }
    return numbers[best];
}

/* A scale as it is stored, all divided by unit. */
static double stored_as(double s, qz_dtype dtype, double unit, double super)
{
    static double e4m3[127];
    static size_t filled;
    for (; filled < 127; filled++)
        e4m3[filled] = (double)qz_f32_from_f8(QZ_E4M3, (uint8_t)filled);
    double multiple = super != 0 ? s / super : 0;
    switch (dtype) {
    case QZ_F16:
        return (double)qz_f32_from_f16(qz_f16_from_f32((float)(s * unit))) / unit;
    case QZ_BF16:
        return (double)qz_f32_from_bf16(qz_bf16_from_f32((float)(s * unit))) / unit;
    case QZ_E4M3:
        return copysign(nearest_of(e4m3, 127, fabs(multiple)), multiple) * super;
    case QZ_E8M0:
        return s > 0 ? exp2(rint(log2(s * unit))) / unit : 0;
    case QZ_I6:
        return fmin(fmax(rint(multiple), -32), 31) * super;
    case QZ_I7:
        return fmin(fmax(rint(multiple), -64), 63) * super;
    default:
        return (double)(float)s;
    }
}

/* The sums of one candidate, as 1 / scale is near to `inverse`. */
static void sums_of(const struct block *block, size_t lane, int set, double inverse, double *xq, double *qq)
{
    const struct qz_search *rule = &block->rule;
    *xq = *qq = 0;
    for (size_t k = 0; k < block->n; k++) {
        double x = (double)block->v[QZ_BLOCK * k + lane], y = x * inverse, q = 0;
        double w = block->w ? (double)block->w[QZ_BLOCK * k + lane] : 1;
        double nearest = INFINITY;
        for (int i = 0; i < 16; i++) {
            double value = rule->uniform ? fmin((double)rule->lo + i, (double)rule->hi) : (double)rule->value[set][i];
            if (fabs(y - value) < nearest) {
                nearest = fabs(y - value);
                q = value;
            }
        }
        *xq += w * x * q;
        *qq += w * q * q;
    }
}

/* No candidate gains more than the result does, which is a scale as stored. */
static void test_best_candidate(void **state)
{
    (void)state;
    struct rng rng = rng_make(3);
    size_t gained = 0;
    for (size_t i = 0; i < cases(600, 60); i++) {
        struct block block = {.n = 1 + rng_below(&rng, i % 20 ? 80 : 600)};
        struct result result;
        static const int data[] = {DATA_NORMAL, DATA_OUTLIER, DATA_NORMAL, DATA_TINY};
        fill_block(&rng, &block, i % RULES, data[i / RULES % 4], (int)(i / RULES / 4 % WEIGHTINGS));
        const struct qz_search *rule = &block.rule;
        run(&qz_kernels_scalar, &block, &result);
        for (size_t l = 0; l < QZ_BLOCK; l++) {
            double unit = (double)block.unit[l], first = (double)block.scale[l], found = (double)result.scale[l];
            double super = needs_super(rule->scale_dtype) ? (double)block.super[l] : 0;
            double most = 0, gain = 0;
            for (size_t c = 0; c < rule->count; c++) {
                int set = c >= rule->first;
                double s = first / (double)rule->factor[c], xq, qq;
                if (c < rule->as_stored)
                    s = c == 0 ? first : (double)block.other[l];
                if (!rule->refit || c < rule->as_stored)
                    s = stored_as(s, rule->scale_dtype, unit, super);
                sums_of(&block, l, set, s != 0 ? 1 / s : 0, &xq, &qq);
                if (rule->refit)
                    s = stored_as(qq > 0 ? xq / qq : 0, rule->scale_dtype, unit, super);
                if (s > 0 || !rule->positive)
                    most = fmax(most, 2 * s * xq - s * s * qq);
                if (set == result.second[l])
                    gain = fmax(gain, 2 * found * xq - found * found * qq);
            }
            assert_true(gain >= most * (1 - 1e-5));
            assert_true(!rule->positive || found >= 0);
            double again = stored_as(found, rule->scale_dtype, unit, super);
            assert_true(fabs(again - found) <= 1e-7 * fabs(found));
            gained += gain > 0;
        }
    }
    assert_true(gained > cases(600, 60) * QZ_BLOCK * 9 / 10);
}

/* Without candidates the first scale comes back, as stored. All numbers of the narrow types and what is between them.
 */
static void check_stored(qz_dtype dtype, float x, float unit, float super)
{
    const struct qz_scale_type *type = qz_scale_type_of(dtype);
    struct block block = {.rule = {.scale_dtype = dtype, .least = type->least, .most = type->most}, .n = 1};
    struct result result;
    float v[QZ_BLOCK] = {0};
    block.v = v;
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        block.scale[l] = x / unit;
        block.unit[l] = unit;
        block.super[l] = super / unit;
    }
    float wanted = (float)stored_as((double)(x / unit), dtype, (double)unit, (double)(super / unit));
    for (size_t s = 0; s < set_count; s++) {
        run(sets[s], &block, &result);
        for (size_t l = 0; l < QZ_BLOCK; l++)
            if (result.scale[l] != wanted || result.second[l] != 0)
                fail_msg("%s: %a as type %d is %a, not %a", sets[s]->name, (double)x, (int)dtype,
                         (double)result.scale[l], (double)wanted);
    }
}

static void test_stored(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 0x7c00; i += short_mode ? 37 : 1) {
        float x = qz_f32_from_f16((uint16_t)i), next = i + 1 < 0x7c00 ? qz_f32_from_f16((uint16_t)(i + 1)) : 65520.0f;
        check_stored(QZ_F16, -x, 1, 0);
        check_stored(QZ_F16, (x + next) / 2, 1, 0);
        check_stored(QZ_BF16, x * 1.001f, 0x1p-20f, 0);
    }
    for (int i = 0; i < 127; i++)
        for (int around = -1; around <= 1; around++) {
            float x = qz_f32_from_f8(QZ_E4M3, (uint8_t)i);
            float half = x + (i < 126 ? qz_f32_from_f8(QZ_E4M3, (uint8_t)(i + 1)) - x : 64) / 2;
            half = around ? nextafterf(half, around < 0 ? 0 : INFINITY) : half;
            check_stored(QZ_E4M3, x * 0x1p-8f, 0x1p-4f, 0x1p-8f);
            check_stored(QZ_E4M3, half, 0x1p6f, 1);
            check_stored(QZ_E4M3, -half * 0x1p20f, 1, 0x1p20f);
            check_stored(QZ_I7, (float)(i - 63) + 0.5f + (float)around * 0x1p-16f, 1, 1);
            check_stored(QZ_I6, ((float)(i - 63) + 0.5f) * 0.75f, 8, 0.75f);
        }
    for (int e = -125; e < 126; e++) {
        float middle = power_of_two(e) * 0x1.6a09e6p+0f; /* the last below the square root of 2 */
        check_stored(QZ_E8M0, middle, 1, 0);
        check_stored(QZ_E8M0, nextafterf(middle, INFINITY), 0x1p-3f, 0);
        check_stored(QZ_E8M0, power_of_two(e), power_of_two(e / 2), 0);
    }
    check_stored(QZ_E4M3, 1e9f, 1, 1); /* 448 at most */
    check_stored(QZ_I7, 5, 1, 0);      /* no super scale: 0 */
    check_stored(QZ_F32, 1e-20f, 0x1p-60f, 0);
}

/* A tie between the two candidates that differ in nothing but the sign goes to the first one. */
static void test_first_wins(void **state)
{
    (void)state;
    struct block block = {.n = 2};
    make_encoder(&block, 0, 2);
    struct result result;
    float v[2 * QZ_BLOCK];
    block.rule = block.encoder.search[QZ_CANDIDATES_UNWEIGHTED];
    block.v = v;
    block.rule.as_stored = 0;
    block.rule.first = block.rule.count = 2;
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        v[l] = 0.5f;
        v[QZ_BLOCK + l] = -0.25f;
        block.unit[l] = 1;
        block.scale[l] = 0.125f;
        block.rule.factor[0] = 1.0f;
        block.rule.factor[1] = -1.0f;
    }
    for (int swapped = 0; swapped < 2; swapped++)
        for (size_t s = 0; s < set_count; s++) {
            block.rule.factor[swapped] = 1.0f;
            block.rule.factor[!swapped] = -1.0f;
            run(sets[s], &block, &result);
            for (size_t l = 0; l < QZ_BLOCK; l++)
                assert_true(result.scale[l] == (swapped ? -0.125f : 0.125f));
        }
}

/* The search is worth it: by so much, at least, errors of normal values are smaller than with the first scale. */
static void test_worth(void **state)
{
    (void)state;
    struct rng rng = rng_make(4);
    for (size_t rule = 0; rule < RULES; rule++)
        for (size_t n = 16; n <= 1024; n *= 4) {
            double plain = 0, searched = 0;
            for (size_t i = 0; i < cases(20, 10); i++) {
                struct block block = {.n = n}, again;
                struct result result;
                fill_block(&rng, &block, rule, DATA_NORMAL, NO_WEIGHTS);
                block.rule = block.encoder.search[QZ_CANDIDATES_UNWEIGHTED];
                for (size_t l = 0; l < QZ_BLOCK; l++)
                    block.super[l] = fabsf(block.scale[l]) / 20;
                run(&qz_kernels_scalar, &block, &result);
                again = block;
                again.rule.count = again.rule.first = 0;
                struct result first;
                run(&qz_kernels_scalar, &again, &first);
                for (size_t l = 0; l < QZ_BLOCK; l++)
                    for (int which = 0; which < 2; which++) {
                        double s = (double)(which ? result.scale[l] : first.scale[l]), xx = 0, xq, qq;
                        sums_of(&block, l, which ? result.second[l] : 0, 1 / s, &xq, &qq);
                        for (size_t k = 0; k < n; k++)
                            xx += (double)block.v[QZ_BLOCK * k + l] * (double)block.v[QZ_BLOCK * k + l];
                        *(which ? &searched : &plain) += (xx - 2 * s * xq + s * s * qq) / xx;
                    }
            }
            /* With powers of two for scales there may be nothing to gain: long groups are all alike. */
            if (!(searched < plain * 0.97) &&
                !(rules[rule].scheme && strcmp(rules[rule].scheme, "mxfp4") == 0 && n > 64 && searched <= plain))
                fail_msg("rule %zu, groups of %zu: %g is not much less than %g", rule, n, searched, plain);
        }
}

/* Weights that all rows share, by a stride of 0, are as good as the same ones written out for every row. */
static void test_shared_weights(void **state)
{
    (void)state;
    enum { ROWS = 37, MOST = 1100, SCALES = ROWS * MOST * sizeof(float) };
    static const size_t widths[] = {32, 64, 96, 100, 256, 288, 1024, 1100};
    static float x[ROWS * MOST], row[MOST], all[ROWS * MOST];
    static uint8_t made[2][4][SCALES];
    struct rng rng = rng_make(13);
    size_t rows = cases(ROWS, 5);
    fill_floats(&rng, DATA_NORMAL, x, ROWS * MOST);
    for (size_t i = 0; i < MOST; i++) /* now and then 0, or far from the others */
        row[i] = rng_below(&rng, 50) ? (float)(1 + rng_below(&rng, 1000))
                                     : rng_below(&rng, 2) * power_of_two((int)rng_below(&rng, 80));
    const qz_scheme *scheme;
    for (size_t i = 0; (scheme = qz_scheme_at(i)); i++)
        for (size_t k = i % cases(1, 4); k < sizeof widths / sizeof widths[0]; k += cases(1, 4)) {
            size_t cols = widths[k];
            qz_sizes sizes = {.size = sizeof sizes};
            qz_stats stats[2] = {QZ_STATS_INIT, QZ_STATS_INIT};
            assert_int_equal(qz_scheme_sizes(scheme, rows, cols, &sizes), QZ_OK);
            for (size_t c = 0; c < rows * cols; c++)
                all[c] = row[c % cols];
            memset(made, 0, sizeof made);
            for (int shared = 0; shared < 2; shared++) {
                qz_matrix source = {x, QZ_F32, rows, cols, (int64_t)cols, 1};
                qz_matrix weights = {shared ? row : all, QZ_F32, rows, cols, shared ? 0 : (int64_t)cols, 1};
                qz_packed packed = {made[shared][0],
                                    made[shared][1],
                                    sizes.zero_bytes ? made[shared][2] : NULL,
                                    (int64_t)sizes.code_bytes,
                                    (int64_t)sizes.scale_bytes,
                                    (int64_t)sizes.zero_bytes,
                                    sizes.super_bytes ? made[shared][3] : NULL,
                                    (int64_t)sizes.super_bytes};
                qz_options options = QZ_OPTIONS_INIT;
                options.weights = &weights;
                assert_int_equal(qz_encode(scheme, &source, &packed, &options, &stats[shared], NULL), QZ_OK);
            }
            if (memcmp(made[0], made[1], sizeof made[0]) != 0 || memcmp(&stats[0], &stats[1], sizeof stats[0]) != 0)
                fail_msg("%s, %zu columns", scheme->name, cols);
        }
}

int main(void)
{
    start_program("test_search");
    choose_sets();
    v_guard = guard_make(QZ_BLOCK * LONGEST * sizeof(float));
    w_guard = guard_make(QZ_BLOCK * LONGEST * sizeof(float));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sets),           cmocka_unit_test(test_lay),
        cmocka_unit_test(test_lanes),          cmocka_unit_test(test_other_lanes),
        cmocka_unit_test(test_best_candidate), cmocka_unit_test(test_stored),
        cmocka_unit_test(test_first_wins),     cmocka_unit_test(test_worth),
        cmocka_unit_test(test_shared_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
