/*
 * search.c - better scales than the plain ones: groups are laid side by side for the kernels that search
 *
 * A plain fit has gone before, so every group has a scale. Groups that need the exact rule or whose scale vanished keep
 * it; all others are searched, QZ_BLOCK at a time, those of one length together. What a group gets depends on its own
 * values alone.
 */
#include "exact.h"
#include "group.h"
#include "number.h"

#include <float.h>
#include <math.h>

struct qz_search qz_search_rule(const struct job *job, uint64_t group_size)
{
    static const float factors[] = {0.85f, 0.9f, 0.95f, 1.0f, 1.05f, 1.1f, 1.15f, 1.2f}; /* PLACEHOLDER */
    const struct qz_grid *grid = &job->grid;
    struct qz_search rule = {
        .uniform = grid->uniform,
        .lo = (float)grid->lo,
        .hi = (float)grid->hi,
        .positive = job->positive,
        .refit = job->scale_dtype != QZ_E8M0,
        .scale_dtype = job->scale_dtype,
    };
    (void)group_size;
    memcpy(rule.value[0], grid->sorted, sizeof grid->sorted);
    memcpy(rule.upper[0], grid->upper, sizeof grid->upper);
    for (int i = 0; i < 16; i++) {
        rule.value[1][i] = grid->sorted[i] + grid->shift;
        rule.upper[1][i] = grid->upper[i] + grid->shift;
    }
    rule.plain = rule.count = sizeof factors / sizeof factors[0];
    for (size_t i = 0; i < rule.plain; i++)
        rule.factor[i] = factors[i];
    if (job->scale_dtype == QZ_E8M0) {
        rule.plain = rule.count = 3;
        rule.factor[0] = 1.0f;
        rule.factor[1] = 2.0f;
        rule.factor[2] = 0.5f;
    }
    if (grid->shift != 0.0f) {
        for (size_t i = 0; i < rule.plain; i++)
            rule.factor[rule.plain + i] = factors[i];
        rule.count = 2 * rule.plain;
    }
    return rule;
}

/* The rule by which exact.c finds the scales of a job. */
static struct qz_exact exact_rule(const struct job *job)
{
    struct qz_exact rule = {
        .uniform = job->grid.uniform,
        .lo = job->grid.lo,
        .hi = job->grid.hi,
        .zero4 = job->grid.zero == QZ_ZERO_UINT4,
    };
    memcpy(rule.sorted, job->grid.sorted, sizeof rule.sorted);
    switch (job->scale_dtype) {
    case QZ_F16:
        rule.levels = qz_levels_f16;
        break;
    case QZ_BF16:
        rule.levels = qz_levels_bf16;
        break;
    case QZ_E4M3:
        rule.levels = qz_levels_e4m3;
        break;
    case QZ_E8M0:
        rule.levels = qz_levels_e8m0;
        break;
    case QZ_I6:
        rule.levels = (struct qz_levels){5, 0, {31, 32}};
        break;
    case QZ_I7:
        rule.levels = (struct qz_levels){6, 0, {63, 64}};
        break;
    default:
        rule.levels = qz_levels_f32;
    }
    if (job->positive)
        rule.levels.most[1] = 0;
    return rule;
}

void qz_exact_group(const struct job *job, const struct qz_exact_source *source, float super, float *scale, float *zero)
{
    struct qz_exact rule = exact_rule(job);
    struct qz_exact_result result, shifted;
    qz_exact_scale(&rule, source, super, *scale, &result);
    if (job->grid.shift != 0.0f) {
        for (int i = 0; i < 16; i++)
            rule.sorted[i] += job->grid.shift;
        qz_exact_scale(&rule, source, super, *scale, &shifted);
        *zero = shifted.error < result.error ? -job->grid.shift : 0.0f;
        if (*zero != 0.0f)
            result = shifted;
    }
    *scale = result.scale + 0.0f;
    if (rule.zero4)
        *zero = (float)result.zero;
}

const float *qz_source_piece(const struct qz_exact_source *source, uint64_t start, size_t *n, const float **w)
{
    *n = qz_least(source->n - start, QZ_EXACT_PIECE);
    if (source->piece)
        return source->piece(source->context, start, n, w);
    *w = source->w ? source->w + start : NULL;
    return source->x + start;
}

/* Groups that are searched together. */
struct block {
    size_t count, length;
    size_t group[QZ_BLOCK]; /* their numbers in the run; those that follow each other in memory can be transposed */
    float unit[QZ_BLOCK], super[QZ_BLOCK], scale[QZ_BLOCK], zero[QZ_BLOCK];
    uint8_t second[QZ_BLOCK];
    float v[QZ_BLOCK * QZ_SEARCH_MOST], w[QZ_BLOCK * QZ_SEARCH_MOST];
};

/* A power of two to divide by so that sums of squares of what is at most `largest` fit float32. It is 1 for most data;
 * results do not depend on it. */
static float unit_of(float largest)
{
    if (largest >= 0x1p-30f && largest <= 0x1p30f)
        return 1.0f;
    float power = qz_float(qz_bits(largest) & 0x7f800000u);
    return power < FLT_MIN ? FLT_MIN : power > 0x1p125f ? 0x1p125f : power;
}

/* Element k of group l becomes to[QZ_BLOCK * k + l], divided by divisor[l]. Lanes without a group are 0. */
static void lay(const struct job *job, const struct block *block, const float *x, const float *divisor, float *to)
{
    size_t n = block->length, first = block->group[0] * (size_t)job->group_size;
    int divide = 0, apart = block->count != QZ_BLOCK || block->length != job->group_size;
    for (size_t l = 0; l < block->count; l++) {
        divide |= divisor[l] != 1.0f;
        apart |= block->group[l] != block->group[0] + l;
    }
    if (!apart) {
        job->kernels->transpose(x + first, (ptrdiff_t)n, n, QZ_BLOCK, to, QZ_BLOCK);
    } else {
        memset(to, 0, n * QZ_BLOCK * sizeof *to);
        for (size_t l = 0; l < block->count; l++)
            for (size_t k = 0; k < n; k++)
                to[QZ_BLOCK * k + l] = x[block->group[l] * (size_t)job->group_size + k];
    }
    for (size_t k = 0; divide && k < n; k++)
        for (size_t l = 0; l < block->count; l++)
            to[QZ_BLOCK * k + l] /= divisor[l];
}

/* Weights likewise, each group's divided by a power of two of its own; all 1 where all are 0. */
static void lay_weights(const struct job *job, struct block *block, const float *w)
{
    float divisor[QZ_BLOCK];
    for (size_t l = 0; l < QZ_BLOCK; l++)
        divisor[l] = 1.0f;
    lay(job, block, w, divisor, block->w);
    float largest[QZ_BLOCK] = {0};
    for (size_t k = 0; k < block->length; k++)
        for (size_t l = 0; l < QZ_BLOCK; l++)
            largest[l] = qz_larger(largest[l], block->w[QZ_BLOCK * k + l]);
    for (size_t l = 0; l < QZ_BLOCK; l++)
        for (size_t k = 0; k < block->length && (largest[l] == 0.0f || unit_of(largest[l]) != 1.0f); k++)
            block->w[QZ_BLOCK * k + l] = largest[l] == 0.0f ? 1.0f : block->w[QZ_BLOCK * k + l] / unit_of(largest[l]);
}

static void search_block(const struct job *job, const struct run *run, struct groups *groups, struct block *block,
                         const float *x, const float *w)
{
    size_t row_groups = groups->count / run->rows;
    int shares = job->super_groups != 0;
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        size_t g = block->group[l < block->count ? l : 0];
        float super[2];
        if (shares)
            qz_load_super(job, run->row + g / row_groups, run->col / job->group_size + g % row_groups, super);
        block->unit[l] = unit_of(qz_larger(-groups->min[g], groups->max[g]));
        block->super[l] = shares ? super[0] / block->unit[l] : 1.0f;
        block->scale[l] = groups->scale[g] / block->unit[l];
        block->zero[l] = groups->zero[g];
        if (job->grid.zero == QZ_ZERO_OFFSET)
            block->zero[l] /= block->unit[l];
    }
    lay(job, block, x, block->unit, block->v);
    if (w)
        lay_weights(job, block, w);
    const float *weights = w ? block->w : NULL;
    if (job->rule.method == QZ_ABSMAX) {
        job->kernels->search_scale(&job->search, block->v, weights, block->length, block->unit,
                                   shares ? block->super : NULL, block->scale, block->second);
        for (size_t l = 0; l < block->count; l++) {
            size_t g = block->group[l];
            groups->scale[g] = block->scale[l] * block->unit[l] + 0.0f;
            if (job->grid.zero == QZ_ZERO_FLOAT)
                groups->zero[g] = block->second[l] ? -job->grid.shift : 0.0f;
        }
        return;
    }
    struct qz_affine_error error;
    enum qz_affine_kind kind = job->grid.zero == QZ_ZERO_UINT4   ? QZ_AFFINE_UINT4
                               : job->grid.zero == QZ_ZERO_FLOAT ? QZ_AFFINE_FLOAT
                               : shares                          ? QZ_AFFINE_MIN
                                                                 : QZ_AFFINE_OFFSET;
    job->kernels->search_affine(kind, job->scale_dtype, block->v, weights, block->length, block->unit, block->scale,
                                block->zero, &error);
    for (size_t l = 0; l < block->count; l++) {
        size_t g = block->group[l];
        groups->scale[g] = block->scale[l] * block->unit[l] + 0.0f;
        groups->zero[g] = block->zero[l];
        if (job->grid.zero == QZ_ZERO_OFFSET)
            groups->zero[g] *= block->unit[l];
        if (kind == QZ_AFFINE_MIN) {
            groups->curve[g] = error.curve[l];
            groups->slope[g] = error.slope[l];
            groups->rest[g] = error.rest[l];
        }
    }
}

/* Length of group g of a run: all are whole but the last one of a row. */
static size_t length_of(const struct job *job, const struct run *run, size_t row_groups, size_t g)
{
    return qz_least(job->group_size, run->cols - g % row_groups * job->group_size);
}

/* Whether a group's plain scale is a place to begin: not 0, and not one for the exact rule. */
static int is_ordinary(const struct groups *groups, size_t g)
{
    float scale = fabsf(groups->scale[g]);
    return scale >= 0x1p-100f && scale <= 0x1p100f;
}

static void search_blocks(const struct job *job, const struct run *run, struct groups *groups, const float *x,
                          const float *w)
{
    struct block block;
    size_t row_groups = groups->count / run->rows;
    size_t last = length_of(job, run, row_groups, row_groups - 1);
    for (int whole = 1; whole >= 0; whole--) {
        block.count = 0;
        block.length = whole ? (size_t)job->group_size : last;
        if (!whole && last == job->group_size)
            break;
        for (size_t g = 0; g < groups->count; g++) {
            int is_whole = last == job->group_size || g % row_groups != row_groups - 1;
            if (is_whole == whole && is_ordinary(groups, g))
                block.group[block.count++] = g;
            if (block.count == QZ_BLOCK || (g + 1 == groups->count && block.count > 0)) {
                search_block(job, run, groups, &block, x, w);
                block.count = 0;
            }
        }
    }
}

/* The best scales of all, one group after another. */
static void exact_groups(const struct job *job, const struct run *run, struct groups *groups, const float *x,
                         const float *w)
{
    size_t row_groups = groups->count / run->rows;
    for (size_t g = 0; g < groups->count; g++) {
        if (!is_ordinary(groups, g))
            continue;
        float super[2];
        qz_load_super(job, run->row + g / row_groups, run->col / job->group_size + g % row_groups, super);
        size_t start = g * (size_t)job->group_size;
        struct qz_exact_source source = {
            .x = x + start, .w = w ? w + start : NULL, .n = length_of(job, run, row_groups, g)};
        qz_exact_group(job, &source, super[0], &groups->scale[g], &groups->zero[g]);
    }
}

static void search_long_groups(const struct job *job, const struct run *run, struct groups *groups, const float *x,
                               const float *w)
{
    size_t row_groups = groups->count / run->rows;
    for (size_t g = 0; g < groups->count; g++) {
        size_t start = g * (size_t)job->group_size;
        struct qz_exact_source source = {
            .x = x + start, .w = w ? w + start : NULL, .n = length_of(job, run, row_groups, g)};
        qz_search_long(job, &source, groups->min[g], groups->max[g], &groups->scale[g], &groups->zero[g]);
    }
}

unsigned qz_judge_scales(const struct job *job, struct groups *groups)
{
    unsigned flags = 0;
    for (size_t g = 0; g < groups->count; g++) {
        float scale = fabsf(groups->scale[g]);
        int beyond =
            !(scale <= 0x1p120f) || (job->grid.zero == QZ_ZERO_OFFSET && !(fabsf(groups->zero[g]) <= 0x1p126f));
        groups->inverse[g] = scale >= FLT_MIN && !beyond ? 1.0f / groups->scale[g] : 0.0f;
        if (scale < (job->scale_dtype == QZ_F16 ? 0x1p-14f : FLT_MIN) &&
            (groups->min[g] != 0.0f || groups->max[g] != 0.0f))
            flags |= QZ_FIT_TINY;
        if (beyond)
            flags |= QZ_FIT_HUGE;
    }
    return flags;
}

unsigned qz_search_groups(const struct job *job, const struct run *run, struct groups *groups, const float *x,
                          const float *w)
{
    if (job->group_size <= QZ_SEARCH_MOST)
        search_blocks(job, run, groups, x, w);
    else
        search_long_groups(job, run, groups, x, w);
    if (job->method == QZ_EXACT)
        exact_groups(job, run, groups, x, w);
    return qz_judge_scales(job, groups);
}
