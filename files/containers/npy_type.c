/*
 * npy_type.c - reads and writes the types of NumPy's arrays
 *
 * Types that the library has as elements become these. Others are kept as text; only the bytes of an item are computed.
 */
#include "npy_type.h"

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
    while (text[at] >= (at == 1 ? '1' : '0') && text[at] <= '9') /* ends at the bracket */
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
    *wrong = memchr(text, 'O', length < 2 ? length : 2) ? objects : unknown;
    if (length < 3 || !strchr("<>|", text[0]) || text[2] == '0')
        return 0;
    for (; at < length && text[at] >= '0' && text[at] <= '9'; at++)
        if ((number = number * 10 + (uint64_t)(text[at] - '0')) > ITEM_LONGEST)
            return 0;
    /* If it is plain, the number is at least 1, for its first digit is no 0. */
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
        good = plain;
        break;
    case 'U':
        number *= 4;
        good = plain && number <= ITEM_LONGEST;
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

/* A record: [('name', type), (('title', 'name'), type, (2, 3)), ('', '|V3')]. Returns the bytes of an item or 0; then
 * *wrong says why, or is NULL where memory is lacking. */
static uint64_t take_record(qz_text *p, int depth, const char **wrong);

static uint64_t take_item(qz_text *p, int depth, int *is_void, const char **wrong)
{
    const char *text;
    size_t length;
    qz_text_skip_space(p);
    *is_void = 0;
    *wrong = unknown;
    if (p->at < p->end && *p->at == '[')
        return take_record(p, depth + 1, wrong);
    if (!qz_text_take_string(p, 0, &text, &length))
        return 0;
    *is_void = length > 1 && text[1] == 'V';
    return simple_type(text, length, wrong);
}

static int take_field_name(qz_text *p, field_name *name)
{
    return qz_text_take_string(p, 1, &name->text, &name->length);
}

/* The shape of a field, a number or a tuple: multiplies *bytes. */
static int take_field_shape(qz_text *p, uint64_t *bytes)
{
    int tuple = qz_text_take(p, '('), n = 0;
    for (int comma = 1; !(tuple && qz_text_take(p, ')')); comma = qz_text_take(p, ','), n++) {
        uint64_t size = 0;
        qz_text_skip_space(p);
        const char *start = p->at;
        for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++)
            if ((size = size * 10 + (uint64_t)(*p->at - '0')) > ITEM_LONGEST)
                return 0;
        if (!comma || p->at == start || *start == '0' || n == QZ_MAX_RANK)
            return 0;
        *bytes = qz_product(*bytes, size);
        if (*bytes > ITEM_LONGEST)
            return 0;
        if (!tuple)
            return 1;
    }
    return n != 0;
}

static uint64_t take_record(qz_text *p, int depth, const char **wrong)
{
    uint64_t total = 0;
    size_t count = 0, capacity = 0;
    field_name *names = NULL;
    int good = depth <= DEEPEST;
    qz_text_take(p, '['); /* which the caller has seen */
    *wrong = "has records that are nested too deep or are none; save each field as an array";
    for (int comma = 1; good && !qz_text_take(p, ']'); comma = qz_text_take(p, ',')) {
        field_name pair[2] = {{"", 0}, {"", 0}};
        uint64_t bytes;
        int is_void = 0, titled;
        good = comma && qz_text_take(p, '(');
        titled = good && qz_text_take(p, '(');
        good = good && take_field_name(p, &pair[0]) &&
               (!titled || (qz_text_take(p, ',') && take_field_name(p, &pair[1]) && qz_text_take(p, ')'))) &&
               qz_text_take(p, ',');
        bytes = good ? take_item(p, depth, &is_void, wrong) : 0;
        good = good && bytes != 0 && (!qz_text_take(p, ',') || take_field_shape(p, &bytes)) && qz_text_take(p, ')') &&
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
                *wrong = good ? *wrong : NULL;
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
    qz_text p = {type, type + length, type, QZ_NO_OFFSET, NULL, NULL, NULL};
    uint64_t bytes = take_record(&p, 0, wrong);
    return p.at == p.end ? bytes : 0;
}

/* Keeps the text of a type as UTF-8: headers before version 3 are in Latin-1. */
static qz_file_result keep_type(const qz_text *p, const char *text, size_t length, int latin1, qz_arena *arena,
                                qz_tensor *tensor)
{
    char *kept = qz_arena_get(arena, 2 * length + 1), *to = kept;
    if (!kept)
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

qz_file_result qz_npy_take_type(qz_text *p, const qz_open_options *options, int latin1, qz_arena *arena,
                                qz_tensor *tensor)
{
    const char *text, *wrong = unknown;
    size_t length;
    qz_text_skip_space(p);
    const char *start = p->at;
    if (p->at < p->end && *p->at == '[') {
        tensor->type_bytes = take_record(p, 0, &wrong);
        if (tensor->type_bytes == 0)
            return wrong ? qz_text_refuse(p, start, wrong) : qz_fail_memory(p->error, p->label);
        if (!latin1 && !qz_is_utf8(start, (size_t)(p->at - start)))
            return qz_text_refuse(p, start, "has names of fields that are not UTF-8");
        return keep_type(p, start, (size_t)(p->at - start), latin1, arena, tensor);
    }
    if (p->at < p->end && *p->at == '(')
        return qz_text_refuse(p, start,
                              "has a type with a shape of its own, which no file has; put it into the array's shape");
    if (!qz_text_take_string(p, 0, &text, &length))
        return qz_text_refuse(p, start, "the type is not a plain string");
    for (size_t i = 0; length == 3 && strchr("<>|", text[0]) && i < sizeof types / sizeof types[0]; i++) {
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
    return qz_text_refuse(p, start, message);
}

size_t qz_npy_put_type(const qz_tensor *tensor, char *out, size_t room)
{
    const char *code = "V2";
    if (tensor->element == QZ_ELEMENT_RAW)
        return (size_t)snprintf(out, room, tensor->type[0] == '[' ? "%s" : "'%s'", tensor->type);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].element == tensor->element)
            code = types[i].code;
    return (size_t)snprintf(out, room, "'%c%s'", qz_element_size(tensor->element) == 1 ? '|' : '<', code);
}
