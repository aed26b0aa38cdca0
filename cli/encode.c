/*
 * encode.c - floats to 4 bits
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

typedef struct job { /* one tensor of the input */
    const item *item;
    int encoded;
    unsigned axis;
    qz_sizes sizes;
    size_t index;             /* of a copied tensor in the output */
    qz_packed_tensor *packed; /* of an encoded one */
    qz_stats stats;
} job;

typedef struct encoder {
    const settings *s;
    source in;
    qz_writer *writer;
    qz_scheme scheme;
    qz_method method;
    qz_pool *pool;
    job *jobs;
    uint64_t values, bytes_before, bytes_after; /* of the encoded tensors */
    double seconds;
} encoder;

/* ---- what to do ---- */

static int choose_scheme(encoder *e)
{
    const settings *s = e->s;
    e->scheme = *qz_scheme_by_name(s->scheme != NULL ? s->scheme : "int4");
    if (s->group_size != 0)
        e->scheme.group_size = s->group_size;
    if (s->scale_dtype != 0)
        e->scheme.scale_dtype = (qz_dtype)s->scale_dtype;
    e->method = s->method != 0 ? (qz_method)s->method : QZ_DEFAULT;
    if (qz_scheme_check(&e->scheme, e->method) == QZ_OK)
        return DONE;
    static const struct {
        qz_method method;
        const char *name;
    } all[] = {{QZ_MINMAX, "minmax"}, {QZ_ABSMAX, "absmax"}, {QZ_ABSMAX7, "absmax7"}};
    char list[80] = "";
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (qz_scheme_check(&e->scheme, all[i].method) == QZ_OK)
            snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", list[0] != '\0' ? " or " : "",
                     all[i].name);
    return fail(USAGE, "--method does not go with the scheme %s; use %s", e->scheme.name, list);
}

static int plan_tensor(encoder *e, job *j)
{
    const settings *s = e->s;
    const qz_tensor *t = qz_tensor_at(e->in.file, j->item->tensor);
    j->encoded = !j->item->packed && is_float(t->element) && t->rank != 0 && is_selected(s, j->item);
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
    if (qz_scheme_sizes(&e->scheme, rows, t->shape[j->axis], &j->sizes) != QZ_OK)
        return fail(LIMIT, "tensor '%s' is too large", name);
    e->values += t->count;
    e->bytes_before += t->bytes;
    e->bytes_after += j->sizes.total_bytes;
    return DONE;
}

static int plan(encoder *e)
{
    int code = check_rules(e->s, &e->in);
    e->jobs = calloc(e->in.count + 1, sizeof *e->jobs);
    if (e->jobs == NULL)
        return fail_memory();
    for (size_t i = 0; i < e->in.count && code == DONE; i++) {
        e->jobs[i].item = &e->in.items[i];
        e->jobs[i].stats = (qz_stats)QZ_STATS_INIT;
        code = plan_tensor(e, &e->jobs[i]);
    }
    return code;
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
    const size_t parts[] = {p.header, p.codes, p.scales, p.zeros};
    for (size_t i = 0; i < 4 && parts[i] != SIZE_MAX; i++)
        if (qz_declare(e->writer, qz_tensor_at(e->in.file, parts[i]), i == 0 ? &j->index : NULL, error) != QZ_FILE_OK)
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
    const size_t parts[] = {p.header, p.codes, p.scales, p.zeros};
    int code = DONE;
    for (size_t i = 0; i < 4 && parts[i] != SIZE_MAX && code == DONE; i++)
        code = copy_tensor(&e->in, parts[i], e->writer, j->index + i);
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

/* ---- blocks ---- */

/* Encodes one block that was read into `values`; *packed holds room for it. */
static int encode_block(encoder *e, job *j, const qz_tensor *t, const block *b, void *values, const qz_packed *memory)
{
    const settings *s = e->s;
    qz_options options = QZ_OPTIONS_INIT;
    options.method = e->method;
    options.nonfinite = (qz_nonfinite)s->nonfinite;
    options.pool = e->pool;
    qz_sizes sizes = {.size = sizeof sizes};
    if (qz_scheme_sizes(&e->scheme, 1, b->count[COLUMN], &sizes) != QZ_OK)
        return fail(INTERNAL, "a block has no size");
    int want_stats = s->stats || s->json;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    uint64_t inner = b->count[INNER];
    qz_packed packed = {memory->codes,
                        memory->scales,
                        memory->zeros,
                        (int64_t)sizes.code_bytes,
                        (int64_t)sizes.scale_bytes,
                        (int64_t)sizes.zero_bytes};
    /* Rows of several outer indices are one piece of the output if none is missing between them. */
    int together = inner == b->rows_apart;
    for (uint64_t o = 0; o < b->count[OUTER]; o++) {
        uint64_t row = b->row + o * b->rows_apart, done = together ? o * inner : 0;
        qz_packed part = packed;
        part.codes = (char *)packed.codes + done * sizes.code_bytes;
        part.scales = (char *)packed.scales + done * sizes.scale_bytes;
        part.zeros = packed.zeros != NULL ? (char *)packed.zeros + done * sizes.zero_bytes : NULL;
        qz_matrix matrix = block_matrix(b, o, values, (qz_dtype)t->element);
        qz_stats stats = QZ_STATS_INIT;
        qz_detail detail = QZ_DETAIL_INIT;
        qz_result result = qz_encode(&e->scheme, &matrix, &part, &options, want_stats ? &stats : NULL, &detail);
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

static int encode_tensor(encoder *e, job *j)
{
    const qz_tensor *t = qz_tensor_at(e->in.file, j->item->tensor);
    qz_file_error error = QZ_FILE_ERROR_INIT;
    grid g;
    block_plan blocks;
    block b;
    int started = 0;
    grid_of(t, j->axis, 1, &g);
    plan_blocks(&g, column_unit(&e->scheme, g.cols, 1), &blocks);
    qz_packed memory;
    size_t each = qz_element_size(t->element);
    int code = allocate_packed(&e->scheme, blocks.step[OUTER] * blocks.step[INNER], blocks.step[COLUMN], &memory);
    void *values = code == DONE ? allocate_block(&blocks, each) : NULL;
    if (code == DONE && values == NULL)
        code = LIMIT;
    while (code == DONE && next_block(&blocks, &b, &started)) {
        if (stop_requested())
            code = 128 + stop_requested();
        else if (read_block(e->in.file, j->item->tensor, &g, &b, each, values, &error) != QZ_FILE_OK)
            code = fail_file(&error);
        else
            code = encode_block(e, j, t, &b, values, &memory);
        progress_add(b.count[OUTER] * b.count[INNER] * b.count[COLUMN]);
    }
    free(values);
    free(memory.codes);
    return code;
}

static int encode_all(encoder *e)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    const qz_file *input = e->in.file;
    options.replace = e->s->force;
    options.no_fsync = e->s->no_fsync;
    options.inputs = &input;
    options.input_count = 1;
    int code = start_pool(e->s, e->values, &e->pool);
    if (code == DONE && !e->s->dry_run && qz_create(e->s->files[1], &options, &e->writer, &error) != QZ_FILE_OK)
        code = fail_file(&error);
    uint64_t work = 0;
    for (size_t i = 0; i < e->in.count && code == DONE; i++) {
        work += qz_tensor_at(e->in.file, e->jobs[i].item->tensor)->count;
        if (e->writer != NULL)
            code = declare(e, &e->jobs[i], &error);
    }
    progress_begin("encode", work);
    for (size_t i = 0; i < e->in.count && code == DONE; i++)
        if (e->jobs[i].encoded)
            code = encode_tensor(e, &e->jobs[i]);
        else if (e->writer != NULL)
            code = copy(e, &e->jobs[i]);
    progress_end();
    if (code == DONE && qz_unchanged(e->in.file, &error) != QZ_FILE_OK)
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
    json_text("scheme", e->scheme.name);
    json_text("scale_dtype", qz_dtype_name(e->scheme.scale_dtype));
    if (e->scheme.group_size == QZ_WHOLE_ROW)
        json_text("group_size", "row");
    else
        json_whole("group_size", e->scheme.group_size);
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
        if (j->encoded) {
            json_text("dtype", qz_element_name(t->element));
            json_shape("shape", t->rank, t->shape);
            json_whole("axis", j->axis);
            json_whole("bytes_before", t->bytes);
            json_whole("bytes_after", j->sizes.total_bytes);
            json_real("bits_per_value", j->sizes.bits_per_value);
        }
        if (j->encoded && measured)
            json_stats(&j->stats, t, j->axis);
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
        char name[NAME_TEXT], shape[SHAPE_TEXT];
        table_cell(&t, "%s", qz_escape(j->item->name, j->item->name_length, name, sizeof name));
        table_cell(&t, "%s", j->item->packed ? "quantized" : qz_element_name(tensor->element));
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
                                         "clipped", "zeroed",  "subnormal", "replaced"};
    table t;
    table_begin(&t, "lrrrlrrrr", titles);
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
        say("%s%s of floats became %s (%.4g bits a value) in %.2f s", s->dry_run ? "dry run: " : "",
            bytes_text((double)e.bytes_before), bytes_text((double)e.bytes_after),
            e.values != 0 ? 8.0 * (double)e.bytes_after / (double)e.values : 0.0, seconds);
    }
    for (size_t i = 0; e.jobs != NULL && i < e.in.count; i++)
        free(e.jobs[i].packed);
    free(e.jobs);
    qz_pool_destroy(e.pool);
    source_close(&e.in);
    return code;
}
