/*
 * nearest_template.h - sums of products and of squared differences in double, and bounds of rows; part of
 * simd_template.h
 */

static TARGET double dot(const float *x, const float *y, size_t n)
{
    return sum_in_lanes(OF_PRODUCTS, x, y, NULL, n);
}

static TARGET double distance(const float *x, const float *y, size_t n)
{
    return sum_in_lanes(OF_SQUARES, x, y, NULL, n);
}

/* Rows whose groups are measured: what their numbers are so far. */
struct measured {
    VF values, parts;
};

/* qz_measure_group for LANES rows; `kind` is a constant. */
INLINE void measure_group(const struct qz_measure *rule, qz_zero kind, float *scale, const float *zero, float *bias,
                          struct measured *found)
{
    const float least = rule->base, most = rule->unit * rule->top + rule->base;
    VF s = vf_load(scale), of_level = vf_mul(s, vf_set1(rule->unit)), shift = vf_mul(s, vf_set1(least));
    VF part = vf_mul(vf_abs(of_level), vf_set1(rule->top)), both = shift;
    VF reach = vf_mul(vf_abs(s), vf_set1(qz_larger(fabsf(least), fabsf(most))));
    if (kind != QZ_ZERO_NONE) {
        VF of_zero = kind == QZ_ZERO_OFFSET ? vf_load(zero) : vf_mul(vf_neg(s), vf_load(zero));
        both = vf_add(shift, of_zero);
        VF low = vf_abs(both), high = vf_abs(vf_add(vf_mul(s, vf_set1(most)), of_zero));
        reach = vf_add(vf_select(vf_lt(high, low), low, high), vf_mul(part, vf_set1(0x1p-20f)));
        part = vf_add(part, vf_abs(of_zero));
    }
    part = vf_add(part, vf_abs(shift));
    vf_store(scale, of_level);
    vf_store(bias, both);
    found->values = vf_select(vf_lt(found->values, reach), reach, found->values);
    found->parts = vf_select(vf_le(part, vf_set1(rule->most)), vf_select(vf_lt(found->parts, part), part, found->parts),
                             vf_set1(INFINITY));
}

INLINE void measure_rows(const struct qz_measure *rule, qz_zero kind, size_t n, size_t groups, size_t pitch,
                         float *scale, const float *zero, float *bias, float *spread, float *size)
{
    const VF none = vf_set1(0.0f);
    for (size_t r = 0; r < n; r += LANES) {
        struct measured found = {none, none};
        for (size_t g = 0; g < groups; g++) {
            size_t at = g * pitch + r;
            measure_group(rule, kind, scale + at, zero + at, bias + at, &found);
        }
        VM usable = vm_and(vf_le(found.parts, vf_set1(rule->most)),
                           vm_or(vf_le(vf_set1(rule->least), found.parts), vf_eq(found.parts, none)));
        vf_store(spread + r, vf_select(usable, vf_mul(found.values, vf_set1(rule->up)), vf_set1(INFINITY)));
        vf_store(size + r, found.parts);
    }
}

static TARGET void measure(const struct qz_measure *rule, size_t n, size_t groups, size_t pitch, float *scale,
                           const float *zero, float *bias, float *spread, float *size)
{
    if (rule->kind == QZ_ZERO_NONE)
        measure_rows(rule, QZ_ZERO_NONE, n, groups, pitch, scale, zero, bias, spread, size);
    else if (rule->kind == QZ_ZERO_OFFSET)
        measure_rows(rule, QZ_ZERO_OFFSET, n, groups, pitch, scale, zero, bias, spread, size);
    else
        measure_rows(rule, QZ_ZERO_FLOAT, n, groups, pitch, scale, zero, bias, spread, size);
}

/* Numbers of LANES rows that every query needs; of terms and groups those of the first. */
struct reached {
    VF bias, scale, size, spread;
};

/* LANES rows from r on: their upper bounds with a query. */
INLINE VF upper_of_rows(const struct qz_reach *rows, const struct reached *of, size_t terms, size_t groups,
                        const int32_t *sum, const float *start, const float factor[2], size_t r)
{
    VF near = vf_set1(0.0f);
    for (size_t t = 0; t < terms; t++) {
        VF bias = t == 0 ? of->bias : vf_load(rows->bias + t * rows->pitch + r);
        near = vf_fma(bias, vf_set1(start[t]), near);
    }
    for (size_t g = 0; g < groups; g++) {
        VF scale = g == 0 ? of->scale : vf_load(rows->scale + g * rows->pitch + r);
        near = vf_fma(scale, vf_from_vi(vi_load(sum + g * rows->pitch + r)), near);
    }
    near = vf_fma(of->size, vf_set1(factor[1]), near);
    return vf_fma(of->spread, vf_set1(factor[0]), near);
}

/* `terms` and `groups` may be constants. */
INLINE void reach_rows(const struct qz_reach *rows, size_t terms, size_t groups, const int32_t *sum, size_t queries,
                       const float *start, const float (*factor)[2], const float *limit, uint64_t *within)
{
    const uint64_t every = ~(uint64_t)0 >> (64 - rows->rows), lanes = ((uint64_t)1 << LANES) - 1;
    for (size_t q = 0; q < queries; q++)
        within[q] = 0;
    for (size_t r = 0; r < rows->rows; r += LANES) {
        const struct reached of = {vf_load(rows->bias + r), vf_load(rows->scale + r), vf_load(rows->size + r),
                                   vf_load(rows->spread + r)};
        for (size_t q = 0; q < queries; q++) {
            VF upper = upper_of_rows(rows, &of, terms, groups, sum + q * groups * rows->pitch, start + q * terms,
                                     factor[q], r);
            within[q] |= ((uint64_t)vm_bits(vf_lt(upper, vf_set1(limit[q]))) ^ lanes) << r;
        }
    }
    for (size_t q = 0; q < queries; q++)
        within[q] &= every;
}

static TARGET void reach(const struct qz_reach *rows, const int32_t *sum, size_t queries, const float *start,
                         const float (*factor)[2], const float *limit, uint64_t *within)
{
    const struct qz_reach same = *rows; /* what is stored does not change it */
    if (same.terms == 1 && same.groups == 1)
        reach_rows(&same, 1, 1, sum, queries, start, factor, limit, within);
    else
        reach_rows(&same, same.terms, same.groups, sum, queries, start, factor, limit, within);
}
