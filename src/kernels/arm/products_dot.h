/*
 * products_dot.h - products of bytes with the instructions of dotprod; part of neon.c
 *
 * One instruction multiplies four bytes of each of 4 weights, or all bytes of one weight, and adds four products each
 * to 32 bits, exactly. Levels are below 128, so they may be signed.
 */

#ifdef __ARM_FEATURE_DOTPROD
#define DOTPROD_TARGET
#elif defined(__clang__)
#define DOTPROD_TARGET __attribute__((target("dotprod")))
#else
#define DOTPROD_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#define DOTPROD_INLINE static inline __attribute__((always_inline)) DOTPROD_TARGET

enum {
    DOTPROD_VECTORS = QZ_SIDE / 4,
    DOTPROD_ROWS = 4, /* of x at a time */
    DOTPROD_FEW = 2   /* the same where codes are packed */
};

/* Adds what block b of 4 weights makes with one of a row. */
INLINE float32x4_t dotprod_add(const struct qz_side *side, size_t b, size_t v, float step, float start, int32x4_t total,
                               float32x4_t sum)
{
    const size_t at = b * QZ_SIDE + 4 * v;
    float32x4_t scale = vmulq_n_f32(vld1q_f32(side->scale + at), step);
    sum = vfmaq_n_f32(sum, vld1q_f32(side->bias + at), start);
    return vfmaq_f32(sum, scale, vcvtq_f32_s32(total));
}

INLINE int8x16_t dotprod_low(uint8x16_t packed, uint8x16_t table)
{
    return vreinterpretq_s8_u8(vqtbl1q_u8(table, vandq_u8(packed, vdupq_n_u8(15))));
}

INLINE int8x16_t dotprod_high(uint8x16_t packed, uint8x16_t table)
{
    return vreinterpretq_s8_u8(vqtbl1q_u8(table, vshrq_n_u8(packed, 4)));
}

/* ---- levels side by side -------------------------------------------------------------------------------------- */

static void dotprod_levels(const uint8_t *const packed[QZ_SIDE], size_t blocks, const uint8_t level[16], uint8_t *dst)
{
    const uint8x16_t table = vld1q_u8(level);
    for (size_t b = 0; b < blocks; b++, dst += QZ_LEVELS * QZ_SIDE)
        for (size_t v = 0; v < DOTPROD_VECTORS; v++) {
            uint32x4_t row[4];
            for (size_t w = 0; w < 4; w++)
                row[w] = vreinterpretq_u32_u8(vld1q_u8(packed[4 * v + w] + b * (QZ_LEVELS / 2)));
            uint32x4_t low02 = vzip1q_u32(row[0], row[2]), low13 = vzip1q_u32(row[1], row[3]);
            uint32x4_t high02 = vzip2q_u32(row[0], row[2]), high13 = vzip2q_u32(row[1], row[3]);
            const uint32x4_t turned[4] = {vzip1q_u32(low02, low13), vzip2q_u32(low02, low13),
                                          vzip1q_u32(high02, high13), vzip2q_u32(high02, high13)};
            for (size_t f = 0; f < 4; f++) {
                uint8x16_t codes = vreinterpretq_u8_u32(turned[f]);
                uint8_t *to = dst + 8 * QZ_SIDE * f + 16 * v;
                vst1q_u8(to, vreinterpretq_u8_s8(dotprod_low(codes, table)));
                vst1q_u8(to + 4 * QZ_SIDE, vreinterpretq_u8_s8(dotprod_high(codes, table)));
            }
        }
}

/* What four fours of levels make with those of a row, added to the totals. */
#define DOTPROD_FOUR(f)                                                                                                \
    do {                                                                                                               \
        int8x16_t of_side[DOTPROD_VECTORS];                                                                            \
        for (size_t v = 0; v < DOTPROD_VECTORS; v++)                                                                   \
            of_side[v] = vreinterpretq_s8_u8(vld1q_u8(level + 4 * QZ_SIDE * (f) + 16 * v));                            \
        for (int r = 0; r < rows; r++)                                                                                 \
            for (size_t v = 0; v < DOTPROD_VECTORS; v++)                                                               \
                total[r][v] = vdotq_laneq_s32(total[r][v], of_side[v], bytes[r][(f) / 4], (f) % 4);                    \
    } while (0)

DOTPROD_INLINE void dotprod_tile(const struct qz_side *side, const uint8_t *level, const struct qz_byte_rows *x,
                                 size_t row, int rows, float *sum)
{
    const size_t first = row * x->pitch;
    for (size_t b = 0; b < side->blocks; b++, level += QZ_LEVELS * QZ_SIDE) {
        int8x16_t bytes[DOTPROD_ROWS][2];
        int32x4_t total[DOTPROD_ROWS][DOTPROD_VECTORS];
        for (int r = 0; r < rows; r++) {
            const int8_t *code = x->code + (first + (size_t)r * x->pitch + b) * QZ_LEVELS;
            bytes[r][0] = vld1q_s8(code);
            bytes[r][1] = vld1q_s8(code + 16);
            for (size_t v = 0; v < DOTPROD_VECTORS; v++)
                total[r][v] = vdupq_n_s32(0);
        }
        DOTPROD_FOUR(0);
        DOTPROD_FOUR(1);
        DOTPROD_FOUR(2);
        DOTPROD_FOUR(3);
        DOTPROD_FOUR(4);
        DOTPROD_FOUR(5);
        DOTPROD_FOUR(6);
        DOTPROD_FOUR(7);
        for (int r = 0; r < rows; r++)
            for (size_t v = 0; v < DOTPROD_VECTORS; v++) {
                const size_t at = first + (size_t)r * x->pitch + b;
                float *to = sum + (row + (size_t)r) * QZ_SIDE + 4 * v;
                vst1q_f32(to, dotprod_add(side, b, v, x->step[at], x->start[at], total[r][v], vld1q_f32(to)));
            }
    }
}

static DOTPROD_TARGET void dotprod_bytes(const struct qz_side *side, const uint8_t *level, const struct qz_byte_rows *x,
                                         float *sum)
{
    size_t r = 0;
    for (; r + DOTPROD_ROWS <= x->rows; r += DOTPROD_ROWS)
        dotprod_tile(side, level, x, r, DOTPROD_ROWS, sum);
    for (; r < x->rows; r++)
        dotprod_tile(side, level, x, r, 1, sum);
}

/* ---- packed codes --------------------------------------------------------------------------------------------- */

/* 4 weights and `rows` rows: sums of a weight's products are added up pair by pair. */
DOTPROD_INLINE void dotprod_few(const struct qz_side *side, const uint8_t *const packed[4], size_t v, uint8x16_t table,
                                const struct qz_byte_rows *x, size_t row, int rows, float *sum)
{
    const size_t first = row * x->pitch;
    float32x4_t sums[DOTPROD_FEW];
    for (int r = 0; r < rows; r++)
        sums[r] = vld1q_f32(sum + (row + (size_t)r) * QZ_SIDE + 4 * v);
    for (size_t b = 0; b < side->blocks; b++) {
        int8x16_t even[DOTPROD_FEW], odd[DOTPROD_FEW];
        int32x4_t part[DOTPROD_FEW][4];
        for (int r = 0; r < rows; r++) {
            const int8_t *code = x->code + (first + (size_t)r * x->pitch + b) * QZ_LEVELS;
            int32x4_t low = vreinterpretq_s32_s8(vld1q_s8(code)), high = vreinterpretq_s32_s8(vld1q_s8(code + 16));
            even[r] = vreinterpretq_s8_s32(vuzp1q_s32(low, high));
            odd[r] = vreinterpretq_s8_s32(vuzp2q_s32(low, high));
        }
        for (size_t w = 0; w < 4; w++) {
            uint8x16_t codes = vld1q_u8(packed[w] + b * (QZ_LEVELS / 2));
            int8x16_t low = dotprod_low(codes, table), high = dotprod_high(codes, table);
            for (int r = 0; r < rows; r++)
                part[r][w] = vdotq_s32(vdotq_s32(vdupq_n_s32(0), low, even[r]), high, odd[r]);
        }
        for (int r = 0; r < rows; r++) {
            const size_t at = first + (size_t)r * x->pitch + b;
            int32x4_t total = vpaddq_s32(vpaddq_s32(part[r][0], part[r][1]), vpaddq_s32(part[r][2], part[r][3]));
            sums[r] = dotprod_add(side, b, v, x->step[at], x->start[at], total, sums[r]);
        }
    }
    for (int r = 0; r < rows; r++)
        vst1q_f32(sum + (row + (size_t)r) * QZ_SIDE + 4 * v, sums[r]);
}

static DOTPROD_TARGET void dotprod_packed(const struct qz_side *side, const uint8_t *const packed[QZ_SIDE],
                                          const uint8_t level[16], const struct qz_byte_rows *x, float *sum)
{
    const uint8x16_t table = vld1q_u8(level);
    for (size_t v = 0; v < DOTPROD_VECTORS; v++) {
        size_t r = 0;
        for (; r + DOTPROD_FEW <= x->rows; r += DOTPROD_FEW)
            dotprod_few(side, packed + 4 * v, v, table, x, r, DOTPROD_FEW, sum);
        for (; r < x->rows; r++)
            dotprod_few(side, packed + 4 * v, v, table, x, r, 1, sum);
    }
}

/* ---- prepared weights ----------------------------------------------------------------------------------------- */

/* What vector f of a block of 4 weights makes with eight bytes of a row. */
#define DOTPROD_READY(f)                                                                                               \
    do {                                                                                                               \
        const uint8x16_t codes = vld1q_u8(packed + 4 * QZ_SIDE * (f) + 16 * v);                                        \
        total = vdotq_laneq_s32(total, dotprod_low(codes, table), bytes[(f) / 2], (f) % 2 * 2);                        \
        total = vdotq_laneq_s32(total, dotprod_high(codes, table), bytes[(f) / 2], (f) % 2 * 2 + 1);                   \
    } while (0)

DOTPROD_INLINE void dotprod_ready_row(const struct qz_ready_side *side, uint8x16_t table, const struct qz_byte_rows *x,
                                      size_t row, float *sum)
{
    const float *scale = side->scale, *bias = side->bias;
    const uint8_t *packed = side->packed;
    for (size_t b = 0, left = side->each - side->head; b < side->blocks; b++, left--, packed += QZ_READY_BYTES) {
        const size_t at = row * x->pitch + b;
        const int8x16_t bytes[2] = {vld1q_s8(x->code + at * QZ_LEVELS), vld1q_s8(x->code + at * QZ_LEVELS + 16)};
        if (left == 0) {
            left = side->each;
            scale += QZ_SIDE;
            bias += bias ? QZ_SIDE : 0;
        }
        for (size_t v = 0; v < DOTPROD_VECTORS; v++) {
            const float32x4_t of_scale = vld1q_f32(scale + 4 * v);
            const float32x4_t of_bias = bias ? vld1q_f32(bias + 4 * v) : vmulq_n_f32(of_scale, side->base);
            int32x4_t total = vdupq_n_s32(0);
            float32x4_t grown = vld1q_f32(sum + 4 * v);
            DOTPROD_READY(0);
            DOTPROD_READY(1);
            DOTPROD_READY(2);
            DOTPROD_READY(3);
            grown = vfmaq_n_f32(grown, of_bias, x->start[at]);
            vst1q_f32(sum + 4 * v, vfmaq_f32(grown, vmulq_n_f32(of_scale, x->step[at]), vcvtq_f32_s32(total)));
        }
    }
}

static DOTPROD_TARGET void dotprod_ready(const struct qz_ready_side *side, const struct qz_byte_rows *x, float *sum)
{
    const uint8x16_t table = vld1q_u8(side->level);
    for (size_t r = 0; r < x->rows; r++)
        dotprod_ready_row(side, table, x, r, sum + r * QZ_SIDE);
}
