/*
 * gram.c - encodes tensors by GPTQ, with Gram matrices of the inputs of layers from a file (--gram)
 *
 * GPTQ needs all rows of a tensor and the whole matrix at once. So one tensor after another is in memory, with its
 * matrix.
 */
#include "gram.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "packed_block.h"
#include "resources.h"
#include "stats.h"
#include "values.h"

/* ---- which tensor has which ---- */

static const char *name_of(const job *j, char out[NAME_TEXT])
{
    return qz_escape(j->item->name, j->item->name_length, out, NAME_TEXT);
}

/* What the file has of a tensor: NAME, NAME.examples or NAME.holdout; NULL if there is no such thing. */
static const item *find_part(const encoder *e, const job *j, const char *suffix)
{
    const size_t length = j->item->name_length, more = strlen(suffix);
    char *name = malloc(length + more + 1);
    if (!name) {
        names_lack_memory();
        return NULL;
    }
    memcpy(name, j->item->name, length);
    memcpy(name + length, suffix, more + 1);
    const item *found = source_find(&e->grams, name, length + more);
    free(name);
    return found;
}

/* A matrix for the columns of a tensor. */
static int check_matrix(const encoder *e, const job *j, const item *i, const char *what)
{
    const uint64_t cols = j->tensor->shape[j->axis];
    char name[NAME_TEXT], shape[SHAPE_TEXT], type[TYPE_TEXT];
    if (i->packed)
        return fail(USAGE, "--gram: the %s of tensor '%s' is quantized", what, name_of(j, name));
    const qz_tensor *m = qz_tensor_at(e->grams.file, i->tensor);
    if (m->element != QZ_ELEMENT_F32 && m->element != QZ_ELEMENT_F64)
        return fail(USAGE, "--gram: the %s of tensor '%s' is of %s; float32 or float64 is needed", what,
                    name_of(j, name), type_text(m, type, sizeof type));
    if (m->rank == 2 && m->shape[0] == cols && m->shape[1] == cols)
        return DONE;
    return fail(USAGE,
                "--gram: the %s of tensor '%s' has the shape %s; for groups along its axis %u it must be [%" PRIu64
                ", %" PRIu64 "]",
                what, name_of(j, name), shape_text(m->rank, m->shape, shape, sizeof shape), j->axis, cols, cols);
}

static int64_t signed_number(qz_element element, const void *data)
{
    int8_t a;
    int16_t b;
    int32_t c;
    int64_t d;
    switch (qz_element_size(element)) {
    case 1:
        memcpy(&a, data, sizeof a);
        return a;
    case 2:
        memcpy(&b, data, sizeof b);
        return b;
    case 4:
        memcpy(&c, data, sizeof c);
        return c;
    default:
        memcpy(&d, data, sizeof d);
        return d;
    }
}

/* How many examples a matrix is of: a whole number of any type. */
static int read_examples(const encoder *e, job *j, const item *i)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    const qz_tensor *t = i->packed ? NULL : qz_tensor_at(e->grams.file, i->tensor);
    const int is_signed = t && t->element >= QZ_ELEMENT_I8 && t->element <= QZ_ELEMENT_I64;
    const int is_whole = is_signed || (t && t->element >= QZ_ELEMENT_U8 && t->element <= QZ_ELEMENT_U64);
    uint64_t number = 0;
    char name[NAME_TEXT];
    if (is_whole && t->count == 1) {
        unsigned char data[8] = {0};
        if (qz_read(e->grams.file, i->tensor, 0, 1, data, &error) != QZ_FILE_OK)
            return fail_file(&error);
        const int64_t value = signed_number(t->element, data);
        const unsigned unused = 64 - 8 * (unsigned)qz_element_size(t->element);
        number = is_signed ? (value > 0 ? (uint64_t)value : 0) : (uint64_t)value << unused >> unused;
    }
    j->beside.gram.examples = number;
    return number != 0 && number <= INT64_MAX
               ? DONE
               : fail(USAGE, "--gram: the number of examples of tensor '%s' must be one whole number, from 1 on",
                      name_of(j, name));
}

static int find_gram(const encoder *e, job *j)
{
    const item *only = e->in.count == 1 && e->grams.count == 1 ? &e->grams.items[0] : NULL;
    const item *named = find_part(e, j, ""), *examples = find_part(e, j, ".examples");
    j->beside.gram.matrix = named ? named : only;
    if (!j->beside.gram.matrix)
        return DONE;
    j->beside.gram.holdout = find_part(e, j, ".holdout");
    int code = check_matrix(e, j, j->beside.gram.matrix, "Gram matrix");
    if (code == DONE && j->beside.gram.holdout)
        code = check_matrix(e, j, j->beside.gram.holdout, "held-out Gram matrix");
    return code == DONE && examples ? read_examples(e, j, examples) : code;
}

/* Whether the input has a tensor of the name before the suffix, if the name ends so. */
static int belongs(const encoder *e, const item *i, const char *suffix)
{
    const size_t more = strlen(suffix);
    return i->name_length >= more && memcmp(i->name + i->name_length - more, suffix, more) == 0 &&
           source_find(&e->in, i->name, i->name_length - more) != NULL;
}

/* Says what the file has for no tensor: its name may be a mistake. */
static void say_unknown(const encoder *e)
{
    uint64_t count = 0;
    char name[NAME_TEXT] = "";
    for (size_t g = 0; g < e->grams.count; g++) {
        const item *i = &e->grams.items[g];
        if (belongs(e, i, "") || belongs(e, i, ".examples") || belongs(e, i, ".holdout"))
            continue;
        if (count++ == 0)
            qz_escape(i->name, i->name_length, name, sizeof name);
    }
    if (count != 0 && !(e->in.count == 1 && e->grams.count == 1))
        say("note: --gram has %" PRIu64 " %s of no tensor, '%s' for example", count, count == 1 ? "array" : "arrays",
            name);
}

static int check_options(const settings *s)
{
    if (s->output.nonfinite == QZ_CLIP)
        return fail(USAGE, "--gram does not go with --nonfinite clip; exclude what is not finite");
    if (s->how.stochastic)
        return fail(USAGE, "--gram does not go with --seed; GPTQ does not round at random");
    return DONE;
}

int plan_grams(encoder *e)
{
    uint64_t found = 0, encoded = 0;
    const job *without = NULL;
    char name[NAME_TEXT];
    if (!e->s->how.gram)
        return DONE;
    int code = check_options(e->s);
    if (code == DONE)
        code = source_open(e->s, e->s->how.gram, &e->grams);
    for (size_t i = 0; i < e->in.count && code == DONE; i++) {
        job *j = &e->jobs[i];
        if (!j->encoded || j->how->eight)
            continue;
        at_tensor(j->item->name, j->item->name_length);
        code = find_gram(e, j);
        encoded++;
        found += j->beside.gram.matrix != NULL;
        without = !j->beside.gram.matrix && !without ? j : without;
    }
    if (code == DONE)
        code = names_were_seen();
    if (code != DONE)
        return code;
    at_tensor(NULL, 0);
    if (found == 0 && encoded != 0)
        return fail(USAGE,
                    "--gram: it has matrices for none of the %" PRIu64
                    " tensors that are encoded to 4 bits; is it of this model?",
                    encoded);
    say_unknown(e);
    if (without)
        say("note: --gram has matrices for %" PRIu64 " of the %" PRIu64
            " tensors that are encoded to 4 bits; the others, '%s' for example, are encoded without",
            found, encoded, name_of(without, name));
    return DONE;
}

/* ---- reading ---- */

enum { PIECE = 1 << 19 }; /* elements that are read at once */

/* A matrix of the file as it is there: one of Fortran's order has its columns one after another. */
static int read_matrix(const encoder *e, const item *i, void *memory, qz_matrix *out)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    const qz_tensor *t = qz_tensor_at(e->grams.file, i->tensor);
    const size_t each = qz_element_size(t->element);
    const int64_t cols = (int64_t)t->shape[1];
    for (uint64_t at = 0; at < t->count; at += PIECE) {
        const uint64_t count = t->count - at < PIECE ? t->count - at : PIECE;
        if (stop_requested())
            return 128 + stop_requested();
        if (qz_read(e->grams.file, i->tensor, at, count, (char *)memory + at * each, &error) != QZ_FILE_OK)
            return fail_file(&error);
    }
    *out = (qz_matrix){memory,      (qz_dtype)t->element,       t->shape[0],
                       t->shape[1], t->column_major ? 1 : cols, t->column_major ? cols : 1};
    return DONE;
}

static int fail_diagonal(const job *j, uint64_t i, double value)
{
    char name[NAME_TEXT];
    at_tensor(j->item->name, j->item->name_length);
    return fail(REFUSED,
                "tensor '%s': its Gram matrix has %g on its diagonal, at [%" PRIu64 ", %" PRIu64
                "]; it must be a number of float32 from 0 on",
                name_of(j, name), value, i, i);
}

float *gram_diagonal(const encoder *e, const job *j, int *code)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    const qz_tensor *t = qz_tensor_at(e->grams.file, j->beside.gram.matrix->tensor);
    const uint64_t cols = t->shape[0];
    float *out = allocate(cols * sizeof *out);
    *code = out ? DONE : LIMIT;
    for (uint64_t i = 0; i < cols && *code == DONE; i++) {
        double value = 0;
        void *place = t->element == QZ_ELEMENT_F64 ? (void *)&value : (void *)&out[i];
        if (qz_read(e->grams.file, j->beside.gram.matrix->tensor, i * (cols + 1), 1, place, &error) != QZ_FILE_OK)
            *code = fail_file(&error);
        else if (t->element == QZ_ELEMENT_F64)
            out[i] = (float)value;
        if (*code == DONE && !(isfinite(out[i]) && out[i] >= 0))
            *code = fail_diagonal(j, i, t->element == QZ_ELEMENT_F64 ? value : (double)out[i]);
    }
    if (*code != DONE) {
        free(out);
        out = NULL;
    }
    return out;
}

/* ---- the work ---- */

/* A tensor with all that its encoding needs. */
typedef struct work {
    encoder *encoder;
    job *job;
    const qz_tensor *tensor;
    grid grid;
    block_plan blocks;
    char *values; /* all rows, one after another */
    void *block;  /* room for a part of them, in the order of the file */
    void *gram, *holdout;
    qz_packed packed;
} work;

static void plan_work(encoder *e, job *j, work *w)
{
    *w = (work){.encoder = e, .job = j, .tensor = j->tensor};
    grid_of(w->tensor, j->axis, 1, &w->grid);
    plan_blocks(&w->grid, values_unit(j, 1, w->grid.cols), 0, &w->blocks);
}

static uint64_t bytes_in_file(const encoder *e, const item *i)
{
    return i ? qz_tensor_at(e->grams.file, i->tensor)->bytes : 0;
}

uint64_t gptq_memory(encoder *e, job *j)
{
    work w;
    plan_work(e, j, &w);
    const uint64_t each = qz_element_size(w.tensor->element), own = 8 * w.grid.cols * w.grid.cols; /* of qz_gptq() */
    return w.tensor->bytes + block_elements(&w.blocks) * each + j->bytes.after + own +
           bytes_in_file(e, j->beside.gram.matrix) + bytes_in_file(e, j->beside.gram.holdout) +
           values_memory(j, &w.blocks);
}

/* Reads a block and puts its rows to the others. */
static int gather_block(void *context, const block *b)
{
    work *w = context;
    const size_t each = qz_element_size(w->tensor->element);
    const uint64_t *count = b->count, *stride = b->buffer_stride;
    const int code = read_values(w->encoder, w->job, &w->grid, b, w->block);
    for (uint64_t o = 0; o < count[OUTER]; o++)
        for (uint64_t i = 0; i < count[INNER] && code == DONE; i++) {
            const uint64_t row = b->row + o * b->rows_apart + i;
            const char *from = (const char *)w->block + (o * stride[OUTER] + i * stride[INNER]) * each;
            char *to = w->values + (row * w->grid.cols + b->first[COLUMN]) * each;
            if (stride[COLUMN] == 1)
                memcpy(to, from, count[COLUMN] * each);
            for (uint64_t c = 0; c < count[COLUMN] && stride[COLUMN] != 1; c++)
                memcpy(to + c * each, from + c * stride[COLUMN] * each, each);
        }
    return code;
}

static int fail_gram(const work *w, const qz_detail *detail)
{
    const uint64_t i = detail->index / w->grid.cols, k = detail->index % w->grid.cols;
    const char *what = detail->count == 1 ? "held-out Gram matrix" : "Gram matrix";
    char name[NAME_TEXT];
    name_of(w->job, name);
    if (!isfinite(detail->value))
        return fail(REFUSED, "tensor '%s': its %s holds %g at [%" PRIu64 ", %" PRIu64 "]", name, what, detail->value, i,
                    k);
    if (i != k)
        return fail(REFUSED,
                    "tensor '%s': its %s is not symmetric: %g at [%" PRIu64 ", %" PRIu64
                    "] differs from its mirror image",
                    name, what, detail->value, i, k);
    if (detail->value < 0)
        return fail(REFUSED,
                    "tensor '%s': its %s has %g on its diagonal, at [%" PRIu64 ", %" PRIu64
                    "]; it must be a finite number from 0 on",
                    name, what, detail->value, i, k);
    return fail(REFUSED,
                "tensor '%s': its %s is not positive definite, which input %" PRIu64
                " shows; gather it again, in float64",
                name, what, i);
}

static int run_gptq(work *w, const qz_matrix *gram, const qz_matrix *holdout)
{
    job *j = w->job;
    const uint64_t rows = w->grid.rows, cols = w->grid.cols;
    const qz_matrix values = {w->values, (qz_dtype)w->tensor->element, rows, cols, (int64_t)cols, 1};
    qz_gptq_options options = QZ_GPTQ_OPTIONS_INIT;
    qz_stats stats = QZ_STATS_INIT;
    qz_detail detail = QZ_DETAIL_INIT;
    options.method = j->how->method;
    options.pool = w->encoder->pool;
    options.stop = stop_asked;
    options.examples = j->beside.gram.examples;
    options.holdout = holdout;
    options.outcome = &j->outcome;
    const qz_result result = qz_gptq(&j->how->scheme, &values, gram, &options, &w->packed, &stats, &detail);
    at_tensor(j->item->name, j->item->name_length);
    if (result == QZ_ERROR_STOPPED)
        return 128 + stop_requested();
    if (result == QZ_ERROR_NONFINITE)
        return fail_nonfinite(w->encoder, j, w->tensor);
    if (result == QZ_ERROR_GRAM)
        return fail_gram(w, &detail);
    if (result != QZ_OK) {
        const matrix_part p = {w->tensor, j->axis, &j->how->scheme, 0, 0, cols};
        return fail_part(result, &p, &detail);
    }
    add_stats(&j->stats, &stats, 0, 0, cols, cols);
    at_tensor(NULL, 0);
    return DONE;
}

static int allocate_work(work *w)
{
    encoder *e = w->encoder;
    job *j = w->job;
    qz_sizes sizes;
    int code =
        allow_memory(gptq_memory(e, j), "GPTQ works on all inputs of a layer at once; take its matrix out of the "
                                        "file of --gram");
    if (code == DONE)
        code = allocate_packed(&j->how->scheme, w->grid.rows, w->grid.cols, &w->packed);
    if (code == DONE)
        code = shape_packed(&j->how->scheme, w->grid.cols, &w->packed, &sizes);
    if (code != DONE)
        return code;
    w->values = allocate(w->tensor->bytes);
    w->block = w->values ? allocate_block(&w->blocks, qz_element_size(w->tensor->element)) : NULL;
    w->gram = w->block ? allocate(bytes_in_file(e, j->beside.gram.matrix)) : NULL;
    if (w->gram && j->beside.gram.holdout)
        w->holdout = allocate(bytes_in_file(e, j->beside.gram.holdout));
    return w->gram && (w->holdout || !j->beside.gram.holdout) ? DONE : LIMIT;
}

int encode_gptq(encoder *e, job *j)
{
    work w;
    qz_matrix gram, holdout;
    plan_work(e, j, &w);
    int code = allocate_work(&w);
    if (code == DONE)
        code = read_matrix(e, j->beside.gram.matrix, w.gram, &gram);
    if (code == DONE && w.holdout)
        code = read_matrix(e, j->beside.gram.holdout, w.holdout, &holdout);
    if (code == DONE)
        code = begin_values(j, &w.blocks);
    if (code == DONE)
        code = for_each_block(&w.blocks, gather_block, &w);
    end_values(j);
    free(w.block);
    if (code == DONE)
        code = run_gptq(&w, &gram, w.holdout ? &holdout : NULL);
    if (code == DONE && e->writer && w.grid.rows * w.grid.cols != 0)
        place_super(e->layout, &j->how->scheme, &w.packed);
    if (code == DONE && e->writer && w.grid.rows * w.grid.cols != 0)
        code = write_packed(e->writer, j->place.packed, 0, w.grid.rows, 0, w.grid.cols, &w.packed);
    progress_add(w.grid.rows * w.grid.cols);
    free(w.values);
    free(w.gram);
    free(w.holdout);
    free(w.packed.codes);
    return code;
}
