/*
 * search_long.c - searches for better scales for long groups, one group at a time
 *
 * A group that is too long to lie beside others is read in pieces, once for each candidate. Kernels make its codes and
 * the values that these stand for, and sums over both give the scale, and offset, that fit these codes best. Sums are
 * double, in eight lanes, so that their order is the same everywhere.
 */
#include "search_long.h"
#include "careful_affine.h"
#include "exact_affine.h"
#include "exact_group.h"
#include "../base/number.h"
#include "search_special.h"

#include <math.h>

/* Sums over a group: y = (x - offset) / scale, q the value of its code, w its weight. */
struct sums {
    double w, y, q, yy, yq, qq;
};

enum { LANES = 8 };

static void add_sums(struct sums *sums, const float *y, const float *q, const float *w, size_t n)
{
    double lane[6][LANES] = {{0}};
    for (size_t i = 0; i < n; i += LANES) {
        float ys[LANES] = {0}, qs[LANES] = {0}, ws[LANES] = {0};
        size_t count = n - i < LANES ? n - i : LANES;
        for (size_t j = 0; j < count; j++) {
            ys[j] = y[i + j];
            qs[j] = q[i + j];
            ws[j] = w ? w[i + j] : 1.0f;
        }
        for (size_t j = 0; j < LANES; j++) {
            double a = (double)ys[j], b = (double)qs[j], weight = (double)ws[j];
            lane[0][j] += weight;
            lane[1][j] += weight * a;
            lane[2][j] += weight * b;
            lane[3][j] += weight * a * a;
            lane[4][j] += weight * a * b;
            lane[5][j] += weight * b * b;
        }
    }
    for (size_t j = 0; j < LANES; j++) {
        sums->w += lane[0][j];
        sums->y += lane[1][j];
        sums->q += lane[2][j];
        sums->yy += lane[3][j];
        sums->yq += lane[4][j];
        sums->qq += lane[5][j];
    }
}

/* The sums for the codes that a scale and a zero or offset make. With `center` y is not moved by the offset. */
static struct sums sums_with(const struct qz_view *view, const struct qz_exact_source *source, float scale, float zero,
                             int center)
{
    float inverse = 1.0f / scale, one = 1.0f, y[QZ_TILE], q[QZ_TILE];
    int moved = view->grid.zero == QZ_ZERO_OFFSET;
    float no_offset = moved ? 0.0f : zero, offset = moved && !center ? zero : 0.0f;
    uint8_t packed[QZ_TILE / 2];
    struct sums sums = {0};
    size_t n;
    for (uint64_t start = 0; start < source->n; start += n) {
        const float *w = NULL, *x = qz_source_piece(source, start, &n, &w);
        int far = 0; /* the kernels of all sets do not take what is far beyond uniform codes */
        for (size_t i = 0; i < n; i++)
            far |= !(fabsf((x[i] - (moved ? zero : 0.0f)) * inverse) <= 0x1p29f);
        (far && view->grid.uniform ? &qz_kernels_scalar : view->kernels)
            ->group_codes(x, n, n, &view->grid, &inverse, &zero, packed);
        view->kernels->group_decode(packed, n, n, &view->grid, &one, &no_offset, q);
        for (size_t i = 0; i < n; i++)
            y[i] = (x[i] - offset) * inverse;
        add_sums(&sums, y, q, w, n);
    }
    return sums;
}

/* Error of `to` as the scale of codes that `scale` made, in units of scale^2. */
static double error_of(const struct sums *sums, double scale, double to)
{
    double ratio = to / scale;
    return sums->yy - 2.0 * ratio * sums->yq + ratio * ratio * sums->qq;
}

/* The best of the candidates so far, in units of the values. */
struct best {
    double error;
    float scale, zero, made_by; /* made_by: the scale that made its codes */
};

/* Tries the codes that a scale makes, with that scale itself and with the one that fits them best. */
static void try_scale(const struct qz_encoder *encoder, const struct qz_exact_source *source, float s, float zero,
                      struct best *best)
{
    if (!qz_is_ordinary_scale(s) || (encoder->positive && s < 0))
        return;
    struct sums sums = sums_with(encoder->view, source, s, zero, 0);
    float scale[2] = {s, sums.qq > 0 ? qz_stored(encoder->view, (double)s * sums.yq / sums.qq) : s};
    for (int i = 0; i < 2; i++) {
        if (!qz_is_ordinary_scale(scale[i]) || (encoder->positive && scale[i] < 0))
            continue;
        double error = error_of(&sums, (double)s, (double)scale[i]) * (double)s * (double)s;
        if (error < best->error)
            *best = (struct best){error, scale[i], zero, s};
    }
}

/* What there is to know of a group: the sum of w x^2, how many equal weights w and w x^2 are worth, and the largest
 * magnitude that has a weight. */
struct measured {
    double energy, weight, worth, values;
    float largest;
};

static struct measured measure(const struct qz_exact_source *source)
{
    struct measured m = {0};
    double squares = 0, fourth = 0;
    size_t n;
    for (uint64_t start = 0; start < source->n; start += n) {
        const float *w, *x = qz_source_piece(source, start, &n, &w);
        for (size_t i = 0; i < n; i++) {
            double share = w ? (double)w[i] : 1.0, energy = share * (double)x[i] * (double)x[i];
            m.energy += energy;
            fourth += energy * energy;
            m.weight += share;
            squares += share * share;
            m.largest = share > 0 && fabsf(x[i]) > m.largest ? fabsf(x[i]) : m.largest;
        }
    }
    m.worth = squares > 0 ? m.weight * m.weight / squares : 0;
    m.values = fourth > 0 ? m.energy * m.energy / fourth : 0;
    return m;
}

/* Scales from the plain one to where the spread of the values says that the best one is at most, then some about the
 * best of these. */
static void search_symmetric(const struct qz_encoder *encoder, const struct qz_exact_source *source, float min,
                             float max, float *scale, float *zero)
{
    const struct qz_view *view = encoder->view;
    static const double closer[] = {1.06, 0.94, 1.03, 0.97, 1.015, 0.985};
    struct measured group = measure(source);
    float extreme = qz_larger(-min, max), shift = view->grid.shift;
    if (!(group.energy > 0))
        return;
    int tables = shift != 0.0f ? 2 : 1, integers = encoder->search[QZ_CANDIDATES_UNWEIGHTED].as_stored > 1;
    const float plain[2] = {qz_stored(view, (double)*scale),
                            integers ? qz_stored(view, (double)(extreme / (encoder->positive ? 7.5f : 7.0f))) : 0.0f};
    struct best best = {INFINITY, *scale, 0.0f, 0.0f};
    for (int i = 0; i < 2; i++)
        try_scale(encoder, source, plain[i], 0.0f, &best);
    double first = (double)*scale * (double)(group.largest / extreme);
    double most = sqrt(group.weight / group.energy) * (double)group.largest / 2.0;
    for (int i = -2; i <= 2 && view->scale_dtype == QZ_E8M0; i++) /* powers of two: all in question */
        try_scale(encoder, source, qz_stored(view, ldexp(first, i)), 0.0f, &best);
    double factor = view->grid.uniform ? 0.8 : 0.4; /* the densest values of a table are not at its ends */
    while (factor < 1.4 || factor < most) {
        for (int way = 0; way < tables * (encoder->has_signs ? 2 : 1); way++)
            try_scale(encoder, source, qz_stored(view, (way & 1 && encoder->has_signs ? -first : first) / factor),
                      way >= (encoder->has_signs ? 2 : 1) ? -shift : 0.0f, &best);
        factor *= factor < 0.7 ? 1.12 : 1.08;
    }
    for (size_t c = 0; c < sizeof closer / sizeof *closer; c++)
        try_scale(encoder, source, qz_stored(view, (double)best.made_by * closer[c]), best.zero, &best);
    *scale = best.scale;
    *zero = best.zero;
    unsigned suspicion = QZ_SUSPECT_VALUES | (best.error <= group.energy * 0x1p-12 ? QZ_SUSPECT_EXACT : 0u);
    int exact = group.worth < (double)source->n / 16 || group.values < 4 ||
                (qz_look_at_values(encoder, source, suspicion) & QZ_SUSPECT_EXACT) != 0;
    qz_careful_group(encoder, source, 1.0f, plain, exact, scale, zero);
    if (!exact)
        *scale = qz_least_alike(encoder, source, *scale);
}

/* The zero of a scale and an offset that fit a group best. */
static float zero_of(const struct qz_view *view, double scale, double offset)
{
    if (view->grid.zero == QZ_ZERO_OFFSET)
        return qz_stored(view, offset);
    if (view->grid.zero == QZ_ZERO_FLOAT)
        return qz_stored(view, -offset / scale);
    double z = rint(-offset / scale);
    return (float)(z < 0 ? 0 : z > 15 ? 15 : z) + 0.0f;
}

/* Keeps a scale and zero as stored if their own codes leave the least error so far. */
static void keep_better(const struct qz_view *view, const struct qz_exact_source *source, float s, float z,
                        double *least, float *scale, float *zero)
{
    if (!qz_is_ordinary_scale(s) || !qz_is_finite(z))
        return;
    struct sums sums = sums_with(view, source, s, z, 0);
    double error = error_of(&sums, 1.0, 1.0) * (double)s * (double)s;
    if (error < *least) {
        *least = error;
        *scale = s;
        *zero = z;
    }
}

/* With a zero or an offset: the best of a few ends of the range, which are improved by least squares. */
static void search_ends(const struct qz_view *view, const struct qz_exact_source *source, float min, float max,
                        float *scale, float *zero)
{
    /* How far from the mean ends may be, in standard deviations. */
    static const double far[] = {2.2, 2.8, 3.5, 4.6, 6.5, 9, 13, INFINITY};
    enum { FAR = sizeof far / sizeof far[0] };
    double least = INFINITY;
    keep_better(view, source, *scale, *zero, &least, scale, zero);
    struct sums whole = sums_with(view, source, *scale, *zero, 1);
    double mean = whole.y / whole.w * (double)*scale;
    double deviation = sqrt(whole.yy / whole.w - whole.y / whole.w * (whole.y / whole.w)) * fabs((double)*scale);
    double lo = (double)min, hi = (double)max;
    if (view->grid.zero == QZ_ZERO_UINT4) {
        lo = lo < 0 ? lo : 0;
        hi = hi > 0 ? hi : 0;
    }
    for (size_t i = 0; i < FAR; i++) {
        double reach = far[i] * deviation, low = lo > mean - reach ? lo : mean - reach;
        double high = hi < mean + reach ? hi : mean + reach, a = (high - low) / 15.0;
        if (i + 1 < FAR && mean - reach <= lo && mean + reach >= hi) /* the last one is the same */
            continue;
        float z = zero_of(view, a, low), s = qz_stored(view, a);
        for (int round = 0; round < 2 && qz_is_ordinary_scale(s) && qz_is_finite(z); round++) {
            struct sums sums = sums_with(view, source, s, z, 1);
            double spread = sums.w * sums.qq - sums.q * sums.q;
            if (view->grid.zero == QZ_ZERO_UINT4) { /* what q stands for has the zero in it already */
                if (!(sums.qq > 0))
                    break;
                s = qz_stored(view, (double)s * sums.yq / sums.qq);
            } else {
                if (!(spread > sums.w * sums.qq * 0x1p-20))
                    break;
                double slope = (sums.w * sums.yq - sums.y * sums.q) / spread;
                double rest = (sums.y - slope * sums.q) / sums.w, old = (double)s;
                double base = view->grid.zero == QZ_ZERO_FLOAT ? (double)z : 0.0; /* q = code - z there */
                s = qz_stored(view, old * slope);
                z = zero_of(view, old * slope, old * (rest - slope * base));
            }
            keep_better(view, source, s, z, &least, scale, zero);
        }
    }
    for (int halvings = 0; halvings < 4; halvings++)
        for (int end = 0; end < 2; end++)
            for (int way = -1; way <= 1; way += 2) {
                double s = (double)*scale, z = (double)*zero, low = view->grid.zero == QZ_ZERO_OFFSET ? z : -s * z;
                double high = low + 15 * s, known = least, moved = ldexp((double)way * s, -halvings);
                low += end ? 0 : moved;
                high += end ? moved : 0;
                float a = qz_stored(view, (high - low) / 15.0);
                keep_better(view, source, a, zero_of(view, (double)a, low), &least, scale, zero);
                if (least < known)
                    break;
            }
    for (int step = -1; step <= 1 && view->grid.zero == QZ_ZERO_UINT4; step += 2) {
        float z = *zero + (float)step, s = *scale;
        if (z < 0 || z > 15)
            continue;
        struct sums sums = sums_with(view, source, s, z, 1);
        if (sums.qq > 0)
            keep_better(view, source, qz_stored(view, (double)s * sums.yq / sums.qq), z, &least, scale, zero);
    }
}

/* Whether few weights count, of a group in pieces. */
static int few_weights(const struct qz_exact_source *source)
{
    double sum = 0, squares = 0, most = 0;
    for (uint64_t start = 0; start < source->n;) {
        size_t n;
        const float *w = NULL;
        qz_source_piece(source, start, &n, &w);
        if (!w)
            return 0;
        for (size_t i = 0; i < n; i++) {
            double weight = (double)w[i];
            sum += weight;
            squares += weight * weight;
            most = weight > most ? weight : most;
        }
        start += n;
    }
    return qz_few_weights((float)(sum / most), (float)(squares / most / most), (float)source->n);
}

/* All of it, for a group with a zero or an offset that has its plain pair. */
static void search_long_affine(const struct qz_encoder *encoder, const struct qz_exact_source *source, float min,
                               float max, struct qz_pair *pair)
{
    const struct qz_view *view = encoder->view;
    int special = few_weights(source);
    if (min == max && pair->scale == 0.0f && pair->zero == min)
        return;
    struct qz_pair plain = *pair;
    if (qz_is_ordinary_scale(pair->scale)) {
        search_ends(view, source, min, max, &pair->scale, &pair->zero);
        double known = qz_affine_error(view->grid.zero, source, plain.scale, plain.zero);
        double found = qz_affine_error(view->grid.zero, source, pair->scale, pair->zero);
        if (!(found < known))
            *pair = plain;
        size_t n;
        const float *w = NULL, *x = qz_source_piece(source, 0, &n, &w);
        special = special || qz_is_grid(view, x, n, min, max) || qz_has_few_values(x, n, qz_same_value(min, max)) ||
                  !qz_make_affine_normal(view, min, max, pair);
    } else {
        special = 1;
    }
    if (special)
        qz_careful_affine(encoder, source, min, max, pair);
    if (encoder->method == QZ_EXACT)
        qz_exact_affine_group(encoder, source, min, max, pair);
}

void qz_search_long(const struct qz_encoder *encoder, const struct qz_exact_source *source, float min, float max,
                    float *scale, float *zero)
{
    if (encoder->fit.method == QZ_MINMAX) {
        struct qz_pair pair = {*scale, *zero};
        search_long_affine(encoder, source, min, max, &pair);
        *scale = pair.scale;
        *zero = pair.zero + 0.0f; /* not -0 */
    } else if (qz_is_ordinary_scale(*scale)) {
        search_symmetric(encoder, source, min, max, scale, zero);
    } else if (min != 0.0f || max != 0.0f) {
        qz_careful_group(encoder, source, 1.0f, (const float[2]){*scale, 0.0f}, 1, scale, zero);
    }
}
