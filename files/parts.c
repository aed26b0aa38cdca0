/*
 * parts.c - a file whose tensors are in several files
 *
 * It opens the parts, joins their lists of tensors, and finds the part in which a tensor is. The containers index.c and
 * gguf_split.c decide which parts there are.
 */
#include "parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checked.h"
#include "container.h"
#include "descriptor.h"
#include "error.h"

enum { MOST = 99999 }; /* five digits count them in their names */

/* ---- the folder ---- */

static qz_file_result open_folder(qz_file *file, qz_file_error *error)
{
    qz_parts *parts = &file->parts;
    const char *path = file->input.path, *slash = strrchr(path, '/');
    parts->path = strndup(path, slash ? (size_t)(slash - path) + 1 : 0); /* with its slash */
    if (!parts->path)
        return qz_fail_memory(error, file->input.label);
    const char *name = parts->path[0] != '\0' ? parts->path : ".";
    parts->folder = qz_above_standard(openat(file->input.folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return parts->folder >= 0 ? QZ_FILE_OK : qz_fail_errno(error, file->input.label, "open the folder of the file");
}

/* A name of one file in a folder, nothing that leads anywhere else; a backslash would, on other systems. */
static int is_plain_name(const char *name)
{
    return name[0] != '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !strpbrk(name, "/\\");
}

static qz_file_result refuse(const qz_file *file, const char *name, const char *what, qz_file_error *error)
{
    char shown[QZ_NAME_TEXT], field[QZ_NAME_TEXT + 16];
    snprintf(field, sizeof field, "part '%s'", qz_escape(name, strlen(name), shown, sizeof shown));
    return qz_fail(error, QZ_FILE_FORMAT, file->input.label, field, QZ_NO_OFFSET, "%s", what);
}

/* ---- opening ---- */

/* Keeps a part open, in the place of the one that was opened longest ago. */
static void keep_awake(qz_parts *parts, size_t part)
{
    size_t *turn = &parts->awake[parts->turn++ % QZ_PARTS_AWAKE];
    if (*turn != SIZE_MAX && *turn < parts->count && *turn != part)
        qz_input_park(&parts->files[*turn]->input);
    *turn = part;
}

static int make_room(qz_parts *parts)
{
    if (parts->count < parts->capacity)
        return 1;
    size_t wider = parts->capacity == 0 ? 16 : 2 * parts->capacity;
    qz_file **files = realloc(parts->files, wider * sizeof(qz_file *));
    if (!files)
        return 0;
    parts->files = files;
    size_t *first = realloc(parts->first, wider * sizeof *first);
    if (!first)
        return 0;
    parts->first = first;
    parts->capacity = wider;
    return 1;
}

/* ---- reading ---- */

/* The last part that begins at or before a tensor; those before it that begin there, too, have none. */
static size_t part_of(const qz_parts *parts, size_t tensor)
{
    size_t low = 0, high = parts->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (parts->first[middle] <= tensor)
            low = middle;
        else
            high = middle;
    }
    return low;
}

qz_file_result qz_parts_find(qz_file *file, qz_file **part, size_t *tensor, qz_file_error *error)
{
    qz_parts *parts = &file->parts;
    *part = file;
    if (!qz_file_in_part(file, *tensor))
        return QZ_FILE_OK;
    size_t i = part_of(parts, *tensor);
    *part = parts->files[i];
    *tensor -= parts->first[i];
    if ((*part)->input.fd >= 0)
        return QZ_FILE_OK;
    qz_file_result result = qz_input_wake(&(*part)->input, error);
    if (result == QZ_FILE_OK)
        keep_awake(parts, i);
    return result;
}

static qz_file_result read_part(qz_file *file, size_t tensor, uint64_t first, uint64_t count, void *dst,
                                qz_file_error *error)
{
    qz_file *part;
    pthread_mutex_lock(&file->parts.lock);
    qz_file_result result = qz_parts_find(file, &part, &tensor, error);
    if (result == QZ_FILE_OK)
        result = qz_read(part, tensor, first, count, dst, error);
    pthread_mutex_unlock(&file->parts.lock);
    return result;
}

/* ---- the whole ---- */

qz_file_result qz_parts_add(qz_file *file, const char *name, const qz_container_type *kind, qz_file_error *error)
{
    qz_parts *parts = &file->parts;
    qz_file_result result = QZ_FILE_OK;
    if (parts->count == 0) {
        parts->read = read_part;
        for (size_t i = 0; i < QZ_PARTS_AWAKE; i++)
            parts->awake[i] = SIZE_MAX;
        if (!parts->path)
            result = open_folder(file, error);
    }
    if (result != QZ_FILE_OK)
        return result;
    if (!is_plain_name(name))
        return refuse(file, name, "is not the name of a file in the same folder; no path is followed from here", error);
    struct stat status;
    if (fstatat(parts->folder, name, &status, 0) != 0 && errno == ENOENT)
        return refuse(file, name, "is missing in the folder: the model is not complete", error);
    if (parts->count == MOST)
        return refuse(file, name, "is one more than the 99999 parts that there can be", error);
    size_t room = strlen(parts->path) + strlen(name) + 1;
    char *shown = malloc(room);
    if (!shown || !make_room(parts)) {
        free(shown);
        return qz_fail_memory(error, file->input.label);
    }
    snprintf(shown, room, "%s%s", parts->path, name);
    qz_file *part = NULL;
    const qz_place place = {.folder = parts->folder,
                            .path = name,
                            .shown = shown,
                            .kind = kind,
                            .max_table = file->table_left,
                            .inside = 1};
    result = file->parts.open(&place, &file->options, &part, error);
    free(shown);
    if (result != QZ_FILE_OK)
        return result;
    file->table_left = part->table_left;
    file->bytes += part->bytes; /* files on a medium: no sum of their sizes wraps */
    parts->files[parts->count++] = part;
    keep_awake(parts, parts->count - 1);
    return QZ_FILE_OK;
}

const qz_file *qz_parts_last(const qz_file *file)
{
    return file->parts.files[file->parts.count - 1];
}

/* What the first part has to note, and that there is more. */
static void take_notes(qz_file *file)
{
    const qz_parts *parts = &file->parts;
    size_t used = strlen(file->note), more = 0;
    const qz_file *first = NULL;
    for (size_t i = 0; i < parts->count; i++) {
        if (parts->files[i]->note[0] == '\0')
            continue;
        more += first != NULL;
        first = first ? first : parts->files[i];
    }
    if (!first)
        return;
    used += (size_t)snprintf(file->note + used, sizeof file->note - used, "%s%s", used ? "; " : "", first->note);
    if (more != 0 && used < sizeof file->note)
        snprintf(file->note + used, sizeof file->note - used, " (so in %zu files)", more + 1);
}

/* Notes that parts say different things of the model, of which the first counts. */
static void note_difference(qz_file *file, const qz_metadata *pair)
{
    char shown[QZ_NAME_TEXT];
    size_t used = strlen(file->note);
    snprintf(file->note + used, sizeof file->note - used,
             "%sthe files differ in metadata '%s'; that of the first one counts", used != 0 ? "; " : "",
             qz_escape(pair->key, pair->key_length, shown, sizeof shown));
}

static int same_value(const qz_metadata *a, const qz_metadata *b)
{
    return a->value_length == b->value_length && memcmp(a->value, b->value, a->value_length) == 0;
}

/* The metadata of all parts, each key as the first part has it. A file with parts has none of its own. */
static qz_file_result join_metadata(qz_file *file, qz_file_error *error)
{
    const qz_parts *parts = &file->parts;
    qz_names keys = {0};
    size_t most = 0, count = 0;
    int differ = 0;
    for (size_t i = 0; i < parts->count; i++)
        most += parts->files[i]->metadata.count;
    qz_metadata *pairs = qz_arena_get(&file->arena, most * sizeof *pairs);
    qz_name_result added = pairs ? QZ_NAME_NEW : QZ_NAME_NO_MEMORY;
    for (size_t i = 0; i < parts->count && added != QZ_NAME_NO_MEMORY; i++)
        for (size_t j = 0; j < parts->files[i]->metadata.count && added != QZ_NAME_NO_MEMORY; j++) {
            const qz_metadata *pair = &parts->files[i]->metadata.pairs[j];
            size_t before = qz_names_find(&keys, pair->key, pair->key_length);
            if (before == SIZE_MAX) {
                added = qz_names_add(&keys, pair->key, pair->key_length, count);
                pairs[count++] = *pair;
            } else if (!same_value(&pairs[before], pair) && !differ++) {
                note_difference(file, pair);
            }
        }
    qz_names_free(&keys);
    if (added == QZ_NAME_NO_MEMORY)
        return qz_fail_memory(error, file->input.label);
    file->metadata.pairs = pairs;
    file->metadata.count = count;
    return QZ_FILE_OK;
}

qz_file_result qz_parts_join(qz_file *file, qz_file_error *error)
{
    qz_parts *parts = &file->parts;
    qz_file_result result = QZ_FILE_OK;
    for (size_t i = 0; i < parts->count; i++) {
        const qz_file *part = parts->files[i];
        parts->first[i] = file->count;
        for (size_t j = 0; j < part->count && result == QZ_FILE_OK; j++) {
            result = qz_file_add(file, &part->entries[j].tensor, QZ_NO_OFFSET, error);
            if (result == QZ_FILE_OK) {
                file->entries[file->count - 1].blocks = part->entries[j].blocks;
                file->entries[file->count - 1].coded = part->entries[j].coded;
                file->entries[file->count - 1].stored = part->entries[j].stored;
            }
        }
    }
    take_notes(file);
    return result == QZ_FILE_OK ? join_metadata(file, error) : result;
}

qz_file_result qz_parts_unchanged(const qz_file *file, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    for (size_t i = 0; i < file->parts.count && result == QZ_FILE_OK; i++)
        result = qz_input_unchanged(&file->parts.files[i]->input, error);
    return result;
}

void qz_parts_free(qz_parts *parts)
{
    free(parts->files);
    free(parts->first);
    if (parts->path && parts->folder >= 0)
        close(parts->folder);
    free(parts->path);
    *parts = (qz_parts){0};
}
