/*
 * unread.h - recognizes files of other programs that the library does not read
 */
#ifndef QZ_FILE_UNREAD_H
#define QZ_FILE_UNREAD_H

#include "system.h"

#include <stddef.h>
#include <stdint.h>

/* What a file is that this library does not read, and how its tensors become a file that it does; NULL for a file that
 * it does not know. The content decides, then the extension. */
const char *qz_unread_kind(const uint8_t *head, size_t bytes, const char *path);

#endif
