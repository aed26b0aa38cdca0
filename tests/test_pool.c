/*
 * test_pool.c - threads: the same bytes and statistics for every thread count, shared pools, fork, limits
 *
 * Also runs under ThreadSanitizer.
 */
#include "support/program.h"

#include "support/cases.h"
#include "support/guard.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

/* ---- all the functions that take a pool ---------------------------------------------------------------------- */

/* What they make of one matrix: everything is compared as bytes, so unused bytes must be equal, too. */
struct results {
    qz_result result[9];
    double scale, zero_point;
    qz_stats stats, compared, compared_matrices;
    qz_detail codes_detail, range_detail, nonfinite_detail, scale_detail;
};

struct job {
    uint64_t rows, cols;
    qz_scheme scheme;
    qz_method method;
    struct field src, strange; /* strange: the same with NaN here and there */
    struct results wanted;
    struct guard outputs; /* codes, packed codes, floats; plain form; decoded floats */
    size_t output_bytes;
};

static size_t elements(const struct job *job)
{
    return (size_t)(job->rows * job->cols);
}

/* Runs everything; outputs go one behind the other to `to`. */
static struct results run_all(const struct job *job, qz_pool *pool, uint8_t *to)
{
    size_t n = elements(job);
    qz_sizes sizes = {.size = sizeof sizes};
    struct results results;
    memset(&results, 0, sizeof results);
    memset(to, 0, job->output_bytes);
    qz_scheme_sizes(&job->scheme, job->rows, job->cols, &sizes);
    results.stats = results.compared = results.compared_matrices = (qz_stats)QZ_STATS_INIT;
    results.codes_detail = results.range_detail = results.nonfinite_detail = results.scale_detail =
        (qz_detail)QZ_DETAIL_INIT;

    float *decoded = (float *)(void *)to;
    float *grouped = decoded + n;
    char *scales = (char *)(grouped + n);
    char *zeros = scales + sizes.scale_bytes * job->rows;
    uint8_t *plain_codes = (uint8_t *)zeros + sizes.zero_bytes * job->rows;
    uint8_t *packed = plain_codes + sizes.code_bytes * job->rows;
    int8_t *codes = (int8_t *)packed + qz_packed_bytes(n), *unpacked = codes + n;

    qz_result *result = results.result;
    *result++ = CALL(qz_quantize_i4(job->src.start, job->src.matrix.dtype, n, QZ_MINMAX, codes, &results.scale,
                                    &results.zero_point, pool, NULL));
    *result++ = CALL(qz_pack_i4(codes, n, packed, pool, NULL));
    *result++ = CALL(qz_unpack_i4(packed, n, unpacked, pool));
    *result++ = CALL(qz_dequantize_i4(codes, n, results.scale, results.zero_point, decoded, QZ_F32, pool, NULL));

    qz_packed plain = {.codes = plain_codes,
                       .scales = scales,
                       .zeros = zeros,
                       .code_stride = (int64_t)sizes.code_bytes,
                       .scale_stride = (int64_t)sizes.scale_bytes,
                       .zero_stride = (int64_t)sizes.zero_bytes};
    qz_matrix dst = {grouped, QZ_F32, job->rows, job->cols, (int64_t)job->cols, 1};
    qz_options options = QZ_OPTIONS_INIT;
    options.method = job->method;
    options.pool = pool;
    *result++ =
        CALL(qz_encode(&job->scheme, &job->src.matrix, &plain, &options, &results.stats, &results.scale_detail));
    *result++ = CALL(qz_decode(&job->scheme, &plain, &dst, pool, NULL));
    *result++ = CALL(qz_compare(&job->scheme, &plain, &job->src.matrix, pool, &results.compared, NULL));
    *result++ = CALL(qz_compare_matrices(&job->src.matrix, &dst, pool, &results.compared_matrices, NULL));
    *result++ = CALL(qz_encode(&job->scheme, &job->strange.matrix, &plain, &options, NULL, &results.nonfinite_detail));
    /* An error leaves the outputs as it likes: make them again. */
    CALL(qz_encode(&job->scheme, &job->src.matrix, &plain, &options, NULL, NULL));
    return results;
}

static struct job make_job(uint64_t rows, uint64_t cols, size_t kind, uint64_t group_size, enum layout layout)
{
    struct job job;
    memset(&job, 0, sizeof job);
    struct rng rng = rng_make(rows * 1000003 + cols * 31 + kind);
    job.rows = rows;
    job.cols = cols;
    job.scheme = scheme_kind(kind, group_size, &job.method);
    job.src = field_make(all_dtypes[kind % 4], rows, cols, layout);
    job.strange = field_make(all_dtypes[kind % 4], rows, cols, layout);
    field_fill(&rng, &job.src.matrix, DATA_NORMAL);
    memcpy(job.strange.start, job.src.start, job.src.bytes);
    for (int i = 0; i < 5; i++)
        ref_store(field_at(&job.strange.matrix, rng_below(&rng, (size_t)rows), rng_below(&rng, (size_t)cols)),
                  all_dtypes[kind % 4], (double)NAN);
    size_t n = elements(&job);
    job.output_bytes = n * 24 + 64;
    job.outputs = guard_make(job.output_bytes);
    job.wanted = run_all(&job, NULL, job.outputs.bytes);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(job.wanted.result[i], QZ_OK);
    assert_int_equal(job.wanted.result[8], QZ_ERROR_NONFINITE);
    return job;
}

static void free_job(struct job job)
{
    field_free(job.src);
    field_free(job.strange);
    guard_free(job.outputs);
}

/* 1 if a run with that pool gives the same bytes. */
static int same_with(const struct job *job, qz_pool *pool)
{
    uint8_t *outputs = malloc(job->output_bytes);
    struct results results = run_all(job, pool, outputs);
    int good = memcmp(&results, &job->wanted, sizeof results) == 0 &&
               memcmp(outputs, job->outputs.bytes, job->output_bytes) == 0;
    free(outputs);
    return good;
}

static const size_t thread_counts[] = {1, 2, 3, 8};

static void test_same_bytes(void **state)
{
    (void)state;
    static const struct {
        uint64_t rows, cols, group_size;
        enum layout layout;
    } shapes[] = {
        {700, 300, 32, LAYOUT_ROWS},      {300, 701, 7, LAYOUT_COLUMNS},  {1, 200000, 32, LAYOUT_ROWS},
        {3, 70001, 20001, LAYOUT_ROWS},   {1500, 1024, 128, LAYOUT_ROWS}, /* more than 64 slices' worth with the next */
        {2000, 1100, 100, LAYOUT_COLUMNS}};
    struct rng rng = rng_make(3);
    for (size_t s = 0; s < COUNT(shapes) - (short_mode ? 2 : 0); s++)
        for (size_t kind = s % 2; kind<SCHEME_KINDS; kind += s> 3 ? 5 : 1) {
            if (left_out(&rng, 1, 8))
                continue;
            struct job job = make_job(shapes[s].rows, shapes[s].cols, kind, shapes[s].group_size, shapes[s].layout);
            for (size_t t = 0; t < COUNT(thread_counts); t++) {
                qz_pool *pool = NULL;
                assert_int_equal(QZ_OK, CALL(qz_pool_create(thread_counts[t], &pool)));
                assert_int_equal(qz_pool_threads(pool), thread_counts[t]);
                for (int again = 0; again < 2; again++)
                    if (!same_with(&job, pool))
                        fail_msg("shape %zu, kind %zu, %zu threads", s, kind, thread_counts[t]);
                qz_pool_destroy(pool);
            }
            free_job(job);
        }
}

/* Threads take the mode of the one that started them. */
static void test_modes(void **state)
{
    (void)state;
    enum fp_mode usual = fp_calls;
    struct job job = make_job(300, 400, 8, 32, LAYOUT_ROWS);
    for (int mode = 0; mode < FP_MODES; mode++) {
        if (!fp_mode_exists((enum fp_mode)mode))
            continue;
        qz_pool *pool = NULL;
        fp_calls = (enum fp_mode)mode;
        assert_int_equal(QZ_OK, CALL(qz_pool_create(3, &pool)));
        if (!same_with(&job, pool))
            fail_msg("mode %s", fp_mode_name(fp_calls));
        fp_calls = usual;
        qz_pool_destroy(pool);
    }
    free_job(job);
}

/* Short calls one after another, with pauses in which threads fall asleep: none may be lost, none may start early. */
static void test_many_calls(void **state)
{
    (void)state;
    enum { N = 3 << 15 };
    struct rng rng = rng_make(200);
    int8_t *codes = malloc(N), *back = malloc(N);
    uint8_t *packed = malloc(N / 2);
    memset(codes, 7, N);
    for (size_t t = 1; t < COUNT(thread_counts); t++) {
        qz_pool *pool = NULL;
        assert_int_equal(QZ_OK, qz_pool_create(thread_counts[t], &pool));
        for (size_t i = 0; i < cases(400, 60); i++) {
            for (size_t k = i % 61; k < N; k += 61)
                codes[k] = (int8_t)((int)rng_below(&rng, 16) - 8);
            assert_int_equal(QZ_OK, qz_pack_i4(codes, N, packed, pool, NULL));
            assert_int_equal(QZ_OK, qz_unpack_i4(packed, N, back, pool));
            assert_memory_equal(codes, back, N);
            if (i % 16 == 0)
                nanosleep(&(struct timespec){0, (long)rng_below(&rng, 1000000)}, NULL);
        }
        qz_pool_destroy(pool);
    }
    free(codes);
    free(back);
    free(packed);
}

/* ---- sharing ------------------------------------------------------------------------------------------------- */

struct sharer {
    pthread_t thread;
    struct job job;
    qz_pool *pool;
    size_t rounds;
    int good;
};

static void *share(void *argument)
{
    struct sharer *sharer = argument;
    sharer->good = 1;
    for (size_t i = 0; i < sharer->rounds; i++)
        sharer->good &= same_with(&sharer->job, sharer->pool);
    return NULL;
}

/* A thread of a program that uses the library, with the stack that quantize.h asks for, and 16 KiB for what is here.
 * Without optimisation, and where addresses are checked, frames are larger. */
static void start_sharer(struct sharer *sharer)
{
#if defined(NDEBUG) && !defined(SANITIZED)
    size_t stack = (size_t)(256 + 16) << 10;
#else
    size_t stack = (size_t)8 << 20;
#endif
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    assert_int_equal(pthread_attr_setstacksize(&attributes, stack), 0);
    assert_int_equal(pthread_create(&sharer->thread, &attributes, share, sharer), 0);
    pthread_attr_destroy(&attributes);
}

static void test_shared_pool(void **state)
{
    (void)state;
    enum { SHARERS = 8 };
    struct sharer sharers[SHARERS];
    qz_pool *pool = NULL;
    assert_int_equal(QZ_OK, qz_pool_create(3, &pool));
    for (size_t i = 0; i < SHARERS; i++) {
        sharers[i].job = make_job(100 + i * 20, 700, i, 32, i % 2 ? LAYOUT_COLUMNS : LAYOUT_ROWS);
        sharers[i].pool = pool;
        sharers[i].rounds = cases(40, 2);
    }
    for (size_t i = 0; i < SHARERS; i++)
        start_sharer(&sharers[i]);
    for (size_t i = 0; i < SHARERS; i++) {
        assert_int_equal(pthread_join(sharers[i].thread, NULL), 0);
        assert_true(sharers[i].good);
        free_job(sharers[i].job);
    }
    qz_pool_destroy(pool);
}

/* ---- fork ---------------------------------------------------------------------------------------------------- */

static int child_ends_well(const struct job *job, qz_pool *pool)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(60); /* a child that waits for threads it does not have would wait for ever */
        int good = same_with(job, pool) && qz_pool_threads(pool) == 3;
        qz_pool_destroy(pool);
        _exit(good ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status))
        printf("the child ended with signal %d\n", WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void test_fork(void **state)
{
    (void)state;
    struct job job = make_job(300, 500, 0, 32, LAYOUT_ROWS);
    qz_pool *pool = NULL;
    assert_int_equal(QZ_OK, qz_pool_create(3, &pool));
    assert_true(child_ends_well(&job, pool)); /* before its first use, after it, and while another thread uses it */
    assert_true(same_with(&job, pool));
    assert_true(child_ends_well(&job, pool));
    struct sharer busy = {.job = job, .pool = pool, .rounds = cases(100, 4)};
    start_sharer(&busy);
    int good = 1;
    for (size_t i = 0; i < cases(20, 2); i++)
        good &= child_ends_well(&job, pool);
    assert_int_equal(pthread_join(busy.thread, NULL), 0);
    assert_true(good && busy.good);
    assert_true(same_with(&job, pool)); /* the parent's pool is as it was */
    qz_pool_destroy(pool);
    free_job(job);
}

/* ---- limits -------------------------------------------------------------------------------------------------- */

static void test_counts(void **state)
{
    (void)state;
    qz_pool *pool = NULL;
    assert_int_equal(qz_pool_threads(NULL), 1);
    qz_pool_destroy(NULL);
    assert_in_range(qz_cpu_count(), 1, 65536);
    assert_int_equal(QZ_OK, qz_pool_create(0, &pool));
    assert_int_equal(qz_pool_threads(pool), qz_cpu_count() < 256 ? qz_cpu_count() : 256);
    qz_pool_destroy(pool);
    static const size_t too_many[] = {257, 258, 1000, SIZE_MAX / 2, SIZE_MAX};
    for (size_t i = 0; i < COUNT(too_many); i++)
        assert_int_equal(QZ_ERROR_ARGUMENT, qz_pool_create(too_many[i], &pool));
    size_t most = short_mode ? 20 : 256;
    assert_int_equal(QZ_OK, qz_pool_create(most, &pool));
    assert_int_equal(qz_pool_threads(pool), most);
    struct job job = make_job(400, 500, 4, 32, LAYOUT_ROWS); /* more threads than slices */
    assert_true(same_with(&job, pool));
    qz_pool_destroy(pool);
    for (size_t i = 0; i < cases(120, 11); i++) { /* unused and little used pools */
        assert_int_equal(QZ_OK, qz_pool_create(1 + i % 4, &pool));
        if (i % 10 == 0)
            assert_true(same_with(&job, pool));
        qz_pool_destroy(pool);
    }
    free_job(job);
}

/* Threads that cannot be started are an error, and those that could be are ended. */
static void test_no_memory(void **state)
{
    (void)state;
#ifdef SANITIZED
    skip(); /* their own mappings are beyond any limit */
#else
    pid_t child = fork();
    if (child == 0) {
        size_t stacks = (size_t)64 << 20; /* 256 threads want twice as much */
        struct rlimit limit = {stacks, stacks};
        unsigned long pages = 0;
        FILE *file = fopen("/proc/self/statm", "r");
        if (!file || fscanf(file, "%lu", &pages) != 1)
            _exit(2);
        fclose(file);
        limit.rlim_cur = limit.rlim_max = stacks + pages * (size_t)sysconf(_SC_PAGESIZE);
        if (setrlimit(RLIMIT_AS, &limit) != 0)
            _exit(2);
        if (mmap(NULL, 2 * stacks, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
            _exit(2); /* an emulator that keeps no such limit */
        qz_pool *pool = NULL;
        if (qz_pool_create(256, &pool) != QZ_ERROR_MEMORY)
            _exit(3);
        if (qz_pool_create(2, &pool) != QZ_OK)
            _exit(4);
        qz_pool_destroy(pool);
        _exit(0);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 2)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
#endif
}

int main(void)
{
    start_program("test_pool");
    alarm(800); /* threads that wait for each other would wait for ever */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),     cmocka_unit_test(test_same_bytes),  cmocka_unit_test(test_modes),
        cmocka_unit_test(test_many_calls), cmocka_unit_test(test_shared_pool), cmocka_unit_test(test_fork),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
