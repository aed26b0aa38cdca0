/*
 * group.h - what the drivers of grouped encoding, decoding and comparing share
 *
 *   group.c    arguments, the cut of a matrix into tiles and slices, the sum of what the slices found
 *   scales.c   scales of a byte, and super scales
 *   super.c    searches of groups that share a super scale
 *   foreign.c  groups encoded by the rules of other tools
 *   plain.c    reading and writing the plain form: codes, scales and zeros of a run of groups
 *   stats.c    statistics
 *   encode.c, decode.c, compare.c    the work on a tile, and the public functions
 *   columns.c  the work on a tile of columns
 *
 * A tile holds whole groups of one or more rows and is small enough for the first-level cache: it is read once from
 * memory, and range, scales, codes and statistics are made while it is there. A group too long for a tile is worked on
 * in pieces. Tiles start at an even group of their row, so that no two tiles share a byte of codes or zeros.
 */
#ifndef QZ_GROUP_H
#define QZ_GROUP_H

#include "exact.h"
#include "kernels.h"
#include "pool.h"
#include "reference.h"
#include "stage.h"
#include "tile.h"
#include "watch.h"

#include <math.h>
#include <string.h>

enum {
    QZ_COLUMNS_GROUPS = 4096,   /* the same for a panel of a tile of columns */
    QZ_TILE_GROUPS = 512,       /* groups in a tile at most, a bound for the arrays of scales */
    QZ_LONG_GROUP = QZ_TILE / 2 /* groups longer than this are worked on in pieces */
};

/*
 * A tile as group kernels see it: rows of `pitch` floats, one after another, so that group follows group and byte
 * follows byte. Rows that do not end with a whole group and byte are filled up. A single row needs none of this.
 */
struct run {
    uint64_t row, col;
    size_t rows, cols, pitch;
};

/* What is known of a run of groups while it is encoded. */
struct groups {
    size_t count;
    float min[QZ_TILE_GROUPS], max[QZ_TILE_GROUPS];
    float scale[QZ_TILE_GROUPS], inverse[QZ_TILE_GROUPS], zero[QZ_TILE_GROUPS];
    uint8_t bytes[2 * QZ_TILE_GROUPS]; /* scales, then offsets, as stored if they take a byte */
    float curve[QZ_TILE_GROUPS], slope[QZ_TILE_GROUPS], rest[QZ_TILE_GROUPS]; /* QZ_U6: struct qz_affine_error */
    int32_t special[QZ_TILE_GROUPS]; /* searches with a zero or offset: careful_affine.c looks at the group again */
    int far;      /* codes are uniform, and some value may be so far beyond them that only the scalar kernels take it */
    int exact;    /* some group needs the exact rule: its inverse is 0, its scale is not */
    int has_sums; /* what the codes did to the values came with them */
    struct qz_sums sums;
};

/* What one slice found. */
struct part {
    int nonfinite;      /* some value is NaN or infinite, or a float64 is beyond float32 */
    int bad_weight;     /* some weight is negative or not finite */
    int overflow;       /* some decoded value does not fit the type of the output */
    int beyond;         /* some might not: qz_decode_groups */
    uint64_t bad_group; /* first group whose scale does not fit; UINT64_MAX for none */
    double bad_value;   /* largest magnitude in it */
    int bad_number;     /* the qz_number that does not fit */
    double signal, error, max_error, weighted_signal, weighted_error;
    uint64_t max_index, clipped, zeroed, subnormal, replaced;
    struct run where; /* rows > 0: max_error is in this run of the values at where_x, its index not looked up yet */
    const float *where_x;
};

/* Lists of candidates: of groups whose values count the same, of those with weights; and of those that are special,
 * first far and wide, and then near the best. */
enum {
    QZ_CANDIDATES_UNWEIGHTED,
    QZ_CANDIDATES_WEIGHTED,
    QZ_CANDIDATES_MANY,
    QZ_CANDIDATES_ENTRIES,
    QZ_CANDIDATES_NEAR,
    QZ_CANDIDATE_LISTS
};

/* What is done with rows of some columns of a job's matrix. */
struct job;
struct part;
typedef void qz_work(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols);

struct job {
    const struct qz_kernels *kernels;
    const qz_matrix *matrix; /* the floats that are read or written */
    const qz_matrix *other;  /* qz_compare_matrices: the second one */
    const qz_packed *packed;
    const qz_matrix *weights; /* or NULL */
    const float *repeated;    /* the weights of every run, where that is known beforehand; or NULL */
    struct qz_watch *watch;   /* or NULL */
    qz_method method;
    struct qz_fit rule;
    struct qz_search search[QZ_CANDIDATE_LISTS];
    struct qz_grid grid;
    qz_dtype scale_dtype, super_dtype;
    int shared_super; /* one super scale for the whole matrix */
    int positive;     /* searched scales may not be negative, or need not be */
    int has_tiny;     /* the table has a value next to 0: a group with one large value may do best with a large scale */
    int has_signs;    /* of searched scales, either sign makes other values: qz_search_rules */
    qz_nonfinite nonfinite;
    int encodes, want_stats, stream, stochastic;
    uint64_t seed;
    const qz_whole *whole; /* what the matrix is a part of, or NULL */
    uint64_t part_cols;    /* of the part, before rows are merged */
    qz_rule foreign;       /* QZ_REFERENCE: the rule; otherwise QZ_RULE_NONE */
    struct qz_reference_how how;
    uint64_t usual_group; /* the scheme's group size, even if rows are shorter */

    uint64_t rows, cols, group_size, row_groups;
    uint64_t super_groups;      /* groups of a row that share a super scale; 0 without */
    size_t tile_rows, run_rows; /* a tile's rows are worked on run_rows at a time */
    uint64_t tile_cols;         /* may be more than QZ_TILE when groups are long */
    size_t panel_rows;          /* columns.c: rows of a panel of a tile */
    uint64_t tiles_down, tiles_across;
    size_t slices;
    qz_work *work;
    struct part parts[QZ_SLICES_MAX];
};

static inline uint64_t qz_divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

static inline size_t qz_least(uint64_t a, uint64_t b)
{
    return (size_t)(a < b ? a : b);
}

static inline float qz_larger(float a, float b)
{
    return a > b ? a : b;
}

/* ---- group.c ------------------------------------------------------------------------------------------------- */

/* Cuts a matrix of this shape into tiles and slices. group_size: at most the columns of a whole row. */
void qz_group_geometry(struct job *job, uint64_t rows, uint64_t cols, uint64_t group_size, int transposed);

/* Cuts it into tiles of this size, and these into slices. */
void qz_group_tiles(struct job *job, uint64_t tile_rows, uint64_t tile_cols);

/* A job to begin with: one that does not encode, without weights, with nobody who may stop it, of a whole matrix. */
void qz_group_begin(struct job *job);

/* What encoding by a method needs in addition. */
void qz_group_method(struct job *job, const qz_scheme *scheme, qz_method method);

/* Checks the arguments that encode, decode and compare share and fills in the job, but for the method. */
qz_result qz_group_prepare(struct job *job, const qz_scheme *scheme, qz_method method, const qz_matrix *matrix,
                           qz_matrix *merged, const qz_packed *packed);

/* Runs all slices and adds up what they found, in slice order. */
void qz_group_run(struct job *job, qz_pool *pool, struct part *total);

/* Hands what was found to the caller; stats may be NULL. */
void qz_group_stats(qz_stats *stats, const struct job *job, const struct part *total);

/* A second look, in row-major order, at a matrix with values that cannot be used: NaN and infinities, or if there are
 * none (or they are welcome) float64 beyond float32. */
qz_result qz_locate_unusable(const qz_matrix *matrix, int nonfinite_welcome, qz_detail *detail);

/* ---- plain.c ------------------------------------------------------------------------------------------------- */

/* Address of the byte that holds a code. */
static inline uint8_t *qz_codes_at(const struct job *job, uint64_t row, uint64_t col)
{
    return (uint8_t *)job->packed->codes + (int64_t)row * job->packed->code_stride + col / 2;
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

/* memcpy for a few bytes, many times: without a call, by pieces that may overlap. */
static inline void qz_copy_few(void *dst, const void *src, size_t n)
{
    char *to = dst;
    const char *from = src;
    if (n >= 16) {
        for (size_t i = 0; i + 16 < n; i += 16)
            memcpy(to + i, from + i, 16);
        memcpy(to + n - 16, from + n - 16, 16);
    } else if (n >= 4) {
        memcpy(to, from, 4);
        memcpy(to + n / 8 * 4, from + n / 8 * 4, 4);
        memcpy(to + n - 4 - n / 8 * 4, from + n - 4 - n / 8 * 4, 4);
        memcpy(to + n - 4, from + n - 4, 4);
    } else {
        for (size_t i = 0; i < n; i++)
            to[i] = from[i];
    }
}

/* Groups of some rows: `count` in each row from `group` on, QZ_TILE_GROUPS at most in all. Several rows, or a row's
 * start that is not the first group, come with an even count or number of the group. */
struct span {
    uint64_t row, group;
    size_t rows, count;
};

/* Scales, and zeros or offsets, of a span as float32. */
void qz_load_groups(const struct job *job, const struct span *span, float *scale, float *zero);

/* The reverse. Types of a byte are given by `bytes`: a span's scales and, from QZ_TILE_GROUPS on, its offsets. A span
 * that starts at an odd group keeps the neighbour's half of the byte they share. */
void qz_store_groups(const struct job *job, const struct span *span, const float *scale, const float *zero,
                     const uint8_t *bytes);

/* The same for scales of two or four bytes, QZ_COLUMNS_GROUPS at most, from an even group on, as rows of those that are
 * side by side: group c of row r is number c * span->rows + r. */
void qz_load_columns(const struct job *job, const struct span *span, float *scale, float *zero);
void qz_store_columns(const struct job *job, const struct span *span, const float *scale, const float *zero);

/* Whether scales are stored in a byte each. */
static inline int qz_has_byte_scales(const struct job *job)
{
    return job->scale_dtype > QZ_BF16;
}

/* Super scales of a group, given by its row and number in the row: for scales and, with QZ_U6, for offsets. 1 without.
 */
void qz_load_super(const struct job *job, uint64_t row, uint64_t group, float super[2]);

void qz_store_super(const struct job *job, uint64_t row, uint64_t group, const float super[2]);

/* What n scales of a byte are, `each` of which share a super scale. zero is set for QZ_I7 only. */
static inline void qz_byte_scales(const struct job *job, const uint8_t *bytes, size_t n, const float *super,
                                  size_t each, float *scale, float *zero)
{
    job->kernels->byte_scales(job->scale_dtype, bytes, n, super, each, job->grid.shift, scale, zero);
}

/* How many of `left` groups from `group` of a row on share a super scale. */
size_t qz_sharing(const struct job *job, uint64_t group, size_t left);

/* The run of a tile: columns of a row with few of them, filled up to whole groups of an even length together. */
static inline struct run qz_run_of(const struct job *job, const struct qz_tile *tile)
{
    struct run run = {tile->row, tile->col, tile->rows, tile->cols, tile->cols};
    if (tile->rows > 1)
        run.pitch = (size_t)(qz_divide_up(tile->cols, job->group_size) * job->group_size);
    return run;
}

/* Whether it can be one run at all: an odd number of odd groups would put rows in the middle of bytes. */
static inline int qz_is_one_run(const struct run *run)
{
    return run->rows == 1 || run->pitch % 2 == 0;
}

/* Row r of a run. */
static inline struct run qz_single_row(const struct run *run, size_t r)
{
    return (struct run){run->row + r, run->col, 1, run->cols, run->cols};
}

/* Decodes a run: whole groups from a group's start, or part of one group. Values go to dst, rows `pitch` apart. With
 * `to` (one row only) they also leave for there by non-temporal stores. */
void qz_decode_run(const struct job *job, const struct run *run, float *dst, float *to);

/* Decodes `count` whole groups of one row, of a multiple of 16 values each, to the matrix's type, which is not float64;
 * the first one is even. Nonzero if that type may not do, as the kernel says. */
int qz_decode_groups(const struct job *job, uint64_t row, uint64_t group, size_t count, void *dst);

/* Decodes any tile to rows of `stride`. */
void qz_decode_tile(const struct job *job, const struct qz_tile *tile, float *dst, ptrdiff_t stride);

/* Fills in what a job takes from a scheme that qz_scheme_check has accepted. */
void qz_group_scheme(struct job *job, const qz_scheme *scheme);

/* 1 if rows of packed data do not overlap. */
int qz_strides_fit(const qz_packed *packed, const qz_sizes *sizes, uint64_t rows, int shared_super);

/* ---- scales.c ------------------------------------------------------------------------------------------------ */

/* Makes the super scales of stretches of a row, if there are such, from the scales that a run's groups want. Groups
 * with QZ_U6 whose scale will vanish get another offset. */
void qz_make_supers(const struct job *job, const struct run *run, struct groups *groups);

/* Rounds the scales, and offsets, of a run's groups to types of a byte. Returns QZ_FIT_ flags. */
unsigned qz_round_scales(const struct job *job, const struct run *run, struct groups *groups);

/* The super scale, as it is stored, of a whole row or matrix whose values reach up to `largest`. */
float qz_whole_super(const struct job *job, float largest);

/* ---- exact_group.c ------------------------------------------------------------------------------------------- */

/* A scale as it is stored, as a multiple of a super scale or with 1; 0 where that is 0. */
float qz_stored_scale(const struct job *job, float scale, float super);

/* The rule by which exact.c finds the scales of a job. */
struct qz_exact qz_exact_rule(const struct job *job);

/* The best scale of all, and table or integer zero; *scale is one that is thought good. */
void qz_exact_group(const struct job *job, const struct qz_exact_source *source, float super, float *scale,
                    float *zero);

/* ---- search.c ------------------------------------------------------------------------------------------------ */

enum { QZ_SEARCH_MOST = 512 }; /* longer groups are searched one at a time */

/* How a job's search goes about it: candidates.c. */
void qz_search_rules(struct job *job, uint64_t group_size);

/* As qz_search_groups, for the only one of `groups`, which comes in pieces. */
unsigned qz_search_pieces(const struct job *job, struct qz_exact_source *source, struct groups *groups);

/* Better scale, and zero, of a group that may come in pieces. */
void qz_search_long(const struct job *job, const struct qz_exact_source *source, float min, float max, float *scale,
                    float *zero);

/* Whether a scale is one that float32 can divide by and multiply with as kernels do. */
static inline int qz_is_ordinary_scale(float scale)
{
    return fabsf(scale) >= 0x1p-100f && fabsf(scale) <= 0x1p100f;
}

/* ---- search_special.c ---------------------------------------------------------------------------------------- */

/* What a group is suspected of, by what was seen of it side by side with others. */
enum {
    QZ_SUSPECT_VALUES = 1, /* to have few values, or values on a lattice */
    QZ_SUSPECT_CLOSE = 2,  /* two candidates are too close to tell apart in float32 */
    QZ_SUSPECT_WIDE = 4,   /* to have its best scale where ordinary groups do not */
    QZ_SUSPECT_EXACT = 8   /* to need the exact method: next to no error, no gain, or next to no weights */
};

/* What is left of a suspicion after a look at all values of a group, which has neither a zero nor an offset. */
unsigned qz_look_at_values(const struct job *job, const struct qz_exact_source *source, unsigned suspicion);

/* Of the scales that decode a group to the same values as this one does, the one of least magnitude, the positive one
 * of two. So values that were decoded before get the scale that they were decoded with. */
float qz_least_alike(const struct job *job, const struct qz_exact_source *source, float scale);

/* The best scale of such a group among the one that is known, the plain ones (0: none) and, with `exact`, the one that
 * the exact method finds: by their errors in double. */
void qz_careful_group(const struct job *job, const struct qz_exact_source *source, float super, const float plain[2],
                      int exact, float *scale, float *zero);

/* The inverses of scales, and what fit would notice in them: QZ_FIT_ flags. */
unsigned qz_judge_scales(const struct job *job, struct groups *groups);

/* Better scales, and zeros, for a run's groups, which have plain ones. w: weights of its values, or NULL. Returns
 * QZ_FIT_ flags. */
unsigned qz_search_groups(const struct job *job, const struct run *run, struct groups *groups, const float *x,
                          const float *w);

/* ---- super.c ------------------------------------------------------------------------------------------------- */

/* qz_search_groups and qz_round_scales for groups with super scales, which have those of the plain rule. Stretches of a
 * row get others if these are better. */
unsigned qz_search_shared(const struct job *job, const struct run *run, struct groups *groups, const float *x,
                          const float *w);

/* The super scale by which rows were decoded, whose values reach up to `most`, as far as a look at some of their groups
 * tells; 0 if they were not. */
float qz_decoded_super(const struct job *job, const qz_matrix *matrix, uint64_t row, uint64_t rows, float most);

/* qz_round_scales for QZ_U6 by a plain method; a group that would lose more than zeros do becomes zeros. */
unsigned qz_limit_offsets(const struct job *job, const struct run *run, struct groups *groups, const float *x);

/* ---- largest.c ----------------------------------------------------------------------------------------------- */

/* Makes the super scales of whole rows or of the matrix, before any group is encoded. `known`: what qz_largest found,
 * or NULL. */
void qz_measure_supers(struct job *job, const qz_matrix *matrix, const float *known, qz_pool *pool);

/* ---- foreign.c ----------------------------------------------------------------------------------------------- */

/* Whether a matrix of that shape has rows that the scheme's rule can take. */
int qz_foreign_fits(const qz_scheme *scheme, uint64_t rows, uint64_t cols);

/* The super scale of a whole matrix with values up to `largest`, which the rule's other numbers will follow from. */
float qz_foreign_super(struct job *job, float largest);

/* Scales, zeros and packed codes of a run's groups, whose rows are not filled up, by the job's rule. Those that do not
 * fit their type are infinite or NaN. */
void qz_foreign_groups(const struct job *job, const struct run *run, const float *x, struct groups *groups,
                       uint8_t *codes);

/* The same for a long group, by its range: `run` is all of it. Then the codes of n of its values. */
void qz_foreign_long(const struct job *job, const struct run *run, struct groups *groups, struct qz_reference *fit);
void qz_foreign_codes(const struct job *job, const struct qz_reference *fit, const float *x, size_t n, uint8_t *codes);

/* ---- stats.c ------------------------------------------------------------------------------------------------- */

/* Adds what came with the codes of a run. Returns 0, and adds nothing, where squares may have left float32's range. */
int qz_add_plain_sums(struct part *part, const struct qz_sums *sums);

/* Notes an error of this size at flat index `index`, if it is the largest so far or an earlier one as large. */
void qz_note_error(struct part *part, double error, uint64_t index);

/* Flat index of element i of a run. */
uint64_t qz_flat_index(const struct job *job, const struct run *run, size_t i);

/* Adds the error of y against x: a run's values, all |x| <= largest. */
void qz_add_error(const struct job *job, struct part *part, const float *x, const float *y, const struct run *run,
                  float largest);

/* The same for the weighted sums alone. */
void qz_add_weighted_error(const struct job *job, struct part *part, const float *x, const float *y, const float *w,
                           const struct run *run);

/* Finds the index of the largest error so far, if that was put off. */
void qz_look_up_error(const struct job *job, struct part *part);

/* Largest magnitude of groups with these ranges. */
float qz_largest_magnitude(const struct job *job, const float *min, const float *max, size_t groups);

/* ---- decode.c ------------------------------------------------------------------------------------------------ */

/* Calls step for pieces of a tile that qz_decode_run can take: rows of it, or parts of long groups. */
void qz_each_piece(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols,
                   void (*step)(struct job *, struct part *, const struct qz_tile *));

/* ---- columns.c ----------------------------------------------------------------------------------------------- */

/* Whether a job's groups can be worked on side by side; if so, cuts the matrix into tiles for that. */
int qz_columns_prepare(struct job *job);

/* Encode and decode such a tile; `by_rows` is for what goes the usual way. */
void qz_encode_columns(struct job *job, struct part *part, const struct qz_tile *tile, qz_work *by_rows);
void qz_decode_columns(struct job *job, struct part *part, const struct qz_tile *tile, qz_work *by_rows);

#endif
