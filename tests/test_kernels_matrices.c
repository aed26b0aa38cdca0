/*
 * test_kernels_matrices.c - kernels of matrices against scalar.c, bit for bit: groups down the columns, transposing,
 * products, streaming
 */
#include "support/program.h"

#include "support/calls.h"
#include "support/tiles.h"

/* ---- calls --------------------------------------------------------------------------------------------------- */

/* The first of `count` lines, `stride` apart, in memory that begins with the last one if that is negative. */
static ptrdiff_t first_line(ptrdiff_t stride, size_t count)
{
    return stride < 0 ? -stride * (ptrdiff_t)(count - 1) : 0;
}

/* Fetching has no effect that could be seen, wherever it leads. */
static struct qz_ahead some_lines(const float *x, const struct work *w)
{
    size_t line = w->n * sizeof *x;
    return (struct qz_ahead){(uintptr_t)x, line, line, 1, w->group_size, (uintptr_t)w->stride * sizeof *x, 0};
}

CALLER(columns_range)
{
    const float *x = (const float *)in[0] + first_line(w->stride, w->group_size);
    struct qz_ahead ahead = some_lines(x, w);
    return (uint64_t)set->columns_range(x, w->stride, w->group_size, w->n, out[0], out[1], out[2], &ahead);
}

CALLER(columns_codes)
{
    struct qz_ahead ahead = some_lines(in[0], w);
    return set->columns_codes(in[0], w->group_size, w->n, &w->grid, in[1], in[2],
                              (uint8_t *)out[0] + first_line(w->pitch, w->n), w->pitch, &ahead);
}

CALLER(columns_decode)
{
    set->columns_decode((const uint8_t *)in[0] + first_line(w->pitch, w->n), w->pitch, w->group_size, w->n, &w->grid,
                        in[1], in[2], (float *)out[0] + first_line(w->stride, w->group_size), w->stride);
    return 0;
}

CALLER(stream)
{
    set->stream(out[0], in[0], w->n);
    set->stream_end();
    return 0;
}

/* ---- groups down the columns --------------------------------------------------------------------------------- */

/* Elements from the first to the last of `count` lines of `length`. */
static size_t spread(ptrdiff_t stride, size_t count, size_t length)
{
    return (size_t)(stride < 0 ? -stride : stride) * (count - 1) + length;
}

/* A shape for columns_ kernels: any width that fits, lines with gaps or without, in either direction. */
static void columns_shape(struct rng *rng, struct work *w, size_t repeat)
{
    w->group_size = 32 * (repeat % 3 ? 1 + rng_below(rng, repeat % 3 == 1 ? 2 : QZ_COLUMN_MOST / 32) : 1);
    size_t most = 2 * QZ_TILE / w->group_size / 16;
    w->n = 16 * (1 + rng_below(rng, most < 16 ? most : 16));
    w->stride = (ptrdiff_t)(w->n + (rng_below(rng, 2) ? rng_below(rng, 50) : 0));
    w->pitch = (ptrdiff_t)(w->group_size / 2 + (rng_below(rng, 2) ? rng_below(rng, 50) : 0));
    if (rng_below(rng, 4) == 0)
        w->stride = -w->stride;
    if (rng_below(rng, 4) == 0)
        w->pitch = -w->pitch;
}

static void test_columns_range(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(119);
    struct work w = {
        .kernel = "columns_range", .call = call_columns_range, .returned = RETURNS_BAD_OR_DATA, .zero_signs_free = 1};
    for (size_t repeat = 0; repeat < cases(1500, 60); repeat++) {
        columns_shape(&rng, &w, repeat);
        size_t n = spread(w.stride, w.group_size, w.n);
        fill_floats(&rng, (enum data_kind)(repeat % DATA_KINDS), floats_a, n);
        w.in[0] = (struct part){floats_a, n * 4, 4};
        w.out[0] = (struct part){NULL, w.group_size * w.n * 4, 4};
        w.out[1] = w.out[2] = (struct part){NULL, w.n * 4, 4};
        check(&w, repeat % 8 ? 4 : all_places(4));
        for (size_t s = 0; s < set_count && w.stride == (ptrdiff_t)w.n; s++) { /* in place */
            float min[QZ_TILE], max[QZ_TILE];
            memcpy(floats_b, floats_a, n * 4);
            struct qz_ahead ahead = some_lines(floats_b, &w);
            sets[s]->columns_range(floats_b, w.stride, w.group_size, w.n, floats_b, min, max, &ahead);
            assert_true(same_bytes("values", floats_b, floats_a, n * 4, 4));
            for (size_t i = 0; i < w.n; i++)
                for (size_t k = 0; k < w.group_size; k++)
                    assert_true(floats_a[k * w.n + i] >= min[i] && floats_a[k * w.n + i] <= max[i]);
        }
        static const float bad[] = {NAN, INFINITY, -INFINITY};
        size_t column = rng_below(&rng, w.n), line = rng_below(&rng, w.group_size);
        floats_a[line * (size_t)(w.stride < 0 ? -w.stride : w.stride) + column] = bad[repeat % 3];
        check(&w, 1);
    }
}

/* Columns of groups as the drivers hand them on: turned from groups one after another. */
static void test_columns_codes(void **state)
{
    (void)state;
    guard_report_faults();
    static struct tile tile;
    static float turned[2 * QZ_TILE];
    struct rng rng = rng_make(120);
    struct work w = {.kernel = "columns_codes", .call = call_columns_codes, .returned = RETURNS_NUMBER};
    for (size_t repeat = 0; repeat < cases(2400, 60); repeat++) {
        size_t kind = repeat % SCHEME_KINDS;
        columns_shape(&rng, &w, repeat / SCHEME_KINDS);
        while (w.n * w.group_size > QZ_TILE)
            w.n -= 16;
        if (w.n == 0)
            continue;
        (rng_below(&rng, 2) ? fitted_tile : threshold_tile)(&rng, &tile, kind, w.n * w.group_size, w.group_size);
        for (size_t i = 0; i < w.n * w.group_size; i++)
            turned[i % w.group_size * w.n + i / w.group_size] = tile.x[i];
        w.grid = grid_kind(kind);
        w.in[0] = (struct part){turned, w.n * w.group_size * 4, 4};
        w.in[1] = (struct part){tile.inverse, w.n * 4, 4};
        w.in[2] = (struct part){tile.zero, w.n * 4, 4};
        w.out[0] = (struct part){NULL, spread(w.pitch, w.n, w.group_size / 2), 1};
        check(&w, repeat % 8 ? 4 : all_places(1));
    }
}

static void test_columns_decode(void **state)
{
    (void)state;
    guard_report_faults();
    static struct tile tile;
    struct rng rng = rng_make(121);
    struct work w = {.kernel = "columns_decode", .call = call_columns_decode};
    for (size_t repeat = 0; repeat < cases(2400, 60); repeat++) {
        size_t kind = repeat % SCHEME_KINDS;
        columns_shape(&rng, &w, repeat / SCHEME_KINDS);
        decode_tile(&rng, &tile, kind, w.n, 1);
        size_t n = spread(w.pitch, w.n, w.group_size / 2);
        fill_bytes(&rng, bytes, n);
        w.grid = grid_kind(kind);
        w.in[0] = (struct part){bytes, n, 1};
        w.in[1] = (struct part){tile.scale, w.n * 4, 4};
        w.in[2] = (struct part){tile.zero, w.n * 4, 4};
        w.out[0] = (struct part){NULL, spread(w.stride, w.group_size, w.n) * 4, 4};
        check(&w, repeat % 8 ? 4 : all_places(4));
    }
}

/* ---- moves --------------------------------------------------------------------------------------------------- */

static void test_stream(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(110);
    struct work w = {.kernel = "stream", .call = call_stream};
    for (size_t n = 0; n <= bulk; n = next_size(n)) {
        fill_bytes(&rng, bytes, n);
        w.n = n;
        w.in[0] = (struct part){bytes, n, 1};
        w.out[0] = (struct part){NULL, n, 1};
        check(&w, n < 5000 ? all_places(1) : 4);
    }
}

/* Strides may be larger than rows, negative, or (of the source) 0. Everything around and between must stay. */
static void transpose_case(struct rng *rng, size_t rows, size_t cols, ptrdiff_t src_stride, ptrdiff_t dst_stride,
                           size_t p)
{
    size_t src_step = (size_t)(src_stride < 0 ? -src_stride : src_stride), src_length = (cols - 1) * src_step + rows;
    size_t dst_step = (size_t)(dst_stride < 0 ? -dst_stride : dst_stride), dst_length = (rows - 1) * dst_step + cols;
    struct part in = {floats_a, src_length * 4, 4}, out = {NULL, dst_length * 4, 4};
    fill_floats(rng, DATA_BITS, floats_a, src_length);
    uint8_t *src = place(in_guards[0], in, p, rows), *dst = place(out_guards[0], out, p, cols);
    furnish(in_guards[0], src, in, 0xff);
    ptrdiff_t src_start = src_stride < 0 ? (ptrdiff_t)(src_length - rows) : 0;
    ptrdiff_t dst_start = dst_stride < 0 ? (ptrdiff_t)(dst_length - cols) : 0;
    float *wanted = floats_b;
    memset(wanted, CANARY, dst_length * 4);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            wanted[dst_start + (ptrdiff_t)r * dst_stride + (ptrdiff_t)c] =
                floats_a[src_start + (ptrdiff_t)c * src_stride + (ptrdiff_t)r];
    for (size_t s = 0; s < set_count; s++) {
        snprintf(guard_doing, sizeof guard_doing, "%s transpose, %zu x %zu, strides %td, %td, place %zu", sets[s]->name,
                 rows, cols, src_stride, dst_stride, p);
        furnish(out_guards[0], dst, out, CANARY);
        sets[s]->transpose((const float *)(const void *)src + src_start, src_stride, rows, cols,
                           (float *)(void *)dst + dst_start, dst_stride);
        if (!same_bytes("transposed", dst, wanted, out.bytes, 4) ||
            !guard_check_near(out_guards[0], dst, out.bytes, NEAR))
            fail_msg("%s", guard_doing);
    }
}

static void test_transpose(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(111);
    size_t most = short_mode ? 19 : 40;
    for (size_t rows = 1; rows <= most; rows++)
        for (size_t cols = 1; cols <= most; cols++) {
            ptrdiff_t r = (ptrdiff_t)rows, c = (ptrdiff_t)cols;
            for (size_t p = 0; p < 6; p++) {
                transpose_case(&rng, rows, cols, r, c, p);
                transpose_case(&rng, rows, cols, r + (ptrdiff_t)p, c + (ptrdiff_t)rng_below(&rng, 20), p);
            }
            transpose_case(&rng, rows, cols, -r, c, rng_below(&rng, 8));
            transpose_case(&rng, rows, cols, -r - 5, -c - 3, rng_below(&rng, 8));
            transpose_case(&rng, rows, cols, 0, c, rng_below(&rng, 8));
        }
    for (size_t repeat = 0; repeat < cases(3000, 30); repeat++) {
        size_t rows = 1 + rng_below(&rng, 300), cols = 1 + rng_below(&rng, QZ_TILE / rows);
        transpose_case(&rng, rows, cols, (ptrdiff_t)(rows + rng_below(&rng, 70)),
                       (ptrdiff_t)(cols + rng_below(&rng, 70)), rng_below(&rng, 32));
    }
}

/* ---- products ------------------------------------------------------------------------------------------------ */

/* Pitches may be larger than rows, or (of the factors) 0. Everything around and between must stay. */
static void multiply_case(struct rng *rng, size_t cols, size_t rows, size_t depth, size_t a_gap, size_t x_gap,
                          size_t y_gap, size_t p)
{
    size_t a_pitch = cols + a_gap, x_pitch = rows + x_gap, y_pitch = rows + y_gap;
    size_t a_length = depth ? (depth - 1) * a_pitch + cols : 0, x_length = depth ? (depth - 1) * x_pitch + rows : 0;
    size_t y_length = cols && rows ? (cols - 1) * y_pitch + rows : 0;
    double *a = doubles, *x = a + a_length, *y = x + x_length, *wanted = y + y_length;
    fill_doubles(rng, DATA_NORMAL, doubles, a_length + x_length + y_length);
    for (size_t c = 0; c < cols; c++)
        for (size_t r = 0; r < rows; r++)
            for (size_t k = 0; k < depth; k++)
                wanted[c * y_pitch + r] =
                    fma(a[k * a_pitch + c], x[k * x_pitch + r], k ? wanted[c * y_pitch + r] : y[c * y_pitch + r]);
    struct part parts[2] = {{a, a_length * 8, 8}, {x, x_length * 8, 8}}, out = {y, y_length * 8, 8};
    uint8_t *in[2], *to = place(out_guards[0], out, p, cols);
    for (size_t i = 0; i < 2; i++) {
        in[i] = place(in_guards[i], parts[i], p, rows + i);
        furnish(in_guards[i], in[i], parts[i], 0xff);
    }
    for (size_t s = 0; s < set_count; s++) {
        snprintf(guard_doing, sizeof guard_doing, "%s multiply_add, %zu x %zu x %zu, gaps %zu, %zu, %zu, place %zu",
                 sets[s]->name, cols, rows, depth, a_gap, x_gap, y_gap, p);
        furnish(out_guards[0], to, out, CANARY);
        sets[s]->multiply_add((const double *)(const void *)in[0], a_pitch, cols, (const double *)(const void *)in[1],
                              x_pitch, rows, depth, (double *)(void *)to, y_pitch);
        for (size_t c = 0; c < cols && rows; c++) {
            if (depth && !same_bytes("row", to + c * y_pitch * 8, wanted + c * y_pitch, rows * 8, 8))
                fail_msg("%s: row %zu", guard_doing, c);
            size_t after = depth ? rows : 0, rest = c + 1 < cols ? y_pitch - after : rows - after;
            if (!same_bytes("gap", to + (c * y_pitch + after) * 8, y + c * y_pitch + after, rest * 8, 8))
                fail_msg("%s: behind row %zu", guard_doing, c);
        }
        if (!guard_check_near(out_guards[0], to, out.bytes, NEAR))
            fail_msg("%s", guard_doing);
    }
}

static void test_multiply_add(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(120);
    for (size_t cols = 0; cols <= 9; cols++)
        for (size_t rows = 0; rows <= (short_mode ? 11 : 75); rows++)
            for (size_t depth = 0; depth <= 3; depth++)
                multiply_case(&rng, cols, rows, depth, rng_below(&rng, 5), rng_below(&rng, 5), rng_below(&rng, 5),
                              rng_below(&rng, 16));
    for (size_t repeat = 0; repeat < cases(2000, 30); repeat++)
        multiply_case(&rng, rng_below(&rng, 40), rng_below(&rng, 150), rng_below(&rng, 40), rng_below(&rng, 70),
                      rng_below(&rng, 70), rng_below(&rng, 70), rng_below(&rng, 16));
}

int main(void)
{
    start_kernels("test_kernels_matrices");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns_range),  cmocka_unit_test(test_columns_codes),
        cmocka_unit_test(test_columns_decode), cmocka_unit_test(test_stream),
        cmocka_unit_test(test_transpose),      cmocka_unit_test(test_multiply_add),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
