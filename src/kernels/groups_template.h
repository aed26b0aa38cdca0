/*
 * groups_template.h - processes groups one after another: ranges, scales by the plain rules, codes and values; part of
 * simd_template.h
 */

/*
 * Values are read twice, by group_range and for their codes, and only the first time from memory. So that memory is
 * never idle, each of the two fetches some of what is FETCH_AHEAD floats further on, in the order of addresses: the
 * first one, which is done sooner, a quarter of as many lines as it works on, the second one the rest.
 */
enum { FETCH_AHEAD = 4096, LINE = 16 };

INLINE const float *fetched_by_range(const float *x)
{
    return x + FETCH_AHEAD;
}

INLINE const float *fetched_by_codes(const float *x, size_t n)
{
    return x + FETCH_AHEAD + n / 4;
}

/* For n floats from next on; returns where to go on. */
INLINE const float *fetch(const float *next, size_t n)
{
    for (size_t k = 0; k < n; k += LINE)
        __builtin_prefetch(next + k);
    return next + n;
}

/* Calls `call(size)` with the size of groups, the usual ones as constants: loops that the compiler can unroll. */
#define OF_SIZE(size, call)                                                                                            \
    do {                                                                                                               \
        if ((size) == 16)                                                                                              \
            call(16);                                                                                                  \
        else if ((size) == 32)                                                                                         \
            call(32);                                                                                                  \
        else if ((size) == 64)                                                                                         \
            call(64);                                                                                                  \
        else if ((size) == 128)                                                                                        \
            call(128);                                                                                                 \
        else                                                                                                           \
            call(size);                                                                                                \
    } while (0)

static TARGET int group_range(const float *x, size_t n, size_t group_size, float *min, float *max)
{
    VF check = vf_set1(0.0f), zero = check;
    const float *next = fetched_by_range(x);
    size_t i = 0, g = 0;
    if (group_size % LANES == 0)
        for (; n - i >= LANES * group_size; i += LANES * group_size, g += LANES) {
            VF low, high;
            next = fetch(next, LANES * group_size / 4);
#define CALL(size) reduce_groups(x + i, size, &low, &high, &check)
            OF_SIZE(group_size, CALL);
#undef CALL
            vf_store(min + g, low);
            vf_store(max + g, high);
        }
    for (; i < n; g++) {
        size_t end = n - i < group_size ? n : i + group_size;
        VF low = vf_set1(x[i]), high = low;
        for (; i < end; i += LANES) {
            VF v = end - i >= LANES ? vf_load(x + i) : vf_load_part(x + i, end - i, x[i]);
            low = vf_min(low, v);
            high = vf_max(high, v);
            check = vf_fma(v, zero, check);
        }
        i = end;
        min[g] = vf_hmin(low);
        max[g] = vf_hmax(high);
    }
    return vm_any(vf_ne(check, check));
}

INLINE VF fit_stored(VF v, qz_dtype dtype)
{
    return dtype == QZ_F16 ? vf_via_f16(v) : dtype == QZ_BF16 ? vf_via_bf16(v) : v;
}

/* v / by. To multiply by the inverse of a power of two is the same and takes a quarter of the time. */
INLINE VF over(VF v, float by)
{
    const uint32_t bits = qz_bits(by), exponent = bits >> 23 & 255;
    if ((bits & 0x7fffffu) == 0 && exponent >= 1 && exponent <= 253)
        return vf_mul(v, vf_set1(qz_float((bits & 0x80000000u) | (254 - exponent) << 23)));
    return vf_div(v, vf_set1(by));
}

/* One vector of groups. The branches depend on the rule alone; the caller makes most of them constants. */
INLINE void fit_vector(const struct qz_fit *rule, qz_method method, qz_zero kind, qz_dtype dtype, VF lo, VF hi,
                       VF *scale, VF *inverse, VF *zero, VM *tie, VM *tiny, VM *huge)
{
    VF none = vf_set1(0.0f), s, minus_lo = vf_neg(lo);
    VM offset_beyond = vm_none();
    if (method == QZ_ABSMAX) {
        VF least = rule->positive ? minus_lo : lo;
        s = over(vf_select(vf_lt(minus_lo, hi), hi, least), rule->end);
        if (!rule->positive)
            *tie = vm_and(vf_eq(hi, minus_lo), vf_ne(hi, none));
    } else if (kind == QZ_ZERO_OFFSET) {
        VF offset = fit_stored(vf_add(lo, none), dtype), half = vf_mul(offset, vf_set1(0.5f));
        VF above = vf_sub(vf_mul(hi, vf_set1(0.5f)), half), below = vf_sub(vf_mul(lo, vf_set1(0.5f)), half);
        s = vf_div(vf_select(vf_le(vf_abs(below), vf_abs(above)), above, below), vf_set1(7.5f));
        *zero = offset;
        offset_beyond = vf_lt(vf_set1(0x1p126f), vf_abs(offset));
    } else {
        lo = vf_select(vf_lt(lo, none), lo, none);
        hi = vf_select(vf_lt(none, hi), hi, none);
        s = vf_div(vf_sub(vf_mul(hi, vf_set1(0.5f)), vf_mul(lo, vf_set1(0.5f))), vf_set1(7.5f));
    }
    s = vf_add(fit_stored(s, dtype), none);
    const float least = dtype == QZ_F16 ? 0x1p-14f : FLT_MIN;
    VF magnitude = vf_abs(s), within = vf_between(magnitude, vf_set1(least), vf_set1(0x1p120f));
    *scale = s;
    *inverse = vf_div(vf_set1(1.0f), s);
    if (vm_any(vm_or(offset_beyond, vf_ne(magnitude, within)))) { /* of few groups */
        VM beyond = vm_or(offset_beyond, vm_or(vf_lt(vf_set1(0x1p120f), magnitude), vf_ne(magnitude, magnitude)));
        *inverse = vf_select(vf_le(vf_set1(FLT_MIN), magnitude), *inverse, none);
        *inverse = vf_select(beyond, none, *inverse);
        VM some = vm_or(vf_ne(lo, none), vf_ne(hi, none)); /* not all zeros */
        *tiny = vm_or(*tiny, vm_and(some, vf_lt(magnitude, vf_set1(least))));
        *huge = vm_or(*huge, beyond);
    }
    if (kind == QZ_ZERO_UINT4) {
        VF z = vf_rint(vf_mul(vf_neg(lo), *inverse));
        z = vf_select(vf_lt(none, z), z, none);
        *zero = vf_select(vf_lt(z, vf_set1(15.0f)), z, vf_set1(15.0f));
    }
    if (kind == QZ_ZERO_FLOAT)
        *zero = method == QZ_ABSMAX ? none : fit_stored(vf_mul(vf_neg(lo), *inverse), dtype);
}

INLINE unsigned fit_all(const struct qz_fit *rule, qz_method method, qz_zero kind, qz_dtype dtype, size_t groups,
                        const float *min, const float *max, float *scale, float *inverse, float *zero)
{
    VM tie = vm_none(), tiny = tie, huge = tie;
    VF s, inv, z = vf_set1(0.0f);
    size_t g = 0;
#pragma GCC unroll 1
    for (; g + LANES <= groups; g += LANES) {
        VM tied = vm_none();
        fit_vector(rule, method, kind, dtype, vf_load(min + g), vf_load(max + g), &s, &inv, &z, &tied, &tiny, &huge);
        tie = vm_or(tie, tied);
        vf_store(scale + g, s);
        vf_store(inverse + g, inv);
        if (kind != QZ_ZERO_NONE)
            vf_store(zero + g, z);
    }
    if (g < groups) {
        size_t rest = groups - g; /* missing lanes repeat the first group and so raise no flag of their own */
        VM tied = vm_none();
        fit_vector(rule, method, kind, dtype, vf_load_part(min + g, rest, min[g]), vf_load_part(max + g, rest, max[g]),
                   &s, &inv, &z, &tied, &tiny, &huge);
        tie = vm_or(tie, tied);
        vf_store_part(scale + g, rest, s);
        vf_store_part(inverse + g, rest, inv);
        if (kind != QZ_ZERO_NONE)
            vf_store_part(zero + g, rest, z);
    }
    return (vm_any(tie) ? QZ_FIT_TIE : 0u) | (vm_any(tiny) ? QZ_FIT_TINY : 0u) | (vm_any(huge) ? QZ_FIT_HUGE : 0u);
}

INLINE unsigned fit_any(const struct qz_fit *rule, size_t groups, const float *min, const float *max, float *scale,
                        float *inverse, float *zero)
{
#define FIT(method, kind)                                                                                              \
    (rule->scale_dtype == QZ_F16    ? fit_all(rule, method, kind, QZ_F16, groups, min, max, scale, inverse, zero)      \
     : rule->scale_dtype == QZ_BF16 ? fit_all(rule, method, kind, QZ_BF16, groups, min, max, scale, inverse, zero)     \
                                    : fit_all(rule, method, kind, QZ_F32, groups, min, max, scale, inverse, zero))
    if (rule->method == QZ_ABSMAX)
        return rule->zero == QZ_ZERO_NONE ? FIT(QZ_ABSMAX, QZ_ZERO_NONE) : FIT(QZ_ABSMAX, QZ_ZERO_FLOAT);
    if (rule->zero == QZ_ZERO_UINT4)
        return FIT(QZ_MINMAX, QZ_ZERO_UINT4);
    return rule->zero == QZ_ZERO_OFFSET ? FIT(QZ_MINMAX, QZ_ZERO_OFFSET) : FIT(QZ_MINMAX, QZ_ZERO_FLOAT);
#undef FIT
}

static TARGET unsigned fit(const struct qz_fit *rule, size_t groups, const float *min, const float *max, float *scale,
                           float *inverse, float *zero)
{
    return fit_any(rule, groups, min, max, scale, inverse, zero);
}

/* The same for LANES groups. */
static TARGET __attribute__((noinline)) unsigned fit_lanes(const struct qz_fit *rule, const float *min,
                                                           const float *max, float *scale, float *inverse, float *zero)
{
    return fit_any(rule, LANES, min, max, scale, inverse, zero);
}

/* How many of the first n lanes are below one number or above another one. */
INLINE size_t vi_outside(VI v, int lo, int hi, size_t n)
{
    return vm_count(vm_or(vi_lt(v, vi_set1(lo)), vi_lt(vi_set1(hi), v)), n);
}

INLINE size_t vf_outside(VF v, float least, float most, size_t n)
{
    return vm_count(vm_or(vf_lt(v, vf_set1(least)), vf_lt(vf_set1(most), v)), n);
}

/* What is rounded to the nearest value. */
INLINE VF group_steps(VF v, qz_zero kind, VF inverse, VF zero)
{
    VF y = vf_mul(kind == QZ_ZERO_OFFSET ? vf_sub(v, zero) : v, inverse);
    return kind == QZ_ZERO_FLOAT ? vf_add(y, zero) : y;
}

/* Uniform codes, still to be clamped. */
INLINE VI uniform_code(VF y, qz_zero kind, VF zero)
{
    return kind == QZ_ZERO_UINT4 ? vi_add(vf_round(y), vf_round(zero)) : vf_round(y);
}

/* The nearest of 16 values by four comparisons, each with a table of the thresholds that the ones before leave. */
typedef struct {
    VF first;
    VT second, third, fourth, code;
#ifdef HAS_CELLS
    int has_cells;
    VX cells;
#endif
} VS;

/* Of 16 thresholds and 16 codes. */
INLINE VS vs_of_tables(const float *thresholds, const void *code)
{
    float upper[16 + 4] = {0}; /* what is past the end is never looked up */
    memcpy(upper, thresholds, 16 * sizeof *upper);
    return (VS){.first = vf_set1(upper[7]),
                .second = vt_load(upper + 3),
                .third = vt_load(upper + 1),
                .fourth = vt_load(upper),
                .code = vt_load(code)};
}

INLINE VS vs_make(const struct qz_grid *grid)
{
    VS search = vs_of_tables(grid->upper, grid->code);
#ifdef HAS_CELLS
    search.has_cells = grid->has_cells;
    search.cells = vx_make(&grid->cells);
#endif
    return search;
}

/* Index of the nearest value in ascending order. */
INLINE VI vs_index(const VS *s, VF y)
{
    VI index = vi_add_where(vf_le(s->first, y), vi_set1(0), 8);
    index = vi_add_where(vf_le(vt_lookup(s->second, index), y), index, 4);
    index = vi_add_where(vf_le(vt_lookup(s->third, index), y), index, 2);
    return vi_increment(vf_le(vt_lookup(s->fourth, index), y), index);
}

/* A block of any values' codes. */
INLINE VI block_values(const struct qz_grid *grid, const VS *search, const VF y[4], size_t *clipped)
{
#ifdef HAS_CELLS
    if (search->has_cells)
        return block_cells(&search->cells, y, clipped);
#endif
    size_t none = 0;
    VI code[4];
    for (size_t j = 0; j < 4; j++) {
        *clipped += vf_outside(y[j], grid->least, grid->most, LANES);
        code[j] = vi_lookup(search->code, vs_index(search, y[j]));
    }
    return block_clamp(code, 0, 15, &none);
}

/* Blocks of four vectors; `vectors` is how many make a group, a constant where speed matters. For each block, `fetches`
 * vectors from `next` on are fetched. `capped`: no uniform code can be below the range, and none is counted. */
INLINE size_t code_blocks(const float *x, const float *next, size_t fetches, size_t blocks, size_t vectors, int capped,
                          qz_zero kind, int form, const struct qz_grid *grid, const VS *search, const float *inverse,
                          const float *zero, uint8_t *packed)
{
    int lo = grid->lo, hi = grid->hi;
    size_t clipped = 0;
    const int parts = vectors == 1 || vectors == 2; /* of a block are groups */
    for (size_t b = 0, v = 0; b < blocks; b++, v += 4) {
        VF y[4];
        VI code[4];
        next = fetch(next, fetches * LANES);
        for (size_t j = 0; j < 4; j++) {
            size_t g = parts ? b * (4 / vectors) + j / vectors : vectors % 4 == 0 ? v / vectors : (v + j) / vectors;
            VF z = vf_set1(kind == QZ_ZERO_NONE ? 0.0f : zero[g]);
            y[j] = group_steps(vf_load(x + (v + j) * LANES), kind, vf_set1(inverse[g]), z);
            if (form != QZ_ANY_VALUES)
                code[j] = uniform_code(y[j], kind, z);
        }
        block_store(form == QZ_ANY_VALUES ? block_values(grid, search, y, &clipped)
                    : capped              ? block_cap(code, hi)
                                          : block_clamp(code, lo, hi, &clipped),
                    packed + b * 2 * LANES);
    }
    return clipped;
}

/* Codes of elements [i, n), i even, by way of one byte a code. */
INLINE size_t code_rest(const float *x, size_t i, size_t n, size_t group_size, qz_zero kind, int form,
                        const struct qz_grid *grid, const VS *search, const float *inverse, const float *zero,
                        uint8_t *packed)
{
    int8_t bytes[QZ_TILE + LANES];
    size_t clipped = 0, start = i;
    for (size_t g = i / group_size; i < n; g++) {
        size_t end = n - g * group_size < group_size ? n : (g + 1) * group_size;
        VF inv = vf_set1(inverse[g]), z = vf_set1(kind == QZ_ZERO_NONE ? 0.0f : zero[g]);
        for (; i < end; i += LANES) {
            size_t count = end - i < LANES ? end - i : LANES;
            VF y = group_steps(count == LANES ? vf_load(x + i) : vf_load_part(x + i, count, 0.0f), kind, inv, z);
            VI code;
            if (form == QZ_ANY_VALUES) {
                clipped += vf_outside(y, grid->least, grid->most, count);
                code = vi_lookup(search->code, vs_index(search, y));
            } else {
                code = uniform_code(y, kind, z);
                clipped += vi_outside(code, grid->lo, grid->hi, count);
                code = vi_clamp(code, grid->lo, grid->hi);
            }
            vi_to_i8(bytes + (i - start), code);
        }
        i = end;
    }
    pack(bytes, n - start, packed + start / 2);
    return clipped;
}

INLINE size_t codes_kind(const float *x, size_t n, size_t group_size, qz_zero kind, int form,
                         const struct qz_grid *grid, const float *inverse, const float *zero, uint8_t *packed)
{
    const VS search = vs_make(grid);
    const float *next = fetched_by_codes(x, n);
    size_t clipped = 0, done = 0;
    if (group_size >= n || (group_size % (4 * LANES) == 0 && group_size > 8 * LANES)) {
        for (size_t g = 0; n - done >= 4 * LANES; g++) {
            size_t blocks = (group_size < n - done ? group_size : n - done) / (4 * LANES);
            clipped += code_blocks(x + done, next + done / 4 * 3, 3, blocks, SIZE_MAX, 0, kind, form, grid, &search,
                                   inverse + g, kind == QZ_ZERO_NONE ? zero : zero + g, packed + done / 2);
            done += blocks * 4 * LANES;
        }
    } else if (group_size % LANES == 0) {
        size_t blocks = n / (4 * LANES);
        if (group_size == LANES)
            clipped = code_blocks(x, next, 3, blocks, 1, 0, kind, form, grid, &search, inverse, zero, packed);
        else if (group_size == 2 * LANES)
            clipped = code_blocks(x, next, 3, blocks, 2, 0, kind, form, grid, &search, inverse, zero, packed);
        else if (group_size == 4 * LANES)
            clipped = code_blocks(x, next, 3, blocks, 4, 0, kind, form, grid, &search, inverse, zero, packed);
        else if (group_size == 8 * LANES)
            clipped = code_blocks(x, next, 3, blocks, 8, 0, kind, form, grid, &search, inverse, zero, packed);
        else
            clipped = code_blocks(x, next, 3, blocks, group_size / LANES, 0, kind, form, grid, &search, inverse, zero,
                                  packed);
        done = blocks * 4 * LANES;
    }
    if (done < n)
        clipped += code_rest(x, done, n, group_size, kind, form, grid, &search, inverse, zero, packed);
    return clipped;
}

/* Calls `call(kind, form)` with those of the grid as constants. */
#define OF_GRID(grid, call)                                                                                            \
    switch ((grid)->zero) {                                                                                            \
    case QZ_ZERO_NONE:                                                                                                 \
        if ((grid)->uniform)                                                                                           \
            call(QZ_ZERO_NONE, QZ_SIGNED);                                                                             \
        call(QZ_ZERO_NONE, QZ_ANY_VALUES);                                                                             \
    case QZ_ZERO_UINT4:                                                                                                \
        call(QZ_ZERO_UINT4, QZ_UNSIGNED);                                                                              \
    case QZ_ZERO_OFFSET:                                                                                               \
        if ((grid)->uniform)                                                                                           \
            call(QZ_ZERO_OFFSET, QZ_UNSIGNED);                                                                         \
        call(QZ_ZERO_OFFSET, QZ_ANY_VALUES);                                                                           \
    default:                                                                                                           \
        if ((grid)->uniform)                                                                                           \
            call(QZ_ZERO_FLOAT, QZ_UNSIGNED);                                                                          \
        call(QZ_ZERO_FLOAT, QZ_ANY_VALUES);                                                                            \
    }

static TARGET size_t group_codes(const float *x, size_t n, size_t group_size, const struct qz_grid *grid,
                                 const float *inverse, const float *zero, uint8_t *packed){
#define CALL(kind, form) return codes_kind(x, n, group_size, kind, form, grid, inverse, zero, packed)
    OF_GRID(grid, CALL)
#undef CALL
}

/* Groups of `vectors` whole vectors each, a constant where speed matters. */
INLINE void decode_groups(const uint8_t *packed, size_t groups, size_t vectors, qz_zero kind, int form, VT values,
                          const float *scale, const float *zero, float *dst)
{
#pragma GCC unroll 4
    for (size_t g = 0; g < groups; g++, packed += vectors * (LANES / 2), dst += vectors * LANES) {
        VG group = vg_make(values, kind, form, vf_set1(scale[g]), vf_set1(kind == QZ_ZERO_NONE ? 0.0f : zero[g]));
#pragma GCC unroll 4
        for (size_t j = 0; j < vectors; j++)
            vf_store(dst + j * LANES, vg_values(group, vi_nibbles(packed + j * (LANES / 2), form == QZ_SIGNED)));
    }
}

INLINE void decode_kind(const uint8_t *packed, size_t n, size_t group_size, qz_zero kind, int form,
                        const struct qz_grid *grid, const float *scale, const float *zero, float *dst)
{
    VT values = vt_load(grid->value);
    size_t i = 0;
    if (group_size >= n || group_size % LANES == 0) {
        size_t whole = group_size >= n ? 0 : n / group_size;
        if (group_size == LANES)
            decode_groups(packed, whole, 1, kind, form, values, scale, zero, dst);
        else if (group_size == 2 * LANES)
            decode_groups(packed, whole, 2, kind, form, values, scale, zero, dst);
        else if (group_size == 4 * LANES)
            decode_groups(packed, whole, 4, kind, form, values, scale, zero, dst);
        else
            decode_groups(packed, whole, group_size / LANES, kind, form, values, scale, zero, dst);
        i = whole * group_size;
        size_t vectors = (n - i) / LANES;
        if (vectors)
            decode_groups(packed + i / 2, 1, vectors, kind, form, values, scale + whole,
                          kind == QZ_ZERO_NONE ? zero : zero + whole, dst + i);
        i += vectors * LANES;
    }
    if (i == n)
        return;
    /* The rest: one byte a code, then group by group. */
    int8_t bytes[QZ_TILE + LANES];
    size_t start = i;
    unpack(packed + start / 2, n - start, bytes);
    memset(bytes + (n - start), 0, LANES);
    for (size_t g = i / group_size; i < n; g++) {
        size_t end = n - g * group_size < group_size ? n : (g + 1) * group_size;
        VG group = vg_make(values, kind, form, vf_set1(scale[g]), vf_set1(kind == QZ_ZERO_NONE ? 0.0f : zero[g]));
        for (; i < end; i += LANES) {
            VI code = vi_from_i8(bytes + (i - start));
            VF v = vg_values(group, form == QZ_SIGNED ? code : vi_low_nibble(code));
            if (end - i >= LANES)
                vf_store(dst + i, v);
            else
                vf_store_part(dst + i, end - i, v);
        }
        i = end;
    }
}

static TARGET void group_decode(const uint8_t *packed, size_t n, size_t group_size, const struct qz_grid *grid,
                                const float *scale, const float *zero, float *dst)
{
#define CALL(kind, form)                                                                                               \
    {                                                                                                                  \
        decode_kind(packed, n, group_size, kind, form, grid, scale, zero, dst);                                        \
        return;                                                                                                        \
    }
    OF_GRID(grid, CALL)
#undef CALL
}
