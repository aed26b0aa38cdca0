/*
 * own_blocks.c - reads and writes blocks of quantized tensors in the library's own layout
 *
 * It knows the members of a tensor as files have them, and no names.
 */
#include "own_blocks.h"

#include "../tensors.h"
#include "../writer.h"

/* One part of a block: of some rows, `count` elements of each from `first` on, of `per_row`. */
typedef struct strip {
    size_t tensor;
    uint64_t row, rows;
    uint64_t first, count, per_row;
    size_t element_bytes;
    char *data;
    int64_t stride; /* bytes */
} strip;

/* The super scales of a block. Where several blocks have the same ones, the first of them writes them. */
static strip super_strip(const qz_packed_tensor *p, const strip *block, const qz_packed *data, int writing)
{
    strip s = *block;
    uint64_t size = p->scheme.super_size, col = block->first, cols = block->count;
    int own = size < p->cols && size < QZ_WHOLE_MATRIX; /* a part of a row has super scales of its own */
    s.tensor = p->members[QZ_MEMBER_SUPERS];
    s.element_bytes = qz_dtype_size(p->scheme.super_dtype);
    s.per_row = p->sizes.super_bytes / s.element_bytes;
    s.data = data->supers;
    s.stride = data->super_stride;
    uint64_t each = p->scheme.scale_dtype == QZ_U6 ? 2 : 1;
    s.first = own ? col / size * each : 0;
    s.count = own ? (cols / size + (cols % size != 0)) * each : s.per_row;
    if (size == QZ_WHOLE_MATRIX)
        s.row = 0, s.rows = 1;
    if (cols == 0 || (writing && !own && (col != 0 || (size == QZ_WHOLE_MATRIX && block->row != 0))))
        s.count = 0;
    return s;
}

/* The parts of a block; returns how many. */
static int strips_of(const qz_packed_tensor *p, uint64_t row, uint64_t rows, uint64_t col, uint64_t cols,
                     const qz_packed *data, int writing, strip out[4])
{
    uint64_t group = p->scheme.group_size, super = p->scheme.super_size;
    int whole = group >= p->cols;
    uint64_t g0 = whole ? 0 : col / group;
    uint64_t groups = cols == 0 ? 0 : whole ? 1 : cols / group + (cols % group != 0);
    size_t scale_bytes = qz_dtype_size(p->scheme.scale_dtype);
    const size_t *members = p->members;
    const strip block = {.row = row, .rows = rows, .first = col, .count = cols};
    int n = 0;
    out[n++] = (strip){members[QZ_MEMBER_CODES], row, rows,        col / 2,          cols / 2 + cols % 2,
                       p->sizes.code_bytes,      1,   data->codes, data->code_stride};
    out[n++] = (strip){members[QZ_MEMBER_SCALES], row, rows, g0, groups, p->sizes.row_groups, scale_bytes, data->scales,
                       data->scale_stride};
    if (p->scheme.zero == QZ_ZERO_UINT4)
        out[n++] = (strip){members[QZ_MEMBER_ZEROS], row, rows,        g0 / 2,           groups / 2 + groups % 2,
                           p->sizes.zero_bytes,      1,   data->zeros, data->zero_stride};
    else if (p->scheme.zero != QZ_ZERO_NONE)
        out[n++] =
            (strip){members[QZ_MEMBER_ZEROS], row, rows, g0, groups, p->sizes.row_groups, scale_bytes, data->zeros,
                    data->zero_stride};
    if (super != 0)
        out[n++] = super_strip(p, &block, data, writing);
    return n;
}

/* Reads (file) or writes (writer) one strip: all rows at once where they lie together on both sides. */
static qz_file_result move_strip(qz_file *file, qz_writer *writer, const strip *s, qz_file_error *error)
{
    int together = s->count == s->per_row && s->stride == (int64_t)(s->count * s->element_bytes);
    uint64_t step = together ? s->rows : 1;
    qz_file_result result = QZ_FILE_OK;
    for (uint64_t r = 0; r < s->rows && s->count != 0 && result == QZ_FILE_OK; r += step) {
        char *data = s->data + (ptrdiff_t)r * (ptrdiff_t)s->stride;
        uint64_t first = (s->row + r) * s->per_row + s->first;
        result = file ? qz_read(file, s->tensor, first, s->count * step, data, error)
                      : qz_write(writer, s->tensor, first, s->count * step, data, error);
    }
    return result;
}

static qz_file_result move_block(qz_file *file, qz_writer *writer, const qz_packed_tensor *p, uint64_t row,
                                 uint64_t rows, uint64_t col, uint64_t cols, const qz_packed *data,
                                 qz_file_error *error)
{
    strip strips[4];
    int n = strips_of(p, row, rows, col, cols, data, writer != NULL, strips);
    qz_file_result result = QZ_FILE_OK;
    for (int i = data->codes ? 0 : 1; i < n && result == QZ_FILE_OK; i++) /* codes come first */
        result = move_strip(file, writer, &strips[i], error);
    return result;
}

qz_file_result qz_own_read(qz_file *file, const qz_packed_tensor *packed, uint64_t row, uint64_t rows, uint64_t col,
                           uint64_t cols, const qz_packed *dst, qz_file_error *error)
{
    return move_block(file, NULL, packed, row, rows, col, cols, dst, error);
}

qz_file_result qz_own_write(qz_writer *writer, const qz_packed_tensor *packed, uint64_t row, uint64_t rows,
                            uint64_t col, uint64_t cols, const qz_packed *src, qz_file_error *error)
{
    return move_block(NULL, writer, packed, row, rows, col, cols, src, error);
}
