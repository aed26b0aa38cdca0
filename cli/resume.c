/*
 * resume.c - --resume: makes a folder file by file, so that a run can continue where an earlier one ended
 *
 * As in quantize.run of the Python package, one folder is beside the output until all files are complete:
 *
 *     .quantize-NAME-<16 digits>/files/    what becomes the output
 *     .quantize-NAME-<16 digits>/done/     a record for each file of tensors that is complete: its bytes and SHA-256
 *     .quantize-NAME-<16 digits>/work/     the file that is made
 *
 * The digits depend on all that decides the bytes: options, tensors, and the inputs as they are. Each file is moved
 * from work/ to files/ in one step, and its record follows. So a kill between any two steps loses one file at most.
 */
#include "resume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "output.h"
#include "target.h"

enum { DIGITS = 16, RECORD = 256 };

typedef struct stage {
    const settings *s;
    char *target, *path; /* of the output, and of the folder beside it */
    qz_shard *shards;
    size_t count;
    unsigned char *ready; /* of each file: an earlier run completed it */
    int lock;
    settings step;     /* those of the run, with another output */
    char part[24];     /* which file of the folder that is */
    char *work, *made; /* where it is made */
    char *ended;       /* the name of `path` while it is removed, because the output is complete */
    int complete;      /* an earlier run was killed then */
} stage;

/* ---- paths ---- */

/* The parts with nothing between them, in memory of their own. */
static char *join(const char *a, const char *b, const char *c, const char *d)
{
    const size_t room = strlen(a) + strlen(b) + strlen(c) + strlen(d) + 1;
    char *whole = malloc(room);
    if (whole)
        snprintf(whole, room, "%s%s%s%s", a, b, c, d);
    else
        fail_memory();
    return whole;
}

/* The first n characters, likewise. */
static char *copy_of(const char *text, size_t n)
{
    char *copy = strndup(text, n);
    if (!copy)
        fail_memory();
    return copy;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status, (void)kind, (void)place;
    return remove(path);
}

/* Removes a folder with all in it, if it is there; links are not followed. Returns 0 if something stays. */
static int remove_tree(const char *path)
{
    enum { OPEN = 8 };
    return nftw(path, remove_one, OPEN, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT;
}

static int sync_folder(const stage *st, const char *path)
{
    const int fd = st->s->output.no_fsync ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int code = st->s->output.no_fsync || (fd >= 0 && fsync(fd) == 0) ? DONE : fail_system(path, errno);
    if (fd >= 0)
        close(fd);
    return code;
}

static int make_folder(const char *path)
{
    return mkdir(path, 0777) == 0 || errno == EEXIST ? DONE : fail_system(path, errno);
}

static int is_there(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0;
}

/* Whether a folder has nothing in it; what is no folder has. */
static int is_empty(const char *path)
{
    DIR *list = opendir(path);
    const struct dirent *found = NULL;
    int empty = list != NULL;
    while (list && empty && (found = readdir(list)) != NULL)
        empty = strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0;
    if (list)
        closedir(list);
    return empty;
}

/* ---- what the bytes depend on ---- */

static void add_text(sha256 *h, const char *text)
{
    sha256_add(h, text, strlen(text) + 1);
}

void key_number(sha256 *h, uint64_t number)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, number);
    add_text(h, text);
}

/* A file's path, bytes and time of change; of parts, the names in its folder say which they are. */
int key_input(sha256 *h, const qz_file *file)
{
    const char *path = file ? qz_file_path(file, 0) : NULL, *slash = path ? strrchr(path, '/') : NULL, *name;
    int code = DONE;
    for (size_t i = 0; file && (name = qz_file_path(file, i)) != NULL && code == DONE; i++) {
        struct stat status;
        char *start = copy_of(path, i != 0 && slash ? (size_t)(slash - path) + 1 : 0);
        char *whole = start ? join(start, name, "", "") : NULL;
        if (!whole || stat(whole, &status) != 0) {
            code = whole ? fail_system(whole, errno) : LIMIT;
        } else {
            add_text(h, whole);
            key_number(h, (uint64_t)status.st_size);
            key_number(h, (uint64_t)status.st_mtim.tv_sec);
            key_number(h, (uint64_t)status.st_mtim.tv_nsec);
        }
        free(start);
        free(whole);
    }
    return code;
}

void key_scheme(sha256 *h, const qz_scheme *scheme)
{
    const uint64_t numbers[] = {(uint64_t)scheme->codes,       (uint64_t)scheme->zero,    (uint64_t)scheme->scale_dtype,
                                (uint64_t)scheme->super_dtype, scheme->group_size,        scheme->super_size,
                                (uint64_t)scheme->rule,        (uint64_t)scheme->positive};
    add_text(h, scheme->name);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        key_number(h, numbers[i]);
    if (scheme->codes == QZ_TABLE && scheme->table)
        sha256_add(h, scheme->table, 16 * sizeof *scheme->table);
}

static int key_of(const parted *r, char digits[SHA256_TEXT])
{
    const settings *s = *r->s;
    sha256 h;
    sha256_begin(&h);
    add_text(&h, qz_version());
    add_text(&h, s->command);
    key_number(&h, s->output.max_shard_size);
    int code = key_input(&h, r->in->file);
    if (code == DONE)
        code = r->key(r->of, &h);
    sha256_end(&h, digits);
    digits[DIGITS] = '\0';
    return code;
}

/* ---- records ---- */

static char *record_path(const stage *st, size_t shard)
{
    char number[32];
    snprintf(number, sizeof number, "%zu", shard + 1);
    return join(st->path, "/done/", number, "");
}

/* What a record says of a file: its name, bytes and sum. Returns 0 if it cannot be read; without memory, which is said,
 * less than 0. */
static int describe(const char *folder, const char *name, char out[RECORD])
{
    enum { PIECE = 1 << 16 };
    char *path = join(folder, "/", name, ""), *piece = malloc(PIECE);
    if (path && !piece)
        fail_memory();
    FILE *file = path && piece ? fopen(path, "rb") : NULL;
    sha256 h;
    char sum[SHA256_TEXT];
    size_t n;
    sha256_begin(&h);
    while (file && (n = fread(piece, 1, PIECE, file)) != 0)
        sha256_add(&h, piece, n);
    const int fine = path && piece ? file && !ferror(file) : -1;
    const uint64_t bytes = h.length;
    if (file)
        fclose(file);
    sha256_end(&h, sum);
    snprintf(out, RECORD, "%s %" PRIu64 " %s\n", name, bytes, sum);
    free(path);
    free(piece);
    return fine;
}

/* Whether a file is recorded, and lies in the folder as the record says; less than 0 without memory. */
static int is_recorded(const stage *st, size_t shard, const char *folder)
{
    char said[RECORD] = "", is[RECORD];
    char *path = record_path(st, shard);
    if (!path)
        return -1;
    FILE *file = fopen(path, "rb");
    size_t n = file ? fread(said, 1, sizeof said - 1, file) : 0;
    if (file)
        fclose(file);
    free(path);
    const int fine = n != 0 ? describe(folder, st->shards[shard].name, is) : 0;
    return fine > 0 ? strcmp(said, is) == 0 : fine;
}

/* Writes the record, which is there whole, and on the medium, or not at all. */
static int record(const stage *st, size_t shard, const char *folder)
{
    char text[RECORD];
    char *beside = join(st->work, "/text", "", ""), *path = record_path(st, shard), *done = NULL;
    int code = beside && path ? DONE : LIMIT;
    const int fine = code == DONE ? describe(folder, st->shards[shard].name, text) : 1;
    if (fine <= 0)
        code = fine < 0 ? LIMIT : fail_system(st->shards[shard].name, errno);
    FILE *file = code == DONE ? fopen(beside, "wb") : NULL;
    if (code == DONE && !file)
        code = fail_system(beside, errno);
    if (file && (fputs(text, file) < 0 || fflush(file) != 0 || (!st->s->output.no_fsync && fsync(fileno(file)) != 0)))
        code = fail_system(beside, errno);
    if (file)
        fclose(file);
    if (code == DONE && rename(beside, path) != 0)
        code = fail_system(path, errno);
    if (code == DONE)
        code = (done = join(st->path, "/done", "", "")) != NULL ? sync_folder(st, done) : LIMIT;
    free(beside);
    free(path);
    free(done);
    return code;
}

/* ---- one file ---- */

/* Gets ready for one part of the folder: "3", "rest" or "list". */
static int begin_part(const parted *r, stage *st, uint64_t part, const char *word)
{
    r->forget(r->of);
    *r->part = part;
    *r->writer = NULL;
    snprintf(st->part, sizeof st->part, "%s", word);
    remove_tree(st->work);
    return make_folder(st->work);
}

/* Moves what was made to the files of the output. */
static int keep_made(const stage *st, const char *files)
{
    struct dirent **names;
    const int count = scandir(st->made, &names, NULL, NULL);
    int code = count >= 0 ? DONE : fail_system(st->made, errno);
    for (int i = 0; i < count; i++) {
        const char *name = names[i]->d_name;
        const int is_file = strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
        char *from = join(st->made, "/", name, ""), *to = join(files, "/", name, "");
        if (!from || !to)
            code = LIMIT;
        else if (code == DONE && is_file && rename(from, to) != 0)
            code = fail_system(to, errno);
        free(from);
        free(to);
        free(names[i]);
    }
    if (count >= 0)
        free(names);
    return code == DONE ? sync_folder(st, files) : code;
}

static int make_file(const parted *r, stage *st, size_t shard, const char *files)
{
    char word[24];
    snprintf(word, sizeof word, "%zu", shard + 1);
    int code = begin_part(r, st, shard + 1, word);
    if (code == DONE)
        code = r->make(r->of);
    if (code == DONE)
        code = keep_made(st, files);
    return code == DONE ? record(st, shard, files) : code;
}

/* Makes all that is no file of tensors, anew each time: it may have changed, and is small. */
static int make_rest(const parted *r, stage *st, const char *files)
{
    struct dirent **names;
    const int count = scandir(files, &names, NULL, NULL);
    int code = count >= 0 ? begin_part(r, st, QZ_PART_REST, "rest") : fail_system(files, errno);
    for (int i = 0; i < count; i++) {
        size_t shard = 0;
        while (shard < st->count && strcmp(st->shards[shard].name, names[i]->d_name) != 0)
            shard++;
        const char *name = names[i]->d_name;
        const int goes = shard == st->count && code == DONE && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
        char *path = goes ? join(files, "/", name, "") : NULL;
        if (path)
            remove_tree(path);
        else if (goes)
            code = LIMIT;
        free(path);
        free(names[i]);
    }
    if (count >= 0)
        free(names);
    if (code == DONE)
        code = r->make(r->of);
    return code == DONE ? keep_made(st, files) : code;
}

/* ---- the plan ---- */

/* Lists the files of the folder, and which of them lie in `folder` and are recorded. */
static int list_files(const parted *r, stage *st, const char *folder)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    int code = begin_part(r, st, QZ_PART_REST, "list");
    if (code == DONE)
        code = r->open(r->of);
    if (code == DONE && qz_shard_count(*r->writer, &st->count, &error) != QZ_FILE_OK)
        code = fail_file(&error);
    st->shards = calloc(st->count + 1, sizeof *st->shards);
    st->ready = calloc(st->count + 1, 1);
    if (code == DONE && (!st->shards || !st->ready))
        code = fail_memory();
    for (size_t i = 0; i < st->count && code == DONE; i++) {
        st->shards[i].size = sizeof st->shards[i];
        if (qz_shard_at(*r->writer, i, &st->shards[i], &error) != QZ_FILE_OK) {
            code = fail_file(&error);
        } else {
            const int found = st->complete ? 1 : is_recorded(st, i, folder);
            st->ready[i] = found > 0;
            code = found < 0 ? LIMIT : DONE;
        }
        if (stop_requested())
            code = 128 + stop_requested();
    }
    for (size_t i = 0; i < r->in->count && code == DONE; i++) {
        const size_t index = r->index(r->of, i);
        for (size_t k = 0; k < st->count; k++)
            if (st->ready[k] && index >= st->shards[k].first && index - st->shards[k].first < st->shards[k].count)
                r->mark(r->of, i);
    }
    qz_abort(*r->writer);
    *r->writer = NULL;
    return code;
}

static size_t count_ready(const stage *st)
{
    size_t n = 0;
    for (size_t i = 0; st->ready && i < st->count; i++)
        n += st->ready[i] != 0;
    return n;
}

/* ---- the folder beside the output ---- */

/* The output, and where it is made. */
static int find_places(const parted *r, stage *st)
{
    char digits[SHA256_TEXT];
    int code = key_of(r, digits);
    size_t length = strlen(st->s->files[1]);
    while (length > 1 && st->s->files[1][length - 1] == '/')
        length--;
    if (code != DONE)
        return code;
    st->target = copy_of(st->s->files[1], length);
    if (!st->target)
        return LIMIT;
    const char *slash = strrchr(st->target, '/'), *base = slash ? slash + 1 : st->target;
    char *folder = copy_of(st->target, (size_t)(base - st->target));
    char *name = folder ? join(".quantize-", base, "-", digits) : NULL;
    st->path = name ? join(folder, name, "", "") : NULL;
    st->work = st->path ? join(st->path, "/work", "", "") : NULL;
    st->made = st->work ? join(st->work, "/part", "", "") : NULL;
    st->ended = st->made ? join(st->path, ".end", "", "") : NULL;
    free(folder);
    free(name);
    st->step.files[1] = st->made;
    return st->ended ? DONE : LIMIT;
}

static int fail_target(const stage *st, const char *why)
{
    char shown[NAME_TEXT];
    return fail(REFUSED, "%s: %s", qz_escape(st->target, strlen(st->target), shown, sizeof shown), why);
}

static int fail_taken(const stage *st)
{
    return fail_target(st, "exists already, and is no empty folder; choose another name, or remove it");
}

/* Opens the folder, which is this run's alone until it ends; st->lock stays -1 where another run has it. */
static int open_stage(stage *st)
{
    char *done = join(st->path, "/done", "", "");
    int code = done ? make_folder(st->path) : LIMIT;
    const int fd = code == DONE ? open(st->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (code == DONE && fd < 0)
        code = fail_system(st->path, errno);
    if (code == DONE && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        code = fail_target(st, "another run is making this folder; wait until it ends");
    if (code == DONE) {
        st->lock = fd;
        code = make_folder(done);
    } else if (fd >= 0) {
        close(fd);
    }
    free(done);
    return code;
}

/* Says what runs of other inputs or options left of this output. */
static void say_others(const stage *st)
{
    const char *own = strrchr(st->path, '/') ? strrchr(st->path, '/') + 1 : st->path;
    const size_t length = strlen(own) - DIGITS, before = (size_t)(own - st->path);
    char *folder = before != 0 ? strndup(st->path, before) : strdup("."), shown[NAME_TEXT];
    DIR *list = folder ? opendir(folder) : NULL;
    const struct dirent *found;
    while (list && (found = readdir(list)) != NULL)
        if (strlen(found->d_name) == length + DIGITS && strncmp(found->d_name, own, length) == 0 &&
            strcmp(found->d_name, own) != 0)
            say("note: %s is what a run with other inputs or options left; remove it if that is not to go on",
                qz_escape(found->d_name, strlen(found->d_name), shown, sizeof shown));
    if (list)
        closedir(list);
    free(folder);
}

/* ---- the whole ---- */

static int make_all(const parted *r, stage *st, const char *files)
{
    const size_t before = count_ready(st);
    int code = DONE;
    if (before != 0)
        say("%zu of %zu files are complete and are not made again", before, st->count);
    for (size_t i = 0; i < st->count && code == DONE; i++) {
        if (st->ready[i])
            continue;
        code = make_file(r, st, i, files);
        st->ready[i] = code == DONE;
    }
    if (code == DONE)
        code = make_rest(r, st, files);
    if (code == DONE && rename(files, st->target) != 0)
        code = fail_system(st->target, errno);
    return code;
}

/* What is left of a run that failed: the files that are complete, or nothing. While the folder of one that did not fail
 * is removed it has another name, so that nobody takes it for less than that. */
static void end_stage(const stage *st, int code)
{
    const size_t ready = count_ready(st);
    const char *old = code != DONE && ready != 0                         ? st->work
                      : code == DONE && rename(st->path, st->ended) == 0 ? st->ended
                                                                         : st->path;
    char shown[NAME_TEXT];
    if (!remove_tree(old))
        say("note: %s could not be removed: %s", qz_escape(old, strlen(old), shown, sizeof shown), strerror(errno));
    if (code != DONE && ready != 0)
        say("%zu of %zu files are complete, in %s; --resume goes on with them", ready, st->count,
            qz_escape(st->path, strlen(st->path), shown, sizeof shown));
}

static int work_in_stage(const parted *r, stage *st)
{
    char *files = join(st->path, "/files", "", ""), *folder = NULL;
    const int taken = is_there(st->target) && !is_empty(st->target);
    const int resumed = is_there(st->path);
    /* A run that was killed when it had given the folder its name left only what lay beside it, or some of that. */
    st->complete = taken && is_there(st->ended);
    if (!taken)
        remove_tree(st->ended);
    const int named = st->complete || (taken && resumed && files && !is_there(files));
    if (taken && !named) {
        free(files);
        return fail_taken(st);
    }
    if (st->complete && !resumed && rename(st->ended, st->path) != 0)
        st->complete = 0;
    int code = files ? open_stage(st) : LIMIT;
    if (code == DONE)
        say_others(st);
    if (code == DONE && !named)
        code = make_folder(files);
    if (code == DONE)
        code = list_files(r, st, named ? st->target : files);
    if (code == DONE && named && count_ready(st) != st->count)
        code = fail_taken(st);
    else if (code == DONE && !named)
        code = make_all(r, st, files);
    if (code == DONE && !st->s->output.no_fsync) {
        const char *slash = strrchr(st->target, '/');
        folder = slash ? copy_of(st->target, (size_t)(slash - st->target) + 1) : copy_of(".", 1);
        code = folder ? sync_folder(st, folder) : LIMIT;
    }
    if (st->lock >= 0)
        end_stage(st, code);
    free(folder);
    free(files);
    return code;
}

int resume_check(const settings *s)
{
    if (!s->output.resume)
        return DONE;
    if (s->output.part || s->output.dry_run || s->say.stats || s->output.report)
        return fail(USAGE, "--resume goes with none of --part, --dry-run, --stats and --report");
    return qz_layout_of_output(s->files[1])
               ? fail(USAGE, "--resume is for outputs that are folders: choose a name without the extension of a file")
               : DONE;
}

int make_resumable(const parted *r)
{
    const settings *s = *r->s;
    if (!target_layout(s, r->in))
        return fail(USAGE, "--resume is for outputs that are folders: those of a model in a folder");
    stage st = {.s = s, .step = *s, .lock = -1};
    st.step.output.part = st.part;
    int code = find_places(r, &st);
    *r->s = &st.step;
    if (code == DONE)
        code = work_in_stage(r, &st);
    *r->s = st.s;
    *r->part = 0;
    if (st.lock >= 0)
        close(st.lock);
    free(st.target);
    free(st.path);
    free(st.work);
    free(st.made);
    free(st.ended);
    free(st.shards);
    free(st.ready);
    return code;
}
