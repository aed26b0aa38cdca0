/*
 * findings.h - what one slice of a matrix finds while it is encoded, decoded or compared: statistics and errors
 */
#ifndef QZ_FINDINGS_H
#define QZ_FINDINGS_H

#include "view.h"

/* What encoding or comparing did to values: written by the functions below, added up by work.c. */
struct errors {
    double signal, error, max_error, weighted_signal, weighted_error;
    uint64_t max_index;
    struct run where; /* rows > 0: max_error is in this run of the values at where_x, its index not looked up yet */
    const float *where_x;
};

/* What the step of an operation notes, each slice for itself; added up by work.c. */
struct findings {
    int nonfinite;      /* some value is NaN or infinite, or a float64 is beyond float32 */
    int bad_weight;     /* some weight is negative or not finite */
    int overflow;       /* some decoded value does not fit the type of the output */
    uint64_t bad_group; /* first group whose scale does not fit; UINT64_MAX for none */
    double bad_value;   /* largest magnitude in it */
    int bad_number;     /* the qz_number that does not fit */
    uint64_t clipped, zeroed, subnormal, replaced;
    struct errors errors;
};

/* Adds what came with the codes of a run. Returns 0, and adds nothing, where squares may have left float32's range. */
int qz_add_plain_sums(struct errors *errors, const struct qz_sums *sums);

/* Notes an error of this size at flat index `index`, if it is the largest so far or an earlier one as large. */
void qz_note_error(struct errors *errors, double error, uint64_t index);

/* Adds the error of y against x: a run's values, all |x| <= largest. */
void qz_add_error(const struct qz_view *view, struct errors *errors, const float *x, const float *y,
                  const struct run *run, float largest);

/* The same for the weighted sums alone. */
void qz_add_weighted_error(const struct qz_view *view, struct errors *errors, const float *x, const float *y,
                           const float *w, const struct run *run);

/* Finds the index of the largest error so far, if that was put off. */
void qz_look_up_error(const struct qz_view *view, struct errors *errors);

/* Largest magnitude of groups with these ranges. */
float qz_largest_magnitude(const struct qz_view *view, const float *min, const float *max, size_t groups);

#endif
