/*
 * exact_group.c - applies the exact method to a group of an encoder, and gives scales as they are stored
 */
#include "exact_group.h"
#include "../base/number.h"

#include <math.h>

float qz_stored_scale(const struct qz_view *view, float scale, float super)
{
    return view->scale_type->nearest(super != 0.0f ? scale / super : 0.0f) * super + 0.0f;
}

struct qz_exact qz_exact_rule(const struct qz_encoder *encoder)
{
    const struct qz_view *view = encoder->view;
    struct qz_exact rule = {
        .levels = view->scale_type->levels,
        .uniform = view->grid.uniform,
        .lo = view->grid.lo,
        .hi = view->grid.hi,
        .zero4 = view->grid.zero == QZ_ZERO_UINT4,
    };
    memcpy(rule.sorted, view->grid.sorted, sizeof rule.sorted);
    if (encoder->positive)
        rule.levels.most[1] = 0;
    return rule;
}

void qz_exact_group(const struct qz_encoder *encoder, const struct qz_exact_source *source, float super, float *scale,
                    float *zero)
{
    const struct qz_view *view = encoder->view;
    struct qz_exact rule = qz_exact_rule(encoder);
    struct qz_exact_result result, shifted;
    qz_exact_scale(&rule, source, super, *scale, &result);
    if (view->grid.shift != 0.0f) {
        for (int i = 0; i < 16; i++)
            rule.sorted[i] += view->grid.shift;
        qz_exact_scale(&rule, source, super, *scale, &shifted);
        *zero = shifted.error < result.error ? -view->grid.shift : 0.0f;
        if (*zero != 0.0f)
            result = shifted;
    }
    *scale = result.scale + 0.0f;
    if (rule.zero4)
        *zero = (float)result.zero;
}
