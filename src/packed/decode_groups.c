/*
 * decode_groups.c - decodes groups of a packed matrix to floats
 */
#include "view.h"

void qz_decode_run(const struct qz_view *view, const struct run *run, float *dst)
{
    float scale[QZ_TILE_GROUPS], zero[QZ_TILE_GROUPS];
    size_t n = run->rows * run->pitch;
    uint64_t group = run->col / view->group_size, last = (run->col + run->cols - 1) / view->group_size;
    struct span span = {run->row, group, run->rows, (size_t)(last - group + 1), 0};
    qz_load_groups(view, &span, scale, zero);

    const uint8_t *codes = qz_codes_at(view, run->row, run->col);
    uint8_t staged[QZ_TILE / 2 + 1];
    if (run->rows > 1) {
        size_t bytes = run->cols / 2 + run->cols % 2;
        if (bytes != run->pitch / 2)
            memset(staged, 0, n / 2);
        for (size_t r = 0; r < run->rows; r++)
            qz_copy_few(staged + r * (run->pitch / 2), codes + (int64_t)r * view->packed->code_stride, bytes);
        codes = staged;
    } else if (run->col % 2) { /* a long group of odd length puts the next one in the middle of a byte */
        memset(staged, 0, n / 2 + 1);
        for (size_t i = 0; i < n; i++)
            qz_set_code(staged, i, qz_code_at(codes, i + 1));
        codes = staged;
    }
    size_t groups = span.rows * span.count, group_size = groups == 1 ? n : (size_t)view->group_size;
    view->kernels->group_decode(codes, n, group_size, &view->grid, scale, zero, dst);
}

void qz_decode_part(const struct qz_view *view, uint64_t row, uint64_t col, size_t n, float *dst)
{
    for (size_t length; n > 0; n -= length, col += length, dst += length) {
        uint64_t inside = col % view->group_size, left = view->group_size - inside;
        int is_part = inside > 0 || n < left; /* of one group; else it is whole groups */
        length = (size_t)qz_least(n, is_part ? left : left * QZ_TILE_GROUPS);
        qz_decode_run(view, &(struct run){row, col, 1, length, length}, dst);
    }
}

int qz_decode_groups(const struct qz_view *view, uint64_t row, uint64_t col, size_t n, qz_dtype dtype, void *dst)
{
    struct qz_supers supers;
    uint64_t group = col / view->group_size;
    size_t size = qz_dtype_size(view->scale_dtype), group_size = qz_least(view->group_size, n);
    size_t count = n ? n / group_size : 0, step = count;
    const uint8_t *codes = qz_codes_at(view, row, col);
    uint8_t odd_zero;
    const char *scale = qz_scales_at(view, row) + group * size, *zero = NULL;
    char *to = dst;
    int beyond = 0;
    if (view->grid.zero != QZ_ZERO_NONE && !view->scale_type->dual)
        zero = qz_zeros_at(view, row) + (view->grid.zero == QZ_ZERO_UINT4 ? group / 2 : group * size);
    if (zero && view->grid.zero == QZ_ZERO_UINT4 && group % 2) { /* of one group alone */
        odd_zero = *(const uint8_t *)zero >> 4;
        zero = (const char *)&odd_zero;
    }
    struct qz_stored stored = {view->scale_dtype, scale, zero, NULL, NULL, 1, 1};
    for (; count > 0; count -= step, group += step) {
        if (qz_has_byte_scales(view)) {
            step = qz_load_supers(view, row, group, count, &supers);
            stored.super = supers.scale;
            stored.super_zero = supers.offset;
            stored.first = supers.head;
            stored.each = supers.each;
        }
        beyond |= view->kernels->stored_decode(codes, step, group_size, &view->grid, &stored, dtype, to);
        codes += step * group_size / 2;
        to += step * group_size * qz_dtype_size(dtype);
        stored.scale = scale += step * size;
        stored.zero = zero ? zero += step * size : NULL;
    }
    return beyond;
}
