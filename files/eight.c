/*
 * eight.c - tensors of eight bits in files
 *
 * This file finds, reads and writes them; eight_codes.c has the rule of their codes. In the library's own layout such a
 * tensor has two members:
 *
 *     NAME.int8          int8, the shape of the tensor: a code for each value
 *     NAME.int8_scales   float16, (groups): a scale for each 32 values in C order
 *
 * In a GGUF file it has blocks of Q8_0, each of which is the scale of a group and then its codes.
 */
#include "eight.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "container.h"
#include "containers/gguf.h"
#include "eight_codes.h"
#include "element.h"
#include "error.h"
#include "packed_list.h"
#include "parts.h"

static const char codes_suffix[] = ".int8", scales_suffix[] = ".int8_scales";

enum { Q8_0 = 8, BLOCK = 2 + QZ_EIGHT_GROUP, PIECE = 1 << 16 }; /* PIECE: values, whole groups */

/* Members of one in the own layout. */
typedef struct members {
    size_t codes, scales;
} members;

/* ---- the own layout, read ---- */

static qz_file_result refuse_scale(const qz_file *file, size_t tensor, uint64_t group, qz_file_error *error)
{
    char shown[QZ_NAME_TEXT], field[QZ_NAME_TEXT + 16];
    const qz_tensor *t = &file->entries[tensor].tensor;
    snprintf(field, sizeof field, "tensor '%s'", qz_escape(t->name, t->name_length, shown, sizeof shown));
    return qz_fail(error, QZ_FILE_FORMAT, file->input.label, field, QZ_NO_OFFSET,
                   "the scale of group %" PRIu64 " is not finite; get the file once more", group);
}

/* Codes of values, and the scales of all their groups. */
static qz_file_result read_members(qz_file *file, const members *m, uint64_t first, size_t count, int8_t *codes,
                                   uint16_t *scales, qz_file_error *error)
{
    uint64_t group = first / QZ_EIGHT_GROUP, groups = qz_eight_groups(first % QZ_EIGHT_GROUP + count);
    qz_file_result result = qz_read(file, m->codes, first, count, codes, error);
    if (result == QZ_FILE_OK)
        result = qz_read(file, m->scales, group, groups, scales, error);
    for (uint64_t i = 0; i < groups && result == QZ_FILE_OK; i++)
        if (!qz_half_is_finite(scales[i]))
            result = refuse_scale(file, m->scales, group + i, error);
    return result;
}

static qz_file_result decode(qz_file *file, const void *details, uint64_t first, uint64_t count, void *dst,
                             qz_file_error *error)
{
    const members *m = details;
    if (count == 0) /* whether a limit forbids it */
        return qz_read(file, m->codes, first, 0, NULL, error);
    qz_file_result result = QZ_FILE_OK;
    int8_t *codes = malloc(PIECE);
    uint16_t *scales = malloc((PIECE / QZ_EIGHT_GROUP + 1) * sizeof *scales);
    float *values = dst;
    if (!codes || !scales)
        result = qz_fail_memory(error, file->input.label);
    while (count != 0 && result == QZ_FILE_OK) {
        size_t n = count < PIECE ? (size_t)count : PIECE;
        result = read_members(file, details, first, n, codes, scales, error);
        if (result == QZ_FILE_OK)
            qz_eight_decode_from(codes, scales, first % QZ_EIGHT_GROUP, n, values);
        first += n;
        count -= n;
        values += n;
    }
    free(codes);
    free(scales);
    return result;
}

/* The length of NAME, if a name ends in the suffix; SIZE_MAX otherwise. */
static size_t base_of(const qz_tensor *t, const char *suffix)
{
    size_t more = strlen(suffix);
    return t->name_length >= more && memcmp(t->name + t->name_length - more, suffix, more) == 0 ? t->name_length - more
                                                                                                : SIZE_MAX;
}

/* What is wrong with two members that have the types of such; NULL: nothing. */
static const char *why_no_members(const qz_file *file, const members *m)
{
    const qz_tensor *codes = &file->entries[m->codes].tensor, *scales = &file->entries[m->scales].tensor;
    if (codes->rank == 0 || (codes->column_major && codes->rank > 1))
        return "belongs to codes of 8 bits, which must be an array in C order";
    if (scales->rank != 1 || scales->count != qz_eight_groups(codes->count))
        return "belongs to codes of 8 bits, and must be of one axis, with a scale for each 32 of them";
    return NULL;
}

/* Adds the tensor of floats. */
static qz_file_result add_decoded(qz_file *file, const members *found, size_t base, qz_file_error *error)
{
    const qz_tensor codes = file->entries[found->codes].tensor;
    char *name = qz_arena_text(&file->arena, codes.name, base);
    members *kept = qz_arena_get(&file->arena, sizeof *kept);
    if (!name || !kept)
        return qz_fail_memory(error, file->input.label);
    *kept = *found;
    const qz_tensor decoded = {
        .name = name, .name_length = base, .element = QZ_ELEMENT_F32, .rank = codes.rank, .shape = codes.shape};
    qz_file_result result = qz_file_add(file, &decoded, QZ_NO_OFFSET, error);
    if (result != QZ_FILE_OK)
        return result;
    qz_entry *entry = &file->entries[file->count - 1];
    entry->decode = decode;
    entry->details = kept;
    entry->coded = Q8_0;
    entry->stored = qz_eight_bytes(entry->tensor.count);
    qz_packed_hide(file, found->codes);
    qz_packed_hide(file, found->scales);
    return QZ_FILE_OK;
}

static qz_file_result recognize_one(qz_file *file, const members *found, size_t base, qz_file_error *error)
{
    const qz_tensor *t = &file->entries[found->scales].tensor;
    char shown[QZ_NAME_TEXT], field[QZ_NAME_TEXT + 2];
    const char *wrong = why_no_members(file, found);
    if (!wrong)
        return add_decoded(file, found, base, error);
    snprintf(field, sizeof field, "'%s'", qz_escape(t->name, t->name_length, shown, sizeof shown));
    return qz_fail(error, QZ_FILE_FORMAT, file->input.label, field, QZ_NO_OFFSET,
                   "%s; if it is an array of its own, rename it", wrong);
}

/* Finds the members of which one is `tensor`, the scales; 0 if these are no codes with their scales, but arrays. */
static int find_members(const qz_file *file, size_t tensor, members *found, size_t *base)
{
    const qz_entry *scales = &file->entries[tensor];
    *base = base_of(&scales->tensor, scales_suffix);
    if (*base == SIZE_MAX || scales->part != QZ_PART_NONE || scales->tensor.element != QZ_ELEMENT_F16)
        return 0;
    /* NAME.int8 is the beginning of NAME.int8_scales. */
    *found = (members){qz_tensor_find(file, scales->tensor.name, *base + strlen(codes_suffix)), tensor};
    return found->codes != SIZE_MAX && file->entries[found->codes].tensor.element == QZ_ELEMENT_I8 &&
           file->entries[found->codes].part == QZ_PART_NONE;
}

qz_file_result qz_eights_recognize(qz_file *file, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    const size_t count = file->count; /* those that are added stand behind */
    for (size_t i = 0; i < count && result == QZ_FILE_OK; i++) {
        members found;
        size_t base;
        if (find_members(file, i, &found, &base))
            result = recognize_one(file, &found, base, error);
    }
    return result;
}

/* ---- blocks ---- */

static void split_blocks(const uint8_t *blocks, size_t count, int8_t *codes, uint16_t *scales)
{
    for (size_t i = 0; i < count; i++, blocks += BLOCK) {
        scales[i] = (uint16_t)(blocks[0] | blocks[1] << 8);
        memcpy(codes + i * QZ_EIGHT_GROUP, blocks + 2, QZ_EIGHT_GROUP);
    }
}

static void join_blocks(const int8_t *codes, const uint16_t *scales, size_t count, uint8_t *blocks)
{
    for (size_t i = 0; i < count; i++, blocks += BLOCK) {
        blocks[0] = (uint8_t)scales[i];
        blocks[1] = (uint8_t)(scales[i] >> 8);
        memcpy(blocks + 2, codes + i * QZ_EIGHT_GROUP, QZ_EIGHT_GROUP);
    }
}

enum { BLOCKS = PIECE / QZ_EIGHT_GROUP }; /* of a piece */

static qz_file_result read_blocks(qz_file *file, size_t tensor, uint64_t first, uint64_t count, int8_t *codes,
                                  uint16_t *scales, qz_file_error *error)
{
    qz_file *part = file;
    qz_file_result result = qz_parts_find(file, &part, &tensor, error);
    uint8_t *blocks = malloc(BLOCKS * BLOCK);
    if (!blocks)
        result = qz_fail_memory(error, file->input.label);
    for (uint64_t at = 0; at < count && result == QZ_FILE_OK; at += BLOCKS) {
        size_t n = count - at < BLOCKS ? (size_t)(count - at) : BLOCKS;
        result = part->container->read_blocks(part, tensor, first + at, n, blocks, error);
        if (result == QZ_FILE_OK)
            split_blocks(blocks, n, codes + at * QZ_EIGHT_GROUP, scales + at);
    }
    free(blocks);
    return result;
}

static qz_file_result write_blocks(qz_writer *writer, size_t tensor, uint64_t first, uint64_t count,
                                   const int8_t *codes, const uint16_t *scales, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    uint8_t *blocks = malloc(BLOCKS * BLOCK);
    if (!blocks)
        return qz_fail_memory(error, writer->output.label);
    for (uint64_t at = 0; at < count && result == QZ_FILE_OK; at += BLOCKS) {
        size_t n = count - at < BLOCKS ? (size_t)(count - at) : BLOCKS;
        join_blocks(codes + at * QZ_EIGHT_GROUP, scales + at, n, blocks);
        result = qz_write(writer, tensor, (first + at) * BLOCK, n * BLOCK, blocks, error);
    }
    free(blocks);
    return result;
}

/* ---- the public functions: reading ---- */

int qz_eight_is(const qz_file *file, size_t tensor)
{
    return tensor < file->count && file->entries[tensor].coded == Q8_0;
}

/* Whether values of a tensor are whole groups of it, but for the last one. */
static int is_run(uint64_t first, uint64_t count, uint64_t all)
{
    return qz_within(first, count, all) && first % QZ_EIGHT_GROUP == 0 &&
           (count % QZ_EIGHT_GROUP == 0 || first + count == all);
}

static const char no_run[] = "values of a tensor of 8 bits are read and written in whole groups of 32";

qz_file_result qz_eight_read(qz_file *file, size_t tensor, uint64_t first, uint64_t count, int8_t *codes,
                             uint16_t *scales, qz_file_error *error)
{
    if (!qz_eight_is(file, tensor) || !is_run(first, count, file->entries[tensor].tensor.count))
        return qz_fail(error, QZ_FILE_ARGUMENT, file->input.label, NULL, QZ_NO_OFFSET, "%s",
                       qz_eight_is(file, tensor) ? no_run : "the tensor has no codes of 8 bits");
    const qz_entry *entry = &file->entries[tensor];
    if (count == 0)
        return QZ_FILE_OK;
    return entry->decode
               ? read_members(file, entry->details, first, (size_t)count, codes, scales, error)
               : read_blocks(file, tensor, first / QZ_EIGHT_GROUP, qz_eight_groups(count), codes, scales, error);
}

/* ---- the public functions: writing ---- */

const char *qz_eight_refuses(const char *layout, const qz_tensor *tensor, char *out, size_t out_size)
{
    const int blocks = strcmp(layout, "gguf") == 0;
    if (!blocks && strcmp(layout, "own") != 0) {
        snprintf(out, out_size, "the layout %s has no tensors of 8 bits; own and gguf have them", layout);
        return out;
    }
    if (!tensor)
        return NULL;
    if (tensor->rank == 0)
        return "a number alone is not kept in 8 bits";
    if (tensor->column_major && tensor->rank > 1)
        return "8 bits are for arrays in C order; this one has its first axis run fastest";
    if (!blocks)
        return NULL;
    if (tensor->rank > QZ_GGUF_AXES)
        return "a GGUF file has tensors of at most 4 axes";
    if (tensor->shape[tensor->rank - 1] % QZ_EIGHT_GROUP == 0)
        return NULL;
    snprintf(out, out_size, "rows of %" PRIu64 " values are no whole blocks of Q8_0, which have 32",
             tensor->shape[tensor->rank - 1]);
    return out;
}

static qz_file_result declare_member(qz_writer *writer, const qz_tensor *tensor, const char *suffix, size_t *index,
                                     qz_file_error *error)
{
    qz_tensor member = *tensor;
    member.name_length = tensor->name_length + strlen(suffix);
    char *name = qz_arena_get(&writer->arena, member.name_length + 1);
    if (!name)
        return qz_fail_memory(error, writer->output.label);
    memcpy(name, tensor->name, tensor->name_length);
    memcpy(name + tensor->name_length, suffix, strlen(suffix) + 1);
    member.name = name;
    return qz_declare(writer, &member, index, error);
}

static qz_file_result declare_members(qz_writer *writer, const qz_tensor *tensor, size_t *index, qz_file_error *error)
{
    qz_tensor codes = *tensor, scales = *tensor;
    const uint64_t groups = qz_eight_groups(tensor->count);
    char *name = qz_arena_text(&writer->arena, tensor->name, tensor->name_length);
    if (!name)
        return qz_fail_memory(error, writer->output.label);
    codes.element = QZ_ELEMENT_I8;
    codes.column_major = 0;
    scales.element = QZ_ELEMENT_F16;
    scales.column_major = 0;
    scales.rank = 1;
    scales.shape = &groups;
    /* A reader gives it this name. */
    qz_file_result result = qz_writer_reserve(writer, name, tensor->name_length, error);
    if (result == QZ_FILE_OK)
        result = declare_member(writer, &codes, codes_suffix, index, error);
    if (result == QZ_FILE_OK)
        result = declare_member(writer, &scales, scales_suffix, NULL, error);
    if (result == QZ_FILE_OK)
        writer->slots[writer->count - 1].joined = 1;
    return result;
}

/* The layout that quantized tensors have in a file. */
static const char *layout_of(const qz_writer *writer)
{
    return writer->layout[0] != '\0' ? writer->layout : writer->container->quantized;
}

qz_file_result qz_eight_declare(qz_writer *writer, const qz_tensor *given, size_t *index, qz_file_error *error)
{
    char shown[QZ_NAME_TEXT], why[200];
    const char *label = writer->output.label, *layout = layout_of(writer);
    qz_tensor tensor = *given;
    uint64_t bytes;
    qz_escape(tensor.name, tensor.name_length, shown, sizeof shown);
    if (!layout)
        return qz_fail(error, QZ_FILE_REFUSED, label, shown, QZ_NO_OFFSET,
                       "such a file has no tensors of 8 bits; write a .npz, .safetensors or .gguf");
    if (tensor.rank > QZ_MAX_RANK || !qz_shape_count(tensor.rank, tensor.shape, 4, &tensor.count, &bytes))
        return qz_fail(error, QZ_FILE_ARGUMENT, label, shown, QZ_NO_OFFSET, "the shape is too large");
    const char *wrong = qz_eight_refuses(layout, &tensor, why, sizeof why);
    if (wrong)
        return qz_fail(error, QZ_FILE_REFUSED, label, shown, QZ_NO_OFFSET, "cannot be kept in 8 bits: %s", wrong);
    size_t at = 0;
    qz_file_result result = strcmp(layout, "gguf") == 0 ? qz_writer_declare_blocks(writer, &tensor, Q8_0, &at, error)
                                                        : declare_members(writer, &tensor, &at, error);
    if (result != QZ_FILE_OK)
        return result;
    writer->slots[at].eight = tensor.count;
    writer->slots[at].is_eight = 1;
    *index = at;
    return QZ_FILE_OK;
}

qz_file_result qz_eight_write(qz_writer *writer, size_t index, uint64_t first, uint64_t count, const int8_t *codes,
                              const uint16_t *scales, qz_file_error *error)
{
    const qz_slot *slot = index < writer->count && writer->slots[index].is_eight ? &writer->slots[index] : NULL;
    if (!slot || !is_run(first, count, slot->eight))
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, NULL, QZ_NO_OFFSET, "%s",
                       slot ? no_run : "the tensor was not declared to have codes of 8 bits");
    const uint64_t group = first / QZ_EIGHT_GROUP, groups = qz_eight_groups(count);
    for (uint64_t i = 0; i < groups; i++)
        if (!qz_half_is_finite(scales[i]))
            return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, NULL, QZ_NO_OFFSET,
                           "the scale of group %" PRIu64 " is not finite", group + i);
    if (slot->blocks == Q8_0)
        return write_blocks(writer, index, group, groups, codes, scales, error);
    qz_file_result result = qz_write(writer, index, first, count, codes, error);
    return result == QZ_FILE_OK ? qz_write(writer, index + 1, group, groups, scales, error) : result;
}
