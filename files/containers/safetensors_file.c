/*
 * safetensors_file.c - .safetensors as a container
 *
 * The header is read by safetensors.c and written by safetensors_writer.c.
 */
#include "../container.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../checked.h"
#include "../descriptor.h"
#include "../element.h"
#include "../error.h"
#include "../tensors.h"
#include "safetensors.h"
#include "safetensors_file.h"

static int probe(const uint8_t *head, size_t bytes, uint64_t file_size)
{
    return qz_safetensors_probe(head, bytes, file_size);
}

/* A type of less than a byte: the last axis of *shape, which has room for all, becomes its bytes. */
static qz_file_result count_bytes(const qz_file *file, const qz_model_tensor *tensor, const qz_safetensors_row *row,
                                  uint64_t *shape, qz_file_error *error)
{
    char field[QZ_MODEL_FIELD];
    uint64_t *last = &shape[tensor->rank - 1], bits; /* one element fills no byte: there is an axis */
    memcpy(shape, tensor->shape, tensor->rank * sizeof *shape);
    if (!qz_mul(*last, row->bits, &bits) || bits % 8 != 0)
        return qz_fail(error, QZ_FILE_FORMAT, file->input.label,
                       qz_model_field("tensor", tensor->name, tensor->name_length, field), QZ_NO_OFFSET,
                       "is of type %s, and its rows are no whole bytes; such tensors are not read", row->name);
    *last = bits / 8;
    return QZ_FILE_OK;
}

static qz_file_result add_tensor(qz_file *file, const qz_model_tensor *tensor, qz_file_error *error)
{
    const qz_safetensors_row *row = qz_safetensors_row_of(tensor->type);
    uint64_t shape[QZ_MAX_RANK];
    qz_file_result result = QZ_FILE_OK;
    qz_tensor described = {
        .name = tensor->name,
        .name_length = tensor->name_length,
        .element = row->element,
        .rank = tensor->rank,
        .shape = tensor->shape,
        .swapped = row->bits > 8 && qz_big_endian(),
    };
    if (row->element == QZ_ELEMENT_RAW) {
        described.type = qz_safetensors_items[tensor->type];
        described.type_bytes = row->bits < 8 ? 1 : row->bits / 8;
        described.swapped = 0;
    }
    if (row->bits % 8 != 0) {
        result = count_bytes(file, tensor, row, shape, error);
        described.shape = shape;
    }
    return result == QZ_FILE_OK ? qz_file_add(file, &described, tensor->offset, error) : result;
}

static qz_file_result open_safetensors(qz_file *file, qz_file_error *error)
{
    qz_safetensors *read = calloc(1, sizeof *read);
    if (!read)
        return qz_fail_memory(error, file->input.label);
    const qz_model_limits limits = qz_model_limits_of(file->table_left);
    qz_file_result result = qz_safetensors_read(read, &file->input, &limits, error);
    if (result != QZ_FILE_OK) {
        free(read);
        return result;
    }
    file->state = read;
    file->table_left = read->model.left;
    file->metadata.pairs = read->metadata;
    file->metadata.count = read->metadata_count;
    for (size_t i = 0; i < read->model.count && result == QZ_FILE_OK; i++)
        result = add_tensor(file, &read->model.tensors[i], error);
    snprintf(file->note, sizeof file->note, "%s", read->note);
    return result;
}

static void close_safetensors(qz_file *file)
{
    if (file->state)
        qz_safetensors_free(file->state);
    free(file->state);
}

/* ---- writing ---- */

static unsigned type_of(const qz_tensor *tensor)
{
    return tensor->element == QZ_ELEMENT_RAW ? qz_safetensors_type_of_items(tensor->type)
                                             : qz_safetensors_type_of(tensor->element);
}

const char *qz_safetensors_stored(const qz_tensor *tensor)
{
    unsigned type = tensor->element == QZ_ELEMENT_RAW ? type_of(tensor) : QZ_SAFETENSORS_TYPES;
    return type < QZ_SAFETENSORS_TYPES ? qz_safetensors_row_of(type)->name : NULL;
}

/* The type of a slot in the file: that of its elements, or of what its bytes stand for. */
static unsigned stored_type(const qz_slot *slot)
{
    for (unsigned i = 0; slot->stored && i < QZ_SAFETENSORS_TYPES; i++)
        if (strcmp(qz_safetensors_row_of(i)->name, slot->stored) == 0)
            return i;
    return type_of(&slot->tensor);
}

static qz_file_result declare(qz_writer *writer, const qz_slot *slot, qz_file_error *error)
{
    const qz_tensor *tensor = &slot->tensor;
    char field[QZ_MODEL_FIELD];
    const char *label = writer->output.label;
    qz_model_field("tensor", tensor->name, tensor->name_length, field);
    if (type_of(tensor) == QZ_SAFETENSORS_TYPES)
        return qz_fail_type(error, label, field, tensor, "safetensors does not have; write an .npz");
    if (tensor->column_major && tensor->rank > 1)
        return qz_fail(error, QZ_FILE_REFUSED, label, field, QZ_NO_OFFSET,
                       "has its first axis run fastest, which safetensors does not have; write an .npz");
    return QZ_FILE_OK;
}

/* The order of the data: wide elements first, so that all of them are aligned. */
static void sort_slots(const qz_slot *slots, size_t count, size_t *order)
{
    size_t n = 0;
    for (size_t bytes = 8; bytes > 0; bytes /= 2)
        for (size_t i = 0; i < count; i++)
            if (slots[i].tensor.type_bytes == bytes)
                order[n++] = i;
}

/* The shape that the file has: of types of less than a byte, whose last axis counts bytes, in elements. */
static const uint64_t *stored_shape(qz_writer *writer, const qz_tensor *tensor, unsigned type)
{
    unsigned bits = qz_safetensors_row_of(type)->bits;
    if (bits >= 8 || tensor->rank == 0)
        return tensor->shape;
    uint64_t *shape = qz_arena_get(&writer->arena, tensor->rank * sizeof *shape);
    if (!shape)
        return NULL;
    memcpy(shape, tensor->shape, tensor->rank * sizeof *shape);
    uint64_t *last = &shape[tensor->rank - 1];
    *last = *last / bits * 8 + *last % bits * 8 / bits; /* without a product that wraps */
    return shape;
}

static const char said[] = "quantization_config";

/* Whether metadata of an input says how its tensors are quantized, which is not what holds for the output. */
static int says_how(const qz_file *from, const qz_metadata *m)
{
    static const char opening[] = "{\"_type\":"; /* torchao's, of each tensor, and the list of these tensors */
    int of_tensor = strcmp(m->key, "tensor_names") == 0 || strncmp(m->value, opening, strlen(opening)) == 0;
    return strcmp(m->key, said) == 0 || (from->metadata.is_of_tensors && of_tensor);
}

/* The header, with the metadata that is passed on and what is said of how tensors are quantized. */
static qz_file_result format(const qz_writer *writer, qz_model_tensor *tensors, size_t count, char **header,
                             size_t *bytes, uint64_t *file_bytes, qz_file_error *error)
{
    const qz_file *from = writer->metadata_from;
    size_t given = from ? from->metadata.count : 0, kept = 0;
    qz_safetensors_pair *pairs = calloc(given + 1, sizeof *pairs);
    if (!pairs)
        return qz_fail_memory(error, writer->output.label);
    for (size_t i = 0; i < given; i++)
        if (!says_how(from, &from->metadata.pairs[i]))
            pairs[kept++] = from->metadata.pairs[i];
    if (writer->said.text)
        pairs[kept++] = (qz_safetensors_pair){said, strlen(said), writer->said.text, strlen(writer->said.text)};
    qz_file_result result =
        qz_safetensors_format(tensors, count, pairs, kept, header, bytes, file_bytes, writer->output.label, error);
    free(pairs);
    return result;
}

static qz_file_result layout(qz_writer *writer, size_t first, size_t count, qz_file_error *error)
{
    const char *label = writer->output.label;
    qz_slot *slots = writer->slots + first;
    size_t *order = calloc(count + 1, sizeof *order), bytes;
    qz_model_tensor *tensors = calloc(count + 1, sizeof *tensors);
    char *header = NULL;
    uint64_t file_bytes;
    qz_file_result result = QZ_FILE_OK;
    if (!order || !tensors) {
        result = qz_fail_memory(error, label);
    } else {
        sort_slots(slots, count, order);
        for (size_t i = 0; i < count && result == QZ_FILE_OK; i++) {
            const qz_tensor *tensor = &slots[order[i]].tensor;
            tensors[i].name = tensor->name;
            tensors[i].name_length = tensor->name_length;
            tensors[i].type = stored_type(&slots[order[i]]);
            tensors[i].rank = tensor->rank;
            tensors[i].shape = stored_shape(writer, tensor, tensors[i].type);
            if (!tensors[i].shape && tensor->rank != 0)
                result = qz_fail_memory(error, label);
        }
        if (result == QZ_FILE_OK)
            result = format(writer, tensors, count, &header, &bytes, &file_bytes, error);
    }
    for (size_t i = 0; i < count && result == QZ_FILE_OK; i++)
        slots[order[i]].start = slots[order[i]].offset = tensors[i].offset;
    if (result == QZ_FILE_OK)
        qz_reserve(writer->output.fd, file_bytes);
    if (result == QZ_FILE_OK && !qz_pwrite_all(writer->output.fd, header, bytes, 0))
        result = qz_fail_errno(error, label, "write");
    free(header);
    free(tensors);
    free(order);
    return result;
}

/* Numbers of files have five digits. */
static const qz_folder_rules folder = {.most_files = 99999, .index = ".safetensors.index.json"};

const qz_container_type qz_container_safetensors = {
    .name = "safetensors",
    .extension = ".safetensors",
    .quantized = "own",
    .probe = probe,
    .open = open_safetensors,
    .close = close_safetensors,
    .stored = qz_safetensors_stored,
    .declare = declare,
    .layout = layout,
    .folder = &folder,
};
