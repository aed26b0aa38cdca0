/*
 * torchao.c - the layouts of torchao in safetensors, which are only read
 *
 *     MODULE._NAME_qdata             NVFP4Tensor, MXTensor  uint8 [..., in / 2], nibbles of E2M1
 *                                    IntxUnpackedToInt8Tensor  int8 [..., in], a code of int4 each
 *                                    Int4Tensor  int8 [out, in / 2], nibbles of int4
 *     MODULE._NAME_scale             E4M3, E8M0 or float [..., groups]; of Int4Tensor float [groups, out]
 *     MODULE._NAME_zero_point        int8 as the scales; of Int4Tensor float, what is added to code * scale
 *     MODULE._NAME_per_tensor_scale  float32, a factor; NVFP4Tensor may have it
 *
 * The __metadata__ of the file says under the name of a tensor MODULE.NAME of which class it is, and what its shapes
 * leave open. No scheme here describes an Int4Tensor, because the number that is added belongs to code 0, not to code
 * -8. Therefore it is decoded as it is read.
 */
#include "shuffled.h"

#include <stdlib.h>
#include <string.h>

#include "../containers/json.h"
#include "../names.h"
#include "../packed_list.h"

enum { DEEPEST = 8 };

static const qz_form form_floats = {.super = QZ_SUPER_FACTOR};
static const qz_form form_bytes = {.codes = QZ_ORDER_BYTES, .zeros = QZ_ORDER_BYTES};

/* ---- what the metadata says of a tensor ---- */

typedef struct words {
    char type[32], element[24]; /* the class; the type of its codes */
    uint64_t block;             /* numbers in a group of the last axis; 0: groups of another kind, or nothing is said */
    int swizzled;               /* scales lie in tiles */
} words;

static void take_text(const qz_json *json, char *out, size_t room)
{
    if (json->kind == QZ_JSON_STRING && json->length < room)
        memcpy(out, json->string, json->length + 1);
}

/* A value of {"_type": ..., "_data": {"block_size": [1, 32], "target_dtype": {"_data": "int4"}}}, by the keys that lead
 * to it. Of the sizes of a block all but the last must be 1. */
static void take_value(const qz_json *json, const char *const keys[4], words *said)
{
    uint64_t number;
    int data = json->depth > 1 && strcmp(keys[1], "_data") == 0;
    if (json->depth == 1 && strcmp(keys[1], "_type") == 0)
        take_text(json, said->type, sizeof said->type);
    if (data && strcmp(keys[2], "block_size") == 0 && json->kind == QZ_JSON_NUMBER)
        said->block = said->block == 1 && !qz_json_whole(json, &number) ? number : 0;
    if (data && json->depth == 2 && strcmp(keys[2], "is_swizzled_scales") == 0)
        said->swizzled = json->kind != QZ_JSON_FALSE;
    if (data && json->depth == 3 && strcmp(keys[3], "_data") == 0 &&
        (strcmp(keys[2], "target_dtype") == 0 || strcmp(keys[2], "elem_dtype") == 0))
        take_text(json, said->element, sizeof said->element);
}

/* 0 if the text is not of that kind. */
static int understand(char *text, size_t length, words *said)
{
    const char *keys[4] = {"", "", "", ""};
    qz_json json;
    *said = (words){.block = 1};
    qz_json_begin(&json, text, length, DEEPEST);
    while (qz_json_next(&json) > QZ_JSON_END) {
        if (json.kind == QZ_JSON_KEY && json.depth < 4)
            keys[json.depth] = json.string;
        else if (json.kind >= QZ_JSON_STRING && json.depth < 4)
            take_value(&json, keys, said);
    }
    return json.kind == QZ_JSON_END && said->type[0] != '\0';
}

/* ---- what the tensors must be ---- */

static const qz_element signed_bytes[] = {QZ_ELEMENT_I8, (qz_element)0};

/* Sets the shape from that of the codes, of which a byte has `each` of the last axis, in groups of `size`; what scales
 * must be goes to `groups`. */
static int set_shape(qz_found *found, uint64_t each, uint64_t size, uint64_t groups[QZ_MAX_RANK])
{
    const qz_tensor *codes = qz_tensor_at(found->file, found->members[QZ_MEMBER_CODES]);
    unsigned rank = codes->rank;
    if (rank < 2 || codes->shape[rank - 1] > INT64_MAX / 2 || size == 0 || codes->shape[rank - 1] * each % size != 0) {
        qz_found_wrong(found, "has rows that are not of whole groups");
        return 0;
    }
    found->is.rank = rank;
    memcpy(found->is.shape, codes->shape, rank * sizeof *codes->shape);
    memcpy(groups, codes->shape, rank * sizeof *codes->shape);
    found->is.shape[rank - 1] *= each;
    groups[rank - 1] = found->is.shape[rank - 1] / size;
    return 1;
}

/* NVFP4Tensor and MXTensor. 0: it is one that is not read. */
static int check_floats(qz_found *found, const words *said, int nvfp4)
{
    static const qz_element single[] = {QZ_ELEMENT_F32, (qz_element)0};
    uint64_t groups[QZ_MAX_RANK];
    size_t factor = found->members[QZ_MEMBER_SUPERS];
    if (said->swizzled || (factor != SIZE_MAX && (!nvfp4 || qz_tensor_at(found->file, factor)->count != 1)))
        return 0;
    found->is.form = &form_floats;
    qz_found_scheme(found, nvfp4 ? "nvfp4" : "mxfp4", QZ_ELEMENT_RAW, said->block);
    if (factor == SIZE_MAX)
        found->is.scheme.super_dtype = (qz_dtype)0, found->is.scheme.super_size = 0;
    else
        qz_found_is(found, factor, single, qz_tensor_at(found->file, factor)->rank,
                    qz_tensor_at(found->file, factor)->shape);
    if (set_shape(found, 2, said->block, groups)) {
        const qz_tensor *codes = qz_tensor_at(found->file, found->members[QZ_MEMBER_CODES]);
        qz_found_is(found, found->members[QZ_MEMBER_CODES], qz_elements_byte, codes->rank, codes->shape);
        qz_found_is(found, found->members[QZ_MEMBER_SCALES], qz_elements_byte, codes->rank, groups);
    }
    return 1;
}

/* IntxUnpackedToInt8Tensor. */
static int check_bytes(qz_found *found, const words *said)
{
    uint64_t groups[QZ_MAX_RANK];
    size_t zeros = found->members[QZ_MEMBER_ZEROS], scales = found->members[QZ_MEMBER_SCALES];
    if (said->block == 0 || zeros == SIZE_MAX || qz_tensor_at(found->file, zeros)->element != QZ_ELEMENT_I8)
        return 0;
    found->is.form = &form_bytes;
    qz_found_scheme(found, "uint4", qz_tensor_at(found->file, scales)->element, said->block);
    if (set_shape(found, 1, said->block, groups)) {
        unsigned rank = found->is.rank;
        qz_found_is(found, found->members[QZ_MEMBER_CODES], signed_bytes, rank, found->is.shape);
        qz_found_is(found, scales, qz_elements_float, rank, groups);
        qz_found_is(found, zeros, signed_bytes, rank, groups);
    }
    return 1;
}

/* Int4Tensor. */
static int check_added(qz_found *found, const words *said)
{
    uint64_t groups[QZ_MAX_RANK];
    size_t zeros = found->members[QZ_MEMBER_ZEROS], scales = found->members[QZ_MEMBER_SCALES];
    const qz_tensor *codes = qz_tensor_at(found->file, found->members[QZ_MEMBER_CODES]);
    if (zeros == SIZE_MAX || codes->rank != 2 || said->block == 0 ||
        qz_found_sibling(found, "_act_pre_scale") != SIZE_MAX)
        return 0;
    const qz_element as_scales[] = {qz_tensor_at(found->file, scales)->element, (qz_element)0};
    qz_found_scheme(found, "uint4_offset", as_scales[0], said->block);
    if (set_shape(found, 2, said->block, groups)) {
        const uint64_t across[2] = {groups[1], groups[0]};
        qz_found_is(found, found->members[QZ_MEMBER_CODES], signed_bytes, 2, codes->shape);
        qz_found_is(found, scales, qz_elements_float, 2, across);
        qz_found_is(found, zeros, as_scales, 2, across);
    }
    return 1;
}

/* ---- finding ---- */

/* "MODULE._NAME" becomes "MODULE.NAME", as the metadata and the model call it; NULL if it is no such name. */
static char *name_of(const qz_found *found, size_t *length)
{
    size_t dot = found->base_length;
    while (dot != 0 && found->base[dot - 1] != '.')
        dot--;
    if (dot == 0 || found->base_length - dot < 2 || found->base[dot] != '_')
        return NULL;
    char *name = qz_arena_text(&found->file->arena, found->base, found->base_length - 1);
    if (name)
        memcpy(name + dot, found->base + dot + 1, found->base_length - dot - 1);
    *length = found->base_length - 1;
    return name;
}

static qz_file_result look(qz_found *found, const words *said, const char *name, size_t length, qz_file_error *error)
{
    int float4 = strcmp(said->element, "float4_e2m1fn_x2") == 0, int4 = strcmp(said->element, "int4") == 0;
    int nvfp4 = strcmp(said->type, "NVFP4Tensor") == 0, added = strcmp(said->type, "Int4Tensor") == 0, read = 0;
    int mx = strcmp(said->type, "MXTensor") == 0, bytes = strcmp(said->type, "IntxUnpackedToInt8Tensor") == 0;
    if ((mx && !float4) || (bytes && !int4) || strncmp(said->type, "Float8", 6) == 0 ||
        strncmp(said->type, "Int8", 4) == 0)
        return QZ_FILE_OK; /* not of 4 bits */
    if (found->members[QZ_MEMBER_SCALES] != SIZE_MAX)
        read = nvfp4 || mx ? check_floats(found, said, nvfp4)
               : bytes     ? check_bytes(found, said)
               : added     ? check_added(found, said)
                           : 0;
    if (!read) {
        qz_found_remark(found,
                        "tensors of torchao that lie as a device wants them, or with more numbers than one for each "
                        "group, are listed as they are");
        return QZ_FILE_OK;
    }
    found->base = name;
    found->base_length = length;
    found->file->metadata.is_of_tensors = 1;
    return added ? qz_added_note(found, error) : qz_found_note(found, "", error);
}

/* Every metadata by its key. */
static int index_metadata(qz_file *file, qz_names *said)
{
    int fits = 1;
    for (size_t i = 0; i < file->metadata.count && fits; i++)
        fits =
            qz_names_add(said, file->metadata.pairs[i].key, file->metadata.pairs[i].key_length, i) != QZ_NAME_NO_MEMORY;
    return fits;
}

/* A tensor that is called like codes of torchao: one of them, if the metadata says so. */
static qz_file_result look_at(qz_found *found, qz_names *said, qz_file_error *error)
{
    qz_file *file = found->file;
    size_t length = 0;
    words understood;
    if (said->used == 0 && !index_metadata(file, said))
        return qz_fail_memory(error, file->input.label);
    char *name = name_of(found, &length);
    size_t i = name ? qz_names_find(said, name, length) : SIZE_MAX;
    if (i == SIZE_MAX)
        return QZ_FILE_OK;
    char *text = qz_arena_text(&file->arena, file->metadata.pairs[i].value, file->metadata.pairs[i].value_length);
    if (!text)
        return qz_fail_memory(error, file->input.label);
    if (!understand(text, file->metadata.pairs[i].value_length, &understood))
        return QZ_FILE_OK;
    found->members[QZ_MEMBER_SCALES] = qz_found_sibling(found, "_scale");
    found->members[QZ_MEMBER_ZEROS] = qz_found_sibling(found, "_zero_point");
    found->members[QZ_MEMBER_SUPERS] = qz_found_sibling(found, "_per_tensor_scale");
    return look(found, &understood, name, length, error);
}

static qz_file_result recognize(qz_file *file, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    qz_names said = {0};
    qz_found found;
    size_t count = qz_tensor_count(file); /* before tensors that are decoded are added */
    for (size_t i = 0; i < count && file->metadata.count != 0 && result == QZ_FILE_OK; i++)
        if (qz_found_begin(&found, file, &qz_layout_torchao, i, "_qdata"))
            result = look_at(&found, &said, error);
    qz_names_free(&said);
    return result;
}

const qz_layout qz_layout_torchao = {
    .name = "torchao",
    .container = "safetensors",
    .recognize = recognize,
    .describe = qz_foreign_describe,
    .read = qz_foreign_read,
};
