/*
 * relayout.c - nibbles and numbers of a quantized tensor in the orders of other programs
 *
 * Matrices are transposed in pieces that stay in the cache: lines of memory are read and written whole, and rows whose
 * distance is a power of two do not push each other out.
 */
#include "relayout.h"

#include <string.h>

#include "../element.h"

enum {
    LINE = 128,       /* bytes of a row of a piece */
    LINES = 64,       /* rows of a piece */
    NEAR = 256,       /* bytes from row to row with which a piece can be read where it is */
    SIDE = 8,         /* nibbles in a word, and words that are turned together */
    WORDS = LINE / 4, /* in a row of a piece of nibbles */
    HEIGHT = 32       /* squares of nibbles in a column of a piece */
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

void qz_transpose(const void *src, size_t src_stride, size_t rows, size_t cols, size_t unit, void *dst,
                  size_t dst_stride)
{
    unsigned char near[LINES * LINE];
    size_t side = LINE / unit;
    for (size_t r = 0; r < rows; r += LINES)
        for (size_t c = 0; c < cols; c += side) {
            piece p = {(const unsigned char *)src + r * src_stride + c * unit, src_stride, least(LINES, rows - r),
                       least(side, cols - c)};
            for (size_t i = 0; i < p.n && src_stride > NEAR; i++)
                memcpy(near + i * LINE, p.at + i * src_stride, p.m * unit);
            if (src_stride > NEAR) {
                p.at = near;
                p.stride = LINE;
            }
            turn_piece(&p, unit, (unsigned char *)dst + c * dst_stride + r * unit, dst_stride);
        }
}

/* ---- nibbles ---- */

static inline uint32_t in_order(uint32_t word)
{
    return qz_big_endian() ? word >> 24 | (word >> 8 & 0xff00) | (word << 8 & 0xff0000) | word << 24 : word;
}

static inline uint32_t load_word(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return in_order(word);
}

static inline void store_word(uint8_t *at, uint32_t word)
{
    word = in_order(word);
    memcpy(at, &word, sizeof word);
}

/* Exchanges the upper parts of one row of words with the lower parts of another, `shift` bits further down. */
static inline void exchange(uint32_t *restrict a, uint32_t *restrict b, size_t count, unsigned shift, uint32_t low)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t differ = (a[i] >> shift ^ b[i]) & low;
        b[i] ^= differ;
        a[i] ^= differ << shift;
    }
}

/* Turns squares of 8 x 8 nibbles, which lie side by side: squares of 4 x 4, of 2 x 2 and of one. */
static void turn_squares(uint32_t words[SIDE][WORDS], size_t count)
{
    for (int i = 0; i < 4; i++)
        exchange(words[i], words[i + 4], count, 16, 0x0000ffff);
    for (int i = 0; i < SIDE; i += 4)
        for (int k = i; k < i + 2; k++)
            exchange(words[k], words[k + 2], count, 8, 0x00ff00ff);
    for (int i = 0; i < SIDE; i += 2)
        exchange(words[i], words[i + 1], count, 4, 0x0f0f0f0f);
}

/* Eight rows of at most WORDS * SIDE nibbles as words; what is not there is 0. */
static void load_rows(const uint8_t *src, size_t stride, size_t rows, size_t cols, uint32_t words[SIDE][WORDS])
{
    for (size_t r = 0; r < SIDE; r++) {
        uint8_t line[LINE] = {0};
        if (r < rows)
            memcpy(line, src + r * stride, cols / 2 + cols % 2);
        if (cols % 2 != 0)
            line[cols / 2] &= 15;
        for (size_t i = 0; i < WORDS; i++)
            words[r][i] = load_word(line + 4 * i);
    }
}

/* At most HEIGHT squares below each other and WORDS side by side. A square that is turned has a column in each of its
 * words, and the words of the k-th columns of all are turned as units. */
static void turn_nibbles(const uint8_t *src, size_t src_stride, size_t rows, size_t cols, uint8_t *dst,
                         size_t dst_stride)
{
    const size_t count = (cols + SIDE - 1) / SIDE, height = (rows + SIDE - 1) / SIDE;
    uint32_t words[SIDE][WORDS];
    uint8_t turned[SIDE][HEIGHT][LINE], columns[WORDS][4 * HEIGHT];
    for (size_t r = 0; r < height; r++) {
        load_rows(src + r * SIDE * src_stride, src_stride, least(SIDE, rows - r * SIDE), cols, words);
        turn_squares(words, count);
        for (size_t k = 0; k < SIDE; k++)
            for (size_t i = 0; i < count; i++)
                store_word(turned[k][r] + 4 * i, words[k][i]);
    }
    for (size_t k = 0; k < SIDE && k < cols; k++) {
        const piece p = {turned[k][0], LINE, height, count};
        turn_piece(&p, 4, columns[0], sizeof columns[0]);
        for (size_t c = k; c < cols; c += SIDE)
            memcpy(dst + c * dst_stride, columns[c / SIDE], rows / 2 + rows % 2);
    }
}

void qz_transpose_nibbles(const uint8_t *src, size_t src_stride, size_t rows, size_t cols, uint8_t *dst,
                          size_t dst_stride)
{
    enum { DOWN = HEIGHT * SIDE, RIGHT = WORDS * SIDE };
    for (size_t r = 0; r < rows; r += DOWN)
        for (size_t c = 0; c < cols; c += RIGHT)
            turn_nibbles(src + r * src_stride + c / 2, src_stride, least(DOWN, rows - r), least(RIGHT, cols - c),
                         dst + c * dst_stride + r / 2, dst_stride);
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

/* ---- in place ---- */

void qz_clear_padding(uint8_t *nibbles, size_t stride, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows && cols % 2 != 0; r++)
        nibbles[r * stride + cols / 2] &= 15;
}

void qz_drop_nibble(uint8_t *nibbles, size_t stride, size_t rows, size_t cols)
{
    size_t bytes = cols / 2 + cols % 2;
    qz_clear_padding(nibbles, stride, rows, cols);
    for (size_t r = 0; r < rows; r++) {
        uint8_t *row = nibbles + r * stride;
        for (size_t i = 0; i < bytes; i++)
            row[i] = (uint8_t)(row[i] >> 4 | (i + 1 < bytes ? row[i + 1] << 4 : 0));
    }
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

/* Two bytes of nibbles, with a nibble of room after each. */
static inline uint32_t spread(uint32_t half)
{
    half = (half | half << 8) & 0x00ff00ff;
    return (half | half << 4) & 0x0f0f0f0f;
}

/* The reverse. */
static inline uint32_t gather(uint32_t word)
{
    word &= 0x0f0f0f0f;
    word = (word | word >> 4) & 0x00ff00ff;
    return (word | word >> 8) & 0x0000ffff;
}

void qz_words_in_order(uint8_t *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t word = load_word(words + 4 * i);
        store_word(words + 4 * i, spread(word & 0xffff) | spread(word >> 16) << 4);
    }
}

void qz_words_evens_first(uint8_t *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t word = load_word(words + 4 * i);
        store_word(words + 4 * i, gather(word) | gather(word >> 4) << 16);
    }
}
