/*
 * damping.c - how much correlations of inputs are believed
 *
 * Inputs are divided by the root of their mean square: R is the Gram matrix with a diagonal of ones. Multiplying the
 * diagonal with 1 + d is, but for a factor, to multiply all correlations with 1 / (1 + d): to shrink them towards
 * none.
 *
 * The shrinkage of least expected square error (Ledoit and Wolf; towards the diagonal: Schaefer and Strimmer) is d = v
 * / t, where t is the sum of the squares of the true correlations and v that of the variances of what was found. For
 * normal inputs v is (pairs + t) / count, and t follows from the sum of squares that was found, whose mean is t + v:
 * the rule is OAS (Chen, Wiesel, Eldar and Hero) with another target. Where examples differ in size, or come in runs
 * that resemble each other, v is larger by a factor (Ollila and Raninen), which is taken to be 2: two examples count
 * as one. This is the least damping.
 *
 * It is not enough where inputs have means, as after a ReLU: the mean is an eigenvector that has most of t and needs
 * no shrinkage, and the other correlations may all be chance. The same rule for what is left of R without its
 * strongest eigenvector is the most damping. Cross-validation chooses between the two. GPTQ makes up for the error of
 * an input by those that come later: as if it predicted the input from them by a ridge regression with the penalty d.
 * So what is left of the output's error for unseen inputs is what the regression leaves of inputs that it has not
 * seen. Generalized cross-validation (Golub, Heath and Wahba) estimates that by
 *
 *   (what is left of those at hand) / (1 - degrees of freedom / count)^2
 *
 * Of a regression of one of m inputs on the m - 1 others, both follow from K = (R + d I)^-1 of these m. On average
 * over the inputs, with k1 and k2 the means of the diagonals of K and K^2,
 *
 *   left = (k1 - d k2) / k1^2      degrees of freedom = m - 1 - d (m k1 - k2 / k1)
 *
 * An input that is visited early has many others after it, one that is visited late has few. So the score of d is the
 * mean over SUBSETS random subsets of the inputs, of which subset j takes a share of (j + 1/2) / SUBSETS. No matrix is
 * inverted: for a vector z of random signs, z K z / m and z K^2 z / m estimate k1 and k2, and STEPS steps of Lanczos
 * make of R and z a tridiagonal matrix T, of which the first elements of (T + d I)^-1 and (T + d I)^-2 are nearly
 * these (Bai, Fahey and Golub). T serves all d. One more probe has all inputs: the largest eigenvalue of its T is
 * nearly that of R.
 *
 * All is in double and in a fixed order, so the result is the same for every kernel set and number of threads.
 */
#include "damping.h"
#include "base/number.h"
#include "base/small.h"

#include <math.h>

enum {
    SUBSETS = 7,
    PROBES = SUBSETS + 1, /* the last one has all inputs */
    STEPS = 16,
    ROWS = 64,   /* of the matrix that a thread takes at once */
    DEPTH = 256, /* terms of a sum between two visits of its memory */
    FEW = 128,   /* of fewer inputs there are more rounds, for a few signs estimate badly */
    TRIES = 81   /* 2^-10 to 2^10, four to a power of two */
};

/* Vectors hold PROBES numbers for each input, but for `image`, which has those of a probe together. */
struct probes {
    const struct qz_inputs *inputs;
    double *scale; /* 1 / root of the power; 0 where a subset does without the input */
    double *at, *before, *scaled, *image;
    double count[PROBES]; /* inputs of the subset */
    double diagonal[STEPS][PROBES], beside[STEPS][PROBES];
};

#define LEAST 0x1p-10
#define MOST  0x1p10 /* correlations count for nothing */

static double tried(size_t t)
{
    static const double parts[4] = {1.0, 0x1.306fe0a31b715p+0, 0x1.6a09e667f3bcdp+0, 0x1.ae89f995ad3adp+0};
    return ldexp(parts[t % 4], (int)(t / 4) - 10);
}

static int is_alive(const struct qz_inputs *inputs, size_t i)
{
    return inputs->gram[i * inputs->pitch + i] >= QZ_LEAST_POWER;
}

/* Draws the subsets and the signs of a round. */
static void begin(struct probes *probes, uint64_t turn)
{
    const struct qz_inputs *inputs = probes->inputs;
    size_t n = inputs->count;
    for (size_t j = 0; j < PROBES; j++)
        probes->count[j] = 0.0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < PROBES; j++) {
            uint64_t random = qz_splitmix(0, (turn * n + i) * PROBES + j + 1);
            int taken = is_alive(inputs, i) && (random >> 32) * (2 * SUBSETS) < (uint64_t)(2 * j + 1) << 32;
            probes->scale[i * PROBES + j] = taken ? 1.0 / sqrt(inputs->gram[i * inputs->pitch + i]) : 0.0;
            probes->at[i * PROBES + j] = taken ? (random & 1 ? 1.0 : -1.0) : 0.0;
            probes->before[i * PROBES + j] = 0.0;
            probes->count[j] += taken;
        }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < PROBES; j++)
            probes->at[i * PROBES + j] /= probes->count[j] > 0 ? sqrt(probes->count[j]) : 1.0;
}

/* image = the matrix times `scaled`, of some rows. */
static void multiply(void *context, size_t block)
{
    const struct probes *probes = context;
    const struct qz_inputs *inputs = probes->inputs;
    size_t n = inputs->count, pitch = inputs->pitch, first = block * ROWS, rows = qz_least(ROWS, n - first);
    if (qz_stop_asked(inputs->stop))
        return;
    for (size_t j = 0; j < PROBES; j++)
        memset(probes->image + j * pitch + first, 0, rows * sizeof *probes->image);
    for (size_t k = 0; k < n; k += DEPTH)
        inputs->kernels->multiply_add(probes->scaled + k * PROBES, PROBES, PROBES, inputs->gram + k * pitch + first,
                                      pitch, rows, qz_least(DEPTH, n - k), probes->image + first, pitch);
}

/* One step of Lanczos for all probes. */
static void advance(struct probes *probes, size_t step)
{
    size_t n = probes->inputs->count, pitch = probes->inputs->pitch;
    const double none[PROBES] = {0}, *last = step ? probes->beside[step - 1] : none;
    double along[PROBES] = {0}, squares[PROBES] = {0}, inverse[PROBES];
    double *at = probes->at, *next = probes->before;
    for (size_t i = 0; i < n * PROBES; i++)
        probes->scaled[i] = probes->scale[i] * at[i];
    qz_pool_run(probes->inputs->pool, (size_t)qz_divide_up(n, ROWS), multiply, probes);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < PROBES; j++) {
            size_t k = i * PROBES + j;
            next[k] = probes->scale[k] * probes->image[j * pitch + i] - last[j] * next[k];
            along[j] += at[k] * next[k];
        }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < PROBES; j++) {
            next[i * PROBES + j] -= along[j] * at[i * PROBES + j];
            squares[j] += next[i * PROBES + j] * next[i * PROBES + j];
        }
    for (size_t j = 0; j < PROBES; j++) {
        double length = sqrt(squares[j]);
        int more = length > 0x1p-40; /* else there is nothing beyond but what rounding has left */
        probes->diagonal[step][j] = along[j];
        probes->beside[step][j] = more ? length : 0.0;
        inverse[j] = more ? 1.0 / length : 0.0;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < PROBES; j++)
            next[i * PROBES + j] *= inverse[j];
    probes->at = next;
    probes->before = at;
}

/* Scores that are none, finite so that sums are. */
#define TOO_FEW   1e100  /* examples, to tell */
#define NO_INPUTS -1e200 /* have such a matrix: GPTQ refuses it, with no more damping than this */

/* What a regression with this damping leaves of unseen inputs, where all of them were 1. */
static double score(const struct probes *probes, size_t j, double damping, double examples)
{
    double pivot[STEPS];
    for (size_t s = STEPS; s-- > 0;) {
        double beside = probes->beside[s][j];
        pivot[s] = probes->diagonal[s][j] + damping - (s + 1 < STEPS ? beside * beside / pivot[s + 1] : 0.0);
        if (!(pivot[s] > 0))
            return NO_INPUTS;
    }
    double k1 = 1.0 / pivot[0], k2 = k1 * k1, element = k1, count = probes->count[j];
    for (size_t s = 1; s < STEPS; s++) {
        element *= -probes->beside[s - 1][j] / pivot[s];
        k2 += element * element;
    }
    double error = (k1 - damping * k2) / (k1 * k1), freedom = count - 1.0 - damping * (count * k1 - k2 / k1);
    double left = 1.0 - freedom / examples;
    return left > 0 ? error / (left * left) : TOO_FEW;
}

/* The largest eigenvalue of T of all inputs: above it, all pivots of x I - T are positive. */
static double largest(const struct probes *probes)
{
    double low = 0.0, high = 0.0;
    for (size_t s = 0; s < STEPS; s++)
        high = fmax(high, fabs(probes->diagonal[s][SUBSETS]) + 2.0 * probes->beside[s][SUBSETS]);
    high *= 2.0; /* above all sums of the magnitudes in a row */
    for (int i = 0; i < 50; i++) {
        double x = 0.5 * (low + high), pivot = 1.0;
        for (size_t s = STEPS; s-- > 0 && pivot > 0;) {
            double beside = s + 1 < STEPS ? probes->beside[s][SUBSETS] : 0.0;
            pivot = x - probes->diagonal[s][SUBSETS] - beside * beside / pivot;
        }
        *(pivot > 0 ? &high : &low) = x;
    }
    return high;
}

/* The sum of the squares of all correlations between two inputs. */
static double sum_squares(const struct qz_inputs *inputs, double *unit)
{
    size_t n = inputs->count;
    double squares = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double *row = inputs->gram + i * inputs->pitch;
        double sum = 0.0;
        unit[i] = is_alive(inputs, i) ? 1.0 / sqrt(row[i]) : 0.0;
        for (size_t j = 0; j < i; j++) {
            double correlation = row[j] * unit[i] * unit[j];
            sum = fma(correlation, correlation, sum);
        }
        squares += sum;
    }
    return squares;
}

/* That shrinks correlations, of which this is the mean square, with the least expected error. */
static double shrinkage(double square, double count)
{
    double t = (square - 1.0 / count) / (1.0 + 1.0 / count), d = (1.0 + 1.0 / t) / count;
    return t > 0 && d < MOST ? fmax(d, LEAST) : MOST;
}

/* The damping of the least score. */
static double cross_validate(const double *scores)
{
    size_t best = TRIES - 1;
    for (size_t t = TRIES - 1; t-- > 0;)
        if (scores[t] < scores[best])
            best = t;
    return tried(best);
}

double qz_damping(const struct qz_inputs *inputs, uint64_t examples, double *room)
{
    size_t each = inputs->count * PROBES, alive = 0;
    double scores[TRIES] = {0}, strongest = 0.0;
    struct probes probes = {.inputs = inputs, .scale = room, .at = room + each, .before = room + 2 * each};
    probes.scaled = room + 3 * each;
    probes.image = room + 4 * each;
    for (size_t i = 0; i < inputs->count; i++)
        alive += (size_t)is_alive(inputs, i);
    if (alive < 2)
        return 0.0; /* nothing to shrink */
    double n = (double)alive, pairs = 0.5 * n * (n - 1.0), count = 0.5 * (double)(examples ? examples : alive);
    double squares = sum_squares(inputs, room);
    for (uint64_t turn = 0; turn < 1 + FEW / alive; turn++) {
        begin(&probes, turn);
        for (size_t step = 0; step < STEPS; step++)
            advance(&probes, step);
        strongest = fmax(strongest, largest(&probes));
        for (size_t j = 0; j < SUBSETS; j++)
            for (size_t t = 0; t < TRIES && probes.count[j] > 0; t++)
                scores[t] += score(&probes, j, tried(t), count);
    }
    double others = 1.0 - strongest / n; /* what is left of each input's power, on average */
    double rest = 0.5 * (2.0 * squares + n - strongest * strongest - n * others * others) / (others * others);
    double least = shrinkage(squares / pairs, count), most = fmax(least, shrinkage(rest / pairs, count));
    return fmin(fmax(cross_validate(scores), least), most);
}
