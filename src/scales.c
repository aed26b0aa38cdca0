/*
 * scales.c - scales of a byte, and the super scales that groups share
 *
 * fit finds scales as float32. Types of a byte are rounded to here, in plain C: there is one for each group only. Super
 * scales of a stretch of a row follow from the scales they serve; those of whole rows, or of the matrix, must be known
 * before the first group is encoded and follow from the largest magnitude alone.
 */
#include "fpenv.h"
#include "group.h"
#include "number.h"

#include <float.h>
#include <math.h>

/* What the plain scale of the group with the largest magnitude becomes, in multiples of the super scale: less than the
 * type can hold, since a search makes some scales larger. How much less was found by measurement (docs/accuracy.md). */
static float top_of(qz_dtype dtype)
{
    switch (dtype) {
    case QZ_E4M3:
        return 448.0f / 1.75f;
    case QZ_I6:
        return 31.0f / 1.1f;
    case QZ_I7:
        return 63.0f / 1.05f;
    default:
        return 63.0f;
    }
}

static float rounded_super(const struct job *job, float super)
{
    return (job->super_dtype == QZ_F32 ? super : qz_f32_from_f16(qz_f16_from_f32(super))) + 0.0f;
}

static uint8_t e8m0_from(float scale)
{
    /* The power of two below 1.5 * scale: for E2M1, two binades below the largest magnitude (OCP MX 1.0, 6.3). */
    float wanted = scale * 1.5f;
    return wanted < FLT_MIN ? 0 : (uint8_t)(qz_bits(wanted) >> 23);
}

static uint8_t integer_byte(float scale, float super, int lo, int hi)
{
    if (super == 0.0f || scale == 0.0f)
        return 0;
    float steps = rintf(scale / super);
    return (uint8_t)(int)(steps < (float)lo ? (float)lo : steps > (float)hi ? (float)hi : steps);
}

static uint8_t byte_of(const struct job *job, float scale, float super)
{
    switch (job->scale_dtype) {
    case QZ_E4M3:
        return super == 0.0f ? 0 : qz_e4m3_from_f32(scale / super);
    case QZ_E8M0:
        return e8m0_from(scale);
    case QZ_I7:
        return (uint8_t)(integer_byte(scale, super, -64, 63) * 2);
    case QZ_I6:
        return integer_byte(scale, super, -32, 31);
    default:
        return integer_byte(scale, super, 0, 63);
    }
}

void qz_make_supers(const struct job *job, const struct run *run, const struct groups *groups)
{
    size_t row_groups = groups->count / run->rows, step;
    if (job->super_groups == 0 || job->super_groups >= QZ_WHOLE_MATRIX)
        return;
    for (size_t g = 0; g < groups->count; g += step) {
        float largest = 0.0f, offset = 0.0f;
        step = qz_least(job->super_groups, row_groups - g % row_groups);
        for (size_t i = g; i < g + step; i++) {
            largest = qz_larger(largest, fabsf(groups->scale[i]));
            if (job->scale_dtype == QZ_U6)
                offset = qz_larger(offset, -groups->zero[i]);
        }
        float super[2] = {rounded_super(job, largest / top_of(job->scale_dtype)), rounded_super(job, offset / 63.0f)};
        qz_store_super(job, run->row + g / row_groups, run->col / job->group_size + g % row_groups, super);
    }
}

void qz_search_supers(const struct job *job, const struct run *run, struct groups *groups)
{
    enum { MOST = QZ_SUPER_GROUPS_MOST };
    size_t row_groups = groups->count / run->rows, step;
    for (size_t g = 0; g < groups->count; g += step) {
        float part[5][MOST] = {{0}}, super[2]; /* filled up with zeros to a multiple of eight */
        uint8_t scale[MOST], minimum[MOST];
        step = qz_least(job->super_groups, row_groups - g % row_groups);
        qz_load_super(job, run->row + g / row_groups, run->col / job->group_size + g % row_groups, super);
        if (!qz_is_finite(super[0]) || !qz_is_finite(super[1])) /* which is an error */
            continue;
        for (size_t i = 0; i < step; i++) {
            part[0][i] = groups->scale[g + i];
            part[1][i] = -groups->zero[g + i];
            part[2][i] = groups->curve[g + i];
            part[3][i] = groups->slope[g + i];
            part[4][i] = groups->rest[g + i];
        }
        qz_affine_super((step + 7) / 8 * 8, part[0], part[1], part[2], part[3], part[4], super, scale, minimum);
        qz_store_super(job, run->row + g / row_groups, run->col / job->group_size + g % row_groups, super);
        for (size_t i = 0; i < step; i++) {
            groups->scale[g + i] = super[0] * (float)scale[i];
            groups->zero[g + i] = -(super[1] * (float)minimum[i]);
        }
    }
}

unsigned qz_round_scales(const struct job *job, const struct run *run, struct groups *groups)
{
    size_t row_groups = groups->count / run->rows;
    unsigned flags = 0;
    for (size_t g = 0; g < groups->count; g++) {
        float super[2];
        qz_load_super(job, run->row + g / row_groups, run->col / job->group_size + g % row_groups, super);
        int second = job->scale_dtype == QZ_I7 && groups->zero[g] != 0.0f;
        uint8_t byte = groups->bytes[g] = (uint8_t)(byte_of(job, groups->scale[g], super[0]) | second);
        float scale = groups->scale[g] = qz_byte_scale(job, byte, super[0], &groups->zero[g]) + 0.0f;
        if (job->scale_dtype == QZ_U6) {
            uint8_t offset = integer_byte(-groups->zero[g], super[1], 0, 63);
            groups->bytes[QZ_TILE_GROUPS + g] = offset;
            groups->zero[g] = -(super[1] * (float)offset);
        }
        int huge = !(fabsf(scale) <= 0x1p120f), tiny = fabsf(scale) < FLT_MIN;
        groups->inverse[g] = huge || tiny ? 0.0f : 1.0f / scale;
        if (huge)
            flags |= QZ_FIT_HUGE;
        if (tiny && (groups->min[g] != 0.0f || groups->max[g] != 0.0f))
            flags |= QZ_FIT_TINY;
    }
    return flags;
}

/* ---- super scales of whole rows and matrices ------------------------------------------------------------------ */

struct measure {
    struct job *job;
    const qz_matrix *matrix;
    float largest[QZ_SLICES_MAX];
};

/* Largest finite magnitude. What is not finite is found again, and judged, by the encoding. */
static float largest_of(const struct qz_kernels *kernels, const float *x, size_t n)
{
    float range[2], largest = 0.0f;
    if (!kernels->range_f32(x, n, range))
        return qz_larger(-range[0], range[1]) + 0.0f;
    for (size_t i = 0; i < n; i++)
        if (qz_is_finite(x[i]) && fabsf(x[i]) > largest)
            largest = fabsf(x[i]);
    return largest;
}

static void measure_rows(struct measure *measure, size_t slice, uint64_t row, size_t rows)
{
    struct job *job = measure->job;
    const qz_matrix *matrix = measure->matrix;
    float buffer[QZ_TILE], largest[QZ_TILE] = {0};
    uint64_t width = QZ_TILE / rows;
    for (uint64_t col = 0; col < matrix->cols; col += width) {
        struct qz_tile tile = {row, col, rows, qz_least(width, matrix->cols - col)};
        ptrdiff_t stride;
        int overflow;
        const float *x = qz_tile_load(job->kernels, matrix, &tile, buffer, &stride, &overflow);
        for (size_t r = 0; r < rows; r++)
            largest[r] = qz_larger(largest[r], largest_of(job->kernels, x + (ptrdiff_t)r * stride, tile.cols));
    }
    for (size_t r = 0; r < rows; r++) {
        float super[2] = {rounded_super(job, largest[r] / fabsf(job->rule.end) / top_of(job->scale_dtype)), 0.0f};
        measure->largest[slice] = qz_larger(measure->largest[slice], super[0]);
        if (!job->shared_super)
            qz_store_super(job, row + r, 0, super);
    }
}

static void measure_slice(void *context, size_t slice)
{
    struct measure *measure = context;
    qz_fp_state state = qz_fp_enter();
    size_t together = qz_matrix_is_transposed(measure->matrix) ? 16 : 1;
    uint64_t rows = measure->matrix->rows, end = qz_slice_start(rows, measure->job->slices, slice + 1);
    measure->largest[slice] = 0.0f;
    for (uint64_t row = qz_slice_start(rows, measure->job->slices, slice); row < end; row += together)
        measure_rows(measure, slice, row, qz_least(together, end - row));
    qz_fp_leave(state);
}

void qz_measure_supers(struct job *job, const qz_matrix *matrix, qz_pool *pool)
{
    if (job->super_groups < QZ_WHOLE_MATRIX || matrix->rows == 0 || matrix->cols == 0)
        return;
    struct measure measure = {.job = job, .matrix = matrix};
    size_t slices = job->slices;
    job->slices = qz_least(slices, matrix->rows);
    qz_pool_run(pool, job->slices, measure_slice, &measure);
    float super[2] = {0};
    for (size_t i = 0; i < job->slices; i++)
        super[0] = qz_larger(super[0], measure.largest[i]);
    if (job->shared_super)
        qz_store_super(job, 0, 0, super);
    job->slices = slices;
}
