/*
 * glob.c - fnmatch() without flags, for bytes
 *
 * A pattern has *, ?, sets in brackets, and a backslash before a character that stands for itself.
 */
#include "set.h"

typedef unsigned char byte;

/* Whether the first character of a pattern, which is no *, is c; *rest becomes what follows it. */
static int is_one(const char *pattern, byte c, const char **rest)
{
    byte_set set;
    const char *end =
        *pattern == '[' ? qz_windows_set(pattern + 1, 1, &set) : NULL; /* without an end it is a bracket */
    *rest = pattern + 1;
    if (*pattern == '?')
        return 1;
    if (end) {
        *rest = end;
        return set.has[c];
    }
    if (*pattern == '\\') {
        if (*++pattern == '\0')
            return 0;
        *rest = pattern + 1;
    }
    return (byte)*pattern == c;
}

/* Where a * was last is where to go on if the rest does not fit: it takes a character more. */
int qz_windows_fnmatch(const char *pattern, const char *name, int flags)
{
    const char *star = NULL, *taken = NULL, *rest;
    (void)flags;
    while (*name != '\0') {
        if (*pattern == '*') {
            star = ++pattern;
            taken = name;
        } else if (*pattern != '\0' && is_one(pattern, (byte)*name, &rest)) {
            pattern = rest;
            name++;
        } else if (star) {
            pattern = star;
            name = ++taken;
        } else {
            return FNM_NOMATCH;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0' ? 0 : FNM_NOMATCH;
}
