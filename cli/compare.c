/*
 * compare.c - the command compare: measures the error between the tensors of two files
 */
#include "compare.h"

#include "commands.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "json.h"
#include "output.h"
#include "packed_block.h"
#include "report.h"
#include "resources.h"
#include "results.h"
#include "scheme.h"
#include "source.h"
#include "stats.h"
#include "table.h"

typedef struct pair {  /* two tensors of one name */
    const item *a, *b; /* NULL where there is none */
    qz_tensor tensor;  /* of a (of b if there is no a): name and shape */
    uint64_t count;    /* of its values, if there are both */
    int read;          /* they were */
    unsigned axis;
    int floats;
    qz_stats stats;          /* of floats */
    uint64_t differences;    /* of others: elements, or items of a type that is none of the library's */
    const char *verdict;     /* why it counts as different, or NULL */
    error_histogram *errors; /* of floats; NULL: they are not counted */
} pair;

typedef struct comparer {
    const settings *s;
    source a, b;
    qz_pool *pool;
    pair *pairs;
    size_t count;
} comparer;

/* ---- pairing ---- */

static int pair_up(comparer *c)
{
    c->pairs = calloc(c->a.count + c->b.count + 1, sizeof *c->pairs);
    if (!c->pairs)
        return fail_memory();
    if (c->a.count == 1 && c->b.count == 1) {
        c->pairs[c->count++] = (pair){.a = &c->a.items[0], .b = &c->b.items[0]};
        return DONE;
    }
    for (size_t i = 0; i < c->a.count; i++) {
        const item *a = &c->a.items[i];
        if (is_selected(c->s, a))
            c->pairs[c->count++] = (pair){.a = a, .b = source_find(&c->b, a->name, a->name_length)};
    }
    for (size_t i = 0; i < c->b.count; i++) {
        const item *b = &c->b.items[i];
        if (is_selected(c->s, b) && !source_find(&c->a, b->name, b->name_length))
            c->pairs[c->count++] = (pair){.b = b};
    }
    return names_were_seen();
}

/* ---- floats ---- */

typedef struct side {
    source *in;
    const item *item;
    packed_reader reader; /* has the tensor; if it is quantized, all that is needed to read it */
    grid grid;
    void *values;
    qz_dtype dtype;
} side;

static int open_side(side *s, unsigned axis, const block_plan *plan)
{
    s->dtype = s->item->packed ? QZ_F32 : (qz_dtype)s->reader.tensor.element;
    grid_of(&s->reader.tensor, axis, 0, &s->grid);
    s->values = allocate_block(plan, qz_dtype_size(s->dtype));
    if (!s->values)
        return LIMIT;
    return s->item->packed ? allocate_packed_blocks(&s->reader, plan) : DONE;
}

static void close_side(side *s)
{
    free(s->values);
    close_packed(&s->reader);
}

/* Reads a block as floats; its buffer strides are those for this side. */
static int read_side(const comparer *c, side *s, block *b)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    set_buffer_strides(&s->grid, b);
    if (s->item->packed)
        return decode_block(&s->reader, b, s->values, s->dtype, c->pool);
    return read_block(s->in->file, s->item->tensor, &s->grid, b, qz_dtype_size(s->dtype), s->values, &error) ==
                   QZ_FILE_OK
               ? DONE
               : fail_file(&error);
}

typedef struct float_comparer {
    const comparer *c;
    pair *p;
    side *a, *b;
} float_comparer;

static double half_value(uint16_t bits)
{
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double size = exponent == 31  ? (double)INFINITY /* or NaN, which has no error either */
                        : exponent == 0 ? ldexp(fraction, -24)
                                        : ldexp(fraction + 1024, exponent - 25);
    return bits & 0x8000 ? -size : size;
}

static double value_at(const qz_matrix *m, uint64_t row, uint64_t col)
{
    const int64_t i = (int64_t)row * m->row_stride + (int64_t)col * m->col_stride;
    union {
        uint32_t bits;
        float value;
    } wide;
    switch (m->dtype) {
    case QZ_F64:
        return ((const double *)m->data)[i];
    case QZ_F16:
        return half_value(((const uint16_t *)m->data)[i]);
    case QZ_BF16:
        wide.bits = (uint32_t)((const uint16_t *)m->data)[i] << 16;
        return (double)wide.value;
    default:
        return (double)((const float *)m->data)[i];
    }
}

static void count_errors(error_histogram *h, const qz_matrix *x, const qz_matrix *y)
{
    for (uint64_t row = 0; row < x->rows; row++)
        for (uint64_t col = 0; col < x->cols; col++) {
            const double error = value_at(y, row, col) - value_at(x, row, col);
            double bin = ((h->reach > 0 ? error / h->reach : 0) + 1) / 2 * ERROR_BINS;
            bin = bin > 0 ? bin : 0;
            h->counts[bin < ERROR_BINS ? (size_t)bin : ERROR_BINS - 1]++;
        }
}

/* The first value of two parts that has no error, with the file that it is in. */
static int fail_nonfinite(const float_comparer *k, const matrix_part *part, const qz_matrix *x, const qz_matrix *y)
{
    char name[NAME_TEXT], at[SHAPE_TEXT], file[NAME_TEXT];
    const qz_tensor *t = &k->p->tensor;
    const settings *s = k->c->s;
    uint64_t index[QZ_MAX_RANK], i = 0;
    while (i + 1 < x->rows * x->cols && isfinite(value_at(x, i / x->cols, i % x->cols)) &&
           isfinite(value_at(y, i / x->cols, i % x->cols)))
        i++;
    const char *path = s->files[isfinite(value_at(x, i / x->cols, i % x->cols)) ? 1 : 0];
    matrix_index(t, part->axis, part->row + i / x->cols, part->col + i % x->cols, index);
    at_index(t, index);
    return fail(REFUSED, "tensor '%s' holds NaN or infinity at %s in %s, so that it has no error",
                qz_escape(t->name, t->name_length, name, sizeof name), shape_text(t->rank, index, at, sizeof at),
                qz_escape(path, strlen(path), file, sizeof file));
}

static int compare_block(void *context, const block *now)
{
    const float_comparer *k = context;
    pair *p = k->p;
    block of_a = *now, of_b = *now;
    int code = read_side(k->c, k->a, &of_a);
    if (code == DONE)
        code = read_side(k->c, k->b, &of_b);
    for (uint64_t o = 0; o < of_a.count[OUTER] && code == DONE; o++) {
        qz_matrix x = block_matrix(&of_a, o, k->a->values, k->a->dtype);
        qz_matrix y = block_matrix(&of_b, o, k->b->values, k->b->dtype);
        const matrix_part rows = {&p->tensor,         p->axis, NULL, of_a.row + o * of_a.rows_apart,
                                  of_a.first[COLUMN], x.cols};
        qz_stats stats = QZ_STATS_INIT;
        qz_detail detail = QZ_DETAIL_INIT;
        qz_result result = qz_compare_matrices(&x, &y, k->c->pool, &stats, &detail);
        if (result == QZ_ERROR_NONFINITE) {
            code = fail_nonfinite(k, &rows, &x, &y);
        } else if (result != QZ_OK) {
            code = fail_part(result, &rows, &detail);
        } else {
            add_stats(&p->stats, &stats, rows.row, rows.col, x.cols, k->a->grid.cols);
            if (p->errors)
                count_errors(p->errors, &x, &y);
        }
    }
    block_done(&of_a);
    return code;
}

/* Where rows may be divided on both sides: at the least common multiple, or not at all. */
static uint64_t common_unit(const side *a, const side *b, uint64_t cols)
{
    uint64_t unit = a->item->packed ? column_unit(&a->reader.packed.scheme, cols, 0) : 1;
    if (!b->item->packed)
        return unit;
    uint64_t other = column_unit(&b->reader.packed.scheme, cols, 0), x = unit, y = other;
    while (y != 0) {
        uint64_t rest = x % y;
        x = y;
        y = rest;
    }
    return unit / x > cols / other ? cols : unit / x * other;
}

static int compare_floats(comparer *c, pair *p, side *a, side *b)
{
    const qz_packed_tensor *packed_a = &a->reader.packed, *packed_b = &b->reader.packed;
    /* The axis is that of a quantized side. */
    p->axis = b->item->packed ? packed_b->axis : a->item->packed ? packed_a->axis : p->tensor.rank - 1;
    if (a->item->packed && b->item->packed && packed_a->axis != packed_b->axis) {
        char name[NAME_TEXT];
        return fail(USAGE,
                    "tensor '%s' is quantized along axis %u in one file and along axis %u in the other; decode "
                    "one of them first",
                    qz_escape(p->tensor.name, p->tensor.name_length, name, sizeof name), packed_a->axis,
                    packed_b->axis);
    }
    grid g;
    block_plan plan;
    grid_of(&a->reader.tensor, p->axis, 0, &g);
    plan_blocks(&g, common_unit(a, b, g.cols), lies_across(packed_a) || lies_across(packed_b), &plan);
    float_comparer k = {c, p, a, b};
    int code = open_side(a, p->axis, &plan);
    if (code == DONE)
        code = open_side(b, p->axis, &plan);
    if (code == DONE)
        code = for_each_block(&plan, compare_block, &k);
    close_side(a);
    close_side(b);
    return code;
}

/* ---- others ---- */

typedef struct byte_comparer {
    comparer *c;
    pair *p;
    void *other;   /* the same piece of b */
    uint64_t last; /* item that differs */
} byte_comparer;

/* Counts elements, or items, whose bytes differ. */
static int compare_piece(void *context, uint64_t first, uint64_t count, const void *data)
{
    byte_comparer *k = context;
    const qz_tensor *t = &k->p->tensor;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    size_t each = qz_element_size(t->element);
    uint64_t item_bytes = t->element == QZ_ELEMENT_RAW ? t->type_bytes : 1;
    if (qz_read(k->c->b.file, k->p->b->tensor, first, count, k->other, &error) != QZ_FILE_OK)
        return fail_file(&error);
    const char *x = data, *y = k->other;
    for (uint64_t i = 0; i < count; i++)
        if (memcmp(x + i * each, y + i * each, each) != 0 && (first + i) / item_bytes != k->last) {
            k->p->differences++;
            k->last = (first + i) / item_bytes;
        }
    progress_add(count);
    return DONE;
}

static int compare_bytes(comparer *c, pair *p)
{
    byte_comparer k = {c, p, malloc(PIECE_BYTES), UINT64_MAX};
    if (!k.other)
        return fail_memory();
    int code = for_each_piece(&c->a, p->a->tensor, compare_piece, &k);
    free(k.other);
    return code;
}

/* verify compares too, and its user has named no A and no B. */
static const char *only_in(const settings *s, int second)
{
    if (strcmp(s->command, "verify") == 0)
        return second ? "only in the file" : "only in the original";
    return second ? "only in B" : "only in A";
}

static int compare_pair(comparer *c, pair *p)
{
    side a = {.in = &c->a, .item = p->a}, b = {.in = &c->b, .item = p->b};
    const qz_tensor *x = &a.reader.tensor, *y = &b.reader.tensor;
    int code = DONE;
    p->stats = (qz_stats)QZ_STATS_INIT;
    if (p->a)
        code = open_packed(a.in, p->a, &a.reader);
    if (code == DONE && p->b)
        code = open_packed(b.in, p->b, &b.reader);
    if (code != DONE)
        return code;
    p->tensor = p->a ? *x : *y;
    /* The shape of a quantized tensor lies in its reader, which ends with this function: with_shape() gets it again. */
    int a_floats = p->a && is_float(x->element), b_floats = p->b && is_float(y->element);
    if (!p->a || !p->b) {
        p->verdict = only_in(c->s, !p->a);
    } else if (x->rank != y->rank || (x->rank != 0 && memcmp(x->shape, y->shape, x->rank * sizeof x->shape[0]) != 0)) {
        p->verdict = "other shape";
    } else if (a_floats && b_floats && x->rank != 0) {
        p->floats = p->read = 1;
        code = compare_floats(c, p, &a, &b);
    } else if (x->element != y->element || (x->element == QZ_ELEMENT_RAW && strcmp(x->type, y->type) != 0)) {
        p->verdict = "other type";
    } else if (x->column_major != y->column_major && x->rank > 1) {
        p->verdict = "other order";
    } else {
        p->read = 1;
        code = compare_bytes(c, p);
        if (p->differences != 0)
            p->verdict = "differs";
    }
    if (p->floats && !isnan(c->s->goal.min_sqnr) && !(sqnr(&p->stats) >= c->s->goal.min_sqnr))
        p->verdict = "below --min-sqnr";
    p->tensor.shape = NULL;
    progress_add(p->read ? 0 : p->count);
    return code;
}

/* ---- results ---- */

/* The shape again, for the index of the largest error. */
static const qz_tensor *with_shape(const comparer *c, const pair *p, qz_packed_tensor *packed, qz_tensor *t)
{
    const source *in = p->a ? &c->a : &c->b;
    return source_tensor(in, p->a ? p->a : p->b, t, packed) == DONE ? t : NULL;
}

static int is_different(const comparer *c)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->pairs[i].verdict)
            return 1;
    return 0;
}

/* Of all floats that were compared, as if they were one tensor. */
static double total_sqnr(const comparer *c)
{
    qz_stats sum = QZ_STATS_INIT;
    for (size_t i = 0; i < c->count; i++) {
        sum.count += c->pairs[i].stats.count;
        sum.signal += c->pairs[i].stats.signal;
        sum.error += c->pairs[i].stats.error;
    }
    return sum.count != 0 ? sqnr(&sum) : (double)NAN;
}

static void json_totals(const void *of)
{
    const comparer *c = of;
    json_text("command", c->s->command);
    json_bool("different", is_different(c));
    json_real("sqnr_db", total_sqnr(c));
    json_real("min_sqnr_db", c->s->goal.min_sqnr);
}

static void json_bytes(const char *key, const source *in, const item *i)
{
    qz_packed_tensor packed;
    qz_tensor t;
    if (i && source_tensor(in, i, &t, &packed) == DONE)
        json_whole(key, t.bytes);
}

static void json_pair(const void *of, size_t i)
{
    const comparer *c = of;
    const pair *p = &c->pairs[i];
    const item *named = p->a ? p->a : p->b;
    qz_packed_tensor packed;
    qz_tensor t;
    json_name("name", named->name, named->name_length);
    json_text("action", "compare");
    if (p->verdict)
        json_text("verdict", p->verdict);
    else
        json_null("verdict");
    if (p->b && p->b->packed && source_tensor(&c->b, p->b, &t, &packed) == DONE)
        json_scheme(&packed.scheme);
    json_bytes("bytes_before", &c->a, p->a);
    json_bytes("bytes_after", &c->b, p->b);
    if (!with_shape(c, p, &packed, &t))
        return;
    json_shape("shape", t.rank, t.shape);
    if (p->floats)
        json_stats(&p->stats, &t, p->axis, 0);
    else if (p->a && p->b)
        json_whole("differences", p->differences);
}

static const char *pair_name(const void *of, size_t i, size_t *length)
{
    const comparer *c = of;
    const item *named = c->pairs[i].a ? c->pairs[i].a : c->pairs[i].b;
    *length = named->name_length;
    return named->name;
}

static double pair_sqnr(const void *of, size_t i)
{
    const pair *p = &((const comparer *)of)->pairs[i];
    return p->floats && p->stats.count != 0 ? sqnr(&p->stats) : (double)NAN;
}

static results results_of(const comparer *c)
{
    return (results){c->s, c, c->count, json_totals, json_pair, pair_name, pair_sqnr};
}

static void print_table(comparer *c)
{
    static const char *const titles[] = {"name", "SQNR dB", "RMSE", "largest error", "at", "verdict"};
    table out;
    table_begin(&out, "lrrrll", titles);
    for (size_t i = 0; i < c->count; i++) {
        const pair *p = &c->pairs[i];
        const item *named = p->a ? p->a : p->b;
        qz_packed_tensor packed;
        qz_tensor t;
        char name[NAME_TEXT];
        if (p->floats && with_shape(c, p, &packed, &t)) {
            stats_cells(&out, named, &p->stats, &t, p->axis);
        } else {
            table_cell(&out, "%s", qz_escape(named->name, named->name_length, name, sizeof name));
            for (int column = 0; column < 4; column++)
                table_cell(&out, "%s", "");
        }
        if (p->differences != 0)
            table_cell(&out, "%" PRIu64 " elements differ", p->differences);
        else
            table_cell(&out, "%s", p->verdict ? p->verdict : p->floats ? "" : "same");
    }
    table_print(&out);
}

static int compare_all(comparer *c)
{
    const results r = results_of(c);
    qz_file_error error = QZ_FILE_ERROR_INIT;
    uint64_t work = 0, bytes = 0;
    for (size_t i = 0; i < c->count; i++) {
        pair *p = &c->pairs[i];
        qz_packed_tensor packed;
        qz_tensor t;
        if (!p->a)
            continue;
        int code = source_tensor(&c->a, p->a, &t, &packed);
        if (code != DONE)
            return code;
        p->count = p->b ? t.count : 0;
        work += p->count;
        bytes += t.bytes;
    }
    int code = start_pool(c->s, work, &c->pool);
    if (code == DONE)
        results_plan(&r, bytes);
    progress_begin("compare", code == DONE ? work : 0);
    for (size_t i = 0; i < c->count && code == DONE; i++) {
        results_begin_tensor(&r, i);
        code = compare_pair(c, &c->pairs[i]);
        if (code == DONE)
            results_tensor(&r, i);
    }
    progress_end();
    if (code == DONE &&
        (qz_unchanged(c->a.file, &error) != QZ_FILE_OK || qz_unchanged(c->b.file, &error) != QZ_FILE_OK))
        code = fail_file(&error);
    return code;
}

static void close_all(comparer *c)
{
    qz_pool_destroy(c->pool);
    free(c->pairs);
    source_close(&c->a);
    source_close(&c->b);
}

int find_errors(const settings *s, const char *name, size_t length, error_histogram *out)
{
    comparer c = {.s = s};
    int code = source_open(s, s->files[0], &c.a);
    if (code == DONE)
        code = source_open(s, s->files[1], &c.b);
    if (code == DONE) {
        const item *a = source_find(&c.a, name, length), *b = source_find(&c.b, name, length);
        pair p = {.a = a ? a : &c.a.items[0], .b = b ? b : &c.b.items[0], .errors = out}; /* the only ones there are */
        code = compare_pair(&c, &p);
        *out = (error_histogram){.reach = p.stats.max_error};
        if (code == DONE)
            code = compare_pair(&c, &p);
    }
    close_all(&c);
    return code;
}

int run_compare(const settings *s)
{
    comparer c = {.s = s};
    int code = report_check(s);
    if (code == DONE)
        code = source_open(s, s->files[0], &c.a);
    if (code == DONE)
        code = source_open(s, s->files[1], &c.b);
    if (code == DONE)
        code = check_rules(s, &c.a);
    if (code == DONE)
        code = pair_up(&c);
    if (code == DONE)
        code = compare_all(&c);
    if (code == DONE) {
        const results r = results_of(&c);
        code = report_write(&r);
        if (code == DONE) {
            code = is_different(&c) ? DIFFERENT : DONE;
            results_end(&r, code);
            if (!wants_numbers(s))
                print_table(&c);
        }
    }
    close_all(&c);
    return code;
}
