/*
 * encode_codes.h - codes of groups whose scales are known, and the errors of the codes
 */
#ifndef QZ_ENCODE_CODES_H
#define QZ_ENCODE_CODES_H

#include "scales/encoder.h"
#include "operation.h"

/* An encoding: the matrix and its cut, how scales are found, and what is asked for beside them. */
struct encoding {
    struct qz_operation operation;
    struct qz_encoder encoder;
    const float *repeated; /* the weights of every run, where they are the same for all; or NULL */
    const qz_whole *whole; /* what the matrix is a part of, or NULL */
    uint64_t part_cols;    /* columns of the part, before rows are merged */
    uint64_t usual_cols;   /* of a tile, where there are wide ones: see qz_wide_tile */
    int want_stats, stochastic;
    uint64_t seed;
};

/* Notes whether some value lies further beyond uniform codes than the kernels take. Plain scales follow from the range
 * of their group; others need not suit all its values. */
void qz_note_far_values(const struct qz_view *view, struct groups *groups);

/* Codes of n values by the kernel. If the statistics are wanted, their sums come with them.
 * Returns how many values were clipped. */
size_t qz_kernel_codes(const struct encoding *encoding, struct groups *groups, const float *x, size_t n,
                       size_t group_size, uint8_t *codes);

/* Codes of any groups that are fitted; returns how many values were clipped. Element i of x has code i of `codes`. */
size_t qz_group_codes(const struct encoding *encoding, struct groups *groups, const struct run *run, const float *x,
                      size_t group_size, uint8_t *codes);

/* Values beyond the ends of the code range by more than half a step, where a group's numbers are another tool's; 0 if
 * no statistics are wanted. */
size_t qz_count_clipped(const struct encoding *encoding, const struct groups *groups, const float *x, size_t n,
                        size_t group_size);

/* Where the codes of a run are made: in place, or in `staged` if they must be moved from there. */
uint8_t *qz_codes_buffer(const struct encoding *encoding, const struct run *run, uint8_t *staged);

/* Puts the codes of a run of values x in place and adds its statistics. `stays`: x is there until the call ends. */
void qz_finish_codes(const struct encoding *encoding, struct errors *errors, const struct groups *groups,
                     const struct run *run, const float *x, const float *w, int stays, size_t group_size,
                     uint8_t *codes);

#endif
