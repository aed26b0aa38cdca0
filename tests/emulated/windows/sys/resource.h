/*
 * Limits of a child, which is never there on Windows.
 */
#ifndef QZ_EMULATED_RESOURCE_H
#define QZ_EMULATED_RESOURCE_H

#include <stddef.h>

enum { RLIMIT_AS, RLIMIT_FSIZE };

struct rlimit {
    size_t rlim_cur, rlim_max;
};

static inline int setrlimit(int of, const struct rlimit *limit)
{
    (void)of, (void)limit;
    return -1;
}

#endif
