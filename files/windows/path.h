/*
 * path.h - paths in UTF-8, as Windows needs them
 */
#ifndef QZ_WINDOWS_PATH_H
#define QZ_WINDOWS_PATH_H

#include <stddef.h>
#include <wchar.h>

/* `path`, from the folder open as `folder` on, as a full path without a limit to its length; to be released with free().
 * NULL with errno set. */
wchar_t *qz_windows_path(int folder, const char *path);

/* The last error of Windows as errno. Returns -1. */
int qz_windows_fail(void);

/* As UTF-8, cut off where there is no room. */
void qz_windows_utf8(const wchar_t *text, char *out, size_t room);

#endif
