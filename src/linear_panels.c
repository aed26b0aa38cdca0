/*
 * linear_panels.c - decodes weights to panels of floats, and multiplies with them
 */
#include "linear_panels.h"

#include <stdlib.h>
#include <string.h>

enum {
    GROUPS = QZ_NUMBERS_DEPTH / QZ_LEVELS,
    PAIR = QZ_PRODUCT_SIDES * QZ_SIDE, /* weights that are multiplied together */
    LINE = 64,                         /* bytes of memory: vectors of sums do not cross it */
    SOME_ROWS = 2 * QZ_PRODUCT_ROWS    /* so many sums of QZ_PANEL_WEIGHTS weights need no memory of their own */
};

/* Sixteen weights of a panel; element k of weight c is at [k * QZ_SIDE + c]. */
typedef float side[QZ_PANEL_DEPTH * QZ_SIDE];

/* Scales and zeros of groups of QZ_SIDE weights, from a group on. */
struct numbers {
    uint64_t first_group;
    int exact, ready; /* as in qz_few */
    const float *ready_scale, *ready_bias;
    float scale[GROUPS * QZ_SIDE], zero[GROUPS * QZ_SIDE];
};

void qz_load_side(const struct qz_view *view, uint64_t first, size_t count, uint64_t group, size_t groups, float *scale,
                  float *zero)
{
    float scales[QZ_SIDE * QZ_TILE / QZ_LEVELS], zeros[QZ_SIDE * QZ_TILE / QZ_LEVELS];
    for (size_t c = 0; c < QZ_SIDE; c++)
        qz_load_groups(view, &(struct span){first + qz_least(c, count - 1), group, 1, groups, 0}, scales + c * groups,
                       zeros + c * groups);
    view->kernels->transpose(scales, (ptrdiff_t)groups, groups, QZ_SIDE, scale, QZ_SIDE);
    if (view->grid.zero != QZ_ZERO_NONE)
        view->kernels->transpose(zeros, (ptrdiff_t)groups, groups, QZ_SIDE, zero, QZ_SIDE);
}

size_t qz_load_stored(const struct qz_view *view, uint64_t first, size_t count, uint64_t group, size_t groups,
                      float unit, float base, float *scale, float *bias)
{
    const uint8_t *scales[QZ_SIDE], *zeros[QZ_SIDE] = {NULL};
    const int has_zeros = view->grid.zero == QZ_ZERO_UINT4;
    if (view->scale_dtype != QZ_F16 || (has_zeros ? group % 2 != 0 : view->grid.zero != QZ_ZERO_NONE))
        return 0;
    for (size_t c = 0; c < QZ_SIDE; c++) {
        const uint64_t row = first + qz_least(c, count - 1);
        scales[c] = (const uint8_t *)qz_scales_at(view, row) + 2 * group;
        if (has_zeros)
            zeros[c] = (const uint8_t *)qz_zeros_at(view, row) + group / 2;
    }
    return view->kernels->product_stored(view->grid.zero, unit, base, scales, zeros, groups, scale, bias) ? groups : 0;
}

/* Whether groups of rows begin and end with blocks of QZ_LEVELS columns. */
static int has_blocks(const struct qz_view *view)
{
    return view->row_groups == 1 || view->group_size % QZ_LEVELS == 0;
}

/* Whether QZ_SIDE weights have numbers that were prepared, with the codes, from an element on, a multiple of QZ_TILE.
 * Not where values do not follow from these exactly. */
static int take_ready(const struct qz_weights *weights, uint64_t first, uint64_t from, struct numbers *numbers)
{
    const struct qz_view *view = weights->view;
    const struct qz_ready_weights *ready = weights->ready;
    if (!ready || view->scale_dtype != QZ_F16 || !view->grid.uniform ||
        (view->grid.zero != QZ_ZERO_NONE && view->grid.zero != QZ_ZERO_UINT4))
        return 0;
    const size_t tile = (size_t)(first / QZ_SIDE) * ready->tiles + (size_t)(from / QZ_TILE);
    if (memchr(ready->strange + tile * QZ_SIDE, 1, QZ_SIDE))
        return 0;
    numbers->ready_scale = ready->scale + tile * ready->groups * QZ_SIDE;
    numbers->ready_bias = ready->bias ? ready->bias + tile * ready->groups * QZ_SIDE : NULL;
    return 1;
}

/* Numbers for QZ_SIDE weights and n elements from `from` on, a multiple of QZ_NUMBERS_DEPTH, and so many at most. */
static void load_numbers(const struct qz_weights *weights, uint64_t first, uint64_t from, size_t n,
                         struct numbers *numbers)
{
    const struct qz_view *view = weights->view;
    const uint64_t group = from / view->group_size;
    const size_t groups = (size_t)((from + n - 1) / view->group_size - group + 1);
    const int few = view->kernels->few_values != NULL;
    numbers->first_group = group;
    numbers->ready = few && take_ready(weights, first, from, numbers);
    numbers->exact =
        few && !numbers->ready && groups % QZ_STORED_GROUPS == 0 &&
        qz_load_stored(view, first, QZ_SIDE, group, groups, 1.0f, 0.0f, numbers->scale, numbers->zero) != 0;
    if (!numbers->ready && !numbers->exact)
        qz_load_side(view, first, QZ_SIDE, group, groups, numbers->scale, numbers->zero);
}

/* Blocks of QZ_SIDE weights with their numbers. */
static struct qz_few few_of(const struct qz_weights *weights, uint64_t first, uint64_t from, size_t blocks,
                            const struct numbers *numbers)
{
    const struct qz_view *view = weights->view;
    const struct qz_ready_weights *ready = weights->ready;
    struct qz_few few = {
        .blocks = blocks,
        .head = (size_t)(from - numbers->first_group * view->group_size) / QZ_LEVELS,
        .each = view->row_groups == 1 ? SIZE_MAX : (size_t)view->group_size / QZ_LEVELS,
        .grid = &view->grid,
        .exact = numbers->exact,
        .ready = numbers->ready,
    };
    if (numbers->ready) {
        few.packed =
            ready->packed + ((size_t)(first / QZ_SIDE) * ready->blocks + (size_t)(from / QZ_LEVELS)) * QZ_READY_BYTES;
        few.scale = numbers->ready_scale;
        few.zero = numbers->ready_bias;
        return few;
    }
    few.packed = qz_codes_at(view, first, from);
    few.pitch = (ptrdiff_t)view->packed->code_stride;
    few.scale = numbers->scale;
    few.zero = numbers->zero;
    return few;
}

/* Blocks of QZ_SIDE rows; returns how many elements these are. */
static size_t load_blocks(const struct qz_weights *weights, uint64_t row, uint64_t from, size_t n,
                          const struct numbers *numbers, float *to)
{
    const struct qz_view *view = weights->view;
    const size_t whole = n / QZ_LEVELS * QZ_LEVELS;
    if (view->kernels->few_values) {
        const struct qz_few few = few_of(weights, row, from, whole / QZ_LEVELS, numbers);
        view->kernels->few_values(&few, to);
        return whole;
    }
    for (size_t i = 0, count; i < whole; i += count) {
        uint64_t group = (from + i) / view->group_size;
        size_t at = (size_t)(group - numbers->first_group) * QZ_SIDE;
        count = qz_least((group + 1) * view->group_size - from - i, whole - i);
        view->kernels->columns_decode(qz_codes_at(view, row, from + i), (ptrdiff_t)view->packed->code_stride, count,
                                      QZ_SIDE, &view->grid, numbers->scale + at, numbers->zero + at, to + i * QZ_SIDE,
                                      QZ_SIDE);
    }
    return whole;
}

/* Rows of the packed matrix become weights; those that are not there are 0. */
static void load_rows(const struct qz_weights *weights, const struct qz_panel *part, const struct numbers *numbers,
                      side *panel)
{
    const struct qz_view *view = weights->view;
    float some[QZ_SIDE * QZ_PANEL_DEPTH];
    for (size_t first = 0; first < part->count; first += QZ_SIDE, numbers++, panel++) {
        const uint64_t row = part->first + first;
        size_t count = qz_least(QZ_SIDE, part->count - first), done = 0;
        if (count == QZ_SIDE && has_blocks(view))
            done = load_blocks(weights, row, part->from, part->n, numbers, *panel);
        size_t left = part->n - done;
        if (left == 0)
            continue;
        for (size_t c = 0; c < count; c++)
            qz_decode_part(view, row + c, part->from + done, left, some + c * left);
        memset(some + count * left, 0, (QZ_SIDE - count) * left * sizeof *some);
        view->kernels->transpose(some, (ptrdiff_t)left, left, QZ_SIDE, *panel + done * QZ_SIDE, QZ_SIDE);
    }
}

/* Columns of the packed matrix do. */
static void load_columns(const struct qz_view *view, const struct qz_panel *part, side *panel)
{
    float some[QZ_PANEL_WEIGHTS] = {0};
    for (size_t k = 0; k < part->n; k++) {
        qz_decode_part(view, part->from + k, part->first, part->count, some);
        for (size_t first = 0; first < part->count; first += QZ_SIDE)
            memcpy(panel[first / QZ_SIDE] + k * QZ_SIDE, some + first, QZ_SIDE * sizeof *some);
    }
}

/* The numbers are those of the elements from a multiple of QZ_NUMBERS_DEPTH on, and made with the first of these. */
static void load_panel(const struct qz_weights *weights, const struct qz_panel *part, uint64_t end,
                       struct numbers *numbers, side *panel)
{
    const struct qz_view *view = weights->view;
    if (weights->columns) {
        load_columns(view, part, panel);
        return;
    }
    if (part->from % QZ_NUMBERS_DEPTH == 0 && has_blocks(view))
        for (size_t c = 0; c + QZ_SIDE <= part->count; c += QZ_SIDE)
            load_numbers(weights, part->first + c, part->from, (size_t)qz_least(QZ_NUMBERS_DEPTH, end - part->from),
                         numbers + c / QZ_SIDE);
    load_rows(weights, part, numbers, panel);
}

void qz_panel_row(const struct qz_weights *weights, const struct qz_panel *part, const float *x, float *sum)
{
    _Alignas(64) side panel;
    struct numbers numbers;
    float total[QZ_SIDE] = {0};
    memcpy(total, sum, part->count * sizeof *total);
    for (size_t i = 0; i < part->n; i += QZ_PANEL_DEPTH) {
        const struct qz_panel piece = {part->first, part->from + i, part->count, qz_least(QZ_PANEL_DEPTH, part->n - i)};
        load_panel(weights, &piece, part->from + part->n, &numbers, &panel);
        weights->view->kernels->products(x + i, 1, 0, panel, 0, 1, piece.n, total);
    }
    memcpy(sum, total, part->count * sizeof *total);
}

void qz_take_sums(const struct qz_outputs *outputs, const float *from, size_t rows, size_t count, float *sum)
{
    for (size_t r = 0; r < rows; r++, from += outputs->rows_apart, sum += QZ_SIDE)
        if (outputs->apart == 1 && count == QZ_SIDE)
            memcpy(sum, from, QZ_SIDE * sizeof *sum);
        else
            for (size_t c = 0; c < QZ_SIDE; c++)
                sum[c] = c < count ? from[(int64_t)c * outputs->apart] : 0.0f;
}

void qz_put_sums(const struct qz_outputs *outputs, const float *sum, size_t rows, size_t count, float *to)
{
    for (size_t r = 0; r < rows; r++, to += outputs->rows_apart, sum += QZ_SIDE) {
        float form[QZ_SIDE];
        for (size_t c = 0; c < QZ_SIDE; c++)
            form[c] = qz_output(sum[c]);
        if (outputs->apart == 1 && count == QZ_SIDE)
            memcpy(to, form, sizeof form);
        else
            for (size_t c = 0; c < count; c++)
                to[(int64_t)c * outputs->apart] = form[c];
    }
}

static float *place_of(const struct qz_outputs *outputs, size_t row, uint64_t weight)
{
    return outputs->value + (int64_t)row * outputs->rows_apart + (int64_t)weight * outputs->apart;
}

/* Sums of some rows and `count` weights become outputs; `width` sums of each row are there. */
static void put_pair(const struct qz_kernels *kernels, const struct qz_outputs *outputs, const float *sum, size_t width,
                     size_t rows, size_t row, uint64_t weight, size_t count)
{
    if (outputs->apart == 1 && count == width) {
        kernels->product_outputs(sum, rows, width, place_of(outputs, row, weight), (ptrdiff_t)outputs->rows_apart);
        return;
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < count; c += QZ_SIDE)
            qz_put_sums(outputs, sum + r * width + c, 1, qz_least(QZ_SIDE, count - c),
                        place_of(outputs, row + r, weight + c));
}

/* Asks for the places of outputs. */
static void fetch_pair(const struct qz_outputs *outputs, size_t rows, size_t row, uint64_t weight, size_t count)
{
    if (outputs->apart == 1)
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < count; c += QZ_SIDE)
                __builtin_prefetch(place_of(outputs, row + r, weight + c), 1, 3);
}

/* What whole chains of QZ_SIDE weights make with few rows is added to their sums; returns how many elements these are.
 * The numbers of what is left stay behind. */
static uint64_t add_few(const struct qz_weights *weights, uint64_t first, const float *x, ptrdiff_t pitch, size_t rows,
                        uint64_t n, struct numbers *numbers, float *sum)
{
    const uint64_t whole = n / QZ_PRODUCT_CHAIN * QZ_PRODUCT_CHAIN;
    for (uint64_t from = 0; from < whole; from += QZ_NUMBERS_DEPTH) {
        const size_t blocks = (size_t)qz_least(QZ_NUMBERS_DEPTH, whole - from) / QZ_LEVELS;
        load_numbers(weights, first, from, (size_t)qz_least(QZ_NUMBERS_DEPTH, n - from), numbers);
        const struct qz_few few = few_of(weights, first, from, blocks, numbers);
        weights->view->kernels->products_few(&few, x + (ptrdiff_t)from, pitch, rows, sum);
    }
    return whole;
}

int qz_takes_few(const struct qz_weights *weights, uint64_t rows)
{
    return weights->view->kernels->products_few && rows <= QZ_FEW_INPUTS && !weights->columns &&
           has_blocks(weights->view);
}

/* Asks for the codes of what follows a part. */
static void fetch_codes(const struct qz_weights *weights, const struct qz_panel *part, uint64_t end)
{
    if (!weights->columns && part->from + part->n < end)
        for (size_t c = 0; c < part->count; c++)
            __builtin_prefetch(qz_codes_at(weights->view, part->first + c, part->from + part->n), 0, 2);
}

/* Adds what a part of some weights makes with all rows; sums of PAIR weights are together, row by row. The last part
 * completes the outputs. */
static void add_part(const struct qz_kernels *kernels, const struct qz_panel *part, const side *panel,
                     const struct qz_panel_rows *x, int last, float *sums, const struct qz_outputs *outputs)
{
    for (size_t c = 0; c < part->count; c += PAIR) {
        const size_t count = qz_least(PAIR, part->count - c), sides = (size_t)qz_divide_up(count, QZ_SIDE);
        const size_t width = sides * QZ_SIDE;
        for (size_t r = 0, rows; r < x->count; r += rows) {
            rows = qz_least(x->together, x->count - r);
            const float *value = x->value + (ptrdiff_t)r * x->pitch + (ptrdiff_t)(part->from * rows);
            const size_t ahead = r + rows < x->count ? rows * (size_t)x->pitch : 0;
            float *sum = sums + c * x->count + r * width;
            if (last)
                fetch_pair(outputs, rows, r, part->first + c, count);
            kernels->products(value, rows, ahead, panel[c / QZ_SIDE], sizeof *panel / sizeof(float), sides, part->n,
                              sum);
            if (last)
                put_pair(kernels, outputs, sum, width, rows, r, part->first + c, count);
        }
    }
}

/* Products of some rows; sums grow in `sums`, which has room for QZ_PANEL_WEIGHTS of each. */
static void add_panels(const struct qz_weights *weights, uint64_t first, size_t count, const struct qz_panel_rows *x,
                       uint64_t n, float *sums, const struct qz_outputs *outputs)
{
    _Alignas(64) side panel[QZ_PANEL_WEIGHTS / QZ_SIDE];
    struct numbers numbers[QZ_PANEL_WEIGHTS / QZ_SIDE];
    const struct qz_kernels *kernels = weights->view->kernels;
    const int many = x->count >= QZ_PRODUCT_ROWS;
    const size_t depth = many ? QZ_MANY_DEPTH : QZ_PANEL_DEPTH;
    uint64_t from = 0;
    memset(sums, 0, x->count * (size_t)qz_divide_up(count, QZ_SIDE) * QZ_SIDE * sizeof *sums);
    if (x->together == 1 && count == QZ_SIDE && qz_takes_few(weights, x->count))
        from = add_few(weights, first, x->value, x->pitch, x->count, n, numbers, sums);
    if (from == n)
        put_pair(kernels, outputs, sums, QZ_SIDE, x->count, 0, first, count);
    for (; from < n; from += depth) {
        const struct qz_panel part = {first, from, count, qz_least(depth, n - from)};
        load_panel(weights, &part, n, numbers, panel);
        if (many)
            fetch_codes(weights, &part, n);
        add_part(kernels, &part, panel, x, from + part.n == n, sums, outputs);
    }
}

void qz_panel_products(const struct qz_weights *weights, uint64_t first, size_t count, const struct qz_panel_rows *x,
                       uint64_t n, const struct qz_outputs *outputs)
{
    _Alignas(64) float few[SOME_ROWS * QZ_PANEL_WEIGHTS];
    void *own = x->count > SOME_ROWS ? malloc(x->count * QZ_PANEL_WEIGHTS * sizeof *few + LINE) : NULL;
    float *room = own ? (float *)(void *)(((uintptr_t)own + LINE - 1) / LINE * LINE) : few;
    const size_t most = own ? x->count : SOME_ROWS;
    for (size_t r = 0; r < x->count; r += most) {
        const struct qz_panel_rows some = {x->value + (ptrdiff_t)r * x->pitch, x->pitch, qz_least(most, x->count - r),
                                           x->together};
        const struct qz_outputs to = {place_of(outputs, r, 0), outputs->rows_apart, outputs->apart};
        add_panels(weights, first, count, &some, n, room, &to);
    }
    free(own);
}
