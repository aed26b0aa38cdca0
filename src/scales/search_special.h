/*
 * search_special.h - searches groups that a search with few candidates may fail
 */
#ifndef QZ_SEARCH_SPECIAL_H
#define QZ_SEARCH_SPECIAL_H

#include "encoder.h"
#include "exact.h"
#include "../kernels/special.h"

/* What is left of a suspicion after a look at all values of a group, which has neither a zero nor an offset. */
unsigned qz_look_at_values(const struct qz_encoder *encoder, const struct qz_exact_source *source, unsigned suspicion);

/* A better scale for integers next to a lattice, if it makes the largest magnitude one of the numbers of steps that
 * lattices have: by its error in double. */
void qz_try_lattice(const struct qz_encoder *encoder, const struct qz_exact_source *source, float super, float *scale);

/* Of the scales that decode a group to the same values as this one does, the one of least magnitude, the positive one
 * of two. So values that were decoded before get the scale that they were decoded with. */
float qz_least_alike(const struct qz_encoder *encoder, const struct qz_exact_source *source, float scale);

/* The best scale of such a group among the one that is known, the plain ones (0: none) and, with `exact`, the one that
 * the exact method finds: by their errors in double. */
void qz_careful_group(const struct qz_encoder *encoder, const struct qz_exact_source *source, float super,
                      const float plain[2], int exact, float *scale, float *zero);

#endif
