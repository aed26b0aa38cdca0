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
    char why[WHY_TEXT]; /* it is not */

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
    recode_block(p->to, from, p->to, to, values->rows, values->cols, p->why, sizeof p->why); /* all is as it is */
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
static int has_place(passage *p, uint64_t rows, uint64_t cols, const qz_packed *numbers)
{
    const char *wrong = qz_layout_refuses_block(p->layout, p->to, rows, cols, numbers, p->why, sizeof p->why);
    if (wrong && wrong != p->why)
        snprintf(p->why, sizeof p->why, "%s", wrong);
    return !wrong;
}

static int pass_block(void *context, const block *b)
{
    passage *p = context;
    uint64_t rows = b->count[INNER], cols = b->count[COLUMN];
    qz_packed packed, recoded = p->room;
    qz_sizes sizes;
    int code = read_packed(&p->reader, b->row, rows, b->first[COLUMN], cols, &packed);
    if (code == DONE)
        code = shape_packed(p->to, cols, &recoded, &sizes);
    if (code != DONE)
        return code;
    if (p->requantized) {
        code = requantize_block(p, b, &packed, &recoded);
        if (code != DONE)
            return code;
    } else if (recode_is_nothing(&p->reader.packed.scheme, p->to, cols)) {
        recoded = packed;
    } else if (!recode_block(&p->reader.packed.scheme, &packed, p->to, &recoded, rows, cols, p->why, sizeof p->why)) {
        return REFUSED;
    }
    int is_known = p->writer || !p->requantized;
    if (is_known && !has_place(p, rows, cols, &recoded))
        return REFUSED;
    return p->writer ? write_packed_block(p->writer, p->target, b, &recoded) : DONE;
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
        plan_codes(packed, column_unit(&packed->scheme, packed->cols, 1), p->layout, &plan);
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
    passage p = {.to = to, .layout = c->layout};
    int code = pass(&c->in, v->item, &p);
    memcpy(why, p.why, WHY_TEXT);
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
    passage p = {.to = &v->scheme, .layout = c->layout, .target = &v->target, .requantized = v, .pool = c->pool};
    v->stats = (qz_stats)QZ_STATS_INIT;
    int code = DONE;
    if (v->scheme.super_size == QZ_WHOLE_MATRIX && !v->neighbour) {
        p.largest = &largest;
        code = pass(&c->in, v->item, &p);
    }
    p.writer = c->writer;
    if (code == DONE)
        code = pass(&c->in, v->item, &p);
    if (code != REFUSED || p.why[0] == '\0')
        return code;
    char name[NAME_TEXT];
    return fail(REFUSED, "'%s' cannot lie in the layout %s, as it would be requantized: %s",
                qz_escape(v->item->name, v->item->name_length, name, sizeof name), c->layout, p.why);
}

int convert_tensor(converter *c, conversion *v)
{
    passage p = {.to = &v->scheme, .layout = c->layout, .writer = c->writer, .target = &v->target};
    if (v->stays)
        return copy_stored(&c->in, v->item->tensor, c->writer, v->index);
    if (!v->item->packed)
        return copy_tensor(&c->in, v->item->tensor, c->writer, v->index);
    if (v->requantized)
        return requantize_tensor(c, v);
    int code = pass(&c->in, v->item, &p);
    return code == REFUSED && p.why[0] != '\0' ? fail_tensor(c, v->item, p.why) : code;
}
