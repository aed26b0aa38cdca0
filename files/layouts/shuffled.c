/*
 * shuffled.c - decodes quantized tensors that no scheme describes, as they are read
 *
 * If columns belong to groups in any order, the codes are put into the order of their groups, which gives an ordinary
 * quantized matrix. Its columns are decoded and then put back into their places. If numbers are added to the values of
 * signed codes, these numbers are decoded as the scales of codes that are all 1, and added.
 */
#include "shuffled.h"

#include <stdlib.h>
#include <string.h>

#include "../packed_list.h"

enum { VALUES = 1 << 18 }; /* that are decoded at a time, but for a row that is longer */

typedef struct shuffled {
    const qz_form *form;
    qz_packed_tensor packed;
    const uint32_t *order; /* the columns, group after group; NULL: as they are, and codes are signed */
} shuffled;

/* ---- the order ---- */

static qz_file_result read_groups(qz_file *file, size_t list, uint64_t cols, int32_t **groups, qz_file_error *error)
{
    *groups = malloc((size_t)cols * sizeof **groups + 1); /* as many are in the file */
    if (!*groups)
        return qz_fail_memory(error, file->input.label);
    qz_file_result result = qz_read(file, list, 0, cols, *groups, error);
    if (result != QZ_FILE_OK) {
        free(*groups);
        *groups = NULL;
    }
    return result;
}

/* Sorts the columns by their groups; 0 if these are not all of `size` columns. */
static int sort_columns(const int32_t *groups, uint64_t cols, uint64_t size, uint32_t *order)
{
    uint64_t count = cols / size;
    uint32_t *next = calloc((size_t)count + 1, sizeof *next);
    int fits = next != NULL;
    for (uint64_t c = 0; c < cols && fits; c++) {
        uint64_t g = (uint64_t)groups[c];
        fits = groups[c] >= 0 && g < count && next[g] < size;
        if (fits)
            order[g * size + next[g]++] = (uint32_t)c;
    }
    free(next);
    return fits;
}

/* ---- reading ---- */

/* Memory for some rows. */
typedef struct room {
    qz_packed plain;
    uint8_t *sorted; /* codes */
    float *values, *row, *added;
} room;

static int get_room(const shuffled *of, uint64_t rows, room *r)
{
    const qz_packed_tensor *p = &of->packed;
    const qz_sizes *s = &p->sizes;
    *r = (room){.plain = {.code_stride = (int64_t)s->code_bytes,
                          .scale_stride = (int64_t)s->scale_bytes,
                          .zero_stride = (int64_t)s->zero_bytes}};
    r->plain.codes = malloc((size_t)(rows * s->code_bytes) + 1);
    r->plain.scales = malloc((size_t)(rows * s->scale_bytes) + 1);
    r->plain.zeros = malloc((size_t)(rows * s->zero_bytes) + 1);
    r->sorted = malloc((size_t)(rows * s->code_bytes) + 1);
    r->values = malloc((size_t)(rows * p->cols) * sizeof(float) + 1);
    r->row = malloc((size_t)p->cols * sizeof(float) + 1);
    r->added = malloc((size_t)(of->order ? 0 : rows * p->cols) * sizeof(float) + 1);
    return r->plain.codes && r->plain.scales && r->plain.zeros && r->sorted && r->values && r->row && r->added;
}

static void free_room(room *r)
{
    free(r->plain.codes);
    free(r->plain.scales);
    free(r->plain.zeros);
    free(r->sorted);
    free(r->values);
    free(r->row);
    free(r->added);
}

static void sort_codes(const shuffled *s, uint64_t rows, room *r)
{
    size_t bytes = (size_t)s->packed.sizes.code_bytes;
    memset(r->sorted, 0, (size_t)rows * bytes);
    for (uint64_t row = 0; row < rows; row++) {
        const uint8_t *from = (const uint8_t *)r->plain.codes + row * bytes;
        uint8_t *to = r->sorted + row * bytes;
        for (uint64_t i = 0; i < s->packed.cols; i++) {
            uint32_t c = s->order[i];
            to[i / 2] |= (uint8_t)((from[c / 2] >> (c % 2 * 4) & 15) << (i % 2 * 4));
        }
    }
}

/* Signed codes times scales, and what is added. */
static qz_file_result decode_added(qz_file *file, const shuffled *s, uint64_t rows, room *r, qz_file_error *error)
{
    uint64_t cols = s->packed.cols;
    qz_scheme scheme = *qz_scheme_by_name("int4");
    scheme.group_size = s->packed.scheme.group_size;
    scheme.scale_dtype = s->packed.scheme.scale_dtype;
    qz_packed codes = r->plain, ones = r->plain;
    const qz_matrix values = {r->values, QZ_F32, rows, cols, (int64_t)cols, 1};
    const qz_matrix added = {r->added, QZ_F32, rows, cols, (int64_t)cols, 1};
    memset(r->sorted, 0x11, (size_t)(rows * s->packed.sizes.code_bytes));
    ones.codes = r->sorted;
    ones.scales = r->plain.zeros;
    ones.scale_stride = r->plain.zero_stride;
    codes.zeros = ones.zeros = NULL;
    if (qz_decode(&scheme, &codes, &values, NULL, NULL) != QZ_OK ||
        qz_decode(&scheme, &ones, &added, NULL, NULL) != QZ_OK)
        return qz_fail_memory(error, file->input.label);
    for (uint64_t i = 0; i < rows * cols; i++)
        r->values[i] += r->added[i];
    return QZ_FILE_OK;
}

static qz_file_result decode_rows(qz_file *file, const shuffled *s, uint64_t row, uint64_t rows, room *r,
                                  qz_file_error *error)
{
    uint64_t cols = s->packed.cols;
    const qz_matrix matrix = {r->values, QZ_F32, rows, cols, (int64_t)cols, 1};
    qz_file_result result = qz_form_read(file, s->form, &s->packed, row, rows, 0, cols, &r->plain, error);
    if (result != QZ_FILE_OK)
        return result;
    if (!s->order)
        return decode_added(file, s, rows, r, error);
    sort_codes(s, rows, r);
    qz_packed sorted = r->plain;
    sorted.codes = r->sorted;
    if (s->packed.scheme.zero == QZ_ZERO_NONE)
        sorted.zeros = NULL;
    return qz_decode(&s->packed.scheme, &sorted, &matrix, NULL, NULL) == QZ_OK
               ? QZ_FILE_OK
               : qz_fail_memory(error, file->input.label);
}

static qz_file_result decode(qz_file *file, const void *details, uint64_t first, uint64_t count, void *dst,
                             qz_file_error *error)
{
    const shuffled *s = details;
    if (count == 0)
        return QZ_FILE_OK;
    uint64_t cols = s->packed.cols, row = first / cols, end = first + count;
    uint64_t step = cols < VALUES ? VALUES / cols : 1, last = (end - 1) / cols + 1;
    room r;
    step = step < last - row ? step : last - row;
    qz_file_result result = get_room(s, step, &r) ? QZ_FILE_OK : qz_fail_memory(error, file->input.label);
    for (; row < last && result == QZ_FILE_OK; row += step) {
        uint64_t rows = step < last - row ? step : last - row;
        result = decode_rows(file, s, row, rows, &r, error);
        for (uint64_t i = 0; i < rows && result == QZ_FILE_OK; i++) {
            uint64_t start = (row + i) * cols, from = start < first ? first - start : 0;
            uint64_t to = start + cols > end ? end - start : cols;
            for (uint64_t c = 0; c < cols; c++)
                r.row[s->order ? s->order[c] : c] = r.values[i * cols + c];
            memcpy((float *)dst + (start + from - first), r.row + from, (size_t)(to - from) * sizeof(float));
        }
    }
    free_room(&r);
    return result;
}

/* ---- adding ---- */

static qz_file_result add(const qz_found *found, shuffled *s, const char *suffix, qz_file_error *error)
{
    qz_file *file = found->file;
    size_t more = strlen(suffix);
    char *name = qz_arena_get(&file->arena, found->base_length + more + 1);
    if (!name)
        return qz_fail_memory(error, file->input.label);
    memcpy(name, found->base, found->base_length);
    memcpy(name + found->base_length, suffix, more + 1);
    const qz_tensor decoded = {.name = name,
                               .name_length = found->base_length + more,
                               .element = QZ_ELEMENT_F32,
                               .rank = 2,
                               .shape = found->is.shape};
    qz_file_result result = qz_file_add(file, &decoded, QZ_NO_OFFSET, error);
    if (result != QZ_FILE_OK)
        return result;
    file->entries[file->count - 1].decode = decode;
    file->entries[file->count - 1].details = s;
    file->entries[file->count - 1].stored = s->packed.sizes.total_bytes;
    return QZ_FILE_OK;
}

static void hide_members(const qz_found *found)
{
    for (int m = QZ_MEMBER_CODES; m < QZ_MEMBERS; m++)
        if (found->members[m] != SIZE_MAX)
            qz_packed_hide(found->file, found->members[m]);
}

static shuffled *keep(const qz_found *found, const uint32_t *order)
{
    shuffled *s = qz_arena_get(&found->file->arena, sizeof *s);
    if (!s)
        return NULL;
    *s =
        (shuffled){found->is.form, {.size = sizeof s->packed, .scheme = found->is.scheme, .rank = 2, .axis = 1}, order};
    memcpy(s->packed.shape, found->is.shape, 2 * sizeof *found->is.shape);
    memcpy(s->packed.members, found->members, sizeof found->members);
    return s;
}

/* Adds the tensor of float32. */
static qz_file_result add_decoded(const qz_found *found, size_t list, const char *suffix, qz_file_error *error)
{
    qz_file *file = found->file;
    uint64_t cols = found->is.shape[1], size = found->is.scheme.group_size;
    uint32_t *order = cols <= UINT32_MAX ? qz_arena_get(&file->arena, (size_t)cols * sizeof *order + 1) : NULL;
    shuffled *s = order ? keep(found, order) : NULL;
    int32_t *groups = NULL;
    if (!s)
        return qz_fail_memory(error, file->input.label);
    qz_file_result result = read_groups(file, list, cols, &groups, error);
    if (result != QZ_FILE_OK)
        return result;
    int fits =
        size < cols && cols % size == 0 && qz_packed_complete(&s->packed) && sort_columns(groups, cols, size, order);
    free(groups);
    if (!fits) {
        qz_found_remark(found, "tensors whose groups are not of one size are listed as they are");
        return QZ_FILE_OK;
    }
    qz_found_remark(found, "decoded to float32: tensors with groups in another order (desc_act, actorder)");
    hide_members(found);
    qz_packed_hide(file, list);
    return add(found, s, suffix, error);
}

qz_file_result qz_shuffled_note(qz_found *found, size_t list, const char *suffix, qz_file_error *error)
{
    uint64_t cols = found->is.shape[1];
    int in_order = 1;
    qz_file_result result = QZ_FILE_OK;
    if (list != SIZE_MAX && qz_found_is(found, list, qz_elements_i32, 1, &cols) && found->is.wrong[0] == '\0')
        result = qz_found_in_order(found, list, cols, &in_order, error);
    if (result != QZ_FILE_OK)
        return result;
    if (!in_order)
        return add_decoded(found, list, suffix, error);
    if (list != SIZE_MAX)
        qz_packed_hide(found->file, list);
    return qz_found_note(found, suffix, error);
}

qz_file_result qz_added_note(qz_found *found, qz_file_error *error)
{
    static const qz_form form = {.scales = QZ_ORDER_ACROSS, .zeros = QZ_ORDER_ACROSS};
    found->is.form = &form;
    if (found->is.wrong[0] != '\0')
        return qz_found_note(found, "", error);
    shuffled *s = keep(found, NULL);
    if (!s)
        return qz_fail_memory(error, found->file->input.label);
    if (!qz_packed_complete(&s->packed)) {
        qz_found_wrong(found, "is too large");
        return qz_found_note(found, "", error);
    }
    qz_found_remark(found, "decoded to float32: tensors with numbers that are added to the values of signed codes");
    hide_members(found);
    return add(found, s, "", error);
}
