/*
 * linear_ready.h - what products know about weights before there are rows to multiply
 */
#ifndef QZ_LINEAR_READY_H
#define QZ_LINEAR_READY_H

#include "linear_bytes.h"

/* The weights, if they were made of these rows; else NULL. */
const struct qz_ready_weights *qz_linear_ready_of(const qz_linear_prepared *prepared, const qz_scheme *scheme,
                                                  const qz_packed *packed, uint64_t rows, uint64_t cols);

#endif
