/*
 * convert.c - the command convert: writes quantized tensors in another layout, with the same values
 *
 * This file has the steps of the command. The plan, the conversion of a tensor, the proof, and parts of folders are in
 * files of their own (convert_*.c).
 */
#include "commands.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "convert.h"
#include "json.h"
#include "output.h"
#include "report.h"
#include "resources.h"
#include "results.h"
#include "resume.h"
#include "scheme.h"
#include "stats.h"
#include "table.h"
#include "target.h"

/* ---- results for programs ---- */

static uint64_t bytes_after(const conversion *v)
{
    return v->item->packed ? v->target.bytes : v->bytes_after;
}

static uint64_t total_bytes(const converter *c, int after)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < c->count; i++)
        sum += after ? bytes_after(&c->all[i]) : c->all[i].bytes;
    return sum;
}

static void json_totals(const void *of)
{
    const converter *c = of;
    json_text("command", "convert");
    json_text("layout", c->layout);
    json_bool("verified", !c->s->output.no_verify);
    json_whole("tensor_bytes_before", total_bytes(c, 0));
    json_whole("tensor_bytes_after", total_bytes(c, 1));
}

static void json_tensor(const void *of, size_t i)
{
    const converter *c = of;
    const conversion *v = &c->all[i];
    json_name("name", v->item->name, v->item->name_length);
    json_text("action", v->requantized ? "requantize" : v->item->packed ? "convert" : "copy");
    if (v->item->packed)
        json_scheme(&v->scheme);
    json_whole("bytes_before", v->bytes);
    json_whole("bytes_after", bytes_after(v));
    if (v->made_before)
        json_bool("made_before", 1);
    else if (v->requantized)
        json_real("sqnr_db", sqnr(&v->stats));
}

static const char *tensor_name(const void *of, size_t i, size_t *length)
{
    const converter *c = of;
    *length = c->all[i].item->name_length;
    return c->all[i].item->name;
}

static double tensor_sqnr(const void *of, size_t i)
{
    const conversion *v = &((const converter *)of)->all[i];
    return v->requantized && !v->made_before ? sqnr(&v->stats) : (double)NAN;
}

static results results_of(const converter *c)
{
    return (results){c->s, c, c->count, json_totals, json_tensor, tensor_name, tensor_sqnr};
}

/* ---- the whole ---- */

static int declare(converter *c, conversion *v)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_packed_tensor packed;
    qz_tensor t;
    at_tensor(v->item->name, v->item->name_length);
    int code = source_tensor(&c->in, v->item, &t, &packed);
    if (code != DONE)
        return code;
    if (!v->item->packed)
        return (v->stays ? qz_stored_declare(c->writer, c->in.file, v->item->tensor, &v->index, &error)
                         : qz_declare(c->writer, &t, &v->index, &error)) == QZ_FILE_OK
                   ? DONE
                   : fail_file(&error);
    v->target.size = sizeof v->target;
    return qz_packed_declare(c->writer, v->item->name, v->item->name_length, &v->scheme, packed.rank, packed.shape,
                             packed.axis, &v->target, &error) == QZ_FILE_OK
               ? DONE
               : fail_file(&error);
}

static scheme_names used_schemes(const converter *c)
{
    scheme_names schemes = {.count = 0};
    for (size_t i = 0; i < c->count; i++) {
        const conversion *v = &c->all[i];
        if (v->item->packed || v->stays)
            note_scheme(&schemes, v->item->packed ? v->scheme.name : "q8_0");
    }
    return schemes;
}

/* Opens the output with all tensors declared. */
static int open_output(void *of)
{
    converter *c = of;
    const qz_file *input = c->in.file;
    qz_create_options options = target_options(c->s, &input, 1);
    options.layout = c->layout;
    options.part = c->part;
    int code = target_open(c->s, &c->in, &options, &c->writer);
    for (size_t i = 0; i < c->count && code == DONE; i++)
        code = declare(c, &c->all[i]);
    if (code == DONE)
        at_tensor(NULL, 0);
    const scheme_names schemes = used_schemes(c);
    if (code == DONE && (c->part == 0 || is_rest(c->s)))
        code = target_copy_beside(c->s, &c->in, c->writer, c->layout, &schemes);
    const parted parts = parts_of(c);
    return code == DONE && c->part != 0 ? choose_part(&parts) : code;
}

void tell_converted(const converter *c, const conversion *v)
{
    const results r = results_of(c);
    progress_hold();
    results_tensor(&r, (size_t)(v - c->all));
    progress_go_on();
}

/* Whether a tensor is converted alone, since all threads work on its values. */
static int is_alone(const conversion *v)
{
    return v->requantized && !v->elsewhere;
}

static int write_all(converter *c)
{
    uint64_t work = 0;
    int code = DONE;
    for (size_t i = 0; i < c->count; i++)
        work += c->all[i].elsewhere ? 0 : c->all[i].values;
    progress_begin("convert", work);
    results_begin_tensors();
    for (size_t i = 0, end; i < c->count && code == DONE; i = end) {
        for (end = i; end < c->count && !is_alone(&c->all[end]);)
            end++;
        if (end != i) {
            code = convert_tensors(c, i, end - i);
            continue;
        }
        conversion *v = &c->all[end++];
        at_tensor(v->item->name, v->item->name_length);
        code = requantize_tensor(c, v);
        if (code == DONE)
            tell_converted(c, v);
    }
    at_tensor(NULL, 0);
    progress_end();
    return code;
}

/* Writes the output and proves it, and only then lets it take its name, and the place of an older file. A file of a
 * folder is proved when it has a name, but not yet its place. */
static int convert_all(void *of)
{
    converter *c = of;
    const parted parts = parts_of(c);
    qz_file_error error = QZ_FILE_ERROR_INIT;
    int code = open_output(c);
    if (code == DONE)
        code = is_list(c->s) ? list_parts(&parts) : write_all(c);
    if (code == DONE && !c->s->output.no_verify && c->part == 0)
        code = prove(c);
    if (code == DONE && qz_unchanged(c->in.file, &error) != QZ_FILE_OK)
        code = fail_file(&error);
    if (code == DONE && stop_requested())
        code = 128 + stop_requested();
    if (code != DONE || is_list(c->s)) {
        qz_abort(c->writer);
        return code;
    }
    const int is_file = c->part != 0 && c->part != QZ_PART_REST;
    if (qz_commit(c->writer, &error) != QZ_FILE_OK)
        return fail_file(&error);
    return is_file && !c->s->output.no_verify ? prove_part(c) : DONE;
}

/* ---- results ---- */

/* Threads for all that is done with tensors, as many as a file of that size is worth. */
static int start_threads(converter *c)
{
    int code = start_pool(c->s, 2 * qz_file_bytes(c->in.file), &c->pool);
    if (code == DONE)
        c->crew = crew_start(c->pool ? qz_pool_threads(c->pool) : 1);
    return code == DONE && !c->crew ? LIMIT : code;
}

/* The error that was added to tensors whose values are not the same. */
static void print_errors(const converter *c, size_t count)
{
    static const char *const titles[] = {"name", "scheme", "SQNR dB", "RMSE"};
    char name[NAME_TEXT], text[200];
    table t;
    if (count == 0)
        return;
    table_begin(&t, "llrr", titles);
    for (size_t i = 0; i < c->count; i++) {
        const conversion *v = &c->all[i];
        if (!v->requantized || v->made_before)
            continue;
        table_cell(&t, "%s", qz_escape(v->item->name, v->item->name_length, name, sizeof name));
        table_cell(&t, "%s", scheme_text(&v->scheme, text, sizeof text));
        table_cell(&t, "%.2f", sqnr(&v->stats));
        table_cell(&t, "%.4g", rmse(&v->stats));
    }
    table_print(&t);
}

static int keeps_codes(const void *of, size_t i)
{
    return ((const converter *)of)->all[i].stays;
}

int run_convert(const settings *s)
{
    converter c = {.s = s};
    double start = seconds_now();
    size_t packed = 0, requantized = 0;
    int code = target_check_layout(s);
    if (code == DONE)
        code = part_of_options(s, &c.part);
    if (code == DONE)
        code = report_check(s);
    if (code == DONE)
        code = resume_check(s);
    if (code == DONE)
        code = source_open_quietly(s, s->files[0], &c.in);
    if (code == DONE && !(c.layout = target_layout(s, &c.in)))
        code = fail(USAGE, "the output has no layout of quantized tensors; name one with --to");
    if (code == DONE && s->output.choices)
        code = choices_open(&c);
    if (code == DONE)
        code = start_threads(&c);
    if (code == DONE)
        code = plan_conversion(&c);
    if (c.in.file)
        source_note(&c.in, code == DONE ? keeps_codes : NULL, &c);
    parted parts = parts_of(&c);
    parts.open = open_output;
    parts.make = convert_all;
    if (code == DONE) {
        const results r = results_of(&c);
        results_plan(&r, total_bytes(&c, 0));
        code = s->output.resume ? make_resumable(&parts) : convert_all(&c);
    }
    for (size_t i = 0; i < c.count; i++) {
        packed += c.all[i].item->packed != 0;
        requantized += c.all[i].requantized != 0;
    }
    const results r = results_of(&c);
    if (code == DONE)
        code = report_write(&r);
    if (code == DONE && packed == 0)
        say("note: none of the tensors is quantized to 4 bits, so that all are copied; 'quantize encode' quantizes");
    if (code == DONE && s->output.part)
        print_part(&parts, &r);
    else if (code == DONE)
        results_end(&r, DONE);
    if (code == DONE && !wants_numbers(s))
        print_errors(&c, requantized);
    if (code == DONE && !is_list(s))
        sum_up("converted %zu of %zu tensors to %s in %.2f s%s", packed, c.count, c.layout, seconds_now() - start,
               s->output.no_verify || packed == 0 ? ""
               : requantized == 0                 ? "; they decode to the same values"
               : requantized < packed             ? "; those that are not listed decode to the same values"
                                                  : "; their values are others");
    crew_end(c.crew);
    qz_pool_destroy(c.pool);
    free(c.all);
    if (c.choices)
        fclose(c.choices);
    source_close(&c.in);
    return code;
}
