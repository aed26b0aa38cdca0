/*
 * gguf_output.c - GGUF as a container that is written
 *
 * If the metadata of a GGUF file is passed on, its keys are copied as bytes. Two keys are made anew, because they
 * describe the tensors: general.file_type, the type of most bytes, and general.quantization_version. Without metadata,
 * the file has these two keys only, and none if it has no blocks.
 *
 * If the output is in several parts, the first one has all keys, as llama.cpp's llama-gguf-split has it, and each has
 * those that number the parts (gguf_split.h). Such keys of the metadata are left out.
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
    int blocks;       /* whether any tensor of the model has some */
    int part, is_one; /* which part the file is, and whether it is the only one */
    uint8_t file_type[4], version[4];
    uint8_t number[2], parts[2], tensors[4];
} own_keys;

static void put_number(uint8_t *bytes, size_t count, uint64_t number)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(number >> (8 * i) & 0xff);
}

/* What the keys of this library's own say of the tensors, in the file with that one. */
static own_keys describe_tensors(const qz_writer *writer, size_t first)
{
    enum { TYPES = sizeof file_types / sizeof file_types[0] };
    uint64_t bytes[TYPES] = {0};
    size_t most = 0;
    own_keys keys = {.version = {QUANTIZATION_VERSION}, .is_one = writer->shards.count <= 1};
    if (!keys.is_one)
        keys.part = (int)writer->slots[first].shard;
    put_number(keys.number, sizeof keys.number, (uint64_t)keys.part);
    put_number(keys.parts, sizeof keys.parts, writer->shards.count);
    put_number(keys.tensors, sizeof keys.tensors, writer->count);
    if (keys.part != 0)
        return keys; /* the first part says all else */
    for (size_t i = 0; i < writer->count; i++) {
        const qz_slot *slot = &writer->slots[i];
        keys.blocks |= slot->blocks != 0;
        for (size_t t = 0; t < TYPES; t++)
            bytes[t] += file_types[t].type == type_of(slot)->id ? slot->tensor.bytes : 0;
    }
    for (size_t t = 0; t < TYPES; t++)
        most = bytes[t] > bytes[most] ? t : most;
    keys.file_type[0] = (uint8_t)file_types[most].file_type;
    return keys;
}

static qz_gguf_value number_value(const char *key, unsigned type, size_t bytes, const uint8_t *number)
{
    return (qz_gguf_value){.key = key, .key_length = strlen(key), .type = type, .bytes = bytes, .data = number};
}

/* Keys of a file in several parts. */
static const char part_key[] = "split.no", parts_key[] = "split.count", tensors_key[] = "split.tensors.count";
enum { OWN_KEYS = 5 };

static int is_of_parts(const char *key)
{
    return strcmp(key, part_key) == 0 || strcmp(key, parts_key) == 0 || strcmp(key, tensors_key) == 0;
}

static size_t number_parts(const own_keys *keys, qz_gguf_value *values)
{
    if (keys->is_one)
        return 0;
    values[0] = number_value(part_key, QZ_GGUF_U16, sizeof keys->number, keys->number);
    values[1] = number_value(parts_key, QZ_GGUF_U16, sizeof keys->parts, keys->parts);
    values[2] = number_value(tensors_key, QZ_GGUF_I32, sizeof keys->tensors, keys->tensors);
    return 3;
}

/* All keys of the output: those that are passed on, in their order, and the own ones in place of theirs, or at the end.
 * Returns how many. `values` has room for OWN_KEYS more than those that are passed on. */
static size_t choose_keys(const qz_gguf *metadata, const own_keys *keys, qz_gguf_value *values)
{
    const qz_gguf_value file_type = number_value(file_type_key, QZ_GGUF_U32, sizeof keys->file_type, keys->file_type);
    const qz_gguf_value version = number_value(version_key, QZ_GGUF_U32, sizeof keys->version, keys->version);
    size_t n = 0, given = metadata ? metadata->value_count : 0;
    int has_type = 0, has_version = 0;
    if (keys->part != 0)
        return number_parts(keys, values);
    for (size_t i = 0; i < given; i++) {
        const qz_gguf_value *value = &metadata->values[i];
        int is_type = strcmp(value->key, file_type_key) == 0, is_version = strcmp(value->key, version_key) == 0;
        has_type |= is_type;
        has_version |= is_version;
        if ((is_version && !keys->blocks) || is_of_parts(value->key))
            continue;
        values[n++] = is_type ? file_type : is_version ? version : *value;
    }
    if (!has_type && keys->blocks)
        values[n++] = file_type;
    if (!has_version && keys->blocks)
        values[n++] = version;
    return n + number_parts(keys, values + n);
}

/* ---- the header ---- */

/* Tensors as the header has them; their shapes go to the writer's memory. */
static int list_tensors(qz_writer *writer, const qz_slot *slots, size_t count, qz_model_tensor *tensors)
{
    for (size_t i = 0; i < count; i++) {
        const qz_slot *slot = &slots[i];
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

static qz_file_result put_header(const qz_writer *writer, qz_slot *slots, qz_model_tensor *tensors, size_t count,
                                 const qz_gguf_value *values, size_t value_count, qz_file_error *error)
{
    const char *label = writer->output.label;
    char *header;
    size_t bytes;
    uint64_t file_bytes;
    qz_file_result result =
        qz_gguf_format(tensors, count, values, value_count, &header, &bytes, &file_bytes, label, error);
    if (result != QZ_FILE_OK)
        return result;
    for (size_t i = 0; i < count; i++)
        slots[i].start = slots[i].offset = tensors[i].offset;
    qz_reserve(writer->output.fd, file_bytes);
    /* The zeros between and after the data are holes. */
    if (!qz_pwrite_all(writer->output.fd, header, bytes, 0) || ftruncate(writer->output.fd, (off_t)file_bytes) != 0)
        result = qz_fail_errno(error, label, "write");
    free(header);
    return result;
}

qz_file_result qz_gguf_layout(qz_writer *writer, size_t first, size_t count, qz_gguf *metadata, const qz_input *input,
                              qz_file_error *error)
{
    const own_keys keys = describe_tensors(writer, first);
    const size_t given = metadata && keys.part == 0 ? metadata->value_count : 0;
    qz_slot *slots = writer->slots + first;
    qz_model_tensor *tensors = calloc(count + 1, sizeof *tensors);
    qz_gguf_value *values = calloc(given + OWN_KEYS, sizeof *values);
    qz_file_result result = given != 0 ? qz_gguf_load(metadata, input, error) : QZ_FILE_OK;
    if (result == QZ_FILE_OK && (!tensors || !values || !list_tensors(writer, slots, count, tensors)))
        result = qz_fail_memory(error, writer->output.label);
    if (result == QZ_FILE_OK)
        result = put_header(writer, slots, tensors, count, values, choose_keys(metadata, &keys, values), error);
    free(values);
    free(tensors);
    return result;
}
