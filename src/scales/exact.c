/*
 * exact.c - finds the best scale of a group, and proves that it is the best
 *
 * Let E(s) be the error of scale s: the sum of w (x - s q)^2, with the best value q of the table for each element. Then
 *
 *     on an interval a <= s <= b of scales with one sign, E is never below the parabola through
 *     (0, E0), (a, E(a)) and (b, E(b)), where E0 is the sum of w x^2.
 *
 * Proof. With u = 1 / s and all choices of the q considered, (E(s) - E0) / s^2 is the minimum of
 * sum w q^2 - 2 u sum w x q: a minimum of straight lines in u, which is a concave function of u, and so not below its
 * chord from 1 / b to 1 / a. The chord times s^2, plus E0, is that parabola.
 *
 * So the minimum of a parabola tells whether an interval between two scales can hold a better scale than the best known
 * one. If it can, the interval is cut in two at a scale that can be stored. An interval that cannot, or without such
 * scales inside, is done. The parabola is close to E: the distance is at most about E0 (b/a - 1)^2 / 4, so some 50
 * evaluations of E prove that one of 63,486 float16 scales is the best. The method needs no sorting and no memory, for
 * groups of any length.
 *
 * The first interval begins at s = 0, where the parabola has the slope of E: as s goes to 0, all values get the
 * outermost codes, and (E(s) - E0) / s goes to -2 sum w x q. The last interval ends at a scale s that is so large that
 * all scales above it have an error of E0 or more: all |x| <= M, and the least |v| > 0 of the table is at least 2 M /
 * s. If 0 is in the table, it is then the nearest value of all x; if not, all |s q| >= 2 |x|.
 *
 * E is summed in float32. That is enough, because the errors x - s q themselves are summed, and each is exact except
 * for the rounding of s q, which is part of decoding.
 */
#include "exact.h"

#include "../base/number.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum {
    LANES = QZ_EXACT_LANES,          /* sums grow side by side: element i goes to lane i % LANES */
    BUFFER = QZ_EXACT_PIECE + LANES, /* so that both ends can be filled up to whole vectors */
    CHUNK = QZ_EXACT_CHUNK,
    OUTWARD = 18,  /* 16 values, filled up to a multiple of 3 */
    GRID = 5,      /* scales that are tried first */
    BATCH = 4,     /* scales that are tried together, so that a processor has something to do */
    STACK = 128,   /* intervals; fewer than 100 are needed */
    LIMIT = 100000 /* scales of float32 that are looked at: only where weights are so uneven that
                      sums of float32 do not tell them apart there are more in question */
};

/* Types with more than FEW binary digits have so many numbers that an interval is given up if it cannot improve the
 * error by more than one part in 2^13 (0.0005 dB). For others the best of all scales is wanted. */
#define FEW       11
#define TOLERANCE 0x1p-13

/* More than E can be wrong by, relatively: some 25 operations, each by half an ulp, on the way of every square into the
 * sum, and values q chosen by a rounded quotient of up to 16. */
#define ROUNDING 0x1p-16

/* Twice what the rounding of a decoded value to float32 can do, as a share of the value. */
#define DECODED 0x1p-22

/* Scales beyond have no say: the largest |x| and value are about 1. */
#define SMALLEST 0x1p-60
#define LARGEST  0x1p60

/* The group and the table multiplied by powers of two, so that the largest |x| and the largest |value| are in [1/2, 1),
 * but a uniform table as it is. */
struct work {
    const struct qz_exact *rule;
    const struct qz_exact_source *source;
    double x_unit, w_unit;
    double super, scale_unit; /* |super|; a scale here is a scale times scale_unit */
    double unit;              /* super * scale_unit */
    double top;               /* scales above are no better than zeros */
    int super_negative;
    int weighted;                /* 0: weights are all 1, whatever the source says */
    int fold, split;             /* x have become |x|; those of negative x come apart, after the others */
    int whole;                   /* all of the group is in x and w */
    int outward_count[2];        /* not uniform: the values that may be nearest to an x >= 0 and, with changed */
    float outward[2][OUTWARD];   /* signs, to an x < 0. They ascend, and at most one of them is negative. */
    double energy;               /* E0 */
    double reach[2], largest[2]; /* sum of w |x|, and largest |x|, of x >= 0 and of x < 0 */
    struct qz_exact_result best;
    double limit;       /* an interval in which no error is less is given up */
    size_t front, back; /* elements are in 0..front - 1 and back..BUFFER - 1, filled up with weights of 0 */
    float x[BUFFER], w[BUFFER];
};

/* ---- numbers ------------------------------------------------------------------------------------------------- */

static double power_of_two(int exponent) /* -1022..1023 */
{
    uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static double level_value(const struct qz_levels *levels, uint32_t level)
{
    uint32_t exponent = level >> levels->mantissa, one = (uint32_t)1 << levels->mantissa, digits = level & (one - 1);
    if (exponent)
        return (double)(digits | one) * power_of_two(levels->step + (int)exponent - 1);
    return (double)digits * power_of_two(levels->step);
}

/* The last level that is not above x >= 0; 0 if there is none. */
static uint32_t level_below(const struct qz_levels *levels, double x, uint32_t most)
{
    if (!(x < 0x1p800))
        return most;
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52) - 1023 - levels->mantissa - levels->step; /* of the last digit, from 2^step */
    double level = exponent < 0
                       ? x * power_of_two(-levels->step)
                       : x * power_of_two(-levels->step - exponent) + (double)exponent * power_of_two(levels->mantissa);
    return level < (double)most ? (uint32_t)level : most;
}

/* ---- E ------------------------------------------------------------------------------------------------------- */

/* All x >= 0; values are those that can be nearest, times the scale, their number a multiple of 3. */
static double error_table(const float *x, const float *w, size_t n, const float *value, int count)
{
    double total = 0;
    for (size_t start = 0; start < n; start += CHUNK) {
        size_t size = n - start < CHUNK ? n - start : CHUNK;
        float least[CHUNK];
        for (size_t i = 0; i < size; i += LANES)
            for (int l = 0; l < LANES; l++)
                least[i + l] = fabsf(x[start + i + l] - value[0]);
        for (int v = 0; v < count; v += 3)
            for (size_t i = 0; i < size; i++) {
                float a = fabsf(x[start + i] - value[v]);
                float b = fabsf(x[start + i] - value[v + 1]);
                float c = fabsf(x[start + i] - value[v + 2]);
                float d = least[i];
                a = a < b ? a : b;
                c = c < d ? c : d;
                least[i] = a < c ? a : c;
            }
        float lane[LANES] = {0};
        for (size_t i = 0; i < size; i += LANES)
            for (int l = 0; l < LANES; l++) {
                float square = least[i + l] * least[i + l];
                lane[l] += square * w[start + i + l];
            }
        total += qz_sum_exact_lanes(lane);
    }
    return total;
}

/* The last term is for what the rounding of decoded values to float32 can do when they are nearly perfect. */
static void set_limit(struct work *work)
{
    double tolerance = work->rule->levels.mantissa < FEW ? 0 : TOLERANCE;
    double root = sqrt(work->best.error * (1 - tolerance)) + 0x1p-23 * sqrt(work->energy);
    work->limit = root * root;
}

const float *qz_source_piece(const struct qz_exact_source *source, uint64_t start, size_t *n, const float **w)
{
    const float *x;
    *w = NULL;
    if (source->piece) {
        *n = source->n - start < SIZE_MAX ? (size_t)(source->n - start) : SIZE_MAX;
        x = source->piece(source->context, start, n, w);
    } else {
        *n = source->n - start < QZ_EXACT_PIECE ? (size_t)(source->n - start) : QZ_EXACT_PIECE;
        *w = source->w ? source->w + start : NULL;
        x = source->x + start;
    }
    if (source->unweighted)
        *w = NULL;
    return x;
}

/* The same, without weights that do not matter. */
static const float *next_piece(const struct work *work, uint64_t start, size_t *n, const float **w)
{
    const float *x = qz_source_piece(work->source, start, n, w);
    if (!work->weighted)
        *w = NULL;
    return x;
}

/* Brings the piece at `start` into the buffers; returns where the next one starts. An x without weight may be of any
 * size: it becomes 0. */
static uint64_t load(struct work *work, uint64_t start)
{
    size_t n, front = 0, back = BUFFER;
    const float *w, *x = next_piece(work, start, &n, &w);
    if (!work->fold) {
        for (size_t i = 0; i < n; i++)
            work->x[i] = (float)((double)x[i] * work->x_unit);
        for (size_t i = 0; i < n; i++)
            work->w[i] = w ? (float)((double)w[i] * work->w_unit) : 1.0f;
        for (size_t i = 0; w && i < n; i++)
            work->x[i] = work->w[i] > 0 ? work->x[i] : 0.0f;
        front = n;
    } else {
        for (size_t i = 0; i < n; i++) {
            float weight = w ? (float)((double)w[i] * work->w_unit) : 1.0f;
            float value = weight > 0 ? (float)((double)x[i] * work->x_unit) : 0.0f;
            int side = work->split && value < 0;
            size_t at = side ? back - 1 : front;
            work->x[at] = fabsf(value);
            work->w[at] = weight;
            front += !side;
            back -= side;
        }
    }
    for (; front % LANES; front++)
        work->x[front] = work->w[front] = 0;
    for (; back % LANES; back--)
        work->x[back - 1] = work->w[back - 1] = 0;
    work->front = front;
    work->back = back;
    return start + n;
}

/* ---- the search ---------------------------------------------------------------------------------------------- */

/* A scale that was tried, or the scale 0. */
struct point {
    uint32_t level;
    double scale, inverse; /* inverse of 0 is 0 */
    double error;
    double slope; /* (error - E0) / scale */
};

/* A negative scale is the same as a positive one with the mirrored table. */
struct table {
    int mirrored, zero;
    float lo, hi;       /* uniform: its ends */
    double furthest[2]; /* the outermost value for x >= 0, and for x < 0 (with its sign changed) */
    uint32_t top;       /* the last level that is worth a try */
    struct point tried[GRID + 2];
    int count;
};

struct interval {
    const struct table *table;
    struct point from, to;
};

/* Errors of some scales, and whether one is the best so far. */
static void measure(struct work *work, const struct table *const *tables, struct point *points, int count)
{
    float value[BATCH][2][OUTWARD] = {{{0}}};
    if (!work->rule->uniform)
        for (int c = 0; c < count; c++)
            for (int side = 0; side < 2; side++)
                for (int v = 0; v < work->outward_count[side]; v++)
                    value[c][side][v] = (float)points[c].scale * work->outward[side][v];
    for (int c = 0; c < count; c++)
        points[c].error = 0;
    for (uint64_t start = 0; start < work->source->n;) {
        if (work->whole)
            start = work->source->n;
        else
            start = load(work, start);
        for (int c = 0; c < count; c++) {
            if (work->rule->uniform) {
                points[c].error += qz_exact_uniform_error(work->x, work->w, work->front, (float)points[c].scale, 0.0f,
                                                          tables[c]->lo, tables[c]->hi);
                continue;
            }
            int side = tables[c]->mirrored;
            points[c].error += error_table(work->x, work->w, work->front, value[c][side], work->outward_count[side]);
            if (work->back < (size_t)BUFFER)
                points[c].error += error_table(work->x + work->back, work->w + work->back, BUFFER - work->back,
                                               value[c][!side], work->outward_count[!side]);
        }
    }
    for (int c = 0; c < count; c++) {
        struct point *point = &points[c];
        if (!(point->scale > SMALLEST && point->scale < LARGEST)) /* no way to do better than with zeros */
            point->error = work->energy;
        point->slope = point->scale > 0 ? (point->error - work->energy) * point->inverse : tables[c]->tried[0].slope;
        if (point->error < work->best.error) {
            int negative = tables[c]->mirrored != work->super_negative;
            work->best.error = point->error;
            work->best.level = negative ? -(int32_t)point->level : (int32_t)point->level;
            work->best.zero = tables[c]->zero;
            set_limit(work);
        }
    }
}

static struct point point_at(const struct work *work, uint32_t level)
{
    float scale = (float)(level_value(&work->rule->levels, level) * work->super);
    struct point point = {level, (double)scale * work->scale_unit, 0, 0, 0};
    point.inverse = point.scale > 0 ? 1 / point.scale : 0;
    return point;
}

/* Whether there may be something better than the best so far between two scales: whether the least value of the
 * parabola, less what the errors may be wrong by, is below the limit. All conditions are looked at, because branches
 * would be hard to predict. */
static int worthwhile(const struct work *work, const struct point *a, const struct point *b)
{
    double ratio = b->scale * a->inverse, limit = work->limit + ROUNDING * (a->error * ratio + b->error);
    /* Products are rounded, by DECODED of each x at most, and so E is no parabola where next to nothing is left of it.
     */
    limit += DECODED * sqrt(work->energy) * (sqrt(a->error) * ratio + sqrt(b->error));
    /* width * (parabola - E0) = slope s + bend s^2 */
    double width = b->scale - a->scale, bend = b->slope - a->slope, slope = a->slope * width - bend * a->scale;
    int low_end = (a->error < limit) | (b->error < limit);
    int low_inside = (bend > 0) & (-slope > 2 * bend * a->scale) & (-slope < 2 * bend * b->scale) &
                     (slope * slope > 4 * bend * width * (work->energy - limit));
    return low_end | low_inside;
}

/* Where to cut: where the parabola is least, so that both halves are likely to be given up soon, or just in half. A
 * long interval is cut far from 0, since not much is to be found there. */
static uint32_t cut_level(const struct work *work, const struct interval *it, int in_half)
{
    const struct point *a = &it->from, *b = &it->to;
    uint32_t levels = b->level - a->level;
    if (b->scale > 2 * a->scale) {
        uint32_t level = level_below(&work->rule->levels, b->scale * 0.5 / work->unit, b->level - 1);
        return level > a->level ? level : a->level + 1;
    }
    if (in_half)
        return a->level + levels / 2;
    double width = b->scale - a->scale, bend = b->slope - a->slope, slope = a->slope * width - bend * a->scale;
    double where = (-slope - 2 * bend * a->scale) / (2 * bend * width);
    where = where > 0.1 ? where : 0.1; /* also if there is no such place */
    where = where < 0.9 ? where : 0.9;
    uint32_t step = (uint32_t)((double)levels * where);
    return a->level + (step ? step : 1);
}

/* The first scales that are tried: about `start`, and the largest that makes sense. */
static void plan(struct work *work, struct table *table, double start)
{
    static const double steps[GRID] = {0.6, 0.8, 1, 1.25, 1.7};
    const struct qz_levels *levels = &work->rule->levels;
    uint32_t most = levels->most[table->mirrored != work->super_negative];
    most = level_below(levels, (double)FLT_MAX / work->super, most);
    table->top = level_below(levels, work->top / work->unit, most);
    table->top += table->top < most;
    double reach = 0, need = 0;
    for (int side = 0; side < 2; side++) {
        reach += work->reach[side] * table->furthest[side];
        if (table->furthest[side] > 0 && work->largest[side] > table->furthest[side] * need)
            need = work->largest[side] / table->furthest[side];
    }
    table->tried[0] = (struct point){0, 0, 0, work->energy, -2 * reach};
    table->count = 1;
    if (start == 0)
        start = need;
    for (int i = 0; i < GRID; i++) {
        uint32_t level = level_below(levels, start * steps[i] / work->unit, most);
        if (level > table->tried[table->count - 1].level && level < table->top)
            table->tried[table->count++] = point_at(work, level);
    }
    if (table->top > 0)
        table->tried[table->count++] = point_at(work, table->top);
    const struct table *same[BATCH];
    for (int c = 0; c < BATCH; c++)
        same[c] = table;
    for (int i = 1; i < table->count; i += BATCH)
        measure(work, same, table->tried + i, table->count - i < BATCH ? table->count - i : BATCH);
}

/* Only if there is a level between the two. */
static int push(struct interval *stack, int depth, const struct table *table, const struct point *a,
                const struct point *b)
{
    stack[depth] = (struct interval){table, *a, *b};
    return depth + (b->level - a->level > 1);
}

static void search(struct work *work, const struct table *tables, int table_count)
{
    struct interval stack[STACK];
    int depth = 0, next = 0, left = LIMIT;
    for (;;) {
        while (depth < BATCH && next < table_count) {
            const struct table *table = &tables[next++];
            for (int i = 1; i < table->count; i++)
                depth = push(stack, depth, table, &table->tried[i - 1], &table->tried[i]);
        }
        if (depth == 0)
            return;
        /* While there is room. Otherwise the stack grows by one for each time that an interval is halved. */
        struct interval cut[BATCH];
        struct point middle[BATCH];
        const struct table *table[BATCH];
        int count = 0, narrow = depth >= STACK / 2, most = narrow ? 1 : BATCH;
        while (count < most && depth > 0) {
            cut[count] = stack[--depth];
            if (!worthwhile(work, &cut[count].from, &cut[count].to))
                continue;
            middle[count] = point_at(work, cut_level(work, &cut[count], narrow));
            table[count] = cut[count].table;
            count++;
        }
        measure(work, table, middle, count);
        left -= work->rule->levels.mantissa > FEW ? count : 0;
        if (left < 0) {
            work->limit = 0; /* nothing is known of the others */
            return;
        }
        for (int c = 0; c < count; c++) {
            depth = push(stack, depth, table[c], &cut[c].from, &middle[c]);
            depth = push(stack, depth, table[c], &middle[c], &cut[c].to);
        }
    }
}

/* Factors that make x and w fit to float32 sums. Returns 0 if nothing has both a size and a weight. */
static int choose_units(struct work *work)
{
    int32_t most = 0, most_w = 0; /* bits of |x| and w, in the order of their values */
    for (uint64_t start = 0; start < work->source->n;) {
        size_t n;
        const float *w, *x = next_piece(work, start, &n, &w);
        if (!w)
            for (size_t i = 0; i < n; i++) {
                int32_t bits = (int32_t)(qz_bits(x[i]) & 0x7fffffffu);
                most = bits > most ? bits : most;
            }
        for (size_t i = 0; w && i < n; i++) {
            int32_t bits = w[i] > 0 ? (int32_t)(qz_bits(x[i]) & 0x7fffffffu) : 0, bits_w = (int32_t)qz_bits(w[i]);
            most = bits > most ? bits : most;
            most_w = bits_w > most_w ? bits_w : most_w;
        }
        start += n;
    }
    int exponent, exponent_w;
    frexp((double)qz_float((uint32_t)most), &exponent);
    frexp((double)qz_float((uint32_t)most_w), &exponent_w);
    work->x_unit = power_of_two(-exponent);
    work->w_unit = most_w ? power_of_two(-exponent_w) : 1.0;
    return most > 0;
}

/* Sums over elements from..to - 1, whose signs are in x or, when they were split, known. */
static void sum_up_side(struct work *work, size_t from, size_t to, int side)
{
    enum { SUMS = 4 };
    double energy[SUMS] = {0}, sum[SUMS] = {0}, size[SUMS] = {0}, most[SUMS] = {0}, least[SUMS] = {0};
    for (size_t i = from; i < to; i += SUMS)
        for (size_t l = 0; l < SUMS; l++) {
            double x = (double)work->x[i + l], weighted = (double)work->w[i + l] * x;
            energy[l] += weighted * x;
            sum[l] += weighted;
            size[l] += fabs(weighted);
            most[l] = x > most[l] ? x : most[l];
            least[l] = x < least[l] ? x : least[l];
        }
    for (size_t l = 0; l < SUMS; l++) {
        work->energy += energy[l];
        work->reach[side] += (size[l] + sum[l]) / 2;
        work->reach[!side] += (size[l] - sum[l]) / 2;
        work->largest[side] = most[l] > work->largest[side] ? most[l] : work->largest[side];
        work->largest[!side] = -least[l] > work->largest[!side] ? -least[l] : work->largest[!side];
    }
}

static void sum_up(struct work *work)
{
    work->energy = work->reach[0] = work->reach[1] = work->largest[0] = work->largest[1] = 0;
    for (uint64_t start = 0; start < work->source->n;) {
        start = load(work, start);
        sum_up_side(work, 0, work->front, 0);
        sum_up_side(work, work->back, BUFFER, 1);
    }
}

/* Returns whether the mirrored table is another one. */
static int choose_values(struct work *work)
{
    const struct qz_exact *rule = work->rule;
    if (rule->uniform) {
        work->scale_unit = work->x_unit;
        work->top = 2;
        return rule->lo != -rule->hi;
    }
    float most = fabsf(rule->sorted[0]) > fabsf(rule->sorted[15]) ? fabsf(rule->sorted[0]) : fabsf(rule->sorted[15]);
    int exponent, mirrored_differs = 0;
    frexp((double)most, &exponent);
    double unit = power_of_two(-exponent), least = 1;
    for (int v = 0; v < 16; v++) {
        double magnitude = fabs((double)rule->sorted[v]) * unit;
        least = magnitude > 0 && magnitude < least ? magnitude : least;
        mirrored_differs |= rule->sorted[v] != -rule->sorted[15 - v];
    }
    work->top = 2 / least;
    work->scale_unit = work->x_unit / unit;
    work->fold = 1;
    work->split = mirrored_differs;
    for (int side = 0; side < 2; side++) {
        int count = 0;
        for (int v = 0; v < 16; v++) {
            float value = side ? -rule->sorted[15 - v] : rule->sorted[v];
            value = (float)((double)value * unit);
            if (value <= 0)
                count = 0; /* only the last one of these */
            if (count == 0 || value != work->outward[side][count - 1])
                work->outward[side][count++] = value;
        }
        for (; count % 3; count++)
            work->outward[side][count] = work->outward[side][count - 1];
        work->outward_count[side] = count;
    }
    return mirrored_differs;
}

double qz_exact_error(const struct qz_exact *rule, const struct qz_exact_source *source, float scale, int zero)
{
    float value[16];
    int lo = rule->zero4 ? -zero : rule->lo, hi = rule->zero4 ? 15 - zero : rule->hi, count = 0;
    if (rule->uniform)
        for (int v = lo; v <= hi; v++)
            value[count++] = scale * (float)v;
    else
        for (int v = 0; v < 16; v++)
            value[count++] = scale * rule->sorted[v];
    double total = 0;
    for (uint64_t start = 0; start < source->n;) {
        size_t n;
        const float *w, *x = qz_source_piece(source, start, &n, &w);
        for (size_t i = 0; i < n; i++) {
            double least = INFINITY;
            int from = 0, end = count;
            /* The nearest multiple, or as the values are rounded, one beside it. */
            if (rule->uniform && scale != 0.0f) {
                double near = rint((double)x[i] / (double)scale) - lo;
                near = near > 1 ? near : 1;
                from = (int)(near < count - 2 ? near : count - 2) - 1;
                end = from + 3;
            }
            for (int v = from; v < end; v++) {
                double distance = fabs((double)x[i] - (double)value[v]);
                least = distance < least ? distance : least;
            }
            total += (w ? (double)w[i] : 1) * least * least;
        }
        start += n;
    }
    return total;
}

void qz_exact_scale(const struct qz_exact *rule, const struct qz_exact_source *source, float super, float start,
                    struct qz_exact_result *result)
{
    struct work work;
    work.rule = rule;
    work.source = source;
    work.fold = work.split = 0;
    work.whole = source->n <= QZ_EXACT_PIECE && !source->piece;
    *result = work.best = (struct qz_exact_result){0};
    work.weighted = 1;
    if (!choose_units(&work)) {
        work.weighted = 0;
        if (!choose_units(&work))
            return;
    }
    if (super == 0)
        return;
    int mirrored_differs = choose_values(&work);
    sum_up(&work);
    work.super = fabs((double)super);
    work.super_negative = super < 0;
    work.unit = work.super * work.scale_unit;
    work.best.error = work.energy;
    set_limit(&work);

    struct table tables[16];
    int count = rule->zero4 ? 16 : mirrored_differs ? 2 : 1;
    double known = fabs((double)start) * work.scale_unit;
    for (int t = 0; t < count; t++) {
        int flip = !rule->zero4 && (mirrored_differs && start < 0 ? !t : t);
        struct table *table = &tables[t];
        table->mirrored = flip;
        table->zero = rule->zero4 ? t : 0;
        table->lo = (float)(rule->zero4 ? -t : flip ? -rule->hi : rule->lo);
        table->hi = (float)(rule->zero4 ? 15 - t : flip ? -rule->lo : rule->hi);
        for (int side = 0; side < 2; side++)
            table->furthest[side] = rule->uniform
                                        ? (double)(side ? -table->lo : table->hi)
                                        : (double)work.outward[side != flip][work.outward_count[side != flip] - 1];
        plan(&work, table, t == 0 && !rule->zero4 ? known : 0);
    }
    search(&work, tables, count);

    *result = work.best;
    double unit = work.x_unit * work.x_unit * work.w_unit;
    result->error = work.best.error / unit;
    result->bound = (work.limit < work.best.error ? work.limit : work.best.error) * (1 - ROUNDING) / unit;
    if (result->level) {
        struct point point = point_at(&work, (uint32_t)(result->level < 0 ? -result->level : result->level));
        float scale = (float)(point.scale / work.scale_unit);
        result->scale = (result->level < 0) != work.super_negative ? -scale : scale;
    }
}
