/*
 * gguf_split.c - reads a GGUF file that is in several parts
 *
 * It finds the other parts by the name of the first one, and checks that their keys agree.
 */
#include "gguf_split.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "../locate.h"
#include "../parts.h"

typedef struct split {
    uint64_t number, count, tensors;
    int has_tensors;
} split;

/* The number of a key, if there is one: 1; 0 if there is none; what is wrong in *result. */
static int take_number(const qz_file *file, const char *key, uint64_t *number, qz_file_result *result,
                       qz_file_error *error)
{
    const qz_gguf *header = file->state;
    const qz_gguf_value *found = qz_gguf_find(header, key);
    uint8_t bytes[8];
    if (!found || *result != QZ_FILE_OK)
        return 0;
    qz_gguf_value value = *found;
    if (value.bytes <= sizeof bytes) {
        *result = qz_input_read(&file->input, value.offset, bytes, (size_t)value.bytes, error);
        value.data = bytes;
        if (*result != QZ_FILE_OK)
            return 0;
    }
    if (qz_gguf_whole(&value, number))
        return 1;
    *result = qz_fail(error, QZ_FILE_FORMAT, file->input.label, key, value.offset, "is not a whole number");
    return 0;
}

static qz_file_result read_split(const qz_file *file, split *s, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    *s = (split){.count = 1};
    int has_count = take_number(file, "split.count", &s->count, &result, error);
    int has_number = take_number(file, "split.no", &s->number, &result, error);
    s->has_tensors = take_number(file, "split.tensors.count", &s->tensors, &result, error);
    if (result == QZ_FILE_OK && (has_count != has_number || (has_count && s->number >= s->count)))
        result =
            qz_fail(error, QZ_FILE_FORMAT, file->input.label, "split.no", QZ_NO_OFFSET, "does not go with split.count");
    return result;
}

/* The name of the file with its part's number: the path up to NAME, in *stem bytes. */
static qz_file_result check_name(const qz_file *file, const split *s, size_t *stem, qz_file_error *error)
{
    unsigned number = 0, of = 0;
    if (qz_numbered_name(file->input.path, ".gguf", &number, &of, stem) && number == s->number + 1 && of == s->count)
        return QZ_FILE_OK;
    return qz_fail(error, QZ_FILE_FORMAT, file->input.label, NULL, QZ_NO_OFFSET,
                   "is part %" PRIu64 " of %" PRIu64 " of a model, but its name does not end in -%05" PRIu64
                   "-of-%05" PRIu64 ".gguf, by which the others are found; rename it",
                   s->number + 1, s->count, s->number + 1, s->count);
}

static qz_file_result add_part(qz_file *file, const split *whole, uint64_t number, const char *name,
                               qz_file_error *error)
{
    split s;
    qz_file_result result = qz_parts_add(file, name, file->container, error);
    if (result == QZ_FILE_OK)
        result = read_split(qz_parts_last(file), &s, error);
    if (result == QZ_FILE_OK && (s.number != number || s.count != whole->count))
        result =
            qz_fail(error, QZ_FILE_FORMAT, qz_parts_last(file)->input.label, "split.no", QZ_NO_OFFSET,
                    "says that it is part %" PRIu64 " of %" PRIu64 ", its name that it is part %" PRIu64 " of %" PRIu64,
                    s.number + 1, s.count, number + 1, whole->count);
    return result;
}

qz_file_result qz_gguf_open_parts(qz_file *file, qz_file_error *error)
{
    split s;
    size_t stem = 0;
    qz_file_result result = read_split(file, &s, error);
    if (result != QZ_FILE_OK || s.count <= 1)
        return result;
    result = check_name(file, &s, &stem, error);
    if (result != QZ_FILE_OK)
        return result;
    const char *slash = strrchr(file->input.path, '/'), *name = slash ? slash + 1 : file->input.path;
    int before = (int)(stem - (size_t)(name - file->input.path));
    if (s.number != 0)
        return qz_fail(error, QZ_FILE_FORMAT, file->input.label, NULL, QZ_NO_OFFSET,
                       "is part %" PRIu64 " of %" PRIu64
                       " of a model; open the first one, which ends in -00001-of-%05" PRIu64 ".gguf",
                       s.number + 1, s.count, s.count);
    size_t room = strlen(name) + 32;
    char *other = malloc(room);
    if (!other)
        return qz_fail_memory(error, file->input.label);
    for (uint64_t i = 1; i < s.count && result == QZ_FILE_OK; i++) {
        snprintf(other, room, "%.*s-%05" PRIu64 "-of-%05" PRIu64 ".gguf", before, name, i + 1, s.count);
        result = add_part(file, &s, i, other, error);
    }
    free(other);
    if (result == QZ_FILE_OK)
        result = qz_parts_join(file, error);
    if (result == QZ_FILE_OK && s.has_tensors && s.tensors != file->count)
        result = qz_fail(error, QZ_FILE_FORMAT, file->input.label, "split.tensors.count", QZ_NO_OFFSET,
                         "counts %" PRIu64 " tensors, but the parts have %zu", s.tensors, file->count);
    return result;
}
