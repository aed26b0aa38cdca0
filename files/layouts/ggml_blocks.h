/*
 * ggml_blocks.h - ggml's blocks of 4-bit codes, and the library's plain form of the same numbers
 *
 * The functions work on memory and know no files. Each row of the table is a type whose blocks hold exactly what a
 * scheme of the library holds, so no number changes in either direction.
 */
#ifndef QZ_GGML_BLOCKS_H
#define QZ_GGML_BLOCKS_H

#include "../system.h"

#include <stddef.h>
#include <stdint.h>

#include "../quantize_file.h"

typedef struct qz_ggml_packing {
    unsigned type;         /* ggml's id */
    const char *name;      /* ggml's, for messages */
    const char *scheme;    /* the library's */
    unsigned values;       /* of a block */
    unsigned bytes;        /* of a block */
    const char *item;      /* a block as an item of that size */
    uint8_t never;         /* bits that bytes of scales must not have */
    unsigned scales_bytes; /* in the plain form, of a block; of zeros and supers as well */
    unsigned zeros_bytes, supers_bytes;

    /* Take so many blocks apart, or put them together. `plain` points to the parts of their first value. */
    void (*unpack)(const uint8_t *blocks, size_t count, const qz_packed *plain);
    void (*pack)(const qz_packed *plain, size_t count, uint8_t *blocks);
} qz_ggml_packing;

enum { QZ_GGML_VALUES = 256, QZ_GGML_BYTES = 144 }; /* the most that a block of the table has */

/* The i-th row; NULL past the end. */
const qz_ggml_packing *qz_ggml_packing_at(size_t i);

/* The row of that type; NULL if there is none. */
const qz_ggml_packing *qz_ggml_packing_of(unsigned type);

#endif
