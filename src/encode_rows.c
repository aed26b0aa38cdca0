/*
 * encode_rows.c - encodes rows of whole groups
 */
#include "encode_rows.h"
#include "scales/clip.h"
#include "encode_codes.h"
#include "scales/fit_groups.h"
#include "scales/reference_groups.h"
#include "base/number.h"
#include "kernels/stream.h"

/* Whether scales follow from the range of their own group alone. */
static int scales_follow_ranges(const struct qz_encoder *encoder)
{
    return !qz_is_searching(encoder) && !qz_has_byte_scales(encoder->view);
}

/* Whether rows are filled up with zeros. */
static int is_filled(const struct run *run)
{
    return run->rows > 1 && run->pitch != run->cols;
}

/* The ranges of a run's groups; nonzero if a value is not finite. What fills a row up is in none of them: a group gets
 * the same codes in any rows. */
static int find_ranges(const struct qz_view *view, const struct run *run, const float *x, size_t n, size_t group_size,
                       float *min, float *max)
{
    int bad = view->kernels->group_range(x, n, group_size, min, max);
    const size_t row_groups = run->pitch / group_size, last = (row_groups - 1) * group_size;
    for (size_t r = 0; r < run->rows && is_filled(run) && !bad; r++) {
        float range[2];
        view->kernels->range_f32(x + r * run->pitch + last, run->cols - last, range);
        min[(r + 1) * row_groups - 1] = range[0];
        max[(r + 1) * row_groups - 1] = range[1];
    }
    return bad;
}

/* Whether one kernel makes codes of ranges. */
static int is_one_kernel(const struct encoding *encoding)
{
    return scales_follow_ranges(&encoding->encoder) && !encoding->want_stats && !encoding->stochastic;
}

/* Encodes n values in groups by that kernel; returns 0 if something is special about them. */
static int encode_at_once(const struct encoding *encoding, struct groups *groups, const float *x, size_t n,
                          size_t group_size, uint8_t *codes)
{
    const struct qz_view *view = encoding->encoder.view;
    const struct qz_numbers to = {groups->min, groups->max, groups->scale, groups->inverse, groups->zero};
    return !view->kernels->group_encode(&encoding->encoder.fit, &view->grid, x, n, group_size, &to, codes) &&
           !qz_some_may_overflow(view, groups);
}

/* Scales of a run's groups, whose ties are broken: the flags of qz_fit_groups. */
static unsigned fit_run(const struct qz_encoder *encoder, const struct run *run, struct groups *groups, const float *x,
                        const float *w)
{
    const unsigned flags = qz_fit_groups(encoder, run, groups, x, w);
    if (!(flags & QZ_FIT_TIE))
        return flags;
    qz_break_ties(x, run->rows * run->pitch, (size_t)encoder->view->group_size, groups->min, groups->max);
    return qz_fit_groups(encoder, run, groups, x, w);
}

/* Fits and encodes groups as if nothing but ties were special about them; returns 0 if something is. */
static int encode_plain(const struct encoding *encoding, struct groups *groups, const struct run *run, const float *x,
                        const float *w, size_t group_size, uint8_t *codes, size_t *clipped)
{
    const struct qz_encoder *encoder = &encoding->encoder;
    const struct qz_view *view = encoder->view;
    size_t n = run->rows * run->pitch;
    *clipped = 0;
    if (encoding->stochastic)
        return 0;
    if (is_one_kernel(encoding) && !is_filled(run))
        return encode_at_once(encoding, groups, x, n, group_size, codes);
    if (find_ranges(view, run, x, n, group_size, groups->min, groups->max))
        return 0;
    const unsigned flags = fit_run(encoder, run, groups, x, w);
    if (flags || qz_some_may_overflow(view, groups))
        return 0;
    if (!scales_follow_ranges(encoder))
        qz_note_far_values(view, groups);
    *clipped = qz_kernel_codes(encoding, groups, x, n, group_size, codes);
    return 1;
}

/* Whether nothing can be said of a group's numbers, whichever types they have: 2^-14 to 2^100, zeros to that. */
static int has_plain_numbers(const struct groups *groups, size_t g)
{
    const int32_t least = 0x38800000, most = 0x71800000, scale = qz_magnitude_bits(groups->scale[g]);
    return (scale >= least) & (scale <= most) & (qz_magnitude_bits(groups->zero[g]) <= most);
}

static int all_have_plain_numbers(const struct groups *groups)
{
    int plain = 1;
    for (size_t g = 0; g < groups->count; g++) /* compilers make vectors of it */
        plain &= has_plain_numbers(groups, g);
    return plain;
}

/* How many values would be clipped if their codes were the nearest, in groups with the numbers of another tool. */
static size_t count_clipped(const struct encoding *encoding, struct groups *groups, const float *x, size_t n,
                            size_t group_size)
{
    for (size_t g = 0; g < groups->count; g++)
        groups->inverse[g] = qz_inverse_of(groups->scale[g]);
    qz_note_far_values(encoding->encoder.view, groups);
    return qz_count_clipped(encoding, groups, x, n, group_size);
}

/* The same for any groups. Returns the values that were encoded, x or `clean`; NULL if they may not be. */
static const float *encode_special(const struct encoding *encoding, struct findings *found, struct groups *groups,
                                   const struct run *run, const float *x, const float *w, size_t group_size,
                                   float *clean, uint8_t *codes)
{
    const struct qz_view *view = encoding->encoder.view;
    size_t n = run->rows * run->pitch;
    if (find_ranges(view, run, x, n, group_size, groups->min, groups->max)) {
        if (encoding->encoder.nonfinite == QZ_REFUSE) {
            found->nonfinite = 1;
            return NULL;
        }
        memcpy(clean, x, n * sizeof *x);
        x = clean;
        for (size_t i = 0; i < n; i += group_size)
            found->replaced += clip_group(clean + i, qz_least(group_size, n - i));
        (void)find_ranges(view, run, x, n, group_size, groups->min, groups->max);
    }
    if (encoding->encoder.reference) {
        qz_reference_groups(&encoding->encoder, run, x, groups, codes);
        for (size_t g = all_have_plain_numbers(groups) ? groups->count : 0; g < groups->count; g++)
            if (!has_plain_numbers(groups, g))
                qz_note_scale_problem(&encoding->encoder, found, groups, run, g);
        found->clipped += encoding->want_stats ? count_clipped(encoding, groups, x, n, group_size) : 0;
        return x;
    }
    const unsigned flags = fit_run(&encoding->encoder, run, groups, x, w);
    if ((flags & (QZ_FIT_TINY | QZ_FIT_HUGE)) || qz_some_may_overflow(view, groups))
        qz_refit_special_groups(&encoding->encoder, found, groups, run);
    qz_note_far_values(view, groups);
    found->clipped += qz_group_codes(encoding, groups, run, x, group_size, codes);
    return x;
}

/* A run of whole groups with the values x. */
static void encode_run(const struct encoding *encoding, struct findings *found, const struct run *run, const float *x,
                       const float *w, int stays)
{
    const struct qz_view *view = encoding->encoder.view;
    struct groups groups;
    size_t group_size = (size_t)view->group_size, n = run->rows * run->pitch, clipped;
    groups.count = (size_t)qz_divide_up(n, group_size);
    groups.far = groups.careful = groups.has_sums = 0;
    uint8_t staged[QZ_TILE / 2];
    uint8_t *codes = qz_codes_buffer(encoding, run, staged);
    float clean[QZ_TILE];
    if (!encoding->encoder.reference && encode_plain(encoding, &groups, run, x, w, group_size, codes, &clipped))
        found->clipped += clipped;
    else if (!(x = encode_special(encoding, found, &groups, run, x, w, group_size, clean, codes)))
        return;
    stays = stays && x != clean;
    struct span span = {run->row, run->col / view->group_size, run->rows, groups.count / run->rows, 0};
    qz_store_groups(view, &span, groups.scale, groups.zero, groups.bytes);
    qz_finish_codes(encoding, &found->errors, &groups, run, x, w, stays, group_size, codes);
}

/* Rows of a run next to each other, filled up with zeros; src itself where they are so already. */
static const float *fill_rows(const struct run *run, const float *src, ptrdiff_t stride, float *filled)
{
    if (run->rows == 1 || (run->pitch == run->cols && stride == (ptrdiff_t)run->pitch))
        return src;
    for (size_t r = 0; r < run->rows; r++) {
        memcpy(filled + r * run->pitch, src + (ptrdiff_t)r * stride, run->cols * sizeof *src);
        memset(filled + r * run->pitch + run->cols, 0, (run->pitch - run->cols) * sizeof *src);
    }
    return filled;
}

/* Encodes rows of a tile that were loaded to x, rows `stride` apart, with weights or NULL; `stays` as in finish_codes.
 */
static void encode_rows(const struct encoding *encoding, struct findings *found, const struct qz_tile *tile,
                        const float *x, ptrdiff_t stride, const float *w, ptrdiff_t w_stride, int stays)
{
    struct run run = qz_run_of(encoding->encoder.view, tile);
    /* Zeros that fill a group up change neither scale nor statistics where 0 is one of the values; by another tool's
     * rule they may. */
    if (!qz_is_one_run(&run) ||
        (run.pitch != run.cols && (!encoding->encoder.view->grid.has_zero || encoding->encoder.reference))) {
        for (size_t r = 0; r < run.rows; r++) {
            struct run single = qz_single_row(&run, r);
            encode_run(encoding, found, &single, x + (ptrdiff_t)r * stride, w ? w + (ptrdiff_t)r * w_stride : NULL,
                       stays);
        }
        return;
    }
    _Alignas(64) float filled[QZ_TILE], filled_weights[QZ_TILE]; /* kernels are fastest with whole cache lines */
    const float *values = fill_rows(&run, x, stride, filled);
    encode_run(encoding, found, &run, values, w ? fill_rows(&run, w, w_stride, filled_weights) : NULL,
               stays && values == x);
}

const float *qz_load_weights(const struct encoding *encoding, struct findings *found, const struct qz_tile *tile,
                             float *buffer, ptrdiff_t *stride)
{
    const struct qz_view *view = encoding->encoder.view;
    if (!encoding->encoder.weights)
        return NULL;
    if (encoding->repeated) {
        *stride = (ptrdiff_t)view->cols;
        return encoding->repeated;
    }
    int overflow;
    const float *w = qz_tile_load(view->kernels, encoding->encoder.weights, tile, buffer, stride, &overflow);
    for (size_t r = 0; r < (*stride ? tile->rows : 1); r++) { /* often all rows have the same ones */
        float range[2];
        if (view->kernels->range_f32(w + (ptrdiff_t)r * *stride, tile->cols, range) || range[0] < 0) {
            found->bad_weight = 1;
            return NULL;
        }
    }
    return w;
}

void qz_encode_rows(void *context, struct findings *found, const struct qz_area *area)
{
    const struct encoding *encoding = context;
    const qz_matrix *matrix = encoding->operation.matrix;
    size_t run_rows = encoding->operation.work.run_rows;
    _Alignas(64) float buffer[QZ_PANEL], weights[QZ_PANEL];
    const struct qz_tile tile = {area->row, area->col, area->rows, (size_t)area->cols};
    ptrdiff_t stride, w_stride = 0;
    int overflow;
    const float *x = qz_tile_load(encoding->encoder.view->kernels, matrix, &tile, buffer, &stride, &overflow);
    const float *w = qz_load_weights(encoding, found, &tile, weights, &w_stride);
    if (overflow && encoding->encoder.nonfinite == QZ_CLIP) {
        /* Infinities of the source may be clipped; finite values that became infinite may not. */
        for (size_t i = 0; i < tile.rows * tile.cols; i++) {
            double value = qz_matrix_value(matrix, tile.row + i / tile.cols, tile.col + i % tile.cols);
            found->nonfinite |= !qz_is_finite(buffer[i]) && qz_is_finite_f64(value);
        }
    }
    for (size_t r = 0; r < tile.rows; r += run_rows) {
        struct qz_tile some = {tile.row + r, tile.col, qz_least(run_rows, tile.rows - r), tile.cols};
        const float *some_w = w && w != encoding->repeated ? w + (ptrdiff_t)r * w_stride : w;
        encode_rows(encoding, found, &some, x + (ptrdiff_t)r * stride, stride, some_w, w_stride, x != buffer);
    }
}

/* Of a wide tile there are this many usual ones. */
enum { WIDE = 4 };

uint64_t qz_wide_tile(const struct encoding *encoding)
{
    const struct qz_view *view = encoding->encoder.view;
    const struct qz_work *work = &encoding->operation.work;
    const qz_matrix *matrix = encoding->operation.matrix;
    if (work->slices == 0 || work->tile_cols == view->cols || view->group_size > QZ_LONG_GROUP || work->streams ||
        matrix->dtype != QZ_F32 || matrix->col_stride != 1 || encoding->encoder.weights ||
        encoding->encoder.reference || !is_one_kernel(encoding))
        return 0;
    return work->tile_cols * qz_least(WIDE, QZ_TILE_GROUPS / (work->tile_cols / view->group_size));
}

void qz_encode_wide(void *context, struct findings *found, const struct qz_area *area)
{
    const struct encoding *encoding = context;
    const struct qz_view *view = encoding->encoder.view;
    size_t n = (size_t)area->cols, group_size = (size_t)view->group_size;
    struct groups groups;
    groups.count = (size_t)qz_divide_up(n, group_size);
    const struct span span = {area->row, area->col / view->group_size, 1, groups.count, 0};
    if (encode_at_once(encoding, &groups, qz_matrix_at(encoding->operation.matrix, area->row, area->col), n, group_size,
                       qz_codes_at(view, area->row, area->col))) {
        qz_store_groups(view, &span, groups.scale, groups.zero, groups.bytes);
        return;
    }
    for (uint64_t done = 0, cols = encoding->usual_cols; done < n; done += cols)
        qz_encode_rows(context, found, &(struct qz_area){area->row, area->col + done, 1, qz_least(cols, n - done)});
}

const float *qz_repeat_weights(const struct encoding *encoding, float *repeated)
{
    const struct qz_view *view = encoding->encoder.view;
    const struct qz_work *work = &encoding->operation.work;
    const qz_matrix *weights = encoding->encoder.weights;
    const struct qz_tile row = {0, 0, 1, (size_t)view->cols};
    struct findings found = {0};
    ptrdiff_t stride;
    if (work->slices == 0 || !weights || weights->row_stride != 0 || view->group_size > QZ_LONG_GROUP ||
        work->run_rows < 2 || work->tile_cols != view->cols || view->cols % view->group_size != 0)
        return NULL;
    const float *w = qz_load_weights(encoding, &found, &row, repeated, &stride);
    for (size_t r = 0; r < work->run_rows && w; r++)
        memmove(repeated + r * row.cols, w, row.cols * sizeof *w);
    return w ? repeated : NULL;
}
