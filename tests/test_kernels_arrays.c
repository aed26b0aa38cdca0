/*
 * test_kernels_arrays.c - kernels of whole arrays against scalar.c, bit for bit: ranges, codes, decoding, packing
 */
#include "support/program.h"

#include "support/calls.h"

/* ---- calls --------------------------------------------------------------------------------------------------- */

CALLER(range_f32)
{
    return (uint64_t)set->range_f32(in[0], w->n, out[0]);
}

CALLER(range_f64)
{
    return (uint64_t)set->range_f64(in[0], w->n, out[0]);
}

CALLER(codes_f32)
{
    set->codes_f32(in[0], w->n, w->steps, out[0]);
    return 0;
}

CALLER(codes_f64)
{
    set->codes_f64(in[0], w->n, w->scale, w->zero_point, out[0]);
    return 0;
}

CALLER(decode_f32)
{
    return (uint64_t)set->decode_f32(in[0], w->n, w->table, out[0]);
}

CALLER(decode_f64)
{
    return (uint64_t)set->decode_f64(in[0], w->n, w->table, out[0]);
}

CALLER(pack)
{
    return (uint64_t)set->pack(in[0], w->n, out[0]);
}

CALLER(unpack)
{
    set->unpack(in[0], w->n, out[0]);
    return 0;
}

/* ---- ranges -------------------------------------------------------------------------------------------------- */

static void test_range_f32(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(100);
    struct work w = {
        .kernel = "range_f32", .call = call_range_f32, .returned = RETURNS_BAD_OR_DATA, .zero_signs_free = 1};
    w.out[0] = (struct part){NULL, 8, 4};
    for (size_t n = 1; n < 5000; n = next_length(n)) {
        fill_floats(&rng, (enum data_kind)rng_below(&rng, DATA_KINDS), floats_a, n);
        w.n = n;
        w.in[0] = (struct part){floats_a, n * 4, 4};
        check(&w, all_places(4));
        /* NaN and infinities at each position */
        static const float bad[] = {NAN, INFINITY, -INFINITY};
        for (size_t i = 0; n <= 260 && i < n; i++) {
            float kept = floats_a[i];
            floats_a[i] = bad[(i + n) % 3];
            check(&w, 1);
            floats_a[i] = kept;
        }
    }
    for (int kind = 0; kind < DATA_KINDS; kind++) {
        fill_floats(&rng, (enum data_kind)kind, floats_a, bulk);
        w.n = bulk;
        w.in[0] = (struct part){floats_a, bulk * 4, 4};
        check(&w, 1);
    }
}

static void test_range_f64(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(101);
    struct work w = {
        .kernel = "range_f64", .call = call_range_f64, .returned = RETURNS_BAD_OR_DATA, .zero_signs_free = 1};
    w.out[0] = (struct part){NULL, 16, 8};
    for (size_t n = 1; n < 5000; n = next_length(n)) {
        fill_doubles(&rng, (enum data_kind)rng_below(&rng, DATA_KINDS), doubles, n);
        w.n = n;
        w.in[0] = (struct part){doubles, n * 8, 8};
        check(&w, all_places(8));
        static const double bad[] = {NAN, INFINITY, -INFINITY};
        for (size_t i = 0; n <= 260 && i < n; i++) {
            double kept = doubles[i];
            doubles[i] = bad[(i + n) % 3];
            check(&w, 1);
            doubles[i] = kept;
        }
    }
    for (int kind = 0; kind < DATA_KINDS; kind++) {
        fill_doubles(&rng, (enum data_kind)kind, doubles, bulk);
        w.n = bulk;
        w.in[0] = (struct part){doubles, bulk * 8, 8};
        check(&w, 1);
    }
}

/* ---- codes --------------------------------------------------------------------------------------------------- */

/* Floats in the order of their values, as integers. */
static int64_t rank_of(float x)
{
    uint32_t bits = bits_of_float(x);
    return bits >> 31 ? -(int64_t)(bits & 0x7fffffffu) : (int64_t)bits;
}

static float of_rank(int64_t rank)
{
    return float_of_bits(rank < 0 ? (uint32_t)-rank | 0x80000000u : (uint32_t)rank);
}

/* What kernels.h says of struct qz_steps, by bisection. 0 if float32 kernels are not to be called. */
static int make_steps(float min, float max, qz_method method, struct qz_steps *steps)
{
    double ends[2] = {(double)min, (double)max};
    ref_whole_scale(ends, 2, method, &steps->scale, &steps->zero_point);
    steps->ordinary = steps->scale >= 0x1p-100 && steps->scale <= 0x1p100;
    if (min == max || !steps->ordinary)
        return 0;
    steps->middle = (float)(0.5 * (double)min + 0.5 * (double)max);
    steps->inverse = (float)(1.0 / steps->scale);
    steps->bias = (float)((double)steps->middle / steps->scale + steps->zero_point + 8.5 - 0x1p-10);
    for (int i = 0; i < 15; i++) {
        int64_t below = rank_of(-FLT_MAX), reaches = rank_of(INFINITY);
        while (reaches - below > 1) {
            int64_t middle = below + (reaches - below) / 2;
            if (rint((double)of_rank(middle) / steps->scale) + steps->zero_point >= i - 7)
                reaches = middle;
            else
                below = middle;
        }
        steps->next[i] = of_rank(reaches);
    }
    steps->next[15] = INFINITY;
    return 1;
}

/* Values as far apart as `min` and `max`, a third of them at thresholds and next to them. */
static void fill_between(struct rng *rng, const struct qz_steps *steps, float min, float max, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = rng_next(rng);
        float v = bits % 3 ? (float)((double)min + ((double)max - (double)min) * (double)(bits >> 11) * 0x1p-53)
                           : of_rank(rank_of(steps->next[bits / 3 % 15]) + (int64_t)(bits >> 32) % 3 - 1);
        x[i] = v < min ? min : v > max ? max : v;
    }
    x[rng_below(rng, n)] = min;
    x[rng_below(rng, n)] = max;
}

static void random_ends(struct rng *rng, float *min, float *max)
{
    float a = rng_normal(rng) * power_of_two((int)rng_below(rng, 160) - 80);
    float b = rng_below(rng, 2) ? rng_normal(rng) * power_of_two((int)rng_below(rng, 160) - 80)
                                : a + fabsf(a) * power_of_two(-(int)rng_below(rng, 24)); /* a narrow range far from 0 */
    *min = a < b ? a : b;
    *max = a < b ? b : a;
}

static void test_codes_f32(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(102);
    struct qz_steps steps;
    struct work w = {.kernel = "codes_f32", .call = call_codes_f32, .steps = &steps};
    float min, max;
    for (size_t n = 0; n < 5000; n = next_length(n)) {
        do
            random_ends(&rng, &min, &max);
        while (!make_steps(min, max, n % 2 ? QZ_MINMAX : QZ_ABSMAX7, &steps));
        if (n)
            fill_between(&rng, &steps, min, max, floats_a, n);
        w.n = n;
        w.in[0] = (struct part){floats_a, n * 4, 4};
        w.out[0] = (struct part){NULL, n, 1};
        check(&w, all_places(1));
    }
    size_t n = bulk / 128;
    for (size_t repeat = 0; repeat < 1280; repeat++) {
        random_ends(&rng, &min, &max);
        if (!make_steps(min, max, repeat % 2 ? QZ_MINMAX : QZ_ABSMAX7, &steps))
            continue;
        fill_between(&rng, &steps, min, max, floats_a, n);
        w.n = n;
        w.in[0] = (struct part){floats_a, n * 4, 4};
        w.out[0] = (struct part){NULL, n, 1};
        check(&w, 1);
    }
}

/* The same for doubles, whose thresholds are found by the plain rule alone. */
static void fill_doubles_between(struct rng *rng, double scale, double zero_point, double min, double max, double *x,
                                 size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = rng_next(rng);
        double at = (double)(bits >> 11) * 0x1p-53, v = min * (1 - at) + max * at;
        if (bits % 3 == 0) {
            v = ((int)(bits >> 20 & 15) - 7.5 - zero_point) * scale;
            v = bits >> 30 & 1 ? v : nextafter(v, bits >> 31 & 1 ? (double)INFINITY : -(double)INFINITY);
        }
        x[i] = v < min ? min : v > max ? max : v;
    }
}

static void random_double_case(struct rng *rng, struct work *w, qz_method method, size_t n)
{
    double ends[2];
    int far = (int)rng_below(rng, 3);
    ends[0] = (double)rng_normal(rng) * ldexp(1.0, (int)rng_below(rng, 2044) - 1060 + far);
    ends[1] = far == 0   ? (double)rng_normal(rng) * ldexp(1.0, (int)rng_below(rng, 2044) - 1060)
              : far == 1 ? -ends[0] * (double)rng_normal(rng)
                         : ends[0] * (1.0 + ldexp(1.0, -(int)rng_below(rng, 50)));
    if (ends[0] > ends[1]) {
        double swap = ends[0];
        ends[0] = ends[1];
        ends[1] = swap;
    }
    ref_whole_scale(ends, 2, method, &w->scale, &w->zero_point);
    fill_doubles_between(rng, w->scale, w->zero_point, ends[0], ends[1], doubles, n);
    w->n = n;
    w->in[0] = (struct part){doubles, n * 8, 8};
    w->out[0] = (struct part){NULL, n, 1};
}

static void test_codes_f64(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(103);
    struct work w = {.kernel = "codes_f64", .call = call_codes_f64};
    for (size_t n = 0; n < 5000; n = next_length(n)) {
        random_double_case(&rng, &w, n % 2 ? QZ_MINMAX : QZ_ABSMAX7, n);
        check(&w, all_places(1));
    }
    for (size_t repeat = 0; repeat < 1280; repeat++) {
        random_double_case(&rng, &w, repeat % 2 ? QZ_MINMAX : QZ_ABSMAX7, bulk / 128);
        check(&w, 1);
    }
}

/* ---- decoding and packing ------------------------------------------------------------------------------------ */

/* Every code that is out of range, at every position. */
static void check_strange_codes(struct work *w, size_t most)
{
    int8_t *codes = (int8_t *)bytes;
    for (size_t n = 1; n <= most; n++)
        for (size_t i = 0; i < n; i++) {
            int8_t kept = codes[i];
            w->n = n;
            w->in[0].bytes = n;
            w->out[0].bytes = w->out[0].unit == 1 ? n / 2 + n % 2 : n * w->out[0].unit;
            int step = n < 70 && !short_mode ? 1 : 37; /* each of the 240 where lengths are short */
            for (int code = -128 + (int)(i % (size_t)step); code < 128; code += step) {
                codes[i] = (int8_t)code;
                if (code < -8 || code > 7)
                    check(w, 1);
            }
            codes[i] = kept;
        }
}

static void test_decode(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(104);
    float table[16];
    double wide_table[16];
    fill_floats(&rng, DATA_BITS, table, 16);
    fill_doubles(&rng, DATA_BITS, wide_table, 16);
    for (size_t unit = 4; unit <= 8; unit += 4) {
        struct work w = {.kernel = unit == 4 ? "decode_f32" : "decode_f64", .returned = RETURNS_BAD};
        w.call = unit == 4 ? call_decode_f32 : call_decode_f64;
        w.table = unit == 4 ? (const void *)table : wide_table;
        for (size_t n = 0; n <= bulk; n = next_size(n)) {
            fill_codes(&rng, (int8_t *)bytes, n);
            w.n = n;
            w.in[0] = (struct part){bytes, n, 1};
            w.out[0] = (struct part){NULL, n * unit, unit};
            check(&w, n < 5000 ? all_places(1) : 2);
        }
        w.in[0] = (struct part){bytes, 0, 1};
        check_strange_codes(&w, short_mode ? 70 : 260);
    }
}

static void test_pack(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(105);
    struct work w = {.kernel = "pack", .call = call_pack, .returned = RETURNS_BAD_OR_DATA};
    for (size_t n = 0; n <= bulk; n = next_size(n)) {
        fill_codes(&rng, (int8_t *)bytes, n);
        w.n = n;
        w.in[0] = (struct part){bytes, n, 1};
        w.out[0] = (struct part){NULL, n / 2 + n % 2, 1};
        check(&w, n < 5000 ? all_places(1) : 2);
    }
    w.in[0] = (struct part){bytes, 0, 1};
    check_strange_codes(&w, short_mode ? 70 : 260);
}

static void test_unpack(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(106);
    struct work w = {.kernel = "unpack", .call = call_unpack};
    for (size_t n = 0; n <= bulk; n = next_size(n)) {
        fill_bytes(&rng, bytes, n / 2 + n % 2);
        w.n = n;
        w.in[0] = (struct part){bytes, n / 2 + n % 2, 1};
        w.out[0] = (struct part){NULL, n, 1};
        check(&w, n < 5000 ? all_places(1) : 2);
    }
}

/* All pairs of codes and all bytes, packed by one set and unpacked by another, against what a nibble is. */
static void test_pack_unpack_pairs(void **state)
{
    (void)state;
    const struct qz_kernels *all[SETS_MOST];
    size_t count = 0;
    for (size_t i = 0; qz_kernel_list[i]; i++)
        if (qz_cpu_features(qz_kernel_list[i]->needs) == qz_kernel_list[i]->needs)
            all[count++] = qz_kernel_list[i];
    int8_t codes[512], back[512];
    uint8_t packed[256], every[256];
    for (int i = 0; i < 256; i++) {
        codes[2 * i] = (int8_t)((i & 15) < 8 ? (i & 15) : (i & 15) - 16);
        codes[2 * i + 1] = (int8_t)(i >> 4 < 8 ? i >> 4 : (i >> 4) - 16);
        every[i] = (uint8_t)i;
    }
    for (size_t a = 0; a < count; a++)
        for (size_t b = 0; b < count; b++) {
            assert_int_equal(all[a]->pack(codes, 512, packed), 0);
            assert_true(same_bytes("packed", packed, every, 256, 1));
            all[b]->unpack(packed, 512, back);
            assert_true(same_bytes("unpacked", back, codes, 512, 1));
        }
}

/* ---- through the public functions ---------------------------------------------------------------------------- */

/* Steps as quantize.c makes them: every set forced, every value where a code begins, and its neighbours. */
static void test_forced_sets(void **state)
{
    (void)state;
    const char *usual = qz_kernels();
    struct rng rng = rng_make(119);
    for (size_t repeat = 0; repeat < cases(3000, 50); repeat++) {
        struct qz_steps steps;
        float min, max;
        random_ends(&rng, &min, &max);
        qz_method method = repeat % 2 ? QZ_MINMAX : QZ_ABSMAX7;
        if (min == max)
            continue;
        size_t n = 2 + rng_below(&rng, 600);
        if (!make_steps(min, max, method, &steps)) /* then the scalar rule is used, for any set */
            for (int i = 0; i < 16; i++)
                steps.next[i] = (float)((i - 7.5 - steps.zero_point) * steps.scale);
        fill_between(&rng, &steps, min, max, floats_a, n);
        floats_a[0] = min;
        floats_a[n - 1] = max;
        for (size_t s = 0; s < set_count; s++) {
            assert_int_equal(QZ_OK, qz_kernels_use(sets[s]->name));
            double scale, zero_point;
            int8_t *codes = (int8_t *)bytes;
            assert_int_equal(QZ_OK,
                             CALL(qz_quantize_i4(floats_a, QZ_F32, n, method, codes, &scale, &zero_point, NULL, NULL)));
            assert_true(scale == steps.scale && zero_point == steps.zero_point);
            for (size_t i = 0; i < n; i++)
                if (codes[i] != ref_whole_code((double)floats_a[i], scale, zero_point))
                    fail_msg("%s: %a in %a..%a becomes %d", sets[s]->name, (double)floats_a[i], (double)min,
                             (double)max, codes[i]);
        }
    }
    assert_int_equal(QZ_OK, qz_kernels_use(usual));
}

int main(void)
{
    start_kernels("test_kernels_arrays");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range_f32),   cmocka_unit_test(test_range_f64),
        cmocka_unit_test(test_codes_f32),   cmocka_unit_test(test_codes_f64),
        cmocka_unit_test(test_decode),      cmocka_unit_test(test_pack),
        cmocka_unit_test(test_unpack),      cmocka_unit_test(test_pack_unpack_pairs),
        cmocka_unit_test(test_forced_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
