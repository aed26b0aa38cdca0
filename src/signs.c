/*
 * signs.c - finds the signs of rows, and chooses columns whose signs are enough
 */
#include "signs.h"
#include "base/number.h"
#include "base/pool.h"

#include <math.h>
#include <stdlib.h>

#define SQUARE_MOST 0x1p60f /* of an ordinary row */
#define SIGNS_LIKE  0.6     /* cos^2 of y and its signs, on average; 2 / pi with a normal distribution */
#define SIGNS_LOSE  0.5708  /* the square of an error by all signs of n columns is this / n: pi / 2 - 1 */
#define NOISE_MOST  0.6     /* the square of errors may be this part of the square of what is estimated */
#define LISTED      12000.0 /* a record takes the time of so many first signs */
#define RECORDS_PAY 0.75    /* with more of the time of all signs, records are not worth their room */
#define MEMORY_PAY  1.0     /* the same where signs of all columns are read from memory for a single query */

enum {
    SAMPLE = 1024,  /* rows whose mean and squares stand for those of all */
    TRIED = 160,    /* rows with which estimates are tried */
    TRIED_EACH = 5, /* one of so many stands for a query */
    TRIED_QUERIES = TRIED / TRIED_EACH,
    PART = 4 * QZ_SIGN_CODES, /* columns are taken by so many */
    MORE_MOST = 18 * PART,    /* columns of a record, which is then a line */
    RECORD_STEP = 32,
    PARTS = (QZ_TILE + PART - 1) / PART
};

size_t qz_signs_steps(const struct qz_sign_columns *columns)
{
    return 4 * (size_t)qz_divide_up(columns->first, PART);
}

size_t qz_signs_record(const struct qz_sign_columns *columns)
{
    const uint64_t bytes = QZ_SIGN_NUMBERS + qz_divide_up(columns->more, 8);
    return columns->more > 0 ? (size_t)qz_divide_up(bytes, RECORD_STEP) * RECORD_STEP : 0;
}

/* ---- rows ------------------------------------------------------------------------------------------------------ */

/* Decodes a row; returns what it is to be multiplied with. */
static float load_row(const struct qz_view *view, qz_metric metric, uint64_t row, float *value, double *square)
{
    const size_t cols = (size_t)view->cols;
    qz_decode_part(view, row, 0, cols, value);
    *square = view->kernels->dot(value, value, cols);
    return metric != QZ_COSINE ? 1.0f : *square > 0.0 ? (float)(1.0 / sqrt(*square)) : 0.0f;
}

/* What is left of a row without the mean; returns the square of the row. */
static double load_difference(const struct qz_view *view, qz_metric metric, const float *mean, uint64_t row, float *y)
{
    double square;
    const float by = load_row(view, metric, row, y, &square);
    for (size_t c = 0; c < view->cols; c++)
        y[c] = y[c] * by - mean[c];
    return square;
}

static float sign_of(float y)
{
    return y >= 0.0f ? 1.0f : -1.0f;
}

/* The signs of a row in some columns. Returns the sum of |y|. */
static double find_signs(const struct qz_view *view, const uint16_t *column, size_t count, const float *y, float *sign)
{
    float chosen[QZ_TILE];
    for (size_t i = 0; i < count; i++) {
        chosen[i] = y[column[i]];
        sign[i] = sign_of(chosen[i]);
    }
    return view->kernels->dot(chosen, sign, count);
}

/* First signs as bits: what qz_sign_step reads. */
static void note_first(const float *sign, size_t count, uint8_t *plane)
{
    for (size_t i = 0; i < count; i++) {
        const size_t step = i / QZ_SIGN_CODES, bit = i % QZ_SIGN_CODES;
        const size_t byte = step % 4 < 3 ? step % 4 : bit / 2, at = step % 4 < 3 ? bit : 6 + bit % 2;
        plane[(qz_sign_bytes(step) + byte) * QZ_SIGN_ROWS] |= (uint8_t)((sign[i] > 0.0f) << at);
    }
}

/* Returns the factor of the first signs. */
static float note_row(const struct qz_view *view, const struct qz_sign_columns *columns, const float *y, uint8_t *plane,
                      uint8_t *record)
{
    const double square = view->kernels->dot(y, y, (size_t)view->cols);
    float sign[QZ_TILE];
    const double first = find_signs(view, columns->column, columns->first, y, sign);
    note_first(sign, columns->first, plane);
    if (columns->more > 0) {
        const double all = first + find_signs(view, columns->column + columns->first, columns->more, y, sign);
        for (size_t i = 0; i < columns->more; i++)
            record[QZ_SIGN_NUMBERS + i / 8] |= (uint8_t)((sign[i] > 0.0f) << i % 8);
        const float numbers[2] = {all != 0.0 ? (float)(first / all) : 0.0f, all != 0.0 ? (float)(square / all) : 0.0f};
        memcpy(record, numbers, sizeof numbers);
    }
    return first != 0.0 ? (float)(square / first) : 0.0f;
}

/* A scale whose inverses are near 0 is right, too: it only leaves less out. */
static void invert_factors(size_t count, const struct qz_sign_block *to)
{
    float least = SQUARE_MOST;
    for (size_t r = 0; r < count; r++)
        if (to->factor[r] >= 1.0f / SQUARE_MOST && to->factor[r] < least)
            least = to->factor[r];
    *to->scale = 1.0f / least;
    for (size_t r = 0; r < count; r++)
        to->inverse[r] = qz_sign_inverse(to->factor[r], *to->scale);
}

int qz_signs_block(const struct qz_view *view, qz_metric metric, const struct qz_sign_columns *columns, uint64_t first,
                   size_t count, const struct qz_sign_block *to)
{
    float y[QZ_TILE];
    int ordinary = 1;
    for (size_t r = 0; r < count; r++) {
        const double square = load_difference(view, metric, columns->mean, first + r, y);
        to->factor[r] = note_row(view, columns, y, to->plane + qz_sign_place(r),
                                 to->records ? to->records + r * qz_signs_record(columns) : NULL);
        if (to->bias)
            to->bias[r] = (float)(-0.5 * square);
        ordinary &= square <= SQUARE_MOST && (double)to->factor[r] <= SQUARE_MOST; /* NaN is not */
    }
    invert_factors(count, to);
    return ordinary;
}

/* ---- a sample -------------------------------------------------------------------------------------------------- */

/* Rows from which columns are chosen, in room of the heap. */
struct sample {
    const struct qz_view *view;
    qz_metric metric;
    uint64_t rows;
    struct column {
        double square; /* over all rows of the sample */
        size_t at;
    } column[QZ_TILE];
    double noise[PARTS]; /* by the first columns, a part more each: squares of errors of estimates */
    double products;     /* squares of what is estimated */
    double lengths[2];   /* squares of what stands for queries, and of the other rows */
    float query[TRIED_QUERIES][QZ_TILE], row[QZ_TILE];
};

static void find_mean(struct sample *sample, size_t some, float *mean)
{
    const size_t cols = (size_t)sample->view->cols;
    double total[QZ_TILE] = {0}, square;
    for (size_t i = 0; i < some; i++) {
        float by = load_row(sample->view, sample->metric, qz_slice_start(sample->rows, some, i), sample->row, &square);
        for (size_t c = 0; c < cols; c++)
            total[c] += (double)(sample->row[c] * by);
    }
    for (size_t c = 0; c < cols; c++)
        mean[c] = (float)(total[c] / (double)some);
}

/* Finds how much columns vary. Returns the average of cos^2 of rows and their signs. */
static double find_squares(struct sample *sample, size_t some, const float *mean)
{
    const size_t cols = (size_t)sample->view->cols;
    double total = 0.0;
    for (size_t c = 0; c < cols; c++)
        sample->column[c] = (struct column){0.0, c};
    for (size_t i = 0; i < some; i++) {
        float sign[QZ_TILE], *y = sample->row;
        load_difference(sample->view, sample->metric, mean, qz_slice_start(sample->rows, some, i), y);
        for (size_t c = 0; c < cols; c++) {
            sign[c] = sign_of(y[c]);
            sample->column[c].square += (double)y[c] * (double)y[c];
        }
        const double square = sample->view->kernels->dot(y, y, cols);
        const double magnitudes = sample->view->kernels->dot(y, sign, cols);
        total += square > 0.0 ? magnitudes * magnitudes / ((double)cols * square) : 1.0;
    }
    return total / (double)some;
}

static int varies_more(const void *a, const void *b)
{
    const struct column *one = a, *other = b;
    if (one->square != other->square)
        return one->square > other->square ? -1 : 1;
    return one->at < other->at ? -1 : 1;
}

/* Row i of those that are tried: not at equal distances, at which rows may be alike. */
static void load_tried(const struct sample *sample, const float *mean, size_t i, float *y)
{
    const uint64_t first = qz_slice_start(sample->rows, TRIED, i), within = sample->rows / TRIED;
    float value[QZ_TILE];
    load_difference(sample->view, sample->metric, mean, first + (uint64_t)i * 0x9e3779b9u % within, value);
    for (size_t c = 0; c < sample->view->cols; c++)
        y[c] = value[sample->column[c].at];
}

/* Adds the errors of estimates of a row and a query, whose columns are in order. */
static void try_estimates(struct sample *sample, const float *query, double square)
{
    const size_t cols = (size_t)sample->view->cols;
    const float *y = sample->row;
    const double right = sample->view->kernels->dot(query, y, cols);
    double sum = 0.0, magnitudes = 0.0;
    for (size_t c = 0, part = 0; c < cols; part++) {
        for (const size_t end = c + qz_least(PART, cols - c); c < end; c++) {
            sum += (double)query[c] * (double)sign_of(y[c]);
            magnitudes += fabs((double)y[c]);
        }
        const double error = (magnitudes != 0.0 ? square / magnitudes * sum : 0.0) - right;
        sample->noise[part] += error * error;
    }
    sample->products += right * right;
}

static void try_parts(struct sample *sample, const float *mean)
{
    const size_t cols = (size_t)sample->view->cols;
    for (size_t i = 0; i < TRIED_QUERIES; i++) {
        load_tried(sample, mean, i * TRIED_EACH, sample->query[i]);
        sample->lengths[0] += sample->view->kernels->dot(sample->query[i], sample->query[i], cols);
    }
    for (size_t i = 0; i < TRIED; i++) {
        if (i % TRIED_EACH == 0)
            continue;
        load_tried(sample, mean, i, sample->row);
        const double square = sample->view->kernels->dot(sample->row, sample->row, cols);
        sample->lengths[1] += square;
        for (size_t q = 0; q < TRIED_QUERIES; q++)
            try_estimates(sample, sample->query[q], square);
    }
}

/* ---- columns --------------------------------------------------------------------------------------------------- */

static void take_all(struct qz_sign_columns *columns, size_t cols)
{
    columns->first = cols;
    columns->more = 0;
    columns->worth[0] = columns->worth[1] = (double)cols;
    for (size_t c = 0; c < cols; c++)
        columns->column[c] = (uint16_t)c;
}

static double worth_of(const struct sample *sample, size_t columns)
{
    return SIGNS_LOSE * sample->lengths[0] * sample->lengths[1] / sample->noise[(columns - 1) / PART];
}

static int by_number(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

/* Takes those with which first signs and records take the least time together. */
static void take_best(const struct sample *sample, double cached, struct qz_sign_columns *columns)
{
    const size_t cols = columns->first;
    const int is_large = (double)sample->rows * (double)cols / 8.0 > cached;
    double least = (is_large ? MEMORY_PAY : RECORDS_PAY) * (double)cols;
    for (size_t first = PART; first < cols; first += PART) {
        const double worth = worth_of(sample, first);
        const double time = (double)first + LISTED * QZ_LIST_FIRST / (worth * worth);
        if (sample->noise[first / PART - 1] <= NOISE_MOST * sample->products && time < least) {
            least = time;
            columns->first = first;
            columns->more = qz_least(cols - first, MORE_MOST);
            columns->worth[0] = worth;
        }
    }
    if (columns->more == 0)
        return;
    columns->worth[1] = worth_of(sample, columns->first + columns->more);
    for (size_t i = 0; i < columns->first + columns->more; i++)
        columns->column[i] = (uint16_t)sample->column[i].at;
    qsort(columns->column, columns->first, sizeof columns->column[0], by_number);
    qsort(columns->column + columns->first, columns->more, sizeof columns->column[0], by_number);
}

int qz_signs_choose(const struct qz_view *view, qz_metric metric, uint64_t rows, double cached,
                    struct qz_sign_columns *columns, int *enough)
{
    const size_t some = qz_least(SAMPLE, rows), cols = (size_t)view->cols;
    struct sample *sample = calloc(1, sizeof *sample);
    if (!sample)
        return 0;
    sample->view = view;
    sample->metric = metric;
    sample->rows = rows;
    find_mean(sample, some, columns->mean);
    *enough = find_squares(sample, some, columns->mean) >= SIGNS_LIKE; /* NaN is not */
    take_all(columns, cols);
    if (*enough && rows >= SAMPLE) {
        qsort(sample->column, cols, sizeof sample->column[0], varies_more);
        try_parts(sample, columns->mean);
        take_best(sample, cached, columns);
    }
    free(sample);
    return 1;
}
