/*
 * search.c - the command search: finds the rows of a quantized matrix that are nearest to queries
 */
#include "commands.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "output.h"
#include "packed_block.h"
#include "resources.h"
#include "source.h"
#include "stats.h"
#include "table.h"

enum { USUAL_K = 10 };

typedef struct search {
    const settings *s;
    source base, queries;
    packed_reader rows;
    qz_packed packed; /* all rows */
    qz_tensor query;  /* the tensor of the queries */
    void *values;     /* its elements */
    qz_matrix matrix; /* the queries */
    qz_pool *pool;
    qz_prepared *prepared; /* NULL without --approximate */
    uint64_t k;
    double *scores;
    int64_t *ids;
} search;

/* ---- what is read ---- */

/* The tensor that --tensor names, or the only one. NULL: there is none, and why was printed. */
static const item *choose_item(const source *in, const char *path, const char *wanted)
{
    char name[NAME_TEXT], file[NAME_TEXT];
    const item *found = wanted ? source_find(in, wanted, strlen(wanted)) : in->count == 1 ? &in->items[0] : NULL;
    qz_escape(path, strlen(path), file, sizeof file);
    if (!found && wanted)
        fail(USAGE, "%s: there is no tensor '%s'; 'quantize info' lists them", file,
             qz_escape(wanted, strlen(wanted), name, sizeof name));
    else if (!found)
        fail(USAGE, "%s has %zu tensors; one is needed", file, in->count);
    return found;
}

static int load_rows(search *f)
{
    const item *i = choose_item(&f->base, f->s->files[0], f->s->which.tensor);
    char name[NAME_TEXT];
    if (!i)
        return USAGE;
    int code = open_packed(&f->base, i, &f->rows);
    if (code != DONE)
        return code;
    qz_escape(i->name, i->name_length, name, sizeof name);
    const qz_packed_tensor *packed = &f->rows.packed;
    if (!i->packed)
        return fail(USAGE, "tensor '%s' is not quantized; make a file for the search with: quantize encode IN OUT",
                    name);
    if (f->rows.tensor.rank != 2 || packed->axis != 1)
        return fail(USAGE, "tensor '%s' is no matrix whose rows are quantized; encode one with two axes and --axis -1",
                    name);
    code = allocate_packed(&packed->scheme, packed->rows, packed->cols, &f->rows.memory);
    return code == DONE ? read_packed(&f->rows, 0, packed->rows, 0, packed->cols, &f->packed) : code;
}

static int load_queries(search *f)
{
    const item *i = choose_item(&f->queries, f->s->files[1], NULL);
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_packed_tensor packed;
    if (!i)
        return USAGE;
    int code = source_tensor(&f->queries, i, &f->query, &packed);
    if (code != DONE)
        return code;
    const qz_tensor *t = &f->query;
    uint64_t cols = f->rows.packed.cols;
    char name[NAME_TEXT], shape[SHAPE_TEXT];
    qz_escape(i->name, i->name_length, name, sizeof name);
    if (i->packed || !is_float(t->element))
        return fail(USAGE, "the queries, tensor '%s', are no floats; decode or convert them first", name);
    if (t->rank != 2 || t->shape[1] != cols)
        return fail(USAGE, "the queries, tensor '%s', have shape %s; rows of %" PRIu64 " values are needed", name,
                    shape_text(t->rank, t->shape, shape, sizeof shape), cols);
    f->values = allocate(t->count * qz_element_size(t->element));
    if (!f->values)
        return LIMIT;
    if (qz_read(f->queries.file, i->tensor, 0, t->count, f->values, &error) != QZ_FILE_OK)
        return fail_file(&error);
    int by_columns = t->column_major;
    f->matrix = (qz_matrix){f->values, (qz_dtype)t->element,           t->shape[0],
                            cols,      by_columns ? 1 : (int64_t)cols, by_columns ? (int64_t)t->shape[0] : 1};
    return DONE;
}

/* ---- the search ---- */

static int fail_search(const search *f, qz_result result, const qz_detail *detail)
{
    const qz_packed_tensor *packed = &f->rows.packed;
    const matrix_part queries = {&f->query, 1, NULL, 0, 0, packed->cols};
    const matrix_part rows = {&f->rows.tensor, 1, &packed->scheme, 0, 0, packed->cols};
    char name[NAME_TEXT];
    if (result == QZ_ERROR_NONFINITE)
        return fail(REFUSED, "the queries, tensor '%s', hold NaN or infinity in row %" PRIu64,
                    qz_escape(f->query.name, f->query.name_length, name, sizeof name), detail->index / packed->cols);
    return fail_part(result, result == QZ_ERROR_RANGE ? &queries : &rows, detail);
}

/* The signs of rows, which choose short lists. */
static int prepare(search *f, qz_metric metric)
{
    qz_prepare_options options = QZ_PREPARE_OPTIONS_INIT;
    qz_detail detail = QZ_DETAIL_INIT;
    options.metric = metric;
    options.pool = f->pool;
    options.signs = 1;
    qz_result result = qz_prepare(&f->rows.packed.scheme, &f->packed, f->rows.packed.rows, f->rows.packed.cols,
                                  &options, &f->prepared);
    return result == QZ_OK ? DONE : fail_search(f, result, &detail);
}

static int find(search *f)
{
    qz_nearest_options options = QZ_NEAREST_OPTIONS_INIT;
    qz_detail detail = QZ_DETAIL_INIT;
    uint64_t wanted = f->s->search.k != 0 ? f->s->search.k : USUAL_K, rows = f->rows.packed.rows;
    f->k = wanted < rows ? wanted : rows;
    if (f->k != 0 && f->matrix.rows > UINT64_MAX / 16 / f->k)
        return fail(LIMIT, "so many results are too large for memory");
    f->scores = allocate(f->matrix.rows * f->k * sizeof *f->scores + 1);
    f->ids = allocate(f->matrix.rows * f->k * sizeof *f->ids + 1);
    if (!f->scores || !f->ids)
        return LIMIT;
    if (f->s->search.metric != 0)
        options.metric = (qz_metric)f->s->search.metric;
    options.pool = f->pool;
    options.approximate = f->s->search.approximate;
    int code = options.approximate ? prepare(f, options.metric) : DONE;
    if (code != DONE)
        return code;
    options.prepared = f->prepared;
    qz_result result =
        qz_nearest(&f->rows.packed.scheme, &f->packed, rows, &f->matrix, f->k, &options, f->scores, f->ids, &detail);
    return result == QZ_OK ? DONE : fail_search(f, result, &detail);
}

/* ---- results ---- */

static void print_json(const search *f)
{
    json_begin(NULL, '{');
    json_text("command", f->s->command);
    json_text("metric", qz_metric_name(f->s->search.metric != 0 ? (qz_metric)f->s->search.metric : QZ_DOT));
    json_bool("approximate", f->s->search.approximate);
    json_whole("rows", f->rows.packed.rows);
    json_begin("queries", '[');
    for (uint64_t q = 0; q < f->matrix.rows; q++) {
        json_begin(NULL, '{');
        json_begin("ids", '[');
        for (uint64_t i = q * f->k; i < (q + 1) * f->k; i++)
            json_signed(NULL, f->ids[i]);
        json_end();
        json_begin("scores", '[');
        for (uint64_t i = q * f->k; i < (q + 1) * f->k; i++)
            json_real(NULL, f->scores[i]);
        json_end();
        json_end();
    }
    json_end();
    json_end();
}

static void print_table(const search *f)
{
    static const char *const titles[] = {"query", "rank", "row", "score"};
    table out;
    table_begin(&out, "rrrr", titles);
    for (uint64_t i = 0; i < f->matrix.rows * f->k; i++) {
        table_cell(&out, "%" PRIu64, i / f->k);
        table_cell(&out, "%" PRIu64, i % f->k + 1);
        table_cell(&out, "%" PRId64, f->ids[i]);
        table_cell(&out, "%.6g", f->scores[i]);
    }
    table_print(&out);
}

int run_search(const settings *s)
{
    search f = {.s = s};
    qz_file_error error = QZ_FILE_ERROR_INIT;
    int code = source_open(s, s->files[0], &f.base);
    if (code == DONE)
        code = source_open(s, s->files[1], &f.queries);
    if (code == DONE)
        code = load_rows(&f);
    if (code == DONE)
        code = load_queries(&f);
    if (code == DONE)
        code = start_pool(s, f.rows.tensor.count, &f.pool);
    if (code == DONE)
        code = find(&f);
    if (code == DONE &&
        (qz_unchanged(f.base.file, &error) != QZ_FILE_OK || qz_unchanged(f.queries.file, &error) != QZ_FILE_OK))
        code = fail_file(&error);
    if (code == DONE)
        (s->say.json ? print_json : print_table)(&f);
    qz_prepared_free(f.prepared);
    qz_pool_destroy(f.pool);
    close_packed(&f.rows);
    free(f.values);
    free(f.scores);
    free(f.ids);
    source_close(&f.base);
    source_close(&f.queries);
    return code;
}
