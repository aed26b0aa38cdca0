/*
 * stored.c - copies the codes of tensors whose values are otherwise decoded as they are read
 *
 * These codes are those of ggml's types for which the library has no scheme, in blocks of a GGUF file, and codes of
 * eight bits in the library's own layout, which are those of Q8_0 (eight.c). Blocks are copied to a GGUF file as bytes.
 * Codes of eight bits are also converted from one of these two layouts to the other.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "container.h"
#include "containers/gguf_types.h"
#include "error.h"
#include "parts.h"

enum { RUN = 1 << 16 }; /* values that are copied at a time: whole blocks of each type */

/* The type of the codes; NULL: the tensor has none. */
static const qz_ggml_type *type_of(const qz_file *file, size_t tensor)
{
    const unsigned coded = tensor < file->count ? file->entries[tensor].coded : 0;
    return coded != 0 ? qz_ggml_type_of(coded) : NULL;
}

const char *qz_stored_as(const qz_file *file, size_t tensor)
{
    const qz_ggml_type *type = type_of(file, tensor);
    return type ? type->name : NULL;
}

int qz_stored_stays(const qz_file *file, size_t tensor, const char *layout)
{
    char why[QZ_NAME_TEXT];
    if (qz_eight_is(file, tensor))
        return !qz_eight_refuses(layout, &file->entries[tensor].tensor, why, sizeof why);
    return type_of(file, tensor) && strcmp(layout, "gguf") == 0;
}

qz_file_result qz_stored_declare(qz_writer *writer, const qz_file *file, size_t tensor, size_t *index,
                                 qz_file_error *error)
{
    const qz_ggml_type *type = type_of(file, tensor);
    if (qz_eight_is(file, tensor))
        return qz_eight_declare(writer, &file->entries[tensor].tensor, index, error);
    if (!type || strcmp(writer->container->name, "gguf") != 0)
        return qz_fail(error, QZ_FILE_REFUSED, writer->output.label, NULL, QZ_NO_OFFSET,
                       "a tensor has no codes that such a file can hold");
    return qz_writer_declare_blocks(writer, &file->entries[tensor].tensor, type->id, index, error);
}

/* ---- copying ---- */

static qz_file_result copy_eights(qz_file *file, size_t tensor, qz_writer *writer, size_t index, uint64_t first,
                                  uint64_t count, void *room, qz_file_error *error)
{
    int8_t *codes = room;
    uint16_t *scales = (uint16_t *)(codes + RUN);
    qz_file_result result = qz_eight_read(file, tensor, first, count, codes, scales, error);
    return result == QZ_FILE_OK ? qz_eight_write(writer, index, first, count, codes, scales, error) : result;
}

static qz_file_result copy_blocks(qz_file *file, size_t tensor, qz_writer *writer, size_t index, uint64_t first,
                                  uint64_t count, void *room, qz_file_error *error)
{
    const qz_ggml_type *type = type_of(file, tensor);
    const uint64_t block = first / type->values, blocks = count / type->values;
    qz_file *part = file;
    qz_file_result result = qz_parts_find(file, &part, &tensor, error);
    if (result == QZ_FILE_OK)
        result = part->container->read_blocks(part, tensor, block, (size_t)blocks, room, error);
    return result == QZ_FILE_OK ? qz_write(writer, index, block * type->bytes, blocks * type->bytes, room, error)
                                : result;
}

qz_file_result qz_stored_copy(qz_file *file, size_t tensor, qz_writer *writer, size_t index, uint64_t first,
                              uint64_t count, qz_file_error *error)
{
    const qz_ggml_type *type = type_of(file, tensor);
    const qz_slot *slot = index < writer->count ? &writer->slots[index] : NULL;
    const int same = type && slot && slot->blocks == type->id && !file->entries[tensor].decode;
    if (!same && !(slot && slot->is_eight && qz_eight_is(file, tensor)))
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, NULL, QZ_NO_OFFSET,
                       "a tensor was not declared to have the codes that it has");
    if (same && (first % type->values != 0 || count % type->values != 0 ||
                 !qz_within(first, count, file->entries[tensor].tensor.count)))
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, NULL, QZ_NO_OFFSET,
                       "codes are copied in whole blocks of %u values", type->values);
    qz_file_result result = QZ_FILE_OK;
    void *room = malloc(RUN + RUN / QZ_EIGHT_GROUP * sizeof(uint16_t)); /* no type has more bytes for so many values */
    if (!room)
        return qz_fail_memory(error, writer->output.label);
    for (uint64_t at = 0; at < count && result == QZ_FILE_OK; at += RUN) {
        const uint64_t n = count - at < RUN ? count - at : RUN;
        result = (same ? copy_blocks : copy_eights)(file, tensor, writer, index, first + at, n, room, error);
    }
    free(room);
    return result;
}
