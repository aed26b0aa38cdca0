/*
 * convert_part.c - parts of convert: what --part prints about a folder that is made file by file, and the choices that
 * --choices passes on
 */
#include "convert.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "output.h"
#include "resume.h"

/* ---- choices ---- */

int choices_open(converter *c)
{
    if (!c->s->output.part)
        return fail(USAGE, "--choices goes with --part");
    c->choices = fopen(c->s->output.choices, "r");
    return c->choices ? DONE : fail_system(c->s->output.choices, errno);
}

int fail_choices(const converter *c)
{
    char shown[NAME_TEXT];
    return fail(REFUSED, "%s is not what --part list chose for this input; make it anew",
                qz_escape(c->s->output.choices, strlen(c->s->output.choices), shown, sizeof shown));
}

int choices_next(converter *c, int *choice)
{
    return fscanf(c->choices, "%d", choice) == 1 && *choice >= REQUANTIZED ? DONE : fail_choices(c);
}

int choices_end(converter *c)
{
    char more;
    return fscanf(c->choices, " %c", &more) == 1 ? fail_choices(c) : DONE;
}

/* ---- a folder, file by file ---- */

static size_t index_of(const void *of, size_t i)
{
    const conversion *v = &((const converter *)of)->all[i];
    return v->item->packed ? v->target.members[QZ_MEMBER_HEADER] : v->index;
}

static int key(const void *of, sha256 *h)
{
    const converter *c = of;
    sha256_add(h, c->layout, strlen(c->layout) + 1);
    key_number(h, (uint64_t)c->s->output.no_verify);
    for (size_t i = 0; i < c->count; i++) {
        const conversion *v = &c->all[i];
        sha256_add(h, v->item->name, v->item->name_length + 1);
        key_number(h, (uint64_t)v->item->packed << 3 | (uint64_t)v->requantized << 2 | (uint64_t)v->neighbour << 1 |
                          (uint64_t)v->stays);
        if (v->item->packed)
            key_scheme(h, &v->scheme);
    }
    return DONE;
}

static void forget(void *of)
{
    converter *c = of;
    for (size_t i = 0; i < c->count; i++) {
        c->all[i].target = (qz_packed_tensor){.size = sizeof c->all[i].target};
        c->all[i].elsewhere = 0;
    }
}

static void mark(void *of, size_t i)
{
    ((converter *)of)->all[i].made_before = 1;
}

static int *elsewhere(void *of, size_t i)
{
    return &((converter *)of)->all[i].elsewhere;
}

static const qz_stats *stats_of(const void *of, size_t i)
{
    return &((const converter *)of)->all[i].stats;
}

/* The choices that --choices takes, and whether numbers were looked at for them. */
static void json_choices(const void *of)
{
    const converter *c = of;
    int looked = 0;
    json_begin("choices", '[');
    for (size_t i = 0; i < c->count; i++) {
        looked |= c->all[i].looked;
        if (c->all[i].item->packed)
            json_signed(NULL, c->all[i].choice);
    }
    json_end();
    json_bool("looked", looked);
}

parted parts_of(converter *c)
{
    return (parted){.of = c,
                    .in = &c->in,
                    .s = &c->s,
                    .part = &c->part,
                    .made = &c->made,
                    .writer = &c->writer,
                    .key = key,
                    .forget = forget,
                    .index = index_of,
                    .elsewhere = elsewhere,
                    .stats = stats_of,
                    .mark = mark,
                    .list = json_choices};
}
