/*
 * search.c - searches for better scales than the plain ones: lays groups side by side for the kernels that search
 *
 * The plain fit comes first, so every group has a scale. Groups with an ordinary scale are searched QZ_BLOCK at a time,
 * with groups of the same length. A look at each group tells which ones are special. Special groups are tried again
 * with more candidates, or get the exact method (search_special.c), as do groups whose plain scale is no useful start.
 * The result of a group depends on its own values only. If all its weights are equal, they are left out.
 */
#include "search.h"
#include "careful_affine.h"
#include "../base/float8.h"
#include "candidates.h"
#include "reference.h"
#include "search_long.h"
#include "search_special.h"

#include <float.h>
#include <math.h>

/* Largest magnitudes whose squares are summed as they are. */
#define UNIT_LEAST 0x1p-30f
#define UNIT_MOST  0x1p30f

/* Scales of float16 below have so few steps of their type that what codes ask for is far from what is stored. */
#define FEW_STEPS 0x1p-18f

/* Whether groups have neither a zero nor an offset that is searched. */
static int is_symmetric(const struct qz_encoder *encoder)
{
    return encoder->fit.method == QZ_ABSMAX;
}

/* Whether other scales of a rule, fit_other or fit_as_ggml, are candidates, too. */
static int has_other(const struct qz_encoder *encoder)
{
    return is_symmetric(encoder) && encoder->search[QZ_CANDIDATES_UNWEIGHTED].as_stored > 1;
}

/* Whether the scheme has the rule of another tool, with pairs of its own. */
static int has_rule(const struct qz_encoder *encoder)
{
    return encoder->rule != QZ_RULE_NONE && !is_symmetric(encoder) && !encoder->view->super_groups;
}

/* Groups that are searched together. */
struct block {
    size_t count, length;
    uint16_t group[QZ_BLOCK]; /* their numbers in the run */
    uint16_t item[QZ_BLOCK];  /* which of a list they are: for_each_block */
    float unit[QZ_BLOCK], super[QZ_BLOCK], scale[QZ_BLOCK], zero[QZ_BLOCK];
    float other[QZ_BLOCK];   /* further scales of a rule, where they are candidates */
    const float *low, *high; /* the ranges: those of the run's groups, or these */
    float own_low[QZ_BLOCK], own_high[QZ_BLOCK];
    struct qz_affine_rule rule; /* those of the source, or these; NULL for none, or where all are the plain ones */
    float rule_scale[QZ_BLOCK], rule_zero[QZ_BLOCK];
    struct qz_affine_error error;
    uint8_t second[QZ_BLOCK];
    struct qz_gains gains;
    int same_weights; /* all rows of the run have the same ones */
    size_t laid;      /* where in its row the first group is whose weights are in w; or SIZE_MAX */
    float *v, *w;     /* side by side: room for QZ_SEARCH_MOST elements, or less where two blocks share it */
};

/* Values and weights of a block, or of two of groups that are half as long. A vector that lies in two cache lines costs
 * twice as much. */
struct room {
    _Alignas(64) float v[QZ_BLOCK * QZ_SEARCH_MOST];
    _Alignas(64) float w[QZ_BLOCK * QZ_SEARCH_MOST];
};

/* A run's groups as all blocks see them. */
struct source {
    const float *x, *w; /* w: NULL for none */
    size_t row_groups;
    float least_weight[QZ_TILE_GROUPS], most_weight[QZ_TILE_GROUPS];
    float begin[QZ_TILE_GROUPS];                                 /* the plain scales */
    float super[QZ_TILE_GROUPS];                                 /* super scales, or 1 */
    float other[QZ_TILE_GROUPS];                                 /* fit_other, fit_as_ggml */
    float rule_scale[QZ_TILE_GROUPS], rule_zero[QZ_TILE_GROUPS]; /* has_rule */
};

/* Groups that ordinary candidates may not be enough for: what is suspected, and what has been gained so far. */
struct specials {
    size_t count;
    uint16_t group[QZ_TILE_GROUPS];
    uint8_t suspicion[QZ_TILE_GROUPS];
    float gain[QZ_TILE_GROUPS], energy[QZ_TILE_GROUPS], spread[QZ_TILE_GROUPS];
};

/* Whether the values of group g count differently. */
static int is_weighted(const struct source *source, size_t g)
{
    return source->w && source->least_weight[g] != source->most_weight[g];
}

/* Whether some values of a group do not count: its range, where searches begin, says little of the others then. */
static int has_idle_values(const struct source *source, size_t g)
{
    return source->least_weight[g] == 0.0f;
}

/* A power of two to divide by so that sums of squares of what is at most `largest` fit float32. It is 1 for most data;
 * results do not depend on it. */
static float unit_of(float largest)
{
    if (largest >= UNIT_LEAST && largest <= UNIT_MOST)
        return 1.0f;
    float power = qz_float(qz_bits(largest) & 0x7f800000u);
    return power < FLT_MIN ? FLT_MIN : power > 0x1p125f ? 0x1p125f : power;
}

/* Whether it is of QZ_BLOCK whole groups that follow each other. */
static int is_whole(const struct qz_view *view, const struct block *block)
{
    int apart = block->count != QZ_BLOCK || block->length != view->group_size;
    for (size_t l = 0; l < block->count; l++)
        apart |= (size_t)block->group[l] != block->group[0] + l;
    return !apart;
}

/* Element k of group l becomes to[QZ_BLOCK * k + l]. Lanes without a group are 0. */
static void interleave(const struct qz_view *view, const struct block *block, const float *x, float *to)
{
    size_t n = block->length, size = (size_t)view->group_size;
    if (is_whole(view, block)) {
        view->kernels->interleave(x + block->group[0] * size, n, to);
        return;
    }
    memset(to, 0, n * QZ_BLOCK * sizeof *to);
    for (size_t l = 0; l < block->count; l++)
        for (size_t k = 0; k < n; k++)
            to[QZ_BLOCK * k + l] = x[block->group[l] * size + k];
}

/* Weights likewise, each group's divided by a power of two of its own. */
static void interleave_weights(const struct qz_view *view, const struct source *source, struct block *block)
{
    block->laid = SIZE_MAX;
    interleave(view, block, source->w, block->w);
    for (size_t l = 0; l < block->count; l++) {
        float largest = source->most_weight[block->group[l]];
        if (largest >= UNIT_LEAST && largest <= UNIT_MOST)
            continue;
        float unit = unit_of(largest);
        for (size_t k = 0; k < block->length; k++)
            block->w[QZ_BLOCK * k + l] /= unit;
    }
}

/* Draws values that do not count into the range of those that do. */
static void draw_idle_values(const struct source *source, struct block *block)
{
    for (size_t l = 0; l < block->count; l++) {
        float low = INFINITY, high = -INFINITY;
        if (!has_idle_values(source, block->group[l]))
            continue;
        for (size_t k = l; k < block->length * QZ_BLOCK; k += QZ_BLOCK) {
            low = block->w[k] > 0.0f && block->v[k] < low ? block->v[k] : low;
            high = block->w[k] > 0.0f && block->v[k] > high ? block->v[k] : high;
        }
        for (size_t k = l; k < block->length * QZ_BLOCK; k += QZ_BLOCK) {
            block->v[k] = block->v[k] < low ? low : block->v[k];
            block->v[k] = block->v[k] > high ? high : block->v[k];
        }
    }
}

/* What candidates make of a block that is laid out, at least of its first lanes; w: NULL without weights. */
static void search_scales(const struct qz_encoder *encoder, struct block *block, const float *w, int list, size_t lanes)
{
    const struct qz_view *view = encoder->view;
    const struct qz_search *rule = &encoder->search[list];
    view->kernels->search_scale(rule, block->v, w, block->length, lanes, block->unit,
                                view->super_groups ? block->super : NULL, rule->as_stored > 1 ? block->other : NULL,
                                block->scale, block->second, &block->gains);
    for (size_t l = 0; l < QZ_BLOCK && view->grid.zero == QZ_ZERO_FLOAT; l++)
        block->zero[l] = block->second[l] ? -view->grid.shift : 0.0f;
}

static enum qz_affine_kind affine_kind(const struct qz_view *view)
{
    return view->grid.zero == QZ_ZERO_UINT4   ? QZ_AFFINE_UINT4
           : view->grid.zero == QZ_ZERO_FLOAT ? QZ_AFFINE_FLOAT
           : view->super_groups               ? QZ_AFFINE_MIN
                                              : QZ_AFFINE_OFFSET;
}

/* The same with a zero or an offset. */
static void search_pairs(const struct qz_encoder *encoder, struct block *block, const float *w,
                         enum qz_affine_list list)
{
    const struct qz_view *view = encoder->view;
    view->kernels->search_affine(affine_kind(view), list, view->scale_dtype, block->v, w, block->length, block->unit,
                                 block->rule.scale ? &block->rule : NULL, block->scale, block->zero, &block->error);
}

static int are_sure(const uint8_t sure[QZ_BLOCK])
{
    uint8_t all = 1;
    for (size_t l = 0; l < QZ_BLOCK; l++)
        all &= sure[l];
    return all;
}

/* Whether groups are searched in integers first. */
static int is_fixed(const struct qz_encoder *encoder, const float *w)
{
    return encoder->fixed.count > 0 && !w;
}

/* What candidates in integers make of a block; floats decide where these cannot. */
static void search_fixed(const struct qz_encoder *encoder, struct block *block)
{
    const struct qz_look look = {block->v, NULL, block->length, block->low, block->high};
    uint8_t sure[QZ_BLOCK];
    float begin[QZ_BLOCK], scale[QZ_BLOCK];
    memcpy(begin, block->scale, sizeof begin);
    encoder->view->kernels->search_fixed(&encoder->fixed, &look, block->unit, block->other, block->scale, &block->gains,
                                         sure);
    if (are_sure(sure))
        return;
    const struct qz_gains gains = block->gains;
    memcpy(scale, block->scale, sizeof scale);
    memcpy(block->scale, begin, sizeof begin);
    search_scales(encoder, block, NULL, QZ_CANDIDATES_UNWEIGHTED, QZ_BLOCK);
    for (size_t l = 0; l < QZ_BLOCK; l++)
        if (sure[l]) {
            block->scale[l] = scale[l];
            block->gains.best[l] = gains.best[l];
            block->gains.other[l] = gains.other[l];
            block->gains.energy[l] = gains.energy[l];
        }
}

/* Whether groups with an integer zero or an offset are searched in integers first. */
static int is_fixed_affine(const struct qz_encoder *encoder, const struct block *block, const float *w)
{
    enum qz_affine_kind kind = affine_kind(encoder->view);
    return !is_symmetric(encoder) && !w && (kind == QZ_AFFINE_UINT4 || kind == QZ_AFFINE_OFFSET) &&
           block->length <= QZ_FIXED_LONGEST && block->length % 2 == 0;
}

/* What ends in integers make of some blocks; floats decide where these do not fit. */
static void search_fixed_affine(const struct qz_encoder *encoder, struct block *blocks, size_t count)
{
    const struct qz_view *view = encoder->view;
    struct qz_fixed_affine_task tasks[QZ_FIXED_TASKS] = {{.rule = NULL}};
    uint8_t sure[QZ_FIXED_TASKS][QZ_BLOCK];
    float scale[QZ_FIXED_TASKS][QZ_BLOCK], zero[QZ_FIXED_TASKS][QZ_BLOCK];
    for (size_t i = 0; i < count; i++) {
        struct block *block = blocks + i;
        memcpy(scale[i], block->scale, sizeof scale[i]);
        memcpy(zero[i], block->zero, sizeof zero[i]);
        tasks[i] = (struct qz_fixed_affine_task){{block->v, NULL, block->length, block->low, block->high},
                                                 block->unit,
                                                 block->rule.scale ? &block->rule : NULL,
                                                 scale[i],
                                                 zero[i],
                                                 &block->error,
                                                 sure[i]};
    }
    view->kernels->search_fixed_affine(affine_kind(view), view->scale_dtype, tasks, count);
    for (size_t i = 0; i < count; i++) {
        struct block *block = blocks + i;
        const struct qz_affine_error error = block->error;
        const int all = are_sure(sure[i]);
        if (!all)
            search_pairs(encoder, block, NULL, QZ_AFFINE_USUAL);
        for (size_t l = 0; l < QZ_BLOCK && !all; l++)
            if (sure[i][l]) {
                block->error.curve[l] = error.curve[l];
                block->error.slope[l] = error.slope[l];
                block->error.rest[l] = error.rest[l];
                block->error.variance[l] = error.variance[l];
                block->error.rule[l] = error.rule[l];
            } else {
                scale[i][l] = block->scale[l];
                zero[i][l] = block->zero[l];
            }
        memcpy(block->scale, scale[i], sizeof scale[i]);
        memcpy(block->zero, zero[i], sizeof zero[i]);
    }
}

/* Some blocks of one kind: more than one only with zeros or offsets that are searched in integers. */
static void search_usual(const struct qz_encoder *encoder, struct block *blocks, size_t count, const float *w)
{
    if (is_fixed(encoder, w))
        search_fixed(encoder, blocks);
    else if (is_fixed_affine(encoder, blocks, w))
        search_fixed_affine(encoder, blocks, count);
    else if (is_symmetric(encoder))
        search_scales(encoder, blocks, w, w ? QZ_CANDIDATES_WEIGHTED : QZ_CANDIDATES_UNWEIGHTED, QZ_BLOCK);
    else
        search_pairs(encoder, blocks, w, w ? QZ_AFFINE_WEIGHTED : QZ_AFFINE_USUAL);
}

/* The super scales of the groups of a run. */
static void load_supers(const struct qz_view *view, const struct run *run, size_t count, float *to)
{
    for (size_t g = 0, step; g < count; g += step) {
        struct place place = qz_group_place(view, run, count, g);
        float super[2];
        step = qz_sharing(view, place.group, place.left);
        qz_load_super(view, place.row, place.group, super);
        for (size_t k = g; k < g + step; k++)
            to[k] = super[0];
    }
}

/* ---- special groups ------------------------------------------------------------------------------------------ */

/* n largest^2 / sum of x^2 is less than this in one of 400 to 10,000 normal groups of length n, and in fewer with
 * longer tails.
 */
static float ordinary_spread(size_t n)
{
    static const float least[] = {2.2f, 2.2f, 2.2f, 2.2f, 2.2f, 2.6f, 3.3f, 4.1f, 5.2f, 6.3f};
    size_t power = 0;
    while ((size_t)2 << power <= n && power + 1 < sizeof least / sizeof *least)
        power++;
    return least[power];
}

/* What the kernels look at. */
static struct qz_look look_at(const struct block *block, const float *w)
{
    return (struct qz_look){block->v, w, block->length, block->low, block->high};
}

/* Notes which groups of a block are special, with neither a zero nor an offset. */
static void note_specials(const struct qz_encoder *encoder, const struct source *source, const struct block *block,
                          const float *w, struct specials *specials)
{
    const struct qz_view *view = encoder->view;
    const struct qz_look look = look_at(block, w);
    const struct qz_symmetric_look more = {
        .uniform = view->grid.uniform,
        .has_tiny = encoder->has_tiny,
        .least_spread = ordinary_spread(block->length),
        .scale = block->scale,
        .unit = block->unit,
        .few_steps = view->scale_dtype == QZ_F16 ? FEW_STEPS : 0.0f,
        .super = view->super_groups ? block->super : NULL,
        .coarse =
            qz_is_float8(view->scale_dtype) ? qz_float_power(1 - (int)qz_float8_of(view->scale_dtype).bias) : 4.0f,
        .end = encoder->fit.end,
        .gains = &block->gains,
    };
    int32_t suspicion[QZ_BLOCK];
    float spread[QZ_BLOCK];
    int any = view->kernels->look_symmetric(&look, &more, suspicion, spread) != 0;
    for (size_t l = 0; l < block->count && w; l++)
        if (has_idle_values(source, block->group[l])) {
            suspicion[l] |= QZ_SUSPECT_WIDE;
            any = 1;
        }
    if (!any)
        return;
    for (size_t l = 0; l < block->count; l++) {
        size_t i = specials->count;
        if (suspicion[l] == 0 || (block->gains.energy[l] <= 0.0f && view->grid.has_zero))
            continue;
        specials->group[i] = (uint16_t)block->group[l];
        specials->suspicion[i] = (uint8_t)suspicion[l];
        specials->gain[i] = block->gains.best[l];
        specials->energy[i] = block->gains.energy[l];
        specials->spread[i] = spread[l] / block->gains.energy[l];
        specials->count++;
    }
}

/* For which groups the rule of another tool has a pair that is better. Where float32 sums tell, and the group is not
 * special, it is taken. */
static void note_rules(const struct qz_encoder *encoder, struct block *block, const float *w, int32_t special[QZ_BLOCK])
{
    const struct qz_look look = look_at(block, w);
    const struct qz_affine_rule pair[2] = {{block->scale, block->zero}, block->rule};
    float error[2][QZ_BLOCK];
    int32_t other[QZ_BLOCK], any = 0;
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        other[l] = (pair[0].scale[l] != pair[1].scale[l]) | (pair[0].zero[l] != pair[1].zero[l]);
        other[l] &= block->error.rule[l] * QZ_AFFINE_LESS <= block->error.curve[l];
        any |= other[l];
    }
    if (!any)
        return;
    /* What integers do not tell is no error. */
    encoder->view->kernels->pair_errors(affine_kind(encoder->view), &look, pair, error);
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        if (!other[l] || !(error[1][l] * QZ_AFFINE_LESS <= error[0][l]))
            continue;
        if (special[l] == 0 && error[1][l] < error[0][l] * QZ_AFFINE_LESS) {
            block->scale[l] = pair[1].scale[l];
            block->zero[l] = pair[1].zero[l];
            block->error.curve[l] = error[1][l];
        } else {
            special[l] |= QZ_SPECIAL_RULE;
        }
    }
}

/* The same with a zero or an offset, and without super scales: which groups are to be looked at again
 * (careful_affine.c). */
static void note_affine(const struct qz_encoder *encoder, struct block *block, const float *w,
                        int32_t special[QZ_BLOCK])
{
    const struct qz_view *view = encoder->view;
    const struct qz_look look = look_at(block, w);
    if (!view->super_groups)
        view->kernels->look_affine(&look, &block->error, view->grid.zero == QZ_ZERO_UINT4, special);
    for (size_t l = 0; l < QZ_BLOCK && view->scale_dtype == QZ_F16 && !view->super_groups; l++)
        special[l] |= (fabsf(block->scale[l] * block->unit[l]) < FEW_STEPS) * QZ_SPECIAL;
    if (block->rule.scale)
        note_rules(encoder, block, w, special);
}

/* Once the plain pairs of a block are known. */
static void set_rules(const struct qz_encoder *encoder, struct block *block, const float *scale, const float *zero)
{
    int some = has_rule(encoder) && (memcmp(scale, block->scale, sizeof block->scale) != 0 ||
                                     memcmp(zero, block->zero, sizeof block->zero) != 0);
    block->rule = some ? (struct qz_affine_rule){scale, zero} : (struct qz_affine_rule){NULL, NULL};
}

/* ---- blocks -------------------------------------------------------------------------------------------------- */

/* Lays out any groups of one length; w: NULL if they have no weights. */
static void fill_block(const struct qz_encoder *encoder, const struct groups *groups, const struct source *source,
                       struct block *block, int weighted)
{
    const struct qz_view *view = encoder->view;
    int offset = view->grid.zero == QZ_ZERO_OFFSET;
    block->low = block->own_low;
    block->high = block->own_high;
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        size_t g = block->group[l < block->count ? l : 0];
        float unit = block->unit[l] = unit_of(qz_larger(-groups->min[g], groups->max[g]));
        block->super[l] = source->super[g] / unit;
        block->scale[l] = groups->scale[g] / unit;
        block->own_low[l] = groups->min[g] / unit;
        block->own_high[l] = groups->max[g] / unit;
        block->zero[l] = offset ? groups->zero[g] / unit : groups->zero[g];
        block->other[l] = has_other(encoder) ? source->other[g] / unit : 0.0f;
        block->rule_scale[l] = has_rule(encoder) ? source->rule_scale[g] / unit : 0.0f;
        block->rule_zero[l] = has_rule(encoder) ? source->rule_zero[g] / (offset ? unit : 1.0f) : 0.0f;
    }
    set_rules(encoder, block, block->rule_scale, block->rule_zero);
    interleave(view, block, source->x, block->v);
    for (size_t l = 0; l < block->count; l++)
        for (size_t k = 0; k < block->length && block->unit[l] != 1.0f; k++)
            block->v[QZ_BLOCK * k + l] /= block->unit[l];
    if (weighted) {
        interleave_weights(view, source, block);
        if (!is_symmetric(encoder))
            draw_idle_values(source, block);
    }
}

static void keep_lane(const struct qz_view *view, struct groups *groups, const struct block *block, size_t l)
{
    size_t g = block->group[l];
    groups->scale[g] = block->scale[l] * block->unit[l] + 0.0f;
    groups->zero[g] = view->grid.zero == QZ_ZERO_OFFSET ? block->zero[l] * block->unit[l] : block->zero[l];
    if (view->scale_type->pairs) {
        groups->curve[g] = block->error.curve[l];
        groups->slope[g] = block->error.slope[l];
        groups->rest[g] = block->error.rest[l];
    }
}

/* Any groups of one length, all with weights or all without. */
static void search_block(const struct qz_encoder *encoder, struct groups *groups, const struct source *source,
                         struct block *block, struct specials *specials)
{
    int weighted = is_weighted(source, block->group[0]);
    const float *w = weighted ? block->w : NULL;
    int32_t special[QZ_BLOCK] = {0};
    fill_block(encoder, groups, source, block, weighted);
    search_usual(encoder, block, 1, w);
    if (is_symmetric(encoder))
        note_specials(encoder, source, block, w, specials);
    else
        note_affine(encoder, block, w, special);
    for (size_t l = 0; l < block->count; l++) {
        keep_lane(encoder->view, groups, block, l);
        groups->special[block->group[l]] = special[l];
    }
}

/* QZ_BLOCK whole groups that follow each other and need no unit: the same without looking at each. So many and so long
 * the block is, and its units are 1, already. */
static void fill_plain_block(const struct qz_encoder *encoder, const struct groups *groups, const struct source *source,
                             size_t g, struct block *block)
{
    const struct qz_view *view = encoder->view;
    size_t bytes = QZ_BLOCK * sizeof(float), row_groups = source->row_groups;
    int weighted = is_weighted(source, g);
    for (size_t l = 0; l < QZ_BLOCK; l++)
        block->group[l] = (uint16_t)(g + l);
    block->low = groups->min + g;
    block->high = groups->max + g;
    if (view->super_groups)
        memcpy(block->super, source->super + g, bytes);
    memcpy(block->scale, groups->scale + g, bytes);
    if (view->grid.zero != QZ_ZERO_NONE)
        memcpy(block->zero, groups->zero + g, bytes);
    if (has_other(encoder))
        memcpy(block->other, source->other + g, bytes);
    set_rules(encoder, block, source->rule_scale + g, source->rule_zero + g);
    view->kernels->interleave(source->x + g * block->length, block->length, block->v);
    if (weighted && block->laid != g % row_groups) {
        interleave_weights(view, source, block);
        if (block->same_weights)
            block->laid = g % row_groups;
    }
    if (weighted && !is_symmetric(encoder))
        draw_idle_values(source, block);
}

static void keep_plain_block(const struct qz_encoder *encoder, struct groups *groups, const struct source *source,
                             struct block *block, const float *w, struct specials *specials)
{
    const struct qz_view *view = encoder->view;
    const size_t bytes = QZ_BLOCK * sizeof(float), g = block->group[0];
    if (is_symmetric(encoder))
        note_specials(encoder, source, block, w, specials);
    else
        note_affine(encoder, block, w, groups->special + g);
    memcpy(groups->scale + g, block->scale, bytes);
    if (view->grid.zero != QZ_ZERO_NONE)
        memcpy(groups->zero + g, block->zero, bytes);
    if (view->scale_type->pairs) {
        memcpy(groups->curve + g, block->error.curve, bytes);
        memcpy(groups->slope + g, block->error.slope, bytes);
        memcpy(groups->rest + g, block->error.rest, bytes);
    }
}

/* Length of group g of a run: all are whole but the last one of a row. */
static size_t length_of(const struct qz_view *view, const struct run *run, size_t row_groups, size_t g)
{
    return qz_least(view->group_size, run->cols - g % row_groups * view->group_size);
}

/* Whether `count` groups from g on are ordinary and need no unit. */
static int are_plain(const struct groups *groups, size_t g, size_t count)
{
    const int32_t least = qz_magnitude_bits(UNIT_LEAST), most = qz_magnitude_bits(UNIT_MOST);
    const int32_t least_scale = qz_magnitude_bits(0x1p-100f), most_scale = qz_magnitude_bits(0x1p100f);
    int32_t others = 0;
    for (size_t l = g; l < g + count; l++) {
        int32_t low = qz_magnitude_bits(groups->min[l]), high = qz_magnitude_bits(groups->max[l]);
        int32_t scale = qz_magnitude_bits(groups->scale[l]), largest = low > high ? low : high;
        others |= (largest < least) | (largest > most) | (scale < least_scale) | (scale > most_scale);
    }
    return !others;
}

/* Whether `count` groups from g on all have weights, or all have none. */
static int are_alike(const struct source *source, size_t g, size_t count)
{
    int first = is_weighted(source, g), others = 0;
    for (size_t i = g + 1; i < g + count && source->w; i++)
        others |= is_weighted(source, i) != first;
    return !others;
}

/* One group of a run, by itself. */
static struct qz_exact_source source_of(const struct qz_view *view, const struct run *run, const struct source *source,
                                        size_t g)
{
    size_t start = g * (size_t)view->group_size;
    return (struct qz_exact_source){.x = source->x + start,
                                    .w = source->w ? source->w + start : NULL,
                                    .n = length_of(view, run, source->row_groups, g),
                                    .unweighted = !is_weighted(source, g)};
}

/* What is known of a run while its groups are searched. */
struct pass {
    const struct qz_encoder *encoder;
    const struct run *run;
    struct groups *groups;
    const struct source *source;
    struct block *block;
    struct specials *specials;
};

/* Gives some groups of a run to `search`, by the block: those of one length that all have weights, or all have none.
 * A group is told by its item in a list; `group` says which one that is, or is NULL if the item is the group. */
static void for_each_block(const struct pass *pass, const uint16_t *item, size_t count, const uint16_t *group,
                           void (*search)(const struct pass *pass))
{
    const struct qz_encoder *encoder = pass->encoder;
    const struct qz_view *view = encoder->view;
    struct block *block = pass->block;
    size_t size = (size_t)view->group_size, row_groups = pass->source->row_groups;
    size_t last = length_of(view, pass->run, row_groups, row_groups - 1);
    for (int weighted = 0; weighted <= (pass->source->w != NULL); weighted++)
        for (size_t length = size; length; length = length == last ? 0 : last) {
            block->count = 0;
            block->length = length;
            for (size_t i = 0; i < count; i++) {
                size_t g = group ? group[item[i]] : item[i];
                if (length_of(view, pass->run, row_groups, g) == length && is_weighted(pass->source, g) == weighted) {
                    block->item[block->count] = item[i];
                    block->group[block->count++] = (uint16_t)g;
                }
                if (block->count == QZ_BLOCK || (i + 1 == count && block->count > 0)) {
                    search(pass);
                    block->count = 0;
                }
            }
        }
}

static void search_any(const struct pass *pass)
{
    search_block(pass->encoder, pass->groups, pass->source, pass->block, pass->specials);
}

/* Tries a list of candidates for a block of special groups, and keeps what gains more than was gained before. */
static void search_more(const struct pass *pass, int list, const float begin[QZ_BLOCK])
{
    struct block *block = pass->block;
    struct specials *specials = pass->specials;
    memcpy(block->scale, begin, sizeof block->scale);
    search_scales(pass->encoder, block, is_weighted(pass->source, block->group[0]) ? block->w : NULL, list,
                  block->count);
    for (size_t l = 0; l < block->count; l++) {
        size_t i = block->item[l];
        if (block->gains.best[l] > specials->gain[i] + QZ_CLOSE * specials->energy[i]) {
            keep_lane(pass->encoder->view, pass->groups, block, l);
            specials->gain[i] = block->gains.best[l];
        }
    }
}

/* Lays out the special groups of a pass. */
static void fill_specials(const struct pass *pass)
{
    struct block *block = pass->block;
    fill_block(pass->encoder, pass->groups, pass->source, block, is_weighted(pass->source, block->group[0]));
}

/* Scales of the block's groups, of which `from` has those of a run, divided by their units: where candidates begin. */
static void begin_from(const struct block *block, const float *from, float begin[QZ_BLOCK])
{
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        size_t k = l < block->count ? l : 0;
        begin[l] = from[block->group[k]] / block->unit[k];
    }
}

/* Tries candidates where the largest value meets a code, and then about the best so far, of groups that are laid out. */
static void try_entries(const struct pass *pass)
{
    const struct block *block = pass->block;
    float begin[QZ_BLOCK];
    for (int list = QZ_CANDIDATES_ENTRIES; list <= QZ_CANDIDATES_NEAR; list++) {
        begin_from(block, list == QZ_CANDIDATES_ENTRIES ? pass->source->begin : pass->groups->scale, begin);
        search_more(pass, list, begin);
    }
}

/* The same for special groups where one value has most of the energy. */
static void search_entries(const struct pass *pass)
{
    fill_specials(pass);
    try_entries(pass);
}

/* Tries many more candidates for special groups: about where the spread of their values says the best scale may be,
 * where the largest value meets one of the table, and at last about the best of these. */
static void search_many(const struct pass *pass)
{
    const struct qz_encoder *encoder = pass->encoder;
    struct block *block = pass->block;
    float begin[QZ_BLOCK], plain[QZ_BLOCK];
    int apart = 0;
    fill_specials(pass);
    begin_from(block, pass->source->begin, plain);
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        size_t k = l < block->count ? l : 0;
        float share = sqrtf(pass->specials->spread[block->item[k]]) / 2.7f;
        begin[l] = share > 1.25f ? plain[l] / share : plain[l];
        apart |= share > 1.25f;
    }
    search_more(pass, QZ_CANDIDATES_MANY, plain);
    if (!encoder->search[QZ_CANDIDATES_MANY].refit)
        return;
    if (apart)
        search_more(pass, QZ_CANDIDATES_MANY, begin);
    for (size_t l = 0; l < QZ_BLOCK && encoder->has_signs; l++)
        begin[l] = -begin[l];
    if (encoder->has_signs)
        search_more(pass, QZ_CANDIDATES_MANY, begin);
    try_entries(pass);
}

/* Tries the ordinary candidates in floats, of groups whose gain was found in integers: others will be compared with it to
 * the last bits of float32. */
static void search_in_floats(const struct pass *pass)
{
    struct block *block = pass->block;
    struct specials *specials = pass->specials;
    float begin[QZ_BLOCK];
    fill_specials(pass);
    begin_from(block, pass->source->begin, begin);
    for (size_t l = 0; l < block->count; l++)
        specials->gain[block->item[l]] = -INFINITY;
    search_more(pass, QZ_CANDIDATES_UNWEIGHTED, begin);
    for (size_t l = 0; l < block->count; l++)
        if (block->gains.best[l] - block->gains.other[l] <= block->gains.energy[l] * QZ_CLOSE)
            specials->suspicion[block->item[l]] |= QZ_SUSPECT_CLOSE;
}

/* Tries the scales of a few steps of the super scale. */
static void search_steps(const struct pass *pass)
{
    const struct qz_view *view = pass->encoder->view;
    struct block *block = pass->block;
    float step[QZ_BLOCK];
    fill_specials(pass);
    for (size_t l = 0; l < QZ_BLOCK; l++)
        step[l] = ldexpf(block->super[l], view->scale_type->levels.step);
    search_more(pass, QZ_CANDIDATES_STEPS, step);
}

/* The best scale of a group, by itself. */
static void search_alone(const struct pass *pass, size_t g, int exact)
{
    const struct qz_encoder *encoder = pass->encoder;
    struct groups *groups = pass->groups;
    struct qz_exact_source source = source_of(encoder->view, pass->run, pass->source, g);
    const float plain[2] = {pass->source->begin[g], has_other(encoder) ? pass->source->other[g] : 0.0f};
    qz_careful_group(encoder, &source, pass->source->super[g], plain, exact, &groups->scale[g], &groups->zero[g]);
}

/* Groups whose plain scale does not fit its type: the call fails, whatever a search might find for them. */
static void refuse_scales(const struct qz_view *view, struct groups *groups)
{
    float most = view->scale_dtype == QZ_E8M0 ? 0x1.555554p127f : FLT_MAX; /* e8m0_from in scale_type.c */
    if (!qz_is_float8(view->scale_dtype) && view->scale_dtype != QZ_E8M0)
        return; /* other types have infinity */
    if (qz_is_float8(view->scale_dtype) && !view->super_groups)
        most = qz_f8_reach(view->scale_dtype);
    for (size_t g = 0; g < groups->count; g++)
        groups->scale[g] = fabsf(groups->scale[g]) <= most ? groups->scale[g] : INFINITY;
}

/* Plain scales that are powers of two become those that the plain method stores (e8m0_from in scale_type.c): candidates
 * begin there, and a later one must gain more than sums in float32 can be wrong by. */
static void round_to_powers(const struct qz_view *view, struct groups *groups)
{
    const uint32_t least = qz_bits(0x1p-127f);
    if (view->scale_dtype != QZ_E8M0)
        return;
    for (size_t g = 0; g < groups->count; g++) { /* compilers make vectors of it */
        const uint32_t power = qz_bits(groups->scale[g] * 1.5f) & 0x7f800000u;
        groups->scale[g] = qz_float(qz_either(groups->scale[g] != 0.0f && power == 0, least, power));
    }
}

/* Where searches of groups without a zero or an offset begin. */
static void begin_scales(const struct qz_view *view, struct groups *groups)
{
    refuse_scales(view, groups);
    round_to_powers(view, groups);
}

/* Whether a group that is no ordinary one can be searched alone. */
static int is_searchable(const struct groups *groups, size_t g)
{
    return qz_is_finite(groups->scale[g]) && (groups->min[g] != 0.0f || groups->max[g] != 0.0f);
}

/* Better scales for special groups: some by many candidates, some alone. */
static void search_specials(const struct pass *pass)
{
    struct specials *specials = pass->specials;
    const struct {
        unsigned suspicion;
        void (*search)(const struct pass *pass);
    } ways[] = {{QZ_SUSPECT_WIDE, search_many}, {QZ_SUSPECT_LARGE, search_entries}, {QZ_SUSPECT_COARSE, search_steps}};
    uint16_t some[QZ_TILE_GROUPS];
    for (size_t i = 0; i < specials->count; i++) {
        struct qz_exact_source source = source_of(pass->encoder->view, pass->run, pass->source, specials->group[i]);
        specials->suspicion[i] = (uint8_t)qz_look_at_values(pass->encoder, &source, specials->suspicion[i]);
    }
    size_t again = 0;
    for (size_t i = 0; i < specials->count && pass->encoder->fixed.count > 0; i++)
        if (specials->suspicion[i] & ~QZ_SUSPECT_LATTICE && !is_weighted(pass->source, specials->group[i]))
            some[again++] = (uint16_t)i;
    for_each_block(pass, some, again, specials->group, search_in_floats);
    for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) {
        size_t count = 0;
        for (size_t i = 0; i < specials->count; i++)
            if (!(specials->suspicion[i] & QZ_SUSPECT_EXACT) && specials->suspicion[i] & ways[way].suspicion)
                some[count++] = (uint16_t)i;
        for_each_block(pass, some, count, specials->group, ways[way].search);
    }
    for (size_t i = 0; i < specials->count; i++) {
        size_t g = specials->group[i];
        int exact = (specials->suspicion[i] & QZ_SUSPECT_EXACT) != 0;
        if (specials->suspicion[i] & QZ_SUSPECT_LATTICE) {
            struct qz_exact_source source = source_of(pass->encoder->view, pass->run, pass->source, g);
            qz_try_lattice(pass->encoder, &source, pass->source->super[g], &pass->groups->scale[g]);
        }
        if (exact || specials->suspicion[i] & QZ_SUSPECT_CLOSE)
            search_alone(pass, g, exact);
        if (!exact && specials->suspicion[i] & (QZ_SUSPECT_WIDE | QZ_SUSPECT_LARGE)) {
            struct qz_exact_source source = source_of(pass->encoder->view, pass->run, pass->source, g);
            pass->groups->scale[g] = qz_least_alike(pass->encoder, &source, pass->groups->scale[g]);
        }
    }
}

/* Of all scales that decode a short group alike, the least one, so that it is found again. Longer groups have a value
 * of every kind, unless they are special. */
static void settle_alike(const struct pass *pass)
{
    const struct qz_encoder *encoder = pass->encoder;
    struct groups *groups = pass->groups;
    for (size_t g = 0; g < groups->count && encoder->alike_below > 0.0f; g++) {
        struct qz_exact_source source = source_of(encoder->view, pass->run, pass->source, g);
        if (qz_larger(-groups->min[g], groups->max[g]) < encoder->alike_below * fabsf(groups->scale[g]))
            groups->scale[g] = qz_least_alike(encoder, &source, groups->scale[g]);
    }
}

/* Searches a block once more with another list, from where it was begun at first or from what was found. */
static void search_pairs_again(const struct pass *pass, enum qz_affine_list list)
{
    const struct qz_encoder *encoder = pass->encoder;
    struct block *block = pass->block;
    const float *w = is_weighted(pass->source, block->group[0]) ? block->w : NULL;
    fill_block(encoder, pass->groups, pass->source, block, w != NULL);
    search_pairs(encoder, block, w, list);
    for (size_t l = 0; l < block->count; l++)
        keep_lane(encoder->view, pass->groups, block, l);
}

static void search_many_ends(const struct pass *pass)
{
    const int anywhere = pass->encoder->view->super_groups || is_weighted(pass->source, pass->block->group[0]);
    search_pairs_again(pass, anywhere ? QZ_AFFINE_ANYWHERE : QZ_AFFINE_MANY);
}

static void search_lattices(const struct pass *pass)
{
    search_pairs_again(pass, QZ_AFFINE_LATTICES);
}

/* Whether a group that is special in one of these ways gains from more ends: one that may be a wave must be one. */
static int wants_ends(const struct pass *pass, size_t g, int ways)
{
    const struct qz_exact_source source = source_of(pass->encoder->view, pass->run, pass->source, g);
    return ways & ~QZ_SPECIAL_WAVE || qz_is_wave(source.x, (size_t)source.n);
}

/* Likewise, whether it is near a lattice. */
static int wants_lattices(const struct pass *pass, size_t g, int ways)
{
    const struct qz_view *view = pass->encoder->view;
    const struct qz_exact_source source = source_of(view, pass->run, pass->source, g);
    (void)ways;
    return qz_is_near_lattice(view, source.x, (size_t)source.n, pass->groups->min[g], pass->groups->max[g]);
}

/* Which of the groups that are special in one of these ways, and not searched alone, are to be searched again. */
static size_t choose_again(const struct pass *pass, int ways, int (*wants)(const struct pass *pass, size_t g, int ways),
                           uint16_t some[QZ_TILE_GROUPS])
{
    struct groups *groups = pass->groups;
    size_t count = 0;
    for (size_t g = 0; g < groups->count; g++) {
        int special = groups->special[g];
        if (!(special & ways))
            continue;
        groups->special[g] = special & ~ways;
        if (!(special & QZ_SPECIAL) && qz_is_ordinary_scale(groups->scale[g]) && wants(pass, g, special & ways))
            some[count++] = (uint16_t)g;
    }
    return count;
}

/* Tries many more ends for groups whose values gather there, or of whose weights few count; and more numbers of steps for
 * those whose values are near a lattice. */
static void search_ends_again(const struct pass *pass)
{
    uint16_t some[QZ_TILE_GROUPS];
    size_t count = choose_again(pass, QZ_SPECIAL_ENDS | QZ_SPECIAL_WAVE | QZ_SPECIAL_WEIGHTS, wants_ends, some);
    for_each_block(pass, some, count, NULL, search_many_ends);
    count = choose_again(pass, QZ_SPECIAL_LATTICE, wants_lattices, some);
    for_each_block(pass, some, count, NULL, search_lattices);
}

/* Least and greatest weight of each group of a run. */
static void measure_weights(const struct qz_encoder *encoder, const struct run *run, struct source *source,
                            size_t count)
{
    const struct qz_view *view = encoder->view;
    size_t size = (size_t)view->group_size, row_groups = source->row_groups;
    size_t last = length_of(view, run, row_groups, row_groups - 1), measured = count;
    if (encoder->weights->row_stride == 0) /* all rows have the same ones */
        measured = row_groups;
    view->kernels->group_range(source->w, measured / row_groups * run->pitch, size, source->least_weight,
                               source->most_weight);
    for (size_t g = row_groups - 1; g < measured && last < size; g += row_groups) { /* without what fills up a row */
        float range[2];
        view->kernels->range_f32(source->w + g * size, last, range);
        source->least_weight[g] = range[0];
        source->most_weight[g] = range[1];
    }
    for (size_t g = measured; g < count; g++) {
        source->least_weight[g] = source->least_weight[g - row_groups];
        source->most_weight[g] = source->most_weight[g - row_groups];
    }
}

/* The scales that ggml's own search gives whole groups; others have 0. */
static void fit_as_ggml(const struct pass *pass, float *scale)
{
    enum { MOST = QZ_TILE / QZ_RULE_SEARCHED };
    const size_t count = pass->groups->count, short_ends = pass->run->cols % QZ_RULE_SEARCHED > 0;
    const size_t together = short_ends ? pass->source->row_groups : count;
    struct qz_reference fit[MOST];
    for (size_t g = 0; g < count; g += together) {
        const size_t whole = together - short_ends;
        qz_reference_search(pass->encoder->view->kernels, QZ_RULE_IQ4_NL, pass->source->x + g * QZ_RULE_SEARCHED, whole,
                            fit, NULL);
        for (size_t i = 0; i < together; i++)
            scale[g + i] = i < whole && qz_is_finite(fit[i].scale[0]) ? fit[i].scale[0] : 0.0f;
    }
}

/* The other plain scales of integers: those of QZ_ABSMAX7; or, where they may not be negative, those of the scheme's
 * rule, or which make the largest magnitude 7.5, as compressed-tensors and GPTQ have most of them. */
static void fit_other(const struct qz_encoder *encoder, const struct groups *groups, float *scale)
{
    struct qz_fit rule = encoder->fit;
    float inverse[QZ_TILE_GROUPS];
    if (encoder->positive && encoder->rule != QZ_RULE_NONE) {
        qz_rule_pairs(encoder, groups->count, groups->min, groups->max, scale, inverse);
        return;
    }
    rule.positive = 1;
    rule.end = encoder->positive ? 7.5f : 7.0f;
    encoder->view->kernels->fit(&rule, groups->count, groups->min, groups->max, scale, inverse, NULL);
}

void qz_search_anywhere(const struct qz_encoder *encoder, const struct run *run, struct groups *groups, const float *x,
                        const float *w, const uint16_t *some, size_t count)
{
    struct room room; /* which takes long to clear */
    struct block block;
    struct source source = {.x = x, .w = w, .row_groups = groups->count / run->rows};
    const struct pass pass = {.encoder = encoder, .run = run, .groups = groups, .source = &source, .block = &block};
    uint16_t ordinary[QZ_TILE_GROUPS];
    size_t left = 0;
    block.v = room.v;
    block.w = room.w;
    if (w)
        measure_weights(encoder, run, &source, groups->count);
    load_supers(encoder->view, run, groups->count, source.super);
    for (size_t i = 0; i < count; i++)
        if (qz_is_ordinary_scale(groups->scale[some[i]]))
            ordinary[left++] = some[i];
    for_each_block(&pass, ordinary, left, NULL, search_many_ends);
}

/* Where block b begins of those that lie next to each other: with the same weights in all rows they go down the rows,
 * so that weights are laid out once. */
static size_t block_start(const struct source *source, size_t rows, size_t b)
{
    if (rows == 1)
        return b * QZ_BLOCK;
    return b % rows * source->row_groups + b / rows * QZ_BLOCK;
}

/* The blocks that were filled. */
static void search_plain_blocks(const struct pass *pass, size_t count)
{
    const float *w = is_weighted(pass->source, pass->block->group[0]) ? pass->block->w : NULL;
    search_usual(pass->encoder, pass->block, count, w);
    for (size_t i = 0; i < count; i++)
        keep_plain_block(pass->encoder, pass->groups, pass->source, pass->block + i, w, pass->specials);
}

/* Makes blocks of whole groups that need no unit ready, all in one room. Returns how many are searched together. */
static size_t begin_blocks(const struct qz_encoder *encoder, const struct source *source, struct room *room,
                           struct block blocks[QZ_FIXED_TASKS])
{
    const size_t size = (size_t)encoder->view->group_size;
    const size_t apart = size <= QZ_SEARCH_MOST / QZ_FIXED_TASKS ? QZ_BLOCK * size : 0; /* 0: there is room for one */
    for (size_t i = 0; i < QZ_FIXED_TASKS; i++) {
        struct block *block = blocks + i;
        block->count = QZ_BLOCK;
        block->length = size;
        for (size_t l = 0; l < QZ_BLOCK; l++)
            block->unit[l] = 1.0f;
        block->laid = SIZE_MAX;
        block->same_weights = source->w && encoder->weights->row_stride == 0;
        block->v = room->v + i * apart;
        block->w = room->w;
    }
    return apart > 0 && is_fixed_affine(encoder, blocks, source->w) ? QZ_FIXED_TASKS : 1;
}

static void search_blocks(const struct qz_encoder *encoder, const struct run *run, struct groups *groups,
                          struct source *source)
{
    struct room room;
    struct block block[QZ_FIXED_TASKS];
    struct specials specials; /* which takes long to clear */
    const struct pass pass = {encoder, run, groups, source, block, &specials};
    size_t size = (size_t)encoder->view->group_size, count = 0;
    size_t last = length_of(encoder->view, run, source->row_groups, source->row_groups - 1);
    size_t whole = last == size ? groups->count : run->rows == 1 ? groups->count - 1 : 0;
    int all = are_plain(groups, 0, whole);
    uint16_t rest[QZ_TILE_GROUPS];
    size_t held = 0, most = begin_blocks(encoder, source, &room, block);
    specials.count = 0;
    size_t rows = block->same_weights && source->row_groups % QZ_BLOCK == 0 ? run->rows : 1;
    size_t blocks = (whole + QZ_BLOCK - 1) / QZ_BLOCK;
    for (size_t b = 0; b < blocks; b++) {
        size_t g = block_start(source, rows, b), some = qz_least(QZ_BLOCK, whole - g);
        if (some == QZ_BLOCK && (all || are_plain(groups, g, QZ_BLOCK)) && are_alike(source, g, QZ_BLOCK))
            fill_plain_block(encoder, groups, source, g, &block[held++]);
        else
            for (size_t i = 0; i < some; i++)
                rest[count++] = (uint16_t)(g + i);
        if (held == most || (held > 0 && b + 1 == blocks)) {
            search_plain_blocks(&pass, held);
            held = 0;
        }
    }
    for (size_t g = whole; g < groups->count; g++)
        rest[count++] = (uint16_t)g;
    const size_t left = count;
    count = 0;
    for (size_t i = 0; i < left; i++) {
        size_t g = rest[i];
        if (qz_is_ordinary_scale(groups->scale[g]))
            rest[count++] = (uint16_t)g;
        else if (is_symmetric(encoder) && is_searchable(groups, g))
            search_alone(&pass, g, 1);
    }
    for_each_block(&pass, rest, count, NULL, search_any);
    if (is_symmetric(encoder)) {
        search_specials(&pass);
        settle_alike(&pass);
    } else if (!encoder->view->super_groups)
        search_ends_again(&pass);
}

/* Whether the scheme has the rule of another tool whose scales are no candidates: of two equal ends it may take another
 * one than the plain scales do. */
static int has_other_end(const struct qz_encoder *encoder)
{
    return encoder->rule != QZ_RULE_NONE && is_symmetric(encoder) && encoder->view->grid.uniform && !encoder->positive;
}

/* Takes scales of that rule that are better than what was found. */
static void take_other_ends(const struct pass *pass)
{
    const struct qz_encoder *encoder = pass->encoder;
    struct groups *groups = pass->groups;
    for (size_t g = 0; g < groups->count; g++) {
        /* Of equal ends one was moved towards 0, by the next number: fit_groups.c. */
        const float low = -groups->min[g] + 0.0f, high = groups->max[g] + 0.0f, end = qz_larger(low, high), min = -end;
        const int32_t apart = (int32_t)(qz_bits(low) - qz_bits(high));
        if (apart < -1 || apart > 1 || !is_searchable(groups, g))
            continue;
        struct qz_exact_source source = source_of(encoder->view, pass->run, pass->source, g);
        float plain[2] = {0.0f, 0.0f}, zero;
        qz_rule_pairs(encoder, 1, &min, &end, &plain[0], &zero);
        qz_careful_group(encoder, &source, 1.0f, plain, 0, &groups->scale[g], &groups->zero[g]);
    }
}

/* Takes pairs of the rule of another tool that are better than what was found. */
static void take_rules(const struct pass *pass)
{
    struct groups *groups = pass->groups;
    for (size_t g = 0; g < groups->count; g++) {
        if (!(groups->special[g] & QZ_SPECIAL_RULE))
            continue;
        groups->special[g] &= ~QZ_SPECIAL_RULE;
        struct qz_exact_source source = source_of(pass->encoder->view, pass->run, pass->source, g);
        struct qz_pair pair = {groups->scale[g], groups->zero[g]};
        const struct qz_pair rule = {pass->source->rule_scale[g], pass->source->rule_zero[g]};
        if (source.unweighted)
            source.w = NULL;
        qz_take_better_pair(pass->encoder->view, &source, &rule, &pair);
        groups->scale[g] = pair.scale;
        groups->zero[g] = pair.zero;
    }
}

/* Looks again at groups with a zero or an offset that are special in some way. */
static void settle_affine(const struct pass *pass)
{
    const struct qz_encoder *encoder = pass->encoder;
    const struct qz_view *view = encoder->view;
    struct groups *groups = pass->groups;
    view->kernels->note_codes(&view->grid, groups->count, groups->min, groups->max, groups->scale, groups->zero,
                              groups->special);
    for (size_t g = 0; g < groups->count; g++) {
        int special = groups->special[g];
        if (!special && encoder->method != QZ_EXACT)
            continue;
        struct qz_exact_source source = source_of(view, pass->run, pass->source, g);
        size_t n = (size_t)source.n;
        float min = groups->min[g], max = groups->max[g];
        struct qz_pair pair = {groups->scale[g], groups->zero[g]};
        if (min == max && pair.scale == 0.0f && pair.zero == min)
            continue;
        if (source.unweighted)
            source.w = NULL;
        int careful = (special & QZ_SPECIAL) || !qz_is_ordinary_scale(groups->scale[g]) ||
                      ((special & QZ_SPECIAL_GRID) && qz_is_grid(view, source.x, n, min, max)) ||
                      ((special & QZ_SPECIAL_REPEATED) && qz_has_few_values(source.x, n, qz_same_value(min, max))) ||
                      ((special & QZ_SPECIAL_CODES) && !qz_make_affine_normal(view, min, max, &pair));
        if (careful)
            qz_careful_affine(encoder, &source, min, max, &pair);
        else if (special & (QZ_SPECIAL_SLOPES | QZ_SPECIAL_FAR_SLOPES))
            qz_try_slopes(encoder, &source, min, max, special, &pair);
        if (encoder->method == QZ_EXACT)
            qz_exact_affine_group(encoder, &source, min, max, &pair);
        groups->scale[g] = pair.scale;
        groups->zero[g] = pair.zero + 0.0f;
    }
}

/* The best scales of all, one group after another. */
static void exact_groups(const struct pass *pass)
{
    for (size_t g = 0; g < pass->groups->count; g++)
        if (is_searchable(pass->groups, g))
            search_alone(pass, g, 1);
}

/* Whether groups are integers -8..7 times a scale of either sign, as it is stored. */
static int has_two_signs(const struct qz_encoder *encoder)
{
    return is_symmetric(encoder) && encoder->view->grid.uniform && encoder->has_signs && !encoder->view->super_groups;
}

/* Integers -8..7 times a scale, where -8 is not needed, are the same times the negative scale: the positive one is
 * taken. */
static void choose_signs(struct groups *groups)
{
    for (size_t g = 0; g < groups->count; g++) {
        float scale = groups->scale[g], positive = fabsf(scale);
        groups->scale[g] = groups->max[g] < 7.4999f * positive ? positive : scale;
    }
}

static void search_long_groups(const struct pass *pass)
{
    struct groups *groups = pass->groups;
    const struct qz_view *view = pass->encoder->view;
    if (view->super_groups && !qz_is_float8(view->scale_dtype))
        return; /* integers times a super scale, which a search of pieces does not know: the plain ones stay */
    for (size_t g = 0; g < groups->count; g++) {
        struct qz_exact_source source = source_of(pass->encoder->view, pass->run, pass->source, g);
        if (!is_symmetric(pass->encoder) || is_searchable(groups, g))
            qz_search_long(pass->encoder, &source, groups->min[g], groups->max[g], &groups->scale[g], &groups->zero[g]);
    }
}

/* Whether weights that come in pieces are all equal. */
static int are_equal_weights(const struct qz_exact_source *source)
{
    float first = 0.0f;
    size_t n;
    for (uint64_t start = 0; start < source->n; start += n) {
        const float *w;
        qz_source_piece(source, start, &n, &w);
        first = w && start == 0 ? w[0] : first;
        if (w && !qz_are_all(w, n, first))
            return 0;
    }
    return 1;
}

unsigned qz_search_pieces(const struct qz_encoder *encoder, struct qz_exact_source *source, struct groups *groups)
{
    source->unweighted = encoder->weights && are_equal_weights(source);
    if (is_symmetric(encoder))
        begin_scales(encoder->view, groups);
    const float plain[2] = {groups->scale[0], 0.0f};
    if (!is_symmetric(encoder) || is_searchable(groups, 0)) {
        qz_search_long(encoder, source, groups->min[0], groups->max[0], &groups->scale[0], &groups->zero[0]);
        if (encoder->method == QZ_EXACT && is_symmetric(encoder))
            qz_careful_group(encoder, source, 1.0f, plain, 1, &groups->scale[0], &groups->zero[0]);
    }
    if (has_two_signs(encoder))
        choose_signs(groups);
    return qz_flag_scales(encoder->view, groups);
}

unsigned qz_flag_scales(const struct qz_view *view, struct groups *groups)
{
    return view->kernels->flag_scales(view->scale_dtype == QZ_F16, view->grid.zero, groups->count, groups->min,
                                      groups->max, groups->scale, groups->zero, groups->inverse);
}

unsigned qz_search_groups(const struct qz_encoder *encoder, const struct run *run, struct groups *groups,
                          const float *x, const float *w)
{
    const struct qz_view *view = encoder->view;
    struct source source;
    const struct pass pass = {.encoder = encoder, .run = run, .groups = groups, .source = &source};
    source.x = x;
    source.w = w;
    source.row_groups = groups->count / run->rows;
    if (w)
        measure_weights(encoder, run, &source, groups->count);
    if (is_symmetric(encoder))
        begin_scales(view, groups);
    memcpy(source.begin, groups->scale, groups->count * sizeof *source.begin);
    load_supers(view, run, groups->count, source.super);
    if (has_other(encoder) && qz_searches_as_ggml(encoder))
        fit_as_ggml(&pass, source.other);
    else if (has_other(encoder))
        fit_other(encoder, groups, source.other);
    if (has_rule(encoder))
        qz_rule_pairs(encoder, groups->count, groups->min, groups->max, source.rule_scale, source.rule_zero);
    int settles = !is_symmetric(encoder) && !view->super_groups;
    for (size_t g = 0; g < groups->count && settles; g++)
        groups->special[g] = QZ_SPECIAL; /* unless it is searched */
    if (view->group_size > QZ_SEARCH_MOST)
        search_long_groups(&pass);
    else if (encoder->method == QZ_SEARCH || !view->super_groups)
        search_blocks(encoder, run, groups, &source);
    if (settles && view->group_size <= QZ_SEARCH_MOST) {
        take_rules(&pass);
        settle_affine(&pass);
    }
    if (has_other_end(encoder) && view->group_size <= QZ_SEARCH_MOST)
        take_other_ends(&pass);
    if (encoder->method == QZ_EXACT && is_symmetric(encoder))
        exact_groups(&pass);
    if (has_two_signs(encoder))
        choose_signs(groups);
    return qz_flag_scales(view, groups);
}
