/*
 * system.h - what differs between systems, for the core: aligned memory, and how many CPUs there are
 *
 * Threads are POSIX threads everywhere; on Windows they are those of winpthreads, which is part of mingw-w64.
 */
#ifndef QZ_SYSTEM_H
#define QZ_SYSTEM_H

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

#else

#include <stdlib.h>
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

#endif

#endif
