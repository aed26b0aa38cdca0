/*
 * prepared.h - what searches know about rows before there are queries
 */
#ifndef QZ_PREPARED_H
#define QZ_PREPARED_H

#include "bounds.h"
#include "shortlist.h"

/* Whether it was made of these rows, for this metric. */
int qz_prepared_fits(const qz_prepared *prepared, const qz_scheme *scheme, const qz_packed *packed, uint64_t rows,
                     uint64_t cols, qz_metric metric);

/* What there is; NULL where rows have no bounds. */
const struct qz_ready *qz_prepared_ready(const qz_prepared *prepared);
const struct qz_signs *qz_prepared_signs(const qz_prepared *prepared);

#endif
