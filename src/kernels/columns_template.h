/*
 * columns_template.h - groups that run down the columns of a matrix whose rows lie next to each other
 *
 * LANES groups are processed side by side, so only the packed codes, an eighth of the data, are transposed.
 * simd_template.h includes this file. Where HAS_COLUMNS is defined, the vocabulary also has
 *
 *   vi_load_lanes(p, step) vi_store_lanes(p, step, v)     LANES / 4 pieces of 16 bytes, `step` bytes apart
 *   vb_table(...)             16 bytes in all 128-bit lanes
 *   vb_shuffle(v, table)      bytes, and the rest of these, within 128-bit lanes
 *   vb_narrow(a, b)           16-bit lanes to bytes, unsigned
 *   vi_low32 vi_high32 vi_low64 vi_high64(a, b)           lanes of the lower or upper halves, in turns
 *   vi_nibble(v, j, sign)     code j of each 32-bit lane, as vi_nibbles gives them
 *   vi_value(values, v, form) the grid's values of codes
 */

enum { COLUMNS_LINES = 32 }; /* of so many lines is a block: 16 bytes of codes a column */

/* The next 64 bytes. */
INLINE void fetch_ahead(struct qz_ahead *ahead)
{
    __builtin_prefetch((const void *)ahead->at);
    ahead->at += 64;
    ahead->left -= 64;
    if (ahead->left == 0) {
        ahead->left = ahead->line;
        ahead->at += ahead->stride - ahead->line;
        if (--ahead->lines_left == 0) {
            ahead->lines_left = ahead->lines;
            ahead->at = ahead->after;
        }
    }
}

/* Ranges of `vectors` vectors of columns, a constant. */
INLINE VF range_lines(const float *x, ptrdiff_t stride, size_t lines, size_t width, size_t vectors, float *copy,
                      float *min, float *max, struct qz_ahead *ahead)
{
    VF low[8], high[8], zero = vf_set1(0.0f), check[4] = {zero, zero, zero, zero};
#pragma GCC unroll 8
    for (size_t v = 0; v < vectors; v++)
        low[v] = high[v] = vf_load(x + v * LANES);
    for (size_t k = 0; k < lines; k++, x += stride, copy += width) {
#pragma GCC unroll 8
        for (size_t v = 0; v < vectors; v++) {
            if (v * LANES % 32 == 0)
                fetch_ahead(ahead);
            VF value = vf_load(x + v * LANES);
            vf_store(copy + v * LANES, value);
            low[v] = vf_min(low[v], value);
            high[v] = vf_max(high[v], value);
            check[v % 4] = vf_fma(value, zero, check[v % 4]); /* as in range_f32 */
        }
    }
#pragma GCC unroll 8
    for (size_t v = 0; v < vectors; v++) {
        vf_store(min + v * LANES, low[v]);
        vf_store(max + v * LANES, high[v]);
    }
    return vf_add(vf_add(check[0], check[1]), vf_add(check[2], check[3]));
}

static TARGET int columns_range(const float *x, ptrdiff_t stride, size_t lines, size_t width, float *copy, float *min,
                                float *max, struct qz_ahead *ahead)
{
    struct qz_ahead next = *ahead;
    enum { MOST = LANES == 8 ? 4 : 8 }; /* two vectors each must stay in registers */
    VF check = vf_set1(0.0f);
    size_t i = 0;
    for (; i + MOST * LANES <= width; i += MOST * LANES)
        check = vf_add(check, range_lines(x + i, stride, lines, width, MOST, copy + i, min + i, max + i, &next));
    for (; i < width; i += LANES)
        check = vf_add(check, range_lines(x + i, stride, lines, width, 1, copy + i, min + i, max + i, &next));
    *ahead = next;
    return vm_any(vf_ne(check, check));
}

#ifdef HAS_COLUMNS

/*
 * A block of LANES columns, lane by 128-bit lane, for four columns r0-r3 of lines c0-c31:
 *
 *     block_clamp       r0-r3 of c0, of c1, of c2, of c3         then of c4-c7, ...
 *     vb_shuffle        c0-c3 of r0, of r1, ...
 *     join_nibbles, vb_narrow    c0-c3 of r0 in two bytes, of r1, of r2, of r3, c4-c7 of r0, ...
 *     vb_shuffle        c0-c7 of r0 in four bytes, of r1, ...    then of c8-c15, ...
 *     transpose_lanes   c0-c31 of r0, ...
 */
INLINE VI columns_eight(const float *x, size_t width, qz_zero kind, int form, const struct qz_grid *grid,
                        const VS *search, VF inverse, VF zero, size_t *clipped, struct qz_ahead *ahead)
{
    const VI across = vb_table(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const VI pairs = vb_table(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
    VI joined[2];
#pragma GCC unroll 2
    for (size_t q = 0; q < 2; q++) {
        VF y[4];
        VI code[4];
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            if (j * LANES % 32 == 0)
                fetch_ahead(ahead);
            y[j] = group_steps(vf_load(x + (4 * q + j) * width), kind, inverse, zero);
            if (form != QZ_ANY_VALUES)
                code[j] = uniform_code(y[j], kind, zero);
        }
        VI bytes = form == QZ_ANY_VALUES ? block_values(grid, search, y, clipped)
                                         : block_clamp(code, grid->lo, grid->hi, clipped);
        joined[q] = join_nibbles(vb_shuffle(bytes, across));
    }
    return vb_shuffle(vb_narrow(joined[0], joined[1]), pairs);
}

INLINE size_t columns_block(const float *x, size_t width, qz_zero kind, int form, const struct qz_grid *grid,
                            const VS *search, VF inverse, VF zero, uint8_t *packed, ptrdiff_t pitch,
                            struct qz_ahead *ahead)
{
    VI eight[4];
    size_t clipped = 0;
    if (form == QZ_ANY_VALUES) {
#pragma GCC unroll 1
        for (size_t q = 0; q < 4; q++, x += 8 * width)
            eight[q] = columns_eight(x, width, kind, form, grid, search, inverse, zero, &clipped, ahead);
    } else {
#pragma GCC unroll 4
        for (size_t q = 0; q < 4; q++, x += 8 * width)
            eight[q] = columns_eight(x, width, kind, form, grid, search, inverse, zero, &clipped, ahead);
    }
    transpose_lanes(eight);
#pragma GCC unroll 4
    for (ptrdiff_t r = 0; r < 4; r++)
        vi_store_lanes(packed + r * pitch, 4 * pitch, eight[r]);
    return clipped;
}

INLINE size_t columns_kind(const float *x, size_t lines, size_t width, qz_zero kind, int form,
                           const struct qz_grid *grid, const float *inverse, const float *zero, uint8_t *packed,
                           ptrdiff_t pitch, struct qz_ahead *ahead)
{
    struct qz_ahead next = *ahead;
    const VS search = vs_make(grid);
    size_t clipped = 0;
    for (size_t i = 0; i < width; i += LANES) {
        VF inv = vf_load(inverse + i), z = kind == QZ_ZERO_NONE ? vf_set1(0.0f) : vf_load(zero + i);
        for (size_t k = 0; k < lines; k += COLUMNS_LINES)
            clipped += columns_block(x + k * width + i, width, kind, form, grid, &search, inv, z,
                                     packed + (ptrdiff_t)i * pitch + k / 2, pitch, &next);
    }
    *ahead = next;
    return clipped;
}

static TARGET size_t columns_codes(const float *x, size_t lines, size_t width, const struct qz_grid *grid,
                                   const float *inverse, const float *zero, uint8_t *packed, ptrdiff_t pitch,
                                   struct qz_ahead *ahead){
#define CALL(kind, form) return columns_kind(x, lines, width, kind, form, grid, inverse, zero, packed, pitch, ahead)
    OF_GRID(grid, CALL)
#undef CALL
}

/* Values of a block of `vectors` vectors of columns, a constant: line by line, which memory likes. */
INLINE void values_block(const uint8_t *packed, ptrdiff_t pitch, size_t vectors, qz_zero kind, int form, VT values,
                         const VF *scale, const VF *zero, float *dst, ptrdiff_t stride)
{
    VI eight[4][4];
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; v++, packed += LANES * pitch) {
#pragma GCC unroll 4
        for (ptrdiff_t r = 0; r < 4; r++)
            eight[v][r] = vi_load_lanes(packed + r * pitch, 4 * pitch);
        transpose_lanes(eight[v]);
    }
#pragma GCC unroll 4
    for (size_t q = 0; q < 4; q++)
#pragma GCC unroll 8
        for (size_t j = 0; j < 8; j++, dst += stride)
#pragma GCC unroll 4
            for (size_t v = 0; v < vectors; v++) {
                VF y = vi_value(values, vi_nibble(eight[v][q], j, form == QZ_SIGNED), form);
                if (kind == QZ_ZERO_UINT4 || kind == QZ_ZERO_FLOAT)
                    y = vf_sub(y, zero[v]);
                y = vf_mul(scale[v], y);
                vf_store(dst + v * LANES, kind == QZ_ZERO_OFFSET ? vf_add(y, zero[v]) : y);
            }
}

INLINE void values_lines(const uint8_t *packed, ptrdiff_t pitch, size_t lines, size_t vectors, qz_zero kind, int form,
                         VT values, const float *scale, const float *zero, float *dst, ptrdiff_t stride)
{
    VF s[4], z[4];
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; v++) {
        s[v] = vf_load(scale + v * LANES);
        z[v] = kind == QZ_ZERO_NONE ? vf_set1(0.0f) : vf_load(zero + v * LANES);
    }
    for (size_t k = 0; k < lines; k += COLUMNS_LINES)
        values_block(packed + k / 2, pitch, vectors, kind, form, values, s, z, dst + (ptrdiff_t)k * stride, stride);
}

INLINE
void columns_values(const uint8_t *packed, ptrdiff_t pitch, size_t lines, size_t width, qz_zero kind, int form,
                    const struct qz_grid *grid, const float *scale, const float *zero, float *dst, ptrdiff_t stride)
{
    const VT values = vt_load(grid->value);
    size_t i = 0;
    for (; i + 4 * LANES <= width; i += 4 * LANES)
        values_lines(packed + (ptrdiff_t)i * pitch, pitch, lines, 4, kind, form, values, scale + i, zero + i, dst + i,
                     stride);
    for (; i < width; i += LANES)
        values_lines(packed + (ptrdiff_t)i * pitch, pitch, lines, 1, kind, form, values, scale + i, zero + i, dst + i,
                     stride);
}

static TARGET void columns_decode(const uint8_t *packed, ptrdiff_t pitch, size_t lines, size_t width,
                                  const struct qz_grid *grid, const float *scale, const float *zero, float *dst,
                                  ptrdiff_t stride)
{
#define CALL(kind, form)                                                                                               \
    {                                                                                                                  \
        columns_values(packed, pitch, lines, width, kind, form, grid, scale, zero, dst, stride);                       \
        return;                                                                                                        \
    }
    OF_GRID(grid, CALL)
#undef CALL
}

#else /* by way of rows */

static TARGET size_t columns_codes(const float *x, size_t lines, size_t width, const struct qz_grid *grid,
                                   const float *inverse, const float *zero, uint8_t *packed, ptrdiff_t pitch,
                                   struct qz_ahead *ahead)
{
    (void)ahead;
    float rows[16 * QZ_COLUMN_MOST];
    size_t clipped = 0;
    for (size_t i = 0; i < width; i += 16) {
        transpose(x + i, (ptrdiff_t)width, 16, lines, rows, (ptrdiff_t)lines);
        for (size_t r = 0; r < 16; r++)
            clipped +=
                group_codes(rows + r * lines, lines, lines, grid, inverse + i + r,
                            grid->zero == QZ_ZERO_NONE ? zero : zero + i + r, packed + (ptrdiff_t)(i + r) * pitch);
    }
    return clipped;
}

static TARGET void columns_decode(const uint8_t *packed, ptrdiff_t pitch, size_t lines, size_t width,
                                  const struct qz_grid *grid, const float *scale, const float *zero, float *dst,
                                  ptrdiff_t stride)
{
    float rows[16 * QZ_COLUMN_MOST];
    for (size_t i = 0; i < width; i += 16) {
        for (size_t r = 0; r < 16; r++)
            group_decode(packed + (ptrdiff_t)(i + r) * pitch, lines, lines, grid, scale + i + r,
                         grid->zero == QZ_ZERO_NONE ? zero : zero + i + r, rows + r * lines);
        transpose(rows, (ptrdiff_t)lines, lines, 16, dst + i, stride);
    }
}

#endif
