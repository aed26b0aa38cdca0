/*
 * encode_part.c - parts of encode: what --part prints about a folder that is made file by file
 */
#include "encode.h"

#include <stdlib.h>
#include <string.h>

#include "resume.h"

static int key(const void *of, sha256 *h)
{
    const encoder *e = of;
    const qz_file *const others[] = {e->weights.file, e->imatrix.in.file, e->grams.file, e->table.file};
    int code = DONE;
    sha256_add(h, e->layout, strlen(e->layout) + 1);
    key_number(h, (uint64_t)e->s->output.nonfinite);
    key_number(h, e->s->how.stochastic ? e->s->how.seed + 1 : 0);
    for (size_t i = 0; i < sizeof others / sizeof others[0] && code == DONE; i++) {
        key_number(h, others[i] != NULL);
        code = key_input(h, others[i]);
    }
    for (size_t i = 0; i < e->in.count; i++) {
        const job *j = &e->jobs[i];
        sha256_add(h, j->item->name, j->item->name_length + 1);
        key_number(h, (uint64_t)is_gptq(j) << 3 | (uint64_t)j->encoded << 2 | (uint64_t)keeps_codes(j) << 1 |
                          (uint64_t)is_weighted(j));
        key_number(h, j->axis);
        if (!j->encoded)
            continue;
        key_scheme(h, &j->how->scheme);
        key_number(h, (uint64_t)method_of(j->how));
    }
    return code;
}

static void forget(void *of)
{
    encoder *e = of;
    for (size_t i = 0; i < e->in.count; i++) {
        free(e->jobs[i].place.packed);
        e->jobs[i].place.packed = NULL;
        e->jobs[i].place.elsewhere = 0;
    }
}

static size_t index_of(const void *of, size_t i)
{
    const job *j = &((const encoder *)of)->jobs[i];
    return j->place.packed ? j->place.packed->members[QZ_MEMBER_HEADER] : j->place.index;
}

static void mark(void *of, size_t i)
{
    ((encoder *)of)->jobs[i].place.made_before = 1;
}

static int *elsewhere(void *of, size_t i)
{
    return &((encoder *)of)->jobs[i].place.elsewhere;
}

static const qz_stats *stats_of(const void *of, size_t i)
{
    return &((const encoder *)of)->jobs[i].stats;
}

parted encode_parts(encoder *e)
{
    return (parted){.of = e,
                    .in = &e->in,
                    .s = &e->s,
                    .part = &e->part,
                    .made = &e->made,
                    .writer = &e->writer,
                    .key = key,
                    .forget = forget,
                    .index = index_of,
                    .elsewhere = elsewhere,
                    .stats = stats_of,
                    .mark = mark};
}
