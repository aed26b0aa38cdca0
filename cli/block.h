/*
 * block.h - a tensor as a matrix, read and written in blocks of bounded size
 */
#ifndef QZ_CLI_BLOCK_H
#define QZ_CLI_BLOCK_H

#include "cli.h"

/*
 * A tensor as a matrix whose rows run along one axis. The other axes, merged where their strides allow it, number the
 * rows in C order; strides are in elements of the file. The last two of them and the columns are the three dimensions
 * of a block; blocks have one index of each dimension before these.
 */
typedef struct grid {
    unsigned dims; /* of size and stride: at least 2 (of size 1 if there is nothing) */
    uint64_t size[QZ_MAX_RANK + 2], stride[QZ_MAX_RANK + 2];
    uint64_t rows, cols, col_stride;
} grid;

/* `merge` 0: axes stay apart, so that two grids of the same shape and axis have the same dimensions. */
void grid_of(const qz_tensor *tensor, unsigned axis, int merge, grid *out);

enum { OUTER, INNER, COLUMN, AXES }; /* rows are (outer, inner) */

typedef struct block_plan {
    const grid *grid;
    uint64_t total[AXES], step[AXES];
} block_plan;

/* Blocks with columns in multiples of `unit` (to the end of the row, the last one), of at most some million
 * elements if unit allows it. `across`: codes of a row do not lie together in a file, so that larger blocks mean longer
 * pieces. */
void plan_blocks(const grid *g, uint64_t unit, int across, block_plan *out);

typedef struct block {
    uint64_t prefix; /* flat index over the dimensions of which a block has one index */
    uint64_t first[AXES], count[AXES];
    uint64_t row; /* row of (first outer, first inner); the next outer one is rows_apart further */
    uint64_t rows_apart;
    uint64_t buffer_stride[AXES]; /* in elements */
} block;

/* How many blocks there are, and the one of that number. */
uint64_t block_count(const block_plan *plan);
void block_at(const block_plan *plan, uint64_t number, block *b);

/* Calls `work` for each block, one after the other. The first result of `work` that is not DONE, or a signal, ends the
 * loop and is its result. */
typedef int (*block_work)(void *context, const block *b);
int for_each_block(const block_plan *plan, block_work work, void *context);
/* Counts the elements of a block as progress. */
void block_done(const block *b);
/* Whether the rows of a block follow one another in the matrix: none is missing between those of two outer indices. */
int is_contiguous(const block *b);
/* The most elements that a block can have. */
uint64_t block_elements(const block_plan *plan);
/* Strides of a dense buffer in the order in which `g` lies in its file. */
void set_buffer_strides(const grid *g, block *b);

qz_file_result read_block(qz_file *file, size_t tensor, const grid *g, const block *b, size_t element_bytes,
                          void *buffer, qz_file_error *error);
qz_file_result write_block(qz_writer *writer, size_t tensor, const grid *g, const block *b, size_t element_bytes,
                           const void *buffer, qz_file_error *error);

/* The rows of one outer index of a block in its buffer, as a matrix. */
qz_matrix block_matrix(const block *b, uint64_t outer, void *buffer, qz_dtype dtype);

/* Memory for the values of a block. NULL: there is none, the reason was printed, and the exit code is LIMIT. */
void *allocate_block(const block_plan *plan, size_t element_bytes);

#endif
