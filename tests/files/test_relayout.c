/*
 * test_relayout.c - nibbles and numbers in the orders of other programs, against each of them moved by itself
 *
 * Buffers are as long as they must be and no longer, so that sanitizers see each byte too many, and what lies between
 * the rows must stay.
 */
#include "support.h"

#include <math.h>

#include "layouts/relayout.h"

typedef struct matrix {
    uint8_t *data;
    size_t rows, stride, used, bytes;
} matrix;

static uint32_t state_of_random = 1;

static uint32_t any(void)
{
    state_of_random = state_of_random * 1664525u + 1013904223u;
    return state_of_random >> 8;
}

static matrix new_matrix(size_t rows, size_t used, size_t gap)
{
    matrix m = {.rows = rows, .stride = used + gap, .used = used};
    m.bytes = rows == 0 ? 0 : (rows - 1) * m.stride + used;
    m.data = malloc(m.bytes + (m.bytes == 0));
    assert_non_null(m.data);
    for (size_t i = 0; i < m.bytes; i++)
        m.data[i] = (uint8_t)any();
    return m;
}

static matrix copy_matrix(const matrix *m)
{
    matrix copy = new_matrix(m->rows, m->used, m->stride - m->used);
    memcpy(copy.data, m->data, m->bytes);
    return copy;
}

static unsigned nibble_at(const matrix *m, size_t row, size_t col)
{
    return (unsigned)m->data[row * m->stride + col / 2] >> (col % 2 * 4) & 15u;
}

static void set_nibble(matrix *m, size_t row, size_t col, unsigned value)
{
    uint8_t *at = &m->data[row * m->stride + col / 2];
    *at = (uint8_t)(col % 2 != 0 ? (*at & 15u) | value << 4 : (*at & 0xf0u) | value);
}

static size_t bytes_of(size_t nibbles)
{
    return (nibbles + 1) / 2;
}

static void same(const matrix *a, const matrix *b)
{
    assert_memory_equal(a->data, b->data, a->bytes);
}

static const unsigned evens_first[8] = {0, 2, 4, 6, 1, 3, 5, 7};

static size_t at_place(size_t place, int by_evens)
{
    return by_evens ? place / 8 * 8 + evens_first[place % 8] : place;
}

/* Some columns of a matrix, of which rows or columns may stand in another order. */
static void check_turned(size_t rows, size_t first, size_t cols, int rows_by, int cols_by, int flip)
{
    const size_t all = cols_by ? (first + cols + 7) / 8 * 8 : first + cols;
    matrix src = new_matrix(rows, bytes_of(all), any() % 9), dst = new_matrix(cols, bytes_of(rows), any() % 9);
    matrix want = copy_matrix(&dst);
    for (size_t c = 0; c < cols; c++)
        for (size_t r = 0; r < rows + rows % 2; r++)
            set_nibble(&want, c, r, 0);
    for (size_t place = 0; place < all; place++)
        for (size_t r = 0; r < rows; r++) {
            const size_t c = at_place(place, cols_by) - first;
            if (c < cols)
                set_nibble(&want, c, r, nibble_at(&src, at_place(r, rows_by), place) ^ (flip ? 8u : 0u));
        }
    const qz_nibbles nibbles = {src.data, src.stride, rows, first, cols, rows_by, cols_by, flip};
    qz_transpose_nibbles(&nibbles, dst.data, dst.stride);
    same(&dst, &want);
    free(src.data);
    free(dst.data);
    free(want.data);
}

static void check_nibbles(size_t rows, size_t cols)
{
    const int flip = (rows + cols) % 2 != 0;
    check_turned(rows, 0, cols, 0, 0, flip);
    check_turned(rows, any() % 8, cols, 0, 0, !flip);
    check_turned(rows, any() % 8, cols, 0, 1, flip);
    check_turned(rows / 8 * 8, any() % 8, cols, 1, any() % 2 != 0, !flip);
}

static void check_units(size_t rows, size_t cols, size_t unit)
{
    matrix src = new_matrix(rows, cols * unit, any() % 9), dst = new_matrix(cols, rows * unit, any() % 9);
    matrix want = copy_matrix(&dst);
    for (size_t c = 0; c < cols; c++)
        for (size_t r = 0; r < rows; r++)
            memcpy(want.data + c * want.stride + r * unit, src.data + r * src.stride + c * unit, unit);
    qz_transpose(src.data, src.stride, rows, cols, unit, dst.data, dst.stride);
    same(&dst, &want);
    free(src.data);
    free(dst.data);
    free(want.data);
}

/* Every shape of up to 20 either way, and random ones beyond the tiles. */
static void transposes(void **state)
{
    (void)state;
    static const size_t units[] = {1, 2, 4};
    for (size_t rows = 0; rows <= 20; rows++)
        for (size_t cols = 0; cols <= 20; cols++) {
            check_nibbles(rows, cols);
            for (size_t i = 0; i < 3; i++)
                check_units(rows, cols, units[i]);
        }
    for (int i = 0; i < 60; i++) {
        size_t rows = any() % 400, cols = any() % 400;
        check_nibbles(rows, cols);
        check_units(rows, cols, units[i % 3]);
    }
    for (size_t edge = 254; edge <= 258; edge++) { /* the side of a tile of nibbles; half of it is that of bytes */
        check_nibbles(edge, 512 - edge);
        check_units(edge / 2, 256 - edge / 2, 1);
    }
}

enum change { FLIP, ADD, SWAP };

static void check_in_place(size_t rows, size_t cols, enum change change, unsigned number)
{
    matrix m = new_matrix(rows, bytes_of(cols), any() % 5), want = copy_matrix(&m), was = copy_matrix(&m);
    int alone_high = number % 2 != 0;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols + cols % 2; c++) {
            unsigned value = change == SWAP   ? nibble_at(&m, r, c ^ 1)
                             : change == FLIP ? (nibble_at(&m, r, c) + 8) % 16
                                              : (nibble_at(&m, r, c) + number) % 16;
            int pads = c == cols, alone = cols % 2 != 0 && c + 1 >= cols;
            if (change == SWAP && alone) /* the last one moves to the half that is asked for */
                value = alone_high == pads ? nibble_at(&m, r, c ^ 1) : 0;
            else if (pads)
                value = 0;
            set_nibble(&want, r, c, value);
        }
    if (change == FLIP)
        qz_flip_signs(m.data, m.stride, rows, cols);
    else if (change == ADD)
        qz_add_to_nibbles(m.data, m.stride, rows, cols, number);
    else
        qz_swap_nibbles(m.data, m.stride, rows, cols, alone_high);
    same(&m, &want);
    if (change == FLIP)
        qz_flip_signs(m.data, m.stride, rows, cols);
    else if (change == ADD)
        qz_add_to_nibbles(m.data, m.stride, rows, cols, 16 - number);
    if (change == FLIP || change == ADD)
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < cols; c++)
                assert_int_equal(nibble_at(&m, r, c), nibble_at(&was, r, c));
    free(m.data);
    free(want.data);
    free(was.data);
}

static void in_place(void **state)
{
    (void)state;
    for (size_t rows = 0; rows <= 4; rows++)
        for (size_t cols = 0; cols <= 70; cols++)
            for (unsigned number = 0; number < 17; number++) {
                check_in_place(rows, cols, ADD, number);
                check_in_place(rows, cols, SWAP, number);
                check_in_place(rows, cols, FLIP, number);
            }
}

/* What lies behind a copy stays. */
static void copies(void **state)
{
    (void)state;
    for (size_t count = 0; count <= 70; count++)
        for (int flip = 0; flip <= 1; flip++) {
            matrix src = new_matrix(1, bytes_of(count), 0), dst = new_matrix(1, bytes_of(count) + 3, 0);
            matrix want = copy_matrix(&dst);
            for (size_t i = 0; i < count + count % 2; i++)
                set_nibble(&want, 0, i, i == count ? 0 : nibble_at(&src, 0, i) ^ (flip ? 8u : 0u));
            qz_copy_nibbles(src.data, count, flip, dst.data);
            same(&dst, &want);
            free(src.data);
            free(dst.data);
            free(want.data);
        }
}

/* Halves of bytes, from any nibble of a row on; what is before and behind them stays. */
static void picked_halves(void **state)
{
    (void)state;
    for (size_t count = 0; count <= 40; count++)
        for (size_t first = 0; first <= 5; first++)
            for (int high = 0; high <= 1; high++) {
                matrix halves = new_matrix(1, count, 0), row = new_matrix(1, bytes_of(first + count + 3), 0);
                for (size_t i = 0; i < count; i++)
                    set_nibble(&row, 0, first + i, 0);
                matrix want = copy_matrix(&row);
                for (size_t i = 0; i < count; i++)
                    set_nibble(&want, 0, first + i, nibble_at(&halves, 0, 2 * i + (size_t)high));
                qz_pick_nibbles(halves.data, count, high, row.data, first);
                same(&row, &want);
                free(halves.data);
                free(row.data);
                free(want.data);
            }
}

static void negated_numbers(void **state)
{
    (void)state;
    float wide[2][3] = {{1, -2, 0}, {INFINITY, -0.0f, 5}};
    uint16_t narrow[3] = {0x3c00, 0x8001, 0};
    qz_negate(wide, sizeof wide[0], 2, 2, 4);
    qz_negate(narrow, sizeof narrow, 1, 3, 2);
    static const float want[2][3] = {{-1, 2, 0}, {-INFINITY, 0, 5}};
    static const uint16_t want_narrow[3] = {0xbc00, 0x0001, 0x8000};
    assert_memory_equal(wide, want, sizeof want);
    assert_memory_equal(narrow, want_narrow, sizeof want_narrow);
}

/* Bytes that others wrote: eight columns with the codes 0 4 8 c f 6 b 9. */
static void known_bytes(void **state)
{
    (void)state;
    uint8_t ordered[4] = {0x40, 0xc8, 0x6f, 0x9b}, codes[4];
    static const uint8_t awq[4] = {0x80, 0xbf, 0xc4, 0x96}, high_first[4] = {0x04, 0x8c, 0xf6, 0xb9};
    static const uint8_t twos_complement[4] = {0xc8, 0x40, 0xe7, 0x13};
    uint8_t column[8];
    const qz_nibbles word = {awq, 4, 1, 0, 8, 0, 1, 0}, of_column = {column, 1, 8, 0, 1, 0, 0, 0};
    qz_transpose_nibbles(&word, column, 1);
    qz_transpose_nibbles(&of_column, codes, 4);
    assert_memory_equal(codes, ordered, 4);
    const qz_nibbles back = {column, 1, 8, 0, 1, 1, 0, 0};
    qz_transpose_nibbles(&back, codes, 4);
    assert_memory_equal(codes, awq, 4);
    memcpy(codes, high_first, 4);
    qz_swap_nibbles(codes, 4, 1, 8, 0);
    assert_memory_equal(codes, ordered, 4);
    qz_flip_signs(codes, 4, 1, 8);
    assert_memory_equal(codes, twos_complement, 4);
    memset(codes, 0x77, 4); /* symmetric zeros, stored less one */
    qz_add_to_nibbles(codes, 4, 1, 8, 1);
    assert_memory_equal(codes, "\x88\x88\x88\x88", 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transposes),    cmocka_unit_test(in_place),        cmocka_unit_test(copies),
        cmocka_unit_test(picked_halves), cmocka_unit_test(negated_numbers), cmocka_unit_test(known_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
