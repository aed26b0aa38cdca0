/*
 * gguf_values.h - the bytes of a GGUF header in order, from a file or from memory, and the values in them
 */
#ifndef QZ_GGUF_VALUES_H
#define QZ_GGUF_VALUES_H

#include "gguf.h"

enum { QZ_GGUF_WINDOW = 65536 }; /* bytes that can be had at once */

typedef struct qz_gguf_source {
    const qz_input *input; /* NULL: all is in the window */
    uint64_t at;           /* the next byte */
    uint64_t end, limit;   /* there are no more bytes; no more may be read */
    const uint8_t *window;
    uint64_t window_start;
    size_t window_bytes;
    uint8_t *buffer;     /* QZ_GGUF_WINDOW bytes for the window */
    qz_file_result code; /* of what is wrong with the bytes */
    const char *label;   /* for messages, as is what the bytes are part of: "key" and its name, or a text alone */
    const char *part, *name;
    size_t name_length;
    qz_file_error *error;
} qz_gguf_source;

/* Says what the next bytes are part of; `name` may be NULL. It is put into words only if something is wrong. */
static inline void qz_gguf_part(qz_gguf_source *source, const char *part, const char *name, size_t name_length)
{
    source->part = part;
    source->name = name;
    source->name_length = name_length;
}

static inline uint32_t qz_gguf_get32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline uint64_t qz_gguf_get64(const uint8_t *at)
{
    return qz_gguf_get32(at) | (uint64_t)qz_gguf_get32(at + 4) << 32;
}

qz_file_result qz_gguf_refuse(const qz_gguf_source *source, uint64_t offset, const char *what);

/* Whether so many bytes follow; `what` they are is for the message. */
qz_file_result qz_gguf_need(const qz_gguf_source *source, uint64_t bytes, const char *what);

/* The next bytes, at most QZ_GGUF_WINDOW; they are there until the next call. */
qz_file_result qz_gguf_take(qz_gguf_source *source, size_t bytes, const uint8_t **taken, const char *what);

/* Reads past a value of that type and fills in what it is. */
qz_file_result qz_gguf_take_value(qz_gguf_source *source, unsigned type, qz_gguf_value *value);

/* Why there can be no such key; NULL if there can. */
const char *qz_gguf_key_wrong(const char *key, size_t length);

/* Of a key general.alignment: why its value is none; NULL if it is one. */
const char *qz_gguf_alignment_wrong(const qz_gguf_value *value, uint32_t alignment);

#define QZ_GGUF_KEY_LONGEST   65535
#define QZ_GGUF_ALIGNMENT_KEY "general.alignment"

#endif
