/*
 * avx512.c - kernels with 16 floats at a time, for CPUs with AVX-512 F, BW, DQ, VL and VBMI (Intel since Ice Lake, AMD
 * since Zen 4)
 */
#if defined(__x86_64__) || defined(_M_X64)

#include "../kernels.h"
#include "../../base/number.h"

#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,fma,f16c,popcnt")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define LANES  16

typedef __m512 VF, VT, VG;
typedef __m512i VI;
typedef __mmask16 VM;

#define vf_load(p)            _mm512_loadu_ps(p)
#define vf_store(p, v)        _mm512_storeu_ps(p, v)
#define vf_set1(x)            _mm512_set1_ps(x)
#define vf_add(a, b)          _mm512_add_ps(a, b)
#define vf_sub(a, b)          _mm512_sub_ps(a, b)
#define vf_mul(a, b)          _mm512_mul_ps(a, b)
#define vf_div(a, b)          _mm512_div_ps(a, b)
#define vf_min(a, b)          _mm512_min_ps(a, b)
#define vf_max(a, b)          _mm512_max_ps(a, b)
#define vf_abs(a)             _mm512_abs_ps(a)
#define vf_max_abs(a, b)      _mm512_range_ps(a, b, 0x0b) /* larger magnitude, sign cleared */
#define vf_neg(a)             _mm512_xor_ps(a, _mm512_set1_ps(-0.0f))
#define vf_fma(a, b, c)       _mm512_fmadd_ps(a, b, c)
#define vf_lt(a, b)           _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ)
#define vf_le(a, b)           _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ)
#define vf_eq(a, b)           _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ)
#define vf_ne(a, b)           _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ)
#define vf_select(m, a, b)    _mm512_mask_blend_ps(m, b, a)
#define vf_between(v, lo, hi) vf_min(vf_max(v, lo), hi)
#define vm_none()             ((__mmask16)0)
#define vf_sqrt(v)            _mm512_sqrt_ps(v)
#define vm_and(a, b)          ((__mmask16)((a) & (b)))
#define vm_or(a, b)           ((__mmask16)((a) | (b)))
#define vm_and_ne(m, a, b)    _mm512_mask_cmp_ps_mask(m, a, b, _CMP_NEQ_UQ)
#define vm_any(m)             ((m) != 0)
#define vm_bits(m)            ((unsigned)(m))
#define vm_count(m, n)        ((size_t)__builtin_popcount(vm_bits(m) & ((1u << (n)) - 1)))
#define vf_hmin(v)            _mm512_reduce_min_ps(v)
#define vf_hmax(v)            _mm512_reduce_max_ps(v)
#define vf_round(v)           _mm512_cvtps_epi32(v)
#define vf_rint(v)            _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define vi_trunc(v)           _mm512_cvttps_epi32(v)
#define HAS_LEAST_TRUNC
#define vi_load(p)            _mm512_loadu_si512(p)
#define vi_set1(x)            _mm512_set1_epi32(x)
#define vi_add(a, b)          _mm512_add_epi32(a, b)
#define vi_lt(a, b)           _mm512_cmplt_epi32_mask(a, b)
#define vi_increment(m, v)    _mm512_mask_add_epi32(v, m, v, _mm512_set1_epi32(1))
#define vi_add_where(m, v, k) _mm512_mask_add_epi32(v, m, v, _mm512_set1_epi32(k))
#define vi_lookup(t, v)       _mm512_permutexvar_epi32(v, _mm512_castps_si512(t))
#define vi_from_i8(p)         _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(p)))
#define vi_to_i8(p, v)        _mm_storeu_si128((__m128i *)(p), _mm512_cvtepi32_epi8(v))
#define vf_from_vi(v)         _mm512_cvtepi32_ps(v)
#define vi_halve(v)           _mm512_srai_epi32(v, 1)
#define vi_odd(v)             _mm512_test_epi32_mask(v, _mm512_set1_epi32(1))
#define vi_any(v)             (_mm512_test_epi32_mask(v, v) != 0)
#define vi_low_nibble(v)      (v) /* lookups take the low bits only */
#define vi_clamp(v, lo, hi)   _mm512_min_epi32(_mm512_max_epi32(v, _mm512_set1_epi32(lo)), _mm512_set1_epi32(hi))
#define vt_load(p)            _mm512_loadu_ps(p)
#define vt_lookup(t, v)       _mm512_permutexvar_ps(v, t)
#define vf_from_f16(p)        _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define vf_to_f16(p, v)       _mm256_storeu_si256((__m256i *)(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT))
#define vf_via_f16(v)         _mm512_cvtph_ps(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT))

/* A table of 32 floats, or integers. */
#define HAS_VP
typedef struct {
    __m512 low, high;
} VP;

INLINE VP vp_load(const float *p)
{
    return (VP){_mm512_loadu_ps(p), _mm512_loadu_ps(p + 16)};
}

#define vp_lookup(t, v)    _mm512_permutex2var_ps((t).low, v, (t).high)
#define vp_lookup_vi(t, v) _mm512_castps_si512(vp_lookup(t, v))

/* In the last bits of the sum, which is rounded down; what limits a magnitude keeps the sign. */
INLINE VI vp_cell(VF y, VF most, VF factor)
{
    const VF bits = vf_set1(0x1.8p23f + 16.0f);
    y = _mm512_range_ps(y, most, 0x02);
    return _mm512_castps_si512(_mm512_fmadd_round_ps(y, factor, bits, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
}

typedef __m512d VD;

#define VD_LANES        8
#define VD_TILE         4
#define vd_load(p)      _mm512_loadu_pd(p)
#define vd_store(p, v)  _mm512_storeu_pd(p, v)
#define vd_set1(x)      _mm512_set1_pd(x)
#define vd_add(a, b)    _mm512_add_pd(a, b)
#define vd_sub(a, b)    _mm512_sub_pd(a, b)
#define vd_mul(a, b)    _mm512_mul_pd(a, b)
#define vd_div(a, b)    _mm512_div_pd(a, b)
#define vd_min(a, b)    _mm512_min_pd(a, b)
#define vd_max(a, b)    _mm512_max_pd(a, b)
#define vd_rint(v)      _mm512_roundscale_pd(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define vd_to_i8(p, v)  _mm256_mask_cvtepi32_storeu_epi8(p, 0xff, _mm512_cvtpd_epi32(v))
#define vd_fma(a, b, c) _mm512_fmadd_pd(a, b, c)
#define vd_from_f32(p)  _mm512_cvtps_pd(_mm256_loadu_ps(p))

INLINE VF vf_load_part(const float *p, size_t n, float other)
{
    return _mm512_mask_loadu_ps(_mm512_set1_ps(other), (__mmask16)((1u << n) - 1), p);
}

INLINE void vf_store_part(float *p, size_t n, VF v)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
}

INLINE VF vf_moved(VI v, unsigned bits, uint32_t mask)
{
    return _mm512_and_ps(_mm512_castsi512_ps(_mm512_slli_epi32(v, bits)), vf_set1(qz_float(mask)));
}

INLINE VF vf_halves(float a, float b)
{
    return _mm512_insertf32x8(vf_set1(a), _mm256_set1_ps(b), 1);
}

typedef __m512i VL;
typedef __m512 VN;

/* Constants are made by way of other registers, each time they are needed, which here is too often. */
#define vl_first() _mm512_setzero_si512()
#define vl_one(one)                                                                                                    \
    VI one = vi_set1(1);                                                                                               \
    __asm__("" : "+v"(one))
#define vl_next(l, one) vi_add(l, one)
#define vn_of(v)        (v)
#define vf_store_lanes(at, v)                                                                                          \
    do {                                                                                                               \
        vf_store(at, v);                                                                                               \
        __asm__("" : "+m"(at)); /* compilers know what was stored, and would shuffle */                                \
    } while (0)
#define vn_lane(n, l) _mm512_permutexvar_ps(l, n)

INLINE VF vf_power(VF v)
{
    return _mm512_and_ps(v, _mm512_castsi512_ps(vi_set1(0x7f800000)));
}

INLINE VI vf_cell(VF v)
{
    return _mm512_cvtps_epi32(vf_between(v, vf_set1(0.0f), vf_set1(31.0f)));
}

INLINE void vm_to_u8(uint8_t *p, VM m)
{
    _mm_storeu_si128((__m128i *)p, _mm_maskz_set1_epi8(m, 1));
}

INLINE VF vf_ratio(float x, VF v)
{
    const VI exponents = vi_set1((int32_t)(qz_bits(x) + 0x3f800000u));
    return _mm512_castsi512_ps(_mm512_sub_epi32(exponents, _mm512_castps_si512(v)));
}

/* Rounds to the upper halves, to nearest even; not for NaN. The lower halves are left over. */
INLINE VI round_halves(VI bits)
{
    VI odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), vi_set1(1));
    return vi_add(vi_add(bits, vi_set1(0x7fff)), odd);
}

/* The upper halves, rounded to nearest even. */
INLINE VI round_to_bf16(VF v)
{
    VI bits = _mm512_castps_si512(v);
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_srli_epi32(_mm512_mask_or_epi32(round_halves(bits), nan, bits, vi_set1(0x400000)), 16);
}

INLINE VF vf_from_bf16(const uint16_t *p)
{
    VI bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}

INLINE void vf_to_bf16(uint16_t *p, VF v)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(round_to_bf16(v)));
}

INLINE VF vf_via_bf16(VF v)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(round_to_bf16(v), 16));
}

INLINE VF vf_from_f64(const double *p)
{
    __m256 low = _mm512_cvtpd_ps(_mm512_loadu_pd(p)), high = _mm512_cvtpd_ps(_mm512_loadu_pd(p + 8));
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}

/* bad | ((byte + 8) & ~15) */
INLINE VI bytes_strange(VI bad, const int8_t *p)
{
    VI moved = _mm512_add_epi8(_mm512_loadu_si512(p), _mm512_set1_epi8(8));
    return _mm512_ternarylogic_epi32(bad, moved, _mm512_set1_epi8(15), 0xf4);
}

/* A group's 16 values: decoding is one lookup. */
INLINE VG vg_make(VT values, qz_zero kind, int form, VF scale, VF zero)
{
    (void)form;
    if (kind == QZ_ZERO_OFFSET)
        return vf_add(vf_mul(scale, values), zero);
    return vf_mul(scale, kind == QZ_ZERO_NONE ? values : vf_sub(values, zero));
}

#define vg_values(g, v) _mm512_permutexvar_ps(v, g)

INLINE VT vt_of_group(VT values, qz_zero kind, VF scale, VF zero)
{
    return vg_make(values, kind, QZ_ANY_VALUES, scale, zero);
}

#define vt_not_below(t, limit) _mm512_cmp_ps_mask(vf_abs(t), limit, _CMP_NLT_UQ)

/* Sixteen float16; or sixteen bfloat16 in the upper halves of 32-bit lanes, as the rounding leaves them. */
typedef __m512i VH;

INLINE VH vh_make(VT t, qz_dtype dtype)
{
    if (dtype == QZ_F16)
        return _mm512_castsi256_si512(_mm512_cvtps_ph(t, _MM_FROUND_TO_NEAREST_INT));
    return round_halves(_mm512_castps_si512(t));
}

/* 16-bit lane i gets the code that starts at bit 4 * i % 64 of its 64-bit lane, one bit higher for bfloat16. Of an
 * index the low five bits count. */
INLINE VI vh_values(VH t, qz_dtype dtype, VI codes)
{
    if (dtype == QZ_F16) {
        const VI places =
            _mm512_setr_epi64(0x000c000800040000, 0x001c001800140010, 0x002c002800240020, 0x003c003800340030,
                              0x000c000800040000, 0x001c001800140010, 0x002c002800240020, 0x003c003800340030);
        VI index = _mm512_and_si512(_mm512_multishift_epi64_epi8(places, codes), _mm512_set1_epi16(15));
        return _mm512_permutexvar_epi16(index, t);
    }
    const VI places = _mm512_setr_epi64(0x000b00070003003f, 0x001b00170013000f, 0x002b00270023001f, 0x003b00370033002f,
                                        0x000b00070003003f, 0x001b00170013000f, 0x002b00270023001f, 0x003b00370033002f);
    VI index = _mm512_or_si512(_mm512_multishift_epi64_epi8(places, codes), _mm512_set1_epi16(1));
    return _mm512_permutexvar_epi16(index, t);
}

INLINE void vh_lookup_32(VH t, qz_dtype dtype, const uint8_t *p, uint16_t *dst)
{
    long long first, second;
    memcpy(&first, p, sizeof first);
    memcpy(&second, p + 8, sizeof second);
    VI codes = _mm512_mask_set1_epi64(_mm512_set1_epi64(first), 0xf0, second);
    _mm512_storeu_si512(dst, vh_values(t, dtype, codes));
}

INLINE void vh_lookup_16(VH t, qz_dtype dtype, const uint8_t *p, uint16_t *dst)
{
    long long codes;
    memcpy(&codes, p, sizeof codes);
    _mm256_storeu_si256((__m256i *)dst, _mm512_castsi512_si256(vh_values(t, dtype, _mm512_set1_epi64(codes))));
}

/* Code i in the low bits of lane i; what is above it does not matter to a lookup. The eight bytes go to every 64-bit
 * lane, where each 32-bit half takes eight bits from a place of its own. */
INLINE VI vi_nibbles(const uint8_t *p, int sign)
{
    (void)sign;
    const VI places = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60);
    long long codes;
    memcpy(&codes, p, sizeof codes);
    return _mm512_multishift_epi64_epi8(places, _mm512_set1_epi64(codes));
}

/*
 * Four vectors a, b, c, d of small integers as bytes. Saturating packs work within 128-bit lanes:
 *     lane 0: a0-3 b0-3 c0-3 d0-3    lane 1: a4-7 b4-7 c4-7 d4-7    ...
 */
INLINE VI bytes_in_lanes(const VI v[4])
{
    return _mm512_packs_epi16(_mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(v[2], v[3]));
}

INLINE void bytes_block(const VI v[4], int8_t *out)
{
    const VI order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    VI bytes = _mm512_sub_epi8(bytes_in_lanes(v), _mm512_set1_epi8(8));
    _mm512_storeu_si512(out, _mm512_permutexvar_epi32(order, bytes));
}

/* Two codes of each 16-bit lane to its low byte: first + 16 * second. */
INLINE VI join_nibbles(VI bytes)
{
    return _mm512_maddubs_epi16(_mm512_and_si512(bytes, _mm512_set1_epi8(15)), _mm512_set1_epi16(0x1001));
}

/* Codes in the lanes of bytes_in_lanes, as 32 bytes in the order of the elements: the low byte of 16-bit lane
 * 2 * (4 * lane + vector) + half. */
INLINE void block_store(VI bytes, uint8_t *out)
{
    const __m512i order =
        _mm512_castsi256_si512(_mm256_setr_epi8(0, 2, 16, 18, 32, 34, 48, 50, 4, 6, 20, 22, 36, 38, 52, 54, 8, 10, 24,
                                                26, 40, 42, 56, 58, 12, 14, 28, 30, 44, 46, 60, 62));
    VI packed = _mm512_permutexvar_epi8(order, join_nibbles(bytes));
    _mm256_storeu_si256((__m256i *)out, _mm512_castsi512_si256(packed));
}

INLINE VI block_clamp(const VI v[4], int lo, int hi, size_t *clipped)
{
    VI wanted = bytes_in_lanes(v);
    VI codes = _mm512_min_epi8(_mm512_max_epi8(wanted, _mm512_set1_epi8((char)lo)), _mm512_set1_epi8((char)hi));
    *clipped += (size_t)__builtin_popcountll(_mm512_cmpneq_epi8_mask(wanted, codes));
    return codes;
}

INLINE VI block_cap(const VI v[4], int hi)
{
    return _mm512_min_epi8(bytes_in_lanes(v), _mm512_set1_epi8((char)hi));
}

/* Byte 4 * j + i of a 128-bit lane to the low byte of its 32-bit lane i; what is above does not matter. */
#define HAS_BLOCK_CODE
INLINE VI block_code(VI bytes, size_t j, int sign)
{
    (void)sign;
    int i = 4 * (int)j;
    return _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(_mm_setr_epi32(i, i + 1, i + 2, i + 3)));
}

/* See struct qz_grid: one comparison each, with a threshold looked up in two registers. */
#define HAS_CELLS
typedef struct {
    VF low, high, factor, bias;
    VI code;
} VX;

INLINE VX vx_make(const struct qz_cell_codes *cells)
{
    return (VX){vf_load(cells->upper), vf_load(cells->upper + 16), vf_set1(cells->factor), vf_set1(cells->bias),
                _mm512_loadu_si512(cells->code)};
}

INLINE VI block_cells(const VX *cells, const VF y[4], size_t *clipped)
{
    VI index[4];
    for (size_t j = 0; j < 4; j++) {
        VI cell = vf_cell(vf_fma(y[j], cells->factor, cells->bias));
        VM reached = vf_le(_mm512_permutex2var_ps(cells->low, cell, cells->high), y[j]);
        index[j] = vi_increment(reached, vi_add(cell, cell));
    }
    VI bytes = bytes_in_lanes(index);
    __mmask64 first = _mm512_testn_epi8_mask(bytes, bytes), last = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(63));
    *clipped += (size_t)__builtin_popcountll(first | last);
    return _mm512_permutexvar_epi8(bytes, cells->code);
}

#define HAS_COLUMNS
#define vb_table(...)         _mm512_broadcast_i32x4(_mm_setr_epi8(__VA_ARGS__))
#define vb_shuffle(v, table)  _mm512_shuffle_epi8(v, table)
#define vb_narrow(a, b)       _mm512_packus_epi16(a, b)
#define vi_low32(a, b)        _mm512_unpacklo_epi32(a, b)
#define vi_high32(a, b)       _mm512_unpackhi_epi32(a, b)
#define vi_low64(a, b)        _mm512_unpacklo_epi64(a, b)
#define vi_high64(a, b)       _mm512_unpackhi_epi64(a, b)
#define vi_nibble(v, j, sign) _mm512_srli_epi32(v, 4 * (unsigned)(j))
#define vi_value(t, v, form)  ((void)(form), vt_lookup(t, v))

INLINE VI vi_load_lanes(const uint8_t *p, ptrdiff_t step)
{
    VI v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)p));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p + step)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p + 2 * step)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p + 3 * step)), 3);
}

INLINE void vi_store_lanes(uint8_t *p, ptrdiff_t step, VI v)
{
    _mm_storeu_si128((__m128i *)p, _mm512_castsi512_si128(v));
    _mm_storeu_si128((__m128i *)(p + step), _mm512_extracti32x4_epi32(v, 1));
    _mm_storeu_si128((__m128i *)(p + 2 * step), _mm512_extracti32x4_epi32(v, 2));
    _mm_storeu_si128((__m128i *)(p + 3 * step), _mm512_extracti32x4_epi32(v, 3));
}

/*
 * Ranges by comparisons of integers, of which four go at once where of floats it is two. As unsigned integers, negative
 * floats are above all others, the farther from zero the more: the greatest one is the least float, if any is negative.
 * As signed integers the greatest is the greatest float, if any is not negative. NaN and infinity are beyond all else
 * of their sign. Only groups of a single sign need the other end: the least of unsigned integers.
 *
 * Sixteen vectors become one that holds what is left of vector i in lane i, two becoming one at a time.
 */
#define REDUCE_TREE(name, op)                                                                                          \
    INLINE VI name##_pairs(VI a, VI b) /* a0 b0 a1 b1 in each four lanes */                                            \
    {                                                                                                                  \
        return op(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));                                           \
    }                                                                                                                  \
    INLINE VI name##_fours(VI a, VI b) /* four vectors' lanes in each four lanes */                                    \
    {                                                                                                                  \
        return op(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));                                           \
    }                                                                                                                  \
    INLINE VI name##_halves(VI a, VI b) /* a in lanes 0-7, b in lanes 8-15 */                                          \
    {                                                                                                                  \
        return op(_mm512_shuffle_i32x4(a, b, 0x44), _mm512_shuffle_i32x4(a, b, 0xee));                                 \
    }                                                                                                                  \
    INLINE VI name##_whole(VI a, VI b) /* both as they are there */                                                    \
    {                                                                                                                  \
        return op(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));                                 \
    }                                                                                                                  \
    INLINE VI name##_4(const VI v[4])                                                                                  \
    {                                                                                                                  \
        return name##_fours(name##_pairs(v[0], v[1]), name##_pairs(v[2], v[3]));                                       \
    }                                                                                                                  \
    INLINE VI name##_16(const VI fours[4])                                                                             \
    {                                                                                                                  \
        return name##_whole(name##_halves(fours[0], fours[1]), name##_halves(fours[2], fours[3]));                     \
    }
REDUCE_TREE(low, _mm512_max_epu32)
REDUCE_TREE(high, _mm512_max_epi32)
REDUCE_TREE(least, _mm512_min_epu32)

/* The ends of sixteen groups' ranges, apart from groups of a single sign. */
INLINE void group_ends(const float *x, size_t group_size, VI *low, VI *high)
{
    VI lows[4], highs[4];
    for (size_t k = 0; k < 4; k++) { /* in the order of memory, which prefetchers follow */
        VI l[4], h[4];
        for (size_t j = 0; j < 4; j++, x += group_size) {
            l[j] = h[j] = _mm512_loadu_si512(x);
            for (size_t i = LANES; i < group_size; i += LANES) {
                VI v = _mm512_loadu_si512(x + i);
                l[j] = _mm512_max_epu32(l[j], v);
                h[j] = _mm512_max_epi32(h[j], v);
            }
        }
        lows[k] = low_4(l);
        highs[k] = high_4(h);
    }
    *low = low_16(lows);
    *high = high_16(highs);
}

/* Of a group of a single sign, the value that is closest to zero. */
INLINE VI group_least(const float *x, size_t group_size)
{
    VI fours[4];
    for (size_t k = 0; k < 4; k++) {
        VI v[4];
        for (size_t j = 0; j < 4; j++, x += group_size) {
            v[j] = _mm512_loadu_si512(x);
            for (size_t i = LANES; i < group_size; i += LANES)
                v[j] = _mm512_min_epu32(v[j], _mm512_loadu_si512(x + i));
        }
        fours[k] = least_4(v);
    }
    return least_16(fours);
}

INLINE void reduce_groups(const float *x, size_t group_size, VF *min, VF *max, VF *check)
{
    VI low, high;
    group_ends(x, group_size, &low, &high);
    if (_mm512_movepi32_mask(_mm512_andnot_si512(high, low)) != 0xffff) {
        VM positive = (VM)~_mm512_movepi32_mask(low), negative = _mm512_movepi32_mask(high);
        __asm__("" : "+r"(x)); /* or else compilers store all that was loaded, for this */
        VI least = group_least(x, group_size);
        low = _mm512_mask_mov_epi32(low, positive, least);
        high = _mm512_mask_mov_epi32(high, negative, least);
    }
    *min = _mm512_castsi512_ps(low);
    *max = _mm512_castsi512_ps(high);
    *check = vf_fma(*max, vf_set1(0.0f), vf_fma(*min, vf_set1(0.0f), *check));
}

/*
 * Half of a block: 16 lines of 8 floats become 8 of 16. Two lines four apart share a register from the load on, which
 * saves a round of shuffles:
 *
 *     4 x 4 blocks transposed within 128-bit lanes      low[k]:  column k of lines 0-3, k + 4 of 0-3, k of 4-7, k + 4
 * of 4-7 high[k]: the same of lines 8-15
 */
INLINE void transpose_half(const float *src, ptrdiff_t src_stride, float *dst, ptrdiff_t dst_stride)
{
    VF r[8], t[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const float *line = src + (i < 4 ? i : i + 4) * src_stride;
        r[i] = _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(line)), _mm256_loadu_ps(line + 4 * src_stride),
                                  1);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
#pragma GCC unroll 8
    for (int k = 0; k < 4; k++) {
        vf_store(dst + k * dst_stride, _mm512_shuffle_f32x4(r[k], r[k + 4], 0x88));
        vf_store(dst + (k + 4) * dst_stride, _mm512_shuffle_f32x4(r[k], r[k + 4], 0xdd));
    }
}

INLINE void transpose_block(const float *src, ptrdiff_t src_stride, float *dst, ptrdiff_t dst_stride)
{
    transpose_half(src, src_stride, dst, dst_stride);
    transpose_half(src + 8, src_stride, dst + 8 * dst_stride, dst_stride);
}

INLINE __mmask64 first_bytes(size_t n)
{
    return n >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1;
}

static TARGET int pack(const int8_t *codes, size_t n, uint8_t *packed)
{
    static const uint8_t even_bytes[64] = {
        0,  2,  4,  6,  8,  10, 12,  14,  16,  18,  20,  22,  24,  26,  28,  30,  32,  34,  36,  38, 40, 42,
        44, 46, 48, 50, 52, 54, 56,  58,  60,  62,  64,  66,  68,  70,  72,  74,  76,  78,  80,  82, 84, 86,
        88, 90, 92, 94, 96, 98, 100, 102, 104, 106, 108, 110, 112, 114, 116, 118, 120, 122, 124, 126};
    const VI even = _mm512_loadu_si512(even_bytes), eight = _mm512_set1_epi8(8);
    VI moved = _mm512_setzero_si512(); /* all (code + 8) together: the upper halves of its bytes must stay 0 */
    size_t i = 0;
    for (; i + 128 <= n; i += 128) {
        VI a = _mm512_loadu_si512(codes + i), b = _mm512_loadu_si512(codes + i + 64);
        moved = _mm512_ternarylogic_epi32(moved, _mm512_add_epi8(a, eight), _mm512_add_epi8(b, eight), 0xfe);
        _mm512_storeu_si512(packed + i / 2, _mm512_permutex2var_epi8(join_nibbles(a), even, join_nibbles(b)));
    }
    for (; i < n; i += 64) {
        size_t rest = n - i < 64 ? n - i : 64;
        VI a = _mm512_maskz_loadu_epi8(first_bytes(rest), codes + i);
        moved = _mm512_or_si512(moved, _mm512_add_epi8(a, eight));
        _mm256_mask_storeu_epi8(packed + i / 2, (__mmask32)first_bytes((rest + 1) / 2),
                                _mm512_cvtepi16_epi8(join_nibbles(a)));
    }
    return _mm512_test_epi8_mask(moved, _mm512_set1_epi8((char)0xf0)) != 0;
}

/* 64 codes from 32 bytes: four bytes to each 64-bit lane, a shift of its own for each byte of the lane, then a table of
 * signed codes that is the same for all values of the bits above the low four. */
INLINE VI unpack_block(__m256i bytes)
{
    const VI shifts = _mm512_set1_epi64(0x1c1814100c080400);
    const VI signs = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1));
    return _mm512_permutexvar_epi8(_mm512_multishift_epi64_epi8(shifts, _mm512_cvtepu32_epi64(bytes)), signs);
}

static TARGET void unpack(const uint8_t *packed, size_t n, int8_t *codes)
{
    size_t i = 0;
    for (; i + 128 <= n; i += 128) {
        _mm512_storeu_si512(codes + i, unpack_block(_mm256_loadu_si256((const __m256i *)(packed + i / 2))));
        _mm512_storeu_si512(codes + i + 64, unpack_block(_mm256_loadu_si256((const __m256i *)(packed + i / 2 + 32))));
    }
    for (; i + 64 <= n; i += 64)
        _mm512_storeu_si512(codes + i, unpack_block(_mm256_loadu_si256((const __m256i *)(packed + i / 2))));
    if (i < n) {
        __m256i bytes = _mm256_maskz_loadu_epi8((__mmask32)first_bytes((n - i + 1) / 2), packed + i / 2);
        _mm512_mask_storeu_epi8(codes + i, first_bytes(n - i), unpack_block(bytes));
    }
}

#define HAS_DECODE_F64
static TARGET int decode_f64(const int8_t *codes, size_t n, const double table[16], double *dst)
{
    __m512d low = _mm512_loadu_pd(table), high = _mm512_loadu_pd(table + 8);
    __m512i bad = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += 8) {
        __mmask8 lanes = n - i >= 8 ? 0xff : (__mmask8)((1u << (n - i)) - 1);
        __m512i code = _mm512_cvtepi8_epi64(_mm_maskz_loadu_epi8(lanes, codes + i));
        bad = _mm512_ternarylogic_epi64(bad, _mm512_add_epi64(code, _mm512_set1_epi64(8)), _mm512_set1_epi64(15), 0xf4);
        _mm512_mask_storeu_pd(dst + i, lanes, _mm512_permutex2var_pd(low, code, high));
    }
    return vi_any(bad);
}

static TARGET inline void stream_line(char *to, const char *from)
{
    _mm512_stream_si512((__m512i *)to, _mm512_loadu_si512(from));
}

#include "../simd_template.h"

#include "stream_256.h"
#include "scan_256.h"
#include "few_512.h"
#include "products_256.h"
#include "products_512.h"
#if defined(QZ_HAS_AMX)
#include "products_amx.h"
#define amx_levels       vnni_levels
#define amx_packed       vnni_packed
#define amx_beside       vnni_beside
#define amx_fixed        vnni_fixed
#define amx_fixed_affine vnni_fixed_affine
#endif

/* The words of signs_template.h. */
enum { SIGN_LANES = 64, SIGN_WIDTH = 8 };
typedef __m512i VU;
typedef struct {
    __m512i all, odd; /* sums of bytes at odd places are in the upper halves of `all`, too */
} VW;

INLINE VU vu_load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}

INLINE VU vu_set1(int k)
{
    return _mm512_set1_epi8((char)k);
}

INLINE VU vu_add(VU a, VU b)
{
    return _mm512_add_epi8(a, b);
}

INLINE VU vu_upper(VU a, VU b, VU c)
{
    const VU low =
        _mm512_ternarylogic_epi32(_mm512_srli_epi16(a, 6), _mm512_srli_epi16(b, 4), _mm512_set1_epi8(3), 0xe4);
    return _mm512_ternarylogic_epi32(low, _mm512_srli_epi16(c, 2), _mm512_set1_epi8(15), 0xe4);
}

INLINE VU vu_lookup(const uint8_t *table, const uint8_t *upper, VU v)
{
    (void)upper;
    return _mm512_permutexvar_epi8(v, _mm512_loadu_si512(table));
}

INLINE VW vw_set1(int k)
{
    return (VW){_mm512_set1_epi16((short)(257 * k)), _mm512_set1_epi16((short)k)};
}

INLINE VW vw_add(VW w, VU v)
{
    return (VW){_mm512_add_epi16(w.all, v), _mm512_add_epi16(w.odd, _mm512_srli_epi16(v, 8))};
}

INLINE __m512i vw_even(VW w)
{
    return _mm512_sub_epi16(w.all, _mm512_slli_epi16(w.odd, 8));
}

INLINE void vw_store(int16_t *p, VW w)
{
    _mm512_storeu_si512(p, vw_even(w));
    _mm512_storeu_si512(p + 32, w.odd);
}

INLINE uint64_t vw_reaching(VW w, const uint16_t *p, int least)
{
    const __m512i by = _mm512_set1_epi16((short)least);
    const __m512i even = _mm512_mulhi_epu16(_mm512_loadu_si512(p), by);
    const __m512i odd = _mm512_mulhi_epu16(_mm512_loadu_si512(p + 32), by);
    return _mm512_cmpge_epi16_mask(vw_even(w), even) | (uint64_t)_mm512_cmpge_epi16_mask(w.odd, odd) << 32;
}

INLINE VI vi_from_i16(const int16_t *p)
{
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)p));
}

#include "../signs_template.h"

#include "../affine_template.h"
#include "../input_template.h"
#define vs_set1(k)       _mm512_set1_epi16((short)(k))
#define vs_pairs(a, b)   _mm512_mask_blend_epi16(0xaaaaaaaa, a, _mm512_slli_epi32(b, 16))
#define vs_product(x, y) _mm512_mulhrs_epi16(x, y)
#define vs_most(x, k)    _mm512_min_epi16(x, k)
#define vs_least(x, k)   _mm512_max_epi16(x, k)
#define vs_add(x, y)     _mm512_add_epi16(x, y)
#define vs_sub(x, y)     _mm512_sub_epi16(x, y)
#define vs_abs(x)        _mm512_abs_epi16(x)
#define vs_part(x)       _mm512_srli_epi16(x, 4)
#define vs_sum(x)        _mm512_madd_epi16(x, vs_set1(1))
#define vi_bits(v)       _mm512_castps_si512(v)

#include "../look_template.h"
#include "../special_template.h"

#define FIXED(name)       product_##name
#define FIXED_TARGET      TARGET
#define FIXED_INLINE      INLINE
#define vs_dot(sum, x, y) vi_add(sum, _mm512_madd_epi16(x, y))
#include "../fixed_template.h"
#include "../fixed_affine_template.h"
#undef vs_dot
#undef FIXED_INLINE
#undef FIXED_TARGET
#undef FIXED

#define FIXED(name)       vnni_##name
#define FIXED_TARGET      VNNI_TARGET
#define FIXED_INLINE      VNNI_INLINE
#define vs_dot(sum, x, y) _mm512_dpwssd_epi32(sum, x, y)
#include "../fixed_template.h"
#include "../fixed_affine_template.h"

const struct qz_kernels qz_kernels_avx512 = QZ_KERNEL_TABLE("avx512", QZ_CPU_AVX512, product, products_few, few_values);
const struct qz_kernels qz_kernels_avx512vnni =
    QZ_KERNEL_TABLE("avx512vnni", QZ_CPU_AVX512 | QZ_CPU_AVX512VNNI, vnni, products_few, few_values);
#if defined(QZ_HAS_AMX)
const struct qz_kernels qz_kernels_avx512amx =
    QZ_KERNEL_TABLE("avx512amx", QZ_CPU_AVX512 | QZ_CPU_AVX512VNNI | QZ_CPU_AMX, amx, products_few, few_values);
#endif

#else
typedef int qz_no_avx512; /* a translation unit must not be empty */
#endif
