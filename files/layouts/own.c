/*
 * own.c - the library's own layout: a quantized tensor is several ordinary tensors, in any container
 *
 *     NAME.int4     int64: version, codes, scale_dtype, zero, group_size, super_dtype, super_size, axis, shape...
 *                   (sizes: -1 the whole row, -2 the whole matrix)
 *     NAME.codes    uint8, others + (bytes of a row of codes)
 *     NAME.scales   float32, float16, uint16 holding bfloat16, or uint8; others + (groups)
 *     NAME.zeros    as the scheme says
 *     NAME.supers   float32 or float16, others + (super scales of a row), or just one for the whole matrix
 *     NAME.table    float32, (16,)
 *
 * "others" is the shape without the quantized axis.
 */
#include "own_blocks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../checked.h"
#include "../element.h"
#include "../error.h"
#include "../layout.h"
#include "../packed_list.h"

enum { VERSION = 1, FIXED = 8 }; /* numbers before the shape */

static const char *const suffixes[QZ_MEMBERS] = {".int4", ".codes", ".scales", ".zeros", ".supers", ".table"};

/* The tensor NAME + suffix; SIZE_MAX if there is none. */
static size_t find_part(const qz_file *file, const char *name, size_t length, int part)
{
    char small[256];
    size_t more = strlen(suffixes[part]), found;
    char *whole = length + more <= sizeof small ? small : malloc(length + more);
    if (!whole)
        return SIZE_MAX;
    memcpy(whole, name, length);
    memcpy(whole + length, suffixes[part], more);
    found = qz_tensor_find(file, whole, length + more);
    if (whole != small)
        free(whole);
    return found;
}

/* Which part's suffix the name ends in; QZ_MEMBERS for none. *base becomes the length of the name without it. */
static int part_of(const qz_tensor *t, size_t *base)
{
    for (int part = QZ_MEMBER_HEADER; part < QZ_MEMBERS; part++) {
        size_t more = strlen(suffixes[part]);
        if (t->name_length >= more && memcmp(t->name + t->name_length - more, suffixes[part], more) == 0) {
            *base = t->name_length - more;
            return part;
        }
    }
    return QZ_MEMBERS;
}

/* Whether tensor i, which is called NAME.int4, describes a quantized one. Where a part of it is there, it does,
 * whatever it is: else damage would turn a quantized tensor into ordinary arrays that nobody misses. */
static int is_header(const qz_file *file, size_t i, size_t base)
{
    const qz_tensor *t = qz_tensor_at(file, i);
    return (t->element == QZ_ELEMENT_I64 && t->rank == 1) ||
           find_part(file, t->name, base, QZ_MEMBER_CODES) != SIZE_MAX ||
           find_part(file, t->name, base, QZ_MEMBER_SCALES) != SIZE_MAX;
}

static qz_file_result recognize(qz_file *file, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    for (size_t i = 0; i < qz_tensor_count(file) && result == QZ_FILE_OK; i++) {
        const qz_tensor *t = qz_tensor_at(file, i);
        qz_packed_entry found = {.name = t->name, .layout = &qz_layout_own};
        if (part_of(t, &found.name_length) != QZ_MEMBER_HEADER || !is_header(file, i, found.name_length))
            continue;
        for (int part = 0; part < QZ_MEMBERS; part++)
            found.members[part] = find_part(file, t->name, found.name_length, part);
        result = qz_packed_note(file, &found, error);
    }
    return result;
}

/* ---- what the members must be ---- */

/* Types of a byte, whatever it means, are bytes here. */
static qz_element element_of(qz_dtype dtype)
{
    switch (dtype) {
    case QZ_F32:
        return QZ_ELEMENT_F32;
    case QZ_F16:
        return QZ_ELEMENT_F16;
    case QZ_BF16:
        return QZ_ELEMENT_U16;
    default:
        return QZ_ELEMENT_U8;
    }
}

static int has_member(const qz_scheme *scheme, int part)
{
    switch (part) {
    case QZ_MEMBER_ZEROS:
        return scheme->zero != QZ_ZERO_NONE;
    case QZ_MEMBER_SUPERS:
        return scheme->super_size != 0;
    case QZ_MEMBER_TABLE:
        return scheme->codes == QZ_TABLE;
    default:
        return 1;
    }
}

/* The tensor that a member other than the header must be: its shape goes to `shape`. */
static qz_tensor expected(const qz_packed_tensor *p, int part, uint64_t shape[QZ_MAX_RANK])
{
    qz_tensor t = {.rank = p->rank, .shape = shape, .element = QZ_ELEMENT_U8};
    uint64_t last = p->sizes.code_bytes;
    int alone = 0; /* no part of a row */
    if (part == QZ_MEMBER_SCALES || (part == QZ_MEMBER_ZEROS && p->scheme.zero != QZ_ZERO_UINT4)) {
        t.element = element_of(p->scheme.scale_dtype);
        last = p->sizes.row_groups;
    } else if (part == QZ_MEMBER_ZEROS) {
        last = p->sizes.zero_bytes;
    } else if (part == QZ_MEMBER_SUPERS) {
        t.element = element_of(p->scheme.super_dtype);
        last = p->sizes.super_bytes / qz_dtype_size(p->scheme.super_dtype);
        alone = p->scheme.super_size == QZ_WHOLE_MATRIX;
    } else if (part == QZ_MEMBER_TABLE) {
        t.element = QZ_ELEMENT_F32;
        last = 16;
        alone = 1;
    }
    unsigned n = 0;
    for (unsigned i = 0; i < p->rank && !alone; i++)
        if (i != p->axis)
            shape[n++] = p->shape[i];
    shape[n++] = last;
    t.rank = n;
    return t;
}

static int is_expected(const qz_tensor *found, const qz_tensor *wanted)
{
    return found->element == wanted->element && found->rank == wanted->rank &&
           !(found->column_major && found->rank > 1) &&
           memcmp(found->shape, wanted->shape, wanted->rank * sizeof wanted->shape[0]) == 0;
}

/* "uint8 of shape [2, 20]". */
static const char *tensor_text(const qz_tensor *t, char *out, size_t room)
{
    size_t n = (size_t)snprintf(out, room, "%s%s of shape [", qz_element_name(t->element),
                                t->column_major && t->rank > 1 ? " in Fortran order" : "");
    for (unsigned i = 0; i < t->rank && n < room; i++)
        n += (size_t)snprintf(out + n, room - n, "%s%" PRIu64, i == 0 ? "" : ", ", t->shape[i]);
    if (n < room)
        snprintf(out + n, room - n, "]");
    return out;
}

/* ---- reading ---- */

static int is_float_scale(int64_t dtype)
{
    return dtype == QZ_F32 || dtype == QZ_F16 || dtype == QZ_BF16;
}

static uint64_t size_from(int64_t number)
{
    return number == -1 ? QZ_WHOLE_ROW : number == -2 ? QZ_WHOLE_MATRIX : (uint64_t)number;
}

static int64_t number_from(uint64_t size)
{
    return size == QZ_WHOLE_ROW ? -1 : size == QZ_WHOLE_MATRIX ? -2 : (int64_t)size;
}

/* The first row of the scheme table that means the same, or else one with the same codes and zeros, as a variant of
 * which the numbers may be taken. */
static int scheme_like(const int64_t *numbers, qz_scheme *scheme)
{
    static const qz_scheme own = {.size = sizeof own,
                                  .name = "table",
                                  .summary = "sixteen numbers of the caller's own",
                                  .codes = QZ_TABLE,
                                  .method = QZ_SEARCH};
    const qz_scheme *row, *like = numbers[1] == QZ_TABLE && numbers[3] == QZ_ZERO_NONE ? &own : NULL;
    for (size_t i = 0; (row = qz_scheme_at(i)) != NULL; i++) {
        if ((int64_t)row->codes != numbers[1] || (int64_t)row->zero != numbers[3])
            continue;
        int scales = (int64_t)row->scale_dtype == numbers[2] ||
                     (is_float_scale((int64_t)row->scale_dtype) && is_float_scale(numbers[2]));
        if (scales && (int64_t)row->super_dtype == numbers[5] && row->super_size == size_from(numbers[6])) {
            *scheme = *row;
            return 1;
        }
        like = !like ? row : like;
    }
    if (like)
        *scheme = *like;
    return like != NULL;
}

static const char *understand(const int64_t *numbers, uint64_t count, const float *code_table, qz_packed_tensor *p)
{
    if (count < FIXED + 1 || count > FIXED + QZ_MAX_RANK)
        return "does not have the numbers of a quantized tensor";
    if (!scheme_like(numbers, &p->scheme))
        return "has codes or zeros of an unknown kind";
    if (numbers[2] < 1 || numbers[2] > 255 || !qz_dtype_name((qz_dtype)numbers[2]) || numbers[2] == QZ_F64)
        return "has scales of an unknown type";
    if (numbers[4] != -1 && numbers[4] < 1)
        return "has a group size below 1";
    if (numbers[5] != 0 && numbers[5] != QZ_F32 && numbers[5] != QZ_F16)
        return "has super scales of an unknown type";
    if (numbers[6] < -2 || (numbers[5] == 0) != (numbers[6] == 0))
        return "has super scales of a size that they cannot have";
    p->rank = (unsigned)(count - FIXED);
    if (numbers[7] < 0 || numbers[7] >= (int64_t)p->rank)
        return "has an axis that its shape does not have";
    p->scheme.scale_dtype = (qz_dtype)numbers[2];
    p->scheme.group_size = size_from(numbers[4]);
    p->scheme.super_dtype = (qz_dtype)numbers[5];
    p->scheme.super_size = size_from(numbers[6]);
    p->scheme.table = code_table;
    p->axis = (unsigned)numbers[7];
    if (qz_scheme_check(&p->scheme, QZ_DEFAULT) != QZ_OK)
        return code_table ? "has a table or types and sizes of scales that do not go with its codes"
                          : "has types or sizes of scales that do not go with its codes";
    for (unsigned i = 0; i < p->rank; i++) {
        if (numbers[FIXED + i] < 0)
            return "has a negative size";
        p->shape[i] = (uint64_t)numbers[FIXED + i];
    }
    return qz_packed_complete(p) ? NULL : "has a shape that is too large";
}

/* The sixteen numbers that codes stand for; *wanted becomes NULL if the member is not what it must be. */
static qz_file_result read_table(qz_file *file, qz_packed_tensor *p, float **wanted, qz_file_error *error)
{
    uint64_t shape[QZ_MAX_RANK];
    qz_tensor like = expected(p, QZ_MEMBER_TABLE, shape);
    const qz_tensor *found = qz_tensor_at(file, p->members[QZ_MEMBER_TABLE]);
    *wanted = NULL;
    if (!found || !is_expected(found, &like))
        return QZ_FILE_OK;
    *wanted = qz_arena_get(&file->arena, 16 * sizeof **wanted);
    return *wanted ? qz_read(file, p->members[QZ_MEMBER_TABLE], 0, 16, *wanted, error)
                   : qz_fail_memory(error, file->input.label);
}

static qz_file_result describe(qz_file *file, const qz_packed_entry *entry, qz_packed_tensor *packed,
                               qz_file_error *error)
{
    const char *label = file->input.label;
    char shown[QZ_NAME_TEXT], field[QZ_NAME_TEXT + 16];
    qz_escape(entry->name, entry->name_length, shown, sizeof shown);
    int64_t numbers[FIXED + QZ_MAX_RANK] = {0};
    const qz_tensor *header = qz_tensor_at(file, packed->members[QZ_MEMBER_HEADER]);
    uint64_t count = header->count;
    float *code_table = NULL;
    snprintf(field, sizeof field, "'%s.int4'", shown);
    if (header->element != QZ_ELEMENT_I64 || header->rank != 1)
        return qz_fail(
            error, QZ_FILE_FORMAT, label, field, QZ_NO_OFFSET,
            "describes a quantized tensor, but is no list of int64; if it is an array of its own, rename it");
    for (int part = QZ_MEMBER_CODES; part <= QZ_MEMBER_SCALES; part++)
        if (packed->members[part] == SIZE_MAX)
            return qz_fail(error, QZ_FILE_FORMAT, label, field, QZ_NO_OFFSET,
                           "'%s%s' is missing; if this is an array of its own, rename it", shown, suffixes[part]);
    qz_file_result result = qz_read(file, packed->members[QZ_MEMBER_HEADER], 0,
                                    count < FIXED + QZ_MAX_RANK ? count : FIXED + QZ_MAX_RANK, numbers, error);
    if (result == QZ_FILE_OK && count != 0 && numbers[0] != VERSION)
        return qz_fail(error, QZ_FILE_FORMAT, label, field, QZ_NO_OFFSET,
                       "is of version %" PRId64 "; this program reads version %d", numbers[0], VERSION);
    if (result == QZ_FILE_OK && numbers[1] == QZ_TABLE)
        result = read_table(file, packed, &code_table, error);
    if (result != QZ_FILE_OK)
        return result;
    if (numbers[1] == QZ_TABLE && !code_table)
        return qz_fail(error, QZ_FILE_FORMAT, label, field, QZ_NO_OFFSET, "'%s.table' %s", shown,
                       packed->members[QZ_MEMBER_TABLE] == SIZE_MAX
                           ? "is missing"
                           : "does not have the type, order or shape that belongs to it");
    const char *wrong = understand(numbers, count, code_table, packed);
    if (wrong)
        return qz_fail(error, QZ_FILE_FORMAT, label, field, QZ_NO_OFFSET, "%s", wrong);

    for (int part = QZ_MEMBER_CODES; part < QZ_MEMBERS; part++) {
        uint64_t shape[QZ_MAX_RANK];
        int wanted = has_member(&packed->scheme, part), there = packed->members[part] != SIZE_MAX;
        if (wanted != there)
            return qz_fail(error, QZ_FILE_FORMAT, label, field, QZ_NO_OFFSET, "'%s%s' %s", shown, suffixes[part],
                           wanted ? "is missing" : "does not belong to such a tensor");
        if (!there)
            continue;
        qz_tensor like = expected(packed, part, shape);
        const qz_tensor *found = qz_tensor_at(file, packed->members[part]);
        char is[100], must[100];
        if (!is_expected(found, &like))
            return qz_fail(error, QZ_FILE_FORMAT, label, field, QZ_NO_OFFSET, "'%s%s' is %s, but must be %s", shown,
                           suffixes[part], tensor_text(found, is, sizeof is), tensor_text(&like, must, sizeof must));
    }
    return QZ_FILE_OK;
}

/* ---- declaring ---- */

/* Declares a member, or keeps its name from others: `like` NULL. */
static qz_file_result declare_part(qz_writer *writer, const char *name, size_t name_length, int part,
                                   const qz_tensor *like, size_t *index, qz_file_error *error)
{
    size_t length = name_length + strlen(suffixes[part]);
    char *whole = qz_arena_get(&writer->arena, length + 1);
    if (!whole)
        return qz_fail_memory(error, writer->output.label);
    memcpy(whole, name, name_length);
    memcpy(whole + name_length, suffixes[part], length - name_length + 1);
    if (like) {
        qz_tensor t = *like;
        t.name = whole;
        t.name_length = length;
        return qz_declare(writer, &t, index, error);
    }
    *index = SIZE_MAX;
    return qz_writer_reserve(writer, whole, length, error);
}

static qz_file_result declare(qz_writer *writer, const char *name, size_t name_length, qz_packed_tensor *packed,
                              qz_file_error *error)
{
    const qz_scheme *scheme = &packed->scheme;
    qz_file_result result = QZ_FILE_OK;
    int64_t numbers[FIXED + QZ_MAX_RANK] = {VERSION,
                                            (int64_t)scheme->codes,
                                            (int64_t)scheme->scale_dtype,
                                            (int64_t)scheme->zero,
                                            scheme->group_size > (uint64_t)INT64_MAX ? -1 : (int64_t)scheme->group_size,
                                            scheme->super_size != 0 ? (int64_t)scheme->super_dtype : 0,
                                            number_from(scheme->super_size),
                                            (int64_t)packed->axis};
    for (unsigned i = 0; i < packed->rank; i++)
        numbers[FIXED + i] = (int64_t)packed->shape[i];
    uint64_t length = FIXED + packed->rank;
    const qz_tensor header = {.element = QZ_ELEMENT_I64, .rank = 1, .shape = &length};
    for (int part = 0; part < QZ_MEMBERS && result == QZ_FILE_OK; part++) {
        uint64_t part_shape[QZ_MAX_RANK];
        int there = has_member(scheme, part);
        qz_tensor like = header;
        if (there && part != QZ_MEMBER_HEADER)
            like = expected(packed, part, part_shape);
        result = declare_part(writer, name, name_length, part, there ? &like : NULL, &packed->members[part], error);
    }
    if (result == QZ_FILE_OK)
        result = qz_writer_preset(writer, packed->members[QZ_MEMBER_HEADER], numbers, error);
    if (result == QZ_FILE_OK && scheme->codes == QZ_TABLE)
        result = qz_writer_preset(writer, packed->members[QZ_MEMBER_TABLE], scheme->table, error);
    return result;
}

const qz_layout qz_layout_own = {
    .name = "own",
    .recognize = recognize,
    .describe = describe,
    .read = qz_own_read,
    .declare = declare,
    .write = qz_own_write,
};
