/*
 * results.h - the results of a command for programs: one object at the end (--json), or events during the run (--jsonl)
 *
 * Both have the same members, and a command writes each member by one function.
 */
#ifndef QZ_CLI_RESULTS_H
#define QZ_CLI_RESULTS_H

#include "args.h"

typedef struct results {
    const settings *s;
    const void *of; /* the command's own state, for: */
    size_t count;   /* how many tensors there are */
    void (*totals)(const void *of);
    void (*tensor)(const void *of, size_t i);
    const char *(*name)(const void *of, size_t i, size_t *length);
    double (*sqnr)(const void *of, size_t i); /* NAN: not measured; NULL: nothing is */
} results;

/* Whether numbers are wanted that take time to find. */
int wants_numbers(const settings *s);

/* Writes the member "tensors": a list of all of them, as --json has it. */
void results_list(const results *r);

/* The first event: what was called. */
void results_start(const settings *s);
/* What there is to do: tensors of so many bytes. */
void results_plan(const results *r, uint64_t bytes);
/* A tensor is begun, which failures then name; it is done. */
void results_begin_tensor(const results *r, size_t i);
/* The same for several that are worked on at a time: the seconds of each are those since the one before. */
void results_begin_tensors(void);
void results_tensor(const results *r, size_t i);
/* All is done, with that exit code: the last event, or the one object. */
void results_end(const results *r, int code);

#endif
