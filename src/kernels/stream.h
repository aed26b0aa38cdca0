/*
 * stream.h - writes large output past the cache
 *
 * Output that does not fit into the cache is written by non-temporal stores, which need whole cache lines. It is made
 * in a small buffer first, step by step, and each step writes the lines that are complete. Steps are short, so that the
 * stores of one overlap with the work on the next.
 */
#ifndef QZ_STREAM_H
#define QZ_STREAM_H

#include "kernels.h"

enum {
    QZ_STAGE_STEP = 2048,      /* bytes of a step */
    QZ_AHEAD = 8192,           /* how many bytes before its turn input is fetched */
    QZ_STREAM_LEAST = 16 << 20 /* smaller output is left in cache by ordinary stores. Ordinary stores first read
                                  every line they are about to overwrite. */
};

/* Fetches memory that is needed soon. Inline, for gcc 12 takes a function that does nothing else for one that does
 * nothing. */
static inline __attribute__((always_inline)) void qz_fetch(const void *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch((const char *)p + i);
}

/* Sends buffer[*sent .. ready) to the same place in dst, apart from a last line that is not complete unless this is the
 * end. */
static inline void qz_stage_send(const struct qz_kernels *kernels, void *dst, const void *buffer, size_t *sent,
                                 size_t ready, int end)
{
    size_t partial = end ? 0 : ((uintptr_t)dst + ready) % 64;
    if (ready > *sent + partial) {
        kernels->stream((char *)dst + *sent, (const char *)buffer + *sent, ready - partial - *sent);
        *sent = ready - partial;
    }
}

#endif
