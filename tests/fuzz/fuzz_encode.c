/*
 * fuzz_encode.c - what a fuzzer makes up, encoded: the law that what was written can be read, and that all kernel sets
 * of this machine write the same bytes
 *
 *     clang -g -O1 -ffp-contract=off -fsanitize=fuzzer,address,undefined,float-cast-overflow -DQZ_LIBFUZZER -Iinclude
 *           tests/fuzz/fuzz_encode.c $(find src -name '*.c') -lm -pthread -o fuzz && ./fuzz
 *
 * scripts/fuzz.py encode does it. The first bytes choose the scheme and the options, the others are float32 values,
 * then weights. Without QZ_LIBFUZZER it is a plain program that does the same once with each file named on its command
 * line, or, with a number instead, with so many random inputs: on processors that no fuzzer runs on.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <quantize.h>

enum { HEAD = 12, MOST = 1024 };

/* Where the results of a kernel set go. */
struct written {
    qz_result result;
    uint8_t codes[MOST], scales[4 * MOST], zeros[4 * MOST];
    float supers[2 * MOST], values[MOST];
    qz_stats stats;
};

static void broken(const char *law, const qz_scheme *scheme, qz_method method, const char *set)
{
    fprintf(stderr, "%s: codes %d, scales %d, zero %d, group %d, super %d of %d, positive %d, method %d, kernels %s\n",
            law, (int)scheme->codes, (int)scheme->scale_dtype, (int)scheme->zero, (int)scheme->group_size,
            (int)scheme->super_dtype, (int)scheme->super_size, scheme->positive, (int)method, set);
    abort();
}

/* A scheme of ours, or one put together by the bytes; most of these are refused. */
static qz_scheme choose_scheme(const uint8_t *head, const float *table)
{
    static const uint64_t sizes[] = {1, 7, 16, 32, 64, 2100};
    static const uint64_t supers[] = {0, 32, 64, 256, QZ_WHOLE_ROW, QZ_WHOLE_MATRIX};
    const qz_scheme *ours = qz_scheme_at(head[0]);
    if (ours)
        return *ours;
    qz_scheme scheme = *qz_scheme_by_name("nf4");
    scheme.rule = QZ_RULE_NONE;
    scheme.codes = (qz_codes)(1 + head[1] % 8);
    scheme.scale_dtype = (qz_dtype)(1 + head[2] % 9);
    scheme.zero = (qz_zero)(head[3] % 4);
    scheme.group_size = sizes[head[4] % 6];
    scheme.super_size = supers[head[5] % 6];
    scheme.super_dtype = scheme.super_size ? head[5] & 64 ? QZ_F16 : QZ_F32 : (qz_dtype)0;
    scheme.positive = head[3] >> 7;
    if (scheme.codes == QZ_TABLE)
        scheme.table = table;
    return scheme;
}

static void encode(const qz_scheme *scheme, const qz_matrix *src, const qz_options *options, const char *set,
                   struct written *to)
{
    qz_sizes sizes = {.size = sizeof sizes};
    memset(to, 0, sizeof *to);
    if (qz_scheme_sizes(scheme, src->rows, src->cols, &sizes) != QZ_OK)
        abort();
    qz_packed packed = {to->codes,
                        to->scales,
                        scheme->zero ? to->zeros : NULL,
                        (int64_t)sizes.code_bytes,
                        (int64_t)sizes.scale_bytes,
                        (int64_t)sizes.zero_bytes,
                        scheme->super_size ? to->supers : NULL,
                        (int64_t)sizes.super_bytes};
    qz_matrix values = {to->values, QZ_F32, src->rows, src->cols, (int64_t)src->cols, 1};
    to->stats = (qz_stats)QZ_STATS_INIT;
    to->result = qz_encode(scheme, src, &packed, options, &to->stats, NULL);
    if (to->result != QZ_OK) { /* what was begun has no meaning */
        qz_result result = to->result;
        memset(to, 0, sizeof *to);
        to->result = result;
        return;
    }
    if (qz_validate(scheme, &packed, src->rows, src->cols, NULL) != QZ_OK)
        broken("it is not valid", scheme, options->method, set);
    if (qz_decode(scheme, &packed, &values, NULL, NULL) != QZ_OK)
        broken("it does not decode", scheme, options->method, set);
    for (uint64_t i = 0; i < src->rows * src->cols; i++)
        if (!isfinite(to->values[i]))
            broken("a value is not finite", scheme, options->method, set);
    const qz_stats *s = &to->stats;
    if (!isfinite(s->signal) || !isfinite(s->error) || !isfinite(s->max_error) || !isfinite(s->weighted_signal) ||
        !isfinite(s->weighted_error))
        broken("statistics are not finite", scheme, options->method, set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static float floats[2 * MOST], table[16];
    static struct written first, other;
    if (size < HEAD + sizeof table + sizeof(float))
        return 0;
    memcpy(table, data + HEAD, sizeof table);
    qz_scheme scheme = choose_scheme(data, table);
    size_t n = (size - HEAD) / sizeof(float), cols, rows;
    int weighted = data[6] & 1;
    n = n < sizeof floats / sizeof *floats ? n : sizeof floats / sizeof *floats;
    memcpy(floats, data + HEAD, n * sizeof(float));
    if (weighted)
        n /= 2;
    n = n < MOST ? n : MOST;
    rows = n < 3 ? 1 : 1 + data[7] % 3;
    cols = n / rows;
    if (cols == 0)
        return 0;
    qz_options options = QZ_OPTIONS_INIT;
    qz_matrix src = {floats, QZ_F32, rows, cols, (int64_t)cols, 1}, w = src;
    w.data = floats + n;
    options.method = (qz_method)(data[8] % 7);
    options.nonfinite = data[6] & 2 ? QZ_CLIP : QZ_REFUSE;
    options.stochastic = data[6] >> 2 & 1;
    options.seed = data[9];
    for (size_t i = 0; i < n && weighted; i++)
        floats[n + i] = fabsf(floats[n + i]);
    if (weighted)
        options.weights = &w;
    qz_sizes sizes = {.size = sizeof sizes};
    if (qz_scheme_sizes(&scheme, rows, cols, &sizes) != QZ_OK)
        return 0;
    if (options.method == QZ_EXACT && scheme.scale_dtype == QZ_F32 && weighted)
        return 0; /* right, but with weights of all magnitudes it takes minutes a group */
    const char *set, *name = NULL;
    int supported;
    for (size_t k = 0; (set = qz_kernels_at(k, &supported)) != NULL; k++) {
        if (!supported || qz_kernels_use(set) != QZ_OK)
            continue;
        encode(&scheme, &src, &options, set, name ? &other : &first);
        if (name && memcmp(&first, &other, offsetof(struct written, stats)) != 0)
            broken("kernel sets differ", &scheme, options.method, set);
        name = set;
    }
    return 0;
}

#ifndef QZ_LIBFUZZER
/* Random numbers of every exponent, and now and then a row of bits from the same place. */
static void make_up(uint64_t seed)
{
    static uint8_t data[HEAD + 2 * MOST * sizeof(float)];
    uint64_t z = seed;
    for (size_t i = 0; i < sizeof data; i += 4) {
        z = (z ^ z >> 31) * 0x9e3779b97f4a7c15u + i + 1;
        uint32_t word = (uint32_t)(z >> 32);
        if (i >= HEAD && seed % 3)
            word = (word & 0x81ffffffu) | (uint32_t)(seed % 59 + 2) << 25;
        if (i >= HEAD && z % 61 == 0)
            word = (uint32_t)(z >> 32);
        memcpy(data + i, &word, 4);
    }
    if (seed % 2)
        data[0] = (uint8_t)(seed / 2 % 22);
    LLVMFuzzerTestOneInput(data, HEAD + 80 + (size_t)(z >> 20) % (sizeof data - HEAD - 80));
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        static uint8_t data[1 << 16];
        if (!file) {
            uint64_t count = strtoull(argv[i], NULL, 10);
            for (uint64_t seed = 0; seed < count; seed++)
                make_up(seed);
            continue;
        }
        LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof data, file));
        fclose(file);
    }
    return 0;
}
#endif
