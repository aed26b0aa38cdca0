/*
 * AVX-512 and AMX for processors that have AVX2 only: stands in for the compiler's <immintrin.h>, so that the kernels
 * for them can be built and tested there. It has the intrinsics that they use, by those of AVX2 where each half of a
 * vector or each 128-bit lane is worked on by itself, else element by element, as Intel's manual describes them.
 *
 * What is tested is the source of these kernels, not what a compiler makes of it for AVX-512. One that uses another
 * intrinsic fails to compile.
 */
#ifndef QZ_EMULATED_IMMINTRIN_H
#define QZ_EMULATED_IMMINTRIN_H

#include_next <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Whatever functions ask for, they get this; and the sets for AVX-512 run where AVX2 does. */
#define target(features)  target("avx2,fma,f16c,popcnt")
#define QZ_CPU_AVX512     QZ_CPU_AVX2
#define QZ_CPU_AVX512VNNI QZ_CPU_AVX2
#define QZ_CPU_AMX        QZ_CPU_AVX2

/* Without registers as wide, inlining all of a kernel takes compilers minutes. */
#define always_inline unused

/* Only barriers, some of them for registers that are not there. */
#define __asm__(...) ((void)0)

#define STAND_IN static __attribute__((unused, target("")))

typedef union {
    __m512 ps;
    __m512d pd;
    __m512i si;
    __m256 half_ps[2];
    __m256d half_pd[2];
    __m256i half[2];
    __m128i lane[4];
    float f32[16];
    double f64[8];
    int8_t i8[64];
    uint8_t u8[64];
    int16_t i16[32];
    int32_t i32[16];
    uint32_t u32[16];
    int64_t i64[8];
    uint64_t u64[8];
} stand_in;

/* ---- each half by itself ------------------------------------------------------------------------------------ */

#define HALVES_2(name, type, field, part, op)                                                                          \
    STAND_IN type name(type a, type b)                                                                                 \
    {                                                                                                                  \
        stand_in x = {.field = a}, y = {.field = b};                                                                   \
        return (stand_in){.part = {op(x.part[0], y.part[0]), op(x.part[1], y.part[1])}}.field;                         \
    }
#define HALVES_3(name, type, field, part, op)                                                                          \
    STAND_IN type name(type a, type b, type c)                                                                         \
    {                                                                                                                  \
        stand_in x = {.field = a}, y = {.field = b}, z = {.field = c};                                                 \
        return (stand_in){.part = {op(x.part[0], y.part[0], z.part[0]), op(x.part[1], y.part[1], z.part[1])}}.field;   \
    }
#define PS_2(name, op) HALVES_2(name, __m512, ps, half_ps, op)
#define PD_2(name, op) HALVES_2(name, __m512d, pd, half_pd, op)
#define SI_2(name, op) HALVES_2(name, __m512i, si, half, op)

PS_2(stand_in_add_ps, _mm256_add_ps)
PS_2(stand_in_sub_ps, _mm256_sub_ps)
PS_2(stand_in_mul_ps, _mm256_mul_ps)
PS_2(stand_in_div_ps, _mm256_div_ps)
PS_2(stand_in_min_ps, _mm256_min_ps)
PS_2(stand_in_max_ps, _mm256_max_ps)
PS_2(stand_in_and_ps, _mm256_and_ps)
PS_2(stand_in_xor_ps, _mm256_xor_ps)
PS_2(stand_in_unpacklo_ps, _mm256_unpacklo_ps)
PS_2(stand_in_unpackhi_ps, _mm256_unpackhi_ps)
HALVES_3(stand_in_fmadd_ps, __m512, ps, half_ps, _mm256_fmadd_ps)
PD_2(stand_in_add_pd, _mm256_add_pd)
PD_2(stand_in_sub_pd, _mm256_sub_pd)
PD_2(stand_in_mul_pd, _mm256_mul_pd)
PD_2(stand_in_div_pd, _mm256_div_pd)
PD_2(stand_in_min_pd, _mm256_min_pd)
PD_2(stand_in_max_pd, _mm256_max_pd)
HALVES_3(stand_in_fmadd_pd, __m512d, pd, half_pd, _mm256_fmadd_pd)
SI_2(stand_in_add_epi8, _mm256_add_epi8)
SI_2(stand_in_add_epi16, _mm256_add_epi16)
SI_2(stand_in_sub_epi16, _mm256_sub_epi16)
SI_2(stand_in_add_epi32, _mm256_add_epi32)
SI_2(stand_in_add_epi64, _mm256_add_epi64)
SI_2(stand_in_sub_epi8, _mm256_sub_epi8)
SI_2(stand_in_sub_epi32, _mm256_sub_epi32)
SI_2(stand_in_and_si512, _mm256_and_si256)
SI_2(stand_in_andnot_si512, _mm256_andnot_si256)
SI_2(stand_in_or_si512, _mm256_or_si256)
SI_2(stand_in_xor_si512, _mm256_xor_si256)
SI_2(stand_in_min_epi8, _mm256_min_epi8)
SI_2(stand_in_max_epi8, _mm256_max_epi8)
SI_2(stand_in_min_epi32, _mm256_min_epi32)
SI_2(stand_in_max_epi32, _mm256_max_epi32)
SI_2(stand_in_min_epu32, _mm256_min_epu32)
SI_2(stand_in_max_epu32, _mm256_max_epu32)
SI_2(stand_in_maddubs_epi16, _mm256_maddubs_epi16)
SI_2(stand_in_shuffle_epi8, _mm256_shuffle_epi8)
SI_2(stand_in_packs_epi16, _mm256_packs_epi16)
SI_2(stand_in_madd_epi16, _mm256_madd_epi16)
SI_2(stand_in_mulhrs_epi16, _mm256_mulhrs_epi16)
SI_2(stand_in_mulhi_epu16, _mm256_mulhi_epu16)
SI_2(stand_in_min_epi16, _mm256_min_epi16)
SI_2(stand_in_max_epi16, _mm256_max_epi16)
SI_2(stand_in_packs_epi32, _mm256_packs_epi32)
SI_2(stand_in_packus_epi16, _mm256_packus_epi16)
SI_2(stand_in_unpacklo_epi32, _mm256_unpacklo_epi32)
SI_2(stand_in_unpackhi_epi32, _mm256_unpackhi_epi32)
SI_2(stand_in_unpacklo_epi64, _mm256_unpacklo_epi64)
SI_2(stand_in_unpackhi_epi64, _mm256_unpackhi_epi64)

STAND_IN __m512 stand_in_sqrt(__m512 v)
{
    stand_in x = {.ps = v};
    return (stand_in){.half_ps = {_mm256_sqrt_ps(x.half_ps[0]), _mm256_sqrt_ps(x.half_ps[1])}}.ps;
}

STAND_IN __m512i stand_in_abs_epi16(__m512i v)
{
    stand_in x = {.si = v};
    return (stand_in){.half = {_mm256_abs_epi16(x.half[0]), _mm256_abs_epi16(x.half[1])}}.si;
}

/* Rounds down, whatever the mode is. The order of volatile parts is that of the text. */
STAND_IN __m256 stand_in_fmadd_down(__m256 a, __m256 b, __m256 c)
{
    const unsigned before = _mm_getcsr();
    _mm_setcsr((before & ~0x6000u) | 0x2000u);
    __asm__ volatile("vfmadd213ps %2, %1, %0" : "+x"(a) : "x"(b), "x"(c));
    _mm_setcsr(before);
    return a;
}
HALVES_3(stand_in_fmadd_ps_down, __m512, ps, half_ps, stand_in_fmadd_down)

#define _mm512_sqrt_ps                       stand_in_sqrt
#define _mm512_add_ps                        stand_in_add_ps
#define _mm512_sub_ps                        stand_in_sub_ps
#define _mm512_mul_ps                        stand_in_mul_ps
#define _mm512_div_ps                        stand_in_div_ps
#define _mm512_min_ps                        stand_in_min_ps
#define _mm512_max_ps                        stand_in_max_ps
#define _mm512_and_ps                        stand_in_and_ps
#define _mm512_xor_ps                        stand_in_xor_ps
#define _mm512_unpacklo_ps                   stand_in_unpacklo_ps
#define _mm512_unpackhi_ps                   stand_in_unpackhi_ps
#define _mm512_fmadd_ps                      stand_in_fmadd_ps
#define _mm512_fmadd_round_ps(a, b, c, down) stand_in_fmadd_ps_down(a, b, c) /* the only mode that is used */
#define _mm512_add_pd                        stand_in_add_pd
#define _mm512_sub_pd                        stand_in_sub_pd
#define _mm512_mul_pd                        stand_in_mul_pd
#define _mm512_div_pd                        stand_in_div_pd
#define _mm512_min_pd                        stand_in_min_pd
#define _mm512_max_pd                        stand_in_max_pd
#define _mm512_fmadd_pd                      stand_in_fmadd_pd
#define _mm512_add_epi8                      stand_in_add_epi8
#define _mm512_add_epi16                     stand_in_add_epi16
#define _mm512_sub_epi16                     stand_in_sub_epi16
#define _mm512_add_epi32                     stand_in_add_epi32
#define _mm512_add_epi64                     stand_in_add_epi64
#define _mm512_sub_epi8                      stand_in_sub_epi8
#define _mm512_sub_epi32                     stand_in_sub_epi32
#define _mm512_and_si512                     stand_in_and_si512
#define _mm512_andnot_si512                  stand_in_andnot_si512
#define _mm512_or_si512                      stand_in_or_si512
#define _mm512_xor_si512                     stand_in_xor_si512
#define _mm512_min_epi8                      stand_in_min_epi8
#define _mm512_max_epi8                      stand_in_max_epi8
#define _mm512_min_epi32                     stand_in_min_epi32
#define _mm512_max_epi32                     stand_in_max_epi32
#define _mm512_min_epu32                     stand_in_min_epu32
#define _mm512_max_epu32                     stand_in_max_epu32
#define _mm512_maddubs_epi16                 stand_in_maddubs_epi16
#define _mm512_shuffle_epi8                  stand_in_shuffle_epi8
#define _mm512_packs_epi16                   stand_in_packs_epi16
#define _mm512_madd_epi16                    stand_in_madd_epi16
#define _mm512_mulhrs_epi16                  stand_in_mulhrs_epi16
#define _mm512_mulhi_epu16                   stand_in_mulhi_epu16
#define _mm512_min_epi16                     stand_in_min_epi16
#define _mm512_max_epi16                     stand_in_max_epi16
#define _mm512_abs_epi16                     stand_in_abs_epi16
#define _mm512_packs_epi32                   stand_in_packs_epi32
#define _mm512_packus_epi16                  stand_in_packus_epi16
#define _mm512_unpacklo_epi32                stand_in_unpacklo_epi32
#define _mm512_unpackhi_epi32                stand_in_unpackhi_epi32
#define _mm512_unpacklo_epi64                stand_in_unpacklo_epi64
#define _mm512_unpackhi_epi64                stand_in_unpackhi_epi64

/* The same with numbers that are part of the instruction. */
#define STAND_IN_WITH(type, field, part, op, a, ...)                                                                   \
    __extension__({                                                                                                    \
        stand_in halves_of = {.field = (a)};                                                                           \
        (stand_in){.part = {op(halves_of.part[0], __VA_ARGS__), op(halves_of.part[1], __VA_ARGS__)}}.field;            \
    })
#define _mm512_slli_epi32(a, bits)   STAND_IN_WITH(__m512i, si, half, _mm256_slli_epi32, a, (int)(bits))
#define _mm512_rol_epi32(a, bits)    _mm512_or_si512(_mm512_slli_epi32(a, bits), _mm512_srli_epi32(a, 32 - (bits)))
#define _mm512_srli_epi32(a, bits)   STAND_IN_WITH(__m512i, si, half, _mm256_srli_epi32, a, (int)(bits))
#define _mm512_srli_epi16(a, bits)   STAND_IN_WITH(__m512i, si, half, _mm256_srli_epi16, a, (int)(bits))
#define _mm512_slli_epi16(a, bits)   STAND_IN_WITH(__m512i, si, half, _mm256_slli_epi16, a, (int)(bits))
#define _mm512_srai_epi32(a, bits)   STAND_IN_WITH(__m512i, si, half, _mm256_srai_epi32, a, (int)(bits))
#define _mm512_roundscale_ps(a, how) STAND_IN_WITH(__m512, ps, half_ps, _mm256_round_ps, a, how)
#define _mm512_roundscale_pd(a, how) STAND_IN_WITH(__m512d, pd, half_pd, _mm256_round_pd, a, how)
#define _mm512_shuffle_ps(a, b, order)                                                                                 \
    __extension__({                                                                                                    \
        stand_in shuffled_a = {.ps = (a)}, shuffled_b = {.ps = (b)};                                                   \
        (stand_in){.half_ps = {_mm256_shuffle_ps(shuffled_a.half_ps[0], shuffled_b.half_ps[0], order),                 \
                               _mm256_shuffle_ps(shuffled_a.half_ps[1], shuffled_b.half_ps[1], order)}}                \
            .ps;                                                                                                       \
    })

/* ---- the same bits, constants, memory ----------------------------------------------------------------------- */

#define _mm512_castps_si512(a)    ((__m512i)(__m512)(a))
#define _mm512_castsi512_ps(a)    ((__m512)(__m512i)(a))
#define _mm512_castsi512_si256(a) ((stand_in){.si = (a)}.half[0])
#define _mm512_castsi512_si128(a) ((stand_in){.si = (a)}.lane[0])
/* What is above is undefined: other than zero, so that a kernel that counts on zeros is noticed. */
#define _mm512_castsi256_si512(a) ((stand_in){.half = {(a), _mm256_set1_epi8(0x5b)}}.si)
#define _mm512_castsi128_si512(a)                                                                                      \
    ((stand_in){.lane = {(a), _mm_set1_epi8(0x5b), _mm_set1_epi8(0x5c), _mm_set1_epi8(0x5d)}}.si)
#define _mm512_castps256_ps512(a) ((stand_in){.half_ps = {(a), _mm256_set1_ps(12345.0f)}}.ps)

#define _mm512_set1_ps(x)      ((stand_in){.half_ps = {_mm256_set1_ps(x), _mm256_set1_ps(x)}}.ps)
#define _mm512_set1_pd(x)      ((stand_in){.half_pd = {_mm256_set1_pd(x), _mm256_set1_pd(x)}}.pd)
#define _mm512_set1_epi8(x)    ((stand_in){.half = {_mm256_set1_epi8(x), _mm256_set1_epi8(x)}}.si)
#define _mm512_set1_epi16(x)   ((stand_in){.half = {_mm256_set1_epi16(x), _mm256_set1_epi16(x)}}.si)
#define _mm512_set1_epi32(x)   ((stand_in){.half = {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}}.si)
#define _mm512_set1_epi64(x)   ((stand_in){.half = {_mm256_set1_epi64x(x), _mm256_set1_epi64x(x)}}.si)
#define _mm512_setr_epi32(...) ((stand_in){.i32 = {__VA_ARGS__}}.si)
#define _mm512_setr_epi64(...) ((stand_in){.i64 = {__VA_ARGS__}}.si)
#define _mm512_setzero_ps()    _mm512_set1_ps(0.0f)
#define _mm512_setzero_pd()    _mm512_set1_pd(0.0)
#define _mm512_setzero_si512() _mm512_set1_epi32(0)
#define _mm512_broadcast_i32x4(a)                                                                                      \
    ((stand_in){.half = {_mm256_broadcastsi128_si256(a), _mm256_broadcastsi128_si256(a)}}.si)

STAND_IN stand_in stand_in_load(const void *p)
{
    const char *at = p;
    return (stand_in){.half = {_mm256_loadu_si256((const __m256i *)(const void *)at),
                               _mm256_loadu_si256((const __m256i *)(const void *)(at + 32))}};
}

STAND_IN void stand_in_store(void *p, stand_in a)
{
    char *at = p;
    _mm256_storeu_si256((__m256i *)(void *)at, a.half[0]);
    _mm256_storeu_si256((__m256i *)(void *)(at + 32), a.half[1]);
}

#define _mm512_loadu_ps(p)        (stand_in_load(p).ps)
#define _mm512_loadu_pd(p)        (stand_in_load(p).pd)
#define _mm512_loadu_si512(p)     (stand_in_load(p).si)
#define _mm512_storeu_ps(p, a)    stand_in_store(p, (stand_in){.ps = (a)})
#define _mm512_storeu_pd(p, a)    stand_in_store(p, (stand_in){.pd = (a)})
#define _mm512_storeu_si512(p, a) stand_in_store(p, (stand_in){.si = (a)})

STAND_IN void stand_in_stream(void *p, __m512i a)
{
    if ((uintptr_t)p % 64)
        __builtin_trap();
    stand_in_store(p, (stand_in){.si = a});
}

#define _mm512_stream_si512(p, a) stand_in_stream(p, a)

/* Elements of `size` bytes whose bit is set; those of others are not touched. */
STAND_IN stand_in stand_in_load_some(stand_in other, uint64_t mask, const void *p, size_t size)
{
    for (size_t i = 0; i < 64 / size; i++)
        if (mask >> i & 1)
            memcpy(other.u8 + i * size, (const char *)p + i * size, size);
    return other;
}

STAND_IN void stand_in_store_some(void *p, uint64_t mask, stand_in a, size_t size)
{
    for (size_t i = 0; i < 64 / size; i++)
        if (mask >> i & 1)
            memcpy((char *)p + i * size, a.u8 + i * size, size);
}

#define STAND_IN_ZERO                        ((stand_in){.si = _mm512_setzero_si512()})
#define _mm512_mask_loadu_ps(other, mask, p) (stand_in_load_some((stand_in){.ps = (other)}, mask, p, 4).ps)
#define _mm512_mask_loadu_pd(other, mask, p) (stand_in_load_some((stand_in){.pd = (other)}, mask, p, 8).pd)
#define _mm512_maskz_loadu_pd(mask, p)       (stand_in_load_some(STAND_IN_ZERO, mask, p, 8).pd)
#define _mm512_maskz_loadu_epi8(mask, p)     (stand_in_load_some(STAND_IN_ZERO, mask, p, 1).si)
#define _mm256_maskz_loadu_epi8(mask, p)     (stand_in_load_some(STAND_IN_ZERO, (uint32_t)(mask), p, 1).half[0])
#define _mm_maskz_loadu_epi8(mask, p)        (stand_in_load_some(STAND_IN_ZERO, (uint16_t)(mask), p, 1).lane[0])
#define _mm512_mask_storeu_ps(p, mask, a)    stand_in_store_some(p, mask, (stand_in){.ps = (a)}, 4)
#define _mm512_mask_storeu_pd(p, mask, a)    stand_in_store_some(p, mask, (stand_in){.pd = (a)}, 8)
#define _mm512_mask_storeu_epi8(p, mask, a)  stand_in_store_some(p, mask, (stand_in){.si = (a)}, 1)
#define _mm256_mask_storeu_epi8(p, mask, a)  stand_in_store_some(p, (uint32_t)(mask), (stand_in){.half = {(a)}}, 1)

/* ---- masks -------------------------------------------------------------------------------------------------- */

#define MASK_2(name, mask, field, part, count, op)                                                                     \
    STAND_IN mask name(stand_in a, stand_in b)                                                                         \
    {                                                                                                                  \
        mask result = 0;                                                                                               \
        for (size_t i = 0; i < (count); i++)                                                                           \
            result |= (mask)((mask)((a.part[i] op b.part[i]) != 0) << i);                                              \
        return result;                                                                                                 \
    }
MASK_2(stand_in_lt_epi32, __mmask16, si, i32, 16, <)
MASK_2(stand_in_gt_epi32, __mmask16, si, i32, 16, >)
MASK_2(stand_in_ge_epi16, __mmask32, si, i16, 32, >=)
MASK_2(stand_in_eq_epi8, __mmask64, si, i8, 64, ==)
MASK_2(stand_in_ne_epi8, __mmask64, si, i8, 64, !=)
MASK_2(stand_in_test_epi32, __mmask16, si, i32, 16, &)
MASK_2(stand_in_test_epi8, __mmask64, si, i8, 64, &)

#define STAND_IN_TWO(a, b)                                                                                             \
    (stand_in){.si = (a)}, (stand_in)                                                                                  \
    {                                                                                                                  \
        .si = (b)                                                                                                      \
    }
#define _mm512_cmplt_epi32_mask(a, b) stand_in_lt_epi32(STAND_IN_TWO(a, b))
#define _mm512_cmpgt_epi32_mask(a, b) stand_in_gt_epi32(STAND_IN_TWO(a, b))
#define _mm512_cmpge_epi16_mask(a, b) stand_in_ge_epi16(STAND_IN_TWO(a, b))
#define _mm512_cmpeq_epi8_mask(a, b)  stand_in_eq_epi8(STAND_IN_TWO(a, b))
#define _mm512_cmpneq_epi8_mask(a, b) stand_in_ne_epi8(STAND_IN_TWO(a, b))
#define _mm512_test_epi32_mask(a, b)  stand_in_test_epi32(STAND_IN_TWO(a, b))
#define _mm512_test_epi8_mask(a, b)   stand_in_test_epi8(STAND_IN_TWO(a, b))
#define _mm512_testn_epi8_mask(a, b)  ((__mmask64)~stand_in_test_epi8(STAND_IN_TWO(a, b)))
#define _mm512_movepi32_mask(a)       stand_in_lt_epi32(STAND_IN_TWO(a, _mm512_setzero_si512()))

#define _mm512_cmp_ps_mask(a, b, how)                                                                                  \
    __extension__({                                                                                                    \
        stand_in compared_a = {.ps = (a)}, compared_b = {.ps = (b)};                                                   \
        int low = _mm256_movemask_ps(_mm256_cmp_ps(compared_a.half_ps[0], compared_b.half_ps[0], how));                \
        int high = _mm256_movemask_ps(_mm256_cmp_ps(compared_a.half_ps[1], compared_b.half_ps[1], how));               \
        (__mmask16)(low | high << 8);                                                                                  \
    })
#define _mm512_mask_cmp_ps_mask(m, a, b, how) ((__mmask16)((m)&_mm512_cmp_ps_mask(a, b, how)))
#define _mm512_cmp_pd_mask(a, b, how)                                                                                  \
    __extension__({                                                                                                    \
        stand_in compared_a = {.pd = (a)}, compared_b = {.pd = (b)};                                                   \
        int low = _mm256_movemask_pd(_mm256_cmp_pd(compared_a.half_pd[0], compared_b.half_pd[0], how));                \
        int high = _mm256_movemask_pd(_mm256_cmp_pd(compared_a.half_pd[1], compared_b.half_pd[1], how));               \
        (__mmask8)(low | high << 4);                                                                                   \
    })

/* Elements of 32 or 64 bits: b's where the bit is set, else a's. */
STAND_IN stand_in stand_in_blend(__mmask16 mask, stand_in a, stand_in b)
{
    const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    for (int h = 0; h < 2; h++) {
        __m256i chosen = _mm256_and_si256(_mm256_set1_epi32(mask >> 8 * h), bits);
        a.half[h] = _mm256_blendv_epi8(a.half[h], b.half[h], _mm256_cmpeq_epi32(chosen, bits));
    }
    return a;
}

#define STAND_IN_BLEND(mask, a, b)           (stand_in_blend(mask, STAND_IN_TWO(a, b)).si)
#define _mm512_mask_blend_ps(mask, a, b)     (stand_in_blend(mask, (stand_in){.ps = (a)}, (stand_in){.ps = (b)}).ps)
#define _mm512_mask_mov_epi32(a, mask, b)    STAND_IN_BLEND(mask, a, b)
#define _mm512_mask_add_epi32(a, mask, b, c) STAND_IN_BLEND(mask, a, _mm512_add_epi32(b, c))
#define _mm512_mask_or_epi32(a, mask, b, c)  STAND_IN_BLEND(mask, a, _mm512_or_si512(b, c))

STAND_IN __m512i stand_in_blend_epi16(__mmask32 mask, __m512i a, __m512i b)
{
    stand_in result = {.si = a}, y = {.si = b};
    for (size_t i = 0; i < 32; i++)
        result.i16[i] = mask >> i & 1 ? y.i16[i] : result.i16[i];
    return result.si;
}

#define _mm512_mask_blend_epi16 stand_in_blend_epi16

STAND_IN __m512i stand_in_mask_set1_epi64(__m512i a, __mmask8 mask, int64_t x)
{
    stand_in result = {.si = a};
    for (size_t i = 0; i < 8; i++)
        result.i64[i] = mask >> i & 1 ? x : result.i64[i];
    return result.si;
}

STAND_IN __m128i stand_in_maskz_set1_epi8(__mmask16 mask, char x)
{
    stand_in result = STAND_IN_ZERO;
    for (size_t i = 0; i < 16; i++)
        result.i8[i] = mask >> i & 1 ? (int8_t)x : 0;
    return result.lane[0];
}

#define _mm512_mask_set1_epi64 stand_in_mask_set1_epi64
#define _mm_maskz_set1_epi8    stand_in_maskz_set1_epi8

/* ---- products of bytes -------------------------------------------------------------------------------------- */

/* Products of an unsigned and a signed byte, four of them for each sum: nothing saturates, and sums wrap. */
STAND_IN __m512i stand_in_dpbusd(__m512i sums, __m512i a, __m512i b)
{
    stand_in result = {.si = sums}, x = {.si = a}, y = {.si = b};
    for (size_t i = 0; i < 64; i++)
        result.u32[i / 4] += (uint32_t)((int32_t)x.u8[i] * (int32_t)y.i8[i]);
    return result.si;
}

#define _mm512_dpbusd_epi32 stand_in_dpbusd

/* The same for 16 bits, two products for each sum. */
#define _mm512_dpwssd_epi32(sums, a, b) _mm512_add_epi32(sums, _mm512_madd_epi16(a, b))

/* ---- tiles -------------------------------------------------------------------------------------------------- */

/* Eight tiles of up to 16 rows of 64 bytes, as they are configured; an instruction that the processor would refuse ends
 * the program, and so does a configuration that the last user has left behind. What is beyond the configured rows and
 * bytes is 0. */
struct stand_in_tiles {
    uint8_t configured, unused[15];
    uint16_t bytes[16];
    uint8_t rows[16];
    union {
        uint8_t u8[64];
        int8_t i8[64];
        uint32_t u32[16];
    } row[8][16];
};

static _Thread_local struct stand_in_tiles stand_in_tiles;

STAND_IN void stand_in_need(int right)
{
    if (!right)
        __builtin_trap();
}

STAND_IN void stand_in_loadconfig(const void *config)
{
    struct stand_in_tiles *tiles = &stand_in_tiles;
    stand_in_need(!tiles->configured);
    memset(tiles, 0, sizeof *tiles);
    memcpy(tiles, config, 64);
    stand_in_need(tiles->configured == 1);
    for (size_t i = 0; i < 15; i++)
        stand_in_need(tiles->unused[i] == 0);
    for (size_t t = 0; t < 16; t++) {
        stand_in_need(t < 8 ? tiles->rows[t] <= 16 && tiles->bytes[t] <= 64 : !tiles->rows[t] && !tiles->bytes[t]);
        stand_in_need(!tiles->rows[t] == !tiles->bytes[t]);
    }
}

STAND_IN void stand_in_tile_loadd(int t, const void *from, ptrdiff_t apart)
{
    struct stand_in_tiles *tiles = &stand_in_tiles;
    stand_in_need(tiles->configured && tiles->rows[t]);
    memset(tiles->row[t], 0, sizeof tiles->row[t]);
    for (ptrdiff_t r = 0; r < tiles->rows[t]; r++)
        memcpy(&tiles->row[t][r], (const char *)from + r * apart, tiles->bytes[t]);
}

STAND_IN void stand_in_tile_stored(int t, void *to, ptrdiff_t apart)
{
    const struct stand_in_tiles *tiles = &stand_in_tiles;
    stand_in_need(tiles->configured && tiles->rows[t]);
    for (ptrdiff_t r = 0; r < tiles->rows[t]; r++)
        memcpy((char *)to + r * apart, &tiles->row[t][r], tiles->bytes[t]);
}

STAND_IN void stand_in_tile_zero(int t)
{
    stand_in_need(stand_in_tiles.configured && stand_in_tiles.rows[t]);
    memset(stand_in_tiles.row[t], 0, sizeof stand_in_tiles.row[t]);
}

/* Products of a signed and an unsigned byte, four of them for each sum. */
STAND_IN void stand_in_dpbsud(int sums, int a, int b)
{
    struct stand_in_tiles *tiles = &stand_in_tiles;
    stand_in_need(tiles->configured && sums != a && sums != b && a != b);
    stand_in_need(tiles->rows[sums] && tiles->rows[sums] == tiles->rows[a]);
    stand_in_need(tiles->bytes[sums] == tiles->bytes[b] && tiles->bytes[sums] % 4 == 0);
    stand_in_need(tiles->bytes[a] == 4 * tiles->rows[b]);
    for (size_t r = 0; r < tiles->rows[sums]; r++)
        for (size_t k = 0; k < tiles->bytes[a]; k++)
            for (size_t n = 0; n < tiles->bytes[sums] / 4u; n++)
                tiles->row[sums][r].u32[n] +=
                    (uint32_t)((int32_t)tiles->row[a][r].i8[k] * (int32_t)tiles->row[b][k / 4].u8[4 * n + k % 4]);
}

STAND_IN void stand_in_tile_release(void)
{
    stand_in_need(stand_in_tiles.configured);
    memset(&stand_in_tiles, 0, sizeof stand_in_tiles);
}

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbsud
#define _tile_loadconfig(config)    stand_in_loadconfig(config)
#define _tile_loadd(t, from, apart) stand_in_tile_loadd(t, from, (ptrdiff_t)(apart))
#define _tile_stored(t, to, apart)  stand_in_tile_stored(t, to, (ptrdiff_t)(apart))
#define _tile_zero                  stand_in_tile_zero
#define _tile_dpbsud                stand_in_dpbsud
#define _tile_release               stand_in_tile_release

/* ---- bits of three, ranges, bits from places ----------------------------------------------------------------- */

STAND_IN __m512i stand_in_ternarylogic(__m512i a, __m512i b, __m512i c, unsigned table)
{
    stand_in x = {.si = a}, y = {.si = b}, z = {.si = c}, result = STAND_IN_ZERO;
    for (size_t i = 0; i < 8; i++)
        for (unsigned k = 0; k < 8; k++)
            if (table >> k & 1)
                result.u64[i] |=
                    (k & 4 ? x.u64[i] : ~x.u64[i]) & (k & 2 ? y.u64[i] : ~y.u64[i]) & (k & 1 ? z.u64[i] : ~z.u64[i]);
    return result.si;
}

#define _mm512_ternarylogic_epi32 stand_in_ternarylogic
#define _mm512_ternarylogic_epi64 stand_in_ternarylogic

#define _mm512_abs_ps(a) _mm512_and_ps(a, _mm512_castsi512_ps(_mm512_set1_epi32(0x7fffffff)))

/* The larger magnitude, without its sign, or the smaller one with the sign of a: of a number and a NaN, the number. */
STAND_IN __m512 stand_in_range_ps(__m512 a, __m512 b, int how)
{
    if (how != 0x0b && how != 0x02)
        __builtin_trap();
    __m512 x = _mm512_abs_ps(a), y = _mm512_abs_ps(b);
    __mmask16 other = how == 0x0b ? _mm512_cmp_ps_mask(x, y, _CMP_LT_OQ) : _mm512_cmp_ps_mask(y, x, _CMP_LT_OQ);
    __m512 found = _mm512_mask_blend_ps(other | _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x, y);
    return how == 0x0b ? found : _mm512_xor_ps(found, _mm512_xor_ps(a, x));
}

#define _mm512_range_ps stand_in_range_ps

STAND_IN __m512i stand_in_multishift(__m512i places, __m512i a)
{
    stand_in from = {.si = places}, x = {.si = a}, result;
    for (size_t i = 0; i < 64; i++) {
        unsigned place = from.u8[i] & 63;
        result.u8[i] = (uint8_t)(x.u64[i / 8] >> place | x.u64[i / 8] << (-place & 63));
    }
    return result.si;
}

#define _mm512_multishift_epi64_epi8 stand_in_multishift

/* ---- elements from anywhere ---------------------------------------------------------------------------------- */

#define LOOKUP_1(name, count, part, field)                                                                             \
    STAND_IN stand_in name(stand_in index, stand_in a)                                                                 \
    {                                                                                                                  \
        stand_in result;                                                                                               \
        for (size_t i = 0; i < (count); i++)                                                                           \
            result.part[i] = a.part[(size_t)index.part[i] % (count)];                                                  \
        return result;                                                                                                 \
    }
#define LOOKUP_2(name, count, part, field)                                                                             \
    STAND_IN stand_in name(stand_in a, stand_in index, stand_in b)                                                     \
    {                                                                                                                  \
        stand_in result;                                                                                               \
        for (size_t i = 0; i < (count); i++) {                                                                         \
            size_t k = (size_t)index.part[i] % (2 * (count));                                                          \
            result.part[i] = k < (count) ? a.part[k] : b.part[k - (count)];                                            \
        }                                                                                                              \
        return result;                                                                                                 \
    }
LOOKUP_1(stand_in_permutexvar_epi8, 64, i8, si)
LOOKUP_1(stand_in_permutexvar_epi16, 32, i16, si)
LOOKUP_2(stand_in_permutex2var_epi8, 64, i8, si)
LOOKUP_2(stand_in_permutex2var_epi32, 16, i32, si)
LOOKUP_2(stand_in_permutex2var_epi64, 8, i64, si)

/* The low four bits of the index: within either half, and a choice of them. */
STAND_IN __m512i stand_in_permutexvar_epi32(__m512i index, __m512i a)
{
    stand_in from = {.si = index}, x = {.si = a}, result;
    for (size_t h = 0; h < 2; h++) {
        __m256i low = _mm256_permutevar8x32_epi32(x.half[0], from.half[h]);
        __m256i high = _mm256_permutevar8x32_epi32(x.half[1], from.half[h]);
        __m256i upper = _mm256_slli_epi32(from.half[h], 28);
        result.half[h] = (__m256i)_mm256_blendv_ps((__m256)low, (__m256)high, (__m256)upper);
    }
    return result.si;
}

#define _mm512_permutexvar_epi8(index, a)  (stand_in_permutexvar_epi8(STAND_IN_TWO(index, a)).si)
#define _mm512_permutexvar_epi16(index, a) (stand_in_permutexvar_epi16(STAND_IN_TWO(index, a)).si)
#define _mm512_permutexvar_epi32(index, a) stand_in_permutexvar_epi32(index, a)
#define _mm512_permutexvar_ps(index, a)    _mm512_castsi512_ps(stand_in_permutexvar_epi32(index, (__m512i)(a)))
#define _mm512_permutex2var_epi8(a, index, b)                                                                          \
    (stand_in_permutex2var_epi8(STAND_IN_TWO(a, index), (stand_in){.si = (b)}).si)
#define _mm512_permutex2var_epi32(a, index, b)                                                                         \
    (stand_in_permutex2var_epi32(STAND_IN_TWO(a, index), (stand_in){.si = (b)}).si)
#define _mm512_permutex2var_ps(a, index, b)                                                                            \
    (stand_in_permutex2var_epi32((stand_in){.ps = (a)}, (stand_in){.si = (index)}, (stand_in){.ps = (b)}).ps)
#define _mm512_permutex2var_pd(a, index, b)                                                                            \
    (stand_in_permutex2var_epi64((stand_in){.pd = (a)}, (stand_in){.si = (index)}, (stand_in){.pd = (b)}).pd)

/* Lanes of 128 bits: two of a, two of b. */
STAND_IN stand_in stand_in_shuffle_lanes(stand_in a, stand_in b, unsigned order)
{
    return (stand_in){
        .lane = {a.lane[order & 3], a.lane[order >> 2 & 3], b.lane[order >> 4 & 3], b.lane[order >> 6 & 3]}};
}

#define _mm512_shuffle_i32x4(a, b, order) (stand_in_shuffle_lanes(STAND_IN_TWO(a, b), order).si)
#define _mm512_shuffle_f32x4(a, b, order)                                                                              \
    (stand_in_shuffle_lanes((stand_in){.ps = (a)}, (stand_in){.ps = (b)}, order).ps)

STAND_IN __m512 stand_in_insertf32x8(__m512 a, __m256 b, int half)
{
    stand_in x = {.ps = a};
    x.half_ps[half & 1] = b;
    return x.ps;
}

STAND_IN __m512i stand_in_inserti32x4(__m512i a, __m128i b, int lane)
{
    stand_in x = {.si = a};
    x.lane[lane & 3] = b;
    return x.si;
}

#define _mm512_insertf32x8              stand_in_insertf32x8
#define _mm512_inserti32x4              stand_in_inserti32x4
#define _mm512_extracti32x4_epi32(a, i) ((stand_in){.si = (a)}.lane[(i)&3])

/* ---- other types --------------------------------------------------------------------------------------------- */

#define _mm512_cvtps_epi32(a)  STAND_IN_BOTH(half, si, half_ps, ps, _mm256_cvtps_epi32, a)
#define _mm512_cvttps_epi32(a) STAND_IN_BOTH(half, si, half_ps, ps, _mm256_cvttps_epi32, a)
#define _mm512_cvtepi32_ps(a)  STAND_IN_BOTH(half_ps, ps, half, si, _mm256_cvtepi32_ps, a)
#define STAND_IN_BOTH(to, result, from, argument, op, a)                                                               \
    __extension__({                                                                                                    \
        stand_in both_of = {.argument = (a)};                                                                          \
        (stand_in){.to = {op(both_of.from[0]), op(both_of.from[1])}}.result;                                           \
    })

/* From half as many bits, and to half as many. */
#define STAND_IN_WIDER(to, result, op, low, high) ((stand_in){.to = {op(low), op(high)}}.result)
STAND_IN __m512d stand_in_cvtps_pd(__m256 a)
{
    return STAND_IN_WIDER(half_pd, pd, _mm256_cvtps_pd, _mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
}

STAND_IN __m512 stand_in_cvtph_ps(__m256i a)
{
    return STAND_IN_WIDER(half_ps, ps, _mm256_cvtph_ps, _mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
}

STAND_IN __m512i stand_in_cvtepu16_epi32(__m256i a)
{
    return STAND_IN_WIDER(half, si, _mm256_cvtepu16_epi32, _mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
}

STAND_IN __m512i stand_in_cvtepu32_epi64(__m256i a)
{
    return STAND_IN_WIDER(half, si, _mm256_cvtepu32_epi64, _mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
}

STAND_IN __m512i stand_in_cvtepi16_epi32(__m256i a)
{
    return STAND_IN_WIDER(half, si, _mm256_cvtepi16_epi32, _mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
}

STAND_IN __m512i stand_in_cvtepi8_epi32(__m128i a)
{
    return STAND_IN_WIDER(half, si, _mm256_cvtepi8_epi32, a, _mm_srli_si128(a, 8));
}

STAND_IN __m512i stand_in_cvtepi8_epi64(__m128i a)
{
    return STAND_IN_WIDER(half, si, _mm256_cvtepi8_epi64, a, _mm_srli_si128(a, 4));
}

STAND_IN __m256 stand_in_cvtpd_ps(__m512d a)
{
    stand_in x = {.pd = a};
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(x.half_pd[0])), _mm256_cvtpd_ps(x.half_pd[1]),
                                1);
}

STAND_IN __m256i stand_in_join(__m128i low, __m128i high)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

STAND_IN __m256i stand_in_cvtpd_epi32(__m512d a)
{
    stand_in x = {.pd = a};
    return stand_in_join(_mm256_cvtpd_epi32(x.half_pd[0]), _mm256_cvtpd_epi32(x.half_pd[1]));
}

#define _mm512_cvtps_ph(a, how)                                                                                        \
    __extension__({                                                                                                    \
        stand_in rounded = {.ps = (a)};                                                                                \
        stand_in_join(_mm256_cvtps_ph(rounded.half_ps[0], how), _mm256_cvtps_ph(rounded.half_ps[1], how));             \
    })

#define NARROW(name, count, from, to)                                                                                  \
    STAND_IN stand_in name(__m512i a)                                                                                  \
    {                                                                                                                  \
        stand_in x = {.si = a}, result = STAND_IN_ZERO;                                                                \
        for (size_t i = 0; i < (count); i++)                                                                           \
            memcpy(result.i8 + i * sizeof result.to[0], x.from + i, sizeof result.to[0]);                              \
        return result;                                                                                                 \
    }
NARROW(stand_in_epi16_epi8, 32, i16, i8)
NARROW(stand_in_epi32_epi16, 16, i32, i16)
NARROW(stand_in_epi32_epi8, 16, i32, i8)

#define _mm512_cvtps_pd          stand_in_cvtps_pd
#define _mm512_cvtph_ps          stand_in_cvtph_ps
#define _mm512_cvtepu16_epi32    stand_in_cvtepu16_epi32
#define _mm512_cvtepu32_epi64    stand_in_cvtepu32_epi64
#define _mm512_cvtepi16_epi32    stand_in_cvtepi16_epi32
#define _mm512_cvtepi8_epi32     stand_in_cvtepi8_epi32
#define _mm512_cvtepi8_epi64     stand_in_cvtepi8_epi64
#define _mm512_cvtpd_ps          stand_in_cvtpd_ps
#define _mm512_cvtpd_epi32       stand_in_cvtpd_epi32
#define _mm512_cvtepi16_epi8(a)  (stand_in_epi16_epi8(a).half[0])
#define _mm512_cvtepi32_epi16(a) (stand_in_epi32_epi16(a).half[0])
#define _mm512_cvtepi32_epi8(a)  (stand_in_epi32_epi8(a).lane[0])
#define _mm256_mask_cvtepi32_storeu_epi8(p, mask, a)                                                                   \
    stand_in_store_some(p, mask, stand_in_epi32_epi8((stand_in){.half = {(a)}}.si), 1)

/* ---- one number of all --------------------------------------------------------------------------------------- */

#define REDUCE(name, type, field, part, count, op)                                                                     \
    STAND_IN type name(stand_in a)                                                                                     \
    {                                                                                                                  \
        for (size_t half = (count) / 2; half > 0; half /= 2)                                                           \
            for (size_t i = 0; i < half; i++)                                                                          \
                a.part[i] = a.part[i] op a.part[i + half] ? a.part[i] : a.part[i + half];                              \
        return a.part[0];                                                                                              \
    }
REDUCE(stand_in_reduce_min_ps, float, ps, f32, 16, <)
REDUCE(stand_in_reduce_max_ps, float, ps, f32, 16, >)
REDUCE(stand_in_reduce_min_pd, double, pd, f64, 8, <)
REDUCE(stand_in_reduce_max_pd, double, pd, f64, 8, >)

#define _mm512_reduce_min_ps(a) stand_in_reduce_min_ps((stand_in){.ps = (a)})
#define _mm512_reduce_max_ps(a) stand_in_reduce_max_ps((stand_in){.ps = (a)})
#define _mm512_reduce_min_pd(a) stand_in_reduce_min_pd((stand_in){.pd = (a)})
#define _mm512_reduce_max_pd(a) stand_in_reduce_max_pd((stand_in){.pd = (a)})

#undef HALVES_2
#undef HALVES_3
#undef PS_2
#undef PD_2
#undef SI_2
#undef MASK_2
#undef LOOKUP_1
#undef LOOKUP_2
#undef NARROW
#undef REDUCE

#endif
