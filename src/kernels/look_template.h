/*
 * look_template.h - what is looked at in groups with a zero or an offset, with vectors
 *
 * A lane is a group. look_scalar.h says what is found. The file that includes this one defines what fixed_template.h asks
 * for before vs_dot, and:
 *
 *   vs_add(x, y) vs_sub(x, y)      sums and differences of halves, mod 65536
 *   vs_abs(x)             magnitudes of halves: that of -32768 is 32768
 *   vs_part(x)            halves / 16, rounded down, as numbers without a sign
 *   vs_sum(x)             the sums of both halves
 *   vi_bits(v)            the bits of floats
 */
#include "special.h"

/* Value i of so many that are looked at; `all` is a constant. */
INLINE VF look_value(const struct qz_look *look, size_t l, size_t i, size_t all)
{
    return vf_load(look->v + look->n * i / all * QZ_BLOCK + l);
}

/* Two values at a time, of `all` that are looked at. */
INLINE void measure_of(const struct qz_look *look, size_t all, const float from[QZ_BLOCK], const float span[QZ_BLOCK],
                       float distance[QZ_BLOCK])
{
    enum { PAIRS = QZ_LOOKS / 2, LATTICES = QZ_MOST_STEPS - QZ_FEWEST_STEPS + 1 };
    const VF round = vf_set1(0x1.8p23f);
    const VI middle = vs_set1(-32768);
    for (size_t l = 0; l < QZ_BLOCK; l += LANES) {
        const VF least = vf_load(from + l), factor = vf_div(vf_set1(QZ_PLACES), vf_load(span + l));
        VI at[2 * PAIRS], sum[LATTICES], spread = vi_set1(0);
#pragma GCC unroll 12
        for (size_t i = 0; i < all / 2; i++) {
            const VF even = look_value(look, l, 2 * i, all), odd = look_value(look, l, 2 * i + 1, all);
            at[i] = vs_pairs(vi_bits(vf_add(vf_mul(vf_sub(even, least), factor), round)),
                             vi_bits(vf_add(vf_mul(vf_sub(odd, least), factor), round)));
        }
        for (size_t first = 0; first < all / 2; first += PAIRS) {
#pragma GCC unroll 3
            for (size_t i = first; i < first + PAIRS / 2; i++) {
                const VI a = vs_add(at[i], middle), b = vs_add(at[i + PAIRS / 2], middle);
                spread = vs_add(spread, vs_part(vs_sub(vs_least(a, b), vs_most(a, b))));
            }
        }
#pragma GCC unroll 8
        for (int k = 0; k < LATTICES; k++)
            sum[k] = vi_set1(0);
#pragma GCC unroll 1
        for (size_t i = 0; i < all / 2; i++) {
            const VI two = vs_add(at[i], at[i]), four = vs_add(two, two);
            VI beyond = vs_add(four, four);
#pragma GCC unroll 8
            for (int k = 0; k < LATTICES; k++) {
                sum[k] = vs_add(sum[k], vs_part(vs_abs(beyond)));
                beyond = vs_add(beyond, at[i]);
            }
        }
        const VF apart = vf_from_vi(vs_sum(spread));
        VF found = vf_set1(INFINITY);
#pragma GCC unroll 8
        for (int k = 0; k < LATTICES; k++) {
            const VF near = vf_from_vi(vs_sum(sum[k]));
            const VM some = vf_le(near, vf_mul(apart, vf_set1(0.5f * (float)(QZ_FEWEST_STEPS + k))));
            found = vf_min(found, vf_select(some, near, found));
        }
        vf_store(distance + l, found);
    }
}

static TARGET void measure_lattices(const struct qz_look *look, const float from[QZ_BLOCK], const float span[QZ_BLOCK],
                                    float distance[QZ_BLOCK])
{
    if (qz_lattice_rounds(look->n) == 1)
        measure_of(look, QZ_LOOKS, from, span, distance);
    else
        measure_of(look, 2 * (size_t)QZ_LOOKS, from, span, distance);
}

/* Of values in their order, those that are the same are next to each other: two pairs are so where any two are. In each
 * row, comparisons do not wait for each other. */
static TARGET void note_repeats(const struct qz_look *look, float chance, float *repeated)
{
    static const uint8_t order[39][2] = {
        {0, 8}, {1, 7},  {2, 6},  {3, 11}, {4, 10}, {5, 9}, {0, 1}, {2, 5},  {3, 4},  {6, 9}, {7, 8}, {10, 11}, {0, 2},
        {1, 6}, {5, 10}, {9, 11}, {0, 3},  {1, 2},  {4, 6}, {5, 7}, {8, 11}, {9, 10}, {1, 4}, {3, 5}, {6, 8},   {7, 10},
        {1, 3}, {2, 5},  {6, 9},  {8, 10}, {2, 3},  {4, 5}, {6, 7}, {8, 9},  {4, 6},  {5, 7}, {3, 4}, {5, 6},   {7, 8},
    };
    for (size_t l = 0; l < QZ_BLOCK; l += LANES) {
        const VF range = vf_sub(vf_load(look->high + l), vf_load(look->low + l)),
                 same = vf_mul(range, vf_set1(QZ_SAME_PART));
        VF v[QZ_LOOKS];
        VI pairs = vi_set1(0);
#pragma GCC unroll 12
        for (size_t i = 0; i < QZ_LOOKS; i++)
            v[i] = look_value(look, l, i, QZ_LOOKS);
        sort_values(v, order, sizeof order / sizeof order[0]);
#pragma GCC unroll 12
        for (size_t i = 1; i < QZ_LOOKS; i++)
            pairs = vi_increment(vf_le(vf_sub(v[i], v[i - 1]), same), pairs);
        vf_store(repeated + l, vf_select(vf_lt(vf_set1(chance), vf_from_vi(pairs)), vf_set1(1.0f), vf_set1(0.0f)));
    }
}
