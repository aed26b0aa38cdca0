/*
 * convert_prove.c - the proof of convert: reads and decodes both files, and compares all values bit for bit
 *
 * 0 and -0 count as the same.
 */
#include "convert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "output.h"
#include "packed_block.h"
#include "resources.h"
#include "stats.h"

enum { PIECE = 1 << 16 }; /* values that are decoded at a time: those of both files stay in a near cache */

/* A member of the crew: the tensor that it is at, in both files, and room for values, which tensors share, since what is
 * freed must be cleared anew by the system. */
typedef struct prover {
    const conversion *at; /* NULL: none */
    packed_reader a, b;
    rows_plan plan;
    int alike; /* the schemes of both are the same */
    float *of_a, *of_b;
    uint64_t room; /* elements */
} prover;

typedef struct proof {
    const converter *c;
    const source *out;
    prover provers[CREW_MOST];
} proof;

static void free_room(prover *p)
{
    free(p->of_a);
    free(p->of_b);
    p->of_a = p->of_b = NULL;
    p->room = 0;
}

static int make_room(prover *p, uint64_t cols)
{
    uint64_t needed = cols < PIECE ? PIECE : cols;
    if (needed <= p->room)
        return DONE;
    free_room(p);
    p->of_a = allocate(needed * sizeof *p->of_a);
    p->of_b = p->of_a ? allocate(needed * sizeof *p->of_b) : NULL;
    p->room = p->of_b ? needed : 0;
    return p->of_b ? DONE : LIMIT;
}

/* 0 and -0 are the same value. */
static int same_values(const float *a, const float *b, uint64_t count)
{
    if (memcmp(a, b, count * sizeof *a) == 0)
        return 1;
    for (uint64_t i = 0; i < count; i++)
        if (a[i] != b[i] && memcmp(&a[i], &b[i], sizeof a[i]) != 0)
            return 0;
    return 1;
}

/* Whether the same codes and numbers are the same values by both schemes. */
static int are_alike(const qz_scheme *a, const qz_scheme *b)
{
    return a->codes == b->codes && a->codes != QZ_TABLE && a->zero == b->zero && a->group_size == b->group_size &&
           a->scale_dtype == b->scale_dtype && a->super_size == b->super_size && a->super_dtype == b->super_dtype;
}

/* Whether codes and numbers of a block, whose rows have no gaps, are the same. */
static int same_numbers(const qz_scheme *scheme, const qz_packed *a, const qz_packed *b, uint64_t rows)
{
    const uint64_t supers = scheme->super_size == QZ_WHOLE_MATRIX ? 1 : rows;
    const uint64_t super_bytes =
        scheme->super_size == QZ_WHOLE_MATRIX ? qz_dtype_size(scheme->super_dtype) : (uint64_t)a->super_stride;
    return memcmp(a->codes, b->codes, rows * (uint64_t)a->code_stride) == 0 &&
           memcmp(a->scales, b->scales, rows * (uint64_t)a->scale_stride) == 0 &&
           (!a->zeros || memcmp(a->zeros, b->zeros, rows * (uint64_t)a->zero_stride) == 0) &&
           (!a->supers || memcmp(a->supers, b->supers, supers * super_bytes) == 0);
}

static int decode_rows(const packed_reader *r, const qz_packed *from, uint64_t row, uint64_t rows, const block *b,
                       float *values)
{
    const qz_scheme *scheme = &r->packed.scheme;
    const uint64_t cols = b->count[COLUMN];
    const matrix_part part = {&r->tensor, r->packed.axis, scheme, b->row + row, b->first[COLUMN], cols};
    const qz_packed packed = packed_row(scheme, from, row);
    const qz_matrix matrix = {values, QZ_F32, rows, cols, (int64_t)cols, 1};
    qz_detail detail = QZ_DETAIL_INIT;
    qz_result result = qz_decode(scheme, &packed, &matrix, NULL, &detail);
    return result == QZ_OK ? DONE : fail_part(result, &part, &detail);
}

/* What is the same by the same scheme decodes to the same values; all else is decoded. */
static int prove_block(prover *p, const block *of, int *differ)
{
    const uint64_t rows = of->count[INNER], cols = of->count[COLUMN], most = cols < PIECE ? PIECE / cols : 1;
    qz_packed a, b;
    int code = read_packed_block(&p->a, of, 0, &a);
    if (code == DONE)
        code = read_packed_block(&p->b, of, 0, &b);
    if (code == DONE && p->alike && same_numbers(&p->a.packed.scheme, &a, &b, rows))
        return DONE;
    for (uint64_t row = 0, some; row < rows && code == DONE && !*differ; row += some) {
        some = rows - row < most ? rows - row : most;
        code = decode_rows(&p->a, &a, row, some, of, p->of_a);
        if (code == DONE)
            code = decode_rows(&p->b, &b, row, some, of, p->of_b);
        *differ = code == DONE && !same_values(p->of_a, p->of_b, some * cols);
    }
    return code;
}

static void leave_tensor(prover *p)
{
    close_packed(&p->a);
    close_packed(&p->b);
    p->at = NULL;
}

/* Opens a tensor in both files; the matrices may be others, and are not planned then. */
static int open_both(const proof *p, const conversion *v, packed_reader *a, packed_reader *b, int *differ)
{
    const item *was = v->item, *is = source_find(p->out, was->name, was->name_length);
    at_tensor(was->name, was->name_length);
    *differ = !is || is->packed != was->packed;
    if (*differ)
        return DONE;
    int code = open_packed(&p->c->in, was, a);
    if (code == DONE)
        code = open_packed(p->out, is, b);
    *differ = code == DONE && (a->packed.axis != b->packed.axis || a->packed.rows != b->packed.rows ||
                               a->packed.cols != b->packed.cols);
    return code;
}

/* The blocks of a tensor, which both schemes can be divided into. */
static void plan_both(const packed_reader *a, const packed_reader *b, rows_plan *plan)
{
    const uint64_t cols = a->packed.cols, other = column_unit(&b->packed.scheme, cols, 0);
    uint64_t unit = column_unit(&a->packed.scheme, cols, 0);
    while (unit < cols && unit % other != 0)
        unit = 2 * unit < cols ? 2 * unit : cols;
    plan_codes(&a->packed, unit, b->packed.layout, plan);
}

static int enter_tensor(const proof *p, prover *with, const conversion *v, int *differ)
{
    leave_tensor(with);
    int code = open_both(p, v, &with->a, &with->b, differ);
    if (code != DONE || *differ)
        return code;
    plan_both(&with->a, &with->b, &with->plan);
    with->alike = are_alike(&with->a.packed.scheme, &with->b.packed.scheme);
    code = allocate_packed_blocks(&with->a, &with->plan.blocks);
    if (code == DONE)
        code = allocate_packed_blocks(&with->b, &with->plan.blocks);
    if (code == DONE)
        code = make_room(with, with->plan.blocks.step[COLUMN]);
    if (code == DONE)
        with->at = v;
    return code;
}

static int fail_different(const conversion *v)
{
    char name[NAME_TEXT];
    return fail(INTERNAL, "'%s' does not decode to the same values in the output, which is dropped; please report this",
                qz_escape(v->item->name, v->item->name_length, name, sizeof name));
}

static int prove_piece(void *context, unsigned member, size_t i, uint64_t piece)
{
    proof *p = context;
    prover *with = &p->provers[member];
    const conversion *v = &p->c->all[i];
    int differ = 0;
    at_tensor(v->item->name, v->item->name_length);
    int code = with->at == v ? DONE : enter_tensor(p, with, v, &differ);
    block b;
    if (code == DONE && !differ) {
        block_at(&with->plan.blocks, piece, &b);
        code = prove_block(with, &b, &differ);
        block_done(&b);
    }
    return code == DONE && differ ? fail_different(v) : code;
}

/* How many pieces a tensor has: blocks; one, if there is no place for it in the output or it is another matrix. */
static int count_pieces(const proof *p, const conversion *v, uint64_t *count)
{
    packed_reader a, b;
    rows_plan plan;
    int differ = 0;
    *count = 0;
    if (v->elsewhere)
        return DONE;
    const item *is = source_find(p->out, v->item->name, v->item->name_length);
    if (v->requantized || !v->item->packed)
        return is && is->packed == v->item->packed ? DONE : fail_different(v);
    int code = open_both(p, v, &a, &b, &differ);
    *count = 1;
    if (code != DONE || differ)
        return code;
    plan_both(&a, &b, &plan);
    *count = block_count(&plan.blocks);
    return DONE;
}

/* The tensors of an output, decoded, have the values of those of the input. */
static int prove_all(const converter *c, const source *out)
{
    uint64_t work = 0;
    proof p = {.c = c, .out = out};
    const crew_work each = {.piece = prove_piece, .context = &p};
    crew_item *items = calloc(c->count + 1, sizeof *items);
    int code = items ? DONE : fail_memory();
    for (size_t i = 0; i < c->count && code == DONE; i++) {
        work += c->all[i].item->packed && !c->all[i].requantized && !c->all[i].elsewhere ? c->all[i].values : 0;
        code = count_pieces(&p, &c->all[i], &items[i].pieces);
    }
    progress_begin("verify", work);
    if (code == DONE)
        code = crew_each(c->crew, items, c->count, &each);
    progress_end();
    for (unsigned i = 0; i < CREW_MOST; i++) {
        leave_tensor(&p.provers[i]);
        free_room(&p.provers[i]);
    }
    free(items);
    return code;
}

int prove(converter *c)
{
    source out = {0};
    int code = source_open_written(c->s, c->writer, &out);
    if (code == DONE)
        code = prove_all(c, &out);
    source_close(&out);
    return code;
}

int prove_part(converter *c)
{
    source out = {0};
    settings alone = *c->s;
    const size_t room = strlen(c->s->files[1]) + strlen(c->made.name) + 2;
    char *path = malloc(room);
    if (!path)
        return fail_memory();
    snprintf(path, room, "%s/%s", c->s->files[1], c->made.name);
    alone.limits.alone = 1;
    int code = source_open_quietly(&alone, path, &out);
    if (code == DONE)
        code = prove_all(c, &out);
    source_close(&out);
    if (code != DONE)
        remove(path);
    free(path);
    return code;
}
