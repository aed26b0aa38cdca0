/*
 * exact_affine.c - finds the best scale and offset of a group, and proves that they are the best
 *
 * Let E(s, o) be the error of scale s > 0 and offset o: the sum of w (x - s q - o)^2, with the best code q in 0..15 for
 * each element; and let M(o) be the sum of w (x - o)^2. Then
 *
 *     on a triangle in the plane of (s, o), where s > 0, E is never below M(o) + s L(s, o), where L is the linear
 *     function that is (E - M) / s at its corners.
 *
 * Proof. With u = 1 / s and c = -o / s, (E - M) / s^2 is the sum of w times the least q^2 - 2 q (x u + c) of all q: a
 * minimum of functions that are linear in (u, c), and so concave. On a triangle in the plane of (u, c) it is therefore
 * not below the linear function A + B u + C c that it equals at the corners. The map from (s, o) to (u, c) takes
 * straight lines to straight lines, hence triangles to triangles; and s^2 (A + B u + C c) = s (A s + B - C o).
 *
 * M + s L is a quadratic function. Its least value on a triangle is at a corner, on an edge, or where its slope is 0. A
 * rectangle in the plane of (u, c) is two triangles, so the errors of four pairs, its corners, tell whether a better
 * pair can be inside. If so, it is cut in two, or, if it holds few pairs that can be stored, all of them are tried. The
 * quadratic function is close to E: where no x u + c differs by more than d < 1 between corners, it is below E by some
 * s^2 d^2 / 4 for each element, because E - M is linear except where a code changes.
 *
 * Three kinds of rectangles cover all pairs. Values and offsets are relative to the middle of the range here, and the
 * range is 1, so that c is where the middle lies among the codes.
 *
 *   - FREE, for u <= 14 and 0 <= c <= 1. There, codes may be any integers, which cannot make the error greater, and c +
 *     1 has the error of c. Only rectangles that cannot be ruled out in this way are searched with codes 0..15, for all
 *     c + k.
 *   - CODES, for larger u: codes are 0..15, as above. Large rectangles are judged first by the values beyond all codes:
 *     none of these is nearer to any code than to the outermost ones, the least o and the greatest o + 15 s.
 *   - NEAR_ZERO: all scales from 0 to a largest one, and an interval of offsets. These are judged only by the values
 *     beyond all codes, and cut until little is left; the larger half of the scales then becomes CODES.
 *
 * With scales above four times the range, all values get one code, or are farther from their codes than the range is
 * long. So no error there is less than that of the best constant, and constants are tried (try_constants).
 *
 * A pair with a negative scale is one with a positive scale for -x. E is summed in float32, which is enough because the
 * errors themselves are summed. Pairs that come near to the best pair so far are compared in double, with the values
 * that they decode to.
 */
#include "exact_affine.h"

#include "../kernels/kernels.h"
#include "../base/number.h"

#include <math.h>

enum {
    LANES = QZ_EXACT_LANES, /* sums grow side by side: element i goes to lane i % LANES */
    CHUNK = QZ_EXACT_CHUNK,
    BUFFER = QZ_EXACT_PIECE + LANES, /* so that the end can be filled up */
    STACK = 320,                     /* rectangles; fewer than 300 are needed */
    FEW = 12,                        /* pairs that are tried one by one */
    ROUNDS = 4,                      /* of least squares, to begin with */
    PATIENCE = 2000,                 /* rectangles of a search that is not exact: most groups need a few hundred */
    LIMIT = 20000                    /* of one that is: beyond, where nearly all pairs are equally good, the best so far
                                        is taken */
};

/* More than E can be wrong by, relatively (exact.c). */
#define ROUNDING  0x1p-16
#define TOLERANCE 0x1p-13 /* float32: there are too many pairs */
#define VANISHING 0x1p-22 /* of the largest magnitude: what the rounding of decoded values can do */
#define ROUGH     0x1p-10 /* of it: what the rounding of numbers of 16 bits can do */

/* A corner. */
struct point {
    double s, o, error, slope; /* slope: (error - M) / s */
};

enum kind { FREE, CODES, NEAR_ZERO };

/* u and c from one to another; NEAR_ZERO: scales up to `from_u`, and offsets. */
struct rectangle {
    enum kind kind;
    double from_u, to_u, from_c, to_c;
    struct point point[2][2]; /* [u][c] */
    double least;             /* no error is less */
};

struct work {
    const struct qz_exact_affine *rule;
    const struct qz_exact_source *source;
    int weighted; /* 0: weights are all 1, whatever the source says */
    int mirrored; /* x are -x, and scales negative */
    int whole;    /* all of the group is in x and w */
    int32_t least_scale, most_scale, most_zero;
    double lowest, highest, size, w_most; /* the range of values that count, largest magnitude and weight */
    double center, unit;                  /* x here is (x - center) * unit, and in -1/2..1/2 */
    double w, wx, wxx;                    /* sums of w, w x and w x^2, of the x here */
    double best, limit;                   /* the least error so far, in the units here; what is worth looking for */
    float best_scale, best_zero;
    size_t n;
    float x[BUFFER], weight[BUFFER];
};

/* ---- numbers ------------------------------------------------------------------------------------------------- */

static double number_of(qz_dtype dtype, int32_t level)
{
    uint32_t bits = (uint32_t)(level < 0 ? -level : level);
    float x = dtype == QZ_F16    ? qz_f32_from_f16((uint16_t)bits)
              : dtype == QZ_BF16 ? qz_f32_from_bf16((uint16_t)bits)
                                 : qz_float(bits);
    return level < 0 ? -(double)x : (double)x;
}

/* The last number that is not above x, of those up to `most` and down to -most. */
static int32_t level_below(qz_dtype dtype, double x, int32_t most)
{
    double limit = number_of(dtype, most);
    if (x >= limit)
        return most;
    if (!(x > -limit))
        return -most;
    float narrow = (float)x;
    uint32_t bits = dtype == QZ_F16    ? qz_f16_from_f32(fabsf(narrow))
                    : dtype == QZ_BF16 ? qz_bf16_from_f32(fabsf(narrow))
                                       : qz_bits(fabsf(narrow));
    int32_t level = narrow < 0 ? -(int32_t)bits : (int32_t)bits;
    while (number_of(dtype, level) > x)
        level--;
    return level;
}

static int32_t level_above(qz_dtype dtype, double x, int32_t most)
{
    return -level_below(dtype, -x, most);
}

static int32_t level_near(qz_dtype dtype, double x, int32_t most)
{
    int32_t below = level_below(dtype, x, most), above = below < most ? below + 1 : below;
    return x - number_of(dtype, below) <= number_of(dtype, above) - x ? below : above;
}

/* ---- errors -------------------------------------------------------------------------------------------------- */

static double error_with(qz_zero kind, const struct qz_exact_source *source, int weighted, float scale, float zero)
{
    enum { SUMS = 4 };
    double sum[SUMS] = {0};
    const float inverse = qz_affine_inverse(kind, scale, zero);
    for (uint64_t start = 0; start < source->n;) {
        size_t n;
        const float *w, *x = qz_source_piece(source, start, &n, &w);
        for (size_t i = 0; i < n; i++) {
            double weight = w && weighted ? (double)w[i] : 1.0;
            float code = qz_affine_code(kind, x[i], scale, inverse, zero);
            double difference = (double)x[i] - (double)qz_value(code, scale, zero, kind);
            sum[i % SUMS] += weight > 0 ? weight * difference * difference : 0.0;
        }
        start += n;
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Whether some weight is not 0. */
static int has_weights(const struct qz_exact_source *source)
{
    for (uint64_t start = 0; start < source->n;) {
        size_t n;
        const float *w;
        qz_source_piece(source, start, &n, &w);
        for (size_t i = 0; w && i < n; i++)
            if (w[i] > 0)
                return 1;
        start += n;
    }
    return 0;
}

double qz_affine_error(qz_zero kind, const struct qz_exact_source *source, float scale, float zero)
{
    return error_with(kind, source, has_weights(source), scale, zero);
}

/* Brings the piece at `start` into the buffers, without what has no weight; returns where the next one starts. */
static uint64_t load(struct work *work, uint64_t start)
{
    size_t n, count = 0;
    const float *w, *x = qz_source_piece(work->source, start, &n, &w);
    double sign = work->mirrored ? -1.0 : 1.0;
    for (size_t i = 0; i < n; i++) {
        float weight = w && work->weighted ? (float)((double)w[i] / work->w_most) : 1.0f;
        work->x[count] = (float)((sign * (double)x[i] - work->center) * work->unit);
        work->weight[count] = weight;
        count += weight > 0;
    }
    for (; count % LANES; count++)
        work->x[count] = work->weight[count] = 0;
    work->n = count;
    return start + n;
}

/* The error of what is below `low` or above `high` at least. */
static double sum_beyond(const float *x, const float *w, size_t n, float low, float high)
{
    double total = 0;
    for (size_t start = 0; start < n; start += CHUNK) {
        size_t end = n - start < CHUNK ? n : start + CHUNK;
        float lane[LANES] = {0};
        for (size_t i = start; i < end; i += LANES)
            for (size_t l = 0; l < LANES; l++) {
                float below = low - x[i + l], above = x[i + l] - high;
                float far = below > above ? below : above;
                far = far > 0.0f ? far : 0.0f;
                float square = far * far;
                lane[l] += square * w[i + l];
            }
        total += qz_sum_exact_lanes(lane);
    }
    return total;
}

/* ---- the search ---------------------------------------------------------------------------------------------- */

static void set_limit(struct work *work)
{
    const struct qz_exact_affine *rule = work->rule;
    double share = !rule->exact ? rule->enough : rule->dtype == QZ_F32 ? TOLERANCE : ROUNDING;
    double size = work->size * work->unit * VANISHING;
    work->limit = work->best * (1 - share) - work->w * size * size;
}

/* Looks at a pair as it will be decoded. Of equal ones, the first stays. */
static void try_pair(struct work *work, float scale, float zero)
{
    if (!qz_is_storable_pair(work->rule->zero, scale, zero))
        return;
    double error = error_with(work->rule->zero, work->source, work->weighted, scale, zero);
    error *= work->unit * work->unit / work->w_most;
    if (error < work->best) {
        work->best = error;
        work->best_scale = scale;
        work->best_zero = zero;
        set_limit(work);
    }
}

static void try_levels(struct work *work, int32_t scale, int32_t zero)
{
    const struct qz_exact_affine *rule = work->rule;
    double s = number_of(rule->dtype, scale), z = number_of(rule->dtype, zero);
    int turned = work->mirrored && rule->zero == QZ_ZERO_OFFSET;
    try_pair(work, (float)(work->mirrored ? -s : s), (float)(turned ? -z : z) + 0.0f);
}

/* The number to be stored for a pair in the units here: an offset, or a zero. */
static double zero_at(const struct work *work, double s, double o)
{
    double offset = o / work->unit + work->center;
    return work->rule->zero == QZ_ZERO_OFFSET ? offset : -offset / (s / work->unit);
}

/* The pair of numbers nearest to one in the units here. */
static void try_near(struct work *work, double s, double o)
{
    qz_dtype dtype = work->rule->dtype;
    int32_t scale = level_near(dtype, s / work->unit, work->most_scale);
    if (scale < work->least_scale)
        return;
    double as_stored = number_of(dtype, scale) * work->unit;
    /* Where the middle of the codes stays. */
    double zero = zero_at(work, as_stored, o + 7.5 * (s - as_stored));
    try_levels(work, scale, level_near(dtype, zero, work->most_zero));
}

/* The errors of points of which s and o are known. */
static void measure(struct work *work, struct point *points, int count, enum kind kind)
{
    for (int p = 0; p < count; p++)
        points[p].error = 0;
    float first = kind == FREE ? -64.0f : 0.0f, last = kind == FREE ? 64.0f : 15.0f;
    for (uint64_t start = 0; start < work->source->n;) {
        start = work->whole ? work->source->n : load(work, start);
        for (int p = 0; p < count; p++)
            points[p].error += qz_exact_uniform_error(work->x, work->weight, work->n, (float)points[p].s,
                                                      (float)points[p].o, first, last);
    }
    for (int p = 0; p < count; p++) {
        struct point *point = &points[p];
        double plain = work->wxx + point->o * (work->w * point->o - 2 * work->wx);
        point->slope = (point->error - plain) / point->s;
        if (kind == CODES && point->error < work->limit)
            try_near(work, point->s, point->o);
    }
}

/* The least value of M + s L on the edge from a to b: (1 - p) a + p b, where it bends by `bend` p^2. */
static double least_on_edge(const struct point *a, const struct point *b, double bend)
{
    double rise = b->error - a->error - bend;
    if (bend > 0 && rise < 0 && -rise < 2 * bend)
        return a->error - rise * rise / (4 * bend);
    return a->error < b->error ? a->error : b->error;
}

/* The least value of M + s L on a triangle. */
static double least_on_triangle(const struct work *work, const struct point *a, const struct point *b,
                                const struct point *c)
{
    double bs = b->s - a->s, bo = b->o - a->o, cs = c->s - a->s, co = c->o - a->o, area = bs * co - bo * cs;
    if (area == 0)
        return -INFINITY;
    double b_rise = b->slope - a->slope, c_rise = c->slope - a->slope;
    double ls = (b_rise * co - c_rise * bo) / area, lo = (bs * c_rise - cs * b_rise) / area; /* the slopes of L */
    double ds = c->s - b->s, d_o = c->o - b->o;
    double least = least_on_edge(a, b, bs * (ls * bs + lo * bo) + work->w * bo * bo);
    double other = least_on_edge(a, c, cs * (ls * cs + lo * co) + work->w * co * co);
    least = other < least ? other : least;
    other = least_on_edge(b, c, ds * (ls * ds + lo * d_o) + work->w * d_o * d_o);
    least = other < least ? other : least;
    double curve = 4 * ls * work->w - lo * lo; /* the determinant of the second derivatives */
    if (ls > 0 && curve > 0) {
        double down_s = -(a->slope + a->s * ls), down_o = -(a->s * lo + 2 * (work->w * a->o - work->wx));
        double to_s = (2 * work->w * down_s - lo * down_o) / curve, to_o = (2 * ls * down_o - lo * down_s) / curve;
        double p = (to_s * co - to_o * cs) / area, q = (bs * to_o - bo * to_s) / area;
        if (p > 0 && q > 0 && p + q < 1) {
            other = a->error - (down_s * to_s + down_o * to_o) / 2;
            least = other < least ? other : least;
        }
    }
    return least;
}

/* Whether all of the codes of a rectangle are so far inside that the values beyond are too many. */
static int is_beyond(struct work *work, double low, double high)
{
    double beyond = 0, most = work->limit * (1 + ROUNDING);
    if (low <= -0.5 && high >= 0.5)
        return 0;
    for (uint64_t start = 0; start < work->source->n && beyond < most;) {
        start = work->whole ? work->source->n : load(work, start);
        beyond += sum_beyond(work->x, work->weight, work->n, (float)low, (float)high);
    }
    return beyond >= most;
}

/* How far values move in a rectangle, in codes. */
static double extent_of(const struct rectangle *r)
{
    return (r->to_u - r->from_u) / 2 + (r->to_c - r->from_c);
}

/* Works out what no error of a rectangle is less than. */
static void bound_error(const struct work *work, struct rectangle *r)
{
    const struct point *a = &r->point[0][0], *b = &r->point[0][1], *c = &r->point[1][0], *d = &r->point[1][1];
    double first, second, worst = a->error > b->error ? a->error : b->error;
    worst = c->error > worst ? c->error : worst;
    worst = d->error > worst ? d->error : worst;
    worst = worst < 4 * work->best ? worst : 4 * work->best;
    /* Either diagonal will do. The function that is higher in the middle is the closer one. */
    if (a->slope * c->s + d->slope * b->s > b->slope * c->s + c->slope * b->s) {
        first = least_on_triangle(work, a, d, b);
        second = least_on_triangle(work, a, d, c);
    } else {
        first = least_on_triangle(work, b, c, a);
        second = least_on_triangle(work, b, c, d);
    }
    r->least = (first < second ? first : second) - ROUNDING * worst;
}

static struct point point_at(double u, double c)
{
    return (struct point){1 / u, -c / u, 0, 0};
}

/* A rectangle from scratch. */
static struct rectangle make_rectangle(struct work *work, enum kind kind, const double u[2], const double c[2])
{
    struct rectangle r = {.kind = kind, .from_u = u[0], .to_u = u[1], .from_c = c[0], .to_c = c[1]};
    for (int i = 0; i < 4; i++)
        r.point[i / 2][i % 2] = point_at(u[i / 2], c[i % 2]);
    measure(work, r.point[0], 2, kind);
    measure(work, r.point[1], 2, kind);
    bound_error(work, &r);
    return r;
}

/* Tries all pairs of a rectangle, if they are few. */
static int try_all(struct work *work, const struct rectangle *r)
{
    qz_dtype dtype = work->rule->dtype;
    double from = 1 / (r->to_u * work->unit), to = 1 / (r->from_u * work->unit);
    int32_t first = level_above(dtype, from, work->most_scale), last = level_below(dtype, to, work->most_scale);
    first = first > work->least_scale ? first : work->least_scale;
    if (last - FEW >= first)
        return 0;
    int32_t ends[FEW][2];
    int64_t count = 0;
    for (int32_t i = first; i <= last; i++) {
        double s = number_of(dtype, i) * work->unit;
        double a = zero_at(work, s, -r->to_c * s), b = zero_at(work, s, -r->from_c * s); /* of either order */
        ends[i - first][0] = level_above(dtype, a < b ? a : b, work->most_zero);
        ends[i - first][1] = level_below(dtype, a < b ? b : a, work->most_zero);
        int64_t some = (int64_t)ends[i - first][1] - ends[i - first][0] + 1;
        count += some > 0 ? some : 0;
    }
    if (count > FEW)
        return 0;
    for (int32_t i = first; i <= last; i++)
        for (int32_t z = ends[i - first][0]; z <= ends[i - first][1]; z++)
            try_levels(work, i, z);
    return 1;
}

/* Adds a rectangle if something better may be in it. */
static int push(const struct work *work, struct rectangle *stack, int depth, const struct rectangle *r)
{
    if (r->least >= work->limit)
        return depth;
    stack[depth] = *r;
    return depth + 1;
}

/* Cuts a rectangle in two; the more promising half comes last. */
static int halve(struct work *work, struct rectangle *stack, int depth, const struct rectangle *r)
{
    struct rectangle low = *r, high = *r;
    struct point middle[2];
    if ((r->to_u - r->from_u) / 2 > r->to_c - r->from_c) {
        double u = r->from_u + (r->to_u - r->from_u) / 2;
        middle[0] = point_at(u, r->from_c);
        middle[1] = point_at(u, r->to_c);
        measure(work, middle, 2, r->kind);
        low.to_u = high.from_u = u;
        low.point[1][0] = high.point[0][0] = middle[0];
        low.point[1][1] = high.point[0][1] = middle[1];
    } else {
        double c = r->from_c + (r->to_c - r->from_c) / 2;
        middle[0] = point_at(r->from_u, c);
        middle[1] = point_at(r->to_u, c);
        measure(work, middle, 2, r->kind);
        low.to_c = high.from_c = c;
        low.point[0][1] = high.point[0][0] = middle[0];
        low.point[1][1] = high.point[1][0] = middle[1];
    }
    bound_error(work, &low);
    bound_error(work, &high);
    int low_last = low.least < high.least;
    depth = push(work, stack, depth, low_last ? &high : &low);
    return push(work, stack, depth, low_last ? &low : &high);
}

/* What cannot be ruled out with any codes, with the codes 0..15. */
static int with_codes(struct work *work, struct rectangle *stack, int depth, const struct rectangle *r)
{
    const double u[2] = {r->from_u, r->to_u};
    int reach = (int)(r->to_u / 2) + 1;
    for (int k = -reach; k <= 15 + reach; k++) {
        const double c[2] = {r->from_c + k, r->to_c + k};
        /* Beyond both ends, an error is not less than that of a constant. */
        if (c[1] + u[1] / 2 < 0 || c[0] - u[1] / 2 > 15)
            continue;
        struct rectangle coded = make_rectangle(work, CODES, u, c);
        depth = push(work, stack, depth, &coded);
    }
    return depth;
}

/* Cuts what is near a scale of 0. */
static int halve_near_zero(struct work *work, struct rectangle *stack, int depth, const struct rectangle *r)
{
    double s = 1 / r->from_u, middle = r->from_c + (r->to_c - r->from_c) / 2;
    if (is_beyond(work, r->from_c, r->to_c + 15 * s))
        return depth;
    struct rectangle some = *r;
    if (r->to_c - r->from_c > 2 * s) {
        some.from_c = middle;
        stack[depth++] = some;
        some.from_c = r->from_c;
        some.to_c = middle;
        stack[depth++] = some;
        return depth;
    }
    some.from_u = 2 * r->from_u;
    if (1 / some.from_u >= number_of(work->rule->dtype, work->least_scale) * work->unit)
        stack[depth++] = some;
    const double u[2] = {r->from_u, 2 * r->from_u};
    double a = -r->to_c * u[0], b = -r->to_c * u[1], d = -r->from_c * u[0], e = -r->from_c * u[1];
    const double c[2] = {a < b ? a : b, d > e ? d : e};
    struct rectangle coded = make_rectangle(work, CODES, u, c);
    return push(work, stack, depth, &coded);
}

static void search(struct work *work, struct rectangle *stack, int depth)
{
    int left = work->rule->exact ? LIMIT : PATIENCE;
    while (depth > 0 && left-- > 0) {
        struct rectangle r = stack[--depth];
        if (r.least >= work->limit || !(work->limit > 0))
            continue;
        double extent = extent_of(&r);
        if (r.kind == NEAR_ZERO) {
            depth = halve_near_zero(work, stack, depth, &r);
            continue;
        }
        if (r.kind == FREE && extent < 0.25) {
            depth = with_codes(work, stack, depth, &r);
            continue;
        }
        if (r.kind == CODES && extent > 1) {
            double low = r.point[0][0].o, high = r.point[0][0].o + 15 * r.point[0][0].s;
            for (int i = 1; i < 4; i++) {
                const struct point *p = &r.point[i / 2][i % 2];
                low = p->o < low ? p->o : low;
                high = p->o + 15 * p->s > high ? p->o + 15 * p->s : high;
            }
            if (is_beyond(work, low, high))
                continue;
        }
        if (r.kind == CODES && extent < 0.25 && try_all(work, &r))
            continue;
        depth = halve(work, stack, depth, &r);
    }
}

/* The most likely rectangles come last, and so are looked at first. */
static void search_all(struct work *work)
{
    static const double steps[] = {14, 18, 24, 32};
    struct rectangle stack[STACK];
    int depth = 0, last = sizeof steps / sizeof steps[0] - 1;
    double s = 1 / steps[last];
    stack[depth++] = (struct rectangle){
        .kind = NEAR_ZERO, .from_u = steps[last], .to_u = INFINITY, .from_c = -0.5 - 15 * s, .to_c = 0.5};
    const double all[2] = {0, 1};
    double to = 14;
    while (to > 1 / work->rule->largest) {
        const double u[2] = {to / 2, to};
        struct rectangle free = make_rectangle(work, FREE, u, all);
        depth = push(work, stack, depth, &free);
        to /= 2;
    }
    for (int i = last; i > 0; i--) {
        const double u[2] = {steps[i - 1], steps[i]}, c[2] = {-steps[i] / 2, 15 + steps[i] / 2};
        struct rectangle coded = make_rectangle(work, CODES, u, c);
        depth = push(work, stack, depth, &coded);
    }
    search(work, stack, depth);
}

/* Least squares from the pair to begin with. */
static void descend(struct work *work)
{
    const struct qz_exact_affine *rule = work->rule;
    double scale = (double)work->best_scale, zero = (double)work->best_zero;
    for (int round = 0; round < ROUNDS; round++) {
        if (scale == 0)
            return;
        double offset = rule->zero == QZ_ZERO_OFFSET ? zero : -scale * zero;
        double s = scale * work->unit, o = (offset - work->center) * work->unit;
        double sum[3] = {0}; /* of w q, w q^2 and w q x */
        for (uint64_t start = 0; start < work->source->n;) {
            start = work->whole ? work->source->n : load(work, start);
            for (size_t i = 0; i < work->n; i++) {
                double q = rint(((double)work->x[i] - o) / s), wq;
                q = q < 0 ? 0 : q > 15 ? 15 : q;
                wq = (double)work->weight[i] * q;
                sum[0] += wq;
                sum[1] += wq * q;
                sum[2] += wq * (double)work->x[i];
            }
        }
        double spread = work->w * sum[1] - sum[0] * sum[0];
        if (!(spread > work->w * sum[1] * 0x1p-20))
            return;
        s = (work->w * sum[2] - sum[0] * work->wx) / spread;
        o = (work->wx - s * sum[0]) / work->w;
        if (!(s > 0))
            return;
        try_near(work, s, o);
        scale = s / work->unit;
        zero = zero_at(work, s, o);
    }
}

/* What measures constants: one code, which may as well be the only one that is used. Their best is the mean. */
static void try_constants(struct work *work)
{
    const struct qz_exact_affine *rule = work->rule;
    double mean = work->wx / work->w / work->unit + work->center;
    int32_t most = work->most_zero;
    enum { NEARBY = 6 };
    if (rule->zero == QZ_ZERO_OFFSET) { /* an offset, and some steps for the rest */
        int32_t below = level_below(rule->dtype, mean, most);
        try_levels(work, work->least_scale, level_near(rule->dtype, mean, most));
        for (int32_t i = below; i > below - NEARBY && i >= -most; i--)
            for (int code = 1; code <= 15 && work->limit > 0; code++) {
                int32_t scale = level_near(rule->dtype, (mean - number_of(rule->dtype, i)) / code, work->most_scale);
                try_levels(work, scale > work->least_scale ? scale : work->least_scale, i);
            }
        return;
    }
    for (int steps = -15; steps <= 15; steps++) {
        if (steps == 0 || (mean < 0) != (steps < 0))
            continue;
        int32_t scale = level_near(rule->dtype, mean / steps, work->most_scale);
        for (int32_t i = scale - NEARBY; i <= scale + NEARBY && work->limit > 0; i++) {
            if (i < work->least_scale || i > work->most_scale)
                continue;
            double exact_steps = mean / number_of(rule->dtype, i);
            try_levels(work, i, level_near(rule->dtype, (steps > 0 ? steps : 0) - exact_steps, most));
        }
    }
}

/* Values that are on a grid: the range is so many steps. Grids of fewer than 8 are among those of twice as many. */
static void try_grids(struct work *work)
{
    const struct qz_exact_affine *rule = work->rule;
    double range = work->highest - work->lowest;
    for (int steps = 15; steps >= 8 && work->limit > 0; steps--) {
        int32_t scale = level_near(rule->dtype, range / steps, work->most_scale);
        if (scale < work->least_scale)
            continue;
        double s = number_of(rule->dtype, scale);
        for (int code = 0; code <= 15 - steps; code++) {
            double wanted = rule->zero == QZ_ZERO_OFFSET ? work->lowest - code * s : code - work->lowest / s;
            try_levels(work, scale, level_near(rule->dtype, wanted, work->most_zero));
        }
    }
}

/* The range, and the sums, of what counts. */
static void sum_up(struct work *work)
{
    double sign = work->mirrored ? -1.0 : 1.0;
    work->lowest = INFINITY;
    work->highest = -INFINITY;
    work->size = work->w_most = 0;
    for (uint64_t start = 0; start < work->source->n;) {
        size_t n;
        const float *w, *x = qz_source_piece(work->source, start, &n, &w);
        for (size_t i = 0; i < n; i++) {
            double weight = w && work->weighted ? (double)w[i] : 1.0, value = sign * (double)x[i];
            if (!(weight > 0))
                continue;
            work->lowest = value < work->lowest ? value : work->lowest;
            work->highest = value > work->highest ? value : work->highest;
            work->w_most = weight > work->w_most ? weight : work->w_most;
        }
        start += n;
    }
    work->size = work->highest > -work->lowest ? work->highest : -work->lowest;
    work->center = work->lowest + (work->highest - work->lowest) / 2;
    work->unit = work->highest > work->lowest ? 1 / (work->highest - work->lowest)
                 : work->size > 0             ? 1 / work->size
                                              : 1;
    work->w = work->wx = work->wxx = 0;
    for (uint64_t start = 0; start < work->source->n;) {
        start = load(work, start);
        for (size_t i = 0; i < work->n; i++) {
            double x = (double)work->x[i], weighted = (double)work->weight[i] * x;
            work->w += (double)work->weight[i];
            work->wx += weighted;
            work->wxx += weighted * x;
        }
    }
}

void qz_exact_pair(const struct qz_exact_affine *rule, const struct qz_exact_source *source, float *scale, float *zero)
{
    struct work work;
    work.rule = rule;
    work.source = source;
    work.weighted = has_weights(source);
    work.whole = source->n <= QZ_EXACT_PIECE && !source->piece;
    work.best_scale = *scale;
    work.best_zero = *zero;
    work.most_zero = rule->dtype == QZ_F16 ? 0x7bff : rule->dtype == QZ_BF16 ? 0x7e80 : 0x7e800000; /* 2^126 */
    work.most_scale =
        level_below(rule->dtype, rule->zero == QZ_ZERO_OFFSET ? (double)FLT_MAX / 15 : (double)FLT_MAX, work.most_zero);
    for (work.mirrored = 0; work.mirrored <= 1; work.mirrored++) {
        sum_up(&work);
        /* With less than that, all codes are next to the same. */
        double least = (work.highest - work.lowest) * 0x1p-30;
        least = least > 0 && least < 0x1p-100 ? least : 0x1p-100;
        work.least_scale = level_above(rule->dtype, least, work.most_zero);
        /* Scales of the other sign are the same but for the rounding of the other number. */
        double size = work.size * work.unit * ROUGH;
        if (work.mirrored && !rule->exact && work.best > work.w * size * size)
            break;
        if (!work.mirrored) {
            work.best =
                error_with(rule->zero, source, work.weighted, *scale, *zero) * work.unit * work.unit / work.w_most;
            set_limit(&work);
        }
        if (!(work.limit > 0))
            break;
        try_constants(&work);
        if (work.highest > work.lowest && work.limit > 0) {
            try_grids(&work);
            if (!work.mirrored)
                descend(&work);
            search_all(&work);
        }
    }
    *scale = work.best_scale;
    *zero = work.best_zero;
}
