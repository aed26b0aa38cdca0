/*
 * packed_block.h - the plain form of blocks of quantized tensors
 */
#ifndef QZ_CLI_PACKED_BLOCK_H
#define QZ_CLI_PACKED_BLOCK_H

#include "source.h"

/* The columns at which a matrix of that scheme may be divided. */
uint64_t column_unit(const qz_scheme *scheme, uint64_t cols, int encoding);

/* Memory for the plain form of `rows` x `cols`; one allocation, released with free(packed->codes). */
int allocate_packed(const qz_scheme *scheme, uint64_t rows, uint64_t cols, qz_packed *packed);

/* Sets the strides of rows of `cols` without gaps, and says what such a row needs. */
int shape_packed(const qz_scheme *scheme, uint64_t cols, qz_packed *packed, qz_sizes *sizes);

/* The plain form from a row on. */
qz_packed packed_row(const qz_scheme *scheme, const qz_packed *packed, uint64_t row);

/* Reads a quantized tensor in blocks and checks that it keeps its format. */
int check_packed(const source *in, const item *i);

#endif
