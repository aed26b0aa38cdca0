/*
 * simd_template.h - the vector algorithms, written once
 *
 * The file of an instruction set defines the vocabulary below, includes this file, and lists the functions in its
 * kernel table. Every function returns the bits of the function with the same name in scalar.c, which says what it
 * computes.
 *
 *   TARGET                    function attribute that enables the instruction set
 *   INLINE                    the same for functions whose constant arguments must reach their loops
 *   LANES                     floats in a vector: 4, 8 or 16
 *   VF, VI, VM                vector of floats, of int32, and a mask of lanes
 *   vf_load vf_store vf_set1 vf_add vf_sub vf_mul vf_div vf_min vf_max vf_abs vf_neg
 *   vf_max_abs(a, b)          the larger of a and |b|, for a >= 0
 *   vf_fma(a, b, c)           a * b + c, rounded once
 *   vf_load_part(p, n, other) vf_store_part(p, n, v)     the first n < LANES elements; other lanes are `other`
 *   vf_lt vf_le vf_eq vf_ne -> VM    vf_select(m, a, b): a where m, else b    vm_none vm_and vm_or vm_any vm_bits
 *   vm_and_ne(m, a, b)        where m, and a is not b
 *   vf_hmin vf_hmax           smallest and largest lane
 *   reduce_groups(x, group_size, &min, &max, &check)     ranges of LANES groups; check as in range_f32
 *   vf_round -> VI, vf_rint -> VF    to nearest even        vi_trunc(v) -> VI    towards zero; to VI, of what fits
 *   vf_via_f16 vf_via_bf16    round trip through a narrow type
 *   vf_from_f16 vf_from_bf16 vf_from_f64(p) -> VF         vf_to_f16 vf_to_bf16(p, v)      LANES elements
 *   vi_load vi_set1 vi_add    vi_increment(m, v): v + 1 where m
 *   vi_from_i8(p) -> VI       vi_to_i8(p, v)              LANES bytes, sign-extended and truncated
 *   bytes_strange(bad, p)     sets bits in `bad` if any of 4 * LANES bytes is outside -8..7; vi_any(bad)
 *   vi_clamp(v, lo, hi)       vi_lt(a, b) -> VM
 *   vi_add_where(m, v, k)     v + k where m, k a constant
 *   vm_count(m, n)            how many of the first n lanes are set
 *   vf_power(v)               the power of two at or below |v|; 0 for subnormal numbers, infinity for it and NaN
 *   vf_ratio(x, v)            x / v, both powers of two, of which x is a number, and so is the quotient a normal one
 *   vf_between(v, lo, hi)     v, or the end it is beyond
 *   vm_to_u8(p, m)            LANES bytes, 1 where m, else 0
 *   VT, vt_load(p), vt_lookup(t, v)                       a table of 16 floats, looked up by the low 4 bits
 *   vi_lookup(t, v)           the same with a table of int32
 *   VB, vb_make(upper, value), vb_nearest(&b, y)          value[i] of 16, i being how many of the first 15 of `upper`
 *                             are <= y; both ascend (where HAS_VB: otherwise VT are looked up)
 *   VP, vp_load(p), vp_lookup(t, v), vp_lookup_vi(t, v)   a table of 32 floats or int32, looked up by 0..31 (where
 *                             HAS_VP)
 *   vp_cell(y, most, factor) -> VI     of y, brought into -most..most: floor(y * factor) + 16, in the low 5 bits (where
 *                             HAS_VP)
 *   vf_cell(v) -> VI          to nearest even and to 0..31 (where HAS_CELLS)
 *   vi_nibbles(p, sign)       LANES packed codes as int32 (with sign != 0 in two's complement)
 *   VG, vg_make(values, kind, form, scale, zero), vg_values(g, v)    the values of codes in a group, whose scale and
 *                             zero are in all lanes; computed_template.h has them where uniform codes are computed
 *   VL, vl_first()            the number of a lane; vl_one(one) declares what leads to the next one, vl_next(l, one)
 *   VN, vn_of(v), vn_lane(n, l)      a vector of which single lanes are wanted, and such a lane everywhere
 *   vf_store_lanes(at, v)     stores LANES floats that will be loaded one by one
 *   vt_of_group(values, kind, scale, zero) -> VT         the values of all codes in a group
 *   vt_not_below(t, limit) -> VM                          where |a value| is not below the limit; NaN is not
 *   VH, vh_make(t, dtype)     a table as float16 or bfloat16; there are no values beyond these types, and no NaN
 *   vh_lookup_16 vh_lookup_32(t, dtype, p, dst)           so many packed codes' numbers
 *   bytes_block(v, out)       4 * LANES indices 0..15, as bytes index - 8
 *   block_clamp(v, lo, hi, &clipped) -> VI        4 vectors of codes, clamped, as bytes in some order; adds to clipped
 *                             how many were
 *   block_cap(v, hi) -> VI    the same of codes that are not below the range, and not counted
 *   VX, vx_make(&cells)       a grid's cells (where HAS_CELLS)
 *   block_cells(&cells, y, &clipped) -> VI        as block_clamp, for 4 vectors to be rounded by them
 *   block_store(bytes, out)   a block's codes as 2 * LANES bytes
 *   block_code(bytes, j, sign)    vector j of a block, as vi_nibbles gives them (where HAS_BLOCK_CODE)
 *   transpose_block(src, src_stride, dst, dst_stride)     LANES x LANES floats
 *   VD, VD_LANES, vd_load vd_store vd_set1 vd_add vd_sub vd_mul vd_div vd_min vd_max vd_rint vd_fma vd_from_f32(p)
 *                             a vector of doubles; vd_to_i8(p, v) stores numbers that are codes, as VD_LANES bytes
 *   HAS_DECODE_F64            where decode_f64 is a kernel of the set's own
 *   VD_TILE                   so many of them, four times, and two more fit into the registers
 *   pack, unpack              whole kernels
 */

#include "arrays_template.h"

#include "groups_template.h"

#include "encode_template.h"

#include "rules_template.h"

#include "error_template.h"

#include "nearest_template.h"

#include "conversions_template.h"

#include "matrices_template.h"

#include "products_template.h"

#include "byte_scales_template.h"

#include "stored_template.h"

#include "columns_template.h"

#include "search_template.h"
