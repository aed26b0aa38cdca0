/*
 * signs_template.h - estimates of rows by their signs
 *
 * Six signs choose one of 64 sums of a query, which an instruction or two look up for SIGN_LANES rows. Tables in
 * registers are the way of Andre, Kermarrec and Le Scouarnec ("Cache locality is not enough", VLDB 2015; "Quick ADC",
 * ICMR 2017), of whose codes four bits choose. Each instruction set has
 *
 *   SIGN_LANES                bytes in a vector VU: 16, 32 or 64
 *   vu_load(p) vu_add(a, b)
 *   vu_lookup(table, upper, v)    from 64 bytes, or from the first 16 and from 16 for the upper bits
 *   VW, vw_zero() vw_add(w, v)    bytes added to 16 bits; vw_store(p, w): as uint16_t, in order
 */

#define EACH(i, n) _Pragma("GCC unroll 4") for (size_t i = 0; i < (n); i++)

/* SIGN_LANES rows with `width` queries, a constant. */
INLINE void sum_up_signs(const uint8_t *plane, size_t steps, const uint8_t *table, size_t width, int32_t *sum)
{
    VW total[QZ_SIGN_QUERIES];
    EACH(q, width) total[q] = vw_zero();
    for (size_t s = 0; s < steps; s += 3) {
        const uint8_t *at = plane + s * QZ_SIGN_ROWS;
        const VU three[3] = {vu_load(at), vu_load(at + QZ_SIGN_ROWS), vu_load(at + 2 * QZ_SIGN_ROWS)};
        EACH(q, width)
        {
            const uint8_t *of = table + q * qz_sign_table(steps), *upper = of + steps * QZ_SIGN_TABLE;
            VU found[3];
            EACH(i, 3) found[i] = vu_lookup(of + (s + i) * QZ_SIGN_TABLE, upper + (s + i) * QZ_SIGN_UPPER, three[i]);
            total[q] = vw_add(total[q], vu_add(vu_add(found[0], found[1]), found[2]));
        }
    }
    EACH(q, width)
    {
        uint16_t found[SIGN_LANES];
        vw_store(found, total[q]);
        for (size_t r = 0; r < SIGN_LANES; r++)
            sum[q * QZ_SIGN_ROWS + r] = (int32_t)found[r] - QZ_SIGN_MIDDLE * (int32_t)steps;
    }
}

INLINE uint64_t estimate_rows(const struct qz_sign_rows *rows, const int32_t *sum, float start, float limit,
                              float *estimate)
{
    uint64_t below = 0;
    for (size_t r = 0; r < QZ_SIGN_ROWS; r += LANES) {
        VF near = rows->bias ? vf_mul(vf_load(rows->bias + r), vf_set1(start)) : vf_set1(0.0f);
        near = vf_fma(vf_load(rows->factor + r), vf_from_vi(vi_load(sum + r)), near);
        vf_store(estimate + r, near);
        below |= (uint64_t)vm_bits(vf_lt(near, vf_set1(limit))) << r;
    }
    return ~below & ~(uint64_t)0 >> (QZ_SIGN_ROWS - rows->rows);
}

static TARGET void signs(const struct qz_sign_rows *rows, const struct qz_sign_queries *queries, float *estimate,
                         uint64_t *within)
{
    int32_t sum[QZ_SIGN_QUERIES * QZ_SIGN_ROWS];
    for (size_t r = 0; r < QZ_SIGN_ROWS; r += SIGN_LANES)
        if (queries->count == QZ_SIGN_QUERIES)
            sum_up_signs(rows->plane + r, rows->steps, queries->table, QZ_SIGN_QUERIES, sum + r);
        else
            for (size_t q = 0; q < queries->count; q++)
                sum_up_signs(rows->plane + r, rows->steps, queries->table + q * qz_sign_table(rows->steps), 1,
                             sum + q * QZ_SIGN_ROWS + r);
    for (size_t q = 0; q < queries->count; q++)
        within[q] = estimate_rows(rows, sum + q * QZ_SIGN_ROWS, queries->start[q], queries->limit[q],
                                  estimate + q * QZ_SIGN_ROWS);
}

#undef EACH
