/*
 * simd_template.h - the vector algorithms, written once
 *
 * A file for one instruction set defines the vocabulary below, includes this file, and lists the functions in its
 * kernel table. Every function equals its namesake in scalar.c bit for bit; what a kernel computes is said there.
 *
 *   TARGET                    function attribute that enables the instruction set
 *   INLINE                    the same for functions whose constant arguments must reach their loops
 *   LANES                     floats in a vector: 4, 8 or 16
 *   VF, VI, VM                vector of floats, of int32, and a mask of lanes
 *   vf_load vf_store vf_set1 vf_add vf_sub vf_mul vf_div vf_min vf_max vf_abs vf_neg
 *   vf_max_abs(a, b)          the larger of a and |b|, for a >= 0
 *   vf_fma(a, b, c)           a * b + c, rounded once
 *   vf_load_part(p, n, other) vf_store_part(p, n, v)     the first n < LANES elements; other lanes are `other`
 *   vf_lt vf_le vf_eq vf_ne -> VM    vf_select(m, a, b): a where m, else b    vm_none vm_and vm_or vm_any
 *   vf_hmin vf_hmax           smallest and largest lane
 *   vf_reduce(x, group_size, &min, &max, &check)         ranges of LANES groups; check as in range_f32
 *   vf_round -> VI, vf_rint -> VF    to nearest even        vi_trunc(v) -> VI    towards zero; to VI, of what fits
 *   vf_via_f16 vf_via_bf16    round trip through a narrow type
 *   vf_from_f16 vf_from_bf16 vf_from_f64(p) -> VF         vf_to_f16 vf_to_bf16(p, v)      LANES elements
 *   vi_set1 vi_add            vi_increment(m, v): v + 1 where m
 *   vi_from_i8(p) -> VI       vi_to_i8(p, v)              LANES bytes, sign-extended and truncated
 *   bytes_strange(bad, p)     sets bits in `bad` if any of 4 * LANES bytes is outside -8..7; vi_any(bad)
 *   vi_clamp(v, lo, hi)       vi_outside(v, lo, hi, n)    how many of the first n lanes are outside
 *   vi_add_where(m, v, k)     v + k where m, k a constant
 *   vf_outside(v, least, most, n)                         how many of the first n lanes are below least or above most
 *   vf_power(v)               the power of two at or below |v|; 0 for subnormal numbers, infinity for it and NaN
 *   vf_between(v, lo, hi)     v, or the end it is beyond; lo < 0 < hi
 *   vm_to_u8(p, m)            LANES bytes, 1 where m, else 0
 *   VT, vt_load(p), vt_lookup(t, v)                       a table of 16 floats, looked up by the low 4 bits
 *   vi_lookup(t, v)           the same with a table of int32
 *   VB, vb_make(upper, value), vb_nearest(&b, y)          value[i] of 16, i being how many of the first 15 of `upper`
 *                             are <= y; both ascend (where HAS_VB: otherwise VT are looked up)
 *   VP, vp_load(p), vp_lookup(t, v), vp_lookup_vi(t, v)   a table of 32 floats or int32, looked up by 0..31 (where
 *                             HAS_VP)
 *   vf_cell(v) -> VI          to nearest even and to 0..31 (where HAS_VP or HAS_CELLS)
 *   vi_nibbles(p, sign)       LANES packed codes as int32 (with sign != 0 in two's complement)
 *   VG, vg_make(values, kind, form, scale, zero), vg_values(g, v)    the values of codes in a group, whose scale and
 *                             zero are in all lanes
 *   VL, vl_first()            the number of a lane; vl_one(one) declares what leads to the next one, vl_next(l, one)
 *   VN, vn_of(v), vn_lane(n, l)      a vector of which single lanes are wanted, and such a lane everywhere
 *   vf_store_lanes(at, v)     stores LANES floats that will be loaded one by one
 *   vt_of_group(values, kind, scale, zero) -> VT         the values of all codes in a group
 *   vt_not_below(t, limit) -> VM                          where |a value| is not below the limit; NaN is not
 *   VH, vh_make(t, dtype)     a table as float16 or bfloat16; there are no values beyond these types, and no NaN
 *   vh_lookup_16 vh_lookup_32(t, dtype, p, dst)           so many packed codes' numbers
 *   bytes_block(v, out)       4 * LANES indices 0..15, as bytes index - 8
 *   block_clamp(v, lo, hi, &clipped) -> VI        4 vectors of codes, clamped, as bytes in some order; adds to clipped
 *                             how many were
 *   VX, vx_make(grid)         a grid's cells (where HAS_CELLS)
 *   block_cells(&cells, y, &clipped) -> VI        as block_clamp, for 4 vectors to be rounded by them
 *   block_store(bytes, out)   a block's codes as 2 * LANES bytes
 *   block_code(bytes, j, sign)    vector j of a block, as vi_nibbles gives them (where HAS_BLOCK_CODE)
 *   transpose_block(src, src_stride, dst, dst_stride)     LANES x LANES floats
 *   VD, VD_LANES, vd_load vd_store vd_set1 vd_sub vd_mul vd_fma vd_from_f32(p)      a vector of doubles; VD_TILE: four
 * times so many and two fit into the registers pack, unpack              whole kernels
 */

/* Elements before the next whole vector in memory, where loads are fastest: NumPy's arrays begin 16 bytes off, and a
 * load across two cache lines costs a third of the speed of memory. */
INLINE size_t before_aligned(const float *x)
{
    return (0 - (uintptr_t)x) / sizeof *x % LANES;
}

static TARGET int range_f32(const float *x, size_t n, float range[2])
{
    VF min = vf_set1(x[0]), max = min, zero = vf_set1(0.0f), check = zero;
    size_t i = 0;
    if (n >= 8 * LANES) {
        /* The first vector and the aligned ones after it may overlap: nothing is counted here. */
        VF first = vf_load(x), min1 = first, min2 = first, min3 = first, max1 = first, max2 = first, max3 = first;
        VF check1 = vf_fma(first, zero, check);
        for (i = before_aligned(x); i + 4 * LANES <= n; i += 4 * LANES) {
            VF a = vf_load(x + i), b = vf_load(x + i + LANES);
            VF c = vf_load(x + i + 2 * LANES), d = vf_load(x + i + 3 * LANES);
            min = vf_min(min, a), min1 = vf_min(min1, b), min2 = vf_min(min2, c), min3 = vf_min(min3, d);
            max = vf_max(max, a), max1 = vf_max(max1, b), max2 = vf_max(max2, c), max3 = vf_max(max3, d);
            /* 0 * x is 0 or, for NaN and infinity, NaN, which stays */
            check = vf_fma(a, zero, check), check1 = vf_fma(b, zero, check1);
            check = vf_fma(c, zero, check), check1 = vf_fma(d, zero, check1);
        }
        min = vf_min(vf_min(min, min1), vf_min(min2, min3));
        max = vf_max(vf_max(max, max1), vf_max(max2, max3));
        check = vf_add(check, check1);
    }
    for (; i < n; i += LANES) {
        VF v = n - i >= LANES ? vf_load(x + i) : vf_load_part(x + i, n - i, x[0]);
        min = vf_min(min, v);
        max = vf_max(max, v);
        check = vf_fma(v, zero, check);
    }
    range[0] = vf_hmin(min);
    range[1] = vf_hmax(max);
    return vm_any(vf_ne(check, check));
}

/* Fewer than LANES codes, or LANES. */
INLINE void codes_vector(const float *x, size_t n, VF middle, VF inverse, VF bias, VT next, int8_t *codes)
{
    int8_t bytes[LANES];
    VF v = n == LANES ? vf_load(x) : vf_load_part(x, n, x[0]);
    VI guess = vi_trunc(vf_fma(vf_sub(v, middle), inverse, bias));
    vi_to_i8(bytes, vi_add(vi_increment(vf_le(vt_lookup(next, guess), v), guess), vi_set1(-8)));
    memcpy(codes, bytes, n);
}

static TARGET void codes_f32(const float *x, size_t n, const struct qz_steps *steps, int8_t *codes)
{
    VF middle = vf_set1(steps->middle), inverse = vf_set1(steps->inverse), bias = vf_set1(steps->bias);
    VT next = vt_load(steps->next);
    size_t i = before_aligned(x);
    i = i < n ? i : n;
    if (i > 0)
        codes_vector(x, i, middle, inverse, bias, next, codes);
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        VI code[4];
        for (int j = 0; j < 4; j++) {
            VF v = vf_load(x + i + j * LANES);
            VI guess = vi_trunc(vf_fma(vf_sub(v, middle), inverse, bias));
            code[j] = vi_increment(vf_le(vt_lookup(next, guess), v), guess);
        }
        bytes_block(code, codes + i);
    }
    for (; i < n; i += LANES)
        codes_vector(x + i, n - i < LANES ? n - i : LANES, middle, inverse, bias, next, codes + i);
}

static TARGET int decode_f32(const int8_t *codes, size_t n, const float table[16], float *dst)
{
    VT values = vt_load(table);
    VI bad = vi_set1(0);
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        bad = bytes_strange(bad, codes + i);
        __builtin_prefetch(codes + i + 2048);
        for (int j = 0; j < 4; j++)
            vf_store(dst + i + j * LANES, vt_lookup(values, vi_from_i8(codes + i + j * LANES)));
    }
    int8_t last[4 * LANES] = {0};
    memcpy(last, codes + i, n - i);
    bad = bytes_strange(bad, last);
    for (int j = 0; i < n; j++, i += LANES) {
        VF v = vt_lookup(values, vi_from_i8(last + j * LANES));
        if (n - i >= LANES)
            vf_store(dst + i, v);
        else
            vf_store_part(dst + i, n - i, v);
    }
    return vi_any(bad);
}

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

static TARGET int group_range(const float *x, size_t n, size_t group_size, float *min, float *max)
{
    VF check = vf_set1(0.0f), zero = check;
    const float *next = fetched_by_range(x);
    size_t i = 0, g = 0;
    if (group_size % LANES == 0)
        for (; n - i >= LANES * group_size; i += LANES * group_size, g += LANES) {
            VF low, high;
            next = fetch(next, LANES * group_size / 4);
            vf_reduce(x + i, group_size, &low, &high, &check);
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

/* One vector of groups. The branches depend on the rule alone; the caller makes them constants. */
INLINE void fit_vector(const struct qz_fit *rule, qz_method method, qz_zero kind, qz_dtype dtype, VF lo, VF hi,
                       VF *scale, VF *inverse, VF *zero, VM *tie, VM *tiny, VM *huge)
{
    VF none = vf_set1(0.0f), s, minus_lo = vf_neg(lo);
    VM beyond = vm_none();
    if (method == QZ_ABSMAX) {
        VF least = rule->positive ? minus_lo : lo;
        s = vf_div(vf_select(vf_lt(minus_lo, hi), hi, least), vf_set1(rule->end));
        if (!rule->positive)
            *tie = vm_and(vf_eq(hi, minus_lo), vf_ne(hi, none));
    } else if (kind == QZ_ZERO_OFFSET) {
        VF offset = fit_stored(vf_add(lo, none), dtype), half = vf_mul(offset, vf_set1(0.5f));
        VF above = vf_sub(vf_mul(hi, vf_set1(0.5f)), half), below = vf_sub(vf_mul(lo, vf_set1(0.5f)), half);
        s = vf_div(vf_select(vf_le(vf_abs(below), vf_abs(above)), above, below), vf_set1(7.5f));
        *zero = offset;
        beyond = vf_lt(vf_set1(0x1p126f), vf_abs(offset));
    } else {
        lo = vf_select(vf_lt(lo, none), lo, none);
        hi = vf_select(vf_lt(none, hi), hi, none);
        s = vf_div(vf_sub(vf_mul(hi, vf_set1(0.5f)), vf_mul(lo, vf_set1(0.5f))), vf_set1(7.5f));
    }
    s = vf_add(fit_stored(s, dtype), none);
    VF magnitude = vf_abs(s);
    beyond = vm_or(beyond, vm_or(vf_lt(vf_set1(0x1p120f), magnitude), vf_ne(magnitude, magnitude)));
    *scale = s;
    *inverse = vf_select(vf_le(vf_set1(FLT_MIN), magnitude), vf_div(vf_set1(1.0f), s), none);
    *inverse = vf_select(beyond, none, *inverse);
    VM some = vm_or(vf_ne(lo, none), vf_ne(hi, none)); /* not all zeros */
    *tiny = vm_or(*tiny, vm_and(some, vf_lt(magnitude, vf_set1(dtype == QZ_F16 ? 0x1p-14f : FLT_MIN))));
    *huge = vm_or(*huge, beyond);
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

static TARGET unsigned fit(const struct qz_fit *rule, size_t groups, const float *min, const float *max, float *scale,
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

INLINE VS vs_make(const struct qz_grid *grid)
{
    float upper[16 + 4] = {0}; /* what is past the end is never looked up */
    memcpy(upper, grid->upper, sizeof grid->upper);
    return (VS){vf_set1(upper[7]),
                vt_load(upper + 3),
                vt_load(upper + 1),
                vt_load(upper),
                vt_load((const float *)(const void *)grid->code),
#ifdef HAS_CELLS
                grid->cells,
                vx_make(grid)
#endif
    };
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

/* Blocks of four vectors; `vectors` is how many make a group, a constant where speed matters. `next` is fetched on the
 * way. */
INLINE size_t code_blocks(const float *x, const float *next, size_t blocks, size_t vectors, qz_zero kind, int form,
                          const struct qz_grid *grid, const VS *search, const float *inverse, const float *zero,
                          uint8_t *packed)
{
    int lo = grid->lo, hi = grid->hi;
    size_t clipped = 0;
    for (size_t b = 0, v = 0; b < blocks; b++, v += 4) {
        VF y[4];
        VI code[4];
        next = fetch(next, 3 * LANES);
        for (size_t j = 0; j < 4; j++) {
            size_t g = (v + j) / vectors;
            VF z = vf_set1(kind == QZ_ZERO_NONE ? 0.0f : zero[g]);
            y[j] = group_steps(vf_load(x + (v + j) * LANES), kind, vf_set1(inverse[g]), z);
            if (form != QZ_ANY_VALUES)
                code[j] = uniform_code(y[j], kind, z);
        }
        block_store(form == QZ_ANY_VALUES ? block_values(grid, search, y, &clipped)
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
            clipped += code_blocks(x + done, next + done / 4 * 3, blocks, SIZE_MAX, kind, form, grid, &search,
                                   inverse + g, kind == QZ_ZERO_NONE ? zero : zero + g, packed + done / 2);
            done += blocks * 4 * LANES;
        }
    } else if (group_size % LANES == 0) {
        size_t blocks = n / (4 * LANES);
        if (group_size == LANES)
            clipped = code_blocks(x, next, blocks, 1, kind, form, grid, &search, inverse, zero, packed);
        else if (group_size == 2 * LANES)
            clipped = code_blocks(x, next, blocks, 2, kind, form, grid, &search, inverse, zero, packed);
        else if (group_size == 4 * LANES)
            clipped = code_blocks(x, next, blocks, 4, kind, form, grid, &search, inverse, zero, packed);
        else if (group_size == 8 * LANES)
            clipped = code_blocks(x, next, blocks, 8, kind, form, grid, &search, inverse, zero, packed);
        else
            clipped =
                code_blocks(x, next, blocks, group_size / LANES, kind, form, grid, &search, inverse, zero, packed);
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

static TARGET double weighted_error(const float *x, const float *y, const float *w, size_t n)
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
            VD difference = vd_sub(vd_from_f32(x + at), vd_from_f32(y + at));
            sum[v] = vd_fma(vd_from_f32(w + at), vd_mul(difference, difference), sum[v]);
        }
    for (size_t v = 0; v < VECTORS; v++)
        vd_store(lane + v * VD_LANES, sum[v]);
    for (size_t l = 0; i + l < n; l++)
        lane[l] = qz_weighted_square(x[i + l], y[i + l], w[i + l], lane[l]);
    return qz_weighted_lanes(lane);
}

static TARGET void f32_from_f16(const uint16_t *src, size_t n, float *dst)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store(dst + i, vf_from_f16(src + i));
    if (i < n) {
        uint16_t last[LANES] = {0};
        memcpy(last, src + i, (n - i) * sizeof *src);
        vf_store_part(dst + i, n - i, vf_from_f16(last));
    }
}

static TARGET void f32_from_bf16(const uint16_t *src, size_t n, float *dst)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store(dst + i, vf_from_bf16(src + i));
    if (i < n) {
        uint16_t last[LANES] = {0};
        memcpy(last, src + i, (n - i) * sizeof *src);
        vf_store_part(dst + i, n - i, vf_from_bf16(last));
    }
}

static TARGET int f32_from_f64(const double *src, size_t n, float *dst)
{
    VF check = vf_set1(0.0f), zero = check;
    int bad = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        VF v = vf_from_f64(src + i);
        vf_store(dst + i, v);
        check = vf_fma(v, zero, check);
    }
    for (; i < n; i++) {
        dst[i] = (float)src[i];
        bad |= !qz_is_finite(dst[i]);
    }
    return bad | vm_any(vf_ne(check, check));
}

static TARGET void f16_from_f32(const float *src, size_t n, uint16_t *dst)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_to_f16(dst + i, vf_load(src + i));
    if (i < n) {
        uint16_t last[LANES];
        vf_to_f16(last, vf_load_part(src + i, n - i, 0.0f));
        memcpy(dst + i, last, (n - i) * sizeof *dst);
    }
}

static TARGET void bf16_from_f32(const float *src, size_t n, uint16_t *dst)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_to_bf16(dst + i, vf_load(src + i));
    if (i < n) {
        uint16_t last[LANES];
        vf_to_bf16(last, vf_load_part(src + i, n - i, 0.0f));
        memcpy(dst + i, last, (n - i) * sizeof *dst);
    }
}

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

#include "byte_scales_template.h"

#include "stored_template.h"

#include "columns_template.h"

#include "search_template.h"

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
