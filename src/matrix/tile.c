/*
 * tile.c - moves tiles between float matrices of any type and stride and rows of float32
 */
#include "tile.h"
#include "../base/number.h"
#include "../kernels/stream.h"

#include <math.h>
#include <string.h>

/* |stride| * (count - 1) + so_far, or more than the largest offset if that is too much. */
static uint64_t extent(uint64_t so_far, int64_t stride, uint64_t count)
{
    uint64_t step = stride < 0 ? 0 - (uint64_t)stride : (uint64_t)stride;
    if (count < 2 || step == 0)
        return so_far;
    if (count - 1 > (uint64_t)INT64_MAX / step || step * (count - 1) > (uint64_t)INT64_MAX - so_far)
        return UINT64_MAX;
    return so_far + step * (count - 1);
}

int qz_matrix_check(const qz_matrix *matrix)
{
    size_t size = qz_dtype_size(matrix->dtype);
    if (size == 0)
        return 0;
    if (matrix->rows == 0 || matrix->cols == 0)
        return 1;
    uint64_t last = extent(0, matrix->row_stride, matrix->rows);
    if (last != UINT64_MAX)
        last = extent(last, matrix->col_stride, matrix->cols);
    return last <= (uint64_t)PTRDIFF_MAX / size - 1 && matrix->rows <= (uint64_t)INT64_MAX / matrix->cols;
}

int qz_matrix_is_transposed(const qz_matrix *matrix)
{
    return matrix->row_stride == 1 && matrix->col_stride != 1;
}

int qz_matrix_is_contiguous(const qz_matrix *matrix)
{
    return matrix->col_stride == 1 && (matrix->rows < 2 || matrix->row_stride == (int64_t)matrix->cols);
}

void *qz_matrix_at(const qz_matrix *matrix, uint64_t row, uint64_t col)
{
    int64_t offset = (int64_t)row * matrix->row_stride + (int64_t)col * matrix->col_stride;
    return (char *)matrix->data + offset * (int64_t)qz_dtype_size(matrix->dtype);
}

static double value_at(const void *at, qz_dtype dtype)
{
    switch (dtype) {
    case QZ_F64:
        return *(const double *)at;
    case QZ_F16:
        return (double)qz_f32_from_f16(*(const uint16_t *)at);
    case QZ_BF16:
        return (double)qz_f32_from_bf16(*(const uint16_t *)at);
    default:
        return (double)*(const float *)at;
    }
}

double qz_matrix_value(const qz_matrix *matrix, uint64_t row, uint64_t col)
{
    return value_at(qz_matrix_at(matrix, row, col), matrix->dtype);
}

void qz_locate_wrong(const qz_matrix *matrix, int (*is_right)(double), qz_detail *detail)
{
    if (detail)
        detail->count = 0;
    for (uint64_t r = 0; r < matrix->rows; r++)
        for (uint64_t c = 0; c < matrix->cols; c++) {
            double x = qz_matrix_value(matrix, r, c);
            if (!is_right(x))
                qz_note_wrong(detail, r * matrix->cols + c, x);
        }
}

/* Values are converted so many at a time, while others are fetched. */
enum { PIECE = 1024 };

/* n neighbours as float32; nonzero if a float64 became NaN or infinite. */
static int load_run(const struct qz_kernels *kernels, const void *src, qz_dtype dtype, size_t n, float *dst)
{
    size_t size = qz_dtype_size(dtype), count;
    const char *from = src;
    int bad = 0;
    if (dtype == QZ_F32) {
        memcpy(dst, src, n * sizeof *dst);
        return 0;
    }
    for (size_t i = 0; i < n; i += count, from += count * size) {
        count = n - i < PIECE ? n - i : PIECE;
        if (count == PIECE)
            qz_fetch(from + QZ_AHEAD, PIECE * size);
        if (dtype == QZ_F64)
            bad |= kernels->f32_from_f64((const double *)(const void *)from, count, dst + i);
        else if (dtype == QZ_F16)
            kernels->f32_from_f16((const uint16_t *)(const void *)from, count, dst + i);
        else
            kernels->f32_from_bf16((const uint16_t *)(const void *)from, count, dst + i);
    }
    return bad;
}

/* 1 if a finite value is so large that it rounds to infinity in a narrow type: `limit` and above do. */
static int any_beyond(const struct qz_kernels *kernels, const float *x, size_t n, float limit)
{
    float range[2];
    if (n == 0 || (!kernels->range_f32(x, n, range) && range[0] > -limit && range[1] < limit))
        return 0;
    for (size_t i = 0; i < n; i++)
        if (fabsf(x[i]) >= limit && qz_is_finite(x[i]))
            return 1;
    return 0;
}

/* n neighbours from float32; nonzero if a finite value became infinite. */
static int store_run(const struct qz_kernels *kernels, const float *src, size_t n, qz_dtype dtype, void *dst)
{
    switch (dtype) {
    case QZ_F64:
        for (size_t i = 0; i < n; i++)
            ((double *)dst)[i] = (double)src[i];
        return 0;
    case QZ_F16:
        kernels->f16_from_f32(src, n, dst);
        return any_beyond(kernels, src, n, QZ_F16_BEYOND);
    case QZ_BF16:
        kernels->bf16_from_f32(src, n, dst);
        return any_beyond(kernels, src, n, QZ_BF16_BEYOND);
    default:
        memcpy(dst, src, n * sizeof *src);
        return 0;
    }
}

/* Lines of tile->rows; nonzero if a float64 became NaN or infinite. */
static int load_lines(const struct qz_kernels *kernels, const qz_matrix *matrix, const struct qz_tile *tile,
                      float *lines)
{
    int overflow = 0;
    for (size_t c = 0; c < tile->cols; c++)
        overflow |= load_run(kernels, qz_matrix_at(matrix, tile->row, tile->col + c), matrix->dtype, tile->rows,
                             lines + c * tile->rows);
    return overflow;
}

const float *qz_tile_lines(const struct qz_kernels *kernels, const qz_matrix *matrix, const struct qz_tile *tile,
                           float *buffer, ptrdiff_t *stride)
{
    if (matrix->dtype == QZ_F32) {
        *stride = (ptrdiff_t)matrix->col_stride;
        return qz_matrix_at(matrix, tile->row, tile->col);
    }
    *stride = (ptrdiff_t)tile->rows;
    load_lines(kernels, matrix, tile, buffer);
    return buffer;
}

const float *qz_tile_load(const struct qz_kernels *kernels, const qz_matrix *matrix, const struct qz_tile *tile,
                          float *buffer, ptrdiff_t *stride, int *overflow)
{
    *overflow = 0;
    const void *first = qz_matrix_at(matrix, tile->row, tile->col);
    if (matrix->col_stride == 1 && matrix->dtype == QZ_F32) {
        *stride = (ptrdiff_t)matrix->row_stride;
        return first;
    }
    *stride = (ptrdiff_t)tile->cols;
    if (matrix->col_stride == 1) {
        for (size_t r = 0; r < tile->rows; r++)
            *overflow |= load_run(kernels, qz_matrix_at(matrix, tile->row + r, tile->col), matrix->dtype, tile->cols,
                                  buffer + r * tile->cols);
    } else if (qz_matrix_is_transposed(matrix)) {
        if (matrix->dtype == QZ_F32) {
            kernels->transpose(first, (ptrdiff_t)matrix->col_stride, tile->rows, tile->cols, buffer, *stride);
        } else {
            float lines[QZ_PANEL];
            *overflow = load_lines(kernels, matrix, tile, lines);
            kernels->transpose(lines, (ptrdiff_t)tile->rows, tile->rows, tile->cols, buffer, *stride);
        }
    } else {
        for (size_t r = 0; r < tile->rows; r++)
            for (size_t c = 0; c < tile->cols; c++)
                *overflow |= load_run(kernels, qz_matrix_at(matrix, tile->row + r, tile->col + c), matrix->dtype, 1,
                                      buffer + r * tile->cols + c);
    }
    return buffer;
}

float *qz_tile_direct(const qz_matrix *matrix, const struct qz_tile *tile)
{
    return matrix->dtype == QZ_F32 && matrix->col_stride == 1 ? qz_matrix_at(matrix, tile->row, tile->col) : NULL;
}

float *qz_tile_direct_lines(const qz_matrix *matrix, const struct qz_tile *tile)
{
    return matrix->dtype == QZ_F32 ? qz_matrix_at(matrix, tile->row, tile->col) : NULL;
}

int qz_tile_store_lines(const struct qz_kernels *kernels, const qz_matrix *matrix, const struct qz_tile *tile,
                        const float *lines, int stream)
{
    int overflow = 0;
    for (size_t c = 0; c < tile->cols; c++, lines += tile->rows) {
        void *to = qz_matrix_at(matrix, tile->row, tile->col + c);
        if (stream && matrix->dtype == QZ_F32)
            kernels->stream(to, lines, tile->rows * sizeof *lines);
        else
            overflow |= store_run(kernels, lines, tile->rows, matrix->dtype, to);
    }
    return overflow;
}

/* store_run past the cache. */
static int stream_run(const struct qz_kernels *kernels, const float *src, size_t n, qz_dtype dtype, void *dst)
{
    double staged[QZ_TILE]; /* room for the widest type */
    int overflow = 0;
    if (dtype != QZ_F32)
        overflow = store_run(kernels, src, n, dtype, staged);
    kernels->stream(dst, dtype == QZ_F32 ? (const void *)src : staged, n * qz_dtype_size(dtype));
    return overflow;
}

int qz_tile_store(const struct qz_kernels *kernels, const qz_matrix *matrix, const struct qz_tile *tile,
                  const float *values, int stream)
{
    int overflow = 0;
    if (qz_matrix_is_transposed(matrix)) {
        float lines[QZ_PANEL], *direct = stream ? NULL : qz_tile_direct_lines(matrix, tile);
        kernels->transpose(values, (ptrdiff_t)tile->cols, tile->cols, tile->rows, direct ? direct : lines,
                           direct ? (ptrdiff_t)matrix->col_stride : (ptrdiff_t)tile->rows);
        return direct ? 0 : qz_tile_store_lines(kernels, matrix, tile, lines, stream);
    }
    for (size_t r = 0; r < tile->rows; r++, values += tile->cols) {
        if (matrix->col_stride == 1)
            overflow |= (stream ? stream_run : store_run)(kernels, values, tile->cols, matrix->dtype,
                                                          qz_matrix_at(matrix, tile->row + r, tile->col));
        else
            for (size_t c = 0; c < tile->cols; c++)
                overflow |= store_run(kernels, values + c, 1, matrix->dtype,
                                      qz_matrix_at(matrix, tile->row + r, tile->col + c));
    }
    return overflow;
}
