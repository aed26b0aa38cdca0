/*
 * products_i8mm.h - products of bytes with the instructions of i8mm; part of neon.c
 *
 * One instruction multiplies eight bytes of each of two rows with eight of each of two weights, and adds the products
 * to four sums of 32 bits, exactly. Levels are below 128, so they may be signed. Single rows are left to dotprod. Codes
 * side by side are multiplied in the same way, with two queries in the place of two rows.
 */

#ifdef __ARM_FEATURE_MATMUL_INT8
#define I8MM_TARGET
#elif defined(__clang__)
#define I8MM_TARGET __attribute__((target("dotprod,i8mm")))
#elif defined(__ARM_FEATURE_DOTPROD)
#define I8MM_TARGET __attribute__((target("+i8mm")))
#else
#define I8MM_TARGET __attribute__((target("arch=armv8.2-a+dotprod+i8mm")))
#endif
#define I8MM_INLINE static inline __attribute__((always_inline)) I8MM_TARGET

enum {
    I8MM_ROWS = 8,  /* of x at a time: */
    I8MM_FEW = 2,   /* then so many */
    I8MM_PAIRS = 4, /* of weights at a time: half of a side */
    I8MM_BYTES = 8, /* of each of them */
    I8MM_STEPS = QZ_LEVELS / I8MM_BYTES
};

/* Weights of a block: as product_levels lays them out, or packed and prepared, with a table. */
struct i8mm_weights {
    int packed;
    uint8x16_t table;
    const uint8_t *from;
    struct qz_side numbers; /* of one block */
};

/* Eight bytes of each of eight weights, as pairs of weights: from four bytes of packed codes of each, or from four
 * levels of each and four more behind those of the side. */
I8MM_INLINE void i8mm_pairs(const uint8_t *from, int packed, uint8x16_t table, int8x16_t pair[I8MM_PAIRS])
{
#pragma GCC unroll 2
    for (size_t v = 0; v < 2; v++, from += 16) {
        const uint8x16_t first = vld1q_u8(from);
        const int8x16_t low = packed ? dotprod_low(first, table) : vreinterpretq_s8_u8(first);
        const int8x16_t high = packed ? dotprod_high(first, table) : vreinterpretq_s8_u8(vld1q_u8(from + 4 * QZ_SIDE));
        const int32x4_t a = vreinterpretq_s32_s8(low), b = vreinterpretq_s32_s8(high);
        pair[2 * v] = vreinterpretq_s8_s32(vzip1q_s32(a, b));
        pair[2 * v + 1] = vreinterpretq_s8_s32(vzip2q_s32(a, b));
    }
}

/* Begins the sums of `rows` rows, a constant, or adds what their eight bytes make, `apart` bytes from row to row. */
I8MM_INLINE void i8mm_zero(int32x4_t total[I8MM_ROWS / 2][I8MM_PAIRS], int rows)
{
#pragma GCC unroll 4
    for (int r = 0; r < rows / 2; r++)
#pragma GCC unroll 4
        for (int v = 0; v < I8MM_PAIRS; v++)
            total[r][v] = vdupq_n_s32(0);
}

I8MM_INLINE void i8mm_multiply(const int8x16_t pair[I8MM_PAIRS], const int8_t *code, size_t apart, int rows,
                               int32x4_t total[I8MM_ROWS / 2][I8MM_PAIRS])
{
#pragma GCC unroll 4
    for (int r = 0; r < rows / 2; r++, code += 2 * apart) {
        const int8x16_t two = vcombine_s8(vld1_s8(code), vld1_s8(code + apart));
#pragma GCC unroll 4
        for (int v = 0; v < I8MM_PAIRS; v++)
            total[r][v] = vmmlaq_s32(total[r][v], two, pair[v]);
    }
}

/* Of four weights, what the first or the second row of a pair makes. */
I8MM_INLINE int32x4_t i8mm_first(const int32x4_t total[2])
{
    return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(total[0]), vreinterpretq_s64_s32(total[1])));
}

I8MM_INLINE int32x4_t i8mm_second(const int32x4_t total[2])
{
    return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(total[0]), vreinterpretq_s64_s32(total[1])));
}

/* Adds what eight weights make with a block of two rows. */
I8MM_INLINE void i8mm_add(const struct qz_side *side, size_t half, const struct qz_byte_rows *x, size_t at,
                          const int32x4_t total[I8MM_PAIRS], float *sum)
{
#pragma GCC unroll 2
    for (size_t v = 0; v < 2; v++) {
        const int32x4_t first = i8mm_first(total + 2 * v), second = i8mm_second(total + 2 * v);
        const size_t next = at + x->pitch, of = 2 * half + v;
        float *to = sum + 4 * of, *later = to + QZ_SIDE;
        vst1q_f32(to, dotprod_add(side, 0, of, x->step[at], x->start[at], first, vld1q_f32(to)));
        vst1q_f32(later, dotprod_add(side, 0, of, x->step[next], x->start[next], second, vld1q_f32(later)));
    }
}

/* A block of all weights with a block of each of `rows` rows, a constant: the first row has it at `at`. */
I8MM_INLINE void i8mm_block(const struct i8mm_weights *weights, const struct qz_byte_rows *x, size_t at, int rows,
                            float *sum)
{
    const size_t apart = x->pitch * QZ_LEVELS;
#pragma GCC unroll 2
    for (size_t half = 0; half < 2; half++) {
        int32x4_t total[I8MM_ROWS / 2][I8MM_PAIRS];
        i8mm_zero(total, rows);
#pragma GCC unroll 4
        for (size_t step = 0; step < I8MM_STEPS; step++) {
            int8x16_t pair[I8MM_PAIRS];
            i8mm_pairs(weights->from + (weights->packed ? 4 : 8) * QZ_SIDE * step + 2 * QZ_SIDE * half, weights->packed,
                       weights->table, pair);
            i8mm_multiply(pair, x->code + at * QZ_LEVELS + I8MM_BYTES * step, apart, rows, total);
        }
#pragma GCC unroll 4
        for (size_t r = 0; r < (size_t)rows / 2; r++)
            i8mm_add(&weights->numbers, half, x, at + 2 * r * x->pitch, total[r], sum + 2 * r * QZ_SIDE);
    }
}

I8MM_INLINE void i8mm_tile(const struct qz_side *side, const uint8_t *level, const struct qz_byte_rows *x, size_t row,
                           int rows, float *sum)
{
    for (size_t b = 0; b < side->blocks; b++) {
        const struct i8mm_weights weights = {0,
                                             vdupq_n_u8(0),
                                             level + b * QZ_LEVELS * QZ_SIDE,
                                             {1, side->most, side->scale + b * QZ_SIDE, side->bias + b * QZ_SIDE}};
        i8mm_block(&weights, x, row * x->pitch + b, rows, sum + row * QZ_SIDE);
    }
}

static I8MM_TARGET void i8mm_bytes(const struct qz_side *side, const uint8_t *level, const struct qz_byte_rows *x,
                                   float *sum)
{
    size_t r = 0;
    for (; r + I8MM_ROWS <= x->rows; r += I8MM_ROWS)
        i8mm_tile(side, level, x, r, I8MM_ROWS, sum);
    for (; r + I8MM_FEW <= x->rows; r += I8MM_FEW)
        i8mm_tile(side, level, x, r, I8MM_FEW, sum);
    if (r < x->rows)
        dotprod_tile(side, level, x, r, 1, sum);
}

/* ---- prepared weights ----------------------------------------------------------------------------------------- */

I8MM_INLINE void i8mm_ready_tile(const struct qz_ready_side *side, uint8x16_t table, const struct qz_byte_rows *x,
                                 size_t row, int rows, float *sum)
{
    const float *scale = side->scale, *bias = side->bias;
    const uint8_t *packed = side->packed;
    for (size_t b = 0, left = side->each - side->head; b < side->blocks; b++, left--, packed += QZ_READY_BYTES) {
        float computed[QZ_SIDE];
        if (left == 0) {
            left = side->each;
            scale += QZ_SIDE;
            bias += bias ? QZ_SIDE : 0;
        }
        for (size_t w = 0; w < QZ_SIDE && !bias; w += 4)
            vst1q_f32(computed + w, vmulq_n_f32(vld1q_f32(scale + w), side->base));
        const struct i8mm_weights weights = {1, table, packed, {1, side->most, scale, bias ? bias : computed}};
        i8mm_block(&weights, x, row * x->pitch + b, rows, sum + row * QZ_SIDE);
    }
}

static I8MM_TARGET void i8mm_ready(const struct qz_ready_side *side, const struct qz_byte_rows *x, float *sum)
{
    const uint8x16_t table = vld1q_u8(side->level);
    size_t r = 0;
    for (; r + I8MM_ROWS <= x->rows; r += I8MM_ROWS)
        i8mm_ready_tile(side, table, x, r, I8MM_ROWS, sum);
    for (; r + I8MM_FEW <= x->rows; r += I8MM_FEW)
        i8mm_ready_tile(side, table, x, r, I8MM_FEW, sum);
    if (r < x->rows)
        dotprod_ready_row(side, table, x, r, sum + r * QZ_SIDE);
}

/* ---- codes side by side --------------------------------------------------------------------------------------- */

/* Eight rows with `width` queries, a constant, `pitch` bytes apart, of which `count` are there. */
I8MM_INLINE void i8mm_beside_sums(const struct qz_beside *rows, const uint8_t *codes, size_t steps, const int8_t *query,
                                  size_t pitch, int width, size_t count, uint8x16_t table, int32_t *sum)
{
    const size_t step = rows->rows * (QZ_BESIDE_CODES / 2), apart = rows->groups * rows->rows;
    int32x4_t total[I8MM_ROWS / 2][I8MM_PAIRS];
    i8mm_zero(total, width);
    for (size_t s = 0; s < steps; s++, codes += step, query += QZ_BESIDE_CODES) {
        int8x16_t pair[I8MM_PAIRS];
        i8mm_pairs(codes, 1, table, pair);
        i8mm_multiply(pair, query, pitch, width, total);
    }
#pragma GCC unroll 4
    for (size_t q = 0; q < (size_t)width / 2; q++, sum += 2 * apart) {
        vst1q_s32(sum, i8mm_first(total[q]));
        vst1q_s32(sum + 4, i8mm_first(total[q] + 2));
        if (2 * q + 1 < count) {
            vst1q_s32(sum + apart, i8mm_second(total[q]));
            vst1q_s32(sum + apart + 4, i8mm_second(total[q] + 2));
        }
    }
}

static I8MM_TARGET void i8mm_beside(const struct qz_beside *rows, const int8_t *query, size_t pitch, size_t queries,
                                    int32_t *sum)
{
    const uint8x16_t table = vld1q_u8(rows->level);
    const size_t step = rows->rows * (QZ_BESIDE_CODES / 2), apart = rows->groups * rows->rows;
    for (size_t g = 0, first = 0, steps; g < rows->groups; first += steps, g++, sum += rows->rows) {
        steps = qz_beside_group_end(rows, g) - first;
        for (size_t r = 0; r < rows->rows; r += 8) {
            const uint8_t *codes = rows->codes + first * step + r * (QZ_BESIDE_CODES / 2);
            const int8_t *from = query + first * QZ_BESIDE_CODES;
            size_t q = 0;
            for (; q + I8MM_ROWS <= queries; q += I8MM_ROWS)
                i8mm_beside_sums(rows, codes, steps, from + q * pitch, pitch, I8MM_ROWS, I8MM_ROWS, table,
                                 sum + q * apart + r);
            for (; q + I8MM_FEW <= queries; q += I8MM_FEW)
                i8mm_beside_sums(rows, codes, steps, from + q * pitch, pitch, I8MM_FEW, I8MM_FEW, table,
                                 sum + q * apart + r);
            if (q < queries) /* is its own neighbour */
                i8mm_beside_sums(rows, codes, steps, from + q * pitch, 0, I8MM_FEW, 1, table, sum + q * apart + r);
        }
    }
}
