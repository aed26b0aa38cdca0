/*
 * npz.c - .npz as a container: a zip archive of arrays
 *
 * It lists the members of an archive as tensors. zip.c reads the structure of the archive, zip_data.c the data,
 * npy_header.c the headers of the arrays.
 */
#include "npz_writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../checked.h"
#include "../container.h"
#include "../error.h"
#include "npy_header.h"
#include "zip.h"
#include "zip_data.h"

typedef struct archive {
    qz_zip_data *members; /* one for each entry of the file; those that a layout adds behind them are none of its */
    size_t count, capacity;
    qz_zip_spool spool;
    pthread_mutex_t lock; /* held while members are read, which are expanded step by step */
} archive;

/* What is only needed while a file is opened. */
typedef struct opener {
    qz_file *file;
    archive *archive;
    qz_file_error *error;
    qz_zip_stream *stream;
    qz_window *window;
    uint64_t skipped;
    int pickled; /* a member is called .../data.pkl, as in files of PyTorch */
} opener;

/* ---- reading ---- */

/* A small file can hold an array as large as a machine. Listing the file does no harm, so the ratio is checked when the
 * array is read. */
static qz_file_result check_ratio(const qz_file *file, size_t tensor, const qz_zip_data *m, qz_file_error *error)
{
    char name[QZ_NAME_TEXT], field[QZ_NAME_TEXT + 16];
    if (!m->deflated || m->bytes <= QZ_RATIO_FREE || m->bytes <= qz_product(m->packed, file->options.max_ratio))
        return QZ_FILE_OK;
    const qz_tensor *t = &file->entries[tensor].tensor;
    snprintf(field, sizeof field, "member '%s.npy'", qz_escape(t->name, t->name_length, name, sizeof name));
    return qz_fail_option(error, QZ_FILE_LIMIT, QZ_OPTION_MAX_RATIO, file->input.label, field, QZ_NO_OFFSET,
                          "would expand from %" PRIu64 " to %" PRIu64 " bytes; the limit is %" PRIu64 " times as many",
                          m->packed, m->bytes, file->options.max_ratio);
}

static qz_file_result read_npz(qz_file *file, size_t tensor, uint64_t offset, void *dst, size_t bytes,
                               qz_file_error *error)
{
    archive *a = file->state;
    qz_zip_data *m = &a->members[tensor];
    qz_file_result result = check_ratio(file, tensor, m, error);
    if (result != QZ_FILE_OK || bytes == 0)
        return result;
    pthread_mutex_lock(&a->lock);
    result = qz_zip_data_read(&file->input, &a->spool, m, file->entries[tensor].offset, offset, dst, bytes, error);
    pthread_mutex_unlock(&a->lock);
    return result;
}

/* ---- opening ---- */

typedef struct header_source {
    opener *opener;
    const qz_zip_data *data;
} header_source;

static qz_file_result header_bytes(void *context, uint64_t offset, void *dst, size_t bytes, qz_file_error *error)
{
    header_source *source = context;
    opener *o = source->opener;
    if (!source->data->deflated)
        return qz_window_read(o->window, source->data->start + offset, dst, bytes, error);
    return bytes == 0 ? QZ_FILE_OK : qz_zip_stream_read(o->stream, &o->file->input, source->data, dst, bytes, error);
}

/* Room for one more member. */
static qz_file_result grow_members(opener *o)
{
    archive *a = o->archive;
    if (a->count < a->capacity)
        return QZ_FILE_OK;
    size_t wider = a->capacity == 0 ? 16 : a->capacity * 2;
    /* What there is has at most half of all addresses: the double of its size does not wrap. */
    qz_zip_data *members = realloc(a->members, wider * sizeof *members);
    if (!members)
        return qz_fail_memory(o->error, o->file->input.label);
    a->members = members;
    a->capacity = wider;
    return QZ_FILE_OK;
}

static qz_file_result name_twice(const opener *o, const qz_zip_member *r)
{
    return qz_fail(o->error, QZ_FILE_FORMAT, o->file->input.label, "directory", r->header,
                   "the name '%s' occurs twice (with or without .npy), so that its meaning is unclear", r->shown);
}

/* A member called NAME.npy becomes the tensor NAME. */
static qz_file_result add_array(opener *o, const qz_zip_member *r)
{
    qz_file *file = o->file;
    qz_zip_data m = {
        .start = r->start, .packed = r->packed, .bytes = r->bytes, .crc = r->crc, .deflated = r->method != 0};
    header_source context = {o, &m};
    qz_npy_header header;
    char field[QZ_NAME_TEXT + 16];
    snprintf(field, sizeof field, "member '%s'", r->shown);
    if (m.deflated) {
        if (r->bytes > file->options.max_bytes)
            return qz_fail_option(o->error, QZ_FILE_LIMIT, QZ_OPTION_MAX_BYTES, file->input.label, field, r->header,
                                  "expands to %" PRIu64 " bytes; the limit is %" PRIu64 "", r->bytes,
                                  file->options.max_bytes);
        if (!o->stream && !(o->stream = qz_zip_stream_new()))
            return qz_fail_memory(o->error, file->input.label);
        qz_zip_stream_begin(o->stream, &m);
    }
    const qz_npy_source source = {header_bytes,      &context, r->bytes,
                                  file->input.label, field,    m.deflated ? QZ_NO_OFFSET : r->start};
    qz_file_result result = qz_npy_parse(&header, &source, &file->options, &file->arena, o->error);
    if (result != QZ_FILE_OK)
        return result;
    qz_tensor *t = &header.tensor;
    if (header.length + t->bytes != r->bytes)
        return qz_fail(o->error, QZ_FILE_FORMAT, file->input.label, field,
                       m.deflated ? QZ_NO_OFFSET : r->start + header.length + t->bytes,
                       "%" PRIu64 " bytes follow the array", r->bytes - header.length - t->bytes);
    t->name_length = r->name_length - strlen(".npy");
    t->name = qz_arena_text(&file->arena, r->name, t->name_length);
    if (!t->name)
        return qz_fail_memory(o->error, file->input.label);
    if (qz_names_has(&file->names, t->name, t->name_length))
        return name_twice(o, r);
    result = grow_members(o);
    if (result != QZ_FILE_OK)
        return result;
    o->archive->members[o->archive->count] = m;
    result = qz_file_add(file, t, header.length, o->error);
    o->archive->count += result == QZ_FILE_OK;
    /* An empty array is complete with its header, so that no later read would notice a wrong checksum. */
    if (result == QZ_FILE_OK && t->bytes == 0)
        result = qz_zip_check(&file->input, &o->archive->spool, &o->archive->members[o->archive->count - 1], o->error);
    return result;
}

/* Other members are left out; no array may have their names. */
static qz_file_result skip_member(opener *o, const qz_zip_member *r)
{
    qz_file *file = o->file;
    const char *name = qz_arena_text(&file->arena, r->name, r->name_length);
    if (!name)
        return qz_fail_memory(o->error, file->input.label);
    o->pickled |= r->name_length >= 8 && memcmp(name + r->name_length - 8, "data.pkl", 8) == 0;
    if (o->skipped++ == 0)
        snprintf(file->note, sizeof file->note, "member '%s' is not a .npy file and is left out", r->shown);
    switch (qz_names_add(&file->names, name, r->name_length, SIZE_MAX)) {
    case QZ_NAME_NEW:
        return QZ_FILE_OK;
    case QZ_NAME_TWICE:
        return name_twice(o, r);
    default:
        return qz_fail_memory(o->error, file->input.label);
    }
}

static qz_file_result add_member(void *context, const qz_zip_member *r)
{
    opener *o = context;
    int is_array = r->name_length >= 4 && memcmp(r->name + r->name_length - 4, ".npy", 4) == 0;
    return is_array ? add_array(o, r) : skip_member(o, r);
}

static int probe(const uint8_t *head, size_t bytes, uint64_t file_size)
{
    (void)file_size;
    return bytes >= 4 && (get32(head) == ZIP_LOCAL || get32(head) == ZIP_END || get32(head) == ZIP_END64);
}

static void close_npz(qz_file *file)
{
    archive *a = file->state;
    if (!a)
        return;
    for (size_t i = 0; i < a->count; i++)
        qz_zip_stream_free(a->members[i].stream);
    if (a->spool.fd >= 0)
        close(a->spool.fd);
    free(a->members);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static qz_file_result open_npz(qz_file *file, qz_file_error *error)
{
    archive *a = calloc(1, sizeof *a);
    if (!a)
        return qz_fail_memory(error, file->input.label);
    a->spool.fd = -1;
    pthread_mutex_init(&a->lock, NULL);
    file->state = a;
    qz_window window = {.input = &file->input};
    opener o = {.file = file, .archive = a, .error = error, .window = &window};
    qz_file_result result = qz_zip_read(&window, add_member, &o, error);
    if (result == QZ_FILE_OK && file->count == 0 && o.pickled)
        result =
            qz_fail(error, QZ_FILE_FORMAT, file->input.label, NULL, QZ_NO_OFFSET,
                    "a PyTorch checkpoint, whose pickle is never read: that could run any program; torch.load(..., "
                    "weights_only=True) gives its tensors, and numpy.savez writes them to an .npz");
    size_t length = strlen(file->note);
    if (result == QZ_FILE_OK && o.skipped > 1)
        snprintf(file->note + length, sizeof file->note - length, ", and so are %" PRIu64 " more", o.skipped - 1);
    qz_zip_stream_free(o.stream);
    return result;
}

const qz_container_type qz_container_npz = {
    .name = "npz",
    .extension = ".npz",
    .quantized = "own",
    .probe = probe,
    .open = open_npz,
    .read = read_npz,
    .close = close_npz,
    .declare = qz_npz_declare,
    .layout = qz_npz_layout,
    .wrote = qz_npz_wrote,
    .finish = qz_npz_finish,
};
