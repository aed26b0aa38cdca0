/*
 * mlx.c - the layouts of MLX: affine, mxfp4 and nvfp4
 *
 *     MODULE.weight        uint32 [..., in / 8], words of eight inputs
 *     MODULE.scales        float [..., groups]; uint8 of mxfp4 (E8M0) and nvfp4 (E4M3)
 *     MODULE.biases        as scales, of affine: the value of code 0
 *     MODULE.global_scale  float32 [1], nvfp4 may have it: the largest magnitude of the tensor
 */
#include "foreign.h"

#include <string.h>

static const qz_form form = {.super = QZ_SUPER_LARGEST};

/* ---- reading ---- */

/* What a tensor may be: by the mode, and the words that a group fills. */
typedef struct kind {
    const char *mode, *scheme;
    uint64_t group; /* 0: any */
} kind;

static const kind kinds[] = {{"affine", "uint4_offset", 0}, {"mxfp4", "mxfp4", 32}, {"nvfp4", "nvfp4", 16}};

static const kind *kind_named(const char *mode)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].mode, mode) == 0)
            return &kinds[i];
    return NULL;
}

/* The kind by what is said, or by the number of words in a group where numbers of a byte leave but one; NULL if it is
 * another, or open. *group becomes the size of a group. */
static const kind *kind_of(const qz_found *found, const qz_config_words *said, uint64_t words, uint64_t groups,
                           uint64_t *group)
{
    int floats = found->members[QZ_MEMBER_ZEROS] == SIZE_MAX;
    const kind *of = said->mode[0] != '\0' ? kind_named(said->mode) : floats ? NULL : &kinds[0];
    if (!of && floats && said->mode[0] == '\0' && groups != 0 && words % groups == 0)
        of = words / groups == 4 ? &kinds[1] : words / groups == 2 ? &kinds[2] : NULL;
    if (!of || floats != (of->group != 0) || (said->bits != 0 && said->bits != 4))
        return NULL;
    *group = of->group != 0 ? of->group : said->bits != 0 && said->group_size != 0 ? said->group_size : 0;
    return *group != 0 ? of : NULL;
}

static void check(qz_found *found, const kind *of, uint64_t group)
{
    static const qz_element words[] = {QZ_ELEMENT_U32, (qz_element)0};
    static const qz_element single[] = {QZ_ELEMENT_F32, (qz_element)0};
    const qz_tensor *codes = qz_tensor_at(found->file, found->members[QZ_MEMBER_CODES]);
    const qz_tensor *scales = qz_tensor_at(found->file, found->members[QZ_MEMBER_SCALES]);
    const qz_tensor *super = qz_tensor_at(found->file, found->members[QZ_MEMBER_SUPERS]);
    unsigned rank = codes->rank;
    uint64_t shape[QZ_MAX_RANK];
    const qz_element as_scales[] = {scales->element, (qz_element)0};
    memcpy(shape, codes->shape, rank * sizeof *shape);
    memcpy(found->is.shape, codes->shape, rank * sizeof *shape);
    if (shape[rank - 1] > INT64_MAX / 8 || group >= UINT64_MAX / 2) {
        qz_found_wrong(found, "has rows or groups that are too long");
        return;
    }
    found->is.form = &form;
    found->is.rank = rank;
    found->is.shape[rank - 1] *= 8;
    shape[rank - 1] = found->is.shape[rank - 1] / group;
    qz_found_scheme(found, of->scheme, scales->element, group);
    if (found->is.shape[rank - 1] % group != 0)
        qz_found_wrong(found, "has rows that are not of whole groups");
    qz_found_is(found, found->members[QZ_MEMBER_CODES], words, rank, codes->shape);
    qz_found_is(found, found->members[QZ_MEMBER_SCALES], of->group != 0 ? qz_elements_byte : qz_elements_float, rank,
                shape);
    if (of->group == 0)
        qz_found_is(found, found->members[QZ_MEMBER_ZEROS], as_scales, rank, shape);
    if (!super && of->group == 16)
        found->is.scheme.super_dtype = (qz_dtype)0, found->is.scheme.super_size = 0;
    else if (super && (of->group != 16 || super->count != 1))
        qz_found_wrong(found, "has a global scale that does not belong to such a tensor");
    if (super)
        qz_found_is(found, found->members[QZ_MEMBER_SUPERS], single, super->rank, super->shape);
}

static qz_file_result look(qz_found *found, qz_file_error *error)
{
    const qz_config *config = qz_config_of(found->file);
    const qz_tensor *codes = qz_tensor_at(found->file, found->members[QZ_MEMBER_CODES]);
    const qz_tensor *scales = qz_tensor_at(found->file, found->members[QZ_MEMBER_SCALES]);
    uint64_t group = 0;
    if (!config)
        return qz_fail_memory(error, found->file->input.label);
    if (codes->rank < 2 || scales->rank != codes->rank)
        return QZ_FILE_OK;
    const qz_config_words *said = qz_config_module_words(config, found->base, found->base_length);
    uint64_t words = codes->shape[codes->rank - 1], groups = scales->shape[codes->rank - 1];
    const kind *of = kind_of(found, said, words, groups, &group);
    if (!of) {
        if (said->bits == 0)
            qz_found_remark(found, "tensors of MLX are listed as they are, for no config.json beside the file says how "
                                   "many bits and numbers their groups have");
        return QZ_FILE_OK;
    }
    check(found, of, group);
    return qz_found_note(found, ".weight", error);
}

static qz_file_result recognize(qz_file *file, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    qz_found found;
    for (size_t i = 0; i < qz_tensor_count(file) && result == QZ_FILE_OK; i++) {
        if (!qz_found_begin(&found, file, &qz_layout_mlx, i, ".weight") ||
            qz_tensor_at(file, i)->element != QZ_ELEMENT_U32)
            continue;
        found.members[QZ_MEMBER_SCALES] = qz_found_sibling(&found, ".scales");
        found.members[QZ_MEMBER_ZEROS] = qz_found_sibling(&found, ".biases");
        found.members[QZ_MEMBER_SUPERS] = qz_found_sibling(&found, ".global_scale");
        if (found.members[QZ_MEMBER_SCALES] != SIZE_MAX)
            result = look(&found, error);
    }
    return result;
}

/* ---- writing ---- */

static const char *refuses(const qz_scheme *scheme, unsigned rank, const uint64_t *shape, unsigned axis, char *out,
                           size_t out_size)
{
    (void)out;
    (void)out_size;
    uint64_t group = scheme->group_size;
    int affine = scheme->codes == QZ_UINT4 && scheme->zero == QZ_ZERO_OFFSET && scheme->super_size == 0;
    int mxfp4 = scheme->codes == QZ_FP4 && scheme->scale_dtype == QZ_E8M0 && group == 32;
    int nvfp4 = scheme->codes == QZ_FP4 && scheme->scale_dtype == QZ_E4M3 && group == 16 &&
                (scheme->super_size == 0 || (scheme->super_size == QZ_WHOLE_MATRIX && scheme->super_dtype == QZ_F32));
    if (!affine && !mxfp4 && !nvfp4)
        return "it has uint4 with offsets, mxfp4 and nvfp4 only";
    if (affine && group != 32 && group != 64 && group != 128)
        return "it has groups of 32, 64 and 128 only";
    if (rank != 0 && (rank < 2 || axis != rank - 1 || shape[rank - 1] % group != 0))
        return "it has whole groups along the last of several axes only";
    return NULL;
}

static qz_file_result declare(qz_writer *writer, const char *name, size_t name_length, qz_packed_tensor *packed,
                              qz_file_error *error)
{
    static const uint64_t one = 1;
    uint64_t codes[QZ_MAX_RANK], scales[QZ_MAX_RANK];
    unsigned rank = packed->rank;
    memcpy(codes, packed->shape, rank * sizeof *codes);
    memcpy(scales, packed->shape, rank * sizeof *scales);
    codes[rank - 1] /= 8;
    scales[rank - 1] = packed->sizes.row_groups;
    const int offsets = packed->scheme.zero == QZ_ZERO_OFFSET, super = packed->scheme.super_size != 0;
    const qz_element number = qz_foreign_element(packed->scheme.scale_dtype);
    const qz_foreign_member members[] = {
        {.suffix = ".weight", QZ_MEMBER_CODES, QZ_ELEMENT_U32, rank, codes},
        {.suffix = ".scales", QZ_MEMBER_SCALES, number, rank, scales},
        {.suffix = ".biases", QZ_MEMBER_ZEROS, offsets ? number : 0, rank, scales},
        {.suffix = ".global_scale", QZ_MEMBER_SUPERS, super ? QZ_ELEMENT_F32 : 0, 1, &one},
    };
    return qz_foreign_declare(writer, name, name_length, packed, QZ_NAMES_MODULE, members,
                              sizeof members / sizeof members[0], error);
}

const qz_layout qz_layout_mlx = {
    .name = "mlx",
    .container = "safetensors",
    .recognize = recognize,
    .describe = qz_foreign_describe,
    .read = qz_foreign_read,
    .refuses = refuses,
    .declare = declare,
    .form = &form,
};
