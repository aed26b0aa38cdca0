/*
 * columns.c - groups that run down the columns of a matrix whose rows lie next to each other
 *
 * The usual way to such a matrix is to transpose tiles of it. Where nothing about it is special - groups of a multiple
 * of 32 values, plain scales of two or four bytes - many groups are worked on side by side instead. A strip, one group
 * of some rows, is small enough for the first-level cache. What does turn out special goes the usual way.
 */
#include "group.h"

enum {
    STRIP = 2 * QZ_TILE,                  /* floats in a strip at most */
    STRIP_ROWS = 128,                     /* rows in a strip at most: they and their copy fit the cache together */
    STREAM_ROWS = 256,                    /* the same where results leave past the cache, and long lines are faster */
    COLUMNS_TILE = 32 * QZ_COLUMNS_GROUPS /* elements of a tile at most */
};

/* Numbers of a tile's groups, in rows of groups that lie side by side. */
struct columns {
    float scale[QZ_COLUMNS_GROUPS], zero[QZ_COLUMNS_GROUPS];
};

int qz_columns_prepare(struct job *job)
{
    if (job->slices == 0 || !qz_matrix_is_transposed(job->matrix) || job->group_size % 32 ||
        job->group_size > QZ_COLUMN_MOST || job->super_groups || qz_has_byte_scales(job) || job->rows < 16)
        return 0;
    qz_group_tiles(job, qz_least(job->rows, COLUMNS_TILE / job->tile_cols / 16 * 16), job->tile_cols);
    return 1;
}

/* Rows of one call of a kernel, a multiple of 16. */
static size_t strip_rows(const struct job *job, size_t most, size_t left)
{
    return qz_least(qz_least(most, STRIP / job->group_size / 16 * 16), left);
}

/* Encodes whole groups of a multiple of 16 rows; returns 0 if something about them is special. */
static int encode_columns(const struct job *job, struct part *part, const struct qz_tile *tile)
{
    size_t length = (size_t)job->group_size, count = tile->cols / length, clipped = 0;
    struct columns columns;
    float copy[STRIP], min[STRIP_ROWS], max[STRIP_ROWS], inverse[STRIP_ROWS];
    uint8_t staged[COLUMNS_TILE / 2], *codes = job->stream ? staged : qz_codes_at(job, tile->row, tile->col);
    ptrdiff_t pitch = job->stream ? (ptrdiff_t)(tile->cols / 2) : (ptrdiff_t)job->packed->code_stride;
    for (size_t g = 0; g < count; g++)
        for (size_t r = 0, rows; r < tile->rows; r += rows) {
            rows = strip_rows(job, STRIP_ROWS, tile->rows - r);
            struct qz_tile strip = {tile->row + r, tile->col + g * length, rows, length};
            ptrdiff_t stride;
            const float *x = qz_tile_lines(job->kernels, job->matrix, &strip, copy, &stride);
            float *scale = columns.scale + g * tile->rows + r, *zero = columns.zero + g * tile->rows + r;
            if (job->kernels->columns_range(x, stride, length, rows, copy, min, max) ||
                job->kernels->fit(&job->rule, rows, min, max, scale, inverse, zero))
                return 0;
            clipped += job->kernels->columns_codes(copy, length, rows, &job->grid, inverse, zero,
                                                   codes + (ptrdiff_t)r * pitch + g * length / 2, pitch);
        }
    for (size_t r = 0; r < tile->rows && job->stream; r++)
        job->kernels->stream(qz_codes_at(job, tile->row + r, tile->col), staged + r * (tile->cols / 2), tile->cols / 2);
    struct span span = {tile->row, tile->col / job->group_size, tile->rows, count};
    qz_store_columns(job, &span, columns.scale, columns.zero);
    part->clipped += clipped;
    return 1;
}

static void decode_columns(const struct job *job, struct part *part, const struct qz_tile *tile)
{
    size_t length = (size_t)job->group_size, count = tile->cols / length, bytes = tile->cols / 2;
    struct columns columns;
    float buffer[STRIP];
    uint8_t staged[COLUMNS_TILE / 2], *codes = qz_codes_at(job, tile->row, tile->col);
    ptrdiff_t pitch = (ptrdiff_t)job->packed->code_stride;
    struct span span = {tile->row, tile->col / job->group_size, tile->rows, count};
    qz_load_columns(job, &span, columns.scale, columns.zero);
    if (job->stream) { /* each line of the cache holds codes of several groups: read it once */
        for (size_t r = 0; r < tile->rows; r++)
            qz_copy_few(staged + r * bytes, codes + (ptrdiff_t)r * pitch, bytes);
        codes = staged;
        pitch = (ptrdiff_t)bytes;
    }
    for (size_t g = 0; g < count; g++)
        for (size_t r = 0, rows; r < tile->rows; r += rows) {
            rows = strip_rows(job, job->stream ? STREAM_ROWS : STRIP_ROWS, tile->rows - r);
            struct qz_tile strip = {tile->row + r, tile->col + g * length, rows, length};
            float *direct = job->stream ? NULL : qz_tile_direct_lines(job->matrix, &strip);
            size_t at = g * tile->rows + r;
            job->kernels->columns_decode(codes + (ptrdiff_t)r * pitch + g * length / 2, pitch, length, rows, &job->grid,
                                         columns.scale + at, columns.zero + at, direct ? direct : buffer,
                                         direct ? (ptrdiff_t)job->matrix->col_stride : (ptrdiff_t)rows);
            if (!direct)
                part->overflow |= qz_tile_store_lines(job->kernels, job->matrix, &strip, buffer, job->stream);
        }
}

/* Calls `work` for rows of a tile that the usual way can take. */
static void usual_way(struct job *job, struct part *part, const struct qz_tile *tile, size_t done,
                      void (*work)(struct job *, struct part *, uint64_t, size_t, uint64_t, uint64_t))
{
    for (size_t r = done, rows; r < tile->rows; r += rows) {
        rows = qz_least(QZ_PANEL / tile->cols, tile->rows - r);
        work(job, part, tile->row + r, rows, tile->col, tile->cols);
    }
}

/* Rows of a tile that can be worked on side by side. */
static size_t usable_rows(const struct job *job, const struct qz_tile *tile)
{
    return tile->cols % job->group_size ? 0 : tile->rows / 16 * 16;
}

void qz_encode_columns(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols)
{
    struct qz_tile tile = {row, col, rows, (size_t)cols}, some = tile;
    some.rows = usable_rows(job, &tile);
    if (some.rows && !encode_columns(job, part, &some))
        some.rows = 0;
    usual_way(job, part, &tile, some.rows, qz_encode_tile);
}

void qz_decode_columns(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols)
{
    struct qz_tile tile = {row, col, rows, (size_t)cols}, some = tile;
    some.rows = usable_rows(job, &tile);
    if (some.rows)
        decode_columns(job, part, &some);
    usual_way(job, part, &tile, some.rows, qz_decode_rows);
}
