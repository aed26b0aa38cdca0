/*
 * ours.c - this library as peers.py and schemes.py call it: one address each for what is to be encoded and its results
 *
 * Structures are made here, so that Python need not know how they are laid out.
 */
#include "quantize.h"

#include <stdlib.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

struct grouped {
    qz_scheme scheme;
    qz_matrix source, target, weights;
    qz_packed packed;
    qz_options options;
};

struct grouped *ours_make(const char *scheme, int method, uint64_t group_size, uint64_t rows, uint64_t cols, float *x,
                          float *y);
void ours_weigh(struct grouped *grouped, float *weights);
int ours_encode(const struct grouped *grouped);
int ours_decode(const struct grouped *grouped);

static void *zeros(uint64_t bytes)
{
    return calloc(bytes ? (size_t)bytes : 1, 1);
}

/* Rows of floats at x that will be encoded, and decoded to y; a method of qz_method, and 0 for the scheme's own group
 * size. NULL for what cannot be had. It is there until the process ends. */
EXPORT struct grouped *ours_make(const char *scheme, int method, uint64_t group_size, uint64_t rows, uint64_t cols,
                                 float *x, float *y)
{
    const qz_scheme *found = qz_scheme_by_name(scheme);
    if (!found)
        return NULL;
    qz_scheme chosen = *found;
    qz_sizes sizes = {.size = sizeof sizes};
    if (group_size)
        chosen.group_size = group_size;
    if (qz_scheme_sizes(&chosen, rows, cols, &sizes) != QZ_OK)
        return NULL;
    struct grouped *grouped = zeros(sizeof *grouped);
    if (!grouped)
        return NULL;
    grouped->scheme = chosen;
    grouped->source = (qz_matrix){x, QZ_F32, rows, cols, (int64_t)cols, 1};
    grouped->target = (qz_matrix){y, QZ_F32, rows, cols, (int64_t)cols, 1};
    grouped->packed = (qz_packed){
        .codes = zeros(rows * sizes.code_bytes),
        .scales = zeros(rows * sizes.scale_bytes),
        .zeros = sizes.zero_bytes ? zeros(rows * sizes.zero_bytes) : NULL,
        .code_stride = (int64_t)sizes.code_bytes,
        .scale_stride = (int64_t)sizes.scale_bytes,
        .zero_stride = (int64_t)sizes.zero_bytes,
        .supers = sizes.super_bytes ? zeros(rows * sizes.super_bytes) : NULL,
        .super_stride = (int64_t)sizes.super_bytes,
    };
    grouped->options = (qz_options)QZ_OPTIONS_INIT;
    grouped->options.method = (qz_method)method;
    return grouped;
}

/* From now on errors count by these weights, one for each column. */
EXPORT void ours_weigh(struct grouped *grouped, float *weights)
{
    grouped->weights = (qz_matrix){weights, QZ_F32, grouped->source.rows, grouped->source.cols, 0, 1};
    grouped->options.weights = &grouped->weights;
}

/* Both return a qz_result. */
EXPORT int ours_encode(const struct grouped *grouped)
{
    return qz_encode(&grouped->scheme, &grouped->source, &grouped->packed, &grouped->options, NULL, NULL);
}

EXPORT int ours_decode(const struct grouped *grouped)
{
    return qz_decode(&grouped->scheme, &grouped->packed, &grouped->target, NULL, NULL);
}
