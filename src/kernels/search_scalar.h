/*
 * search_scalar.h - the search for scales in plain C: the specification; part of scalar.c
 */
#ifndef QZ_SEARCH_SCALAR_H
#define QZ_SEARCH_SCALAR_H

static void interleave(const float *x, size_t n, float *to)
{
    for (size_t l = 0; l < QZ_BLOCK; l++)
        for (size_t k = 0; k < n; k++)
            to[QZ_BLOCK * k + l] = x[l * n + k];
}

/* The nearest number of a float of a byte, the largest one for all above it. */
static float nearest_float8(struct qz_float8 type, float x)
{
    float least = qz_float_power(1 - (int)type.bias), steps = qz_float_power((int)type.mantissa);
    float magnitude = fabsf(x), unit = qz_power(magnitude) > least ? qz_power(magnitude) : least;
    magnitude = rintf(magnitude * (steps / unit)) * (unit / steps);
    magnitude = magnitude < type.most ? magnitude : type.most;
    return x < 0 ? type.sign ? -magnitude : 0.0f : magnitude;
}

static float clamp(float x, float lo, float hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

/* A scale as it is stored, all divided by unit. */
static float stored_scale(const struct qz_search *rule, float s, float unit, float super)
{
    float inverse = 1.0f / unit, multiple = super >= FLT_MIN && super <= 0x1p120f ? s / super : 0.0f;
    float shared = super >= FLT_MIN && super <= 0x1p120f ? super : 0.0f;
    const struct qz_float8 float8 = qz_float8_of(rule->scale_dtype);
    switch (rule->scale_dtype) {
    case QZ_F32:
    case QZ_F16:
    case QZ_BF16:
        return qz_through(s * unit, rule->scale_dtype) * inverse;
    case QZ_E8M0:
        return qz_nearest_power(s * unit) * inverse;
    default:
        return (float8.last ? nearest_float8(float8, multiple) : clamp(rintf(multiple), rule->least, rule->most)) *
               shared;
    }
}

/* The value of the code for y, from the first or second set. */
static float nearest_value(const struct qz_search *rule, int set, float y)
{
    if (rule->uniform)
        return rintf(clamp(y, rule->lo, rule->hi));
    size_t i = 0;
    while (i < 15 && y >= rule->upper[set][i])
        i++;
    return rule->value[set][i];
}

/* 1 / the scale that makes the codes of candidate c; `first` and `other` are as stored. */
static float candidate_inverse(const struct qz_search *rule, size_t c, float begin, float first, float other)
{
    if (c < rule->as_stored)
        return qz_inverse_of(c == 0 ? first : other);
    return qz_inverse_of(begin) * rule->factor[c];
}

static void search_group(const struct qz_search *rule, const float *v, const float *weight, size_t n, float unit,
                         float super, float other, float *scale, uint8_t *second, float *best_gain, float *other_gain,
                         float *energy)
{
    float first = *scale, first_stored = stored_scale(rule, first, unit, super);
    float other_stored = stored_scale(rule, other, unit, super);
    float best = 0.0f, other_found = 0.0f;
    *scale = first_stored;
    *second = 0;
    *energy = 0.0f;
    for (size_t c = 0; c < rule->count; c++) {
        int set = c >= rule->first;
        float s = first, inverse = candidate_inverse(rule, c, first, first_stored, other_stored);
        if (!rule->refit) {
            s = stored_scale(rule, first / rule->factor[c], unit, super);
            inverse = qz_inverse_of(s);
        }
        float sum_xq = 0.0f, sum_qq = 0.0f;
        for (size_t k = 0; k < n; k++) {
            float x = v[QZ_BLOCK * k], q = nearest_value(rule, set, x * inverse);
            float weighted = weight ? weight[QZ_BLOCK * k] * q : q;
            sum_xq = fmaf(weighted, x, sum_xq);
            sum_qq = fmaf(weighted, q, sum_qq);
            if (c == 0)
                *energy = fmaf(weight ? weight[QZ_BLOCK * k] * x : x, x, *energy);
        }
        if (rule->refit) {
            s = sum_qq > 0.0f ? sum_xq / sum_qq : 0.0f;
            if (rule->positive)
                s = s > 0 ? s : 0.0f;
            s = stored_scale(rule, s, unit, super);
        }
        float gain = s * fmaf(-s, sum_qq, sum_xq + sum_xq);
        if (c == 1 && rule->as_stored > 1) {
            other_found = s;
            *other_gain = gain;
        }
        if (gain > best * QZ_GAINS_MORE) {
            best = gain;
            *scale = s;
            *second = (uint8_t)set;
        }
    }
    *best_gain = best;
    if (rule->as_stored < 2 || other_found == *scale || !(*other_gain > -INFINITY)) /* NaN too */
        *other_gain = -INFINITY;
}

static void search_scale(const struct qz_search *rule, const float *v, const float *weight, size_t n, size_t lanes,
                         const float *unit, const float *super, const float *other, float *scale, uint8_t *second,
                         struct qz_gains *gains)
{
    for (size_t l = 0; l < lanes; l++)
        search_group(rule, v + l, weight ? weight + l : NULL, n, unit[l], super ? super[l] : 1.0f,
                     other ? other[l] : 0.0f, scale + l, second + l, &gains->best[l], &gains->other[l],
                     &gains->energy[l]);
}

/* Sample i of `samples` of a group. */
static float sample_of(const float *v, const float *weight, size_t n, size_t i, size_t samples)
{
    size_t at = QZ_BLOCK * (i * n / samples);
    return !weight || weight[at] > 0.0f ? v[at] : 0.0f;
}

static int are_multiples(const float *v, const float *weight, size_t n, float factor)
{
    float squares = 0.0f, energy = 0.0f;
    for (size_t i = 0; i < QZ_SAMPLES_LATTICE; i++) {
        float x = sample_of(v, weight, n, i, QZ_SAMPLES_LATTICE), y = x * factor, off = y - rintf(y);
        squares = fmaf(off, off, squares);
        energy = fmaf(x, x, energy);
    }
    float share = (energy * QZ_LATTICE_SHARE) * (factor * factor);
    return squares <= QZ_SAMPLES_LATTICE * QZ_NEAR_LATTICE && squares <= share;
}

static void survey(int uniform, const float *v, const float *weight, size_t n, const float *largest,
                   struct qz_survey *survey)
{
    size_t samples = uniform ? QZ_SAMPLES_UNIFORM : QZ_SAMPLES_TABLE;
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        const float *x = v + l, *w = weight ? weight + l : NULL;
        float sum = 0.0f, squares = 0.0f, inverse = qz_inverse_of(largest[l]);
        for (size_t k = 0; k < n && w; k++) {
            float share = w[QZ_BLOCK * k];
            sum += share;
            squares = fmaf(share, share, squares);
        }
        if (w) {
            survey->weight[l] = sum;
            survey->weight2[l] = squares;
        }
        survey->repeats[l] = n < samples;
        for (size_t i = 0; i < samples && n >= samples; i++)
            for (size_t j = 0; j < i; j++)
                survey->repeats[l] |= sample_of(x, w, n, i, samples) == sample_of(x, w, n, j, samples);
        survey->lattice[l] = are_multiples(x, w, n, 6.0f * inverse) ||
                             are_multiples(x, w, n, (uniform ? 5.0f : 8.0f) * inverse) ||
                             (uniform && are_multiples(x, w, n, 4.0f * inverse));
    }
}

#endif
