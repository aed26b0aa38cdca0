/*
 * candidates.c - which scales a search tries
 *
 * A candidate is told by a factor: it makes of the largest magnitude of a group that many times what QZ_ABSMAX would
 * make of it, the other way round if negative. The fewest that come near to what all factors together reach were chosen
 * from a grid of them, for normal and Student t5 values at once and for those group sizes that the formats use; with
 * weights, for normal values whose weights are nearly the same, spread like powers of e, or the same but for one in 85
 * that is 225 times the others. The gain is in docs/accuracy.md.
 */
#include "fpenv.h"
#include "group.h"
#include "number.h"
#include "scheme.h"

#include <math.h>

/* What decides which candidates are good. */
enum kind {
    INTEGERS,
    INTEGERS_POSITIVE, /* scales may not be negative */
    TABLE,
    TABLE_POSITIVE,
    TABLE_MIRRORED, /* the sign of a scale makes no difference */
    TWO_TABLES
};

/* Where every value counts the same, the best scale is near to what the largest magnitude asks for. With weights it may
 * be anywhere: more is tried, and farther out. For groups of up to 48 values, and for longer ones. */
enum { UNWEIGHTED, WEIGHTED };
static const struct {
    size_t plain, second; /* how many for each of the two sets of values */
    float factor[18];
} candidates[][2][2] = {
    [INTEGERS] = {[UNWEIGHTED] = {{6, 0, {0.9f, 0.98f, 1.02f, 1.04f, 1.08f, 1.12f}},
                                  {6, 0, {0.88f, 0.94f, 0.98f, 1.02f, 1.08f, 1.16f}}},
                  [WEIGHTED] = {{10, 0, {0.74f, 0.84f, 0.9f, 0.98f, 1.02f, 1.08f, 1.16f, 1.3f, 1.54f, -1.14f}},
                                {12,
                                 0,
                                 {0.72f, 0.83f, 0.93f, 0.98f, 1.04f, 1.11f, 1.2f, 1.35f, 1.57f, -1.22f, -1.09f,
                                  -0.96f}}}},
    [INTEGERS_POSITIVE] =
        {[UNWEIGHTED] = {{8, 0, {0.88f, 0.98f, 1.02f, 1.06f, 1.1f, 1.14f, 1.2f, 1.26f}},
                         {8, 0, {0.96f, 1.02f, 1.06f, 1.1f, 1.14f, 1.18f, 1.24f, 1.34f}}},
         [WEIGHTED] = {{12, 0, {0.74f, 0.86f, 0.96f, 1.02f, 1.08f, 1.14f, 1.18f, 1.24f, 1.3f, 1.42f, 1.6f, 1.9f}},
                       {12, 0, {0.81f, 0.94f, 1.0f, 1.06f, 1.09f, 1.13f, 1.19f, 1.26f, 1.33f, 1.46f, 1.61f, 1.81f}}}},
    [TABLE] =
        {[UNWEIGHTED] = {{8, 0, {0.84f, 0.96f, 1.0f, 1.04f, 1.1f, -0.96f, -0.9f, -0.86f}},
                         {10, 0, {0.72f, 0.91f, 0.97f, 1.03f, 1.09f, -1.09f, -1.03f, -0.97f, -0.91f, -0.74f}}},
         [WEIGHTED] = {{12, 0, {0.78f, 0.86f, 0.96f, 1.0f, 1.06f, 1.12f, 1.24f, -1.12f, -1.0f, -0.92f, -0.86f, -0.7f}},
                       {12,
                        0,
                        {0.72f, 0.91f, 0.97f, 1.05f, 1.13f, 1.26f, -1.36f, -1.17f, -1.07f, -0.99f, -0.91f, -0.74f}}}},
    [TABLE_POSITIVE] =
        {[UNWEIGHTED] = {{8, 0, {0.76f, 0.92f, 0.96f, 1.0f, 1.04f, 1.08f, 1.14f, 1.2f}},
                         {8, 0, {0.78f, 0.88f, 0.94f, 0.98f, 1.02f, 1.06f, 1.12f, 1.18f}}},
         [WEIGHTED] = {{12, 0, {0.6f, 0.78f, 0.86f, 0.94f, 1.0f, 1.04f, 1.1f, 1.16f, 1.22f, 1.32f, 1.46f, 1.66f}},
                       {12, 0, {0.49f, 0.66f, 0.72f, 0.8f, 0.87f, 0.93f, 0.97f, 1.01f, 1.07f, 1.15f, 1.26f, 1.44f}}}},
    [TABLE_MIRRORED] = {[UNWEIGHTED] = {{6, 0, {0.64f, 0.68f, 0.74f, 0.94f, 1.02f, 1.1f}},
                                        {6, 0, {0.82f, 0.9f, 0.96f, 1.0f, 1.06f, 1.14f}}},
                        [WEIGHTED] = {{9, 0, {0.62f, 0.66f, 0.7f, 0.78f, 0.92f, 1.0f, 1.08f, 1.18f, 1.44f}},
                                      {9, 0, {0.72f, 0.85f, 0.95f, 1.01f, 1.07f, 1.15f, 1.26f, 1.44f, 1.71f}}}},
    [TWO_TABLES] =
        {[UNWEIGHTED] = {{6, 6, {0.79f, 0.97f, 1.0f, 1.06f, -0.94f, -1.0f, 0.76f, 0.91f, 0.97f, 1.03f, -0.94f, -1.0f}},
                         {6,
                          6,
                          {0.91f, 0.97f, 1.0f, 1.06f, -0.88f, -0.94f, 0.88f, 0.94f, 1.0f, -0.91f, -0.97f, -1.03f}}},
         [WEIGHTED] = {{9,
                        9,
                        {0.8f, 0.86f, 0.98f, 1.04f, 1.13f, -1.01f, -0.95f, -0.89f, -0.68f, 0.77f, 0.92f, 0.98f, 1.07f,
                         1.22f, -1.1f, -1.01f, -0.95f, -0.71f}},
                       {9,
                        9,
                        {0.88f, 0.94f, 0.99f, 1.05f, 1.19f, -1.13f, -1.02f, -0.94f, -0.85f, 0.71f, 0.88f, 0.94f, 1.02f,
                         1.16f, -1.19f, -1.07f, -0.99f, -0.91f}}}},
};

/* The longer a group, the farther its largest value is from the others: the best factors grow. */
static const struct {
    uint64_t longest;
    float growth;
} growths[] = {{48, 1.0f}, {96, 1.03f}, {192, 1.08f}, {384, 1.17f}, {768, 1.29f}};

/* For groups still longer, in which anything may be. */
static const float wide[] = {1.1f, 1.22f, 1.34f, 1.48f, 1.64f, 1.81f, 2.0f, 2.21f, 2.45f, 2.7f, 2.99f, 3.3f};

enum { WIDE = sizeof wide / sizeof wide[0], GROWTHS = sizeof growths / sizeof growths[0] };

static enum kind kind_of(const struct job *job)
{
    const struct qz_grid *grid = &job->grid;
    if (grid->uniform)
        return job->positive ? INTEGERS_POSITIVE : INTEGERS;
    if (grid->shift != 0.0f)
        return TWO_TABLES;
    int mirrored = 1;
    for (int i = 0; i < 16; i++)
        mirrored &= grid->sorted[i] == -grid->sorted[15 - i];
    return mirrored ? TABLE_MIRRORED : job->positive ? TABLE_POSITIVE : TABLE;
}

static QZ_NOINLINE void choose_factors(struct qz_search *rule, enum kind kind, int weighted, uint64_t group_size)
{
    size_t i = 0;
    while (i < GROWTHS && group_size > growths[i].longest)
        i++;
    int longer = i > 0;
    if (i == GROWTHS) {
        rule->plain = WIDE;
        rule->count = kind == TWO_TABLES ? 2 * WIDE : WIDE;
        for (size_t c = 0; c < rule->count; c++)
            rule->factor[c] = wide[c % WIDE];
        return;
    }
    rule->plain = candidates[kind][weighted][longer].plain;
    rule->count = rule->plain + candidates[kind][weighted][longer].second;
    for (size_t c = 0; c < rule->count; c++)
        rule->factor[c] = candidates[kind][weighted][longer].factor[c] * growths[i].growth;
}

static QZ_NOINLINE void copy_values(struct qz_search *rule, const struct qz_grid *grid)
{
    for (int i = 0; i < 16; i++) {
        rule->value[0][i] = grid->sorted[i];
        rule->upper[0][i] = grid->upper[i];
        rule->value[1][i] = grid->sorted[i] + grid->shift;
        rule->upper[1][i] = grid->upper[i] + grid->shift;
    }
}

static QZ_NOINLINE int fill_cells(struct qz_search *rule, int set)
{
    const float *upper = rule->upper[set];
    struct qz_cells cells;
    if (!qz_is_finite(upper[0]) || !(upper[14] > upper[0]) || !qz_cut_cells(upper, 15, upper[0], upper[14], &cells))
        return 0;
    rule->cell_factor[set] = cells.factor;
    rule->cell_bias[set] = cells.bias;
    memcpy(rule->cell_upper[set], cells.upper, sizeof cells.upper);
    for (int k = 0; k < QZ_CELLS; k++)
        rule->cell_first[set][k] = cells.below[k];
    return 1;
}

struct qz_search qz_search_rule(const struct job *job, uint64_t group_size)
{
    const struct qz_grid *grid = &job->grid;
    struct qz_search rule = {
        .uniform = grid->uniform,
        .lo = (float)grid->lo,
        .hi = (float)grid->hi,
        .positive = job->positive,
        .refit = job->scale_dtype != QZ_E8M0,
        .scale_dtype = job->scale_dtype,
    };
    qz_fp_state state = qz_fp_enter();
    copy_values(&rule, grid);
    rule.cells = !grid->uniform && fill_cells(&rule, 0) && fill_cells(&rule, 1);
    if (job->scale_dtype == QZ_E8M0) { /* the three exponents in question */
        rule.plain = rule.count = 3;
        rule.factor[0] = 1.0f;
        rule.factor[1] = 2.0f;
        rule.factor[2] = 0.5f;
    } else {
        choose_factors(&rule, kind_of(job), job->weights ? WEIGHTED : UNWEIGHTED, group_size);
    }
    qz_fp_leave(state);
    return rule;
}
