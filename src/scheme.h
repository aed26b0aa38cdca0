/*
 * scheme.h - what the drivers ask of a scheme
 */
#ifndef QZ_SCHEME_H
#define QZ_SCHEME_H

#include "kernels.h"

/* What the codes of a scheme that qz_scheme_check has accepted stand for. */
struct qz_grid qz_scheme_grid(const qz_scheme *scheme, qz_method method);

/* How its plain methods find a group's scale, as a float32 where the stored type is not one of those that fit knows. */
struct qz_fit qz_scheme_fit(const qz_scheme *scheme, qz_method method, const struct qz_grid *grid);

/* a * b; 0 if it does not fit. */
int qz_multiply(uint64_t a, uint64_t b, uint64_t *product);

#endif
