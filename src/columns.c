/*
 * columns.c - groups that run down the columns of a matrix whose rows lie next to each other
 *
 * The usual way to such a matrix is to transpose tiles of it. Where nothing about it is special - groups of a multiple
 * of 32 values, plain scales of two or four bytes - many groups are worked on side by side instead. What does turn out
 * special goes the usual way.
 *
 *     tile     panels that follow one another downwards
 *     panel    rows whose codes and scales, of all columns of the tile, are read or written together
 *     strip    one group of some rows of a panel, small enough for the first-level cache
 *
 * Memory is slow here for its latency: pieces of lines that are far apart follow no pattern that hardware foresees. So
 * what will be next is fetched while something else is worked on; evenly, for what is asked for in haste is forgotten.
 */
#include "group.h"

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

int qz_columns_prepare(struct job *job)
{
    if (job->slices == 0 || !qz_matrix_is_transposed(job->matrix) || job->group_size % 32 ||
        job->group_size > QZ_COLUMN_MOST || job->super_groups || qz_has_byte_scales(job) || job->rows < 16 ||
        qz_larger(-job->grid.sorted[0], job->grid.sorted[15]) > 0x1p7f) /* values may overflow: encode.c */
        return 0;
    uint64_t cols = job->tile_cols, pair = 2 * job->group_size;
    int wide = job->rows * job->cols * qz_dtype_size(job->matrix->dtype) > QZ_STREAM_LEAST;
    if (wide && pair <= WIDE_COLS)
        cols = qz_least(WIDE_COLS / pair * pair, job->cols);
    /* The first panel of a tile is not foreseen: many in a tile, but enough tiles to share. */
    uint64_t rows = panel_rows(cols, wide), panels = job->rows * job->cols / (rows * cols * QZ_SLICES_MAX);
    job->panel_rows = (size_t)rows;
    uint64_t groups = qz_divide_up(cols, job->group_size);
    job->run_rows = qz_least(QZ_TILE / (groups * job->group_size), QZ_TILE_GROUPS / groups); /* the usual way */
    qz_group_tiles(job, qz_least(job->rows, rows * (panels < 1 ? 1 : qz_least(panels, PANELS))), cols);
    return 1;
}

/* Panel of a tile from row r of it on; without rows at the end. */
static struct qz_tile panel_at(const struct job *job, const struct qz_tile *tile, size_t r)
{
    return (struct qz_tile){tile->row + r, tile->col, qz_least(job->panel_rows, tile->rows - r), tile->cols};
}

static struct span span_of(const struct job *job, const struct qz_tile *panel)
{
    return (struct span){panel->row, panel->col / job->group_size, panel->rows, panel->cols / (size_t)job->group_size};
}

/* Rows of a strip: a multiple of 16, `most` at most. */
static size_t strip_rows(const struct job *job, size_t most)
{
    return qz_least(most, STRIP / job->group_size / 16 * 16);
}

/* Strip of a panel: of group g, from row r on. */
static struct qz_tile strip_at(const struct job *job, const struct qz_tile *panel, size_t g, size_t r, size_t rows)
{
    size_t length = (size_t)job->group_size;
    return (struct qz_tile){panel->row + r, panel->col + g * length, qz_least(rows, panel->rows - r), length};
}

/* Where what follows a strip starts: more rows of the group, the panel's next group, the panel below. */
static uintptr_t after_strip(const struct job *job, const struct qz_tile *panel, const struct qz_tile *strip)
{
    uint64_t row = strip->row + strip->rows, col = strip->col;
    if (row == panel->row + panel->rows && col + strip->cols < panel->col + panel->cols) {
        row = panel->row;
        col += strip->cols;
    } else if (row == panel->row + panel->rows) {
        col = panel->col;
    }
    return (uintptr_t)qz_matrix_at(job->matrix, row < job->rows ? row : panel->row, col);
}

/* What to fetch from when a strip is begun: its last lines, a quarter of them. Types that are converted are not
 * fetched: kernels see copies of them. */
static struct qz_ahead ahead_of(const struct job *job, const struct qz_tile *strip, const float *copy)
{
    if (job->matrix->dtype != QZ_F32)
        return (struct qz_ahead){(uintptr_t)copy, 64, 64, 1, 1, 0, (uintptr_t)copy};
    size_t line = strip->rows * sizeof *copy, left = strip->cols / 4;
    void *first = qz_matrix_at(job->matrix, strip->row, strip->col + strip->cols - left);
    uintptr_t stride = (uintptr_t)job->matrix->col_stride * sizeof *copy;
    return (struct qz_ahead){(uintptr_t)first, line, line, left, strip->cols, stride, (uintptr_t)first};
}

/* Encodes whole groups of a multiple of 16 rows; returns 0 if something about them is special. */
static int encode_panel(const struct job *job, struct part *part, const struct qz_tile *panel)
{
    size_t length = (size_t)job->group_size, bytes = panel->cols / 2, clipped = 0;
    struct columns columns;
    float copy[STRIP], min[STRIP_ROWS], max[STRIP_ROWS], inverse[STRIP_ROWS];
    panel_codes staged;
    uint8_t *codes = job->stream ? staged : qz_codes_at(job, panel->row, panel->col);
    ptrdiff_t pitch = job->stream ? (ptrdiff_t)bytes : (ptrdiff_t)job->packed->code_stride;
    struct span span = span_of(job, panel);
    size_t rows = strip_rows(job, STRIP_ROWS);
    struct qz_tile strip = strip_at(job, panel, 0, 0, rows);
    struct qz_ahead ahead = ahead_of(job, &strip, copy);
    for (size_t g = 0; g < span.count; g++)
        for (size_t r = 0; r < panel->rows; r += strip.rows) {
            strip = strip_at(job, panel, g, r, rows);
            ptrdiff_t stride;
            const float *x = qz_tile_lines(job->kernels, job->matrix, &strip, copy, &stride);
            float *scale = columns.scale + g * panel->rows + r, *zero = columns.zero + g * panel->rows + r;
            if (job->matrix->dtype == QZ_F32)
                ahead.after = after_strip(job, panel, &strip);
            if (job->kernels->columns_range(x, stride, length, strip.rows, copy, min, max, &ahead) ||
                job->kernels->fit(&job->rule, strip.rows, min, max, scale, inverse, zero))
                return 0;
            clipped += job->kernels->columns_codes(copy, length, strip.rows, &job->grid, inverse, zero,
                                                   codes + (ptrdiff_t)r * pitch + g * length / 2, pitch, &ahead);
        }
    for (size_t r = 0; r < panel->rows && job->stream; r++)
        job->kernels->stream(qz_codes_at(job, panel->row + r, panel->col), staged + r * bytes, bytes);
    qz_store_columns(job, &span, columns.scale, columns.zero);
    part->clipped += clipped;
    return 1;
}

/* Copies a panel's codes, of which each cache line holds several groups: they are read once. */
static void stage_codes(const struct job *job, const struct qz_tile *panel, uint8_t *staged)
{
    size_t bytes = panel->cols / 2;
    for (size_t r = 0; r < panel->rows; r++)
        qz_copy_few(staged + r * bytes, qz_codes_at(job, panel->row + r, panel->col), bytes);
}

/* Fetches codes and scales of rows first..end - 1 of a panel. Inline as qz_fetch is. */
static inline __attribute__((always_inline)) void fetch_rows(const struct job *job, const struct qz_tile *panel,
                                                             size_t first, size_t end)
{
    const char *scales = job->packed->scales;
    scales += panel->col / job->group_size * qz_dtype_size(job->scale_dtype);
    for (size_t r = first; r < end; r++) {
        qz_fetch(qz_codes_at(job, panel->row + r, panel->col), panel->cols / 2);
        __builtin_prefetch(scales + (int64_t)(panel->row + r) * job->packed->scale_stride);
    }
}

/* Decodes a panel with these codes, and meanwhile fetches the next one, which may have no rows. In cache it goes
 * across, so that lines of codes, of which each holds several groups', are read once; past it, down the lines of
 * values. */
static void decode_panel(const struct job *job, struct part *part, const struct qz_tile *panel, const uint8_t *codes,
                         ptrdiff_t pitch, const struct qz_tile *next)
{
    size_t length = (size_t)job->group_size, fetched = 0;
    size_t rows = strip_rows(job, job->stream ? SEND_ROWS : STRIP_ROWS), down = qz_divide_up(panel->rows, rows);
    struct columns columns;
    float buffer[STRIP];
    struct span span = span_of(job, panel);
    qz_load_columns(job, &span, columns.scale, columns.zero);
    for (size_t i = 0, strips = down * span.count; i < strips; i++) {
        size_t g = job->stream ? i / down : i % span.count, r = (job->stream ? i % down : i / span.count) * rows;
        struct qz_tile strip = strip_at(job, panel, g, r, rows);
        float *direct = job->stream ? NULL : qz_tile_direct_lines(job->matrix, &strip);
        size_t at = g * panel->rows + r, wanted = next->rows ? next->rows * (i + 1) / strips : 0;
        job->kernels->columns_decode(codes + (ptrdiff_t)r * pitch + g * length / 2, pitch, length, strip.rows,
                                     &job->grid, columns.scale + at, columns.zero + at, direct ? direct : buffer,
                                     direct ? (ptrdiff_t)job->matrix->col_stride : (ptrdiff_t)strip.rows);
        fetch_rows(job, next, fetched, wanted);
        fetched = wanted;
        if (!direct)
            part->overflow |= qz_tile_store_lines(job->kernels, job->matrix, &strip, buffer, job->stream);
    }
}

static void decode_columns(const struct job *job, struct part *part, const struct qz_tile *tile)
{
    panel_codes staged;
    struct qz_tile next;
    size_t r = 0;
    for (struct qz_tile panel = panel_at(job, tile, 0); panel.rows; panel = next) {
        r += panel.rows;
        next = panel_at(job, tile, r);
        const uint8_t *codes = qz_codes_at(job, panel.row, panel.col);
        ptrdiff_t pitch = (ptrdiff_t)job->packed->code_stride;
        if (job->stream) {
            stage_codes(job, &panel, staged);
            codes = staged;
            pitch = (ptrdiff_t)(panel.cols / 2);
        }
        decode_panel(job, part, &panel, codes, pitch, &next);
    }
}

/* Calls `work` for rows of a tile, from row r on, that the usual way can take. */
static void usual_way(struct job *job, struct part *part, const struct qz_tile *tile, size_t r, qz_work *work)
{
    for (size_t rows; r < tile->rows; r += rows) {
        rows = qz_least(QZ_PANEL / tile->cols, tile->rows - r);
        work(job, part, tile->row + r, rows, tile->col, tile->cols);
    }
}

/* Rows of a tile that can be worked on side by side. */
static size_t usable_rows(const struct job *job, const struct qz_tile *tile)
{
    return tile->cols % job->group_size ? 0 : tile->rows / 16 * 16;
}

void qz_encode_columns(struct job *job, struct part *part, const struct qz_tile *tile, qz_work *by_rows)
{
    struct qz_tile some = *tile, panel;
    some.rows = usable_rows(job, tile);
    for (size_t r = 0; r < some.rows; r += panel.rows) {
        panel = panel_at(job, &some, r);
        if (!encode_panel(job, part, &panel))
            usual_way(job, part, &panel, 0, by_rows);
    }
    usual_way(job, part, tile, some.rows, by_rows);
}

void qz_decode_columns(struct job *job, struct part *part, const struct qz_tile *tile, qz_work *by_rows)
{
    struct qz_tile some = *tile;
    some.rows = usable_rows(job, tile);
    if (some.rows)
        decode_columns(job, part, &some);
    usual_way(job, part, tile, some.rows, by_rows);
}
