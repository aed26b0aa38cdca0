/*
 * products_template.h - products of rows of floats with panels of weights; part of simd_template.h
 */

enum { PRODUCT_VECTORS = QZ_SIDE / LANES };

/* So many rows of x, times so many sides of 16 weights, are as many sums as fit into the registers and as hide the time
 * of one. A number of x that is loaded serves both sides, so that loads do not keep multiply-adds waiting. */
#if LANES == 16
enum { PRODUCT_ROWS = 12, PRODUCT_SIDES = 2 };
#else
enum { PRODUCT_ROWS = 6, PRODUCT_SIDES = 1 };
#endif

/* Weights that are multiplied together: `sides` is a constant. */
struct product_panel {
    const float *w;
    size_t apart; /* floats from a side to the next one */
    size_t sides;
};

/* What `chains` times `count` elements of some rows, from element k on, add to their sums. Chains are found side by
 * side, where rows alone are too few for that. */
INLINE void product_chains(const float *x, ptrdiff_t x_pitch, int rows, struct product_panel of, size_t k, size_t count,
                           int chains, float *sum)
{
    const int vectors = (int)of.sides * PRODUCT_VECTORS;
    VF chain[PRODUCT_ROWS][PRODUCT_SIDES * PRODUCT_VECTORS]; /* of row r and chain i: r * chains + i */
    const float *w = of.w + k * QZ_SIDE;
    x += k;
#pragma GCC unroll 12
    for (int s = 0; s < rows * chains; s++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            chain[s][v] = vf_set1(0.0f);
    for (; count > 0; count--, x++, w += QZ_SIDE) {
#pragma GCC unroll 4
        for (int i = 0; i < chains; i++) {
            VF part[PRODUCT_SIDES * PRODUCT_VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                part[v] = vf_load(w + (size_t)(v / PRODUCT_VECTORS) * of.apart + i * QZ_PRODUCT_CHAIN * QZ_SIDE +
                                  v % PRODUCT_VECTORS * LANES);
#pragma GCC unroll 12
            for (int r = 0; r < rows; r++) {
                VF factor = vf_set1(x[r * x_pitch + i * QZ_PRODUCT_CHAIN]);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    chain[r * chains + i][v] = vf_fma(factor, part[v], chain[r * chains + i][v]);
            }
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            VF total = vf_load(sum + (r * vectors + v) * LANES);
#pragma GCC unroll 4
            for (int i = 0; i < chains; i++)
                total = vf_add(total, chain[r * chains + i][v]);
            vf_store(sum + (r * vectors + v) * LANES, total);
        }
}

INLINE void product_copy(const float *from, ptrdiff_t from_pitch, int rows, int vectors, float *to, ptrdiff_t to_pitch)
{
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            vf_store(to + r * to_pitch + v * LANES, vf_load(from + r * from_pitch + v * LANES));
}

/* Sums grow in one place, for their own may be as far apart as to push each other out of the cache. */
INLINE void product_tile(const float *x, ptrdiff_t x_pitch, int rows, struct product_panel of, size_t n, float *sum,
                         ptrdiff_t sum_pitch)
{
    const int most = PRODUCT_ROWS / rows, chains = most < 4 ? most : 4, vectors = (int)of.sides * PRODUCT_VECTORS;
    const size_t step = (size_t)chains * QZ_PRODUCT_CHAIN;
    _Alignas(64) float total[PRODUCT_ROWS * PRODUCT_SIDES * QZ_SIDE];
    size_t k = 0;
    product_copy(sum, sum_pitch, rows, vectors, total, vectors * LANES);
    for (; k + step <= n; k += step)
        product_chains(x, x_pitch, rows, of, k, QZ_PRODUCT_CHAIN, chains, total);
    for (size_t count; k < n; k += count) {
        count = n - k < QZ_PRODUCT_CHAIN ? n - k : QZ_PRODUCT_CHAIN;
        product_chains(x, x_pitch, rows, of, k, count, 1, total);
    }
    product_copy(total, vectors * LANES, rows, vectors, sum, sum_pitch);
}

INLINE void product_rows(const float *x, ptrdiff_t x_pitch, size_t rows, struct product_panel of, size_t n, float *sum,
                         ptrdiff_t sum_pitch)
{
    for (; rows >= PRODUCT_ROWS; rows -= PRODUCT_ROWS, x += PRODUCT_ROWS * x_pitch, sum += PRODUCT_ROWS * sum_pitch)
        product_tile(x, x_pitch, PRODUCT_ROWS, of, n, sum, sum_pitch);
    for (; rows >= 3; rows -= 3, x += 3 * x_pitch, sum += 3 * sum_pitch)
        product_tile(x, x_pitch, 3, of, n, sum, sum_pitch);
    for (; rows > 0; rows--, x += x_pitch, sum += sum_pitch)
        product_tile(x, x_pitch, 1, of, n, sum, sum_pitch);
}

static TARGET void products(const float *x, ptrdiff_t x_pitch, size_t rows, const float *w, size_t w_pitch,
                            size_t sides, size_t n, float *sum, ptrdiff_t sum_pitch)
{
    for (; sides >= PRODUCT_SIDES; sides -= PRODUCT_SIDES, w += PRODUCT_SIDES * w_pitch, sum += PRODUCT_SIDES * QZ_SIDE)
        product_rows(x, x_pitch, rows, (struct product_panel){w, w_pitch, PRODUCT_SIDES}, n, sum, sum_pitch);
    if (sides > 0)
        product_rows(x, x_pitch, rows, (struct product_panel){w, w_pitch, 1}, n, sum, sum_pitch);
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
