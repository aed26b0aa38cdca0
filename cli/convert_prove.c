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

/* What a member of the crew has: room for pieces, which tensors share, since what is freed must be cleared anew by the
 * system; and what it found. */
typedef struct prover {
    float *of_a, *of_b;
    int differ;
} prover;

typedef struct proof {
    crew *crew;
    packed_reader a, b;
    prover provers[CREW_MOST];
    uint64_t room; /* elements */
    int alike;     /* the schemes of both are the same */
} proof;

static void free_room(proof *p)
{
    for (unsigned i = 0; i < CREW_MOST; i++) {
        free(p->provers[i].of_a);
        free(p->provers[i].of_b);
        p->provers[i] = (prover){NULL, NULL, 0};
    }
    p->room = 0;
}

static int make_room(proof *p, uint64_t cols)
{
    uint64_t needed = cols < PIECE ? PIECE : cols;
    if (needed <= p->room)
        return DONE;
    free_room(p);
    for (unsigned i = 0; i < crew_size(p->crew); i++) {
        prover *of = &p->provers[i];
        of->of_a = allocate(needed * sizeof *of->of_a);
        of->of_b = of->of_a ? allocate(needed * sizeof *of->of_b) : NULL;
        if (!of->of_b)
            return LIMIT;
    }
    p->room = needed;
    return DONE;
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

/* A block of both files. */
typedef struct proof_block {
    proof *p;
    const block *of;
    const qz_packed *a, *b;
} proof_block;

/* What is the same by the same scheme decodes to the same values; all else is decoded. */
static int prove_rows(void *context, unsigned member, uint64_t first, uint64_t rows)
{
    const proof_block *both = context;
    proof *p = both->p;
    prover *with = &p->provers[member];
    const qz_scheme *a = &p->a.packed.scheme, *b = &p->b.packed.scheme;
    const qz_packed of_a = packed_row(a, both->a, first), of_b = packed_row(b, both->b, first);
    const uint64_t cols = both->of->count[COLUMN], most = cols < PIECE ? PIECE / cols : 1;
    int code = DONE;
    if (p->alike && same_numbers(a, &of_a, &of_b, rows))
        return DONE;
    for (uint64_t row = first, some; row < first + rows && code == DONE; row += some) {
        some = first + rows - row < most ? first + rows - row : most;
        code = decode_rows(&p->a, both->a, row, some, both->of, with->of_a);
        if (code == DONE)
            code = decode_rows(&p->b, both->b, row, some, both->of, with->of_b);
        if (code == DONE && !same_values(with->of_a, with->of_b, some * cols))
            with->differ = 1;
    }
    return code;
}

static int prove_block(void *context, const block *b)
{
    proof *p = context;
    qz_packed of_a, of_b;
    int code = read_together(&p->a, b, p->crew, 0, &of_a);
    if (code == DONE)
        code = read_together(&p->b, b, p->crew, 0, &of_b);
    if (code == DONE)
        code = for_rows_together(&p->b, b, p->crew, &of_b, NULL, NULL);
    proof_block both = {p, b, &of_a, &of_b};
    if (code == DONE)
        code = for_rows_together(&p->a, b, p->crew, &of_a, prove_rows, &both);
    block_done(b);
    return code;
}

static int is_different(const proof *p)
{
    int differ = 0;
    for (unsigned i = 0; i < CREW_MOST; i++)
        differ |= p->provers[i].differ;
    return differ;
}

/* Compares all values of a tensor in both files. */
static int prove_packed(proof *p, const source *a, const item *i, const source *b, const item *j, int *differ)
{
    rows_plan plan;
    *differ = 0;
    int code = open_packed(a, i, &p->a);
    if (code == DONE)
        code = open_packed(b, j, &p->b);
    if (code != DONE)
        return code;
    uint64_t cols = p->a.packed.cols, unit = column_unit(&p->a.packed.scheme, cols, 0);
    uint64_t other = column_unit(&p->b.packed.scheme, cols, 0);
    if (p->a.packed.axis != p->b.packed.axis || p->a.packed.rows != p->b.packed.rows || cols != p->b.packed.cols) {
        *differ = 1;
        return DONE;
    }
    while (unit < cols && unit % other != 0)
        unit = 2 * unit < cols ? 2 * unit : cols;
    p->alike = are_alike(&p->a.packed.scheme, &p->b.packed.scheme);
    plan_codes(&p->a.packed, unit, p->b.packed.layout, crew_size(p->crew), &plan);
    code = allocate_packed_blocks(&p->a, &plan.blocks);
    if (code == DONE)
        code = allocate_packed_blocks(&p->b, &plan.blocks);
    if (code == DONE)
        code = make_room(p, plan.blocks.step[COLUMN]);
    if (code == DONE)
        code = for_each_block(&plan.blocks, prove_block, p);
    *differ = is_different(p);
    close_packed(&p->a);
    close_packed(&p->b);
    return code;
}

/* The tensors of an output, decoded, have the values of those of the input. */
static int prove_all(converter *c, const source *out)
{
    char name[NAME_TEXT];
    uint64_t work = 0;
    proof p = {.crew = c->crew};
    int code = DONE;
    for (size_t i = 0; i < c->count; i++)
        work += c->all[i].item->packed && !c->all[i].requantized && !c->all[i].elsewhere ? c->all[i].values : 0;
    progress_begin("verify", work);
    for (size_t i = 0; i < c->count && code == DONE; i++) {
        if (c->all[i].elsewhere)
            continue;
        const item *was = c->all[i].item, *is = source_find(out, was->name, was->name_length);
        int differ = !is || is->packed != was->packed;
        if (!differ && was->packed && !c->all[i].requantized) {
            code = prove_packed(&p, &c->in, was, out, is, &differ);
        }
        if (code == DONE && differ)
            code = fail(INTERNAL,
                        "'%s' does not decode to the same values in the output, which is dropped; please report "
                        "this",
                        qz_escape(was->name, was->name_length, name, sizeof name));
    }
    progress_end();
    free_room(&p);
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
    const size_t room = strlen(c->s->files[1]) + strlen(c->made.name) + 2;
    char *path = malloc(room);
    if (!path)
        return fail_memory();
    snprintf(path, room, "%s/%s", c->s->files[1], c->made.name);
    int code = source_open_quietly(c->s, path, &out);
    if (code == DONE)
        code = prove_all(c, &out);
    source_close(&out);
    if (code != DONE)
        remove(path);
    free(path);
    return code;
}
