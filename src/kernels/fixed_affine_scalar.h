/*
 * fixed_affine_scalar.h - the search for scale and zero in 16-bit integers: the specification; part of scalar.c
 *
 * affine.h says which ends are tried, and fixed_scalar.h why rounding is known to be harmless. Values are told from the
 * place of code 8 of the plain pair, or from 0 with an integer zero: in units for errors, in fours of them for codes.
 * The codes of a candidate need not be the nearest ones: the error of its pair is no more than with these.
 */
#ifndef QZ_FIXED_AFFINE_SCALAR_H
#define QZ_FIXED_AFFINE_SCALAR_H

struct fixed_affine {
    enum qz_affine_kind kind;
    size_t n;
    int16_t fine[QZ_FIXED_LONGEST], coarse[QZ_FIXED_LONGEST];
    float origin, inverse;    /* of a unit */
    float sum, squares;       /* of `fine` */
    float share, mean;        /* 1 / n; in steps of the plain scale, as all that follow */
    float low, range, centre; /* from the lower end: the mean */
};

/* Codes, less 8 or the zero, are (c + shift) factor / 2^15, between least and most. */
struct fixed_codes {
    int32_t shift, factor, least, most;
};

/* Sums of codes, of their squares, and of values times codes. */
struct fixed_tally {
    float q, qq, tq;
};

static struct fixed_tally fixed_add(const struct fixed_affine *g, const int16_t *from, const int16_t *x,
                                    struct fixed_codes codes)
{
    int32_t sum = 0, qq = 0, tq = 0;
    for (size_t k = 0; k < g->n; k++) {
        int32_t q = fixed_product(from[k] + codes.shift, codes.factor);
        q = q > codes.least ? q : codes.least;
        q = q < codes.most ? q : codes.most;
        sum += q;
        qq += q * q;
        tq += q * x[k];
    }
    return (struct fixed_tally){(float)sum, (float)qq, (float)tq};
}

/* The codes of a scale of which this is the inverse, and of the place of code 8, or with a zero. */
static struct fixed_codes fixed_codes_of(const struct fixed_affine *g, float inverse, float place, float zero)
{
    float factor = inverse * QZ_FIXED_FACTOR, shift = -place * QZ_FIXED_COARSE;
    factor = factor < 32767.0f ? factor : 32767.0f;
    shift = shift < QZ_FIXED_SHIFT ? shift : QZ_FIXED_SHIFT;
    shift = -QZ_FIXED_SHIFT < shift ? shift : -QZ_FIXED_SHIFT;
    const int32_t whole = (int32_t)rintf(factor);
    if (g->kind == QZ_AFFINE_UINT4)
        return (struct fixed_codes){0, whole, -(int32_t)zero, 15 - (int32_t)zero};
    return (struct fixed_codes){(int32_t)rintf(shift), whole, -8, 7};
}

/* The fit that codes make: as affine_fit, but `mean` is less 8. */
static struct affine_fit fixed_try(const struct fixed_affine *g, float inverse, float place, float zero)
{
    const struct fixed_tally sums = fixed_add(g, g->coarse, g->coarse, fixed_codes_of(g, inverse, place, zero));
    const float q = sums.q * g->share, qq = sums.qq * g->share, tq = sums.tq * (g->share * (1.0f / QZ_FIXED_COARSE));
    struct affine_fit fit = {-1, 0, 0, 0};
    if (g->kind == QZ_AFFINE_UINT4) {
        if (qq > 0 && tq > 0)
            fit = (struct affine_fit){tq * tq, tq, qq, zero};
    } else {
        float a = fmaf(-q, g->mean, tq), b = fmaf(-q, q, qq);
        if (b > qq * QZ_AFFINE_FLAT && a > 0)
            fit = (struct affine_fit){a * a, a, b, q};
    }
    return fit;
}

/* The best of `count` fits and of that so far: of each QZ_FIXED_TRIES, 2 or 4, two and two are compared first. */
static void fixed_best(struct affine_fit *best, struct affine_fit *fits, int count)
{
    for (int i = 0; i < count; i += 4) {
        affine_better(&fits[i], fits[i + 1]);
        if (i + 2 < count) {
            affine_better(&fits[i + 2], fits[i + 3]);
            affine_better(&fits[i], fits[i + 2]);
        }
        affine_better(best, fits[i]);
    }
}

/* The inverse of a fit's scale: as far as it matters, and without waiting for it. */
static float fixed_inverse(const struct affine_fit *fit)
{
    return fit->b > 0 ? fit->b / fit->a : 0;
}

static struct affine_fit fixed_search(const struct fixed_affine *g)
{
    const int whole = g->kind == QZ_AFFINE_UINT4;
    struct affine_fit best = {-1, 0, 0, 0}, fits[QZ_AFFINE_MOVES];
    for (int i = 0; i < QZ_AFFINE_STARTS; i++) {
        const float share = qz_affine_start(g->kind, QZ_AFFINE_USUAL, g->n, i).low;
        float low = g->centre * share, high = fmaf(-(g->range - g->centre), share, g->range);
        float scale = (high - low) * (1.0f / 15), inverse = scale > 0 ? 1 / scale : 0;
        const float zero = whole ? affine_zero(-(g->low + low) * inverse) : 0;
        fits[i] = fixed_try(g, inverse, fmaf(8, scale, g->low + low), zero);
    }
    fixed_best(&best, fits, QZ_AFFINE_STARTS);
    const struct affine_fit start = best;
    const float scale = affine_scale(&start), inverse = fixed_inverse(&start);
    const float place = fmaf(-scale, start.mean, g->mean);
    const struct qz_affine_shift *moves = qz_affine_shifts(g->kind, g->n);
    for (int i = 0; i < QZ_AFFINE_MOVES; i++) {
        const struct qz_affine_shift move = moves[i];
        const float zero = whole ? affine_zero(start.mean + move.zero) : 0;
        fits[i] = fixed_try(g, inverse * move.inverse, fmaf(scale, move.place, place), zero);
    }
    fixed_best(&best, fits, QZ_AFFINE_MOVES);
    return best;
}

/* A pair as what codes are multiplied and moved by: values are scale (q + bias) - offset in units. */
struct fixed_pair {
    float bias, offset, zero;
};

static struct fixed_pair fixed_pair_of(const struct fixed_affine *g, const struct affine_fit *fit, float scale,
                                       float plain, float unit, qz_dtype dtype)
{
    if (g->kind == QZ_AFFINE_UINT4)
        return (struct fixed_pair){0, 0, fit->mean};
    /* the place of code 0, in steps of the plain scale and then as values have it */
    const float place = fmaf(-scale, fit->mean + 8, g->mean), offset = fmaf(place, plain, g->origin);
    const float zero = qz_through(offset * unit, dtype) * (1 / unit) + 0.0f;
    return (struct fixed_pair){8, -(zero - g->origin) * g->inverse, zero};
}

/* The sum of squared differences from these codes. */
static float fixed_error(const struct fixed_affine *g, struct fixed_tally sums, float scale, float place)
{
    const float n = (float)g->n;
    float from = fmaf(n * place - 2 * g->sum, place, g->squares), product = fmaf(-place, sums.q, sums.tq);
    return fmaf(scale, fmaf(scale, sums.qq, -2 * product), from);
}

/* Whether an error is less than a plain one, beyond what roundings may do: `reach` is in roots of errors. */
static int fixed_less(float error, float plain, float reach, float slack)
{
    const float root = sqrtf(plain);
    return reach < root && error + (reach * (root + root - reach) + slack) < plain;
}

struct fixed_scale {
    float scale, zero;
};

/* Whether the pair of a rule is known to be no better than one with this error: because what its codes stand for is so
 * near to what those of the plain one do, or by its own error. Its codes are those of values that are rounded twice
 * more, and so wrong at most where two are nearly as good. */
static int fixed_is_safe(const struct fixed_affine *g, float error, float known, struct fixed_scale plain,
                         struct fixed_scale rule)
{
    const float root_n = sqrtf((float)g->n), slack = g->squares * QZ_FIXED_SLACK;
    const float steps = 15 * (rule.scale - plain.scale), moved = rule.zero - plain.zero;
    float apart = fabsf(steps), from = 0;
    if (g->kind == QZ_AFFINE_OFFSET) {
        const float low = fabsf(moved), high = fabsf(moved + steps);
        apart = low < high ? high : low;
        from = (fmaf(rule.scale, 8, rule.zero) - g->origin) * g->inverse;
    }
    apart *= g->inverse;
    const int same = g->kind != QZ_AFFINE_UINT4 || moved == 0; /* another integer zero moves all values by steps */
    if (fixed_less(error, known, ((same ? apart : INFINITY) + QZ_FIXED_NEAR) * root_n, slack))
        return 1;
    if (!(apart <= QZ_FIXED_APART))
        return 0;
    const float ratio = plain.scale / rule.scale;
    const int32_t shift = (int32_t)rintf(-from * ratio), factor = (int32_t)rintf((ratio - 1) * 32768.0f);
    const int whole = g->kind == QZ_AFFINE_UINT4;
    const struct fixed_codes codes = {0, QZ_FIXED_ONE, whole ? -(int32_t)rule.zero : -8,
                                      whole ? 15 - (int32_t)rule.zero : 7};
    int16_t moved_to[QZ_FIXED_LONGEST];
    for (size_t k = 0; k < g->n; k++)
        moved_to[k] = (int16_t)(g->fine[k] + shift + fixed_product(g->fine[k], factor));
    const float own = fixed_error(g, fixed_add(g, moved_to, g->fine, codes), rule.scale * g->inverse, from);
    return fixed_less(error, own > 0 ? own : 0, QZ_FIXED_RULE * root_n, slack);
}

static int fixed_prepare(struct fixed_affine *g, const float *v, float low, float high, float scale, float zero)
{
    const int whole = g->kind == QZ_AFFINE_UINT4;
    const float inverse = QZ_FIXED_STEP / scale;
    const float origin = whole ? 0 : fmaf(scale, 8, zero);
    const float most = whole ? QZ_FIXED_WHOLE : QZ_FIXED_HALF;
    float least = (low - origin) * inverse, end = (high - origin) * inverse, sum = 0;
    const int fits = scale > 0 && -most <= least && end <= most && fabsf(origin * inverse) <= QZ_FIXED_FAR_OFF;
    g->origin = fits ? origin : 0;
    g->inverse = fits ? inverse : 0;
    least = fits ? least : 0;
    end = fits ? end : 0;
    g->squares = 0;
    int64_t total = 0, part = 0;
    for (size_t k = 0; k < g->n; k++) {
        /* Values of a group are between its ends. A lane without a group may have any, and its result is not used. */
        const float step = fminf(fmaxf((v[QZ_BLOCK * k] - g->origin) * g->inverse, -INT16_MAX), INT16_MAX);
        const int32_t x = (int32_t)rintf(step);
        g->fine[k] = (int16_t)x;
        g->coarse[k] = (int16_t)fixed_product(x, QZ_FIXED_TO_COARSE);
        total += x;
        part += (int64_t)x * x;
        if (k % QZ_FIXED_AFFINE_PART == QZ_FIXED_AFFINE_PART - 1 || k + 1 == g->n) {
            g->squares += (float)part;
            part = 0;
        }
    }
    sum = (float)total;
    g->sum = sum;
    g->share = 1 / (float)g->n;
    g->mean = sum * (g->share * (1 / QZ_FIXED_STEP));
    g->low = least * (1 / QZ_FIXED_STEP);
    g->low = whole && g->low > 0 ? 0 : g->low;
    end *= 1 / QZ_FIXED_STEP;
    end = whole && end < 0 ? 0 : end;
    g->range = end - g->low;
    g->centre = g->mean - g->low;
    return fits;
}

static void fixed_affine_block(enum qz_affine_kind kind, qz_dtype dtype, const struct qz_fixed_affine_task *task)
{
    const struct qz_look *look = &task->look;
    const float n = (float)look->n, reach = QZ_FIXED_NEAR * sqrtf(n), *unit = task->unit;
    float *scale = task->scale, *zero = task->zero;
    struct qz_affine_error *error = task->error;
    const struct qz_affine_rule *rule = task->rule;
    uint8_t *sure = task->sure;
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        struct fixed_affine g = {.kind = kind, .n = look->n};
        sure[l] = (uint8_t)fixed_prepare(&g, look->v + l, look->low[l], look->high[l], scale[l], zero[l]);
        const float back = scale[l] * (1 / QZ_FIXED_STEP), square = back * back;
        const struct affine_fit fit = fixed_search(&g);
        const float s = affine_scale(&fit);
        const struct fixed_pair pair = fixed_pair_of(&g, &fit, s, scale[l], unit[l], dtype);
        const float place = fmaf(s, pair.bias, pair.offset * (-1 / QZ_FIXED_STEP));
        const struct fixed_tally sums =
            fixed_add(&g, g.coarse, g.fine, fixed_codes_of(&g, fixed_inverse(&fit), place, pair.zero));
        /* with codes q + bias and values moved by the offset */
        const float qq = fmaf(pair.bias, fmaf(pair.bias, n, 2 * sums.q), sums.qq);
        const float tq = fmaf(pair.bias, fmaf(pair.offset, n, g.sum), fmaf(pair.offset, sums.q, sums.tq));
        float found = qq > 0 && tq > 0 ? tq / qq : 0;
        found = qz_through(found * back * unit[l], dtype) * (1 / unit[l]);
        const float units = found * g.inverse, slack = g.squares * QZ_FIXED_SLACK;
        const struct fixed_codes plain = fixed_codes_of(&g, QZ_FIXED_PLAIN, 0, zero[l]);
        float known = fixed_error(&g, fixed_add(&g, g.fine, g.fine, plain), QZ_FIXED_STEP, 0);
        const float other = fixed_error(&g, sums, units, fmaf(units, pair.bias, -pair.offset));
        known = known > 0 ? known : 0;
        const int better = found > 0 && fixed_less(other, known, reach, slack);
        float left = better ? other : known;
        left = left > 0 ? left : 0;
        error->curve[l] = left * square;
        error->slope[l] = n;
        error->rest[l] = n;
        error->variance[l] = fmaf(-g.sum * g.share, g.sum, g.squares) * g.share * square;
        if (rule) {
            const struct fixed_scale known_pair = {scale[l], zero[l]}, ruled = {rule->scale[l], rule->zero[l]};
            const int safe = better && fixed_is_safe(&g, other, known, known_pair, ruled);
            error->rule[l] = safe ? INFINITY : 0;
        }
        if (better) {
            scale[l] = found;
            zero[l] = pair.zero;
        }
    }
}

static void product_fixed_affine(enum qz_affine_kind kind, qz_dtype dtype, const struct qz_fixed_affine_task *tasks,
                                 size_t count)
{
    for (size_t i = 0; i < count; i++)
        fixed_affine_block(kind, dtype, tasks + i);
}

#endif
