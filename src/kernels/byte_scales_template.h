/*
 * byte_scales_template.h - converts scales that are stored in a byte to float32
 *
 * simd_template.h includes this file. The vocabulary also has
 *
 *   vf_from_vi(v)             int32 to float
 *   vi_halve(v)               v / 2, rounded down         vi_odd(v) -> VM
 *   vf_moved(v, bits, mask)   the bits of v moved up, those of the mask, seen as floats
 *   vf_halves(a, b)           a in the lower half of the lanes, b in the upper half (where LANES is 16)
 */

/* Whether LANES bytes of E8M0 are none of them 0 or 255, which stand for no normal number. */
INLINE int bytes_normal(const uint8_t *bytes)
{
    uint64_t found = 0;
    for (size_t i = 0; i < LANES; i += 8) {
        uint64_t eight = 0x0101010101010101;
        memcpy(&eight, bytes + i, LANES - i < 8 ? LANES - i : 8);
        found |= ((eight - 0x0101010101010101) & ~eight) | ((~eight - 0x0101010101010101) & eight);
    }
    return (found & 0x8080808080808080) == 0;
}

/* LANES bytes as numbers, without super scales. `dtype` is a constant. */
INLINE VF numbers_of_bytes(qz_dtype dtype, const uint8_t *bytes)
{
    VI v = vi_from_i8((const int8_t *)bytes);
    if (qz_is_float8(dtype)) { /* as qz_f32_from_f8 does it */
        const struct qz_float8 type = qz_float8_of(dtype);
        const uint32_t drop = 23 - type.mantissa, mask = type.sign << 31 | 0xffu >> type.sign << drop;
        VF x = vf_mul(vf_moved(v, drop, mask), vf_set1(qz_float_power(127 - (int)type.bias)));
        return vf_select(vf_lt(vf_set1(type.most), vf_abs(x)), vf_set1(qz_float(0x7fc00000)), x);
    }
    if (dtype == QZ_E8M0) { /* an exponent; that of zero is a number here, that of infinity NaN */
        VF x = vf_moved(v, 23, 0x7f800000);
        if (bytes_normal(bytes)) /* as they nearly always are */
            return x;
        x = vf_select(vf_eq(x, vf_set1(0.0f)), vf_set1(0x1p-127f), x);
        return vf_select(vf_eq(x, vf_set1(INFINITY)), vf_set1(qz_float(0x7fc00000)), x);
    }
    return vf_from_vi(dtype == QZ_I7 ? vi_halve(v) : v);
}

/* -shift for odd bytes, 0 for others. */
INLINE VF shifts_of_bytes(const uint8_t *bytes, float shift)
{
    return vf_select(vi_odd(vi_from_i8((const int8_t *)bytes)), vf_set1(-shift), vf_set1(0.0f));
}

/* Where a vector's scales share one super scale, or two. Returns how many scales are done. */
INLINE size_t scales_of_vectors(qz_dtype dtype, const uint8_t *bytes, size_t n, const float *super, size_t each,
                                float *scale)
{
    size_t i = 0;
#if LANES == 16
    if (each == LANES / 2) {
        for (; i + LANES <= n; i += LANES, super += 2)
            vf_store(scale + i, vf_mul(numbers_of_bytes(dtype, bytes + i), vf_halves(super[0], super[1])));
        return i;
    }
#endif
    if (each < n && each % LANES)
        return 0;
    for (; i + LANES <= n; super++)
        for (size_t end = n - i < each ? n : i + each; i + LANES <= end; i += LANES)
            vf_store(scale + i, vf_mul(numbers_of_bytes(dtype, bytes + i), vf_set1(*super)));
    return i;
}

INLINE void scales_of_bytes(qz_dtype dtype, const uint8_t *bytes, size_t n, const float *super, size_t each,
                            float shift, float *scale, float *zero)
{
    for (size_t i = 0; i + LANES <= n && dtype == QZ_I7; i += LANES)
        vf_store(zero + i, shifts_of_bytes(bytes + i, shift));
    size_t i = scales_of_vectors(dtype, bytes, n, super, each, scale), count;
    for (size_t s = i / each, used = i % each; i < n; i += count) {
        uint8_t some[LANES] = {0};
        float supers[LANES] = {0};
        count = n - i < LANES ? n - i : LANES;
        memcpy(some, bytes + i, count);
        for (size_t k = 0; k < count; k++) {
            supers[k] = super[s];
            if (++used == each) {
                used = 0;
                s++;
            }
        }
        VF scales = vf_mul(numbers_of_bytes(dtype, some), vf_load(supers));
        if (count == LANES)
            vf_store(scale + i, scales);
        else
            vf_store_part(scale + i, count, scales);
        if (count < LANES && dtype == QZ_I7)
            vf_store_part(zero + i, count, shifts_of_bytes(some, shift));
    }
}

static TARGET void byte_scales(qz_dtype dtype, const uint8_t *bytes, size_t n, const float *super, size_t each,
                               float shift, float *scale, float *zero)
{
    switch (dtype) {
#define BYTES(type)                                                                                                    \
    case type:                                                                                                         \
        scales_of_bytes(type, bytes, n, super, each, shift, scale, zero);                                              \
        break;
#define FLOAT8(type, ...) BYTES(type)
        QZ_FLOAT8_TYPES(FLOAT8)
        BYTES(QZ_E8M0)
        BYTES(QZ_I7)
#undef FLOAT8
#undef BYTES
    default: /* QZ_I6 and, always positive, QZ_U6 */
        scales_of_bytes(QZ_I6, bytes, n, super, each, shift, scale, zero);
    }
}
