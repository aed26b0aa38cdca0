/*
 * The small part of cmocka's interface that our tests use, for cross builds: Debian has cmocka only for the machine it
 * runs on. Native builds use the real one, so a test that needs more than this fails to compile when emulated.
 * A failed assertion ends its test and is printed with its place.
 */
#ifndef QZ_EMULATED_CMOCKA_H
#define QZ_EMULATED_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*test)(void **state);
    int (*setup)(void **state);
    int (*teardown)(void **state);
    void *initial_state;
};

#define cmocka_unit_test(f)                                                                                            \
    {                                                                                                                  \
#f, f, NULL, NULL, NULL                                                                                        \
    }
#define cmocka_unit_test_setup_teardown(f, setup, teardown)                                                            \
    {                                                                                                                  \
#f, f, setup, teardown, NULL                                                                                   \
    }
#define cmocka_unit_test_prestate(f, state)                                                                            \
    {                                                                                                                  \
#f, f, NULL, NULL, state                                                                                       \
    }
#define cmocka_run_group_tests(tests, setup, teardown)                                                                 \
    small_run((tests), sizeof(tests) / sizeof((tests)[0]), (setup), (teardown))

#define print_message printf
#define print_error   printf

/* Where the running test goes back to: 1 failed, 2 skipped. */
static jmp_buf small_test_end;

static inline _Noreturn void small_fail(const char *what, const char *file, int line)
{
    printf("%s:%d: %s\n", file, line, what);
    longjmp(small_test_end, 1);
}

static inline void small_equal(uintmax_t a, uintmax_t b, int equal, const char *what, const char *file, int line)
{
    if ((a == b) == equal)
        return;
    printf("%#jx, %#jx: ", a, b);
    small_fail(what, file, line);
}

static inline void small_memory(const void *a, const void *b, size_t n, const char *what, const char *file, int line)
{
    const unsigned char *x = (const unsigned char *)a, *y = (const unsigned char *)b;
    for (size_t i = 0; i < n; i++) {
        if (x[i] != y[i]) {
            printf("byte %zu of %zu is %#x, not %#x: ", i, n, x[i], y[i]);
            small_fail(what, file, line);
        }
    }
}

#define small_check(condition, what)  ((condition) ? (void)0 : small_fail(what, __FILE__, __LINE__))
#define assert_true(c)                small_check(c, "assert_true(" #c ")")
#define assert_false(c)               small_check(!(c), "assert_false(" #c ")")
#define assert_null(p)                small_check(!(p), "assert_null(" #p ")")
#define assert_non_null(p)            small_check(!!(p), "assert_non_null(" #p ")")
#define assert_ptr_equal(a, b)        small_check((a) == (b), "assert_ptr_equal(" #a ", " #b ")")
#define assert_string_equal(a, b)     small_check(strcmp(a, b) == 0, "assert_string_equal(" #a ", " #b ")")
#define assert_string_not_equal(a, b) small_check(strcmp(a, b) != 0, "assert_string_not_equal(" #a ", " #b ")")
#define assert_in_range(v, low, high)                                                                                  \
    small_check((uintmax_t)(v) >= (uintmax_t)(low) && (uintmax_t)(v) <= (uintmax_t)(high), "assert_in_range(" #v ")")
#define assert_int_equal(a, b)                                                                                         \
    small_equal((uintmax_t)(a), (uintmax_t)(b), 1, "assert_int_equal(" #a ", " #b ")", __FILE__, __LINE__)
#define assert_int_not_equal(a, b)                                                                                     \
    small_equal((uintmax_t)(a), (uintmax_t)(b), 0, "assert_int_not_equal(" #a ", " #b ")", __FILE__, __LINE__)
#define assert_memory_equal(a, b, n) small_memory(a, b, n, "assert_memory_equal(" #a ", " #b ")", __FILE__, __LINE__)
#define fail()                       small_fail("fail()", __FILE__, __LINE__)
#define fail_msg(...)                (printf(__VA_ARGS__), small_fail("", __FILE__, __LINE__))
#define skip()                       longjmp(small_test_end, 2)

/* The number of failed tests, as the exit code of the program. */
static inline int small_run(const struct CMUnitTest *tests, size_t n, int (*setup)(void **), int (*teardown)(void **))
{
    void *group_state = NULL;
    volatile int failed = 0;
    if (setup && setup(&group_state) != 0)
        return 1;
    for (volatile size_t i = 0; i < n; i++) {
        void *state = tests[i].initial_state ? tests[i].initial_state : group_state;
        int end = setjmp(small_test_end);
        if (end == 0) {
            if (tests[i].setup && tests[i].setup(&state) != 0)
                small_fail("setup failed", tests[i].name, 0);
            tests[i].test(&state);
        }
        if (tests[i].teardown)
            tests[i].teardown(&state);
        printf("[%s] %s\n", end == 0 ? "  OK  " : end == 1 ? "FAILED" : " SKIP ", tests[i].name);
        failed += end == 1;
    }
    if (teardown && teardown(&group_state) != 0)
        failed++;
    return failed > 125 ? 125 : failed;
}

#endif
