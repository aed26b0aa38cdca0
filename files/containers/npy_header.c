/*
 * npy_header.c - the header of an array in NumPy's format
 *
 *     \x93NUMPY  major minor  length  {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  padding \n
 *
 * The text is a Python literal. NumPy evaluates it; this file reads exactly the dictionaries that can describe an
 * array, once each key, and refuses all else. Nothing is nested but records in the type, to a small depth.
 */
#include "npy_header.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../checked.h"
#include "../element.h"
#include "../error.h"

/* ---- types ---- */

static const struct {
    char code[3]; /* without the byte order */
    qz_element element;
} types[] = {
    {"f2", QZ_ELEMENT_F16},  {"f4", QZ_ELEMENT_F32}, {"f8", QZ_ELEMENT_F64}, {"i1", QZ_ELEMENT_I8},
    {"i2", QZ_ELEMENT_I16},  {"i4", QZ_ELEMENT_I32}, {"i8", QZ_ELEMENT_I64}, {"u1", QZ_ELEMENT_U8},
    {"u2", QZ_ELEMENT_U16},  {"u4", QZ_ELEMENT_U32}, {"u8", QZ_ELEMENT_U64}, {"b1", QZ_ELEMENT_BOOL},
    {"V2", QZ_ELEMENT_BF16},
};

/* ---- parser ---- */

typedef struct parser {
    const char *at, *end, *text;
    uint64_t base; /* offset of the text in the file, or QZ_NO_OFFSET */
    const char *label, *field;
    qz_file_error *error;
} parser;

static qz_file_result refuse(const parser *p, const char *at, const char *what)
{
    uint64_t offset = p->base == QZ_NO_OFFSET ? QZ_NO_OFFSET : p->base + (uint64_t)(at - p->text);
    return qz_fail(p->error, QZ_FILE_FORMAT, p->label, p->field, offset, "%s", what);
}

static void skip_space(parser *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r'))
        p->at++;
}

static int take(parser *p, char wanted)
{
    skip_space(p);
    if (p->at == p->end || *p->at != wanted)
        return 0;
    p->at++;
    return 1;
}

static int take_word(parser *p, const char *word)
{
    size_t n = strlen(word);
    skip_space(p);
    if ((size_t)(p->end - p->at) < n || memcmp(p->at, word, n) != 0)
        return 0;
    p->at += n;
    return 1;
}

/* A string without escapes: its characters stay where they are. `wide`: there may be others than ASCII. */
static int take_string(parser *p, int wide, const char **text, size_t *length)
{
    skip_space(p);
    const char *at = p->at;
    if (p->end - at > 1 && *at == 'u') /* Python 2 wrote u'...' */
        at++;
    if (at == p->end || (*at != '\'' && *at != '"'))
        return 0;
    char quote = *at++;
    *text = at;
    while (at < p->end && *at != quote && *at != '\\' && (unsigned char)*at >= 0x20 && *at != 0x7f &&
           (wide || (unsigned char)*at < 0x80))
        at++;
    if (at == p->end || *at != quote)
        return 0;
    *length = (size_t)(at - *text);
    p->at = at + 1;
    return 1;
}

static qz_file_result take_size(parser *p, uint64_t *size)
{
    skip_space(p);
    const char *start = p->at;
    *size = 0;
    if (p->at < p->end && *p->at == '-')
        return refuse(p, start, "a size in the shape is negative");
    for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++)
        if (!qz_mul(*size, 10, size) || !qz_add(*size, (uint64_t)(*p->at - '0'), size) || *size > QZ_MAX_BYTES)
            return refuse(p, start, "a size in the shape is beyond 2^63 - 1");
    if (p->at == start || (p->at - start > 1 && *start == '0'))
        return refuse(p, start, "a size in the shape is not a whole number");
    if (p->at < p->end && *p->at == 'L') /* Python 2 wrote 3L */
        p->at++;
    return QZ_FILE_OK;
}

static qz_file_result take_shape(parser *p, qz_npy_header *header)
{
    if (!take(p, '('))
        return refuse(p, p->at, "the shape is not a tuple");
    header->tensor.rank = 0;
    for (int comma = 1; !take(p, ')'); comma = take(p, ',')) {
        uint64_t size;
        if (!comma)
            return refuse(p, p->at, "the shape is not a tuple of numbers");
        qz_file_result result = take_size(p, &size);
        if (result != QZ_FILE_OK)
            return result;
        if (header->tensor.rank == QZ_MAX_RANK)
            return refuse(p, p->at, "the shape has more than 64 axes");
        header->shape[header->tensor.rank++] = size;
    }
    /* (3) is a number in brackets; a tuple of one is (3,). */
    const char *back = p->at - 2;
    while (*back == ' ' || *back == '\t' || *back == '\n' || *back == '\r')
        back--;
    if (header->tensor.rank == 1 && *back != ',')
        return refuse(p, p->at, "the shape is a number, not a tuple");
    return QZ_FILE_OK;
}

/* ---- types of items that are kept as they are ---- */

enum { ITEM_LONGEST = INT32_MAX, DEEPEST = 16 }; /* bytes of an item in NumPy; records within records */

static const char objects[] = "holds Python objects, which are never read: that could run any program";
static const char unknown[] =
    "has a type that is not read; these are: b1, i1 to i8, u1 to u8, f2 to f16, c8 to c32, S, U, V, "
    "M8 and m8 after <, > or |, and records of them";

/* The unit of a date as NumPy writes it: [ns], [25s]. */
static int is_unit(const char *text, size_t length)
{
    static const char *const units[] = {"Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"};
    size_t at = 1;
    if (length < 3 || text[0] != '[' || text[length - 1] != ']')
        return 0;
    while (at < length && text[at] >= (at == 1 ? '1' : '0') && text[at] <= '9')
        at++;
    for (size_t i = 0; at <= 10 && i < sizeof units / sizeof units[0]; i++)
        if (strlen(units[i]) == length - 1 - at && memcmp(units[i], text + at, length - 1 - at) == 0)
            return 1;
    return 0;
}

/* Bytes of a type that is no record, such as <U3; 0 with *wrong set. */
static uint64_t simple_type(const char *text, size_t length, const char **wrong)
{
    uint64_t number = 0;
    size_t at = 2;
    *wrong = memchr(text, 'O', length < 2 ? length : 2) != NULL ? objects : unknown;
    if (length < 3 || strchr("<>|", text[0]) == NULL || text[2] == '0')
        return 0;
    for (; at < length && text[at] >= '0' && text[at] <= '9'; at++)
        if ((number = number * 10 + (uint64_t)(text[at] - '0')) > ITEM_LONGEST)
            return 0;
    int plain = at == length, power = number != 0 && (number & (number - 1)) == 0, good = 0;
    switch (text[1]) {
    case 'b':
        good = plain && number == 1;
        break;
    case 'i':
    case 'u':
        good = plain && power && number <= 8;
        break;
    case 'f':
        good = plain && power && number >= 2 && number <= 16;
        break;
    case 'c':
        good = plain && power && number >= 8 && number <= 32;
        break;
    case 'S':
    case 'V':
        good = plain && number != 0;
        break;
    case 'U':
        number *= 4;
        good = plain && number != 0 && number <= ITEM_LONGEST;
        break;
    case 'M':
    case 'm':
        good = number == 8 && (plain || is_unit(text + at, length - at));
        break;
    }
    /* Numbers of several bytes have an order. */
    if (text[0] == '|' && number > 1 && text[1] != 'S' && text[1] != 'V')
        good = 0;
    return good ? number : 0;
}

typedef struct field_name {
    const char *text;
    size_t length;
} field_name;

/* A record: [('name', type), (('title', 'name'), type, (2, 3)), ('', '|V3')]. Returns the bytes of an item or 0. */
static uint64_t take_record(parser *p, int depth, const char **wrong);

static uint64_t take_item(parser *p, int depth, int *is_void, const char **wrong)
{
    const char *text;
    size_t length;
    skip_space(p);
    *is_void = 0;
    *wrong = unknown;
    if (p->at < p->end && *p->at == '[')
        return take_record(p, depth + 1, wrong);
    if (!take_string(p, 0, &text, &length))
        return 0;
    *is_void = length > 1 && text[1] == 'V';
    return simple_type(text, length, wrong);
}

static int take_field_name(parser *p, field_name *name)
{
    return take_string(p, 1, &name->text, &name->length);
}

/* The shape of a field, a number or a tuple: multiplies *bytes. */
static int take_field_shape(parser *p, uint64_t *bytes)
{
    int tuple = take(p, '('), n = 0;
    for (int comma = 1; !(tuple && take(p, ')')); comma = take(p, ','), n++) {
        uint64_t size = 0;
        skip_space(p);
        const char *start = p->at;
        for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++)
            if ((size = size * 10 + (uint64_t)(*p->at - '0')) > ITEM_LONGEST)
                return 0;
        if (!comma || p->at == start || *start == '0' || n == QZ_MAX_RANK || !qz_mul(*bytes, size, bytes) ||
            *bytes > ITEM_LONGEST)
            return 0;
        if (!tuple)
            return 1;
    }
    return n != 0;
}

static uint64_t take_record(parser *p, int depth, const char **wrong)
{
    uint64_t total = 0;
    size_t count = 0, capacity = 0;
    field_name *names = NULL;
    int good = depth <= DEEPEST && take(p, '[');
    *wrong = "has records that are nested too deep or are none; save each field as an array";
    for (int comma = 1; good && !take(p, ']'); comma = take(p, ',')) {
        field_name pair[2] = {{"", 0}, {"", 0}};
        uint64_t bytes;
        int is_void = 0, titled;
        good = comma && take(p, '(');
        titled = good && take(p, '(');
        good = good && take_field_name(p, &pair[0]) &&
               (!titled || (take(p, ',') && take_field_name(p, &pair[1]) && take(p, ')'))) && take(p, ',');
        bytes = good ? take_item(p, depth, &is_void, wrong) : 0;
        good = good && bytes != 0 && (!take(p, ',') || take_field_shape(p, &bytes)) && take(p, ')') &&
               (total += bytes) <= ITEM_LONGEST;
        /* Only filler has no name, and no two fields have the same one. */
        good = good && (pair[titled].length != 0 || is_void);
        for (int i = 0; good && i <= titled; i++) {
            if (pair[i].length == 0)
                continue;
            for (size_t j = 0; good && j < count; j++)
                good = names[j].length != pair[i].length || memcmp(names[j].text, pair[i].text, pair[i].length) != 0;
            if (good && count == capacity) {
                capacity = capacity == 0 ? 16 : 2 * capacity;
                field_name *wider = realloc(names, capacity * sizeof *names);
                good = wider != NULL;
                names = good ? wider : names;
            }
            if (good)
                names[count++] = pair[i];
        }
    }
    free(names);
    return good ? total : 0;
}

uint64_t qz_type_bytes(const char *type, const char **wrong)
{
    size_t length = strlen(type);
    *wrong = "has a type whose text is longer than is written";
    if (length > QZ_TYPE_LONGEST)
        return 0;
    *wrong = unknown;
    if (!qz_is_utf8(type, length))
        return 0;
    if (type[0] != '[')
        return simple_type(type, length, wrong);
    parser p = {type, type + length, type, QZ_NO_OFFSET, NULL, NULL, NULL};
    uint64_t bytes = take_record(&p, 0, wrong);
    return p.at == p.end ? bytes : 0;
}

/* Keeps the text of a type as UTF-8: headers before version 3 are in Latin-1. */
static qz_file_result keep_type(const parser *p, const char *text, size_t length, int latin1, qz_arena *arena,
                                qz_tensor *tensor)
{
    char *kept = qz_arena_get(arena, 2 * length + 1), *to = kept;
    if (kept == NULL)
        return qz_fail_memory(p->error, p->label);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x80 && latin1) {
            *to++ = (char)(0xc0 | c >> 6);
            c = 0x80 | (c & 0x3f);
        }
        *to++ = (char)c;
    }
    *to = '\0';
    tensor->type = kept;
    tensor->element = QZ_ELEMENT_RAW;
    return QZ_FILE_OK;
}

static qz_file_result take_type(parser *p, const qz_open_options *options, int latin1, qz_arena *arena,
                                qz_tensor *tensor)
{
    const char *text, *wrong = unknown;
    size_t length;
    skip_space(p);
    const char *start = p->at;
    if (p->at < p->end && *p->at == '[') {
        tensor->type_bytes = take_record(p, 0, &wrong);
        if (tensor->type_bytes == 0)
            return refuse(p, start, wrong);
        if (!latin1 && !qz_is_utf8(start, (size_t)(p->at - start)))
            return refuse(p, start, "has names of fields that are not UTF-8");
        return keep_type(p, start, (size_t)(p->at - start), latin1, arena, tensor);
    }
    if (p->at < p->end && *p->at == '(')
        return refuse(p, start, "has a type with a shape of its own, which no file has; put it into the array's shape");
    if (!take_string(p, 0, &text, &length))
        return refuse(p, start, "the type is not a plain string");
    for (size_t i = 0; length == 3 && strchr("<>|", text[0]) != NULL && i < sizeof types / sizeof types[0]; i++) {
        if (memcmp(types[i].code, text + 1, 2) != 0)
            continue;
        size_t bytes = qz_element_size(types[i].element);
        int is_void = types[i].element == QZ_ELEMENT_BF16;
        if ((is_void && !options->void2_bfloat16) || (!is_void && text[0] == '|' && bytes > 1))
            break;
        /* '|' is what ml_dtypes writes for bfloat16, in the order of its machine; all those are little-endian. */
        tensor->swapped = bytes > 1 && (text[0] == '>') != qz_big_endian();
        tensor->element = types[i].element;
        tensor->type_bytes = bytes;
        return QZ_FILE_OK;
    }
    tensor->type_bytes = simple_type(text, length, &wrong);
    if (tensor->type_bytes != 0)
        return keep_type(p, text, length, latin1, arena, tensor);
    char shown[QZ_NAME_TEXT], message[400];
    snprintf(message, sizeof message, "'%s' %s", qz_escape(text, length, shown, sizeof shown), wrong);
    return refuse(p, start, message);
}

static qz_file_result parse_dictionary(parser *p, const qz_open_options *options, int latin1, qz_arena *arena,
                                       qz_npy_header *header)
{
    enum { DESCR = 1, ORDER = 2, SHAPE = 4 };
    unsigned seen = 0;
    qz_file_result result = QZ_FILE_OK;
    if (!take(p, '{'))
        return refuse(p, p->at, "the header is not a dictionary");
    for (int comma = 1; !take(p, '}'); comma = take(p, ',')) {
        const char *key, *start = p->at;
        size_t length;
        if (!comma || !take_string(p, 0, &key, &length))
            return refuse(p, p->at, "the header is not a plain dictionary");
        unsigned which = length == 5 && memcmp(key, "descr", 5) == 0             ? DESCR
                         : length == 13 && memcmp(key, "fortran_order", 13) == 0 ? ORDER
                         : length == 5 && memcmp(key, "shape", 5) == 0           ? SHAPE
                                                                                 : 0;
        if (which == 0)
            return refuse(p, start, "the header has a key other than descr, fortran_order and shape");
        if (seen & which)
            return refuse(p, start, "the header has a key twice, so that its meaning is unclear");
        seen |= which;
        if (!take(p, ':'))
            return refuse(p, p->at, "a ':' is missing in the header");
        if (which == DESCR)
            result = take_type(p, options, latin1, arena, &header->tensor);
        else if (which == SHAPE)
            result = take_shape(p, header);
        else if (take_word(p, "True"))
            header->tensor.column_major = 1;
        else if (take_word(p, "False"))
            header->tensor.column_major = 0;
        else
            result = refuse(p, p->at, "fortran_order is neither True nor False");
        if (result != QZ_FILE_OK)
            return result;
    }
    skip_space(p);
    if (p->at != p->end)
        return refuse(p, p->at, "something other than white space follows the dictionary");
    if (seen != (DESCR | ORDER | SHAPE))
        return refuse(p, p->at, "the header lacks one of descr, fortran_order and shape");
    return QZ_FILE_OK;
}

qz_file_result qz_npy_parse(qz_npy_header *header, const qz_npy_source *source, const qz_open_options *options,
                            qz_arena *arena, qz_file_error *error)
{
    const char *label = source->label, *field = source->field;
    const uint64_t available = source->available, base = source->base;
    qz_tensor *t = &header->tensor;
    unsigned char start[QZ_NPY_MAGIC_BYTES + 2];
    if (available < QZ_NPY_MAGIC_BYTES)
        return qz_fail(error, QZ_FILE_FORMAT, label, field, base, "too short for an array");
    qz_file_result result = source->read(source->context, 0, start, QZ_NPY_MAGIC_BYTES, error);
    if (result != QZ_FILE_OK)
        return result;
    if (memcmp(start, "\x93NUMPY", 6) != 0)
        return qz_fail(error, QZ_FILE_FORMAT, label, field, base, "does not begin as a NumPy array does");
    if (start[6] < 1 || start[6] > 3 || start[7] != 0)
        return qz_fail(error, QZ_FILE_FORMAT, label, field, base == QZ_NO_OFFSET ? base : base + 6,
                       "version %d.%d of the array format is unknown; 1.0, 2.0 and 3.0 are read", start[6], start[7]);
    uint64_t before = QZ_NPY_MAGIC_BYTES, length = start[8] | (uint64_t)start[9] << 8;
    if (start[6] > 1) {
        before += 2;
        if (available < before)
            return qz_fail(error, QZ_FILE_FORMAT, label, field, base, "too short for an array");
        result = source->read(source->context, QZ_NPY_MAGIC_BYTES, start + QZ_NPY_MAGIC_BYTES, 2, error);
        if (result != QZ_FILE_OK)
            return result;
        length |= (uint64_t)start[10] << 16 | (uint64_t)start[11] << 24;
    }
    uint64_t text_at = base == QZ_NO_OFFSET ? base : base + before;
    if (length > available - before)
        return qz_fail(error, QZ_FILE_FORMAT, label, field, base == QZ_NO_OFFSET ? base : base + 8,
                       "the header is said to have %" PRIu64 " bytes, but only %" PRIu64 " follow", length,
                       available - before);
    if (length > options->max_header)
        return qz_fail(error, QZ_FILE_LIMIT, label, field, base == QZ_NO_OFFSET ? base : base + 8,
                       "the header has %" PRIu64 " bytes; the limit is %" PRIu64 " (--max-header raises it)", length,
                       options->max_header);
    char *text = malloc((size_t)length + 1);
    if (text == NULL)
        return qz_fail_memory(error, label);
    result = source->read(source->context, before, text, (size_t)length, error);
    if (result == QZ_FILE_OK) {
        parser p = {text, text + length, text, text_at, label, field, error};
        *header = (qz_npy_header){.tensor = {.shape = header->shape}, .length = before + length};
        result = parse_dictionary(&p, options, start[6] < 3, arena, header);
        if (result == QZ_FILE_OK && !qz_shape_count(t->rank, t->shape, t->type_bytes, &t->count, &t->bytes))
            result = refuse(&p, text, "the sizes in the shape multiply to more than 2^63 - 1 bytes");
        if (t->element == QZ_ELEMENT_RAW)
            t->count = t->bytes;
    }
    free(text);
    if (result != QZ_FILE_OK)
        return result;
    uint64_t left = available - header->length;
    if (t->bytes > left)
        return qz_fail(error, QZ_FILE_FORMAT, label, field, text_at,
                       "the shape needs %" PRIu64 " bytes of data, but only %" PRIu64 " follow", t->bytes, left);
    return QZ_FILE_OK;
}

/* ---- writer ---- */

size_t qz_npy_room(const qz_tensor *tensor)
{
    return QZ_NPY_HEADER_WRITE + (tensor->type != NULL ? strlen(tensor->type) : 0);
}

/* The type as the header has it; returns its length. */
static size_t put_type(const qz_tensor *tensor, char *out, size_t room)
{
    const char *code = "V2";
    if (tensor->element == QZ_ELEMENT_RAW)
        return (size_t)snprintf(out, room, tensor->type[0] == '[' ? "%s" : "'%s'", tensor->type);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].element == tensor->element)
            code = types[i].code;
    return (size_t)snprintf(out, room, "'%c%s'", qz_element_size(tensor->element) == 1 ? '|' : '<', code);
}

size_t qz_npy_format(const qz_tensor *tensor, char *out)
{
    int wide = 0; /* names of fields beyond ASCII: version 3, which has a longer length */
    for (const char *at = tensor->type; at != NULL && *at != '\0'; at++)
        wide |= (unsigned char)*at >= 0x80;
    size_t before = QZ_NPY_MAGIC_BYTES + (wide ? 2 : 0), room = qz_npy_room(tensor) - before;
    char *text = out + before;
    size_t n = (size_t)snprintf(text, room, "{'descr': ");
    n += put_type(tensor, text + n, room - n);
    n += (size_t)snprintf(text + n, room - n, ", 'fortran_order': %s, 'shape': (",
                          tensor->column_major ? "True" : "False");
    int grows = 0; /* digits of the axis along which NumPy allows the file to grow */
    for (unsigned i = 0; i < tensor->rank; i++) {
        int digits = snprintf(text + n, room - n, "%" PRIu64, tensor->shape[i]);
        if (i == (tensor->column_major ? tensor->rank - 1 : 0))
            grows = digits;
        n += (size_t)digits;
        if (i + 1 < tensor->rank)
            n += (size_t)snprintf(text + n, room - n, ", ");
    }
    n += (size_t)snprintf(text + n, room - n, "%s), }", tensor->rank == 1 ? "," : "");
    /* NumPy leaves room for 21 digits there, and then pads with 1 to 64 spaces to a multiple of 64. */
    if (tensor->rank != 0)
        for (; grows < 21; grows++)
            text[n++] = ' ';
    do
        text[n++] = ' ';
    while ((before + n + 1) % 64 != 0);
    text[n++] = '\n';
    memcpy(out, wide ? "\x93NUMPY\x03" : "\x93NUMPY\x01", 8); /* with the NUL: minor version 0 */
    for (size_t i = 8; i < before; i++)
        out[i] = (char)(n >> (8 * (i - 8)) & 0xff);
    return before + n;
}
