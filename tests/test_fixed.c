/*
 * test_fixed.c - the search for scales in 16-bit integers: every set finds what scalar.c finds, and a scale that is said
 * to be as good as the plain ones is, by errors in double
 */
#include "support/program.h"

#include "support/lanes.h"
#include "support/sets.h"

#include "scales/encoder.h"
#include "packed/scheme.h"

#include <float.h>
#include <math.h>

/* Groups side by side, and their plain scales as stored. */
struct block {
    struct qz_fixed rule;
    float first[QZ_BLOCK], other[QZ_BLOCK];
    struct lanes lanes;
};

struct found {
    float scale[QZ_BLOCK];
    uint8_t sure[QZ_BLOCK];
    struct qz_gains gains;
};

/* A group of values around 0. Of HALF_STEPS the steps are those of one plain scale, or of the other one. */
static void fill_group(struct rng *rng, struct lanes *lanes, size_t l, int kind)
{
    const float end = rng_below(rng, 2) ? 1.0f : -1.0f, any = 0.05f + 0.1f * (float)rng_below(rng, 10);
    fill_lane(rng, lanes, l, kind, -7, kind == HALF_STEPS ? (rng_below(rng, 2) ? 0.9f / 8 : 0.9f / 7) : any, 0.0f);
    if (kind == HALF_STEPS || kind == TINY)
        lanes->v[QZ_BLOCK * rng_below(rng, lanes->n) + l] = end;
}

static void make_block(struct rng *rng, struct block *block)
{
    static const char *const names[] = {"int4", "compressed_tensors"};
    static const qz_dtype types[] = {QZ_F32, QZ_F16, QZ_BF16};
    static const size_t lengths[] = {8, 16, 32, 64, 128, 256, 512};
    qz_scheme scheme = *qz_scheme_by_name(PICK(rng, names));
    scheme.scale_dtype = PICK(rng, types);
    scheme.group_size = PICK(rng, lengths);
    struct lanes *lanes = &block->lanes;
    lanes->n = rng_below(rng, 4) ? (size_t)scheme.group_size : 1 + rng_below(rng, (size_t)scheme.group_size);
    struct qz_view view;
    struct qz_encoder encoder;
    qz_view_make(&view, &qz_kernels_scalar, &scheme, NULL, QZ_BLOCK, scheme.group_size, scheme.group_size);
    qz_encoder_make(&encoder, &view, &scheme, QZ_SEARCH, QZ_F32);
    block->rule = encoder.fixed;
    assert_true(block->rule.count > 2);
    const int kind = block_kind(rng);
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        fill_group(rng, lanes, l, lane_kind(rng, kind));
        measure_lane(rng, lanes, l, 0.0f);
        const float largest = -lanes->low[l] > lanes->high[l] ? lanes->low[l] : lanes->high[l], unit = lanes->unit[l];
        block->first[l] = encoder.positive ? fabsf(largest) / 7.0f : largest / -8.0f;
        block->other[l] = fabsf(largest) / (encoder.positive ? 7.5f : 7.0f);
        block->first[l] = stored_in_unit(block->first[l], unit, scheme.scale_dtype);
        block->other[l] = stored_in_unit(block->other[l], unit, scheme.scale_dtype);
        if (rng_below(rng, 200) == 0) /* scales that do not suit the values */
            block->other[l] = rng_below(rng, 2) ? 0.0f : rng_normal(rng) * power_of_two((int)rng_below(rng, 60) - 30);
    }
}

static void search(const struct qz_kernels *set, const struct block *block, struct found *found)
{
    const struct qz_look look = look_at_lanes(&block->lanes);
    memcpy(found->scale, block->first, sizeof found->scale);
    set->search_fixed(&block->rule, &look, block->lanes.unit, block->other, found->scale, &found->gains, found->sure);
}

static void test_sets(void **state)
{
    (void)state;
    static struct block block;
    struct rng rng = rng_make(950);
    for (size_t repeat = 0; repeat < cases(20000, 6000); repeat++) {
        struct found wanted, got;
        make_block(&rng, &block);
        search(&qz_kernels_scalar, &block, &wanted);
        for (size_t s = 0; s < set_count; s++) {
            search(sets[s], &block, &got);
            for (size_t l = 0; l < QZ_BLOCK; l++)
                if (got.sure[l] != wanted.sure[l] ||
                    (got.sure[l] &&
                     (!same_bits(got.scale[l], wanted.scale[l]) ||
                      !same_bits(got.gains.best[l], wanted.gains.best[l]) ||
                      !same_bits(got.gains.energy[l], wanted.gains.energy[l]) || got.gains.other[l] != -INFINITY)))
                    fail_msg("search_fixed of %s: n %zu, group %zu", sets[s]->name, block.lanes.n, l);
        }
    }
}

/* By the nearest codes. */
static double error_of(const float *v, size_t n, float scale)
{
    double sum = 0.0;
    for (size_t k = 0; k < n; k++) {
        double x = (double)v[QZ_BLOCK * k], y = scale == 0.0f ? 0.0 : rint(x / (double)scale);
        y = y < -8.0 ? -8.0 : y > 7.0 ? 7.0 : y;
        x -= (double)scale * y;
        sum += x * x;
    }
    return sum;
}

static void test_plain(void **state)
{
    (void)state;
    static struct block block;
    struct rng rng = rng_make(951);
    size_t groups = 0, sure = 0;
    for (size_t repeat = 0; repeat < cases(20000, 6000); repeat++) {
        struct found found;
        make_block(&rng, &block);
        search(sets[0], &block, &found);
        for (size_t l = 0; l < QZ_BLOCK; l++) {
            const float *v = block.lanes.v + l;
            const size_t n = block.lanes.n;
            groups++;
            if (!found.sure[l])
                continue;
            sure++;
            double error = error_of(v, n, found.scale[l]), first = error_of(v, n, block.first[l]);
            double other = error_of(v, n, block.other[l]), energy = error_of(v, n, 0.0f);
            if (error > (first < other ? first : other) * (1.0 + 1e-6) + energy * 1e-13)
                fail_msg("n %zu: %g, but plain scales have %g and %g", n, error, first, other);
            if (fabs((double)found.gains.energy[l] - energy) > energy * 1e-3)
                fail_msg("n %zu: energy %g, not %g", n, (double)found.gains.energy[l], energy);
        }
    }
    assert_true(sure * 2 > groups);
}

int main(void)
{
    start_program("test_fixed");
    choose_sets();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sets), cmocka_unit_test(test_plain)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
