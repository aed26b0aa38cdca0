/*
 * numbers.c - scales, zeros and super scales from and to their stored types
 */
#include "view.h"
#include "../base/number.h"

/* Rows of `cols` numbers of `size` bytes, next to each other on one side. */
static void gather(void *dst, const char *src, int64_t stride, size_t rows, size_t cols, size_t size)
{
    if (stride == (int64_t)(cols * size)) {
        memcpy(dst, src, rows * cols * size);
        return;
    }
    for (size_t r = 0; r < rows; r++)
        qz_copy_few((char *)dst + r * cols * size, src + (int64_t)r * stride, cols * size);
}

static void scatter(char *dst, int64_t stride, const void *src, size_t rows, size_t cols, size_t size)
{
    for (size_t r = 0; r < rows; r++)
        qz_copy_few(dst + (int64_t)r * stride, (const char *)src + r * cols * size, cols * size);
}

/* The same to or from rows of those that are side by side, for numbers of 2 or 4 bytes. Most rows of a
 * tile have a multiple of four numbers of 2 bytes, which move together. */
static void gather_columns(void *dst, const char *src, int64_t stride, size_t rows, size_t cols, size_t size)
{
    uint16_t *half = dst;
    uint32_t *word = dst;
    size_t c = 0;
    for (; size == 2 && c + 4 <= cols; c += 4)
        for (size_t r = 0; r < rows; r++) {
            uint16_t four[4], *to = half + c * rows + r;
            memcpy(four, src + (int64_t)r * stride + c * 2, sizeof four);
            to[0] = four[0];
            to[rows] = four[1];
            to[2 * rows] = four[2];
            to[3 * rows] = four[3];
        }
    for (; c < cols; c++)
        for (size_t r = 0; r < rows; r++) {
            const char *from = src + (int64_t)r * stride + c * size;
            if (size == 2)
                memcpy(half + c * rows + r, from, 2);
            else
                memcpy(word + c * rows + r, from, 4);
        }
}

static void scatter_columns(char *dst, int64_t stride, const void *src, size_t rows, size_t cols, size_t size)
{
    const uint16_t *half = src;
    const uint32_t *word = src;
    for (size_t r = 0; r < rows; r++, dst += stride) {
        size_t c = 0;
        for (; size == 2 && c + 4 <= cols; c += 4) {
            const uint16_t *from = half + c * rows + r;
            uint16_t four[4] = {from[0], from[rows], from[2 * rows], from[3 * rows]};
            memcpy(dst + c * 2, four, sizeof four);
        }
        for (; c < cols; c++) {
            if (size == 2)
                memcpy(dst + c * 2, half + c * rows + r, 2);
            else
                memcpy(dst + c * 4, word + c * rows + r, 4);
        }
    }
}

static char *supers_at(const struct qz_view *view, uint64_t row, uint64_t group)
{
    size_t each = qz_dtype_size(view->super_dtype) * (view->scale_type->pairs ? 2 : 1);
    if (view->shared_super)
        return view->packed->supers;
    return (char *)view->packed->supers + (int64_t)row * view->packed->super_stride + group / view->super_groups * each;
}

/* `count` super scales from that of a group on, or pairs of them. They are copied first, for rows may be any number of
 * bytes apart. */
static void load_supers(const struct qz_view *view, uint64_t row, uint64_t group, size_t count, float *dst)
{
    uint16_t half[2 * QZ_TILE_GROUPS];
    size_t n = view->scale_type->pairs ? 2 * count : count;
    void *to = view->super_dtype == QZ_F32 ? (void *)dst : half;
    memcpy(to, supers_at(view, row, group), n * qz_dtype_size(view->super_dtype));
    if (to == half && n > 2)
        view->kernels->f32_from_f16(half, n, dst);
    else
        for (size_t i = 0; i < n && to == half; i++)
            dst[i] = qz_f32_from_f16(half[i]);
}

void qz_load_super(const struct qz_view *view, uint64_t row, uint64_t group, float super[2])
{
    super[0] = super[1] = 1.0f;
    if (view->super_groups > 0)
        load_supers(view, row, group, 1, super);
}

void qz_store_super(const struct qz_view *view, uint64_t row, uint64_t group, const float super[2])
{
    size_t count = view->scale_type->pairs ? 2 : 1;
    if (view->super_dtype == QZ_F32) {
        memcpy(supers_at(view, row, group), super, count * sizeof *super);
    } else {
        uint16_t half[2] = {qz_f16_from_f32(super[0]), qz_f16_from_f32(super[1])};
        memcpy(supers_at(view, row, group), half, count * sizeof *half);
    }
}

size_t qz_sharing(const struct qz_view *view, uint64_t group, size_t left)
{
    int own = view->super_groups && view->super_groups < QZ_WHOLE_MATRIX;
    return own ? qz_least(view->super_groups - group % view->super_groups, left) : left;
}

size_t qz_load_supers(const struct qz_view *view, uint64_t row, uint64_t group, size_t count, struct qz_supers *supers)
{
    uint64_t shared = view->super_groups;
    supers->head = qz_sharing(view, group, count);
    supers->scale = supers->both;
    supers->offset = NULL;
    if (shared == 0 || shared >= QZ_WHOLE_MATRIX) {
        supers->head = supers->each = SIZE_MAX;
        qz_load_super(view, row, group, supers->both);
        return count;
    }
    supers->each = (size_t)shared;
    size_t number = (size_t)qz_divide_up(count - supers->head, shared) + 1;
    if (number > QZ_TILE_GROUPS) {
        number = QZ_TILE_GROUPS;
        count = supers->head + (number - 1) * (size_t)shared;
    }
    load_supers(view, row, group, number, supers->both);
    for (size_t i = 0; i < number && view->scale_type->pairs; i++) {
        supers->apart[0][i] = supers->both[2 * i];
        supers->apart[1][i] = -supers->both[2 * i + 1];
        supers->scale = supers->apart[0];
        supers->offset = supers->apart[1];
    }
    return count;
}

/* Bytes of `count` groups, the first of which may share its super scale with groups before it. */
static void scale_bytes(const struct qz_view *view, const uint8_t *bytes, size_t count, const struct qz_supers *supers,
                        const float *super, float *scale, float *zero)
{
    size_t head = supers->head % supers->each ? supers->head : 0;
    if (head)
        qz_byte_scales(view, bytes, head, super++, head, scale, zero);
    if (head < count)
        qz_byte_scales(view, bytes + head, count - head, super, supers->each, scale + head, zero + head);
}

/* Scales of a byte of one row's groups, and the offsets beside them. */
static void load_bytes(const struct qz_view *view, uint64_t row, uint64_t group, size_t count, float *scale,
                       float *zero)
{
    struct qz_supers supers;
    (void)qz_load_supers(view, row, group, count, &supers);
    scale_bytes(view, (const uint8_t *)qz_scales_at(view, row) + group, count, &supers, supers.scale, scale, zero);
    if (view->scale_type->pairs)
        scale_bytes(view, (const uint8_t *)qz_zeros_at(view, row) + group, count, &supers, supers.offset, zero, zero);
}

/* Scales or offsets of a span, from their stored type of two or four bytes. */
static void load_scales(const struct qz_view *view, const char *first, int64_t stride, const struct span *span,
                        float *dst)
{
    uint16_t halves[QZ_COLUMNS_GROUPS];
    size_t size = qz_dtype_size(view->scale_dtype), n = span->rows * span->count;
    const void *from = first + span->group * size;
    if (span->rows > 1 || view->scale_dtype == QZ_F32) {
        void *to = view->scale_dtype == QZ_F32 ? (void *)dst : halves;
        (span->by_group ? gather_columns : gather)(to, from, stride, span->rows, span->count, size);
        from = to;
    }
    if (view->scale_dtype == QZ_F16)
        view->kernels->f32_from_f16(from, n, dst);
    else if (view->scale_dtype == QZ_BF16)
        view->kernels->f32_from_bf16(from, n, dst);
}

/* The reverse; types of a byte are given by `bytes`. Numbers of one row are converted where they belong. */
static void store_scales(const struct qz_view *view, char *first, int64_t stride, const struct span *span,
                         const float *src, const uint8_t *bytes)
{
    uint16_t halves[QZ_COLUMNS_GROUPS];
    size_t size = qz_dtype_size(view->scale_dtype), n = span->rows * span->count;
    char *to = first + span->group * size;
    int direct = size == 2 && span->rows == 1 && (uintptr_t)to % size == 0;
    uint16_t *half = direct ? (uint16_t *)(void *)to : halves;
    const void *from = qz_has_byte_scales(view)      ? (const void *)bytes
                       : view->scale_dtype == QZ_F32 ? src
                                                     : (const void *)halves;
    if (view->scale_dtype == QZ_F16)
        view->kernels->f16_from_f32(src, n, half);
    else if (view->scale_dtype == QZ_BF16)
        view->kernels->bf16_from_f32(src, n, half);
    if (!direct)
        (span->by_group ? scatter_columns : scatter)(to, stride, from, span->rows, span->count, size);
}

enum { MANY_ZEROS = 32 }; /* so many are worth a call of a kernel */

/* Zeros of four bits of a row's groups, the first in the high bits of a byte if that is odd, `step` apart. */
static void load_zeros(const struct qz_view *view, const uint8_t *src, size_t odd, size_t n, float *zero, size_t step)
{
    const float scale = 1.0f, none = 0.0f;
    if (n < MANY_ZEROS || step > 1 || odd) {
        for (size_t i = 0; i < n; i++)
            zero[i * step] = (float)qz_code_at(src, odd + i);
        return;
    }
    view->kernels->group_decode(src, n, n, &view->grid, &scale, &none, zero); /* a group of codes 0..15 as they are */
}

static void store_zeros(const struct qz_view *view, uint8_t *dst, size_t odd, size_t n, const float *zero, size_t step)
{
    int8_t codes[QZ_TILE_GROUPS];
    if (n < MANY_ZEROS || step > 1 || odd) {
        for (size_t i = odd; i < odd + n;
             i++, zero += step) /* the first of two fills the byte, for it may be the last */
            dst[i / 2] = (uint8_t)(i % 2 ? (dst[i / 2] & 15) | (int)*zero << 4 : (int)*zero);
        return;
    }
    for (size_t i = 0; i < n; i++)
        codes[i] = (int8_t)zero[i];
    (void)view->kernels->pack(codes, n, dst); /* 8..15 are no codes, but their low bits are right */
}

void qz_load_groups(const struct qz_view *view, const struct span *span, float *scale, float *zero)
{
    if (qz_has_byte_scales(view)) {
        for (size_t r = 0; r < span->rows; r++)
            load_bytes(view, span->row + r, span->group, span->count, scale + r * span->count, zero + r * span->count);
        return;
    }
    load_scales(view, qz_scales_at(view, span->row), view->packed->scale_stride, span, scale);
    if (view->grid.zero == QZ_ZERO_OFFSET || view->grid.zero == QZ_ZERO_FLOAT)
        load_scales(view, qz_zeros_at(view, span->row), view->packed->zero_stride, span, zero);
    for (size_t r = 0; r < span->rows && view->grid.zero == QZ_ZERO_UINT4; r++)
        load_zeros(view, (const uint8_t *)qz_zeros_at(view, span->row + r) + span->group / 2, span->group % 2,
                   span->count, zero + r * (span->by_group ? 1 : span->count), span->by_group ? span->rows : 1);
}

void qz_store_groups(const struct qz_view *view, const struct span *span, const float *scale, const float *zero,
                     const uint8_t *bytes)
{
    store_scales(view, qz_scales_at(view, span->row), view->packed->scale_stride, span, scale, bytes);
    if (view->grid.zero == QZ_ZERO_OFFSET || (view->grid.zero == QZ_ZERO_FLOAT && view->grid.shift == 0.0f))
        store_scales(view, qz_zeros_at(view, span->row), view->packed->zero_stride, span, zero,
                     bytes ? bytes + QZ_TILE_GROUPS : NULL);
    for (size_t r = 0; r < span->rows && view->grid.zero == QZ_ZERO_UINT4; r++)
        store_zeros(view, (uint8_t *)qz_zeros_at(view, span->row + r) + span->group / 2, span->group % 2, span->count,
                    zero + r * (span->by_group ? 1 : span->count), span->by_group ? span->rows : 1);
}
