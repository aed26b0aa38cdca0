/*
 * fit_groups.h - finds the scales of the groups of a run, and notes which groups are special
 */
#ifndef QZ_FIT_GROUPS_H
#define QZ_FIT_GROUPS_H

#include "encoder.h"
#include "../packed/findings.h"

/* Scales of a run's groups from their ranges and, if they are to be searched, values x with weights w or NULL. Returns
 * QZ_FIT_ flags; with QZ_FIT_TIE the groups have to be fitted again, see qz_break_ties in kernels.h. */
unsigned qz_fit_groups(const struct qz_encoder *encoder, const struct run *run, struct groups *groups, const float *x,
                       const float *w);

/* Counts what is special about a group's scale. Returns 0 if the scale does not fit its type, which makes the call
 * fail; the group is zeros then. */
int qz_note_scale_problem(const struct qz_encoder *encoder, struct findings *found, struct groups *groups,
                          const struct run *run, size_t g);

/* Whether codes of a group may stand for values that are infinite; whether those of some group may. */
int qz_may_overflow(const struct qz_view *view, float scale);
int qz_some_may_overflow(const struct qz_view *view, const struct groups *groups);

/* Looks closer at what fit noticed in the groups of a run: finds zeros in double where float32 does not do. */
void qz_refit_special_groups(const struct qz_encoder *encoder, struct findings *found, struct groups *groups,
                             const struct run *run);

#endif
