/*
 * affine_scalar.h - search_affine in plain C: the specification, for scalar.c
 *
 * It processes groups one after another. Every operation is rounded to float32; an operation is fused where the code
 * says fmaf.
 */
#ifndef QZ_AFFINE_SCALAR_H
#define QZ_AFFINE_SCALAR_H

#include "affine.h"
#include "kernels.h"
#include "../base/number.h"

#include <math.h>

/* One group and what is known about it. */
struct affine {
    enum qz_affine_kind kind;
    const float *v, *w; /* w: NULL for none */
    size_t n;
    float total, share, squares; /* sum of the weights, its inverse, and the sum of their squares */
    float origin;                /* fits are of t = x - origin */
    float range, mean;           /* of t, whose least is 0 */
    float variance;
};

/* Weighted means over a group with certain codes: of q, q^2 and t q. Here q is the code less a zero, which is what a
 * value is multiples of with QZ_AFFINE_UINT4, and the code of the mean for the other kinds: then little is lost where
 * means are subtracted. */
struct affine_means {
    float q, qq, tq;
};

/* The best fit so far: scale = a / b, error smaller by gain / b than with a constant; b = 0 for none yet. `mean` is the
 * mean code, and for QZ_AFFINE_UINT4 the zero. */
struct affine_fit {
    float gain, a, b, mean;
};

static float affine_code(float y, float least, float most)
{
    float q = rintf(y);
    q = q > least ? q : least;
    return q < most ? q : most;
}

/* The nearest integer of 0..15. */
static float affine_zero(float zero)
{
    zero = rintf(zero);
    zero = zero > 0 ? zero : 0;
    return zero < 15 ? zero : 15;
}

static void affine_range(struct affine *g)
{
    float lo = g->v[0], hi = g->v[0], sum = 0, total = 0, squares = 0, spread = 0;
    for (size_t k = 0; k < g->n; k++) {
        float x = g->v[QZ_BLOCK * k], w = g->w ? g->w[QZ_BLOCK * k] : 1, from = x - g->v[0];
        lo = x < lo ? x : lo;
        hi = x > hi ? x : hi;
        sum = fmaf(w, from, sum);
        spread = fmaf(w * from, from, spread);
        total += w;
        squares += w * w;
    }
    if (g->kind == QZ_AFFINE_UINT4 || g->kind == QZ_AFFINE_MIN)
        lo = lo < 0 ? lo : 0;
    if (g->kind == QZ_AFFINE_UINT4)
        hi = hi > 0 ? hi : 0;
    g->origin = lo;
    g->range = hi - lo;
    g->total = total;
    g->share = 1 / total;
    g->squares = squares;
    g->mean = fmaf(sum, g->share, g->v[0] - lo);
    g->variance = fmaf(-sum * g->share, sum, spread) * g->share;
}

/* Means with codes that are t * inverse + bias, less `zero`; with QZ_AFFINE_UINT4, x * inverse. */
static struct affine_means affine_try(const struct affine *g, float inverse, float bias, float zero)
{
    struct affine_means s = {0, 0, 0};
    for (size_t k = 0; k < g->n; k++) {
        float t = g->v[QZ_BLOCK * k], y;
        if (g->kind == QZ_AFFINE_UINT4) {
            y = t * inverse;
        } else {
            t = t - g->origin;
            y = fmaf(t, inverse, bias - zero);
        }
        float q = affine_code(y, -zero, 15 - zero), wq = g->w ? g->w[QZ_BLOCK * k] * q : q;
        s.q += wq;
        s.qq = fmaf(wq, q, s.qq);
        s.tq = fmaf(wq, t, s.tq);
    }
    s.q *= g->share;
    s.qq *= g->share;
    s.tq *= g->share;
    return s;
}

/* The means with q the code itself. */
static struct affine_means affine_whole(const struct affine *g, struct affine_means s, float zero)
{
    float q = s.q + zero;
    return (struct affine_means){q, fmaf(zero, s.q + q, s.qq), fmaf(zero, g->mean, s.tq)};
}

/* The least-squares fit with these codes. */
static struct affine_fit affine_fit(const struct affine *g, struct affine_means s, float zero)
{
    struct affine_fit none = {-1, 0, 0, 0};
    if (g->kind == QZ_AFFINE_UINT4)
        return s.qq > 0 && s.tq > 0 ? (struct affine_fit){s.tq * s.tq, s.tq, s.qq, zero} : none;
    float a = fmaf(-s.q, g->mean, s.tq), b = fmaf(-s.q, s.q, s.qq), mean = s.q + zero;
    int some = b > s.qq * QZ_AFFINE_FLAT && a > 0;
    if (g->kind == QZ_AFFINE_MIN) {
        float x = g->mean + g->origin; /* the mean of the values; the offset is x - a / b * mean */
        if (x > 0 && !(some && x * b <= a * mean)) {
            /* Offset 0. With whole a and b the gain is a^2 - x^2 b, of which little is left where x is large. */
            float gain = fmaf(a, a, x * fmaf(-x, b, (a + a) * mean));
            s = affine_whole(g, s, zero);
            a = fmaf(g->origin, s.q, s.tq);
            b = s.qq;
            return b > 0 && a > 0 ? (struct affine_fit){gain, a, b, 0} : none;
        }
    }
    return some ? (struct affine_fit){a * a, a, b, mean} : none;
}

static void affine_better(struct affine_fit *best, struct affine_fit fit)
{
    if (fit.gain * best->b > best->gain * fit.b)
        *best = fit;
}

static float affine_scale(const struct affine_fit *fit)
{
    return fit->b > 0 ? fit->a / fit->b : 0;
}

/* Offset from the origin. */
static float affine_offset(const struct affine *g, const struct affine_fit *fit, float scale)
{
    float m = fmaf(-scale, fit->mean, g->mean);
    return g->kind == QZ_AFFINE_MIN && m > -g->origin ? -g->origin : m;
}

static float affine_inverse(float scale)
{
    return scale != 0 ? 1 / scale : 0;
}

/* The code of the mean. */
static float affine_middle(const struct affine *g, float inverse, float bias)
{
    return affine_zero(fmaf(g->mean, inverse, bias));
}

/* The best of what moves make of a start, and of that itself. */
static struct affine_fit affine_moved(const struct affine *g, enum qz_affine_list list, const struct affine_fit *start)
{
    struct affine_fit best = *start;
    float scale = affine_scale(start), inverse = affine_inverse(scale), offset = affine_offset(g, start, scale);
    const struct qz_affine_move *moves = qz_affine_moves(g->kind, list, g->n);
    for (int i = 0; i < qz_affine_move_count(list); i++) {
        const struct qz_affine_move *move = &moves[i];
        if (g->kind == QZ_AFFINE_UINT4) {
            float zero = affine_zero(start->mean + move->high);
            float moved = inverse * (15 / (15 - move->low));
            affine_better(&best, affine_fit(g, affine_try(g, moved, 0, zero), zero));
        } else {
            float moved = inverse * (15 / (15 - (move->low + move->high)));
            float m = fmaf(scale, move->low, offset);
            if (g->kind == QZ_AFFINE_MIN)
                m = m > -g->origin ? -g->origin : m;
            float bias = -m * moved, zero = affine_middle(g, moved, bias);
            affine_better(&best, affine_fit(g, affine_try(g, moved, bias, zero), zero));
        }
    }
    return best;
}

static struct affine_fit affine_search(const struct affine *g, enum qz_affine_list list)
{
    struct affine_fit best = {-1, 0, 0, 0};
    for (int i = 0; i < qz_affine_start_count(list); i++) {
        struct qz_affine_begin begin = qz_affine_start(g->kind, list, g->n, i);
        float low = g->mean * begin.low;
        float high = fmaf(-(g->range - g->mean), begin.high, g->range);
        float inverse = high > low ? begin.steps / (high - low) : 0, bias = -low * inverse;
        float zero =
            g->kind == QZ_AFFINE_UINT4 ? affine_zero(-(g->origin + low) * inverse) : affine_middle(g, inverse, bias);
        affine_better(&best, affine_fit(g, affine_try(g, inverse, bias, zero), zero));
    }
    for (int round = 0; round < qz_affine_rounds(list); round++)
        best = affine_moved(g, list, &best);
    return best;
}

/* What a value is multiples of the scale of, and that multiple, as group_codes and group_decode have it. */
static float affine_multiple(enum qz_affine_kind kind, float x, float inverse, float zero, float *t)
{
    *t = kind == QZ_AFFINE_OFFSET ? x - zero : x;
    float y = *t * inverse;
    if (kind == QZ_AFFINE_UINT4)
        return affine_code(y, -zero, 15 - zero);
    if (kind == QZ_AFFINE_FLOAT)
        return affine_code(y + zero, 0, 15) - zero;
    return affine_code(y, 0, 15);
}

/* The best scale for a given zero, by the codes that `scale` makes. */
static float affine_refit(const struct affine *g, float scale, float zero)
{
    float inverse = affine_inverse(scale), qq = 0, tq = 0;
    for (size_t k = 0; k < g->n; k++) {
        float t, q = affine_multiple(g->kind, g->v[QZ_BLOCK * k], inverse, zero, &t);
        float wq = g->w ? g->w[QZ_BLOCK * k] * q : q;
        qq = fmaf(wq, q, qq);
        tq = fmaf(wq, t, tq);
    }
    return qq > 0 && tq > 0 ? tq / qq : scale;
}

static float affine_error(const struct affine *g, float scale, float zero)
{
    float inverse = affine_inverse(scale), sum = 0;
    for (size_t k = 0; k < g->n; k++) {
        float t, q = affine_multiple(g->kind, g->v[QZ_BLOCK * k], inverse, zero, &t);
        float difference = fmaf(-scale, q, t);
        sum = fmaf(g->w ? g->w[QZ_BLOCK * k] * difference : difference, difference, sum);
    }
    return sum;
}

static void search_affine(enum qz_affine_kind kind, enum qz_affine_list list, qz_dtype dtype, const float *v,
                          const float *w, size_t n, const float *unit, const struct qz_affine_rule *rule, float *scale,
                          float *zero, struct qz_affine_error *error)
{
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        struct affine g = {.kind = kind, .v = v + l, .w = w ? w + l : NULL, .n = n};
        affine_range(&g);
        struct affine_fit fit = affine_search(&g, list);
        float s = affine_scale(&fit), m = affine_offset(&g, &fit, s), z = 0;
        if (kind == QZ_AFFINE_MIN) {
            float inverse = affine_inverse(s);
            float bias = -m * inverse, middle = affine_middle(&g, inverse, bias);
            struct affine_means means = affine_try(&g, inverse, bias, middle);
            struct affine_fit last = affine_fit(&g, means, middle);
            if (last.b > 0) {
                s = affine_scale(&last);
                m = affine_offset(&g, &last, s);
            }
            scale[l] = s;
            zero[l] = m + g.origin;
            means = affine_whole(&g, means, middle);
            error->curve[l] = means.qq * g.total;
            error->slope[l] = means.qq > 0 ? means.q / means.qq : 0;
            error->rest[l] = fmaf(-error->slope[l], means.q, 1) * g.total;
            continue;
        }
        if (kind == QZ_AFFINE_OFFSET)
            z = qz_through((m + g.origin) * unit[l], dtype) / unit[l] + 0.0f;
        else if (kind == QZ_AFFINE_FLOAT)
            z = qz_through(-(m + g.origin) * affine_inverse(s), dtype) + 0.0f;
        else
            z = fit.mean;
        s = qz_through(affine_refit(&g, s, z) * unit[l], dtype) / unit[l];
        float found = affine_error(&g, s, z), known = affine_error(&g, scale[l], zero[l]);
        int better = s > 0 && found < known * QZ_AFFINE_LESS;
        error->curve[l] = better ? found : known;
        error->slope[l] = g.squares;
        error->rest[l] = g.total;
        error->variance[l] = g.variance;
        if (rule)
            error->rule[l] = affine_error(&g, rule->scale[l], rule->zero[l]);
        if (better) {
            scale[l] = s;
            zero[l] = z;
        }
    }
}

static void pair_errors(enum qz_affine_kind kind, const struct qz_look *look, const struct qz_affine_rule pair[2],
                        float error[2][QZ_BLOCK])
{
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        const struct affine g = {.kind = kind, .v = look->v + l, .w = look->w ? look->w + l : NULL, .n = look->n};
        for (int i = 0; i < 2; i++)
            error[i][l] = affine_error(&g, pair[i].scale[l], pair[i].zero[l]);
    }
}

#endif
