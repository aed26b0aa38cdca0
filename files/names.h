/*
 * names.h - an arena for names and shapes, and a map from names to numbers whose hash has a random key
 */
#ifndef QZ_FILE_NAMES_H
#define QZ_FILE_NAMES_H

#include "system.h"

#include <stddef.h>
#include <stdint.h>

/* Memory that is released all at once. */
typedef struct qz_arena {
    struct qz_arena_block *last;
} qz_arena;

void *qz_arena_get(qz_arena *arena, size_t bytes); /* aligned for uint64_t; NULL without memory */
char *qz_arena_text(qz_arena *arena, const char *text, size_t length);
void qz_arena_free(qz_arena *arena);

typedef struct qz_name_slot {
    const char *name; /* NULL: free */
    size_t length;
    size_t value;
} qz_name_slot;

/* A map from names to numbers. The hash has a random key, so that nobody can prepare names that collide. */
typedef struct qz_names {
    qz_name_slot *slots;
    size_t capacity, used; /* capacity is a power of two, or 0 */
    uint64_t key[2];
} qz_names;

typedef enum { QZ_NAME_NEW, QZ_NAME_TWICE, QZ_NAME_NO_MEMORY } qz_name_result;

/* `name` must live as long as the set. */
qz_name_result qz_names_add(qz_names *names, const char *name, size_t length, size_t value);
/* Whether a name is there, whatever its value. */
int qz_names_has(const qz_names *names, const char *name, size_t length);
size_t qz_names_find(const qz_names *names, const char *name, size_t length); /* SIZE_MAX: not there */
void qz_names_free(qz_names *names);

#endif
