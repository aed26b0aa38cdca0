/*
 * verify.c - the command verify: reads and decodes everything in a file, to check that it is valid
 *
 * Reading verifies checksums, and decoding verifies that packed values keep their format (packed_block.h). If there is
 * an original, the command compare then measures the error against it.
 */
#include "commands.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "json.h"
#include "output.h"
#include "packed_block.h"
#include "resources.h"
#include "results.h"
#include "source.h"
#include "stats.h"
#include "table.h"

typedef struct verifier {
    const settings *s;
    source in;
    qz_pool *pool;
    uint64_t *nonfinite; /* of each item: NaN and infinity among floats that are not quantized, which may be meant */
    uint64_t *bytes;     /* of each item */
    uint64_t values, all_bytes;
    size_t packed;
} verifier;

/* ---- quantized tensors ---- */

typedef struct decoding {
    verifier *v;
    packed_reader reader;
    grid grid;
    float *values;
} decoding;

/* The scales may be finite and a product with one of them too large all the same. */
static int check_values(const decoding *d, const block *b, uint64_t outer)
{
    const qz_matrix m = block_matrix(b, outer, d->values, QZ_F32);
    const float *values = m.data;
    for (uint64_t row = 0; row < m.rows; row++)
        for (uint64_t col = 0; col < m.cols; col++)
            if (!isfinite(values[(int64_t)row * m.row_stride + (int64_t)col * m.col_stride])) {
                char name[NAME_TEXT], at[SHAPE_TEXT];
                const qz_tensor *t = &d->reader.tensor;
                uint64_t index[QZ_MAX_RANK];
                matrix_index(t, d->reader.packed.axis, b->row + outer * b->rows_apart + row, b->first[COLUMN] + col,
                             index);
                at_index(t, index);
                return fail(MALFORMED, "tensor '%s': the value at %s decodes to NaN or infinity",
                            qz_escape(t->name, t->name_length, name, sizeof name),
                            shape_text(t->rank, index, at, sizeof at));
            }
    return DONE;
}

static int decode_and_check(void *context, const block *given)
{
    decoding *d = context;
    block b = *given;
    set_buffer_strides(&d->grid, &b);
    int code = decode_block(&d->reader, &b, d->values, QZ_F32, d->v->pool);
    for (uint64_t outer = 0; outer < b.count[OUTER] && code == DONE; outer++)
        code = check_values(d, &b, outer);
    block_done(&b);
    return code;
}

static int verify_packed(verifier *v, const item *i)
{
    decoding d = {.v = v};
    block_plan plan;
    int code = open_packed(&v->in, i, &d.reader);
    if (code != DONE)
        return code;
    grid_of(&d.reader.tensor, d.reader.packed.axis, 0, &d.grid);
    plan_blocks(&d.grid, column_unit(&d.reader.packed.scheme, d.grid.cols, 0), lies_across(&d.reader.packed), &plan);
    d.values = allocate_block(&plan, sizeof *d.values);
    code = d.values ? allocate_packed_blocks(&d.reader, &plan) : LIMIT;
    if (code == DONE)
        code = for_each_block(&plan, decode_and_check, &d);
    free(d.values);
    close_packed(&d.reader);
    return code;
}

/* ---- others ---- */

typedef struct counting {
    qz_element element;
    uint64_t *nonfinite;
} counting;

/* Whether all bits of the exponent are set. */
static int is_nonfinite(qz_element element, const void *values, uint64_t i)
{
    switch (element) {
    case QZ_ELEMENT_F32:
        return !isfinite(((const float *)values)[i]);
    case QZ_ELEMENT_F64:
        return !isfinite(((const double *)values)[i]);
    case QZ_ELEMENT_F16:
        return (((const uint16_t *)values)[i] & 0x7c00) == 0x7c00;
    default:
        return (((const uint16_t *)values)[i] & 0x7f80) == 0x7f80;
    }
}

static int count_nonfinite(void *context, uint64_t first, uint64_t count, const void *data)
{
    const counting *c = context;
    (void)first;
    for (uint64_t i = 0; i < count && is_float(c->element); i++)
        *c->nonfinite += (uint64_t)is_nonfinite(c->element, data, i);
    progress_add(count);
    return DONE;
}

static int verify_plain(verifier *v, size_t place)
{
    size_t tensor = v->in.items[place].tensor;
    counting c = {qz_tensor_at(v->in.file, tensor)->element, &v->nonfinite[place]};
    return for_each_piece(&v->in, tensor, count_nonfinite, &c);
}

/* ---- results ---- */

static void json_totals(const void *of)
{
    const verifier *v = of;
    json_text("command", v->s->command);
    json_name("file", v->s->files[0], strlen(v->s->files[0]));
    json_text("container", qz_container(v->in.file));
    json_whole("bytes", qz_file_bytes(v->in.file));
    json_whole("values", v->values);
    json_whole("quantized", v->packed);
    if (qz_note(v->in.file))
        json_text("note", qz_note(v->in.file));
}

static void json_tensor(const void *of, size_t i)
{
    const verifier *v = of;
    json_name("name", v->in.items[i].name, v->in.items[i].name_length);
    json_text("action", "verify");
    json_bool("quantized", v->in.items[i].packed);
    json_whole("bytes", v->bytes[i]);
    json_whole("nonfinite", v->nonfinite[i]);
}

static const char *tensor_name(const void *of, size_t i, size_t *length)
{
    const verifier *v = of;
    *length = v->in.items[i].name_length;
    return v->in.items[i].name;
}

static results results_of(const verifier *v)
{
    return (results){v->s, v, v->in.count, json_totals, json_tensor, tensor_name, NULL};
}

/* NaN and infinity may be meant, as in masks. */
static void say_nonfinite(const verifier *v)
{
    for (size_t i = 0; i < v->in.count; i++) {
        char name[NAME_TEXT];
        if (v->nonfinite[i] != 0)
            say("tensor '%s' is not quantized and holds %" PRIu64 " NaN or infinite %s",
                qz_escape(v->in.items[i].name, v->in.items[i].name_length, name, sizeof name), v->nonfinite[i],
                v->nonfinite[i] == 1 ? "value" : "values");
    }
}

static void print_verified(const verifier *v)
{
    const results r = results_of(v);
    results_end(&r, DONE);
    if (!wants_numbers(v->s))
        printf("%s: sound, %zu %s, %zu of them quantized; %" PRIu64 " values in %s\n", qz_container(v->in.file),
               v->in.count, v->in.count == 1 ? "tensor" : "tensors", v->packed, v->values,
               bytes_text((double)qz_file_bytes(v->in.file)));
}

static int prepare(verifier *v)
{
    int code = source_open(v->s, v->s->files[0], &v->in);
    if (code != DONE)
        return code;
    v->nonfinite = calloc(v->in.count + 1, sizeof *v->nonfinite);
    v->bytes = calloc(v->in.count + 1, sizeof *v->bytes);
    if (!v->nonfinite || !v->bytes)
        return fail_memory();
    uint64_t work = 0;
    for (size_t i = 0; i < v->in.count && code == DONE; i++) {
        qz_packed_tensor packed;
        qz_tensor t;
        code = source_tensor(&v->in, &v->in.items[i], &t, &packed);
        if (code != DONE)
            break;
        v->packed += v->in.items[i].packed != 0;
        v->values += item_count(&t);
        v->all_bytes += v->bytes[i] = t.bytes;
        work += t.count;
    }
    if (code == DONE)
        code = start_pool(v->s, work, &v->pool);
    const results r = results_of(v);
    if (code == DONE)
        results_plan(&r, v->all_bytes);
    progress_begin("verify", code == DONE ? work : 0);
    return code;
}

static int verify_file(verifier *v)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    int code = prepare(v);
    const results r = results_of(v);
    for (size_t i = 0; i < v->in.count && code == DONE; i++) {
        results_begin_tensor(&r, i);
        code = v->in.items[i].packed ? verify_packed(v, &v->in.items[i]) : verify_plain(v, i);
        if (code == DONE)
            results_tensor(&r, i);
    }
    progress_end();
    if (code == DONE && qz_unchanged(v->in.file, &error) != QZ_FILE_OK)
        code = fail_file(&error);
    return code;
}

/* What compare says of the original and the file; it prints the result of the whole command. */
static int compare_with_original(const settings *s)
{
    settings compared = *s;
    compared.files[0] = s->files[1];
    compared.files[1] = s->files[0];
    return run_compare(&compared);
}

int run_verify(const settings *s)
{
    verifier v = {.s = s};
    if (s->file_count == 1 && !isnan(s->goal.min_sqnr))
        return fail(USAGE, "--min-sqnr needs the original to compare with: quantize verify FILE ORIGINAL");
    int code = verify_file(&v);
    if (code == DONE)
        say_nonfinite(&v);
    if (code == DONE && s->file_count == 1)
        print_verified(&v);
    qz_pool_destroy(v.pool);
    free(v.nonfinite);
    free(v.bytes);
    source_close(&v.in);
    return code == DONE && s->file_count == 2 ? compare_with_original(s) : code;
}
