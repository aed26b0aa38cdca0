/*
 * clip.h - replaces values that are not finite
 */
#ifndef QZ_CLIP_H
#define QZ_CLIP_H

#include "../base/number.h"

#include <float.h>
#include <math.h>

/* The range of values that may hold NaN (to become 0) and infinities (to become the largest finite magnitude). */
struct clip {
    float min, max;
    int nan, above, below;
};

static const struct clip clip_nothing = {INFINITY, -INFINITY, 0, 0, 0};

static inline void clip_measure(struct clip *clip, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (x[i] != x[i])
            clip->nan = 1;
        else if (x[i] > FLT_MAX)
            clip->above = 1;
        else if (x[i] < -FLT_MAX)
            clip->below = 1;
        else {
            clip->min = x[i] < clip->min ? x[i] : clip->min;
            clip->max = x[i] > clip->max ? x[i] : clip->max;
        }
    }
}

static inline float clip_limit(const struct clip *clip)
{
    if (clip->min > clip->max) /* nothing finite */
        return 0.0f;
    return clip->max > -clip->min ? clip->max : -clip->min;
}

/* Returns how many values were replaced. */
static inline uint64_t clip_apply(float *x, size_t n, float limit)
{
    uint64_t replaced = 0;
    for (size_t i = 0; i < n; i++)
        if (!qz_is_finite(x[i])) {
            x[i] = x[i] != x[i] ? 0.0f : x[i] > 0 ? limit : -limit;
            replaced++;
        }
    return replaced;
}

/* Cleans one whole group. */
static inline uint64_t clip_group(float *x, size_t n)
{
    struct clip clip = clip_nothing;
    clip_measure(&clip, x, n);
    return clip_apply(x, n, clip_limit(&clip));
}

#endif
