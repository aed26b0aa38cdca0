/*
 * same_rows.c - remembers from which rows something was prepared
 */
#include "same_rows.h"

#include <string.h>

enum { TABLE_BYTES = 16 * sizeof(float) };

void qz_note_rows(struct qz_made_of *to, const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols)
{
    to->scheme = *scheme;
    if (scheme->codes == QZ_TABLE)
        to->scheme.table = memcpy(to->table, scheme->table, TABLE_BYTES);
    to->packed = *packed;
    to->rows = rows;
    to->cols = cols;
}

static int is_same_scheme(const qz_scheme *a, const qz_scheme *b)
{
    return a->codes == b->codes && a->scale_dtype == b->scale_dtype && a->zero == b->zero &&
           a->group_size == b->group_size && a->super_dtype == b->super_dtype && a->super_size == b->super_size &&
           (a->codes != QZ_TABLE || memcmp(a->table, b->table, TABLE_BYTES) == 0);
}

static int are_same_places(const qz_scheme *scheme, const qz_packed *a, const qz_packed *b)
{
    int zeros = scheme->zero != QZ_ZERO_NONE, supers = scheme->super_size != 0;
    int strides = supers && scheme->super_size != QZ_WHOLE_MATRIX;
    return a->codes == b->codes && a->scales == b->scales && a->code_stride == b->code_stride &&
           a->scale_stride == b->scale_stride &&
           (!zeros || (a->zeros == b->zeros && a->zero_stride == b->zero_stride)) &&
           (!supers || a->supers == b->supers) && (!strides || a->super_stride == b->super_stride);
}

int qz_same_rows(const struct qz_made_of *of, const qz_scheme *scheme, const qz_packed *packed, uint64_t rows,
                 uint64_t cols)
{
    return of->rows == rows && of->cols == cols && is_same_scheme(&of->scheme, scheme) &&
           are_same_places(scheme, &of->packed, packed);
}
