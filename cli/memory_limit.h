/*
 * memory_limit.h - the limits of this machine's memory: plain loops that read, write and copy it
 *
 * Both benchmarks, `quantize bench` and bench/bench.c, compare operations with these loops and have none of their own.
 * Each loop goes through memory once, in the widest vectors of the CPU (AVX-512, AVX2 or 16 bytes), four vectors in a
 * turn. Loops with sums have a sum for each of the four. Bytes at the end that do not fill a turn are left out: sizes
 * must be multiples of LIMIT_TURN.
 */
#ifndef QZ_MEMORY_LIMIT_H
#define QZ_MEMORY_LIMIT_H

#include <stddef.h>

enum {
    LIMIT_TURN = 256,         /* bytes */
    LIMIT_STREAMED = 16 << 20 /* from so many bytes of output on, the library lets it leave past the caches */
};

/* Memory for measuring, zeroed so that no page fault is timed; NULL if there is none. On huge pages where the system
 * lends them, as NumPy's large arrays are; small pieces, too: else it would be luck which places in the second-level
 * cache they share. */
void *limit_memory(size_t bytes);
void limit_free(void *memory);

/* How many bytes the vectors have. */
size_t limit_vector(void);

void limit_read(const void *src, size_t bytes);

/* Through the caches; and past them, where the CPU has stores that do so. */
void limit_write(void *dst, size_t bytes);
void limit_stream(void *dst, size_t bytes);

/* memcpy, which beats every plain loop on some CPUs; and a loop past the caches, which memcpy makes only beyond a size
 * that the C library guesses. */
void limit_copy(void *dst, const void *src, size_t bytes);
void limit_stream_copy(void *dst, const void *src, size_t bytes);

#endif
