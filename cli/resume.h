/*
 * resume.h - encode --resume: a folder that is made file by file, so that a run can go on where another one ended
 */
#ifndef QZ_CLI_RESUME_H
#define QZ_CLI_RESUME_H

#include "encode.h"

/* Whether the options go together. */
int resume_check(const settings *s);

/* What encode does with an output, at e->s->files[1], of which e->part is made: opens it with all tensors declared, and
 * makes the whole of it. */
typedef struct encode_steps {
    int (*open)(encoder *e);
    int (*make)(encoder *e);
} encode_steps;

/* Makes the files that are not complete yet, one after another, and then gives the folder its name. */
int encode_resumable(encoder *e, const encode_steps *steps);

#endif
