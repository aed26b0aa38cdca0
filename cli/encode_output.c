/*
 * encode_output.c - the output of encode: its notes, its tables, its JSON
 */
#include "encode.h"

#include <math.h>
#include <string.h>

#include "json.h"
#include "output.h"
#include "scheme.h"
#include "stats.h"
#include "table.h"

static const char *const reasons[REASONS] = {NULL,      "quantized",    "no floats",       "scalar",
                                             "by name", "one axis",     "small",           "no place",
                                             "by rule", "default rule", "below --min-sqnr"};

/* How a tensor is encoded, in a word or as a rule would say it. */
static const char *recipe_text(const job *j)
{
    return j->words ? j->words : j->how->scheme.name;
}

static double bits_of(const job *j, const qz_tensor *t)
{
    return t->count != 0 ? 8.0 * (double)j->bytes.after / (double)t->count : 0;
}

/* Says of tensors for which the output has no place as quantized ones why it has none, of the first of them. */
static void say_no_place(const encoder *e, uint64_t count)
{
    size_t i = 0;
    char why[NAME_TEXT], name[NAME_TEXT];
    while (count != 0 && e->jobs[i].kept != NO_PLACE)
        i++;
    if (count == 0)
        return;
    const job *j = &e->jobs[i];
    const qz_tensor *t = j->tensor;
    say("%" PRIu64 " %s of floats, '%s' for example: %s", count, count == 1 ? "tensor stays" : "tensors stay",
        qz_escape(t->name, t->name_length, name, sizeof name),
        recipe_refuses(j->how, e->layout, t, j->axis, why, sizeof why));
}

/* Says of tensors that the default list keeps how many there are of one kind, and which is the first. */
static void say_default(const encoder *e, const char *what)
{
    uint64_t found = 0;
    char name[NAME_TEXT] = "";
    for (size_t i = 0; i < e->in.count; i++) {
        const job *j = &e->jobs[i];
        if (j->kept == BY_DEFAULT && strcmp(j->rule->what, what) == 0 && found++ == 0)
            qz_escape(j->item->name, j->item->name_length, name, sizeof name);
    }
    if (found == 1)
        say("'%s' stays as it is: %s", name, what);
    else if (found > 1)
        say("%" PRIu64 " tensors stay as they are, '%s' for example: %s", found, name, what);
}

/* Rules of one kind stand together. */
static void say_defaults(const encoder *e, uint64_t count)
{
    const char *last = "";
    for (size_t r = 0; r < e->recipes.defaults.count && count != 0; r++) {
        const char *what = e->recipes.defaults.items[r].what;
        if (strcmp(what, last) != 0)
            say_default(e, what);
        last = what;
    }
    if (count != 0)
        say("models keep such tensors by default; --rule 'NAME=%s' encodes one, --no-default-rules all",
            e->recipes.usual.scheme.name);
}

/* Says how many tensors no scheme encodes as well as --min-sqnr wants it, and how near the first of them comes. */
static void say_lossy(const encoder *e, uint64_t count)
{
    size_t i = 0;
    char name[NAME_TEXT];
    while (count != 0 && e->jobs[i].kept != TOO_LOSSY)
        i++;
    if (count != 0)
        say("%" PRIu64 " %s, '%s' for example: no scheme reaches %g dB, the best has %.2f dB", count,
            count == 1 ? "tensor stays as it is" : "tensors stay as they are",
            qz_escape(e->jobs[i].item->name, e->jobs[i].item->name_length, name, sizeof name), e->s->goal.min_sqnr,
            e->jobs[i].likely.sqnr);
}

/* Says how many tensors each rule keeps. */
static void say_rules(const encoder *e)
{
    for (size_t r = 0; r < e->recipes.rules.count; r++) {
        uint64_t count = 0;
        for (size_t i = 0; i < e->in.count; i++)
            count += e->jobs[i].kept == BY_RULE && e->jobs[i].rule == &e->recipes.rules.items[r];
        if (count != 0)
            say("%" PRIu64 " %s: %s", count, count == 1 ? "tensor stays as it is" : "tensors stay as they are",
                e->recipes.rules.items[r].place);
    }
}

/* Says which tensors keep the codes that they have, whatever scheme was asked for. */
static void say_quantized(const encoder *e, uint64_t count)
{
    char name[NAME_TEXT];
    size_t i = 0;
    while (count != 0 && e->jobs[i].kept != PACKED)
        i++;
    if (count != 0)
        say("%" PRIu64 " %s, '%s' for example: quantized already, and another scheme would be a second loss%s", count,
            count == 1 ? "tensor stays as it is" : "tensors stay as they are",
            qz_escape(e->jobs[i].item->name, e->jobs[i].item->name_length, name, sizeof name),
            e->s->output.requantize ? "" : "; --requantize does it and prints the error that is added");
}

void say_kept(const encoder *e)
{
    uint64_t counts[REASONS] = {0};
    char text[400] = "";
    for (size_t i = 0; i < e->in.count; i++)
        counts[e->jobs[i].kept]++;
    if (counts[ONE_AXIS] != 0)
        snprintf(text, sizeof text, "%" PRIu64 " with one axis", counts[ONE_AXIS]);
    if (counts[SMALL] != 0)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%" PRIu64 " with fewer than %" PRIu64 " values",
                 text[0] != '\0' ? ", " : "", counts[SMALL], min_size(e->s));
    if (text[0] != '\0')
        say("tensors that stay as they are: %s; --include NAME encodes such a tensor", text);
    say_quantized(e, counts[PACKED]);
    say_rules(e);
    say_defaults(e, counts[BY_DEFAULT]);
    say_lossy(e, counts[TOO_LOSSY]);
    say_no_place(e, counts[NO_PLACE]);
    uint64_t raw = 0, voids = 0;
    for (size_t i = 0; i < e->in.count; i++) {
        const qz_tensor *t = qz_tensor_at(e->in.file, e->in.items[i].tensor);
        if (e->in.items[i].packed)
            continue;
        raw += t->element == QZ_ELEMENT_RAW;
        voids += t->element == QZ_ELEMENT_RAW && t->type[0] != '[' && strcmp(t->type + 1, "V2") == 0;
    }
    if (raw != 0)
        say("note: %" PRIu64 " %s of a type that cannot be quantized and %s copied%s", raw,
            raw == 1 ? "tensor is" : "tensors are", raw == 1 ? "is" : "are",
            voids != 0 ? "; if two-byte elements of no type (V2) are bfloat16, say so with --void2-as-bfloat16" : "");
}

scheme_names used_schemes(const encoder *e)
{
    scheme_names schemes = {.count = 0};
    for (size_t i = 0; i < e->in.count; i++)
        if (e->jobs[i].encoded)
            note_scheme(&schemes, e->jobs[i].how->scheme.name);
    if (schemes.count == 0)
        note_scheme(&schemes, e->recipes.usual.scheme.name);
    return schemes;
}

/* The methods that tensors are encoded by, in words. */
static const char *used_methods(const encoder *e, char *out, size_t out_size)
{
    unsigned used = 0;
    for (size_t i = 0; i < e->in.count; i++)
        if (e->jobs[i].encoded)
            used |= 1u << method_of(e->jobs[i].how);
    if (used == 0)
        used = 1u << method_of(&e->recipes.usual);
    out[0] = '\0';
    for (int m = 0; used >> m != 0; m++)
        if (used >> m & 1)
            snprintf(out + strlen(out), out_size - strlen(out), "%s%s",
                     out[0] == '\0'   ? ""
                     : used >> m == 1 ? " and "
                                      : ", ",
                     qz_method_name((qz_method)m));
    return out;
}

static double likely_seconds(const encoder *e)
{
    double sum = 0;
    for (size_t i = 0; i < e->in.count; i++)
        sum += e->jobs[i].likely.seconds;
    return sum;
}

static uint64_t encoded_count(const encoder *e)
{
    uint64_t count = 0;
    for (size_t i = 0; i < e->in.count; i++)
        count += e->jobs[i].encoded != 0;
    return count;
}

/* How many tensors GPTQ chooses the codes of. */
static uint64_t gptq_count(const encoder *e)
{
    uint64_t count = 0;
    for (size_t i = 0; i < e->in.count; i++)
        count += is_gptq(&e->jobs[i]) != 0;
    return count;
}

static void say_prediction(const encoder *e)
{
    if (e->likely_memory != 0)
        sum_up("dry run: a run takes about %s of memory and %.2g s, without the time to read and write",
               bytes_text((double)e->likely_memory), likely_seconds(e));
}

/* What encoded tensors were. */
static const char *encoded_text(const encoder *e)
{
    size_t codes = 0;
    for (size_t i = 0; i < e->in.count; i++)
        codes += is_requantized(&e->jobs[i]) != 0;
    return codes == 0 ? "floats" : codes == encoded_count(e) ? "codes" : "floats and codes";
}

void say_summary(const encoder *e, double seconds)
{
    const scheme_names used = used_schemes(e);
    char schemes[600] = "", methods[100], gptq[80] = "";
    if (gptq_count(e) != 0)
        snprintf(gptq, sizeof gptq, " and GPTQ (%" PRIu64 " of %" PRIu64 ")", gptq_count(e), encoded_count(e));
    for (size_t i = 0; i < used.count; i++)
        snprintf(schemes + strlen(schemes), sizeof schemes - strlen(schemes), "%s%s",
                 i == 0                ? ""
                 : i + 1 == used.count ? " and "
                                       : ", ",
                 used.name[i]);
    const char *dry = e->s->output.dry_run ? "dry run: " : "";
    if (encoded_count(e) == 0)
        sum_up("%sno tensor was encoded, in %.2f s", dry, seconds);
    else
        sum_up("%s%s of %s became %s of %s (%.4g bits a value), method %s%s, in %.2f s", dry,
               bytes_text((double)e->total.bytes_before), encoded_text(e), bytes_text((double)e->total.bytes_after),
               schemes, e->total.values != 0 ? 8.0 * (double)e->total.bytes_after / (double)e->total.values : 0.0,
               used_methods(e, methods, sizeof methods), gptq, seconds);
    say_prediction(e);
}

/* The pattern of the rule that decided. */
static void json_rule(const job *j)
{
    if (j->rule)
        json_text("rule", j->rule->pattern);
    if (j->rule && j->rule->what)
        json_text("default", j->rule->what);
}

/* Of all tensors that were encoded and measured, as if they were one. */
static double total_sqnr(const encoder *e)
{
    qz_stats sum = QZ_STATS_INIT;
    for (size_t i = 0; i < e->in.count; i++) {
        if (e->jobs[i].place.made_before && e->jobs[i].encoded)
            return (double)NAN; /* its errors are not known */
        sum.count += e->jobs[i].stats.count;
        sum.signal += e->jobs[i].stats.signal;
        sum.error += e->jobs[i].stats.error;
    }
    return sum.count != 0 ? sqnr(&sum) : (double)NAN;
}

uint64_t total_bytes(const encoder *e, int after)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < e->in.count; i++)
        sum += after ? e->jobs[i].bytes.after : e->jobs[i].bytes.before;
    return sum;
}

static void json_totals(const void *of)
{
    const encoder *e = of;
    json_text("command", "encode");
    json_bool("written", !e->s->output.dry_run);
    json_scheme(&e->recipes.usual.scheme);
    json_text("method", qz_method_name(method_of(&e->recipes.usual)));
    if (e->s->how.stochastic)
        json_whole("seed", e->s->how.seed);
    json_whole("values", e->total.values);
    json_whole("bytes_before", e->total.bytes_before);
    json_whole("bytes_after", e->total.bytes_after);
    json_whole("tensor_bytes_before", total_bytes(e, 0));
    json_whole("tensor_bytes_after", total_bytes(e, 1));
    if (measures_all(e->s))
        json_real("sqnr_db", total_sqnr(e));
    if (e->likely_memory != 0) {
        json_whole("likely_memory_bytes", e->likely_memory);
        json_real("likely_seconds", likely_seconds(e));
    }
}

/* What GPTQ did for the outputs of a layer. */
static void json_gptq(const encoder *e, const job *j)
{
    const qz_gptq_outcome *o = &j->outcome;
    json_bool("gptq", 1);
    if (j->beside.gram.examples != 0)
        json_whole("examples", j->beside.gram.examples);
    if (!is_measured(e, j) || j->place.made_before)
        return;
    json_real("damping", o->damping);
    json_real("output_sqnr_db", decibels(o->output_signal, o->output_error));
    if (j->beside.gram.holdout)
        json_real("holdout_sqnr_db", decibels(o->holdout_signal, o->holdout_error));
}

/* NAN and infinity that were replaced have no error. */
static double job_sqnr(const void *of, size_t i)
{
    const job *j = &((const encoder *)of)->jobs[i];
    return j->encoded && j->stats.count != 0 && j->stats.replaced == 0 ? sqnr(&j->stats) : (double)NAN;
}

static void json_job(const void *of, size_t i)
{
    const encoder *e = of;
    const job *j = &e->jobs[i];
    const qz_tensor *t = j->tensor;
    json_name("name", j->item->name, j->item->name_length);
    json_text("action", is_requantized(j) ? "requantize" : j->encoded ? "encode" : "copy");
    if (!j->encoded)
        json_text("reason", reasons[j->kept]);
    json_rule(j);
    if (j->words)
        json_text("chosen", j->words);
    if (!isnan(j->likely.sqnr))
        json_real("likely_sqnr_db", j->likely.sqnr);
    if (j->encoded) {
        json_scheme(&j->how->scheme);
        json_text("method", qz_method_name(method_of(j->how)));
        json_text("dtype", qz_element_name(t->element));
        json_shape("shape", t->rank, t->shape);
        json_whole("axis", j->axis);
        json_real("bits_per_value", bits_of(j, t));
    }
    json_whole("bytes_before", j->bytes.before);
    json_whole("bytes_after", j->bytes.after);
    if (j->place.made_before)
        json_bool("made_before", 1);
    if (is_requantized(j))
        json_real("sqnr_db", job_sqnr(e, i));
    if (is_measured(e, j) && !j->place.made_before)
        json_stats(&j->stats, t, j->axis, is_weighted(j));
    if (is_gptq(j))
        json_gptq(e, j);
}

static const char *job_name(const void *of, size_t i, size_t *length)
{
    const encoder *e = of;
    *length = e->in.items[i].name_length;
    return e->in.items[i].name;
}

results encode_results(const encoder *e)
{
    return (results){e->s, e, e->in.count, json_totals, json_job, job_name, job_sqnr};
}

/* Why a tensor is encoded so, or stays: the rule that says it, or what it is. */
static const char *why_text(const job *j, char *out, size_t out_size)
{
    if (!j->rule || j->kept == NO_PLACE)
        return j->encoded ? "" : reasons[j->kept];
    if (j->rule->what)
        return j->rule->what;
    return qz_escape(j->rule->pattern, strlen(j->rule->pattern), out, out_size);
}

void print_encode_plan(const encoder *e)
{
    static const char *const titles[] = {"name",  "type", "shape",   "action", "before",
                                         "after", "bits", "SQNR dB", "why"};
    table t;
    table_begin(&t, "llllrrrrl", titles);
    for (size_t i = 0; i < e->in.count; i++) {
        const job *j = &e->jobs[i];
        const qz_tensor *tensor = j->tensor;
        char name[NAME_TEXT], shape[SHAPE_TEXT], type[TYPE_TEXT], why[NAME_TEXT];
        table_cell(&t, "%s", qz_escape(j->item->name, j->item->name_length, name, sizeof name));
        table_cell(&t, "%s", j->item->packed ? "quantized" : type_text(tensor, type, sizeof type));
        table_cell(&t, "%s",
                   j->item->packed && !j->codes ? "" : shape_text(tensor->rank, tensor->shape, shape, sizeof shape));
        table_cell(&t, "%s", j->encoded ? recipe_text(j) : "copy");
        table_cell(&t, "%s", j->item->packed && !j->codes ? "" : bytes_text((double)j->bytes.before));
        table_cell(&t, "%s", j->encoded ? bytes_text((double)j->bytes.after) : "");
        if (j->encoded)
            table_cell(&t, "%.4g", bits_of(j, tensor));
        else
            table_cell(&t, "%s", "");
        if (isnan(j->likely.sqnr))
            table_cell(&t, "%s", "");
        else
            table_cell(&t, "%.2f", j->likely.sqnr);
        table_cell(&t, "%s", why_text(j, why, sizeof why));
    }
    table_print(&t);
}

/* What GPTQ did for the outputs of a layer, if it did something. */
static void gptq_cells(table *t, const job *j)
{
    const qz_gptq_outcome *o = &j->outcome;
    if (is_gptq(j))
        table_cell(t, "%.2f", decibels(o->output_signal, o->output_error));
    else
        table_cell(t, "%s", "");
    if (is_gptq(j) && j->beside.gram.holdout)
        table_cell(t, "%.2f", decibels(o->holdout_signal, o->holdout_error));
    else
        table_cell(t, "%s", "");
}

/* Whether a person reads of a tensor's error: of all if that was asked for, else of those that lose a second time. */
static int is_listed(const encoder *e, const job *j)
{
    return is_measured(e, j) && !j->place.made_before && (e->s->say.stats || is_requantized(j));
}

void print_encode_stats(const encoder *e)
{
    static const char *const titles[] = {"name",    "SQNR dB", "RMSE",      "largest error", "at",
                                         "clipped", "zeroed",  "subnormal", "replaced"};
    table t;
    const int weighted = e->s->how.weights || e->s->how.imatrix;
    const int gptq = gptq_count(e) != 0;
    const char *columns[14];
    char sides[15] = "lrrrlrrrr";
    size_t count = 9;
    memcpy(columns, titles, count * sizeof *columns);
    if (weighted)
        columns[count++] = "weighted dB";
    if (gptq) {
        columns[count++] = "output dB";
        columns[count++] = "held-out dB";
    }
    memset(sides + 9, 'r', count - 9);
    size_t listed = 0;
    for (size_t i = 0; i < e->in.count; i++)
        listed += is_listed(e, &e->jobs[i]) != 0;
    if (listed == 0 && !e->s->say.stats)
        return;
    table_begin(&t, sides, columns);
    for (size_t i = 0; i < e->in.count; i++) {
        const job *j = &e->jobs[i];
        const qz_tensor *tensor = j->tensor;
        if (!is_listed(e, j))
            continue;
        stats_cells(&t, j->item, &j->stats, tensor, j->axis);
        table_cell(&t, "%" PRIu64, j->stats.clipped);
        table_cell(&t, "%" PRIu64, j->stats.zeroed_groups);
        table_cell(&t, "%" PRIu64, j->stats.subnormal_scales);
        table_cell(&t, "%" PRIu64, j->stats.replaced);
        if (is_weighted(j))
            table_cell(&t, "%.2f", weighted_sqnr(&j->stats));
        else if (weighted)
            table_cell(&t, "%s", "");
        if (gptq)
            gptq_cells(&t, j);
    }
    table_print(&t);
}
