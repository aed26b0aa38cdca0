/*
 * error_template.h - measures the errors of codes: sums of squares, largest errors, codes with both; part of
 * simd_template.h
 */

static TARGET void error(const float *x, const float *y, size_t n, struct qz_sums *sums)
{
    enum { VECTORS = QZ_SUMS_LANES / LANES };
    VF signal[VECTORS], errors[VECTORS], most[VECTORS];
#pragma GCC unroll 8
    for (int j = 0; j < VECTORS; j++) {
        signal[j] = vf_load(sums->signal + j * LANES);
        errors[j] = vf_load(sums->error + j * LANES);
        most[j] = vf_set1(sums->max_error);
    }
    size_t i = 0;
    for (; i + QZ_SUMS_LANES <= n; i += QZ_SUMS_LANES)
#pragma GCC unroll 8
        for (int j = 0; j < VECTORS; j++) {
            VF a = vf_load(x + i + j * LANES), difference = vf_sub(a, vf_load(y + i + j * LANES));
            signal[j] = vf_fma(a, a, signal[j]);
            errors[j] = vf_fma(difference, difference, errors[j]);
            most[j] = vf_max_abs(most[j], difference);
        }
    if (i < n) {
        float last_x[QZ_SUMS_LANES] = {0}, last_y[QZ_SUMS_LANES] = {0}; /* zeros change no sum */
        memcpy(last_x, x + i, (n - i) * sizeof *x);
        memcpy(last_y, y + i, (n - i) * sizeof *y);
#pragma GCC unroll 8
        for (int j = 0; j < VECTORS; j++) {
            VF a = vf_load(last_x + j * LANES), difference = vf_sub(a, vf_load(last_y + j * LANES));
            signal[j] = vf_fma(a, a, signal[j]);
            errors[j] = vf_fma(difference, difference, errors[j]);
            most[j] = vf_max_abs(most[j], difference);
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < VECTORS; j++) {
        vf_store(sums->signal + j * LANES, signal[j]);
        vf_store(sums->error + j * LANES, errors[j]);
        most[0] = vf_max(most[0], most[j]);
    }
    sums->max_error = vf_hmax(most[0]);
}

INLINE void clear_sums(struct qz_sums *sums)
{
    for (size_t i = 0; i < QZ_SUMS_LANES; i += LANES) {
        vf_store(sums->signal + i, vf_set1(0.0f));
        vf_store(sums->error + i, vf_set1(0.0f));
    }
    sums->max_error = 0.0f;
}

#ifdef HAS_BLOCK_CODE
/* What stays in registers while codes are made and their errors summed. */
typedef struct {
    VF signal[QZ_SUMS_LANES / LANES], error[QZ_SUMS_LANES / LANES], most[QZ_SUMS_LANES / LANES];
} VE;

/* Where in a row of groups of `rounds` times QZ_SUMS_LANES elements a loop is. */
typedef struct {
    size_t group, left, rounds;
} place;

INLINE void next_round(place *at)
{
    if (--at->left == 0) {
        at->left = at->rounds;
        at->group++;
    }
}

/* Codes of a block of four vectors, as block_code takes them. */
INLINE VI code_block(const float *x, const float *next, qz_zero kind, int form, const struct qz_grid *grid,
                     const VS *search, place *at, const float *inverse, const float *zero, uint8_t *packed,
                     size_t *clipped)
{
    enum { VECTORS = QZ_SUMS_LANES / LANES };
    VF y[4];
    VI code[4], bytes;
    fetch(next, 3 * LANES);
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; j++) {
        VF z = vf_set1(kind == QZ_ZERO_NONE ? 0.0f : zero[at->group]);
        y[j] = group_steps(vf_load(x + j * LANES), kind, vf_set1(inverse[at->group]), z);
        if (form != QZ_ANY_VALUES)
            code[j] = uniform_code(y[j], kind, z);
        if (j % VECTORS == VECTORS - 1)
            next_round(at);
    }
    bytes =
        form == QZ_ANY_VALUES ? block_values(grid, search, y, clipped) : block_clamp(code, grid->lo, grid->hi, clipped);
    block_store(bytes, packed);
    return bytes;
}

/* Adds the errors of a block with these codes. */
INLINE void error_block(const float *x, VI bytes, VT values, qz_zero kind, int form, place *at, const float *scale,
                        const float *zero, VE *sums)
{
    enum { VECTORS = QZ_SUMS_LANES / LANES };
    VG group =
        vg_make(values, kind, form, vf_set1(scale[at->group]), vf_set1(kind == QZ_ZERO_NONE ? 0.0f : zero[at->group]));
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; j++) {
        VF v = vf_load(x + j * LANES);
        VF difference = vf_sub(v, vg_values(group, block_code(bytes, j, form == QZ_SIGNED)));
        sums->signal[j % VECTORS] = vf_fma(v, v, sums->signal[j % VECTORS]);
        sums->error[j % VECTORS] = vf_fma(difference, difference, sums->error[j % VECTORS]);
        sums->most[j % VECTORS] = vf_max_abs(sums->most[j % VECTORS], difference);
        if (j % VECTORS == VECTORS - 1) {
            next_round(at);
            if (j < 3)
                group = vg_make(values, kind, form, vf_set1(scale[at->group]),
                                vf_set1(kind == QZ_ZERO_NONE ? 0.0f : zero[at->group]));
        }
    }
}

/* A block is one or more rounds of the sums' lanes; `rounds` is how many make a group, a constant where speed matters.
 * Errors are summed one block later than codes are made: few instructions then wait for others. */
INLINE size_t code_error_blocks(const float *x, const float *next, size_t blocks, size_t rounds, qz_zero kind, int form,
                                const struct qz_grid *grid, const float *scale, const float *inverse, const float *zero,
                                uint8_t *packed, struct qz_sums *sums)
{
    enum { VECTORS = QZ_SUMS_LANES / LANES };
    const VS search = vs_make(grid);
    const VT values = vt_load(grid->value);
    place coded = {0, rounds, rounds}, summed = coded;
    size_t clipped = 0;
    VE all;
#pragma GCC unroll 8
    for (int j = 0; j < VECTORS; j++)
        all.signal[j] = all.error[j] = all.most[j] = vf_set1(0.0f);
    VI bytes = code_block(x, next, kind, form, grid, &search, &coded, inverse, zero, packed, &clipped);
    for (size_t b = 1; b < blocks; b++, x += 4 * LANES) {
        packed += 2 * LANES;
        next += 3 * LANES;
        VI more = code_block(x + 4 * LANES, next, kind, form, grid, &search, &coded, inverse, zero, packed, &clipped);
        error_block(x, bytes, values, kind, form, &summed, scale, zero, &all);
        bytes = more;
    }
    error_block(x, bytes, values, kind, form, &summed, scale, zero, &all);
#pragma GCC unroll 8
    for (int j = 0; j < VECTORS; j++) {
        vf_store(sums->signal + j * LANES, all.signal[j]);
        vf_store(sums->error + j * LANES, all.error[j]);
        all.most[0] = vf_max(all.most[0], all.most[j]);
    }
    sums->max_error = vf_hmax(all.most[0]);
    return clipped;
}
#endif

static TARGET size_t group_codes_error(const float *x, size_t n, size_t group_size, const struct qz_grid *grid,
                                       const float *scale, const float *inverse, const float *zero, uint8_t *packed,
                                       struct qz_sums *sums)
{
    size_t clipped = 0, groups = 0, done = 0; /* by whole blocks */
#ifdef HAS_BLOCK_CODE
    if (group_size >= n) {
        done = n / (4 * LANES) * (4 * LANES);
    } else if (group_size % QZ_SUMS_LANES == 0) {
        groups = n / group_size;
        groups -= groups * group_size % (4 * LANES) != 0;
        done = groups * group_size;
    }
#define CALL(kind, form)                                                                                               \
    {                                                                                                                  \
        if (group_size == QZ_SUMS_LANES)                                                                               \
            clipped = code_error_blocks(x, fetched_by_codes(x, n), done / (4 * LANES), 1, kind, form, grid, scale,     \
                                        inverse, zero, packed, sums);                                                  \
        else                                                                                                           \
            clipped = code_error_blocks(x, fetched_by_codes(x, n), done / (4 * LANES), group_size / QZ_SUMS_LANES,     \
                                        kind, form, grid, scale, inverse, zero, packed, sums);                         \
        break;                                                                                                         \
    }
    if (done) {
        OF_GRID(grid, CALL)
    }
#undef CALL
#endif
    if (done < n) {
        float decoded[QZ_TILE];
        const float *z = grid->zero == QZ_ZERO_NONE ? zero : zero + groups;
        clipped += group_codes(x + done, n - done, group_size, grid, inverse + groups, z, packed + done / 2);
        group_decode(packed + done / 2, n - done, group_size, grid, scale + groups, z, decoded);
        if (done == 0)
            clear_sums(sums);
        error(x + done, decoded, n - done, sums);
    }
    return clipped;
}

static TARGET size_t find_error(const float *x, const float *y, size_t n, float wanted)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        if (vm_any(vf_eq(vf_abs(vf_sub(vf_load(x + i), vf_load(y + i))), vf_set1(wanted))))
            break;
    while (i < n && fabsf(x[i] - y[i]) != wanted)
        i++;
    return i;
}

/* Sums in double of x * y, of (x - y)^2, and of w * (x - y)^2. */
enum { OF_PRODUCTS, OF_SQUARES, OF_WEIGHTED };

INLINE double sum_in_lanes(int of, const float *x, const float *y, const float *w, size_t n)
{
    enum { VECTORS = QZ_WEIGHTED_LANES / VD_LANES };
    double lane[QZ_WEIGHTED_LANES];
    VD sum[VECTORS];
    size_t i = 0;
    for (size_t v = 0; v < VECTORS; v++)
        sum[v] = vd_set1(0.0);
    for (; i + QZ_WEIGHTED_LANES <= n; i += QZ_WEIGHTED_LANES)
#pragma GCC unroll 8
        for (size_t v = 0; v < VECTORS; v++) {
            size_t at = i + v * VD_LANES;
            VD a = vd_from_f32(x + at), b = vd_from_f32(y + at);
            if (of != OF_PRODUCTS)
                a = b = vd_sub(a, b);
            if (of == OF_WEIGHTED) {
                b = vd_mul(a, a);
                a = vd_from_f32(w + at);
            }
            sum[v] = vd_fma(a, b, sum[v]);
        }
    for (size_t v = 0; v < VECTORS; v++)
        vd_store(lane + v * VD_LANES, sum[v]);
    for (size_t l = 0; i + l < n; l++)
        lane[l] = of == OF_PRODUCTS  ? lane[l] + (double)x[i + l] * (double)y[i + l]
                  : of == OF_SQUARES ? qz_squared_difference(x[i + l], y[i + l], lane[l])
                                     : qz_weighted_square(x[i + l], y[i + l], w[i + l], lane[l]);
    return qz_weighted_lanes(lane);
}

static TARGET double weighted_error(const float *x, const float *y, const float *w, size_t n)
{
    return sum_in_lanes(OF_WEIGHTED, x, y, w, n);
}
