/*
 * linear.c - multiplies rows of floats with a packed matrix
 *
 * Some rows of floats are prepared (linear_inputs.h). Then the weights, rows or columns of the packed matrix, are
 * distributed among the threads. Each thread multiplies all these rows with some weights at a time, as floats
 * (linear_panels.h) or as bytes (linear_bytes.h). One thread computes each sum, in one order.
 */
#include "base/fpenv.h"
#include "base/pool.h"
#include "base/stop.h"
#include "linear_ready.h"
#include "operation.h"
#include "packed/scheme.h"

enum {
    SLICE_LEAST = 1 << 15, /* products worth a slice of their own */
    PART_ROWS = 24         /* rows that are worth the decoding of weights, at least */
};

struct linear {
    struct qz_view view;
    struct qz_weights weights;
    struct qz_inputs inputs;
    struct qz_byte_products bytes;
    const qz_matrix *x, *y;
    uint64_t outputs;     /* weights */
    size_t slices, parts; /* of weights; of rows */
    uint64_t first;       /* row of x that is the first of the inputs */
    struct qz_stop stop;
};

static struct qz_outputs outputs_of(const struct linear *linear, size_t row)
{
    return (struct qz_outputs){qz_matrix_at(linear->y, linear->first + row, 0), linear->y->row_stride,
                               linear->y->col_stride};
}

/* Products of some rows with the weights of a slice. */
static void multiply_weights(struct linear *linear, const struct qz_inputs *inputs, const struct qz_outputs *outputs,
                             uint64_t first, uint64_t end)
{
    const size_t most = inputs->rounding == QZ_BYTES                                ? QZ_SIDE
                        : inputs->rows <= QZ_FEW_INPUTS && !linear->weights.columns ? QZ_SIDE
                                                                                    : QZ_PANEL_WEIGHTS;
    const struct qz_panel_rows rows = {inputs->value, inputs->pitch, inputs->rows, inputs->together};
    for (size_t count; first < end && !qz_stop_asked(&linear->stop); first += count) {
        count = qz_least(most, end - first);
        if (inputs->rounding == QZ_BYTES)
            qz_byte_products(&linear->bytes, first, count, inputs, outputs);
        else
            qz_panel_products(&linear->weights, first, count, &rows, linear->x->cols, outputs);
    }
}

/* The first row of a part: rows that lie side by side stay together. */
static size_t part_start(const struct linear *linear, size_t part)
{
    const size_t together = linear->inputs.together, rows = linear->inputs.rows;
    return qz_least(together * qz_slice_start(qz_divide_up(rows, together), linear->parts, part), rows);
}

static void multiply_slice(void *context, size_t slice)
{
    struct linear *linear = context;
    const size_t part = slice / linear->slices;
    const size_t row = part_start(linear, part), end = part_start(linear, part + 1);
    const struct qz_inputs inputs = qz_inputs_some(&linear->inputs, row, end - row);
    const struct qz_outputs outputs = outputs_of(linear, row);
    const uint64_t sides = qz_divide_up(linear->outputs, QZ_SIDE);
    slice %= linear->slices;
    multiply_weights(linear, &inputs, &outputs, QZ_SIDE * qz_slice_start(sides, linear->slices, slice),
                     qz_least(QZ_SIDE * qz_slice_start(sides, linear->slices, slice + 1), linear->outputs));
}

/* How many slices of weights some rows are worth; with few weights, rows are cut too. */
static void cut(struct linear *linear, const qz_pool *pool)
{
    uint64_t columns = qz_divide_up(linear->outputs, QZ_SIDE), weight = linear->x->cols * linear->inputs.most;
    uint64_t worth = weight / SLICE_LEAST >= 1 ? columns : weight * linear->outputs / SLICE_LEAST;
    linear->slices = qz_pool_threads(pool) == 1 || worth < 2 ? 1 : qz_least(qz_least(worth, columns), QZ_SLICES_MAX);
    linear->parts = 1;
    if (qz_pool_threads(pool) > 1 && linear->slices == columns) {
        uint64_t rows = weight * linear->outputs / SLICE_LEAST / linear->slices;
        rows = qz_least(qz_least(rows, linear->inputs.most / PART_ROWS), QZ_SLICES_MAX / linear->slices);
        linear->parts = rows ? (size_t)rows : 1;
    }
}

static void fill_zeros(const qz_matrix *y)
{
    for (uint64_t r = 0; r < y->rows; r++)
        for (uint64_t c = 0; c < y->cols; c++)
            *(float *)qz_matrix_at(y, r, c) = 0.0f;
}

/* Whether float64 became infinite that was not. */
static int any_beyond(const qz_matrix *x, qz_detail *detail)
{
    qz_detail found = QZ_DETAIL_INIT;
    (void)qz_locate_unusable(x, 1, &found);
    if (found.count > 0 && detail) {
        detail->index = found.index;
        detail->count = found.count;
        detail->value = found.value;
    }
    return found.count > 0;
}

static qz_result multiply(struct linear *linear, qz_pool *pool, qz_detail *detail)
{
    int looked = 0;
    cut(linear, pool);
    for (linear->first = 0; linear->first < linear->x->rows; linear->first += linear->inputs.rows) {
        if (qz_inputs_load(&linear->inputs, linear->first) && !looked++ && any_beyond(linear->x, detail))
            return QZ_ERROR_RANGE;
        qz_pool_run(pool, linear->slices * linear->parts, multiply_slice, linear);
        if (qz_is_stopped(&linear->stop))
            return QZ_ERROR_STOPPED;
    }
    return QZ_OK;
}

/* ---- the call ------------------------------------------------------------------------------------------------- */

static qz_result check(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols,
                       const qz_matrix *x, const qz_linear_options *options, const qz_matrix *y)
{
    qz_sizes sizes;
    if (qz_scheme_check(scheme, QZ_DEFAULT) != QZ_OK || !qz_is_array_dtype(x->dtype) || y->dtype != QZ_F32 ||
        options->size < sizeof *options || options->activations < QZ_ACTIVATIONS_F32 ||
        options->activations > QZ_ACTIVATIONS_AUTO || x->rows != y->rows ||
        x->cols != (options->columns ? rows : cols) || y->cols != (options->columns ? cols : rows))
        return QZ_ERROR_ARGUMENT;
    if (!qz_matrix_check(x) || !qz_matrix_check(y))
        return QZ_ERROR_SIZE;
    return qz_packed_sizes(scheme, packed, rows, cols, &sizes);
}

/* Takes what was prepared; returns 0 if that was of something else. */
static int take_ready(struct linear *linear, const qz_linear_options *options, const qz_scheme *scheme,
                      const qz_packed *packed)
{
    const struct qz_view *view = &linear->view;
    if (!options->prepared)
        return 1;
    linear->bytes.ready = linear->weights.ready =
        qz_linear_ready_of(options->prepared, scheme, packed, view->rows, view->cols);
    return linear->weights.ready != NULL;
}

static enum qz_rounding choose_rounding(struct linear *linear, qz_activations activations)
{
    int bytes = qz_byte_products_make(&linear->bytes, &linear->weights);
    if (activations == QZ_ACTIVATIONS_F32 || (activations == QZ_ACTIVATIONS_AUTO && !bytes))
        return QZ_UNROUNDED;
    return bytes ? QZ_BYTES : QZ_MULTIPLES;
}

static QZ_NOINLINE qz_result linear_product(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows,
                                            uint64_t cols, const qz_matrix *x, const qz_linear_options *options,
                                            const qz_matrix *y, qz_detail *detail)
{
    struct linear linear;
    qz_result result = check(scheme, packed, rows, cols, x, options, y);
    if (result != QZ_OK)
        return result;
    const struct qz_kernels *kernels = qz_kernels_active();
    if (!kernels)
        return QZ_ERROR_KERNELS;
    if (x->cols == 0 || y->rows == 0 || y->cols == 0) {
        fill_zeros(y);
        return QZ_OK;
    }
    qz_view_make(&linear.view, kernels, scheme, packed, rows, cols, cols);
    linear.weights = (struct qz_weights){&linear.view, options->columns, NULL};
    linear.x = x;
    linear.y = y;
    linear.outputs = y->cols;
    qz_stop_begin(&linear.stop, options->stop, options->stop_context);
    enum qz_rounding rounding = choose_rounding(&linear, options->activations);
    if (!take_ready(&linear, options, scheme, packed))
        return QZ_ERROR_ARGUMENT;
    const int alone = rounding == QZ_BYTES || x->rows <= 2 || qz_takes_few(&linear.weights, x->rows);
    result = qz_inputs_make(&linear.inputs, kernels, x, rounding, alone ? 1 : QZ_PRODUCT_ROWS)
                 ? multiply(&linear, options->pool, detail)
                 : QZ_ERROR_MEMORY;
    qz_inputs_free(&linear.inputs);
    return result;
}

qz_result qz_linear(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols, const qz_matrix *x,
                    const qz_linear_options *options, const qz_matrix *y, qz_detail *detail)
{
    static const qz_linear_options plain = QZ_LINEAR_OPTIONS_INIT;
    qz_fp_state state = qz_fp_enter();
    qz_result result = linear_product(scheme, packed, rows, cols, x, options ? options : &plain, y, detail);
    qz_fp_leave(state);
    return result;
}
