/*
 * scoring.c - computes the scores of decoded rows with queries
 */
#include "scoring.h"
#include "base/number.h"

#include <math.h>

const char *qz_metric_name(qz_metric metric)
{
    static const char *const names[] = {NULL, "dot", "cosine", "l2"};
    return metric >= QZ_DOT && metric <= QZ_L2 ? names[metric] : NULL;
}

static size_t piece_length(const struct qz_view *view, uint64_t col)
{
    return qz_least(QZ_TILE, view->cols - col);
}

double qz_row_square(const struct qz_view *view, uint64_t row)
{
    float value[QZ_TILE];
    double sum = 0.0;
    for (uint64_t col = 0; col < view->cols; col += QZ_TILE) {
        size_t n = piece_length(view, col);
        qz_decode_part(view, row, col, n, value);
        sum += view->kernels->dot(value, value, n);
    }
    return sum;
}

static double cosine(double dot, double query_square, double row_square)
{
    double lengths = sqrt(query_square) * sqrt(row_square);
    return lengths == 0.0 ? 0.0 : dot / lengths;
}

void qz_row_keys(const struct qz_view *view, const struct qz_queries *queries, size_t first, size_t count, uint64_t row,
                 double *key)
{
    const struct qz_kernels *kernels = view->kernels;
    float value[QZ_TILE];
    double square = 0.0;
    for (size_t q = 0; q < count; q++)
        key[q] = 0.0;
    for (uint64_t col = 0; col < view->cols; col += QZ_TILE) {
        size_t n = piece_length(view, col);
        qz_decode_part(view, row, col, n, value);
        for (size_t q = 0; q < count; q++)
            key[q] += (queries->metric == QZ_L2 ? kernels->distance : kernels->dot)(qz_query(queries, first + q) + col,
                                                                                    value, n);
        if (queries->metric == QZ_COSINE)
            square += kernels->dot(value, value, n);
    }
    for (size_t q = 0; q < count; q++)
        if (queries->metric == QZ_L2)
            key[q] = -key[q];
        else if (queries->metric == QZ_COSINE)
            key[q] = qz_is_finite_f64(square) ? cosine(key[q], queries->square[first + q], square) : square;
}

void qz_queries_measure(struct qz_queries *queries)
{
    for (size_t q = 0; q < queries->count; q++) {
        queries->square[q] = 0.0;
        for (uint64_t col = 0; col < queries->cols; col += QZ_TILE) {
            const float *x = qz_query(queries, q) + col;
            queries->square[q] += queries->kernels->dot(x, x, qz_least(QZ_TILE, queries->cols - col));
        }
    }
}

void qz_locate_in_row(const struct qz_view *view, uint64_t row, qz_detail *detail)
{
    float value = 0.0f;
    uint64_t col = 0;
    for (; col < view->cols; col++) {
        qz_decode_part(view, row, col, 1, &value);
        if (!qz_is_finite(value))
            break;
    }
    detail->index = row * view->cols + col;
    detail->count = 1;
    detail->group = row * view->row_groups + col / view->group_size;
    detail->value = (double)value;
}
