/*
 * rule_search_scalar.h - the searches of ggml in plain C: the specification; part of scalar.c
 *
 * Sums are in float32, one value after another, as ggml's plain build adds them: so that lanes can be groups, and bits
 * are ggml's.
 */
#ifndef QZ_RULE_SEARCH_SCALAR_H
#define QZ_RULE_SEARCH_SCALAR_H

#include "rule_search.h"

/* Sums over a group for the values that are nearest to x * by: weights are the squares of the values. */
static void sums_iq4(const float *v, float by, float *along, float *square)
{
    *along = *square = 0.0f;
    for (size_t k = 0; k < QZ_RULE_SEARCHED; k++) {
        float x = v[QZ_BLOCK * k], q = nearest_value(&qz_iq4_levels, 0, x * by), wq = x * x * q;
        *along += wq * x;
        *square += wq * q;
    }
}

static float rule_iq4_group(const float *v)
{
    float largest = 0.0f, best = 0.0f, scale = 0.0f;
    for (size_t k = 0; k < QZ_RULE_SEARCHED; k++)
        largest = fabsf(v[QZ_BLOCK * k]) > fabsf(largest) ? v[QZ_BLOCK * k] : largest;
    for (int t = 0; t < QZ_RULE_IQ4_TRIES && fabsf(largest) >= QZ_RULE_IQ4_LEAST; t++) {
        float along, square, by = t ? qz_rule_iq4_end(t) / largest : 1.0f / (largest / 127.0f);
        sums_iq4(v, by, &along, &square);
        if (t == 0 || (square > 0.0f && along * along > best * square)) {
            scale = along / square;
            best = scale * along;
        }
    }
    return scale;
}

static void rule_iq4(const float *v, struct qz_rule_groups *found)
{
    for (size_t l = 0; l < QZ_RULE_TOGETHER; l++)
        found->scale[l] = rule_iq4_group(v + qz_rule_group(l));
}

/* A group of Q4_K: values, QZ_BLOCK apart, their weights, and the sums that do not change. */
struct rule_q4_k {
    const float *v;
    float w[QZ_RULE_SEARCHED], sum_w, sum_x;
};

/* Codes of values, as floats. What an int32 does not hold is 0. */
static void levels_q4_k(const struct rule_q4_k *group, float min, float by, float *level)
{
    for (size_t k = 0; k < QZ_RULE_SEARCHED; k++) {
        float y = rintf(by * (group->v[QZ_BLOCK * k] - min));
        level[k] = y < 0x1p31f && y > 0.0f ? clamp(y, 0.0f, 15.0f) : 0.0f;
    }
}

static float error_q4_k(const struct rule_q4_k *group, float scale, float min, const float *level)
{
    float sum = 0.0f;
    for (size_t k = 0; k < QZ_RULE_SEARCHED; k++) {
        float off = scale * level[k] + min - group->v[QZ_BLOCK * k];
        sum += group->w[k] * (off * off);
    }
    return sum;
}

/* Scale and minimum that suit codes best; 0 if the codes do not tell. */
static int refit_q4_k(const struct rule_q4_k *group, const float *level, float *scale, float *min)
{
    float sum_l = 0.0f, sum_l2 = 0.0f, sum_xl = 0.0f;
    for (size_t k = 0; k < QZ_RULE_SEARCHED; k++) {
        float wl = group->w[k] * level[k];
        sum_l += wl;
        sum_l2 += wl * level[k];
        sum_xl += wl * group->v[QZ_BLOCK * k];
    }
    float det = group->sum_w * sum_l2 - sum_l * sum_l;
    if (!(det > 0.0f))
        return 0;
    *scale = (group->sum_w * sum_xl - group->sum_x * sum_l) / det;
    *min = (sum_l2 * group->sum_x - sum_l * sum_xl) / det;
    if (*min > 0.0f) {
        *min = 0.0f;
        *scale = sum_xl / sum_l2;
    }
    return 1;
}

static void rule_q4_k_group(struct rule_q4_k *group, float *scale, float *min, float *by, float *from)
{
    float squares = 0.0f, max = group->v[0], level[QZ_RULE_SEARCHED];
    *min = group->v[0];
    for (size_t k = 0; k < QZ_RULE_SEARCHED; k++) {
        float x = group->v[QZ_BLOCK * k];
        squares += x * x;
        *min = x < *min ? x : *min;
        max = x > max ? x : max;
    }
    float typical = sqrtf(squares / (float)QZ_RULE_SEARCHED);
    group->sum_w = group->sum_x = 0.0f;
    for (size_t k = 0; k < QZ_RULE_SEARCHED; k++) {
        group->w[k] = typical + fabsf(group->v[QZ_BLOCK * k]);
        group->sum_w += group->w[k];
        group->sum_x += group->w[k] * group->v[QZ_BLOCK * k];
    }
    *min = *from = *min < 0.0f ? *min : 0.0f;
    *scale = *by = 0.0f;
    if (max == *min)
        return;
    *by = 15.0f / (max - *min);
    *scale = 1.0f / *by;
    levels_q4_k(group, *min, *by, level);
    float best = error_q4_k(group, *scale, *min, level);
    for (int t = 0; t < QZ_RULE_Q4_K_TRIES; t++) {
        float new_scale, new_min, new_by = qz_rule_q4_k_steps(t) / (max - *min);
        levels_q4_k(group, *min, new_by, level);
        if (!refit_q4_k(group, level, &new_scale, &new_min))
            continue;
        float error = error_q4_k(group, new_scale, new_min, level);
        if (error < best) {
            best = error;
            *by = new_by;
            *from = *min;
            *scale = new_scale;
            *min = new_min; /* which the later tries count from */
        }
    }
}

static void rule_q4_k(const float *v, struct qz_rule_groups *found)
{
    for (size_t l = 0; l < QZ_RULE_TOGETHER; l++) {
        struct rule_q4_k group = {.v = v + qz_rule_group(l)};
        rule_q4_k_group(&group, &found->scale[l], &found->min[l], &found->by[l], &found->from[l]);
    }
}

#endif
