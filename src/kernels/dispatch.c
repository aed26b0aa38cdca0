/*
 * dispatch.c - detects what this CPU can do, and chooses a kernel set once
 *
 * The choice is one atomic pointer. Two threads that make it for the first time at the same moment compute the same
 * answer.
 */
#include "kernels.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

const struct qz_kernels *const qz_kernel_list[] = {
#if defined(__x86_64__) || defined(_M_X64)
    &qz_kernels_avx512vnni, /* best first */
    &qz_kernels_avx512,     /* without VNNI */
    &qz_kernels_avx2,
#elif defined(__AARCH64EL__) && defined(__ARM_NEON)
#if defined(QZ_HAS_DOTPROD)
    &qz_kernels_neondot,
#endif
    &qz_kernels_neon,
#endif
    &qz_kernels_scalar, /* which runs everywhere */
    NULL,
};

#if defined(__x86_64__) || defined(_M_X64)

#include <cpuid.h>

/* Which register files the operating system saves: XCR0. */
static uint64_t saved_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

uint32_t qz_cpu_features(void)
{
    static const struct {
        unsigned leaf, reg, bit; /* reg: 0 eax, 1 ebx, 2 ecx, 3 edx */
        uint32_t feature;        /* the set that needs this bit */
    } bits[] = {
        {1, 2, 12, QZ_CPU_AVX2 | QZ_CPU_AVX512}, /* FMA */
        {1, 2, 28, QZ_CPU_AVX2 | QZ_CPU_AVX512}, /* AVX */
        {1, 2, 29, QZ_CPU_AVX2 | QZ_CPU_AVX512}, /* F16C */
        {7, 1, 5, QZ_CPU_AVX2 | QZ_CPU_AVX512},  /* AVX2 */
        {7, 1, 16, QZ_CPU_AVX512},               /* AVX512F */
        {7, 1, 17, QZ_CPU_AVX512},               /* AVX512DQ */
        {7, 1, 30, QZ_CPU_AVX512},               /* AVX512BW */
        {7, 1, 31, QZ_CPU_AVX512},               /* AVX512VL */
        {7, 2, 1, QZ_CPU_AVX512},                /* AVX512VBMI */
        {7, 2, 11, QZ_CPU_AVX512VNNI},           /* AVX512_VNNI */
    };
    unsigned leaf[8][4] = {{0}};
    unsigned highest = (unsigned)__get_cpuid_max(0, NULL);
    if (highest < 7)
        return 0;
    __cpuid(1, leaf[1][0], leaf[1][1], leaf[1][2], leaf[1][3]);
    __cpuid_count(7, 0, leaf[7][0], leaf[7][1], leaf[7][2], leaf[7][3]);
    if (!(leaf[1][2] >> 27 & 1)) /* OSXSAVE */
        return 0;

    uint32_t features = QZ_CPU_AVX2 | QZ_CPU_AVX512 | QZ_CPU_AVX512VNNI;
    uint64_t saved = saved_state();
    if ((saved & 0x06) != 0x06) /* SSE and AVX registers */
        features = 0;
    if ((saved & 0xe6) != 0xe6) /* and mask and 512-bit registers */
        features &= ~(uint32_t)(QZ_CPU_AVX512 | QZ_CPU_AVX512VNNI);
    for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++)
        if (!(leaf[bits[i].leaf][bits[i].reg] >> bits[i].bit & 1))
            features &= ~bits[i].feature;
    return features;
}

#elif defined(__aarch64__)

#if defined(__linux__)
#include <sys/auxv.h>
#endif

static int has_dotprod(void)
{
#if defined(__ARM_FEATURE_DOTPROD)
    return 1; /* the compiler was told so, as it is for macOS */
#elif defined(__linux__) && defined(HWCAP_ASIMDDP)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
    return 0;
#endif
}

uint32_t qz_cpu_features(void)
{
    return QZ_CPU_NEON | (has_dotprod() ? QZ_CPU_DOTPROD : 0u); /* NEON is part of the base architecture */
}

#else

uint32_t qz_cpu_features(void)
{
    return 0;
}

#endif

static int runs_here(const struct qz_kernels *set)
{
    return (set->needs & ~qz_cpu_features()) == 0;
}

/* The best set that runs here, or the named one; NULL if there is none. */
static const struct qz_kernels *find(const char *name)
{
    for (size_t i = 0; qz_kernel_list[i]; i++)
        if ((!name || strcmp(name, qz_kernel_list[i]->name) == 0) && runs_here(qz_kernel_list[i]))
            return qz_kernel_list[i];
    return NULL;
}

static _Atomic(const struct qz_kernels *) active;

const struct qz_kernels *qz_kernels_active(void)
{
    const struct qz_kernels *set = atomic_load_explicit(&active, memory_order_acquire);
    if (!set) {
        const char *name = getenv("QUANTIZE_KERNELS");
        set = find(name && *name ? name : NULL);
        if (set)
            atomic_store_explicit(&active, set, memory_order_release);
    }
    return set;
}

const char *qz_kernels(void)
{
    const struct qz_kernels *set = qz_kernels_active();
    return set ? set->name : NULL;
}

const char *qz_kernels_at(size_t i, int *supported)
{
    for (size_t k = 0; qz_kernel_list[k]; k++)
        if (k == i) {
            if (supported)
                *supported = runs_here(qz_kernel_list[k]);
            return qz_kernel_list[k]->name;
        }
    return NULL;
}

qz_result qz_kernels_use(const char *name)
{
    const struct qz_kernels *set = find(name);
    if (!set)
        return QZ_ERROR_KERNELS;
    atomic_store_explicit(&active, set, memory_order_release);
    return QZ_OK;
}
