/*
 * arrays_template.h - whole arrays: their range, codes and values; part of simd_template.h
 */

/* Elements before the next whole vector in memory, where loads are fastest: NumPy's arrays begin 16 bytes off, and a
 * load across two cache lines costs a third of the speed of memory. */
INLINE size_t before_aligned(const float *x)
{
    return (0 - (uintptr_t)x) / sizeof *x % LANES;
}

static TARGET int range_f32(const float *x, size_t n, float range[2])
{
    VF min = vf_set1(x[0]), max = min, zero = vf_set1(0.0f), check = zero;
    size_t i = 0;
    if (n >= 8 * LANES) {
        /* The first vector and the aligned ones after it may overlap: nothing is counted here. */
        VF first = vf_load(x), min1 = first, min2 = first, min3 = first, max1 = first, max2 = first, max3 = first;
        VF check1 = vf_fma(first, zero, check);
        for (i = before_aligned(x); i + 4 * LANES <= n; i += 4 * LANES) {
            VF a = vf_load(x + i), b = vf_load(x + i + LANES);
            VF c = vf_load(x + i + 2 * LANES), d = vf_load(x + i + 3 * LANES);
            min = vf_min(min, a), min1 = vf_min(min1, b), min2 = vf_min(min2, c), min3 = vf_min(min3, d);
            max = vf_max(max, a), max1 = vf_max(max1, b), max2 = vf_max(max2, c), max3 = vf_max(max3, d);
            /* 0 * x is 0 or, for NaN and infinity, NaN, which stays */
            check = vf_fma(a, zero, check), check1 = vf_fma(b, zero, check1);
            check = vf_fma(c, zero, check), check1 = vf_fma(d, zero, check1);
        }
        min = vf_min(vf_min(min, min1), vf_min(min2, min3));
        max = vf_max(vf_max(max, max1), vf_max(max2, max3));
        check = vf_add(check, check1);
    }
    for (; i < n; i += LANES) {
        VF v = n - i >= LANES ? vf_load(x + i) : vf_load_part(x + i, n - i, x[0]);
        min = vf_min(min, v);
        max = vf_max(max, v);
        check = vf_fma(v, zero, check);
    }
    range[0] = vf_hmin(min);
    range[1] = vf_hmax(max);
    return vm_any(vf_ne(check, check));
}

/* Fewer than LANES codes, or LANES. */
INLINE void codes_vector(const float *x, size_t n, VF middle, VF inverse, VF bias, VT next, int8_t *codes)
{
    int8_t bytes[LANES];
    VF v = n == LANES ? vf_load(x) : vf_load_part(x, n, x[0]);
    VI guess = vi_trunc(vf_fma(vf_sub(v, middle), inverse, bias));
    vi_to_i8(bytes, vi_add(vi_increment(vf_le(vt_lookup(next, guess), v), guess), vi_set1(-8)));
    memcpy(codes, bytes, n);
}

static TARGET void codes_f32(const float *x, size_t n, const struct qz_steps *steps, int8_t *codes)
{
    VF middle = vf_set1(steps->middle), inverse = vf_set1(steps->inverse), bias = vf_set1(steps->bias);
    VT next = vt_load(steps->next);
    size_t i = before_aligned(x);
    i = i < n ? i : n;
    if (i > 0)
        codes_vector(x, i, middle, inverse, bias, next, codes);
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        VI code[4];
        for (int j = 0; j < 4; j++) {
            VF v = vf_load(x + i + j * LANES);
            VI guess = vi_trunc(vf_fma(vf_sub(v, middle), inverse, bias));
            code[j] = vi_increment(vf_le(vt_lookup(next, guess), v), guess);
        }
        bytes_block(code, codes + i);
    }
    for (; i < n; i += LANES)
        codes_vector(x + i, n - i < LANES ? n - i : LANES, middle, inverse, bias, next, codes + i);
}

static TARGET int decode_f32(const int8_t *codes, size_t n, const float table[16], float *dst)
{
    VT values = vt_load(table);
    VI bad = vi_set1(0);
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        bad = bytes_strange(bad, codes + i);
        __builtin_prefetch(codes + i + 2048);
        for (int j = 0; j < 4; j++)
            vf_store(dst + i + j * LANES, vt_lookup(values, vi_from_i8(codes + i + j * LANES)));
    }
    int8_t last[4 * LANES] = {0};
    memcpy(last, codes + i, n - i);
    bad = bytes_strange(bad, last);
    for (int j = 0; i < n; j++, i += LANES) {
        VF v = vt_lookup(values, vi_from_i8(last + j * LANES));
        if (n - i >= LANES)
            vf_store(dst + i, v);
        else
            vf_store_part(dst + i, n - i, v);
    }
    return vi_any(bad);
}

/* Fewer than VD_LANES elements, or VD_LANES; other lanes are the first one. */
INLINE VD some_f64(const double *x, size_t n)
{
    double lane[VD_LANES];
    if (n >= VD_LANES)
        return vd_load(x);
    for (size_t l = 0; l < VD_LANES; l++)
        lane[l] = x[l < n ? l : 0];
    return vd_load(lane);
}

static TARGET int range_f64(const double *x, size_t n, double range[2])
{
    enum { SIDES = 2 }; /* so that no sum waits for the one before */
    VD min[SIDES], max[SIDES], check[SIDES], zero = vd_set1(0.0);
    double low[VD_LANES], high[VD_LANES], found[VD_LANES];
    for (size_t j = 0; j < SIDES; j++) {
        min[j] = max[j] = vd_set1(x[0]);
        check[j] = zero;
    }
    for (size_t i = 0; i < n; i += SIDES * VD_LANES)
        for (size_t j = 0; j < SIDES && i + j * VD_LANES < n; j++) {
            VD v = some_f64(x + i + j * VD_LANES, n - i - j * VD_LANES);
            min[j] = vd_min(min[j], v);
            max[j] = vd_max(max[j], v);
            check[j] = vd_fma(v, zero, check[j]);
        }
    vd_store(low, vd_min(min[0], min[1]));
    vd_store(high, vd_max(max[0], max[1]));
    vd_store(found, vd_add(check[0], check[1]));
    int bad = 0;
    for (size_t l = 0; l < VD_LANES; l++) {
        low[0] = low[l] < low[0] ? low[l] : low[0];
        high[0] = high[l] > high[0] ? high[l] : high[0];
        bad |= found[l] != found[l];
    }
    range[0] = low[0];
    range[1] = high[0];
    return bad;
}

static TARGET void codes_f64(const double *x, size_t n, double scale, double zero_point, int8_t *codes)
{
    VD s = vd_set1(scale), z = vd_set1(zero_point), lo = vd_set1(-8.0), hi = vd_set1(7.0);
    for (size_t i = 0; i < n; i += VD_LANES) {
        int8_t last[VD_LANES];
        VD code = vd_add(vd_rint(vd_div(some_f64(x + i, n - i), s)), z);
        vd_to_i8(n - i >= VD_LANES ? codes + i : last, vd_min(vd_max(code, lo), hi));
        if (n - i < VD_LANES)
            memcpy(codes + i, last, n - i);
    }
}

#ifndef HAS_DECODE_F64
static TARGET int decode_f64(const int8_t *codes, size_t n, const double table[16], double *dst)
{
    int outside = 0;
    for (size_t i = 0; i < n; i++) {
        outside |= (codes[i] + 8) >> 4;
        dst[i] = table[codes[i] & 15];
    }
    return outside != 0;
}
#endif
