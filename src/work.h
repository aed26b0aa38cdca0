/*
 * work.h - the cut of a matrix into tiles and slices, and the work on them
 *
 * A tile holds whole groups of one or more rows and fits into the first-level cache. It is read from memory once, and
 * its ranges, scales, codes and statistics are computed while it is in the cache. A group that is too long for a tile
 * is processed in pieces. Tiles begin at an even group of their row, so that no two tiles share a byte of codes or
 * zeros. A slice is some tiles that one thread processes one after another. The findings of slices are added up in the
 * order of the slices.
 */
#ifndef QZ_WORK_H
#define QZ_WORK_H

#include "packed/findings.h"
#include "base/pool.h"
#include "matrix/tile.h"
#include "base/stop.h"

enum {
    QZ_LONG_GROUP = QZ_TILE / 2 /* groups longer than this are worked on in pieces */
};

/* Some rows of some columns of a matrix: a tile, or the two long groups that take its place. */
struct qz_area {
    uint64_t row, col;
    size_t rows;
    uint64_t cols;
};

/* What an operation does with an area of its matrix. */
typedef void qz_work_step(void *operation, struct findings *found, const struct qz_area *area);

struct qz_work {
    uint64_t rows, cols;
    int transposed;
    size_t tile_rows, run_rows; /* a tile's rows are worked on run_rows at a time */
    uint64_t tile_cols;         /* may be more than QZ_TILE when groups are long */
    size_t panel_rows;          /* columns.c: rows of a panel of a tile */
    uint64_t tiles_down, tiles_across;
    size_t slices;
    struct qz_stop *stop;             /* who may stop the work, or NULL */
    const struct qz_kernels *streams; /* results leave past the cache by these kernels' stores; or NULL */
    qz_work_step *step;
    void *operation;
    struct findings found[QZ_SLICES_MAX];
};

/* How many slices a matrix of this shape is worth: one for a small one, QZ_SLICES_MAX at most. */
size_t qz_slices_worth(uint64_t rows, uint64_t cols);

/* Cuts a matrix of this shape into tiles and slices. group_size: at most the columns of a whole row. `together`: so
 * many groups have to be in one tile. */
void qz_work_cut(struct qz_work *work, uint64_t rows, uint64_t cols, uint64_t group_size, uint64_t together,
                 int transposed);

/* Cuts it into tiles of this size, and these into slices. */
void qz_work_tiles(struct qz_work *work, uint64_t tile_rows, uint64_t tile_cols);

/* Calls the step for all tiles, slice by slice. */
void qz_work_run(struct qz_work *work, qz_pool *pool);

/* Adds up what the slices found, in their order. */
void qz_work_sum(const struct qz_work *work, struct findings *total);

#endif
