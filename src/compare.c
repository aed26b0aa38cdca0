/*
 * compare.c - measures the difference between a matrix and a packed one, or another matrix
 */
#include "base/fpenv.h"
#include "base/number.h"
#include "operation.h"

#include <float.h>
#include <math.h>

struct comparison {
    struct qz_operation operation;
    const qz_matrix *other; /* qz_compare_matrices: the second one, in place of a packed one; or NULL */
};

static double double_at(const qz_matrix *matrix, uint64_t row, uint64_t col)
{
    double x;
    memcpy(&x, qz_matrix_at(matrix, row, col), sizeof x);
    return x;
}

/* Values that are float64 are compared as such: rounded first, what differs by less than a float32 shows would be the
 * same, and what is beyond float32 could not be compared. Squares of differences below 2^-537 are lost, but not the
 * largest difference; see finish(). */
static void compare_doubles(const struct comparison *compare, struct findings *found, const struct qz_tile *tile)
{
    float buffer[QZ_PANEL], other_buffer[QZ_PANEL];
    ptrdiff_t stride = 0, other_stride = (ptrdiff_t)tile->cols;
    int overflow;
    int wide = compare->operation.matrix->dtype == QZ_F64,
        other_wide = compare->other && compare->other->dtype == QZ_F64;
    const float *x = buffer, *y = other_buffer;
    if (!wide)
        x = qz_tile_load(compare->operation.view.kernels, compare->operation.matrix, tile, buffer, &stride, &overflow);
    if (!compare->other)
        qz_decode_tile(&compare->operation, tile, other_buffer, other_stride);
    else if (!other_wide)
        y = qz_tile_load(compare->operation.view.kernels, compare->other, tile, other_buffer, &other_stride, &overflow);
    double signal[4] = {0}, error[4] = {0}, most = 0;
    uint64_t where = 0;
    for (size_t r = 0; r < tile->rows; r++) {
        uint64_t row = tile->row + r;
        for (size_t c = 0; c < tile->cols; c++) {
            double a = wide ? double_at(compare->operation.matrix, row, tile->col + c)
                            : (double)x[(ptrdiff_t)r * stride + (ptrdiff_t)c];
            double b = other_wide ? double_at(compare->other, row, tile->col + c)
                                  : (double)y[(ptrdiff_t)r * other_stride + (ptrdiff_t)c];
            if (!qz_is_finite_f64(a) || !qz_is_finite_f64(b)) {
                found->nonfinite = 1;
                return;
            }
            double difference = fabs(a - b); /* infinite where they are far apart near the end of float64 */
            signal[c % 4] += a * a;
            error[c % 4] += difference * difference;
            if (difference > most) {
                most = difference;
                where = row * compare->operation.view.cols + tile->col + c;
            }
        }
    }
    found->errors.signal += (signal[0] + signal[1]) + (signal[2] + signal[3]);
    found->errors.error += (error[0] + error[1]) + (error[2] + error[3]);
    if (most > 0)
        qz_note_error(&found->errors, most, where);
}

static int is_double(const struct comparison *compare)
{
    return compare->operation.matrix->dtype == QZ_F64 || (compare->other && compare->other->dtype == QZ_F64);
}

/* Sums that do not fit are the largest that do, so that no statistic is infinite or NaN; and where there is a
 * difference, the sum of squares says so, however small it is. */
static void finish(struct errors *total)
{
    total->signal = fmin(total->signal, DBL_MAX);
    total->error = fmin(total->error, DBL_MAX);
    total->max_error = fmin(total->max_error, DBL_MAX);
    if (total->max_error > 0 && !(total->error > 0))
        total->error = DBL_MIN;
}

static void compare_step(void *context, struct findings *found, const struct qz_tile *tile)
{
    const struct comparison *compare = context;
    if (is_double(compare)) {
        compare_doubles(compare, found, tile);
        return;
    }
    float buffer[QZ_PANEL], other_buffer[QZ_PANEL];
    ptrdiff_t stride, other_stride = (ptrdiff_t)tile->cols;
    int overflow, other_overflow = 0;
    const float *x =
        qz_tile_load(compare->operation.view.kernels, compare->operation.matrix, tile, buffer, &stride, &overflow);
    const float *y = other_buffer;
    if (compare->other)
        y = qz_tile_load(compare->operation.view.kernels, compare->other, tile, other_buffer, &other_stride,
                         &other_overflow);
    else
        qz_decode_tile(&compare->operation, tile, other_buffer, other_stride);
    for (size_t r = 0; r < tile->rows; r++) {
        const float *a = x + (ptrdiff_t)r * stride, *b = y + (ptrdiff_t)r * other_stride;
        float range[2], other_range[2];
        if (compare->operation.view.kernels->range_f32(a, tile->cols, range) ||
            compare->operation.view.kernels->range_f32(b, tile->cols, other_range)) {
            found->nonfinite = 1;
            return;
        }
        float largest = qz_larger(qz_larger(-range[0], range[1]), qz_larger(-other_range[0], other_range[1]));
        struct run single = {tile->row + r, tile->col, 1, tile->cols, tile->cols};
        qz_add_error(&compare->operation.view, &found->errors, a, b, &single, largest);
    }
}

static void compare_area(void *context, struct findings *found, const struct qz_area *area)
{
    const struct comparison *compare = context;
    qz_for_each_piece(&compare->operation, context, found, area, compare_step);
}

/* What is left to do once the operation is prepared. If a value of `a` is not finite, that is found. */
static qz_result compare_all(struct comparison *compare, const qz_matrix *a, qz_pool *pool, qz_stats *stats,
                             qz_detail *found)
{
    struct findings total;
    qz_operation_cut(&compare->operation, 0);
    qz_operation_run(&compare->operation, compare_area, compare, pool, &total);
    if (total.nonfinite) {
        qz_locate_wrong(a, qz_is_finite_f64, found);
        return QZ_ERROR_NONFINITE;
    }
    finish(&total.errors);
    qz_hand_stats(stats, &compare->operation.view, &total);
    return QZ_OK;
}

static QZ_NOINLINE qz_result compare_packed(const qz_scheme *scheme, const qz_packed *packed, const qz_matrix *a,
                                            qz_pool *pool, qz_stats *stats, qz_detail *detail)
{
    struct comparison compare;
    compare.other = NULL;
    qz_detail found = QZ_DETAIL_INIT;
    const struct qz_preparation plain = {0};
    qz_result result = qz_operation_prepare(&compare.operation, &plain, scheme, QZ_DEFAULT, a, packed);
    if (result != QZ_OK)
        return result;
    result = compare_all(&compare, a, pool, stats, &found);
    if (result != QZ_OK && found.count == 0) { /* then it is the packed side */
        result = qz_validate(scheme, packed, a->rows, a->cols, &found);
        result = result == QZ_OK ? QZ_ERROR_RANGE : result;
    }
    if (result != QZ_OK && detail)
        *detail = found;
    return result;
}

qz_result qz_compare(const qz_scheme *scheme, const qz_packed *packed, const qz_matrix *a, qz_pool *pool,
                     qz_stats *stats, qz_detail *detail)
{
    qz_fp_state state = qz_fp_enter();
    qz_result result = compare_packed(scheme, packed, a, pool, stats, detail);
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
    const struct qz_kernels *kernels = qz_kernels_active();
    if (!kernels)
        return QZ_ERROR_KERNELS;
    struct comparison compare;
    compare.other = b;
    qz_detail found = QZ_DETAIL_INIT;
    qz_operation_of_floats(&compare.operation, kernels, a);
    qz_result result = compare_all(&compare, a, pool, stats, &found);
    if (result != QZ_OK && found.count == 0)
        qz_locate_wrong(b, qz_is_finite_f64, &found);
    if (result != QZ_OK && detail)
        *detail = found;
    return result;
}

qz_result qz_compare_matrices(const qz_matrix *a, const qz_matrix *b, qz_pool *pool, qz_stats *stats, qz_detail *detail)
{
    qz_fp_state state = qz_fp_enter();
    qz_result result = compare_matrices(a, b, pool, stats, detail);
    qz_fp_leave(state);
    return result;
}
