/*
 * prepared.c - qz_prepare: computes the numbers of rows, and lays out their codes side by side and their signs
 *
 * Rows are processed in the blocks that a search looks at together (bounds.h), which are distributed among the threads.
 */
#include "prepared.h"
#include "base/fpenv.h"
#include "base/number.h"
#include "base/pool.h"
#include "base/stop.h"
#include "base/system.h"
#include "operation.h"
#include "packed/same_rows.h"
#include "packed/scheme.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct qz_prepared {
    struct qz_made_of of;
    uint64_t bytes;
    qz_metric metric;
    struct qz_ready ready;
    struct qz_signs signs;
    struct qz_sign_columns columns;
    int has_bounds, has_signs;
    float *numbers;
    uint8_t *side;
    void *room[6]; /* for both, and for signs */
};

struct preparation {
    qz_prepared *to;
    struct qz_view view;
    struct qz_bounds bounds;
    uint64_t blocks;
    size_t slices;
    struct qz_stop stop;
    struct qz_sign_block signs; /* of all rows */
    atomic_int strange;         /* a row has no signs */
};

/* ---- rows ------------------------------------------------------------------------------------------------------ */

static void prepare_block(struct preparation *work, uint64_t block)
{
    const struct qz_bounds *bounds = &work->bounds;
    uint64_t first = block * bounds->block;
    size_t count = qz_least(bounds->block, work->to->of.rows - first);
    qz_bounds_measure(bounds, first, count, work->to->numbers + block * qz_bounds_numbers(bounds));
    if (work->to->side)
        qz_bounds_lay_out(bounds, first, count, work->to->side + block * qz_bounds_beside_bytes(bounds));
}

static void prepare_slice(void *context, size_t slice)
{
    struct preparation *work = context;
    uint64_t end = qz_slice_start(work->blocks, work->slices, slice + 1);
    for (uint64_t block = qz_slice_start(work->blocks, work->slices, slice); block < end; block++)
        if (!qz_stop_asked(&work->stop))
            prepare_block(work, block);
}

/* Zeros, which stand behind the last rows of the last block. */
static void *zeros_for(qz_prepared *to, size_t part, uint64_t count, uint64_t size)
{
    uint64_t bytes;
    return qz_multiply(count, size, &bytes) ? qz_zeroed_lines(bytes, &to->room[part], &to->bytes) : NULL;
}

static qz_result prepare_rows(struct preparation *work, const qz_prepare_options *options)
{
    qz_prepared *to = work->to;
    work->blocks = qz_divide_up(to->of.rows, work->bounds.block);
    work->bounds.by_length = 1;
    work->slices = qz_least(qz_least(qz_pool_threads(options->pool), QZ_SLICES_MAX), 1 + work->blocks / 16);
    to->numbers = zeros_for(to, 0, work->blocks, qz_bounds_numbers(&work->bounds) * sizeof(float));
    if (!to->numbers)
        return QZ_ERROR_MEMORY;
    if (options->codes) {
        to->side = zeros_for(to, 1, work->blocks, qz_bounds_beside_bytes(&work->bounds));
        if (!to->side)
            return QZ_ERROR_MEMORY;
    }
    qz_pool_run(options->pool, work->slices, prepare_slice, work);
    to->ready = (struct qz_ready){to->numbers, to->side};
    to->has_bounds = 1;
    return qz_is_stopped(&work->stop) ? QZ_ERROR_STOPPED : QZ_OK;
}

/* ---- signs ----------------------------------------------------------------------------------------------------- */

static void prepare_signs_slice(void *context, size_t slice)
{
    struct preparation *work = context;
    const struct qz_sign_columns *columns = &work->to->columns;
    const struct qz_sign_block *all = &work->signs;
    uint64_t end = qz_slice_start(work->blocks, work->slices, slice + 1);
    for (uint64_t block = qz_slice_start(work->blocks, work->slices, slice); block < end; block++) {
        const uint64_t first = block * QZ_SIGN_ROWS;
        const struct qz_sign_block to = {all->plane + first * qz_sign_bytes(qz_signs_steps(columns)),
                                         all->records ? all->records + first * qz_signs_record(columns) : NULL,
                                         all->factor + first,
                                         all->bias ? all->bias + first : NULL,
                                         all->scale + block,
                                         all->inverse + first};
        if (qz_stop_asked(&work->stop))
            return;
        if (!qz_signs_block(&work->view, work->to->metric, columns, first,
                            qz_least(QZ_SIGN_ROWS, work->to->of.rows - first), &to))
            atomic_store(&work->strange, 1);
    }
}

static qz_result prepare_signs(struct preparation *work, const qz_prepare_options *options)
{
    qz_prepared *to = work->to;
    int enough;
    work->blocks = qz_divide_up(to->of.rows, QZ_SIGN_ROWS);
    work->slices = qz_least(qz_least(qz_pool_threads(options->pool), QZ_SLICES_MAX), 1 + work->blocks / 16);
    if (!qz_signs_choose(&work->view, to->metric, to->of.rows, QZ_SIGNS_CACHED, &to->columns, &enough))
        return QZ_ERROR_MEMORY;
    if (!enough)
        return QZ_OK;
    const size_t steps = qz_signs_steps(&to->columns), record = qz_signs_record(&to->columns);
    const uint64_t rows = work->blocks * QZ_SIGN_ROWS, both = to->metric == QZ_L2 ? 2 : 1;
    struct qz_sign_block *signs = &work->signs;
    signs->plane = zeros_for(to, 2, rows, qz_sign_bytes(steps));
    signs->factor = signs->plane ? zeros_for(to, 3, rows * both + work->blocks, sizeof(float)) : NULL;
    signs->inverse = signs->factor ? zeros_for(to, 5, rows, sizeof *signs->inverse) : NULL;
    signs->records = signs->inverse && record > 0 ? zeros_for(to, 4, rows, record) : NULL;
    if (!signs->inverse || (record > 0 && !signs->records))
        return QZ_ERROR_MEMORY;
    signs->bias = both > 1 ? signs->factor + rows : NULL;
    signs->scale = signs->factor + both * rows;
    qz_pool_run(options->pool, work->slices, prepare_signs_slice, work);
    to->signs = (struct qz_signs){&to->columns,  steps,       record,       signs->plane,  signs->records,
                                  signs->factor, signs->bias, signs->scale, signs->inverse};
    to->has_signs = !atomic_load(&work->strange);
    return qz_is_stopped(&work->stop) ? QZ_ERROR_STOPPED : QZ_OK;
}

/* ---- the calls ------------------------------------------------------------------------------------------------- */

static qz_result check(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols,
                       const qz_prepare_options *options)
{
    qz_sizes sizes;
    if (qz_scheme_check(scheme, QZ_DEFAULT) != QZ_OK || options->size < sizeof *options ||
        !qz_metric_name(options->metric))
        return QZ_ERROR_ARGUMENT;
    if (rows > INT64_MAX || cols > INT32_MAX)
        return QZ_ERROR_SIZE;
    return qz_packed_sizes(scheme, packed, rows, cols, &sizes);
}

static QZ_NOINLINE qz_result prepare(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols,
                                     const qz_prepare_options *options, qz_prepared **prepared)
{
    const struct qz_kernels *kernels = qz_kernels_active();
    qz_result result = check(scheme, packed, rows, cols, options);
    if (result != QZ_OK)
        return result;
    if (!kernels)
        return QZ_ERROR_KERNELS;
    struct preparation *work = calloc(1, sizeof *work);
    qz_prepared *to = calloc(1, sizeof *to);
    if (!work || !to) {
        free(work);
        free(to);
        return QZ_ERROR_MEMORY;
    }
    qz_note_rows(&to->of, scheme, packed, rows, cols);
    to->metric = options->metric;
    to->bytes = sizeof *to;
    work->to = to;
    qz_view_make(&work->view, kernels, scheme, packed, rows, cols, cols);
    qz_stop_begin(&work->stop, options->stop, options->stop_context);
    if (rows > 0 && qz_bounds_make(&work->bounds, &work->view, options->metric))
        result = prepare_rows(work, options);
    if (result == QZ_OK && to->has_bounds && options->signs)
        result = prepare_signs(work, options);
    free(work);
    if (result == QZ_OK)
        *prepared = to;
    else
        qz_prepared_free(to);
    return result;
}

qz_result qz_prepare(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols,
                     const qz_prepare_options *options, qz_prepared **prepared)
{
    static const qz_prepare_options plain = QZ_PREPARE_OPTIONS_INIT;
    qz_fp_state state = qz_fp_enter();
    *prepared = NULL;
    qz_result result = prepare(scheme, packed, rows, cols, options ? options : &plain, prepared);
    qz_fp_leave(state);
    return result;
}

void qz_prepared_free(qz_prepared *prepared)
{
    if (!prepared)
        return;
    for (size_t i = 0; i < sizeof prepared->room / sizeof prepared->room[0]; i++)
        free(prepared->room[i]);
    free(prepared);
}

uint64_t qz_prepared_bytes(const qz_prepared *prepared)
{
    return prepared->bytes;
}

int qz_prepared_fits(const qz_prepared *prepared, const qz_scheme *scheme, const qz_packed *packed, uint64_t rows,
                     uint64_t cols, qz_metric metric)
{
    return prepared->metric == metric && qz_same_rows(&prepared->of, scheme, packed, rows, cols);
}

const struct qz_ready *qz_prepared_ready(const qz_prepared *prepared)
{
    return prepared->has_bounds ? &prepared->ready : NULL;
}

const struct qz_signs *qz_prepared_signs(const qz_prepared *prepared)
{
    return prepared->has_signs ? &prepared->signs : NULL;
}
