/*
 * reference_groups.c - encodes groups by the rules of other tools
 *
 * The rules are in reference.c and know no matrices; this file applies them to a run of groups.
 */
#include "reference_groups.h"
#include "../base/float8.h"

#include <math.h>

_Static_assert((int)QZ_TILE_GROUPS <= (int)QZ_REFERENCE_MOST, "a run has no more groups");

int qz_reference_fits_rows(const qz_scheme *scheme, uint64_t rows, uint64_t cols)
{
    const struct qz_rule_info *info = qz_rule_info(scheme->rule);
    uint64_t block = info->block ? info->block : scheme->group_size;
    return cols % block == 0 || scheme->group_size == QZ_WHOLE_ROW || info->ends_short == QZ_ENDS_SHORT ||
           (info->ends_short == QZ_ENDS_SHORT_ALONE && rows <= 1);
}

float qz_reference_super(struct qz_encoder *encoder, float largest)
{
    if (encoder->reference != QZ_RULE_COMPRESSED_TENSORS_NVFP4)
        return 1.0f;
    encoder->how.divisor = qz_reference_divisor(largest, encoder->how.weights);
    return 1.0f / encoder->how.divisor;
}

/* Bytes of groups whose numbers are known. */
static void make_bytes(const struct qz_view *view, struct groups *groups, size_t first, size_t count)
{
    const float *scale = groups->scale, *zero = groups->zero;
    for (size_t g = first; g < first + count && qz_has_byte_scales(view); g++) {
        groups->bytes[g] = view->scale_dtype == QZ_E8M0   ? (uint8_t)(qz_bits(scale[g]) >> 23)
                           : view->scale_dtype == QZ_E4M3 ? qz_f8_from_f32(QZ_E4M3, scale[g])
                                                          : (uint8_t)(int)scale[g];
        if (view->scale_type->pairs)
            groups->bytes[QZ_TILE_GROUPS + g] = (uint8_t)(int)zero[g];
    }
}

/* Numbers of a rule become what they stand for, in `count` groups that share their super scales. A number that does not
 * fit its type is infinite or NaN there. */
static void finish_numbers(const struct qz_view *view, const struct run *run, struct groups *groups, size_t first,
                           size_t count)
{
    float super[2] = {1.0f, 1.0f};
    make_bytes(view, groups, first, count);
    if (qz_has_byte_scales(view)) {
        struct place place = qz_group_place(view, run, groups->count, first);
        qz_load_super(view, place.row, place.group, super);
        qz_byte_scales(view, groups->bytes + first, count, super, count, groups->scale + first, groups->zero + first);
    }
    for (size_t g = first; g < first + count && view->scale_type->pairs; g++)
        groups->zero[g] = -(super[1] * groups->zero[g]);
}

/* Two codes a byte. */
static void pack(const uint8_t *codes, size_t n, uint8_t *packed)
{
    for (size_t i = 0; i < n; i += 2)
        packed[i / 2] = (uint8_t)(codes[i] | (i + 1 < n ? codes[i + 1] : 0) << 4);
}

static struct qz_reference_how how_of(const struct qz_encoder *encoder, uint64_t length)
{
    struct qz_reference_how how = encoder->how;
    how.short_group = length < encoder->usual_group && encoder->usual_group != QZ_WHOLE_ROW;
    return how;
}

/* The ranges of a run's groups, which are known but for the sign of a zero, and for which of two largest values came
 * first. */
static void take_ranges(const struct groups *groups, const float *x, size_t n, size_t group_size,
                        struct qz_reference_many *many)
{
    int32_t open[QZ_TILE_GROUPS], some = 0;
    for (size_t g = 0; g < groups->count; g++) { /* compilers make vectors of it: bits have the order of the numbers */
        const uint32_t min = qz_bits(groups->min[g]), max = qz_bits(groups->max[g]), turned = min ^ 0x80000000u;
        many->min[g] = groups->min[g];
        many->max[g] = groups->max[g];
        many->largest[g] = qz_float(qz_either((int32_t)max > (int32_t)turned, max, min));
        open[g] = ((min << 1) == 0) | ((max << 1) == 0) | (max == turned);
        some |= open[g];
    }
    for (size_t g = 0; g < groups->count && some; g++) {
        struct qz_reference_range range = QZ_REFERENCE_NOTHING;
        if (!open[g])
            continue;
        qz_reference_range(&range, x + g * group_size, qz_least(group_size, n - g * group_size));
        many->min[g] = range.min;
        many->max[g] = range.max;
        many->largest[g] = range.largest;
    }
}

/* Fits the last group, which is short, in a way of its own. */
static void refit_last(const struct qz_encoder *encoder, const struct qz_reference_how *how,
                       struct qz_reference_many *many, size_t last)
{
    struct qz_reference fit;
    const struct qz_reference_range range = {many->min[last], many->max[last], many->largest[last]};
    (void)qz_reference_fit(encoder->reference, how, &range, &fit);
    many->scale[last] = fit.scale[0];
    many->zero[last] = fit.zero[0];
    many->by[last] = fit.by;
    many->from[last] = fit.from;
}

/* Groups whose numbers follow from their ranges. */
static void groups_by_ranges(const struct qz_encoder *encoder, const struct run *run, const float *x,
                             struct groups *groups, uint8_t *codes)
{
    const size_t n = run->rows * run->pitch, group_size = (size_t)encoder->view->group_size, count = groups->count;
    const size_t last = count - 1, end = last * group_size;
    struct qz_reference_many many;
    struct qz_reference_how how = how_of(encoder, group_size);
    struct qz_rule_codes rule = qz_reference_codes_of(encoder->reference, &how);
    take_ranges(groups, x, n, group_size, &many);
    qz_reference_fit_many(encoder->reference, &how, &many, count);
    how = how_of(encoder, n - end);
    if (how.short_group) /* it is the last one, or the only one */
        refit_last(encoder, &how, &many, last);
    memcpy(groups->scale, many.scale, count * sizeof *many.scale);
    memcpy(groups->zero, many.zero, count * sizeof *many.zero);
    finish_numbers(encoder->view, run, groups, 0, count);
    encoder->view->kernels->rule_codes(&rule, x, n, group_size, many.by, many.from, codes);
    if (how.short_group) /* its codes may be others */
        rule = qz_reference_codes_of(encoder->reference, &how);
    for (size_t i = end; i < n && how.short_group; i++)
        qz_set_code(codes, i, qz_rule_code(&rule, x[i], many.by[last], many.from[last]) - rule.offset);
}

/* Groups of blocks that are searched. */
static void groups_by_search(const struct qz_encoder *encoder, const struct run *run, const float *x,
                             struct groups *groups, uint8_t *codes)
{
    const struct qz_view *view = encoder->view;
    enum { MOST = QZ_TILE / QZ_RULE_SEARCHED };
    uint8_t single[QZ_TILE];
    struct qz_reference fit[MOST];
    const size_t n = run->rows * run->pitch, block = qz_rule_info(encoder->reference)->block;
    const size_t together = block / (size_t)view->group_size;
    qz_reference_search(view->kernels, encoder->reference, x, n / block, fit, single);
    for (size_t i = 0; i < n / block; i++) {
        const size_t g = i * together;
        struct place place = qz_group_place(view, run, groups->count, g);
        if (together > 1)
            qz_store_super(view, place.row, place.group, fit[i].super);
        memcpy(groups->scale + g, fit[i].scale, together * sizeof *fit->scale);
        memcpy(groups->zero + g, fit[i].zero, together * sizeof *fit->zero);
        finish_numbers(view, run, groups, g, together);
    }
    pack(single, n, codes);
}

void qz_reference_groups(const struct qz_encoder *encoder, const struct run *run, const float *x, struct groups *groups,
                         uint8_t *codes)
{
    (qz_reference_searches(encoder->reference) ? groups_by_search : groups_by_ranges)(encoder, run, x, groups, codes);
}

void qz_reference_long_group(const struct qz_encoder *encoder, const struct run *run, struct groups *groups,
                             struct qz_reference *fit)
{
    float min = groups->min[0] + 0.0f, max = groups->max[0] + 0.0f; /* which zero was first is not known here */
    struct qz_reference_range range = {min, max, max > -min ? max : min};
    struct qz_reference_how how = how_of(encoder, run->cols);
    (void)qz_reference_fit(encoder->reference, &how, &range, fit);
    groups->scale[0] = fit->scale[0];
    groups->zero[0] = fit->zero[0];
    finish_numbers(encoder->view, run, groups, 0, 1);
    groups->inverse[0] = qz_inverse_of(groups->scale[0]);
}

void qz_reference_group_codes(const struct qz_encoder *encoder, const struct qz_reference *fit, uint64_t length,
                              const float *x, size_t n, uint8_t *codes)
{
    struct qz_reference_how how = how_of(encoder, length);
    struct qz_rule_codes rule = qz_reference_codes_of(encoder->reference, &how);
    encoder->view->kernels->rule_codes(&rule, x, n, n, &fit->by, &fit->from, codes);
}
