/*
 * few_512.h - products of few rows of floats with 16 weights, from packed codes; part of avx512.c
 *
 * Values are decoded side by side and multiplied at once with all rows; none is stored. A chain (QZ_PRODUCT_CHAIN
 * elements) is two blocks. One row alone would wait for each of its sums, so four chains are computed side by side.
 */

enum {
    FEW_BLOCKS = QZ_PRODUCT_CHAIN / QZ_LEVELS,
    FEW_CHAINS = 4,
    LINE_BLOCKS = 4 /* of a line of memory */
};

/* The numbers of a block of weights. */
struct few_numbers {
    __m512 scale, zero;
};

/* How values follow from numbers: as kinds of zeros say, or scale * code + zero, which is exact. */
enum { FEW_EXACT = -1 };

INLINE struct few_numbers few_load(const struct qz_few *few, size_t b, int kind)
{
    const size_t at = (few->head + b) / few->each * QZ_SIDE;
    return (struct few_numbers){_mm512_loadu_ps(few->scale + at),
                                kind == QZ_ZERO_NONE ? _mm512_setzero_ps() : _mm512_loadu_ps(few->zero + at)};
}

/* Codes of a block of 16 weights: of vector q, lane w has elements 8 q .. 8 q + 7 of weight w. */
INLINE void few_codes(const uint8_t *packed, ptrdiff_t pitch, __m512i eight[4])
{
#pragma GCC unroll 4
    for (ptrdiff_t r = 0; r < 4; r++)
        eight[r] = vi_load_lanes(packed + r * pitch, 4 * pitch);
    transpose_lanes(eight);
}

INLINE __m512 few_value(__m512i eight, unsigned j, int kind, __m512 values, struct few_numbers of)
{
    __m512 y = _mm512_permutexvar_ps(_mm512_srli_epi32(eight, 4 * j), values);
    if (kind == FEW_EXACT)
        return _mm512_fmadd_ps(of.scale, y, of.zero);
    if (kind == QZ_ZERO_UINT4 || kind == QZ_ZERO_FLOAT)
        y = _mm512_sub_ps(y, of.zero);
    y = _mm512_mul_ps(of.scale, y);
    return kind == QZ_ZERO_OFFSET ? _mm512_add_ps(y, of.zero) : y;
}

/* Adds the products of a block of each of `chains` chains and `rows` rows to sums; of row r and chain i: r * chains + i.
 */
INLINE void few_block(const struct qz_few *few, size_t b, int chains, int kind, __m512 values, const float *x,
                      ptrdiff_t x_pitch, int rows, __m512 *chain)
{
    __m512i eight[FEW_CHAINS][4];
    struct few_numbers of[FEW_CHAINS];
    const float *row[8];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        row[r] = x + r * x_pitch;
        __asm__("" : "+r"(row[r])); /* or else compilers keep an address for each element */
    }
#pragma GCC unroll 4
    for (int i = 0; i < chains; i++) {
        const size_t block = b + (size_t)i * FEW_BLOCKS;
        few_codes(few->packed + block * (QZ_LEVELS / 2), few->pitch, eight[i]);
        of[i] = few_load(few, block, kind);
    }
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++)
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++)
#pragma GCC unroll 4
            for (int i = 0; i < chains; i++) {
                const __m512 value = few_value(eight[i][q], (unsigned)j, kind, values, of[i]);
#pragma GCC unroll 8
                for (int r = 0; r < rows; r++) {
                    __m512 factor = _mm512_set1_ps(row[r][i * QZ_PRODUCT_CHAIN + 8 * q + j]);
                    chain[r * chains + i] = _mm512_fmadd_ps(factor, value, chain[r * chains + i]);
                }
            }
}

/* Asks for what the next 16 weights have where these have a block. */
INLINE void few_fetch(const struct qz_few *few, size_t b)
{
    const uint8_t *next = few->packed + QZ_SIDE * few->pitch + b * (QZ_LEVELS / 2);
#pragma GCC unroll 16
    for (ptrdiff_t w = 0; w < QZ_SIDE; w++)
        _mm_prefetch((const char *)((uintptr_t)next + (uintptr_t)(w * few->pitch)), _MM_HINT_T1);
}

/* What `chains` chains from block b on add to the sums of `rows` rows. */
INLINE void few_chains(const struct qz_few *few, size_t b, int chains, int kind, __m512 values, const float *x,
                       ptrdiff_t x_pitch, int rows, __m512 *sum)
{
    __m512 chain[8];
#pragma GCC unroll 8
    for (int s = 0; s < rows * chains; s++)
        chain[s] = _mm512_setzero_ps();
    for (size_t k = 0; k < (size_t)chains * FEW_BLOCKS; k += FEW_BLOCKS)
        if ((b + k) % LINE_BLOCKS == 0)
            few_fetch(few, b + k);
    for (size_t k = 0; k < FEW_BLOCKS; k++)
        few_block(few, b + k, chains, kind, values, x + (b + k) * QZ_LEVELS, x_pitch, rows, chain);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int i = 0; i < chains; i++)
            sum[r] = _mm512_add_ps(sum[r], chain[r * chains + i]);
}

INLINE void few_rows(const struct qz_few *few, int kind, __m512 values, const float *x, ptrdiff_t x_pitch, int rows,
                     float *sum)
{
    const int together = rows < FEW_CHAINS ? FEW_CHAINS / rows : 1;
    const size_t step = (size_t)together * FEW_BLOCKS;
    __m512 total[8];
    size_t b = 0;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        total[r] = _mm512_loadu_ps(sum + r * QZ_SIDE);
    for (; b + step <= few->blocks; b += step)
        few_chains(few, b, together, kind, values, x, x_pitch, rows, total);
    for (; b < few->blocks; b += FEW_BLOCKS)
        few_chains(few, b, 1, kind, values, x, x_pitch, rows, total);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        _mm512_storeu_ps(sum + r * QZ_SIDE, total[r]);
}

INLINE void few_kind(const struct qz_few *few, int kind, const float *x, ptrdiff_t x_pitch, size_t rows, float *sum)
{
    const __m512 values = _mm512_loadu_ps(few->grid->value);
    size_t r = 0;
    for (; r + 8 <= rows; r += 8)
        few_rows(few, kind, values, x + (ptrdiff_t)r * x_pitch, x_pitch, 8, sum + r * QZ_SIDE);
    for (; r + 4 <= rows; r += 4)
        few_rows(few, kind, values, x + (ptrdiff_t)r * x_pitch, x_pitch, 4, sum + r * QZ_SIDE);
    for (; r + 2 <= rows; r += 2)
        few_rows(few, kind, values, x + (ptrdiff_t)r * x_pitch, x_pitch, 2, sum + r * QZ_SIDE);
    for (; r < rows; r++)
        few_rows(few, kind, values, x + (ptrdiff_t)r * x_pitch, x_pitch, 1, sum + r * QZ_SIDE);
}

static TARGET void products_few(const struct qz_few *few, const float *x, ptrdiff_t x_pitch, size_t rows, float *sum)
{
    switch (few->exact && few->grid->zero != QZ_ZERO_NONE ? FEW_EXACT : (int)few->grid->zero) {
    case QZ_ZERO_NONE:
        few_kind(few, QZ_ZERO_NONE, x, x_pitch, rows, sum);
        break;
    case FEW_EXACT:
        few_kind(few, FEW_EXACT, x, x_pitch, rows, sum);
        break;
    case QZ_ZERO_OFFSET:
        few_kind(few, QZ_ZERO_OFFSET, x, x_pitch, rows, sum);
        break;
    default: /* a zero of either kind is subtracted */
        few_kind(few, QZ_ZERO_FLOAT, x, x_pitch, rows, sum);
    }
}
