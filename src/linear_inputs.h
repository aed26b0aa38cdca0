/*
 * linear_inputs.h - the rows of floats that are multiplied with a packed matrix: as float32, and as bytes
 *
 * A block is 32 columns of a row. Its values may become multiples of one step. A block stays float32 if its numbers are
 * so large or small that products of float32 with them are in doubt, or if it holds NaN or infinity.
 */
#ifndef QZ_LINEAR_INPUTS_H
#define QZ_LINEAR_INPUTS_H

#include "matrix/tile.h"
#include "base/small.h"

enum {
    QZ_INPUT_BLOCK = QZ_LEVELS,
    QZ_INPUT_FLOATS = 1 << 20, /* of some rows, unless a single one is longer; as many again for what is beside them */
    QZ_INPUT_ROWS = 1024       /* so many at most */
};

enum qz_rounding {
    QZ_UNROUNDED,
    QZ_MULTIPLES, /* values are multiples of steps, as float32 */
    QZ_BYTES      /* values stay, and there are bytes beside them */
};

struct qz_inputs {
    const struct qz_kernels *kernels;
    const qz_matrix *matrix;
    enum qz_rounding rounding;
    size_t most, rows;  /* that are worked on together, at most; that are there */
    const float *value; /* as struct qz_panel_rows has them, `together` rows side by side */
    ptrdiff_t pitch;
    size_t together;
    float *copy; /* NULL where values are taken from the matrix as they are */

    /* QZ_BYTES: rows of `blocks` blocks, `block_pitch` apart. */
    size_t blocks, block_pitch, tiles;
    int8_t *code;       /* as kernels of products want them */
    float *step;        /* of each block */
    float *start;       /* the step times the sum of the block's bytes */
    uint8_t *unrounded; /* for QZ_TILE columns each: 1 where a block is not ordinary */
};

/* Decides how many rows are worked on at a time, and makes room for them. Returns 0 if there is no memory. */
int qz_inputs_make(struct qz_inputs *inputs, const struct qz_kernels *kernels, const qz_matrix *matrix,
                   enum qz_rounding rounding, size_t together);

void qz_inputs_free(struct qz_inputs *inputs);

/* Takes rows from `first` on. Nonzero if a float64 became NaN or infinite. */
int qz_inputs_load(struct qz_inputs *inputs, uint64_t first);

/* `rows` of those that are there, from `first` on, a multiple of `together`. */
struct qz_inputs qz_inputs_some(const struct qz_inputs *inputs, size_t first, size_t rows);

#endif
