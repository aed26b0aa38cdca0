/*
 * encode.c - floats to 4 bits
 */
#include "commands.h"

#include <stdlib.h>

#include "block.h"
#include "encode.h"
#include "output.h"
#include "packed_block.h"
#include "resources.h"
#include "scheme.h"
#include "stats.h"
#include "weights.h"

/* ---- the output ---- */

static int declare(encoder *e, job *j, qz_file_error *error)
{
    const qz_tensor *t = qz_tensor_at(e->in.file, j->item->tensor);
    if (j->encoded) {
        j->packed = calloc(1, sizeof *j->packed);
        if (j->packed == NULL)
            return fail_memory();
        j->packed->size = sizeof *j->packed;
        if (qz_packed_declare(e->writer, t->name, t->name_length, &e->scheme, t->rank, t->shape, j->axis, j->packed,
                              error) != QZ_FILE_OK)
            return fail_file(error);
        return DONE;
    }
    if (!j->item->packed)
        return qz_declare(e->writer, t, &j->index, error) == QZ_FILE_OK ? DONE : fail_file(error);
    /* The parts of a tensor that is quantized already are declared one after the other. */
    qz_packed_tensor p = {.size = sizeof p};
    if (qz_packed_find(e->in.file, j->item->name, j->item->name_length, &p, error) != QZ_FILE_OK)
        return fail_file(error);
    for (int i = 0; i < QZ_MEMBERS; i++)
        if (p.members[i] != SIZE_MAX && qz_declare(e->writer, qz_tensor_at(e->in.file, p.members[i]),
                                                   i == 0 ? &j->index : NULL, error) != QZ_FILE_OK)
            return fail_file(error);
    return DONE;
}

static int copy(encoder *e, const job *j)
{
    if (!j->item->packed)
        return copy_tensor(&e->in, j->item->tensor, e->writer, j->index);
    qz_packed_tensor p = {.size = sizeof p};
    qz_file_error error = QZ_FILE_ERROR_INIT;
    if (qz_packed_find(e->in.file, j->item->name, j->item->name_length, &p, &error) != QZ_FILE_OK)
        return fail_file(&error);
    int code = check_packed(&e->in, j->item); /* no file of ours holds values that break the format */
    size_t index = j->index;
    for (int i = 0; i < QZ_MEMBERS && code == DONE; i++)
        if (p.members[i] != SIZE_MAX)
            code = copy_tensor(&e->in, p.members[i], e->writer, index++);
    return code;
}

/* ---- blocks ---- */

/* What the encoding of a tensor needs: memory for a block, and what its super scales follow from. */
typedef struct work {
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

static int is_stopped(void *context)
{
    (void)context;
    return stop_requested();
}

/* Encodes one block that was read into work->values. */
static int encode_block(encoder *e, work *w, const block *b)
{
    const settings *s = e->s;
    const qz_tensor *t = w->tensor;
    job *j = w->job;
    qz_options options = QZ_OPTIONS_INIT;
    qz_whole whole = {.size = sizeof whole, .rows = w->grid.rows, .cols = w->grid.cols, .col = b->first[COLUMN]};
    options.method = e->method;
    options.nonfinite = (qz_nonfinite)s->nonfinite;
    options.pool = e->pool;
    options.stochastic = s->stochastic;
    options.seed = s->seed;
    options.whole = &whole;
    options.stop = is_stopped;
    qz_sizes sizes;
    qz_packed packed = w->memory;
    int code = shape_packed(&e->scheme, b->count[COLUMN], &packed, &sizes);
    if (code == DONE)
        code = read_weights(e, &w->weights, b);
    if (code != DONE)
        return code;
    int want_stats = s->stats || s->json;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    uint64_t inner = b->count[INNER];
    /* Rows of several outer indices are one piece of the output if none is missing between them. */
    int together = inner == b->rows_apart;
    for (uint64_t o = 0; o < b->count[OUTER]; o++) {
        uint64_t row = b->row + o * b->rows_apart;
        qz_packed part = packed_row(&e->scheme, &packed, together ? o * inner : 0);
        qz_matrix matrix = block_matrix(b, o, w->values, (qz_dtype)t->element), weights;
        if (w->weights.item != NULL) {
            weights = weights_matrix(&w->weights, o);
            options.weights = &weights;
        }
        whole.row = row;
        whole.largest = w->largest != NULL ? w->largest + (w->by_row ? row : 0) : NULL;
        qz_stats stats = QZ_STATS_INIT;
        qz_detail detail = QZ_DETAIL_INIT;
        qz_result result = qz_encode(&e->scheme, &matrix, &part, &options, want_stats ? &stats : NULL, &detail);
        if (result == QZ_ERROR_STOPPED)
            return 128 + stop_requested();
        if (result == QZ_ERROR_NONFINITE)
            return fail_nonfinite(e, j, t);
        if (result == QZ_ERROR_SCALE)
            return fail_quantize(result, t, j->axis, row + detail.group / sizes.row_groups,
                                 b->first[COLUMN] + detail.group % sizes.row_groups * e->scheme.group_size, &detail);
        if (result != QZ_OK)
            return fail_quantize(result, t, j->axis, row + detail.index / matrix.cols,
                                 b->first[COLUMN] + detail.index % matrix.cols, &detail);
        if (want_stats)
            add_stats(&j->stats, &stats, row, b->first[COLUMN], matrix.cols, t->shape[j->axis]);
        if (e->writer != NULL && !together &&
            qz_packed_write(e->writer, j->packed, row, inner, b->first[COLUMN], matrix.cols, &part, &error) !=
                QZ_FILE_OK)
            return fail_file(&error);
    }
    if (e->writer != NULL && together &&
        qz_packed_write(e->writer, j->packed, b->row, b->count[OUTER] * inner, b->first[COLUMN], b->count[COLUMN],
                        &packed, &error) != QZ_FILE_OK)
        return fail_file(&error);
    return DONE;
}

/* Raises what super scales follow from. */
static int measure_block(encoder *e, work *w, const block *b)
{
    for (uint64_t o = 0; o < b->count[OUTER]; o++) {
        qz_matrix matrix = block_matrix(b, o, w->values, (qz_dtype)w->tensor->element);
        float *largest = w->largest + (w->by_row ? b->row + o * b->rows_apart : 0);
        qz_result result = qz_largest(&e->scheme, &matrix, largest, e->pool);
        if (result != QZ_OK)
            return fail(INTERNAL, "%s", qz_result_text(result));
    }
    return DONE;
}

/* Reads all blocks, one after the other, and does something with each. */
static int each_block(encoder *e, work *w, int (*step)(encoder *, work *, const block *))
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    size_t each = qz_element_size(w->tensor->element);
    block b;
    int started = 0, code = DONE;
    while (code == DONE && next_block(&w->blocks, &b, &started)) {
        if (stop_requested())
            code = 128 + stop_requested();
        else if (read_block(e->in.file, w->job->item->tensor, &w->grid, &b, each, w->values, &error) != QZ_FILE_OK)
            code = fail_file(&error);
        else
            code = step(e, w, &b);
        progress_add(b.count[OUTER] * b.count[INNER] * b.count[COLUMN]);
    }
    return code;
}

/* A super scale of the whole tensor, or of whole rows that are not whole in a block, must be known before the first
 * block is encoded: then all is read twice. */
static int is_measured(const qz_scheme *scheme, const block_plan *blocks)
{
    return scheme->super_size == QZ_WHOLE_MATRIX ||
           (scheme->super_size == QZ_WHOLE_ROW && blocks->step[COLUMN] < blocks->grid->cols);
}

static void prepare(const encoder *e, job *j, work *w)
{
    *w = (work){.job = j, .tensor = qz_tensor_at(e->in.file, j->item->tensor)};
    grid_of(w->tensor, j->axis, j->weights == NULL, &w->grid);
    plan_blocks(&w->grid, column_unit(&e->scheme, w->grid.cols, 1), &w->blocks);
}

static int encode_tensor(encoder *e, job *j)
{
    work w;
    prepare(e, j, &w);
    int code =
        allocate_packed(&e->scheme, w.blocks.step[OUTER] * w.blocks.step[INNER], w.blocks.step[COLUMN], &w.memory);
    if (code == DONE)
        code = open_weights(e, j, &w.blocks, &w.weights);
    w.values = code == DONE ? allocate_block(&w.blocks, qz_element_size(w.tensor->element)) : NULL;
    if (code == DONE && w.values == NULL)
        code = LIMIT;
    if (code == DONE && is_measured(&e->scheme, &w.blocks)) {
        w.by_row = e->scheme.super_size == QZ_WHOLE_ROW;
        uint64_t count = w.by_row ? w.grid.rows : 1;
        w.largest = allocate(count * sizeof *w.largest);
        for (uint64_t i = 0; w.largest != NULL && i < count; i++)
            w.largest[i] = 0;
        code = w.largest != NULL ? each_block(e, &w, measure_block) : LIMIT;
    }
    if (code == DONE)
        code = each_block(e, &w, encode_block);
    free(w.weights.buffer);
    free(w.largest);
    free(w.values);
    free(w.memory.codes);
    return code;
}

static int encode_all(encoder *e)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    const qz_file *inputs[3] = {e->in.file};
    options.replace = e->s->force;
    options.no_fsync = e->s->no_fsync;
    options.inputs = inputs;
    options.input_count = 1;
    if (e->weights.file != NULL)
        inputs[options.input_count++] = e->weights.file;
    if (e->table.file != NULL)
        inputs[options.input_count++] = e->table.file;
    int code = start_pool(e->s, e->values, &e->pool);
    if (code == DONE && !e->s->dry_run && qz_create(e->s->files[1], &options, &e->writer, &error) != QZ_FILE_OK)
        code = fail_file(&error);
    uint64_t total = 0;
    for (size_t i = 0; i < e->in.count && code == DONE; i++) {
        work steps;
        total += qz_tensor_at(e->in.file, e->jobs[i].item->tensor)->count;
        if (e->jobs[i].encoded) {
            prepare(e, &e->jobs[i], &steps);
            total += is_measured(&e->scheme, &steps.blocks) ? steps.tensor->count : 0;
        }
        if (e->writer != NULL)
            code = declare(e, &e->jobs[i], &error);
    }
    progress_begin("encode", total);
    for (size_t i = 0; i < e->in.count && code == DONE; i++)
        if (e->jobs[i].encoded)
            code = encode_tensor(e, &e->jobs[i]);
        else if (e->writer != NULL)
            code = copy(e, &e->jobs[i]);
    progress_end();
    for (size_t i = 0; i < options.input_count && code == DONE; i++)
        if (qz_unchanged(inputs[i], &error) != QZ_FILE_OK)
            code = fail_file(&error);
    if (code == DONE && stop_requested())
        code = 128 + stop_requested();
    if (code == DONE && e->writer != NULL) {
        if (qz_commit(e->writer, &error) != QZ_FILE_OK)
            code = fail_file(&error);
    } else {
        qz_abort(e->writer);
    }
    return code;
}

int run_encode(const settings *s)
{
    encoder e = {.s = s};
    int code = choose_scheme(&e);
    int measured = s->stats || (s->json && !s->dry_run);
    double start = seconds_now();
    if (code == DONE)
        code = source_open(s, s->files[0], &e.in);
    if (code == DONE)
        code = plan_tensors(&e);
    if (code == DONE && (!s->dry_run || s->stats))
        code = encode_all(&e);
    if (code == DONE) {
        double seconds = seconds_now() - start;
        if (s->json)
            print_encode_json(&e, measured);
        else if (s->dry_run)
            print_encode_plan(&e);
        if (s->stats && !s->json)
            print_encode_stats(&e);
        say_kept(&e);
        qz_method method = e.method != QZ_DEFAULT ? e.method : e.scheme.method;
        say("%s%s of floats became %s of %s (%.4g bits a value), method %s, in %.2f s", s->dry_run ? "dry run: " : "",
            bytes_text((double)e.bytes_before), bytes_text((double)e.bytes_after), e.scheme.name,
            e.values != 0 ? 8.0 * (double)e.bytes_after / (double)e.values : 0.0, qz_method_name(method), seconds);
    }
    for (size_t i = 0; e.jobs != NULL && i < e.in.count; i++)
        free(e.jobs[i].packed);
    free(e.jobs);
    qz_pool_destroy(e.pool);
    source_close(&e.in);
    source_close(&e.weights);
    source_close(&e.table);
    return code;
}
