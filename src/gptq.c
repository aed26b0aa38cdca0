/*
 * gptq.c - GPTQ: chooses codes one input after another, so that later codes make up for the errors of earlier ones
 *
 * A layer adds up w[k] x[k] for a row of weights w and its inputs x. H is the Gram matrix of the inputs, the mean of x
 * x^T. A row of errors e = w - decoded(w) then costs the output e H e^T, its mean squared error. These steps make it
 * small:
 *
 *   read_gram    reads H as doubles and makes it symmetric
 *   enlarge      multiplies its diagonal by 1 + damping: with fewer examples, their correlations count less
 *   factor       chooses an order of the inputs, and factors H = R R^T in that order, R upper triangular. The cost of a
 *                row is then the sum over k of (R[k][k] e[k] + sum over j < k of R[j][k] e[j])^2. When the inputs
 *                before k have their codes, the best value for k is w[k] + sum over j < k of e[j] A[j][k] with A[j][k]
 *                = R[j][k] / R[k][k]. R[k][k]^2 is what is left of the power of input k when all later inputs have made
 *                up for as much as they can. It is the weight with which the scales are found.
 *   feed_back    computes the values of that sum, and rounds each to its nearest code
 *   sweep        goes over all groups again. It finds first the best scale for the codes, then for each code in turn
 *                the best code while all others stay. No step makes the cost larger, except by rounding decoded values
 *                to float32.
 *
 * Two more steps measure the result:
 *
 *   count        counts weights beyond the ends of the code range
 *   measure      sums w H w^T and e H e^T, with H as it was given, or with the H of other examples
 *
 * All is in double, and every long sum is a sum of fused multiply-adds in the order of its index (the kernel
 * multiply_add). So the bytes are the same for every kernel set and number of threads. Rows do not depend on each
 * other. They are processed in slabs of SLAB rows, whose elements lie side by side.
 */
#include "scales/encoder.h"
#include "scales/exact.h"
#include "base/fpenv.h"
#include "base/number.h"
#include "base/pool.h"
#include "scales/scales.h"
#include "packed/scheme.h"
#include "matrix/tile.h"
#include "base/stop.h"
#include "base/system.h"
#include "damping.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

enum {
    SLAB = 64,   /* rows of weights side by side */
    BLOCK = 32,  /* columns whose codes are chosen before all later ones hear of it */
    DEPTH = 256, /* terms of a sum between two visits of its memory */
    PANEL = 64   /* columns that the factorization takes at once */
};

/* How a value becomes the index of a code, as in struct qz_grid. */
struct levels {
    double upper[15];
    float value[16];
    uint8_t code[16];
};

struct gptq {
    struct qz_view view; /* codes and scales */
    const qz_matrix *w;  /* the matrix that is quantized */
    qz_pool *pool;
    struct qz_stop stop;
    size_t cols, groups, group_size, widest; /* widest: columns of the widest unit, see sweep */
    size_t pitch;                            /* of rows of the matrix: no power of two, which caches would not like */
    double *gram;                            /* H, or A above the diagonal */
    double *panel, *minus;                   /* PANEL rows of R^T, and the same negated */
    size_t *order;                           /* order[k]: the input that is visited as number k */
    double damping;                          /* as used */
    double *power;                           /* the diagonal of H by input */
    double *left;                            /* what is left of it by position; in the end R[k][k]^2 */
    float *weights;                          /* that by input */
    struct levels levels;
    unsigned sweeps;
    size_t block_rows, block_first; /* of the product that threads share */
    struct slab *slabs;
    size_t slab_count;   /* slabs that are worked on at the same time */
    struct found *found; /* by slab of the matrix */
    void (*work)(struct gptq *gptq, struct slab *slab);
};

/* What steps tell of a slab. */
struct found {
    double signal, error; /* measure */
    uint64_t clipped;     /* count */
    uint64_t bad_group;   /* the first one of which nothing finite can be decoded; UINT64_MAX: none */
    double bad_value;     /* the largest magnitude in it */
};

/* Some rows of weights. Arrays hold SLAB values for each column or group. */
struct slab {
    uint64_t row;
    size_t rows;
    float *w, *scale, *zero;
    double *inverse;
    double *error;         /* weight minus decoded weight; feed_back has the columns in order of visit */
    double *target;        /* of a block: the best values; of a unit: error times H */
    double *basis, *image; /* of a unit: see refit; the changes of a block */
    double *part;          /* DEPTH rows of BLOCK elements of the matrix */
    uint8_t *code;
};

/* ---- the matrix ---------------------------------------------------------------------------------------------- */

static qz_result gram_error(const qz_matrix *source, size_t row, size_t col, qz_detail *detail)
{
    if (detail) {
        detail->index = (uint64_t)row * source->cols + col;
        detail->count = 0;
        detail->value = qz_matrix_value(source, row, col);
    }
    return QZ_ERROR_GRAM;
}

/* Fills in H, scaled so that the largest element of its diagonal is in 0.5..1: no choice depends on the scale. */
static qz_result read_gram(struct gptq *gptq, const qz_matrix *source, qz_detail *detail)
{
    size_t n = gptq->cols, pitch = gptq->pitch;
    double *h = gptq->gram, largest = 0.0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double value = qz_matrix_value(source, i, j);
            if (!qz_is_finite_f64(value) || (i == j && value < 0))
                return gram_error(source, i, j, detail);
            h[i * pitch + j] = value;
        }
    for (size_t i = 0; i < n; i++)
        largest = h[i * pitch + i] > largest ? h[i * pitch + i] : largest;
    int exponent = 0;
    frexp(largest, &exponent);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            h[i * pitch + j] = ldexp(h[i * pitch + j], -exponent);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++) {
            double upper = h[j * pitch + i], lower = h[i * pitch + j];
            if (fabs(upper - lower) > 1e-3 * sqrt(h[i * pitch + i] * h[j * pitch + j]))
                return gram_error(source, i, j, detail);
            h[i * pitch + j] = h[j * pitch + i] = 0.5 * (upper + lower);
        }
    return QZ_OK;
}

/* What suits the examples. The panel is not used yet. */
static double find_damping(struct gptq *gptq, uint64_t examples)
{
    const struct qz_inputs inputs = {gptq->gram, gptq->cols, gptq->pitch, gptq->view.kernels, gptq->pool, &gptq->stop};
    _Static_assert((int)PANEL >= (int)QZ_DAMPING_ROOM, "room");
    return qz_damping(&inputs, examples, gptq->panel);
}

/* Damping goes by each input's own power: a few inputs of great power, which are common, would otherwise drown the
 * others. */
static void enlarge(struct gptq *gptq)
{
    size_t n = gptq->cols, pitch = gptq->pitch;
    double *h = gptq->gram, mean = 0.0;
    for (size_t i = 0; i < n; i++)
        mean += h[i * pitch + i] / (double)n;
    /* An input that is always 0 gets a power that counts for nothing beside the others of its group. */
    double least = mean > 0 ? mean * DBL_EPSILON : 1.0;
    for (size_t i = 0; i < n; i++) {
        double *d = &h[i * pitch + i];
        *d = gptq->power[i] = *d >= QZ_LEAST_POWER ? *d + gptq->damping * *d : least;
    }
}

/* Exchanges two of the first k + 1 positions, k being one of them, while `steps` rows of the panel are there. */
static void exchange(struct gptq *gptq, size_t p, size_t k, size_t steps)
{
    size_t n = gptq->cols, pitch = gptq->pitch, position = gptq->order[p];
    double left = gptq->left[p], *a = gptq->gram + p * pitch, *b = gptq->gram + k * pitch;
    gptq->order[p] = gptq->order[k];
    gptq->order[k] = position;
    gptq->left[p] = gptq->left[k];
    gptq->left[k] = left;
    for (size_t i = 0; i < n; i++) {
        double other = a[i];
        a[i] = b[i];
        b[i] = other;
    }
    for (size_t i = 0; i <= k + steps; i++) { /* columns: of the matrix down to k, then of the panel */
        double *row = i <= k ? gptq->gram + i * pitch : gptq->panel + (i - k - 1) * pitch;
        double other = row[p];
        row[p] = row[k];
        row[k] = other;
    }
}

/* matrix[i][j] -= sum over q of panel[q][i] * panel[q][j], for PANEL rows i. */
static void update_rows(void *context, size_t block)
{
    struct gptq *gptq = context;
    if (qz_stop_asked(&gptq->stop))
        return;
    size_t i = block * PANEL, rest = gptq->block_first;
    gptq->view.kernels->multiply_add(gptq->minus + i, gptq->pitch, rest - i < PANEL ? rest - i : PANEL, gptq->panel,
                                     gptq->pitch, rest, gptq->block_rows, gptq->gram + i * gptq->pitch, gptq->pitch);
}

/*
 * Turns H into A. The last position is settled first: with `ordered` it goes to the input of which least is left, and
 * so on, so that the inputs visited last, whose errors nobody makes up for, matter least.
 */
static qz_result factor(struct gptq *gptq, const qz_matrix *source, int ordered, qz_detail *detail)
{
    size_t n = gptq->cols, pitch = gptq->pitch;
    double *h = gptq->gram, factors[PANEL];
    for (size_t i = 0; i < n; i++) {
        gptq->order[i] = i;
        gptq->left[i] = h[i * pitch + i];
    }
    for (size_t end = n, start; end > 0; end = start) {
        start = end > PANEL ? end - PANEL : 0;
        for (size_t k = end; k-- > start;) {
            if (qz_stop_asked(&gptq->stop))
                return QZ_ERROR_STOPPED;
            size_t step = end - 1 - k, least = k;
            for (size_t i = k; i-- > 0 && ordered;)
                least = gptq->left[i] < gptq->left[least] ? i : least;
            if (least != k)
                exchange(gptq, least, k, step);
            /* Below this, rounding errors are all that is left. */
            if (!(gptq->left[k] > (double)n * DBL_EPSILON * gptq->power[gptq->order[k]]))
                return gram_error(source, gptq->order[k], gptq->order[k], detail);
            double *row = gptq->panel + step * pitch;
            memcpy(row, h + k * pitch, (k + 1) * sizeof *row);
            for (size_t q = 0; q < step; q++)
                factors[q] = -gptq->panel[q * pitch + k];
            gptq->view.kernels->multiply_add(factors, 1, 1, gptq->panel, pitch, k + 1, step, row, pitch);
            double root = sqrt(row[k]), inverse = 1.0 / root;
            for (size_t i = 0; i < k; i++) {
                row[i] *= inverse;
                gptq->left[i] = fma(-row[i], row[i], gptq->left[i]);
            }
            row[k] = root;
        }
        for (size_t i = 0; i < end; i++)
            for (size_t k = i > start ? i : start; k < end; k++)
                h[i * pitch + k] = gptq->panel[(end - 1 - k) * pitch + i];
        for (size_t q = 0; q < end - start; q++)
            for (size_t i = 0; i < start; i++)
                gptq->minus[q * pitch + i] = -gptq->panel[q * pitch + i];
        gptq->block_first = start;
        gptq->block_rows = end - start;
        qz_pool_run(gptq->pool, (size_t)qz_divide_up(start, PANEL), update_rows, gptq);
    }
    double *diagonal = gptq->panel;
    for (size_t i = 0; i < n; i++)
        diagonal[i] = h[i * pitch + i];
    for (size_t i = 0; i < n; i++)
        for (size_t k = i + 1; k < n; k++)
            h[i * pitch + k] /= diagonal[k];
    return QZ_OK;
}

/* ---- scales and codes ---------------------------------------------------------------------------------------- */

/* Scales and zeros for the weights as they are, by the usual encoder. An error of input k counts left[k] times. */
static qz_result find_scales(const struct gptq *gptq, const qz_scheme *scheme, const qz_matrix *w,
                             const qz_gptq_options *how, const qz_packed *dst, qz_stats *stats, qz_detail *detail)
{
    qz_options options = QZ_OPTIONS_INIT;
    qz_matrix weights = {gptq->weights, QZ_F32, w->rows, w->cols, 0, 1};
    for (size_t k = 0; k < gptq->cols && w->rows; k++)
        gptq->weights[gptq->order[k]] = (float)gptq->left[k];
    options.method = how->method;
    options.pool = how->pool;
    options.stop = how->stop;
    options.stop_context = how->stop_context;
    options.weights = w->rows ? &weights : NULL;
    return qz_encode(scheme, w, dst, &options, stats, detail);
}

static struct levels make_levels(const struct qz_grid *grid)
{
    struct levels levels;
    for (int i = 0; i < 16; i++) {
        levels.value[i] = grid->sorted[i];
        levels.code[i] = (uint8_t)(grid->code[i] & 15);
        if (i < 15)
            levels.upper[i] = (double)grid->upper[i];
    }
    if (grid->uniform && grid->sorted[0] < (float)grid->lo) /* a value that a method does without */
        levels.upper[0] = -INFINITY;
    return levels;
}

/* The value nearest to number i that is finite: near the end of float32's range, the next one inwards. Values ascend or
 * descend, so those that are finite lie together. 16: there is none. */
static size_t finite_level(const struct levels *levels, size_t i, float scale, float zero, qz_zero kind)
{
    for (size_t d = 0; d < 16; d++) {
        if (i >= d && qz_is_finite(qz_value(levels->value[i - d], scale, zero, kind)))
            return i - d;
        if (i + d < 16 && qz_is_finite(qz_value(levels->value[i + d], scale, zero, kind)))
            return i + d;
    }
    return 16;
}

/* Gives SLAB values of a column their nearest codes: the codes and what is lost of the weights. */
static void choose(const struct gptq *gptq, const struct slab *slab, size_t col, const double *target, double *error)
{
    const struct levels *levels = &gptq->levels;
    qz_zero kind = gptq->view.grid.zero;
    size_t group = col / gptq->group_size * SLAB;
    const float *scale = slab->scale + group, *zero = slab->zero + group, *w = slab->w + col * SLAB;
    const double *inverse = slab->inverse + group;
    for (size_t r = 0; r < SLAB; r++) {
        double y = kind == QZ_ZERO_OFFSET ? (target[r] - (double)zero[r]) * inverse[r]
                                          : target[r] * inverse[r] + (double)zero[r];
        size_t i = (size_t)(y >= levels->upper[7]) * 8;
        i += (size_t)(y >= levels->upper[i + 3]) * 4;
        i += (size_t)(y >= levels->upper[i + 1]) * 2;
        i += (size_t)(y >= levels->upper[i]);
        float value = qz_value(levels->value[i], scale[r], zero[r], kind);
        if (!qz_is_finite(value)) {
            i = finite_level(levels, i, scale[r], zero[r], kind);
            value = qz_value(levels->value[i], scale[r], zero[r], kind);
        }
        slab->code[col * SLAB + r] = (uint8_t)i;
        error[r] = (double)w[r] - (double)value;
    }
}

/* ---- slabs --------------------------------------------------------------------------------------------------- */

/* Scales of a slab's rows, in runs of groups of one row. */
static void move_groups(const struct gptq *gptq, const struct slab *slab, int store)
{
    float scale[QZ_TILE_GROUPS], zero[QZ_TILE_GROUPS] = {0};
    uint8_t no_bytes[2 * QZ_TILE_GROUPS];
    if (store && qz_has_byte_scales(&gptq->view)) /* it is done */
        return;
    for (size_t r = 0; r < slab->rows; r++)
        for (size_t g = 0; g < gptq->groups; g += QZ_TILE_GROUPS) {
            struct span span = {slab->row + r, g, 1, qz_least(QZ_TILE_GROUPS, gptq->groups - g), 0};
            if (!store)
                qz_load_groups(&gptq->view, &span, scale, zero);
            for (size_t i = 0; i < span.count; i++) {
                size_t at = (g + i) * SLAB + r;
                if (store) {
                    scale[i] = slab->scale[at];
                    zero[i] = slab->zero[at];
                } else {
                    slab->scale[at] = scale[i];
                    slab->zero[at] = zero[i];
                    slab->inverse[at] = scale[i] != 0 ? 1.0 / (double)scale[i] : 0.0;
                }
            }
            if (store)
                qz_store_groups(&gptq->view, &span, scale, zero, no_bytes);
        }
}

/* Looks for groups of a slab of which nothing finite can be decoded. No code is chosen where there are such. */
static void check(struct gptq *gptq, struct slab *slab)
{
    struct found *found = &gptq->found[slab->row / SLAB];
    found->bad_group = UINT64_MAX;
    for (size_t r = 0; r < slab->rows; r++)
        for (size_t g = 0; g < gptq->groups; g++) {
            float scale = slab->scale[g * SLAB + r], zero = slab->zero[g * SLAB + r];
            if (qz_is_finite(scale) && qz_is_finite(zero) &&
                finite_level(&gptq->levels, 0, scale, zero, gptq->view.grid.zero) < 16)
                continue;
            found->bad_group = (slab->row + r) * gptq->groups + g;
            float most = 0.0f;
            for (size_t k = g * gptq->group_size; k < gptq->cols && k / gptq->group_size == g; k++)
                most = qz_larger(fabsf(slab->w[k * SLAB + r]), most);
            found->bad_value = (double)most;
            return;
        }
}

/* Weights and scales of a slab. Rows that fill it up are zeros. */
static void load_slab(const struct gptq *gptq, struct slab *slab)
{
    const struct qz_view *view = &gptq->view;
    size_t n = gptq->cols;
    if (slab->rows < SLAB) {
        memset(slab->w, 0, n * SLAB * sizeof *slab->w);
        memset(slab->scale, 0, gptq->groups * SLAB * sizeof *slab->scale);
        memset(slab->zero, 0, gptq->groups * SLAB * sizeof *slab->zero);
        memset(slab->inverse, 0, gptq->groups * SLAB * sizeof *slab->inverse);
    }
    float buffer[QZ_TILE];
    for (size_t c = 0; c < n; c += QZ_TILE / SLAB) {
        struct qz_tile tile = {slab->row, c, slab->rows, qz_least(QZ_TILE / SLAB, n - c)};
        ptrdiff_t stride;
        int overflow;
        const float *x = qz_tile_load(view->kernels, gptq->w, &tile, buffer, &stride, &overflow);
        view->kernels->transpose(x, stride, tile.cols, tile.rows, slab->w + c * SLAB, SLAB);
    }
    move_groups(gptq, slab, 0);
}

/* Codes of a slab, from its indices or to them. */
static void store_codes(const struct gptq *gptq, const struct slab *slab)
{
    for (size_t r = 0; r < slab->rows; r++) {
        uint8_t *codes = qz_codes_at(&gptq->view, slab->row + r, 0);
        for (size_t c = 0; c < gptq->cols; c += 2) {
            int low = gptq->levels.code[slab->code[c * SLAB + r]];
            int high = c + 1 < gptq->cols ? gptq->levels.code[slab->code[(c + 1) * SLAB + r]] : 0;
            codes[c / 2] = (uint8_t)(low | high << 4);
        }
    }
}

static void load_codes(const struct gptq *gptq, struct slab *slab)
{
    uint8_t index[16] = {0};
    for (int i = 15; i >= 0; i--)
        index[gptq->levels.code[i]] = (uint8_t)i;
    memset(slab->code, 0, gptq->cols * SLAB);
    for (size_t r = 0; r < slab->rows; r++) {
        const uint8_t *codes = qz_codes_at(&gptq->view, slab->row + r, 0);
        for (size_t c = 0; c < gptq->cols; c++)
            slab->code[c * SLAB + r] = index[qz_code_at(codes, c)];
    }
}

/* target[c] += sum over k < depth of matrix[k][first + c] * error[k], for cols <= BLOCK columns. */
static void multiply_block(const struct gptq *gptq, const struct slab *slab, size_t depth, size_t first, size_t cols,
                           double *target)
{
    for (size_t k = 0; k < depth; k += DEPTH) {
        size_t some = depth - k < DEPTH ? depth - k : DEPTH;
        for (size_t i = 0; i < some; i++)
            memcpy(slab->part + i * BLOCK, gptq->gram + (k + i) * gptq->pitch + first, cols * sizeof *target);
        gptq->view.kernels->multiply_add(slab->part, BLOCK, cols, slab->error + k * SLAB, SLAB, SLAB, some, target,
                                         SLAB);
    }
}

static void feed_back(struct gptq *gptq, struct slab *slab)
{
    for (size_t start = 0, end; start < gptq->cols && !qz_stop_asked(&gptq->stop); start = end) {
        end = gptq->cols - start < BLOCK ? gptq->cols : start + BLOCK;
        for (size_t k = start; k < end; k++)
            for (size_t r = 0; r < SLAB; r++)
                slab->target[(k - start) * SLAB + r] = (double)slab->w[gptq->order[k] * SLAB + r];
        multiply_block(gptq, slab, start, start, end - start, slab->target);
        for (size_t k = start; k < end; k++) {
            double *target = slab->target + (k - start) * SLAB, *error = slab->error + k * SLAB;
            choose(gptq, slab, gptq->order[k], target, error);
            gptq->view.kernels->multiply_add(gptq->gram + k * gptq->pitch + k + 1, 0, end - k - 1, error, SLAB, SLAB, 1,
                                             target + SLAB, SLAB);
        }
    }
    store_codes(gptq, slab);
}

/* What a group's values are made of: value = scale * basis (+ offset). */
static float basis_of(const struct gptq *gptq, const struct slab *slab, size_t group, size_t col, size_t r)
{
    float value = gptq->levels.value[slab->code[col * SLAB + r]];
    return gptq->view.grid.zero == QZ_ZERO_OFFSET ? value : value - slab->zero[group * SLAB + r];
}

/* A scale (or an offset) of row r of a slab as it is when stored; `one` has the bytes if its type takes a byte. */
static float as_stored(const struct gptq *gptq, const struct slab *slab, size_t group, size_t r, double wanted,
                       int offset, struct groups *one)
{
    const struct qz_view *view = &gptq->view;
    float narrow = (float)wanted;
    if (!qz_has_byte_scales(view))
        return view->scale_type->nearest(narrow);
    struct run run = {slab->row + r, group * gptq->group_size, 1, 1, 1};
    one->count = 1;
    one->min[0] = one->max[0] = 1.0f;
    one->scale[0] = offset ? slab->scale[group * SLAB + r] : narrow;
    one->zero[0] = offset ? narrow : slab->zero[group * SLAB + r];
    qz_round_scales(view, &run, one);
    return offset ? one->zero[0] : one->scale[0];
}

/* A number as `from`, not too small or large to be stored well. */
static int is_like(qz_dtype dtype, float x, float from)
{
    float least = dtype == QZ_F16 ? 0x1p-14f : FLT_MIN, most = dtype == QZ_F16 ? 65504.0f : 0x1p120f;
    return fabsf(from) >= least && fabsf(x) >= least && fabsf(x) <= most && (x > 0) == (from > 0);
}

/*
 * Moves the scale of a group (or its offset) to the minimum of the cost, where that differs as stored. A change by d
 * takes d * basis from the errors, so the cost changes by d^2 (basis H basis) - 2 d (error H basis). `target` is error
 * times H for the columns up to the unit's end.
 */
static void refit(const struct gptq *gptq, struct slab *slab, size_t group, size_t unit, size_t unit_end, int offset)
{
    size_t start = group * gptq->group_size, length = qz_least(gptq->group_size, gptq->cols - start);
    size_t rest = unit_end - start;
    double *target = slab->target + (start - unit) * SLAB, *error = slab->error + start * SLAB;
    double along[SLAB] = {0}, across[SLAB] = {0};
    qz_dtype dtype = gptq->view.scale_dtype;
    for (size_t k = 0; k < length; k++)
        for (size_t r = 0; r < SLAB; r++)
            slab->basis[k * SLAB + r] = offset ? 1.0 : (double)basis_of(gptq, slab, group, start + k, r);
    memset(slab->image, 0, rest * SLAB * sizeof *slab->image);
    gptq->view.kernels->multiply_add(gptq->gram + start * gptq->pitch + start, gptq->pitch, rest, slab->basis, SLAB,
                                     SLAB, length, slab->image, SLAB);
    for (size_t k = 0; k < length * SLAB; k += SLAB)
        for (size_t r = 0; r < SLAB; r++) {
            along[r] += target[k + r] * slab->basis[k + r];
            across[r] += slab->image[k + r] * slab->basis[k + r];
        }
    double change[SLAB];
    struct groups one;
    struct span span = {0, group, 1, 1, 0};
    float *stored = (offset ? slab->zero : slab->scale) + group * SLAB;
    for (size_t r = 0; r < SLAB; r++) {
        change[r] = 0.0;
        if (r >= slab->rows || !(across[r] > 0))
            continue;
        float wanted = as_stored(gptq, slab, group, r, (double)stored[r] + along[r] / across[r], offset, &one);
        double d = (double)wanted - (double)stored[r];
        if (!(2.0 * d * along[r] > d * d * across[r]))
            continue;
        if (finite_level(&gptq->levels, 0, offset ? slab->scale[group * SLAB + r] : wanted,
                         offset ? wanted : slab->zero[group * SLAB + r], gptq->view.grid.zero) == 16)
            continue;
        if (offset ? !(fabsf(wanted) <= (dtype == QZ_F16 ? 65504.0f : 0x1p120f)) : !is_like(dtype, wanted, stored[r]))
            continue;
        stored[r] = wanted;
        change[r] = -d;
        span.row = slab->row + r;
        if (qz_has_byte_scales(&gptq->view))
            qz_store_groups(&gptq->view, &span, one.scale, one.zero, one.bytes);
        if (!offset)
            slab->inverse[group * SLAB + r] = 1.0 / (double)wanted;
    }
    for (size_t k = 0; k < rest * SLAB; k += SLAB)
        for (size_t r = 0; r < SLAB; r++)
            target[k + r] += change[r] * slab->image[k + r];
    for (size_t k = 0; k < length * SLAB; k += SLAB)
        for (size_t r = 0; r < SLAB; r++)
            error[k + r] += change[r] * slab->basis[k + r];
}

/* Chooses the codes of columns start to end of a unit again. */
static void choose_again(const struct gptq *gptq, struct slab *slab, size_t start, size_t end, size_t unit,
                         size_t unit_end)
{
    const struct qz_kernels *kernels = gptq->view.kernels;
    size_t pitch = gptq->pitch;
    for (size_t k = start; k < end; k++) {
        double *target = slab->target + (k - unit) * SLAB, *error = slab->error + k * SLAB;
        double wanted[SLAB], *change = slab->basis + (k - start) * SLAB, inverse = 1.0 / gptq->gram[k * pitch + k];
        for (size_t r = 0; r < SLAB; r++) {
            wanted[r] = (double)slab->w[k * SLAB + r] - error[r] + target[r] * inverse;
            change[r] = -error[r];
        }
        choose(gptq, slab, k, wanted, error);
        for (size_t r = 0; r < SLAB; r++)
            change[r] += error[r];
        kernels->multiply_add(gptq->gram + k * pitch + k + 1, 0, end - k - 1, change, SLAB, SLAB, 1, target + SLAB,
                              SLAB);
    }
    kernels->multiply_add(gptq->gram + start * pitch + end, pitch, unit_end - end, slab->basis, SLAB, SLAB, end - start,
                          slab->target + (end - unit) * SLAB, SLAB);
}

/* The codes of a slab and what is lost of its weights. */
static void load_errors(const struct gptq *gptq, struct slab *slab)
{
    load_codes(gptq, slab);
    for (size_t k = 0; k < gptq->cols; k++)
        for (size_t r = 0; r < SLAB; r++) {
            size_t at = k * SLAB + r, group = k / gptq->group_size * SLAB + r;
            slab->error[at] =
                (double)slab->w[at] - (double)qz_value(gptq->levels.value[slab->code[at]], slab->scale[group],
                                                       slab->zero[group], gptq->view.grid.zero);
        }
}

/* Units are as many whole groups as BLOCK columns hold, at least one. */
static void sweep(struct gptq *gptq, struct slab *slab)
{
    size_t n = gptq->cols, size = gptq->group_size;
    load_errors(gptq, slab);
    for (unsigned i = 0; i < gptq->sweeps; i++)
        for (size_t unit = 0, unit_end; unit < n && !qz_stop_asked(&gptq->stop); unit = unit_end) {
            unit_end = n - unit < gptq->widest ? n : unit + gptq->widest;
            memset(slab->target, 0, (unit_end - unit) * SLAB * sizeof *slab->target);
            for (size_t k = unit; k < unit_end; k += BLOCK)
                multiply_block(gptq, slab, n, k, qz_least(BLOCK, unit_end - k), slab->target + (k - unit) * SLAB);
            for (size_t start = unit; start < unit_end; start += size) {
                size_t end = unit_end - start < size ? unit_end : start + size;
                refit(gptq, slab, start / size, unit, unit_end, 0);
                if (gptq->view.grid.zero == QZ_ZERO_OFFSET)
                    refit(gptq, slab, start / size, unit, unit_end, 1);
                for (size_t k = start; k < end; k += BLOCK)
                    choose_again(gptq, slab, k, end - k < BLOCK ? end : k + BLOCK, unit, unit_end);
            }
        }
    store_codes(gptq, slab);
    move_groups(gptq, slab, 1);
}

/* Counts weights beyond the ends of the code range by more than half a step, in the encoder's arithmetic. */
static void count(struct gptq *gptq, struct slab *slab)
{
    const struct qz_grid *grid = &gptq->view.grid;
    uint64_t clipped = 0;
    for (size_t r = 0; r < slab->rows; r++)
        for (size_t k = 0; k < gptq->cols; k++) {
            size_t group = k / gptq->group_size * SLAB + r;
            float w = slab->w[k * SLAB + r], scale = slab->scale[group], zero = slab->zero[group];
            float inverse = qz_inverse_of(scale);
            if (scale != 0 && (inverse == 0.0f || !(fabsf(zero) <= 0x1p126f))) {
                size_t one = 0;
                qz_careful_code(w, scale, zero, grid, &one);
                clipped += one;
                continue;
            }
            float y = (grid->zero == QZ_ZERO_OFFSET ? w - zero : w) * inverse;
            if (grid->zero == QZ_ZERO_FLOAT)
                y = y + zero;
            if (grid->uniform)
                y = rintf(y) + (grid->zero == QZ_ZERO_UINT4 ? zero : 0.0f);
            clipped += grid->uniform ? y < (float)grid->lo || y > (float)grid->hi : y < grid->least || y > grid->most;
        }
    gptq->found[slab->row / SLAB].clipped = clipped;
}

/* The sum over a slab's rows v of v H v^T, v being what slab->error holds: H is symmetric, so what is below its
 * diagonal counts twice. Never negative, though H may not be quite what it claims to be. */
static double output_of(const struct gptq *gptq, const struct slab *slab)
{
    double rows[SLAB] = {0}, sum = 0.0;
    for (size_t start = 0; start < gptq->cols; start += BLOCK) {
        size_t some = qz_least(BLOCK, gptq->cols - start);
        const double *v = slab->error + start * SLAB;
        memset(slab->target, 0, some * SLAB * sizeof *slab->target);
        multiply_block(gptq, slab, start, start, some, slab->target);
        for (size_t i = 0; i < some * SLAB; i++)
            slab->target[i] *= 2.0;
        gptq->view.kernels->multiply_add(gptq->gram + start * gptq->pitch + start, gptq->pitch, some, v, SLAB, SLAB,
                                         some, slab->target, SLAB);
        for (size_t i = 0; i < some * SLAB; i += SLAB)
            for (size_t r = 0; r < SLAB; r++)
                rows[r] = fma(v[i + r], slab->target[i + r], rows[r]);
    }
    for (size_t r = 0; r < slab->rows; r++)
        sum += rows[r];
    return sum > 0 ? sum : 0.0;
}

static void measure(struct gptq *gptq, struct slab *slab)
{
    struct found *found = &gptq->found[slab->row / SLAB];
    load_errors(gptq, slab);
    found->error = output_of(gptq, slab);
    for (size_t i = 0; i < gptq->cols * SLAB; i++)
        slab->error[i] = (double)slab->w[i];
    found->signal = output_of(gptq, slab);
}

/* Every slab_count-th slab of rows. */
static void run_slabs(void *context, size_t i)
{
    struct gptq *gptq = context;
    struct slab *slab = &gptq->slabs[i];
    for (uint64_t row = i * SLAB; row < gptq->view.rows && !qz_stop_asked(&gptq->stop);
         row += gptq->slab_count * SLAB) {
        slab->row = row;
        slab->rows = qz_least(SLAB, gptq->view.rows - row);
        load_slab(gptq, slab);
        gptq->work(gptq, slab);
    }
}

static void run_all(struct gptq *gptq, void (*work)(struct gptq *, struct slab *))
{
    gptq->work = work;
    qz_pool_run(gptq->pool, gptq->slab_count, run_slabs, gptq);
}

/* ---- the whole ----------------------------------------------------------------------------------------------- */

/* Memory in one piece, carved where cache lines begin: `count` elements each time. Without memory only its size is
 * added up, so the same calls say how much is needed. */
struct carving {
    char *memory;
    size_t used;
};

static void *carve(struct carving *from, size_t count, size_t size)
{
    void *piece = from->memory ? from->memory + from->used : NULL;
    from->used += (size_t)qz_divide_up((uint64_t)count * size, 64) * 64;
    return piece;
}

static void carve_all(struct gptq *gptq, struct carving *from)
{
    size_t n = gptq->cols, unit = gptq->widest > BLOCK ? gptq->widest : BLOCK;
    gptq->gram = carve(from, n * gptq->pitch, sizeof *gptq->gram);
    gptq->panel = carve(from, PANEL * gptq->pitch, sizeof *gptq->panel);
    gptq->minus = carve(from, PANEL * gptq->pitch, sizeof *gptq->minus);
    gptq->power = carve(from, n, sizeof *gptq->power);
    gptq->left = carve(from, n, sizeof *gptq->left);
    gptq->weights = carve(from, n, sizeof *gptq->weights);
    gptq->order = carve(from, n, sizeof *gptq->order);
    gptq->slabs = carve(from, gptq->slab_count, sizeof *gptq->slabs);
    gptq->found = carve(from, (size_t)qz_divide_up(gptq->view.rows, SLAB), sizeof *gptq->found);
    for (size_t i = 0; i < gptq->slab_count; i++) {
        struct slab slab;
        slab.w = carve(from, n * SLAB, sizeof *slab.w);
        slab.scale = carve(from, gptq->groups * SLAB, sizeof *slab.scale);
        slab.zero = carve(from, gptq->groups * SLAB, sizeof *slab.zero);
        slab.inverse = carve(from, gptq->groups * SLAB, sizeof *slab.inverse);
        slab.error = carve(from, n * SLAB, sizeof *slab.error);
        slab.target = carve(from, unit * SLAB, sizeof *slab.target);
        slab.basis = carve(from, unit * SLAB, sizeof *slab.basis);
        slab.image = carve(from, unit * SLAB, sizeof *slab.image);
        slab.part = carve(from, DEPTH * BLOCK, sizeof *slab.part);
        slab.code = carve(from, n * SLAB, sizeof *slab.code);
        if (from->memory)
            gptq->slabs[i] = slab;
    }
}

/* Sums of what comes out for inputs with this Gram matrix. */
static void measure_all(struct gptq *gptq, const qz_matrix *source, double *signal, double *error)
{
    read_gram(gptq, source, NULL);
    run_all(gptq, measure);
    for (size_t i = 0; i < (size_t)qz_divide_up(gptq->view.rows, SLAB) && !qz_stop_asked(&gptq->stop); i++) {
        *signal += gptq->found[i].signal;
        *error += gptq->found[i].error;
    }
}

/* Scales that decode to nothing finite are the encoder's to refuse; here no code could be chosen for them. */
static qz_result check_all(struct gptq *gptq, qz_detail *detail)
{
    run_all(gptq, check);
    for (size_t i = 0; i < (size_t)qz_divide_up(gptq->view.rows, SLAB) && !qz_stop_asked(&gptq->stop); i++)
        if (gptq->found[i].bad_group != UINT64_MAX) {
            if (detail) {
                detail->group = gptq->found[i].bad_group;
                detail->value = gptq->found[i].bad_value;
            }
            return QZ_ERROR_SCALE;
        }
    return QZ_OK;
}

static qz_result solve(struct gptq *gptq, const qz_scheme *scheme, const qz_matrix *w, const qz_matrix *gram,
                       const qz_gptq_options *options, const qz_packed *dst, qz_stats *stats, qz_detail *detail)
{
    qz_stats encoded = QZ_STATS_INIT;
    qz_result result = options->holdout ? read_gram(gptq, options->holdout, detail) : QZ_OK;
    if (result != QZ_OK) {
        if (detail)
            detail->count = 1;
        return result;
    }
    result = read_gram(gptq, gram, detail);
    if (result != QZ_OK)
        return result;
    gptq->damping = options->damping < 0 ? find_damping(gptq, options->examples) : options->damping;
    enlarge(gptq);
    result = factor(gptq, gram, options->act_order, detail);
    if (result == QZ_OK)
        result = find_scales(gptq, scheme, w, options, dst, &encoded, detail);
    if (result == QZ_OK)
        result = check_all(gptq, detail);
    if (result != QZ_OK)
        return result;
    run_all(gptq, feed_back);
    if (gptq->sweeps > 0) {
        read_gram(gptq, gram, NULL);
        enlarge(gptq);
        run_all(gptq, sweep);
    }
    if (options->outcome) {
        qz_gptq_outcome outcome = {.size = sizeof outcome, .damping = gptq->damping};
        measure_all(gptq, gram, &outcome.output_signal, &outcome.output_error);
        if (options->holdout)
            measure_all(gptq, options->holdout, &outcome.holdout_signal, &outcome.holdout_error);
        *options->outcome = outcome;
    }
    if (stats)
        run_all(gptq, count);
    if (qz_stop_asked(&gptq->stop))
        return QZ_ERROR_STOPPED;
    if (!stats)
        return QZ_OK;
    stats->size = sizeof *stats;
    result = qz_compare(scheme, dst, w, gptq->pool, stats, detail);
    stats->zeroed_groups = encoded.zeroed_groups;
    stats->subnormal_scales = encoded.subnormal_scales;
    for (size_t i = 0; i < (size_t)qz_divide_up(w->rows, SLAB); i++)
        stats->clipped += gptq->found[i].clipped;
    return result;
}

/* The options of a caller, who may have been built when there were fewer. 0: they have no meaning. */
static int take_options(const qz_gptq_options *given, qz_gptq_options *options)
{
    *options = (qz_gptq_options)QZ_GPTQ_OPTIONS_INIT;
    if (!given)
        return 1;
    if (given->size != sizeof *options && given->size != offsetof(qz_gptq_options, examples))
        return 0;
    memcpy(options, given, given->size);
    return (options->damping >= 0 && qz_is_finite_f64(options->damping)) || options->damping == QZ_DAMPING_FOLLOWS;
}

static int is_gram(const qz_matrix *gram, const qz_matrix *w)
{
    return qz_is_array_dtype(gram->dtype) && gram->rows == w->cols && gram->cols == w->cols;
}

static QZ_NOINLINE qz_result gptq(const qz_scheme *scheme, const qz_matrix *w, const qz_matrix *gram,
                                  const qz_gptq_options *given, const qz_packed *dst, qz_stats *stats,
                                  qz_detail *detail)
{
    qz_gptq_options taken;
    const qz_gptq_options *options = &taken;
    if (!take_options(given, &taken) || qz_scheme_check(scheme, options->method) != QZ_OK || !is_gram(gram, w) ||
        (options->holdout && !is_gram(options->holdout, w)))
        return QZ_ERROR_ARGUMENT;
    if (!qz_matrix_check(gram) || (options->holdout && !qz_matrix_check(options->holdout)) ||
        w->cols > SIZE_MAX / 1024 / SLAB || w->cols > SIZE_MAX / 16 / (w->cols + 1024))
        return QZ_ERROR_SIZE;
    const struct qz_kernels *kernels = qz_kernels_active();
    struct gptq all = {.w = w, .pool = options->pool, .sweeps = options->sweeps};
    all.cols = (size_t)w->cols;
    qz_stop_begin(&all.stop, options->stop, options->stop_context);
    if (!kernels)
        return QZ_ERROR_KERNELS;
    if (options->outcome)
        *options->outcome = (qz_gptq_outcome){.size = sizeof(qz_gptq_outcome)};
    if (w->rows == 0 || w->cols == 0)
        return find_scales(&all, scheme, w, options, dst, stats, detail);
    qz_view_make(&all.view, kernels, scheme, dst, w->rows, w->cols, w->cols);
    all.view.grid = qz_scheme_grid(scheme, options->method == QZ_DEFAULT ? scheme->method : options->method);
    all.group_size = (size_t)all.view.group_size;
    all.groups = (size_t)all.view.row_groups;
    all.widest = all.group_size < BLOCK ? BLOCK / all.group_size * all.group_size : all.group_size;
    all.pitch = (all.cols + 15) / 16 * 16 + 8; /* an odd number of cache lines */
    all.slab_count = qz_least(qz_divide_up(w->rows, SLAB), qz_pool_threads(options->pool));
    all.levels = make_levels(&all.view.grid);

    struct carving size = {NULL, 0}, memory = {NULL, 0};
    carve_all(&all, &size);
    void *start = qz_aligned_alloc(64, size.used);
    if (!start)
        return QZ_ERROR_MEMORY;
    memory.memory = start;
    carve_all(&all, &memory);
    qz_result result = solve(&all, scheme, w, gram, options, dst, stats, detail);
    qz_aligned_free(start);
    return result;
}

qz_result qz_gptq(const qz_scheme *scheme, const qz_matrix *w, const qz_matrix *gram, const qz_gptq_options *options,
                  const qz_packed *dst, qz_stats *stats, qz_detail *detail)
{
    qz_fp_state state = qz_fp_enter();
    qz_result result = gptq(scheme, w, gram, options, dst, stats, detail);
    qz_fp_leave(state);
    return result;
}
