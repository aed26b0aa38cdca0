/*
 * computed_template.h - computes the values of uniform codes, on instruction sets where that is cheaper than looking
 * them up
 *
 * The files of such instruction sets include it, and define vt_of_group after it.
 */

typedef struct {
    VT table;
    VF scale, zero;
    qz_zero kind;
    int form;
} VG;

INLINE VT vt_of_group(VT values, qz_zero kind, VF scale, VF zero);

INLINE VF vg_compute(VF v, qz_zero kind, VF scale, VF zero)
{
    if (kind == QZ_ZERO_OFFSET)
        return vf_add(vf_mul(scale, v), zero);
    return vf_mul(scale, kind == QZ_ZERO_NONE ? v : vf_sub(v, zero));
}

INLINE VG vg_make(VT values, qz_zero kind, int form, VF scale, VF zero)
{
    VT table = form == QZ_ANY_VALUES ? vt_of_group(values, kind, scale, zero) : values;
    return (VG){table, scale, zero, kind, form};
}

INLINE VF vg_values(VG g, VI v)
{
    return g.form == QZ_ANY_VALUES ? vt_lookup(g.table, v) : vg_compute(vf_from_vi(v), g.kind, g.scale, g.zero);
}
