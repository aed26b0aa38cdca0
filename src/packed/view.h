/*
 * view.h - a view: a packed matrix, for everything that reads or writes its codes and numbers
 *
 * qz_view_make makes a view, which is only read from then on. It knows where codes, scales, zeros and super scales are,
 * what the codes stand for, and how the numbers are stored. It does not know the matrix of floats.
 */
#ifndef QZ_VIEW_H
#define QZ_VIEW_H

#include "../kernels/kernels.h"
#include "../base/small.h"
#include "scale_type.h"

enum {
    QZ_COLUMNS_GROUPS = 4096, /* groups in a panel of a tile of columns at most, see columns.c */
    QZ_TILE_GROUPS = 512      /* groups in a tile at most, a bound for the arrays of scales */
};

struct qz_view {
    const struct qz_kernels *kernels;
    const qz_packed *packed;
    struct qz_grid grid; /* what codes stand for; which of them is nearest is known to the view of an encoder alone */
    const struct qz_scale_type *scale_type; /* of scale_dtype */
    qz_dtype scale_dtype, super_dtype;
    int shared_super; /* one super scale for the whole matrix */
    uint64_t rows, cols, group_size, row_groups;
    uint64_t super_groups; /* groups of a row that share a super scale; 0 without */
};

/*
 * A tile as group kernels see it: rows of `pitch` floats, one after another, so that group follows group and byte
 * follows byte. Rows that do not end with a whole group and byte are filled up. A single row needs none of this.
 */
struct run {
    uint64_t row, col;
    size_t rows, cols, pitch;
};

/* Where a group of a run lies: its row, its number there, and how many groups of the run are left in the row with it.
 */
struct place {
    uint64_t row, group;
    size_t left;
};

/* Groups of some rows: `count` in each row from `group` on, QZ_TILE_GROUPS at most in all. Several rows, or a row's
 * start that is not the first group, come with an even count or number of the group. Their numbers lie by rows, or by
 * groups: number c * rows + r is that of group c of row r then. By groups there may be QZ_COLUMNS_GROUPS, with scales
 * of two or four bytes. */
struct span {
    uint64_t row, group;
    size_t rows, count;
    int by_group;
};

/* The view of a matrix of this shape by a scheme that qz_scheme_check has accepted. A group has at most the columns of
 * a row of `longest` columns. */
void qz_view_make(struct qz_view *view, const struct qz_kernels *kernels, const qz_scheme *scheme,
                  const qz_packed *packed, uint64_t rows, uint64_t cols, uint64_t longest);

/* The sizes of packed data by a scheme that qz_scheme_check has accepted; QZ_ERROR_ARGUMENT if its rows overlap. */
qz_result qz_packed_sizes(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols,
                          qz_sizes *sizes);

/* ---- codes ---------------------------------------------------------------------------------------------------- */

/* Address of the byte that holds a code. */
static inline uint8_t *qz_codes_at(const struct qz_view *view, uint64_t row, uint64_t col)
{
    return (uint8_t *)view->packed->codes + (int64_t)row * view->packed->code_stride + col / 2;
}

/* Code i of packed codes. */
static inline int qz_code_at(const uint8_t *packed, uint64_t i)
{
    return packed[i / 2] >> (i % 2 * 4) & 15;
}

static inline void qz_set_code(uint8_t *packed, uint64_t i, int code)
{
    int shift = (int)(i % 2 * 4);
    packed[i / 2] = (uint8_t)((packed[i / 2] & ~(15 << shift)) | (code & 15) << shift);
}

/* Row r of a run. */
static inline struct run qz_single_row(const struct run *run, size_t r)
{
    return (struct run){run->row + r, run->col, 1, run->cols, run->cols};
}

/* Flat index of element i of a run. */
static inline uint64_t qz_flat_index(const struct qz_view *view, const struct run *run, size_t i)
{
    return (run->row + i / run->pitch) * view->cols + run->col + i % run->pitch;
}

/* The place of group g of a run that has `count` groups. */
static inline struct place qz_group_place(const struct qz_view *view, const struct run *run, size_t count, size_t g)
{
    size_t in_row = count / run->rows, before = g % in_row;
    return (struct place){run->row + g / in_row, run->col / view->group_size + before, in_row - before};
}

/* ---- the numbers of groups ------------------------------------------------------------------------------------ */

/* Addresses of a row's scales and zeros. */
static inline char *qz_scales_at(const struct qz_view *view, uint64_t row)
{
    return (char *)view->packed->scales + (int64_t)row * view->packed->scale_stride;
}

static inline char *qz_zeros_at(const struct qz_view *view, uint64_t row)
{
    char *zeros = view->packed->zeros; /* NULL without zeros, to which C lets nothing be added */
    return zeros ? zeros + (int64_t)row * view->packed->zero_stride : NULL;
}

/* Whether scales are stored in a byte each. */
static inline int qz_has_byte_scales(const struct qz_view *view)
{
    return view->scale_dtype > QZ_BF16;
}

/* Scales, and zeros or offsets, of a span as float32. */
void qz_load_groups(const struct qz_view *view, const struct span *span, float *scale, float *zero);

/* The reverse. Types of a byte are given by `bytes`, which may be NULL for others: a span's scales and, from
 * QZ_TILE_GROUPS on, its offsets. A span that starts at an odd group keeps the neighbour's half of the byte they share. */
void qz_store_groups(const struct qz_view *view, const struct span *span, const float *scale, const float *zero,
                     const uint8_t *bytes);

/* Super scales of a group, given by its row and number in the row: for scales and, where they come in pairs, for
 * offsets. 1 without.
 */
void qz_load_super(const struct qz_view *view, uint64_t row, uint64_t group, float super[2]);

void qz_store_super(const struct qz_view *view, uint64_t row, uint64_t group, const float super[2]);

/* What n scales of a byte are, `each` of which share a super scale. zero is set for QZ_I7 only. */
static inline void qz_byte_scales(const struct qz_view *view, const uint8_t *bytes, size_t n, const float *super,
                                  size_t each, float *scale, float *zero)
{
    view->kernels->byte_scales(view->scale_dtype, bytes, n, super, each, view->grid.shift, scale, zero);
}

/* How many of `left` groups from `group` of a row on share a super scale. */
size_t qz_sharing(const struct qz_view *view, uint64_t group, size_t left);

/* What scales, and offsets, of a run of groups are multiplied with: the first number belongs to `head` groups, each
 * other one to `each`; both are SIZE_MAX where there is one for all. */
struct qz_supers {
    size_t head, each;
    const float *scale, *offset;
    float both[2 * QZ_TILE_GROUPS], apart[2][QZ_TILE_GROUPS];
};

/* Loads the super scales of `count` groups of a row. Returns for how many of them there is room. */
size_t qz_load_supers(const struct qz_view *view, uint64_t row, uint64_t group, size_t count, struct qz_supers *supers);

/* ---- values --------------------------------------------------------------------------------------------------- */

/* Decodes a run: whole groups from a group's start, or part of one group. Values go to dst, rows `pitch` apart. */
void qz_decode_run(const struct qz_view *view, const struct run *run, float *dst);

/* Decodes n values of a row from a column on, QZ_TILE at most, which may begin and end inside of groups. */
void qz_decode_part(const struct qz_view *view, uint64_t row, uint64_t col, size_t n, float *dst);

/* Decodes n values of one row to a type that is not float64: whole groups of a multiple of 16 values, the first one even
 * unless it is the only one, or such a multiple of values of one group. Nonzero if that type may not do, as the kernel
 * says. */
int qz_decode_groups(const struct qz_view *view, uint64_t row, uint64_t col, size_t n, qz_dtype dtype, void *dst);

#endif
