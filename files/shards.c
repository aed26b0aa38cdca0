/*
 * shards.c - an output that is a folder, with a model in one or several files of one kind
 */
#include "shards.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "container.h"
#include "containers/json.h"
#include "descriptor.h"
#include "error.h"
#include "output_folder.h"

enum { NUMBERS = 100000 }; /* that five digits have */

void qz_shards_name(const qz_writer *writer, size_t shard, char name[QZ_SHARD_NAME])
{
    const qz_shards *all = &writer->shards;
    const char *end = writer->container->extension;
    if (all->count == 1)
        snprintf(name, QZ_SHARD_NAME, "%.32s%.12s", all->stem, end);
    else
        snprintf(name, QZ_SHARD_NAME, "%.32s-%05u-of-%05u%.12s", all->stem, (unsigned)(shard + 1) % NUMBERS,
                 (unsigned)all->count % NUMBERS, end); /* nothing is lost: qz_shards_layout() has refused more */
}

static qz_file_result open_shard(qz_writer *writer, size_t shard, int is_new, qz_file_error *error)
{
    char name[QZ_SHARD_NAME];
    qz_shards_name(writer, shard, name);
    writer->shards.open = SIZE_MAX;
    qz_file_result result = qz_output_folder_file(&writer->output, name, is_new, error);
    if (result == QZ_FILE_OK)
        writer->shards.open = shard;
    return result;
}

qz_file_result qz_shards_select(qz_writer *writer, const qz_slot *slot, qz_file_error *error)
{
    return writer->shards.open == slot->shard ? QZ_FILE_OK : open_shard(writer, slot->shard, 0, error);
}

/* The tensors that stay together from one on, and their bytes. */
static size_t group_at(const qz_writer *writer, size_t first, uint64_t *bytes)
{
    size_t end = first;
    *bytes = 0;
    do {
        if (!qz_add(*bytes, writer->slots[end++].tensor.bytes, bytes))
            *bytes = UINT64_MAX;
    } while (end < writer->count && writer->slots[end].joined);
    return end;
}

/* Gives each tensor its file: the last one, as long as there is room. */
static void divide(qz_writer *writer)
{
    uint64_t used = 0, bytes;
    size_t shard = 0;
    for (size_t i = 0, end; i < writer->count; i = end) {
        end = group_at(writer, i, &bytes);
        if (used != 0 && (used > writer->shards.bytes || bytes > writer->shards.bytes - used)) {
            shard++;
            used = 0;
        }
        if (!qz_add(used, bytes, &used))
            used = UINT64_MAX;
        for (size_t k = i; k < end; k++)
            writer->slots[k].shard = shard;
    }
    writer->shards.count = shard + 1;
}

qz_file_result qz_shards_layout(qz_writer *writer, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    divide(writer);
    if (writer->shards.count > writer->container->folder->most_files)
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, NULL, QZ_NO_OFFSET,
                       "the tensors would be in %zu files, of which there can be %u; put more into one",
                       writer->shards.count, writer->container->folder->most_files);
    if (writer->shards.part != QZ_PART_REST && writer->shards.part > writer->shards.count)
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, NULL, QZ_NO_OFFSET,
                       "there is no file %" PRIu64 " of the folder: it has %zu", writer->shards.part,
                       writer->shards.count);
    for (size_t shard = 0, first = 0, end; shard < writer->shards.count && result == QZ_FILE_OK; shard++, first = end) {
        for (end = first; end < writer->count && writer->slots[end].shard == shard;)
            end++;
        if (writer->shards.part != 0 && writer->shards.part - 1 != shard)
            continue;
        result = open_shard(writer, shard, 1, error);
        if (result == QZ_FILE_OK)
            result = writer->container->layout(writer, first, end - first, error);
    }
    return result;
}

/* ---- the index ---- */

typedef struct entry { /* of the index */
    const qz_slot *slot;
} entry;

static int by_name(const void *a, const void *b)
{
    const qz_tensor *x = &((const entry *)a)->slot->tensor, *y = &((const entry *)b)->slot->tensor;
    size_t shorter = x->name_length < y->name_length ? x->name_length : y->name_length;
    int order = memcmp(x->name, y->name, shorter);
    return order != 0 ? order : (x->name_length > y->name_length) - (x->name_length < y->name_length);
}

/* The text of the index, to be released with free(); NULL without memory. */
static char *format_index(const qz_writer *writer, size_t *bytes)
{
    enum { FRAME = 128, ENTRY = QZ_SHARD_NAME + 16 };
    uint64_t room = FRAME, total = 0, more;
    entry *entries = calloc(writer->count + 1, sizeof *entries);
    int fits = entries != NULL;
    for (size_t i = 0; i < writer->count && fits; i++) {
        const qz_tensor *t = &writer->slots[i].tensor;
        entries[i].slot = &writer->slots[i];
        fits = qz_add(total, t->bytes, &total) && qz_mul(t->name_length, QZ_JSON_ESCAPED, &more) &&
               qz_add(room, more, &room) && qz_add(room, ENTRY, &room);
    }
    char *text = fits && room < SIZE_MAX ? malloc((size_t)room) : NULL;
    if (text) {
        qsort(entries, writer->count, sizeof *entries, by_name);
        char *at =
            text + snprintf(text, FRAME,
                            "{\n  \"metadata\": {\n    \"total_size\": %" PRIu64 "\n  },\n  \"weight_map\": {", total);
        for (size_t i = 0; i < writer->count; i++) {
            char name[QZ_SHARD_NAME];
            const qz_slot *slot = entries[i].slot;
            qz_shards_name(writer, slot->shard, name);
            at += snprintf(at, 8, "%s\n    ", i == 0 ? "" : ",");
            at = qz_json_put_string(at, slot->tensor.name, slot->tensor.name_length);
            at += snprintf(at, QZ_SHARD_NAME + 8, ": \"%s\"", name);
        }
        at += snprintf(at, 16, "\n  }\n}\n");
        *bytes = (size_t)(at - text);
    }
    free(entries);
    return text;
}

static qz_file_result write_index(qz_writer *writer, qz_file_error *error)
{
    size_t bytes;
    char name[QZ_SHARD_NAME], *text = format_index(writer, &bytes);
    if (!text)
        return qz_fail_memory(error, writer->output.label);
    snprintf(name, sizeof name, "%s%s", writer->shards.stem, writer->container->folder->index);
    qz_file_result result = qz_output_folder_write(&writer->output, name, text, bytes, error);
    free(text);
    return result;
}

qz_file_result qz_shards_finish(qz_writer *writer, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    for (size_t shard = 0; shard < writer->shards.count && result == QZ_FILE_OK; shard++) {
        if (writer->shards.part != 0 && writer->shards.part - 1 != shard)
            continue;
        if (shard != writer->shards.open)
            result = open_shard(writer, shard, 0, error);
        if (result == QZ_FILE_OK)
            result = qz_output_folder_end_file(&writer->output, error);
        writer->shards.open = SIZE_MAX;
    }
    const int indexed = writer->container->folder->index && writer->shards.count > 1 &&
                        (writer->shards.part == 0 || writer->shards.part == QZ_PART_REST);
    return result == QZ_FILE_OK && indexed ? write_index(writer, error) : result;
}
