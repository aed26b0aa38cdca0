/*
 * weights.c - reads the weights of the tensors that are encoded (--weights, --imatrix)
 */
#include "weights.h"

#include <stdlib.h>
#include <string.h>

#include "gram.h"
#include "output.h"
#include "resources.h"

/* The weights of a tensor: the only array of their file, or the one of its name. */
static int find_weights(const encoder *e, job *j)
{
    const qz_tensor *t = j->tensor;
    const item *only = e->weights.count == 1 ? &e->weights.items[0] : NULL;
    const item *named = source_find(&e->weights, t->name, t->name_length);
    j->beside.weights = named ? named : e->in.count == 1 || !strcmp(qz_container(e->weights.file), "npy") ? only : NULL;
    if (!j->beside.weights)
        return DONE;
    const qz_tensor *w = qz_tensor_at(e->weights.file, j->beside.weights->tensor);
    uint64_t cols = t->shape[j->axis];
    int same = w->rank == t->rank && memcmp(w->shape, t->shape, t->rank * sizeof t->shape[0]) == 0;
    char name[NAME_TEXT], shape[SHAPE_TEXT], other[SHAPE_TEXT];
    qz_escape(t->name, t->name_length, name, sizeof name);
    if (j->beside.weights->packed || !is_float(w->element))
        return fail(USAGE, "--weights: those of tensor '%s' are no floats", name);
    if (!same && (w->rank != 1 || w->count != cols))
        return fail(USAGE, "--weights: those of tensor '%s' have the shape %s; [%" PRIu64 "] or %s is needed", name,
                    shape_text(w->rank, w->shape, shape, 200), cols, shape_text(t->rank, t->shape, other, 200));
    return DONE;
}

static int plan_file(encoder *e)
{
    int code = source_open(e->s, e->s->how.weights, &e->weights);
    for (size_t i = 0; i < e->in.count && code == DONE; i++)
        if (e->jobs[i].encoded)
            code = find_weights(e, &e->jobs[i]);
    /* Weights that belong to no tensor are an error: they were meant for one. */
    for (size_t w = 0; w < e->weights.count && code == DONE; w++) {
        const item *i = &e->weights.items[w];
        size_t j = 0;
        while (j < e->in.count && e->jobs[j].beside.weights != i)
            j++;
        char name[NAME_TEXT];
        if (j == e->in.count)
            code = fail(USAGE, "--weights: no tensor named '%s' is encoded",
                        qz_escape(i->name, i->name_length, name, sizeof name));
    }
    return code;
}

/* The weights that an importance matrix has of a tensor: one for each column, of several experts a row for each. */
static int find_importance(const encoder *e, job *j)
{
    const qz_tensor *t = j->tensor;
    const importance *i = imatrix_find(&e->imatrix, t->name, t->name_length);
    char name[NAME_TEXT], shape[SHAPE_TEXT];
    j->beside.importance = i;
    if (!i ||
        (i->cols == t->shape[j->axis] && (i->rows == 1 || (t->rank > 2 && j->axis != 0 && i->rows == t->shape[0]))))
        return DONE;
    return fail(USAGE,
                "--imatrix: tensor '%s' has the shape %s and its weights are %" PRIu64 " times %" PRIu64
                " columns: they are of another model, or of another axis",
                qz_escape(t->name, t->name_length, name, sizeof name), shape_text(t->rank, t->shape, shape, 200),
                i->rows, i->cols);
}

static int plan_imatrix(encoder *e)
{
    uint64_t found = 0, encoded = 0;
    int code = imatrix_open(e->s, e->s->how.imatrix, &e->imatrix);
    for (size_t i = 0; i < e->in.count && code == DONE; i++)
        if (e->jobs[i].encoded) {
            code = find_importance(e, &e->jobs[i]);
            found += e->jobs[i].beside.importance != NULL;
            encoded++;
        }
    if (code == DONE && found == 0 && encoded != 0)
        return fail(USAGE,
                    "--imatrix: it has weights for none of the %" PRIu64
                    " tensors that are encoded; is it of this model?",
                    encoded);
    if (code == DONE && found < encoded)
        say("note: --imatrix has weights for %" PRIu64 " of the %" PRIu64 " tensors that are encoded", found, encoded);
    return code;
}

int plan_weights(encoder *e)
{
    if (e->s->how.weights && e->s->how.imatrix)
        return fail(USAGE, "--weights and --imatrix both have weights; leave one out");
    return e->s->how.weights ? plan_file(e) : e->s->how.imatrix ? plan_imatrix(e) : DONE;
}

/* All weights of a tensor in an importance matrix are read at once. */
static int open_importance(const encoder *e, const job *j, weigher *w)
{
    const importance *i = j->beside.importance;
    w->dtype = QZ_F32;
    w->cols = i->cols;
    w->rows_each = j->rows / i->rows;
    w->table = allocate(i->rows * i->cols * sizeof *w->table);
    return w->table ? imatrix_read(&e->imatrix, i, w->table) : LIMIT;
}

/* A Gram matrix in place of weights: of a sample, which GPTQ is not tried on. */
static int open_diagonal(const encoder *e, const job *j, weigher *w)
{
    int code;
    w->dtype = QZ_F32;
    w->cols = j->tensor->shape[j->axis];
    w->rows_each = j->rows;
    w->table = gram_diagonal(e, j, &code);
    return code;
}

uint64_t weight_bytes(const encoder *e, const job *j, uint64_t elements)
{
    if (j->beside.importance)
        return j->beside.importance->rows * j->beside.importance->cols * sizeof(float);
    return j->beside.weights
               ? elements * qz_element_size(qz_tensor_at(e->weights.file, j->beside.weights->tensor)->element)
               : 0;
}

void close_weights(weigher *w)
{
    free(w->buffer);
    free(w->table);
    w->buffer = NULL;
    w->table = NULL;
}

int open_weights(const encoder *e, const job *j, const block_plan *blocks, weigher *w)
{
    *w = (weigher){.item = j->beside.gram.matrix ? NULL : j->beside.weights};
    if (j->beside.gram.matrix)
        return open_diagonal(e, j, w);
    if (j->beside.importance)
        return open_importance(e, j, w);
    if (!w->item)
        return DONE;
    const qz_tensor *t = qz_tensor_at(e->weights.file, w->item->tensor);
    w->along = t->rank == 1;
    w->dtype = (qz_dtype)t->element;
    if (!w->along)
        grid_of(t, j->axis, 0, &w->grid);
    w->buffer = allocate_block(blocks, qz_dtype_size(w->dtype));
    return w->buffer ? DONE : LIMIT;
}

int read_weights(const encoder *e, weigher *w, const block *b)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    w->block = *b;
    if (!w->item)
        return DONE;
    if (w->along)
        return qz_read(e->weights.file, w->item->tensor, b->first[COLUMN], b->count[COLUMN], w->buffer, &error) ==
                       QZ_FILE_OK
                   ? DONE
                   : fail_file(&error);
    set_buffer_strides(&w->grid, &w->block);
    return read_block(e->weights.file, w->item->tensor, &w->grid, &w->block, qz_dtype_size(w->dtype), w->buffer,
                      &error) == QZ_FILE_OK
               ? DONE
               : fail_file(&error);
}

/* The row of the importance matrix for all rows of one outer index: these belong to one expert. */
static qz_matrix importance_matrix(const weigher *w, uint64_t outer)
{
    const block *b = &w->block;
    const uint64_t row = (b->row + outer * b->rows_apart) / w->rows_each;
    return (qz_matrix){w->table + row * w->cols + b->first[COLUMN], QZ_F32, b->count[INNER], b->count[COLUMN], 0, 1};
}

qz_matrix weights_matrix(const weigher *w, uint64_t outer)
{
    if (w->table)
        return importance_matrix(w, outer);
    qz_matrix m = block_matrix(&w->block, w->along ? 0 : outer, w->buffer, w->dtype);
    if (w->along) {
        m.row_stride = 0;
        m.col_stride = 1;
    }
    return m;
}
