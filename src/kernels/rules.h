/*
 * rules.h - codes by the rules of other tools; part of kernels.h
 *
 * Every operation is rounded to float32, and then to float16 or bfloat16 where a rule says so, because PyTorch computes
 * in these types on the CPU in this way.
 */
#ifndef QZ_RULES_H
#define QZ_RULES_H

#include "../base/number.h"
#include "quantize.h"

#include <math.h>

/* A value x of a group with numbers `by` and `from` is so many steps: */
enum qz_rule_steps {
    QZ_STEPS_TIMES, /* x * by */
    QZ_STEPS_ABOVE, /* (x - from) * by */
    QZ_STEPS_OVER   /* x / by */
};

/* And y steps become a code 0..15; what is beyond these is clamped: */
enum qz_rule_rounding {
    QZ_ROUND_SHIFTED,       /* y + shift, towards zero; what an int32 does not hold is 0, as x86 converts it */
    QZ_ROUND_AWAY,          /* y + from, ties away from zero */
    QZ_ROUND_EVEN_WITH,     /* y + from, ties to even; 8 is added to that */
    QZ_ROUND_EVEN_THEN_ADD, /* y, ties to even; from is added to that */
    QZ_ROUND_TABLE,         /* code[how many of the first 15 of `upper` are not above y] */
    QZ_ROUND_E2M1           /* x, not steps, to the nearest value of E2M1 times by, the smaller of two, never -0 */
};

struct qz_rule_codes {
    enum qz_rule_steps steps;
    enum qz_rule_rounding rounding;
    qz_dtype values; /* to which x is rounded first, */
    qz_dtype type;   /* and each number of steps, if QZ_F16 or QZ_BF16 */
    float shift;
    int offset;      /* what is stored is the code less this, its low four bits */
    float upper[16]; /* QZ_ROUND_TABLE: ascending */
    int32_t code[16];
};

static const float qz_e2m1_sizes[8] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};

/* Rounds to float16 or bfloat16; other types hold any float32, or are not for this. */
static inline float qz_through(float x, qz_dtype dtype)
{
    return dtype == QZ_F16 ? qz_rounded_to_f16(x) : dtype == QZ_BF16 ? qz_rounded_to_bf16(x) : x;
}

/* 0..15, towards zero; NaN is 0. */
static inline int qz_rule_level(float y)
{
    return y > 0.0f ? y < 15.0f ? (int)y : 15 : 0;
}

static inline int qz_e2m1_code(float x, float by)
{
    float size = fabsf(x), least = size;
    int code = 0;
    for (int i = 1; i < 8; i++) {
        float error = fabsf(qz_e2m1_sizes[i] * by - size);
        if (error < least) {
            least = error;
            code = i;
        }
    }
    return code && x < 0.0f ? code + 8 : code;
}

/* The code of a value, 0..15, from which the offset is not subtracted yet. */
static inline int qz_rule_code(const struct qz_rule_codes *rule, float x, float by, float from)
{
    float value = qz_through(x, rule->values);
    float y = rule->steps == QZ_STEPS_ABOVE  ? (value - from) * by
              : rule->steps == QZ_STEPS_OVER ? value / by
                                             : value * by;
    y = qz_through(y, rule->type);
    int i = 0;
    switch (rule->rounding) {
    case QZ_ROUND_SHIFTED:
        return fabsf(y + rule->shift) < 0x1p31f ? qz_rule_level(y + rule->shift) : 0;
    case QZ_ROUND_AWAY:
        return qz_rule_level(roundf(y + from));
    case QZ_ROUND_EVEN_WITH:
        return qz_rule_level(rintf(qz_through(y + from, rule->type)) + 8.0f);
    case QZ_ROUND_EVEN_THEN_ADD:
        return qz_rule_level(rintf(y) + from);
    case QZ_ROUND_E2M1:
        return qz_e2m1_code(value, by);
    default:
        while (i < 15 && rule->upper[i] <= y)
            i++;
        return rule->code[i];
    }
}

#endif
