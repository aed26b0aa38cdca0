/*
 * convert.h - what the files of the command convert share
 */
#ifndef QZ_CLI_CONVERT_H
#define QZ_CLI_CONVERT_H

#include <stdio.h>

#include "crew.h"
#include "part.h"
#include "source.h"

enum { REQUANTIZED = -1 };

typedef struct conversion { /* of one tensor */
    const item *item;
    qz_scheme from, scheme;  /* of quantized ones: what it has, what it will have */
    int requantized;         /* its values are others: */
    int neighbour;           /* for another super scale takes the place of its own, */
    qz_stats stats;          /* how far from those that they were */
    uint64_t bytes, values;  /* in the input */
    uint64_t bytes_after;    /* of others, in the output */
    size_t index;            /* of others, in the output */
    qz_packed_tensor target; /* of quantized ones */
    int stays;               /* of others: it keeps the codes that it is decoded from */
    int choice;              /* the number of its scheme among the candidates; REQUANTIZED: it is none of them */
    int looked;              /* at its numbers, to choose */
    int elsewhere;           /* in a file of the folder that is not made now, */
    int made_before;         /* but was in an earlier run: --resume */
} conversion;

typedef struct converter {
    const settings *s;
    source in;
    const char *layout;
    qz_writer *writer;
    qz_pool *pool; /* NULL: one thread */
    crew *crew;    /* of as many threads */
    uint64_t part; /* of a folder, as qz_create_options has it; 0: all */
    qz_shard made; /* of a part that is a file, that file */
    FILE *choices; /* of --choices, or NULL */
    conversion *all;
    size_t count;
} converter;

/* ---- convert.c ---- */

/* Tells programs of a tensor that is done. Called for all, one after the other, in their order. */
void tell_converted(const converter *c, const conversion *v);

/* ---- convert_tensor.c ---- */

/* Sees whether the numbers of a quantized tensor are some of another scheme, and have a place in the layout: DONE, or
 * REFUSED with the reason in `why`, which is empty where the failure was printed. */
enum { WHY_TEXT = 200 };
int look_at_numbers(const converter *c, conversion *v, const qz_scheme *to, char why[WHY_TEXT]);

/* Whether the layout can store the numbers of a block; else *why is the reason. */
int has_place(const converter *c, const qz_scheme *to, uint64_t rows, uint64_t cols, const qz_packed *numbers,
              char why[WHY_TEXT]);

int fail_tensor(const converter *c, const item *i, const char *why);

/* Writes so many tensors to the output, which keep their values, and tells of each. */
int convert_tensors(converter *c, size_t first, size_t count);

/* ---- convert_requantize.c ---- */

/* Writes a tensor to the output with values that are near to those that it has. */
int requantize_tensor(converter *c, conversion *v);

/* ---- convert_plan.c ---- */

/* Chooses what becomes of each tensor. */
int plan_conversion(converter *c);

/* ---- convert_part.c ---- */

/* What --choices says; choices_end() that it says no more. */
int choices_open(converter *c);
int choices_next(converter *c, int *choice);
int choices_end(converter *c);
int fail_choices(const converter *c);

/* What convert tells of a folder that it makes file by file, but for the functions that make it. */
parted parts_of(converter *c);

/* ---- convert_prove.c ---- */

/* Decodes the output, which has all but its name, and compares it with the input. */
int prove(converter *c);

/* The same for one file of a folder, which is not yet among those that are complete. */
int prove_part(converter *c);

#endif
