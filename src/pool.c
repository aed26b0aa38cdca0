/*
 * pool.c - a small pool of threads that wait for work: awake for a moment, then asleep
 *
 * Each thread has a share of the slices, the same one in every call, so that its cache stays its own. Whoever is done
 * with its share helps the others: a thread that another program keeps from running delays nobody by more than one
 * slice.
 *
 * Waking a sleeping thread takes longer than a whole call on cache-sized data, so both sides first look for a few tens
 * of microseconds whether the other is there already.
 */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* sched_getaffinity */
#endif

#include "fpenv.h"
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

/* The slices of one thread, up to `end`. `open` holds the number of the call in its upper bits and how many slices
 * nobody has taken yet in the lower ones. To take one is to lower it; whoever succeeds knows that the call is still
 * running, for it cannot end before this slice, and only then looks at anything else that describes it. */
struct share {
    _Alignas(64) atomic_ullong open;
    size_t end;
};

enum { OPEN_BITS = 16 };

struct qz_pool {
    size_t threads; /* the calling one included */
    pid_t owner;    /* the process in which the threads live */
    pthread_mutex_t in_use;

    /* Whoever wants to sleep takes the lock, says so in `sleepers` and looks once more; whoever has changed something
     * looks at `sleepers` afterwards and takes the lock to wake. One of the two sees the other. */
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    atomic_size_t sleepers; /* workers, and the caller */
    atomic_ullong round;    /* number of the call, raised when it is ready to be worked on */
    atomic_size_t left;     /* slices that are not finished */
    atomic_int stop;
    void (*work)(void *context, size_t i);
    void *context;

    struct worker {
        qz_pool *pool;
        size_t number; /* of its share; the caller has share 0 */
        pthread_t thread;
    } * workers;           /* threads - 1 */
    struct share shares[]; /* threads */
};

uint64_t qz_slice_start(uint64_t count, size_t slices, size_t i)
{
    /* count * i / slices without overflow */
    return count / slices * i + count % slices * i / slices;
}

static void wake_sleepers(qz_pool *pool, pthread_cond_t *condition)
{
    if (atomic_load(&pool->sleepers) == 0)
        return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(condition);
    pthread_mutex_unlock(&pool->lock);
}

/* Takes slices of a share and runs them until none is open. */
static void run_share(qz_pool *pool, struct share *share)
{
    unsigned long long open = atomic_load(&share->open);
    while (open & ((1u << OPEN_BITS) - 1)) {
        if (!atomic_compare_exchange_weak(&share->open, &open, open - 1))
            continue;
        pool->work(pool->context, share->end - (size_t)(open & ((1u << OPEN_BITS) - 1)));
        if (atomic_fetch_sub(&pool->left, 1) == 1)
            wake_sleepers(pool, &pool->done);
        open = atomic_load(&share->open);
    }
}

/* One's own share, then what is open of the others. */
static void run_shares(qz_pool *pool, size_t number)
{
    for (size_t i = 0; i < pool->threads; i++)
        run_share(pool, &pool->shares[(number + i) % pool->threads]);
}

static void *worker_main(void *argument)
{
    struct worker *self = argument;
    qz_pool *pool = self->pool;
    qz_fp_enter(); /* for good: all that runs here is ours */
    for (unsigned long long seen = 0;;) {
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
        seen = atomic_load(&pool->round);
        run_shares(pool, self->number);
    }
}

void qz_pool_run(qz_pool *pool, size_t slices, void (*work)(void *context, size_t i), void *context)
{
    if (!pool || pool->threads == 1 || slices < 2 || pool->owner != getpid() ||
        pthread_mutex_trylock(&pool->in_use) != 0) {
        for (size_t i = 0; i < slices; i++)
            work(context, i);
        return;
    }
    unsigned long long round = atomic_load(&pool->round) + 1;
    pool->work = work;
    pool->context = context;
    atomic_store(&pool->left, slices);
    for (size_t t = 0; t < pool->threads; t++) {
        struct share *share = &pool->shares[t];
        share->end = (size_t)qz_slice_start(slices, pool->threads, t + 1);
        atomic_store(&share->open, round << OPEN_BITS | (share->end - qz_slice_start(slices, pool->threads, t)));
    }
    atomic_store(&pool->round, round);
    wake_sleepers(pool, &pool->wake);

    run_shares(pool, 0);

    for (int i = 0; i < LOOKS && atomic_load(&pool->left); i++)
        PAUSE();
    if (atomic_load(&pool->left)) {
        pthread_mutex_lock(&pool->lock);
        atomic_fetch_add(&pool->sleepers, 1);
        while (atomic_load(&pool->left))
            pthread_cond_wait(&pool->done, &pool->lock);
        atomic_fetch_sub(&pool->sleepers, 1);
        pthread_mutex_unlock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->in_use);
}

static void free_memory(qz_pool *pool)
{
    free(pool->workers);
    free(pool);
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
    free_memory(pool);
}

qz_result qz_pool_create(size_t threads, qz_pool **result)
{
    if (threads == 0)
        threads = qz_cpu_count() < THREADS_MAX ? qz_cpu_count() : THREADS_MAX;
    if (threads > THREADS_MAX)
        return QZ_ERROR_ARGUMENT;
    void *memory;
    struct worker *workers = calloc(threads, sizeof *workers);
    if (!workers || posix_memalign(&memory, 64, sizeof(qz_pool) + threads * sizeof(struct share)) != 0) {
        free(workers);
        return QZ_ERROR_MEMORY;
    }
    qz_pool *pool = memory;
    atomic_init(&pool->round, 0);
    atomic_init(&pool->left, 0);
    atomic_init(&pool->sleepers, 0);
    atomic_init(&pool->stop, 0);
    for (size_t t = 0; t < threads; t++)
        atomic_init(&pool->shares[t].open, 0);
    pool->workers = workers;
    pool->threads = threads;
    pool->owner = getpid();
    pthread_mutex_init(&pool->in_use, NULL);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);

    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    /* The drivers keep up to 256 KiB of tiles on the stack; without optimisation a vector kernel may take 2 MiB more.
     * Only what is used becomes memory. */
    pthread_attr_setstacksize(&attributes, (size_t)8 << 20);
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
        free_memory(pool); /* a copy made by fork: its threads do not exist here */
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
