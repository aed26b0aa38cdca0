/*
 * results.c - the results of a command for programs: one object (--json), or events (--jsonl)
 */
#include "results.h"

#include <string.h>

#include "json.h"
#include "output.h"

static double start, tensor_start;

int wants_numbers(const settings *s)
{
    return s->say.json || s->say.jsonl;
}

void results_start(const settings *s)
{
    start = seconds_now();
    if (!event_begin("start"))
        return;
    json_text("command", s->command);
    json_text("version", qz_version());
    json_begin("files", '[');
    for (int i = 0; i < s->file_count; i++)
        json_text(NULL, s->files[i]);
    json_end();
    event_end();
}

void results_plan(const results *r, uint64_t bytes)
{
    if (!event_begin("plan"))
        return;
    json_whole("tensors", r->count);
    json_whole("bytes", bytes);
    event_end();
}

void results_begin_tensor(const results *r, size_t i)
{
    size_t length;
    const char *name = r->name(r->of, i, &length);
    at_tensor(name, length);
    tensor_start = seconds_now();
}

void results_begin_tensors(void)
{
    tensor_start = seconds_now();
}

void results_tensor(const results *r, size_t i)
{
    at_tensor(NULL, 0);
    if (!event_begin("tensor"))
        return;
    json_whole("number", i + 1);
    r->tensor(r->of, i);
    json_real("seconds", seconds_now() - tensor_start);
    event_end();
    tensor_start = seconds_now();
}

void results_list(const results *r)
{
    json_begin("tensors", '[');
    for (size_t i = 0; i < r->count; i++) {
        json_begin(NULL, '{');
        r->tensor(r->of, i);
        json_end();
    }
    json_end();
}

void results_end(const results *r, int code)
{
    if (event_begin("end")) {
        r->totals(r->of);
        json_whole("tensors", r->count);
        json_signed("exit_code", code);
        json_real("seconds", seconds_now() - start);
        event_end();
    } else if (r->s->say.json) {
        json_begin(NULL, '{');
        r->totals(r->of);
        results_list(r);
        json_end();
    }
}
