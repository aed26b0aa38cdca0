/*
 * convert.c - quantized tensors from one layout to another, with the same values
 */
#include "commands.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "json.h"
#include "output.h"
#include "packed_block.h"
#include "recode.h"
#include "report.h"
#include "resources.h"
#include "results.h"
#include "resume.h"
#include "scheme.h"
#include "source.h"
#include "stats.h"
#include "table.h"
#include "target.h"

enum {
    REQUANTIZED = -1,
    CODES_ONLY = 8 /* times as many of them as there are floats in a block */
};

typedef struct conversion { /* of one tensor */
    const item *item;
    qz_scheme from, scheme;  /* of quantized ones: what it has, what it will have */
    int requantized;         /* its values are others: */
    int neighbour;           /* for another super scale takes the place of its own, */
    qz_stats stats;          /* how far from those that they were */
    uint64_t bytes, values;  /* in the input */
    uint64_t bytes_after;    /* of others, in the output */
    size_t index;            /* of others, in the output */
    qz_packed_tensor target; /* of quantized ones */
    int eight;               /* of others: the codes of eight bits that it has stay */
    int choice;              /* the number of its scheme among the candidates; REQUANTIZED: it is none of them */
    int looked;              /* at its numbers, to choose */
    int elsewhere;           /* in a file of the folder that is not made now, */
    int made_before;         /* but was in an earlier run: --resume */
} conversion;

typedef struct converter {
    const settings *s;
    source in;
    const char *layout;
    qz_writer *writer;
    qz_pool *pool;
    uint64_t part; /* of a folder, as qz_create_options has it; 0: all */
    qz_shard made; /* of a part that is a file, that file */
    FILE *choices; /* of --choices, or NULL */
    conversion *all;
    size_t count;
} converter;

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

/* ---- blocks ---- */

/* A tensor on its way. */
typedef struct passage {
    packed_reader reader;
    const qz_scheme *to;
    const char *layout;
    qz_packed room;    /* for a block of the other scheme */
    qz_writer *writer; /* NULL: only to see whether it is possible */
    const qz_packed_tensor *target;
    char why[200]; /* it is not */

    conversion *requantized; /* not NULL: values are decoded and encoded again */
    qz_pool *pool;
    float *values;
    float *largest; /* magnitude, for super scales of all; being found if there is no writer */
} passage;

/* The super scale, or the next larger one that the layout has a place for. */
static float neighbour_of(const passage *p, float super)
{
    enum { TRIES = 100 };
    uint64_t code = 0, scale = 0;
    char why[200];
    const qz_packed packed = {.codes = &code, .scales = &scale, .supers = &super};
    for (int i = 0; i < TRIES && qz_layout_refuses_block(p->layout, p->to, 1, 1, &packed, why, sizeof why); i++)
        super = nextafterf(super, INFINITY);
    return super;
}

/* The same codes and scales with a super scale that has a place. */
static qz_result take_neighbour(passage *p, const qz_packed *from, const qz_packed *to, const qz_matrix *values,
                                qz_stats *stats, qz_detail *detail)
{
    float super;
    memcpy(&super, from->supers, sizeof super);
    super = neighbour_of(p, super);
    recode_block(p->to, from, p->to, to, values->rows, values->cols, p->why, sizeof p->why); /* all is as it is */
    memcpy(to->supers, &super, sizeof super);
    return qz_compare(p->to, to, values, p->pool, stats, detail);
}

/* Decodes and encodes a block of whole rows; or finds the largest value of it. */
static int requantize_block(passage *p, const block *b, const qz_packed *from, const qz_packed *to)
{
    const qz_packed_tensor *packed = &p->reader.packed;
    uint64_t rows = b->count[INNER], cols = packed->cols;
    const matrix_part part = {&p->reader.tensor, packed->axis, p->to, b->row, 0, cols};
    qz_matrix matrix = {p->values, QZ_F32, rows, cols, (int64_t)cols, 1};
    qz_whole whole = {.size = sizeof whole, .rows = packed->rows, .cols = cols, .row = b->row, .largest = p->largest};
    qz_options options = QZ_OPTIONS_INIT;
    qz_detail detail = QZ_DETAIL_INIT;
    qz_stats stats = QZ_STATS_INIT;
    options.pool = p->pool;
    options.whole = &whole;
    qz_result result = qz_decode(&packed->scheme, from, &matrix, p->pool, &detail);
    if (result == QZ_OK && p->requantized->neighbour)
        result = take_neighbour(p, from, to, &matrix, &stats, &detail);
    else if (result == QZ_OK && !p->writer)
        result = qz_largest(p->to, &matrix, p->largest, p->pool);
    else if (result == QZ_OK)
        result = qz_encode(p->to, &matrix, to, &options, &stats, &detail);
    if (result == QZ_OK && p->writer)
        add_stats(&p->requantized->stats, &stats, b->row, 0, cols, cols);
    return result == QZ_OK ? DONE : fail_part(result, &part, &detail);
}

/* Whether the layout can store the numbers of a block. */
static int has_place(passage *p, uint64_t rows, uint64_t cols, const qz_packed *numbers)
{
    const char *wrong = qz_layout_refuses_block(p->layout, p->to, rows, cols, numbers, p->why, sizeof p->why);
    if (wrong && wrong != p->why)
        snprintf(p->why, sizeof p->why, "%s", wrong);
    return !wrong;
}

static int pass_block(void *context, const block *b)
{
    passage *p = context;
    uint64_t rows = b->count[INNER], col = b->first[COLUMN], cols = b->count[COLUMN];
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_packed packed, recoded = p->room;
    qz_sizes sizes;
    int code = read_packed(&p->reader, b->row, rows, col, cols, &packed);
    if (code == DONE)
        code = shape_packed(p->to, cols, &recoded, &sizes);
    if (code != DONE)
        return code;
    if (p->requantized) {
        code = requantize_block(p, b, &packed, &recoded);
        if (code != DONE)
            return code;
    } else if (!recode_block(&p->reader.packed.scheme, &packed, p->to, &recoded, rows, cols, p->why, sizeof p->why)) {
        return REFUSED;
    }
    int is_known = p->writer || !p->requantized;
    if (is_known && !has_place(p, rows, cols, &recoded))
        return REFUSED;
    if (p->writer) {
        if (qz_packed_write(p->writer, p->target, b->row, rows, col, cols, &recoded, &error) != QZ_FILE_OK)
            return fail_file(&error);
        block_done(b);
    }
    return DONE;
}

/* Goes through the matrix in blocks that both schemes can be divided into, and of eight rows, as some layouts want. */
static int pass(const source *in, const item *i, passage *p)
{
    grid g;
    block_plan blocks;
    int code = open_packed(in, i, &p->reader);
    if (code != DONE)
        return code;
    const qz_packed_tensor *packed = &p->reader.packed;
    uint64_t shape[2] = {packed->rows, packed->cols}, unit = column_unit(&packed->scheme, packed->cols, 1);
    if (p->requantized)
        unit = packed->cols != 0 ? packed->cols : 1;
    qz_tensor matrix = {.rank = 2, .shape = shape};
    grid_of(&matrix, 1, 1, &g);
    plan_blocks(&g, unit, &blocks);
    uint64_t *rows = &blocks.step[INNER];
    if (!p->requantized) /* codes only: what lies across is written in longer pieces */
        *rows = *rows < blocks.total[INNER] / CODES_ONLY ? *rows * CODES_ONLY : blocks.total[INNER];
    *rows = *rows > 8 ? *rows - *rows % 8 : blocks.total[INNER] < 8 ? blocks.total[INNER] : 8;
    code = allocate_packed_blocks(&p->reader, &blocks);
    if (code == DONE)
        code = allocate_packed(p->to, blocks.step[OUTER] * blocks.step[INNER], blocks.step[COLUMN], &p->room);
    if (code == DONE && p->requantized) {
        p->values = allocate_block(&blocks, sizeof *p->values);
        code = p->values ? DONE : LIMIT;
    }
    if (code == DONE)
        code = for_each_block(&blocks, pass_block, p);
    free(p->values);
    free(p->room.codes);
    close_packed(&p->reader);
    return code;
}

/* ---- the plan ---- */

/* Schemes that might say the same as another, those with fewer bytes first. */
static size_t candidates_of(const qz_scheme *from, qz_scheme *out, size_t most)
{
    static const char *const integers[] = {"int4", "uint4", "uint4_offset"};
    const qz_dtype dtypes[] = {from->scale_dtype, QZ_E4M3, QZ_F16, QZ_BF16, QZ_F32};
    const uint64_t groups[] = {from->group_size, 4096, 1024, 512, 256, 128, 64, 32};
    int may_be_other = from->codes == QZ_INT4 || from->codes == QZ_UINT4;
    size_t n = 0;
    out[n++] = *from;
    if (from->codes == QZ_FP4 && from->scale_dtype == QZ_E4M3 && from->super_size == 0) {
        out[n] = *from;
        out[n].super_dtype = QZ_F32;
        out[n++].super_size = QZ_WHOLE_MATRIX;
    }
    for (size_t d = 0; d < 5; d++)
        for (size_t g = 0; g < 8; g++)
            for (size_t z = 0; z < (may_be_other ? 3 : 1) && n < most; z++) {
                qz_scheme to = may_be_other ? *qz_scheme_by_name(integers[z]) : *from;
                to.super_dtype = (qz_dtype)0;
                to.super_size = 0;
                to.scale_dtype = dtypes[d];
                to.group_size = groups[g];
                if (qz_scheme_check(&to, QZ_DEFAULT) == QZ_OK && recode_grade_of(from, &to) != RECODE_NEVER)
                    out[n++] = to;
            }
    return n;
}

static int fail_tensor(const converter *c, const item *i, const char *why)
{
    char name[NAME_TEXT];
    return fail(REFUSED,
                "'%s' cannot lie in the layout %s with the same values: %s; --requantize makes other values of it",
                qz_escape(i->name, i->name_length, name, sizeof name), c->layout, why);
}

/* Whether zeros that encoding chooses might be some that the layout has not. */
static int may_be_refused(const char *layout, const qz_scheme *to)
{
    char why[8];
    return to->zero == QZ_ZERO_UINT4 && qz_layout_refuses_block(layout, to, 0, 0, NULL, why, sizeof why);
}

/* Chooses a scheme that the layout takes, whatever its values: the same, if only its super scale has no place there; of
 * those with the same codes, or else with a zero or an offset, or else of all, the first. Groups have the size that they
 * have, or that of the scheme. */
static int find_scheme(const converter *c, conversion *v, const qz_packed_tensor *packed)
{
    const qz_scheme *row;
    char why[200];
    v->scheme = packed->scheme;
    if (v->scheme.super_size == QZ_WHOLE_MATRIX &&
        !qz_layout_refuses(c->layout, &v->scheme, packed->rank, packed->shape, packed->axis, why, sizeof why)) {
        v->neighbour = 1;
        return 1;
    }
    for (int rank = 0; rank < 3; rank++)
        for (size_t i = 0; (row = qz_scheme_at(i / 4)) != NULL; i++) {
            qz_scheme to = *row;
            if (i % 2 == 0)
                to.group_size = packed->scheme.group_size;
            if (i % 4 >= 2)
                to.scale_dtype = QZ_F32;
            if ((rank == 0 && to.codes != packed->scheme.codes) || (rank == 1 && to.zero == QZ_ZERO_NONE) ||
                to.super_size == QZ_WHOLE_ROW || qz_scheme_check(&to, QZ_DEFAULT) != QZ_OK ||
                may_be_refused(c->layout, &to) ||
                qz_layout_refuses(c->layout, &to, packed->rank, packed->shape, packed->axis, why, sizeof why))
                continue;
            v->scheme = to;
            return 1;
        }
    return 0;
}

static int open_choices(converter *c)
{
    if (!c->s->output.part)
        return fail(USAGE, "--choices goes with --part");
    c->choices = fopen(c->s->output.choices, "r");
    return c->choices ? DONE : fail_system(c->s->output.choices, errno);
}

static int fail_choices(const converter *c)
{
    char shown[NAME_TEXT];
    return fail(REFUSED, "%s is not what --part list chose for this input; make it anew",
                qz_escape(c->s->output.choices, strlen(c->s->output.choices), shown, sizeof shown));
}

/* Chooses the scheme that the tensor will have: the first that the layout takes and that its numbers fit. */
static int plan_packed(converter *c, conversion *v, const qz_packed_tensor *packed)
{
    enum { MOST = 130 };
    qz_scheme *schemes = malloc(MOST * sizeof *schemes);
    char why[200], reason[200] = "";
    if (!schemes)
        return fail_memory();
    v->from = packed->scheme;
    if (c->choices && (fscanf(c->choices, "%d", &v->choice) != 1 || v->choice < REQUANTIZED)) {
        free(schemes);
        return fail_choices(c);
    }
    size_t n = candidates_of(&packed->scheme, schemes, MOST), chosen = n;
    int code = DONE;
    for (size_t i = 0; i < n && chosen == n && code == DONE; i++) {
        const char *refusal =
            qz_layout_refuses(c->layout, &schemes[i], packed->rank, packed->shape, packed->axis, why, sizeof why);
        if (refusal) {
            if (i == 0)
                snprintf(reason, sizeof reason, "%s", refusal);
            continue;
        }
        passage p = {.to = &schemes[i], .layout = c->layout};
        if (c->choices && v->choice != (int)i)
            continue;
        if (!c->choices && (recode_grade_of(&packed->scheme, &schemes[i]) == RECODE_PERHAPS ||
                            qz_layout_refuses_block(c->layout, &schemes[i], 0, 0, NULL, why, sizeof why))) {
            code = pass(&c->in, v->item, &p);
            v->looked = 1;
        }
        if (code == DONE)
            chosen = i;
        if (code == REFUSED && p.why[0] != '\0') {
            snprintf(reason, sizeof reason, "%s", p.why);
            code = DONE;
        }
    }
    const int differs = c->choices && v->choice != (chosen < n ? (int)chosen : REQUANTIZED);
    v->choice = chosen < n ? (int)chosen : REQUANTIZED;
    if (code == DONE && differs)
        code = fail_choices(c);
    else if (code == DONE && chosen < n)
        v->scheme = schemes[chosen];
    else if (code == DONE && c->s->output.requantize && find_scheme(c, v, packed))
        v->requantized = 1;
    else if (code == DONE)
        code = fail_tensor(c, v->item, reason);
    free(schemes);
    return code;
}

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
        return (v->eight ? qz_eight_declare : qz_declare)(c->writer, &t, &v->index, &error) == QZ_FILE_OK
                   ? DONE
                   : fail_file(&error);
    v->target.size = sizeof v->target;
    return qz_packed_declare(c->writer, v->item->name, v->item->name_length, &v->scheme, packed.rank, packed.shape,
                             packed.axis, &v->target, &error) == QZ_FILE_OK
               ? DONE
               : fail_file(&error);
}

static int plan(converter *c)
{
    int code = DONE;
    c->all = calloc(c->in.count + 1, sizeof *c->all);
    if (!c->all)
        return fail_memory();
    for (size_t i = 0; i < c->in.count && code == DONE; i++) {
        qz_packed_tensor packed;
        qz_tensor t;
        conversion *v = &c->all[c->count++];
        v->item = &c->in.items[i];
        at_tensor(v->item->name, v->item->name_length);
        code = source_tensor(&c->in, v->item, &t, &packed);
        if (code != DONE)
            break;
        v->bytes = t.bytes;
        v->values = t.count;
        v->eight = stays_eight(&c->in, v->item, c->layout);
        v->bytes_after = v->eight ? v->bytes : t.count * qz_element_size(t.element);
        if (v->item->packed)
            code = plan_packed(c, v, &packed);
    }
    if (code == DONE)
        at_tensor(NULL, 0);
    char more;
    if (code == DONE && c->choices && fscanf(c->choices, " %c", &more) == 1)
        code = fail_choices(c);
    return code;
}

/* ---- the work ---- */

/* The same, with values that are near to those that they were. */
static int requantize_tensor(converter *c, conversion *v)
{
    float largest = 0;
    passage p = {.to = &v->scheme, .layout = c->layout, .target = &v->target, .requantized = v, .pool = c->pool};
    v->stats = (qz_stats)QZ_STATS_INIT;
    int code = DONE;
    if (v->scheme.super_size == QZ_WHOLE_MATRIX && !v->neighbour) {
        p.largest = &largest;
        code = pass(&c->in, v->item, &p);
    }
    p.writer = c->writer;
    if (code == DONE)
        code = pass(&c->in, v->item, &p);
    if (code != REFUSED || p.why[0] == '\0')
        return code;
    char name[NAME_TEXT];
    return fail(REFUSED, "'%s' cannot lie in the layout %s, as it would be requantized: %s",
                qz_escape(v->item->name, v->item->name_length, name, sizeof name), c->layout, p.why);
}

static int convert_tensor(converter *c, conversion *v)
{
    passage p = {.to = &v->scheme, .layout = c->layout, .writer = c->writer, .target = &v->target};
    if (v->eight)
        return copy_eight(&c->in, v->item->tensor, c->writer, v->index);
    if (!v->item->packed)
        return copy_tensor(&c->in, v->item->tensor, c->writer, v->index);
    if (v->requantized)
        return requantize_tensor(c, v);
    int code = pass(&c->in, v->item, &p);
    return code == REFUSED && p.why[0] != '\0' ? fail_tensor(c, v->item, p.why) : code;
}

/* ---- the proof ---- */

typedef struct proof {
    packed_reader a, b;
    grid grid;
    float *of_a, *of_b;
    qz_pool *pool;
    int differ;
} proof;

/* 0 and -0 are the same value. */
static int same_values(const float *a, const float *b, uint64_t count)
{
    if (memcmp(a, b, count * sizeof *a) == 0)
        return 1;
    for (uint64_t i = 0; i < count; i++)
        if (a[i] != b[i] && memcmp(&a[i], &b[i], sizeof a[i]) != 0)
            return 0;
    return 1;
}

static int prove_block(void *context, const block *b)
{
    proof *p = context;
    int code = decode_block(&p->a, b, p->of_a, QZ_F32, p->pool);
    if (code == DONE)
        code = decode_block(&p->b, b, p->of_b, QZ_F32, p->pool);
    uint64_t count = b->count[OUTER] * b->count[INNER] * b->count[COLUMN];
    if (code == DONE && !same_values(p->of_a, p->of_b, count))
        p->differ = 1;
    block_done(b);
    return code;
}

/* Decodes a tensor of both files and compares all values. */
static int prove_packed(const source *a, const item *i, const source *b, const item *j, qz_pool *pool, int *differ)
{
    proof p = {.pool = pool};
    block_plan blocks;
    int code = open_packed(a, i, &p.a);
    if (code == DONE)
        code = open_packed(b, j, &p.b);
    if (code != DONE)
        return code;
    uint64_t cols = p.a.packed.cols, unit = column_unit(&p.a.packed.scheme, cols, 0);
    uint64_t other = column_unit(&p.b.packed.scheme, cols, 0);
    if (p.a.packed.axis != p.b.packed.axis || p.a.packed.rows != p.b.packed.rows || cols != p.b.packed.cols) {
        *differ = 1;
        return DONE;
    }
    while (unit < cols && unit % other != 0)
        unit = 2 * unit < cols ? 2 * unit : cols;
    grid_of(&p.a.tensor, p.a.packed.axis, 1, &p.grid);
    plan_blocks(&p.grid, unit, &blocks);
    code = allocate_packed_blocks(&p.a, &blocks);
    if (code == DONE)
        code = allocate_packed_blocks(&p.b, &blocks);
    if (code == DONE) {
        p.of_a = allocate_block(&blocks, sizeof(float));
        p.of_b = allocate_block(&blocks, sizeof(float));
        code = p.of_a && p.of_b ? for_each_block(&blocks, prove_block, &p) : LIMIT;
    }
    *differ = p.differ;
    free(p.of_a);
    free(p.of_b);
    close_packed(&p.a);
    close_packed(&p.b);
    return code;
}

/* The tensors of an output, decoded, have the values of those of the input. */
static int prove_all(converter *c, const source *out)
{
    char name[NAME_TEXT];
    uint64_t work = 0;
    int code = DONE;
    for (size_t i = 0; i < c->count; i++)
        work += c->all[i].item->packed && !c->all[i].requantized && !c->all[i].elsewhere ? c->all[i].values : 0;
    progress_begin("verify", work);
    for (size_t i = 0; i < c->count && code == DONE; i++) {
        if (c->all[i].elsewhere)
            continue;
        const item *was = c->all[i].item, *is = source_find(out, was->name, was->name_length);
        int differ = !is || is->packed != was->packed;
        if (!differ && was->packed && !c->all[i].requantized)
            code = prove_packed(&c->in, was, out, is, c->pool, &differ);
        if (code == DONE && differ)
            code = fail(INTERNAL,
                        "'%s' does not decode to the same values in the output, which is dropped; please report "
                        "this",
                        qz_escape(was->name, was->name_length, name, sizeof name));
    }
    progress_end();
    return code;
}

/* Of an output that has all but its name. */
static int prove(converter *c)
{
    source out = {0};
    int code = source_open_written(c->s, c->writer, &out);
    if (code == DONE)
        code = prove_all(c, &out);
    source_close(&out);
    return code;
}

/* Of one file of a folder, which is not yet among those that are complete. */
static int prove_part(converter *c)
{
    source out = {0};
    const size_t room = strlen(c->s->files[1]) + strlen(c->made.name) + 2;
    char *path = malloc(room);
    if (!path)
        return fail_memory();
    snprintf(path, room, "%s/%s", c->s->files[1], c->made.name);
    int code = source_open_quietly(c->s, path, &out);
    if (code == DONE)
        code = prove_all(c, &out);
    source_close(&out);
    if (code != DONE)
        remove(path);
    free(path);
    return code;
}

/* ---- the whole ---- */

/* The names of the schemes in the output, each once. */
static size_t used_schemes(const converter *c, const char *names[MOST_SCHEMES])
{
    size_t count = 0;
    for (size_t i = 0; i < c->count; i++) {
        const conversion *v = &c->all[i];
        const char *name = v->item->packed ? v->scheme.name : v->eight ? "q8_0" : NULL;
        size_t k = 0;
        while (name && k < count && strcmp(names[k], name) != 0)
            k++;
        if (name && k == count && count < MOST_SCHEMES)
            names[count++] = name;
    }
    return count;
}

/* What lies beside a model in a folder. The programs of another layout know what config.json says of it. */
static int copy_beside(const converter *c)
{
    const char *names[MOST_SCHEMES];
    char description[DESCRIPTION_TEXT];
    const size_t count = used_schemes(c, names);
    const int own = strcmp(c->layout, "own") == 0 && count != 0;
    return target_copy_beside(c->s, &c->in, c->writer,
                              own ? target_description(names, count, description, sizeof description) : NULL);
}

static size_t index_of(const void *of, size_t i)
{
    const conversion *v = &((const converter *)of)->all[i];
    return v->item->packed ? v->target.members[QZ_MEMBER_HEADER] : v->index;
}

static int key(const void *of, sha256 *h)
{
    const converter *c = of;
    sha256_add(h, c->layout, strlen(c->layout) + 1);
    key_number(h, (uint64_t)c->s->output.no_verify);
    for (size_t i = 0; i < c->count; i++) {
        const conversion *v = &c->all[i];
        sha256_add(h, v->item->name, v->item->name_length + 1);
        key_number(h, (uint64_t)v->item->packed << 3 | (uint64_t)v->requantized << 2 | (uint64_t)v->neighbour << 1 |
                          (uint64_t)v->eight);
        if (v->item->packed)
            key_scheme(h, &v->scheme);
    }
    return DONE;
}

static void forget(void *of)
{
    converter *c = of;
    for (size_t i = 0; i < c->count; i++) {
        c->all[i].target = (qz_packed_tensor){.size = sizeof c->all[i].target};
        c->all[i].elsewhere = 0;
    }
}

static void mark(void *of, size_t i)
{
    ((converter *)of)->all[i].made_before = 1;
}

static int *elsewhere(void *of, size_t i)
{
    return &((converter *)of)->all[i].elsewhere;
}

static const qz_stats *stats_of(const void *of, size_t i)
{
    return &((const converter *)of)->all[i].stats;
}

/* The choices that --choices takes, and whether numbers were looked at for them. */
static void json_choices(const void *of)
{
    const converter *c = of;
    int looked = 0;
    json_begin("choices", '[');
    for (size_t i = 0; i < c->count; i++) {
        looked |= c->all[i].looked;
        if (c->all[i].item->packed)
            json_signed(NULL, c->all[i].choice);
    }
    json_end();
    json_bool("looked", looked);
}

/* What convert tells of a folder that it makes file by file, but for the functions that make it. */
static parted parts_of(converter *c)
{
    return (parted){.of = c,
                    .in = &c->in,
                    .s = &c->s,
                    .part = &c->part,
                    .made = &c->made,
                    .writer = &c->writer,
                    .key = key,
                    .forget = forget,
                    .index = index_of,
                    .elsewhere = elsewhere,
                    .stats = stats_of,
                    .mark = mark,
                    .list = json_choices};
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
    if (code == DONE && (c->part == 0 || is_rest(c->s)))
        code = copy_beside(c);
    const parted parts = parts_of(c);
    return code == DONE && c->part != 0 ? choose_part(&parts) : code;
}

static int write_all(converter *c)
{
    const results r = results_of(c);
    uint64_t work = 0;
    for (size_t i = 0; i < c->count; i++)
        work += c->all[i].elsewhere ? 0 : c->all[i].values;
    int code = c->pool ? DONE : start_pool(c->s, work, &c->pool);
    progress_begin("convert", code == DONE ? work : 0);
    for (size_t i = 0; i < c->count && code == DONE; i++) {
        if (c->all[i].elsewhere)
            continue;
        results_begin_tensor(&r, i);
        code = convert_tensor(c, &c->all[i]);
        if (code == DONE)
            results_tensor(&r, i);
    }
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

/* A layout that outputs can have. */
static int check_layout(const char *layout)
{
    const char *names[32], *name, *more = "";
    char list[300] = "", shown[NAME_TEXT];
    size_t n = 0;
    if (qz_layout_is_written(layout))
        return DONE;
    for (size_t i = 0; n < 32 && (name = qz_layout_at(i)) != NULL; i++) {
        if (qz_layout_is_written(name))
            names[n++] = name;
        else if (strcmp(name, layout) == 0)
            more = "the layout is only read; ";
    }
    for (size_t i = 0; i < n; i++)
        list_words(list, sizeof list, names[i], i + 1 == n);
    return fail(USAGE, "--to '%s': %sthe value must be %s%s", qz_escape(layout, strlen(layout), shown, sizeof shown),
                more, list, strcmp(layout, "onnx") == 0 ? "; the Python package writes ONNX (quantize.onnx)" : "");
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

/* Whether no tensor in codes of eight bits is decoded. */
static int eights_stay(const converter *c)
{
    for (size_t i = 0; i < c->count; i++)
        if (qz_eight_is(c->in.file, c->all[i].item->tensor) && !c->all[i].eight)
            return 0;
    return 1;
}

int run_convert(const settings *s)
{
    converter c = {.s = s, .layout = s->output.to};
    double start = seconds_now();
    size_t packed = 0, requantized = 0;
    int code = c.layout ? check_layout(c.layout) : DONE;
    if (code == DONE)
        code = part_of_options(s, &c.part);
    if (code == DONE)
        code = report_check(s);
    if (code == DONE)
        code = resume_check(s);
    if (code == DONE)
        code = source_open_quietly(s, s->files[0], &c.in);
    if (code == DONE && !c.layout && !(c.layout = target_layout(s, &c.in)))
        code = fail(USAGE, "the output has no layout of quantized tensors; name one with --to");
    if (code == DONE && s->output.choices)
        code = open_choices(&c);
    if (code == DONE)
        code = plan(&c);
    if (c.in.file)
        source_note(&c.in, code == DONE && eights_stay(&c));
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
    if (code == DONE && s->output.part)
        print_part(&parts, &r);
    else if (code == DONE)
        results_end(&r, DONE);
    if (code == DONE && !wants_numbers(s))
        print_errors(&c, requantized);
    if (code == DONE && !is_list(s))
        sum_up("converted %zu of %zu tensors to %s in %.2f s%s", packed, c.count, c.layout, seconds_now() - start,
               s->output.no_verify    ? ""
               : requantized == 0     ? "; they decode to the same values"
               : requantized < packed ? "; those that are not listed decode to the same values"
                                      : "; their values are others");
    qz_pool_destroy(c.pool);
    free(c.all);
    if (c.choices)
        fclose(c.choices);
    source_close(&c.in);
    return code;
}
