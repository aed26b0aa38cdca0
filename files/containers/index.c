/*
 * index.c - reads model.safetensors.index.json: a model in several .safetensors files
 *
 *     {"metadata": {"total_size": 24}, "weight_map": {"name": "model-00001-of-00002.safetensors", ...}}
 *
 * The reader refuses an index that two readers could understand differently: a name that occurs twice, or a tensor that
 * is not exactly in the file that the map names. The total size is compared, but a wrong one is only noted, because
 * nothing depends on it and tools often write it wrong: they count shared tensors twice, and quantized tensors with the
 * size that they had before.
 */
#include "../container.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "../parts.h"
#include "json.h"
#include "model.h"
#include "safetensors_file.h"

enum { DEEPEST = 16 };

typedef struct placed { /* a tensor of the map */
    const char *name;
    size_t length;
    uint32_t shard; /* its number */
    int found;
} placed;

typedef struct shard {
    const char *name;
    uint32_t number; /* in the order of the map */
} shard;

typedef struct map {
    char *text;
    placed *tensors;
    size_t count, room;
    shard *shards;
    size_t shard_count, shard_room;
    qz_names names, shard_names;
    enum { NO_TOTAL, TOTAL, NO_NUMBER } said;
    uint64_t total;
} map;

typedef struct reader {
    map *out;
    qz_json json;
    qz_model account; /* of memory */
    const char *label;
    qz_file_error *error;
} reader;

/* ---- the text ---- */

/* A JSON text, that is no number alone, and not the eight bytes of a length before one. */
static int probe(const uint8_t *head, size_t bytes, uint64_t file_size)
{
    (void)file_size;
    size_t i = 0;
    while (i < bytes && strchr(" \t\r\n", head[i]) && head[i] != 0)
        i++;
    return i < bytes && head[i] == '{' && !memchr(head, 0, bytes);
}

static qz_file_result refuse(const reader *r, const char *field, size_t at, const char *what)
{
    return qz_fail(r->error, QZ_FILE_FORMAT, r->label, field, at, "%s", what);
}

static qz_file_result unexpected(const reader *r, const char *field, const char *what)
{
    return refuse(r, field, r->json.start, r->json.kind == QZ_JSON_ERROR ? r->json.wrong : what);
}

/* Makes room for one more of `each` bytes, which is charged for: *longer is the list, if it has moved. */
static qz_file_result grow(reader *r, void *list, size_t count, size_t *room, size_t each, void **longer)
{
    qz_file_result result = qz_model_charge(&r->account, 1, 3 * each + QZ_MODEL_NAME_COST, r->label, r->error);
    *longer = list;
    if (result != QZ_FILE_OK || count < *room)
        return result;
    size_t wider = *room == 0 ? 64 : 2 * *room;
    void *moved = realloc(list, wider * each);
    if (!moved)
        return qz_fail_memory(r->error, r->label);
    *longer = moved;
    *room = wider;
    return QZ_FILE_OK;
}

/* The number of a shard, which may be a new one. */
static qz_file_result shard_of(reader *r, const char *name, size_t length, uint32_t *number)
{
    map *m = r->out;
    size_t known = qz_names_find(&m->shard_names, name, length);
    *number = (uint32_t)(known != SIZE_MAX ? known : m->shard_count); /* a text of 4 GiB is beyond all limits */
    if (known != SIZE_MAX)
        return QZ_FILE_OK;
    void *longer;
    qz_file_result result = grow(r, m->shards, m->shard_count, &m->shard_room, sizeof *m->shards, &longer);
    m->shards = longer;
    if (result != QZ_FILE_OK)
        return result;
    m->shards[m->shard_count++] = (shard){name, *number};
    return qz_names_add(&m->shard_names, name, length, *number) == QZ_NAME_NEW ? QZ_FILE_OK
                                                                               : qz_fail_memory(r->error, r->label);
}

static qz_file_result read_place(reader *r)
{
    char field[QZ_MODEL_FIELD];
    map *m = r->out;
    qz_json *json = &r->json;
    placed t = {.name = json->string, .length = json->length};
    const size_t start = json->start;
    qz_model_field("tensor", t.name, t.length, field);
    const char *wrong = qz_model_name_wrong(t.name, t.length);
    if (wrong)
        return refuse(r, field, start, wrong);
    if (qz_json_next(json) != QZ_JSON_STRING)
        return unexpected(r, field, "the map gives no name of a file for it");
    if (memchr(json->string, '\0', json->length))
        return refuse(r, field, json->start, "the name of its file holds the character 0");
    void *longer = m->tensors;
    qz_file_result result = shard_of(r, json->string, json->length, &t.shard);
    if (result == QZ_FILE_OK)
        result = grow(r, m->tensors, m->count, &m->room, sizeof *m->tensors, &longer);
    m->tensors = longer;
    if (result != QZ_FILE_OK)
        return result;
    switch (qz_names_add(&m->names, t.name, t.length, m->count)) {
    case QZ_NAME_NEW:
        m->tensors[m->count++] = t;
        return QZ_FILE_OK;
    case QZ_NAME_TWICE:
        return refuse(r, field, start, "the name occurs twice, so that its meaning is unclear");
    default:
        return qz_fail_memory(r->error, r->label);
    }
}

static qz_file_result read_map(reader *r)
{
    qz_file_result result = QZ_FILE_OK;
    if (qz_json_next(&r->json) != QZ_JSON_OBJECT)
        return unexpected(r, "weight_map", "is not an object of names of files");
    while (result == QZ_FILE_OK && qz_json_next(&r->json) == QZ_JSON_KEY)
        result = read_place(r);
    if (result == QZ_FILE_OK && r->json.kind != QZ_JSON_OBJECT_END)
        result = unexpected(r, "weight_map", "");
    if (result == QZ_FILE_OK && r->out->count == 0)
        result = refuse(r, "weight_map", r->json.start, "is empty");
    return result;
}

/* Only the total size counts, of what tools write here. */
static qz_file_result read_metadata(reader *r)
{
    qz_json *json = &r->json;
    if (qz_json_next(json) == QZ_JSON_NULL)
        return QZ_FILE_OK;
    if (json->kind != QZ_JSON_OBJECT)
        return unexpected(r, "metadata", "is not an object");
    while (qz_json_next(json) == QZ_JSON_KEY) {
        int is_total = qz_json_is(json, "total_size");
        if (is_total && r->out->said != NO_TOTAL)
            return refuse(r, "total_size", json->start, "occurs twice, so that its meaning is unclear");
        qz_json_next(json);
        if (is_total)
            r->out->said = !qz_json_whole(json, &r->out->total) ? TOTAL : NO_NUMBER;
        qz_json_skip(json);
    }
    return json->kind == QZ_JSON_OBJECT_END ? QZ_FILE_OK : unexpected(r, "metadata", "");
}

static qz_file_result read_text(reader *r)
{
    enum { MAP = 1, METADATA = 2 };
    unsigned seen = 0;
    qz_json *json = &r->json;
    qz_file_result result = QZ_FILE_OK;
    qz_json_next(json); /* an object: the brace is what such a file is known by */
    while (result == QZ_FILE_OK && qz_json_next(json) == QZ_JSON_KEY) {
        unsigned which = qz_json_is(json, "weight_map") ? MAP : qz_json_is(json, "metadata") ? METADATA : 0;
        if (seen & which)
            return refuse(r, which == MAP ? "weight_map" : "metadata", json->start,
                          "occurs twice, so that its meaning is unclear");
        seen |= which;
        if (which == MAP) {
            result = read_map(r);
        } else if (which == METADATA) {
            result = read_metadata(r);
        } else { /* what a tool adds for itself */
            qz_json_next(json);
            qz_json_skip(json);
        }
    }
    if (result != QZ_FILE_OK)
        return result;
    if (json->kind != QZ_JSON_OBJECT_END || qz_json_next(json) != QZ_JSON_END)
        return unexpected(r, "index", "");
    return seen & MAP ? QZ_FILE_OK
                      : refuse(r, "index", 0,
                               "has no weight_map; of JSON files, only the index of a model in several files is read");
}

static qz_file_result open_index(qz_file *file, qz_file_error *error)
{
    const uint64_t length = file->input.size;
    map *m = calloc(1, sizeof *m);
    if (!m)
        return qz_fail_memory(error, file->input.label);
    file->state = m;
    reader r = {.out = m, .account.left = file->table_left, .label = file->input.label, .error = error};
    qz_file_result result = qz_model_charge(&r.account, length, 1, r.label, error);
    if (result != QZ_FILE_OK)
        return result;
    m->text = malloc((size_t)length + 1);
    if (!m->text)
        return qz_fail_memory(error, r.label);
    result = qz_input_read(&file->input, 0, m->text, (size_t)length, error);
    if (result != QZ_FILE_OK)
        return result;
    qz_json_begin(&r.json, m->text, (size_t)length, DEEPEST);
    return read_text(&r); /* the map is gone when the file is open: what it needs is not taken from the parts */
}

/* ---- the shards ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const shard *)a)->name, ((const shard *)b)->name);
}

static qz_file_result misplaced(const qz_file *file, const qz_tensor *t, const char *first, const char *shard_name,
                                const char *then, const char *other, qz_file_error *error)
{
    char field[QZ_MODEL_FIELD], shown[QZ_NAME_TEXT], more[QZ_NAME_TEXT] = "";
    qz_escape(shard_name, strlen(shard_name), shown, sizeof shown);
    if (other)
        qz_escape(other, strlen(other), more, sizeof more);
    return qz_fail(error, QZ_FILE_FORMAT, file->input.label, qz_model_field("tensor", t->name, t->name_length, field),
                   QZ_NO_OFFSET, "%s%s%s%s", first, shown, then, more);
}

/* The shard of a tensor, which is one of the map's. */
static const char *name_of(const map *m, const placed *t)
{
    size_t i = 0;
    while (m->shards[i].number != t->shard)
        i++;
    return m->shards[i].name;
}

/* A shard must have those tensors that the map says, which the end of open_shards() sees, and no others. */
static qz_file_result check_shard(const qz_file *file, map *m, const shard *s, qz_file_error *error)
{
    const qz_file *part = qz_parts_last(file);
    for (size_t i = 0; i < part->count; i++) {
        const qz_tensor *t = &part->entries[i].tensor;
        size_t at = qz_names_find(&m->names, t->name, t->name_length);
        if (at == SIZE_MAX)
            return misplaced(file, t, "is in ", s->name, ", but not in the index", NULL, error);
        if (m->tensors[at].shard != s->number)
            return misplaced(file, t, "is in ", s->name, ", but the index has it in ", name_of(m, &m->tensors[at]),
                             error);
        m->tensors[at].found = 1;
    }
    return QZ_FILE_OK;
}

/* Every tensor of the map was found. */
static qz_file_result check_map(const qz_file *file, const map *m, qz_file_error *error)
{
    for (size_t i = 0; i < m->count; i++) {
        const placed *t = &m->tensors[i];
        const qz_tensor named = {.name = t->name, .name_length = t->length};
        if (!t->found)
            return misplaced(file, &named, "is in the index, but not in its file ", name_of(m, t), "", NULL, error);
    }
    return QZ_FILE_OK;
}

static void note_total(qz_file *file, const map *m)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < file->count; i++)
        bytes += file->entries[i].tensor.bytes; /* of files on a medium */
    size_t used = strlen(file->note);
    const char *before = used != 0 ? "; " : "";
    if (m->said == NO_NUMBER)
        snprintf(file->note + used, sizeof file->note - used,
                 "%stotal_size in the index is not a whole number, and is ignored", before);
    else if (m->said == TOTAL && m->total != bytes)
        snprintf(file->note + used, sizeof file->note - used,
                 "%stotal_size in the index is %" PRIu64 ", but the tensors have %" PRIu64 " bytes", before, m->total,
                 bytes);
}

static void close_index(qz_file *file)
{
    map *m = file->state;
    if (!m)
        return;
    free(m->text);
    free(m->tensors);
    free(m->shards);
    qz_names_free(&m->names);
    qz_names_free(&m->shard_names);
    free(m);
    file->state = NULL;
}

static qz_file_result open_shards(qz_file *file, qz_file_error *error)
{
    map *m = file->state;
    qz_file_result result = QZ_FILE_OK;
    qsort(m->shards, m->shard_count, sizeof *m->shards, by_name);
    for (size_t i = 0; i < m->shard_count && result == QZ_FILE_OK; i++) {
        result = qz_parts_add(file, m->shards[i].name, &qz_container_safetensors, error);
        if (result == QZ_FILE_OK)
            result = check_shard(file, m, &m->shards[i], error);
    }
    if (result == QZ_FILE_OK)
        result = check_map(file, m, error);
    if (result == QZ_FILE_OK)
        result = qz_parts_join(file, error);
    if (result == QZ_FILE_OK)
        note_total(file, m);
    close_index(file);
    return result;
}

const qz_container_type qz_container_index = {
    .name = "safetensors",
    .extension = ".index.json",
    .probe = probe,
    .open = open_index,
    .parts = open_shards,
    .close = close_index,
    .stored = qz_safetensors_stored,
};
