/*
 * rules_template.h - codes by the rules of other tools; part of simd_template.h
 *
 * The branches of a rule are taken once for each block of four vectors, so that they cost little.
 */

INLINE VF through(VF v, qz_dtype dtype)
{
    return dtype == QZ_F16 ? vf_via_f16(v) : dtype == QZ_BF16 ? vf_via_bf16(v) : v;
}

/* 0..15, towards zero; NaN is 0. */
INLINE VF rule_level(VF y)
{
    VF none = vf_set1(0.0f);
    return vf_select(vf_lt(none, y), vf_min(y, vf_set1(15.0f)), none);
}

INLINE VI rule_e2m1(VF x, VF by)
{
    VF size = vf_abs(x), least = size, code = vf_set1(0.0f);
    for (int i = 1; i < 8; i++) {
        VF error = vf_abs(vf_sub(vf_mul(vf_set1(qz_e2m1_sizes[i]), by), size));
        VM nearer = vf_lt(error, least);
        least = vf_select(nearer, error, least);
        code = vf_select(nearer, vf_set1((float)i), code);
    }
    VF none = vf_set1(0.0f);
    return vi_add_where(vm_and(vf_ne(code, none), vf_lt(x, none)), vf_round(code), 8);
}

INLINE VI rule_away(VF y)
{
    y = rule_level(y);
    return vi_increment(vf_eq(vf_sub(y, vf_rint(y)), vf_set1(0.5f)), vf_round(y));
}

/* Towards zero, without clamping: below 0 where an int32 does not hold it, as long as that is clamped to 0..15 later. */
INLINE VI rule_trunc(VF y)
{
#ifdef HAS_LEAST_TRUNC
    return vi_trunc(y);
#else
    return vi_trunc(vf_select(vf_lt(y, vf_set1(0x1p31f)), y, vf_set1(0.0f)));
#endif
}

INLINE VI rule_shifted(VF y)
{
    return vi_trunc(vf_select(vf_lt(y, vf_set1(0x1p31f)), rule_level(y), vf_set1(0.0f)));
}

INLINE VF rule_steps(enum qz_rule_steps steps, VF x, VF by, VF from)
{
    return steps == QZ_STEPS_OVER    ? vf_div(x, by)
           : steps == QZ_STEPS_ABOVE ? vf_mul(vf_sub(x, from), by)
                                     : vf_mul(x, by);
}

/* The code of x, and of groups with `by` and `from`. The rule's branches are constants where speed matters. */
INLINE VI rule_code(enum qz_rule_steps steps, enum qz_rule_rounding rounding, qz_dtype type, VF shift, const VS *table,
                    VF x, VF by, VF from)
{
    if (rounding == QZ_ROUND_E2M1)
        return rule_e2m1(x, by);
    VF y = through(rule_steps(steps, x, by, from), type);
    if (rounding == QZ_ROUND_SHIFTED)
        return rule_shifted(vf_add(y, shift));
    if (rounding == QZ_ROUND_AWAY)
        return rule_away(vf_add(y, from));
    if (rounding == QZ_ROUND_EVEN_WITH)
        return vf_round(rule_level(vf_add(vf_rint(through(vf_add(y, from), type)), vf_set1(8.0f))));
    if (rounding == QZ_ROUND_EVEN_THEN_ADD)
        return vf_round(rule_level(vf_add(vf_rint(y), from)));
    return vi_lookup(table->code, vs_index(table, y));
}

INLINE void rule_codes_as(const struct qz_rule_codes *rule, enum qz_rule_steps steps, enum qz_rule_rounding rounding,
                          qz_dtype type, const float *x, size_t n, size_t group_size, const float *by,
                          const float *from, uint8_t *packed)
{
    const VS table = vs_of_tables(rule->upper, rule->code);
    const VF shift = vf_set1(rule->shift);
    const VI offset = vi_set1(-rule->offset);
    const VI in_bytes =
        vi_set1((16 - rule->offset) % 16 * 0x01010101); /* the same of codes in bytes, whose low bits count */
    const int late = rounding == QZ_ROUND_SHIFTED && type == QZ_F32; /* codes are clamped when they are bytes */
    const float *next = fetched_by_codes(x, n);
    size_t i = 0, unused = 0;
    if (group_size >= n || group_size % LANES == 0) {
        const size_t vectors = group_size >= n ? SIZE_MAX : group_size / LANES;
        const float *of_by = by, *of_from = from;
        for (size_t left = vectors; n - i >= 4 * LANES; i += 4 * LANES) {
            VI code[4];
            next = fetch(next, 3 * LANES);
            for (size_t j = 0; j < 4; j++, left--) {
                if (left == 0) {
                    left = vectors;
                    of_by++;
                    of_from++;
                }
                VF v = through(vf_load(x + i + j * LANES), rule->values);
                if (late) {
                    code[j] = rule_trunc(vf_add(rule_steps(steps, v, vf_set1(*of_by), vf_set1(*of_from)), shift));
                    continue;
                }
                code[j] = rule_code(steps, rounding, type, shift, &table, v, vf_set1(*of_by), vf_set1(*of_from));
                code[j] = vi_add(code[j], offset);
            }
            if (late)
                block_store(vi_add(block_clamp(code, 0, 15, &unused), in_bytes), packed + i / 2);
            else
                block_store(block_clamp(code, -rule->offset, 15 - rule->offset, &unused), packed + i / 2);
        }
    }
    int8_t bytes[QZ_TILE + LANES];
    size_t start = i;
    for (size_t g = i / group_size; i < n; g++) {
        size_t end = n - g * group_size < group_size ? n : (g + 1) * group_size;
        for (; i < end; i += LANES) {
            VF v = end - i < LANES ? vf_load_part(x + i, end - i, 0.0f) : vf_load(x + i);
            v = through(v, rule->values);
            VI code = rule_code(steps, rounding, type, shift, &table, v, vf_set1(by[g]), vf_set1(from[g]));
            vi_to_i8(bytes + (i - start), vi_add(code, offset));
        }
        i = end;
    }
    pack(bytes, n - start, packed + start / 2);
}

static TARGET void rule_codes(const struct qz_rule_codes *rule, const float *x, size_t n, size_t group_size,
                              const float *by, const float *from, uint8_t *packed)
{
#define AS(steps, rounding, type) rule_codes_as(rule, steps, rounding, type, x, n, group_size, by, from, packed)
    if (rule->type == QZ_F16 || rule->type == QZ_BF16)
        AS(rule->steps, rule->rounding, rule->type);
    else if (rule->rounding == QZ_ROUND_SHIFTED && rule->steps == QZ_STEPS_TIMES)
        AS(QZ_STEPS_TIMES, QZ_ROUND_SHIFTED, QZ_F32);
    else if (rule->rounding == QZ_ROUND_SHIFTED && rule->steps == QZ_STEPS_ABOVE)
        AS(QZ_STEPS_ABOVE, QZ_ROUND_SHIFTED, QZ_F32);
    else if (rule->rounding == QZ_ROUND_EVEN_WITH && rule->steps == QZ_STEPS_OVER)
        AS(QZ_STEPS_OVER, QZ_ROUND_EVEN_WITH, QZ_F32);
    else if (rule->rounding == QZ_ROUND_EVEN_THEN_ADD && rule->steps == QZ_STEPS_OVER)
        AS(QZ_STEPS_OVER, QZ_ROUND_EVEN_THEN_ADD, QZ_F32);
    else
        AS(rule->steps, rule->rounding, QZ_F32);
#undef AS
}
