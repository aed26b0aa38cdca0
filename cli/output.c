/*
 * output.c - talk on stderr, progress
 */
#include "output.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "json.h"
#include "text.h"

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
    fprintf(stderr, "quantize%s%s: ", current ? " " : "", current ? current->command : "");
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
        [QZ_OPTION_MAX_TABLE] = "; --max-table raises it",
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
    if (current && current->quiet)
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
    if (failed && current && current->json) {
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

/* ---- progress ---- */

void progress_begin(const char *what, uint64_t total)
{
    progress.what = what;
    progress.total = total;
    progress.done = 0;
    progress.start = progress.shown = seconds_now();
    progress.terminal = isatty(STDERR_FILENO);
    progress.on = !current || !current->quiet;
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
