/*
 * decode.c - grouped decoding
 */
#include "columns.h"
#include "base/fpenv.h"
#include "base/number.h"
#include "operation.h"
#include "kernels/stream.h"

#include <math.h>

/* Whether groups may be decoded to values of any type but float64. */
static int are_even(const struct qz_view *view)
{
    return view->group_size % 16 == 0 && view->group_size <= QZ_LONG_GROUP;
}

/* Some of a row, as values of a type that is float32 unless they are whole even groups. Nonzero if that type may not
 * do. */
static int decode_some(const struct qz_view *view, const struct run *some, qz_dtype dtype, void *dst)
{
    if (are_even(view) && some->cols % view->group_size == 0)
        return qz_decode_groups(view, some->row, some->col / view->group_size, some->cols / (size_t)view->group_size,
                                dtype, dst);
    qz_decode_run(view, some, dst);
    return 0;
}

/* The same on its way past the cache, for part of a tile: an even number of groups at a time, so that each step starts
 * a byte of codes and of zeros, or an even number of values of a longer group. */
static int stream_some(const struct qz_view *view, const struct run *row, qz_dtype dtype, void *dst)
{
    _Alignas(64) char buffer[QZ_TILE * sizeof(float)];
    size_t size = qz_dtype_size(dtype), step = QZ_STAGE_STEP / size, sent = 0;
    int beyond = 0;
    if (view->group_size <= QZ_LONG_GROUP) {
        size_t two = 2 * (size_t)view->group_size;
        step = step < two ? two : step / two * two;
    }
    for (struct run some = {row->row, row->col, 1, 0, 0}; some.col < row->col + row->cols; some.col += some.cols) {
        size_t done = (size_t)(some.col - row->col);
        some.cols = some.pitch = qz_least(step, row->cols - done);
        beyond |= decode_some(view, &some, dtype, buffer + done * size);
        qz_stage_send(view->kernels, dst, buffer, &sent, (done + some.cols) * size, done + some.cols == row->cols);
    }
    return beyond;
}

static void decode_step(void *context, struct findings *found, const struct qz_tile *tile)
{
    const struct qz_operation *decode = context;
    const qz_matrix *matrix = decode->matrix;
    int streams = decode->work.streams != NULL;
    float buffer[QZ_PANEL], *direct = qz_tile_direct(matrix, tile);
    ptrdiff_t stride = direct ? (ptrdiff_t)matrix->row_stride : (ptrdiff_t)tile->cols;
    if (direct && streams) {
        struct run run = qz_run_of(&decode->view, tile);
        for (size_t r = 0; r < tile->rows; r++) {
            struct run single = qz_single_row(&run, r);
            (void)stream_some(&decode->view, &single, QZ_F32, direct + (ptrdiff_t)r * stride);
        }
    } else {
        qz_decode_tile(decode, tile, direct ? direct : buffer, stride);
        if (!direct)
            found->overflow |= qz_tile_store(decode->view.kernels, matrix, tile, buffer, streams);
    }
}

static void decode_rows(void *context, struct findings *found, const struct qz_area *area)
{
    qz_for_each_piece(context, context, found, area, decode_step);
}

static void decode_columns(void *context, struct findings *found, const struct qz_area *area)
{
    qz_decode_columns(context, found, area, decode_rows);
}

/* Groups of one row, in place. Only the last one may be cut off. */
static void decode_wide(void *context, struct findings *found, const struct qz_area *area)
{
    const struct qz_operation *decode = context;
    const struct qz_view *view = &decode->view;
    void *dst = qz_matrix_at(decode->matrix, area->row, area->col);
    size_t whole = (size_t)(area->cols / view->group_size), done = whole * (size_t)view->group_size;
    if (decode->work.streams && done > 0)
        found->beyond |=
            stream_some(view, &(struct run){area->row, area->col, 1, done, done}, decode->matrix->dtype, dst);
    else if (done > 0)
        found->beyond |=
            qz_decode_groups(view, area->row, area->col / view->group_size, whole, decode->matrix->dtype, dst);
    if (done < area->cols)
        decode_step(context, found,
                    &(struct qz_tile){area->row, area->col + done, area->rows, (size_t)(area->cols - done)});
}

/* Decodes long rows of values that lie next to each other: nothing limits a tile then, unless values leave past the
 * cache, and with wide ones less is to do around each; with a single one, for a single thread, nothing: a single row is
 * not even cut. Returns whether it was done; if not, the matrix is cut as all other ways want it. */
static int decode_in_place(struct qz_operation *decode, qz_pool *pool, struct findings *total)
{
    enum { WIDE = 8 * QZ_TILE };
    struct qz_work *work = &decode->work;
    const struct qz_view *view = &decode->view;
    int alone = !pool && !work->streams;
    int fits =
        view->row_groups > 0 && are_even(view) && decode->matrix->col_stride == 1 && decode->matrix->dtype != QZ_F64;
    if (!fits || !alone || view->rows > 1)
        qz_operation_cut(decode, 0);
    if (!fits || (view->rows > 1 && work->tile_rows != 1))
        return 0;
    total->overflow = total->beyond = 0;
    if (alone) {
        for (uint64_t row = 0; row < view->rows; row++)
            decode_wide(decode, total, &(struct qz_area){row, 0, 1, view->cols});
    } else {
        uint64_t cols = work->tile_cols;
        while (!work->streams && 2 * cols <= WIDE)
            cols *= 2;
        qz_work_tiles(work, 1, qz_least(cols, view->cols));
        qz_operation_run(decode, decode_wide, decode, pool, total);
    }
    if (total->beyond) /* the tiles were others, or none */
        qz_operation_cut(decode, 0);
    return !total->beyond;
}

/* First value that does not fit the output, found by decoding again, slowly. */
static qz_result locate_overflow(const struct qz_view *view, qz_dtype dtype, qz_detail *detail)
{
    float limit = dtype == QZ_F16 ? QZ_F16_BEYOND : QZ_BF16_BEYOND;
    if (detail)
        detail->count = 0;
    for (uint64_t r = 0; r < view->rows; r++)
        for (uint64_t c = 0; c < view->cols; c++) {
            float value;
            qz_decode_run(view, &(struct run){r, c, 1, 1, 1}, &value);
            if (fabsf(value) >= limit && qz_is_finite(value))
                qz_note_wrong(detail, r * view->cols + c, (double)value);
        }
    return QZ_ERROR_RANGE;
}

static QZ_NOINLINE qz_result decode(const qz_scheme *scheme, const qz_packed *src, const qz_matrix *dst, qz_pool *pool,
                                    qz_detail *detail)
{
    struct qz_operation decode;
    struct findings total;
    qz_result result = qz_operation_prepare(&decode, &(struct qz_preparation){0}, scheme, QZ_DEFAULT, dst, src);
    if (result != QZ_OK)
        return result;
    if (decode.view.rows * decode.view.cols * qz_dtype_size(dst->dtype) > QZ_STREAM_LEAST)
        decode.work.streams = decode.view.kernels;
    if (!decode_in_place(&decode, pool, &total))
        qz_operation_run(&decode, qz_columns_prepare(&decode) ? decode_columns : decode_rows, &decode, pool, &total);
    return total.overflow ? locate_overflow(&decode.view, dst->dtype, detail) : QZ_OK;
}

qz_result qz_decode(const qz_scheme *scheme, const qz_packed *src, const qz_matrix *dst, qz_pool *pool,
                    qz_detail *detail)
{
    qz_fp_state state = qz_fp_enter();
    qz_result result = decode(scheme, src, dst, pool, detail);
    qz_fp_leave(state);
    return result;
}
