/*
 * weights.h - the weights of the tensors that are encoded (--weights, --imatrix)
 */
#ifndef QZ_CLI_WEIGHTS_H
#define QZ_CLI_WEIGHTS_H

#include "block.h"
#include "encode.h"

/* Opens the file of weights, if there is one, and finds those of each tensor. */
int plan_weights(encoder *e);

/* The weights of the blocks of a tensor, if it has some. */
typedef struct weigher {
    const item *item; /* in the file of --weights; NULL: there are none */
    int along;        /* one for each column, else of the shape of the tensor */
    float *table;     /* of --imatrix: a row of weights for so many rows of the tensor; NULL: none */
    uint64_t cols, rows_each;
    qz_dtype dtype;
    grid grid;
    block block;
    void *buffer;
} weigher;

int open_weights(const encoder *e, const job *j, const block_plan *blocks, weigher *w);
void close_weights(weigher *w);
/* Bytes of memory for those of a block of so many elements. */
uint64_t weight_bytes(const encoder *e, const job *j, uint64_t elements);
/* Reads the weights of a block. */
int read_weights(const encoder *e, weigher *w, const block *b);
/* Those of the rows of one outer index. */
qz_matrix weights_matrix(const weigher *w, uint64_t outer);

#endif
