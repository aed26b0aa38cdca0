/*
 * input.c - a file to read: opened safely, read exactly
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECE = 1 << 30 }; /* some systems refuse to move more in one call */

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

static void time_of_change(const struct stat *status, int64_t changed[2])
{
#if defined(__APPLE__)
    changed[0] = status->st_mtimespec.tv_sec, changed[1] = status->st_mtimespec.tv_nsec;
#else
    changed[0] = status->st_mtim.tv_sec, changed[1] = status->st_mtim.tv_nsec;
#endif
}

static const char *kind_of(mode_t mode)
{
    return S_ISDIR(mode) ? "a folder" : S_ISFIFO(mode) ? "a pipe" : S_ISSOCK(mode) ? "a socket" : "a device";
}

qz_file_result qz_input_open(qz_input *input, const char *path, qz_file_error *error)
{
    char label[200];
    qz_escape(path, strlen(path), label, sizeof label);
    *input = (qz_input){.fd = -1};
    struct stat status;
    /* O_NONBLOCK: opening a pipe must not wait for its other end. Devices may act on being opened, so they are ruled
     * out beforehand; fstat() then speaks of what was really opened. */
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode))
        return qz_fail(error, QZ_FILE_FORMAT, label, NULL, QZ_NO_OFFSET, "is %s, not a regular file",
                       kind_of(status.st_mode));
    int fd = qz_above_standard(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (fd < 0)
        return qz_fail_errno(error, label, "open");
    if (fstat(fd, &status) != 0) {
        qz_file_result result = qz_fail_errno(error, label, "open");
        close(fd);
        return result;
    }
    if (!S_ISREG(status.st_mode)) {
        close(fd);
        return qz_fail(error, QZ_FILE_FORMAT, label, NULL, QZ_NO_OFFSET, "is %s, not a regular file",
                       kind_of(status.st_mode));
    }
    input->label = strdup(label);
    if (input->label == NULL) {
        close(fd);
        return qz_fail_memory(error, label);
    }
    input->fd = fd;
    input->size = (uint64_t)status.st_size;
    input->device = status.st_dev;
    input->inode = status.st_ino;
    time_of_change(&status, input->changed);
    return QZ_FILE_OK;
}

void qz_input_close(qz_input *input)
{
    if (input->fd >= 0)
        close(input->fd);
    free(input->label);
    *input = (qz_input){.fd = -1};
}

qz_file_result qz_input_read(const qz_input *input, uint64_t offset, void *dst, size_t bytes, qz_file_error *error)
{
    if (!qz_within(offset, bytes, input->size))
        return qz_fail(error, QZ_FILE_FORMAT, input->label, NULL, offset, "the file ends before this point");
    if (qz_pread_all(input->fd, dst, bytes, offset))
        return QZ_FILE_OK;
    if (errno == 0)
        return qz_fail(error, QZ_FILE_FORMAT, input->label, NULL, offset, "the file became shorter while it was read");
    return qz_fail_errno(error, input->label, "read");
}

qz_file_result qz_unchanged(const qz_file *file, qz_file_error *error)
{
    struct stat status;
    int64_t changed[2];
    if (fstat(file->input.fd, &status) != 0)
        return qz_fail_errno(error, file->input.label, "read");
    time_of_change(&status, changed);
    if ((uint64_t)status.st_size == file->input.size && changed[0] == file->input.changed[0] &&
        changed[1] == file->input.changed[1])
        return QZ_FILE_OK;
    return qz_fail(error, QZ_FILE_FORMAT, file->input.label, NULL, QZ_NO_OFFSET,
                   "the file changed while it was read; try again when nothing writes to it");
}
