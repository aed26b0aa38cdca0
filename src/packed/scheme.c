/*
 * scheme.c - the tables of schemes and of the numbers that codes stand for, and the bytes that each scheme needs
 */
#include "scheme.h"
#include "../base/small.h"
#include "scale_type.h"
#include "../base/fpenv.h"
#include "../base/number.h"
#include "../scales/reference.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define ROW(its_name, its_codes, its_scale, its_zero, its_method, its_group, text)                                     \
    .size = sizeof(qz_scheme), .name = its_name, .codes = its_codes, .scale_dtype = its_scale, .zero = its_zero,       \
    .method = its_method, .group_size = its_group, .summary = text

static const qz_scheme table[] = {
    {ROW("int4", QZ_INT4, QZ_F16, QZ_ZERO_NONE, QZ_SEARCH, 32, "symmetric -8..7, a scale for each group")},
    {ROW("uint4", QZ_UINT4, QZ_F16, QZ_ZERO_UINT4, QZ_SEARCH, 32,
         "asymmetric 0..15, a scale and a 4-bit zero for each group")},
    {ROW("uint4_offset", QZ_UINT4, QZ_F16, QZ_ZERO_OFFSET, QZ_SEARCH, 32,
         "asymmetric 0..15, a scale and a float offset for each group")},
    {ROW("uint4_float", QZ_UINT4, QZ_F16, QZ_ZERO_FLOAT, QZ_SEARCH, 64,
         "asymmetric 0..15, a scale and a float zero for each group")},
    {ROW("nf4", QZ_NF4, QZ_F16, QZ_ZERO_NONE, QZ_SEARCH, 64, "quantiles of the normal distribution (bitsandbytes)"),
     .rule = QZ_RULE_BNB_NF4},
    {ROW("fp4", QZ_FP4, QZ_F16, QZ_ZERO_NONE, QZ_SEARCH, 32, "E2M1 floats")},
    {ROW("fp4_bnb", QZ_FP4_BNB, QZ_F32, QZ_ZERO_NONE, QZ_SEARCH, 64, "the 4-bit floats of bitsandbytes (0.50, CPU)"),
     .rule = QZ_RULE_BNB_FP4},
    {ROW("mxfp4", QZ_FP4, QZ_E8M0, QZ_ZERO_NONE, QZ_SEARCH, 32, "E2M1 floats, scales are powers of two (OCP MX)"),
     .rule = QZ_RULE_MXFP4},
    {ROW("nvfp4", QZ_FP4, QZ_E4M3, QZ_ZERO_NONE, QZ_SEARCH, 16,
         "E2M1 floats, E4M3 scales times one float32 for all (NVIDIA); reference is compressed-tensors 0.20"),
     .positive = 1, .super_dtype = QZ_F32, .super_size = QZ_WHOLE_MATRIX, .rule = QZ_RULE_COMPRESSED_TENSORS_NVFP4},
    {ROW("iq4_nl", QZ_IQ4, QZ_F16, QZ_ZERO_NONE, QZ_SEARCH, 32,
         "the table of ggml's IQ4_NL; reference is ggml built without FMA"),
     .rule = QZ_RULE_IQ4_NL},
    {ROW("iq4_xs", QZ_IQ4, QZ_I6, QZ_ZERO_NONE, QZ_SEARCH, 32,
         "the same table, 6-bit scales times a float16 (ggml built without FMA)"),
     .super_dtype = QZ_F16, .super_size = 256, .rule = QZ_RULE_IQ4_XS},
    {ROW("q4_k", QZ_UINT4, QZ_U6, QZ_ZERO_OFFSET, QZ_SEARCH, 32,
         "asymmetric 0..15, 6-bit scales and offsets times two float16 (ggml's Q4_K, built without FMA)"),
     .super_dtype = QZ_F16, .super_size = 256, .rule = QZ_RULE_Q4_K},
    {ROW("q4_0", QZ_INT4, QZ_F16, QZ_ZERO_NONE, QZ_SEARCH, 32, "ggml's Q4_0"), .rule = QZ_RULE_Q4_0},
    {ROW("q4_1", QZ_UINT4, QZ_F16, QZ_ZERO_OFFSET, QZ_SEARCH, 32, "ggml's Q4_1"), .rule = QZ_RULE_Q4_1},
    {ROW("matmulnbits", QZ_INT4, QZ_F16, QZ_ZERO_NONE, QZ_SEARCH, 128, "ONNX Runtime's MatMulNBits (1.32), symmetric"),
     .rule = QZ_RULE_MATMULNBITS},
    {ROW("matmulnbits_zero", QZ_UINT4, QZ_F16, QZ_ZERO_UINT4, QZ_SEARCH, 128, "the same with 4-bit zeros"),
     .rule = QZ_RULE_MATMULNBITS_ZERO},
    {ROW("compressed_tensors", QZ_INT4, QZ_F16, QZ_ZERO_NONE, QZ_SEARCH, 128,
         "compressed-tensors' pack-quantized (0.20), symmetric; reference computes in the weights' type"),
     .rule = QZ_RULE_COMPRESSED_TENSORS, .positive = 1},
    {ROW("compressed_tensors_zero", QZ_UINT4, QZ_F16, QZ_ZERO_UINT4, QZ_SEARCH, 128, "the same with 4-bit zeros"),
     .rule = QZ_RULE_COMPRESSED_TENSORS_ZERO},
    {ROW("gptq", QZ_INT4, QZ_F16, QZ_ZERO_NONE, QZ_SEARCH, 128,
         "GPTQ checkpoints, symmetric; reference is AutoGPTQ 0.7.1, in float32"),
     .rule = QZ_RULE_GPTQ, .positive = 1},
    {ROW("gptq_zero", QZ_UINT4, QZ_F16, QZ_ZERO_UINT4, QZ_SEARCH, 128, "the same with 4-bit zeros"),
     .rule = QZ_RULE_GPTQ_ZERO},
    {ROW("awq", QZ_UINT4, QZ_F16, QZ_ZERO_UINT4, QZ_SEARCH, 128,
         "AWQ checkpoints; reference is AutoAWQ 0.2.9, in float16"),
     .rule = QZ_RULE_AWQ},
    {ROW("dual4", QZ_DUAL, QZ_I7, QZ_ZERO_NONE, QZ_SEARCH, 32,
         "one of two tables for each group, 7-bit scales times a float32 for each row: the most accurate"),
     .super_dtype = QZ_F32, .super_size = QZ_WHOLE_ROW},
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

/* ---- what codes stand for ------------------------------------------------------------------------------------- */

/* Where a value halfway between two neighbours goes. */
enum tie { TIE_EVEN /* to the one with an even code */, TIE_UP, TIE_DOWN, TIE_INWARDS };

static const struct {
    enum tie tie;
    int uniform;
    float shift;
    float values[16]; /* by code */
} meanings[] = {
    [QZ_INT4] = {TIE_EVEN, 1, 0, {0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1}},
    [QZ_UINT4] = {TIE_EVEN, 1, 0, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}},
    [QZ_NF4] = {TIE_DOWN,
                0,
                0,
                {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
                 -0.18477343022823334f, -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f,
                 0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f,
                 0.7229568362236023f, 1.0f}},
    [QZ_FP4] = {TIE_EVEN, 0, 0, {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6}},
    [QZ_FP4_BNB] = {TIE_INWARDS,
                    0,
                    0,
                    {0, 0.0625f / 12, 8.0f / 12, 1, 4.0f / 12, 6.0f / 12, 2.0f / 12, 3.0f / 12, -0.0f, -0.0625f / 12,
                     -8.0f / 12, -1, -4.0f / 12, -6.0f / 12, -2.0f / 12, -3.0f / 12}},
    [QZ_IQ4] = {TIE_UP, 0, 0, {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}},
    [QZ_DUAL] = {TIE_UP, 0, 5, {-127, -101, -80, -62, -47, -33, -21, -10, 0, 10, 21, 33, 47, 63, 82, 118}},
    [QZ_TABLE] = {TIE_UP, 0, 0, {0}},
};

static int is_known(qz_codes codes)
{
    return codes >= QZ_INT4 && codes <= QZ_TABLE;
}

static const float *values_of(const qz_scheme *scheme)
{
    return scheme->codes == QZ_TABLE ? scheme->table : meanings[scheme->codes].values;
}

/* Sorted values and the codes they have; of equal values, the one with the lower code comes last, and is chosen. */
static void sort_values(struct qz_grid *grid)
{
    const int first = grid->value[8] < grid->value[0] ? 8 : 0; /* integers with a sign are in order from there on */
    for (int k = 0; k < 16; k++) {
        int i = k, code = k ^ first;
        float value = grid->value[code];
        for (; i > 0 && (grid->sorted[i - 1] > value || (grid->sorted[i - 1] == value && grid->code[i - 1] < code));
             i--) {
            grid->sorted[i] = grid->sorted[i - 1];
            grid->code[i] = grid->code[i - 1];
        }
        grid->sorted[i] = value;
        grid->code[i] = code;
    }
}

/* The least float32 that is nearer to the upper of two values, or as near and theirs by the rule for ties. */
static float threshold(float lower, float upper, int lower_code, enum tie tie)
{
    double middle = 0.5 * (double)lower + 0.5 * (double)upper;
    int to_lower = tie == TIE_DOWN || (tie == TIE_EVEN && lower_code % 2 == 0) || (tie == TIE_INWARDS && lower >= 0);
    float least = (float)middle;
    if ((double)least < middle || ((double)least == middle && to_lower))
        least = nextafterf(least, INFINITY);
    return least;
}

static QZ_NOINLINE void fill_grid(struct qz_grid *grid, const qz_scheme *scheme)
{
    sort_values(grid);
    enum tie tie = meanings[scheme->codes].tie;
    for (int i = 0; i < 15; i++)
        grid->upper[i] = threshold(grid->sorted[i], grid->sorted[i + 1], grid->code[i], tie);
    for (int i = 0; i < 15; i++) /* what reaches one of two equal values reaches the next one */
        if (grid->sorted[i] == grid->sorted[i + 1])
            grid->upper[i] = i > 0 ? grid->upper[i - 1] : -INFINITY;
    grid->upper[15] = INFINITY;
    grid->least = grid->sorted[0] - 0.5f * (grid->sorted[1] - grid->sorted[0]);
    grid->most = grid->sorted[15] + 0.5f * (grid->sorted[15] - grid->sorted[14]);
}

/* Equal cells from the first of some thresholds to the last one, see qz_grid in kernels.h. */
struct cells {
    float factor, bias;
    float upper[QZ_CELLS];   /* the threshold in it, or infinity */
    int below[QZ_CELLS + 1]; /* how many are below it */
};

/* Returns 0 if some cell would hold more than one; equal ones count once, for what lies between them is never chosen.
 */
static QZ_NOINLINE int cut_cells(const float *threshold, int count, float first, float last, struct cells *cells)
{
    int i = 0;
    cells->factor = (float)(QZ_CELLS - 1) / (last - first);
    cells->bias = -first * cells->factor;
    for (int k = 0; k < QZ_CELLS; k++) {
        cells->below[k] = i;
        cells->upper[k] = INFINITY;
        for (; i < count; i++) {
            float cell = rintf(fmaf(threshold[i], cells->factor, cells->bias));
            if (cell > (float)k && k < QZ_CELLS - 1)
                break;
            if (cells->upper[k] < INFINITY && threshold[i] != cells->upper[k])
                return 0;
            cells->upper[k] = threshold[i];
        }
    }
    cells->below[QZ_CELLS] = count;
    return 1;
}

/* Cells of a grid, if they hold no more than one threshold each, and those of clipping are alone at the ends. */
static QZ_NOINLINE void fill_cells(struct qz_grid *grid)
{
    struct cells cells;
    float threshold[17];
    threshold[0] = grid->least;
    memcpy(threshold + 1, grid->upper, 15 * sizeof *threshold);
    threshold[16] = nextafterf(grid->most, INFINITY);
    if (!cut_cells(threshold, 17, grid->least, grid->most, &cells) || cells.below[1] != 1 ||
        cells.below[QZ_CELLS - 1] != 16)
        return;
    grid->has_cells = 1;
    grid->cells.factor = cells.factor;
    grid->cells.bias = cells.bias;
    memcpy(grid->cells.upper, cells.upper, sizeof grid->cells.upper);
    for (int k = 0; k < 2 * QZ_CELLS; k++) {
        int i = cells.below[k / 2 + k % 2] - 1;
        grid->cells.code[k] = (uint8_t)grid->code[i < 0 ? 0 : i > 15 ? 15 : i];
    }
}

void qz_scheme_values(const qz_scheme *scheme, struct qz_grid *grid)
{
    grid->zero = scheme->codes == QZ_DUAL ? QZ_ZERO_FLOAT : scheme->zero;
    grid->uniform = meanings[scheme->codes].uniform;
    grid->shift = meanings[scheme->codes].shift;
    memcpy(grid->value, values_of(scheme), sizeof grid->value);
}

struct qz_grid qz_scheme_grid(const qz_scheme *scheme, qz_method method)
{
    struct qz_grid grid = {.hi = 15};
    qz_scheme_values(scheme, &grid);
    qz_fp_state state = qz_fp_enter();
    fill_grid(&grid, scheme);
    if (!grid.uniform)
        fill_cells(&grid);
    for (int i = 0; i < 16; i++)
        grid.has_zero |= grid.value[i] == 0.0f && scheme->codes != QZ_DUAL && scheme->zero <= QZ_ZERO_UINT4;
    qz_fp_leave(state);
    if (scheme->codes == QZ_INT4) {
        grid.lo = method == QZ_ABSMAX7 ? -7 : -8;
        grid.hi = 7;
    }
    return grid;
}

struct qz_fit qz_scheme_fit(const qz_scheme *scheme, qz_method method, const struct qz_grid *grid)
{
    struct qz_fit fit = {.method = QZ_ABSMAX, .zero = grid->zero, .scale_dtype = scheme->scale_dtype};
    if (scheme->zero != QZ_ZERO_NONE)
        fit.method = QZ_MINMAX;
    if (fit.scale_dtype != QZ_F16 && fit.scale_dtype != QZ_BF16)
        fit.scale_dtype = QZ_F32; /* other types are rounded to later */
    float low = grid->sorted[0], high = grid->sorted[15];
    fit.positive =
        scheme->positive || method == QZ_ABSMAX7 || qz_is_unsigned_float(scheme->scale_dtype) || low == -high;
    if (fit.positive)
        fit.end = low < 0 && -low < high ? -low : high;
    else
        fit.end = -low > high ? low : high;
    return fit;
}

/* ---- what there is -------------------------------------------------------------------------------------------- */

#define METHOD(m) (1u << (m))

const char *qz_method_name(qz_method method)
{
    static const char *const names[] = {
        [QZ_DEFAULT] = "default", [QZ_MINMAX] = "minmax", [QZ_ABSMAX] = "absmax",       [QZ_ABSMAX7] = "absmax7",
        [QZ_SEARCH] = "search",   [QZ_EXACT] = "exact",   [QZ_REFERENCE] = "reference",
    };
    return (size_t)method < sizeof names / sizeof names[0] ? names[method] : NULL;
}

/* The methods that find scales, with these codes and these zeros. */
static unsigned methods_of(const qz_scheme *scheme)
{
    if (scheme->codes == QZ_UINT4)
        switch (scheme->zero) {
        case QZ_ZERO_UINT4:
        case QZ_ZERO_OFFSET:
        case QZ_ZERO_FLOAT:
            return METHOD(QZ_MINMAX) | METHOD(QZ_SEARCH) | (scheme->super_size ? 0 : METHOD(QZ_EXACT));
        default:
            return 0;
        }
    if (scheme->zero != QZ_ZERO_NONE)
        return 0;
    return METHOD(QZ_ABSMAX) | METHOD(QZ_SEARCH) | METHOD(QZ_EXACT) |
           (scheme->codes == QZ_INT4 ? METHOD(QZ_ABSMAX7) : 0);
}

/* Scales are stored as they are, or as multiples of super scales, which some types need and others may not have. */
static int scales_make_sense(const qz_scheme *scheme)
{
    int supers = scheme->super_size != 0;
    if (supers && scheme->group_size > QZ_SUPER_MOST)
        return 0;
    if (supers && ((scheme->super_dtype != QZ_F32 && scheme->super_dtype != QZ_F16) ||
                   (scheme->super_size < QZ_WHOLE_MATRIX &&
                    (scheme->super_size % scheme->group_size != 0 || scheme->super_size > QZ_SUPER_MOST ||
                     scheme->super_size / scheme->group_size > QZ_SUPER_GROUPS_MOST))))
        return 0;
    const struct qz_scale_type *type = qz_scale_type_of(scheme->scale_dtype);
    if (!type || (type->dual != (scheme->codes == QZ_DUAL)) ||
        !((unsigned)scheme->zero < 32 && type->zeros >> scheme->zero & 1))
        return 0;
    switch (type->super) {
    case QZ_SUPER_NEVER:
        return !supers;
    case QZ_SUPER_MAY:
        return 1;
    case QZ_SUPER_ALWAYS:
        return supers;
    default:
        return supers && scheme->super_size < QZ_WHOLE_MATRIX;
    }
}

static int table_makes_sense(const qz_scheme *scheme)
{
    if (scheme->codes != QZ_TABLE)
        return !scheme->table;
    if (!scheme->table)
        return 0;
    int differ = 0, above = 0;
    for (int i = 0; i < 16; i++) {
        if (!(fabsf(scheme->table[i]) <= 0x1p60f)) /* NaN fails too */
            return 0;
        differ |= scheme->table[i] != scheme->table[0];
        above |= scheme->table[i] > 0;
    }
    return differ && (above || !scheme->positive);
}

/* Whether the scheme's rule makes what the scheme holds. */
static int rule_suits(const qz_scheme *scheme)
{
    const struct qz_rule_info *info = qz_rule_info(scheme->rule);
    if (!info)
        return 0;
    int scale = info->scale_dtype ? scheme->scale_dtype == info->scale_dtype : qz_is_array_dtype(scheme->scale_dtype);
    return scale && scheme->codes == info->codes && scheme->zero == info->zero &&
           (info->group == 0 || scheme->group_size == info->group) && scheme->super_size == info->super_size &&
           (info->super_size == 0 || scheme->super_dtype == info->super_dtype);
}

qz_result qz_scheme_check(const qz_scheme *scheme, qz_method method)
{
    if (scheme->size != sizeof(qz_scheme) || scheme->group_size == 0 || !is_known(scheme->codes) ||
        !scales_make_sense(scheme) || !table_makes_sense(scheme) || !qz_rule_name(scheme->rule))
        return QZ_ERROR_ARGUMENT;
    if (method == QZ_DEFAULT)
        method = scheme->method;
    if (method == QZ_REFERENCE)
        return rule_suits(scheme) ? QZ_OK : QZ_ERROR_ARGUMENT;
    return (unsigned)method < 32 && (methods_of(scheme) >> method & 1) ? QZ_OK : QZ_ERROR_ARGUMENT;
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

qz_result qz_scheme_bytes(const qz_scheme *scheme, uint64_t rows, uint64_t cols, qz_sizes *sizes)
{
    /* 2^57 columns leave room for 20 bytes a column and sums of such sizes. */
    if (cols > UINT64_C(1) << 57)
        return QZ_ERROR_SIZE;
    uint64_t scale_size = qz_dtype_size(scheme->scale_dtype);
    sizes->row_groups = qz_divide_up(cols, scheme->group_size);
    sizes->code_bytes = qz_divide_up(cols, 2);
    sizes->scale_bytes = sizes->row_groups * scale_size;
    sizes->zero_bytes = scheme->zero == QZ_ZERO_NONE    ? 0
                        : scheme->zero == QZ_ZERO_UINT4 ? qz_divide_up(sizes->row_groups, 2)
                                                        : sizes->row_groups * scale_size;
    uint64_t supers = scheme->super_size == 0                 ? 0
                      : scheme->super_size == QZ_WHOLE_MATRIX ? rows && cols
                                                              : qz_divide_up(cols, scheme->super_size);
    sizes->super_bytes =
        supers * qz_dtype_size(scheme->super_dtype) * (qz_scale_type_of(scheme->scale_dtype)->pairs ? 2 : 1);
    uint64_t shared = scheme->super_size == QZ_WHOLE_MATRIX ? sizes->super_bytes : 0;
    uint64_t row_bytes = sizes->code_bytes + sizes->scale_bytes + sizes->zero_bytes + sizes->super_bytes - shared;
    if (!qz_multiply(row_bytes, rows, &sizes->total_bytes) || sizes->total_bytes > INT64_MAX - shared)
        return QZ_ERROR_SIZE;
    sizes->total_bytes += shared;
    return QZ_OK;
}

qz_result qz_scheme_sizes(const qz_scheme *scheme, uint64_t rows, uint64_t cols, qz_sizes *sizes)
{
    if (qz_scheme_check(scheme, QZ_DEFAULT) != QZ_OK || sizes->size != sizeof(qz_sizes))
        return QZ_ERROR_ARGUMENT;
    qz_result result = qz_scheme_bytes(scheme, rows, cols, sizes);
    if (result != QZ_OK)
        return result;
    qz_fp_state state = qz_fp_enter();
    sizes->bits_per_value = rows && cols ? bits_per_value(sizes->total_bytes, rows * cols) : 0.0;
    qz_fp_leave(state);
    return QZ_OK;
}
