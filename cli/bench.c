/*
 * bench.c - speed of this machine
 *
 * Each operation is repeated for a fair share of the time; the median counts, and the spread between the quartiles says
 * how far to trust it. What memory itself can do is measured in the same way, between the operations.
 */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RUNS = 2000, LEAST_RUNS = 3 };

typedef struct stage {
    size_t n; /* values */
    float *values, *decoded;
    int8_t *codes;
    uint8_t *packed;
    uint64_t sum; /* so that no read can be left out */
    double scale, zero_point;
    qz_scheme scheme;
    qz_packed group;
    qz_pool *pool;
} stage;

/* ---- what is measured; each moves `bytes` bytes as the table says ---- */

static qz_result do_read(stage *s)
{
    const char *at = (const char *)s->values;
    uint64_t sum[8] = {0}, words[8];
    for (size_t i = 0; i + sizeof words <= s->n * sizeof(float); i += sizeof words) {
        memcpy(words, at + i, sizeof words);
        for (int j = 0; j < 8; j++)
            sum[j] += words[j];
    }
    for (int j = 0; j < 8; j++)
        s->sum += sum[j];
    return QZ_OK;
}

static qz_result do_write(stage *s)
{
    memset(s->decoded, (int)(s->sum++ & 1), s->n * sizeof(float));
    return QZ_OK;
}

static qz_result do_copy(stage *s)
{
    memcpy(s->decoded, s->values, s->n * sizeof(float));
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
    return (qz_matrix){data, QZ_F32, 1, s->n, (int64_t)s->n, 1};
}

static qz_result do_encode(stage *s)
{
    qz_options options = QZ_OPTIONS_INIT;
    qz_matrix m = matrix_of(s, s->values);
    options.pool = s->pool;
    return qz_encode(&s->scheme, &m, &s->group, &options, NULL, NULL);
}

static qz_result do_encode_stats(stage *s)
{
    qz_options options = QZ_OPTIONS_INIT;
    qz_stats stats = QZ_STATS_INIT;
    qz_matrix m = matrix_of(s, s->values);
    options.pool = s->pool;
    return qz_encode(&s->scheme, &m, &s->group, &options, &stats, NULL);
}

static qz_result do_decode(stage *s)
{
    qz_matrix m = matrix_of(s, s->decoded);
    return qz_decode(&s->scheme, &s->group, &m, s->pool, NULL);
}

/* In this order: later operations need what earlier ones made. */
static const struct operation {
    const char *name;
    const char *scheme;
    qz_result (*run)(stage *);
    double bytes;      /* per value, for the GB/s */
    const char *limit; /* the operation whose bytes a second bound it */
} operations[] = {
    {"read", NULL, do_read, 4, NULL},
    {"write", NULL, do_write, 4, NULL},
    {"copy", NULL, do_copy, 4, NULL},
    {"quantize_i4", NULL, do_quantize, 4, "read"},
    {"dequantize_i4", NULL, do_dequantize, 4, "write"},
    {"pack_i4", NULL, do_pack, 1, "read"},
    {"unpack_i4", NULL, do_unpack, 1, "write"},
    {"encode", "int4", do_encode, 4, "read"},
    {"encode, statistics", "int4", do_encode_stats, 4, "read"},
    {"decode", "int4", do_decode, 4, "write"},
    {"encode", "uint4", do_encode, 4, "read"},
    {"decode", "uint4", do_decode, 4, "write"},
    {"encode", "uint4_offset", do_encode, 4, "read"},
    {"decode", "uint4_offset", do_decode, 4, "write"},
};
enum { OPERATIONS = sizeof operations / sizeof operations[0] };

typedef struct outcome {
    double speed, low, high; /* GB/s: median and quartiles */
    size_t runs;
} outcome;

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int measure(stage *s, const struct operation *o, double seconds, outcome *out)
{
    static double times[MOST_RUNS];
    if (o->scheme != NULL)
        s->scheme = *qz_scheme_by_name(o->scheme);
    qz_result result = o->run(s); /* not counted: pages are touched, caches filled */
    double start = seconds_now();
    size_t n = 0;
    while (result == QZ_OK && n < MOST_RUNS && (n < LEAST_RUNS || seconds_now() - start < seconds)) {
        if (stop_requested())
            return 128 + stop_requested();
        double before = seconds_now();
        result = o->run(s);
        times[n++] = seconds_now() - before;
    }
    if (result != QZ_OK)
        return fail(INTERNAL, "%s: %s", o->name, qz_result_text(result));
    qsort(times, n, sizeof times[0], ascending);
    double giga = (double)s->n * o->bytes * 1e-9;
    *out = (outcome){giga / times[n / 2], giga / times[n - 1 - n / 4], giga / times[n / 4], n};
    return DONE;
}

static int prepare(stage *s, const settings *set)
{
    s->n = (size_t)((set->size != 0 ? set->size : (uint64_t)64 << 20) / sizeof(float));
    /* The last group is complete and no padding is needed: 32 values a group, zeros in pairs. */
    s->n -= s->n % 64;
    uint64_t groups = s->n / 32;
    s->values = malloc(s->n * sizeof(float));
    s->decoded = malloc(s->n * sizeof(float));
    s->codes = malloc(s->n);
    s->packed = malloc(s->n / 2);
    s->group = (qz_packed){malloc(s->n / 2),  malloc((size_t)groups * 4), malloc((size_t)groups * 4),
                           (int64_t)s->n / 2, (int64_t)groups * 4,        (int64_t)groups * 4};
    if (s->values == NULL || s->decoded == NULL || s->codes == NULL || s->packed == NULL || s->group.codes == NULL ||
        s->group.scales == NULL || s->group.zeros == NULL)
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
    free(s->values);
    free(s->decoded);
    free(s->codes);
    free(s->packed);
    free(s->group.codes);
    free(s->group.scales);
    free(s->group.zeros);
    qz_pool_destroy(s->pool);
}

/* The speed of what bounds an operation, per byte of its own table row; NAN if nothing does. */
static double limit_of(const struct operation *o, const outcome *outcomes)
{
    for (size_t i = 0; o->limit != NULL && i < OPERATIONS; i++)
        if (strcmp(operations[i].name, o->limit) == 0)
            return outcomes[i].speed;
    return NAN;
}

static void print_table(const settings *set, const stage *s, const outcome *outcomes)
{
    static const char *const titles[] = {"operation", "GB/s", "quartiles", "of limit", "limit", "of copy", "runs"};
    table t;
    (void)set;
    table_begin(&t, "lrrrlrr", titles);
    for (size_t i = 0; i < OPERATIONS; i++) {
        const struct operation *o = &operations[i];
        double limit = limit_of(o, outcomes), copy = outcomes[2].speed;
        table_cell(&t, "%s%s%s", o->scheme != NULL ? o->scheme : "", o->scheme != NULL ? " " : "", o->name);
        table_cell(&t, "%.2f", outcomes[i].speed);
        table_cell(&t, "%.2f..%.2f", outcomes[i].low, outcomes[i].high);
        if (isnan(limit))
            table_cell(&t, "%s", "");
        else
            table_cell(&t, "%.2f", outcomes[i].speed / limit);
        table_cell(&t, "%s", o->limit != NULL ? o->limit : "");
        table_cell(&t, "%.2f", outcomes[i].speed / copy);
        table_cell(&t, "%zu", outcomes[i].runs);
    }
    printf("%s of float32, kernels %s, %zu %s\n\n", bytes_text((double)s->n * 4), qz_kernels(),
           qz_pool_threads(s->pool), qz_pool_threads(s->pool) == 1 ? "thread" : "threads");
    table_print(&t);
}

static void print_json(const stage *s, const outcome *outcomes)
{
    json_begin(NULL, '{');
    json_text("command", "bench");
    json_text("kernels", qz_kernels());
    json_whole("threads", qz_pool_threads(s->pool));
    json_whole("bytes", s->n * sizeof(float));
    json_begin("operations", '[');
    for (size_t i = 0; i < OPERATIONS; i++) {
        const struct operation *o = &operations[i];
        json_begin(NULL, '{');
        json_text("name", o->name);
        if (o->scheme != NULL)
            json_text("scheme", o->scheme);
        json_real("gb_per_second", outcomes[i].speed);
        json_real("lower_quartile", outcomes[i].low);
        json_real("upper_quartile", outcomes[i].high);
        json_real("of_limit", outcomes[i].speed / limit_of(o, outcomes));
        json_real("of_copy", outcomes[i].speed / outcomes[2].speed);
        json_whole("runs", outcomes[i].runs);
        json_end();
    }
    json_end();
    json_end();
}

int run_bench(const settings *set)
{
    stage s = {0};
    outcome outcomes[OPERATIONS];
    double seconds = isnan(set->seconds) ? 4 : set->seconds;
    if (!(seconds > 0) || seconds > 3600)
        return fail(USAGE, "--seconds: the value must be above 0 and at most 3600");
    int code = prepare(&s, set);
    /* One thread unless told otherwise: its numbers are those that can be compared. */
    if (code == DONE && set->threads > 1)
        code = start_pool(set, s.n, &s.pool);
    progress_begin("bench", OPERATIONS);
    for (size_t i = 0; i < OPERATIONS && code == DONE; i++) {
        code = measure(&s, &operations[i], seconds / OPERATIONS, &outcomes[i]);
        progress_add(1);
    }
    progress_end();
    if (code == DONE && set->json)
        print_json(&s, outcomes);
    else if (code == DONE)
        print_table(set, &s, outcomes);
    clean(&s);
    return code;
}
