/*
 * gguf_file.c - GGUF as a container that is read
 *
 * Tensors of numbers are read as they are. Blocks of 4-bit codes for which the library has a scheme are listed as items
 * of their size, and the layout of quantized tensors (gguf_layout.c) takes them apart. Most other blocks are decoded as
 * they are read, and are listed as float32.
 */
#include "../container.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../element.h"
#include "../error.h"
#include "../layouts/ggml_blocks.h"
#include "../layouts/ggml_decode.h"
#include "gguf_output.h"
#include "gguf_split.h"

static int probe(const uint8_t *head, size_t bytes, uint64_t file_size)
{
    (void)file_size;
    return qz_gguf_probe(head, bytes);
}

static qz_file_result refuse(const qz_file *file, const qz_model_tensor *tensor, const qz_ggml_type *type,
                             qz_file_error *error)
{
    char field[QZ_MODEL_FIELD];
    return qz_fail(error, QZ_FILE_FORMAT, file->input.label,
                   qz_model_field("tensor", tensor->name, tensor->name_length, field), QZ_NO_OFFSET,
                   "is of type %s, whose blocks are not read; llama.cpp's llama-quantize --allow-requantize IN OUT F16 "
                   "makes a file of it that is",
                   type->name);
}

/* ---- opening ---- */

/* Describes a tensor as the file library knows it: *blocks becomes the type of its blocks, if they are kept as such. */
static int describe(const qz_model_tensor *tensor, const qz_ggml_type *type, uint64_t shape[QZ_GGUF_AXES],
                    qz_tensor *out, unsigned *blocks)
{
    const qz_ggml_packing *packing = qz_ggml_packing_of(type->id);
    *blocks = 0;
    *out = (qz_tensor){.name = tensor->name,
                       .name_length = tensor->name_length,
                       .element = type->element,
                       .rank = tensor->rank,
                       .shape = tensor->shape};
    if (type->element != QZ_ELEMENT_RAW) {
        out->swapped = qz_element_size(type->element) > 1 && qz_big_endian();
        return 1;
    }
    if (!packing) {
        out->element = QZ_ELEMENT_F32;
        return qz_ggml_decoding_of(type->id) != NULL;
    }
    *blocks = type->id;
    memcpy(shape, tensor->shape, tensor->rank * sizeof *shape); /* at least 1: a row has whole blocks */
    shape[tensor->rank - 1] /= packing->values;
    out->shape = shape;
    out->type = packing->item;
    out->type_bytes = packing->bytes;
    return 1;
}

/* Notes the type of a tensor that is decoded, once. */
static void note_decoded(qz_file *file, const char *name)
{
    static const char start[] = "decoded to float32: ";
    const size_t used = strlen(file->note);
    if (strstr(file->note, name)) /* no name of these types is a part of another one */
        return;
    snprintf(file->note + used, sizeof file->note - used, "%s%s", used == 0 ? start : ", ", name);
}

static qz_file_result open_gguf(qz_file *file, qz_file_error *error)
{
    qz_gguf *read = calloc(1, sizeof *read);
    if (!read)
        return qz_fail_memory(error, file->input.label);
    const qz_model_limits limits = qz_model_limits_of(file->table_left);
    qz_file_result result = qz_gguf_read(read, &file->input, &limits, error);
    if (result != QZ_FILE_OK) {
        free(read);
        return result;
    }
    file->state = read;
    file->table_left = read->model.left;
    for (size_t i = 0; i < read->model.count && result == QZ_FILE_OK; i++) {
        const qz_model_tensor *tensor = &read->model.tensors[i];
        const qz_ggml_type *type = qz_ggml_type_of(tensor->type);
        uint64_t shape[QZ_GGUF_AXES];
        unsigned blocks;
        qz_tensor described;
        if (!describe(tensor, type, shape, &described, &blocks))
            return refuse(file, tensor, type, error);
        result = qz_file_add(file, &described, tensor->offset, error);
        if (result == QZ_FILE_OK)
            file->entries[i].blocks = blocks;
        if (result == QZ_FILE_OK && type->element == QZ_ELEMENT_RAW && blocks == 0) {
            file->entries[i].coded = type->id;
            file->entries[i].stored = tensor->bytes;
            note_decoded(file, type->name);
        }
    }
    return result;
}

static void close_gguf(qz_file *file)
{
    if (file->state)
        qz_gguf_free(file->state);
    free(file->state);
}

/* ---- reading ---- */

static qz_file_result refuse_block(const qz_file *file, const qz_model_tensor *tensor, const qz_ggml_type *type,
                                   uint64_t block, qz_file_error *error)
{
    char field[QZ_MODEL_FIELD];
    uint64_t at = tensor->offset + block * type->bytes;
    return qz_fail(
        error, QZ_FILE_FORMAT, file->input.label, qz_model_field("tensor", tensor->name, tensor->name_length, field),
        at, "block %" PRIu64 " of type %s has a scale that is not finite; get the file once more", block, type->name);
}

/* Values first .. first + count - 1 of a tensor whose blocks are decoded. */
static qz_file_result read_decoded(const qz_file *file, const qz_model_tensor *tensor, const qz_ggml_decoding *decoding,
                                   uint64_t first, uint64_t count, float *dst, qz_file_error *error)
{
    enum { BLOCKS = 64 };
    const qz_ggml_type *type = qz_ggml_type_of(tensor->type);
    uint8_t piece[BLOCKS * QZ_GGML_DECODED_BYTES];
    float values[QZ_GGML_DECODED];
    uint64_t at = first / type->values, end = (first + count - 1) / type->values + 1;
    while (at < end) {
        size_t n = end - at < BLOCKS ? (size_t)(end - at) : BLOCKS;
        qz_file_result result =
            qz_input_read(&file->input, tensor->offset + at * type->bytes, piece, n * type->bytes, error);
        if (result != QZ_FILE_OK)
            return result;
        for (size_t i = 0; i < n; i++, at++) {
            const uint8_t *block = piece + i * type->bytes;
            if (!qz_ggml_finite(decoding, block))
                return refuse_block(file, tensor, type, at, error);
            uint64_t start = at * type->values, from = start < first ? first - start : 0;
            uint64_t to = first + count - start < type->values ? first + count - start : type->values;
            int whole = from == 0 && to == type->values;
            decoding->decode(block, whole ? dst : values);
            if (!whole)
                memcpy(dst, values + from, (size_t)(to - from) * sizeof *dst);
            dst += to - from;
        }
    }
    return QZ_FILE_OK;
}

static qz_file_result read_gguf(qz_file *file, size_t tensor, uint64_t offset, void *dst, size_t bytes,
                                qz_file_error *error)
{
    const qz_gguf *read = file->state;
    const qz_model_tensor *t = &read->model.tensors[tensor];
    const qz_ggml_decoding *decoding = qz_ggml_decoding_of(t->type);
    if (bytes == 0)
        return QZ_FILE_OK;
    if (!decoding)
        return qz_input_read(&file->input, t->offset + offset, dst, bytes, error);
    return read_decoded(file, t, decoding, offset / sizeof(float), bytes / sizeof(float), dst, error);
}

static qz_file_result read_blocks(qz_file *file, size_t tensor, uint64_t first, size_t count, void *dst,
                                  qz_file_error *error)
{
    const qz_gguf *read = file->state;
    const qz_model_tensor *t = &read->model.tensors[tensor];
    const qz_ggml_type *type = qz_ggml_type_of(t->type);
    const qz_ggml_decoding *decoding = qz_ggml_decoding_of(t->type);
    qz_file_result result =
        qz_input_read(&file->input, t->offset + first * type->bytes, dst, count * type->bytes, error);
    for (size_t i = 0; i < count && result == QZ_FILE_OK; i++)
        if (!qz_ggml_finite(decoding, (const uint8_t *)dst + i * type->bytes))
            result = refuse_block(file, t, type, first + i, error);
    return result;
}

/* ---- writing ---- */

static qz_file_result layout(qz_writer *writer, size_t first, size_t count, qz_file_error *error)
{
    const qz_file *from = writer->metadata_from;
    int same_kind = from && from->container == writer->container;
    return qz_gguf_layout(writer, first, count, same_kind ? from->state : NULL, same_kind ? &from->input : NULL, error);
}

static const qz_folder_rules folder = {.most_files = UINT16_MAX}; /* split.count has 16 bits */

const qz_container_type qz_container_gguf = {
    .name = "gguf",
    .extension = ".gguf",
    .quantized = "gguf",
    .probe = probe,
    .open = open_gguf,
    .parts = qz_gguf_open_parts,
    .read = read_gguf,
    .read_blocks = read_blocks,
    .close = close_gguf,
    .declare = qz_gguf_declare,
    .layout = layout,
    .folder = &folder,
};
