/*
 * scales.h - scales of a byte, and the super scales that groups share
 */
#ifndef QZ_SCALES_H
#define QZ_SCALES_H

#include "encoder.h"

/* Makes the super scales of stretches of a row, if there are such, from the scales that a run's groups want. Groups
 * with QZ_U6 whose scale will vanish get another offset. */
void qz_make_supers(const struct qz_view *view, const struct run *run, struct groups *groups);

/* Rounds the scales, and offsets, of a run's groups to types of a byte. Returns QZ_FIT_ flags. */
unsigned qz_round_scales(const struct qz_view *view, const struct run *run, struct groups *groups);

/* The super scale, as it is stored, of a whole row or matrix whose values reach up to `largest`. */
float qz_whole_super(const struct qz_encoder *encoder, float largest);

#endif
