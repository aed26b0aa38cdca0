/*
 * bench.c - the command bench: measures the speed of this machine
 *
 * Each operation is repeated for its share of the time. The result is the median; the distance between the quartiles
 * shows how reliable it is. The limits of memory (memory_limit.h) are measured first, in the same way.
 */
#include "commands.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "memory_limit.h"
#include "output.h"
#include "packed_block.h"
#include "resources.h"
#include "scheme.h"
#include "table.h"

enum {
    MOST_RUNS = 2000,
    LEAST_RUNS = 3,
    COLS = 4096, /* of the matrix that is encoded */
    MOST_OPERATIONS = 64
};

static const double SHORTEST_RUN = 20e-6; /* seconds */

typedef struct stage {
    size_t n;    /* values */
    size_t some; /* as many of them are worked on: slow operations are content with fewer */
    float *values, *decoded;
    int8_t *codes;
    uint8_t *packed;
    double scale, zero_point;
    const qz_scheme *scheme;
    qz_method method;
    qz_packed group;
    qz_pool *pool;
} stage;

/* ---- what is measured; each moves `bytes` bytes as the table says ---- */

static qz_result do_read(stage *s)
{
    limit_read(s->values, s->n * sizeof(float));
    return QZ_OK;
}

static qz_result do_write(stage *s)
{
    limit_write(s->decoded, s->n * sizeof(float));
    return QZ_OK;
}

static qz_result do_stream(stage *s)
{
    limit_stream(s->decoded, s->n * sizeof(float));
    return QZ_OK;
}

static qz_result do_copy(stage *s)
{
    limit_copy(s->decoded, s->values, s->n * sizeof(float));
    return QZ_OK;
}

static qz_result do_stream_copy(stage *s)
{
    limit_stream_copy(s->decoded, s->values, s->n * sizeof(float));
    return QZ_OK;
}

static qz_result do_quantize(stage *s)
{
    return qz_quantize_i4(s->values, QZ_F32, s->n, QZ_MINMAX, s->codes, &s->scale, &s->zero_point, s->pool, NULL);
}

static qz_result do_dequantize(stage *s)
{
    return qz_dequantize_i4(s->codes, s->n, s->scale, s->zero_point, s->decoded, QZ_F32, s->pool, NULL);
}

static qz_result do_pack(stage *s)
{
    return qz_pack_i4(s->codes, s->n, s->packed, s->pool, NULL);
}

static qz_result do_unpack(stage *s)
{
    return qz_unpack_i4(s->packed, s->n, s->codes, s->pool);
}

static qz_matrix matrix_of(const stage *s, float *data)
{
    return (qz_matrix){data, QZ_F32, s->some / COLS, COLS, COLS, 1};
}

static qz_result encode(stage *s, qz_stats *stats)
{
    qz_options options = QZ_OPTIONS_INIT;
    qz_matrix m = matrix_of(s, s->values);
    options.method = s->method;
    options.pool = s->pool;
    return qz_encode(s->scheme, &m, &s->group, &options, stats, NULL);
}

static qz_result do_encode(stage *s)
{
    return encode(s, NULL);
}

static qz_result do_encode_stats(stage *s)
{
    qz_stats stats = QZ_STATS_INIT;
    return encode(s, &stats);
}

static qz_result do_decode(stage *s)
{
    qz_matrix m = matrix_of(s, s->decoded);
    return qz_decode(s->scheme, &s->group, &m, s->pool, NULL);
}

typedef struct operation {
    const char *name;
    qz_result (*run)(stage *);
    double bytes;      /* per value, for the GB/s; of copies, read and written */
    const char *limit; /* the operation whose bytes a second bound it */
    const qz_scheme *scheme;
    qz_method method;
} operation;

/* Without groups. Later operations need what earlier ones made. */
static const operation plain[] = {
    {"read", do_read, 4, NULL, NULL, QZ_DEFAULT},
    {"write", do_write, 4, NULL, NULL, QZ_DEFAULT},
    {"streaming write", do_stream, 4, NULL, NULL, QZ_DEFAULT},
    {"copy", do_copy, 8, NULL, NULL, QZ_DEFAULT},
    {"streaming copy", do_stream_copy, 8, NULL, NULL, QZ_DEFAULT},
    {"quantize_i4", do_quantize, 4, "read", NULL, QZ_DEFAULT},
    {"dequantize_i4", do_dequantize, 4, "write", NULL, QZ_DEFAULT},
    {"pack_i4", do_pack, 1, "read", NULL, QZ_DEFAULT},
    {"unpack_i4", do_unpack, 1, "write", NULL, QZ_DEFAULT},
};
enum { PLAIN = sizeof plain / sizeof plain[0], COPY = 3 };

/* Of each kind one, unless --scheme names it. */
static const char *const usual[] = {"int4", "uint4", "uint4_offset", "nf4", "mxfp4", "nvfp4", "q4_k", "dual4"};

/* Encoding by all methods, or by the plain and the usual one, with statistics too, and decoding. */
static size_t scheme_operations(const qz_scheme *scheme, int all, operation *out)
{
    size_t n = 0;
    for (int m = QZ_DEFAULT + 1; qz_method_name((qz_method)m); m++)
        if (qz_scheme_check(scheme, (qz_method)m) == QZ_OK &&
            (all || m == QZ_MINMAX || m == QZ_ABSMAX || m == (int)scheme->method))
            out[n++] = (operation){"encode", do_encode, 4, "read", scheme, (qz_method)m};
    if (all || scheme == qz_scheme_at(0))
        out[n++] = (operation){"encode, statistics", do_encode_stats, 4, "read", scheme, scheme->method};
    out[n++] = (operation){"decode", do_decode, 4, "write", scheme, QZ_DEFAULT};
    return n;
}

static size_t choose_operations(const settings *set, operation *out)
{
    size_t n = PLAIN;
    memcpy(out, plain, sizeof plain);
    if (set->how.scheme)
        return n + scheme_operations(qz_scheme_by_name(set->how.scheme), 1, out + n);
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++)
        n += scheme_operations(qz_scheme_by_name(usual[i]), 0, out + n);
    return n;
}

typedef struct outcome {
    double speed, low, high; /* GB/s: median and quartiles */
    size_t runs, values;
} outcome;

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Seconds of a call, the mean of so many. */
static double run_calls(stage *s, const operation *o, size_t calls, qz_result *result)
{
    double before = seconds_now();
    for (size_t i = 0; i < calls; i++)
        *result = o->run(s);
    return (seconds_now() - before) / (double)calls;
}

static int measure(stage *s, const operation *o, double seconds, outcome *out)
{
    static double times[MOST_RUNS];
    qz_result result = QZ_OK;
    s->some = s->n;
    if (o->scheme) {
        qz_sizes sizes;
        int code = shape_packed(o->scheme, COLS, &s->group, &sizes);
        if (code != DONE)
            return code;
        s->scheme = o->scheme;
        s->method = o->method;
        /* A few rows say how many can be had in time. Decoding takes all, which were encoded a moment ago: what a slow
         * method left out are the codes of the scheme before, as good as any. */
        size_t few = s->n < 16 * COLS ? s->n : 16 * COLS;
        if (o->run != do_decode) {
            s->some = few;
            double each = run_calls(s, o, 1, &result) / (double)few;
            double room = seconds / (LEAST_RUNS + 2) / each;
            s->some = room < (double)few ? few : room < (double)s->n ? (size_t)room / COLS * COLS : s->n;
        }
    }
    double once = 0; /* the second time, when pages are touched and caches filled */
    for (int i = 0; i < 2 && result == QZ_OK; i++)
        once = run_calls(s, o, 1, &result);
    /* Where a call takes a moment, several make a run: the clock would be a part of what is measured. */
    size_t n = 0, calls = once < SHORTEST_RUN ? 1 + (size_t)(SHORTEST_RUN / (once > 1e-9 ? once : 1e-9)) : 1;
    double start = seconds_now();
    while (result == QZ_OK && n < MOST_RUNS && (n < LEAST_RUNS || seconds_now() - start < seconds)) {
        if (stop_requested())
            return 128 + stop_requested();
        times[n++] = run_calls(s, o, calls, &result);
    }
    if (result != QZ_OK)
        return fail(INTERNAL, "%s: %s", o->name, qz_result_text(result));
    qsort(times, n, sizeof times[0], ascending);
    double giga = (double)s->some * o->bytes * 1e-9;
    *out = (outcome){giga / times[n / 2], giga / times[n - 1 - n / 4], giga / times[n / 4], n, s->some};
    return DONE;
}

static int prepare(stage *s, const settings *set)
{
    s->n = (size_t)((set->size != 0 ? set->size : (uint64_t)64 << 20) / sizeof(float));
    s->n -= s->n % COLS;
    s->values = limit_memory(s->n * sizeof(float));
    s->decoded = limit_memory(s->n * sizeof(float));
    s->codes = limit_memory(s->n);
    s->packed = limit_memory(s->n / 2);
    /* No scheme has groups of fewer than 16 values, or super scales for fewer than 256. */
    s->group = (qz_packed){.codes = limit_memory(s->n),
                           .scales = limit_memory(s->n / 16 * 4),
                           .zeros = limit_memory(s->n / 16 * 4),
                           .supers = limit_memory(s->n / 256 * 8)};
    if (!s->values || !s->decoded || !s->codes || !s->packed || !s->group.codes || !s->group.scales ||
        !s->group.zeros || !s->group.supers)
        return fail_memory();
    /* Sums of four uniform numbers: near enough to what weights look like. */
    uint64_t state = 1;
    for (size_t i = 0; i < s->n; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint64_t x = state >> 16;
        s->values[i] =
            (float)((int64_t)((x & 0xfff) + (x >> 12 & 0xfff) + (x >> 24 & 0xfff) + (x >> 36 & 0xfff)) - 8190) / 4096;
    }
    return DONE;
}

static void clean(stage *s)
{
    limit_free(s->values);
    limit_free(s->decoded);
    limit_free(s->codes);
    limit_free(s->packed);
    limit_free(s->group.codes);
    limit_free(s->group.scales);
    limit_free(s->group.zeros);
    limit_free(s->group.supers);
    qz_pool_destroy(s->pool);
}

/* What was measured. */
typedef struct report {
    operation operations[MOST_OPERATIONS];
    outcome outcomes[MOST_OPERATIONS];
    size_t count;
} report;

/* What bounds an operation: large output leaves past the caches. */
static const char *limit_name(const report *r, size_t i)
{
    const operation *o = &r->operations[i];
    int streamed = (double)r->outcomes[i].values * o->bytes > LIMIT_STREAMED;
    return o->limit && strcmp(o->limit, "write") == 0 && streamed ? "streaming write" : o->limit;
}

/* The speed of that, per byte of the operation's own table row; NAN if nothing bounds it. */
static double limit_of(const report *r, size_t i)
{
    const char *name = limit_name(r, i);
    for (size_t j = 0; name && j < PLAIN; j++)
        if (strcmp(r->operations[j].name, name) == 0)
            return r->outcomes[j].speed;
    return NAN;
}

static void print_table(const stage *s, const report *r)
{
    static const char *const titles[] = {"operation", "scheme", "method",  "GB/s", "quartiles",
                                         "of limit",  "limit",  "of copy", "runs"};
    table t;
    table_begin(&t, "lllrrrlrr", titles);
    for (size_t i = 0; i < r->count; i++) {
        const operation *o = &r->operations[i];
        const outcome *out = &r->outcomes[i];
        double limit = limit_of(r, i);
        table_cell(&t, "%s", o->name);
        table_cell(&t, "%s", o->scheme ? o->scheme->name : "");
        table_cell(&t, "%s", o->method != QZ_DEFAULT ? qz_method_name(o->method) : "");
        table_cell(&t, "%.*f", out->speed < 1 ? 3 : 2, out->speed);
        table_cell(&t, "%.*f..%.*f", out->speed < 1 ? 3 : 2, out->low, out->speed < 1 ? 3 : 2, out->high);
        if (isnan(limit))
            table_cell(&t, "%s", "");
        else
            table_cell(&t, "%.2f", out->speed / limit);
        table_cell(&t, "%s", isnan(limit) ? "" : limit_name(r, i));
        table_cell(&t, "%.2f", out->speed / (r->outcomes[COPY].speed / 2));
        table_cell(&t, "%zu", out->runs);
    }
    printf("%s of float32, kernels %s, %zu %s\n\n", bytes_text((double)s->n * 4), qz_kernels(),
           qz_pool_threads(s->pool), qz_pool_threads(s->pool) == 1 ? "thread" : "threads");
    table_print(&t);
}

static void print_json(const stage *s, const report *r)
{
    json_begin(NULL, '{');
    json_text("command", "bench");
    json_text("kernels", qz_kernels());
    json_whole("threads", qz_pool_threads(s->pool));
    json_whole("bytes", s->n * sizeof(float));
    json_begin("operations", '[');
    for (size_t i = 0; i < r->count; i++) {
        const operation *o = &r->operations[i];
        const outcome *out = &r->outcomes[i];
        json_begin(NULL, '{');
        json_text("name", o->name);
        if (o->scheme)
            json_text("scheme", o->scheme->name);
        if (o->method != QZ_DEFAULT)
            json_text("method", qz_method_name(o->method));
        json_real("gb_per_second", out->speed);
        json_real("lower_quartile", out->low);
        json_real("upper_quartile", out->high);
        json_real("of_limit", out->speed / limit_of(r, i));
        json_real("of_copy", out->speed / (r->outcomes[COPY].speed / 2));
        json_whole("runs", out->runs);
        json_whole("values", out->values);
        json_end();
    }
    json_end();
    json_end();
}

int run_bench(const settings *set)
{
    stage s = {0};
    static report r;
    double seconds = isnan(set->seconds) ? 5 : set->seconds;
    if (!(seconds > 0) || seconds > 3600)
        return fail(USAGE, "--seconds: the value must be above 0 and at most 3600");
    if (set->how.scheme && !qz_scheme_by_name(set->how.scheme))
        return fail(USAGE, "--scheme %s: only schemes of 4 bits are measured", set->how.scheme);
    int code = prepare(&s, set);
    r.count = choose_operations(set, r.operations);
    /* One thread unless told otherwise: its numbers are those that can be compared. */
    if (code == DONE && set->threads > 1)
        code = start_pool(set, s.n, &s.pool);
    progress_begin("bench", r.count);
    for (size_t i = 0; i < r.count && code == DONE; i++) {
        code = measure(&s, &r.operations[i], seconds / (double)r.count, &r.outcomes[i]);
        progress_add(1);
    }
    progress_end();
    if (code == DONE && set->say.json)
        print_json(&s, &r);
    else if (code == DONE)
        print_table(&s, &r);
    clean(&s);
    return code;
}
