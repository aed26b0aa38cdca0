/*
 * compare.c - the difference between a matrix and a packed one, or another matrix
 */
#include "fpenv.h"
#include "group.h"

static void compare_step(struct job *job, struct part *part, const struct qz_tile *tile)
{
    float buffer[QZ_PANEL], other_buffer[QZ_PANEL];
    ptrdiff_t stride, other_stride = (ptrdiff_t)tile->cols;
    int overflow, other_overflow = 0;
    const float *x = qz_tile_load(job->kernels, job->matrix, tile, buffer, &stride, &overflow);
    const float *y = other_buffer;
    if (job->other)
        y = qz_tile_load(job->kernels, job->other, tile, other_buffer, &other_stride, &other_overflow);
    else
        qz_decode_tile(job, tile, other_buffer, other_stride);
    for (size_t r = 0; r < tile->rows; r++) {
        const float *a = x + (ptrdiff_t)r * stride, *b = y + (ptrdiff_t)r * other_stride;
        float range[2], other_range[2];
        if (job->kernels->range_f32(a, tile->cols, range) || job->kernels->range_f32(b, tile->cols, other_range)) {
            part->nonfinite = 1;
            return;
        }
        float largest = qz_larger(qz_larger(-range[0], range[1]), qz_larger(-other_range[0], other_range[1]));
        struct run single = {tile->row + r, tile->col, 1, tile->cols, tile->cols};
        qz_add_error(job, part, a, b, &single, largest);
    }
}

static void compare_tile(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols)
{
    qz_each_piece(job, part, row, rows, col, cols, compare_step);
}

static QZ_NOINLINE qz_result compare(const qz_scheme *scheme, const qz_packed *packed, const qz_matrix *a,
                                     qz_pool *pool, qz_stats *stats, qz_detail *detail)
{
    struct job job;
    qz_group_begin(&job);
    struct part total;
    qz_matrix merged;
    qz_detail found = QZ_DETAIL_INIT;
    qz_result result = qz_group_prepare(&job, scheme, QZ_DEFAULT, a, &merged, packed);
    if (result != QZ_OK)
        return result;
    job.work = compare_tile;
    qz_group_run(&job, pool, &total);
    if (total.nonfinite) {
        result = qz_locate_unusable(a, 0, &found);
        if (found.count == 0) { /* then it is the packed side */
            result = qz_validate(scheme, packed, a->rows, a->cols, &found);
            result = result == QZ_OK ? QZ_ERROR_RANGE : result;
        }
        if (detail)
            *detail = found;
        return result;
    }
    qz_group_stats(stats, &job, &total);
    return QZ_OK;
}

qz_result qz_compare(const qz_scheme *scheme, const qz_packed *packed, const qz_matrix *a, qz_pool *pool,
                     qz_stats *stats, qz_detail *detail)
{
    qz_fp_state state = qz_fp_enter();
    qz_result result = compare(scheme, packed, a, pool, stats, detail);
    qz_fp_leave(state);
    return result;
}

static QZ_NOINLINE qz_result compare_matrices(const qz_matrix *a, const qz_matrix *b, qz_pool *pool, qz_stats *stats,
                                              qz_detail *detail)
{
    if (a->rows != b->rows || a->cols != b->cols || !qz_is_array_dtype(a->dtype) || !qz_is_array_dtype(b->dtype))
        return QZ_ERROR_ARGUMENT;
    if (!qz_matrix_check(a) || !qz_matrix_check(b))
        return QZ_ERROR_SIZE;
    struct job job;
    qz_group_begin(&job);
    struct part total;
    qz_detail found = QZ_DETAIL_INIT;
    job.kernels = qz_kernels_active();
    if (!job.kernels)
        return QZ_ERROR_KERNELS;
    job.matrix = a;
    job.other = b;
    job.super_groups = 0;
    qz_group_geometry(&job, a->rows, a->cols, qz_least(QZ_LONG_GROUP, a->cols), qz_matrix_is_transposed(a));
    job.work = compare_tile;
    qz_group_run(&job, pool, &total);
    if (total.nonfinite) {
        qz_result result = qz_locate_unusable(a, 0, &found);
        if (found.count == 0)
            result = qz_locate_unusable(b, 0, &found);
        if (detail)
            *detail = found;
        return result;
    }
    qz_group_stats(stats, &job, &total);
    return QZ_OK;
}

qz_result qz_compare_matrices(const qz_matrix *a, const qz_matrix *b, qz_pool *pool, qz_stats *stats, qz_detail *detail)
{
    qz_fp_state state = qz_fp_enter();
    qz_result result = compare_matrices(a, b, pool, stats, detail);
    qz_fp_leave(state);
    return result;
}
