/*
 * block.c - divides a tensor, seen as a matrix, into blocks of bounded size
 *
 * The places of blocks depend only on shape, order and scheme, never on threads or machine. So the same input gives the
 * same bytes and the same sums.
 */
#include "block.h"

#include <string.h>

#include "output.h"
#include "resources.h"

/* ---- grids ---- */

void grid_of(const qz_tensor *tensor, unsigned axis, int merge, grid *out)
{
    uint64_t strides[QZ_MAX_RANK] = {0}, step = 1;
    for (unsigned i = 0; i < tensor->rank; i++) {
        unsigned at = tensor->column_major ? i : tensor->rank - 1 - i;
        strides[at] = step;
        step *= tensor->shape[at]; /* 0 where nothing is to be read */
    }
    *out = (grid){.rows = 1, .cols = tensor->shape[axis], .col_stride = strides[axis]};
    unsigned n = 2; /* two places before, in case there are fewer than two axes */
    out->size[0] = out->size[1] = 1;
    for (unsigned i = 0; i < tensor->rank; i++) {
        if (i == axis)
            continue;
        out->rows *= tensor->shape[i];
        if (merge && n > 2 && out->stride[n - 1] == tensor->shape[i] * strides[i]) {
            out->size[n - 1] *= tensor->shape[i];
            out->stride[n - 1] = strides[i];
        } else {
            out->size[n] = tensor->shape[i];
            out->stride[n++] = strides[i];
        }
    }
    unsigned spare = n >= 4 ? 2 : n - 2; /* of the two places */
    memmove(out->size, out->size + spare, (n - spare) * sizeof out->size[0]);
    memmove(out->stride, out->stride + spare, (n - spare) * sizeof out->stride[0]);
    out->dims = n - spare;
}

/* The three dimensions of a block from the one whose elements lie together to the one with the longest stride. Those
 * of size 1 come last. */
static void by_stride(const grid *g, const uint64_t size[AXES], int order[AXES])
{
    const uint64_t strides[AXES] = {g->stride[g->dims - 2], g->stride[g->dims - 1], g->col_stride};
    for (int i = 0; i < AXES; i++) {
        int at = i;
        for (; at > 0; at--) {
            int other = order[at - 1];
            int before = (size[i] != 1) != (size[other] != 1) ? size[i] != 1 : strides[i] < strides[other];
            if (!before)
                break;
            order[at] = other;
        }
        order[at] = i;
    }
}

/* ---- blocks ---- */

void plan_blocks(const grid *g, uint64_t unit, int across, block_plan *out)
{
    /* 2^20 elements stay in a large cache together with their codes. Where rows do not run along the file, larger
     * blocks mean longer pieces, on the side of the floats or on that of the codes. */
    const uint64_t budget = UINT64_C(1) << (g->col_stride == 1 && !across ? 20 : 23);
    *out = (block_plan){g, {g->size[g->dims - 2], g->size[g->dims - 1], g->cols}, {1, 1, 1}};
    out->step[COLUMN] = unit < g->cols ? unit : g->cols;
    int order[AXES];
    by_stride(g, out->total, order);
    for (int i = 0; i < AXES; i++) {
        int axis = order[i];
        uint64_t others = 1, least = out->step[axis];
        for (int j = 0; j < AXES; j++)
            if (j != axis && out->step[j] != 0)
                others = others > budget / out->step[j] ? budget + 1 : others * out->step[j];
        uint64_t room = budget / others;
        if (least != 0)
            room -= room % least;
        if (room > out->total[axis])
            room = out->total[axis];
        if (room > least)
            out->step[axis] = room;
    }
}

uint64_t block_elements(const block_plan *plan)
{
    uint64_t n = plan->step[OUTER];
    /* Only a whole row can be larger than the budget, and its bytes were checked. */
    return n * plan->step[INNER] * plan->step[COLUMN];
}

void set_buffer_strides(const grid *g, block *b)
{
    int order[AXES];
    by_stride(g, b->count, order);
    uint64_t step = 1;
    for (int i = 0; i < AXES; i++) {
        b->buffer_stride[order[i]] = step;
        step *= b->count[order[i]];
    }
}

static uint64_t steps_of(const block_plan *plan, int axis)
{
    return plan->total[axis] / plan->step[axis] + (plan->total[axis] % plan->step[axis] != 0);
}

uint64_t block_count(const block_plan *plan)
{
    const grid *g = plan->grid;
    if (g->rows == 0 || g->cols == 0)
        return 0;
    uint64_t count = g->rows / plan->total[OUTER] / plan->total[INNER];
    for (int axis = 0; axis < AXES; axis++)
        count *= steps_of(plan, axis);
    return count;
}

void block_at(const block_plan *plan, uint64_t number, block *b)
{
    *b = (block){.rows_apart = plan->total[INNER]};
    for (int axis = AXES - 1; axis >= 0; axis--) {
        const uint64_t steps = steps_of(plan, axis);
        b->first[axis] = number % steps * plan->step[axis];
        number /= steps;
        const uint64_t left = plan->total[axis] - b->first[axis];
        b->count[axis] = left < plan->step[axis] ? left : plan->step[axis];
    }
    b->prefix = number;
    b->row = (b->prefix * plan->total[OUTER] + b->first[OUTER]) * plan->total[INNER] + b->first[INNER];
    set_buffer_strides(plan->grid, b);
}

int for_each_block(const block_plan *plan, block_work work, void *context)
{
    const uint64_t count = block_count(plan);
    int code = DONE;
    for (uint64_t i = 0; i < count && code == DONE; i++) {
        block b;
        block_at(plan, i, &b);
        code = stop_requested() ? 128 + stop_requested() : work(context, &b);
    }
    return code;
}

void block_done(const block *b)
{
    progress_add(b->count[OUTER] * b->count[INNER] * b->count[COLUMN]);
}

int is_contiguous(const block *b)
{
    return b->count[INNER] == b->rows_apart;
}

/* Reads (file) or writes (writer) a block: whole runs of elements that lie together in the file. */
static qz_file_result move_block(qz_file *file, qz_writer *writer, size_t tensor, const grid *g, const block *b,
                                 size_t element_bytes, char *buffer, qz_file_error *error)
{
    const uint64_t strides[AXES] = {g->stride[g->dims - 2], g->stride[g->dims - 1], g->col_stride};
    uint64_t start = 0, rest = b->prefix;
    for (unsigned i = g->dims - 2; i-- > 0; rest /= g->size[i])
        start += rest % g->size[i] * g->stride[i];
    for (int axis = 0; axis < AXES; axis++)
        start += b->first[axis] * strides[axis];

    /* The buffer has the order of the file, so runs that touch in the file touch in the buffer. */
    int order[AXES];
    by_stride(g, b->count, order);
    uint64_t run = 1, counts[AXES] = {1, 1, 1};
    int i = 0;
    for (; i < AXES && (strides[order[i]] == run || b->count[order[i]] == 1); i++)
        run *= b->count[order[i]];
    for (; i < AXES; i++)
        counts[i] = b->count[order[i]];
    qz_file_result result = QZ_FILE_OK;
    char *at = buffer;
    for (uint64_t z = 0; z < counts[2]; z++)
        for (uint64_t y = 0; y < counts[1]; y++)
            for (uint64_t x = 0; x < counts[0] && result == QZ_FILE_OK; x++) {
                uint64_t first = start + z * strides[order[2]] + y * strides[order[1]] + x * strides[order[0]];
                result = file ? qz_read(file, tensor, first, run, at, error)
                              : qz_write(writer, tensor, first, run, at, error);
                at += run * element_bytes;
            }
    return result;
}

qz_file_result read_block(qz_file *file, size_t tensor, const grid *g, const block *b, size_t element_bytes,
                          void *buffer, qz_file_error *error)
{
    return move_block(file, NULL, tensor, g, b, element_bytes, buffer, error);
}

qz_file_result write_block(qz_writer *writer, size_t tensor, const grid *g, const block *b, size_t element_bytes,
                           const void *buffer, qz_file_error *error)
{
    return move_block(NULL, writer, tensor, g, b, element_bytes, (char *)(uintptr_t)buffer, error);
}

qz_matrix block_matrix(const block *b, uint64_t outer, void *buffer, qz_dtype dtype)
{
    char *data = (char *)buffer + outer * b->buffer_stride[OUTER] * qz_dtype_size(dtype);
    return (qz_matrix){data,
                       dtype,
                       b->count[INNER],
                       b->count[COLUMN],
                       (int64_t)b->buffer_stride[INNER],
                       (int64_t)b->buffer_stride[COLUMN]};
}

void *allocate_block(const block_plan *plan, size_t element_bytes)
{
    uint64_t elements = block_elements(plan);
    return allocate(elements < UINT64_MAX / 8 ? elements * element_bytes : UINT64_MAX);
}
