/*
 * eight.h - encodes tensors in codes of eight bits (q8_0); quantize_file.h has the rule
 */
#ifndef QZ_CLI_EIGHT_H
#define QZ_CLI_EIGHT_H

#include "sample.h"

/* Encodes one tensor, and writes it if there is a writer. */
int encode_eight(encoder *e, job *j);
/* Bytes of memory that this takes. */
uint64_t eight_memory(const qz_tensor *t);

/* What it would do to a sample; no values: it cannot be encoded. */
int try_eight(const encoder *e, const sample *s, qz_stats *stats);

#endif
