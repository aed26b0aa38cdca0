/*
 * calls.h - one kernel call of each set against the same call of scalar.c, bit for bit
 *
 * A kernel call is described once (struct work) and then made with each set in many places: next to the untouchable
 * pages on both sides, and at each distance from a cache line that its elements can have. QUANTIZE_KERNELS restricts
 * the run to one set. The scalar set, which would be held against itself, is called next to both pages only: what it
 * makes is held against the plain rules by some of these tests, and by test_array.c and test_groups.c.
 */
#ifndef QZ_TEST_CALLS_H
#define QZ_TEST_CALLS_H

#include "cases.h"
#include "guard.h"
#include "program.h"
#include "reference.h"
#include "sets.h"

/* ---- calls --------------------------------------------------------------------------------------------------- */

enum { MOST_IN = 4, MOST_OUT = 3, NEAR = 192 };

static size_t bulk; /* elements of one large call */
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
    struct qz_rule_codes rule_codes;
    const struct qz_steps *steps;
    struct qz_stored stored;
    qz_dtype dtype; /* stored_decode: of the values */
    const void *table;
    double scale, zero_point;
    float wanted;
};

/* Defines call_NAME, which makes the call that `w` describes with one set. */
#define CALLER(name)                                                                                                   \
    static uint64_t call_##name(const struct qz_kernels *set, const struct work *w, void *const *in, void *const *out)

/* Place number p of an array: even p at the upper page, odd p at the lower one; 0 and 1 touch it, others keep a
 * distance below 64 bytes that is a multiple of the element size. `salt` makes the arrays of a call move differently.
 */
static inline uint8_t *place(struct guard guard, struct part part, size_t p, size_t salt)
{
    size_t distance = p < 2 ? 0 : (p / 2 + salt) * part.unit % 64;
    return p % 2 ? guard.bytes + distance : guard.bytes + guard.size - distance - part.bytes;
}

/* Fills an array's neighbourhood, and the array, if it has contents. */
static inline void furnish(struct guard guard, uint8_t *at, struct part part, int filler)
{
    size_t start = (size_t)(at - guard.bytes), from = start < NEAR ? 0 : start - NEAR;
    size_t to = guard.size - start - part.bytes < NEAR ? guard.size : start + part.bytes + NEAR;
    memset(guard.bytes + from, filler, to - from);
    if (part.data)
        memcpy(at, part.data, part.bytes);
}

static inline int same_floats(const void *got, const void *wanted, size_t bytes, size_t unit)
{
    qz_dtype dtype = unit == 8 ? QZ_F64 : QZ_F32;
    for (size_t i = 0; i < bytes; i += unit)
        if (ref_load((const char *)got + i, dtype) != ref_load((const char *)wanted + i, dtype))
            return 0;
    return 1;
}

static inline void check(const struct work *work, size_t places)
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
        for (size_t p = 0; p < (sets[s] == &qz_kernels_scalar && places > 2 ? 2 : places); p++) {
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

/* ---- lengths and places -------------------------------------------------------------------------------------- */

/* All places of elements of this size. */
static inline size_t all_places(size_t unit)
{
    return 2 * 64 / unit;
}

/* Lengths: all up to 260, some more up to `most`. */
static inline size_t next_length(size_t n)
{
    size_t step = short_mode ? 7 : 1;
    return n < 70 ? n + 1 : n < 260 ? n + step : n + n / 3 + 1;
}

/* The same, then ten times about `bulk`. */
static inline size_t next_size(size_t n)
{
    return n < 5000 ? next_length(n) : n < bulk - 9 ? bulk - 9 : n + 1;
}

/* ---- data ---------------------------------------------------------------------------------------------------- */

static float *floats_a, *floats_b; /* room for `bulk` elements each */
static double *doubles;
static uint8_t *bytes;

static inline void fill_bytes(struct rng *rng, void *to, size_t n)
{
    uint8_t *at = to;
    for (size_t i = 0; i < n; i++)
        at[i] = (uint8_t)(rng_next(rng) >> 56);
}

static inline void fill_codes(struct rng *rng, int8_t *codes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        codes[i] = (int8_t)((int)(rng_next(rng) >> 60) - 8);
}

/* As fill_floats, but with the digits and, for "any bits", the exponents of doubles. */
static inline void fill_doubles(struct rng *rng, enum data_kind kind, double *x, size_t n)
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

/* ---- setting up ---------------------------------------------------------------------------------------------- */

/* Begins a program that tests kernels: chooses the sets, and takes the memory for their calls. */
static inline void start_kernels(const char *name)
{
    start_program(name);
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
}

#endif
