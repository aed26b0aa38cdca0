/*
 * operation.h - an operation: a matrix of floats and a packed one, checked and cut; encoding, decoding and comparing
 * begin with it
 */
#ifndef QZ_OPERATION_H
#define QZ_OPERATION_H

#include "work.h"

struct qz_operation {
    struct qz_view view;     /* the packed matrix */
    const qz_matrix *matrix; /* the floats that are read or written: rows that follow one another may be one */
    qz_matrix merged;
    struct qz_work work;
};

/* How an operation is prepared. */
struct qz_preparation {
    int encodes;           /* super scales are made, of groups that have to be known together */
    int keeps_rows;        /* rows stay what they are, for the weights have rows, too */
    const qz_whole *whole; /* what the matrix is a part of, or NULL */
};

/* Checks the arguments that encode, decode and compare share and fills in the operation, but for the cut. */
qz_result qz_operation_prepare(struct qz_operation *operation, const struct qz_preparation *how,
                               const qz_scheme *scheme, qz_method method, const qz_matrix *matrix,
                               const qz_packed *packed);

/* An operation on a matrix of floats that has no packed one. */
void qz_operation_of_floats(struct qz_operation *operation, const struct qz_kernels *kernels, const qz_matrix *matrix);

/* Cuts the matrix. With makes_supers, groups that share a super scale which is to be made are in one tile. */
void qz_operation_cut(struct qz_operation *operation, int makes_supers);

/* Calls the step for all tiles and adds up what was found. */
void qz_operation_run(struct qz_operation *operation, qz_work_step *step, void *context, qz_pool *pool,
                      struct findings *total);

/* Hands what was found in a matrix of this shape to the caller; stats may be NULL. */
void qz_hand_stats(qz_stats *stats, const struct qz_view *view, const struct findings *total);

/* A second look, in row-major order, at a matrix with values that cannot be used: NaN and infinities, or if there are
 * none (or they are welcome) float64 beyond float32. */
qz_result qz_locate_unusable(const qz_matrix *matrix, int nonfinite_welcome, qz_detail *detail);

/* The run of a tile: columns of a row with few of them, filled up to whole groups of an even length together. */
static inline struct run qz_run_of(const struct qz_view *view, const struct qz_tile *tile)
{
    struct run run = {tile->row, tile->col, tile->rows, tile->cols, tile->cols};
    if (tile->rows > 1)
        run.pitch = (size_t)(qz_divide_up(tile->cols, view->group_size) * view->group_size);
    return run;
}

/* Whether it can be one run at all: an odd number of odd groups would put rows in the middle of bytes. */
static inline int qz_is_one_run(const struct run *run)
{
    return run->rows == 1 || run->pitch % 2 == 0;
}

/* Calls step for pieces of an area that can be one run each: an even number of whole groups of its rows, or parts of
 * long groups. */
typedef void qz_piece_step(void *context, struct findings *found, const struct qz_tile *tile);
void qz_for_each_piece(const struct qz_operation *operation, void *context, struct findings *found,
                       const struct qz_area *area, qz_piece_step *step);

/* Decodes any tile of an operation to rows of `stride`. */
void qz_decode_tile(const struct qz_operation *operation, const struct qz_tile *tile, float *dst, ptrdiff_t stride);

#endif
