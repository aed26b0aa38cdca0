/*
 * encode_long.h - encodes groups that are too long for a tile
 */
#ifndef QZ_ENCODE_LONG_H
#define QZ_ENCODE_LONG_H

#include "encode_codes.h"

/* Encodes the groups of an area, each in two passes over its pieces: the step of an encoding, which is the context. */
void qz_encode_long(void *encoding, struct findings *found, const struct qz_area *area);

#endif
