/*
 * encoder.h - an encoder: how the scales of groups are found, by method, rules and the caller's other wishes
 *
 * qz_encoder_make makes an encoder, which is only read from then on.
 */
#ifndef QZ_ENCODER_H
#define QZ_ENCODER_H

#include "reference.h"
#include "../packed/view.h"

#include <math.h>

/* What is known of a run of groups while it is encoded. */
struct groups {
    size_t count;
    float min[QZ_TILE_GROUPS], max[QZ_TILE_GROUPS];
    float scale[QZ_TILE_GROUPS], inverse[QZ_TILE_GROUPS], zero[QZ_TILE_GROUPS];
    uint8_t bytes[2 * QZ_TILE_GROUPS]; /* scales, then offsets, as stored if they take a byte */
    float curve[QZ_TILE_GROUPS], slope[QZ_TILE_GROUPS], rest[QZ_TILE_GROUPS]; /* QZ_U6: struct qz_affine_error */
    int32_t special[QZ_TILE_GROUPS]; /* searches with a zero or offset: careful_affine.c looks at the group again */
    int far;      /* codes are uniform, and some value may be so far beyond them that only the scalar kernels take it */
    int careful;  /* some group needs the careful rule: its inverse is 0, its scale is not */
    int has_sums; /* what the codes did to the values came with them */
    struct qz_sums sums;
};

/* Groups of so many values need more candidates than others. */
enum { QZ_FEW_VALUES = 16 };

/* Lists of candidates: of groups whose values count the same, of those with weights; and of those that are special,
 * first far and wide, and then near the best; and of those whose scales are a few steps of a super scale. */
enum {
    QZ_CANDIDATES_UNWEIGHTED,
    QZ_CANDIDATES_WEIGHTED,
    QZ_CANDIDATES_MANY,
    QZ_CANDIDATES_ENTRIES,
    QZ_CANDIDATES_NEAR,
    QZ_CANDIDATES_STEPS,
    QZ_CANDIDATE_LISTS
};

struct qz_encoder {
    const struct qz_view *view; /* where codes and scales go */
    qz_method method;
    struct qz_fit fit; /* how plain scales are found */
    struct qz_search search[QZ_CANDIDATE_LISTS];
    struct qz_fixed fixed; /* as the first list; or none */
    int positive;          /* searched scales are not negative: they may not be, or need not be */
    int has_tiny;  /* the table has a value next to 0: a group with one large value may do best with a large scale */
    int has_signs; /* of searched scales, either sign makes other values */
    float alike_below; /* of few values, below so many scales, may be decoded alike with another one; 0: none are */
    qz_nonfinite nonfinite;
    const qz_matrix *weights; /* or NULL */
    qz_rule rule;             /* of another tool, which the scheme has */
    qz_rule reference;        /* QZ_REFERENCE: the rule; otherwise QZ_RULE_NONE */
    struct qz_reference_how how;
    uint64_t usual_group; /* the scheme's group size, even if rows are shorter */
};

/* An encoder by a method of a scheme, or by its default, of values of this type. Completes the grid of the view, which
 * the encoder keeps a pointer to. */
void qz_encoder_make(struct qz_encoder *encoder, struct qz_view *view, const qz_scheme *scheme, qz_method method,
                     qz_dtype values);

/* Whether scales are searched, not only plain. */
static inline int qz_is_searching(const struct qz_encoder *encoder)
{
    return encoder->method == QZ_SEARCH || encoder->method == QZ_EXACT;
}

/* Whether a scale is one that float32 can divide by and multiply with as kernels do. */
static inline int qz_is_ordinary_scale(float scale)
{
    return fabsf(scale) >= 0x1p-100f && fabsf(scale) <= 0x1p100f;
}

#endif
