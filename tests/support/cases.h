/*
 * cases.h - random schemes, and random matrices in memory: types, strides, gaps, guard pages
 */
#ifndef QZ_TEST_CASES_H
#define QZ_TEST_CASES_H

#include "guard.h"
#include "random.h"
#include "reference.h"

static const qz_dtype all_dtypes[] = {QZ_F32, QZ_F64, QZ_F16, QZ_BF16};
static const qz_dtype scale_dtypes[] = {QZ_F32, QZ_F16, QZ_BF16};

#define COUNT(array)     (sizeof(array) / sizeof((array)[0]))
#define PICK(rng, array) ((array)[rng_below(rng, COUNT(array))])

/* ---- schemes ------------------------------------------------------------------------------------------------- */

/* The scheme and method of number i, 0..SCHEME_KINDS - 1: every legal combination. */
enum { SCHEME_KINDS = 12 };

static inline qz_scheme scheme_kind(size_t i, uint64_t group_size, qz_method *method)
{
    static const char *const names[] = {"int4", "int4", "uint4", "uint4_offset"};
    qz_scheme scheme = *qz_scheme_by_name(names[i % 4]);
    scheme.name = NULL;
    scheme.scale_dtype = scale_dtypes[i / 4 % 3];
    scheme.group_size = group_size;
    *method = i % 4 == 0 ? QZ_ABSMAX : i % 4 == 1 ? QZ_ABSMAX7 : QZ_MINMAX;
    return scheme;
}

static inline const char *method_name(qz_method method)
{
    static const char *const names[] = {"default", "minmax", "absmax", "absmax7"};
    return names[method];
}

static inline const char *zero_name(qz_zero zero)
{
    static const char *const names[] = {"none", "uint4", "offset"};
    return names[zero];
}

/* ---- matrices ------------------------------------------------------------------------------------------------ */

enum layout {
    LAYOUT_ROWS,    /* contiguous */
    LAYOUT_GAPS,    /* rows with gaps between them */
    LAYOUT_COLUMNS, /* transposed */
    LAYOUT_COLUMN_GAPS,
    LAYOUT_SPREAD,    /* every third element */
    LAYOUT_BACK_ROWS, /* negative strides */
    LAYOUT_BACK_COLUMNS,
    LAYOUT_BACK_BOTH,
    LAYOUTS,
    LAYOUT_ONE_ROW = LAYOUTS, /* stride 0: for inputs only */
    LAYOUT_ONE_COLUMN,
    INPUT_LAYOUTS
};

static inline const char *layout_name(enum layout layout)
{
    static const char *const names[] = {"rows",          "rows with gaps",  "columns",           "columns with gaps",
                                        "spread",        "rows backwards",  "columns backwards", "both backwards",
                                        "one row again", "one column again"};
    return names[layout];
}

struct field {
    struct guard guard;
    qz_matrix matrix;
    void *start;  /* of all elements */
    size_t bytes; /* from start to the guard page */
};

/* Memory for a matrix that ends at a guard page, filled with the canary. */
static inline struct field field_make(qz_dtype dtype, uint64_t rows, uint64_t cols, enum layout layout)
{
    int64_t row = (int64_t)cols, col = 1;
    switch (layout) {
    case LAYOUT_GAPS:
        row = (int64_t)cols + 3;
        break;
    case LAYOUT_COLUMNS:
        row = 1;
        col = (int64_t)rows;
        break;
    case LAYOUT_COLUMN_GAPS:
        row = 1;
        col = (int64_t)rows + 2;
        break;
    case LAYOUT_SPREAD:
        col = 3;
        row = (int64_t)cols * 3 + 1;
        break;
    case LAYOUT_BACK_ROWS:
        row = -(int64_t)cols;
        break;
    case LAYOUT_BACK_COLUMNS:
        col = -1;
        break;
    case LAYOUT_BACK_BOTH:
        row = -(int64_t)cols * 2;
        col = -2;
        break;
    case LAYOUT_ONE_ROW:
        row = 0;
        break;
    case LAYOUT_ONE_COLUMN:
        row = 1;
        col = 0;
        break;
    default:
        break;
    }
    size_t size = qz_dtype_size(dtype);
    int64_t down = rows ? (int64_t)(rows - 1) * row : 0, across = cols ? (int64_t)(cols - 1) * col : 0;
    int64_t low = (down < 0 ? down : 0) + (across < 0 ? across : 0);
    int64_t high = (down > 0 ? down : 0) + (across > 0 ? across : 0);
    struct field field;
    field.bytes = rows && cols ? (size_t)(high - low + 1) * size : 0;
    field.guard = guard_make(field.bytes);
    field.start = guard_end(field.guard, field.bytes, 0);
    field.matrix = (qz_matrix){(char *)field.start - low * (int64_t)size, dtype, rows, cols, row, col};
    return field;
}

static inline void field_free(struct field field)
{
    guard_free(field.guard);
}

static inline void *field_at(const qz_matrix *matrix, uint64_t row, uint64_t col)
{
    int64_t at = (int64_t)row * matrix->row_stride + (int64_t)col * matrix->col_stride;
    return (char *)matrix->data + at * (int64_t)qz_dtype_size(matrix->dtype);
}

/* x rounded to the matrix's type and stored; what would not fit becomes the nearest number that does. */
static inline void field_put(const qz_matrix *matrix, uint64_t row, uint64_t col, double x)
{
    double rounded = ref_round(x, matrix->dtype);
    if (isinf(rounded) && !isinf(x)) {
        double most = matrix->dtype == QZ_F16 ? 65504.0 : matrix->dtype == QZ_BF16 ? 0x1.fep127 : (double)FLT_MAX;
        rounded = copysign(most, x);
    }
    ref_store(field_at(matrix, row, col), matrix->dtype, rounded);
}

/* Elements of one kind; a float64 also gets digits that float32 lacks. */
static inline void field_fill(struct rng *rng, const qz_matrix *matrix, enum data_kind kind)
{
    float *row = malloc((size_t)matrix->cols * sizeof *row + 1);
    for (uint64_t r = 0; r < matrix->rows; r++) {
        fill_floats(rng, kind, row, (size_t)matrix->cols);
        for (uint64_t c = 0; c < matrix->cols; c++) {
            double x = (double)row[c];
            if (matrix->dtype == QZ_F64 && kind == DATA_NORMAL)
                x *= 1.0 + (double)(rng_next(rng) % 1024) * 0x1p-40;
            field_put(matrix, r, c, x);
        }
    }
    free(row);
}

/* ---- plain forms --------------------------------------------------------------------------------------------- */

struct plain {
    qz_packed packed;
    struct guard codes, scales, zeros;
    size_t code_bytes, scale_bytes, zero_bytes; /* of all rows, gaps between them included */
    qz_sizes sizes;
};

/* Memory for a packed matrix with gaps of so many elements between its rows; each part ends at a guard page. */
static inline struct plain plain_make(const qz_scheme *scheme, uint64_t rows, uint64_t cols, size_t gap)
{
    struct plain plain;
    memset(&plain, 0, sizeof plain);
    plain.sizes.size = sizeof plain.sizes;
    if (qz_scheme_sizes(scheme, rows, cols, &plain.sizes) != QZ_OK) {
        printf("plain_make: the scheme was refused\n");
        exit(1);
    }
    size_t unit = qz_dtype_size(scheme->scale_dtype), zero_unit = scheme->zero == QZ_ZERO_UINT4 ? 1 : unit;
    plain.packed.code_stride = (int64_t)(plain.sizes.code_bytes + gap);
    plain.packed.scale_stride = (int64_t)(plain.sizes.scale_bytes + gap * unit);
    plain.packed.zero_stride = scheme->zero ? (int64_t)(plain.sizes.zero_bytes + gap * zero_unit) : 0;
    if (rows && cols) {
        plain.code_bytes = (size_t)((rows - 1) * (uint64_t)plain.packed.code_stride + plain.sizes.code_bytes);
        plain.scale_bytes = (size_t)((rows - 1) * (uint64_t)plain.packed.scale_stride + plain.sizes.scale_bytes);
        plain.zero_bytes = (size_t)((rows - 1) * (uint64_t)plain.packed.zero_stride + plain.sizes.zero_bytes);
    }
    plain.codes = guard_make(plain.code_bytes);
    plain.scales = guard_make(plain.scale_bytes);
    plain.zeros = guard_make(plain.zero_bytes);
    plain.packed.codes = guard_end(plain.codes, plain.code_bytes, 0);
    plain.packed.scales = guard_end(plain.scales, plain.scale_bytes, 0);
    plain.packed.zeros = scheme->zero ? guard_end(plain.zeros, plain.zero_bytes, 0) : NULL;
    return plain;
}

static inline void plain_free(struct plain plain)
{
    guard_free(plain.codes);
    guard_free(plain.scales);
    guard_free(plain.zeros);
}

/* ---- comparing ----------------------------------------------------------------------------------------------- */

/* 1 if the bytes are equal; otherwise says where they first differ, in elements of `unit` bytes. */
static inline int same_bytes(const char *what, const void *got, const void *wanted, size_t bytes, size_t unit)
{
    const uint8_t *a = got, *b = wanted;
    if (bytes == 0 || memcmp(a, b, bytes) == 0)
        return 1;
    size_t i = 0, differ = 0;
    for (size_t k = 0; k < bytes / unit; k++)
        if (memcmp(a + k * unit, b + k * unit, unit) != 0 && differ++ == 0)
            i = k;
    printf("%s: %zu of %zu differ, the first is [%zu]: got ", what, differ, bytes / unit, i);
    for (size_t k = 0; k < unit; k++)
        printf("%02x", a[i * unit + k]);
    printf(", wanted ");
    for (size_t k = 0; k < unit; k++)
        printf("%02x", b[i * unit + k]);
    if (unit == 4) {
        float x, y;
        memcpy(&x, a + i * 4, 4);
        memcpy(&y, b + i * 4, 4);
        printf(" (%a, %a)", (double)x, (double)y);
    }
    printf("\n");
    return 0;
}

/* The whole usable memory of two guarded buffers of one size: contents and gaps. */
static inline int same_memory(const char *what, struct guard got, struct guard wanted, size_t unit)
{
    return same_bytes(what, got.bytes, wanted.bytes, got.size, unit);
}

/* Statistics against long double sums. Differences below 2^-48 of the largest value around may be lost, since they are
 * squared in float32; sums may not be off by more than one part in 10^5 otherwise. */
static inline int same_stats(const qz_stats *got, const struct ref_stats *wanted, uint64_t count)
{
    long double lost = (long double)wanted->largest * (long double)wanted->largest * 0x1p-96L * (long double)count;
    int good = got->count == count && got->clipped == wanted->clipped && got->replaced == wanted->replaced &&
               got->zeroed_groups == wanted->zeroed_groups && got->subnormal_scales == wanted->subnormal_scales;
    if (!good)
        printf(
            "counts: got %llu values %llu clipped %llu zeroed %llu subnormal %llu replaced, wanted %llu, %llu, %llu, "
            "%llu, %llu\n",
            (unsigned long long)got->count, (unsigned long long)got->clipped, (unsigned long long)got->zeroed_groups,
            (unsigned long long)got->subnormal_scales, (unsigned long long)got->replaced, (unsigned long long)count,
            (unsigned long long)wanted->clipped, (unsigned long long)wanted->zeroed_groups,
            (unsigned long long)wanted->subnormal_scales, (unsigned long long)wanted->replaced);
    if (!(fabsl((long double)got->signal - wanted->signal) <= wanted->signal * 1e-5L + lost)) {
        printf("signal: got %.9g, wanted %.9Lg\n", got->signal, wanted->signal);
        good = 0;
    }
    if (!(fabsl((long double)got->error - wanted->error) <= wanted->error * 1e-5L + lost)) {
        printf("error: got %.9g, wanted %.9Lg\n", got->error, wanted->error);
        good = 0;
    }
    int visible = wanted->max_error > wanted->largest * 0x1p-60f;
    if (visible ? got->max_error != (double)wanted->max_error || got->max_index != wanted->max_index
                : !(got->max_error <= (double)wanted->largest * 0x1p-59)) {
        printf("largest error: got %a at %llu, wanted %a at %llu\n", got->max_error, (unsigned long long)got->max_index,
               (double)wanted->max_error, (unsigned long long)wanted->max_index);
        good = 0;
    }
    return good;
}

#endif
