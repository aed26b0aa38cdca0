/*
 * crew.c - several threads that work on pieces of tensors
 *
 * The threads stay as long as the crew. Pieces are handed out in order, so that all before one that fails were begun,
 * and the failure that is told is the one that a single thread would have met.
 */
#include "crew.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

enum { STACK = 8 << 20 }; /* of a thread, as in the library: some C libraries give it 128 KiB */
static const uint64_t NONE = UINT64_MAX;

typedef struct member {
    crew *of;
    unsigned number;
    pthread_t thread;
} member;

struct crew {
    pthread_mutex_t lock;
    pthread_cond_t wake, idle;
    unsigned size; /* with the thread that calls */
    member members[CREW_MOST];

    /* Of one call, under the lock. */
    const crew_work *work;
    crew_item *items;
    size_t count, item, done; /* items; from which pieces are taken; of which all pieces are done */
    uint64_t piece;           /* the next one of the item */
    uint64_t begun, failed;   /* pieces of all items; `failed` is NONE if none has */
    unsigned busy;            /* members that look for pieces, but for the one that calls */
    uint64_t calls;           /* made so far */
    int ends;
    int code;
    unsigned culprit;
    failure first; /* of the piece that failed */
};

/* Whether there is a piece to begin: that of which c->item and c->piece speak. */
static int has_piece(crew *c)
{
    while (c->item < c->count && c->piece == c->items[c->item].pieces) {
        c->item++;
        c->piece = 0;
    }
    return c->item < c->count && c->failed == NONE;
}

static void tell_done(crew *c)
{
    for (; c->done < c->count && c->items[c->done].left == 0; c->done++)
        if (c->work->done)
            c->work->done(c->work->context, c->done);
}

/* Works on pieces until there are no more. Called with the lock, and returns with it. */
static void work_on(crew *c, unsigned number)
{
    while (has_piece(c)) {
        const size_t item = c->item;
        const uint64_t piece = c->piece++, place = c->begun++;
        failure found = {.happened = 0};
        pthread_mutex_unlock(&c->lock);
        keep_failures(&found);
        int code = stop_requested() ? 128 + stop_requested() : c->work->piece(c->work->context, number, item, piece);
        keep_failures(NULL);
        pthread_mutex_lock(&c->lock);
        if (code == DONE && --c->items[item].left == 0)
            tell_done(c);
        if (code != DONE && place < c->failed) {
            free(c->first.name);
            c->first = found;
            c->failed = place;
            c->code = code;
            c->culprit = number;
        } else {
            free(found.name);
        }
    }
}

static void *run_member(void *of)
{
    const member *m = of;
    crew *c = m->of;
    uint64_t seen = 0;
    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (c->calls == seen && !c->ends)
            pthread_cond_wait(&c->wake, &c->lock);
        if (c->ends)
            break;
        seen = c->calls;
        work_on(c, m->number);
        if (--c->busy == 0)
            pthread_cond_signal(&c->idle);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

crew *crew_start(size_t threads)
{
    crew *c = calloc(1, sizeof *c);
    if (!c) {
        fail_memory();
        return NULL;
    }
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    pthread_cond_init(&c->idle, NULL);
    c->size = 1;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    while (c->size < threads && c->size < CREW_MOST) { /* fewer where the system has no more */
        member *m = &c->members[c->size];
        *m = (member){.of = c, .number = c->size};
        if (pthread_create(&m->thread, &attributes, run_member, m) != 0)
            break;
        c->size++;
    }
    pthread_attr_destroy(&attributes);
    return c;
}

void crew_end(crew *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->ends = 1;
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
    for (unsigned i = 1; i < c->size; i++)
        pthread_join(c->members[i].thread, NULL);
    pthread_cond_destroy(&c->idle);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

unsigned crew_size(const crew *c)
{
    return c->size;
}

unsigned crew_culprit(const crew *c)
{
    return c->culprit;
}

int crew_each(crew *c, crew_item *items, size_t count, const crew_work *work)
{
    uint64_t pieces = 0;
    for (size_t i = 0; i < count; i++) {
        items[i].left = items[i].pieces;
        pieces += items[i].pieces < 2 - pieces ? items[i].pieces : 2 - pieces; /* two are as good as more */
    }
    pthread_mutex_lock(&c->lock);
    c->work = work;
    c->items = items;
    c->count = count;
    c->item = c->done = 0;
    c->piece = c->begun = 0;
    c->failed = NONE;
    c->code = DONE;
    c->first = (failure){.happened = 0};
    if (pieces > 1 && c->size > 1) {
        c->busy = c->size - 1;
        c->calls++;
        pthread_cond_broadcast(&c->wake);
    }
    work_on(c, 0);
    while (c->busy != 0)
        pthread_cond_wait(&c->idle, &c->lock);
    if (c->code == DONE)
        tell_done(c); /* items at the end that have no pieces */
    const int code = c->code;
    pthread_mutex_unlock(&c->lock);
    if (c->first.happened)
        tell_failure(&c->first);
    return code;
}
