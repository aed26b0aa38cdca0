/*
 * relayout.h - nibbles and numbers of a quantized tensor in the orders of other programs
 *
 * The functions work on memory and know no files. Nibbles are the plain form of quantize.h: two to a byte, the first in
 * the low four bits, rows padded to whole bytes. Words have 32 bits and are little-endian, so a row of words of eight
 * nibbles is a row of nibbles.
 */
#ifndef QZ_LAYOUTS_RELAYOUT_H
#define QZ_LAYOUTS_RELAYOUT_H

#include <stddef.h>
#include <stdint.h>

/*
 * Writes the transposed of a matrix of rows x cols units of 1, 2 or 4 bytes. Strides are in bytes, from one row to the
 * next. The two matrices do not overlap.
 */
void qz_transpose(const void *src, size_t src_stride, size_t rows, size_t cols, size_t unit, void *dst,
                  size_t dst_stride);

/* The same of words of eight nibbles; `flip` is to change between two's complement and codes that are 8 more. */
void qz_transpose_words(const void *src, size_t src_stride, size_t rows, size_t words, int flip, void *dst,
                        size_t dst_stride);

/* Rows of nibbles: columns `first` to `first` + `cols` of each. Of eight rows or columns the even ones may stand before
 * the odd ones, 0 2 4 6 1 3 5 7, as in the words of AWQ: whole eights of rows then, and words begin
 * with column 0. */
typedef struct qz_nibbles {
    const uint8_t *at;
    size_t stride, rows, first, cols;
    int rows_evens_first, cols_evens_first;
    int flip; /* change between two's complement and codes that are 8 more */
} qz_nibbles;

/* Writes these columns as rows, in order. What pads a row of the source is not looked at; rows of `dst` are padded
 * with 0. */
void qz_transpose_nibbles(const qz_nibbles *src, uint8_t *dst, size_t dst_stride);

/*
 * Adds the high or the low halves of `count` bytes to a row of nibbles, from its nibble `first` on. Those there are 0
 * before.
 */
void qz_pick_nibbles(const uint8_t *bytes, size_t count, int high, uint8_t *nibbles, size_t first);

/* Copies a row of nibbles, padded with 0; `flip` is to change between two's complement and codes that are 8 more. */
void qz_copy_nibbles(const uint8_t *src, size_t count, int flip, uint8_t *dst);

/*
 * In place, on rows of `cols` nibbles each; what pads a row becomes 0.
 */

/* Nothing else. */
void qz_clear_padding(uint8_t *nibbles, size_t stride, size_t rows, size_t cols);
/* Two's complement from codes that are 8 more, and back. */
void qz_flip_signs(uint8_t *nibbles, size_t stride, size_t rows, size_t cols);
/* Adds a number to every nibble, modulo 16. */
void qz_add_to_nibbles(uint8_t *nibbles, size_t stride, size_t rows, size_t cols, unsigned number);
/* From bytes whose first nibble is the high one, and back: this is its own inverse, but for a last nibble that is
 * alone: `alone_high` says that it is to be in the high half afterwards. */
void qz_swap_nibbles(uint8_t *nibbles, size_t stride, size_t rows, size_t cols, int alone_high);

/* Rows of numbers of 2 or 4 bytes, in the order of the machine, with the other sign. */
void qz_negate(void *numbers, size_t stride, size_t rows, size_t cols, size_t unit);

#endif
