/*
 * products_512.h - products of bytes with the instructions of AVX-512 VNNI; part of avx512.c
 *
 * One instruction multiplies four bytes of each of 16 weights, or of one weight in four blocks, and adds the products
 * to 32 bits, exactly.
 */

#define VNNI_TARGET                                                                                                    \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,popcnt")))
#define VNNI_INLINE static inline __attribute__((always_inline)) VNNI_TARGET

enum {
    VNNI_ROWS = 8,    /* of x at a time */
    VNNI_FEW = 2,     /* the same where codes are packed */
    VNNI_BLOCKS = 4,  /* of packed codes, at a time */
    VNNI_EACH = 4,    /* weights whose sums share a vector, a block in each 128-bit lane */
    VNNI_LATER = 8192 /* bytes: so far ahead codes of prepared weights are asked for; numbers take a quarter at most */
};

/* Four bytes of a row, 16 times: by itself each load costs no arithmetic. */
VNNI_INLINE __m512i vnni_four(const int8_t *code)
{
    int32_t four;
    memcpy(&four, code, sizeof four);
    return _mm512_set1_epi32(four);
}

/* Adds what a block of 16 weights makes with one of a row. */
INLINE __m512 vnni_add(const struct qz_side *side, size_t b, float step, float start, __m512i total, __m512 sum)
{
    __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(side->scale + b * QZ_SIDE), _mm512_set1_ps(step));
    sum = _mm512_fmadd_ps(_mm512_loadu_ps(side->bias + b * QZ_SIDE), _mm512_set1_ps(start), sum);
    return _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(total), sum);
}

/* ---- levels --------------------------------------------------------------------------------------------------- */

/* How codes become levels: code ^ flip, or by a table. */
struct vnni_levels {
    int by_table;
    __m512i flip, table; /* flip: of both halves of bytes */
};

INLINE struct vnni_levels vnni_make_levels(const uint8_t level[16])
{
    struct vnni_levels made = {0, _mm512_set1_epi8((char)(level[0] * 17)),
                               _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)level))};
    for (int i = 0; i < 16; i++)
        made.by_table |= level[i] != (i ^ level[0]);
    return made;
}

/* Flips packed codes that do not go through a table, both halves at once. One instruction could both flip and take a
 * half: but on Zen 4 those of three vectors, as products are, get into each other's way. */
INLINE __m512i vnni_flip(__m512i packed, int by_table, const struct vnni_levels *levels)
{
    if (by_table)
        return packed;
    packed = _mm512_xor_si512(packed, levels->flip);
    __asm__("" : "+v"(packed)); /* or else compilers make one instruction of this and the next */
    return packed;
}

/* Levels of the lower halves of bytes, flipped ones. */
INLINE __m512i vnni_level(__m512i packed, int by_table, const struct vnni_levels *levels)
{
    packed = _mm512_and_si512(packed, _mm512_set1_epi8(15));
    return by_table ? _mm512_shuffle_epi8(levels->table, packed) : packed;
}

/* 128-bit lanes of four vectors: lane l of vector v becomes lane v of vector l. */
INLINE void vnni_turn(__m512i v[4])
{
    __m512i even01 = _mm512_shuffle_i32x4(v[0], v[1], 0x88), odd01 = _mm512_shuffle_i32x4(v[0], v[1], 0xdd);
    __m512i even23 = _mm512_shuffle_i32x4(v[2], v[3], 0x88), odd23 = _mm512_shuffle_i32x4(v[2], v[3], 0xdd);
    v[0] = _mm512_shuffle_i32x4(even01, even23, 0x88);
    v[1] = _mm512_shuffle_i32x4(odd01, odd23, 0x88);
    v[2] = _mm512_shuffle_i32x4(even01, even23, 0xdd);
    v[3] = _mm512_shuffle_i32x4(odd01, odd23, 0xdd);
}

/* Codes of `count` blocks of a weight, from block b on, flipped. */
INLINE __m512i vnni_codes(const uint8_t *packed, size_t b, size_t count, int by_table, const struct vnni_levels *levels)
{
    const __mmask64 bytes = first_bytes(count * (QZ_LEVELS / 2));
    return vnni_flip(_mm512_maskz_loadu_epi8(bytes, packed + b * (QZ_LEVELS / 2)), by_table, levels);
}

/* Lays levels of `count` blocks side by side. */
INLINE void vnni_spread(const uint8_t *const packed[QZ_SIDE], size_t b, size_t count, int by_table,
                        const struct vnni_levels *levels, uint8_t *dst)
{
    __m512i part[4][VNNI_BLOCKS]; /* of the fours of a block, and of four weights each: a block in each lane */
#pragma GCC unroll 4
    for (int g = 0; g < QZ_SIDE / VNNI_EACH; g++) {
        const uint8_t *const *of = packed + VNNI_EACH * g;
        __m512i v0 = vnni_codes(of[0], b, count, by_table, levels), v1 = vnni_codes(of[1], b, count, by_table, levels);
        __m512i v2 = vnni_codes(of[2], b, count, by_table, levels), v3 = vnni_codes(of[3], b, count, by_table, levels);
        __m512i low01 = _mm512_unpacklo_epi32(v0, v1), low23 = _mm512_unpacklo_epi32(v2, v3);
        __m512i high01 = _mm512_unpackhi_epi32(v0, v1), high23 = _mm512_unpackhi_epi32(v2, v3);
        part[0][g] = _mm512_unpacklo_epi64(low01, low23);
        part[1][g] = _mm512_unpackhi_epi64(low01, low23);
        part[2][g] = _mm512_unpacklo_epi64(high01, high23);
        part[3][g] = _mm512_unpackhi_epi64(high01, high23);
    }
#pragma GCC unroll 4
    for (int f = 0; f < 4; f++) {
        vnni_turn(part[f]);
#pragma GCC unroll 4
        for (size_t k = 0; k < count; k++) {
            uint8_t *to = dst + k * QZ_LEVELS * QZ_SIDE + (size_t)f * 8 * QZ_SIDE;
            _mm512_storeu_si512(to, vnni_level(part[f][k], by_table, levels));
            _mm512_storeu_si512(to + 4 * QZ_SIDE, vnni_level(_mm512_srli_epi32(part[f][k], 4), by_table, levels));
        }
    }
}

INLINE void vnni_all_levels(const uint8_t *const packed[QZ_SIDE], size_t blocks, int by_table,
                            const struct vnni_levels *levels, uint8_t *dst)
{
    size_t b = 0;
    for (; b + VNNI_BLOCKS <= blocks; b += VNNI_BLOCKS)
        vnni_spread(packed, b, VNNI_BLOCKS, by_table, levels, dst + b * QZ_LEVELS * QZ_SIDE);
    for (; b < blocks; b++)
        vnni_spread(packed, b, 1, by_table, levels, dst + b * QZ_LEVELS * QZ_SIDE);
}

static TARGET void vnni_levels(const uint8_t *const packed[QZ_SIDE], size_t blocks, const uint8_t level[16],
                               uint8_t *dst)
{
    const struct vnni_levels levels = vnni_make_levels(level);
    if (levels.by_table)
        vnni_all_levels(packed, blocks, 1, &levels, dst);
    else
        vnni_all_levels(packed, blocks, 0, &levels, dst);
}

/* ---- products with levels ------------------------------------------------------------------------------------- */

VNNI_INLINE void vnni_tile(const struct qz_side *side, const uint8_t *level, const struct qz_byte_rows *x, size_t row,
                           int rows, float *sum)
{
    const size_t first = row * x->pitch, apart = x->pitch * QZ_LEVELS;
    __m512 sums[VNNI_ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        sums[r] = _mm512_loadu_ps(sum + (row + (size_t)r) * QZ_SIDE);
    for (size_t b = 0; b < side->blocks; b++, level += QZ_LEVELS * QZ_SIDE) {
        const int8_t *code = x->code + (first + b) * QZ_LEVELS;
        __m512i total[VNNI_ROWS];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            total[r] = _mm512_setzero_si512();
#pragma GCC unroll 8
        for (int f = 0; f < QZ_LEVELS / 4; f++) {
            __m512i of_side = _mm512_loadu_si512(level + 4 * QZ_SIDE * f);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                total[r] = _mm512_dpbusd_epi32(total[r], of_side, vnni_four(code + (size_t)r * apart + 4 * f));
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            size_t at = first + (size_t)r * x->pitch + b;
            sums[r] = vnni_add(side, b, x->step[at], x->start[at], total[r], sums[r]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        _mm512_storeu_ps(sum + (row + (size_t)r) * QZ_SIDE, sums[r]);
}

static VNNI_TARGET void vnni_bytes(const struct qz_side *side, const uint8_t *level, const struct qz_byte_rows *x,
                                   float *sum)
{
    size_t r = 0;
    for (; r + VNNI_ROWS <= x->rows; r += VNNI_ROWS)
        vnni_tile(side, level, x, r, VNNI_ROWS, sum);
    for (; r + 3 <= x->rows; r += 3)
        vnni_tile(side, level, x, r, 3, sum);
    for (; r < x->rows; r++)
        vnni_tile(side, level, x, r, 1, sum);
}

/* ---- products with packed codes ------------------------------------------------------------------------------- */

/* The sums of each four numbers: those of vector v become the ones at v in each 128-bit lane. Levels of no table are 15
 * at most: then 16 products fit 16 bits, and one instruction adds neighbours. */
INLINE __m512i vnni_sums(const __m512i v[VNNI_EACH], int by_table)
{
    if (!by_table) {
        const __m512i one = _mm512_set1_epi16(1);
        __m512i two = _mm512_madd_epi16(_mm512_packs_epi32(v[0], v[1]), one);
        __m512i more = _mm512_madd_epi16(_mm512_packs_epi32(v[2], v[3]), one);
        return _mm512_madd_epi16(_mm512_packs_epi32(two, more), one);
    }
    __m512i two = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
    __m512i more = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(two, more), _mm512_unpackhi_epi64(two, more));
}

/* `count` blocks of packed codes, from block b on, with those of some rows. */
VNNI_INLINE void vnni_blocks(const struct qz_side *side, const uint8_t *const packed[QZ_SIDE], size_t b, size_t count,
                             int by_table, const struct vnni_levels *levels, const struct qz_byte_rows *x, size_t row,
                             int rows, __m512 sums[VNNI_FEW])
{
    const __m512i evens = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odds = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    const size_t first = row * x->pitch + b, bytes = count * (QZ_LEVELS / 2);
    const uintptr_t next = QZ_SIDE * ((uintptr_t)packed[1] - (uintptr_t)packed[0]) + b * (QZ_LEVELS / 2);
    __asm__("" : "+r"(packed)); /* or else compilers keep all addresses, in registers of vectors */
    __m512i even[VNNI_FEW], odd[VNNI_FEW], total[VNNI_FEW][VNNI_BLOCKS];
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++) {
        const int8_t *code = x->code + (first + (size_t)r * x->pitch) * QZ_LEVELS;
        __m512i low = _mm512_maskz_loadu_epi8(first_bytes(2 * bytes), code);
        __m512i high = _mm512_maskz_loadu_epi8(first_bytes(bytes > 32 ? 2 * bytes - 64 : 0), code + 64);
        even[r] = _mm512_permutex2var_epi32(low, evens, high);
        odd[r] = _mm512_permutex2var_epi32(low, odds, high);
    }
#pragma GCC unroll 4
    for (int g = 0; g < QZ_SIDE / VNNI_EACH; g++) {
        __m512i part[VNNI_FEW][VNNI_EACH];
#pragma GCC unroll 4
        for (int i = 0; i < VNNI_EACH; i++) {
            const uint8_t *of = packed[VNNI_EACH * g + i];
            __m512i codes = vnni_codes(of, b, count, by_table, levels);
            _mm_prefetch((const char *)((uintptr_t)of + next), _MM_HINT_T1); /* what the next 16 weights have there */
            __m512i low = vnni_level(codes, by_table, levels);
            __m512i high = vnni_level(_mm512_srli_epi32(codes, 4), by_table, levels);
#pragma GCC unroll 2
            for (int r = 0; r < rows; r++) {
                part[r][i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), low, even[r]);
                part[r][i] = _mm512_dpbusd_epi32(part[r][i], high, odd[r]);
            }
        }
#pragma GCC unroll 2
        for (int r = 0; r < rows; r++)
            total[r][g] = vnni_sums(part[r], by_table);
    }
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++) {
        const float *step = x->step + first + (size_t)r * x->pitch, *start = x->start + first + (size_t)r * x->pitch;
        vnni_turn(total[r]);
#pragma GCC unroll 4
        for (size_t k = 0; k < VNNI_BLOCKS; k++)
            if (k < count)
                sums[r] = vnni_add(side, b + k, step[k], start[k], total[r][k], sums[r]);
    }
}

VNNI_INLINE void vnni_few(const struct qz_side *side, const uint8_t *const packed[QZ_SIDE], int by_table,
                          const struct vnni_levels *levels, const struct qz_byte_rows *x, size_t row, int rows,
                          float *sum)
{
    __m512 sums[VNNI_FEW];
    size_t b = 0;
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++)
        sums[r] = _mm512_loadu_ps(sum + (row + (size_t)r) * QZ_SIDE);
    for (; b + VNNI_BLOCKS <= side->blocks; b += VNNI_BLOCKS)
        vnni_blocks(side, packed, b, VNNI_BLOCKS, by_table, levels, x, row, rows, sums);
    if (b < side->blocks)
        vnni_blocks(side, packed, b, side->blocks - b, by_table, levels, x, row, rows, sums);
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++)
        _mm512_storeu_ps(sum + (row + (size_t)r) * QZ_SIDE, sums[r]);
}

VNNI_INLINE void vnni_rows(const struct qz_side *side, const uint8_t *const packed[QZ_SIDE], int by_table,
                           const struct vnni_levels *levels, const struct qz_byte_rows *x, float *sum)
{
    size_t r = 0;
    for (; r + VNNI_FEW <= x->rows; r += VNNI_FEW)
        vnni_few(side, packed, by_table, levels, x, r, VNNI_FEW, sum);
    for (; r < x->rows; r++)
        vnni_few(side, packed, by_table, levels, x, r, 1, sum);
}

static VNNI_TARGET void vnni_packed(const struct qz_side *side, const uint8_t *const packed[QZ_SIDE],
                                    const uint8_t level[16], const struct qz_byte_rows *x, float *sum)
{
    const struct vnni_levels levels = vnni_make_levels(level);
    if (levels.by_table)
        vnni_rows(side, packed, 1, &levels, x, sum);
    else
        vnni_rows(side, packed, 0, &levels, x, sum);
}

/* ---- products with prepared weights --------------------------------------------------------------------------- */

/* Levels of the upper halves of bytes; 16 times as much where there is no table, which needs no shift. */
INLINE __m512i vnni_upper(__m512i packed, int by_table, const struct vnni_levels *levels)
{
    if (by_table)
        return vnni_level(_mm512_srli_epi32(packed, 4), by_table, levels);
    return _mm512_and_si512(packed, _mm512_set1_epi8((char)0xf0));
}

/* Asks for what comes much later: all codes of weights lie one behind another, and all numbers. */
INLINE void vnni_fetch_later(const uint8_t *packed, const float *scale, const float *bias)
{
#pragma GCC unroll 4
    for (size_t line = 0; line < QZ_READY_BYTES; line += 64)
        _mm_prefetch((const char *)((uintptr_t)packed + VNNI_LATER + line), _MM_HINT_T1);
    _mm_prefetch((const char *)((uintptr_t)scale + VNNI_LATER / 4), _MM_HINT_T1);
    if (bias)
        _mm_prefetch((const char *)((uintptr_t)bias + VNNI_LATER / 4), _MM_HINT_T1);
}

VNNI_INLINE void vnni_ready_rows(const struct qz_ready_side *side, int by_table, const struct vnni_levels *levels,
                                 const struct qz_byte_rows *x, size_t row, int rows, float *sum)
{
    const size_t apart = x->pitch * QZ_LEVELS;
    const int8_t *code = x->code + row * apart;
    const float *step = x->step + row * x->pitch, *start = x->start + row * x->pitch;
    const float *scale = side->scale, *bias = side->bias;
    const uint8_t *packed = side->packed;
    __m512 sums[VNNI_ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        sums[r] = _mm512_loadu_ps(sum + (row + (size_t)r) * QZ_SIDE);
    for (size_t b = 0, left = side->each - side->head; b < side->blocks; b++, left--, packed += QZ_READY_BYTES) {
        __m512i even[VNNI_ROWS], odd[VNNI_ROWS];
        if (left == 0) {
            left = side->each;
            scale += QZ_SIDE;
            bias += bias ? QZ_SIDE : 0;
        }
        vnni_fetch_later(packed, scale, bias);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            even[r] = odd[r] = _mm512_setzero_si512();
#pragma GCC unroll 4
        for (size_t f = 0; f < 4; f++) {
            const __m512i two = vnni_flip(_mm512_loadu_si512(packed + 64 * f), by_table, levels);
            const __m512i low = vnni_level(two, by_table, levels), high = vnni_upper(two, by_table, levels);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                const int8_t *eight = code + (size_t)r * apart + b * QZ_LEVELS + 8 * f;
                even[r] = _mm512_dpbusd_epi32(even[r], low, vnni_four(eight));
                odd[r] = _mm512_dpbusd_epi32(odd[r], high, vnni_four(eight + 4));
            }
        }
        const __m512 of_scale = _mm512_loadu_ps(scale);
        const __m512 of_bias = bias ? _mm512_loadu_ps(bias) : _mm512_mul_ps(of_scale, _mm512_set1_ps(side->base));
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const size_t at = (size_t)r * x->pitch + b;
            __m512i total = _mm512_add_epi32(even[r], by_table ? odd[r] : _mm512_srai_epi32(odd[r], 4));
            sums[r] = _mm512_fmadd_ps(of_bias, _mm512_set1_ps(start[at]), sums[r]);
            sums[r] =
                _mm512_fmadd_ps(_mm512_mul_ps(of_scale, _mm512_set1_ps(step[at])), _mm512_cvtepi32_ps(total), sums[r]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        _mm512_storeu_ps(sum + (row + (size_t)r) * QZ_SIDE, sums[r]);
}

VNNI_INLINE void vnni_ready_all(const struct qz_ready_side *side, int by_table, const struct vnni_levels *levels,
                                const struct qz_byte_rows *x, float *sum)
{
    size_t r = 0;
    for (; r + VNNI_ROWS <= x->rows; r += VNNI_ROWS)
        vnni_ready_rows(side, by_table, levels, x, r, VNNI_ROWS, sum);
    for (; r + 3 <= x->rows; r += 3)
        vnni_ready_rows(side, by_table, levels, x, r, 3, sum);
    for (; r < x->rows; r++)
        vnni_ready_rows(side, by_table, levels, x, r, 1, sum);
}

static VNNI_TARGET void vnni_ready(const struct qz_ready_side *side, const struct qz_byte_rows *x, float *sum)
{
    const struct vnni_levels levels = vnni_make_levels(side->level);
    if (levels.by_table)
        vnni_ready_all(side, 1, &levels, x, sum);
    else
        vnni_ready_all(side, 0, &levels, x, sum);
}

/* ---- codes side by side ---------------------------------------------------------------------------------------- */

/* `vectors` of 16 rows with `width` queries, constants, a group of `steps`: sum[q * apart + r]. */
VNNI_INLINE void vnni_beside_sums(const uint8_t *codes, size_t step, size_t steps, const int8_t *query, size_t pitch,
                                  size_t vectors, size_t width, int by_table, const struct vnni_levels *levels,
                                  int32_t *sum, size_t apart)
{
    enum { MOST = 16 };
    __m512i total[MOST];
#pragma GCC unroll 16
    for (size_t i = 0; i < vectors * width; i++)
        total[i] = _mm512_setzero_si512();
    for (size_t s = 0; s < steps; s++, codes += step, query += QZ_BESIDE_CODES) {
        __m512i low[4], high[4];
#pragma GCC unroll 4
        for (size_t i = 0; i < vectors; i++) {
            if (width == 1)
                qz_fetch_ahead(codes + 64 * i);
            __m512i two = vnni_flip(_mm512_loadu_si512(codes + 64 * i), by_table, levels);
            low[i] = vnni_level(two, by_table, levels);
            high[i] = vnni_level(_mm512_srli_epi32(two, 4), by_table, levels);
        }
#pragma GCC unroll 8
        for (size_t q = 0; q < width; q++) {
            const __m512i evens = vnni_four(query + q * pitch);
#pragma GCC unroll 4
            for (size_t i = 0; i < vectors; i++)
                total[q * vectors + i] = _mm512_dpbusd_epi32(total[q * vectors + i], low[i], evens);
            const __m512i odds = vnni_four(query + q * pitch + QZ_BESIDE_CODES / 2);
#pragma GCC unroll 4
            for (size_t i = 0; i < vectors; i++)
                total[q * vectors + i] = _mm512_dpbusd_epi32(total[q * vectors + i], high[i], odds);
        }
    }
#pragma GCC unroll 8
    for (size_t q = 0; q < width; q++)
#pragma GCC unroll 4
        for (size_t i = 0; i < vectors; i++)
            _mm512_storeu_si512(sum + q * apart + 16 * i, total[q * vectors + i]);
}

/* A group of all rows with `width` queries, a constant. */
VNNI_INLINE void vnni_beside_rows(const struct qz_beside *rows, const uint8_t *codes, size_t steps, const int8_t *query,
                                  size_t pitch, size_t width, int by_table, const struct vnni_levels *levels,
                                  int32_t *sum)
{
    const size_t step = rows->rows * (QZ_BESIDE_CODES / 2), apart = rows->groups * rows->rows;
    size_t row = 0;
    for (; width == 1 && row + 64 <= rows->rows; row += 64, codes += 256)
        vnni_beside_sums(codes, step, steps, query, pitch, 4, width, by_table, levels, sum + row, apart);
    for (; row + 32 <= rows->rows; row += 32, codes += 128)
        vnni_beside_sums(codes, step, steps, query, pitch, 2, width, by_table, levels, sum + row, apart);
    for (; row < rows->rows; row += 16, codes += 64)
        vnni_beside_sums(codes, step, steps, query, pitch, 1, width, by_table, levels, sum + row, apart);
}

VNNI_INLINE void vnni_beside_queries(const struct qz_beside *rows, const int8_t *query, size_t pitch, size_t queries,
                                     int by_table, const struct vnni_levels *levels, int32_t *sum)
{
    const size_t step = rows->rows * (QZ_BESIDE_CODES / 2), apart = rows->groups * rows->rows;
    for (size_t g = 0, first = 0, end; g < rows->groups; first = end, g++, sum += rows->rows) {
        const uint8_t *codes = rows->codes + first * step;
        const int8_t *from = query + first * QZ_BESIDE_CODES;
        size_t q = 0, steps = (end = qz_beside_group_end(rows, g)) - first;
        for (; q + 8 <= queries; q += 8, from += 8 * pitch)
            vnni_beside_rows(rows, codes, steps, from, pitch, 8, by_table, levels, sum + q * apart);
        for (; q + 2 <= queries; q += 2, from += 2 * pitch)
            vnni_beside_rows(rows, codes, steps, from, pitch, 2, by_table, levels, sum + q * apart);
        if (q < queries)
            vnni_beside_rows(rows, codes, steps, from, pitch, 1, by_table, levels, sum + q * apart);
    }
}

static VNNI_TARGET void vnni_beside(const struct qz_beside *rows, const int8_t *query, size_t pitch, size_t queries,
                                    int32_t *sum)
{
    const struct vnni_levels levels = vnni_make_levels(rows->level);
    if (levels.by_table)
        vnni_beside_queries(rows, query, pitch, queries, 1, &levels, sum);
    else
        vnni_beside_queries(rows, query, pitch, queries, 0, &levels, sum);
}
