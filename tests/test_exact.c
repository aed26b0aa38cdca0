/*
 * test_exact.c - the best scale of a group against slow oracles that try everything
 *
 * Where a type of scales has few numbers the oracle tries them all; for float32 it sorts the scales at which some value
 * is rounded another way, and fits a scale between any two of them.
 */
#include "support/program.h"
#include "support/reference.h"

#include "scales/exact.h"

enum { MOST = 9000 };

/* ---- rules --------------------------------------------------------------------------------------------------- */

enum levels { F32, F16, BF16, E4M3, E8M0, SIX_BITS };

struct named_rule {
    const char *name;
    struct qz_exact rule;
    enum levels levels;
    float super;
};

#define UNIFORM(low, high) .uniform = 1, .lo = low, .hi = high
#define NF4                                                                                                            \
    .sorted = {-1.0f,                                                                                                  \
               -0.6961928009986877f,                                                                                   \
               -0.5250730514526367f,                                                                                   \
               -0.39491748809814453f,                                                                                  \
               -0.28444138169288635f,                                                                                  \
               -0.18477343022823334f,                                                                                  \
               -0.09105003625154495f,                                                                                  \
               0.0f,                                                                                                   \
               0.07958029955625534f,                                                                                   \
               0.16093020141124725f,                                                                                   \
               0.24611230194568634f,                                                                                   \
               0.33791524171829224f,                                                                                   \
               0.44070982933044434f,                                                                                   \
               0.5626170039176941f,                                                                                    \
               0.7229568362236023f,                                                                                    \
               1.0f}
#define E2M1   .sorted = {-6, -4, -3, -2, -1.5f, -1, -0.5f, -0.0f, 0, 0.5f, 1, 1.5f, 2, 3, 4, 6}
#define IQ4_NL .sorted = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}
#define ABOVE  .sorted = {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32} /* no 0, nothing negative */

static const struct named_rule rules[] = {
    {"int4 float16", {.levels = {10, -24, {0x7bff, 0x7bff}}, UNIFORM(-8, 7)}, F16, 1},
    {"int4 float16 positive", {.levels = {10, -24, {0x7bff, 0}}, UNIFORM(-8, 7)}, F16, 1},
    {"int4 bfloat16", {.levels = {7, -133, {0x7f7f, 0x7f7f}}, UNIFORM(-8, 7)}, BF16, 1},
    {"int4 float32", {.levels = {23, -149, {0x7f7fffff, 0x7f7fffff}}, UNIFORM(-8, 7)}, F32, 1},
    {"-7..7 float16", {.levels = {10, -24, {0x7bff, 0x7bff}}, UNIFORM(-7, 7)}, F16, 1},
    {"uint4 float16", {.levels = {10, -24, {0x7bff, 0}}, .uniform = 1, .zero4 = 1}, F16, 1},
    {"uint4 float32", {.levels = {23, -149, {0x7f7fffff, 0}}, .uniform = 1, .zero4 = 1}, F32, 1},
    {"int4 6 bits", {.levels = {8, 0, {31, 32}}, UNIFORM(-8, 7)}, SIX_BITS, 0.01f},
    {"int4 6 bits of a negative scale", {.levels = {8, 0, {31, 32}}, UNIFORM(-8, 7)}, SIX_BITS, -0.013f},
    {"NF4 float16", {.levels = {10, -24, {0x7bff, 0x7bff}}, NF4}, F16, 1},
    {"NF4 float32", {.levels = {23, -149, {0x7f7fffff, 0x7f7fffff}}, NF4}, F32, 1},
    {"NF4 float32 positive", {.levels = {23, -149, {0x7f7fffff, 0}}, NF4}, F32, 1},
    {"E2M1 float16", {.levels = {10, -24, {0x7bff, 0x7bff}}, E2M1}, F16, 1},
    {"E2M1 E8M0", {.levels = {0, -127, {255, 0}}, E2M1}, E8M0, 1},
    {"E2M1 E4M3", {.levels = {3, -9, {126, 0}}, E2M1}, E4M3, 0.00123f},
    {"IQ4_NL float16", {.levels = {10, -24, {0x7bff, 0x7bff}}, IQ4_NL}, F16, 1},
    {"IQ4_NL 6 bits", {.levels = {8, 0, {31, 32}}, IQ4_NL}, SIX_BITS, 0.0009f},
    {"IQ4_NL float32", {.levels = {23, -149, {0x7f7fffff, 0x7f7fffff}}, IQ4_NL}, F32, 1},
    {"positive values, float16", {.levels = {10, -24, {0x7bff, 0x7bff}}, ABOVE}, F16, 1},
};
enum { RULES = sizeof rules / sizeof rules[0] };

/* The scale of a level > 0, not multiplied by super. */
static double level_of(enum levels levels, uint32_t level)
{
    uint16_t half = (uint16_t)level;
    switch (levels) {
    case F16:
        return ref_load(&half, QZ_F16);
    case BF16:
        return ref_load(&half, QZ_BF16);
    case F32:
        return (double)float_of_bits(level);
    case E8M0:
        return ref_from_byte(QZ_E8M0, level - 1);
    case E4M3:
        return ref_from_byte(QZ_E4M3, level);
    default:
        return (double)level;
    }
}

/* What a rule decodes to: at most 16 values for a zero and a scale. */
static int values_of(const struct qz_exact *rule, int zero, double *value)
{
    int count = 0, lo = rule->zero4 ? -zero : rule->lo, hi = rule->zero4 ? 15 - zero : rule->hi;
    for (int v = lo; rule->uniform && v <= hi; v++)
        value[count++] = v;
    for (int v = 0; !rule->uniform && v < 16; v++)
        value[count++] = (double)rule->sorted[v];
    return count;
}

/* ---- oracles ------------------------------------------------------------------------------------------------- */

struct group {
    size_t n;
    float x[MOST], w[MOST];
    int weighted;
};

static double weight_of(const struct group *group, size_t i)
{
    return group->weighted ? (double)group->w[i] : 1.0;
}

/* The error of a scale, or something above `limit` if it is above. */
static double error_of(const struct group *group, const double *value, int count, float scale, double limit)
{
    double decoded[16] = {0}, total = 0;
    for (int v = 0; v < count; v++) {
        float product = scale * (float)value[v];
        decoded[v] = isinf(product) ? (double)scale * value[v] : (double)product;
    }
    for (size_t i = 0; i < group->n && total <= limit; i++) {
        double x = (double)group->x[i], least = fabs(x - decoded[0]);
        for (int v = 1; v < count; v++) {
            double distance = fabs(x - decoded[v]);
            least = distance < least ? distance : least;
        }
        total += weight_of(group, i) * least * least;
    }
    return total;
}

/* The least error of all levels, if it is less than `limit`. Large elements come first: few of them rule a bad scale
 * out. */
static double best_level(const struct named_rule *named, const struct group *original, double limit)
{
    const struct qz_exact *rule = &named->rule;
    static struct group sorted, *group = &sorted;
    sorted.n = 0;
    sorted.weighted = original->weighted;
    for (size_t i = 0; i < original->n; i++) {
        if (weight_of(original, i) == 0)
            continue;
        size_t at = sorted.n++;
        for (; at > 0 && fabsf(sorted.x[at - 1]) < fabsf(original->x[i]); at--) {
            sorted.x[at] = sorted.x[at - 1];
            sorted.w[at] = sorted.w[at - 1];
        }
        sorted.x[at] = original->x[i];
        sorted.w[at] = original->w[i];
    }
    for (int zero = 0; zero < (rule->zero4 ? 16 : 1); zero++) {
        double value[16];
        int count = values_of(rule, zero, value);
        for (int sign = 0; sign < 2; sign++)
            for (uint32_t level = 0; level <= rule->levels.most[sign]; level++) {
                double magnitude = level ? level_of(named->levels, level) : 0;
                float scale = (float)(magnitude * (double)named->super);
                double error = error_of(group, value, count, sign ? -scale : scale, limit);
                limit = error < limit ? error : limit;
            }
    }
    return limit;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A scale for every way to round: the best of those between each two at which something changes. */
static double best_of_all(const struct named_rule *named, const struct group *group)
{
    static double change[70 * 16 + 2];
    const struct qz_exact *rule = &named->rule;
    double value[16] = {0}, best = (double)INFINITY;
    for (int zero = 0; zero < (rule->zero4 ? 16 : 1); zero++)
        for (int sign = 1; sign >= (rule->levels.most[1] ? -1 : 1); sign -= 2) {
            int count = values_of(rule, zero, value);
            size_t changes = 0;
            for (size_t i = 0; i < group->n; i++)
                for (int v = 1; v < count; v++) {
                    double at = sign * (double)group->x[i] / ((value[v - 1] + value[v]) / 2);
                    if (at > 0 && at < (double)INFINITY)
                        change[changes++] = at;
                }
            if (changes == 0)
                change[changes++] = 1;
            qsort(change, changes, sizeof *change, compare_doubles);
            change[changes] = change[changes - 1] * 2;
            for (size_t c = 0; c <= changes; c++) {
                double scale = sign * (c ? (change[c - 1] + change[c]) / 2 : change[0] / 2), xq = 0, qq = 0, error = 0;
                double nearest[70];
                for (size_t i = 0; i < group->n; i++) {
                    nearest[i] = value[0];
                    for (int v = 1; v < count; v++)
                        if (fabs((double)group->x[i] - scale * value[v]) <
                            fabs((double)group->x[i] - scale * nearest[i]))
                            nearest[i] = value[v];
                    xq += weight_of(group, i) * (double)group->x[i] * nearest[i];
                    qq += weight_of(group, i) * nearest[i] * nearest[i];
                }
                double fitted = qq > 0 ? xq / qq : 0;
                fitted = fitted * sign > 0 ? ref_clamp(fitted, -(double)FLT_MAX, (double)FLT_MAX) : 0;
                for (size_t i = 0; i < group->n; i++) {
                    double difference = (double)group->x[i] - fitted * nearest[i];
                    error += weight_of(group, i) * difference * difference;
                }
                best = fmin(best, error);
            }
        }
    return best;
}

/* ---- groups -------------------------------------------------------------------------------------------------- */

enum { HEAVY_TAILS = DATA_KINDS, FEW_VALUES, EXACT_FIT, KINDS };

static const char *kind_name(int kind)
{
    static const char *const names[] = {"heavy tails", "few values", "exact fit"};
    return kind < DATA_KINDS ? data_name((enum data_kind)kind) : names[kind - DATA_KINDS];
}

static void fill_group(struct rng *rng, struct group *group, size_t n, int kind, const struct qz_exact *rule)
{
    group->n = n;
    group->weighted = (int)rng_below(rng, 2);
    fill_floats(rng, kind < DATA_KINDS ? (enum data_kind)kind : DATA_NORMAL, group->x, n);
    float step = (float)rng_below(rng, 1000) * power_of_two(-10 - (int)rng_below(rng, 8));
    double value[16];
    int count = values_of(rule, 3, value);
    for (size_t i = 0; i < n; i++) {
        float x = group->x[i], square = x * x;
        if (kind == HEAVY_TAILS)
            group->x[i] = x * (0.3f + square * square);
        if (kind == FEW_VALUES)
            group->x[i] = x < -0.3f ? -1.0f : x < 0.2f ? 0.25f : 1.0f;
        if (kind == EXACT_FIT)
            group->x[i] = step * (float)value[rng_below(rng, (size_t)count)];
    }
    for (size_t i = 0; i < n; i++) {
        float weight = rng_normal(rng);
        group->w[i] = rng_below(rng, 4) ? weight * weight : 0.0f;
    }
    group->w[rng_below(rng, n)] = 1.5f;
}

static struct qz_exact_source source_of(const struct group *group)
{
    return (struct qz_exact_source){group->x, group->weighted ? group->w : NULL, group->n, NULL, NULL, 0};
}

static double signal_of(const struct group *group)
{
    double total = 0;
    for (size_t i = 0; i < group->n; i++)
        total += weight_of(group, i) * (double)group->x[i] * (double)group->x[i];
    return total;
}

/* ---- tests --------------------------------------------------------------------------------------------------- */

static char doing[200];

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            fail_msg("%s: %s", doing, #condition);                                                                     \
    } while (0)

/* Rounding of decoded values to float32 in what is nearly perfect, and below the normal numbers. */
static double with_slack(const struct group *group, double error)
{
    double weights = 0;
    for (size_t i = 0; i < group->n; i++)
        weights += weight_of(group, i);
    double root = sqrt(error) + 0x1p-22 * sqrt(signal_of(group)) + 0x1p-149 * sqrt(weights);
    return root * root;
}

/* What a result says about itself. Returns its error. */
static double check_result(const struct named_rule *named, const struct group *group,
                           const struct qz_exact_result *result)
{
    const struct qz_exact *rule = &named->rule;
    struct qz_exact_source source = source_of(group);
    uint32_t level = (uint32_t)abs(result->level);
    CHECK(level <= rule->levels.most[result->level < 0]);
    double magnitude = level ? level_of(named->levels, level) : 0;
    CHECK(result->scale == (float)((result->level < 0 ? -magnitude : magnitude) * (double)named->super));
    CHECK(result->zero >= 0 && result->zero <= (rule->zero4 ? 15 : 0));
    double value[16];
    int count = values_of(rule, result->zero, value);
    double error = level ? error_of(group, value, count, result->scale, (double)INFINITY) : signal_of(group);
    CHECK(result->error <= with_slack(group, error) * (1 + 0x1p-16));
    CHECK(error <= with_slack(group, result->error) * (1 + 0x1p-16));
    CHECK(result->bound <= result->error);
    if (level && !isinf(result->scale * 16.0f) && !rule->sorted[0])
        CHECK(fabs(qz_exact_error(rule, &source, result->scale, result->zero) - error) <= 1e-12 * error);
    return error;
}

static void test_all_levels(void **state)
{
    (void)state;
    static struct group group;
    struct rng rng = rng_make(1);
    for (size_t i = 0; i < cases(456, 40); i++) {
        const struct named_rule *named = &rules[i % RULES];
        int kind = (int)(i / RULES % KINDS);
        if (named->levels == F32)
            continue;
        size_t n = i % 11 == 0 ? 1000 : i % 3 == 0 ? 32 : 1 + rng_below(&rng, 70);
        fill_group(&rng, &group, n, kind, &named->rule);
        snprintf(doing, sizeof doing, "%s, %s, n = %zu%s, case %zu", named->name, kind_name(kind), n,
                 group.weighted ? ", weighted" : "", i);
        struct qz_exact_source source = source_of(&group);
        struct qz_exact_result result;
        float start = i % 2 ? 0.0f : rng_normal(&rng);
        qz_exact_scale(&named->rule, &source, named->super, start, &result);
        double error = check_result(named, &group, &result), best = best_level(named, &group, error);
        CHECK(error <= with_slack(&group, best) * (1 + 0x1p-15));
        CHECK(result.bound <= with_slack(&group, best));
    }
}

static void test_float32(void **state)
{
    (void)state;
    static struct group group;
    struct rng rng = rng_make(2);
    for (size_t i = 0; i < cases(3000, 100); i++) {
        const struct named_rule *named = &rules[i % RULES];
        int kind = (int)(i / RULES % KINDS);
        if (named->levels != F32)
            continue;
        size_t n = 1 + rng_below(&rng, 70);
        fill_group(&rng, &group, n, kind, &named->rule);
        snprintf(doing, sizeof doing, "%s, %s, n = %zu%s, case %zu", named->name, kind_name(kind), n,
                 group.weighted ? ", weighted" : "", i);
        struct qz_exact_source source = source_of(&group);
        struct qz_exact_result result;
        qz_exact_scale(&named->rule, &source, named->super, 0, &result);
        double error = check_result(named, &group, &result), best = best_of_all(named, &group);
        CHECK(error <= with_slack(&group, best) * 1.00023); /* 0.001 dB */
        CHECK(result.bound <= with_slack(&group, best));
    }
}

/* What is exactly representable is found, with every type of scale. */
static void test_exact_fit(void **state)
{
    (void)state;
    static struct group group;
    struct rng rng = rng_make(3);
    for (size_t i = 0; i < cases(2000, 200); i++) {
        const struct named_rule *named = &rules[i % RULES];
        const struct qz_exact *rule = &named->rule;
        uint32_t most = rule->levels.most[0], level = 1 + (uint32_t)rng_below(&rng, most);
        if (level > most / 4 * 3 || level < most / 4)
            continue;
        snprintf(doing, sizeof doing, "%s, level %u, case %zu", named->name, (unsigned)level, i);
        double value[16] = {0};
        int zero = rule->zero4 ? (int)rng_below(&rng, 16) : 0, count = values_of(rule, zero, value);
        float scale = (float)(level_of(named->levels, level) * (double)named->super);
        group.weighted = 0;
        group.n = 64;
        for (size_t k = 0; k < group.n; k++)
            group.x[k] = scale * (float)value[k % (size_t)count];
        struct qz_exact_source source = source_of(&group);
        struct qz_exact_result result;
        qz_exact_scale(rule, &source, named->super, 0, &result);
        double error = check_result(named, &group, &result);
        CHECK(error == 0);
        CHECK(result.error == 0 && result.bound == 0);
    }
}

static void test_nothing(void **state)
{
    (void)state;
    static const float zeros[40] = {0};
    for (size_t i = 0; i < RULES; i++)
        for (uint64_t n = 0; n <= 40; n += 20) {
            struct qz_exact_source source = {zeros, n % 40 ? zeros : NULL, n, NULL, NULL, 0};
            struct qz_exact_result result = {1, 1, 1, 1, 1};
            qz_exact_scale(&rules[i].rule, &source, rules[i].super, 1.0f, &result);
            assert_true(result.scale == 0 && result.level == 0 && result.zero == 0);
            assert_true(result.error == 0 && result.bound == 0);
        }
}

/* Where only zeros have weight, all have. */
static void test_no_weight(void **state)
{
    (void)state;
    static struct group group;
    struct rng rng = rng_make(8);
    for (size_t i = 0; i < 4 * RULES; i++) {
        const struct named_rule *named = &rules[i % RULES];
        fill_group(&rng, &group, 33, DATA_NORMAL, &named->rule);
        group.x[7] = 0;
        memset(group.w, 0, sizeof group.w);
        group.w[7] = i % 2 ? 1.0f : 0.0f;
        struct qz_exact_result result, other;
        struct qz_exact_source source = {group.x, group.w, group.n, NULL, NULL, 0};
        qz_exact_scale(&named->rule, &source, named->super, 0, &result);
        source.w = NULL;
        qz_exact_scale(&named->rule, &source, named->super, 0, &other);
        assert_true(result.level == other.level && result.zero == other.zero && result.error == other.error);
        assert_true(result.level != 0);
    }
}

/* ---- pieces -------------------------------------------------------------------------------------------------- */

struct cutter {
    const struct group *group;
    size_t most; /* elements in a piece */
    uint64_t expected;
    float x[QZ_EXACT_PIECE], w[QZ_EXACT_PIECE];
};

static const float *cut(void *context, uint64_t start, size_t *n, const float **w)
{
    struct cutter *cutter = context;
    const struct group *group = cutter->group;
    assert_true(start == cutter->expected % group->n);
    assert_true(*n == group->n - start);
    *n = *n < cutter->most ? *n : cutter->most;
    cutter->expected = start + *n;
    /* other pieces are not there */
    memset(cutter->x, 0xff, sizeof cutter->x);
    memset(cutter->w, 0xff, sizeof cutter->w);
    memcpy(cutter->x, group->x + start, *n * sizeof *cutter->x);
    memcpy(cutter->w, group->w + start, *n * sizeof *cutter->w);
    if (group->weighted)
        *w = cutter->w;
    return cutter->x;
}

static void test_pieces(void **state)
{
    (void)state;
    static struct group group;
    static struct cutter cutter;
    struct rng rng = rng_make(4);
    for (size_t i = 0; i < cases(RULES * 6, RULES); i++) {
        const struct named_rule *named = &rules[i % RULES];
        size_t n = i / RULES % 2 ? MOST - rng_below(&rng, 1000) : 1 + rng_below(&rng, 300);
        fill_group(&rng, &group, n, i % 2 ? DATA_NORMAL : HEAVY_TAILS, &named->rule);
        cutter.group = &group;
        cutter.most = i % 5 == 0 ? QZ_EXACT_PIECE : n > 1000 ? 1000 : 1 + rng_below(&rng, 50);
        cutter.expected = 0;
        snprintf(doing, sizeof doing, "%s, n = %zu, pieces of %zu, case %zu", named->name, n, cutter.most, i);
        struct qz_exact_source whole = source_of(&group), pieces = {NULL, NULL, n, cut, &cutter, 0};
        struct qz_exact_result result, other;
        qz_exact_scale(&named->rule, &whole, named->super, 0, &result);
        qz_exact_scale(&named->rule, &pieces, named->super, 0, &other);
        double error = check_result(named, &group, &result), error_other = check_result(named, &group, &other);
        double tolerance = named->levels == F32 ? 1.00023 : 1 + 0x1p-15;
        CHECK(error <= error_other * tolerance && error_other <= error * tolerance);
        CHECK(fabs(qz_exact_error(&named->rule, &pieces, other.scale, other.zero) - error_other) <= 1e-9 * error_other);
        if (cutter.most == QZ_EXACT_PIECE)
            CHECK(result.level == other.level && result.zero == other.zero && result.error == other.error);
    }
}

/* A million values: smooth enough that a scan of scales and a search among neighbours finds the best. */
static void test_long(void **state)
{
    (void)state;
    size_t n = cases(1000000, 20000);
    float *x = malloc(n * sizeof *x);
    struct rng rng = rng_make(5);
    for (size_t i = 0; i < n; i++) {
        float value = rng_normal(&rng);
        x[i] = value * (0.3f + value * value);
    }
    struct qz_exact_source source = {x, NULL, n, NULL, NULL, 0};
    struct qz_exact_result result;
    qz_exact_scale(&rules[0].rule, &source, 1, 0, &result);
    double error = qz_exact_error(&rules[0].rule, &source, result.scale, 0);
    assert_true(fabs(error - result.error) <= 0x1p-16 * error);
    assert_true(result.bound <= result.error && result.bound > result.error * (1 - 0x1p-15));
    for (int sign = -1; sign <= 1; sign += 2)
        for (int step = -8; step <= 8; step++) {
            int32_t level = abs(result.level) + step * (abs(step) < 5 ? 1 : 40);
            float scale = (float)(sign * level_of(F16, (uint32_t)level));
            assert_true(qz_exact_error(&rules[0].rule, &source, scale, 0) >= error * (1 - 0x1p-15));
        }
    free(x);
}

/* ---- the same everywhere ------------------------------------------------------------------------------------- */

/* Powers of two change nothing. */
static void test_powers_of_two(void **state)
{
    (void)state;
    static struct group group, scaled;
    struct rng rng = rng_make(6);
    for (size_t i = 0; i < cases(2000, 200); i++) {
        const struct named_rule *named = &rules[i % RULES];
        if (named->levels != SIX_BITS && named->levels != E4M3)
            continue;
        fill_group(&rng, &group, 1 + rng_below(&rng, 70), DATA_NORMAL, &named->rule);
        scaled = group;
        float factor = power_of_two((int)rng_below(&rng, 80) - 40),
              factor_w = power_of_two((int)rng_below(&rng, 80) - 40);
        for (size_t k = 0; k < group.n; k++) {
            scaled.x[k] *= factor;
            scaled.w[k] *= factor_w;
        }
        struct qz_exact_source source = source_of(&group), source_scaled = source_of(&scaled);
        struct qz_exact_result result, other;
        qz_exact_scale(&named->rule, &source, named->super, 0, &result);
        qz_exact_scale(&named->rule, &source_scaled, named->super * factor, 0, &other);
        assert_int_equal(result.level, other.level);
        double unit = (double)factor * (double)factor * (group.weighted ? (double)factor_w : 1);
        assert_true(result.error * unit == other.error && result.bound * unit == other.bound);
    }
}

/* One number for the bits of thousands of results: every compiler must come to it. */
static void test_same_bits(void **state)
{
    (void)state;
    static struct group group;
    uint64_t seed = test_seed, hash = 0;
    test_seed = 1;
    struct rng rng = rng_make(7);
    for (size_t i = 0; i < 1000; i++) {
        const struct named_rule *named = &rules[i % RULES];
        fill_group(&rng, &group, 1 + rng_below(&rng, 70), (int)(i / RULES % KINDS), &named->rule);
        struct qz_exact_source source = source_of(&group);
        struct qz_exact_result result;
        qz_exact_scale(&named->rule, &source, named->super, 0, &result);
        uint64_t words[] = {bits_of_float(result.scale), (uint64_t)(uint32_t)result.level, (uint64_t)result.zero,
                            bits_of_double(result.error), bits_of_double(result.bound)};
        for (size_t k = 0; k < sizeof words / sizeof *words; k++)
            hash = (hash ^ words[k]) * 0x9e3779b97f4a7c15u, hash ^= hash >> 29;
    }
    test_seed = seed;
    assert_int_equal(hash, 0xe086fd76830765c5u);
}

int main(void)
{
    start_program("test_exact");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_levels), cmocka_unit_test(test_float32),       cmocka_unit_test(test_exact_fit),
        cmocka_unit_test(test_nothing),    cmocka_unit_test(test_no_weight),     cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_long),       cmocka_unit_test(test_powers_of_two), cmocka_unit_test(test_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
