/*
 * nearest_256.h - what rows make with a query, 32 levels at a time: for AVX2, and for AVX-512
 *
 * Products of levels and bytes of the query are added in pairs to 16 bits, as many as fit, and these to 32 bits. Rows go
 * four at a time, so that a vector of the query is loaded once for them, and their lanes are added together.
 */

INLINE __m256i near_levels(__m128i two, __m256i table)
{
    __m256i apart = _mm256_srlv_epi32(_mm256_broadcastsi128_si256(two), _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
    return _mm256_shuffle_epi8(table, _mm256_and_si256(apart, _mm256_set1_epi8(15)));
}

static TARGET void levels(const uint8_t *packed, size_t n, const uint8_t level[16], uint8_t *dst)
{
    const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)level));
    size_t i = 0;
    for (; i + QZ_LEVELS <= n; i += QZ_LEVELS)
        _mm256_storeu_si256((__m256i *)(dst + i),
                            near_levels(_mm_loadu_si128((const __m128i *)(packed + i / 2)), table));
    if (i < n) {
        uint8_t last[QZ_LEVELS / 2] = {0};
        memcpy(last, packed + i / 2, (n - i) / 2 + (n - i) % 2);
        _mm256_storeu_si256((__m256i *)(dst + i), near_levels(_mm_loadu_si128((const __m128i *)last), table));
    }
}

/* The first n of eight floats, the others 0. */
INLINE __m256 near_first(const float *p, size_t n)
{
    if (n >= QZ_NEAR_LANES)
        return _mm256_loadu_ps(p);
    return _mm256_maskload_ps(p,
                              _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
}

/* The lanes of `count` rows, one to four. */
INLINE void near_lanes(const struct qz_near *rows, size_t row, int count, const int8_t *query, const float *start,
                       __m256 lane[4])
{
    const __m256i ones = _mm256_set1_epi16(1);
    const uint8_t *level = rows->level + row * rows->n;
    const float *scale = rows->scale + row * rows->groups, *bias = rows->bias + row * rows->terms;
    size_t span = qz_level_steps(rows->most) * QZ_LEVELS;
#pragma GCC unroll 4
    for (int r = 0; r < count; r++)
        lane[r] = _mm256_setzero_ps();
    for (size_t t = 0; t < rows->terms; t += QZ_NEAR_LANES) {
        __m256 part = near_first(start + t, rows->terms - t);
#pragma GCC unroll 4
        for (int r = 0; r < count; r++)
            lane[r] = _mm256_fmadd_ps(near_first(bias + (size_t)r * rows->terms + t, rows->terms - t), part, lane[r]);
    }
    for (size_t g = 0, i = 0; g < rows->groups; g++) {
        size_t end = rows->n - i < rows->group_size ? rows->n : i + rows->group_size;
        __m256i sum[4], few[4];
#pragma GCC unroll 4
        for (int r = 0; r < count; r++)
            sum[r] = _mm256_setzero_si256();
        while (i < end) {
            size_t stop = end - i < span ? end : i + span;
#pragma GCC unroll 4
            for (int r = 0; r < count; r++)
                few[r] = _mm256_setzero_si256();
            for (; i < stop; i += QZ_LEVELS) {
                __m256i part = _mm256_loadu_si256((const __m256i *)(query + i));
#pragma GCC unroll 4
                for (int r = 0; r < count; r++) {
                    __m256i of_row = _mm256_loadu_si256((const __m256i *)(level + (size_t)r * rows->n + i));
                    few[r] = _mm256_add_epi16(few[r], _mm256_maddubs_epi16(of_row, part));
                }
            }
#pragma GCC unroll 4
            for (int r = 0; r < count; r++)
                sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(few[r], ones));
        }
#pragma GCC unroll 4
        for (int r = 0; r < count; r++)
            lane[r] = _mm256_fmadd_ps(_mm256_set1_ps(scale[(size_t)r * rows->groups + g]), _mm256_cvtepi32_ps(sum[r]),
                                      lane[r]);
    }
}

static TARGET void near(const struct qz_near *rows, const int8_t *query, const float *start, float *near)
{
    size_t row = 0;
    __m256 lane[4];
    for (; row + 4 <= rows->rows; row += 4) {
        near_lanes(rows, row, 4, query, start, lane);
        __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(lane[0], lane[1]), _mm256_hadd_ps(lane[2], lane[3]));
        _mm_storeu_ps(near + row, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
    }
    for (; row < rows->rows; row++) {
        near_lanes(rows, row, 1, query, start, lane);
        __m256 pairs = _mm256_hadd_ps(lane[0], lane[0]);
        pairs = _mm256_hadd_ps(pairs, pairs);
        near[row] = _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
    }
}
