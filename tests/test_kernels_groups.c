/*
 * test_kernels_groups.c - kernels of groups against scalar.c, bit for bit: ranges, scales, codes, decoding, errors
 */
#include "support/program.h"

#include "support/calls.h"
#include "support/tiles.h"

/* ---- calls --------------------------------------------------------------------------------------------------- */

CALLER(group_range)
{
    return (uint64_t)set->group_range(in[0], w->n, w->group_size, out[0], out[1]);
}

CALLER(fit)
{
    return set->fit(&w->rule, w->n, in[0], in[1], out[0], out[1], out[2]);
}

CALLER(group_codes)
{
    return set->group_codes(in[0], w->n, w->group_size, &w->grid, in[1], in[2], out[0]);
}

/* Ranges, of which the sign of a zero is free, and the other numbers are one output. */
CALLER(group_encode)
{
    const size_t groups = groups_of(w->n, w->group_size);
    float *numbers = out[0];
    const struct qz_numbers to = {numbers, numbers + groups, numbers + 2 * groups, numbers + 3 * groups,
                                  numbers + 4 * groups};
    int special = set->group_encode(&w->rule, &w->grid, in[0], w->n, w->group_size, &to, out[1]);
    for (size_t i = 0; i < 2 * groups && !special; i++)
        numbers[i] += 0.0f;
    return (uint64_t)special;
}

CALLER(rule_codes)
{
    set->rule_codes(&w->rule_codes, in[0], w->n, w->group_size, in[1], in[2], out[0]);
    return 0;
}

/* Numbers of groups; which NaN it is does not matter. */
static void put_numbers(const float *numbers, float *to)
{
    for (size_t l = 0; l < QZ_RULE_TOGETHER; l++)
        to[l] = isnan(numbers[l]) ? NAN : numbers[l];
}

CALLER(rule_iq4)
{
    struct qz_rule_groups found;
    (void)w;
    set->rule_iq4(in[0], &found);
    put_numbers(found.scale, out[0]);
    return 0;
}

CALLER(rule_q4_k)
{
    struct qz_rule_groups found;
    (void)w;
    set->rule_q4_k(in[0], &found);
    put_numbers(found.scale, out[0]);
    put_numbers(found.min, (float *)out[0] + QZ_RULE_TOGETHER);
    put_numbers(found.by, out[1]);
    put_numbers(found.from, out[2]);
    return 0;
}

CALLER(group_codes_error)
{
    return set->group_codes_error(in[0], w->n, w->group_size, &w->grid, in[1], in[2], in[3], out[0], out[1]);
}

CALLER(group_decode)
{
    set->group_decode(in[0], w->n, w->group_size, &w->grid, in[1], in[2], out[0]);
    return 0;
}

CALLER(stored_decode)
{
    struct qz_stored stored = w->stored;
    stored.scale = in[1];
    stored.zero = in[2];
    stored.super = in[3];
    stored.super_zero = in[3] ? (const float *)in[3] + w->in[3].bytes / 8 : NULL;
    return (uint64_t)set->stored_decode(in[0], w->n, w->group_size, &w->grid, &stored, w->dtype, out[0]);
}

CALLER(error)
{
    set->error(in[0], in[1], w->n, out[0]);
    return 0;
}

CALLER(find_error)
{
    (void)out;
    return set->find_error(in[0], in[1], w->n, w->wanted);
}

CALLER(weighted_error)
{
    *(double *)out[0] = set->weighted_error(in[0], in[1], in[2], w->n);
    return 0;
}

/* ---- lengths ------------------------------------------------------------------------------------------------- */

enum { GROUPS_MOST = 512 }; /* what the drivers pass at most */

static const size_t group_sizes[] = {1,  2,  3,  4,  5,  7,  8,   9,   12,  15,  16,  17,  31,  32,  33,   40,   47,
                                     48, 63, 64, 65, 96, 99, 100, 112, 127, 128, 129, 160, 255, 256, 1000, 2048, 4096};

/* The next n to try with a group size: all up to a little more than four groups (or 300), then around whole numbers of
 * groups, up to what the drivers pass. 0 after the last one. */
static size_t next_group_length(size_t n, size_t group_size)
{
    size_t four = 4 * group_size + 1, most = GROUPS_MOST * group_size < QZ_TILE ? GROUPS_MOST * group_size : QZ_TILE;
    if (n >= most)
        return 0;
    size_t next = n + 1, step = short_mode > 1 ? 397 : short_mode ? 173 : 29;
    size_t groups = short_mode > 1 ? 61 : short_mode ? 13 : 5;
    if (n >= (short_mode ? 40 : 300) && n < four)
        next = n + step;
    else if (n >= four && (n % group_size == 1 || group_size == 1)) /* k * group_size + (-1, 0, 1) */
        next = n + group_size * groups - (group_size > 2 ? 2 : 0);
    return next < most ? next : most;
}

/* The places that are tried for a length: all for some lengths, the two at the pages for the rest. */
static size_t group_places(size_t n)
{
    return n % 16 == 3 && n < 300 ? all_places(4) : 4;
}

/* ---- ranges and scales --------------------------------------------------------------------------------------- */

static void test_group_range(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(112);
    struct work w = {
        .kernel = "group_range", .call = call_group_range, .returned = RETURNS_BAD_OR_DATA, .zero_signs_free = 1};
    for (size_t s = 0; s < COUNT(group_sizes); s++)
        for (size_t n = 1; n; n = next_group_length(n, group_sizes[s])) {
            size_t groups = groups_of(n, group_sizes[s]);
            fill_floats(&rng, (enum data_kind)rng_below(&rng, DATA_KINDS), floats_a, n);
            w.n = n;
            w.group_size = group_sizes[s];
            w.in[0] = (struct part){floats_a, n * 4, 4};
            w.out[0] = w.out[1] = (struct part){NULL, groups * 4, 4};
            check(&w, group_places(n));
            static const float bad[] = {NAN, INFINITY, -INFINITY};
            for (size_t i = 0; i < n; i += n <= 70 ? 1 : 1 + rng_below(&rng, n / 4)) {
                float kept = floats_a[i];
                floats_a[i] = bad[(i + n) % 3];
                check(&w, 1);
                floats_a[i] = kept;
            }
        }
    for (size_t repeat = 0; repeat < cases(3000, 100); repeat++) {
        fill_floats(&rng, (enum data_kind)(repeat % DATA_KINDS), floats_a, QZ_TILE);
        w.group_size = 8 + rng_below(&rng, rng_below(&rng, 2) ? 100 : 600);
        if (rng_below(&rng, 2))
            w.group_size = w.group_size / 16 * 16 + 16;
        w.n = QZ_TILE - rng_below(&rng, 40);
        for (size_t i = 0, sign = 0; i < w.n && repeat % 2; i++) { /* groups of a single sign among others */
            if (i % w.group_size == 0)
                sign = rng_below(&rng, 3);
            floats_a[i] = sign == 0 ? floats_a[i] : sign == 1 ? fabsf(floats_a[i]) : -fabsf(floats_a[i]);
        }
        w.in[0] = (struct part){floats_a, w.n * 4, 4};
        w.out[0] = w.out[1] = (struct part){NULL, groups_of(w.n, w.group_size) * 4, 4};
        check(&w, 1);
    }
}

/* Ranges of groups: two numbers of a kind, in order, or +-m. */
static void fill_ranges(struct rng *rng, enum data_kind kind, float *min, float *max, size_t n)
{
    fill_floats(rng, kind, min, n);
    fill_floats(rng, kind, max, n);
    for (size_t i = 0; i < n; i++) {
        if (rng_below(rng, 8) == 0)
            max[i] = -min[i];
        if (rng_below(rng, 16) == 0)
            max[i] = min[i];
        if (rng_below(rng, 16) == 0)
            (rng_below(rng, 2) ? min : max)[i] = rng_below(rng, 2) ? 0.0f : -0.0f;
        if (min[i] > max[i]) {
            float swap = min[i];
            min[i] = max[i];
            max[i] = swap;
        }
    }
}

static void test_fit(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(113);
    struct work w = {.kernel = "fit", .call = call_fit, .returned = RETURNS_NUMBER};
    for (size_t kind = 0; kind < SCHEME_KINDS; kind++) {
        w.rule = rule_kind(kind);
        for (size_t n = 1; n <= GROUPS_MOST; n = n < 70 ? n + 1 : n + (short_mode ? 97 : 13)) {
            w.n = n;
            w.in[0] = (struct part){floats_a, n * 4, 4};
            w.in[1] = (struct part){floats_b, n * 4, 4};
            w.out[0] = w.out[1] = w.out[2] = (struct part){NULL, n * 4, 4};
            /* Only all of one kind keep the flags apart. */
            for (int data = 0; data < DATA_KINDS; data++) {
                fill_ranges(&rng, (enum data_kind)data, floats_a, floats_b, n);
                check(&w, data == (int)n % DATA_KINDS ? all_places(4) : 2);
            }
        }
        /* One group alone raises each flag, whichever lane it is in. */
        for (size_t n = 1; n <= 40; n++)
            for (size_t i = 0; i < n; i++)
                for (int flag = 0; flag < 4; flag++) {
                    static const float low[] = {-2, 0, -FLT_MAX, 3e38f}, high[] = {2, 1e-39f, 1e38f, FLT_MAX};
                    for (size_t k = 0; k < n; k++) {
                        floats_a[k] = -1 - (float)k;
                        floats_b[k] = 1.5f + 2 * (float)k;
                    }
                    floats_a[i] = low[flag];
                    floats_b[i] = high[flag];
                    w.n = n;
                    w.in[0] = (struct part){floats_a, n * 4, 4};
                    w.in[1] = (struct part){floats_b, n * 4, 4};
                    w.out[0] = w.out[1] = w.out[2] = (struct part){NULL, n * 4, 4};
                    check(&w, 1);
                }
        for (size_t repeat = 0; repeat < cases(1700, 20); repeat++) {
            w.n = GROUPS_MOST;
            w.in[0] = (struct part){floats_a, GROUPS_MOST * 4, 4};
            w.in[1] = (struct part){floats_b, GROUPS_MOST * 4, 4};
            w.out[0] = w.out[1] = w.out[2] = (struct part){NULL, GROUPS_MOST * 4, 4};
            fill_ranges(&rng, (enum data_kind)(repeat % DATA_KINDS), floats_a, floats_b, GROUPS_MOST);
            check(&w, 1);
        }
    }
}

/* ---- codes --------------------------------------------------------------------------------------------------- */

static void codes_work(struct work *w, const struct tile *tile, size_t kind, size_t n, size_t group_size)
{
    w->grid = grid_kind(kind);
    w->n = n;
    w->group_size = group_size;
    w->in[0] = (struct part){tile->x, n * 4, 4};
    w->in[1] = (struct part){tile->inverse, groups_of(n, group_size) * 4, 4};
    w->in[2] = (struct part){tile->zero, groups_of(n, group_size) * 4, 4};
    w->out[0] = (struct part){NULL, n / 2 + n % 2, 1};
}

static void test_group_codes(void **state)
{
    (void)state;
    guard_report_faults();
    static struct tile tile;
    struct rng rng = rng_make(114);
    struct work w = {.kernel = "group_codes", .call = call_group_codes, .returned = RETURNS_NUMBER};
    for (size_t kind = 0; kind < 4; kind++) /* the scale's type is not this kernel's business */
        for (size_t s = 0; s < COUNT(group_sizes); s++)
            for (size_t n = 1; n; n = next_group_length(n, group_sizes[s])) {
                (n % 2 ? fitted_tile : threshold_tile)(&rng, &tile, kind, n, group_sizes[s]);
                codes_work(&w, &tile, kind, n, group_sizes[s]);
                check(&w, n % 16 == 3 && n < 300 ? all_places(1) : 4);
            }
    for (size_t repeat = 0; repeat < cases(3000, 60); repeat++) {
        size_t group_size = rng_below(&rng, 2) ? 8u << rng_below(&rng, 8) : 8 + rng_below(&rng, 500);
        size_t n = rng_below(&rng, 2) ? QZ_TILE : 1 + rng_below(&rng, QZ_TILE), kind = repeat % SCHEME_KINDS;
        (rng_below(&rng, 2) ? fitted_tile : threshold_tile)(&rng, &tile, kind, n, group_size);
        codes_work(&w, &tile, kind, n, group_size);
        check(&w, 1);
    }
}

/* Values in groups, some of them on a lattice: many groups have two largest magnitudes then. */
static void check_group_encode(struct rng *rng, struct work *w, size_t n, size_t group_size, size_t places)
{
    fill_floats(rng, (enum data_kind)rng_below(rng, DATA_KINDS), floats_a, n);
    for (size_t i = 0, lattice = rng_below(rng, 3); i < n && lattice == 0; i++)
        floats_a[i] = (float)((int)rng_below(rng, 9) - 4);
    w->n = n;
    w->group_size = group_size;
    w->in[0] = (struct part){floats_a, n * 4, 4};
    w->out[0] = (struct part){NULL, 5 * groups_of(n, group_size) * 4, 4};
    w->out[1] = (struct part){NULL, n / 2 + n % 2, 1};
    check(w, places);
    float *any = &floats_a[rng_below(rng, n)];
    *any = rng_below(rng, 2) ? NAN : INFINITY;
    check(w, 1);
}

static void test_group_encode(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(119);
    struct work w = {.kernel = "group_encode", .call = call_group_encode, .returned = RETURNS_BAD_OR_DATA};
    for (size_t kind = 0; kind < SCHEME_KINDS; kind++) {
        w.rule = rule_kind(kind);
        w.grid = grid_kind(kind);
        for (size_t s = kind % 4; s < COUNT(group_sizes); s += 4)
            for (size_t n = 1; n; n = next_group_length(n, group_sizes[s]))
                check_group_encode(&rng, &w, n, group_sizes[s], n % 16 == 3 && n < 300 ? all_places(4) : 2);
        for (size_t repeat = 0; repeat < cases(300, 12); repeat++) { /* wide tiles, too */
            static const size_t usual[] = {16, 32, 32, 32, 64, 128, 48, 256};
            size_t group_size = usual[rng_below(&rng, COUNT(usual))];
            size_t most = GROUPS_MOST * group_size < 4 * QZ_TILE ? GROUPS_MOST * group_size : 4 * QZ_TILE;
            check_group_encode(&rng, &w, rng_below(&rng, 2) ? most : 1 + rng_below(&rng, most), group_size, 1);
        }
    }
}

/* A rule of any steps and rounding, in any type; its table has points that values meet. */
static struct qz_rule_codes any_rule(struct rng *rng, size_t which)
{
    static const qz_dtype types[3] = {QZ_F32, QZ_F16, QZ_BF16};
    struct qz_rule_codes rule = {.steps = (enum qz_rule_steps)(which % 3),
                                 .rounding = (enum qz_rule_rounding)(which / 3 % 6),
                                 .type = types[which / 18 % 3],
                                 .values = which / 54 % 2 ? QZ_F16 : QZ_F32,
                                 .shift = rng_below(rng, 2) ? 8.5f : 0.5f,
                                 .offset = rng_below(rng, 2) ? 8 : 0};
    for (int i = 0; i < 16; i++) {
        rule.upper[i] = i < 15 ? (float)(i - 7) - 0.25f * (float)rng_below(rng, 4) : INFINITY;
        rule.code[i] = (int32_t)rng_below(rng, 16);
    }
    return rule;
}

/* Numbers of groups: powers of two, so that values lie on ties, or any; some that no ordinary group has. */
static void fill_rule_numbers(struct rng *rng, float *by, float *from, size_t groups)
{
    static const float odd[] = {0.0f, -0.0f, 1e-45f, 1e38f, -3e38f, INFINITY, NAN};
    for (size_t g = 0; g < groups; g++) {
        by[g] = power_of_two((int)rng_below(rng, 9) - 4) * (rng_below(rng, 2) ? 1.0f : 1.1f);
        by[g] = rng_below(rng, 2) ? by[g] : -by[g];
        from[g] = (float)rng_below(rng, 16) - (rng_below(rng, 2) ? 8.0f : 0.0f);
        if (rng_below(rng, 20) == 0)
            by[g] = odd[rng_below(rng, COUNT(odd))];
    }
}

static void test_rule_codes(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(123);
    struct work w = {.kernel = "rule_codes", .call = call_rule_codes};
    static float by[QZ_TILE], from[QZ_TILE];
    for (size_t repeat = 0; repeat < cases(20000, 1500); repeat++) {
        w.rule_codes = any_rule(&rng, repeat);
        w.group_size = group_sizes[rng_below(&rng, COUNT(group_sizes))];
        w.n = rng_below(&rng, 8) ? 1 + rng_below(&rng, 300) : QZ_TILE - rng_below(&rng, 70);
        size_t groups = groups_of(w.n, w.group_size);
        fill_rule_numbers(&rng, by, from, groups);
        fill_floats(&rng, (enum data_kind)rng_below(&rng, DATA_KINDS), floats_a, w.n);
        for (size_t i = 0; i < w.n && repeat % 4; i++) { /* on and around the steps of the group, ties among them */
            float y = ((float)rng_below(&rng, 160) - 80.0f) / 4.0f, b = by[i / w.group_size];
            floats_a[i] = w.rule_codes.steps == QZ_STEPS_OVER || w.rule_codes.rounding == QZ_ROUND_E2M1 ? y * b : y / b;
            floats_a[i] = isfinite(floats_a[i]) ? floats_a[i] : y;
        }
        w.in[0] = (struct part){floats_a, w.n * 4, 4};
        w.in[1] = (struct part){by, groups * 4, 4};
        w.in[2] = (struct part){from, groups * 4, 4};
        w.out[0] = (struct part){NULL, w.n / 2 + w.n % 2, 1};
        check(&w, repeat % 16 ? 1 : 4);
    }
}

/* Groups of any size, of equal values and of few, on the thresholds of a try, and of the whole range of floats. */
static void fill_searched(struct rng *rng, float *v)
{
    for (size_t l = 0; l < QZ_RULE_TOGETHER; l++) {
        const int kind = (int)rng_below(rng, 6), exponent = (int)rng_below(rng, 8) ? 0 : (int)rng_below(rng, 250) - 125;
        float *x = v + l / QZ_BLOCK * QZ_BLOCK * QZ_RULE_SEARCHED + l % QZ_BLOCK, other = rng_normal(rng);
        for (size_t k = 0; k < QZ_RULE_SEARCHED; k++) {
            float y = rng_normal(rng);
            y = kind == 0 ? other : kind == 1 ? rintf(2.0f * y) : kind == 2 ? fabsf(y) + 3.0f : y;
            y = kind == 3 ? ((float)rng_below(rng, 509) - 254.0f) * 0.5f : y;
            y = kind == 4 && rng_below(rng, 4) ? 0.0f : y;
            x[QZ_BLOCK * k] = y * power_of_two(exponent);
            if (kind == 5)
                fill_floats(rng, DATA_BITS, &x[QZ_BLOCK * k], 1);
        }
    }
}

static void test_rule_searches(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(124);
    static float v[QZ_RULE_TOGETHER * QZ_RULE_SEARCHED];
    for (size_t repeat = 0; repeat < cases(3000, 300); repeat++) {
        fill_searched(&rng, v);
        struct work iq4 = {.kernel = "rule_iq4", .call = call_rule_iq4};
        iq4.in[0] = (struct part){v, sizeof v, 4};
        iq4.out[0] = (struct part){NULL, sizeof(float) * QZ_RULE_TOGETHER, 4};
        check(&iq4, 1);
        struct work q4_k = {.kernel = "rule_q4_k", .call = call_rule_q4_k};
        q4_k.in[0] = iq4.in[0];
        q4_k.out[0] = (struct part){NULL, 2 * sizeof(float) * QZ_RULE_TOGETHER, 4};
        q4_k.out[1] = q4_k.out[2] = iq4.out[0];
        check(&q4_k, 1);
    }
}

/* ---- decoding ------------------------------------------------------------------------------------------------ */

static void decode_work(struct work *w, const struct tile *tile, size_t kind, size_t n, size_t group_size)
{
    w->grid = grid_kind(kind);
    w->n = n;
    w->group_size = group_size;
    w->in[0] = (struct part){tile->packed, n / 2 + n % 2, 1};
    w->in[1] = (struct part){tile->scale, groups_of(n, group_size) * 4, 4};
    w->in[2] = (struct part){tile->zero, groups_of(n, group_size) * 4, 4};
    w->out[0] = (struct part){NULL, n * 4, 4};
}

static void test_group_decode(void **state)
{
    (void)state;
    guard_report_faults();
    static struct tile tile;
    struct rng rng = rng_make(115);
    struct work w = {.kernel = "group_decode", .call = call_group_decode};
    for (size_t kind = 0; kind < 4; kind++)
        for (size_t s = 0; s < COUNT(group_sizes); s++)
            for (size_t n = 1; n; n = next_group_length(n, group_sizes[s])) {
                decode_tile(&rng, &tile, kind, n, group_sizes[s]);
                decode_work(&w, &tile, kind, n, group_sizes[s]);
                check(&w, n % 16 == 3 && n < 300 ? all_places(1) : 4);
            }
    for (size_t repeat = 0; repeat < cases(3000, 60); repeat++) {
        size_t group_size = rng_below(&rng, 2) ? 8u << rng_below(&rng, 8) : 8 + rng_below(&rng, 500);
        size_t n = rng_below(&rng, 2) ? QZ_TILE : 1 + rng_below(&rng, QZ_TILE), kind = repeat % SCHEME_KINDS;
        decode_tile(&rng, &tile, kind, n, group_size);
        decode_work(&w, &tile, kind, n, group_size);
        check(&w, 1);
    }
}

/* Numbers of a stored type, none of them NaN or infinite; now and then the ends of its range. */
static void fill_stored(struct rng *rng, qz_dtype dtype, uint8_t *to, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float x = rng_normal(rng) * power_of_two((int)rng_below(rng, 20) - 10);
        uint16_t half = dtype == QZ_F32 || dtype > QZ_BF16 ? 0 : ref_half_bits(ref_round((double)x, dtype), dtype);
        uint8_t byte = (uint8_t)rng_below(rng, 256);
        if (rng_below(rng, 8) == 0)
            byte = (uint8_t)(rng_below(rng, 3) + 255); /* 255, 0, 1 */
        if ((dtype == QZ_E4M3 && (byte & 0x7f) == 0x7f) || (dtype == QZ_E8M0 && byte == 255))
            byte--;
        if (dtype == QZ_F32)
            memcpy(to + 4 * i, &x, 4);
        else if (dtype == QZ_F16 || dtype == QZ_BF16)
            memcpy(to + 2 * i, &half, 2);
        else
            to[i] = byte;
    }
}

/* Checks the scalar stored_decode by float32 values, and by the numbers of narrow types that are nearest to them. */
static void check_stored_scalar(struct work *w, const uint8_t *const numbers[3], const float *super,
                                const float *wanted)
{
    static const qz_dtype dtypes[] = {QZ_F32, QZ_F16, QZ_BF16};
    size_t n = w->n * w->group_size;
    void *in[4], *out[] = {floats_a};
    memcpy(in, numbers, 3 * sizeof *in);
    memcpy(&in[3], &super, sizeof super);
    for (size_t t = 0; t < COUNT(dtypes); t++) {
        w->dtype = dtypes[t];
        int beyond = w->call(&qz_kernels_scalar, w, in, out) != 0, found = 0;
        if (t == 0)
            assert_memory_equal(floats_a, wanted, n * 4);
        for (size_t i = 0; i < n && t > 0; i++) {
            double value = ref_round((double)wanted[i], dtypes[t]);
            found |= isinf(value);
            if (!beyond)
                assert_true(ref_load((const uint16_t *)(const void *)floats_a + i, dtypes[t]) == value);
        }
        assert_true(beyond >= found); /* also where the code that would be too large is not used */
    }
}

/* Checks stored_decode for some groups; and the scalar set, by group_decode with what single groups' numbers are. */
static void check_stored(struct rng *rng, struct work *w, qz_dtype dtype, size_t groups, size_t group_size)
{
    static uint8_t packed[QZ_TILE * 8], scale[QZ_TILE], zero[QZ_TILE];
    static float super[QZ_TILE], wanted[QZ_TILE * 16];
    static const size_t shared[] = {1, 2, 5, 8, 12, 16, 24, 48, SIZE_MAX};
    size_t each = shared[rng_below(rng, COUNT(shared))], size = qz_dtype_size(dtype), supers = groups + 1;
    size_t first = each == SIZE_MAX ? SIZE_MAX : rng_below(rng, 2) ? each : 1 + rng_below(rng, each);
    int nibbles = w->grid.zero == QZ_ZERO_UINT4;
    w->n = groups;
    w->group_size = group_size;
    w->stored = (struct qz_stored){.dtype = dtype, .first = first, .each = each};
    fill_bytes(rng, packed, groups * group_size / 2);
    fill_stored(rng, dtype, scale, groups);
    fill_stored(rng, nibbles ? QZ_U6 : dtype, zero, groups);
    fill_floats(rng, DATA_NORMAL, super, 2 * supers);
    w->in[0] = (struct part){packed, groups * group_size / 2, 1};
    w->in[1] = (struct part){scale, groups * size, size};
    w->in[2] = (struct part){zero, nibbles ? (groups + 1) / 2 : groups * size, nibbles ? 1 : size};
    if (w->grid.zero == QZ_ZERO_NONE || dtype == QZ_I7)
        w->in[2] = (struct part){NULL, 0, 0};
    size_t used = each == SIZE_MAX || groups <= first ? 1 : 1 + (groups - first + each - 1) / each;
    w->in[3] = (struct part){NULL, 0, 0};
    if (dtype > QZ_BF16) { /* those of scales, then those of offsets: no more of either than are needed */
        memmove(super + used, super + supers, used * sizeof *super);
        w->in[3] = (struct part){super, 2 * used * 4, 4};
    }
    static const qz_dtype dtypes[] = {QZ_F32, QZ_F16, QZ_BF16};
    for (size_t t = 0; t < COUNT(dtypes); t++) {
        size_t unit = qz_dtype_size(dtypes[t]);
        w->dtype = dtypes[t];
        w->out[0] = (struct part){NULL, groups * group_size * unit, unit};
        check(w, 4);
    }

    const uint8_t *numbers[] = {packed, scale, zero};
    for (size_t g = 0; g < groups; g++) {
        float s = 0.0f, z = 0.0f, unused;
        size_t k = g < first ? 0 : 1 + (g - first) / each;
        const uint8_t *number = scale + g * size, *other = zero + g * size;
        if (dtype > QZ_BF16)
            qz_kernels_scalar.byte_scales(dtype, number, 1, super + k, 1, w->grid.shift, &s, &z);
        else
            s = (float)ref_load(number, dtype);
        if (nibbles)
            z = (float)(zero[g / 2] >> (g % 2 * 4) & 15);
        else if (dtype == QZ_U6)
            qz_kernels_scalar.byte_scales(dtype, other, 1, super + used + k, 1, 0.0f, &z, &unused);
        else if (w->grid.zero != QZ_ZERO_NONE && dtype <= QZ_BF16)
            z = (float)ref_load(other, dtype);
        qz_kernels_scalar.group_decode(packed + g * group_size / 2, group_size, group_size, &w->grid, &s, &z,
                                       wanted + g * group_size);
    }
    check_stored_scalar(w, numbers, super, wanted);
}

static void test_stored_decode(void **state)
{
    (void)state;
    guard_report_faults();
    static const qz_dtype plain[] = {QZ_F32, QZ_F16, QZ_BF16};
    static const char *const named[] = {"nvfp4", "mxfp4", "iq4_xs", "q4_k", "dual4"};
    static const size_t sizes[] = {16, 32, 48, 64, 80, 128, 256};
    struct rng rng = rng_make(132);
    struct work w = {.kernel = "stored_decode", .call = call_stored_decode, .returned = RETURNS_BAD_OR_DATA};
    for (size_t s = 0; s < COUNT(sizes); s++)
        for (size_t groups = 1; groups * sizes[s] <= QZ_TILE; groups = next_length(groups)) {
            for (size_t kind = 0; kind < SCHEME_KINDS; kind++) {
                if (left_out(&rng, 1, 3))
                    continue;
                w.grid = grid_kind(kind);
                check_stored(&rng, &w, plain[(kind + groups) % COUNT(plain)], groups, sizes[s]);
            }
            for (size_t i = 0; i < COUNT(named); i++) {
                const qz_scheme *scheme = qz_scheme_by_name(named[i]);
                memset(&w.grid, 0, sizeof w.grid);
                qz_scheme_values(scheme, &w.grid);
                check_stored(&rng, &w, scheme->scale_dtype, groups, sizes[s]);
            }
        }
}

/* ---- errors -------------------------------------------------------------------------------------------------- */

/* Sums that are not 0 at the start. */
static struct qz_sums some_sums(struct rng *rng)
{
    struct qz_sums sums;
    for (size_t lane = 0; lane < QZ_SUMS_LANES; lane++) {
        sums.signal[lane] = fabsf(rng_normal(rng));
        sums.error[lane] = fabsf(rng_normal(rng)) * 0x1p-10f;
    }
    sums.max_error = rng_below(rng, 2) ? 0.0f : fabsf(rng_normal(rng)) * 0.1f;
    return sums;
}

/* y: what x might decode to. */
static void fill_pair(struct rng *rng, enum data_kind kind, float *x, float *y, size_t n)
{
    fill_floats(rng, kind, x, n);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = bits_of_float(x[i]);
        y[i] = rng_below(rng, 8) ? float_of_bits(bits ^ ((uint32_t)rng_next(rng) & 0xfffff)) : x[i];
    }
}

static void test_error(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(116);
    struct work w = {.kernel = "error", .call = call_error};
    for (size_t repeat = 0, n = 0; repeat < cases(6000, 400);
         repeat++, n = n < 260 ? n + 1 : 1 + rng_below(&rng, QZ_TILE)) {
        struct qz_sums sums = some_sums(&rng);
        fill_pair(&rng, (enum data_kind)rng_below(&rng, DATA_KINDS), floats_a, floats_b, n);
        w.n = n;
        w.in[0] = (struct part){floats_a, n * 4, 4};
        w.in[1] = (struct part){floats_b, n * 4, 4};
        w.out[0] = (struct part){&sums, sizeof sums, 4};
        check(&w, n <= 260 ? all_places(4) : 1);
    }
}

static void test_group_codes_error(void **state)
{
    (void)state;
    guard_report_faults();
    static struct tile tile;
    struct rng rng = rng_make(117);
    struct work w = {.kernel = "group_codes_error", .call = call_group_codes_error, .returned = RETURNS_NUMBER};
    struct qz_sums sums;
    for (size_t kind = 0; kind < SCHEME_KINDS; kind++)
        for (size_t s = 0; s < COUNT(group_sizes); s++)
            for (size_t n = 1; n; n = next_group_length(n, group_sizes[s])) {
                if (left_out(&rng, 1, 3))
                    continue;
                (n % 2 ? fitted_tile : threshold_tile)(&rng, &tile, kind, n, group_sizes[s]);
                codes_work(&w, &tile, kind, n, group_sizes[s]);
                sums = some_sums(&rng);
                w.in[3] = w.in[2];
                w.in[2] = w.in[1];
                w.in[1] = (struct part){tile.scale, groups_of(n, group_sizes[s]) * 4, 4};
                w.out[1] = (struct part){&sums, sizeof sums, 4};
                check(&w, kind < 4 ? group_places(n) : 2);
            }
}

static void test_find_error(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(118);
    struct work w = {.kernel = "find_error", .call = call_find_error, .returned = RETURNS_NUMBER};
    for (size_t n = 0; n <= QZ_TILE; n = next_length(n))
        for (size_t repeat = 0; repeat < 5; repeat++) {
            fill_pair(&rng, (enum data_kind)rng_below(&rng, DATA_KINDS), floats_a, floats_b, n);
            size_t i = n ? rng_below(&rng, n) : 0;
            w.wanted = n && repeat ? fabsf(floats_a[i] - floats_b[i]) : 123.0f; /* of several, the first */
            w.n = n;
            w.in[0] = (struct part){floats_a, n * 4, 4};
            w.in[1] = (struct part){floats_b, n * 4, 4};
            check(&w, repeat == 1 ? all_places(4) : 2);
        }
    for (size_t n = 1; n <= 140; n++) /* in each place, alone */
        for (size_t i = 0; i < n; i++) {
            memset(floats_a, 0, n * 4);
            memset(floats_b, 0, n * 4);
            floats_b[i] = 3;
            w.wanted = 3;
            w.n = n;
            w.in[0] = (struct part){floats_a, n * 4, 4};
            w.in[1] = (struct part){floats_b, n * 4, 4};
            check(&w, 1);
        }
}

static void test_weighted_error(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(122);
    struct work w = {.kernel = "weighted_error", .call = call_weighted_error};
    static float weights[QZ_TILE];
    for (size_t n = 0; n <= QZ_TILE; n = next_length(n))
        for (size_t repeat = 0; repeat < 5; repeat++) {
            fill_pair(&rng, (enum data_kind)rng_below(&rng, DATA_KINDS), floats_a, floats_b, n);
            for (size_t i = 0; i < n; i++)
                weights[i] = (float)rng_below(&rng, 1u << 24) * power_of_two(-(int)rng_below(&rng, 30));
            w.n = n;
            w.in[0] = (struct part){floats_a, n * 4, 4};
            w.in[1] = (struct part){floats_b, n * 4, 4};
            w.in[2] = (struct part){weights, n * 4, 4};
            w.out[0] = (struct part){NULL, 8, 8};
            check(&w, repeat == 1 ? all_places(4) : 2);
        }
    /* Each value counts, by its own weight. */
    double sum = 0;
    for (size_t i = 0; i < 100; i++) {
        floats_a[i] = (float)i;
        floats_b[i] = -2.0f;
        weights[i] = (float)(i % 7);
        sum += (double)(i % 7) * (double)((i + 2) * (i + 2));
    }
    for (size_t s = 0; s < set_count; s++)
        assert_true(sets[s]->weighted_error(floats_a, floats_b, weights, 100) == sum);
}

int main(void)
{
    start_kernels("test_kernels_groups");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_group_range),       cmocka_unit_test(test_fit),
        cmocka_unit_test(test_group_codes),       cmocka_unit_test(test_group_encode),
        cmocka_unit_test(test_rule_codes),        cmocka_unit_test(test_group_decode),
        cmocka_unit_test(test_stored_decode),     cmocka_unit_test(test_error),
        cmocka_unit_test(test_group_codes_error), cmocka_unit_test(test_find_error),
        cmocka_unit_test(test_weighted_error),    cmocka_unit_test(test_rule_searches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
