/*
 * gguf_types.h - the types of tensors in GGUF files, which are those of ggml
 *
 * A type has blocks of a fixed number of values in a fixed number of bytes.
 */
#ifndef QZ_GGUF_TYPES_H
#define QZ_GGUF_TYPES_H

#include "../system.h"

#include "../quantize_file.h"

typedef struct qz_ggml_type {
    unsigned id; /* in files */
    const char *name;
    unsigned values;    /* of a block; rows consist of whole blocks */
    unsigned bytes;     /* of a block */
    qz_element element; /* of types whose values are numbers by themselves; else QZ_ELEMENT_RAW */
} qz_ggml_type;

/* The type of that id or name; NULL if there is none. Ids of types that ggml has given up are none. */
const qz_ggml_type *qz_ggml_type_of(uint64_t id);
const qz_ggml_type *qz_ggml_type_named(const char *name);

/* The type of an element; NULL if there is none. */
const qz_ggml_type *qz_ggml_type_of_element(qz_element element);

#endif
