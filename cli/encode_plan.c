/*
 * encode_plan.c - what encode is asked to do: the scheme, and what becomes of each tensor
 */
#include "encode.h"

#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "scheme.h"
#include "weights.h"

/* ---- the scheme ---- */

static int read_table(encoder *e)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    int code = source_open(e->s, e->s->table, &e->table);
    if (code != DONE)
        return code;
    const qz_tensor *t = e->table.count == 1 ? qz_tensor_at(e->table.file, e->table.items[0].tensor) : NULL;
    if (!t || e->table.items[0].packed || t->count != 16 || t->element != QZ_ELEMENT_F32)
        return fail(USAGE, "--table: the file must hold one array, of sixteen float32 numbers");
    return qz_read(e->table.file, 0, 0, 16, e->numbers, &error) == QZ_FILE_OK ? DONE : fail_file(&error);
}

/* Says with which options the rule of the scheme would make it; an empty text if there are none. */
static void reference_hint(const encoder *e, char *out, size_t out_size)
{
    static const qz_dtype types[] = {QZ_F32, QZ_F16, QZ_BF16, QZ_E4M3, QZ_E8M0, QZ_I6, QZ_U6};
    const qz_scheme *row = qz_scheme_by_name(e->s->scheme ? e->s->scheme : "int4");
    out[0] = '\0';
    for (size_t i = 0; i < 2 * sizeof types / sizeof types[0] && out[0] == '\0'; i++) {
        qz_scheme like = e->scheme;
        like.scale_dtype = types[i / 2];
        like.group_size = i % 2 == 0 ? e->scheme.group_size : row->group_size;
        if (qz_scheme_check(&like, QZ_REFERENCE) != QZ_OK)
            continue;
        snprintf(out, out_size, " unless it has %s scales in groups of %" PRIu64, qz_dtype_name(like.scale_dtype),
                 like.group_size);
    }
}

static int fail_method(const encoder *e)
{
    char hint[100] = "";
    if (e->method == QZ_REFERENCE)
        reference_hint(e, hint, sizeof hint);
    char list[160] = "";
    const char *names[16];
    size_t n = 0;
    for (int m = QZ_DEFAULT + 1; n < 16 && qz_method_name((qz_method)m); m++)
        if (qz_scheme_check(&e->scheme, (qz_method)m) == QZ_OK)
            names[n++] = qz_method_name((qz_method)m);
    for (size_t i = 0; i < n; i++)
        list_words(list, sizeof list, names[i], i + 1 == n);
    return fail(USAGE, "--method %s does not go with the scheme %s%s; use %s", qz_method_name(e->method),
                e->scheme.name, hint, list);
}

int choose_scheme(encoder *e)
{
    const settings *s = e->s;
    const qz_scheme *row = qz_scheme_by_name(s->scheme ? s->scheme : "int4");
    char text[SCHEME_TEXT];
    e->scheme = *row;
    e->method = (qz_method)s->method;
    scheme_text(row, text, sizeof text);
    if (s->table) {
        int code = read_table(e);
        if (code != DONE)
            return code;
        e->scheme.codes = QZ_TABLE;
        e->scheme.table = e->numbers;
        e->scheme.name = "table";
        e->scheme.rule = QZ_RULE_NONE;
        if (row->zero != QZ_ZERO_NONE || row->codes == QZ_DUAL)
            return fail(USAGE, "--table does not go with the scheme %s: choose one without zeros or tables of its own",
                        row->name);
        if (qz_scheme_check(&e->scheme, QZ_DEFAULT) != QZ_OK)
            return fail(USAGE, "--table: the numbers must be finite, at most 2^60, and not all equal%s",
                        row->positive ? "; some must be above 0, since scales of this scheme are" : "");
    }
    if (s->scale_dtype != 0)
        e->scheme.scale_dtype = (qz_dtype)s->scale_dtype;
    if (qz_scheme_check(&e->scheme, QZ_DEFAULT) != QZ_OK)
        return fail(USAGE, "--scale-dtype %s does not go with this scheme: %s", qz_dtype_name(e->scheme.scale_dtype),
                    text);
    if (s->group_size != 0)
        e->scheme.group_size = s->group_size;
    if (qz_scheme_check(&e->scheme, QZ_DEFAULT) != QZ_OK)
        return fail(USAGE,
                    "--group-size does not go with this scheme: %s; groups of at most 2048 must divide the values that "
                    "share a super scale, into 256 at most",
                    text);
    if (qz_scheme_check(&e->scheme, e->method) != QZ_OK)
        return fail_method(e);
    if (s->stochastic && e->method == QZ_REFERENCE)
        return fail(USAGE, "--seed does not go with --method reference, which rounds as another tool does");
    return DONE;
}

/* Whether the method takes rows of that length: a rule of another tool may not. Encoding no rows at all tells. */
static int takes_rows(const encoder *e, uint64_t rows, uint64_t cols)
{
    const float largest = 0;
    const qz_matrix none = {NULL, QZ_F32, 0, cols, 0, 1};
    const qz_packed nowhere = {0};
    const qz_whole whole = {sizeof whole, rows, cols, 0, 0, &largest};
    qz_options options = QZ_OPTIONS_INIT;
    options.method = e->method;
    options.whole = &whole;
    return qz_encode(&e->scheme, &none, &nowhere, &options, NULL, NULL) != QZ_ERROR_ARGUMENT;
}

/* ---- the tensors ---- */

/* The values of a tensor for which four bits are worth the three members that it becomes. */
enum { MIN_SIZE = 256 };

uint64_t min_size(const settings *s)
{
    return s->min_size != UINT64_MAX ? s->min_size : MIN_SIZE;
}

/* Norms and biases have one axis, are small and matter more than others: they stay, unless --include names them or
 * there is nothing else that could be meant. */
static reason why_kept(const encoder *e, const item *i)
{
    const settings *s = e->s;
    const qz_tensor *t = qz_tensor_at(e->in.file, i->tensor);
    if (i->packed)
        return PACKED;
    if (!is_float(t->element))
        return NO_FLOATS;
    if (t->rank == 0)
        return SCALAR;
    if (!is_selected(s, i))
        return BY_NAME;
    if (is_included(s, i))
        return ENCODED;
    int alone = e->floats == 1;
    if (t->count < min_size(s) && (!alone || s->min_size != UINT64_MAX))
        return SMALL;
    return t->rank == 1 && !alone ? ONE_AXIS : ENCODED;
}

static int plan_tensor(encoder *e, job *j)
{
    const settings *s = e->s;
    const qz_tensor *t = qz_tensor_at(e->in.file, j->item->tensor);
    j->kept = why_kept(e, j->item);
    j->encoded = j->kept == ENCODED;
    if (!j->encoded)
        return DONE;
    char name[NAME_TEXT];
    qz_escape(t->name, t->name_length, name, sizeof name);
    int64_t axis = s->axis < 0 ? s->axis + (int64_t)t->rank : s->axis;
    if (axis < 0 || axis >= (int64_t)t->rank)
        return fail(USAGE, "--axis %" PRId64 ": tensor '%s' has %u axes; use %d to %u, or --exclude it", s->axis, name,
                    t->rank, -(int)t->rank, t->rank - 1);
    j->axis = (unsigned)axis;
    char why[NAME_TEXT];
    if (qz_layout_refuses(e->layout, &e->scheme, t->rank, t->shape, j->axis, why, sizeof why)) {
        j->kept = NO_PLACE;
        j->encoded = 0;
        return DONE;
    }
    uint64_t rows = 1;
    for (unsigned i = 0; i < t->rank; i++)
        if (i != j->axis)
            rows *= t->shape[i];
    qz_sizes sizes = {.size = sizeof sizes};
    j->rows = rows;
    if (qz_scheme_sizes(&e->scheme, rows, t->shape[j->axis], &sizes) != QZ_OK)
        return fail(LIMIT, "tensor '%s' is too large", name);
    j->bytes = qz_layout_bytes(e->layout, &e->scheme, t->rank, t->shape, j->axis);
    if (!takes_rows(e, rows, t->shape[j->axis]))
        return fail(USAGE,
                    "--method reference: the rule %s takes %" PRIu64 " values at a time; tensor '%s' has %" PRIu64
                    " along axis %u, which is no multiple; use another --axis or --method, or --exclude it",
                    qz_rule_name(e->scheme.rule),
                    e->scheme.super_size != 0 && e->scheme.super_size < QZ_WHOLE_MATRIX ? e->scheme.super_size
                                                                                        : e->scheme.group_size,
                    name, t->shape[j->axis], j->axis);
    e->values += t->count;
    e->bytes_before += t->bytes;
    e->bytes_after += j->bytes;
    return DONE;
}

/* Whether the output can have tensors of the scheme at all. */
static int choose_layout(encoder *e)
{
    char why[NAME_TEXT];
    e->layout = qz_layout_of_output(e->s->files[1]);
    if (!e->layout)
        e->layout = "own"; /* the output is of no known kind, which is said when it is made */
    const char *wrong = qz_layout_refuses(e->layout, &e->scheme, 0, NULL, 0, why, sizeof why);
    return !wrong ? DONE : fail(USAGE, "a .%s file cannot have tensors of this scheme: %s", e->layout, wrong);
}

int plan_tensors(encoder *e)
{
    int code = check_rules(e->s, &e->in);
    if (code == DONE)
        code = choose_layout(e);
    e->jobs = calloc(e->in.count + 1, sizeof *e->jobs);
    if (!e->jobs)
        return fail_memory();
    for (size_t i = 0; i < e->in.count; i++) {
        const qz_tensor *t = qz_tensor_at(e->in.file, e->in.items[i].tensor);
        e->floats += !e->in.items[i].packed && is_float(t->element) && t->rank != 0;
    }
    for (size_t i = 0; i < e->in.count && code == DONE; i++) {
        e->jobs[i].item = &e->in.items[i];
        e->jobs[i].stats = (qz_stats)QZ_STATS_INIT;
        code = plan_tensor(e, &e->jobs[i]);
    }
    return code == DONE && e->s->weights ? plan_weights(e) : code;
}
