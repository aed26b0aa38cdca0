/*
 * bounds.h - lower and upper bounds of the scores of rows, computed with integers
 *
 * A query x is rounded to small integers u: x = a (u + e). Codes become small integers, too, their levels: a value of a
 * row is nearly scale * level + bias. So dot / a is near the sum over the groups of scale * sum(u level) + bias *
 * sum(u). The difference has two parts, which are at most
 *
 *     max |value| * sum |e|, or |row| * |e|                 as the query was rounded
 *     max (|scale| * most level + |bias|) * sum |u| * c     where c is 0.5 / most level if levels are rounded, and a
 *                                                           bound for the errors of float32 beside it
 *
 * The first maximum, or the length of the row where lengths are computed anyway, is the `spread` of the row; the second
 * maximum is its `size`. For cosines all numbers of a row are divided by its length. A squared distance follows from
 * the dot product and half the squares of the row, which are one more term.
 *
 * `ready` may hold what is known about rows without a query: their numbers, and perhaps their codes side by side.
 * Without it, codes are laid side by side if several queries gain by it.
 */
#ifndef QZ_BOUNDS_H
#define QZ_BOUNDS_H

#include "scoring.h"

enum {
    QZ_BOUND_ROWS = 64,                                /* looked at together, at most, a multiple of 16 */
    QZ_BOUND_GROUPS = QZ_TILE / QZ_CHUNK,              /* of a row, at most */
    QZ_BOUND_NUMBERS = 16 * QZ_BOUND_GROUPS,           /* of the groups of these rows */
    QZ_BOUND_TERMS = QZ_BOUND_NUMBERS + QZ_BOUND_ROWS, /* of their terms */
    QZ_BOUND_QUERIES = 8,                              /* whose sums are made together, at most */
    QZ_BOUND_LISTED = 16                               /* rows of a list that are looked at together */
};

/* What is known of rows before there are queries: in blocks of as many as are looked at together. */
struct qz_ready {
    const float *numbers; /* of a block: scales and biases as in qz_bound_rows, a spread and a size for each row */
    const uint8_t *side;  /* NULL, or codes side by side, as the kernel scan_beside takes them */
};

/* Integers that stand for the sixteen values of codes: qz_bounds_make() chooses them. */
struct qz_code_levels {
    uint8_t level[16];
    float unit, base; /* the value of a code is nearly unit * level + base */
    size_t most;      /* the largest level */
    int rounded;      /* whether "nearly" is not "exactly" */
};

/* Queries as integers: qz_bounds_take() makes them, in room that its caller gives to `code` and `start`. */
struct qz_bound_queries {
    const struct qz_queries *of;
    int beside;   /* whether rows are taken side by side with these queries */
    int8_t *code; /* rows of chunks * QZ_CHUNK, and of terms: the integers of queries, their sums in the groups */
    float *start;
    float factor[QZ_QUERIES][2]; /* of spread and size */
    double step[QZ_QUERIES];     /* a */
    size_t steps[QZ_QUERIES];    /* chunks that the kernel may sum up in 16 bits */
};

/* How rows of a view are bounded: qz_bounds_make() says it, all but `ready`, which its caller may have. */
struct qz_bounds {
    const struct qz_view *view;
    const struct qz_ready *ready; /* may be NULL */
    qz_metric metric;
    int by_length;        /* whether the spread of rows is their length */
    int one_by_one;       /* whether rows are looked at one by one: they are not taken side by side */
    size_t block;         /* rows that are looked at together, a multiple of 16 */
    size_t bytes, chunks; /* of a row of codes, which has 16 bytes at least: shorter ones are copied */
    size_t terms;
    float slack; /* of sums in float32, relative */
    struct qz_code_levels levels;
    struct qz_bound_queries queries;
};

/* Numbers of rows: that of group, or term, g of row r is at g * block + r. For QZ_L2 the last term is half the sum of
 * squares, negative. */
struct qz_bound_rows {
    uint64_t first, listed[QZ_BOUND_LISTED]; /* rows from `first` on, or listed ones */
    size_t count;
    int are_listed;
    const uint8_t *codes, *side;
    ptrdiff_t stride;
    const float *scale, *bias, *spread, *size;
    float room[QZ_BOUND_NUMBERS + QZ_BOUND_TERMS + 2 * QZ_BOUND_ROWS]; /* for them where they are not there already */
    uint8_t short_codes[QZ_BOUND_ROWS * QZ_CHUNK / 2];                 /* of rows that have less */
};

/* Prepares bounds for rows of a view. Returns 0 if they are of a form for which there are none. */
int qz_bounds_make(struct qz_bounds *bounds, const struct qz_view *view, qz_metric metric);

/* Numbers of a block of rows, its sums with QZ_BOUND_QUERIES queries, and bytes of its codes side by side. */
size_t qz_bounds_numbers(const struct qz_bounds *bounds);
size_t qz_bounds_all_sums(const struct qz_bounds *bounds);
size_t qz_bounds_beside_bytes(const struct qz_bounds *bounds);

/* Lays codes of `count` rows from `first` on side by side: qz_bounds_beside_bytes(). */
void qz_bounds_lay_out(const struct qz_bounds *bounds, uint64_t first, size_t count, uint8_t *side);

/* Finds the numbers of a block of rows from `first` on: what `ready` would hold. */
void qz_bounds_measure(const struct qz_bounds *bounds, uint64_t first, size_t count, float *numbers);

/* Takes queries. Returns 0 if one is all zeros, or too small or large. */
int qz_bounds_take(struct qz_bounds *bounds, const struct qz_queries *queries);

/* Looks at rows from `first` on, at most `bounds->block` of them; `room` is for codes that are laid side by side. */
void qz_bounds_load(const struct qz_bounds *bounds, uint64_t first, size_t count, uint8_t *room,
                    struct qz_bound_rows *rows);

/* Looks at rows of a list, which are `ready`, one after the other, QZ_BOUND_LISTED of them at most; `room` is for as
 * many rows of codes, and is not larger than above. */
void qz_bounds_begin_list(const struct qz_bounds *bounds, const uint8_t *room, struct qz_bound_rows *rows);
void qz_bounds_load_listed(const struct qz_bounds *bounds, uint64_t row, uint8_t *room, struct qz_bound_rows *rows);

/* Asks for what is known of a row that will be looked at soon. */
void qz_bounds_fetch_row(const struct qz_bounds *bounds, uint64_t row);

static inline uint64_t qz_bounds_row(const struct qz_bound_rows *rows, size_t r)
{
    return rows->are_listed ? rows->listed[r] : rows->first + r;
}

/* The number that stands for a key of a query where rows are bounded: a bound below it is below the key. */
float qz_bounds_limit(const struct qz_bounds *bounds, size_t query, double key);

/* What rows make with `count` queries from `query` on, QZ_BOUND_QUERIES at most; qz_bounds_sums says where those of one
 * of them are. */
void qz_bounds_multiply(const struct qz_bounds *bounds, const struct qz_bound_rows *rows, size_t query, size_t count,
                        int32_t *sum);

static inline const int32_t *qz_bounds_sums(const struct qz_bounds *bounds, const int32_t *sum, size_t i)
{
    return sum + i * (size_t)bounds->view->row_groups * bounds->block;
}

/* Finds which rows may reach a limit with each of `count` queries from `query` on, given their sums: bit r of `within`
 * is row r of these. */
void qz_bounds_reach(const struct qz_bounds *bounds, const struct qz_bound_rows *rows, size_t query, size_t count,
                     const int32_t *sum, const float *limit, uint64_t *within);

/* Between which numbers the score of a row is, given the sums of one query. The lower one is -infinity or NaN where there
 * is none. */
struct qz_between {
    double lower, upper;
};
struct qz_between qz_bounds_between(const struct qz_bounds *bounds, const struct qz_bound_rows *rows, size_t query,
                                    size_t row, const int32_t *sum);

/* x as float32, not above it. */
float qz_float_below(double x);

#endif
