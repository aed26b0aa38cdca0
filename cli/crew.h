/*
 * crew.h - several threads that work on pieces of a tensor
 */
#ifndef QZ_CLI_CREW_H
#define QZ_CLI_CREW_H

#include "cli.h"

enum { CREW_MOST = 4 }; /* a file takes what is written from one thread at a time, so that more would wait */

typedef struct crew crew;

/* A crew of so many threads, this one among them, and CREW_MOST at most. NULL: there is no memory, which was said. */
crew *crew_start(size_t threads);
void crew_end(crew *c); /* NULL: none */

unsigned crew_size(const crew *c);

/* Work on one piece; `member` is below crew_size(), and no other piece has it meanwhile. */
typedef int (*crew_work)(void *context, unsigned member, uint64_t piece);

/* Calls `work` for pieces 0 to count - 1, which are begun in this order. The result is that of the first piece, by its
 * number, that is not DONE, or a signal; no others are begun then. Only the failure of that piece is told, whatever
 * others find meanwhile. */
int crew_each(crew *c, uint64_t count, crew_work work, void *context);
/* The member that worked on the piece of which that was the result. */
unsigned crew_culprit(const crew *c);

#endif
