/*
 * nearest_template.h - sums of products and of squared differences in double; part of simd_template.h
 */

enum { DOT_VECTORS = 8 / VD_LANES };

static TARGET double dot(const float *x, const float *y, size_t n)
{
    double lane[QZ_WEIGHTED_LANES];
    VD sum[DOT_VECTORS];
    size_t i = 0;
    for (size_t v = 0; v < DOT_VECTORS; v++)
        sum[v] = vd_set1(0.0);
    for (; i + QZ_WEIGHTED_LANES <= n; i += QZ_WEIGHTED_LANES)
#pragma GCC unroll 8
        for (size_t v = 0; v < DOT_VECTORS; v++)
            sum[v] = vd_fma(vd_from_f32(x + i + v * VD_LANES), vd_from_f32(y + i + v * VD_LANES), sum[v]);
    for (size_t v = 0; v < DOT_VECTORS; v++)
        vd_store(lane + v * VD_LANES, sum[v]);
    for (size_t l = 0; i + l < n; l++)
        lane[l] += (double)x[i + l] * (double)y[i + l];
    return qz_weighted_lanes(lane);
}

static TARGET double distance(const float *x, const float *y, size_t n)
{
    double lane[QZ_WEIGHTED_LANES];
    VD sum[DOT_VECTORS];
    size_t i = 0;
    for (size_t v = 0; v < DOT_VECTORS; v++)
        sum[v] = vd_set1(0.0);
    for (; i + QZ_WEIGHTED_LANES <= n; i += QZ_WEIGHTED_LANES)
#pragma GCC unroll 8
        for (size_t v = 0; v < DOT_VECTORS; v++) {
            VD difference = vd_sub(vd_from_f32(x + i + v * VD_LANES), vd_from_f32(y + i + v * VD_LANES));
            sum[v] = vd_fma(difference, difference, sum[v]);
        }
    for (size_t v = 0; v < DOT_VECTORS; v++)
        vd_store(lane + v * VD_LANES, sum[v]);
    for (size_t l = 0; i + l < n; l++)
        lane[l] = qz_squared_difference(x[i + l], y[i + l], lane[l]);
    return qz_weighted_lanes(lane);
}
