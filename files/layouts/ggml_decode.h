/*
 * ggml_decode.h - decodes ggml's blocks whose codes do not have 4 bits
 */
#ifndef QZ_GGML_DECODE_H
#define QZ_GGML_DECODE_H

#include "../system.h"

#include <stdint.h>

/* Decodes one block into all its values, as ggml does, operation by operation. */
typedef void (*qz_ggml_decoder)(const uint8_t *block, float *values);

enum { QZ_GGML_DECODED = 256, QZ_GGML_DECODED_BYTES = 210 }; /* the most values and bytes of such a block */

typedef struct qz_ggml_decoding {
    qz_ggml_decoder decode;
    unsigned halves[2]; /* where the block's float16 begin; twice the same if it has one */
} qz_ggml_decoding;

/* How the type with ggml's id is decoded; NULL if it is not. */
const qz_ggml_decoding *qz_ggml_decoding_of(unsigned type);

/* Whether a block's float16, which multiply its values or are added, are all finite. */
int qz_ggml_finite(const qz_ggml_decoding *decoding, const uint8_t *block);

#endif
