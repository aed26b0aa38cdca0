/*
 * convert_tensor.c - converts tensors to another layout with the same values, block by block, by a crew
 *
 * A member of the crew reads a block, checks and rewrites it, and writes it, in memory of its own that stays in a cache.
 * No block waits for another one, of the same tensor or of one before.
 */
#include "convert.h"

#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "packed_block.h"
#include "recode.h"

/* A member of the crew: with the tensor that it is at. */
typedef struct mover {
    const conversion *at; /* NULL: none */
    packed_reader reader;
    rows_plan plan;
    qz_packed room;     /* for a block of the other scheme */
    char why[WHY_TEXT]; /* its numbers have no place; "": that was printed, or is still to be looked for */
} mover;

/* Tensors on their way, which follow one another. */
typedef struct passage {
    const converter *c;
    conversion *first;
    const qz_scheme
        *looked_for; /* not NULL: nothing is written, but seen whether this is possible for the first one, */
    uint64_t rows;   /* in the first ones */
    mover movers[CREW_MOST];
} passage;

static const qz_scheme *scheme_of(const passage *p, const conversion *v)
{
    return p->looked_for ? p->looked_for : &v->scheme;
}

/* The blocks of a tensor: both schemes can be divided into them, and they have eight rows, as some layouts want. */
static void plan_tensor(const passage *p, const qz_packed_tensor *packed, rows_plan *plan)
{
    plan_codes(packed, column_unit(&packed->scheme, packed->cols, 1), p->c->layout, plan);
    if (p->looked_for && p->rows < plan->blocks.total[INNER])
        plan_first_rows(p->rows, plan);
}

static void leave_tensor(mover *m)
{
    free(m->room.codes);
    m->room = (qz_packed){0};
    close_packed(&m->reader);
    m->at = NULL;
}

static int enter_tensor(const passage *p, mover *m, const conversion *v)
{
    leave_tensor(m);
    at_tensor(v->item->name, v->item->name_length);
    int code = open_packed(&p->c->in, v->item, &m->reader);
    if (code != DONE)
        return code;
    plan_tensor(p, &m->reader.packed, &m->plan);
    const uint64_t *step = m->plan.blocks.step;
    code = allocate_packed_blocks(&m->reader, &m->plan.blocks);
    if (code == DONE)
        code = allocate_packed(scheme_of(p, v), step[OUTER] * step[INNER], step[COLUMN], &m->room);
    if (code == DONE)
        m->at = v;
    return code;
}

int has_place(const converter *c, const qz_scheme *to, uint64_t rows, uint64_t cols, const qz_packed *numbers,
              char why[WHY_TEXT])
{
    const char *wrong = qz_layout_refuses_block(c->layout, to, rows, cols, numbers, why, WHY_TEXT);
    if (wrong && wrong != why)
        snprintf(why, WHY_TEXT, "%s", wrong);
    return !wrong;
}

static int pass_block(const passage *p, mover *m, const block *b)
{
    const qz_scheme *from = &m->reader.packed.scheme, *to = scheme_of(p, m->at);
    const uint64_t rows = b->count[INNER], cols = b->count[COLUMN];
    qz_packed packed, recoded = m->room;
    qz_sizes sizes;
    const int numbers = p->looked_for && cols % 2 == 0; /* codes decide nothing, but for their padding */
    int code = read_packed_block(&m->reader, b, numbers, &packed);
    if (code == DONE)
        code = shape_packed(to, cols, &recoded, &sizes);
    if (code != DONE)
        return code;
    const int same = recode_is_nothing(from, to, cols);
    if (p->looked_for)
        packed.codes = NULL;
    if (!same && !recode_block(from, &packed, to, &recoded, rows, cols, m->why, WHY_TEXT))
        return REFUSED;
    if (!has_place(p->c, to, rows, cols, same ? &packed : &recoded, m->why))
        return REFUSED;
    return p->looked_for ? DONE : write_packed_block(p->c->writer, &m->at->target, b, same ? &packed : &recoded);
}

static int pass_piece(void *context, unsigned member, size_t i, uint64_t piece)
{
    passage *p = context;
    mover *m = &p->movers[member];
    const conversion *v = &p->first[i];
    at_tensor(v->item->name, v->item->name_length);
    m->why[0] = '\0';
    if (v->stays)
        return copy_stored(&p->c->in, v->item->tensor, p->c->writer, v->index);
    if (!v->item->packed)
        return copy_tensor(&p->c->in, v->item->tensor, p->c->writer, v->index);
    int code = m->at == v ? DONE : enter_tensor(p, m, v);
    if (code != DONE)
        return code;
    block b;
    block_at(&m->plan.blocks, piece, &b);
    code = pass_block(p, m, &b);
    return code == REFUSED && m->why[0] != '\0' && !p->looked_for ? fail_tensor(p->c, v->item, m->why) : code;
}

/* How many pieces a tensor has: blocks; others are copied as a whole. */
static int count_pieces(const passage *p, const conversion *v, uint64_t *count)
{
    qz_packed_tensor packed;
    qz_tensor t;
    rows_plan plan;
    *count = !v->elsewhere;
    if (v->elsewhere || !v->item->packed)
        return DONE;
    at_tensor(v->item->name, v->item->name_length);
    int code = source_tensor(&p->c->in, v->item, &t, &packed);
    if (code != DONE)
        return code;
    plan_tensor(p, &packed, &plan);
    *count = block_count(&plan.blocks);
    return DONE;
}

static int pass(passage *p, size_t count, void (*done)(void *context, size_t item))
{
    const crew_work work = {pass_piece, done, p};
    crew_item *items = calloc(count, sizeof *items);
    int code = items ? DONE : fail_memory();
    for (size_t i = 0; i < count && code == DONE; i++)
        code = count_pieces(p, &p->first[i], &items[i].pieces);
    if (code == DONE)
        code = crew_each(p->c->crew, items, count, &work);
    for (unsigned i = 0; i < CREW_MOST; i++)
        leave_tensor(&p->movers[i]);
    free(items);
    return code;
}

int look_at_numbers(const converter *c, conversion *v, const qz_scheme *to, char why[WHY_TEXT])
{
    passage p = {.c = c, .first = v, .looked_for = to, .rows = 8}; /* most that cannot be show it there */
    int code = pass(&p, 1, NULL);
    p.rows = UINT64_MAX;
    if (code == DONE)
        code = pass(&p, 1, NULL);
    memcpy(why, p.movers[crew_culprit(c->crew)].why, WHY_TEXT);
    return code;
}

int fail_tensor(const converter *c, const item *i, const char *why)
{
    char name[NAME_TEXT];
    return fail(REFUSED,
                "'%s' cannot lie in the layout %s with the same values: %s; --requantize makes other values of it",
                qz_escape(i->name, i->name_length, name, sizeof name), c->layout, why);
}

static void tell_tensor(void *context, size_t i)
{
    const passage *p = context;
    if (!p->first[i].elsewhere)
        tell_converted(p->c, &p->first[i]);
}

int convert_tensors(converter *c, size_t first, size_t count)
{
    passage p = {.c = c, .first = &c->all[first]};
    return pass(&p, count, tell_tensor);
}
