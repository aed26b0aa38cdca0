/*
 * columns.c - encodes and decodes groups that run down the columns of a matrix whose rows lie next to each other
 *
 * The usual way to process such a matrix is to transpose tiles of it. If nothing about it is special (groups of a
 * multiple of 32 values, scales of two or four bytes), this file processes many groups side by side instead. What turns
 * out to be special is processed in the usual way.
 *
 *     tile     panels that follow one another downwards
 *     panel    rows whose codes and scales, of all columns of the tile, are read or written together
 *     strip    one group of some rows of a panel, small enough for the first-level cache
 *
 * The latency of memory makes this slow: hardware does not foresee accesses to pieces of lines that are far apart. So
 * the next panel is fetched while this one is processed. The fetches are spread evenly, because the hardware drops
 * requests that come in bursts.
 */
#include "columns.h"
#include "base/fpenv.h"
#include "kernels/stream.h"

enum {
    STRIP = 2 * QZ_TILE, /* floats in a strip at most */
    STRIP_ROWS = 128,    /* rows in a strip at most: they and their copy fit the cache together */
    SEND_ROWS = 64,      /* the same where results leave past the cache: memory must not wait long for more */
    PANEL_ROWS = 256,    /* rows in a panel at most */
    WIDE_ROWS = 512,     /* the same for a matrix that no cache holds: what is next to each other in memory, and the
                            scales of a cache line, are then met soon after one another ... */
    WIDE_COLS = 256,     /* ... and two cache lines of codes at once, which memory gives in turn */
    PANELS = 16          /* panels in a tile at most */
};

/* Numbers of a panel's groups, in rows of groups that lie side by side. */
struct columns {
    float scale[QZ_COLUMNS_GROUPS], zero[QZ_COLUMNS_GROUPS];
};

/* The codes of a panel on their way past the cache. */
typedef uint8_t panel_codes[QZ_COLUMNS_GROUPS * 32 / 2];

/* Rows of a panel of so many columns, a multiple of 16. */
static size_t panel_rows(uint64_t cols, int wide)
{
    return qz_least(wide ? WIDE_ROWS : PANEL_ROWS, sizeof(panel_codes) / (cols / 2) / 16 * 16);
}

int qz_columns_prepare(struct qz_operation *operation)
{
    const struct qz_view *view = &operation->view;
    if (operation->work.slices == 0 || !qz_matrix_is_transposed(operation->matrix) || view->group_size % 32 ||
        view->group_size > QZ_COLUMN_MOST || view->super_groups || qz_has_byte_scales(view) || view->rows < 16 ||
        qz_larger(-view->grid.sorted[0], view->grid.sorted[15]) > 0x1p7f) /* values may overflow: encode.c */
        return 0;
    uint64_t cols = operation->work.tile_cols, pair = 2 * view->group_size;
    int wide = view->rows * view->cols * qz_dtype_size(operation->matrix->dtype) > QZ_STREAM_LEAST;
    if (wide && pair <= WIDE_COLS)
        cols = qz_least(WIDE_COLS / pair * pair, view->cols);
    /* The first panel of a tile is not foreseen: many in a tile, but enough tiles to share. */
    uint64_t rows = panel_rows(cols, wide), panels = view->rows * view->cols / (rows * cols * QZ_SLICES_MAX);
    operation->work.panel_rows = (size_t)rows;
    uint64_t groups = qz_divide_up(cols, view->group_size);
    operation->work.run_rows =
        qz_least(QZ_TILE / (groups * view->group_size), QZ_TILE_GROUPS / groups); /* the usual way */
    qz_work_tiles(&operation->work, qz_least(view->rows, rows * (panels < 1 ? 1 : qz_least(panels, PANELS))), cols);
    return 1;
}

/* Panel of a tile from row r of it on; without rows at the end. */
static struct qz_tile panel_at(const struct qz_operation *operation, const struct qz_tile *tile, size_t r)
{
    return (struct qz_tile){tile->row + r, tile->col, qz_least(operation->work.panel_rows, tile->rows - r), tile->cols};
}

static struct span span_of(const struct qz_operation *operation, const struct qz_tile *panel)
{
    const struct qz_view *view = &operation->view;
    return (struct span){panel->row, panel->col / view->group_size, panel->rows, panel->cols / (size_t)view->group_size,
                         1};
}

/* Rows of a strip: a multiple of 16, `most` at most. */
static size_t strip_rows(const struct qz_operation *operation, size_t most)
{
    return qz_least(most, STRIP / operation->view.group_size / 16 * 16);
}

/* Strip of a panel: of group g, from row r on. */
static struct qz_tile strip_at(const struct qz_operation *operation, const struct qz_tile *panel, size_t g, size_t r,
                               size_t rows)
{
    size_t length = (size_t)operation->view.group_size;
    return (struct qz_tile){panel->row + r, panel->col + g * length, qz_least(rows, panel->rows - r), length};
}

/* Where what follows a strip starts: more rows of the group, the panel's next group, the panel below. */
static uintptr_t after_strip(const struct qz_operation *operation, const struct qz_tile *panel,
                             const struct qz_tile *strip)
{
    uint64_t row = strip->row + strip->rows, col = strip->col;
    if (row == panel->row + panel->rows && col + strip->cols < panel->col + panel->cols) {
        row = panel->row;
        col += strip->cols;
    } else if (row == panel->row + panel->rows) {
        col = panel->col;
    }
    return (uintptr_t)qz_matrix_at(operation->matrix, row < operation->view.rows ? row : panel->row, col);
}

/* What to fetch from when a strip is begun: its last lines, a quarter of them. Types that are converted are not
 * fetched: kernels see copies of them. */
static struct qz_ahead ahead_of(const struct qz_operation *operation, const struct qz_tile *strip, const float *copy)
{
    if (operation->matrix->dtype != QZ_F32)
        return (struct qz_ahead){(uintptr_t)copy, 64, 64, 1, 1, 0, (uintptr_t)copy};
    size_t line = strip->rows * sizeof *copy, left = strip->cols / 4;
    void *first = qz_matrix_at(operation->matrix, strip->row, strip->col + strip->cols - left);
    uintptr_t stride = (uintptr_t)operation->matrix->col_stride * sizeof *copy;
    return (struct qz_ahead){(uintptr_t)first, line, line, left, strip->cols, stride, (uintptr_t)first};
}

/* Encodes whole groups of a multiple of 16 rows; returns 0 if something about them is special. What it keeps on the
 * stack must be gone when its caller encodes them by rows. */
static QZ_NOINLINE int encode_panel(const struct qz_operation *operation, const struct qz_fit *fit,
                                    struct findings *found, const struct qz_tile *panel)
{
    const struct qz_view *view = &operation->view;
    size_t length = (size_t)view->group_size, bytes = panel->cols / 2, clipped = 0;
    struct columns columns;
    float copy[STRIP], min[STRIP_ROWS], max[STRIP_ROWS], inverse[STRIP_ROWS];
    panel_codes staged;
    uint8_t *codes = operation->work.streams ? staged : qz_codes_at(view, panel->row, panel->col);
    ptrdiff_t pitch = operation->work.streams ? (ptrdiff_t)bytes : (ptrdiff_t)view->packed->code_stride;
    struct span span = span_of(operation, panel);
    size_t rows = strip_rows(operation, STRIP_ROWS);
    struct qz_tile strip = strip_at(operation, panel, 0, 0, rows);
    struct qz_ahead ahead = ahead_of(operation, &strip, copy);
    for (size_t g = 0; g < span.count; g++)
        for (size_t r = 0; r < panel->rows; r += strip.rows) {
            strip = strip_at(operation, panel, g, r, rows);
            ptrdiff_t stride;
            const float *x = qz_tile_lines(view->kernels, operation->matrix, &strip, copy, &stride);
            float *scale = columns.scale + g * panel->rows + r, *zero = columns.zero + g * panel->rows + r;
            if (operation->matrix->dtype == QZ_F32)
                ahead.after = after_strip(operation, panel, &strip);
            if (view->kernels->columns_range(x, stride, length, strip.rows, copy, min, max, &ahead) ||
                view->kernels->fit(fit, strip.rows, min, max, scale, inverse, zero))
                return 0;
            clipped += view->kernels->columns_codes(copy, length, strip.rows, &view->grid, inverse, zero,
                                                    codes + (ptrdiff_t)r * pitch + g * length / 2, pitch, &ahead);
        }
    for (size_t r = 0; r < panel->rows && operation->work.streams; r++)
        view->kernels->stream(qz_codes_at(view, panel->row + r, panel->col), staged + r * bytes, bytes);
    qz_store_groups(view, &span, columns.scale, columns.zero, NULL);
    found->clipped += clipped;
    return 1;
}

/* Copies a panel's codes, of which each cache line holds several groups: they are read once. */
static void stage_codes(const struct qz_operation *operation, const struct qz_tile *panel, uint8_t *staged)
{
    size_t bytes = panel->cols / 2;
    for (size_t r = 0; r < panel->rows; r++)
        qz_copy_few(staged + r * bytes, qz_codes_at(&operation->view, panel->row + r, panel->col), bytes);
}

/* Fetches codes and scales of rows first..end - 1 of a panel. Inline as qz_fetch is. */
static inline __attribute__((always_inline)) void fetch_rows(const struct qz_operation *operation,
                                                             const struct qz_tile *panel, size_t first, size_t end)
{
    const struct qz_view *view = &operation->view;
    const char *scales = view->packed->scales;
    scales += panel->col / view->group_size * qz_dtype_size(view->scale_dtype);
    for (size_t r = first; r < end; r++) {
        qz_fetch(qz_codes_at(view, panel->row + r, panel->col), panel->cols / 2);
        __builtin_prefetch(scales + (int64_t)(panel->row + r) * view->packed->scale_stride);
    }
}

/* Decodes a panel with these codes, and meanwhile fetches the next one, which may have no rows. In cache it goes
 * across, so that lines of codes, of which each holds several groups', are read once; past it, down the lines of
 * values. */
static void decode_panel(const struct qz_operation *operation, struct findings *found, const struct qz_tile *panel,
                         const uint8_t *codes, ptrdiff_t pitch, const struct qz_tile *next)
{
    const struct qz_view *view = &operation->view;
    size_t length = (size_t)view->group_size, fetched = 0;
    size_t rows = strip_rows(operation, operation->work.streams ? SEND_ROWS : STRIP_ROWS),
           down = qz_divide_up(panel->rows, rows);
    struct columns columns;
    float buffer[STRIP];
    struct span span = span_of(operation, panel);
    qz_load_groups(view, &span, columns.scale, columns.zero);
    for (size_t i = 0, strips = down * span.count; i < strips; i++) {
        size_t g = operation->work.streams ? i / down : i % span.count,
               r = (operation->work.streams ? i % down : i / span.count) * rows;
        struct qz_tile strip = strip_at(operation, panel, g, r, rows);
        float *direct = operation->work.streams ? NULL : qz_tile_direct_lines(operation->matrix, &strip);
        size_t at = g * panel->rows + r, wanted = next->rows ? next->rows * (i + 1) / strips : 0;
        view->kernels->columns_decode(codes + (ptrdiff_t)r * pitch + g * length / 2, pitch, length, strip.rows,
                                      &view->grid, columns.scale + at, columns.zero + at, direct ? direct : buffer,
                                      direct ? (ptrdiff_t)operation->matrix->col_stride : (ptrdiff_t)strip.rows);
        fetch_rows(operation, next, fetched, wanted);
        fetched = wanted;
        if (!direct)
            found->overflow |=
                qz_tile_store_lines(view->kernels, operation->matrix, &strip, buffer, operation->work.streams != NULL);
    }
}

/* Calls `step` for rows of a tile, from row r on, that it can take. */
static void go_by_rows(struct findings *found, const struct qz_tile *tile, size_t r, qz_work_step *step, void *context)
{
    for (size_t rows; r < tile->rows; r += rows) {
        rows = qz_least(QZ_PANEL / tile->cols, tile->rows - r);
        step(context, found, &(struct qz_area){tile->row + r, tile->col, rows, tile->cols});
    }
}

/* Rows of a tile that can be worked on side by side. */
static size_t usable_rows(const struct qz_operation *operation, const struct qz_tile *tile)
{
    return tile->cols % operation->view.group_size ? 0 : tile->rows / 16 * 16;
}

static struct qz_tile tile_of(const struct qz_area *area)
{
    return (struct qz_tile){area->row, area->col, area->rows, (size_t)area->cols};
}

void qz_encode_columns(const struct qz_operation *operation, const struct qz_fit *fit, struct findings *found,
                       const struct qz_area *area, qz_work_step *by_rows, void *context)
{
    struct qz_tile tile = tile_of(area), some = tile, panel;
    some.rows = usable_rows(operation, &tile);
    for (size_t r = 0; r < some.rows; r += panel.rows) {
        panel = panel_at(operation, &some, r);
        if (!encode_panel(operation, fit, found, &panel))
            go_by_rows(found, &panel, 0, by_rows, context);
    }
    go_by_rows(found, &tile, some.rows, by_rows, context);
}

void qz_decode_columns(struct qz_operation *operation, struct findings *found, const struct qz_area *area,
                       qz_work_step *by_rows)
{
    const struct qz_view *view = &operation->view;
    struct qz_tile tile = tile_of(area), some = tile, panel, next;
    panel_codes staged;
    some.rows = usable_rows(operation, &tile);
    for (panel = panel_at(operation, &some, 0); panel.rows; panel = next) {
        next = panel_at(operation, &some, (size_t)(panel.row - tile.row) + panel.rows);
        const uint8_t *codes = qz_codes_at(view, panel.row, panel.col);
        ptrdiff_t pitch = (ptrdiff_t)view->packed->code_stride;
        if (operation->work.streams) {
            stage_codes(operation, &panel, staged);
            codes = staged;
            pitch = (ptrdiff_t)(panel.cols / 2);
        }
        decode_panel(operation, found, &panel, codes, pitch, &next);
    }
    go_by_rows(found, &tile, some.rows, by_rows, operation);
}
