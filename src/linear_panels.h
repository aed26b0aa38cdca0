/*
 * linear_panels.h - weights of a packed matrix as floats, a panel of them at a time, and products with them
 *
 * A weight is a row of the packed matrix, or a column; its elements are numbered along it. A panel is some weights for
 * QZ_PRODUCT_MOST elements.
 */
#ifndef QZ_LINEAR_PANELS_H
#define QZ_LINEAR_PANELS_H

#include "packed/view.h"

#include <math.h>

enum {
    QZ_PANEL_WEIGHTS = 32,
    QZ_PANEL_PITCH = QZ_PRODUCT_MOST + 16, /* so that not all weights start in the same part of a cache */
    QZ_PANEL_INPUTS = 24                   /* rows of floats that are multiplied with a panel at a time */
};

struct qz_weights {
    const struct qz_view *view;
    int columns; /* whether weights are columns of it */
};

/* Weights [first, first + count) of a panel; their elements [from, from + n), QZ_PRODUCT_MOST at most. */
struct qz_panel {
    uint64_t first, from;
    size_t count, n;
};

/* Sums of an output: y[r * rows_apart + c * apart] for row r of the floats and weight c of all. */
struct qz_outputs {
    float *value;
    int64_t rows_apart, apart;
};

/* Adds to sum[c] the product of weight first + c with x, for elements [from, from + n), of which there may be any number;
 * x has these alone. */
void qz_panel_row(const struct qz_weights *weights, const struct qz_panel *part, const float *x, float *sum);

/* Products of `rows` rows of x with the weights [first, first + count), QZ_PANEL_WEIGHTS at most, which have n elements.
 */
void qz_panel_products(const struct qz_weights *weights, uint64_t first, size_t count, const float *x, ptrdiff_t pitch,
                       size_t rows, uint64_t n, const struct qz_outputs *outputs);

/* A sum as it is handed over: NaN has one form. */
static inline float qz_output(float sum)
{
    return sum != sum ? NAN : sum;
}

#endif
