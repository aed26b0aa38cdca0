/*
 * sample.h - takes some rows of a tensor, on which schemes are tried before the tensor is encoded
 */
#ifndef QZ_CLI_SAMPLE_H
#define QZ_CLI_SAMPLE_H

#include "encode.h"

/* A tensor of no more values is its own sample; of a row no more are taken. */
enum { SAMPLE_VALUES = 1 << 18, SAMPLE_COLUMNS = 1 << 16 };

typedef struct sample {
    qz_matrix values, weights;
    int weighted;
    double share; /* values of the tensor for one of the sample */
    void *memory, *weight_memory;
} sample;

/* Reads rows of a tensor that lie evenly in it, and their weights: the same ones each time. */
int take_sample(const encoder *e, const job *j, sample *out);
void free_sample(sample *s);

/* Encodes the sample. *stats is of it; their count is 0 if the scheme cannot hold its values. */
int try_recipe(const encoder *e, const job *j, const sample *s, const recipe *how, qz_stats *stats);

/* The sum of squared errors of the whole tensor that the statistics of a sample make likely; weighted, with weights. */
double likely_error(const sample *s, const qz_stats *stats);
/* Its SQNR in dB, weighted with weights. */
double likely_sqnr(const sample *s, const qz_stats *stats);

#endif
