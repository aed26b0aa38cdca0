/*
 * output.c - an output file that appears under its name whole, or not at all
 *
 * If the system has files without a name (O_TMPFILE), a killed run leaves nothing behind. Otherwise the bytes go to a
 * temporary file in the target folder (temporary.h), which the next run removes.
 */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptor.h"
#include "error.h"
#include "output_folder.h"
#include "tensors.h"

/* Creates a locked temporary file that has a name. */
static int open_named(qz_output *output, mode_t mode)
{
    for (int i = 0; i < QZ_TEMPORARY_TRIES; i++) {
        qz_temporary_name(output->temp);
        int fd = qz_above_standard(
            openat(output->folder, output->temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
        if (fd >= 0) {
            if (qz_temporary_lock(output->folder, output->temp, fd))
                return fd;
            unlinkat(output->folder, output->temp, 0); /* if the run that took it for a leftover has not done so */
            close(fd);
            errno = EAGAIN;
        } else if (errno != EEXIST) {
            break;
        }
    }
    output->temp[0] = '\0';
    return -1;
}

static int open_unnamed(const qz_output *output, mode_t mode)
{
#if defined(O_TMPFILE) && !defined(QZ_NO_UNNAMED_FILES)
    /* Such a file gets its name through /proc. */
    if (access("/proc/self/fd", X_OK) == 0)
        return qz_above_standard(openat(output->folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode));
#else
    (void)output, (void)mode;
#endif
    return -1;
}

/* Gives the open file the name `name`; fails if there is something of that name. */
static int give_name(const qz_output *output, const char *name)
{
    if (output->temp[0] != '\0')
        return linkat(output->folder, output->temp, output->folder, name, 0);
    char link_name[40];
    snprintf(link_name, sizeof link_name, "/proc/self/fd/%d", output->fd);
    return linkat(AT_FDCWD, link_name, output->folder, name, AT_SYMLINK_FOLLOW);
}

static void release(qz_output *output)
{
    if (output->fd >= 0)
        close(output->fd);
    if (output->files >= 0)
        close(output->files);
    if (output->folder >= 0)
        close(output->folder);
    free(output->base);
    free(output->before);
    free(output->path);
    free(output->label);
    *output = (qz_output){.fd = -1, .folder = -1, .files = -1};
}

/* Checks what stands under the target name now. */
static qz_file_result check_target(const qz_output *output, const qz_create_options *options, mode_t *mode,
                                   qz_file_error *error)
{
    struct stat status;
    const char *label = output->label;
    if (fstatat(output->folder, output->base, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? QZ_FILE_OK : qz_fail_errno(error, label, "look at the output");
    if (S_ISLNK(status.st_mode))
        return qz_fail(error, QZ_FILE_EXISTS, label, NULL, QZ_NO_OFFSET,
                       "is a symbolic link, which is not written through; name the file itself");
    if (!S_ISREG(status.st_mode))
        return qz_fail(error, QZ_FILE_EXISTS, label, NULL, QZ_NO_OFFSET, "exists and is not a regular file");
    for (size_t i = 0; i < options->input_count; i++)
        if (qz_file_has(options->inputs[i], status.st_dev, status.st_ino))
            return qz_fail(error, QZ_FILE_EXISTS, label, NULL, QZ_NO_OFFSET,
                           "is the same file as the input %s; choose another name", options->inputs[i]->input.label);
    if (!output->replace)
        return qz_fail_option(error, QZ_FILE_EXISTS, QZ_OPTION_REPLACE, label, NULL, QZ_NO_OFFSET, "exists already");
    *mode = status.st_mode & 0777;
    return QZ_FILE_OK;
}

/* Whether the permissions are those of the file that is replaced: some file systems have only one set of permissions.
 */
static int has_mode(int fd, mode_t mode)
{
    struct stat status;
    return mode == 0 || (fstat(fd, &status) == 0 && (status.st_mode & 0777) == mode);
}

/* Divides the path into the folder, which is opened, and the name in it. */
static qz_file_result open_folder(qz_output *output, const char *path, int is_folder, qz_file_error *error)
{
    char label[200];
    size_t length = strlen(path), start;
    qz_escape(path, length, label, sizeof label);
    while (is_folder && length > 1 && path[length - 1] == '/')
        length--;
    for (start = length; start > 0 && path[start - 1] != '/';)
        start--;
    output->label = strdup(label);
    output->base = strndup(path + start, length - start);
    output->before = start == 0 ? strdup("./") : strndup(path, start);
    output->path = strndup(path, length);
    qz_file_result result = QZ_FILE_OK;
    if (!output->before || !output->base || !output->path || !output->label)
        result = qz_fail_memory(error, label);
    else if (output->base[0] == '\0' || strcmp(output->base, ".") == 0 || strcmp(output->base, "..") == 0)
        result = qz_fail(error, QZ_FILE_ARGUMENT, label, NULL, QZ_NO_OFFSET, "does not name a %s",
                         is_folder ? "new folder" : "file");
    else if ((output->folder = qz_above_standard(open(output->before, O_RDONLY | O_DIRECTORY | O_CLOEXEC))) < 0)
        result = qz_fail_errno(error, label, "open the folder of the output");
    return result;
}

static qz_file_result begin_file(qz_output *output, const qz_create_options *options, qz_file_error *error)
{
    mode_t mode = 0;
    qz_file_result result = check_target(output, options, &mode, error);
    if (result != QZ_FILE_OK)
        return result;
    qz_temporary_clean(output->folder);
    output->fd = open_unnamed(output, 0666);
    if (output->fd < 0)
        output->fd = open_named(output, 0666);
    if (output->fd < 0)
        return qz_fail_errno(error, output->label, "create a file in the folder of the output");
    if (!has_mode(output->fd, mode) && fchmod(output->fd, mode) != 0)
        return qz_fail_errno(error, output->label, "set the permissions of the output");
    return QZ_FILE_OK;
}

qz_file_result qz_output_open(qz_output *output, const char *path, const qz_create_options *options,
                              qz_file_error *error)
{
    int is_folder = options->shard_bytes != 0;
    *output = (qz_output){.fd = -1, .folder = -1, .files = -1};
    output->replace = options->replace;
    output->no_fsync = options->no_fsync;
    qz_file_result result = open_folder(output, path, is_folder, error);
    if (result == QZ_FILE_OK)
        result = is_folder ? qz_output_folder_begin(output, error) : begin_file(output, options, error);
    if (result != QZ_FILE_OK)
        qz_output_abort(output);
    return result;
}

/* Puts the complete file under its final name. */
static qz_file_result publish(qz_output *output, qz_file_error *error)
{
    if (!output->replace) {
        if (give_name(output, output->base) == 0) {
            if (output->temp[0] != '\0')
                unlinkat(output->folder, output->temp, 0);
            output->temp[0] = '\0';
            return QZ_FILE_OK;
        }
        if (errno == EEXIST)
            return qz_fail_option(error, QZ_FILE_EXISTS, QZ_OPTION_REPLACE, output->label, NULL, QZ_NO_OFFSET,
                                  "was created by someone else meanwhile");
        /* A file system without links can only rename. */
        struct stat status;
        if (output->temp[0] == '\0' || fstatat(output->folder, output->base, &status, AT_SYMLINK_NOFOLLOW) == 0)
            return qz_fail_errno(error, output->label, "name the output");
    }
    for (int i = 0; output->temp[0] == '\0'; i++) {
        char name[QZ_TEMPORARY];
        qz_temporary_name(name);
        if (give_name(output, name) == 0)
            strcpy(output->temp, name);
        else if (errno != EEXIST || i == QZ_TEMPORARY_TRIES)
            return qz_fail_errno(error, output->label, "name the output");
    }
    if (renameat(output->folder, output->temp, output->folder, output->base) != 0)
        return qz_fail_errno(error, output->label, "name the output");
    output->temp[0] = '\0';
    return QZ_FILE_OK;
}

qz_file_result qz_output_commit(qz_output *output, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    int is_folder = output->files >= 0;
    if (!is_folder && !output->no_fsync && qz_sync(output->fd) != 0)
        result = qz_fail_errno(error, output->label, "write to the medium");
    if (result == QZ_FILE_OK)
        result = is_folder ? qz_output_folder_publish(output, error) : publish(output, error);
    if (result != QZ_FILE_OK) {
        qz_output_abort(output);
        return result;
    }
    /* Some file systems report late errors only here. */
    if (output->fd >= 0 && close(output->fd) != 0 && errno != EINTR)
        result = qz_fail_errno(error, output->label, "close the output");
    output->fd = -1;
    if (result == QZ_FILE_OK && !output->no_fsync && !qz_sync_folder(output->folder))
        result = qz_fail_errno(error, output->label, "write the folder to the medium");
    release(output);
    return result;
}

void qz_output_abort(qz_output *output)
{
    if (output->temp[0] != '\0' && output->files >= 0)
        qz_temporary_empty(output->folder, output->temp);
    else if (output->temp[0] != '\0')
        unlinkat(output->folder, output->temp, 0);
    release(output);
}
