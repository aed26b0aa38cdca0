/*
 * grouped.c - a scale for every group of neighbours in a row, and what it cost
 *
 * Encodes a matrix with every scheme of the library, decodes it again, and reports size and accuracy. A second call
 * shows how bad input is reported.
 */
#include <quantize.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 64, COLS = 256 };

static float weights[ROWS * COLS], decoded[ROWS * COLS];

/* Numbers that look like weights: the sum of four uniform ones. The same on every machine. */
static void make_weights(void)
{
    uint32_t state = 1;
    for (int i = 0; i < ROWS * COLS; i++) {
        float sum = 0;
        for (int k = 0; k < 4; k++) {
            state = state * 1664525u + 1013904223u;
            sum += (float)(state >> 8) * 0x1p-24f - 0.5f;
        }
        weights[i] = sum * 0.1f;
    }
}

/* Memory for the plain form: up to four parts, the last two only for schemes that have them. */
static int allocate(const qz_sizes *sizes, qz_packed *packed)
{
    packed->codes = malloc(ROWS * sizes->code_bytes);
    packed->scales = malloc(ROWS * sizes->scale_bytes);
    packed->zeros = sizes->zero_bytes ? malloc(ROWS * sizes->zero_bytes) : NULL;
    packed->supers = sizes->super_bytes ? malloc(ROWS * sizes->super_bytes) : NULL;
    packed->code_stride = (int64_t)sizes->code_bytes;
    packed->scale_stride = (int64_t)sizes->scale_bytes;
    packed->zero_stride = (int64_t)sizes->zero_bytes;
    packed->super_stride = (int64_t)sizes->super_bytes;
    return packed->codes && packed->scales && (packed->zeros || !sizes->zero_bytes) &&
           (packed->supers || !sizes->super_bytes);
}

static void release(qz_packed *packed)
{
    free(packed->codes);
    free(packed->scales);
    free(packed->zeros);
    free(packed->supers);
}

/* Encodes with a scheme, decodes, prints a line. Not 0 if something went wrong. */
static int try_scheme(const qz_scheme *scheme)
{
    qz_matrix source = {weights, QZ_F32, ROWS, COLS, COLS, 1}, target = {decoded, QZ_F32, ROWS, COLS, COLS, 1};
    qz_sizes sizes = {.size = sizeof sizes};
    qz_stats stats = QZ_STATS_INIT;
    qz_packed packed;

    if (qz_scheme_sizes(scheme, ROWS, COLS, &sizes) != QZ_OK)
        return 1;
    int good = allocate(&sizes, &packed) && qz_encode(scheme, &source, &packed, NULL, &stats, NULL) == QZ_OK &&
               qz_decode(scheme, &packed, &target, NULL, NULL) == QZ_OK;
    if (good)
        printf("%-23s %5.3f bits a value  %5.2f dB  largest error %.4f\n", scheme->name, sizes.bits_per_value,
               10 * log10(stats.signal / stats.error), stats.max_error);
    release(&packed);
    return !good;
}

/* What the library says about a matrix with a NaN in it. */
static int try_nan(void)
{
    const qz_scheme *scheme = qz_scheme_by_name("int4");
    float values[6] = {1.0f, 2.0f, 3.0f, 4.0f, NAN, 6.0f};
    uint8_t codes[4];
    uint16_t scales[2];
    qz_matrix source = {values, QZ_F32, 2, 3, 3, 1};
    qz_packed packed = {codes, scales, NULL, 2, 2, 0, NULL, 0};
    qz_detail detail = QZ_DETAIL_INIT;

    qz_result result = qz_encode(scheme, &source, &packed, NULL, NULL, &detail);
    printf("a NaN: %s, first at row %d, column %d\n", qz_result_text(result), (int)(detail.index / 3),
           (int)(detail.index % 3));
    return result != QZ_ERROR_NONFINITE;
}

int main(void)
{
    make_weights();
    int bad = 0;
    for (size_t i = 0; qz_scheme_at(i); i++)
        bad |= try_scheme(qz_scheme_at(i));
    return bad | try_nan();
}
