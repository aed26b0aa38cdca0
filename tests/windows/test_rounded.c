/*
 * test_rounded.c - fma(), fmaf() and rint() on Windows: once rounded, in the mode of SSE
 */
#include "support/program.h"

#include "base/number.h"
#include "base/rounded.h"

#include <fenv.h>
#include <math.h>

static int have_instruction(void)
{
    return __builtin_cpu_supports("fma");
}

__attribute__((target("fma"))) static double instruction(double x, double y, double z)
{
    return __builtin_fma(x, y, z);
}

__attribute__((target("fma"))) static float instruction_f32(float x, float y, float z)
{
    return __builtin_fmaf(x, y, z);
}

static struct rng rng;

static double double_of(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Any bits, with exponents that are often near those of the others or at the ends, and digits that are often few. */
static double any_double(uint64_t near)
{
    uint64_t exponent = rng_below(&rng, 4) == 0 ? rng_below(&rng, 2048) : (near + rng_below(&rng, 160) - 80) & 2047;
    uint64_t digits = rng_next(&rng) >> 12;
    if (rng_below(&rng, 2))
        digits &= ~UINT64_C(0) << rng_below(&rng, 52);
    return double_of(rng_next(&rng) << 63 | exponent << 52 | digits);
}

static int same(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

static void test_sums_of_products(void **state)
{
    (void)state;
    if (!have_instruction())
        skip();
    rng = rng_make(1);
    for (size_t i = 0; i < cases(20000000, 2000000); i++) {
        uint64_t near = rng_below(&rng, 2048);
        double x = any_double(1023 + near / 2), y = any_double(near - near / 2), z = any_double(near);
        if (rng_below(&rng, 4) == 0)
            z = -x * y * (1 + (double)rng_below(&rng, 3) * 0x1p-52); /* nearly all of it goes */
        double wanted = instruction(x, y, z);
        if (!same(wanted, qz_fma_plain(x, y, z)) || !same(wanted, qz_fma(x, y, z)))
            fail_msg("%a * %a + %a: got %a and %a, not %a", x, y, z, qz_fma_plain(x, y, z), qz_fma(x, y, z), wanted);
    }
}

static void test_sums_of_products_of_floats(void **state)
{
    (void)state;
    if (!have_instruction())
        skip();
    rng = rng_make(1);
    for (size_t i = 0; i < cases(20000000, 2000000); i++) {
        float x = qz_float((uint32_t)rng_next(&rng)), y = qz_float((uint32_t)rng_next(&rng)),
              z = qz_float((uint32_t)rng_next(&rng));
        if (rng_below(&rng, 2))
            z = -x * y * (1 + (float)rng_below(&rng, 3) * 0x1p-23f);
        if (rng_below(&rng, 4) == 0)
            y = qz_float(qz_bits(y) & 0xffff0000u);
        float wanted = instruction_f32(x, y, z);
        if (!same((double)wanted, (double)qz_fmaf_plain(x, y, z)) || !same((double)wanted, (double)qz_fmaf(x, y, z)))
            fail_msg("%a * %a + %a: got %a, not %a", (double)x, (double)y, (double)z, (double)qz_fmaf_plain(x, y, z),
                     (double)wanted);
    }
}

/* In the mode of SSE, whatever a caller did to the x87 unit. */
static void test_whole_numbers(void **state)
{
    (void)state;
    static const double at[] = {0.0, 0.5, 1.5, 2.5, 0.75, 1.25, 0x1p-1074, 0x1.fffffffffffffp51, 0x1p52, 0x1p1000};
    static const double whole[] = {0.0, 0.0, 2.0, 2.0, 1.0, 1.0, 0.0, 0x1p52, 0x1p52, 0x1p1000};
    for (int mode = 0; mode < 2; mode++) {
        fesetround(mode ? FE_UPWARD : FE_TONEAREST);
        fp_set(FP_DEFAULT); /* of SSE alone */
        for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
            assert_true(same(qz_rint(at[i]), whole[i]) && same(qz_rint(-at[i]), -whole[i]));
            if (fabs(at[i]) <= 4) {
                assert_true(same((double)qz_rintf((float)at[i]), whole[i]));
                assert_true(same((double)qz_rintf((float)-at[i]), -whole[i]));
                assert_int_equal(qz_lrintf((float)at[i]), (long)whole[i]);
            }
        }
        fesetround(FE_TONEAREST);
    }
    assert_true(isnan(qz_rint(NAN)) && isnan((double)qz_rintf(NAN)) && isinf(qz_rint(-INFINITY)));
}

int main(void)
{
    start_program("test_rounded");
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums_of_products),
                                       cmocka_unit_test(test_sums_of_products_of_floats),
                                       cmocka_unit_test(test_whole_numbers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
