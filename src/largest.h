/*
 * largest.h - largest magnitudes of rows and matrices, and the super scales that are computed from them
 */
#ifndef QZ_LARGEST_H
#define QZ_LARGEST_H

#include "scales/encoder.h"
#include "base/pool.h"

/* Makes the super scales of whole rows or of the matrix, before any group is encoded. `known`: what qz_largest found,
 * or NULL. */
void qz_measure_supers(struct qz_encoder *encoder, const qz_matrix *matrix, const float *known, qz_pool *pool);

#endif
