/*
 * search_special.c - searches groups for which the ordinary candidates are not enough, one group at a time
 *
 * Groups with few different values can have next to no error, above all those that a table and some scale reproduce
 * without loss (their values were decoded before, trained to be so, or are small integers). Their best scale may be
 * anywhere, and the exact method finds it. Errors of decoded values are compared in double.
 */
#include "search_special.h"
#include "exact_group.h"
#include "../base/number.h"

#include <float.h>
#include <math.h>

enum {
    VALUES = 16, /* more different ones than this do not come from one table */
    ALIKE = 12,  /* more different ones than this are not in the same proportions twice in one table */
    FEW = 6,     /* so few have an error that jumps up and down with the scale */
    SHORT = 48   /* for longer groups other candidates were chosen */
};

/* Values were rounded to bfloat16 at worst, the largest one and the one that is compared with it. */
#define NEAR 0x1p-7

/* As QZ_NEAR_LATTICE, of all values of a group; and where float32 may not tell the best scale from others. */
#define NEAR_LATTICE 0.02f
#define ON_LATTICE   1e-4f

/* Sixty-four values are so far from a lattice only where there is none. */
#define FAR_FROM_LATTICE 0.075f

/* How many elements were looked at, how many of them are 0, and how many the most frequent other value. */
struct seen {
    uint64_t all, zeros, most;
};

/* The different values of a group, at most VALUES of them; returns VALUES + 1, and looks no further, if there are more.
 * Those without weight do not count. */
static size_t different_values(const struct qz_exact_source *source, float value[VALUES], struct seen *seen)
{
    size_t count = 0, n;
    uint64_t times[VALUES] = {0};
    *seen = (struct seen){0};
    for (uint64_t start = 0; start < source->n; start += n) {
        const float *w, *x = qz_source_piece(source, start, &n, &w);
        for (size_t i = 0; i < n; i++) {
            size_t k = 0;
            if (w && !(w[i] > 0))
                continue;
            seen->all++;
            seen->zeros += x[i] == 0.0f;
            while (k < count && value[k] != x[i])
                k++;
            if (k == count && count == VALUES)
                return VALUES + 1;
            value[k] = x[i];
            count += k == count;
            times[k]++;
            seen->most = x[i] != 0.0f && times[k] > seen->most ? times[k] : seen->most;
        }
    }
    return count;
}

/* The value of largest magnitude. */
static float extreme_of(const float *value, size_t count)
{
    float extreme = 0.0f;
    for (size_t i = 0; i < count; i++)
        extreme = fabsf(value[i]) > fabsf(extreme) ? value[i] : extreme;
    return extreme;
}

/* Entry i of the table that codes stand for; integers have one, too. */
static float entry_of(const struct qz_view *view, int i, float zero)
{
    return view->grid.sorted[i] - zero;
}

/* Whether some scale times the table comes near to all values. */
static int are_from_table(const struct qz_encoder *encoder, float zero, const float *value, size_t count)
{
    double extreme = (double)extreme_of(value, count);
    for (int e = 0; e < 16; e++) {
        double scale = extreme / (double)entry_of(encoder->view, e, zero);
        if (!(fabs(scale) < DBL_MAX) || (encoder->positive && scale < 0))
            continue;
        size_t near = 0;
        for (; near < count; near++) {
            double y = (double)value[near] / scale, least = INFINITY;
            for (int i = 0; i < 16; i++) {
                double distance = fabs(y - (double)entry_of(encoder->view, i, zero));
                if (distance > least) /* and farther from here on */
                    break;
                least = distance;
            }
            if (!(least <= fabs(y) * NEAR))
                break;
        }
        if (near == count)
            return 1;
    }
    return 0;
}

/* Lattices of small integers: on them the largest magnitude is so many steps, as on those of `survey` in the kernels. */
static const float lattices[] = {3.0f, 4.0f, 5.0f, 6.0f, 7.0f, 8.0f};
enum { LATTICES = sizeof lattices / sizeof *lattices, LANES = 8 };

/* How far values are from a lattice, in squares of its step. */
struct off_lattice {
    float lane[LATTICES][LANES];
};

/* Adds how far n values are; compilers make vectors of it. Those without weight count as 0. */
static void measure_lattices(const float *x, const float *w, size_t n, const float factor[LATTICES],
                             struct off_lattice *off)
{
    const float round = 0x1.8p23f;
    for (size_t i = 0; i < n; i += LANES) {
        float y[LANES] = {0};
        const size_t some = qz_least(LANES, n - i);
        for (size_t l = 0; l < some; l++)
            y[l] = w && !(w[i + l] > 0) ? 0.0f : x[i + l];
        for (size_t k = 0; k < LATTICES; k++)
            for (size_t l = 0; l < LANES; l++) {
                float steps = y[l] * factor[k], distance = steps - ((steps + round) - round);
                off->lane[k][l] += distance * distance;
            }
    }
}

/* The largest magnitude of those that have weight, and how many they are. */
static float largest_with_weight(const struct qz_exact_source *source, float *count)
{
    float largest = 0.0f;
    size_t n;
    *count = 0.0f;
    for (uint64_t start = 0; start < source->n; start += n) {
        const float *w, *x = qz_source_piece(source, start, &n, &w);
        *count += w ? 0.0f : (float)n;
        for (size_t i = 0; i < n && !w; i++)
            largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
        for (size_t i = 0; i < n && w; i++) {
            const float magnitude = w[i] > 0 ? fabsf(x[i]) : 0.0f;
            largest = magnitude > largest ? magnitude : largest;
            *count += w[i] > 0 ? 1.0f : 0.0f;
        }
    }
    return largest;
}

/* The nearest lattice, and the sum of squares that it has. */
static size_t least_off(const struct off_lattice *off, float *least)
{
    size_t best = 0;
    *least = INFINITY;
    for (size_t k = 0; k < LATTICES; k++) {
        float sum = 0.0f;
        for (size_t l = 0; l < LANES; l++)
            sum += off->lane[k][l];
        best = sum < *least ? k : best;
        *least = sum < *least ? sum : *least;
    }
    return best;
}

/* The step of the lattice that values with weight are nearest to, and the mean square of their distances from it, in
 * squares of that step; or infinity, where the first ones are so far from all that the others need no look. */
static float nearest_lattice(const struct qz_exact_source *source, float *mean)
{
    enum { FIRST = 64 };
    float count, factor[LATTICES], least;
    const float largest = largest_with_weight(source, &count);
    struct off_lattice off = {{{0}}};
    size_t n, some;
    *mean = INFINITY;
    for (size_t k = 0; k < LATTICES; k++)
        factor[k] = lattices[k] / largest;
    for (uint64_t start = 0; start < source->n; start += some) {
        const float *w, *x = qz_source_piece(source, start, &n, &w);
        some = start == 0 && n > FIRST && !w ? FIRST : n;
        measure_lattices(x, w, some, factor, &off);
        if (some == n)
            continue;
        (void)least_off(&off, &least);
        if (!(least <= FIRST * FAR_FROM_LATTICE))
            return largest / lattices[0];
    }
    const size_t best = least_off(&off, &least);
    *mean = least / count;
    return largest / lattices[best];
}

/* So near the nearest lattice is in one of 1,000 groups without one, of n values. */
static float chance(uint64_t n)
{
    return 1.0f / 12.0f - 0.25f / sqrtf((float)n);
}

/* The same for all tables there are. Integers come from theirs only if they are on a lattice. */
static int is_from_table(const struct qz_encoder *encoder, int lattice, const float *value, size_t count)
{
    const struct qz_grid *grid = &encoder->view->grid;
    if (grid->uniform && !lattice)
        return 0;
    return are_from_table(encoder, 0.0f, value, count) ||
           (grid->shift != 0.0f && are_from_table(encoder, -grid->shift, value, count));
}

unsigned qz_look_at_values(const struct qz_encoder *encoder, const struct qz_exact_source *source, unsigned suspicion)
{
    const unsigned looked = QZ_SUSPECT_VALUES | QZ_SUSPECT_LATTICE;
    float value[VALUES], off;
    if (suspicion & QZ_SUSPECT_EXACT || !(suspicion & looked))
        return suspicion;
    (void)nearest_lattice(source, &off);
    if (!(suspicion & QZ_SUSPECT_VALUES) && !(off <= NEAR_LATTICE)) { /* as most groups are */
        const int near = encoder->view->grid.uniform && off <= chance(source->n);
        return near ? suspicion : suspicion & ~(unsigned)QZ_SUSPECT_LATTICE;
    }
    suspicion &= ~looked;
    struct seen seen;
    size_t count = different_values(source, value, &seen);
    if (count > VALUES && source->n > SHORT && seen.zeros * 4 > seen.all)
        return suspicion | QZ_SUSPECT_WIDE; /* candidates for long groups ask for too many values at their ends */
    const int few = (count <= FEW && count <= source->n / 4 + 1) || count <= (seen.all - seen.zeros) / 2;
    const int lattice = !few && off <= NEAR_LATTICE;
    if ((count <= VALUES && (few || is_from_table(encoder, lattice, value, count))) || (lattice && off <= ON_LATTICE))
        return suspicion | QZ_SUSPECT_EXACT;
    if (lattice)
        suspicion |= QZ_SUSPECT_LARGE;
    if (count > VALUES && seen.most * 4 > seen.all)
        return suspicion | QZ_SUSPECT_WIDE; /* a code is to meet the value that so many have */
    return count <= VALUES && count * 4 <= seen.all * 3 ? suspicion | QZ_SUSPECT_WIDE : suspicion;
}

/* The error of integers times a scale, and the scale that fits their codes best. */
static double fit_integers(const struct qz_view *view, const struct qz_exact_source *source, float scale,
                           double *fitted)
{
    const double lo = (double)view->grid.lo, hi = (double)view->grid.hi;
    double sum = 0, xq = 0, qq = 0;
    for (size_t i = 0; i < source->n; i++) {
        const double x = (double)source->x[i], w = source->w && !source->unweighted ? (double)source->w[i] : 1.0;
        double q = rint(x / (double)scale);
        q = q < lo ? lo : q > hi ? hi : q;
        sum += w * (x - (double)scale * q) * (x - (double)scale * q);
        xq += w * x * q;
        qq += w * q * q;
    }
    *fitted = qq > 0 ? xq / qq : 0.0;
    return sum;
}

void qz_try_lattice(const struct qz_encoder *encoder, const struct qz_exact_source *source, float super, float *scale)
{
    enum { ROUNDS = 3 };
    const struct qz_view *view = encoder->view;
    float mean;
    double fitted, least = fit_integers(view, source, *scale, &fitted);
    const float step = nearest_lattice(source, &mean);
    for (int sign = 1; sign >= (encoder->has_signs ? -1 : 1); sign -= 2) {
        float tried = qz_stored_scale(view, (float)sign * step, super);
        for (int round = 0; round < ROUNDS && qz_is_ordinary_scale(tried); round++) {
            const double error = fit_integers(view, source, tried, &fitted);
            if (error < least) {
                least = error;
                *scale = tried;
            }
            tried = qz_stored_scale(view, (float)fitted, super);
        }
    }
}

/* The decoded value of x. */
static float decoded_value(const struct qz_view *view, float x, float scale)
{
    float best = 0.0f;
    double least = INFINITY;
    if (view->grid.uniform) {
        double y = (double)x / (double)scale, lo = (double)view->grid.lo, hi = (double)view->grid.hi;
        return scale * (float)rint(y < lo ? lo : y > hi ? hi : y);
    }
    for (int i = 0; i < 16; i++) {
        float value = scale * view->grid.sorted[i];
        double distance = fabs((double)x - (double)value);
        if (distance > least) /* and farther from here on */
            break;
        if (distance < least) {
            least = distance;
            best = value;
        }
    }
    return best;
}

static int is_decoded(const struct qz_view *view, float scale, float value)
{
    int some = 0;
    for (int i = 0; i < 16; i++)
        some |= scale * view->grid.sorted[i] == value;
    return some;
}

/* The different decoded values of a group, at most ALIKE of them; returns ALIKE + 1 if there are more. */
static size_t decoded_values(const struct qz_view *view, const struct qz_exact_source *source, float scale,
                             float value[ALIKE])
{
    size_t count = 0, n;
    for (uint64_t start = 0; start < source->n; start += n) {
        const float *w, *x = qz_source_piece(source, start, &n, &w);
        for (size_t i = 0; i < n; i++) {
            float decoded = decoded_value(view, x[i], scale);
            size_t k = 0;
            while (k < count && value[k] != decoded)
                k++;
            if (k < count)
                continue;
            if (count == ALIKE)
                return ALIKE + 1;
            value[count++] = decoded;
        }
    }
    return count;
}

/* The decoded value of largest magnitude, the first one of two. They are in the order of x: it is that of one end. */
static float decoded_extreme(const struct qz_view *view, const struct qz_exact_source *source, float scale)
{
    float lows[LANES], highs[LANES], low = INFINITY, high = -INFINITY;
    size_t n;
    const float *w, *x;
    for (size_t l = 0; l < LANES; l++) {
        lows[l] = INFINITY;
        highs[l] = -INFINITY;
    }
    for (uint64_t start = 0; start < source->n; start += n) {
        size_t i = 0;
        x = qz_source_piece(source, start, &n, &w);
        for (; i + LANES <= n; i += LANES)
            for (size_t l = 0; l < LANES; l++) {
                lows[l] = x[i + l] < lows[l] ? x[i + l] : lows[l];
                highs[l] = x[i + l] > highs[l] ? x[i + l] : highs[l];
            }
        for (; i < n; i++) {
            lows[0] = x[i] < lows[0] ? x[i] : lows[0];
            highs[0] = x[i] > highs[0] ? x[i] : highs[0];
        }
    }
    for (size_t l = 0; l < LANES; l++) {
        low = lows[l] < low ? lows[l] : low;
        high = highs[l] > high ? highs[l] : high;
    }
    low = decoded_value(view, low, scale);
    high = decoded_value(view, high, scale);
    if (fabsf(low) != fabsf(high) || low == high)
        return fabsf(low) > fabsf(high) ? low : high;
    for (uint64_t start = 0; start < source->n; start += n) {
        x = qz_source_piece(source, start, &n, &w);
        for (size_t i = 0; i < n; i++) {
            float decoded = decoded_value(view, x[i], scale);
            if (fabsf(decoded) == fabsf(low))
                return decoded;
        }
    }
    return low;
}

/* Whether all that is decoded with one scale can be decoded with another one. */
static int are_decoded(const struct qz_view *view, const struct qz_exact_source *source, float scale, float other)
{
    size_t n;
    for (uint64_t start = 0; start < source->n; start += n) {
        const float *w, *x = qz_source_piece(source, start, &n, &w);
        for (size_t i = 0; i < n; i++)
            if (!is_decoded(view, other, decoded_value(view, x[i], scale)))
                return 0;
    }
    return 1;
}

/* Most groups have no other scale that may do: it is looked for first, and then what it would have to decode. */
float qz_least_alike(const struct qz_encoder *encoder, const struct qz_exact_source *source, float scale)
{
    const struct qz_view *view = encoder->view;
    const int steps = view->scale_dtype == QZ_F32 ? 3 : 1;
    float value[ALIKE], best = scale;
    if (view->super_groups || scale == 0.0f || !qz_is_finite(scale))
        return scale;
    const float extreme = decoded_extreme(view, source, scale);
    for (int e = 0; e < 16 && extreme != 0.0f; e++) {
        /* A scale that is larger before it is rounded is not smaller after that, nor, if twice as large, the same. */
        float entry = view->grid.sorted[e], margin = best < 0.0f && steps == 1 ? 2.0f : 1.0001f;
        if (entry == 0.0f || fabsf(extreme) > fabsf(best) * margin * fabsf(entry) ||
            (encoder->positive && (extreme < 0) != (entry < 0)))
            continue;
        const float nearest = qz_stored_scale(view, extreme / entry, 1.0f);
        for (int step = 0; step < steps; step++) {
            float other = nearest;
            if (step > 0) /* products are rounded: of neighbours, more than one may do */
                other = nextafterf(nearest, step == 1 ? 0.0f : copysignf(INFINITY, nearest));
            if (other == 0.0f || !qz_is_finite(other) ||
                !(fabsf(other) < fabsf(best) || (other == -best && other > 0)) ||
                !are_decoded(view, source, scale, other))
                continue;
            if (best == scale && decoded_values(view, source, scale, value) > ALIKE)
                return scale;
            best = other;
        }
    }
    return best;
}

/* The error of a scale as it is stored, with the second table if `zero` says so. */
static double error_of_scale(const struct qz_encoder *encoder, const struct qz_exact_source *source, float scale,
                             float zero)
{
    struct qz_exact rule = qz_exact_rule(encoder);
    for (int v = 0; v < 16 && zero != 0.0f; v++)
        rule.sorted[v] -= zero;
    return qz_is_finite(scale) ? qz_exact_error(&rule, source, scale, 0) : INFINITY;
}

/* The scale that suits the values of the table best that a scale makes of x. */
static float fitted_scale(const struct qz_encoder *encoder, const struct qz_exact_source *source, float scale)
{
    double xq = 0, qq = 0;
    size_t n;
    for (uint64_t start = 0; start < source->n; start += n) {
        const float *w, *x = qz_source_piece(source, start, &n, &w);
        for (size_t i = 0; i < n; i++) {
            double q = (double)decoded_value(encoder->view, x[i], scale) / (double)scale;
            double weighted = w ? (double)w[i] * q : q;
            xq += weighted * (double)x[i];
            qq += weighted * q;
        }
    }
    return qq > 0 ? qz_stored(encoder->view, xq / qq) : scale;
}

/* The next scale of the type. */
static float next_scale(const struct qz_view *view, float scale, int larger)
{
    const int digits = view->scale_type->levels.mantissa;
    const uint32_t step = (uint32_t)1 << (23 - (digits < 23 ? digits : 23));
    return qz_stored(view, (double)qz_float(larger ? qz_bits(scale) + step : qz_bits(scale) - step));
}

/* Keeps a scale of the same sign if it has less error. */
static void keep_less(const struct qz_encoder *encoder, const struct qz_exact_source *source, float tried,
                      double *least, float *scale)
{
    if (tried == *scale || !qz_is_ordinary_scale(tried) || (tried < 0) != (*scale < 0))
        return;
    double error = error_of_scale(encoder, source, tried, 0.0f);
    if (error < *least) {
        *least = error;
        *scale = tried;
    }
}

/* The least error near a scale: float32 sums, and a proof that ends before the last digits of a scale, leave it open.
 * Scales are fitted until none is better, and then their neighbours tried. */
static void finish_scale(const struct qz_encoder *encoder, const struct qz_exact_source *source, double least,
                         float *scale)
{
    enum { ROUNDS = 16 };
    float known = 0.0f;
    for (int round = 0; round < ROUNDS && *scale != known; round++) {
        known = *scale;
        keep_less(encoder, source, fitted_scale(encoder, source, known), &least, scale);
    }
    known = 0.0f;
    for (int round = 0; round < ROUNDS && *scale != known; round++) {
        known = *scale;
        keep_less(encoder, source, next_scale(encoder->view, known, 1), &least, scale);
        keep_less(encoder, source, next_scale(encoder->view, known, 0), &least, scale);
    }
}

void qz_careful_group(const struct qz_encoder *encoder, const struct qz_exact_source *source, float super,
                      const float plain[2], int exact, float *scale, float *zero)
{
    const struct qz_view *view = encoder->view;
    const float found[2] = {*scale, view->grid.shift != 0.0f ? *zero : 0.0f};
    double least = INFINITY;
    *scale = INFINITY; /* if none fits */
    *zero = 0.0f;
    for (int i = 0; i < 4 && least > 0; i++) { /* the plain ones first, the exact one last */
        float candidate = i < 2 ? plain[i] : found[0], other = i < 2 ? 0.0f : found[1];
        if (i < 2 && candidate == 0.0f)
            continue;
        if (i == 3 && !exact)
            break;
        if (i == 3)
            qz_exact_group(encoder, source, super, &candidate, &other);
        else
            candidate = qz_stored_scale(view, candidate, super);
        double error = error_of_scale(encoder, source, candidate, other);
        if (error < least) {
            least = error;
            *scale = candidate;
            *zero = other;
        }
    }
    /* Without a value of 0, no code suits values of 0, and the less the scale the better. */
    const int finishes = encoder->method == QZ_EXACT || (exact && !view->grid.has_zero);
    if (finishes && !view->super_groups && view->grid.shift == 0.0f && qz_is_ordinary_scale(*scale))
        finish_scale(encoder, source, least, scale);
    if (exact)
        *scale = qz_least_alike(encoder, source, *scale);
}
