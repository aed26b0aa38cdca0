/*
 * tiles.h - groups that the drivers could hand to kernels: values, scales and zeros, or codes, of every kind of grid
 */
#ifndef QZ_TEST_TILES_H
#define QZ_TEST_TILES_H

#include "calls.h"
#include "packed/scheme.h"

static inline size_t groups_of(size_t n, size_t group_size)
{
    return (n - 1) / group_size + 1;
}

static inline struct qz_grid grid_kind(size_t i)
{
    qz_method method;
    qz_scheme scheme = scheme_kind(i, 1, &method);
    return qz_scheme_grid(&scheme, method);
}

static inline struct qz_fit rule_kind(size_t i)
{
    qz_method method;
    qz_scheme scheme = scheme_kind(i, 1, &method);
    struct qz_grid grid = qz_scheme_grid(&scheme, method);
    return qz_scheme_fit(&scheme, method, &grid);
}

struct tile {
    float x[QZ_TILE], min[QZ_TILE], max[QZ_TILE], scale[QZ_TILE], inverse[QZ_TILE], zero[QZ_TILE];
    uint8_t packed[QZ_TILE / 2];
};

/* Data fitted as the drivers do it: what needs the exact rule has become 0. */
static inline void fitted_tile(struct rng *rng, struct tile *tile, size_t kind, size_t n, size_t group_size)
{
    struct qz_fit rule = rule_kind(kind);
    fill_floats(rng, (enum data_kind)rng_below(rng, DATA_KINDS), tile->x, n);
    qz_kernels_scalar.group_range(tile->x, n, group_size, tile->min, tile->max);
    qz_kernels_scalar.fit(&rule, groups_of(n, group_size), tile->min, tile->max, tile->scale, tile->inverse,
                          tile->zero);
    for (size_t i = 0; i < n; i++) {
        size_t g = i / group_size;
        if (rule.zero == QZ_ZERO_NONE)
            tile->zero[g] = 0.0f;
        if (tile->inverse[g] == 0.0f)
            tile->x[i] = 0.0f;
        if (isinf(tile->scale[g]) || isinf(tile->zero[g]))
            tile->scale[g] = tile->zero[g] = 0.0f;
    }
}

/* Scales made up, and values at and around the thresholds between codes, inside and outside of the range. */
static inline void threshold_tile(struct rng *rng, struct tile *tile, size_t kind, size_t n, size_t group_size)
{
    struct qz_fit rule = rule_kind(kind);
    for (size_t i = 0; i < n; i++) {
        size_t g = i / group_size;
        if (i % group_size == 0) {
            tile->scale[g] = rng_below(rng, 2) ? power_of_two((int)rng_below(rng, 60) - 30) : rng_normal(rng) + 7.0f;
            if (rng_below(rng, 2))
                tile->scale[g] = -tile->scale[g];
            tile->inverse[g] = 1.0f / tile->scale[g];
            tile->zero[g] = rule.zero == QZ_ZERO_UINT4    ? (float)rng_below(rng, 16)
                            : rule.zero == QZ_ZERO_OFFSET ? rng_normal(rng) * tile->scale[g]
                                                          : 0.0f;
        }
        float steps = (float)((int)rng_below(rng, 80) - 40) * 0.5f;
        if (rng_below(rng, 64) == 0)
            steps *= 10000;
        float x = steps * tile->scale[g] + (rule.zero == QZ_ZERO_OFFSET ? tile->zero[g] : 0.0f);
        tile->x[i] = x == 0 ? x : float_of_bits(bits_of_float(x) + (uint32_t)rng_below(rng, 3) - 1);
    }
}

/* Any codes with any finite scales. */
static inline void decode_tile(struct rng *rng, struct tile *tile, size_t kind, size_t n, size_t group_size)
{
    size_t groups = groups_of(n, group_size);
    enum data_kind data = (enum data_kind)rng_below(rng, DATA_KINDS);
    fill_bytes(rng, tile->packed, n / 2 + n % 2);
    fill_floats(rng, data, tile->scale, groups);
    fill_floats(rng, data, tile->zero, groups);
    if (rule_kind(kind).zero == QZ_ZERO_UINT4)
        for (size_t g = 0; g < groups; g++)
            tile->zero[g] = (float)rng_below(rng, 16);
}

#endif
