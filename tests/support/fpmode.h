/*
 * fpmode.h - calls made in a hostile floating-point mode
 *
 * The library promises the same results whatever rounding mode or flush-to-zero setting its caller runs with, and to
 * leave that setting alone. CALL(expression) evaluates a call in the mode `fp_calls`, fails if the mode was not put
 * back, and returns to the default mode, in which the tests compute what they expect.
 */
#ifndef QZ_TEST_FPMODE_H
#define QZ_TEST_FPMODE_H

#include <fenv.h>
#include <stdint.h>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

enum fp_mode { FP_DEFAULT, FP_UP, FP_DOWN, FP_TO_ZERO, FP_FLUSH, FP_MODES };

static enum fp_mode fp_calls = FP_DEFAULT;

static inline const char *fp_mode_name(enum fp_mode mode)
{
    static const char *const names[] = {"nearest", "upward", "downward", "toward zero", "subnormals flushed"};
    return names[mode];
}

#if defined(__SSE2__)

static inline uint64_t fp_word(enum fp_mode mode)
{
    static const uint64_t words[] = {0x1f80, 0x5f80, 0x3f80, 0x7f80, 0x9fc0};
    return words[mode];
}

static inline void fp_set(enum fp_mode mode)
{
    _mm_setcsr((unsigned)fp_word(mode));
}

static inline int fp_is(enum fp_mode mode)
{
    return (_mm_getcsr() & ~0x3fu) == fp_word(mode); /* the low six bits are flags, which any operation may raise */
}

static inline int fp_mode_exists(enum fp_mode mode)
{
    (void)mode;
    return 1;
}

#elif defined(__aarch64__)

static inline uint64_t fp_word(enum fp_mode mode)
{
    static const uint64_t words[] = {0, 1u << 22, 2u << 22, 3u << 22, 1u << 24};
    return words[mode];
}

static inline void fp_set(enum fp_mode mode)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(fp_word(mode)) : "memory");
}

static inline int fp_is(enum fp_mode mode)
{
    uint64_t word;
    __asm__ volatile("mrs %0, fpcr" : "=r"(word));
    return word == fp_word(mode);
}

static inline int fp_mode_exists(enum fp_mode mode)
{
    (void)mode;
    return 1;
}

#else /* rounding modes as C knows them, no flushing */

static inline void fp_set(enum fp_mode mode)
{
    static const int rounding[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO, FE_TONEAREST};
    fesetround(rounding[mode]);
}

static inline int fp_is(enum fp_mode mode)
{
    static const int rounding[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO, FE_TONEAREST};
    return fegetround() == rounding[mode];
}

static inline int fp_mode_exists(enum fp_mode mode)
{
    return mode != FP_FLUSH;
}

#endif

static inline qz_result fp_return(qz_result result)
{
    int kept = fp_is(fp_calls);
    fp_set(FP_DEFAULT);
    if (!kept)
        fail_msg("the call did not put the floating-point mode back (%s)", fp_mode_name(fp_calls));
    return result;
}

#define CALL(expression) (fp_set(fp_calls), fp_return(expression))

#endif
