/*
 * test_fixed_affine.c - the search for scale and zero in 16-bit integers: every set finds what scalar.c finds, and what is
 * said to be as good as the plain pair, or that of a rule, is, by errors in double
 */
#include "support/program.h"

#include "support/lanes.h"
#include "support/sets.h"

#include <float.h>
#include <math.h>

/* Groups side by side, their plain pairs and those of a rule, as stored. */
struct block {
    enum qz_affine_kind kind;
    qz_dtype dtype;
    int has_rule;
    float scale[QZ_BLOCK], zero[QZ_BLOCK], rule_scale[QZ_BLOCK], rule_zero[QZ_BLOCK];
    struct lanes lanes;
};

struct found {
    float scale[QZ_BLOCK], zero[QZ_BLOCK];
    uint8_t sure[QZ_BLOCK];
    struct qz_affine_error error;
};

/* A group of values that may be far from 0. */
static void fill_group(struct rng *rng, struct lanes *lanes, size_t l, int kind)
{
    const float step = 0.05f + 0.1f * (float)rng_below(rng, 10);
    const float from = rng_below(rng, 3) ? 0.0f : (float)((int)rng_below(rng, 41) - 20);
    fill_lane(rng, lanes, l, kind, 0, step, from);
    if (kind == HALF_STEPS || kind == TINY || (kind == LATTICE && rng_below(rng, 2))) {
        lanes->v[l] = from;
        lanes->v[QZ_BLOCK * rng_below(rng, lanes->n) + l] = from + 15.0f * step;
    }
}

/* The plain pair of group l, and one that is often near to it. */
static void fit_group(struct rng *rng, struct block *block, size_t l)
{
    const float unit = block->lanes.unit[l];
    float low = block->lanes.low[l], high = block->lanes.high[l];
    if (block->kind == QZ_AFFINE_UINT4) {
        low = low < 0.0f ? low : 0.0f;
        high = high > 0.0f ? high : 0.0f;
    }
    const float scale = stored_in_unit((high - low) / 15.0f, unit, block->dtype);
    block->scale[l] = scale;
    block->zero[l] = block->kind == QZ_AFFINE_OFFSET ? stored_in_unit(low, unit, block->dtype)
                     : scale > 0.0f                  ? fminf(rintf(-low / scale), 15.0f)
                                                     : 0.0f;
    float wide = rng_below(rng, 2) ? 0x1p-11f : 0x1p-6f, apart = 1.0f + wide * rng_normal(rng);
    block->rule_scale[l] = rng_below(rng, 4) ? scale * apart : scale;
    block->rule_zero[l] = block->zero[l];
    if (block->kind != QZ_AFFINE_UINT4 && rng_below(rng, 2))
        block->rule_zero[l] += scale * wide * rng_normal(rng);
    if (block->kind == QZ_AFFINE_UINT4 && rng_below(rng, 3) == 0)
        block->rule_zero[l] = fminf(fmaxf(block->rule_zero[l] + (rng_below(rng, 2) ? 1.0f : -1.0f), 0.0f), 15.0f);
    if (rng_below(rng, 200) == 0) /* scales that do not suit the values */
        block->scale[l] =
            rng_below(rng, 2) ? 0.0f : fabsf(rng_normal(rng)) * power_of_two((int)rng_below(rng, 60) - 30);
    if (rng_below(rng, 200) == 0)
        block->rule_scale[l] = rng_normal(rng);
    if (rng_below(rng, 200) == 0)
        block->rule_zero[l] = (float)rng_below(rng, 16);
}

static void fill_block(struct rng *rng, struct block *block)
{
    const int kind = block_kind(rng);
    block->has_rule = rng_below(rng, 2) != 0;
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        fill_group(rng, &block->lanes, l, lane_kind(rng, kind));
        measure_lane(rng, &block->lanes, l, block->lanes.v[l]);
        fit_group(rng, block, l);
    }
}

static void make_block(struct rng *rng, struct block *block)
{
    static const qz_dtype types[] = {QZ_F32, QZ_F16, QZ_BF16};
    static const enum qz_affine_kind affine_kinds[] = {QZ_AFFINE_UINT4, QZ_AFFINE_OFFSET};
    static const size_t lengths[] = {8, 16, 32, 64, 128, 256, 512};
    struct lanes *lanes = &block->lanes;
    block->kind = PICK(rng, affine_kinds);
    block->dtype = PICK(rng, types);
    lanes->n = PICK(rng, lengths);
    lanes->n = rng_below(rng, 4) ? lanes->n : 2 + rng_below(rng, lanes->n / 2) * 2;
    fill_block(rng, block);
}

static void search(const struct qz_kernels *set, const struct block *blocks, size_t count, struct found *found)
{
    struct qz_affine_rule rule[QZ_FIXED_TASKS];
    struct qz_fixed_affine_task tasks[QZ_FIXED_TASKS];
    for (size_t i = 0; i < count; i++) {
        const struct block *block = blocks + i;
        rule[i] = (struct qz_affine_rule){block->rule_scale, block->rule_zero};
        tasks[i] = (struct qz_fixed_affine_task){
            .look = look_at_lanes(&block->lanes),
            .unit = block->lanes.unit,
            .rule = block->has_rule ? &rule[i] : NULL,
            .scale = found[i].scale,
            .zero = found[i].zero,
            .error = &found[i].error,
            .sure = found[i].sure,
        };
        memcpy(found[i].scale, block->scale, sizeof found[i].scale);
        memcpy(found[i].zero, block->zero, sizeof found[i].zero);
    }
    set->search_fixed_affine(blocks->kind, blocks->dtype, tasks, count);
}

static int agree(const struct block *block, const struct found *got, const struct found *wanted, size_t l)
{
    const struct qz_affine_error *error = &got->error, *other = &wanted->error;
    if (got->sure[l] != wanted->sure[l])
        return 0;
    return !got->sure[l] ||
           (same_bits(got->scale[l], wanted->scale[l]) && same_bits(got->zero[l], wanted->zero[l]) &&
            same_bits(error->curve[l], other->curve[l]) && same_bits(error->slope[l], other->slope[l]) &&
            same_bits(error->rest[l], other->rest[l]) && same_bits(error->variance[l], other->variance[l]) &&
            (!block->has_rule || same_bits(error->rule[l], other->rule[l])));
}

static void test_sets(void **state)
{
    (void)state;
    static struct block block[2]; /* of one length */
    struct rng rng = rng_make(960);
    for (size_t repeat = 0; repeat < cases(20000, 6000); repeat++) {
        const size_t count = 1 + repeat % 2;
        struct found wanted[2], got[2];
        make_block(&rng, &block[0]);
        block[1].kind = block[0].kind;
        block[1].dtype = block[0].dtype;
        block[1].lanes.n = block[0].lanes.n;
        fill_block(&rng, &block[1]);
        for (size_t i = 0; i < count; i++)
            search(&qz_kernels_scalar, &block[i], 1, &wanted[i]);
        for (size_t s = 0; s < set_count; s++) {
            search(sets[s], block, count, got);
            for (size_t l = 0; l < count * QZ_BLOCK; l++) {
                const size_t i = l / QZ_BLOCK;
                if (!agree(&block[i], &got[i], &wanted[i], l % QZ_BLOCK))
                    fail_msg("search_fixed_affine of %s: kind %d, n %zu, group %zu of %zu blocks", sets[s]->name,
                             (int)block[0].kind, block[0].lanes.n, l, count);
            }
        }
    }
}

/* What the nearest code stands for. */
static double decoded(enum qz_affine_kind kind, double x, float scale, float zero)
{
    const double offset = kind == QZ_AFFINE_OFFSET ? (double)zero : -(double)scale * (double)zero;
    double q = scale == 0.0f ? 0.0 : rint((x - offset) / (double)scale);
    q = q < 0.0 ? 0.0 : q > 15.0 ? 15.0 : q;
    return offset + (double)scale * q;
}

static double error_of(const struct block *block, size_t l, float scale, float zero)
{
    double sum = 0.0;
    for (size_t k = 0; k < block->lanes.n; k++) {
        const double x = (double)block->lanes.v[QZ_BLOCK * k + l], off = x - decoded(block->kind, x, scale, zero);
        sum += off * off;
    }
    return sum;
}

/* What a block's groups may be compared with. */
struct counts {
    size_t groups, sure, rules, safe;
};

static void check(const struct block *block, const struct found *found, struct counts *counts)
{
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        counts->groups++;
        if (!found->sure[l])
            continue;
        counts->sure++;
        const double error = error_of(block, l, found->scale[l], found->zero[l]);
        const double plain = error_of(block, l, block->scale[l], block->zero[l]);
        const double far = fmax(fabs((double)block->lanes.low[l]), fabs((double)block->lanes.high[l]));
        const double more = (double)block->lanes.n * far * far * 1e-13;
        if (error > plain * (1.0 + 1e-6) + more)
            fail_msg("kind %d, n %zu: %g, but the plain pair has %g", (int)block->kind, block->lanes.n, error, plain);
        counts->rules += (size_t)block->has_rule;
        if (!block->has_rule || found->error.rule[l] == 0.0f)
            continue;
        counts->safe++;
        const double rule = error_of(block, l, block->rule_scale[l], block->rule_zero[l]);
        if (error > rule * (1.0 + 1e-6) + more)
            fail_msg("kind %d, n %zu: %g, but the rule has %g", (int)block->kind, block->lanes.n, error, rule);
    }
}

/* Moves values by nearly half a unit, as far as they are rounded to the same integers, away from what was found and
 * towards the plain pair or that of the rule. */
static void move_values(struct block *block, const struct found *found, int to_rule)
{
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        const float scale = block->scale[l], zero = block->zero[l];
        const double unit = (double)scale / (double)QZ_FIXED_STEP;
        const double origin = block->kind == QZ_AFFINE_OFFSET ? (double)fmaf(scale, 8.0f, zero) : 0.0;
        if (!found->sure[l])
            continue;
        for (size_t k = 0; k < block->lanes.n; k++) {
            float *v = &block->lanes.v[QZ_BLOCK * k + l];
            const double x = (double)*v, away = decoded(block->kind, x, found->scale[l], found->zero[l]);
            const double to = to_rule ? decoded(block->kind, x, block->rule_scale[l], block->rule_zero[l])
                                      : decoded(block->kind, x, scale, zero);
            const double whole = rint((x - origin) / unit);
            *v = (float)(origin + (whole + (to > away ? 0.45 : to < away ? -0.45 : 0.0)) * unit);
            block->lanes.low[l] = fminf(block->lanes.low[l], *v);
            block->lanes.high[l] = fmaxf(block->lanes.high[l], *v);
        }
    }
}

static void test_plain(void **state)
{
    (void)state;
    static struct block block;
    struct rng rng = rng_make(961);
    struct counts counts = {0, 0, 0, 0};
    for (size_t repeat = 0; repeat < cases(20000, 6000); repeat++) {
        struct found found;
        make_block(&rng, &block);
        search(sets[0], &block, 1, &found);
        check(&block, &found, &counts);
        move_values(&block, &found, block.has_rule);
        search(sets[0], &block, 1, &found);
        check(&block, &found, &counts);
    }
    assert_true(counts.sure * 5 > counts.groups * 4);
    assert_true(counts.safe * 5 > counts.rules);
}

int main(void)
{
    start_program("test_fixed_affine");
    choose_sets();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sets), cmocka_unit_test(test_plain)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
