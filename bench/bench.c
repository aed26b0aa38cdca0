/*
 * bench.c - every operation on every kernel set, beside what this machine's memory can do in the same run
 *
 *     bench [--small FLOATS] [--large FLOATS] [--seconds S] [--json FILE] [--only TEXT] [--kernels NAME]
 *
 * One thread. Figures are GB/s of float32 (4 bytes a value), except pack and unpack: GB/s of all bytes moved. A figure is
 * the median of many calls; its limit is measured right before it, by the plainest loop that moves the same bytes,
 * compiled for the widest vectors the machine has. "part" is the share of that limit that was reached.
 */
#include "quantize.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define WIDE __attribute__((target("avx2")))
#define WIDEST __attribute__((target("avx512f")))
#endif

static double seconds_per_figure = 0.4;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- buffers ------------------------------------------------------------------------------------------------- */

struct buffers {
    size_t n;        /* floats */
    float *x, *y;    /* input and output */
    int8_t *codes;   /* n */
    uint8_t *packed; /* n / 2 */
    uint8_t *scales, *zeros;
    double scale, zero_point;
};

static void *allocate(size_t bytes)
{
    void *p = NULL;
    if (posix_memalign(&p, 4096, bytes + 4096) != 0) {
        fprintf(stderr, "bench: no memory for %zu bytes\n", bytes);
        exit(1);
    }
    memset(p, 0, bytes + 4096);
    return p;
}

/* Sums of uniform numbers: close to normal, from integers alone. */
static void fill(float *x, size_t n)
{
    uint64_t s = 88172645463325252u;
    for (size_t i = 0; i < n; i++) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        int sum = (int)(s & 0xffff) + (int)(s >> 16 & 0xffff) + (int)(s >> 32 & 0xffff) + (int)(s >> 48);
        x[i] = (float)(sum - 131070) * 2.6e-5f;
    }
}

static struct buffers make_buffers(size_t n)
{
    struct buffers b = {.n = n};
    b.x = allocate(n * 4);
    b.y = allocate(n * 4);
    b.codes = allocate(n);
    b.packed = allocate(n / 2);
    b.scales = allocate(n / 4);
    b.zeros = allocate(n / 4);
    fill(b.x, n);
    return b;
}

static void free_buffers(struct buffers *b)
{
    free(b->x), free(b->y), free(b->codes), free(b->packed), free(b->scales), free(b->zeros);
}

/* ---- the limits: the plainest loops ---------------------------------------------------------------------------- */

static volatile uint64_t sink;

#if defined(__x86_64__)
static WIDEST void read_512(const void *src, size_t bytes)
{
    const char *p = src;
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (size_t i = 0; i + 256 <= bytes; i += 256) {
        a = _mm512_xor_si512(a, _mm512_loadu_si512(p + i));
        b = _mm512_xor_si512(b, _mm512_loadu_si512(p + i + 64));
        c = _mm512_xor_si512(c, _mm512_loadu_si512(p + i + 128));
        d = _mm512_xor_si512(d, _mm512_loadu_si512(p + i + 192));
    }
    a = _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d));
    sink = (uint64_t)_mm512_reduce_add_epi64(a);
}

static WIDEST void write_512(void *dst, size_t bytes)
{
    char *p = dst;
    __m512i v = _mm512_set1_epi32(0x3f800000);
    for (size_t i = 0; i + 256 <= bytes; i += 256) {
        _mm512_storeu_si512(p + i, v);
        _mm512_storeu_si512(p + i + 64, v);
        _mm512_storeu_si512(p + i + 128, v);
        _mm512_storeu_si512(p + i + 192, v);
    }
}

static WIDEST void stream_512(void *dst, size_t bytes)
{
    char *p = dst;
    __m512i v = _mm512_set1_epi32(0x3f800000);
    for (size_t i = 0; i + 256 <= bytes; i += 256) {
        _mm512_stream_si512((void *)(p + i), v);
        _mm512_stream_si512((void *)(p + i + 64), v);
        _mm512_stream_si512((void *)(p + i + 128), v);
        _mm512_stream_si512((void *)(p + i + 192), v);
    }
    _mm_sfence();
}

static WIDE void read_256(const void *src, size_t bytes)
{
    const char *p = src;
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (size_t i = 0; i + 128 <= bytes; i += 128) {
        a = _mm256_xor_si256(a, _mm256_loadu_si256((const __m256i *)(p + i)));
        b = _mm256_xor_si256(b, _mm256_loadu_si256((const __m256i *)(p + i + 32)));
        c = _mm256_xor_si256(c, _mm256_loadu_si256((const __m256i *)(p + i + 64)));
        d = _mm256_xor_si256(d, _mm256_loadu_si256((const __m256i *)(p + i + 96)));
    }
    a = _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d));
    sink = (uint64_t)_mm256_extract_epi64(a, 0) ^ (uint64_t)_mm256_extract_epi64(a, 1) ^
           (uint64_t)_mm256_extract_epi64(a, 2) ^ (uint64_t)_mm256_extract_epi64(a, 3);
}

static WIDE void write_256(void *dst, size_t bytes)
{
    char *p = dst;
    __m256i v = _mm256_set1_epi32(0x3f800000);
    for (size_t i = 0; i + 128 <= bytes; i += 128)
        for (size_t j = 0; j < 128; j += 32)
            _mm256_storeu_si256((__m256i *)(p + i + j), v);
}

static WIDE void stream_256(void *dst, size_t bytes)
{
    char *p = dst;
    __m256i v = _mm256_set1_epi32(0x3f800000);
    for (size_t i = 0; i + 128 <= bytes; i += 128)
        for (size_t j = 0; j < 128; j += 32)
            _mm256_stream_si256((__m256i *)(p + i + j), v);
    _mm_sfence();
}
#endif

static int have_512, have_256;

static void read_bytes(const void *src, size_t bytes)
{
#if defined(__x86_64__)
    if (have_512) {
        read_512(src, bytes);
        return;
    }
    if (have_256) {
        read_256(src, bytes);
        return;
    }
#endif
    const uint64_t *p = src;
    uint64_t s[8] = {0};
    for (size_t i = 0; i + 8 <= bytes / 8; i += 8)
        for (size_t j = 0; j < 8; j++)
            s[j] ^= p[i + j];
    sink = s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7];
}

static void write_bytes(void *dst, size_t bytes)
{
#if defined(__x86_64__)
    if (have_512) {
        write_512(dst, bytes);
        return;
    }
    if (have_256) {
        write_256(dst, bytes);
        return;
    }
#endif
    memset(dst, 1, bytes);
}

static void stream_bytes(void *dst, size_t bytes)
{
#if defined(__x86_64__)
    if (have_512) {
        stream_512(dst, bytes);
        return;
    }
    if (have_256) {
        stream_256(dst, bytes);
        return;
    }
#endif
    memset(dst, 1, bytes);
}

/* ---- operations ------------------------------------------------------------------------------------------------ */

static void check(qz_result result)
{
    if (result != QZ_OK) {
        fprintf(stderr, "bench: %s\n", qz_result_text(result));
        exit(1);
    }
}

static void op_quantize(struct buffers *b)
{
    check(qz_quantize_i4(b->x, QZ_F32, b->n, QZ_MINMAX, b->codes, &b->scale, &b->zero_point, NULL, NULL));
}

static void op_dequantize(struct buffers *b)
{
    check(qz_dequantize_i4(b->codes, b->n, 0.1, 0.0, b->y, QZ_F32, NULL, NULL));
}

static void op_pack(struct buffers *b)
{
    check(qz_pack_i4(b->codes, b->n, b->packed, NULL, NULL));
}

static void op_unpack(struct buffers *b)
{
    check(qz_unpack_i4(b->packed, b->n, b->codes, NULL));
}

/* Rows of 4096 values, or columns of that length when `transposed`. */
static void grouped(struct buffers *b, const char *name, int transposed, int encode, int want_stats)
{
    qz_scheme scheme = *qz_scheme_by_name(name);
    uint64_t cols = b->n < 4096 * 16 ? 256 : 4096, rows = b->n / cols;
    qz_sizes sizes = {.size = sizeof sizes};
    check(qz_scheme_sizes(&scheme, rows, cols, &sizes));
    qz_packed packed = {b->packed,
                        b->scales,
                        b->zeros,
                        (int64_t)sizes.code_bytes,
                        (int64_t)sizes.scale_bytes,
                        (int64_t)sizes.zero_bytes};
    qz_matrix matrix = {encode ? b->x : b->y, QZ_F32, rows, cols, (int64_t)cols, 1};
    if (transposed) {
        matrix.row_stride = 1;
        matrix.col_stride = (int64_t)rows;
    }
    qz_stats stats = QZ_STATS_INIT;
    if (encode)
        check(qz_encode(&scheme, &matrix, &packed, NULL, want_stats ? &stats : NULL, NULL));
    else
        check(qz_decode(&scheme, &packed, &matrix, NULL, NULL));
}

static void op_encode_int4(struct buffers *b) { grouped(b, "int4", 0, 1, 0); }
static void op_encode_int4_stats(struct buffers *b) { grouped(b, "int4", 0, 1, 1); }
static void op_encode_int4_axis0(struct buffers *b) { grouped(b, "int4", 1, 1, 0); }
static void op_encode_uint4(struct buffers *b) { grouped(b, "uint4", 0, 1, 0); }
static void op_encode_uint4_stats(struct buffers *b) { grouped(b, "uint4", 0, 1, 1); }
static void op_encode_offset(struct buffers *b) { grouped(b, "uint4_offset", 0, 1, 0); }
static void op_decode_int4(struct buffers *b) { grouped(b, "int4", 0, 0, 0); }
static void op_decode_int4_axis0(struct buffers *b) { grouped(b, "int4", 1, 0, 0); }
static void op_decode_uint4(struct buffers *b) { grouped(b, "uint4", 0, 0, 0); }
static void op_decode_offset(struct buffers *b) { grouped(b, "uint4_offset", 0, 0, 0); }

static void limit_read(struct buffers *b) { read_bytes(b->x, b->n * 4); }
static void limit_write(struct buffers *b) { write_bytes(b->y, b->n * 4); }
static void limit_stream(struct buffers *b) { stream_bytes(b->y, b->n * 4); }

/* Reads the array twice and writes a byte a value. */
static void limit_twice(struct buffers *b)
{
    read_bytes(b->x, b->n * 4);
    read_bytes(b->x, b->n * 4);
    if (b->n > 16u << 20)
        stream_bytes(b->y, b->n);
    else
        write_bytes(b->y, b->n);
}

/* A copy that moves as many bytes as pack and unpack do: 3/2 bytes a value, half of them read. */
static void limit_copy(struct buffers *b)
{
    memcpy(b->y, b->codes, b->n / 4 * 3);
}

struct op {
    const char *name;
    void (*run)(struct buffers *);
    double bytes;             /* a value, for GB/s */
    const char *limit_name[2]; /* for the small and the large size */
    void (*limit[2])(struct buffers *);
    double limit_bytes[2];
};

static const struct op ops[] = {
    {"quantize_to_int4", op_quantize, 4, {"read x2, write codes", "read x2, write codes"}, {limit_twice, limit_twice}, {4, 4}},
    {"dequantize_from_int4", op_dequantize, 4, {"write", "streaming write"}, {limit_write, limit_stream}, {4, 4}},
    {"pack", op_pack, 1.5, {"copy", "copy"}, {limit_copy, limit_copy}, {1.5, 1.5}},
    {"unpack", op_unpack, 1.5, {"copy", "copy"}, {limit_copy, limit_copy}, {1.5, 1.5}},
    {"encode int4 g32", op_encode_int4, 4, {"read", "read"}, {limit_read, limit_read}, {4, 4}},
    {"  with statistics", op_encode_int4_stats, 4, {"read", "read"}, {limit_read, limit_read}, {4, 4}},
    {"  axis 0", op_encode_int4_axis0, 4, {"read", "read"}, {limit_read, limit_read}, {4, 4}},
    {"encode uint4 g32", op_encode_uint4, 4, {"read", "read"}, {limit_read, limit_read}, {4, 4}},
    {"  with statistics", op_encode_uint4_stats, 4, {"read", "read"}, {limit_read, limit_read}, {4, 4}},
    {"encode uint4_offset g32", op_encode_offset, 4, {"read", "read"}, {limit_read, limit_read}, {4, 4}},
    {"decode int4 g32", op_decode_int4, 4, {"write", "streaming write"}, {limit_write, limit_stream}, {4, 4}},
    {"  axis 0", op_decode_int4_axis0, 4, {"write", "streaming write"}, {limit_write, limit_stream}, {4, 4}},
    {"decode uint4 g32", op_decode_uint4, 4, {"write", "streaming write"}, {limit_write, limit_stream}, {4, 4}},
    {"decode uint4_offset g32", op_decode_offset, 4, {"write", "streaming write"}, {limit_write, limit_stream}, {4, 4}},
};

/* ---- timing ---------------------------------------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median seconds of a call; the two functions take turns so that both see the same weather. */
static void time_pair(void (*f)(struct buffers *), void (*g)(struct buffers *), struct buffers *b, double *tf, double *tg)
{
    enum { SAMPLES = 41 };
    double f_times[SAMPLES], g_times[SAMPLES];
    f(b), g(b);
    double start = now();
    f(b), g(b);
    double pair = now() - start;
    int samples = (int)(seconds_per_figure / (pair > 0 ? pair : 1e-9));
    samples = samples < 5 ? 5 : samples > SAMPLES ? SAMPLES : samples | 1;
    int calls = (int)(seconds_per_figure / samples / (pair > 0 ? pair : 1e-9));
    calls = calls < 1 ? 1 : calls;
    for (int s = 0; s < samples; s++) {
        start = now();
        for (int i = 0; i < calls; i++)
            f(b);
        double middle = now();
        for (int i = 0; i < calls; i++)
            g(b);
        g_times[s] = (now() - middle) / calls;
        f_times[s] = (middle - start) / calls;
    }
    qsort(f_times, (size_t)samples, sizeof f_times[0], compare_doubles);
    qsort(g_times, (size_t)samples, sizeof g_times[0], compare_doubles);
    *tf = f_times[samples / 2];
    *tg = g_times[samples / 2];
}

static void print_cpu(void)
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
    printf("CPU: %s; quantize %s; compiler: %s\n", name, qz_version(), __VERSION__);
}

static const char *argument(int argc, char **argv, const char *name, const char *otherwise)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return otherwise;
}

int main(int argc, char **argv)
{
    size_t sizes[2] = {strtoull(argument(argc, argv, "--small", "65536"), NULL, 10),
                       strtoull(argument(argc, argv, "--large", "67108864"), NULL, 10)};
    seconds_per_figure = strtod(argument(argc, argv, "--seconds", "0.4"), NULL);
    const char *only = argument(argc, argv, "--only", NULL), *set_wanted = argument(argc, argv, "--kernels", NULL);
    const char *json = argument(argc, argv, "--json", NULL);
#if defined(__x86_64__)
    have_512 = __builtin_cpu_supports("avx512f");
    have_256 = __builtin_cpu_supports("avx2");
#endif
    FILE *out = json ? fopen(json, "w") : NULL;
    if (json && !out) {
        perror(json);
        return 1;
    }
    if (out)
        fprintf(out, "[");
    const char *comma = "";
    print_cpu();
    for (int s = 0; s < 2; s++) {
        if (sizes[s] == 0)
            continue;
        struct buffers b = make_buffers(sizes[s]);
        printf("\n%zu KiB of float32, one thread\n%-26s %-8s %8s %8s  %6s  %s\n", sizes[s] / 256, "operation", "kernels", "GB/s",
               "limit", "part", "limit is");
        for (size_t k = 0; k < sizeof ops / sizeof ops[0]; k++) {
            if (only && !strstr(ops[k].name, only))
                continue;
            int supported;
            const char *set;
            for (size_t i = 0; (set = qz_kernels_at(i, &supported)); i++) {
                double t, limit;
                if (!supported || (set_wanted && strcmp(set, set_wanted) != 0) ||
                    (sizes[s] > 1u << 20 && !set_wanted && strcmp(set, "scalar") == 0))
                    continue;
                check(qz_kernels_use(set));
                time_pair(ops[k].run, ops[k].limit[s], &b, &t, &limit);
                double n = (double)b.n, speed = ops[k].bytes * n / t * 1e-9, most = ops[k].limit_bytes[s] * n / limit * 1e-9;
                printf("%-26s %-8s %8.2f %8.2f  %5.2f   %s\n", ops[k].name, set, speed, most, speed / most,
                       ops[k].limit_name[s]);
                fflush(stdout);
                if (out) {
                    fprintf(out, "%s\n {\"operation\": \"%s\", \"kernels\": \"%s\", \"floats\": %zu, \"GB/s\": %.3f, \"limit GB/s\": %.3f}",
                            comma, ops[k].name, set, b.n, speed, most);
                    comma = ",";
                }
            }
        }
        free_buffers(&b);
    }
    if (out) {
        fprintf(out, "\n]\n");
        fclose(out);
    }
    return 0;
}
