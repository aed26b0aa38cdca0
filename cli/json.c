/*
 * json.c - writes JSON: values, and where they are nested, commas and indentation
 */
#include "json.h"

#include <math.h>
#include <string.h>

#include "text.h"

static char closing[32]; /* of the open brackets */
static int depth, filled[32], one_line, in_page;
static FILE *stream; /* NULL: stdout */

void json_into(FILE *page)
{
    stream = page;
    in_page = page != NULL;
}

static FILE *out(void)
{
    return stream ? stream : stdout;
}

void json_lines(void)
{
    one_line = 1;
}

static void break_line(void)
{
    if (!one_line)
        fprintf(out(), "\n%*s", 2 * depth, "");
}

static void start(const char *key)
{
    if (depth != 0) {
        fputs(filled[depth - 1] ? "," : "", out());
        fputs(one_line && filled[depth - 1] ? " " : "", out());
        break_line();
        filled[depth - 1] = 1;
    }
    if (key)
        fprintf(out(), "\"%s\": ", key);
}

void json_begin(const char *key, char bracket)
{
    start(key);
    fputc(bracket, out());
    closing[depth] = bracket == '{' ? '}' : ']';
    filled[depth++] = 0;
}

void json_end(void)
{
    depth--;
    if (filled[depth])
        break_line();
    fputc(closing[depth], out());
    if (depth == 0)
        fputc('\n', out());
}

void json_name(const char *key, const char *text, size_t length)
{
    start(key);
    fputc('"', out());
    const unsigned char *in = (const unsigned char *)text;
    for (size_t i = 0; i < length;) {
        size_t n = utf8_length(in + i, length - i);
        if (n == 0)
            fprintf(out(), "\\udc%02x", in[i]); /* the byte as Python's "surrogateescape" has it */
        else if (in[i] == '"' || in[i] == '\\')
            fprintf(out(), "\\%c", in[i]);
        else if (n == 1 && (in[i] < 0x20 || in[i] == 0x7f || (in_page && strchr("<>&", in[i]))))
            fprintf(out(), "\\u%04x", in[i]);
        else if (n == 1)
            fputc(in[i], out());
        else { /* ASCII only: nothing in a name can act on a terminal */
            uint32_t wide = in[i] & (0xffu >> (n + 1));
            for (size_t j = 1; j < n; j++)
                wide = wide << 6 | (in[i + j] & 0x3fu);
            if (wide >= 0x10000)
                fprintf(out(), "\\u%04" PRIx32 "\\u%04" PRIx32, 0xd800 + ((wide - 0x10000) >> 10),
                        0xdc00 + ((wide - 0x10000) & 0x3ff));
            else
                fprintf(out(), "\\u%04" PRIx32, wide);
        }
        i += n != 0 ? n : 1;
    }
    fputc('"', out());
}

void json_text(const char *key, const char *text)
{
    json_name(key, text, strlen(text));
}

void json_whole(const char *key, uint64_t value)
{
    start(key);
    fprintf(out(), "%" PRIu64, value);
}

void json_signed(const char *key, int64_t value)
{
    start(key);
    fprintf(out(), "%" PRId64, value);
}

void json_real(const char *key, double value)
{
    start(key);
    if (isfinite(value))
        fprintf(out(), "%.9g", value);
    else
        fprintf(out(), "null");
}

void json_bool(const char *key, int value)
{
    start(key);
    fprintf(out(), value ? "true" : "false");
}

void json_null(const char *key)
{
    start(key);
    fprintf(out(), "null");
}

void json_shape(const char *key, unsigned rank, const uint64_t *shape)
{
    start(key);
    fputc('[', out());
    for (unsigned i = 0; i < rank; i++)
        fprintf(out(), "%s%" PRIu64, i == 0 ? "" : ", ", shape[i]);
    fputc(']', out());
}
