/*
 * signs.h - signs of rows, by which their scores are estimated
 *
 * A row, divided by its length for cosines, is approximated by mean + factor * signs. The mean is that of some rows,
 * the signs are those of the differences y from it, and factor = y . y / (sum of |y|). This is the estimate of Gao and
 * Long's RaBitQ (SIGMOD 2024, arXiv 2405.12497) without their rotation: if the signs of a query are independent of
 * errors, its mean is right. The dot product with the mean is the same for all rows and is left out; for QZ_L2 half the
 * square of the row is subtracted.
 *
 * Signs of some columns, those that vary most, are enough to leave out most rows: the sum of |y| is then that of these
 * columns. Signs of more columns are in a record of each row, for those that are left. How many columns pay is measured
 * with rows of a sample, of which some stand for queries.
 */
#ifndef QZ_SIGNS_H
#define QZ_SIGNS_H

#include "packed/view.h"

#define QZ_SIGNS_CACHED 0x1p25 /* bytes of signs; no cache holds more */

enum {
    QZ_LIST_FIRST = 192, /* a list by the first columns has this part of rows / worth^2 more */
    QZ_SIGN_NUMBERS = 8  /* bytes of a record before its signs, which are as the columns, eight in a byte */
};

/* Columns whose signs are noted: the first ones, for all rows, and more of them. */
struct qz_sign_columns {
    size_t first, more;
    uint16_t column[QZ_TILE]; /* of both, each in order */
    double worth[2];          /* of the first, and of both: all signs of so many independent columns are as exact */
    float mean[QZ_TILE];      /* of every column */
};

/* What is known of rows, in blocks of QZ_SIGN_ROWS. */
struct qz_signs {
    const struct qz_sign_columns *of;
    size_t steps, record; /* of a row: of its first signs; bytes of its record, 0 without */
    const uint8_t *plane, *records;
    const float *factor, *bias; /* bias: NULL but for QZ_L2 */
    const float *scale;         /* of each block, and inverses of rows: qz_sign_inverse */
    const uint16_t *inverse;
};

/* Where what is known of a block goes. */
struct qz_sign_block {
    uint8_t *plane, *records;
    float *factor, *bias, *scale;
    uint16_t *inverse;
};

/* Steps of the first signs of a row (qz_sign_rows), and bytes of its record. */
size_t qz_signs_steps(const struct qz_sign_columns *columns);
size_t qz_signs_record(const struct qz_sign_columns *columns);

/* Chooses columns by a sample of rows, which have QZ_TILE columns at most; of more than `cached` bytes of signs, which
 * are read from memory, fewer are chosen. `enough` says whether signs say enough of these rows: not where a few of their
 * numbers are much larger than the others. Returns 0 if there is no memory. */
int qz_signs_choose(const struct qz_view *view, qz_metric metric, uint64_t rows, double cached,
                    struct qz_sign_columns *columns, int *enough);

/* Finds the signs of a block, where all is 0. Returns 0 if a number is not ordinary. */
int qz_signs_block(const struct qz_view *view, qz_metric metric, const struct qz_sign_columns *columns, uint64_t first,
                   size_t count, const struct qz_sign_block *to);

#endif
