/*
 * encode.c - encodes matrices in groups: the public functions
 */
#include "columns.h"
#include "encode_long.h"
#include "encode_rows.h"
#include "scales/reference_groups.h"
#include "base/fpenv.h"
#include "largest.h"
#include "base/number.h"
#include "packed/scheme.h"
#include "kernels/stream.h"

#include <math.h>

static int is_weight(double w)
{
    return w >= 0.0 && w < 0x1.ffffffp127;
}

/* Parts of rows are divided where neither a byte nor the columns of a super scale are. */
static uint64_t part_unit(const qz_scheme *scheme)
{
    uint64_t size =
        scheme->super_size && scheme->super_size < QZ_WHOLE_MATRIX ? scheme->super_size : scheme->group_size;
    return size / scheme->group_size % 2 ? 2 * size : size;
}

/* Whether src may be such a part. */
static int part_fits(const qz_scheme *scheme, const qz_matrix *src, const qz_whole *whole)
{
    if (whole->size != sizeof *whole || whole->row > whole->rows || src->rows > whole->rows - whole->row ||
        whole->col > whole->cols || src->cols > whole->cols - whole->col)
        return 0;
    int whole_rows = src->cols == whole->cols;
    if (!whole->largest &&
        (scheme->super_size == QZ_WHOLE_MATRIX || (scheme->super_size == QZ_WHOLE_ROW && !whole_rows)))
        return 0;
    if (whole_rows || scheme->group_size > INT64_MAX)
        return whole_rows;
    uint64_t unit = part_unit(scheme), end = whole->col + src->cols;
    return whole->col % unit == 0 && (end % unit == 0 || end == whole->cols);
}

static void encode_columns(void *context, struct findings *found, const struct qz_area *area)
{
    const struct encoding *encoding = context;
    qz_encode_columns(&encoding->operation, &encoding->encoder.fit, found, area, qz_encode_rows, context);
}

static QZ_NOINLINE qz_result encode(const qz_scheme *scheme, const qz_matrix *src, const qz_packed *dst,
                                    const qz_options *options, qz_stats *stats, qz_detail *detail)
{
    static const qz_options defaults = QZ_OPTIONS_INIT;
    if (!options)
        options = &defaults;
    if (options->size != sizeof *options || (options->nonfinite != QZ_REFUSE && options->nonfinite != QZ_CLIP))
        return QZ_ERROR_ARGUMENT;
    const qz_matrix *weights = options->weights;
    if (weights && (!qz_is_array_dtype(weights->dtype) || weights->rows != src->rows || weights->cols != src->cols))
        return QZ_ERROR_ARGUMENT;
    if (weights && !qz_matrix_check(weights))
        return QZ_ERROR_SIZE;
    const qz_whole *whole = options->whole;
    if (whole && (qz_scheme_check(scheme, options->method) != QZ_OK || !part_fits(scheme, src, whole)))
        return QZ_ERROR_ARGUMENT;
    struct encoding encoding; /* large: filled in as far as it is used */
    encoding.whole = whole;
    encoding.part_cols = src->cols;
    encoding.want_stats = stats != NULL;
    encoding.stochastic = options->stochastic != 0;
    encoding.seed = options->seed;
    encoding.repeated = NULL;
    struct qz_operation *operation = &encoding.operation;
    struct qz_encoder *encoder = &encoding.encoder;
    const struct qz_preparation how = {.encodes = 1, .keeps_rows = weights != NULL, .whole = whole};
    qz_result result = qz_operation_prepare(operation, &how, scheme, options->method, src, dst);
    if (result != QZ_OK)
        return result;
    qz_operation_cut(operation, 1);
    qz_encoder_make(encoder, &operation->view, scheme, options->method, src->dtype);
    encoder->nonfinite = options->nonfinite;
    encoder->weights = weights;
    uint64_t rows = whole ? whole->rows : src->rows, cols = whole ? whole->cols : src->cols;
    if (encoder->reference && (options->stochastic || !qz_reference_fits_rows(scheme, rows, cols)))
        return QZ_ERROR_ARGUMENT;
    struct qz_stop stop;
    qz_stop_begin(&stop, options->stop, options->stop_context);
    operation->work.stop = &stop;
    if (operation->view.rows * operation->view.cols / 2 > QZ_STREAM_LEAST)
        operation->work.streams = operation->view.kernels;
    float repeated[QZ_TILE];
    encoding.repeated = qz_repeat_weights(&encoding, repeated);
    qz_work_step *step = operation->view.group_size > QZ_LONG_GROUP ? qz_encode_long : qz_encode_rows;
    int plain = !qz_is_searching(encoder) && !encoder->reference;
    /* Statistics are summed in the order of rows. */
    if (plain && !weights && !encoding.stochastic && !stats && qz_columns_prepare(operation))
        step = encode_columns;
    uint64_t wide = step == qz_encode_rows ? qz_wide_tile(&encoding) : 0;
    if (wide) {
        encoding.usual_cols = operation->work.tile_cols;
        qz_work_tiles(&operation->work, 1, wide);
        step = qz_encode_wide;
    }
    qz_measure_supers(encoder, src, whole ? whole->largest : NULL, options->pool);
    struct findings total;
    qz_operation_run(operation, step, &encoding, options->pool, &total);
    if (qz_stop_asked(&stop))
        return QZ_ERROR_STOPPED;
    if (total.nonfinite)
        return qz_locate_unusable(src, options->nonfinite == QZ_CLIP, detail);
    if (total.bad_weight) {
        qz_locate_wrong(weights, is_weight, detail);
        return QZ_ERROR_WEIGHT;
    }
    if (total.bad_group != UINT64_MAX) {
        if (detail) {
            detail->group = total.bad_group;
            detail->value = total.bad_value;
            if (detail->size >= offsetof(qz_detail, number) + sizeof detail->number)
                detail->number = total.bad_number;
        }
        return QZ_ERROR_SCALE;
    }
    qz_hand_stats(stats, &operation->view, &total);
    return QZ_OK;
}

qz_result qz_encode(const qz_scheme *scheme, const qz_matrix *src, const qz_packed *dst, const qz_options *options,
                    qz_stats *stats, qz_detail *detail)
{
    qz_fp_state state = qz_fp_enter();
    qz_result result = encode(scheme, src, dst, options, stats, detail);
    qz_fp_leave(state);
    return result;
}
