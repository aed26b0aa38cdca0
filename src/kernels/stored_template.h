/*
 * stored_template.h - decodes from scales as they are stored; part of simd_template.h
 *
 * The scales of LANES groups are converted to a vector while the values of the groups before them are made. Most scales
 * stay in registers. The speed of decoding is limited by the number of cache lines that are read and written.
 */

/* Numbers of groups that are read a vector at a time. */
typedef struct {
    int type; /* a qz_dtype, or one of those below */
    const uint8_t *from;
    const float *super; /* types of a byte: what the next group's number is multiplied with, and `left` in all */
    size_t each, left;
    float shift; /* STORED_SHIFTS */
} numbers;

enum {
    STORED_ANY = 256, /* any of all these */
    STORED_UINT4,     /* zeros of four bits */
    STORED_SHIFTS     /* of QZ_I7: the zeros that its lowest bits mean */
};

INLINE numbers scales_of(const struct qz_stored *stored)
{
    return (numbers){(int)stored->dtype, stored->scale, stored->super, stored->each, stored->first, 0.0f};
}

INLINE numbers zeros_of(const struct qz_stored *stored, const struct qz_grid *grid)
{
    if (stored->dtype == QZ_I7)
        return (numbers){STORED_SHIFTS, stored->scale, stored->super, stored->each, stored->first, grid->shift};
    int type = grid->zero == QZ_ZERO_UINT4 ? STORED_UINT4 : (int)stored->dtype;
    return (numbers){type, stored->zero, stored->super_zero, stored->each, stored->first, 0.0f};
}

/* Super scales of the next `count` groups. */
INLINE void next_few_supers(numbers *n, size_t count, float *super)
{
    for (size_t k = 0; k < count; k++) {
        super[k] = *n->super;
        if (--n->left == 0) {
            n->super++;
            n->left = n->each;
        }
    }
}

/* LANES of them, not all the same one. */
static TARGET __attribute__((noinline)) VF next_mixed_supers(numbers *n)
{
    float few[LANES];
    next_few_supers(n, LANES, few);
    return vf_load(few);
}

INLINE VF next_supers(numbers *n)
{
    VF super;
    if (n->each == SIZE_MAX)
        return vf_set1(*n->super);
#if LANES == 16
    if (n->each == LANES / 2 && n->left == LANES / 2) {
        n->super += 2;
        return vf_halves(n->super[-2], n->super[-1]);
    }
#endif
    if (n->left < LANES)
        return next_mixed_supers(n);
    super = vf_set1(*n->super);
    n->left -= LANES;
    if (n->left == 0) {
        n->super++;
        n->left = n->each;
    }
    return super;
}

INLINE VF next_of_type(numbers *n, int type)
{
    static const float integers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const uint8_t *from = n->from;
    n->from += LANES;
    switch (type) {
    case QZ_F32:
        n->from += 3 * LANES;
        return vf_load((const float *)(const void *)from);
    case QZ_F16:
        n->from += LANES;
        return vf_from_f16((const uint16_t *)(const void *)from);
    case QZ_BF16:
        n->from += LANES;
        return vf_from_bf16((const uint16_t *)(const void *)from);
    case STORED_UINT4:
        n->from -= LANES / 2;
        return vt_lookup(vt_load(integers), vi_nibbles(from, 0));
    case STORED_SHIFTS:
        return shifts_of_bytes(from, n->shift);
    default:
        return vf_mul(numbers_of_bytes((qz_dtype)type, from), next_supers(n));
    }
}

/* The same for any type, not inline, so that one loop over groups will do for most of them. */
static TARGET __attribute__((noinline)) VF next_of_any_type(numbers *n)
{
    return next_of_type(n, n->type);
}

INLINE VF next_numbers(numbers *n, int type)
{
    return type == STORED_ANY ? next_of_any_type(n) : next_of_type(n, type);
}

enum { STORED_FEW = 256 };

/* The next few of a type of a byte. */
INLINE void next_few_bytes(numbers *n, qz_dtype dtype, size_t count, float *scale, float *zero)
{
    float super[STORED_FEW];
    if (n->left == n->each) {
        byte_scales(dtype, n->from, count, n->super, n->each, n->shift, scale, zero);
        if (n->each != SIZE_MAX) {
            n->super += count / n->each;
            n->left -= count % n->each;
        }
    } else {
        next_few_supers(n, count, super);
        byte_scales(dtype, n->from, count, super, 1, n->shift, scale, zero);
    }
    n->from += count;
}

/* The next few; their number is even, but for the last ones. */
static TARGET void next_few(numbers *n, size_t count, float *dst)
{
    float other[STORED_FEW];
    size_t size = n->type == QZ_F32 ? 4 : 2, k = 0;
    switch (n->type) {
    case QZ_F32: /* without memcpy, which for so few would be slow */
        for (; k + LANES <= count; k += LANES)
            vf_store(dst + k, vf_load((const float *)(const void *)n->from + k));
        if (k < count)
            vf_store_part(dst + k, count - k, vf_load_part((const float *)(const void *)n->from + k, count - k, 0.0f));
        break;
    case QZ_F16:
        f32_from_f16((const uint16_t *)(const void *)n->from, count, dst);
        break;
    case QZ_BF16:
        f32_from_bf16((const uint16_t *)(const void *)n->from, count, dst);
        break;
    case STORED_UINT4:
        for (; k < count; k++)
            dst[k] = (float)(n->from[k / 2] >> (k % 2 * 4) & 15);
        n->from += count / 2;
        return;
    case STORED_SHIFTS:
        next_few_bytes(n, QZ_I7, count, other, dst);
        return;
    default:
        next_few_bytes(n, (qz_dtype)n->type, count, dst, other);
        return;
    }
    n->from += count * size;
}

/*
 * Blocks of LANES groups of `vectors` vectors. No more than 8 or 16 stores are in the inner loop: hardware fetches the
 * lines that each instruction will write, but only where it does not stride further (AMD Zen 5: with 32 stores, 2 KiB,
 * it took half as long again). Others fetch late (Intel Emerald Rapids: to a matrix in the second-level cache it took a
 * twentieth longer, with AVX2 a ninth), so the lines that are written a little later are asked for. The shortest groups
 * need more shuffles than there is time for: half of their scales are loaded.
 */
enum { WRITE_AHEAD = 512 }; /* floats */

INLINE void stored_blocks(const uint8_t *packed, size_t blocks, size_t vectors, qz_zero kind, int form, int type,
                          const struct qz_grid *grid, numbers *scales, numbers *zeros, float *dst)
{
    const size_t step = vectors < 8 ? 8 / vectors : 1;
    const int stored_too = LANES == 16 && vectors == 1;
    const int zero_type = type == QZ_I7 ? STORED_SHIFTS : type;
    VT values = vt_load(grid->value);
    vl_one(one);
    VF scale = next_numbers(scales, type), zero = kind == QZ_ZERO_NONE ? scale : next_numbers(zeros, zero_type);
    for (size_t b = 0; b < blocks; b++) {
        VN s = vn_of(scale), z = vn_of(zero);
        float at[LANES];
        if (stored_too)
            vf_store_lanes(at, scale);
        VL lane = vl_first();
        if (b + 1 < blocks) {
            scale = next_numbers(scales, type);
            if (kind != QZ_ZERO_NONE)
                zero = next_numbers(zeros, zero_type);
        }
#pragma GCC unroll 1
        for (size_t g = 0; g < LANES; g += step) {
#pragma GCC unroll 8
            for (size_t k = 0; k < step; k++) {
                VF own = stored_too && k % 2 ? vf_set1(at[g + k]) : vn_lane(s, lane);
                VG group = vg_make(values, kind, form, own, vn_lane(z, lane));
#pragma GCC unroll 16
                for (size_t j = 0; j < vectors; j++) {
                    VI code = vi_nibbles(packed + (k * vectors + j) * (LANES / 2), form == QZ_SIGNED);
                    if (j * LANES % LINE == 0)
                        __builtin_prefetch(dst + (k * vectors + j) * LANES + WRITE_AHEAD, 1);
                    vf_store(dst + (k * vectors + j) * LANES, vg_values(group, code));
                }
                lane = vl_next(lane, one);
            }
            packed += step * vectors * (LANES / 2);
            dst += step * vectors * LANES;
        }
    }
}

/* Groups from `done` on: a few at a time. */
static TARGET __attribute__((noinline)) void stored_rest(const uint8_t *packed, size_t done, size_t groups,
                                                         size_t group_size, const struct qz_grid *grid, numbers *scales,
                                                         numbers *zeros, float *dst)
{
    float scale[STORED_FEW], zero[STORED_FEW];
    for (size_t count; done < groups; done += count) {
        size_t i = done * group_size;
        count = groups - done < STORED_FEW ? groups - done : STORED_FEW;
        next_few(scales, count, scale);
        if (grid->zero != QZ_ZERO_NONE)
            next_few(zeros, count, zero);
        group_decode(packed + i / 2, count * group_size, group_size, grid, scale,
                     grid->zero == QZ_ZERO_NONE ? scale : zero, dst + i);
    }
}

INLINE void stored_kind(const uint8_t *packed, size_t groups, size_t group_size, qz_zero kind, int form,
                        const struct qz_grid *grid, const struct qz_stored *stored, float *dst)
{
    numbers scales = scales_of(stored), zeros = zeros_of(stored, grid);
    size_t blocks = groups / LANES, done = blocks * LANES;
    int any = form == QZ_ANY_VALUES;
#define BLOCKS(size, type) stored_blocks(packed, blocks, (size) / LANES, kind, form, type, grid, &scales, &zeros, dst)
    if (blocks == 0)
        ;
    /* Formats that are worth a loop of their own, which does not call for each vector of scales. */
    else if (LANES == 16 && kind == QZ_ZERO_NONE && any && stored->dtype == QZ_E4M3 && group_size == 16) /* NVFP4 */
        BLOCKS(16, QZ_E4M3);
    else if (kind == QZ_ZERO_OFFSET && !any && stored->dtype == QZ_U6 && group_size == 32) /* Q4_K */
        BLOCKS(32, QZ_U6);
    else if (kind == QZ_ZERO_FLOAT && any && stored->dtype == QZ_I7 && group_size == 32) /* dual4 */
        BLOCKS(32, QZ_I7);
    else if (LANES == 16 && group_size == 16)
        BLOCKS(16, STORED_ANY);
    else if (group_size == 32)
        BLOCKS(32, STORED_ANY);
    else if (group_size == 64)
        BLOCKS(64, STORED_ANY);
    else if (group_size == 128)
        BLOCKS(128, STORED_ANY);
    else
        done = 0;
#undef BLOCKS
    if (done < groups)
        stored_rest(packed, done, groups, group_size, grid, &scales, &zeros, dst);
}

/*
 * Narrow types: the 16 values of a group are rounded, once, and what is looked up are bits. Values that have no rounded
 * one, and NaN, which would need care, are left to who called.
 */
INLINE VM narrow_groups(const uint8_t *packed, size_t groups, size_t group_size, qz_zero kind, qz_dtype dtype,
                        VT values, const float *scale, const float *zero, uint16_t *dst)
{
    const VF limit = vf_set1(dtype == QZ_F16 ? QZ_F16_BEYOND : QZ_BF16_BEYOND);
    VM beyond = vm_none();
    for (size_t g = 0; g < groups; g++, packed += group_size / 2, dst += group_size) {
        VT table = vt_of_group(values, kind, vf_set1(scale[g]), vf_set1(kind == QZ_ZERO_NONE ? 0.0f : zero[g]));
        VH halves = vh_make(table, dtype);
        size_t i = 0;
        beyond = vm_or(beyond, vt_not_below(table, limit));
        for (; i + 32 <= group_size; i += 32)
            vh_lookup_32(halves, dtype, packed + i / 2, dst + i);
        if (i < group_size)
            vh_lookup_16(halves, dtype, packed + i / 2, dst + i);
    }
    return beyond;
}

INLINE int narrow_kind(const uint8_t *packed, size_t groups, size_t group_size, qz_zero kind, qz_dtype dtype,
                       const struct qz_grid *grid, const struct qz_stored *stored, uint16_t *dst)
{
    numbers scales = scales_of(stored), zeros = zeros_of(stored, grid);
    VT values = vt_load(grid->value);
    VM beyond = vm_none();
    float scale[STORED_FEW], zero[STORED_FEW];
    for (size_t done = 0, count; done < groups;
         done += count, packed += count * group_size / 2, dst += count * group_size) {
        count = groups - done < STORED_FEW ? groups - done : STORED_FEW;
        next_few(&scales, count, scale);
        if (kind != QZ_ZERO_NONE)
            next_few(&zeros, count, zero);
        beyond =
            vm_or(beyond, group_size == 16 ? narrow_groups(packed, count, 16, kind, dtype, values, scale, zero, dst)
                          : group_size == 32
                              ? narrow_groups(packed, count, 32, kind, dtype, values, scale, zero, dst)
                              : narrow_groups(packed, count, group_size, kind, dtype, values, scale, zero, dst));
    }
    return vm_any(beyond);
}

static TARGET int narrow_decode(const uint8_t *packed, size_t groups, size_t group_size, const struct qz_grid *grid,
                                const struct qz_stored *stored, qz_dtype dtype, uint16_t *dst)
{
#define NARROW(kind)                                                                                                   \
    (dtype == QZ_F16 ? narrow_kind(packed, groups, group_size, kind, QZ_F16, grid, stored, dst)                        \
                     : narrow_kind(packed, groups, group_size, kind, QZ_BF16, grid, stored, dst))
    switch (grid->zero) {
    case QZ_ZERO_NONE:
        return NARROW(QZ_ZERO_NONE);
    case QZ_ZERO_OFFSET:
        return NARROW(QZ_ZERO_OFFSET);
    default: /* what follows from them is the same for all zeros */
        return NARROW(QZ_ZERO_FLOAT);
    }
#undef NARROW
}

static TARGET int stored_decode(const uint8_t *packed, size_t groups, size_t group_size, const struct qz_grid *grid,
                                const struct qz_stored *stored, qz_dtype dtype, void *dst)
{
    if (dtype != QZ_F32)
        return narrow_decode(packed, groups, group_size, grid, stored, dtype, dst);
#define CALL(kind, form)                                                                                               \
    {                                                                                                                  \
        stored_kind(packed, groups, group_size, kind, form, grid, stored, dst);                                        \
        return 0;                                                                                                      \
    }
    OF_GRID(grid, CALL)
#undef CALL
}
