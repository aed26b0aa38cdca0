/*
 * output.c - messages, notes and progress on stderr, and the place of a failure
 *
 * With --jsonl, notes and progress are also events on stdout; with --json, a failure is also an object there. Results
 * are printed elsewhere (table.c, results.c).
 */
#include "output.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "json.h"
#include "text.h"

static const settings *current;

/* Both are those of a thread: several may fail at a time, and each keeps what it finds. */
static _Thread_local failure_place here = {.offset = QZ_NO_OFFSET};
static _Thread_local failure *keeps; /* NULL: the thread tells what it finds */

static failure last; /* that was told */

static int written; /* the output is there whole, whatever fails from here on */

static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER; /* of progress */
static struct {
    const char *what;
    uint64_t total, done, told;
    double start, shown, sent;
    int on, terminal, visible, running;
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

void output_is_there(void)
{
    written = 1;
}

int output_was_written(void)
{
    return written;
}

void at_tensor(const char *name, size_t length)
{
    here.name = name;
    here.name_length = length;
    here.rank = 0;
}

void at_index(const qz_tensor *tensor, const uint64_t *index)
{
    at_tensor(tensor->name, tensor->name_length);
    here.rank = tensor->rank;
    memcpy(here.index, index, tensor->rank * sizeof *index);
}

/* The place of a last. What belongs to one call is no longer true of the next one. */
static void keep_place(failure *f)
{
    f->at = here;
    here.offset = QZ_NO_OFFSET;
    here.system = 0;
    free(f->name);
    f->name = here.name ? malloc(here.name_length + 1) : NULL;
    if (f->name)
        memcpy(f->name, here.name, here.name_length);
}

/* Where the remedy stands in a text: behind the first semicolon of the format. One in a name means nothing. */
static size_t find_remedy(const char *format, va_list arguments)
{
    char what[512], text[sizeof last.text];
    const char *end = strstr(format, "; ");
    if (!end || (size_t)(end - format) >= sizeof what)
        return 0;
    snprintf(what, sizeof what, "%.*s", (int)(end - format), format);
    int length = vsnprintf(text, sizeof text, what, arguments);
    return length > 0 && (size_t)length + 2 < sizeof text ? (size_t)length + 2 : 0;
}

int fail(int code, const char *format, ...)
{
    failure *f = keeps ? keeps : &last;
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    vsnprintf(f->text, sizeof f->text, format, arguments);
    f->remedy = find_remedy(format, again);
    va_end(again);
    va_end(arguments);
    f->happened = 1;
    keep_place(f);
    if (!keeps)
        line(f->text);
    return code;
}

void keep_failures(failure *kept)
{
    keeps = kept;
}

void tell_failure(const failure *kept)
{
    free(last.name);
    last = *kept;
    if (!last.name && here.name) { /* its thread did not know the tensor */
        last.at.name_length = here.name_length;
        last.name = malloc(here.name_length + 1);
        if (last.name)
            memcpy(last.name, here.name, here.name_length);
    }
    line(last.text);
}

int fail_system(const char *path, int number)
{
    char shown[NAME_TEXT];
    here.system = number;
    return fail(number == ENOMEM ? LIMIT : IO_ERROR, "%s: %s", qz_escape(path, strlen(path), shown, sizeof shown),
                strerror(number));
}

int fail_file(const qz_file_error *error)
{
    static const int codes[] = {
        [QZ_FILE_OK] = INTERNAL,  [QZ_FILE_ARGUMENT] = USAGE, [QZ_FILE_FORMAT] = MALFORMED,
        [QZ_FILE_LIMIT] = LIMIT,  [QZ_FILE_IO] = IO_ERROR,    [QZ_FILE_EXISTS] = REFUSED,
        [QZ_FILE_MEMORY] = LIMIT, [QZ_FILE_MISSING] = USAGE,  [QZ_FILE_REFUSED] = REFUSED,
    };
    static const char *const remedies[] = {
        [QZ_OPTION_NONE] = NULL,
        [QZ_OPTION_MAX_HEADER] = "--max-header raises it",
        [QZ_OPTION_MAX_RATIO] = "--max-ratio raises it",
        [QZ_OPTION_MAX_BYTES] = "--max-bytes raises it",
        [QZ_OPTION_ALLOW_TRAILING] = "if that is meant, --allow-trailing ignores them",
        [QZ_OPTION_REPLACE] = "--force replaces it",
        [QZ_OPTION_MAX_TABLE] = "--max-table raises it",
        [QZ_OPTION_VOID2] = "if its items are bfloat16, --void2-as-bfloat16 reads them so",
    };
    size_t at = (size_t)error->code, option = (size_t)error->option;
    int code = at < sizeof codes / sizeof codes[0] ? codes[at] : INTERNAL;
    const char *remedy = option < sizeof remedies / sizeof remedies[0] ? remedies[option] : NULL;
    here.offset = error->offset;
    here.system = error->code == QZ_FILE_EXISTS ? EEXIST : error->system;
    if (remedy)
        return fail(code, "%s; %s", error->message, remedy);
    (void)fail(code, "%s", error->message);
    (keeps ? keeps : &last)->remedy = error->remedy;
    return code;
}

int fail_memory(void)
{
    return fail(LIMIT, "out of memory");
}

void say(const char *format, ...)
{
    static const char note[] = "note: ";
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (event_begin("note")) {
        json_text("text", text + (strncmp(text, note, sizeof note - 1) == 0 ? sizeof note - 1 : 0));
        event_end();
    }
    if (!current || !current->say.quiet)
        line(text);
}

void sum_up(const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!current || !current->say.quiet)
        line(text);
}

/* ---- events ---- */

int event_begin(const char *event)
{
    if (!current || !current->say.jsonl)
        return 0;
    clear_bar();
    json_lines();
    json_begin(NULL, '{');
    json_text("event", event);
    return 1;
}

void event_end(void)
{
    json_end();
    fflush(stdout); /* who reads it wants to know now; output_end() says what is wrong with stdout */
}

/* The members of a failure; null is what is not known. */
static void json_failure(int code)
{
    const failure_place *at = &last.at;
    json_text("command", current->command);
    json_signed("exit_code", code);
    json_text("error", last.text);
    json_bool("written", written);
    last.remedy != 0 ? json_text("remedy", last.text + last.remedy) : json_null("remedy");
    last.name ? json_name("tensor", last.name, at->name_length) : json_null("tensor");
    last.name && at->rank != 0 ? json_shape("index", at->rank, at->index) : json_null("index");
    at->offset != QZ_NO_OFFSET ? json_whole("offset", at->offset) : json_null("offset");
    at->system != 0 ? json_signed("errno", at->system) : json_null("errno");
}

static void report_failure(int code)
{
    if (event_begin("error")) {
        json_failure(code);
        event_end();
    } else if (current->say.json) {
        json_begin(NULL, '{');
        json_failure(code);
        json_end();
    }
    free(last.name);
    last.name = NULL;
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
    if (last.happened && current && code != DONE && code < 128 && written)
        line("the output is complete, but there is no report of it");
    if (last.happened && current && code != DONE)
        report_failure(code);
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        if (errno == EPIPE || has_no_reader(STDOUT_FILENO))
            return code;
        char text[160];
        snprintf(text, sizeof text, "cannot write to the standard output: %s",
                 errno != 0 ? strerror(errno) : "an earlier part of it was lost");
        line(text);
        return code == DONE || code == DIFFERENT ? IO_ERROR : code;
    }
    return code;
}

/* ---- progress ---- */

/* Seconds between two events, two drawings of the bar, two lines where there is no terminal. */
static const double between_events = 1, between_bars = 0.1, between_lines = 5;

typedef struct pace {
    double part, per_second, left; /* seconds; negative: not known yet */
} pace;

static pace pace_at(double now)
{
    double seconds = now - progress.start, part = (double)progress.done / (double)progress.total;
    return (pace){part, seconds > 0 ? (double)progress.done / seconds : 0, part > 0 ? seconds * (1 - part) / part : -1};
}

static void send_progress(double now)
{
    pace p = pace_at(now);
    progress.sent = now;
    progress.told = progress.done;
    if (!event_begin("progress"))
        return;
    json_text("what", progress.what);
    json_whole("done", progress.done);
    json_whole("total", progress.total);
    json_real("seconds", now - progress.start);
    json_real("per_second", p.per_second);
    json_real("seconds_left", p.left >= 0 ? p.left : (double)NAN);
    event_end();
}

void progress_begin(const char *what, uint64_t total)
{
    progress.what = what;
    progress.total = total;
    progress.done = 0;
    progress.start = progress.shown = seconds_now();
    progress.terminal = isatty(STDERR_FILENO);
    progress.on = !current || !current->say.quiet;
    progress.visible = 0;
    progress.running = total != 0;
    if (progress.running)
        send_progress(progress.start);
}

/* Columns of the terminal; 80 where it does not say. */
static size_t terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col != 0 ? size.ws_col : 80;
}

/* "12 s left", "3 min left" */
static const char *left_text(double seconds, char *out, size_t out_size)
{
    static const struct {
        double up_to, each;
        const char *unit;
    } units[] = {{100, 1, "s"}, {6000, 60, "min"}, {HUGE_VAL, 3600, "h"}};
    size_t i = 0;
    while (seconds >= units[i].up_to)
        i++;
    snprintf(out, out_size, "%.0f %s left", seconds / units[i].each, units[i].unit);
    return out;
}

/* What is told of a pace: the first `parts` of percentage, time, speed. Few steps are no values, but operations or
 * tensors. */
static const char *pace_text(const pace *p, int parts, char *out, size_t out_size)
{
    char left[40] = "", speed[60] = "";
    if (parts > 1)
        left_text(p->left >= 0 ? p->left : 0, left, sizeof left);
    if (parts > 2 && p->per_second >= 1e3)
        snprintf(speed, sizeof speed, ", %s", speed_text(p->per_second));
    snprintf(out, out_size, "%*.0f %%%s%s%s", progress.terminal ? 3 : 0, 100 * p->part, parts > 1 ? ", " : "", left,
             speed);
    return out;
}

/* A line that is one shorter than the terminal is wide: in the last column some would begin a new line. Where it is
 * narrow, first the bar becomes short, then the speed is left out, then the bar, then all but the percentage. */
static void draw_bar(const pace *p)
{
    enum { WIDTH = 40, SHORTEST = 5 };
    char bar[WIDTH + 2] = "", text[128];
    size_t columns = terminal_columns() - 1, what = strlen(progress.what) + 1;
    size_t words = what + strlen(pace_text(p, 3, text, sizeof text));
    if (columns < words + SHORTEST + 1)
        words = what + strlen(pace_text(p, 2, text, sizeof text));
    if (columns >= words + SHORTEST + 1) { /* with a blank behind it */
        size_t width = columns - words - 1 < WIDTH ? columns - words - 1 : WIDTH;
        for (size_t i = 0; i < width; i++)
            bar[i] = (double)i + 1 <= p->part * (double)width ? '#' : '.';
        bar[width] = ' ';
    }
    if (columns >= words)
        fprintf(stderr, "\r%s %s%s\033[K", progress.what, bar, text);
    else if (columns >= 5)
        fprintf(stderr, "\r%s\033[K", pace_text(p, 1, text, sizeof text));
    progress.visible = 1;
}

static void show_progress(double now)
{
    char text[128];
    pace p = pace_at(now);
    progress.shown = now;
    if (progress.terminal)
        draw_bar(&p);
    else
        fprintf(stderr, "quantize %s: %s\n", progress.what, pace_text(&p, 3, text, sizeof text));
    fflush(stderr);
}

void progress_add(uint64_t steps)
{
    pthread_mutex_lock(&counting);
    progress.done += steps;
    double now = progress.running ? seconds_now() : 0;
    if (progress.running && now - progress.sent >= between_events)
        send_progress(now);
    if (progress.running && progress.on && now - progress.shown >= (progress.terminal ? between_bars : between_lines))
        show_progress(now);
    pthread_mutex_unlock(&counting);
}

void progress_hold(void)
{
    pthread_mutex_lock(&counting);
}

void progress_go_on(void)
{
    pthread_mutex_unlock(&counting);
}

void progress_end(void)
{
    clear_bar();
    if (progress.running && progress.told != progress.done)
        send_progress(seconds_now());
    progress.on = progress.running = 0;
}
