/*
 * compressed_tensors.c - the layouts of compressed-tensors: pack-quantized, nvfp4-pack-quantized and
 * mxfp4-pack-quantized
 *
 *     MODULE.weight_packed        int32 [out, in / 8], words of eight inputs with 8 added; of E2M1 uint8 [out, in / 2]
 *     MODULE.weight_scale         float [out, groups]; E4M3 or E8M0
 *     MODULE.weight_zero_point    int32 [out / 8, groups], words of eight outputs with 8 added
 *     MODULE.weight_shape         int64 [2]: out, in
 *     MODULE.weight_global_scale  float32 [1], of nvfp4: scales are divided by it
 *     MODULE.weight_g_idx         int32 [in]: the group of each input
 */
#include "shuffled.h"

#include <string.h>

#include "../packed_list.h"

static const qz_form form = {.zeros = QZ_ORDER_DOWN_ROWS, .super = QZ_SUPER_DIVISOR};

/* ---- reading ---- */

/* The shape that the list says; else as many inputs as the words have. */
static qz_file_result find_shape(qz_found *found, size_t list, qz_file_error *error)
{
    static const uint64_t two = 2;
    const qz_tensor *codes = qz_tensor_at(found->file, found->members[QZ_MEMBER_CODES]);
    static const qz_element whole[] = {QZ_ELEMENT_I64, QZ_ELEMENT_I32, (qz_element)0};
    uint64_t per_element = codes->element == QZ_ELEMENT_I32 ? 8 : 2;
    found->is.rank = 2;
    if (codes->rank != 2 || codes->shape[1] > INT64_MAX / 8) {
        qz_found_wrong(found, "has codes that are no matrix");
        return QZ_FILE_OK;
    }
    found->is.shape[0] = codes->shape[0];
    found->is.shape[1] = codes->shape[1] * per_element;
    if (list == SIZE_MAX || !qz_found_is(found, list, whole, 1, &two))
        return QZ_FILE_OK;
    int64_t numbers[2];
    int32_t narrow[2];
    int wide = qz_tensor_at(found->file, list)->element == QZ_ELEMENT_I64;
    qz_file_result result = qz_read(found->file, list, 0, 2, wide ? (void *)numbers : narrow, error);
    for (int i = 0; i < 2 && result == QZ_FILE_OK; i++) {
        numbers[i] = wide ? numbers[i] : narrow[i];
        if (numbers[i] < 0)
            qz_found_wrong(found, "has a negative size");
        else
            found->is.shape[i] = (uint64_t)numbers[i];
    }
    return result;
}

/* Whether the words hold codes of another width. */
static int has_other_bits(const qz_found *found)
{
    const qz_tensor *codes = qz_tensor_at(found->file, found->members[QZ_MEMBER_CODES]);
    uint64_t in = found->is.shape[1];
    for (uint64_t bits = 1; bits <= 8 && in < INT64_MAX / 8; bits++)
        if (bits != 4 && codes->shape[1] == (in * bits + 31) / 32 && codes->shape[1] != (in * 4 + 31) / 32)
            return 1;
    return 0;
}

static void check_integers(qz_found *found, const qz_tensor *scales)
{
    uint64_t out = found->is.shape[0], in = found->is.shape[1], groups = scales->rank == 2 ? scales->shape[1] : 0;
    const uint64_t codes[2] = {out, in / 8 + (in % 8 != 0)}, shape[2] = {out, groups};
    const uint64_t zeros[2] = {out / 8 + (out % 8 != 0), groups};
    int zero = found->members[QZ_MEMBER_ZEROS] != SIZE_MAX;
    qz_found_scheme(found, zero ? "uint4" : "int4", scales->element, 1);
    qz_found_is(found, found->members[QZ_MEMBER_CODES], qz_elements_i32, 2, codes);
    qz_found_is(found, found->members[QZ_MEMBER_SCALES], qz_elements_float, 2, shape);
    if (zero)
        qz_found_is(found, found->members[QZ_MEMBER_ZEROS], qz_elements_i32, 2, zeros);
    qz_found_groups(found, in, groups, 0);
}

static void check_floats(qz_found *found)
{
    static const qz_element single[] = {QZ_ELEMENT_F32, (qz_element)0};
    static const uint64_t one = 1;
    size_t super = found->members[QZ_MEMBER_SUPERS];
    uint64_t out = found->is.shape[0], in = found->is.shape[1], size = super != SIZE_MAX ? 16 : 32;
    const uint64_t codes[2] = {out, in / 2}, scales[2] = {out, in / size + (in % size != 0)};
    qz_found_scheme(found, super != SIZE_MAX ? "nvfp4" : "mxfp4", QZ_ELEMENT_U8, size);
    if (in % 2 != 0)
        qz_found_wrong(found, "has an odd number of inputs");
    qz_found_is(found, found->members[QZ_MEMBER_CODES], qz_elements_byte, 2, codes);
    qz_found_is(found, found->members[QZ_MEMBER_SCALES], qz_elements_byte, 2, scales);
    if (super != SIZE_MAX)
        qz_found_is(found, super, single, 1, &one);
}

static qz_file_result recognize(qz_file *file, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    qz_found found;
    for (size_t i = 0; i < qz_tensor_count(file) && result == QZ_FILE_OK; i++) {
        if (!qz_found_begin(&found, file, &qz_layout_compressed_tensors, i, ".weight_packed"))
            continue;
        found.is.form = &form;
        found.members[QZ_MEMBER_SCALES] = qz_found_sibling(&found, ".weight_scale");
        found.members[QZ_MEMBER_ZEROS] = qz_found_sibling(&found, ".weight_zero_point");
        found.members[QZ_MEMBER_SUPERS] = qz_found_sibling(&found, ".weight_global_scale");
        size_t shape = qz_found_sibling(&found, ".weight_shape"), list = qz_found_sibling(&found, ".weight_g_idx");
        const qz_tensor *scales = qz_tensor_at(file, found.members[QZ_MEMBER_SCALES]);
        int integers = qz_tensor_at(file, i)->element == QZ_ELEMENT_I32;
        if (!scales) {
            qz_found_remark(&found, "tensors called .weight_packed without .weight_scale are listed as they are");
            continue;
        }
        if (integers && scales->rank == 1 && scales->count == 1) {
            qz_found_remark(&found, "tensors with one scale for all values (strategy tensor) are listed as they are");
            continue;
        }
        result = find_shape(&found, shape, error);
        if (result != QZ_FILE_OK)
            break;
        if (found.is.wrong[0] == '\0' && integers && has_other_bits(&found))
            continue;
        if (found.is.wrong[0] == '\0' && integers)
            check_integers(&found, scales);
        else if (found.is.wrong[0] == '\0')
            check_floats(&found);
        if (shape != SIZE_MAX)
            qz_packed_hide(file, shape);
        result = qz_shuffled_note(&found, list, ".weight", error);
    }
    return result;
}

/* ---- writing ---- */

static int is_integer(const qz_scheme *scheme)
{
    return scheme->codes == QZ_INT4 || (scheme->codes == QZ_UINT4 && scheme->zero == QZ_ZERO_UINT4);
}

static const char *refuses(const qz_scheme *scheme, unsigned rank, const uint64_t *shape, unsigned axis, char *out,
                           size_t out_size)
{
    (void)out;
    (void)out_size;
    int floats = scheme->codes == QZ_FP4 && ((scheme->scale_dtype == QZ_E8M0 && scheme->group_size == 32) ||
                                             (scheme->scale_dtype == QZ_E4M3 && scheme->group_size == 16 &&
                                              scheme->super_size == QZ_WHOLE_MATRIX && scheme->super_dtype == QZ_F32));
    if (!is_integer(scheme) && !floats)
        return "it has int4, uint4 with 4-bit zeros, mxfp4 and nvfp4 only";
    if (!floats && qz_foreign_element(scheme->scale_dtype) == QZ_ELEMENT_U8)
        return "it has scales of float16, bfloat16 and float32 only";
    if (rank == 0)
        return NULL;
    if (rank != 2 || axis != 1)
        return "it has matrices with groups along the last axis only";
    if (shape[0] == 0 || shape[1] == 0)
        return "it has no empty matrices";
    if (scheme->group_size < shape[1] && shape[1] % scheme->group_size != 0)
        return "it has no groups that are shorter than the others";
    if (scheme->group_size < shape[1] && scheme->group_size % 4 != 0)
        return "it has groups of multiples of four only";
    return floats && shape[1] % 2 != 0 ? "it has an even number of columns only" : NULL;
}

static qz_file_result declare(qz_writer *writer, const char *name, size_t name_length, qz_packed_tensor *packed,
                              qz_file_error *error)
{
    static const uint64_t one = 1, two = 2;
    int integers = is_integer(&packed->scheme);
    uint64_t in = packed->cols, out = packed->rows, groups = packed->sizes.row_groups;
    const uint64_t codes[2] = {out, integers ? in / 8 + (in % 8 != 0) : in / 2}, scales[2] = {out, groups};
    const uint64_t zeros[2] = {out / 8 + (out % 8 != 0), groups};
    const int64_t shape[2] = {(int64_t)out, (int64_t)in};
    const int zero4 = packed->scheme.zero == QZ_ZERO_UINT4, super = packed->scheme.super_size != 0;
    const qz_element number = qz_foreign_element(packed->scheme.scale_dtype);
    const qz_foreign_member members[] = {
        {.suffix = "_packed", QZ_MEMBER_CODES, integers ? QZ_ELEMENT_I32 : QZ_ELEMENT_U8, 2, codes},
        {.suffix = "_scale", QZ_MEMBER_SCALES, number, 2, scales, .stored = qz_foreign_stored(&packed->scheme)},
        {.suffix = "_zero_point", QZ_MEMBER_ZEROS, zero4 ? QZ_ELEMENT_I32 : 0, 2, zeros},
        {.suffix = "_global_scale", QZ_MEMBER_SUPERS, super ? QZ_ELEMENT_F32 : 0, 1, &one},
        {.suffix = "_shape", QZ_MEMBER_HEADER, integers ? QZ_ELEMENT_I64 : 0, 1, &two, .data = shape},
    };
    return qz_foreign_declare(writer, name, name_length, packed, QZ_NAMES_WEIGHT, members,
                              sizeof members / sizeof members[0], error);
}

const qz_layout qz_layout_compressed_tensors = {
    .name = "compressed-tensors",
    .container = "safetensors",
    .recognize = recognize,
    .describe = qz_foreign_describe,
    .read = qz_foreign_read,
    .refuses = refuses,
    .declare = declare,
    .form = &form,
};
