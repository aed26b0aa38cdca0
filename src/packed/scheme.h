/*
 * scheme.h - what the drivers ask about a scheme
 */
#ifndef QZ_SCHEME_H
#define QZ_SCHEME_H

#include "../kernels/kernels.h"

/* What the codes of a scheme that qz_scheme_check has accepted stand for: as much of a grid as decoding needs. */
void qz_scheme_values(const qz_scheme *scheme, struct qz_grid *grid);

/* The same, and which of them is nearest: all of it. */
struct qz_grid qz_scheme_grid(const qz_scheme *scheme, qz_method method);

/* How its plain methods find a group's scale, as a float32 where the stored type is not one of those that fit knows. */
struct qz_fit qz_scheme_fit(const qz_scheme *scheme, qz_method method, const struct qz_grid *grid);

/* qz_scheme_sizes for such a scheme, without the bits per value. */
qz_result qz_scheme_bytes(const qz_scheme *scheme, uint64_t rows, uint64_t cols, qz_sizes *sizes);

/* a * b; 0 if it does not fit. */
int qz_multiply(uint64_t a, uint64_t b, uint64_t *product);

#endif
