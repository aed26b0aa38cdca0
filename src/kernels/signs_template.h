/*
 * signs_template.h - estimates of the scores of rows by their signs; part of simd_template.h
 *
 * Six signs choose one of 64 sums of a query, which one or two instructions look up for SIGN_LANES rows. Tables in
 * registers are the method of Andre, Kermarrec and Le Scouarnec ("Cache locality is not enough", VLDB 2015; "Quick
 * ADC", ICMR 2017), whose tables are chosen by four bits. Each instruction set has
 *
 *   SIGN_LANES                bytes in a vector VU: 4 * LANES
 *   vu_load(p) vu_set1(k) vu_add(a, b)
 *   vu_upper(a, b, c)         the upper two bits of bytes of each, those of a lowest; above these six any
 *   vu_lookup(table, upper, v)    from 64 bytes, or from the first 16 and from 16 for the upper bits
 *   VW, vw_zero() vw_add(w, v)    bytes added to 16 bits
 *   vw_reaches(w, p, least, from)  whether any, all are below 2^15, is not below from + (least * p[i] >> 16), where those
 *                                 at odd places have p[32 + i]
 *   vw_part(w, i)                 sums of bytes i, i + 4, i + 8, ... as 32-bit lanes
 */

_Static_assert(SIGN_LANES == 4 * LANES, "a part of VW is a vector of 32-bit lanes");

#define EACH(i, n) _Pragma("GCC unroll 4") for (size_t i = 0; i < (n); i++)

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

/* SIGN_LANES rows with `width` queries: sums, and QZ_SIGN_MIDDLE for each run. */
INLINE void sum_up_signs(const uint8_t *plane, size_t steps, const uint8_t *table, size_t width, VW *total)
{
    EACH(q, width) total[q] = vw_zero();
    for (size_t s = 0, end; s < steps; s = end) {
        VU sum[QZ_SIGN_QUERIES];
        end = steps - s < QZ_SIGN_RUN ? steps : s + QZ_SIGN_RUN;
        EACH(q, width) sum[q] = vu_set1(QZ_SIGN_MIDDLE);
        for (size_t i = s; i < end; i += 4, plane += 3 * QZ_SIGN_ROWS)
            sum_up_four(plane, i, steps, table, width, sum);
        EACH(q, width) total[q] = vw_add(total[q], sum[q]);
    }
}

/* Of the rows of each quarter, LANES from r on. */
INLINE uint64_t estimate_rows(const struct qz_sign_rows *rows, VW total, size_t r, float start, float limit,
                              float *estimate)
{
    const VF middle = vf_set1((float)(QZ_SIGN_MIDDLE * qz_sign_runs(rows->steps)));
    uint64_t below = 0, all = 0;
    VF near[4];
    EACH(i, 4)
    {
        const size_t at = i * (QZ_SIGN_ROWS / 4) + r;
        near[i] = rows->bias ? vf_mul(vf_load(rows->bias + at), vf_set1(start)) : vf_set1(0.0f);
        near[i] = vf_fma(vf_load(rows->factor + at), vf_sub(vf_from_vi(vw_part(total, i)), middle), near[i]);
        below |= (uint64_t)vm_bits(vf_lt(near[i], vf_set1(limit))) << at;
        all |= (((uint64_t)1 << LANES) - 1) << at;
    }
    if (below != all)
        EACH(i, 4) vf_store(estimate + i * (QZ_SIGN_ROWS / 4) + r, near[i]);
    return below ^ all;
}

/* `width` as above. */
INLINE void look_at_signs(const struct qz_sign_rows *rows, const uint8_t *table, const float *start, const float *limit,
                          size_t width, float *estimate, uint64_t *within)
{
    const int middle = QZ_SIGN_MIDDLE * (int)qz_sign_runs(rows->steps);
    VW total[QZ_SIGN_QUERIES];
    int least[QZ_SIGN_QUERIES], from[QZ_SIGN_QUERIES];
    EACH(q, width)
    {
        const int some = !rows->bias && limit[q] > 0.0f;
        least[q] = some ? qz_sign_least(limit[q], rows->scale) : 0;
        from[q] = some ? middle : 0;
        within[q] = 0;
    }
    for (size_t r = 0; r < QZ_SIGN_ROWS / 4; r += LANES) {
        sum_up_signs(rows->plane + 4 * r, rows->steps, table, width, total);
        EACH(q, width)
        if (width == 1 || vw_reaches(total[q], rows->inverse + 2 * r, least[q], from[q]))
            within[q] |= estimate_rows(rows, total[q], r, start[q], limit[q], estimate + q * QZ_SIGN_ROWS);
    }
    EACH(q, width) within[q] &= ~(uint64_t)0 >> (QZ_SIGN_ROWS - rows->rows);
}

static TARGET void signs(const struct qz_sign_rows *rows, const struct qz_sign_queries *queries, float *estimate,
                         uint64_t *within)
{
    const size_t table = qz_sign_table(rows->steps);
    if (queries->count == QZ_SIGN_QUERIES)
        look_at_signs(rows, queries->table, queries->start, queries->limit, QZ_SIGN_QUERIES, estimate, within);
    else
        for (size_t q = 0; q < queries->count; q++)
            look_at_signs(rows, queries->table + q * table, queries->start + q, queries->limit + q, 1,
                          estimate + q * QZ_SIGN_ROWS, within + q);
}

#undef EACH
