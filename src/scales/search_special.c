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
static const float lattices[] = {4.0f, 5.0f, 6.0f, 7.0f, 8.0f};
enum { LATTICES = sizeof lattices / sizeof *lattices };

/* Adds to how far n values with weight are from each lattice, in squares of its step; returns how many they are. */
static float measure_lattices(const float *x, const float *w, size_t n, const float factor[LATTICES],
                              float squares[LATTICES])
{
    const float round = 0x1.8p23f;
    float count = 0.0f;
    for (size_t i = 0; i < n; i++) {
        const float counts = w && !(w[i] > 0) ? 0.0f : 1.0f;
        count += counts;
        for (size_t k = 0; k < LATTICES; k++) {
            float y = x[i] * factor[k], off = y - ((y + round) - round);
            squares[k] += counts * (off * off);
        }
    }
    return count;
}

/* Whether values with weight are near one of them. The first ones tell most others. */
static int is_near_some_lattice(const struct qz_exact_source *source, float near)
{
    enum { FIRST = 17 };
    float largest = 0.0f, count = 0.0f, factor[LATTICES], squares[LATTICES] = {0};
    size_t n, some;
    int found = 0;
    for (uint64_t start = 0; start < source->n; start += n) {
        const float *w, *x = qz_source_piece(source, start, &n, &w);
        for (size_t i = 0; i < n; i++)
            largest = fabsf(x[i]) > largest && (!w || w[i] > 0) ? fabsf(x[i]) : largest;
    }
    for (size_t k = 0; k < LATTICES; k++)
        factor[k] = lattices[k] / largest;
    for (uint64_t start = 0; start < source->n; start += some) {
        const float *w, *x = qz_source_piece(source, start, &n, &w);
        some = start == 0 && n > FIRST ? FIRST : n;
        count += measure_lattices(x, w, some, factor, squares);
        found = 0;
        for (size_t k = 0; k < LATTICES; k++)
            found |= squares[k] <= count * near;
        if (start == 0 && !found)
            return 0;
    }
    return found;
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
    float value[VALUES];
    if (suspicion & QZ_SUSPECT_EXACT || !(suspicion & QZ_SUSPECT_VALUES))
        return suspicion;
    suspicion &= ~(unsigned)QZ_SUSPECT_VALUES;
    struct seen seen;
    size_t count = different_values(source, value, &seen);
    if (count > VALUES && source->n > SHORT && seen.zeros * 4 > seen.all)
        return suspicion | QZ_SUSPECT_WIDE; /* candidates for long groups ask for too many values at their ends */
    const int few = (count <= FEW && count <= source->n / 4 + 1) || count <= (seen.all - seen.zeros) / 2;
    const int lattice = !few && is_near_some_lattice(source, NEAR_LATTICE);
    if ((count <= VALUES && (few || is_from_table(encoder, lattice, value, count))) ||
        (lattice && is_near_some_lattice(source, ON_LATTICE)))
        return suspicion | QZ_SUSPECT_EXACT;
    if (lattice)
        suspicion |= QZ_SUSPECT_LARGE;
    if (count > VALUES && seen.most * 4 > seen.all)
        return suspicion | QZ_SUSPECT_WIDE; /* a code is to meet the value that so many have */
    return count <= VALUES && count * 4 <= seen.all * 3 ? suspicion | QZ_SUSPECT_WIDE : suspicion;
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
    enum { LANES = 8 };
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
    if (exact)
        *scale = qz_least_alike(encoder, source, *scale);
}
