/*
 * signs_scalar.h - sums of a query by the signs of rows, in plain C: the specification
 */

static int sum_of_signs(const struct qz_sign_rows *rows, const uint8_t *table, size_t r)
{
    int sum = 0;
    for (size_t s = 0; s < rows->steps; s++)
        sum += (int8_t)table[s * QZ_SIGN_TABLE + qz_sign_step(rows->plane + qz_sign_place(r), s)];
    return sum;
}

static int may_reach(const struct qz_sign_rows *rows, const struct qz_sign_queries *queries, size_t q, size_t r,
                     int16_t sum)
{
    const float limit = queries->limit[q];
    if (qz_sign_by_estimates(rows, queries))
        return !(qz_sign_estimate(rows->factor[r], sum, rows->bias ? rows->bias[r] * queries->start[q] : 0.0f) < limit);
    return !(limit > 0.0f) || sum >= qz_sign_least(limit, rows->scale) * rows->inverse[r] >> 16;
}

static void signs(const struct qz_sign_rows *rows, const struct qz_sign_queries *queries, int16_t *sum,
                  uint64_t *within)
{
    for (size_t q = 0; q < queries->count; q++, sum += QZ_SIGN_ROWS) {
        const uint8_t *table = queries->table + q * qz_sign_table(rows->steps);
        within[q] = 0;
        for (size_t r = 0; r < rows->rows; r++) {
            sum[r] = (int16_t)sum_of_signs(rows, table, r);
            within[q] |= (uint64_t)may_reach(rows, queries, q, r, sum[r]) << r;
        }
    }
}
