/*
 * gguf_layout.c - quantized tensors as ggml's blocks, in GGUF files
 *
 * The container lists such a tensor as items of the size of a block, with the type of its blocks. A tensor NAME.weight
 * of NVFP4 may have a number NAME.scale beside it, which multiplies all its scales.
 */
#include "../layout.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../containers/gguf.h"
#include "../error.h"
#include "../packed_list.h"
#include "ggml_blocks.h"

enum { PIECE = 1 << 16 };

/* The scheme that a type has: without a number for all where its file has none. */
static qz_scheme scheme_of(const qz_ggml_packing *packing, int supers)
{
    qz_scheme scheme = *qz_scheme_by_name(packing->scheme);
    if (scheme.super_size == QZ_WHOLE_MATRIX && !supers) {
        scheme.super_dtype = (qz_dtype)0;
        scheme.super_size = 0;
    }
    return scheme;
}

/* The name of the number beside a tensor; NULL without memory. */
static char *scale_name(qz_arena *arena, const char *name, size_t length, size_t *new_length)
{
    static const char weight[] = ".weight", scale[] = ".scale";
    if (length >= sizeof weight - 1 && memcmp(name + length - (sizeof weight - 1), weight, sizeof weight - 1) == 0)
        length -= sizeof weight - 1;
    *new_length = length + sizeof scale - 1;
    char *made = qz_arena_get(arena, *new_length + 1);
    if (made) {
        memcpy(made, name, length);
        memcpy(made + length, scale, sizeof scale);
    }
    return made;
}

/* ---- reading ---- */

static qz_file_result find_scale(qz_file *file, qz_packed_entry *found, qz_file_error *error)
{
    size_t length, at;
    char *name = scale_name(&file->arena, found->name, found->name_length, &length);
    if (!name)
        return qz_fail_memory(error, file->input.label);
    at = qz_tensor_find(file, name, length);
    const qz_tensor *t = qz_tensor_at(file, at);
    if (t && t->element == QZ_ELEMENT_F32 && t->count == 1)
        found->members[QZ_MEMBER_SUPERS] = at;
    return QZ_FILE_OK;
}

static qz_file_result recognize(qz_file *file, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    for (size_t i = 0; i < file->count && result == QZ_FILE_OK; i++) {
        const qz_tensor *t = &file->entries[i].tensor;
        const qz_ggml_packing *packing =
            file->entries[i].blocks != 0 ? qz_ggml_packing_of(file->entries[i].blocks) : NULL;
        if (!packing)
            continue;
        qz_packed_entry found = {.name = t->name, .name_length = t->name_length, .layout = &qz_layout_gguf};
        for (int part = 0; part < QZ_MEMBERS; part++)
            found.members[part] = SIZE_MAX;
        found.members[QZ_MEMBER_HEADER] = i;
        if (qz_scheme_by_name(packing->scheme)->super_size == QZ_WHOLE_MATRIX && t->count != 0)
            result = find_scale(file, &found, error);
        if (result == QZ_FILE_OK)
            result = qz_packed_note(file, &found, error);
    }
    return result;
}

static qz_file_result describe(qz_file *file, const qz_packed_entry *entry, qz_packed_tensor *packed,
                               qz_file_error *error)
{
    (void)error;
    const qz_entry *blocks = &file->entries[entry->members[QZ_MEMBER_HEADER]];
    const qz_ggml_packing *packing = qz_ggml_packing_of(blocks->blocks);
    const qz_tensor *t = &blocks->tensor;
    packed->scheme = scheme_of(packing, entry->members[QZ_MEMBER_SUPERS] != SIZE_MAX);
    packed->rank = t->rank; /* at least 1: blocks have an axis */
    packed->axis = t->rank - 1;
    memcpy(packed->shape, t->shape, t->rank * sizeof *t->shape);
    packed->shape[packed->axis] *= packing->values; /* it was divided by as much */
    return QZ_FILE_OK;
}

/* ---- blocks ---- */

/* Blocks on their way: from block `first` of each of some rows on, `count` of each. */
typedef struct run {
    const qz_ggml_packing *packing;
    const qz_packed_tensor *packed;
    uint64_t row, rows;
    uint64_t first, count;
    const qz_packed *plain;
    uint8_t *piece;
    size_t fits; /* blocks that the piece has room for */
} run;

static uint64_t blocks_in_row(const run *r)
{
    return r->packed->cols / r->packing->values;
}

/* The plain form from block `block` of row `row` of the run on. */
static qz_packed plain_at(const run *r, uint64_t row, uint64_t block)
{
    const qz_ggml_packing *p = r->packing;
    qz_packed at = *r->plain;
    at.codes = (char *)at.codes + row * (uint64_t)at.code_stride + block * (p->values / 2);
    at.scales = (char *)at.scales + row * (uint64_t)at.scale_stride + block * p->scales_bytes;
    if (p->zeros_bytes != 0)
        at.zeros = (char *)at.zeros + row * (uint64_t)at.zero_stride + block * p->zeros_bytes;
    if (p->supers_bytes != 0)
        at.supers = (char *)at.supers + row * (uint64_t)at.super_stride + block * p->supers_bytes;
    return at;
}

/* What happens to `count` blocks that lie in the file from block `at` of the tensor on, and in the piece. */
typedef qz_file_result (*piece_work)(void *file, const run *r, uint64_t at, size_t count, qz_file_error *error);

/* Unpacks (or packs) the blocks of a piece, of which the first is block `done` of the run. */
static void convert(const run *r, uint64_t done, size_t count, int writing)
{
    uint8_t *piece = r->piece;
    while (count != 0) {
        uint64_t row = done / r->count, block = done % r->count, left = r->count - block;
        size_t n = count < left ? count : (size_t)left;
        const qz_packed plain = plain_at(r, row, block);
        if (writing)
            r->packing->pack(&plain, n, piece);
        else
            r->packing->unpack(piece, n, &plain);
        piece += n * r->packing->bytes;
        done += n;
        count -= n;
    }
}

/* Goes through the blocks of a run in pieces: all rows in one go where nothing lies between them. */
static qz_file_result move_run(void *file, const run *r, int writing, piece_work work, qz_file_error *error)
{
    uint64_t per_row = blocks_in_row(r), total = r->rows * r->count, done = 0;
    qz_file_result result = QZ_FILE_OK;
    while (done < total && result == QZ_FILE_OK) {
        uint64_t left = r->count == per_row ? total - done : r->count - done % r->count;
        size_t n = r->fits < left ? r->fits : (size_t)left;
        uint64_t at = (r->row + done / r->count) * per_row + r->first + done % r->count;
        if (writing)
            convert(r, done, n, 1);
        result = work(file, r, at, n, error);
        if (result == QZ_FILE_OK && !writing)
            convert(r, done, n, 0);
        done += n;
    }
    return result;
}

static qz_file_result read_piece(void *file, const run *r, uint64_t at, size_t count, qz_file_error *error)
{
    const uint64_t each = r->packing->bytes;
    return qz_read(file, r->packed->members[QZ_MEMBER_HEADER], at * each, count * each, r->piece, error);
}

static qz_file_result write_piece(void *writer, const run *r, uint64_t at, size_t count, qz_file_error *error)
{
    const uint64_t each = r->packing->bytes;
    return qz_write(writer, r->packed->members[QZ_MEMBER_HEADER], at * each, count * each, r->piece, error);
}

/* A part of a block, of each row: blocks are taken apart one by one, and what is wanted of them is copied. Types with
 * larger blocks than two groups have scales of a byte, and if they have super scales, these are a whole row's. */
static qz_file_result read_parts(qz_file *file, const run *r, uint64_t col, uint64_t cols, qz_file_error *error)
{
    const qz_ggml_packing *p = r->packing;
    const uint64_t group = r->packed->scheme.group_size;
    uint8_t codes[QZ_GGML_VALUES / 2], scales[QZ_GGML_VALUES], zeros[QZ_GGML_VALUES], supers[8];
    const qz_packed block = {.codes = codes, .scales = scales, .zeros = zeros, .supers = supers};
    qz_file_result result = QZ_FILE_OK;
    for (uint64_t row = 0; row < r->rows; row++)
        for (uint64_t at = col; at < col + cols && result == QZ_FILE_OK;) {
            uint64_t start = at % p->values, left = p->values - start,
                     n = left < col + cols - at ? left : col + cols - at;
            result = read_piece(file, r, (r->row + row) * blocks_in_row(r) + at / p->values, 1, error);
            if (result != QZ_FILE_OK)
                break;
            p->unpack(r->piece, 1, &block);
            const qz_packed to = plain_at(r, row, 0);
            memcpy((char *)to.codes + (at - col) / 2, codes + start / 2, (size_t)n / 2);
            memcpy((char *)to.scales + (at - col) / group, scales + start / group, (size_t)(n / group));
            if (p->zeros_bytes != 0)
                memcpy((char *)to.zeros + (at - col) / group, zeros + start / group, (size_t)(n / group));
            if (p->supers_bytes != 0)
                memcpy(to.supers, supers, p->supers_bytes);
            at += n;
        }
    return result;
}

/* Scales with bits that the type has no use for would mean one thing here and another one there. */
static qz_file_result check_scales(const run *r, uint64_t col, uint64_t cols, const char *label, const qz_tensor *t,
                                   qz_file_error *error)
{
    const uint64_t group = r->packed->scheme.group_size;
    char shown[QZ_NAME_TEXT], field[QZ_NAME_TEXT + 16];
    for (uint64_t row = 0; row < r->rows && r->packing->never != 0; row++) {
        const uint8_t *scales = (const uint8_t *)r->plain->scales + row * (uint64_t)r->plain->scale_stride;
        for (uint64_t i = 0; i < cols / group; i++)
            if ((scales[i] & r->packing->never) != 0) {
                snprintf(field, sizeof field, "tensor '%s'", qz_escape(t->name, t->name_length, shown, sizeof shown));
                return qz_fail(error, QZ_FILE_FORMAT, label, field, QZ_NO_OFFSET,
                               "block %" PRIu64 " of row %" PRIu64 " has a scale with a sign (byte 0x%02x), which %s "
                               "does not have",
                               (col + i * group) / r->packing->values, r->row + row, scales[i], r->packing->name);
            }
    }
    return QZ_FILE_OK;
}

static int begin(run *r, const qz_ggml_packing *packing, const qz_packed_tensor *packed, uint64_t row, uint64_t rows,
                 uint64_t col, uint64_t cols, const qz_packed *plain)
{
    *r = (run){packing,
               packed,
               row,
               rows,
               col / packing->values,
               cols / packing->values,
               plain,
               malloc(PIECE),
               PIECE / packing->bytes};
    return r->piece != NULL;
}

static qz_file_result read_all(qz_file *file, const qz_packed_tensor *packed, uint64_t row, uint64_t rows, uint64_t col,
                               uint64_t cols, const qz_packed *dst, qz_file_error *error)
{
    const qz_entry *entry = &file->entries[packed->members[QZ_MEMBER_HEADER]];
    const qz_ggml_packing *packing = qz_ggml_packing_of(entry->blocks);
    run r;
    if (rows == 0 || cols == 0)
        return QZ_FILE_OK;
    if (!begin(&r, packing, packed, row, rows, col, cols, dst))
        return qz_fail_memory(error, file->input.label);
    int whole = col % packing->values == 0 && cols % packing->values == 0;
    qz_file_result result = whole ? move_run(file, &r, 0, read_piece, error) : read_parts(file, &r, col, cols, error);
    if (result == QZ_FILE_OK)
        result = check_scales(&r, col, cols, file->input.label, &entry->tensor, error);
    if (result == QZ_FILE_OK && packed->members[QZ_MEMBER_SUPERS] != SIZE_MAX)
        result = qz_read(file, packed->members[QZ_MEMBER_SUPERS], 0, 1, dst->supers, error);
    free(r.piece);
    return result;
}

/* Codes and numbers are in the same blocks. */
static qz_file_result read_blocks(qz_file *file, const qz_packed_tensor *packed, uint64_t row, uint64_t rows,
                                  uint64_t col, uint64_t cols, const qz_packed *dst, qz_file_error *error)
{
    if (dst->codes)
        return read_all(file, packed, row, rows, col, cols, dst, error);
    qz_packed with = *dst;
    with.code_stride = 0; /* the codes of all rows go to the same place */
    with.codes = malloc((size_t)(cols / 2 + 1));
    qz_file_result result = with.codes ? read_all(file, packed, row, rows, col, cols, &with, error)
                                       : qz_fail_memory(error, file->input.label);
    free(with.codes);
    return result;
}

/* ---- writing ---- */

static int is_like(const qz_scheme *a, const qz_scheme *b)
{
    return a->codes == b->codes && a->zero == b->zero && a->scale_dtype == b->scale_dtype &&
           a->group_size == b->group_size && a->super_size == b->super_size &&
           (a->super_size == 0 || a->super_dtype == b->super_dtype);
}

/* The type that has such a scheme; NULL if there is none, with the nearest one in *near, if any has such codes. */
static const qz_ggml_packing *find_packing(const qz_scheme *scheme, const qz_ggml_packing **near)
{
    const qz_ggml_packing *row;
    *near = NULL;
    for (size_t i = 0; (row = qz_ggml_packing_at(i)) != NULL; i++) {
        const qz_scheme with = scheme_of(row, 1), without = scheme_of(row, 0);
        if (is_like(scheme, &with) || is_like(scheme, &without))
            return row;
        int same = scheme->codes == with.codes && scheme->zero == with.zero;
        if (same && (!*near || (scheme->scale_dtype == with.scale_dtype &&
                                qz_scheme_by_name((*near)->scheme)->scale_dtype != with.scale_dtype)))
            *near = row;
    }
    return NULL;
}

static uint64_t bytes_of(const qz_packed_tensor *packed)
{
    const qz_ggml_packing *near, *packing = find_packing(&packed->scheme, &near);
    uint64_t beside = packed->scheme.super_size == QZ_WHOLE_MATRIX ? packed->sizes.super_bytes : 0;
    return packed->rows * (packed->cols / packing->values) * packing->bytes + beside; /* no more than in memory */
}

static const char *refuses(const qz_scheme *scheme, unsigned rank, const uint64_t *shape, unsigned axis, char *out,
                           size_t out_size)
{
    const qz_ggml_packing *near, *packing = find_packing(scheme, &near);
    if (!packing && !near)
        return "GGUF has no type for such codes; take the scheme q4_0, q4_1, q4_k, iq4_nl, iq4_xs, mxfp4 or nvfp4";
    if (!packing) {
        const qz_scheme like = scheme_of(near, 0);
        snprintf(out, out_size,
                 "GGUF has such codes with %s scales for groups of %" PRIu64 " alone (%s); take the scheme %s",
                 qz_dtype_name(like.scale_dtype), like.group_size, near->name, near->scheme);
        return out;
    }
    if (rank == 0)
        return NULL;
    if (rank > QZ_GGUF_AXES)
        return "a GGUF file has tensors of at most 4 axes";
    if (axis != rank - 1)
        return "blocks of a GGUF file run along the last axis";
    if (shape[axis] % packing->values == 0)
        return NULL;
    snprintf(out, out_size, "rows of %" PRIu64 " values are no whole blocks of %s, which have %u", shape[axis],
             packing->name, packing->values);
    return out;
}

/* The number beside a tensor, or at least its name, so that no other tensor is taken for it. A tensor of experts, with
 * three axes, may have several numbers of that name, which are passed on as a tensor of their own. */
static qz_file_result declare_scale(qz_writer *writer, const char *name, size_t name_length, qz_packed_tensor *packed,
                                    qz_file_error *error)
{
    const uint64_t one = 1;
    qz_tensor scale = {.element = QZ_ELEMENT_F32, .rank = 1, .shape = &one};
    char *made = scale_name(&writer->arena, name, name_length, &scale.name_length);
    if (!made)
        return qz_fail_memory(error, writer->output.label);
    scale.name = made;
    if (packed->sizes.super_bytes == 0)
        return packed->rank > 2 ? QZ_FILE_OK : qz_writer_reserve(writer, made, scale.name_length, error);
    return qz_declare(writer, &scale, &packed->members[QZ_MEMBER_SUPERS], error);
}

static qz_file_result declare(qz_writer *writer, const char *name, size_t name_length, qz_packed_tensor *packed,
                              qz_file_error *error)
{
    const qz_ggml_packing *near, *packing = find_packing(&packed->scheme, &near);
    const qz_tensor values = {.name = name, .name_length = name_length, .rank = packed->rank, .shape = packed->shape};
    size_t index;
    qz_file_result result = qz_writer_declare_blocks(writer, &values, packing->type, &index, error);
    if (result != QZ_FILE_OK)
        return result;
    packed->members[QZ_MEMBER_HEADER] = index;
    return qz_scheme_by_name(packing->scheme)->super_size == QZ_WHOLE_MATRIX
               ? declare_scale(writer, name, name_length, packed, error)
               : QZ_FILE_OK;
}

static qz_file_result write_blocks(qz_writer *writer, const qz_packed_tensor *packed, uint64_t row, uint64_t rows,
                                   uint64_t col, uint64_t cols, const qz_packed *src, qz_file_error *error)
{
    const qz_slot *slot = &writer->slots[packed->members[QZ_MEMBER_HEADER]];
    const qz_ggml_packing *packing = qz_ggml_packing_of(slot->blocks);
    const char *label = writer->output.label;
    run r;
    if (rows == 0 || cols == 0)
        return QZ_FILE_OK;
    if (col % packing->values != 0 || cols % packing->values != 0)
        return qz_fail(error, QZ_FILE_ARGUMENT, label, NULL, QZ_NO_OFFSET,
                       "a block of %u values cannot be written in parts", packing->values);
    if (!begin(&r, packing, packed, row, rows, col, cols, src))
        return qz_fail_memory(error, label);
    qz_file_result result = check_scales(&r, col, cols, label, &slot->tensor, error);
    if (result == QZ_FILE_OK)
        result = move_run(writer, &r, 1, write_piece, error);
    if (result == QZ_FILE_OK && row == 0 && col == 0 && packed->members[QZ_MEMBER_SUPERS] != SIZE_MAX)
        result = qz_write(writer, packed->members[QZ_MEMBER_SUPERS], 0, 1, src->supers, error);
    free(r.piece);
    return result;
}

const qz_layout qz_layout_gguf = {
    .name = "gguf",
    .container = "gguf",
    .recognize = recognize,
    .describe = describe,
    .read = read_blocks,
    .bytes = bytes_of,
    .refuses = refuses,
    .declare = declare,
    .write = write_blocks,
};
