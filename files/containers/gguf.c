/*
 * gguf.c - reads the header of a GGUF file: its keys, and its list of tensors
 */
#include "gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_values.h"

enum {
    START = 24,          /* bytes before the first key */
    SHORTEST_VALUE = 14, /* bytes of a key with its value: 8 + 1 + 4 + 1 */
    SHORTEST_TENSOR = 24 /* bytes of what is said of a tensor: 8 + 0 + 4 + 0 + 4 + 8 */
};

int qz_gguf_probe(const uint8_t *head, size_t bytes)
{
    return bytes >= 4 && (memcmp(head, "GGUF", 4) == 0 || memcmp(head, "FUGG", 4) == 0);
}

void qz_gguf_free(qz_gguf *gguf)
{
    qz_model_free(&gguf->model);
    qz_names_free(&gguf->keys);
    free(gguf->values);
    free(gguf->loaded);
    *gguf = (qz_gguf){0};
}

/* ---- values ---- */

/* A string that is kept, of at most `longest` bytes, in the model's memory. */
static qz_file_result take_name(qz_gguf_source *s, qz_model *model, size_t longest, const char *too_long,
                                const char **name, size_t *length)
{
    const uint8_t *at;
    qz_file_result result = qz_gguf_take(s, 8, &at, "the length of a name");
    if (result != QZ_FILE_OK)
        return result;
    uint64_t bytes = qz_gguf_get64(at);
    if (bytes <= longest)
        result = qz_gguf_take(s, (size_t)bytes, &at, "a name");
    else if ((result = qz_gguf_need(s, bytes, "a name")) == QZ_FILE_OK)
        result = qz_gguf_refuse(s, s->at - 8, too_long);
    if (result == QZ_FILE_OK)
        result = qz_model_charge(model, bytes + 8, 1, s->label, s->error);
    if (result != QZ_FILE_OK)
        return result;
    *length = (size_t)bytes;
    *name = qz_arena_text(&model->arena, (const char *)at, *length);
    return *name ? QZ_FILE_OK : qz_fail_memory(s->error, s->label);
}

static qz_file_result read_value(qz_gguf *gguf, qz_gguf_source *s)
{
    qz_gguf_value value = {0};
    const uint8_t *at;
    uint64_t start = s->at;
    qz_gguf_part(s, "keys", NULL, 0);
    qz_file_result result = take_name(s, &gguf->model, QZ_GGUF_KEY_LONGEST, "a key has more than 65535 bytes",
                                      &value.key, &value.key_length);
    if (result != QZ_FILE_OK)
        return result;
    qz_gguf_part(s, "key", value.key, value.key_length);
    const char *wrong = qz_gguf_key_wrong(value.key, value.key_length);
    if (wrong)
        return qz_gguf_refuse(s, start, wrong);
    switch (qz_names_add(&gguf->keys, value.key, value.key_length, gguf->value_count)) {
    case QZ_NAME_NEW:
        break;
    case QZ_NAME_TWICE:
        return qz_gguf_refuse(s, start, "the key occurs twice, so that its meaning is unclear");
    default:
        return qz_fail_memory(s->error, s->label);
    }
    result = qz_gguf_take(s, 4, &at, "the type of a value");
    if (result == QZ_FILE_OK)
        result = qz_gguf_take_value(s, qz_gguf_get32(at), &value);
    if (result != QZ_FILE_OK || strcmp(value.key, QZ_GGUF_ALIGNMENT_KEY) != 0) {
        gguf->values[gguf->value_count++] = value;
        return result;
    }
    /* This value counts here; so far only its place was looked at. */
    if (value.type == QZ_GGUF_U32) {
        s->at -= 4;
        result = qz_gguf_take(s, 4, &at, "the alignment");
        if (result != QZ_FILE_OK)
            return result;
        gguf->alignment = qz_gguf_get32(at);
    }
    wrong = qz_gguf_alignment_wrong(&value, gguf->alignment);
    if (wrong)
        return qz_gguf_refuse(s, value.offset, wrong);
    gguf->values[gguf->value_count++] = value;
    return QZ_FILE_OK;
}

const qz_gguf_value *qz_gguf_find(const qz_gguf *gguf, const char *key)
{
    size_t i = qz_names_find(&gguf->keys, key, strlen(key));
    return i != SIZE_MAX ? &gguf->values[i] : NULL;
}

qz_file_result qz_gguf_load(qz_gguf *gguf, const qz_input *input, qz_file_error *error)
{
    uint64_t bytes = gguf->values_end - START;
    if (gguf->loaded)
        return QZ_FILE_OK;
    uint8_t *loaded = qz_allocate(bytes + 1);
    if (!loaded)
        return qz_fail_memory(error, input->label);
    qz_file_result result = qz_input_read(input, START, loaded, (size_t)bytes, error);
    if (result != QZ_FILE_OK) {
        free(loaded);
        return result;
    }
    for (size_t i = 0; i < gguf->value_count; i++)
        gguf->values[i].data = loaded + (gguf->values[i].offset - START);
    gguf->loaded = loaded;
    return QZ_FILE_OK;
}

int qz_gguf_whole(const qz_gguf_value *value, uint64_t *number)
{
    static const uint8_t integers[QZ_GGUF_TYPES] = {
        [QZ_GGUF_U8] = 1, [QZ_GGUF_U16] = 1, [QZ_GGUF_U32] = 1, [QZ_GGUF_U64] = 1,
        [QZ_GGUF_I8] = 2, [QZ_GGUF_I16] = 2, [QZ_GGUF_I32] = 2, [QZ_GGUF_I64] = 2,
    };
    const uint8_t *at = value->data;
    if (!at || integers[value->type] == 0 || (integers[value->type] == 2 && at[value->bytes - 1] >= 0x80))
        return 0;
    *number = 0;
    for (uint64_t i = value->bytes; i > 0; i--)
        *number = *number << 8 | at[i - 1];
    return 1;
}

/* ---- tensors ---- */

const char *qz_gguf_bytes(unsigned type, unsigned rank, const uint64_t *shape, uint64_t *bytes)
{
    const qz_ggml_type *row = qz_ggml_type_of(type);
    uint64_t count, same;
    if (!row)
        return "the type is unknown, or was given up";
    if (rank > QZ_GGUF_AXES)
        return "the shape has more than 4 axes";
    if (!qz_shape_count(rank, shape, 1, &count, &same))
        return "the sizes in the shape multiply to more than 2^63 - 1 bytes";
    if ((rank == 0 ? 1 : shape[rank - 1]) % row->values != 0)
        return "a row does not consist of whole blocks of its type";
    if (!qz_mul(count / row->values, row->bytes, bytes) || *bytes > QZ_MAX_BYTES)
        return "the sizes in the shape multiply to more than 2^63 - 1 bytes";
    return NULL;
}

/* Checks that a tensor begins where those before it end, at *end of the data; *end becomes where the next begins. */
static qz_file_result check_offset(const qz_gguf_source *s, const qz_gguf *gguf, const qz_model_tensor *tensor,
                                   uint64_t *end)
{
    char message[200];
    if (tensor->offset != *end) {
        snprintf(message, sizeof message,
                 "its data begins at %" PRIu64 " of the data, but the tensors before it end at %" PRIu64,
                 tensor->offset, *end);
        return qz_gguf_refuse(s, s->at - 8, message);
    }
    *end = qz_model_round_up(qz_sum(*end, tensor->bytes), gguf->alignment);
    if (*end > QZ_MAX_BYTES)
        return qz_gguf_refuse(s, s->at - 8, "the tensors up to this one have more than 2^63 - 1 bytes");
    return QZ_FILE_OK;
}

static qz_file_result read_tensor(qz_gguf *gguf, qz_gguf_source *s, uint64_t *end)
{
    char message[200];
    qz_model_tensor tensor = {0};
    uint64_t shape[QZ_GGUF_AXES], start = s->at;
    const uint8_t *at;
    qz_gguf_part(s, "tensors", NULL, 0);
    qz_file_result result = take_name(s, &gguf->model, QZ_GGUF_NAME_LONGEST,
                                      "the name of a tensor has more than 63 bytes", &tensor.name, &tensor.name_length);
    if (result != QZ_FILE_OK)
        return result;
    qz_gguf_part(s, "tensor", tensor.name, tensor.name_length);
    const char *wrong = qz_model_name_wrong(tensor.name, tensor.name_length);
    if (wrong)
        return qz_gguf_refuse(s, start, wrong);
    result = qz_gguf_take(s, 4, &at, "the number of axes");
    if (result != QZ_FILE_OK)
        return result;
    uint32_t rank = qz_gguf_get32(at);
    if (rank > QZ_GGUF_AXES) {
        snprintf(message, sizeof message, "is said to have %" PRIu32 " axes; there are at most 4", rank);
        return qz_gguf_refuse(s, s->at - 4, message);
    }
    result = qz_gguf_take(s, 8 * (size_t)rank + 12, &at, "what is said of a tensor");
    if (result != QZ_FILE_OK)
        return result;
    for (uint32_t i = 0; i < rank; i++) {
        uint64_t size = qz_gguf_get64(at + 8 * (size_t)i);
        if (size > INT64_MAX)
            return qz_gguf_refuse(s, s->at - 12 - 8 * (uint64_t)(rank - i), "a size in the shape is negative");
        shape[rank - 1 - i] = size;
    }
    tensor.rank = rank;
    tensor.type = qz_gguf_get32(at + 8 * (size_t)rank);
    tensor.offset = qz_gguf_get64(at + 8 * (size_t)rank + 4);
    wrong = qz_gguf_bytes(tensor.type, rank, shape, &tensor.bytes);
    if (wrong) {
        const qz_ggml_type *type = qz_ggml_type_of(tensor.type);
        snprintf(message, sizeof message, "%s (type %u%s%s)", wrong, tensor.type, type ? ", " : "",
                 type ? type->name : "");
        return qz_gguf_refuse(s, s->at - 12, message);
    }
    result = check_offset(s, gguf, &tensor, end);
    if (result == QZ_FILE_OK)
        result = qz_model_keep_shape(&gguf->model, rank, shape, &tensor.shape, s->label, s->error);
    if (result == QZ_FILE_OK)
        result = qz_model_add(&gguf->model, &tensor, start, s->label, s->error);
    return result;
}

/* Turns offsets in the data into offsets in the file, which must have all of it and nothing after it. The last tensor
 * may lack its padding: nobody would read it. */
static qz_file_result place_data(qz_gguf *gguf, qz_gguf_source *s, uint64_t data_bytes)
{
    char field[QZ_MODEL_FIELD];
    qz_gguf_part(s, NULL, NULL, 0);
    gguf->data = qz_model_round_up(s->at, gguf->alignment);
    const uint64_t end = qz_sum(gguf->data, data_bytes);
    for (size_t i = 0; i < gguf->model.count; i++) {
        qz_model_tensor *t = &gguf->model.tensors[i];
        t->offset = qz_sum(t->offset, gguf->data);
        if (!qz_within(t->offset, t->bytes, s->end))
            return qz_fail(s->error, QZ_FILE_FORMAT, s->label, qz_model_field("tensor", t->name, t->name_length, field),
                           t->offset,
                           "its %" PRIu64 " bytes reach beyond the file, which has %" PRIu64 " bytes; it is cut off",
                           t->bytes, s->end);
    }
    if (s->end > end)
        return qz_fail(s->error, QZ_FILE_FORMAT, s->label, NULL, end,
                       "%" PRIu64 " bytes that belong to no tensor end the file", s->end - end);
    return QZ_FILE_OK;
}

/* ---- the whole ---- */

static qz_file_result read_start(qz_gguf *gguf, qz_gguf_source *s, uint64_t *tensors, uint64_t *values)
{
    const uint8_t *at;
    char message[200];
    static const char other_order[] = "the file has the most significant bytes first, and is not read; gguf's "
                                      "gguf-convert-endian turns it";
    qz_gguf_part(s, "header", NULL, 0);
    if (s->end < START)
        return qz_gguf_refuse(s, 0, "too short for a GGUF file");
    qz_file_result result = qz_gguf_take(s, START, &at, "the start of the file");
    if (result != QZ_FILE_OK)
        return result;
    if (memcmp(at, "GGUF", 4) != 0)
        return qz_gguf_refuse(s, 0, memcmp(at, "FUGG", 4) == 0 ? other_order : "does not begin as a GGUF file does");
    gguf->version = qz_gguf_get32(at + 4);
    *tensors = qz_gguf_get64(at + 8);
    *values = qz_gguf_get64(at + 16);
    if (gguf->version != 0 && (gguf->version & 0xffff) == 0)
        return qz_gguf_refuse(s, 4, other_order);
    if (gguf->version < 2 || gguf->version > 3) {
        snprintf(message, sizeof message, "version %" PRIu32 " of the format is unknown; 2 and 3 are read",
                 gguf->version);
        return qz_gguf_refuse(s, 4, message);
    }
    if (*tensors > (s->end - START) / SHORTEST_TENSOR)
        return qz_gguf_refuse(s, 8, "counts more tensors than its bytes can describe");
    if (*values > (s->end - START) / SHORTEST_VALUE)
        return qz_gguf_refuse(s, 16, "counts more keys than its bytes can hold");
    return QZ_FILE_OK;
}

static qz_file_result read_all(qz_gguf *gguf, qz_gguf_source *s)
{
    uint64_t tensors = 0, values = 0, data_bytes = 0;
    qz_model *model = &gguf->model;
    qz_file_result result = read_start(gguf, s, &tensors, &values);
    if (result == QZ_FILE_OK)
        result = qz_model_charge(model, values, sizeof(qz_gguf_value) + QZ_MODEL_NAME_COST, s->label, s->error);
    if (result == QZ_FILE_OK)
        result = qz_model_charge(model, tensors, sizeof(qz_model_tensor) + QZ_MODEL_NAME_COST, s->label, s->error);
    if (result == QZ_FILE_OK)
        result = qz_model_reserve(model, (size_t)tensors, s->label, s->error);
    if (result != QZ_FILE_OK)
        return result;
    gguf->values = malloc(((size_t)values + 1) * sizeof *gguf->values);
    if (!gguf->values)
        return qz_fail_memory(s->error, s->label);
    for (uint64_t i = 0; result == QZ_FILE_OK && i < values; i++)
        result = read_value(gguf, s);
    gguf->values_end = s->at;
    for (uint64_t i = 0; result == QZ_FILE_OK && i < tensors; i++)
        result = read_tensor(gguf, s, &data_bytes);
    return result == QZ_FILE_OK ? place_data(gguf, s, data_bytes) : result;
}

qz_file_result qz_gguf_read(qz_gguf *gguf, const qz_input *input, const qz_model_limits *limits, qz_file_error *error)
{
    static const qz_model_limits usual = QZ_MODEL_LIMITS_INIT;
    if (!limits)
        limits = &usual;
    *gguf = (qz_gguf){.model.left = limits->max_table, .alignment = QZ_GGUF_ALIGNMENT};
    qz_gguf_source s = {.input = input,
                        .end = input->size,
                        .limit = limits->max_header,
                        .buffer = malloc(QZ_GGUF_WINDOW),
                        .code = QZ_FILE_FORMAT,
                        .label = input->label,
                        .error = error};
    qz_file_result result = s.buffer ? read_all(gguf, &s) : qz_fail_memory(error, input->label);
    free(s.buffer);
    if (result != QZ_FILE_OK)
        qz_gguf_free(gguf);
    return result;
}
