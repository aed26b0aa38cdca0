/*
 * vectors.c - prepares vectors before they are quantized: divides them by their lengths, rotates them, changes their
 * basis
 */
#include "quantize.h"

#include "base/fpenv.h"
#include "base/pool.h"
#include "base/small.h"
#include "kernels/kernels.h"

#include <math.h>

enum {
    FOLDED = 2048,        /* squares that are added up in memory */
    LEVELS = 64,          /* as often can a number of elements be halved */
    STRIP = 64,           /* columns of a matrix are taken together */
    TOGETHER = 16,        /* vectors that a slice multiplies by a strip, or more of them */
    STEPS = 6,            /* transforms, of the first and of the last elements in turn */
    ROWS = 16,            /* rows that are turned together */
    SIGNS = 256,          /* signs that are known at a time */
    SIDE = 8,             /* elements that are added side by side */
    SLICE_LEAST = 1 << 16 /* elements worth a slice of their own */
};

/* Checks vectors that are changed in their place. Returns 0 where there is nothing to do. */
static int check(const float *x, uint64_t rows, uint64_t cols, qz_result *result)
{
    *result = QZ_OK;
    if (rows == 0 || cols == 0)
        return 0;
    if (cols > SIZE_MAX / sizeof *x / rows)
        *result = QZ_ERROR_SIZE;
    else if (!x || (uintptr_t)x % sizeof *x)
        *result = QZ_ERROR_ARGUMENT;
    return *result == QZ_OK;
}

static size_t slices_of(uint64_t rows, uint64_t cols)
{
    return qz_least(qz_least(qz_divide_up(rows * cols, SLICE_LEAST), rows), QZ_SLICES_MAX);
}

/* ---- lengths -------------------------------------------------------------------------------------------------- */

struct normalization {
    float *x;
    uint64_t rows, cols;
    size_t slices;
};

/* Sum i of those that are left when squares were added in pairs so many times; `width` has how many there are each
 * time. */
static double folded(const float *x, const size_t *width, size_t level, size_t i)
{
    if (level == 0)
        return (double)x[i] * (double)x[i];
    return folded(x, width, level - 1, i) + folded(x, width, level - 1, i + width[level]);
}

/* The sum of squares: those of the first and of the second half are added in pairs, until one is left; the last one of
 * an odd number is set aside. */
static double square(const float *x, size_t n)
{
    size_t width[LEVELS] = {n}, level = 0;
    double sum[FOLDED], aside = 0.0;
    for (; width[level] > FOLDED; level++) {
        aside += width[level] % 2 ? folded(x, width, level, width[level] - 1) : 0.0;
        width[level + 1] = width[level] / 2;
    }
    n = width[level];
    sum[0] = 0.0;
    for (size_t i = 0; i < n; i++)
        sum[i] = folded(x, width, level, i);
    for (; n > 1; n /= 2) {
        aside += n % 2 ? sum[n - 1] : 0.0;
        for (size_t i = 0; i < n / 2; i++)
            sum[i] += sum[n / 2 + i];
    }
    return aside + sum[0];
}

static void normalize_slice(void *context, size_t slice)
{
    const struct normalization *these = context;
    const size_t cols = (size_t)these->cols;
    uint64_t row = qz_slice_start(these->rows, these->slices, slice);
    for (const uint64_t end = qz_slice_start(these->rows, these->slices, slice + 1); row < end; row++) {
        float *x = these->x + row * cols;
        double length = sqrt(square(x, cols));
        for (size_t i = 0; i < cols && length > 0.0; i++)
            x[i] = (float)((double)x[i] / length);
    }
}

static QZ_NOINLINE void normalize(struct normalization *these, qz_pool *pool)
{
    qz_pool_run(pool, these->slices, normalize_slice, these);
}

qz_result qz_normalize(float *x, uint64_t rows, uint64_t cols, qz_pool *pool)
{
    qz_result result;
    if (!check(x, rows, cols, &result))
        return result;
    qz_fp_state state = qz_fp_enter();
    normalize(&(struct normalization){x, rows, cols, slices_of(rows, cols)}, pool);
    qz_fp_leave(state);
    return QZ_OK;
}

/* ---- rotations ------------------------------------------------------------------------------------------------ */

struct rotation {
    float *x;
    uint64_t rows, cols, block; /* block: the largest power of two that is not above cols */
    uint64_t seed;
    float scale; /* that makes a transform of a block keep lengths */
    int back;
    size_t slices;
};

static void turn_signs(const struct rotation *rotation, float *x, size_t rows, uint64_t step)
{
    uint32_t sign[SIGNS];
    for (uint64_t first = 0, count; first < rotation->cols; first += count) {
        count = qz_least(SIGNS, rotation->cols - first);
        for (size_t i = 0; i < count; i++)
            sign[i] =
                (uint32_t)(qz_splitmix(rotation->seed, step * rotation->cols + first + i + 1) >> 32) & 0x80000000U;
        for (size_t r = 0; r < rows; r++) {
            float *row = x + r * rotation->cols + first;
            for (size_t i = 0; i < count; i++) {
                uint32_t bits;
                memcpy(&bits, row + i, sizeof bits);
                bits ^= sign[i];
                memcpy(row + i, &bits, sizeof bits);
            }
        }
    }
}

/* Sums and differences of elements that are 1, 2 and 4 apart, among eight. */
static void transform_side(float *x)
{
    float a[SIDE], b[SIDE];
    for (size_t i = 0; i < SIDE; i += 2) {
        a[i] = x[i] + x[i + 1];
        a[i + 1] = x[i] - x[i + 1];
    }
    for (size_t i = 0; i < SIDE; i += 4)
        for (size_t j = i; j < i + 2; j++) {
            b[j] = a[j] + a[j + 2];
            b[j + 2] = a[j] - a[j + 2];
        }
    for (size_t i = 0; i < SIDE / 2; i++) {
        x[i] = b[i] + b[i + SIDE / 2];
        x[i + SIDE / 2] = b[i] - b[i + SIDE / 2];
    }
}

static void add_and_subtract(float *low, float *high)
{
    float sum[SIDE], difference[SIDE];
    for (size_t i = 0; i < SIDE; i++) {
        sum[i] = low[i] + high[i];
        difference[i] = low[i] - high[i];
    }
    memcpy(low, sum, sizeof sum);
    memcpy(high, difference, sizeof difference);
}

/* A Hadamard transform of n elements, a power of two: pairs that are 1, 2, 4, ... apart become sum and difference. */
static void transform(float *x, size_t n, float scale)
{
    for (size_t i = 0; i + SIDE <= n; i += SIDE)
        transform_side(x + i);
    for (size_t half = n >= SIDE ? SIDE : 1; half < n; half *= 2)
        for (size_t first = 0; first < n; first += 2 * half) {
            size_t i = first;
            for (; i + SIDE <= first + half; i += SIDE)
                add_and_subtract(x + i, x + i + half);
            for (; i < first + half; i++) {
                float low = x[i], high = x[i + half];
                x[i] = low + high;
                x[i + half] = low - high;
            }
        }
    for (size_t i = 0; i < n; i++)
        x[i] *= scale;
}

static void transform_rows(const struct rotation *rotation, float *x, size_t rows, uint64_t step)
{
    uint64_t start = step % 2 ? rotation->cols - rotation->block : 0;
    for (size_t r = 0; r < rows; r++)
        transform(x + r * rotation->cols + start, (size_t)rotation->block, rotation->scale);
}

static void turn_slice(void *context, size_t slice)
{
    const struct rotation *rotation = context;
    uint64_t first = qz_slice_start(rotation->rows, rotation->slices, slice);
    const uint64_t end = qz_slice_start(rotation->rows, rotation->slices, slice + 1);
    /* A few rows are turned together, so that a sign is found once for all of them. */
    for (size_t count; first < end; first += count) {
        float *x = rotation->x + first * rotation->cols;
        count = qz_least(ROWS, end - first);
        for (uint64_t step = 0; step < STEPS && !rotation->back; step++) {
            turn_signs(rotation, x, count, step);
            transform_rows(rotation, x, count, step);
        }
        for (uint64_t step = STEPS; step-- > 0 && rotation->back;) {
            transform_rows(rotation, x, count, step);
            turn_signs(rotation, x, count, step);
        }
    }
}

static QZ_NOINLINE void turn(struct rotation *rotation, qz_pool *pool)
{
    for (rotation->block = 1; rotation->block <= rotation->cols / 2;)
        rotation->block *= 2;
    rotation->scale = (float)(1.0 / sqrt((double)rotation->block));
    qz_pool_run(pool, rotation->slices, turn_slice, rotation);
}

qz_result qz_rotate(float *x, uint64_t rows, uint64_t cols, uint64_t seed, int back, qz_pool *pool)
{
    qz_result result;
    if (!check(x, rows, cols, &result))
        return result;
    struct rotation rotation = {.x = x, .rows = rows, .cols = cols, .seed = seed, .back = back};
    rotation.slices = slices_of(rows, cols);
    qz_fp_state state = qz_fp_enter();
    turn(&rotation, pool);
    qz_fp_leave(state);
    return QZ_OK;
}

/* ---- another basis -------------------------------------------------------------------------------------------- */

struct projection {
    const struct qz_kernels *kernels;
    const float *x, *matrix;
    float *y;
    uint64_t rows, cols, outs;
    size_t slices;
};

static void project_slice(void *context, size_t slice)
{
    const struct projection *these = context;
    const size_t cols = (size_t)these->cols, outs = (size_t)these->outs;
    const uint64_t first = qz_slice_start(these->rows, these->slices, slice),
                   end = qz_slice_start(these->rows, these->slices, slice + 1);
    for (size_t j = 0, count; j < outs; j += count) { /* a strip of the matrix stays in the cache for all vectors */
        count = qz_least(STRIP, outs - j);
        these->kernels->project(these->x + first * cols, (size_t)(end - first), cols, these->matrix + j, outs, count,
                                these->y + first * outs + j);
    }
}

static QZ_NOINLINE void project(struct projection *these, qz_pool *pool)
{
    qz_pool_run(pool, these->slices, project_slice, these);
}

qz_result qz_project(const float *x, uint64_t rows, uint64_t cols, const float *matrix, uint64_t outs, float *y,
                     qz_pool *pool)
{
    qz_result result;
    if (rows == 0 || outs == 0)
        return QZ_OK;
    if (cols == 0 && check(y, rows, outs, &result))
        memset(y, 0, (size_t)(rows * outs) * sizeof *y);
    if (cols == 0 || !check(x, rows, cols, &result) || !check(matrix, cols, outs, &result) ||
        !check(y, rows, outs, &result))
        return result;
    const struct qz_kernels *kernels = qz_kernels_active();
    if (!kernels)
        return QZ_ERROR_KERNELS;
    qz_fp_state state = qz_fp_enter();
    project(&(struct projection){kernels, x, matrix, y, rows, cols, outs,
                                 slices_of(qz_divide_up(rows, TOGETHER), cols * outs)},
            pool);
    qz_fp_leave(state);
    return QZ_OK;
}
