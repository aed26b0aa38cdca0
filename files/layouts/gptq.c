/*
 * gptq.c - the layouts of GPTQ and AWQ checkpoints, whose matrices are transposed: inputs are rows
 *
 *     MODULE.qweight   int32   GPTQ [in / 8, out]: a word holds eight inputs of an output
 *                              AWQ  [in, out / 8]: a word holds eight outputs of an input, 0 2 4 6 1 3 5 7
 *     MODULE.qzeros    int32   [groups, out / 8], words of eight outputs; AWQ in the same order. GPTQ before version 2
 *                              stores them less one
 *     MODULE.scales    float   [groups, out]
 *     MODULE.g_idx     int32   [in], GPTQ: the group of each input
 */
#include "shuffled.h"

#include <stdlib.h>
#include <string.h>

#include "../packed_list.h"

static const qz_form form_v1 = {
    .codes = QZ_ORDER_DOWN, .scales = QZ_ORDER_ACROSS, .zeros = QZ_ORDER_ACROSS, .zeros_less_one = 1};
static const qz_form form_v2 = {.codes = QZ_ORDER_DOWN, .scales = QZ_ORDER_ACROSS, .zeros = QZ_ORDER_ACROSS};
static const qz_form form_awq = {
    .codes = QZ_ORDER_ACROSS, .scales = QZ_ORDER_ACROSS, .zeros = QZ_ORDER_ACROSS, .evens_first = 1};

/* ---- reading ---- */

/* What the words hold follows from what lies beside them. */
typedef struct sizes {
    uint64_t in, out, groups;
    int awq;
    int known; /* 0: not of 4 bits */
} sizes;

static sizes sizes_of(const qz_found *found)
{
    const qz_tensor *codes = qz_tensor_at(found->file, found->members[QZ_MEMBER_CODES]);
    const qz_tensor *scales = qz_tensor_at(found->file, found->members[QZ_MEMBER_SCALES]);
    const qz_tensor *zeros = qz_tensor_at(found->file, found->members[QZ_MEMBER_ZEROS]);
    sizes s = {.known = 1};
    if (codes->rank != 2 || scales->rank != 2)
        return s;
    s.groups = scales->shape[0];
    s.out = scales->shape[1];
    s.awq = codes->shape[1] != s.out && codes->shape[1] == s.out / 8;
    s.in = s.awq ? codes->shape[0] : codes->shape[0] * 8;
    static const unsigned others[] = {2, 3, 8}; /* bits */
    for (int i = 0; i < 3 && zeros->rank == 2 && s.out != 0 && s.out < UINT64_MAX / 8; i++)
        if (zeros->shape[1] == s.out * others[i] / 32 && zeros->shape[1] != s.out / 8)
            s.known = 0;
    return s;
}

static void check(qz_found *found, const sizes *s)
{
    const uint64_t codes[2] = {s->awq ? s->in : s->in / 8, s->awq ? s->out / 8 : s->out};
    const uint64_t zeros[2] = {s->groups, s->out / 8}, scales[2] = {s->groups, s->out};
    if (qz_tensor_at(found->file, found->members[QZ_MEMBER_CODES])->rank != 2)
        qz_found_wrong(found, "has a .qweight that is no matrix");
    if (s->in > UINT64_MAX / 8 || s->out % 8 != 0)
        qz_found_wrong(found, "has outputs that fill no words of eight");
    qz_found_is(found, found->members[QZ_MEMBER_CODES], qz_elements_i32, 2, codes);
    qz_found_is(found, found->members[QZ_MEMBER_SCALES], qz_elements_float, 2, scales);
    qz_found_is(found, found->members[QZ_MEMBER_ZEROS], qz_elements_i32, 2, zeros);
}

/* The form of the file by what is said beside it; NULL if that leaves it open. */
static const qz_form *form_by(const qz_config *config, const sizes *s)
{
    if (s->awq)
        return &form_awq;
    int said = config->where[0] != '\0' && config->wrong[0] == '\0' && strcmp(config->method, "awq") != 0;
    if (said && strcmp(config->format, "gptq_v2") == 0)
        return &form_v2;
    return said && (config->format[0] == '\0' || strcmp(config->format, "gptq") == 0) ? &form_v1 : NULL;
}

static qz_file_result look(qz_found *found, const qz_config *config, qz_file_error *error)
{
    size_t list = qz_found_sibling(found, ".g_idx");
    sizes s = sizes_of(found);
    if (!s.known)
        return QZ_FILE_OK;
    found->is.form = form_by(config, &s);
    if (!found->is.form) {
        qz_found_remark(found, "GPTQ tensors are listed as they are, for no config.json or quantize_config.json beside "
                               "the file says by checkpoint_format whether zeros are stored less one");
        return QZ_FILE_OK;
    }
    const qz_tensor *scales = qz_tensor_at(found->file, found->members[QZ_MEMBER_SCALES]);
    qz_found_scheme(found, "uint4", scales->element, 1);
    check(found, &s);
    qz_found_groups(found, s.in, s.groups, config->words.group_size);
    found->is.rank = 2;
    found->is.shape[0] = s.out;
    found->is.shape[1] = s.in;
    found->layout = s.awq ? &qz_layout_awq : found->is.form == &form_v2 ? &qz_layout_gptq_v2 : &qz_layout_gptq;
    return qz_shuffled_note(found, list, ".weight", error);
}

/* Of the three layouts at once: what lies beside a tensor says which one it is. */
static qz_file_result recognize(qz_file *file, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    qz_found found;
    for (size_t i = 0; i < qz_tensor_count(file) && result == QZ_FILE_OK; i++) {
        if (!qz_found_begin(&found, file, &qz_layout_gptq, i, ".qweight"))
            continue;
        found.members[QZ_MEMBER_SCALES] = qz_found_sibling(&found, ".scales");
        found.members[QZ_MEMBER_ZEROS] = qz_found_sibling(&found, ".qzeros");
        if (found.members[QZ_MEMBER_SCALES] == SIZE_MAX || found.members[QZ_MEMBER_ZEROS] == SIZE_MAX) {
            qz_found_remark(&found, "tensors called .qweight without .scales and .qzeros beside them are listed as "
                                    "they are");
            continue;
        }
        const qz_config *config = qz_config_of(file);
        result = config ? look(&found, config, error) : qz_fail_memory(error, file->input.label);
    }
    return result;
}

/* ---- writing ---- */

static const char *refuses(const qz_scheme *scheme, unsigned rank, const uint64_t *shape, unsigned axis, char *out,
                           size_t out_size)
{
    (void)out;
    (void)out_size;
    if (scheme->codes != QZ_INT4 && (scheme->codes != QZ_UINT4 || scheme->zero != QZ_ZERO_UINT4))
        return "it has codes of int4, or of uint4 with 4-bit zeros, only";
    if (qz_foreign_element(scheme->scale_dtype) == QZ_ELEMENT_U8)
        return "it has scales of float16, bfloat16 and float32 only";
    if (rank == 0)
        return NULL;
    if (rank != 2 || axis != 1)
        return "it has matrices with groups along the last axis only";
    if (shape[0] % 8 != 0 || shape[1] % 8 != 0 || shape[0] == 0 || shape[1] == 0)
        return "it has multiples of eight rows and columns only";
    if (scheme->group_size < shape[1] && shape[1] % scheme->group_size != 0)
        return "it has no groups that are shorter than the others";
    return NULL;
}

/* The group of each input, in order, which programs look for; NULL without memory. */
static int32_t *list_groups(const qz_packed_tensor *packed)
{
    int32_t *list = packed->cols < SIZE_MAX / sizeof *list ? malloc((size_t)packed->cols * sizeof *list) : NULL;
    for (uint64_t i = 0; i < packed->cols && list; i++)
        list[i] = (int32_t)(i / packed->scheme.group_size);
    return list;
}

static qz_file_result declare(qz_writer *writer, const char *name, size_t name_length, qz_packed_tensor *packed,
                              qz_file_error *error)
{
    int awq = strcmp(packed->layout, "awq") == 0;
    uint64_t in = packed->cols, out = packed->rows, groups = packed->sizes.row_groups;
    const uint64_t codes[2] = {awq ? in : in / 8, awq ? out / 8 : out};
    const uint64_t zeros[2] = {groups, out / 8}, scales[2] = {groups, out};
    int32_t *list = awq ? NULL : list_groups(packed);
    if (!awq && !list)
        return qz_fail_memory(error, writer->output.label);
    const qz_element number = qz_foreign_element(packed->scheme.scale_dtype);
    const qz_foreign_member members[] = {
        {.suffix = ".qweight", QZ_MEMBER_CODES, QZ_ELEMENT_I32, 2, codes},
        {.suffix = ".qzeros", QZ_MEMBER_ZEROS, QZ_ELEMENT_I32, 2, zeros},
        {.suffix = ".scales", QZ_MEMBER_SCALES, number, 2, scales},
        {.suffix = ".g_idx", QZ_MEMBER_HEADER, awq ? 0 : QZ_ELEMENT_I32, 1, &packed->cols, .data = list},
    };
    qz_file_result result = qz_foreign_declare(writer, name, name_length, packed, QZ_NAMES_MODULE, members,
                                               sizeof members / sizeof members[0], error);
    free(list);
    return result;
}

const qz_layout qz_layout_gptq = {
    .name = "gptq",
    .container = "safetensors",
    .is_across = 1,
    .recognize = recognize,
    .describe = qz_foreign_describe,
    .read = qz_foreign_read,
    .refuses = refuses,
    .declare = declare,
    .form = &form_v1,
};

const qz_layout qz_layout_gptq_v2 = {
    .name = "gptq_v2",
    .container = "safetensors",
    .is_across = 1,
    .describe = qz_foreign_describe,
    .read = qz_foreign_read,
    .refuses = refuses,
    .declare = declare,
    .form = &form_v2,
};

const qz_layout qz_layout_awq = {
    .name = "awq",
    .container = "safetensors",
    .is_across = 1,
    .describe = qz_foreign_describe,
    .read = qz_foreign_read,
    .refuses = refuses,
    .declare = declare,
    .form = &form_awq,
};
