/*
 * scales.c - scales of a byte, and the super scales that groups share
 *
 * fit finds scales as float32. Types of a byte are rounded to here, in plain C: there is one for each group only. Super
 * scales of a stretch of a row follow from the scales they serve; those of whole rows, or of the matrix, from the
 * largest magnitude alone (largest.c).
 */
#include "scales.h"
#include "../base/number.h"

#include <float.h>
#include <math.h>

/* What the plain scale of the group with the largest magnitude becomes, in multiples of the super scale: less than the
 * type can hold, since a search makes some scales larger. How much less was found by trying, on normal and Student t5
 * values. */
static float top_of(qz_dtype dtype)
{
    switch (dtype) {
    case QZ_E4M3:
        return 224.0f;
    case QZ_I6:
        return 31.0f / 1.1f;
    case QZ_I7:
        return 63.0f / 1.05f;
    default:
        return 63.0f;
    }
}

/* As it is stored. What becomes so much smaller that multiples would not reach, as only a subnormal float16 number can,
 * takes the next larger one: then there are fewer multiples, but none is 0 that need not be. */
static float rounded_super(const struct qz_view *view, float super)
{
    if (view->super_dtype == QZ_F32)
        return super + 0.0f;
    float rounded = qz_f32_from_f16(qz_f16_from_f32(super));
    return rounded + (super - rounded > rounded * 0x1p-6f ? 0x1p-24f : 0.0f);
}

/* Integers lo..hi times super: the bytes of those nearest to n scales. Adding 1.5 * 2^23 rounds to an integer, which is
 * then in the lowest bits. */
static void nearest_integers(const float *scale, size_t n, float super, float lo, float hi, uint8_t *bytes)
{
    for (size_t i = 0; i < n; i++) {
        float steps = super != 0.0f ? scale[i] / super : 0.0f;
        steps = steps > lo ? steps : lo;
        steps = steps < hi ? steps : hi;
        bytes[i] = (uint8_t)qz_bits(steps + 0x1.8p23f);
    }
}

/* The power of two below 1.5 * scale: for E2M1, two binades below the largest magnitude (OCP MX 1.0, 6.3). */
static uint8_t e8m0_from(float scale)
{
    float wanted = scale * 1.5f;
    return (uint8_t)(wanted < FLT_MIN ? 0 : qz_bits(wanted) >> 23);
}

/* The bytes of n scales that share a super scale. */
static void bytes_of(const struct qz_view *view, const float *scale, const float *zero, size_t n, float super,
                     uint8_t *bytes)
{
    switch (view->scale_dtype) {
    case QZ_E4M3:
        for (size_t i = 0; i < n; i++) {
            uint8_t byte = qz_e4m3_from_f32(super != 0.0f ? scale[i] / super : 0.0f);
            bytes[i] = byte == 0x80 ? 0 : byte; /* never -0 */
        }
        break;
    case QZ_E8M0:
        for (size_t i = 0; i < n; i++)
            bytes[i] = e8m0_from(scale[i]);
        break;
    case QZ_I7:
        nearest_integers(scale, n, super, -64.0f, 63.0f, bytes);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)(bytes[i] << 1 | (zero[i] != 0.0f));
        break;
    case QZ_I6:
        nearest_integers(scale, n, super, -32.0f, 31.0f, bytes);
        break;
    default:
        nearest_integers(scale, n, super, 0.0f, 63.0f, bytes);
    }
}

void qz_make_supers(const struct qz_view *view, const struct run *run, struct groups *groups)
{
    size_t row_groups = groups->count / run->rows, step;
    if (view->super_groups == 0 || view->super_groups >= QZ_WHOLE_MATRIX)
        return;
    for (size_t g = 0; g < groups->count; g += step) {
        float largest = 0.0f, offset = 0.0f;
        step = qz_least(view->super_groups, row_groups - g % row_groups);
        for (size_t i = g; i < g + step; i++)
            largest = qz_larger(largest, fabsf(groups->scale[i]));
        float super[2] = {rounded_super(view, largest / top_of(view->scale_dtype)), 0.0f};
        for (size_t i = g; i < g + step && view->scale_dtype == QZ_U6; i++) {
            /* Without a scale all values are the offset, which then is the one nearest to 0: no value is farther from
             * it than from 0. */
            if (super[0] == 0.0f || !(groups->scale[i] / super[0] > 0.5f))
                groups->zero[i] = groups->max[i] < 0.0f ? groups->max[i] : 0.0f;
            offset = qz_larger(offset, -groups->zero[i]);
        }
        super[1] = rounded_super(view, offset / 63.0f);
        qz_store_super(view, run->row + g / row_groups, run->col / view->group_size + g % row_groups, super);
    }
}

unsigned qz_round_scales(const struct qz_view *view, const struct run *run, struct groups *groups)
{
    size_t row_groups = groups->count / run->rows, step;
    uint64_t first = run->col / view->group_size;
    int huge = 0, tiny = 0;
    for (size_t g = 0; g < groups->count; g += step) {
        float super[2], *scale = groups->scale + g, *zero = groups->zero + g, *inverse = groups->inverse + g;
        uint8_t *bytes = groups->bytes + g, *offsets = bytes + QZ_TILE_GROUPS;
        step = qz_sharing(view, first + g % row_groups, row_groups - g % row_groups);
        qz_load_super(view, run->row + g / row_groups, first + g % row_groups, super);
        bytes_of(view, scale, zero, step, super[0], bytes);
        qz_byte_scales(view, bytes, step, super, step, scale, zero);
        if (view->scale_dtype == QZ_U6) {
            float offset[QZ_TILE_GROUPS];
            for (size_t i = 0; i < step; i++)
                offset[i] = -zero[i];
            nearest_integers(offset, step, super[1], 0.0f, 63.0f, offsets);
            for (size_t i = 0; i < step; i++)
                zero[i] = -(super[1] * (float)offsets[i]);
        }
        for (size_t i = 0; i < step; i++) {
            float magnitude = fabsf(scale[i]), offset = view->scale_dtype == QZ_U6 ? fabsf(zero[i]) : 0.0f;
            int fits = (magnitude <= 0x1p120f) & (offset <= 0x1p126f); /* not NaN, which 0 times infinity is */
            int normal = (magnitude >= FLT_MIN) & fits;
            float inverted = 1.0f / (normal ? scale[i] : 1.0f);
            scale[i] = scale[i] + 0.0f;
            inverse[i] = normal ? inverted : 0.0f;
            huge |= !fits;
            tiny |= (magnitude < FLT_MIN) & ((groups->min[g + i] != 0.0f) | (groups->max[g + i] != 0.0f));
        }
    }
    return (huge ? QZ_FIT_HUGE : 0u) | (tiny ? QZ_FIT_TINY : 0u);
}

float qz_whole_super(const struct qz_encoder *encoder, float largest)
{
    return rounded_super(encoder->view, largest / fabsf(encoder->fit.end) / top_of(encoder->view->scale_dtype));
}
