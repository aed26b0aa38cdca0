/*
 * fixed_scalar.h - the search for scales of integers -8..7 in 16-bit integers: the specification; part of scalar.c
 *
 * Values are rounded to 1 / 1024 of a step of a plain scale. That moves a group, as a vector of n values, by at most
 * half a unit times the root of n, and its distance from any decoded group by no more than that. So one scale is known
 * to be better than another where its distance is less by more than the roundings of both may be.
 */
#ifndef QZ_FIXED_SCALAR_H
#define QZ_FIXED_SCALAR_H

/* What candidates ask of a group: sums of x q and of q q for its codes q. */
struct fixed_sums {
    float xq, qq;
};

/* (x y + 2^14) / 2^15, rounded down. */
static int32_t fixed_product(int32_t x, int32_t y)
{
    return (int32_t)((uint32_t)(x * y + 0x4000 + 0x40000000) >> 15) - 0x8000;
}

/* Candidate c of a group of integers; `ratio` belongs to the second one. */
static struct fixed_sums fixed_candidate(const struct qz_fixed *rule, size_t c, const int16_t *x, size_t n,
                                         int32_t ratio)
{
    int32_t xq = 0, qq = 0;
    for (size_t k = 0; k < n; k++) {
        int32_t q =
            c == 1 ? fixed_product(fixed_product(x[k], ratio), QZ_FIXED_ONE) : fixed_product(x[k], rule->factor[c]);
        q = q < -8 ? -8 : q > 7 ? 7 : q;
        xq += x[k] * q;
        qq += q * q;
    }
    float found = (float)xq;
    return (struct fixed_sums){rule->positive && !(found > 0.0f) ? 0.0f : found, (float)qq};
}

/* The sums of which xq^2 / qq is larger, which a scale that is not rounded gains; the first ones of two. */
static struct fixed_sums fixed_better(struct fixed_sums a, struct fixed_sums b)
{
    return (a.xq * a.xq) * b.qq < (b.xq * b.xq) * a.qq ? b : a;
}

/* The best of 2 to 4 candidates from c on: the first two and the last two are compared first. */
static struct fixed_sums fixed_best_of(const struct qz_fixed *rule, size_t c, size_t count, const int16_t *x, size_t n,
                                       int32_t ratio)
{
    struct fixed_sums sums[4];
    for (size_t j = 0; j < count; j++)
        sums[j] = fixed_candidate(rule, c + j, x, n, ratio);
    sums[0] = fixed_better(sums[0], sums[1]);
    if (count == 4)
        sums[2] = fixed_better(sums[2], sums[3]);
    return count > 2 ? fixed_better(sums[0], sums[2]) : sums[0];
}

/* How much a scale, in units, lowers the sum of squares. */
static float fixed_gain(float scale, struct fixed_sums sums)
{
    return scale * ((sums.xq + sums.xq) - scale * sums.qq);
}

static void fixed_group(const struct qz_fixed *rule, const float *v, size_t n, float largest, float unit, float other,
                        float *scale, float *gained, float *energy, uint8_t *sure)
{
    const float unit_inverse = 1.0f / unit;
    const int swapped = fabsf(other) < fabsf(*scale);
    const float base = swapped ? other : *scale, rest = swapped ? *scale : other;
    const float both = 1.0f / (base * rest), ratio = both * base * base;
    float inverse = both * rest * QZ_FIXED_STEP;
    const int fits = largest * fabsf(inverse) <= rule->most && fabsf(ratio) >= QZ_FIXED_RATIO && fabsf(ratio) <= 1.0f;
    inverse = fits ? inverse : 0.0f;
    const int32_t of_ratio = fits ? (int32_t)rintf(ratio * 32767.0f) : 0;
    int16_t x[QZ_FIXED_LONGEST];
    float sum = 0.0f;
    int32_t part = 0;
    for (size_t k = 0; k < n; k++) {
        x[k] = (int16_t)rintf(v[QZ_BLOCK * k] * inverse);
        part += x[k] * x[k];
        if (k % QZ_FIXED_PART == QZ_FIXED_PART - 1 || k + 1 == n) {
            sum += (float)part;
            part = 0;
        }
    }
    const struct fixed_sums of_base = fixed_candidate(rule, 0, x, n, of_ratio);
    const struct fixed_sums of_rest = fixed_candidate(rule, 1, x, n, of_ratio);
    struct fixed_sums best = fixed_best_of(rule, 0, rule->first, x, n, of_ratio);
    if (rule->count > rule->first)
        best = fixed_better(best, fixed_best_of(rule, rule->first, rule->count - rule->first, x, n, of_ratio));
    float found = (best.qq > 0.0f ? best.xq / best.qq : 0.0f) * (base * (1.0f / QZ_FIXED_STEP));
    found = qz_through(found * unit, rule->scale_dtype) * unit_inverse;

    const float root_n = sqrtf((float)n), near = QZ_FIXED_NEAR * root_n, far = QZ_FIXED_FAR * root_n;
    const float gain = fixed_gain(found * inverse, best);
    const float gain_base = fixed_gain(QZ_FIXED_STEP, of_base), gain_rest = fixed_gain(rest * inverse, of_rest);
    const float left = sum - gain, left_base = sum - gain_base > 0.0f ? sum - gain_base : 0.0f;
    const float left_rest = sum - gain_rest, root = sqrtf(left_base), twice = root + root;
    const float slack = sum * QZ_FIXED_SLACK; /* what these sums may be wrong by */
    /* (root - near)^2 is root^2 less the first of these; (r + near)^2 and (r + far)^2 are at most r^2 plus the others,
     * for r up to root. */
    const float less = near * (twice - near) + slack, more = near * (twice + near) + slack;
    const float most = far * (twice + far) + slack;
    const int is_best = near < root && left + less < left_base && left + most < left_rest;
    const int is_base = left_base + most < left_rest, is_rest = left_rest + more < left_base;
    const float back = fits ? base * (1.0f / QZ_FIXED_STEP) : 0.0f;
    *sure = (uint8_t)(fits && (is_best || is_base || is_rest));
    *scale = is_best ? found : is_rest ? rest : base;
    *gained = (is_best ? gain : is_rest ? gain_rest : gain_base) * (back * back);
    *energy = sum * (back * back);
}

static void product_fixed(const struct qz_fixed *rule, const struct qz_look *look, const float *unit,
                          const float *other, float *scale, struct qz_gains *gains, uint8_t sure[QZ_BLOCK])
{
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        float low = -look->low[l], high = look->high[l];
        fixed_group(rule, look->v + l, look->n, low > high ? low : high, unit[l], other[l], scale + l, &gains->best[l],
                    &gains->energy[l], sure + l);
        gains->other[l] = -INFINITY;
    }
}

#endif
