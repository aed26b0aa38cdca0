/*
 * exact_group.c - the exact method for a group, and scales as they are stored
 */
#include "exact_group.h"
#include "../base/number.h"

#include <math.h>

float qz_stored_scale(const struct qz_view *view, float scale, float super)
{
    float multiple = super != 0.0f ? scale / super : 0.0f;
    switch (view->scale_dtype) {
    case QZ_F16:
        return qz_f32_from_f16(qz_f16_from_f32(scale)) + 0.0f;
    case QZ_BF16:
        return qz_f32_from_bf16(qz_bf16_from_f32(scale)) + 0.0f;
    case QZ_E4M3:
        return qz_f32_from_e4m3(qz_e4m3_from_f32(multiple)) * super + 0.0f;
    case QZ_E8M0:
        return scale > 0 ? qz_nearest_power(scale) : 0.0f;
    case QZ_I6:
        multiple = rintf(multiple < -32.0f ? -32.0f : multiple > 31.0f ? 31.0f : multiple);
        return multiple * super + 0.0f;
    case QZ_I7:
        multiple = rintf(multiple < -64.0f ? -64.0f : multiple > 63.0f ? 63.0f : multiple);
        return multiple * super + 0.0f;
    default:
        return scale + 0.0f;
    }
}

struct qz_exact qz_exact_rule(const struct qz_encoder *encoder)
{
    const struct qz_view *view = encoder->view;
    struct qz_exact rule = {
        .uniform = view->grid.uniform,
        .lo = view->grid.lo,
        .hi = view->grid.hi,
        .zero4 = view->grid.zero == QZ_ZERO_UINT4,
    };
    memcpy(rule.sorted, view->grid.sorted, sizeof rule.sorted);
    switch (view->scale_dtype) {
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
