/*
 * sample.c - takes some rows of a tensor, on which schemes are tried before the tensor is encoded
 */
#include "sample.h"

#include <stdlib.h>
#include <string.h>

#include "eight.h"
#include "output.h"
#include "packed_block.h"
#include "resources.h"
#include "stats.h"
#include "values.h"
#include "weights.h"

/* A row of the matrix, as a block, of which the first `cols` columns count. */
static block block_of_row(const block_plan *plan, uint64_t row, uint64_t cols)
{
    const uint64_t inner = plan->total[INNER], outer = plan->total[OUTER];
    block b = {.prefix = row / inner / outer,
               .first = {row / inner % outer, row % inner, 0},
               .count = {1, 1, cols},
               .row = row,
               .rows_apart = inner};
    set_buffer_strides(plan->grid, &b);
    return b;
}

/* Row i of `count` that lie evenly in `rows`. */
static uint64_t even_row(uint64_t i, uint64_t count, uint64_t rows)
{
    return i * (rows / count) + i * (rows % count) / count;
}

static int read_rows(const encoder *e, const job *j, const block_plan *plan, sample *s)
{
    const size_t bytes = s->values.cols * qz_dtype_size(s->values.dtype);
    int code = begin_values(j, plan);
    for (uint64_t i = 0; i < s->values.rows && code == DONE; i++) {
        const block b = block_of_row(plan, even_row(i, s->values.rows, plan->grid->rows), s->values.cols);
        code = stop_requested() ? 128 + stop_requested()
                                : read_values(e, j, plan->grid, &b, (char *)s->memory + i * bytes);
    }
    end_values(j);
    return code;
}

static int read_sample_weights(const encoder *e, const job *j, const block_plan *plan, sample *s)
{
    weigher w;
    block_plan row = *plan;
    row.step[OUTER] = row.step[INNER] = 1;
    row.step[COLUMN] = s->values.cols;
    int code = open_weights(e, j, &row, &w);
    const size_t each = qz_dtype_size(w.dtype), bytes = s->values.cols * each;
    if (code == DONE) {
        s->weight_memory = allocate(s->values.rows * bytes);
        code = s->weight_memory ? DONE : LIMIT;
    }
    for (uint64_t i = 0; i < s->values.rows && code == DONE; i++) {
        const block b = block_of_row(plan, even_row(i, s->values.rows, plan->grid->rows), s->values.cols);
        code = read_weights(e, &w, &b);
        if (code == DONE)
            memcpy((char *)s->weight_memory + i * bytes, weights_matrix(&w, 0).data, bytes);
    }
    close_weights(&w);
    s->weighted = 1;
    s->weights = (qz_matrix){s->weight_memory, w.dtype, s->values.rows, s->values.cols, (int64_t)s->values.cols, 1};
    return code;
}

int take_sample(const encoder *e, const job *j, sample *out)
{
    const qz_tensor *t = j->tensor;
    grid g;
    grid_of(t, j->axis, !has_weights(j), &g);
    const uint64_t unit = values_unit(j, 1, g.cols), part = SAMPLE_COLUMNS - SAMPLE_COLUMNS % unit;
    const uint64_t cols = g.cols < SAMPLE_COLUMNS || part == 0 ? g.cols : part;
    const block_plan plan = {&g, {g.size[g.dims - 2], g.size[g.dims - 1], g.cols}, {1, 1, cols}};
    const uint64_t most = cols != 0 ? SAMPLE_VALUES / cols : 0, rows = g.rows < most ? g.rows : most;
    *out = (sample){.share = rows * cols != 0 ? (double)t->count / (double)(rows * cols) : 0};
    if (rows * cols == 0)
        return DONE;
    out->memory = allocate(rows * cols * qz_element_size(t->element));
    if (!out->memory)
        return LIMIT;
    out->values = (qz_matrix){out->memory, (qz_dtype)t->element, rows, cols, (int64_t)cols, 1};
    int code = read_rows(e, j, &plan, out);
    if (code == DONE && has_weights(j))
        code = read_sample_weights(e, j, &plan, out);
    if (code != DONE)
        free_sample(out);
    return code;
}

void free_sample(sample *s)
{
    free(s->memory);
    free(s->weight_memory);
    *s = (sample){.share = 0};
}

int try_recipe(const encoder *e, const job *j, const sample *s, const recipe *how, qz_stats *stats)
{
    qz_packed packed;
    qz_sizes sizes;
    qz_options options = QZ_OPTIONS_INIT;
    *stats = (qz_stats)QZ_STATS_INIT;
    if (s->values.rows == 0)
        return DONE;
    if (how->eight)
        return try_eight(e, s, stats);
    int code = allocate_packed(&how->scheme, s->values.rows, s->values.cols, &packed);
    if (code != DONE)
        return code;
    code = shape_packed(&how->scheme, s->values.cols, &packed, &sizes);
    options.method = how->method;
    options.nonfinite = (qz_nonfinite)e->s->output.nonfinite;
    options.pool = e->pool;
    options.stochastic = e->s->how.stochastic;
    options.seed = e->s->how.seed;
    options.weights = s->weighted ? &s->weights : NULL;
    if (code == DONE) {
        qz_result result = qz_encode(&how->scheme, &s->values, &packed, &options, stats, NULL);
        if (result == QZ_ERROR_NONFINITE)
            code = fail_nonfinite(e, j, j->tensor);
        else if (result != QZ_OK)
            *stats = (qz_stats)QZ_STATS_INIT;
    }
    free(packed.codes);
    return code;
}

double likely_error(const sample *s, const qz_stats *stats)
{
    return s->share * (s->weighted ? stats->weighted_error : stats->error);
}

double likely_sqnr(const sample *s, const qz_stats *stats)
{
    return s->weighted ? weighted_sqnr(stats) : sqnr(stats);
}
