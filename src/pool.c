/*
 * pool.c - a small pool of threads that wait for work: awake for a moment, then asleep
 *
 * Waking a sleeping thread takes longer than a whole call on cache-sized data, so both sides first look for a few tens
 * of microseconds whether the other is there already.
 */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* sched_getaffinity */
#endif

#include "pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#endif

#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() ((void)0)
#endif

enum { THREADS_MAX = 256, LOOKS = 1000 };

struct qz_pool {
    size_t threads; /* the calling one included */
    pid_t owner;    /* the process in which the threads live */
    pthread_mutex_t in_use;

    /* Whoever wants to sleep takes the lock, says so in `sleepers` and looks once more; whoever has changed something
     * looks at `sleepers` afterwards and takes the lock to wake. One of the two sees the other. */
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    atomic_size_t sleepers; /* workers, and the caller */
    atomic_ullong round;    /* raised for each piece of work, after it is described below */
    atomic_size_t running;  /* threads that have not finished this round */
    atomic_int stop;
    void (*work)(void *context, size_t i);
    void *context;
    size_t slices;

    struct worker {
        qz_pool *pool;
        size_t number;
        pthread_t thread;
    } workers[]; /* threads - 1 */
};

uint64_t qz_slice_start(uint64_t count, size_t slices, size_t i)
{
    /* count * i / slices without overflow */
    return count / slices * i + count % slices * i / slices;
}

/* Runs the share of one thread. */
static void run_share(void (*work)(void *, size_t), void *context, size_t slices, size_t threads, size_t number)
{
    size_t end = (size_t)qz_slice_start(slices, threads, number + 1);
    for (size_t i = (size_t)qz_slice_start(slices, threads, number); i < end; i++)
        work(context, i);
}

static void wake_sleepers(qz_pool *pool, pthread_cond_t *condition)
{
    if (atomic_load(&pool->sleepers) == 0)
        return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(condition);
    pthread_mutex_unlock(&pool->lock);
}

static void *worker_main(void *argument)
{
    struct worker *self = argument;
    qz_pool *pool = self->pool;
    for (unsigned long long seen = 0;; seen++) {
        for (int i = 0; i < LOOKS && atomic_load(&pool->round) == seen && !atomic_load(&pool->stop); i++)
            PAUSE();
        if (atomic_load(&pool->round) == seen) {
            pthread_mutex_lock(&pool->lock);
            atomic_fetch_add(&pool->sleepers, 1);
            while (atomic_load(&pool->round) == seen && !atomic_load(&pool->stop))
                pthread_cond_wait(&pool->wake, &pool->lock);
            atomic_fetch_sub(&pool->sleepers, 1);
            pthread_mutex_unlock(&pool->lock);
        }
        if (atomic_load(&pool->stop))
            return NULL;
        run_share(pool->work, pool->context, pool->slices, pool->threads, self->number);
        if (atomic_fetch_sub(&pool->running, 1) == 1)
            wake_sleepers(pool, &pool->done);
    }
}

void qz_pool_run(qz_pool *pool, size_t slices, void (*work)(void *context, size_t i), void *context)
{
    if (!pool || pool->threads == 1 || slices < 2 || pool->owner != getpid() ||
        pthread_mutex_trylock(&pool->in_use) != 0) {
        run_share(work, context, slices, 1, 0);
        return;
    }
    pool->work = work;
    pool->context = context;
    pool->slices = slices;
    atomic_store(&pool->running, pool->threads - 1);
    atomic_fetch_add(&pool->round, 1);
    wake_sleepers(pool, &pool->wake);

    run_share(work, context, slices, pool->threads, 0);

    for (int i = 0; i < LOOKS && atomic_load(&pool->running); i++)
        PAUSE();
    if (atomic_load(&pool->running)) {
        pthread_mutex_lock(&pool->lock);
        atomic_fetch_add(&pool->sleepers, 1);
        while (atomic_load(&pool->running))
            pthread_cond_wait(&pool->done, &pool->lock);
        atomic_fetch_sub(&pool->sleepers, 1);
        pthread_mutex_unlock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->in_use);
}

/* Ends the first `started` workers and frees the pool. */
static void stop_and_free(qz_pool *pool, size_t started)
{
    atomic_store(&pool->stop, 1);
    wake_sleepers(pool, &pool->wake);
    for (size_t i = 0; i < started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    pthread_mutex_destroy(&pool->in_use);
    free(pool);
}

qz_result qz_pool_create(size_t threads, qz_pool **result)
{
    if (threads == 0)
        threads = qz_cpu_count() < THREADS_MAX ? qz_cpu_count() : THREADS_MAX;
    if (threads > THREADS_MAX)
        return QZ_ERROR_ARGUMENT;
    qz_pool *pool = calloc(1, sizeof *pool + (threads - 1) * sizeof pool->workers[0]);
    if (!pool)
        return QZ_ERROR_MEMORY;
    atomic_init(&pool->round, 0);
    atomic_init(&pool->running, 0);
    atomic_init(&pool->sleepers, 0);
    atomic_init(&pool->stop, 0);
    pool->threads = threads;
    pool->owner = getpid();
    pthread_mutex_init(&pool->in_use, NULL);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);

    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 512 * 1024); /* the drivers keep about 100 KiB of tiles on the stack */
    for (size_t i = 0; i + 1 < threads; i++) {
        struct worker *worker = &pool->workers[i];
        worker->pool = pool;
        worker->number = i + 1;
        if (pthread_create(&worker->thread, &attributes, worker_main, worker) != 0) {
            pthread_attr_destroy(&attributes);
            stop_and_free(pool, i);
            return QZ_ERROR_MEMORY;
        }
    }
    pthread_attr_destroy(&attributes);
    *result = pool;
    return QZ_OK;
}

void qz_pool_destroy(qz_pool *pool)
{
    if (!pool)
        return;
    if (pool->owner != getpid())
        free(pool); /* a copy made by fork: its threads do not exist here */
    else
        stop_and_free(pool, pool->threads - 1);
}

size_t qz_pool_threads(const qz_pool *pool)
{
    return pool ? pool->threads : 1;
}

size_t qz_cpu_count(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
#ifdef __linux__
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) == 0 && CPU_COUNT(&mask) > 0)
        count = CPU_COUNT(&mask);
    /* Control group version 2: "quota period", or "max period" */
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (file) {
        long long quota, period;
        if (fscanf(file, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0) {
            long long allowed = (quota + period - 1) / period;
            count = allowed < count ? (long)allowed : count;
        }
        fclose(file);
    }
#endif
    return count < 1 ? 1 : (size_t)count;
}
