/*
 * stats.c - statistics of tensors: sums them over blocks, and prints them with the index of the largest error
 */
#include "stats.h"

#include <math.h>

#include "json.h"
#include "output.h"

void add_stats(qz_stats *sum, const qz_stats *part, uint64_t row, uint64_t col, uint64_t part_cols, uint64_t cols)
{
    if (part->count != 0) {
        uint64_t at = (row + part->max_index / part_cols) * cols + col + part->max_index % part_cols;
        if (sum->count == 0 || part->max_error > sum->max_error ||
            (part->max_error == sum->max_error && at < sum->max_index)) {
            sum->max_error = part->max_error;
            sum->max_index = at;
        }
    }
    sum->count += part->count;
    sum->signal += part->signal;
    sum->error += part->error;
    sum->clipped += part->clipped;
    sum->zeroed_groups += part->zeroed_groups;
    sum->subnormal_scales += part->subnormal_scales;
    sum->replaced += part->replaced;
    sum->weighted_signal += part->weighted_signal;
    sum->weighted_error += part->weighted_error;
}

double decibels(double signal, double error)
{
    return error > 0 ? 10 * log10(signal / error) : INFINITY;
}

double sqnr(const qz_stats *s)
{
    return decibels(s->signal, s->error);
}

double weighted_sqnr(const qz_stats *s)
{
    return decibels(s->weighted_signal, s->weighted_error);
}

double rmse(const qz_stats *s)
{
    return s->count != 0 ? sqrt(s->error / (double)s->count) : 0;
}

void matrix_index(const qz_tensor *t, unsigned axis, uint64_t row, uint64_t col, uint64_t *index)
{
    for (unsigned i = t->rank; i-- > 0;)
        if (i == axis) {
            index[i] = col;
        } else if (t->shape[i] == 0) {
            index[i] = 0; /* an empty tensor has no element */
        } else {
            index[i] = row % t->shape[i];
            row /= t->shape[i];
        }
}

static void worst_index(const qz_stats *s, const qz_tensor *t, unsigned axis, uint64_t *index)
{
    uint64_t cols = t->shape[axis];
    matrix_index(t, axis, cols != 0 ? s->max_index / cols : 0, cols != 0 ? s->max_index % cols : 0, index);
}

void stats_cells(table *t, const item *i, const qz_stats *stats, const qz_tensor *tensor, unsigned axis)
{
    char text[SHAPE_TEXT];
    uint64_t index[QZ_MAX_RANK];
    table_cell(t, "%s", qz_escape(i->name, i->name_length, text, NAME_TEXT));
    table_cell(t, "%.2f", sqnr(stats));
    table_cell(t, "%.4g", rmse(stats));
    table_cell(t, "%.4g", stats->max_error);
    worst_index(stats, tensor, axis, index);
    table_cell(t, "%s", stats->count != 0 ? shape_text(tensor->rank, index, text, sizeof text) : "");
}

void json_stats(const qz_stats *stats, const qz_tensor *tensor, unsigned axis, int weighted)
{
    uint64_t index[QZ_MAX_RANK];
    worst_index(stats, tensor, axis, index);
    json_begin("stats", '{');
    json_whole("count", stats->count);
    json_real("sqnr_db", sqnr(stats));
    if (weighted)
        json_real("weighted_sqnr_db", weighted_sqnr(stats));
    json_real("rmse", rmse(stats));
    json_real("max_error", stats->max_error);
    if (stats->count != 0)
        json_shape("max_error_at", tensor->rank, index);
    else
        json_null("max_error_at");
    json_whole("clipped", stats->clipped);
    json_whole("zeroed_groups", stats->zeroed_groups);
    json_whole("subnormal_scales", stats->subnormal_scales);
    json_whole("replaced", stats->replaced);
    json_end();
}

/* ---- failures ---- */

/* The index of what a result refers to: the first element of a group, or an element. */
static void place_of(qz_result result, const matrix_part *p, const qz_detail *detail, uint64_t *index)
{
    uint64_t row = p->row, col = p->col;
    if (p->scheme && (result == QZ_ERROR_SCALE || result == QZ_ERROR_PACKED)) {
        uint64_t group = p->scheme->group_size, row_groups = p->cols / group + (p->cols % group != 0);
        row += row_groups != 0 ? detail->group / row_groups : 0;
        col += row_groups != 0 ? detail->group % row_groups * group : 0;
    } else if (p->cols != 0) {
        row += detail->index / p->cols;
        col += detail->index % p->cols;
    }
    matrix_index(p->tensor, p->axis, row, col, index);
}

int fail_part(qz_result result, const matrix_part *p, const qz_detail *detail)
{
    char name[NAME_TEXT], at[SHAPE_TEXT];
    uint64_t index[QZ_MAX_RANK];
    qz_escape(p->tensor->name, p->tensor->name_length, name, sizeof name);
    place_of(result, p, detail, index);
    shape_text(p->tensor->rank, index, at, 200);
    at_tensor(p->tensor->name, p->tensor->name_length);
    if (result == QZ_ERROR_RANGE || result == QZ_ERROR_SCALE || result == QZ_ERROR_WEIGHT || result == QZ_ERROR_PACKED)
        at_index(p->tensor, index);
    switch (result) {
    case QZ_ERROR_RANGE:
        return fail(REFUSED, "tensor '%s': the value %g at %s does not fit, with %" PRIu64 " such in this part", name,
                    detail->value, at, detail->count);
    case QZ_ERROR_SCALE:
        return fail(REFUSED,
                    "tensor '%s': the scale or offset of the group at %s, whose largest magnitude is %g, does not fit "
                    "its type; use --scale-dtype float32 or bfloat16, or a scheme that can have these",
                    name, at, detail->value);
    case QZ_ERROR_WEIGHT:
        return fail(REFUSED, "tensor '%s': its weight at %s, %g, is negative, NaN or infinite", name, at,
                    detail->value);
    case QZ_ERROR_PACKED:
        return fail(MALFORMED, "tensor '%s': the packed data breaks its format in the group at %s", name, at);
    case QZ_ERROR_SIZE:
    case QZ_ERROR_MEMORY:
        return fail(LIMIT, "tensor '%s': %s", name, qz_result_text(result));
    case QZ_ERROR_ARGUMENT:
        return fail(USAGE, "tensor '%s': %s", name, qz_result_text(result));
    case QZ_ERROR_KERNELS:
        return fail(USAGE, "%s", qz_result_text(result));
    default:
        return fail(INTERNAL, "tensor '%s': %s", name, qz_result_text(result));
    }
}
