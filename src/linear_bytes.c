/*
 * linear_bytes.c - products of bytes
 */
#include "linear_bytes.h"

#include <math.h>

enum { BLOCKS = QZ_TILE / QZ_INPUT_BLOCK }; /* of a row, at a time */

/* ---- levels --------------------------------------------------------------------------------------------------- */

/* Whether 16 values are whole multiples of a unit, no more than QZ_LEVEL_MOST of it apart: then levels are made. */
static int make_levels(struct qz_byte_products *products, const float *value, float unit)
{
    float least = value[0];
    for (int i = 1; i < 16; i++)
        least = fminf(least, value[i]);
    products->unit = unit;
    products->base = least;
    products->most = 0;
    for (int i = 0; i < 16; i++) {
        float level = (value[i] - least) / unit;
        if (!(level <= (float)QZ_LEVEL_MOST) || level != rintf(level) || fabsf(value[i]) > 0x1p7f)
            return 0;
        products->level[i] = (uint8_t)level;
        products->most = products->level[i] > products->most ? products->level[i] : products->most;
    }
    return 1;
}

int qz_byte_products_make(struct qz_byte_products *products, const struct qz_weights *weights)
{
    const struct qz_view *view = weights->view;
    const float *value = view->grid.value;
    products->weights = weights;
    if (weights->columns || (view->row_groups > 1 && view->group_size % QZ_INPUT_BLOCK))
        return 0;
    return make_levels(products, value, 1.0f) || make_levels(products, value, 0.5f);
}

/* ---- weights -------------------------------------------------------------------------------------------------- */

/* Some weights, QZ_TILE elements of each at most: their levels, and a scale and a bias for each block. */
struct few {
    size_t count, n, blocks;
    _Alignas(64) uint8_t level[QZ_BYTE_WEIGHTS * QZ_TILE];
    float scale[QZ_BYTE_WEIGHTS * BLOCKS], bias[QZ_BYTE_WEIGHTS * BLOCKS];
    uint8_t strange[QZ_BYTE_WEIGHTS]; /* numbers that are too large or small, or NaN */
    int any_strange;
};

/* Numbers of groups become those of blocks; the first block has `head` blocks of its group before it. */
static void spread(float *number, const float *of_group, size_t blocks, size_t head, size_t each)
{
    if (each == 1) {
        memcpy(number, of_group, blocks * sizeof *number);
        return;
    }
    for (size_t b = 0, left = each - head; b < blocks; b++, left--) {
        if (left == 0) {
            of_group++;
            left = each;
        }
        number[b] = *of_group;
    }
}

/* Scales and zeros of blocks become those of levels. Returns whether all are ordinary. Without branches, so that
 * compilers make vectors of it. */
static int make_blocks(const struct qz_byte_products *products, size_t blocks, const float *zero, float *restrict scale,
                       float *restrict bias)
{
    const qz_zero kind = products->weights->view->grid.zero;
    const float base = products->base, unit = products->unit;
    int strange = 0;
    if (kind == QZ_ZERO_NONE)
        for (size_t b = 0; b < blocks; b++)
            bias[b] = scale[b] * base;
    else if (kind == QZ_ZERO_OFFSET)
        for (size_t b = 0; b < blocks; b++) {
            float part = scale[b] * base;
            bias[b] = part + zero[b];
        }
    else
        for (size_t b = 0; b < blocks; b++) {
            float part = scale[b] * base, of_zero = scale[b] * zero[b];
            bias[b] = part - of_zero;
        }
    for (size_t b = 0; b < blocks; b++) {
        float magnitude = fabsf(scale[b]);
        strange |= (!(magnitude <= QZ_INPUT_MOST)) | ((magnitude < QZ_INPUT_LEAST) & (magnitude != 0.0f)) |
                   (!(fabsf(bias[b]) <= QZ_INPUT_MOST));
    }
    for (size_t b = 0; b < blocks; b++)
        scale[b] *= unit;
    return !strange;
}

static void load_few(const struct qz_byte_products *products, const struct qz_panel *part, struct few *few)
{
    const struct qz_view *view = products->weights->view;
    float scales[BLOCKS + 1], zeros[BLOCKS + 1], zero[BLOCKS];
    uint64_t group = part->from / view->group_size, last = (part->from + part->n - 1) / view->group_size;
    size_t each = view->row_groups == 1 ? SIZE_MAX : (size_t)view->group_size / QZ_INPUT_BLOCK;
    size_t head = (size_t)(part->from - group * view->group_size) / QZ_INPUT_BLOCK;
    few->count = part->count;
    few->blocks = (size_t)qz_divide_up(part->n, QZ_INPUT_BLOCK);
    few->n = few->blocks * QZ_INPUT_BLOCK;
    few->any_strange = 0;
    for (size_t c = 0; c < part->count; c++) {
        uint64_t row = part->first + c;
        float *scale = few->scale + c * few->blocks;
        qz_load_groups(view, &(struct span){row, group, 1, (size_t)(last - group + 1)}, scales, zeros);
        spread(scale, scales, few->blocks, head, each);
        if (view->grid.zero != QZ_ZERO_NONE)
            spread(zero, zeros, few->blocks, head, each);
        few->strange[c] = !make_blocks(products, few->blocks, zero, scale, few->bias + c * few->blocks);
        few->any_strange |= few->strange[c];
        view->kernels->levels(qz_codes_at(view, row, part->from), part->n, products->level, few->level + c * few->n);
    }
}

/* ---- products ------------------------------------------------------------------------------------------------- */

/* Sums of a row whose blocks, from block `b` on, are there as bytes. */
static void add_bytes(const struct qz_byte_products *products, const struct few *few, const struct qz_inputs *inputs,
                      size_t row, size_t b, float *sum)
{
    float scale[QZ_BYTE_WEIGHTS * BLOCKS], near[QZ_BYTE_WEIGHTS];
    size_t at = row * inputs->blocks + b;
    const float *step = inputs->step + at;
    for (size_t c = 0; c < few->count; c++)
        for (size_t i = 0; i < few->blocks; i++)
            scale[c * few->blocks + i] = few->scale[c * few->blocks + i] * step[i];
    const struct qz_near levels = {few->level,     few->count,  few->n, QZ_INPUT_BLOCK, few->blocks,
                                   products->most, few->blocks, scale,  few->bias};
    products->weights->view->kernels->near(&levels, inputs->code + at * QZ_INPUT_BLOCK, inputs->start + at, near);
    for (size_t c = 0; c < few->count; c++)
        sum[c] += near[c];
}

/* Where bytes do not do, a sum is that of floats. */
static void add_sums(const struct qz_byte_products *products, const struct qz_panel *part, const struct few *few,
                     const struct qz_inputs *inputs, size_t row, float *sum)
{
    int unrounded = inputs->unrounded[row * inputs->tiles + part->from / QZ_TILE];
    float exact[QZ_BYTE_WEIGHTS];
    if (unrounded || few->any_strange) {
        memcpy(exact, sum, part->count * sizeof *exact);
        qz_panel_row(products->weights, part, inputs->value + (ptrdiff_t)row * inputs->pitch + (ptrdiff_t)part->from,
                     exact);
    }
    if (!unrounded)
        add_bytes(products, few, inputs, row, (size_t)(part->from / QZ_INPUT_BLOCK), sum);
    for (size_t c = 0; c < part->count; c++)
        if (unrounded || few->strange[c])
            sum[c] = exact[c];
}

void qz_byte_products(const struct qz_byte_products *products, uint64_t first, size_t count,
                      const struct qz_inputs *inputs, const struct qz_outputs *outputs)
{
    uint64_t n = inputs->matrix->cols;
    struct few few;
    for (uint64_t from = 0; from < n; from += QZ_TILE) {
        const struct qz_panel part = {first, from, count, qz_least(QZ_TILE, n - from)};
        load_few(products, &part, &few);
        for (size_t r = 0; r < inputs->rows; r++) {
            float sum[QZ_BYTE_WEIGHTS] = {0};
            float *to = outputs->value + (int64_t)r * outputs->rows_apart + (int64_t)first * outputs->apart;
            for (size_t c = 0; c < count && from > 0; c++)
                sum[c] = to[(int64_t)c * outputs->apart];
            add_sums(products, &part, &few, inputs, r, sum);
            for (size_t c = 0; c < count; c++)
                to[(int64_t)c * outputs->apart] = qz_output(sum[c]);
        }
    }
}
