/*
 * signs_template.h - sums of queries by the signs of rows; part of simd_template.h
 *
 * Six signs choose one of 64 sums of a query, which one or two instructions look up for SIGN_LANES rows. Tables in
 * registers are the method of Andre, Kermarrec and Le Scouarnec ("Cache locality is not enough", VLDB 2015; "Quick
 * ADC", ICMR 2017), whose tables are chosen by four bits. Each instruction set has
 *
 *   SIGN_LANES                bytes in a vector VU
 *   SIGN_WIDTH                queries whose sums stay in registers together
 *   vu_load(p) vu_set1(k) vu_add(a, b)
 *   vu_upper(a, b, c)         the upper two bits of bytes of each, those of a lowest; above these six any
 *   vu_lookup(table, upper, v)    from 64 bytes, or from the first 16 and from 16 for the upper bits
 *   VW, vw_set1(k) vw_add(w, v)   bytes added to 16 bits: those of even places, and those of odd ones
 *   vw_store(p, w)            even ones from p on, odd ones from p + 32 on
 *   vw_reaching(w, p, least)  bit i of even ones, and bit 32 + i of odd ones: it is not below least * p[i] >> 16, with
 *                             32 + i in the place of i for odd ones
 *   vi_from_i16(p) -> VI      LANES of them
 */

#define EACH(i, n) _Pragma("GCC unroll 8") for (size_t i = 0; i < (n); i++)

/* Four steps of SIGN_LANES rows with `width` queries, a constant. */
INLINE void sum_up_four(const uint8_t *at, size_t s, size_t steps, const uint8_t *table, size_t width, VU *sum)
{
    const VU a = vu_load(at), b = vu_load(at + QZ_SIGN_ROWS), c = vu_load(at + 2 * QZ_SIGN_ROWS);
    const VU four[4] = {a, b, c, vu_upper(a, b, c)};
    EACH(q, width)
    {
        const uint8_t *of = table + q * qz_sign_table(steps), *upper = of + steps * QZ_SIGN_TABLE;
        VU found[4];
        if (width == 1)
            EACH(i, 3) qz_fetch_ahead(at + i * QZ_SIGN_ROWS);
        EACH(i, 4) found[i] = vu_lookup(of + (s + i) * QZ_SIGN_TABLE, upper + (s + i) * QZ_SIGN_UPPER, four[i]);
        sum[q] = vu_add(sum[q], vu_add(vu_add(found[0], found[1]), vu_add(found[2], found[3])));
    }
}

/* SIGN_LANES rows with `width` queries. */
INLINE void sum_up_signs(const uint8_t *plane, size_t steps, const uint8_t *table, size_t width, VW *total)
{
    EACH(q, width) total[q] = vw_set1(-QZ_SIGN_MIDDLE * (int)qz_sign_runs(steps));
    for (size_t s = 0, end; s < steps; s = end) {
        VU sum[SIGN_WIDTH];
        end = steps - s < QZ_SIGN_RUN ? steps : s + QZ_SIGN_RUN;
        EACH(q, width) sum[q] = vu_set1(QZ_SIGN_MIDDLE);
        for (size_t i = s; i < end; i += 4, plane += 3 * QZ_SIGN_ROWS)
            sum_up_four(plane, i, steps, table, width, sum);
        EACH(q, width) total[q] = vw_add(total[q], sum[q]);
    }
}

/* Rows whose estimates are not below the limit. */
INLINE uint64_t estimates_reaching(const struct qz_sign_rows *rows, const int16_t *sum, float start, float limit)
{
    uint64_t below = 0;
    for (size_t r = 0; r < QZ_SIGN_ROWS; r += LANES) {
        const VF near = rows->bias ? vf_mul(vf_load(rows->bias + r), vf_set1(start)) : vf_set1(0.0f);
        const VF estimate = vf_add(vf_mul(vf_load(rows->factor + r), vf_from_vi(vi_from_i16(sum + r))), near);
        below |= (uint64_t)vm_bits(vf_lt(estimate, vf_set1(limit))) << r;
    }
    return ~below;
}

/* `width` queries from q on. */
INLINE void look_at_signs(const struct qz_sign_rows *rows, const struct qz_sign_queries *queries, size_t q,
                          size_t width, int16_t *sum, uint64_t *within)
{
    const uint8_t *table = queries->table + q * qz_sign_table(rows->steps);
    const float *limit = queries->limit + q;
    const int by_estimates = qz_sign_by_estimates(rows, queries);
    VW total[SIGN_WIDTH];
    int least[SIGN_WIDTH];
    sum += q * QZ_SIGN_ROWS;
    within += q;
    EACH(i, width)
    {
        within[i] = by_estimates || limit[i] > 0.0f ? 0 : ~(uint64_t)0;
        least[i] = qz_sign_least(limit[i], rows->scale);
    }
    for (size_t r = 0; r < QZ_SIGN_ROWS / 2; r += SIGN_LANES / 2) {
        sum_up_signs(rows->plane + 2 * r, rows->steps, table, width, total);
        EACH(i, width)
        {
            vw_store(sum + i * QZ_SIGN_ROWS + r, total[i]);
            if (width > 1 || !by_estimates)
                within[i] |= vw_reaching(total[i], rows->inverse + r, least[i]) << r;
        }
    }
    EACH(i, width)
    {
        if (by_estimates)
            within[i] = estimates_reaching(rows, sum + i * QZ_SIGN_ROWS, queries->start[q + i], limit[i]);
        within[i] &= ~(uint64_t)0 >> (QZ_SIGN_ROWS - rows->rows);
    }
}

static TARGET void signs(const struct qz_sign_rows *rows, const struct qz_sign_queries *queries, int16_t *sum,
                         uint64_t *within)
{
    size_t q = 0;
    for (; queries->count - q >= SIGN_WIDTH; q += SIGN_WIDTH)
        look_at_signs(rows, queries, q, SIGN_WIDTH, sum, within);
    for (; queries->count - q >= 4; q += 4)
        look_at_signs(rows, queries, q, 4, sum, within);
    for (; q < queries->count; q++)
        look_at_signs(rows, queries, q, 1, sum, within);
}

#undef EACH
