/*
 * scan_256.h - integer sums of rows with queries, 32 codes at a time: for AVX2, and for AVX-512
 *
 * A tile is four rows with one query, which is loaded once for them, or two rows with four queries, for which levels
 * are looked up once. Products of levels and bytes of a query are added in pairs to 16 bits, as many as fit, and these
 * to 32 bits.
 */

#define EACH(i, n) _Pragma("GCC unroll 8") for (size_t i = 0; i < (n); i++)

/* Has a vector made before those that follow: products that wait for their sums would take more registers than there
 * are.
 */
#define IN_TURN(v) __asm__ volatile("" : "+x"(v))

INLINE __m256i scan_levels(const uint8_t *codes, __m256i table)
{
    __m256i two = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)codes));
    __m256i apart = _mm256_srlv_epi32(two, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
    return _mm256_shuffle_epi8(table, _mm256_and_si256(apart, _mm256_set1_epi8(15)));
}

/* Lanes of four vectors added together: four sums. */
INLINE __m128i scan_sums(const __m256i v[4])
{
    __m256i pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
}

/* Chunks that are summed up in 16 bits: some of a group. */
struct scan_span {
    size_t first, end;
    int more; /* there are sums of chunks before them */
};

/* `height` rows with `width` queries, constants: sums in 16 bits to few[q * height + r]. */
INLINE void scan_tile(const struct qz_scan *rows, const struct scan_span *span, const uint8_t *codes,
                      const int8_t *query, size_t height, size_t width, __m256i few[8])
{
    const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)rows->level));
    const size_t pitch = rows->chunks * QZ_CHUNK;
    const ptrdiff_t stride = rows->stride;
    __m256i level[4];
    EACH(i, height * width) few[i] = _mm256_setzero_si256();
    for (size_t c = span->first; c < span->end; c++) {
        const uint8_t *at = codes + qz_chunk_start(rows->bytes, rows->chunks, c);
        const int8_t *part = query + c * QZ_CHUNK;
        EACH(r, height) level[r] = scan_levels(at + (ptrdiff_t)r * stride, table);
        EACH(q, width)
        {
            __m256i these = _mm256_loadu_si256((const __m256i *)(part + q * pitch));
            EACH(r, height)
            {
                few[q * height + r] = _mm256_add_epi16(few[q * height + r], _mm256_maddubs_epi16(level[r], these));
                IN_TURN(few[q * height + r]);
            }
        }
    }
    EACH(i, height * width) few[i] = _mm256_madd_epi16(few[i], _mm256_set1_epi16(1));
}

/* Whether levels are codes with some bits turned, as those of int4 and uint4 are; these bits. */
INLINE int scan_is_turned(const uint8_t level[16], uint8_t *turned)
{
    const __m128i codes = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m128i given = _mm_loadu_si128((const __m128i *)level);
    *turned = level[0];
    return _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_xor_si128(codes, _mm_set1_epi8((char)level[0])), given)) == 0xffff;
}

/* Four rows with a query, where levels are codes with bits turned: two chunks at a time, without a table. */
INLINE void scan_turned(const struct qz_scan *rows, const struct scan_span *span, const uint8_t *codes,
                        const int8_t *query, uint8_t turned, __m256i few[8])
{
    const __m256i bits = _mm256_set1_epi8((char)(turned | turned << 4)), low = _mm256_set1_epi8(15);
    const ptrdiff_t stride = rows->stride;
    const size_t whole = rows->bytes / (QZ_CHUNK / 2), end = span->end < whole ? span->end : whole;
    size_t c = span->first;
    EACH(r, 4) few[r] = _mm256_setzero_si256();
    for (; c + 2 <= end; c += 2) { /* both start where the chunks before them end */
        const uint8_t *at = codes + c * (QZ_CHUNK / 2);
        __m256i first = _mm256_loadu_si256((const __m256i *)(query + c * QZ_CHUNK));
        __m256i second = _mm256_loadu_si256((const __m256i *)(query + (c + 1) * QZ_CHUNK));
        __m256i lower = _mm256_permute2x128_si256(first, second, 0x20);
        __m256i upper = _mm256_permute2x128_si256(first, second, 0x31);
        EACH(r, 4)
        {
            __m256i two = _mm256_loadu_si256((const __m256i *)(at + (ptrdiff_t)r * stride));
            two = _mm256_xor_si256(two, bits);
            __m256i even = _mm256_and_si256(two, low), odd = _mm256_and_si256(_mm256_srli_epi16(two, 4), low);
            few[r] = _mm256_add_epi16(few[r], _mm256_maddubs_epi16(even, lower));
            few[r] = _mm256_add_epi16(few[r], _mm256_maddubs_epi16(odd, upper));
            IN_TURN(few[r]);
        }
    }
    for (; c < span->end; c++) {
        const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)rows->level));
        const __m256i part = _mm256_loadu_si256((const __m256i *)(query + c * QZ_CHUNK));
        const uint8_t *at = codes + qz_chunk_start(rows->bytes, rows->chunks, c);
        EACH(r, 4)
        few[r] = _mm256_add_epi16(few[r], _mm256_maddubs_epi16(scan_levels(at + (ptrdiff_t)r * stride, table), part));
    }
    EACH(r, 4) few[r] = _mm256_madd_epi16(few[r], _mm256_set1_epi16(1));
}

/* Functions that have all registers to themselves: rows from `row` on, as many whole tiles as there are. */
#define SCAN_FUNCTION static TARGET __attribute__((noinline)) void

SCAN_FUNCTION scan_four_rows(const struct qz_scan *rows, const struct scan_span *span, size_t row, const int8_t *query,
                             int32_t *sum)
{
    uint8_t turned;
    const int is_turned = scan_is_turned(rows->level, &turned);
    for (; row + 4 <= rows->rows; row += 4) {
        const uint8_t *codes = rows->codes + (ptrdiff_t)row * rows->stride;
        __m256i v[8];
        if (is_turned)
            scan_turned(rows, span, codes, query, turned, v);
        else
            scan_tile(rows, span, codes, query, 4, 1, v);
        __m128i *to = (__m128i *)(sum + row), found = scan_sums(v);
        _mm_storeu_si128(to, span->more ? _mm_add_epi32(found, _mm_loadu_si128(to)) : found);
    }
    for (; row < rows->rows; row++) {
        __m256i v[8];
        scan_tile(rows, span, rows->codes + (ptrdiff_t)row * rows->stride, query, 1, 1, v);
        v[1] = v[2] = v[3] = v[0];
        sum[row] = _mm_cvtsi128_si32(scan_sums(v)) + (span->more ? sum[row] : 0);
    }
}

/* Two sums of each of two queries. */
INLINE void scan_store(__m128i found, int more, int32_t *first, int32_t *second)
{
    __m128i *to = (__m128i *)first, *other = (__m128i *)second, apart = _mm_unpackhi_epi64(found, found);
    _mm_storel_epi64(to, more ? _mm_add_epi32(found, _mm_loadl_epi64(to)) : found);
    _mm_storel_epi64(other, more ? _mm_add_epi32(apart, _mm_loadl_epi64(other)) : apart);
}

SCAN_FUNCTION scan_four_queries(const struct qz_scan *rows, const struct scan_span *span, const int8_t *query,
                                int32_t *sum)
{
    const size_t pitch = rows->groups * rows->pitch;
    for (size_t row = 0; row + 2 <= rows->rows; row += 2) {
        int32_t *to = sum + row;
        __m256i v[8];
        scan_tile(rows, span, rows->codes + (ptrdiff_t)row * rows->stride, query, 2, 4, v);
        scan_store(scan_sums(v), span->more, to, to + pitch);
        scan_store(scan_sums(v + 4), span->more, to + 2 * pitch, to + 3 * pitch);
    }
}

#undef SCAN_FUNCTION

/* Four numbers of a query, eight times. */
INLINE __m256i beside_query(const int8_t *query)
{
    int32_t four;
    memcpy(&four, query, sizeof four);
    return _mm256_set1_epi32(four);
}

/* A span, with lanes of 16 bits that begin at minus the centre times their numbers of the query: they may wrap on the
 * way, and end as sums that fit. */
INLINE void beside_span(const uint8_t *codes, const int8_t *query, size_t steps, const int32_t centre[2], int more,
                        int32_t *sum)
{
    enum { VECTORS = QZ_BESIDE_ROWS / 8, CACHE_LINE = 64, AHEAD = 2048 };
    const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    const uint32_t less = (0 - (uint32_t)centre[0]) & 0xffff, later = 0 - (uint32_t)centre[1];
    const __m256i start = _mm256_set1_epi32((int32_t)(less | later << 16));
    __m256i lane[VECTORS];
    EACH(i, VECTORS) lane[i] = start;
    for (size_t s = 0; s < steps; s++) {
        const uint8_t *at = codes + s * QZ_BESIDE_STEP;
        EACH(i, QZ_BESIDE_STEP / CACHE_LINE)
        _mm_prefetch((const char *)((uintptr_t)at + AHEAD + i * CACHE_LINE), _MM_HINT_T0);
        const __m256i lower = beside_query(query + s * QZ_BESIDE_CODES);
        const __m256i upper = beside_query(query + s * QZ_BESIDE_CODES + QZ_BESIDE_CODES / 2);
        EACH(i, VECTORS)
        {
            __m256i two = _mm256_loadu_si256((const __m256i *)(at + 32 * i));
            __m256i even = _mm256_and_si256(two, low), odd = _mm256_and_si256(_mm256_srli_epi16(two, 4), low);
            lane[i] = _mm256_add_epi16(lane[i], _mm256_maddubs_epi16(even, lower));
            lane[i] = _mm256_add_epi16(lane[i], _mm256_maddubs_epi16(odd, upper));
            IN_TURN(lane[i]);
        }
    }
    const __m256i back = _mm256_set1_epi32(centre[0] + centre[1]);
    EACH(i, VECTORS)
    {
        __m256i *to = (__m256i *)(sum + 8 * i), found = _mm256_add_epi32(_mm256_madd_epi16(lane[i], ones), back);
        _mm256_storeu_si256(to, more ? _mm256_add_epi32(found, _mm256_loadu_si256(to)) : found);
    }
}

static TARGET void scan_beside(const struct qz_beside *rows, const int8_t *query, int32_t *sum)
{
    const int32_t *centre = rows->centre;
    for (size_t first = 0, end; first < rows->steps; first = end, centre += 2) {
        end = qz_beside_span_end(first, rows->group_steps, rows->steps);
        beside_span(rows->codes + first * QZ_BESIDE_STEP, query + first * QZ_BESIDE_CODES, end - first, centre,
                    first % rows->group_steps > 0, sum + first / rows->group_steps * QZ_BESIDE_ROWS);
    }
}

#undef IN_TURN
#undef EACH

static TARGET void scan(const struct qz_scan *rows, const int8_t *query, size_t queries, int32_t *sum)
{
    const size_t pitch = rows->groups * rows->pitch;
    for (size_t g = 0, c = 0; g < rows->groups; g++) {
        const size_t first = c, end = qz_group_end(rows, g);
        for (; c < end; c = end - c < rows->steps ? end : c + rows->steps) {
            struct scan_span span = {c, end - c < rows->steps ? end : c + rows->steps, c > first};
            size_t row = 0;
            if (queries == QZ_SCAN_QUERIES) {
                scan_four_queries(rows, &span, query, sum + g * rows->pitch);
                row = rows->rows / 2 * 2;
            }
            for (size_t q = 0; q < queries; q++)
                scan_four_rows(rows, &span, row, query + q * rows->chunks * QZ_CHUNK,
                               sum + q * pitch + g * rows->pitch);
        }
    }
}
