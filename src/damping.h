/*
 * damping.h - how much correlations of inputs are believed
 */
#ifndef QZ_DAMPING_H
#define QZ_DAMPING_H

#include "base/pool.h"
#include "base/stop.h"
#include "kernels/kernels.h"

/* Of inputs whose power is less, beside 1 for the greatest, nothing is known: no quotient of powers overflows. */
#define QZ_LEAST_POWER 0x1p-900

/* The Gram matrix of inputs, symmetric, the largest element of its diagonal in 0.5..1. */
struct qz_inputs {
    const double *gram;
    size_t count, pitch;
    const struct qz_kernels *kernels;
    qz_pool *pool;
    struct qz_stop *stop;
};

/* Doubles of room for each element of a row of the matrix. */
enum { QZ_DAMPING_ROOM = 40 };

/* The damping that suits so many examples. 0: their number is not known, and taken as that of the inputs. `room`:
 * QZ_DAMPING_ROOM * pitch doubles. */
double qz_damping(const struct qz_inputs *inputs, uint64_t examples, double *room);

#endif
