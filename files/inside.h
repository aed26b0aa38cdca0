/*
 * inside.h - files inside a folder, and the files outside that its links may lead to
 *
 * A user who opens a folder trusts it to hold a model, and does not expect it to name other files of the machine. In a
 * folder that was downloaded, a link could lead to a private key, and its bytes would go into the output. Therefore a
 * symbolic link is followed only if it stays in the folder, or if it leads from a folder of Hugging Face's cache to a
 * file of that cache.
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
