/*
 * What the tests take of POSIX and files/windows/ has not; included before each source, as posix.h is. A test that wants
 * to fork, or files that there are none of on Windows, is skipped, by its name.
 */
#ifndef QZ_EMULATED_POSIX_H
#define QZ_EMULATED_POSIX_H

#include "../../../files/windows/posix.h"

/* The signal for memory that cannot be touched is one for all there; the others never come. */
enum { SIGBUS = SIGSEGV, SIGKILL = 9, SIGALRM = 14 };

#define fork()                (skip(), -1)
#define symlink(target, at)   (skip(), -1)
#define mkfifo(at, mode)      (skip(), -1)
#define umask(mode)           (skip(), (mode_t)(mode))
#define alarm(seconds)        ((void)(seconds))
#define setenv(name, to, way) _putenv_s(name, to)
#define unsetenv(name)        _putenv_s(name, "")
#define link(path, name)      linkat(AT_FDCWD, path, AT_FDCWD, name, 0)
#define rmdir(path)           unlinkat(AT_FDCWD, path, AT_REMOVEDIR)

#undef read
#undef write
#define read     _read
#define write    _write
#define truncate truncate_file
#define memmem   find_bytes

/* Below /tmp of the drive. */
static inline char *mkdtemp(char *path)
{
    unsigned char random[6];
    if (getentropy(random, sizeof random) != 0)
        return NULL;
    for (size_t i = 0; i < sizeof random; i++)
        path[strlen(path) - sizeof random + i] = (char)('a' + random[i] % 26);
    (void)mkdir("/tmp", 0700);
    return mkdir(path, 0700) == 0 ? path : NULL;
}

static inline int truncate_file(const char *path, int64_t bytes)
{
    const int fd = open(path, O_RDWR);
    const int code = fd >= 0 ? ftruncate(fd, bytes) : -1;
    if (fd >= 0)
        close(fd);
    return code;
}

static inline void *find_bytes(const void *in, size_t room, const void *what, size_t bytes)
{
    const char *at = in;
    for (; room >= bytes; at++, room--)
        if (memcmp(at, what, bytes) == 0)
            return (void *)(uintptr_t)at;
    return NULL;
}

#endif
