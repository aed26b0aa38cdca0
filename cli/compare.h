/*
 * compare.h - counts the errors of one tensor that two files have
 */
#ifndef QZ_CLI_COMPARE_H
#define QZ_CLI_COMPARE_H

#include "args.h"

enum { ERROR_BINS = 41 }; /* odd: 0 is in the middle of one */

typedef struct error_histogram {
    double reach; /* the largest magnitude: bins lie evenly from -reach to reach */
    uint64_t counts[ERROR_BINS];
} error_histogram;

/* Counts the errors of a tensor of floats that both files of the command have. */
int find_errors(const settings *s, const char *name, size_t length, error_histogram *out);

#endif
