/*
 * imatrix.h - importance matrices of llama.cpp: the weight of each column of a matrix
 *
 * A GGUF file has a tensor NAME.in_sum2 and a tensor NAME.counts for each matrix. An older form is in files that are
 * usually called .dat. Layers of experts have a row of weights for each expert.
 */
#ifndef QZ_CLI_IMATRIX_H
#define QZ_CLI_IMATRIX_H

#include "source.h"

/* What a matrix called `name` has: `rows` times `cols` weights. */
typedef struct importance {
    char *name;
    uint64_t rows, cols;
    uint64_t place; /* of the values: a tensor of the GGUF file, or a byte of the other one */
    size_t counts;  /* the tensor of the counts */
    uint32_t calls; /* of the older form: what sums are divided by, if it is not 0 */
} importance;

typedef struct imatrix {
    source in;    /* of the GGUF form */
    void *stream; /* FILE, of the older one */
    importance *items;
    size_t count;
} imatrix;

int imatrix_open(const settings *s, const char *path, imatrix *out);
void imatrix_close(imatrix *m);

/* What the matrix has that a model calls so: by its name, or, of names as Hugging Face's models have them, by the one
 * that llama.cpp gives it. NULL if it has nothing. */
const importance *imatrix_find(const imatrix *m, const char *name, size_t length);

/* Reads rows times cols weights: the mean square of each input, and 1 for an expert that saw none. */
int imatrix_read(const imatrix *m, const importance *i, float *out);

#endif
