/*
 * bitsandbytes.c - the layout of bitsandbytes' NF4 and FP4
 *
 *     W                                  uint8 [bytes, 1], two codes to a byte, the first in the high half
 *     W.absmax                           float32 [blocks]; nested: uint8
 *     W.quant_map                        float32 [16]
 *     W.nested_absmax, .nested_quant_map float32 [blocks of absmax], [256], of nested scales
 *     W.quant_state.bitsandbytes__nf4    uint8, a text in JSON (or __fp4)
 *
 * A block may continue in the next row. Blocks are groups of a row only if rows consist of whole blocks, or if there is
 * one row.
 */
#include "foreign.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../containers/json.h"
#include "../packed_list.h"

static const qz_form form = {.high_first = 1};
static const qz_form form_nested = {.high_first = 1, .scales = QZ_ORDER_ELSEWHERE};

enum { MAX_STATE = 1 << 16 };

/* What the text says. */
typedef struct state {
    uint64_t block, nested_block, shape[QZ_MAX_RANK];
    unsigned rank;
    int has_offset;
    float offset;
} state;

/* The numbers of nested scales: map[absmax] * nested_absmax + offset. */
typedef struct nested {
    size_t blocks; /* the tensor nested_absmax */
    uint64_t block;
    float offset, map[256];
} nested;

/* ---- the text ---- */

static int is_object_of(qz_json *json, state *s)
{
    char key[32];
    if (qz_json_next(json) != QZ_JSON_OBJECT)
        return 0;
    while (qz_json_next(json) == QZ_JSON_KEY) {
        snprintf(key, sizeof key, "%s", json->string);
        qz_json_kind kind = qz_json_next(json);
        if (strcmp(key, "blocksize") == 0 || strcmp(key, "nested_blocksize") == 0) {
            if (kind != QZ_JSON_NUMBER || qz_json_whole(json, key[0] == 'b' ? &s->block : &s->nested_block))
                return 0;
        } else if (strcmp(key, "nested_offset") == 0) {
            s->has_offset = kind == QZ_JSON_NUMBER;
            s->offset = s->has_offset ? (float)strtod(json->string, NULL) : 0;
        } else if (strcmp(key, "shape") == 0) {
            if (kind != QZ_JSON_ARRAY || s->rank != 0)
                return 0;
            while (qz_json_next(json) == QZ_JSON_NUMBER)
                if (s->rank == QZ_MAX_RANK || qz_json_whole(json, &s->shape[s->rank++]))
                    return 0;
        } else {
            qz_json_skip(json);
        }
    }
    return json->kind == QZ_JSON_OBJECT_END && qz_json_next(json) == QZ_JSON_END;
}

static qz_file_result read_state(qz_found *found, size_t text, state *s, qz_file_error *error)
{
    const qz_tensor *t = qz_tensor_at(found->file, text);
    *s = (state){0};
    if (t->element != QZ_ELEMENT_U8 || t->bytes > MAX_STATE) {
        qz_found_wrong(found, "has a quant_state that is no text");
        return QZ_FILE_OK;
    }
    char *copy = malloc((size_t)t->bytes + 1);
    if (!copy)
        return qz_fail_memory(error, found->file->input.label);
    qz_file_result result = qz_read(found->file, text, 0, t->bytes, copy, error);
    if (result == QZ_FILE_OK) {
        qz_json json;
        qz_json_begin(&json, copy, (size_t)t->bytes, 8);
        if (!is_object_of(&json, s) || s->rank == 0 || s->block == 0 || s->block > INT32_MAX)
            qz_found_wrong(found, "has a quant_state that does not say its shape and blocksize");
    }
    free(copy);
    return result;
}

/* ---- what lies beside it ---- */

/* The sixteen numbers of a scheme. */
static void table_of(const qz_scheme *scheme, float table[16])
{
    uint8_t codes[8] = {0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe};
    float one = 1.0f;
    qz_scheme plain = *scheme;
    plain.scale_dtype = QZ_F32;
    plain.group_size = 16;
    const qz_packed packed = {.codes = codes, .scales = &one, .code_stride = 8, .scale_stride = 4};
    const qz_matrix matrix = {table, QZ_F32, 1, 16, 16, 1};
    (void)qz_decode(&plain, &packed, &matrix, NULL, NULL); /* cannot fail with such arguments */
}

static const qz_element single[] = {QZ_ELEMENT_F32, (qz_element)0};

/* The sixteen numbers must be those that the codes have here. */
static qz_file_result check_table(qz_found *found, size_t map, const char *scheme, qz_file_error *error)
{
    static const uint64_t sixteen = 16;
    float table[16], ours[16];
    if (map == SIZE_MAX || !qz_found_is(found, map, single, 1, &sixteen))
        return QZ_FILE_OK;
    table_of(qz_scheme_by_name(scheme), ours);
    qz_file_result result = qz_read(found->file, map, 0, 16, table, error);
    for (int i = 0; i < 16 && result == QZ_FILE_OK; i++)
        if (!(table[i] == ours[i]))
            qz_found_wrong(found, "has a quant_map of other numbers than those of %s", scheme);
    return result;
}

static qz_file_result find_nested(qz_found *found, const state *s, uint64_t blocks, qz_file_error *error)
{
    static const uint64_t bytes = 256;
    size_t map = qz_found_sibling(found, ".nested_quant_map"), list = qz_found_sibling(found, ".nested_absmax");
    if (map == SIZE_MAX || list == SIZE_MAX || !s->has_offset || s->nested_block == 0) {
        qz_found_wrong(found, "has scales of a byte, but no nested_absmax, nested_quant_map and nested_offset");
        return QZ_FILE_OK;
    }
    uint64_t count = blocks / s->nested_block + (blocks % s->nested_block != 0);
    if (!qz_found_is(found, map, single, 1, &bytes) || !qz_found_is(found, list, single, 1, &count))
        return QZ_FILE_OK;
    nested *n = qz_arena_get(&found->file->arena, sizeof *n);
    if (!n)
        return qz_fail_memory(error, found->file->input.label);
    n->blocks = list;
    n->block = s->nested_block;
    n->offset = s->offset;
    found->is.more = n;
    found->is.form = &form_nested;
    qz_packed_hide(found->file, map);
    qz_packed_hide(found->file, list);
    return qz_read(found->file, map, 0, 256, n->map, error);
}

/* ---- nested scales ---- */

/* The scales of groups that follow one another. Each operation rounds to float32, as the program's do. */
static qz_file_result read_flat(qz_file *file, const nested *n, size_t tensor, uint64_t first, uint64_t count,
                                float *dst, qz_file_error *error)
{
    uint8_t piece[1024];
    float largest = 0;
    uint64_t have = UINT64_MAX;
    qz_file_result result = QZ_FILE_OK;
    for (uint64_t at = 0; at < count && result == QZ_FILE_OK; at += sizeof piece) {
        uint64_t some = count - at < sizeof piece ? count - at : sizeof piece;
        result = qz_read(file, tensor, first + at, some, piece, error);
        for (uint64_t i = 0; i < some && result == QZ_FILE_OK; i++) {
            uint64_t block = (first + at + i) / n->block;
            if (block != have)
                result = qz_read(file, n->blocks, have = block, 1, &largest, error);
            float product = n->map[piece[i]] * largest;
            dst[at + i] = product + n->offset;
        }
    }
    return result;
}

static qz_file_result read(qz_file *file, const qz_packed_tensor *packed, uint64_t row, uint64_t rows, uint64_t col,
                           uint64_t cols, const qz_packed *dst, qz_file_error *error)
{
    const qz_foreign *is = file->packed.entries[file->entries[packed->members[QZ_MEMBER_HEADER]].packed].details;
    uint64_t size = packed->scheme.group_size, groups = packed->sizes.row_groups;
    uint64_t first = size >= packed->cols ? 0 : col / size, count = 1;
    if (size < packed->cols)
        count = cols / size + (cols % size != 0);
    qz_file_result result = qz_foreign_read(file, packed, row, rows, col, cols, dst, error);
    for (uint64_t r = 0; is->more && cols != 0 && r < rows && result == QZ_FILE_OK; r++)
        result = read_flat(file, is->more, packed->members[QZ_MEMBER_SCALES], (row + r) * groups + first, count,
                           (float *)((char *)dst->scales + (int64_t)r * dst->scale_stride), error);
    return result;
}

/* ---- recognizing ---- */

static qz_file_result look(qz_found *found, size_t text, const char *scheme, qz_file_error *error)
{
    state s;
    size_t map = qz_found_sibling(found, ".quant_map");
    const qz_tensor *scales = qz_tensor_at(found->file, found->members[QZ_MEMBER_SCALES]);
    qz_file_result result = read_state(found, text, &s, error);
    if (result != QZ_FILE_OK)
        return result;
    uint64_t cols = s.rank != 0 ? s.shape[s.rank - 1] : 0, values = 1;
    for (unsigned i = 0; i < s.rank; i++)
        if (s.shape[i] != 0 && values > INT64_MAX / s.shape[i])
            qz_found_wrong(found, "has a shape that is too large");
        else
            values *= s.shape[i];
    if (found->is.wrong[0] == '\0' && cols % s.block != 0 && values != cols) {
        qz_found_remark(found, "tensors of bitsandbytes whose blocks run on from row to row are listed as they are");
        return QZ_FILE_OK;
    }
    found->is.form = &form;
    found->is.rank = s.rank != 0 ? s.rank : 1;
    memcpy(found->is.shape, s.shape, sizeof s.shape);
    qz_found_scheme(found, scheme, QZ_ELEMENT_F32, s.block != 0 ? s.block : 1);
    if (found->is.wrong[0] == '\0') {
        uint64_t blocks = values / s.block + (values % s.block != 0);
        const uint64_t bytes[2] = {values / 2 + values % 2, 1};
        int is_nested = scales->element == QZ_ELEMENT_U8;
        qz_found_is(found, found->members[QZ_MEMBER_CODES], qz_elements_byte, 2, bytes);
        qz_found_is(found, found->members[QZ_MEMBER_SCALES], is_nested ? qz_elements_byte : single, 1, &blocks);
        result = check_table(found, map, scheme, error);
        if (result == QZ_FILE_OK && is_nested && found->is.wrong[0] == '\0')
            result = find_nested(found, &s, blocks, error);
    }
    if (map != SIZE_MAX)
        qz_packed_hide(found->file, map);
    qz_packed_hide(found->file, text);
    return result == QZ_FILE_OK ? qz_found_note(found, "", error) : result;
}

static qz_file_result recognize(qz_file *file, qz_file_error *error)
{
    static const char *const ends[][2] = {{".quant_state.bitsandbytes__nf4", "nf4"},
                                          {".quant_state.bitsandbytes__fp4", "fp4_bnb"}};
    qz_file_result result = QZ_FILE_OK;
    qz_found found;
    for (size_t i = 0; i < 2 * qz_tensor_count(file) && result == QZ_FILE_OK; i++) {
        if (!qz_found_begin(&found, file, &qz_layout_bitsandbytes, i / 2, ends[i % 2][0]))
            continue;
        size_t codes = qz_found_sibling(&found, "");
        found.members[QZ_MEMBER_HEADER] = found.members[QZ_MEMBER_CODES] = codes;
        found.members[QZ_MEMBER_SCALES] = qz_found_sibling(&found, ".absmax");
        if (codes != SIZE_MAX && found.members[QZ_MEMBER_SCALES] != SIZE_MAX &&
            file->entries[codes].part == QZ_PART_NONE)
            result = look(&found, i / 2, ends[i % 2][1], error);
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
    if ((scheme->codes != QZ_NF4 && scheme->codes != QZ_FP4_BNB) || scheme->scale_dtype != QZ_F32)
        return "it has nf4 and fp4_bnb with scales of float32 only";
    if (group < 32 || group > 4096 || (group & (group - 1)) != 0)
        return "it has groups of 32, 64 and so on up to 4096 only";
    if (rank == 0)
        return NULL;
    int single_row = 1;
    for (unsigned i = 0; i + 1 < rank; i++)
        single_row &= shape[i] == 1;
    if (axis != rank - 1 || (shape[rank - 1] % group != 0 && !single_row))
        return "it has rows of whole groups along the last axis only";
    return NULL;
}

/* The text that says what the tensor is. */
static size_t state_text(const qz_packed_tensor *packed, char *out, size_t room)
{
    size_t n = (size_t)snprintf(
        out, room, "{\"quant_type\": \"%s\", \"blocksize\": %" PRIu64 ", \"dtype\": \"float32\", \"shape\": [",
        packed->scheme.codes == QZ_NF4 ? "nf4" : "fp4", packed->scheme.group_size);
    for (unsigned i = 0; i < packed->rank && n < room; i++)
        n += (size_t)snprintf(out + n, room - n, "%s%" PRIu64, i != 0 ? ", " : "", packed->shape[i]);
    if (n < room)
        n += (size_t)snprintf(out + n, room - n, "]}");
    return n < room ? n : room - 1;
}

static qz_file_result declare(qz_writer *writer, const char *name, size_t name_length, qz_packed_tensor *packed,
                              qz_file_error *error)
{
    char text[160 + 24 * QZ_MAX_RANK];
    static const uint64_t sixteen = 16;
    int nf4 = packed->scheme.codes == QZ_NF4;
    uint64_t blocks = packed->rows * packed->sizes.row_groups, values = packed->rows * packed->cols;
    const uint64_t codes[2] = {values / 2 + values % 2, 1}, length = state_text(packed, text, sizeof text);
    float table[16];
    table_of(&packed->scheme, table);
    const qz_foreign_member members[] = {
        {.suffix = "", QZ_MEMBER_CODES, QZ_ELEMENT_U8, 2, codes},
        {.suffix = ".absmax", QZ_MEMBER_SCALES, QZ_ELEMENT_F32, 1, &blocks},
        {.suffix = ".quant_map", QZ_MEMBER_HEADER, QZ_ELEMENT_F32, 1, &sixteen, .data = table},
        {.suffix = nf4 ? ".quant_state.bitsandbytes__nf4" : ".quant_state.bitsandbytes__fp4",
         QZ_MEMBER_HEADER,
         QZ_ELEMENT_U8,
         1,
         &length,
         .data = text},
    };
    return qz_foreign_declare(writer, name, name_length, packed, QZ_NAMES_ANY, members,
                              sizeof members / sizeof members[0], error);
}

const qz_layout qz_layout_bitsandbytes = {
    .name = "bitsandbytes",
    .container = "safetensors",
    .recognize = recognize,
    .describe = qz_foreign_describe,
    .read = read,
    .refuses = refuses,
    .declare = declare,
    .form = &form,
};
