/*
 * convert_requantize.c - converts one tensor to a scheme that has other values: decodes it and encodes it again
 */
#include "convert.h"

#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "packed_block.h"
#include "recode.h"
#include "resources.h"
#include "stats.h"

typedef struct requantizer {
    const converter *c;
    conversion *of;
    packed_reader reader;
    qz_packed room; /* for a block of the other scheme */
    float *values;
    float *largest; /* magnitude, for super scales of all; NULL: they need none */
    int looks;      /* for that: nothing is written */
    char why[WHY_TEXT];
} requantizer;

/* The same codes and scales with a super scale that has a place. */
static qz_result take_neighbour(requantizer *q, const qz_packed *from, const qz_packed *to, const qz_matrix *values,
                                qz_stats *stats, qz_detail *detail)
{
    const qz_scheme *scheme = &q->of->scheme;
    recode_block(scheme, from, scheme, to, values->rows, values->cols, q->why, WHY_TEXT); /* all is as it is */
    place_super(q->c->layout, scheme, to);
    return qz_compare(scheme, to, values, q->c->pool, stats, detail);
}

/* Decodes and encodes a block of whole rows; or finds the largest value of it. */
static int requantize(requantizer *q, const block *b, const qz_packed *from, const qz_packed *to)
{
    const qz_packed_tensor *packed = &q->reader.packed;
    const qz_scheme *scheme = &q->of->scheme;
    uint64_t rows = b->count[INNER], cols = packed->cols;
    const matrix_part part = {&q->reader.tensor, packed->axis, scheme, b->row, 0, cols};
    qz_matrix matrix = {q->values, QZ_F32, rows, cols, (int64_t)cols, 1};
    qz_whole whole = {.size = sizeof whole, .rows = packed->rows, .cols = cols, .row = b->row, .largest = q->largest};
    qz_options options = QZ_OPTIONS_INIT;
    qz_detail detail = QZ_DETAIL_INIT;
    qz_stats stats = QZ_STATS_INIT;
    options.pool = q->c->pool;
    options.whole = &whole;
    qz_result result = qz_decode(&packed->scheme, from, &matrix, q->c->pool, &detail);
    if (result == QZ_OK && q->of->neighbour)
        result = take_neighbour(q, from, to, &matrix, &stats, &detail);
    else if (result == QZ_OK && q->looks)
        result = qz_largest(scheme, &matrix, q->largest, q->c->pool);
    else if (result == QZ_OK)
        result = qz_encode(scheme, &matrix, to, &options, &stats, &detail);
    if (result == QZ_OK && !q->looks)
        add_stats(&q->of->stats, &stats, b->row, 0, cols, cols);
    return result == QZ_OK ? DONE : fail_part(result, &part, &detail);
}

static int requantize_block(void *context, const block *b)
{
    requantizer *q = context;
    const uint64_t rows = b->count[INNER], cols = b->count[COLUMN];
    qz_packed packed, made = q->room;
    qz_sizes sizes;
    int code = read_packed_block(&q->reader, b, 0, &packed);
    if (code == DONE)
        code = shape_packed(&q->of->scheme, cols, &made, &sizes);
    if (code == DONE)
        code = requantize(q, b, &packed, &made);
    if (code != DONE || q->looks)
        return code;
    if (!has_place(q->c, &q->of->scheme, rows, cols, &made, q->why))
        return REFUSED;
    return write_packed_block(q->c->writer, &q->of->target, b, &made);
}

/* Goes through the matrix in blocks of whole rows. */
static int pass(requantizer *q)
{
    rows_plan plan;
    int code = open_packed(&q->c->in, q->of->item, &q->reader);
    if (code != DONE)
        return code;
    const qz_packed_tensor *packed = &q->reader.packed;
    plan_rows(packed, packed->cols != 0 ? packed->cols : 1, &plan);
    const uint64_t *step = plan.blocks.step;
    code = allocate_packed_blocks(&q->reader, &plan.blocks);
    if (code == DONE)
        code = allocate_packed(&q->of->scheme, step[OUTER] * step[INNER], step[COLUMN], &q->room);
    if (code == DONE) {
        q->values = allocate_block(&plan.blocks, sizeof *q->values);
        code = q->values ? DONE : LIMIT;
    }
    if (code == DONE)
        code = for_each_block(&plan.blocks, requantize_block, q);
    free(q->values);
    free(q->room.codes);
    close_packed(&q->reader);
    q->values = NULL;
    q->room = (qz_packed){0};
    return code;
}

int requantize_tensor(converter *c, conversion *v)
{
    float largest = 0;
    requantizer q = {.c = c, .of = v};
    int code = DONE;
    v->stats = (qz_stats)QZ_STATS_INIT;
    if (v->scheme.super_size == QZ_WHOLE_MATRIX && !v->neighbour) {
        q.largest = &largest;
        q.looks = 1;
        code = pass(&q);
        q.looks = 0;
    }
    if (code == DONE)
        code = pass(&q);
    if (code != REFUSED || q.why[0] == '\0')
        return code;
    char name[NAME_TEXT];
    return fail(REFUSED, "'%s' cannot lie in the layout %s, as it would be requantized: %s",
                qz_escape(v->item->name, v->item->name_length, name, sizeof name), c->layout, q.why);
}
