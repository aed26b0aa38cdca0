/*
 * search_long.h - searches for the scale of a group that may come in pieces
 */
#ifndef QZ_SEARCH_LONG_H
#define QZ_SEARCH_LONG_H

#include "encoder.h"
#include "exact.h"

/* Better scale, and zero, of a group that may come in pieces. */
void qz_search_long(const struct qz_encoder *encoder, const struct qz_exact_source *source, float min, float max,
                    float *scale, float *zero);

#endif
