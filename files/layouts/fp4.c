/*
 * fp4.c - two layouts of 4-bit floats: NVFP4 of ModelOpt, and MXFP4 of gpt-oss
 *
 *     MODULE.weight          uint8 [out, in / 2]      NAME_blocks  uint8 [..., rows, groups, 16]
 *     MODULE.weight_scale    E4M3 [out, in / 16]      NAME_scales  uint8 [..., rows, groups], E8M0
 *     MODULE.weight_scale_2  float32, a factor        (or NAME.blocks, NAME.scales)
 */
#include "foreign.h"

#include <string.h>

static const qz_form form = {.super = QZ_SUPER_FACTOR};

/* ---- reading ---- */

static void check_modelopt(qz_found *found)
{
    static const qz_element single[] = {QZ_ELEMENT_F32, (qz_element)0};
    const qz_tensor *codes = qz_tensor_at(found->file, found->members[QZ_MEMBER_CODES]);
    const qz_tensor *super = qz_tensor_at(found->file, found->members[QZ_MEMBER_SUPERS]);
    found->is.form = &form;
    qz_found_scheme(found, "nvfp4", QZ_ELEMENT_RAW, 16);
    if (codes->rank != 2 || codes->shape[1] > INT64_MAX / 2) {
        qz_found_wrong(found, "has codes that are no matrix");
        return;
    }
    const uint64_t in = 2 * codes->shape[1], scales[2] = {codes->shape[0], in / 16 + (in % 16 != 0)};
    found->is.rank = 2;
    found->is.shape[0] = codes->shape[0];
    found->is.shape[1] = in;
    qz_found_is(found, found->members[QZ_MEMBER_SCALES], qz_elements_byte, 2, scales);
    if (super->count != 1)
        qz_found_wrong(found, "has more than one number that multiplies its scales");
    qz_found_is(found, found->members[QZ_MEMBER_SUPERS], single, super->rank, super->shape);
}

static qz_file_result recognize_modelopt(qz_file *file, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    qz_found found;
    for (size_t i = 0; i < qz_tensor_count(file) && result == QZ_FILE_OK; i++) {
        if (!qz_found_begin(&found, file, &qz_layout_modelopt, i, ".weight") ||
            qz_tensor_at(file, i)->element != QZ_ELEMENT_U8)
            continue;
        found.members[QZ_MEMBER_SCALES] = qz_found_sibling(&found, ".weight_scale");
        found.members[QZ_MEMBER_SUPERS] = qz_found_sibling(&found, ".weight_scale_2");
        if (found.members[QZ_MEMBER_SCALES] == SIZE_MAX || found.members[QZ_MEMBER_SUPERS] == SIZE_MAX)
            continue;
        check_modelopt(&found);
        result = qz_found_note(&found, ".weight", error);
    }
    return result;
}

static void check_blocks(qz_found *found)
{
    const qz_tensor *codes = qz_tensor_at(found->file, found->members[QZ_MEMBER_CODES]);
    unsigned rank = codes->rank - 1;
    found->is.form = &form;
    qz_found_scheme(found, "mxfp4", QZ_ELEMENT_U8, 32);
    qz_found_is(found, found->members[QZ_MEMBER_SCALES], qz_elements_byte, rank, codes->shape);
    found->is.rank = rank;
    memcpy(found->is.shape, codes->shape, rank * sizeof *codes->shape);
    if (found->is.shape[rank - 1] > INT64_MAX / 32)
        qz_found_wrong(found, "has too many groups");
    else
        found->is.shape[rank - 1] *= 32;
}

static qz_file_result recognize_blocks(qz_file *file, qz_file_error *error)
{
    static const char *const ends[][2] = {{"_blocks", "_scales"}, {".blocks", ".scales"}};
    qz_file_result result = QZ_FILE_OK;
    qz_found found;
    for (size_t i = 0; i < 2 * qz_tensor_count(file) && result == QZ_FILE_OK; i++) {
        const qz_tensor *t = qz_tensor_at(file, i / 2);
        if (t->element != QZ_ELEMENT_U8 || t->rank < 2 || t->shape[t->rank - 1] != 16 ||
            !qz_found_begin(&found, file, &qz_layout_gpt_oss, i / 2, ends[i % 2][0]))
            continue;
        found.members[QZ_MEMBER_SCALES] = qz_found_sibling(&found, ends[i % 2][1]);
        if (found.members[QZ_MEMBER_SCALES] == SIZE_MAX)
            continue;
        check_blocks(&found);
        result = qz_found_note(&found, "", error);
    }
    return result;
}

/* ---- writing ---- */

static const char *refuses_modelopt(const qz_scheme *scheme, unsigned rank, const uint64_t *shape, unsigned axis,
                                    char *out, size_t out_size)
{
    (void)out;
    (void)out_size;
    if (scheme->codes != QZ_FP4 || scheme->scale_dtype != QZ_E4M3 || scheme->group_size != 16 ||
        scheme->super_size != QZ_WHOLE_MATRIX || scheme->super_dtype != QZ_F32)
        return "it has nvfp4 only";
    if (rank != 0 && (rank != 2 || axis != 1 || shape[1] % 16 != 0 || shape[0] == 0 || shape[1] == 0))
        return "it has matrices of whole groups of 16 along the last axis only";
    return NULL;
}

static qz_file_result declare_modelopt(qz_writer *writer, const char *name, size_t name_length,
                                       qz_packed_tensor *packed, qz_file_error *error)
{
    const uint64_t codes[2] = {packed->rows, packed->cols / 2}, scales[2] = {packed->rows, packed->sizes.row_groups};
    const qz_foreign_member members[] = {
        {.suffix = "", QZ_MEMBER_CODES, QZ_ELEMENT_U8, 2, codes},
        {.suffix = "_scale", QZ_MEMBER_SCALES, QZ_ELEMENT_U8, 2, scales, .stored = qz_foreign_stored(&packed->scheme)},
        {.suffix = "_scale_2", QZ_MEMBER_SUPERS, QZ_ELEMENT_F32},
    };
    return qz_foreign_declare(writer, name, name_length, packed, QZ_NAMES_WEIGHT, members,
                              sizeof members / sizeof members[0], error);
}

static const char *refuses_blocks(const qz_scheme *scheme, unsigned rank, const uint64_t *shape, unsigned axis,
                                  char *out, size_t out_size)
{
    (void)out;
    (void)out_size;
    if (scheme->codes != QZ_FP4 || scheme->scale_dtype != QZ_E8M0 || scheme->group_size != 32)
        return "it has mxfp4 only";
    if (rank != 0 && (axis != rank - 1 || shape[rank - 1] % 32 != 0 || rank >= QZ_MAX_RANK))
        return "it has tensors of whole groups of 32 along the last axis only";
    return NULL;
}

static qz_file_result declare_blocks(qz_writer *writer, const char *name, size_t name_length, qz_packed_tensor *packed,
                                     qz_file_error *error)
{
    uint64_t shape[QZ_MAX_RANK];
    memcpy(shape, packed->shape, packed->rank * sizeof *shape);
    shape[packed->rank - 1] /= 32;
    shape[packed->rank] = 16;
    const qz_foreign_member members[] = {
        {.suffix = "_blocks", QZ_MEMBER_CODES, QZ_ELEMENT_U8, packed->rank + 1, shape},
        {.suffix = "_scales", QZ_MEMBER_SCALES, QZ_ELEMENT_U8, packed->rank, shape},
    };
    return qz_foreign_declare(writer, name, name_length, packed, QZ_NAMES_ANY, members,
                              sizeof members / sizeof members[0], error);
}

const qz_layout qz_layout_modelopt = {
    .name = "modelopt",
    .container = "safetensors",
    .recognize = recognize_modelopt,
    .describe = qz_foreign_describe,
    .read = qz_foreign_read,
    .refuses = refuses_modelopt,
    .declare = declare_modelopt,
    .form = &form,
};

const qz_layout qz_layout_gpt_oss = {
    .name = "gpt-oss",
    .container = "safetensors",
    .recognize = recognize_blocks,
    .describe = qz_foreign_describe,
    .read = qz_foreign_read,
    .refuses = refuses_blocks,
    .declare = declare_blocks,
    .form = &form,
};
