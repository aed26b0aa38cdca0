/*
 * reference_groups.h - encodes groups by the rules of other tools
 */
#ifndef QZ_REFERENCE_GROUPS_H
#define QZ_REFERENCE_GROUPS_H

#include "encoder.h"

/* Whether a matrix of that shape has rows that the scheme's rule can take. */
int qz_reference_fits_rows(const qz_scheme *scheme, uint64_t rows, uint64_t cols);

/* The super scale of a whole matrix with values up to `largest`, which the rule's other numbers will follow from. */
float qz_reference_super(struct qz_encoder *encoder, float largest);

/* Scales, zeros and packed codes of a run's groups, whose rows are not filled up, by the encoder's rule. Those that do
 * not fit their type are infinite or NaN. */
void qz_reference_groups(const struct qz_encoder *encoder, const struct run *run, const float *x, struct groups *groups,
                         uint8_t *codes);

/* The same for a long group, by its range: `run` is all of it. Then the codes of n of its values, of `length`. */
void qz_reference_long_group(const struct qz_encoder *encoder, const struct run *run, struct groups *groups,
                             struct qz_reference *fit);
void qz_reference_group_codes(const struct qz_encoder *encoder, const struct qz_reference *fit, uint64_t length,
                              const float *x, size_t n, uint8_t *codes);

#endif
