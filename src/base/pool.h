/*
 * pool.h - divides work among threads
 */
#ifndef QZ_POOL_H
#define QZ_POOL_H

#include "quantize.h"

#include <stdio.h>

/* Slices a piece of work is cut into, however many threads there are: sums made slice by slice and added in slice
 * order are then the same for every thread count. It bounds the useful number of threads. */
enum { QZ_SLICES_MAX = 64 };

/* Where slice i of `slices` starts in `count` pieces of work; slice i ends where slice i + 1 starts. */
uint64_t qz_slice_start(uint64_t count, size_t slices, size_t i);

/* Calls work(context, i) once for each i < slices and returns when all are done, in no particular order. Without a
 * pool, or when it is busy or was left behind by fork, all run here in order. Threads of a pool are in the default
 * floating-point environment, as the caller should be (fpenv.h). */
void qz_pool_run(qz_pool *pool, size_t slices, void (*work)(void *context, size_t i), void *context);

/* How many CPUs a control group may use at a time, by its file cpu.max (version 2: "quota period", or "max period"): a
 * part of one counts as one. 0: there is no such limit. */
size_t qz_cpus_allowed(FILE *file);

#endif
