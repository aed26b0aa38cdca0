/*
 * convert_plan.c - the plan of convert: chooses the scheme that each tensor will have
 *
 * It is the first scheme that the layout takes and that can hold the numbers of the tensor.
 */
#include "convert.h"

#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "recode.h"

/* Schemes that might say the same as another, those with fewer bytes first. */
static size_t candidates_of(const qz_scheme *from, qz_scheme *out, size_t most)
{
    static const char *const integers[] = {"int4", "uint4", "uint4_offset"};
    const qz_dtype dtypes[] = {from->scale_dtype, QZ_E4M3, QZ_F16, QZ_BF16, QZ_F32};
    const uint64_t groups[] = {from->group_size, 4096, 1024, 512, 256, 128, 64, 32};
    int may_be_other = from->codes == QZ_INT4 || from->codes == QZ_UINT4;
    size_t n = 0;
    out[n++] = *from;
    if (from->codes == QZ_FP4 && from->scale_dtype == QZ_E4M3 && from->super_size == 0) {
        out[n] = *from;
        out[n].super_dtype = QZ_F32;
        out[n++].super_size = QZ_WHOLE_MATRIX;
    }
    for (size_t d = 0; d < 5; d++)
        for (size_t g = 0; g < 8; g++)
            for (size_t z = 0; z < (may_be_other ? 3 : 1) && n < most; z++) {
                qz_scheme to = may_be_other ? *qz_scheme_by_name(integers[z]) : *from;
                to.super_dtype = (qz_dtype)0;
                to.super_size = 0;
                to.scale_dtype = dtypes[d];
                to.group_size = groups[g];
                if (qz_scheme_check(&to, QZ_DEFAULT) == QZ_OK && recode_grade_of(from, &to) != RECODE_NEVER)
                    out[n++] = to;
            }
    return n;
}

/* Whether zeros that encoding chooses might be some that the layout has not. */
static int may_be_refused(const char *layout, const qz_scheme *to)
{
    char why[8];
    return to->zero == QZ_ZERO_UINT4 && qz_layout_refuses_block(layout, to, 0, 0, NULL, why, sizeof why);
}

/* Chooses a scheme that the layout takes, whatever its values: the same, if only its super scale has no place there; of
 * those with the same codes, or else with a zero or an offset, or else of all, the first. Groups have the size that they
 * have, or that of the scheme. */
static int find_scheme(const converter *c, conversion *v, const qz_packed_tensor *packed)
{
    const qz_scheme *row;
    char why[200];
    v->scheme = packed->scheme;
    if (v->scheme.super_size == QZ_WHOLE_MATRIX &&
        !qz_layout_refuses(c->layout, &v->scheme, packed->rank, packed->shape, packed->axis, why, sizeof why)) {
        v->neighbour = 1;
        return 1;
    }
    for (int rank = 0; rank < 3; rank++)
        for (size_t i = 0; (row = qz_scheme_at(i / 4)) != NULL; i++) {
            qz_scheme to = *row;
            if (i % 2 == 0)
                to.group_size = packed->scheme.group_size;
            if (i % 4 >= 2)
                to.scale_dtype = QZ_F32;
            if ((rank == 0 && to.codes != packed->scheme.codes) || (rank == 1 && to.zero == QZ_ZERO_NONE) ||
                to.super_size == QZ_WHOLE_ROW || qz_scheme_check(&to, QZ_DEFAULT) != QZ_OK ||
                may_be_refused(c->layout, &to) ||
                qz_layout_refuses(c->layout, &to, packed->rank, packed->shape, packed->axis, why, sizeof why))
                continue;
            v->scheme = to;
            return 1;
        }
    return 0;
}

/* Chooses the scheme that the tensor will have: the first that the layout takes and that its numbers fit. */
static int plan_packed(converter *c, conversion *v, const qz_packed_tensor *packed)
{
    enum { MOST = 130 };
    qz_scheme *schemes = malloc(MOST * sizeof *schemes);
    char why[WHY_TEXT], refused[WHY_TEXT] = "";
    int as_it_is = 0; /* `refused` speaks of the scheme that the tensor has, which says more than any other */
    if (!schemes)
        return fail_memory();
    v->from = packed->scheme;
    int code = c->choices ? choices_next(c, &v->choice) : DONE;
    size_t n = candidates_of(&packed->scheme, schemes, MOST), chosen = n;
    for (size_t i = 0; i < n && chosen == n && code == DONE; i++) {
        const char *refusal =
            qz_layout_refuses(c->layout, &schemes[i], packed->rank, packed->shape, packed->axis, why, sizeof why);
        if (refusal) {
            if (i == 0)
                snprintf(refused, sizeof refused, "%s", refusal);
            continue;
        }
        if (c->choices && v->choice != (int)i)
            continue;
        if (!c->choices && (recode_grade_of(&packed->scheme, &schemes[i]) == RECODE_PERHAPS ||
                            qz_layout_refuses_block(c->layout, &schemes[i], 0, 0, NULL, why, sizeof why))) {
            code = look_at_numbers(c, v, &schemes[i], why);
            v->looked = 1;
        }
        if (code == DONE)
            chosen = i;
        if (code == REFUSED && why[0] != '\0') {
            if (!as_it_is)
                snprintf(refused, sizeof refused, "%s", why);
            as_it_is |= i == 0;
            code = DONE;
        }
    }
    const int differs = c->choices && v->choice != (chosen < n ? (int)chosen : REQUANTIZED);
    v->choice = chosen < n ? (int)chosen : REQUANTIZED;
    if (code == DONE && differs)
        code = fail_choices(c);
    else if (code == DONE && chosen < n)
        v->scheme = schemes[chosen];
    else if (code == DONE && c->s->output.requantize && find_scheme(c, v, packed))
        v->requantized = 1;
    else if (code == DONE)
        code = fail_tensor(c, v->item, refused);
    free(schemes);
    return code;
}

int plan_conversion(converter *c)
{
    int code = DONE;
    c->all = calloc(c->in.count + 1, sizeof *c->all);
    if (!c->all)
        return fail_memory();
    for (size_t i = 0; i < c->in.count && code == DONE; i++) {
        qz_packed_tensor packed;
        qz_tensor t;
        conversion *v = &c->all[c->count++];
        v->item = &c->in.items[i];
        at_tensor(v->item->name, v->item->name_length);
        code = source_tensor(&c->in, v->item, &t, &packed);
        if (code != DONE)
            break;
        v->bytes = t.bytes;
        v->values = t.count;
        v->stays = qz_stored_stays(c->in.file, v->item->tensor, c->layout);
        v->bytes_after = v->stays ? v->bytes : t.count * qz_element_size(t.element);
        if (v->item->packed)
            code = plan_packed(c, v, &packed);
    }
    if (code == DONE)
        at_tensor(NULL, 0);
    return code == DONE && c->choices ? choices_end(c) : code;
}
