/*
 * few_512.h - products of few rows of floats with 16 weights, from packed codes; part of avx512.c
 *
 * Values are decoded side by side and multiplied at once with all rows; none is stored. A chain (QZ_PRODUCT_CHAIN
 * elements) is two blocks. One row alone would wait for each of its sums, so four chains are computed side by side.
 */

enum {
    FEW_BLOCKS = QZ_PRODUCT_CHAIN / QZ_LEVELS,
    FEW_CHAINS = 4,
    LINE_BLOCKS = 4, /* of a line of memory */
    FEW_LATER = 8192 /* bytes: so far ahead codes of prepared weights are asked for; numbers take a quarter at most */
};

/* The numbers of a block of weights; FEW_WHOLE: what is added to scale * (2048 + code) and to scale * (128 + code). */
struct few_numbers {
    __m512 scale, zero, other;
};

/*
 * How values follow from numbers: as kinds of zeros say; or scale * value + zero, which is exact; or, where values of
 * codes are whole numbers that follow each other, scale * (power of two + code) + number.
 *
 * These powers cost no conversion: bits 12-15 of 2048.0f count ones, and so do bits 16-19 of 128.0f, so that a code that
 * is there is added to them by one instruction. Each shift brings two codes there. A scale of float16 has 11 bits,
 * 2048 + 15 + 8 has 12, and so the number and the value are exact.
 */
enum { FEW_EXACT = -1, FEW_WHOLE = -2, FEW_READY = -3 }; /* the last one: FEW_WHOLE with weights that were prepared */

/* What codes have in common. */
struct few_codebook {
    __m512 value;      /* by code */
    __m512i near, far; /* FEW_WHOLE: 2048.0f and 128.0f, with the bit of codes that is stored the other way round */
    __m512 of_near, of_far; /* the least value, less these */
};

INLINE struct few_codebook few_codebook(const struct qz_few *few, int kind)
{
    const struct qz_grid *grid = few->grid;
    struct few_codebook values = {.value = _mm512_loadu_ps(grid->value)};
    if (kind == FEW_WHOLE || kind == FEW_READY) {
        const int turned = grid->value[8] < grid->value[0] ? 8 : 0;
        const float least = kind == FEW_READY && few->zero ? 0.0f : grid->value[turned]; /* biases have it */
        values.near = _mm512_set1_epi32((int)qz_bits(2048.0f) | turned << 12);
        values.far = _mm512_set1_epi32((int)qz_bits(128.0f) | turned << 16);
        values.of_near = _mm512_set1_ps(least - 2048.0f);
        values.of_far = _mm512_set1_ps(least - 128.0f);
    }
    return values;
}

INLINE struct few_numbers few_load(const struct qz_few *few, size_t b, int kind, const struct few_codebook *values)
{
    const size_t at = (few->head + b) / few->each * QZ_SIDE;
    const __m512 scale = _mm512_loadu_ps(few->scale + at);
    const int has_none = kind == QZ_ZERO_NONE || (kind == FEW_READY && !few->zero);
    const __m512 zero = has_none ? _mm512_setzero_ps() : _mm512_loadu_ps(few->zero + at);
    if (kind == FEW_WHOLE || kind == FEW_READY)
        return (struct few_numbers){scale, _mm512_fmadd_ps(scale, values->of_near, zero),
                                    _mm512_fmadd_ps(scale, values->of_far, zero)};
    return (struct few_numbers){scale, zero, zero};
}

/* Codes of a block of 16 weights: of vector q, lane w has elements 8 q .. 8 q + 7 of weight w. */
INLINE void few_codes(const struct qz_few *few, size_t b, int kind, __m512i eight[4])
{
    const ptrdiff_t pitch = few->pitch;
    const uint8_t *packed = few->packed + b * (kind == FEW_READY ? QZ_READY_BYTES : QZ_LEVELS / 2);
    if (kind == FEW_READY) {
#pragma GCC unroll 4
        for (size_t q = 0; q < 4; q++)
            eight[q] = _mm512_loadu_si512(packed + 4 * QZ_SIDE * q);
        return;
    }
#pragma GCC unroll 4
    for (ptrdiff_t r = 0; r < 4; r++)
        eight[r] = vi_load_lanes(packed + r * pitch, 4 * pitch);
    transpose_lanes(eight);
}

/* Code j, where shifts bring codes 1, 3, 5, 7 to bits 12-15 and the others to bits 16-19. */
INLINE __m512 few_whole(__m512i eight, unsigned j, const struct few_codebook *values, struct few_numbers of)
{
    enum { TERNARY = 0x6a }; /* (a & b) ^ c */
    __m512i v = j == 0 || j == 7 ? _mm512_rol_epi32(eight, 16)
                : j < 3          ? _mm512_slli_epi32(eight, 8)
                : j < 5          ? eight
                                 : _mm512_srli_epi32(eight, 8);
    v = j % 2 == 0 ? _mm512_ternarylogic_epi32(v, _mm512_set1_epi32(0xf0000), values->far, TERNARY)
                   : _mm512_ternarylogic_epi32(v, _mm512_set1_epi32(0xf000), values->near, TERNARY);
    return _mm512_fmadd_ps(of.scale, _mm512_castsi512_ps(v), j % 2 == 0 ? of.other : of.zero);
}

INLINE __m512 few_value(__m512i eight, unsigned j, int kind, const struct few_codebook *values, struct few_numbers of)
{
    if (kind == FEW_WHOLE || kind == FEW_READY)
        return few_whole(eight, j, values, of);
    __m512 y = _mm512_permutexvar_ps(_mm512_srli_epi32(eight, 4 * j), values->value);
    if (kind == FEW_EXACT)
        return _mm512_fmadd_ps(of.scale, y, of.zero);
    if (kind == QZ_ZERO_UINT4 || kind == QZ_ZERO_FLOAT)
        y = _mm512_sub_ps(y, of.zero);
    y = _mm512_mul_ps(of.scale, y);
    return kind == QZ_ZERO_OFFSET ? _mm512_add_ps(y, of.zero) : y;
}

/* Asks for what comes much later, of weights that were prepared: all codes lie one behind another, and all numbers. */
INLINE void few_fetch_ready(const struct qz_few *few, size_t b)
{
    const uintptr_t codes = (uintptr_t)few->packed + b * QZ_READY_BYTES + FEW_LATER;
    const uintptr_t at = (few->head + b) / few->each * QZ_SIDE * sizeof(float) + FEW_LATER / 4;
#pragma GCC unroll 4
    for (size_t line = 0; line < QZ_READY_BYTES; line += 64)
        _mm_prefetch((const char *)(codes + line), _MM_HINT_T1);
    _mm_prefetch((const char *)((uintptr_t)few->scale + at), _MM_HINT_T1);
    if (few->zero)
        _mm_prefetch((const char *)((uintptr_t)few->zero + at), _MM_HINT_T1);
}

/* Adds the products of a block of each of `chains` chains and `rows` rows to sums; of row r and chain i: r * chains + i.
 */
INLINE void few_block(const struct qz_few *few, size_t b, int chains, int kind, const struct few_codebook *values,
                      const float *x, ptrdiff_t x_pitch, int rows, __m512 *chain)
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
        if (kind == FEW_READY)
            few_fetch_ready(few, block);
        few_codes(few, block, kind, eight[i]);
        of[i] = few_load(few, block, kind, values);
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
INLINE void few_chains(const struct qz_few *few, size_t b, int chains, int kind, const struct few_codebook *values,
                       const float *x, ptrdiff_t x_pitch, int rows, __m512 *sum)
{
    __m512 chain[8];
#pragma GCC unroll 8
    for (int s = 0; s < rows * chains; s++)
        chain[s] = _mm512_setzero_ps();
    for (size_t k = 0; kind != FEW_READY && k < (size_t)chains * FEW_BLOCKS; k += FEW_BLOCKS)
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

INLINE void few_rows(const struct qz_few *few, int kind, const struct few_codebook *values, const float *x,
                     ptrdiff_t x_pitch, int rows, float *sum)
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
    const struct few_codebook of = few_codebook(few, kind), *values = &of;
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

/* Values of blocks. */
INLINE void few_store(const struct qz_few *few, int kind, float *w)
{
    const struct few_codebook values = few_codebook(few, kind);
    for (size_t b = 0; b < few->blocks; b++, w += QZ_LEVELS * QZ_SIDE) {
        const struct few_numbers of = few_load(few, b, kind, &values);
        __m512i eight[4];
        few_codes(few, b, kind, eight);
#pragma GCC unroll 4
        for (int q = 0; q < 4; q++)
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++)
                _mm512_storeu_ps(w + (8 * q + j) * QZ_SIDE, few_value(eight[q], (unsigned)j, kind, &values, of));
    }
}

/* Calls what is made for each kind. */
#define OF_FEW(few, CALL)                                                                                              \
    switch ((few)->ready                                        ? FEW_READY                                            \
            : (few)->exact && (few)->grid->uniform              ? FEW_WHOLE                                            \
            : (few)->exact && (few)->grid->zero != QZ_ZERO_NONE ? FEW_EXACT                                            \
                                                                : (int)(few)->grid->zero) {                            \
    case QZ_ZERO_NONE:                                                                                                 \
        CALL(QZ_ZERO_NONE);                                                                                            \
        break;                                                                                                         \
    case FEW_EXACT:                                                                                                    \
        CALL(FEW_EXACT);                                                                                               \
        break;                                                                                                         \
    case FEW_WHOLE:                                                                                                    \
        CALL(FEW_WHOLE);                                                                                               \
        break;                                                                                                         \
    case FEW_READY:                                                                                                    \
        CALL(FEW_READY);                                                                                               \
        break;                                                                                                         \
    case QZ_ZERO_OFFSET:                                                                                               \
        CALL(QZ_ZERO_OFFSET);                                                                                          \
        break;                                                                                                         \
    default: /* a zero of either kind is subtracted */                                                                 \
        CALL(QZ_ZERO_FLOAT);                                                                                           \
    }

static TARGET void products_few(const struct qz_few *few, const float *x, ptrdiff_t x_pitch, size_t rows, float *sum)
{
#define CALL(kind) few_kind(few, kind, x, x_pitch, rows, sum)
    OF_FEW(few, CALL)
#undef CALL
}

static TARGET void few_values(const struct qz_few *few, float *w)
{
#define CALL(kind) few_store(few, kind, w)
    OF_FEW(few, CALL)
#undef CALL
}
