/*
 * whole_super.c - chooses the super scale of a whole matrix among those that a rule of another tool suggests
 *
 * Scales are floats of few bits times the super scale. The rule of NVFP4 computes its super scale in the type of the
 * weights. So its scales lie between ours, and where all groups are alike, of values of one magnitude for example, they
 * may all be better by chance. With the super scale of the rule a search finds them, too. Where groups differ, gains and
 * losses are equal on the mean, and the usual super scale stays.
 */
#include "whole_super.h"
#include "../base/number.h"
#include "../matrix/tile.h"
#include "fit_groups.h"

#include <math.h>

enum {
    SAMPLES = 64, /* groups that are tried, if there are no more */
    TOGETHER = 16 /* of one row: so many are searched at once */
};

/* What others must lower the error to: by more than the last bits of scales change it. */
#define LESS (1.0 - 0x1p-21)

/* The error of n values that count the same, in groups that have their scales. */
static double error_of(const struct qz_view *view, const struct groups *groups, const float *x, size_t n)
{
    uint8_t codes[QZ_TILE / 2];
    struct qz_sums sums;
    double sum = 0;
    view->kernels->group_codes_error(x, n, (size_t)view->group_size, &view->grid, groups->scale, groups->inverse,
                                     groups->zero, codes, &sums);
    for (int l = 0; l < QZ_SUMS_LANES; l++)
        sum += (double)sums.error[l];
    return sum;
}

/* The same of values with weights. */
static double weighted_error(const struct qz_view *view, const struct groups *groups, const float *x, const float *w,
                             size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const float scale = groups->scale[i / view->group_size], y = scale != 0.0f ? x[i] / scale : 0.0f;
        int c = 0;
        while (c < 15 && y >= view->grid.upper[c])
            c++;
        const double off = (double)x[i] - (double)(scale * view->grid.sorted[c]);
        sum += (double)w[i] * off * off;
    }
    return sum;
}

/* Whether the rule rounds what it computes to a type of few bits. */
static int has_narrow_values(const struct qz_encoder *encoder)
{
    return encoder->how.weights == QZ_F16 || encoder->how.weights == QZ_BF16;
}

/* The values, or weights, of a part of a row; NULL where they may not be used. */
static const float *load(const struct qz_view *view, const qz_matrix *matrix, const struct qz_tile *tile, float *buffer,
                         float least)
{
    ptrdiff_t stride;
    int overflow;
    float range[2];
    const float *x = qz_tile_load(view->kernels, matrix, tile, buffer, &stride, &overflow);
    return overflow || view->kernels->range_f32(x, tile->cols, range) || range[0] < least ? NULL : x;
}

/* The error of groups next to each other by a search; negative if they cannot be searched. */
static double error_of_some(const struct qz_encoder *encoder, const qz_matrix *matrix, const struct qz_tile *tile)
{
    const struct qz_view *view = encoder->view;
    const size_t size = (size_t)view->group_size;
    const struct run run = {tile->row, tile->col, 1, tile->cols, tile->cols};
    float values[QZ_TILE], weights[QZ_TILE];
    struct groups groups;
    const float *x = load(view, matrix, tile, values, -INFINITY), *w = NULL;
    if (encoder->weights)
        w = load(view, encoder->weights, tile, weights, 0.0f);
    if (!x || (encoder->weights && !w))
        return -1.0;
    groups.count = (size_t)qz_divide_up(tile->cols, size);
    groups.far = groups.careful = groups.has_sums = 0;
    view->kernels->group_range(x, tile->cols, size, groups.min, groups.max);
    if (qz_fit_groups(encoder, &run, &groups, x, w) & QZ_FIT_TIE) {
        qz_break_ties(x, tile->cols, size, groups.min, groups.max);
        (void)qz_fit_groups(encoder, &run, &groups, x, w);
    }
    return w ? weighted_error(view, &groups, x, w, tile->cols) : error_of(view, &groups, x, tile->cols);
}

/* The same for those that are tried: all, or some next to each other in each of a few rows, at columns that move on. */
static double error_with(const struct qz_encoder *encoder, const qz_matrix *matrix, float super, int all)
{
    const struct qz_view *view = encoder->view;
    const uint64_t row_groups = qz_divide_up(matrix->cols, view->group_size), each = qz_least(TOGETHER, row_groups);
    const uint64_t rows =
        all ? matrix->rows : qz_least(matrix->rows, (has_narrow_values(encoder) ? SAMPLES : TOGETHER) / each);
    const uint64_t pieces = all ? qz_divide_up(row_groups, each) : 1;
    const float stored[2] = {super, 0.0f};
    double sum = 0;
    qz_store_super(view, 0, 0, stored);
    for (uint64_t i = 0; i < rows * pieces; i++) {
        const uint64_t first = all ? i % pieces * each : (row_groups - each) * i / rows, col = first * view->group_size;
        const struct qz_tile tile = {all ? i / pieces : matrix->rows / rows * i, col, 1,
                                     qz_least(each * view->group_size, matrix->cols - col)};
        const double error = error_of_some(encoder, matrix, &tile);
        if (error < 0)
            return -1.0;
        sum += error;
    }
    return sum;
}

float qz_better_super(const struct qz_encoder *encoder, const qz_matrix *matrix, float largest, float usual)
{
    const struct qz_view *view = encoder->view;
    if (encoder->rule != QZ_RULE_COMPRESSED_TENSORS_NVFP4 || view->super_dtype != QZ_F32 ||
        view->group_size > QZ_TILE / TOGETHER)
        return usual;
    const int all = qz_divide_up(matrix->cols, view->group_size) <= SAMPLES / matrix->rows;
    const float rule = 1.0f / qz_reference_divisor(largest, encoder->how.weights);
    const float others[] = {rule + rule, rule}; /* the first one leaves room above the plain scales */
    float best = usual;
    double least = error_with(encoder, matrix, usual, all);
    for (size_t i = 0; i < sizeof others / sizeof *others && least > 0; i++) {
        if (others[i] == usual || !qz_is_ordinary_scale(others[i]))
            continue;
        const double error = error_with(encoder, matrix, others[i], all);
        if (error >= 0 && error < least * LESS) {
            least = error;
            best = others[i];
        }
    }
    return best;
}
