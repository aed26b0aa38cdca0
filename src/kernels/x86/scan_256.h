/*
 * scan_256.h - integer sums of rows with queries, 32 codes at a time, for AVX2 and AVX-512
 *
 * Four rows are multiplied with a query that is loaded once. If rows lie side by side, a vector holds eight of them,
 * and up to four queries are multiplied with it. Products of levels and bytes of a query are added in pairs to 16 bits,
 * as many as fit, and these sums to 32 bits.
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

/* `height` rows, a constant: sums in 16 bits. */
INLINE void scan_tile(const struct qz_scan *rows, const struct scan_span *span, const uint8_t *codes,
                      const int8_t *query, size_t height, __m256i few[4])
{
    const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)rows->level));
    const ptrdiff_t stride = rows->stride;
    EACH(r, height) few[r] = _mm256_setzero_si256();
    for (size_t c = span->first; c < span->end; c++) {
        const uint8_t *at = codes + qz_chunk_start(rows->bytes, rows->chunks, c);
        const __m256i these = _mm256_loadu_si256((const __m256i *)(query + c * QZ_CHUNK));
        EACH(r, height)
        {
            few[r] =
                _mm256_add_epi16(few[r], _mm256_maddubs_epi16(scan_levels(at + (ptrdiff_t)r * stride, table), these));
            IN_TURN(few[r]);
        }
    }
    EACH(r, height) few[r] = _mm256_madd_epi16(few[r], _mm256_set1_epi16(1));
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
                        const int8_t *query, uint8_t turned, __m256i few[4])
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
            if (c % 4 == 0)
                qz_fetch_ahead(at + (ptrdiff_t)r * stride);
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

static TARGET void scan_rows(const struct qz_scan *rows, const struct scan_span *span, const int8_t *query,
                             int32_t *sum)
{
    size_t row = 0;
    uint8_t turned;
    const int is_turned = scan_is_turned(rows->level, &turned);
    for (; row + 4 <= rows->rows; row += 4) {
        const uint8_t *codes = rows->codes + (ptrdiff_t)row * rows->stride;
        __m256i v[4];
        if (is_turned)
            scan_turned(rows, span, codes, query, turned, v);
        else
            scan_tile(rows, span, codes, query, 4, v);
        __m128i *to = (__m128i *)(sum + row), found = scan_sums(v);
        _mm_storeu_si128(to, span->more ? _mm_add_epi32(found, _mm_loadu_si128(to)) : found);
    }
    for (; row < rows->rows; row++) {
        __m256i v[4];
        scan_tile(rows, span, rows->codes + (ptrdiff_t)row * rows->stride, query, 1, v);
        v[1] = v[2] = v[3] = v[0];
        sum[row] = _mm_cvtsi128_si32(scan_sums(v)) + (span->more ? sum[row] : 0);
    }
}

static TARGET void scan(const struct qz_scan *rows, const int8_t *query, int32_t *sum)
{
    for (size_t g = 0, c = 0; g < rows->groups; g++, sum += rows->pitch) {
        const size_t first = c, end = qz_group_end(rows, g);
        for (; c < end; c = end - c < rows->steps ? end : c + rows->steps) {
            struct scan_span span = {c, end - c < rows->steps ? end : c + rows->steps, c > first};
            scan_rows(rows, &span, query, sum);
        }
    }
}

/* ---- side by side ---------------------------------------------------------------------------------------------- */

enum { BESIDE_MOST = 8 }; /* sums at a time */

/* How codes become levels: code ^ flip, or by a table. */
struct beside_levels {
    int by_table;
    __m256i flip, table;
};

INLINE struct beside_levels beside_make_levels(const uint8_t level[16])
{
    uint8_t turned;
    const int by_table = !scan_is_turned(level, &turned);
    return (struct beside_levels){by_table, _mm256_set1_epi8((char)turned),
                                  _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)level))};
}

/* Levels of the lower halves of bytes; `by_table` is a constant. */
INLINE __m256i beside_level(__m256i two, int by_table, const struct beside_levels *levels)
{
    const __m256i code = _mm256_and_si256(two, _mm256_set1_epi8(15));
    return by_table ? _mm256_shuffle_epi8(levels->table, code) : _mm256_xor_si256(code, levels->flip);
}

/* Four numbers of a query, eight times. */
INLINE __m256i beside_query(const int8_t *query)
{
    int32_t four;
    memcpy(&four, query, sizeof four);
    return _mm256_set1_epi32(four);
}

/* Some rows and queries, and the steps of a group. */
struct beside_tile {
    const uint8_t *codes;
    const int8_t *query;
    size_t pitch, step, steps; /* from query to query; bytes of a step, and how many there are */
};

/* Products of levels with a half of a step, added to 16 bits, or to 32 where few fit 16: those of a table. */
INLINE __m256i beside_add(__m256i level, __m256i of, int by_table, __m256i sum)
{
    __m256i pairs = _mm256_maddubs_epi16(level, of);
    if (by_table)
        return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    return _mm256_add_epi16(sum, pairs);
}

/* Adds a step of `vectors` of eight rows with `width` queries. */
INLINE void beside_step(const struct beside_tile *tile, size_t s, size_t vectors, size_t width, int by_table,
                        const struct beside_levels *levels, __m256i *sum)
{
    enum { HALF = QZ_BESIDE_CODES / 2 };
    const uint8_t *at = tile->codes + s * tile->step;
    const int8_t *these = tile->query + s * QZ_BESIDE_CODES;
    EACH(half, 2)
    {
        __m256i level[BESIDE_MOST];
        EACH(i, vectors)
        {
            if (width == 1 && half == i % 2)
                qz_fetch_ahead(at + 32 * i);
            __m256i two = _mm256_loadu_si256((const __m256i *)(at + 32 * i));
            level[i] = beside_level(half ? _mm256_srli_epi16(two, 4) : two, by_table, levels);
        }
        EACH(q, width)
        {
            const __m256i of = beside_query(these + q * tile->pitch + half * HALF);
            EACH(i, vectors)
            {
                sum[q * vectors + i] = beside_add(level[i], of, by_table, sum[q * vectors + i]);
                IN_TURN(sum[q * vectors + i]);
            }
        }
    }
}

/* `vectors` of eight rows with `width` queries, constants: sum[q * apart + r]. */
INLINE void beside_sums(const struct beside_tile *tile, size_t vectors, size_t width, int by_table,
                        const struct beside_levels *levels, int32_t *sum, size_t apart)
{
    enum { FEW = INT16_MAX / (4 * 15 * QZ_LEVEL_MOST) }; /* steps that 16 bits can sum up */
    __m256i total[BESIDE_MOST], few[BESIDE_MOST];
    EACH(i, vectors * width) total[i] = _mm256_setzero_si256();
    for (size_t s = 0; by_table && s < tile->steps; s++)
        beside_step(tile, s, vectors, width, 1, levels, total);
    for (size_t s = 0; !by_table && s < tile->steps;) {
        const size_t end = tile->steps - s < FEW ? tile->steps : s + FEW;
        EACH(i, vectors * width) few[i] = _mm256_setzero_si256();
        for (; s < end; s++)
            beside_step(tile, s, vectors, width, 0, levels, few);
        EACH(i, vectors * width)
        total[i] = _mm256_add_epi32(total[i], _mm256_madd_epi16(few[i], _mm256_set1_epi16(1)));
    }
    EACH(q, width)
    EACH(i, vectors) _mm256_storeu_si256((__m256i *)(sum + q * apart + 8 * i), total[q * vectors + i]);
}

/* A group of all rows with `width` queries, a constant. */
INLINE void beside_rows(const struct qz_beside *rows, struct beside_tile tile, size_t width, int by_table,
                        const struct beside_levels *levels, int32_t *sum, size_t apart)
{
    size_t row = 0;
    for (; width == 1 && row + 64 <= rows->rows; row += 64, tile.codes += 256)
        beside_sums(&tile, 8, 1, by_table, levels, sum + row, apart);
    for (; row < rows->rows; row += 16, tile.codes += 64)
        beside_sums(&tile, 2, width, by_table, levels, sum + row, apart);
}

INLINE void beside_queries(const struct qz_beside *rows, const int8_t *query, size_t pitch, size_t queries,
                           int by_table, const struct beside_levels *levels, int32_t *sum)
{
    const size_t step = rows->rows * (QZ_BESIDE_CODES / 2), apart = rows->groups * rows->rows;
    for (size_t g = 0, first = 0, end; g < rows->groups; first = end, g++, sum += rows->rows) {
        end = qz_beside_group_end(rows, g);
        struct beside_tile tile = {rows->codes + first * step, query + first * QZ_BESIDE_CODES, pitch, step,
                                   end - first};
        size_t q = 0;
        for (; q + 4 <= queries; q += 4, tile.query += 4 * pitch)
            beside_rows(rows, tile, 4, by_table, levels, sum + q * apart, apart);
        for (; q < queries; q++, tile.query += pitch)
            beside_rows(rows, tile, 1, by_table, levels, sum + q * apart, apart);
    }
}

static TARGET void product_beside(const struct qz_beside *rows, const int8_t *query, size_t pitch, size_t queries,
                                  int32_t *sum)
{
    const struct beside_levels levels = beside_make_levels(rows->level);
    if (levels.by_table)
        beside_queries(rows, query, pitch, queries, 1, &levels, sum);
    else
        beside_queries(rows, query, pitch, queries, 0, &levels, sum);
}

#undef IN_TURN
#undef EACH
