/*
 * scheme.h - what the drivers ask of a scheme
 */
#ifndef QZ_SCHEME_H
#define QZ_SCHEME_H

#include "kernels.h"

/* The code range of a scheme that qz_scheme_check has accepted. */
struct qz_grid qz_scheme_grid(const qz_scheme *scheme, qz_method method);

/* a * b; 0 if it does not fit. */
int qz_multiply(uint64_t a, uint64_t b, uint64_t *product);

#endif
