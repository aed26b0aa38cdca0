/*
 * path.c - converts paths in UTF-8 to the form of Windows, and errors of Windows to errno
 */
#include "path.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

static const wchar_t plain[] = L"\\\\?\\", network[] = L"\\\\?\\UNC\\";
enum { PLAIN = 4, NETWORK = 8 };

int qz_windows_fail(void)
{
    static const struct {
        DWORD error;
        int number;
    } known[] = {
        {ERROR_FILE_NOT_FOUND, ENOENT},
        {ERROR_PATH_NOT_FOUND, ENOENT},
        {ERROR_INVALID_NAME, ENOENT},
        {ERROR_BAD_NETPATH, ENOENT},
        {ERROR_BAD_NET_NAME, ENOENT},
        {ERROR_INVALID_DRIVE, ENOENT},
        {ERROR_DIRECTORY, ENOTDIR},
        {ERROR_ACCESS_DENIED, EACCES},
        {ERROR_SHARING_VIOLATION, EACCES},
        {ERROR_WRITE_PROTECT, EROFS},
        {ERROR_FILE_EXISTS, EEXIST},
        {ERROR_ALREADY_EXISTS, EEXIST},
        {ERROR_DIR_NOT_EMPTY, ENOTEMPTY},
        {ERROR_DISK_FULL, ENOSPC},
        {ERROR_HANDLE_DISK_FULL, ENOSPC},
        {ERROR_NOT_ENOUGH_MEMORY, ENOMEM},
        {ERROR_OUTOFMEMORY, ENOMEM},
        {ERROR_TOO_MANY_OPEN_FILES, EMFILE},
        {ERROR_LOCK_VIOLATION, EWOULDBLOCK},
        {ERROR_IO_PENDING, EWOULDBLOCK},
        {ERROR_NOT_SAME_DEVICE, EXDEV},
        {ERROR_INVALID_HANDLE, EBADF},
        {ERROR_BROKEN_PIPE, EPIPE},
        {ERROR_NO_DATA, EPIPE},
        {ERROR_FILENAME_EXCED_RANGE, ENAMETOOLONG},
        {ERROR_INVALID_PARAMETER, EINVAL},
        {ERROR_INVALID_FUNCTION, EINVAL},
        {ERROR_NOT_SUPPORTED, EINVAL},
    };
    const DWORD error = GetLastError();
    errno = EIO;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].error == error)
            errno = known[i].number;
    return -1;
}

void qz_windows_utf8(const wchar_t *text, char *out, size_t room)
{
    if (WideCharToMultiByte(CP_UTF8, 0, text, -1, out, (int)room, NULL, NULL) == 0)
        out[0] = '\0';
}

static wchar_t *allocate(size_t units)
{
    return malloc(units * sizeof(wchar_t));
}

static wchar_t *wide_of(const char *text)
{
    const int units = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, NULL, 0);
    wchar_t *wide = units > 0 ? allocate((size_t)units) : NULL;
    if (wide)
        MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, wide, units);
    else if (units <= 0)
        errno = ENOENT; /* there are no such names */
    return wide;
}

/* The path of an open folder, without what lifts the limit: that is put before the whole path. */
static wchar_t *folder_path(int folder, size_t more)
{
    const HANDLE handle = (HANDLE)_get_osfhandle(folder);
    const DWORD room = handle == INVALID_HANDLE_VALUE ? 0 : GetFinalPathNameByHandleW(handle, NULL, 0, 0);
    wchar_t *path = room ? allocate(room + more + 2) : NULL;
    if (!path || GetFinalPathNameByHandleW(handle, path, room, 0) >= room) {
        if (path || !room)
            qz_windows_fail();
        free(path);
        return NULL;
    }
    if (wcsncmp(path, network, NETWORK) == 0)
        memmove(path + 2, path + NETWORK, (wcslen(path + NETWORK) + 1) * sizeof *path); /* the first two stay */
    else if (wcsncmp(path, plain, PLAIN) == 0)
        memmove(path, path + PLAIN, (wcslen(path + PLAIN) + 1) * sizeof *path);
    return path;
}

static int is_separator(wchar_t c)
{
    return c == L'/' || c == L'\\';
}

/* Full, with the separators of Windows, without . and .. and a separator at the end, and without a limit to its length.
 * Devices stay what they are. */
static wchar_t *full_path(const wchar_t *path)
{
    const DWORD room = GetFullPathNameW(path, 0, NULL, NULL);
    wchar_t *full = room ? allocate(room + NETWORK) : NULL;
    if (!full) {
        if (!room)
            qz_windows_fail();
        return NULL;
    }
    DWORD length = GetFullPathNameW(path, room, full + NETWORK, NULL);
    wchar_t *start = full + NETWORK;
    const int drive = length >= 3 && start[1] == L':', server = !drive && wcsncmp(start, L"\\\\.", 3) != 0;
    while (length > 3 && start[length - 1] == L'\\')
        start[--length] = L'\0';
    if (drive) {
        memmove(full + PLAIN, start, (length + 1) * sizeof *full);
        memcpy(full, plain, PLAIN * sizeof *full);
    } else if (server && wcsncmp(start, L"\\\\", 2) == 0) {
        memmove(full + NETWORK, start + 2, (length - 1) * sizeof *full);
        memcpy(full, network, NETWORK * sizeof *full);
    } else {
        memmove(full, start, (length + 1) * sizeof *full);
    }
    return full;
}

wchar_t *qz_windows_path(int folder, const char *path)
{
    if (path[0] == '\0') {
        errno = ENOENT;
        return NULL;
    }
    wchar_t *wide = strcmp(path, "/dev/null") == 0 ? wide_of("NUL") : wide_of(path);
    if (!wide)
        return NULL;
    const size_t length = wcslen(wide);
    const int is_full = is_separator(wide[0]) || (length >= 2 && wide[1] == L':');
    if (folder != AT_FDCWD && !is_full) {
        wchar_t *joined = folder_path(folder, length);
        if (joined) {
            wcscat(joined, L"\\");
            wcscat(joined, wide);
        }
        free(wide);
        wide = joined;
    }
    wchar_t *full = wide ? full_path(wide) : NULL;
    free(wide);
    return full;
}
