/*
 * safetensors.c - reads the header of a .safetensors file
 */
#include "safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

enum {
    START = 8,            /* bytes before the text */
    SHORTEST = 2,         /* {} */
    LONGEST = 100000000,  /* bytes of the text, by the format */
    SHORTEST_TENSOR = 49, /* "":{"dtype":"U8","shape":[],"data_offsets":[0,0]} */
    DEEPEST = 8,          /* the format needs 3; the rest is for fields that are not known yet */
    MOST_UNKNOWN = 16     /* fields of a tensor that are left out */
};

static const char metadata_name[] = "__metadata__";

/* ---- types ---- */

static const qz_safetensors_row rows[QZ_SAFETENSORS_TYPES] = {
    [QZ_SAFETENSORS_BOOL] = {"BOOL", 8, QZ_ELEMENT_BOOL},
    [QZ_SAFETENSORS_F4] = {"F4", 4, QZ_ELEMENT_RAW},
    [QZ_SAFETENSORS_F6_E2M3] = {"F6_E2M3", 6, QZ_ELEMENT_RAW},
    [QZ_SAFETENSORS_F6_E3M2] = {"F6_E3M2", 6, QZ_ELEMENT_RAW},
    [QZ_SAFETENSORS_U8] = {"U8", 8, QZ_ELEMENT_U8},
    [QZ_SAFETENSORS_I8] = {"I8", 8, QZ_ELEMENT_I8},
    [QZ_SAFETENSORS_F8_E5M2] = {"F8_E5M2", 8, QZ_ELEMENT_RAW},
    [QZ_SAFETENSORS_F8_E4M3] = {"F8_E4M3", 8, QZ_ELEMENT_RAW},
    [QZ_SAFETENSORS_F8_E8M0] = {"F8_E8M0", 8, QZ_ELEMENT_RAW},
    [QZ_SAFETENSORS_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8, QZ_ELEMENT_RAW},
    [QZ_SAFETENSORS_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8, QZ_ELEMENT_RAW},
    [QZ_SAFETENSORS_I16] = {"I16", 16, QZ_ELEMENT_I16},
    [QZ_SAFETENSORS_U16] = {"U16", 16, QZ_ELEMENT_U16},
    [QZ_SAFETENSORS_F16] = {"F16", 16, QZ_ELEMENT_F16},
    [QZ_SAFETENSORS_BF16] = {"BF16", 16, QZ_ELEMENT_BF16},
    [QZ_SAFETENSORS_I32] = {"I32", 32, QZ_ELEMENT_I32},
    [QZ_SAFETENSORS_U32] = {"U32", 32, QZ_ELEMENT_U32},
    [QZ_SAFETENSORS_F32] = {"F32", 32, QZ_ELEMENT_F32},
    [QZ_SAFETENSORS_C64] = {"C64", 64, QZ_ELEMENT_RAW},
    [QZ_SAFETENSORS_F64] = {"F64", 64, QZ_ELEMENT_F64},
    [QZ_SAFETENSORS_I64] = {"I64", 64, QZ_ELEMENT_I64},
    [QZ_SAFETENSORS_U64] = {"U64", 64, QZ_ELEMENT_U64},
};

const char qz_safetensors_items[QZ_SAFETENSORS_TYPES][4] = {
    [QZ_SAFETENSORS_F4] = "|V1",          [QZ_SAFETENSORS_F6_E2M3] = "|V1",     [QZ_SAFETENSORS_F6_E3M2] = "|V1",
    [QZ_SAFETENSORS_F8_E5M2] = "|V1",     [QZ_SAFETENSORS_F8_E4M3] = "|V1",     [QZ_SAFETENSORS_F8_E8M0] = "|V1",
    [QZ_SAFETENSORS_F8_E4M3FNUZ] = "|V1", [QZ_SAFETENSORS_F8_E5M2FNUZ] = "|V1", [QZ_SAFETENSORS_C64] = "<c8",
};

unsigned qz_safetensors_type_of_items(const char *items)
{
    for (unsigned type = 0; type < QZ_SAFETENSORS_TYPES; type++)
        if (items == qz_safetensors_items[type])
            return type;
    return strcmp(items, qz_safetensors_items[QZ_SAFETENSORS_C64]) == 0 ? QZ_SAFETENSORS_C64 : QZ_SAFETENSORS_TYPES;
}

const qz_safetensors_row *qz_safetensors_row_of(unsigned type)
{
    return type < QZ_SAFETENSORS_TYPES ? &rows[type] : NULL;
}

unsigned qz_safetensors_type_of(qz_element element)
{
    unsigned type = 0;
    while (type < QZ_SAFETENSORS_TYPES && (element == QZ_ELEMENT_RAW || rows[type].element != element))
        type++;
    return type;
}

const char *qz_safetensors_bytes(unsigned type, unsigned rank, const uint64_t *shape, uint64_t *bytes)
{
    static const char too_many[] = "the sizes in the shape multiply to more than 2^63 - 1 bytes";
    uint64_t count, same, bits = rows[type].bits;
    if (!qz_shape_count(rank, shape, 1, &count, &same))
        return too_many;
    /* Eight elements have as many bytes as one has bits. */
    uint64_t rest = count % 8 * bits;
    if (rest % 8 != 0)
        return "the elements do not fill whole bytes, as the format demands";
    *bytes = qz_sum(qz_product(count / 8, bits), rest / 8);
    return *bytes > QZ_MAX_BYTES ? too_many : NULL;
}

/* ---- the start of a file ---- */

static uint64_t get64(const uint8_t *at)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | at[i];
    return value;
}

int qz_safetensors_probe(const uint8_t *head, size_t bytes, uint64_t file_size)
{
    if (bytes < START + 1 || file_size < START + SHORTEST || head[START] != '{')
        return 0;
    uint64_t length = get64(head);
    return length >= SHORTEST && length <= LONGEST && length <= file_size - START;
}

void qz_safetensors_free(qz_safetensors *safetensors)
{
    qz_model_free(&safetensors->model);
    free(safetensors->metadata);
    free(safetensors->text);
    *safetensors = (qz_safetensors){0};
}

/* ---- what is read ---- */

typedef struct reader {
    qz_safetensors *out;
    qz_json json;
    const char *label;
    uint64_t data_bytes; /* that the file has */
    size_t pairs_room;
    uint64_t unknown; /* fields that were left out */
    qz_file_error *error;
} reader;

typedef struct named { /* a tensor's name and place */
    const char *text;
    size_t length;
    size_t start;
} named;

static qz_file_result refuse(const reader *r, const char *field, size_t at, const char *what)
{
    return qz_fail(r->error, QZ_FILE_FORMAT, r->label, field, START + (uint64_t)at, "%s", what);
}

/* The text is no JSON, or another token came than the format has there. */
static qz_file_result unexpected(const reader *r, const char *field, const char *what)
{
    return refuse(r, field, r->json.start, r->json.kind == QZ_JSON_ERROR ? r->json.wrong : what);
}

static qz_file_result refuse_tensor(const reader *r, const named *name, size_t at, const char *what)
{
    char field[QZ_MODEL_FIELD];
    return refuse(r, qz_model_field("tensor", name->text, name->length, field), at, what);
}

static qz_file_result unexpected_in(const reader *r, const named *name, const char *what)
{
    return refuse_tensor(r, name, r->json.start, r->json.kind == QZ_JSON_ERROR ? r->json.wrong : what);
}

/* ---- metadata ---- */

static qz_file_result add_pair(reader *r, const qz_safetensors_pair *pair)
{
    qz_safetensors *out = r->out;
    qz_file_result result = qz_model_charge(&out->model, 1, 3 * sizeof *pair + QZ_MODEL_NAME_COST, r->label, r->error);
    if (result != QZ_FILE_OK)
        return result;
    if (out->metadata_count == r->pairs_room) {
        size_t wider = r->pairs_room == 0 ? 16 : 2 * r->pairs_room;
        qz_safetensors_pair *pairs = realloc(out->metadata, wider * sizeof *pairs);
        if (!pairs)
            return qz_fail_memory(r->error, r->label);
        out->metadata = pairs;
        r->pairs_room = wider;
    }
    out->metadata[out->metadata_count++] = *pair;
    return QZ_FILE_OK;
}

static qz_file_result read_pairs(reader *r, qz_names *keys)
{
    char field[QZ_MODEL_FIELD];
    qz_json *json = &r->json;
    while (qz_json_next(json) == QZ_JSON_KEY) {
        qz_safetensors_pair pair = {.key = json->string, .key_length = json->length};
        size_t start = json->start;
        qz_model_field("metadata", pair.key, pair.key_length, field);
        if (qz_json_next(json) != QZ_JSON_STRING)
            return unexpected(r, field, "is not a string, as the values of __metadata__ are");
        pair.value = json->string;
        pair.value_length = json->length;
        qz_file_result result = add_pair(r, &pair);
        if (result != QZ_FILE_OK)
            return result;
        switch (qz_names_add(keys, pair.key, pair.key_length, r->out->metadata_count)) {
        case QZ_NAME_NEW:
            break;
        case QZ_NAME_TWICE:
            return refuse(r, field, start, "the key occurs twice, so that its meaning is unclear");
        default:
            return qz_fail_memory(r->error, r->label);
        }
    }
    return json->kind == QZ_JSON_OBJECT_END ? QZ_FILE_OK : unexpected(r, metadata_name, "");
}

static qz_file_result read_metadata(reader *r)
{
    if (qz_json_next(&r->json) == QZ_JSON_NULL) /* as MLX writes if there is none */
        return QZ_FILE_OK;
    if (r->json.kind != QZ_JSON_OBJECT)
        return unexpected(r, metadata_name, "is not an object of strings");
    qz_names keys = {0};
    qz_file_result result = read_pairs(r, &keys);
    qz_names_free(&keys);
    return result;
}

/* ---- tensors ---- */

static qz_file_result read_type(reader *r, const named *name, unsigned *type)
{
    char shown[QZ_NAME_TEXT], message[300];
    if (qz_json_next(&r->json) != QZ_JSON_STRING)
        return unexpected_in(r, name, "dtype is not a string");
    for (*type = 0; *type < QZ_SAFETENSORS_TYPES; ++*type)
        if (qz_json_is(&r->json, rows[*type].name))
            return QZ_FILE_OK;
    snprintf(message, sizeof message, "dtype '%s' is none of the format's types",
             qz_escape(r->json.string, r->json.length, shown, sizeof shown));
    return refuse_tensor(r, name, r->json.start, message);
}

/* An array of at most `most` whole numbers; `what` is a field, `item` a number of it. */
static qz_file_result read_numbers(reader *r, const named *name, const char *what, const char *item, uint64_t *numbers,
                                   unsigned most, unsigned *count)
{
    char message[200];
    if (qz_json_next(&r->json) != QZ_JSON_ARRAY) {
        snprintf(message, sizeof message, "%s is not an array", what);
        return unexpected_in(r, name, message);
    }
    for (*count = 0; qz_json_next(&r->json) != QZ_JSON_ARRAY_END; ++*count) {
        uint64_t number;
        if (r->json.kind == QZ_JSON_ERROR)
            return unexpected_in(r, name, "");
        const char *wrong = qz_json_whole(&r->json, &number);
        if (!wrong && *count == most)
            wrong = "is more than there can be";
        if (wrong) {
            snprintf(message, sizeof message, "%s in %s %s", item, what, wrong);
            return refuse_tensor(r, name, r->json.start, message);
        }
        numbers[*count] = number;
    }
    return QZ_FILE_OK;
}

/* A field that this reader does not know is left out, and said so. */
static qz_file_result skip_field(reader *r, const named *name, named *unknown, unsigned *count)
{
    char shown[QZ_NAME_TEXT], shown_field[QZ_NAME_TEXT];
    named field = {r->json.string, r->json.length, r->json.start};
    for (unsigned i = 0; i < *count; i++)
        if (unknown[i].length == field.length && memcmp(unknown[i].text, field.text, field.length) == 0)
            return refuse_tensor(r, name, field.start, "has a field twice, so that its meaning is unclear");
    if (*count == MOST_UNKNOWN)
        return refuse_tensor(r, name, field.start, "has more than 16 fields that the format does not know");
    unknown[(*count)++] = field;
    if (r->unknown++ == 0)
        snprintf(r->out->note, sizeof r->out->note, "the field '%s' of tensor '%s' is unknown and is left out",
                 qz_escape(field.text, field.length, shown_field, sizeof shown_field),
                 qz_escape(name->text, name->length, shown, sizeof shown));
    qz_json_next(&r->json);
    return qz_json_skip(&r->json) == QZ_JSON_ERROR ? unexpected_in(r, name, "") : QZ_FILE_OK;
}

/* Checks what was read of a tensor and turns its extent into a place in the file. */
static qz_file_result check_tensor(const reader *r, const named *name, const uint64_t *extent, qz_model_tensor *tensor)
{
    char message[200];
    uint64_t needed;
    if (extent[0] > extent[1])
        return refuse_tensor(r, name, name->start, "data_offsets end before they begin");
    if (extent[1] > r->data_bytes) {
        snprintf(message, sizeof message,
                 "data_offsets reach to byte %" PRIu64 " of the data, of which the file has %" PRIu64, extent[1],
                 r->data_bytes);
        return refuse_tensor(r, name, name->start, message);
    }
    const char *wrong = qz_safetensors_bytes(tensor->type, tensor->rank, tensor->shape, &needed);
    if (wrong)
        return refuse_tensor(r, name, name->start, wrong);
    tensor->bytes = extent[1] - extent[0];
    tensor->offset = r->out->data + extent[0];
    if (needed != tensor->bytes) {
        snprintf(message, sizeof message, "dtype and shape need %" PRIu64 " bytes, data_offsets give %" PRIu64, needed,
                 tensor->bytes);
        return refuse_tensor(r, name, name->start, message);
    }
    return QZ_FILE_OK;
}

static qz_file_result read_tensor(reader *r, const named *name)
{
    enum { TYPE = 1, SHAPE = 2, EXTENT = 4 };
    unsigned seen = 0, numbers = 0, unknown_count = 0;
    uint64_t shape[QZ_MAX_RANK], extent[2] = {0, 0};
    named unknown[MOST_UNKNOWN];
    qz_model_tensor tensor = {.name = name->text, .name_length = name->length, .shape = shape};
    qz_json *json = &r->json;
    const char *wrong = qz_model_name_wrong(name->text, name->length);
    if (wrong)
        return refuse_tensor(r, name, name->start, wrong);
    if (qz_json_next(json) != QZ_JSON_OBJECT)
        return unexpected_in(r, name, "is not an object of dtype, shape and data_offsets");
    qz_file_result result = QZ_FILE_OK;
    while (result == QZ_FILE_OK && qz_json_next(json) == QZ_JSON_KEY) {
        unsigned which = qz_json_is(json, "dtype")          ? TYPE
                         : qz_json_is(json, "shape")        ? SHAPE
                         : qz_json_is(json, "data_offsets") ? EXTENT
                                                            : 0;
        if (seen & which)
            return refuse_tensor(r, name, json->start, "has a field twice, so that its meaning is unclear");
        seen |= which;
        if (which == TYPE)
            result = read_type(r, name, &tensor.type);
        else if (which == SHAPE)
            result = read_numbers(r, name, "shape", "a size", shape, QZ_MAX_RANK, &tensor.rank);
        else if (which == EXTENT) {
            result = read_numbers(r, name, "data_offsets", "an offset", extent, 2, &numbers);
            if (result == QZ_FILE_OK && numbers != 2)
                result = refuse_tensor(r, name, json->start, "data_offsets are not two numbers");
        } else {
            result = skip_field(r, name, unknown, &unknown_count);
        }
    }
    if (result != QZ_FILE_OK)
        return result;
    if (json->kind != QZ_JSON_OBJECT_END)
        return unexpected_in(r, name, "");
    if (seen != (TYPE | SHAPE | EXTENT))
        return refuse_tensor(r, name, name->start, "lacks one of dtype, shape and data_offsets");
    result = check_tensor(r, name, extent, &tensor);
    if (result == QZ_FILE_OK)
        result = qz_model_keep_shape(&r->out->model, tensor.rank, shape, &tensor.shape, r->label, r->error);
    if (result == QZ_FILE_OK)
        result = qz_model_add(&r->out->model, &tensor, START + (uint64_t)name->start, r->label, r->error);
    return result;
}

static qz_file_result read_header(reader *r)
{
    qz_json *json = &r->json;
    int metadata = 0;
    qz_file_result result = QZ_FILE_OK;
    qz_json_next(json); /* an object: the brace is what such a file is known by */
    while (result == QZ_FILE_OK && qz_json_next(json) == QZ_JSON_KEY) {
        named name = {json->string, json->length, json->start};
        if (!qz_json_is(json, metadata_name)) {
            result = read_tensor(r, &name);
        } else if (metadata) {
            result = refuse(r, metadata_name, name.start, "occurs twice, so that its meaning is unclear");
        } else {
            metadata = 1;
            result = read_metadata(r);
        }
    }
    if (result != QZ_FILE_OK)
        return result;
    if (json->kind != QZ_JSON_OBJECT_END || qz_json_next(json) != QZ_JSON_END)
        return unexpected(r, "header", "");
    return QZ_FILE_OK;
}

/* ---- extents ---- */

static int is_before(const qz_model_tensor *a, const qz_model_tensor *b)
{
    return a->offset != b->offset ? a->offset < b->offset : a->bytes < b->bytes;
}

/* Sorts indices of tensors by offset, empty ones first. A heap: in no order of the file does it need more than n log n
 * steps. */
static void sort(const qz_model_tensor *tensors, size_t *list, size_t n)
{
    for (size_t built = n / 2, end = n; end > 1;) {
        size_t moved;
        if (built > 0) {
            moved = list[--built];
        } else {
            moved = list[--end];
            list[end] = list[0];
        }
        size_t at = built;
        for (size_t child; (child = 2 * at + 1) < end; at = child) {
            if (child + 1 < end && is_before(&tensors[list[child]], &tensors[list[child + 1]]))
                child++;
            if (!is_before(&tensors[moved], &tensors[list[child]]))
                break;
            list[at] = list[child];
        }
        list[at] = moved;
    }
}

/* Where a tensor begins, all before it must have ended, and nothing may lie between them. */
static qz_file_result check_next(const reader *r, const qz_model_tensor *before, const qz_model_tensor *tensor)
{
    char field[QZ_MODEL_FIELD], other[QZ_NAME_TEXT];
    uint64_t end = before ? before->offset + before->bytes : r->out->data;
    if (tensor->offset == end)
        return QZ_FILE_OK;
    qz_model_field("tensor", tensor->name, tensor->name_length, field);
    if (!before)
        return qz_fail(r->error, QZ_FILE_FORMAT, r->label, field, tensor->offset,
                       "the data begins with %" PRIu64 " bytes that belong to no tensor", tensor->offset - end);
    qz_escape(before->name, before->name_length, other, sizeof other);
    if (tensor->offset < end)
        return qz_fail(r->error, QZ_FILE_FORMAT, r->label, field, tensor->offset, "shares bytes with tensor '%s'",
                       other);
    return qz_fail(r->error, QZ_FILE_FORMAT, r->label, field, tensor->offset,
                   "between it and tensor '%s' lie %" PRIu64 " bytes that belong to no tensor", other,
                   tensor->offset - end);
}

/* The tensors must fill the data: no overlap, no gap. */
static qz_file_result check_extents(reader *r)
{
    const qz_model *model = &r->out->model;
    const qz_model_tensor *before = NULL;
    size_t n = model->count, *sorted = NULL;
    qz_file_result result = QZ_FILE_OK;
    for (size_t i = 1; !sorted && i < n; i++) {
        if (!is_before(&model->tensors[i], &model->tensors[i - 1]))
            continue;
        sorted = malloc(n * sizeof *sorted);
        if (!sorted)
            return qz_fail_memory(r->error, r->label);
        for (size_t j = 0; j < n; j++)
            sorted[j] = j;
        sort(model->tensors, sorted, n);
    }
    for (size_t i = 0; result == QZ_FILE_OK && i < n; i++) {
        const qz_model_tensor *tensor = &model->tensors[sorted ? sorted[i] : i];
        result = check_next(r, before, tensor);
        before = tensor;
    }
    free(sorted);
    uint64_t end = before ? before->offset + before->bytes - r->out->data : 0;
    if (result == QZ_FILE_OK && end != r->data_bytes)
        result = qz_fail(r->error, QZ_FILE_FORMAT, r->label, NULL, r->out->data + end,
                         "%" PRIu64 " bytes that belong to no tensor end the file", r->data_bytes - end);
    return result;
}

/* ---- the whole ---- */

/* No more tensors than this are in the text; strings may hold braces, so that there can be fewer. */
static size_t most_tensors(const char *text, size_t length)
{
    size_t braces = 0, room = length / SHORTEST_TENSOR + 1;
    for (const char *at = text, *end = text + length; (at = memchr(at, '{', (size_t)(end - at))) != NULL; at++)
        if (++braces > room)
            return room;
    return braces;
}

static qz_file_result read_length(const qz_input *input, const qz_model_limits *limits, uint64_t *length,
                                  qz_file_error *error)
{
    uint8_t start[START];
    if (input->size < START + SHORTEST)
        return qz_fail(error, QZ_FILE_FORMAT, input->label, "header", 0, "too short for a safetensors file");
    qz_file_result result = qz_input_read(input, 0, start, sizeof start, error);
    if (result != QZ_FILE_OK)
        return result;
    *length = get64(start);
    if (*length > input->size - START)
        return qz_fail(error, QZ_FILE_FORMAT, input->label, "header", 0,
                       "the header is said to have %" PRIu64 " bytes, but only %" PRIu64 " follow", *length,
                       input->size - START);
    if (*length < SHORTEST || *length > LONGEST)
        return qz_fail(error, QZ_FILE_FORMAT, input->label, "header", 0,
                       "the header is said to have %" PRIu64 " bytes; the format allows 2 to 100000000", *length);
    if (*length > limits->max_header)
        return qz_fail_option(error, QZ_FILE_LIMIT, QZ_OPTION_MAX_TABLE, input->label, "header", 0,
                              "the header has %" PRIu64 " bytes; the limit is %" PRIu64, *length, limits->max_header);
    return QZ_FILE_OK;
}

static qz_file_result read_all(reader *r, const qz_input *input, uint64_t length)
{
    qz_safetensors *out = r->out;
    qz_file_result result = qz_model_charge(&out->model, length, 1, r->label, r->error);
    if (result != QZ_FILE_OK)
        return result;
    out->text = malloc((size_t)length + 1);
    if (!out->text)
        return qz_fail_memory(r->error, r->label);
    result = qz_input_read(input, START, out->text, (size_t)length, r->error);
    if (result != QZ_FILE_OK)
        return result;
    if (out->text[0] != '{')
        return refuse(r, "header", 0, "does not begin with '{', as the format demands");
    size_t most = most_tensors(out->text, (size_t)length);
    result = qz_model_charge(&out->model, most, sizeof(qz_model_tensor) + QZ_MODEL_NAME_COST, r->label, r->error);
    if (result == QZ_FILE_OK)
        result = qz_model_reserve(&out->model, most, r->label, r->error);
    if (result != QZ_FILE_OK)
        return result;
    qz_json_begin(&r->json, out->text, (size_t)length, DEEPEST);
    result = read_header(r);
    return result == QZ_FILE_OK ? check_extents(r) : result;
}

qz_file_result qz_safetensors_read(qz_safetensors *safetensors, const qz_input *input, const qz_model_limits *limits,
                                   qz_file_error *error)
{
    static const qz_model_limits usual = QZ_MODEL_LIMITS_INIT;
    uint64_t length = 0;
    if (!limits)
        limits = &usual;
    *safetensors = (qz_safetensors){.model.left = limits->max_table};
    qz_file_result result = read_length(input, limits, &length, error);
    if (result != QZ_FILE_OK)
        return result;
    safetensors->data = START + length;
    reader r = {
        .out = safetensors, .label = input->label, .data_bytes = input->size - safetensors->data, .error = error};
    result = read_all(&r, input, length);
    if (r.unknown > 1) {
        size_t used = strlen(safetensors->note);
        snprintf(safetensors->note + used, sizeof safetensors->note - used, ", and %" PRIu64 " more", r.unknown - 1);
    }
    if (result != QZ_FILE_OK)
        qz_safetensors_free(safetensors);
    return result;
}
