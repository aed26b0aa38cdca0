/*
 * signs_scalar.h - estimates of the scores of rows by their signs, in plain C: the specification
 */

static int32_t sum_of_signs(const struct qz_sign_rows *rows, const uint8_t *table, size_t r)
{
    int32_t sum = 0;
    for (size_t s = 0; s < rows->steps; s++)
        sum += (int8_t)table[s * QZ_SIGN_TABLE + qz_sign_step(rows->plane + qz_sign_place(r), s)];
    return sum;
}

static void signs(const struct qz_sign_rows *rows, const struct qz_sign_queries *queries, float *estimate,
                  uint64_t *within)
{
    for (size_t q = 0; q < queries->count; q++, estimate += QZ_SIGN_ROWS) {
        const uint8_t *table = queries->table + q * qz_sign_table(rows->steps);
        within[q] = 0;
        for (size_t r = 0; r < rows->rows; r++) {
            float near = rows->bias ? rows->bias[r] * queries->start[q] : 0.0f;
            estimate[r] = fmaf(rows->factor[r], (float)sum_of_signs(rows, table, r), near);
            within[q] |= (uint64_t) !(estimate[r] < queries->limit[q]) << r;
        }
    }
}
