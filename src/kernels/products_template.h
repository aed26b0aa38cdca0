/*
 * products_template.h - products of rows of floats with panels of weights; part of simd_template.h
 */

enum { PRODUCT_VECTORS = QZ_SIDE / LANES };

/* So many rows of x, times 16 weights, are as many sums as fit into the registers and as hide the time of one. */
#if LANES == 16
enum { PRODUCT_ROWS = 12 };
#else
enum { PRODUCT_ROWS = 6 };
#endif

/* What `chains` times `count` elements of some rows add to their sums. Chains are found side by side, where rows alone
 * are too few for that. */
INLINE void product_chains(const float *x, ptrdiff_t x_pitch, int rows, const float *w, size_t count, int chains,
                           float *sum)
{
    VF chain[PRODUCT_ROWS][PRODUCT_VECTORS]; /* of row r and chain i: r * chains + i */
#pragma GCC unroll 12
    for (int s = 0; s < rows * chains; s++)
#pragma GCC unroll 4
        for (int v = 0; v < PRODUCT_VECTORS; v++)
            chain[s][v] = vf_set1(0.0f);
    for (size_t k = 0; k < count; k++, x++, w += QZ_SIDE) {
#pragma GCC unroll 4
        for (int i = 0; i < chains; i++) {
            VF part[PRODUCT_VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < PRODUCT_VECTORS; v++)
                part[v] = vf_load(w + i * QZ_PRODUCT_CHAIN * QZ_SIDE + v * LANES);
#pragma GCC unroll 12
            for (int r = 0; r < rows; r++) {
                VF factor = vf_set1(x[r * x_pitch + i * QZ_PRODUCT_CHAIN]);
#pragma GCC unroll 4
                for (int v = 0; v < PRODUCT_VECTORS; v++)
                    chain[r * chains + i][v] = vf_fma(factor, part[v], chain[r * chains + i][v]);
            }
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < PRODUCT_VECTORS; v++) {
            VF total = vf_load(sum + r * QZ_SIDE + v * LANES);
#pragma GCC unroll 4
            for (int i = 0; i < chains; i++)
                total = vf_add(total, chain[r * chains + i][v]);
            vf_store(sum + r * QZ_SIDE + v * LANES, total);
        }
}

INLINE void product_copy(const float *from, ptrdiff_t from_pitch, int rows, float *to, ptrdiff_t to_pitch)
{
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < PRODUCT_VECTORS; v++)
            vf_store(to + r * to_pitch + v * LANES, vf_load(from + r * from_pitch + v * LANES));
}

/* Sums grow in one place, for their own may be as far apart as to push each other out of the cache. */
INLINE void product_tile(const float *x, ptrdiff_t x_pitch, int rows, const float *w, size_t n, float *sum,
                         ptrdiff_t sum_pitch)
{
    const int chains = PRODUCT_ROWS / rows < 4 ? PRODUCT_ROWS / rows : 4;
    const size_t step = (size_t)chains * QZ_PRODUCT_CHAIN;
    _Alignas(64) float total[PRODUCT_ROWS * QZ_SIDE];
    size_t k = 0;
    product_copy(sum, sum_pitch, rows, total, QZ_SIDE);
    for (; k + step <= n; k += step)
        product_chains(x + k, x_pitch, rows, w + k * QZ_SIDE, QZ_PRODUCT_CHAIN, chains, total);
    for (size_t count; k < n; k += count) {
        count = n - k < QZ_PRODUCT_CHAIN ? n - k : QZ_PRODUCT_CHAIN;
        product_chains(x + k, x_pitch, rows, w + k * QZ_SIDE, count, 1, total);
    }
    product_copy(total, QZ_SIDE, rows, sum, sum_pitch);
}

static TARGET void products(const float *x, ptrdiff_t x_pitch, size_t rows, const float *w, size_t n, float *sum,
                            ptrdiff_t sum_pitch)
{
    for (; rows >= PRODUCT_ROWS; rows -= PRODUCT_ROWS, x += PRODUCT_ROWS * x_pitch, sum += PRODUCT_ROWS * sum_pitch)
        product_tile(x, x_pitch, PRODUCT_ROWS, w, n, sum, sum_pitch);
    for (; rows >= 3; rows -= 3, x += 3 * x_pitch, sum += 3 * sum_pitch)
        product_tile(x, x_pitch, 3, w, n, sum, sum_pitch);
    for (; rows > 0; rows--, x += x_pitch, sum += sum_pitch)
        product_tile(x, x_pitch, 1, w, n, sum, sum_pitch);
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
