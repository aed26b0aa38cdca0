/*
 * gguf_output.c - GGUF as a container that is written
 *
 * If the metadata of a GGUF file is passed on, its keys are copied as bytes. Two keys are made anew, because they
 * describe the tensors: general.file_type, the type of most bytes, and general.quantization_version. Keys that number
 * the parts of a file are left out. Without metadata, the file has these two keys only, and none if it has no blocks.
 */
#include "gguf_output.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../descriptor.h"
#include "../element.h"

enum { QUANTIZATION_VERSION = 2 };

static const char file_type_key[] = "general.file_type", version_key[] = "general.quantization_version";

/* llama.cpp's numbers for files that mostly have tensors of a type. */
static const struct {
    unsigned type, file_type;
} file_types[] = {{0, 0},   {1, 1},   {2, 2},   {3, 3},   {6, 8},   {7, 9},   {8, 7},   {10, 10}, {11, 11}, {12, 14},
                  {13, 16}, {14, 18}, {20, 25}, {23, 30}, {30, 32}, {34, 36}, {35, 37}, {39, 38}, {40, 39}};

/* The type in the file; NULL if the format has none. */
static const qz_ggml_type *type_of(const qz_slot *slot)
{
    return slot->blocks != 0 ? qz_ggml_type_of(slot->blocks) : qz_ggml_type_of_element(slot->tensor.element);
}

qz_file_result qz_gguf_declare(qz_writer *writer, const qz_slot *slot, qz_file_error *error)
{
    const qz_tensor *tensor = &slot->tensor;
    const char *wrong = qz_model_name_wrong(tensor->name, tensor->name_length);
    char field[QZ_MODEL_FIELD];
    qz_model_field("tensor", tensor->name, tensor->name_length, field);
    if (!type_of(slot))
        return qz_fail_type(error, writer->output.label, field, tensor,
                            "GGUF does not have; write a .safetensors or .npz, or leave it out");
    if (!wrong && tensor->name_length > QZ_GGUF_NAME_LONGEST)
        wrong = "the name has more than the 63 bytes that GGUF allows; rename it, or write a .safetensors or .npz";
    if (!wrong && tensor->rank > QZ_GGUF_AXES)
        wrong = "has more than 4 axes, the most in a GGUF file; write a .safetensors or .npz";
    if (!wrong && tensor->column_major && tensor->rank > 1)
        wrong = "has its first axis run fastest, which GGUF does not have; write an .npz";
    return !wrong ? QZ_FILE_OK
                  : qz_fail(error, QZ_FILE_REFUSED, writer->output.label, field, QZ_NO_OFFSET, "%s", wrong);
}

/* ---- keys ---- */

typedef struct own_keys {
    int blocks; /* whether any tensor has some */
    uint8_t file_type[4], version[4];
} own_keys;

/* What the keys of this library's own say of the tensors. */
static own_keys describe_tensors(const qz_model_tensor *tensors, const qz_writer *writer)
{
    enum { TYPES = sizeof file_types / sizeof file_types[0] };
    uint64_t bytes[TYPES] = {0};
    size_t most = 0;
    own_keys keys = {.version = {QUANTIZATION_VERSION}};
    for (size_t i = 0; i < writer->count; i++) {
        keys.blocks |= writer->slots[i].blocks != 0;
        for (size_t t = 0; t < TYPES; t++)
            bytes[t] += file_types[t].type == tensors[i].type ? writer->slots[i].tensor.bytes : 0;
    }
    for (size_t t = 0; t < TYPES; t++)
        most = bytes[t] > bytes[most] ? t : most;
    keys.file_type[0] = (uint8_t)file_types[most].file_type;
    return keys;
}

static qz_gguf_value number_value(const char *key, const uint8_t number[4])
{
    return (qz_gguf_value){.key = key, .key_length = strlen(key), .type = QZ_GGUF_U32, .bytes = 4, .data = number};
}

/* Keys of a file in several parts, all of which go into one. */
static int is_of_parts(const char *key)
{
    return strcmp(key, "split.no") == 0 || strcmp(key, "split.count") == 0 || strcmp(key, "split.tensors.count") == 0;
}

/* All keys of the output: those that are passed on, in their order, and the own ones in place of theirs, or at the end.
 * Returns how many. `values` has room for two more than those that are passed on. */
static size_t choose_keys(const qz_gguf *metadata, const own_keys *keys, qz_gguf_value *values)
{
    size_t n = 0, given = metadata ? metadata->value_count : 0;
    int has_type = 0, has_version = 0;
    for (size_t i = 0; i < given; i++) {
        const qz_gguf_value *value = &metadata->values[i];
        int is_type = strcmp(value->key, file_type_key) == 0, is_version = strcmp(value->key, version_key) == 0;
        has_type |= is_type;
        has_version |= is_version;
        if ((is_version && !keys->blocks) || is_of_parts(value->key))
            continue;
        values[n++] = is_type      ? number_value(file_type_key, keys->file_type)
                      : is_version ? number_value(version_key, keys->version)
                                   : *value;
    }
    if (!has_type && keys->blocks)
        values[n++] = number_value(file_type_key, keys->file_type);
    if (!has_version && keys->blocks)
        values[n++] = number_value(version_key, keys->version);
    return n;
}

/* ---- the header ---- */

/* The tensors as the header has them; their shapes go to the writer's memory. */
static int list_tensors(qz_writer *writer, qz_model_tensor *tensors)
{
    for (size_t i = 0; i < writer->count; i++) {
        const qz_slot *slot = &writer->slots[i];
        const qz_tensor *t = &slot->tensor;
        const qz_ggml_type *type = type_of(slot);
        uint64_t *shape = qz_arena_get(&writer->arena, t->rank * sizeof *shape);
        if (!shape)
            return 0;
        if (t->rank != 0) {
            memcpy(shape, t->shape, t->rank * sizeof *shape);
            shape[t->rank - 1] *= type->values; /* of blocks the slot has but their number */
        }
        tensors[i] = (qz_model_tensor){
            .name = t->name, .name_length = t->name_length, .type = type->id, .rank = t->rank, .shape = shape};
    }
    return 1;
}

static qz_file_result put_header(qz_writer *writer, qz_model_tensor *tensors, const qz_gguf_value *values, size_t count,
                                 qz_file_error *error)
{
    const char *label = writer->output.label;
    char *header;
    size_t bytes;
    uint64_t file_bytes;
    qz_file_result result =
        qz_gguf_format(tensors, writer->count, values, count, &header, &bytes, &file_bytes, label, error);
    if (result != QZ_FILE_OK)
        return result;
    for (size_t i = 0; i < writer->count; i++)
        writer->slots[i].start = writer->slots[i].offset = tensors[i].offset;
    qz_reserve(writer->output.fd, file_bytes);
    /* The zeros between and after the data are holes. */
    if (!qz_pwrite_all(writer->output.fd, header, bytes, 0) || ftruncate(writer->output.fd, (off_t)file_bytes) != 0)
        result = qz_fail_errno(error, label, "write");
    free(header);
    return result;
}

qz_file_result qz_gguf_layout(qz_writer *writer, qz_gguf *metadata, const qz_input *input, qz_file_error *error)
{
    size_t given = metadata ? metadata->value_count : 0;
    qz_model_tensor *tensors = calloc(writer->count + 1, sizeof *tensors);
    qz_gguf_value *values = calloc(given + 2, sizeof *values);
    qz_file_result result = metadata ? qz_gguf_load(metadata, input, error) : QZ_FILE_OK;
    if (result == QZ_FILE_OK && (!tensors || !values || !list_tensors(writer, tensors)))
        result = qz_fail_memory(error, writer->output.label);
    if (result == QZ_FILE_OK) {
        const own_keys keys = describe_tensors(tensors, writer);
        result = put_header(writer, tensors, values, choose_keys(metadata, &keys, values), error);
    }
    free(values);
    free(tensors);
    return result;
}
