/*
 * gguf_values.c - takes the bytes of a GGUF header in order, from a file or from memory, and reads values from them
 *
 * A count from the file is compared with the bytes that follow it before it decides how long anything takes or how much
 * memory it needs.
 */
#include "gguf_values.h"

#include <inttypes.h>
#include <stdio.h>

static const unsigned sizes[QZ_GGUF_TYPES] = {
    [QZ_GGUF_U8] = 1,  [QZ_GGUF_I8] = 1,   [QZ_GGUF_U16] = 2, [QZ_GGUF_I16] = 2, [QZ_GGUF_U32] = 4, [QZ_GGUF_I32] = 4,
    [QZ_GGUF_F32] = 4, [QZ_GGUF_BOOL] = 1, [QZ_GGUF_U64] = 8, [QZ_GGUF_I64] = 8, [QZ_GGUF_F64] = 8,
};

/* Refuses at a place, which only a file has; a limit is one of memory. */
static qz_file_result refuse(const qz_gguf_source *source, qz_file_result code, uint64_t offset, const char *what)
{
    char field[QZ_MODEL_FIELD];
    const char *part = source->part;
    if (source->name)
        part = qz_model_field(part, source->name, source->name_length, field);
    return qz_fail_option(source->error, code, code == QZ_FILE_LIMIT ? QZ_OPTION_MAX_TABLE : QZ_OPTION_NONE,
                          source->label, part, source->input ? offset : QZ_NO_OFFSET, "%s", what);
}

qz_file_result qz_gguf_refuse(const qz_gguf_source *source, uint64_t offset, const char *what)
{
    return refuse(source, source->code, offset, what);
}

qz_file_result qz_gguf_need(const qz_gguf_source *source, uint64_t bytes, const char *what)
{
    char message[200];
    uint64_t left = source->end - source->at;
    if (bytes > left) {
        snprintf(message, sizeof message, "%s needs %" PRIu64 " bytes, but only %" PRIu64 " follow", what, bytes, left);
        return refuse(source, source->code, source->at, message);
    }
    if (!qz_within(source->at, bytes, source->limit)) {
        snprintf(message, sizeof message, "the header has more than %" PRIu64 " bytes, which is the limit",
                 source->limit);
        return refuse(source, QZ_FILE_LIMIT, source->at, message);
    }
    return QZ_FILE_OK;
}

qz_file_result qz_gguf_take(qz_gguf_source *source, size_t bytes, const uint8_t **taken, const char *what)
{
    qz_file_result result = qz_gguf_need(source, bytes, what);
    if (result != QZ_FILE_OK)
        return result;
    if (!qz_within(source->at - source->window_start, bytes, source->window_bytes)) {
        uint64_t left = source->end - source->at;
        source->window_bytes = left < QZ_GGUF_WINDOW ? (size_t)left : QZ_GGUF_WINDOW;
        source->window_start = source->at;
        source->window = source->buffer;
        result = qz_input_read(source->input, source->at, source->buffer, source->window_bytes, source->error);
        if (result != QZ_FILE_OK) {
            source->window_bytes = 0;
            return result;
        }
    }
    *taken = source->window + (source->at - source->window_start);
    source->at += bytes;
    return QZ_FILE_OK;
}

static qz_file_result skip_string(qz_gguf_source *source)
{
    const uint8_t *at;
    qz_file_result result = qz_gguf_take(source, 8, &at, "the length of a string");
    if (result != QZ_FILE_OK)
        return result;
    uint64_t length = qz_gguf_get64(at);
    result = qz_gguf_need(source, length, "a string");
    if (result == QZ_FILE_OK)
        source->at += length;
    return result;
}

static qz_file_result skip_truths(qz_gguf_source *source, uint64_t count)
{
    while (count != 0) {
        const uint8_t *at;
        size_t n = count < QZ_GGUF_WINDOW ? (size_t)count : QZ_GGUF_WINDOW;
        qz_file_result result = qz_gguf_take(source, n, &at, "a truth value");
        if (result != QZ_FILE_OK)
            return result;
        for (size_t i = 0; i < n; i++)
            if (at[i] > 1)
                return qz_gguf_refuse(source, source->at - n + i, "a truth value is neither 0 nor 1");
        count -= n;
    }
    return QZ_FILE_OK;
}

/* Reads past so many values that are no arrays. */
static qz_file_result skip_values(qz_gguf_source *source, unsigned type, uint64_t count)
{
    uint64_t bytes, each = type == QZ_GGUF_STRING ? 8 : sizes[type];
    if (!qz_mul(count, each, &bytes))
        return qz_gguf_refuse(source, source->at, "an array has more items than 2^64 bytes can hold");
    qz_file_result result = qz_gguf_need(source, bytes, count == 1 ? "a value" : "an array");
    if (result == QZ_FILE_OK && type == QZ_GGUF_BOOL)
        return skip_truths(source, count);
    if (type != QZ_GGUF_STRING) {
        source->at += result == QZ_FILE_OK ? bytes : 0;
        return result;
    }
    for (uint64_t i = 0; result == QZ_FILE_OK && i < count; i++)
        result = skip_string(source);
    return result;
}

qz_file_result qz_gguf_take_value(qz_gguf_source *source, unsigned type, qz_gguf_value *value)
{
    const uint8_t *at;
    qz_file_result result = QZ_FILE_OK;
    value->type = value->items = type;
    value->count = 1;
    value->offset = source->at;
    if (type == QZ_GGUF_ARRAY) {
        result = qz_gguf_take(source, 12, &at, "the start of an array");
        if (result != QZ_FILE_OK)
            return result;
        value->items = qz_gguf_get32(at);
        value->count = qz_gguf_get64(at + 4);
    }
    if (value->items == QZ_GGUF_ARRAY)
        return qz_gguf_refuse(source, value->offset, "is an array of arrays, which other readers refuse too");
    if (value->items >= QZ_GGUF_TYPES)
        return qz_gguf_refuse(source, value->offset - (type == QZ_GGUF_ARRAY ? 0 : 4),
                              "has a type that is unknown; types are 0 to 12");
    result = skip_values(source, value->items, value->count);
    value->bytes = source->at - value->offset;
    return result;
}

const char *qz_gguf_key_wrong(const char *key, size_t length)
{
    if (length == 0)
        return "a key is empty";
    if (length > QZ_GGUF_KEY_LONGEST)
        return "a key has more than 65535 bytes";
    return qz_model_name_wrong(key, length);
}

const char *qz_gguf_alignment_wrong(const qz_gguf_value *value, uint32_t alignment)
{
    enum { MOST = 1 << 20 }; /* as in ggml: more would only make holes */
    if (value->type != QZ_GGUF_U32)
        return "the alignment is not a number of type 4 (uint32)";
    if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > MOST)
        return "the alignment is not a power of two from 1 to 2^20";
    return NULL;
}
