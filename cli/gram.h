/*
 * gram.h - encodes tensors by GPTQ, with Gram matrices of the inputs of layers
 */
#ifndef QZ_CLI_GRAM_H
#define QZ_CLI_GRAM_H

#include "block.h"
#include "encode.h"

/* Opens the file of matrices, if there is one, and finds those of each tensor. */
int plan_grams(encoder *e);

/* Encodes one tensor that has a matrix, and writes it if there is a writer. */
int encode_gptq(encoder *e, job *j);
/* Bytes of memory that this takes. */
uint64_t gptq_memory(encoder *e, job *j);

/* The diagonal of its matrix: what an error of each column costs if columns are looked at one by one. NULL: it cannot
 * be read, or is none of a Gram matrix; the reason was printed, and *code is the exit code. */
float *gram_diagonal(const encoder *e, const job *j, int *code);

#endif
