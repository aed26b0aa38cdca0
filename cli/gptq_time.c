/*
 * gptq_time.c - estimates how long GPTQ will take
 *
 * One part of the time depends only on the number of inputs, because their matrix is decomposed. The other part grows
 * with the outputs and the square of the inputs. Both are measured on a matrix of at most SIDE inputs. A measurement
 * with half as many inputs shows how the first part grows: with the square of the number of inputs if they are few, and
 * at most with its third power.
 */
#include "gptq_time.h"

#include <math.h>
#include <stdlib.h>

#include "output.h"
#include "packed_block.h"

enum { SIDE = 1024, FEW = 8, MANY = 128 /* outputs */ };

/* Values that are nowhere special, from -1 to 1. */
static void make_values(float *values, uint64_t count)
{
    uint32_t state = 1;
    for (uint64_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(state >> 8) * 0x1p-23f - 1.0f;
    }
}

/* The matrix of inputs of which neighbours are alike. */
static void make_gram(float *gram, uint64_t cols)
{
    for (uint64_t i = 0; i < cols; i++)
        for (uint64_t k = 0; k < cols; k++)
            gram[i * cols + k] = 1.0f / (float)(1 + (i > k ? i - k : k - i));
}

static double time_of(const encoder *e, const recipe *how, uint64_t rows, uint64_t cols)
{
    double seconds = 0;
    qz_sizes sizes;
    qz_packed packed = {0};
    qz_gptq_outcome outcome;
    float *values = malloc((rows * cols + 1) * sizeof *values), *gram = malloc((cols * cols + 1) * sizeof *gram);
    if (values && gram && allocate_packed(&how->scheme, rows, cols, &packed) == DONE &&
        shape_packed(&how->scheme, cols, &packed, &sizes) == DONE) {
        make_values(values, rows * cols);
        make_gram(gram, cols);
        const qz_matrix w = {values, QZ_F32, rows, cols, (int64_t)cols, 1},
                        inputs = {gram, QZ_F32, cols, cols, (int64_t)cols, 1};
        qz_gptq_options options = QZ_GPTQ_OPTIONS_INIT;
        options.method = how->method;
        options.pool = e->pool;
        options.outcome = &outcome;
        const double start = seconds_now();
        const qz_result result = qz_gptq(&how->scheme, &w, &inputs, &options, &packed, NULL, NULL);
        seconds = result == QZ_OK ? seconds_now() - start : 0;
    }
    free(values);
    free(gram);
    free(packed.codes);
    return seconds;
}

static void find_pace(const encoder *e, const recipe *how, uint64_t cols, gptq_pace *out)
{
    *out = (gptq_pace){.how = how, .cols = cols, .power = 2};
    out->inputs = time_of(e, how, FEW, cols);
    const double more = time_of(e, how, MANY, cols) - out->inputs;
    out->row = more > 0 ? more / (MANY - FEW) : 0;
    if (cols == SIDE)
        out->power = fmin(fmax(log2(out->inputs / time_of(e, how, FEW, cols / 2)), 2), 3);
}

double gptq_seconds(encoder *e, const job *j)
{
    const uint64_t all = j->tensor->shape[j->axis], cols = all < SIDE ? all : SIDE;
    if (j->rows == 0 || cols == 0)
        return 0;
    if (e->pace.how != j->how || e->pace.cols != cols)
        find_pace(e, j->how, cols, &e->pace);
    const double times = (double)all / (double)cols;
    return e->pace.inputs * pow(times, e->pace.power) + e->pace.row * (double)j->rows * times * times;
}
