/*
 * group.c - grouped work: arguments, the cut into tiles and slices, the sum of what the slices found
 */
#include "group.h"
#include "number.h"
#include "scheme.h"

#include <math.h>

enum {
    BAND = 4,             /* tiles of a transposed matrix that follow one another downwards */
    PANEL_COLS = 128,     /* columns wanted in a tile of a transposed matrix */
    SLICE_LEAST = 1 << 15 /* elements worth a slice of their own */
};

void qz_group_geometry(struct job *job, uint64_t rows, uint64_t cols, uint64_t group_size, int transposed)
{
    job->rows = rows;
    job->cols = cols;
    job->group_size = group_size;
    job->tiles_down = job->tiles_across = job->row_groups = 0;
    job->tile_rows = job->run_rows = 1;
    job->tile_cols = 1;
    job->slices = 0;
    if (rows == 0 || cols == 0) /* nothing to do, and no size to divide by */
        return;
    job->row_groups = qz_divide_up(cols, job->group_size);
    if (job->group_size > QZ_LONG_GROUP) {
        job->tile_cols = 2 * job->group_size;
    } else {
        /* Whole groups that share a super scale that is to be found, and an even number of groups. */
        uint64_t together =
            job->encodes && job->super_groups && job->super_groups < QZ_WHOLE_MATRIX ? job->super_groups : 1;
        together += together % 2 * together;
        uint64_t times =
            qz_least((transposed ? PANEL_COLS : QZ_TILE) / (together * job->group_size), QZ_TILE_GROUPS / together);
        job->tile_cols = together * job->group_size * (times ? times : 1);
    }
    if (job->tile_cols > cols)
        job->tile_cols = cols;
    if (job->group_size <= QZ_LONG_GROUP && (transposed || job->tile_cols == cols)) {
        uint64_t groups = qz_divide_up(job->tile_cols, job->group_size);
        job->run_rows = qz_least(QZ_TILE / (groups * job->group_size), QZ_TILE_GROUPS / groups);
        job->run_rows = job->run_rows ? job->run_rows : 1;
        job->tile_rows = qz_least(rows, transposed ? QZ_PANEL / job->tile_cols : job->run_rows);
    }
    qz_group_tiles(job, job->tile_rows, job->tile_cols);
}

void qz_group_tiles(struct job *job, uint64_t tile_rows, uint64_t tile_cols)
{
    job->tile_rows = (size_t)tile_rows;
    job->tile_cols = tile_cols;
    job->tiles_down = qz_divide_up(job->rows, tile_rows);
    job->tiles_across = qz_divide_up(job->cols, tile_cols);
    /* rows * cols fits 63 bits: qz_matrix_check, qz_scheme_sizes */
    uint64_t slices = job->rows * job->cols / SLICE_LEAST, tiles = job->tiles_down * job->tiles_across;
    slices = slices < 1 ? 1 : slices > QZ_SLICES_MAX ? QZ_SLICES_MAX : slices;
    job->slices = (size_t)(slices < tiles ? slices : tiles);
}

static void run_slice(void *context, size_t slice)
{
    struct job *job = context;
    struct part *part = &job->parts[slice];
    memset(part, 0, sizeof *part);
    part->bad_group = UINT64_MAX;
    uint64_t tiles = job->tiles_down * job->tiles_across;
    uint64_t end = qz_slice_start(tiles, job->slices, slice + 1);
    int transposed = qz_matrix_is_transposed(job->matrix);
    for (uint64_t i = qz_slice_start(tiles, job->slices, slice); i < end && !qz_watch_stopped(job->watch); i++) {
        uint64_t down = i / job->tiles_across, across = i % job->tiles_across;
        if (transposed) {
            /* First down, where memory runs, but not too far: then across, while the scales of these rows, of which
             * each tile has but a few, are still in cache. */
            uint64_t band = i / (BAND * job->tiles_across) * BAND, rest = i % (BAND * job->tiles_across);
            uint64_t height = qz_least(BAND, job->tiles_down - band);
            down = band + rest % height;
            across = rest / height;
        }
        uint64_t row = down * job->tile_rows, col = across * job->tile_cols;
        job->work(job, part, row, qz_least(job->rows - row, job->tile_rows), col,
                  job->cols - col < job->tile_cols ? job->cols - col : job->tile_cols);
    }
    if (job->stream)
        job->kernels->stream_end();
}

void qz_group_run(struct job *job, qz_pool *pool, struct part *total)
{
    qz_pool_run(pool, job->slices, run_slice, job);
    memset(total, 0, sizeof *total);
    total->bad_group = UINT64_MAX;
    double most = 0.0;
    for (size_t i = 0; i < job->slices; i++)
        most = job->parts[i].max_error > most ? job->parts[i].max_error : most;
    for (size_t i = 0; i < job->slices; i++) {
        struct part *part = &job->parts[i];
        if (part->max_error == most)
            qz_look_up_error(job, part);
        total->nonfinite |= part->nonfinite;
        total->bad_weight |= part->bad_weight;
        total->overflow |= part->overflow;
        total->beyond |= part->beyond;
        if (part->bad_group < total->bad_group) {
            total->bad_group = part->bad_group;
            total->bad_value = part->bad_value;
            total->bad_number = part->bad_number;
        }
        total->signal += part->signal;
        total->error += part->error;
        total->weighted_signal += part->weighted_signal;
        total->weighted_error += part->weighted_error;
        if (part->max_error > total->max_error ||
            (part->max_error == total->max_error && part->max_index < total->max_index)) {
            total->max_error = part->max_error;
            total->max_index = part->max_index;
        }
        total->clipped += part->clipped;
        total->zeroed += part->zeroed;
        total->subnormal += part->subnormal;
        total->replaced += part->replaced;
    }
}

void qz_group_stats(qz_stats *stats, const struct job *job, const struct part *total)
{
    if (!stats)
        return;
    *stats = (qz_stats){
        .size = sizeof *stats,
        .count = job->rows * job->cols,
        .signal = total->signal,
        .error = total->error,
        .max_error = total->max_error,
        .max_index = total->max_index,
        .clipped = total->clipped,
        .zeroed_groups = total->zeroed,
        .subnormal_scales = total->subnormal,
        .replaced = total->replaced,
        .weighted_signal = total->weighted_signal,
        .weighted_error = total->weighted_error,
    };
}

qz_result qz_locate_unusable(const qz_matrix *matrix, int nonfinite_welcome, qz_detail *detail)
{
    qz_detail nonfinite = {0}, beyond = {0};
    for (uint64_t r = 0; r < matrix->rows; r++)
        for (uint64_t c = 0; c < matrix->cols; c++) {
            double x = qz_matrix_value(matrix, r, c);
            qz_detail *found = !qz_is_finite_f64(x) ? &nonfinite : fabs(x) >= 0x1.ffffffp127 ? &beyond : NULL;
            if (found && found->count++ == 0) {
                found->index = r * matrix->cols + c;
                found->value = x;
            }
        }
    int range = nonfinite.count == 0 || nonfinite_welcome;
    if (detail) {
        detail->index = range ? beyond.index : nonfinite.index;
        detail->count = range ? beyond.count : nonfinite.count;
        detail->value = range ? beyond.value : nonfinite.value;
    }
    return range ? QZ_ERROR_RANGE : QZ_ERROR_NONFINITE;
}

/* Rows that follow one another without gaps or padding, in the floats and in the plain form, are one long row. Super
 * scales of whole rows are then those of so many groups, which only encoding has to know together. */
static int rows_merge(const struct job *job, const qz_scheme *scheme, const qz_matrix *matrix, const qz_packed *packed,
                      const qz_sizes *sizes)
{
    uint64_t super_size = scheme->super_size == QZ_WHOLE_ROW && !job->encodes ? matrix->cols : scheme->super_size;
    return matrix->rows > 1 && qz_matrix_is_contiguous(matrix) && matrix->cols % 2 == 0 &&
           scheme->group_size <= matrix->cols && matrix->cols % scheme->group_size == 0 &&
           packed->code_stride == (int64_t)sizes->code_bytes && packed->scale_stride == (int64_t)sizes->scale_bytes &&
           (scheme->zero == QZ_ZERO_NONE || packed->zero_stride == (int64_t)sizes->zero_bytes) &&
           (scheme->zero != QZ_ZERO_UINT4 || sizes->row_groups % 2 == 0) &&
           (super_size == 0 || super_size == QZ_WHOLE_MATRIX ||
            (super_size != QZ_WHOLE_ROW && matrix->cols % super_size == 0 &&
             packed->super_stride == (int64_t)sizes->super_bytes));
}

void qz_group_begin(struct job *job)
{
    job->other = job->weights = NULL;
    job->watch = NULL;
    job->whole = NULL;
    job->encodes = job->stream = 0;
}

void qz_group_method(struct job *job, const qz_scheme *scheme, qz_method method)
{
    job->method = method == QZ_DEFAULT ? scheme->method : method;
    job->grid = qz_scheme_grid(scheme, job->method);
    job->rule = qz_scheme_fit(scheme, job->method, &job->grid);
    job->foreign = job->method == QZ_REFERENCE ? scheme->rule : QZ_RULE_NONE;
    job->how = (struct qz_reference_how){.scale_dtype = scheme->scale_dtype};
    if (job->foreign)
        job->how.weights = job->matrix->dtype;
}

qz_result qz_group_prepare(struct job *job, const qz_scheme *scheme, qz_method method, const qz_matrix *matrix,
                           qz_matrix *merged, const qz_packed *packed)
{
    qz_sizes sizes;
    if (qz_scheme_check(scheme, method) != QZ_OK || !qz_is_array_dtype(matrix->dtype))
        return QZ_ERROR_ARGUMENT;
    if (!qz_matrix_check(matrix))
        return QZ_ERROR_SIZE;
    qz_result result = qz_scheme_bytes(scheme, matrix->rows, matrix->cols, &sizes);
    if (result != QZ_OK)
        return result;
    if (!qz_strides_fit(packed, &sizes, matrix->rows, scheme->super_size == QZ_WHOLE_MATRIX))
        return QZ_ERROR_ARGUMENT;
    job->kernels = qz_kernels_active();
    if (!job->kernels)
        return QZ_ERROR_KERNELS;
    qz_group_scheme(job, scheme);
    job->packed = packed;
    *merged = *matrix;
    if (!job->weights && rows_merge(job, scheme, matrix, packed, &sizes)) {
        if (job->super_groups == QZ_WHOLE_ROW)
            job->super_groups = sizes.row_groups;
        merged->cols *= merged->rows;
        merged->rows = 1;
    }
    job->matrix = merged;
    /* The last part of a matrix may be shorter than a group that is longer than all of it: it stays such a group. */
    uint64_t longest = job->whole ? job->whole->cols : merged->cols;
    qz_group_geometry(job, merged->rows, merged->cols, qz_least(scheme->group_size, longest),
                      qz_matrix_is_transposed(merged));
    return QZ_OK;
}
