/*
 * ggml_decode.h - ggml's blocks that are no codes of 4 bits, decoded
 */
#ifndef QZ_GGML_DECODE_H
#define QZ_GGML_DECODE_H

#include "../system.h"

#include <stdint.h>

/* Decodes one block into all its values, as ggml does, operation by operation. */
typedef void (*qz_ggml_decoder)(const uint8_t *block, float *values);

enum { QZ_GGML_DECODED = 256, QZ_GGML_DECODED_BYTES = 210 }; /* the most values and bytes of such a block */

/* The decoder of the type with ggml's id; NULL if there is none. */
qz_ggml_decoder qz_ggml_decoder_of(unsigned type);

#endif
