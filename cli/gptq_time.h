/*
 * gptq_time.h - estimates how long GPTQ will take
 */
#ifndef QZ_CLI_GPTQ_TIME_H
#define QZ_CLI_GPTQ_TIME_H

#include "encode.h"

/* Seconds for a tensor that has a Gram matrix, or for one of the same size, measured with smaller matrices of made-up
 * values; 0 where that is not possible. */
double gptq_seconds(encoder *e, const job *j);

#endif
