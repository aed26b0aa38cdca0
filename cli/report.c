/*
 * report.c - writes the HTML page of --report about what a command did
 *
 * The page is report.html, from which the build makes report_page.inc, with the output of --json in it as data. Its
 * script puts names into the page as text only, and in the data no character of a name is markup.
 */
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compare.h"
#include "json.h"
#include "output.h"
#include "sha256.h"
#include "source.h"

static const char page[] = {
#include "report_page.inc"
    , 0};
static const char mark[] = "@DATA@";

enum { WORST = 6 }; /* tensors whose errors are drawn */

/* ---- where it is written ---- */

static int is_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The folder of a page must be there before the work begins, which may take hours. */
static int check_folder(const char *path)
{
    struct stat status;
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    if (!folder)
        return fail_memory();
    const int there = stat(folder, &status) == 0, wrong = there ? ENOTDIR : errno;
    free(folder);
    return there && S_ISDIR(status.st_mode) ? DONE : fail_system(path, wrong);
}

int report_check(const settings *s)
{
    struct stat status;
    char shown[NAME_TEXT];
    if (!s->output.report)
        return DONE;
    qz_escape(s->output.report, strlen(s->output.report), shown, sizeof shown);
    if (s->output.dry_run)
        return fail(USAGE, "--report tells of an output, which --dry-run does not write; leave one out");
    for (int i = 0; i < s->file_count; i++)
        if (strcmp(s->output.report, s->files[i]) == 0 || is_same(s->output.report, s->files[i]))
            return fail(REFUSED, "--report '%s': this is another file of the command; choose another name", shown);
    if (lstat(s->output.report, &status) == 0 && !s->output.force)
        return fail(REFUSED, "%s: exists already; --force replaces it", shown);
    if (lstat(s->output.report, &status) == 0 && !S_ISREG(status.st_mode))
        return fail(REFUSED, "--report '%s': this is no regular file; choose another name", shown);
    return check_folder(s->output.report);
}

/* ---- files ---- */

static int hash_file(const char *path, uint64_t *bytes, char sum[SHA256_TEXT])
{
    static char piece[1 << 16];
    sha256 h;
    size_t n;
    FILE *file = fopen(path, "rb");
    if (!file)
        return fail_system(path, errno);
    sha256_begin(&h);
    while (!stop_requested() && (n = fread(piece, 1, sizeof piece, file)) > 0)
        sha256_add(&h, piece, n);
    *bytes = h.length;
    sha256_end(&h, sum);
    int wrong = ferror(file), number = errno;
    fclose(file);
    return stop_requested() ? 128 + stop_requested() : wrong ? fail_system(path, number) : DONE;
}

static int json_file(const char *path, const char *role, uint64_t *total)
{
    char sum[SHA256_TEXT];
    uint64_t bytes = 0;
    int code = hash_file(path, &bytes, sum);
    if (code != DONE)
        return code;
    json_begin(NULL, '{');
    json_text("path", path);
    json_text("role", role);
    json_whole("bytes", bytes);
    json_text("sha256", sum);
    json_end();
    *total += bytes;
    return DONE;
}

/* A file, or the files of a model. */
static int json_files(const settings *s, const char *path, const char *role, uint64_t *total)
{
    source in = {0};
    int code = source_open(s, path, &in);
    const char *first = code == DONE ? qz_file_path(in.file, 0) : NULL, *name;
    if (code == DONE)
        code = json_file(first, role, total);
    for (size_t i = 1; code == DONE && (name = qz_file_path(in.file, i)) != NULL; i++) {
        const char *slash = strrchr(first, '/');
        const size_t folder = slash ? (size_t)(slash - first) + 1 : 0, room = folder + strlen(name) + 1;
        char *whole = malloc(room);
        if (!whole) {
            code = fail_memory();
            break;
        }
        snprintf(whole, room, "%.*s%s", (int)folder, first, name);
        code = json_file(whole, role, total);
        free(whole);
    }
    source_close(&in);
    return code;
}

/* ---- the worst tensors ---- */

/* The tensor with the least SQNR of those that come behind `last`, or -1. Equal ones come in their order. */
static int64_t next_worst(const results *r, int64_t last)
{
    int64_t found = -1;
    double best = INFINITY, before = last < 0 ? -INFINITY : r->sqnr(r->of, (size_t)last);
    for (size_t i = 0; i < r->count; i++) {
        const double now = r->sqnr(r->of, i);
        if ((now > before || (now == before && (int64_t)i > last)) && now < best) {
            best = now;
            found = (int64_t)i;
        }
    }
    return found;
}

static int json_worst(const results *r)
{
    int code = DONE;
    int64_t worst = -1;
    json_begin("histograms", '[');
    for (int n = 0; n < WORST && code == DONE && (worst = next_worst(r, worst)) >= 0; n++) {
        error_histogram h = {0};
        size_t length;
        const char *name = r->name(r->of, (size_t)worst, &length);
        code = find_errors(r->s, name, length, &h);
        json_begin(NULL, '{');
        json_name("name", name, length);
        json_real("sqnr_db", r->sqnr(r->of, (size_t)worst));
        json_real("reach", h.reach);
        json_begin("counts", '[');
        for (size_t i = 0; i < ERROR_BINS; i++)
            json_whole(NULL, h.counts[i]);
        json_end();
        json_end();
    }
    json_end();
    return code;
}

/* ---- the page ---- */

static int json_report(const results *r)
{
    const int compares = strcmp(r->s->command, "compare") == 0;
    uint64_t before = 0, after = 0;
    json_begin(NULL, '{');
    json_text("version", qz_version());
    json_begin("arguments", '[');
    json_text(NULL, "quantize");
    json_text(NULL, r->s->command);
    for (int i = 0; i < r->s->argument_count; i++)
        json_text(NULL, r->s->arguments[i]);
    json_end();
    json_begin("files", '[');
    int code = json_files(r->s, r->s->files[0], compares ? "A" : "input", &before);
    if (code == DONE)
        code = json_files(r->s, r->s->files[1], compares ? "B" : "output", &after);
    json_end();
    json_whole("bytes_before", before);
    json_whole("bytes_after", after);
    json_begin("totals", '{');
    r->totals(r->of);
    json_end();
    results_list(r);
    if (code == DONE)
        code = json_worst(r);
    json_end();
    return code;
}

static int write_page(const results *r, FILE *file)
{
    const char *at = strstr(page, mark);
    fwrite(page, 1, (size_t)(at - page), file);
    json_into(file);
    int code = json_report(r);
    json_into(NULL);
    fputs(at + sizeof mark - 1, file);
    return code;
}

/* Opens a new file in the folder of `path`, whose path goes to `beside`. It has the name of an output that is not complete
 * and is locked as one, so that the next run that writes into the folder removes it if this one is killed. */
static int open_beside(const char *path, char *beside, size_t room)
{
    enum { TRIES = 8 };
    const char *slash = strrchr(path, '/');
    int fd = -1;
    for (int i = 0; i < TRIES && fd < 0; i++) {
        uint64_t random;
        if (getentropy(&random, sizeof random) != 0)
            return -1;
        snprintf(beside, room, "%.*s.quantize-%016" PRIx64 ".tmp", slash ? (int)(slash + 1 - path) : 0, path, random);
        fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST)
            return -1;
    }
    if (fd >= 0)
        (void)flock(fd, LOCK_EX | LOCK_NB); /* where there are no locks, nobody removes leftovers */
    return fd;
}

/* Writes what is still in the buffer: 0, or why not all was written. After a failure errno may be that of a later call, so
 * another byte is tried. */
static int write_rest(FILE *file)
{
    const int failed = ferror(file);
    clearerr(file);
    if ((failed && fputc('\n', file) == EOF) || fflush(file) != 0)
        return errno;
    return failed ? EIO : 0;
}

/* Writes the page beside its place and moves it there, so that it appears whole. */
int report_write(const results *r)
{
    const char *path = r->s->output.report;
    if (!path)
        return DONE;
    if (strcmp(r->s->command, "compare") != 0)
        output_is_there();
    const size_t room = strlen(path) + 40;
    char *beside = malloc(room);
    if (!beside)
        return fail_memory();
    const int fd = open_beside(path, beside, room);
    FILE *file = fd >= 0 ? fdopen(fd, "wb") : NULL;
    int code = file ? write_page(r, file) : fail_system(path, errno);
    const int wrong = file && code == DONE ? write_rest(file) : 0;
    if (wrong != 0)
        code = fail_system(path, wrong);
    if (code == DONE)
        code = report_check(r->s); /* the place may be taken meanwhile, or be that of the output */
    if (code == DONE && rename(beside, path) != 0)
        code = fail_system(path, errno);
    if (fd >= 0 && code != DONE)
        unlink(beside);
    if (file)
        fclose(file);
    else if (fd >= 0)
        close(fd);
    free(beside);
    return code;
}
