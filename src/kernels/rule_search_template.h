/*
 * rule_search_template.h - the searches of ggml with vectors; part of search_template.h, whose EACH it uses
 *
 * A lane is a group. rule_search_scalar.h says what is computed.
 */
#include "rule_search.h"

/* Tries `first` to `first` + 3 of LANES groups. */
INLINE void try_iq4(const struct search_levels *levels, const float *v, int first, VF largest, VF *scale, VF *best)
{
    enum { count = 4 };
    const VF none = vf_set1(0.0f);
    VF by[4], along[4], square[4];
    EACH
    {
        by[j] = vf_div(vf_set1(qz_rule_iq4_end(first + (int)j)), largest);
        along[j] = square[j] = none;
    }
    if (first == 0)
        by[0] = vf_div(vf_set1(1.0f), vf_div(largest, vf_set1(127.0f)));
    for (size_t k = 0; k < QZ_RULE_SEARCHED; k++) {
        VF x = vf_load(v + QZ_BLOCK * k), w = vf_mul(x, x), q[4];
#ifdef HAS_VP
        nearest_values(levels, BY_CELLS, 4, x, by, q);
#else
        nearest_values(levels, BY_BISECTION, 4, x, by, q);
#endif
        EACH
        {
            VF wq = vf_mul(w, q[j]);
            along[j] = vf_add(along[j], vf_mul(wq, x));
            square[j] = vf_add(square[j], vf_mul(wq, q[j]));
        }
    }
    EACH
    {
        VF found = vf_div(along[j], square[j]), gain = vf_mul(found, along[j]);
        VM better = vf_lt(vf_mul(*best, square[j]), vf_mul(along[j], along[j]));
        better = vm_and(vf_lt(none, square[j]), better);
        *scale = first + (int)j == 0 ? found : vf_select(better, found, *scale);
        *best = first + (int)j == 0 ? gain : vf_select(better, gain, *best);
    }
}

static TARGET void rule_iq4(const float *v, struct qz_rule_groups *groups)
{
    const struct search_levels levels = search_levels(&qz_iq4_levels, 0);
    for (size_t l = 0; l < QZ_RULE_TOGETHER; l += LANES) {
        const float *x = v + qz_rule_group(l);
        VF largest = vf_set1(0.0f), found = largest, best = largest;
        for (size_t k = 0; k < QZ_RULE_SEARCHED; k++) {
            VF next = vf_load(x + QZ_BLOCK * k);
            largest = vf_select(vf_lt(vf_abs(largest), vf_abs(next)), next, largest);
        }
        try_iq4(&levels, x, 0, largest, &found, &best);
        for (int t = 4; t < QZ_RULE_IQ4_TRIES; t += 4)
            try_iq4(&levels, x, t, largest, &found, &best);
        found = vf_select(vf_lt(vf_abs(largest), vf_set1(QZ_RULE_IQ4_LEAST)), vf_set1(0.0f), found);
        vf_store(groups->scale + l, found);
    }
}

/* Groups of Q4_K, a vector of them and another one, which are worked on step by step together. */
enum { Q4_K_VECTORS = 2 };

#define EACH_Q4_K for (size_t j = 0; j < Q4_K_VECTORS; j++)

struct q4_k_lanes {
    const float *v[Q4_K_VECTORS];
    VF w[Q4_K_VECTORS][QZ_RULE_SEARCHED], level[Q4_K_VECTORS][QZ_RULE_SEARCHED];
    VF sum_w[Q4_K_VECTORS], sum_x[Q4_K_VECTORS], sum_l[Q4_K_VECTORS], sum_l2[Q4_K_VECTORS], sum_xl[Q4_K_VECTORS];
};

/* Codes of values, and their sums. Where `by` is infinite or 0, no y is a number from 0 to 2^31, and all codes are 0. */
INLINE void levels_q4_k(struct q4_k_lanes *lanes, const VF *min, const VF *by)
{
    const VF none = vf_set1(0.0f), most = vf_set1(15.0f);
    VF sum_l[Q4_K_VECTORS], sum_l2[Q4_K_VECTORS], sum_xl[Q4_K_VECTORS], from[Q4_K_VECTORS], factor[Q4_K_VECTORS];
    EACH_Q4_K
    {
        VM some = vm_and(vf_lt(none, by[j]), vf_lt(by[j], vf_set1(INFINITY)));
        from[j] = vf_select(some, min[j], none);
        factor[j] = vf_select(some, by[j], none);
        sum_l[j] = sum_l2[j] = sum_xl[j] = none;
    }
    for (size_t k = 0; k < QZ_RULE_SEARCHED; k++)
        EACH_Q4_K
        {
            VF x = vf_load(lanes->v[j] + QZ_BLOCK * k), y = vf_rint(vf_mul(factor[j], vf_sub(x, from[j])));
            y = vf_between(y, none, most);
            VF wl = vf_mul(lanes->w[j][k], y);
            lanes->level[j][k] = y;
            sum_l[j] = vf_add(sum_l[j], wl);
            sum_l2[j] = vf_add(sum_l2[j], vf_mul(wl, y));
            sum_xl[j] = vf_add(sum_xl[j], vf_mul(wl, x));
        }
    EACH_Q4_K
    {
        lanes->sum_l[j] = sum_l[j];
        lanes->sum_l2[j] = sum_l2[j];
        lanes->sum_xl[j] = sum_xl[j];
    }
}

INLINE void errors_q4_k(const struct q4_k_lanes *lanes, const VF *scale, const VF *min, VF *error)
{
    VF sum[Q4_K_VECTORS];
    EACH_Q4_K sum[j] = vf_set1(0.0f);
    for (size_t k = 0; k < QZ_RULE_SEARCHED; k++)
        EACH_Q4_K
        {
            VF off = vf_add(vf_mul(scale[j], lanes->level[j][k]), min[j]);
            off = vf_sub(off, vf_load(lanes->v[j] + QZ_BLOCK * k));
            sum[j] = vf_add(sum[j], vf_mul(lanes->w[j][k], vf_mul(off, off)));
        }
    EACH_Q4_K error[j] = sum[j];
}

/* The largest values, and `min`: the least or 0. Weights and the sums that do not change. */
INLINE VF begin_q4_k(struct q4_k_lanes *lanes, size_t j, VF *min)
{
    const VF none = vf_set1(0.0f);
    VF squares = none, max = vf_load(lanes->v[j]), sum_w = none, sum_x = none;
    *min = max;
    for (size_t k = 0; k < QZ_RULE_SEARCHED; k++) {
        VF x = vf_load(lanes->v[j] + QZ_BLOCK * k);
        squares = vf_add(squares, vf_mul(x, x));
        *min = vf_select(vf_lt(x, *min), x, *min);
        max = vf_select(vf_lt(max, x), x, max);
    }
    const VF typical = vf_sqrt(vf_div(squares, vf_set1((float)QZ_RULE_SEARCHED)));
    for (size_t k = 0; k < QZ_RULE_SEARCHED; k++) {
        VF x = vf_load(lanes->v[j] + QZ_BLOCK * k), w = vf_add(typical, vf_abs(x));
        lanes->w[j][k] = w;
        sum_w = vf_add(sum_w, w);
        sum_x = vf_add(sum_x, vf_mul(w, x));
    }
    lanes->sum_w[j] = sum_w;
    lanes->sum_x[j] = sum_x;
    *min = vf_select(vf_lt(*min, none), *min, none);
    return max;
}

/* Scale and minimum that suit codes best, where these tell. */
INLINE VM refit_q4_k(const struct q4_k_lanes *lanes, size_t j, VF *scale, VF *min)
{
    const VF none = vf_set1(0.0f), sum_w = lanes->sum_w[j], sum_x = lanes->sum_x[j];
    const VF sum_l = lanes->sum_l[j], sum_l2 = lanes->sum_l2[j], sum_xl = lanes->sum_xl[j];
    VF det = vf_sub(vf_mul(sum_w, sum_l2), vf_mul(sum_l, sum_l));
    *scale = vf_div(vf_sub(vf_mul(sum_w, sum_xl), vf_mul(sum_x, sum_l)), det);
    *min = vf_div(vf_sub(vf_mul(sum_l2, sum_x), vf_mul(sum_l, sum_xl)), det);
    VM above = vf_lt(none, *min);
    *scale = vf_select(above, vf_div(sum_xl, sum_l2), *scale);
    *min = vf_select(above, none, *min);
    return vf_lt(none, det);
}

static TARGET void rule_q4_k(const float *v, struct qz_rule_groups *found)
{
    for (size_t l = 0; l < QZ_RULE_TOGETHER; l += Q4_K_VECTORS * LANES) {
        const VF none = vf_set1(0.0f);
        struct q4_k_lanes lanes; /* which takes long to clear */
        VF max[Q4_K_VECTORS], min[Q4_K_VECTORS], by[Q4_K_VECTORS], scale[Q4_K_VECTORS], from[Q4_K_VECTORS];
        VF best[Q4_K_VECTORS], first[Q4_K_VECTORS], new_by[Q4_K_VECTORS], new_scale[Q4_K_VECTORS];
        VF new_min[Q4_K_VECTORS], error[Q4_K_VECTORS];
        VM tell[Q4_K_VECTORS];
        EACH_Q4_K
        {
            size_t at = l + LANES * j;
            lanes.v[j] = v + qz_rule_group(at);
            max[j] = begin_q4_k(&lanes, j, &min[j]);
            first[j] = from[j] = min[j];
            by[j] = vf_div(vf_set1(15.0f), vf_sub(max[j], min[j]));
            scale[j] = vf_div(vf_set1(1.0f), by[j]);
        }
        levels_q4_k(&lanes, min, by);
        errors_q4_k(&lanes, scale, min, best);
        for (int t = 0; t < QZ_RULE_Q4_K_TRIES; t++) {
            EACH_Q4_K new_by[j] = vf_div(vf_set1(qz_rule_q4_k_steps(t)), vf_sub(max[j], min[j]));
            levels_q4_k(&lanes, min, new_by);
            EACH_Q4_K tell[j] = refit_q4_k(&lanes, j, &new_scale[j], &new_min[j]);
            errors_q4_k(&lanes, new_scale, new_min, error);
            EACH_Q4_K
            {
                VM better = vm_and(tell[j], vf_lt(error[j], best[j]));
                best[j] = vf_select(better, error[j], best[j]);
                by[j] = vf_select(better, new_by[j], by[j]);
                from[j] = vf_select(better, min[j], from[j]);
                scale[j] = vf_select(better, new_scale[j], scale[j]);
                min[j] = vf_select(better, new_min[j], min[j]);
            }
        }
        EACH_Q4_K
        {
            const size_t at = l + LANES * j;
            const VM flat = vf_eq(max[j], first[j]);
            vf_store(found->scale + at, vf_select(flat, none, scale[j]));
            vf_store(found->min + at, vf_select(flat, first[j], min[j]));
            vf_store(found->by + at, vf_select(flat, none, by[j]));
            vf_store(found->from + at, vf_select(flat, first[j], from[j]));
        }
    }
}

#undef EACH_Q4_K
