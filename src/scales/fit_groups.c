/*
 * fit_groups.c - finds the scales of the groups of a run, and notes which groups are special
 */
#include "fit_groups.h"
#include "../base/number.h"
#include "careful_affine.h"
#include "scales.h"
#include "search.h"
#include "super.h"

#include <float.h>
#include <math.h>

/* Which of the numbers that are stored for a group does not fit its type. */
static int number_beyond(const struct qz_view *view, const struct groups *groups, const struct run *run, size_t g)
{
    struct place place = qz_group_place(view, run, groups->count, g);
    float super[2];
    qz_load_super(view, place.row, place.group, super);
    if (!qz_is_finite(super[0]))
        return QZ_NUMBER_SUPER;
    if (!qz_is_finite(super[1]))
        return QZ_NUMBER_SUPER_OFFSET;
    /* A scale follows from its offset, a float zero from its scale: that one is to blame if neither fits. */
    int first =
        view->grid.zero == QZ_ZERO_OFFSET || (view->grid.zero == QZ_ZERO_FLOAT && qz_is_finite(groups->scale[g]));
    return first && !qz_is_finite(groups->zero[g]) ? QZ_NUMBER_ZERO : QZ_NUMBER_SCALE;
}

int qz_note_scale_problem(const struct qz_encoder *encoder, struct findings *found, struct groups *groups,
                          const struct run *run, size_t g)
{
    const struct qz_view *view = encoder->view;
    float scale = groups->scale[g], magnitude = fabsf(scale);
    float zero = view->grid.zero == QZ_ZERO_OFFSET ? groups->zero[g] : 0.0f;
    int float_zero = view->grid.zero == QZ_ZERO_FLOAT && view->grid.shift == 0.0f;
    /* scale * 15 + offset must not overflow on its way to a value that would fit */
    int overflows = view->grid.zero == QZ_ZERO_OFFSET && !qz_is_finite(scale * 15.0f);
    if (encoder->reference) /* their codes are not drawn in where values would be infinite */
        overflows |= !qz_is_finite(scale * qz_larger(-view->grid.sorted[0], view->grid.sorted[15]));
    if (!qz_is_finite(scale) || !qz_is_finite(zero) || overflows || (float_zero && !qz_is_finite(groups->zero[g]))) {
        struct place place = qz_group_place(view, run, groups->count, g);
        uint64_t flat = place.row * view->row_groups + place.group;
        if (flat < found->bad_group) {
            found->bad_group = flat;
            found->bad_value = (double)qz_larger(-groups->min[g], groups->max[g]);
            found->bad_number = number_beyond(view, groups, run, g);
        }
        groups->inverse[g] = groups->zero[g] = groups->scale[g] = 0.0f; /* stay finite */
        return 0;
    }
    if (scale == 0.0f)
        found->zeroed += groups->min[g] != zero || groups->max[g] != zero;
    else if (magnitude < (view->scale_dtype == QZ_F16 ? 0x1p-14f : FLT_MIN)) /* of zeros E8M0 has such a scale, too */
        found->subnormal += groups->min[g] != 0.0f || groups->max[g] != 0.0f;
    return 1;
}

/* Scales up to 2^120 are safe with all of our values; a table of the caller's may reach further. */
static int reaches_far(const struct qz_view *view)
{
    return qz_larger(-view->grid.sorted[0], view->grid.sorted[15]) > 0x1p7f;
}

int qz_may_overflow(const struct qz_view *view, float scale)
{
    float most = qz_larger(-view->grid.sorted[0], view->grid.sorted[15]);
    return reaches_far(view) && !(fabsf(scale) * most <= 0x1p126f);
}

int qz_some_may_overflow(const struct qz_view *view, const struct groups *groups)
{
    int some = 0;
    for (size_t g = 0; g < groups->count && reaches_far(view); g++)
        some |= qz_may_overflow(view, groups->scale[g]);
    return some;
}

void qz_refit_special_groups(const struct qz_encoder *encoder, struct findings *found, struct groups *groups,
                             const struct run *run)
{
    const struct qz_view *view = encoder->view;
    for (size_t g = 0; g < groups->count; g++) {
        float scale = groups->scale[g];
        if (qz_may_overflow(view, scale))
            groups->inverse[g] = 0.0f;
        if (!qz_note_scale_problem(encoder, found, groups, run, g) || groups->inverse[g] != 0.0f)
            continue;
        groups->careful |= scale == 0.0f && view->grid.zero == QZ_ZERO_OFFSET; /* x - offset times 0: may be NaN */
        if (scale == 0.0f)
            continue;
        groups->careful = 1;
        if (!qz_is_searching(encoder)) /* a search has found it */
            groups->zero[g] = qz_careful_zero(view, groups->min[g], scale, groups->zero[g]);
    }
}

unsigned qz_fit_groups(const struct qz_encoder *encoder, const struct run *run, struct groups *groups, const float *x,
                       const float *w)
{
    const struct qz_view *view = encoder->view;
    for (size_t g = 0; g < groups->count && view->scale_type->pairs; g++) {
        groups->min[g] = groups->min[g] < 0 ? groups->min[g] : 0.0f; /* offsets are not positive */
        /* Of groups that a search leaves alone: as if there were one value, with any of the codes. */
        groups->curve[g] = 77.5f;
        groups->slope[g] = 0.0f;
        groups->rest[g] = 1.0f;
    }
    unsigned flags = view->kernels->fit(&encoder->fit, groups->count, groups->min, groups->max, groups->scale,
                                        groups->inverse, groups->zero);
    if (flags & QZ_FIT_TIE) /* they will be fitted again */
        return flags;
    qz_make_supers(view, run, groups);
    int searched = x && qz_is_searching(encoder);
    if (searched && view->super_groups)
        return qz_search_shared(encoder, run, groups, x, w);
    if (searched)
        flags = qz_search_groups(encoder, run, groups, x, w);
    if (x && view->scale_type->pairs)
        return qz_limit_offsets(encoder, run, groups, x);
    return qz_has_byte_scales(view) ? qz_round_scales(view, run, groups) : flags;
}
