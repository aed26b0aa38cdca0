/*
 * search.h - searches for better scales, and zeros, than the plain ones
 */
#ifndef QZ_SEARCH_H
#define QZ_SEARCH_H

#include "encoder.h"
#include "exact.h"

enum { QZ_SEARCH_MOST = 512 }; /* longer groups are searched one at a time */

/* As qz_search_groups, for the only one of `groups`, which comes in pieces. */
unsigned qz_search_pieces(const struct qz_encoder *encoder, struct qz_exact_source *source, struct groups *groups);

/* The inverses of scales, and what fit would notice in them: QZ_FIT_ flags. */
unsigned qz_flag_scales(const struct qz_view *view, struct groups *groups);

/* Better scales, and zeros, for a run's groups, which have plain ones. w: weights of its values, or NULL. Returns
 * QZ_FIT_ flags. */
unsigned qz_search_groups(const struct qz_encoder *encoder, const struct run *run, struct groups *groups,
                          const float *x, const float *w);

/* With a zero or an offset: tries many more ends, anywhere in their range, for `count` groups of a run, which are
 * searched already and have at most QZ_SEARCH_MOST values. */
void qz_search_anywhere(const struct qz_encoder *encoder, const struct run *run, struct groups *groups, const float *x,
                        const float *w, const uint16_t *some, size_t count);

#endif
