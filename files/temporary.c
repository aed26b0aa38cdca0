/*
 * temporary.c - names of files and folders that are not complete yet, and the removal of those that killed runs left
 */
#include "temporary.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <sys/random.h>
#endif

static const char prefix[] = ".quantize-", suffix[] = ".tmp";
enum { DIGITS = 16 };

int qz_temporary_is(const char *name)
{
    size_t before = sizeof prefix - 1;
    return strlen(name) == before + DIGITS + sizeof suffix - 1 && memcmp(name, prefix, before) == 0 &&
           strspn(name + before, "0123456789abcdef") == DIGITS && strcmp(name + before + DIGITS, suffix) == 0;
}

void qz_temporary_name(char name[QZ_TEMPORARY])
{
    uint64_t random = 0;
    if (getentropy(&random, sizeof random) != 0)
        random = (uint64_t)getpid() << 32 ^ (uint64_t)(uintptr_t)name;
    snprintf(name, QZ_TEMPORARY, "%s%016" PRIx64 "%s", prefix, random, suffix);
}

/* Whether `name` in `folder` still is what is open as fd. */
static int is_same(int folder, const char *name, int fd)
{
    struct stat named, open_one;
    return fstatat(folder, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &open_one) == 0 &&
           named.st_dev == open_one.st_dev && named.st_ino == open_one.st_ino;
}

int qz_temporary_lock(int folder, const char *name, int fd)
{
    /* Between its creation and this call another run may have taken it for a leftover and locked it: that run removes
     * it. Any other failure means that this file system has no locks, so that nobody removes leftovers. */
    int locked = flock(fd, LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && errno != EINTR);
    return locked && is_same(folder, name, fd);
}

/* Calls `work` for each name in a folder, but the two that every folder has. */
static void for_each_name(int folder, void (*work)(int folder, const char *name))
{
    int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy >= 0 ? fdopendir(copy) : NULL;
    if (!list) {
        if (copy >= 0)
            close(copy);
        return;
    }
    for (struct dirent *found; (found = readdir(list)) != NULL;)
        if (strcmp(found->d_name, ".") != 0 && strcmp(found->d_name, "..") != 0)
            work(folder, found->d_name);
    closedir(list);
}

/* A file, or a folder with all in it. */
static void remove_any(int folder, const char *name)
{
    if (unlinkat(folder, name, 0) != 0)
        qz_temporary_empty(folder, name);
}

void qz_temporary_empty(int folder, const char *name)
{
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    for_each_name(fd, remove_any);
    close(fd);
    unlinkat(folder, name, AT_REMOVEDIR);
}

int qz_folder_is_empty(int folder, const char *name)
{
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), others = 0;
    DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
    if (!list) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    for (struct dirent *found; (found = readdir(list)) != NULL;)
        others += strcmp(found->d_name, ".") != 0 && strcmp(found->d_name, "..") != 0;
    closedir(list);
    return others == 0;
}

static void remove_leftover(int folder, const char *name)
{
    struct stat status;
    if (!qz_temporary_is(name))
        return;
    int fd = openat(folder, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == EISDIR)
        fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &status) == 0 && status.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
        is_same(folder, name, fd)) {
        if (S_ISREG(status.st_mode))
            unlinkat(folder, name, 0);
        else if (S_ISDIR(status.st_mode))
            qz_temporary_empty(folder, name);
    }
    close(fd);
}

void qz_temporary_clean(int folder)
{
    for_each_name(folder, remove_leftover);
}
