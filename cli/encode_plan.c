/*
 * encode_plan.c - the plan of encode: decides for each tensor whether it is encoded or copied, and how
 */
#include "encode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gram.h"
#include "output.h"
#include "packed_block.h"
#include "scheme.h"
#include "values.h"
#include "weights.h"

/* ---- schemes and rules ---- */

static int read_table(encoder *e)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    int code = source_open(e->s, e->s->how.table, &e->table);
    if (code != DONE)
        return code;
    const qz_tensor *t = e->table.count == 1 ? qz_tensor_at(e->table.file, e->table.items[0].tensor) : NULL;
    if (!t || e->table.items[0].packed || t->count != 16 || t->element != QZ_ELEMENT_F32)
        return fail(USAGE, "--table: the file must hold one array, of sixteen float32 numbers");
    return qz_read(e->table.file, 0, 0, 16, e->recipes.numbers, &error) == QZ_FILE_OK ? DONE : fail_file(&error);
}

int choose_recipes(encoder *e)
{
    int code = e->s->how.table ? read_table(e) : DONE;
    if (code == DONE)
        code = recipe_of_options(e->s, e->s->how.table ? e->recipes.numbers : NULL, &e->recipes.usual);
    return code == DONE ? read_rules(e->s, &e->recipes.rules) : code;
}

/* Whether the method takes rows of that length: a rule of another tool may not. Encoding no rows at all tells. */
static int takes_rows(const recipe *how, uint64_t rows, uint64_t cols)
{
    const float largest = 0;
    const qz_matrix none = {NULL, QZ_F32, 0, cols, 0, 1};
    const qz_packed nowhere = {0};
    const qz_whole whole = {sizeof whole, rows, cols, 0, 0, &largest};
    qz_options options = QZ_OPTIONS_INIT;
    options.method = how->method;
    options.whole = &whole;
    return qz_encode(&how->scheme, &none, &nowhere, &options, NULL, NULL) != QZ_ERROR_ARGUMENT;
}

/* ---- the tensors ---- */

/* The values of a tensor for which four bits are worth the three members that it becomes. */
enum { MIN_SIZE = 256 };

uint64_t min_size(const settings *s)
{
    return s->which.min_size != UINT64_MAX ? s->which.min_size : MIN_SIZE;
}

/* Norms and biases have one axis, are small and matter more than others: they stay, unless --include names them, a rule
 * is for this very name, or there is nothing else that could be meant. Rules stand before the default list. */
static reason why_kept(const encoder *e, job *j)
{
    const settings *s = e->s;
    const item *i = j->item;
    const qz_tensor *t = j->tensor;
    if (i->packed && !j->codes)
        return PACKED;
    if (!is_float(t->element))
        return NO_FLOATS;
    if (t->rank == 0)
        return SCALAR;
    if (!is_selected(s, i))
        return BY_NAME;
    j->rule = first_rule(&e->recipes.rules, i);
    if (j->rule && j->rule->keep)
        return BY_RULE;
    if (is_included(s, i) || (j->rule && names_exactly(j->rule, i)))
        return ENCODED;
    int alone = e->total.floats == 1;
    if (t->count < min_size(s) && (!alone || s->which.min_size != UINT64_MAX))
        return SMALL;
    if (t->rank == 1 && !alone)
        return ONE_AXIS;
    if (!j->rule)
        j->rule = first_rule(&e->recipes.defaults, i);
    return j->rule && j->rule->keep ? BY_DEFAULT : ENCODED;
}

/* A rule in a message: "--rule '*=q4_k': ", or nothing. */
static const char *rule_text(const job *j)
{
    static char text[sizeof j->rule->place + 2];
    snprintf(text, sizeof text, "%s%s", j->rule ? j->rule->place : "", j->rule ? ": " : "");
    return text;
}

static int find_axis(const job *j, const qz_tensor *t, const char *name, unsigned *axis)
{
    const int64_t wanted = j->how->axis;
    int64_t number = wanted < 0 ? wanted + (int64_t)t->rank : wanted;
    const char *prefix = j->rule ? rule_text(j) : "--";
    if (number < 0 || number >= (int64_t)t->rank)
        return fail(USAGE, "%saxis %" PRId64 ": tensor '%s' has %u axes; use %d to %u, or --exclude it", prefix, wanted,
                    name, t->rank, -(int)t->rank, t->rank - 1);
    *axis = (unsigned)number;
    return DONE;
}

/* Codes are decoded and encoded along the axis that they have. */
static int keep_axis(job *j, const char *name)
{
    const unsigned own = j->codes->packed.axis;
    const int64_t wanted = j->how->axis, last = -1;
    j->axis = own;
    if (wanted == last || wanted == (int64_t)own || wanted + (int64_t)j->tensor->rank == (int64_t)own)
        return DONE;
    return fail(USAGE,
                "%saxis %" PRId64 ": the codes of tensor '%s' run along axis %u, and --requantize keeps that; leave "
                "the axis out, or make floats of them by 'quantize decode' first",
                j->rule ? rule_text(j) : "--", wanted, name, own);
}

static int fail_rows(const job *j, const qz_tensor *t, const char *name)
{
    const qz_scheme *scheme = &j->how->scheme;
    return fail(USAGE,
                "%s--method reference: the rule %s takes %" PRIu64 " values at a time; tensor '%s' has %" PRIu64
                " along axis %u, which is no multiple; use another --axis or --method, or --exclude it",
                rule_text(j), qz_rule_name(scheme->rule),
                scheme->super_size != 0 && scheme->super_size < QZ_WHOLE_MATRIX ? scheme->super_size
                                                                                : scheme->group_size,
                name, t->shape[j->axis], j->axis);
}

/* What the recipe of a tensor makes of it: its axis, its bytes. It stays if the output has no place for it, and is
 * refused if no tensor of any shape could be there. */
static int plan_recipe(const encoder *e, job *j)
{
    const qz_tensor *t = j->tensor;
    const qz_scheme *scheme = &j->how->scheme;
    char name[NAME_TEXT], why[NAME_TEXT];
    qz_escape(t->name, t->name_length, name, sizeof name);
    int code = j->codes ? keep_axis(j, name) : find_axis(j, t, name, &j->axis);
    if (code != DONE)
        return code;
    if (j->how->eight && j->codes) { /* eight bits hold nothing that four do not */
        j->kept = PACKED;
        return DONE;
    }
    if (j->how->eight)
        j->axis = t->rank - 1;
    const char *never = recipe_refuses(j->how, e->layout, NULL, 0, why, sizeof why);
    if (never)
        return fail(USAGE, "%stensor '%s': the layout %s cannot have tensors of this scheme: %s", rule_text(j), name,
                    e->layout, never);
    if (recipe_refuses(j->how, e->layout, t, j->axis, why, sizeof why)) {
        j->kept = NO_PLACE;
        return DONE;
    }
    j->rows = 1;
    for (unsigned i = 0; i < t->rank; i++)
        if (i != j->axis)
            j->rows *= t->shape[i];
    j->bytes.after = recipe_bytes(j->how, e->layout, t, j->axis);
    if (j->how->eight)
        return DONE;
    qz_sizes sizes = {.size = sizeof sizes};
    if (qz_scheme_sizes(scheme, j->rows, t->shape[j->axis], &sizes) != QZ_OK)
        return fail(LIMIT, "tensor '%s' is too large", name);
    return takes_rows(j->how, j->rows, t->shape[j->axis]) ? DONE : fail_rows(j, t, name);
}

/* Bytes of a tensor in the input, and in the output where it stays. */
static int find_bytes(const encoder *e, job *j)
{
    qz_packed_tensor packed;
    qz_tensor t;
    int code = source_tensor(&e->in, j->item, &t, &packed);
    if (code != DONE)
        return code;
    j->place.keeps_codes = qz_stored_stays(e->in.file, j->item->tensor, e->layout);
    j->bytes.before = j->bytes.kept = t.bytes;
    if (j->item->packed)
        j->bytes.kept = qz_layout_bytes(e->layout, &packed.scheme, packed.rank, packed.shape, packed.axis);
    else if (!j->place.keeps_codes)
        j->bytes.kept = t.count * qz_element_size(t.element);
    j->bytes.after = j->bytes.kept;
    return DONE;
}

/* Whether the values of a tensor are decoded from about as few bits as codes of four have: ggml's Q2_K and Q3_K, for
 * example. To encode them is a second loss for nothing; those of Q5_0 to Q8_0 become smaller. */
static int is_of_few_bits(const job *j)
{
    return !j->item->packed && j->tensor->element == QZ_ELEMENT_F32 && j->bytes.before / 5 < j->tensor->count / 8;
}

static int fail_few_bits(const job *j)
{
    char name[NAME_TEXT];
    return fail(REFUSED,
                "tensor '%s' is quantized already, in %.4g bits a value, and four bits would be a second loss; "
                "--requantize does it and prints the error that is added, --exclude writes the decoded values",
                qz_escape(j->item->name, j->item->name_length, name, sizeof name),
                8.0 * (double)j->bytes.before / (double)j->tensor->count);
}

static int plan_tensor(encoder *e, job *j)
{
    j->tensor = qz_tensor_at(e->in.file, j->item->tensor);
    int code = j->item->packed && e->s->output.requantize ? describe_codes(e, j) : DONE;
    if (code != DONE)
        return code;
    const qz_tensor *t = j->tensor;
    j->kept = why_kept(e, j);
    j->how = j->rule && !j->rule->keep ? &j->rule->how : &e->recipes.usual;
    code = find_bytes(e, j);
    if (code == DONE && j->kept == ENCODED)
        code = plan_recipe(e, j);
    const int is_second = j->kept == ENCODED && is_of_few_bits(j) && !e->s->output.requantize;
    if (code == DONE && is_second && !j->place.keeps_codes)
        return fail_few_bits(j);
    if (is_second)
        j->kept = PACKED;
    if (j->kept == PACKED)
        j->bytes.after = j->bytes.kept;
    j->encoded = j->kept == ENCODED;
    if (j->kept == SMALL || j->kept == ONE_AXIS)
        j->rule = NULL; /* it did not decide */
    if (code != DONE || !j->encoded)
        return code;
    e->total.values += t->count;
    e->total.bytes_before += j->bytes.before;
    e->total.bytes_after += j->bytes.after;
    return DONE;
}

/* Gives a recipe that scheme, with scales of a type that the layout has, if options leave it open. */
static int take_scheme(const encoder *e, const qz_scheme *scheme, recipe *r)
{
    const qz_dtype named = (qz_dtype)e->s->how.scale_dtype, types[] = {scheme->scale_dtype, QZ_F32, QZ_F16, QZ_BF16};
    const size_t count = named != 0 ? 1 : sizeof types / sizeof types[0];
    char why[NAME_TEXT];
    recipe with = *r;
    with.scheme = *scheme;
    if (e->s->how.group_size != 0)
        with.scheme.group_size = e->s->how.group_size;
    for (size_t i = 0; i < count; i++) {
        with.scheme.scale_dtype = named != 0 ? named : types[i];
        if (qz_scheme_check(&with.scheme, with.method) == QZ_OK &&
            !recipe_refuses(&with, e->layout, NULL, 0, why, sizeof why)) {
            *r = with;
            return 1;
        }
    }
    return 0;
}

/* The layout of the output. The usual recipe gets what options leave open so that the layout has it. */
static void choose_layout(encoder *e)
{
    char why[NAME_TEXT];
    recipe *usual = &e->recipes.usual;
    e->layout = target_layout(e->s, &e->in);
    if (!e->layout)
        e->layout = "own"; /* the output is of no known kind, which is said when it is made */
    if (usual->eight || !recipe_refuses(usual, e->layout, NULL, 0, why, sizeof why))
        return;
    const int open = !e->s->how.scheme && !e->s->how.table;
    int taken = take_scheme(e, &usual->scheme, usual);
    for (size_t i = 0; !taken && open && qz_scheme_at(i); i++)
        taken = take_scheme(e, qz_scheme_at(i), usual);
}

int measures_all(const settings *s)
{
    return s->say.stats || s->output.report || (wants_numbers(s) && !s->output.dry_run);
}

int is_measured(const encoder *e, const job *j)
{
    return j->encoded && (measures_all(e->s) || (is_requantized(j) && !e->s->output.dry_run));
}

int is_requantized(const job *j)
{
    return j->encoded && (j->codes || is_of_few_bits(j));
}

int keeps_codes(const job *j)
{
    return !j->encoded && j->place.keeps_codes;
}

int has_weights(const job *j)
{
    return j->beside.weights || j->beside.importance || j->beside.gram.matrix;
}

int is_weighted(const job *j)
{
    return has_weights(j) && !j->beside.gram.matrix && !j->how->eight; /* whose rule knows no weights */
}

int is_gptq(const job *j)
{
    return j->encoded && j->beside.gram.matrix && !j->how->eight;
}

/* The weights of tensors; a rule may demand some. */
static int choose_weights(encoder *e)
{
    char name[NAME_TEXT];
    int code = plan_weights(e);
    if (code == DONE)
        code = plan_grams(e);
    for (size_t i = 0; i < e->in.count && code == DONE; i++) {
        const job *j = &e->jobs[i];
        if (!j->encoded || !j->how->weighted || has_weights(j))
            continue;
        qz_escape(j->item->name, j->item->name_length, name, sizeof name);
        code = fail(USAGE, "%stensor '%s' has no weights, which the rule wants; %s", rule_text(j), name,
                    e->s->how.weights || e->s->how.imatrix || e->s->how.gram
                        ? "leave out the word, or let the file of weights have this name"
                        : "give a file of weights with --weights, --imatrix or --gram");
    }
    return code;
}

int plan_tensors(encoder *e)
{
    int code = check_rules(e->s, &e->in);
    if (code == DONE)
        code = check_rule_names(&e->recipes.rules, &e->in);
    if (code == DONE && !e->s->which.no_default_rules)
        code = default_rules(&e->in, &e->recipes.defaults);
    choose_layout(e);
    e->jobs = calloc(e->in.count + 1, sizeof *e->jobs);
    if (!e->jobs)
        return code == DONE ? fail_memory() : code;
    for (size_t i = 0; i < e->in.count; i++) {
        const qz_tensor *t = qz_tensor_at(e->in.file, e->in.items[i].tensor);
        if (e->in.items[i].packed)
            e->total.floats += e->s->output.requantize != 0;
        else
            e->total.floats += is_float(t->element) && t->rank != 0;
    }
    for (size_t i = 0; i < e->in.count && code == DONE; i++) {
        e->jobs[i].item = &e->in.items[i];
        e->jobs[i].stats = (qz_stats)QZ_STATS_INIT;
        e->jobs[i].likely.sqnr = NAN;
        at_tensor(e->in.items[i].name, e->in.items[i].name_length);
        code = plan_tensor(e, &e->jobs[i]);
    }
    if (code == DONE)
        at_tensor(NULL, 0);
    if (code == DONE)
        code = names_were_seen();
    if (code == DONE)
        code = choose_weights(e);
    if (code == DONE)
        code = choose_schemes(e);
    return code == DONE && e->s->output.dry_run && !e->s->say.stats ? predict(e) : code;
}
