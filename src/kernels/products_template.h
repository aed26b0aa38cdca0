/*
 * products_template.h - products of rows of floats; part of simd_template.h
 */

enum { PRODUCT_PARTS = QZ_PRODUCT_LANES / LANES }; /* vectors that are the lanes of a sum */

/* Three rows of x and two of w, or one and four, are as many sums as fit into sixteen registers. */
#if LANES == 16
enum { PRODUCT_ROWS = 6, PRODUCT_COLS = 4, PRODUCT_WIDE = 8 };
#else
enum { PRODUCT_ROWS = 3, PRODUCT_COLS = 2, PRODUCT_WIDE = 4 };
#endif

INLINE float product_sum(const VF *part)
{
    float lane[QZ_PRODUCT_LANES];
    VF sum[PRODUCT_PARTS];
    size_t half = QZ_PRODUCT_LANES / 2;
    memcpy(sum, part, sizeof sum);
    for (; half >= LANES; half /= 2)
        for (size_t v = 0; v < half / LANES; v++)
            sum[v] = vf_add(sum[v], sum[v + half / LANES]);
    vf_store(lane, sum[0]);
    for (; half > 0; half /= 2)
        for (size_t l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

/* The next 16 elements of each row, or with `few` the last ones, after which there are zeros. */
INLINE void product_step(const float *x, ptrdiff_t x_pitch, int rows, const float *w, ptrdiff_t w_pitch, int cols,
                         size_t left, int few, VF sum[PRODUCT_ROWS * PRODUCT_COLS][PRODUCT_PARTS])
{
#pragma GCC unroll 4
    for (int v = 0; v < PRODUCT_PARTS; v++) {
        size_t at = (size_t)v * LANES, count = left > at ? left - at : 0;
        VF factor[PRODUCT_ROWS];
        count = count < LANES ? count : LANES;
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            const float *from = x + r * x_pitch + at;
            factor[r] = !few || count == LANES ? vf_load(from) : vf_load_part(from, count, 0.0f);
        }
#pragma GCC unroll 8
        for (int c = 0; c < cols; c++) {
            const float *from = w + c * w_pitch + at;
            VF other = !few || count == LANES ? vf_load(from) : vf_load_part(from, count, 0.0f);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++)
                sum[r * cols + c][v] = vf_fma(factor[r], other, sum[r * cols + c][v]);
        }
    }
}

INLINE void product_tile(const float *x, ptrdiff_t x_pitch, int rows, const float *w, ptrdiff_t w_pitch, int cols,
                         size_t n, float *y, size_t y_pitch)
{
    VF sum[PRODUCT_ROWS * PRODUCT_COLS][PRODUCT_PARTS];
    size_t i = 0;
#pragma GCC unroll 24
    for (int s = 0; s < rows * cols; s++)
#pragma GCC unroll 4
        for (int v = 0; v < PRODUCT_PARTS; v++)
            sum[s][v] = vf_set1(0.0f);
    for (; i + QZ_PRODUCT_LANES <= n; i += QZ_PRODUCT_LANES)
        product_step(x + i, x_pitch, rows, w + i, w_pitch, cols, QZ_PRODUCT_LANES, 0, sum);
    if (i < n)
        product_step(x + i, x_pitch, rows, w + i, w_pitch, cols, n - i, 1, sum);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int c = 0; c < cols; c++)
            y[(size_t)r * y_pitch + (size_t)c] = product_sum(sum[r * cols + c]);
}

static TARGET void products(const float *x, ptrdiff_t x_pitch, size_t rows, const float *w, ptrdiff_t w_pitch,
                            size_t cols, size_t n, float *y, size_t y_pitch)
{
    size_t r = 0, c;
    for (; r + PRODUCT_ROWS <= rows; r += PRODUCT_ROWS, x += PRODUCT_ROWS * x_pitch, y += PRODUCT_ROWS * y_pitch) {
        for (c = 0; c + PRODUCT_COLS <= cols; c += PRODUCT_COLS)
            product_tile(x, x_pitch, PRODUCT_ROWS, w + (ptrdiff_t)c * w_pitch, w_pitch, PRODUCT_COLS, n, y + c,
                         y_pitch);
        for (; c < cols; c++)
            product_tile(x, x_pitch, PRODUCT_ROWS, w + (ptrdiff_t)c * w_pitch, w_pitch, 1, n, y + c, y_pitch);
    }
    for (; r < rows; r++, x += x_pitch, y += y_pitch) {
        for (c = 0; c + PRODUCT_WIDE <= cols; c += PRODUCT_WIDE)
            product_tile(x, x_pitch, 1, w + (ptrdiff_t)c * w_pitch, w_pitch, PRODUCT_WIDE, n, y + c, y_pitch);
        for (; c < cols; c++)
            product_tile(x, x_pitch, 1, w + (ptrdiff_t)c * w_pitch, w_pitch, 1, n, y + c, y_pitch);
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
