/*
 * matrices_template.h - blocks of matrices: turned, multiplied; part of simd_template.h
 */

static TARGET void transpose(const float *src, ptrdiff_t src_stride, size_t rows, size_t cols, float *dst,
                             ptrdiff_t dst_stride)
{
    size_t whole_rows = rows - rows % LANES, whole_cols = cols - cols % LANES;
    for (size_t c = 0; c < whole_cols; c += LANES) /* a few lines of the source, each for a long way */
        for (size_t r = 0; r < whole_rows; r += LANES)
            transpose_block(src + (ptrdiff_t)c * src_stride + (ptrdiff_t)r, src_stride,
                            dst + (ptrdiff_t)r * dst_stride + (ptrdiff_t)c, dst_stride);
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
