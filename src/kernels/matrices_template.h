/*
 * matrices_template.h - transposes and multiplies blocks of matrices; part of simd_template.h
 */

#ifdef HAS_COLUMNS

/* 32-bit lanes of four vectors: lane i of vector j, within each 128-bit lane, becomes lane j of vector i. */
INLINE void transpose_lanes(VI v[4])
{
    VI a = vi_low32(v[0], v[1]), b = vi_high32(v[0], v[1]), c = vi_low32(v[2], v[3]), d = vi_high32(v[2], v[3]);
    v[0] = vi_low64(a, c);
    v[1] = vi_high64(a, c);
    v[2] = vi_low64(b, d);
    v[3] = vi_high64(b, d);
}

/* Four columns of LANES rows. */
INLINE void transpose_four(const float *src, ptrdiff_t src_stride, float *dst, ptrdiff_t dst_stride)
{
    VI v[4];
#pragma GCC unroll 4
    for (ptrdiff_t c = 0; c < 4; c++)
        v[c] = vi_load(src + c * src_stride);
    transpose_lanes(v);
#pragma GCC unroll 4
    for (ptrdiff_t i = 0; i < 4; i++)
        vi_store_lanes((uint8_t *)(dst + i * dst_stride), 4 * dst_stride * (ptrdiff_t)sizeof *dst, v[i]);
}

#endif

static TARGET void transpose(const float *src, ptrdiff_t src_stride, size_t rows, size_t cols, float *dst,
                             ptrdiff_t dst_stride)
{
    size_t whole_rows = rows - rows % LANES, whole_cols = cols - cols % LANES;
    for (size_t c = 0; c < whole_cols; c += LANES) /* a few lines of the source, each for a long way */
        for (size_t r = 0; r < whole_rows; r += LANES)
            transpose_block(src + (ptrdiff_t)c * src_stride + (ptrdiff_t)r, src_stride,
                            dst + (ptrdiff_t)r * dst_stride + (ptrdiff_t)c, dst_stride);
#ifdef HAS_COLUMNS
    const size_t fours = whole_cols + (cols - whole_cols) / 4 * 4;
    for (size_t r = 0; r < whole_rows; r += LANES) /* what is written lies together */
        for (size_t c = whole_cols; c < fours; c += 4)
            transpose_four(src + (ptrdiff_t)c * src_stride + (ptrdiff_t)r, src_stride,
                           dst + (ptrdiff_t)r * dst_stride + (ptrdiff_t)c, dst_stride);
    whole_cols = fours;
#endif
    for (size_t r = 0; r < rows; r++)
        for (size_t c = r < whole_rows ? whole_cols : 0; c < cols; c++)
            dst[(ptrdiff_t)r * dst_stride + (ptrdiff_t)c] = src[(ptrdiff_t)c * src_stride + (ptrdiff_t)r];
}

/* VD_TILE vectors of up to 4 columns of y stay in registers while k runs. */
INLINE void multiply_tile(const double *a, size_t a_pitch, int cols, const double *x, size_t x_pitch, int vectors,
                          size_t depth, double *y, size_t y_pitch)
{
    VD sum[4][VD_TILE];
    for (int c = 0; c < cols; c++)
        for (int v = 0; v < vectors; v++)
            sum[c][v] = vd_load(y + (size_t)c * y_pitch + v * VD_LANES);
    for (size_t k = 0; k < depth; k++, a += a_pitch, x += x_pitch) {
        VD part[VD_TILE];
        for (int v = 0; v < vectors; v++)
            part[v] = vd_load(x + v * VD_LANES);
        for (int c = 0; c < cols; c++) {
            VD factor = vd_set1(a[c]);
            for (int v = 0; v < vectors; v++)
                sum[c][v] = vd_fma(factor, part[v], sum[c][v]);
        }
    }
    for (int c = 0; c < cols; c++)
        for (int v = 0; v < vectors; v++)
            vd_store(y + (size_t)c * y_pitch + v * VD_LANES, sum[c][v]);
}

INLINE void multiply_rows(const double *a, size_t a_pitch, size_t cols, const double *x, size_t x_pitch, int vectors,
                          size_t depth, double *y, size_t y_pitch)
{
    size_t c = 0;
    for (; c + 4 <= cols; c += 4)
        multiply_tile(a + c, a_pitch, 4, x, x_pitch, vectors, depth, y + c * y_pitch, y_pitch);
    for (; c < cols; c++)
        multiply_tile(a + c, a_pitch, 1, x, x_pitch, vectors, depth, y + c * y_pitch, y_pitch);
}

static TARGET void multiply_add(const double *a, size_t a_pitch, size_t cols, const double *x, size_t x_pitch,
                                size_t rows, size_t depth, double *y, size_t y_pitch)
{
    size_t r = 0;
    for (; r + VD_TILE * VD_LANES <= rows; r += VD_TILE * VD_LANES)
        multiply_rows(a, a_pitch, cols, x + r, x_pitch, VD_TILE, depth, y + r, y_pitch);
    for (; r + VD_LANES <= rows; r += VD_LANES)
        multiply_rows(a, a_pitch, cols, x + r, x_pitch, 1, depth, y + r, y_pitch);
    for (; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            for (size_t k = 0; k < depth; k++)
                y[c * y_pitch + r] = fma(a[k * a_pitch + c], x[k * x_pitch + r], y[c * y_pitch + r]);
}

/* `rows` vectors with `vectors` of columns, constants: their sums stay in registers. */
INLINE void project_tile(const float *x, size_t rows, size_t cols, const float *matrix, size_t outs, size_t vectors,
                         float *y)
{
    VF sum[4][4];
#pragma GCC unroll 4
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t v = 0; v < vectors; v++)
            sum[r][v] = vf_set1(0.0f);
    for (size_t i = 0; i < cols; i++, matrix += outs) {
        VF part[4];
#pragma GCC unroll 4
        for (size_t v = 0; v < vectors; v++)
            part[v] = vf_load(matrix + v * LANES);
#pragma GCC unroll 4
        for (size_t r = 0; r < rows; r++) {
            VF factor = vf_set1(x[r * cols + i]);
#pragma GCC unroll 4
            for (size_t v = 0; v < vectors; v++)
                sum[r][v] = vf_add(sum[r][v], vf_mul(factor, part[v]));
        }
    }
#pragma GCC unroll 4
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t v = 0; v < vectors; v++)
            vf_store(y + r * outs + v * LANES, sum[r][v]);
}

INLINE void project_rows(const float *x, size_t rows, size_t cols, const float *matrix, size_t outs, size_t vectors,
                         float *y)
{
    size_t r = 0;
    for (; r + 4 <= rows; r += 4)
        project_tile(x + r * cols, 4, cols, matrix, outs, vectors, y + r * outs);
    for (; r < rows; r++)
        project_tile(x + r * cols, 1, cols, matrix, outs, vectors, y + r * outs);
}

static TARGET void project(const float *x, size_t rows, size_t cols, const float *matrix, size_t outs, size_t count,
                           float *y)
{
    enum { VECTORS = LANES == 8 ? 2 : 4 }; /* AVX2 has sixteen registers */
    size_t j = 0;
    for (; j + VECTORS * LANES <= count; j += VECTORS * LANES)
        project_rows(x, rows, cols, matrix + j, outs, VECTORS, y + j);
    for (; j + LANES <= count; j += LANES)
        project_rows(x, rows, cols, matrix + j, outs, 1, y + j);
    for (; j < count; j++)
        for (size_t r = 0; r < rows; r++) {
            float sum = 0.0f;
            for (size_t i = 0; i < cols; i++)
                sum += x[r * cols + i] * matrix[i * outs + j];
            y[r * outs + j] = sum;
        }
}
