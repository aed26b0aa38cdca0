/*
 * set.c - sets of bytes in brackets, for patterns and regular expressions
 */
#include "set.h"

#include <ctype.h>

static void add_class(byte_set *set, const char *name, size_t length)
{
    static const struct {
        const char *name;
        int (*has)(int c);
    } classes[] = {{"alnum", isalnum}, {"alpha", isalpha}, {"blank", isblank}, {"cntrl", iscntrl},
                   {"digit", isdigit}, {"graph", isgraph}, {"lower", islower}, {"print", isprint},
                   {"punct", ispunct}, {"space", isspace}, {"upper", isupper}, {"xdigit", isxdigit}};
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
        if (strlen(classes[i].name) == length && memcmp(classes[i].name, name, length) == 0)
            for (int c = 0; c < 256; c++)
                set->has[c] |= classes[i].has(c) != 0;
}

/* One byte, or [.c.] or [=c=], which is c. */
static const char *take_byte(const char *at, int of_glob, unsigned char *taken)
{
    const int named = at[0] == '[' && (at[1] == '.' || at[1] == '=') && at[2] != '\0' && at[3] == at[1] && at[4] == ']';
    if (of_glob && at[0] == '\\' && at[1] != '\0')
        at++;
    *taken = (unsigned char)(named ? at[2] : at[0]);
    return at + (named ? 5 : 1);
}

const char *qz_windows_set(const char *at, int of_glob, byte_set *out)
{
    const int others = *at == '^' || (of_glob && *at == '!');
    *out = (byte_set){{0}};
    at += others;
    for (const char *first = at; *at != '\0' && (*at != ']' || at == first);) {
        const char *end = at[0] == '[' && at[1] == ':' ? strstr(at + 2, ":]") : NULL;
        unsigned char low, high;
        if (end) {
            add_class(out, at + 2, (size_t)(end - at - 2));
            at = end + 2;
            continue;
        }
        at = take_byte(at, of_glob, &low);
        high = low;
        if (at[0] == '-' && at[1] != ']' && at[1] != '\0')
            at = take_byte(at + 1, of_glob, &high);
        for (int c = low; c <= high; c++)
            out->has[c] = 1;
    }
    for (int c = 0; others && c < 256; c++)
        out->has[c] = !out->has[c];
    return *at == ']' ? at + 1 : NULL;
}
