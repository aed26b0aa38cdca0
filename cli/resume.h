/*
 * resume.h - --resume: a folder that is made file by file, so that a run can go on where another one ended
 */
#ifndef QZ_CLI_RESUME_H
#define QZ_CLI_RESUME_H

#include "recipe.h"
#include "sha256.h"
#include "source.h"

/* Whether the options go together. */
int resume_check(const settings *s);

/* What a command tells of its work. `of` is the command's own, and what the functions are called with. */
typedef struct resumable {
    void *of;
    const source *in;
    const settings **s; /* of the command, in which the output is another one meanwhile */
    uint64_t *part;     /* of the output, as qz_create_options has it */
    qz_writer **writer;
    int (*key)(const void *of, sha256 *h); /* adds what the bytes depend on, beside version, input and size of files */
    void (*forget)(void *of);              /* what was declared for the part before */
    int (*open)(void *of);                 /* opens the output with all tensors declared */
    int (*make)(void *of);                 /* makes the whole of it */
    size_t (*index)(const void *of, size_t i); /* in the output: of tensor i, or of the first of its members */
    void (*mark)(void *of, size_t i);          /* tensor i is in a file that an earlier run made */
} resumable;

/* Parts of a key: a file that is read, NULL if there is none; a number; how a tensor is encoded. */
int key_input(sha256 *h, const qz_file *file);
void key_number(sha256 *h, uint64_t number);
void key_scheme(sha256 *h, const qz_scheme *scheme);

/* Makes the files that are not complete yet, one after another, and then gives the folder its name. */
int make_resumable(const resumable *r);

#endif
