/*
 * convert_prove.c - the proof that a conversion kept the values: both files are decoded, and compared bit for bit
 */
#include "convert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "output.h"
#include "packed_block.h"

typedef struct proof {
    packed_reader a, b;
    grid grid;
    float *of_a, *of_b; /* room for blocks, which tensors share: what is freed must be cleared anew by the system */
    uint64_t room;      /* elements */
    qz_pool *pool;
    int differ;
} proof;

static int make_room(proof *p, const block_plan *blocks)
{
    uint64_t needed = block_elements(blocks);
    if (p->of_b && needed <= p->room)
        return DONE;
    free(p->of_a);
    free(p->of_b);
    p->room = needed;
    p->of_a = allocate_block(blocks, sizeof *p->of_a);
    p->of_b = p->of_a ? allocate_block(blocks, sizeof *p->of_b) : NULL;
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

static int prove_block(void *context, const block *b)
{
    proof *p = context;
    int code = decode_block(&p->a, b, p->of_a, QZ_F32, p->pool);
    if (code == DONE)
        code = decode_block(&p->b, b, p->of_b, QZ_F32, p->pool);
    uint64_t count = b->count[OUTER] * b->count[INNER] * b->count[COLUMN];
    if (code == DONE && !same_values(p->of_a, p->of_b, count))
        p->differ = 1;
    block_done(b);
    return code;
}

/* Decodes a tensor of both files and compares all values. */
static int prove_packed(proof *p, const source *a, const item *i, const source *b, const item *j)
{
    block_plan blocks;
    p->differ = 0;
    int code = open_packed(a, i, &p->a);
    if (code == DONE)
        code = open_packed(b, j, &p->b);
    if (code != DONE)
        return code;
    uint64_t cols = p->a.packed.cols, unit = column_unit(&p->a.packed.scheme, cols, 0);
    uint64_t other = column_unit(&p->b.packed.scheme, cols, 0);
    if (p->a.packed.axis != p->b.packed.axis || p->a.packed.rows != p->b.packed.rows || cols != p->b.packed.cols) {
        p->differ = 1;
        return DONE;
    }
    while (unit < cols && unit % other != 0)
        unit = 2 * unit < cols ? 2 * unit : cols;
    grid_of(&p->a.tensor, p->a.packed.axis, 1, &p->grid);
    plan_blocks(&p->grid, unit, &blocks);
    code = allocate_packed_blocks(&p->a, &blocks);
    if (code == DONE)
        code = allocate_packed_blocks(&p->b, &blocks);
    if (code == DONE)
        code = make_room(p, &blocks);
    if (code == DONE)
        code = for_each_block(&blocks, prove_block, p);
    close_packed(&p->a);
    close_packed(&p->b);
    return code;
}

/* The tensors of an output, decoded, have the values of those of the input. */
static int prove_all(converter *c, const source *out)
{
    char name[NAME_TEXT];
    uint64_t work = 0;
    proof p = {.pool = c->pool};
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
            code = prove_packed(&p, &c->in, was, out, is);
            differ = p.differ;
        }
        if (code == DONE && differ)
            code = fail(INTERNAL,
                        "'%s' does not decode to the same values in the output, which is dropped; please report "
                        "this",
                        qz_escape(was->name, was->name_length, name, sizeof name));
    }
    progress_end();
    free(p.of_a);
    free(p.of_b);
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
