/*
 * gguf_output.h - GGUF as a container that is written
 */
#ifndef QZ_GGUF_OUTPUT_H
#define QZ_GGUF_OUTPUT_H

#include "gguf.h"

#include "../writer.h"

qz_file_result qz_gguf_declare(qz_writer *writer, const qz_slot *slot, qz_file_error *error);

/* See container.h. `metadata` is the header of the file whose keys are passed on, with its input, or NULL. */
qz_file_result qz_gguf_layout(qz_writer *writer, size_t first, size_t count, qz_gguf *metadata, const qz_input *input,
                              qz_file_error *error);

#endif
