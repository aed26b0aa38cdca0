/*
 * encode.c - the command encode: writes floats as 4-bit codes
 *
 * This file has the steps of the command. The choice of schemes, the plan, one tensor, the results, and parts of
 * folders are in files of their own (encode_*.c).
 */
#include "commands.h"

#include <stdlib.h>
#include <string.h>

#include "encode.h"
#include "output.h"
#include "packed_block.h"
#include "report.h"
#include "resources.h"
#include "resume.h"
#include "target.h"

/* ---- the output ---- */

static int declare(encoder *e, job *j, qz_file_error *error)
{
    const qz_tensor *t = j->tensor;
    const item *named = j->item;
    at_tensor(named->name, named->name_length);
    if (keeps_codes(j))
        return qz_stored_declare(e->writer, e->in.file, named->tensor, &j->place.index, error) == QZ_FILE_OK
                   ? DONE
                   : fail_file(error);
    if (j->encoded && j->how->eight)
        return qz_eight_declare(e->writer, t, &j->place.index, error) == QZ_FILE_OK ? DONE : fail_file(error);
    if (!j->encoded && !named->packed)
        return qz_declare(e->writer, t, &j->place.index, error) == QZ_FILE_OK ? DONE : fail_file(error);
    /* What is quantized already becomes the same in the layout of the output. */
    qz_packed_tensor before = {.size = sizeof before, .scheme = j->how->scheme, .rank = t->rank, .axis = j->axis};
    if (!j->encoded) {
        if (qz_packed_find(e->in.file, named->name, named->name_length, &before, error) != QZ_FILE_OK)
            return fail_file(error);
    } else {
        memcpy(before.shape, t->shape, t->rank * sizeof *t->shape);
    }
    j->place.packed = calloc(1, sizeof *j->place.packed);
    if (!j->place.packed)
        return fail_memory();
    j->place.packed->size = sizeof *j->place.packed;
    return qz_packed_declare(e->writer, named->name, named->name_length, &before.scheme, before.rank, before.shape,
                             before.axis, j->place.packed, error) == QZ_FILE_OK
               ? DONE
               : fail_file(error);
}

static int copy(encoder *e, const job *j)
{
    if (keeps_codes(j))
        return copy_stored(&e->in, j->item->tensor, e->writer, j->place.index);
    return j->item->packed ? copy_packed(&e->in, j->item, e->writer, j->place.packed)
                           : copy_tensor(&e->in, j->item->tensor, e->writer, j->place.index);
}

/* ---- all tensors ---- */

/* The files that are read: the output must be none of them, and they must not change meanwhile. */
enum { MOST_INPUTS = 5 };
static size_t list_inputs(const encoder *e, const qz_file *inputs[MOST_INPUTS])
{
    size_t count = 0;
    inputs[count++] = e->in.file;
    if (e->weights.file)
        inputs[count++] = e->weights.file;
    if (e->imatrix.in.file)
        inputs[count++] = e->imatrix.in.file;
    if (e->grams.file)
        inputs[count++] = e->grams.file;
    if (e->table.file)
        inputs[count++] = e->table.file;
    return count;
}

static int open_output(void *of)
{
    encoder *e = of;
    const parted parts = encode_parts(e);
    qz_file_error error = QZ_FILE_ERROR_INIT;
    const qz_file *inputs[MOST_INPUTS];
    size_t count = list_inputs(e, inputs);
    qz_create_options options = target_options(e->s, inputs, count);
    options.layout = e->s->output.to;
    options.part = e->part;
    int code = target_open(e->s, &e->in, &options, &e->writer);
    for (size_t i = 0; i < e->in.count && code == DONE; i++)
        code = declare(e, &e->jobs[i], &error);
    if (code == DONE)
        at_tensor(NULL, 0);
    const scheme_names schemes = used_schemes(e);
    if (code == DONE && (e->part == 0 || is_rest(e->s)))
        code = target_copy_beside(e->s, &e->in, e->writer, e->layout, &schemes);
    return code == DONE && e->s->output.part ? choose_part(&parts) : code;
}

/* The output is kept if the inputs are still what they were and nobody asked to stop. */
static int close_output(encoder *e, int code)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    const qz_file *inputs[MOST_INPUTS];
    size_t count = list_inputs(e, inputs);
    for (size_t i = 0; i < count && code == DONE; i++)
        if (qz_unchanged(inputs[i], &error) != QZ_FILE_OK)
            code = fail_file(&error);
    if (code == DONE && stop_requested())
        code = 128 + stop_requested();
    if (code != DONE || !e->writer || is_list(e->s))
        qz_abort(e->writer);
    else if (qz_commit(e->writer, &error) != QZ_FILE_OK)
        code = fail_file(&error);
    return code;
}

static int encode_all(void *of)
{
    encoder *e = of;
    int code = e->pool ? DONE : start_pool(e->s, e->total.values, &e->pool);
    if (code == DONE && !e->s->output.dry_run)
        code = open_output(e);
    const results r = encode_results(e);
    uint64_t total = 0;
    for (size_t i = 0; i < e->in.count; i++)
        total += e->jobs[i].place.elsewhere ? 0 : steps_of(e, &e->jobs[i]);
    progress_begin("encode", total);
    for (size_t i = 0; i < e->in.count && code == DONE; i++) {
        if (e->jobs[i].place.elsewhere)
            continue;
        results_begin_tensor(&r, i);
        if (e->jobs[i].encoded)
            code = encode_tensor(e, &e->jobs[i]);
        else if (e->writer)
            code = copy(e, &e->jobs[i]);
        if (code == DONE)
            results_tensor(&r, i);
    }
    progress_end();
    const parted parts = encode_parts(e);
    if (code == DONE && is_list(e->s))
        code = list_parts(&parts);
    return close_output(e, code);
}

/* What would be done with each tensor, instead of doing it. */
static int list_all(const encoder *e)
{
    const results r = encode_results(e);
    for (size_t i = 0; i < r.count; i++) {
        results_begin_tensor(&r, i);
        results_tensor(&r, i);
    }
    return DONE;
}

/* What was done, for programs or for people. */
static int print_results(const encoder *e, double seconds)
{
    const results r = encode_results(e);
    const int code = report_write(&r);
    if (code != DONE)
        return code;
    if (!wants_numbers(e->s) && e->s->output.dry_run)
        print_encode_plan(e);
    if (!wants_numbers(e->s))
        print_encode_stats(e);
    say_kept(e);
    results_end(&r, DONE);
    say_summary(e, seconds);
    return DONE;
}

static int keeps(const void *of, size_t i)
{
    return keeps_codes(&((const encoder *)of)->jobs[i]);
}

int run_encode(const settings *s)
{
    encoder e = {.s = s};
    int code = target_check_layout(s);
    if (code == DONE)
        code = part_of_options(s, &e.part);
    if (code == DONE)
        code = report_check(s);
    if (code == DONE)
        code = resume_check(s);
    if (code == DONE)
        code = choose_recipes(&e);
    double start = seconds_now();
    if (code == DONE)
        code = source_open_quietly(s, s->files[0], &e.in);
    if (code == DONE) {
        code = plan_tensors(&e);
        source_note(&e.in, code == DONE ? keeps : NULL, &e);
    }
    parted parts = encode_parts(&e);
    parts.open = open_output;
    parts.make = encode_all;
    const results r = encode_results(&e);
    if (code == DONE) {
        results_plan(&r, total_bytes(&e, 0));
        code = s->output.resume                     ? make_resumable(&parts)
               : !s->output.dry_run || s->say.stats ? encode_all(&e)
                                                    : list_all(&e);
    }
    if (code == DONE && s->output.part)
        print_part(&parts, &r);
    else if (code == DONE)
        code = print_results(&e, seconds_now() - start);
    for (size_t i = 0; e.jobs && i < e.in.count; i++) {
        free(e.jobs[i].place.packed);
        free(e.jobs[i].codes);
    }
    free(e.jobs);
    free(e.recipes.candidates);
    free_rules(&e.recipes.rules);
    free_rules(&e.recipes.defaults);
    qz_pool_destroy(e.pool);
    source_close(&e.in);
    source_close(&e.weights);
    source_close(&e.grams);
    source_close(&e.table);
    imatrix_close(&e.imatrix);
    return code;
}
