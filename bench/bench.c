/*
 * bench.c - every operation on every kernel set, beside what this machine's memory can do in the same run
 *
 *     bench [--small FLOATS] [--large FLOATS] [--seconds S] [--only TEXT] [--kernels NAME] [--no-threads] [--json]
 *
 * Figures are GB/s of float32, 4 bytes a value whatever the type of the source, except pack and unpack: GB/s of all
 * bytes read and written. A figure is the median of many calls, with half the width of the middle half of them beside
 * it. In turns with each call its limit is measured, by the plainest loop that moves the same bytes
 * (cli/memory_limit.h); "part" is the share of that limit that was reached. Variants of an operation (another axis,
 * statistics, weights) also take turns with the operation itself. Searches for scales, and other codes than integers,
 * are measured in cache only. --json prints one JSON object a line.
 */
#include "memory_limit.h"
#include "quantize.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    LARGE = LIMIT_STREAMED / 4, /* from so many floats on, arrays are taken to be in memory, not in cache */
    SMALL_COLS = 256,           /* width of matrices */
    MOST_COLS = 4096,           /* of large ones */
    THREAD_FLOATS = 1 << 17     /* 512 KiB of float32: what one thread gets when two are compared with one */
};

static double seconds_per_figure = 0.4;
static int as_json;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check(qz_result result)
{
    if (result != QZ_OK) {
        fprintf(stderr, "bench: %s\n", qz_result_text(result));
        exit(1);
    }
}

/* ---- buffers ------------------------------------------------------------------------------------------------- */

struct buffers {
    size_t n; /* values */
    float *x; /* the source as float32, bfloat16, float16 */
    uint16_t *x_bf16, *x_f16;
    void *y;         /* output, n float32 */
    int8_t *codes;   /* n */
    uint8_t *packed; /* n / 2 */
    uint8_t *scales, *zeros, *supers;
    float *weights; /* one for each column */
    double scale, zero_point;
};

static void *allocate(size_t bytes)
{
    void *p = limit_memory(bytes);
    if (!p) {
        fprintf(stderr, "bench: no memory for %zu bytes\n", bytes);
        exit(1);
    }
    return p;
}

/* Sums of uniform numbers: close to normal, from integers alone. The narrow types get them cut off. */
static void fill(struct buffers *b)
{
    uint64_t s = 88172645463325252u;
    for (size_t i = 0; i < b->n; i++) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        int sum = (int)(s & 0xffff) + (int)(s >> 16 & 0xffff) + (int)(s >> 32 & 0xffff) + (int)(s >> 48);
        b->x[i] = (float)(sum - 131070) * 2.6e-5f;
        uint32_t bits, magnitude;
        memcpy(&bits, &b->x[i], 4);
        magnitude = bits & 0x7fffffff;
        b->x_bf16[i] = (uint16_t)(bits >> 16);
        b->x_f16[i] =
            (uint16_t)((bits >> 16 & 0x8000) | (magnitude < 0x38800000 ? 0 : (magnitude >> 13) - (112 << 10)));
    }
}

static struct buffers make_buffers(size_t n)
{
    struct buffers b = {.n = n};
    b.x = allocate(n * 4);
    b.x_bf16 = allocate(n * 2);
    b.x_f16 = allocate(n * 2);
    b.y = allocate(n * 4);
    b.codes = allocate(n);
    b.packed = allocate(n / 2);
    b.scales = allocate(n / 8);
    b.zeros = allocate(n / 8);
    b.supers = allocate(n / 8);
    b.weights = allocate(MOST_COLS * sizeof *b.weights);
    fill(&b);
    for (size_t i = 0; i < MOST_COLS; i++) /* between 1/8 and 8, as mean squares of inputs may be */
        b.weights[i] = (float)(1 << i * 5 % 7) / 8.0f;
    check(qz_quantize_i4(b.x, QZ_F32, n, QZ_MINMAX, b.codes, &b.scale, &b.zero_point, NULL, NULL));
    check(qz_pack_i4(b.codes, n, b.packed, NULL, NULL));
    return b;
}

static void free_buffers(struct buffers *b)
{
    limit_free(b->x), limit_free(b->x_bf16), limit_free(b->x_f16), limit_free(b->y);
    limit_free(b->codes), limit_free(b->packed), limit_free(b->scales), limit_free(b->zeros), limit_free(b->supers),
        limit_free(b->weights);
}

/* ---- what is timed ---------------------------------------------------------------------------------------------- */

enum action {
    QUANTIZE,
    DEQUANTIZE,
    PACK,
    UNPACK,
    ENCODE,
    DECODE,
    READ, /* the limits, from here on */
    WRITE,
    STREAM,
    READ_TWICE, /* and write a byte a value */
    COPY,       /* moves as many bytes as pack and unpack do: 3/2 bytes a value, half of them read */
    STREAM_COPY
};

/* One operation or limit. */
struct step {
    enum action action;
    const char *scheme; /* ENCODE, DECODE */
    qz_dtype dtype;     /* of the floats */
    int transposed;     /* groups run down the columns */
    int stats;          /* ENCODE */
    qz_method method;   /* ENCODE: how scales are found */
    int weights;        /* ENCODE */
};

/* A step and what it works on. */
struct turn {
    const struct step *step;
    struct buffers *buffers;
    qz_pool *pool;
    /* ENCODE, DECODE: arguments, which time_turns makes before any clock runs */
    const qz_scheme *scheme;
    qz_packed packed;
    qz_matrix matrix, weights;
    double seconds; /* the median of a call */
    double spread;  /* half the distance between its quartiles, as a share of the median */
};

static void *floats_of(const struct turn *turn)
{
    const struct buffers *b = turn->buffers;
    return turn->step->dtype == QZ_BF16 ? b->x_bf16 : turn->step->dtype == QZ_F16 ? b->x_f16 : (void *)b->x;
}

static void prepare(struct turn *turn)
{
    const struct step *step = turn->step;
    struct buffers *b = turn->buffers;
    if (step->action != ENCODE && step->action != DECODE)
        return;
    uint64_t cols = b->n < LARGE ? SMALL_COLS : MOST_COLS, rows = b->n / cols;
    qz_sizes sizes = {.size = sizeof sizes};
    turn->scheme = qz_scheme_by_name(step->scheme);
    check(qz_scheme_sizes(turn->scheme, rows, cols, &sizes));
    turn->packed = (qz_packed){b->packed,
                               b->scales,
                               b->zeros,
                               (int64_t)sizes.code_bytes,
                               (int64_t)sizes.scale_bytes,
                               (int64_t)sizes.zero_bytes,
                               sizes.super_bytes ? b->supers : NULL,
                               (int64_t)sizes.super_bytes};
    turn->matrix =
        (qz_matrix){step->action == ENCODE ? floats_of(turn) : b->y, step->dtype, rows, cols, (int64_t)cols, 1};
    if (step->transposed) {
        turn->matrix.row_stride = 1;
        turn->matrix.col_stride = (int64_t)rows;
    }
    turn->weights = (qz_matrix){b->weights, QZ_F32, rows, cols, 0, 1};
}

static void encode(const struct turn *turn)
{
    qz_options options = QZ_OPTIONS_INIT;
    options.method = turn->step->method;
    options.pool = turn->pool;
    options.weights = turn->step->weights ? &turn->weights : NULL;
    qz_stats stats = QZ_STATS_INIT;
    check(qz_encode(turn->scheme, &turn->matrix, &turn->packed, &options, turn->step->stats ? &stats : NULL, NULL));
}

static void run(const struct turn *turn)
{
    struct buffers *b = turn->buffers;
    qz_dtype dtype = turn->step->dtype;
    size_t bytes = b->n * qz_dtype_size(dtype);
    switch (turn->step->action) {
    case QUANTIZE:
        check(qz_quantize_i4(floats_of(turn), dtype, b->n, QZ_MINMAX, b->codes, &b->scale, &b->zero_point, turn->pool,
                             NULL));
        break;
    case DEQUANTIZE:
        check(qz_dequantize_i4(b->codes, b->n, b->scale, b->zero_point, b->y, dtype, turn->pool, NULL));
        break;
    case PACK:
        check(qz_pack_i4(b->codes, b->n, b->packed, turn->pool, NULL));
        break;
    case UNPACK:
        check(qz_unpack_i4(b->packed, b->n, b->codes, turn->pool));
        break;
    case ENCODE:
        encode(turn);
        break;
    case DECODE:
        check(qz_decode(turn->scheme, &turn->packed, &turn->matrix, turn->pool, NULL));
        break;
    case READ:
        limit_read(floats_of(turn), bytes);
        break;
    case WRITE:
        limit_write(b->y, bytes);
        break;
    case STREAM:
        limit_stream(b->y, bytes);
        break;
    case READ_TWICE:
        limit_read(floats_of(turn), bytes);
        limit_read(floats_of(turn), bytes);
        if (b->n < LARGE)
            limit_write(b->y, b->n);
        else
            limit_stream(b->y, b->n);
        break;
    case COPY:
        limit_copy(b->y, b->codes, b->n / 4 * 3);
        break;
    case STREAM_COPY:
        limit_stream_copy(b->y, b->codes, b->n / 4 * 3);
        break;
    }
}

static double bytes_of_value(const struct step *step)
{
    switch (step->action) {
    case PACK:
    case UNPACK:
    case COPY:
    case STREAM_COPY:
        return 1.5;
    default:
        return 4;
    }
}

static const char *limit_name(enum action action)
{
    switch (action) {
    case READ:
        return "read";
    case WRITE:
        return "write";
    case STREAM:
        return "streaming write";
    case READ_TWICE:
        return "read twice, write codes";
    case COPY:
        return "copy";
    case STREAM_COPY:
        return "streaming copy";
    default:
        return "";
    }
}

/* What an operation cannot be faster than: what it must read when it reads floats, what it must write when it
 * writes them. */
static struct step limit_of(const struct step *step, size_t n)
{
    struct step limit = {.dtype = step->dtype};
    switch (step->action) {
    case QUANTIZE:
        limit.action = READ_TWICE;
        break;
    case ENCODE:
        limit.action = READ;
        break;
    case PACK:
    case UNPACK:
        limit.action = n < LARGE ? COPY : STREAM_COPY;
        break;
    default:
        limit.action = n < LARGE ? WRITE : STREAM;
        break;
    }
    return limit;
}

struct row {
    const char *name;
    struct step step;
    const char *plain; /* the operation that it is a variant of, or NULL */
    int cached;        /* 1: measured in cache only */
};

/* A code from a table, by its largest magnitude. */
#define TABLE_CODE(scheme)                                                                                             \
    {"encode " scheme, {ENCODE, scheme, QZ_F32, 0, 0, QZ_ABSMAX, 0}, "encode int4", 1},                                \
    {                                                                                                                  \
        "decode " scheme, {DECODE, scheme, QZ_F32, 0, 0, QZ_ABSMAX, 0}, NULL, 1                                        \
    }

/* Searched scales, without weights and with them. */
#define SEARCHED(scheme)                                                                                               \
    {"search " scheme, {ENCODE, scheme, QZ_F32, 0, 0, QZ_SEARCH, 0}, NULL, 1},                                         \
    {                                                                                                                  \
        "search " scheme " weights", {ENCODE, scheme, QZ_F32, 0, 0, QZ_SEARCH, 1}, "search " scheme, 1                 \
    }

static const struct row rows[] = {
    {"quantize_to_int4", {QUANTIZE, NULL, QZ_F32, 0, 0, 0, 0}, NULL, 0},
    {"quantize_to_int4 bfloat16", {QUANTIZE, NULL, QZ_BF16, 0, 0, 0, 0}, "quantize_to_int4", 0},
    {"quantize_to_int4 float16", {QUANTIZE, NULL, QZ_F16, 0, 0, 0, 0}, "quantize_to_int4", 0},
    {"dequantize_from_int4", {DEQUANTIZE, NULL, QZ_F32, 0, 0, 0, 0}, NULL, 0},
    {"pack", {PACK, NULL, QZ_F32, 0, 0, 0, 0}, NULL, 0},
    {"unpack", {UNPACK, NULL, QZ_F32, 0, 0, 0, 0}, NULL, 0},
    {"encode int4", {ENCODE, "int4", QZ_F32, 0, 0, QZ_ABSMAX, 0}, NULL, 0},
    {"encode int4 statistics", {ENCODE, "int4", QZ_F32, 0, 1, QZ_ABSMAX, 0}, "encode int4", 0},
    {"encode int4 axis 0", {ENCODE, "int4", QZ_F32, 1, 0, QZ_ABSMAX, 0}, "encode int4", 0},
    {"encode int4 bfloat16", {ENCODE, "int4", QZ_BF16, 0, 0, QZ_ABSMAX, 0}, "encode int4", 0},
    {"encode int4 float16", {ENCODE, "int4", QZ_F16, 0, 0, QZ_ABSMAX, 0}, "encode int4", 0},
    {"decode int4", {DECODE, "int4", QZ_F32, 0, 0, QZ_ABSMAX, 0}, NULL, 0},
    {"decode int4 axis 0", {DECODE, "int4", QZ_F32, 1, 0, QZ_ABSMAX, 0}, "decode int4", 0},
    {"decode int4 bfloat16", {DECODE, "int4", QZ_BF16, 0, 0, QZ_ABSMAX, 0}, "decode int4", 0},
    {"decode int4 float16", {DECODE, "int4", QZ_F16, 0, 0, QZ_ABSMAX, 0}, "decode int4", 0},
    {"encode uint4", {ENCODE, "uint4", QZ_F32, 0, 0, QZ_MINMAX, 0}, NULL, 0},
    {"encode uint4 statistics", {ENCODE, "uint4", QZ_F32, 0, 1, QZ_MINMAX, 0}, "encode uint4", 0},
    {"encode uint4 axis 0", {ENCODE, "uint4", QZ_F32, 1, 0, QZ_MINMAX, 0}, "encode uint4", 0},
    {"decode uint4", {DECODE, "uint4", QZ_F32, 0, 0, QZ_MINMAX, 0}, NULL, 0},
    {"encode uint4_offset", {ENCODE, "uint4_offset", QZ_F32, 0, 0, QZ_MINMAX, 0}, NULL, 0},
    {"encode uint4_offset statistics", {ENCODE, "uint4_offset", QZ_F32, 0, 1, QZ_MINMAX, 0}, "encode uint4_offset", 0},
    {"decode uint4_offset", {DECODE, "uint4_offset", QZ_F32, 0, 0, QZ_MINMAX, 0}, NULL, 0},
    TABLE_CODE("nf4"),
    TABLE_CODE("fp4"),
    TABLE_CODE("fp4_bnb"),
    TABLE_CODE("iq4_nl"),
    {"decode mxfp4", {DECODE, "mxfp4", QZ_F32, 0, 0, QZ_ABSMAX, 0}, NULL, 1},
    {"decode nvfp4", {DECODE, "nvfp4", QZ_F32, 0, 0, QZ_ABSMAX, 0}, NULL, 1},
    {"decode iq4_xs", {DECODE, "iq4_xs", QZ_F32, 0, 0, QZ_ABSMAX, 0}, NULL, 1},
    {"decode q4_k", {DECODE, "q4_k", QZ_F32, 0, 0, QZ_MINMAX, 0}, NULL, 1},
    {"decode dual4", {DECODE, "dual4", QZ_F32, 0, 0, QZ_ABSMAX, 0}, NULL, 1},
    SEARCHED("int4"),
    SEARCHED("uint4"),
    SEARCHED("uint4_offset"),
    SEARCHED("nf4"),
    SEARCHED("fp4"),
    SEARCHED("fp4_bnb"),
    SEARCHED("iq4_nl"),
    SEARCHED("nvfp4"),
    SEARCHED("mxfp4"),
    SEARCHED("q4_k"),
    SEARCHED("iq4_xs"),
    SEARCHED("dual4"),
    {"exact int4", {ENCODE, "int4", QZ_F32, 0, 0, QZ_EXACT, 0}, "search int4", 1},
    {"exact int4 weights", {ENCODE, "int4", QZ_F32, 0, 0, QZ_EXACT, 1}, "exact int4", 1},
};

static const struct step *step_of(const char *name)
{
    size_t i = 0;
    while (strcmp(rows[i].name, name) != 0)
        i++;
    return &rows[i].step;
}

/* ---- timing ---------------------------------------------------------------------------------------------------- */

enum { TURNS_MOST = 3, SAMPLES_MOST = 801, SAMPLES_LEAST = 5 };

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Times up to three things in turns, so that all see the same weather. Samples are many and short: most of them are
 * whole even where another process takes the CPU now and then, and so the median is too. */
static void time_turns(struct turn *turns, int count)
{
    double times[TURNS_MOST][SAMPLES_MOST], round = 0;
    for (int t = 0; t < count; t++)
        prepare(&turns[t]);
    for (int warm = 0; warm < 2; warm++) {
        double start = now();
        for (int t = 0; t < count; t++)
            run(&turns[t]);
        round = now() - start;
    }
    round = round > 0 ? round : 1e-9;
    int samples = (int)(seconds_per_figure / round);
    samples = samples < SAMPLES_LEAST ? SAMPLES_LEAST : samples > SAMPLES_MOST ? SAMPLES_MOST : samples | 1;
    int calls = (int)(seconds_per_figure / samples / round);
    calls = calls < 1 ? 1 : calls;
    for (int s = 0; s < samples; s++)
        for (int t = 0; t < count; t++) {
            /* The caches hold what the turn before worked on, and a pool that waited is asleep: the call that wakes it
             * leaves all data with the one thread that did the work. */
            for (int i = 0; i < 2 && calls > 1; i++)
                run(&turns[t]);
            double start = now();
            for (int i = 0; i < calls; i++)
                run(&turns[t]);
            times[t][s] = (now() - start) / calls;
        }
    for (int t = 0; t < count; t++) {
        qsort(times[t], (size_t)samples, sizeof times[t][0], compare_doubles);
        turns[t].seconds = times[t][samples / 2];
        turns[t].spread = (times[t][samples - 1 - samples / 4] - times[t][samples / 4]) / 2 / turns[t].seconds;
    }
}

static double speed_of(const struct turn *turn)
{
    return bytes_of_value(turn->step) * (double)turn->buffers->n / turn->seconds * 1e-9;
}

/* ---- the report -------------------------------------------------------------------------------------------------- */

static void print_head(void)
{
    char line[256], name[256] = "unknown CPU";
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            snprintf(name, sizeof name, "%s", strchr(line, ':') + 2);
            name[strcspn(name, "\n")] = 0;
            break;
        }
    if (file)
        fclose(file);
#ifdef __clang__
    const char *compiler = __VERSION__;
#else
    const char *compiler = "gcc " __VERSION__;
#endif
    const char *kernels = qz_kernels();
    if (!kernels)
        check(QZ_ERROR_KERNELS);
    printf(as_json ? "{\"cpu\": \"%s\", \"kernels\": \"%s\", \"quantize\": \"%s\", \"compiler\": \"%s\"}\n"
                   : "CPU: %s; kernels: %s; quantize %s; compiler: %s\n",
           name, kernels, qz_version(), compiler);
}

static void print_limits(struct buffers *b)
{
    static const enum action actions[] = {READ, WRITE, STREAM, COPY, STREAM_COPY, READ_TWICE};
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        struct step step = {.action = actions[i], .dtype = QZ_F32};
        struct turn turn = {.step = &step, .buffers = b};
        time_turns(&turn, 1);
        if (as_json)
            printf("{\"limit\": \"%s\", \"floats\": %zu, \"gbs\": %.3f, \"spread\": %.4f}\n", limit_name(actions[i]),
                   b->n, speed_of(&turn), turn.spread);
        else
            printf("limit: %-23s %-8s %7.2f +-%4.1f%%\n", limit_name(actions[i]), "", speed_of(&turn),
                   100 * turn.spread);
    }
}

static void print_row(const struct row *row, const char *set, struct buffers *b)
{
    struct step limit = limit_of(&row->step, b->n);
    struct turn turns[3] = {{.step = &row->step, .buffers = b}, {.step = &limit, .buffers = b}};
    int count = 2;
    if (row->plain)
        turns[count++] = (struct turn){.step = step_of(row->plain), .buffers = b};
    if (row->step.action == DECODE) { /* something to decode */
        struct step source = row->step;
        source.action = ENCODE;
        source.transposed = 0;
        source.dtype = QZ_F32;
        struct turn first = {.step = &source, .buffers = b};
        prepare(&first);
        run(&first);
    }
    time_turns(turns, count);
    double speed = speed_of(&turns[0]), most = speed_of(&turns[1]), ratio = turns[0].seconds / turns[2].seconds;
    if (as_json) {
        printf("{\"operation\": \"%s\", \"kernels\": \"%s\", \"floats\": %zu, \"gbs\": %.3f, \"spread\": %.4f, "
               "\"limit_name\": \"%s\", \"limit_gbs\": %.3f",
               row->name, set, b->n, speed, turns[0].spread, limit_name(limit.action), most);
        if (row->plain)
            printf(", \"plain\": \"%s\", \"time_of_plain\": %.4f", row->plain, ratio);
        printf("}\n");
    } else {
        printf("%-30s %-8s %7.2f +-%4.1f%% %8.2f %6.2f  %s", row->name, set, speed, 100 * turns[0].spread, most,
               speed / most, limit_name(limit.action));
        if (row->plain)
            printf("; %.2fx the time of %s", ratio, row->plain);
        printf("\n");
    }
    fflush(stdout);
}

/* Two threads on twice the work: 2 is perfect. */
static void print_threads(const char *set)
{
    static const char *const names[] = {"quantize_to_int4", "dequantize_from_int4", "encode int4", "decode int4"};
    struct buffers one = make_buffers(THREAD_FLOATS), two = make_buffers(2 * THREAD_FLOATS);
    qz_pool *pool;
    check(qz_pool_create(2, &pool));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const struct step *step = step_of(names[i]);
        struct turn turns[2] = {{.step = step, .buffers = &one}, {.step = step, .buffers = &two, .pool = pool}};
        time_turns(turns, 2);
        double gain = speed_of(&turns[1]) / speed_of(&turns[0]);
        if (as_json)
            printf("{\"threads\": 2, \"operation\": \"%s\", \"kernels\": \"%s\", \"one_gbs\": %.3f, \"two_gbs\": "
                   "%.3f, \"spread\": %.4f, \"gain\": %.4f}\n",
                   names[i], set, speed_of(&turns[0]), speed_of(&turns[1]), turns[1].spread, gain);
        else
            printf("%-30s %-8s %7.2f GB/s, two threads %7.2f +-%4.1f%%: %.2fx\n", names[i], set, speed_of(&turns[0]),
                   speed_of(&turns[1]), 100 * turns[1].spread, gain);
        fflush(stdout);
    }
    qz_pool_destroy(pool);
    free_buffers(&one);
    free_buffers(&two);
}

/* ---- the command line ---------------------------------------------------------------------------------------------
 */

static int flag(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return i;
    return 0;
}

static const char *argument(int argc, char **argv, const char *name, const char *otherwise)
{
    int i = flag(argc, argv, name);
    return i > 0 && i + 1 < argc ? argv[i + 1] : otherwise;
}

/* At least one row of the smallest matrix; 0 leaves the size out. */
static size_t floats(const char *text)
{
    return (size_t)strtoull(text, NULL, 10) / 4096 * 4096;
}

int main(int argc, char **argv)
{
    size_t sizes[2] = {floats(argument(argc, argv, "--small", "65536")),
                       floats(argument(argc, argv, "--large", "67108864"))};
    seconds_per_figure = strtod(argument(argc, argv, "--seconds", "0.4"), NULL);
    const char *only = argument(argc, argv, "--only", ""), *set_wanted = argument(argc, argv, "--kernels", NULL);
    as_json = flag(argc, argv, "--json") > 0;
    print_head();
    for (int s = 0; s < 2; s++) {
        if (sizes[s] == 0)
            continue;
        struct buffers b = make_buffers(sizes[s]);
        if (!as_json)
            printf("\n%zu KiB of float32, one thread\n%-30s %-8s %7s %7s %8s %6s  %s\n", sizes[s] / 256, "operation",
                   "kernels", "GB/s", "", "limit", "part", "limit is");
        if (!*only)
            print_limits(&b);
        for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
            const char *set;
            int supported;
            for (size_t i = 0; (set = qz_kernels_at(i, &supported)); i++) {
                if ((rows[k].cached && b.n >= LARGE) || !strstr(rows[k].name, only) || !supported ||
                    (set_wanted && strcmp(set, set_wanted) != 0))
                    continue;
                check(qz_kernels_use(set));
                print_row(&rows[k], set, &b);
            }
        }
        free_buffers(&b);
    }
    if (!flag(argc, argv, "--no-threads")) {
        check(qz_kernels_use(set_wanted));
        if (!as_json)
            printf("\n%d KiB of float32 a thread, two threads beside one\n", THREAD_FLOATS / 256);
        print_threads(qz_kernels());
    }
    return 0;
}
