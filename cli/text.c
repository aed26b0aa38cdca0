/*
 * text.c - makes text for people: names with the characters that the terminal can show, bytes, shapes
 */
#include "text.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- characters beyond ASCII ---- */

int takes_utf8(int fd)
{
    static const char *const variables[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    const char *locale = NULL;
    for (size_t i = 0; i < 3 && (!locale || locale[0] == '\0'); i++)
        locale = getenv(variables[i]);
    const char *charset = locale ? strchr(locale, '.') : NULL;
    return charset && (strncasecmp(charset, ".utf-8", 6) == 0 || strncasecmp(charset, ".utf8", 5) == 0) && isatty(fd);
}

size_t utf8_length(const unsigned char *text, size_t left)
{
    size_t n = text[0] < 0x80   ? 1
               : text[0] < 0xc2 ? 0
               : text[0] < 0xe0 ? 2
               : text[0] < 0xf0 ? 3
               : text[0] < 0xf5 ? 4
                                : 0;
    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    /* overlong forms, surrogates, beyond the last character */
    if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
        (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
        return 0;
    return n;
}

typedef struct span {
    uint32_t first, last;
} span;

static int is_in(const span *spans, size_t count, uint32_t c)
{
    for (size_t i = 0; i < count; i++)
        if (c >= spans[i].first && c <= spans[i].last)
            return 1;
    return 0;
}
#define IS_IN(spans, c) is_in(spans, sizeof(spans) / sizeof(spans)[0], c)

/* Characters that act on a terminal, turn the direction of writing, cannot be seen or are no characters. */
static const span hidden[] = {{0, 0xa0},          {0xad, 0xad},       {0x34f, 0x34f},       {0x61c, 0x61c},
                              {0x115f, 0x1160},   {0x17b4, 0x17b5},   {0x180b, 0x180f},     {0x2000, 0x200f},
                              {0x2028, 0x202f},   {0x205f, 0x206f},   {0x3000, 0x3000},     {0x3164, 0x3164},
                              {0xd800, 0xf8ff},   {0xfdd0, 0xfdef},   {0xfe00, 0xfe0f},     {0xfeff, 0xfeff},
                              {0xffa0, 0xffa0},   {0xfff0, 0xffff},   {0x1bca0, 0x1bca3},   {0x1d173, 0x1d17a},
                              {0x1fffe, 0x1ffff}, {0x2fffe, 0x2ffff}, {0x3fffe, UINT32_MAX}};
static const span wide[] = {{0x1100, 0x115f},   {0x2e80, 0x303e},   {0x3041, 0xa4cf},  {0xac00, 0xd7a3},
                            {0xf900, 0xfaff},   {0xfe30, 0xfe6f},   {0xff00, 0xff60},  {0xffe0, 0xffe6},
                            {0x1f300, 0x1f64f}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd}};
static const span marks[] = {{0x300, 0x36f},   {0x483, 0x489},   {0x591, 0x5bd},   {0x610, 0x61a},
                             {0x64b, 0x65f},   {0x900, 0x902},   {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff},
                             {0x20d0, 0x20ff}, {0x3099, 0x309a}, {0xfe20, 0xfe2f}};

int put_text(FILE *stream, const char *text, int plain)
{
    int columns = 0;
    for (const char *at = text; *at != '\0';) {
        size_t n = strcspn(at, "\\"), bytes = 0; /* up to an escape, or that */
        if (n == 0)
            n = at[1] == '\\' ? 2 : 1;
        char out[4];
        if (plain && strncmp(at, "\\u{", 3) == 0) {
            char *end;
            unsigned long c = strtoul(at + 3, &end, 16);
            if (*end == '}' && !IS_IN(hidden, (uint32_t)c)) {
                n = (size_t)(end + 1 - at);
                bytes = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
                for (size_t i = bytes; i-- > 1; c >>= 6)
                    out[i] = (char)(0x80 | (c & 0x3f));
                out[0] = (char)((0xf00 >> bytes & 0xff) | c);
                c = strtoul(at + 3, NULL, 16);
                columns += IS_IN(wide, (uint32_t)c) ? 2 : IS_IN(marks, (uint32_t)c) ? 0 : 1;
            }
        }
        if (bytes == 0)
            columns += (int)n;
        if (stream)
            fwrite(bytes != 0 ? out : at, 1, bytes != 0 ? bytes : n, stream);
        at += n;
    }
    return columns;
}

/* ---- numbers ---- */

/* A number of three digits with a unit, of units that are a thousand times the one before. */
static const char *scaled_text(double number, const char *const *units, size_t count)
{
    static char ring[4][32];
    static unsigned turn;
    char *out = ring[turn++ % 4];
    size_t unit = 0;
    while (number >= 999.5 && unit + 1 < count)
        number /= 1000, unit++;
    snprintf(out, sizeof ring[0], "%.*f %s",
             unit == 0 || number >= 99.95 ? 0
             : number >= 9.995            ? 1
                                          : 2,
             number, units[unit]);
    return out;
}

const char *bytes_text(double bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    return scaled_text(bytes, units, sizeof units / sizeof units[0]);
}

const char *speed_text(double per_second)
{
    static const char *const units[] = {"values/s", "k values/s", "M values/s", "G values/s"};
    return scaled_text(per_second, units, sizeof units / sizeof units[0]);
}

char *shape_text(unsigned rank, const uint64_t *shape, char *out, size_t out_size)
{
    size_t n = (size_t)snprintf(out, out_size, "[");
    for (unsigned i = 0; i < rank && n < out_size; i++)
        n += (size_t)snprintf(out + n, out_size - n, "%s%" PRIu64, i == 0 ? "" : ", ", shape[i]);
    if (n < out_size)
        snprintf(out + n, out_size - n, "]");
    return out;
}
