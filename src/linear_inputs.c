/*
 * linear_inputs.c - prepares the rows of floats that are multiplied with a packed matrix
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
    BLOCKS = LINE / QZ_INPUT_BLOCK,
    SIDE_BY_SIDE = 256 /* columns that are laid side by side at a time */
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

/* Whether rows of the matrix are what is multiplied. */
static int has_values(const qz_matrix *matrix, enum qz_rounding rounding)
{
    return rounding != QZ_MULTIPLES && matrix->dtype == QZ_F32 && matrix->col_stride == 1;
}

static int is_taken_as_it_is(const qz_matrix *matrix, enum qz_rounding rounding, size_t together)
{
    return has_values(matrix, rounding) && together == 1 && !(rounding == QZ_UNROUNDED && rows_collide(matrix));
}

static void *room_for(uint64_t rows, uint64_t cols, size_t size)
{
    return cols && rows > PTRDIFF_MAX / size / cols ? NULL : malloc(rows * cols * size + 1);
}

/* Half of the floats are for what lies beside rows: bytes, or rows that are to be laid side by side. */
static size_t rows_at_a_time(const qz_matrix *matrix, size_t together)
{
    const uint64_t of_row = qz_divide_up(matrix->cols, FLOATS) * FLOATS + FLOATS;
    uint64_t some = QZ_INPUT_FLOATS / of_row, rows = matrix->rows;
    if (together > 1 && some > together)
        some = 2 * some - together;
    some = qz_least(some ? some : 1, QZ_INPUT_ROWS);
    return (size_t)(rows > some ? qz_divide_up(rows, qz_divide_up(rows, some)) : rows);
}

int qz_inputs_make(struct qz_inputs *inputs, const struct qz_kernels *kernels, const qz_matrix *matrix,
                   enum qz_rounding rounding, size_t together)
{
    const uint64_t cols = matrix->cols, pitch = together > 1 ? cols : spread_pitch(cols, FLOATS);
    memset(inputs, 0, sizeof *inputs);
    inputs->kernels = kernels;
    inputs->matrix = matrix;
    inputs->rounding = rounding;
    inputs->most = rows_at_a_time(matrix, together);
    inputs->pitch = (ptrdiff_t)pitch;
    inputs->together = together;
    inputs->blocks = (size_t)qz_divide_up(cols, QZ_INPUT_BLOCK);
    inputs->block_pitch = (size_t)spread_pitch(inputs->blocks, BLOCKS);
    inputs->tiles = (size_t)qz_divide_up(cols, QZ_TILE);
    const uint64_t lines = inputs->most + (together > 1 ? qz_least(together, inputs->most) : 0);
    if (!is_taken_as_it_is(matrix, rounding, together) && !(inputs->copy = room_for(lines, pitch, sizeof(float))))
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

/* Blocks that are looked at together. */
enum { TOGETHER = QZ_TILE / QZ_INPUT_BLOCK };

/* What the kernel makes of n values, of which the last block may lack some. */
static void find_bytes(const struct qz_inputs *inputs, const float *x, size_t n, int8_t *code, float *step,
                       float *start, uint8_t *strange)
{
    const size_t whole = n / QZ_INPUT_BLOCK, rest = n % QZ_INPUT_BLOCK;
    float last[QZ_INPUT_BLOCK] = {0};
    inputs->kernels->input_bytes(x, whole, code, step, start, strange);
    if (rest == 0)
        return;
    memcpy(last, x + n - rest, rest * sizeof *x);
    inputs->kernels->input_bytes(last, 1, code + whole * QZ_INPUT_BLOCK, step + whole, start + whole, strange + whole);
}

/* Rounds the values of a row themselves. */
static void round_row(const struct qz_inputs *inputs, float *x)
{
    const size_t cols = (size_t)inputs->matrix->cols;
    int8_t code[QZ_TILE];
    float step[TOGETHER], start[TOGETHER];
    uint8_t strange[TOGETHER];
    for (size_t from = 0, n; from < cols; from += n) {
        n = qz_least(QZ_TILE, cols - from);
        find_bytes(inputs, x + from, n, code, step, start, strange);
        for (size_t k = 0; k < n; k++) {
            const size_t block = k / QZ_INPUT_BLOCK, at = k / 8 * 8 + k % 2 * 4 + k % 8 / 2;
            if (!strange[block])
                x[from + k] = step[block] * (float)code[at];
        }
    }
}

/* Steps of 0 add nothing where floats are multiplied instead. */
static void leave_tile(struct qz_inputs *inputs, size_t row, size_t tile)
{
    const size_t at = row * inputs->block_pitch + tile * TOGETHER;
    const size_t count = qz_least(TOGETHER, inputs->blocks - tile * TOGETHER);
    memset(inputs->step + at, 0, count * sizeof *inputs->step);
    memset(inputs->start + at, 0, count * sizeof *inputs->start);
}

static void make_bytes(struct qz_inputs *inputs, size_t row, const float *x)
{
    const size_t cols = (size_t)inputs->matrix->cols;
    uint8_t strange[TOGETHER];
    for (size_t tile = 0; tile < inputs->tiles; tile++) {
        const size_t from = tile * QZ_TILE, n = qz_least(QZ_TILE, cols - from);
        const size_t at = row * inputs->block_pitch + tile * TOGETHER;
        find_bytes(inputs, x + from, n, inputs->code + at * QZ_INPUT_BLOCK, inputs->step + at, inputs->start + at,
                   strange);
        int any = memchr(strange, 1, (size_t)qz_divide_up(n, QZ_INPUT_BLOCK)) != NULL;
        inputs->unrounded[row * inputs->tiles + tile] = (uint8_t)any;
        if (any)
            leave_tile(inputs, row, tile);
    }
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

/* A row of its own in the copy, rounded; nonzero as below. */
static int copy_row(const struct qz_inputs *inputs, uint64_t row, float *dst)
{
    const int overflow = load_row(inputs, row, dst);
    if (inputs->rounding == QZ_MULTIPLES)
        round_row(inputs, dst);
    return overflow;
}

/* `count` rows side by side; those that cannot be taken from the matrix have room behind all that are there. */
static int load_together(const struct qz_inputs *inputs, uint64_t first, size_t row, size_t count)
{
    const qz_matrix *matrix = inputs->matrix;
    const size_t cols = (size_t)matrix->cols;
    float *dst = inputs->copy + row * cols, *room = inputs->copy + inputs->most * cols;
    const float *from = room;
    ptrdiff_t stride = (ptrdiff_t)cols;
    int overflow = 0;
    if (has_values(matrix, inputs->rounding)) {
        from = qz_matrix_at(matrix, first + row, 0);
        stride = (ptrdiff_t)matrix->row_stride;
    } else {
        for (size_t r = 0; r < count; r++)
            overflow |= copy_row(inputs, first + row + r, room + r * cols);
    }
    for (size_t k = 0, n; k < cols; k += n) { /* as much as stays in the first-level cache */
        n = qz_least(SIDE_BY_SIDE, cols - k);
        inputs->kernels->transpose(from + k, stride, n, count, dst + k * count, (ptrdiff_t)count);
    }
    return overflow;
}

int qz_inputs_load(struct qz_inputs *inputs, uint64_t first)
{
    const qz_matrix *matrix = inputs->matrix;
    int overflow = 0;
    inputs->rows = qz_least(inputs->most, matrix->rows - first);
    inputs->value = inputs->copy ? inputs->copy : qz_matrix_at(matrix, first, 0);
    if (!inputs->copy)
        inputs->pitch = (ptrdiff_t)matrix->row_stride;
    for (size_t r = 0; r < inputs->rows && matrix->cols; r += inputs->together) {
        if (inputs->together > 1)
            overflow |= load_together(inputs, first, r, qz_least(inputs->together, inputs->rows - r));
        else if (inputs->copy)
            overflow |= copy_row(inputs, first + r, inputs->copy + (ptrdiff_t)r * inputs->pitch);
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
