/*
 * descriptor.h - reads and writes all bytes that are asked for from an open descriptor
 */
#ifndef QZ_FILE_DESCRIPTOR_H
#define QZ_FILE_DESCRIPTOR_H

#include "system.h"

#include <stddef.h>
#include <stdint.h>

/* Moves an open file to a number above 2, so that nothing that is meant for a terminal can be written into it; closes
 * fd and returns the new number. */
int qz_above_standard(int fd);

/* Call pread or pwrite until all bytes were moved. Return 0 with errno set (to 0 at the end of the file) if that
 * fails. */
int qz_pread_all(int fd, void *dst, size_t bytes, uint64_t offset);
int qz_pwrite_all(int fd, const void *src, size_t bytes, uint64_t offset);

/* Asks for room for so many bytes at once, which spares the system looking for it piece by piece. Only a hint: the file
 * is not longer afterwards, and where there is no room, writing says so. */
void qz_reserve(int fd, uint64_t bytes);

/* Waits until the contents are on the medium. 0, or -1 with errno set. A failed sync is final: the system may have
 * dropped the data, and a second call would succeed. */
int qz_sync(int fd);

/* The same for the names in a folder; on some file systems folders cannot be synced, which is no failure. Returns 0
 * with errno set if it fails. */
int qz_sync_folder(int fd);

#endif
