/*
 * fixed_affine_template.h - the search for scale and zero in 16-bit integers with vectors
 *
 * A lane is a group, and has two of its values at a time. fixed_affine_scalar.h says what is computed. The file that
 * includes this one has included affine_template.h, says what fixed_template.h asks for, and:
 *
 *   vs_add(x, y)          the sums of halves, which fit
 */

struct FIXED(affine) {
    const VI *fine, *coarse; /* two values each */
    size_t pairs;
    VF origin, inverse, sum, squares, share, mean, low, range, centre;
    VM fits;
};

struct FIXED(codes) {
    VI shift, factor, least, most;
};

struct FIXED(tally) {
    VF q, qq, tq;
};

struct FIXED(pair) {
    VF bias, offset, zero;
};

/* The kind is a constant in all inlined functions, and so is `count`, at most 4. */
#define EACH _Pragma("GCC unroll 4") for (size_t j = 0; j < count; j++)

/* All from the same values, told by candidates; or, to decide, the first one of these and the second one of `fine`. */
FIXED_INLINE void FIXED(tally_of)(enum qz_affine_kind kind, const struct FIXED(affine) * g, int decide, size_t count,
                                  const struct FIXED(codes) * codes, struct FIXED(tally) * sums)
{
    const int whole = kind == QZ_AFFINE_UINT4;
    const VI least = vs_set1(-8), most = vs_set1(7);
    VI sum[4], qq[4], tq[4];
    EACH sum[j] = qq[j] = tq[j] = vi_set1(0);
    for (size_t i = 0; i < g->pairs; i++) {
        const VI y = g->coarse[i], t = decide ? g->fine[i] : y;
        VI q[4];
        EACH q[j] = decide && j == 1 ? t : y;
        EACH if (!whole && !(decide && j == 1)) q[j] = vs_add(q[j], codes[j].shift);
        EACH q[j] = vs_product(q[j], codes[j].factor);
        EACH q[j] = vs_least(q[j], whole ? codes[j].least : least);
        EACH q[j] = vs_most(q[j], whole ? codes[j].most : most);
        EACH if (!whole) sum[j] = vs_add(sum[j], q[j]);
        EACH qq[j] = vs_dot(qq[j], q[j], q[j]);
        EACH tq[j] = vs_dot(tq[j], t, q[j]);
    }
    EACH
    {
        sums[j].q = vf_from_vi(vs_dot(vi_set1(0), sum[j], vs_set1(1)));
        sums[j].qq = vf_from_vi(qq[j]);
        sums[j].tq = vf_from_vi(tq[j]);
    }
}

FIXED_INLINE VI FIXED(both)(VF x)
{
    const VI whole = vf_round(x);
    return vs_pairs(whole, whole);
}

FIXED_INLINE struct FIXED(codes) FIXED(codes_of)(enum qz_affine_kind kind, VF inverse, VF middle, VF zero)
{
    const VF largest = vf_set1(32767.0f), far = vf_set1(QZ_FIXED_SHIFT), near = vf_set1(-QZ_FIXED_SHIFT);
    VF factor = vf_mul(inverse, vf_set1(QZ_FIXED_FACTOR));
    factor = vf_select(vf_lt(factor, largest), factor, largest);
    struct FIXED(codes) codes;
    codes.factor = FIXED(both)(factor);
    codes.shift = codes.least = codes.most = codes.factor;
    if (kind == QZ_AFFINE_UINT4) {
        codes.least = FIXED(both)(vf_neg(zero));
        codes.most = FIXED(both)(vf_sub(vf_set1(15.0f), zero));
    } else {
        VF shift = vf_mul(vf_neg(middle), vf_set1(QZ_FIXED_COARSE));
        shift = vf_select(vf_lt(shift, far), shift, far);
        codes.shift = FIXED(both)(vf_select(vf_lt(near, shift), shift, near));
    }
    return codes;
}

/* Takes the best of the fits that `count` codes make, 2 or 4: two and two are compared first. */
FIXED_INLINE void FIXED(tries)(enum qz_affine_kind kind, const struct FIXED(affine) * g, size_t count,
                               const struct FIXED(codes) * codes, const VF *zero, struct affine_fit *best)
{
    const VF none = vf_set1(0.0f), share = vf_mul(g->share, vf_set1(1.0f / QZ_FIXED_COARSE));
    struct FIXED(tally) sums[4];
    struct affine_fit fits[4];
    FIXED(tally_of)(kind, g, 0, count, codes, sums);
    EACH
    {
        const VF q = vf_mul(sums[j].q, g->share), qq = vf_mul(sums[j].qq, g->share), tq = vf_mul(sums[j].tq, share);
        struct affine_fit fit = {vf_mul(tq, tq), tq, qq, zero[j]};
        VM some;
        if (kind == QZ_AFFINE_UINT4) {
            some = vm_and(vf_lt(none, qq), vf_lt(none, tq));
        } else {
            const VF minus_q = vf_neg(q);
            fit.a = vf_fma(minus_q, g->mean, tq);
            fit.b = vf_fma(minus_q, q, qq);
            fit.gain = vf_mul(fit.a, fit.a);
            fit.mean = q;
            some = vm_and(vf_lt(vf_mul(qq, vf_set1(QZ_AFFINE_FLAT)), fit.b), vf_lt(none, fit.a));
        }
        fit.gain = vf_select(some, fit.gain, vf_set1(-1.0f));
        fit.b = vf_select(some, fit.b, none);
        fits[j] = fit;
    }
    affine_better(&fits[0], fits[1]);
    if (count == 4) {
        affine_better(&fits[2], fits[3]);
        affine_better(&fits[0], fits[2]);
    }
    affine_better(best, fits[0]);
}

#undef EACH

/* That of the scale: as far as it matters, and without waiting for it. */
FIXED_INLINE VF FIXED(inverse_of)(const struct affine_fit *fit)
{
    const VF none = vf_set1(0.0f);
    return vf_select(vf_lt(none, fit->b), vf_div(fit->b, fit->a), none);
}

/* Where moves begin. */
struct FIXED(start) {
    VF scale, inverse, middle, mean;
};

/* The best of two starts. */
FIXED_INLINE struct FIXED(start)
    FIXED(starts)(enum qz_affine_kind kind, size_t n, const struct FIXED(affine) * g, struct affine_fit *best)
{
    const int whole = kind == QZ_AFFINE_UINT4;
    const VF none = vf_set1(0.0f), one = vf_set1(1.0f), above = vf_neg(vf_sub(g->range, g->centre));
    struct FIXED(codes) codes[4];
    VF zero[4];
    *best = (struct affine_fit){vf_set1(-1.0f), none, none, none};
#pragma GCC unroll 2
    for (int i = 0; i < QZ_AFFINE_STARTS; i++) {
        const VF share = vf_set1(qz_affine_start(kind, QZ_AFFINE_USUAL, n, i).low);
        const VF low = vf_mul(g->centre, share), high = vf_fma(above, share, g->range);
        const VF scale = vf_mul(vf_sub(high, low), vf_set1(1.0f / 15));
        const VF inverse = vf_select(vf_lt(none, scale), vf_div(one, scale), none), from = vf_add(g->low, low);
        zero[i] = whole ? affine_zero(vf_mul(vf_neg(from), inverse)) : none;
        codes[i] = FIXED(codes_of)(kind, inverse, vf_fma(vf_set1(8.0f), scale, from), zero[i]);
    }
    FIXED(tries)(kind, g, QZ_AFFINE_STARTS, codes, zero, best);
    const VF scale = affine_scale(best);
    return (struct FIXED(start)){scale, FIXED(inverse_of)(best), vf_fma(vf_neg(scale), best->mean, g->mean),
                                 best->mean};
}

/* The best of what some moves make of the start, and of the best so far. */
FIXED_INLINE void FIXED(moves)(enum qz_affine_kind kind, size_t n, const struct FIXED(affine) * g, int from,
                               const struct FIXED(start) * start, struct affine_fit *best)
{
    const int whole = kind == QZ_AFFINE_UINT4;
    const struct qz_affine_shift *moves = qz_affine_shifts(kind, n);
    struct FIXED(codes) codes[4];
    VF zero[4];
#pragma GCC unroll 4
    for (int i = 0; i < QZ_FIXED_TRIES; i++) {
        const struct qz_affine_shift move = moves[from + i];
        zero[i] = whole ? affine_zero(vf_add(start->mean, vf_set1(move.zero))) : vf_set1(0.0f);
        codes[i] = FIXED(codes_of)(kind, vf_mul(start->inverse, vf_set1(move.inverse)),
                                   vf_fma(start->scale, vf_set1(move.place), start->middle), zero[i]);
    }
    FIXED(tries)(kind, g, QZ_FIXED_TRIES, codes, zero, best);
}

FIXED_INLINE struct FIXED(pair)
    FIXED(pair_of)(enum qz_affine_kind kind, const struct FIXED(affine) * g, const struct affine_fit *fit, VF scale,
                   VF plain, VF unit, VF unit_inverse, qz_dtype dtype)
{
    const VF none = vf_set1(0.0f), eight = vf_set1(8.0f);
    if (kind == QZ_AFFINE_UINT4)
        return (struct FIXED(pair)){none, none, fit->mean};
    const VF middle = vf_fma(vf_neg(scale), vf_add(fit->mean, eight), g->mean);
    const VF offset = vf_fma(middle, plain, g->origin);
    const VF zero = vf_add(vf_mul(fit_stored(vf_mul(offset, unit), dtype), unit_inverse), none);
    return (struct FIXED(pair)){eight, vf_mul(vf_neg(vf_sub(zero, g->origin)), g->inverse), zero};
}

FIXED_INLINE VF FIXED(error)(const struct FIXED(affine) * g, VF n, struct FIXED(tally) sums, VF scale, VF middle)
{
    const VF twice = vf_add(g->sum, g->sum);
    const VF from = vf_fma(vf_sub(vf_mul(n, middle), twice), middle, g->squares);
    const VF product = vf_fma(vf_neg(middle), sums.q, sums.tq);
    return vf_fma(scale, vf_fma(scale, sums.qq, vf_neg(vf_add(product, product))), from);
}

FIXED_INLINE VM FIXED(less)(VF error, VF plain, VF reach, VF slack)
{
    const VF root = vf_sqrt(plain);
    const VF more = vf_add(vf_mul(reach, vf_sub(vf_add(root, root), reach)), slack);
    return vm_and(vf_lt(reach, root), vf_lt(vf_add(error, more), plain));
}

/* Where a pair is known to be no better than one with that error: by how far it is from the plain one, or by its own
 * error. */
FIXED_INLINE VM FIXED(is_safe)(enum qz_affine_kind kind, const struct FIXED(affine) * g, VF n, VF root_n, VF error,
                               VF known, VF plain_scale, VF plain_zero, VF scale, VF zero)
{
    const VF none = vf_set1(0.0f), one = vf_set1(1.0f), reach = vf_set1(QZ_FIXED_NEAR);
    const VF slack = vf_mul(g->squares, vf_set1(QZ_FIXED_SLACK));
    const VF steps = vf_mul(vf_set1(15.0f), vf_sub(scale, plain_scale)), moved = vf_sub(zero, plain_zero);
    const VM same = vf_eq(moved, none);
    VF apart = vf_abs(steps), from = none;
    if (kind == QZ_AFFINE_OFFSET) {
        const VF low = vf_abs(moved), high = vf_abs(vf_add(moved, steps));
        apart = vf_select(vf_lt(low, high), high, low);
        from = vf_mul(vf_sub(vf_fma(scale, vf_set1(8.0f), zero), g->origin), g->inverse);
    }
    apart = vf_mul(apart, g->inverse);
    const VM near = vf_le(apart, vf_set1(QZ_FIXED_APART));
    if (kind == QZ_AFFINE_UINT4)
        apart = vf_select(same, apart, vf_set1(INFINITY));
    const VM safe = FIXED(less)(error, known, vf_mul(vf_add(apart, reach), root_n), slack);
    if (!vm_any(vf_lt(vf_select(safe, one, none), vf_select(near, one, none))))
        return safe;
    const VF ratio = vf_select(near, vf_div(plain_scale, scale), one), units = vf_mul(scale, g->inverse);
    const VI shift = FIXED(both)(vf_select(near, vf_mul(vf_neg(from), ratio), none));
    const VI factor = FIXED(both)(vf_mul(vf_sub(ratio, one), vf_set1(32768.0f)));
    const VI to_codes = vs_set1(QZ_FIXED_ONE);
    VI least = vs_set1(-8), most = vs_set1(7), sum = vi_set1(0), qq = sum, tq = sum;
    if (kind == QZ_AFFINE_UINT4) {
        least = FIXED(both)(vf_neg(zero));
        most = FIXED(both)(vf_sub(vf_set1(15.0f), zero));
    }
    for (size_t i = 0; i < g->pairs; i++) {
        const VI t = g->fine[i];
        VI q = vs_add(vs_add(t, shift), vs_product(t, factor));
        q = vs_most(vs_least(vs_product(q, to_codes), least), most);
        sum = vs_add(sum, q);
        qq = vs_dot(qq, q, q);
        tq = vs_dot(tq, t, q);
    }
    const struct FIXED(tally) tally = {vf_from_vi(vs_dot(vi_set1(0), sum, vs_set1(1))), vf_from_vi(qq), vf_from_vi(tq)};
    VF own = FIXED(error)(g, n, tally, units, from);
    own = vf_select(vf_lt(none, own), own, none);
    const VM less = FIXED(less)(error, own, vf_mul(vf_set1(QZ_FIXED_RULE), root_n), slack);
    return vm_or(safe, vm_and(near, less));
}

/* Values as integers. */
FIXED_INLINE void FIXED(prepare)(enum qz_affine_kind kind, const struct qz_fixed_affine_task *task, size_t l, VI *fine,
                                 VI *coarse, struct FIXED(affine) * g)
{
    const struct qz_look *look = &task->look;
    const VF scale = vf_load(task->scale + l), zero = vf_load(task->zero + l);
    const int whole = kind == QZ_AFFINE_UINT4;
    const VF none = vf_set1(0.0f), step_share = vf_set1(1 / QZ_FIXED_STEP);
    const VF most = vf_set1(whole ? QZ_FIXED_WHOLE : QZ_FIXED_HALF), least = vf_neg(most);
    const VF inverse = vf_div(vf_set1(QZ_FIXED_STEP), scale);
    const VF origin = whole ? none : vf_fma(scale, vf_set1(8.0f), zero);
    VF low = vf_mul(vf_sub(vf_load(look->low + l), origin), inverse);
    VF high = vf_mul(vf_sub(vf_load(look->high + l), origin), inverse);
    VM fits = vm_and(vf_lt(none, scale), vm_and(vf_le(least, low), vf_le(high, most)));
    fits = vm_and(fits, vf_le(vf_abs(vf_mul(origin, inverse)), vf_set1(QZ_FIXED_FAR_OFF)));
    g->origin = vf_select(fits, origin, none);
    g->inverse = vf_select(fits, inverse, none);
    low = vf_mul(vf_select(fits, low, none), step_share);
    high = vf_mul(vf_select(fits, high, none), step_share);
    g->fine = fine;
    g->coarse = coarse;
    g->pairs = look->n / 2;
    g->squares = none;
    const VI to_coarse = vs_set1(QZ_FIXED_TO_COARSE), one = vs_set1(1);
    VI sum = vi_set1(0);
    for (size_t p = 0, end; p < g->pairs; p = end) {
        end = p + QZ_FIXED_AFFINE_PART / 2 < g->pairs ? p + QZ_FIXED_AFFINE_PART / 2 : g->pairs;
        VI part = vi_set1(0);
        for (size_t i = p; i < end; i++) {
            const float *v = look->v + 2 * i * QZ_BLOCK + l;
            const VI even = vf_round(vf_mul(vf_sub(vf_load(v), g->origin), g->inverse));
            const VI odd = vf_round(vf_mul(vf_sub(vf_load(v + QZ_BLOCK), g->origin), g->inverse));
            const VI x = vs_pairs(even, odd);
            fine[i] = x;
            coarse[i] = vs_product(x, to_coarse);
            sum = vs_dot(sum, x, one);
            part = vs_dot(part, x, x);
        }
        g->squares = vf_add(g->squares, vf_from_vi(part));
    }
    g->sum = vf_from_vi(sum);
    g->share = vf_set1(1 / (float)look->n);
    g->mean = vf_mul(g->sum, vf_mul(g->share, step_share));
    g->low = whole ? vf_select(vf_lt(none, low), none, low) : low;
    high = whole ? vf_select(vf_lt(high, none), none, high) : high;
    g->range = vf_sub(high, g->low);
    g->centre = vf_sub(g->mean, g->low);
    g->fits = fits;
}

/* The better one of the plain pair and that of the best fit, and how good it is. */
FIXED_INLINE void FIXED(settle)(enum qz_affine_kind kind, qz_dtype dtype, const struct qz_fixed_affine_task *task,
                                size_t l, const struct FIXED(affine) * g, const struct affine_fit *fit)
{
    const float length = (float)task->look.n;
    const VF none = vf_set1(0.0f), one = vf_set1(1.0f), n = vf_set1(length), two = vf_set1(2.0f);
    const VF root_n = vf_set1(sqrtf(length)), reach = vf_mul(vf_set1(QZ_FIXED_NEAR), root_n);
    const struct qz_affine_rule *rule = task->rule;
    struct qz_affine_error *error = task->error;
    const VF plain_scale = vf_load(task->scale + l), plain_zero = vf_load(task->zero + l);
    const VF units = vf_load(task->unit + l), unit_inverse = vf_div(one, units);
    const VF back = vf_mul(plain_scale, vf_set1(1 / QZ_FIXED_STEP)), square = vf_mul(back, back);
    const VF s = affine_scale(fit);
    const struct FIXED(pair) pair = FIXED(pair_of)(kind, g, fit, s, plain_scale, units, unit_inverse, dtype);
    const VF middle = vf_fma(s, pair.bias, vf_mul(pair.offset, vf_set1(-1 / QZ_FIXED_STEP)));
    const struct FIXED(codes) codes[2] = {FIXED(codes_of)(kind, FIXED(inverse_of)(fit), middle, pair.zero),
                                          FIXED(codes_of)(kind, vf_set1(QZ_FIXED_PLAIN), none, plain_zero)};
    struct FIXED(tally) both[2];
    FIXED(tally_of)(kind, g, 1, 2, codes, both);
    const struct FIXED(tally) sums = both[0], plain = both[1];
    const VF qq = vf_fma(pair.bias, vf_fma(pair.bias, n, vf_mul(two, sums.q)), sums.qq);
    const VF tq = vf_fma(pair.bias, vf_fma(pair.offset, n, g->sum), vf_fma(pair.offset, sums.q, sums.tq));
    VF found = vf_select(vm_and(vf_lt(none, qq), vf_lt(none, tq)), vf_div(tq, qq), none);
    found = vf_mul(fit_stored(vf_mul(vf_mul(found, back), units), dtype), unit_inverse);
    const VF found_units = vf_mul(found, g->inverse), slack = vf_mul(g->squares, vf_set1(QZ_FIXED_SLACK));
    VF known = FIXED(error)(g, n, plain, vf_set1(QZ_FIXED_STEP), none);
    const VF other = FIXED(error)(g, n, sums, found_units, vf_fma(found_units, pair.bias, vf_neg(pair.offset)));
    known = vf_select(vf_lt(none, known), known, none);
    const VM better = vm_and(vf_lt(none, found), FIXED(less)(other, known, reach, slack));
    VF left = vf_select(better, other, known);
    left = vf_select(vf_lt(none, left), left, none);
    vf_store(error->curve + l, vf_mul(left, square));
    vf_store(error->slope + l, n);
    vf_store(error->rest + l, n);
    const VF variance = vf_fma(vf_mul(vf_neg(g->sum), g->share), g->sum, g->squares);
    vf_store(error->variance + l, vf_mul(vf_mul(variance, g->share), square));
    if (rule) {
        VM safe = FIXED(is_safe)(kind, g, n, root_n, other, known, plain_scale, plain_zero, vf_load(rule->scale + l),
                                 vf_load(rule->zero + l));
        safe = vm_and(safe, better);
        vf_store(error->rule + l, vf_select(safe, vf_set1(INFINITY), none));
    }
    vf_store(task->scale + l, vf_select(better, found, plain_scale));
    vf_store(task->zero + l, vf_select(better, pair.zero, plain_zero));
    vm_to_u8(task->sure + l, g->fits);
}

/* Vectors of groups take their steps in turns, so that one does not wait for the divisions of the other. */
FIXED_INLINE void FIXED(affine_blocks)(enum qz_affine_kind kind, qz_dtype dtype,
                                       const struct qz_fixed_affine_task *tasks, size_t count)
{
    const size_t each = QZ_BLOCK / LANES, vectors = count * each, n = tasks->look.n, pairs = n / 2;
    const size_t most = n <= QZ_FIXED_LONGEST / 2 ? 2 : 1;
    VI fine[QZ_FIXED_LONGEST / 2], coarse[QZ_FIXED_LONGEST / 2];
    struct FIXED(affine) g[2];
    struct FIXED(start) start[2];
    struct affine_fit best[2];
    for (size_t from = 0, end; from < vectors; from = end) {
        end = from + most < vectors ? from + most : vectors;
        for (size_t i = from, j = 0; i < end; i++, j++)
            FIXED(prepare)(kind, tasks + i / each, i % each * LANES, fine + j * pairs, coarse + j * pairs, &g[j]);
        for (size_t j = 0; j < end - from; j++)
            start[j] = FIXED(starts)(kind, n, &g[j], &best[j]);
        for (int move = 0; move < QZ_AFFINE_MOVES; move += QZ_FIXED_TRIES)
            for (size_t j = 0; j < end - from; j++)
                FIXED(moves)(kind, n, &g[j], move, &start[j], &best[j]);
        for (size_t i = from, j = 0; i < end; i++, j++)
            FIXED(settle)(kind, dtype, tasks + i / each, i % each * LANES, &g[j], &best[j]);
    }
}

static FIXED_TARGET void FIXED(fixed_affine)(enum qz_affine_kind kind, qz_dtype dtype,
                                             const struct qz_fixed_affine_task *tasks, size_t count)
{
    if (kind == QZ_AFFINE_UINT4)
        FIXED(affine_blocks)(QZ_AFFINE_UINT4, dtype, tasks, count);
    else
        FIXED(affine_blocks)(QZ_AFFINE_OFFSET, dtype, tasks, count);
}
