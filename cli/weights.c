/*
 * weights.c - the weights of the tensors that are encoded
 */
#include "weights.h"

#include <string.h>

#include "output.h"

/* The weights of a tensor: the only array of their file, or the one of its name. */
static int find_weights(const encoder *e, job *j)
{
    const qz_tensor *t = qz_tensor_at(e->in.file, j->item->tensor);
    const item *only = e->weights.count == 1 ? &e->weights.items[0] : NULL;
    const item *named = source_find(&e->weights, t->name, t->name_length);
    j->weights = named ? named : e->in.count == 1 || !strcmp(qz_container(e->weights.file), "npy") ? only : NULL;
    if (!j->weights)
        return DONE;
    const qz_tensor *w = qz_tensor_at(e->weights.file, j->weights->tensor);
    uint64_t cols = t->shape[j->axis];
    int same = w->rank == t->rank && memcmp(w->shape, t->shape, t->rank * sizeof t->shape[0]) == 0;
    char name[NAME_TEXT], shape[SHAPE_TEXT], other[SHAPE_TEXT];
    qz_escape(t->name, t->name_length, name, sizeof name);
    if (j->weights->packed || !is_float(w->element))
        return fail(USAGE, "--weights: those of tensor '%s' are no floats", name);
    if (!same && (w->rank != 1 || w->count != cols))
        return fail(USAGE, "--weights: those of tensor '%s' have the shape %s; [%" PRIu64 "] or %s is needed", name,
                    shape_text(w->rank, w->shape, shape, 200), cols, shape_text(t->rank, t->shape, other, 200));
    return DONE;
}

int plan_weights(encoder *e)
{
    int code = source_open(e->s, e->s->weights, &e->weights);
    for (size_t i = 0; i < e->in.count && code == DONE; i++)
        if (e->jobs[i].encoded)
            code = find_weights(e, &e->jobs[i]);
    /* Weights that belong to no tensor are an error: they were meant for one. */
    for (size_t w = 0; w < e->weights.count && code == DONE; w++) {
        const item *i = &e->weights.items[w];
        size_t j = 0;
        while (j < e->in.count && e->jobs[j].weights != i)
            j++;
        char name[NAME_TEXT];
        if (j == e->in.count)
            code = fail(USAGE, "--weights: no tensor named '%s' is encoded",
                        qz_escape(i->name, i->name_length, name, sizeof name));
    }
    return code;
}

int open_weights(const encoder *e, const job *j, const block_plan *blocks, weigher *w)
{
    *w = (weigher){.item = j->weights};
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
    if (!w->item)
        return DONE;
    w->block = *b;
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

qz_matrix weights_matrix(const weigher *w, uint64_t outer)
{
    qz_matrix m = block_matrix(&w->block, w->along ? 0 : outer, w->buffer, w->dtype);
    if (w->along) {
        m.row_stride = 0;
        m.col_stride = 1;
    }
    return m;
}
