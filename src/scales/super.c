/*
 * super.c - searches groups that share a super scale, for what a group alone cannot show
 *
 *   1. Values that were decoded from the same scheme are found again. If every group of a stretch is a scale times
 *      values of the table, the scales are multiples of a super scale, and with that super scale nothing is lost. A
 *      look at a few values of one group excludes ordinary data.
 *   2. Multiples near 0 are tried one by one. A fitted scale that rounds to 0, or to 1 where 2 is better, says little
 *      about the error, because its codes were made by another scale.
 *   3. With offsets the errors are measured. The model of affine_super.c, which chose the super scales, does not know
 *      which codes rounding will change. It does not know the plain rule either, and no search may have more error than
 *      that rule.
 */
#include "super.h"
#include "affine_super.h"
#include "clip.h"
#include "exact_group.h"
#include "../base/float8.h"
#include "scales.h"
#include "search.h"
#include "../matrix/tile.h"

#include <math.h>

/* Groups of a run that share a super scale, of which `first` is the number of the first one. */
struct stretch {
    const struct qz_encoder *encoder;
    struct groups *groups;
    size_t first, count, n; /* n: values of all */
    uint64_t row, group;    /* where the first one is in the matrix */
    const float *x, *w;     /* their values, and weights or NULL */
    int special;            /* with offsets, in a search: is_special */
};

/* The stretch that begins with group g of a run. */
static struct stretch stretch_at(const struct qz_encoder *encoder, const struct run *run, struct groups *groups,
                                 size_t g, const float *x, const float *w)
{
    const struct qz_view *view = encoder->view;
    struct place place = qz_group_place(view, run, groups->count, g);
    size_t size = (size_t)view->group_size;
    struct stretch s = {.encoder = encoder, .groups = groups, .first = g, .x = x + g * size};
    s.row = place.row;
    s.group = place.group;
    s.count = qz_sharing(view, s.group, place.left);
    s.n = qz_least(s.count * size, run->cols - (size_t)(place.group * size - run->col));
    if (w && !qz_are_all(w + g * size, s.n, w[g * size])) /* equal weights count as none */
        s.w = w + g * size;
    return s;
}

/* Values of group i of a stretch. */
static size_t length_of(const struct stretch *s, size_t i)
{
    size_t size = (size_t)s->encoder->view->group_size;
    return qz_least(size, s->n - i * size);
}

static float largest_of(const struct groups *groups, size_t g)
{
    return qz_larger(-groups->min[g], groups->max[g]);
}

/* The same with its sign. */
static float extreme_of(const struct groups *groups, size_t g)
{
    return groups->max[g] > -groups->min[g] ? groups->max[g] : groups->min[g];
}

static double lanes_sum(const float lane[QZ_SUMS_LANES])
{
    double sum[4] = {0};
    for (int l = 0; l < QZ_SUMS_LANES; l += 4)
        for (int k = 0; k < 4; k++)
            sum[k] += (double)lane[l + k];
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

/* Whether weights are not all 0; most often the first one says so. */
static int has_weights(const float *w, size_t n)
{
    size_t i = 0;
    while (i < n && !(w[i] > 0.0f))
        i++;
    return i < n;
}

/* The error of n values in groups of `size` with these scales and zeros. `largest`: of their magnitudes. */
static double error_of(const struct qz_view *view, const float *x, const float *w, size_t n, size_t size, float largest,
                       const float *scale, const float *zero)
{
    size_t count = (n - 1) / size + 1;
    float inverse[QZ_TILE_GROUPS], decoded[QZ_TILE];
    uint8_t codes[QZ_TILE / 2];
    int32_t careful = 0;
    for (size_t g = 0; g < count; g++) { /* compilers make vectors of it */
        int32_t magnitude = (int32_t)(qz_bits(scale[g]) & 0x7fffffffu);
        int32_t offset = (int32_t)(qz_bits(zero[g]) & 0x7fffffffu);
        int32_t normal = (magnitude >= 0x00800000) & (magnitude <= 0x7b800000) & (offset <= 0x7e800000);
        uint32_t usable = (qz_bits(scale[g]) & (uint32_t)-normal) | (0x3f800000u & ~(uint32_t)-normal);
        inverse[g] = qz_float(qz_bits(1.0f / qz_float(usable)) & (uint32_t)-normal);
        careful |= (normal ^ 1) & (magnitude != 0);
    }
    if (!careful && !w && largest >= 0x1p-30f && largest <= 0x1p30f) {
        struct qz_sums sums;
        view->kernels->group_codes_error(x, n, size, &view->grid, scale, inverse, zero, codes, &sums);
        return lanes_sum(sums.error);
    }
    if (careful) {
        size_t clipped = 0;
        memset(codes, 0, (n + 1) / 2);
        for (size_t i = 0; i < n; i++) { /* with scale 0 all codes are the same */
            float of_group = scale[i / size];
            int code = of_group != 0.0f ? qz_careful_code(x[i], of_group, zero[i / size], &view->grid, &clipped) : 0;
            qz_set_code(codes, i, code);
        }
    } else {
        view->kernels->group_codes(x, n, size, &view->grid, inverse, zero, codes);
    }
    view->kernels->group_decode(codes, n, size, &view->grid, scale, zero, decoded);
    if (w && has_weights(w, n))
        return view->kernels->weighted_error(x, decoded, w, n);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = (double)x[i] - (double)decoded[i];
        sum += difference * difference;
    }
    return sum;
}

/* ---- values that were decoded ---------------------------------------------------------------------------------- */

/* The numbers that codes stand for, of both tables where there are two. */
struct values {
    int count;       /* 16 or 32 */
    float value[32]; /* instead of 0, which tells no scale, another one again */
    float whole[32]; /* the same, times 2 if need be, where that makes integers of all */
    int are_whole;
    float most;
};

static struct values values_of(const struct qz_view *view)
{
    struct values v = {.count = view->grid.shift != 0.0f ? 32 : 16};
    float other = view->grid.sorted[15] != 0.0f ? view->grid.sorted[15] : view->grid.sorted[0];
    for (int i = 0; i < v.count; i++) {
        float value = view->grid.sorted[i % 16] + (i < 16 ? 0.0f : view->grid.shift);
        v.value[i] = value != 0.0f ? value : other;
        v.most = qz_larger(v.most, fabsf(value));
    }
    for (float factor = 1.0f; factor <= 2.0f && !v.are_whole && v.most <= 1024.0f; factor *= 2.0f) {
        v.are_whole = 1;
        for (int i = 0; i < v.count; i++) {
            v.whole[i] = v.value[i] * factor;
            v.are_whole &= v.whole[i] == rintf(v.whole[i]);
        }
    }
    return v;
}

/* Bits of |x - rint(x)|, which are in the order of the distances; |x| < 2^21. Loops over it become vectors. */
static inline int32_t from_integer(float x)
{
    float rounded = (x + 0x1.8p23f) - 0x1.8p23f;
    return (int32_t)(qz_bits(x - rounded) & 0x7fffffffu);
}

/* Whether a few numbers x are integers times base / multiple[i], for one i at least; about as often as not it is so by
 * chance for one number of 64, and this asks for two of them. */
static int are_multiples(const float *x, size_t n, float origin, float base, const float *multiple, int count)
{
    const int32_t near = (int32_t)qz_bits(0x1p-10f);
    int looked_at = 0;
    for (size_t k = 0; k < n && looked_at < 2; k++) {
        float t = x[k] - origin;
        if (t == 0.0f || t == base)
            continue;
        float part = t / base;
        int32_t some = 0;
        for (int i = 0; i < count; i++)
            some |= from_integer(part * multiple[i]) < near;
        if (!some)
            return 0;
        looked_at++;
    }
    return 1;
}

/* Scales with which a group loses nothing. */
struct ways {
    int count;
    uint32_t second; /* bit i: scale i goes with the second table */
    float scale[32];
};

static struct ways ways_of(const struct qz_encoder *encoder, const struct values *values, const float *x, size_t n,
                           float largest)
{
    const struct qz_view *view = encoder->view;
    struct ways ways = {.count = 0, .second = 0};
    float near = 0x1p-18f * values->most;
    for (int i = 0; i < values->count; i++) {
        float scale = largest / values->value[i], inverse = values->value[i] / largest;
        float zero = i < 16 ? 0.0f : -view->grid.shift;
        size_t k = 0;
        for (; k < n; k++) {
            float y = x[k] * inverse + zero;
            int c = 0;
            while (c < 15 && y >= view->grid.upper[c])
                c++;
            if (!(fabsf(y - view->grid.sorted[c]) <= near))
                break;
        }
        if (k < n || (encoder->positive && scale < 0.0f))
            continue;
        ways.second |= (uint32_t)(i >= 16) << ways.count;
        ways.scale[ways.count++] = scale;
    }
    return ways;
}

static float as_stored(const struct qz_view *view, float super)
{
    return view->super_dtype == QZ_F32 ? super : qz_rounded_to_f16(super);
}

/* The number nearest to x of those that scales are stored as. */
static float nearest_multiple(const struct qz_view *view, float x)
{
    if (qz_is_float8(view->scale_dtype) && !(fabsf(x) < qz_f8_reach(view->scale_dtype)))
        return 0.0f;
    return view->scale_type->nearest(x);
}

/* Multiple number i of those that the scale of the group with the largest magnitude may be; 0 after the last one. */
static float multiple_at(const struct qz_view *view, int i)
{
    if (qz_is_float8(view->scale_dtype)) { /* those below are the same times a power of two */
        const struct qz_float8 type = qz_float8_of(view->scale_dtype);
        int binade = 1 << type.mantissa, last = (int)type.last % binade + 1;
        float step = type.most / (float)(binade + last - 1);
        return i < last             ? type.most - step * (float)i
               : i <= last + binade ? 0.5f * step * (float)(2 * binade - 1 - (i - last))
                                    : 0.0f;
    }
    float multiple = (float)(i + 1);
    return multiple <= -view->scale_type->least ? multiple : 0.0f;
}

/* Whether `scale` is `multiple` times super, but for what rounding does. */
static int is_product(float super, float multiple, float scale)
{
    return multiple != 0.0f && fabsf(super * multiple - scale) <= 0x1p-19f * fabsf(scale);
}

/* Whether a scale of each group is a multiple of super: then groups take them. */
static int suits_all(const struct qz_view *view, float super, const struct ways *ways, size_t count, float *scale,
                     float *zero)
{
    for (size_t g = 0; g < count; g++) {
        int i = 0;
        float multiple = 0.0f;
        for (; i < ways[g].count; i++) {
            multiple = nearest_multiple(view, ways[g].scale[i] / super);
            if (is_product(super, multiple, ways[g].scale[i]))
                break;
        }
        if (i == ways[g].count && i > 0)
            return 0;
        scale[g] = i < ways[g].count ? super * multiple : 0.0f;
        zero[g] = i < ways[g].count && ways[g].second >> i & 1 ? -view->grid.shift : 0.0f;
    }
    return 1;
}

/* A super scale with which groups lose nothing that have these ways, or none if they are zeros; 0 if there is none.
 * `from`: the one with the largest magnitude. */
static float common_super(const struct qz_encoder *encoder, const struct ways *ways, size_t count, size_t from,
                          float *scale, float *zero)
{
    const struct qz_view *view = encoder->view;
    for (int sign = 0; sign < (encoder->positive ? 1 : 2); sign++)
        for (int i = 0; i < ways[from].count; i++) {
            float multiple, wanted = ways[from].scale[i];
            for (int k = 0; (multiple = multiple_at(view, k)) != 0.0f; k++) {
                multiple = (wanted < 0) == sign ? multiple : -multiple;
                float super = as_stored(view, wanted / multiple);
                if (fabsf(super) >= 0x1p-100f && fabsf(super) <= 0x1p100f && is_product(super, multiple, wanted) &&
                    nearest_multiple(view, multiple) == multiple && suits_all(view, super, ways, count, scale, zero))
                    return super;
            }
        }
    return 0.0f;
}

enum { LOOKED_AT = 64 };

/* Groups that a look at some rows is about. */
struct look {
    size_t count, from; /* from: the one with the largest magnitude */
    float largest[LOOKED_AT];
    struct ways ways[LOOKED_AT];
};

/* Whether the values of largest magnitude come out the same to the last bit. */
static int comes_back(const struct qz_view *view, float super, float near, const struct look *look, const float *scale,
                      const float *zero)
{
    for (size_t g = 0; g < look->count; g++) {
        float stored = nearest_multiple(view, scale[g] / near) * super, y;
        int c = 0;
        if (stored == 0.0f)
            continue;
        y = look->largest[g] / stored + zero[g];
        while (c < 15 && y >= view->grid.upper[c])
            c++;
        if (qz_value(view->grid.sorted[c], stored, zero[g], view->grid.zero) != look->largest[g])
            return 0;
    }
    return 1;
}

/* Looks at groups at the start of a row, `most` at most, as the encoding will see them; returns 0 if what they hold was
 * not decoded. */
static int look_at_row(const struct qz_encoder *encoder, const struct values *values, const qz_matrix *matrix,
                       uint64_t row, size_t most, struct look *look)
{
    const struct qz_view *view = encoder->view;
    size_t size = (size_t)view->group_size;
    struct qz_tile tile = {row, 0, 1, qz_least(most * size, matrix->cols)};
    float buffer[QZ_TILE];
    ptrdiff_t stride;
    int overflow, looked = 0;
    const float *x = qz_tile_load(view->kernels, matrix, &tile, buffer, &stride, &overflow);
    for (size_t start = 0; start < tile.cols; start += size) {
        size_t n = qz_least(size, tile.cols - start);
        float range[2];
        if (view->kernels->range_f32(x + start, n, range)) {
            if (encoder->nonfinite == QZ_REFUSE)
                return 0;
            if (x != buffer)
                memcpy(buffer, x, tile.cols * sizeof *x);
            x = buffer;
            clip_group(buffer + start, n);
            view->kernels->range_f32(x + start, n, range);
        }
        float largest = (range[1] > -range[0] ? range[1] : range[0]) + 0.0f;
        if (largest == 0.0f)
            continue;
        if (!(fabsf(largest) >= 0x1p-100f && fabsf(largest) <= 0x1p100f) ||
            (!looked && values->are_whole && !are_multiples(x + start, n, 0.0f, largest, values->whole, values->count)))
            return 0;
        looked = 1;
        look->ways[look->count] = ways_of(encoder, values, x + start, n, largest);
        if (look->ways[look->count].count == 0)
            return 0;
        look->largest[look->count] = largest;
        look->from = fabsf(largest) > fabsf(look->largest[look->from]) ? look->count : look->from;
        look->count++;
    }
    return 1;
}

float qz_decoded_super(const struct qz_encoder *encoder, const qz_matrix *matrix, uint64_t row, uint64_t rows,
                       float most)
{
    const struct qz_view *view = encoder->view;
    enum { ROWS = 16 };
    size_t number = qz_least(rows, ROWS), each = qz_least(LOOKED_AT / number, QZ_TILE / view->group_size);
    struct look look;
    struct values values = values_of(view);
    float scale[LOOKED_AT] = {0}, zero[LOOKED_AT] = {0};
    look.count = look.from = 0;
    for (size_t r = 0; r < number; r++)
        if (!look_at_row(encoder, &values, matrix, row + rows / number * r, each, &look))
            return 0.0f;
    if (look.count == 0)
        return 0.0f;
    float super = common_super(encoder, look.ways, look.count, look.from, scale, zero), top = most / values.most;
    int float8 = qz_is_float8(view->scale_dtype);
    float reach = float8 ? qz_float8_of(view->scale_dtype).most : -view->scale_type->least;
    if (super <= 0.0f)
        return 0.0f;
    for (int ulps = 1; ulps <= 5 && view->super_dtype == QZ_F32; ulps++) { /* 0, 1, -1, 2, -2 */
        float other = qz_float(qz_bits(super) + (uint32_t)(ulps % 2 ? -(ulps / 2) : ulps / 2));
        if (comes_back(view, other, super, &look, scale, zero)) {
            super = other;
            break;
        }
    }
    /* Floats know powers of two: the largest magnitude is given room for 2/3 of what its value might be. */
    for (int k = 0; k < 32 && float8 && top * 1.5f > reach * super; k++)
        super *= 2.0f;
    for (int k = 0; k < 32 && float8 && top * 1.5f <= 0.5f * reach * super; k++)
        super *= 0.5f;
    return top <= 1.001f * reach * super ? super : 0.0f;
}

/* ---- ... with offsets ------------------------------------------------------------------------------------------ */

/* The steps that the range of a group may be, `steps` of them; 0 where all its values are `min`. */
struct range {
    int steps, step[15];
    float min, range, error; /* error: what rounding has done to a value */
};

static struct range range_of(const float *x, size_t n)
{
    struct range r = {.min = x[0]};
    float max = x[0];
    for (size_t k = 1; k < n; k++) {
        r.min = x[k] < r.min ? x[k] : r.min;
        max = x[k] > max ? x[k] : max;
    }
    r.range = max - r.min;
    r.error = 0x1p-22f * qz_larger(-r.min, max);
    for (int step = 1; step <= 15 && r.range > 0.0f; step++) {
        float by = (float)step / r.range, near = 0x1p-18f * (float)step + r.error * by;
        size_t k = 0;
        while (k < n && fabsf((x[k] - r.min) * by - rintf((x[k] - r.min) * by)) <= near)
            k++;
        if (k == n && near < 0.125f)
            r.step[r.steps++] = step;
    }
    return r;
}

/* The integer 1..63 by which super becomes `wanted`, to within `error`; 0 if there is none. */
static float multiple_u6(float super, float wanted, float error)
{
    float multiple = rintf(wanted / super);
    int fits = multiple >= 1.0f && multiple <= 63.0f && fabsf(super * multiple - wanted) <= error;
    return fits ? multiple : 0.0f;
}

static float error_of_step(const struct range *r, int step)
{
    return (r->error + 0x1p-20f * r->range) / (float)step;
}

/* The next offset -minimum >= 0 that a group may have with super scale `super` of scales, and its scale; 0 after the
 * last one. `at` counts them, from 0 on. */
static int next_minimum(const struct range *r, float super, int *at, float *minimum, float *scale)
{
    if (r->range == 0.0f) { /* code 0 of any minimum, or another one of any scale */
        for (; *at < 1 + 63 * 15;) {
            int i = (*at)++;
            *scale = i ? super * (float)((i - 1) % 63 + 1) : 0.0f;
            int code = i ? (i - 1) / 63 + 1 : 0;
            *minimum = *scale * (float)code - r->min;
            if (*minimum >= -r->error)
                return 1;
        }
        return 0;
    }
    for (; *at < r->steps * 16;) {
        int i = (*at)++, step = r->step[i / 16], code = i % 16;
        float multiple = multiple_u6(super, r->range / (float)step, error_of_step(r, step));
        if (code + step > 15 || multiple == 0.0f)
            continue;
        *scale = super * multiple;
        *minimum = *scale * (float)code - r->min;
        if (*minimum >= -r->error)
            return 1;
    }
    return 0;
}

/* Groups that have an offset that is a multiple of super[1] take it, and its scale; returns the first one that has
 * none, or how many there are. */
static size_t suits_until(const struct range *r, size_t count, const float super[2], float *scale, float *zero)
{
    for (size_t g = 0; g < count; g++) {
        float minimum, multiple = 0.0f;
        int at = 0, found = 0;
        while (!found && next_minimum(&r[g], super[0], &at, &minimum, &scale[g])) {
            multiple = super[1] != 0.0f ? multiple_u6(super[1], minimum, 2 * r[g].error) : 0.0f;
            found = multiple != 0.0f || minimum <= r[g].error;
        }
        if (!found)
            return g;
        zero[g] = -(super[1] * multiple);
    }
    return count;
}

/* Super scales with which groups lose nothing; 0 if there are none. */
static int common_supers(const struct qz_view *view, const struct range *r, size_t count, float super[2], float *scale,
                         float *zero)
{
    size_t from = 0;
    for (size_t g = 1; g < count; g++)
        from = r[g].range > r[from].range ? g : from;
    for (int i = 0; i < r[from].steps; i++) {
        float wanted = r[from].range / (float)r[from].step[i], error = error_of_step(&r[from], r[from].step[i]);
        for (int multiple = 1; multiple <= 63; multiple++) {
            super[0] = as_stored(view, wanted / (float)multiple);
            super[1] = 0.0f;
            if (!(super[0] >= 0x1p-100f && super[0] <= 0x1p100f) ||
                multiple_u6(super[0], wanted, error) != (float)multiple)
                continue;
            int suits = 1, at = 0;
            for (size_t g = 0; g < count && suits; g++) {
                float minimum, some;
                int first = 0;
                suits = next_minimum(&r[g], super[0], &first, &minimum, &some);
            }
            if (!suits)
                continue;
            /* With offsets of 0? If not, a group that cannot do without says which super scales may serve it. */
            size_t anchor = suits_until(r, count, super, scale, zero);
            if (anchor == count)
                return 1;
            for (float minimum, some; next_minimum(&r[anchor], super[0], &at, &minimum, &some);)
                for (int k = 1; k <= 63; k++) {
                    super[1] = as_stored(view, minimum / (float)k);
                    if (super[1] >= 0x1p-100f && multiple_u6(super[1], minimum, 2 * r[anchor].error) == (float)k &&
                        suits_until(r, count, super, scale, zero) == count)
                        return 1;
                }
        }
    }
    return 0;
}

/* The integer that scale or -offset is stored as. */
static float nearest_u6(float x, float super)
{
    float multiple = super != 0.0f ? rintf(x / super) : 0.0f;
    multiple = multiple > 0.0f ? multiple : 0.0f;
    return multiple < 63.0f ? multiple : 63.0f;
}

/* ---- stretches that are special ---------------------------------------------------------------------------------- */

enum { NOTHING, LOSSLESS, CANDIDATE, CLOSE };

enum { MOST_BLOCKS = QZ_TILE / QZ_REFERENCE_VALUES };

/* What a run of groups keeps through a search: numbers with which nothing is lost, whose super scales are in place;
 * others that are to be compared with what the search finds; or, if these are close, with the plain rule alone. */
struct kept {
    uint8_t is[QZ_TILE_GROUPS];
    float scale[QZ_TILE_GROUPS], zero[QZ_TILE_GROUPS];
    float super[QZ_TILE_GROUPS][2];  /* of candidates, by the first group of a stretch */
    uint8_t special[QZ_TILE_GROUPS]; /* likewise: is_special */
    size_t first[MOST_BLOCKS];       /* ascending: of blocks that ggml's own search takes, the first groups, */
    size_t blocks;
    struct qz_reference by_ggml[MOST_BLOCKS]; /* and what it finds */
};

/* Whether some of the first values repeat, as in palettes, on lattices, and where most are 0. */
static int has_repeats(const float *x, size_t n)
{
    enum { FIRST = 16, APART = 4 };
    int32_t some = 0;
    for (size_t d = 1; d <= APART && n >= FIRST + APART; d++)
        for (size_t k = 0; k < FIRST; k++)
            some |= qz_bits(x[k]) == qz_bits(x[k + d]);
    return some;
}

static float largest_of_stretch(const struct stretch *s)
{
    float largest = 0.0f;
    for (size_t i = 0; i < s->count; i++)
        largest = qz_larger(largest, largest_of(s->groups, s->first + i));
    return largest;
}

/* Of `from` / 1 ... `from` / 63, as stored, the one of whose multiples the numbers are nearest to. */
static float nearest_super(const struct qz_view *view, const float *number, const float *weight, size_t count,
                           float from)
{
    float best = 0.0f, least = INFINITY;
    for (float k = 63.0f; k >= 1.0f && from > 0.0f; k--) {
        float super = as_stored(view, from / k), sum = 0.0f;
        for (size_t g = 0; g < count && super > 0.0f; g++) {
            float off = (super * nearest_u6(number[g], super) - number[g]) / from * weight[g];
            sum += off * off;
        }
        if (super > 0.0f && sum < least) {
            least = sum;
            best = super;
        }
    }
    return best;
}

/* Numbers for groups whose values lie on a lattice each, as near to it as super scales come. */
static void near_lattices(const struct qz_view *view, const struct range *r, size_t count, float super[2], float *scale,
                          float *zero)
{
    float steps[QZ_SUPER_GROUPS_MOST], one[QZ_SUPER_GROUPS_MOST], most[2] = {0.0f, 0.0f};
    for (size_t g = 0; g < count; g++) {
        steps[g] = r[g].steps ? (float)r[g].step[0] : 0.0f;
        scale[g] = r[g].steps ? r[g].range / steps[g] : 0.0f;
        zero[g] = r[g].min < 0.0f ? -r[g].min : 0.0f;
        one[g] = 1.0f;
        most[0] = qz_larger(most[0], scale[g]);
        most[1] = qz_larger(most[1], zero[g]);
    }
    super[0] = nearest_super(view, scale, steps, count, most[0]);
    super[1] = nearest_super(view, zero, one, count, most[1]);
    for (size_t g = 0; g < count; g++) {
        scale[g] = super[0] * nearest_u6(scale[g], super[0]);
        zero[g] = -(super[1] * nearest_u6(zero[g], super[1]));
    }
}

/* The rule of ggml that searches blocks of a scheme; QZ_RULE_NONE if it has none. */
static qz_rule ggml_rule(const struct qz_encoder *encoder)
{
    const struct qz_view *view = encoder->view;
    const int iq4 =
        view->grid.sorted[0] == -127.0f && view->grid.sorted[1] == -104.0f && view->grid.sorted[15] == 113.0f;
    if (view->super_dtype != QZ_F16 || view->group_size != QZ_RULE_SEARCHED ||
        view->super_groups != QZ_REFERENCE_GROUPS)
        return QZ_RULE_NONE;
    return view->scale_type->pairs                                   ? QZ_RULE_Q4_K
           : iq4 && view->scale_dtype == QZ_I6 && !encoder->positive ? QZ_RULE_IQ4_XS
                                                                     : QZ_RULE_NONE;
}

/* What ggml's own search makes of the whole blocks of a run in which something may be lost. It takes several
 * at once. */
static void search_as_ggml(const struct qz_encoder *encoder, const struct run *run, struct groups *groups,
                           const float *x, struct kept *kept)
{
    enum { TOGETHER = QZ_RULE_TOGETHER / QZ_REFERENCE_GROUPS };
    const struct qz_view *view = encoder->view;
    const qz_rule rule = ggml_rule(encoder);
    struct stretch s;
    kept->blocks = 0;
    for (size_t g = 0; g < groups->count && rule != QZ_RULE_NONE; g += s.count) {
        s = stretch_at(encoder, run, groups, g, x, NULL);
        if (s.n == QZ_REFERENCE_VALUES && (kept->is[g] == NOTHING || kept->is[g] == CANDIDATE))
            kept->first[kept->blocks++] = g;
    }
    for (size_t i = 0; i < kept->blocks; i += TOGETHER) {
        float values[TOGETHER][QZ_REFERENCE_VALUES];
        size_t count = qz_least(kept->blocks - i, TOGETHER);
        for (size_t k = 0; k < count; k++)
            memcpy(values[k], x + kept->first[i + k] * QZ_RULE_SEARCHED, sizeof values[k]);
        qz_reference_search(view->kernels, rule, values[0], count, kept->by_ggml + i, NULL);
    }
}

/* Notes numbers for a stretch if they lose less than those that are noted. */
static void note_candidate(const struct stretch *s, struct kept *kept, const float super[2], const float *scale,
                           const float *zero)
{
    const struct qz_encoder *encoder = s->encoder;
    const struct qz_view *view = encoder->view;
    size_t g = s->first, bytes = s->count * sizeof(float);
    float largest = largest_of_stretch(s);
    if (kept->is[g] == CANDIDATE &&
        !(error_of(view, s->x, s->w, s->n, view->group_size, largest, scale, zero) <
          error_of(view, s->x, s->w, s->n, view->group_size, largest, kept->scale + g, kept->zero + g)))
        return;
    memcpy(kept->scale + g, scale, bytes);
    memcpy(kept->zero + g, zero, bytes);
    memcpy(kept->super[g], super, sizeof kept->super[g]);
    kept->is[g] = CANDIDATE;
}

/* If what is noted for a stretch loses less than what it has, it takes that. */
static int take_candidate(const struct stretch *s, const struct kept *kept)
{
    const struct qz_encoder *encoder = s->encoder;
    const struct qz_view *view = encoder->view;
    struct groups *groups = s->groups;
    size_t g = s->first, bytes = s->count * sizeof(float);
    float largest = largest_of_stretch(s);
    const float *zero = view->scale_type->pairs ? groups->zero + g : kept->zero + g; /* else there is none */
    if (!(error_of(view, s->x, s->w, s->n, view->group_size, largest, kept->scale + g, kept->zero + g) <
          error_of(view, s->x, s->w, s->n, view->group_size, largest, groups->scale + g, zero)))
        return 0;
    memcpy(groups->scale + g, kept->scale + g, bytes);
    memcpy(groups->zero + g, kept->zero + g, bytes);
    qz_store_super(view, s->row, s->group, kept->super[g]);
    return 1;
}

static double energy_of(const struct stretch *s)
{
    double sum = 0, plain = 0, weights = 0;
    for (size_t i = 0; i < s->n; i++) {
        double square = (double)s->x[i] * (double)s->x[i], weight = s->w ? (double)s->w[i] : 1.0;
        plain += square;
        sum += weight * square;
        weights += weight;
    }
    return weights > 0 ? sum : plain;
}

/* Notes what ggml's own search makes of a block. */
static void note_ggml(const struct stretch *s, const struct qz_reference *fit, struct kept *kept)
{
    const int offsets = s->encoder->view->scale_type->pairs;
    const float super[2] = {fit->super[0], offsets ? fit->super[1] : 0.0f};
    float scale[QZ_REFERENCE_GROUPS], zero[QZ_REFERENCE_GROUPS];
    if (!qz_reference_is_finite(fit))
        return;
    for (size_t i = 0; i < QZ_REFERENCE_GROUPS; i++) {
        scale[i] = super[0] * fit->scale[i];
        zero[i] = -(super[1] * fit->zero[i]);
    }
    note_candidate(s, kept, super, scale, zero);
}

/* Notes what lattices make of a stretch with offsets. */
static void find_lattices(const struct stretch *s, struct kept *kept)
{
    const struct qz_encoder *encoder = s->encoder;
    const struct qz_view *view = encoder->view;
    float super[2], scale[QZ_SUPER_GROUPS_MOST], zero[QZ_SUPER_GROUPS_MOST];
    size_t size = (size_t)view->group_size;
    struct range ranges[QZ_SUPER_GROUPS_MOST];
    for (size_t i = 0; i < s->count; i++) {
        ranges[i] = range_of(s->x + i * size, length_of(s, i));
        if (ranges[i].range > 0.0f && ranges[i].steps == 0)
            return;
    }
    near_lattices(view, ranges, s->count, super, scale, zero);
    note_candidate(s, kept, super, scale, zero);
    float largest = largest_of_stretch(s);
    if (error_of(view, s->x, s->w, s->n, size, largest, kept->scale + s->first, kept->zero + s->first) <
        1e-7 * energy_of(s))
        kept->is[s->first] = CLOSE;
}

/* If the values of a stretch were decoded, it gets the super scales that say so, and its groups their scales. */
static void find_decoded(const struct stretch *s, const struct values *values, struct kept *kept)
{
    static const float integers[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 15};
    const struct qz_encoder *encoder = s->encoder;
    const struct qz_view *view = encoder->view;
    const struct groups *groups = s->groups;
    size_t size = (size_t)view->group_size, first = 0, from = 0;
    int offsets = view->scale_type->pairs;
    float super[2] = {0.0f, 0.0f}, *scale = kept->scale + s->first, *zero = kept->zero + s->first;
    if (offsets) {
        const float *x;
        float min, max;
        do {
            x = s->x + first * size;
            max = groups->max[s->first + first];
            min = groups->min[s->first + first];
            for (size_t k = min == 0.0f ? length_of(s, first) : 0; k > 0; k--) /* fit has widened the range */
                min = k == length_of(s, first) || x[k - 1] < min ? x[k - 1] : min;
        } while (!(min < max) && ++first < s->count);
        if (first == s->count)
            return;
        if (!(max - min >= 0x1p-100f && max - min <= 0x1p100f) ||
            !are_multiples(x, length_of(s, first), min, max - min, integers, 16))
            return;
        struct range ranges[QZ_SUPER_GROUPS_MOST];
        for (size_t i = 0; i < s->count; i++) {
            ranges[i] = range_of(s->x + i * size, length_of(s, i));
            if (ranges[i].range > 0.0f && ranges[i].steps == 0)
                return;
        }
        if (!common_supers(view, ranges, s->count, super, scale, zero))
            return;
    } else {
        while (first + 1 < s->count && largest_of(groups, s->first + first) == 0.0f)
            first++;
        float largest = extreme_of(groups, s->first + first);
        if (!(fabsf(largest) >= 0x1p-100f && fabsf(largest) <= 0x1p100f) ||
            (values->are_whole &&
             !are_multiples(s->x + first * size, length_of(s, first), 0.0f, largest, values->whole, values->count)))
            return;
        struct ways ways[QZ_SUPER_GROUPS_MOST];
        for (size_t i = 0; i < s->count; i++) {
            size_t g = s->first + i;
            ways[i].count = 0;
            if (largest_of(groups, g) == 0.0f)
                continue;
            ways[i] = ways_of(encoder, values, s->x + i * size, length_of(s, i), extreme_of(groups, g));
            if (ways[i].count == 0)
                return;
            from = largest_of(groups, g) > largest_of(groups, s->first + from) ? i : from;
        }
        super[0] = common_super(encoder, ways, s->count, from, scale, zero);
        if (super[0] == 0.0f)
            return;
    }
    qz_store_super(view, s->row, s->group, super);
    for (size_t i = 0; i < s->count; i++)
        kept->is[s->first + i] = LOSSLESS;
}

/* ---- multiples near 0 ------------------------------------------------------------------------------------------ */

/* The least step of scales that are multiples, and how many of them are tried one by one: of floats as many as are in
 * one distance, for twice a scale may do as well. */
static float unit_of(const struct qz_view *view)
{
    return qz_float_power(view->scale_type->levels.step);
}

static int steps_of(const struct qz_view *view)
{
    return qz_is_float8(view->scale_dtype) ? 1 << view->scale_type->levels.mantissa : 4;
}

/* The best of all scales of a group that are a few steps of its super scale, in place of one that is; of both tables.
 * Returns whether there is a better one. */
static int try_steps(const struct stretch *s, size_t i, float super)
{
    const struct qz_encoder *encoder = s->encoder;
    const struct qz_view *view = encoder->view;
    struct groups *groups = s->groups;
    size_t n = length_of(s, i), start = i * (size_t)view->group_size, g = s->first + i;
    const float *x = s->x + start, *w = s->w ? s->w + start : NULL;
    float largest = largest_of(groups, g), step = unit_of(view) * super;
    float zero = view->grid.shift != 0.0f ? groups->zero[g] : 0.0f, best[2] = {groups->scale[g], zero};
    if (largest == 0.0f || step == 0.0f || largest * 0x1p-20f > fabsf(step))
        return 0;
    double least = error_of(view, x, w, n, n, largest, &best[0], &best[1]);
    if (encoder->method == QZ_EXACT) {
        if (best[0] != 0.0f)
            return 0;
        struct qz_exact_source source = {.x = x, .w = w, .n = n};
        float other = zero;
        qz_exact_group(encoder, &source, super, &best[0], &other);
        if (!(error_of(view, x, w, n, n, largest, &best[0], &other) < least))
            return 0;
        groups->scale[g] = best[0];
        if (view->grid.shift != 0.0f)
            groups->zero[g] = other;
        return 1;
    }
    for (int second = 0; second <= (view->grid.shift != 0.0f); second++)
        for (int k = encoder->positive ? 0 : -steps_of(view); k <= steps_of(view); k++) {
            float scale = (float)k * step, other = second ? -view->grid.shift : 0.0f;
            double error = error_of(view, x, w, n, n, largest, &scale, &other);
            if (error < least || (k == 0 && error == least)) { /* zeros are told by a scale of 0 */
                least = error;
                best[0] = scale;
                best[1] = other;
            }
        }
    int better = best[0] != groups->scale[g] || best[1] != zero;
    groups->scale[g] = best[0];
    if (view->grid.shift != 0.0f)
        groups->zero[g] = best[1];
    return better;
}

/* The same for all groups of a stretch whose scales are 0 or a few steps. */
static int try_near_zero(const struct stretch *s, float super)
{
    float most = ((float)steps_of(s->encoder->view) - 0.5f) * fabsf(unit_of(s->encoder->view) * super);
    const float *scale = s->groups->scale + s->first;
    int some = 0, better = 0;
    for (size_t i = 0; i < s->count; i++)
        some |= fabsf(scale[i]) < most;
    for (size_t i = 0; i < s->count && some; i++)
        better |= fabsf(scale[i]) < most && try_steps(s, i, super);
    return better;
}

/* ---- offsets --------------------------------------------------------------------------------------------------- */

/* Whether rounding may have left a group of uint6 numbers with a large error: its scale is a few steps, offsets come in
 * larger steps than codes, or the farthest that a value can be from what it decodes to, times the root of the number of
 * values, is more than zeros would lose. Where few weights count, that distance says little. */
static int is_doubtful(const struct groups *groups, size_t g, const float super[2], float root, int few_weights)
{
    float scale = groups->scale[g], zero = groups->zero[g], largest = largest_of(groups, g);
    float below = zero - groups->min[g], above = groups->max[g] - (zero + 15.0f * scale);
    float off = qz_larger(qz_larger(below, above), 0.5f * scale);
    return (scale < 3.5f * super[0]) | (super[1] > 2.0f * scale) | (!few_weights & !(off * root < largest));
}

/* Whether some group of a stretch is, which most are not: without branches. */
static int are_doubtful(const struct stretch *s, const float super[2], float root)
{
    int some = 0;
    for (size_t i = 0; i < s->count; i++)
        some |= is_doubtful(s->groups, s->first + i, super, root, 0);
    return some;
}

/* Zeros, or the constant nearest to 0 that some value is, instead of numbers of a plain rule that lose more. */
static int limit_offset(const struct stretch *s, size_t i, const float super[2], float root)
{
    const struct qz_encoder *encoder = s->encoder;
    const struct qz_view *view = encoder->view;
    struct groups *groups = s->groups;
    size_t n = length_of(s, i), start = i * (size_t)view->group_size, g = s->first + i;
    float largest = largest_of(groups, g), scale = 0.0f, offset = groups->max[g] < 0.0f ? -groups->max[g] : 0.0f;
    if (largest == 0.0f || groups->scale[g] == 0.0f || !is_doubtful(groups, g, super, root, 0))
        return 0;
    offset = -(super[1] * nearest_u6(offset, super[1]));
    const float *x = s->x + start;
    if (!(error_of(view, x, NULL, n, n, largest, &scale, &offset) <
          error_of(view, x, NULL, n, n, largest, &groups->scale[g], &groups->zero[g])))
        return 0;
    groups->scale[g] = scale;
    groups->zero[g] = offset;
    return 1;
}

/* The best of many pairs of integers for the scale and offset of a doubtful group. */
static int try_pairs(const struct stretch *s, size_t i, const float super[2], float near)
{
    const struct qz_encoder *encoder = s->encoder;
    const struct qz_view *view = encoder->view;
    struct groups *groups = s->groups;
    size_t n = length_of(s, i), start = i * (size_t)view->group_size, g = s->first + i;
    const float *x = s->x + start, *w = s->w ? s->w + start : NULL;
    float largest = largest_of(groups, g), best[2] = {groups->scale[g], groups->zero[g]};
    if (largest == 0.0f)
        return 0;
    double least = error_of(view, x, w, n, n, largest, &best[0], &best[1]);
    float deepest = super[1] != 0.0f ? ceilf(-groups->min[g] / super[1]) : 0.0f;
    float from = nearest_u6(-best[1], super[1]), now = nearest_u6(best[0], super[0]);
    deepest = deepest < 63.0f ? deepest : 63.0f;
    for (int m = 0; m <= (int)deepest; m++) {
        if (m != 0 && fabsf((float)m - from) > near)
            continue;
        float zero =
            -(super[1] * (float)m); /* scales by which codes reach as far as values do, or that are as they were */
        float most = super[0] != 0.0f ? ceilf((groups->max[g] - zero) / (14.0f * super[0])) : 0.0f;
        most = near < 3.0f ? now + near : most;
        most = most < 63.0f ? most : 63.0f;
        float fewest = most > 2 * near ? most - 2 * near : 0.0f;
        for (int k = 0; fewest + (float)k <= most; k++) {
            float scale = super[0] * (fewest + (float)k);
            double error = error_of(view, x, w, n, n, largest, &scale, &zero);
            if (error < least) {
                least = error;
                best[0] = scale;
                best[1] = zero;
            }
        }
    }
    int better = best[0] != groups->scale[g] || best[1] != groups->zero[g];
    groups->scale[g] = best[0];
    groups->zero[g] = best[1];
    return better;
}

/* Whether few of the weights count: the square of their sum is far below their number times the sum of squares. */
static int are_uneven(const float *w, size_t n)
{
    enum { LANES = 8 };
    float sum[LANES] = {0}, squares[LANES] = {0};
    for (size_t i = 0; i + LANES <= n; i += LANES) /* two loops, of which compilers make vectors */
        for (size_t l = 0; l < LANES; l++)
            sum[l] += w[i + l];
    for (size_t i = 0; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            squares[l] += w[i + l] * w[i + l];
    double total[2] = {0};
    for (int l = 0; l < LANES; l++) {
        total[0] += (double)sum[l];
        total[1] += (double)squares[l];
    }
    return total[0] * total[0] < 0.35 * (double)n * total[1];
}

/* Whether the values of a stretch repeat, or few of its weights count. */
static int is_special(const struct stretch *s)
{
    return has_repeats(s->x, s->n) || (s->w && are_uneven(s->w, s->n));
}

/* Notes which stretches are special, and looks for better ends of their groups, as numbers, in all of their range. */
static void search_anywhere(const struct qz_encoder *encoder, const struct run *run, struct groups *groups,
                            const float *x, const float *w, struct kept *kept)
{
    uint16_t some[QZ_TILE_GROUPS];
    size_t count = 0;
    struct stretch s;
    for (size_t g = 0; g < groups->count; g += s.count) {
        s = stretch_at(encoder, run, groups, g, x, w);
        kept->special[g] = (uint8_t)is_special(&s);
        for (size_t i = g; i < g + s.count && kept->special[g]; i++)
            some[count++] = (uint16_t)i;
    }
    if (count > 0)
        qz_search_anywhere(encoder, run, groups, x, w, some, count);
}

/* Scales and offsets of a stretch become multiples of the super scales that leave the least error by the model of
 * affine_super.c, or those of the plain rule, whichever loses less. */
static void choose_multiples(const struct stretch *s, const float *plain_scale, const float *plain_zero)
{
    enum { MOST = QZ_SUPER_GROUPS_MOST };
    const struct qz_encoder *encoder = s->encoder;
    const struct qz_view *view = encoder->view;
    struct groups *groups = s->groups;
    size_t g = s->first;
    float part[5][MOST], plain[2], super[2];
    uint8_t scale[MOST], minimum[MOST];
    qz_load_super(view, s->row, s->group, plain);
    if (!qz_is_finite(plain[0]) || !qz_is_finite(plain[1])) /* which is an error */
        return;
    float largest = 0.0f;
    for (size_t i = 0; i < s->count; i++) {
        part[0][i] = groups->scale[g + i];
        part[1][i] = -groups->zero[g + i];
        part[2][i] = groups->curve[g + i];
        part[3][i] = groups->slope[g + i];
        part[4][i] = groups->rest[g + i];
        largest = qz_larger(largest, largest_of(groups, g + i));
    }
    /* What is chosen are float16 numbers; where float32 is stored they may be of any size. */
    float unit = view->super_dtype == QZ_F32 && largest >= 0x1p-100f && largest <= 0x1p100f ? qz_power(largest) : 1.0f;
    for (size_t i = 0; i < s->count && unit != 1.0f; i++) {
        part[0][i] /= unit;
        part[1][i] /= unit;
    }
    qz_affine_super(s->count, part[0], part[1], part[2], part[3], part[4], super, scale, minimum);
    super[0] *= unit;
    super[1] *= unit;
    for (size_t i = 0; i < s->count; i++) {
        groups->scale[g + i] = super[0] * (float)scale[i];
        groups->zero[g + i] = -(super[1] * (float)minimum[i]);
    }
    for (size_t i = 0; i < s->count; i++) {
        part[0][i] = plain[0] * nearest_u6(plain_scale[i], plain[0]);
        part[1][i] = -(plain[1] * nearest_u6(-plain_zero[i], plain[1]));
    }
    size_t size = (size_t)view->group_size;
    if (error_of(view, s->x, s->w, s->n, size, largest, part[0], part[1]) <
        error_of(view, s->x, s->w, s->n, size, largest, groups->scale + g, groups->zero + g)) {
        memcpy(groups->scale + g, part[0], s->count * sizeof(float));
        memcpy(groups->zero + g, part[1], s->count * sizeof(float));
        return;
    }
    qz_store_super(view, s->row, s->group, super);
}

static int search_pairs(const struct stretch *s, const float super[2])
{
    int better = 0;
    float root = sqrtf((float)s->encoder->view->group_size);
    for (size_t i = 0; i < s->count && qz_is_finite(super[0]) && qz_is_finite(super[1]); i++)
        if (is_doubtful(s->groups, s->first + i, super, root, s->special && s->w))
            better |= try_pairs(s, i, super, 6.0f);
        else if (s->special)
            better |= try_pairs(s, i, super, 2.0f);
    return better;
}

/* Better multiples of the super scales of a stretch where a search is likely to have missed them. */
static int mend(const struct stretch *s)
{
    float super[2];
    qz_load_super(s->encoder->view, s->row, s->group, super);
    return s->encoder->view->scale_type->pairs ? search_pairs(s, super) : try_near_zero(s, super[0]);
}

/* Groups of a stretch whose super scale is known, that of a row or of the matrix: if the first one loses nothing with
 * a multiple of it, as what was decoded does, all that do so take theirs. */
static void find_multiples(const struct stretch *s, const struct values *values, struct kept *kept)
{
    const struct qz_encoder *encoder = s->encoder;
    const struct qz_view *view = encoder->view;
    const struct groups *groups = s->groups;
    size_t size = (size_t)view->group_size;
    float super[2];
    int looked = 0;
    memset(kept->is + s->first, NOTHING, s->count);
    qz_load_super(view, s->row, s->group, super);
    for (size_t i = 0; i < s->count && super[0] > 0.0f && super[0] <= FLT_MAX; i++) {
        size_t g = s->first + i, n = length_of(s, i);
        const float *x = s->x + i * size;
        float largest = extreme_of(groups, g);
        if (!(fabsf(largest) >= 0x1p-100f && fabsf(largest) <= 0x1p100f))
            continue;
        if (!looked && values->are_whole && !are_multiples(x, n, 0.0f, largest, values->whole, values->count))
            return;
        struct ways ways = ways_of(encoder, values, x, n, largest);
        if (!looked && ways.count == 0)
            return;
        looked = 1;
        if (ways.count && suits_all(view, super[0], &ways, 1, kept->scale + g, kept->zero + g))
            kept->is[g] = LOSSLESS;
    }
}

/* ---- all of it ------------------------------------------------------------------------------------------------- */

unsigned qz_limit_offsets(const struct qz_encoder *encoder, const struct run *run, struct groups *groups,
                          const float *x)
{
    const struct qz_view *view = encoder->view;
    const float root = sqrtf((float)view->group_size);
    unsigned flags = qz_round_scales(view, run, groups);
    int changed = 0;
    struct stretch s;
    for (size_t g = 0; g < groups->count; g += s.count) {
        float super[2];
        s = stretch_at(encoder, run, groups, g, x, NULL);
        qz_load_super(view, s.row, s.group, super);
        if (!qz_is_finite(super[0]) || !qz_is_finite(super[1]) || !are_doubtful(&s, super, root))
            continue;
        for (size_t i = 0; i < s.count; i++)
            changed |= limit_offset(&s, i, super, root);
    }
    return changed ? qz_round_scales(view, run, groups) : flags;
}

/* Exact scales of stretches with the super scales of their candidates too: those that lose less stay. `plain`: scales
 * before the search. */
static unsigned exact_with_candidates(const struct qz_encoder *encoder, const struct run *run, struct groups *groups,
                                      const float *x, const float *w, const struct kept *kept, const float *plain)
{
    const struct qz_view *view = encoder->view;
    float first[QZ_TILE_GROUPS], super[QZ_TILE_GROUPS][2];
    struct stretch s;
    memcpy(first, groups->scale, groups->count * sizeof *first);
    memcpy(groups->scale, plain, groups->count * sizeof *first);
    for (size_t g = 0; g < groups->count; g += s.count) {
        s = stretch_at(encoder, run, groups, g, x, w);
        qz_load_super(view, s.row, s.group, super[g]);
        if (kept->is[g] == CANDIDATE)
            qz_store_super(view, s.row, s.group, kept->super[g]);
    }
    qz_search_groups(encoder, run, groups, x, w);
    qz_round_scales(view, run, groups);
    for (size_t g = 0; g < groups->count; g += s.count) {
        s = stretch_at(encoder, run, groups, g, x, w);
        float largest = largest_of_stretch(&s);
        const float *zero = kept->zero + g; /* zeros: there are no offsets */
        if (kept->is[g] == CANDIDATE &&
            error_of(view, s.x, s.w, s.n, view->group_size, largest, groups->scale + g, zero) <
                error_of(view, s.x, s.w, s.n, view->group_size, largest, first + g, zero))
            continue;
        memcpy(groups->scale + g, first + g, s.count * sizeof *first);
        qz_store_super(view, s.row, s.group, super[g]);
    }
    return qz_round_scales(view, run, groups);
}

unsigned qz_search_shared(const struct qz_encoder *encoder, const struct run *run, struct groups *groups,
                          const float *x, const float *w)
{
    const struct qz_view *view = encoder->view;
    struct kept kept;
    struct stretch s;
    struct values values;
    int offsets = view->scale_type->pairs, exact = encoder->method == QZ_EXACT, candidates = 0, changed = 0;
    float scale[QZ_TILE_GROUPS], zero[QZ_TILE_GROUPS];
    memset(kept.is, NOTHING, groups->count);
    if (!offsets)
        values = values_of(view);
    for (size_t g = 0; g < groups->count && view->super_groups < QZ_WHOLE_MATRIX; g += s.count) {
        s = stretch_at(encoder, run, groups, g, x, w);
        find_decoded(&s, &values, &kept);
        if (offsets && kept.is[g] == NOTHING)
            find_lattices(&s, &kept);
    }
    search_as_ggml(encoder, run, groups, x, &kept);
    for (size_t i = 0; i < kept.blocks; i++) {
        s = stretch_at(encoder, run, groups, kept.first[i], x, w);
        note_ggml(&s, &kept.by_ggml[i], &kept);
    }
    for (size_t g = 0; g < groups->count; g++)
        candidates |= kept.is[g] == CANDIDATE;
    for (size_t g = 0; g < groups->count && view->super_groups >= QZ_WHOLE_MATRIX; g += s.count) {
        s = stretch_at(encoder, run, groups, g, x, w);
        find_multiples(&s, &values, &kept);
    }
    memcpy(scale, groups->scale, groups->count * sizeof *scale);
    if (offsets)
        memcpy(zero, groups->zero, groups->count * sizeof *zero);
    qz_search_groups(encoder, run, groups, x, w);
    if (offsets)
        search_anywhere(encoder, run, groups, x, w, &kept);
    for (size_t g = 0; g < groups->count && offsets; g += s.count) {
        s = stretch_at(encoder, run, groups, g, x, w);
        if (kept.is[g] == CLOSE) {
            memcpy(groups->scale + g, scale + g, s.count * sizeof *scale); /* the plain ones again */
            memcpy(groups->zero + g, zero + g, s.count * sizeof *zero);
        } else if (kept.is[g] != LOSSLESS) {
            choose_multiples(&s, scale + g, zero + g);
        }
    }
    for (size_t g = 0; g < groups->count; g++)
        if (kept.is[g] == LOSSLESS) {
            groups->scale[g] = kept.scale[g];
            groups->zero[g] = kept.zero[g];
        }
    unsigned flags = qz_round_scales(view, run, groups);
    if (exact && candidates)
        flags = exact_with_candidates(encoder, run, groups, x, w, &kept, scale);
    for (size_t g = 0; g < groups->count; g += s.count) {
        s = stretch_at(encoder, run, groups, g, x, w);
        if (kept.is[g] == LOSSLESS && view->super_groups < QZ_WHOLE_MATRIX)
            continue;
        if (kept.is[g] == CLOSE) {
            changed |= take_candidate(&s, &kept);
            continue;
        }
        s.special = offsets && kept.special[g];
        changed |= mend(&s);
        if (kept.is[g] == CANDIDATE && take_candidate(&s, &kept)) {
            changed = 1;
            mend(&s);
        }
    }
    return changed ? qz_round_scales(view, run, groups) : flags;
}
