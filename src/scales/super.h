/*
 * super.h - searches groups that share a super scale
 */
#ifndef QZ_SUPER_H
#define QZ_SUPER_H

#include "encoder.h"

/* qz_search_groups and qz_round_scales for groups with super scales, which have those of the plain rule. Stretches of a
 * row get others if these are better. */
unsigned qz_search_shared(const struct qz_encoder *encoder, const struct run *run, struct groups *groups,
                          const float *x, const float *w);

/* The super scale by which rows were decoded, whose values reach up to `most`, as far as a look at some of their groups
 * tells; 0 if they were not. */
float qz_decoded_super(const struct qz_encoder *encoder, const qz_matrix *matrix, uint64_t row, uint64_t rows,
                       float most);

/* qz_round_scales for QZ_U6 by a plain method; a group that would lose more than zeros do becomes zeros. */
unsigned qz_limit_offsets(const struct qz_encoder *encoder, const struct run *run, struct groups *groups,
                          const float *x);

#endif
