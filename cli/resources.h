/*
 * resources.h - memory and threads, as much as the machine has
 */
#ifndef QZ_CLI_RESOURCES_H
#define QZ_CLI_RESOURCES_H

#include "args.h"

/* malloc, but not of more than half of the machine's memory. NULL: there is none, the reason was printed, and the exit
 * code is LIMIT. */
void *allocate(uint64_t bytes);

/* Bytes of memory that the program has now, or, where the system does not tell, has had at most; 0: not known. */
uint64_t memory_taken(void);

/* A pool for work on that many elements. */
int start_pool(const settings *s, uint64_t elements, qz_pool **pool);

#endif
