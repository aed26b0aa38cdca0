/*
 * fuzz_open.c - the readers against bytes that a fuzzer makes up
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined -DQZ_LIBFUZZER -Iinclude -Ifiles tests/files/fuzz_open.c
 *           $(find files src -name '*.c') -lz -lm -pthread -o fuzz && ./fuzz corpus
 *
 * Without QZ_LIBFUZZER it is a plain program that does the same once with each file named on its command line: to look
 * at what the fuzzer found, or to let another fuzzer drive it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <quantize_file.h>

/* Reads everything that a file offers, in order and out of order. */
static void read_all(qz_file *file)
{
    for (size_t i = 0, next = 0; i < qz_tensor_count(file); i++) {
        const qz_tensor *t = qz_tensor_at(file, i);
        if ((t->element == QZ_ELEMENT_RAW) != (t->type != NULL) || t->type_bytes == 0 || t->bytes % t->type_bytes != 0)
            abort();
        uint64_t n = t->count < (1u << 20) ? t->count : 1u << 20;
        void *data = malloc((size_t)n * qz_element_size(t->element) + 1);
        if (!data)
            continue;
        qz_read(file, i, 0, n, data, NULL);
        if (n > 1)
            qz_read(file, i, n / 2, n - n / 2, data, NULL);
        free(data);
        qz_packed_tensor p = {.size = sizeof p};
        size_t length = 0;
        const char *name = qz_packed_part(file, i) == QZ_PART_HEADER ? qz_packed_name_at(file, next++, &length) : NULL;
        if (!name || qz_packed_find(file, name, length, &p, NULL) != QZ_FILE_OK || p.sizes.total_bytes > (1u << 20) ||
            p.rows > 1000 || p.cols > (1u << 20) || p.rows * p.cols > (1u << 22))
            continue;
        char *memory = malloc((size_t)p.sizes.total_bytes + 1);
        float *values = malloc((size_t)(p.rows * p.cols) * sizeof *values + 1);
        qz_packed packed = {memory,
                            memory + p.rows * p.sizes.code_bytes,
                            NULL,
                            (int64_t)p.sizes.code_bytes,
                            (int64_t)p.sizes.scale_bytes,
                            (int64_t)p.sizes.zero_bytes,
                            memory + p.rows * (p.sizes.code_bytes + p.sizes.scale_bytes + p.sizes.zero_bytes),
                            (int64_t)p.sizes.super_bytes};
        if (p.sizes.zero_bytes != 0)
            packed.zeros = memory + p.rows * (p.sizes.code_bytes + p.sizes.scale_bytes);
        qz_matrix m = {values, QZ_F32, p.rows, p.cols, (int64_t)p.cols, 1};
        if (memory && values && qz_packed_read(file, &p, 0, p.rows, 0, p.cols, &packed, NULL) == QZ_FILE_OK &&
            qz_validate(&p.scheme, &packed, p.rows, p.cols, NULL) == QZ_OK)
            qz_decode(&p.scheme, &packed, &m, NULL, NULL);
        free(memory);
        free(values);
    }
}

static void open_and_read(const char *path)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_open_options options = QZ_OPEN_OPTIONS_INIT;
    qz_file *file;
    options.max_bytes = 1 << 24;
    if (qz_open(path, &options, &file, &error) == QZ_FILE_OK) {
        qz_packed_check(file, &error);
        read_all(file);
        qz_close(file);
    } else if (error.message[0] == '\0' || error.code == QZ_FILE_OK) {
        abort(); /* a refusal must say why */
    }
    for (const char *c = error.message; *c != '\0'; c++)
        if (*c < ' ' || *c > '~')
            abort();
}

#if defined(QZ_LIBFUZZER)
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char path[64];
    static int fd = -1;
    if (fd < 0) { /* one file for all inputs, in memory where the system has such a place */
        strcpy(path, access("/dev/shm", W_OK) == 0 ? "/dev/shm/quantize-fuzz-XXXXXX" : "/tmp/quantize-fuzz-XXXXXX");
        fd = mkstemp(path);
        if (fd < 0)
            abort();
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    open_and_read(path);
    return 0;
}
#else
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        open_and_read(argv[i]);
    printf("%d files opened\n", argc - 1);
    return 0;
}
#endif
