/*
 * bounds.c - between which numbers the scores of rows are
 */
#include "bounds.h"

#include <float.h>
#include <math.h>

/* Numbers of ordinary rows and queries: no product or sum of them comes near the ends of float32. */
#define ROW_LEAST  0x1p-80f
#define ROW_MOST   0x1p30f
#define STEP_LEAST 0x1p-30
#define STEP_MOST  0x1p30

/* A factor for bounds, so that their own rounding does not count. */
#define ROUNDED_UP (1.0 + 0x1p-20)

float qz_float_below(double x)
{
    float near = x > (double)FLT_MAX ? FLT_MAX : x < -(double)FLT_MAX ? -INFINITY : (float)x;
    return (double)near > x ? nextafterf(near, -INFINITY) : near;
}

/* x as float32, infinite where it does not fit; x is not negative, or NaN. */
static float float_of(double x)
{
    return x > (double)FLT_MAX ? INFINITY : (float)x;
}

/* ---- levels --------------------------------------------------------------------------------------------------- */

/* Whether 16 values are whole multiples of a unit, and no more than QZ_LEVEL_MOST of it apart. */
static int are_multiples(const float *value, float least, float most, float unit)
{
    if ((most - least) / unit > (float)QZ_LEVEL_MOST || fabsf(least) > 0x1p10f || fabsf(most) > 0x1p10f)
        return 0;
    for (int i = 0; i < 16; i++)
        if (value[i] / unit != rintf(value[i] / unit))
            return 0;
    return 1;
}

static int choose_levels(struct qz_bounds *bounds, const float *value)
{
    float least = value[0], most = value[0];
    for (int i = 1; i < 16; i++) {
        least = fminf(least, value[i]);
        most = fmaxf(most, value[i]);
    }
    if (!(fmaxf(-least, most) < ROW_MOST && most - least > 1 / ROW_MOST))
        return 0;
    bounds->rounded = 0;
    if (are_multiples(value, least, most, 1.0f))
        bounds->unit = 1.0f;
    else if (are_multiples(value, least, most, 0.5f))
        bounds->unit = 0.5f;
    else {
        bounds->unit = (most - least) / (float)QZ_LEVEL_MOST;
        bounds->rounded = 1;
    }
    bounds->base = least;
    bounds->most = 0;
    for (int i = 0; i < 16; i++) {
        long level = lrintf((value[i] - least) / bounds->unit);
        bounds->level[i] = (uint8_t)qz_least((uint64_t)(level < 0 ? 0 : level), QZ_LEVEL_MOST);
        bounds->most = bounds->level[i] > bounds->most ? bounds->level[i] : bounds->most;
    }
    return 1;
}

int qz_bounds_make(struct qz_bounds *bounds, const struct qz_view *view, qz_metric metric)
{
    bounds->view = view;
    if (view->cols == 0 || view->cols > QZ_TILE || (view->row_groups > 1 && view->group_size % QZ_LEVELS) ||
        !choose_levels(bounds, view->grid.value))
        return 0;
    size_t groups = (size_t)view->row_groups;
    bounds->n = (size_t)(qz_divide_up(view->cols, QZ_LEVELS) * QZ_LEVELS);
    bounds->terms = groups + (metric == QZ_L2);
    bounds->slack = (float)(groups + 16) * 0x1p-22f;
    bounds->block = qz_least(qz_least(QZ_BOUND_ROWS, QZ_BOUND_BYTES / bounds->n), QZ_TILE_GROUPS / groups);
    return 1;
}

/* ---- queries -------------------------------------------------------------------------------------------------- */

/* Where element i of a row is among its levels. */
static size_t level_place(size_t i)
{
    size_t in = i % QZ_LEVELS;
    return i - in + in % 2 * (QZ_LEVELS / 2) + in / 2;
}

static double largest(const float *x, size_t n)
{
    float most = 0.0f;
    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(x[i]));
    return (double)most;
}

static int take_query(struct qz_bounds *bounds, size_t q)
{
    const struct qz_view *view = bounds->view;
    const float *x = qz_query(bounds->queries, q);
    int8_t *code = bounds->code + q * bounds->n;
    float *start = bounds->start + q * bounds->terms;
    size_t cols = (size_t)view->cols;
    double step = largest(x, cols) / QZ_LEVEL_MOST, lost = 0.0, total = 0.0;
    if (!(step >= STEP_LEAST && step <= STEP_MOST))
        return 0;
    memset(code, 0, bounds->n);
    for (size_t g = 0, i = 0; g < view->row_groups; g++) {
        long sum = 0;
        for (size_t end = i + qz_least(view->group_size, cols - i); i < end; i++) {
            double exact = (double)x[i] / step, whole = rint(exact);
            code[level_place(i)] = (int8_t)whole;
            lost += fabs(exact - whole);
            total += fabs(whole);
            sum += (long)whole;
        }
        start[g] = (float)sum;
    }
    if (bounds->queries->metric == QZ_L2)
        start[bounds->terms - 1] = (float)((1.0 - (double)bounds->slack) / step);
    double rounding = (double)bounds->slack + (bounds->rounded ? 0.5001 / (double)bounds->most : 0.0);
    bounds->factor[q][0] = (float)(lost * ROUNDED_UP);
    bounds->factor[q][1] = (float)(total * rounding * ROUNDED_UP);
    bounds->step[q] = step;
    return 1;
}

int qz_bounds_take(struct qz_bounds *bounds, const struct qz_queries *queries)
{
    bounds->queries = queries;
    for (size_t q = 0; q < queries->count; q++)
        if (!take_query(bounds, q))
            return 0;
    return 1;
}

/* ---- rows ----------------------------------------------------------------------------------------------------- */

/* Turns scales and zeros of a row's groups into those of levels, and notes how large its values may be. */
static void measure_row(const struct qz_bounds *bounds, float *scale, const float *zero, float *bias, float *spread,
                        float *size)
{
    const struct qz_view *view = bounds->view;
    const float least = bounds->base, most = bounds->unit * (float)bounds->most + least;
    const float end = fmaxf(fabsf(least), fabsf(most));
    float values = 0.0f, parts = 0.0f;
    int valid = 1;
    for (size_t g = 0; g < view->row_groups; g++) {
        float s = scale[g], of_zero = 0.0f, reach = fabsf(s) * end, part;
        scale[g] = s * bounds->unit;
        bias[g] = s * least;
        part = fabsf(scale[g]) * (float)bounds->most;
        if (view->grid.zero != QZ_ZERO_NONE) {
            of_zero = view->grid.zero == QZ_ZERO_OFFSET ? zero[g] : -s * zero[g];
            reach = fmaxf(fabsf(s * least + of_zero), fabsf(s * most + of_zero)) + part * 0x1p-20f;
            part += fabsf(bias[g]) + fabsf(of_zero);
            bias[g] += of_zero;
        } else {
            part += fabsf(bias[g]);
        }
        valid &= part <= ROW_MOST; /* NaN is not */
        values = fmaxf(values, reach);
        parts = fmaxf(parts, part);
    }
    *spread = values * (float)ROUNDED_UP;
    *size = parts;
    if (!valid || (parts < ROW_LEAST && parts != 0.0f))
        *spread = INFINITY;
}

/* For cosines: divides the numbers of a row by its length. */
static void divide_by_length(const struct qz_bounds *bounds, double square, float *scale, float *bias, float *spread,
                             float *size)
{
    float inverse = square == 0.0 ? 0.0f : float_of(1.0 / sqrt(square));
    for (size_t g = 0; g < bounds->view->row_groups; g++) {
        scale[g] *= inverse;
        bias[g] *= inverse;
    }
    int usable = *spread < INFINITY;
    *spread *= inverse;
    *size *= inverse;
    if (!usable || !(*size <= ROW_MOST))
        *spread = INFINITY;
}

void qz_bounds_load(const struct qz_bounds *bounds, uint64_t first, size_t count, struct qz_bound_rows *rows)
{
    const struct qz_view *view = bounds->view;
    size_t groups = (size_t)view->row_groups;
    float zero[QZ_TILE_GROUPS];
    qz_load_groups(view, &(struct span){first, 0, count, groups}, rows->scale, zero);
    rows->first = first;
    rows->count = count;
    for (size_t r = 0; r < count; r++) {
        float *scale = rows->scale + r * groups, *bias = rows->bias + r * bounds->terms;
        view->kernels->levels(qz_codes_at(view, first + r, 0), (size_t)view->cols, bounds->level,
                              rows->level + r * bounds->n);
        measure_row(bounds, scale, zero + r * groups, bias, &rows->spread[r], &rows->size[r]);
        if (bounds->queries->metric == QZ_DOT)
            continue;
        double square = qz_row_square(view, first + r);
        if (bounds->queries->metric == QZ_COSINE) {
            divide_by_length(bounds, square, scale, bias, &rows->spread[r], &rows->size[r]);
        } else {
            rows->half[r] = float_of(0.5 * square);
            bias[groups] = -rows->half[r];
        }
    }
}

/* ---- rows and queries ----------------------------------------------------------------------------------------- */

float qz_bounds_limit(const struct qz_bounds *bounds, size_t query, double key)
{
    double square = bounds->queries->square[query];
    if (bounds->queries->metric == QZ_COSINE)
        key *= sqrt(square);
    else if (bounds->queries->metric == QZ_L2)
        key = 0.5 * (key + square) - 0x1p-40 * (square - key);
    double limit = key / bounds->step[query];
    return qz_float_below(limit - fabs(limit) * 0x1p-40);
}

size_t qz_bounds_reach(const struct qz_bounds *bounds, const struct qz_bound_rows *rows, size_t query, float limit,
                       float near[QZ_BOUND_ROWS], float upper[QZ_BOUND_ROWS], uint32_t which[QZ_BOUND_ROWS])
{
    const struct qz_view *view = bounds->view;
    size_t groups = (size_t)view->row_groups, group_size = groups == 1 ? bounds->n : (size_t)view->group_size;
    const struct qz_near levels = {rows->level,  rows->count,   bounds->n,   group_size, groups,
                                   bounds->most, bounds->terms, rows->scale, rows->bias};
    view->kernels->near(&levels, bounds->code + query * bounds->n, bounds->start + query * bounds->terms, near);
    return view->kernels->reach(near, rows->spread, rows->size, rows->count, bounds->factor[query], limit, upper,
                                which);
}

double qz_bounds_lower(const struct qz_bounds *bounds, const struct qz_bound_rows *rows, size_t query, size_t row,
                       float near)
{
    const float *factor = bounds->factor[query];
    double range = (double)rows->spread[row] * (double)factor[0] + (double)rows->size[row] * (double)factor[1];
    if (bounds->queries->metric == QZ_L2)
        range += 2.0 * (double)bounds->slack * (double)rows->half[row] / bounds->step[query];
    return (double)near - range * ROUNDED_UP;
}
