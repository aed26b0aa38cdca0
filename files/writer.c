/*
 * writer.c - the public functions for writing files
 *
 * They check the order of calls, declarations and ranges, and call the container of the output. They know no formats
 * themselves.
 */
#include "writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "container.h"
#include "containers/gguf_types.h"
#include "containers/npy_type.h"
#include "descriptor.h"
#include "element.h"
#include "error.h"
#include "layouts/unquantized.h"
#include "options.h"
#include "shards.h"

/* What the names of a folder's files begin with: as in the folder that the model comes from, since its readers look for
 * that (diffusion_pytorch_model, adapter_model); "model" where that is not of safetensors, or long, or of odd letters. */
static void choose_stem(const qz_file *model, char *stem, size_t room)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    static const char *const ends[] = {".safetensors.index.json", ".safetensors"};
    const char *path = model ? model->input.path : NULL, *slash = path ? strrchr(path, '/') : NULL;
    const char *name = slash ? slash + 1 : path;
    snprintf(stem, room, "model");
    for (size_t i = 0; name && i < 2; i++) {
        const size_t end = strlen(ends[i]), length = strlen(name);
        if (length <= end || strcmp(name + length - end, ends[i]) != 0)
            continue;
        if (length - end < room && strspn(name, plain) == length && name[0] != '.')
            snprintf(stem, room, "%.*s", (int)(length - end), name);
        return;
    }
}

/* Releases everything but the output. */
static void release(qz_writer *writer)
{
    for (size_t i = 0; i < writer->count; i++)
        free(writer->slots[i].preset);
    free(writer->slots);
    qz_names_free(&writer->names);
    qz_arena_free(&writer->arena);
    pthread_mutex_destroy(&writer->writes);
    free(writer);
}

qz_file_result qz_create(const char *path, const qz_create_options *options, qz_writer **created, qz_file_error *error)
{
    *created = NULL;
    qz_create_options complete = QZ_CREATE_OPTIONS_INIT;
    qz_take_options(&complete, sizeof complete, options);
    const qz_container_type *container = qz_container_by_extension(path);
    char label[200], names[200];
    qz_escape(path, strlen(path), label, sizeof label);
    if (complete.shard_bytes != 0) {
        if (container)
            return qz_fail(error, QZ_FILE_ARGUMENT, label, NULL, QZ_NO_OFFSET,
                           "is the name of a file; that of a folder must not end in %s", container->extension);
        container = qz_container_of_folder(complete.layout ? complete.layout : "own");
    }
    if (complete.part != 0 && complete.shard_bytes == 0)
        return qz_fail(error, QZ_FILE_ARGUMENT, label, NULL, QZ_NO_OFFSET, "is no folder, which alone has parts");
    if (!container || !container->layout)
        return qz_fail(error, QZ_FILE_ARGUMENT, label, NULL, QZ_NO_OFFSET, "the name of an output must end in %s",
                       qz_container_list(1, ", ", " or ", names, sizeof names));
    qz_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return qz_fail_memory(error, NULL);
    pthread_mutex_init(&writer->writes, NULL);
    writer->container = container;
    writer->shards.bytes = complete.shard_bytes;
    writer->shards.part = complete.part;
    writer->shards.open = SIZE_MAX;
    choose_stem(complete.metadata_from, writer->shards.stem, sizeof writer->shards.stem);
    snprintf(writer->layout, sizeof writer->layout, "%s", complete.layout ? complete.layout : "");
    writer->metadata_from = complete.metadata_from;
    qz_file_result result = qz_output_open(&writer->output, path, &complete, error);
    if (result != QZ_FILE_OK)
        release(writer);
    else
        *created = writer;
    return result;
}

void qz_abort(qz_writer *writer)
{
    if (!writer)
        return;
    qz_output_abort(&writer->output);
    release(writer);
}

qz_file_result qz_writer_reserve(qz_writer *writer, const char *name, size_t name_length, qz_file_error *error)
{
    char shown[QZ_NAME_TEXT], field[QZ_NAME_TEXT + 2];
    switch (qz_names_add(&writer->names, name, name_length, writer->count)) {
    case QZ_NAME_NEW:
        return QZ_FILE_OK;
    case QZ_NAME_TWICE:
        snprintf(field, sizeof field, "'%s'", qz_escape(name, name_length, shown, sizeof shown));
        return qz_fail(error, QZ_FILE_REFUSED, writer->output.label, field, QZ_NO_OFFSET,
                       "two tensors of this name would be in the file, or one that could be taken for a part of a "
                       "quantized tensor");
    default:
        return qz_fail_memory(error, writer->output.label);
    }
}

qz_file_result qz_declare(qz_writer *writer, const qz_tensor *tensor, size_t *index, qz_file_error *error)
{
    return qz_writer_declare(writer, tensor, 0, index, error);
}

qz_file_result qz_writer_declare(qz_writer *writer, const qz_tensor *tensor, unsigned blocks, size_t *index,
                                 qz_file_error *error)
{
    const char *label = writer->output.label;
    char name[QZ_NAME_TEXT];
    qz_escape(tensor->name, tensor->name_length, name, sizeof name);
    if (writer->laid_out)
        return qz_fail(error, QZ_FILE_ARGUMENT, label, name, QZ_NO_OFFSET, "declared after data was written");
    if (memchr(tensor->name, '\0', tensor->name_length))
        return qz_fail(error, QZ_FILE_REFUSED, label, name, QZ_NO_OFFSET, "a name cannot hold the character 0");
    if (writer->container->max_tensors != 0 && writer->count == writer->container->max_tensors)
        return qz_fail(error, QZ_FILE_ARGUMENT, label, name, QZ_NO_OFFSET, "a .%s file holds one tensor; write a .npz",
                       writer->container->name);
    qz_slot slot = {.tensor = *tensor, .blocks = blocks};
    int raw = tensor->element == QZ_ELEMENT_RAW;
    const char *wrong = "raw bytes have no type of items; name it, or declare them as uint8";
    slot.tensor.type_bytes = !raw           ? qz_element_size(tensor->element)
                             : tensor->type ? qz_type_bytes(tensor->type, &wrong)
                                            : 0;
    if (raw && slot.tensor.type_bytes == 0)
        return wrong ? qz_fail(error, QZ_FILE_ARGUMENT, label, name, QZ_NO_OFFSET, "%s", wrong)
                     : qz_fail_memory(error, label);
    if (tensor->rank > QZ_MAX_RANK || slot.tensor.type_bytes == 0 ||
        !qz_shape_count(tensor->rank, tensor->shape, slot.tensor.type_bytes, &slot.tensor.count, &slot.tensor.bytes))
        return qz_fail(error, QZ_FILE_ARGUMENT, label, name, QZ_NO_OFFSET,
                       "has an unknown type, more than 64 axes or more than 2^63 - 1 bytes");
    if (raw)
        slot.tensor.count = slot.tensor.bytes;
    if (raw && writer->container->stored)
        slot.stored = writer->container->stored(tensor);
    qz_file_result result = writer->container->declare ? writer->container->declare(writer, &slot, error) : QZ_FILE_OK;
    if (result != QZ_FILE_OK)
        return result;
    if (writer->count == writer->capacity) {
        size_t wider = writer->capacity == 0 ? 16 : writer->capacity * 2;
        qz_slot *slots = wider <= SIZE_MAX / sizeof *slots ? realloc(writer->slots, wider * sizeof *slots) : NULL;
        if (!slots)
            return qz_fail_memory(error, label);
        writer->slots = slots;
        writer->capacity = wider;
    }
    uint64_t *shape = qz_arena_get(&writer->arena, tensor->rank * sizeof *shape);
    char *kept = qz_arena_text(&writer->arena, tensor->name, tensor->name_length);
    slot.tensor.type = raw ? qz_arena_text(&writer->arena, tensor->type, strlen(tensor->type)) : NULL;
    if (!shape || !kept || (raw && !slot.tensor.type))
        return qz_fail_memory(error, label);
    if (tensor->rank != 0)
        memcpy(shape, tensor->shape, tensor->rank * sizeof *shape);
    slot.tensor.name = kept;
    slot.tensor.shape = shape;
    result = qz_writer_reserve(writer, kept, tensor->name_length, error);
    if (result != QZ_FILE_OK)
        return result;
    if (index)
        *index = writer->count;
    writer->slots[writer->count++] = slot;
    return QZ_FILE_OK;
}

qz_file_result qz_writer_declare_blocks(qz_writer *writer, const qz_tensor *values, unsigned id, size_t *index,
                                        qz_file_error *error)
{
    const qz_ggml_type *type = qz_ggml_type_of(id);
    uint64_t shape[QZ_MAX_RANK];
    char item[16];
    memcpy(shape, values->shape, values->rank * sizeof *shape);
    shape[values->rank - 1] /= type->values;
    snprintf(item, sizeof item, "|V%u", type->bytes);
    qz_tensor blocks = *values;
    blocks.element = QZ_ELEMENT_RAW;
    blocks.type = item;
    blocks.shape = shape;
    return qz_writer_declare(writer, &blocks, id, index, error);
}

qz_file_result qz_writer_preset(qz_writer *writer, size_t tensor, const void *data, qz_file_error *error)
{
    qz_slot *slot = &writer->slots[tensor];
    slot->preset = malloc((size_t)slot->tensor.bytes + 1);
    if (!slot->preset)
        return qz_fail_memory(error, writer->output.label);
    memcpy(slot->preset, data, (size_t)slot->tensor.bytes);
    return QZ_FILE_OK;
}

/* Writes elements in the byte order of files; 0 if that failed, with errno. */
static int put_elements(const qz_writer *writer, qz_slot *slot, uint64_t first, uint64_t count, const void *src,
                        int in_order)
{
    const size_t each = qz_element_size(slot->tensor.element);
    const int swap = each > 1 && qz_big_endian();
    unsigned char turned[4096];
    const char *from = src;
    while (count != 0) {
        size_t n = (size_t)(swap && count > sizeof turned / each ? sizeof turned / each : count);
        const void *piece = from;
        if (swap) {
            memcpy(turned, from, n * each);
            qz_swap(turned, each, n);
            piece = turned;
        }
        if (!qz_pwrite_all(writer->output.fd, piece, n * each, slot->offset + first * each))
            return 0;
        if (in_order && writer->container->wrote)
            writer->container->wrote(slot, piece, n * each);
        first += n;
        count -= n;
        from += n * each;
    }
    return 1;
}

/* Called with the lock, which is released meanwhile if `may_release` allows it and no checksum and no choice of a file
 * depends on the order: then others write, too. */
static qz_file_result put(qz_writer *writer, qz_slot *slot, uint64_t first, uint64_t count, const void *src,
                          int may_release, qz_file_error *error)
{
    const int in_order = first == slot->next;
    const int is_folder = writer->shards.bytes != 0;
    const int any_order = may_release && !writer->container->wrote && !is_folder;
    if (count != 0 && is_folder) {
        writer->failed = qz_shards_select(writer, slot, error);
        if (writer->failed != QZ_FILE_OK)
            return writer->failed;
    }
    if (any_order)
        pthread_mutex_unlock(&writer->writes);
    const int good = put_elements(writer, slot, first, count, src, in_order), system = errno;
    if (any_order)
        pthread_mutex_lock(&writer->writes);
    errno = system;
    if (!good)
        return writer->failed = qz_fail_errno(error, writer->output.label, "write");
    slot->written += count;
    if (in_order)
        slot->next = first + count;
    else
        slot->disordered = 1;
    return QZ_FILE_OK;
}

static qz_file_result lay_out(qz_writer *writer, qz_file_error *error)
{
    writer->laid_out = 1;
    writer->failed = qz_say_unquantized(writer, error);
    if (writer->failed == QZ_FILE_OK)
        writer->failed = writer->shards.bytes != 0 ? qz_shards_layout(writer, error)
                                                   : writer->container->layout(writer, 0, writer->count, error);
    for (size_t i = 0; i < writer->count && writer->failed == QZ_FILE_OK; i++) {
        qz_slot *slot = &writer->slots[i];
        if (slot->preset && qz_writer_makes(writer, slot))
            writer->failed = put(writer, slot, 0, slot->tensor.count, slot->preset, 0, error);
    }
    return writer->failed;
}

/* Called with the lock. */
static qz_file_result write_elements(qz_writer *writer, size_t tensor, uint64_t first, uint64_t count, const void *src,
                                     qz_file_error *error)
{
    if (tensor >= writer->count || !qz_within(first, count, writer->slots[tensor].tensor.count))
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, NULL, QZ_NO_OFFSET,
                       "elements %" PRIu64 " to %" PRIu64 " of tensor %zu: there are none such", first, first + count,
                       tensor);
    if (writer->failed != QZ_FILE_OK)
        return qz_fail(error, writer->failed, writer->output.label, NULL, QZ_NO_OFFSET, "an earlier write failed");
    if (writer->complete)
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, NULL, QZ_NO_OFFSET, "is complete already");
    if (!writer->laid_out && lay_out(writer, error) != QZ_FILE_OK)
        return writer->failed;
    if (!qz_writer_makes(writer, &writer->slots[tensor]))
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, NULL, QZ_NO_OFFSET,
                       "tensor %zu lies in another part of the folder", tensor);
    return put(writer, &writer->slots[tensor], first, count, src, 1, error);
}

qz_file_result qz_write(qz_writer *writer, size_t tensor, uint64_t first, uint64_t count, const void *src,
                        qz_file_error *error)
{
    pthread_mutex_lock(&writer->writes);
    qz_file_result result = write_elements(writer, tensor, first, count, src, error);
    pthread_mutex_unlock(&writer->writes);
    return result;
}

/* ---- the files of a folder ---- */

qz_file_result qz_shard_count(qz_writer *writer, size_t *count, qz_file_error *error)
{
    *count = 0;
    if (writer->shards.bytes == 0)
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, NULL, QZ_NO_OFFSET, "is no folder");
    if (!writer->laid_out && lay_out(writer, error) != QZ_FILE_OK)
        return writer->failed;
    *count = writer->shards.count;
    return QZ_FILE_OK;
}

qz_file_result qz_shard_at(qz_writer *writer, size_t i, qz_shard *shard, qz_file_error *error)
{
    size_t count;
    qz_shard found = {.size = sizeof found};
    qz_file_result result = qz_shard_count(writer, &count, error);
    if (result != QZ_FILE_OK)
        return result;
    if (i >= count)
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, NULL, QZ_NO_OFFSET,
                       "there is no file %zu of the folder: it has %zu", i + 1, count);
    qz_shards_name(writer, i, found.name);
    while (found.first < writer->count && writer->slots[found.first].shard < i)
        found.first++;
    for (size_t k = found.first; k < writer->count && writer->slots[k].shard == i; k++, found.count++)
        found.bytes += writer->slots[k].tensor.bytes; /* together no more than 2^63: they were laid out */
    found.size = shard->size < sizeof found ? shard->size : sizeof found;
    memcpy(shard, &found, found.size);
    return QZ_FILE_OK;
}

qz_file_result qz_writer_complete(qz_writer *writer, qz_file_error *error)
{
    if (writer->complete)
        return QZ_FILE_OK;
    if (!writer->laid_out && lay_out(writer, error) != QZ_FILE_OK)
        return writer->failed;
    if (writer->failed != QZ_FILE_OK)
        return qz_fail(error, writer->failed, writer->output.label, NULL, QZ_NO_OFFSET, "an earlier write failed");
    for (size_t i = 0; i < writer->count; i++) {
        const qz_slot *slot = &writer->slots[i];
        char name[QZ_NAME_TEXT];
        if (slot->written != slot->tensor.count && qz_writer_makes(writer, slot))
            return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label,
                           qz_escape(slot->tensor.name, slot->tensor.name_length, name, sizeof name), QZ_NO_OFFSET,
                           "%" PRIu64 " of %" PRIu64 " elements were written", slot->written, slot->tensor.count);
    }
    if (writer->shards.bytes != 0)
        writer->failed = qz_shards_finish(writer, error);
    else if (writer->container->finish)
        writer->failed = writer->container->finish(writer, error);
    writer->complete = writer->failed == QZ_FILE_OK;
    return writer->failed;
}

qz_file_result qz_commit(qz_writer *writer, qz_file_error *error)
{
    qz_file_result result = qz_writer_complete(writer, error);
    if (result == QZ_FILE_OK)
        result = qz_output_commit(&writer->output, error);
    else
        qz_output_abort(&writer->output);
    release(writer);
    return result;
}
