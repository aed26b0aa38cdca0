/*
 * bounds.c - computes lower and upper bounds of the scores of rows
 */
#include "bounds.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

/* Numbers of ordinary rows and queries: no product or sum of them comes near the ends of float32. */
#define ROW_LEAST  0x1p-80f
#define ROW_MOST   0x1p30f
#define STEP_LEAST 0x1p-30
#define STEP_MOST  0x1p30

enum {
    STEP_BYTES = QZ_BESIDE_CODES / 2, /* of a row of codes side by side */
    LAID_OUT = 4                      /* for so many queries it pays to lay codes side by side */
};

#define ROUNDER 0x1.8p52 /* a number near 0 is rounded to an integer where this is added */

/* A factor for bounds, so that their own rounding does not count. */
#define ROUNDED_UP (1.0 + 0x1p-20)

float qz_float_below(double x)
{
    float near = x > (double)FLT_MAX ? FLT_MAX : x < -(double)FLT_MAX ? -INFINITY : (float)x;
    return (double)near > x ? nextafterf(near, -INFINITY) : near;
}

/* x as float32, infinite where it does not fit; x is not negative, or NaN. */
static float float_of(double x)
{
    return x > (double)FLT_MAX ? INFINITY : (float)x;
}

/* ---- levels --------------------------------------------------------------------------------------------------- */

/* Whether 16 values are whole multiples of a unit, and no more than QZ_LEVEL_MOST of it apart. */
static int are_multiples(const float *value, float least, float most, float unit)
{
    if ((most - least) / unit > (float)QZ_LEVEL_MOST || fabsf(least) > 0x1p10f || fabsf(most) > 0x1p10f)
        return 0;
    for (int i = 0; i < 16; i++)
        if (value[i] / unit != rintf(value[i] / unit))
            return 0;
    return 1;
}

static int choose_levels(struct qz_code_levels *levels, const float *value)
{
    float least = value[0], most = value[0];
    for (int i = 1; i < 16; i++) {
        least = fminf(least, value[i]);
        most = fmaxf(most, value[i]);
    }
    if (!(fmaxf(-least, most) < ROW_MOST && most - least > 1 / ROW_MOST))
        return 0;
    levels->rounded = 0;
    if (are_multiples(value, least, most, 1.0f))
        levels->unit = 1.0f;
    else if (are_multiples(value, least, most, 0.5f))
        levels->unit = 0.5f;
    else {
        levels->unit = (most - least) / (float)QZ_LEVEL_MOST;
        levels->rounded = 1;
    }
    levels->base = least;
    levels->most = 0;
    for (int i = 0; i < 16; i++) {
        long level = lrintf((value[i] - least) / levels->unit);
        levels->level[i] = (uint8_t)qz_least((uint64_t)(level < 0 ? 0 : level), QZ_LEVEL_MOST);
        levels->most = levels->level[i] > levels->most ? levels->level[i] : levels->most;
    }
    return 1;
}

int qz_bounds_make(struct qz_bounds *bounds, const struct qz_view *view, qz_metric metric)
{
    bounds->view = view;
    bounds->metric = metric;
    bounds->by_length = metric != QZ_DOT;
    if (view->cols == 0 || view->cols > QZ_TILE || (view->row_groups > 1 && view->group_size % QZ_CHUNK) ||
        !choose_levels(&bounds->levels, view->grid.value))
        return 0;
    size_t groups = (size_t)view->row_groups, bytes = (size_t)qz_divide_up(view->cols, 2);
    bounds->bytes = bytes < QZ_CHUNK / 2 ? QZ_CHUNK / 2 : bytes;
    bounds->chunks = (size_t)qz_divide_up(bytes, QZ_CHUNK / 2);
    bounds->terms = groups + (metric == QZ_L2);
    bounds->slack = (float)(groups + 16) * 0x1p-22f;
    bounds->block = qz_least(QZ_BOUND_ROWS, QZ_BOUND_NUMBERS / groups / 16 * 16);
    return 1;
}

size_t qz_bounds_numbers(const struct qz_bounds *bounds)
{
    return ((size_t)bounds->view->row_groups + bounds->terms + 2) * bounds->block;
}

size_t qz_bounds_all_sums(const struct qz_bounds *bounds)
{
    return (size_t)bounds->view->row_groups * bounds->block * QZ_BOUND_QUERIES;
}

static size_t beside_steps(const struct qz_bounds *bounds)
{
    return (size_t)qz_divide_up(bounds->view->cols, QZ_BESIDE_CODES);
}

size_t qz_bounds_beside_bytes(const struct qz_bounds *bounds)
{
    return beside_steps(bounds) * bounds->block * STEP_BYTES;
}

/* Chunks of a group. */
static size_t group_chunks(const struct qz_bounds *bounds)
{
    return bounds->view->row_groups == 1 ? bounds->chunks : (size_t)bounds->view->group_size / QZ_CHUNK;
}

/* ---- queries -------------------------------------------------------------------------------------------------- */

/* Where element i of a row has its integer. */
static size_t code_place(const struct qz_bounds *bounds, size_t i)
{
    size_t chunk = i / QZ_CHUNK, start = qz_chunk_start(bounds->bytes, bounds->chunks, chunk);
    return chunk * QZ_CHUNK + i % 2 * (QZ_CHUNK / 2) + (i / 2 - start);
}

static double largest(const float *x, size_t n)
{
    float most = 0.0f;
    for (size_t i = 0; i < n; i++)
        most = qz_larger(fabsf(x[i]), most);
    return (double)most;
}

static long magnitude_of_pair(const int8_t *code, size_t chunk, size_t i)
{
    return labs(code[chunk * QZ_CHUNK + i]) + labs(code[chunk * QZ_CHUNK + i + 1]);
}

/* The largest sum of magnitudes that a kernel may make of `count` chunks: of two neighbours in the same place of all;
 * or of those of the lower and the upper halves of every second chunk, with which the last two may be summed up. */
static long largest_pairs(const int8_t *code, size_t count)
{
    long most = 0;
    for (size_t i = 0; i < QZ_CHUNK / 2; i += 2) {
        long lower = 0, upper = 0, half[2] = {0, 0};
        for (size_t c = 0; c < count; c++) {
            long low = magnitude_of_pair(code, c, i), high = magnitude_of_pair(code, c, QZ_CHUNK / 2 + i);
            lower += low;
            upper += high;
            half[c % 2] += low + high;
            half[1 - c % 2] += c + 2 >= count ? low + high : 0;
        }
        lower = lower > upper ? lower : upper;
        half[0] = half[0] > half[1] ? half[0] : half[1];
        most = lower > most ? lower : most;
        most = half[0] > most ? half[0] : most;
    }
    return most;
}

/* Whether sums of so many chunks of a group, from its start on, never exceed 16 bits. */
static int steps_fit(const struct qz_bounds *bounds, const int8_t *code, size_t steps)
{
    const size_t group = group_chunks(bounds);
    for (size_t first = 0, end; first < bounds->chunks; first = end) {
        end = qz_least(bounds->chunks, first + group);
        for (size_t c = first; c < end; c += steps)
            if (largest_pairs(code + c * QZ_CHUNK, qz_least(steps, end - c)) * (long)bounds->levels.most > INT16_MAX)
                return 0;
    }
    return 1;
}

/* How many chunks the kernel may sum up: mostly all; few would be allowed if all numbers of a query were large. */
static size_t chunk_steps(const struct qz_bounds *bounds, const int8_t *code)
{
    size_t always = qz_level_steps(bounds->levels.most), steps = group_chunks(bounds);
    while (steps > always && !steps_fit(bounds, code, steps))
        steps = (steps + 1) / 2;
    return steps > always ? steps : always;
}

/* Makes integers of a query. Returns 0 if it is all zeros, or too small or large. */
static int take_query(struct qz_bounds *bounds, size_t q)
{
    const struct qz_view *view = bounds->view;
    const struct qz_code_levels *levels = &bounds->levels;
    struct qz_bound_queries *queries = &bounds->queries;
    const float *x = qz_query(queries->of, q);
    int8_t *code = queries->code + q * bounds->chunks * QZ_CHUNK;
    float *start = queries->start + q * bounds->terms;
    size_t cols = (size_t)view->cols;
    double step = largest(x, cols) / QZ_LEVEL_MOST, lost = 0.0, squares = 0.0, total = 0.0;
    if (!(step >= STEP_LEAST && step <= STEP_MOST))
        return 0;
    memset(code, 0, bounds->chunks * QZ_CHUNK);
    for (size_t g = 0, i = 0; g < view->row_groups; g++) {
        long sum = 0;
        for (size_t end = i + qz_least(view->group_size, cols - i); i < end; i++) {
            double exact = (double)x[i] / step, whole = exact + ROUNDER - ROUNDER; /* to an integer */
            code[queries->beside ? qz_beside_place(i) : code_place(bounds, i)] = (int8_t)whole;
            lost += fabs(exact - whole);
            squares += (exact - whole) * (exact - whole);
            total += fabs(whole);
            sum += (long)whole;
        }
        start[g] = (float)sum;
    }
    if (queries->of->metric == QZ_L2)
        start[bounds->terms - 1] = (float)((1.0 - (double)bounds->slack) / step);
    double rounding = (double)bounds->slack + (levels->rounded ? 0.5001 / (double)levels->most : 0.0);
    queries->factor[q][0] = (float)((bounds->by_length ? sqrt(squares) : lost) * ROUNDED_UP);
    queries->factor[q][1] = (float)(total * rounding * ROUNDED_UP);
    queries->step[q] = step;
    if (!queries->beside)
        queries->steps[q] = chunk_steps(bounds, code);
    return 1;
}

int qz_bounds_take(struct qz_bounds *bounds, const struct qz_queries *queries)
{
    bounds->queries.of = queries;
    bounds->queries.beside =
        !bounds->one_by_one && (queries->count >= LAID_OUT || (bounds->ready && bounds->ready->side));
    for (size_t q = 0; q < queries->count; q++)
        if (!take_query(bounds, q))
            return 0;
    return 1;
}

/* ---- rows ----------------------------------------------------------------------------------------------------- */

/* Loads scales and zeros of rows, those of a group side by side. */
static void load_numbers(const struct qz_bounds *bounds, uint64_t first, size_t count, float *scale, float *zero)
{
    const struct qz_view *view = bounds->view;
    size_t groups = (size_t)view->row_groups, some = groups == 1 ? count : QZ_TILE_GROUPS / groups;
    float loaded[2][QZ_TILE_GROUPS];
    if (groups == 1) {
        qz_load_groups(view, &(struct span){first, 0, count, 1, 0}, scale, zero);
        return;
    }
    for (size_t r = 0, rows; r < count; r += rows) {
        rows = qz_least(some, count - r);
        qz_load_groups(view, &(struct span){first + r, 0, rows, groups, 0}, loaded[0], loaded[1]);
        view->kernels->transpose(loaded[0], (ptrdiff_t)groups, groups, rows, scale + r, (ptrdiff_t)bounds->block);
        if (view->grid.zero != QZ_ZERO_NONE)
            view->kernels->transpose(loaded[1], (ptrdiff_t)groups, groups, rows, zero + r, (ptrdiff_t)bounds->block);
    }
}

/* Where numbers of a block lie. */
struct places {
    float *scale, *bias, *spread, *size;
};

static struct places places_of(const struct qz_bounds *bounds, float *numbers)
{
    float *bias = numbers + (size_t)bounds->view->row_groups * bounds->block, *spread = bias;
    spread += bounds->terms * bounds->block;
    return (struct places){numbers, bias, spread, spread + bounds->block};
}

/* For cosines: divides the numbers of a row by its length. */
static void divide_by_length(const struct qz_bounds *bounds, double square, const struct places *to, size_t r)
{
    float inverse = square == 0.0 ? 0.0f : float_of(1.0 / sqrt(square));
    for (size_t g = 0; g < bounds->view->row_groups; g++) {
        to->scale[g * bounds->block + r] *= inverse;
        to->bias[g * bounds->block + r] *= inverse;
    }
    int usable = to->spread[r] < INFINITY;
    to->spread[r] *= inverse;
    to->size[r] *= inverse;
    if (!usable || !(to->size[r] <= ROW_MOST))
        to->spread[r] = INFINITY;
}

static void take_lengths(const struct qz_bounds *bounds, uint64_t first, size_t count, const struct places *to)
{
    for (size_t r = 0; r < count; r++) {
        double square = qz_row_square(bounds->view, first + r);
        if (to->spread[r] < INFINITY)
            to->spread[r] = (float)(sqrt(square) * ROUNDED_UP);
        if (bounds->metric == QZ_COSINE)
            divide_by_length(bounds, square, to, r);
        else if (bounds->metric == QZ_L2)
            to->bias[bounds->view->row_groups * bounds->block + r] = -float_of(0.5 * square);
    }
}

void qz_bounds_measure(const struct qz_bounds *bounds, uint64_t first, size_t count, float *numbers)
{
    const struct qz_view *view = bounds->view;
    const struct places to = places_of(bounds, numbers);
    const struct qz_measure rule = {
        bounds->levels.unit, bounds->levels.base, (float)bounds->levels.most, ROW_LEAST, ROW_MOST,
        (float)ROUNDED_UP,   view->grid.zero};
    float zero[QZ_BOUND_NUMBERS];
    load_numbers(bounds, first, count, to.scale, zero);
    view->kernels->measure(&rule, count, (size_t)view->row_groups, bounds->block, to.scale, zero, to.bias, to.spread,
                           to.size);
    if (bounds->by_length)
        take_lengths(bounds, first, count, &to);
}

/* Rows of fewer than 16 bytes, with zeros behind them. */
static void copy_codes(const struct qz_bounds *bounds, struct qz_bound_rows *rows)
{
    size_t bytes = (size_t)qz_divide_up(bounds->view->cols, 2);
    memset(rows->short_codes, 0, sizeof rows->short_codes);
    for (size_t r = 0; r < rows->count; r++)
        qz_copy_few(rows->short_codes + r * (QZ_CHUNK / 2), rows->codes + (ptrdiff_t)r * rows->stride, bytes);
    rows->codes = rows->short_codes;
    rows->stride = QZ_CHUNK / 2;
}

void qz_bounds_lay_out(const struct qz_bounds *bounds, uint64_t first, size_t count, uint8_t *side)
{
    const ptrdiff_t stride = (ptrdiff_t)bounds->view->packed->code_stride;
    const uint8_t *codes = qz_codes_at(bounds->view, first, 0);
    const size_t bytes = (size_t)qz_divide_up(bounds->view->cols, 2), step = bounds->block * STEP_BYTES;
    size_t at = 0;
    for (; at + STEP_BYTES <= bytes; at += STEP_BYTES, side += step)
        for (size_t r = 0; r < count; r++)
            memcpy(side + r * STEP_BYTES, codes + (ptrdiff_t)r * stride + at, STEP_BYTES);
    for (size_t r = 0; at < bytes && r < count; r++) {
        memset(side + r * STEP_BYTES, 0, STEP_BYTES);
        memcpy(side + r * STEP_BYTES, codes + (ptrdiff_t)r * stride + at, bytes - at);
    }
}

/* Codes of a block side by side: those that are ready, or they are laid out. */
static const uint8_t *codes_beside(const struct qz_bounds *bounds, uint64_t first, size_t count, uint8_t *room)
{
    if (!bounds->queries.beside)
        return NULL;
    if (bounds->ready && bounds->ready->side)
        return bounds->ready->side + first / bounds->block * qz_bounds_beside_bytes(bounds);
    qz_bounds_lay_out(bounds, first, count, room);
    return room;
}

static void take_codes(const struct qz_bounds *bounds, uint64_t first, size_t count, struct qz_bound_rows *rows)
{
    rows->first = first;
    rows->count = count;
    rows->are_listed = 0;
    rows->codes = qz_codes_at(bounds->view, first, 0);
    rows->stride = (ptrdiff_t)bounds->view->packed->code_stride;
}

/* Where the numbers of rows are, of which the first one is given. */
static void find_numbers(const struct qz_bounds *bounds, const float *numbers, struct qz_bound_rows *rows)
{
    rows->scale = numbers;
    rows->bias = rows->scale + (size_t)bounds->view->row_groups * bounds->block;
    rows->spread = rows->bias + bounds->terms * bounds->block;
    rows->size = rows->spread + bounds->block;
}

void qz_bounds_load(const struct qz_bounds *bounds, uint64_t first, size_t count, uint8_t *room,
                    struct qz_bound_rows *rows)
{
    const struct qz_view *view = bounds->view;
    const struct qz_ready *ready = bounds->ready;
    take_codes(bounds, first, count, rows);
    rows->side = codes_beside(bounds, first, count, room);
    if (!rows->side && view->cols <= QZ_CHUNK - 2)
        copy_codes(bounds, rows);
    if (!ready)
        qz_bounds_measure(bounds, first, count, rows->room);
    find_numbers(bounds, ready ? ready->numbers + first / bounds->block * qz_bounds_numbers(bounds) : rows->room, rows);
}

void qz_bounds_begin_list(const struct qz_bounds *bounds, const uint8_t *room, struct qz_bound_rows *rows)
{
    rows->count = 0;
    rows->are_listed = 1;
    rows->codes = room;
    rows->side = NULL;
    rows->stride = (ptrdiff_t)bounds->bytes;
    find_numbers(bounds, rows->room, rows);
}

/* `row` fits 32 bits, whose division is faster. */
static const float *ready_numbers(const struct qz_bounds *bounds, uint64_t row)
{
    const uint32_t block = (uint32_t)row / (uint32_t)bounds->block, r = (uint32_t)row % (uint32_t)bounds->block;
    return bounds->ready->numbers + block * qz_bounds_numbers(bounds) + r;
}

void qz_bounds_load_listed(const struct qz_bounds *bounds, uint64_t row, uint8_t *room, struct qz_bound_rows *rows)
{
    const float *numbers = ready_numbers(bounds, row);
    const size_t r = rows->count++, bytes = (size_t)qz_divide_up(bounds->view->cols, 2);
    uint8_t *codes = room + r * bounds->bytes;
    rows->listed[r] = row;
    memcpy(codes, qz_codes_at(bounds->view, row, 0), bytes);
    if (bytes < bounds->bytes)
        memset(codes + bytes, 0, bounds->bytes - bytes);
    for (size_t i = 0; i < qz_bounds_numbers(bounds); i += bounds->block)
        rows->room[i + r] = numbers[i];
}

void qz_bounds_fetch_row(const struct qz_bounds *bounds, uint64_t row)
{
    enum { LINE = 64 };
    const uint8_t *codes = qz_codes_at(bounds->view, row, 0);
    const float *numbers = ready_numbers(bounds, row);
    for (size_t i = 0; i < bounds->bytes; i += LINE)
        __builtin_prefetch(codes + i);
    for (size_t i = 0; i < qz_bounds_numbers(bounds); i += bounds->block)
        __builtin_prefetch(numbers + i);
}

/* ---- rows and queries ----------------------------------------------------------------------------------------- */

float qz_bounds_limit(const struct qz_bounds *bounds, size_t query, double key)
{
    double square = bounds->queries.of->square[query];
    if (bounds->queries.of->metric == QZ_COSINE)
        key *= sqrt(square);
    else if (bounds->queries.of->metric == QZ_L2)
        key = 0.5 * (key + square) - 0x1p-40 * (square - key);
    double limit = key / bounds->queries.step[query];
    return qz_float_below(limit - fabs(limit) * 0x1p-40);
}

static void multiply_beside(const struct qz_bounds *bounds, const uint8_t *side, const int8_t *code, size_t count,
                            int32_t *sum)
{
    const struct qz_view *view = bounds->view;
    const size_t steps = beside_steps(bounds), groups = (size_t)view->row_groups;
    const struct qz_beside codes = {
        .codes = side,
        .rows = bounds->block,
        .steps = steps,
        .group_steps = groups == 1 ? steps : (size_t)view->group_size / QZ_BESIDE_CODES,
        .groups = groups,
        .level = bounds->levels.level,
    };
    view->kernels->scan_beside(&codes, code, bounds->chunks * QZ_CHUNK, count, sum);
}

static void multiply(const struct qz_bounds *bounds, const struct qz_bound_rows *rows, size_t query, int32_t *sum)
{
    const struct qz_scan codes = {
        .codes = rows->codes,
        .stride = rows->stride,
        .rows = rows->count,
        .bytes = bounds->bytes,
        .chunks = bounds->chunks,
        .group_chunks = group_chunks(bounds),
        .groups = (size_t)bounds->view->row_groups,
        .level = bounds->levels.level,
        .steps = bounds->queries.steps[query],
        .pitch = bounds->block,
    };
    bounds->view->kernels->scan(&codes, bounds->queries.code + query * bounds->chunks * QZ_CHUNK, sum);
}

void qz_bounds_multiply(const struct qz_bounds *bounds, const struct qz_bound_rows *rows, size_t query, size_t count,
                        int32_t *sum)
{
    if (rows->side)
        multiply_beside(bounds, rows->side, bounds->queries.code + query * bounds->chunks * QZ_CHUNK, count, sum);
    for (size_t i = 0; !rows->side && i < count; i++)
        multiply(bounds, rows, query + i, sum + i * (size_t)bounds->view->row_groups * bounds->block);
}

void qz_bounds_reach(const struct qz_bounds *bounds, const struct qz_bound_rows *rows, size_t query, size_t count,
                     const int32_t *sum, const float *limit, uint64_t *within)
{
    const struct qz_reach numbers = {rows->count,   bounds->block, (size_t)bounds->view->row_groups,
                                     bounds->terms, rows->scale,   rows->bias,
                                     rows->spread,  rows->size};
    bounds->view->kernels->reach(&numbers, sum, count, bounds->queries.start + query * bounds->terms,
                                 bounds->queries.factor + query, limit, within);
}

struct qz_between qz_bounds_between(const struct qz_bounds *bounds, const struct qz_bound_rows *rows, size_t query,
                                    size_t row, const int32_t *sum)
{
    const size_t groups = (size_t)bounds->view->row_groups, pitch = bounds->block;
    const float *factor = bounds->queries.factor[query], *start = bounds->queries.start + query * bounds->terms;
    double near = 0.0;
    for (size_t t = 0; t < bounds->terms; t++)
        near += (double)rows->bias[t * pitch + row] * (double)start[t];
    for (size_t g = 0; g < groups; g++)
        near += (double)rows->scale[g * pitch + row] * (double)sum[g * pitch + row];
    double range = (double)rows->spread[row] * (double)factor[0] + (double)rows->size[row] * (double)factor[1];
    double below = range;
    if (bounds->queries.of->metric == QZ_L2)
        below -= 2.0 * (double)bounds->slack * (double)rows->bias[groups * pitch + row] / bounds->queries.step[query];
    return (struct qz_between){near - below * ROUNDED_UP, near + range * ROUNDED_UP};
}
