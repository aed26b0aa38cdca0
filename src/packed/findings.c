/*
 * findings.c - adds up the statistics of a tile: the errors that encoding made
 */
#include "findings.h"
#include "../base/number.h"

#include <math.h>

/* Squares of values in this range stay far from the ends of float32's. */
static int squares_fit(float largest)
{
    return largest >= 0x1p-20f && largest <= 0x1p40f;
}

/* Squares of errors that are all below this may be nothing in float32. */
#define LEAST_ERROR 0x1p-50f

/* In double, four sums side by side. */
static double sum_of(const float lanes[QZ_SUMS_LANES])
{
    double sum[4] = {0};
    for (size_t i = 0; i < QZ_SUMS_LANES; i += 4)
        for (size_t k = 0; k < 4; k++)
            sum[k] += (double)lanes[i + k];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

int qz_add_plain_sums(struct errors *errors, const struct qz_sums *sums)
{
    double signal = sum_of(sums->signal);
    if (!(signal >= QZ_TILE * 0x1p-40 && signal <= 0x1p80)) /* then the largest value fits, too */
        return 0;
    if (sums->max_error > 0.0f && sums->max_error < LEAST_ERROR)
        return 0;
    errors->signal += signal;
    errors->error += sum_of(sums->error);
    return 1;
}

void qz_note_error(struct errors *errors, double error, uint64_t index)
{
    if (error > errors->max_error || (error == errors->max_error && index < errors->max_index)) {
        errors->max_error = error;
        errors->max_index = index;
        errors->where.rows = 0;
    }
}

/* Errors in double, for those that are so small beside the largest value that float32 cannot hold the squares of both.
 */
static void add_small_errors(const struct qz_view *view, struct errors *errors, const float *x, const float *y,
                             const struct run *run)
{
    double most = 0.0;
    size_t at = 0;
    for (size_t i = 0; i < run->rows * run->pitch; i++) {
        double error = (double)fabsf(x[i] - y[i]); /* rounded to float32, as kernels do */
        errors->error += error * error;
        if (error > most) {
            most = error;
            at = i;
        }
    }
    if (most > 0.0 && most >= errors->max_error) {
        qz_look_up_error(view, errors);
        qz_note_error(errors, most, qz_flat_index(view, run, at));
    }
}

void qz_add_error(const struct qz_view *view, struct errors *errors, const float *x, const float *y,
                  const struct run *run, float largest)
{
    struct qz_sums sums = {{0}, {0}, 0};
    const float *values = x, *others = y;
    float scaled_x[QZ_TILE], scaled_y[QZ_TILE], factor = 1.0f;
    size_t n = run->rows * run->pitch;
    if (!squares_fit(largest)) { /* bring the values near 1 by a power of two */
        int exponent;
        frexpf(largest, &exponent);
        factor = ldexpf(1.0f, exponent < -120 ? 120 : -exponent);
        for (size_t i = 0; i < n; i++) {
            scaled_x[i] = x[i] * factor;
            scaled_y[i] = y[i] * factor;
        }
        x = scaled_x;
        y = scaled_y;
    }
    view->kernels->error(x, y, n, &sums);
    errors->signal += sum_of(sums.signal) / (double)factor / (double)factor;
    if (values != others && sums.max_error < LEAST_ERROR && (factor != 1.0f || sums.max_error > 0.0f)) {
        add_small_errors(view, errors, values, others, run);
        return;
    }
    errors->error += sum_of(sums.error) / (double)factor / (double)factor;
    double most = (double)sums.max_error / (double)factor;
    if (most > 0 && most >= errors->max_error) {
        qz_look_up_error(view, errors);
        qz_note_error(errors, most, qz_flat_index(view, run, view->kernels->find_error(x, y, n, sums.max_error)));
    }
}

/* In double, which holds the product of three floats: for weights and values that together leave float32's range. */
static void add_weighted_products(struct errors *errors, const float *x, const float *y, const float *w, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double value = (double)x[i], difference = value - (double)y[i];
        errors->weighted_signal += (double)w[i] * value * value;
        errors->weighted_error += (double)w[i] * difference * difference;
    }
}

void qz_add_weighted_error(const struct qz_view *view, struct errors *errors, const float *x, const float *y,
                           const float *w, const struct run *run)
{
    float signal[QZ_TILE], error[QZ_TILE], range[2];
    size_t n = run->rows * run->pitch;
    int beyond = 0;
    for (size_t i = 0; i < n; i++) { /* the difference first: of products little would be left */
        float root = sqrtf(w[i]), difference = x[i] - y[i];
        signal[i] = x[i] * root;
        error[i] = difference * root;
        beyond |= !qz_is_finite(signal[i]) || !qz_is_finite(error[i]);
    }
    if (beyond) {
        add_weighted_products(errors, x, y, w, n);
        return;
    }
    /* What is largest is not looked for. */
    struct errors signals = {.max_error = INFINITY}, differences = {.max_error = INFINITY};
    view->kernels->range_f32(signal, n, range);
    qz_add_error(view, &signals, signal, signal, run, qz_larger(-range[0], range[1]) + 0.0f);
    view->kernels->range_f32(error, n, range);
    qz_add_error(view, &differences, error, error, run, qz_larger(-range[0], range[1]) + 0.0f);
    errors->weighted_signal += signals.signal;
    errors->weighted_error += differences.signal;
}

void qz_look_up_error(const struct qz_view *view, struct errors *errors)
{
    if (errors->where.rows) {
        float decoded[QZ_TILE];
        size_t n = errors->where.rows * errors->where.pitch;
        qz_decode_run(view, &errors->where, decoded);
        errors->max_index = qz_flat_index(
            view, &errors->where, view->kernels->find_error(errors->where_x, decoded, n, (float)errors->max_error));
        errors->where.rows = 0;
    }
}

float qz_largest_magnitude(const struct qz_view *view, const float *min, const float *max, size_t groups)
{
    float low[2], high[2];
    view->kernels->range_f32(min, groups, low);
    view->kernels->range_f32(max, groups, high);
    return qz_larger(-low[0], high[1]) + 0.0f;
}
