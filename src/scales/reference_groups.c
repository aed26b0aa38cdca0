/*
 * reference_groups.c - groups encoded by the rules of other tools
 *
 * The rules are in reference.c and know nothing of matrices; here their numbers become those of a run of groups.
 */
#include "reference_groups.h"
#include "../base/number.h"

#include <float.h>
#include <math.h>

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

/* Group g of a run takes the numbers of group i of a fitted block. A block with one that does not fit is infinite. */
static void store_reference_group(const struct qz_view *view, const struct run *run, struct groups *groups, size_t g,
                                  const struct qz_reference *fit, size_t i, int fits)
{
    float scale = fit->scale[i], super[2];
    size_t row_groups = groups->count / run->rows;
    groups->scale[g] = scale;
    groups->zero[g] = fit->zero[i];
    if (qz_has_byte_scales(view)) {
        qz_load_super(view, run->row + g / row_groups, run->col / view->group_size + g % row_groups, super);
        uint8_t byte = view->scale_dtype == QZ_E8M0   ? (uint8_t)(qz_bits(scale) >> 23)
                       : view->scale_dtype == QZ_E4M3 ? qz_e4m3_from_f32(scale)
                                                      : (uint8_t)(int)scale;
        groups->bytes[g] = byte;
        qz_byte_scales(view, &byte, 1, super, 1, &groups->scale[g], &groups->zero[g]);
        if (view->scale_dtype == QZ_U6) {
            groups->bytes[QZ_TILE_GROUPS + g] = (uint8_t)(int)fit->zero[i];
            groups->zero[g] = -(super[1] * fit->zero[i]);
        }
    }
    if (!fits)
        groups->scale[g] = INFINITY;
    float magnitude = fabsf(groups->scale[g]);
    groups->inverse[g] = magnitude >= FLT_MIN && magnitude <= 0x1p120f ? 1.0f / groups->scale[g] : 0.0f;
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

void qz_reference_groups(const struct qz_encoder *encoder, const struct run *run, const float *x, struct groups *groups,
                         uint8_t *codes)
{
    const struct qz_view *view = encoder->view;
    uint8_t single[QZ_TILE];
    size_t row_groups = groups->count / run->rows, n = run->rows * run->pitch;
    size_t block = qz_rule_info(encoder->reference)->block, group_size = (size_t)view->group_size;
    size_t together = block > group_size ? block / group_size : 1;
    for (size_t g = 0; g < groups->count; g += together) {
        size_t start = g * group_size, length = qz_least(together * group_size, n - start);
        struct qz_reference_how how = how_of(encoder, length);
        struct qz_reference fit;
        int fits = qz_reference_block(encoder->reference, &how, x + start, length, &fit, single + start);
        if (together > 1)
            qz_store_super(view, run->row + g / row_groups, run->col / group_size + g % row_groups, fit.super);
        for (size_t i = 0; i < together; i++)
            store_reference_group(view, run, groups, g + i, &fit, i, fits);
    }
    pack(single, n, codes);
}

void qz_reference_long_group(const struct qz_encoder *encoder, const struct run *run, struct groups *groups,
                             struct qz_reference *fit)
{
    float min = groups->min[0] + 0.0f, max = groups->max[0] + 0.0f; /* which zero was first is not known here */
    struct qz_reference_range range = {min, max, max > -min ? max : min};
    struct qz_reference_how how = how_of(encoder, run->cols);
    int fits = qz_reference_fit(encoder->reference, &how, &range, fit);
    store_reference_group(encoder->view, run, groups, 0, fit, 0, fits);
}

void qz_reference_group_codes(const struct qz_encoder *encoder, const struct qz_reference *fit, const float *x,
                              size_t n, uint8_t *codes)
{
    uint8_t single[QZ_TILE];
    qz_reference_codes(encoder->reference, fit, x, n, single);
    pack(single, n, codes);
}
