/*
 * stats.h - statistics of tensors, and the index in a tensor of an element of its matrix
 */
#ifndef QZ_CLI_STATS_H
#define QZ_CLI_STATS_H

#include "source.h"
#include "table.h"

/* Statistics of a matrix from those of its blocks. */
void add_stats(qz_stats *sum, const qz_stats *part, uint64_t row, uint64_t col, uint64_t part_cols, uint64_t cols);
/* Print statistics: as the cells name, SQNR dB, RMSE, largest error and at of a table, or as JSON. */
void stats_cells(table *t, const item *i, const qz_stats *stats, const qz_tensor *tensor, unsigned axis);
void json_stats(const qz_stats *stats, const qz_tensor *tensor, unsigned axis, int weighted);
double decibels(double signal, double error); /* INFINITY without error */
double sqnr(const qz_stats *s);
double weighted_sqnr(const qz_stats *s);
double rmse(const qz_stats *s);
/* The index in the tensor of an element (row, col) of its matrix. */
void matrix_index(const qz_tensor *t, unsigned axis, uint64_t row, uint64_t col, uint64_t *index);

/* A part of the matrix of a tensor. */
typedef struct matrix_part {
    const qz_tensor *tensor;
    unsigned axis;
    const qz_scheme *scheme; /* NULL without groups */
    uint64_t row, col, cols; /* its first element, and its columns */
} matrix_part;

/* A qz_result of a part as an exit code, with the place that `detail` has, a group or an element, in words. */
int fail_part(qz_result result, const matrix_part *p, const qz_detail *detail);

#endif
