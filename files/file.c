/*
 * file.c - the public functions for reading
 */
#include "tensors.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "container.h"
#include "element.h"
#include "error.h"
#include "locate.h"
#include "options.h"
#include "parts.h"
#include "unread.h"

/* ---- opening ---- */

static qz_file_result choose_container(qz_file *file, const qz_place *place, qz_file_error *error)
{
    const qz_input *input = &file->input;
    const char *path = place->path;
    uint8_t head[64];
    size_t bytes = input->size < sizeof head ? (size_t)input->size : sizeof head;
    if (bytes == 0)
        return qz_fail(error, QZ_FILE_FORMAT, input->label, NULL, QZ_NO_OFFSET, "the file is empty");
    qz_file_result result = qz_input_read(input, 0, head, bytes, error);
    if (result != QZ_FILE_OK)
        return result;
    file->container = qz_container_by_content(head, bytes, input->size);
    if (file->container == NULL) {
        const char *kind = qz_unread_kind(head, bytes, path);
        char names[200];
        if (kind != NULL)
            return qz_fail(error, QZ_FILE_FORMAT, input->label, NULL, QZ_NO_OFFSET, "%s", kind);
        return qz_fail(error, QZ_FILE_FORMAT, input->label, NULL, 0,
                       "neither the header of a %s file; no other kinds are read",
                       qz_container_list(0, " nor that of a ", " nor that of a ", names, sizeof names));
    }
    const qz_container_type *said = qz_container_by_extension(path);
    if (said != NULL && said != file->container)
        return qz_fail(error, QZ_FILE_FORMAT, input->label, NULL, 0,
                       "the name ends in %s, but the content is that of a %s file; rename it", said->extension,
                       file->container->extension);
    if (place->kind != NULL && place->kind != file->container)
        return qz_fail(error, QZ_FILE_FORMAT, input->label, NULL, 0, "is a %s file, but a part must be a %s file",
                       file->container->extension, place->kind->extension);
    return QZ_FILE_OK;
}

qz_file_result qz_file_open(const qz_place *place, const qz_open_options *options, qz_file **opened,
                            qz_file_error *error)
{
    *opened = NULL;
    qz_file *file = calloc(1, sizeof *file);
    if (file == NULL)
        return qz_fail_memory(error, NULL);
    file->options = *options;
    file->table_left = place->max_table;
    qz_file_result result = qz_input_open_in(&file->input, place->folder, place->path, place->shown, error);
    file->bytes = file->input.size;
    if (result == QZ_FILE_OK)
        result = choose_container(file, place, error);
    if (result == QZ_FILE_OK)
        result = file->container->open(file, error);
    if (result != QZ_FILE_OK)
        qz_close(file);
    else
        *opened = file;
    return result;
}

qz_file_result qz_open(const char *path, const qz_open_options *given, qz_file **opened, qz_file_error *error)
{
    *opened = NULL;
    qz_open_options options = QZ_OPEN_OPTIONS_INIT;
    qz_take_options(&options, sizeof options, given);
    char *located = NULL; /* the file of a folder */
    qz_file *file = NULL;
    qz_file_result result = qz_locate(path, &located, error);
    if (result != QZ_FILE_OK)
        return result;
    const char *name = located != NULL ? located : path;
    const qz_place place = {AT_FDCWD, name, name, NULL, options.max_table};
    result = qz_file_open(&place, &options, &file, error);
    free(located);
    if (result == QZ_FILE_OK && file->container->parts != NULL)
        result = file->container->parts(file, error);
    if (result != QZ_FILE_OK)
        qz_close(file);
    else
        *opened = file;
    return result;
}

void qz_close(qz_file *file)
{
    if (file == NULL)
        return;
    if (file->container != NULL && file->container->close != NULL)
        file->container->close(file);
    qz_parts_close(&file->parts);
    qz_names_free(&file->names);
    qz_arena_free(&file->arena);
    free(file->entries);
    qz_input_close(&file->input);
    free(file);
}

/* ---- what is in it ---- */

const char *qz_container(const qz_file *file)
{
    return file->container->name;
}

uint64_t qz_file_bytes(const qz_file *file)
{
    return file->bytes;
}

const char *qz_file_path(const qz_file *file, size_t i)
{
    if (i == 0)
        return file->input.path;
    return i <= file->parts.count ? file->parts.files[i - 1]->input.path : NULL;
}

const char *qz_note(const qz_file *file)
{
    return file->note[0] != '\0' ? file->note : NULL;
}

qz_file_result qz_read(qz_file *file, size_t tensor, uint64_t first, uint64_t count, void *dst, qz_file_error *error)
{
    if (tensor >= file->count || !qz_within(first, count, file->entries[tensor].tensor.count))
        return qz_fail(error, QZ_FILE_ARGUMENT, file->input.label, NULL, QZ_NO_OFFSET,
                       "elements %" PRIu64 " to %" PRIu64 " of tensor %zu: there are none such", first, first + count,
                       tensor);
    if (qz_file_in_part(file, tensor))
        return qz_parts_read(file, tensor, first, count, dst, error);
    const qz_entry *entry = &file->entries[tensor];
    /* No product wraps: the range lies within a tensor whose size in bytes was checked. */
    size_t each = qz_element_size(entry->tensor.element);
    uint64_t bytes = count * each, offset = first * each;
    if (bytes == 0)
        return QZ_FILE_OK;
    qz_file_result result = file->container->read != NULL
                                ? file->container->read(file, tensor, offset, dst, (size_t)bytes, error)
                                : qz_input_read(&file->input, entry->offset + offset, dst, (size_t)bytes, error);
    if (result == QZ_FILE_OK && entry->tensor.swapped)
        qz_swap(dst, each, (size_t)count);
    return result;
}

qz_file_result qz_unchanged(const qz_file *file, qz_file_error *error)
{
    qz_file_result result = qz_input_unchanged(&file->input, error);
    return result == QZ_FILE_OK ? qz_parts_unchanged(file, error) : result;
}
