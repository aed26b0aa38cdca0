/*
 * folder.c - lists the names in a folder on Windows
 */
#include "path.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

struct qz_windows_dir {
    HANDLE handle;
    int fd;
    int is_read; /* `found` is the next one */
    WIN32_FIND_DATAW found;
    struct dirent entry;
};

/* A list that closes `fd` at its end. */
DIR *qz_windows_fdopendir(int fd)
{
    wchar_t *wide = qz_windows_path(fd, ".");
    wchar_t *pattern = wide ? realloc(wide, (wcslen(wide) + 3) * sizeof *wide) : NULL;
    DIR *list = pattern ? malloc(sizeof *list) : NULL;
    if (list) {
        wcscat(pattern, L"\\*");
        list->fd = fd;
        list->is_read = 1;
        list->handle = FindFirstFileW(pattern, &list->found);
        if (list->handle == INVALID_HANDLE_VALUE) {
            qz_windows_fail();
            free(list);
            list = NULL;
        }
    }
    free(pattern ? pattern : wide);
    return list;
}

DIR *qz_windows_opendir(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY);
    DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
    if (fd >= 0 && !list)
        close(fd);
    return list;
}

int qz_windows_dirfd(const DIR *list)
{
    return list->fd;
}

struct dirent *qz_windows_readdir(DIR *list)
{
    if (!list->is_read && !FindNextFileW(list->handle, &list->found)) {
        if (GetLastError() != ERROR_NO_MORE_FILES)
            qz_windows_fail();
        return NULL;
    }
    list->is_read = 0;
    qz_windows_utf8(list->found.cFileName, list->entry.d_name, sizeof list->entry.d_name);
    return &list->entry;
}

int qz_windows_closedir(DIR *list)
{
    FindClose(list->handle);
    const int code = close(list->fd);
    free(list);
    return code;
}

static void free_names(struct dirent **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

int qz_windows_scandir(const char *path, struct dirent ***names, int (*select)(const struct dirent *),
                       int (*compare)(const struct dirent **, const struct dirent **))
{
    DIR *list = opendir(path);
    struct dirent **all = NULL;
    size_t count = 0;
    int fine = list != NULL;
    for (struct dirent *found; fine && (found = readdir(list)) != NULL;) {
        struct dirent *copy = malloc(sizeof *copy), **wider = realloc(all, (count + 1) * sizeof(struct dirent *));
        fine = copy && wider && !select;
        all = wider ? wider : all;
        if (fine)
            all[count++] = memcpy(copy, found, sizeof *copy);
        else
            free(copy);
    }
    if (list)
        closedir(list);
    if (!fine) {
        free_names(all, count);
        return -1;
    }
    if (count != 0 && compare)
        qsort(all, count, sizeof(struct dirent *), (int (*)(const void *, const void *))compare);
    *names = all;
    return (int)count;
}

int qz_windows_nftw(const char *path, int (*visit)(const char *, const struct stat *, int, struct FTW *), int most_open,
                    int flags)
{
    struct stat status;
    struct FTW place = {0, 0};
    if (lstat(path, &status) != 0)
        return -1;
    const int is_folder = S_ISDIR(status.st_mode);
    struct dirent **names = NULL;
    const int count = is_folder ? scandir(path, &names, NULL, NULL) : 0;
    int code = count < 0 ? -1 : 0;
    for (int i = 0; i < count && code == 0; i++) {
        const char *name = names[i]->d_name;
        const size_t room = strlen(path) + strlen(name) + 2;
        char *below = strcmp(name, ".") != 0 && strcmp(name, "..") != 0 ? malloc(room) : NULL;
        if (below) {
            snprintf(below, room, "%s/%s", path, name);
            code = qz_windows_nftw(below, visit, most_open, flags);
        }
        free(below);
    }
    if (count >= 0)
        free_names(names, (size_t)count);
    return code == 0 ? visit(path, &status, is_folder ? FTW_DP : FTW_F, &place) : code;
}
