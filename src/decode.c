/*
 * decode.c - grouped decoding
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
    int streams = decode->work.streams != NULL;
    float buffer[QZ_PANEL], *direct = streams ? NULL : qz_tile_direct(matrix, tile);
    qz_decode_tile(decode, tile, direct ? direct : buffer,
                   direct ? (ptrdiff_t)matrix->row_stride : (ptrdiff_t)tile->cols);
    if (!direct)
        found->overflow |= qz_tile_store(decode->view.kernels, matrix, tile, buffer, streams);
}

static void decode_rows(void *context, struct findings *found, const struct qz_area *area)
{
    qz_for_each_piece(context, context, found, area, decode_tile);
}

static void decode_columns(void *context, struct findings *found, const struct qz_area *area)
{
    qz_decode_columns(context, found, area, decode_rows);
}

/* A tile of one row, in place, on its way past the cache: an even number of groups at a time, or some of a long one.
 * A last group that is cut off goes by way of float32, and so does all of a tile where a value may not fit. */
static void stream_tile(void *context, struct findings *found, const struct qz_tile *tile)
{
    _Alignas(64) char buffer[QZ_TILE * sizeof(float)];
    const struct qz_operation *decode = context;
    const struct qz_view *view = &decode->view;
    qz_dtype dtype = decode->matrix->dtype;
    size_t size = qz_dtype_size(dtype), step = 2 * QZ_STAGE_STEP / size, whole = tile->cols, sent = 0;
    int beyond = 0;
    if (view->group_size <= QZ_LONG_GROUP) {
        size_t group_size = (size_t)view->group_size;
        step = step < 4 * group_size ? 2 * group_size : step / (4 * group_size) * 2 * group_size;
        whole -= whole % group_size;
    }
    for (size_t done = 0, some; done < whole; done += some) {
        some = qz_least(step, whole - done);
        beyond |= qz_decode_groups(view, tile->row, tile->col + done, some, dtype, buffer + done * size);
        qz_stage_send(view->kernels, qz_matrix_at(decode->matrix, tile->row, tile->col), buffer, &sent,
                      (done + some) * size, done + some == whole);
    }
    whole = beyond ? 0 : whole;
    if (whole < tile->cols)
        decode_tile(context, found, &(struct qz_tile){tile->row, tile->col + whole, 1, tile->cols - whole});
}

/* Groups of one row, in place. */
static void decode_groups(void *context, struct findings *found, const struct qz_area *area)
{
    const struct qz_operation *decode = context;
    const qz_matrix *matrix = decode->matrix;
    uint64_t done = area->cols - area->cols % decode->view.group_size;
    if (decode->work.streams) {
        qz_for_each_piece(context, context, found, area, stream_tile);
        return;
    }
    if (qz_decode_groups(&decode->view, area->row, area->col, (size_t)done, matrix->dtype,
                         qz_matrix_at(matrix, area->row, area->col)))
        done = 0;
    if (done < area->cols)
        decode_rows(context, found, &(struct qz_area){area->row, area->col + done, 1, area->cols - done});
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
    const struct qz_view *view = &decode.view;
    int in_place = is_in_place(view, dst);
    if (view->rows * view->cols * qz_dtype_size(dst->dtype) > QZ_STREAM_LEAST)
        decode.work.streams = view->kernels;
    if (in_place && !pool && !decode.work.streams) { /* nothing limits a tile: there is nothing to cut */
        total.overflow = 0;
        for (uint64_t row = 0; row < view->rows; row++)
            decode_groups(&decode, &total, &(struct qz_area){row, 0, 1, view->cols});
    } else {
        qz_operation_cut(&decode, 0);
        uint64_t cols = decode.work.tile_cols;
        if (in_place && !decode.work.streams && cols < WIDE) /* with wider tiles less is to do around each */
            qz_work_tiles(&decode.work, 1, qz_least(WIDE / cols * cols, view->cols));
        qz_operation_run(&decode,
                         in_place                      ? decode_groups
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
