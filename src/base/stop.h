/*
 * stop.h - asks whether a long call should stop
 *
 * Only the caller's own thread calls the caller's function, at most some ten times a second; the other threads read its
 * last answer. Work asks once for each piece that takes about as long as a tile.
 */
#ifndef QZ_STOP_H
#define QZ_STOP_H

#include "quantize.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum {
    QZ_STOP_LOOKS = 16, /* questions between two looks at the clock, while they take less than a millisecond or two */
    QZ_STOP_MS = 100    /* between two calls of the caller's function */
};

struct qz_stop {
    int (*ask)(void *context); /* NULL: nobody will stop it */
    void *context;
    pthread_t caller;
    unsigned looks;     /* questions until the next look */
    int64_t last, next; /* the last look; when to call it, in ms */
    atomic_int asked;
};

static inline int64_t qz_stop_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void qz_stop_begin(struct qz_stop *stop, int (*ask)(void *context), void *context)
{
    stop->ask = ask;
    stop->context = context;
    stop->caller = pthread_self();
    stop->looks = 2; /* the first question comes before any work */
    stop->last = ask ? qz_stop_clock() : 0;
    stop->next = stop->last + QZ_STOP_MS;
    atomic_init(&stop->asked, 0);
}

/* Whether somebody who asked was told to stop. */
static inline int qz_is_stopped(struct qz_stop *stop)
{
    return atomic_load_explicit(&stop->asked, memory_order_relaxed);
}

/* `stop` may be NULL. Once it is 1 it stays so. */
static inline int qz_stop_asked(struct qz_stop *stop)
{
    if (!stop || !stop->ask)
        return 0;
    if (qz_is_stopped(stop))
        return 1;
    if (!pthread_equal(stop->caller, pthread_self()) || --stop->looks > 0)
        return 0;
    int64_t now = qz_stop_clock();
    stop->looks = now - stop->last > 1 ? 1 : QZ_STOP_LOOKS;
    stop->last = now;
    if (now < stop->next)
        return 0;
    int asked = stop->ask(stop->context) != 0;
    atomic_store_explicit(&stop->asked, asked, memory_order_relaxed);
    stop->next = qz_stop_clock() + QZ_STOP_MS;
    return asked;
}

#endif
