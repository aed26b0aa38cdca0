/*
 * reference.h - the plain rules of other tools, bit for bit
 *
 * Method QZ_REFERENCE uses them to make exactly the codes, scales and zeros that the other tool would write, also for
 * ties and special cases. There are two kinds of rules. Most look at the range of a group and then at each value by
 * itself, so long groups can be passed in pieces, by the three steps below. The three rules that search (IQ4_NL, Q4_K,
 * IQ4_XS) need their block of 32 or 256 values at once. qz_reference_search() is for these.
 *
 * All values must be finite.
 */
#ifndef QZ_REFERENCE_H
#define QZ_REFERENCE_H

#include "../kernels/kernels.h"
#include "quantize.h"

#include <stddef.h>
#include <stdint.h>

enum { QZ_REFERENCE_VALUES = 256, QZ_REFERENCE_GROUPS = 8 }; /* of a block that has several groups */

/* The representation that a rule makes, and what it takes. */
struct qz_rule_info {
    const char *name;
    qz_codes codes;
    qz_zero zero;
    qz_dtype scale_dtype; /* 0: QZ_F32, QZ_F16 or QZ_BF16, as told */
    qz_dtype super_dtype;
    uint64_t super_size;
    size_t group;   /* values that share a scale; 0: any number, which may be given in pieces */
    size_t block;   /* values that must be given together: a group, or all that share a super scale; 0: any number */
    int ends_short; /* the last group of a row may have fewer values: QZ_ENDS_ */
};

enum { QZ_ENDS_FULL, QZ_ENDS_SHORT, QZ_ENDS_SHORT_ALONE /* only if there is but one row */ };

/* NULL for a number that is no rule, or QZ_RULE_NONE. */
const struct qz_rule_info *qz_rule_info(qz_rule rule);

/* How a rule is to be used; a rule ignores what it does not ask for. */
struct qz_reference_how {
    qz_dtype scale_dtype; /* for rules without a type of their own */
    float divisor;        /* QZ_RULE_COMPRESSED_TENSORS_NVFP4: of the tensor, from qz_reference_divisor() */
    int short_group;      /* bitsandbytes: this group has fewer values than the others, and they are divided */
    qz_dtype weights; /* compressed-tensors: the type of the values, if it is QZ_F16 or QZ_BF16; others do not matter.
                         It holds the values, and the tool rounds to it what it computes of them */
};

/* 448 * 6 / largest for the largest magnitude of a tensor, as the tool computes it; 1 where that is not finite. */
float qz_reference_divisor(float largest, qz_dtype weights);

/* The range of a group so far. */
struct qz_reference_range {
    float min, max;
    float largest; /* the first value of largest magnitude; 0 if all are 0 or -0 */
};

#define QZ_REFERENCE_NOTHING                                                                                           \
    {                                                                                                                  \
        INFINITY, -INFINITY, 0.0f                                                                                      \
    }

/*
 * Numbers of a group, or of the eight groups of a block of Q4_K and IQ4_XS (index 0 only otherwise), as they are
 * stored: floats that the stored type holds exactly. The sign of a zero counts.
 */
struct qz_reference {
    float scale[QZ_REFERENCE_GROUPS]; /* Q4_K: 0..63, IQ4_XS: -32..31, times super[0] */
    float zero[QZ_REFERENCE_GROUPS];  /* rules _ZERO, GPTQ_ZERO, AWQ: 0..15; Q4_1: the offset; Q4_K: 0..63, to be
                                         subtracted, times super[1] */
    float super[2]; /* Q4_K (float16 both), IQ4_XS (float16): of scales, of zeros; COMPRESSED_TENSORS_NVFP4:
                           the divisor of the tensor; else 1 */
    float by, from; /* how values become codes: before rounding to the stored type or after it, as the tool has it */
};

/* Takes more values of a group into its range. */
void qz_reference_range(struct qz_reference_range *range, const float *x, size_t n);

/* Fits a group. Returns 0 if a scale or offset does not fit its type: it is infinite or NaN then. */
int qz_reference_fit(qz_rule rule, const struct qz_reference_how *how, const struct qz_reference_range *range,
                     struct qz_reference *fit);

/* Many groups: the ranges, and their numbers as struct qz_reference has them. */
enum { QZ_REFERENCE_MOST = 512 };

struct qz_reference_many {
    float min[QZ_REFERENCE_MOST], max[QZ_REFERENCE_MOST], largest[QZ_REFERENCE_MOST];
    float scale[QZ_REFERENCE_MOST], zero[QZ_REFERENCE_MOST], by[QZ_REFERENCE_MOST], from[QZ_REFERENCE_MOST];
};

/* Fits the first n groups; of those that do not fit their types some numbers are infinite or NaN. */
void qz_reference_fit_many(qz_rule rule, const struct qz_reference_how *how, struct qz_reference_many *groups,
                           size_t n);

/* Whether a rule searches, and so needs its block at once; else qz_reference_fit() and codes of values are all of it. */
int qz_reference_searches(qz_rule rule);

/* How values of fitted groups become codes. */
struct qz_rule_codes qz_reference_codes_of(qz_rule rule, const struct qz_reference_how *how);

/* The numbers and codes of blocks, as long as qz_rule_info says, by a rule that searches. Codes are 0..15, one a byte,
 * or NULL if they are not wanted. Numbers that do not fit their types are infinite or NaN. */
void qz_reference_search(const struct qz_kernels *kernels, qz_rule rule, const float *x, size_t blocks,
                         struct qz_reference *fit, uint8_t *codes);

/* Whether all numbers fit their types. */
int qz_reference_is_finite(const struct qz_reference *fit);

#endif
