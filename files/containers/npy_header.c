/*
 * npy_header.c - reads and writes the header of an array in NumPy's format
 *
 *     \x93NUMPY  major minor  length  {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  padding \n
 *
 * The text is a Python literal, which NumPy evaluates. This file does not evaluate it: it reads exactly the
 * dictionaries that can describe an array, with each key once, and refuses everything else. Only records in the type
 * are nested, to a small depth.
 */
#include "npy_header.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../checked.h"
#include "../element.h"
#include "../error.h"
#include "npy_type.h"

static qz_file_result take_size(qz_text *p, uint64_t *size)
{
    qz_text_skip_space(p);
    const char *start = p->at;
    *size = 0;
    if (p->at < p->end && *p->at == '-')
        return qz_text_refuse(p, start, "a size in the shape is negative");
    for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++)
        if (!qz_mul(*size, 10, size) || !qz_add(*size, (uint64_t)(*p->at - '0'), size) || *size > QZ_MAX_BYTES)
            return qz_text_refuse(p, start, "a size in the shape is beyond 2^63 - 1");
    if (p->at == start || (p->at - start > 1 && *start == '0'))
        return qz_text_refuse(p, start, "a size in the shape is not a whole number");
    if (p->at < p->end && *p->at == 'L') /* Python 2 wrote 3L */
        p->at++;
    return QZ_FILE_OK;
}

static qz_file_result take_shape(qz_text *p, qz_npy_header *header)
{
    if (!qz_text_take(p, '('))
        return qz_text_refuse(p, p->at, "the shape is not a tuple");
    header->tensor.rank = 0;
    for (int comma = 1; !qz_text_take(p, ')'); comma = qz_text_take(p, ',')) {
        uint64_t size;
        if (!comma)
            return qz_text_refuse(p, p->at, "the shape is not a tuple of numbers");
        qz_file_result result = take_size(p, &size);
        if (result != QZ_FILE_OK)
            return result;
        if (header->tensor.rank == QZ_MAX_RANK)
            return qz_text_refuse(p, p->at, "the shape has more than 64 axes");
        header->shape[header->tensor.rank++] = size;
    }
    /* (3) is a number in brackets; a tuple of one is (3,). */
    const char *back = p->at - 2;
    while (*back == ' ' || *back == '\t' || *back == '\n' || *back == '\r')
        back--;
    if (header->tensor.rank == 1 && *back != ',')
        return qz_text_refuse(p, p->at, "the shape is a number, not a tuple");
    return QZ_FILE_OK;
}

static qz_file_result parse_dictionary(qz_text *p, const qz_open_options *options, int latin1, qz_arena *arena,
                                       qz_npy_header *header)
{
    enum { DESCR = 1, ORDER = 2, SHAPE = 4 };
    unsigned seen = 0;
    qz_file_result result = QZ_FILE_OK;
    if (!qz_text_take(p, '{'))
        return qz_text_refuse(p, p->at, "the header is not a dictionary");
    for (int comma = 1; !qz_text_take(p, '}'); comma = qz_text_take(p, ',')) {
        const char *key, *start = p->at;
        size_t length;
        if (!comma || !qz_text_take_string(p, 0, &key, &length))
            return qz_text_refuse(p, p->at, "the header is not a plain dictionary");
        unsigned which = length == 5 && memcmp(key, "descr", 5) == 0             ? DESCR
                         : length == 13 && memcmp(key, "fortran_order", 13) == 0 ? ORDER
                         : length == 5 && memcmp(key, "shape", 5) == 0           ? SHAPE
                                                                                 : 0;
        if (which == 0)
            return qz_text_refuse(p, start, "the header has a key other than descr, fortran_order and shape");
        if (seen & which)
            return qz_text_refuse(p, start, "the header has a key twice, so that its meaning is unclear");
        seen |= which;
        if (!qz_text_take(p, ':'))
            return qz_text_refuse(p, p->at, "a ':' is missing in the header");
        if (which == DESCR)
            result = qz_npy_take_type(p, options, latin1, arena, &header->tensor);
        else if (which == SHAPE)
            result = take_shape(p, header);
        else if (qz_text_take_word(p, "True"))
            header->tensor.column_major = 1;
        else if (qz_text_take_word(p, "False"))
            header->tensor.column_major = 0;
        else
            result = qz_text_refuse(p, p->at, "fortran_order is neither True nor False");
        if (result != QZ_FILE_OK)
            return result;
    }
    qz_text_skip_space(p);
    if (p->at != p->end)
        return qz_text_refuse(p, p->at, "something other than white space follows the dictionary");
    if (seen != (DESCR | ORDER | SHAPE))
        return qz_text_refuse(p, p->at, "the header lacks one of descr, fortran_order and shape");
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
    const uint64_t text_at = base == QZ_NO_OFFSET ? base : base + before;
    const uint64_t length_at = base == QZ_NO_OFFSET ? base : base + 8;
    if (length > available - before)
        return qz_fail(error, QZ_FILE_FORMAT, label, field, length_at,
                       "the header is said to have %" PRIu64 " bytes, but only %" PRIu64 " follow", length,
                       available - before);
    if (length > options->max_header)
        return qz_fail_option(error, QZ_FILE_LIMIT, QZ_OPTION_MAX_HEADER, label, field, length_at,
                              "the header has %" PRIu64 " bytes; the limit is %" PRIu64 "", length,
                              options->max_header);
    char *text = malloc((size_t)length + 1);
    if (!text)
        return qz_fail_memory(error, label);
    result = source->read(source->context, before, text, (size_t)length, error);
    if (result == QZ_FILE_OK) {
        qz_text p = {text, text + length, text, text_at, label, field, error};
        *header = (qz_npy_header){.tensor = {.shape = header->shape}, .length = before + length};
        result = parse_dictionary(&p, options, start[6] < 3, arena, header);
        if (result == QZ_FILE_OK && !qz_shape_count(t->rank, t->shape, t->type_bytes, &t->count, &t->bytes))
            result = qz_text_refuse(&p, text, "the sizes in the shape multiply to more than 2^63 - 1 bytes");
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
    return QZ_NPY_HEADER_WRITE + (tensor->type ? strlen(tensor->type) : 0);
}

size_t qz_npy_format(const qz_tensor *tensor, char *out)
{
    int wide = 0; /* names of fields beyond ASCII: version 3, which has a longer length */
    for (const char *at = tensor->type; at && *at != '\0'; at++)
        wide |= (unsigned char)*at >= 0x80;
    size_t before = QZ_NPY_MAGIC_BYTES + (wide ? 2 : 0), room = qz_npy_room(tensor) - before;
    char *text = out + before;
    size_t n = (size_t)snprintf(text, room, "{'descr': ");
    n += qz_npy_put_type(tensor, text + n, room - n);
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
