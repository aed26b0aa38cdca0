/*
 * stop.h - whether a long call was asked to stop
 *
 * The caller's function is called by the caller's own thread alone, at most some ten times a second; the other threads
 * see what it said. Work that takes about a tile's time asks once for each.
 */
#ifndef QZ_STOP_H
#define QZ_STOP_H

#include "quantize.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum {
    QZ_WATCH_LOOKS = 16, /* questions between two looks at the clock, while they take less than a millisecond or two */
    QZ_WATCH_MS = 100    /* between two calls of the caller's function */
};

struct qz_watch {
    int (*stop)(void *context); /* NULL: nobody will */
    void *context;
    pthread_t caller;
    unsigned looks;     /* questions until the next look */
    int64_t last, next; /* the last look; when to call it, in ms */
    atomic_int stopped;
};

static inline int64_t qz_watch_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void qz_watch_begin(struct qz_watch *watch, int (*stop)(void *context), void *context)
{
    watch->stop = stop;
    watch->context = context;
    watch->caller = pthread_self();
    watch->looks = 2; /* the first question comes before any work */
    watch->last = stop ? qz_watch_now() : 0;
    watch->next = watch->last + QZ_WATCH_MS;
    atomic_init(&watch->stopped, 0);
}

/* `watch` may be NULL. Once it is 1 it stays so. */
static inline int qz_watch_stopped(struct qz_watch *watch)
{
    if (!watch || !watch->stop)
        return 0;
    if (atomic_load_explicit(&watch->stopped, memory_order_relaxed))
        return 1;
    if (!pthread_equal(watch->caller, pthread_self()) || --watch->looks > 0)
        return 0;
    int64_t now = qz_watch_now();
    watch->looks = now - watch->last > 1 ? 1 : QZ_WATCH_LOOKS;
    watch->last = now;
    if (now < watch->next)
        return 0;
    int stop = watch->stop(watch->context) != 0;
    atomic_store_explicit(&watch->stopped, stop, memory_order_relaxed);
    watch->next = qz_watch_now() + QZ_WATCH_MS;
    return stop;
}

#endif
