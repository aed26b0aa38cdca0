/*
 * support.h - for the tests of the file layer: a folder of its own, files made byte by byte, and what opening one gives
 */
#ifndef QZ_TEST_FILES_H
#define QZ_TEST_FILES_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support/program.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include <quantize_file.h>

static char folder[64];

static inline int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/quantize-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

/* Removes the folder, which must hold only files. */
static inline int remove_folder(void **state)
{
    (void)state;
    DIR *list = opendir(folder);
    for (struct dirent *found; list && (found = readdir(list)) != NULL;)
        if (found->d_name[0] != '.' || found->d_name[1] == 'q')
            unlinkat(dirfd(list), found->d_name, 0);
    if (list)
        closedir(list);
    return rmdir(folder);
}

/* Removes a file, or a folder that holds only files. */
static inline void remove_all(const char *path)
{
    DIR *list = opendir(path);
    for (struct dirent *found; list && (found = readdir(list)) != NULL;)
        if (strcmp(found->d_name, ".") != 0 && strcmp(found->d_name, "..") != 0)
            unlinkat(dirfd(list), found->d_name, 0);
    if (list)
        closedir(list);
    if (rmdir(path) != 0)
        unlink(path);
}

/* The path of a file in the folder; lives until the fourth next call. */
static inline const char *path_of(const char *name)
{
    static char ring[4][300];
    static unsigned turn;
    char *out = ring[turn++ % 4];
    snprintf(out, sizeof ring[0], "%s/%s", folder, name);
    return out;
}

/* How many names the folder holds, hidden ones included. */
static inline int count_files(void)
{
    int n = -2; /* . and .. */
    DIR *list = opendir(folder);
    assert_non_null(list);
    while (readdir(list))
        n++;
    closedir(list);
    return n;
}

/* ---- bytes ---- */

typedef struct bytes {
    uint8_t *data;
    size_t n, room;
} bytes;

static inline void add(bytes *b, const void *data, size_t n)
{
    if (b->n + n > b->room || !b->data) {
        b->room = 2 * (b->n + n) + 64;
        uint8_t *wider = realloc(b->data, b->room);
        if (!wider)
            abort();
        b->data = wider;
    }
    if (n != 0)
        memcpy(b->data + b->n, data, n);
    b->n += n;
}

static inline void add_number(bytes *b, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)(value >> (8 * i));
        add(b, &byte, 1);
    }
}

static inline void set_number(bytes *b, size_t at, uint64_t value, size_t n)
{
    assert_true(at + n <= b->n);
    for (size_t i = 0; i < n; i++)
        b->data[at + i] = (uint8_t)(value >> (8 * i));
}

static inline void insert(bytes *b, size_t at, const void *data, size_t n)
{
    add(b, data, n);
    memmove(b->data + at + n, b->data + at, b->n - n - at);
    memcpy(b->data + at, data, n);
}

static inline bytes copy_of(const bytes *b)
{
    bytes copy = {0};
    add(&copy, b->data, b->n);
    return copy;
}

static inline void clear(bytes *b)
{
    free(b->data);
    *b = (bytes){0};
}

static inline void put_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(n != 0 ? data : "", 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline bytes get_file(const char *path)
{
    bytes b = {0};
    char piece[4096];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) != 0;)
        add(&b, piece, n);
    fclose(f);
    return b;
}

/* ---- arrays ---- */

/* An array with that header text, padded to a multiple of 64, and `data_bytes` bytes 1, 2, 3, ... */
static inline bytes npy_bytes(int version, const char *text, size_t data_bytes)
{
    bytes b = {0};
    size_t before = version == 1 ? 10 : 12, length = strlen(text) + 1;
    length += (64 - (before + length) % 64) % 64;
    add(&b, "\x93NUMPY", 6);
    add_number(&b, (uint64_t)version, 1);
    add_number(&b, 0, 1);
    add_number(&b, length, before - 8);
    add(&b, text, strlen(text));
    while (b.n < before + length - 1)
        add(&b, " ", 1);
    add(&b, "\n", 1);
    for (size_t i = 0; i < data_bytes; i++)
        add_number(&b, i + 1, 1);
    return b;
}

/* ---- opening ---- */

typedef struct outcome {
    qz_file_result result;
    qz_file_option option; /* that would allow it */
    char message[sizeof((qz_file_error *)0)->message];
    uint64_t digest; /* of all tensors: names, types, shapes, values; 0 unless QZ_FILE_OK */
    size_t tensors;
} outcome;

static inline uint64_t digest_of(uint64_t before, const void *data, size_t n)
{
    const uint8_t *at = data;
    for (size_t i = 0; i < n; i++)
        before = (before ^ at[i]) * UINT64_C(0x100000001b3);
    return before;
}

/* Opens a file and reads all that is in it. Messages are checked on the way: one printable line that names the file. */
static inline outcome open_all(const char *path, const qz_open_options *options)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_file *file = (qz_file *)(uintptr_t)1;
    outcome o = {.result = qz_open(path, options, &file, &error)};
    if (o.result != QZ_FILE_OK)
        assert_null(file);
    else
        o.tensors = qz_tensor_count(file);
    uint64_t digest = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < o.tensors && o.result == QZ_FILE_OK; i++) {
        const qz_tensor *t = qz_tensor_at(file, i);
        assert_int_equal(strlen(t->name), t->name_length);
        assert_int_equal(t->bytes, t->count * qz_element_size(t->element));
        digest = digest_of(digest, t->name, t->name_length + 1);
        digest = digest_of(digest, &t->element, sizeof t->element);
        digest = digest_of(digest, &t->column_major, sizeof t->column_major);
        digest = digest_of(digest, t->shape, t->rank * sizeof t->shape[0]);
        assert_true(t->bytes < 1u << 30);
        void *data = malloc((size_t)t->bytes + 1);
        assert_non_null(data);
        o.result = qz_read(file, i, 0, t->count, data, &error);
        if (o.result == QZ_FILE_OK)
            digest = digest_of(digest, data, (size_t)t->bytes);
        free(data);
    }
    qz_close(file);
    o.digest = o.result == QZ_FILE_OK ? digest : 0;
    if (o.result != QZ_FILE_OK) {
        const char *slash = strrchr(path, '/');
        assert_int_equal(error.code, o.result);
        assert_true(error.message[0] != '\0');
        assert_non_null(strstr(error.message, slash ? slash + 1 : path));
        for (const char *c = error.message; *c != '\0'; c++)
            assert_true(*c >= ' ' && *c <= '~');
        strcpy(o.message, error.message);
        o.option = error.option;
    }
    return o;
}

static inline outcome open_bytes(const char *name, const bytes *b, const qz_open_options *options)
{
    const char *path = path_of(name);
    put_file(path, b->data, b->n);
    outcome o = open_all(path, options);
    unlink(path);
    return o;
}

/* Opening the bytes must give that result, and a message that holds `words` (NULL: any). */
static inline void expect(const char *what, const char *name, const bytes *b, const qz_open_options *options,
                          qz_file_result result, const char *words)
{
    outcome o = open_bytes(name, b, options);
    if (o.result != result || (words && !strstr(o.message, words)))
        fail_msg("%s: result %d instead of %d, message \"%s\"\n", what, o.result, result, o.message);
}

#endif
