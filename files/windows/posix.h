/*
 * posix.h - the functions of POSIX that files/ and cli/ use, for Windows
 *
 * mingw-w64 lacks some of them, and has others only for paths of one code page. The compiler includes this header
 * before each source, and it replaces each header that mingw-w64 lacks. Paths are UTF-8 and may be longer than 260
 * characters. Descriptors are those of the C library, always binary, and may also be those of folders. These functions
 * do less than in POSIX:
 *
 *     flock()      locks files, not folders: for these it fails as on file systems without locks
 *     fsync()      does nothing for folders, whose names Windows writes by itself
 *     rename()     replaces an empty folder by a folder in two steps, and replaces no file that another program has
 *                  open without sharing it
 *     readlink()   fails with ELOOP: links below a folder are not followed
 *     regexec()    says whether an extended expression matches bytes, not where
 */
#ifndef QZ_WINDOWS_POSIX_H
#define QZ_WINDOWS_POSIX_H

#ifndef _CRT_RAND_S
#define _CRT_RAND_S /* rand_s() */
#endif

#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* ---- files ---- */

enum {
    O_CLOEXEC = O_NOINHERIT,
    O_NOFOLLOW = 1 << 24,
    O_DIRECTORY = 1 << 25,
    O_NONBLOCK = 0,
    O_NOCTTY = 0,
    AT_FDCWD = -100,
    AT_SYMLINK_NOFOLLOW = 1,
    AT_SYMLINK_FOLLOW = 2,
    AT_REMOVEDIR = 4,
    F_GETFD = 1,
    F_DUPFD_CLOEXEC = 2,
    LOCK_EX = 1,
    LOCK_NB = 2
};

#define S_IFLNK     0xa000
#define S_IFSOCK    0xc000
#define S_ISLNK(m)  (((m)&S_IFMT) == S_IFLNK)
#define S_ISSOCK(m) (((m)&S_IFMT) == S_IFSOCK)

/* Those of mingw-w64 have too few bits. */
#define dev_t  uint64_t
#define ino_t  uint64_t
#define mode_t unsigned

#undef stat
#undef fstat
#define stat qz_windows_stat

struct stat {
    dev_t st_dev;
    ino_t st_ino;
    mode_t st_mode;
    unsigned st_uid;
    int64_t st_size;
    struct timespec st_mtim;
};

int qz_windows_stat(const char *path, struct stat *out);
int qz_windows_lstat(const char *path, struct stat *out);
int qz_windows_fstat(int fd, struct stat *out);
int qz_windows_fstatat(int folder, const char *path, struct stat *out, int flags);
int qz_windows_open(const char *path, int flags, ...);
int qz_windows_openat(int folder, const char *path, int flags, ...);
int qz_windows_fcntl(int fd, int command, ...);
int qz_windows_ftruncate(int fd, int64_t bytes);
int qz_windows_fchmod(int fd, mode_t mode);
int qz_windows_fsync(int fd);
int qz_windows_flock(int fd, int how);
ssize_t qz_windows_pread(int fd, void *dst, size_t bytes, int64_t offset);
ssize_t qz_windows_pwrite(int fd, const void *src, size_t bytes, int64_t offset);
int qz_windows_mkdir(const char *path, mode_t mode);
int qz_windows_mkdirat(int folder, const char *path, mode_t mode);
int qz_windows_linkat(int from, const char *path, int to, const char *name, int flags);
int qz_windows_renameat(int from, const char *path, int to, const char *name);
int qz_windows_rename(const char *path, const char *name);
ssize_t qz_windows_readlinkat(int folder, const char *path, char *out, size_t room);
int qz_windows_unlink(const char *path);
int qz_windows_unlinkat(int folder, const char *path, int flags);
int qz_windows_remove(const char *path);
int qz_windows_mkstemp(char *path);
FILE *qz_windows_fopen(const char *path, const char *mode);

#define lstat   qz_windows_lstat
#define fstat   qz_windows_fstat
#define fstatat qz_windows_fstatat
#define open    qz_windows_open
#define openat  qz_windows_openat
#define fcntl   qz_windows_fcntl
#undef ftruncate
#define ftruncate  qz_windows_ftruncate
#define fchmod     qz_windows_fchmod
#define fsync      qz_windows_fsync
#define flock      qz_windows_flock
#define pread      qz_windows_pread
#define pwrite     qz_windows_pwrite
#define mkdir      qz_windows_mkdir
#define mkdirat    qz_windows_mkdirat
#define linkat     qz_windows_linkat
#define renameat   qz_windows_renameat
#define rename     qz_windows_rename
#define readlinkat qz_windows_readlinkat
#define unlink     qz_windows_unlink
#define unlinkat   qz_windows_unlinkat
#define remove     qz_windows_remove
#define mkstemp    qz_windows_mkstemp
#define fopen      qz_windows_fopen

/* Functions of the project have these names, and no source calls those of the system. */
#define read  qz_windows_read
#define write qz_windows_write

/* ---- folders ---- */

struct dirent {
    char d_name[3 * 255 + 1]; /* a name has at most 255 units of UTF-16 */
};

typedef struct qz_windows_dir DIR;

DIR *qz_windows_opendir(const char *path);
DIR *qz_windows_fdopendir(int fd);
int qz_windows_dirfd(const DIR *list);
struct dirent *qz_windows_readdir(DIR *list);
int qz_windows_closedir(DIR *list);
int qz_windows_scandir(const char *path, struct dirent ***names, int (*select)(const struct dirent *),
                       int (*compare)(const struct dirent **, const struct dirent **));

#define opendir   qz_windows_opendir
#define fdopendir qz_windows_fdopendir
#define dirfd     qz_windows_dirfd
#define readdir   qz_windows_readdir
#define closedir  qz_windows_closedir
#define scandir   qz_windows_scandir

struct FTW {
    int base, level;
};
enum { FTW_F, FTW_DP, FTW_DEPTH = 1, FTW_PHYS = 2 };

/* Always what is in a folder before the folder itself, and through no links. */
int qz_windows_nftw(const char *path, int (*visit)(const char *, const struct stat *, int, struct FTW *), int most_open,
                    int flags);

#define nftw qz_windows_nftw

/* ---- names ---- */

#define QZ_PRINTF(text, first) __attribute__((format(gnu_printf, text, first)))

enum { FNM_NOMATCH = 1 };
int qz_windows_fnmatch(const char *pattern, const char *name, int flags);
#define fnmatch qz_windows_fnmatch

typedef struct regex_t {
    struct qz_windows_program *program;
} regex_t;
enum { REG_EXTENDED = 1, REG_NOSUB = 2, REG_NOMATCH = 1, REG_BADPAT = 2, REG_ESPACE = 12 };
int qz_windows_regcomp(regex_t *expression, const char *pattern, int flags);
int qz_windows_regexec(const regex_t *expression, const char *text, size_t count, void *found, int flags);
size_t qz_windows_regerror(int code, const regex_t *expression, char *out, size_t room);
void qz_windows_regfree(regex_t *expression);
#define regcomp  qz_windows_regcomp
#define regexec  qz_windows_regexec
#define regerror qz_windows_regerror
#define regfree  qz_windows_regfree

static inline char *qz_windows_strndup(const char *text, size_t most)
{
    size_t length = strnlen(text, most);
    char *copy = malloc(length + 1);
    if (copy) {
        memcpy(copy, text, length);
        copy[length] = '\0';
    }
    return copy;
}
#define strndup qz_windows_strndup

/* ---- the process and its terminal ---- */

enum { SIGHUP = 1, SIGPIPE = 13, SIGXFSZ = 25, SA_RESETHAND = 1 }; /* the first three never come */

#define sigaction qz_windows_sigaction

struct sigaction {
    void (*sa_handler)(int);
    int sa_flags, sa_mask;
};
int qz_windows_sigaction(int number, const struct sigaction *action, struct sigaction *before);

#define sigemptyset(set) (*(set) = 0)

static inline unsigned geteuid(void)
{
    return 0;
}

int qz_windows_getentropy(void *out, size_t bytes);
#define getentropy qz_windows_getentropy

enum { _SC_PAGESIZE, _SC_PHYS_PAGES };
long qz_windows_sysconf(int name);
#define sysconf qz_windows_sysconf

struct rusage {
    uint64_t ru_maxrss; /* bytes, as on macOS */
};
enum { RUSAGE_SELF };
int qz_windows_getrusage(int of, struct rusage *out);
#define getrusage qz_windows_getrusage

struct winsize {
    unsigned short ws_col;
};
enum { TIOCGWINSZ };
int qz_windows_ioctl(int fd, int what, struct winsize *size);
#define ioctl qz_windows_ioctl

/* A pipe without a reader is known by a write that fails. */
struct pollfd {
    int fd;
    short events, revents;
};
enum { POLLOUT = 1, POLLERR = 2, POLLHUP = 4 };

static inline int poll(struct pollfd *list, unsigned count, int milliseconds)
{
    (void)list, (void)count, (void)milliseconds;
    return 0;
}

#endif
