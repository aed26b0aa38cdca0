/*
 * search_template.h - the search for scales with vectors; part of simd_template.h
 *
 * A lane is a group. search_scalar.h says what is computed.
 */

/* n is a constant where speed matters. */
INLINE void interleave_groups(const float *x, size_t n, float *to)
{
    size_t whole = n - n % LANES;
    for (size_t l = 0; l < QZ_BLOCK; l += LANES)
        for (size_t k = 0; k < whole; k += LANES)
            transpose_block(x + l * n + k, (ptrdiff_t)n, to + QZ_BLOCK * k + l, QZ_BLOCK);
    for (size_t k = whole; k < n; k++)
        for (size_t l = 0; l < QZ_BLOCK; l++)
            to[QZ_BLOCK * k + l] = x[l * n + k];
}

static TARGET void interleave(const float *x, size_t n, float *to)
{
#define CALL(size) interleave_groups(x, size, to)
    OF_SIZE(n, CALL);
#undef CALL
}

INLINE VF nearest_float8(struct qz_float8 type, VF v)
{
    const VF least = vf_set1(qz_float_power(1 - (int)type.bias)), most = vf_set1(type.most), none = vf_set1(0.0f);
    const VF step = vf_set1(qz_float_power(-(int)type.mantissa));
    VF magnitude = vf_abs(v), unit = vf_power(magnitude);
    unit = vf_select(vf_lt(least, unit), unit, least);
    magnitude =
        vf_mul(vf_rint(vf_mul(magnitude, vf_ratio(qz_float_power((int)type.mantissa), unit))), vf_mul(unit, step));
    magnitude = vf_select(vf_lt(magnitude, most), magnitude, most);
    return vf_select(vf_lt(v, none), type.sign ? vf_neg(magnitude) : none, magnitude);
}

INLINE VM ordinary(VF v)
{
    return vm_and(vf_le(vf_set1(FLT_MIN), v), vf_le(v, vf_set1(0x1p120f)));
}

INLINE VF inverse_of(VF v)
{
    return vf_select(ordinary(vf_abs(v)), vf_div(vf_set1(1.0f), v), vf_set1(0.0f));
}

/* How the nearest value is found: by rounding; from a table by bisection, index = 8 a + 4 b + 2 c + d, or, where a set
 * can look up 32 numbers (HAS_VP), by its cells. */
enum { BY_ROUNDING, BY_BISECTION, BY_CELLS };

struct search_levels {
    VF lo, hi; /* uniform */
#ifdef HAS_VB
    VB bisection;
#else
    VF middle, quarter[2];         /* upper[7], upper[3] and upper[11] */
    VT eighths, sixteenths, value; /* lane i: upper[i + 1], upper[i], value[i] */
#endif
#ifdef HAS_VP
    VF cell_most, cell_factor;
    VP cell_upper, cell_first;
#endif
};

INLINE struct search_levels search_levels(const struct qz_search *rule, int set)
{
    const float *upper = rule->upper[set];
#ifdef HAS_VB
    return (struct search_levels){
        .lo = vf_set1(rule->lo), .hi = vf_set1(rule->hi), .bisection = vb_make(upper, rule->value[set])};
#else
    float moved[16] = {0};
    memcpy(moved, upper + 1, 15 * sizeof *upper);
    return (struct search_levels){.lo = vf_set1(rule->lo),
                                  .hi = vf_set1(rule->hi),
                                  .middle = vf_set1(upper[7]),
                                  .quarter = {vf_set1(upper[3]), vf_set1(upper[11])},
                                  .eighths = vt_load(moved),
                                  .sixteenths = vt_load(upper),
#ifdef HAS_VP
                                  .cell_most = vf_set1(rule->cell_most[set]),
                                  .cell_factor = vf_set1(rule->cell_factor[set]),
                                  .cell_upper = vp_load(rule->cell_upper[set]),
                                  .cell_first = vp_load((const float *)(const void *)rule->cell_first[set]),
#endif
                                  .value = vt_load(rule->value[set])};
#endif
}

/* Candidates are worked on a few at a time, step by step together, so that one does not wait for another. Their number
 * `count` is a constant: 2, 3 or 4. */
#ifdef __clang__
/* Up to version 14 it would keep these arrays in memory otherwise, and take twice as long. It warns of loops that it has
 * left out altogether. */
#pragma clang diagnostic ignored "-Wpass-failed"
#define EACH _Pragma("clang loop unroll(full)") for (size_t j = 0; j < count; j++)
#else
#define EACH _Pragma("GCC unroll 4") for (size_t j = 0; j < count; j++)
#endif

INLINE void nearest_values(const struct search_levels *levels, int how, size_t count, VF x, const VF inverse[4],
                           VF value[4])
{
    VF y[4];
    EACH y[j] = vf_mul(x, inverse[j]);
    if (how == BY_ROUNDING) {
        EACH y[j] = vf_between(y[j], levels->lo, levels->hi);
        EACH value[j] = vf_rint(y[j]);
        return;
    }
#ifdef HAS_VB
    EACH value[j] = vb_nearest(&levels->bisection, y[j]);
#else
    VF next[4];
    VI index[4];
#ifdef HAS_VP
    if (how == BY_CELLS) {
        EACH index[j] = vp_cell(y[j], levels->cell_most, levels->cell_factor);
        EACH next[j] = vp_lookup(levels->cell_upper, index[j]);
        EACH index[j] = vp_lookup_vi(levels->cell_first, index[j]);
        EACH index[j] = vi_increment(vf_le(next[j], y[j]), index[j]);
        EACH value[j] = vt_lookup(levels->value, index[j]);
        return;
    }
#endif
    EACH
    {
        VM above = vf_le(levels->middle, y[j]);
        index[j] = vi_add_where(above, vi_set1(0), 8);
        next[j] = vf_select(above, levels->quarter[1], levels->quarter[0]);
    }
    EACH index[j] = vi_add_where(vf_le(next[j], y[j]), index[j], 4);
    EACH next[j] = vt_lookup(levels->eighths, index[j]);
    EACH index[j] = vi_add_where(vf_le(next[j], y[j]), index[j], 2);
    EACH next[j] = vt_lookup(levels->sixteenths, index[j]);
    EACH index[j] = vi_add_where(vf_le(next[j], y[j]), index[j], 1);
    EACH value[j] = vt_lookup(levels->value, index[j]);
#endif
}

/* LANES groups; weight is NULL or not as a constant. */
struct search_lanes {
    const float *v, *weight;
    size_t n;
    VF unit, unit_inverse, super, first, first_inverse; /* super: 0 if it is not ordinary */
    VF least, most;                                     /* integers that scales are multiples of */
    VF as_stored[2]; /* inverses of the first scale as stored, and of the other one */
    VF best_gain, best, other_gain, other, energy;
    VM second;
};

/* A scale as stored; integers of any range are QZ_I6. */
INLINE VF stored_scale(VF s, qz_dtype dtype, const struct search_lanes *lanes)
{
    VF none = vf_set1(0.0f);
    switch (dtype) {
    case QZ_F32:
    case QZ_F16:
    case QZ_BF16:
        return vf_mul(fit_stored(vf_mul(s, lanes->unit), dtype), lanes->unit_inverse);
    case QZ_E8M0:
        return vf_mul(vf_power(vf_mul(vf_mul(s, lanes->unit), vf_set1(0x1.6a09e6p+0f))), lanes->unit_inverse);
    default:
        s = vf_select(vf_lt(none, lanes->super), vf_div(s, lanes->super), none);
        s = qz_is_float8(dtype) ? nearest_float8(qz_float8_of(dtype), s)
                                : vf_between(vf_rint(s), lanes->least, lanes->most);
        return vf_mul(s, lanes->super);
    }
}

/* Several scales as stored. */
INLINE void stored_scales(qz_dtype dtype, const struct search_lanes *lanes, size_t count, VF s[4])
{
#define STORED(type)                                                                                                   \
    case type:                                                                                                         \
        EACH s[j] = stored_scale(s[j], type, lanes);                                                                   \
        break;
    switch (dtype) { /* constants from here on */
        STORED(QZ_F16)
        STORED(QZ_BF16)
        STORED(QZ_E8M0)
        STORED(QZ_F32)
#define FLOAT8(type, ...) STORED(type)
        QZ_FLOAT8_TYPES(FLOAT8)
    default:
        EACH s[j] = stored_scale(s[j], QZ_I6, lanes);
    }
#undef FLOAT8
#undef STORED
}

/* Candidates c to c + count - 1, or the last one again where there is no other: it gains no more. The pass over the
 * first ones also sums what there is to gain: `first` is a constant. */
INLINE void try_candidates(const struct qz_search *rule, const struct search_levels *levels, int how, int weighted,
                           int first, size_t c, size_t count, size_t end, int set, struct search_lanes *lanes)
{
    const VF none = vf_set1(0.0f);
    VF inverse[4], s[4], xq[4], qq[4], energy = none;
    EACH
    {
        size_t i = c + j < end ? c + j : end - 1;
        VF factor = vf_set1(rule->factor[i]);
        inverse[j] = i < rule->as_stored ? lanes->as_stored[i] : vf_mul(lanes->first_inverse, factor);
        s[j] = rule->refit ? factor : vf_div(lanes->first, factor);
        xq[j] = qq[j] = none;
    }
    if (!rule->refit) {
        stored_scales(rule->scale_dtype, lanes, count, s);
        EACH inverse[j] = inverse_of(s[j]);
    }
    for (size_t k = 0; k < lanes->n; k++) {
        VF x = vf_load(lanes->v + QZ_BLOCK * k), q[4];
        nearest_values(levels, how, count, x, inverse, q);
        VF w = weighted ? vf_load(lanes->weight + QZ_BLOCK * k) : none;
        if (first)
            energy = vf_fma(weighted ? vf_mul(w, x) : x, x, energy);
        EACH
        {
            VF wq = weighted ? vf_mul(w, q[j]) : q[j];
            xq[j] = vf_fma(wq, x, xq[j]);
            qq[j] = vf_fma(wq, q[j], qq[j]);
        }
    }
    if (first)
        lanes->energy = energy;
    if (rule->refit) {
        EACH s[j] = vf_select(vf_lt(none, qq[j]), vf_div(xq[j], qq[j]), none);
        if (rule->positive)
            EACH s[j] = vf_select(vf_lt(none, s[j]), s[j], none);
        stored_scales(rule->scale_dtype, lanes, count, s);
    }
    EACH
    {
        VF gain = vf_mul(s[j], vf_fma(vf_neg(s[j]), qq[j], vf_add(xq[j], xq[j])));
        VM better = vf_lt(vf_mul(lanes->best_gain, vf_set1(QZ_GAINS_MORE)), gain);
        if (c + j == 1 && rule->as_stored > 1) {
            lanes->other_gain = gain;
            lanes->other = s[j];
        }
        lanes->best_gain = vf_select(better, gain, lanes->best_gain);
        lanes->best = vf_select(better, s[j], lanes->best);
        if (set)
            lanes->second = vm_or(lanes->second, better);
    }
}

/* The same for a count that is not a constant. */
INLINE void try_some(const struct qz_search *rule, const struct search_levels *levels, int how, int weighted, int first,
                     size_t c, size_t count, size_t end, int set, struct search_lanes *lanes)
{
    if (count == 4)
        try_candidates(rule, levels, how, weighted, first, c, 4, end, set, lanes);
    else if (count == 3)
        try_candidates(rule, levels, how, weighted, first, c, 3, end, set, lanes);
    else
        try_candidates(rule, levels, how, weighted, first, c, 2, end, set, lanes);
}

INLINE void search_vector(const struct qz_search *rule, int how, int weighted, struct search_lanes *lanes)
{
    const size_t most = LANES == 8 && weighted && how == BY_ROUNDING ? 3 : 4; /* as many as 16 registers hold */
    for (int set = 0; set < 2; set++) {
        size_t c = set ? rule->first : 0, end = set ? rule->count : rule->first;
        if (c == end)
            continue;
        struct search_levels levels = search_levels(rule, set);
        for (size_t step; c < end; c += step) { /* as even as can be: 6 as twice 3 */
            size_t times = (end - c + most - 1) / most;
            step = (end - c + times - 1) / times;
            if (c == 0)
                try_some(rule, &levels, how, weighted, 1, c, step, end, set, lanes);
            else
                try_some(rule, &levels, how, weighted, 0, c, step, end, set, lanes);
        }
    }
}

/* A group by itself has a candidate in each lane. `count` vectors of candidates, from `factor` on, become scales and
 * gains; x is the only value that a lane has to itself. */
INLINE void try_across(const struct qz_search *rule, const struct search_levels *levels, int how, int weighted,
                       const float *factor, size_t count, struct search_lanes *lanes, float *scale, float *gain)
{
    const VF none = vf_set1(0.0f);
    VF inverse[4], s[4], xq[4], qq[4], energy = none;
    EACH
    {
        VF each = vf_load(factor + LANES * j);
        inverse[j] = vf_mul(lanes->first_inverse, each);
        s[j] = rule->refit ? each : vf_div(lanes->first, each);
        xq[j] = qq[j] = none;
    }
    if (!rule->refit) {
        stored_scales(rule->scale_dtype, lanes, count, s);
        EACH inverse[j] = inverse_of(s[j]);
    }
    for (size_t k = 0; k < lanes->n; k++) {
        VF x = vf_set1(lanes->v[QZ_BLOCK * k]), w = weighted ? vf_set1(lanes->weight[QZ_BLOCK * k]) : none, q[4];
        nearest_values(levels, how, count, x, inverse, q);
        energy = vf_fma(weighted ? vf_mul(w, x) : x, x, energy);
        EACH
        {
            VF wq = weighted ? vf_mul(w, q[j]) : q[j];
            xq[j] = vf_fma(wq, x, xq[j]);
            qq[j] = vf_fma(wq, q[j], qq[j]);
        }
    }
    if (rule->refit) {
        EACH s[j] = vf_select(vf_lt(none, qq[j]), vf_div(xq[j], qq[j]), none);
        if (rule->positive)
            EACH s[j] = vf_select(vf_lt(none, s[j]), s[j], none);
        stored_scales(rule->scale_dtype, lanes, count, s);
    }
    EACH
    {
        vf_store(scale + LANES * j, s[j]);
        vf_store(gain + LANES * j, vf_mul(s[j], vf_fma(vf_neg(s[j]), qq[j], vf_add(xq[j], xq[j]))));
    }
    lanes->energy = energy;
}

INLINE void search_across(const struct qz_search *rule, int how, int weighted, struct search_lanes *lanes, float *best,
                          float *best_gain, uint8_t *second)
{
    enum { MOST = QZ_CANDIDATES + 4 * LANES };
    float factor[MOST], scale[MOST], gain[MOST];
    for (int set = 0; set < 2; set++) {
        size_t from = set ? rule->first : 0, count = (set ? rule->count : rule->first) - from, step;
        if (count == 0)
            continue;
        for (size_t i = 0; i < count + 3 * LANES; i++) /* filled up with the last one */
            factor[i] = rule->factor[from + (i < count ? i : count - 1)];
        struct search_levels levels = search_levels(rule, set);
        for (size_t i = 0; i < count; i += step * LANES) {
            step = (count - i + LANES - 1) / LANES;
            step = step < 3 ? step : 3;
            if (step == 3)
                try_across(rule, &levels, how, weighted, factor + i, 3, lanes, scale + i, gain + i);
            else if (step == 2)
                try_across(rule, &levels, how, weighted, factor + i, 2, lanes, scale + i, gain + i);
            else
                try_across(rule, &levels, how, weighted, factor + i, 1, lanes, scale + i, gain + i);
        }
        for (size_t i = 0; i < count; i++)
            if (gain[i] > *best_gain * QZ_GAINS_MORE) {
                *best_gain = gain[i];
                *best = scale[i];
                *second = (uint8_t)set;
            }
    }
}

#include "rule_search_template.h"

#undef EACH

INLINE void prepare_lanes(const struct qz_search *rule, struct search_lanes *lanes, VF unit, VF shared, VF first)
{
    lanes->unit = unit;
    lanes->unit_inverse = vf_ratio(1.0f, unit);
    lanes->super = vf_select(ordinary(shared), shared, vf_set1(0.0f));
    lanes->least = vf_set1(rule->least);
    lanes->most = vf_set1(rule->most);
    lanes->first = first;
    lanes->first_inverse = inverse_of(first);
    lanes->best_gain = lanes->other_gain = lanes->other = lanes->energy = vf_set1(0.0f);
    lanes->best = stored_scale(first, rule->scale_dtype, lanes);
    lanes->second = vm_none();
}

/* Group l of a block by itself, where no candidate is told by how it is stored. */
static TARGET void search_single(const struct qz_search *rule, const float *v, const float *weight, size_t n, size_t l,
                                 const float *unit, const float *super, float *scale, uint8_t *second,
                                 struct qz_gains *gains)
{
    struct search_lanes lanes;
    float each[LANES];
    lanes.v = v + l;
    lanes.weight = weight ? weight + l : NULL;
    lanes.n = n;
    prepare_lanes(rule, &lanes, vf_set1(unit[l]), vf_set1(super ? super[l] : 1.0f), vf_set1(scale[l]));
    vf_store(each, lanes.best);
    scale[l] = each[0];
    second[l] = 0;
    gains->best[l] = 0.0f;
    gains->other[l] = -INFINITY;
    if (rule->uniform && !weight)
        search_across(rule, BY_ROUNDING, 0, &lanes, &scale[l], &gains->best[l], &second[l]);
    else if (rule->uniform)
        search_across(rule, BY_ROUNDING, 1, &lanes, &scale[l], &gains->best[l], &second[l]);
    else if (!weight)
        search_across(rule, BY_BISECTION, 0, &lanes, &scale[l], &gains->best[l], &second[l]);
    else
        search_across(rule, BY_BISECTION, 1, &lanes, &scale[l], &gains->best[l], &second[l]);
    vf_store(each, lanes.energy);
    gains->energy[l] = each[0];
}

static TARGET void search_scale(const struct qz_search *rule, const float *v, const float *weight, size_t n,
                                size_t lanes_wanted, const float *unit, const float *super, const float *other,
                                float *scale, uint8_t *second, struct qz_gains *gains)
{
    for (size_t l = 0; l < lanes_wanted; l += LANES) {
        if (rule->as_stored == 0 && (lanes_wanted - l) * 2 <= LANES) { /* few groups, and more candidates */
            for (; l < lanes_wanted; l++)
                search_single(rule, v, weight, n, l, unit, super, scale, second, gains);
            return;
        }
        struct search_lanes lanes; /* which takes long to clear */
        lanes.v = v + l;
        lanes.weight = weight ? weight + l : NULL;
        lanes.n = n;
        prepare_lanes(rule, &lanes, vf_load(unit + l), super ? vf_load(super + l) : vf_set1(1.0f), vf_load(scale + l));
        lanes.as_stored[0] = inverse_of(lanes.best);
        lanes.as_stored[1] = vf_set1(0.0f);
        if (other)
            lanes.as_stored[1] = inverse_of(stored_scale(vf_load(other + l), rule->scale_dtype, &lanes));
        if (rule->uniform && !weight)
            search_vector(rule, BY_ROUNDING, 0, &lanes);
        else if (rule->uniform)
            search_vector(rule, BY_ROUNDING, 1, &lanes);
#ifdef HAS_VP
        else if (rule->cells && !weight)
            search_vector(rule, BY_CELLS, 0, &lanes);
        else if (rule->cells)
            search_vector(rule, BY_CELLS, 1, &lanes);
#endif
        else if (!weight)
            search_vector(rule, BY_BISECTION, 0, &lanes);
        else
            search_vector(rule, BY_BISECTION, 1, &lanes);
        vf_store(scale + l, lanes.best);
        vf_store(gains->best + l, lanes.best_gain);
        vf_store(gains->energy + l, lanes.energy);
        VM differs = vm_none();
        if (rule->as_stored > 1)
            differs = vm_and(vf_ne(lanes.other, lanes.best), vf_lt(vf_set1(-INFINITY), lanes.other_gain));
        vf_store(gains->other + l, vf_select(differs, lanes.other_gain, vf_set1(-INFINITY)));
        vm_to_u8(second + l, lanes.second);
    }
}

/* The samples of LANES groups; `samples` and `weighted` are constants. */
INLINE void load_samples(const float *v, const float *weight, int weighted, size_t n, size_t samples, VF *sample)
{
    const VF none = vf_set1(0.0f);
    for (size_t i = 0; i < samples; i++) {
        size_t at = QZ_BLOCK * (i * n / samples);
        sample[i] = vf_load(v + at);
        if (weighted)
            sample[i] = vf_select(vf_lt(none, vf_load(weight + at)), sample[i], none);
    }
}

/* Sorts values of each lane, by `count` comparisons: both are constants. */
INLINE void sort_values(VF *v, const uint8_t (*order)[2], size_t count)
{
#pragma GCC unroll 60
    for (size_t i = 0; i < count; i++) {
        const VF a = v[order[i][0]], b = v[order[i][1]];
        v[order[i][0]] = vf_min(a, b);
        v[order[i][1]] = vf_max(a, b);
    }
}

/* Where two of the samples are equal: those are next to each other once they are sorted, which takes half as long as to
 * compare all of them. */
INLINE VM find_repeats_of_table(const VF *sample)
{
    static const uint8_t order[60][2] = {
        {0, 13},  {1, 12},  {2, 15},  {3, 14},  {4, 8},   {5, 6},   {7, 11}, {9, 10},  {0, 5},   {1, 7},
        {2, 9},   {3, 4},   {6, 13},  {8, 14},  {10, 15}, {11, 12}, {0, 1},  {2, 3},   {4, 5},   {6, 8},
        {7, 9},   {10, 11}, {12, 13}, {14, 15}, {0, 2},   {1, 3},   {4, 10}, {5, 11},  {6, 7},   {8, 9},
        {12, 14}, {13, 15}, {1, 2},   {3, 12},  {4, 6},   {5, 7},   {8, 10}, {9, 11},  {13, 14}, {1, 4},
        {2, 6},   {5, 8},   {7, 10},  {9, 13},  {11, 14}, {2, 4},   {3, 6},  {9, 12},  {11, 13}, {3, 5},
        {6, 8},   {7, 9},   {10, 12}, {3, 4},   {5, 6},   {7, 8},   {9, 10}, {11, 12}, {6, 7},   {8, 9}};
    VF v[QZ_SAMPLES_TABLE];
#pragma GCC unroll 16
    for (size_t i = 0; i < QZ_SAMPLES_TABLE; i++)
        v[i] = sample[i];
    sort_values(v, order, sizeof order / sizeof order[0]);
    VM equal = vf_eq(v[0], v[1]);
#pragma GCC unroll 16
    for (size_t i = 2; i < QZ_SAMPLES_TABLE; i++)
        equal = vm_or(equal, vf_eq(v[i - 1], v[i]));
    return equal;
}

/* The same of few samples: a comparison does not wait for the one before. */
INLINE VM find_repeats_of_few(const VF *sample)
{
    VM some = vf_le(sample[0], sample[0]), distinct[4] = {some, some, some, some};
#pragma GCC unroll 16
    for (size_t i = 1; i < QZ_SAMPLES_UNIFORM; i++)
#pragma GCC unroll 16
        for (size_t j = 0; j < i; j++)
            distinct[j % 4] = vm_and_ne(distinct[j % 4], sample[i], sample[j]);
    VM all = vm_and(vm_and(distinct[0], distinct[1]), vm_and(distinct[2], distinct[3]));
    return vf_lt(vf_select(all, vf_set1(1.0f), vf_set1(0.0f)), vf_set1(1.0f));
}

/* Where samples are near multiples of 1 / factor; energy is the sum of their squares. */
INLINE VM find_multiples(const VF *sample, VF energy, VF factor)
{
    VF squares = vf_set1(0.0f);
    for (size_t i = 0; i < QZ_SAMPLES_LATTICE; i++) {
        VF y = vf_mul(sample[i], factor), off = vf_sub(y, vf_rint(y));
        squares = vf_fma(off, off, squares);
    }
    VF share = vf_mul(vf_mul(energy, vf_set1(QZ_LATTICE_SHARE)), vf_mul(factor, factor));
    return vm_and(vf_le(squares, vf_set1(QZ_SAMPLES_LATTICE * QZ_NEAR_LATTICE)), vf_le(squares, share));
}

/* The sums of weights and of their squares: all vectors side by side, so that one does not wait for another. */
INLINE void sum_weights(const float *weight, size_t n, struct qz_survey *survey)
{
    enum { VECTORS = QZ_BLOCK / LANES };
    VF sum[VECTORS], squares[VECTORS];
    for (size_t i = 0; i < VECTORS; i++)
        sum[i] = squares[i] = vf_set1(0.0f);
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < VECTORS; i++) {
            VF w = vf_load(weight + QZ_BLOCK * k + LANES * i);
            sum[i] = vf_add(sum[i], w);
            squares[i] = vf_fma(w, w, squares[i]);
        }
    for (size_t i = 0; i < VECTORS; i++) {
        vf_store(survey->weight + LANES * i, sum[i]);
        vf_store(survey->weight2 + LANES * i, squares[i]);
    }
}

INLINE void survey_lanes(int uniform, int weighted, const float *v, const float *weight, size_t n, const float *largest,
                         struct qz_survey *survey, size_t l)
{
    VF sample[QZ_SAMPLES_TABLE];
    if (n < (uniform ? QZ_SAMPLES_UNIFORM : QZ_SAMPLES_TABLE)) {
        memset(survey->repeats + l, 1, LANES);
    } else if (uniform) {
        load_samples(v, weight, weighted, n, QZ_SAMPLES_UNIFORM, sample);
        vm_to_u8(survey->repeats + l, find_repeats_of_few(sample));
    } else {
        load_samples(v, weight, weighted, n, QZ_SAMPLES_TABLE, sample);
        vm_to_u8(survey->repeats + l, find_repeats_of_table(sample));
    }
    VF inverse = inverse_of(vf_load(largest + l)), energy = vf_set1(0.0f);
    load_samples(v, weight, weighted, n, QZ_SAMPLES_LATTICE, sample);
    for (size_t i = 0; i < QZ_SAMPLES_LATTICE; i++)
        energy = vf_fma(sample[i], sample[i], energy);
    VM sixths = find_multiples(sample, energy, vf_mul(vf_set1(6.0f), inverse));
    VM others = find_multiples(sample, energy, vf_mul(vf_set1(uniform ? 5.0f : 8.0f), inverse));
    if (uniform)
        others = vm_or(others, find_multiples(sample, energy, vf_mul(vf_set1(4.0f), inverse)));
    vm_to_u8(survey->lattice + l, vm_or(sixths, others));
}

static TARGET void survey(int uniform, const float *v, const float *weight, size_t n, const float *largest,
                          struct qz_survey *survey)
{
    if (weight)
        sum_weights(weight, n, survey);
    for (size_t l = 0; l < QZ_BLOCK; l += LANES) {
        const float *x = v + l, *w = weight ? weight + l : NULL;
        if (uniform && !w)
            survey_lanes(1, 0, x, w, n, largest, survey, l);
        else if (uniform)
            survey_lanes(1, 1, x, w, n, largest, survey, l);
        else if (!w)
            survey_lanes(0, 0, x, w, n, largest, survey, l);
        else
            survey_lanes(0, 1, x, w, n, largest, survey, l);
    }
}
