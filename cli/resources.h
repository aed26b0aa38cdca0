/*
 * resources.h - memory and threads, within what the machine has
 */
#ifndef QZ_CLI_RESOURCES_H
#define QZ_CLI_RESOURCES_H

#include "args.h"

/* Lets memory that was given back stay with the program for the next block, as far as the C library can be told so: what
 * the system gets back it must clear anew. */
void keep_memory(void);

/* malloc, but not of more than half of the machine's memory. NULL: there is none, the reason was printed, and the exit
 * code is LIMIT. */
void *allocate(uint64_t bytes);

/* Whether so much memory may be asked for, which no more than half of the machine's is. If it is not, that and `why`
 * are said, a reason and a remedy, and the result is LIMIT. */
int allow_memory(uint64_t bytes, const char *why);

/* Bytes of memory that the program has now, or, where the system does not tell, has had at most; 0: not known. */
uint64_t memory_taken(void);

/* A pool for work on that many elements. */
int start_pool(const settings *s, uint64_t elements, qz_pool **pool);

#endif
