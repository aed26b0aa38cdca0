/*
 * inside.h - files that lie in a folder, and those that links of it lead out to
 *
 * Whoever opens a folder trusts what lies in it to be the model, not to name any file of the machine: a link in a
 * folder that was downloaded could lead to a key, whose bytes would go into the output. So a symbolic link is followed
 * where it stays in the folder, and from the folders of Hugging Face's cache to the files with the content.
 */
#ifndef QZ_FILE_INSIDE_H
#define QZ_FILE_INSIDE_H

#include "system.h"

#include <sys/stat.h>

/* Where a name of a folder leads to. */
typedef struct qz_inside {
    int folder; /* of the file; to be closed */
    char *name; /* in it, which is no link; to be released with free() */
} qz_inside;

/* Follows `path`, whose last part is a name in the folder that the parts before it say. Returns NULL, or why there is
 * no such place, for people; where the system refused or there is no memory, "" with errno. */
const char *qz_inside_find(int folder, const char *path, qz_inside *place);

void qz_inside_free(qz_inside *place);

/* What the place is now. Returns 0, or -1 with errno. */
int qz_inside_status(const qz_inside *place, struct stat *status);

/* Opens it to read: without waiting, without a terminal. -1 with errno. */
int qz_inside_open(const qz_inside *place);

#endif
