/*
 * columns.h - groups that run down the columns of a matrix whose rows lie next to each other
 */
#ifndef QZ_COLUMNS_H
#define QZ_COLUMNS_H

#include "operation.h"

/* Whether an operation's groups can be worked on side by side; if so, cuts the matrix into tiles for that. */
int qz_columns_prepare(struct qz_operation *operation);

/* Encodes such a tile by a plain method. `by_rows`, called with `context`, takes what is special. */
void qz_encode_columns(const struct qz_operation *operation, const struct qz_fit *fit, struct findings *found,
                       const struct qz_area *area, qz_work_step *by_rows, void *context);

/* Decodes it. `by_rows` is called with the operation. */
void qz_decode_columns(struct qz_operation *operation, struct findings *found, const struct qz_area *area,
                       qz_work_step *by_rows);

#endif
