/*
 * convert_tensor.c - converts one tensor to another layout, block by block, with the same values or requantized
 */
#include "convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "output.h"
#include "packed_block.h"
#include "recode.h"
#include "stats.h"

/* ---- blocks ---- */

/* A tensor on its way. */
typedef struct passage {
    packed_reader reader;
    const qz_scheme *to;
    const char *layout;
    qz_packed room;    /* for a block of the other scheme */
    qz_writer *writer; /* NULL: only to see whether it is possible */
    const qz_packed_tensor *target;
    char why[CREW_MOST][WHY_TEXT]; /* it is not: what the members of the crew found; the first one is the answer */
    crew *crew;
    uint64_t rows; /* look at no more than the first ones */

    conversion *requantized; /* not NULL: values are decoded and encoded again */
    qz_pool *pool;
    float *values;
    float *largest; /* magnitude, for super scales of all; being found if there is no writer */
} passage;

/* The super scale, or the next larger one that the layout has a place for. */
static float neighbour_of(const passage *p, float super)
{
    enum { TRIES = 100 };
    uint64_t code = 0, scale = 0;
    char why[200];
    const qz_packed packed = {.codes = &code, .scales = &scale, .supers = &super};
    for (int i = 0; i < TRIES && qz_layout_refuses_block(p->layout, p->to, 1, 1, &packed, why, sizeof why); i++)
        super = nextafterf(super, INFINITY);
    return super;
}

/* The same codes and scales with a super scale that has a place. */
static qz_result take_neighbour(passage *p, const qz_packed *from, const qz_packed *to, const qz_matrix *values,
                                qz_stats *stats, qz_detail *detail)
{
    float super;
    memcpy(&super, from->supers, sizeof super);
    super = neighbour_of(p, super);
    recode_block(p->to, from, p->to, to, values->rows, values->cols, p->why[0], WHY_TEXT); /* all is as it is */
    memcpy(to->supers, &super, sizeof super);
    return qz_compare(p->to, to, values, p->pool, stats, detail);
}

/* Decodes and encodes a block of whole rows; or finds the largest value of it. */
static int requantize_block(passage *p, const block *b, const qz_packed *from, const qz_packed *to)
{
    const qz_packed_tensor *packed = &p->reader.packed;
    uint64_t rows = b->count[INNER], cols = packed->cols;
    const matrix_part part = {&p->reader.tensor, packed->axis, p->to, b->row, 0, cols};
    qz_matrix matrix = {p->values, QZ_F32, rows, cols, (int64_t)cols, 1};
    qz_whole whole = {.size = sizeof whole, .rows = packed->rows, .cols = cols, .row = b->row, .largest = p->largest};
    qz_options options = QZ_OPTIONS_INIT;
    qz_detail detail = QZ_DETAIL_INIT;
    qz_stats stats = QZ_STATS_INIT;
    options.pool = p->pool;
    options.whole = &whole;
    qz_result result = qz_decode(&packed->scheme, from, &matrix, p->pool, &detail);
    if (result == QZ_OK && p->requantized->neighbour)
        result = take_neighbour(p, from, to, &matrix, &stats, &detail);
    else if (result == QZ_OK && !p->writer)
        result = qz_largest(p->to, &matrix, p->largest, p->pool);
    else if (result == QZ_OK)
        result = qz_encode(p->to, &matrix, to, &options, &stats, &detail);
    if (result == QZ_OK && p->writer)
        add_stats(&p->requantized->stats, &stats, b->row, 0, cols, cols);
    return result == QZ_OK ? DONE : fail_part(result, &part, &detail);
}

/* Whether the layout can store the numbers of a block. */
static int has_place(const passage *p, char why[WHY_TEXT], uint64_t rows, uint64_t cols, const qz_packed *numbers)
{
    const char *wrong = qz_layout_refuses_block(p->layout, p->to, rows, cols, numbers, why, WHY_TEXT);
    if (wrong && wrong != why)
        snprintf(why, WHY_TEXT, "%s", wrong);
    return !wrong;
}

/* Rows of a block, as they will lie in the output. */
typedef struct passing_block {
    passage *p;
    const block *of;
    const qz_packed *from, *to;
} passing_block;

static int recode_rows(void *context, unsigned member, uint64_t first, uint64_t rows)
{
    const passing_block *b = context;
    passage *p = b->p;
    const qz_scheme *scheme = &p->reader.packed.scheme;
    const uint64_t cols = b->of->count[COLUMN];
    qz_packed from = packed_row(scheme, b->from, first);
    const qz_packed to = packed_row(p->to, b->to, first);
    if (!p->writer)
        from.codes = NULL;
    char *why = p->why[member];
    if (b->from != b->to && !recode_block(scheme, &from, p->to, &to, rows, cols, why, WHY_TEXT))
        return REFUSED;
    return has_place(p, why, rows, cols, &to) ? DONE : REFUSED;
}

static int pass_block(void *context, const block *b)
{
    passage *p = context;
    uint64_t rows = b->count[INNER], cols = b->count[COLUMN];
    qz_packed packed, recoded = p->room;
    qz_sizes sizes;
    const int numbers =
        !p->writer && !p->requantized && cols % 2 == 0; /* codes decide nothing, but for their padding */
    int code = read_together(&p->reader, b, p->crew, numbers, &packed);
    if (code == DONE)
        code = shape_packed(p->to, cols, &recoded, &sizes);
    if (code != DONE)
        return code;
    const int same = !p->requantized && recode_is_nothing(&p->reader.packed.scheme, p->to, cols);
    passing_block of = {p, b, &packed, same ? &packed : &recoded};
    code = for_rows_together(&p->reader, b, p->crew, &packed, p->requantized ? NULL : recode_rows, &of);
    if (code == REFUSED && !p->requantized)
        memmove(p->why[0], p->why[crew_culprit(p->crew)], WHY_TEXT);
    if (code == DONE && p->requantized)
        code = requantize_block(p, b, &packed, &recoded);
    if (code == DONE && p->requantized && p->writer && !has_place(p, p->why[0], rows, cols, &recoded))
        code = REFUSED;
    return code == DONE && p->writer ? write_together(p->writer, p->target, b, p->crew, of.to) : code;
}

/* Goes through the matrix in blocks that both schemes can be divided into, and of eight rows, as some layouts want. */
static int pass(const source *in, const item *i, passage *p)
{
    rows_plan plan;
    int code = open_packed(in, i, &p->reader);
    if (code != DONE)
        return code;
    const qz_packed_tensor *packed = &p->reader.packed;
    if (p->requantized)
        plan_rows(packed, packed->cols != 0 ? packed->cols : 1, &plan);
    else
        plan_codes(packed, column_unit(&packed->scheme, packed->cols, 1), p->layout, crew_size(p->crew), &plan);
    if (!p->writer && !p->requantized && p->rows < plan.blocks.total[INNER])
        plan_first_rows(p->rows, &plan);
    const uint64_t *step = plan.blocks.step;
    code = allocate_packed_blocks(&p->reader, &plan.blocks);
    if (code == DONE)
        code = allocate_packed(p->to, step[OUTER] * step[INNER], step[COLUMN], &p->room);
    if (code == DONE && p->requantized) {
        p->values = allocate_block(&plan.blocks, sizeof *p->values);
        code = p->values ? DONE : LIMIT;
    }
    if (code == DONE)
        code = for_each_block(&plan.blocks, pass_block, p);
    free(p->values);
    free(p->room.codes);
    close_packed(&p->reader);
    return code;
}

int look_at_numbers(const converter *c, const conversion *v, const qz_scheme *to, char why[WHY_TEXT])
{
    passage p = {.to = to, .layout = c->layout, .crew = c->crew, .rows = 8}; /* most that cannot be show it there */
    int code = pass(&c->in, v->item, &p);
    p.rows = UINT64_MAX;
    if (code == DONE)
        code = pass(&c->in, v->item, &p);
    memcpy(why, p.why[0], WHY_TEXT);
    return code;
}

int fail_tensor(const converter *c, const item *i, const char *why)
{
    char name[NAME_TEXT];
    return fail(REFUSED,
                "'%s' cannot lie in the layout %s with the same values: %s; --requantize makes other values of it",
                qz_escape(i->name, i->name_length, name, sizeof name), c->layout, why);
}

/* ---- the work ---- */

/* The same, with values that are near to those that they were. */
static int requantize_tensor(converter *c, conversion *v)
{
    float largest = 0;
    passage p = {.to = &v->scheme,
                 .layout = c->layout,
                 .target = &v->target,
                 .requantized = v,
                 .pool = c->pool,
                 .crew = c->crew};
    v->stats = (qz_stats)QZ_STATS_INIT;
    int code = DONE;
    if (v->scheme.super_size == QZ_WHOLE_MATRIX && !v->neighbour) {
        p.largest = &largest;
        code = pass(&c->in, v->item, &p);
    }
    p.writer = c->writer;
    if (code == DONE)
        code = pass(&c->in, v->item, &p);
    if (code != REFUSED || p.why[0][0] == '\0')
        return code;
    char name[NAME_TEXT];
    return fail(REFUSED, "'%s' cannot lie in the layout %s, as it would be requantized: %s",
                qz_escape(v->item->name, v->item->name_length, name, sizeof name), c->layout, p.why[0]);
}

int convert_tensor(converter *c, conversion *v)
{
    passage p = {.to = &v->scheme, .layout = c->layout, .writer = c->writer, .target = &v->target, .crew = c->crew};
    if (v->stays)
        return copy_stored(&c->in, v->item->tensor, c->writer, v->index);
    if (!v->item->packed)
        return copy_tensor(&c->in, v->item->tensor, c->writer, v->index);
    if (v->requantized)
        return requantize_tensor(c, v);
    int code = pass(&c->in, v->item, &p);
    return code == REFUSED && p.why[0][0] != '\0' ? fail_tensor(c, v->item, p.why[0]) : code;
}
