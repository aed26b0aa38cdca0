/*
 * whole_super.h - chooses the super scale of a whole matrix among those that a rule of another tool suggests
 */
#ifndef QZ_WHOLE_SUPER_H
#define QZ_WHOLE_SUPER_H

#include "encoder.h"

/* The better one of `usual` and the super scales with which groups can have the scales of the scheme's rule, by what a
 * search makes of some groups: of all, if they are few. `largest`: the magnitude that values reach up to. Stores what it
 * tries as the super scale of the matrix. */
float qz_better_super(const struct qz_encoder *encoder, const qz_matrix *matrix, float largest, float usual);

#endif
