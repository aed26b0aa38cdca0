/*
 * gguf_file.c - a GGUF file as a container that is read
 *
 * Its tensors are read if they are of types that are numbers, one after another; blocks of codes are not decoded.
 */
#include "../container.h"

#include <stdlib.h>

#include "../element.h"
#include "../error.h"
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
                   "is of type %s, whose blocks are not decoded here; a GGUF file of F32, F16 or BF16 is read. "
                   "llama.cpp's llama-quantize --allow-requantize IN OUT F16 makes one of it",
                   type->name);
}

static qz_file_result open_gguf(qz_file *file, qz_file_error *error)
{
    qz_gguf *read = calloc(1, sizeof *read);
    if (read == NULL)
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
        if (type->element == QZ_ELEMENT_RAW)
            return refuse(file, tensor, type, error);
        qz_tensor described = {
            .name = tensor->name,
            .name_length = tensor->name_length,
            .element = type->element,
            .rank = tensor->rank,
            .shape = tensor->shape,
        };
        described.swapped = qz_element_size(described.element) > 1 && qz_big_endian();
        result = qz_file_add(file, &described, tensor->offset, error);
    }
    return result;
}

static void close_gguf(qz_file *file)
{
    if (file->state != NULL)
        qz_gguf_free(file->state);
    free(file->state);
}

const qz_container_type qz_container_gguf = {
    .name = "gguf",
    .extension = ".gguf",
    .probe = probe,
    .open = open_gguf,
    .parts = qz_gguf_open_parts,
    .close = close_gguf,
};
