/*
 * group.c - grouped encoding, decoding and comparing: a matrix cut into tiles, tiles dealt to slices
 *
 * A tile holds whole groups of one or more rows and is small enough for the first-level cache: it is read once from
 * memory, and range, scales, codes and statistics are made while it is there. A group too long for a tile is worked on in
 * pieces. Tiles start at an even group of their row, so that no two tiles share a byte of codes or zeros.
 */
#include "fpenv.h"
#include "number.h"
#include "pool.h"
#include "scheme.h"
#include "stage.h"
#include "tile.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum {
    TILE_GROUPS = 512,     /* groups in a tile, a bound for the arrays of scales */
    LONG_GROUP = QZ_TILE / 2, /* groups longer than this are worked on in pieces */
    PANEL_COLS = 128,         /* wanted in a tile of a transposed matrix */
    SLICE_LEAST = 1 << 15     /* elements worth a slice of their own */
};

/* What one slice found. */
struct part {
    int nonfinite;       /* some value is NaN or infinite, or a float64 is beyond float32 */
    int overflow;        /* some decoded value does not fit the type of the output */
    uint64_t bad_group;  /* first group whose scale does not fit; UINT64_MAX for none */
    double bad_value;    /* largest magnitude in it */
    double signal, error, max_error;
    uint64_t max_index, clipped, zeroed, subnormal, replaced;
};

struct job {
    const struct qz_kernels *kernels;
    const qz_matrix *matrix; /* the floats that are read or written */
    const qz_matrix *other;  /* qz_compare_matrices: the second one */
    const qz_packed *packed;
    struct qz_fit rule;
    struct qz_grid grid;
    qz_dtype scale_dtype;
    qz_nonfinite nonfinite;
    int want_stats, stream;

    uint64_t rows, cols, group_size, row_groups;
    size_t tile_rows, run_rows;      /* a tile's rows are worked on run_rows at a time */
    uint64_t tile_cols;              /* may be more than QZ_TILE when groups are long */
    uint64_t tiles_down, tiles_across;
    size_t slices;
    void (*work)(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols);
    struct part parts[QZ_SLICES_MAX];
};

/* ---- geometry ------------------------------------------------------------------------------------------------ */

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

static size_t least(uint64_t a, uint64_t b)
{
    return (size_t)(a < b ? a : b);
}

static void set_geometry(struct job *job, uint64_t rows, uint64_t cols, uint64_t group_size, int transposed)
{
    job->rows = rows;
    job->cols = cols;
    job->group_size = group_size < cols ? group_size : cols;
    job->tiles_down = job->tiles_across = 0;
    job->slices = 0;
    if (rows == 0 || cols == 0)
        return;
    job->row_groups = divide_up(cols, job->group_size);
    job->tile_rows = job->run_rows = 1;
    if (job->group_size > LONG_GROUP) {
        job->tile_cols = 2 * job->group_size;
    } else {
        uint64_t pairs = least((transposed ? PANEL_COLS : QZ_TILE) / (2 * job->group_size), TILE_GROUPS / 2);
        job->tile_cols = 2 * job->group_size * (pairs ? pairs : 1);
    }
    if (job->tile_cols > cols)
        job->tile_cols = cols;
    if (job->group_size <= LONG_GROUP && (transposed || job->tile_cols == cols)) {
        uint64_t groups = divide_up(job->tile_cols, job->group_size);
        job->run_rows = least(QZ_TILE / (groups * job->group_size), TILE_GROUPS / groups);
        job->run_rows = job->run_rows ? job->run_rows : 1;
        job->tile_rows = least(rows, transposed ? QZ_PANEL / job->tile_cols : job->run_rows);
    }
    job->tiles_down = divide_up(rows, job->tile_rows);
    job->tiles_across = divide_up(cols, job->tile_cols);
    /* rows * cols fits 63 bits: qz_matrix_check, qz_scheme_sizes */
    uint64_t slices = rows * cols / SLICE_LEAST, tiles = job->tiles_down * job->tiles_across;
    slices = slices < 1 ? 1 : slices > QZ_SLICES_MAX ? QZ_SLICES_MAX : slices;
    job->slices = (size_t)(slices < tiles ? slices : tiles);
}

static void run_slice(void *context, size_t slice)
{
    struct job *job = context;
    struct part *part = &job->parts[slice];
    memset(part, 0, sizeof *part);
    part->bad_group = UINT64_MAX;
    qz_fp_state state = qz_fp_enter();
    uint64_t tiles = job->tiles_down * job->tiles_across;
    uint64_t end = qz_slice_start(tiles, job->slices, slice + 1);
    int transposed = qz_matrix_is_transposed(job->matrix);
    for (uint64_t i = qz_slice_start(tiles, job->slices, slice); i < end; i++) {
        /* The inner direction is the one in which memory runs. */
        uint64_t down = transposed ? i % job->tiles_down : i / job->tiles_across;
        uint64_t across = transposed ? i / job->tiles_down : i % job->tiles_across;
        uint64_t row = down * job->tile_rows, col = across * job->tile_cols;
        job->work(job, part, row, least(job->rows - row, job->tile_rows), col,
                  job->cols - col < job->tile_cols ? job->cols - col : job->tile_cols);
    }
    if (job->stream)
        job->kernels->stream_end();
    qz_fp_leave(state);
}

/* Runs all slices and adds up what they found, in slice order. */
static void run(struct job *job, qz_pool *pool, struct part *total)
{
    qz_pool_run(pool, job->slices, run_slice, job);
    memset(total, 0, sizeof *total);
    total->bad_group = UINT64_MAX;
    for (size_t i = 0; i < job->slices; i++) {
        const struct part *part = &job->parts[i];
        total->nonfinite |= part->nonfinite;
        total->overflow |= part->overflow;
        if (part->bad_group < total->bad_group) {
            total->bad_group = part->bad_group;
            total->bad_value = part->bad_value;
        }
        total->signal += part->signal;
        total->error += part->error;
        if (part->max_error > total->max_error ||
            (part->max_error == total->max_error && part->max_index < total->max_index)) {
            total->max_error = part->max_error;
            total->max_index = part->max_index;
        }
        total->clipped += part->clipped;
        total->zeroed += part->zeroed;
        total->subnormal += part->subnormal;
        total->replaced += part->replaced;
    }
}

static void fill_stats(qz_stats *stats, const struct job *job, const struct part *total)
{
    if (!stats)
        return;
    *stats = (qz_stats){
        .size = sizeof *stats,
        .count = job->rows * job->cols,
        .signal = total->signal,
        .error = total->error,
        .max_error = total->max_error,
        .max_index = total->max_index,
        .clipped = total->clipped,
        .zeroed_groups = total->zeroed,
        .subnormal_scales = total->subnormal,
        .replaced = total->replaced,
    };
}

/* A second look, in row-major order, at a matrix with values that cannot be used: NaN and infinities, or if there are
 * none (or they are welcome) float64 beyond float32. */
static qz_result locate_unusable(const qz_matrix *matrix, int nonfinite_welcome, qz_detail *detail)
{
    qz_detail nonfinite = {0}, beyond = {0};
    for (uint64_t r = 0; r < matrix->rows; r++)
        for (uint64_t c = 0; c < matrix->cols; c++) {
            double x = qz_matrix_value(matrix, r, c);
            qz_detail *found = !qz_is_finite_f64(x) ? &nonfinite : fabs(x) >= 0x1.ffffffp127 ? &beyond : NULL;
            if (found && found->count++ == 0) {
                found->index = r * matrix->cols + c;
                found->value = x;
            }
        }
    int range = nonfinite.count == 0 || nonfinite_welcome;
    if (detail) {
        detail->index = range ? beyond.index : nonfinite.index;
        detail->count = range ? beyond.count : nonfinite.count;
        detail->value = range ? beyond.value : nonfinite.value;
    }
    return range ? QZ_ERROR_RANGE : QZ_ERROR_NONFINITE;
}

/* ---- the plain form ------------------------------------------------------------------------------------------ */

static uint8_t *codes_at(const struct job *job, uint64_t row, uint64_t col)
{
    return (uint8_t *)job->packed->codes + (int64_t)row * job->packed->code_stride + col / 2;
}

static int code_at(const uint8_t *packed, uint64_t i)
{
    return packed[i / 2] >> (i % 2 * 4) & 15;
}

static void set_code(uint8_t *packed, uint64_t i, int code)
{
    int shift = (int)(i % 2 * 4);
    packed[i / 2] = (uint8_t)((packed[i / 2] & ~(15 << shift)) | (code & 15) << shift);
}

static char *scales_at(const struct job *job, uint64_t row)
{
    return (char *)job->packed->scales + (int64_t)row * job->packed->scale_stride;
}

static char *zeros_at(const struct job *job, uint64_t row)
{
    return (char *)job->packed->zeros + (int64_t)row * job->packed->zero_stride;
}

/* memcpy for a few bytes, many times: without a call, by pieces that may overlap. */
static inline void copy_few(void *dst, const void *src, size_t n)
{
    char *to = dst;
    const char *from = src;
    if (n >= 16) {
        for (size_t i = 0; i + 16 < n; i += 16)
            memcpy(to + i, from + i, 16);
        memcpy(to + n - 16, from + n - 16, 16);
    } else if (n >= 4) {
        memcpy(to, from, 4);
        memcpy(to + n / 8 * 4, from + n / 8 * 4, 4);
        memcpy(to + n - 4 - n / 8 * 4, from + n - 4 - n / 8 * 4, 4);
        memcpy(to + n - 4, from + n - 4, 4);
    } else {
        for (size_t i = 0; i < n; i++)
            to[i] = from[i];
    }
}

/* Rows of `bytes` bytes, next to each other on one side. */
static void gather(void *dst, const char *src, int64_t stride, size_t rows, size_t bytes)
{
    for (size_t r = 0; r < rows; r++)
        copy_few((char *)dst + r * bytes, src + (int64_t)r * stride, bytes);
}

static void scatter(char *dst, int64_t stride, const void *src, size_t rows, size_t bytes)
{
    for (size_t r = 0; r < rows; r++)
        copy_few(dst + (int64_t)r * stride, (const char *)src + r * bytes, bytes);
}

/* Groups of some rows: `count` in each row from `group` on, TILE_GROUPS at most in all. Several rows, or a row's start
 * that is not the first group, come with an even count or number of the group. */
struct span {
    uint64_t row, group;
    size_t rows, count;
};

/* Scales or offsets of a span, from their stored type. */
static void load_scales(const struct job *job, const char *first, int64_t stride, const struct span *span, float *dst)
{
    union {
        float f32[TILE_GROUPS];
        uint16_t f16[TILE_GROUPS];
    } stored;
    size_t size = qz_dtype_size(job->scale_dtype), n = span->rows * span->count;
    gather(&stored, first + span->group * size, stride, span->rows, span->count * size);
    if (job->scale_dtype == QZ_F32)
        memcpy(dst, stored.f32, n * sizeof *dst);
    else if (job->scale_dtype == QZ_F16)
        job->kernels->f32_from_f16(stored.f16, n, dst);
    else
        job->kernels->f32_from_bf16(stored.f16, n, dst);
}

static void store_scales(const struct job *job, char *first, int64_t stride, const struct span *span, const float *src)
{
    union {
        float f32[TILE_GROUPS];
        uint16_t f16[TILE_GROUPS];
    } stored;
    size_t size = qz_dtype_size(job->scale_dtype), n = span->rows * span->count;
    if (job->scale_dtype == QZ_F32)
        memcpy(stored.f32, src, n * sizeof *src);
    else if (job->scale_dtype == QZ_F16)
        job->kernels->f16_from_f32(src, n, stored.f16);
    else
        job->kernels->bf16_from_f32(src, n, stored.f16);
    scatter(first + span->group * size, stride, &stored, span->rows, span->count * size);
}

/* Scales, and zeros or offsets, of a span as float32. */
static void load_groups(const struct job *job, const struct span *span, float *scale, float *zero)
{
    load_scales(job, scales_at(job, span->row), job->packed->scale_stride, span, scale);
    if (job->grid.zero == QZ_ZERO_OFFSET)
        load_scales(job, zeros_at(job, span->row), job->packed->zero_stride, span, zero);
    if (job->grid.zero == QZ_ZERO_UINT4)
        for (size_t r = 0; r < span->rows; r++, zero += span->count) {
            const uint8_t *zeros = (const uint8_t *)zeros_at(job, span->row + r) + span->group / 2;
            for (size_t i = span->group % 2; i < span->count; i += 2)
                zero[i] = (float)(zeros[(span->group % 2 + i) / 2] & 15);
            for (size_t i = 1 - span->group % 2; i < span->count; i += 2)
                zero[i] = (float)(zeros[(span->group % 2 + i) / 2] >> 4);
        }
}

/* The reverse. A span that starts at an odd group keeps the neighbour's half of the byte they share. */
static void store_groups(const struct job *job, const struct span *span, const float *scale, const float *zero)
{
    store_scales(job, scales_at(job, span->row), job->packed->scale_stride, span, scale);
    if (job->grid.zero == QZ_ZERO_OFFSET)
        store_scales(job, zeros_at(job, span->row), job->packed->zero_stride, span, zero);
    if (job->grid.zero == QZ_ZERO_UINT4)
        for (size_t r = 0; r < span->rows; r++, zero += span->count) {
            uint8_t *zeros = (uint8_t *)zeros_at(job, span->row + r) + span->group / 2;
            size_t i = 0;
            if (span->group % 2) {
                *zeros = (uint8_t)(*zeros | (int)zero[i++] << 4);
                zeros++;
            }
            for (; i < span->count; i += 2)
                *zeros++ = (uint8_t)((int)zero[i] | (i + 1 < span->count ? (int)zero[i + 1] : 0) << 4);
        }
}

/*
 * A tile as group kernels see it: rows of `pitch` floats, one after another, so that group follows group and byte follows
 * byte. Rows that do not end with a whole group and byte are filled up. A single row needs none of this.
 */
struct run {
    uint64_t row, col;
    size_t rows, cols, pitch;
};

/* The run of a tile: columns of a row with few of them, filled up to whole groups of an even length together. */
static struct run run_of(const struct job *job, const struct qz_tile *tile)
{
    struct run run = {tile->row, tile->col, tile->rows, tile->cols, tile->cols};
    if (tile->rows > 1)
        run.pitch = (size_t)(divide_up(tile->cols, job->group_size) * job->group_size);
    return run;
}

/* Whether it can be one run at all: an odd number of odd groups would put rows in the middle of bytes. */
static int is_one_run(const struct run *run)
{
    return run->rows == 1 || run->pitch % 2 == 0;
}

static struct run single_row(const struct run *run, size_t r)
{
    return (struct run){run->row + r, run->col, 1, run->cols, run->cols};
}

/* Decodes a run: whole groups from a group's start, or part of one group. Values go to dst, rows `pitch` apart. With `to`
 * (one row only) they also leave for there by non-temporal stores. */
static void decode_run(const struct job *job, const struct run *run, float *dst, float *to)
{
    float scale[TILE_GROUPS], zero[TILE_GROUPS];
    size_t n = run->rows * run->pitch;
    uint64_t group = run->col / job->group_size, last = (run->col + run->cols - 1) / job->group_size;
    struct span span = {run->row, group, run->rows, (size_t)(last - group + 1)};
    load_groups(job, &span, scale, zero);

    const uint8_t *codes = codes_at(job, run->row, run->col);
    uint8_t staged[QZ_TILE / 2 + 1];
    if (run->rows > 1) {
        size_t bytes = run->cols / 2 + run->cols % 2;
        if (bytes != run->pitch / 2)
            memset(staged, 0, n / 2);
        for (size_t r = 0; r < run->rows; r++)
            copy_few(staged + r * (run->pitch / 2), codes + (int64_t)r * job->packed->code_stride, bytes);
        codes = staged;
    } else if (run->col % 2) { /* a long group of odd length puts the next one in the middle of a byte */
        memset(staged, 0, n / 2 + 1);
        for (size_t i = 0; i < n; i++)
            set_code(staged, i, code_at(codes, i + 1));
        codes = staged;
    }
    size_t groups = span.rows * span.count, group_size = groups == 1 ? n : (size_t)job->group_size;
    if (!to) {
        job->kernels->group_decode(codes, n, group_size, &job->grid, scale, zero, dst);
        return;
    }
    /* An even number of groups at a time, so that each starts a byte; or a piece of a single one. */
    size_t step_groups = QZ_STAGE_STEP / sizeof *dst / group_size / 2 * 2, sent = 0;
    size_t step = groups == 1 ? QZ_STAGE_STEP / sizeof *dst : (step_groups ? step_groups : 2) * group_size;
    for (size_t i = 0; i < n; i += step) {
        size_t count = n - i < step ? n - i : step, g = groups == 1 ? 0 : i / group_size;
        job->kernels->group_decode(codes + i / 2, count, groups == 1 ? count : group_size, &job->grid, scale + g, zero + g,
                                   dst + i);
        qz_stage_send(job->kernels, to, dst, &sent, (i + count) * sizeof *dst, i + count == n);
    }
}

/* Decodes rows of a tile, run_rows at most, to rows of `stride`. */
static void decode_rows(const struct job *job, const struct qz_tile *tile, float *dst, ptrdiff_t stride)
{
    struct run run = run_of(job, tile);
    if (!is_one_run(&run)) {
        for (size_t r = 0; r < run.rows; r++) {
            struct run single = single_row(&run, r);
            decode_run(job, &single, dst + (ptrdiff_t)r * stride, NULL);
        }
    } else if (run.rows == 1 || (run.pitch == run.cols && stride == (ptrdiff_t)run.pitch)) {
        decode_run(job, &run, dst, NULL);
    } else {
        float values[QZ_TILE];
        decode_run(job, &run, values, NULL);
        for (size_t r = 0; r < run.rows; r++)
            memcpy(dst + (ptrdiff_t)r * stride, values + r * run.pitch, run.cols * sizeof *dst);
    }
}

/* Decodes any tile to rows of `stride`. */
static void decode_to(const struct job *job, const struct qz_tile *tile, float *dst, ptrdiff_t stride)
{
    for (size_t r = 0; r < tile->rows; r += job->run_rows) {
        struct qz_tile some = {tile->row + r, tile->col, least(job->run_rows, tile->rows - r), tile->cols};
        decode_rows(job, &some, dst + (ptrdiff_t)r * stride, stride);
    }
}

/* ---- statistics ---------------------------------------------------------------------------------------------- */

/* Squares of values in this range stay far from the ends of float32's. */
static int squares_fit(float largest)
{
    return largest >= 0x1p-20f && largest <= 0x1p40f;
}

/* Adds lane by lane, in double. factor: what the values were multiplied with. */
static void add_sums(struct part *part, const struct qz_sums *sums, double factor)
{
    double signal = 0.0, error = 0.0;
    for (size_t lane = 0; lane < QZ_SUMS_LANES; lane++) {
        signal += (double)sums->signal[lane];
        error += (double)sums->error[lane];
    }
    part->signal += signal / factor / factor;
    part->error += error / factor / factor;
}

/* Notes an error of this size at flat index `index`, if it is the largest so far or an earlier one as large. */
static void note_error(struct part *part, double error, uint64_t index)
{
    if (error > part->max_error || (error == part->max_error && index < part->max_index)) {
        part->max_error = error;
        part->max_index = index;
    }
}

/* Flat index of element i of a run. */
static uint64_t flat_index(const struct job *job, const struct run *run, size_t i)
{
    return (run->row + i / run->pitch) * job->cols + run->col + i % run->pitch;
}

/* Adds the error of y against x: a run's values, all |x| <= largest. */
static void add_error(const struct job *job, struct part *part, const float *x, const float *y, const struct run *run,
                      float largest)
{
    struct qz_sums sums = {{0}, {0}, 0};
    float scaled_x[QZ_TILE], scaled_y[QZ_TILE], factor = 1.0f;
    size_t n = run->rows * run->pitch;
    if (!squares_fit(largest)) { /* bring the values near 1 by a power of two */
        int exponent;
        frexpf(largest, &exponent);
        factor = ldexpf(1.0f, exponent < -120 ? 120 : -exponent);
        for (size_t i = 0; i < n; i++) {
            scaled_x[i] = x[i] * factor;
            scaled_y[i] = y[i] * factor;
        }
        x = scaled_x;
        y = scaled_y;
    }
    job->kernels->error(x, y, n, &sums);
    add_sums(part, &sums, (double)factor);
    double most = (double)sums.max_error / (double)factor;
    if (most > 0 && most >= part->max_error)
        note_error(part, most, flat_index(job, run, job->kernels->find_error(x, y, n, sums.max_error)));
}

static float larger(float a, float b)
{
    return a > b ? a : b;
}

/* Largest magnitude of groups with these ranges. */
static float largest_magnitude(const struct job *job, const float *min, const float *max, size_t groups)
{
    float low[2], high[2];
    job->kernels->range_f32(min, groups, low);
    job->kernels->range_f32(max, groups, high);
    return larger(-low[0], high[1]) + 0.0f;
}

/* ---- encode -------------------------------------------------------------------------------------------------- */

/* What is known of a run of groups of one row while it is encoded. */
struct groups {
    size_t count;
    float min[TILE_GROUPS], max[TILE_GROUPS];
    float scale[TILE_GROUPS], inverse[TILE_GROUPS], zero[TILE_GROUPS];
    int exact; /* some group needs the exact rule: its inverse is 0, its scale is not */
};

/* The range of values that may hold NaN (to become 0) and infinities (to become the largest finite magnitude). */
struct clip {
    float min, max;
    int nan, above, below;
};

static void clip_measure(struct clip *clip, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (x[i] != x[i])
            clip->nan = 1;
        else if (x[i] > FLT_MAX)
            clip->above = 1;
        else if (x[i] < -FLT_MAX)
            clip->below = 1;
        else {
            clip->min = x[i] < clip->min ? x[i] : clip->min;
            clip->max = x[i] > clip->max ? x[i] : clip->max;
        }
    }
}

static float clip_limit(const struct clip *clip)
{
    if (clip->min > clip->max) /* nothing finite */
        return 0.0f;
    return clip->max > -clip->min ? clip->max : -clip->min;
}

static uint64_t clip_apply(float *x, size_t n, float limit)
{
    uint64_t replaced = 0;
    for (size_t i = 0; i < n; i++)
        if (!qz_is_finite(x[i])) {
            x[i] = x[i] != x[i] ? 0.0f : x[i] > 0 ? limit : -limit;
            replaced++;
        }
    return replaced;
}

static const struct clip clip_nothing = {INFINITY, -INFINITY, 0, 0, 0};

/* Looks closer at what fit noticed in the groups of a run. */
static void look_closer(const struct job *job, struct part *part, struct groups *groups, const struct run *run)
{
    size_t row_groups = groups->count / run->rows;
    for (size_t g = 0; g < groups->count; g++) {
        uint64_t flat = (run->row + g / row_groups) * job->row_groups + run->col / job->group_size + g % row_groups;
        float scale = groups->scale[g], magnitude = fabsf(scale);
        float zero = job->grid.zero == QZ_ZERO_OFFSET ? groups->zero[g] : 0.0f;
        /* scale * 15 + offset must not overflow on its way to a value that would fit */
        int overflows = job->grid.zero == QZ_ZERO_OFFSET && !qz_is_finite(scale * 15.0f);
        if (!qz_is_finite(scale) || !qz_is_finite(zero) || overflows) {
            if (flat < part->bad_group) {
                part->bad_group = flat;
                part->bad_value = (double)larger(-groups->min[g], groups->max[g]);
            }
            groups->inverse[g] = groups->zero[g] = groups->scale[g] = 0.0f; /* the call fails; stay finite */
            continue;
        }
        if (scale == 0.0f)
            part->zeroed += groups->min[g] != zero || groups->max[g] != zero;
        else if (magnitude < (job->scale_dtype == QZ_F16 ? 0x1p-14f : FLT_MIN))
            part->subnormal++;
        if (scale != 0.0f && groups->inverse[g] == 0.0f) {
            groups->exact = 1;
            if (job->grid.zero == QZ_ZERO_UINT4) {
                float lo = groups->min[g] < 0 ? groups->min[g] : 0;
                double wanted = rint(-(double)lo / (double)scale);
                groups->zero[g] = wanted < 0 ? 0.0f : wanted > 15 ? 15.0f : (float)wanted;
            }
        }
    }
}

/* Largest magnitude both as max and as -max: the first one wins. Taking away the other end tells fit. */
static void break_ties(const struct job *job, struct groups *groups, const float *x, size_t n)
{
    for (size_t g = 0; g < groups->count; g++) {
        if (groups->max[g] != -groups->min[g])
            continue;
        size_t i = g * (size_t)job->group_size, end = least(i + job->group_size, n);
        while (i < end && fabsf(x[i]) != groups->max[g])
            i++;
        if (i < end && x[i] > 0)
            groups->min[g] = 0.0f;
    }
}

static unsigned fit(const struct job *job, struct groups *groups)
{
    return job->kernels->fit(&job->rule, groups->count, groups->min, groups->max, groups->scale, groups->inverse,
                             groups->zero);
}

static int needs_exact(const struct groups *groups, size_t g)
{
    return groups->inverse[g] == 0.0f && groups->scale[g] != 0.0f;
}

/* Codes of groups that are fitted; returns how many were clipped. Element i of x has code i of `codes`. */
static size_t group_codes(const struct job *job, const struct groups *groups, const float *x, size_t n,
                          size_t group_size, uint8_t *codes)
{
    float others[QZ_TILE];
    const float *plain = x;
    if (groups->exact) { /* the kernel must not see values that need the exact rule: x - offset could overflow */
        memcpy(others, x, n * sizeof *x);
        for (size_t i = 0; i < n; i++)
            if (needs_exact(groups, i / group_size))
                others[i] = 0.0f;
        plain = others;
    }
    size_t clipped =
        job->kernels->group_codes(plain, n, group_size, &job->grid, groups->inverse, groups->zero, codes);
    for (size_t i = 0; i < n && groups->exact; i++) {
        size_t g = i / group_size;
        if (needs_exact(groups, g))
            set_code(codes, i, qz_exact_code(x[i], groups->scale[g], groups->zero[g], &job->grid, &clipped));
    }
    return clipped;
}

/* Puts n codes in place, from column col on. */
static void store_codes(const struct job *job, uint64_t row, uint64_t col, size_t n, const uint8_t *codes)
{
    uint8_t *to = codes_at(job, row, col);
    if (col % 2 == 0 && job->stream)
        job->kernels->stream(to, codes, n / 2 + n % 2);
    else if (col % 2 == 0)
        memcpy(to, codes, n / 2 + n % 2);
    else
        for (size_t i = 0; i < n; i++) {
            if (i % 2)
                to[(i + 1) / 2] = 0;
            set_code(to, i + 1, code_at(codes, i));
        }
}

/* Where the codes of a run are made: in place, or in `staged` if they must be moved from there. */
static uint8_t *codes_buffer(const struct job *job, const struct run *run, uint8_t *staged)
{
    int direct = !job->stream && run->col % 2 == 0 && run->rows == 1;
    return direct ? codes_at(job, run->row, run->col) : staged;
}

/* Puts the codes of a run of values x in place and adds its statistics. */
static void finish_codes(const struct job *job, struct part *part, const struct groups *groups, const struct run *run,
                         const float *x, size_t group_size, uint8_t *codes)
{
    size_t n = run->rows * run->pitch, bytes = run->cols / 2 + run->cols % 2;
    for (size_t r = 0; r < run->rows && run->rows > 1; r++) {
        uint8_t *from = codes + r * (run->pitch / 2), *to = codes_at(job, run->row + r, run->col);
        copy_few(to, from, bytes);
        if (run->cols % 2)
            to[bytes - 1] &= 15; /* what fills the row up is no part of it */
    }
    if (run->rows == 1 && codes != codes_at(job, run->row, run->col))
        store_codes(job, run->row, run->col, n, codes);
    if (!job->want_stats)
        return;

    float largest = largest_magnitude(job, groups->min, groups->max, groups->count), decoded[QZ_TILE];
    struct qz_sums sums = {{0}, {0}, 0};
    if (squares_fit(largest)) {
        job->kernels->group_error(x, codes, n, group_size, &job->grid, groups->scale, groups->zero, &sums);
        add_sums(part, &sums, 1.0);
        if (sums.max_error == 0 || (double)sums.max_error < part->max_error)
            return;
    }
    job->kernels->group_decode(codes, n, group_size, &job->grid, groups->scale, groups->zero, decoded);
    if (squares_fit(largest))
        note_error(part, (double)sums.max_error,
                   flat_index(job, run, job->kernels->find_error(x, decoded, n, sums.max_error)));
    else
        add_error(job, part, x, decoded, run, largest);
}

/* Fits and encodes groups as if nothing about them were special; returns 0 if something is. */
static int encode_plain(const struct job *job, struct groups *groups, const float *x, size_t n, size_t group_size,
                        uint8_t *codes, size_t *clipped)
{
    if (job->kernels->group_range(x, n, group_size, groups->min, groups->max) || fit(job, groups))
        return 0;
    *clipped =
        job->kernels->group_codes(x, n, group_size, &job->grid, groups->inverse, groups->zero, codes);
    return 1;
}

/* The same for any groups. Returns the values that were encoded, x or `clean`; NULL if they may not be. */
static const float *encode_special(const struct job *job, struct part *part, struct groups *groups,
                                   const struct run *run, const float *x, size_t group_size, float *clean,
                                   uint8_t *codes)
{
    size_t n = run->rows * run->pitch;
    if (job->kernels->group_range(x, n, group_size, groups->min, groups->max)) {
        if (job->nonfinite == QZ_REFUSE) {
            part->nonfinite = 1;
            return NULL;
        }
        memcpy(clean, x, n * sizeof *x);
        x = clean;
        for (size_t i = 0; i < n; i += group_size) {
            struct clip clip = clip_nothing;
            size_t length = least(group_size, n - i);
            clip_measure(&clip, clean + i, length);
            part->replaced += clip_apply(clean + i, length, clip_limit(&clip));
        }
        job->kernels->group_range(x, n, group_size, groups->min, groups->max);
    }
    unsigned flags = fit(job, groups);
    if (flags & QZ_FIT_TIE) {
        break_ties(job, groups, x, n);
        flags |= fit(job, groups);
    }
    if (flags & (QZ_FIT_TINY | QZ_FIT_HUGE))
        look_closer(job, part, groups, run);
    part->clipped += group_codes(job, groups, x, n, group_size, codes);
    return x;
}

/* A run of whole groups with the values x. */
static void encode_run(const struct job *job, struct part *part, const struct run *run, const float *x)
{
    struct groups groups;
    size_t group_size = (size_t)job->group_size, n = run->rows * run->pitch, clipped;
    groups.count = (size_t)divide_up(n, group_size);
    groups.exact = 0;
    uint8_t staged[QZ_TILE / 2];
    uint8_t *codes = codes_buffer(job, run, staged);
    float clean[QZ_TILE];
    if (encode_plain(job, &groups, x, n, group_size, codes, &clipped))
        part->clipped += clipped;
    else if (!(x = encode_special(job, part, &groups, run, x, group_size, clean, codes)))
        return;
    struct span span = {run->row, run->col / job->group_size, run->rows, groups.count / run->rows};
    store_groups(job, &span, groups.scale, groups.zero);
    finish_codes(job, part, &groups, run, x, group_size, codes);
}

/* Encodes rows of a tile that were loaded to x, rows `stride` apart. */
static void encode_rows(const struct job *job, struct part *part, const struct qz_tile *tile, const float *x,
                        ptrdiff_t stride)
{
    struct run run = run_of(job, tile);
    /* Zeros that fill a group up change neither scale nor statistics, except where they would change an offset. */
    if (!is_one_run(&run) || (run.pitch != run.cols && job->grid.zero == QZ_ZERO_OFFSET)) {
        for (size_t r = 0; r < run.rows; r++) {
            struct run single = single_row(&run, r);
            encode_run(job, part, &single, x + (ptrdiff_t)r * stride);
        }
        return;
    }
    float filled[QZ_TILE];
    if (run.rows > 1 && (run.pitch != run.cols || stride != (ptrdiff_t)run.pitch)) {
        for (size_t r = 0; r < run.rows; r++) {
            memcpy(filled + r * run.pitch, x + (ptrdiff_t)r * stride, run.cols * sizeof *x);
            memset(filled + r * run.pitch + run.cols, 0, (run.pitch - run.cols) * sizeof *x);
        }
        x = filled;
    }
    encode_run(job, part, &run, x);
}

static void encode_tile(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols)
{
    float buffer[QZ_PANEL];
    struct qz_tile tile = {row, col, rows, (size_t)cols};
    ptrdiff_t stride;
    int overflow;
    const float *x = qz_tile_load(job->kernels, job->matrix, &tile, buffer, &stride, &overflow);
    if (overflow && job->nonfinite == QZ_CLIP) {
        /* Infinities of the source may be clipped; finite values that became infinite may not. */
        for (size_t i = 0; i < rows * tile.cols; i++) {
            double value = qz_matrix_value(job->matrix, row + i / tile.cols, col + i % tile.cols);
            part->nonfinite |= !qz_is_finite(buffer[i]) && qz_is_finite_f64(value);
        }
    }
    for (size_t r = 0; r < rows; r += job->run_rows) {
        struct qz_tile some = {row + r, col, least(job->run_rows, rows - r), tile.cols};
        encode_rows(job, part, &some, x + (ptrdiff_t)r * stride, stride);
    }
}

/* One or two groups too long for a tile, each in two passes over pieces. */
static void encode_long(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols)
{
    (void)rows;
    for (uint64_t start = col; start < col + cols; start += job->group_size) {
        uint64_t end = start + least(job->group_size, col + cols - start);
        struct groups groups;
        struct clip clip = clip_nothing;
        float buffer[QZ_TILE], first_extreme = 0.0f;
        ptrdiff_t stride;
        int overflow;
        groups.count = 1;
        groups.exact = 0;

        for (uint64_t c = start; c < end; c += QZ_TILE) {
            struct qz_tile piece = {row, c, 1, least(QZ_TILE, end - c)};
            const float *x = qz_tile_load(job->kernels, job->matrix, &piece, buffer, &stride, &overflow);
            float min, max;
            if (job->kernels->group_range(x, piece.cols, piece.cols, &min, &max)) {
                if (job->nonfinite == QZ_REFUSE) {
                    part->nonfinite = 1;
                    return;
                }
                for (size_t i = 0; overflow && i < piece.cols; i++)
                    part->nonfinite |= !qz_is_finite(x[i]) && qz_is_finite_f64(qz_matrix_value(job->matrix, row, c + i));
                clip_measure(&clip, x, piece.cols);
            } else {
                clip.min = min < clip.min ? min : clip.min;
                clip.max = max > clip.max ? max : clip.max;
            }
        }
        float limit = clip_limit(&clip);
        groups.min[0] = clip.below || (clip.nan && clip.min > 0) || clip.min > clip.max ? (clip.below ? -limit : 0) : clip.min;
        groups.max[0] = clip.above || (clip.nan && clip.max < 0) || clip.min > clip.max ? (clip.above ? limit : 0) : clip.max;

        unsigned flags = fit(job, &groups);
        if (flags & QZ_FIT_TIE) {
            for (uint64_t c = start; c < end && first_extreme == 0.0f; c += QZ_TILE) {
                struct qz_tile piece = {row, c, 1, least(QZ_TILE, end - c)};
                const float *x = qz_tile_load(job->kernels, job->matrix, &piece, buffer, &stride, &overflow);
                for (size_t i = 0; i < piece.cols && first_extreme == 0.0f; i++)
                    if (fabsf(x[i]) >= limit) /* an infinity counts as what it becomes */
                        first_extreme = x[i];
            }
            if (first_extreme > 0)
                groups.min[0] = 0.0f;
            flags |= fit(job, &groups);
        }
        struct run whole = {row, start, 1, (size_t)(end - start), (size_t)(end - start)};
        if (flags & (QZ_FIT_TINY | QZ_FIT_HUGE))
            look_closer(job, part, &groups, &whole);
        struct span span = {row, start / job->group_size, 1, 1};
        store_groups(job, &span, groups.scale, groups.zero);

        for (uint64_t c = start; c < end; c += QZ_TILE) {
            struct qz_tile piece = {row, c, 1, least(QZ_TILE, end - c)};
            const float *x = qz_tile_load(job->kernels, job->matrix, &piece, buffer, &stride, &overflow);
            if (clip.nan || clip.above || clip.below) {
                if (x != buffer)
                    memcpy(buffer, x, piece.cols * sizeof *x);
                part->replaced += clip_apply(buffer, piece.cols, limit);
                x = buffer;
            }
            struct run run = run_of(job, &piece);
            uint8_t staged[QZ_TILE / 2], *codes = codes_buffer(job, &run, staged);
            part->clipped += group_codes(job, &groups, x, piece.cols, piece.cols, codes);
            finish_codes(job, part, &groups, &run, x, piece.cols, codes);
        }
    }
}

static int strides_fit(const qz_packed *packed, const qz_sizes *sizes, uint64_t rows)
{
    return rows < 2 || (packed->code_stride >= (int64_t)sizes->code_bytes &&
                        packed->scale_stride >= (int64_t)sizes->scale_bytes &&
                        packed->zero_stride >= (int64_t)sizes->zero_bytes);
}

/* Rows that follow one another without gaps or padding, in the floats and in the plain form, are one long row. */
static int rows_merge(const qz_scheme *scheme, const qz_matrix *matrix, const qz_packed *packed, const qz_sizes *sizes)
{
    return matrix->rows > 1 && qz_matrix_is_contiguous(matrix) && matrix->cols % 2 == 0 &&
           scheme->group_size <= matrix->cols && matrix->cols % scheme->group_size == 0 &&
           packed->code_stride == (int64_t)sizes->code_bytes && packed->scale_stride == (int64_t)sizes->scale_bytes &&
           (scheme->zero == QZ_ZERO_NONE || packed->zero_stride == (int64_t)sizes->zero_bytes) &&
           (scheme->zero != QZ_ZERO_UINT4 || sizes->row_groups % 2 == 0);
}

/* Checks the arguments that encode, decode and compare share and fills in the job. */
static qz_result prepare(struct job *job, const qz_scheme *scheme, qz_method method, const qz_matrix *matrix,
                         qz_matrix *merged, const qz_packed *packed)
{
    qz_sizes sizes = {.size = sizeof sizes};
    if (qz_scheme_check(scheme, method) != QZ_OK || qz_dtype_size(matrix->dtype) == 0)
        return QZ_ERROR_ARGUMENT;
    if (!qz_matrix_check(matrix))
        return QZ_ERROR_SIZE;
    qz_result result = qz_scheme_sizes(scheme, matrix->rows, matrix->cols, &sizes);
    if (result != QZ_OK)
        return result;
    if (!strides_fit(packed, &sizes, matrix->rows))
        return QZ_ERROR_ARGUMENT;
    job->kernels = qz_kernels_active();
    if (!job->kernels)
        return QZ_ERROR_KERNELS;
    if (method == QZ_DEFAULT)
        method = scheme->method;
    job->rule = (struct qz_fit){method, scheme->zero, scheme->scale_dtype};
    job->grid = qz_scheme_grid(scheme, method);
    job->scale_dtype = scheme->scale_dtype;
    job->packed = packed;
    *merged = *matrix;
    if (rows_merge(scheme, matrix, packed, &sizes)) {
        merged->cols *= merged->rows;
        merged->rows = 1;
    }
    job->matrix = merged;
    set_geometry(job, merged->rows, merged->cols, scheme->group_size, qz_matrix_is_transposed(merged));
    return QZ_OK;
}

static QZ_NOINLINE qz_result encode(const qz_scheme *scheme, const qz_matrix *src, const qz_packed *dst,
                                    const qz_options *options, qz_stats *stats, qz_detail *detail)
{
    static const qz_options defaults = QZ_OPTIONS_INIT;
    if (!options)
        options = &defaults;
    if (options->size != sizeof *options || (options->nonfinite != QZ_REFUSE && options->nonfinite != QZ_CLIP))
        return QZ_ERROR_ARGUMENT;
    struct job job;
    struct part total;
    qz_matrix merged;
    qz_result result = prepare(&job, scheme, options->method, src, &merged, dst);
    if (result != QZ_OK)
        return result;
    job.nonfinite = options->nonfinite;
    job.want_stats = stats != NULL;
    job.stream = job.rows * job.cols / 2 > QZ_STREAM_LEAST;
    job.work = job.group_size > LONG_GROUP ? encode_long : encode_tile;
    run(&job, options->pool, &total);
    if (total.nonfinite)
        return locate_unusable(src, options->nonfinite == QZ_CLIP, detail);
    if (total.bad_group != UINT64_MAX) {
        if (detail) {
            detail->group = total.bad_group;
            detail->value = total.bad_value;
        }
        return QZ_ERROR_SCALE;
    }
    fill_stats(stats, &job, &total);
    return QZ_OK;
}

qz_result qz_encode(const qz_scheme *scheme, const qz_matrix *src, const qz_packed *dst, const qz_options *options,
                    qz_stats *stats, qz_detail *detail)
{
    qz_fp_state state = qz_fp_enter();
    qz_result result = encode(scheme, src, dst, options, stats, detail);
    qz_fp_leave(state);
    return result;
}

/* ---- decode and compare -------------------------------------------------------------------------------------- */

/* Calls step for pieces of a tile that decode_run can take: rows of it, or parts of long groups. */
static void each_run(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols,
                     void (*step)(struct job *, struct part *, const struct qz_tile *))
{
    uint64_t length = job->group_size > LONG_GROUP ? job->group_size : cols;
    for (uint64_t start = col; start < col + cols; start += length) {
        uint64_t end = start + least(length, col + cols - start);
        for (uint64_t c = start; c < end; c += QZ_TILE) {
            struct qz_tile tile = {row, c, rows, least(QZ_TILE, end - c)};
            step(job, part, &tile);
        }
    }
}

static void decode_step(struct job *job, struct part *part, const struct qz_tile *tile)
{
    float buffer[QZ_PANEL], *direct = qz_tile_direct(job->matrix, tile);
    ptrdiff_t stride = direct ? (ptrdiff_t)job->matrix->row_stride : (ptrdiff_t)tile->cols;
    if (direct && job->stream) {
        struct run run = run_of(job, tile);
        for (size_t r = 0; r < tile->rows; r++) {
            struct run single = single_row(&run, r);
            decode_run(job, &single, buffer, direct + (ptrdiff_t)r * stride);
        }
    } else {
        decode_to(job, tile, direct ? direct : buffer, stride);
        if (!direct)
            part->overflow |= qz_tile_store(job->kernels, job->matrix, tile, buffer, job->stream);
    }
}

static void decode_tile(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols)
{
    each_run(job, part, row, rows, col, cols, decode_step);
}

/* First value that does not fit the output, found by decoding again, slowly. */
static qz_result locate_overflow(const struct job *job, qz_detail *detail)
{
    float limit = job->matrix->dtype == QZ_F16 ? 65520.0f : 0x1.ffp127f;
    uint64_t count = 0;
    for (uint64_t r = 0; r < job->rows; r++)
        for (uint64_t c = 0; c < job->cols; c++) {
            float value;
            decode_run(job, &(struct run){r, c, 1, 1, 1}, &value, NULL);
            if (fabsf(value) >= limit && qz_is_finite(value) && count++ == 0 && detail) {
                detail->index = r * job->cols + c;
                detail->value = (double)value;
            }
        }
    if (detail)
        detail->count = count;
    return QZ_ERROR_RANGE;
}

static QZ_NOINLINE qz_result decode(const qz_scheme *scheme, const qz_packed *src, const qz_matrix *dst,
                                    qz_pool *pool, qz_detail *detail)
{
    struct job job;
    struct part total;
    qz_matrix merged;
    qz_result result = prepare(&job, scheme, QZ_DEFAULT, dst, &merged, src);
    if (result != QZ_OK)
        return result;
    job.stream = job.rows * job.cols * qz_dtype_size(dst->dtype) > QZ_STREAM_LEAST;
    job.work = decode_tile;
    run(&job, pool, &total);
    return total.overflow ? locate_overflow(&job, detail) : QZ_OK;
}

qz_result qz_decode(const qz_scheme *scheme, const qz_packed *src, const qz_matrix *dst, qz_pool *pool,
                    qz_detail *detail)
{
    qz_fp_state state = qz_fp_enter();
    qz_result result = decode(scheme, src, dst, pool, detail);
    qz_fp_leave(state);
    return result;
}

static void compare_step(struct job *job, struct part *part, const struct qz_tile *tile)
{
    float buffer[QZ_PANEL], other_buffer[QZ_PANEL];
    ptrdiff_t stride, other_stride = (ptrdiff_t)tile->cols;
    int overflow, other_overflow = 0;
    const float *x = qz_tile_load(job->kernels, job->matrix, tile, buffer, &stride, &overflow);
    const float *y = other_buffer;
    if (job->other)
        y = qz_tile_load(job->kernels, job->other, tile, other_buffer, &other_stride, &other_overflow);
    else
        decode_to(job, tile, other_buffer, other_stride);
    for (size_t r = 0; r < tile->rows; r++) {
        const float *a = x + (ptrdiff_t)r * stride, *b = y + (ptrdiff_t)r * other_stride;
        float range[2], other_range[2];
        if (job->kernels->range_f32(a, tile->cols, range) || job->kernels->range_f32(b, tile->cols, other_range)) {
            part->nonfinite = 1;
            return;
        }
        float largest = larger(larger(-range[0], range[1]), larger(-other_range[0], other_range[1]));
        struct run single = {tile->row + r, tile->col, 1, tile->cols, tile->cols};
        add_error(job, part, a, b, &single, largest);
    }
}

static void compare_tile(struct job *job, struct part *part, uint64_t row, size_t rows, uint64_t col, uint64_t cols)
{
    each_run(job, part, row, rows, col, cols, compare_step);
}

static QZ_NOINLINE qz_result compare(const qz_scheme *scheme, const qz_packed *packed, const qz_matrix *a,
                                     qz_pool *pool, qz_stats *stats, qz_detail *detail)
{
    struct job job;
    struct part total;
    qz_matrix merged;
    qz_detail found = QZ_DETAIL_INIT;
    qz_result result = prepare(&job, scheme, QZ_DEFAULT, a, &merged, packed);
    if (result != QZ_OK)
        return result;
    job.other = NULL;
    job.stream = 0;
    job.work = compare_tile;
    run(&job, pool, &total);
    if (total.nonfinite) {
        result = locate_unusable(a, 0, &found);
        if (found.count == 0) { /* then it is the packed side */
            result = qz_validate(scheme, packed, a->rows, a->cols, &found);
            result = result == QZ_OK ? QZ_ERROR_RANGE : result;
        }
        if (detail)
            *detail = found;
        return result;
    }
    fill_stats(stats, &job, &total);
    return QZ_OK;
}

qz_result qz_compare(const qz_scheme *scheme, const qz_packed *packed, const qz_matrix *a, qz_pool *pool,
                     qz_stats *stats, qz_detail *detail)
{
    qz_fp_state state = qz_fp_enter();
    qz_result result = compare(scheme, packed, a, pool, stats, detail);
    qz_fp_leave(state);
    return result;
}

static QZ_NOINLINE qz_result compare_matrices(const qz_matrix *a, const qz_matrix *b, qz_pool *pool, qz_stats *stats,
                                              qz_detail *detail)
{
    if (a->rows != b->rows || a->cols != b->cols || qz_dtype_size(a->dtype) == 0 || qz_dtype_size(b->dtype) == 0)
        return QZ_ERROR_ARGUMENT;
    if (!qz_matrix_check(a) || !qz_matrix_check(b))
        return QZ_ERROR_SIZE;
    struct job job;
    struct part total;
    qz_detail found = QZ_DETAIL_INIT;
    job.kernels = qz_kernels_active();
    if (!job.kernels)
        return QZ_ERROR_KERNELS;
    job.matrix = a;
    job.other = b;
    job.stream = 0;
    set_geometry(&job, a->rows, a->cols, LONG_GROUP, qz_matrix_is_transposed(a));
    job.work = compare_tile;
    run(&job, pool, &total);
    if (total.nonfinite) {
        qz_result result = locate_unusable(a, 0, &found);
        if (found.count == 0)
            result = locate_unusable(b, 0, &found);
        if (detail)
            *detail = found;
        return result;
    }
    fill_stats(stats, &job, &total);
    return QZ_OK;
}

qz_result qz_compare_matrices(const qz_matrix *a, const qz_matrix *b, qz_pool *pool, qz_stats *stats,
                              qz_detail *detail)
{
    qz_fp_state state = qz_fp_enter();
    qz_result result = compare_matrices(a, b, pool, stats, detail);
    qz_fp_leave(state);
    return result;
}

/* ---- validate ------------------------------------------------------------------------------------------------ */

qz_result qz_validate(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, uint64_t cols,
                      qz_detail *detail)
{
    qz_sizes sizes = {.size = sizeof sizes};
    qz_result result = qz_scheme_sizes(scheme, rows, cols, &sizes);
    if (result != QZ_OK)
        return result;
    if (!strides_fit(packed, &sizes, rows))
        return QZ_ERROR_ARGUMENT;
    struct job job;
    job.kernels = &qz_kernels_scalar;
    job.packed = packed;
    job.scale_dtype = scheme->scale_dtype;
    job.grid = qz_scheme_grid(scheme, QZ_DEFAULT);
    for (uint64_t r = 0; r < rows && cols; r++) {
        uint64_t bad = UINT64_MAX;
        float value = 0.0f;
        for (uint64_t g = 0; g < sizes.row_groups && bad == UINT64_MAX; g++) {
            float scale, zero = 0.0f;
            load_groups(&job, &(struct span){r, g, 1, 1}, &scale, &zero);
            if (!qz_is_finite(scale) || !qz_is_finite(zero)) {
                bad = g;
                value = qz_is_finite(scale) ? zero : scale;
            }
        }
        int padding = cols % 2 ? code_at(codes_at(&job, r, 0), cols) : 0;
        if (scheme->zero == QZ_ZERO_UINT4 && sizes.row_groups % 2)
            padding |= code_at((const uint8_t *)zeros_at(&job, r), sizes.row_groups);
        if (padding && bad == UINT64_MAX) {
            bad = sizes.row_groups - 1;
            value = (float)padding;
        }
        if (bad != UINT64_MAX) {
            if (detail) {
                detail->group = r * sizes.row_groups + bad;
                detail->value = (double)value;
            }
            return QZ_ERROR_PACKED;
        }
    }
    return QZ_OK;
}
