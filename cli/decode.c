/*
 * decode.c - 4 bits to floats
 */
#include "commands.h"

#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "json.h"
#include "output.h"
#include "packed_block.h"
#include "resources.h"
#include "source.h"
#include "target.h"

typedef struct decoder {
    const settings *s;
    source in;
    qz_writer *writer;
    qz_dtype dtype;
    qz_pool *pool;
    const item **items; /* what is written */
    size_t *indices;    /* where to */
    size_t count;
} decoder;

static int choose_items(decoder *d)
{
    const settings *s = d->s;
    size_t length = strlen(s->files[1]);
    int single = length >= 4 && strcmp(s->files[1] + length - 4, ".npy") == 0;
    d->items = calloc(d->in.count + 1, sizeof(void *));
    d->indices = calloc(d->in.count + 1, sizeof *d->indices);
    if (!d->items || !d->indices)
        return fail_memory();
    if (s->tensor) {
        char name[NAME_TEXT];
        d->items[0] = source_find(&d->in, s->tensor, strlen(s->tensor));
        d->count = 1;
        if (!d->items[0])
            return fail(USAGE, "--tensor '%s': there is none of this name; 'quantize info' lists the names",
                        qz_escape(s->tensor, strlen(s->tensor), name, sizeof name));
        return DONE;
    }
    if (single && d->in.count != 1)
        return fail(USAGE, "the input holds %zu tensors, a .npy file one; choose one with --tensor, or write a .npz",
                    d->in.count);
    for (; d->count < d->in.count; d->count++)
        d->items[d->count] = &d->in.items[d->count];
    return DONE;
}

static int declare(decoder *d, const item *i, size_t *index, uint64_t *values, uint64_t *work)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_packed_tensor packed;
    qz_tensor t;
    int code = source_tensor(&d->in, i, &t, &packed);
    if (code != DONE)
        return code;
    if (i->packed) {
        t.element = (qz_element)d->dtype;
        *values += t.count;
    }
    *work += t.count;
    return qz_declare(d->writer, &t, index, &error) == QZ_FILE_OK ? DONE : fail_file(&error);
}

/* One tensor on its way to the output. */
typedef struct decoding {
    decoder *decoder;
    packed_reader reader;
    size_t index; /* in the output */
    grid grid;
    void *values;
} decoding;

static int decode_and_write(void *context, const block *b)
{
    decoding *w = context;
    decoder *d = w->decoder;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    int code = decode_block(&w->reader, b, w->values, d->dtype, d->pool);
    if (code == DONE &&
        write_block(d->writer, w->index, &w->grid, b, qz_dtype_size(d->dtype), w->values, &error) != QZ_FILE_OK)
        code = fail_file(&error);
    block_done(b);
    return code;
}

static int decode_tensor(decoder *d, const item *i, size_t index)
{
    decoding w = {.decoder = d, .index = index};
    block_plan blocks;
    int code = open_packed(&d->in, i, &w.reader);
    if (code != DONE)
        return code;
    const qz_packed_tensor *packed = &w.reader.packed;
    grid_of(&w.reader.tensor, packed->axis, 1, &w.grid);
    plan_blocks(&w.grid, column_unit(&packed->scheme, w.grid.cols, 0), &blocks);
    code = allocate_packed_blocks(&w.reader, &blocks);
    if (code == DONE) {
        w.values = allocate_block(&blocks, qz_dtype_size(d->dtype));
        code = w.values ? for_each_block(&blocks, decode_and_write, &w) : LIMIT;
    }
    free(w.values);
    close_packed(&w.reader);
    return code;
}

static int decode_all(decoder *d)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    const qz_file *input = d->in.file;
    qz_create_options options = target_options(d->s, &input, 1);
    int code = target_open(d->s, &d->in, &options, &d->writer);
    uint64_t values = 0, work = 0;
    for (size_t i = 0; i < d->count && code == DONE; i++)
        code = declare(d, d->items[i], &d->indices[i], &values, &work);
    if (code == DONE)
        code = target_copy_beside(d->s, &d->in, d->writer, NULL);
    if (code == DONE)
        code = start_pool(d->s, values, &d->pool);
    progress_begin("decode", work);
    for (size_t i = 0; i < d->count && code == DONE; i++)
        code = d->items[i]->packed ? decode_tensor(d, d->items[i], d->indices[i])
                                   : copy_tensor(&d->in, d->items[i]->tensor, d->writer, d->indices[i]);
    progress_end();
    if (code == DONE && qz_unchanged(d->in.file, &error) != QZ_FILE_OK)
        code = fail_file(&error);
    if (code == DONE && stop_requested())
        code = 128 + stop_requested();
    if (code != DONE) {
        qz_abort(d->writer);
        return code;
    }
    return qz_commit(d->writer, &error) == QZ_FILE_OK ? DONE : fail_file(&error);
}

static int print_json(const decoder *d)
{
    json_begin(NULL, '{');
    json_text("command", "decode");
    json_begin("tensors", '[');
    for (size_t i = 0; i < d->count; i++) {
        qz_packed_tensor packed;
        qz_tensor t;
        int code = source_tensor(&d->in, d->items[i], &t, &packed);
        if (code != DONE)
            return code;
        json_begin(NULL, '{');
        json_name("name", t.name, t.name_length);
        json_text("action", d->items[i]->packed ? "decode" : "copy");
        json_text("dtype", d->items[i]->packed           ? qz_dtype_name(d->dtype)
                           : t.element == QZ_ELEMENT_RAW ? t.type
                                                         : qz_element_name(t.element));
        json_shape("shape", t.rank, t.shape);
        json_end();
    }
    json_end();
    json_end();
    return DONE;
}

int run_decode(const settings *s)
{
    decoder d = {.s = s, .dtype = s->dtype != 0 ? (qz_dtype)s->dtype : QZ_F32};
    double start = seconds_now();
    int code = source_open(s, s->files[0], &d.in);
    if (code == DONE)
        code = choose_items(&d);
    if (code == DONE)
        code = decode_all(&d);
    if (code == DONE && s->json)
        code = print_json(&d);
    if (code == DONE)
        say("decoded %zu %s in %.2f s", d.count, d.count == 1 ? "tensor" : "tensors", seconds_now() - start);
    free(d.items);
    free(d.indices);
    qz_pool_destroy(d.pool);
    source_close(&d.in);
    return code;
}
