/*
 * sets.h - the kernel sets that a program tests: those of this processor, or the one that QUANTIZE_KERNELS names
 */
#ifndef QZ_TEST_SETS_H
#define QZ_TEST_SETS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"

enum { SETS_MOST = 8 };

static const struct qz_kernels *sets[SETS_MOST];
static size_t set_count;

static inline void choose_sets(void)
{
    const char *forced = getenv("QUANTIZE_KERNELS");
    for (size_t i = 0; qz_kernel_list[i] && set_count < SETS_MOST; i++) {
        const struct qz_kernels *set = qz_kernel_list[i];
        if (qz_cpu_features(set->needs) != set->needs)
            printf("not tested: %s, which this CPU lacks\n", set->name);
        else if (!forced || !*forced || strcmp(forced, set->name) == 0)
            sets[set_count++] = set;
    }
    for (size_t i = 0; i < set_count; i++)
        printf("testing %s\n", sets[i]->name);
}

#endif
