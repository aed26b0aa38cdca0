/*
 * packed_block.c - the plain form of blocks of quantized tensors: memory, strides, reading
 */
#include "packed_block.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "resources.h"
#include "stats.h"

uint64_t column_unit(const qz_scheme *scheme, uint64_t cols, int encoding)
{
    /* Two groups, so that neither a byte of codes nor a byte of zeros is divided; nor are the columns of a super scale
     * that serves a part of a row. */
    int supers = scheme->super_size != 0 && scheme->super_size < QZ_WHOLE_MATRIX;
    uint64_t size = supers ? scheme->super_size : scheme->group_size;
    if (size >= cols)
        return !encoding && !supers ? 2 : cols != 0 ? cols : 1;
    if (size / scheme->group_size % 2 != 0)
        size *= 2;
    return size < cols ? size : cols;
}

/* At most `rows`, but for eight. */
static void limit_rows(block_plan *blocks, uint64_t rows)
{
    const uint64_t total = blocks->total[INNER];
    rows = rows < total ? rows : total;
    blocks->step[INNER] = rows > 8 ? rows - rows % 8 : total < 8 ? total : 8;
}

void plan_eight_rows(block_plan *blocks)
{
    limit_rows(blocks, blocks->step[INNER]);
}

int lies_across(const qz_packed_tensor *packed)
{
    return packed->layout && qz_layout_is_across(packed->layout);
}

void plan_rows(const qz_packed_tensor *packed, uint64_t unit, rows_plan *out)
{
    uint64_t shape[2] = {packed->rows, packed->cols};
    const qz_tensor matrix = {.rank = 2, .shape = shape};
    grid_of(&matrix, 1, 1, &out->grid);
    plan_blocks(&out->grid, unit, lies_across(packed), &out->blocks);
    plan_eight_rows(&out->blocks);
}

enum { NEAR = 1 << 20, ACROSS = 1 << 24 }; /* codes of the first stay in a cache next to a processor */

void plan_codes(const qz_packed_tensor *packed, uint64_t unit, const char *other_layout, rows_plan *out)
{
    const int across = lies_across(packed) || (other_layout && qz_layout_is_across(other_layout));
    plan_rows(packed, unit, out);
    const uint64_t cols = out->blocks.step[COLUMN];
    limit_rows(&out->blocks, (across ? ACROSS : NEAR) / (cols != 0 ? cols : 1));
}

void plan_first_rows(uint64_t rows, rows_plan *plan)
{
    plan->grid.rows = plan->grid.size[plan->grid.dims - 1] = rows;
    plan->blocks.total[INNER] = rows;
    plan_eight_rows(&plan->blocks);
}

enum { ALIGNMENT = 8 };

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

int allocate_packed(const qz_scheme *scheme, uint64_t rows, uint64_t cols, qz_packed *packed)
{
    qz_sizes sizes = {.size = sizeof sizes};
    *packed = (qz_packed){0};
    if (qz_scheme_sizes(scheme, rows, cols, &sizes) != QZ_OK)
        return fail(LIMIT, "a block of this tensor is too large for memory");
    /* Each part begins where numbers of any type may. */
    uint64_t scales = aligned(rows * sizes.code_bytes), zeros = scales + aligned(rows * sizes.scale_bytes);
    uint64_t supers = zeros + aligned(rows * sizes.zero_bytes);
    char *memory = allocate(sizes.total_bytes + 3 * ALIGNMENT);
    if (!memory)
        return LIMIT;
    packed->codes = memory;
    packed->scales = memory + scales;
    packed->zeros = sizes.zero_bytes != 0 ? memory + zeros : NULL;
    packed->supers = sizes.super_bytes != 0 ? memory + supers : NULL;
    return DONE;
}

int shape_packed(const qz_scheme *scheme, uint64_t cols, qz_packed *packed, qz_sizes *sizes)
{
    *sizes = (qz_sizes){.size = sizeof *sizes};
    if (qz_scheme_sizes(scheme, 1, cols, sizes) != QZ_OK)
        return fail(INTERNAL, "a block has no size");
    packed->code_stride = (int64_t)sizes->code_bytes;
    packed->scale_stride = (int64_t)sizes->scale_bytes;
    packed->zero_stride = (int64_t)sizes->zero_bytes;
    packed->super_stride = scheme->super_size == QZ_WHOLE_MATRIX ? 0 : (int64_t)sizes->super_bytes;
    return DONE;
}

qz_packed packed_row(const qz_scheme *scheme, const qz_packed *packed, uint64_t row)
{
    qz_packed from = *packed;
    from.codes = (char *)packed->codes + row * (uint64_t)packed->code_stride;
    from.scales = (char *)packed->scales + row * (uint64_t)packed->scale_stride;
    if (packed->zeros)
        from.zeros = (char *)packed->zeros + row * (uint64_t)packed->zero_stride;
    if (packed->supers && scheme->super_size != QZ_WHOLE_MATRIX)
        from.supers = (char *)packed->supers + row * (uint64_t)packed->super_stride;
    return from;
}

/* ---- reading ---- */

int open_packed(const source *in, const item *i, packed_reader *out)
{
    *out = (packed_reader){.file = in->file};
    return source_tensor(in, i, &out->tensor, &out->packed);
}

int allocate_packed_blocks(packed_reader *r, const block_plan *plan)
{
    return allocate_packed(&r->packed.scheme, plan->step[OUTER] * plan->step[INNER], plan->step[COLUMN], &r->memory);
}

void close_packed(packed_reader *r)
{
    free(r->memory.codes);
    r->memory = (qz_packed){0};
}

/* Whether numbers keep their format: a group that does not is named. */
static int validate_packed(const packed_reader *r, const qz_packed *packed, uint64_t row, uint64_t rows, uint64_t col,
                           uint64_t cols)
{
    const qz_scheme *scheme = &r->packed.scheme;
    qz_detail detail = QZ_DETAIL_INIT;
    qz_result result = qz_validate(scheme, packed, rows, cols, &detail);
    const matrix_part p = {&r->tensor, r->packed.axis, scheme, row, col, cols};
    return result == QZ_OK ? DONE : fail_part(result, &p, &detail);
}

int read_packed_block(packed_reader *r, const block *b, int numbers, qz_packed *out)
{
    const uint64_t rows = b->count[INNER], col = b->first[COLUMN], cols = b->count[COLUMN];
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_sizes sizes;
    *out = r->memory;
    int code = shape_packed(&r->packed.scheme, cols, out, &sizes);
    if (code != DONE)
        return code;
    qz_packed to = *out;
    if (numbers)
        to.codes = NULL;
    if (qz_packed_read(r->file, &r->packed, b->row, rows, col, cols, &to, &error) != QZ_FILE_OK)
        return fail_file(&error);
    return validate_packed(r, out, b->row, rows, col, cols);
}

int read_packed(packed_reader *r, uint64_t row, uint64_t rows, uint64_t col, uint64_t cols, qz_packed *out)
{
    const block b = {.row = row, .first = {[COLUMN] = col}, .count = {[INNER] = rows, [COLUMN] = cols}};
    return read_packed_block(r, &b, 0, out);
}

int decode_block(packed_reader *r, const block *b, void *values, qz_dtype dtype, qz_pool *pool)
{
    const qz_scheme *scheme = &r->packed.scheme;
    uint64_t col = b->first[COLUMN], cols = b->count[COLUMN], inner = b->count[INNER];
    qz_packed packed;
    int together = is_contiguous(b);
    int code = together ? read_packed(r, b->row, b->count[OUTER] * inner, col, cols, &packed) : DONE;
    for (uint64_t o = 0; o < b->count[OUTER] && code == DONE; o++) {
        matrix_part p = {&r->tensor, r->packed.axis, scheme, b->row + o * b->rows_apart, col, cols};
        if (!together)
            code = read_packed(r, p.row, inner, col, cols, &packed);
        if (code != DONE)
            break;
        qz_packed rows = packed_row(scheme, &packed, together ? o * inner : 0);
        qz_matrix matrix = block_matrix(b, o, values, dtype);
        qz_detail detail = QZ_DETAIL_INIT;
        qz_result result = qz_decode(scheme, &rows, &matrix, pool, &detail);
        if (result != QZ_OK)
            code = fail_part(result, &p, &detail);
    }
    return code;
}

/* ---- writing ---- */

void place_super(const char *layout, const qz_scheme *scheme, const qz_packed *packed)
{
    enum { TRIES = 100 };
    uint64_t code = 0, scale = 0;
    float super;
    char why[200];
    const qz_packed alone = {.codes = &code, .scales = &scale, .supers = &super};
    if (scheme->super_size != QZ_WHOLE_MATRIX)
        return;
    memcpy(&super, packed->supers, sizeof super);
    for (int i = 0; i < TRIES && qz_layout_refuses_block(layout, scheme, 1, 1, &alone, why, sizeof why); i++)
        super = nextafterf(super, INFINITY);
    memcpy(packed->supers, &super, sizeof super);
}

int write_packed(qz_writer *writer, const qz_packed_tensor *target, uint64_t row, uint64_t rows, uint64_t col,
                 uint64_t cols, const qz_packed *packed)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_file_result result = qz_packed_write(writer, target, row, rows, col, cols, packed, &error);
    return result == QZ_FILE_OK ? DONE : fail_file(&error);
}

int write_packed_block(qz_writer *writer, const qz_packed_tensor *target, const block *b, const qz_packed *packed)
{
    int code = write_packed(writer, target, b->row, b->count[INNER], b->first[COLUMN], b->count[COLUMN], packed);
    block_done(b);
    return code;
}

/* A quantized tensor on its way from one layout to another, or nowhere. */
typedef struct passage {
    packed_reader reader;
    qz_writer *writer; /* NULL: it is only checked */
    const qz_packed_tensor *target;
} passage;

static int pass_block(void *context, const block *b)
{
    passage *p = context;
    qz_packed packed;
    int code = read_packed_block(&p->reader, b, 0, &packed);
    return code == DONE && p->writer ? write_packed_block(p->writer, p->target, b, &packed) : code;
}

/* Takes the matrix itself, row after row: the order of the parts in the file. */
static int pass(const source *in, const item *i, passage *p)
{
    rows_plan plan;
    int code = open_packed(in, i, &p->reader);
    if (code != DONE)
        return code;
    const qz_packed_tensor *packed = &p->reader.packed;
    plan_codes(packed, column_unit(&packed->scheme, packed->cols, p->writer != NULL), NULL, &plan);
    code = allocate_packed_blocks(&p->reader, &plan.blocks);
    if (code == DONE)
        code = for_each_block(&plan.blocks, pass_block, p);
    close_packed(&p->reader);
    return code;
}

int check_packed(const source *in, const item *i)
{
    passage p = {.writer = NULL};
    return pass(in, i, &p);
}

int copy_packed(const source *in, const item *i, qz_writer *writer, const qz_packed_tensor *target)
{
    passage p = {.writer = writer, .target = target};
    return pass(in, i, &p);
}
