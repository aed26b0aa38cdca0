/*
 * file.c - opens files, and answers questions about open ones
 *
 * It asks the table of containers which kind a file has, lets each layout look through the tensors, and hands reads to
 * the container. It knows no formats itself.
 */
#include "layout.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "container.h"
#include "error.h"
#include "locate.h"
#include "options.h"
#include "parts.h"
#include "unread.h"
#include "writer.h"

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
    if (!file->container) {
        const char *kind = qz_unread_kind(head, bytes, path);
        char names[200];
        if (kind)
            return qz_fail(error, QZ_FILE_FORMAT, input->label, NULL, QZ_NO_OFFSET, "%s", kind);
        return qz_fail(error, QZ_FILE_FORMAT, input->label, NULL, 0,
                       "neither the header of a %s file; no other kinds are read",
                       qz_container_list(0, " nor that of a ", " nor that of a ", names, sizeof names));
    }
    const qz_container_type *said = qz_container_by_extension(path);
    if (said && said != file->container)
        return qz_fail(error, QZ_FILE_FORMAT, input->label, NULL, 0,
                       "the name ends in %s, but the content is that of a %s file; rename it", said->extension,
                       file->container->extension);
    if (place->kind && place->kind != file->container)
        return qz_fail(error, QZ_FILE_FORMAT, input->label, NULL, 0, "is a %s file, but a part must be a %s file",
                       file->container->extension, place->kind->extension);
    return QZ_FILE_OK;
}

/* Opens one file, without others that belong to it. */
static qz_file_result open_one(const qz_place *place, const qz_open_options *options, qz_file **opened,
                               qz_file_error *error)
{
    *opened = NULL;
    qz_file *file = calloc(1, sizeof *file);
    if (!file) {
        if (place->opened != 0)
            close(place->opened);
        return qz_fail_memory(error, NULL);
    }
    pthread_mutex_init(&file->parts.lock, NULL);
    file->options = *options;
    file->parts.open = open_one;
    file->table_left = place->max_table;
    qz_file_result result = place->opened != 0 ? qz_input_adopt(&file->input, place->opened, place->path, error)
                                               : (place->inside ? qz_input_open_inside : qz_input_open_in)(
                                                     &file->input, place->folder, place->path, place->shown, error);
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

/* Opens a file with all that belongs to it. */
static qz_file_result open_whole(const qz_place *place, const qz_open_options *options, qz_file **opened,
                                 qz_file_error *error)
{
    qz_file *file = NULL;
    qz_file_result result = open_one(place, options, &file, error);
    /* An index has nothing alone. */
    const int alone = result == QZ_FILE_OK && options->alone && file->container->folder;
    if (result == QZ_FILE_OK && file->container->parts && !alone)
        result = file->container->parts(file, error);
    if (result == QZ_FILE_OK)
        result = qz_layouts_recognize(file, error);
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
    qz_file_result result = qz_locate(path, &located, error);
    if (result != QZ_FILE_OK)
        return result;
    const char *name = located ? located : path;
    const qz_place place = {
        .folder = AT_FDCWD, .path = name, .shown = name, .max_table = options.max_table, .inside = located != NULL};
    result = open_whole(&place, &options, opened, error);
    free(located);
    return result;
}

/* A folder that is written is found under its temporary name. */
static qz_file_result open_written_folder(const qz_output *output, const qz_open_options *options, qz_file **opened,
                                          qz_file_error *error)
{
    size_t room = strlen(output->before) + sizeof output->temp;
    char *path = malloc(room);
    if (!path)
        return qz_fail_memory(error, output->label);
    snprintf(path, room, "%s%s", output->before, output->temp);
    qz_file_result result = qz_open(path, options, opened, error);
    free(path);
    return result;
}

qz_file_result qz_open_written(qz_writer *writer, const qz_open_options *given, qz_file **opened, qz_file_error *error)
{
    *opened = NULL;
    const qz_output *output = &writer->output;
    qz_open_options options = QZ_OPEN_OPTIONS_INIT;
    qz_take_options(&options, sizeof options, given);
    qz_file_result result = qz_writer_complete(writer, error);
    if (result != QZ_FILE_OK)
        return result;
    if (output->files >= 0)
        return open_written_folder(output, &options, opened, error);
    const qz_place place = {.folder = AT_FDCWD,
                            .path = output->path,
                            .shown = output->path,
                            .max_table = options.max_table,
                            .opened = fcntl(output->fd, F_DUPFD_CLOEXEC, 3)};
    if (place.opened < 0)
        return qz_fail_errno(error, output->label, "open again");
    return open_whole(&place, &options, opened, error);
}

void qz_close(qz_file *file)
{
    if (!file)
        return;
    if (file->container && file->container->close)
        file->container->close(file);
    for (size_t i = 0; i < file->parts.count; i++)
        qz_close(file->parts.files[i]); /* parts have no parts */
    pthread_mutex_destroy(&file->parts.lock);
    qz_parts_free(&file->parts);
    qz_names_free(&file->names);
    qz_names_free(&file->packed.names);
    free(file->packed.entries);
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

size_t qz_metadata_count(const qz_file *file)
{
    return file->metadata.count;
}

const qz_metadata *qz_metadata_at(const qz_file *file, size_t i)
{
    return i < file->metadata.count ? &file->metadata.pairs[i] : NULL;
}

const char *qz_tensor_stored(const qz_file *file, size_t i)
{
    return i < file->count && file->container->stored ? file->container->stored(&file->entries[i].tensor) : NULL;
}

const char *qz_note(const qz_file *file)
{
    return file->note[0] != '\0' ? file->note : NULL;
}

qz_file_result qz_unchanged(const qz_file *file, qz_file_error *error)
{
    qz_file_result result = qz_input_unchanged(&file->input, error);
    return result == QZ_FILE_OK ? qz_parts_unchanged(file, error) : result;
}
