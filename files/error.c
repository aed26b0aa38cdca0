/*
 * error.c - makes error messages that are safe to print
 *
 * A message is one line of printable ASCII: bytes of names that are not printable are escaped.
 */
#include "error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Callers that were compiled with an older header have a shorter error. */
#define HAS(error, field) ((error)->size >= offsetof(qz_file_error, field) + sizeof(error)->field)

/* Where the remedy stands in what a format says: behind its first semicolon, or that of the reason with which it ends,
 * which is a text of the library's. A semicolon in a name, which stands before, means nothing. 0: there is none. */
static size_t find_remedy(const char *format, const char *what, va_list arguments)
{
    char start[400], text[400];
    const char *end = strstr(format, "; "), *tail;
    const size_t length = strlen(format);
    int in_reason = !end && length >= 2 && strcmp(format + length - 2, "%s") == 0 &&
                    (length == 2 || (length >= 4 && memcmp(format + length - 4, ": ", 2) == 0));
    if (!end && !in_reason)
        return 0;
    snprintf(start, sizeof start, "%.*s", (int)(end ? end - format : (ptrdiff_t)length - 2), format);
    int before = vsnprintf(text, sizeof text, start, arguments);
    if (before < 0 || (size_t)before >= strlen(what))
        return 0;
    tail = end ? what + before : strstr(what + before, "; ");
    return tail && tail[0] != '\0' && tail[1] != '\0' && tail[2] != '\0' ? (size_t)(tail + 2 - what) : 0;
}

static void fill(qz_file_error *error, qz_file_result code, const char *label, const char *field, uint64_t offset,
                 const char *format, va_list arguments)
{
    char place[200] = "", what[400];
    if (field && offset != QZ_NO_OFFSET)
        snprintf(place, sizeof place, "%s at byte %" PRIu64 ": ", field, offset);
    else if (field)
        snprintf(place, sizeof place, "%s: ", field);
    else if (offset != QZ_NO_OFFSET)
        snprintf(place, sizeof place, "at byte %" PRIu64 ": ", offset);
    va_list again;
    va_copy(again, arguments);
    vsnprintf(what, sizeof what, format, arguments);
    const size_t remedy = find_remedy(format, what, again);
    va_end(again);
    error->code = code;
    error->offset = offset;
    if (HAS(error, system))
        error->system = 0;
    if (HAS(error, option))
        error->option = QZ_OPTION_NONE;
    /* A long path must not push the reason out of the message. */
    int before =
        snprintf(error->message, sizeof error->message, "%.200s%s%s", label ? label : "", label ? ": " : "", place);
    snprintf(error->message + before, sizeof error->message - (size_t)before, "%s", what);
    if (HAS(error, remedy))
        error->remedy = remedy != 0 ? (size_t)before + remedy : 0;
}

qz_file_result qz_fail(qz_file_error *error, qz_file_result code, const char *label, const char *field, uint64_t offset,
                       const char *format, ...)
{
    if (!error)
        return code;
    va_list arguments;
    va_start(arguments, format);
    fill(error, code, label, field, offset, format, arguments);
    va_end(arguments);
    return code;
}

qz_file_result qz_fail_option(qz_file_error *error, qz_file_result code, qz_file_option option, const char *label,
                              const char *field, uint64_t offset, const char *format, ...)
{
    if (!error)
        return code;
    va_list arguments;
    va_start(arguments, format);
    fill(error, code, label, field, offset, format, arguments);
    va_end(arguments);
    if (HAS(error, option))
        error->option = option;
    return code;
}

qz_file_result qz_fail_errno(qz_file_error *error, const char *label, const char *action)
{
    int system = errno;
    qz_file_result result = system == ENOMEM ? QZ_FILE_MEMORY : QZ_FILE_IO;
    qz_fail(error, result, label, NULL, QZ_NO_OFFSET, "cannot %s: %s", action, strerror(system));
    if (error && HAS(error, system))
        error->system = system;
    return result;
}

qz_file_result qz_fail_memory(qz_file_error *error, const char *label)
{
    return qz_fail(error, QZ_FILE_MEMORY, label, NULL, QZ_NO_OFFSET, "out of memory");
}

/* The character that starts at text[0] if it is well-formed UTF-8 beyond ASCII: its value, and its length in *bytes;
 * 0 otherwise. */
static uint32_t utf8(const unsigned char *text, size_t length, size_t *bytes)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
    if (text[0] < 0xc2 || text[0] > 0xf4 || n > length)
        return 0;
    uint32_t value = text[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (text[i] & 0x3fu);
    }
    if (value < least[n] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
        return 0;
    *bytes = n;
    return value;
}

int qz_is_utf8(const char *text, size_t length)
{
    const unsigned char *in = (const unsigned char *)text;
    for (size_t i = 0, eaten = 1; i < length; i += eaten, eaten = 1)
        if (in[i] >= 0x80 && utf8(in + i, length - i, &eaten) == 0)
            return 0;
    return 1;
}

char *qz_escape(const char *text, size_t length, char *out, size_t out_size)
{
    const unsigned char *in = (const unsigned char *)text;
    size_t used = 0, safe = 0; /* the last place where "..." still fits */
    for (size_t i = 0; i < length;) {
        char piece[16];
        size_t eaten = 1, n = 0;
        uint32_t wide;
        if (in[i] == '\\')
            strcpy(piece, "\\\\");
        else if (in[i] >= 0x20 && in[i] < 0x7f)
            piece[n++] = (char)in[i];
        else if (in[i] == '\n' || in[i] == '\t' || in[i] == '\r')
            snprintf(piece, sizeof piece, "\\%c", in[i] == '\n' ? 'n' : in[i] == '\t' ? 't' : 'r');
        else if ((wide = utf8(in + i, length - i, &eaten)) != 0)
            snprintf(piece, sizeof piece, "\\u{%" PRIx32 "}", wide);
        else
            snprintf(piece, sizeof piece, "\\x%02x", in[i]);
        if (n == 0)
            n = strlen(piece);
        if (used + 4 <= out_size)
            safe = used;
        if (used + n + 1 > out_size) {
            memcpy(out + safe, "...", 4);
            return out;
        }
        memcpy(out + used, piece, n);
        used += n;
        i += eaten;
    }
    out[used] = '\0';
    return out;
}
