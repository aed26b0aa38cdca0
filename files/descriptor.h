/*
 * descriptor.h - reads and writes of open descriptors that are done in full
 */
#ifndef QZ_FILE_DESCRIPTOR_H
#define QZ_FILE_DESCRIPTOR_H

#include "system.h"

#include <stddef.h>
#include <stdint.h>

/* The same open file under a number above 2, so that nothing that is meant for a terminal can go into it; closes fd. */
int qz_above_standard(int fd);

/* pread and pwrite until done; 0 with errno set (0 at the end of the file) if that is not possible. */
int qz_pread_all(int fd, void *dst, size_t bytes, uint64_t offset);
int qz_pwrite_all(int fd, const void *src, size_t bytes, uint64_t offset);

#endif
