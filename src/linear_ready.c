/*
 * linear_ready.c - qz_linear_prepare: lays weights side by side, as products of bytes read them
 *
 * Sides of 16 weights are distributed among the threads (linear_bytes.c lays them out). The copy serves speed only; the
 * rows stay what they are.
 */
#include "linear_ready.h"
#include "base/fpenv.h"
#include "base/number.h"
#include "base/pool.h"
#include "base/stop.h"
#include "base/system.h"
#include "packed/same_rows.h"
#include "packed/scheme.h"

#include <stdlib.h>

struct qz_linear_prepared {
    struct qz_made_of of;
    struct qz_ready_weights weights;
    uint64_t bytes;
    void *room;
};

struct preparation {
    qz_linear_prepared *to;
    struct qz_view view;
    struct qz_weights weights;
    struct qz_byte_products products;
    uint64_t sides;
    size_t slices;
    struct qz_stop stop;
};

static void prepare_slice(void *context, size_t slice)
{
    struct preparation *work = context;
    const uint64_t end = qz_slice_start(work->sides, work->slices, slice + 1);
    for (uint64_t side = qz_slice_start(work->sides, work->slices, slice); side < end; side++)
        if (!qz_stop_asked(&work->stop))
            qz_make_ready(&work->products, side * QZ_SIDE, qz_least(QZ_SIDE, work->to->of.rows - side * QZ_SIDE),
                          &work->to->weights);
}

/* Groups that a tile of a weight touches, at most. */
static uint64_t tile_groups(const struct qz_view *view)
{
    const uint64_t whole = QZ_TILE / view->group_size, some = QZ_TILE % view->group_size ? whole + 2 : whole;
    return qz_least(some, view->row_groups);
}

/* Zeros for all parts; each begins where a line of the cache does. */
static int make_room(qz_linear_prepared *to, const struct qz_view *view, uint64_t sides)
{
    struct qz_ready_weights *weights = &to->weights;
    const uint64_t blocks = qz_divide_up(view->cols, QZ_INPUT_BLOCK), tiles = qz_divide_up(view->cols, QZ_TILE);
    const uint64_t groups = tile_groups(view), has_bias = view->grid.zero != QZ_ZERO_NONE;
    const uint64_t codes = blocks * QZ_READY_BYTES, numbers = tiles * groups * QZ_SIDE * sizeof(float);
    uint64_t bytes;
    to->bytes = sizeof *to;
    if (!qz_multiply(sides, codes + numbers * (1 + has_bias) + tiles * QZ_SIDE, &bytes) ||
        !(weights->packed = qz_zeroed_lines(bytes, &to->room, &to->bytes)))
        return 0;
    weights->blocks = (size_t)blocks;
    weights->tiles = (size_t)tiles;
    weights->groups = (size_t)groups;
    weights->scale = (float *)(void *)(weights->packed + sides * codes);
    weights->bias = has_bias ? weights->scale + sides * numbers / sizeof(float) : NULL;
    weights->strange = weights->packed + sides * (codes + numbers * (1 + has_bias));
    return 1;
}

static qz_result check(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols,
                       const qz_linear_options *options)
{
    qz_sizes sizes;
    if (qz_scheme_check(scheme, QZ_DEFAULT) != QZ_OK || options->size < sizeof *options || options->columns)
        return QZ_ERROR_ARGUMENT;
    return qz_packed_sizes(scheme, packed, rows, cols, &sizes);
}

static QZ_NOINLINE qz_result prepare(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols,
                                     const qz_linear_options *options, qz_linear_prepared **prepared)
{
    const struct qz_kernels *kernels = qz_kernels_active();
    struct preparation work;
    qz_result result = check(scheme, packed, rows, cols, options);
    if (result != QZ_OK)
        return result;
    if (!kernels)
        return QZ_ERROR_KERNELS;
    qz_view_make(&work.view, kernels, scheme, packed, rows, cols, cols);
    work.weights = (struct qz_weights){&work.view, 0, NULL};
    if (!qz_byte_products_make(&work.products, &work.weights))
        return QZ_ERROR_ARGUMENT;
    work.sides = qz_divide_up(rows, QZ_SIDE);
    work.to = *prepared = calloc(1, sizeof *work.to);
    if (!work.to || !make_room(work.to, &work.view, work.sides))
        return QZ_ERROR_MEMORY;
    qz_note_rows(&work.to->of, scheme, packed, rows, cols);
    work.slices = qz_least(qz_least(qz_pool_threads(options->pool), QZ_SLICES_MAX), 1 + work.sides / 16);
    qz_stop_begin(&work.stop, options->stop, options->stop_context);
    qz_pool_run(options->pool, work.slices, prepare_slice, &work);
    return qz_is_stopped(&work.stop) ? QZ_ERROR_STOPPED : QZ_OK;
}

qz_result qz_linear_prepare(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols,
                            const qz_linear_options *options, qz_linear_prepared **prepared)
{
    static const qz_linear_options plain = QZ_LINEAR_OPTIONS_INIT;
    qz_fp_state state = qz_fp_enter();
    *prepared = NULL;
    qz_result result = prepare(scheme, packed, rows, cols, options ? options : &plain, prepared);
    if (result != QZ_OK) {
        qz_linear_prepared_free(*prepared);
        *prepared = NULL;
    }
    qz_fp_leave(state);
    return result;
}

void qz_linear_prepared_free(qz_linear_prepared *prepared)
{
    if (prepared)
        free(prepared->room);
    free(prepared);
}

uint64_t qz_linear_prepared_bytes(const qz_linear_prepared *prepared)
{
    return prepared->bytes;
}

const struct qz_ready_weights *qz_linear_ready_of(const qz_linear_prepared *prepared, const qz_scheme *scheme,
                                                  const qz_packed *packed, uint64_t rows, uint64_t cols)
{
    return qz_same_rows(&prepared->of, scheme, packed, rows, cols) ? &prepared->weights : NULL;
}
