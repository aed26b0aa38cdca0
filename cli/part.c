/*
 * part.c - makes one file of a folder, or all other files of it (--part), so that several runs can make a folder
 * together
 */
#include "part.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "output.h"

int is_rest(const settings *s)
{
    return s->output.part && strcmp(s->output.part, "rest") == 0;
}

int is_list(const settings *s)
{
    return s->output.part && strcmp(s->output.part, "list") == 0;
}

int part_of_options(const settings *s, uint64_t *part)
{
    char shown[NAME_TEXT], *end;
    *part = s->output.part ? QZ_PART_REST : 0;
    if (!s->output.part)
        return DONE;
    if (s->say.stats || s->output.dry_run || s->output.report || s->say.jsonl)
        return fail(USAGE,
                    "--part goes with none of --stats, --dry-run, --report and --jsonl; --part list writes nothing, "
                    "either");
    if (is_rest(s) || is_list(s))
        return DONE;
    errno = 0;
    *part = isdigit((unsigned char)s->output.part[0]) ? strtoull(s->output.part, &end, 10) : 0;
    if (*part != 0 && *end == '\0' && errno == 0 && *part < QZ_PART_REST)
        return DONE;
    return fail(USAGE, "--part '%s': write the number of a file, from 1 on, or rest, or list",
                qz_escape(s->output.part, strlen(s->output.part), shown, sizeof shown));
}

static int is_elsewhere(const parted *p, size_t i, const qz_shard *shard)
{
    const size_t index = p->index(p->of, i);
    return index < shard->first || index - shard->first >= shard->count;
}

int choose_part(const parted *p)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    size_t count;
    *p->made = (qz_shard){.size = sizeof *p->made};
    if (qz_shard_count(*p->writer, &count, &error) != QZ_FILE_OK)
        return fail_file(&error);
    if (*p->part != QZ_PART_REST && qz_shard_at(*p->writer, *p->part - 1, p->made, &error) != QZ_FILE_OK)
        return fail_file(&error);
    for (size_t i = 0; i < p->in->count; i++)
        *p->elsewhere(p->of, i) = is_elsewhere(p, i, p->made);
    return DONE;
}

static void json_shard(const qz_shard *shard)
{
    json_text("file", shard->name);
    json_whole("bytes", shard->bytes);
}

/* A file of the output, and the tensors of the input that become it. */
static void json_part(const parted *p, const qz_shard *shard)
{
    json_begin(NULL, '{');
    json_shard(shard);
    json_begin("tensors", '[');
    for (size_t i = 0; i < p->in->count; i++)
        if (!is_elsewhere(p, i, shard))
            json_name(NULL, p->in->items[i].name, p->in->items[i].name_length);
    json_end();
    json_end();
}

int list_parts(const parted *p)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    const settings *s = *p->s;
    size_t count;
    int code = DONE;
    if (qz_shard_count(*p->writer, &count, &error) != QZ_FILE_OK)
        return fail_file(&error);
    if (s->say.json) {
        json_begin(NULL, '{');
        json_text("command", s->command);
        source_paths(p->in);
        if (p->list)
            p->list(p->of);
        json_begin("parts", '[');
    }
    for (size_t i = 0; i < count && code == DONE; i++) {
        qz_shard shard = {.size = sizeof shard};
        if (qz_shard_at(*p->writer, i, &shard, &error) != QZ_FILE_OK)
            code = fail_file(&error);
        else if (s->say.json)
            json_part(p, &shard);
        else
            printf("%zu %s %" PRIu64 "\n", i + 1, shard.name, shard.bytes);
    }
    if (s->say.json) {
        json_end();
        json_end();
    }
    return code;
}

/* Of which the SQNR of all parts together follows. */
static void json_sums(const parted *p)
{
    double signal = 0, error = 0;
    for (size_t i = 0; i < p->in->count; i++) {
        signal += p->stats(p->of, i)->signal;
        error += p->stats(p->of, i)->error;
    }
    json_real("signal", signal);
    json_real("error", error);
}

void print_part(const parted *p, const results *r)
{
    const settings *s = *p->s;
    if (!s->say.json || is_list(s))
        return;
    json_begin(NULL, '{');
    json_text("command", s->command);
    json_bool("written", 1);
    json_text("part", s->output.part);
    if (is_rest(s)) {
        json_begin("totals", '{');
        r->totals(r->of);
        json_end();
    } else {
        json_shard(p->made);
        json_sums(p);
        json_begin("tensors", '[');
        for (size_t i = 0; i < r->count; i++) {
            if (*p->elsewhere(p->of, i))
                continue;
            json_begin(NULL, '{');
            r->tensor(r->of, i);
            json_end();
        }
        json_end();
    }
    json_end();
}
