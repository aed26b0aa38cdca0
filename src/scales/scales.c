/*
 * scales.c - rounds scales to types of a byte, and computes the super scales that groups share
 *
 * The kernel fit gives scales as float32. They are rounded to types of a byte here, in plain C, because there is only
 * one scale for each group. Super scales of a part of a row are computed from its scales; those of whole rows, or of
 * the matrix, from the largest magnitude alone (largest.c).
 */
#include "scales.h"
#include "../base/number.h"
#include "reference.h"

#include <math.h>

/* As it is stored. What becomes so much smaller that multiples would not reach, as only a subnormal float16 number can,
 * takes the next larger one: then there are fewer multiples, but none is 0 that need not be. */
static float rounded_super(const struct qz_view *view, float super)
{
    if (view->super_dtype == QZ_F32)
        return super + 0.0f;
    float rounded = qz_rounded_to_f16(super);
    return rounded + (super - rounded > rounded * 0x1p-6f ? 0x1p-24f : 0.0f);
}

void qz_make_supers(const struct qz_view *view, const struct run *run, struct groups *groups)
{
    size_t step;
    if (view->super_groups == 0 || view->super_groups >= QZ_WHOLE_MATRIX)
        return;
    for (size_t g = 0; g < groups->count; g += step) {
        float largest = 0.0f, offset = 0.0f;
        struct place place = qz_group_place(view, run, groups->count, g);
        step = qz_least(view->super_groups, place.left);
        for (size_t i = g; i < g + step; i++)
            largest = qz_larger(largest, fabsf(groups->scale[i]));
        float super[2] = {rounded_super(view, largest / view->scale_type->top), 0.0f};
        for (size_t i = g; i < g + step && view->scale_type->pairs; i++) {
            /* Without a scale all values are the offset, which then is the one nearest to 0: no value is farther from
             * it than from 0. */
            if (super[0] == 0.0f || !(groups->scale[i] / super[0] > 0.5f))
                groups->zero[i] = groups->max[i] < 0.0f ? groups->max[i] : 0.0f;
            offset = qz_larger(offset, -groups->zero[i]);
        }
        super[1] = rounded_super(view, offset / view->scale_type->most);
        qz_store_super(view, place.row, place.group, super);
    }
}

unsigned qz_round_scales(const struct qz_view *view, const struct run *run, struct groups *groups)
{
    const int pairs = view->scale_type->pairs;
    size_t step;
    for (size_t g = 0; g < groups->count; g += step) {
        float super[2], *scale = groups->scale + g, *zero = groups->zero + g;
        uint8_t *bytes = groups->bytes + g, *offsets = bytes + QZ_TILE_GROUPS;
        struct place place = qz_group_place(view, run, groups->count, g);
        step = qz_sharing(view, place.group, place.left);
        qz_load_super(view, place.row, place.group, super);
        qz_bytes_of_scales(view->scale_dtype, scale, zero, step, super[0], bytes);
        qz_byte_scales(view, bytes, step, super, step, scale, zero);
        if (pairs) {
            qz_bytes_of_offsets(view->scale_dtype, zero, step, super[1], offsets);
            for (size_t i = 0; i < step; i++)
                zero[i] = -(super[1] * (float)offsets[i]);
        }
    }
    for (size_t g = 0; g < groups->count; g++)
        groups->scale[g] += 0.0f; /* never -0 */
    return view->kernels->flag_scales(0, pairs ? QZ_ZERO_OFFSET : QZ_ZERO_NONE, groups->count, groups->min, groups->max,
                                      groups->scale, groups->zero, groups->inverse);
}

/* A super scale whose multiples the scales of NVFP4's rule are, so that a search can find them. The rule has 1 / D; half
 * the scales leave room for a search. Where D became 1 because it was infinite, a power of two keeps the scales of the
 * rule, which then are numbers of E4M3 themselves. */
static float nvfp4_super(float largest, float usual, qz_dtype weights)
{
    const float divisor = qz_reference_divisor(largest, weights), power = qz_power(usual);
    return divisor != 1.0f ? 2.0f / divisor : power < usual ? power + power : usual;
}

float qz_whole_super(const struct qz_encoder *encoder, float largest)
{
    const float usual =
        rounded_super(encoder->view, largest / fabsf(encoder->fit.end) / encoder->view->scale_type->top);
    if (encoder->rule == QZ_RULE_COMPRESSED_TENSORS_NVFP4 && qz_is_ordinary_scale(usual))
        return nvfp4_super(largest, usual, encoder->how.weights);
    return usual;
}
