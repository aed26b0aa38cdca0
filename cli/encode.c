/*
 * encode.c - floats to 4 bits
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

/* Why a tensor stays as it is. */
typedef enum { ENCODED, PACKED, NO_FLOATS, SCALAR, BY_NAME, ONE_AXIS, SMALL, REASONS } reason;

static const char *const reasons[REASONS] = {NULL, "quantized", "no floats", "scalar", "by name", "one axis", "small"};

typedef struct job { /* one tensor of the input */
    const item *item;
    const item *weights; /* or NULL */
    int encoded;
    reason kept;
    unsigned axis;
    uint64_t rows;
    qz_sizes sizes;
    size_t index;             /* of a copied tensor in the output, the first one of several */
    qz_packed_tensor *packed; /* of an encoded one */
    qz_stats stats;
} job;

typedef struct encoder {
    const settings *s;
    source in, weights, table;
    qz_writer *writer;
    qz_scheme scheme;
    float numbers[16]; /* --table */
    qz_method method;
    qz_pool *pool;
    job *jobs;
    size_t floats;                              /* tensors that could be encoded */
    uint64_t values, bytes_before, bytes_after; /* of the encoded tensors */
} encoder;

/* ---- what to do ---- */

static int read_table(encoder *e)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    int code = source_open(e->s, e->s->table, &e->table);
    if (code != DONE)
        return code;
    const qz_tensor *t = e->table.count == 1 ? qz_tensor_at(e->table.file, e->table.items[0].tensor) : NULL;
    if (t == NULL || e->table.items[0].packed || t->count != 16 || t->element != QZ_ELEMENT_F32)
        return fail(USAGE, "--table: the file must hold one array, of sixteen float32 numbers");
    return qz_read(e->table.file, 0, 0, 16, e->numbers, &error) == QZ_FILE_OK ? DONE : fail_file(&error);
}

/* Options with which the scheme would be one that its rule makes, or nothing. */
static void reference_hint(const encoder *e, char *out, size_t out_size)
{
    static const qz_dtype types[] = {QZ_F32, QZ_F16, QZ_BF16, QZ_E4M3, QZ_E8M0, QZ_I6, QZ_U6};
    const qz_scheme *row = qz_scheme_by_name(e->s->scheme != NULL ? e->s->scheme : "int4");
    out[0] = '\0';
    for (size_t i = 0; i < 2 * sizeof types / sizeof types[0] && out[0] == '\0'; i++) {
        qz_scheme like = e->scheme;
        like.scale_dtype = types[i / 2];
        like.group_size = i % 2 == 0 ? e->scheme.group_size : row->group_size;
        if (qz_scheme_check(&like, QZ_REFERENCE) != QZ_OK)
            continue;
        snprintf(out, out_size, " unless it has %s scales in groups of %" PRIu64, qz_dtype_name(like.scale_dtype),
                 like.group_size);
    }
}

static int fail_method(const encoder *e)
{
    char hint[100] = "";
    if (e->method == QZ_REFERENCE)
        reference_hint(e, hint, sizeof hint);
    char list[160] = "";
    const char *names[16];
    size_t n = 0;
    for (int m = QZ_DEFAULT + 1; n < 16 && qz_method_name((qz_method)m) != NULL; m++)
        if (qz_scheme_check(&e->scheme, (qz_method)m) == QZ_OK)
            names[n++] = qz_method_name((qz_method)m);
    for (size_t i = 0; i < n; i++)
        list_words(list, sizeof list, names[i], i + 1 == n);
    return fail(USAGE, "--method %s does not go with the scheme %s%s; use %s", qz_method_name(e->method),
                e->scheme.name, hint, list);
}

static int choose_scheme(encoder *e)
{
    const settings *s = e->s;
    const qz_scheme *row = qz_scheme_by_name(s->scheme != NULL ? s->scheme : "int4");
    char text[SCHEME_TEXT];
    e->scheme = *row;
    e->method = (qz_method)s->method;
    scheme_text(row, text, sizeof text);
    if (s->table != NULL) {
        int code = read_table(e);
        if (code != DONE)
            return code;
        e->scheme.codes = QZ_TABLE;
        e->scheme.table = e->numbers;
        e->scheme.name = "table";
        e->scheme.rule = QZ_RULE_NONE;
        if (row->zero != QZ_ZERO_NONE || row->codes == QZ_DUAL)
            return fail(USAGE, "--table does not go with the scheme %s: choose one without zeros or tables of its own",
                        row->name);
        if (qz_scheme_check(&e->scheme, QZ_DEFAULT) != QZ_OK)
            return fail(USAGE, "--table: the numbers must be finite, at most 2^60, and not all equal%s",
                        row->positive ? "; some must be above 0, since scales of this scheme are" : "");
    }
    if (s->scale_dtype != 0)
        e->scheme.scale_dtype = (qz_dtype)s->scale_dtype;
    if (qz_scheme_check(&e->scheme, QZ_DEFAULT) != QZ_OK)
        return fail(USAGE, "--scale-dtype %s does not go with this scheme: %s", qz_dtype_name(e->scheme.scale_dtype),
                    text);
    if (s->group_size != 0)
        e->scheme.group_size = s->group_size;
    if (qz_scheme_check(&e->scheme, QZ_DEFAULT) != QZ_OK)
        return fail(USAGE,
                    "--group-size does not go with this scheme: %s; groups of at most 2048 must divide the values that "
                    "share a super scale, into 256 at most",
                    text);
    if (qz_scheme_check(&e->scheme, e->method) != QZ_OK)
        return fail_method(e);
    if (s->stochastic && e->method == QZ_REFERENCE)
        return fail(USAGE, "--seed does not go with --method reference, which rounds as another tool does");
    return DONE;
}

/* Whether a rule of another tool, if this is the method, takes rows of that length: asked by encoding none of them. */
static int takes_rows(const encoder *e, uint64_t rows, uint64_t cols)
{
    const float largest = 0;
    const qz_matrix none = {NULL, QZ_F32, 0, cols, 0, 1};
    const qz_packed nowhere = {0};
    const qz_whole whole = {sizeof whole, rows, cols, 0, 0, &largest};
    qz_options options = QZ_OPTIONS_INIT;
    options.method = e->method;
    options.whole = &whole;
    return qz_encode(&e->scheme, &none, &nowhere, &options, NULL, NULL) != QZ_ERROR_ARGUMENT;
}

/* The values of a tensor for which four bits are worth the three members that it becomes. */
enum { MIN_SIZE = 256 };

static uint64_t min_size(const settings *s)
{
    return s->min_size != UINT64_MAX ? s->min_size : MIN_SIZE;
}

/* Norms and biases have one axis, are small and matter more than others: they stay, unless --include names them or
 * there is nothing else that could be meant. */
static reason why_kept(const encoder *e, const item *i)
{
    const settings *s = e->s;
    const qz_tensor *t = qz_tensor_at(e->in.file, i->tensor);
    if (i->packed)
        return PACKED;
    if (!is_float(t->element))
        return NO_FLOATS;
    if (t->rank == 0)
        return SCALAR;
    if (!is_selected(s, i))
        return BY_NAME;
    if (is_included(s, i))
        return ENCODED;
    int alone = e->floats == 1;
    if (t->count < min_size(s) && (!alone || s->min_size != UINT64_MAX))
        return SMALL;
    return t->rank == 1 && !alone ? ONE_AXIS : ENCODED;
}

/* Says what stays as it is and might be thought to be encoded. */
static void say_kept(const encoder *e)
{
    uint64_t counts[REASONS] = {0};
    char text[400] = "";
    for (size_t i = 0; i < e->in.count; i++)
        counts[e->jobs[i].kept]++;
    if (counts[ONE_AXIS] != 0)
        snprintf(text, sizeof text, "%" PRIu64 " with one axis", counts[ONE_AXIS]);
    if (counts[SMALL] != 0)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%" PRIu64 " with fewer than %" PRIu64 " values",
                 text[0] != '\0' ? ", " : "", counts[SMALL], min_size(e->s));
    if (text[0] != '\0')
        say("tensors that stay as they are: %s; --include NAME encodes such a tensor", text);
    uint64_t raw = 0, voids = 0;
    for (size_t i = 0; i < e->in.count; i++) {
        const qz_tensor *t = qz_tensor_at(e->in.file, e->in.items[i].tensor);
        raw += t->element == QZ_ELEMENT_RAW;
        voids += t->element == QZ_ELEMENT_RAW && t->type[0] != '[' && strcmp(t->type + 1, "V2") == 0;
    }
    if (raw != 0)
        say("note: %" PRIu64 " %s of a type that cannot be quantized and %s copied%s", raw,
            raw == 1 ? "tensor is" : "tensors are", raw == 1 ? "is" : "are",
            voids != 0 ? "; if two-byte elements of no type (V2) are bfloat16, say so with --void2-as-bfloat16" : "");
}

static int plan_tensor(encoder *e, job *j)
{
    const settings *s = e->s;
    const qz_tensor *t = qz_tensor_at(e->in.file, j->item->tensor);
    j->kept = why_kept(e, j->item);
    j->encoded = j->kept == ENCODED;
    if (!j->encoded)
        return DONE;
    char name[NAME_TEXT];
    qz_escape(t->name, t->name_length, name, sizeof name);
    int64_t axis = s->axis < 0 ? s->axis + (int64_t)t->rank : s->axis;
    if (axis < 0 || axis >= (int64_t)t->rank)
        return fail(USAGE, "--axis %" PRId64 ": tensor '%s' has %u axes; use %d to %u, or --exclude it", s->axis, name,
                    t->rank, -(int)t->rank, t->rank - 1);
    j->axis = (unsigned)axis;
    uint64_t rows = 1;
    for (unsigned i = 0; i < t->rank; i++)
        if (i != j->axis)
            rows *= t->shape[i];
    j->sizes.size = sizeof j->sizes;
    j->rows = rows;
    if (qz_scheme_sizes(&e->scheme, rows, t->shape[j->axis], &j->sizes) != QZ_OK)
        return fail(LIMIT, "tensor '%s' is too large", name);
    if (!takes_rows(e, rows, t->shape[j->axis]))
        return fail(USAGE,
                    "--method reference: the rule %s takes %" PRIu64 " values at a time; tensor '%s' has %" PRIu64
                    " along axis %u, which is no multiple; use another --axis or --method, or --exclude it",
                    qz_rule_name(e->scheme.rule),
                    e->scheme.super_size != 0 && e->scheme.super_size < QZ_WHOLE_MATRIX ? e->scheme.super_size
                                                                                        : e->scheme.group_size,
                    name, t->shape[j->axis], j->axis);
    e->values += t->count;
    e->bytes_before += t->bytes;
    e->bytes_after += j->sizes.total_bytes;
    return DONE;
}

/* The weights of a tensor: the only array of their file, or the one of its name. */
static int find_weights(const encoder *e, job *j)
{
    const qz_tensor *t = qz_tensor_at(e->in.file, j->item->tensor);
    const item *only = e->weights.count == 1 ? &e->weights.items[0] : NULL;
    const item *named = source_find(&e->weights, t->name, t->name_length);
    j->weights = named != NULL                                                       ? named
                 : e->in.count == 1 || !strcmp(qz_container(e->weights.file), "npy") ? only
                                                                                     : NULL;
    if (j->weights == NULL)
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

static int plan_weights(encoder *e)
{
    int code = source_open(e->s, e->s->weights, &e->weights);
    for (size_t i = 0; i < e->in.count && code == DONE; i++)
        if (e->jobs[i].encoded)
            code = find_weights(e, &e->jobs[i]);
    /* What is not used was meant for something. */
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

static int plan(encoder *e)
{
    int code = check_rules(e->s, &e->in);
    e->jobs = calloc(e->in.count + 1, sizeof *e->jobs);
    if (e->jobs == NULL)
        return fail_memory();
    for (size_t i = 0; i < e->in.count; i++) {
        const qz_tensor *t = qz_tensor_at(e->in.file, e->in.items[i].tensor);
        e->floats += !e->in.items[i].packed && is_float(t->element) && t->rank != 0;
    }
    for (size_t i = 0; i < e->in.count && code == DONE; i++) {
        e->jobs[i].item = &e->in.items[i];
        e->jobs[i].stats = (qz_stats)QZ_STATS_INIT;
        code = plan_tensor(e, &e->jobs[i]);
    }
    return code == DONE && e->s->weights != NULL ? plan_weights(e) : code;
}

/* ---- doing it ---- */

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

/* ---- NaN and infinity ---- */

static int is_finite(qz_element element, const char *at)
{
    uint64_t wide;
    uint32_t word;
    uint16_t half;
    switch (element) {
    case QZ_ELEMENT_F64:
        memcpy(&wide, at, sizeof wide);
        return (wide & UINT64_C(0x7ff0000000000000)) != UINT64_C(0x7ff0000000000000);
    case QZ_ELEMENT_F32:
        memcpy(&word, at, sizeof word);
        return (word & 0x7f800000) != 0x7f800000;
    default:
        memcpy(&half, at, sizeof half);
        return element == QZ_ELEMENT_F16 ? (half & 0x7c00) != 0x7c00 : (half & 0x7f80) != 0x7f80;
    }
}

/* The index in C order of the element that is at place `at` in the file. */
static uint64_t flat_index(const qz_tensor *t, uint64_t at)
{
    uint64_t flat = 0, step = t->count;
    if (!t->column_major)
        return at;
    for (unsigned i = 0; i < t->rank; i++) {
        step /= t->shape[i];
        flat += at % t->shape[i] * step;
        at /= t->shape[i];
    }
    return flat;
}

/* A tensor cannot be encoded: reads all of it again, to say which element is the first in the tensor's own order, and
 * how many there are. Blocks and threads know neither. */
static int fail_nonfinite(encoder *e, const job *j, const qz_tensor *t)
{
    enum { PIECE = 1 << 20 };
    qz_file_error error = QZ_FILE_ERROR_INIT;
    size_t each = qz_element_size(t->element);
    uint64_t first = UINT64_MAX, count = 0, step = PIECE / each;
    char *buffer = malloc(PIECE);
    if (buffer == NULL)
        return fail_memory();
    for (uint64_t at = 0; at < t->count; at += step) {
        uint64_t n = t->count - at < step ? t->count - at : step;
        if (stop_requested() || qz_read(e->in.file, j->item->tensor, at, n, buffer, &error) != QZ_FILE_OK) {
            free(buffer);
            return stop_requested() ? 128 + stop_requested() : fail_file(&error);
        }
        for (uint64_t i = 0; i < n; i++)
            if (!is_finite(t->element, buffer + i * each)) {
                uint64_t flat = flat_index(t, at + i);
                first = flat < first ? flat : first;
                count++;
            }
    }
    free(buffer);
    char name[NAME_TEXT], place[SHAPE_TEXT];
    uint64_t index[QZ_MAX_RANK], rest = first;
    for (unsigned i = t->rank; i-- > 0; rest /= t->shape[i])
        index[i] = rest % t->shape[i];
    return fail(REFUSED,
                "tensor '%s' holds NaN or infinity, first at %s (flat index %" PRIu64 "), %" PRIu64
                " in all; --nonfinite clip makes NaN 0 and infinity the largest magnitude of its group",
                qz_escape(t->name, t->name_length, name, sizeof name), shape_text(t->rank, index, place, 200), first,
                count);
}

/* ---- weights ---- */

/* The weights of the blocks of a tensor, if it has some. */
typedef struct weigher {
    const item *item; /* NULL: there are none */
    int along;        /* one for each column, else of the shape of the tensor */
    qz_dtype dtype;
    grid grid;
    block block;
    void *buffer;
} weigher;

static int open_weights(const encoder *e, const job *j, const block_plan *blocks, weigher *w)
{
    *w = (weigher){.item = j->weights};
    if (w->item == NULL)
        return DONE;
    const qz_tensor *t = qz_tensor_at(e->weights.file, w->item->tensor);
    w->along = t->rank == 1;
    w->dtype = (qz_dtype)t->element;
    if (!w->along)
        grid_of(t, j->axis, 0, &w->grid);
    w->buffer = allocate_block(blocks, qz_dtype_size(w->dtype));
    return w->buffer != NULL ? DONE : LIMIT;
}

static int read_weights(const encoder *e, weigher *w, const block *b)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    if (w->item == NULL)
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

static qz_matrix weights_matrix(const weigher *w, uint64_t outer)
{
    qz_matrix m = block_matrix(&w->block, w->along ? 0 : outer, w->buffer, w->dtype);
    if (w->along) {
        m.row_stride = 0;
        m.col_stride = 1;
    }
    return m;
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

/* ---- results ---- */

static void print_json(const encoder *e, int measured)
{
    json_begin(NULL, '{');
    json_text("command", "encode");
    json_bool("written", !e->s->dry_run);
    json_scheme(&e->scheme);
    json_text("method", qz_method_name(e->method != QZ_DEFAULT ? e->method : e->scheme.method));
    if (e->s->stochastic)
        json_whole("seed", e->s->seed);
    json_whole("values", e->values);
    json_whole("bytes_before", e->bytes_before);
    json_whole("bytes_after", e->bytes_after);
    json_begin("tensors", '[');
    for (size_t i = 0; i < e->in.count; i++) {
        const job *j = &e->jobs[i];
        const qz_tensor *t = qz_tensor_at(e->in.file, j->item->tensor);
        json_begin(NULL, '{');
        json_name("name", j->item->name, j->item->name_length);
        json_text("action", j->encoded ? "encode" : "copy");
        if (!j->encoded)
            json_text("reason", reasons[j->kept]);
        if (j->encoded) {
            json_text("dtype", qz_element_name(t->element));
            json_shape("shape", t->rank, t->shape);
            json_whole("axis", j->axis);
            json_whole("bytes_before", t->bytes);
            json_whole("bytes_after", j->sizes.total_bytes);
            json_real("bits_per_value", j->sizes.bits_per_value);
        }
        if (j->encoded && measured)
            json_stats(&j->stats, t, j->axis, j->weights != NULL);
        json_end();
    }
    json_end();
    json_end();
}

static void print_plan(const encoder *e)
{
    static const char *const titles[] = {"name", "type", "shape", "action", "before", "after", "bits"};
    table t;
    table_begin(&t, "llllrrr", titles);
    for (size_t i = 0; i < e->in.count; i++) {
        const job *j = &e->jobs[i];
        const qz_tensor *tensor = qz_tensor_at(e->in.file, j->item->tensor);
        char name[NAME_TEXT], shape[SHAPE_TEXT], type[TYPE_TEXT];
        table_cell(&t, "%s", qz_escape(j->item->name, j->item->name_length, name, sizeof name));
        table_cell(&t, "%s", j->item->packed ? "quantized" : type_text(tensor, type, sizeof type));
        table_cell(&t, "%s", j->item->packed ? "" : shape_text(tensor->rank, tensor->shape, shape, sizeof shape));
        table_cell(&t, "%s", j->encoded ? e->scheme.name : "copy");
        table_cell(&t, "%s", j->item->packed ? "" : bytes_text((double)tensor->bytes));
        table_cell(&t, "%s", j->encoded ? bytes_text((double)j->sizes.total_bytes) : "");
        if (j->encoded)
            table_cell(&t, "%.4g", j->sizes.bits_per_value);
        else
            table_cell(&t, "%s", "");
    }
    table_print(&t);
}

static void print_stats(const encoder *e)
{
    static const char *const titles[] = {"name",    "SQNR dB", "RMSE",      "largest error", "at",
                                         "clipped", "zeroed",  "subnormal", "replaced",      "weighted dB"};
    table t;
    table_begin(&t, e->weights.file != NULL ? "lrrrlrrrrr" : "lrrrlrrrr", titles);
    for (size_t i = 0; i < e->in.count; i++) {
        const job *j = &e->jobs[i];
        const qz_tensor *tensor = qz_tensor_at(e->in.file, j->item->tensor);
        if (!j->encoded)
            continue;
        stats_cells(&t, j->item, &j->stats, tensor, j->axis);
        table_cell(&t, "%" PRIu64, j->stats.clipped);
        table_cell(&t, "%" PRIu64, j->stats.zeroed_groups);
        table_cell(&t, "%" PRIu64, j->stats.subnormal_scales);
        table_cell(&t, "%" PRIu64, j->stats.replaced);
        if (j->weights != NULL)
            table_cell(&t, "%.2f", weighted_sqnr(&j->stats));
        else if (e->weights.file != NULL)
            table_cell(&t, "%s", "");
    }
    table_print(&t);
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
        code = plan(&e);
    if (code == DONE && (!s->dry_run || s->stats))
        code = encode_all(&e);
    if (code == DONE) {
        double seconds = seconds_now() - start;
        if (s->json)
            print_json(&e, measured);
        else if (s->dry_run)
            print_plan(&e);
        if (s->stats && !s->json)
            print_stats(&e);
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
