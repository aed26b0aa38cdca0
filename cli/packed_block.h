/*
 * packed_block.h - the plain form of blocks of quantized tensors
 */
#ifndef QZ_CLI_PACKED_BLOCK_H
#define QZ_CLI_PACKED_BLOCK_H

#include "block.h"
#include "source.h"

/* The columns at which a matrix of that scheme may be divided. */
uint64_t column_unit(const qz_scheme *scheme, uint64_t cols, int encoding);

/* A quantized tensor as a matrix of its own, row after row, in blocks of eight rows or a multiple, as some layouts want.
 */
typedef struct rows_plan {
    grid grid;
    block_plan blocks; /* which refers to the grid: it cannot be copied */
} rows_plan;

/* Whether codes of a row do not lie together in the file of a tensor; 0 if it is not quantized. */
int lies_across(const qz_packed_tensor *packed);

void plan_rows(const qz_packed_tensor *packed, uint64_t unit, rows_plan *out);
/* The same for blocks of codes alone. Where rows lie across the file of the tensor, or in another layout (NULL: there is
 * none), blocks are larger, so that what is read and written at once is longer. */
void plan_codes(const qz_packed_tensor *packed, uint64_t unit, const char *other_layout, rows_plan *out);

/* Rows of a block in multiples of eight, as some layouts want. */
void plan_eight_rows(block_plan *blocks);

/* Only the first rows, a multiple of eight, of what was planned. */
void plan_first_rows(uint64_t rows, rows_plan *plan);

/* Memory for the plain form of `rows` x `cols`; one allocation, released with free(packed->codes). */
int allocate_packed(const qz_scheme *scheme, uint64_t rows, uint64_t cols, qz_packed *packed);

/* Sets the strides of rows of `cols` without gaps, and says what such a row needs. */
int shape_packed(const qz_scheme *scheme, uint64_t cols, qz_packed *packed, qz_sizes *sizes);

/* The plain form from a row on. */
qz_packed packed_row(const qz_scheme *scheme, const qz_packed *packed, uint64_t row);

/* A quantized tensor that is read in blocks. It cannot be copied: `tensor` refers to the shape in `packed`. */
typedef struct packed_reader {
    qz_file *file;
    qz_tensor tensor;
    qz_packed_tensor packed;
    qz_packed memory; /* room for a block */
} packed_reader;

int open_packed(const source *in, const item *i, packed_reader *out);
/* Room for the blocks of a plan. */
int allocate_packed_blocks(packed_reader *r, const block_plan *plan);
void close_packed(packed_reader *r);

/* Reads rows row .. row + rows - 1, columns col .. col + cols - 1, and checks that they keep their format: a group that
 * does not is named. *out is what was read, in the reader's room. */
int read_packed(packed_reader *r, uint64_t row, uint64_t rows, uint64_t col, uint64_t cols, qz_packed *out);

/* The same of a block of a rows_plan. `numbers`: codes are left out. */
int read_packed_block(packed_reader *r, const block *b, int numbers, qz_packed *out);

/* Reads a block and decodes it into `values`, which are in the buffer strides of the block. */
int decode_block(packed_reader *r, const block *b, void *values, qz_dtype dtype, qz_pool *pool);

/* Changes a super scale of all to the next larger one that the layout has a place for. */
void place_super(const char *layout, const qz_scheme *scheme, const qz_packed *packed);

/* Writes such a part of a quantized tensor of the output. */
int write_packed(qz_writer *writer, const qz_packed_tensor *target, uint64_t row, uint64_t rows, uint64_t col,
                 uint64_t cols, const qz_packed *packed);
/* The same for a block of one outer index, which is then done. */
int write_packed_block(qz_writer *writer, const qz_packed_tensor *target, const block *b, const qz_packed *packed);

/* Reads a quantized tensor in blocks and checks that it keeps its format. */
int check_packed(const source *in, const item *i);

/* Reads a quantized tensor in blocks, checks that it keeps its format, and writes it as it is, in the output's layout.
 */
int copy_packed(const source *in, const item *i, qz_writer *writer, const qz_packed_tensor *target);

#endif
