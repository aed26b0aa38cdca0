/*
 * scoring.h - computes the scores of decoded rows with queries, as quantize.h defines them
 */
#ifndef QZ_SCORING_H
#define QZ_SCORING_H

#include "packed/view.h"

enum { QZ_QUERIES = 64 }; /* that are worked on together */

struct qz_queries {
    const struct qz_kernels *kernels;
    qz_metric metric;
    size_t count;
    uint64_t cols;
    float *value; /* rows of `cols` */
    double square[QZ_QUERIES];
};

/* Notes the squares of queries whose values are there. */
void qz_queries_measure(struct qz_queries *queries);

static inline const float *qz_query(const struct qz_queries *queries, size_t q)
{
    return queries->value + q * (size_t)queries->cols;
}

/* The sum of squares of a row. */
double qz_row_square(const struct qz_view *view, uint64_t row);

/* Keys of a row with `count` queries from `first` on: its scores, and the negatives where less is better. NaN or
 * infinite if, and only if, the row decodes to such a value. */
void qz_row_keys(const struct qz_view *view, const struct qz_queries *queries, size_t first, size_t count, uint64_t row,
                 double *key);

/* The first value of a row that is NaN or infinite. There must be one. */
void qz_locate_in_row(const struct qz_view *view, uint64_t row, qz_detail *detail);

#endif
