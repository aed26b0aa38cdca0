/*
 * special_template.h - decides which groups are special after they were searched, and how far their scales can be
 * trusted
 *
 * All sets, scalar.c included, use the same loops. They judge all groups alike and without branches, because most
 * groups are not special; so compilers vectorize them. TARGET, `survey`, `measure_lattices` and `note_repeats` are those
 * of the file that includes this one.
 */
#include "special.h"

/* The first of three values that are `lag` apart, number i of four in the groups of a block: at places whose distances
 * differ, so that no period puts all of them at the same place of a wave. */
static inline const float *three_at(const float *v, size_t n, size_t lag, size_t i)
{
    return v + i * i * (n - 2 * lag - 1) / 9 * QZ_BLOCK;
}

/* How far the middle one of three such values in a block is from a straight line, twice. */
static inline float bend_of(const float *of, size_t lag)
{
    return fabsf((of[0] - of[lag * QZ_BLOCK]) - (of[lag * QZ_BLOCK] - of[2 * lag * QZ_BLOCK]));
}

/* How many of eight values are next to 0 beside the largest one, but not 0: value i of each eighth of a group. */
static inline TARGET void count_tiny(const struct qz_look *look, const float largest[QZ_BLOCK], size_t i,
                                     int32_t tiny[QZ_BLOCK])
{
    enum { SAMPLES = 8 };
    const float *v[SAMPLES];
    for (size_t k = 0; k < SAMPLES; k++)
        v[k] = look->v + (look->n * k / SAMPLES + i) * QZ_BLOCK;
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        float small = largest[l] * QZ_NEXT_TO_0;
        int32_t count = 0;
#pragma GCC unroll 8
        for (int k = 0; k < SAMPLES; k++)
            count += (fabsf(v[k][l]) < small) & (v[k][l] != 0.0f);
        tiny[l] = count;
    }
}

/* Which groups have many such values, as mixtures of magnitudes have: few others make all of the error, and how near to
 * these a code comes matters most. Of long groups twice as many are looked at, so that none of these is missed. */
static TARGET void note_tiny(const struct qz_look *look, const float largest[QZ_BLOCK], int32_t tiny[QZ_BLOCK])
{
    int32_t more[QZ_BLOCK] = {0}, many = 4;
    count_tiny(look, largest, 0, tiny);
    if (look->n >= 64) {
        count_tiny(look, largest, 1, more);
        many = 6;
    }
    for (size_t l = 0; l < QZ_BLOCK; l++)
        tiny[l] = tiny[l] + more[l] >= many;
}

/* Which short groups go up and down by even steps, of which few span the range, as fast triangles and sawteeth do. */
static TARGET void note_slopes(const struct qz_look *look, const float largest[QZ_BLOCK], int32_t exact[QZ_BLOCK])
{
    enum { TRIPLES = 4, LEAST = 8, STEPS = 5 };
    int32_t straight[QZ_BLOCK], any = 0;
    if (look->n < LEAST)
        return;
    const float *three[TRIPLES];
    for (size_t i = 0; i < TRIPLES; i++)
        three[i] = three_at(look->v, look->n, 1, i);
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        float bend = largest[l] * QZ_STRAIGHT;
        int32_t count = 0;
#pragma GCC unroll 4
        for (int i = 0; i < TRIPLES; i++)
            count += bend_of(three[i] + l, 1) <= bend;
        straight[l] = count > 1;
        any |= straight[l];
    }
    for (size_t l = 0; l < QZ_BLOCK && any; l++) {
        size_t count = 0;
        if (!straight[l])
            continue;
        for (size_t k = 0; k + 2 < look->n; k++)
            count += bend_of(look->v + QZ_BLOCK * k + l, 1) <= largest[l] * QZ_STRAIGHT &&
                     fabsf(look->v[QZ_BLOCK * k + l] - look->v[QZ_BLOCK * (k + 1) + l]) * STEPS >= largest[l];
        exact[l] |= count * 8 >= look->n;
    }
}

/* In which groups only a few weights are not next to 0 beside the largest one. They have these sums, of squares too. */
static TARGET void note_few_weights(const struct qz_look *look, const float *sum, const float *squares,
                                    int32_t few[QZ_BLOCK])
{
    const int32_t most = qz_few_of(look->n);
    const float worth = (float)(most + 1); /* so many equal ones, at most */
    float largest[QZ_BLOCK] = {0};
    int32_t count[QZ_BLOCK] = {0}, any = 0;
    for (size_t l = 0; l < QZ_BLOCK; l++)
        any |= few[l] = sum[l] * sum[l] < squares[l] * worth;
    for (size_t k = 0; k < look->n && any; k++)
        for (size_t l = 0; l < QZ_BLOCK; l++) {
            float w = look->w[QZ_BLOCK * k + l];
            largest[l] = w > largest[l] ? w : largest[l];
        }
    for (size_t k = 0; k < look->n && any; k++)
        for (size_t l = 0; l < QZ_BLOCK; l++)
            count[l] += look->w[QZ_BLOCK * k + l] > largest[l] * QZ_NO_WEIGHT;
    for (size_t l = 0; l < QZ_BLOCK; l++)
        few[l] &= count[l] <= most;
}

static TARGET int32_t look_symmetric(const struct qz_look *look, const struct qz_symmetric_look *more,
                                     int32_t *restrict suspicion, float *restrict spread)
{
    struct qz_survey survey_found;
    const struct qz_gains *gains = more->gains;
    float largest[QZ_BLOCK], smaller[QZ_BLOCK];
    int32_t exact[QZ_BLOCK], wide[QZ_BLOCK], close[QZ_BLOCK], large[QZ_BLOCK], coarse[QZ_BLOCK] = {0};
    int32_t tiny[QZ_BLOCK], few[QZ_BLOCK], any = 0;
    const float n = (float)look->n, least_spread = more->least_spread;
    const float alone = look->w ? INFINITY : 0.95f * n; /* n: where one value has all the energy */
    const float large_spread = more->has_tiny ? 0.4f * n : alone;
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        float low = -look->low[l], high = look->high[l];
        largest[l] = low > high ? low : high;
        smaller[l] = low > high ? high : low;
    }
    survey(more->uniform, look->v, look->w, look->n, largest, &survey_found);
    note_tiny(look, largest, tiny);
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        float energy = gains->energy[l], gain = gains->best[l];
        spread[l] = (look->w ? survey_found.weight[l] : n) * (largest[l] * largest[l]);
        close[l] = gain - gains->other[l] <= energy * QZ_CLOSE;
        exact[l] = (energy - gain <= energy * 0x1p-12f) | (gain <= 0.0f);
        wide[l] = (spread[l] < least_spread * energy) | (smaller[l] * 64.0f < largest[l]) |
                  (tiny[l] & (spread[l] <= energy * alone));
        large[l] = spread[l] > energy * large_spread;
    }
    for (size_t l = 0; l < QZ_BLOCK && more->few_steps > 0.0f; l++)
        exact[l] |= fabsf(more->scale[l] * more->unit[l]) < more->few_steps;
    if (look->n <= 16)
        note_slopes(look, largest, exact);
    for (size_t l = 0; l < QZ_BLOCK && more->super; l++)
        coarse[l] = largest[l] < more->coarse * fabsf(more->super[l] * more->end);
    if (look->w)
        note_few_weights(look, survey_found.weight, survey_found.weight2, few);
    for (size_t l = 0; l < QZ_BLOCK && look->w; l++) {
        /* how many equal weights these are worth */
        float worth = survey_found.weight[l] * survey_found.weight[l] / survey_found.weight2[l];
        exact[l] |= few[l];
        wide[l] |= (worth < 4.0f) | (worth * 8.0f < n);
    }
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        suspicion[l] = survey_found.repeats[l] * QZ_SUSPECT_VALUES | survey_found.lattice[l] * QZ_SUSPECT_LATTICE |
                       close[l] * QZ_SUSPECT_CLOSE | wide[l] * QZ_SUSPECT_WIDE | exact[l] * QZ_SUSPECT_EXACT |
                       large[l] * QZ_SUSPECT_LARGE | coarse[l] * QZ_SUSPECT_COARSE;
        any |= suspicion[l];
    }
    return any;
}

/* Which groups have three neighbours on a straight line, and which have twice three values that are farther apart. */
static TARGET void note_straight(const struct qz_look *look, int32_t slopes[QZ_BLOCK])
{
    enum { TRIPLES = 4 };
    int32_t far[QZ_BLOCK] = {0};
    memset(slopes, 0, QZ_BLOCK * sizeof *slopes);
    for (size_t lag = 1; lag <= QZ_LAGS && look->n > 2 * lag + 2; lag = qz_next_lag(lag)) {
        const float *three[TRIPLES]; /* the first ones */
        for (size_t i = 0; i < TRIPLES; i++)
            three[i] = three_at(look->v, look->n, lag, i);
        int32_t *count = lag == 1 ? slopes : far;
        for (size_t l = 0; l < QZ_BLOCK; l++) {
            float bend = (look->high[l] - look->low[l]) * QZ_STRAIGHT;
#pragma GCC unroll 4
            for (int i = 0; i < TRIPLES; i++)
                count[l] += bend_of(three[i] + l, lag) <= bend;
        }
    }
    for (size_t l = 0; l < QZ_BLOCK; l++)
        slopes[l] = (slopes[l] > 0) * QZ_SPECIAL_SLOPES | (far[l] > 1) * QZ_SPECIAL_FAR_SLOPES;
}

static TARGET void look_affine(const struct qz_look *look, const struct qz_affine_error *error, int integer_zero,
                               int32_t *restrict special)
{
    enum { LONG = 128 };
    const float n = (float)look->n;
    const float lowest = integer_zero ? 0.0f : INFINITY;
    const float on_lattice = (float)qz_on_lattice(look->n), next_to_lattice = (float)qz_next_to_lattice(look->n);
    /* A pair that is the same may be chance where values have few bits; to look at it costs long groups less. */
    const int32_t weighted = look->w != NULL;
    const float at_ends = qz_at_ends(look->n);
    int32_t slopes[QZ_BLOCK], tiny[QZ_BLOCK], alone[QZ_BLOCK] = {0};
    float largest[QZ_BLOCK], from[QZ_BLOCK], span[QZ_BLOCK], lattice[QZ_BLOCK], repeated[QZ_BLOCK];
    if (look->w)
        note_few_weights(look, error->rest, error->slope, alone);
    for (size_t l = 0; l < QZ_BLOCK; l++)
        largest[l] = -look->low[l] > look->high[l] ? -look->low[l] : look->high[l];
    note_tiny(look, largest, tiny);
    note_straight(look, slopes);
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        float least = look->low[l], most = look->high[l];
        from[l] = least < lowest ? least : lowest;
        span[l] = (most > -lowest ? most : -lowest) - from[l];
    }
    measure_lattices(look, from, span, lattice);
    note_repeats(look, look->n < LONG ? 1.0f : 0.0f, repeated);
    for (size_t l = 0; l < QZ_BLOCK; l++) {
        float least = look->low[l], most = look->high[l], small = largest[l] * QZ_SMALL_ERROR;
        int32_t sure = error->curve[l] > error->rest[l] * (small * small);
        int32_t grid = (lattice[l] <= on_lattice) * QZ_SPECIAL_GRID |
                       (lattice[l] <= next_to_lattice) * QZ_SPECIAL_LATTICE |
                       (repeated[l] > 0.0f) * QZ_SPECIAL_REPEATED;
        float half = 0.5f * (most - least);
        int32_t far_ends = error->variance[l] * 6.0f < half * half;
        int32_t few = (qz_few_weights(error->rest[l], error->slope[l], n) |
                       (qz_some_weights(error->rest[l], error->slope[l], n) & far_ends)) &
                      weighted;
        int32_t ends = error->variance[l] > half * half * at_ends;
        int32_t wave = error->variance[l] > half * half * QZ_MAYBE_WAVE;
        int32_t far = (most - least) * 4.0f < span[l]; /* from 0, with an integer zero: few codes are in use */
        special[l] = ((sure ^ 1) | alone[l] | far) * QZ_SPECIAL | (ends | tiny[l]) * QZ_SPECIAL_ENDS |
                     few * QZ_SPECIAL_WEIGHTS | wave * QZ_SPECIAL_WAVE | slopes[l] | grid;
    }
}

/* A code, or a number of steps, if it is in least..most. */
static inline TARGET float nearest_step(float y, float least, float most)
{
    const float round = 0x1.8p23f;
    y = y > least ? y : least;
    y = y < most ? y : most;
    return (y + round) - round;
}

/* With limits that were constants, GCC would make branches of them. */
static TARGET void note_codes(const struct qz_grid *grid, size_t count, const float *min, const float *max,
                              const float *scale, float *restrict zero, int32_t *restrict special)
{
    const float is_offset = grid->zero == QZ_ZERO_OFFSET ? 1.0f : 0.0f;
    const float least = (float)(grid->lo - 16), most = (float)(grid->hi + 16);
    if (grid->zero == QZ_ZERO_UINT4) {
        for (size_t g = 0; g < count; g++) { /* 0 is among the values of a grid */
            float inverse = 1.0f / scale[g], known = zero[g];
            float low = nearest_step(min[g] * inverse, least, most), high = nearest_step(max[g] * inverse, least, most);
            low = low < 0.0f ? -low : 0.0f;
            float normal = low < known ? low : known;
            high = high > 0.0f ? high : 0.0f;
            zero[g] = inverse > 0.0f ? normal : known;
            int32_t used = normal + high >= 8.0f;
            special[g] |= (used ^ 1) * QZ_SPECIAL_CODES;
        }
        return;
    }
    for (size_t g = 0; g < count; g++) {
        float inverse = 1.0f / scale[g], offset = zero[g] * is_offset, moved = zero[g] - offset;
        zero[g] += 0.0f; /* not -0, as the plain one of groups without values below 0 is */
        float low = nearest_step((min[g] - offset) * inverse + moved, least, most);
        float high = nearest_step((max[g] - offset) * inverse + moved, least, most);
        int32_t used = (low <= 0.0f) & (high >= 8.0f);
        special[g] |= (used ^ 1) * QZ_SPECIAL_CODES;
    }
}

static TARGET unsigned flag_scales(int half, qz_zero kind, size_t count, const float *min, const float *max,
                                   const float *scale, const float *zero, float *restrict inverse)
{
    const int32_t least = qz_magnitude_bits(FLT_MIN), most = qz_magnitude_bits(0x1p120f);
    const int32_t normal = half ? qz_magnitude_bits(0x1p-14f) : least;
    const int32_t most_zero = qz_magnitude_bits(kind == QZ_ZERO_OFFSET ? 0x1p126f : INFINITY);
    const int32_t looked_at = kind == QZ_ZERO_NONE ? 0 : -1; /* which bits of a zero are */
    int32_t tiny = 0, huge = 0;
    for (size_t g = 0; g < count; g++) {
        int32_t magnitude = qz_magnitude_bits(scale[g]);
        int32_t beyond = (magnitude > most) | ((qz_magnitude_bits(zero[g]) & looked_at) > most_zero);
        int32_t usable = -((magnitude >= least) & (beyond ^ 1)); /* all bits or none */
        uint32_t divisor = (qz_bits(scale[g]) & (uint32_t)usable) | (qz_bits(1.0f) & ~(uint32_t)usable);
        inverse[g] = qz_float(qz_bits(1.0f / qz_float(divisor)) & (uint32_t)usable);
        huge |= beyond;
        tiny |= (magnitude < normal) & ((qz_magnitude_bits(min[g]) | qz_magnitude_bits(max[g])) != 0);
    }
    return (huge ? QZ_FIT_HUGE : 0u) | (tiny ? QZ_FIT_TINY : 0u);
}
