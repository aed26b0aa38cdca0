/*
 * faults.c - loaded before the C library: the n-th call of a kind fails, or the process is killed there
 *
 * QZ_FAULT is KIND, n and what happens there: "once" the call fails, it "stays" so from there on, or "kill"; "spoil", of
 * a write, turns a bit of what is written. Without it all calls are counted; QZ_FAULT_COUNTS names the file that says how many there were of each kind.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum kind { MALLOC, OPEN, CREATE, READ, WRITE, SYNC, RENAME, REMOVE, STAT, CLOSE, CHANGE, FULL, KINDS };
static const char *const names[KINDS] = {"malloc", "open",   "create", "read",  "write",  "sync",
                                         "rename", "remove", "stat",   "close", "change", "full"};
static long counts[KINDS];
static enum kind armed = KINDS;
static long place;
static int begun, stays, kills, spoils;

/* Counts a call; whether it is to fail. */
static int is_the_one(enum kind kind)
{
    long n = ++counts[kind];
    if (kind != armed || n < place || (n > place && !stays))
        return 0;
    if (kills)
        raise(SIGKILL);
    return 1;
}

static int fails(enum kind kind, int code)
{
    if (!begun)
        return 0;
    int changes = kind == CREATE || kind == WRITE || kind == SYNC || kind == RENAME || kind == REMOVE;
    int grows = kind == CREATE || kind == WRITE;
    int failed = is_the_one(kind);
    failed |= changes && is_the_one(CHANGE);
    failed |= grows && is_the_one(FULL);
    if (failed)
        errno = code;
    return failed;
}

static void *next(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    return found;
}

/* The function of that name behind this one. */
#define NEXT(name) ((__typeof__(&name))next(#name))

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t each);
extern void *__libc_realloc(void *old, size_t n);
extern void *__libc_memalign(size_t alignment, size_t n);

void *malloc(size_t n)
{
    return fails(MALLOC, ENOMEM) ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t each)
{
    return fails(MALLOC, ENOMEM) ? NULL : __libc_calloc(n, each);
}

void *realloc(void *old, size_t n)
{
    return fails(MALLOC, ENOMEM) ? NULL : __libc_realloc(old, n);
}

int posix_memalign(void **out, size_t alignment, size_t n)
{
    void *found = fails(MALLOC, ENOMEM) ? NULL : __libc_memalign(alignment, n);
    if (found)
        *out = found;
    return found ? 0 : ENOMEM;
}

/* The C library's own expressions free memory twice without memory (2.36), so they fail as a whole. */
int regcomp(regex_t *out, const char *text, int flags)
{
    int was = begun, failed = fails(MALLOC, ENOMEM);
    begun = 0;
    int code = failed ? REG_ESPACE : NEXT(regcomp)(out, text, flags);
    begun = was;
    return code;
}

int regexec(const regex_t *expression, const char *text, size_t n, regmatch_t matches[_Restrict_arr_ _REGEX_NELTS(n)],
            int flags)
{
    int was = begun, failed = fails(MALLOC, ENOMEM);
    begun = 0;
    int code = failed ? REG_ESPACE : NEXT(regexec)(expression, text, n, matches, flags);
    begun = was;
    return code;
}

static int open_fails(int flags)
{
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? fails(CREATE, ENOSPC) : fails(OPEN, EACCES);
}

#define MODE(flags)                                                                                                    \
    va_list more;                                                                                                      \
    va_start(more, flags);                                                                                             \
    mode_t mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, mode_t) : 0;                      \
    va_end(more)

int open(const char *path, int flags, ...)
{
    MODE(flags);
    return open_fails(flags) ? -1 : NEXT(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE(flags);
    return open_fails(flags) ? -1 : NEXT(open64)(path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...)
{
    MODE(flags);
    return open_fails(flags) ? -1 : NEXT(openat64)(at, path, flags, mode);
}

static int stream_fails(const char *mode)
{
    return open_fails(mode[0] == 'r' ? O_RDONLY : O_CREAT);
}

FILE *fopen(const char *path, const char *mode)
{
    return stream_fails(mode) ? NULL : NEXT(fopen)(path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
    return stream_fails(mode) ? NULL : NEXT(fopen64)(path, mode);
}

int mkstemp64(char *pattern)
{
    return fails(CREATE, ENOSPC) ? -1 : NEXT(mkstemp64)(pattern);
}

int mkdir(const char *path, mode_t mode)
{
    return fails(CREATE, ENOSPC) ? -1 : NEXT(mkdir)(path, mode);
}

int mkdirat(int at, const char *path, mode_t mode)
{
    return fails(CREATE, ENOSPC) ? -1 : NEXT(mkdirat)(at, path, mode);
}

DIR *opendir(const char *path)
{
    return fails(OPEN, EACCES) ? NULL : NEXT(opendir)(path);
}

int scandir64(const char *path, struct dirent64 ***out, int (*wanted)(const struct dirent64 *),
              int (*order)(const struct dirent64 **, const struct dirent64 **))
{
    return fails(OPEN, EACCES) ? -1 : NEXT(scandir64)(path, out, wanted, order);
}

ssize_t pread64(int fd, void *dst, size_t n, off64_t at)
{
    return fails(READ, EIO) ? -1 : NEXT(pread64)(fd, dst, n, at);
}

size_t fread(void *dst, size_t each, size_t n, FILE *stream)
{
    if (!fails(READ, EIO))
        return NEXT(fread)(dst, each, n, stream);
    stream->_flags |= 0x20; /* ferror() of glibc */
    return 0;
}

/* A full disk takes a part before it says so. */
ssize_t pwrite64(int fd, const void *src, size_t n, off64_t at)
{
    if (spoils && begun) {
        char *copy = memcpy(__libc_malloc(n), src, n); /* which is not freed: the program ends soon */
        copy[n / 2] ^= (char)(is_the_one(WRITE) ? 4 : 0);
        return NEXT(pwrite64)(fd, copy, n, at);
    }
    if (!fails(WRITE, ENOSPC))
        return NEXT(pwrite64)(fd, src, n, at);
    if (n > 1)
        (void)!NEXT(pwrite64)(fd, src, n / 2, at);
    errno = ENOSPC;
    return -1;
}

int ftruncate64(int fd, off64_t n)
{
    return fails(WRITE, ENOSPC) ? -1 : NEXT(ftruncate64)(fd, n);
}

int fflush(FILE *stream)
{
    int is_output = stream && stream != stdout && stream != stderr; /* what is said is another matter */
    return is_output && fails(WRITE, ENOSPC) ? EOF : NEXT(fflush)(stream);
}

int fsync(int fd)
{
    return fails(SYNC, EIO) ? -1 : NEXT(fsync)(fd);
}

int rename(const char *from, const char *to)
{
    return fails(RENAME, EACCES) ? -1 : NEXT(rename)(from, to);
}

int renameat(int from, const char *a, int to, const char *b)
{
    return fails(RENAME, EACCES) ? -1 : NEXT(renameat)(from, a, to, b);
}

int linkat(int from, const char *a, int to, const char *b, int flags)
{
    return fails(RENAME, EACCES) ? -1 : NEXT(linkat)(from, a, to, b, flags);
}

/* That something cannot be removed is only a place to be killed at. */
int unlink(const char *path)
{
    (void)fails(REMOVE, 0);
    return NEXT(unlink)(path);
}

int unlinkat(int at, const char *path, int flags)
{
    (void)fails(REMOVE, 0);
    return NEXT(unlinkat)(at, path, flags);
}

int remove(const char *path)
{
    (void)fails(REMOVE, 0);
    return NEXT(remove)(path);
}

int fstat64(int fd, struct stat64 *status)
{
    return fails(STAT, EIO) ? -1 : NEXT(fstat64)(fd, status);
}

int stat64(const char *path, struct stat64 *status)
{
    return fails(STAT, EIO) ? -1 : NEXT(stat64)(path, status);
}

int fchmod(int fd, mode_t mode)
{
    return fails(STAT, EPERM) ? -1 : NEXT(fchmod)(fd, mode);
}

int close(int fd)
{
    int result = NEXT(close)(fd);
    return fails(CLOSE, EIO) ? -1 : result;
}

int fclose(FILE *stream)
{
    int is_output = stream != stdout && stream != stderr, result = NEXT(fclose)(stream);
    return is_output && fails(CLOSE, EIO) ? EOF : result;
}

__attribute__((constructor)) static void begin(void)
{
    const char *said = getenv("QZ_FAULT");
    char kind[20], how[20];
    if (said && sscanf(said, "%19s %ld %19s", kind, &place, how) == 3) {
        for (armed = 0; armed < KINDS && strcmp(names[armed], kind) != 0;)
            armed++;
        stays = strcmp(how, "stays") == 0;
        kills = strcmp(how, "kill") == 0;
        spoils = strcmp(how, "spoil") == 0;
    }
    begun = 1;
}

__attribute__((destructor)) static void end(void)
{
    begun = 0;
    const char *path = getenv("QZ_FAULT_COUNTS");
    FILE *out = path ? fopen(path, "w") : NULL;
    for (int kind = 0; out && kind < KINDS; kind++)
        fprintf(out, "%s %ld\n", names[kind], counts[kind]);
    if (out)
        fclose(out);
}
