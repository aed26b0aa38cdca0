/*
 * halves.c - the layouts of HQQ and optimum-quanto, where a byte has codes of two groups; they are only read
 *
 *     MODULE.W_q           uint8 [groups / 2, in a group]    MODULE.weight._data._data  uint8 [groups / 2, in a group]
 *     MODULE.scale, .zero  float [groups, 1]                 MODULE.weight._scale, ._shift  float [groups, 1]
 *     MODULE.shape         int64 [2], and other words        (the shape is not in the file)
 *
 * The groups of all rows follow one another. In HQQ, a byte has a code of a group of the first half in its high nibble,
 * and one of a group of the second half in its low nibble; in quanto it is the other way round. A value is (code -
 * zero) * scale in HQQ, and code * scale - shift in quanto.
 */
#include "foreign.h"

#include <inttypes.h>
#include <string.h>

#include "../packed_list.h"

static const qz_form form_hqq = {.codes = QZ_ORDER_HALVES, .high_first = 1};
static const qz_form form_quanto = {.codes = QZ_ORDER_HALVES, .zeros_negated = 1};

/* ---- what both have ---- */

/* Whether scales and zeros are a number for each group; the scheme follows from them. */
static void check_groups(qz_found *found, const char *scheme, uint64_t groups, uint64_t size)
{
    const qz_tensor *scales = qz_tensor_at(found->file, found->members[QZ_MEMBER_SCALES]);
    const qz_element as_scales[] = {scales->element, (qz_element)0};
    const uint64_t each[2] = {groups, 1};
    qz_found_scheme(found, scheme, scales->element, size);
    qz_found_is(found, found->members[QZ_MEMBER_SCALES], qz_elements_float, 2, each);
    qz_found_is(found, found->members[QZ_MEMBER_ZEROS], as_scales, 2, each);
}

/* Makes it a matrix of rows of whole groups. */
static void set_shape(qz_found *found, uint64_t rows, uint64_t cols)
{
    found->is.rank = 2;
    found->is.shape[0] = rows;
    found->is.shape[1] = cols;
}

/* Whether a tensor is a matrix of bytes that is not too large. */
static int is_bytes(const qz_tensor *t)
{
    return t->element == QZ_ELEMENT_U8 && t->rank == 2 && t->shape[0] < INT64_MAX / 2 && t->shape[1] != 0 &&
           t->bytes < INT64_MAX / 4;
}

/* ---- HQQ ---- */

/* A word of a module: an integer, or `otherwise` if there is none. */
static qz_file_result read_word(qz_found *found, const char *suffix, int64_t otherwise, int64_t *word,
                                qz_file_error *error)
{
    size_t i = qz_found_sibling(found, suffix);
    const qz_tensor *t = i != SIZE_MAX ? qz_tensor_at(found->file, i) : NULL;
    int32_t wide = 0;
    uint8_t byte = 0;
    *word = otherwise;
    if (!t || t->count != 1 || (t->element != QZ_ELEMENT_I32 && t->element != QZ_ELEMENT_U8))
        return QZ_FILE_OK;
    int is_wide = t->element == QZ_ELEMENT_I32;
    qz_file_result result = qz_read(found->file, i, 0, 1, is_wide ? (void *)&wide : &byte, error);
    *word = is_wide ? wide : byte;
    return result;
}

static qz_file_result read_shape(qz_found *found, size_t i, int64_t shape[2], qz_file_error *error)
{
    static const qz_element words[] = {QZ_ELEMENT_I64, (qz_element)0};
    static const uint64_t two = 2;
    return qz_found_is(found, i, words, 1, &two) ? qz_read(found->file, i, 0, 2, shape, error) : QZ_FILE_OK;
}

/* Whether the codes are those of a matrix of this shape in groups of `size`. */
static void check_hqq(qz_found *found, const int64_t shape[2], uint64_t size)
{
    const qz_tensor *codes = qz_tensor_at(found->file, found->members[QZ_MEMBER_CODES]);
    uint64_t rows = (uint64_t)shape[0], cols = (uint64_t)shape[1], groups = 2 * codes->shape[0];
    if (shape[0] < 0 || shape[1] <= 0 || cols > INT64_MAX / 2 || cols % size != 0 || rows > groups ||
        rows * (cols / size) != groups) {
        qz_found_wrong(found, "has %" PRIu64 " groups of %" PRIu64 ", which do not make the rows of its shape", groups,
                       size);
        return;
    }
    set_shape(found, rows, cols);
    check_groups(found, "uint4_float", groups, size);
}

/* The words of a module that say no more than was looked at. */
static void hide_words(const qz_found *found)
{
    static const char *const words[] = {".nbits",
                                        ".group_size",
                                        ".shape",
                                        ".axis",
                                        ".packing",
                                        ".channel_wise",
                                        ".optimize",
                                        ".round_zero",
                                        ".quant_scale",
                                        ".quant_zero",
                                        ".view_as_float",
                                        ".offload_meta",
                                        ".compute_dtype",
                                        ".unpack_view_dtype",
                                        ".encoded_state_dict",
                                        ".stores_quant_config"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t word = qz_found_sibling(found, words[i]);
        if (word != SIZE_MAX)
            qz_packed_hide(found->file, word);
    }
}

static qz_file_result look_hqq(qz_found *found, size_t list, qz_file_error *error)
{
    const qz_tensor *codes = qz_tensor_at(found->file, found->members[QZ_MEMBER_CODES]);
    int64_t bits, axis, disguised, shape[2] = {0, 0};
    qz_file_result result = read_word(found, ".nbits", 0, &bits, error);
    if (result == QZ_FILE_OK)
        result = read_word(found, ".axis", 1, &axis, error);
    if (result == QZ_FILE_OK)
        result = read_word(found, ".view_as_float", 0, &disguised, error);
    if (result != QZ_FILE_OK || bits != 4)
        return result;
    if (axis != 1 || disguised != 0 || !is_bytes(codes)) {
        qz_found_remark(found,
                        "tensors of HQQ with axis 0, or whose codes are viewed as floats, are listed as they are");
        return QZ_FILE_OK;
    }
    result = read_shape(found, list, shape, error);
    if (result != QZ_FILE_OK)
        return result;
    found->is.form = &form_hqq;
    if (found->is.wrong[0] == '\0')
        check_hqq(found, shape, codes->shape[1]);
    hide_words(found);
    return qz_found_note(found, ".weight", error);
}

static qz_file_result recognize_hqq(qz_file *file, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    qz_found found;
    for (size_t i = 0; i < qz_tensor_count(file) && result == QZ_FILE_OK; i++) {
        if (!qz_found_begin(&found, file, &qz_layout_hqq, i, ".W_q"))
            continue;
        size_t shape = qz_found_sibling(&found, ".shape");
        found.members[QZ_MEMBER_SCALES] = qz_found_sibling(&found, ".scale");
        found.members[QZ_MEMBER_ZEROS] = qz_found_sibling(&found, ".zero");
        if (shape != SIZE_MAX && found.members[QZ_MEMBER_SCALES] != SIZE_MAX &&
            found.members[QZ_MEMBER_ZEROS] != SIZE_MAX)
            result = look_hqq(&found, shape, error);
    }
    return result;
}

/* ---- quanto ---- */

/* The shape is not in the file: a bias has a number for each row, and without one each group is a row. */
static void look_quanto(qz_found *found)
{
    const qz_tensor *codes = qz_tensor_at(found->file, found->members[QZ_MEMBER_CODES]);
    const qz_tensor *scales = qz_tensor_at(found->file, found->members[QZ_MEMBER_SCALES]);
    size_t i = qz_found_sibling(found, ".bias");
    const qz_tensor *bias = i != SIZE_MAX ? qz_tensor_at(found->file, i) : NULL;
    uint64_t size = codes->shape[1], groups = scales->rank == 2 ? scales->shape[0] : 0, rows = groups;
    if (groups / 2 + groups % 2 != codes->shape[0]) {
        qz_found_wrong(found, "has codes of %" PRIu64 " groups, and scales of %" PRIu64, 2 * codes->shape[0], groups);
        return;
    }
    if (bias && bias->rank == 1 && bias->count != 0 && groups % bias->count == 0)
        rows = bias->count;
    else if (size <= 128 && size % 32 == 0) /* the sizes that quanto chooses */
        qz_found_remark(found,
                        "tensors of quanto without a bias have a row for each group, since their shape is not in "
                        "the file");
    found->is.form = &form_quanto;
    set_shape(found, rows, rows != 0 ? groups / rows * size : size);
    check_groups(found, "uint4_offset", groups, size);
}

static qz_file_result recognize_quanto(qz_file *file, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    qz_found found;
    for (size_t i = 0; i < qz_tensor_count(file) && result == QZ_FILE_OK; i++) {
        if (!qz_found_begin(&found, file, &qz_layout_quanto, i, ".weight._data._data") ||
            !is_bytes(qz_tensor_at(file, i)))
            continue;
        found.members[QZ_MEMBER_SCALES] = qz_found_sibling(&found, ".weight._scale");
        found.members[QZ_MEMBER_ZEROS] = qz_found_sibling(&found, ".weight._shift");
        if (found.members[QZ_MEMBER_SCALES] == SIZE_MAX || found.members[QZ_MEMBER_ZEROS] == SIZE_MAX)
            continue;
        look_quanto(&found);
        result = qz_found_note(&found, ".weight", error);
    }
    return result;
}

const qz_layout qz_layout_hqq = {
    .name = "hqq",
    .container = "safetensors",
    .recognize = recognize_hqq,
    .describe = qz_foreign_describe,
    .read = qz_foreign_read,
};

const qz_layout qz_layout_quanto = {
    .name = "quanto",
    .container = "safetensors",
    .recognize = recognize_quanto,
    .describe = qz_foreign_describe,
    .read = qz_foreign_read,
};
