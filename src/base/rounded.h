/*
 * rounded.h - functions of <math.h> whose results must be rounded once, for Windows
 *
 * fma() and fmaf() of mingw-w64 round twice, because they use the longer numbers of the x87 unit. rint() and similar
 * functions, where the compiler calls them, use the rounding mode of that unit, which fpenv.h does not set. On Windows
 * this header gives these names to functions of rounded.c. On other systems the functions of the C library are right,
 * and this header does nothing.
 */
#ifndef QZ_ROUNDED_H
#define QZ_ROUNDED_H

#if defined(_WIN32) && defined(__x86_64__)

#include <math.h>

/* By the CPU's instruction where it has one. */
double qz_fma(double x, double y, double z);
float qz_fmaf(float x, float y, float z);

/* Without it. */
double qz_fma_plain(double x, double y, double z);
float qz_fmaf_plain(float x, float y, float z);

/* In the mode of SSE, which is that to nearest between qz_fp_enter() and qz_fp_leave(). From 2^52 or 2^23 on all numbers
 * are whole; adding that and taking it off again rounds to whole numbers. */
static inline double qz_rint(double x)
{
    double big = copysign(0x1p52, x);
    return fabs(x) < 0x1p52 ? copysign(x + big - big, x) : x;
}

static inline float qz_rintf(float x)
{
    float big = copysignf(0x1p23f, x);
    return fabsf(x) < 0x1p23f ? copysignf(x + big - big, x) : x;
}

static inline long qz_lrintf(float x)
{
    return (long)qz_rintf(x);
}

#define fma    qz_fma
#define fmaf   qz_fmaf
#define rint   qz_rint
#define rintf  qz_rintf
#define lrintf qz_lrintf

#endif

#endif
