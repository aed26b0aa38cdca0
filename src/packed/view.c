/*
 * view.c - makes a view of a packed matrix, and checks whether its data is valid
 */
#include "view.h"
#include "../base/fpenv.h"
#include "../base/number.h"
#include "scheme.h"

#include <math.h>

void qz_view_make(struct qz_view *view, const struct qz_kernels *kernels, const qz_scheme *scheme,
                  const qz_packed *packed, uint64_t rows, uint64_t cols, uint64_t longest)
{
    view->kernels = kernels;
    view->packed = packed;
    qz_scheme_values(scheme, &view->grid);
    view->scale_type = qz_scale_type_of(scheme->scale_dtype);
    view->scale_dtype = scheme->scale_dtype;
    view->super_dtype = scheme->super_dtype;
    view->shared_super = scheme->super_size == QZ_WHOLE_MATRIX;
    view->rows = rows;
    view->cols = cols;
    view->group_size = scheme->group_size < longest ? scheme->group_size : longest;
    view->row_groups = rows && cols ? qz_divide_up(cols, view->group_size) : 0;
    view->super_groups =
        scheme->super_size >= QZ_WHOLE_MATRIX ? scheme->super_size : scheme->super_size / scheme->group_size;
}

/* 1 if rows of packed data do not overlap. */
static int strides_fit(const qz_packed *packed, const qz_sizes *sizes, uint64_t rows, int shared_super)
{
    return rows < 2 ||
           (packed->code_stride >= (int64_t)sizes->code_bytes && packed->scale_stride >= (int64_t)sizes->scale_bytes &&
            packed->zero_stride >= (int64_t)sizes->zero_bytes &&
            (shared_super || packed->super_stride >= (int64_t)sizes->super_bytes));
}

qz_result qz_packed_sizes(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols,
                          qz_sizes *sizes)
{
    qz_result result = qz_scheme_bytes(scheme, rows, cols, sizes);
    if (result != QZ_OK)
        return result;
    return strides_fit(packed, sizes, rows, scheme->super_size == QZ_WHOLE_MATRIX) ? QZ_OK : QZ_ERROR_ARGUMENT;
}

static int bytes_in_range(const struct qz_view *view, uint64_t row, uint64_t group)
{
    if (!qz_has_byte_scales(view))
        return 1;
    const uint8_t *scales = (const uint8_t *)qz_scales_at(view, row),
                  *offsets = (const uint8_t *)qz_zeros_at(view, row);
    return qz_is_scale_byte(view->scale_type, scales[group]) &&
           (!view->scale_type->pairs || qz_is_scale_byte(view->scale_type, offsets[group]));
}

/* Numbers of groups of a row. */
struct numbers {
    float scale[QZ_TILE_GROUPS], zero[QZ_TILE_GROUPS];
};

static int all_finite(const struct numbers *numbers, size_t count)
{
    int finite = 1;
    for (size_t i = 0; i < count; i++)
        finite &= qz_is_finite(numbers->scale[i]) & qz_is_finite(numbers->zero[i]);
    return finite;
}

/* Which bytes are no numbers of the type of scales, or not finite ones, and what the others are at most. */
struct byte_numbers {
    uint8_t wrong[256];
    float largest; /* magnitude with a super scale of 1 */
};

static void learn_bytes(const struct qz_view *view, struct byte_numbers *known)
{
    uint8_t bytes[256];
    float scale[256], zero[256] = {0};
    const float one = 1.0f;
    for (unsigned i = 0; i < 256; i++)
        bytes[i] = (uint8_t)i;
    qz_byte_scales(view, bytes, 256, &one, SIZE_MAX, scale, zero);
    known->largest = 1.0f;
    for (unsigned i = 0; i < 256; i++) {
        float larger = fabsf(scale[i]) > fabsf(zero[i]) ? fabsf(scale[i]) : fabsf(zero[i]);
        known->wrong[i] =
            !qz_is_finite(scale[i]) || !qz_is_finite(zero[i]) || !qz_is_scale_byte(view->scale_type, bytes[i]);
        if (!known->wrong[i] && larger > known->largest)
            known->largest = larger;
    }
}

/* Whether no number of some groups of a row is wrong. Where super scales are so large that products might not be
 * finite, the answer is no, and the numbers themselves have to be looked at. */
static int bytes_are_right(const struct qz_view *view, uint64_t row, uint64_t group, size_t count,
                           const struct byte_numbers *known)
{
    const uint8_t *scales = (const uint8_t *)qz_scales_at(view, row) + group;
    const uint8_t *offsets = view->scale_type->pairs ? (const uint8_t *)qz_zeros_at(view, row) + group : scales;
    const double most = 0x1.ffffp127 / (double)known->largest; /* less than float32 has, for products are rounded */
    struct qz_supers supers;
    (void)qz_load_supers(view, row, group, count, &supers);
    size_t number = supers.each == SIZE_MAX ? 1 : (size_t)qz_divide_up(count - supers.head, supers.each) + 1;
    int fine = 1;
    for (size_t i = 0; i < number; i++)
        fine &= (fabs((double)supers.scale[i]) <= most) &
                (!view->scale_type->pairs || fabs((double)supers.offset[i]) <= most);
    unsigned wrong = 0;
    for (size_t i = 0; i < count; i++)
        wrong |= (unsigned)known->wrong[scales[i]] | known->wrong[offsets[i]];
    return fine && !wrong;
}

/* The first group of a row whose numbers are invalid, and that number; UINT64_MAX if there is none. Zeros of `numbers`
 * are 0 where the scheme has none. `known`: of scales of a byte. */
static uint64_t find_bad_group(const struct qz_view *view, uint64_t row, const struct byte_numbers *known,
                               struct numbers *numbers, float *value)
{
    size_t count;
    for (uint64_t g = 0; g < view->row_groups; g += count) {
        count = (size_t)qz_least(view->row_groups - g, QZ_TILE_GROUPS);
        if (qz_has_byte_scales(view) && bytes_are_right(view, row, g, count, known))
            continue;
        qz_load_groups(view, &(struct span){row, g, 1, count, 0}, numbers->scale, numbers->zero);
        if (!qz_has_byte_scales(view) && all_finite(numbers, count))
            continue;
        for (size_t i = 0; i < count; i++) {
            float scale = numbers->scale[i], zero = numbers->zero[i];
            if (qz_is_finite(scale) && qz_is_finite(zero) && bytes_in_range(view, row, g + i))
                continue;
            *value = qz_is_finite(scale) ? zero : scale;
            return g + i;
        }
    }
    return UINT64_MAX;
}

static QZ_NOINLINE qz_result validate(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols,
                                      qz_detail *detail)
{
    qz_sizes sizes = {.size = sizeof sizes};
    qz_result result = qz_scheme_sizes(scheme, rows, cols, &sizes);
    if (result != QZ_OK)
        return result;
    if (!strides_fit(packed, &sizes, rows, scheme->super_size == QZ_WHOLE_MATRIX))
        return QZ_ERROR_ARGUMENT;
    const struct qz_kernels *kernels = qz_kernels_active();
    if (!kernels)
        return QZ_ERROR_KERNELS;
    struct qz_view view;
    struct numbers numbers;
    struct byte_numbers known = {.largest = 0.0f};
    memset(numbers.zero, 0, sizeof numbers.zero);
    qz_view_make(&view, kernels, scheme, packed, rows, cols, cols);
    if (qz_has_byte_scales(&view))
        learn_bytes(&view, &known);
    for (uint64_t r = 0; r < rows && cols; r++) {
        float value = 0.0f;
        uint64_t bad = find_bad_group(&view, r, &known, &numbers, &value);
        int padding = cols % 2 ? qz_code_at(qz_codes_at(&view, r, 0), cols) : 0;
        if (scheme->zero == QZ_ZERO_UINT4 && sizes.row_groups % 2)
            padding |= qz_code_at((const uint8_t *)qz_zeros_at(&view, r), sizes.row_groups);
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

qz_result qz_validate(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols, qz_detail *detail)
{
    qz_fp_state state = qz_fp_enter();
    qz_result result = validate(scheme, packed, rows, cols, detail);
    qz_fp_leave(state);
    return result;
}
