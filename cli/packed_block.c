/*
 * packed_block.c - the plain form of blocks of quantized tensors
 */
#include "packed_block.h"

#include <stdlib.h>

#include "block.h"
#include "output.h"
#include "resources.h"
#include "stats.h"

uint64_t column_unit(const qz_scheme *scheme, uint64_t cols, int encoding)
{
    /* Two groups, so that neither a byte of codes nor a byte of zeros is divided; nor are the columns of a super scale
     * that has but a part of a row. */
    int supers = scheme->super_size != 0 && scheme->super_size < QZ_WHOLE_MATRIX;
    uint64_t size = supers ? scheme->super_size : scheme->group_size;
    if (size >= cols)
        return !encoding && !supers ? 2 : cols != 0 ? cols : 1;
    if (size / scheme->group_size % 2 != 0)
        size *= 2;
    return size < cols ? size : cols;
}

int allocate_packed(const qz_scheme *scheme, uint64_t rows, uint64_t cols, qz_packed *packed)
{
    qz_sizes sizes = {.size = sizeof sizes};
    *packed = (qz_packed){0};
    if (qz_scheme_sizes(scheme, rows, cols, &sizes) != QZ_OK)
        return fail(LIMIT, "a block of this tensor is too large for memory");
    /* Scales first would be better aligned, but no pointer needs to be. */
    char *memory = allocate(sizes.total_bytes);
    if (memory == NULL)
        return LIMIT;
    packed->codes = memory;
    packed->scales = memory + rows * sizes.code_bytes;
    packed->zeros = sizes.zero_bytes != 0 ? memory + rows * (sizes.code_bytes + sizes.scale_bytes) : NULL;
    packed->supers =
        sizes.super_bytes != 0 ? memory + rows * (sizes.code_bytes + sizes.scale_bytes + sizes.zero_bytes) : NULL;
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
    if (packed->zeros != NULL)
        from.zeros = (char *)packed->zeros + row * (uint64_t)packed->zero_stride;
    if (packed->supers != NULL && scheme->super_size != QZ_WHOLE_MATRIX)
        from.supers = (char *)packed->supers + row * (uint64_t)packed->super_stride;
    return from;
}

int check_packed(const source *in, const item *i)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_packed_tensor p = {.size = sizeof p};
    qz_packed memory = {0};
    qz_tensor t;
    grid g;
    block_plan blocks;
    block b;
    int started = 0, code = source_tensor(in, i, &t, &p);
    if (code != DONE)
        return code;
    /* The matrix itself, row after row: the order of the parts in the file. */
    uint64_t shape[2] = {p.rows, p.cols};
    qz_tensor matrix = {.rank = 2, .shape = shape};
    grid_of(&matrix, 1, 1, &g);
    plan_blocks(&g, column_unit(&p.scheme, g.cols, 0), &blocks);
    code = allocate_packed(&p.scheme, blocks.step[INNER], blocks.step[COLUMN], &memory);
    while (code == DONE && next_block(&blocks, &b, &started)) {
        qz_sizes sizes;
        qz_detail detail = QZ_DETAIL_INIT;
        code = shape_packed(&p.scheme, b.count[COLUMN], &memory, &sizes);
        if (code != DONE)
            break;
        if (stop_requested())
            code = 128 + stop_requested();
        else if (qz_packed_read(in->file, &p, b.row, b.count[INNER], b.first[COLUMN], b.count[COLUMN], &memory,
                                &error) != QZ_FILE_OK)
            code = fail_file(&error);
        else if (qz_validate(&p.scheme, &memory, b.count[INNER], b.count[COLUMN], &detail) != QZ_OK)
            code = fail_quantize(QZ_ERROR_PACKED, &t, p.axis, b.row + detail.group / sizes.row_groups,
                                 b.first[COLUMN] + detail.group % sizes.row_groups * p.scheme.group_size, &detail);
    }
    free(memory.codes);
    return code;
}
