/*
 * array.c - whole arrays with one scale: quantize, dequantize, pack and unpack
 *
 * This file has the rules for scale and zero point, and cuts the work into slices and chunks. The inner loops are
 * kernels.
 */
#include "base/fpenv.h"
#include "kernels/kernels.h"
#include "base/number.h"
#include "base/pool.h"
#include "kernels/stream.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum {
    CHUNK = 4096,          /* float16 and bfloat16 are widened this many at a time */
    SLICE_LEAST = 1 << 15, /* elements worth a slice of their own */
    SLICE_UNIT = 64        /* slices start at multiples of this: whole bytes of codes, whole cache lines of output */
};

/* ---- slices -------------------------------------------------------------------------------------------------- */

/* What a slice found, in a cache line of its own. */
struct found {
    _Alignas(64) double min;
    double max;
    int bad;
};

/* One call's work: what all slices share, and what each found. Other threads read it right after it was written: every
 * cache line counts. */
struct array_job {
    _Alignas(64) void (*work)(struct array_job *job, size_t slice, size_t start, size_t end);
    const struct qz_kernels *kernels;
    const void *src;
    void *dst;
    size_t n;
    size_t slices;
    qz_dtype dtype;
    int stream; /* output leaves through non-temporal stores */

    struct qz_steps steps; /* encoding */
    float table_f32[16];   /* decoding, by code & 15 */
    double table_f64[16];

    struct found found[QZ_SLICES_MAX];
};

static size_t slice_start(const struct array_job *job, size_t i)
{
    if (i == job->slices)
        return job->n;
    return (size_t)qz_slice_start(job->n / SLICE_UNIT, job->slices, i) * SLICE_UNIT;
}

/* Begins a call of n elements; of those that know a type of floats, `dtype` is set beside. Returns 0 without kernels. */
static int begin(struct array_job *job, const void *src, size_t n, void *dst, size_t output_bytes)
{
    job->kernels = qz_kernels_active();
    job->src = src;
    job->dst = dst;
    job->n = n;
    job->slices = n / SLICE_LEAST;
    job->slices = job->slices < 1 ? 1 : job->slices > QZ_SLICES_MAX ? QZ_SLICES_MAX : job->slices;
    job->stream = output_bytes > QZ_STREAM_LEAST;
    return job->kernels != NULL;
}

static void run_slice(void *context, size_t i)
{
    struct array_job *job = context;
    job->work(job, i, slice_start(job, i), slice_start(job, i + 1));
}

/* Runs a function on every slice. */
static void run(struct array_job *job, qz_pool *pool, void (*work)(struct array_job *, size_t, size_t, size_t))
{
    job->work = work;
    qz_pool_run(pool, job->slices, run_slice, job);
}

static int any_bad(const struct array_job *job)
{
    int bad = 0;
    for (size_t i = 0; i < job->slices; i++)
        bad |= job->found[i].bad;
    return bad;
}

/* Makes n elements of output from element i on, and returns whether anything was bad. */
typedef int produce(const struct array_job *job, size_t i, size_t n, void *to);

/*
 * Output past the caches is made a piece at a time, of PIECE bytes of source or output, whichever are more. While one
 * piece is made, the stores of the one before are under way, and source is fetched that is needed QZ_AHEAD bytes later:
 * the processor does so by itself only to the end of 4 KiB, and falls behind.
 */
enum { PIECE = 1024 };

/* Source elements take `src_bits` bits, those of output `bits`; one that does not start a byte is never asked for. */
static int produce_slice(const struct array_job *job, size_t start, size_t end, size_t src_bits, size_t bits,
                         produce *make)
{
    char *dst = (char *)job->dst + start / 8 * bits; /* slices start at multiples of SLICE_UNIT */
    if (!job->stream)
        return make(job, start, end - start, dst);
    /* buffer[from..filled) comes next in dst, at the same place in a cache line: only whole lines are sent, except at
     * the ends of the slice. */
    _Alignas(64) char buffer[PIECE + 64];
    size_t step = PIECE * 8 / (src_bits > bits ? src_bits : bits), from = (uintptr_t)dst % 64, filled = from;
    int bad = 0;
    for (size_t i = start; i < end; i += step) {
        size_t n = end - i < step ? end - i : step;
        qz_fetch((const char *)job->src + i / 8 * src_bits + QZ_AHEAD, step / 8 * src_bits);
        bad |= make(job, i, n, buffer + filled);
        filled += (n * bits + 7) / 8;
        size_t ready = i + n == end ? filled : filled / 64 * 64;
        job->kernels->stream(dst, buffer + from, ready - from);
        dst += ready - from;
        memcpy(buffer, buffer + ready, filled - ready);
        filled -= ready;
        from = 0;
    }
    job->kernels->stream_end();
    return bad;
}

/* Elements [i, i + n) of a source that is not float64, as float32: in place, or converted into buffer. */
static const float *as_f32(const struct array_job *job, size_t i, size_t n, float *buffer)
{
    if (job->dtype == QZ_F32)
        return (const float *)job->src + i;
    if (job->dtype == QZ_F16)
        job->kernels->f32_from_f16((const uint16_t *)job->src + i, n, buffer);
    else
        job->kernels->f32_from_bf16((const uint16_t *)job->src + i, n, buffer);
    return buffer;
}

/* ---- quantize ------------------------------------------------------------------------------------------------ */

static void find_range(struct array_job *job, size_t slice, size_t start, size_t end)
{
    double min = DBL_MAX, max = -DBL_MAX;
    int bad = 0;
    float buffer[CHUNK];
    size_t chunk = job->dtype == QZ_F32 || job->dtype == QZ_F64 ? end - start : CHUNK;
    for (size_t i = start; i < end; i += chunk) {
        size_t n = end - i < chunk ? end - i : chunk;
        double range[2];
        if (job->dtype == QZ_F64) {
            bad |= job->kernels->range_f64((const double *)job->src + i, n, range);
        } else {
            float narrow[2];
            bad |= job->kernels->range_f32(as_f32(job, i, n, buffer), n, narrow);
            range[0] = narrow[0];
            range[1] = narrow[1];
        }
        min = range[0] < min ? range[0] : min;
        max = range[1] > max ? range[1] : max;
    }
    job->found[slice] = (struct found){min, max, bad};
}

static int make_codes(const struct array_job *job, size_t i, size_t n, void *to)
{
    const struct qz_steps *steps = &job->steps;
    const struct qz_kernels *kernels = steps->ordinary ? job->kernels : &qz_kernels_scalar;
    int8_t *codes = to;
    float buffer[CHUNK];
    if (job->dtype == QZ_F64)
        job->kernels->codes_f64((const double *)job->src + i, n, steps->scale, steps->zero_point, codes);
    else if (job->dtype == QZ_F32)
        kernels->codes_f32((const float *)job->src + i, n, steps, codes);
    else
        for (size_t k = 0; k < n; k += CHUNK) {
            size_t count = n - k < CHUNK ? n - k : CHUNK;
            kernels->codes_f32(as_f32(job, i + k, count, buffer), count, steps, codes + k);
        }
    return 0;
}

static void write_codes(struct array_job *job, size_t slice, size_t start, size_t end)
{
    job->found[slice].bad = produce_slice(job, start, end, 8 * qz_dtype_size(job->dtype), 8, make_codes);
}

/* (max - min) / 15 and the zero point, as if doubles had no largest value. */
static void minmax_scale(double min, double max, double *scale, double *zero_point)
{
    /* A sixteenth of anything keeps all that follows finite; it is exact for values this large. */
    double shrink = max - min > 0x1p1000 || fabs(max + min) > 0x1p1000 ? 0x1p-4 : 1.0;
    min *= shrink;
    max *= shrink;
    double span = max - min, step = span / 15.0;
    double zero = rint(-0.5 - 7.5 * (max + min) / span);
    step /= shrink;

    if (step < DBL_MIN) {
        /* A subnormal step has few digits, or none. It must still reach both ends from the zero point: round it up
         * if it falls visibly short, and place zero by it instead of by the ratio of the ends. */
        if (step == 0.0 || span - 15.0 * step > step * 0x1p-20)
            step = nextafter(step, DBL_MAX);
        double least = -8.0 - rint(min / step), most = 7.0 - rint(max / step);
        if (least <= most)
            zero = zero < least ? least : zero > most ? most : zero;
        else
            zero = rint(0.5 * (least + most));
    }
    *scale = step;
    *zero_point = zero + 0.0; /* never -0 */
}

static double absmax7_scale(double min, double max)
{
    double most = max > -min ? max : -min, step = most / 7.0;
    if (step < DBL_MIN && (step == 0.0 || most - 7.0 * step > step * 0x1p-20))
        step = nextafter(step, DBL_MAX);
    return step;
}

static int code_reaches(float x, const struct qz_steps *steps, int code)
{
    return rint((double)x / steps->scale) + steps->zero_point >= code;
}

/* Fills in what float32 kernels need (kernels.h). */
static void prepare_steps(struct qz_steps *steps, double min, double max)
{
    /* Within these bounds float32 holds inverse and every product with room to spare. */
    steps->ordinary = steps->scale >= 0x1p-100 && steps->scale <= 0x1p100;
    if (!steps->ordinary)
        return;
    steps->middle = (float)(0.5 * min + 0.5 * max);
    steps->inverse = (float)(1.0 / steps->scale);
    /* Float32 errs by less than 2^-17 of a step for |x - middle| <= 8 steps; guess 2^-10 low to be never too high. */
    steps->bias = (float)((double)steps->middle / steps->scale + steps->zero_point + 8.5 - 0x1p-10);
    for (int i = 0; i < 15; i++) {
        int code = i - 7; /* the code of index i + 1 */
        float x = (float)((code - 0.5 - steps->zero_point) * steps->scale);
        while (code_reaches(x, steps, code))
            x = nextafterf(x, -FLT_MAX);
        while (!code_reaches(x, steps, code))
            x = nextafterf(x, FLT_MAX);
        steps->next[i] = x;
    }
    steps->next[15] = INFINITY;
}

/* First index and count of NaN and infinities. */
static void locate_nonfinite(const struct array_job *job, qz_detail *detail)
{
    if (!detail)
        return;
    detail->count = 0;
    for (size_t i = 0; i < job->n; i++) {
        float buffer;
        double x = job->dtype == QZ_F64 ? ((const double *)job->src)[i] : (double)*as_f32(job, i, 1, &buffer);
        if (!qz_is_finite_f64(x))
            qz_note_wrong(detail, i, x);
    }
}

static QZ_NOINLINE qz_result quantize(struct array_job *job, qz_method method, double *scale, double *zero_point,
                                      qz_pool *pool, qz_detail *detail)
{
    *scale = 1.0;
    *zero_point = 0.0;
    if (job->n == 0)
        return QZ_OK;
    run(job, pool, find_range);
    if (any_bad(job)) {
        locate_nonfinite(job, detail);
        return QZ_ERROR_NONFINITE;
    }
    double min = job->found[0].min, max = job->found[0].max;
    for (size_t i = 1; i < job->slices; i++) {
        min = job->found[i].min < min ? job->found[i].min : min;
        max = job->found[i].max > max ? job->found[i].max : max;
    }
    if (min == max && (method == QZ_MINMAX || min == 0.0)) {
        *zero_point = 0.0 - min;
        memset(job->dst, 0, job->n);
        return QZ_OK;
    }
    if (method == QZ_MINMAX)
        minmax_scale(min, max, scale, zero_point);
    else
        *scale = absmax7_scale(min, max);
    job->steps.scale = *scale;
    job->steps.zero_point = *zero_point;
    prepare_steps(&job->steps, min, max);
    run(job, pool, write_codes);
    return QZ_OK;
}

qz_result qz_quantize_i4(const void *src, qz_dtype dtype, size_t n, qz_method method, int8_t *codes, double *scale,
                         double *zero_point, qz_pool *pool, qz_detail *detail)
{
    if (!qz_is_array_dtype(dtype) || (method != QZ_MINMAX && method != QZ_ABSMAX7))
        return QZ_ERROR_ARGUMENT;
    struct array_job job;
    job.dtype = dtype;
    if (!begin(&job, src, n, codes, n))
        return QZ_ERROR_KERNELS;
    qz_fp_state state = qz_fp_enter();
    qz_result result = quantize(&job, method, scale, zero_point, pool, detail);
    qz_fp_leave(state);
    return result;
}

/* ---- dequantize ---------------------------------------------------------------------------------------------- */

static int make_values(const struct array_job *job, size_t i, size_t n, void *to)
{
    const int8_t *codes = (const int8_t *)job->src + i;
    return job->dtype == QZ_F32 ? job->kernels->decode_f32(codes, n, job->table_f32, to)
                                : job->kernels->decode_f64(codes, n, job->table_f64, to);
}

static void write_values(struct array_job *job, size_t slice, size_t start, size_t end)
{
    job->found[slice].bad = produce_slice(job, start, end, 8, 8 * qz_dtype_size(job->dtype), make_values);
}

/* First index, count and value of codes outside -8..7. */
static qz_result locate_codes(const int8_t *codes, size_t n, qz_detail *detail)
{
    if (detail) {
        detail->count = 0;
        for (size_t i = 0; i < n; i++)
            if (codes[i] < -8 || codes[i] > 7)
                qz_note_wrong(detail, i, codes[i]);
    }
    return QZ_ERROR_CODE;
}

/* Fills the tables. Returns a bit, by code & 15, for each value that is beyond the range of `dtype`. */
static unsigned fill_tables(struct array_job *job, double scale, double zero_point)
{
    unsigned beyond = 0;
    for (int i = 0; i < 16; i++) {
        int code = i < 8 ? i : i - 16;
        double steps = code - zero_point, value = steps * scale;
        /* qz_quantize_i4 may choose a code whose value is beyond the largest double by up to half a step. */
        if (!qz_is_finite_f64(value) && (fabs(steps) - 0.5) * (scale * 0x1p-10) <= DBL_MAX * 0x1p-10)
            value = steps < 0 ? -DBL_MAX : DBL_MAX;
        /* Halfway between FLT_MAX and 2^128 rounds up to infinity. */
        int fits = qz_is_finite_f64(value) && (job->dtype == QZ_F64 || fabs(value) < 0x1.ffffffp127);
        job->table_f64[i] = value;
        job->table_f32[i] = fits ? (float)value : 0.0f;
        if (!fits)
            beyond |= 1u << i;
    }
    return beyond;
}

static QZ_NOINLINE qz_result dequantize(struct array_job *job, double scale, double zero_point, qz_pool *pool,
                                        qz_detail *detail)
{
    if ((job->dtype != QZ_F32 && job->dtype != QZ_F64) || !(scale > 0.0) || !qz_is_finite_f64(scale) ||
        !qz_is_finite_f64(zero_point))
        return QZ_ERROR_ARGUMENT;
    if (job->n == 0)
        return QZ_OK;
    const int8_t *codes = job->src;
    unsigned beyond = fill_tables(job, scale, zero_point);
    run(job, pool, write_values);
    if (any_bad(job))
        return locate_codes(codes, job->n, detail);
    if (beyond) {
        qz_detail own, *found = detail ? detail : &own;
        found->count = 0;
        for (size_t i = 0; i < job->n; i++)
            if (beyond >> (codes[i] & 15) & 1)
                qz_note_wrong(found, i, job->table_f64[codes[i] & 15]);
        if (found->count > 0)
            return QZ_ERROR_RANGE;
    }
    return QZ_OK;
}

qz_result qz_dequantize_i4(const int8_t *codes, size_t n, double scale, double zero_point, void *dst, qz_dtype dtype,
                           qz_pool *pool, qz_detail *detail)
{
    struct array_job job;
    job.dtype = dtype;
    if (!begin(&job, codes, n, dst, n > SIZE_MAX / 8 ? SIZE_MAX : n * qz_dtype_size(dtype)))
        return QZ_ERROR_KERNELS;
    qz_fp_state state = qz_fp_enter();
    qz_result result = dequantize(&job, scale, zero_point, pool, detail);
    qz_fp_leave(state);
    return result;
}

/* ---- pack and unpack ----------------------------------------------------------------------------------------- */

static int make_packed(const struct array_job *job, size_t i, size_t n, void *to)
{
    return job->kernels->pack((const int8_t *)job->src + i, n, to);
}

static void pack_slice(struct array_job *job, size_t slice, size_t start, size_t end)
{
    job->found[slice].bad = produce_slice(job, start, end, 8, 4, make_packed);
}

static int make_unpacked(const struct array_job *job, size_t i, size_t n, void *to)
{
    job->kernels->unpack((const uint8_t *)job->src + i / 2, n, to);
    return 0;
}

static void unpack_slice(struct array_job *job, size_t slice, size_t start, size_t end)
{
    job->found[slice].bad = produce_slice(job, start, end, 4, 8, make_unpacked);
}

qz_result qz_pack_i4(const int8_t *codes, size_t n, uint8_t *packed, qz_pool *pool, qz_detail *detail)
{
    struct array_job job;
    if (!begin(&job, codes, n, packed, n / 2))
        return QZ_ERROR_KERNELS;
    if (n == 0)
        return QZ_OK;
    run(&job, pool, pack_slice);
    return any_bad(&job) ? locate_codes(codes, n, detail) : QZ_OK;
}

qz_result qz_unpack_i4(const uint8_t *packed, size_t n, int8_t *codes, qz_pool *pool)
{
    struct array_job job;
    if (!begin(&job, packed, n, codes, n))
        return QZ_ERROR_KERNELS;
    if (n == 0)
        return QZ_OK;
    run(&job, pool, unpack_slice);
    return QZ_OK;
}
