/*
 * products_amx.h - products of bytes with the instructions of AMX; part of avx512.c
 *
 * One instruction multiplies 32 bytes of each of 16 rows with 32 levels of each of 16 weights, and adds the products to
 * 32 bits, exactly: a block of rows of x, which lie far apart, and a block of levels as product_levels lays them out.
 * Each block of a row has a step of its own, so that no more than 32 products become one sum, and each sum is scaled
 * and added as VNNI's are, with AVX-512, in the same order.
 *
 * Tiles are configured by each call and released before it returns: the caller's thread keeps no state of them, which
 * the system would save at each switch of threads.
 */

#define AMX_TARGET                                                                                                     \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,popcnt,amx-tile,"    \
                          "amx-int8")))
#define AMX_INLINE static inline __attribute__((always_inline)) AMX_TARGET

enum {
    AMX_ROWS = 16,   /* of x at a time: rows of a tile; */
    AMX_LEAST = 8,   /* then half as many. Fewer are left to VNNI */
    AMX_BLOCKS = 32, /* of prepared weights that are unpacked at a time: they stay in the first-level cache */
    AMX_AHEAD = 2,   /* blocks that are multiplied before the first of them is added: a product takes long to arrive */
    AMX_TILE = AMX_ROWS * QZ_SIDE
};

/* Tiles: 0 and 1 are sums of 16 rows, 2 has 16 rows of x, 3 has levels; 4, 5 and 6 are the first three for 8 rows. Their
 * numbers are part of instructions, so that they are literals. */
struct amx_shapes {
    uint8_t palette, start, unused[14];
    uint16_t bytes[16]; /* of a row */
    uint8_t rows[16];
};

/* A constant, because the _tile_loadconfig of gcc 12 names the first eight bytes only. Of a variable compilers would
 * leave out that the others are written. */
static const struct amx_shapes amx_shapes = {
    .palette = 1,
    .bytes = {64, 64, QZ_LEVELS, 64, 64, 64, QZ_LEVELS},
    .rows = {AMX_ROWS, AMX_ROWS, AMX_ROWS, QZ_LEVELS / 4, AMX_LEAST, AMX_LEAST, AMX_LEAST},
};

/* Memory that was written and is loaded as tiles, which compilers are not told. */
#define amx_written(p) __asm__ volatile("" : : "r"(p) : "memory")

/* The sums of a block of levels, tile 3, and of rows: the numbers of both tiles. */
#define AMX_SUMS(sums, rows)                                                                                           \
    do {                                                                                                               \
        _tile_zero(sums);                                                                                              \
        _tile_loadd(rows, code, apart);                                                                                \
        _tile_dpbsud(sums, rows, 3);                                                                                   \
        _tile_stored(sums, total, QZ_SIDE * sizeof *total);                                                            \
    } while (0)

/* What a block of levels makes with blocks of `rows` rows, `apart` bytes from each other. `second`: in other tiles, so
 * that two blocks need not wait for each other. */
AMX_INLINE void amx_multiply(const int8_t *code, size_t apart, const uint8_t *level, int rows, int second,
                             int32_t *total)
{
    _tile_loadd(3, level, 4 * QZ_SIDE);
    if (rows == AMX_ROWS && second)
        AMX_SUMS(1, 2);
    else if (rows == AMX_ROWS)
        AMX_SUMS(0, 2);
    else if (second)
        AMX_SUMS(5, 6);
    else
        AMX_SUMS(4, 6);
}

/* Adds what block b has made with `rows` rows from `row` on. */
AMX_INLINE void amx_add(const struct qz_side *side, size_t b, const struct qz_byte_rows *x, size_t row, int rows,
                        const int32_t *total, __m512 sums[AMX_ROWS])
{
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        const size_t at = (row + (size_t)r) * x->pitch + b;
        sums[r] = vnni_add(side, b, x->step[at], x->start[at], _mm512_loadu_si512(total + r * QZ_SIDE), sums[r]);
    }
}

AMX_INLINE void amx_rows(const struct qz_side *side, const uint8_t *level, const struct qz_byte_rows *x, size_t row,
                         int rows, float *sum)
{
    const size_t apart = x->pitch * QZ_LEVELS;
    const int8_t *code = x->code + row * apart;
    _Alignas(64) int32_t total[AMX_AHEAD][AMX_TILE];
    __m512 sums[AMX_ROWS];
    size_t b = 0;
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
        sums[r] = _mm512_loadu_ps(sum + (row + (size_t)r) * QZ_SIDE);
    for (; b + AMX_AHEAD <= side->blocks; b += AMX_AHEAD, code += AMX_AHEAD * QZ_LEVELS) {
        amx_multiply(code, apart, level + b * QZ_LEVELS * QZ_SIDE, rows, 0, total[0]);
        amx_multiply(code + QZ_LEVELS, apart, level + (b + 1) * QZ_LEVELS * QZ_SIDE, rows, 1, total[1]);
        amx_add(side, b, x, row, rows, total[0], sums);
        amx_add(side, b + 1, x, row, rows, total[1], sums);
    }
    if (b < side->blocks) {
        amx_multiply(code, apart, level + b * QZ_LEVELS * QZ_SIDE, rows, 0, total[0]);
        amx_add(side, b, x, row, rows, total[0], sums);
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
        _mm512_storeu_ps(sum + (row + (size_t)r) * QZ_SIDE, sums[r]);
}

static AMX_TARGET void amx_bytes(const struct qz_side *side, const uint8_t *level, const struct qz_byte_rows *x,
                                 float *sum)
{
    size_t r = 0;
    if (x->rows >= AMX_LEAST) {
        _tile_loadconfig(&amx_shapes);
        amx_written(level);
        for (; r + AMX_ROWS <= x->rows; r += AMX_ROWS)
            amx_rows(side, level, x, r, AMX_ROWS, sum);
        for (; r + AMX_LEAST <= x->rows; r += AMX_LEAST)
            amx_rows(side, level, x, r, AMX_LEAST, sum);
        _tile_release();
    }
    if (r < x->rows) {
        const struct qz_byte_rows others = {x->rows - r, x->pitch, x->code + r * x->pitch * QZ_LEVELS,
                                            x->step + r * x->pitch, x->start + r * x->pitch};
        vnni_bytes(side, level, &others, sum + r * QZ_SIDE);
    }
}

/* ---- products with prepared weights --------------------------------------------------------------------------- */

/* Blocks of prepared weights as product_levels lays them out. */
AMX_INLINE void amx_unpack(const uint8_t *packed, size_t blocks, int by_table, const struct vnni_levels *levels,
                           uint8_t *to)
{
    for (size_t f = 0; f < blocks * QZ_READY_BYTES / 64; f++, packed += 64, to += 128) {
        const __m512i two = vnni_flip(_mm512_loadu_si512(packed), by_table, levels);
        _mm512_storeu_si512(to, vnni_level(two, by_table, levels));
        _mm512_storeu_si512(to + 64, vnni_level(_mm512_srli_epi32(two, 4), by_table, levels));
    }
}

/* The numbers of `blocks` blocks from block `first` on. */
AMX_INLINE void amx_numbers(const struct qz_ready_side *side, size_t first, size_t blocks, float *scale, float *bias)
{
    size_t group = (side->head + first) / side->each;
    for (size_t b = 0, left = side->each - (side->head + first) % side->each; b < blocks; b++, left--) {
        if (left == 0) {
            left = side->each;
            group++;
        }
        const __m512 of_scale = _mm512_loadu_ps(side->scale + group * QZ_SIDE);
        _mm512_storeu_ps(scale + b * QZ_SIDE, of_scale);
        _mm512_storeu_ps(bias + b * QZ_SIDE, side->bias ? _mm512_loadu_ps(side->bias + group * QZ_SIDE)
                                                        : _mm512_mul_ps(of_scale, _mm512_set1_ps(side->base)));
    }
}

static AMX_TARGET void amx_ready(const struct qz_ready_side *side, const struct qz_byte_rows *x, float *sum)
{
    const struct vnni_levels levels = vnni_make_levels(side->level);
    _Alignas(64) uint8_t level[AMX_BLOCKS * QZ_LEVELS * QZ_SIDE];
    _Alignas(64) float scale[AMX_BLOCKS * QZ_SIDE], bias[AMX_BLOCKS * QZ_SIDE];
    if (x->rows < AMX_LEAST) {
        vnni_ready(side, x, sum);
        return;
    }
    for (size_t b = 0, some; b < side->blocks; b += some) {
        some = qz_least(AMX_BLOCKS, side->blocks - b);
        const struct qz_side part = {some, side->most, scale, bias};
        const struct qz_byte_rows from = {x->rows, x->pitch, x->code + b * QZ_LEVELS, x->step + b, x->start + b};
        if (levels.by_table)
            amx_unpack(side->packed + b * QZ_READY_BYTES, some, 1, &levels, level);
        else
            amx_unpack(side->packed + b * QZ_READY_BYTES, some, 0, &levels, level);
        amx_numbers(side, b, some, scale, bias);
        amx_bytes(&part, level, &from, sum);
    }
}
