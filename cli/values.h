/*
 * values.h - the floats that a tensor is encoded from: those of its file, or those that its codes decode to
 */
#ifndef QZ_CLI_VALUES_H
#define QZ_CLI_VALUES_H

#include "block.h"
#include "encode.h"

/* Describes the values of a tensor of codes, which are decoded: sets j->tensor and j->codes. */
int describe_codes(const encoder *e, job *j);

/* The columns at which a matrix may be divided that must be so at multiples of `unit`, when its values are read. */
uint64_t values_unit(const job *j, uint64_t unit, uint64_t cols);

/* Room for what blocks of a plan are decoded from, until end_values; and how many bytes that is. */
int begin_values(const job *j, const block_plan *plan);
void end_values(const job *j);
uint64_t values_memory(const job *j, const block_plan *plan);

/* Reads a block into `buffer`, in the order of the file; what is decoded is float32 in C order. */
int read_values(const encoder *e, const job *j, const grid *g, const block *b, void *buffer);

#endif
