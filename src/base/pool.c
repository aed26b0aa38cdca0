/*
 * pool.c - a small pool of threads that wait for work
 *
 * A waiting thread looks for work for a moment, and then sleeps. Each thread has a share of the slices, the same one in
 * every call, so that the data in its cache is used again. A thread that has finished its share waits a moment and then
 * helps the others. So a thread that another program keeps from running delays a call by one slice at most.
 *
 * A call on data in the cache takes a few microseconds, about the time in which some tens of cache lines go from one
 * core to another. Therefore all that a thread must know about a call is in one line, and it reports once for all
 * slices of its share. Waking a sleeping thread takes longer than such a call, so both sides first look for a few tens
 * of microseconds whether the other is ready.
 */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* sched_getaffinity */
#endif

#include "fpenv.h"
#include "pool.h"
#include "system.h"

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

enum {
    THREADS_MAX = 256,
    LOOKS = 1000,  /* before falling asleep */
    PATIENCE = 40, /* looks before helping: a slice that moves to another core leaves its data behind in a cache */
    FETCHED = 256, /* bytes */
    OPEN_BITS = 16
};

/* The slices of one thread, up to `end`. `open` holds the number of the call in its upper bits and how many slices
 * nobody has taken yet in the lower ones. To take one is to lower it; whoever succeeds knows that the call is still
 * running, for it cannot end before this slice, and only then looks at what else describes it. */
struct share {
    _Alignas(64) atomic_ullong open;
    size_t end;
    void (*work)(void *context, size_t i);
    _Atomic(void *) context;
};

struct qz_pool {
    size_t threads; /* the calling one included */
    pid_t owner;    /* the process in which the threads live */
    pthread_mutex_t in_use;
    unsigned long long expected; /* of `finished`, at the end of the call before */

    /* Whoever wants to sleep takes the lock, says so in `sleepers` or `caller_sleeps` and looks once more; whoever has
     * changed something looks there afterwards and takes the lock to wake. One of the two sees the other. */
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    atomic_int caller_sleeps;
    atomic_int stop; /* with a last call, of no slices */

    struct worker {
        qz_pool *pool;
        size_t number; /* of its share; the caller has share 0 */
        pthread_t thread;
    } * workers; /* threads - 1 */

    /* What the caller changes in every call, and what the workers do. */
    _Alignas(64) atomic_ullong round;    /* number of the call, raised when all shares are open */
    atomic_size_t sleepers;              /* workers */
    _Alignas(64) atomic_ullong finished; /* slices, by workers, in all calls together */
    struct share shares[];               /* threads */
};

uint64_t qz_slice_start(uint64_t count, size_t slices, size_t i)
{
    /* count * i / slices without overflow */
    return count / slices * i + count % slices * i / slices;
}

static void wake(qz_pool *pool, pthread_cond_t *condition)
{
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(condition);
    pthread_mutex_unlock(&pool->lock);
}

static size_t open_slices(unsigned long long open)
{
    return (size_t)(open & ((1u << OPEN_BITS) - 1));
}

static unsigned long long call_of(struct share *share)
{
    return atomic_load(&share->open) >> OPEN_BITS;
}

/* Takes slices of a share and runs them until none is open. Returns how many there were. */
static size_t run_share(struct share *share)
{
    size_t count = 0;
    unsigned long long open = atomic_load(&share->open);
    while (open_slices(open)) {
        if (!atomic_compare_exchange_weak(&share->open, &open, open - 1))
            continue;
        void *context = atomic_load_explicit(&share->context, memory_order_relaxed);
        share->work(context, share->end - open_slices(open));
        count++;
        open = atomic_load(&share->open);
    }
    return count;
}

/* What is open of the others. */
static size_t help(qz_pool *pool, size_t number)
{
    size_t count = 0;
    for (size_t i = 1; i < pool->threads; i++)
        count += run_share(&pool->shares[(number + i) % pool->threads]);
    return count;
}

/* ---- a worker ------------------------------------------------------------------------------------------------ */

/* Fetches the beginning of what the work is about, while the share itself is still on its way to become one's own. The
 * call may have ended already: nothing is read. */
static void fetch_context(struct share *share)
{
    const char *context = atomic_load_explicit(&share->context, memory_order_relaxed);
    for (int i = 0; i < FETCHED; i += 64)
        __builtin_prefetch(context + i);
}

/* Looks for a call after number `seen`. */
static int look_for_call(struct share *share, unsigned long long seen, int looks)
{
    for (int i = 0; i < looks; i++) {
        if (call_of(share) != seen)
            return 1;
        PAUSE();
    }
    return 0;
}

static void sleep_until_call(qz_pool *pool, unsigned long long seen)
{
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->round) == seen)
        pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void report(qz_pool *pool, size_t count)
{
    if (count == 0)
        return;
    atomic_fetch_add(&pool->finished, count);
    if (atomic_load(&pool->caller_sleeps))
        wake(pool, &pool->done);
}

static void *worker_main(void *argument)
{
    struct worker *self = argument;
    qz_pool *pool = self->pool;
    struct share *share = &pool->shares[self->number];
    qz_fp_enter(); /* for good: all that runs here is ours */
    for (unsigned long long seen = 0;;) {
        if (!look_for_call(share, seen, LOOKS))
            sleep_until_call(pool, seen);
        seen = call_of(share);
        if (atomic_load(&pool->stop))
            return NULL;
        fetch_context(share);
        report(pool, run_share(share));
        if (!look_for_call(share, seen, PATIENCE))
            report(pool, help(pool, self->number));
    }
}

/* ---- the caller ---------------------------------------------------------------------------------------------- */

/* Opens the slices of a call to all threads. */
static void start_call(qz_pool *pool, size_t slices, void (*work)(void *context, size_t i), void *context)
{
    unsigned long long round = atomic_load(&pool->round) + 1;
    for (size_t t = pool->threads; t-- > 0;) { /* the others first */
        struct share *share = &pool->shares[t];
        size_t start = (size_t)qz_slice_start(slices, pool->threads, t);
        share->end = (size_t)qz_slice_start(slices, pool->threads, t + 1);
        share->work = work;
        atomic_store_explicit(&share->context, context, memory_order_relaxed);
        atomic_store_explicit(&share->open, round << OPEN_BITS | (share->end - start), memory_order_release);
    }
    atomic_store(&pool->round, round);
    if (atomic_load(&pool->sleepers) && pool->owner == getpid())
        wake(pool, &pool->wake);
}

/* Looks whether the workers have finished all that the caller did not do. */
static int look_for_end(qz_pool *pool, unsigned long long expected, int looks)
{
    for (int i = 0; i < looks; i++) {
        if (atomic_load(&pool->finished) == expected)
            return 1;
        PAUSE();
    }
    return 0;
}

static void sleep_until_end(qz_pool *pool, unsigned long long expected)
{
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->caller_sleeps, 1);
    while (atomic_load(&pool->finished) != expected)
        pthread_cond_wait(&pool->done, &pool->lock);
    atomic_store(&pool->caller_sleeps, 0);
    pthread_mutex_unlock(&pool->lock);
}

/* A child made by fork has no workers: it helps itself to all shares, and does not wake anybody. */
void qz_pool_run(qz_pool *pool, size_t slices, void (*work)(void *context, size_t i), void *context)
{
    if (!pool || pool->threads == 1 || slices < 2 || pthread_mutex_trylock(&pool->in_use) != 0) {
        for (size_t i = 0; i < slices; i++)
            work(context, i);
        return;
    }
    start_call(pool, slices, work, context);
    pool->expected += slices - run_share(&pool->shares[0]);
    if (!look_for_end(pool, pool->expected, PATIENCE)) {
        pool->expected -= help(pool, 0);
        if (!look_for_end(pool, pool->expected, LOOKS))
            sleep_until_end(pool, pool->expected);
    }
    pthread_mutex_unlock(&pool->in_use);
}

/* ---- its life ------------------------------------------------------------------------------------------------ */

static void free_memory(qz_pool *pool)
{
    free(pool->workers);
    qz_aligned_free(pool);
}

/* Ends the first `started` workers and frees the pool. */
static void stop_and_free(qz_pool *pool, size_t started)
{
    atomic_store(&pool->stop, 1);
    start_call(pool, 0, NULL, NULL);
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
    struct worker *workers = calloc(threads, sizeof *workers);
    qz_pool *pool = workers ? qz_aligned_alloc(64, sizeof *pool + threads * sizeof(struct share)) : NULL;
    if (!pool) {
        free(workers);
        return QZ_ERROR_MEMORY;
    }
    atomic_init(&pool->round, 0);
    atomic_init(&pool->sleepers, 0);
    atomic_init(&pool->finished, 0);
    atomic_init(&pool->caller_sleeps, 0);
    pool->expected = 0;
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

size_t qz_cpus_allowed(FILE *file)
{
    long long quota, period;
    if (fscanf(file, "%lld %lld", &quota, &period) != 2 || quota <= 0 || period <= 0)
        return 0;
    return (size_t)(quota / period + (quota % period != 0));
}

size_t qz_cpu_count(void)
{
    long count = qz_cpus_online();
#ifdef __linux__
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) == 0 && CPU_COUNT(&mask) > 0)
        count = CPU_COUNT(&mask);
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (file) {
        size_t allowed = qz_cpus_allowed(file);
        count = allowed && allowed < (size_t)count ? (long)allowed : count;
        fclose(file);
    }
#endif
    return count < 1 ? 1 : (size_t)count;
}
