/*
 * npy_header.c - the header of an array in NumPy's format
 *
 *     \x93NUMPY  major minor  length  {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  padding \n
 *
 * The text is a Python literal. NumPy evaluates it; this file reads exactly the dictionaries that can describe an
 * array, once each key, without recursion, and refuses all else.
 */
#include "internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BYTES ((uint64_t)INT64_MAX)

int qz_shape_count(unsigned rank, const uint64_t *shape, uint64_t element_bytes, uint64_t *count, uint64_t *bytes)
{
    uint64_t product = 1;
    int empty = 0;
    for (unsigned i = 0; i < rank; i++) {
        if (shape[i] == 0)
            empty = 1;
        else if (!qz_mul(product, shape[i], &product) || product > MAX_BYTES)
            return 0;
    }
    if (!qz_mul(product, element_bytes, bytes) || *bytes > MAX_BYTES)
        return 0;
    *count = empty ? 0 : product;
    if (empty)
        *bytes = 0;
    return 1;
}

void qz_swap(void *data, size_t element_bytes, size_t count)
{
    unsigned char *at = data;
    for (size_t i = 0; i < count; i++, at += element_bytes)
        for (size_t low = 0, high = element_bytes - 1; low < high; low++, high--) {
            unsigned char kept = at[low];
            at[low] = at[high];
            at[high] = kept;
        }
}

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

/* A string without escapes: its characters stay where they are. */
static int take_string(parser *p, const char **text, size_t *length)
{
    skip_space(p);
    const char *at = p->at;
    if (p->end - at > 1 && *at == 'u') /* Python 2 wrote u'...' */
        at++;
    if (at == p->end || (*at != '\'' && *at != '"'))
        return 0;
    char quote = *at++;
    *text = at;
    while (at < p->end && *at != quote && *at != '\\' && (unsigned char)*at >= 0x20 && (unsigned char)*at < 0x7f)
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
        if (!qz_mul(*size, 10, size) || !qz_add(*size, (uint64_t)(*p->at - '0'), size) || *size > MAX_BYTES)
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
    header->rank = 0;
    for (int comma = 1; !take(p, ')'); comma = take(p, ',')) {
        uint64_t size;
        if (!comma)
            return refuse(p, p->at, "the shape is not a tuple of numbers");
        qz_file_result result = take_size(p, &size);
        if (result != QZ_FILE_OK)
            return result;
        if (header->rank == QZ_MAX_RANK)
            return refuse(p, p->at, "the shape has more than 64 axes");
        header->shape[header->rank++] = size;
    }
    /* (3) is a number in brackets; a tuple of one is (3,). */
    const char *back = p->at - 2;
    while (*back == ' ' || *back == '\t' || *back == '\n' || *back == '\r')
        back--;
    if (header->rank == 1 && *back != ',')
        return refuse(p, p->at, "the shape is a number, not a tuple");
    return QZ_FILE_OK;
}

static qz_file_result take_type(parser *p, const qz_open_options *options, qz_npy_header *header)
{
    const char *text;
    size_t length;
    skip_space(p);
    const char *start = p->at;
    if (p->at < p->end && (*p->at == '[' || *p->at == '('))
        return refuse(p, start, "structured types and sub-arrays are not read; save each field as an array");
    if (!take_string(p, &text, &length))
        return refuse(p, start, "the type is not a plain string");
    char shown[QZ_NAME_TEXT], message[256];
    qz_escape(text, length, shown, sizeof shown);
    if (memchr(text, 'O', length < 2 ? length : 2) != NULL)
        return refuse(p, start, "holds Python objects, which are never read: that could run any program");
    if (length == 3 && strchr("<>|", text[0]) != NULL) {
        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
            if (memcmp(types[i].code, text + 1, 2) != 0)
                continue;
            size_t bytes = qz_element_size(types[i].element);
            if (types[i].element == QZ_ELEMENT_BF16) {
                if (!options->void2_bfloat16)
                    return refuse(p, start,
                                  "has two-byte elements of no type (V2); if they are bfloat16, say so with "
                                  "--void2-as-bfloat16");
                /* '|' is what ml_dtypes writes, in the order of its machine; all those are little-endian. */
                header->swap = (text[0] == '>') != qz_big_endian();
            } else if (text[0] == '|' && bytes > 1) {
                break;
            } else {
                header->swap = bytes > 1 && (text[0] == '>') != qz_big_endian();
            }
            header->element = types[i].element;
            return QZ_FILE_OK;
        }
    }
    snprintf(message, sizeof message,
             "type '%s' is not read; these are: f2, f4, f8, i1 to i8, u1 to u8 after < or >, and |b1", shown);
    return refuse(p, start, message);
}

static qz_file_result parse_dictionary(parser *p, const qz_open_options *options, qz_npy_header *header)
{
    enum { DESCR = 1, ORDER = 2, SHAPE = 4 };
    unsigned seen = 0;
    qz_file_result result = QZ_FILE_OK;
    if (!take(p, '{'))
        return refuse(p, p->at, "the header is not a dictionary");
    for (int comma = 1; !take(p, '}'); comma = take(p, ',')) {
        const char *key, *start = p->at;
        size_t length;
        if (!comma || !take_string(p, &key, &length))
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
            result = take_type(p, options, header);
        else if (which == SHAPE)
            result = take_shape(p, header);
        else if (take_word(p, "True"))
            header->column_major = 1;
        else if (take_word(p, "False"))
            header->column_major = 0;
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

qz_file_result qz_npy_parse(qz_npy_header *header, uint64_t available, const qz_open_options *options,
                            qz_npy_source source, void *context, const char *label, const char *field, uint64_t base,
                            qz_file_error *error)
{
    unsigned char start[QZ_NPY_MAGIC_BYTES + 2];
    if (available < QZ_NPY_MAGIC_BYTES)
        return qz_fail(error, QZ_FILE_FORMAT, label, field, base, "too short for an array");
    qz_file_result result = source(context, 0, start, QZ_NPY_MAGIC_BYTES, error);
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
        result = source(context, QZ_NPY_MAGIC_BYTES, start + QZ_NPY_MAGIC_BYTES, 2, error);
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
    result = source(context, before, text, (size_t)length, error);
    if (result == QZ_FILE_OK) {
        parser p = {text, text + length, text, text_at, label, field, error};
        *header = (qz_npy_header){.length = before + length};
        result = parse_dictionary(&p, options, header);
        if (result == QZ_FILE_OK && !qz_shape_count(header->rank, header->shape, qz_element_size(header->element),
                                                    &header->count, &header->bytes))
            result = refuse(&p, text, "the sizes in the shape multiply to more than 2^63 - 1 bytes");
    }
    free(text);
    if (result != QZ_FILE_OK)
        return result;
    uint64_t left = available - header->length;
    if (header->bytes > left)
        return qz_fail(error, QZ_FILE_FORMAT, label, field, text_at,
                       "the shape needs %" PRIu64 " bytes of data, but only %" PRIu64 " follow", header->bytes, left);
    return QZ_FILE_OK;
}

/* ---- writer ---- */

size_t qz_npy_format(const qz_tensor *tensor, char *out)
{
    const char *code = "V2";
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].element == tensor->element)
            code = types[i].code;
    char order = qz_element_size(tensor->element) == 1 ? '|' : '<';
    char *text = out + QZ_NPY_MAGIC_BYTES;
    size_t room = QZ_NPY_HEADER_WRITE - QZ_NPY_MAGIC_BYTES;
    size_t n = (size_t)snprintf(text, room, "{'descr': '%c%s', 'fortran_order': %s, 'shape': (", order, code,
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
    while ((QZ_NPY_MAGIC_BYTES + n + 1) % 64 != 0);
    text[n++] = '\n';
    memcpy(out, "\x93NUMPY\x01", 8); /* with the NUL: minor version 0 */
    out[8] = (char)(n & 0xff);
    out[9] = (char)(n >> 8);
    return QZ_NPY_MAGIC_BYTES + n;
}
