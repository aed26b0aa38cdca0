/*
 * candidates.c - the list of scales that a search tries
 *
 * The plain scales, as they are stored, come first, so no search has more error than a plain rule. Each further
 * candidate is a factor: a factor f gives the largest magnitude of a group f times the code value that QZ_ABSMAX gives
 * it, with the other sign if f is negative. The factors were chosen from a grid, as the fewest that come near to the
 * result of all factors of the grid: for normal and Student t5 values together, for the group sizes that the formats
 * use. With weights, they were chosen for normal values whose weights are nearly the same, spread like powers of e, or
 * the same except for one in 85 that is 225 times the others. docs/accuracy.md has the gain. Groups of other kinds are
 * tried again with more candidates (search_special.c).
 */
#include "candidates.h"
#include "../base/fpenv.h"
#include "../base/number.h"
#include "../packed/scheme.h"

#include <math.h>

/* What decides which candidates are good. */
enum kind {
    INTEGERS,
    INTEGERS_POSITIVE, /* scales may not be negative */
    TABLE,
    TABLE_EVEN, /* its ends are as far from 0 as each other */
    TABLE_POSITIVE,
    TABLE_MIRRORED, /* the sign of a scale makes no difference */
    TWO_TABLES
};

/* Where every value counts the same, the best scale is near to what the largest magnitude asks for. With weights it may
 * be anywhere: more is tried, and farther out. For groups of up to 48 values, up to 192, and longer ones. The places
 * of plain scales are held by 1, and 7 / 8 or 15 / 14: fit_other in search.c. */
enum { UNWEIGHTED = QZ_CANDIDATES_UNWEIGHTED, WEIGHTED = QZ_CANDIDATES_WEIGHTED };
static const struct {
    size_t first, second; /* how many for each of the two sets of values */
    float factor[18];
} candidates[][2][3] = {
    [INTEGERS] =
        {[UNWEIGHTED] = {{6, 0, {1.0f, 0.875f, 0.96f, 1.02f, 1.06f, 1.1f}},
                         {6, 0, {1.0f, 0.875f, 0.98f, 1.02f, 1.075f, 1.13f}},
                         {8, 0, {1.0f, 0.875f, 0.87f, 0.92f, 0.98f, 1.04f, 1.12f, 1.22f}}},
         [WEIGHTED] = {{10, 0, {1.0f, 0.875f, 0.74f, 0.84f, 0.95f, 1.08f, 1.16f, 1.3f, 1.54f, -1.14f}},
                       {12, 0, {1.0f, 0.875f, 0.72f, 0.83f, 0.95f, 1.04f, 1.11f, 1.2f, 1.35f, 1.57f, -1.22f, -1.09f}},
                       {18,
                        0,
                        {1.0f, 0.875f, 0.8f, 0.86f, 0.92f, 0.98f, 1.03f, 1.08f, 1.14f, 1.2f, 1.28f, 1.36f, 1.46f, 1.6f,
                         -1.0f, -1.1f, -1.2f, -0.9f}}}},
    [INTEGERS_POSITIVE] =
        {[UNWEIGHTED] = {{8, 0, {1.0f, 1.0714f, 0.88f, 0.97f, 1.03f, 1.12f, 1.18f, 1.26f}},
                         {8, 0, {1.0f, 1.0714f, 0.96f, 1.03f, 1.1f, 1.15f, 1.22f, 1.34f}},
                         {8, 0, {1.0f, 1.0714f, 0.94f, 1.02f, 1.1f, 1.16f, 1.24f, 1.34f}}},
         [WEIGHTED] = {{12, 0, {1.0f, 1.0714f, 0.74f, 0.86f, 0.95f, 1.03f, 1.15f, 1.22f, 1.3f, 1.42f, 1.6f, 1.9f}},
                       {12, 0, {1.0f, 1.0714f, 0.81f, 0.92f, 1.02f, 1.12f, 1.18f, 1.25f, 1.33f, 1.46f, 1.61f, 1.81f}},
                       {14,
                        0,
                        {1.0f, 1.0714f, 0.75f, 0.85f, 0.93f, 1.0f, 1.06f, 1.12f, 1.18f, 1.25f, 1.33f, 1.46f, 1.61f,
                         1.81f}}}},
    [TABLE] = {[UNWEIGHTED] = {{8, 0, {1.0f, 0.84f, 0.96f, 1.04f, 1.1f, -0.96f, -0.9f, -0.86f}},
                               {10, 0, {1.0f, 0.72f, 0.91f, 0.97f, 1.06f, -1.09f, -1.03f, -0.97f, -0.91f, -0.74f}},
                               {12,
                                0,
                                {1.0f, 0.87f, 0.92f, 0.96f, 1.0f, 1.04f, 1.1f, 1.16f, -0.98f, -0.93f, -0.88f, -0.83f}}},
               [WEIGHTED] =
                   {{12, 0, {1.0f, 0.78f, 0.86f, 0.96f, 1.06f, 1.12f, 1.24f, -1.12f, -1.0f, -0.92f, -0.86f, -0.7f}},
                    {12, 0, {1.0f, 0.72f, 0.91f, 0.97f, 1.08f, 1.26f, -1.36f, -1.17f, -1.07f, -0.99f, -0.91f, -0.74f}},
                    {18,
                     0,
                     {1.0f, 0.75f, 0.85f, 0.92f, 0.98f, 1.05f, 1.12f, 1.2f, 1.3f,
                      -0.75f, -0.85f, -0.92f, -0.98f, -1.03f, -1.08f, -1.14f, -1.22f, -1.32f}}}},
    [TABLE_EVEN] =
        {[UNWEIGHTED] = {{10, 0, {1.0f, 0.71f, 0.77f, 0.95f, 1.04f, 1.1f, -1.07f, -1.01f, -0.95f, -0.74f}},
                         {10, 0, {1.0f, 0.92f, 1.01f, 1.07f, -1.1f, -1.04f, -0.98f, -0.93f, -0.88f, -0.75f}},
                         {12,
                          0,
                          {1.0f, 0.87f, 0.92f, 0.97f, 1.04f, 1.12f, -1.1f, -1.03f, -0.97f, -0.92f, -0.87f, -0.8f}}},
         [WEIGHTED] = {{12,
                        0,
                        {1.0f, 0.71f, 0.77f, 0.92f, 1.07f, 1.16f, -1.16f, -1.07f, -1.01f, -0.95f, -0.77f, -0.71f}},
                       {12, 0, {1.0f, 0.71f, 0.93f, 1.05f, 1.14f, 1.25f, -1.2f, -1.1f, -1.03f, -0.97f, -0.92f, -0.72f}},
                       {18,
                        0,
                        {1.0f, 0.75f, 0.85f, 0.92f, 0.98f, 1.05f, 1.12f, 1.2f, 1.3f, -0.75f, -0.85f, -0.92f, -0.98f,
                         -1.03f, -1.08f, -1.14f, -1.22f, -1.32f}}}},
    [TABLE_POSITIVE] =
        {[UNWEIGHTED] = {{8, 0, {1.0f, 0.76f, 0.92f, 0.96f, 1.04f, 1.08f, 1.14f, 1.2f}},
                         {8, 0, {1.0f, 0.78f, 0.88f, 0.94f, 0.98f, 1.04f, 1.12f, 1.18f}},
                         {10, 0, {1.0f, 0.78f, 0.84f, 0.88f, 0.92f, 0.96f, 1.0f, 1.06f, 1.12f, 1.18f}}},
         [WEIGHTED] = {{12, 0, {1.0f, 0.6f, 0.78f, 0.86f, 0.94f, 1.04f, 1.1f, 1.16f, 1.22f, 1.32f, 1.46f, 1.66f}},
                       {12, 0, {1.0f, 0.49f, 0.66f, 0.72f, 0.8f, 0.87f, 0.93f, 0.97f, 1.07f, 1.15f, 1.26f, 1.44f}},
                       {12, 0, {1.0f, 0.49f, 0.66f, 0.72f, 0.8f, 0.87f, 0.93f, 0.97f, 1.07f, 1.15f, 1.26f, 1.44f}}}},
    [TABLE_MIRRORED] = {[UNWEIGHTED] = {{6, 0, {1.0f, 0.62f, 0.68f, 0.73f, 0.94f, 1.09f}},
                                        {6, 0, {1.0f, 0.7f, 0.92f, 1.04f, 1.09f, 1.15f}},
                                        {8, 0, {1.0f, 0.72f, 0.85f, 0.91f, 0.97f, 1.03f, 1.1f, 1.18f}}},
                        [WEIGHTED] = {{9, 0, {1.0f, 0.62f, 0.66f, 0.7f, 0.78f, 0.92f, 1.08f, 1.18f, 1.44f}},
                                      {9, 0, {1.0f, 0.72f, 0.85f, 0.95f, 1.07f, 1.15f, 1.26f, 1.44f, 1.71f}},
                                      {9, 0, {1.0f, 0.72f, 0.85f, 0.95f, 1.07f, 1.15f, 1.26f, 1.44f, 1.71f}}}},
    [TWO_TABLES] =
        {[UNWEIGHTED] =
             {{6, 6, {1.0f, 0.79f, 0.97f, 1.06f, -0.94f, -1.0f, 0.76f, 0.91f, 0.97f, 1.03f, -0.94f, -1.0f}},
              {6, 6, {1.0f, 0.91f, 0.97f, 1.06f, -0.88f, -0.94f, 0.88f, 0.94f, 1.0f, -0.91f, -0.97f, -1.03f}},
              {6, 6, {1.0f, 0.91f, 0.97f, 1.06f, -0.88f, -0.94f, 0.88f, 0.94f, 1.0f, -0.91f, -0.97f, -1.03f}}},
         [WEIGHTED] = {{9,
                        9,
                        {1.0f, 0.8f, 0.86f, 0.96f, 1.1f, -1.01f, -0.95f, -0.89f, -0.68f, 0.77f, 0.92f, 0.98f, 1.07f,
                         1.22f, -1.1f, -1.01f, -0.95f, -0.71f}},
                       {9,
                        9,
                        {1.0f, 0.88f, 0.94f, 1.05f, 1.19f, -1.13f, -1.02f, -0.94f, -0.85f, 0.71f, 0.88f, 0.94f, 1.02f,
                         1.16f, -1.19f, -1.07f, -0.99f, -0.91f}},
                       {9,
                        9,
                        {1.0f, 0.88f, 0.94f, 1.05f, 1.19f, -1.13f, -1.02f, -0.94f, -0.85f, 0.71f, 0.88f, 0.94f, 1.02f,
                         1.16f, -1.19f, -1.07f, -0.99f, -0.91f}}}},
};

/* The same in integers, by the longest group: after the plain scales, whose places are held by 0. They were chosen as
 * those above are, without weights, from all multiples of 1/32 between 22 and 45. */
struct fixed_list {
    uint64_t longest;
    uint8_t first, count;
    int8_t factor[QZ_FIXED_COUNT];
};

static const struct fixed_list fixed_lists[][7] = {
    [INTEGERS] = {{12, 4, 6, {0, 0, -24, 22, 31, 34}},
                  {24, 4, 7, {0, 0, -29, -24, 31, 33, 34}},
                  {48, 4, 7, {0, 0, -29, 31, 33, 34, 36}},
                  {96, 4, 7, {0, 0, 31, 33, 34, 35, 37}},
                  {192, 3, 7, {0, 0, 33, 34, 36, 38, 40}},
                  {384, 3, 7, {0, 0, 33, 35, 38, 41, 45}},
                  {QZ_FIXED_LONGEST, 2, 6, {0, 0, 37, 40, 44, 49}}},
    [INTEGERS_POSITIVE] = {{12, 4, 8, {0, 0, 22, 25, 27, 29, 33, 35}},
                           {24, 4, 8, {0, 0, 22, 26, 29, 33, 35, 37}},
                           {48, 4, 8, {0, 0, 26, 29, 31, 34, 36, 38}},
                           {96, 4, 8, {0, 0, 33, 34, 35, 36, 38, 40}},
                           {192, 4, 8, {0, 0, 34, 35, 36, 37, 39, 41}},
                           {384, 4, 8, {0, 0, 34, 36, 38, 39, 41, 44}},
                           {QZ_FIXED_LONGEST, 3, 7, {0, 0, 36, 39, 42, 46, 51}}},
};

/* The longer a group, the farther its largest value is from the others: the best factors grow. */
static const struct {
    uint64_t longest;
    float growth;
} growths[] = {{48, 1.0f}, {96, 1.03f}, {192, 1.08f}, {384, 1.17f}, {768, 1.29f}};

enum { GROWTHS = sizeof growths / sizeof growths[0] };

static enum kind kind_of(const struct qz_encoder *encoder)
{
    const struct qz_grid *grid = &encoder->view->grid;
    if (grid->uniform)
        return encoder->positive ? INTEGERS_POSITIVE : INTEGERS;
    if (grid->shift != 0.0f)
        return TWO_TABLES;
    int mirrored = 1;
    for (int i = 0; i < 16; i++)
        mirrored &= grid->sorted[i] == -grid->sorted[15 - i];
    if (mirrored || encoder->positive)
        return mirrored ? TABLE_MIRRORED : TABLE_POSITIVE;
    return grid->sorted[0] == -grid->sorted[15] ? TABLE_EVEN : TABLE;
}

/* Of few values the error has many dips as the scale grows: tables without a code next to 0 need more factors. */
static QZ_NOINLINE void choose_factors(struct qz_search *rule, enum kind kind, int weighted, uint64_t group_size)
{
    size_t i = 0;
    while (i + 1 < GROWTHS && group_size > growths[i].longest)
        i++;
    int longer = i == 0 ? 0 : growths[i].longest <= 192 ? 1 : 2;
    weighted |= kind == TABLE_EVEN && group_size <= QZ_FEW_VALUES;
    rule->as_stored = kind == INTEGERS || kind == INTEGERS_POSITIVE ? 2 : 1;
    rule->first = candidates[kind][weighted][longer].first;
    rule->count = rule->first + candidates[kind][weighted][longer].second;
    for (size_t c = 0; c < rule->count; c++)
        rule->factor[c] =
            candidates[kind][weighted][longer].factor[c] * (c < rule->as_stored ? 1.0f : growths[i].growth);
}

int qz_searches_as_ggml(const struct qz_encoder *encoder)
{
    const struct qz_view *view = encoder->view;
    return encoder->rule == QZ_RULE_IQ4_NL && view->group_size == QZ_RULE_SEARCHED && view->scale_dtype == QZ_F16;
}

/* The same, and the scale of ggml's own search. */
static QZ_NOINLINE void choose_usual(const struct qz_encoder *encoder, struct qz_search *rule, enum kind kind,
                                     int weighted, uint64_t group_size)
{
    choose_factors(rule, kind, weighted, group_size);
    if (!qz_searches_as_ggml(encoder))
        return;
    memmove(rule->factor + 2, rule->factor + 1, (rule->count - 1) * sizeof *rule->factor);
    rule->as_stored = 2;
    rule->first++;
    rule->count++;
}

static QZ_NOINLINE void choose_fixed(struct qz_fixed *fixed, const struct qz_search *rule, enum kind kind,
                                     uint64_t group_size)
{
    fixed->count = 0;
    if ((kind != INTEGERS && kind != INTEGERS_POSITIVE) || group_size > QZ_FIXED_LONGEST || rule->lo != -8.0f ||
        rule->hi != 7.0f ||
        (rule->scale_dtype != QZ_F32 && rule->scale_dtype != QZ_F16 && rule->scale_dtype != QZ_BF16))
        return;
    const struct fixed_list *list = fixed_lists[kind];
    while (group_size > list->longest)
        list++;
    fixed->first = list->first;
    fixed->count = list->count;
    for (size_t c = 0; c < fixed->count; c++)
        fixed->factor[c] = (int16_t)(c < 2 ? QZ_FIXED_ONE : list->factor[c]);
    fixed->most = kind == INTEGERS ? 8200.0f : 7700.0f; /* the base makes 8 or 7.5 steps of the largest magnitude */
    fixed->positive = rule->positive;
    fixed->scale_dtype = rule->scale_dtype;
}

/* Many, from 0.62 to 1.5 times where groups of any kind have their best scale, evenly by their ratios. */
static QZ_NOINLINE void choose_many(struct qz_search *rule, enum kind kind)
{
    rule->as_stored = 0;
    rule->first = kind == TWO_TABLES ? QZ_CANDIDATES / 2 : QZ_CANDIDATES;
    rule->count = QZ_CANDIDATES;
    double ratio = kind == TWO_TABLES ? 1.0836 : 1.0392, factor = 0.62; /* 1 / (count - 1) powers of 1.5 / 0.62 */
    for (size_t c = 0; c < QZ_CANDIDATES; c++, factor *= ratio) {
        factor = c % rule->first == 0 ? 0.62 : factor;
        rule->factor[c] = (float)factor;
    }
}

/* Those that make the largest magnitude become each of the values there are, as it does where few others count. */
static QZ_NOINLINE void choose_entries(struct qz_search *rule, const struct qz_grid *grid, float end, int has_signs)
{
    rule->as_stored = 0;
    rule->first = rule->count = 0;
    for (int i = 0; i < 16; i++)
        if (grid->sorted[i] != 0.0f && (has_signs || grid->sorted[i] / end > 0))
            rule->factor[rule->count++] = grid->sorted[i] / end;
    rule->first = rule->count;
}

/* Within 6 % of the best so far. */
static QZ_NOINLINE void choose_near(struct qz_search *rule, enum kind kind)
{
    const size_t each = 12;
    rule->as_stored = 0;
    rule->first = each;
    rule->count = kind == TWO_TABLES ? 2 * each : each;
    for (size_t c = 0; c < rule->count; c++)
        rule->factor[c] = (float)(0.945 + 0.01 * (double)(c % each));
}

/* The scales of fewest steps, of either sign: as they are stored, since few values may make a step. */
static QZ_NOINLINE void choose_steps(struct qz_search *rule, enum kind kind, int has_signs)
{
    rule->as_stored = 0;
    rule->refit = 0;
    rule->first = kind == TWO_TABLES ? QZ_CANDIDATES / 2 : has_signs ? QZ_CANDIDATES : QZ_CANDIDATES / 2;
    rule->count = kind == TWO_TABLES ? QZ_CANDIDATES : rule->first;
    for (size_t c = 0; c < rule->count; c++) {
        size_t i = c % rule->first, steps = has_signs ? i / 2 + 1 : i + 1;
        rule->factor[c] = (has_signs && i % 2 ? -1.0f : 1.0f) / (float)steps;
    }
}

/* The exponents in question: where the largest values weigh little, also smaller ones. */
static QZ_NOINLINE void choose_exponents(struct qz_search *rule, int which)
{
    static const float factors[] = {1.0f, 2.0f, 0.5f, 4.0f, 0.25f};
    const size_t count = which == QZ_CANDIDATES_MANY ? 5 : which == QZ_CANDIDATES_WEIGHTED ? 4 : 3;
    rule->first = rule->count = count;
    memcpy(rule->factor, factors, count * sizeof *factors);
}

/* Whether two values of a table are in the proportion of two others: then a group that has no others is decoded alike
 * with two scales. Returns a multiple of the scale that the largest magnitude is below in such a group, or 0. */
static QZ_NOINLINE float alike_below(const struct qz_grid *grid)
{
    float ratio[16 * 15 / 2], top = 0.0f, second = 0.0f;
    size_t count = 0;
    for (int i = 0; i < 16; i++)
        top = fabsf(grid->sorted[i]) > top ? fabsf(grid->sorted[i]) : top;
    for (int i = 0; i < 16; i++)
        second = fabsf(grid->sorted[i]) > second && fabsf(grid->sorted[i]) < top ? fabsf(grid->sorted[i]) : second;
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < i; k++) {
            float high = fabsf(grid->sorted[i]), low = fabsf(grid->sorted[k]), other = low;
            low = low < high ? low : high;
            high = other < high ? high : other;
            if (low == high || low == 0.0f || (grid->sorted[i] > 0) != (grid->sorted[k] > 0))
                continue;
            ratio[count] = low / high;
            for (size_t c = 0; c < count; c++)
                if (fabsf(ratio[c] - ratio[count]) < 1e-6f * ratio[c])
                    return 0.5f * (top + second);
            count++;
        }
    return 0.0f;
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

/* Cuts what the thresholds of a table are in into cells, as many on either side of 0. Returns 0 if one would hold two of
 * them; equal ones count once, for what lies between them is never chosen. */
static QZ_NOINLINE int fill_cells(struct qz_search *rule, int set)
{
    const float *upper = rule->upper[set];
    const int half = QZ_CELLS / 2;
    const float most = 1.01f * qz_larger(-upper[0], upper[14]), factor = 0.999f * (float)half / most;
    if (!(most >= 0x1p-20f && most <= 0x1p20f))
        return 0;
    rule->cell_most[set] = most;
    rule->cell_factor[set] = factor;
    for (int k = 0, i = 0; k < QZ_CELLS; k++) {
        float *threshold = &rule->cell_upper[set][k];
        rule->cell_first[set][k] = i;
        for (*threshold = INFINITY; i < 15 && floor((double)upper[i] * (double)factor) <= (double)(k - half); i++) {
            if (*threshold < INFINITY && upper[i] != *threshold)
                return 0;
            *threshold = upper[i];
        }
    }
    return 1;
}

void qz_search_rules(struct qz_encoder *encoder, uint64_t group_size)
{
    const struct qz_view *view = encoder->view;
    const struct qz_grid *grid = &view->grid;
    struct qz_search rule = {
        .uniform = grid->uniform,
        .lo = (float)grid->lo,
        .hi = (float)grid->hi,
        .positive = encoder->positive,
        .refit = view->scale_dtype != QZ_E8M0,
        .scale_dtype = view->scale_dtype,
        .least = view->scale_type->least,
        .most = view->scale_type->most,
    };
    qz_fp_state state = qz_fp_enter();
    copy_values(&rule, grid);
    enum kind kind = kind_of(encoder);
    encoder->has_signs = kind != INTEGERS_POSITIVE && kind != TABLE_POSITIVE && kind != TABLE_MIRRORED;
    encoder->has_tiny = 0;
    for (int i = 0; i < 16; i++)
        encoder->has_tiny |= grid->sorted[i] != 0.0f && fabsf(grid->sorted[i]) * 64.0f < fabsf(encoder->fit.end);
    encoder->alike_below = grid->uniform || view->super_groups || group_size > QZ_FEW_VALUES ? 0.0f : alike_below(grid);
    choose_fixed(&encoder->fixed, &rule, kind, group_size);
    rule.cells = !grid->uniform && fill_cells(&rule, 0) && fill_cells(&rule, 1);
    for (int which = 0; which < QZ_CANDIDATE_LISTS; which++) {
        encoder->search[which] = rule;
        if (view->scale_dtype == QZ_E8M0)
            choose_exponents(&encoder->search[which], which);
        else if (which == QZ_CANDIDATES_ENTRIES)
            choose_entries(&encoder->search[which], grid, encoder->fit.end, encoder->has_signs);
        else if (which == QZ_CANDIDATES_NEAR)
            choose_near(&encoder->search[which], kind);
        else if (which == QZ_CANDIDATES_STEPS)
            choose_steps(&encoder->search[which], kind, encoder->has_signs);
        else if (which == QZ_CANDIDATES_MANY)
            choose_many(&encoder->search[which], kind);
        else
            choose_usual(encoder, &encoder->search[which], kind, which == QZ_CANDIDATES_WEIGHTED, group_size);
    }
    qz_fp_leave(state);
}
