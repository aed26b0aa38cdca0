/*
 * inside.c - finds files by names inside a folder, and decides which symbolic links are followed
 *
 * Each step opens one name and does not let the system follow a link, so that nobody can replace a name between the
 * check and the opening.
 */
#include "inside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "descriptor.h"

enum {
    MOST_LINKS = 8,  /* one after another */
    LONGEST = 4096,  /* bytes of a target */
    MOST_LEVELS = 4, /* that the cache's links go up: two, and one for each sub-folder of the model */
};

static const char leads_out[] = "is a symbolic link that leads out of its folder, and is not followed; put the file "
                                "itself there";

static int is_hash(const char *text)
{
    size_t length = strlen(text);
    return (length == 40 || length == 64) && strspn(text, "0123456789abcdef") == length;
}

/* Whether the target is that of a link of Hugging Face's cache, ../../blobs/HASH. The content lies there under its
 * hash, which no other file of a machine has as its name. */
static int is_blob(const char *target)
{
    static const char up[] = "../", blobs[] = "blobs/";
    int levels = 0;
    for (; strncmp(target, up, sizeof up - 1) == 0; target += sizeof up - 1)
        levels++;
    return levels >= 2 && levels <= MOST_LEVELS && strncmp(target, blobs, sizeof blobs - 1) == 0 &&
           is_hash(target + sizeof blobs - 1);
}

/* Whether a path has no part that leads up, and does not begin at the root. */
static int stays(const char *path)
{
    if (path[0] == '/' || path[0] == '\0')
        return 0;
    for (const char *part = path; part; part = strchr(part, '/')) {
        part += part[0] == '/';
        if (strcmp(part, "..") == 0 || strncmp(part, "../", 3) == 0)
            return 0;
    }
    return 1;
}

/* Makes place->folder the folder `name` of it, `bytes` long. Links are followed if `flags` do not forbid it. */
static int enter(qz_inside *place, const char *name, size_t bytes, int flags)
{
    char *kept = strndup(name, bytes);
    if (!kept)
        return 0;
    int fd = qz_above_standard(openat(place->folder, kept, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags)), why = errno;
    free(kept);
    if (fd < 0) {
        errno = why;
        return 0;
    }
    if (place->folder >= 0)
        close(place->folder);
    place->folder = fd;
    return 1;
}

static int set_name(qz_inside *place, const char *name)
{
    char *kept = strdup(name);
    if (!kept)
        return 0;
    free(place->name);
    place->name = kept;
    return 1;
}

/* Goes where a link that stays in the folder says, one part after another. */
static const char *walk(qz_inside *place, const char *target)
{
    for (const char *slash; (slash = strchr(target, '/')) != NULL; target = slash + strspn(slash, "/"))
        if (!enter(place, target, (size_t)(slash - target), O_NOFOLLOW))
            return errno == ELOOP || errno == ENOTDIR ? leads_out : "";
    return set_name(place, target) ? NULL : "";
}

/* The blobs of the cache lie above; their folder is no link. */
static const char *walk_to_blob(qz_inside *place, const char *target)
{
    const char *hash = strrchr(target, '/'), *blobs = strstr(target, "blobs/");
    if (!enter(place, target, (size_t)(blobs - target), O_NOFOLLOW) || !enter(place, "blobs", 5, O_NOFOLLOW))
        return "";
    return set_name(place, hash + 1) ? NULL : "";
}

static const char *follow(qz_inside *place)
{
    char target[LONGEST + 1];
    for (int links = 0; links < MOST_LINKS; links++) {
        ssize_t length = readlinkat(place->folder, place->name, target, LONGEST);
        if (length < 0)
            return errno == EINVAL ? NULL : ""; /* it is no link */
        target[length] = '\0';
        const char *wrong = stays(target)                   ? walk(place, target)
                            : is_blob(target) && links == 0 ? walk_to_blob(place, target)
                                                            : leads_out;
        if (wrong)
            return wrong;
    }
    errno = ELOOP;
    return "";
}

const char *qz_inside_find(int folder, const char *path, qz_inside *place)
{
    const char *slash = strrchr(path, '/'), *wrong = "";
    *place = (qz_inside){-1, NULL};
    /* The parts before the last one are the caller's, links or not. */
    int fd = slash ? -1 : qz_above_standard(openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (slash) {
        char *before = strndup(path, (size_t)(slash - path) + 1);
        fd = before ? qz_above_standard(openat(folder, before, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) : -1;
        free(before);
    }
    place->folder = fd;
    if (fd >= 0 && set_name(place, slash ? slash + 1 : path))
        wrong = follow(place);
    if (wrong) {
        int why = errno;
        qz_inside_free(place);
        errno = why;
    }
    return wrong;
}

void qz_inside_free(qz_inside *place)
{
    if (place->folder >= 0)
        close(place->folder);
    free(place->name);
    *place = (qz_inside){-1, NULL};
}

int qz_inside_status(const qz_inside *place, struct stat *status)
{
    return fstatat(place->folder, place->name, status, AT_SYMLINK_NOFOLLOW);
}

int qz_inside_open(const qz_inside *place)
{
    return qz_above_standard(
        openat(place->folder, place->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW));
}
