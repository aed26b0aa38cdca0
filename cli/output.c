/*
 * output.c - results on stdout, talk on stderr
 */
#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static const settings *current;
static char failure[1024];
static int failed;
static struct {
    const char *what;
    uint64_t total, done;
    double start, shown;
    int on, terminal, visible;
} progress;

double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void output_begin(const settings *s)
{
    current = s;
}

/* ---- characters beyond ASCII ---- */

/* Whether characters can be printed there as they are: a terminal in a UTF-8 locale. Else what names hold stays in
 * escapes. */
static int takes_utf8(int fd)
{
    static const char *const variables[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    const char *locale = NULL;
    for (size_t i = 0; i < 3 && (locale == NULL || locale[0] == '\0'); i++)
        locale = getenv(variables[i]);
    const char *charset = locale != NULL ? strchr(locale, '.') : NULL;
    return charset != NULL && (strncasecmp(charset, ".utf-8", 6) == 0 || strncasecmp(charset, ".utf8", 5) == 0) &&
           isatty(fd);
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

/* Prints text in which names were escaped by qz_escape(), with \u{...} as the character where `plain` allows it.
 * Returns the columns that it takes; prints nothing without a stream. */
static int put_text(FILE *stream, const char *text, int plain)
{
    int columns = 0;
    for (const char *at = text; *at != '\0';) {
        size_t n = at[0] == '\\' && at[1] == '\\' ? 2 : 1, bytes = 0;
        char out[4];
        if (plain && n == 1 && strncmp(at, "\\u{", 3) == 0) {
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
        if (stream != NULL)
            fwrite(bytes != 0 ? out : at, 1, bytes != 0 ? bytes : n, stream);
        at += n;
    }
    return columns;
}

/* ---- messages ---- */

static void clear_bar(void)
{
    if (progress.visible)
        fputs("\r\033[K", stderr);
    progress.visible = 0;
}

static void line(const char *text)
{
    clear_bar();
    fprintf(stderr, "quantize%s%s: ", current != NULL ? " " : "", current != NULL ? current->command : "");
    put_text(stderr, text, takes_utf8(STDERR_FILENO));
    fputc('\n', stderr);
}

int fail(int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(failure, sizeof failure, format, arguments);
    va_end(arguments);
    failed = 1;
    line(failure);
    return code;
}

int fail_file(const qz_file_error *error)
{
    static const int codes[] = {
        [QZ_FILE_OK] = INTERNAL, [QZ_FILE_ARGUMENT] = USAGE, [QZ_FILE_FORMAT] = MALFORMED, [QZ_FILE_LIMIT] = LIMIT,
        [QZ_FILE_IO] = IO_ERROR, [QZ_FILE_EXISTS] = REFUSED, [QZ_FILE_MEMORY] = LIMIT,     [QZ_FILE_MISSING] = USAGE,
    };
    static const char *const remedies[] = {
        [QZ_OPTION_NONE] = "",
        [QZ_OPTION_MAX_HEADER] = "; --max-header raises it",
        [QZ_OPTION_MAX_RATIO] = "; --max-ratio raises it",
        [QZ_OPTION_MAX_BYTES] = "; --max-bytes raises it",
        [QZ_OPTION_ALLOW_TRAILING] = "; if that is meant, --allow-trailing ignores them",
        [QZ_OPTION_REPLACE] = "; --force replaces it",
    };
    size_t code = (size_t)error->code, option = (size_t)error->option;
    return fail(code < sizeof codes / sizeof codes[0] ? codes[code] : INTERNAL, "%s%s", error->message,
                option < sizeof remedies / sizeof remedies[0] ? remedies[option] : "");
}

int fail_memory(void)
{
    return fail(LIMIT, "out of memory");
}

void say(const char *format, ...)
{
    char text[1024];
    if (current != NULL && current->quiet)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    line(text);
}

/* Whether the other end of a pipe was closed, as `head` does when it has seen enough. */
static int has_no_reader(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    return poll(&p, 1, 0) == 1 && (p.revents & (POLLERR | POLLHUP)) != 0;
}

int output_end(int code)
{
    progress_end();
    if (failed && current != NULL && current->json) {
        json_begin(NULL, '{');
        json_text("command", current->command);
        json_signed("exit_code", code);
        json_text("error", failure);
        json_end();
    }
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        if (errno == EPIPE || has_no_reader(STDOUT_FILENO))
            return code;
        line(errno != 0 ? strerror(errno) : "cannot write to stdout");
        return code == DONE || code == DIFFERENT ? IO_ERROR : code;
    }
    return code;
}

/* ---- tables ---- */

static void add_cell(table *t, const char *text)
{
    if (t->count == t->capacity) {
        t->capacity = t->capacity == 0 ? 64 : t->capacity * 2;
        t->cells = realloc(t->cells, t->capacity * sizeof *t->cells);
    }
    char *copy = strdup(text);
    if (t->cells == NULL || copy == NULL) {
        fputs("quantize: out of memory\n", stderr);
        exit(LIMIT);
    }
    t->cells[t->count++] = copy;
}

void table_begin(table *t, const char *align, const char *const *titles)
{
    *t = (table){.columns = strlen(align), .align = align};
    for (size_t i = 0; i < t->columns; i++)
        add_cell(t, titles[i]);
}

void table_cell(table *t, const char *format, ...)
{
    char text[SHAPE_TEXT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    add_cell(t, text);
}

void table_print(table *t)
{
    int widths[32] = {0}, plain = takes_utf8(STDOUT_FILENO);
    for (size_t i = 0; i < t->count; i++) {
        int width = put_text(NULL, t->cells[i], plain);
        if (width > widths[i % t->columns])
            widths[i % t->columns] = width;
    }
    for (size_t row = 0; row < t->count; row += t->columns) {
        char **cells = t->cells + row;
        size_t used = t->columns; /* no blanks at the end of a line */
        while (used > 1 && cells[used - 1][0] == '\0')
            used--;
        for (size_t column = 0; column < used; column++) {
            int last = column + 1 == used, right = t->align[column] == 'r';
            int blanks = widths[column] - put_text(NULL, cells[column], plain);
            printf("%*s", right ? blanks : 0, "");
            put_text(stdout, cells[column], plain);
            printf("%*s%s", right || last ? 0 : blanks, "", last ? "\n" : "  ");
        }
    }
    for (size_t i = 0; i < t->count; i++)
        free(t->cells[i]);
    free(t->cells);
    *t = (table){0};
}

/* ---- numbers ---- */

const char *bytes_text(double bytes)
{
    static char ring[4][24];
    static unsigned turn;
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    char *out = ring[turn++ % 4];
    size_t unit = 0;
    while (bytes >= 999.5 && unit + 1 < sizeof units / sizeof units[0])
        bytes /= 1000, unit++;
    snprintf(out, sizeof ring[0], "%.*f %s",
             unit == 0 || bytes >= 99.95 ? 0
             : bytes >= 9.995            ? 1
                                         : 2,
             bytes, units[unit]);
    return out;
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

/* ---- progress ---- */

void progress_begin(const char *what, uint64_t total)
{
    progress.what = what;
    progress.total = total;
    progress.done = 0;
    progress.start = progress.shown = seconds_now();
    progress.terminal = isatty(STDERR_FILENO);
    progress.on = current == NULL || !current->quiet;
    progress.visible = 0;
}

/* Columns of the terminal; 80 where it does not say. */
static size_t terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col != 0 ? size.ws_col : 80;
}

/* A line that is one shorter than the terminal is wide: in the last column some would begin a new line. */
static void draw_bar(double part, double left)
{
    enum { WIDTH = 40 };
    char bar[WIDTH + 2] = "", text[64];
    size_t columns = terminal_columns() - 1;
    size_t words =
        strlen(progress.what) + 1 + (size_t)snprintf(text, sizeof text, "%3.0f %%, %.0f s left", 100 * part, left);
    if (columns >= words + 6) { /* with a blank behind it */
        size_t width = columns - words - 1 < WIDTH ? columns - words - 1 : WIDTH;
        for (size_t i = 0; i < width; i++)
            bar[i] = (double)i + 1 <= part * (double)width ? '#' : '.';
        bar[width] = ' ';
    }
    if (columns >= words)
        fprintf(stderr, "\r%s %s%s\033[K", progress.what, bar, text);
    else if (columns >= 5)
        fprintf(stderr, "\r%.5s\033[K", text); /* the percentage alone */
    progress.visible = 1;
}

void progress_add(uint64_t steps)
{
    progress.done += steps;
    double now = seconds_now();
    if (!progress.on || progress.total == 0 || now - progress.shown < (progress.terminal ? 0.1 : 5.0))
        return;
    progress.shown = now;
    double part = (double)progress.done / (double)progress.total;
    double left = part > 0 ? (now - progress.start) * (1 - part) / part : 0;
    if (progress.terminal) {
        draw_bar(part, left);
    } else {
        fprintf(stderr, "quantize %s: %.0f %%, %.0f s left\n", progress.what, 100 * part, left);
    }
    fflush(stderr);
}

void progress_end(void)
{
    clear_bar();
    progress.on = 0;
}
