/*
 * descriptor.c - reads and writes all bytes that are asked for from an open descriptor
 *
 * The functions repeat short calls and calls that a signal interrupted. They know no paths and no formats.
 */
#include "descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
    PIECE = 1 << 30,   /* some systems refuse to move more in one call */
    RESERVED = 1 << 20 /* bytes from which on a file asks for its room */
};

int qz_above_standard(int fd)
{
    if (fd < 0 || fd > 2)
        return fd;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3), before = errno;
    close(fd);
    errno = before;
    return copy;
}

int qz_pread_all(int fd, void *dst, size_t bytes, uint64_t offset)
{
    for (char *to = dst; bytes != 0;) {
        ssize_t n = pread(fd, to, bytes < PIECE ? bytes : PIECE, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            if (n == 0)
                errno = 0;
            return 0;
        }
        to += n;
        bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 1;
}

int qz_pwrite_all(int fd, const void *src, size_t bytes, uint64_t offset)
{
    for (const char *from = src; bytes != 0;) {
        ssize_t n = pwrite(fd, from, bytes < PIECE ? bytes : PIECE, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            if (n == 0)
                errno = ENOSPC;
            return 0;
        }
        from += n;
        bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 1;
}

void qz_reserve(int fd, uint64_t bytes)
{
#if defined(FALLOC_FL_KEEP_SIZE)
    if (bytes > RESERVED && bytes <= INT64_MAX && fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes) == 0)
        return;
#else
    (void)fd, (void)bytes;
#endif
}

int qz_sync(int fd)
{
#if defined(F_FULLFSYNC)
    if (fcntl(fd, F_FULLFSYNC) == 0)
        return 0;
#endif
    return fsync(fd);
}

int qz_sync_folder(int fd)
{
    return fsync(fd) == 0 || errno == EINVAL || errno == ENOSYS || errno == ENOTSUP;
}
