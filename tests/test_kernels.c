/*
 * test_kernels.c - every kernel of every set against scalar.c, bit for bit
 *
 * A kernel call is described once (struct work) and then made with each set in many places: next to the untouchable
 * pages on both sides, and at each distance from a cache line that its elements can have. QUANTIZE_KERNELS restricts
 * the run to one set; the scalar set itself is held against the plain rules here and in test_api.c.
 */
#include "support/program.h"

#include "support/cases.h"
#include "support/guard.h"
#include "support/reference.h"

#include "kernels.h"
#include "scheme.h"

/* ---- the harness --------------------------------------------------------------------------------------------- */

enum { MOST_IN = 4, MOST_OUT = 3, NEAR = 192, SETS_MOST = 8 };

static const struct qz_kernels *sets[SETS_MOST]; /* those to test */
static size_t set_count, bulk;                   /* elements of one large call */
static struct guard in_guards[MOST_IN], out_guards[MOST_OUT];
static uint8_t *wanted_out[MOST_OUT];

enum returned {
    RETURNS_NOTHING,
    RETURNS_NUMBER,
    RETURNS_BAD,        /* nonzero or not */
    RETURNS_BAD_OR_DATA /* the same; outputs mean nothing when it is nonzero */
};

struct part {
    const void *data; /* of an input; of an output that is added to, or NULL */
    size_t bytes, unit;
};

struct work {
    const char *kernel;
    uint64_t (*call)(const struct qz_kernels *set, const struct work *work, void *const *in, void *const *out);
    enum returned returned;
    int zero_signs_free; /* float outputs are equal if == says so */
    struct part in[MOST_IN], out[MOST_OUT];

    size_t n, group_size;
    ptrdiff_t stride, pitch; /* in elements; may be negative */
    struct qz_grid grid;
    struct qz_fit rule;
    const struct qz_steps *steps;
    struct qz_stored stored;
    qz_dtype dtype; /* stored_decode: of the values */
    const void *table;
    double scale, zero_point;
    float wanted;
};

/* Place number p of an array: even p at the upper page, odd p at the lower one; 0 and 1 touch it, others keep a
 * distance below 64 bytes that is a multiple of the element size. `salt` makes the arrays of a call move differently.
 */
static uint8_t *place(struct guard guard, struct part part, size_t p, size_t salt)
{
    size_t distance = p < 2 ? 0 : (p / 2 + salt) * part.unit % 64;
    return p % 2 ? guard.bytes + distance : guard.bytes + guard.size - distance - part.bytes;
}

/* Fills an array's neighbourhood, and the array, if it has contents. */
static void furnish(struct guard guard, uint8_t *at, struct part part, int filler)
{
    size_t start = (size_t)(at - guard.bytes), from = start < NEAR ? 0 : start - NEAR;
    size_t to = guard.size - start - part.bytes < NEAR ? guard.size : start + part.bytes + NEAR;
    memset(guard.bytes + from, filler, to - from);
    if (part.data)
        memcpy(at, part.data, part.bytes);
}

static int same_floats(const void *got, const void *wanted, size_t bytes, size_t unit)
{
    qz_dtype dtype = unit == 8 ? QZ_F64 : QZ_F32;
    for (size_t i = 0; i < bytes; i += unit)
        if (ref_load((const char *)got + i, dtype) != ref_load((const char *)wanted + i, dtype))
            return 0;
    return 1;
}

static void check(const struct work *work, size_t places)
{
    void *in[MOST_IN], *out[MOST_OUT];
    for (size_t i = 0; i < MOST_IN; i++)
        in[i] = (void *)(uintptr_t)work->in[i].data;
    for (size_t i = 0; i < MOST_OUT; i++) {
        out[i] = wanted_out[i];
        memset(wanted_out[i], CANARY, work->out[i].bytes);
        if (work->out[i].data)
            memcpy(wanted_out[i], work->out[i].data, work->out[i].bytes);
    }
    uint64_t wanted = work->call(&qz_kernels_scalar, work, in, out);
    if (work->returned >= RETURNS_BAD)
        wanted = wanted != 0;

    for (size_t s = 0; s < set_count; s++)
        for (size_t p = 0; p < places; p++) {
            snprintf(guard_doing, sizeof guard_doing, "%s %s, n = %zu, group size %zu, place %zu", sets[s]->name,
                     work->kernel, work->n, work->group_size, p);
            for (size_t i = 0; i < MOST_IN; i++)
                if (work->in[i].data) {
                    in[i] = place(in_guards[i], work->in[i], p, i + work->n * (2 * i + 1));
                    furnish(in_guards[i], in[i], work->in[i], 0xff); /* NaN, or no code */
                }
            for (size_t i = 0; i < MOST_OUT; i++)
                if (work->out[i].unit) {
                    out[i] = place(out_guards[i], work->out[i], p, p * (i + 1) + work->n);
                    furnish(out_guards[i], out[i], work->out[i], CANARY);
                }
            uint64_t got = work->call(sets[s], work, in, out);
            if (work->returned >= RETURNS_BAD)
                got = got != 0;
            if (got != wanted)
                fail_msg("%s: returned %llu, wanted %llu", guard_doing, (unsigned long long)got,
                         (unsigned long long)wanted);
            for (size_t i = 0; i < MOST_OUT; i++) {
                const struct part *part = &work->out[i];
                if (!part->unit)
                    continue;
                if (!guard_check_near(out_guards[i], out[i], part->bytes, NEAR))
                    fail_msg("%s: output %zu", guard_doing, i);
                if (work->returned == RETURNS_BAD_OR_DATA && wanted)
                    continue;
                if (work->zero_signs_free ? !same_floats(out[i], wanted_out[i], part->bytes, part->unit)
                                          : !same_bytes("output", out[i], wanted_out[i], part->bytes, part->unit))
                    fail_msg("%s: output %zu", guard_doing, i);
            }
        }
}

/* All places of elements of this size. */
static size_t all_places(size_t unit)
{
    return 2 * 64 / unit;
}

/* Lengths: all up to 260, some more up to `most`. */
static size_t next_length(size_t n)
{
    size_t step = short_mode ? 7 : 1;
    return n < 70 ? n + 1 : n < 260 ? n + step : n + n / 3 + 1;
}

/* The same, then ten times about `bulk`. */
static size_t next_size(size_t n)
{
    return n < 5000 ? next_length(n) : n < bulk - 9 ? bulk - 9 : n + 1;
}

/* ---- how each kernel is called ------------------------------------------------------------------------------- */

#define CALLER(name)                                                                                                   \
    static uint64_t call_##name(const struct qz_kernels *set, const struct work *w, void *const *in, void *const *out)

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

CALLER(byte_scales)
{
    set->byte_scales(w->rule.scale_dtype, in[0], w->n, in[1], w->group_size, (float)w->scale, out[0], out[1]);
    return 0;
}

CALLER(f32_from_f64)
{
    return (uint64_t)set->f32_from_f64(in[0], w->n, out[0]);
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

CALLER(stream)
{
    set->stream(out[0], in[0], w->n);
    set->stream_end();
    return 0;
}

CALLER(group_range)
{
    return (uint64_t)set->group_range(in[0], w->n, w->group_size, out[0], out[1]);
}

CALLER(fit)
{
    return set->fit(&w->rule, w->n, in[0], in[1], out[0], out[1], out[2]);
}

CALLER(group_codes)
{
    return set->group_codes(in[0], w->n, w->group_size, &w->grid, in[1], in[2], out[0]);
}

CALLER(group_decode)
{
    set->group_decode(in[0], w->n, w->group_size, &w->grid, in[1], in[2], out[0]);
    return 0;
}

CALLER(stored_decode)
{
    struct qz_stored stored = w->stored;
    stored.scale = in[1];
    stored.zero = in[2];
    stored.super = in[3];
    stored.super_zero = in[3] ? (const float *)in[3] + w->in[3].bytes / 8 : NULL;
    return (uint64_t)set->stored_decode(in[0], w->n, w->group_size, &w->grid, &stored, w->dtype, out[0]);
}

CALLER(error)
{
    set->error(in[0], in[1], w->n, out[0]);
    return 0;
}

CALLER(group_codes_error)
{
    return set->group_codes_error(in[0], w->n, w->group_size, &w->grid, in[1], in[2], in[3], out[0], out[1]);
}

/* The first of `count` lines, `stride` apart, in memory that begins with the last one if that is negative. */
static ptrdiff_t first_line(ptrdiff_t stride, size_t count)
{
    return stride < 0 ? -stride * (ptrdiff_t)(count - 1) : 0;
}

/* Fetching has no effect that could be seen, wherever it leads. */
static struct qz_ahead some_lines(const float *x, const struct work *w)
{
    size_t line = w->n * sizeof *x;
    return (struct qz_ahead){(uintptr_t)x, line, line, 1, w->group_size, (uintptr_t)w->stride * sizeof *x, 0};
}

CALLER(columns_range)
{
    const float *x = (const float *)in[0] + first_line(w->stride, w->group_size);
    struct qz_ahead ahead = some_lines(x, w);
    return (uint64_t)set->columns_range(x, w->stride, w->group_size, w->n, out[0], out[1], out[2], &ahead);
}

CALLER(columns_codes)
{
    struct qz_ahead ahead = some_lines(in[0], w);
    return set->columns_codes(in[0], w->group_size, w->n, &w->grid, in[1], in[2],
                              (uint8_t *)out[0] + first_line(w->pitch, w->n), w->pitch, &ahead);
}

CALLER(columns_decode)
{
    set->columns_decode((const uint8_t *)in[0] + first_line(w->pitch, w->n), w->pitch, w->group_size, w->n, &w->grid,
                        in[1], in[2], (float *)out[0] + first_line(w->stride, w->group_size), w->stride);
    return 0;
}

CALLER(find_error)
{
    (void)out;
    return set->find_error(in[0], in[1], w->n, w->wanted);
}

CALLER(weighted_error)
{
    *(double *)out[0] = set->weighted_error(in[0], in[1], in[2], w->n);
    return 0;
}

/* ---- data ---------------------------------------------------------------------------------------------------- */

static float *floats_a, *floats_b; /* room for `bulk` elements each */
static double *doubles;
static uint8_t *bytes;

static void fill_bytes(struct rng *rng, void *to, size_t n)
{
    uint8_t *at = to;
    for (size_t i = 0; i < n; i++)
        at[i] = (uint8_t)(rng_next(rng) >> 56);
}

static void fill_codes(struct rng *rng, int8_t *codes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        codes[i] = (int8_t)((int)(rng_next(rng) >> 60) - 8);
}

/* As fill_floats, but with the digits and, for "any bits", the exponents of doubles. */
static void fill_doubles(struct rng *rng, enum data_kind kind, double *x, size_t n)
{
    for (size_t i = 0; i < n; i += 4096) {
        float part[4096];
        size_t count = n - i < 4096 ? n - i : 4096;
        fill_floats(rng, kind, part, count);
        for (size_t k = 0; k < count; k++) {
            uint64_t bits = rng_next(rng);
            x[i + k] = (double)part[k];
            if (kind == DATA_BITS && (bits >> 52 & 0x7ff) != 0x7ff)
                memcpy(&x[i + k], &bits, sizeof bits);
            else if (kind == DATA_NORMAL || kind == DATA_HUGE)
                x[i + k] *= 1.0 + (double)(bits % 4096) * 0x1p-45;
        }
    }
}

/* ---- whole arrays -------------------------------------------------------------------------------------------- */

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
    steps->exact = steps->scale >= 0x1p-100 && steps->scale <= 0x1p100;
    if (min == max || !steps->exact)
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
        if ((qz_kernel_list[i]->needs & ~qz_cpu_features()) == 0)
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

/* ---- conversions --------------------------------------------------------------------------------------------- */

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

/* A scale's byte as the formats define it. */
static double number_of_byte(qz_dtype dtype, unsigned byte)
{
    int8_t integer = (int8_t)byte;
    switch (dtype) {
    case QZ_E4M3: {
        int exponent = (int)(byte >> 3 & 15), mantissa = (int)(byte & 7);
        double magnitude = exponent ? ldexp(8 + mantissa, exponent - 10) : ldexp(mantissa, -9);
        return (byte & 0x7f) == 0x7f ? NAN : byte & 0x80 ? -magnitude : magnitude;
    }
    case QZ_E8M0:
        return byte == 255 ? NAN : ldexp(1.0, (int)byte - 127);
    case QZ_I7:
        return floor(integer / 2.0);
    default:
        return integer;
    }
}

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
            double number = number_of_byte(dtypes[t], (unsigned)i) * (double)floats_b[i];
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

/* ---- moves --------------------------------------------------------------------------------------------------- */

static void test_stream(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(110);
    struct work w = {.kernel = "stream", .call = call_stream};
    for (size_t n = 0; n <= bulk; n = next_size(n)) {
        fill_bytes(&rng, bytes, n);
        w.n = n;
        w.in[0] = (struct part){bytes, n, 1};
        w.out[0] = (struct part){NULL, n, 1};
        check(&w, n < 5000 ? all_places(1) : 4);
    }
}

/* Strides may be larger than rows, negative, or (of the source) 0. Everything around and between must stay. */
static void transpose_case(struct rng *rng, size_t rows, size_t cols, ptrdiff_t src_stride, ptrdiff_t dst_stride,
                           size_t p)
{
    size_t src_step = (size_t)(src_stride < 0 ? -src_stride : src_stride), src_length = (cols - 1) * src_step + rows;
    size_t dst_step = (size_t)(dst_stride < 0 ? -dst_stride : dst_stride), dst_length = (rows - 1) * dst_step + cols;
    struct part in = {floats_a, src_length * 4, 4}, out = {NULL, dst_length * 4, 4};
    fill_floats(rng, DATA_BITS, floats_a, src_length);
    uint8_t *src = place(in_guards[0], in, p, rows), *dst = place(out_guards[0], out, p, cols);
    furnish(in_guards[0], src, in, 0xff);
    ptrdiff_t src_start = src_stride < 0 ? (ptrdiff_t)(src_length - rows) : 0;
    ptrdiff_t dst_start = dst_stride < 0 ? (ptrdiff_t)(dst_length - cols) : 0;
    float *wanted = floats_b;
    memset(wanted, CANARY, dst_length * 4);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            wanted[dst_start + (ptrdiff_t)r * dst_stride + (ptrdiff_t)c] =
                floats_a[src_start + (ptrdiff_t)c * src_stride + (ptrdiff_t)r];
    for (size_t s = 0; s < set_count; s++) {
        snprintf(guard_doing, sizeof guard_doing, "%s transpose, %zu x %zu, strides %td, %td, place %zu", sets[s]->name,
                 rows, cols, src_stride, dst_stride, p);
        furnish(out_guards[0], dst, out, CANARY);
        sets[s]->transpose((const float *)(const void *)src + src_start, src_stride, rows, cols,
                           (float *)(void *)dst + dst_start, dst_stride);
        if (!same_bytes("transposed", dst, wanted, out.bytes, 4) ||
            !guard_check_near(out_guards[0], dst, out.bytes, NEAR))
            fail_msg("%s", guard_doing);
    }
}

static void test_transpose(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(111);
    size_t most = short_mode ? 19 : 40;
    for (size_t rows = 1; rows <= most; rows++)
        for (size_t cols = 1; cols <= most; cols++) {
            ptrdiff_t r = (ptrdiff_t)rows, c = (ptrdiff_t)cols;
            for (size_t p = 0; p < 6; p++) {
                transpose_case(&rng, rows, cols, r, c, p);
                transpose_case(&rng, rows, cols, r + (ptrdiff_t)p, c + (ptrdiff_t)rng_below(&rng, 20), p);
            }
            transpose_case(&rng, rows, cols, -r, c, rng_below(&rng, 8));
            transpose_case(&rng, rows, cols, -r - 5, -c - 3, rng_below(&rng, 8));
            transpose_case(&rng, rows, cols, 0, c, rng_below(&rng, 8));
        }
    for (size_t repeat = 0; repeat < cases(3000, 30); repeat++) {
        size_t rows = 1 + rng_below(&rng, 300), cols = 1 + rng_below(&rng, QZ_TILE / rows);
        transpose_case(&rng, rows, cols, (ptrdiff_t)(rows + rng_below(&rng, 70)),
                       (ptrdiff_t)(cols + rng_below(&rng, 70)), rng_below(&rng, 32));
    }
}

/* ---- groups -------------------------------------------------------------------------------------------------- */

enum { GROUPS_MOST = 512 }; /* what the drivers pass at most */

static const size_t group_sizes[] = {1,  2,  3,  4,  5,  7,  8,   9,   12,  15,  16,  17,  31,  32,  33,   40,   47,
                                     48, 63, 64, 65, 96, 99, 100, 112, 127, 128, 129, 160, 255, 256, 1000, 2048, 4096};

static size_t groups_of(size_t n, size_t group_size)
{
    return (n - 1) / group_size + 1;
}

/* The next n to try with a group size: all up to a little more than four groups (or 300), then around whole numbers of
 * groups, up to what the drivers pass. 0 after the last one. */
static size_t next_group_length(size_t n, size_t group_size)
{
    size_t four = 4 * group_size + 1, most = GROUPS_MOST * group_size < QZ_TILE ? GROUPS_MOST * group_size : QZ_TILE;
    if (n >= most)
        return 0;
    size_t next = n + 1;
    if (n >= (short_mode ? 40 : 300) && n < four)
        next = n + (short_mode ? 173 : 29);
    else if (n >= four) /* k * group_size + (-1, 0, 1) */
        next = n % group_size == 1 || group_size == 1
                   ? n + group_size * (short_mode ? 13 : 5) - (group_size > 2 ? 2 : 0)
                   : n + 1;
    return next < most ? next : most;
}

/* The places that are tried for a length: all for some lengths, the two at the pages for the rest. */
static size_t group_places(size_t n)
{
    return n % 16 == 3 && n < 300 ? all_places(4) : 4;
}

static void test_group_range(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(112);
    struct work w = {
        .kernel = "group_range", .call = call_group_range, .returned = RETURNS_BAD_OR_DATA, .zero_signs_free = 1};
    for (size_t s = 0; s < COUNT(group_sizes); s++)
        for (size_t n = 1; n; n = next_group_length(n, group_sizes[s])) {
            size_t groups = groups_of(n, group_sizes[s]);
            fill_floats(&rng, (enum data_kind)rng_below(&rng, DATA_KINDS), floats_a, n);
            w.n = n;
            w.group_size = group_sizes[s];
            w.in[0] = (struct part){floats_a, n * 4, 4};
            w.out[0] = w.out[1] = (struct part){NULL, groups * 4, 4};
            check(&w, group_places(n));
            static const float bad[] = {NAN, INFINITY, -INFINITY};
            for (size_t i = 0; i < n; i += n <= 70 ? 1 : 1 + rng_below(&rng, n / 4)) {
                float kept = floats_a[i];
                floats_a[i] = bad[(i + n) % 3];
                check(&w, 1);
                floats_a[i] = kept;
            }
        }
    for (size_t repeat = 0; repeat < cases(3000, 100); repeat++) {
        fill_floats(&rng, (enum data_kind)(repeat % DATA_KINDS), floats_a, QZ_TILE);
        w.group_size = 8 + rng_below(&rng, rng_below(&rng, 2) ? 100 : 600);
        if (rng_below(&rng, 2))
            w.group_size = w.group_size / 16 * 16 + 16;
        w.n = QZ_TILE - rng_below(&rng, 40);
        for (size_t i = 0, sign = 0; i < w.n && repeat % 2; i++) { /* groups of a single sign among others */
            if (i % w.group_size == 0)
                sign = rng_below(&rng, 3);
            floats_a[i] = sign == 0 ? floats_a[i] : sign == 1 ? fabsf(floats_a[i]) : -fabsf(floats_a[i]);
        }
        w.in[0] = (struct part){floats_a, w.n * 4, 4};
        w.out[0] = w.out[1] = (struct part){NULL, groups_of(w.n, w.group_size) * 4, 4};
        check(&w, 1);
    }
}

static struct qz_grid grid_kind(size_t i)
{
    qz_method method;
    qz_scheme scheme = scheme_kind(i, 1, &method);
    return qz_scheme_grid(&scheme, method);
}

static struct qz_fit rule_kind(size_t i)
{
    qz_method method;
    qz_scheme scheme = scheme_kind(i, 1, &method);
    struct qz_grid grid = qz_scheme_grid(&scheme, method);
    return qz_scheme_fit(&scheme, method, &grid);
}

/* Ranges of groups: two numbers of a kind, in order, or +-m. */
static void fill_ranges(struct rng *rng, enum data_kind kind, float *min, float *max, size_t n)
{
    fill_floats(rng, kind, min, n);
    fill_floats(rng, kind, max, n);
    for (size_t i = 0; i < n; i++) {
        if (rng_below(rng, 8) == 0)
            max[i] = -min[i];
        if (rng_below(rng, 16) == 0)
            max[i] = min[i];
        if (rng_below(rng, 16) == 0)
            (rng_below(rng, 2) ? min : max)[i] = rng_below(rng, 2) ? 0.0f : -0.0f;
        if (min[i] > max[i]) {
            float swap = min[i];
            min[i] = max[i];
            max[i] = swap;
        }
    }
}

static void test_fit(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(113);
    struct work w = {.kernel = "fit", .call = call_fit, .returned = RETURNS_NUMBER};
    for (size_t kind = 0; kind < SCHEME_KINDS; kind++) {
        w.rule = rule_kind(kind);
        for (size_t n = 1; n <= GROUPS_MOST; n = n < 70 ? n + 1 : n + (short_mode ? 97 : 13)) {
            w.n = n;
            w.in[0] = (struct part){floats_a, n * 4, 4};
            w.in[1] = (struct part){floats_b, n * 4, 4};
            w.out[0] = w.out[1] = w.out[2] = (struct part){NULL, n * 4, 4};
            /* Only all of one kind keep the flags apart. */
            for (int data = 0; data < DATA_KINDS; data++) {
                fill_ranges(&rng, (enum data_kind)data, floats_a, floats_b, n);
                check(&w, data == (int)n % DATA_KINDS ? all_places(4) : 2);
            }
        }
        /* One group alone raises each flag, whichever lane it is in. */
        for (size_t n = 1; n <= 40; n++)
            for (size_t i = 0; i < n; i++)
                for (int flag = 0; flag < 4; flag++) {
                    static const float low[] = {-2, 0, -FLT_MAX, 3e38f}, high[] = {2, 1e-39f, 1e38f, FLT_MAX};
                    for (size_t k = 0; k < n; k++) {
                        floats_a[k] = -1 - (float)k;
                        floats_b[k] = 1.5f + 2 * (float)k;
                    }
                    floats_a[i] = low[flag];
                    floats_b[i] = high[flag];
                    w.n = n;
                    w.in[0] = (struct part){floats_a, n * 4, 4};
                    w.in[1] = (struct part){floats_b, n * 4, 4};
                    w.out[0] = w.out[1] = w.out[2] = (struct part){NULL, n * 4, 4};
                    check(&w, 1);
                }
        for (size_t repeat = 0; repeat < cases(1700, 20); repeat++) {
            w.n = GROUPS_MOST;
            w.in[0] = (struct part){floats_a, GROUPS_MOST * 4, 4};
            w.in[1] = (struct part){floats_b, GROUPS_MOST * 4, 4};
            w.out[0] = w.out[1] = w.out[2] = (struct part){NULL, GROUPS_MOST * 4, 4};
            fill_ranges(&rng, (enum data_kind)(repeat % DATA_KINDS), floats_a, floats_b, GROUPS_MOST);
            check(&w, 1);
        }
    }
}

/* Groups that the drivers could hand to group_codes and group_decode. */
struct tile {
    float x[QZ_TILE], min[QZ_TILE], max[QZ_TILE], scale[QZ_TILE], inverse[QZ_TILE], zero[QZ_TILE];
    uint8_t packed[QZ_TILE / 2];
};

/* Data fitted as the drivers do it: what needs the exact rule has become 0. */
static void fitted_tile(struct rng *rng, struct tile *tile, size_t kind, size_t n, size_t group_size)
{
    struct qz_fit rule = rule_kind(kind);
    fill_floats(rng, (enum data_kind)rng_below(rng, DATA_KINDS), tile->x, n);
    qz_kernels_scalar.group_range(tile->x, n, group_size, tile->min, tile->max);
    qz_kernels_scalar.fit(&rule, groups_of(n, group_size), tile->min, tile->max, tile->scale, tile->inverse,
                          tile->zero);
    for (size_t i = 0; i < n; i++) {
        size_t g = i / group_size;
        if (rule.zero == QZ_ZERO_NONE)
            tile->zero[g] = 0.0f;
        if (tile->inverse[g] == 0.0f)
            tile->x[i] = 0.0f;
        if (isinf(tile->scale[g]) || isinf(tile->zero[g]))
            tile->scale[g] = tile->zero[g] = 0.0f;
    }
}

/* Scales made up, and values at and around the thresholds between codes, inside and outside of the range. */
static void threshold_tile(struct rng *rng, struct tile *tile, size_t kind, size_t n, size_t group_size)
{
    struct qz_fit rule = rule_kind(kind);
    for (size_t i = 0; i < n; i++) {
        size_t g = i / group_size;
        if (i % group_size == 0) {
            tile->scale[g] = rng_below(rng, 2) ? power_of_two((int)rng_below(rng, 60) - 30) : rng_normal(rng) + 7.0f;
            if (rng_below(rng, 2))
                tile->scale[g] = -tile->scale[g];
            tile->inverse[g] = 1.0f / tile->scale[g];
            tile->zero[g] = rule.zero == QZ_ZERO_UINT4    ? (float)rng_below(rng, 16)
                            : rule.zero == QZ_ZERO_OFFSET ? rng_normal(rng) * tile->scale[g]
                                                          : 0.0f;
        }
        float steps = (float)((int)rng_below(rng, 80) - 40) * 0.5f;
        if (rng_below(rng, 64) == 0)
            steps *= 10000;
        float x = steps * tile->scale[g] + (rule.zero == QZ_ZERO_OFFSET ? tile->zero[g] : 0.0f);
        tile->x[i] = x == 0 ? x : float_of_bits(bits_of_float(x) + (uint32_t)rng_below(rng, 3) - 1);
    }
}

static void codes_work(struct work *w, const struct tile *tile, size_t kind, size_t n, size_t group_size)
{
    w->grid = grid_kind(kind);
    w->n = n;
    w->group_size = group_size;
    w->in[0] = (struct part){tile->x, n * 4, 4};
    w->in[1] = (struct part){tile->inverse, groups_of(n, group_size) * 4, 4};
    w->in[2] = (struct part){tile->zero, groups_of(n, group_size) * 4, 4};
    w->out[0] = (struct part){NULL, n / 2 + n % 2, 1};
}

static void test_group_codes(void **state)
{
    (void)state;
    guard_report_faults();
    static struct tile tile;
    struct rng rng = rng_make(114);
    struct work w = {.kernel = "group_codes", .call = call_group_codes, .returned = RETURNS_NUMBER};
    for (size_t kind = 0; kind < 4; kind++) /* the scale's type is not this kernel's business */
        for (size_t s = 0; s < COUNT(group_sizes); s++)
            for (size_t n = 1; n; n = next_group_length(n, group_sizes[s])) {
                (n % 2 ? fitted_tile : threshold_tile)(&rng, &tile, kind, n, group_sizes[s]);
                codes_work(&w, &tile, kind, n, group_sizes[s]);
                check(&w, n % 16 == 3 && n < 300 ? all_places(1) : 4);
            }
    for (size_t repeat = 0; repeat < cases(3000, 60); repeat++) {
        size_t group_size = rng_below(&rng, 2) ? 8u << rng_below(&rng, 8) : 8 + rng_below(&rng, 500);
        size_t n = rng_below(&rng, 2) ? QZ_TILE : 1 + rng_below(&rng, QZ_TILE), kind = repeat % SCHEME_KINDS;
        (rng_below(&rng, 2) ? fitted_tile : threshold_tile)(&rng, &tile, kind, n, group_size);
        codes_work(&w, &tile, kind, n, group_size);
        check(&w, 1);
    }
}

/* Any codes with any finite scales. */
static void decode_tile(struct rng *rng, struct tile *tile, size_t kind, size_t n, size_t group_size)
{
    size_t groups = groups_of(n, group_size);
    enum data_kind data = (enum data_kind)rng_below(rng, DATA_KINDS);
    fill_bytes(rng, tile->packed, n / 2 + n % 2);
    fill_floats(rng, data, tile->scale, groups);
    fill_floats(rng, data, tile->zero, groups);
    if (rule_kind(kind).zero == QZ_ZERO_UINT4)
        for (size_t g = 0; g < groups; g++)
            tile->zero[g] = (float)rng_below(rng, 16);
}

static void decode_work(struct work *w, const struct tile *tile, size_t kind, size_t n, size_t group_size)
{
    w->grid = grid_kind(kind);
    w->n = n;
    w->group_size = group_size;
    w->in[0] = (struct part){tile->packed, n / 2 + n % 2, 1};
    w->in[1] = (struct part){tile->scale, groups_of(n, group_size) * 4, 4};
    w->in[2] = (struct part){tile->zero, groups_of(n, group_size) * 4, 4};
    w->out[0] = (struct part){NULL, n * 4, 4};
}

static void test_group_decode(void **state)
{
    (void)state;
    guard_report_faults();
    static struct tile tile;
    struct rng rng = rng_make(115);
    struct work w = {.kernel = "group_decode", .call = call_group_decode};
    for (size_t kind = 0; kind < 4; kind++)
        for (size_t s = 0; s < COUNT(group_sizes); s++)
            for (size_t n = 1; n; n = next_group_length(n, group_sizes[s])) {
                decode_tile(&rng, &tile, kind, n, group_sizes[s]);
                decode_work(&w, &tile, kind, n, group_sizes[s]);
                check(&w, n % 16 == 3 && n < 300 ? all_places(1) : 4);
            }
    for (size_t repeat = 0; repeat < cases(3000, 60); repeat++) {
        size_t group_size = rng_below(&rng, 2) ? 8u << rng_below(&rng, 8) : 8 + rng_below(&rng, 500);
        size_t n = rng_below(&rng, 2) ? QZ_TILE : 1 + rng_below(&rng, QZ_TILE), kind = repeat % SCHEME_KINDS;
        decode_tile(&rng, &tile, kind, n, group_size);
        decode_work(&w, &tile, kind, n, group_size);
        check(&w, 1);
    }
}

/* Numbers of a stored type, none of them NaN or infinite; now and then the ends of its range. */
static void fill_stored(struct rng *rng, qz_dtype dtype, uint8_t *to, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float x = rng_normal(rng) * power_of_two((int)rng_below(rng, 20) - 10);
        uint16_t half = dtype == QZ_F32 || dtype > QZ_BF16 ? 0 : ref_half_bits(ref_round((double)x, dtype), dtype);
        uint8_t byte = (uint8_t)rng_below(rng, 256);
        if (rng_below(rng, 8) == 0)
            byte = (uint8_t)(rng_below(rng, 3) + 255); /* 255, 0, 1 */
        if ((dtype == QZ_E4M3 && (byte & 0x7f) == 0x7f) || (dtype == QZ_E8M0 && byte == 255))
            byte--;
        if (dtype == QZ_F32)
            memcpy(to + 4 * i, &x, 4);
        else if (dtype == QZ_F16 || dtype == QZ_BF16)
            memcpy(to + 2 * i, &half, 2);
        else
            to[i] = byte;
    }
}

/* Checks the scalar stored_decode by float32 values, and by the numbers of narrow types that are nearest to them. */
static void check_stored_scalar(struct work *w, const uint8_t *const numbers[3], const float *super,
                                const float *wanted)
{
    static const qz_dtype dtypes[] = {QZ_F32, QZ_F16, QZ_BF16};
    size_t n = w->n * w->group_size;
    void *in[4], *out[] = {floats_a};
    memcpy(in, numbers, 3 * sizeof *in);
    memcpy(&in[3], &super, sizeof super);
    for (size_t t = 0; t < COUNT(dtypes); t++) {
        w->dtype = dtypes[t];
        int beyond = w->call(&qz_kernels_scalar, w, in, out) != 0, found = 0;
        if (t == 0)
            assert_memory_equal(floats_a, wanted, n * 4);
        for (size_t i = 0; i < n && t > 0; i++) {
            double value = ref_round((double)wanted[i], dtypes[t]);
            found |= isinf(value);
            if (!beyond)
                assert_true(ref_load((const uint16_t *)(const void *)floats_a + i, dtypes[t]) == value);
        }
        assert_true(beyond >= found); /* also where the code that would be too large is not used */
    }
}

/* Checks stored_decode for some groups; and the scalar set, by group_decode with what single groups' numbers are. */
static void check_stored(struct rng *rng, struct work *w, qz_dtype dtype, size_t groups, size_t group_size)
{
    static uint8_t packed[QZ_TILE * 8], scale[QZ_TILE], zero[QZ_TILE];
    static float super[QZ_TILE], wanted[QZ_TILE * 16];
    static const size_t shared[] = {1, 2, 5, 8, 12, 16, 24, 48, SIZE_MAX};
    size_t each = shared[rng_below(rng, COUNT(shared))], size = qz_dtype_size(dtype), supers = groups + 1;
    size_t first = each == SIZE_MAX ? SIZE_MAX : rng_below(rng, 2) ? each : 1 + rng_below(rng, each);
    int nibbles = w->grid.zero == QZ_ZERO_UINT4;
    w->n = groups;
    w->group_size = group_size;
    w->stored = (struct qz_stored){.dtype = dtype, .first = first, .each = each};
    fill_bytes(rng, packed, groups * group_size / 2);
    fill_stored(rng, dtype, scale, groups);
    fill_stored(rng, nibbles ? QZ_U6 : dtype, zero, groups);
    fill_floats(rng, DATA_NORMAL, super, 2 * supers);
    w->in[0] = (struct part){packed, groups * group_size / 2, 1};
    w->in[1] = (struct part){scale, groups * size, size};
    w->in[2] = (struct part){zero, nibbles ? (groups + 1) / 2 : groups * size, nibbles ? 1 : size};
    if (w->grid.zero == QZ_ZERO_NONE || dtype == QZ_I7)
        w->in[2] = (struct part){NULL, 0, 0};
    size_t used = each == SIZE_MAX || groups <= first ? 1 : 1 + (groups - first + each - 1) / each;
    w->in[3] = (struct part){NULL, 0, 0};
    if (dtype > QZ_BF16) { /* those of scales, then those of offsets: no more of either than are needed */
        memmove(super + used, super + supers, used * sizeof *super);
        w->in[3] = (struct part){super, 2 * used * 4, 4};
    }
    static const qz_dtype dtypes[] = {QZ_F32, QZ_F16, QZ_BF16};
    for (size_t t = 0; t < COUNT(dtypes); t++) {
        size_t unit = qz_dtype_size(dtypes[t]);
        w->dtype = dtypes[t];
        w->out[0] = (struct part){NULL, groups * group_size * unit, unit};
        check(w, 4);
    }

    const uint8_t *numbers[] = {packed, scale, zero};
    for (size_t g = 0; g < groups; g++) {
        float s = 0.0f, z = 0.0f, unused;
        size_t k = g < first ? 0 : 1 + (g - first) / each;
        const uint8_t *number = scale + g * size, *other = zero + g * size;
        if (dtype > QZ_BF16)
            qz_kernels_scalar.byte_scales(dtype, number, 1, super + k, 1, w->grid.shift, &s, &z);
        else
            s = (float)ref_load(number, dtype);
        if (nibbles)
            z = (float)(zero[g / 2] >> (g % 2 * 4) & 15);
        else if (dtype == QZ_U6)
            qz_kernels_scalar.byte_scales(dtype, other, 1, super + used + k, 1, 0.0f, &z, &unused);
        else if (w->grid.zero != QZ_ZERO_NONE && dtype <= QZ_BF16)
            z = (float)ref_load(other, dtype);
        qz_kernels_scalar.group_decode(packed + g * group_size / 2, group_size, group_size, &w->grid, &s, &z,
                                       wanted + g * group_size);
    }
    check_stored_scalar(w, numbers, super, wanted);
}

static void test_stored_decode(void **state)
{
    (void)state;
    guard_report_faults();
    static const qz_dtype plain[] = {QZ_F32, QZ_F16, QZ_BF16};
    static const char *const named[] = {"nvfp4", "mxfp4", "iq4_xs", "q4_k", "dual4"};
    static const size_t sizes[] = {16, 32, 48, 64, 80, 128, 256};
    struct rng rng = rng_make(132);
    struct work w = {.kernel = "stored_decode", .call = call_stored_decode, .returned = RETURNS_BAD_OR_DATA};
    for (size_t s = 0; s < COUNT(sizes); s++)
        for (size_t groups = 1; groups * sizes[s] <= QZ_TILE; groups = next_length(groups)) {
            for (size_t kind = 0; kind < SCHEME_KINDS; kind++) {
                w.grid = grid_kind(kind);
                check_stored(&rng, &w, plain[(kind + groups) % COUNT(plain)], groups, sizes[s]);
            }
            for (size_t i = 0; i < COUNT(named); i++) {
                const qz_scheme *scheme = qz_scheme_by_name(named[i]);
                memset(&w.grid, 0, sizeof w.grid);
                qz_scheme_values(scheme, &w.grid);
                check_stored(&rng, &w, scheme->scale_dtype, groups, sizes[s]);
            }
        }
}

/* Sums that are not 0 at the start. */
static struct qz_sums some_sums(struct rng *rng)
{
    struct qz_sums sums;
    for (size_t lane = 0; lane < QZ_SUMS_LANES; lane++) {
        sums.signal[lane] = fabsf(rng_normal(rng));
        sums.error[lane] = fabsf(rng_normal(rng)) * 0x1p-10f;
    }
    sums.max_error = rng_below(rng, 2) ? 0.0f : fabsf(rng_normal(rng)) * 0.1f;
    return sums;
}

/* y: what x might decode to. */
static void fill_pair(struct rng *rng, enum data_kind kind, float *x, float *y, size_t n)
{
    fill_floats(rng, kind, x, n);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = bits_of_float(x[i]);
        y[i] = rng_below(rng, 8) ? float_of_bits(bits ^ ((uint32_t)rng_next(rng) & 0xfffff)) : x[i];
    }
}

static void test_error(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(116);
    struct work w = {.kernel = "error", .call = call_error};
    for (size_t repeat = 0, n = 0; repeat < cases(6000, 400);
         repeat++, n = n < 260 ? n + 1 : 1 + rng_below(&rng, QZ_TILE)) {
        struct qz_sums sums = some_sums(&rng);
        fill_pair(&rng, (enum data_kind)rng_below(&rng, DATA_KINDS), floats_a, floats_b, n);
        w.n = n;
        w.in[0] = (struct part){floats_a, n * 4, 4};
        w.in[1] = (struct part){floats_b, n * 4, 4};
        w.out[0] = (struct part){&sums, sizeof sums, 4};
        check(&w, n <= 260 ? all_places(4) : 1);
    }
}

static void test_group_codes_error(void **state)
{
    (void)state;
    guard_report_faults();
    static struct tile tile;
    struct rng rng = rng_make(117);
    struct work w = {.kernel = "group_codes_error", .call = call_group_codes_error, .returned = RETURNS_NUMBER};
    struct qz_sums sums;
    for (size_t kind = 0; kind < SCHEME_KINDS; kind++)
        for (size_t s = 0; s < COUNT(group_sizes); s++)
            for (size_t n = 1; n; n = next_group_length(n, group_sizes[s])) {
                (n % 2 ? fitted_tile : threshold_tile)(&rng, &tile, kind, n, group_sizes[s]);
                codes_work(&w, &tile, kind, n, group_sizes[s]);
                sums = some_sums(&rng);
                w.in[3] = w.in[2];
                w.in[2] = w.in[1];
                w.in[1] = (struct part){tile.scale, groups_of(n, group_sizes[s]) * 4, 4};
                w.out[1] = (struct part){&sums, sizeof sums, 4};
                check(&w, kind < 4 ? group_places(n) : 2);
            }
}

/* Elements from the first to the last of `count` lines of `length`. */
static size_t spread(ptrdiff_t stride, size_t count, size_t length)
{
    return (size_t)(stride < 0 ? -stride : stride) * (count - 1) + length;
}

/* A shape for columns_ kernels: any width that fits, lines with gaps or without, in either direction. */
static void columns_shape(struct rng *rng, struct work *w, size_t repeat)
{
    w->group_size = 32 * (repeat % 3 ? 1 + rng_below(rng, repeat % 3 == 1 ? 2 : QZ_COLUMN_MOST / 32) : 1);
    size_t most = 2 * QZ_TILE / w->group_size / 16;
    w->n = 16 * (1 + rng_below(rng, most < 16 ? most : 16));
    w->stride = (ptrdiff_t)(w->n + (rng_below(rng, 2) ? rng_below(rng, 50) : 0));
    w->pitch = (ptrdiff_t)(w->group_size / 2 + (rng_below(rng, 2) ? rng_below(rng, 50) : 0));
    if (rng_below(rng, 4) == 0)
        w->stride = -w->stride;
    if (rng_below(rng, 4) == 0)
        w->pitch = -w->pitch;
}

static void test_columns_range(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(119);
    struct work w = {
        .kernel = "columns_range", .call = call_columns_range, .returned = RETURNS_BAD_OR_DATA, .zero_signs_free = 1};
    for (size_t repeat = 0; repeat < cases(1500, 60); repeat++) {
        columns_shape(&rng, &w, repeat);
        size_t n = spread(w.stride, w.group_size, w.n);
        fill_floats(&rng, (enum data_kind)(repeat % DATA_KINDS), floats_a, n);
        w.in[0] = (struct part){floats_a, n * 4, 4};
        w.out[0] = (struct part){NULL, w.group_size * w.n * 4, 4};
        w.out[1] = w.out[2] = (struct part){NULL, w.n * 4, 4};
        check(&w, repeat % 8 ? 4 : all_places(4));
        for (size_t s = 0; s < set_count && w.stride == (ptrdiff_t)w.n; s++) { /* in place */
            float min[QZ_TILE], max[QZ_TILE];
            memcpy(floats_b, floats_a, n * 4);
            struct qz_ahead ahead = some_lines(floats_b, &w);
            sets[s]->columns_range(floats_b, w.stride, w.group_size, w.n, floats_b, min, max, &ahead);
            assert_true(same_bytes("values", floats_b, floats_a, n * 4, 4));
            for (size_t i = 0; i < w.n; i++)
                for (size_t k = 0; k < w.group_size; k++)
                    assert_true(floats_a[k * w.n + i] >= min[i] && floats_a[k * w.n + i] <= max[i]);
        }
        static const float bad[] = {NAN, INFINITY, -INFINITY};
        size_t column = rng_below(&rng, w.n), line = rng_below(&rng, w.group_size);
        floats_a[line * (size_t)(w.stride < 0 ? -w.stride : w.stride) + column] = bad[repeat % 3];
        check(&w, 1);
    }
}

/* Columns of groups as the drivers hand them on: turned from groups one after another. */
static void test_columns_codes(void **state)
{
    (void)state;
    guard_report_faults();
    static struct tile tile;
    static float turned[2 * QZ_TILE];
    struct rng rng = rng_make(120);
    struct work w = {.kernel = "columns_codes", .call = call_columns_codes, .returned = RETURNS_NUMBER};
    for (size_t repeat = 0; repeat < cases(2400, 60); repeat++) {
        size_t kind = repeat % SCHEME_KINDS;
        columns_shape(&rng, &w, repeat / SCHEME_KINDS);
        while (w.n * w.group_size > QZ_TILE)
            w.n -= 16;
        if (w.n == 0)
            continue;
        (rng_below(&rng, 2) ? fitted_tile : threshold_tile)(&rng, &tile, kind, w.n * w.group_size, w.group_size);
        for (size_t i = 0; i < w.n * w.group_size; i++)
            turned[i % w.group_size * w.n + i / w.group_size] = tile.x[i];
        w.grid = grid_kind(kind);
        w.in[0] = (struct part){turned, w.n * w.group_size * 4, 4};
        w.in[1] = (struct part){tile.inverse, w.n * 4, 4};
        w.in[2] = (struct part){tile.zero, w.n * 4, 4};
        w.out[0] = (struct part){NULL, spread(w.pitch, w.n, w.group_size / 2), 1};
        check(&w, repeat % 8 ? 4 : all_places(1));
    }
}

static void test_columns_decode(void **state)
{
    (void)state;
    guard_report_faults();
    static struct tile tile;
    struct rng rng = rng_make(121);
    struct work w = {.kernel = "columns_decode", .call = call_columns_decode};
    for (size_t repeat = 0; repeat < cases(2400, 60); repeat++) {
        size_t kind = repeat % SCHEME_KINDS;
        columns_shape(&rng, &w, repeat / SCHEME_KINDS);
        decode_tile(&rng, &tile, kind, w.n, 1);
        size_t n = spread(w.pitch, w.n, w.group_size / 2);
        fill_bytes(&rng, bytes, n);
        w.grid = grid_kind(kind);
        w.in[0] = (struct part){bytes, n, 1};
        w.in[1] = (struct part){tile.scale, w.n * 4, 4};
        w.in[2] = (struct part){tile.zero, w.n * 4, 4};
        w.out[0] = (struct part){NULL, spread(w.stride, w.group_size, w.n) * 4, 4};
        check(&w, repeat % 8 ? 4 : all_places(4));
    }
}

static void test_find_error(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(118);
    struct work w = {.kernel = "find_error", .call = call_find_error, .returned = RETURNS_NUMBER};
    for (size_t n = 0; n <= QZ_TILE; n = next_length(n))
        for (size_t repeat = 0; repeat < 5; repeat++) {
            fill_pair(&rng, (enum data_kind)rng_below(&rng, DATA_KINDS), floats_a, floats_b, n);
            size_t i = n ? rng_below(&rng, n) : 0;
            w.wanted = n && repeat ? fabsf(floats_a[i] - floats_b[i]) : 123.0f; /* of several, the first */
            w.n = n;
            w.in[0] = (struct part){floats_a, n * 4, 4};
            w.in[1] = (struct part){floats_b, n * 4, 4};
            check(&w, repeat == 1 ? all_places(4) : 2);
        }
    for (size_t n = 1; n <= 140; n++) /* in each place, alone */
        for (size_t i = 0; i < n; i++) {
            memset(floats_a, 0, n * 4);
            memset(floats_b, 0, n * 4);
            floats_b[i] = 3;
            w.wanted = 3;
            w.n = n;
            w.in[0] = (struct part){floats_a, n * 4, 4};
            w.in[1] = (struct part){floats_b, n * 4, 4};
            check(&w, 1);
        }
}

static void test_weighted_error(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(122);
    struct work w = {.kernel = "weighted_error", .call = call_weighted_error};
    static float weights[QZ_TILE];
    for (size_t n = 0; n <= QZ_TILE; n = next_length(n))
        for (size_t repeat = 0; repeat < 5; repeat++) {
            fill_pair(&rng, (enum data_kind)rng_below(&rng, DATA_KINDS), floats_a, floats_b, n);
            for (size_t i = 0; i < n; i++)
                weights[i] = (float)rng_below(&rng, 1u << 24) * power_of_two(-(int)rng_below(&rng, 30));
            w.n = n;
            w.in[0] = (struct part){floats_a, n * 4, 4};
            w.in[1] = (struct part){floats_b, n * 4, 4};
            w.in[2] = (struct part){weights, n * 4, 4};
            w.out[0] = (struct part){NULL, 8, 8};
            check(&w, repeat == 1 ? all_places(4) : 2);
        }
    /* Each value counts, by its own weight. */
    double sum = 0;
    for (size_t i = 0; i < 100; i++) {
        floats_a[i] = (float)i;
        floats_b[i] = -2.0f;
        weights[i] = (float)(i % 7);
        sum += (double)(i % 7) * (double)((i + 2) * (i + 2));
    }
    for (size_t s = 0; s < set_count; s++)
        assert_true(sets[s]->weighted_error(floats_a, floats_b, weights, 100) == sum);
}

/* ---- matrices ------------------------------------------------------------------------------------------------ */

/* Pitches may be larger than rows, or (of the factors) 0. Everything around and between must stay. */
static void multiply_case(struct rng *rng, size_t cols, size_t rows, size_t depth, size_t a_gap, size_t x_gap,
                          size_t y_gap, size_t p)
{
    size_t a_pitch = cols + a_gap, x_pitch = rows + x_gap, y_pitch = rows + y_gap;
    size_t a_length = depth ? (depth - 1) * a_pitch + cols : 0, x_length = depth ? (depth - 1) * x_pitch + rows : 0;
    size_t y_length = cols && rows ? (cols - 1) * y_pitch + rows : 0;
    double *a = doubles, *x = a + a_length, *y = x + x_length, *wanted = y + y_length;
    fill_doubles(rng, DATA_NORMAL, doubles, a_length + x_length + y_length);
    for (size_t c = 0; c < cols; c++)
        for (size_t r = 0; r < rows; r++)
            for (size_t k = 0; k < depth; k++)
                wanted[c * y_pitch + r] =
                    fma(a[k * a_pitch + c], x[k * x_pitch + r], k ? wanted[c * y_pitch + r] : y[c * y_pitch + r]);
    struct part parts[2] = {{a, a_length * 8, 8}, {x, x_length * 8, 8}}, out = {y, y_length * 8, 8};
    uint8_t *in[2], *to = place(out_guards[0], out, p, cols);
    for (size_t i = 0; i < 2; i++) {
        in[i] = place(in_guards[i], parts[i], p, rows + i);
        furnish(in_guards[i], in[i], parts[i], 0xff);
    }
    for (size_t s = 0; s < set_count; s++) {
        snprintf(guard_doing, sizeof guard_doing, "%s multiply_add, %zu x %zu x %zu, gaps %zu, %zu, %zu, place %zu",
                 sets[s]->name, cols, rows, depth, a_gap, x_gap, y_gap, p);
        furnish(out_guards[0], to, out, CANARY);
        sets[s]->multiply_add((const double *)(const void *)in[0], a_pitch, cols, (const double *)(const void *)in[1],
                              x_pitch, rows, depth, (double *)(void *)to, y_pitch);
        for (size_t c = 0; c < cols && rows; c++) {
            if (depth && !same_bytes("row", to + c * y_pitch * 8, wanted + c * y_pitch, rows * 8, 8))
                fail_msg("%s: row %zu", guard_doing, c);
            size_t after = depth ? rows : 0, rest = c + 1 < cols ? y_pitch - after : rows - after;
            if (!same_bytes("gap", to + (c * y_pitch + after) * 8, y + c * y_pitch + after, rest * 8, 8))
                fail_msg("%s: behind row %zu", guard_doing, c);
        }
        if (!guard_check_near(out_guards[0], to, out.bytes, NEAR))
            fail_msg("%s", guard_doing);
    }
}

static void test_multiply_add(void **state)
{
    (void)state;
    guard_report_faults();
    struct rng rng = rng_make(120);
    for (size_t cols = 0; cols <= 9; cols++)
        for (size_t rows = 0; rows <= (short_mode ? 11 : 75); rows++)
            for (size_t depth = 0; depth <= 3; depth++)
                multiply_case(&rng, cols, rows, depth, rng_below(&rng, 5), rng_below(&rng, 5), rng_below(&rng, 5),
                              rng_below(&rng, 16));
    for (size_t repeat = 0; repeat < cases(2000, 30); repeat++)
        multiply_case(&rng, rng_below(&rng, 40), rng_below(&rng, 150), rng_below(&rng, 40), rng_below(&rng, 70),
                      rng_below(&rng, 70), rng_below(&rng, 70), rng_below(&rng, 16));
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

/* ---- setting up ---------------------------------------------------------------------------------------------- */

static void choose_sets(void)
{
    const char *forced = getenv("QUANTIZE_KERNELS");
    for (size_t i = 0; qz_kernel_list[i] && set_count < SETS_MOST; i++) {
        const struct qz_kernels *set = qz_kernel_list[i];
        if (set->needs & ~qz_cpu_features())
            printf("not tested: %s, which this CPU lacks\n", set->name);
        else if (!forced || !*forced || strcmp(forced, set->name) == 0)
            sets[set_count++] = set;
    }
    for (size_t i = 0; i < set_count; i++)
        printf("testing %s\n", sets[i]->name);
}

int main(void)
{
    start_program("test_kernels");
    choose_sets();
    bulk = short_mode ? 1u << 14 : 1u << 20;
    size_t most = bulk * sizeof(double) > sizeof(float) * 65536 * 6 ? bulk * sizeof(double) : sizeof(float) * 65536 * 6;
    for (size_t i = 0; i < MOST_IN; i++)
        in_guards[i] = guard_make(most + 4096);
    for (size_t i = 0; i < MOST_OUT; i++) {
        out_guards[i] = guard_make(most + 4096);
        wanted_out[i] = malloc(most);
    }
    floats_a = malloc(most);
    floats_b = malloc(most);
    doubles = malloc(most);
    bytes = malloc(most);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range_f32),
        cmocka_unit_test(test_range_f64),
        cmocka_unit_test(test_codes_f32),
        cmocka_unit_test(test_codes_f64),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_pack),
        cmocka_unit_test(test_unpack),
        cmocka_unit_test(test_pack_unpack_pairs),
        cmocka_unit_test(test_f32_from_f16),
        cmocka_unit_test(test_f32_from_bf16),
        cmocka_unit_test(test_byte_scales),
        cmocka_unit_test(test_f16_from_f32),
        cmocka_unit_test(test_bf16_from_f32),
        cmocka_unit_test(test_f32_from_f64),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_transpose),
        cmocka_unit_test(test_group_range),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_group_codes),
        cmocka_unit_test(test_group_decode),
        cmocka_unit_test(test_stored_decode),
        cmocka_unit_test(test_error),
        cmocka_unit_test(test_group_codes_error),
        cmocka_unit_test(test_find_error),
        cmocka_unit_test(test_weighted_error),
        cmocka_unit_test(test_columns_range),
        cmocka_unit_test(test_columns_codes),
        cmocka_unit_test(test_columns_decode),
        cmocka_unit_test(test_multiply_add),
        cmocka_unit_test(test_forced_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
