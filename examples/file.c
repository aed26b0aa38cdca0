/*
 * file.c - arrays in files
 *
 *     file FOLDER
 *
 * Writes a matrix of floats to FOLDER/plain.npy, quantizes it into FOLDER/packed.npz and reads both back. Python reads
 * the two with numpy.load() and quantize.load().
 */
#include <quantize_file.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 3, COLS = 64, GROUP = 32 };

static int failed(const qz_file_error *error)
{
    fprintf(stderr, "%s\n", error->message);
    return 1;
}

static int write_plain(const char *path, const float *values)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    const uint64_t shape[2] = {ROWS, COLS};
    qz_tensor tensor = {.name = "data", .name_length = 4, .element = QZ_ELEMENT_F32, .rank = 2, .shape = shape};
    qz_writer *writer;
    size_t index;

    options.replace = 1;
    if (qz_create(path, &options, &writer, &error) != QZ_FILE_OK)
        return failed(&error);
    if (qz_declare(writer, &tensor, &index, &error) != QZ_FILE_OK ||
        qz_write(writer, index, 0, ROWS * COLS, values, &error) != QZ_FILE_OK) {
        qz_abort(writer);
        return failed(&error);
    }
    return qz_commit(writer, &error) == QZ_FILE_OK ? 0 : failed(&error); /* now, and not before, the file is there */
}

/* Encodes in groups and writes the result under the name "data". */
static int write_packed(const char *path, const float *values)
{
    qz_scheme scheme = *qz_scheme_by_name("int4");
    scheme.group_size = GROUP;
    uint8_t codes[ROWS * COLS / 2];
    uint16_t scales[ROWS * COLS / GROUP];
    qz_matrix source = {(void *)values, QZ_F32, ROWS, COLS, COLS, 1};
    qz_packed packed = {codes, scales, NULL, COLS / 2, COLS / GROUP * sizeof scales[0], 0, NULL, 0};
    if (qz_encode(&scheme, &source, &packed, NULL, NULL, NULL) != QZ_OK)
        return 1;

    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    qz_packed_tensor tensor = {.size = sizeof tensor};
    const uint64_t shape[2] = {ROWS, COLS};
    qz_writer *writer;
    options.replace = 1;
    if (qz_create(path, &options, &writer, &error) != QZ_FILE_OK)
        return failed(&error);
    if (qz_packed_declare(writer, "data", 4, &scheme, 2, shape, 1, &tensor, &error) != QZ_FILE_OK ||
        qz_packed_write(writer, &tensor, 0, ROWS, 0, COLS, &packed, &error) != QZ_FILE_OK) {
        qz_abort(writer);
        return failed(&error);
    }
    return qz_commit(writer, &error) == QZ_FILE_OK ? 0 : failed(&error);
}

static int read_plain(const char *path, float *values)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_file *file;
    if (qz_open(path, NULL, &file, &error) != QZ_FILE_OK)
        return failed(&error);
    const qz_tensor *tensor = qz_tensor_at(file, 0);
    printf("plain.npy   %s, %llu x %llu\n", qz_element_name(tensor->element), (unsigned long long)tensor->shape[0],
           (unsigned long long)tensor->shape[1]);
    qz_file_result result = tensor->count == ROWS * COLS && tensor->element == QZ_ELEMENT_F32
                                ? qz_read(file, 0, 0, tensor->count, values, &error)
                                : QZ_FILE_ARGUMENT;
    qz_close(file);
    return result == QZ_FILE_OK ? 0 : failed(&error);
}

static int read_packed(const char *path, float *values)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_packed_tensor tensor = {.size = sizeof tensor};
    qz_file *file;
    if (qz_open(path, NULL, &file, &error) != QZ_FILE_OK)
        return failed(&error);
    uint8_t codes[ROWS * COLS / 2];
    uint16_t scales[ROWS * COLS / GROUP];
    qz_packed packed = {codes, scales, NULL, COLS / 2, COLS / GROUP * sizeof scales[0], 0, NULL, 0};
    int bad = qz_packed_find(file, "data", 4, &tensor, &error) != QZ_FILE_OK ||
              tensor.sizes.total_bytes != sizeof codes + sizeof scales ||
              qz_packed_read(file, &tensor, 0, ROWS, 0, COLS, &packed, &error) != QZ_FILE_OK;
    qz_close(file);
    if (bad)
        return failed(&error);
    printf("packed.npz  %llu bytes instead of %d, %.1f bits a value\n", (unsigned long long)tensor.sizes.total_bytes,
           (int)(ROWS * COLS * sizeof(float)), tensor.sizes.bits_per_value);
    /* The bytes come from outside: check them once before trusting them. */
    qz_matrix target = {values, QZ_F32, ROWS, COLS, COLS, 1};
    return qz_validate(&tensor.scheme, &packed, ROWS, COLS, NULL) != QZ_OK ||
           qz_decode(&tensor.scheme, &packed, &target, NULL, NULL) != QZ_OK;
}

int main(int argc, char **argv)
{
    char plain[4096], packed[4096];
    float values[ROWS * COLS], read[ROWS * COLS], decoded[ROWS * COLS];
    if (argc != 2) {
        fprintf(stderr, "usage: file FOLDER\n");
        return 2;
    }
    snprintf(plain, sizeof plain, "%s/plain.npy", argv[1]);
    snprintf(packed, sizeof packed, "%s/packed.npz", argv[1]);
    for (int i = 0; i < ROWS * COLS; i++)
        values[i] = (float)(i % 13) - 5.5f;

    if (write_plain(plain, values) || write_packed(packed, values) || read_plain(plain, read) ||
        read_packed(packed, decoded))
        return 1;
    float largest = 0;
    for (int i = 0; i < ROWS * COLS; i++)
        largest = fmaxf(largest, fabsf(values[i] - decoded[i]));
    printf("plain is %s, the largest error of packed is %.4f\n",
           memcmp(values, read, sizeof values) ? "different" : "the same", (double)largest);
    return memcmp(values, read, sizeof values) != 0;
}
