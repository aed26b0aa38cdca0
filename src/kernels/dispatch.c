/*
 * dispatch.c - detects what this CPU can do, and chooses a kernel set once
 *
 * The choice is one atomic pointer. Two threads that make it for the first time at the same moment compute the same
 * answer.
 */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* syscall */
#endif

#include "kernels.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

const struct qz_kernels *const qz_kernel_list[] = {
#if defined(__x86_64__) || defined(_M_X64)
#if defined(QZ_HAS_AMX)
    &qz_kernels_avx512amx, /* best first */
#endif
    &qz_kernels_avx512vnni, /* without AMX */
    &qz_kernels_avx512,     /* without VNNI */
    &qz_kernels_avx2,
#elif defined(__AARCH64EL__) && defined(__ARM_NEON)
#if defined(QZ_HAS_I8MM)
    &qz_kernels_neoni8mm,
#endif
#if defined(QZ_HAS_DOTPROD)
    &qz_kernels_neondot,
#endif
    &qz_kernels_neon,
#endif
    &qz_kernels_scalar, /* which runs everywhere */
    NULL,
};

uint32_t qz_x86_features(const struct qz_x86 *machine, uint32_t wanted)
{
    enum { AVX512 = QZ_CPU_AVX512 | QZ_CPU_AVX512VNNI | QZ_CPU_AMX, AVX2 = QZ_CPU_AVX2 | AVX512 };
    static const struct {
        unsigned leaf, reg, bit; /* reg: 0 eax, 1 ebx, 2 ecx, 3 edx */
        uint32_t feature;        /* the sets that need this bit */
    } bits[] = {
        {1, 2, 12, AVX2},                           /* FMA */
        {1, 2, 27, AVX2},                           /* OSXSAVE: XCR0 can be read */
        {1, 2, 28, AVX2},                           /* AVX */
        {1, 2, 29, AVX2},                           /* F16C */
        {7, 1, 5, AVX2},                            /* AVX2 */
        {7, 1, 16, AVX512},                         /* AVX512F */
        {7, 1, 17, AVX512},                         /* AVX512DQ */
        {7, 1, 30, AVX512},                         /* AVX512BW */
        {7, 1, 31, AVX512},                         /* AVX512VL */
        {7, 2, 1, AVX512},                          /* AVX512VBMI */
        {7, 2, 11, QZ_CPU_AVX512VNNI | QZ_CPU_AMX}, /* AVX512_VNNI */
        {7, 3, 24, QZ_CPU_AMX},                     /* AMX-TILE */
        {7, 3, 25, QZ_CPU_AMX},                     /* AMX-INT8 */
    };
    static const struct {
        uint64_t registers; /* of XCR0 */
        uint32_t feature;
    } states[] = {
        {0x06, AVX2},          /* SSE and AVX registers */
        {0xe0, AVX512},        /* mask and 512-bit registers */
        {0x60000, QZ_CPU_AMX}, /* tiles and what they are configured to */
    };
    uint32_t features = wanted & AVX2;
    for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++)
        if (!((bits[i].leaf == 1 ? machine->leaf1 : machine->leaf7)[bits[i].reg] >> bits[i].bit & 1))
            features &= ~bits[i].feature;
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
        if ((machine->saved & states[i].registers) != states[i].registers)
            features &= ~states[i].feature;
    if (features & QZ_CPU_AMX && !machine->may_use_tiles())
        features &= ~(uint32_t)QZ_CPU_AMX;
    return features;
}

#if defined(__x86_64__) || defined(_M_X64)

#include <cpuid.h>

/* Which register files the operating system saves: XCR0. */
static uint64_t saved_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Linux gives a process the 8 KiB that threads need for tiles if it asks, and then for as long as the process runs. It
 * may refuse, as older ones and filters of system calls do. */
static int may_use_tiles(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return 0;
#endif
}

uint32_t qz_cpu_features(uint32_t wanted)
{
    struct qz_x86 machine = {.may_use_tiles = may_use_tiles};
    uint32_t *leaf1 = machine.leaf1, *leaf7 = machine.leaf7;
    if (__get_cpuid_max(0, NULL) < 7)
        return 0;
    __cpuid(1, leaf1[0], leaf1[1], leaf1[2], leaf1[3]);
    __cpuid_count(7, 0, leaf7[0], leaf7[1], leaf7[2], leaf7[3]);
    if (leaf1[2] >> 27 & 1)
        machine.saved = saved_state();
    return qz_x86_features(&machine, wanted);
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

static int has_i8mm(void)
{
#if defined(__ARM_FEATURE_MATMUL_INT8)
    return 1;
#elif defined(__linux__)
    enum { I8MM = 1 << 13 }; /* HWCAP2_I8MM, which older headers lack */
    return (getauxval(AT_HWCAP2) & I8MM) != 0;
#else
    return 0;
#endif
}

uint32_t qz_cpu_features(uint32_t wanted)
{
    uint32_t features = QZ_CPU_NEON; /* which is part of the base architecture */
    features |= has_dotprod() ? QZ_CPU_DOTPROD : 0u;
    features |= has_i8mm() ? QZ_CPU_I8MM : 0u;
    return wanted & features;
}

#else

uint32_t qz_cpu_features(uint32_t wanted)
{
    (void)wanted;
    return 0;
}

#endif

static int runs_here(const struct qz_kernels *set)
{
    return qz_cpu_features(set->needs) == set->needs;
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
