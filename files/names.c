/*
 * names.c - an arena for names and shapes, and a map from names to numbers
 *
 * The hash of the map has a random key, so that no file can be made whose names collide.
 */
#include "names.h"

#include <stdlib.h>
#include <string.h>
#if defined(__APPLE__)
#include <sys/random.h>
#else
#include <unistd.h>
#endif

/* ---- arena ---- */

struct qz_arena_block {
    struct qz_arena_block *before;
    size_t used, size;
    uint64_t bytes[];
};

void *qz_arena_get(qz_arena *arena, size_t bytes)
{
    enum { BLOCK = 65536 };
    if (bytes > SIZE_MAX / 2)
        return NULL;
    bytes = (bytes + 7) & ~(size_t)7;
    struct qz_arena_block *block = arena->last;
    if (!block || block->size - block->used < bytes) {
        size_t size = bytes > BLOCK ? bytes : BLOCK;
        block = malloc(sizeof *block + size);
        if (!block)
            return NULL;
        *block = (struct qz_arena_block){arena->last, 0, size};
        arena->last = block;
    }
    void *got = (char *)block->bytes + block->used;
    block->used += bytes;
    return got;
}

char *qz_arena_text(qz_arena *arena, const char *text, size_t length)
{
    char *copy = qz_arena_get(arena, length + 1);
    if (copy) {
        if (length != 0)
            memcpy(copy, text, length);
        copy[length] = '\0';
    }
    return copy;
}

void qz_arena_free(qz_arena *arena)
{
    while (arena->last) {
        struct qz_arena_block *block = arena->last;
        arena->last = block->before;
        free(block);
    }
}

/* ---- map ---- */

/* SipHash-1-3 (Aumasson and Bernstein, 2012; the variant with fewer rounds): without the key, nobody can construct
 * names that meet in one slot, so that a hostile file cannot make the map slow. */
static uint64_t sip_hash(const uint64_t key[2], const char *text, size_t length)
{
    uint64_t v0 = key[0] ^ UINT64_C(0x736f6d6570736575), v1 = key[1] ^ UINT64_C(0x646f72616e646f6d);
    uint64_t v2 = key[0] ^ UINT64_C(0x6c7967656e657261), v3 = key[1] ^ UINT64_C(0x7465646279746573);
#define ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))
#define ROUND                                                                                                          \
    v0 += v1, v2 += v3, v1 = ROTATE(v1, 13) ^ v0, v3 = ROTATE(v3, 16) ^ v2, v0 = ROTATE(v0, 32);                       \
    v2 += v1, v0 += v3, v1 = ROTATE(v1, 17) ^ v2, v3 = ROTATE(v3, 21) ^ v0, v2 = ROTATE(v2, 32)
    for (size_t i = 0; i <= length; i += 8) {
        uint64_t word = 0;
        size_t left = length - i;
        if (left >= 8) {
            memcpy(&word, text + i, 8);
        } else {
            if (left != 0)
                memcpy(&word, text + i, left);
            word ^= (uint64_t)length << 56; /* the last word also holds the length */
        }
        v3 ^= word;
        ROUND;
        v0 ^= word;
    }
    v2 ^= 0xff;
    ROUND;
    ROUND;
    ROUND;
#undef ROUND
#undef ROTATE
    return v0 ^ v1 ^ v2 ^ v3;
}

/* The slot that holds the name, or the free one where it belongs. */
static qz_name_slot *slot_of(const qz_names *names, const char *name, size_t length)
{
    size_t mask = names->capacity - 1;
    for (size_t i = (size_t)sip_hash(names->key, name, length) & mask;; i = (i + 1) & mask) {
        qz_name_slot *slot = &names->slots[i];
        if (!slot->name || (slot->length == length && memcmp(slot->name, name, length) == 0))
            return slot;
    }
}

static int grow(qz_names *names)
{
    qz_names wider = {
        NULL, names->capacity == 0 ? 64 : names->capacity * 2, names->used, {names->key[0], names->key[1]}};
    if (names->capacity == 0 && getentropy(wider.key, sizeof wider.key) != 0)
        wider.key[0] = (uint64_t)(uintptr_t)names; /* better than nothing */
    wider.slots = calloc(wider.capacity, sizeof *wider.slots);
    if (!wider.slots)
        return 0;
    for (size_t i = 0; i < names->capacity; i++)
        if (names->slots[i].name)
            *slot_of(&wider, names->slots[i].name, names->slots[i].length) = names->slots[i];
    free(names->slots);
    *names = wider;
    return 1;
}

qz_name_result qz_names_add(qz_names *names, const char *name, size_t length, size_t value)
{
    if (names->used >= names->capacity / 2 && !grow(names))
        return QZ_NAME_NO_MEMORY;
    qz_name_slot *slot = slot_of(names, name, length);
    if (slot->name)
        return QZ_NAME_TWICE;
    *slot = (qz_name_slot){name, length, value};
    names->used++;
    return QZ_NAME_NEW;
}

int qz_names_has(const qz_names *names, const char *name, size_t length)
{
    return names->capacity != 0 && slot_of(names, name, length)->name;
}

size_t qz_names_find(const qz_names *names, const char *name, size_t length)
{
    if (names->capacity == 0)
        return SIZE_MAX;
    const qz_name_slot *slot = slot_of(names, name, length);
    return slot->name ? slot->value : SIZE_MAX;
}

void qz_names_free(qz_names *names)
{
    free(names->slots);
    *names = (qz_names){0};
}
