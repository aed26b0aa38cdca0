/*
 * rounded.c - fma() and similar functions that round once, for Windows
 */
#include "rounded.h"

#ifdef fma

#include "number.h"

#include <math.h>

__extension__ typedef unsigned __int128 wide;

/* ---- with the instruction ------------------------------------------------------------------------------------ */

__attribute__((target("fma"))) static double fused(double x, double y, double z)
{
    return __builtin_fma(x, y, z);
}

__attribute__((target("fma"))) static float fused_f32(float x, float y, float z)
{
    return __builtin_fmaf(x, y, z);
}

double qz_fma(double x, double y, double z)
{
    return __builtin_cpu_supports("fma") ? fused(x, y, z) : qz_fma_plain(x, y, z);
}

float qz_fmaf(float x, float y, float z)
{
    return __builtin_cpu_supports("fma") ? fused_f32(x, y, z) : qz_fmaf_plain(x, y, z);
}

/* ---- without it ---------------------------------------------------------------------------------------------- */

static uint64_t bits_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double double_of(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* digits * 2^exponent; the digits of a number that is not 0 begin at bit 52, those of sums and products anywhere. */
struct exact {
    wide digits;
    int exponent, negative;
};

static struct exact exact_of(double x)
{
    uint64_t bits = bits_of(x), digits = bits & 0xfffffffffffff;
    int exponent = (int)(bits >> 52 & 0x7ff);
    if (exponent != 0) {
        digits |= UINT64_C(1) << 52;
    } else {
        exponent = 1;
        for (; digits && !(digits >> 52); exponent--)
            digits <<= 1;
    }
    return (struct exact){digits, exponent - 1075, (int)(bits >> 63)};
}

/* Drops digits; the last one that stays says whether any of them was not 0. */
static wide drop(wide digits, int count)
{
    if (count > 127)
        return digits != 0;
    wide kept = digits >> count;
    return kept | (kept << count != digits);
}

/* The nearest double, ties to even: 53 digits, or fewer where the first one is worth less than 2^-1022. */
static double nearest(struct exact x)
{
    int width = 0;
    while (width < 128 && x.digits >> width)
        width++;
    int first = width - 1 + x.exponent, digits = first < -1022 ? 53 + 1022 + first : 53, less = width - digits;
    uint64_t kept = 0;
    if (first > 1023) {
        kept = UINT64_C(0x7ff) << 52;
    } else if (less <= 0) {
        kept = (uint64_t)x.digits << -less;
    } else if (digits >= 0) {
        wide whole = less < 128 ? x.digits >> less : 0, half = (wide)1 << (less - 1),
             rest = x.digits & (half - 1 + half);
        kept = (uint64_t)whole + (rest > half || (rest == half && (whole & 1)));
    }
    if (digits == 53 && first <= 1023)
        kept += (uint64_t)(first + 1022) << 52; /* the first digit makes it one more; a carry runs on to infinity */
    return double_of((uint64_t)x.negative << 63 | kept);
}

double qz_fma_plain(double x, double y, double z)
{
    enum { PRODUCT = 20, NUMBER = 73 }; /* both then begin at bit 124 or 125 */
    if (x == 0 || y == 0 || !qz_is_finite_f64(x) || !qz_is_finite_f64(y))
        return x * y + z;
    if (!qz_is_finite_f64(z))
        return z + z; /* the product is finite, even where a double cannot hold it */
    if (z == 0)
        return x * y;
    struct exact a = exact_of(x), b = exact_of(y), sum = exact_of(z);
    struct exact product = {a.digits * b.digits << PRODUCT, a.exponent + b.exponent - PRODUCT, a.negative ^ b.negative};
    sum.digits <<= NUMBER;
    sum.exponent -= NUMBER;
    int shift = product.exponent - sum.exponent;
    if (shift > 0)
        sum.digits = drop(sum.digits, shift), sum.exponent = product.exponent;
    else
        product.digits = drop(product.digits, -shift);
    if (sum.negative == product.negative) {
        sum.digits += product.digits;
    } else if (sum.digits == product.digits) {
        return 0.0;
    } else {
        int less = sum.digits < product.digits;
        sum.digits = less ? product.digits - sum.digits : sum.digits - product.digits;
        sum.negative ^= less;
    }
    return nearest(sum);
}

/* The product is exact in double. The sum is made odd if it is not: then it is no tie of floats, and on the same side of
 * all of them as the exact one. */
float qz_fmaf_plain(float x, float y, float z)
{
    double product = (double)x * (double)y, sum = product + (double)z;
    if (!qz_is_finite_f64(sum))
        return (float)sum;
    double taken = sum - product, lost = (product - (sum - taken)) + ((double)z - taken);
    uint64_t bits = bits_of(sum);
    if (lost != 0 && !(bits & 1))
        bits += (lost > 0) == (sum > 0) ? 1 : (uint64_t)-1;
    return (float)double_of(bits);
}

#else

typedef int qz_rounded_by_the_c_library; /* no file is empty */

#endif
