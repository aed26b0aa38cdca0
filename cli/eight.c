/*
 * eight.c - encodes tensors in codes of eight bits (q8_0), for tensors that lose too much in four
 *
 * quantize_file.h has the rule of these codes.
 */
#include "eight.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "resources.h"
#include "stats.h"

enum { RUN = 1 << 15 }; /* values that are worked on together: whole groups, which pieces of a tensor are as well */

/* Memory for a run. */
typedef struct run {
    float values[RUN], decoded[RUN];
    int8_t codes[RUN];
    uint16_t scales[RUN / QZ_EIGHT_GROUP];
} run;

/* A tensor on its way. */
typedef struct work {
    encoder *encoder;
    job *job;
    const qz_tensor *tensor;
    run *run;
} work;

/* ---- values that cannot be encoded ---- */

static uint64_t row_length(const qz_tensor *t)
{
    return t->shape[t->rank - 1];
}

/* Values from `first` on form a group with NaN, an infinity, or values that are too large. */
static int fail_group(const encoder *e, const job *j, const qz_tensor *t, uint64_t first, const float *values,
                      size_t count)
{
    char name[NAME_TEXT], at[SHAPE_TEXT];
    uint64_t index[QZ_MAX_RANK], cols = row_length(t);
    float largest = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(values[i]) && t->element != QZ_ELEMENT_F64)
            return fail_nonfinite(e, j, t);
        largest = fabsf(values[i]) > largest ? fabsf(values[i]) : largest;
    }
    matrix_index(t, t->rank - 1, first / cols, first % cols, index);
    at_tensor(t->name, t->name_length);
    at_index(t, index);
    return fail(REFUSED,
                "tensor '%s': the scale of the group at %s, whose largest magnitude is %g, does not fit float16, which "
                "q8_0 has; keep the tensor, or choose a scheme with float32 scales",
                qz_escape(t->name, t->name_length, name, sizeof name), shape_text(t->rank, index, at, sizeof at),
                (double)largest);
}

/* NaN becomes 0, infinity the largest finite magnitude of the group; returns how many there were. */
static uint64_t clip_group(float *values, size_t count)
{
    float largest = 0;
    uint64_t found = 0;
    for (size_t i = 0; i < count; i++) {
        const float magnitude = fabsf(values[i]);
        largest = isfinite(magnitude) && magnitude > largest ? magnitude : largest;
    }
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i])) {
            values[i] = isnan(values[i]) ? 0 : copysignf(largest, values[i]);
            found++;
        }
    return found;
}

/* Whether a number of float64 lies beyond float32: it became an infinity that was none. */
static int is_beyond(const qz_tensor *t, const void *data, size_t count)
{
    const double *values = data;
    int found = 0;
    for (size_t i = 0; i < count && t->element == QZ_ELEMENT_F64; i++)
        found |= isfinite(values[i]) && !isfinite((float)values[i]);
    return found;
}

static size_t group_size(size_t at, size_t count)
{
    return count - at < QZ_EIGHT_GROUP ? count - at : QZ_EIGHT_GROUP;
}

static uint64_t clip(float *values, size_t count)
{
    uint64_t found = 0;
    for (size_t at = 0; at < count; at += QZ_EIGHT_GROUP)
        found += clip_group(values + at, group_size(at, count));
    return found;
}

/* ---- statistics ---- */

/* Counts what became of groups whose scale is 0 or subnormal. */
static void count_groups(const run *r, size_t count, qz_stats *stats)
{
    for (size_t at = 0; at < count; at += QZ_EIGHT_GROUP) {
        const unsigned scale = r->scales[at / QZ_EIGHT_GROUP];
        int lost = 0;
        if (scale >= 0x400) /* the least normal one: such codes reach all values */
            continue;
        const float end = 127.5f * 0x1p-24f * (float)scale;
        for (size_t i = at; i < at + group_size(at, count); i++) {
            lost |= r->values[i] != 0;
            stats->clipped += scale != 0 && fabsf(r->values[i]) > end;
        }
        stats->zeroed_groups += scale == 0 && lost;
        stats->subnormal_scales += scale != 0;
    }
}

/* The statistics of a run that was encoded; `replaced` of its values were not finite. */
static qz_stats measure(run *r, const void *data, qz_dtype dtype, size_t count, uint64_t replaced)
{
    qz_stats stats = QZ_STATS_INIT;
    qz_detail detail = QZ_DETAIL_INIT;
    /* Where some were replaced, those that took their places are what is encoded. */
    const qz_matrix before = {
        (void *)(replaced != 0 ? r->values : data), replaced != 0 ? QZ_F32 : dtype, 1, count, (int64_t)count, 1};
    const qz_matrix after = {r->decoded, QZ_F32, 1, count, (int64_t)count, 1};
    qz_eight_decode(r->codes, r->scales, count, r->decoded);
    (void)qz_compare_matrices(&before, &after, NULL, &stats, &detail); /* all are finite */
    count_groups(r, count, &stats);
    stats.replaced = replaced;
    return stats;
}

/* ---- the work ---- */

static int encode_run(work *w, uint64_t first, const void *data, size_t count)
{
    encoder *e = w->encoder;
    run *r = w->run;
    const qz_tensor *t = w->tensor;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    uint64_t replaced = 0;
    (void)qz_element_floats(t->element, data, count, r->values);
    if (e->s->output.nonfinite == QZ_CLIP && !is_beyond(t, data, count))
        replaced = clip(r->values, count);
    const size_t done = qz_eight_encode(r->values, count, r->codes, r->scales);
    if (done != count)
        return fail_group(e, w->job, t, first + done, r->values + done, group_size(done, count));
    if (is_measured(e, w->job)) {
        const qz_stats stats = measure(r, data, (qz_dtype)t->element, count, replaced);
        add_stats(&w->job->stats, &stats, 0, first, count, t->count);
    }
    if (!e->writer)
        return DONE;
    return qz_eight_write(e->writer, w->job->place.index, first, count, r->codes, r->scales, &error) == QZ_FILE_OK
               ? DONE
               : fail_file(&error);
}

static int encode_piece(void *context, uint64_t first, uint64_t count, const void *data)
{
    work *w = context;
    const size_t each = qz_element_size(w->tensor->element);
    int code = DONE;
    for (uint64_t at = 0; at < count && code == DONE; at += RUN) {
        const size_t n = count - at < RUN ? (size_t)(count - at) : RUN;
        code = encode_run(w, first + at, (const char *)data + at * each, n);
    }
    progress_add(count);
    return code;
}

uint64_t eight_memory(const qz_tensor *t)
{
    return sizeof(run) + (t->bytes < PIECE_BYTES ? t->bytes : PIECE_BYTES);
}

int encode_eight(encoder *e, job *j)
{
    work w = {e, j, j->tensor, allocate(sizeof *w.run)};
    int code = w.run ? for_each_piece(&e->in, j->item->tensor, encode_piece, &w) : LIMIT;
    free(w.run);
    return code;
}

/* ---- samples ---- */

/* Adds the errors of a group of a sample as they are weighted; weights that are all 0 are as good as none. */
static void weigh(const float *values, const float *decoded, const float *weights, size_t count, qz_stats *stats)
{
    int any = 0;
    for (size_t i = 0; i < count; i++)
        any |= weights[i] != 0;
    for (size_t i = 0; i < count; i++) {
        const double x = (double)values[i], lost = x - (double)decoded[i], weight = any ? (double)weights[i] : 1;
        stats->weighted_signal += weight * x * x;
        stats->weighted_error += weight * lost * lost;
    }
}

static void weigh_run(const sample *s, const run *r, uint64_t first, size_t count, qz_stats *stats)
{
    const size_t each = qz_dtype_size(s->weights.dtype);
    for (size_t at = 0; at < count; at += QZ_EIGHT_GROUP) {
        float weights[QZ_EIGHT_GROUP];
        const size_t n = group_size(at, count);
        (void)qz_element_floats((qz_element)s->weights.dtype, (const char *)s->weight_memory + (first + at) * each, n,
                                weights);
        weigh(r->values + at, r->decoded + at, weights, n, stats);
    }
}

static int try_run(const encoder *e, const sample *s, run *r, uint64_t first, size_t count, qz_stats *sum)
{
    const size_t each = qz_dtype_size(s->values.dtype);
    const char *data = (const char *)s->memory + first * each;
    uint64_t replaced = 0;
    (void)qz_element_floats((qz_element)s->values.dtype, data, count, r->values);
    if (e->s->output.nonfinite == QZ_CLIP)
        replaced = clip(r->values, count);
    if (qz_eight_encode(r->values, count, r->codes, r->scales) != count)
        return 0;
    const qz_stats stats = measure(r, data, s->values.dtype, count, replaced);
    add_stats(sum, &stats, 0, first, count, s->values.rows * s->values.cols);
    if (s->weighted)
        weigh_run(s, r, first, count, sum);
    return 1;
}

int try_eight(const encoder *e, const sample *s, qz_stats *stats)
{
    const uint64_t all = s->values.rows * s->values.cols;
    run *r = allocate(sizeof *r);
    int fits = 1;
    *stats = (qz_stats)QZ_STATS_INIT;
    if (!r)
        return LIMIT;
    for (uint64_t at = 0; at < all && fits; at += RUN)
        fits = try_run(e, s, r, at, all - at < RUN ? (size_t)(all - at) : RUN, stats);
    if (!fits)
        *stats = (qz_stats)QZ_STATS_INIT;
    free(r);
    return DONE;
}
