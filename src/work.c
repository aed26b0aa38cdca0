/*
 * work.c - cuts a matrix into tiles and slices, runs the work on them, and adds up what the slices found
 */
#include "work.h"

enum {
    BAND = 4,             /* tiles of a transposed matrix that follow one another downwards */
    PANEL_COLS = 128,     /* columns wanted in a tile of a transposed matrix */
    SLICE_LEAST = 1 << 15 /* elements worth a slice of their own */
};

size_t qz_slices_worth(uint64_t rows, uint64_t cols)
{
    uint64_t slices = rows * cols / SLICE_LEAST; /* fits 63 bits: qz_matrix_check, qz_scheme_sizes */
    return slices < 1 ? 1 : qz_least(slices, QZ_SLICES_MAX);
}

void qz_work_cut(struct qz_work *work, uint64_t rows, uint64_t cols, uint64_t group_size, uint64_t together,
                 int transposed)
{
    work->rows = rows;
    work->cols = cols;
    work->transposed = transposed;
    work->tiles_down = work->tiles_across = 0;
    work->tile_rows = work->run_rows = 1;
    work->tile_cols = 1;
    work->slices = 0;
    if (rows == 0 || cols == 0) /* nothing to do, and no size to divide by */
        return;
    if (group_size > QZ_LONG_GROUP) {
        work->tile_cols = 2 * group_size;
    } else {
        together += together % 2 * together; /* an even number of groups */
        uint64_t times =
            qz_least((transposed ? PANEL_COLS : QZ_TILE) / (together * group_size), QZ_TILE_GROUPS / together);
        work->tile_cols = together * group_size * (times ? times : 1);
    }
    if (work->tile_cols > cols)
        work->tile_cols = cols;
    if (group_size <= QZ_LONG_GROUP && (transposed || work->tile_cols == cols)) {
        uint64_t groups = qz_divide_up(work->tile_cols, group_size);
        work->run_rows = qz_least(QZ_TILE / (groups * group_size), QZ_TILE_GROUPS / groups);
        work->run_rows = work->run_rows ? work->run_rows : 1;
        work->tile_rows = qz_least(rows, transposed ? QZ_PANEL / work->tile_cols : work->run_rows);
    }
    qz_work_tiles(work, work->tile_rows, work->tile_cols);
}

void qz_work_tiles(struct qz_work *work, uint64_t tile_rows, uint64_t tile_cols)
{
    work->tile_rows = (size_t)tile_rows;
    work->tile_cols = tile_cols;
    work->tiles_down = qz_divide_up(work->rows, tile_rows);
    work->tiles_across = qz_divide_up(work->cols, tile_cols);
    work->slices = qz_least(qz_slices_worth(work->rows, work->cols), work->tiles_down * work->tiles_across);
}

static void run_slice(void *context, size_t slice)
{
    struct qz_work *work = context;
    struct findings *found = &work->found[slice];
    memset(found, 0, sizeof *found);
    found->bad_group = UINT64_MAX;
    uint64_t tiles = work->tiles_down * work->tiles_across;
    uint64_t end = qz_slice_start(tiles, work->slices, slice + 1);
    for (uint64_t i = qz_slice_start(tiles, work->slices, slice); i < end && !qz_stop_asked(work->stop); i++) {
        uint64_t down = i / work->tiles_across, across = i % work->tiles_across;
        if (work->transposed) {
            /* First down, where memory runs, but not too far: then across, while the scales of these rows, of which
             * each tile has but a few, are still in cache. */
            uint64_t band = i / (BAND * work->tiles_across) * BAND, rest = i % (BAND * work->tiles_across);
            uint64_t height = qz_least(BAND, work->tiles_down - band);
            down = band + rest % height;
            across = rest / height;
        }
        uint64_t row = down * work->tile_rows, col = across * work->tile_cols;
        struct qz_area area = {row, col, qz_least(work->rows - row, work->tile_rows),
                               work->cols - col < work->tile_cols ? work->cols - col : work->tile_cols};
        work->step(work->operation, found, &area);
    }
    if (work->streams)
        work->streams->stream_end();
}

void qz_work_run(struct qz_work *work, qz_pool *pool)
{
    qz_pool_run(pool, work->slices, run_slice, work);
}

static void add_errors(struct errors *total, const struct errors *found)
{
    total->signal += found->signal;
    total->error += found->error;
    total->weighted_signal += found->weighted_signal;
    total->weighted_error += found->weighted_error;
    qz_note_error(total, found->max_error, found->max_index);
}

void qz_work_sum(const struct qz_work *work, struct findings *total)
{
    memset(total, 0, sizeof *total);
    total->bad_group = UINT64_MAX;
    for (size_t i = 0; i < work->slices; i++) {
        const struct findings *found = &work->found[i];
        total->nonfinite |= found->nonfinite;
        total->bad_weight |= found->bad_weight;
        total->overflow |= found->overflow;
        if (found->bad_group < total->bad_group) {
            total->bad_group = found->bad_group;
            total->bad_value = found->bad_value;
            total->bad_number = found->bad_number;
        }
        add_errors(&total->errors, &found->errors);
        total->clipped += found->clipped;
        total->zeroed += found->zeroed;
        total->subnormal += found->subnormal;
        total->replaced += found->replaced;
    }
}
