/*
 * block.c - a tensor as a matrix, in blocks of bounded size
 *
 * Where blocks lie depends on shape, order and scheme only, never on threads or machine: the same input gives the same
 * bytes and the same sums.
 */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

void plan_blocks(const grid *g, uint64_t unit, block_plan *out)
{
    /* 2^21 elements stay in a large cache together with their codes. Where rows do not run along the file, larger
     * blocks mean longer pieces, on the side of the floats or on that of the codes. */
    const uint64_t budget = UINT64_C(1) << (g->col_stride == 1 ? 21 : 23);
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

int next_block(const block_plan *plan, block *b, int *started)
{
    const grid *g = plan->grid;
    if (g->rows == 0 || g->cols == 0)
        return 0;
    if (!*started) {
        *b = (block){0};
        *started = 1;
    } else {
        int axis = AXES - 1;
        for (; axis >= 0; axis--) {
            b->first[axis] += plan->step[axis];
            if (b->first[axis] < plan->total[axis])
                break;
            b->first[axis] = 0;
        }
        if (axis < 0 && ++b->prefix == g->rows / plan->total[OUTER] / plan->total[INNER])
            return 0;
    }
    for (int axis = 0; axis < AXES; axis++) {
        uint64_t left = plan->total[axis] - b->first[axis];
        b->count[axis] = left < plan->step[axis] ? left : plan->step[axis];
    }
    b->rows_apart = plan->total[INNER];
    b->row = (b->prefix * plan->total[OUTER] + b->first[OUTER]) * plan->total[INNER] + b->first[INNER];
    set_buffer_strides(g, b);
    return 1;
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
                result = file != NULL ? qz_read(file, tensor, first, run, at, error)
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

uint64_t column_unit(const qz_scheme *scheme, uint64_t cols, int encoding)
{
    /* Two groups, so that neither a byte of codes nor a byte of zeros is divided; nor are the columns of a super scale
     * that has but a part of a row. */
    int supers = scheme->super_size != 0 && scheme->super_size < QZ_WHOLE_MATRIX;
    uint64_t size = supers ? scheme->super_size : scheme->group_size;
    if (size >= cols)
        return !encoding && !supers ? 2 : cols != 0 ? cols : 1;
    if (size / scheme->group_size % 2 != 0)
        size *= 2;
    return size < cols ? size : cols;
}

/* malloc, but not of what the machine does not have: a block is large only where a file asks for a group that is, and a
 * system that promises more than it has would kill us later. */
void *allocate(uint64_t bytes)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t half = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page / 2 : UINT64_MAX;
    if (bytes >= SIZE_MAX / 2 || (bytes > half && bytes > UINT64_C(1) << 28)) {
        fail(LIMIT, "%s of memory would be needed, since rows and groups this long are not divided; use smaller groups",
             bytes_text((double)bytes));
        return NULL;
    }
    void *memory = malloc((size_t)bytes + 1);
    if (memory == NULL)
        fail_memory();
    return memory;
}

void *allocate_block(const block_plan *plan, size_t element_bytes)
{
    uint64_t elements = block_elements(plan);
    return allocate(elements < UINT64_MAX / 8 ? elements * element_bytes : UINT64_MAX);
}

int allocate_packed(const qz_scheme *scheme, uint64_t rows, uint64_t cols, qz_packed *packed)
{
    qz_sizes sizes = {.size = sizeof sizes};
    *packed = (qz_packed){0};
    if (qz_scheme_sizes(scheme, rows, cols, &sizes) != QZ_OK)
        return fail(LIMIT, "a block of this tensor is too large for memory");
    /* Scales first would be better aligned, but no pointer needs to be. */
    char *memory = allocate(sizes.total_bytes);
    if (memory == NULL)
        return LIMIT;
    packed->codes = memory;
    packed->scales = memory + rows * sizes.code_bytes;
    packed->zeros = sizes.zero_bytes != 0 ? memory + rows * (sizes.code_bytes + sizes.scale_bytes) : NULL;
    packed->supers =
        sizes.super_bytes != 0 ? memory + rows * (sizes.code_bytes + sizes.scale_bytes + sizes.zero_bytes) : NULL;
    return DONE;
}

int shape_packed(const qz_scheme *scheme, uint64_t cols, qz_packed *packed, qz_sizes *sizes)
{
    *sizes = (qz_sizes){.size = sizeof *sizes};
    if (qz_scheme_sizes(scheme, 1, cols, sizes) != QZ_OK)
        return fail(INTERNAL, "a block has no size");
    packed->code_stride = (int64_t)sizes->code_bytes;
    packed->scale_stride = (int64_t)sizes->scale_bytes;
    packed->zero_stride = (int64_t)sizes->zero_bytes;
    packed->super_stride = scheme->super_size == QZ_WHOLE_MATRIX ? 0 : (int64_t)sizes->super_bytes;
    return DONE;
}

qz_packed packed_row(const qz_scheme *scheme, const qz_packed *packed, uint64_t row)
{
    qz_packed from = *packed;
    from.codes = (char *)packed->codes + row * (uint64_t)packed->code_stride;
    from.scales = (char *)packed->scales + row * (uint64_t)packed->scale_stride;
    if (packed->zeros != NULL)
        from.zeros = (char *)packed->zeros + row * (uint64_t)packed->zero_stride;
    if (packed->supers != NULL && scheme->super_size != QZ_WHOLE_MATRIX)
        from.supers = (char *)packed->supers + row * (uint64_t)packed->super_stride;
    return from;
}

/* ---- statistics ---- */

void add_stats(qz_stats *sum, const qz_stats *part, uint64_t row, uint64_t col, uint64_t part_cols, uint64_t cols)
{
    if (part->count != 0) {
        uint64_t at = (row + part->max_index / part_cols) * cols + col + part->max_index % part_cols;
        if (sum->count == 0 || part->max_error > sum->max_error ||
            (part->max_error == sum->max_error && at < sum->max_index)) {
            sum->max_error = part->max_error;
            sum->max_index = at;
        }
    }
    sum->count += part->count;
    sum->signal += part->signal;
    sum->error += part->error;
    sum->clipped += part->clipped;
    sum->zeroed_groups += part->zeroed_groups;
    sum->subnormal_scales += part->subnormal_scales;
    sum->replaced += part->replaced;
    sum->weighted_signal += part->weighted_signal;
    sum->weighted_error += part->weighted_error;
}

static double decibels(double signal, double error)
{
    return error > 0 ? 10 * log10(signal / error) : INFINITY;
}

double sqnr(const qz_stats *s)
{
    return decibels(s->signal, s->error);
}

double weighted_sqnr(const qz_stats *s)
{
    return decibels(s->weighted_signal, s->weighted_error);
}

double rmse(const qz_stats *s)
{
    return s->count != 0 ? sqrt(s->error / (double)s->count) : 0;
}

void matrix_index(const qz_tensor *t, unsigned axis, uint64_t row, uint64_t col, uint64_t *index)
{
    for (unsigned i = t->rank; i-- > 0;)
        if (i == axis) {
            index[i] = col;
        } else if (t->shape[i] == 0) {
            index[i] = 0; /* an empty tensor has no element to speak of */
        } else {
            index[i] = row % t->shape[i];
            row /= t->shape[i];
        }
}

static void worst_index(const qz_stats *s, const qz_tensor *t, unsigned axis, uint64_t *index)
{
    uint64_t cols = t->shape[axis];
    matrix_index(t, axis, cols != 0 ? s->max_index / cols : 0, cols != 0 ? s->max_index % cols : 0, index);
}

void stats_cells(table *t, const item *i, const qz_stats *stats, const qz_tensor *tensor, unsigned axis)
{
    char text[SHAPE_TEXT];
    uint64_t index[QZ_MAX_RANK];
    table_cell(t, "%s", qz_escape(i->name, i->name_length, text, NAME_TEXT));
    table_cell(t, "%.2f", sqnr(stats));
    table_cell(t, "%.4g", rmse(stats));
    table_cell(t, "%.4g", stats->max_error);
    worst_index(stats, tensor, axis, index);
    table_cell(t, "%s", stats->count != 0 ? shape_text(tensor->rank, index, text, sizeof text) : "");
}

void json_stats(const qz_stats *stats, const qz_tensor *tensor, unsigned axis, int weighted)
{
    uint64_t index[QZ_MAX_RANK];
    worst_index(stats, tensor, axis, index);
    json_begin("stats", '{');
    json_whole("count", stats->count);
    json_real("sqnr_db", sqnr(stats));
    if (weighted)
        json_real("weighted_sqnr_db", weighted_sqnr(stats));
    json_real("rmse", rmse(stats));
    json_real("max_error", stats->max_error);
    if (stats->count != 0)
        json_shape("max_error_at", tensor->rank, index);
    else
        json_null("max_error_at");
    json_whole("clipped", stats->clipped);
    json_whole("zeroed_groups", stats->zeroed_groups);
    json_whole("subnormal_scales", stats->subnormal_scales);
    json_whole("replaced", stats->replaced);
    json_end();
}

/* ---- failures ---- */

int fail_quantize(qz_result result, const qz_tensor *tensor, unsigned axis, uint64_t row, uint64_t col,
                  const qz_detail *detail)
{
    char name[NAME_TEXT], at[SHAPE_TEXT];
    uint64_t index[QZ_MAX_RANK];
    qz_escape(tensor->name, tensor->name_length, name, sizeof name);
    matrix_index(tensor, axis, row, col, index);
    shape_text(tensor->rank, index, at, 200);
    switch (result) {
    case QZ_ERROR_RANGE:
        return fail(REFUSED, "tensor '%s': the value %g at %s does not fit; %" PRIu64 " such in this part", name,
                    detail->value, at, detail->count);
    case QZ_ERROR_SCALE:
        return fail(REFUSED,
                    "tensor '%s': the scale or offset of the group at %s, whose largest magnitude is %g, does not fit "
                    "its type; use --scale-dtype float32 or bfloat16, or a scheme that can have these",
                    name, at, detail->value);
    case QZ_ERROR_WEIGHT:
        return fail(REFUSED, "tensor '%s': its weight at %s, %g, is negative, NaN or infinite", name, at,
                    detail->value);
    case QZ_ERROR_PACKED:
        return fail(MALFORMED, "tensor '%s': the packed data breaks its format in the group at %s", name, at);
    case QZ_ERROR_SIZE:
    case QZ_ERROR_MEMORY:
        return fail(LIMIT, "tensor '%s': %s", name, qz_result_text(result));
    case QZ_ERROR_ARGUMENT:
        return fail(USAGE, "tensor '%s': %s", name, qz_result_text(result));
    case QZ_ERROR_KERNELS:
        return fail(USAGE, "%s", qz_result_text(result));
    default:
        return fail(INTERNAL, "tensor '%s': %s", name, qz_result_text(result));
    }
}

int check_packed(const source *in, const item *i)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_packed_tensor p = {.size = sizeof p};
    qz_packed memory = {0};
    qz_tensor t;
    grid g;
    block_plan blocks;
    block b;
    int started = 0, code = source_tensor(in, i, &t, &p);
    if (code != DONE)
        return code;
    /* The matrix itself, row after row: the order of the parts in the file. */
    uint64_t shape[2] = {p.rows, p.cols};
    qz_tensor matrix = {.rank = 2, .shape = shape};
    grid_of(&matrix, 1, 1, &g);
    plan_blocks(&g, column_unit(&p.scheme, g.cols, 0), &blocks);
    code = allocate_packed(&p.scheme, blocks.step[INNER], blocks.step[COLUMN], &memory);
    while (code == DONE && next_block(&blocks, &b, &started)) {
        qz_sizes sizes;
        qz_detail detail = QZ_DETAIL_INIT;
        code = shape_packed(&p.scheme, b.count[COLUMN], &memory, &sizes);
        if (code != DONE)
            break;
        if (stop_requested())
            code = 128 + stop_requested();
        else if (qz_packed_read(in->file, &p, b.row, b.count[INNER], b.first[COLUMN], b.count[COLUMN], &memory,
                                &error) != QZ_FILE_OK)
            code = fail_file(&error);
        else if (qz_validate(&p.scheme, &memory, b.count[INNER], b.count[COLUMN], &detail) != QZ_OK)
            code = fail_quantize(QZ_ERROR_PACKED, &t, p.axis, b.row + detail.group / sizes.row_groups,
                                 b.first[COLUMN] + detail.group % sizes.row_groups * p.scheme.group_size, &detail);
    }
    free(memory.codes);
    return code;
}

int start_pool(const settings *s, uint64_t elements, qz_pool **pool)
{
    /* Below a million values, starting threads costs more than they save. */
    uint64_t threads = s->threads != 0 ? s->threads : elements < (1u << 20) ? 1 : 0;
    *pool = NULL;
    if (threads == 1)
        return DONE;
    qz_result result = qz_pool_create((size_t)threads, pool);
    return result == QZ_OK ? DONE : fail(LIMIT, "threads cannot be started: %s", qz_result_text(result));
}
