/*
 * tensors.c - the list of a file's tensors, which its container fills in, and the functions that read them
 *
 * When a tensor is added, its sizes, its name and the place of its data are checked. Reads change the byte order if
 * that of the file is another one.
 */
#include "tensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "container.h"
#include "element.h"
#include "error.h"

static qz_file_result refuse(const qz_file *file, const qz_tensor *t, const char *what, qz_file_error *error)
{
    char name[QZ_NAME_TEXT], field[QZ_NAME_TEXT + 16];
    snprintf(field, sizeof field, "tensor '%s'", qz_escape(t->name, t->name_length, name, sizeof name));
    return qz_fail(error, QZ_FILE_FORMAT, file->input.label, field, QZ_NO_OFFSET, "%s", what);
}

/* Fills in what follows from the rest of the description. */
static qz_file_result complete(const qz_file *file, qz_entry *entry, qz_file_error *error)
{
    qz_tensor *t = &entry->tensor;
    if (t->element != QZ_ELEMENT_RAW)
        t->type_bytes = qz_element_size(t->element);
    if (t->rank > QZ_MAX_RANK || !qz_shape_count(t->rank, t->shape, t->type_bytes, &t->count, &t->bytes))
        return refuse(file, t, "has more than 64 axes or more than 2^63 - 1 bytes", error);
    if (t->element == QZ_ELEMENT_RAW)
        t->count = t->bytes;
    if (!file->container->read && entry->offset != QZ_NO_OFFSET &&
        !qz_within(entry->offset, t->bytes, file->input.size))
        return refuse(file, t, "has data beyond the end of the file", error);
    return QZ_FILE_OK;
}

qz_file_result qz_file_add(qz_file *file, const qz_tensor *described, uint64_t offset, qz_file_error *error)
{
    qz_entry entry = {.tensor = *described, .offset = offset};
    qz_file_result result = complete(file, &entry, error);
    if (result != QZ_FILE_OK)
        return result;
    if (file->count == file->capacity) {
        size_t wider = file->capacity == 0 ? 16 : file->capacity * 2;
        qz_entry *entries =
            wider <= SIZE_MAX / sizeof *entries ? realloc(file->entries, wider * sizeof *entries) : NULL;
        if (!entries)
            return qz_fail_memory(error, file->input.label);
        file->entries = entries;
        file->capacity = wider;
    }
    uint64_t *shape = qz_arena_get(&file->arena, described->rank * sizeof *shape);
    if (!shape)
        return qz_fail_memory(error, file->input.label);
    if (described->rank != 0)
        memcpy(shape, described->shape, described->rank * sizeof *shape);
    entry.tensor.shape = shape;
    switch (qz_names_add(&file->names, described->name, described->name_length, file->count)) {
    case QZ_NAME_NEW:
        file->entries[file->count++] = entry;
        return QZ_FILE_OK;
    case QZ_NAME_TWICE:
        return refuse(file, described, "occurs twice, so that its meaning is unclear", error);
    default:
        return qz_fail_memory(error, file->input.label);
    }
}

int qz_file_in_part(const qz_file *file, size_t tensor)
{
    return file->parts.count != 0 && tensor >= file->parts.first[0];
}

int qz_file_has(const qz_file *file, dev_t device, ino_t inode)
{
    int has = file->input.device == device && file->input.inode == inode;
    for (size_t i = 0; i < file->parts.count && !has; i++)
        has = qz_file_has(file->parts.files[i], device, inode); /* parts have no parts */
    return has;
}

size_t qz_tensor_count(const qz_file *file)
{
    return file->count;
}

const qz_tensor *qz_tensor_at(const qz_file *file, size_t i)
{
    return i < file->count ? &file->entries[i].tensor : NULL;
}

uint64_t qz_tensor_bytes(const qz_file *file, size_t i)
{
    const qz_entry *entry = i < file->count ? &file->entries[i] : NULL;
    return !entry ? 0 : entry->stored != 0 ? entry->stored : entry->tensor.bytes;
}

size_t qz_tensor_find(const qz_file *file, const char *name, size_t name_length)
{
    return qz_names_find(&file->names, name, name_length);
}

qz_file_result qz_read(qz_file *file, size_t tensor, uint64_t first, uint64_t count, void *dst, qz_file_error *error)
{
    if (tensor >= file->count || !qz_within(first, count, file->entries[tensor].tensor.count))
        return qz_fail(error, QZ_FILE_ARGUMENT, file->input.label, NULL, QZ_NO_OFFSET,
                       "elements %" PRIu64 " to %" PRIu64 " of tensor %zu: there are none such", first, first + count,
                       tensor);
    const qz_entry *entry = &file->entries[tensor];
    if (entry->decode)
        return entry->decode(file, entry->details, first, count, dst, error);
    if (qz_file_in_part(file, tensor))
        return file->parts.read(file, tensor, first, count, dst, error);
    /* No product wraps: the range lies within a tensor whose size in bytes was checked. */
    size_t each = qz_element_size(entry->tensor.element);
    uint64_t bytes = count * each, offset = first * each;
    if (bytes == 0 && !file->container->read)
        return QZ_FILE_OK;
    qz_file_result result = file->container->read
                                ? file->container->read(file, tensor, offset, dst, (size_t)bytes, error)
                                : qz_input_read(&file->input, entry->offset + offset, dst, (size_t)bytes, error);
    if (result == QZ_FILE_OK && entry->tensor.swapped)
        qz_swap(dst, each, (size_t)count);
    return result;
}
