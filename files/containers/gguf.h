/*
 * gguf.h - the header of a GGUF file: read strictly, written in one form only
 *
 *     "GGUF"  version  tensors  keys       4 + 4 + 8 + 8 bytes, numbers with the least significant byte first
 *     key  type  value                     for each key
 *     name  axes  sizes  type  offset      for each tensor; sizes from the axis on that runs fastest
 *     zeros up to a multiple of the alignment, then the data of each tensor with zeros after it
 *
 * Versions 2 and 3 are read; they do not differ. All that ggml reads is read, except files with bytes after the data,
 * names that are not UTF-8, and truth values other than 0 and 1. Values are kept as the bytes that they have in the
 * file, so that keys of any meaning can be written again unchanged.
 */
#ifndef QZ_GGUF_H
#define QZ_GGUF_H

#include "gguf_types.h"
#include "model.h"

/* Types of values. */
typedef enum qz_gguf_type {
    QZ_GGUF_U8 = 0,
    QZ_GGUF_I8 = 1,
    QZ_GGUF_U16 = 2,
    QZ_GGUF_I16 = 3,
    QZ_GGUF_U32 = 4,
    QZ_GGUF_I32 = 5,
    QZ_GGUF_F32 = 6,
    QZ_GGUF_BOOL = 7,
    QZ_GGUF_STRING = 8, /* u64 bytes, then so many */
    QZ_GGUF_ARRAY = 9,  /* u32 type of the items, u64 how many, then these; no arrays again */
    QZ_GGUF_U64 = 10,
    QZ_GGUF_I64 = 11,
    QZ_GGUF_F64 = 12,
    QZ_GGUF_TYPES
} qz_gguf_type;

typedef struct qz_gguf_value {
    const char *key; /* UTF-8 without NUL, then a NUL; not empty */
    size_t key_length;
    unsigned type;   /* qz_gguf_type */
    unsigned items;  /* of an array: the type of its items; else the same as type */
    uint64_t count;  /* of an array; else 1 */
    uint64_t offset; /* in the file; of an array where the type of its items is */
    uint64_t bytes;
    const void *data; /* the bytes of the value; NULL until qz_gguf_load() */
} qz_gguf_value;

typedef struct qz_gguf {
    qz_model model;
    qz_gguf_value *values; /* in the order of the file */
    size_t value_count;
    uint32_t version, alignment;
    uint64_t data; /* where the data begins */

    /* private */
    qz_names keys;
    uint64_t values_end;
    void *loaded;
} qz_gguf;

#define QZ_GGUF_ALIGNMENT    32 /* of data, unless general.alignment says otherwise */
#define QZ_GGUF_NAME_LONGEST 63 /* bytes of a tensor's name */
#define QZ_GGUF_AXES         4

/* Whether a file that begins with these bytes (4 are enough) is one, if only of another byte order. */
int qz_gguf_probe(const uint8_t *head, size_t bytes);

/* Reads the header. `limits` may be NULL. On QZ_FILE_OK the result is to be released with qz_gguf_free(); otherwise
 * there is nothing to release. */
qz_file_result qz_gguf_read(qz_gguf *gguf, const qz_input *input, const qz_model_limits *limits, qz_file_error *error);

void qz_gguf_free(qz_gguf *gguf);

/* The value of a key; NULL if there is none. */
const qz_gguf_value *qz_gguf_find(const qz_gguf *gguf, const char *key);

/* Reads the bytes of all values, so that `data` points to them. */
qz_file_result qz_gguf_load(qz_gguf *gguf, const qz_input *input, qz_file_error *error);

/* The number of a value of an integer type that was loaded, if it is not negative: 1; else 0. */
int qz_gguf_whole(const qz_gguf_value *value, uint64_t *number);

/* Bytes of a tensor of that type and shape (as NumPy has it). Returns NULL, or what is wrong. */
const char *qz_gguf_bytes(unsigned type, unsigned rank, const uint64_t *shape, uint64_t *bytes);

/*
 * Makes the header of a file of version 3 with these tensors, of which name, type, rank and shape count, and these
 * values, of which key, type, data and bytes count; sets offsets and bytes of the tensors. The data lies in the order
 * of the tensors, each at a multiple of the alignment that the key general.alignment gives, or of 32.
 *
 * *header is to be released with free(); it has *header_bytes bytes and stands at the start of the file. All bytes
 * between and after the tensors' data, up to *file_bytes, are zeros. QZ_FILE_ARGUMENT if the format has no such file.
 */
qz_file_result qz_gguf_format(qz_model_tensor *tensors, size_t count, const qz_gguf_value *values, size_t value_count,
                              char **header, size_t *header_bytes, uint64_t *file_bytes, const char *label,
                              qz_file_error *error);

#endif
