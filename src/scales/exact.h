/*
 * exact.h - finds the best scale of a group, with a proof: no scale that can be stored has a smaller error
 *
 * The error of a scale s is the sum of w (x - s q)^2, where s q is the decoded value: for each element, q is the value
 * of the table with the least error. exact.c explains the method and proves it.
 */
#ifndef QZ_EXACT_H
#define QZ_EXACT_H

#include "../packed/scale_type.h"

#include <stddef.h>
#include <stdint.h>

struct qz_exact {
    struct qz_levels levels;
    int uniform; /* values are the integers lo..hi, at most 16 with 0 among them; otherwise `sorted` */
    int lo, hi;
    int zero4;        /* uniform: values are -z..15-z, and the best z in 0..15 is part of the result */
    float sorted[16]; /* finite values, ascending, not all of them 0 */
};

/* The group: n values, and weights >= 0 or none, all finite. Weights that are 0 wherever x is not count as 1. Short
 * ones lie in one piece. Long ones may come in pieces: `piece` returns the address of element `start` and those after
 * it, *n of them (1..QZ_EXACT_PIECE; on entry the number of elements that are left), and sets *w to their weights, or
 * leaves it alone when there are none. What it returns is read before the next call. Pieces are asked for in order,
 * from the first to the last, many times over. */
enum { QZ_EXACT_PIECE = 4096 };

struct qz_exact_source {
    const float *x, *w; /* w may be NULL */
    uint64_t n;
    const float *(*piece)(void *context, uint64_t start, size_t *n, const float **w); /* NULL: x and w hold all */
    void *context;
    int unweighted; /* 1: there are no weights, whatever w and `piece` say */
};

/* The elements from `start` on, *n of them and at most QZ_EXACT_PIECE, and their weights or NULL. */
const float *qz_source_piece(const struct qz_exact_source *source, uint64_t start, size_t *n, const float **w);

/* Sums grow side by side, element i in lane i % QZ_EXACT_LANES. */
enum { QZ_EXACT_LANES = 16 };

static inline double qz_sum_exact_lanes(const float lane[QZ_EXACT_LANES])
{
    float half[8], quarter[4];
    for (int l = 0; l < 8; l++)
        half[l] = lane[l] + lane[l + 8];
    for (int l = 0; l < 4; l++)
        quarter[l] = half[l] + half[l + 4];
    return ((double)quarter[0] + (double)quarter[2]) + ((double)quarter[1] + (double)quarter[3]);
}

enum { QZ_EXACT_CHUNK = 256 }; /* elements that are added up in float32 */

/* The error of n values, filled up to whole rounds of lanes by weights of 0, with the nearest of scale * q + offset for
 * q in lo..hi. (x - offset) / scale is clamped first, so that adding and subtracting 1.5 * 2^23 rounds it to an integer.
 * With an offset that is the constant 0 there is no subtraction. */
static inline double qz_exact_uniform_error(const float *x, const float *w, size_t n, float scale, float offset,
                                            float lo, float hi)
{
    const float inverse = 1.0f / scale, round = 0x1.8p23f;
    double total = 0;
    for (size_t start = 0; start < n; start += QZ_EXACT_CHUNK) {
        size_t end = n - start < QZ_EXACT_CHUNK ? n : start + QZ_EXACT_CHUNK;
        float lane[QZ_EXACT_LANES] = {0};
        for (size_t i = start; i < end; i += QZ_EXACT_LANES)
            for (size_t l = 0; l < QZ_EXACT_LANES; l++) {
                float t = x[i + l] - offset;
                float y = t * inverse;
                y = y > lo ? y : lo;
                y = y < hi ? y : hi;
                float q = (y + round) - round;
                float product = scale * q;
                float difference = t - product;
                float square = difference * difference;
                lane[l] += square * w[i + l];
            }
        total += qz_sum_exact_lanes(lane);
    }
    return total;
}

struct qz_exact_result {
    float scale;   /* level * super in float32; 0 if nothing is better than zeros */
    int32_t level; /* negative for negative levels */
    int zero;      /* zero4: -(value of code 0) */
    double error;  /* of this scale */
    double bound;  /* no scale has a smaller error, but for what float32 makes of decoded values */
};

/*
 * The best scale. Scales are levels times `super`, rounded to float32; it is 1 where scales stand for themselves.
 * `start` is a scale (of any sign) that is thought good, or 0: it makes the search faster.
 *
 * The error is within 2^-16 of the least one, and so is `bound`; with float32 scales, of which there are too many to
 * tell them all apart, within 2^-13 (0.0005 dB). Of these 100,000 are looked at, which are too few only where weights
 * differ by more than float32 sums can hold: `bound` is 0 then. Elements whose w x^2 is below 2^-100 times the product
 * of the largest w and x^2 may count for nothing. The group may be of any length; the stack that is needed is less than
 * 64 KiB. Results do not depend on compiler or machine.
 */
void qz_exact_scale(const struct qz_exact *rule, const struct qz_exact_source *source, float super, float start,
                    struct qz_exact_result *result);

/* The error of a scale, summed in double. */
double qz_exact_error(const struct qz_exact *rule, const struct qz_exact_source *source, float scale, int zero);

#endif
