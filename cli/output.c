/*
 * output.c - results on stdout, talk on stderr
 */
#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
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

static void clear_bar(void)
{
    if (progress.visible)
        fputs("\r\033[K", stderr);
    progress.visible = 0;
}

static void line(const char *text)
{
    clear_bar();
    fprintf(stderr, "quantize%s%s: %s\n", current != NULL ? " " : "", current != NULL ? current->command : "", text);
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
    size_t code = (size_t)error->code;
    return fail(code < sizeof codes / sizeof codes[0] ? codes[code] : INTERNAL, "%s", error->message);
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
    int widths[32] = {0};
    for (size_t i = 0; i < t->count; i++) {
        int width = (int)strlen(t->cells[i]);
        if (width > widths[i % t->columns])
            widths[i % t->columns] = width;
    }
    for (size_t row = 0; row < t->count; row += t->columns) {
        char **cells = t->cells + row;
        size_t used = t->columns; /* no blanks at the end of a line */
        while (used > 1 && cells[used - 1][0] == '\0')
            used--;
        for (size_t column = 0; column < used; column++) {
            int last = column + 1 == used;
            if (t->align[column] == 'r')
                printf("%*s", widths[column], cells[column]);
            else
                printf("%-*s", last ? 0 : widths[column], cells[column]);
            fputs(last ? "\n" : "  ", stdout);
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

void progress_add(uint64_t steps)
{
    enum { WIDTH = 40 };
    progress.done += steps;
    double now = seconds_now();
    if (!progress.on || progress.total == 0 || now - progress.shown < (progress.terminal ? 0.1 : 5.0))
        return;
    progress.shown = now;
    double part = (double)progress.done / (double)progress.total;
    double left = part > 0 ? (now - progress.start) * (1 - part) / part : 0;
    if (progress.terminal) {
        char bar[WIDTH + 1];
        for (int i = 0; i < WIDTH; i++)
            bar[i] = i < (int)(part * WIDTH) ? '#' : '.';
        bar[WIDTH] = '\0';
        fprintf(stderr, "\r%s %s %3.0f %%, %.0f s left\033[K", progress.what, bar, 100 * part, left);
        progress.visible = 1;
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
