/*
 * safetensors_writer.c - makes the header of a .safetensors file
 *
 * The header has the form that the format's own library writes: no white space, metadata first, and spaces at the end
 * up to a multiple of 8.
 */
#include "safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

enum {
    START = 8,
    LONGEST = 100000000, /* bytes of the text, by the format */
    ALIGNMENT = 8,       /* of the data */
    FIXED = 100,         /* bytes of an entry without name, numbers and type, and more */
    DIGITS = 21,         /* of a number, with a comma */
    ESCAPED = 6          /* \u001f: the most bytes that one becomes */
};

static const char metadata_name[] = "__metadata__";

static qz_file_result refuse(qz_file_error *error, const char *label, const char *field, const char *what)
{
    return qz_fail(error, QZ_FILE_REFUSED, label, field, QZ_NO_OFFSET, "%s", what);
}

/* ---- what is checked ---- */

/* Adds the most bytes that the text of a string can have. */
static int add_text(uint64_t *room, size_t length)
{
    uint64_t escaped;
    return qz_mul(length, ESCAPED, &escaped) && qz_add(*room, escaped, room);
}

/* Sets offset and bytes of a tensor that begins at *end; *end becomes its end. */
static const char *place_tensor(qz_model_tensor *tensor, uint64_t *end)
{
    const char *wrong = qz_model_name_wrong(tensor->name, tensor->name_length);
    if (wrong)
        return wrong;
    if (tensor->name_length == sizeof metadata_name - 1 &&
        memcmp(tensor->name, metadata_name, tensor->name_length) == 0)
        return "the name is not for tensors: the format keeps its metadata under it";
    if (!qz_safetensors_row_of(tensor->type))
        return "the type is none of the format's types";
    if (tensor->rank > QZ_MAX_RANK)
        return "the shape has more than 64 axes";
    wrong = qz_safetensors_bytes(tensor->type, tensor->rank, tensor->shape, &tensor->bytes);
    if (wrong)
        return wrong;
    tensor->offset = *end;
    if (!qz_add(*end, tensor->bytes, end) || *end > QZ_MAX_BYTES)
        return "the tensors together have more than 2^63 - 1 bytes";
    return NULL;
}

static qz_file_result check_tensors(qz_model_tensor *tensors, size_t count, uint64_t *room, uint64_t *data_bytes,
                                    const char *label, qz_file_error *error)
{
    char field[QZ_MODEL_FIELD];
    qz_names names = {0};
    qz_name_result added = QZ_NAME_NEW;
    const char *wrong = NULL;
    size_t i;
    *data_bytes = 0;
    for (i = 0; !wrong && i < count; i++) {
        wrong = place_tensor(&tensors[i], data_bytes);
        if (!wrong && (!add_text(room, tensors[i].name_length) ||
                       !qz_add(*room, FIXED + (uint64_t)DIGITS * (tensors[i].rank + 2), room)))
            wrong = "the header would be longer than the format allows";
        if (!wrong)
            added = qz_names_add(&names, tensors[i].name, tensors[i].name_length, i);
        if (added == QZ_NAME_TWICE)
            wrong = "the name occurs twice";
        else if (added == QZ_NAME_NO_MEMORY)
            break;
    }
    qz_names_free(&names);
    if (added == QZ_NAME_NO_MEMORY)
        return qz_fail_memory(error, label);
    if (!wrong)
        return QZ_FILE_OK;
    return refuse(error, label, qz_model_field("tensor", tensors[i - 1].name, tensors[i - 1].name_length, field),
                  wrong);
}

static qz_file_result check_metadata(const qz_safetensors_pair *metadata, size_t count, uint64_t *room,
                                     const char *label, qz_file_error *error)
{
    char field[QZ_MODEL_FIELD];
    qz_names keys = {0};
    qz_name_result added = QZ_NAME_NEW;
    const char *wrong = NULL;
    size_t i;
    for (i = 0; !wrong && i < count; i++) {
        const qz_safetensors_pair *pair = &metadata[i];
        if (!qz_is_utf8(pair->key, pair->key_length) || !qz_is_utf8(pair->value, pair->value_length))
            wrong = "key or value is not UTF-8";
        else if (!add_text(room, pair->key_length) || !add_text(room, pair->value_length) ||
                 !qz_add(*room, FIXED, room))
            wrong = "the header would be longer than the format allows";
        else if ((added = qz_names_add(&keys, pair->key, pair->key_length, i)) == QZ_NAME_TWICE)
            wrong = "the key occurs twice";
        else if (added == QZ_NAME_NO_MEMORY)
            break;
    }
    qz_names_free(&keys);
    if (added == QZ_NAME_NO_MEMORY)
        return qz_fail_memory(error, label);
    if (!wrong)
        return QZ_FILE_OK;
    return refuse(error, label, qz_model_field("metadata", metadata[i - 1].key, metadata[i - 1].key_length, field),
                  wrong);
}

/* ---- what is written ---- */

static char *put(char *out, const char *text)
{
    while (*text != '\0')
        *out++ = *text++;
    return out;
}

static char *put_number(char *out, uint64_t number)
{
    return out + snprintf(out, DIGITS, "%" PRIu64, number);
}

static char *put_metadata(char *out, const qz_safetensors_pair *metadata, size_t count)
{
    out = put(out, "\"__metadata__\":");
    for (size_t i = 0; i < count; i++) {
        *out++ = i == 0 ? '{' : ',';
        out = qz_json_put_string(out, metadata[i].key, metadata[i].key_length);
        *out++ = ':';
        out = qz_json_put_string(out, metadata[i].value, metadata[i].value_length);
    }
    *out++ = '}';
    return out;
}

static char *put_tensor(char *out, const qz_model_tensor *tensor)
{
    out = qz_json_put_string(out, tensor->name, tensor->name_length);
    out = put(out, ":{\"dtype\":\"");
    out = put(out, qz_safetensors_row_of(tensor->type)->name);
    out = put(out, "\",\"shape\":[");
    for (unsigned i = 0; i < tensor->rank; i++) {
        if (i != 0)
            *out++ = ',';
        out = put_number(out, tensor->shape[i]);
    }
    out = put(out, "],\"data_offsets\":[");
    out = put_number(out, tensor->offset);
    *out++ = ',';
    out = put_number(out, tensor->offset + tensor->bytes);
    return put(out, "]}");
}

/* The text with its length before it; returns its end. */
static char *put_header(char *out, const qz_model_tensor *tensors, size_t count, const qz_safetensors_pair *metadata,
                        size_t metadata_count)
{
    char *start = out;
    out += START;
    *out++ = '{';
    if (metadata_count != 0)
        out = put_metadata(out, metadata, metadata_count);
    for (size_t i = 0; i < count; i++) {
        if (i != 0 || metadata_count != 0)
            *out++ = ',';
        out = put_tensor(out, &tensors[i]);
    }
    *out++ = '}';
    while ((out - start) % ALIGNMENT != 0)
        *out++ = ' ';
    uint64_t length = (uint64_t)(out - start) - START;
    for (int i = 0; i < START; i++)
        start[i] = (char)(length >> (8 * i) & 0xff);
    return out;
}

qz_file_result qz_safetensors_format(qz_model_tensor *tensors, size_t count, const qz_safetensors_pair *metadata,
                                     size_t metadata_count, char **header, size_t *header_bytes, uint64_t *file_bytes,
                                     const char *label, qz_file_error *error)
{
    uint64_t room = START + FIXED, data_bytes;
    *header = NULL;
    qz_file_result result = check_metadata(metadata, metadata_count, &room, label, error);
    if (result == QZ_FILE_OK)
        result = check_tensors(tensors, count, &room, &data_bytes, label, error);
    if (result != QZ_FILE_OK)
        return result;
    char *text = qz_fits_memory(room) ? malloc((size_t)room) : NULL;
    if (!text)
        return qz_fail_memory(error, label);
    size_t bytes = (size_t)(put_header(text, tensors, count, metadata, metadata_count) - text);
    if (bytes - START > LONGEST || !qz_add(bytes, data_bytes, file_bytes) || *file_bytes > QZ_MAX_BYTES) {
        free(text);
        return refuse(error, label, NULL, "header or file would be longer than the format allows");
    }
    for (size_t i = 0; i < count; i++)
        tensors[i].offset += bytes;
    *header = text;
    *header_bytes = bytes;
    return QZ_FILE_OK;
}
