/*
 * fpenv.h - makes results independent of the caller's floating-point mode
 *
 * A thread may run with another rounding mode, or with subnormal numbers flushed to zero; one library built with
 * -ffast-math can cause that for a whole process. Every public function that computes does so between qz_fp_enter and
 * qz_fp_leave, in a function that the compiler cannot inline between them.
 */
#ifndef QZ_FPENV_H
#define QZ_FPENV_H

#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define QZ_NOINLINE __attribute__((noinline))
#else
#define QZ_NOINLINE
#endif

#if defined(__SSE2__) || defined(_M_X64)

#include <xmmintrin.h>

typedef unsigned qz_fp_state;

/* All exceptions masked, round to nearest, no flush-to-zero, no denormals-are-zero: the state at program start. */
static inline qz_fp_state qz_fp_enter(void)
{
    unsigned saved = _mm_getcsr();
    if ((saved & ~0x3fu) != 0x1f80u)
        _mm_setcsr(0x1f80u);
    return saved;
}

/* Also drops the exception flags raised in between, which are no business of the caller's. */
static inline void qz_fp_leave(qz_fp_state saved)
{
    if (_mm_getcsr() != saved)
        _mm_setcsr(saved);
}

#elif defined(__aarch64__)

typedef uint64_t qz_fp_state;

static inline qz_fp_state qz_fp_enter(void)
{
    uint64_t saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    if (saved)
        __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return saved;
}

static inline void qz_fp_leave(qz_fp_state saved)
{
    if (saved)
        __asm__ volatile("msr fpcr, %0" : : "r"(saved));
}

#else

#include <fenv.h>

typedef fenv_t qz_fp_state;

static inline qz_fp_state qz_fp_enter(void)
{
    fenv_t saved;
    fegetenv(&saved);
    fesetenv(FE_DFL_ENV);
    return saved;
}

static inline void qz_fp_leave(qz_fp_state saved)
{
    fesetenv(&saved);
}

#endif

#endif
