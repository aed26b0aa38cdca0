/*
 * crew.h - several threads that work on pieces of tensors
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

/* Work that is done in pieces, all of it known: a tensor. */
typedef struct crew_item {
    uint64_t pieces; /* there are of it */
    uint64_t left;   /* of them; the crew counts */
} crew_item;

typedef struct crew_work {
    /* Works on a piece of an item; `member` is below crew_size(), and no other piece has it meanwhile. */
    int (*piece)(void *context, unsigned member, size_t item, uint64_t piece);
    /* NULL, or called when all pieces of an item are done and those of all before it, in their order, by one thread at
     * a time. */
    void (*done)(void *context, size_t item);
    void *context;
} crew_work;

/* Works on all pieces of all items, which are begun in this order; the next item does not wait for the one before. The
 * result is that of the first piece, in this order, that is not DONE, or a signal; no others are begun then. Only the
 * failure of that piece is told, whatever others find meanwhile. */
int crew_each(crew *c, crew_item *items, size_t count, const crew_work *work);
/* The member that worked on the piece of which that was the result. */
unsigned crew_culprit(const crew *c);

#endif
