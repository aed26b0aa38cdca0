/*
 * encode_template.h - ranges, scales and codes of groups in one pass; part of simd_template.h
 *
 * Of LANES groups each step waits for the one before: their ranges for the last of the values, the inverse of a scale for
 * a division or two, the codes for that. Out-of-order execution does not reach far enough to fill this time, so the codes
 * of some groups are made after the ranges and scales of those that follow have begun. (Intel Emerald Rapids, AVX-512,
 * int4 in groups of 32: 13 % fewer cycles than by the three kernels, each for 4,096 values.)
 */

/* Numbers of groups from g on. */
INLINE struct qz_numbers numbers_from(const struct qz_numbers *numbers, qz_zero kind, size_t g)
{
    return (struct qz_numbers){numbers->min + g, numbers->max + g, numbers->scale + g, numbers->inverse + g,
                               kind == QZ_ZERO_NONE ? numbers->zero : numbers->zero + g};
}

/* Numbers of LANES groups; nonzero if something is special about them. */
static TARGET __attribute__((noinline)) int fit_block(const struct qz_fit *rule, const float *x, size_t group_size,
                                                      const struct qz_numbers *to)
{
    VF low, high, check = vf_set1(0.0f);
    if (group_size == 2 * LANES) /* the same with loops that the compiler can unroll */
        reduce_groups(x, 2 * LANES, &low, &high, &check);
    else if (group_size == 4 * LANES)
        reduce_groups(x, 4 * LANES, &low, &high, &check);
    else
        reduce_groups(x, group_size, &low, &high, &check);
    vf_store(to->min, low);
    vf_store(to->max, high);
    unsigned flags = fit_lanes(rule, to->min, to->max, to->scale, to->inverse, to->zero);
    if (flags & QZ_FIT_TIE) {
        qz_break_ties(x, LANES * group_size, group_size, to->min, to->max);
        flags = fit_lanes(rule, to->min, to->max, to->scale, to->inverse, to->zero);
    }
    return flags != 0 || vm_any(vf_ne(check, check));
}

/* Codes of LANES groups. Symmetric ones follow from scales by which the largest magnitude becomes the farther end, 8
 * or 7: to 2^-9, by which scales of the coarsest type are off, none is below it. */
INLINE void encode_block(const float *x, size_t group_size, qz_zero kind, int form, const struct qz_grid *grid,
                         const VS *search, const struct qz_numbers *from, uint8_t *packed)
{
    const int capped = kind == QZ_ZERO_NONE;
    if (group_size == 2 * LANES)
        code_blocks(x, x + FETCH_AHEAD, 4, LANES / 2, 2, capped, kind, form, grid, search, from->inverse, from->zero,
                    packed);
    else
        for (size_t g = 0; g < LANES; g++, x += group_size, packed += group_size / 2)
            code_blocks(x, x + FETCH_AHEAD, 4, group_size / (4 * LANES), SIZE_MAX, capped, kind, form, grid, search,
                        from->inverse + g, kind == QZ_ZERO_NONE ? from->zero : from->zero + g, packed);
}

enum { AT_ONCE = 2 }; /* with one, zeros, which take yet longer, cost uint4 7 % */

/* `blocks` times LANES groups of a size that is 2 * LANES or a multiple of 4 * LANES: the numbers of AT_ONCE blocks are
 * begun, then codes of those before are made. */
INLINE int encode_blocks(const struct qz_fit *rule, const float *x, size_t blocks, size_t group_size, qz_zero kind,
                         int form, const struct qz_grid *grid, const struct qz_numbers *to, uint8_t *packed)
{
    const VS search = vs_make(grid);
    const size_t step = LANES * group_size;
    struct qz_numbers fitted = *to, coded = *to;
    int special = 0;
    for (size_t done = 0, next = 0, begun; done < blocks && !special;) {
        begun = next;
        for (; next < blocks && next < begun + AT_ONCE; next++, fitted = numbers_from(&fitted, kind, LANES))
            special |= fit_block(rule, x + next * step, group_size, &fitted);
        for (; done < begun; done++, coded = numbers_from(&coded, kind, LANES))
            encode_block(x + done * step, group_size, kind, form, grid, &search, &coded, packed + done * (step / 2));
    }
    return special;
}

/* Groups of any size, one kernel after another. */
static TARGET __attribute__((noinline)) int encode_pieces(const struct qz_fit *rule, const struct qz_grid *grid,
                                                          const float *x, size_t n, size_t group_size,
                                                          const struct qz_numbers *to, uint8_t *packed)
{
    const size_t pair = 2 * group_size, most = pair > QZ_TILE ? QZ_TILE : QZ_TILE / pair * pair;
    struct qz_numbers own = *to;
    for (size_t some; n > 0; n -= some, x += some, packed += some / 2) {
        some = n < most ? n : most;
        const size_t groups = (some - 1) / group_size + 1;
        if (group_range(x, some, group_size, own.min, own.max))
            return 1;
        unsigned flags = fit(rule, groups, own.min, own.max, own.scale, own.inverse, own.zero);
        if (flags & QZ_FIT_TIE) {
            qz_break_ties(x, some, group_size, own.min, own.max);
            flags = fit(rule, groups, own.min, own.max, own.scale, own.inverse, own.zero);
        }
        if (flags)
            return 1;
        group_codes(x, some, group_size, grid, own.inverse, own.zero, packed);
        own = numbers_from(&own, grid->zero, groups);
    }
    return 0;
}

INLINE int encode_kind(const struct qz_fit *rule, qz_zero kind, int form, const struct qz_grid *grid, const float *x,
                       size_t n, size_t group_size, const struct qz_numbers *to, uint8_t *packed)
{
    const int fits = group_size == 2 * LANES || group_size % (4 * LANES) == 0;
    const size_t blocks = fits ? n / group_size / LANES : 0, done = blocks * LANES * group_size;
    const struct qz_numbers rest = numbers_from(to, kind, blocks * LANES);
    int special = 0;
    if (blocks && group_size == 2 * LANES)
        special = encode_blocks(rule, x, blocks, 2 * LANES, kind, form, grid, to, packed);
    else if (blocks)
        special = encode_blocks(rule, x, blocks, group_size, kind, form, grid, to, packed);
    return special ? 1 : encode_pieces(rule, grid, x + done, n - done, group_size, &rest, packed + done / 2);
}

static TARGET int group_encode(const struct qz_fit *rule, const struct qz_grid *grid, const float *x, size_t n,
                               size_t group_size, const struct qz_numbers *to, uint8_t *packed)
{
#define CALL(kind, form) return encode_kind(rule, kind, form, grid, x, n, group_size, to, packed)
    OF_GRID(grid, CALL)
#undef CALL
}
