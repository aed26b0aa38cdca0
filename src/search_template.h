/*
 * search_template.h - the search of scales with vectors; part of simd_template.h
 *
 * A lane is a group. What is computed is said in search_scalar.h.
 */

INLINE VF nearest_e4m3(VF v)
{
    VF magnitude = vf_abs(v), unit = vf_power(magnitude), least = vf_set1(0x1p-6f), most = vf_set1(448.0f);
    unit = vf_select(vf_lt(least, unit), unit, least);
    magnitude = vf_mul(vf_rint(vf_mul(magnitude, vf_div(vf_set1(8.0f), unit))), vf_mul(unit, vf_set1(0.125f)));
    magnitude = vf_select(vf_lt(magnitude, most), magnitude, most);
    return vf_select(vf_lt(v, vf_set1(0.0f)), vf_neg(magnitude), magnitude);
}

INLINE VM ordinary(VF v)
{
    return vm_and(vf_le(vf_set1(FLT_MIN), v), vf_le(v, vf_set1(0x1p120f)));
}

INLINE VF inverse_of(VF v)
{
    return vf_select(ordinary(vf_abs(v)), vf_div(vf_set1(1.0f), v), vf_set1(0.0f));
}

/* inverse: 1 / unit; super: 0 if it is not ordinary */
INLINE VF stored_scale(VF s, qz_dtype dtype, VF unit, VF inverse, VF super)
{
    VF none = vf_set1(0.0f);
    switch (dtype) {
    case QZ_E4M3:
    case QZ_I6:
    case QZ_I7:
        s = vf_select(vf_lt(none, super), vf_div(s, super), none);
        if (dtype == QZ_E4M3)
            s = nearest_e4m3(s);
        else if (dtype == QZ_I6)
            s = vf_between(vf_rint(s), vf_set1(-32.0f), vf_set1(31.0f));
        else
            s = vf_between(vf_rint(s), vf_set1(-64.0f), vf_set1(63.0f));
        return vf_mul(s, super);
    case QZ_E8M0:
        return vf_mul(vf_power(vf_mul(vf_mul(s, unit), vf_set1(0x1.6a09e6p+0f))), inverse);
    default:
        return vf_mul(fit_stored(vf_mul(s, unit), dtype), inverse);
    }
}

#ifndef SEARCHED
#define SEARCHED 2
#endif

/* What finds the nearest value: those of a table are looked up by bisection, index = 8 a + 4 b + 2 c + d. */
struct search_levels {
    VF lo, hi;                     /* uniform */
    VF middle, quarter[2];         /* upper[7], upper[3] and upper[11] */
    VT eighths, sixteenths, value; /* lane i: upper[i + 1], upper[i], value[i] */
};

INLINE struct search_levels search_levels(const struct qz_search *rule, int set)
{
    const float *upper = rule->upper[set];
    float moved[16] = {0};
    memcpy(moved, upper + 1, 15 * sizeof *upper);
    return (struct search_levels){.lo = vf_set1(rule->lo),
                                  .hi = vf_set1(rule->hi),
                                  .middle = vf_set1(upper[7]),
                                  .quarter = {vf_set1(upper[3]), vf_set1(upper[11])},
                                  .eighths = vt_load(moved),
                                  .sixteenths = vt_load(upper),
                                  .value = vt_load(rule->value[set])};
}

/* The nearest values for SEARCHED candidates, step by step together, so that one does not wait for another. */
INLINE void nearest_values(const struct search_levels *levels, int uniform, size_t count, VF x, const VF *inverse,
                           VF *value)
{
    VF y[SEARCHED], next[SEARCHED];
    VI index[SEARCHED];
#define EACH _Pragma("GCC unroll 8") for (size_t j = 0; j < count; j++)
    EACH y[j] = vf_mul(x, inverse[j]);
    if (uniform) {
        EACH y[j] = vf_between(y[j], levels->lo, levels->hi);
        EACH value[j] = vf_rint(y[j]);
        return;
    }
    EACH
    {
        VM above = vf_le(levels->middle, y[j]);
        index[j] = vi_add_where(above, vi_set1(0), 8);
        next[j] = vf_select(above, levels->quarter[1], levels->quarter[0]);
    }
    EACH index[j] = vi_add_where(vf_le(next[j], y[j]), index[j], 4);
    EACH next[j] = vt_lookup(levels->eighths, index[j]);
    EACH index[j] = vi_add_where(vf_le(next[j], y[j]), index[j], 2);
    EACH next[j] = vt_lookup(levels->sixteenths, index[j]);
    EACH index[j] = vi_add_where(vf_le(next[j], y[j]), index[j], 1);
    EACH value[j] = vt_lookup(levels->value, index[j]);
}

/* Several candidates at a time. */
INLINE void candidate_sums(const struct search_levels *levels, int uniform, size_t count, const float *v,
                           const float *weight, size_t n, const VF *inverse, VF *sum_xq, VF *sum_qq)
{
    VF xq[SEARCHED], qq[SEARCHED];
    EACH xq[j] = qq[j] = vf_set1(0.0f);
    for (size_t k = 0; k < n; k++) {
        VF x = vf_load(v + QZ_BLOCK * k), q[SEARCHED];
        nearest_values(levels, uniform, count, x, inverse, q);
        EACH
        {
            VF weighted = weight ? vf_mul(vf_load(weight + QZ_BLOCK * k), q[j]) : q[j];
            xq[j] = vf_fma(weighted, x, xq[j]);
            qq[j] = vf_fma(weighted, q[j], qq[j]);
        }
    }
    EACH sum_xq[j] = xq[j], sum_qq[j] = qq[j];
}

/* LANES groups. Whether values are uniform, and whether there are weights, is a constant. */
INLINE void search_vector(const struct qz_search *rule, int uniform, const float *v, const float *weight, size_t n,
                          VF unit, VF super, float *scale, uint8_t *second)
{
    const VF none = vf_set1(0.0f);
    const qz_dtype dtype = rule->scale_dtype;
    VF first = vf_load(scale), first_inverse = inverse_of(first), unit_inverse = vf_div(vf_set1(1.0f), unit);
    super = vf_select(ordinary(super), super, none);
    VF best_gain = none, best = stored_scale(first, dtype, unit, unit_inverse, super);
    VM second_best = vm_none();
    for (int set = 0; set < 2; set++) {
        size_t end = set ? rule->count : rule->plain;
        struct search_levels levels = search_levels(rule, set);
        for (size_t c = set ? rule->plain : 0; c < end; c += SEARCHED) {
            VF inverse[SEARCHED], s[SEARCHED], sum_xq[SEARCHED], sum_qq[SEARCHED];
#pragma GCC unroll 8
            for (size_t j = 0; j < SEARCHED; j++) { /* the last one again where there is no other: it gains no more */
                VF factor = vf_set1(rule->factor[c + j < end ? c + j : c]);
                s[j] = first;
                inverse[j] = vf_mul(first_inverse, factor);
                if (!rule->refit) {
                    s[j] = stored_scale(vf_div(first, factor), dtype, unit, unit_inverse, super);
                    inverse[j] = inverse_of(s[j]);
                }
            }
            candidate_sums(&levels, uniform, SEARCHED, v, weight, n, inverse, sum_xq, sum_qq);
#pragma GCC unroll 8
            for (size_t j = 0; j < SEARCHED; j++) {
                if (rule->refit) {
                    s[j] = vf_div(sum_xq[j], sum_qq[j]);
                    if (rule->positive)
                        s[j] = vf_select(vf_lt(none, s[j]), s[j], none);
                    s[j] = stored_scale(s[j], dtype, unit, unit_inverse, super);
                }
                VF gain = vf_mul(s[j], vf_fma(vf_neg(s[j]), sum_qq[j], vf_add(sum_xq[j], sum_xq[j])));
                VM better = vf_lt(best_gain, gain);
                best_gain = vf_select(better, gain, best_gain);
                best = vf_select(better, s[j], best);
                if (set)
                    second_best = vm_or(second_best, better);
            }
        }
    }
    vf_store(scale, best);
    vm_to_u8(second, second_best);
}

static TARGET void search_scale(const struct qz_search *rule, const float *v, const float *weight, size_t n,
                                const float *unit, const float *super, float *scale, uint8_t *second)
{
    for (size_t l = 0; l < QZ_BLOCK; l += LANES) {
        VF units = vf_load(unit + l), supers = super ? vf_load(super + l) : vf_set1(1.0f);
        if (rule->uniform && !weight)
            search_vector(rule, 1, v + l, NULL, n, units, supers, scale + l, second + l);
        else if (rule->uniform)
            search_vector(rule, 1, v + l, weight + l, n, units, supers, scale + l, second + l);
        else if (!weight)
            search_vector(rule, 0, v + l, NULL, n, units, supers, scale + l, second + l);
        else
            search_vector(rule, 0, v + l, weight + l, n, units, supers, scale + l, second + l);
    }
}
