/*
 * products_256.h - products of bytes with 8 weights in a vector, for AVX2 and AVX-512
 *
 * Four bytes of each of 8 weights are multiplied with the same four bytes of a row. Two products are added in 16 bits,
 * and so are those of further fours, as many as fit: for 4-bit codes, a block.
 */

enum {
    SIDE_VECTORS = QZ_SIDE / 8,
    SIDE_FOURS = QZ_LEVELS / 4, /* of a block */
    SIDE_ROWS = 4,              /* of x at a time */
    SIDE_FEW = 2                /* the same where codes are packed */
};

/* A block of 8 weights, 16 bytes each: of vector i, lane w has the bytes 4 i .. 4 i + 3 of weight w. */
INLINE void side_turn(const uint8_t *const packed[8], size_t at, __m256i turned[4])
{
    __m256i row[4];
#pragma GCC unroll 4
    for (int w = 0; w < 4; w++) {
        __m128i low = _mm_loadu_si128((const __m128i *)(packed[w] + at));
        row[w] = _mm256_inserti128_si256(_mm256_castsi128_si256(low),
                                         _mm_loadu_si128((const __m128i *)(packed[w + 4] + at)), 1);
    }
    __m256i low01 = _mm256_unpacklo_epi32(row[0], row[1]), low23 = _mm256_unpacklo_epi32(row[2], row[3]);
    __m256i high01 = _mm256_unpackhi_epi32(row[0], row[1]), high23 = _mm256_unpackhi_epi32(row[2], row[3]);
    turned[0] = _mm256_unpacklo_epi64(low01, low23);
    turned[1] = _mm256_unpackhi_epi64(low01, low23);
    turned[2] = _mm256_unpacklo_epi64(high01, high23);
    turned[3] = _mm256_unpackhi_epi64(high01, high23);
}

/* ---- numbers of stored groups --------------------------------------------------------------------------------- */

/* Eight rows in either half of eight vectors, and as many numbers of 16 bits: vector i gets number i of all rows. */
INLINE void side_turn_halves(__m256i v[8])
{
    __m256i t[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_epi16(v[2 * i], v[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_epi16(v[2 * i], v[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        int from = i / 2 * 4 + i % 2;
        v[2 * i] = _mm256_unpacklo_epi32(t[from], t[from + 2]);
        v[2 * i + 1] = _mm256_unpackhi_epi32(t[from], t[from + 2]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_epi64(v[i], v[i + 4]);
        t[2 * i + 1] = _mm256_unpackhi_epi64(v[i], v[i + 4]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        v[i] = t[i];
}

/* Four bytes of each of 16 rows: vector i gets byte i of all rows. */
INLINE void side_turn_bytes(const uint8_t *const rows[QZ_SIDE], size_t at, __m128i turned[4])
{
    const __m128i together = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m128i four[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        int32_t row[4];
        for (int w = 0; w < 4; w++)
            memcpy(&row[w], rows[4 * i + w] + at, 4);
        four[i] = _mm_shuffle_epi8(_mm_setr_epi32(row[0], row[1], row[2], row[3]), together);
    }
    __m128i low01 = _mm_unpacklo_epi32(four[0], four[1]), low23 = _mm_unpacklo_epi32(four[2], four[3]);
    __m128i high01 = _mm_unpackhi_epi32(four[0], four[1]), high23 = _mm_unpackhi_epi32(four[2], four[3]);
    turned[0] = _mm_unpacklo_epi64(low01, low23);
    turned[1] = _mm_unpackhi_epi64(low01, low23);
    turned[2] = _mm_unpacklo_epi64(high01, high23);
    turned[3] = _mm_unpackhi_epi64(high01, high23);
}

/* Fetches what the next 16 rows have at `at`, if they are as far apart as these: rows that are read side by side, a
 * little of each, follow no pattern that hardware foresees. A quarter of the rows at a time. */
INLINE void side_fetch_next(const uint8_t *const rows[QZ_SIDE], size_t at, size_t quarter)
{
    const uintptr_t apart = (uintptr_t)rows[1] - (uintptr_t)rows[0];
#pragma GCC unroll 4
    for (size_t w = 0; w < QZ_SIDE / 4; w++)
        _mm_prefetch((const char *)((uintptr_t)rows[quarter * 4 + w] + at + QZ_SIDE * apart), _MM_HINT_T1);
}

/* Of 16 numbers those of vector v, as floats: halves, and bytes of 0..15. */
#if LANES == 16
INLINE VF side_floats(__m256i half, int v)
{
    (void)v;
    return _mm512_cvtph_ps(half);
}

INLINE VF side_codes(__m128i code, int v)
{
    (void)v;
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(code));
}
#else
INLINE VF side_floats(__m256i half, int v)
{
    return _mm256_cvtph_ps(v ? _mm256_extracti128_si256(half, 1) : _mm256_castsi256_si128(half));
}

INLINE VF side_codes(__m128i code, int v)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(v ? _mm_srli_si128(code, 8) : code));
}
#endif

/* The numbers of QZ_STORED_GROUPS groups; magnitudes of scales, as whole numbers, go to `most`. */
INLINE void side_stored(qz_zero kind, float unit, float base, const uint8_t *const scales[QZ_SIDE],
                        const uint8_t *const zeros[QZ_SIDE], size_t g, float *scale, float *bias, __m256i *most)
{
    __m256i half[QZ_STORED_GROUPS];
    __m128i codes[QZ_STORED_GROUPS / 2] = {0};
#pragma GCC unroll 8
    for (int w = 0; w < 8; w++) {
        __m128i low = _mm_loadu_si128((const __m128i *)(scales[w] + 2 * g));
        half[w] = _mm256_inserti128_si256(_mm256_castsi128_si256(low),
                                          _mm_loadu_si128((const __m128i *)(scales[w + 8] + 2 * g)), 1);
        *most = _mm256_max_epu16(*most, _mm256_and_si256(half[w], _mm256_set1_epi16(0x7fff)));
    }
    side_turn_halves(half);
    side_fetch_next(scales, 2 * g, g / QZ_STORED_GROUPS % 4);
    if (kind != QZ_ZERO_NONE)
        side_turn_bytes(zeros, g / 2, codes);
#pragma GCC unroll 8
    for (int i = 0; i < QZ_STORED_GROUPS; i++) {
        __m128i zero = i % 2 ? _mm_srli_epi16(codes[i / 2], 4) : codes[i / 2];
        zero = _mm_and_si128(zero, _mm_set1_epi8(15));
#pragma GCC unroll 2
        for (int v = 0; v < QZ_SIDE / LANES; v++) {
            const size_t at = (g + (size_t)i) * QZ_SIDE + LANES * (size_t)v;
            const VF s = side_floats(half[i], v);
            VF b = vf_mul(s, vf_set1(base));
            if (kind != QZ_ZERO_NONE)
                b = vf_sub(b, vf_mul(s, side_codes(zero, v)));
            vf_store(scale + at, vf_mul(s, vf_set1(unit)));
            vf_store(bias + at, b);
        }
    }
}

INLINE int side_all_stored(qz_zero kind, float unit, float base, const uint8_t *const scales[QZ_SIDE],
                           const uint8_t *const zeros[QZ_SIDE], size_t groups, float *scale, float *bias)
{
    __m256i most = _mm256_setzero_si256();
    for (size_t g = 0; g < groups; g += QZ_STORED_GROUPS)
        side_stored(kind, unit, base, scales, zeros, g, scale, bias, &most);
    return _mm256_testz_si256(_mm256_cmpgt_epi16(most, _mm256_set1_epi16(0x7bff)), _mm256_set1_epi16(-1));
}

static TARGET int product_stored(qz_zero kind, float unit, float base, const uint8_t *const scales[QZ_SIDE],
                                 const uint8_t *const zeros[QZ_SIDE], size_t groups, float *scale, float *bias)
{
    if (kind == QZ_ZERO_NONE)
        return side_all_stored(QZ_ZERO_NONE, unit, base, scales, zeros, groups, scale, bias);
    return side_all_stored(QZ_ZERO_UINT4, unit, base, scales, zeros, groups, scale, bias);
}

/* ---- levels --------------------------------------------------------------------------------------------------- */

/* Levels of the even elements, or of the odd ones. */
INLINE __m256i side_levels(__m256i packed, int odd, __m256i table)
{
    if (odd)
        packed = _mm256_srli_epi16(packed, 4);
    return _mm256_shuffle_epi8(table, _mm256_and_si256(packed, _mm256_set1_epi8(15)));
}

static TARGET void product_levels(const uint8_t *const packed[QZ_SIDE], size_t blocks, const uint8_t level[16],
                                  uint8_t *dst)
{
    const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)level));
    for (size_t b = 0; b < blocks; b++, dst += QZ_LEVELS * QZ_SIDE)
#pragma GCC unroll 2
        for (size_t v = 0; v < SIDE_VECTORS; v++) {
            __m256i turned[4];
            side_turn(packed + 8 * v, b * (QZ_LEVELS / 2), turned);
#pragma GCC unroll 8
            for (int f = 0; f < SIDE_FOURS; f++)
                _mm256_storeu_si256((__m256i *)(dst + 4 * QZ_SIDE * f + 32 * v),
                                    side_levels(turned[f / 2], f % 2, table));
        }
}

/* Four bytes of a row in all lanes. */
INLINE __m256i side_bytes(const int8_t *code)
{
    int32_t four;
    memcpy(&four, code, 4);
    return _mm256_set1_epi32(four);
}

/* Calls a function with the number of fours that are added in 16 bits, as a constant. */
#define WITH_SPAN(most, function, ...)                                                                                 \
    do {                                                                                                               \
        const size_t steps = qz_level_steps(most);                                                                     \
        if (steps >= 8)                                                                                                \
            function(8, __VA_ARGS__);                                                                                  \
        else if (steps >= 4)                                                                                           \
            function(4, __VA_ARGS__);                                                                                  \
        else if (steps >= 2)                                                                                           \
            function(2, __VA_ARGS__);                                                                                  \
        else                                                                                                           \
            function(1, __VA_ARGS__);                                                                                  \
    } while (0)

/* A sum of 16 bits and one more product. Compilers that know the order to be free find all products of a block before
 * they add any, for which there are not enough registers. */
INLINE __m256i side_sum(__m256i few, __m256i product)
{
    few = _mm256_add_epi16(few, product);
    __asm__("" : "+v"(few));
    return few;
}

INLINE __m256i side_widen(__m256i few)
{
    return _mm256_madd_epi16(few, _mm256_set1_epi16(1));
}

/* Adds the product of four number f of a block with four bytes of a row, both side by side. */
INLINE void side_four(__m256i *few, __m256i *total, __m256i of_side, __m256i bytes, int f, int span)
{
    __m256i product = _mm256_maddubs_epi16(of_side, bytes);
    *few = f % span ? side_sum(*few, product) : product;
    if (f % span == span - 1)
        *total = f < span ? side_widen(*few) : _mm256_add_epi32(*total, side_widen(*few));
}

/* Adds what a block of 8 weights makes with one of a row. */
INLINE __m256 side_grow(__m256 scale, __m256 bias, float step, float start, __m256i total, __m256 sum)
{
    sum = _mm256_fmadd_ps(bias, _mm256_set1_ps(start), sum);
    return _mm256_fmadd_ps(_mm256_mul_ps(scale, _mm256_set1_ps(step)), _mm256_cvtepi32_ps(total), sum);
}

INLINE __m256 side_add(const struct qz_side *side, size_t b, size_t v, float step, float start, __m256i total,
                       __m256 sum)
{
    const size_t at = b * QZ_SIDE + 8 * v;
    return side_grow(_mm256_loadu_ps(side->scale + at), _mm256_loadu_ps(side->bias + at), step, start, total, sum);
}

INLINE void side_tile(const struct qz_side *of, const uint8_t *level, const struct qz_byte_rows *of_x, size_t row,
                      int rows, int span, float *sum)
{
    const struct qz_side copy = *of, *side = &copy; /* which no store changes */
    const struct qz_byte_rows copy_of_x = *of_x, *x = &copy_of_x;
    const size_t first = row * x->pitch;
    for (size_t b = 0; b < side->blocks; b++, level += QZ_LEVELS * QZ_SIDE) {
        const int8_t *code = x->code + (first + b) * QZ_LEVELS;
        __m256i few[SIDE_ROWS][SIDE_VECTORS], total[SIDE_ROWS][SIDE_VECTORS];
#pragma GCC unroll 8
        for (int f = 0; f < SIDE_FOURS; f++) {
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                __m256i bytes = side_bytes(code + (size_t)r * x->pitch * QZ_LEVELS + 4 * f);
#pragma GCC unroll 2
                for (int v = 0; v < SIDE_VECTORS; v++) {
                    __m256i of_side = _mm256_loadu_si256((const __m256i *)(level + 4 * QZ_SIDE * f + 32 * v));
                    side_four(&few[r][v], &total[r][v], of_side, bytes, f, span);
                }
            }
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < SIDE_VECTORS; v++) {
                size_t at = first + (size_t)r * x->pitch + b;
                float *to = sum + (row + (size_t)r) * QZ_SIDE + 8 * v;
                _mm256_storeu_ps(
                    to, side_add(side, b, (size_t)v, x->step[at], x->start[at], total[r][v], _mm256_loadu_ps(to)));
            }
    }
}

INLINE void side_rows(int span, const struct qz_side *side, const uint8_t *level, const struct qz_byte_rows *x,
                      float *sum)
{
    size_t r = 0;
    for (; r + SIDE_ROWS <= x->rows; r += SIDE_ROWS)
        side_tile(side, level, x, r, SIDE_ROWS, span, sum);
    for (; r < x->rows; r++)
        side_tile(side, level, x, r, 1, span, sum);
}

static TARGET void product_bytes(const struct qz_side *side, const uint8_t *level, const struct qz_byte_rows *x,
                                 float *sum)
{
    WITH_SPAN(side->most, side_rows, side, level, x, sum);
}

/* Fetches two of the lines that the next 8 weights begin with in block b, if they are as far apart as these: rows that
 * are read side by side, a little of each, follow no pattern that hardware foresees. */
INLINE void side_fetch(const uint8_t *const packed[8], size_t b)
{
    const uintptr_t apart = (uintptr_t)packed[1] - (uintptr_t)packed[0], at = b * (QZ_LEVELS / 2) + 8 * apart;
    const size_t row = b % 4 * 2;
    _mm_prefetch((const char *)((uintptr_t)packed[row] + at), _MM_HINT_T0);
    _mm_prefetch((const char *)((uintptr_t)packed[row + 1] + at), _MM_HINT_T0);
}

/* 8 weights and `rows` rows, from packed codes. */
INLINE void side_few(const struct qz_side *side, const uint8_t *const packed[8], size_t v, __m256i table,
                     const struct qz_byte_rows *x, size_t row, int rows, int span, float *sum)
{
    const size_t first = row * x->pitch;
    __m256 sums[SIDE_FEW];
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++)
        sums[r] = _mm256_loadu_ps(sum + (row + (size_t)r) * QZ_SIDE + 8 * v);
    for (size_t b = 0; b < side->blocks; b++) {
        const int8_t *code = x->code + (first + b) * QZ_LEVELS;
        __m256i turned[4], few[SIDE_FEW], total[SIDE_FEW];
        side_turn(packed, b * (QZ_LEVELS / 2), turned);
        side_fetch(packed, b);
#pragma GCC unroll 8
        for (int f = 0; f < SIDE_FOURS; f++) {
            __m256i of_side = side_levels(turned[f / 2], f % 2, table);
#pragma GCC unroll 2
            for (int r = 0; r < rows; r++)
                side_four(few + r, total + r, of_side, side_bytes(code + (size_t)r * x->pitch * QZ_LEVELS + 4 * f), f,
                          span);
        }
#pragma GCC unroll 2
        for (int r = 0; r < rows; r++) {
            size_t at = first + (size_t)r * x->pitch + b;
            sums[r] = side_add(side, b, v, x->step[at], x->start[at], total[r], sums[r]);
        }
    }
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++)
        _mm256_storeu_ps(sum + (row + (size_t)r) * QZ_SIDE + 8 * v, sums[r]);
}

INLINE void side_packed(int span, const struct qz_side *side, const uint8_t *const packed[QZ_SIDE],
                        const uint8_t level[16], const struct qz_byte_rows *x, float *sum)
{
    const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)level));
    for (size_t v = 0; v < SIDE_VECTORS; v++) {
        size_t r = 0;
        for (; r + SIDE_FEW <= x->rows; r += SIDE_FEW)
            side_few(side, packed + 8 * v, v, table, x, r, SIDE_FEW, span, sum);
        for (; r < x->rows; r++)
            side_few(side, packed + 8 * v, v, table, x, r, 1, span, sum);
    }
}

static TARGET void product_packed(const struct qz_side *side, const uint8_t *const packed[QZ_SIDE],
                                  const uint8_t level[16], const struct qz_byte_rows *x, float *sum)
{
    WITH_SPAN(side->most, side_packed, side, packed, level, x, sum);
}

/* ---- products with prepared weights --------------------------------------------------------------------------- */

/* 8 weights and `rows` rows. */
INLINE void side_ready_few(const struct qz_ready_side *side, size_t v, __m256i table, const struct qz_byte_rows *x,
                           size_t row, int rows, int span, float *sum)
{
    const size_t first = row * x->pitch;
    const float *scale = side->scale + 8 * v, *bias = side->bias ? side->bias + 8 * v : NULL;
    const uint8_t *packed = side->packed + 32 * v;
    __m256 sums[SIDE_FEW];
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++)
        sums[r] = _mm256_loadu_ps(sum + (row + (size_t)r) * QZ_SIDE + 8 * v);
    for (size_t b = 0, left = side->each - side->head; b < side->blocks; b++, left--, packed += QZ_READY_BYTES) {
        const int8_t *code = x->code + (first + b) * QZ_LEVELS;
        __m256i few[SIDE_FEW], total[SIDE_FEW];
        if (left == 0) {
            left = side->each;
            scale += QZ_SIDE;
            bias += bias ? QZ_SIDE : 0;
        }
#pragma GCC unroll 8
        for (int f = 0; f < SIDE_FOURS; f++) {
            __m256i of_side =
                side_levels(_mm256_loadu_si256((const __m256i *)(packed + 4 * QZ_SIDE * (f / 2))), f % 2, table);
#pragma GCC unroll 2
            for (int r = 0; r < rows; r++)
                side_four(few + r, total + r, of_side, side_bytes(code + (size_t)r * x->pitch * QZ_LEVELS + 4 * f), f,
                          span);
        }
        const __m256 of_scale = _mm256_loadu_ps(scale);
        const __m256 of_bias = bias ? _mm256_loadu_ps(bias) : _mm256_mul_ps(of_scale, _mm256_set1_ps(side->base));
#pragma GCC unroll 2
        for (int r = 0; r < rows; r++) {
            size_t at = first + (size_t)r * x->pitch + b;
            sums[r] = side_grow(of_scale, of_bias, x->step[at], x->start[at], total[r], sums[r]);
        }
    }
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++)
        _mm256_storeu_ps(sum + (row + (size_t)r) * QZ_SIDE + 8 * v, sums[r]);
}

INLINE void side_ready(int span, const struct qz_ready_side *side, const struct qz_byte_rows *x, float *sum)
{
    const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)side->level));
    for (size_t v = 0; v < SIDE_VECTORS; v++) {
        size_t r = 0;
        for (; r + SIDE_FEW <= x->rows; r += SIDE_FEW)
            side_ready_few(side, v, table, x, r, SIDE_FEW, span, sum);
        for (; r < x->rows; r++)
            side_ready_few(side, v, table, x, r, 1, span, sum);
    }
}

static TARGET void product_ready(const struct qz_ready_side *side, const struct qz_byte_rows *x, float *sum)
{
    WITH_SPAN(side->most, side_ready, side, x, sum);
}
