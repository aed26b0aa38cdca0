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

/* The nearest integer of 0..63: adding 1.5 * 2^23 leaves no room for a fraction. */
static float nearest_u6(float x)
{
    x = x > 0 ? x : 0;
    x = x < 63 ? x : 63;
    float shifted = x + 0x1.8p23f;
    return shifted - 0x1.8p23f;
}

/* A float16 number near x, at most its largest. */
static float super_scale(float x)
{
    float scale = qz_f32_from_f16(qz_f16_from_f32(x));
    return scale < 65504 ? scale : 65504;
}

/* The integers of one group. */
static void integers(const struct way *way, float scale, float minimum, float slope, float *sc, float *mn, float *d,
                     float *missing)
{
    *mn = nearest_u6(minimum * way->to_minimum);
    *d = *mn * way->minimum - minimum;
    float wanted = scale + slope * *d;
    *sc = nearest_u6(wanted * way->to_scale);
    *missing = *sc * way->scale - wanted;
}

static float way_error(const struct way *way, size_t groups, const float *scale, const float *minimum,
                       const float *curve, const float *slope, const float *rest)
{
    float sum[8] = {0};
    for (size_t g = 0; g < groups; g += 8)
        for (size_t j = 0; j < 8; j++) {
            float sc, mn, d, missing;
            integers(way, scale[g + j], minimum[g + j], slope[g + j], &sc, &mn, &d, &missing);
            sum[j] += curve[g + j] * (missing * missing) + rest[g + j] * (d * d);
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
    /* The largest becomes 63, 62 ... 59, whatever suits all groups best: first the minima are tried, then the scales. */
    struct way best = {.scale = super_scale(most_scale / 63), .minimum = super_scale(most_minimum / 63)};
    best.to_scale = inverse(best.scale);
    best.to_minimum = inverse(best.minimum);
    float least = way_error(&best, groups, scale, minimum, curve, slope, rest);
    for (int i = 2; i < 10; i++) {
        struct way way = best;
        if (i % 2 == 0) {
            way.minimum = super_scale(most_minimum / (float)(63 - i / 2));
            way.to_minimum = inverse(way.minimum);
        } else {
            way.scale = super_scale(most_scale / (float)(63 - i / 2));
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
        float s, m, d, missing;
        integers(&best, scale[g], minimum[g], slope[g], &s, &m, &d, &missing);
        sc[g] = (uint8_t)s;
        mn[g] = (uint8_t)m;
    }
}
