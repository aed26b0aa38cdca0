/*
 * file.c - files and their names on Windows: the calls of POSIX for them
 */
#include "path.h"

#include <stdarg.h>

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#define SHARED (FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)

static HANDLE handle_of(int fd)
{
    return (HANDLE)_get_osfhandle(fd);
}

/* 0 or -1, for a function of Windows that says whether it worked. */
static int done(BOOL worked)
{
    return worked ? 0 : qz_windows_fail();
}

/* ---- what a file is ---- */

static struct timespec time_of(FILETIME time)
{
    const uint64_t between_epochs = UINT64_C(116444736000000000); /* in 100 ns: from 1601 to 1970 */
    const uint64_t ticks = ((uint64_t)time.dwHighDateTime << 32 | time.dwLowDateTime) - between_epochs;
    return (struct timespec){.tv_sec = (time_t)(ticks / 10000000), .tv_nsec = (long)(ticks % 10000000 * 100)};
}

/* Whether what is open, without having been followed, leads to another name: a symbolic link, or a mount point. */
static int is_link(HANDLE handle, const BY_HANDLE_FILE_INFORMATION *info)
{
    FILE_ATTRIBUTE_TAG_INFO tag;
    return (info->dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) &&
           GetFileInformationByHandleEx(handle, FileAttributeTagInfo, &tag, sizeof tag) &&
           IsReparseTagNameSurrogate(tag.ReparseTag);
}

static int describe(HANDLE handle, struct stat *out)
{
    BY_HANDLE_FILE_INFORMATION info;
    *out = (struct stat){.st_mode = S_IFCHR};
    const DWORD type = GetFileType(handle);
    if (type == FILE_TYPE_PIPE)
        out->st_mode = S_IFIFO;
    if (type != FILE_TYPE_DISK)
        return type == FILE_TYPE_UNKNOWN && GetLastError() != NO_ERROR ? qz_windows_fail() : 0;
    if (!GetFileInformationByHandle(handle, &info))
        return qz_windows_fail();
    out->st_mode = is_link(handle, &info)                             ? S_IFLNK | 0777
                   : info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY ? S_IFDIR | 0777
                   : info.dwFileAttributes & FILE_ATTRIBUTE_READONLY  ? S_IFREG | 0444
                                                                      : S_IFREG | 0666;
    out->st_dev = info.dwVolumeSerialNumber;
    out->st_ino = (uint64_t)info.nFileIndexHigh << 32 | info.nFileIndexLow;
    out->st_size = (int64_t)((uint64_t)info.nFileSizeHigh << 32 | info.nFileSizeLow);
    out->st_mtim = time_of(info.ftLastWriteTime);
    return 0;
}

int qz_windows_fstatat(int folder, const char *path, struct stat *out, int flags)
{
    wchar_t *wide = qz_windows_path(folder, path);
    const DWORD how = FILE_FLAG_BACKUP_SEMANTICS | (flags & AT_SYMLINK_NOFOLLOW ? FILE_FLAG_OPEN_REPARSE_POINT : 0);
    if (!wide)
        return -1;
    const HANDLE handle = CreateFileW(wide, FILE_READ_ATTRIBUTES, SHARED, NULL, OPEN_EXISTING, how, NULL);
    int code = handle == INVALID_HANDLE_VALUE ? qz_windows_fail() : describe(handle, out);
    if (handle != INVALID_HANDLE_VALUE)
        CloseHandle(handle);
    free(wide);
    return code;
}

int qz_windows_stat(const char *path, struct stat *out)
{
    return qz_windows_fstatat(AT_FDCWD, path, out, 0);
}

int qz_windows_lstat(const char *path, struct stat *out)
{
    return qz_windows_fstatat(AT_FDCWD, path, out, AT_SYMLINK_NOFOLLOW);
}

int qz_windows_fstat(int fd, struct stat *out)
{
    const HANDLE handle = handle_of(fd);
    return handle == INVALID_HANDLE_VALUE ? -1 : describe(handle, out);
}

/* ---- opening ---- */

/* Why what was opened is not what `flags` ask for; 0 if it is. */
static int refuse(HANDLE handle, int flags)
{
    BY_HANDLE_FILE_INFORMATION info;
    if (!(flags & (O_NOFOLLOW | O_DIRECTORY | O_WRONLY | O_RDWR)))
        return 0;
    const int is_file = GetFileType(handle) == FILE_TYPE_DISK && GetFileInformationByHandle(handle, &info);
    const int is_folder = is_file && (info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY);
    if ((flags & O_NOFOLLOW) && is_file && is_link(handle, &info))
        return ELOOP;
    if ((flags & O_DIRECTORY) && !is_folder)
        return ENOTDIR;
    return is_folder && (flags & (O_WRONLY | O_RDWR)) ? EISDIR : 0;
}

static DWORD disposition(int flags)
{
    if (flags & O_CREAT)
        return flags & O_EXCL ? CREATE_NEW : flags & O_TRUNC ? CREATE_ALWAYS : OPEN_ALWAYS;
    return flags & O_TRUNC ? TRUNCATE_EXISTING : OPEN_EXISTING;
}

/* A descriptor for it, or -1; the handle is the descriptor's, or closed. */
static int descriptor_of(HANDLE handle, int flags)
{
    const int wrong = refuse(handle, flags);
    const int fd =
        wrong ? -1 : _open_osfhandle((intptr_t)handle, (flags & (O_WRONLY | O_RDWR)) | O_BINARY | O_NOINHERIT);
    if (fd < 0)
        CloseHandle(handle);
    if (wrong)
        errno = wrong;
    return fd;
}

int qz_windows_openat(int folder, const char *path, int flags, ...)
{
    wchar_t *wide = qz_windows_path(folder, path);
    const DWORD access = flags & O_WRONLY ? GENERIC_WRITE
                         : flags & O_RDWR ? GENERIC_READ | GENERIC_WRITE
                                          : GENERIC_READ;
    const DWORD how = FILE_FLAG_BACKUP_SEMANTICS | (flags & O_NOFOLLOW ? FILE_FLAG_OPEN_REPARSE_POINT : 0);
    if (!wide)
        return -1;
    const HANDLE handle = CreateFileW(wide, access, SHARED, NULL, disposition(flags), how, NULL);
    const int fd = handle == INVALID_HANDLE_VALUE ? qz_windows_fail() : descriptor_of(handle, flags);
    free(wide);
    return fd;
}

int qz_windows_open(const char *path, int flags, ...)
{
    return qz_windows_openat(AT_FDCWD, path, flags);
}

FILE *qz_windows_fopen(const char *path, const char *mode)
{
    const int flags = mode[0] == 'r' ? O_RDONLY : O_WRONLY | O_CREAT | O_TRUNC;
    const int fd = qz_windows_openat(AT_FDCWD, path, flags);
    FILE *file = fd >= 0 ? _fdopen(fd, mode[0] == 'r' ? "rb" : "wb") : NULL;
    if (fd >= 0 && !file)
        close(fd);
    return file;
}

/* A file whose last six characters become its own. What would lie in /tmp itself lies in the folder for temporary
 * files: most systems of this kind have no /tmp. */
int qz_windows_mkstemp(char *path)
{
    enum { TRIES = 100, OWN = 6 };
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    char *own = path + strlen(path) - OWN, place[3 * MAX_PATH + 1], whole[3 * MAX_PATH + 256];
    wchar_t temporary[MAX_PATH + 1];
    place[0] = '\0';
    if (strncmp(path, "/tmp/", 5) == 0 && !strchr(path + 5, '/') && GetTempPathW(MAX_PATH + 1, temporary) != 0)
        qz_windows_utf8(temporary, place, sizeof place);
    for (int i = 0; i < TRIES; i++) {
        unsigned char random[OWN];
        if (qz_windows_getentropy(random, sizeof random) != 0)
            return -1;
        for (int k = 0; k < OWN; k++)
            own[k] = letters[random[k] % (sizeof letters - 1)];
        snprintf(whole, sizeof whole, "%s%s", place, place[0] != '\0' ? path + 5 : path);
        const int fd = qz_windows_openat(AT_FDCWD, whole, O_RDWR | O_CREAT | O_EXCL);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

/* ---- open files ---- */

/* Descriptors are copied until one is high enough; those that are not are closed again. */
static int duplicate(int fd, int least)
{
    int copy = _dup(fd), higher = copy;
    if (copy >= 0 && copy < least) {
        higher = duplicate(fd, least);
        close(copy);
    }
    return higher;
}

int qz_windows_fcntl(int fd, int command, ...)
{
    va_list more;
    va_start(more, command);
    const int least = command == F_DUPFD_CLOEXEC ? va_arg(more, int) : 0;
    va_end(more);
    const HANDLE handle = handle_of(fd);
    if (handle == INVALID_HANDLE_VALUE || handle == (HANDLE)-2) { /* -2: a standard one that leads nowhere */
        errno = EBADF;
        return -1;
    }
    return command == F_DUPFD_CLOEXEC ? duplicate(fd, least) : 0;
}

static OVERLAPPED place_at(uint64_t offset)
{
    return (OVERLAPPED){.Offset = (DWORD)offset, .OffsetHigh = (DWORD)(offset >> 32)};
}

ssize_t qz_windows_pread(int fd, void *dst, size_t bytes, int64_t offset)
{
    OVERLAPPED place = place_at((uint64_t)offset);
    DWORD count = 0;
    if (!ReadFile(handle_of(fd), dst, (DWORD)bytes, &count, &place) && GetLastError() != ERROR_HANDLE_EOF)
        return qz_windows_fail();
    return (ssize_t)count;
}

ssize_t qz_windows_pwrite(int fd, const void *src, size_t bytes, int64_t offset)
{
    OVERLAPPED place = place_at((uint64_t)offset);
    DWORD count = 0;
    return WriteFile(handle_of(fd), src, (DWORD)bytes, &count, &place) ? (ssize_t)count : qz_windows_fail();
}

int qz_windows_ftruncate(int fd, int64_t bytes)
{
    FILE_END_OF_FILE_INFO info = {.EndOfFile.QuadPart = bytes};
    return done(SetFileInformationByHandle(handle_of(fd), FileEndOfFileInfo, &info, sizeof info));
}

/* All that a mode says here is whether a file can be written, and that it can is what a new one has. */
int qz_windows_fchmod(int fd, mode_t mode)
{
    (void)fd, (void)mode;
    return 0;
}

int qz_windows_fsync(int fd)
{
    struct stat status;
    if (qz_windows_fstat(fd, &status) != 0)
        return -1;
    return S_ISDIR(status.st_mode) ? 0 : done(FlushFileBuffers(handle_of(fd)));
}

/* Locks here keep others from reading and writing, so a byte is locked that no file has. */
int qz_windows_flock(int fd, int how)
{
    OVERLAPPED place = place_at(INT64_MAX - 1);
    const DWORD flags = LOCKFILE_EXCLUSIVE_LOCK | (how & LOCK_NB ? LOCKFILE_FAIL_IMMEDIATELY : 0);
    return done(LockFileEx(handle_of(fd), flags, 0, 1, 0, &place));
}

/* ---- names ---- */

int qz_windows_mkdirat(int folder, const char *path, mode_t mode)
{
    wchar_t *wide = qz_windows_path(folder, path);
    const int code = wide ? done(CreateDirectoryW(wide, NULL)) : -1;
    (void)mode;
    free(wide);
    return code;
}

int qz_windows_mkdir(const char *path, mode_t mode)
{
    return qz_windows_mkdirat(AT_FDCWD, path, mode);
}

int qz_windows_unlinkat(int folder, const char *path, int flags)
{
    wchar_t *wide = qz_windows_path(folder, path);
    const int code = wide ? done(flags & AT_REMOVEDIR ? RemoveDirectoryW(wide) : DeleteFileW(wide)) : -1;
    free(wide);
    return code;
}

int qz_windows_unlink(const char *path)
{
    return qz_windows_unlinkat(AT_FDCWD, path, 0);
}

int qz_windows_remove(const char *path)
{
    struct stat status;
    const int is_folder = qz_windows_lstat(path, &status) == 0 && S_ISDIR(status.st_mode);
    return qz_windows_unlinkat(AT_FDCWD, path, is_folder ? AT_REMOVEDIR : 0);
}

int qz_windows_linkat(int from, const char *path, int to, const char *name, int flags)
{
    wchar_t *old = qz_windows_path(from, path), *new = old ? qz_windows_path(to, name) : NULL;
    const int code = new ? done(CreateHardLinkW(new, old, NULL)) : -1;
    (void)flags;
    free(old);
    free(new);
    return code;
}

static int is_folder(const wchar_t *path)
{
    const DWORD attributes = GetFileAttributesW(path);
    return attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY);
}

int qz_windows_renameat(int from, const char *path, int to, const char *name)
{
    wchar_t *old = qz_windows_path(from, path), *new = old ? qz_windows_path(to, name) : NULL;
    int code = new ? 0 : -1;
    if (code == 0 && is_folder(old) && is_folder(new)) /* it must be empty */
        code = done(RemoveDirectoryW(new));
    if (code == 0)
        code = done(MoveFileExW(old, new, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH));
    free(old);
    free(new);
    return code;
}

int qz_windows_rename(const char *path, const char *name)
{
    return qz_windows_renameat(AT_FDCWD, path, AT_FDCWD, name);
}

ssize_t qz_windows_readlinkat(int folder, const char *path, char *out, size_t room)
{
    struct stat status;
    (void)out, (void)room;
    if (qz_windows_fstatat(folder, path, &status, AT_SYMLINK_NOFOLLOW) == 0)
        errno = S_ISLNK(status.st_mode) ? ELOOP : EINVAL;
    return -1;
}
