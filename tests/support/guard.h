/*
 * guard.h - buffers between two pages that cannot be touched
 *
 * A read or write one byte before or behind ends the program with a fault; the bytes inside that are no output hold
 * a pattern which guard_check compares.
 */
#ifndef QZ_TEST_GUARD_H
#define QZ_TEST_GUARD_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CANARY = 0xa5 };

struct guard {
    uint8_t *bytes; /* the first byte that may be touched */
    size_t size;    /* whole pages */
};

static inline struct guard guard_make(size_t least)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size = (least + page) / page * page;
    uint8_t *map = mmap(NULL, size + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map, page, PROT_NONE) != 0 || mprotect(map + page + size, page, PROT_NONE) != 0) {
        perror("guard_make");
        exit(1);
    }
    memset(map + page, CANARY, size);
    return (struct guard){map + page, size};
}

static inline void guard_free(struct guard guard)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    munmap(guard.bytes - page, guard.size + 2 * page);
}

static inline void guard_fill(struct guard guard)
{
    memset(guard.bytes, CANARY, guard.size);
}

/* Where `bytes` bytes end `gap` bytes before the untouchable page. */
static inline void *guard_end(struct guard guard, size_t bytes, size_t gap)
{
    return guard.bytes + guard.size - gap - bytes;
}

/* The distance from the start of the first byte in [from, to) that does not hold the pattern, or `to`. */
static inline size_t guard_scan(struct guard guard, size_t from, size_t to)
{
    const uint8_t *at = guard.bytes + from;
    if (from < to && *at == CANARY && memcmp(at, at + 1, to - from - 1) == 0) /* each byte is as the one before */
        return to;
    while (from < to && guard.bytes[from] == CANARY)
        from++;
    return from;
}

/* 1 if within `reach` bytes around the output [at, at + bytes) nothing was written. */
static inline int guard_check_near(struct guard guard, const void *at, size_t bytes, size_t reach)
{
    size_t start = (size_t)((const uint8_t *)at - guard.bytes), end = start + bytes;
    size_t from = start < reach ? 0 : start - reach, to = guard.size - end < reach ? guard.size : end + reach;
    size_t before = guard_scan(guard, from, start), behind = guard_scan(guard, end, to);
    if (before == start && behind == to)
        return 1;
    if (before != start)
        printf("wrote %zu bytes before the start of the output\n", start - before);
    if (behind != to)
        printf("wrote %zu bytes behind the end of the output\n", behind - end + 1);
    return 0;
}

static inline int guard_check(struct guard guard, const void *at, size_t bytes)
{
    return guard_check_near(guard, at, bytes, guard.size);
}

/* What a fault is blamed on. */
static char guard_doing[256];

static inline void guard_on_fault(int signal_number)
{
    printf("fault (signal %d) in %s\n", signal_number, guard_doing);
    fflush(stdout);
    _exit(1);
}

static inline void guard_report_faults(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = guard_on_fault;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}

#endif
