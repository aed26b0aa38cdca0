/*
 * part.h - an output folder that is made file by file: by several runs (--part), or by one run (--resume)
 */
#ifndef QZ_CLI_PART_H
#define QZ_CLI_PART_H

#include "results.h"
#include "sha256.h"
#include "source.h"

/* What a command tells of its work. `of` is the command's own, and what the functions are called with. */
typedef struct parted {
    void *of;
    const source *in;
    const settings **s; /* of the command, in which the output is another one while --resume makes a file */
    uint64_t *part;     /* of the output, as qz_create_options has it; 0: all */
    qz_shard *made;     /* of a part that is a file, that file */
    qz_writer **writer;
    int (*key)(const void *of, sha256 *h); /* adds what the bytes depend on, beside version, input and size of files */
    void (*forget)(void *of);              /* what was declared for the part before */
    int (*open)(void *of);                 /* opens the output with all tensors declared */
    int (*make)(void *of);                 /* makes the whole of it */
    size_t (*index)(const void *of, size_t i);          /* in the output: of tensor i, or of the first of its members */
    int *(*elsewhere)(void *of, size_t i);              /* whether tensor i is in a file that is not made now */
    const qz_stats *(*stats)(const void *of, size_t i); /* the error of tensor i; zeros, if none was measured */
    void (*mark)(void *of, size_t i);                   /* tensor i is in a file that an earlier run made */
    void (*list)(const void *of); /* more members of what --part list says; NULL: there are none */
} parted;

int is_rest(const settings *s);
int is_list(const settings *s);

/* What --part says, as qz_create_options.part. */
int part_of_options(const settings *s, uint64_t *part);
/* Which tensors the part has: the others are left out of the work. */
int choose_part(const parted *p);
/* The files of the folder, on stdout: --part list. */
int list_parts(const parted *p);
/* With --json, what was made. */
void print_part(const parted *p, const results *r);

#endif
