/*
 * linear_panels.h - weights of a packed matrix as floats, one panel at a time, and products with them
 *
 * A weight is a row or a column of the packed matrix; its elements are numbered along it. A panel is QZ_PANEL_DEPTH
 * elements of some weights, with QZ_SIDE weights side by side.
 */
#ifndef QZ_LINEAR_PANELS_H
#define QZ_LINEAR_PANELS_H

#include "base/number.h"
#include "packed/view.h"

enum {
    QZ_PANEL_WEIGHTS = 64,
    QZ_PANEL_DEPTH = 256,       /* of few rows; a multiple of QZ_PRODUCT_CHAIN */
    QZ_MANY_DEPTH = 128,        /* of others: weights that are multiplied together stay in the first-level cache */
    QZ_NUMBERS_DEPTH = QZ_TILE, /* so many elements' scales are loaded at a time */
    QZ_FEW_INPUTS = 8           /* so few rows are multiplied with packed weights, or with QZ_SIDE of them at a time */
};

/* Weights that were prepared, in sides of QZ_SIDE, and each of these in tiles of QZ_TILE elements. */
struct qz_ready_weights {
    size_t blocks, tiles; /* of a weight */
    size_t groups;        /* of a tile, at most */
    uint8_t *packed;      /* QZ_READY_BYTES for each block of a side */
    float *scale, *bias;  /* of a tile of a side: as the kernel product_ready takes them; 0 where they are strange */
    uint8_t *strange;     /* of a tile of a side: as product_numbers finds them */
};

struct qz_weights {
    const struct qz_view *view;
    int columns;                          /* whether weights are columns of it */
    const struct qz_ready_weights *ready; /* NULL, or the same weights */
};

/* Weights [first, first + count) of a panel; their elements [from, from + n), QZ_PANEL_DEPTH at most. */
struct qz_panel {
    uint64_t first, from;
    size_t count, n;
};

/* Some rows of floats: `together` of them, the last ones perhaps fewer, lie side by side. Element k of row r is at
 * value[first * pitch + k * count + r - first] for the `count` rows from `first` on that do. */
struct qz_panel_rows {
    const float *value;
    ptrdiff_t pitch;
    size_t count, together; /* QZ_PRODUCT_ROWS together at most */
};

/* Sums of an output: y[r * rows_apart + c * apart] for row r of the floats and weight c of all. */
struct qz_outputs {
    float *value;
    int64_t rows_apart, apart;
};

/* Scales and zeros (if there are any) of some groups of QZ_SIDE rows of the packed matrix, of which `count` are there,
 * side by side: of group g and row c at [g * QZ_SIDE + c]. The last row stands for those that are not there. No more
 * groups than there are blocks of QZ_LEVELS in QZ_TILE. */
void qz_load_side(const struct qz_view *view, uint64_t first, size_t count, uint64_t group, size_t groups, float *scale,
                  float *zero);

/* The same numbers, of a multiple of QZ_STORED_GROUPS groups, as product_stored makes them. Returns `groups`, or 0 where
 * they are not stored so that it can, or not all are finite. */
size_t qz_load_stored(const struct qz_view *view, uint64_t first, size_t count, uint64_t group, size_t groups,
                      float unit, float base, float *scale, float *bias);

/* Adds to sum[c] the product of weight first + c with x, for elements [from, from + n), of which there may be any
 * number, and QZ_SIDE weights at most; x has these elements alone. */
void qz_panel_row(const struct qz_weights *weights, const struct qz_panel *part, const float *x, float *sum);

/* Whether `rows` rows, each for itself, are multiplied with weights that are packed. */
int qz_takes_few(const struct qz_weights *weights, uint64_t rows);

/* Products of rows of floats with the weights [first, first + count), QZ_PANEL_WEIGHTS at most, which have n elements. */
void qz_panel_products(const struct qz_weights *weights, uint64_t first, size_t count, const struct qz_panel_rows *x,
                       uint64_t n, const struct qz_outputs *outputs);

/* A sum as it is handed over: NaN has one form. Compilers find several of these at a time, as integers. */
static inline float qz_output(float sum)
{
    const uint32_t bits = qz_bits(sum);
    return qz_float((int32_t)(bits & 0x7fffffffu) > 0x7f800000 ? 0x7fc00000u : bits);
}

/* Sums of `count` weights and some rows, rows of QZ_SIDE, from the outputs of which `from` is the first, and back. */
void qz_take_sums(const struct qz_outputs *outputs, const float *from, size_t rows, size_t count, float *sum);
void qz_put_sums(const struct qz_outputs *outputs, const float *sum, size_t rows, size_t count, float *to);

#endif
