/*
 * exact_group.h - the exact method for a group of an encoder, and scales as they are stored
 */
#ifndef QZ_EXACT_GROUP_H
#define QZ_EXACT_GROUP_H

#include "encoder.h"
#include "exact.h"

/* A scale as it is stored, as a multiple of a super scale or with 1; 0 where that is 0. */
float qz_stored_scale(const struct qz_view *view, float scale, float super);

/* A scale, or an offset, that stands for itself, as it is stored. */
static inline float qz_stored(const struct qz_view *view, double x)
{
    return qz_stored_scale(view, (float)x, 1.0f);
}

/* The rule by which exact.c finds the scales of an encoder. */
struct qz_exact qz_exact_rule(const struct qz_encoder *encoder);

/* The best scale of all, and table or integer zero; *scale is one that is thought good. */
void qz_exact_group(const struct qz_encoder *encoder, const struct qz_exact_source *source, float super, float *scale,
                    float *zero);

#endif
