/*
 * model.c - a matrix of a model file, multiplied as it lies there
 *
 *     model FILE [TENSOR]
 *
 * Opens a file of any kind and layout that holds quantized matrices (GGUF, safetensors, .npz), reads one of them, by
 * default the first, and multiplies it with a vector without decoding it: y = x w^T, once with x as it is, once with x
 * rounded to eight bits. x[k] is cos(k).
 */
#include <quantize_file.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN = 3 };

static int failed(const char *why)
{
    fprintf(stderr, "model: %s\n", why);
    return 1;
}

static size_t all_rows(const qz_packed_tensor *tensor, uint64_t bytes)
{
    return (size_t)(tensor->rows * bytes);
}

/* Reads the whole tensor into memory that free_packed() releases. */
static int load(qz_file *file, const qz_packed_tensor *tensor, qz_packed *packed)
{
    const qz_sizes *sizes = &tensor->sizes;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_detail detail = QZ_DETAIL_INIT;
    packed->code_stride = (int64_t)sizes->code_bytes;
    packed->scale_stride = (int64_t)sizes->scale_bytes;
    packed->zero_stride = (int64_t)sizes->zero_bytes;
    packed->super_stride = (int64_t)sizes->super_bytes;
    packed->codes = malloc(all_rows(tensor, sizes->code_bytes) + 1);
    packed->scales = malloc(all_rows(tensor, sizes->scale_bytes) + 1);
    packed->zeros = malloc(all_rows(tensor, sizes->zero_bytes) + 1);
    packed->supers = malloc(all_rows(tensor, sizes->super_bytes) + 1);
    if (!packed->codes || !packed->scales || !packed->zeros || !packed->supers)
        return failed("not enough memory");
    if (qz_packed_read(file, tensor, 0, tensor->rows, 0, tensor->cols, packed, &error) != QZ_FILE_OK)
        return failed(error.message);
    /* The bytes come from outside: they are checked once before they are trusted. */
    qz_result result = qz_validate(&tensor->scheme, packed, tensor->rows, tensor->cols, &detail);
    return result == QZ_OK ? 0 : failed(qz_result_text(result));
}

static void free_packed(qz_packed *packed)
{
    free(packed->codes);
    free(packed->scales);
    free(packed->zeros);
    free(packed->supers);
}

static int multiply(const qz_packed_tensor *tensor, const qz_packed *packed, float *x, float *y)
{
    qz_matrix from = {x, QZ_F32, 1, tensor->cols, (int64_t)tensor->cols, 1};
    qz_matrix to = {y, QZ_F32, 1, tensor->rows, (int64_t)tensor->rows, 1};
    qz_linear_options options = QZ_LINEAR_OPTIONS_INIT;
    for (uint64_t k = 0; k < tensor->cols; k++)
        x[k] = cosf((float)k);
    for (int bits = 32; bits >= 8; bits -= 24) {
        options.activations = bits == 8 ? QZ_ACTIVATIONS_I8 : QZ_ACTIVATIONS_F32;
        qz_result result = qz_linear(&tensor->scheme, packed, tensor->rows, tensor->cols, &from, &options, &to, NULL);
        if (result != QZ_OK)
            return failed(qz_result_text(result));
        printf("x of %2d bits:", bits);
        for (uint64_t row = 0; row < tensor->rows && row < SHOWN; row++)
            printf(" %8.3f", (double)y[row]);
        puts(tensor->rows > SHOWN ? " ..." : "");
    }
    return 0;
}

int main(int argc, char **argv)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_packed_tensor tensor = {.size = sizeof tensor};
    qz_file *file;
    if (argc < 2 || argc > 3)
        return failed("usage: model FILE [TENSOR]");
    if (qz_open(argv[1], NULL, &file, &error) != QZ_FILE_OK)
        return failed(error.message);
    size_t length = argc == 3 ? strlen(argv[2]) : 0;
    const char *name = argc == 3 ? argv[2] : qz_packed_name_at(file, 0, &length);
    int bad = 1;
    if (!name) {
        failed("the file holds no quantized matrix");
    } else if (qz_packed_find(file, name, length, &tensor, &error) != QZ_FILE_OK) {
        failed(error.message);
    } else {
        printf("%.*s: %llu x %llu, %s, %.2f bits a value\n", (int)length, name, (unsigned long long)tensor.rows,
               (unsigned long long)tensor.cols, tensor.scheme.name, tensor.sizes.bits_per_value);
        qz_packed packed = {0};
        float *x = calloc(tensor.cols + tensor.rows + 1, sizeof *x);
        bad = !x ? failed("not enough memory")
                 : load(file, &tensor, &packed) || multiply(&tensor, &packed, x, x + tensor.cols);
        free_packed(&packed);
        free(x);
    }
    qz_close(file); /* the scheme may have a table of the file */
    return bad;
}
