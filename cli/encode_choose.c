/*
 * encode_choose.c - chooses the scheme of each tensor by its measured error, for --target-bits and --min-sqnr
 */
#include "encode.h"

#include <math.h>
#include <stdlib.h>

#include "gptq_time.h"
#include "output.h"
#include "resources.h"
#include "sample.h"

/* What is tried, as the words of a rule; docs/cli.md has the same list. An output takes those that it has a place for.
 * Each is the best for some data: dual4 for most, int4 and uint4_offset for numbers that lie on a grid, nf4 and mxfp4
 * for few bits, q8_0 for what loses too much in four, and the rest in GGUF. */
static const char *const candidates[] = {
    "dual4,group=64", "dual4", "dual4,group=16", "dual4,group=8", "int4", "uint4_offset", "nf4",
    "mxfp4",          "q4_k",  "iq4_xs",         "iq4_nl",        "q4_1", "q8_0",
};
enum { CANDIDATES = sizeof candidates / sizeof candidates[0] };

/* One candidate for a tensor. */
typedef struct point {
    const recipe *how;
    uint64_t bytes;
    double error, sqnr;
} point;

/* The candidates of a tensor from the fewest bytes on; each has less error than the one before. */
typedef struct points {
    job *job;
    point at[CANDIDATES];
    size_t count;
    size_t taken;
    int stopped; /* the next one did not fit */
} points;

typedef struct chooser {
    encoder *encoder;
    points *tensors;
    size_t count;
} chooser;

/* ---- what can be had ---- */

static int fails_together(const encoder *e)
{
    const settings *s = e->s;
    const char *option = !isnan(s->goal.target_bits) ? "--target-bits" : "--min-sqnr";
    const char *given = s->how.scheme             ? "--scheme"
                        : s->how.table            ? "--table"
                        : s->how.group_size != 0  ? "--group-size"
                        : s->how.scale_dtype != 0 ? "--scale-dtype"
                        : s->how.method != 0      ? "--method"
                                                  : NULL;
    if (!isnan(s->goal.target_bits) && !isnan(s->goal.min_sqnr))
        return fail(USAGE, "--target-bits and --min-sqnr are two ways to choose; leave one out");
    return given ? fail(USAGE, "%s chooses the scheme of each tensor; leave out %s, or name tensors with --rule",
                        option, given)
                 : DONE;
}

static int read_candidates(encoder *e)
{
    e->recipes.candidates = calloc(CANDIDATES, sizeof *e->recipes.candidates);
    if (!e->recipes.candidates)
        return fail_memory();
    for (size_t i = 0; i < CANDIDATES; i++)
        if (recipe_of_words(e->s, candidates[i], "a candidate", &e->recipes.candidates[i]) != DONE)
            return INTERNAL;
    return DONE;
}

static int by_bytes(const void *a, const void *b)
{
    const point *p = a, *q = b;
    if (p->bytes != q->bytes)
        return p->bytes < q->bytes ? -1 : 1;
    if (p->error != q->error)
        return p->error < q->error ? -1 : 1;
    return p->how < q->how ? -1 : p->how > q->how;
}

/* Keeps the points that no other one of as few bytes has less error than. */
static void drop_worse(points *p)
{
    qsort(p->at, p->count, sizeof p->at[0], by_bytes);
    size_t kept = 0;
    for (size_t i = 0; i < p->count; i++)
        if (kept == 0 || p->at[i].error < p->at[kept - 1].error)
            p->at[kept++] = p->at[i];
    p->count = kept;
}

static int measure(const encoder *e, points *p)
{
    const job *j = p->job;
    const qz_tensor *t = j->tensor;
    char why[NAME_TEXT];
    sample s;
    int code = take_sample(e, j, &s);
    for (size_t i = 0; i < CANDIDATES && code == DONE; i++) {
        const recipe *how = &e->recipes.candidates[i];
        qz_stats stats;
        if (recipe_refuses(how, e->layout, t, j->axis, why, sizeof why) || (how->eight && j->codes))
            continue;
        code = try_recipe(e, j, &s, how, &stats);
        if (code == DONE && (stats.count != 0 || t->count == 0))
            p->at[p->count++] = (point){how, recipe_bytes(how, e->layout, t, j->axis), likely_error(&s, &stats),
                                        likely_sqnr(&s, &stats)};
    }
    free_sample(&s);
    drop_worse(p);
    return code;
}

static void take(encoder *e, const points *p)
{
    job *j = p->job;
    const point *chosen = &p->at[p->taken];
    e->total.bytes_after = e->total.bytes_after - j->bytes.after + chosen->bytes;
    j->how = chosen->how;
    j->bytes.after = chosen->bytes;
    j->words = candidates[chosen->how - e->recipes.candidates];
    j->likely.sqnr = chosen->sqnr;
}

/* ---- for so many decibels ---- */

static void choose_by_sqnr(encoder *e, points *p)
{
    while (p->taken < p->count && p->at[p->taken].sqnr < e->s->goal.min_sqnr)
        p->taken++;
    if (p->taken < p->count) {
        take(e, p);
        return;
    }
    job *j = p->job;
    const qz_tensor *t = j->tensor;
    j->likely.sqnr = p->count != 0 ? p->at[p->count - 1].sqnr : NAN;
    j->kept = TOO_LOSSY;
    j->encoded = 0;
    e->total.values -= t->count;
    e->total.bytes_before -= j->bytes.before;
    e->total.bytes_after -= j->bytes.after;
    j->bytes.after = j->bytes.kept;
}

/* ---- for so many bits ---- */

/* How much error a tensor loses for each byte from one point to another. */
static double slope(const point *from, const point *to)
{
    return (from->error - to->error) / (double)(to->bytes - from->bytes);
}

/* Keeps the lower convex hull: each step loses less error for a byte than the one before. */
static void keep_hull(points *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->count; i++) {
        while (n >= 2 && slope(&p->at[n - 2], &p->at[n - 1]) <= slope(&p->at[n - 1], &p->at[i]))
            n--;
        p->at[n++] = p->at[i];
    }
    p->count = n;
}

/* From one point of a tensor to the next. */
typedef struct step {
    points *tensor;
    size_t to;
    double slope;
} step;

/* The steepest first; of equal ones those of the first tensor. */
static int by_slope(const void *a, const void *b)
{
    const step *p = a, *q = b;
    if (p->slope != q->slope)
        return p->slope > q->slope ? -1 : 1;
    if (p->tensor != q->tensor)
        return p->tensor < q->tensor ? -1 : 1;
    return p->to < q->to ? -1 : p->to > q->to;
}

static int fail_budget(const encoder *e, double least)
{
    return fail(USAGE, "--target-bits %g: with fewer than %.4g bits a value these tensors cannot be encoded",
                e->s->goal.target_bits, 8 * least / (double)e->total.values);
}

/* Takes steps from the fewest bytes on, as long as they fit: down to a slope, the same for all tensors, these are the
 * best choice for their bytes. Smaller steps behind it use what is left. */
static int choose_by_bits(const chooser *c)
{
    encoder *e = c->encoder;
    size_t count = 0;
    step *steps = calloc(c->count * CANDIDATES + 1, sizeof *steps);
    if (!steps)
        return fail_memory();
    for (size_t i = 0; i < c->count; i++) {
        points *p = &c->tensors[i];
        keep_hull(p);
        take(e, p);
        for (size_t to = 1; to < p->count; to++)
            steps[count++] = (step){p, to, slope(&p->at[to - 1], &p->at[to])};
    }
    qsort(steps, count, sizeof *steps, by_slope);
    const double room = e->s->goal.target_bits / 8 * (double)e->total.values;
    int code = (double)e->total.bytes_after > room ? fail_budget(e, (double)e->total.bytes_after) : DONE;
    for (size_t i = 0; i < count && code == DONE; i++) {
        points *p = steps[i].tensor;
        const uint64_t more = p->at[steps[i].to].bytes - p->at[p->taken].bytes;
        p->stopped |= (double)(e->total.bytes_after + more) > room;
        if (p->stopped)
            continue;
        p->taken = steps[i].to;
        take(e, p);
    }
    free(steps);
    return code;
}

/* ---- all tensors ---- */

static int measure_all(chooser *c)
{
    encoder *e = c->encoder;
    int code = e->pool ? DONE : start_pool(e->s, e->total.values, &e->pool);
    progress_begin("choose", e->in.count);
    for (size_t i = 0; i < e->in.count && code == DONE; i++) {
        points *p = &c->tensors[c->count];
        progress_add(1);
        if (!e->jobs[i].encoded || e->jobs[i].rule)
            continue;
        p->job = &e->jobs[i];
        code = measure(e, p);
        c->count += p->count != 0;
    }
    progress_end();
    return code;
}

int choose_schemes(encoder *e)
{
    chooser c = {.encoder = e};
    if (isnan(e->s->goal.target_bits) && isnan(e->s->goal.min_sqnr))
        return DONE;
    int code = fails_together(e);
    if (code == DONE)
        code = read_candidates(e);
    if (code != DONE)
        return code;
    c.tensors = calloc(e->in.count + 1, sizeof *c.tensors);
    if (!c.tensors)
        return fail_memory();
    code = measure_all(&c);
    for (size_t i = 0; i < c.count && code == DONE && !isnan(e->s->goal.min_sqnr); i++)
        choose_by_sqnr(e, &c.tensors[i]);
    if (code == DONE && !isnan(e->s->goal.target_bits))
        code = choose_by_bits(&c);
    free(c.tensors);
    return code;
}

/* ---- what is to be expected ---- */

static int predict_tensor(encoder *e, job *j)
{
    const uint64_t memory = memory_of(e, j);
    sample s;
    qz_stats stats;
    int code = take_sample(e, j, &s);
    double start = seconds_now();
    if (code == DONE)
        code = try_recipe(e, j, &s, j->how, &stats);
    if (code == DONE && stats.count != 0) {
        j->likely.seconds = (seconds_now() - start) * s.share;
        j->likely.sqnr = likely_sqnr(&s, &stats);
    }
    free_sample(&s);
    if (code == DONE && is_gptq(j))
        j->likely.seconds = gptq_seconds(e, j);
    e->likely_memory = memory > e->likely_memory ? memory : e->likely_memory;
    return code;
}

int predict(encoder *e)
{
    int code = e->pool ? DONE : start_pool(e->s, e->total.values, &e->pool);
    for (size_t i = 0; i < e->in.count && code == DONE; i++)
        if (e->jobs[i].encoded)
            code = predict_tensor(e, &e->jobs[i]);
    e->likely_memory += memory_taken(); /* what is here already: the program, the lists of tensors */
    return code;
}
