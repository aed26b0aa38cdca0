/*
 * resume.h - --resume: makes a folder file by file, so that a run can continue where an earlier one ended
 */
#ifndef QZ_CLI_RESUME_H
#define QZ_CLI_RESUME_H

#include "part.h"

/* Whether the options go together. */
int resume_check(const settings *s);

/* Parts of a key: a file that is read, NULL if there is none; a number; how a tensor is encoded. */
int key_input(sha256 *h, const qz_file *file);
void key_number(sha256 *h, uint64_t number);
void key_scheme(sha256 *h, const qz_scheme *scheme);

/* Makes the files that are not complete yet, one after another, and then gives the folder its name. */
int make_resumable(const parted *r);

#endif
