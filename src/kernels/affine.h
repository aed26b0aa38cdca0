/*
 * affine.h - the search for scale and zero together: what the kernels share
 *
 * A kernel processes QZ_BLOCK groups side by side: element k of group l is v[QZ_BLOCK * k + l]. The values of a group
 * have been divided by a power of two, unit[l], so that the largest magnitude is in 2^-30..2^30. A scale s is stored as
 * the nearest number of its type to s * unit[l]. The largest weight is brought into that range in
 * the same way. Results do not depend on these powers of two.
 *
 *   1. Starts. Both ends of the range are moved towards the mean by a share of their distance from it; with
 *      QZ_AFFINE_LATTICES they stay, and are 8 to 15 steps apart. They give codes, and least squares over these give
 *      the best scale and offset. The start with the least error is kept.
 *   2. Moves. The same is done with ends moved by parts of a step from those of the best start. QZ_AFFINE_ANYWHERE does
 *      so again from the best of these.
 *   3. The zero is rounded as it will be stored, codes are made once more, and the scale alone is fitted and rounded.
 *   4. The error of this result is compared with that of the input (QZ_MINMAX as stored). The result is taken only if
 *      its error is less by more than the possible error of float32 sums. Where both errors are so small that the sums
 *      say little, careful_affine.c looks at the group again.
 *
 * Ends are moved towards the mean, not the middle, so that the side of an outlier moves further. Weights take part in
 * the mean, the fits and the errors.
 */
#ifndef QZ_AFFINE_H
#define QZ_AFFINE_H

#include "special.h"

#include <stddef.h>
#include <stdint.h>

enum { QZ_BLOCK = 16 };

enum qz_affine_kind {
    QZ_AFFINE_UINT4,  /* scale * (code - zero), zero an integer 0..15 */
    QZ_AFFINE_FLOAT,  /* scale * (code - zero), zero a number */
    QZ_AFFINE_OFFSET, /* scale * code + offset */
    QZ_AFFINE_MIN     /* scale * code + offset, offset <= 0, both for qz_affine_super: steps 1 and 2, and a last fit */
};

/* Which moves are tried. */
enum qz_affine_list {
    QZ_AFFINE_USUAL,
    QZ_AFFINE_WEIGHTED, /* with weights the best ends may be anywhere: more is tried, and farther out */
    QZ_AFFINE_MANY,     /* where values gather at the ends of their range: the best codes may be fewer */
    QZ_AFFINE_ANYWHERE, /* where few weights count or values repeat: the best ends may be anywhere in the range */
    QZ_AFFINE_LATTICES  /* where values are near a lattice: the range may be any number of steps */
};

enum {
    QZ_AFFINE_STARTS = 2,
    QZ_AFFINE_ANYWHERE_ENDS = 10,
    QZ_AFFINE_MOVES = 8,
    QZ_AFFINE_WEIGHTED_MOVES = 12,
    QZ_AFFINE_MANY_MOVES = 36
};

/* Of groups as short as this, the errors of few values decide: other ends are tried than for more. */
enum { QZ_AFFINE_SHORT = 16 };

/* How far the ends move inwards: for a start, in shares of their distance from the mean; for a move, in steps, and with
 * QZ_AFFINE_UINT4 both ends together, and what is added to the zero. */
struct qz_affine_move {
    float low, high;
};

/* A start: what lies between the ends becomes so many steps. */
struct qz_affine_begin {
    float low, high, steps;
};

static inline int qz_affine_start_count(enum qz_affine_list list)
{
    return list == QZ_AFFINE_ANYWHERE   ? QZ_AFFINE_ANYWHERE_ENDS * QZ_AFFINE_ANYWHERE_ENDS
           : list == QZ_AFFINE_LATTICES ? QZ_MOST_STEPS - QZ_FEWEST_STEPS + 1
                                        : QZ_AFFINE_STARTS;
}

/* Start i. The more values there are, the further out the ends. */
static inline struct qz_affine_begin qz_affine_start(enum qz_affine_kind kind, enum qz_affine_list list, size_t n,
                                                     int i)
{
    static const float shares[3][QZ_AFFINE_STARTS] = {{0.02f, 0.12f}, {0.08f, 0.2f}, {0.18f, 0.32f}};
    static const float short_shares[2][QZ_AFFINE_STARTS] = {{0.02f, 0.35f}, {-0.09f, 0.32f}};
    static const float ends[QZ_AFFINE_ANYWHERE_ENDS] = {-0.2f, -0.1f, 0.0f, 0.08f, 0.16f,
                                                        0.26f, 0.36f, 0.5f, 0.65f, 0.8f};
    if (list == QZ_AFFINE_LATTICES)
        return (struct qz_affine_begin){0.0f, 0.0f, (float)(QZ_FEWEST_STEPS + i)};
    if (list == QZ_AFFINE_ANYWHERE)
        return (struct qz_affine_begin){ends[i / QZ_AFFINE_ANYWHERE_ENDS], ends[i % QZ_AFFINE_ANYWHERE_ENDS], 15.0f};
    float share = shares[n <= 64 ? 0 : n <= 512 ? 1 : 2][i];
    if (n <= QZ_AFFINE_SHORT && list != QZ_AFFINE_WEIGHTED)
        share = short_shares[kind == QZ_AFFINE_UINT4][i];
    return (struct qz_affine_begin){share, share, 15.0f};
}

/* What is tried from the best start on, of n values. */
static inline const struct qz_affine_move *qz_affine_moves(enum qz_affine_kind kind, enum qz_affine_list list, size_t n)
{
    static const struct qz_affine_move ends[QZ_AFFINE_MOVES] = {
        {-0.15f, -0.15f}, {-0.3f, 0},      {0, -0.3f},       {0.3f, 0.3f},
        {-0.15f, 0.45f},  {0.45f, -0.15f}, {-1.05f, -0.15f}, {-0.15f, -1.05f},
    };
    static const struct qz_affine_move short_ends[QZ_AFFINE_MOVES] = {
        {-0.15f, 0.1f},  {-2.3f, 0}, {0, -0.35f},     {0.1f, -1.35f},
        {-0.25f, 0.35f}, {0.3f, 0},  {-1.25f, -2.4f}, {-0.2f, -1.05f},
    };
    static const struct qz_affine_move weighted_ends[QZ_AFFINE_WEIGHTED_MOVES] = {
        {0, -1}, {-0.3f, 0.15f}, {0.3f, -0.15f}, {-1, -1},        {-1, -0.3f},    {-0.15f, -0.3f},
        {0, 1},  {-3, -1.5f},    {1, 0},         {-1.5f, -0.15f}, {-1.5f, -1.5f}, {0.15f, 0.3f},
    };
    static const struct qz_affine_move zeros[QZ_AFFINE_MOVES] = {
        {-0.25f, 0}, {0.25f, 0}, {-0.5f, 0}, {0.75f, 0}, {-1.0f, 0}, {-1.5f, 0}, {0.5f, 1.0f}, {0.5f, -1.0f},
    };
    static const struct qz_affine_move short_zeros[QZ_AFFINE_MOVES] = {
        {1.95f, 0}, {0.35f, 0}, {1.45f, 0}, {0.9f, 0}, {-3.3f, 0}, {-1.9f, 0}, {-0.8f, 1}, {1.8f, -1},
    };
    static const struct qz_affine_move weighted_zeros[QZ_AFFINE_WEIGHTED_MOVES] = {
        {-2, 0},    {-6, 0},   {4, 0}, {-1, 0}, {0.5f, -1}, {0.5f, 1},
        {-3.5f, 0}, {0.5f, 0}, {2, 1}, {3, 2},  {2, -1},    {-0.25f, 0},
    };
    static const struct qz_affine_move many_ends[QZ_AFFINE_MANY_MOVES] = {
        {-0.35f, 0.65f},  {-0.02f, 0.32f},  {0.32f, -0.02f},  {0.65f, -0.35f},  {-0.6f, 0.4f},    {-0.27f, 0.07f},
        {0.07f, -0.27f},  {0.4f, -0.6f},    {-0.85f, 0.15f},  {-0.52f, -0.18f}, {-0.18f, -0.52f}, {0.15f, -0.85f},
        {-1.1f, -0.1f},   {-0.77f, -0.43f}, {-0.43f, -0.77f}, {-0.1f, -1.1f},   {-1.35f, -0.35f}, {-1.02f, -0.68f},
        {-0.68f, -1.02f}, {-0.35f, -1.35f}, {-1.6f, -0.6f},   {-1.27f, -0.93f}, {-0.93f, -1.27f}, {-0.6f, -1.6f},
        {-1.85f, -0.85f}, {-1.52f, -1.18f}, {-1.18f, -1.52f}, {-0.85f, -1.85f}, {-2.1f, -1.1f},   {-1.77f, -1.43f},
        {-1.43f, -1.77f}, {-1.1f, -2.1f},   {-2.35f, -1.35f}, {-2.02f, -1.68f}, {-1.68f, -2.02f}, {-1.35f, -2.35f}};
    static const struct qz_affine_move many_zeros[QZ_AFFINE_MANY_MOVES] = {
        {0.4f, 0.0f},  {0.4f, 1.0f},  {0.4f, -1.0f},  {-0.05f, 0.0f}, {-0.05f, 1.0f}, {-0.05f, -1.0f},
        {-0.5f, 0.0f}, {-0.5f, 1.0f}, {-0.5f, -1.0f}, {-0.95f, 0.0f}, {-0.95f, 1.0f}, {-0.95f, -1.0f},
        {-1.4f, 0.0f}, {-1.4f, 1.0f}, {-1.4f, -1.0f}, {-1.85f, 0.0f}, {-1.85f, 1.0f}, {-1.85f, -1.0f},
        {-2.3f, 0.0f}, {-2.3f, 1.0f}, {-2.3f, -1.0f}, {-2.75f, 0.0f}, {-2.75f, 1.0f}, {-2.75f, -1.0f},
        {-3.2f, 0.0f}, {-3.2f, 1.0f}, {-3.2f, -1.0f}, {-3.65f, 0.0f}, {-3.65f, 1.0f}, {-3.65f, -1.0f},
        {-4.1f, 0.0f}, {-4.1f, 1.0f}, {-4.1f, -1.0f}, {-4.55f, 0.0f}, {-4.55f, 1.0f}, {-4.55f, -1.0f}};
    static const struct qz_affine_move *const moves[5][2] = {{ends, zeros},
                                                             {weighted_ends, weighted_zeros},
                                                             {many_ends, many_zeros},
                                                             {weighted_ends, weighted_zeros},
                                                             {ends, zeros}};
    if (list == QZ_AFFINE_USUAL && n <= QZ_AFFINE_SHORT)
        return kind == QZ_AFFINE_UINT4 ? short_zeros : short_ends;
    return moves[list][kind == QZ_AFFINE_UINT4];
}

/* What the usual moves do to the inverse of a scale and to the place of code 8, in steps of that scale, or to a zero. */
struct qz_affine_shift {
    float inverse, place, zero;
};

#define QZ_ENDS(low, high)                                                                                             \
    {                                                                                                                  \
        15 / (15 - ((low) + (high))), (low) - ((low) + (high)) * (8.0f / 15), 0                                        \
    }
#define QZ_ZERO(wide, zero)                                                                                            \
    {                                                                                                                  \
        15 / (15 - (wide)), 0, zero                                                                                    \
    }
static inline const struct qz_affine_shift *qz_affine_shifts(enum qz_affine_kind kind, size_t n)
{
    static const struct qz_affine_shift ends[QZ_AFFINE_MOVES] = {
        QZ_ENDS(-0.15f, -0.15f), QZ_ENDS(-0.3f, 0),      QZ_ENDS(0, -0.3f),       QZ_ENDS(0.3f, 0.3f),
        QZ_ENDS(-0.15f, 0.45f),  QZ_ENDS(0.45f, -0.15f), QZ_ENDS(-1.05f, -0.15f), QZ_ENDS(-0.15f, -1.05f),
    };
    static const struct qz_affine_shift short_ends[QZ_AFFINE_MOVES] = {
        QZ_ENDS(-0.15f, 0.1f),  QZ_ENDS(-2.3f, 0), QZ_ENDS(0, -0.35f),     QZ_ENDS(0.1f, -1.35f),
        QZ_ENDS(-0.25f, 0.35f), QZ_ENDS(0.3f, 0),  QZ_ENDS(-1.25f, -2.4f), QZ_ENDS(-0.2f, -1.05f),
    };
    static const struct qz_affine_shift zeros[QZ_AFFINE_MOVES] = {
        QZ_ZERO(-0.25f, 0), QZ_ZERO(0.25f, 0), QZ_ZERO(-0.5f, 0), QZ_ZERO(0.75f, 0),
        QZ_ZERO(-1.0f, 0),  QZ_ZERO(-1.5f, 0), QZ_ZERO(0.5f, 1),  QZ_ZERO(0.5f, -1),
    };
    static const struct qz_affine_shift short_zeros[QZ_AFFINE_MOVES] = {
        QZ_ZERO(1.95f, 0), QZ_ZERO(0.35f, 0), QZ_ZERO(1.45f, 0), QZ_ZERO(0.9f, 0),
        QZ_ZERO(-3.3f, 0), QZ_ZERO(-1.9f, 0), QZ_ZERO(-0.8f, 1), QZ_ZERO(1.8f, -1),
    };
    if (n <= QZ_AFFINE_SHORT)
        return kind == QZ_AFFINE_UINT4 ? short_zeros : short_ends;
    return kind == QZ_AFFINE_UINT4 ? zeros : ends;
}
#undef QZ_ENDS
#undef QZ_ZERO

static inline int qz_affine_move_count(enum qz_affine_list list)
{
    static const int counts[5] = {QZ_AFFINE_MOVES, QZ_AFFINE_WEIGHTED_MOVES, QZ_AFFINE_MANY_MOVES,
                                  QZ_AFFINE_WEIGHTED_MOVES, 0};
    return counts[list];
}

/* How often all moves are tried, each time from the best so far. */
static inline int qz_affine_rounds(enum qz_affine_list list)
{
    return list == QZ_AFFINE_ANYWHERE ? 2 : 1;
}

/* A fit whose codes vary less than this, as a share of their squares, says nothing about scale and offset. */
#define QZ_AFFINE_FLAT 0x1p-20f

/* The share of what came in that another error must be less than. Sums of 512 squares and more, each of a difference
 * of numbers some 2^-9 as large or larger, are wrong by less. */
#define QZ_AFFINE_LESS 0x1.ffep-1f

/*
 * Around its least value the error of a group with QZ_AFFINE_MIN is
 *
 *     curve * (scale' - scale - slope * d)^2 + rest * d^2,    d = the change of -offset
 *
 * Of other kinds, `curve` is the error of what comes out, in units of unit[l]^2 and those of the weights, `rest` the
 * sum of the weights, `slope` the sum of their squares, and `variance` that of the values. Where the rule of another
 * tool has a pair, `rule` is its error.
 */
struct qz_affine_error {
    float curve[QZ_BLOCK], slope[QZ_BLOCK], rest[QZ_BLOCK], variance[QZ_BLOCK], rule[QZ_BLOCK];
};

/* Pairs by the rule of another tool, in the units of a block. */
struct qz_affine_rule {
    const float *scale, *zero;
};

#endif
