/*
 * operation.c - checks and cuts a matrix of floats and a packed one, for encoding, decoding and comparing
 */
#include "operation.h"
#include "base/number.h"
#include "packed/scheme.h"

#include <math.h>

/* Whether a number, if it is one, does not become infinite as float32. */
static int fits_f32(double x)
{
    return fabs(x) < 0x1.ffffffp127 || !qz_is_finite_f64(x);
}

qz_result qz_locate_unusable(const qz_matrix *matrix, int nonfinite_welcome, qz_detail *detail)
{
    qz_detail nonfinite = {0};
    qz_locate_wrong(matrix, qz_is_finite_f64, &nonfinite);
    int range = nonfinite.count == 0 || nonfinite_welcome;
    qz_locate_wrong(matrix, range ? fits_f32 : qz_is_finite_f64, detail);
    return range ? QZ_ERROR_RANGE : QZ_ERROR_NONFINITE;
}

/* Rows that follow one another without gaps or padding, in the floats and in the packed matrix, are one long row. Super
 * scales of whole rows are then those of so many groups, which only encoding has to know together. */
static int rows_merge(const struct qz_preparation *how, const qz_scheme *scheme, const qz_matrix *matrix,
                      const qz_packed *packed, const qz_sizes *sizes)
{
    uint64_t super_size = scheme->super_size == QZ_WHOLE_ROW && !how->encodes ? matrix->cols : scheme->super_size;
    return !how->keeps_rows && matrix->rows > 1 && qz_matrix_is_contiguous(matrix) && matrix->cols % 2 == 0 &&
           scheme->group_size <= matrix->cols && matrix->cols % scheme->group_size == 0 &&
           packed->code_stride == (int64_t)sizes->code_bytes && packed->scale_stride == (int64_t)sizes->scale_bytes &&
           (scheme->zero == QZ_ZERO_NONE || packed->zero_stride == (int64_t)sizes->zero_bytes) &&
           (scheme->zero != QZ_ZERO_UINT4 || sizes->row_groups % 2 == 0) &&
           (super_size == 0 || super_size == QZ_WHOLE_MATRIX ||
            (super_size != QZ_WHOLE_ROW && matrix->cols % super_size == 0 &&
             packed->super_stride == (int64_t)sizes->super_bytes));
}

qz_result qz_operation_prepare(struct qz_operation *operation, const struct qz_preparation *how,
                               const qz_scheme *scheme, qz_method method, const qz_matrix *matrix,
                               const qz_packed *packed)
{
    struct qz_view *view = &operation->view;
    qz_matrix *merged = &operation->merged;
    qz_sizes sizes;
    if (qz_scheme_check(scheme, method) != QZ_OK || !qz_is_array_dtype(matrix->dtype))
        return QZ_ERROR_ARGUMENT;
    if (!qz_matrix_check(matrix))
        return QZ_ERROR_SIZE;
    qz_result result = qz_packed_sizes(scheme, packed, matrix->rows, matrix->cols, &sizes);
    if (result != QZ_OK)
        return result;
    const struct qz_kernels *kernels = qz_kernels_active();
    if (!kernels)
        return QZ_ERROR_KERNELS;
    *merged = *matrix;
    int merges = rows_merge(how, scheme, matrix, packed, &sizes);
    if (merges) {
        merged->cols *= merged->rows;
        merged->rows = 1;
    }
    operation->matrix = merged;
    /* The last part of a matrix may be shorter than a group that is longer than all of it: it stays such a group. */
    qz_view_make(view, kernels, scheme, packed, merged->rows, merged->cols,
                 how->whole ? how->whole->cols : merged->cols);
    if (merges && view->super_groups == QZ_WHOLE_ROW)
        view->super_groups = sizes.row_groups;
    operation->work.stop = NULL;
    operation->work.streams = NULL;
    operation->work.run_rows = 1; /* a single row can do without a cut */
    return QZ_OK;
}

void qz_operation_cut(struct qz_operation *operation, int makes_supers)
{
    const struct qz_view *view = &operation->view;
    int shares = makes_supers && view->super_groups && view->super_groups < QZ_WHOLE_MATRIX;
    qz_work_cut(&operation->work, view->rows, view->cols, view->group_size, shares ? view->super_groups : 1,
                qz_matrix_is_transposed(operation->matrix));
}

void qz_operation_of_floats(struct qz_operation *operation, const struct qz_kernels *kernels, const qz_matrix *matrix)
{
    uint64_t group_size = qz_least(QZ_LONG_GROUP, matrix->cols);
    operation->matrix = matrix;
    operation->view =
        (struct qz_view){.kernels = kernels, .rows = matrix->rows, .cols = matrix->cols, .group_size = group_size};
    operation->work.stop = NULL;
    operation->work.streams = NULL;
}

void qz_operation_run(struct qz_operation *operation, qz_work_step *step, void *context, qz_pool *pool,
                      struct findings *total)
{
    struct qz_work *work = &operation->work;
    work->step = step;
    work->operation = context;
    qz_work_run(work, pool);
    double most = 0.0;
    for (size_t i = 0; i < work->slices; i++)
        most = work->found[i].errors.max_error > most ? work->found[i].errors.max_error : most;
    for (size_t i = 0; i < work->slices; i++)
        if (work->found[i].errors.max_error == most)
            qz_look_up_error(&operation->view, &work->found[i].errors);
    qz_work_sum(work, total);
}

void qz_hand_stats(qz_stats *stats, const struct qz_view *view, const struct findings *total)
{
    if (!stats)
        return;
    *stats = (qz_stats){
        .size = sizeof *stats,
        .count = view->rows * view->cols,
        .signal = total->errors.signal,
        .error = total->errors.error,
        .max_error = total->errors.max_error,
        .max_index = total->errors.max_index,
        .clipped = total->clipped,
        .zeroed_groups = total->zeroed,
        .subnormal_scales = total->subnormal,
        .replaced = total->replaced,
        .weighted_signal = total->errors.weighted_signal,
        .weighted_error = total->errors.weighted_error,
    };
}

/* Decodes rows of a tile, run_rows at most, to rows of `stride`. */
static void decode_rows(const struct qz_view *view, const struct qz_tile *tile, float *dst, ptrdiff_t stride)
{
    struct run run = qz_run_of(view, tile);
    if (!qz_is_one_run(&run)) {
        for (size_t r = 0; r < run.rows; r++) {
            struct run single = qz_single_row(&run, r);
            qz_decode_run(view, &single, dst + (ptrdiff_t)r * stride);
        }
    } else if (run.rows == 1 || (run.pitch == run.cols && stride == (ptrdiff_t)run.pitch)) {
        qz_decode_run(view, &run, dst);
    } else {
        float values[QZ_TILE];
        qz_decode_run(view, &run, values);
        for (size_t r = 0; r < run.rows; r++)
            memcpy(dst + (ptrdiff_t)r * stride, values + r * run.pitch, run.cols * sizeof *dst);
    }
}

void qz_decode_tile(const struct qz_operation *operation, const struct qz_tile *tile, float *dst, ptrdiff_t stride)
{
    size_t run_rows = operation->work.run_rows;
    for (size_t r = 0; r < tile->rows; r += run_rows) {
        struct qz_tile some = {tile->row + r, tile->col, qz_least(run_rows, tile->rows - r), tile->cols};
        decode_rows(&operation->view, &some, dst + (ptrdiff_t)r * stride, stride);
    }
}

void qz_for_each_piece(const struct qz_operation *operation, void *context, struct findings *found,
                       const struct qz_area *area, qz_piece_step *step)
{
    uint64_t group_size = operation->view.group_size, pair = 2 * group_size;
    int long_groups = group_size > QZ_LONG_GROUP;
    uint64_t length = long_groups ? group_size : area->cols,
             most = long_groups || area->cols <= QZ_TILE ? QZ_TILE : QZ_TILE / pair * pair;
    for (uint64_t start = area->col; start < area->col + area->cols; start += length) {
        uint64_t end = start + qz_least(length, area->col + area->cols - start);
        for (uint64_t c = start; c < end; c += most) {
            struct qz_tile tile = {area->row, c, area->rows, qz_least(most, end - c)};
            step(context, found, &tile);
        }
    }
}
