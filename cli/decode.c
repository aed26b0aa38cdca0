/*
 * decode.c - the command decode: writes quantized tensors as floats
 */
#include "commands.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "json.h"
#include "output.h"
#include "packed_block.h"
#include "resources.h"
#include "results.h"
#include "scheme.h"
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
    uint64_t bytes_before, bytes_after; /* of all */
    /* Of blocks, for all tensors: memory that is freed and allocated again would be cleared by the system each time. */
    void *values[2]; /* of the block that is decoded, and of the one before, which is written meanwhile */
    uint64_t room;   /* for elements, in each */
} decoder;

/* ---- results ---- */

static uint64_t decoded_bytes(const decoder *d, const item *i, const qz_tensor *t)
{
    return i->packed ? t->count * qz_dtype_size(d->dtype) : t->count * qz_element_size(t->element);
}

static void json_totals(const void *of)
{
    const decoder *d = of;
    json_text("command", "decode");
    json_whole("tensor_bytes_before", d->bytes_before);
    json_whole("tensor_bytes_after", d->bytes_after);
}

static void json_tensor(const void *of, size_t i)
{
    const decoder *d = of;
    const int is_packed = d->items[i]->packed;
    qz_packed_tensor packed;
    qz_tensor t;
    json_name("name", d->items[i]->name, d->items[i]->name_length);
    json_text("action", is_packed ? "decode" : "copy");
    if (source_tensor(&d->in, d->items[i], &t, &packed) != DONE)
        return; /* it was described before: this is not met */
    if (is_packed)
        json_scheme(&packed.scheme);
    json_text("dtype", is_packed                     ? qz_dtype_name(d->dtype)
                       : t.element == QZ_ELEMENT_RAW ? t.type
                                                     : qz_element_name(t.element));
    json_shape("shape", t.rank, t.shape);
    json_whole("bytes_before", t.bytes);
    json_whole("bytes_after", decoded_bytes(d, d->items[i], &t));
}

static const char *tensor_name(const void *of, size_t i, size_t *length)
{
    const decoder *d = of;
    *length = d->items[i]->name_length;
    return d->items[i]->name;
}

static results results_of(const decoder *d)
{
    return (results){d->s, d, d->count, json_totals, json_tensor, tensor_name, NULL};
}

/* ---- what is decoded ---- */

static int choose_items(decoder *d)
{
    const settings *s = d->s;
    size_t length = strlen(s->files[1]);
    int single = length >= 4 && strcmp(s->files[1] + length - 4, ".npy") == 0;
    d->items = calloc(d->in.count + 1, sizeof(void *));
    d->indices = calloc(d->in.count + 1, sizeof *d->indices);
    if (!d->items || !d->indices)
        return fail_memory();
    if (s->which.tensor) {
        char name[NAME_TEXT];
        d->items[0] = source_find(&d->in, s->which.tensor, strlen(s->which.tensor));
        d->count = 1;
        if (!d->items[0])
            return fail(USAGE, "--tensor '%s': there is none of this name; 'quantize info' lists the names",
                        qz_escape(s->which.tensor, strlen(s->which.tensor), name, sizeof name));
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
    at_tensor(i->name, i->name_length);
    int code = source_tensor(&d->in, i, &t, &packed);
    if (code != DONE)
        return code;
    d->bytes_before += t.bytes;
    d->bytes_after += decoded_bytes(d, i, &t);
    if (i->packed) {
        t.element = (qz_element)d->dtype;
        *values += t.count;
    }
    *work += t.count;
    return qz_declare(d->writer, &t, index, &error) == QZ_FILE_OK ? DONE : fail_file(&error);
}

/* ---- the work ---- */

/* A block that is written while the next one is decoded. */
typedef struct writing {
    qz_writer *writer;
    size_t index; /* in the output */
    const grid *grid;
    block block;
    size_t each; /* bytes of an element */
    const void *values;
    qz_file_result result;
    qz_file_error error;
    int started; /* a thread is at it, or was */
    pthread_t thread;
} writing;

static void *write_values(void *of)
{
    writing *w = of;
    w->error = (qz_file_error)QZ_FILE_ERROR_INIT;
    w->result = write_block(w->writer, w->index, w->grid, &w->block, w->each, w->values, &w->error);
    return NULL;
}

/* Waits until the block is written, or has failed, which is said once: if nothing else failed before. */
static int finish_writing(writing *w, int code)
{
    if (w->started)
        pthread_join(w->thread, NULL);
    w->started = 0;
    return code == DONE && w->result != QZ_FILE_OK ? fail_file(&w->error) : code;
}

/* One tensor on its way to the output. */
typedef struct decoding {
    decoder *decoder;
    packed_reader reader;
    grid grid;
    writing writing;
} decoding;

static int decode_and_write(void *context, const block *b)
{
    decoding *now = context;
    decoder *d = now->decoder;
    writing *w = &now->writing;
    int code = decode_block(&now->reader, b, d->values[0], d->dtype, d->pool);
    code = finish_writing(w, code);
    if (code != DONE)
        return code;
    void *values = d->values[0];
    d->values[0] = d->values[1];
    d->values[1] = values;
    w->block = *b;
    w->values = values;
    w->started = d->pool && pthread_create(&w->thread, NULL, write_values, w) == 0;
    if (!w->started)
        write_values(w);
    block_done(b);
    return DONE;
}

static int make_room(decoder *d, const block_plan *blocks)
{
    int code = DONE;
    for (int k = 0; k < 2 && code == DONE && block_elements(blocks) > d->room; k++) {
        free(d->values[k]);
        d->values[k] = allocate_block(blocks, qz_dtype_size(d->dtype));
        code = d->values[k] ? DONE : LIMIT;
    }
    if (code == DONE && block_elements(blocks) > d->room)
        d->room = block_elements(blocks);
    return code;
}

static int decode_tensor(decoder *d, const item *i, size_t index)
{
    decoding w = {.decoder = d};
    w.writing = (writing){.writer = d->writer, .index = index, .grid = &w.grid, .each = qz_dtype_size(d->dtype)};
    block_plan blocks;
    int code = open_packed(&d->in, i, &w.reader);
    if (code != DONE)
        return code;
    const qz_packed_tensor *packed = &w.reader.packed;
    grid_of(&w.reader.tensor, packed->axis, 1, &w.grid);
    plan_blocks(&w.grid, column_unit(&packed->scheme, w.grid.cols, 0), lies_across(packed), &blocks);
    code = allocate_packed_blocks(&w.reader, &blocks);
    if (code == DONE)
        code = make_room(d, &blocks);
    if (code == DONE)
        code = for_each_block(&blocks, decode_and_write, &w);
    code = finish_writing(&w.writing, code);
    close_packed(&w.reader);
    return code;
}

static int decode_or_copy(decoder *d, size_t i)
{
    const results r = results_of(d);
    results_begin_tensor(&r, i);
    int code = d->items[i]->packed ? decode_tensor(d, d->items[i], d->indices[i])
                                   : copy_tensor(&d->in, d->items[i]->tensor, d->writer, d->indices[i]);
    if (code == DONE)
        results_tensor(&r, i);
    return code;
}

static int decode_all(decoder *d)
{
    const results r = results_of(d);
    qz_file_error error = QZ_FILE_ERROR_INIT;
    const qz_file *input = d->in.file;
    qz_create_options options = target_options(d->s, &input, 1);
    int code = target_open(d->s, &d->in, &options, &d->writer);
    uint64_t values = 0, work = 0;
    for (size_t i = 0; i < d->count && code == DONE; i++)
        code = declare(d, d->items[i], &d->indices[i], &values, &work);
    if (code == DONE)
        at_tensor(NULL, 0);
    if (code == DONE)
        code = target_copy_beside(d->s, &d->in, d->writer, NULL, NULL);
    if (code == DONE)
        code = start_pool(d->s, values, &d->pool);
    if (code == DONE)
        results_plan(&r, d->bytes_before);
    progress_begin("decode", code == DONE ? work : 0);
    for (size_t i = 0; i < d->count && code == DONE; i++)
        code = decode_or_copy(d, i);
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

int run_decode(const settings *s)
{
    decoder d = {.s = s, .dtype = s->output.dtype != 0 ? (qz_dtype)s->output.dtype : QZ_F32};
    double start = seconds_now();
    int code = source_open(s, s->files[0], &d.in);
    if (code == DONE)
        code = choose_items(&d);
    if (code == DONE)
        code = decode_all(&d);
    if (code == DONE) {
        const results r = results_of(&d);
        results_end(&r, DONE);
        sum_up("decoded %zu %s in %.2f s", d.count, d.count == 1 ? "tensor" : "tensors", seconds_now() - start);
    }
    free(d.values[0]);
    free(d.values[1]);
    free(d.items);
    free(d.indices);
    qz_pool_destroy(d.pool);
    source_close(&d.in);
    return code;
}
