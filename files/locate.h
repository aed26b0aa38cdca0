/*
 * locate.h - finds the file of a folder that is the model
 */
#ifndef QZ_FILE_LOCATE_H
#define QZ_FILE_LOCATE_H

#include "system.h"

#include "quantize_file.h"

/* Where `path` is a folder, *file becomes the path of the model in it, to be released with free(); NULL if it is
 * something else. */
qz_file_result qz_locate(const char *path, char **file, qz_file_error *error);

/* Whether the name is that of a numbered file, as in NAME-00002-of-00003.gguf; `end` is what follows the numbers. *stem
 * becomes the length of NAME. */
int qz_numbered_name(const char *name, const char *end, unsigned *number, unsigned *of, size_t *stem);

#endif
