/*
 * reference.h - the plain rules of other tools, number for number
 *
 * What method QZ_REFERENCE asks for: the codes, scales and zeros that a foreign tool itself would write, ties and odd
 * corners included. Rules come in two kinds. Most look at the range of a group and then at each value by itself; a
 * group of any length can be given to them in pieces, by the three steps below. The three that search (IQ4_NL, Q4_K,
 * IQ4_XS) need their block of 32 or 256 values at once. qz_reference_block() serves both.
 *
 * All values must be finite.
 */
#ifndef QZ_REFERENCE_H
#define QZ_REFERENCE_H

#include "quantize.h"

#include <stddef.h>
#include <stdint.h>

enum qz_rule {
    QZ_RULE_NONE,
    QZ_RULE_Q4_0, /* ggml: the reference quantizers; IQ4_NL and IQ4_XS: the usual ones, without importance weights */
    QZ_RULE_Q4_1,
    QZ_RULE_MXFP4,
    QZ_RULE_NVFP4, /* no scale for the tensor */
    QZ_RULE_IQ4_NL,
    QZ_RULE_Q4_K,
    QZ_RULE_IQ4_XS,
    QZ_RULE_MATMULNBITS, /* ONNX Runtime: the native block quantizer, symmetric and with zeros */
    QZ_RULE_MATMULNBITS_ZERO,
    QZ_RULE_BNB_NF4, /* bitsandbytes as on the CPU; CUDA differs in groups of zeros: code 0 instead of 7 */
    QZ_RULE_BNB_FP4,
    QZ_RULE_COMPRESSED_TENSORS,
    QZ_RULE_COMPRESSED_TENSORS_ZERO,
    QZ_RULE_COMPRESSED_TENSORS_NVFP4, /* with a divisor for the tensor */
    QZ_RULE_COMPRESSED_TENSORS_MXFP4,
    QZ_RULE_GPTQ, /* rounding to nearest, without error correction; symmetric and with zeros */
    QZ_RULE_GPTQ_ZERO,
    QZ_RULE_AWQ, /* the same of AWQ, without its search */
    QZ_RULE_COUNT
};

enum { QZ_REFERENCE_VALUES = 256, QZ_REFERENCE_GROUPS = 8 }; /* of a block that has several groups */

/* What a rule takes. */
struct qz_rule_info {
    unsigned group;   /* values that share a scale; 0: any number */
    unsigned block;   /* values that must be given together: a group, or several that share a super scale; 0 as above */
    int ends_short;   /* the last group of a row may have fewer values */
    int any_scale;    /* scales are QZ_F32, QZ_F16 or QZ_BF16, as told; otherwise the rule has a type of its own */
    int takes_pieces; /* range, fit and codes may be called for it */
};

const struct qz_rule_info *qz_rule_info(enum qz_rule rule);

/* How a rule is to be used; a rule ignores what it does not ask for. */
struct qz_reference_how {
    qz_dtype scale_dtype; /* for rules with any_scale */
    float divisor;        /* QZ_RULE_COMPRESSED_TENSORS_NVFP4: of the tensor, from qz_reference_divisor() */
    int short_group;      /* bitsandbytes: this group has fewer values than the others, and they are divided */
};

/* 448 * 6 / largest, for the largest magnitude of a tensor. */
float qz_reference_divisor(float largest);

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
    float scale[QZ_REFERENCE_GROUPS]; /* Q4_K: 0..63, IQ4_XS: -32..31, times `super` */
    float zero[QZ_REFERENCE_GROUPS];  /* rules _ZERO, GPTQ_ZERO, AWQ: 0..15; Q4_1: the offset; Q4_K: 0..63, to be
                                         subtracted, times super_zero */
    float super, super_zero;          /* Q4_K (float16 both), IQ4_XS (float16), and the divisor of the tensor; or 1 */
    float by, from;                   /* how values become codes: before rounding to the stored type or after it, as */
    int divide, offset;               /* the tool has it */
};

/* Takes more values of a group into its range. */
void qz_reference_range(struct qz_reference_range *range, const float *x, size_t n);

/* Fits a group. Returns 0 if a scale or offset does not fit its type: it is infinite or NaN then. */
int qz_reference_fit(enum qz_rule rule, const struct qz_reference_how *how, const struct qz_reference_range *range,
                     struct qz_reference *fit);

/* Codes of values of a group that is fitted, one a byte: 0..15, symmetric int4 in two's complement. */
void qz_reference_codes(enum qz_rule rule, const struct qz_reference *fit, const float *x, size_t n, uint8_t *codes);

/* All of this for a block: any rule, n as qz_rule_info says. Returns 0 as qz_reference_fit does. */
int qz_reference_block(enum qz_rule rule, const struct qz_reference_how *how, const float *x, size_t n,
                       struct qz_reference *fit, uint8_t *codes);

#endif
