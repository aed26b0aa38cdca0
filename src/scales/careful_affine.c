/*
 * careful_affine.c - searches groups with a zero or an offset for which the search side by side is not enough
 *
 * For most groups search_affine (affine.h) is enough. It sums in float32, and tries ends of the range that suit data
 * with tails. A few operations find the other groups, which are searched one at a time:
 *
 *   - groups whose errors are so small, compared with the values, that float32 sums cannot tell two of them apart;
 *   - groups whose first values are near a grid of 8 to 15 steps, as decoded values, small integers and results of
 *     quantization-aware training are; a pair without error exists then;
 *   - groups where a few weights count and the others are next to 0, where there are few values, or where one value is
 *     frequent, as 0 is in sparse data and nearly 0 in mixtures of magnitudes. The distance of that value from a code
 *     matters most, and the best pair may be anywhere;
 *   - groups whose plain scale is 0 in its type, although there are steps smaller than the range;
 *   - groups with integer zeros whose values are so far from 0 that they have few codes.
 *
 * Such a group gets a pair without any error if there is one (find_lossless). Otherwise all pairs are searched
 * (exact_affine.c, and exact.c for integer zeros), and the error of decoded values, in double, decides.
 *
 * Decoded values get the same pair again, because pairs are normal: of all pairs that decode to the same values, the
 * one that find_lossless finds in these values is always chosen. A pair of an ordinary group is normal if some value
 * has code 0; other pairs are moved there if the result can be stored.
 */
#include "careful_affine.h"

#include "exact_affine.h"
#include "exact_group.h"
#include "../base/number.h"

#include <math.h>

/* What the search one at a time takes for good enough: 0.04 dB. */
#define ENOUGH 0.01

enum { STEPS = QZ_MOST_STEPS - QZ_FEWEST_STEPS + 1 };

static int is_storable(const struct qz_view *view, const struct qz_pair *pair)
{
    return qz_is_storable_pair(view->grid.zero, pair->scale, pair->zero);
}

static float code_of(const struct qz_view *view, float x, const struct qz_pair *pair)
{
    const qz_zero kind = view->grid.zero;
    return qz_affine_code(kind, x, pair->scale, qz_affine_inverse(kind, pair->scale, pair->zero), pair->zero);
}

static float decoded(const struct qz_view *view, float x, const struct qz_pair *pair)
{
    return qz_value(code_of(view, x, pair), pair->scale, pair->zero, view->grid.zero);
}

/* ---- which groups ---------------------------------------------------------------------------------------------- */

/* The range that lattices divide. */
static void span_of(const struct qz_view *view, float min, float max, float *lo, float *hi)
{
    int integers = view->grid.zero == QZ_ZERO_UINT4;
    *lo = integers && !(min < 0) ? 0 : min;
    *hi = integers && !(max > 0) ? 0 : max;
}

/* The mean distance is 3.5 standard deviations below what it is where there is no lattice. */
int qz_is_near_lattice(const struct qz_view *view, const float *x, size_t n, float min, float max)
{
    enum { PIECE = 128, MEAN = 1024, DEVIATION = 590 };
    uint16_t place[PIECE];
    uint32_t sum[STEPS] = {0}, least = UINT32_MAX;
    float lo, hi;
    span_of(view, min, max, &lo, &hi);
    const float factor = QZ_PLACES / (hi - lo);
    for (size_t start = 0; start < n; start += PIECE) {
        const size_t length = qz_least(n - start, PIECE);
        for (size_t i = 0; i < length; i++)
            place[i] = qz_place((x[start + i] - lo) * factor);
        for (unsigned k = 0; k < STEPS; k++)
            for (size_t i = 0; i < length; i++)
                sum[k] += qz_off_lattice(place[i], QZ_FEWEST_STEPS + k);
    }
    for (unsigned k = 0; k < STEPS; k++)
        least = sum[k] < least ? sum[k] : least;
    return (double)least <= (double)n * MEAN - 3.5 * DEVIATION * sqrt((double)n);
}

int qz_is_grid(const struct qz_view *view, const float *x, size_t n, float min, float max)
{
    const float round = 0x1.8p23f;
    float lo, hi, factor[STEPS], sum[STEPS] = {0}, squares[STEPS] = {0};
    span_of(view, min, max, &lo, &hi);
    float inverse = 1.0f / (hi - lo);
    for (int k = 0; k < STEPS; k++)
        factor[k] = (float)(QZ_FEWEST_STEPS + k) * inverse;
    for (size_t i = 0; i < n;) {
        size_t end = i + 4 < n ? i + 4 : n;
        for (; i < end; i++) {
            float t = x[i] - lo;
            for (int k = 0; k < STEPS; k++) {
                float y = t * factor[k];
                float off = y - ((y + round) - round);
                sum[k] += off;
                squares[k] += off * off;
            }
        }
        int some = 0;
        for (int k = 0; k < STEPS; k++)
            some |= squares[k] * (float)i - sum[k] * sum[k] < QZ_GRID_VARIANCE * ((float)i * (float)i);
        if (!some)
            return 0;
    }
    return 1;
}

int qz_has_few_values(const float *x, size_t n, float same)
{
    enum { MOST = 16 };
    float value[MOST];
    size_t times[MOST], count = 0, most = 0;
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        while (k < count && !(fabsf(value[k] - x[i]) <= same))
            k++;
        if (k == count && count < MOST) {
            value[count] = x[i];
            times[count++] = 0;
        } else if (k == count) {
            return most * 4 > i;
        }
        times[k]++;
        most = times[k] > most ? times[k] : most;
    }
    return count * 4 <= n * 3 || most > n / 4;
}

int qz_is_wave(const float *x, size_t n)
{
    enum { FIRST = 8 };
    const double share = 0.05;
    double count = 0, sum_x = 0, sum_y = 0, xx = 0, xy = 0, yy = 0;
    for (size_t i = 1; i <= FIRST && i + 1 < n; i++) {
        double value = (double)x[i] - (double)x[0], y = (double)x[i - 1] + (double)x[i + 1] - 2 * (double)x[0];
        count++;
        sum_x += value;
        sum_y += y;
        xx += value * value;
        xy += value * y;
        yy += y * y;
    }
    if (count < FIRST)
        return 0;
    xx -= sum_x * sum_x / count;
    xy -= sum_x * sum_y / count;
    yy -= sum_y * sum_y / count;
    return xx * yy - xy * xy < xx * xx * share; /* what is left of y, as a share of what x has */
}

/* ---- pairs without error --------------------------------------------------------------------------------------- */

static int is_lossless(const struct qz_view *view, const float *x, size_t n, const struct qz_pair *pair)
{
    for (size_t i = 0; i < n; i++)
        if (decoded(view, x[i], pair) != x[i])
            return 0;
    return 1;
}

static int is_lossless_source(const struct qz_view *view, const struct qz_exact_source *source,
                              const struct qz_pair *pair)
{
    if (!is_storable(view, pair))
        return 0;
    for (uint64_t start = 0; start < source->n;) {
        size_t n;
        const float *w = NULL, *x = qz_source_piece(source, start, &n, &w);
        if (!is_lossless(view, x, n, pair))
            return 0;
        start += n;
    }
    return 1;
}

float qz_careful_zero(const struct qz_view *view, float min, float scale, float zero)
{
    const double wanted = -(double)(min < 0 ? min : 0) / (double)scale; /* -0 for 0, as the kernel has it */
    if (view->grid.zero == QZ_ZERO_UINT4)
        return wanted > 0 ? wanted < 15 ? (float)rint(wanted) : 15.0f : 0.0f;
    return view->grid.zero == QZ_ZERO_FLOAT && view->grid.shift == 0.0f ? view->scale_type->nearest((float)wanted)
                                                                        : zero;
}

/* The plain pair of a range. */
static struct qz_pair plain_pair(const struct qz_encoder *encoder, float min, float max)
{
    struct qz_pair pair = {0, 0};
    float inverse;
    encoder->view->kernels->fit(&encoder->fit, 1, &min, &max, &pair.scale, &inverse, &pair.zero);
    if (inverse == 0.0f && pair.scale != 0.0f)
        pair.zero = qz_careful_zero(encoder->view, min, pair.scale, pair.zero) + 0.0f;
    return pair;
}

/* A pair with which a range is so many steps, from this code on; with the ends exchanged, of a negative scale. */
static struct qz_pair grid_pair(const struct qz_view *view, float min, float max, int steps, int code)
{
    double lo = (double)min, hi = (double)max;
    if (view->grid.zero == QZ_ZERO_UINT4) {
        lo = lo < 0 ? lo : 0;
        hi = hi > 0 ? hi : 0;
    }
    struct qz_pair pair = {qz_stored(view, (hi - lo) / steps), 0};
    if (pair.scale == 0.0f)
        return pair;
    double s = (double)pair.scale;
    if (view->grid.zero == QZ_ZERO_OFFSET) {
        pair.zero = qz_stored(view, lo - code * s);
    } else if (view->grid.zero == QZ_ZERO_FLOAT) {
        pair.zero = qz_stored(view, code - lo / s);
    } else {
        double zero = rint(-lo / s);
        pair.zero = (float)(zero < 15 ? zero : 15) + 0.0f;
    }
    return pair;
}

/* Least squares of values and their codes, relative to the first one. Returns 0 if some value is not within a few
 * roundings of what the pair makes of its code, or all have one code. */
static int fit_grid(const struct qz_view *view, const struct qz_exact_source *source, const struct qz_pair *pair,
                    double *slope)
{
    const double slack = 0x1p-19;
    double sum_q = 0, sum_x = 0, qq = 0, qx = 0, first = 0;
    size_t n;
    for (uint64_t start = 0; start < source->n; start += n) {
        const float *w, *x = qz_source_piece(source, start, &n, &w);
        for (size_t i = 0; i < n; i++) {
            double q = (double)code_of(view, x[i], pair), value = (double)x[i];
            double far = value - (double)decoded(view, x[i], pair);
            if (!(fabs(far) <= slack * (fabs(value) + 15 * fabs((double)pair->scale))))
                return 0;
            first = start + i == 0 ? value : first;
            value -= first;
            sum_q += q;
            sum_x += value;
            qq += q * q;
            qx += q * value;
        }
    }
    const double count = (double)source->n, spread = count * qq - sum_q * sum_q;
    if (!(spread > 0))
        return 0;
    *slope = (count * qx - sum_q * sum_x) / spread;
    return 1;
}

/* Between which numbers the zero or offset is that goes with a scale, if codes are those of a pair; from > to if there
 * is none. */
static void bound_zero(const struct qz_view *view, const struct qz_exact_source *source, const struct qz_pair *pair,
                       float scale, double *from, double *to)
{
    const int offsets = view->grid.zero == QZ_ZERO_OFFSET;
    const double s = (double)scale;
    size_t n;
    *from = -INFINITY;
    *to = INFINITY;
    for (uint64_t start = 0; start < source->n; start += n) {
        const float *w, *x = qz_source_piece(source, start, &n, &w);
        for (size_t i = 0; i < n && *from <= *to; i++) {
            double q = (double)code_of(view, x[i], pair), value = (double)x[i];
            double half = 0.5 * ((double)nextafterf(fabsf(x[i]), INFINITY) - fabs(value));
            double off = offsets ? half : (half + fabs(value) * 0x1p-24) / fabs(s);
            double middle = offsets ? value - (double)(scale * (float)q) : q - value / s;
            *from = middle - off > *from ? middle - off : *from;
            *to = middle + off < *to ? middle + off : *to;
        }
    }
}

/* Whether a zero or offset, between the numbers that codes allow, makes the values themselves with a scale; `found` is
 * the pair then. */
static int suits_scale(const struct qz_view *view, const struct qz_exact_source *source, const struct qz_pair *pair,
                       float scale, struct qz_pair *found)
{
    enum { PLACES = 5 };
    double from, to;
    bound_zero(view, source, pair, scale, &from, &to);
    for (int place = 0; place < PLACES && from <= to; place++) { /* the middle, and to both sides of it */
        const int away = (place + 1) / 2;
        const double part = (double)(place % 2 ? away : -away) / PLACES;
        *found = (struct qz_pair){scale, qz_stored(view, 0.5 * (from + to) + part * (to - from)) + 0.0f};
        if (is_lossless_source(view, source, found))
            return 1;
    }
    return 0;
}

/* A pair that decodes to the values themselves, next to one that nearly does. Numbers of float32 have so many digits
 * that the rounding of decoded values hides the last ones: these are found from all values together. */
static int find_near(const struct qz_view *view, const struct qz_exact_source *source, struct qz_pair *pair)
{
    enum { BESIDE = 64 };
    double slope;
    if (view->scale_dtype != QZ_F32 || view->grid.zero == QZ_ZERO_UINT4 || !is_storable(view, pair) ||
        !fit_grid(view, source, pair, &slope))
        return 0;
    const float fitted = qz_stored(view, slope);
    if (!qz_is_ordinary_scale(fitted))
        return 0;
    /* Where offsets are large, many scales make the same values: those further away are tried in larger steps. */
    const double hidden = fabs((double)pair->zero) * 0x1p-7 / fabs(slope);
    const int rounds = view->grid.zero == QZ_ZERO_OFFSET && hidden > 1 ? 2 : 1;
    const uint32_t stride[] = {1, hidden < 0x1p16 ? 1 + (uint32_t)hidden : 0x10000};
    for (int round = 0; round < rounds; round++)
        for (int number = round > 0; number <= 2 * BESIDE; number++) { /* 0, 1, -1, 2, ... */
            const uint32_t away = (uint32_t)(number + 1) / 2 * stride[round];
            const float scale = qz_float(number % 2 ? qz_bits(fitted) + away : qz_bits(fitted) - away);
            struct qz_pair found;
            if (suits_scale(view, source, pair, scale, &found)) {
                *pair = found;
                return 1;
            }
        }
    return 0;
}

/* The first pair, of the plain one, those of grids and what is next to these, that decodes to the values themselves,
 * with weight or without. */
static int find_lossless(const struct qz_encoder *encoder, const struct qz_exact_source *source, float min, float max,
                         struct qz_pair *found)
{
    const struct qz_view *view = encoder->view;
    *found = plain_pair(encoder, min, max);
    if (is_lossless_source(view, source, found))
        return 1;
    int integers = view->grid.zero == QZ_ZERO_UINT4;
    for (int negative = 0; negative <= !integers; negative++)
        for (int steps = QZ_MOST_STEPS; steps > 0; steps--)
            for (int code = 0; code <= (integers ? 0 : QZ_MOST_STEPS - steps); code++) {
                *found = negative ? grid_pair(view, max, min, steps, code) : grid_pair(view, min, max, steps, code);
                if (is_lossless_source(view, source, found) || find_near(view, source, found))
                    return 1;
            }
    return 0;
}

/* The values that a pair makes of others. */
struct decoded_source {
    const struct qz_encoder *encoder;
    const struct qz_exact_source *source;
    struct qz_pair pair;
    float x[QZ_EXACT_PIECE];
};

static const float *decoded_piece(void *context, uint64_t start, size_t *n, const float **w)
{
    struct decoded_source *from = context;
    const float *x = qz_source_piece(from->source, start, n, w);
    *n = *n < QZ_EXACT_PIECE ? *n : QZ_EXACT_PIECE;
    for (size_t i = 0; i < *n; i++)
        from->x[i] = decoded(from->encoder->view, x[i], &from->pair);
    return from->x;
}

/* The pair that will be found in what is decoded, if it decodes to the same. Values beyond the codes before may be
 * within those after that, and come nearer: then again. */
static void make_normal(const struct qz_encoder *encoder, const struct qz_exact_source *source, float min, float max,
                        struct qz_pair *pair)
{
    enum { ROUNDS = 4 };
    struct decoded_source from = {.encoder = encoder, .source = source};
    struct qz_exact_source values = {.n = source->n, .piece = decoded_piece, .context = &from};
    for (int round = 0; round < ROUNDS && is_storable(encoder->view, pair); round++) {
        from.pair = *pair;
        float a = decoded(encoder->view, min, pair), b = decoded(encoder->view, max, pair);
        struct qz_pair found;
        if (!find_lossless(encoder, &values, a < b ? a : b, a < b ? b : a, &found) ||
            (found.scale == pair->scale && found.zero == pair->zero))
            return;
        *pair = found;
    }
}

int qz_make_affine_normal(const struct qz_view *view, float min, float max, struct qz_pair *pair)
{
    float low = code_of(view, min, pair), high = code_of(view, max, pair);
    if (!(pair->scale > 0))
        return 0;
    if (view->grid.zero == QZ_ZERO_UINT4) { /* 0 is among the values of a grid */
        low = low < pair->zero ? low : pair->zero;
        high = high > pair->zero ? high : pair->zero;
        pair->zero -= low;
    } else if (low > 0) {
        double step = view->grid.zero == QZ_ZERO_OFFSET ? (double)pair->scale : -1.0;
        for (int by = (int)low; by > 0; by--) {
            double moved = (double)pair->zero + (double)by * step;
            struct qz_pair found = {pair->scale, qz_stored(view, moved)};
            if ((double)found.zero == moved && is_storable(view, &found)) {
                *pair = found;
                break;
            }
        }
    }
    return high - low >= QZ_FEWEST_STEPS;
}

/* ---- one group at a time --------------------------------------------------------------------------------------- */

static void take_better(const struct qz_view *view, const struct qz_exact_source *source, const struct qz_pair *pair,
                        double *least, struct qz_pair *best)
{
    if (!is_storable(view, pair))
        return;
    double error = qz_affine_error(view->grid.zero, source, pair->scale, pair->zero);
    if (error < *least) {
        *least = error;
        *best = *pair;
    }
}

/* The step by which neighbours go up or down on straight lines, the mean of those that are next to the first one; 0 if
 * fewer than one in eight do, or all by steps of which a range has many more than there are codes. */
static float mean_slope(const float *x, size_t n, size_t lag, float range)
{
    double sum = 0, first = 0;
    size_t count = 0;
    for (size_t i = 2 * lag; i < n; i++) {
        float one = x[i - 2 * lag] - x[i - lag], other = x[i - lag] - x[i];
        double step = 0.5 * fabs((double)x[i] - (double)x[i - 2 * lag]);
        if (fabsf(one - other) > range * QZ_STRAIGHT || step * 18 < (double)range)
            continue;
        first = count == 0 ? step : first;
        if (fabs(step - first) > first * 0x1p-4)
            continue;
        sum += step;
        count++;
    }
    return count * 8 >= n ? (float)(sum / (double)count) : 0.0f;
}

/* The best scale, and zero or offset, for the codes that a pair makes. */
static struct qz_pair fitted_pair(const struct qz_view *view, const struct qz_exact_source *source,
                                  const struct qz_pair *pair)
{
    const int integers = view->grid.zero == QZ_ZERO_UINT4;
    struct qz_pair fitted = *pair;
    double weight = 0, sum_q = 0, sum_x = 0, qq = 0, xq = 0;
    for (size_t i = 0; i < source->n; i++) {
        double w = source->w ? (double)source->w[i] : 1, x = (double)source->x[i];
        double q = (double)code_of(view, source->x[i], pair) - (integers ? (double)pair->zero : 0.0);
        weight += w;
        sum_q += w * q;
        sum_x += w * x;
        qq += w * q * q;
        xq += w * x * q;
    }
    double spread = integers ? qq : weight * qq - sum_q * sum_q;
    if (!(spread > 0))
        return fitted;
    double scale = integers ? xq / qq : (weight * xq - sum_x * sum_q) / spread;
    double offset = (sum_x - scale * sum_q) / weight;
    fitted.scale = qz_stored(view, scale);
    if (view->grid.zero == QZ_ZERO_OFFSET)
        fitted.zero = qz_stored(view, offset);
    else if (view->grid.zero == QZ_ZERO_FLOAT)
        fitted.zero = qz_stored(view, -offset / scale);
    return fitted;
}

/* They are rounded here, because the scheme may have other types of scales than the rule knows. */
void qz_rule_pairs(const struct qz_encoder *encoder, size_t count, const float *min, const float *max, float *scale,
                   float *zero)
{
    const struct qz_view *view = encoder->view;
    const qz_dtype dtype = qz_rule_info(encoder->rule)->scale_dtype;
    struct qz_reference_many many;
    for (size_t g = 0; g < count; g++) {
        many.min[g] = min[g];
        many.max[g] = max[g];
        many.largest[g] = max[g] > -min[g] ? max[g] : min[g];
    }
    qz_reference_fit_many(encoder->rule, &encoder->how, &many, count);
    memcpy(scale, many.scale, count * sizeof *scale);
    memcpy(zero, many.zero, count * sizeof *zero);
    for (size_t g = 0; g < count && dtype != 0 && dtype != view->scale_dtype; g++) {
        scale[g] = qz_stored(view, (double)scale[g]);
        zero[g] = view->grid.zero == QZ_ZERO_UINT4 ? zero[g] : qz_stored(view, (double)zero[g]);
    }
    for (size_t g = 0; g < count; g++)
        zero[g] += 0.0f;
}

void qz_take_better_pair(const struct qz_view *view, const struct qz_exact_source *source, const struct qz_pair *other,
                         struct qz_pair *pair)
{
    double least = qz_affine_error(view->grid.zero, source, pair->scale, pair->zero);
    take_better(view, source, other, &least, pair);
}

/* Tries parts of a slope as the scale. */
static void try_slope(const struct qz_view *view, const struct qz_exact_source *source, float low, float range,
                      double slope, double *least, struct qz_pair *pair)
{
    enum { ROUNDS = 2, PLACES = 3, FINE = 8 };
    const double most = 17 * slope / (double)range;
    for (double parts = 1; parts == 1 || parts <= most; parts += parts < 0.5 * most ? 1 : 1.0 / FINE)
        for (int place = 0; place < PLACES; place++) { /* where the least value is, in steps */
            const double step = slope / parts, from = (double)low - step * place / PLACES;
            struct qz_pair tried = {qz_stored(view, step), 0};
            if (view->grid.zero == QZ_ZERO_OFFSET)
                tried.zero = qz_stored(view, from);
            else if (view->grid.zero == QZ_ZERO_FLOAT)
                tried.zero = qz_stored(view, -from / step);
            else
                tried.zero = (float)rint(-from / step);
            for (int round = 0; round <= ROUNDS && is_storable(view, &tried); round++) {
                if (view->grid.zero != QZ_ZERO_UINT4 || (tried.zero >= 0 && tried.zero <= 15))
                    take_better(view, source, &tried, least, pair);
                tried = fitted_pair(view, source, &tried);
            }
        }
}

void qz_try_slopes(const struct qz_encoder *encoder, const struct qz_exact_source *source, float min, float max,
                   int special, struct qz_pair *pair)
{
    const struct qz_view *view = encoder->view;
    const float low = view->grid.zero == QZ_ZERO_UINT4 && min > 0 ? 0.0f : min, range = max - low;
    double least = INFINITY;
    const size_t first = special & QZ_SPECIAL_SLOPES ? 1 : 2, last = special & QZ_SPECIAL_FAR_SLOPES ? QZ_LAGS : 1;
    for (size_t lag = first; lag <= last; lag = qz_next_lag(lag)) {
        const float slope = mean_slope(source->x, (size_t)source->n, lag, max - min);
        if (!(slope > 0.0f && qz_is_finite(range)))
            continue;
        if (least == (double)INFINITY)
            least = qz_affine_error(view->grid.zero, source, pair->scale, pair->zero);
        try_slope(view, source, low, range, (double)slope, &least, pair);
    }
    if (least < (double)INFINITY && !qz_make_affine_normal(view, min, max, pair))
        make_normal(encoder, source, min, max, pair);
}

/* Whether the pair follows from the plain one, which cannot be stored, so that the call fails whatever might be found, or
 * is one without error. */
static int is_settled(const struct qz_encoder *encoder, const struct qz_exact_source *source, float min, float max,
                      const struct qz_pair *plain, struct qz_pair *pair)
{
    struct qz_pair found = *plain;
    int settled = !is_storable(encoder->view, plain) || find_lossless(encoder, source, min, max, &found);
    if (settled)
        *pair = found;
    return settled;
}

void qz_careful_affine(const struct qz_encoder *encoder, const struct qz_exact_source *source, float min, float max,
                       struct qz_pair *pair)
{
    const struct qz_view *view = encoder->view;
    struct qz_pair found, plain = plain_pair(encoder, min, max);
    if (is_settled(encoder, source, min, max, &plain, pair))
        return;
    double least = qz_affine_error(view->grid.zero, source, plain.scale, plain.zero);
    struct qz_pair best = plain;
    take_better(view, source, pair, &least, &best);
    if (encoder->rule != QZ_RULE_NONE) {
        qz_rule_pairs(encoder, 1, &min, &max, &found.scale, &found.zero);
        take_better(view, source, &found, &least, &best);
    }
    if (view->grid.zero == QZ_ZERO_UINT4) {
        for (int steps = QZ_MOST_STEPS; steps > 0; steps--) {
            found = grid_pair(view, min, max, steps, 0);
            take_better(view, source, &found, &least, &best);
        }
        found = best;
        qz_exact_group(encoder, source, 1.0f, &found.scale, &found.zero);
        take_better(view, source, &found, &least, &best);
    } else {
        /* With weights, what counts may be two values, and as many steps between them as suit. */
        struct qz_exact_affine rule = {view->scale_dtype, view->grid.zero, 0, source->w ? 1.0 : 1.0 / 6, ENOUGH};
        qz_exact_pair(&rule, source, &best.scale, &best.zero);
    }
    make_normal(encoder, source, min, max, &best);
    *pair = best;
}

void qz_exact_affine_group(const struct qz_encoder *encoder, const struct qz_exact_source *source, float min, float max,
                           struct qz_pair *pair)
{
    const struct qz_view *view = encoder->view;
    struct qz_pair found, plain = plain_pair(encoder, min, max);
    if (is_settled(encoder, source, min, max, &plain, pair))
        return;
    if (view->grid.zero == QZ_ZERO_UINT4) {
        double least = qz_affine_error(view->grid.zero, source, pair->scale, pair->zero);
        found = *pair;
        qz_exact_group(encoder, source, 1.0f, &found.scale, &found.zero);
        take_better(view, source, &found, &least, pair);
    } else {
        struct qz_exact_affine rule = {view->scale_dtype, view->grid.zero, 1, 4.0, 0.0};
        qz_exact_pair(&rule, source, &pair->scale, &pair->zero);
    }
    make_normal(encoder, source, min, max, pair);
}
