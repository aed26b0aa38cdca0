/*
 * conversions_template.h - converts numbers of one type to another; part of simd_template.h
 */

#define FROM_HALVES(name, convert)                                                                                     \
    static TARGET void name(const uint16_t *src, size_t n, float *dst)                                                 \
    {                                                                                                                  \
        size_t i = 0;                                                                                                  \
        for (; i + LANES <= n; i += LANES)                                                                             \
            vf_store(dst + i, convert(src + i));                                                                       \
        if (i < n) {                                                                                                   \
            uint16_t last[LANES] = {0};                                                                                \
            memcpy(last, src + i, (n - i) * sizeof *src);                                                              \
            vf_store_part(dst + i, n - i, convert(last));                                                              \
        }                                                                                                              \
    }

#define TO_HALVES(name, convert)                                                                                       \
    static TARGET void name(const float *src, size_t n, uint16_t *dst)                                                 \
    {                                                                                                                  \
        size_t i = 0;                                                                                                  \
        for (; i + LANES <= n; i += LANES)                                                                             \
            convert(dst + i, vf_load(src + i));                                                                        \
        if (i < n) {                                                                                                   \
            uint16_t last[LANES];                                                                                      \
            convert(last, vf_load_part(src + i, n - i, 0.0f));                                                         \
            memcpy(dst + i, last, (n - i) * sizeof *dst);                                                              \
        }                                                                                                              \
    }

FROM_HALVES(f32_from_f16, vf_from_f16)
FROM_HALVES(f32_from_bf16, vf_from_bf16)
TO_HALVES(f16_from_f32, vf_to_f16)
TO_HALVES(bf16_from_f32, vf_to_bf16)

#undef FROM_HALVES
#undef TO_HALVES

static TARGET int f32_from_f64(const double *src, size_t n, float *dst)
{
    VF check = vf_set1(0.0f), zero = check;
    int bad = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        VF v = vf_from_f64(src + i);
        vf_store(dst + i, v);
        check = vf_fma(v, zero, check);
    }
    for (; i < n; i++) {
        dst[i] = (float)src[i];
        bad |= !qz_is_finite(dst[i]);
    }
    return bad | vm_any(vf_ne(check, check));
}
