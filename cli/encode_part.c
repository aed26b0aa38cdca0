/*
 * encode_part.c - one file of a folder, or what is beside them: for several runs that make a folder together
 */
#include "encode.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "output.h"
#include "resume.h"

int is_rest(const settings *s)
{
    return s->part && strcmp(s->part, "rest") == 0;
}

int is_list(const settings *s)
{
    return s->part && strcmp(s->part, "list") == 0;
}

/* ---- one after another: --resume ---- */

static int key(const void *of, sha256 *h)
{
    const encoder *e = of;
    const qz_file *const others[] = {e->weights.file, e->imatrix.in.file, e->grams.file, e->table.file};
    int code = DONE;
    key_number(h, (uint64_t)e->s->nonfinite);
    key_number(h, e->s->stochastic ? e->s->seed + 1 : 0);
    for (size_t i = 0; i < sizeof others / sizeof others[0] && code == DONE; i++) {
        key_number(h, others[i] != NULL);
        code = key_input(h, others[i]);
    }
    for (size_t i = 0; i < e->in.count; i++) {
        const job *j = &e->jobs[i];
        sha256_add(h, j->item->name, j->item->name_length + 1);
        key_number(h, (uint64_t)is_gptq(j) << 3 | (uint64_t)j->encoded << 2 | (uint64_t)is_eight(j) << 1 |
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
        free(e->jobs[i].packed);
        e->jobs[i].packed = NULL;
        e->jobs[i].elsewhere = 0;
    }
}

static size_t index_of(const void *of, size_t i)
{
    const job *j = &((const encoder *)of)->jobs[i];
    return j->packed ? j->packed->members[QZ_MEMBER_HEADER] : j->index;
}

static void mark(void *of, size_t i)
{
    ((encoder *)of)->jobs[i].made_before = 1;
}

int encode_resumable(encoder *e, int (*begin)(void *of), int (*make)(void *of))
{
    const resumable r = {.of = e,
                         .in = &e->in,
                         .s = &e->s,
                         .part = &e->part,
                         .writer = &e->writer,
                         .key = key,
                         .forget = forget,
                         .open = begin,
                         .make = make,
                         .index = index_of,
                         .mark = mark};
    return make_resumable(&r);
}

/* ---- as an option says ---- */

int part_of_options(const settings *s, uint64_t *part)
{
    char shown[NAME_TEXT], *end;
    *part = s->part ? QZ_PART_REST : 0;
    if (!s->part)
        return DONE;
    if (s->stats || s->dry_run || s->report || s->jsonl)
        return fail(USAGE,
                    "--part goes with none of --stats, --dry-run, --report and --jsonl; --part list writes nothing, "
                    "either");
    if (is_rest(s) || is_list(s))
        return DONE;
    errno = 0;
    *part = isdigit((unsigned char)s->part[0]) ? strtoull(s->part, &end, 10) : 0;
    if (*part != 0 && *end == '\0' && errno == 0 && *part < QZ_PART_REST)
        return DONE;
    return fail(USAGE, "--part '%s': write the number of a file, from 1 on, or rest, or list",
                qz_escape(s->part, strlen(s->part), shown, sizeof shown));
}

static int is_elsewhere(const encoder *e, size_t i, const qz_shard *shard)
{
    const size_t index = index_of(e, i);
    return index < shard->first || index - shard->first >= shard->count;
}

int choose_part(encoder *e)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    size_t count;
    e->made = (qz_shard){.size = sizeof e->made};
    if (qz_shard_count(e->writer, &count, &error) != QZ_FILE_OK)
        return fail_file(&error);
    if (e->part != QZ_PART_REST && qz_shard_at(e->writer, e->part - 1, &e->made, &error) != QZ_FILE_OK)
        return fail_file(&error);
    for (size_t i = 0; i < e->in.count; i++)
        e->jobs[i].elsewhere = is_elsewhere(e, i, &e->made);
    return DONE;
}

static void json_shard(const qz_shard *shard)
{
    json_text("file", shard->name);
    json_whole("bytes", shard->bytes);
}

/* The tensors of the input that become a file of the output. */
static void json_tensors(const encoder *e, const qz_shard *shard)
{
    json_begin("tensors", '[');
    for (size_t i = 0; i < e->in.count; i++)
        if (!is_elsewhere(e, i, shard))
            json_name(NULL, e->jobs[i].item->name, e->jobs[i].item->name_length);
    json_end();
}

int list_parts(encoder *e)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    const char *path;
    size_t count;
    if (qz_shard_count(e->writer, &count, &error) != QZ_FILE_OK)
        return fail_file(&error);
    if (e->s->json) {
        json_begin(NULL, '{');
        json_text("command", "encode");
        json_begin("inputs", '[');
        for (size_t i = 0; (path = qz_file_path(e->in.file, i)) != NULL; i++)
            json_name(NULL, path, strlen(path));
        json_end();
        json_begin("parts", '[');
    }
    for (size_t i = 0; i < count; i++) {
        qz_shard shard = {.size = sizeof shard};
        if (qz_shard_at(e->writer, i, &shard, &error) != QZ_FILE_OK)
            return fail_file(&error);
        if (!e->s->json) {
            printf("%zu %s %" PRIu64 "\n", i + 1, shard.name, shard.bytes);
            continue;
        }
        json_begin(NULL, '{');
        json_shard(&shard);
        json_tensors(e, &shard);
        json_end();
    }
    if (e->s->json) {
        json_end();
        json_end();
    }
    return DONE;
}

/* Of which the SQNR of all parts together follows. */
static void json_sums(const encoder *e)
{
    double signal = 0, error = 0;
    for (size_t i = 0; i < e->in.count; i++) {
        signal += e->jobs[i].stats.signal;
        error += e->jobs[i].stats.error;
    }
    json_real("signal", signal);
    json_real("error", error);
}

/* What became of a tensor, if that was this part's to do. */
static void json_made(const results *r, size_t i)
{
    const encoder *e = r->of;
    if (e->jobs[i].elsewhere)
        return;
    json_begin(NULL, '{');
    r->tensor(e, i);
    json_end();
}

void print_part(const encoder *e)
{
    const results r = encode_results(e);
    if (!e->s->json || is_list(e->s))
        return;
    json_begin(NULL, '{');
    json_text("command", "encode");
    json_bool("written", 1);
    json_text("part", e->s->part);
    if (is_rest(e->s)) {
        json_begin("totals", '{');
        r.totals(r.of);
        json_end();
    } else {
        json_shard(&e->made);
        json_sums(e);
        json_begin("tensors", '[');
        for (size_t i = 0; i < r.count; i++)
            json_made(&r, i);
        json_end();
    }
    json_end();
}
