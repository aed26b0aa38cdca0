/*
 * test_kernels_conversions.c - kernels that convert numbers against scalar.c, bit for bit: float16, bfloat16, float64,
 * scales of a byte
 */
#include "support/program.h"

#include "support/calls.h"

/* ---- calls --------------------------------------------------------------------------------------------------- */

CALLER(f32_from_f16)
{
    set->f32_from_f16(in[0], w->n, out[0]);
    return 0;
}

CALLER(f32_from_bf16)
{
    set->f32_from_bf16(in[0], w->n, out[0]);
    return 0;
}

CALLER(f16_from_f32)
{
    set->f16_from_f32(in[0], w->n, out[0]);
    return 0;
}

CALLER(bf16_from_f32)
{
    set->bf16_from_f32(in[0], w->n, out[0]);
    return 0;
}

CALLER(f32_from_f64)
{
    return (uint64_t)set->f32_from_f64(in[0], w->n, out[0]);
}

CALLER(byte_scales)
{
    set->byte_scales(w->rule.scale_dtype, in[0], w->n, in[1], w->group_size, (float)w->scale, out[0], out[1]);
    return 0;
}

/* ---- float16 and bfloat16 ------------------------------------------------------------------------------------ */

/* All values of a 16-bit type: against scalar.c, and scalar.c against the plain meaning of the bits. */
static void check_from_half(qz_dtype dtype, struct work *w)
{
    static uint16_t halves[65536];
    static float singles[65536];
    for (size_t i = 0; i < 65536; i++)
        halves[i] = (uint16_t)i;
    w->n = 65536;
    w->in[0] = (struct part){halves, sizeof halves, 2};
    w->out[0] = (struct part){NULL, sizeof singles, 4};
    check(w, 4);
    void *in[] = {halves}, *out[] = {singles};
    w->call(&qz_kernels_scalar, w, in, out);
    for (size_t i = 0; i < 65536; i++) {
        double value = ref_from_half(halves[i], dtype);
        uint32_t got = bits_of_float(singles[i]);
        if (isnan(value)) { /* quiet, with its sign and the payload at the top; or as it is */
            uint32_t quiet = (uint32_t)(i & 0x8000) << 16 | 0x7fc00000u | (uint32_t)(i & 0x3ff) << 13;
            assert_int_equal(got, dtype == QZ_F16 ? quiet : (uint32_t)i << 16);
        } else if (got != bits_of_float((float)value)) {
            fail_msg("%s 0x%04zx is %a, wanted %a", w->kernel, i, (double)singles[i], value);
        }
    }
    struct rng rng = rng_make(107);
    for (size_t n = 0; n <= bulk; n = next_size(n)) {
        fill_bytes(&rng, bytes, n * 2);
        w->n = n;
        w->in[0] = (struct part){bytes, n * 2, 2};
        w->out[0] = (struct part){NULL, n * 4, 4};
        check(w, n < 5000 ? all_places(2) : 2);
    }
}

static void test_f32_from_f16(void **state)
{
    (void)state;
    guard_report_faults();
    struct work w = {.kernel = "f32_from_f16", .call = call_f32_from_f16};
    check_from_half(QZ_F16, &w);
}

static void test_f32_from_bf16(void **state)
{
    (void)state;
    guard_report_faults();
    struct work w = {.kernel = "f32_from_bf16", .call = call_f32_from_bf16};
    check_from_half(QZ_BF16, &w);
}

/* Floats to a 16-bit type: each of its numbers, each midpoint between two, and the floats next to those; any bits. */
static void check_to_half(qz_dtype dtype, struct work *w)
{
    enum { EACH = 6 };
    static float x[65536 * EACH];
    static uint16_t got[65536 * EACH];
    size_t n = 0;
    for (uint32_t i = 0; i < 65536; i++) {
        uint32_t next = (i & 0x7fff) == 0x7fff ? i : i + 1;
        float low = (float)ref_from_half((uint16_t)i, dtype), high = (float)ref_from_half((uint16_t)next, dtype);
        if (isinf(high)) /* the first number past the end, had the type one */
            high = copysignf(dtype == QZ_F16 ? 65536.0f : INFINITY, high);
        float middle = isinf(high) ? copysignf(0x1.ffp127f, high) : low * 0.5f + high * 0.5f;
        uint32_t at = bits_of_float(middle);
        x[n++] = low;
        x[n++] = middle;
        x[n++] = float_of_bits(at - 1);
        x[n++] = float_of_bits(at + 1);
        x[n++] = float_of_bits(bits_of_float(low) + 1); /* signalling NaN, too */
        x[n++] = float_of_bits(i << 16 | (i * 40503u & 0xffff));
    }
    w->n = n;
    w->in[0] = (struct part){x, sizeof x, 4};
    w->out[0] = (struct part){NULL, sizeof got, 2};
    check(w, 2);
    void *in[] = {x}, *out[] = {got};
    w->call(&qz_kernels_scalar, w, in, out);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = bits_of_float(x[i]);
        uint16_t wanted = ref_half_bits(ref_round((double)x[i], dtype), dtype);
        if (isnan(x[i])) {
            uint32_t payload = dtype == QZ_F16 ? 0x7e00u | (bits >> 13 & 0x3ff) : 0x7fc0u | (bits >> 16 & 0x7f);
            wanted = (uint16_t)((bits >> 16 & 0x8000) | payload);
        }
        if (got[i] != wanted)
            fail_msg("%s of %a (%08x) is 0x%04x, wanted 0x%04x", w->kernel, (double)x[i], (unsigned)bits, got[i],
                     wanted);
    }
    struct rng rng = rng_make(108);
    for (size_t m = 0; m <= bulk; m = next_size(m)) {
        fill_bytes(&rng, floats_a, m * 4);
        w->n = m;
        w->in[0] = (struct part){floats_a, m * 4, 4};
        w->out[0] = (struct part){NULL, m * 2, 2};
        check(w, m < 5000 ? all_places(2) : 2);
    }
}

static void test_f16_from_f32(void **state)
{
    (void)state;
    guard_report_faults();
    struct work w = {.kernel = "f16_from_f32", .call = call_f16_from_f32};
    check_to_half(QZ_F16, &w);
}

static void test_bf16_from_f32(void **state)
{
    (void)state;
    guard_report_faults();
    struct work w = {.kernel = "bf16_from_f32", .call = call_bf16_from_f32};
    check_to_half(QZ_BF16, &w);
}

/* ---- float64 ------------------------------------------------------------------------------------------------- */

static void test_f32_from_f64(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(109);
    struct work w = {.kernel = "f32_from_f64", .call = call_f32_from_f64, .returned = RETURNS_BAD};
    for (size_t n = 0; n <= bulk; n = next_size(n)) {
        fill_bytes(&rng, doubles, n * 8); /* any bits: most are beyond float32 */
        if (n % 2)
            for (size_t i = 0; i < n; i++) { /* near a float, or near the middle between two */
                float x = float_of_bits((uint32_t)rng_next(&rng) & 0xbfffffffu);
                uint64_t bits = bits_of_double((double)x) + (rng_next(&rng) % 5 - 2) + (rng_next(&rng) % 2 << 28);
                memcpy(&doubles[i], &bits, sizeof bits);
            }
        w.n = n;
        w.in[0] = (struct part){doubles, n * 8, 8};
        w.out[0] = (struct part){NULL, n * 4, 4};
        check(&w, n < 5000 ? all_places(4) : 2);
    }
    /* One value that is refused, at each position; the last that fits. */
    static const double edge[] = {
        NAN, INFINITY, -INFINITY, 0x1.ffffffp127, -0x1.ffffffp127, 1e300, 0x1.fffffefffffffp127};
    for (size_t n = 1; n <= 100; n++)
        for (size_t i = 0; i < n; i++) {
            memset(doubles, 0, n * 8);
            doubles[i] = edge[(i + n) % COUNT(edge)];
            w.n = n;
            w.in[0] = (struct part){doubles, n * 8, 8};
            w.out[0] = (struct part){NULL, n * 4, 4};
            check(&w, 1);
        }
}

/* ---- scales of a byte ---------------------------------------------------------------------------------------- */

static void test_byte_scales(void **state)
{
    (void)state;
    guard_report_faults();
    static const qz_dtype dtypes[] = {QZ_E4M3, QZ_E8M0, QZ_I6, QZ_U6, QZ_I7};
    static const size_t shared[] = {1, 2, 7, 8, 12, 16, 32, 48, SIZE_MAX};
    struct rng rng = rng_make(131);
    struct work w = {.kernel = "byte_scales", .call = call_byte_scales, .scale = 5.0};
    for (size_t t = 0; t < COUNT(dtypes); t++) {
        w.rule.scale_dtype = dtypes[t];
        for (size_t i = 0; i < 256; i++) {
            bytes[i] = (uint8_t)i;
            floats_b[i] = (float)(1 + i % 3);
        }
        w.n = 256;
        w.group_size = 1;
        void *in[] = {bytes, floats_b}, *out[] = {floats_a, floats_b + 256};
        w.call(&qz_kernels_scalar, &w, in, out);
        for (size_t i = 0; i < 256; i++) {
            double number = ref_from_byte(dtypes[t], (unsigned)i) * (double)floats_b[i];
            assert_true(isnan(number) ? isnan(floats_a[i]) : floats_a[i] == (float)number);
            if (dtypes[t] == QZ_I7)
                assert_true(floats_b[256 + i] == (i % 2 ? -5.0f : 0.0f));
        }
        for (size_t e = 0; e < COUNT(shared); e++)
            for (size_t n = 1; n < 600; n = next_length(n)) {
                size_t supers = shared[e] == SIZE_MAX ? 1 : (n + shared[e] - 1) / shared[e];
                fill_bytes(&rng, bytes, n);
                fill_floats(&rng, DATA_NORMAL, floats_b, supers);
                w.n = n;
                w.group_size = shared[e];
                w.in[0] = (struct part){bytes, n, 1};
                w.in[1] = (struct part){floats_b, supers * 4, 4};
                w.out[0] = w.out[1] = (struct part){NULL, n * 4, 4};
                if (dtypes[t] != QZ_I7)
                    w.out[1] = (struct part){0};
                check(&w, 4);
            }
    }
}

int main(void)
{
    start_kernels("test_kernels_conversions");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32_from_f16),  cmocka_unit_test(test_f32_from_bf16), cmocka_unit_test(test_f16_from_f32),
        cmocka_unit_test(test_bf16_from_f32), cmocka_unit_test(test_f32_from_f64),  cmocka_unit_test(test_byte_scales),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
