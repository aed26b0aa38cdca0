/*
 * packed_list.c - the list of a file's quantized tensors, which layouts fill in
 *
 * It also computes rows, columns and sizes of an entry from its scheme, shape and axis.
 */
#include "packed_list.h"

#include <stdlib.h>

#include "element.h"
#include "error.h"

void qz_packed_hide(qz_file *file, size_t tensor)
{
    file->entries[tensor].part = QZ_PART_DATA;
}

qz_file_result qz_packed_note(qz_file *file, const qz_packed_entry *found, qz_file_error *error)
{
    if (file->packed.count == file->packed.capacity) {
        size_t wider = file->packed.capacity == 0 ? 16 : file->packed.capacity * 2;
        qz_packed_entry *list =
            wider <= SIZE_MAX / sizeof *list ? realloc(file->packed.entries, wider * sizeof *list) : NULL;
        if (!list)
            return qz_fail_memory(error, file->input.label);
        file->packed.entries = list;
        file->packed.capacity = wider;
    }
    for (int i = QZ_MEMBER_CODES; i < QZ_MEMBERS; i++)
        if (found->members[i] != SIZE_MAX)
            qz_packed_hide(file, found->members[i]);
    file->entries[found->members[QZ_MEMBER_HEADER]].part = QZ_PART_HEADER;
    file->packed.entries[file->packed.count++] = *found;
    return QZ_FILE_OK;
}

static int by_place(const void *a, const void *b)
{
    size_t x = ((const qz_packed_entry *)a)->members[QZ_MEMBER_HEADER];
    size_t y = ((const qz_packed_entry *)b)->members[QZ_MEMBER_HEADER];
    return x < y ? -1 : x > y;
}

qz_file_result qz_packed_sort(qz_file *file, qz_file_error *error)
{
    if (file->packed.count != 0)
        qsort(file->packed.entries, file->packed.count, sizeof *file->packed.entries, by_place);
    for (size_t i = 0; i < file->packed.count; i++) {
        qz_packed_entry *entry = &file->packed.entries[i];
        size_t first;
        file->entries[entry->members[QZ_MEMBER_HEADER]].packed = i;
        switch (qz_names_add(&file->packed.names, entry->name, entry->name_length, i)) {
        case QZ_NAME_NEW:
            break;
        case QZ_NAME_TWICE:
            first = qz_names_find(&file->packed.names, entry->name, entry->name_length);
            file->packed.entries[first].twice = entry->twice = 1;
            break;
        default:
            return qz_fail_memory(error, file->input.label);
        }
    }
    return QZ_FILE_OK;
}

int qz_packed_complete(qz_packed_tensor *packed)
{
    uint64_t count, bytes;
    if (!qz_shape_count(packed->rank, packed->shape, 8, &count, &bytes))
        return 0;
    packed->rows = 1;
    packed->cols = packed->shape[packed->axis];
    for (unsigned i = 0; i < packed->rank; i++)
        if (i != packed->axis)
            packed->rows *= packed->shape[i]; /* no larger than what was just checked, zeros apart */
    packed->sizes = (qz_sizes){.size = sizeof packed->sizes};
    return qz_scheme_sizes(&packed->scheme, packed->rows, packed->cols, &packed->sizes) == QZ_OK;
}
