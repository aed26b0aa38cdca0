/*
 * packed.c - quantized tensors in an .npz
 *
 *     NAME.int4     int64: version, codes, scale_dtype, zero, group_size (-1: the whole row), axis, shape...
 *     NAME.codes    uint8, others + (bytes of a row of codes)
 *     NAME.scales   float32, float16, or uint16 holding bfloat16; others + (groups)
 *     NAME.zeros    as the scheme says
 *
 * "others" is the shape without the quantized axis.
 */
#include "internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 1, FIXED = 6 }; /* numbers before the shape */

static const char *const suffixes[] = {".int4", ".codes", ".scales", ".zeros"};
enum { HEADER, CODES, SCALES, ZEROS, PARTS };

/* The tensor NAME + suffix; SIZE_MAX if there is none. */
static size_t find_part(const qz_file *file, const char *name, size_t length, int part)
{
    char small[256];
    size_t more = strlen(suffixes[part]), found;
    char *whole = length + more <= sizeof small ? small : malloc(length + more);
    if (whole == NULL)
        return SIZE_MAX;
    memcpy(whole, name, length);
    memcpy(whole + length, suffixes[part], more);
    found = qz_tensor_find(file, whole, length + more);
    if (whole != small)
        free(whole);
    return found;
}

qz_part qz_packed_part(const qz_file *file, size_t tensor)
{
    const qz_tensor *t = qz_tensor_at(file, tensor);
    for (int part = HEADER; t != NULL && part < PARTS; part++) {
        size_t more = strlen(suffixes[part]);
        if (t->name_length < more || memcmp(t->name + t->name_length - more, suffixes[part], more) != 0)
            continue;
        const qz_tensor *header = qz_tensor_at(file, find_part(file, t->name, t->name_length - more, HEADER));
        if (header == NULL || header->element != QZ_ELEMENT_I64 || header->rank != 1 ||
            find_part(file, t->name, t->name_length - more, CODES) == SIZE_MAX ||
            find_part(file, t->name, t->name_length - more, SCALES) == SIZE_MAX)
            return QZ_PART_NONE;
        return part == HEADER ? QZ_PART_HEADER : QZ_PART_DATA;
    }
    return QZ_PART_NONE;
}

/* ---- what the parts must be ---- */

static qz_element scale_element(qz_dtype dtype)
{
    return dtype == QZ_F32 ? QZ_ELEMENT_F32 : dtype == QZ_F16 ? QZ_ELEMENT_F16 : QZ_ELEMENT_U16;
}

/* The tensor that a part must be: its shape goes to `shape`. */
static qz_tensor expected(const qz_packed_tensor *p, int part, uint64_t shape[QZ_MAX_RANK])
{
    qz_tensor t = {.rank = p->rank, .shape = shape};
    uint64_t last = part == CODES                     ? p->sizes.code_bytes
                    : part == SCALES                  ? p->sizes.row_groups
                    : p->scheme.zero == QZ_ZERO_UINT4 ? p->sizes.zero_bytes
                                                      : p->sizes.row_groups;
    t.element = part == CODES || (part == ZEROS && p->scheme.zero == QZ_ZERO_UINT4)
                    ? QZ_ELEMENT_U8
                    : scale_element(p->scheme.scale_dtype);
    unsigned n = 0;
    for (unsigned i = 0; i < p->rank; i++)
        if (i != p->axis)
            shape[n++] = p->shape[i];
    shape[n] = last;
    return t;
}

/* Fills in rows, cols and sizes from scheme, rank, shape and axis. */
static int complete(qz_packed_tensor *p)
{
    uint64_t count, bytes;
    if (!qz_shape_count(p->rank, p->shape, 8, &count, &bytes))
        return 0;
    p->rows = 1;
    p->cols = p->shape[p->axis];
    for (unsigned i = 0; i < p->rank; i++)
        if (i != p->axis)
            p->rows *= p->shape[i]; /* no larger than what was just checked, zeros apart */
    p->sizes = (qz_sizes){.size = sizeof p->sizes};
    return qz_scheme_sizes(&p->scheme, p->rows, p->cols, &p->sizes) == QZ_OK;
}

/* The scheme of the table with these codes and this kind of zero. */
static int scheme_like(int64_t codes, int64_t zero, qz_scheme *scheme)
{
    const qz_scheme *row;
    for (size_t i = 0; (row = qz_scheme_at(i)) != NULL; i++)
        if ((int64_t)row->codes == codes && (int64_t)row->zero == zero) {
            *scheme = *row;
            return 1;
        }
    return 0;
}

/* ---- reading ---- */

static const char *understand(const int64_t *numbers, uint64_t count, qz_packed_tensor *p)
{
    if (count < FIXED + 1 || count > FIXED + QZ_MAX_RANK)
        return "does not have the numbers of a quantized tensor";
    if (!scheme_like(numbers[1], numbers[3], &p->scheme))
        return "has codes or zeros of an unknown kind";
    if (numbers[2] != QZ_F32 && numbers[2] != QZ_F16 && numbers[2] != QZ_BF16)
        return "has scales of an unknown type";
    if (numbers[4] != -1 && numbers[4] < 1)
        return "has a group size below 1";
    p->rank = (unsigned)(count - FIXED);
    if (numbers[5] < 0 || numbers[5] >= (int64_t)p->rank)
        return "has an axis that its shape does not have";
    p->scheme.scale_dtype = (qz_dtype)numbers[2];
    p->scheme.group_size = numbers[4] == -1 ? QZ_WHOLE_ROW : (uint64_t)numbers[4];
    p->axis = (unsigned)numbers[5];
    for (unsigned i = 0; i < p->rank; i++) {
        if (numbers[FIXED + i] < 0)
            return "has a negative size";
        p->shape[i] = (uint64_t)numbers[FIXED + i];
    }
    return complete(p) ? NULL : "has a shape that is too large";
}

qz_file_result qz_packed_find(qz_file *file, const char *name, size_t name_length, qz_packed_tensor *packed,
                              qz_file_error *error)
{
    const char *label = file->input.label;
    char shown[QZ_NAME_TEXT], field[QZ_NAME_TEXT + 16];
    qz_escape(name, name_length, shown, sizeof shown);
    *packed = (qz_packed_tensor){.size = sizeof *packed};
    packed->header = find_part(file, name, name_length, HEADER);
    if (packed->header == SIZE_MAX || qz_packed_part(file, packed->header) != QZ_PART_HEADER)
        return qz_fail(error, QZ_FILE_MISSING, label, NULL, QZ_NO_OFFSET, "there is no quantized tensor '%s'", shown);
    packed->codes = find_part(file, name, name_length, CODES);
    packed->scales = find_part(file, name, name_length, SCALES);
    packed->zeros = find_part(file, name, name_length, ZEROS);

    int64_t numbers[FIXED + QZ_MAX_RANK] = {0};
    const qz_tensor *header = qz_tensor_at(file, packed->header);
    uint64_t count = header->count;
    snprintf(field, sizeof field, "'%s.int4'", shown);
    qz_file_result result =
        qz_read(file, packed->header, 0, count < FIXED + QZ_MAX_RANK ? count : FIXED + QZ_MAX_RANK, numbers, error);
    if (result != QZ_FILE_OK)
        return result;
    if (count != 0 && numbers[0] != VERSION)
        return qz_fail(error, QZ_FILE_FORMAT, label, field, QZ_NO_OFFSET,
                       "is of version %" PRId64 "; this program reads version %d", numbers[0], VERSION);
    const char *wrong = understand(numbers, count, packed);
    if (wrong != NULL)
        return qz_fail(error, QZ_FILE_FORMAT, label, field, QZ_NO_OFFSET, "%s", wrong);

    int has_zeros = packed->scheme.zero != QZ_ZERO_NONE;
    if (has_zeros != (packed->zeros != SIZE_MAX))
        return qz_fail(error, QZ_FILE_FORMAT, label, field, QZ_NO_OFFSET, "'%s.zeros' %s", shown,
                       has_zeros ? "is missing" : "does not belong to such a tensor");
    for (int part = CODES; part <= (has_zeros ? ZEROS : SCALES); part++) {
        uint64_t shape[QZ_MAX_RANK];
        qz_tensor wanted = expected(packed, part, shape);
        const qz_tensor *found = qz_tensor_at(file, part == CODES    ? packed->codes
                                                    : part == SCALES ? packed->scales
                                                                     : packed->zeros);
        if (found->element != wanted.element || found->rank != wanted.rank ||
            (found->column_major && found->rank > 1) || memcmp(found->shape, shape, wanted.rank * sizeof shape[0]) != 0)
            return qz_fail(error, QZ_FILE_FORMAT, label, field, QZ_NO_OFFSET,
                           "'%s%s' does not have the type, order or shape that belongs to it", shown, suffixes[part]);
    }
    return QZ_FILE_OK;
}

/* ---- blocks ---- */

/* One part of a block: `count` elements of each row, from `first` on, of `per_row`. */
typedef struct strip {
    size_t tensor;
    uint64_t first, count, per_row;
    size_t element_bytes;
    char *data;
    int64_t stride; /* bytes */
} strip;

/* The parts of a block; returns how many, or 0 if the block is not one that can be moved. */
static int strips_of(const qz_packed_tensor *p, uint64_t row, uint64_t rows, uint64_t col, uint64_t cols,
                     const qz_packed *data, strip out[3])
{
    uint64_t group = p->scheme.group_size, whole = group >= p->cols;
    uint64_t unit = whole ? 2 : group; /* a block of columns begins at a multiple of two of these */
    if (!qz_within(row, rows, p->rows) || !qz_within(col, cols, p->cols))
        return 0;
    int to_end = col + cols == p->cols;
    if (whole ? col % 2 != 0 || (!to_end && cols % 2 != 0)
              : col % unit != 0 || col / unit % 2 != 0 || (!to_end && (cols % unit != 0 || cols / unit % 2 != 0)))
        return 0;
    uint64_t g0 = whole ? 0 : col / group;
    uint64_t groups = cols == 0 ? 0 : whole ? 1 : cols / group + (cols % group != 0);
    size_t scale_bytes = qz_dtype_size(p->scheme.scale_dtype);
    out[0] = (strip){p->codes, col / 2, cols / 2 + cols % 2, p->sizes.code_bytes, 1, data->codes, data->code_stride};
    out[1] = (strip){p->scales, g0, groups, p->sizes.row_groups, scale_bytes, data->scales, data->scale_stride};
    if (p->scheme.zero == QZ_ZERO_NONE)
        return 2;
    if (p->scheme.zero == QZ_ZERO_OFFSET)
        out[2] = (strip){p->zeros, g0, groups, p->sizes.row_groups, scale_bytes, data->zeros, data->zero_stride};
    else
        out[2] =
            (strip){p->zeros, g0 / 2, groups / 2 + groups % 2, p->sizes.zero_bytes, 1, data->zeros, data->zero_stride};
    return 3;
}

/* Reads (file) or writes (writer) one strip: all rows at once where they lie together on both sides. */
static qz_file_result move_strip(qz_file *file, qz_writer *writer, const strip *s, uint64_t row, uint64_t rows,
                                 qz_file_error *error)
{
    int together = s->count == s->per_row && s->stride == (int64_t)(s->count * s->element_bytes);
    uint64_t step = together ? rows : 1;
    qz_file_result result = QZ_FILE_OK;
    for (uint64_t r = 0; r < rows && s->count != 0 && result == QZ_FILE_OK; r += step) {
        char *data = s->data + (ptrdiff_t)r * (ptrdiff_t)s->stride;
        uint64_t first = (row + r) * s->per_row + s->first;
        result = file != NULL ? qz_read(file, s->tensor, first, s->count * step, data, error)
                              : qz_write(writer, s->tensor, first, s->count * step, data, error);
    }
    return result;
}

static qz_file_result move_block(qz_file *file, qz_writer *writer, const qz_packed_tensor *p, uint64_t row,
                                 uint64_t rows, uint64_t col, uint64_t cols, const qz_packed *data,
                                 qz_file_error *error)
{
    strip strips[3];
    int n = strips_of(p, row, rows, col, cols, data, strips);
    if (n == 0)
        return qz_fail(error, QZ_FILE_ARGUMENT, file != NULL ? file->input.label : writer->output.label, NULL,
                       QZ_NO_OFFSET, "a block reaches beyond the matrix or divides a pair of groups");
    qz_file_result result = QZ_FILE_OK;
    for (int i = 0; i < n && result == QZ_FILE_OK; i++)
        result = move_strip(file, writer, &strips[i], row, rows, error);
    return result;
}

qz_file_result qz_packed_read(qz_file *file, const qz_packed_tensor *packed, uint64_t row, uint64_t rows, uint64_t col,
                              uint64_t cols, const qz_packed *dst, qz_file_error *error)
{
    return move_block(file, NULL, packed, row, rows, col, cols, dst, error);
}

qz_file_result qz_packed_write(qz_writer *writer, const qz_packed_tensor *packed, uint64_t row, uint64_t rows,
                               uint64_t col, uint64_t cols, const qz_packed *src, qz_file_error *error)
{
    if (packed->scheme.group_size >= packed->cols && (col != 0 || cols != packed->cols))
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, NULL, QZ_NO_OFFSET,
                       "a group that is a whole row cannot be written in parts");
    return move_block(NULL, writer, packed, row, rows, col, cols, src, error);
}

/* ---- declaring ---- */

static qz_file_result declare_part(qz_writer *writer, const char *name, size_t name_length, int part,
                                   const qz_tensor *like, size_t *index, qz_file_error *error)
{
    size_t more = strlen(suffixes[part]);
    char *whole = malloc(name_length + more);
    if (whole == NULL)
        return qz_fail_memory(error, writer->output.label);
    memcpy(whole, name, name_length);
    memcpy(whole + name_length, suffixes[part], more);
    qz_tensor t = *like;
    t.name = whole;
    t.name_length = name_length + more;
    qz_file_result result = qz_declare(writer, &t, index, error);
    free(whole);
    return result;
}

qz_file_result qz_packed_declare(qz_writer *writer, const char *name, size_t name_length, const qz_scheme *scheme,
                                 unsigned rank, const uint64_t *shape, unsigned axis, qz_packed_tensor *packed,
                                 qz_file_error *error)
{
    char shown[QZ_NAME_TEXT];
    qz_escape(name, name_length, shown, sizeof shown);
    *packed = (qz_packed_tensor){.size = sizeof *packed, .scheme = *scheme, .rank = rank, .axis = axis};
    packed->zeros = SIZE_MAX;
    if (rank == 0 || rank > QZ_MAX_RANK || axis >= rank || qz_scheme_check(scheme, QZ_DEFAULT) != QZ_OK)
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, shown, QZ_NO_OFFSET,
                       "the scheme makes no sense, or the shape has no such axis");
    memcpy(packed->shape, shape, rank * sizeof *shape);
    if (!complete(packed))
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, shown, QZ_NO_OFFSET, "the shape is too large");

    int64_t numbers[FIXED + QZ_MAX_RANK] = {VERSION,
                                            (int64_t)scheme->codes,
                                            (int64_t)scheme->scale_dtype,
                                            (int64_t)scheme->zero,
                                            scheme->group_size > (uint64_t)INT64_MAX ? -1 : (int64_t)scheme->group_size,
                                            (int64_t)axis};
    for (unsigned i = 0; i < rank; i++)
        numbers[FIXED + i] = (int64_t)shape[i];
    uint64_t length = FIXED + rank;
    qz_tensor header = {.element = QZ_ELEMENT_I64, .rank = 1, .shape = &length};
    qz_file_result result = declare_part(writer, name, name_length, HEADER, &header, &packed->header, error);
    if (result == QZ_FILE_OK)
        result = qz_writer_preset(writer, packed->header, numbers, error);
    size_t *const places[] = {&packed->header, &packed->codes, &packed->scales, &packed->zeros};
    for (int part = CODES; part <= (scheme->zero != QZ_ZERO_NONE ? ZEROS : SCALES) && result == QZ_FILE_OK; part++) {
        uint64_t part_shape[QZ_MAX_RANK];
        qz_tensor like = expected(packed, part, part_shape);
        result = declare_part(writer, name, name_length, part, &like, places[part], error);
    }
    return result;
}
