/*
 * options.h - structures of a caller that may have been compiled with an older header
 *
 * The first member of such a structure is its size. Members that the caller's version lacks keep their defaults.
 */
#ifndef QZ_FILE_OPTIONS_H
#define QZ_FILE_OPTIONS_H

#include <stddef.h>
#include <string.h>

/* Copies what the caller's version of a structure has over the defaults; the first member of both is their size in
 * bytes, which is `bytes` in the newest version. `given` may be NULL. */
static inline void qz_take_options(void *options, size_t bytes, const void *given)
{
    size_t size;
    if (!given)
        return;
    memcpy(&size, given, sizeof size);
    memcpy(options, given, size < bytes ? size : bytes);
    memcpy(options, &bytes, sizeof bytes);
}

#endif
