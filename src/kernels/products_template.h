/*
 * products_template.h - products of rows of floats with panels of weights; part of simd_template.h
 */

enum {
    PRODUCT_VECTORS = QZ_SIDE / LANES,
    PRODUCT_STEPS = 4, /* elements of a turn of the loop */
    LINE_FLOATS = 16   /* of a line of memory */
};

/* So many rows of x, times so many sides of 16 weights, are as many sums as fit into the registers and as hide the time
 * of one. A number of x that is loaded serves both sides, so that loads do not keep multiply-adds waiting. */
#if LANES == 16
enum { PRODUCT_ROWS = 12, PRODUCT_SIDES = 2 };
#else
enum { PRODUCT_ROWS = 6, PRODUCT_SIDES = 1 };
#endif

/* Some rows of x, `rows` a constant, and weights that are multiplied together: `sides` is a constant. */
struct product_panel {
    const float *x;
    size_t step;  /* floats from an element to the next one */
    size_t ahead; /* floats to rows that come later */
    int rows;
    const float *w;
    size_t w_pitch; /* floats from a side to the next one */
    int sides;
};

/* One element of each of `chains` chains. */
INLINE void product_step(const struct product_panel *of, const float *x, const float *w, int chains,
                         VF chain[PRODUCT_ROWS][PRODUCT_SIDES * PRODUCT_VECTORS])
{
    const int vectors = of->sides * PRODUCT_VECTORS;
#pragma GCC unroll 4
    for (int i = 0; i < chains; i++) {
        VF part[PRODUCT_SIDES * PRODUCT_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            part[v] = vf_load(w + (size_t)(v / PRODUCT_VECTORS) * of->w_pitch + i * QZ_PRODUCT_CHAIN * QZ_SIDE +
                              v % PRODUCT_VECTORS * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < of->rows; r++) {
            VF factor = vf_set1(x[(size_t)(i * QZ_PRODUCT_CHAIN) * of->step + (size_t)r]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                chain[r * chains + i][v] = vf_fma(factor, part[v], chain[r * chains + i][v]);
        }
    }
}

/* What `chains` times `count` elements of some rows, from element k on, add to their sums. Chains are found side by
 * side, where rows alone are too few for that; of row r and chain i: r * chains + i. */
INLINE void product_chains(const struct product_panel *of, size_t k, size_t count, int chains, float *sum,
                           size_t sum_pitch)
{
    const int vectors = of->sides * PRODUCT_VECTORS;
    VF chain[PRODUCT_ROWS][PRODUCT_SIDES * PRODUCT_VECTORS];
    const float *w = of->w + k * QZ_SIDE, *x = of->x + k * of->step;
#pragma GCC unroll 12
    for (int s = 0; s < of->rows * chains; s++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            chain[s][v] = vf_set1(0.0f);
    /* A barrier keeps compilers from loading for later steps, for which registers do not suffice. */
    for (; chains == 1 && count >= PRODUCT_STEPS; count -= PRODUCT_STEPS) {
#pragma GCC unroll 3
        for (size_t line = 0; line < (size_t)(PRODUCT_STEPS * of->rows); line += LINE_FLOATS)
            __builtin_prefetch((const void *)((uintptr_t)x + (of->ahead + line) * sizeof *x));
#pragma GCC unroll 4
        for (int i = 0; i < PRODUCT_STEPS; i++, x += of->step, w += QZ_SIDE) {
            product_step(of, x, w, 1, chain);
            __asm__ volatile("" : : : "memory");
        }
    }
    for (; count > 0; count--, x += of->step, w += QZ_SIDE)
        product_step(of, x, w, chains, chain);
#pragma GCC unroll 12
    for (int r = 0; r < of->rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            float *at = sum + (size_t)r * sum_pitch + v * LANES;
            VF total = vf_load(at);
#pragma GCC unroll 4
            for (int i = 0; i < chains; i++)
                total = vf_add(total, chain[r * chains + i][v]);
            vf_store(at, total);
        }
}

INLINE void product_tile(const struct product_panel *of, size_t n, float *sum, size_t sum_pitch)
{
    const int most = PRODUCT_ROWS / of->rows, chains = most >= 4 ? 4 : most >= 2 ? 2 : 1;
    const size_t step = (size_t)chains * QZ_PRODUCT_CHAIN;
    size_t k = 0;
    for (; k + step <= n; k += step)
        product_chains(of, k, QZ_PRODUCT_CHAIN, chains, sum, sum_pitch);
    for (size_t count; k < n; k += count) {
        count = n - k < QZ_PRODUCT_CHAIN ? n - k : QZ_PRODUCT_CHAIN;
        product_chains(of, k, count, 1, sum, sum_pitch);
    }
}

/* Each number of rows up to PRODUCT_ROWS has code of its own. */
INLINE void product_some(struct product_panel of, size_t rows, size_t n, float *sum, size_t sum_pitch)
{
#pragma GCC unroll 12
    for (int count = 1; count <= PRODUCT_ROWS; count++)
        if (rows == (size_t)count) {
            of.rows = count;
#if LANES == 16
            of.step = (size_t)count; /* all of them, and a constant */
#endif
            product_tile(&of, n, sum, sum_pitch);
        }
}

INLINE void product_rows(struct product_panel of, size_t n, float *sum, size_t sum_pitch)
{
    for (size_t left = of.step, some; left > 0; left -= some) {
        some = left < PRODUCT_ROWS ? left : PRODUCT_ROWS;
        product_some(of, some, n, sum, sum_pitch);
        of.x += some;
        sum += some * sum_pitch;
    }
}

static TARGET void products(const float *x, size_t rows, size_t ahead, const float *w, size_t w_pitch, size_t sides,
                            size_t n, float *sum)
{
    if (sides == 1)
        product_rows((struct product_panel){x, rows, ahead, 0, w, w_pitch, 1}, n, sum, QZ_SIDE);
    for (size_t s = 0; sides == QZ_PRODUCT_SIDES && s < QZ_PRODUCT_SIDES; s += PRODUCT_SIDES)
        product_rows((struct product_panel){x, rows, ahead, 0, w + s * w_pitch, w_pitch, PRODUCT_SIDES}, n,
                     sum + s * QZ_SIDE, (size_t)QZ_PRODUCT_SIDES * QZ_SIDE);
}

static TARGET void product_outputs(const float *sum, size_t rows, size_t n, float *y, ptrdiff_t y_pitch)
{
    const VF nan = vf_set1(qz_float(0x7fc00000u));
    for (size_t r = 0; r < rows; r++)
        for (size_t v = 0; v < n; v += LANES, sum += LANES) {
            const VF total = vf_load(sum);
            vf_store(y + (ptrdiff_t)r * y_pitch + v, vf_select(vf_eq(total, total), total, nan));
        }
}

/* ---- products of bytes ---------------------------------------------------------------------------------------- */

/* Numbers of LANES groups. `ok`: lanes of which all numbers so far are ordinary. */
INLINE VM product_number(qz_zero kind, VF unit, VF base, float *scale, float *bias, VM ok)
{
    VF s = vf_load(scale), b = vf_mul(s, base), size = vf_abs(s);
    if (kind == QZ_ZERO_OFFSET)
        b = vf_add(b, vf_load(bias));
    else if (kind != QZ_ZERO_NONE)
        b = vf_sub(b, vf_mul(s, vf_load(bias)));
    vf_store(bias, b);
    vf_store(scale, vf_mul(s, unit));
    ok = vm_and(ok, vm_or(vf_le(vf_set1(QZ_ORDINARY_LEAST), size), vf_eq(s, vf_set1(0.0f))));
    return vm_and(ok, vf_le(vf_max(size, vf_abs(b)), vf_set1(QZ_ORDINARY_MOST)));
}

INLINE void product_kind(qz_zero kind, float unit, float base, size_t groups, float *scale, float *bias,
                         uint8_t strange[QZ_SIDE])
{
    const VF one = vf_set1(unit), least = vf_set1(base);
    for (size_t v = 0; v < QZ_SIDE; v += LANES) {
        VM ok = vf_eq(one, one);
        for (size_t g = 0; g < groups; g++)
            ok = product_number(kind, one, least, scale + g * QZ_SIDE + v, bias + g * QZ_SIDE + v, ok);
        vm_to_u8(strange + v, ok);
    }
    for (size_t w = 0; w < QZ_SIDE; w++)
        strange[w] ^= 1;
}

static TARGET void product_numbers(qz_zero kind, float unit, float base, size_t groups, float *scale, float *bias,
                                   uint8_t strange[QZ_SIDE])
{
    if (kind == QZ_ZERO_NONE)
        product_kind(QZ_ZERO_NONE, unit, base, groups, scale, bias, strange);
    else if (kind == QZ_ZERO_OFFSET)
        product_kind(QZ_ZERO_OFFSET, unit, base, groups, scale, bias, strange);
    else
        product_kind(QZ_ZERO_FLOAT, unit, base, groups, scale, bias, strange);
}
