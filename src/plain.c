/*
 * plain.c - reading and writing the plain form
 */
#include "group.h"
#include "number.h"
#include "scheme.h"

void qz_group_scheme(struct job *job, const qz_scheme *scheme)
{
    qz_scheme_values(scheme, &job->grid);
    job->usual_group = scheme->group_size;
    job->scale_dtype = scheme->scale_dtype;
    job->super_dtype = scheme->super_dtype;
    job->positive = scheme->positive || scheme->scale_dtype == QZ_E8M0;
    job->shared_super = scheme->super_size == QZ_WHOLE_MATRIX;
    job->super_groups =
        scheme->super_size >= QZ_WHOLE_MATRIX ? scheme->super_size : scheme->super_size / scheme->group_size;
}

int qz_strides_fit(const qz_packed *packed, const qz_sizes *sizes, uint64_t rows, int shared_super)
{
    return rows < 2 ||
           (packed->code_stride >= (int64_t)sizes->code_bytes && packed->scale_stride >= (int64_t)sizes->scale_bytes &&
            packed->zero_stride >= (int64_t)sizes->zero_bytes &&
            (shared_super || packed->super_stride >= (int64_t)sizes->super_bytes));
}

static char *scales_at(const struct job *job, uint64_t row)
{
    return (char *)job->packed->scales + (int64_t)row * job->packed->scale_stride;
}

static char *zeros_at(const struct job *job, uint64_t row)
{
    return (char *)job->packed->zeros + (int64_t)row * job->packed->zero_stride;
}

/* Rows of `bytes` bytes, next to each other on one side. */
static void gather(void *dst, const char *src, int64_t stride, size_t rows, size_t bytes)
{
    for (size_t r = 0; r < rows; r++)
        qz_copy_few((char *)dst + r * bytes, src + (int64_t)r * stride, bytes);
}

static void scatter(char *dst, int64_t stride, const void *src, size_t rows, size_t bytes)
{
    for (size_t r = 0; r < rows; r++)
        qz_copy_few(dst + (int64_t)r * stride, (const char *)src + r * bytes, bytes);
}

static char *supers_at(const struct job *job, uint64_t row, uint64_t group)
{
    size_t each = qz_dtype_size(job->super_dtype) * (job->scale_dtype == QZ_U6 ? 2 : 1);
    if (job->shared_super)
        return job->packed->supers;
    return (char *)job->packed->supers + (int64_t)row * job->packed->super_stride + group / job->super_groups * each;
}

void qz_load_super(const struct job *job, uint64_t row, uint64_t group, float super[2])
{
    super[0] = super[1] = 1.0f;
    if (job->super_groups == 0)
        return;
    size_t count = job->scale_dtype == QZ_U6 ? 2 : 1;
    uint16_t half[2];
    if (job->super_dtype == QZ_F32) {
        memcpy(super, supers_at(job, row, group), count * sizeof *super);
    } else {
        memcpy(half, supers_at(job, row, group), count * sizeof *half);
        for (size_t i = 0; i < count; i++)
            super[i] = qz_f32_from_f16(half[i]);
    }
}

void qz_store_super(const struct job *job, uint64_t row, uint64_t group, const float super[2])
{
    size_t count = job->scale_dtype == QZ_U6 ? 2 : 1;
    if (job->super_dtype == QZ_F32) {
        memcpy(supers_at(job, row, group), super, count * sizeof *super);
    } else {
        uint16_t half[2] = {qz_f16_from_f32(super[0]), qz_f16_from_f32(super[1])};
        memcpy(supers_at(job, row, group), half, count * sizeof *half);
    }
}

size_t qz_sharing(const struct job *job, uint64_t group, size_t left)
{
    int own = job->super_groups && job->super_groups < QZ_WHOLE_MATRIX;
    return own ? qz_least(job->super_groups - group % job->super_groups, left) : left;
}

/* What scales, and offsets, of a run of groups are multiplied with: the first number belongs to `head` groups, each
 * other one to `each`; both are SIZE_MAX where there is one for all. */
struct supers {
    size_t head, each;
    const float *scale, *offset;
    float both[2 * QZ_TILE_GROUPS], apart[2][QZ_TILE_GROUPS];
};

/* Returns for how many of `count` groups there is room. */
static size_t load_supers(const struct job *job, uint64_t row, uint64_t group, size_t count, struct supers *supers)
{
    uint64_t shared = job->super_groups;
    int pairs = job->scale_dtype == QZ_U6;
    supers->head = qz_sharing(job, group, count);
    supers->scale = supers->both;
    supers->offset = NULL;
    if (shared == 0 || shared >= QZ_WHOLE_MATRIX) {
        supers->head = supers->each = SIZE_MAX;
        qz_load_super(job, row, group, supers->both);
        return count;
    }
    supers->each = (size_t)shared;
    size_t number = (size_t)qz_divide_up(count - supers->head, shared) + 1;
    if (number > QZ_TILE_GROUPS) {
        number = QZ_TILE_GROUPS;
        count = supers->head + (number - 1) * (size_t)shared;
    }
    const void *from = supers_at(job, row, group);
    if ((uintptr_t)from % qz_dtype_size(job->super_dtype)) { /* rows may be any number of bytes apart */
        void *copy = job->super_dtype == QZ_F32 ? supers->both : supers->apart[0];
        memcpy(copy, from, (pairs ? 2 : 1) * number * qz_dtype_size(job->super_dtype));
        from = copy;
    }
    if (job->super_dtype == QZ_F32)
        supers->scale = from;
    else
        job->kernels->f32_from_f16(from, pairs ? 2 * number : number, supers->both);
    if (pairs) {
        const float *both = supers->scale;
        for (size_t i = 0; i < number; i++) {
            supers->apart[0][i] = both[2 * i];
            supers->apart[1][i] = -both[2 * i + 1];
        }
        supers->scale = supers->apart[0];
        supers->offset = supers->apart[1];
    }
    return count;
}

/* Bytes of `count` groups, the first of which may share its super scale with groups before it. */
static void scale_bytes(const struct job *job, const uint8_t *bytes, size_t count, const struct supers *supers,
                        const float *super, float *scale, float *zero)
{
    size_t head = supers->head % supers->each ? supers->head : 0;
    if (head)
        qz_byte_scales(job, bytes, head, super++, head, scale, zero);
    if (head < count)
        qz_byte_scales(job, bytes + head, count - head, super, supers->each, scale + head, zero + head);
}

/* Scales of a byte of one row's groups, and the offsets beside them. */
static void load_bytes(const struct job *job, uint64_t row, uint64_t group, size_t count, float *scale, float *zero)
{
    struct supers supers;
    (void)load_supers(job, row, group, count, &supers);
    scale_bytes(job, (const uint8_t *)scales_at(job, row) + group, count, &supers, supers.scale, scale, zero);
    if (job->scale_dtype == QZ_U6)
        scale_bytes(job, (const uint8_t *)zeros_at(job, row) + group, count, &supers, supers.offset, zero, zero);
}

/* Scales or offsets of a span, from their stored type. */
static void load_scales(const struct job *job, const char *first, int64_t stride, const struct span *span, float *dst)
{
    union {
        float f32[QZ_TILE_GROUPS];
        uint16_t f16[QZ_TILE_GROUPS];
    } stored;
    size_t size = qz_dtype_size(job->scale_dtype), n = span->rows * span->count;
    const void *from = first + span->group * size;
    if (span->rows > 1) {
        gather(&stored, from, stride, span->rows, span->count * size);
        from = &stored;
    }
    if (job->scale_dtype == QZ_F32)
        memcpy(dst, from, n * sizeof *dst);
    else if (job->scale_dtype == QZ_F16)
        job->kernels->f32_from_f16(from, n, dst);
    else
        job->kernels->f32_from_bf16(from, n, dst);
}

static void store_scales(const struct job *job, char *first, int64_t stride, const struct span *span, const float *src,
                         const uint8_t *bytes)
{
    union {
        float f32[QZ_TILE_GROUPS];
        uint16_t f16[QZ_TILE_GROUPS];
    } stored;
    size_t size = qz_dtype_size(job->scale_dtype), n = span->rows * span->count;
    const void *from = &stored;
    if (qz_has_byte_scales(job))
        from = bytes;
    else if (job->scale_dtype == QZ_F32)
        from = src;
    else if (job->scale_dtype == QZ_F16)
        job->kernels->f16_from_f32(src, n, stored.f16);
    else
        job->kernels->bf16_from_f32(src, n, stored.f16);
    scatter(first + span->group * size, stride, from, span->rows, span->count * size);
}

enum { MANY_ZEROS = 32 }; /* so many are worth a call of a kernel */

/* n zeros of four bits, from the start of a byte on. */
static void load_zeros(const struct job *job, const uint8_t *src, size_t n, float *zero)
{
    const float scale = 1.0f, none = 0.0f;
    if (n < MANY_ZEROS) {
        for (size_t i = 0; i < n; i++)
            zero[i] = (float)qz_code_at(src, i);
        return;
    }
    job->kernels->group_decode(src, n, n, &job->grid, &scale, &none, zero); /* a group of codes 0..15 as they are */
}

static void store_zeros(const struct job *job, uint8_t *dst, size_t n, const float *zero)
{
    int8_t codes[QZ_TILE_GROUPS];
    if (n < MANY_ZEROS) {
        for (size_t i = 0; i < n; i += 2)
            *dst++ = (uint8_t)((int)zero[i] | (i + 1 < n ? (int)zero[i + 1] : 0) << 4);
        return;
    }
    for (size_t i = 0; i < n; i++)
        codes[i] = (int8_t)zero[i];
    (void)job->kernels->pack(codes, n, dst); /* 8..15 are no codes, but their low bits are right */
}

void qz_load_groups(const struct job *job, const struct span *span, float *scale, float *zero)
{
    if (qz_has_byte_scales(job)) {
        for (size_t r = 0; r < span->rows; r++)
            load_bytes(job, span->row + r, span->group, span->count, scale + r * span->count, zero + r * span->count);
        return;
    }
    load_scales(job, scales_at(job, span->row), job->packed->scale_stride, span, scale);
    if (job->grid.zero == QZ_ZERO_OFFSET || job->grid.zero == QZ_ZERO_FLOAT)
        load_scales(job, zeros_at(job, span->row), job->packed->zero_stride, span, zero);
    if (job->grid.zero == QZ_ZERO_UINT4)
        for (size_t r = 0; r < span->rows; r++, zero += span->count) {
            const uint8_t *zeros = (const uint8_t *)zeros_at(job, span->row + r) + span->group / 2;
            size_t odd = span->group % 2;
            if (odd)
                zero[0] = (float)(*zeros++ >> 4);
            load_zeros(job, zeros, span->count - odd, zero + odd);
        }
}

void qz_store_groups(const struct job *job, const struct span *span, const float *scale, const float *zero,
                     const uint8_t *bytes)
{
    store_scales(job, scales_at(job, span->row), job->packed->scale_stride, span, scale, bytes);
    if (job->grid.zero == QZ_ZERO_OFFSET || (job->grid.zero == QZ_ZERO_FLOAT && job->grid.shift == 0.0f))
        store_scales(job, zeros_at(job, span->row), job->packed->zero_stride, span, zero, bytes + QZ_TILE_GROUPS);
    if (job->grid.zero == QZ_ZERO_UINT4)
        for (size_t r = 0; r < span->rows; r++, zero += span->count) {
            uint8_t *zeros = (uint8_t *)zeros_at(job, span->row + r) + span->group / 2;
            size_t odd = span->group % 2;
            if (odd) {
                *zeros = (uint8_t)(*zeros | (int)zero[0] << 4);
                zeros++;
            }
            store_zeros(job, zeros, span->count - odd, zero + odd);
        }
}

/* Numbers of 2 or 4 bytes, of rows of `cols` of them, to or from rows of those that are side by side. Most rows of a
 * tile have a multiple of four numbers of 2 bytes, which move together. */
static void turn_in(void *dst, const char *src, int64_t stride, size_t rows, size_t cols, size_t size)
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

static void turn_out(char *dst, int64_t stride, const void *src, size_t rows, size_t cols, size_t size)
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

static void load_turned(const struct job *job, const char *first, int64_t stride, const struct span *span, float *dst)
{
    uint16_t stored[QZ_COLUMNS_GROUPS];
    size_t size = qz_dtype_size(job->scale_dtype), n = span->rows * span->count;
    turn_in(job->scale_dtype == QZ_F32 ? (void *)dst : stored, first + span->group * size, stride, span->rows,
            span->count, size);
    if (job->scale_dtype == QZ_F16)
        job->kernels->f32_from_f16(stored, n, dst);
    else if (job->scale_dtype == QZ_BF16)
        job->kernels->f32_from_bf16(stored, n, dst);
}

static void store_turned(const struct job *job, char *first, int64_t stride, const struct span *span, const float *src)
{
    uint16_t stored[QZ_COLUMNS_GROUPS];
    size_t size = qz_dtype_size(job->scale_dtype), n = span->rows * span->count;
    if (job->scale_dtype == QZ_F16)
        job->kernels->f16_from_f32(src, n, stored);
    else if (job->scale_dtype == QZ_BF16)
        job->kernels->bf16_from_f32(src, n, stored);
    turn_out(first + span->group * size, stride, job->scale_dtype == QZ_F32 ? (const void *)src : stored, span->rows,
             span->count, size);
}

void qz_load_columns(const struct job *job, const struct span *span, float *scale, float *zero)
{
    load_turned(job, scales_at(job, span->row), job->packed->scale_stride, span, scale);
    if (job->grid.zero == QZ_ZERO_OFFSET || job->grid.zero == QZ_ZERO_FLOAT)
        load_turned(job, zeros_at(job, span->row), job->packed->zero_stride, span, zero);
    if (job->grid.zero == QZ_ZERO_UINT4)
        for (size_t r = 0; r < span->rows; r++) {
            const uint8_t *zeros = (const uint8_t *)zeros_at(job, span->row + r) + span->group / 2;
            for (size_t c = 0; c < span->count; c++)
                zero[c * span->rows + r] = (float)qz_code_at(zeros, c);
        }
}

void qz_store_columns(const struct job *job, const struct span *span, const float *scale, const float *zero)
{
    store_turned(job, scales_at(job, span->row), job->packed->scale_stride, span, scale);
    if (job->grid.zero == QZ_ZERO_OFFSET || job->grid.zero == QZ_ZERO_FLOAT)
        store_turned(job, zeros_at(job, span->row), job->packed->zero_stride, span, zero);
    if (job->grid.zero == QZ_ZERO_UINT4)
        for (size_t r = 0; r < span->rows; r++) {
            uint8_t *zeros = (uint8_t *)zeros_at(job, span->row + r) + span->group / 2;
            for (size_t c = 0; c < span->count; c += 2) {
                int low = (int)zero[c * span->rows + r];
                int high = c + 1 < span->count ? (int)zero[(c + 1) * span->rows + r] : 0;
                zeros[c / 2] = (uint8_t)(low | high << 4);
            }
        }
}

void qz_decode_run(const struct job *job, const struct run *run, float *dst, float *to)
{
    float scale[QZ_TILE_GROUPS], zero[QZ_TILE_GROUPS];
    size_t n = run->rows * run->pitch;
    uint64_t group = run->col / job->group_size, last = (run->col + run->cols - 1) / job->group_size;
    struct span span = {run->row, group, run->rows, (size_t)(last - group + 1)};
    qz_load_groups(job, &span, scale, zero);

    const uint8_t *codes = qz_codes_at(job, run->row, run->col);
    uint8_t staged[QZ_TILE / 2 + 1];
    if (run->rows > 1) {
        size_t bytes = run->cols / 2 + run->cols % 2;
        if (bytes != run->pitch / 2)
            memset(staged, 0, n / 2);
        for (size_t r = 0; r < run->rows; r++)
            qz_copy_few(staged + r * (run->pitch / 2), codes + (int64_t)r * job->packed->code_stride, bytes);
        codes = staged;
    } else if (run->col % 2) { /* a long group of odd length puts the next one in the middle of a byte */
        memset(staged, 0, n / 2 + 1);
        for (size_t i = 0; i < n; i++)
            qz_set_code(staged, i, qz_code_at(codes, i + 1));
        codes = staged;
    }
    size_t groups = span.rows * span.count, group_size = groups == 1 ? n : (size_t)job->group_size;
    if (!to) {
        job->kernels->group_decode(codes, n, group_size, &job->grid, scale, zero, dst);
        return;
    }
    /* An even number of groups at a time, so that each starts a byte; or a piece of a single one. */
    size_t step_groups = QZ_STAGE_STEP / sizeof *dst / group_size / 2 * 2, sent = 0;
    size_t step = groups == 1 ? QZ_STAGE_STEP / sizeof *dst : (step_groups ? step_groups : 2) * group_size;
    for (size_t i = 0; i < n; i += step) {
        size_t count = n - i < step ? n - i : step, g = groups == 1 ? 0 : i / group_size;
        job->kernels->group_decode(codes + i / 2, count, groups == 1 ? count : group_size, &job->grid, scale + g,
                                   zero + g, dst + i);
        qz_stage_send(job->kernels, to, dst, &sent, (i + count) * sizeof *dst, i + count == n);
    }
}

int qz_decode_groups(const struct job *job, uint64_t row, uint64_t group, size_t count, void *dst)
{
    struct supers supers;
    qz_dtype dtype = job->matrix->dtype;
    size_t size = qz_dtype_size(job->scale_dtype), group_size = (size_t)job->group_size, step = count;
    const uint8_t *codes = qz_codes_at(job, row, group * group_size);
    const char *scale = scales_at(job, row) + group * size, *zero = NULL;
    char *to = dst;
    int beyond = 0;
    if (job->grid.zero != QZ_ZERO_NONE && job->scale_dtype != QZ_I7)
        zero = zeros_at(job, row) + (job->grid.zero == QZ_ZERO_UINT4 ? group / 2 : group * size);
    struct qz_stored stored = {job->scale_dtype, scale, zero, NULL, NULL, 1, 1};
    for (; count > 0; count -= step, group += step) {
        if (qz_has_byte_scales(job)) {
            step = load_supers(job, row, group, count, &supers);
            stored.super = supers.scale;
            stored.super_zero = supers.offset;
            stored.first = supers.head;
            stored.each = supers.each;
        }
        beyond |= job->kernels->stored_decode(codes, step, group_size, &job->grid, &stored, dtype, to);
        codes += step * group_size / 2;
        to += step * group_size * qz_dtype_size(dtype);
        stored.scale = scale += step * size;
        stored.zero = zero ? zero += step * size : NULL;
    }
    return beyond;
}

/* Decodes rows of a tile, run_rows at most, to rows of `stride`. */
static void decode_rows(const struct job *job, const struct qz_tile *tile, float *dst, ptrdiff_t stride)
{
    struct run run = qz_run_of(job, tile);
    if (!qz_is_one_run(&run)) {
        for (size_t r = 0; r < run.rows; r++) {
            struct run single = qz_single_row(&run, r);
            qz_decode_run(job, &single, dst + (ptrdiff_t)r * stride, NULL);
        }
    } else if (run.rows == 1 || (run.pitch == run.cols && stride == (ptrdiff_t)run.pitch)) {
        qz_decode_run(job, &run, dst, NULL);
    } else {
        float values[QZ_TILE];
        qz_decode_run(job, &run, values, NULL);
        for (size_t r = 0; r < run.rows; r++)
            memcpy(dst + (ptrdiff_t)r * stride, values + r * run.pitch, run.cols * sizeof *dst);
    }
}

void qz_decode_tile(const struct job *job, const struct qz_tile *tile, float *dst, ptrdiff_t stride)
{
    for (size_t r = 0; r < tile->rows; r += job->run_rows) {
        struct qz_tile some = {tile->row + r, tile->col, qz_least(job->run_rows, tile->rows - r), tile->cols};
        decode_rows(job, &some, dst + (ptrdiff_t)r * stride, stride);
    }
}

/* Integers of six bits must not have more. */
static int byte_in_range(const struct job *job, uint64_t row, uint64_t group)
{
    if (job->scale_dtype != QZ_I6 && job->scale_dtype != QZ_U6)
        return 1;
    uint8_t scale = (uint8_t)scales_at(job, row)[group];
    if (job->scale_dtype == QZ_I6)
        return scale < 32 || scale >= 256 - 32;
    return scale < 64 && (uint8_t)zeros_at(job, row)[group] < 64;
}

qz_result qz_validate(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols, qz_detail *detail)
{
    qz_sizes sizes = {.size = sizeof sizes};
    qz_result result = qz_scheme_sizes(scheme, rows, cols, &sizes);
    if (result != QZ_OK)
        return result;
    if (!qz_strides_fit(packed, &sizes, rows, scheme->super_size == QZ_WHOLE_MATRIX))
        return QZ_ERROR_ARGUMENT;
    struct job job;
    job.kernels = &qz_kernels_scalar;
    job.packed = packed;
    qz_group_scheme(&job, scheme);
    for (uint64_t r = 0; r < rows && cols; r++) {
        uint64_t bad = UINT64_MAX;
        float value = 0.0f;
        for (uint64_t g = 0; g < sizes.row_groups && bad == UINT64_MAX; g++) {
            float scale, zero = 0.0f;
            qz_load_groups(&job, &(struct span){r, g, 1, 1}, &scale, &zero);
            if (!qz_is_finite(scale) || !qz_is_finite(zero) || !byte_in_range(&job, r, g)) {
                bad = g;
                value = qz_is_finite(scale) ? zero : scale;
            }
        }
        int padding = cols % 2 ? qz_code_at(qz_codes_at(&job, r, 0), cols) : 0;
        if (scheme->zero == QZ_ZERO_UINT4 && sizes.row_groups % 2)
            padding |= qz_code_at((const uint8_t *)zeros_at(&job, r), sizes.row_groups);
        if (padding && bad == UINT64_MAX) {
            bad = sizes.row_groups - 1;
            value = (float)padding;
        }
        if (bad != UINT64_MAX) {
            if (detail) {
                detail->group = r * sizes.row_groups + bad;
                detail->value = (double)value;
            }
            return QZ_ERROR_PACKED;
        }
    }
    return QZ_OK;
}
