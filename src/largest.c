/*
 * largest.c - finds the largest magnitudes of rows and matrices, and computes super scales from them
 *
 * Super scales of whole rows, or of the matrix, must be known before the first group is encoded.
 */
#include "largest.h"
#include "base/fpenv.h"
#include "scales/reference_groups.h"
#include "base/number.h"
#include "scales/scales.h"
#include "packed/scheme.h"
#include "scales/super.h"
#include "work.h"

#include <math.h>

struct measure {
    const struct qz_kernels *kernels;
    const struct qz_encoder *encoder; /* whose super scales are made of what is found; or NULL */
    const qz_matrix *matrix;
    size_t slices;
    float *rows;                  /* where the numbers of rows go, or NULL */
    float largest[QZ_SLICES_MAX]; /* of the matrix */
};

/* Largest finite magnitude. What is not finite is found again, and judged, by the encoding. */
static float largest_of(const struct qz_kernels *kernels, const float *x, size_t n)
{
    float range[2], largest = 0.0f;
    if (!kernels->range_f32(x, n, range))
        return qz_larger(-range[0], range[1]) + 0.0f;
    for (size_t i = 0; i < n; i++)
        if (qz_is_finite(x[i]) && fabsf(x[i]) > largest)
            largest = fabsf(x[i]);
    return largest;
}

/* Makes the super scale of a row, or of the matrix, whose values reach up to `largest`. matrix: its values; or NULL, if
 * they are not to be looked at. */
static void make_whole_super(const struct qz_encoder *encoder, const qz_matrix *matrix, uint64_t row, float largest)
{
    float found = 0.0f;
    if (matrix && largest > 0.0f && qz_is_searching(encoder))
        found = qz_decoded_super(encoder, matrix, row, encoder->view->shared_super ? matrix->rows : 1, largest);
    float super[2] = {encoder->reference ? largest : found > 0.0f ? found : qz_whole_super(encoder, largest), 0.0f};
    qz_store_super(encoder->view, row, 0, super);
}

enum { TOGETHER = 16 }; /* rows of a transposed matrix that are measured side by side */

static void measure_rows(struct measure *measure, size_t slice, uint64_t row, size_t rows)
{
    const qz_matrix *matrix = measure->matrix;
    float buffer[QZ_TILE], largest[TOGETHER] = {0};
    uint64_t width = QZ_TILE / rows;
    for (uint64_t col = 0; col < matrix->cols; col += width) {
        struct qz_tile tile = {row, col, rows, qz_least(width, matrix->cols - col)};
        ptrdiff_t stride;
        int overflow;
        const float *x = qz_tile_load(measure->kernels, matrix, &tile, buffer, &stride, &overflow);
        for (size_t r = 0; r < rows; r++)
            largest[r] = qz_larger(largest[r], largest_of(measure->kernels, x + (ptrdiff_t)r * stride, tile.cols));
    }
    for (size_t r = 0; r < rows; r++) {
        measure->largest[slice] = qz_larger(measure->largest[slice], largest[r]);
        if (measure->rows)
            measure->rows[row + r] = qz_larger(measure->rows[row + r], largest[r]);
        if (measure->encoder && !measure->encoder->view->shared_super)
            make_whole_super(measure->encoder, matrix, row + r, largest[r]);
    }
}

static void measure_slice(void *context, size_t slice)
{
    struct measure *measure = context;
    size_t together = qz_matrix_is_transposed(measure->matrix) ? TOGETHER : 1;
    uint64_t rows = measure->matrix->rows, end = qz_slice_start(rows, measure->slices, slice + 1);
    measure->largest[slice] = 0.0f;
    for (uint64_t row = qz_slice_start(rows, measure->slices, slice); row < end; row += together)
        measure_rows(measure, slice, row, qz_least(together, end - row));
}

/* Looks at all rows; returns the largest magnitude of the matrix. */
static float measure_all(struct measure *measure, qz_pool *pool)
{
    float largest = 0.0f;
    measure->slices = qz_least(qz_slices_worth(measure->matrix->rows, measure->matrix->cols), measure->matrix->rows);
    qz_pool_run(pool, measure->slices, measure_slice, measure);
    for (size_t i = 0; i < measure->slices; i++)
        largest = qz_larger(largest, measure->largest[i]);
    return largest;
}

void qz_measure_supers(struct qz_encoder *encoder, const qz_matrix *matrix, const float *known, qz_pool *pool)
{
    const struct qz_view *view = encoder->view;
    if (view->super_groups < QZ_WHOLE_MATRIX || matrix->rows == 0 || matrix->cols == 0)
        return;
    struct measure measure = {.kernels = view->kernels, .encoder = encoder, .matrix = matrix};
    float largest = known ? known[0] : measure_all(&measure, pool);
    if (view->shared_super && encoder->reference)
        largest = qz_reference_super(encoder, largest);
    if (view->shared_super)
        make_whole_super(encoder, known ? NULL : matrix, 0, largest);
    for (uint64_t row = 0; known && !view->shared_super && row < matrix->rows; row++)
        make_whole_super(encoder, NULL, row, known[row]);
}

static QZ_NOINLINE qz_result find_largest(const qz_scheme *scheme, const qz_matrix *src, float *largest, qz_pool *pool)
{
    if (qz_scheme_check(scheme, QZ_DEFAULT) != QZ_OK || scheme->super_size < QZ_WHOLE_MATRIX ||
        !qz_is_array_dtype(src->dtype))
        return QZ_ERROR_ARGUMENT;
    if (!qz_matrix_check(src))
        return QZ_ERROR_SIZE;
    const struct qz_kernels *kernels = qz_kernels_active();
    if (!kernels)
        return QZ_ERROR_KERNELS;
    if (src->rows == 0 || src->cols == 0)
        return QZ_OK;
    int shared = scheme->super_size == QZ_WHOLE_MATRIX;
    struct measure measure = {.kernels = kernels, .matrix = src, .rows = shared ? NULL : largest};
    float found = measure_all(&measure, pool);
    if (shared)
        largest[0] = qz_larger(largest[0], found);
    return QZ_OK;
}

qz_result qz_largest(const qz_scheme *scheme, const qz_matrix *src, float *largest, qz_pool *pool)
{
    qz_fp_state state = qz_fp_enter();
    qz_result result = find_largest(scheme, src, largest, pool);
    qz_fp_leave(state);
    return result;
}
