/*
 * numbers.c - converts scales, zeros and super scales from and to their stored types
 */
#include "view.h"
#include "../base/number.h"

/* Rows of `cols` numbers of `size` bytes, next to each other on one side. */
static void gather(void *dst, const char *src, int64_t stride, size_t rows, size_t cols, size_t size)
{
    if (stride == (int64_t)(cols * size))
        memcpy(dst, src, rows * cols * size);
    else
        for (size_t r = 0; r < rows; r++)
            qz_copy_few((char *)dst + r * cols * size, src + (int64_t)r * stride, cols * size);
}

static void scatter(char *dst, int64_t stride, const void *src, size_t rows, size_t cols, size_t size)
{
    for (size_t r = 0; r < rows; r++)
        qz_copy_few(dst + (int64_t)r * stride, (const char *)src + r * cols * size, cols * size);
}

/* Moves numbers first..end - 1 of rows, `stride` bytes apart, to rows of those that are side by side, or back: `step` of
 * a row together. `size`, `step` and `load` are constants. */
static inline __attribute__((always_inline)) void turn_some(char *row, int64_t stride, char *turned, size_t rows,
                                                            size_t first, size_t end, size_t size, size_t step,
                                                            int load)
{
    for (size_t c = first; c < end; c += step)
        for (size_t r = 0; r < rows; r++) {
            char few[8], *at = row + c * size + (int64_t)r * stride, *to = turned + c * rows * size + r * size;
            if (load)
                memcpy(few, at, step * size);
            for (size_t k = 0; k < step; k++, to += rows * size)
                memcpy(load ? to : few + k * size, load ? few + k * size : to, size);
            if (!load)
                memcpy(at, few, step * size);
        }
}

/* The same for all numbers of a span, of 2 or 4 bytes. Most rows of a tile have a multiple of four numbers of 2 bytes. */
static inline __attribute__((always_inline)) void turn(char *row, int64_t stride, char *turned, const struct span *span,
                                                       size_t size, int load)
{
    size_t fours = size == 2 ? span->count - span->count % 4 : 0;
    turn_some(row, stride, turned, span->rows, 0, fours, 2, 4, load);
    if (size == 2)
        turn_some(row, stride, turned, span->rows, fours, span->count, 2, 1, load);
    else
        turn_some(row, stride, turned, span->rows, 0, span->count, 4, 1, load);
}

/* How many numbers `count` super scales are. */
static size_t super_numbers(const struct qz_view *view, size_t count)
{
    return view->scale_type->pairs ? 2 * count : count;
}

static char *supers_at(const struct qz_view *view, uint64_t row, uint64_t group)
{
    char *supers = view->packed->supers;
    size_t each = super_numbers(view, 1) * qz_dtype_size(view->super_dtype);
    int64_t before = (int64_t)row * view->packed->super_stride;
    return view->shared_super ? supers : supers + before + group / view->super_groups * each;
}

/* `count` super scales from that of a group on, or pairs of them. They are copied first, for rows may be any number of
 * bytes apart. */
static void load_supers(const struct qz_view *view, uint64_t row, uint64_t group, size_t count, float *dst)
{
    uint16_t half[2 * QZ_TILE_GROUPS];
    size_t n = super_numbers(view, count);
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
    uint16_t half[2] = {qz_f16_from_f32(super[0]), qz_f16_from_f32(super[1])};
    const void *from = view->super_dtype == QZ_F32 ? (const void *)super : half;
    memcpy(supers_at(view, row, group), from, super_numbers(view, 1) * qz_dtype_size(view->super_dtype));
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
    supers->scale = view->scale_type->pairs ? supers->apart[0] : supers->both;
    supers->offset = supers->apart[1];
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
    }
    return count;
}

/* Scales of a byte of one row's groups, and the offsets beside them. The first groups may share their super scale with
 * groups before them. */
static void load_bytes(const struct qz_view *view, uint64_t row, uint64_t group, size_t count, float *scale,
                       float *zero)
{
    struct qz_supers supers;
    (void)qz_load_supers(view, row, group, count, &supers);
    size_t head = supers.head % supers.each ? supers.head : 0;
#pragma GCC unroll 2
    for (int offsets = 0; offsets <= view->scale_type->pairs; offsets++) {
        const char *stored = offsets ? qz_zeros_at(view, row) : qz_scales_at(view, row);
        const uint8_t *bytes = (const uint8_t *)stored + group;
        const float *super = offsets ? supers.offset : supers.scale;
        float *to = offsets ? zero : scale;
        if (head)
            qz_byte_scales(view, bytes, head, super++, head, to, zero);
        if (head < count)
            qz_byte_scales(view, bytes + head, count - head, super, supers.each, to + head, zero + head);
    }
}

/* Scales or offsets of a span, from their stored type of two or four bytes. */
static void load_scales(const struct qz_view *view, const char *first, int64_t stride, const struct span *span,
                        float *dst)
{
    uint16_t halves[QZ_COLUMNS_GROUPS];
    size_t size = qz_dtype_size(view->scale_dtype), n = span->rows * span->count;
    const void *from = first + span->group * size;
    if (span->rows > 1 || size == 4) {
        void *to = size == 4 ? (void *)dst : halves;
        if (span->by_group)
            turn((char *)(uintptr_t)from, stride, to, span, size, 1);
        else
            gather(to, from, stride, span->rows, span->count, size);
        from = to;
    }
    if (size == 2)
        (view->scale_dtype == QZ_F16 ? view->kernels->f32_from_f16 : view->kernels->f32_from_bf16)(from, n, dst);
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
    const void *from = size == 1 ? (const void *)bytes : size == 4 ? src : (const void *)halves;
    if (size == 2)
        (view->scale_dtype == QZ_F16 ? view->kernels->f16_from_f32 : view->kernels->bf16_from_f32)(src, n, half);
    if (!direct && span->by_group)
        turn(to, stride, (char *)(uintptr_t)from, span, size, 0);
    else if (!direct)
        scatter(to, stride, from, span->rows, span->count, size);
}

enum { MANY_ZEROS = 32 }; /* so many are worth a call of a kernel */

/* Zeros of four bits of a row's groups, the first in the high bits of a byte if that is odd, `step` apart. */
static void load_zeros(const struct qz_view *view, const uint8_t *src, size_t odd, size_t n, float *zero, size_t step)
{
    if (n >= MANY_ZEROS && step == 1 && !odd) /* a group of codes 0..15 as they are */
        view->kernels->group_decode(src, n, n, &view->grid, &(float){1.0f}, &(float){0.0f}, zero);
    else
        for (size_t i = 0; i < n; i++)
            zero[i * step] = (float)qz_code_at(src, odd + i);
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
