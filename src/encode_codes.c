/*
 * encode_codes.c - makes codes of groups whose scales are known, and measures the errors of the codes
 */
#include "encode_codes.h"
#include "scales/exact.h"
#include "base/number.h"

#include <math.h>

void qz_note_far_values(const struct qz_view *view, struct groups *groups)
{
    const int offset = view->grid.zero == QZ_ZERO_OFFSET, moved = view->grid.zero == QZ_ZERO_FLOAT;
    int32_t near = 1;
    for (size_t g = 0; g < groups->count && view->grid.uniform; g++) { /* compilers make vectors of it */
        float zero = offset ? groups->zero[g] : 0.0f, moves = moved ? fabsf(groups->zero[g]) : 0.0f;
        float inverse = fabsf(groups->inverse[g]), above = (groups->max[g] - zero) * inverse;
        float below = (zero - groups->min[g]) * inverse;
        near &= (above <= 0x1p29f) & (below <= 0x1p29f) & (moves <= 0x1p29f);
    }
    groups->far = !near;
}

/* The kernels that make a run's codes. */
static const struct qz_kernels *kernels_for(const struct qz_view *view, const struct groups *groups)
{
    return groups->far ? &qz_kernels_scalar : view->kernels;
}

size_t qz_count_clipped(const struct encoding *encoding, const struct groups *groups, const float *x, size_t n,
                        size_t group_size)
{
    uint8_t nearest[QZ_TILE / 2];
    if (!encoding->want_stats)
        return 0;
    return kernels_for(encoding->encoder.view, groups)
        ->group_codes(x, n, group_size, &encoding->encoder.view->grid, groups->inverse, groups->zero, nearest);
}

static int needs_care(const struct groups *groups, size_t g)
{
    return groups->inverse[g] == 0.0f && groups->scale[g] != 0.0f;
}

/* A number in [0, 1) for an element: its flat index and the seed, well mixed. */
static double chance(uint64_t seed, uint64_t index)
{
    return (double)(qz_splitmix(seed, index + 1) >> 11) * 0x1p-53;
}

/* One of the two codes around x, the nearer one more likely; values beyond the ends take the end. */
static int stochastic_code(float x, float scale, float zero, const struct qz_grid *grid, double chance)
{
    double y = ((double)x - (grid->zero == QZ_ZERO_OFFSET ? (double)zero : 0.0)) / (double)scale;
    if (grid->zero == QZ_ZERO_UINT4 || grid->zero == QZ_ZERO_FLOAT)
        y += (double)zero;
    int i = 0, last = 15;
    while (grid->uniform && grid->sorted[last] > (float)grid->hi)
        last--;
    while (grid->uniform && grid->sorted[i] < (float)grid->lo)
        i++;
    while (i < last && (double)grid->sorted[i + 1] <= y)
        i++;
    double low = (double)grid->sorted[i], step = i < last ? (double)grid->sorted[i + 1] - low : 0.0;
    i += step > 0.0 && y > low && chance * step < y - low;
    while (i < last && grid->sorted[i + 1] == grid->sorted[i]) /* of equal values only the last one is written */
        i++;
    return grid->code[i];
}

size_t qz_kernel_codes(const struct encoding *encoding, struct groups *groups, const float *x, size_t n,
                       size_t group_size, uint8_t *codes)
{
    const struct qz_view *view = encoding->encoder.view;
    const struct qz_kernels *kernels = kernels_for(view, groups);
    groups->has_sums = encoding->want_stats;
    if (groups->has_sums)
        return kernels->group_codes_error(x, n, group_size, &view->grid, groups->scale, groups->inverse, groups->zero,
                                          codes, &groups->sums);
    return kernels->group_codes(x, n, group_size, &view->grid, groups->inverse, groups->zero, codes);
}

/* The flat index of element i of a run in the matrix that the values are a part of. */
static uint64_t whole_index(const struct encoding *encoding, const struct run *run, size_t i)
{
    uint64_t flat = qz_flat_index(encoding->encoder.view, run, i);
    if (!encoding->whole)
        return flat;
    return (encoding->whole->row + flat / encoding->part_cols) * encoding->whole->cols + encoding->whole->col +
           flat % encoding->part_cols;
}

size_t qz_group_codes(const struct encoding *encoding, struct groups *groups, const struct run *run, const float *x,
                      size_t group_size, uint8_t *codes)
{
    const struct qz_view *view = encoding->encoder.view;
    if (!groups->careful && !encoding->stochastic)
        return qz_kernel_codes(encoding, groups, x, run->rows * run->pitch, group_size, codes);
    float others[QZ_TILE];
    const float *plain = x;
    size_t n = run->rows * run->pitch;
    if (groups->careful) { /* the kernel must not see values that need the careful rule: x - offset could overflow */
        memcpy(others, x, n * sizeof *x);
        for (size_t i = 0; i < n; i++)
            if (groups->inverse[i / group_size] == 0.0f)
                others[i] = 0.0f;
        plain = others;
    }
    const struct qz_kernels *kernels = kernels_for(view, groups);
    size_t clipped = kernels->group_codes(plain, n, group_size, &view->grid, groups->inverse, groups->zero, codes);
    for (size_t i = 0; i < n && groups->careful; i++) {
        size_t g = i / group_size;
        if (!needs_care(groups, g))
            continue;
        if (i % group_size == 0) { /* what stood there may have counted as clipped, where 0 is not among the values */
            uint8_t code;
            clipped -= qz_least(group_size, n - i) *
                       kernels->group_codes(&plain[i], 1, 1, &view->grid, &groups->inverse[g], &groups->zero[g], &code);
        }
        qz_set_code(codes, i, qz_careful_code(x[i], groups->scale[g], groups->zero[g], &view->grid, &clipped));
    }
    for (size_t i = 0; i < n && encoding->stochastic; i++) {
        size_t g = i / group_size;
        if (groups->scale[g] != 0.0f && groups->inverse[g] != 0.0f)
            qz_set_code(codes, i,
                        stochastic_code(x[i], groups->scale[g], groups->zero[g], &view->grid,
                                        chance(encoding->seed, whole_index(encoding, run, i))));
    }
    return clipped;
}

/* Puts n codes in place, from column col on. */
static void store_codes(const struct encoding *encoding, uint64_t row, uint64_t col, size_t n, const uint8_t *codes)
{
    uint8_t *to = qz_codes_at(encoding->encoder.view, row, col);
    if (col % 2 == 0 && encoding->operation.work.streams)
        encoding->encoder.view->kernels->stream(to, codes, n / 2 + n % 2);
    else if (col % 2 == 0)
        memcpy(to, codes, n / 2 + n % 2);
    else
        for (size_t i = 0; i < n; i++) {
            if (i % 2)
                to[(i + 1) / 2] = 0;
            qz_set_code(to, i + 1, qz_code_at(codes, i));
        }
}

uint8_t *qz_codes_buffer(const struct encoding *encoding, const struct run *run, uint8_t *staged)
{
    int one_run = run->rows == 1 ||
                  (run->pitch == run->cols && encoding->encoder.view->packed->code_stride == (int64_t)run->pitch / 2);
    int direct = !encoding->operation.work.streams && run->col % 2 == 0 && one_run;
    return direct ? qz_codes_at(encoding->encoder.view, run->row, run->col) : staged;
}

void qz_finish_codes(const struct encoding *encoding, struct errors *errors, const struct groups *groups,
                     const struct run *run, const float *x, const float *w, int stays, size_t group_size,
                     uint8_t *codes)
{
    const struct qz_view *view = encoding->encoder.view;
    size_t n = run->rows * run->pitch, bytes = run->cols / 2 + run->cols % 2;
    int in_place = codes == qz_codes_at(view, run->row, run->col);
    for (size_t r = 0; r < run->rows && run->rows > 1 && !in_place; r++) {
        uint8_t *from = codes + r * (run->pitch / 2), *to = qz_codes_at(view, run->row + r, run->col);
        qz_copy_few(to, from, bytes);
        if (run->cols % 2)
            to[bytes - 1] &= 15; /* what fills the row up is no part of it */
    }
    if (run->rows == 1 && !in_place)
        store_codes(encoding, run->row, run->col, n, codes);
    if (!encoding->want_stats)
        return;

    float decoded[QZ_TILE];
    if (w) {
        view->kernels->group_decode(codes, n, group_size, &view->grid, groups->scale, groups->zero, decoded);
        qz_add_weighted_error(view, errors, x, decoded, w, run);
    }
    const struct qz_sums *sums = &groups->sums;
    if (!groups->has_sums || !qz_add_plain_sums(errors, sums)) {
        float largest = qz_largest_magnitude(view, groups->min, groups->max, groups->count);
        view->kernels->group_decode(codes, n, group_size, &view->grid, groups->scale, groups->zero, decoded);
        qz_add_error(view, errors, x, decoded, run, largest);
        return;
    }
    if (sums->max_error == 0 || (double)sums->max_error < errors->max_error)
        return;
    if (stays && (double)sums->max_error > errors->max_error) { /* its place can wait: a larger one may come */
        errors->max_error = (double)sums->max_error;
        errors->where = *run;
        errors->where_x = x;
        return;
    }
    qz_look_up_error(view, errors); /* an equal one: the first counts */
    view->kernels->group_decode(codes, n, group_size, &view->grid, groups->scale, groups->zero, decoded);
    qz_note_error(errors, (double)sums->max_error,
                  qz_flat_index(view, run, view->kernels->find_error(x, decoded, n, sums->max_error)));
}
