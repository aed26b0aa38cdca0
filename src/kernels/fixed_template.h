/*
 * fixed_template.h - the search for scales in 16-bit integers with vectors
 *
 * A lane is a group, and has two of its values at a time. fixed_scalar.h says what is computed. The file that includes
 * this one says how:
 *
 *   FIXED(name)           the name of a function of this set
 *   FIXED_TARGET FIXED_INLINE      as TARGET and INLINE
 *   vs_pairs(a, b)        two vectors of int32 that fit 16 bits, as pairs
 *   vs_set1(k)            k in all halves
 *   vs_product(x, y)      (x y + 2^14) / 2^15 of each half, rounded down
 *   vs_most(x, k) vs_least(x, k)   the smaller and the larger half
 *   vs_dot(sum, x, y)     sum + the products of both halves
 */

/* Up to four candidates are worked on together; `count` and `first`, whether they are the first ones, are constants. */
#define EACH _Pragma("GCC unroll 4") for (size_t j = 0; j < count; j++)

struct FIXED(sums) {
    VF xq, qq;
};

struct FIXED(lanes) {
    const VI *x; /* two values each */
    size_t pairs;
    VI ratio;
    VF energy;
    struct FIXED(sums) base, rest, best;
};

/* The sums of which xq^2 / qq is larger, the first ones of two. */
FIXED_INLINE struct FIXED(sums) FIXED(better)(struct FIXED(sums) a, struct FIXED(sums) b)
{
    VM better = vf_lt(vf_mul(vf_mul(a.xq, a.xq), b.qq), vf_mul(vf_mul(b.xq, b.xq), a.qq));
    return (struct FIXED(sums)){vf_select(better, b.xq, a.xq), vf_select(better, b.qq, a.qq)};
}

FIXED_INLINE void FIXED(try)(const struct qz_fixed *rule, int first, size_t count, struct FIXED(lanes) * lanes)
{
    const VI one = vs_set1(QZ_FIXED_ONE), most = vs_set1(7), least = vs_set1(-8);
    const VF none = vf_set1(0.0f);
    VI factor[4], xq[4], qq[4];
    VF energy = none;
    EACH
    {
        factor[j] = first && j == 1 ? lanes->ratio : vs_set1(rule->factor[first ? j : rule->first + j]);
        xq[j] = qq[j] = vi_set1(0);
    }
    for (size_t p = 0, end; p < lanes->pairs; p = end) {
        end = p + QZ_FIXED_PART / 2 < lanes->pairs ? p + QZ_FIXED_PART / 2 : lanes->pairs;
        VI part = vi_set1(0);
        for (size_t i = p; i < end; i++) {
            VI x = lanes->x[i], q[4];
            if (first)
                part = vs_dot(part, x, x);
            EACH q[j] = vs_product(x, factor[j]);
            if (first)
                q[1] = vs_product(q[1], one);
            EACH q[j] = vs_most(q[j], most);
            if (!first)
                EACH q[j] = vs_least(q[j], least);
            EACH xq[j] = vs_dot(xq[j], x, q[j]);
            EACH qq[j] = vs_dot(qq[j], q[j], q[j]);
        }
        if (first)
            energy = vf_add(energy, vf_from_vi(part));
    }
    struct FIXED(sums) sums[4];
    EACH
    {
        VF a = vf_from_vi(xq[j]);
        if (rule->positive)
            a = vf_select(vf_lt(none, a), a, none);
        sums[j] = (struct FIXED(sums)){a, vf_from_vi(qq[j])};
    }
    if (first) {
        lanes->base = sums[0];
        lanes->rest = sums[1];
    }
    sums[0] = FIXED(better)(sums[0], sums[1]);
    if (count == 4)
        sums[2] = FIXED(better)(sums[2], sums[3]);
    if (count > 2)
        sums[0] = FIXED(better)(sums[0], sums[2]);
    lanes->best = first ? sums[0] : FIXED(better)(lanes->best, sums[0]);
    if (first)
        lanes->energy = energy;
}

#undef EACH

FIXED_INLINE void FIXED(try_some)(const struct qz_fixed *rule, int first, size_t count, struct FIXED(lanes) * lanes)
{
    if (count == 4)
        FIXED(try)(rule, first, 4, lanes);
    else if (count == 3)
        FIXED(try)(rule, first, 3, lanes);
    else
        FIXED(try)(rule, first, 2, lanes);
}

FIXED_INLINE VF FIXED(gain)(VF scale, struct FIXED(sums) sums)
{
    return vf_mul(scale, vf_sub(vf_add(sums.xq, sums.xq), vf_mul(scale, sums.qq)));
}

FIXED_INLINE VF FIXED(left)(VF energy, VF gain)
{
    VF left = vf_sub(energy, gain), none = vf_set1(0.0f);
    return vf_select(vf_lt(none, left), left, none);
}

static FIXED_TARGET void FIXED(fixed)(const struct qz_fixed *rule, const struct qz_look *look, const float *unit,
                                      const float *other, float *scale, struct qz_gains *gains, uint8_t sure[QZ_BLOCK])
{
    const VF none = vf_set1(0.0f), one = vf_set1(1.0f), step = vf_set1(QZ_FIXED_STEP);
    const VF back_step = vf_set1(1.0f / QZ_FIXED_STEP);
    const float root_n = sqrtf((float)look->n);
    const VF near = vf_set1(QZ_FIXED_NEAR * root_n), far = vf_set1(QZ_FIXED_FAR * root_n);
    VI x[QZ_FIXED_LONGEST / 2];
    for (size_t l = 0; l < QZ_BLOCK; l += LANES) {
        const VF units = vf_load(unit + l), unit_inverse = vf_div(one, units);
        const VF first = vf_load(scale + l), second = vf_load(other + l);
        const VM swapped = vf_lt(vf_abs(second), vf_abs(first));
        const VF base = vf_select(swapped, second, first), rest = vf_select(swapped, first, second);
        const VF low = vf_neg(vf_load(look->low + l)), high = vf_load(look->high + l);
        const VF largest = vf_select(vf_lt(high, low), low, high);
        const VF both = vf_div(one, vf_mul(base, rest)); /* one division for two */
        VF inverse = vf_mul(vf_mul(both, rest), step), ratio = vf_mul(vf_mul(both, base), base);
        VM fits = vf_le(vf_mul(largest, vf_abs(inverse)), vf_set1(rule->most));
        fits = vm_and(fits, vf_le(vf_set1(QZ_FIXED_RATIO), vf_abs(ratio)));
        fits = vm_and(fits, vf_le(vf_abs(ratio), one));
        inverse = vf_select(fits, inverse, none);
        ratio = vf_select(fits, ratio, none);
        const VI of_ratio = vf_round(vf_mul(ratio, vf_set1(32767.0f)));
        struct FIXED(lanes) lanes;
        lanes.x = x;
        lanes.pairs = (look->n + 1) / 2;
        lanes.ratio = vs_pairs(of_ratio, of_ratio);
        for (size_t i = 0; i < lanes.pairs; i++) {
            const float *v = look->v + 2 * i * QZ_BLOCK + l;
            VI even = vf_round(vf_mul(vf_load(v), inverse)), odd = vi_set1(0);
            if (2 * i + 1 < look->n)
                odd = vf_round(vf_mul(vf_load(v + QZ_BLOCK), inverse));
            x[i] = vs_pairs(even, odd);
        }
        FIXED(try_some)(rule, 1, rule->first, &lanes);
        if (rule->count > rule->first)
            FIXED(try_some)(rule, 0, rule->count - rule->first, &lanes);
        VF found = vf_select(vf_lt(none, lanes.best.qq), vf_div(lanes.best.xq, lanes.best.qq), none);
        found = vf_mul(found, vf_mul(base, back_step));
        found = vf_mul(fit_stored(vf_mul(found, units), rule->scale_dtype), unit_inverse);

        const VF gain = FIXED(gain)(vf_mul(found, inverse), lanes.best);
        const VF gain_base = FIXED(gain)(step, lanes.base);
        const VF gain_rest = FIXED(gain)(vf_mul(rest, inverse), lanes.rest);
        const VF left = vf_sub(lanes.energy, gain), left_base = FIXED(left)(lanes.energy, gain_base);
        const VF left_rest = vf_sub(lanes.energy, gain_rest), root = vf_sqrt(left_base);
        const VF twice = vf_add(root, root), slack = vf_mul(lanes.energy, vf_set1(QZ_FIXED_SLACK));
        const VF less = vf_add(vf_mul(near, vf_sub(twice, near)), slack);
        const VF more = vf_add(vf_mul(near, vf_add(twice, near)), slack);
        const VF most = vf_add(vf_mul(far, vf_add(twice, far)), slack);
        VM is_best = vm_and(vf_lt(near, root), vf_lt(vf_add(left, less), left_base));
        is_best = vm_and(is_best, vf_lt(vf_add(left, most), left_rest));
        const VM is_base = vf_lt(vf_add(left_base, most), left_rest);
        const VM is_rest = vf_lt(vf_add(left_rest, more), left_base);
        const VM some = vm_and(fits, vm_or(is_best, vm_or(is_base, is_rest)));
        const VF back = vf_select(fits, vf_mul(base, back_step), none), square = vf_mul(back, back);
        vf_store(scale + l, vf_select(is_best, found, vf_select(is_rest, rest, base)));
        vf_store(gains->best + l, vf_mul(vf_select(is_best, gain, vf_select(is_rest, gain_rest, gain_base)), square));
        vf_store(gains->energy + l, vf_mul(lanes.energy, square));
        vf_store(gains->other + l, vf_set1(-INFINITY));
        vm_to_u8(sure + l, some);
    }
}
