/*
 * test_scale_types.c - the table of the types that scales are stored as, against what each type is by definition
 */
#include "support/program.h"

#include "packed/scale_type.h"
#include "support/sets.h"

static const qz_dtype byte_types[] = {QZ_E4M3, QZ_E8M0, QZ_I6, QZ_U6, QZ_I7};
enum { BYTE_TYPES = sizeof byte_types / sizeof byte_types[0] };

/* From 0 up to 1. */
static double fraction(struct rng *rng)
{
    return (double)(rng_next(rng) >> 11) * 0x1p-53;
}

/* What a byte stands for, in multiples of the super scale. */
static float decoded(qz_dtype dtype, uint8_t byte)
{
    const float one = 1.0f;
    float number, zero = 0.0f;
    sets[0]->byte_scales(dtype, &byte, 1, &one, 1, 2.0f, &number, &zero);
    return number;
}

static int is_number(qz_dtype dtype, uint8_t byte)
{
    return qz_is_scale_byte(qz_scale_type_of(dtype), byte) && isfinite(decoded(dtype, byte));
}

/* Each number of a type is the nearest one to itself and keeps its byte; -0 and -0 times the super scale are 0. */
static void test_numbers(void **state)
{
    (void)state;
    for (size_t t = 0; t < BYTE_TYPES; t++)
        for (int byte = 0; byte < 256; byte++) {
            qz_dtype dtype = byte_types[t];
            float number = decoded(dtype, (uint8_t)byte), zero = (float)(byte & 1);
            uint8_t again;
            if (!is_number(dtype, (uint8_t)byte) || (number == 0.0f && signbit(number)))
                continue;
            if (dtype != QZ_E8M0 || byte > 0)
                assert_true(qz_scale_type_of(dtype)->nearest(number) == number);
            qz_bytes_of_scales(dtype, &number, &zero, 1, 1.0f, &again);
            if (again != byte && (dtype != QZ_E8M0 || byte > 0))
                fail_msg("%s: byte %d, %a, becomes %d", qz_dtype_name(dtype), byte, (double)number, again);
        }
}

/* The nearest of all numbers of a type, of two the even byte: found by looking at all of them. */
static float nearest_of_all(qz_dtype dtype, float x)
{
    float best = NAN;
    for (int byte = 0; byte < 256; byte++) {
        float number = decoded(dtype, (uint8_t)byte);
        if (is_number(dtype, (uint8_t)byte) &&
            (isnan(best) || fabs((double)number - (double)x) < fabs((double)best - (double)x)))
            best = number;
    }
    return best;
}

/* Scales of any size become the bytes of the nearest numbers, which never decode to anything that is no number. */
static void test_scales(void **state)
{
    (void)state;
    struct rng rng = rng_make(77);
    for (size_t repeat = 0; repeat < cases(20000, 2000); repeat++) {
        qz_dtype dtype = byte_types[rng_below(&rng, BYTE_TYPES)];
        if (dtype == QZ_E8M0) /* rounds by a rule of its own, which test_one_group.c holds */
            continue;
        float super = (float)exp2(fraction(&rng) * 20 - 10), reach = dtype == QZ_E4M3 ? 900.0f : 140.0f;
        float scale = super * (float)(fraction(&rng) - (dtype == QZ_U6 ? 0.1 : 0.5)) * reach, zero = 0.0f;
        if (rng_below(&rng, 8) == 0) /* around 0, which is never stored as -0 */
            scale *= 0x1p-20f;
        uint8_t byte;
        qz_bytes_of_scales(dtype, &scale, &zero, 1, super, &byte);
        float multiple = scale / super, wanted = nearest_of_all(dtype, multiple), got = decoded(dtype, byte);
        int fits = dtype != QZ_E4M3 || fabsf(multiple) <= 464.0f;
        if (fits && fabs((double)got - (double)multiple) > fabs((double)wanted - (double)multiple))
            fail_msg("%s: %a becomes %a, not %a", qz_dtype_name(dtype), (double)multiple, (double)got, (double)wanted);
        if (dtype == QZ_E4M3 && (fits ? byte == 0x80 : isfinite(got)))
            fail_msg("%a becomes byte %d", (double)multiple, byte);
        if (qz_scale_type_of(dtype)->nearest(multiple) != got && fits)
            fail_msg("%s: the nearest to %a is not what is stored", qz_dtype_name(dtype), (double)multiple);
    }
}

/* Offsets are not positive: their bytes are multiples of minus the super scale. */
static void test_offsets(void **state)
{
    (void)state;
    for (int i = -20; i <= 1500; i++) {
        float offset = -(float)i / 20.0f * 0.5f;
        uint8_t byte;
        qz_bytes_of_offsets(QZ_U6, &offset, 1, 0.5f, &byte);
        double wanted = rint(i / 20.0);
        assert_int_equal(byte, wanted < 0 ? 0 : wanted > 63 ? 63 : (int)wanted);
    }
    float offset = -1.0f;
    uint8_t byte = 9;
    qz_bytes_of_offsets(QZ_U6, &offset, 1, 0.0f, &byte);
    assert_int_equal(byte, 0);
}

/* Types that scales are not stored as have no row. */
static void test_rows(void **state)
{
    (void)state;
    for (int dtype = -1; dtype < 300; dtype++) {
        int known = dtype >= QZ_F32 && dtype <= QZ_I7 && dtype != QZ_F64;
        assert_int_equal(qz_scale_type_of((qz_dtype)dtype) != NULL, known);
    }
}

int main(void)
{
    start_program("test_scale_types");
    choose_sets();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_scales),
        cmocka_unit_test(test_offsets),
        cmocka_unit_test(test_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
