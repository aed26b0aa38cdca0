/*
 * encode_rows.h - encodes rows of whole groups
 */
#ifndef QZ_ENCODE_ROWS_H
#define QZ_ENCODE_ROWS_H

#include "encode_codes.h"

/* Encodes a tile: the step of an encoding, which is the context. */
void qz_encode_rows(void *encoding, struct findings *found, const struct qz_area *area);

/* How many columns a wide tile has, where such can be encoded without a copy or a second look at any usual group; 0
 * where they cannot. Less is to do around them. */
uint64_t qz_wide_tile(const struct encoding *encoding);

/* Encodes a wide tile, or the usual ones that it consists of. */
void qz_encode_wide(void *encoding, struct findings *found, const struct qz_area *area);

/* The weights of a tile, or NULL: there are none, or some that may not be. */
const float *qz_load_weights(const struct encoding *encoding, struct findings *found, const struct qz_tile *tile,
                             float *buffer, ptrdiff_t *stride);

/* The weights of a run of short rows that all have the same ones: `repeated`, made once for all; or NULL. */
const float *qz_repeat_weights(const struct encoding *encoding, float *repeated);

#endif
