/*
 * affine_template.h - search_affine in the vocabulary of simd_template.h, which a set includes first
 *
 * A lane is a group: LANES groups of a block are processed at a time. affine_scalar.h says what is computed.
 */
#include "affine.h"

/* How many candidates share a pass over the group: as many as the registers hold. */
enum { AFFINE_TRIES = LANES == 8 ? 2 : 4 };

struct affine_lanes {
    VF total, share, squares, origin, range, mean, variance;
};

struct affine_means {
    VF q, qq, tq;
};

struct affine_fit {
    VF gain, a, b, mean;
};

/* A candidate: the arguments of affine_try. */
struct affine_try {
    VF inverse, bias, zero;
};

/* The kind, and whether w is NULL, are constants in all inlined functions. */

INLINE VF affine_code(VF y, VF least, VF most)
{
    return vf_min(vf_max(vf_rint(y), least), most);
}

INLINE VF affine_at_most(VF m, VF most)
{
    return vf_select(vf_lt(most, m), most, m);
}

INLINE VF affine_zero(VF zero)
{
    VF none = vf_set1(0.0f);
    zero = vf_rint(zero);
    return affine_at_most(vf_select(vf_lt(none, zero), zero, none), vf_set1(15.0f));
}

INLINE struct affine_lanes affine_range(enum qz_affine_kind kind, const float *v, const float *w, size_t n)
{
    struct affine_lanes g;
    VF first = vf_load(v), lo = first, hi = first, none = vf_set1(0.0f), sum = none, total = none;
    VF squares = none, spread = none;
    for (size_t k = 0; k < n; k++) {
        VF x = vf_load(v + QZ_BLOCK * k), from = vf_sub(x, first);
        lo = vf_min(lo, x);
        hi = vf_max(hi, x);
        if (w) {
            VF weight = vf_load(w + QZ_BLOCK * k);
            sum = vf_fma(weight, from, sum);
            spread = vf_fma(vf_mul(weight, from), from, spread);
            total = vf_add(total, weight);
            squares = vf_add(squares, vf_mul(weight, weight));
        } else {
            sum = vf_add(from, sum);
            spread = vf_fma(from, from, spread);
        }
    }
    if (kind == QZ_AFFINE_UINT4 || kind == QZ_AFFINE_MIN)
        lo = vf_select(vf_lt(lo, none), lo, none);
    if (kind == QZ_AFFINE_UINT4)
        hi = vf_select(vf_lt(none, hi), hi, none);
    g.origin = lo;
    g.range = vf_sub(hi, lo);
    g.total = w ? total : vf_set1((float)n);
    g.share = vf_div(vf_set1(1.0f), g.total);
    g.squares = w ? squares : g.total;
    g.mean = vf_fma(sum, g.share, vf_sub(first, lo));
    g.variance = vf_mul(vf_fma(vf_mul(vf_neg(sum), g.share), sum, spread), g.share);
    return g;
}

INLINE void affine_tries(enum qz_affine_kind kind, const float *v, const float *w, size_t n,
                         const struct affine_lanes *g, int count, const struct affine_try *try,
                         struct affine_means *means)
{
    VF none = vf_set1(0.0f), fifteen = vf_set1(15.0f), least[4], most[4], inverse[4], bias[4];
    struct affine_means s[4];
#pragma GCC unroll 4
    for (int i = 0; i < count; i++) {
        s[i] = (struct affine_means){none, none, none};
        least[i] = vf_neg(try[i].zero);
        most[i] = vf_sub(fifteen, try[i].zero);
        inverse[i] = try[i].inverse;
        bias[i] = vf_sub(try[i].bias, try[i].zero);
    }
    for (size_t k = 0; k < n; k++) {
        VF t = vf_load(v + QZ_BLOCK * k), weight = w ? vf_load(w + QZ_BLOCK * k) : none;
        if (kind != QZ_AFFINE_UINT4)
            t = vf_sub(t, g->origin);
#pragma GCC unroll 4
        for (int i = 0; i < count; i++) {
            VF y = kind == QZ_AFFINE_UINT4 ? vf_mul(t, inverse[i]) : vf_fma(t, inverse[i], bias[i]);
            VF q = affine_code(y, least[i], most[i]), wq = w ? vf_mul(weight, q) : q;
            if (kind != QZ_AFFINE_UINT4)
                s[i].q = vf_add(s[i].q, wq);
            s[i].qq = vf_fma(wq, q, s[i].qq);
            s[i].tq = vf_fma(wq, t, s[i].tq);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < count; i++)
        means[i] =
            (struct affine_means){vf_mul(s[i].q, g->share), vf_mul(s[i].qq, g->share), vf_mul(s[i].tq, g->share)};
}

INLINE struct affine_means affine_whole(const struct affine_lanes *g, struct affine_means s, VF zero)
{
    VF q = vf_add(s.q, zero);
    return (struct affine_means){q, vf_fma(zero, vf_add(s.q, q), s.qq), vf_fma(zero, g->mean, s.tq)};
}

/* Lanes without a fit get gain -1 and b 0. */
INLINE struct affine_fit affine_fit(enum qz_affine_kind kind, const struct affine_lanes *g, struct affine_means s,
                                    VF zero)
{
    VF none = vf_set1(0.0f);
    struct affine_fit fit;
    VM some;
    if (kind == QZ_AFFINE_UINT4) {
        some = vm_and(vf_lt(none, s.qq), vf_lt(none, s.tq));
        fit = (struct affine_fit){vf_mul(s.tq, s.tq), s.tq, s.qq, zero};
    } else {
        VF minus_q = vf_neg(s.q);
        fit.a = vf_fma(minus_q, g->mean, s.tq);
        fit.b = vf_fma(minus_q, s.q, s.qq);
        fit.mean = vf_add(s.q, zero);
        fit.gain = vf_mul(fit.a, fit.a);
        some = vm_and(vf_lt(vf_mul(s.qq, vf_set1(QZ_AFFINE_FLAT)), fit.b), vf_lt(none, fit.a));
    }
    if (kind == QZ_AFFINE_MIN) {
        VF x = vf_add(g->mean, g->origin);
        VM free = vm_and(some, vf_le(vf_mul(x, fit.b), vf_mul(fit.a, fit.mean)));
        VM pinned = vf_lt(none, vf_select(free, none, x));
        VF gain = vf_fma(vf_neg(x), fit.b, vf_mul(vf_add(fit.a, fit.a), fit.mean));
        gain = vf_fma(fit.a, fit.a, vf_mul(x, gain));
        s = affine_whole(g, s, zero);
        VF a = vf_fma(g->origin, s.q, s.tq);
        some = vm_or(free, vm_and(pinned, vm_and(vf_lt(none, s.qq), vf_lt(none, a))));
        fit.gain = vf_select(pinned, gain, fit.gain);
        fit.a = vf_select(pinned, a, fit.a);
        fit.b = vf_select(pinned, s.qq, fit.b);
        fit.mean = vf_select(pinned, none, fit.mean);
    }
    fit.gain = vf_select(some, fit.gain, vf_set1(-1.0f));
    fit.b = vf_select(some, fit.b, none);
    return fit;
}

INLINE void affine_better(struct affine_fit *best, struct affine_fit fit)
{
    VM up = vf_lt(vf_mul(best->gain, fit.b), vf_mul(fit.gain, best->b));
    best->gain = vf_select(up, fit.gain, best->gain);
    best->a = vf_select(up, fit.a, best->a);
    best->b = vf_select(up, fit.b, best->b);
    best->mean = vf_select(up, fit.mean, best->mean);
}

INLINE VF affine_scale(const struct affine_fit *fit)
{
    VF none = vf_set1(0.0f);
    return vf_select(vf_lt(none, fit->b), vf_div(fit->a, fit->b), none);
}

INLINE VF affine_offset(enum qz_affine_kind kind, const struct affine_lanes *g, const struct affine_fit *fit, VF scale)
{
    VF m = vf_fma(vf_neg(scale), fit->mean, g->mean);
    return kind == QZ_AFFINE_MIN ? affine_at_most(m, vf_neg(g->origin)) : m;
}

INLINE VF affine_inverse(VF scale)
{
    VF none = vf_set1(0.0f);
    return vf_select(vf_ne(scale, none), vf_div(vf_set1(1.0f), scale), none);
}

INLINE VF affine_middle(const struct affine_lanes *g, VF inverse, VF bias)
{
    return affine_zero(vf_fma(g->mean, inverse, bias));
}

/* The best of what moves make of a start, and of that itself. */
INLINE struct affine_fit affine_moved(enum qz_affine_kind kind, enum qz_affine_list list, const float *v,
                                      const float *w, size_t n, const struct affine_lanes *g, struct affine_fit start)
{
    VF none = vf_set1(0.0f);
    struct affine_fit best = start;
    struct affine_try try[4];
    struct affine_means means[4];
    VF scale = affine_scale(&start), inverse = affine_inverse(scale), offset = affine_offset(kind, g, &start, scale);
    const struct qz_affine_move *moves = qz_affine_moves(kind, list, n);
    for (int from = 0; from < qz_affine_move_count(list); from += AFFINE_TRIES) {
#pragma GCC unroll 4
        for (int i = 0; i < AFFINE_TRIES; i++) {
            const struct qz_affine_move *move = &moves[from + i];
            if (kind == QZ_AFFINE_UINT4) {
                try[i].inverse = vf_mul(inverse, vf_set1(15 / (15 - move->low)));
                try[i].zero = affine_zero(vf_add(start.mean, vf_set1(move->high)));
                try[i].bias = none;
            } else {
                VF m = vf_fma(scale, vf_set1(move->low), offset);
                if (kind == QZ_AFFINE_MIN)
                    m = affine_at_most(m, vf_neg(g->origin));
                try[i].inverse = vf_mul(inverse, vf_set1(15 / (15 - (move->low + move->high))));
                try[i].bias = vf_mul(vf_neg(m), try[i].inverse);
                try[i].zero = affine_middle(g, try[i].inverse, try[i].bias);
            }
        }
        affine_tries(kind, v, w, n, g, AFFINE_TRIES, try, means);
#pragma GCC unroll 4
        for (int i = 0; i < AFFINE_TRIES; i++)
            affine_better(&best, affine_fit(kind, g, means[i], try[i].zero));
    }
    return best;
}

INLINE struct affine_fit affine_search(enum qz_affine_kind kind, enum qz_affine_list list, const float *v,
                                       const float *w, size_t n, const struct affine_lanes *g)
{
    VF none = vf_set1(0.0f), above = vf_neg(vf_sub(g->range, g->mean));
    struct affine_fit best = {vf_set1(-1.0f), none, none, none};
    struct affine_try try[QZ_AFFINE_STARTS];
    struct affine_means means[QZ_AFFINE_STARTS];
    for (int from = 0; from < qz_affine_start_count(list); from += QZ_AFFINE_STARTS) {
#pragma GCC unroll 2
        for (int i = 0; i < QZ_AFFINE_STARTS; i++) {
            struct qz_affine_begin begin = qz_affine_start(kind, list, n, from + i);
            VF low = vf_mul(g->mean, vf_set1(begin.low)), high = vf_fma(above, vf_set1(begin.high), g->range);
            VF inverse = vf_select(vf_lt(low, high), vf_div(vf_set1(begin.steps), vf_sub(high, low)), none);
            VF bias = vf_mul(vf_neg(low), inverse);
            VF zero = kind == QZ_AFFINE_UINT4 ? affine_zero(vf_mul(vf_neg(vf_add(g->origin, low)), inverse))
                                              : affine_middle(g, inverse, bias);
            try[i] = (struct affine_try){inverse, bias, zero};
        }
        affine_tries(kind, v, w, n, g, QZ_AFFINE_STARTS, try, means);
#pragma GCC unroll 2
        for (int i = 0; i < QZ_AFFINE_STARTS; i++)
            affine_better(&best, affine_fit(kind, g, means[i], try[i].zero));
    }
    for (int round = 0; round < qz_affine_rounds(list); round++)
        best = affine_moved(kind, list, v, w, n, g, best);
    return best;
}

INLINE VF affine_multiple(enum qz_affine_kind kind, VF x, VF inverse, VF zero, VF *t)
{
    VF none = vf_set1(0.0f), fifteen = vf_set1(15.0f);
    *t = kind == QZ_AFFINE_OFFSET ? vf_sub(x, zero) : x;
    VF y = vf_mul(*t, inverse);
    if (kind == QZ_AFFINE_UINT4)
        return affine_code(y, vf_neg(zero), vf_sub(fifteen, zero));
    if (kind == QZ_AFFINE_FLOAT)
        return vf_sub(affine_code(vf_add(y, zero), none, fifteen), zero);
    return affine_code(y, none, fifteen);
}

INLINE VF affine_refit(enum qz_affine_kind kind, const float *v, const float *w, size_t n, VF scale, VF zero)
{
    VF inverse = affine_inverse(scale), none = vf_set1(0.0f), qq = none, tq = none;
    for (size_t k = 0; k < n; k++) {
        VF t, q = affine_multiple(kind, vf_load(v + QZ_BLOCK * k), inverse, zero, &t);
        VF wq = w ? vf_mul(vf_load(w + QZ_BLOCK * k), q) : q;
        qq = vf_fma(wq, q, qq);
        tq = vf_fma(wq, t, tq);
    }
    return vf_select(vm_and(vf_lt(none, qq), vf_lt(none, tq)), vf_div(tq, qq), scale);
}

/* The errors of `count` pairs, a constant: at most 3. */
INLINE void affine_errors(enum qz_affine_kind kind, const float *v, const float *w, size_t n, int count,
                          const VF scale[3], const VF zero[3], VF error[3])
{
    VF none = vf_set1(0.0f), inverse[3], minus[3], sum[3];
#pragma GCC unroll 3
    for (int i = 0; i < count; i++) {
        inverse[i] = affine_inverse(scale[i]);
        minus[i] = vf_neg(scale[i]);
        sum[i] = none;
    }
    for (size_t k = 0; k < n; k++) {
        VF x = vf_load(v + QZ_BLOCK * k), weight = w ? vf_load(w + QZ_BLOCK * k) : none;
#pragma GCC unroll 3
        for (int i = 0; i < count; i++) {
            VF t, q = affine_multiple(kind, x, inverse[i], zero[i], &t);
            VF difference = vf_fma(minus[i], q, t);
            sum[i] = vf_fma(w ? vf_mul(weight, difference) : difference, difference, sum[i]);
        }
    }
#pragma GCC unroll 3
    for (int i = 0; i < count; i++)
        error[i] = sum[i];
}

INLINE void affine_vector(enum qz_affine_kind kind, enum qz_affine_list list, qz_dtype dtype, const float *v,
                          const float *w, size_t n, const float *unit, const struct qz_affine_rule *rule, float *scale,
                          float *zero, struct qz_affine_error *error, size_t l)
{
    VF none = vf_set1(0.0f);
    struct affine_lanes g = affine_range(kind, v, w, n);
    struct affine_fit fit = affine_search(kind, list, v, w, n, &g);
    VF s = affine_scale(&fit), m = affine_offset(kind, &g, &fit, s), z;
    if (kind == QZ_AFFINE_MIN) {
        VF inverse = affine_inverse(s), bias = vf_mul(vf_neg(m), inverse), middle = affine_middle(&g, inverse, bias);
        struct affine_try try = {inverse, bias, middle};
        struct affine_means means;
        affine_tries(kind, v, w, n, &g, 1, &try, &means);
        struct affine_fit last = affine_fit(kind, &g, means, middle);
        VM some = vf_lt(none, last.b);
        s = vf_select(some, affine_scale(&last), s);
        m = vf_select(some, affine_offset(kind, &g, &last, s), m);
        means = affine_whole(&g, means, middle);
        VF slope = vf_select(vf_lt(none, means.qq), vf_div(means.q, means.qq), none);
        VF rest = vf_fma(vf_neg(slope), means.q, vf_set1(1.0f));
        vf_store(scale, s);
        vf_store(zero, vf_add(m, g.origin));
        vf_store(error->curve + l, vf_mul(means.qq, g.total));
        vf_store(error->slope + l, slope);
        vf_store(error->rest + l, vf_mul(rest, g.total));
        return;
    }
    VF factor = vf_load(unit);
    if (kind == QZ_AFFINE_OFFSET)
        z = vf_add(vf_div(fit_stored(vf_mul(vf_add(m, g.origin), factor), dtype), factor), none);
    else if (kind == QZ_AFFINE_FLOAT)
        z = vf_add(fit_stored(vf_mul(vf_neg(vf_add(m, g.origin)), affine_inverse(s)), dtype), none);
    else
        z = fit.mean;
    s = vf_div(fit_stored(vf_mul(affine_refit(kind, v, w, n, s, z), factor), dtype), factor);
    VF scales[3] = {s, vf_load(scale)}, zeros[3] = {z, vf_load(zero)}, sum[3];
    if (rule) {
        scales[2] = vf_load(rule->scale + l);
        zeros[2] = vf_load(rule->zero + l);
        affine_errors(kind, v, w, n, 3, scales, zeros, sum);
        vf_store(error->rule + l, sum[2]);
    } else {
        affine_errors(kind, v, w, n, 2, scales, zeros, sum);
    }
    VM better = vm_and(vf_lt(none, s), vf_lt(sum[0], vf_mul(sum[1], vf_set1(QZ_AFFINE_LESS))));
    vf_store(error->curve + l, vf_select(better, sum[0], sum[1]));
    vf_store(error->slope + l, g.squares);
    vf_store(error->rest + l, g.total);
    vf_store(error->variance + l, g.variance);
    vf_store(scale, vf_select(better, s, scales[1]));
    vf_store(zero, vf_select(better, z, zeros[1]));
}

INLINE void affine_block(enum qz_affine_kind kind, enum qz_affine_list list, qz_dtype dtype, const float *v,
                         const float *w, size_t n, const float *unit, const struct qz_affine_rule *rule, float *scale,
                         float *zero, struct qz_affine_error *error)
{
    for (size_t l = 0; l < QZ_BLOCK; l += LANES) {
        if (w)
            affine_vector(kind, list, dtype, v + l, w + l, n, unit + l, rule, scale + l, zero + l, error, l);
        else
            affine_vector(kind, list, dtype, v + l, NULL, n, unit + l, rule, scale + l, zero + l, error, l);
    }
}

static TARGET void search_affine(enum qz_affine_kind kind, enum qz_affine_list list, qz_dtype dtype, const float *v,
                                 const float *w, size_t n, const float *unit, const struct qz_affine_rule *rule,
                                 float *scale, float *zero, struct qz_affine_error *error)
{
    switch (kind) {
    case QZ_AFFINE_UINT4:
        affine_block(QZ_AFFINE_UINT4, list, dtype, v, w, n, unit, rule, scale, zero, error);
        return;
    case QZ_AFFINE_FLOAT:
        affine_block(QZ_AFFINE_FLOAT, list, dtype, v, w, n, unit, rule, scale, zero, error);
        return;
    case QZ_AFFINE_OFFSET:
        affine_block(QZ_AFFINE_OFFSET, list, dtype, v, w, n, unit, rule, scale, zero, error);
        return;
    case QZ_AFFINE_MIN:
        affine_block(QZ_AFFINE_MIN, list, dtype, v, w, n, unit, rule, scale, zero, error);
    }
}

INLINE void errors_of_pairs(enum qz_affine_kind kind, const struct qz_look *look, const struct qz_affine_rule pair[2],
                            float error[2][QZ_BLOCK])
{
    for (size_t l = 0; l < QZ_BLOCK; l += LANES) {
        const VF scale[3] = {vf_load(pair[0].scale + l), vf_load(pair[1].scale + l)};
        const VF zero[3] = {vf_load(pair[0].zero + l), vf_load(pair[1].zero + l)};
        VF sum[3];
        if (look->w)
            affine_errors(kind, look->v + l, look->w + l, look->n, 2, scale, zero, sum);
        else
            affine_errors(kind, look->v + l, NULL, look->n, 2, scale, zero, sum);
        vf_store(error[0] + l, sum[0]);
        vf_store(error[1] + l, sum[1]);
    }
}

static TARGET void pair_errors(enum qz_affine_kind kind, const struct qz_look *look,
                               const struct qz_affine_rule pair[2], float error[2][QZ_BLOCK])
{
    if (kind == QZ_AFFINE_UINT4)
        errors_of_pairs(QZ_AFFINE_UINT4, look, pair, error);
    else if (kind == QZ_AFFINE_FLOAT)
        errors_of_pairs(QZ_AFFINE_FLOAT, look, pair, error);
    else
        errors_of_pairs(QZ_AFFINE_OFFSET, look, pair, error);
}
