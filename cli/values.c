/*
 * values.c - reads the floats that a tensor is encoded from: those of its file, or those that its codes decode to
 */
#include "values.h"

#include <stdlib.h>

#include "output.h"
#include "packed_block.h"

int describe_codes(const encoder *e, job *j)
{
    packed_reader *r = calloc(1, sizeof *r);
    if (!r)
        return fail_memory();
    int code = open_packed(&e->in, j->item, r);
    if (code != DONE) {
        free(r);
        return code;
    }
    r->tensor.bytes = r->tensor.count * qz_element_size(r->tensor.element); /* not those of its codes */
    j->codes = r;
    j->tensor = &r->tensor;
    return DONE;
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        const uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

uint64_t values_unit(const job *j, uint64_t unit, uint64_t cols)
{
    if (!j->codes)
        return unit;
    const uint64_t own = column_unit(&j->codes->packed.scheme, cols, 0), times = own / common_divisor(own, unit);
    return unit < cols && times <= cols / unit ? unit * times : cols != 0 ? cols : 1;
}

int begin_values(const job *j, const block_plan *plan)
{
    return j->codes ? allocate_packed_blocks(j->codes, plan) : DONE;
}

void end_values(const job *j)
{
    if (j->codes)
        close_packed(j->codes);
}

uint64_t values_memory(const job *j, const block_plan *plan)
{
    qz_sizes sizes = {.size = sizeof sizes};
    const uint64_t rows = plan->step[OUTER] * plan->step[INNER];
    if (!j->codes || qz_scheme_sizes(&j->codes->packed.scheme, rows, plan->step[COLUMN], &sizes) != QZ_OK)
        return 0;
    return sizes.total_bytes;
}

int read_values(const encoder *e, const job *j, const grid *g, const block *b, void *buffer)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    if (j->codes)
        return decode_block(j->codes, b, buffer, QZ_F32, e->pool);
    return read_block(e->in.file, j->item->tensor, g, b, qz_element_size(j->tensor->element), buffer, &error) ==
                   QZ_FILE_OK
               ? DONE
               : fail_file(&error);
}
