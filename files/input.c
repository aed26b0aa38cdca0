/*
 * input.c - a file that is read: opened safely, and read exactly
 *
 * A read returns all bytes that were asked for, or an error. A path from a file or folder (not from the caller) is
 * followed only within its folder (inside.h).
 */
#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checked.h"
#include "descriptor.h"
#include "error.h"
#include "inside.h"

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

/* O_NONBLOCK: opening a pipe must not wait for its other end. */
static int open_to_read(int folder, const char *path)
{
    return qz_above_standard(openat(folder, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
}

static qz_file_result refuse_kind(const char *label, mode_t mode, qz_file_error *error)
{
    return qz_fail(error, QZ_FILE_FORMAT, label, NULL, QZ_NO_OFFSET, "is %s, not a regular file", kind_of(mode));
}

/* A file whose name the caller chose: wherever links lead to. */
static int open_anywhere(int folder, const char *path, struct stat *status)
{
    if (fstatat(folder, path, status, 0) == 0 && !S_ISREG(status->st_mode))
        return -1;
    return open_to_read(folder, path);
}

/* A file that a folder or another file names. *wrong is why it is not followed, if it is not. */
static int open_inside(int folder, const char *path, struct stat *status, const char **wrong)
{
    qz_inside place;
    int fd = -1;
    *wrong = qz_inside_find(folder, path, &place);
    if (*wrong)
        return -1;
    if (qz_inside_status(&place, status) != 0 || S_ISREG(status->st_mode))
        fd = qz_inside_open(&place);
    int why = errno;
    qz_inside_free(&place);
    errno = why;
    return fd;
}

/* Opens a regular file and says what it is. Devices may act on being opened, so they are ruled out beforehand; fstat()
 * then speaks of what was really opened. */
static qz_file_result open_regular(const qz_input *input, const char *path, const char *label, int *fd,
                                   struct stat *status, qz_file_error *error)
{
    const char *wrong = NULL;
    status->st_mode = S_IFREG;
    *fd = input->inside ? open_inside(input->folder, path, status, &wrong) : open_anywhere(input->folder, path, status);
    if (wrong && wrong[0] != '\0')
        return qz_fail(error, QZ_FILE_FORMAT, label, NULL, QZ_NO_OFFSET, "%s", wrong);
    if (*fd < 0 && !S_ISREG(status->st_mode))
        return refuse_kind(label, status->st_mode, error);
    qz_file_result result = QZ_FILE_OK;
    if (*fd < 0 || fstat(*fd, status) != 0)
        result = qz_fail_errno(error, label, "open");
    else if (!S_ISREG(status->st_mode))
        result = refuse_kind(label, status->st_mode, error);
    if (result != QZ_FILE_OK && *fd >= 0)
        close(*fd);
    return result;
}

/* Keeps what is known of the file that was opened. */
static qz_file_result keep(qz_input *input, int fd, const struct stat *status, const char *path, const char *label,
                           qz_file_error *error)
{
    input->fd = fd;
    input->label = strdup(label);
    input->path = strdup(path);
    if (!input->label || !input->path) {
        qz_input_close(input);
        return qz_fail_memory(error, label);
    }
    input->size = (uint64_t)status->st_size;
    input->device = status->st_dev;
    input->inode = status->st_ino;
    time_of_change(status, input->changed);
    return QZ_FILE_OK;
}

static qz_file_result open_input(qz_input *input, const qz_input *how, const char *path, const char *shown,
                                 qz_file_error *error)
{
    char label[200];
    struct stat status;
    int fd;
    qz_escape(shown, strlen(shown), label, sizeof label);
    *input = *how;
    qz_file_result result = open_regular(input, path, label, &fd, &status, error);
    return result == QZ_FILE_OK ? keep(input, fd, &status, path, label, error) : result;
}

qz_file_result qz_input_open_in(qz_input *input, int folder, const char *path, const char *shown, qz_file_error *error)
{
    const qz_input how = {.fd = -1, .folder = folder};
    return open_input(input, &how, path, shown, error);
}

qz_file_result qz_input_open_inside(qz_input *input, int folder, const char *path, const char *shown,
                                    qz_file_error *error)
{
    const qz_input how = {.fd = -1, .folder = folder, .inside = 1};
    return open_input(input, &how, path, shown, error);
}

qz_file_result qz_input_adopt(qz_input *input, int fd, const char *path, qz_file_error *error)
{
    char label[200];
    struct stat status;
    qz_escape(path, strlen(path), label, sizeof label);
    *input = (qz_input){.fd = -1, .folder = AT_FDCWD};
    if (fstat(fd, &status) != 0) {
        close(fd);
        return qz_fail_errno(error, label, "read");
    }
    return keep(input, fd, &status, path, label, error);
}

qz_file_result qz_input_open(qz_input *input, const char *path, qz_file_error *error)
{
    return qz_input_open_in(input, AT_FDCWD, path, path, error);
}

void qz_input_close(qz_input *input)
{
    if (input->fd >= 0)
        close(input->fd);
    free(input->label);
    free(input->path);
    *input = (qz_input){.fd = -1};
}

void qz_input_park(qz_input *input)
{
    if (input->fd >= 0 && input->path) {
        close(input->fd);
        input->fd = -1;
    }
}

static int is_unchanged(const qz_input *input, const struct stat *status)
{
    int64_t changed[2];
    time_of_change(status, changed);
    return status->st_dev == input->device && status->st_ino == input->inode &&
           (uint64_t)status->st_size == input->size && changed[0] == input->changed[0] &&
           changed[1] == input->changed[1];
}

static qz_file_result fail_changed(const qz_input *input, qz_file_error *error)
{
    return qz_fail(error, QZ_FILE_FORMAT, input->label, NULL, QZ_NO_OFFSET,
                   "the file changed while it was read; try again when nothing writes to it");
}

qz_file_result qz_input_wake(qz_input *input, qz_file_error *error)
{
    struct stat status;
    int fd;
    if (input->fd >= 0)
        return QZ_FILE_OK;
    qz_file_result result = open_regular(input, input->path, input->label, &fd, &status, error);
    if (result != QZ_FILE_OK)
        return result;
    if (!is_unchanged(input, &status)) {
        close(fd);
        return fail_changed(input, error);
    }
    input->fd = fd;
    return QZ_FILE_OK;
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

qz_file_result qz_input_unchanged(const qz_input *input, qz_file_error *error)
{
    struct stat status;
    int got = input->fd >= 0 ? fstat(input->fd, &status) : fstatat(input->folder, input->path, &status, 0);
    if (got != 0)
        return qz_fail_errno(error, input->label, "read");
    return is_unchanged(input, &status) ? QZ_FILE_OK : fail_changed(input, error);
}

qz_file_result qz_window_read(qz_window *window, uint64_t offset, void *dst, size_t bytes, qz_file_error *error)
{
    const qz_input *input = window->input;
    if (bytes > sizeof window->data || !qz_within(offset, bytes, input->size))
        return qz_input_read(input, offset, dst, bytes, error);
    if (offset < window->start || !qz_within(offset - window->start, bytes, window->bytes)) {
        uint64_t left = input->size - offset;
        window->bytes = left < sizeof window->data ? (size_t)left : sizeof window->data;
        window->start = offset;
        qz_file_result result = qz_input_read(input, offset, window->data, window->bytes, error);
        if (result != QZ_FILE_OK) {
            window->bytes = 0;
            return result;
        }
    }
    memcpy(dst, window->data + (offset - window->start), bytes);
    return QZ_FILE_OK;
}
