/*
 * encode_long.c - encodes groups that are too long for a tile
 *
 * Each group is read in pieces of a tile's size: first for its range, which gives the plain scale; then as often as a
 * search needs it; and last for its codes.
 */
#include "encode_long.h"
#include "scales/clip.h"
#include "encode_rows.h"
#include "scales/fit_groups.h"
#include "scales/reference_groups.h"
#include "base/number.h"
#include "scales/scales.h"
#include "scales/search.h"
#include "kernels/stream.h"

#include <math.h>

/* A long group: columns start to end of a row. */
struct long_group {
    const struct encoding *encoding;
    struct findings *found;
    uint64_t row, start, end;
    struct clip clip;
    int clips;   /* some values are replaced: */
    float limit; /* infinities become this */
    struct groups groups;
    struct qz_reference reference;
};

/* Piece of a group from column c on, as float32. */
static const float *piece_at(const struct long_group *group, uint64_t c, float *buffer, struct qz_tile *piece,
                             int *overflow)
{
    const struct encoding *encoding = group->encoding;
    ptrdiff_t stride;
    *piece = (struct qz_tile){group->row, c, 1, qz_least(QZ_TILE, group->end - c)};
    return qz_tile_load(encoding->encoder.view->kernels, encoding->operation.matrix, piece, buffer, &stride, overflow);
}

/* The same with values that are finite; `replaced` is how many were not. */
static const float *clean_piece_at(const struct long_group *group, uint64_t c, float *buffer, struct qz_tile *piece,
                                   uint64_t *replaced)
{
    int overflow;
    const float *x = piece_at(group, c, buffer, piece, &overflow);
    *replaced = 0;
    if (!group->clips)
        return x;
    if (x != buffer)
        memcpy(buffer, x, piece->cols * sizeof *x);
    *replaced = clip_apply(buffer, piece->cols, group->limit);
    return buffer;
}

enum { RANGE_PIECE = 1024 }; /* values whose range is found while as many are fetched */

/* Range of a piece; nonzero if some value is not finite. Meanwhile what follows in memory is fetched. */
static int range_of_piece(const struct encoding *encoding, const float *x, size_t n, float range[2])
{
    int bad = 0;
    range[0] = INFINITY;
    range[1] = -INFINITY;
    for (size_t i = 0; i < n; i += RANGE_PIECE) {
        float some[2];
        if (encoding->operation.work.streams)
            qz_fetch((const char *)(x + i) + QZ_AHEAD, RANGE_PIECE * sizeof *x);
        bad |= encoding->encoder.view->kernels->range_f32(x + i, qz_least(RANGE_PIECE, n - i), some);
        range[0] = some[0] < range[0] ? some[0] : range[0];
        range[1] = some[1] > range[1] ? some[1] : range[1];
    }
    return bad;
}

/* The first step: the range of the group. Returns 0 if it has values that may not be encoded. */
static int measure_range(struct long_group *group)
{
    const struct encoding *encoding = group->encoding;
    _Alignas(64) float buffer[QZ_TILE];
    struct clip clip = clip_nothing;
    for (uint64_t c = group->start; c < group->end; c += QZ_TILE) {
        struct qz_tile piece;
        float range[2];
        int overflow;
        const float *x = piece_at(group, c, buffer, &piece, &overflow);
        if (!range_of_piece(encoding, x, piece.cols, range)) {
            clip.min = range[0] < clip.min ? range[0] : clip.min;
            clip.max = range[1] > clip.max ? range[1] : clip.max;
            continue;
        }
        if (encoding->encoder.nonfinite == QZ_REFUSE) {
            group->found->nonfinite = 1;
            return 0;
        }
        for (size_t i = 0; overflow && i < piece.cols; i++)
            group->found->nonfinite |=
                !qz_is_finite(x[i]) && qz_is_finite_f64(qz_matrix_value(encoding->operation.matrix, group->row, c + i));
        clip_measure(&clip, x, piece.cols);
    }
    float limit = clip_limit(&clip);
    int nothing = clip.min > clip.max;
    group->clip = clip;
    group->clips = clip.nan || clip.above || clip.below;
    group->limit = limit;
    group->groups.min[0] = clip.below || (clip.nan && clip.min > 0) || nothing ? (clip.below ? -limit : 0) : clip.min;
    group->groups.max[0] = clip.above || (clip.nan && clip.max < 0) || nothing ? (clip.above ? limit : 0) : clip.max;
    return 1;
}

/* Decides for a group whose largest magnitude is both max and -max: the first one wins, as in qz_break_ties. */
static void break_tie(struct long_group *group)
{
    float buffer[QZ_TILE], first_extreme = 0.0f;
    for (uint64_t c = group->start; c < group->end && first_extreme == 0.0f; c += QZ_TILE) {
        struct qz_tile piece;
        int overflow;
        const float *x = piece_at(group, c, buffer, &piece, &overflow);
        for (size_t i = 0; i < piece.cols && first_extreme == 0.0f; i++)
            if (fabsf(x[i]) >= group->limit) /* an infinity counts as what it becomes */
                first_extreme = x[i];
    }
    float *other = first_extreme > 0 ? &group->groups.min[0] : &group->groups.max[0];
    *other = nextafterf(*other, 0.0f);
}

/* A long group as a search reads it. */
struct pieces {
    const struct long_group *group;
    float x[QZ_TILE], w[QZ_TILE];
};

static const float *load_piece(void *context, uint64_t start, size_t *n, const float **w)
{
    struct pieces *pieces = context;
    const struct long_group *group = pieces->group;
    struct qz_tile piece;
    uint64_t replaced;
    ptrdiff_t stride;
    const float *x = clean_piece_at(group, group->start + start, pieces->x, &piece, &replaced);
    piece.cols = *n = qz_least(*n, piece.cols);
    *w = qz_load_weights(group->encoding, group->found, &piece, pieces->w, &stride);
    return x;
}

/* The second step: the scale of the group. */
static void find_scale(struct long_group *group)
{
    const struct qz_encoder *encoder = &group->encoding->encoder;
    const struct qz_view *view = encoder->view;
    struct groups *groups = &group->groups;
    uint64_t length = group->end - group->start;
    const struct run whole = {group->row, group->start, 1, (size_t)length, (size_t)length};
    unsigned flags = 0;
    if (encoder->reference) {
        qz_reference_long_group(encoder, &whole, groups, &group->reference);
        qz_note_scale_problem(encoder, group->found, groups, &whole, 0);
    } else {
        flags = qz_fit_groups(encoder, &whole, groups, NULL, NULL);
    }
    if (flags & QZ_FIT_TIE) {
        break_tie(group);
        flags = qz_fit_groups(encoder, &whole, groups, NULL, NULL);
    }
    if (qz_is_searching(encoder)) {
        struct pieces pieces = {.group = group};
        struct qz_exact_source source = {.n = length, .piece = load_piece, .context = &pieces};
        flags = qz_search_pieces(encoder, &source, groups);
        if (qz_has_byte_scales(view))
            flags = qz_round_scales(view, &whole, groups);
    }
    if ((flags & (QZ_FIT_TINY | QZ_FIT_HUGE)) || qz_may_overflow(view, groups->scale[0]))
        qz_refit_special_groups(encoder, group->found, groups, &whole);
    qz_note_far_values(view, groups);
    const struct span span = {group->row, group->start / view->group_size, 1, 1, 0};
    qz_store_groups(view, &span, groups->scale, groups->zero, groups->bytes);
}

/* The third step: the codes of the group. */
static void make_codes(struct long_group *group)
{
    const struct encoding *encoding = group->encoding;
    struct findings *found = group->found;
    _Alignas(64) float buffer[QZ_TILE], weights[QZ_TILE];
    for (uint64_t c = group->start; c < group->end; c += QZ_TILE) {
        struct qz_tile piece;
        uint64_t replaced;
        ptrdiff_t stride;
        const float *x = clean_piece_at(group, c, buffer, &piece, &replaced);
        const float *w = qz_load_weights(encoding, found, &piece, weights, &stride);
        struct run run = qz_run_of(encoding->encoder.view, &piece);
        uint8_t staged[QZ_TILE / 2], *codes = qz_codes_buffer(encoding, &run, staged);
        found->replaced += replaced;
        if (encoding->operation.work.streams) /* the rest of what the kernel will fetch */
            qz_fetch(x + QZ_TILE, QZ_TILE / 4 * sizeof *x);
        if (encoding->encoder.reference) {
            qz_reference_group_codes(&encoding->encoder, &group->reference, group->end - group->start, x, piece.cols,
                                     codes);
            found->clipped += qz_count_clipped(encoding, &group->groups, x, piece.cols, piece.cols);
        } else {
            found->clipped += qz_group_codes(encoding, &group->groups, &run, x, piece.cols, codes);
        }
        qz_finish_codes(encoding, &found->errors, &group->groups, &run, x, w, 0, piece.cols, codes);
    }
}

void qz_encode_long(void *context, struct findings *found, const struct qz_area *area)
{
    const struct encoding *encoding = context;
    uint64_t group_size = encoding->encoder.view->group_size;
    for (uint64_t start = area->col; start < area->col + area->cols; start += group_size) {
        struct long_group group;
        group.encoding = encoding;
        group.found = found;
        group.row = area->row;
        group.start = start;
        group.end = start + qz_least(group_size, area->col + area->cols - start);
        group.groups.count = 1;
        group.groups.far = group.groups.careful = group.groups.has_sums = 0;
        if (!measure_range(&group))
            return;
        find_scale(&group);
        make_codes(&group);
    }
}
