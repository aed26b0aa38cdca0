/*
 * decode.c - grouped decoding
 */
#include "fpenv.h"
#include "group.h"
#include "number.h"

#include <math.h>

void qz_each_piece(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols,
                   void (*step)(struct job *, struct part *, const struct qz_tile *))
{
    uint64_t length = job->group_size > QZ_LONG_GROUP ? job->group_size : cols;
    for (uint64_t start = col; start < col + cols; start += length) {
        uint64_t end = start + qz_least(length, col + cols - start);
        for (uint64_t c = start; c < end; c += QZ_TILE) {
            struct qz_tile tile = {row, c, rows, qz_least(QZ_TILE, end - c)};
            step(job, part, &tile);
        }
    }
}

static void decode_step(struct job *job, struct part *part, const struct qz_tile *tile)
{
    float buffer[QZ_PANEL], *direct = qz_tile_direct(job->matrix, tile);
    ptrdiff_t stride = direct ? (ptrdiff_t)job->matrix->row_stride : (ptrdiff_t)tile->cols;
    if (direct && job->stream) {
        struct run run = qz_run_of(job, tile);
        for (size_t r = 0; r < tile->rows; r++) {
            struct run single = qz_single_row(&run, r);
            qz_decode_run(job, &single, buffer, direct + (ptrdiff_t)r * stride);
        }
    } else {
        qz_decode_tile(job, tile, direct ? direct : buffer, stride);
        if (!direct)
            part->overflow |= qz_tile_store(job->kernels, job->matrix, tile, buffer, job->stream);
    }
}

static void decode_rows(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols)
{
    qz_each_piece(job, part, row, rows, col, cols, decode_step);
}

static void decode_columns(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols)
{
    struct qz_tile tile = {row, col, rows, (size_t)cols};
    qz_decode_columns(job, part, &tile, decode_rows);
}

/* Groups of one row on their way past the cache, those of a tile. */
static int stream_groups(const struct job *job, uint64_t row, uint64_t group, size_t count, void *dst)
{
    _Alignas(64) char buffer[QZ_TILE * sizeof(float)];
    size_t bytes = (size_t)job->group_size * qz_dtype_size(job->matrix->dtype), sent = 0, some;
    size_t step = QZ_STAGE_STEP / bytes / 2 * 2; /* an even number, so that each step starts a byte of zeros */
    int beyond = 0;
    for (size_t g = 0; g < count; g += some) {
        some = qz_least(step ? step : 2, count - g);
        beyond |= qz_decode_groups(job, row, group + g, some, buffer + g * bytes);
        qz_stage_send(job->kernels, dst, buffer, &sent, (g + some) * bytes, g + some == count);
    }
    return beyond;
}

/* Groups of one row, in place. Only the last one may be cut off. */
static void decode_wide(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols)
{
    void *dst = qz_matrix_at(job->matrix, row, col);
    uint64_t group = col / job->group_size, whole = cols / job->group_size, done = whole * job->group_size;
    if (whole > 0)
        part->beyond |= (job->stream ? stream_groups : qz_decode_groups)(job, row, group, (size_t)whole, dst);
    if (done < cols)
        decode_step(job, part, &(struct qz_tile){row, col + done, rows, (size_t)(cols - done)});
}

/* Decodes long rows of values that lie next to each other: nothing limits a tile then, unless values leave past the
 * cache, and with wide ones less is to do around each; with a single one, for a single thread, nothing. Returns whether
 * it was done. */
static int decode_in_place(struct job *job, qz_pool *pool, struct part *total)
{
    enum { WIDE = 8 * QZ_TILE };
    uint64_t cols = job->tile_cols;
    if (job->slices == 0 || job->tile_rows != 1 || job->group_size % 16 != 0 || job->group_size > QZ_LONG_GROUP ||
        job->matrix->col_stride != 1 || job->matrix->dtype == QZ_F64)
        return 0;
    total->overflow = total->beyond = 0;
    if (!pool && !job->stream) {
        for (uint64_t row = 0; row < job->rows; row++)
            decode_wide(job, total, row, 1, 0, job->cols);
    } else {
        while (!job->stream && 2 * cols <= WIDE)
            cols *= 2;
        job->work = decode_wide;
        qz_group_tiles(job, 1, qz_least(cols, job->cols));
        qz_group_run(job, pool, total);
    }
    if (total->beyond) /* tiles again as the usual way wants them */
        qz_group_geometry(job, job->rows, job->cols, job->group_size, 0);
    return !total->beyond;
}

/* First value that does not fit the output, found by decoding again, slowly. */
static qz_result locate_overflow(const struct job *job, qz_detail *detail)
{
    float limit = job->matrix->dtype == QZ_F16 ? QZ_F16_BEYOND : QZ_BF16_BEYOND;
    uint64_t count = 0;
    for (uint64_t r = 0; r < job->rows; r++)
        for (uint64_t c = 0; c < job->cols; c++) {
            float value;
            qz_decode_run(job, &(struct run){r, c, 1, 1, 1}, &value, NULL);
            if (fabsf(value) >= limit && qz_is_finite(value) && count++ == 0 && detail) {
                detail->index = r * job->cols + c;
                detail->value = (double)value;
            }
        }
    if (detail)
        detail->count = count;
    return QZ_ERROR_RANGE;
}

static QZ_NOINLINE qz_result decode(const qz_scheme *scheme, const qz_packed *src, const qz_matrix *dst, qz_pool *pool,
                                    qz_detail *detail)
{
    struct job job;
    qz_group_begin(&job);
    struct part total;
    qz_matrix merged;
    qz_result result = qz_group_prepare(&job, scheme, QZ_DEFAULT, dst, &merged, src);
    if (result != QZ_OK)
        return result;
    job.stream = job.rows * job.cols * qz_dtype_size(dst->dtype) > QZ_STREAM_LEAST;
    if (!decode_in_place(&job, pool, &total)) {
        job.work = qz_columns_prepare(&job) ? decode_columns : decode_rows;
        qz_group_run(&job, pool, &total);
    }
    return total.overflow ? locate_overflow(&job, detail) : QZ_OK;
}

qz_result qz_decode(const qz_scheme *scheme, const qz_packed *src, const qz_matrix *dst, qz_pool *pool,
                    qz_detail *detail)
{
    qz_fp_state state = qz_fp_enter();
    qz_result result = decode(scheme, src, dst, pool, detail);
    qz_fp_leave(state);
    return result;
}
