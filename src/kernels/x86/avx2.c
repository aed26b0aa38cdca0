/*
 * avx2.c - kernels with 8 floats at a time, for CPUs with AVX2, FMA and F16C (Intel since Haswell, AMD since Zen)
 */
#if defined(__x86_64__) || defined(_M_X64)

#include "../kernels.h"
#include "../../base/number.h"

#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,fma,f16c,popcnt")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define LANES  8

typedef __m256 VF;
typedef __m256i VI;
typedef __m256 VM; /* all bits of a lane */

#define vf_load(p)            _mm256_loadu_ps(p)
#define vf_store(p, v)        _mm256_storeu_ps(p, v)
#define vf_set1(x)            _mm256_set1_ps(x)
#define vf_add(a, b)          _mm256_add_ps(a, b)
#define vf_sub(a, b)          _mm256_sub_ps(a, b)
#define vf_mul(a, b)          _mm256_mul_ps(a, b)
#define vf_div(a, b)          _mm256_div_ps(a, b)
#define vf_min(a, b)          _mm256_min_ps(a, b)
#define vf_max(a, b)          _mm256_max_ps(a, b)
#define vf_abs(a)             _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a)
#define vf_max_abs(a, b)      vf_max(a, vf_abs(b))
#define vf_neg(a)             _mm256_xor_ps(a, _mm256_set1_ps(-0.0f))
#define vf_fma(a, b, c)       _mm256_fmadd_ps(a, b, c)
#define vf_lt(a, b)           _mm256_cmp_ps(a, b, _CMP_LT_OQ)
#define vf_le(a, b)           _mm256_cmp_ps(a, b, _CMP_LE_OQ)
#define vf_eq(a, b)           _mm256_cmp_ps(a, b, _CMP_EQ_OQ)
#define vf_ne(a, b)           _mm256_cmp_ps(a, b, _CMP_NEQ_UQ)
#define vf_select(m, a, b)    _mm256_blendv_ps(b, a, m)
#define vf_between(v, lo, hi) vf_min(vf_max(v, lo), hi)
#define vm_none()             _mm256_setzero_ps()
#define vf_sqrt(v)            _mm256_sqrt_ps(v)
#define vm_and(a, b)          _mm256_and_ps(a, b)
#define vm_or(a, b)           _mm256_or_ps(a, b)
#define vm_and_ne(m, a, b)    vm_and(m, vf_ne(a, b))
#define vm_any(m)             (_mm256_movemask_ps(m) != 0)
#define vm_bits(m)            ((unsigned)_mm256_movemask_ps(m))
#define vm_count(m, n)        ((size_t)__builtin_popcount(vm_bits(m) & ((1u << (n)) - 1)))
#define vf_round(v)           _mm256_cvtps_epi32(v)
#define vf_rint(v)            _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define vi_trunc(v)           _mm256_cvttps_epi32(v)
#define HAS_LEAST_TRUNC
#define vi_load(p)            _mm256_loadu_si256((const __m256i *)(p))
#define vi_set1(x)            _mm256_set1_epi32(x)
#define vi_add(a, b)          _mm256_add_epi32(a, b)
#define vi_lt(a, b)           _mm256_castsi256_ps(_mm256_cmpgt_epi32(b, a))
#define vi_increment(m, v)    _mm256_sub_epi32(v, _mm256_castps_si256(m)) /* a set mask is -1 */
#define vi_add_where(m, v, k) _mm256_add_epi32(v, _mm256_and_si256(_mm256_castps_si256(m), _mm256_set1_epi32(k)))
#define vi_lookup(t, v)       _mm256_castps_si256(vt_lookup(t, v))
#define vf_from_vi(v)         _mm256_cvtepi32_ps(v)
#define vi_halve(v)           _mm256_srai_epi32(v, 1)
#define vi_odd(v)             _mm256_castsi256_ps(_mm256_slli_epi32(v, 31)) /* the top bit selects */
#define vf_moved(v, bits, mask)                                                                                        \
    _mm256_castsi256_ps(_mm256_and_si256(_mm256_slli_epi32(v, bits), _mm256_set1_epi32((int32_t)(mask))))
#define vi_from_i8(p)       _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p)))
#define vi_any(v)           (!_mm256_testz_si256(v, v))
#define vi_low_nibble(v)    _mm256_and_si256(v, _mm256_set1_epi32(15))
#define vi_clamp(v, lo, hi) _mm256_min_epi32(_mm256_max_epi32(v, _mm256_set1_epi32(lo)), _mm256_set1_epi32(hi))
#define vf_from_f16(p)      _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#define vf_to_f16(p, v)     _mm_storeu_si128((__m128i *)(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT))
#define vf_via_f16(v)       _mm256_cvtph_ps(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT))

typedef __m256d VD;

#define VD_LANES        4
#define VD_TILE         2
#define vd_load(p)      _mm256_loadu_pd(p)
#define vd_store(p, v)  _mm256_storeu_pd(p, v)
#define vd_set1(x)      _mm256_set1_pd(x)
#define vd_add(a, b)    _mm256_add_pd(a, b)
#define vd_sub(a, b)    _mm256_sub_pd(a, b)
#define vd_mul(a, b)    _mm256_mul_pd(a, b)
#define vd_div(a, b)    _mm256_div_pd(a, b)
#define vd_min(a, b)    _mm256_min_pd(a, b)
#define vd_max(a, b)    _mm256_max_pd(a, b)
#define vd_rint(v)      _mm256_round_pd(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define vd_fma(a, b, c) _mm256_fmadd_pd(a, b, c)
#define vd_from_f32(p)  _mm256_cvtps_pd(_mm_loadu_ps(p))

INLINE void vd_to_i8(int8_t *p, VD v)
{
    const __m128i low_bytes = _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    int four = _mm_cvtsi128_si32(_mm_shuffle_epi8(_mm256_cvtpd_epi32(v), low_bytes));
    memcpy(p, &four, sizeof four);
}

/* Bytes of b where the top bit of the mask is set, else of a. With -funsigned-char GCC 12 takes the bytes of the blend
 * instruction's mask for char, of which none is below 0 then. */
#ifdef __CHAR_UNSIGNED__
INLINE VI blend_bytes(VI a, VI b, VI mask)
{
    mask = _mm256_cmpgt_epi8(_mm256_setzero_si256(), mask);
    return _mm256_or_si256(_mm256_andnot_si256(mask, a), _mm256_and_si256(mask, b));
}
#else
#define blend_bytes(a, b, mask) _mm256_blendv_epi8(a, b, mask)
#endif

/* The first n lanes set. */
INLINE VI first_lanes(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE VF vf_load_part(const float *p, size_t n, float other)
{
    VI lanes = first_lanes(n);
    return vf_select(_mm256_castsi256_ps(lanes), _mm256_maskload_ps(p, lanes), vf_set1(other));
}

INLINE void vf_store_part(float *p, size_t n, VF v)
{
    _mm256_maskstore_ps(p, first_lanes(n), v);
}

INLINE float vf_hmin(VF v)
{
    __m128 m = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_min_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_min_ss(m, _mm_movehdup_ps(m)));
}

INLINE float vf_hmax(VF v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

/* The upper halves, rounded to nearest even; NaN made quiet. */
INLINE VI round_to_bf16(VF v)
{
    VI bits = _mm256_castps_si256(v);
    VI nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    VI odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), vi_set1(1));
    VI rounded = vi_add(vi_add(bits, vi_set1(0x7fff)), odd);
    VI quiet = _mm256_or_si256(bits, vi_set1(0x400000));
    return _mm256_srli_epi32(blend_bytes(rounded, quiet, nan), 16);
}

INLINE VF vf_from_bf16(const uint16_t *p)
{
    VI bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

INLINE void vf_to_bf16(uint16_t *p, VF v)
{
    VI halves = round_to_bf16(v);
    halves = _mm256_permute4x64_epi64(_mm256_packus_epi32(halves, halves), 0x08);
    _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(halves));
}

INLINE VF vf_via_bf16(VF v)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(round_to_bf16(v), 16));
}

INLINE VF vf_from_f64(const double *p)
{
    return _mm256_set_m128(_mm256_cvtpd_ps(_mm256_loadu_pd(p + 4)), _mm256_cvtpd_ps(_mm256_loadu_pd(p)));
}

/* bad | ((byte + 8) & 0xf0) */
INLINE VI bytes_strange(VI bad, const int8_t *p)
{
    VI moved = _mm256_add_epi8(_mm256_loadu_si256((const VI *)p), _mm256_set1_epi8(8));
    return _mm256_or_si256(bad, _mm256_and_si256(moved, _mm256_set1_epi8((char)0xf0)));
}

INLINE void vi_to_i8(int8_t *p, VI v)
{
    const VI low_bytes = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12, -1,
                                          -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    VI bytes = _mm256_shuffle_epi8(v, low_bytes);
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 0, 0, 0, 0, 0, 0));
    _mm_storel_epi64((__m128i *)p, _mm256_castsi256_si128(bytes));
}

/* As numbers in memory, of which compilers make loads, or shuffles with a constant for each lane. */
typedef size_t VL;
typedef struct {
    float at[8];
} VN;

#define vf_store_lanes(at, v) vf_store(at, v)
#define vl_first()            0
#define vl_one(one)           const size_t one = 1
#define vl_next(l, one)       ((l) + (one))
#define vn_lane(n, l)         vf_set1((n).at[l])

INLINE VN vn_of(VF v)
{
    VN n;
    vf_store(n.at, v);
    return n;
}

INLINE VF vf_power(VF v)
{
    return _mm256_and_ps(v, _mm256_castsi256_ps(vi_set1(0x7f800000)));
}

INLINE VF vf_ratio(float x, VF v)
{
    const VI exponents = vi_set1((int32_t)(qz_bits(x) + 0x3f800000u));
    return _mm256_castsi256_ps(_mm256_sub_epi32(exponents, _mm256_castps_si256(v)));
}

INLINE VI vf_cell(VF v)
{
    return _mm256_cvtps_epi32(vf_between(v, vf_set1(0.0f), vf_set1(31.0f)));
}

INLINE void vm_to_u8(uint8_t *p, VM m)
{
    vi_to_i8((int8_t *)p, vi_increment(m, vi_set1(0)));
}

/* A table of 16 floats is two registers; bit 3 of the index, moved to the sign, chooses between them. */
typedef struct {
    VF low, high;
} VT;

INLINE VT vt_load(const float *p)
{
    return (VT){vf_load(p), vf_load(p + 8)};
}

INLINE VF vt_lookup(VT t, VI v)
{
    VF choose = _mm256_castsi256_ps(_mm256_slli_epi32(v, 28));
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(t.low, v), _mm256_permutevar8x32_ps(t.high, v), choose);
}

/* Bisection with tables that grow as far as the number of an entry is known: one of four, one of eight, one of two
 * times eight. Masks are -1, so numbers are negative, and their low bits count entries backwards. */
#define HAS_VB
typedef struct {
    VF middle, quarter[2], eighths, sixteenths, low, high;
} VB;

INLINE VB vb_make(const float *upper, const float *value)
{
    VB b = {.middle = vf_set1(upper[7]), .quarter = {vf_set1(upper[3]), vf_set1(upper[11])}};
    b.eighths = _mm256_setr_ps(upper[1], upper[13], upper[9], upper[5], upper[1], upper[13], upper[9], upper[5]);
    b.sixteenths = _mm256_setr_ps(upper[0], upper[14], upper[12], upper[10], upper[8], upper[6], upper[4], upper[2]);
    const VI backwards = _mm256_setr_epi32(0, 7, 6, 5, 4, 3, 2, 1);
    b.low = _mm256_permutevar8x32_ps(vf_load(value), backwards);
    b.high = _mm256_permutevar8x32_ps(vf_load(value + 8), backwards);
    return b;
}

INLINE VF vb_nearest(const VB *b, VF y)
{
    VF half = vf_le(b->middle, y), next = vf_select(half, b->quarter[1], b->quarter[0]);
    VI number = _mm256_castps_si256(half);
    number = vi_add(vi_add(number, number), _mm256_castps_si256(vf_le(next, y)));
    next = _mm256_permutevar_ps(b->eighths, number);
    number = vi_add(vi_add(number, number), _mm256_castps_si256(vf_le(next, y)));
    next = _mm256_permutevar8x32_ps(b->sixteenths, number);
    number = vi_add(vi_add(number, number), _mm256_castps_si256(vf_le(next, y)));
    return vf_select(half, _mm256_permutevar8x32_ps(b->high, number), _mm256_permutevar8x32_ps(b->low, number));
}

#include "../computed_template.h"

INLINE VT vt_of_group(VT values, qz_zero kind, VF scale, VF zero)
{
    return (VT){vg_compute(values.low, kind, scale, zero), vg_compute(values.high, kind, scale, zero)};
}

INLINE VM vt_not_below(VT t, VF limit)
{
    return vm_or(_mm256_cmp_ps(vf_abs(t.low), limit, _CMP_NLT_UQ), _mm256_cmp_ps(vf_abs(t.high), limit, _CMP_NLT_UQ));
}

/* Sixteen 16-bit numbers: the low bytes of all, and the high ones, in both 128-bit lanes. */
typedef struct {
    VI low, high;
} VH;

INLINE VH vh_make(VT t, qz_dtype dtype)
{
    VI halves;
    if (dtype == QZ_F16)
        halves = _mm256_set_m128i(_mm256_cvtps_ph(t.high, _MM_FROUND_TO_NEAREST_INT),
                                  _mm256_cvtps_ph(t.low, _MM_FROUND_TO_NEAREST_INT));
    else
        halves = _mm256_permute4x64_epi64(_mm256_packus_epi32(round_to_bf16(t.low), round_to_bf16(t.high)), 0xd8);
    const VI apart = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
    VI bytes = _mm256_shuffle_epi8(halves, apart); /* low and high ones of each lane's eight */
    return (VH){_mm256_permute4x64_epi64(bytes, 0x88), _mm256_permute4x64_epi64(bytes, 0xdd)};
}

INLINE void vh_lookup_16(VH t, qz_dtype dtype, const uint8_t *p, uint16_t *dst)
{
    (void)dtype;
    __m128i bytes = _mm_loadl_epi64((const __m128i *)p);
    __m128i codes = _mm_and_si128(_mm_unpacklo_epi8(bytes, _mm_srli_epi16(bytes, 4)), _mm_set1_epi8(15));
    __m128i low = _mm_shuffle_epi8(_mm256_castsi256_si128(t.low), codes);
    __m128i high = _mm_shuffle_epi8(_mm256_castsi256_si128(t.high), codes);
    _mm_storeu_si128((__m128i *)dst, _mm_unpacklo_epi8(low, high));
    _mm_storeu_si128((__m128i *)(dst + 8), _mm_unpackhi_epi8(low, high));
}

INLINE void vh_lookup_32(VH t, qz_dtype dtype, const uint8_t *p, uint16_t *dst)
{
    (void)dtype;
    /* Bytes 0-7 of the lower lane and 8-15 of the upper one become codes in order; of the lookups' results the same
     * quarters make the first and the last vector. */
    VI bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
    const VI twice = _mm256_setr_epi8(0, 0, 1, 1, 2, 2, 3, 3, 8, 8, 9, 9, 10, 10, 11, 11, 4, 4, 5, 5, 6, 6, 7, 7, 12,
                                      12, 13, 13, 14, 14, 15, 15);
    bytes = _mm256_shuffle_epi8(bytes, twice);
    VI codes = blend_bytes(bytes, _mm256_srli_epi16(bytes, 4), _mm256_set1_epi16((short)0xff00));
    codes = _mm256_and_si256(codes, _mm256_set1_epi8(15));
    VI low = _mm256_shuffle_epi8(t.low, codes), high = _mm256_shuffle_epi8(t.high, codes);
    _mm256_storeu_si256((VI *)dst, _mm256_unpacklo_epi8(low, high));
    _mm256_storeu_si256((VI *)(dst + 16), _mm256_unpackhi_epi8(low, high));
}

INLINE VI vi_nibbles(const uint8_t *p, int sign)
{
    int word;
    memcpy(&word, p, sizeof word);
    if (sign) /* to the top of the lane, and back with the sign */
        return _mm256_srai_epi32(_mm256_sllv_epi32(vi_set1(word), _mm256_setr_epi32(28, 24, 20, 16, 12, 8, 4, 0)), 28);
    return vi_low_nibble(_mm256_srlv_epi32(vi_set1(word), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28)));
}

/*
 * Four vectors a, b, c, d of small integers as bytes. Saturating packs work within 128-bit lanes:
 *     lane 0: a0-3 b0-3 c0-3 d0-3    lane 1: a4-7 b4-7 c4-7 d4-7
 */
INLINE VI bytes_in_lanes(const VI v[4])
{
    return _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
}

INLINE VI in_order(VI bytes)
{
    return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

INLINE void bytes_block(const VI v[4], int8_t *out)
{
    _mm256_storeu_si256((VI *)out, in_order(_mm256_sub_epi8(bytes_in_lanes(v), _mm256_set1_epi8(8))));
}

/* Two codes of each 16-bit lane to its low byte: first + 16 * second. */
INLINE VI join_nibbles(VI bytes)
{
    return _mm256_maddubs_epi16(_mm256_and_si256(bytes, _mm256_set1_epi8(15)), _mm256_set1_epi16(0x1001));
}

INLINE VI block_clamp(const VI v[4], int lo, int hi, size_t *clipped)
{
    VI wanted = bytes_in_lanes(v);
    VI codes = _mm256_min_epi8(_mm256_max_epi8(wanted, _mm256_set1_epi8((char)lo)), _mm256_set1_epi8((char)hi));
    unsigned same = (unsigned)_mm256_movemask_epi8(_mm256_cmpeq_epi8(wanted, codes));
    *clipped += (size_t)__builtin_popcount(~same);
    return codes;
}

INLINE VI block_cap(const VI v[4], int hi)
{
    return _mm256_min_epi8(bytes_in_lanes(v), _mm256_set1_epi8((char)hi));
}

INLINE void block_store(VI bytes, uint8_t *out)
{
    VI joined = join_nibbles(in_order(bytes));
    joined = _mm256_permute4x64_epi64(_mm256_packus_epi16(joined, joined), 0x08);
    _mm_storeu_si128((__m128i *)out, _mm256_castsi256_si128(joined));
}

/* Byte 4 * j + i of a 128-bit lane to its 32-bit lane i: first to byte j of that, then by shifts. */
#define HAS_BLOCK_CODE
INLINE VI block_code(VI bytes, size_t j, int sign)
{
    const VI order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    VI codes = _mm256_shuffle_epi8(bytes, order);
    if (sign)
        return _mm256_srai_epi32(_mm256_slli_epi32(codes, 24 - 8 * (int)j), 24);
    return vi_low_nibble(_mm256_srli_epi32(codes, 8 * (int)j));
}

/* See struct qz_grid: one comparison each, with a threshold looked up in four registers. */
#define HAS_CELLS
typedef struct {
    VT low, high;
    VF factor, bias;
    VI code[4]; /* 16 bytes each, in both 128-bit lanes */
} VX;

INLINE VX vx_make(const struct qz_cell_codes *cells)
{
    VX made = {vt_load(cells->upper), vt_load(cells->upper + 16), vf_set1(cells->factor), vf_set1(cells->bias), {{0}}};
    for (size_t i = 0; i < 4; i++)
        made.code[i] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(cells->code + 16 * i)));
    return made;
}

INLINE VI block_cells(const VX *cells, const VF y[4], size_t *clipped)
{
    VI index[4], code[4];
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; j++) {
        VI cell = vf_cell(vf_fma(y[j], cells->factor, cells->bias));
        VF fourth = _mm256_castsi256_ps(_mm256_slli_epi32(cell, 27)); /* bit 4, moved to the sign */
        VF upper = _mm256_blendv_ps(vt_lookup(cells->low, cell), vt_lookup(cells->high, cell), fourth);
        index[j] = vi_increment(vf_le(upper, y[j]), vi_add(cell, cell));
    }
    VI bytes = bytes_in_lanes(index), fourth = _mm256_slli_epi16(bytes, 3), fifth = _mm256_slli_epi16(bytes, 2);
    VI ends = _mm256_or_si256(_mm256_cmpeq_epi8(bytes, _mm256_setzero_si256()),
                              _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(63)));
    *clipped += (size_t)__builtin_popcount((unsigned)_mm256_movemask_epi8(ends));
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++)
        code[i] = _mm256_shuffle_epi8(cells->code[i], bytes);
    return blend_bytes(blend_bytes(code[0], code[1], fourth), blend_bytes(code[2], code[3], fourth), fifth);
}

#define HAS_COLUMNS
#define vb_table(...)        _mm256_broadcastsi128_si256(_mm_setr_epi8(__VA_ARGS__))
#define vb_shuffle(v, table) _mm256_shuffle_epi8(v, table)
#define vb_narrow(a, b)      _mm256_packus_epi16(a, b)
#define vi_low32(a, b)       _mm256_unpacklo_epi32(a, b)
#define vi_high32(a, b)      _mm256_unpackhi_epi32(a, b)
#define vi_low64(a, b)       _mm256_unpacklo_epi64(a, b)
#define vi_high64(a, b)      _mm256_unpackhi_epi64(a, b)

INLINE VI vi_nibble(VI v, size_t j, int sign)
{
    if (sign)
        return _mm256_srai_epi32(_mm256_slli_epi32(v, 28 - 4 * (int)j), 28);
    return vi_low_nibble(_mm256_srli_epi32(v, 4 * (int)j));
}

INLINE VF vi_value(VT values, VI v, int form)
{
    return form == QZ_ANY_VALUES ? vt_lookup(values, v) : _mm256_cvtepi32_ps(v);
}

INLINE VI vi_load_lanes(const uint8_t *p, ptrdiff_t step)
{
    return _mm256_loadu2_m128i((const __m128i *)(p + step), (const __m128i *)p);
}

INLINE void vi_store_lanes(uint8_t *p, ptrdiff_t step, VI v)
{
    _mm256_storeu2_m128i((__m128i *)(p + step), (__m128i *)p, v);
}

/* Halves, pairs and lanes of vectors are brought together; 2 shuffles and 1 minimum for each two vectors. */
#define REDUCE_TREE(name, op)                                                                                          \
    INLINE VF name##_2(VF a, VF b) /* lane half k: four partial results of vector k */                                 \
    {                                                                                                                  \
        return op(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));                             \
    }                                                                                                                  \
    INLINE VF name##_8(VF a, VF b, VF c, VF d) /* lane 4k + j: vector k of argument j */                               \
    {                                                                                                                  \
        VF ab = op(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));                                                \
        VF cd = op(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));                                                \
        return op(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));                                   \
    }
REDUCE_TREE(reduce_min, _mm256_min_ps)
REDUCE_TREE(reduce_max, _mm256_max_ps)

/* Range of one group, lane by lane. */
INLINE void group_lanes(const float *x, size_t group_size, VF *min, VF *max, VF *check)
{
    VF v = vf_load(x);
    *min = *max = v;
    *check = vf_fma(v, vf_set1(0.0f), *check);
    for (size_t i = LANES; i < group_size; i += LANES) {
        v = vf_load(x + i);
        *min = vf_min(*min, v);
        *max = vf_max(*max, v);
        *check = vf_fma(v, vf_set1(0.0f), *check);
    }
}

INLINE void reduce_groups(const float *x, size_t group_size, VF *min, VF *max, VF *check)
{
    VF low[4], high[4], check2 = vf_set1(0.0f);
    for (size_t j = 0; j < 4; j++) { /* groups j and 4 + j: the tree puts them in order */
        VF l0, h0, l1, h1;
        group_lanes(x + j * group_size, group_size, &l0, &h0, check);
        group_lanes(x + (4 + j) * group_size, group_size, &l1, &h1, &check2);
        low[j] = reduce_min_2(l0, l1);
        high[j] = reduce_max_2(h0, h1);
    }
    *min = reduce_min_8(low[0], low[1], low[2], low[3]);
    *max = reduce_max_8(high[0], high[1], high[2], high[3]);
    *check = vf_add(*check, check2);
}

INLINE void transpose_block(const float *src, ptrdiff_t src_stride, float *dst, ptrdiff_t dst_stride)
{
    VF r[8], t[8];
    for (int i = 0; i < 8; i++)
        r[i] = vf_load(src + i * src_stride);
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) { /* 4 x 4 blocks in 128-bit lanes */
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) { /* then the blocks themselves */
        vf_store(dst + i * dst_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        vf_store(dst + (i + 4) * dst_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
}

static TARGET int pack(const int8_t *codes, size_t n, uint8_t *packed)
{
    const VI eight = _mm256_set1_epi8(8), high = _mm256_set1_epi8((char)0xf0);
    VI bad = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        VI a = _mm256_loadu_si256((const VI *)(codes + i)), b = _mm256_loadu_si256((const VI *)(codes + i + 32));
        VI strange = _mm256_or_si256(_mm256_add_epi8(a, eight), _mm256_add_epi8(b, eight));
        bad = _mm256_or_si256(bad, _mm256_and_si256(strange, high));
        VI bytes = _mm256_packus_epi16(join_nibbles(a), join_nibbles(b));
        _mm256_storeu_si256((VI *)(packed + i / 2), _mm256_permute4x64_epi64(bytes, 0xd8));
    }
    int outside = vi_any(bad);
    for (; i < n; i += 2) {
        int low = codes[i], next = i + 1 < n ? codes[i + 1] : 0;
        outside |= (low + 8) >> 4 | (next + 8) >> 4;
        packed[i / 2] = (uint8_t)((low & 15) | (next & 15) << 4);
    }
    return outside != 0;
}

static TARGET void unpack(const uint8_t *packed, size_t n, int8_t *codes)
{
    const VI low = _mm256_set1_epi8(15);
    const VI signs = _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7,
                                      -8, -7, -6, -5, -4, -3, -2, -1);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        /* each byte in a 16-bit lane, its upper half moved to the upper byte, then looked up */
        VI wide = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(packed + i / 2)));
        VI nibbles = _mm256_and_si256(_mm256_or_si256(wide, _mm256_slli_epi16(wide, 4)), low);
        _mm256_storeu_si256((VI *)(codes + i), _mm256_shuffle_epi8(signs, nibbles));
    }
    for (; i < n; i++) {
        int code = packed[i / 2] >> (i % 2 * 4) & 15;
        codes[i] = (int8_t)((code ^ 8) - 8);
    }
}

static TARGET inline void stream_line(char *to, const char *from)
{
    _mm256_stream_si256((VI *)to, _mm256_loadu_si256((const VI *)from));
    _mm256_stream_si256((VI *)(to + 32), _mm256_loadu_si256((const VI *)(from + 32)));
}

#include "../simd_template.h"

#include "stream_256.h"
#include "scan_256.h"
#include "products_256.h"

/* The words of signs_template.h. */
enum { SIGN_LANES = 32, SIGN_WIDTH = 4 };
typedef __m256i VU;
typedef struct {
    __m256i all, odd; /* sums of bytes at odd places are in the upper halves of `all`, too */
} VW;

INLINE VU vu_load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

INLINE VU vu_set1(int k)
{
    return _mm256_set1_epi8((char)k);
}

INLINE VU vu_add(VU a, VU b)
{
    return _mm256_add_epi8(a, b);
}

INLINE VU vu_upper(VU a, VU b, VU c)
{
    const VU first = _mm256_and_si256(_mm256_srli_epi16(a, 6), _mm256_set1_epi8(3));
    const VU second = _mm256_and_si256(_mm256_srli_epi16(b, 4), _mm256_set1_epi8(12));
    const VU third = _mm256_and_si256(_mm256_srli_epi16(c, 2), _mm256_set1_epi8(48));
    return _mm256_or_si256(_mm256_or_si256(first, second), third);
}

INLINE VU vu_lookup(const uint8_t *table, const uint8_t *upper, VU v)
{
    const VU lower_bits = _mm256_and_si256(v, _mm256_set1_epi8(15));
    const VU upper_bits = _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
    const VU first = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    const VU more = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)upper));
    return vu_add(_mm256_shuffle_epi8(first, lower_bits), _mm256_shuffle_epi8(more, upper_bits));
}

INLINE VW vw_set1(int k)
{
    return (VW){_mm256_set1_epi16((short)(257 * k)), _mm256_set1_epi16((short)k)};
}

INLINE VW vw_add(VW w, VU v)
{
    return (VW){_mm256_add_epi16(w.all, v), _mm256_add_epi16(w.odd, _mm256_srli_epi16(v, 8))};
}

INLINE __m256i vw_even(VW w)
{
    return _mm256_sub_epi16(w.all, _mm256_slli_epi16(w.odd, 8));
}

INLINE void vw_store(int16_t *p, VW w)
{
    _mm256_storeu_si256((__m256i *)p, vw_even(w));
    _mm256_storeu_si256((__m256i *)(p + 32), w.odd);
}

INLINE uint64_t vw_reaching(VW w, const uint16_t *p, int least)
{
    const __m256i by = _mm256_set1_epi16((short)least);
    const __m256i even = _mm256_cmpgt_epi16(_mm256_mulhi_epu16(_mm256_loadu_si256((const __m256i *)p), by), vw_even(w));
    const __m256i odd =
        _mm256_cmpgt_epi16(_mm256_mulhi_epu16(_mm256_loadu_si256((const __m256i *)(p + 32)), by), w.odd);
    const __m256i below = _mm256_permute4x64_epi64(_mm256_packs_epi16(even, odd), 0xd8);
    const uint32_t reaching = ~(uint32_t)_mm256_movemask_epi8(below);
    return (reaching & 0xffff) | (uint64_t)(reaching >> 16) << 32;
}

INLINE VI vi_from_i16(const int16_t *p)
{
    return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)p));
}

#include "../signs_template.h"

#include "../affine_template.h"
#include "../input_template.h"
#define vs_set1(k)        _mm256_set1_epi16((short)(k))
#define vs_pairs(a, b)    _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xaa)
#define vs_product(x, y)  _mm256_mulhrs_epi16(x, y)
#define vs_most(x, k)     _mm256_min_epi16(x, k)
#define vs_least(x, k)    _mm256_max_epi16(x, k)
#define vs_add(x, y)      _mm256_add_epi16(x, y)
#define vs_sub(x, y)      _mm256_sub_epi16(x, y)
#define vs_abs(x)         _mm256_abs_epi16(x)
#define vs_part(x)        _mm256_srli_epi16(x, 4)
#define vs_sum(x)         _mm256_madd_epi16(x, vs_set1(1))
#define vi_bits(v)        _mm256_castps_si256(v)
#define vs_dot(sum, x, y) vi_add(sum, _mm256_madd_epi16(x, y))

#include "../look_template.h"
#include "../special_template.h"

#define FIXED(name)  product_##name
#define FIXED_TARGET TARGET
#define FIXED_INLINE INLINE
#include "../fixed_template.h"
#include "../fixed_affine_template.h"

const struct qz_kernels qz_kernels_avx2 = QZ_KERNEL_TABLE("avx2", QZ_CPU_AVX2, product, NULL, NULL);

#else
typedef int qz_no_avx2; /* a translation unit must not be empty */
#endif
