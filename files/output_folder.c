/*
 * output_folder.c - an output that is a folder of files
 *
 * It creates, ends and names the files and the folder itself; what the files hold is written by others.
 */
#include "output_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptor.h"
#include "error.h"

static const char in_the_way[] = "exists already, and is no empty folder; choose another name, or remove it";

/* A folder can take the place of an empty one: the system does that in one step. */
static qz_file_result check_target(const qz_output *output, qz_file_error *error)
{
    struct stat status;
    if (fstatat(output->folder, output->base, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? QZ_FILE_OK : qz_fail_errno(error, output->label, "look at the output");
    if (!S_ISDIR(status.st_mode) || !qz_folder_is_empty(output->folder, output->base))
        return qz_fail(error, QZ_FILE_EXISTS, output->label, NULL, QZ_NO_OFFSET, "%s", in_the_way);
    return QZ_FILE_OK;
}

static qz_file_result make_folder(qz_output *output, qz_file_error *error)
{
    for (int i = 0; i < QZ_TEMPORARY_TRIES; i++) {
        char name[QZ_TEMPORARY];
        qz_temporary_name(name);
        if (mkdirat(output->folder, name, 0777) != 0) {
            if (errno == EEXIST)
                continue;
            break;
        }
        int fd = qz_above_standard(openat(output->folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (fd >= 0 && qz_temporary_lock(output->folder, name, fd)) {
            strcpy(output->temp, name);
            output->files = fd;
            return QZ_FILE_OK;
        }
        int why = errno;
        unlinkat(output->folder, name, AT_REMOVEDIR); /* if the run that took it for a leftover has not done so */
        errno = why;
        if (fd < 0)
            break;
        close(fd);
        errno = EAGAIN;
    }
    return qz_fail_errno(error, output->label, "make a folder beside the output");
}

qz_file_result qz_output_folder_begin(qz_output *output, qz_file_error *error)
{
    qz_file_result result = check_target(output, error);
    if (result != QZ_FILE_OK)
        return result;
    qz_temporary_clean(output->folder);
    return make_folder(output, error);
}

static qz_file_result close_file(qz_output *output, qz_file_error *error)
{
    int fd = output->fd;
    output->fd = -1;
    /* Some file systems report late errors only here. */
    return fd < 0 || close(fd) == 0 || errno == EINTR
               ? QZ_FILE_OK
               : qz_fail_errno(error, output->label, "close a file of the output");
}

/* Makes the folders of a path, those that are not there. */
static int make_folders(int folder, const char *path)
{
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        char *part = strndup(path, (size_t)(slash - path));
        int made = part && (mkdirat(folder, part, 0777) == 0 || errno == EEXIST);
        free(part);
        if (!made)
            return 0;
    }
    return 1;
}

qz_file_result qz_output_folder_file(qz_output *output, const char *name, int is_new, qz_file_error *error)
{
    int flags = O_RDWR | O_NOFOLLOW | O_CLOEXEC | (is_new ? O_CREAT | O_EXCL : 0);
    qz_file_result result = close_file(output, error);
    if (result != QZ_FILE_OK)
        return result;
    if (is_new && !make_folders(output->files, name))
        return qz_fail_errno(error, output->label, "make a folder in the output");
    output->fd = qz_above_standard(openat(output->files, name, flags, 0666));
    return output->fd >= 0 ? QZ_FILE_OK : qz_fail_errno(error, output->label, "open a file of the output");
}

qz_file_result qz_output_folder_end_file(qz_output *output, qz_file_error *error)
{
    if (!output->no_fsync && qz_sync(output->fd) != 0)
        return qz_fail_errno(error, output->label, "write to the medium");
    return close_file(output, error);
}

qz_file_result qz_output_folder_end_folder(qz_output *output, const char *name, qz_file_error *error)
{
    if (output->no_fsync)
        return QZ_FILE_OK;
    int fd = openat(output->files, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int synced = fd >= 0 && qz_sync_folder(fd), why = errno;
    if (fd >= 0)
        close(fd);
    errno = why;
    return synced ? QZ_FILE_OK : qz_fail_errno(error, output->label, "write a folder to the medium");
}

qz_file_result qz_output_folder_write(qz_output *output, const char *name, const void *bytes, size_t count,
                                      qz_file_error *error)
{
    qz_file_result result = qz_output_folder_file(output, name, 1, error);
    if (result == QZ_FILE_OK && !qz_pwrite_all(output->fd, bytes, count, 0))
        result = qz_fail_errno(error, output->label, "write");
    return result == QZ_FILE_OK ? qz_output_folder_end_file(output, error) : result;
}

qz_file_result qz_output_folder_publish(qz_output *output, qz_file_error *error)
{
    if (!output->no_fsync && !qz_sync_folder(output->files))
        return qz_fail_errno(error, output->label, "write the folder to the medium");
    if (renameat(output->folder, output->temp, output->folder, output->base) != 0)
        return errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR
                   ? qz_fail(error, QZ_FILE_EXISTS, output->label, NULL, QZ_NO_OFFSET, "%s", in_the_way)
                   : qz_fail_errno(error, output->label, "name the output");
    output->temp[0] = '\0';
    return QZ_FILE_OK;
}
