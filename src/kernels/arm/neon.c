/*
 * neon.c - kernels with 4 floats at a time, for AArch64, whose base architecture includes NEON
 *
 * Bytes and codes are numbered in the order of memory, so this file is for little-endian machines. On big-endian ones
 * scalar.c does the work.
 */
#if defined(__AARCH64EL__) && defined(__ARM_NEON)

#include "../kernels.h"
#include "../../base/number.h"

#include <arm_neon.h>
#include <float.h>
#include <math.h>
#include <string.h>

#define TARGET /* nothing to enable */
#define INLINE static inline __attribute__((always_inline))
#define LANES  4

typedef float32x4_t VF;
typedef int32x4_t VI;
typedef uint32x4_t VM; /* all bits of a lane */

/* Unlike their namesakes on x86, vf_min and vf_max pass a NaN on from either side; see reduce_groups. */
#define vf_load(p)              vld1q_f32(p)
#define vf_store(p, v)          vst1q_f32(p, v)
#define vf_set1(x)              vdupq_n_f32(x)
#define vf_add(a, b)            vaddq_f32(a, b)
#define vf_sub(a, b)            vsubq_f32(a, b)
#define vf_mul(a, b)            vmulq_f32(a, b)
#define vf_div(a, b)            vdivq_f32(a, b)
#define vf_min(a, b)            vminq_f32(a, b)
#define vf_max(a, b)            vmaxq_f32(a, b)
#define vf_abs(a)               vabsq_f32(a)
#define vf_max_abs(a, b)        vf_max(a, vf_abs(b))
#define vf_neg(a)               vnegq_f32(a)
#define vf_fma(a, b, c)         vfmaq_f32(c, a, b)
#define vf_lt(a, b)             vcltq_f32(a, b)
#define vf_le(a, b)             vcleq_f32(a, b)
#define vf_eq(a, b)             vceqq_f32(a, b)
#define vf_ne(a, b)             vmvnq_u32(vceqq_f32(a, b))
#define vf_select(m, a, b)      vbslq_f32(m, a, b)
#define vm_none()               vdupq_n_u32(0)
#define vm_and(a, b)            vandq_u32(a, b)
#define vm_or(a, b)             vorrq_u32(a, b)
#define vm_and_ne(m, a, b)      vm_and(m, vf_ne(a, b))
#define vm_any(m)               (vmaxvq_u32(m) != 0)
#define vm_bits(m)              vaddvq_u32(vandq_u32(m, ((uint32x4_t){1, 2, 4, 8})))
#define vf_hmin(v)              vminvq_f32(v)
#define vf_hmax(v)              vmaxvq_f32(v)
#define vf_round(v)             vcvtnq_s32_f32(v)
#define vf_rint(v)              vrndnq_f32(v)
#define vi_trunc(v)             vcvtq_s32_f32(v)
#define vf_from_vi(v)           vcvtq_f32_s32(v)
#define vi_halve(v)             vshrq_n_s32(v, 1)
#define vi_odd(v)               vtstq_s32(v, vdupq_n_s32(1))
#define vf_moved(v, bits, mask) vreinterpretq_f32_s32(vandq_s32((v) << (bits), vdupq_n_s32((int32_t)(mask))))
#define vi_load(p)              vld1q_s32(p)
#define vi_set1(x)              vdupq_n_s32(x)
#define vi_add(a, b)            vaddq_s32(a, b)
#define vi_lt(a, b)             vcltq_s32(a, b)
#define vi_increment(m, v)      vsubq_s32(v, vreinterpretq_s32_u32(m)) /* a set mask is -1 */
#define vi_add_where(m, v, k)   vaddq_s32(v, vandq_s32(vreinterpretq_s32_u32(m), vi_set1(k)))
#define vi_lookup(t, v)         vreinterpretq_s32_f32(vt_lookup(t, v))
#define vf_power(v)             vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vdupq_n_u32(0x7f800000)))
#define vf_between(v, lo, hi)   vminq_f32(vmaxq_f32(v, lo), hi)
#define vf_sqrt(v)              vsqrtq_f32(v)
#define vm_to_u8(p, m)          vi_to_i8((int8_t *)(p), vi_increment(m, vi_set1(0)))
#define vi_any(v)               vm_any(vreinterpretq_u32_s32(v))
#define vi_low_nibble(v)        vandq_s32(v, vi_set1(15))
#define vi_clamp(v, lo, hi)     vminq_s32(vmaxq_s32(v, vi_set1(lo)), vi_set1(hi))
#define vf_from_f16(p)          vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))
#define vf_to_f16(p, v)         vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v)))
#define vf_via_f16(v)           vcvt_f32_f16(vcvt_f16_f32(v))
#define vf_from_f64(p)          vcvt_high_f32_f64(vcvt_f32_f64(vld1q_f64(p)), vld1q_f64((p) + 2))

typedef float64x2_t VD;

#define VD_LANES        2
#define VD_TILE         4
#define vd_load(p)      vld1q_f64(p)
#define vd_store(p, v)  vst1q_f64(p, v)
#define vd_set1(x)      vdupq_n_f64(x)
#define vd_add(a, b)    vaddq_f64(a, b)
#define vd_sub(a, b)    vsubq_f64(a, b)
#define vd_mul(a, b)    vmulq_f64(a, b)
#define vd_div(a, b)    vdivq_f64(a, b)
#define vd_min(a, b)    vminq_f64(a, b)
#define vd_max(a, b)    vmaxq_f64(a, b)
#define vd_rint(v)      vrndnq_f64(v)
#define vd_fma(a, b, c) vfmaq_f64(c, a, b)
#define vd_from_f32(p)  vcvt_f64_f32(vld1_f32(p))

INLINE void vd_to_i8(int8_t *p, VD v)
{
    const int64x2_t code = vcvtq_s64_f64(v);
    p[0] = (int8_t)vgetq_lane_s64(code, 0);
    p[1] = (int8_t)vgetq_lane_s64(code, 1);
}

INLINE VF vf_ratio(float x, VF v)
{
    const VI exponents = vi_set1((int32_t)(qz_bits(x) + 0x3f800000u));
    return vreinterpretq_f32_s32(vsubq_s32(exponents, vreinterpretq_s32_f32(v)));
}

INLINE VF vf_load_part(const float *p, size_t n, float other)
{
    VF v = vf_set1(other);
    if (n > 0)
        v = vld1q_lane_f32(p, v, 0);
    if (n > 1)
        v = vld1q_lane_f32(p + 1, v, 1);
    if (n > 2)
        v = vld1q_lane_f32(p + 2, v, 2);
    return v;
}

INLINE void vf_store_part(float *p, size_t n, VF v)
{
    if (n > 0)
        vst1q_lane_f32(p, v, 0);
    if (n > 1)
        vst1q_lane_f32(p + 1, v, 1);
    if (n > 2)
        vst1q_lane_f32(p + 2, v, 2);
}

typedef float32x4_t VN;
typedef uint8x16_t VL; /* four times the bytes of a lane */

#define vf_store_lanes(at, v) vf_store(at, v)
#define vl_first()            vreinterpretq_u8_u32(vdupq_n_u32(0x03020100))
#define vl_one(one)           const uint8x16_t one = vdupq_n_u8(4)
#define vl_next(l, one)       vaddq_u8(l, one)
#define vn_of(v)              (v)
#define vn_lane(n, l)         vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(n), l))

/* The upper half of each lane, rounded to nearest even; NaN made quiet. The lower half is left over. */
INLINE uint32x4_t round_to_bf16(VF v)
{
    uint32x4_t bits = vreinterpretq_u32_f32(v);
    uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
    uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    return vbslq_u32(vf_eq(v, v), rounded, quiet);
}

INLINE VF vf_from_bf16(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

INLINE void vf_to_bf16(uint16_t *p, VF v)
{
    vst1_u16(p, vshrn_n_u32(round_to_bf16(v), 16));
}

INLINE VF vf_via_bf16(VF v)
{
    return vreinterpretq_f32_u32(vandq_u32(round_to_bf16(v), vdupq_n_u32(0xffff0000u)));
}

INLINE VI vi_from_i8(const int8_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(word)))));
}

INLINE void vi_to_i8(int8_t *p, VI v)
{
    int16x4_t halves = vmovn_s32(v);
    int8x8_t bytes = vmovn_s16(vcombine_s16(halves, halves));
    int32_t word = vget_lane_s32(vreinterpret_s32_s8(bytes), 0);
    memcpy(p, &word, sizeof word);
}

/* bad | ((byte + 8) & 0xf0); unsigned, because GCC takes additions of signed lanes for ones that never overflow */
INLINE VI bytes_strange(VI bad, const int8_t *p)
{
    uint8x16_t moved = vaddq_u8(vreinterpretq_u8_s8(vld1q_s8(p)), vdupq_n_u8(8));
    return vorrq_s32(bad, vreinterpretq_s32_u8(vandq_u8(moved, vdupq_n_u8(0xf0))));
}

INLINE size_t vm_count(VM m, size_t n)
{
    const uint32x4_t lane = {0, 1, 2, 3};
    return vaddvq_u32(vshrq_n_u32(vm_and(m, vcltq_u32(lane, vdupq_n_u32((uint32_t)n))), 31));
}

/* A table of 16 floats is 64 bytes, which one instruction looks up byte by byte: float i is bytes 4 * i .. 4 * i + 3.
 */
typedef uint8x16x4_t VT;

INLINE VT vt_load(const float *p)
{
    return (VT){{vreinterpretq_u8_f32(vf_load(p)), vreinterpretq_u8_f32(vf_load(p + 4)),
                 vreinterpretq_u8_f32(vf_load(p + 8)), vreinterpretq_u8_f32(vf_load(p + 12))}};
}

INLINE VF vt_lookup(VT t, VI v)
{
    uint32x4_t index = vreinterpretq_u32_s32(vi_low_nibble(v));
    uint32x4_t bytes = vmlaq_u32(vdupq_n_u32(0x03020100), index, vdupq_n_u32(0x04040404));
    return vreinterpretq_f32_u8(vqtbl4q_u8(t, vreinterpretq_u8_u32(bytes)));
}

#include "../computed_template.h"

INLINE VT vt_of_group(VT values, qz_zero kind, VF scale, VF zero)
{
    for (int i = 0; i < 4; i++)
        values.val[i] = vreinterpretq_u8_f32(vg_compute(vreinterpretq_f32_u8(values.val[i]), kind, scale, zero));
    return values;
}

INLINE VM vt_not_below(VT t, VF limit)
{
    VM below = vf_lt(vf_abs(vreinterpretq_f32_u8(t.val[0])), limit);
    for (int i = 1; i < 4; i++)
        below = vm_and(below, vf_lt(vf_abs(vreinterpretq_f32_u8(t.val[i])), limit));
    return vmvnq_u32(below);
}

/* Sixteen 16-bit numbers: the low bytes of all, and the high ones. */
typedef struct {
    uint8x16_t low, high;
} VH;

INLINE uint16x4_t narrowed(VF v, qz_dtype dtype)
{
    return dtype == QZ_F16 ? vreinterpret_u16_f16(vcvt_f16_f32(v)) : vshrn_n_u32(round_to_bf16(v), 16);
}

INLINE VH vh_make(VT t, qz_dtype dtype)
{
    uint16x4_t part[4];
    for (int i = 0; i < 4; i++)
        part[i] = narrowed(vreinterpretq_f32_u8(t.val[i]), dtype);
    uint8x16_t first = vreinterpretq_u8_u16(vcombine_u16(part[0], part[1]));
    uint8x16_t second = vreinterpretq_u8_u16(vcombine_u16(part[2], part[3]));
    return (VH){vuzp1q_u8(first, second), vuzp2q_u8(first, second)};
}

INLINE void vh_lookup_16(VH t, qz_dtype dtype, const uint8_t *p, uint16_t *dst)
{
    (void)dtype;
    uint8x8_t bytes = vld1_u8(p), low = vand_u8(bytes, vdup_n_u8(15)), high = vshr_n_u8(bytes, 4);
    uint8x16_t codes = vcombine_u8(vzip1_u8(low, high), vzip2_u8(low, high));
    const uint8x16x2_t halves = {{vqtbl1q_u8(t.low, codes), vqtbl1q_u8(t.high, codes)}}; /* a macro takes no braces */
    vst2q_u8((uint8_t *)dst, halves);
}

INLINE void vh_lookup_32(VH t, qz_dtype dtype, const uint8_t *p, uint16_t *dst)
{
    vh_lookup_16(t, dtype, p, dst);
    vh_lookup_16(t, dtype, p + 8, dst + 16);
}

/* Both bytes in every lane; nibble i goes to the top of lane i, and back with or without the sign. */
INLINE VI vi_nibbles(const uint8_t *p, int sign)
{
    const VI up = {28, 24, 20, 16};
    uint16_t both;
    memcpy(&both, p, sizeof both);
    uint32x4_t top = vshlq_u32(vreinterpretq_u32_u16(vdupq_n_u16(both)), up);
    if (sign)
        return vshrq_n_s32(vreinterpretq_s32_u32(top), 28);
    return vreinterpretq_s32_u32(vshrq_n_u32(top, 28));
}

/* Four vectors as bytes; what does not fit becomes the nearest byte. */
INLINE int8x16_t narrow(const VI v[4])
{
    int16x8_t first = vqmovn_high_s32(vqmovn_s32(v[0]), v[1]);
    int16x8_t second = vqmovn_high_s32(vqmovn_s32(v[2]), v[3]);
    return vqmovn_high_s16(vqmovn_s16(first), second);
}

INLINE void bytes_block(const VI v[4], int8_t *out)
{
    vst1q_s8(out, vsubq_s8(narrow(v), vdupq_n_s8(8)));
}

INLINE VI block_clamp(const VI v[4], int lo, int hi, size_t *clipped)
{
    int8x16_t wanted = narrow(v);
    int8x16_t codes = vminq_s8(vmaxq_s8(wanted, vdupq_n_s8((int8_t)lo)), vdupq_n_s8((int8_t)hi));
    int8x16_t same = vreinterpretq_s8_u8(vceqq_s8(wanted, codes)); /* -1 for each code that was not clipped */
    *clipped += (size_t)(16 + vaddvq_s8(same));
    return vreinterpretq_s32_s8(codes);
}

INLINE VI block_cap(const VI v[4], int hi)
{
    return vreinterpretq_s32_s8(vminq_s8(narrow(v), vdupq_n_s8((int8_t)hi)));
}

INLINE void block_store(VI codes, uint8_t *out)
{
    uint8x16_t bytes = vreinterpretq_u8_s32(codes);
    uint8x8_t even = vget_low_u8(vuzp1q_u8(bytes, bytes)), odd = vget_low_u8(vuzp2q_u8(bytes, bytes));
    vst1_u8(out, vsli_n_u8(even, odd, 4)); /* odd to the upper half, the lower half of even stays */
}

/* Range of one group, lane by lane. */
INLINE void group_lanes(const float *x, size_t group_size, VF *min, VF *max)
{
    *min = *max = vf_load(x);
    for (size_t i = LANES; i < group_size; i += LANES) {
        VF v = vf_load(x + i);
        *min = vf_min(*min, v);
        *max = vf_max(*max, v);
    }
}

/* A NaN anywhere makes the minimum NaN, and an infinity is an end of its range: the result shows all there is to check.
 */
INLINE void reduce_groups(const float *x, size_t group_size, VF *min, VF *max, VF *check)
{
    VF low[4], high[4];
    for (size_t j = 0; j < 4; j++)
        group_lanes(x + j * group_size, group_size, &low[j], &high[j]);
    /* Pairwise operations bring neighbouring lanes together: aabb, ccdd, then abcd. */
    *min = vpminq_f32(vpminq_f32(low[0], low[1]), vpminq_f32(low[2], low[3]));
    *max = vpmaxq_f32(vpmaxq_f32(high[0], high[1]), vpmaxq_f32(high[2], high[3]));
    *check = vf_fma(*min, vf_set1(0.0f), *check);
    *check = vf_fma(*max, vf_set1(0.0f), *check);
}

INLINE void transpose_block(const float *src, ptrdiff_t src_stride, float *dst, ptrdiff_t dst_stride)
{
    VF a = vf_load(src), b = vf_load(src + src_stride);
    VF c = vf_load(src + 2 * src_stride), d = vf_load(src + 3 * src_stride);
    VF ac = vzip1q_f32(a, c), bd = vzip1q_f32(b, d); /* a0 c0 a1 c1, b0 d0 b1 d1 */
    vf_store(dst, vzip1q_f32(ac, bd));               /* a0 b0 c0 d0 */
    vf_store(dst + dst_stride, vzip2q_f32(ac, bd));
    ac = vzip2q_f32(a, c), bd = vzip2q_f32(b, d);
    vf_store(dst + 2 * dst_stride, vzip1q_f32(ac, bd));
    vf_store(dst + 3 * dst_stride, vzip2q_f32(ac, bd));
}

static int pack(const int8_t *codes, size_t n, uint8_t *packed)
{
    const uint8x16_t eight = vdupq_n_u8(8);
    uint8x16_t moved = vdupq_n_u8(0);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        int8x16x2_t pairs = vld2q_s8(codes + i); /* even places, odd places */
        uint8x16_t even = vreinterpretq_u8_s8(pairs.val[0]), odd = vreinterpretq_u8_s8(pairs.val[1]);
        moved = vorrq_u8(moved, vorrq_u8(vaddq_u8(even, eight), vaddq_u8(odd, eight)));
        vst1q_u8(packed + i / 2, vsliq_n_u8(even, odd, 4));
    }
    int outside = vmaxvq_u8(moved) > 15;
    for (; i < n; i += 2) {
        int low = codes[i], next = i + 1 < n ? codes[i + 1] : 0;
        outside |= (low + 8) >> 4 | (next + 8) >> 4;
        packed[i / 2] = (uint8_t)((low & 15) | (next & 15) << 4);
    }
    return outside != 0;
}

static void unpack(const uint8_t *packed, size_t n, int8_t *codes)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(packed + i / 2));
        int8x16_t even = vshrq_n_s8(vshlq_n_s8(bytes, 4), 4), odd = vshrq_n_s8(bytes, 4);
        vst1q_s8(codes + i, vzip1q_s8(even, odd));
        vst1q_s8(codes + i + 16, vzip2q_s8(even, odd));
    }
    for (; i < n; i++) {
        int code = packed[i / 2] >> (i % 2 * 4) & 15;
        codes[i] = (int8_t)((code ^ 8) - 8);
    }
}

/* These processors notice long runs of stores by themselves and stop fetching the lines that are overwritten. */
static void stream(void *dst, const void *src, size_t bytes)
{
    memcpy(dst, src, bytes);
}

static void stream_end(void) {}

#include "../simd_template.h"

#include "../nearest_scalar.h"
/* Scales of eight rows become floats and are turned together; zeros are few. */
#define HAS_PRODUCT_STORED
static int product_stored(qz_zero kind, float unit, float base, const uint8_t *const scales[QZ_SIDE],
                          const uint8_t *const zeros[QZ_SIDE], size_t groups, float *scale, float *bias)
{
    float part[2][QZ_SIDE * QZ_STORED_GROUPS];
    uint16x8_t most = vdupq_n_u16(0);
    for (size_t g = 0; g < groups; g += QZ_STORED_GROUPS) {
        for (size_t w = 0; w < QZ_SIDE; w++) {
            uint16x8_t halves = vreinterpretq_u16_u8(vld1q_u8(scales[w] + 2 * g));
            most = vmaxq_u16(most, vandq_u16(halves, vdupq_n_u16(0x7fff)));
            vf_store(part[0] + w * 8, vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(halves))));
            vf_store(part[0] + w * 8 + 4, vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(halves))));
            for (size_t i = 0; i < 8 && kind != QZ_ZERO_NONE; i += 4)
                vf_store(part[1] + w * 8 + i, vf_from_vi(vi_nibbles(zeros[w] + (g + i) / 2, 0)));
        }
        transpose(part[0], 8, 8, QZ_SIDE, scale + g * QZ_SIDE, QZ_SIDE);
        if (kind != QZ_ZERO_NONE)
            transpose(part[1], 8, 8, QZ_SIDE, bias + g * QZ_SIDE, QZ_SIDE);
        for (size_t i = g * QZ_SIDE; i < (g + QZ_STORED_GROUPS) * QZ_SIDE; i += LANES) {
            VF s = vf_load(scale + i), b = vf_mul(s, vf_set1(base));
            vf_store(bias + i, kind == QZ_ZERO_NONE ? b : vf_sub(b, vf_mul(s, vf_load(bias + i))));
            vf_store(scale + i, vf_mul(s, vf_set1(unit)));
        }
    }
    return vmaxvq_u16(most) < 0x7c00;
}

#include "../products_scalar.h"

/* The words of signs_template.h. */
enum { SIGN_LANES = 16, SIGN_WIDTH = 4 };
typedef uint8x16_t VU;
typedef struct {
    uint16x8_t all, odd; /* sums of bytes at odd places are in the upper halves of `all`, too */
} VW;

INLINE VU vu_load(const uint8_t *p)
{
    return vld1q_u8(p);
}

INLINE VU vu_set1(int k)
{
    return vdupq_n_u8((uint8_t)k);
}

INLINE VU vu_add(VU a, VU b)
{
    return vaddq_u8(a, b);
}

INLINE VU vu_upper(VU a, VU b, VU c)
{
    return vsriq_n_u8(vsriq_n_u8(vshrq_n_u8(c, 2), b, 4), a, 6);
}

INLINE VU vu_lookup(const uint8_t *table, const uint8_t *upper, VU v)
{
    const VU first = vqtbl1q_u8(vld1q_u8(table), vandq_u8(v, vdupq_n_u8(15)));
    return vu_add(first, vqtbl1q_u8(vld1q_u8(upper), vshrq_n_u8(v, 4)));
}

INLINE VW vw_set1(int k)
{
    return (VW){vdupq_n_u16((uint16_t)(257 * k)), vdupq_n_u16((uint16_t)k)};
}

INLINE VW vw_add(VW w, VU v)
{
    const uint16x8_t both = vreinterpretq_u16_u8(v);
    return (VW){vaddq_u16(w.all, both), vsraq_n_u16(w.odd, both, 8)};
}

INLINE int16x8_t vw_even(VW w)
{
    return vreinterpretq_s16_u16(vsubq_u16(w.all, vshlq_n_u16(w.odd, 8)));
}

INLINE int16x8_t vw_odd(VW w)
{
    return vreinterpretq_s16_u16(w.odd);
}

INLINE void vw_store(int16_t *p, VW w)
{
    vst1q_s16(p, vw_even(w));
    vst1q_s16(p + 32, vw_odd(w));
}

/* The upper 16 bits of products, which are below 2^15. */
INLINE int16x8_t upper_halves(uint16x8_t a, uint16x8_t b)
{
    const uint32x4_t low = vmull_u16(vget_low_u16(a), vget_low_u16(b)), high = vmull_high_u16(a, b);
    return vreinterpretq_s16_u16(vuzp2q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high)));
}

INLINE uint64_t bits_not_below(int16x8_t a, int16x8_t b)
{
    return vaddvq_u16(vandq_u16(vcgeq_s16(a, b), ((uint16x8_t){1, 2, 4, 8, 16, 32, 64, 128})));
}

INLINE uint64_t vw_reaching(VW w, const uint16_t *p, int least)
{
    const uint16x8_t by = vdupq_n_u16((uint16_t)least);
    return bits_not_below(vw_even(w), upper_halves(vld1q_u16(p), by)) |
           bits_not_below(vw_odd(w), upper_halves(vld1q_u16(p + 32), by)) << 32;
}

INLINE VI vi_from_i16(const int16_t *p)
{
    return vmovl_s16(vld1_s16(p));
}

#include "../signs_template.h"
#if defined(QZ_HAS_DOTPROD)
#include "products_dot.h"
#define dotprod_beside       product_beside
#define dotprod_fixed        product_fixed
#define dotprod_fixed_affine product_fixed_affine
#endif
#if defined(QZ_HAS_I8MM)
#include "products_i8mm.h"
#define i8mm_levels       dotprod_levels
#define i8mm_packed       dotprod_packed
#define i8mm_fixed        dotprod_fixed
#define i8mm_fixed_affine dotprod_fixed_affine
#endif

#include "../affine_template.h"
#include "../input_template.h"
#define vs_half(v)       vreinterpretq_s16_s32(v)
#define vs_whole(v)      vreinterpretq_s32_s16(v)
#define vs_set1(k)       vs_whole(vdupq_n_s16((int16_t)(k)))
#define vs_pairs(a, b)   vsliq_n_s32(a, b, 16)
#define vs_product(x, y) vs_whole(vqrdmulhq_s16(vs_half(x), vs_half(y)))
#define vs_most(x, k)    vs_whole(vminq_s16(vs_half(x), vs_half(k)))
#define vs_least(x, k)   vs_whole(vmaxq_s16(vs_half(x), vs_half(k)))
#define vs_add(x, y)     vs_whole(vaddq_s16(vs_half(x), vs_half(y)))
#define vs_sub(x, y)     vs_whole(vsubq_s16(vs_half(x), vs_half(y)))
#define vs_abs(x)        vs_whole(vabsq_s16(vs_half(x)))
#define vs_part(x)       vreinterpretq_s32_u16(vshrq_n_u16(vreinterpretq_u16_s32(x), 4))
#define vs_sum(x)        vpaddlq_s16(vs_half(x))
#define vi_bits(v)       vreinterpretq_s32_f32(v)

#include "../look_template.h"
#include "../special_template.h"

INLINE VI vs_dot(VI sum, VI x, VI y)
{
    const int32x4_t low = vmull_s16(vget_low_s16(vs_half(x)), vget_low_s16(vs_half(y)));
    return vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(vs_half(x), vs_half(y))));
}

#define FIXED(name)  product_##name
#define FIXED_TARGET TARGET
#define FIXED_INLINE INLINE
#include "../fixed_template.h"
#include "../fixed_affine_template.h"

const struct qz_kernels qz_kernels_neon = QZ_KERNEL_TABLE("neon", QZ_CPU_NEON, product, NULL, NULL);
#if defined(QZ_HAS_DOTPROD)
const struct qz_kernels qz_kernels_neondot =
    QZ_KERNEL_TABLE("neondot", QZ_CPU_NEON | QZ_CPU_DOTPROD, dotprod, NULL, NULL);
#endif
#if defined(QZ_HAS_I8MM)
const struct qz_kernels qz_kernels_neoni8mm =
    QZ_KERNEL_TABLE("neoni8mm", QZ_CPU_NEON | QZ_CPU_DOTPROD | QZ_CPU_I8MM, i8mm, NULL, NULL);
#endif

#else
typedef int qz_no_neon; /* a translation unit must not be empty */
#endif
