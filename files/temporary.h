/*
 * temporary.h - names of files and folders that are not complete yet, and the removal of those that killed runs left
 *
 * Such a file or folder is called .quantize-<16 hex digits>.tmp, and its writer keeps it locked. On a file system
 * without locks, only the writer itself removes it.
 */
#ifndef QZ_FILE_TEMPORARY_H
#define QZ_FILE_TEMPORARY_H

#include "system.h"

enum { QZ_TEMPORARY = 48, QZ_TEMPORARY_TRIES = 100 }; /* bytes of a name; how often one is tried */

/* A name that nobody has, very likely. */
void qz_temporary_name(char name[QZ_TEMPORARY]);

/* Whether a name is one of these. */
int qz_temporary_is(const char *name);

/* Locks what was just created as `name` in `folder` and is open as fd. 0: another run took it for a leftover. */
int qz_temporary_lock(int folder, const char *name, int fd);

/* Removes a folder with its files. Folders in it stay, and so does it. Failures do not matter. */
void qz_temporary_empty(int folder, const char *name);

/* Removes what dead writers left in a folder. Failures do not matter: this is only tidiness. */
void qz_temporary_clean(int folder);

/* Whether a folder in `folder` has no files and no folders. */
int qz_folder_is_empty(int folder, const char *name);

#endif
