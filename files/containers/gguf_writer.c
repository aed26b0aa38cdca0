/*
 * gguf_writer.c - makes the header of a GGUF file
 *
 * It writes version 3, and only what all readers accept: flat arrays, names of at most 63 bytes, data without gaps.
 */
#include "gguf.h"

#include <stdlib.h>
#include <string.h>

#include "gguf_values.h"

enum { VERSION = 3 };

/* ---- what is checked ---- */

/* Whether the bytes of a value are what its type says; reads the alignment, if it is that. */
static qz_file_result check_value(const qz_gguf_value *value, uint32_t *alignment, const char *label,
                                  qz_file_error *error)
{
    qz_gguf_value found = {0};
    qz_gguf_source s = {.end = value->bytes,
                        .limit = UINT64_MAX,
                        .window = value->data,
                        .window_bytes = (size_t)value->bytes,
                        .code = QZ_FILE_ARGUMENT,
                        .label = label,
                        .part = "key",
                        .name = value->key,
                        .name_length = value->key_length,
                        .error = error};
    if (!value->data || !qz_fits_memory(value->bytes))
        return qz_gguf_refuse(&s, 0, "has no value");
    qz_file_result result = qz_gguf_take_value(&s, value->type, &found);
    if (result == QZ_FILE_OK && s.at != s.end)
        result = qz_gguf_refuse(&s, 0, "bytes follow the value");
    if (result != QZ_FILE_OK || strcmp(value->key, QZ_GGUF_ALIGNMENT_KEY) != 0)
        return result;
    if (value->type == QZ_GGUF_U32)
        *alignment = qz_gguf_get32(value->data);
    const char *wrong = qz_gguf_alignment_wrong(value, *alignment);
    return wrong ? qz_gguf_refuse(&s, 0, wrong) : QZ_FILE_OK;
}

static qz_file_result refuse(const char *kind, const char *name, size_t length, const char *what, const char *label,
                             qz_file_error *error)
{
    char field[QZ_MODEL_FIELD];
    return qz_fail(error, QZ_FILE_ARGUMENT, label, qz_model_field(kind, name, length, field), QZ_NO_OFFSET, "%s", what);
}

static qz_file_result add_name(qz_names *names, const char *kind, const char *name, size_t length, const char *label,
                               qz_file_error *error)
{
    switch (qz_names_add(names, name, length, 0)) {
    case QZ_NAME_NEW:
        return QZ_FILE_OK;
    case QZ_NAME_TWICE:
        return refuse(kind, name, length, "the name occurs twice", label, error);
    default:
        return qz_fail_memory(error, label);
    }
}

/* Adds up the bytes of the keys in *bytes. */
static qz_file_result check_values(const qz_gguf_value *values, size_t count, uint64_t *bytes, uint32_t *alignment,
                                   const char *label, qz_file_error *error)
{
    qz_names keys = {0};
    qz_file_result result = QZ_FILE_OK;
    for (size_t i = 0; result == QZ_FILE_OK && i < count; i++) {
        const qz_gguf_value *v = &values[i];
        const char *wrong = qz_gguf_key_wrong(v->key, v->key_length);
        if (!wrong && (!qz_add(*bytes, 12 + (uint64_t)v->key_length, bytes) || !qz_add(*bytes, v->bytes, bytes)))
            wrong = "the header would have more than 2^64 bytes";
        if (wrong) {
            result = refuse("key", v->key, v->key_length, wrong, label, error);
            break;
        }
        result = add_name(&keys, "key", v->key, v->key_length, label, error);
        if (result == QZ_FILE_OK)
            result = check_value(v, alignment, label, error);
    }
    qz_names_free(&keys);
    return result;
}

/* Sets offset and bytes of a tensor that begins at *end of the data; *end becomes where the next one begins. */
static const char *place_tensor(qz_model_tensor *tensor, uint32_t alignment, uint64_t *end)
{
    const char *wrong = qz_model_name_wrong(tensor->name, tensor->name_length);
    if (!wrong && tensor->name_length > QZ_GGUF_NAME_LONGEST)
        wrong = "the name has more than 63 bytes";
    if (!wrong)
        wrong = qz_gguf_bytes(tensor->type, tensor->rank, tensor->shape, &tensor->bytes);
    if (wrong)
        return wrong;
    tensor->offset = *end;
    *end = qz_model_round_up(qz_sum(*end, tensor->bytes), alignment);
    if (*end > QZ_MAX_BYTES)
        return "the tensors together have more than 2^63 - 1 bytes";
    return NULL;
}

static qz_file_result check_tensors(qz_model_tensor *tensors, size_t count, uint64_t *bytes, uint32_t alignment,
                                    uint64_t *data_bytes, const char *label, qz_file_error *error)
{
    qz_names names = {0};
    qz_file_result result = QZ_FILE_OK;
    *data_bytes = 0;
    for (size_t i = 0; result == QZ_FILE_OK && i < count; i++) {
        qz_model_tensor *t = &tensors[i];
        const char *wrong = place_tensor(t, alignment, data_bytes);
        if (!wrong && !qz_add(*bytes, 24 + (uint64_t)t->name_length + 8 * (uint64_t)t->rank, bytes))
            wrong = "the header would have more than 2^64 bytes";
        result = wrong ? refuse("tensor", t->name, t->name_length, wrong, label, error)
                       : add_name(&names, "tensor", t->name, t->name_length, label, error);
    }
    qz_names_free(&names);
    return result;
}

/* ---- what is written ---- */

static char *put_number(char *out, uint64_t number, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        *out++ = (char)(number >> (8 * i) & 0xff);
    return out;
}

static char *put_bytes(char *out, const void *from, uint64_t bytes)
{
    if (bytes != 0)
        memcpy(out, from, (size_t)bytes);
    return out + bytes;
}

static char *put_tensor(char *out, const qz_model_tensor *tensor)
{
    out = put_number(out, tensor->name_length, 8);
    out = put_bytes(out, tensor->name, tensor->name_length);
    out = put_number(out, tensor->rank, 4);
    for (unsigned i = tensor->rank; i > 0; i--)
        out = put_number(out, tensor->shape[i - 1], 8);
    out = put_number(out, tensor->type, 4);
    return put_number(out, tensor->offset, 8);
}

static char *put_header(char *out, const qz_model_tensor *tensors, size_t count, const qz_gguf_value *values,
                        size_t value_count)
{
    out = put_bytes(out, "GGUF", 4);
    out = put_number(out, VERSION, 4);
    out = put_number(out, count, 8);
    out = put_number(out, value_count, 8);
    for (size_t i = 0; i < value_count; i++) {
        out = put_number(out, values[i].key_length, 8);
        out = put_bytes(out, values[i].key, values[i].key_length);
        out = put_number(out, values[i].type, 4);
        out = put_bytes(out, values[i].data, values[i].bytes);
    }
    for (size_t i = 0; i < count; i++)
        out = put_tensor(out, &tensors[i]);
    return out;
}

qz_file_result qz_gguf_format(qz_model_tensor *tensors, size_t count, const qz_gguf_value *values, size_t value_count,
                              char **header, size_t *header_bytes, uint64_t *file_bytes, const char *label,
                              qz_file_error *error)
{
    uint32_t alignment = QZ_GGUF_ALIGNMENT;
    uint64_t bytes = 24, data_bytes = 0;
    *header = NULL;
    qz_file_result result = check_values(values, value_count, &bytes, &alignment, label, error);
    if (result == QZ_FILE_OK)
        result = check_tensors(tensors, count, &bytes, alignment, &data_bytes, label, error);
    if (result != QZ_FILE_OK)
        return result;
    const uint64_t padded = qz_model_round_up(bytes, alignment);
    *file_bytes = qz_sum(padded, data_bytes);
    if (*file_bytes > QZ_MAX_BYTES)
        return qz_fail(error, QZ_FILE_ARGUMENT, label, NULL, QZ_NO_OFFSET, "the file would be longer than 2^63 - 1");
    char *start = qz_fits_memory(padded) ? calloc(1, (size_t)padded) : NULL;
    if (!start)
        return qz_fail_memory(error, label);
    put_header(start, tensors, count, values, value_count);
    for (size_t i = 0; i < count; i++)
        tensors[i].offset += padded;
    *header = start;
    *header_bytes = (size_t)padded;
    return QZ_FILE_OK;
}
