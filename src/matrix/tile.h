/*
 * tile.h - pieces of float matrices of any type and stride, as rows of float32 in the cache
 */
#ifndef QZ_TILE_H
#define QZ_TILE_H

#include "../kernels/kernels.h"

/* A matrix whose columns are contiguous is moved in larger pieces, so that each column is read or written for a few
 * cache lines at a stretch. */
enum { QZ_PANEL = 2 * QZ_TILE };

/* Some rows of some columns of a matrix: rows * cols <= QZ_TILE, or QZ_PANEL if the matrix is transposed. */
struct qz_tile {
    uint64_t row, col;
    size_t rows, cols;
};

/* 1 if every field makes sense: a known type, and no element further from `data` than an address can say. */
int qz_matrix_check(const qz_matrix *matrix);

/* 1 if the columns, not the rows, lie next to each other in memory. */
int qz_matrix_is_transposed(const qz_matrix *matrix);

/* 1 if rows follow one another without gaps. */
int qz_matrix_is_contiguous(const qz_matrix *matrix);

/* Address of element (row, col). */
void *qz_matrix_at(const qz_matrix *matrix, uint64_t row, uint64_t col);

/* The tile as float32: row r starts at the returned pointer + r * *stride. It points into the matrix where that will
 * do and into `buffer` (rows * cols floats) otherwise. *overflow becomes 1 if a float64 became NaN or infinite, else 0.
 */
const float *qz_tile_load(const struct qz_kernels *kernels, const qz_matrix *matrix, const struct qz_tile *tile,
                          float *buffer, ptrdiff_t *stride, int *overflow);

/* The same for a transposed matrix, whose columns stay lines: column c starts at the returned pointer + c * *stride.
 * What a float64 became shows in the values. */
const float *qz_tile_lines(const struct qz_kernels *kernels, const qz_matrix *matrix, const struct qz_tile *tile,
                           float *buffer, ptrdiff_t *stride);

/* Where a tile of a transposed matrix may be written directly, or NULL if it must go through qz_tile_store_lines. */
float *qz_tile_direct_lines(const qz_matrix *matrix, const struct qz_tile *tile);

/* qz_tile_store for lines of tile->rows. */
int qz_tile_store_lines(const struct qz_kernels *kernels, const qz_matrix *matrix, const struct qz_tile *tile,
                        const float *lines, int stream);

/* Where the values of a tile may be written directly, or NULL if they must go through qz_tile_store. */
float *qz_tile_direct(const qz_matrix *matrix, const struct qz_tile *tile);

/* Rounds the tile's values, in rows of tile->cols, to the matrix's type and puts them in place; by non-temporal stores
 * where `stream` says so and rows are contiguous. Returns 1 if a finite value became infinite. */
int qz_tile_store(const struct qz_kernels *kernels, const qz_matrix *matrix, const struct qz_tile *tile,
                  const float *values, int stream);

/* One element as double. */
double qz_matrix_value(const qz_matrix *matrix, uint64_t row, uint64_t col);

/* A second look at a matrix, in row-major order: how many elements are not right, and which is the first one. `detail`
 * may be NULL. */
void qz_locate_wrong(const qz_matrix *matrix, int (*is_right)(double), qz_detail *detail);

#endif
