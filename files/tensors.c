/*
 * tensors.c - the list of a file's tensors, which its container fills in
 */
#include "tensors.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"

qz_file_result qz_file_add(qz_file *file, const char *name, size_t length, const qz_npy_header *header, uint64_t offset,
                           qz_file_error *error)
{
    if (file->count == file->capacity) {
        size_t wider = file->capacity == 0 ? 16 : file->capacity * 2;
        qz_entry *entries =
            wider <= SIZE_MAX / sizeof *entries ? realloc(file->entries, wider * sizeof *entries) : NULL;
        if (entries == NULL)
            return qz_fail_memory(error, file->input.label);
        file->entries = entries;
        file->capacity = wider;
    }
    uint64_t *shape = qz_arena_get(&file->arena, header->rank * sizeof *shape);
    if (shape == NULL)
        return qz_fail_memory(error, file->input.label);
    memcpy(shape, header->shape, header->rank * sizeof *shape);
    file->entries[file->count++] =
        (qz_entry){{name, length, header->element, header->rank, header->column_major, shape, header->count,
                    header->bytes, header->type, header->type_bytes, header->swap},
                   offset};
    return QZ_FILE_OK;
}

size_t qz_tensor_count(const qz_file *file)
{
    return file->count;
}

const qz_tensor *qz_tensor_at(const qz_file *file, size_t i)
{
    return i < file->count ? &file->entries[i].tensor : NULL;
}

size_t qz_tensor_find(const qz_file *file, const char *name, size_t name_length)
{
    return qz_names_find(&file->names, name, name_length);
}
