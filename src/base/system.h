/*
 * system.h - what differs between systems, for the core: aligned memory, and the number of CPUs
 *
 * All systems use POSIX threads; on Windows they are those of winpthreads, which is part of mingw-w64.
 */
#ifndef QZ_SYSTEM_H
#define QZ_SYSTEM_H

#include <stdint.h>
#include <stdlib.h>

#ifdef _WIN32

#include <malloc.h>
#include <pthread.h>

static inline void *qz_aligned_alloc(size_t alignment, size_t bytes)
{
    return _aligned_malloc(bytes, alignment);
}

static inline void qz_aligned_free(void *memory)
{
    _aligned_free(memory);
}

/* Those on which this process may run. */
static inline long qz_cpus_online(void)
{
    return pthread_num_processors_np();
}

static inline void qz_will_be_read_through(void *memory, size_t bytes)
{
    (void)memory;
    (void)bytes;
}

#else

#include <sys/mman.h>
#include <unistd.h>

static inline void *qz_aligned_alloc(size_t alignment, size_t bytes)
{
    void *memory;
    return posix_memalign(&memory, alignment, bytes) == 0 ? memory : NULL;
}

static inline void qz_aligned_free(void *memory)
{
    free(memory);
}

static inline long qz_cpus_online(void)
{
    return sysconf(_SC_NPROCESSORS_ONLN);
}

/* Says that memory, which was not written to yet, is large and will be read from one end to the other, so that the
 * system may give it large pages. */
static inline void qz_will_be_read_through(void *memory, size_t bytes)
{
#ifdef MADV_HUGEPAGE
    const uintptr_t page = (uintptr_t)1 << 21, start = ((uintptr_t)memory + page - 1) / page * page,
                    end = ((uintptr_t)memory + bytes) / page * page;
    if (start < end)
        (void)!madvise((void *)start, end - start, MADV_HUGEPAGE);
#else
    (void)memory;
    (void)bytes;
#endif
}

#endif

/* Zeros that begin where a line of the cache does, and will be read from one end to the other; NULL without memory.
 * *room is to be freed; the bytes that it takes are added to *taken. */
static inline void *qz_zeroed_lines(uint64_t bytes, void **room, uint64_t *taken)
{
    enum { LINE = 64 };
    *room = bytes <= PTRDIFF_MAX - LINE ? calloc(1, (size_t)bytes + LINE) : NULL;
    if (!*room)
        return NULL;
    *taken += bytes + LINE;
    qz_will_be_read_through(*room, (size_t)bytes + LINE);
    return (char *)*room + (LINE - (uintptr_t)*room % LINE);
}

#endif
