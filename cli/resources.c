/*
 * resources.c - memory and threads, within what the machine has
 */
#include "resources.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "output.h"

void keep_memory(void)
{
#if defined(__GLIBC__)
    enum { KEPT = 32 << 20 }; /* bytes: more than the blocks of a tensor */
    mallopt(M_MMAP_THRESHOLD, KEPT);
    mallopt(M_TRIM_THRESHOLD, 2 * KEPT);
#endif
}

/* A block is large only where a file asks for a large group. A system that promises more memory than it has would kill
 * this program later. */
int allow_memory(uint64_t bytes, const char *why)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t half = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page / 2 : UINT64_MAX;
    if (bytes >= SIZE_MAX / 2 || (bytes > half && bytes > UINT64_C(1) << 28))
        return fail(LIMIT, "%s of memory would be needed, since %s", bytes_text((double)bytes), why);
    return DONE;
}

void *allocate(uint64_t bytes)
{
    if (allow_memory(bytes, "rows and groups this long are not divided; use smaller groups") != DONE)
        return NULL;
    void *memory = malloc((size_t)bytes + 1);
    if (!memory)
        fail_memory();
    return memory;
}

uint64_t memory_taken(void)
{
    unsigned long long all, resident = 0;
    struct rusage usage;
    FILE *file = fopen("/proc/self/statm", "r"); /* of Linux, whose getrusage() counts what the parent had */
    if (file) {
        int found = fscanf(file, "%llu %llu", &all, &resident);
        fclose(file);
        if (found == 2)
            return resident * (uint64_t)sysconf(_SC_PAGESIZE);
    }
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss : 0; /* of macOS, in bytes */
}

int start_pool(const settings *s, uint64_t elements, qz_pool **pool)
{
    /* Below a million values, starting threads costs more than they save. */
    uint64_t threads = s->threads != 0 ? s->threads : elements < (1u << 20) ? 1 : 0;
    *pool = NULL;
    if (threads == 1)
        return DONE;
    qz_result result = qz_pool_create((size_t)threads, pool);
    return result == QZ_OK ? DONE : fail(LIMIT, "threads cannot be started: %s", qz_result_text(result));
}
