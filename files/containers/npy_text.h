/*
 * npy_text.h - takes words, strings and signs from the text of a header, which is a Python literal
 */
#ifndef QZ_FILE_NPY_TEXT_H
#define QZ_FILE_NPY_TEXT_H

#include "../system.h"

#include <stddef.h>
#include <stdint.h>

#include "../quantize_file.h"

typedef struct qz_text {
    const char *at, *end, *text;
    uint64_t base; /* offset of the text in the file, or QZ_NO_OFFSET */
    const char *label, *field;
    qz_file_error *error;
} qz_text;

/* Fills in the error that the text is malformed at `at`, and returns QZ_FILE_FORMAT. */
qz_file_result qz_text_refuse(const qz_text *p, const char *at, const char *what);

/* Each of these skips white space, and takes what it names if that comes next: 1. Otherwise it returns 0. */
void qz_text_skip_space(qz_text *p);
int qz_text_take(qz_text *p, char wanted);
int qz_text_take_word(qz_text *p, const char *word);
/* A string without escapes: its characters stay where they are. `wide`: there may be others than ASCII. */
int qz_text_take_string(qz_text *p, int wide, const char **text, size_t *length);

#endif
