/*
 * relayout.c - puts the nibbles and numbers of a quantized tensor into the orders of other programs
 *
 * Matrices are transposed in pieces that stay in the cache. So whole cache lines are read and written, and rows whose
 * distance is a power of two do not evict each other.
 */
#include "relayout.h"

#include <string.h>

#include "../element.h"

enum {
    LINE = 128, /* bytes of a row of a piece */
    LINES = 64, /* rows of a piece */
    NEAR = 256, /* bytes from row to row with which a piece can be read where it is */
    SIDE = 16,  /* bytes of a square that is turned at once */
    PAIRS = 64, /* of rows of nibbles in a piece, */
    WIDE = 64   /* and bytes of each row */
};

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- units ---- */

/* A piece of a matrix: n rows of m units. */
typedef struct piece {
    const unsigned char *at;
    size_t stride, n, m;
} piece;

/* Writes the transposed: m rows of n units. The size of a unit is a constant where this is called, so that each call
 * becomes loops of its own. */
static inline void turn_units(const piece *p, size_t unit, unsigned char *dst, size_t dst_stride)
{
    for (size_t c = 0; c < p->m; c++)
        for (size_t r = 0; r < p->n; r++)
            memcpy(dst + c * dst_stride + r * unit, p->at + r * p->stride + c * unit, unit);
}

/* Exchanges the upper parts of one number with the lower parts of another, `shift` bits further down. */
static inline void exchange_parts(uint64_t *a, uint64_t *b, unsigned shift, uint64_t low)
{
    uint64_t differ = (*a >> shift ^ *b) & low;
    *b ^= differ;
    *a ^= differ << shift;
}

/* The same where n and m are multiples of `side`: in squares, each row of which is a number of eight bytes. */
static inline void turn_in_squares(const piece *p, size_t unit, unsigned char *dst, size_t dst_stride)
{
    static const uint64_t low[] = {0, UINT64_C(0x00ff00ff00ff00ff), UINT64_C(0x0000ffff0000ffff), 0,
                                   UINT64_C(0x00000000ffffffff)};
    const size_t side = 8 / unit, flip = qz_big_endian() ? side - 1 : 0; /* the first unit has the low bits */
    uint64_t rows[8];
    for (size_t c = 0; c < p->m; c += side)
        for (size_t r = 0; r < p->n; r += side) {
            for (size_t i = 0; i < side; i++)
                memcpy(&rows[i ^ flip], p->at + (r + i) * p->stride + c * unit, 8);
            for (size_t half = side / 2; half != 0; half /= 2)
                for (size_t i = 0; i < side; i++)
                    if ((i & half) == 0)
                        exchange_parts(&rows[i], &rows[i + half], (unsigned)(8 * unit * half), low[unit * half]);
            for (size_t i = 0; i < side; i++)
                memcpy(dst + (c + i) * dst_stride + r * unit, &rows[i ^ flip], 8);
        }
}

static inline void turn_either(const piece *p, size_t unit, unsigned char *dst, size_t dst_stride)
{
    if (p->n % (8 / unit) == 0 && p->m % (8 / unit) == 0)
        turn_in_squares(p, unit, dst, dst_stride);
    else
        turn_units(p, unit, dst, dst_stride);
}

static void turn_piece(const piece *p, size_t unit, unsigned char *dst, size_t dst_stride)
{
    if (unit == 4)
        turn_either(p, 4, dst, dst_stride);
    else if (unit == 2)
        turn_either(p, 2, dst, dst_stride);
    else
        turn_either(p, 1, dst, dst_stride);
}

/* The bits of `flip` change in each byte. */
static inline void transpose(const piece *all, size_t unit, unsigned char flip, unsigned char *dst, size_t dst_stride)
{
    unsigned char near[LINES * LINE];
    const size_t side = LINE / unit;
    const int far = all->stride > NEAR || flip != 0;
    for (size_t r = 0; r < all->n; r += LINES)
        for (size_t c = 0; c < all->m; c += side) {
            piece p = {all->at + r * all->stride + c * unit, all->stride, least(LINES, all->n - r),
                       least(side, all->m - c)};
            for (size_t i = 0; i < p.n && far; i++)
                for (size_t k = 0; k < p.m * unit; k++)
                    near[i * LINE + k] = p.at[i * all->stride + k] ^ flip;
            if (far) {
                p.at = near;
                p.stride = LINE;
            }
            turn_piece(&p, unit, dst + c * dst_stride + r * unit, dst_stride);
        }
}

void qz_transpose(const void *src, size_t src_stride, size_t rows, size_t cols, size_t unit, void *dst,
                  size_t dst_stride)
{
    const piece all = {src, src_stride, rows, cols};
    transpose(&all, unit, 0, dst, dst_stride);
}

void qz_transpose_words(const void *src, size_t src_stride, size_t rows, size_t words, int flip, void *dst,
                        size_t dst_stride)
{
    const piece all = {src, src_stride, rows, words};
    transpose(&all, 4, flip ? 0x88 : 0, dst, dst_stride);
}

/* ---- nibbles ---- */

/* Which row or column stands at a place, where the even ones of eight come first. */
static inline size_t at_place(size_t place, int evens_first)
{
    return evens_first ? place - place % 8 + place % 4 * 2 + place / 4 % 2 : place;
}

/* Two rows: bytes of their even columns, and of their odd ones. The bits of `flip` change. */
static inline void pair_rows(const uint8_t *a, const uint8_t *b, size_t bytes, uint8_t flip, uint8_t *restrict even,
                             uint8_t *restrict odd)
{
    for (size_t i = 0; i < bytes; i++) {
        even[i] = (uint8_t)((a[i] & 15) | b[i] << 4) ^ flip;
        odd[i] = (uint8_t)(a[i] >> 4 | (b[i] & 0xf0)) ^ flip;
    }
}

/* The halves of a square of bytes, in turns. Indices of bytes have their bits turned by one. */
static inline void shuffle(const uint8_t *restrict src, uint8_t *restrict dst)
{
    enum { HALF = SIDE * SIDE / 2 };
    for (size_t i = 0; i < HALF; i++) {
        dst[2 * i] = src[i];
        dst[2 * i + 1] = src[HALF + i];
    }
}

/* Transposes a square: four times exchange the bits of row and column. */
static inline void turn_square(uint8_t square[SIDE][SIDE])
{
    uint8_t other[SIDE * SIDE];
    shuffle(square[0], other);
    shuffle(other, square[0]);
    shuffle(square[0], other);
    shuffle(other, square[0]);
}

/* Transposes pairs of rows from `row` on. Their bytes are those from `byte` on, of the even or the odd columns. */
static void turn_pairs(const qz_nibbles *src, size_t row, size_t byte, size_t bytes, uint8_t pairs[PAIRS][WIDE],
                       int odd, uint8_t *dst, size_t dst_stride)
{
    const size_t left = src->rows - row, count = least(PAIRS, left / 2 + left % 2);
    uint8_t square[SIDE][SIDE], turned[WIDE][PAIRS]; /* so that lines of memory are written whole */
    for (size_t c = 0; c < bytes; c += SIDE)
        for (size_t r = 0; r < count; r += SIDE) {
            for (size_t i = 0; i < SIDE; i++)
                memcpy(square[i], pairs[r + i] + c, SIDE);
            turn_square(square);
            for (size_t i = 0; i < SIDE; i++)
                memcpy(turned[c + i] + r, square[i], SIDE);
        }
    for (size_t i = 0; i < bytes; i++) {
        const size_t col = at_place(2 * (byte + i) + (size_t)odd, src->cols_evens_first) - src->first;
        if (col >= src->cols) /* before the first one, too */
            continue;
        uint8_t *to = dst + col * dst_stride + row / 2;
        if (count == PAIRS)
            memcpy(to, turned[i], PAIRS);
        else
            memcpy(to, turned[i], count);
    }
}

/* A row of the source, or what becomes 0 in place of one that is not there. */
static const uint8_t *row_at(const qz_nibbles *src, size_t place, size_t byte, const uint8_t *none)
{
    const size_t row = at_place(place, src->rows_evens_first);
    return row < src->rows ? src->at + row * src->stride + byte : none;
}

void qz_transpose_nibbles(const qz_nibbles *src, uint8_t *dst, size_t dst_stride)
{
    const size_t all = src->first + src->cols, words = all / 8 + (all % 8 != 0);
    const size_t used = src->cols_evens_first ? 4 * words : all / 2 + all % 2;
    const uint8_t flip = src->flip ? 0x88 : 0;
    uint8_t even[PAIRS][WIDE], odd[PAIRS][WIDE], none[WIDE];
    memset(none, flip, sizeof none);
    for (size_t byte = 0; byte < used; byte += WIDE)
        for (size_t row = 0; row < src->rows; row += 2 * PAIRS) {
            const size_t bytes = least(WIDE, used - byte);
            if (bytes < WIDE) { /* what is turned with them is not looked at, but has to be something */
                memset(even, 0, sizeof even);
                memset(odd, 0, sizeof odd);
            }
            for (size_t i = 0; i < PAIRS; i++)
                pair_rows(row_at(src, row + 2 * i, byte, none), row_at(src, row + 2 * i + 1, byte, none), bytes, flip,
                          even[i], odd[i]);
            turn_pairs(src, row, byte, bytes, even, 0, dst, dst_stride);
            turn_pairs(src, row, byte, bytes, odd, 1, dst, dst_stride);
        }
}

/* Pairs of bytes from an even nibble on; the shift is a constant where this is called. */
static inline void pick_pairs(const uint8_t *bytes, size_t pairs, unsigned shift, uint8_t *nibbles)
{
    for (size_t i = 0; i < pairs; i++)
        nibbles[i] = (uint8_t)((bytes[2 * i] >> shift & 15) | (bytes[2 * i + 1] >> shift & 15) << 4);
}

static void pick_one(const uint8_t *byte, int high, uint8_t *nibbles, size_t at)
{
    nibbles[at / 2] |= (uint8_t)((high ? *byte >> 4 : *byte & 15) << (at % 2 * 4));
}

void qz_pick_nibbles(const uint8_t *bytes, size_t count, int high, uint8_t *nibbles, size_t first)
{
    size_t alone = count != 0 && first % 2 != 0, pairs = (count - alone) / 2;
    if (alone)
        pick_one(bytes, high, nibbles, first);
    if (high)
        pick_pairs(bytes + alone, pairs, 4, nibbles + (first + alone) / 2);
    else
        pick_pairs(bytes + alone, pairs, 0, nibbles + (first + alone) / 2);
    if (alone + 2 * pairs < count)
        pick_one(bytes + count - 1, high, nibbles, first + count - 1);
}

void qz_copy_nibbles(const uint8_t *restrict src, size_t count, int flip, uint8_t *restrict dst)
{
    const uint8_t signs = flip ? 0x88 : 0;
    for (size_t i = 0; i < count / 2 + count % 2; i++)
        dst[i] = src[i] ^ signs;
    if (count % 2 != 0)
        dst[count / 2] &= 15;
}

/* ---- in place ---- */

void qz_clear_padding(uint8_t *nibbles, size_t stride, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows && cols % 2 != 0; r++)
        nibbles[r * stride + cols / 2] &= 15;
}

void qz_flip_signs(uint8_t *nibbles, size_t stride, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < cols / 2 + cols % 2; i++)
            nibbles[r * stride + i] ^= 0x88;
    qz_clear_padding(nibbles, stride, rows, cols);
}

void qz_add_to_nibbles(uint8_t *nibbles, size_t stride, size_t rows, size_t cols, unsigned number)
{
    unsigned both = (number & 15) * 0x11;
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < cols / 2 + cols % 2; i++) {
            unsigned was = nibbles[r * stride + i];
            /* the upper bit of each nibble apart, so that none carries into the next */
            nibbles[r * stride + i] = (uint8_t)(((was & 0x77) + (both & 0x77)) ^ ((was ^ both) & 0x88));
        }
    qz_clear_padding(nibbles, stride, rows, cols);
}

void qz_swap_nibbles(uint8_t *nibbles, size_t stride, size_t rows, size_t cols, int alone_high)
{
    for (size_t r = 0; r < rows; r++) {
        uint8_t *row = nibbles + r * stride;
        for (size_t i = 0; i < cols / 2 + cols % 2; i++)
            row[i] = (uint8_t)(row[i] >> 4 | row[i] << 4);
        if (cols % 2 != 0)
            row[cols / 2] &= alone_high ? 0xf0 : 15;
    }
}

void qz_negate(void *numbers, size_t stride, size_t rows, size_t cols, size_t unit)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < cols; i++) {
            unsigned char *at = (unsigned char *)numbers + r * stride + i * unit;
            uint32_t wide;
            uint16_t narrow;
            if (unit == 4) {
                memcpy(&wide, at, 4);
                wide ^= 0x80000000;
                memcpy(at, &wide, 4);
            } else {
                memcpy(&narrow, at, 2);
                narrow ^= 0x8000;
                memcpy(at, &narrow, 2);
            }
        }
}
