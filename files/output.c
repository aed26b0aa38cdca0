/*
 * output.c - a file that appears under its name whole, or not at all
 *
 * Where the system has files without names (O_TMPFILE), a killed run leaves nothing behind. Elsewhere the bytes go to
 * .quantize-<16 hex digits>.tmp in the target folder, which its writer keeps locked; whoever writes to that folder next
 * removes such files whose lock is free. Where the file system has no locks (Lustre without -o flock, NFS without
 * lockd) nothing is locked and nothing is removed but by the writer itself.
 */
#include "output.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <sys/random.h>
#endif

#include "descriptor.h"
#include "error.h"
#include "tensors.h"

static const char prefix[] = ".quantize-", suffix[] = ".tmp";
enum { DIGITS = 16, TRIES = 100 };

static int is_temp_name(const char *name)
{
    size_t before = sizeof prefix - 1;
    return strlen(name) == before + DIGITS + sizeof suffix - 1 && memcmp(name, prefix, before) == 0 &&
           strspn(name + before, "0123456789abcdef") == DIGITS && strcmp(name + before + DIGITS, suffix) == 0;
}

static void new_temp_name(char name[48])
{
    uint64_t random = 0;
    if (getentropy(&random, sizeof random) != 0)
        random = (uint64_t)getpid() << 32 ^ (uint64_t)(uintptr_t)name;
    snprintf(name, 48, "%s%016" PRIx64 "%s", prefix, random, suffix);
}

/* Whether `name` in `folder` still is the file that is open as fd. */
static int is_same(int folder, const char *name, int fd)
{
    struct stat named, open_one;
    return fstatat(folder, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &open_one) == 0 &&
           named.st_dev == open_one.st_dev && named.st_ino == open_one.st_ino;
}

/* Removes temporary files whose writers are dead. Failures do not matter: this is only tidiness. */
static void remove_leftovers(int folder)
{
    int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy >= 0 ? fdopendir(copy) : NULL;
    if (list == NULL) {
        if (copy >= 0)
            close(copy);
        return;
    }
    for (struct dirent *found; (found = readdir(list)) != NULL;) {
        struct stat status;
        if (!is_temp_name(found->d_name))
            continue;
        int fd = openat(folder, found->d_name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
            continue;
        if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid() &&
            flock(fd, LOCK_EX | LOCK_NB) == 0 && is_same(folder, found->d_name, fd))
            unlinkat(folder, found->d_name, 0);
        close(fd);
    }
    closedir(list);
}

/* Creates a locked temporary file that has a name. */
static int open_named(qz_output *output, mode_t mode)
{
    for (int i = 0; i < TRIES; i++) {
        new_temp_name(output->temp);
        int fd = qz_above_standard(
            openat(output->folder, output->temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
        if (fd >= 0) {
            /* Between the two calls another run may have taken the file for a leftover and locked it: that run removes
             * the file, and this one tries again. Any other failure means that this file system has no locks, so that
             * nobody removes leftovers. */
            int locked = flock(fd, LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && errno != EINTR);
            if (locked && is_same(output->folder, output->temp, fd))
                return fd;
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
    if (output->folder >= 0)
        close(output->folder);
    free(output->base);
    free(output->label);
    *output = (qz_output){.fd = -1, .folder = -1};
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

qz_file_result qz_output_open(qz_output *output, const char *path, const qz_create_options *options,
                              qz_file_error *error)
{
    char label[200];
    qz_escape(path, strlen(path), label, sizeof label);
    *output = (qz_output){.fd = -1, .folder = -1};
    output->replace = options->replace;
    output->no_fsync = options->no_fsync;
    const char *slash = strrchr(path, '/');
    const char *base = slash != NULL ? slash + 1 : path;
    if (base[0] == '\0' || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
        return qz_fail(error, QZ_FILE_ARGUMENT, label, NULL, QZ_NO_OFFSET, "does not name a file");
    char *folder = slash == NULL ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
    output->base = strdup(base);
    output->label = strdup(label);
    qz_file_result result = QZ_FILE_OK;
    mode_t mode = 0;
    if (folder == NULL || output->base == NULL || output->label == NULL)
        result = qz_fail_memory(error, label);
    else if ((output->folder = qz_above_standard(open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC))) < 0)
        result = qz_fail_errno(error, label, "open the folder of the output");
    if (result == QZ_FILE_OK)
        result = check_target(output, options, &mode, error);
    if (result == QZ_FILE_OK) {
        remove_leftovers(output->folder);
        output->fd = open_unnamed(output, 0666);
        if (output->fd < 0)
            output->fd = open_named(output, 0666);
        if (output->fd < 0)
            result = qz_fail_errno(error, label, "create a file in the folder of the output");
        else if (!has_mode(output->fd, mode) && fchmod(output->fd, mode) != 0)
            result = qz_fail_errno(error, label, "set the permissions of the output");
    }
    free(folder);
    if (result != QZ_FILE_OK)
        qz_output_abort(output);
    return result;
}

/* Waits until the contents are on the medium. */
static int sync_file(int fd)
{
#if defined(F_FULLFSYNC)
    if (fcntl(fd, F_FULLFSYNC) == 0)
        return 0;
#endif
    return fsync(fd);
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
        char name[48];
        new_temp_name(name);
        if (give_name(output, name) == 0)
            strcpy(output->temp, name);
        else if (errno != EEXIST || i == TRIES)
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
    /* A failed sync is final: the system may have dropped the data, and a second call would succeed. */
    if (!output->no_fsync && sync_file(output->fd) != 0)
        result = qz_fail_errno(error, output->label, "write to the medium");
    if (result == QZ_FILE_OK)
        result = publish(output, error);
    if (result != QZ_FILE_OK) {
        qz_output_abort(output);
        return result;
    }
    /* Some file systems report late errors only here. */
    if (close(output->fd) != 0 && errno != EINTR)
        result = qz_fail_errno(error, output->label, "close the output");
    output->fd = -1;
    /* On some file systems folders cannot be synced. */
    if (result == QZ_FILE_OK && !output->no_fsync && fsync(output->folder) != 0 && errno != EINVAL && errno != ENOSYS &&
        errno != ENOTSUP)
        result = qz_fail_errno(error, output->label, "write the folder to the medium");
    release(output);
    return result;
}

void qz_output_abort(qz_output *output)
{
    if (output->temp[0] != '\0')
        unlinkat(output->folder, output->temp, 0);
    release(output);
}
