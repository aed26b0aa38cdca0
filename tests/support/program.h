/*
 * program.h - what every test program starts with: cmocka, the seed, the kernel set that is forced, short mode
 *
 * The support files are headers so that each test program is one translation unit, whatever builds it. The environment
 * says how to run:
 *
 *     QZ_TEST_SEED=number     the seed of random data; printed at the start of each program
 *     QZ_TEST_SHORT=1         fewer random cases: for sanitizers and builds without optimisation
 *     QZ_TEST_SHORT=8         an eighth of these: for emulated machines, which take 40 times as long
 *     QZ_TEST_FTZ=1           public functions are called with subnormals flushed to zero (fpmode.h)
 *     QUANTIZE_KERNELS=name   the kernel set; a program that cannot have it ends with exit code 77, "skipped"
 */
#ifndef QZ_TEST_PROGRAM_H
#define QZ_TEST_PROGRAM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quantize.h"

#include "base/rounded.h" /* what tests compute is rounded once, too */
#include "fpmode.h"
#include "random.h"

enum { EXIT_SKIPPED = 77 };

static int short_mode; /* 0, or by what the number of cases of a short run is divided */

static inline int environment_flag(const char *name)
{
    const char *value = getenv(name);
    return value && *value && strcmp(value, "0") != 0;
}

/* The number of random cases: `usual`, or `brief` in short mode, or a part of those. */
static inline size_t cases(size_t usual, size_t brief)
{
    return !short_mode ? usual : (brief - 1) / (size_t)short_mode + 1;
}

/* Whether one case of a list is left out: one of `usual` is not, or one of `brief` in short mode, or fewer. */
static inline int left_out(struct rng *rng, size_t usual, size_t brief)
{
    return rng_below(rng, short_mode ? brief * (size_t)short_mode : usual) > 0;
}

/* Ends the program with 77 when QUANTIZE_KERNELS names a set that is compiled in but not for this CPU, or is not
 * compiled in; any other name is a mistake and fails. */
static inline void need_kernels(void)
{
    if (qz_kernels())
        return;
    const char *wanted = getenv("QUANTIZE_KERNELS");
    static const char *const known[] = {"scalar",    "avx2", "avx512",  "avx512vnni",
                                        "avx512amx", "neon", "neondot", "neoni8mm"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (wanted && strcmp(wanted, known[i]) == 0) {
            printf("skipped: kernel set %s is not available here\n", wanted);
            exit(EXIT_SKIPPED);
        }
    printf("QUANTIZE_KERNELS=%s is not the name of a kernel set\n", wanted ? wanted : "");
    exit(1);
}

static inline void start_program(const char *name)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *seed = getenv("QZ_TEST_SEED");
    test_seed = seed && *seed ? strtoull(seed, NULL, 0) : 20250101;
    short_mode = environment_flag("QZ_TEST_SHORT") ? atoi(getenv("QZ_TEST_SHORT")) : 0;
    if (environment_flag("QZ_TEST_FTZ")) {
        fp_calls = FP_FLUSH;
        if (!fp_mode_exists(FP_FLUSH)) {
            printf("skipped: this machine cannot flush subnormals to zero\n");
            exit(EXIT_SKIPPED);
        }
    }
    need_kernels();
    printf("%s: kernels %s, QZ_TEST_SEED=%llu%s%s\n", name, qz_kernels(), (unsigned long long)test_seed,
           short_mode ? ", short" : "", fp_calls == FP_FLUSH ? ", subnormals flushed" : "");
}

#endif
