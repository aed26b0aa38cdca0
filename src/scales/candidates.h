/*
 * candidates.h - the scales that a search tries
 */
#ifndef QZ_CANDIDATES_H
#define QZ_CANDIDATES_H

#include "encoder.h"

/* Fills in how the encoder's searches go about it. */
void qz_search_rules(struct qz_encoder *encoder, uint64_t group_size);

/* Whether groups are compared with what ggml's own search for IQ4_NL makes of them. */
int qz_searches_as_ggml(const struct qz_encoder *encoder);

#endif
