/*
 * decode.c - decodes packed matrices: the public functions, and the work on a tile
 */
#include "columns.h"
#include "base/fpenv.h"
#include "base/number.h"
#include "operation.h"
#include "kernels/stream.h"

#include <math.h>

enum { WIDE = 8 * QZ_TILE }; /* values in a tile at most where groups are decoded in place */

/* Whether rows are so long that a tile has but one, of values that lie next to each other and of groups that a kernel
 * decodes to the type of these: each group is decoded where it belongs then. */
static int is_in_place(const struct qz_view *view, const qz_matrix *matrix)
{
    return view->row_groups > 0 && (view->rows == 1 || view->cols > QZ_TILE / 2) && view->group_size % 16 == 0 &&
           matrix->col_stride == 1 && matrix->dtype != QZ_F64;
}

/* A tile by way of float32. */
static void decode_tile(void *context, struct findings *found, const struct qz_tile *tile)
{
    const struct qz_operation *decode = context;
    const qz_matrix *matrix = decode->matrix;
    float buffer[QZ_PANEL], *direct = decode->work.streams ? NULL : qz_tile_direct(matrix, tile);
    qz_decode_tile(decode, tile, direct ? direct : buffer,
                   direct ? (ptrdiff_t)matrix->row_stride : (ptrdiff_t)tile->cols);
    if (!direct)
        found->overflow |= qz_tile_store(decode->view.kernels, matrix, tile, buffer, decode->work.streams != NULL);
}

static void decode_rows(void *context, struct findings *found, const struct qz_area *area)
{
    qz_for_each_piece(context, context, found, area, decode_tile);
}

static void decode_columns(void *context, struct findings *found, const struct qz_area *area)
{
    qz_decode_columns(context, found, area, decode_rows);
}

/* Groups of one row, in place; on their way past the cache an even number of them at a time, or some values of a long
 * one. A last group that is cut off goes by way of float32, and so does all where a value may not fit. */
static void decode_groups(void *context, struct findings *found, const struct qz_tile *tile)
{
    _Alignas(64) char buffer[QZ_TILE * sizeof(float)];
    const struct qz_operation *decode = context;
    const struct qz_view *view = &decode->view;
    qz_dtype dtype = decode->matrix->dtype;
    int streams = decode->work.streams != NULL, in_pieces = streams && view->group_size > QZ_LONG_GROUP;
    uint64_t unit = in_pieces ? 16 : view->group_size, pairs = 2 * QZ_STAGE_STEP / qz_dtype_size(dtype) / (4 * unit);
    size_t whole = tile->cols - (size_t)(tile->cols % unit), size = qz_dtype_size(dtype), sent = 0;
    size_t step = streams ? (size_t)(pairs > 0 ? pairs : 1) * 2 * (size_t)unit : whole;
    char *dst = qz_matrix_at(decode->matrix, tile->row, tile->col), *to = streams ? buffer : dst;
    int beyond = 0;
    for (size_t done = 0, some; done < whole; done += some) {
        some = qz_least(step, whole - done);
        beyond |= qz_decode_groups(view, tile->row, tile->col + done, some, dtype, to + done * size);
        if (streams)
            qz_stage_send(view->kernels, dst, buffer, &sent, (done + some) * size, done + some == whole);
    }
    whole = beyond ? 0 : whole;
    if (whole < tile->cols)
        decode_rows(context, found, &(struct qz_area){tile->row, tile->col + whole, 1, tile->cols - whole});
}

static void decode_long_rows(void *context, struct findings *found, const struct qz_area *area)
{
    const struct qz_operation *decode = context;
    if (decode->work.streams)
        qz_for_each_piece(decode, context, found, area, decode_groups);
    else
        decode_groups(context, found, &(struct qz_tile){area->row, area->col, 1, (size_t)area->cols});
}

/* First value that does not fit the output, found by decoding again, slowly. */
static qz_result locate_overflow(const struct qz_view *view, qz_dtype dtype, qz_detail *detail)
{
    float limit = dtype == QZ_F16 ? QZ_F16_BEYOND : QZ_BF16_BEYOND;
    if (detail)
        detail->count = 0;
    for (uint64_t i = 0; i < view->rows * view->cols; i++) {
        float value;
        qz_decode_run(view, &(struct run){i / view->cols, i % view->cols, 1, 1, 1}, &value);
        if (fabsf(value) >= limit && qz_is_finite(value))
            qz_note_wrong(detail, i, (double)value);
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
    const struct qz_view *view = &decode.view;
    int in_place = is_in_place(view, dst);
    if (view->rows * view->cols * qz_dtype_size(dst->dtype) > QZ_STREAM_LEAST)
        decode.work.streams = view->kernels;
    if (in_place && !pool && !decode.work.streams) { /* nothing limits a tile: there is nothing to cut */
        total.overflow = 0;
        for (uint64_t row = 0; row < view->rows; row++)
            decode_groups(&decode, &total, &(struct qz_tile){row, 0, 1, (size_t)view->cols});
    } else {
        qz_operation_cut(&decode, 0);
        uint64_t cols = decode.work.tile_cols;
        if (in_place && !decode.work.streams && cols < WIDE) /* with wider tiles less is to do around each */
            qz_work_tiles(&decode.work, 1, qz_least(WIDE / cols * cols, view->cols));
        qz_operation_run(&decode,
                         in_place                      ? decode_long_rows
                         : qz_columns_prepare(&decode) ? decode_columns
                                                       : decode_rows,
                         &decode, pool, &total);
    }
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
