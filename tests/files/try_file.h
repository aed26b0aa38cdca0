/*
 * try_file.h - reads all that bytes offer, which may be a file or a folder, and what must hold whatever they are
 *
 * For fuzz_open.c and test_damaged.c. A folder is one text here, a bundle: each file begins with a line "=== NAME".
 */
#ifndef TRY_FILE_H
#define TRY_FILE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <quantize_file.h>

static char trying[400]; /* what is tried, for the message of a broken law */

static inline void law(int holds, const char *name)
{
    if (holds)
        return;
    fprintf(stderr, "%s: broken: %s\n", trying, name);
    abort();
}

/* ---- places ---- */

/* A folder that lives in memory where the system has such a place. */
static inline const char *make_place(void)
{
    static char place[64];
    strcpy(place, access("/dev/shm", W_OK) == 0 ? "/dev/shm/quantize-try-XXXXXX" : "/tmp/quantize-try-XXXXXX");
    law(mkdtemp(place) != NULL, "a folder can be made");
    return place;
}

static inline void put_bytes(const char *path, const uint8_t *data, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    law(fd >= 0 && write(fd, data, n) == (ssize_t)n && close(fd) == 0, "a file can be written");
}

enum { FILES_OF_A_BUNDLE = 6, NAME_OF_A_FILE = 60 };

typedef struct bundled {
    char name[NAME_OF_A_FILE];
    const uint8_t *data;
    size_t n;
} bundled;

static const char bundle_mark[] = "=== ";
enum { MARK = sizeof bundle_mark - 1 };

static inline int is_bundle(const uint8_t *data, size_t n)
{
    return n >= MARK && memcmp(data, bundle_mark, MARK) == 0;
}

/* Whether a name, which may be anything, can be that of a file in the folder. */
static inline int is_plain_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_-.";
    return name[0] != '\0' && name[0] != '.' && strspn(name, letters) == strlen(name);
}

/* The files of a bundle; what has no plain name is left out. */
static inline size_t unbundle(const uint8_t *data, size_t n, bundled files[FILES_OF_A_BUNDLE])
{
    size_t count = 0;
    for (size_t at = 0; count < FILES_OF_A_BUNDLE && is_bundle(data + at, n - at);) {
        bundled *f = &files[count];
        at += MARK;
        const uint8_t *end = memchr(data + at, '\n', n - at);
        size_t length = end ? (size_t)(end - data) - at : n - at;
        size_t kept = length < sizeof f->name ? length : 0;
        memcpy(f->name, data + at, kept);
        f->name[kept] = '\0';
        at += end ? length + 1 : length;
        const uint8_t *next = memmem(data + at, n - at, bundle_mark, MARK);
        f->data = data + at;
        f->n = next ? (size_t)(next - f->data) : n - at;
        at += f->n;
        count += is_plain_name(f->name);
    }
    return count;
}

/* ---- reading ---- */

enum { MOST_READ = 1 << 20 }; /* elements, or bytes of a quantized tensor, that are read */

static inline void try_range(qz_file *file, size_t tensor, uint64_t first, uint64_t count, void *data)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_file_result result = qz_read(file, tensor, first, count, data, &error);
    law(result == QZ_FILE_OK || error.message[0] != '\0', "a refusal says why");
}

static inline void try_tensor(qz_file *file, size_t i)
{
    const qz_tensor *t = qz_tensor_at(file, i);
    law((t->element == QZ_ELEMENT_RAW) == (t->type != NULL), "raw items alone have a type");
    law(t->type_bytes != 0 && t->bytes % t->type_bytes == 0, "a tensor has whole items");
    law(t->bytes == t->count * qz_element_size(t->element), "a tensor has the bytes of its elements");
    law(strlen(t->name) == t->name_length, "names end where they end");
    law(t->rank <= QZ_MAX_RANK, "shapes are short");
    uint64_t n = t->count < MOST_READ ? t->count : MOST_READ;
    void *data = malloc((size_t)n * qz_element_size(t->element) + 1);
    if (data) {
        try_range(file, i, 0, n, data);
        if (n > 1)
            try_range(file, i, n / 2, n - n / 2, data);
        if (t->count > n)
            try_range(file, i, t->count - 1, 1, data);
    }
    free(data);
}

/* So many bytes of memory, at an address for every type; the next ones begin behind them. */
static inline uint8_t *take(uint8_t **next, uint64_t n)
{
    uint8_t *taken = *next;
    *next += (n + 15) / 16 * 16;
    return taken;
}

/* Reads a block and, if it is valid, decodes it. */
static inline int try_block(qz_file *file, const qz_packed_tensor *p, uint64_t row, uint64_t rows)
{
    const qz_sizes *s = &p->sizes;
    uint8_t *memory = calloc((size_t)(2 * s->total_bytes) + 64, 1), *next = memory;
    float *values = malloc((size_t)(rows * p->cols) * sizeof *values + 1);
    int decoded = 0;
    if (memory && values) {
        qz_packed packed = {.codes = take(&next, rows * s->code_bytes),
                            .scales = take(&next, rows * s->scale_bytes),
                            .zeros = s->zero_bytes != 0 ? take(&next, rows * s->zero_bytes) : NULL,
                            .code_stride = (int64_t)s->code_bytes,
                            .scale_stride = (int64_t)s->scale_bytes,
                            .zero_stride = (int64_t)s->zero_bytes,
                            .supers = next,
                            .super_stride = (int64_t)s->super_bytes};
        qz_matrix m = {values, QZ_F32, rows, p->cols, (int64_t)p->cols, 1};
        decoded = qz_packed_read(file, p, row, rows, 0, p->cols, &packed, NULL) == QZ_FILE_OK &&
                  qz_validate(&p->scheme, &packed, rows, p->cols, NULL) == QZ_OK &&
                  qz_decode(&p->scheme, &packed, &m, NULL, NULL) == QZ_OK;
    }
    free(memory);
    free(values);
    return decoded;
}

/* Reads a quantized tensor whole, and its last row alone. Whether it was decoded. */
static inline int try_packed(qz_file *file, size_t i)
{
    size_t length;
    const char *name = qz_packed_name_at(file, i, &length);
    qz_packed_tensor p = {.size = sizeof p};
    law(name && qz_packed_place_at(file, i) < qz_tensor_count(file), "a quantized tensor has a place");
    if (qz_packed_find(file, name, length, &p, NULL) != QZ_FILE_OK || p.sizes.total_bytes > MOST_READ ||
        p.cols > MOST_READ || p.rows > 4096 || p.rows * p.cols > 4 * MOST_READ)
        return 0;
    if (p.rows > 1)
        try_block(file, &p, p.rows - 1, 1);
    return try_block(file, &p, 0, p.rows);
}

typedef struct tried {
    qz_file_result result;
    size_t tensors, quantized, decoded;
} tried;

/* Opens a file or folder and reads all that is in it. */
static inline tried try_path(const char *path)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_open_options options = QZ_OPEN_OPTIONS_INIT;
    qz_file *file = (qz_file *)(uintptr_t)1;
    options.max_bytes = 1 << 24;
    tried t = {.result = qz_open(path, &options, &file, &error)};
    law((t.result == QZ_FILE_OK) == (file != NULL), "a refused file is no file");
    law(t.result == QZ_FILE_OK || (error.code == t.result && error.message[0] != '\0'), "a refusal says why");
    if (file) {
        t.result = qz_packed_check(file, &error);
        t.tensors = qz_tensor_count(file);
        t.quantized = qz_packed_count(file);
        for (size_t i = 0; i < t.tensors && i < 100; i++)
            try_tensor(file, i);
        for (size_t i = 0; i < t.quantized && i < 100; i++)
            t.decoded += try_packed(file, i) != 0;
        law(qz_unchanged(file, NULL) != QZ_FILE_FORMAT, "reading changes nothing");
    }
    qz_close(file);
    for (const char *c = error.message; *c != '\0'; c++)
        law(*c >= ' ' && *c <= '~', "messages are printable");
    return t;
}

#endif
