/*
 * encode.c - grouped encoding
 */
#include "clip.h"
#include "fpenv.h"
#include "group.h"
#include "number.h"

#include <float.h>
#include <math.h>

/* Which of the numbers that are stored for a group does not fit its type. */
static int number_beyond(const struct job *job, const struct groups *groups, const struct run *run, size_t g)
{
    size_t row_groups = groups->count / run->rows;
    float super[2];
    qz_load_super(job, run->row + g / row_groups, run->col / job->group_size + g % row_groups, super);
    if (!qz_is_finite(super[0]))
        return QZ_NUMBER_SUPER;
    if (!qz_is_finite(super[1]))
        return QZ_NUMBER_SUPER_OFFSET;
    /* A scale follows from its offset, a float zero from its scale: that one is to blame if neither fits. */
    int first = job->grid.zero == QZ_ZERO_OFFSET || (job->grid.zero == QZ_ZERO_FLOAT && qz_is_finite(groups->scale[g]));
    return first && !qz_is_finite(groups->zero[g]) ? QZ_NUMBER_ZERO : QZ_NUMBER_SCALE;
}

/* Counts what is special about a group's scale. Returns 0 if it does not fit its type, which makes the call fail; the
 * group is zeros then. */
static int judge(const struct job *job, struct part *part, struct groups *groups, const struct run *run, size_t g)
{
    size_t row_groups = groups->count / run->rows;
    uint64_t flat = (run->row + g / row_groups) * job->row_groups + run->col / job->group_size + g % row_groups;
    float scale = groups->scale[g], magnitude = fabsf(scale);
    float zero = job->grid.zero == QZ_ZERO_OFFSET ? groups->zero[g] : 0.0f;
    int float_zero = job->grid.zero == QZ_ZERO_FLOAT && job->grid.shift == 0.0f;
    /* scale * 15 + offset must not overflow on its way to a value that would fit */
    int overflows = job->grid.zero == QZ_ZERO_OFFSET && !qz_is_finite(scale * 15.0f);
    if (job->foreign) /* their codes are not drawn in where values would be infinite */
        overflows |= !qz_is_finite(scale * qz_larger(-job->grid.sorted[0], job->grid.sorted[15]));
    if (!qz_is_finite(scale) || !qz_is_finite(zero) || overflows || (float_zero && !qz_is_finite(groups->zero[g]))) {
        if (flat < part->bad_group) {
            part->bad_group = flat;
            part->bad_value = (double)qz_larger(-groups->min[g], groups->max[g]);
            part->bad_number = number_beyond(job, groups, run, g);
        }
        groups->inverse[g] = groups->zero[g] = groups->scale[g] = 0.0f; /* stay finite */
        return 0;
    }
    if (scale == 0.0f)
        part->zeroed += groups->min[g] != zero || groups->max[g] != zero;
    else if (magnitude < (job->scale_dtype == QZ_F16 ? 0x1p-14f : FLT_MIN)) /* of zeros E8M0 has such a scale, too */
        part->subnormal += groups->min[g] != 0.0f || groups->max[g] != 0.0f;
    return 1;
}

/* Whether codes of a group may stand for values that are infinite. Scales up to 2^120 are safe with all of our values;
 * a table of the caller's may reach further. */
static int may_overflow(const struct job *job, float scale)
{
    float most = qz_larger(-job->grid.sorted[0], job->grid.sorted[15]);
    return most > 0x1p7f && !(fabsf(scale) * most <= 0x1p126f);
}

static int some_may_overflow(const struct job *job, const struct groups *groups, size_t first, size_t count)
{
    int some = 0;
    for (size_t g = first; g < first + count; g++)
        some |= may_overflow(job, groups->scale[g]);
    return some;
}

/* Looks closer at what fit noticed in the groups of a run. */
static void look_closer(const struct job *job, struct part *part, struct groups *groups, const struct run *run)
{
    int float_zero = job->grid.zero == QZ_ZERO_FLOAT && job->grid.shift == 0.0f;
    for (size_t g = 0; g < groups->count; g++) {
        float scale = groups->scale[g];
        if (may_overflow(job, scale))
            groups->inverse[g] = 0.0f;
        if (!judge(job, part, groups, run, g) || groups->inverse[g] != 0.0f)
            continue;
        groups->exact |= scale == 0.0f && job->grid.zero == QZ_ZERO_OFFSET; /* x - offset times 0: may be NaN */
        if (scale == 0.0f)
            continue;
        groups->exact = 1;
        if (job->grid.zero == QZ_ZERO_UINT4) {
            float lo = groups->min[g] < 0 ? groups->min[g] : 0;
            double wanted = rint(-(double)lo / (double)scale);
            groups->zero[g] = wanted < 0 ? 0.0f : wanted > 15 ? 15.0f : (float)wanted;
        } else if (float_zero) {
            float lo = groups->min[g] < 0 ? groups->min[g] : 0, wanted = (float)(-(double)lo / (double)scale);
            groups->zero[g] = job->scale_dtype == QZ_F16    ? qz_f32_from_f16(qz_f16_from_f32(wanted))
                              : job->scale_dtype == QZ_BF16 ? qz_f32_from_bf16(qz_bf16_from_f32(wanted))
                                                            : wanted;
        }
    }
}

/* Notes whether some value lies further beyond uniform codes than the kernels take. Plain scales follow from the range
 * of their group; others need not suit all its values. */
static void look_far(const struct job *job, struct groups *groups)
{
    const int offset = job->grid.zero == QZ_ZERO_OFFSET, moved = job->grid.zero == QZ_ZERO_FLOAT;
    int32_t near = 1;
    for (size_t g = 0; g < groups->count && job->grid.uniform; g++) { /* compilers make vectors of it */
        float zero = offset ? groups->zero[g] : 0.0f, moves = moved ? fabsf(groups->zero[g]) : 0.0f;
        float inverse = fabsf(groups->inverse[g]), above = (groups->max[g] - zero) * inverse;
        float below = (zero - groups->min[g]) * inverse;
        near &= (above <= 0x1p29f) & (below <= 0x1p29f) & (moves <= 0x1p29f);
    }
    groups->far = !near;
}

/* The kernels that make a run's codes. */
static const struct qz_kernels *kernels_for(const struct job *job, const struct groups *groups)
{
    return groups->far ? &qz_kernels_scalar : job->kernels;
}

/* Values beyond the ends of the code range by more than half a step, where a group's numbers are another tool's. */
static size_t count_clipped(const struct job *job, const struct groups *groups, const float *x, size_t n,
                            size_t group_size)
{
    uint8_t nearest[QZ_TILE / 2];
    if (!job->want_stats)
        return 0;
    return kernels_for(job, groups)->group_codes(x, n, group_size, &job->grid, groups->inverse, groups->zero, nearest);
}

/* Largest magnitude both as max and as -max: the first one wins. Drawing in the other end a little tells fit, which
 * then finds no tie. */
static void break_ties(const struct job *job, struct groups *groups, size_t first, const float *x, size_t n)
{
    float *min = groups->min + first, *max = groups->max + first;
    for (size_t g = 0, start = 0; start < n; g++, start += (size_t)job->group_size) {
        if (max[g] != -min[g])
            continue;
        size_t i = start, end = qz_least(start + job->group_size, n);
        while (i < end && fabsf(x[i]) != max[g])
            i++;
        if (i < end)
            *(x[i] > 0 ? &min[g] : &max[g]) = nextafterf(x[i] > 0 ? min[g] : max[g], 0.0f);
    }
}

/* Scales of a run's groups from their ranges and, if it is to be searched, values x with weights w. */
static unsigned fit(const struct job *job, const struct run *run, struct groups *groups, const float *x, const float *w)
{
    for (size_t g = 0; g < groups->count && job->scale_dtype == QZ_U6; g++) {
        groups->min[g] = groups->min[g] < 0 ? groups->min[g] : 0.0f; /* offsets are not positive */
        /* Of groups that a search leaves alone: as if there were one value, with any of the codes. */
        groups->curve[g] = 77.5f;
        groups->slope[g] = 0.0f;
        groups->rest[g] = 1.0f;
    }
    unsigned flags = job->kernels->fit(&job->rule, groups->count, groups->min, groups->max, groups->scale,
                                       groups->inverse, groups->zero);
    if (flags & QZ_FIT_TIE) /* they will be fitted again */
        return flags;
    qz_make_supers(job, run, groups);
    int searched = x && (job->method == QZ_SEARCH || job->method == QZ_EXACT);
    if (searched && job->super_groups)
        return qz_search_shared(job, run, groups, x, w);
    if (searched)
        flags = qz_search_groups(job, run, groups, x, w);
    if (x && job->scale_dtype == QZ_U6)
        return qz_limit_offsets(job, run, groups, x);
    return qz_has_byte_scales(job) ? qz_round_scales(job, run, groups) : flags;
}

static int needs_exact(const struct groups *groups, size_t g)
{
    return groups->inverse[g] == 0.0f && groups->scale[g] != 0.0f;
}

/* A number in [0, 1) for an element: its flat index and the seed, well mixed (the finalizer of SplitMix64). */
static double chance(uint64_t seed, uint64_t index)
{
    uint64_t z = seed + (index + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* One of the two codes around x, the nearer one more likely; values beyond the ends take the end. */
static int stochastic_code(float x, float scale, float zero, const struct qz_grid *grid, double chance)
{
    double y = ((double)x - (grid->zero == QZ_ZERO_OFFSET ? (double)zero : 0.0)) / (double)scale;
    if (grid->zero == QZ_ZERO_UINT4 || grid->zero == QZ_ZERO_FLOAT)
        y += (double)zero;
    int i = 0, last = 15;
    while (grid->uniform && grid->sorted[last] > (float)grid->hi)
        last--;
    while (grid->uniform && grid->sorted[i] < (float)grid->lo)
        i++;
    while (i < last && (double)grid->sorted[i + 1] <= y)
        i++;
    double low = (double)grid->sorted[i], step = i < last ? (double)grid->sorted[i + 1] - low : 0.0;
    i += step > 0.0 && y > low && chance * step < y - low;
    while (i < last && grid->sorted[i + 1] == grid->sorted[i]) /* of equal values only the last one is written */
        i++;
    return grid->code[i];
}

/* Codes of n values by the kernel, groups from `first` on. If the statistics are wanted, their sums come with them. */
static size_t plain_codes(const struct job *job, struct groups *groups, size_t first, const float *x, size_t n,
                          size_t group_size, uint8_t *codes)
{
    const float *inverse = groups->inverse + first, *zero = groups->zero + first;
    const struct qz_kernels *kernels = kernels_for(job, groups);
    groups->has_sums = job->want_stats;
    if (groups->has_sums)
        return kernels->group_codes_error(x, n, group_size, &job->grid, groups->scale + first, inverse, zero, codes,
                                          &groups->sums);
    return kernels->group_codes(x, n, group_size, &job->grid, inverse, zero, codes);
}

/* The flat index of element i of a run in the matrix that the values are a part of. */
static uint64_t whole_index(const struct job *job, const struct run *run, size_t i)
{
    uint64_t flat = qz_flat_index(job, run, i);
    if (!job->whole)
        return flat;
    return (job->whole->row + flat / job->part_cols) * job->whole->cols + job->whole->col + flat % job->part_cols;
}

/* Codes of groups that are fitted; returns how many were clipped. Element i of x has code i of `codes`. */
static size_t group_codes(const struct job *job, struct groups *groups, const struct run *run, const float *x,
                          size_t group_size, uint8_t *codes)
{
    if (!groups->exact && !job->stochastic)
        return plain_codes(job, groups, 0, x, run->rows * run->pitch, group_size, codes);
    float others[QZ_TILE];
    const float *plain = x;
    size_t n = run->rows * run->pitch;
    if (groups->exact) { /* the kernel must not see values that need the exact rule: x - offset could overflow */
        memcpy(others, x, n * sizeof *x);
        for (size_t i = 0; i < n; i++)
            if (groups->inverse[i / group_size] == 0.0f)
                others[i] = 0.0f;
        plain = others;
    }
    const struct qz_kernels *kernels = kernels_for(job, groups);
    size_t clipped = kernels->group_codes(plain, n, group_size, &job->grid, groups->inverse, groups->zero, codes);
    for (size_t i = 0; i < n && groups->exact; i++) {
        size_t g = i / group_size;
        if (!needs_exact(groups, g))
            continue;
        if (i % group_size == 0) { /* what stood there may have counted as clipped, where 0 is not among the values */
            uint8_t code;
            clipped -= qz_least(group_size, n - i) *
                       kernels->group_codes(&plain[i], 1, 1, &job->grid, &groups->inverse[g], &groups->zero[g], &code);
        }
        qz_set_code(codes, i, qz_exact_code(x[i], groups->scale[g], groups->zero[g], &job->grid, &clipped));
    }
    for (size_t i = 0; i < n && job->stochastic; i++) {
        size_t g = i / group_size;
        if (groups->scale[g] != 0.0f && groups->inverse[g] != 0.0f)
            qz_set_code(codes, i,
                        stochastic_code(x[i], groups->scale[g], groups->zero[g], &job->grid,
                                        chance(job->seed, whole_index(job, run, i))));
    }
    return clipped;
}

/* Puts n codes in place, from column col on. */
static void store_codes(const struct job *job, uint64_t row, uint64_t col, size_t n, const uint8_t *codes)
{
    uint8_t *to = qz_codes_at(job, row, col);
    if (col % 2 == 0 && job->stream)
        job->kernels->stream(to, codes, n / 2 + n % 2);
    else if (col % 2 == 0)
        memcpy(to, codes, n / 2 + n % 2);
    else
        for (size_t i = 0; i < n; i++) {
            if (i % 2)
                to[(i + 1) / 2] = 0;
            qz_set_code(to, i + 1, qz_code_at(codes, i));
        }
}

/* Where the codes of a run are made: in place, or in `staged` if they must be moved from there. */
static uint8_t *codes_buffer(const struct job *job, const struct run *run, uint8_t *staged)
{
    int one_run = run->rows == 1 || (run->pitch == run->cols && job->packed->code_stride == (int64_t)run->pitch / 2);
    int direct = !job->stream && run->col % 2 == 0 && one_run;
    return direct ? qz_codes_at(job, run->row, run->col) : staged;
}

/* Puts the codes of a run of values x in place and adds its statistics. `stays`: x is there until the call ends. */
static void finish_codes(const struct job *job, struct part *part, const struct groups *groups, const struct run *run,
                         const float *x, const float *w, int stays, size_t group_size, uint8_t *codes)
{
    size_t n = run->rows * run->pitch, bytes = run->cols / 2 + run->cols % 2;
    int in_place = codes == qz_codes_at(job, run->row, run->col);
    for (size_t r = 0; r < run->rows && run->rows > 1 && !in_place; r++) {
        uint8_t *from = codes + r * (run->pitch / 2), *to = qz_codes_at(job, run->row + r, run->col);
        qz_copy_few(to, from, bytes);
        if (run->cols % 2)
            to[bytes - 1] &= 15; /* what fills the row up is no part of it */
    }
    if (run->rows == 1 && !in_place)
        store_codes(job, run->row, run->col, n, codes);
    if (!job->want_stats)
        return;

    float decoded[QZ_TILE];
    if (w) {
        job->kernels->group_decode(codes, n, group_size, &job->grid, groups->scale, groups->zero, decoded);
        qz_add_weighted_error(job, part, x, decoded, w, run);
    }
    const struct qz_sums *sums = &groups->sums;
    if (!groups->has_sums || !qz_add_plain_sums(part, sums)) {
        float largest = qz_largest_magnitude(job, groups->min, groups->max, groups->count);
        job->kernels->group_decode(codes, n, group_size, &job->grid, groups->scale, groups->zero, decoded);
        qz_add_error(job, part, x, decoded, run, largest);
        return;
    }
    if (sums->max_error == 0 || (double)sums->max_error < part->max_error)
        return;
    if (stays && (double)sums->max_error > part->max_error) { /* its place can wait: a larger one may come */
        part->max_error = (double)sums->max_error;
        part->where = *run;
        part->where_x = x;
        return;
    }
    qz_look_up_error(job, part); /* an equal one: the first counts */
    job->kernels->group_decode(codes, n, group_size, &job->grid, groups->scale, groups->zero, decoded);
    qz_note_error(part, (double)sums->max_error,
                  qz_flat_index(job, run, job->kernels->find_error(x, decoded, n, sums->max_error)));
}

/* Values from memory that are fitted and encoded before those that follow them: with fewer at a time, what is fetched
 * in advance is spread more evenly. It pays where codes take little longer than memory, so not with statistics. */
enum { PIECE = 1024 };

/* Whether scales follow from the range of their own group alone. */
static int scales_follow_ranges(const struct job *job)
{
    return job->method != QZ_SEARCH && job->method != QZ_EXACT && !qz_has_byte_scales(job);
}

/* How many of a run's n values are fitted and encoded at a time. */
static size_t piece_of(const struct job *job, size_t n, size_t group_size)
{
    return job->stream && scales_follow_ranges(job) && !job->want_stats && PIECE % group_size == 0 ? PIECE : n;
}

/* Scales of a run's groups, or of the `count` from `first` on where ranges are all that it takes. */
static unsigned fit_piece(const struct job *job, const struct run *run, struct groups *groups, size_t first,
                          size_t count, const float *x, const float *w)
{
    if (count == groups->count)
        return fit(job, run, groups, x, w);
    return job->kernels->fit(&job->rule, count, groups->min + first, groups->max + first, groups->scale + first,
                             groups->inverse + first, groups->zero + first);
}

/* Fits and encodes groups as if nothing but ties were special about them; returns 0 if something is. */
static int encode_plain(const struct job *job, struct groups *groups, const struct run *run, const float *x,
                        const float *w, size_t group_size, uint8_t *codes, size_t *clipped)
{
    size_t n = run->rows * run->pitch, step = piece_of(job, n, group_size);
    if (job->stochastic)
        return 0;
    *clipped = 0;
    for (size_t i = 0; i < n; i += step) {
        size_t count = qz_least(step, n - i), g = i / group_size, some = (count - 1) / group_size + 1;
        if (job->kernels->group_range(x + i, count, group_size, groups->min + g, groups->max + g))
            return 0;
        unsigned flags = fit_piece(job, run, groups, g, some, x, w);
        if (flags & QZ_FIT_TIE) {
            break_ties(job, groups, g, x + i, count);
            flags = fit_piece(job, run, groups, g, some, x, w);
        }
        if (flags || some_may_overflow(job, groups, g, some))
            return 0;
        if (!scales_follow_ranges(job))
            look_far(job, groups);
        *clipped += plain_codes(job, groups, g, x + i, count, group_size, codes + i / 2);
    }
    return 1;
}

/* The same for any groups. Returns the values that were encoded, x or `clean`; NULL if they may not be. */
static const float *encode_special(const struct job *job, struct part *part, struct groups *groups,
                                   const struct run *run, const float *x, const float *w, size_t group_size,
                                   float *clean, uint8_t *codes)
{
    size_t n = run->rows * run->pitch;
    if (job->kernels->group_range(x, n, group_size, groups->min, groups->max)) {
        if (job->nonfinite == QZ_REFUSE) {
            part->nonfinite = 1;
            return NULL;
        }
        memcpy(clean, x, n * sizeof *x);
        x = clean;
        for (size_t i = 0; i < n; i += group_size)
            part->replaced += clip_group(clean + i, qz_least(group_size, n - i));
        job->kernels->group_range(x, n, group_size, groups->min, groups->max);
    }
    if (job->foreign) {
        qz_foreign_groups(job, run, x, groups, codes);
        for (size_t g = 0; g < groups->count; g++)
            judge(job, part, groups, run, g);
        look_far(job, groups);
        part->clipped += count_clipped(job, groups, x, n, group_size);
        return x;
    }
    unsigned flags = fit(job, run, groups, x, w);
    if (flags & QZ_FIT_TIE) {
        break_ties(job, groups, 0, x, n);
        flags = fit(job, run, groups, x, w);
    }
    if ((flags & (QZ_FIT_TINY | QZ_FIT_HUGE)) || some_may_overflow(job, groups, 0, groups->count))
        look_closer(job, part, groups, run);
    look_far(job, groups);
    part->clipped += group_codes(job, groups, run, x, group_size, codes);
    return x;
}

/* A run of whole groups with the values x. */
static void encode_run(const struct job *job, struct part *part, const struct run *run, const float *x, const float *w,
                       int stays)
{
    struct groups groups;
    size_t group_size = (size_t)job->group_size, n = run->rows * run->pitch, clipped;
    groups.count = (size_t)qz_divide_up(n, group_size);
    groups.far = groups.exact = groups.has_sums = 0;
    uint8_t staged[QZ_TILE / 2];
    uint8_t *codes = codes_buffer(job, run, staged);
    float clean[QZ_TILE];
    if (!job->foreign && encode_plain(job, &groups, run, x, w, group_size, codes, &clipped))
        part->clipped += clipped;
    else if (!(x = encode_special(job, part, &groups, run, x, w, group_size, clean, codes)))
        return;
    stays = stays && x != clean;
    struct span span = {run->row, run->col / job->group_size, run->rows, groups.count / run->rows};
    qz_store_groups(job, &span, groups.scale, groups.zero, groups.bytes);
    finish_codes(job, part, &groups, run, x, w, stays, group_size, codes);
}

/* Rows of a run next to each other, filled up with zeros; src itself where they are so already. */
static const float *fill_rows(const struct run *run, const float *src, ptrdiff_t stride, float *filled)
{
    if (run->rows == 1 || (run->pitch == run->cols && stride == (ptrdiff_t)run->pitch))
        return src;
    for (size_t r = 0; r < run->rows; r++) {
        memcpy(filled + r * run->pitch, src + (ptrdiff_t)r * stride, run->cols * sizeof *src);
        memset(filled + r * run->pitch + run->cols, 0, (run->pitch - run->cols) * sizeof *src);
    }
    return filled;
}

/* Encodes rows of a tile that were loaded to x, rows `stride` apart, with weights or NULL; `stays` as in finish_codes.
 */
static void encode_rows(const struct job *job, struct part *part, const struct qz_tile *tile, const float *x,
                        ptrdiff_t stride, const float *w, ptrdiff_t w_stride, int stays)
{
    struct run run = qz_run_of(job, tile);
    /* Zeros that fill a group up change neither scale nor statistics where 0 is one of the values; by another tool's
     * rule they may. */
    if (!qz_is_one_run(&run) || (run.pitch != run.cols && (!job->grid.has_zero || job->foreign))) {
        for (size_t r = 0; r < run.rows; r++) {
            struct run single = qz_single_row(&run, r);
            encode_run(job, part, &single, x + (ptrdiff_t)r * stride, w ? w + (ptrdiff_t)r * w_stride : NULL, stays);
        }
        return;
    }
    _Alignas(64) float filled[QZ_TILE], filled_weights[QZ_TILE]; /* kernels are fastest with whole cache lines */
    const float *values = fill_rows(&run, x, stride, filled);
    encode_run(job, part, &run, values, w ? fill_rows(&run, w, w_stride, filled_weights) : NULL, stays && values == x);
}

/* The weights of a tile, or NULL: there are none, or some that may not be. */
static const float *load_weights(const struct job *job, struct part *part, const struct qz_tile *tile, float *buffer,
                                 ptrdiff_t *stride)
{
    if (!job->weights)
        return NULL;
    if (job->repeated) {
        *stride = (ptrdiff_t)job->cols;
        return job->repeated;
    }
    int overflow;
    const float *w = qz_tile_load(job->kernels, job->weights, tile, buffer, stride, &overflow);
    for (size_t r = 0; r < (*stride ? tile->rows : 1); r++) { /* often all rows have the same ones */
        float range[2];
        if (job->kernels->range_f32(w + (ptrdiff_t)r * *stride, tile->cols, range) || range[0] < 0) {
            part->bad_weight = 1;
            return NULL;
        }
    }
    return w;
}

static void encode_tile(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols)
{
    _Alignas(64) float buffer[QZ_PANEL], weights[QZ_PANEL];
    struct qz_tile tile = {row, col, rows, (size_t)cols};
    ptrdiff_t stride, w_stride = 0;
    int overflow;
    const float *x = qz_tile_load(job->kernels, job->matrix, &tile, buffer, &stride, &overflow);
    const float *w = load_weights(job, part, &tile, weights, &w_stride);
    if (overflow && job->nonfinite == QZ_CLIP) {
        /* Infinities of the source may be clipped; finite values that became infinite may not. */
        for (size_t i = 0; i < rows * tile.cols; i++) {
            double value = qz_matrix_value(job->matrix, row + i / tile.cols, col + i % tile.cols);
            part->nonfinite |= !qz_is_finite(buffer[i]) && qz_is_finite_f64(value);
        }
    }
    for (size_t r = 0; r < rows; r += job->run_rows) {
        struct qz_tile some = {row + r, col, qz_least(job->run_rows, rows - r), tile.cols};
        const float *some_w = w && w != job->repeated ? w + (ptrdiff_t)r * w_stride : w;
        encode_rows(job, part, &some, x + (ptrdiff_t)r * stride, stride, some_w, w_stride, x != buffer);
    }
}

static void encode_columns(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols)
{
    struct qz_tile tile = {row, col, rows, (size_t)cols};
    qz_encode_columns(job, part, &tile, encode_tile);
}

/* The weights of a run of short rows that all have the same ones: `repeated`, made once for all; or NULL. */
static const float *repeat_weights(const struct job *job, float *repeated)
{
    const struct qz_tile row = {0, 0, 1, (size_t)job->cols};
    struct part part = {0};
    ptrdiff_t stride;
    if (job->slices == 0 || !job->weights || job->weights->row_stride != 0 || job->work != encode_tile ||
        job->run_rows < 2 || job->tile_cols != job->cols || job->cols % job->group_size != 0)
        return NULL;
    const float *w = load_weights(job, &part, &row, repeated, &stride);
    for (size_t r = 0; r < job->run_rows && w; r++)
        memmove(repeated + r * row.cols, w, row.cols * sizeof *w);
    return w ? repeated : NULL;
}

/* A long group as a search reads it. */
struct pieces {
    struct job *job;
    struct part *part;
    uint64_t row, col;
    float limit; /* what infinities become, if some have to be replaced */
    int clip;
    float x[QZ_TILE], w[QZ_TILE];
};

static const float *load_piece(void *context, uint64_t start, size_t *n, const float **w)
{
    struct pieces *pieces = context;
    struct job *job = pieces->job;
    *n = qz_least(*n, QZ_TILE);
    struct qz_tile tile = {pieces->row, pieces->col + start, 1, *n};
    ptrdiff_t stride;
    int overflow;
    const float *x = qz_tile_load(job->kernels, job->matrix, &tile, pieces->x, &stride, &overflow);
    *w = load_weights(job, pieces->part, &tile, pieces->w, &stride);
    if (pieces->clip) {
        if (x != pieces->x)
            memcpy(pieces->x, x, *n * sizeof *x);
        clip_apply(pieces->x, *n, pieces->limit);
        x = pieces->x;
    }
    return x;
}

/* Range of a piece; nonzero if some value is not finite. Meanwhile what follows in memory is fetched. */
static int range_of_piece(const struct job *job, const float *x, size_t n, float range[2])
{
    int bad = 0;
    range[0] = INFINITY;
    range[1] = -INFINITY;
    for (size_t i = 0; i < n; i += PIECE) {
        float some[2];
        if (job->stream)
            qz_fetch((const char *)(x + i) + QZ_AHEAD, PIECE * sizeof *x);
        bad |= job->kernels->range_f32(x + i, qz_least(PIECE, n - i), some);
        range[0] = some[0] < range[0] ? some[0] : range[0];
        range[1] = some[1] > range[1] ? some[1] : range[1];
    }
    return bad;
}

/* One or two groups too long for a tile, each in two passes over pieces. */
static void encode_long(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols)
{
    (void)rows;
    for (uint64_t start = col; start < col + cols; start += job->group_size) {
        uint64_t end = start + qz_least(job->group_size, col + cols - start);
        struct groups groups;
        struct clip clip = clip_nothing;
        _Alignas(64) float buffer[QZ_TILE], weights[QZ_TILE];
        float first_extreme = 0.0f;
        ptrdiff_t stride, w_stride;
        int overflow;
        groups.count = 1;
        groups.far = groups.exact = groups.has_sums = 0;

        for (uint64_t c = start; c < end; c += QZ_TILE) {
            struct qz_tile piece = {row, c, 1, qz_least(QZ_TILE, end - c)};
            const float *x = qz_tile_load(job->kernels, job->matrix, &piece, buffer, &stride, &overflow);
            float range[2];
            if (range_of_piece(job, x, piece.cols, range)) {
                if (job->nonfinite == QZ_REFUSE) {
                    part->nonfinite = 1;
                    return;
                }
                for (size_t i = 0; overflow && i < piece.cols; i++)
                    part->nonfinite |=
                        !qz_is_finite(x[i]) && qz_is_finite_f64(qz_matrix_value(job->matrix, row, c + i));
                clip_measure(&clip, x, piece.cols);
            } else {
                clip.min = range[0] < clip.min ? range[0] : clip.min;
                clip.max = range[1] > clip.max ? range[1] : clip.max;
            }
        }
        float limit = clip_limit(&clip);
        groups.min[0] =
            clip.below || (clip.nan && clip.min > 0) || clip.min > clip.max ? (clip.below ? -limit : 0) : clip.min;
        groups.max[0] =
            clip.above || (clip.nan && clip.max < 0) || clip.min > clip.max ? (clip.above ? limit : 0) : clip.max;

        struct run whole = {row, start, 1, (size_t)(end - start), (size_t)(end - start)};
        struct qz_reference foreign;
        unsigned flags = 0;
        if (job->foreign) {
            qz_foreign_long(job, &whole, &groups, &foreign);
            judge(job, part, &groups, &whole, 0);
        } else {
            flags = fit(job, &whole, &groups, NULL, NULL);
        }
        if (flags & QZ_FIT_TIE) {
            for (uint64_t c = start; c < end && first_extreme == 0.0f; c += QZ_TILE) {
                struct qz_tile piece = {row, c, 1, qz_least(QZ_TILE, end - c)};
                const float *x = qz_tile_load(job->kernels, job->matrix, &piece, buffer, &stride, &overflow);
                for (size_t i = 0; i < piece.cols && first_extreme == 0.0f; i++)
                    if (fabsf(x[i]) >= limit) /* an infinity counts as what it becomes */
                        first_extreme = x[i];
            }
            float *other = first_extreme > 0 ? &groups.min[0] : &groups.max[0];
            *other = nextafterf(*other, 0.0f);
            flags = fit(job, &whole, &groups, NULL, NULL);
        }
        if (job->method == QZ_SEARCH || job->method == QZ_EXACT) {
            struct pieces pieces = {job, part, row, start, limit, clip.nan || clip.above || clip.below, {0}, {0}};
            struct qz_exact_source source = {.n = end - start, .piece = load_piece, .context = &pieces};
            flags = qz_search_pieces(job, &source, &groups);
            if (qz_has_byte_scales(job))
                flags = qz_round_scales(job, &whole, &groups);
        }
        if ((flags & (QZ_FIT_TINY | QZ_FIT_HUGE)) || may_overflow(job, groups.scale[0]))
            look_closer(job, part, &groups, &whole);
        look_far(job, &groups);
        struct span span = {row, start / job->group_size, 1, 1};
        qz_store_groups(job, &span, groups.scale, groups.zero, groups.bytes);

        for (uint64_t c = start; c < end; c += QZ_TILE) {
            struct qz_tile piece = {row, c, 1, qz_least(QZ_TILE, end - c)};
            const float *x = qz_tile_load(job->kernels, job->matrix, &piece, buffer, &stride, &overflow);
            if (clip.nan || clip.above || clip.below) {
                if (x != buffer)
                    memcpy(buffer, x, piece.cols * sizeof *x);
                part->replaced += clip_apply(buffer, piece.cols, limit);
                x = buffer;
            }
            const float *w = load_weights(job, part, &piece, weights, &w_stride);
            struct run run = qz_run_of(job, &piece);
            uint8_t staged[QZ_TILE / 2], *codes = codes_buffer(job, &run, staged);
            if (job->stream) /* the rest of what the kernel will fetch */
                qz_fetch(x + QZ_TILE, QZ_TILE / 4 * sizeof *x);
            if (job->foreign) {
                qz_foreign_codes(job, &foreign, x, piece.cols, codes);
                part->clipped += count_clipped(job, &groups, x, piece.cols, piece.cols);
            } else {
                part->clipped += group_codes(job, &groups, &run, x, piece.cols, codes);
            }
            finish_codes(job, part, &groups, &run, x, w, 0, piece.cols, codes);
        }
    }
}

/* First weight that may not be, in row-major order. */
static qz_result locate_weight(const qz_matrix *weights, qz_detail *detail)
{
    uint64_t count = 0;
    for (uint64_t r = 0; r < weights->rows; r++)
        for (uint64_t c = 0; c < weights->cols; c++) {
            double w = qz_matrix_value(weights, r, c);
            if (!(w >= 0.0 && w < 0x1.ffffffp127) && count++ == 0 && detail) {
                detail->index = r * weights->cols + c;
                detail->value = w;
            }
        }
    if (detail)
        detail->count = count;
    return QZ_ERROR_WEIGHT;
}

/* Parts of rows are divided where neither a byte nor the columns of a super scale are. */
static uint64_t part_unit(const qz_scheme *scheme)
{
    uint64_t size =
        scheme->super_size && scheme->super_size < QZ_WHOLE_MATRIX ? scheme->super_size : scheme->group_size;
    return size / scheme->group_size % 2 ? 2 * size : size;
}

/* Whether src may be such a part. */
static int part_fits(const qz_scheme *scheme, const qz_matrix *src, const qz_whole *whole)
{
    if (whole->size != sizeof *whole || whole->row > whole->rows || src->rows > whole->rows - whole->row ||
        whole->col > whole->cols || src->cols > whole->cols - whole->col)
        return 0;
    int whole_rows = src->cols == whole->cols;
    if (!whole->largest &&
        (scheme->super_size == QZ_WHOLE_MATRIX || (scheme->super_size == QZ_WHOLE_ROW && !whole_rows)))
        return 0;
    if (whole_rows || scheme->group_size > INT64_MAX)
        return whole_rows;
    uint64_t unit = part_unit(scheme), end = whole->col + src->cols;
    return whole->col % unit == 0 && (end % unit == 0 || end == whole->cols);
}

static QZ_NOINLINE qz_result encode(const qz_scheme *scheme, const qz_matrix *src, const qz_packed *dst,
                                    const qz_options *options, qz_stats *stats, qz_detail *detail)
{
    static const qz_options defaults = QZ_OPTIONS_INIT;
    if (!options)
        options = &defaults;
    if (options->size != sizeof *options || (options->nonfinite != QZ_REFUSE && options->nonfinite != QZ_CLIP))
        return QZ_ERROR_ARGUMENT;
    const qz_matrix *weights = options->weights;
    if (weights && (!qz_is_array_dtype(weights->dtype) || weights->rows != src->rows || weights->cols != src->cols))
        return QZ_ERROR_ARGUMENT;
    if (weights && !qz_matrix_check(weights))
        return QZ_ERROR_SIZE;
    const qz_whole *whole = options->whole;
    if (whole && (qz_scheme_check(scheme, options->method) != QZ_OK || !part_fits(scheme, src, whole)))
        return QZ_ERROR_ARGUMENT;
    struct job job;
    qz_group_begin(&job);
    job.encodes = 1;
    job.whole = whole;
    job.part_cols = src->cols;
    job.weights = weights;
    job.stochastic = options->stochastic != 0;
    job.seed = options->seed;
    struct qz_watch watch;
    qz_watch_begin(&watch, options->stop, options->stop_context);
    job.watch = &watch;
    struct part total;
    qz_matrix merged;
    qz_result result = qz_group_prepare(&job, scheme, options->method, src, &merged, dst);
    if (result != QZ_OK)
        return result;
    qz_group_method(&job, scheme, options->method);
    uint64_t rows = whole ? whole->rows : src->rows, cols = whole ? whole->cols : src->cols;
    if (job.foreign && (options->stochastic || !qz_foreign_fits(scheme, rows, cols)))
        return QZ_ERROR_ARGUMENT;
    if (job.method == QZ_SEARCH || job.method == QZ_EXACT)
        qz_search_rules(&job, job.group_size);
    job.nonfinite = options->nonfinite;
    job.want_stats = stats != NULL;
    job.stream = job.rows * job.cols / 2 > QZ_STREAM_LEAST;
    job.work = job.group_size > QZ_LONG_GROUP ? encode_long : encode_tile;
    int plain = job.method == QZ_MINMAX || job.method == QZ_ABSMAX || job.method == QZ_ABSMAX7;
    /* Statistics are summed in the order of rows. */
    if (plain && !job.weights && !job.stochastic && !job.want_stats && qz_columns_prepare(&job))
        job.work = encode_columns;
    float repeated[QZ_TILE];
    job.repeated = NULL;
    job.repeated = repeat_weights(&job, repeated);
    qz_measure_supers(&job, src, whole ? whole->largest : NULL, options->pool);
    qz_group_run(&job, options->pool, &total);
    if (qz_watch_stopped(&watch))
        return QZ_ERROR_STOPPED;
    if (total.nonfinite)
        return qz_locate_unusable(src, options->nonfinite == QZ_CLIP, detail);
    if (total.bad_weight)
        return locate_weight(weights, detail);
    if (total.bad_group != UINT64_MAX) {
        if (detail) {
            detail->group = total.bad_group;
            detail->value = total.bad_value;
            if (detail->size >= offsetof(qz_detail, number) + sizeof detail->number)
                detail->number = total.bad_number;
        }
        return QZ_ERROR_SCALE;
    }
    qz_group_stats(stats, &job, &total);
    return QZ_OK;
}

qz_result qz_encode(const qz_scheme *scheme, const qz_matrix *src, const qz_packed *dst, const qz_options *options,
                    qz_stats *stats, qz_detail *detail)
{
    qz_fp_state state = qz_fp_enter();
    qz_result result = encode(scheme, src, dst, options, stats, detail);
    qz_fp_leave(state);
    return result;
}
