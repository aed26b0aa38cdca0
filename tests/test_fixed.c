/*
 * test_fixed.c - the search for scales in 16-bit integers: every set finds what scalar.c finds, and a scale that is said
 * to be as good as the plain ones is, by errors in double
 */
#include "support/program.h"

#include "support/cases.h"
#include "support/sets.h"

#include "scales/encoder.h"
#include "base/number.h"
#include "packed/scheme.h"

#include <float.h>
#include <math.h>

/* Groups side by side, and their plain scales as stored. */
struct block {
    struct qz_fixed rule;
    size_t n;
    float low[QZ_BLOCK], high[QZ_BLOCK], unit[QZ_BLOCK], first[QZ_BLOCK], other[QZ_BLOCK];
    float v[QZ_BLOCK * QZ_FIXED_LONGEST];
};

struct found {
    float scale[QZ_BLOCK];
    uint8_t sure[QZ_BLOCK];
    struct qz_gains gains;
};

enum {
    NORMAL,
    EVEN,         /* evenly spread */
    ONE_SIDED,    /* not below 0 */
    LATTICE,      /* next to multiples of a step */
    HALF_STEPS,   /* next to the middle between multiples of a plain scale: its roundings matter most there */
    OTHER_HALVES, /* of the other plain scale */
    TWO_VALUES,
    TAILS, /* a few large values */
    TINY,  /* next to 0, but for one */
    ZEROS,
    KINDS
};

static float stored(float x, qz_dtype dtype)
{
    return dtype == QZ_F16    ? qz_f32_from_f16(qz_f16_from_f32(x))
           : dtype == QZ_BF16 ? qz_f32_from_bf16(qz_bf16_from_f32(x))
                              : x;
}

static void fill_group(struct rng *rng, int kind, float *v, size_t n)
{
    const float step = 0.05f + 0.1f * (float)rng_below(rng, 10), end = (rng_below(rng, 2) ? 1.0f : -1.0f);
    const float noise = rng_below(rng, 2) ? 0.0f : 0x1p-13f * (float)(1 + rng_below(rng, 64));
    for (size_t k = 0; k < n; k++) {
        float x = rng_normal(rng), even = (float)((int)rng_below(rng, 2001) - 1000) * 1e-3f;
        const float whole = (float)((int)rng_below(rng, 15) - 7);
        switch (kind) {
        case EVEN:
            x = even;
            break;
        case ONE_SIDED:
            x = fabsf(x);
            break;
        case LATTICE:
            x = (whole + noise * x) * step;
            break;
        case HALF_STEPS:
            x = (whole + 0.5f + noise * x) * 0.125f * 0.9f;
            break;
        case OTHER_HALVES:
            x = (whole + 0.5f + noise * x) * (1.0f / 7) * 0.9f;
            break;
        case TWO_VALUES:
            x = rng_below(rng, 3) ? step : -0.7f * step;
            break;
        case TAILS:
            x *= rng_below(rng, 20) ? 0.1f : 1.0f;
            break;
        case TINY:
            x *= 1e-3f;
            break;
        case ZEROS:
            x = 0.0f;
            break;
        default:
            break;
        }
        v[QZ_BLOCK * k] = x;
    }
    if (kind == HALF_STEPS || kind == OTHER_HALVES || kind == TINY)
        v[QZ_BLOCK * rng_below(rng, n)] = end;
}

/* Of any magnitude that a search meets: groups that are far from 1 come with a unit. */
static void make_block(struct rng *rng, struct block *block)
{
    static const char *const names[] = {"int4", "compressed_tensors"};
    static const qz_dtype types[] = {QZ_F32, QZ_F16, QZ_BF16};
    static const size_t lengths[] = {8, 16, 32, 64, 128, 256, 512};
    qz_scheme scheme = *qz_scheme_by_name(PICK(rng, names));
    scheme.scale_dtype = PICK(rng, types);
    scheme.group_size = PICK(rng, lengths);
    block->n = rng_below(rng, 4) ? (size_t)scheme.group_size : 1 + rng_below(rng, (size_t)scheme.group_size);
    struct qz_view view;
    struct qz_encoder encoder;
    qz_view_make(&view, &qz_kernels_scalar, &scheme, NULL, QZ_BLOCK, scheme.group_size, scheme.group_size);
    qz_encoder_make(&encoder, &view, &scheme, QZ_SEARCH, QZ_F32);
    block->rule = encoder.fixed;
    assert_true(block->rule.count > 2);
    const int kind = (int)rng_below(rng, KINDS + 1);
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        float *v = block->v + l, low = 0.0f, high = 0.0f;
        fill_group(rng, kind < KINDS ? kind : (int)rng_below(rng, KINDS), v, block->n);
        block->unit[l] = rng_below(rng, 4) ? 1.0f : power_of_two((int)rng_below(rng, 20) - 10);
        for (size_t k = 0; k < block->n; k++) {
            low = v[QZ_BLOCK * k] < low ? v[QZ_BLOCK * k] : low;
            high = v[QZ_BLOCK * k] > high ? v[QZ_BLOCK * k] : high;
        }
        const float largest = -low > high ? low : high, unit = block->unit[l];
        block->low[l] = low;
        block->high[l] = high;
        block->first[l] = encoder.positive ? fabsf(largest) / 7.0f : largest / -8.0f;
        block->other[l] = fabsf(largest) / (encoder.positive ? 7.5f : 7.0f);
        block->first[l] = stored(block->first[l] * unit, scheme.scale_dtype) / unit;
        block->other[l] = stored(block->other[l] * unit, scheme.scale_dtype) / unit;
        if (rng_below(rng, 200) == 0) /* scales that do not suit the values */
            block->other[l] = rng_below(rng, 2) ? 0.0f : rng_normal(rng) * power_of_two((int)rng_below(rng, 60) - 30);
    }
}

static void search(const struct qz_kernels *set, const struct block *block, struct found *found)
{
    const struct qz_look look = {block->v, NULL, block->n, block->low, block->high};
    memcpy(found->scale, block->first, sizeof found->scale);
    set->search_fixed(&block->rule, &look, block->unit, block->other, found->scale, &found->gains, found->sure);
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
                    (got.sure[l] && (bits_of_float(got.scale[l]) != bits_of_float(wanted.scale[l]) ||
                                     bits_of_float(got.gains.best[l]) != bits_of_float(wanted.gains.best[l]) ||
                                     bits_of_float(got.gains.energy[l]) != bits_of_float(wanted.gains.energy[l]) ||
                                     got.gains.other[l] != -INFINITY)))
                    fail_msg("search_fixed of %s: n %zu, group %zu", sets[s]->name, block.n, l);
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
            const float *v = block.v + l;
            groups++;
            if (!found.sure[l])
                continue;
            sure++;
            double error = error_of(v, block.n, found.scale[l]), first = error_of(v, block.n, block.first[l]);
            double other = error_of(v, block.n, block.other[l]), energy = error_of(v, block.n, 0.0f);
            if (error > (first < other ? first : other) * (1.0 + 1e-6) + energy * 1e-13)
                fail_msg("n %zu: %g, but plain scales have %g and %g", block.n, error, first, other);
            if (fabs((double)found.gains.energy[l] - energy) > energy * 1e-3)
                fail_msg("n %zu: energy %g, not %g", block.n, (double)found.gains.energy[l], energy);
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
