/*
 * set.h - sets of bytes in brackets, for patterns and regular expressions
 */
#ifndef QZ_WINDOWS_SET_H
#define QZ_WINDOWS_SET_H

typedef struct byte_set {
    unsigned char has[256];
} byte_set;

/* Reads the set that begins behind a bracket. With `of_glob`, a ! at its start means all others, as ^ does, and a
 * backslash makes what follows a byte of the set. Returns what comes after the set; NULL if it does not end. */
const char *qz_windows_set(const char *at, int of_glob, byte_set *out);

#endif
