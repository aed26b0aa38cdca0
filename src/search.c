/*
 * search.c - better scales than the plain ones: groups are laid side by side for the kernels that search
 *
 * A plain fit has gone before, so every group has a scale. Groups that need the exact rule or whose scale vanished keep
 * it; all others are searched, QZ_BLOCK at a time, those of one length together. What a group gets depends on its own
 * values alone.
 */
#include "careful_affine.h"
#include "exact.h"
#include "group.h"
#include "number.h"

#include <float.h>
#include <math.h>

/* Largest magnitudes whose squares are summed as they are. */
#define UNIT_LEAST 0x1p-30f
#define UNIT_MOST  0x1p30f

/* Errors that are smaller than this share of the largest magnitude are too small for float32 sums. */
#define SMALL 0x1p-9f

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
    size_t group[QZ_BLOCK]; /* their numbers in the run */
    float unit[QZ_BLOCK], super[QZ_BLOCK], scale[QZ_BLOCK], zero[QZ_BLOCK];
    float min[QZ_BLOCK], max[QZ_BLOCK];
    struct qz_affine_error error;
    uint8_t second[QZ_BLOCK];
    int plain_weights; /* all of the run's are far from 0 and not huge */
    int same_weights;  /* all rows of the run have the same ones */
    size_t laid;       /* where in its row the first group is whose weights are in w; or SIZE_MAX */
    int32_t same_weight[QZ_BLOCK], few_weights[QZ_BLOCK]; /* what those in w say: qz_few_weights */
    /* whole cache lines: a vector that lies in two costs twice as much */
    _Alignas(64) float v[QZ_BLOCK * QZ_SEARCH_MOST];
    _Alignas(64) float w[QZ_BLOCK * QZ_SEARCH_MOST];
};

/* A power of two to divide by so that sums of squares of what is at most `largest` fit float32. It is 1 for most data;
 * results do not depend on it. */
static float unit_of(float largest)
{
    if (largest >= UNIT_LEAST && largest <= UNIT_MOST)
        return 1.0f;
    float power = qz_float(qz_bits(largest) & 0x7f800000u);
    return power < FLT_MIN ? FLT_MIN : power > 0x1p125f ? 0x1p125f : power;
}

/* The bits of |x|, which are in the order of the magnitudes, NaN above all. With comparisons of integers alone
 * compilers make vectors of loops. */
static inline int32_t magnitude_of(float x)
{
    return (int32_t)(qz_bits(x) & 0x7fffffffu);
}

/* Whether it is of QZ_BLOCK whole groups that follow each other. */
static int is_whole(const struct job *job, const struct block *block)
{
    int apart = block->count != QZ_BLOCK || block->length != job->group_size;
    for (size_t l = 0; l < block->count; l++)
        apart |= block->group[l] != block->group[0] + l;
    return !apart;
}

/* Element k of group l becomes to[QZ_BLOCK * k + l]. Lanes without a group are 0. */
static void lay(const struct job *job, const struct block *block, const float *x, float *to)
{
    size_t n = block->length, size = (size_t)job->group_size;
    if (is_whole(job, block)) {
        job->kernels->lay(x + block->group[0] * size, n, to);
        return;
    }
    memset(to, 0, n * QZ_BLOCK * sizeof *to);
    for (size_t l = 0; l < block->count; l++)
        for (size_t k = 0; k < n; k++)
            to[QZ_BLOCK * k + l] = x[block->group[l] * size + k];
}

/* What each group's weights say. Weights that are all the same are as good as none. */
static void note_weights(struct block *block)
{
    float differ[QZ_BLOCK] = {0}, sum[QZ_BLOCK] = {0}, squares[QZ_BLOCK] = {0};
    for (size_t k = 0; k < block->length; k++)
        for (size_t l = 0; l < QZ_BLOCK; l++) {
            float w = block->w[QZ_BLOCK * k + l], off = fabsf(w - block->w[l]);
            differ[l] = off > differ[l] ? off : differ[l];
            sum[l] += w;
            squares[l] += w * w;
        }
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        block->same_weight[l] = differ[l] == 0.0f;
        block->few_weights[l] = qz_few_weights(sum[l], squares[l], (float)block->length);
    }
}

/* Weights likewise, each group's divided by a power of two of its own; all 1 where all are 0. */
static void lay_weights(const struct job *job, struct block *block, const float *w)
{
    float least[QZ_BLOCK], largest[QZ_BLOCK];
    size_t n = block->length, size = (size_t)job->group_size, together = is_whole(job, block) ? QZ_BLOCK : 1;
    block->laid = SIZE_MAX;
    lay(job, block, w, block->w);
    for (size_t l = 0; l < block->count && !block->plain_weights; l += together)
        job->kernels->group_range(w + block->group[l] * size, together * n, n, least + l, largest + l);
    for (size_t l = 0; l < block->count && !block->plain_weights; l++) {
        if (largest[l] >= UNIT_LEAST && largest[l] <= UNIT_MOST)
            continue;
        float unit = unit_of(largest[l]);
        for (size_t k = 0; k < n; k++)
            block->w[QZ_BLOCK * k + l] = largest[l] == 0.0f ? 1.0f : block->w[QZ_BLOCK * k + l] / unit;
    }
    note_weights(block);
}

/* What the kernels make of a block that is laid out; w: NULL without weights. */
static void search_lanes(const struct job *job, struct block *block, const float *w)
{
    const float *super = job->super_groups ? block->super : NULL;
    if (job->rule.method == QZ_ABSMAX) {
        job->kernels->search_scale(&job->search, block->v, w, block->length, block->unit, super, block->scale,
                                   block->second);
        for (size_t l = 0; l < QZ_BLOCK && job->grid.zero == QZ_ZERO_FLOAT; l++)
            block->zero[l] = block->second[l] ? -job->grid.shift : 0.0f;
        return;
    }
    enum qz_affine_kind kind = job->grid.zero == QZ_ZERO_UINT4   ? QZ_AFFINE_UINT4
                               : job->grid.zero == QZ_ZERO_FLOAT ? QZ_AFFINE_FLOAT
                               : super                           ? QZ_AFFINE_MIN
                                                                 : QZ_AFFINE_OFFSET;
    job->kernels->search_affine(kind, job->scale_dtype, block->v, w, block->length, block->unit, block->scale,
                                block->zero, &block->error);
}

/* The same, without weights in groups where they are all the same. */
static void search_weighted(const struct job *job, struct block *block)
{
    size_t same = 0;
    for (size_t l = 0; l < block->count; l++)
        same += block->same_weight[l];
    if (same == 0 || job->rule.method == QZ_ABSMAX) {
        search_lanes(job, block, block->w);
        return;
    }
    float scale[QZ_BLOCK], zero[QZ_BLOCK], with_scale[QZ_BLOCK], with_zero[QZ_BLOCK];
    struct qz_affine_error with_error;
    memcpy(scale, block->scale, sizeof scale);
    memcpy(zero, block->zero, sizeof zero);
    if (same < block->count)
        search_lanes(job, block, block->w);
    memcpy(with_scale, block->scale, sizeof scale);
    memcpy(with_zero, block->zero, sizeof zero);
    with_error = block->error;
    memcpy(block->scale, scale, sizeof scale);
    memcpy(block->zero, zero, sizeof zero);
    search_lanes(job, block, NULL);
    for (size_t l = 0; l < block->count; l++) {
        if (block->same_weight[l])
            continue;
        block->scale[l] = with_scale[l];
        block->zero[l] = with_zero[l];
        block->error.curve[l] = with_error.curve[l];
        block->error.slope[l] = with_error.slope[l];
        block->error.rest[l] = with_error.rest[l];
    }
}

/* With a zero or an offset, and without super scales: which groups are to be looked at again (careful_affine.c). All
 * lanes are judged alike, so that compilers make vectors of it. */
static void note_special(const struct job *job, const struct block *block, int weighted, struct groups *groups)
{
    enum { LEAST = 8, STEPS = 8 };
    const float round = 0x1.8p23f, near = QZ_GRID_NEAR;
    const float lowest = job->grid.zero == QZ_ZERO_UINT4 ? 0.0f : INFINITY;
    const float *v[] = {block->v, block->v + block->length / 3 * QZ_BLOCK, block->v + block->length / 3 * 2 * QZ_BLOCK};
    if (job->rule.method == QZ_ABSMAX || job->super_groups)
        return;
    int32_t special[QZ_BLOCK];
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        float least = block->min[l], most = block->max[l], size = -least > most ? -least : most, small = size * SMALL;
        int32_t sure = block->error.curve[l] > block->error.rest[l] * (small * small);
        float lo = least < lowest ? least : lowest, hi = most > -lowest ? most : -lowest;
        float inverse = 1.0f / (hi - lo);
        float a = (v[0][l] - lo) * inverse, b = (v[1][l] - lo) * inverse, c = (v[2][l] - lo) * inverse;
        int32_t grid = 0;
#pragma GCC unroll 8
        for (int step = 0; step < STEPS; step++) {
            float steps = (float)(LEAST + step), x = a * steps, y = b * steps, z = c * steps;
            x = fabsf(x - ((x + round) - round));
            y = fabsf(y - ((y + round) - round));
            z = fabsf(z - ((z + round) - round));
            x = x > y ? x : y;
            x = x > z ? x : z;
            grid |= x < near;
        }
        int32_t repeated = (v[0][l] == v[1][l]) | (v[0][l] == v[2][l]) | (v[1][l] == v[2][l]);
        grid = grid * QZ_SPECIAL_GRID | repeated * QZ_SPECIAL_REPEATED;
        special[l] = (sure ^ 1) * QZ_SPECIAL | grid;
    }
    for (size_t l = 0; l < block->count; l++)
        groups->special[block->group[l]] = special[l] | (weighted && block->few_weights[l] ? QZ_SPECIAL : 0);
}

/* The super scales of `count` groups of a run from g on. */
static void load_supers(const struct job *job, const struct run *run, size_t row_groups, size_t g, size_t count,
                        float *to)
{
    for (size_t i = 0, step; i < count; i += step) {
        size_t in_row = (g + i) % row_groups;
        uint64_t group = run->col / job->group_size + in_row;
        float super[2];
        step = qz_sharing(job, group, qz_least(count - i, row_groups - in_row));
        qz_load_super(job, run->row + (g + i) / row_groups, group, super);
        for (size_t k = i; k < i + step; k++)
            to[k] = super[0];
    }
}

/* Any groups. */
static void search_block(const struct job *job, const struct run *run, struct groups *groups, struct block *block,
                         const float *x, const float *w)
{
    size_t row_groups = groups->count / run->rows;
    int offset = job->grid.zero == QZ_ZERO_OFFSET;
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        size_t g = block->group[l < block->count ? l : 0];
        float unit = block->unit[l] = unit_of(qz_larger(-groups->min[g], groups->max[g]));
        load_supers(job, run, row_groups, g, 1, &block->super[l]);
        block->super[l] /= unit;
        block->scale[l] = groups->scale[g] / unit;
        block->zero[l] = offset ? groups->zero[g] / unit : groups->zero[g];
        block->min[l] = groups->min[g] / unit;
        block->max[l] = groups->max[g] / unit;
    }
    lay(job, block, x, block->v);
    for (size_t l = 0; l < block->count; l++)
        for (size_t k = 0; k < block->length && block->unit[l] != 1.0f; k++)
            block->v[QZ_BLOCK * k + l] /= block->unit[l];
    if (w)
        lay_weights(job, block, w);
    if (w)
        search_weighted(job, block);
    else
        search_lanes(job, block, NULL);
    for (size_t l = 0; l < block->count; l++) {
        size_t g = block->group[l];
        groups->scale[g] = block->scale[l] * block->unit[l] + 0.0f;
        groups->zero[g] = offset ? block->zero[l] * block->unit[l] : block->zero[l];
        groups->curve[g] = block->error.curve[l];
        groups->slope[g] = block->error.slope[l];
        groups->rest[g] = block->error.rest[l];
    }
    note_special(job, block, w != NULL, groups);
}

/* QZ_BLOCK whole groups that follow each other and need no unit: the same without looking at each. */
static void search_plain_block(const struct job *job, const struct run *run, struct groups *groups, size_t g,
                               struct block *block, const float *x, const float *w)
{
    size_t bytes = QZ_BLOCK * sizeof(float), row_groups = groups->count / run->rows;
    block->count = QZ_BLOCK;
    block->length = (size_t)job->group_size;
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        block->group[l] = g + l;
        block->unit[l] = 1.0f;
    }
    if (job->super_groups)
        load_supers(job, run, row_groups, g, QZ_BLOCK, block->super);
    memcpy(block->scale, groups->scale + g, bytes);
    memcpy(block->zero, groups->zero + g, bytes);
    memcpy(block->min, groups->min + g, bytes);
    memcpy(block->max, groups->max + g, bytes);
    lay(job, block, x, block->v);
    if (w && block->laid != g % row_groups) {
        lay_weights(job, block, w);
        if (block->same_weights)
            block->laid = g % row_groups;
    }
    if (w)
        search_weighted(job, block);
    else
        search_lanes(job, block, NULL);
    memcpy(groups->scale + g, block->scale, bytes);
    memcpy(groups->zero + g, block->zero, bytes);
    if (job->scale_dtype == QZ_U6) {
        memcpy(groups->curve + g, block->error.curve, bytes);
        memcpy(groups->slope + g, block->error.slope, bytes);
        memcpy(groups->rest + g, block->error.rest, bytes);
    }
    note_special(job, block, w != NULL, groups);
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

/* Whether `count` groups from g on are ordinary and need no unit. */
static int are_plain(const struct groups *groups, size_t g, size_t count)
{
    const int32_t least = magnitude_of(UNIT_LEAST), most = magnitude_of(UNIT_MOST);
    const int32_t least_scale = magnitude_of(0x1p-100f), most_scale = magnitude_of(0x1p100f);
    int32_t others = 0;
    for (size_t l = g; l < g + count; l++) {
        int32_t low = magnitude_of(groups->min[l]), high = magnitude_of(groups->max[l]);
        int32_t scale = magnitude_of(groups->scale[l]), largest = low > high ? low : high;
        others |= (largest < least) | (largest > most) | (scale < least_scale) | (scale > most_scale);
    }
    return !others;
}

static void search_blocks(const struct job *job, const struct run *run, struct groups *groups, const float *x,
                          const float *w)
{
    struct block block;
    size_t row_groups = groups->count / run->rows, size = (size_t)job->group_size, g = 0;
    size_t last = length_of(job, run, row_groups, row_groups - 1);
    size_t whole = last == size ? groups->count : run->rows == 1 ? groups->count - 1 : 0;
    int all = are_plain(groups, 0, whole);
    block.laid = SIZE_MAX;
    if (w) {
        float range[2];
        block.same_weights = job->weights->row_stride == 0;
        job->kernels->range_f32(w, block.same_weights ? run->cols : run->rows * run->pitch, range);
        block.plain_weights = range[0] >= UNIT_LEAST && range[1] <= UNIT_MOST;
    }
    for (; g + QZ_BLOCK <= whole && (all || are_plain(groups, g, QZ_BLOCK)); g += QZ_BLOCK)
        search_plain_block(job, run, groups, g, &block, x, w);
    /* The others by their length, whole ones and the last ones of rows. */
    for (size_t length = size, rest = g; length; length = length == last ? 0 : last) {
        block.count = 0;
        block.length = length;
        for (size_t i = rest; i < groups->count; i++) {
            if (length_of(job, run, row_groups, i) == length && is_ordinary(groups, i))
                block.group[block.count++] = i;
            if (block.count == QZ_BLOCK || (i + 1 == groups->count && block.count > 0)) {
                search_block(job, run, groups, &block, x, w);
                block.count = 0;
            }
        }
    }
}

/* Whether weights are all the same. */
static int are_same(const float *w, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (w[i] != w[0])
            return 0;
    return 1;
}

/* A code, or a number of steps, that is between -16 and 31 at least. */
static inline float nearest_step(float y)
{
    const float round = 0x1.8p23f;
    y = y > -16.0f ? y : -16.0f;
    y = y < 31.0f ? y : 31.0f;
    return (y + round) - round;
}

/* Finds pairs that are not normal, or may not be, but makes those with integer zeros so. */
static void note_pairs(const struct job *job, struct groups *groups)
{
    const int integers = job->grid.zero == QZ_ZERO_UINT4;
    const float is_offset = job->grid.zero == QZ_ZERO_OFFSET ? 1.0f : 0.0f;
    if (integers) {
        for (size_t g = 0; g < groups->count; g++) { /* 0 is among the values of a grid */
            float inverse = 1.0f / groups->scale[g], zero = groups->zero[g];
            float low = nearest_step(groups->min[g] * inverse), high = nearest_step(groups->max[g] * inverse);
            low = low < 0.0f ? -low : 0.0f;
            zero = low < zero ? low : zero;
            high = high > 0.0f ? high : 0.0f;
            groups->zero[g] = inverse > 0.0f ? zero : groups->zero[g];
            int32_t used = zero + high >= 8.0f;
            groups->special[g] |= (used ^ 1) * QZ_SPECIAL_CODES;
        }
        return;
    }
    for (size_t g = 0; g < groups->count; g++) {
        float inverse = 1.0f / groups->scale[g], zero = groups->zero[g];
        float offset = zero * is_offset, moved = zero - offset;
        float low = nearest_step((groups->min[g] - offset) * inverse + moved);
        float high = nearest_step((groups->max[g] - offset) * inverse + moved);
        int32_t used = (low <= 0.0f) & (high >= 8.0f);
        groups->special[g] |= (used ^ 1) * QZ_SPECIAL_CODES;
    }
}

/* Looks again at groups that are special in some way. */
static void settle_affine(const struct job *job, const struct run *run, struct groups *groups, const float *x,
                          const float *w)
{
    size_t row_groups = groups->count / run->rows;
    note_pairs(job, groups);
    for (size_t g = 0; g < groups->count; g++) {
        int special = groups->special[g];
        if (!special && job->method != QZ_EXACT)
            continue;
        size_t start = g * (size_t)job->group_size, n = length_of(job, run, row_groups, g);
        float min = groups->min[g], max = groups->max[g];
        struct qz_pair pair = {groups->scale[g], groups->zero[g]};
        if (min == max && pair.scale == 0.0f && pair.zero == min)
            continue;
        int careful = (special & QZ_SPECIAL) || !is_ordinary(groups, g) ||
                      ((special & QZ_SPECIAL_GRID) && qz_is_grid(job, x + start, n, min, max)) ||
                      ((special & QZ_SPECIAL_REPEATED) && qz_is_frequent(x + start, n)) ||
                      ((special & QZ_SPECIAL_CODES) && !qz_make_affine_normal(job, min, max, &pair));
        struct qz_exact_source source = {.x = x + start, .w = w && !are_same(w + start, n) ? w + start : NULL, .n = n};
        if (careful)
            qz_careful_affine(job, &source, min, max, &pair);
        if (job->method == QZ_EXACT)
            qz_exact_affine_group(job, &source, min, max, &pair);
        groups->scale[g] = pair.scale;
        groups->zero[g] = pair.zero;
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
    const int32_t least = magnitude_of(FLT_MIN), most = magnitude_of(0x1p120f);
    const int32_t normal = job->scale_dtype == QZ_F16 ? magnitude_of(0x1p-14f) : least;
    const int32_t most_zero = magnitude_of(job->grid.zero == QZ_ZERO_OFFSET ? 0x1p126f : INFINITY);
    const int32_t looked_at = job->grid.zero == QZ_ZERO_NONE ? 0 : -1; /* which bits of a zero are */
    int32_t tiny = 0, huge = 0;
    for (size_t g = 0; g < groups->count; g++) {
        int32_t magnitude = magnitude_of(groups->scale[g]), zero = magnitude_of(groups->zero[g]) & looked_at;
        int32_t beyond = (magnitude > most) | (zero > most_zero);
        int32_t usable = -((magnitude >= least) & (beyond ^ 1)); /* all bits or none */
        uint32_t divisor = (qz_bits(groups->scale[g]) & (uint32_t)usable) | (qz_bits(1.0f) & ~(uint32_t)usable);
        groups->inverse[g] = qz_float(qz_bits(1.0f / qz_float(divisor)) & (uint32_t)usable);
        huge |= beyond;
        tiny |= (magnitude < normal) & ((magnitude_of(groups->min[g]) | magnitude_of(groups->max[g])) != 0);
    }
    return (huge ? QZ_FIT_HUGE : 0u) | (tiny ? QZ_FIT_TINY : 0u);
}

unsigned qz_search_groups(const struct job *job, const struct run *run, struct groups *groups, const float *x,
                          const float *w)
{
    int affine = job->rule.method == QZ_MINMAX && !job->super_groups;
    if (job->group_size > QZ_SEARCH_MOST) {
        search_long_groups(job, run, groups, x, w);
    } else {
        for (size_t g = 0; g < groups->count; g++)
            groups->special[g] = QZ_SPECIAL; /* unless it is searched */
        search_blocks(job, run, groups, x, w);
        if (affine)
            settle_affine(job, run, groups, x, w);
    }
    if (job->method == QZ_EXACT && !affine)
        exact_groups(job, run, groups, x, w);
    return qz_judge_scales(job, groups);
}
