/*
 * linear_inputs.c - rows of floats that are multiplied with a packed matrix
 */
#include "linear_inputs.h"
#include "base/number.h"

#include <stdlib.h>

/* ---- memory --------------------------------------------------------------------------------------------------- */

enum {
    LINE = 64,         /* bytes */
    PERIOD = 1024,     /* bytes: rows that are a multiple of it apart lie in few sets of the first-level cache */
    FEW_TOGETHER = 4,  /* rows that such a cache keeps, wherever they are */
    FLOATS = LINE / 4, /* of a line */
    BLOCKS = LINE / QZ_INPUT_BLOCK
};

/* From row to row, so that rows begin an odd number of lines apart: those that are multiplied together never want the
 * same places of the cache. */
static uint64_t spread_pitch(uint64_t count, uint64_t of_line)
{
    return (qz_divide_up(count, of_line) | 1) * of_line;
}

/* Whether rows of floats lie so that those that are multiplied together push each other out of the cache. */
static int rows_collide(const qz_matrix *matrix)
{
    return matrix->rows > FEW_TOGETHER && matrix->row_stride % (PERIOD / 4) == 0;
}

static int is_taken_as_it_is(const qz_matrix *matrix, enum qz_rounding rounding)
{
    return rounding != QZ_MULTIPLES && matrix->dtype == QZ_F32 && matrix->col_stride == 1 &&
           !(rounding == QZ_UNROUNDED && rows_collide(matrix));
}

static void *room_for(uint64_t rows, uint64_t cols, size_t size)
{
    return cols && rows > PTRDIFF_MAX / size / cols ? NULL : malloc(rows * cols * size + 1);
}

int qz_inputs_make(struct qz_inputs *inputs, const struct qz_kernels *kernels, const qz_matrix *matrix,
                   enum qz_rounding rounding)
{
    const uint64_t cols = matrix->cols, pitch = spread_pitch(cols, FLOATS),
                   some = QZ_INPUT_FLOATS / (pitch + FLOATS); /* so that bytes beside them fit into as much again */
    memset(inputs, 0, sizeof *inputs);
    inputs->kernels = kernels;
    inputs->matrix = matrix;
    inputs->rounding = rounding;
    inputs->most = qz_least(qz_least(some ? some : 1, QZ_INPUT_ROWS), matrix->rows);
    inputs->pitch = (ptrdiff_t)pitch;
    inputs->blocks = (size_t)qz_divide_up(cols, QZ_INPUT_BLOCK);
    inputs->block_pitch = (size_t)spread_pitch(inputs->blocks, BLOCKS);
    inputs->tiles = (size_t)qz_divide_up(cols, QZ_TILE);
    if (!is_taken_as_it_is(matrix, rounding) && !(inputs->copy = room_for(inputs->most, pitch, sizeof(float))))
        return 0;
    if (rounding != QZ_BYTES)
        return 1;
    inputs->code = room_for(inputs->most, inputs->block_pitch, QZ_INPUT_BLOCK);
    inputs->step = room_for(inputs->most, inputs->block_pitch, sizeof(float));
    inputs->start = room_for(inputs->most, inputs->block_pitch, sizeof(float));
    inputs->unrounded = room_for(inputs->most, inputs->tiles, 1);
    return inputs->code && inputs->step && inputs->start && inputs->unrounded;
}

void qz_inputs_free(struct qz_inputs *inputs)
{
    free(inputs->copy);
    free(inputs->code);
    free(inputs->step);
    free(inputs->start);
    free(inputs->unrounded);
}

/* ---- rounding ------------------------------------------------------------------------------------------------- */

/* The largest magnitude of n values; NaN if there is one. Compilers find several of the lanes at a time. */
static float largest(const float *x, size_t n)
{
    enum { LANES = 8 };
    int32_t most[LANES] = {0};
    for (; n >= LANES; n -= LANES, x += LANES)
        for (size_t l = 0; l < LANES; l++) {
            int32_t bits = (int32_t)(qz_bits(x[l]) & 0x7fffffffu);
            most[l] = bits > most[l] ? bits : most[l];
        }
    for (size_t l = 0; l < n; l++) {
        int32_t bits = (int32_t)(qz_bits(x[l]) & 0x7fffffffu);
        most[l] = bits > most[l] ? bits : most[l];
    }
    for (size_t l = 1; l < LANES; l++)
        most[0] = most[l] > most[0] ? most[l] : most[0];
    return qz_float((uint32_t)most[0]);
}

/* x / step, rounded; `inverse` is 1 / step, and |x| at most 127 steps. */
static float multiple(float x, float inverse)
{
    float shifted = x * inverse + 0x1.8p23f; /* whole numbers are all that is there */
    return shifted - 0x1.8p23f;
}

/* The step of a block, 0 if it is all zeros. Returns 0 if it is not ordinary. */
static int find_step(const float *x, size_t n, float *step, float *inverse)
{
    float most = largest(x, n);
    *step = most / (float)QZ_LEVEL_MOST;
    *inverse = most == 0.0f ? 0.0f : (float)QZ_LEVEL_MOST / most;
    return most == 0.0f || (most >= QZ_ORDINARY_LEAST && most <= QZ_ORDINARY_MOST);
}

static void round_row(float *x, size_t n)
{
    float step, inverse;
    for (size_t i = 0, count; i < n; i += count) {
        count = qz_least(QZ_INPUT_BLOCK, n - i);
        if (find_step(x + i, count, &step, &inverse))
            for (size_t k = i; k < i + count; k++)
                x[k] = step * multiple(x[k], inverse);
    }
}

/* The bytes of a block: of each eight columns the even ones come first. */
static void block_codes(const float *x, size_t n, float inverse, int8_t code[QZ_INPUT_BLOCK], int32_t *sum)
{
    float padded[QZ_INPUT_BLOCK] = {0};
    int32_t whole[QZ_INPUT_BLOCK], total = 0;
    if (n < QZ_INPUT_BLOCK)
        x = memcpy(padded, x, n * sizeof *x);
    for (size_t k = 0; k < QZ_INPUT_BLOCK; k++)
        total += whole[k] = (int32_t)multiple(x[k], inverse);
    for (size_t k = 0; k < QZ_INPUT_BLOCK; k++)
        code[k] = (int8_t)whole[k / 8 * 8 + k % 4 * 2 + k / 4 % 2];
    *sum = total;
}

/* Steps of 0 add nothing where floats are multiplied instead. */
static void leave_tile(struct qz_inputs *inputs, size_t row, size_t tile)
{
    const size_t each = QZ_TILE / QZ_INPUT_BLOCK, at = row * inputs->block_pitch + tile * each;
    const size_t count = qz_least(each, inputs->blocks - tile * each);
    memset(inputs->step + at, 0, count * sizeof *inputs->step);
    memset(inputs->start + at, 0, count * sizeof *inputs->start);
}

static void make_bytes(struct qz_inputs *inputs, size_t row, const float *x)
{
    size_t cols = (size_t)inputs->matrix->cols, first = row * inputs->block_pitch;
    uint8_t *unrounded = inputs->unrounded + row * inputs->tiles;
    memset(unrounded, 0, inputs->tiles);
    for (size_t b = 0; b < inputs->blocks; b++) {
        size_t at = b * QZ_INPUT_BLOCK, n = qz_least(QZ_INPUT_BLOCK, cols - at);
        int8_t *code = inputs->code + (first + b) * QZ_INPUT_BLOCK;
        float step, inverse;
        int32_t sum = 0;
        if (find_step(x + at, n, &step, &inverse)) {
            block_codes(x + at, n, inverse, code, &sum);
        } else {
            memset(code, 0, QZ_INPUT_BLOCK);
            step = 0.0f;
            unrounded[at / QZ_TILE] = 1;
        }
        inputs->step[first + b] = step;
        inputs->start[first + b] = step * (float)sum;
    }
    for (size_t t = 0; t < inputs->tiles; t++)
        if (unrounded[t])
            leave_tile(inputs, row, t);
}

/* ---- loading -------------------------------------------------------------------------------------------------- */

static int load_row(const struct qz_inputs *inputs, uint64_t row, float *dst)
{
    const qz_matrix *matrix = inputs->matrix;
    int overflow, any = 0;
    for (uint64_t col = 0; col < matrix->cols; col += QZ_TILE) {
        struct qz_tile tile = {row, col, 1, qz_least(QZ_TILE, matrix->cols - col)};
        ptrdiff_t stride;
        const float *x = qz_tile_load(inputs->kernels, matrix, &tile, dst + col, &stride, &overflow);
        if (x != dst + col)
            memcpy(dst + col, x, tile.cols * sizeof *dst);
        any |= overflow;
    }
    return any;
}

int qz_inputs_load(struct qz_inputs *inputs, uint64_t first)
{
    const qz_matrix *matrix = inputs->matrix;
    size_t cols = (size_t)matrix->cols;
    int overflow = 0;
    inputs->rows = qz_least(inputs->most, matrix->rows - first);
    inputs->value = inputs->copy ? inputs->copy : qz_matrix_at(matrix, first, 0);
    if (!inputs->copy)
        inputs->pitch = (ptrdiff_t)matrix->row_stride;
    for (size_t r = 0; r < inputs->rows && cols; r++) {
        if (inputs->copy)
            overflow |= load_row(inputs, first + r, inputs->copy + (ptrdiff_t)r * inputs->pitch);
        if (inputs->rounding == QZ_MULTIPLES)
            round_row(inputs->copy + (ptrdiff_t)r * inputs->pitch, cols);
        if (inputs->rounding == QZ_BYTES)
            make_bytes(inputs, r, inputs->value + (ptrdiff_t)r * inputs->pitch);
    }
    return overflow;
}

struct qz_inputs qz_inputs_some(const struct qz_inputs *inputs, size_t first, size_t rows)
{
    struct qz_inputs some = *inputs;
    some.rows = rows;
    some.value += (ptrdiff_t)first * inputs->pitch;
    if (inputs->rounding == QZ_BYTES) {
        some.code += first * inputs->block_pitch * QZ_INPUT_BLOCK;
        some.step += first * inputs->block_pitch;
        some.start += first * inputs->block_pitch;
        some.unrounded += first * inputs->tiles;
    }
    return some;
}
