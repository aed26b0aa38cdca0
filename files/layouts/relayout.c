/*
 * relayout.c - nibbles and numbers of a quantized tensor in the orders of other programs
 *
 * Transposes go through a tile in the cache: lines of memory are read and written whole, and rows whose distance is a
 * power of two do not push each other out.
 */
#include "relayout.h"

#include <string.h>

enum {
    LINE = 128,         /* bytes of a row of a tile */
    SIDE = 8,           /* nibbles in a word, and words that are turned together */
    WORDS = LINE / 4,   /* in a row of a tile of nibbles */
    SPAN = WORDS * SIDE /* nibbles in such a row, and rows in the tile */
};

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- units ---- */

/* Writes the transposed of a tile: n rows of m units become m rows of n units. The size of a unit is a constant where
 * this is called, so that each call becomes loops of its own. */
static inline void turn_units(const unsigned char *tile, size_t n, size_t m, size_t unit, unsigned char *dst,
                              size_t dst_stride)
{
    for (size_t c = 0; c < m; c++)
        for (size_t r = 0; r < n; r++)
            memcpy(dst + c * dst_stride + r * unit, tile + r * LINE + c * unit, unit);
}

static void turn_tile(const unsigned char *tile, size_t n, size_t m, size_t unit, unsigned char *dst, size_t dst_stride)
{
    if (unit == 4)
        turn_units(tile, n, m, 4, dst, dst_stride);
    else if (unit == 2)
        turn_units(tile, n, m, 2, dst, dst_stride);
    else
        turn_units(tile, n, m, 1, dst, dst_stride);
}

void qz_transpose(const void *src, size_t src_stride, size_t rows, size_t cols, size_t unit, void *dst,
                  size_t dst_stride)
{
    unsigned char tile[LINE * LINE];
    size_t side = LINE / unit;
    for (size_t r = 0; r < rows; r += side)
        for (size_t c = 0; c < cols; c += side) {
            size_t n = least(side, rows - r), m = least(side, cols - c);
            const unsigned char *from = (const unsigned char *)src + r * src_stride + c * unit;
            for (size_t i = 0; i < n; i++)
                memcpy(tile + i * LINE, from + i * src_stride, m * unit);
            turn_tile(tile, n, m, unit, (unsigned char *)dst + c * dst_stride + r * unit, dst_stride);
        }
}

/* ---- nibbles ---- */

static inline uint32_t load_word(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline void store_word(uint8_t *at, uint32_t word)
{
    at[0] = (uint8_t)word;
    at[1] = (uint8_t)(word >> 8);
    at[2] = (uint8_t)(word >> 16);
    at[3] = (uint8_t)(word >> 24);
}

/* Exchanges the upper parts of one row of words with the lower parts of another, `shift` bits further down. */
static inline void exchange(uint32_t *restrict a, uint32_t *restrict b, unsigned shift, uint32_t low)
{
    for (int i = 0; i < WORDS; i++) {
        uint32_t differ = (a[i] >> shift ^ b[i]) & low;
        b[i] ^= differ;
        a[i] ^= differ << shift;
    }
}

/* Turns WORDS squares of 8 x 8 nibbles, which lie side by side: squares of 4 x 4, of 2 x 2 and of one. */
static void turn_squares(uint32_t words[SIDE][WORDS])
{
    for (int i = 0; i < 4; i++)
        exchange(words[i], words[i + 4], 16, 0x0000ffff);
    for (int i = 0; i < SIDE; i += 4)
        for (int k = i; k < i + 2; k++)
            exchange(words[k], words[k + 2], 8, 0x00ff00ff);
    for (int i = 0; i < SIDE; i += 2)
        exchange(words[i], words[i + 1], 4, 0x0f0f0f0f);
}

/* Eight rows of at most SPAN nibbles as words; what is not there is 0. */
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

/* At most SPAN x SPAN nibbles. */
static void turn_nibbles(const uint8_t *src, size_t src_stride, size_t rows, size_t cols, uint8_t *dst,
                         size_t dst_stride)
{
    uint32_t words[SIDE][WORDS];
    uint8_t tile[SPAN][LINE];
    for (size_t r = 0; r < rows; r += SIDE) {
        load_rows(src + r * src_stride, src_stride, least(SIDE, rows - r), cols, words);
        turn_squares(words);
        for (size_t i = 0; i < WORDS; i++)
            for (size_t k = 0; k < SIDE; k++)
                store_word(&tile[i * SIDE + k][r / 2], words[k][i]);
    }
    for (size_t c = 0; c < cols; c++)
        memcpy(dst + c * dst_stride, tile[c], rows / 2 + rows % 2);
}

void qz_transpose_nibbles(const uint8_t *src, size_t src_stride, size_t rows, size_t cols, uint8_t *dst,
                          size_t dst_stride)
{
    for (size_t r = 0; r < rows; r += SPAN)
        for (size_t c = 0; c < cols; c += SPAN)
            turn_nibbles(src + r * src_stride + c / 2, src_stride, least(SPAN, rows - r), least(SPAN, cols - c),
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
