/*
 * linear_bytes.c - multiplies bytes: rows of floats as multiples of steps, with codes as small integers
 */
#include "linear_bytes.h"

#include <math.h>
#include <string.h>

enum {
    BLOCKS = QZ_TILE / QZ_INPUT_BLOCK, /* of a weight, at a time */
    LEVEL_BLOCKS = 32,                 /* the same where they are unpacked: they stay in the first-level cache */
    ROWS = 32,                         /* of x at a time */
    FEW_ROWS = 2                       /* so few rows are multiplied with packed codes */
};

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
    products->ready = NULL;
    if (weights->columns || (view->row_groups > 1 && view->group_size % QZ_INPUT_BLOCK))
        return 0;
    return make_levels(products, value, 1.0f) || make_levels(products, value, 0.5f);
}

/* ---- weights -------------------------------------------------------------------------------------------------- */

/* The numbers of some weights, side by side, for QZ_TILE elements of each at most. */
struct few {
    size_t blocks;
    float scale[BLOCKS * QZ_SIDE], bias[BLOCKS * QZ_SIDE];
    uint8_t strange[QZ_SIDE]; /* numbers that are too large or small, or NaN: those here are 0 */
    int any_strange;
};

/* Numbers of groups, side by side, become those of blocks; the first block has `head` blocks of its group before it. */
static void spread(float *number, const float *of_group, size_t blocks, size_t head, size_t each)
{
    for (size_t b = 0, left = each - head; b < blocks; b++, left--) {
        if (left == 0) {
            of_group += QZ_SIDE;
            left = each;
        }
        qz_copy_few(number + b * QZ_SIDE, of_group, QZ_SIDE * sizeof *number);
    }
}

/* Numbers of weights that are strange become 0; returns whether there are any. */
static int clear_strange(const uint8_t strange[QZ_SIDE], size_t count, size_t numbers, float *scale, float *bias)
{
    int any = 0;
    for (size_t c = 0; c < count; c++)
        for (size_t i = 0; strange[c] && i < numbers; i++) {
            scale[i * QZ_SIDE + c] = bias[i * QZ_SIDE + c] = 0.0f;
            any = 1;
        }
    return any;
}

/* Loads numbers of groups, and notes which rows have strange ones. */
static void load_numbers(const struct qz_byte_products *products, const struct qz_panel *part, uint64_t group,
                         size_t groups, float *scale, float *bias, uint8_t strange[QZ_SIDE])
{
    const struct qz_view *view = products->weights->view;
    size_t done = qz_load_stored(view, part->first, part->count, group, groups - groups % QZ_STORED_GROUPS,
                                 products->unit, products->base, scale, bias);
    memset(strange, 0, QZ_SIDE);
    if (done == groups)
        return;
    scale += done * QZ_SIDE;
    bias += done * QZ_SIDE;
    qz_load_side(view, part->first, part->count, group + done, groups - done, scale, bias);
    view->kernels->product_numbers(view->grid.zero, products->unit, products->base, groups - done, scale, bias,
                                   strange);
}

/* Where a part begins and ends, in groups and blocks. */
struct extent {
    uint64_t group;
    size_t groups, blocks;
    size_t head, each; /* blocks: of the first group, before these; of a group */
};

static struct extent extent_of(const struct qz_view *view, const struct qz_panel *part)
{
    const uint64_t group = part->from / view->group_size, last = (part->from + part->n - 1) / view->group_size;
    return (struct extent){
        .group = group,
        .groups = (size_t)(last - group + 1),
        .blocks = (size_t)qz_divide_up(part->n, QZ_INPUT_BLOCK),
        .head = (size_t)(part->from - group * view->group_size) / QZ_INPUT_BLOCK,
        .each = view->row_groups == 1 ? SIZE_MAX : (size_t)view->group_size / QZ_INPUT_BLOCK,
    };
}

static void load_few(const struct qz_byte_products *products, const struct qz_panel *part, struct few *few)
{
    const struct extent of = extent_of(products->weights->view, part);
    float scales[BLOCKS * QZ_SIDE], zeros[BLOCKS * QZ_SIDE];
    float *scale = of.each == 1 ? few->scale : scales, *bias = of.each == 1 ? few->bias : zeros;
    few->blocks = of.blocks;
    load_numbers(products, part, of.group, of.groups, scale, bias, few->strange);
    if (of.each != 1) {
        spread(few->scale, scale, of.blocks, of.head, of.each);
        spread(few->bias, bias, of.blocks, of.head, of.each);
    }
    few->any_strange = clear_strange(few->strange, part->count, of.blocks, few->scale, few->bias);
}

/* ---- prepared weights ----------------------------------------------------------------------------------------- */

/* Where a part, a tile, is among all of them. */
static size_t tile_of(const struct qz_ready_weights *ready, const struct qz_panel *part)
{
    return (size_t)(part->first / QZ_SIDE) * ready->tiles + (size_t)(part->from / QZ_TILE);
}

static uint8_t *ready_codes(const struct qz_ready_weights *ready, const struct qz_panel *part)
{
    const size_t block = (size_t)(part->first / QZ_SIDE) * ready->blocks + (size_t)(part->from / QZ_INPUT_BLOCK);
    return ready->packed + block * QZ_READY_BYTES;
}

/* Lays packed codes of a weight among those of others. */
static void lay_out(const uint8_t *codes, size_t bytes, size_t weight, uint8_t *to)
{
    for (size_t i = 0, some; i < bytes; i += some) {
        some = qz_least(4, bytes - i);
        memcpy(to + i * QZ_SIDE + 4 * weight, codes + i, some);
    }
}

void qz_make_ready(const struct qz_byte_products *products, uint64_t first, size_t count,
                   const struct qz_ready_weights *to)
{
    const struct qz_view *view = products->weights->view;
    float bias[BLOCKS * QZ_SIDE], scale[BLOCKS * QZ_SIDE];
    for (uint64_t from = 0; from < view->cols; from += QZ_TILE) {
        const struct qz_panel part = {first, from, count, qz_least(QZ_TILE, view->cols - from)};
        const struct extent of = extent_of(view, &part);
        const size_t tile = tile_of(to, &part), bytes = of.groups * QZ_SIDE * sizeof *scale;
        uint8_t *strange = to->strange + tile * QZ_SIDE;
        load_numbers(products, &part, of.group, of.groups, scale, bias, strange);
        (void)clear_strange(strange, count, of.groups, scale, bias);
        memcpy(to->scale + tile * to->groups * QZ_SIDE, scale, bytes);
        if (to->bias)
            memcpy(to->bias + tile * to->groups * QZ_SIDE, bias, bytes);
        for (size_t c = 0; c < count; c++)
            lay_out(qz_codes_at(view, first + c, from), (part.n + 1) / 2, c, ready_codes(to, &part));
    }
}

/* ---- products ------------------------------------------------------------------------------------------------- */

/* Sums of some weights with some rows, on their way. */
struct sums {
    const struct qz_panel *part;
    const struct qz_inputs *inputs;
    const struct qz_outputs *outputs;
};

static float *sums_at(const struct sums *sums, size_t row)
{
    return sums->outputs->value + (int64_t)row * sums->outputs->rows_apart +
           (int64_t)sums->part->first * sums->outputs->apart;
}

/* Rows of the inputs from block `block` on. */
static struct qz_byte_rows rows_from(const struct qz_inputs *inputs, size_t row, size_t rows, size_t block)
{
    const size_t at = row * inputs->block_pitch + block;
    return (struct qz_byte_rows){rows, inputs->block_pitch, inputs->code + at * QZ_INPUT_BLOCK, inputs->step + at,
                                 inputs->start + at};
}

/* The sums of some rows, before block `block`. */
static void begin_sums(const struct sums *sums, size_t row, size_t rows, size_t block, float *sum)
{
    if (block == 0)
        memset(sum, 0, rows * QZ_SIDE * sizeof *sum);
    else
        qz_take_sums(sums->outputs, sums_at(sums, row), rows, sums->part->count, sum);
}

/* Adds blocks [first, first + count) of a tile, whose codes are there, to the sums of all rows. */
static void add_blocks(const struct qz_byte_products *products, const struct few *few, const struct sums *sums,
                       size_t first, size_t count, const uint8_t *const packed[QZ_SIDE])
{
    const struct qz_kernels *kernels = products->weights->view->kernels;
    const struct qz_side side = {count, products->most, few->scale + first * QZ_SIDE, few->bias + first * QZ_SIDE};
    const size_t block = (size_t)(sums->part->from / QZ_INPUT_BLOCK) + first;
    int unpacks = sums->inputs->rows > FEW_ROWS;
    _Alignas(64) uint8_t level[LEVEL_BLOCKS * QZ_INPUT_BLOCK * QZ_SIDE];
    float sum[ROWS * QZ_SIDE];
    if (unpacks)
        kernels->product_levels(packed, count, products->level, level);
    for (size_t r = 0, rows; r < sums->inputs->rows; r += rows) {
        rows = qz_least(ROWS, sums->inputs->rows - r);
        const struct qz_byte_rows x = rows_from(sums->inputs, r, rows, block);
        begin_sums(sums, r, rows, block, sum);
        if (unpacks)
            kernels->product_bytes(&side, level, &x, sum);
        else
            kernels->product_packed(&side, packed, products->level, &x, sum);
        qz_put_sums(sums->outputs, sum, rows, sums->part->count, sums_at(sums, r));
    }
}

/* Adds a tile of weights that were prepared. */
static void add_ready(const struct qz_byte_products *products, struct few *few, const struct sums *sums)
{
    const struct qz_view *view = products->weights->view;
    const struct qz_ready_weights *ready = products->ready;
    const struct qz_panel *part = sums->part;
    const struct extent of = extent_of(view, part);
    const size_t tile = tile_of(ready, part), numbers = tile * ready->groups * QZ_SIDE;
    const size_t block = (size_t)(part->from / QZ_INPUT_BLOCK);
    const struct qz_ready_side side = {
        .packed = ready_codes(ready, part),
        .blocks = of.blocks,
        .head = of.head,
        .each = of.each,
        .most = products->most,
        .level = products->level,
        .scale = ready->scale + numbers,
        .bias = ready->bias ? ready->bias + numbers : NULL,
        .base = products->base / products->unit,
    };
    float sum[ROWS * QZ_SIDE];
    for (size_t r = 0, rows; r < sums->inputs->rows; r += rows) {
        rows = qz_least(ROWS, sums->inputs->rows - r);
        const struct qz_byte_rows x = rows_from(sums->inputs, r, rows, block);
        begin_sums(sums, r, rows, block, sum);
        view->kernels->product_ready(&side, &x, sum);
        qz_put_sums(sums->outputs, sum, rows, part->count, sums_at(sums, r));
    }
    memcpy(few->strange, ready->strange + tile * QZ_SIDE, QZ_SIDE);
    few->any_strange = memchr(few->strange, 1, QZ_SIDE) != NULL;
}

/* Adds the last block, number b, which is not whole. */
static void add_last(const struct qz_byte_products *products, const struct few *few, const struct sums *sums, size_t b)
{
    const struct qz_panel *part = sums->part;
    const uint8_t *packed[QZ_SIDE];
    uint8_t last[QZ_SIDE][QZ_INPUT_BLOCK / 2] = {{0}};
    for (size_t c = 0; c < QZ_SIDE; c++) {
        if (c < part->count)
            memcpy(last[c], qz_codes_at(products->weights->view, part->first + c, part->from + b * QZ_INPUT_BLOCK),
                   (part->n % QZ_INPUT_BLOCK + 1) / 2);
        packed[c] = last[c];
    }
    add_blocks(products, few, sums, b, 1, packed);
}

static void add_tile(const struct qz_byte_products *products, const struct few *few, const struct sums *sums)
{
    const struct qz_view *view = products->weights->view;
    const struct qz_panel *part = sums->part;
    const size_t whole = part->n / QZ_INPUT_BLOCK, most = sums->inputs->rows > FEW_ROWS ? LEVEL_BLOCKS : BLOCKS;
    const uint8_t *packed[QZ_SIDE];
    for (size_t b = 0, count; b < whole; b += count) {
        count = qz_least(most, whole - b);
        for (size_t c = 0; c < QZ_SIDE; c++)
            packed[c] = qz_codes_at(view, part->first + qz_least(c, part->count - 1), part->from + b * QZ_INPUT_BLOCK);
        add_blocks(products, few, sums, b, count, packed);
    }
    if (whole < few->blocks)
        add_last(products, few, sums, whole);
}

/* Where bytes do not do, a tile has added nothing to a sum: floats do. */
static void add_strange(const struct qz_byte_products *products, const struct few *few, const struct sums *sums,
                        size_t row)
{
    const struct qz_inputs *inputs = sums->inputs;
    const struct qz_panel *part = sums->part;
    const float *x = inputs->value + (ptrdiff_t)row * inputs->pitch + (ptrdiff_t)part->from;
    const int all = inputs->unrounded[row * inputs->tiles + part->from / QZ_TILE];
    float sum[QZ_SIDE];
    if (!all && !few->any_strange)
        return;
    qz_take_sums(sums->outputs, sums_at(sums, row), 1, part->count, sum);
    for (size_t c = 0; c < part->count; c++)
        if (all || few->strange[c]) {
            const struct qz_panel one = {part->first + c, part->from, 1, part->n};
            qz_panel_row(products->weights, &one, x, sum + c);
        }
    qz_put_sums(sums->outputs, sum, 1, part->count, sums_at(sums, row));
}

void qz_byte_products(const struct qz_byte_products *products, uint64_t first, size_t count,
                      const struct qz_inputs *inputs, const struct qz_outputs *outputs)
{
    uint64_t n = inputs->matrix->cols;
    struct few few;
    for (uint64_t from = 0; from < n; from += QZ_TILE) {
        const struct qz_panel part = {first, from, count, qz_least(QZ_TILE, n - from)};
        const struct sums sums = {&part, inputs, outputs};
        if (products->ready) {
            add_ready(products, &few, &sums);
        } else {
            load_few(products, &part, &few);
            add_tile(products, &few, &sums);
        }
        for (size_t r = 0; r < inputs->rows; r++)
            add_strange(products, &few, &sums, r);
    }
}
