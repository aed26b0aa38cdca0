/*
 * affine.c - what the groups of a super block share: two super scales for their scales and minima (affine.h)
 *
 * The same code on every machine, written in eights so that compilers can make vectors of it.
 */
#include "affine.h"
#include "number.h"

/* One way to store a super block: what the super scales are, and their inverses. */
struct way {
    float scale, minimum, to_scale, to_minimum;
};

static float inverse(float x)
{
    return x > 0 ? 1 / x : 0;
}

/* The nearest integer of 0..63. Adding 1.5 * 2^23 leaves no room for a fraction, and the bits of such sums, taken for
 * integers, are in order; with comparisons of integers alone compilers make vectors of it. */
static int32_t nearest_u6(float x)
{
    const int32_t zero = 0x4b400000;
    int32_t bits = (int32_t)qz_bits(x + 0x1.8p23f);
    bits = bits > zero ? bits : zero;
    bits = bits < zero + 63 ? bits : zero + 63;
    return bits - zero;
}

/* A float16 number near x, at most its largest. */
static float super_scale(float x)
{
    float scale = qz_f32_from_f16(qz_f16_from_f32(x));
    return scale < 65504 ? scale : 65504;
}

/* The integers of one group, and how far from the best they leave the minimum and then the scale. */
struct choice {
    int32_t scale, minimum;
    float scale_off, minimum_off;
};

static inline struct choice choose(const struct way *way, float scale, float minimum, float slope)
{
    struct choice c;
    c.minimum = nearest_u6(minimum * way->to_minimum);
    c.minimum_off = (float)c.minimum * way->minimum - minimum;
    float wanted = scale + slope * c.minimum_off;
    c.scale = nearest_u6(wanted * way->to_scale);
    c.scale_off = (float)c.scale * way->scale - wanted;
    return c;
}

static float way_error(const struct way *way, size_t groups, const float *scale, const float *minimum,
                       const float *curve, const float *slope, const float *rest)
{
    float sum[8] = {0};
    for (size_t g = 0; g < groups; g += 8)
        for (size_t j = 0; j < 8; j++) {
            struct choice c = choose(way, scale[g + j], minimum[g + j], slope[g + j]);
            sum[j] += curve[g + j] * (c.scale_off * c.scale_off) + rest[g + j] * (c.minimum_off * c.minimum_off);
        }
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

void qz_affine_super(size_t groups, const float *scale, const float *minimum, const float *curve, const float *slope,
                     const float *rest, float super[2], uint8_t *sc, uint8_t *mn)
{
    float most_scale = 0, most_minimum = 0;
    for (size_t g = 0; g < groups; g++) {
        most_scale = scale[g] > most_scale ? scale[g] : most_scale;
        most_minimum = minimum[g] > most_minimum ? minimum[g] : most_minimum;
    }
    /* The largest becomes 63, 62 ... 59, whatever suits all groups best: first the minima are tried, then the scales.
     */
    struct way best = {.scale = super_scale(most_scale / 63), .minimum = super_scale(most_minimum / 63)};
    best.to_scale = inverse(best.scale);
    best.to_minimum = inverse(best.minimum);
    float least = way_error(&best, groups, scale, minimum, curve, slope, rest);
    for (int i = 2; i < 10; i++) {
        struct way way = best;
        int becomes = 63 - i / 2;
        if (i % 2 == 0) {
            way.minimum = super_scale(most_minimum / (float)becomes);
            way.to_minimum = inverse(way.minimum);
        } else {
            way.scale = super_scale(most_scale / (float)becomes);
            way.to_scale = inverse(way.scale);
        }
        float error = way_error(&way, groups, scale, minimum, curve, slope, rest);
        if (error < least) {
            least = error;
            best = way;
        }
    }
    super[0] = best.scale;
    super[1] = best.minimum;
    for (size_t g = 0; g < groups; g++) {
        struct choice c = choose(&best, scale[g], minimum[g], slope[g]);
        sc[g] = (uint8_t)c.scale;
        mn[g] = (uint8_t)c.minimum;
    }
}
