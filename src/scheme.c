/*
 * scheme.c - the table of 4-bit representations, and what each needs
 */
#include "scheme.h"
#include "fpenv.h"

#include <stdint.h>
#include <string.h>

static const qz_scheme table[] = {
    {
        .size = sizeof(qz_scheme),
        .name = "int4",
        .summary = "symmetric -8..7, a scale for each group",
        .codes = QZ_INT4,
        .scale_dtype = QZ_F16,
        .zero = QZ_ZERO_NONE,
        .method = QZ_ABSMAX,
        .group_size = 32,
    },
    {
        .size = sizeof(qz_scheme),
        .name = "uint4",
        .summary = "asymmetric 0..15, a scale and a 4-bit zero for each group",
        .codes = QZ_UINT4,
        .scale_dtype = QZ_F16,
        .zero = QZ_ZERO_UINT4,
        .method = QZ_MINMAX,
        .group_size = 32,
    },
    {
        .size = sizeof(qz_scheme),
        .name = "uint4_offset",
        .summary = "asymmetric 0..15, a scale and a float offset for each group",
        .codes = QZ_UINT4,
        .scale_dtype = QZ_F16,
        .zero = QZ_ZERO_OFFSET,
        .method = QZ_MINMAX,
        .group_size = 32,
    },
};

const qz_scheme *qz_scheme_at(size_t i)
{
    return i < sizeof table / sizeof table[0] ? &table[i] : NULL;
}

const qz_scheme *qz_scheme_by_name(const char *name)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(name, table[i].name) == 0)
            return &table[i];
    return NULL;
}

/* Each kind of zero: the codes it goes with and the methods that find it. */
static const struct {
    qz_zero zero;
    qz_codes codes;
    unsigned methods; /* bit m for qz_method m */
} kinds[] = {
    {QZ_ZERO_NONE, QZ_INT4, 1u << QZ_ABSMAX | 1u << QZ_ABSMAX7},
    {QZ_ZERO_UINT4, QZ_UINT4, 1u << QZ_MINMAX},
    {QZ_ZERO_OFFSET, QZ_UINT4, 1u << QZ_MINMAX},
};

qz_result qz_scheme_check(const qz_scheme *scheme, qz_method method)
{
    if (scheme->size != sizeof(qz_scheme) || scheme->group_size == 0)
        return QZ_ERROR_ARGUMENT;
    if (scheme->scale_dtype != QZ_F32 && scheme->scale_dtype != QZ_F16 && scheme->scale_dtype != QZ_BF16)
        return QZ_ERROR_ARGUMENT;
    if (method == QZ_DEFAULT)
        method = scheme->method;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i].zero == scheme->zero)
            return kinds[i].codes == scheme->codes && (unsigned)method < 32 && (kinds[i].methods >> method & 1)
                       ? QZ_OK
                       : QZ_ERROR_ARGUMENT;
    return QZ_ERROR_ARGUMENT;
}

int qz_multiply(uint64_t a, uint64_t b, uint64_t *product)
{
    if (b != 0 && a > UINT64_MAX / b)
        return 0;
    *product = a * b;
    return 1;
}

static QZ_NOINLINE double bits_per_value(uint64_t bytes, uint64_t values)
{
    return 8.0 * (double)bytes / (double)values;
}

qz_result qz_scheme_sizes(const qz_scheme *scheme, uint64_t rows, uint64_t cols, qz_sizes *sizes)
{
    if (qz_scheme_check(scheme, QZ_DEFAULT) != QZ_OK || sizes->size != sizeof(qz_sizes))
        return QZ_ERROR_ARGUMENT;
    /* 2^58 columns leave room for 8 bytes a column and sums of such sizes. */
    if (cols > UINT64_C(1) << 58)
        return QZ_ERROR_SIZE;
    uint64_t scale_size = qz_dtype_size(scheme->scale_dtype);
    sizes->row_groups = cols / scheme->group_size + (cols % scheme->group_size != 0);
    sizes->code_bytes = cols / 2 + cols % 2;
    sizes->scale_bytes = sizes->row_groups * scale_size;
    sizes->zero_bytes = scheme->zero == QZ_ZERO_UINT4    ? sizes->row_groups / 2 + sizes->row_groups % 2
                        : scheme->zero == QZ_ZERO_OFFSET ? sizes->row_groups * scale_size
                                                         : 0;
    uint64_t row_bytes = sizes->code_bytes + sizes->scale_bytes + sizes->zero_bytes;
    if (!qz_multiply(row_bytes, rows, &sizes->total_bytes) || sizes->total_bytes > INT64_MAX)
        return QZ_ERROR_SIZE;
    qz_fp_state state = qz_fp_enter();
    sizes->bits_per_value = rows && cols ? bits_per_value(row_bytes, cols) : 0.0;
    qz_fp_leave(state);
    return QZ_OK;
}

struct qz_grid qz_scheme_grid(const qz_scheme *scheme, qz_method method)
{
    struct qz_grid grid = {.zero = scheme->zero, .lo = 0, .hi = 15};
    if (scheme->codes == QZ_INT4) {
        grid.lo = method == QZ_ABSMAX7 ? -7 : -8;
        grid.hi = 7;
    }
    return grid;
}
