/*
 * encode_tensor.c - encodes one tensor in blocks, in two passes if its super scales depend on all of it
 */
#include "encode.h"

#include <stdlib.h>

#include "eight.h"
#include "gram.h"
#include "output.h"
#include "packed_block.h"
#include "resources.h"
#include "stats.h"
#include "values.h"
#include "weights.h"

/* What the encoding of a tensor needs: memory for a block, and what its super scales follow from. */
typedef struct work {
    encoder *encoder;
    job *job;
    const qz_tensor *tensor;
    grid grid;
    block_plan blocks;
    qz_packed memory;
    void *values;
    float *largest; /* NULL: super scales follow from each block alone, or there are none */
    int by_row;     /* one for each row */
    weigher weights;
} work;

/* ---- one block ---- */

/* Encodes the rows of one outer index of a block that was read. */
static int encode_rows(work *w, const block *b, uint64_t outer, const qz_packed *packed)
{
    encoder *e = w->encoder;
    job *j = w->job;
    const qz_tensor *t = w->tensor;
    const uint64_t row = b->row + outer * b->rows_apart, col = b->first[COLUMN];
    qz_matrix matrix = block_matrix(b, outer, w->values, (qz_dtype)t->element), weights;
    qz_options options = QZ_OPTIONS_INIT;
    qz_whole whole = {.size = sizeof whole, .rows = w->grid.rows, .cols = w->grid.cols, .row = row, .col = col};
    whole.largest = w->largest ? w->largest + (w->by_row ? row : 0) : NULL;
    options.method = j->how->method;
    options.nonfinite = (qz_nonfinite)e->s->output.nonfinite;
    options.pool = e->pool;
    options.stochastic = e->s->how.stochastic;
    options.seed = e->s->how.seed;
    options.whole = &whole;
    options.stop = stop_asked;
    if (is_weighted(j)) {
        weights = weights_matrix(&w->weights, outer);
        options.weights = &weights;
    }
    int want_stats = is_measured(e, j);
    qz_stats stats = QZ_STATS_INIT;
    qz_detail detail = QZ_DETAIL_INIT;
    qz_result result = qz_encode(&j->how->scheme, &matrix, packed, &options, want_stats ? &stats : NULL, &detail);
    if (result == QZ_ERROR_STOPPED)
        return 128 + stop_requested();
    if (result == QZ_ERROR_NONFINITE)
        return fail_nonfinite(e, j, t);
    if (result != QZ_OK) {
        const matrix_part p = {t, j->axis, &j->how->scheme, row, col, matrix.cols};
        return fail_part(result, &p, &detail);
    }
    if (want_stats)
        add_stats(&j->stats, &stats, row, col, matrix.cols, t->shape[j->axis]);
    return DONE;
}

static int encode_block(void *context, const block *b)
{
    work *w = context;
    const encoder *e = w->encoder;
    const uint64_t inner = b->count[INNER], col = b->first[COLUMN], cols = b->count[COLUMN];
    qz_sizes sizes;
    qz_packed packed = w->memory;
    int code = read_values(e, w->job, &w->grid, b, w->values);
    if (code == DONE)
        code = shape_packed(&w->job->how->scheme, cols, &packed, &sizes);
    if (code == DONE)
        code = read_weights(e, &w->weights, b);
    /* Rows of several outer indices are one piece of the output if none is missing between them. */
    int together = is_contiguous(b);
    for (uint64_t o = 0; o < b->count[OUTER] && code == DONE; o++) {
        qz_packed rows = packed_row(&w->job->how->scheme, &packed, together ? o * inner : 0);
        code = encode_rows(w, b, o, &rows);
        if (code == DONE)
            place_super(e->layout, &w->job->how->scheme, &rows);
        if (code == DONE && e->writer && !together)
            code = write_packed(e->writer, w->job->place.packed, b->row + o * b->rows_apart, inner, col, cols, &rows);
    }
    if (code == DONE && e->writer && together)
        code = write_packed(e->writer, w->job->place.packed, b->row, b->count[OUTER] * inner, col, cols, &packed);
    block_done(b);
    return code;
}

/* Raises what super scales follow from. */
static int measure_block(void *context, const block *b)
{
    work *w = context;
    int code = read_values(w->encoder, w->job, &w->grid, b, w->values);
    for (uint64_t o = 0; o < b->count[OUTER] && code == DONE; o++) {
        qz_matrix matrix = block_matrix(b, o, w->values, (qz_dtype)w->tensor->element);
        float *largest = w->largest + (w->by_row ? b->row + o * b->rows_apart : 0);
        qz_result result = qz_largest(&w->job->how->scheme, &matrix, largest, w->encoder->pool);
        if (result != QZ_OK)
            code = fail(INTERNAL, "%s", qz_result_text(result));
    }
    block_done(b);
    return code;
}

/* ---- the tensor ---- */

/* A super scale of the whole tensor, or of whole rows that are not whole in a block, must be known before the first
 * block is encoded: then the tensor is read twice. */
static int needs_two_passes(const qz_scheme *scheme, const block_plan *blocks)
{
    return scheme->super_size == QZ_WHOLE_MATRIX ||
           (scheme->super_size == QZ_WHOLE_ROW && blocks->step[COLUMN] < blocks->grid->cols);
}

static void plan_work(encoder *e, job *j, work *w)
{
    *w = (work){.encoder = e, .job = j, .tensor = j->tensor};
    grid_of(w->tensor, j->axis, !is_weighted(j), &w->grid);
    const uint64_t unit = column_unit(&j->how->scheme, w->grid.cols, 1);
    plan_blocks(&w->grid, values_unit(j, unit, w->grid.cols), qz_layout_is_across(e->layout), &w->blocks);
    if (e->s->output.to)
        plan_eight_rows(&w->blocks);
}

uint64_t memory_of(encoder *e, job *j)
{
    work w;
    qz_sizes sizes = {.size = sizeof sizes};
    if (j->how->eight)
        return eight_memory(j->tensor);
    if (is_gptq(j))
        return gptq_memory(e, j);
    plan_work(e, j, &w);
    const uint64_t elements = block_elements(&w.blocks), rows = w.blocks.step[OUTER] * w.blocks.step[INNER];
    if (qz_scheme_sizes(&j->how->scheme, rows, w.blocks.step[COLUMN], &sizes) != QZ_OK)
        return 0; /* the run itself will say that this is too much */
    const uint64_t largest = !needs_two_passes(&j->how->scheme, &w.blocks) ? 0
                             : j->how->scheme.super_size == QZ_WHOLE_ROW   ? w.grid.rows
                                                                           : 1;
    return elements * qz_element_size(w.tensor->element) + sizes.total_bytes + largest * sizeof *w.largest +
           weight_bytes(e, j, elements) + values_memory(j, &w.blocks);
}

uint64_t steps_of(encoder *e, job *j)
{
    uint64_t count = j->tensor->count;
    work w;
    if (!j->encoded && !e->writer)
        return 0;
    if (!j->encoded)
        return j->place.packed ? j->place.packed->rows * j->place.packed->cols : count;
    if (j->how->eight || is_gptq(j))
        return count;
    plan_work(e, j, &w);
    return needs_two_passes(&j->how->scheme, &w.blocks) ? 2 * count : count;
}

static int allocate_work(work *w)
{
    const qz_scheme *scheme = &w->job->how->scheme;
    const block_plan *blocks = &w->blocks;
    int code = allocate_packed(scheme, blocks->step[OUTER] * blocks->step[INNER], blocks->step[COLUMN], &w->memory);
    if (code == DONE)
        code = open_weights(w->encoder, w->job, blocks, &w->weights);
    if (code == DONE)
        code = begin_values(w->job, blocks);
    if (code != DONE)
        return code;
    w->values = allocate_block(blocks, qz_element_size(w->tensor->element));
    return w->values ? DONE : LIMIT;
}

/* The first of two passes: measures what super scales follow from. */
static int measure(work *w)
{
    w->by_row = w->job->how->scheme.super_size == QZ_WHOLE_ROW;
    uint64_t count = w->by_row ? w->grid.rows : 1;
    w->largest = allocate(count * sizeof *w->largest);
    if (!w->largest)
        return LIMIT;
    for (uint64_t i = 0; i < count; i++)
        w->largest[i] = 0;
    return for_each_block(&w->blocks, measure_block, w);
}

int encode_tensor(encoder *e, job *j)
{
    work w;
    if (j->how->eight)
        return encode_eight(e, j);
    if (is_gptq(j))
        return encode_gptq(e, j);
    plan_work(e, j, &w);
    int code = allocate_work(&w);
    if (code == DONE && needs_two_passes(&j->how->scheme, &w.blocks))
        code = measure(&w);
    if (code == DONE)
        code = for_each_block(&w.blocks, encode_block, &w);
    end_values(j);
    close_weights(&w.weights);
    free(w.largest);
    free(w.values);
    free(w.memory.codes);
    return code;
}
