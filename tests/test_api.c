/*
 * test_api.c - names, versions, and the choice of a kernel set
 */
#include "support/program.h"

#include "kernels/kernels.h"
#include "support/cases.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(qz_version(), QZ_VERSION);
    assert_string_equal(qz_dtype_name(QZ_F32), "float32");
    assert_string_equal(qz_dtype_name(QZ_F64), "float64");
    assert_string_equal(qz_dtype_name(QZ_F16), "float16");
    assert_string_equal(qz_dtype_name(QZ_BF16), "bfloat16");
    assert_null(qz_dtype_name((qz_dtype)0));
    assert_null(qz_dtype_name((qz_dtype)10));
    assert_int_equal(qz_dtype_size(QZ_F32), 4);
    assert_int_equal(qz_dtype_size(QZ_F64), 8);
    assert_int_equal(qz_dtype_size(QZ_F16), 2);
    assert_int_equal(qz_dtype_size(QZ_BF16), 2);
    assert_int_equal(qz_dtype_size((qz_dtype)-1), 0);
    for (int i = -2; i < 20; i++) {
        const char *text = qz_result_text((qz_result)i);
        assert_non_null(text);
        assert_true(strlen(text) > 3 && text[strlen(text) - 1] != '.');
        for (int k = 0; k < i; k++)
            assert_true(i > 9 || strcmp(text, qz_result_text((qz_result)k)) != 0);
    }
}

static void test_kernel_choice(void **state)
{
    (void)state;
    const char *usual = qz_kernels(), *name;
    size_t n = 0, found = 0;
    int supported = 7;
    for (; (name = qz_kernels_at(n, &supported)); n++) {
        assert_true(supported == 0 || supported == 1);
        assert_ptr_equal(qz_kernels_at(n, NULL), name);
        assert_int_equal(qz_kernels_use(name), supported ? QZ_OK : QZ_ERROR_KERNELS);
        if (supported)
            assert_string_equal(qz_kernels(), name);
        found += strcmp(name, "scalar") == 0;
    }
    assert_int_equal(found, 1);
    assert_string_equal(qz_kernels_at(n - 1, NULL), "scalar");
    assert_null(qz_kernels_at(n + 5, &supported));
    assert_int_equal(QZ_OK, qz_kernels_use("scalar"));
    assert_int_equal(QZ_ERROR_KERNELS, qz_kernels_use("avx"));
    assert_int_equal(QZ_ERROR_KERNELS, qz_kernels_use(""));
    assert_string_equal(qz_kernels(), "scalar"); /* unchanged */
    assert_int_equal(QZ_OK, qz_kernels_use(NULL));
    for (size_t i = 0; (name = qz_kernels_at(i, &supported)); i++)
        if (supported) { /* the automatic choice is the best one */
            assert_string_equal(qz_kernels(), name);
            break;
        }
    assert_int_equal(QZ_OK, qz_kernels_use(usual));
}

/* ---- processors ---------------------------------------------------------------------------------------------- */

static int times_asked;

static int may(void)
{
    times_asked++;
    return 1;
}

static int may_not(void)
{
    times_asked++;
    return 0;
}

enum {
    AVX512 = QZ_CPU_AVX2 | QZ_CPU_AVX512,
    VNNI = AVX512 | QZ_CPU_AVX512VNNI,
    AMX = VNNI | QZ_CPU_AMX,
    SAVED = 0x600e6 /* SSE and AVX, mask and 512-bit registers, tiles */
};

/* Has every bit. */
static struct qz_x86 made_up(void)
{
    struct qz_x86 machine = {.saved = SAVED, .may_use_tiles = may};
    memset(machine.leaf1, 0xff, sizeof machine.leaf1);
    memset(machine.leaf7, 0xff, sizeof machine.leaf7);
    return machine;
}

/* Without any one bit, what needs it is lost, and what needs that: never less. */
static void test_processors(void **state)
{
    (void)state;
    static const uint32_t steps[] = {0, QZ_CPU_AVX2, AVX512, VNNI, AMX};
    static const size_t needed[COUNT(steps)] = {5, 5, 1, 2}; /* bits */
    size_t lost[COUNT(steps)] = {0};
    struct qz_x86 machine = made_up();
    assert_int_equal(qz_x86_features(&machine, ~(uint32_t)0), AMX);
    for (size_t i = 0; i < 8 * 32; i++) {
        machine = made_up();
        (i < 128 ? machine.leaf1 : machine.leaf7)[i / 32 % 4] &= ~((uint32_t)1 << i % 32);
        uint32_t features = qz_x86_features(&machine, ~(uint32_t)0);
        size_t step = 0;
        while (step < COUNT(steps) - 1 && steps[step] != features)
            step++;
        assert_int_equal(features, steps[step]);
        lost[step]++;
    }
    for (size_t i = 0; i < COUNT(steps) - 1; i++)
        assert_int_equal(lost[i], needed[i]);
    for (unsigned bit = 0; bit < 64; bit++) {
        machine = made_up();
        machine.saved &= ~((uint64_t)1 << bit);
        uint32_t features = qz_x86_features(&machine, ~(uint32_t)0);
        assert_int_equal(features, !((uint64_t)SAVED >> bit & 1) ? AMX : bit >= 17 ? VNNI : bit >= 5 ? QZ_CPU_AVX2 : 0);
    }
}

/* The set that is chosen where there are these features. */
static const char *best_for(uint32_t features)
{
    size_t i = 0;
    while (qz_kernel_list[i]->needs & ~features)
        i++;
    return qz_kernel_list[i]->name;
}

/* The system is asked for tiles once, and only where a set that needs them is asked for and the processor has them. */
static void test_tiles(void **state)
{
    (void)state;
    struct qz_x86 machine = made_up();
    times_asked = 0;
    assert_int_equal(qz_x86_features(&machine, VNNI), VNNI);
    assert_int_equal(times_asked, 0);
    machine.leaf7[3] &= ~((uint32_t)1 << 25);
    assert_int_equal(qz_x86_features(&machine, AMX), VNNI);
    assert_int_equal(times_asked, 0);
    machine = made_up();
    assert_int_equal(qz_x86_features(&machine, AMX), AMX);
    assert_int_equal(times_asked, 1);
    machine.may_use_tiles = may_not;
    assert_int_equal(qz_x86_features(&machine, AMX), VNNI);
    assert_int_equal(times_asked, 2);
#if defined(QZ_HAS_AMX)
    assert_string_equal(best_for(AMX), "avx512amx");
    assert_string_equal(best_for(VNNI), "avx512vnni");
#endif
    assert_string_equal(best_for(0), "scalar");
}

/* ---- the environment ----------------------------------------------------------------------------------------- */

/* In a process that has made no choice yet: 0 if the environment's choice is honoured as `wanted` says. */
static int child_with_environment(const char *wanted)
{
    double scale, zero_point;
    int8_t code;
    uint8_t packed;
    float x = 1, y;
    qz_stats stats = QZ_STATS_INIT;
    qz_scheme scheme = *qz_scheme_by_name("int4");
    qz_matrix matrix = {&x, QZ_F32, 1, 1, 1, 1};
    uint16_t stored = 0;
    qz_packed plain = {&packed, &stored, NULL, 1, 2, 0, NULL, 0};
    qz_matrix result = {&y, QZ_F32, 1, 1, 1, 1};
    qz_prepared *rows;
    qz_linear_prepared *weights;
    int64_t id;
    if (strcmp(wanted, "nothing") != 0)
        return !qz_kernels() || strcmp(qz_kernels(), wanted) != 0;
    return qz_kernels() ||
           qz_quantize_i4(&x, QZ_F32, 1, QZ_MINMAX, &code, &scale, &zero_point, NULL, NULL) != QZ_ERROR_KERNELS ||
           qz_dequantize_i4(&code, 1, 1, 0, &y, QZ_F32, NULL, NULL) != QZ_ERROR_KERNELS ||
           qz_pack_i4(&code, 1, &packed, NULL, NULL) != QZ_ERROR_KERNELS ||
           qz_unpack_i4(&packed, 1, &code, NULL) != QZ_ERROR_KERNELS ||
           qz_encode(&scheme, &matrix, &plain, NULL, NULL, NULL) != QZ_ERROR_KERNELS ||
           qz_gptq(&scheme, &matrix, &matrix, NULL, &plain, NULL, NULL) != QZ_ERROR_KERNELS ||
           qz_decode(&scheme, &plain, &matrix, NULL, NULL) != QZ_ERROR_KERNELS ||
           qz_compare(&scheme, &plain, &matrix, NULL, &stats, NULL) != QZ_ERROR_KERNELS ||
           qz_compare_matrices(&matrix, &matrix, NULL, &stats, NULL) != QZ_ERROR_KERNELS ||
           qz_validate(&scheme, &plain, 1, 1, NULL) != QZ_ERROR_KERNELS ||
           qz_largest(qz_scheme_by_name("dual4"), &matrix, &y, NULL) != QZ_ERROR_KERNELS ||
           qz_project(&x, 1, 1, &x, 1, &y, NULL) != QZ_ERROR_KERNELS ||
           qz_prepare(&scheme, &plain, 1, 1, NULL, &rows) != QZ_ERROR_KERNELS ||
           qz_nearest(&scheme, &plain, 1, &matrix, 1, NULL, &scale, &id, NULL) != QZ_ERROR_KERNELS ||
           qz_linear(&scheme, &plain, 1, 1, &matrix, NULL, &result, NULL) != QZ_ERROR_KERNELS ||
           qz_linear_prepare(&scheme, &plain, 1, 1, NULL, &weights) != QZ_ERROR_KERNELS ||
           qz_kernels_use("scalar") != QZ_OK || !qz_kernels() || qz_pack_i4(&code, 0, &packed, NULL, NULL) != QZ_OK;
}

static char **arguments;

static int run_child(const char *value, const char *wanted)
{
    pid_t child = fork();
    if (child == 0) {
        setenv("QUANTIZE_KERNELS", value, 1);
        execl("/proc/self/exe", arguments[0], "--environment", wanted, (char *)NULL);
        execl(arguments[0], arguments[0], "--environment", wanted, (char *)NULL);
        _exit(errno == ENOEXEC ? 99 : 98);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 97;
}

static void test_environment(void **state)
{
    (void)state;
    int first = run_child("scalar", "scalar");
    if (first == 99 || first == 98) /* an emulated program cannot start itself where the emulator is not registered */
        skip();
    assert_int_equal(first, 0);
    assert_int_equal(run_child("no-such-set", "nothing"), 0);
    assert_int_equal(run_child("AVX2", "nothing"), 0);
    const char *name;
    int supported;
    for (size_t i = 0; (name = qz_kernels_at(i, &supported)); i++)
        assert_int_equal(run_child(name, supported ? name : "nothing"), 0);
    for (size_t i = 0; (name = qz_kernels_at(i, &supported)); i++)
        if (supported) {
            assert_int_equal(run_child("", name), 0);
            break;
        }
}

/* Stops a call the first time it is asked, or lets it go on; counts how often it was. */
struct stopper {
    int answer, asked;
    pthread_t caller;
};

static int stop(void *context)
{
    struct stopper *stopper = context;
    stopper->asked++;
    assert_true(pthread_equal(stopper->caller, pthread_self()));
    return stopper->answer;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Long work asks, on the calling thread alone, and ends when told to; work that is not told to is not changed. */
static void test_stop(void **state)
{
    (void)state;
    enum { COLS = 1024, SCALES = COLS / 32 };
    const qz_scheme *scheme = qz_scheme_by_name("int4");
    float x[COLS];
    for (size_t i = 0; i < COLS; i++)
        x[i] = (float)(i * 7919 % 2001) - 1000.0f;
    qz_pool *pool;
    assert_int_equal(qz_pool_create(2, &pool), QZ_OK);
    qz_options options = QZ_OPTIONS_INIT;
    options.method = QZ_EXACT;
    options.pool = pool;
    /* The same row as often as it takes to be long work on this machine. */
    uint64_t rows = 16;
    for (double seconds = 0; seconds < 0.5; rows *= 2) {
        uint8_t *codes = malloc(2 * rows * COLS / 2);
        uint16_t *scales = malloc(2 * rows * SCALES * sizeof *scales);
        assert_non_null(codes);
        assert_non_null(scales);
        qz_matrix matrix = {x, QZ_F32, rows, COLS, 0, 1};
        qz_packed one = {codes, scales, NULL, COLS / 2, SCALES * sizeof *scales, 0, NULL, 0}, other = one;
        other.codes = codes + rows * COLS / 2;
        other.scales = scales + rows * SCALES;
        options.stop = NULL;
        seconds = 1e9;
        for (int i = 0; i < 3 && seconds >= 0.5; i++) { /* the first time an emulator translates the program */
            double start = now();
            assert_int_equal(qz_encode(scheme, &matrix, &one, &options, NULL, NULL), QZ_OK);
            seconds = now() - start < seconds ? now() - start : seconds;
        }
        if (seconds >= 0.5) {
            struct stopper stopper = {0, 0, pthread_self()};
            options.stop = stop;
            options.stop_context = &stopper;
            assert_int_equal(qz_encode(scheme, &matrix, &other, &options, NULL, NULL), QZ_OK);
            assert_true(stopper.asked > 0);
            assert_memory_equal(codes, other.codes, rows * COLS / 2);
            assert_memory_equal(scales, other.scales, rows * SCALES * sizeof *scales);
            stopper = (struct stopper){1, 0, pthread_self()};
            assert_int_equal(qz_encode(scheme, &matrix, &other, &options, NULL, NULL), QZ_ERROR_STOPPED);
            assert_int_equal(stopper.asked, 1);
        }
        free(codes);
        free(scales);
    }
    qz_pool_destroy(pool);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--environment") == 0)
        return child_with_environment(argv[2]);
    arguments = argv;
    start_program("test_api");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names), cmocka_unit_test(test_kernel_choice), cmocka_unit_test(test_processors),
        cmocka_unit_test(test_tiles), cmocka_unit_test(test_environment),   cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
