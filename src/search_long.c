/*
 * search_long.c - better scales for long groups, one at a time
 *
 * A group that is too long to lie beside others is read in pieces, once for each candidate: the kernels make its codes
 * and the values they stand for, and sums over both say which scale, and offset, fit these codes best. Sums are double,
 * in eight lanes, so that their order is the same everywhere.
 */
#include "exact.h"
#include "group.h"
#include "number.h"

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
static struct sums sums_with(const struct job *job, const struct qz_exact_source *source, float scale, float zero,
                             int center)
{
    float inverse = 1.0f / scale, one = 1.0f, y[QZ_TILE], q[QZ_TILE];
    int moved = job->grid.zero == QZ_ZERO_OFFSET;
    float no_offset = moved ? 0.0f : zero, offset = moved && !center ? zero : 0.0f;
    uint8_t packed[QZ_TILE / 2];
    struct sums sums = {0};
    size_t n;
    for (uint64_t start = 0; start < source->n; start += n) {
        const float *w = NULL, *x = qz_source_piece(source, start, &n, &w);
        int far = 0; /* the kernels of all sets do not take what is far beyond uniform codes */
        for (size_t i = 0; i < n; i++)
            far |= !(fabsf((x[i] - (moved ? zero : 0.0f)) * inverse) <= 0x1p29f);
        (far && job->grid.uniform ? &qz_kernels_scalar : job->kernels)
            ->group_codes(x, n, n, &job->grid, &inverse, &zero, packed);
        job->kernels->group_decode(packed, n, n, &job->grid, &one, &no_offset, q);
        for (size_t i = 0; i < n; i++)
            y[i] = (x[i] - offset) * inverse;
        add_sums(&sums, y, q, w, n);
    }
    return sums;
}

static float stored(const struct job *job, double x)
{
    float narrow = (float)x;
    switch (job->scale_dtype) {
    case QZ_F16:
        return qz_f32_from_f16(qz_f16_from_f32(narrow)) + 0.0f;
    case QZ_BF16:
        return qz_f32_from_bf16(qz_bf16_from_f32(narrow)) + 0.0f;
    case QZ_E8M0:
        return narrow > 0 ? qz_nearest_power(narrow) : 0.0f;
    default:
        return narrow + 0.0f;
    }
}

static int is_ordinary(float scale)
{
    return fabsf(scale) >= 0x1p-100f && fabsf(scale) <= 0x1p100f;
}

/* Error of `to` as the scale of codes that `scale` made, in units of scale^2. */
static double error_of(const struct sums *sums, double scale, double to)
{
    double ratio = to / scale;
    return sums->yy - 2.0 * ratio * sums->yq + ratio * ratio * sums->qq;
}

static void search_symmetric(const struct job *job, const struct qz_exact_source *source, float *scale, float *zero)
{
    const struct qz_search *rule = &job->search;
    double least = INFINITY;
    float first = *scale;
    for (size_t c = 0; c < rule->count; c++) {
        float s = stored(job, (double)(first / rule->factor[c])), z = c < rule->plain ? 0.0f : -job->grid.shift;
        if (!is_ordinary(s))
            continue;
        struct sums sums = sums_with(job, source, s, z, 0);
        float better = sums.qq > 0 ? stored(job, (double)s * sums.yq / sums.qq) : s;
        if (!is_ordinary(better) || (rule->positive && better < 0))
            better = s;
        double error = error_of(&sums, (double)s, (double)better) * (double)s * (double)s;
        if (error < least) {
            least = error;
            *scale = better;
            *zero = z;
        }
    }
}

/* The zero of a scale and an offset that fit a group best. */
static float zero_of(const struct job *job, double scale, double offset)
{
    if (job->grid.zero == QZ_ZERO_OFFSET)
        return stored(job, offset);
    if (job->grid.zero == QZ_ZERO_FLOAT)
        return stored(job, -offset / scale);
    double z = rint(-offset / scale);
    return (float)(z < 0 ? 0 : z > 15 ? 15 : z) + 0.0f;
}

/* Keeps a scale and zero as stored if their own codes leave the least error so far. */
static void keep_better(const struct job *job, const struct qz_exact_source *source, float s, float z, double *least,
                        float *scale, float *zero)
{
    if (!is_ordinary(s) || !qz_is_finite(z))
        return;
    struct sums sums = sums_with(job, source, s, z, 0);
    double error = error_of(&sums, 1.0, 1.0) * (double)s * (double)s;
    if (error < *least) {
        *least = error;
        *scale = s;
        *zero = z;
    }
}

static void search_affine(const struct job *job, const struct qz_exact_source *source, float min, float max,
                          float *scale, float *zero)
{
    static const double shares[] = {0.0, 0.06, 0.12, 0.18, 0.24};
    double least = INFINITY;
    keep_better(job, source, *scale, *zero, &least, scale, zero);
    struct sums whole = sums_with(job, source, *scale, *zero, 1);
    double mean = whole.y / whole.w * (double)*scale;
    double lo = (double)min, hi = (double)max;
    if (job->grid.zero == QZ_ZERO_UINT4) {
        lo = lo < 0 ? lo : 0;
        hi = hi > 0 ? hi : 0;
    }
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        double low = lo + shares[i] * (mean - lo), high = hi + shares[i] * (mean - hi), a = (high - low) / 15.0;
        float z = zero_of(job, a, low), s = stored(job, a);
        for (int round = 0; round < 3 && is_ordinary(s) && qz_is_finite(z); round++) {
            struct sums sums = sums_with(job, source, s, z, 1);
            double spread = sums.w * sums.qq - sums.q * sums.q;
            if (job->grid.zero == QZ_ZERO_UINT4) { /* what q stands for has the zero in it already */
                if (!(sums.qq > 0))
                    break;
                s = stored(job, (double)s * sums.yq / sums.qq);
            } else {
                if (!(spread > sums.w * sums.qq * 0x1p-20))
                    break;
                double slope = (sums.w * sums.yq - sums.y * sums.q) / spread;
                double rest = (sums.y - slope * sums.q) / sums.w, old = (double)s;
                double base = job->grid.zero == QZ_ZERO_FLOAT ? (double)z : 0.0; /* q = code - z there */
                s = stored(job, old * slope);
                z = zero_of(job, old * slope, old * (rest - slope * base));
            }
            keep_better(job, source, s, z, &least, scale, zero);
        }
    }
    for (int step = -1; step <= 1 && job->grid.zero == QZ_ZERO_UINT4; step += 2) {
        float z = *zero + (float)step, s = *scale;
        if (z < 0 || z > 15)
            continue;
        struct sums sums = sums_with(job, source, s, z, 1);
        if (sums.qq > 0)
            keep_better(job, source, stored(job, (double)s * sums.yq / sums.qq), z, &least, scale, zero);
    }
}

void qz_search_long(const struct job *job, const struct qz_exact_source *source, float min, float max, float *scale,
                    float *zero)
{
    if (!is_ordinary(*scale))
        return;
    if (job->rule.method == QZ_ABSMAX)
        search_symmetric(job, source, scale, zero);
    else
        search_affine(job, source, min, max, scale, zero);
}
