/*
 * test_threads.c - several threads read one file, or write to one output, together
 *
 * What they read is what one thread reads, in whatever order; what they write is what one thread writes. The part
 * "threads" of `make test-all` runs this program under ThreadSanitizer.
 */
#include "seeds.h"

#include <pthread.h>

#include "support.h"

enum { THREADS = 4, MOST = 64 };

/* ---- reading ---- */

typedef struct reader {
    qz_file *file;
    const qz_packed_tensor *packed;
    size_t tensors, quantized;
    unsigned number; /* of the thread: where it begins, and whether it reads halves in the wrong order */
    uint64_t found[2 * MOST];
    int failed;
} reader;

static int read_tensor(reader *r, size_t i)
{
    const qz_tensor *t = qz_tensor_at(r->file, i);
    const uint64_t half = r->number % 2 != 0 ? t->count / 2 : 0, each = qz_element_size(t->element);
    uint8_t *data = calloc((size_t)t->bytes + 1, 1);
    if (!data)
        return 0;
    const int good = qz_read(r->file, i, half, t->count - half, data + half * each, NULL) == QZ_FILE_OK &&
                     (half == 0 || qz_read(r->file, i, 0, half, data, NULL) == QZ_FILE_OK);
    r->found[i] = digest_of(1, data, (size_t)t->bytes);
    free(data);
    return good;
}

static int read_quantized(reader *r, size_t i)
{
    const qz_packed_tensor *p = &r->packed[i];
    const qz_sizes *s = &p->sizes;
    const size_t room = (size_t)(2 * s->total_bytes) + 64;
    uint8_t *memory = calloc(room, 1), *next = memory;
    if (!memory)
        return 0;
    const qz_packed packed = {.codes = take(&next, p->rows * s->code_bytes),
                              .scales = take(&next, p->rows * s->scale_bytes),
                              .zeros = s->zero_bytes != 0 ? take(&next, p->rows * s->zero_bytes) : NULL,
                              .code_stride = (int64_t)s->code_bytes,
                              .scale_stride = (int64_t)s->scale_bytes,
                              .zero_stride = (int64_t)s->zero_bytes,
                              .supers = next,
                              .super_stride = (int64_t)s->super_bytes};
    const int good = qz_packed_read(r->file, p, 0, p->rows, 0, p->cols, &packed, NULL) == QZ_FILE_OK;
    r->found[MOST + i] = digest_of(1, memory, room);
    free(memory);
    return good;
}

static void *read_all(void *of)
{
    reader *r = of;
    const size_t all = r->tensors + r->quantized;
    for (size_t k = 0; k < all; k++) {
        const size_t i = (k + r->number * all / THREADS) % all;
        const int good = i < r->tensors ? read_tensor(r, i) : read_quantized(r, i - r->tensors);
        r->failed |= !good;
    }
    return NULL;
}

static void read_together(const char *path)
{
    static reader alone, together[THREADS];
    static qz_packed_tensor packed[MOST];
    pthread_t threads[THREADS];
    for (int pass = 0; pass < 2; pass++) {
        qz_file *file;
        law(qz_open(path, NULL, &file, NULL) == QZ_FILE_OK, "a good file is read");
        const size_t quantized = qz_packed_count(file), tensors = qz_tensor_count(file);
        law(tensors <= MOST && quantized <= MOST, "there is room for all digests");
        for (size_t i = 0; i < quantized; i++) {
            size_t length;
            const char *name = qz_packed_name_at(file, i, &length);
            packed[i] = (qz_packed_tensor){.size = sizeof packed[i]};
            law(qz_packed_find(file, name, length, &packed[i], NULL) == QZ_FILE_OK, "a quantized tensor is found");
        }
        const reader first = {.file = file, .packed = packed, .tensors = tensors, .quantized = quantized};
        if (pass == 0) {
            alone = first;
            read_all(&alone);
            law(!alone.failed, "one thread reads all");
        }
        for (unsigned t = 0; t < THREADS && pass == 1; t++) {
            together[t] = first;
            together[t].number = t;
            law(pthread_create(&threads[t], NULL, read_all, &together[t]) == 0, "a thread begins");
        }
        for (unsigned t = 0; t < THREADS && pass == 1; t++) {
            pthread_join(threads[t], NULL);
            law(!together[t].failed, "several threads read all");
            law(memcmp(together[t].found, alone.found, sizeof alone.found) == 0, "they read the same");
        }
        qz_close(file);
    }
}

static void files_are_read_together(void **state)
{
    (void)state;
    assert_true(seed_count >= 30);
    for (size_t i = 0; i < seed_count; i++) {
        bundled files[FILES_OF_A_BUNDLE];
        char path[600];
        size_t count = files_of(&seeds[i], files);
        put_all(files, count);
        snprintf(trying, sizeof trying, "%.39s/%.59s", seeds[i].group, seeds[i].name);
        read_together(path_of_seed(&seeds[i], path));
        remove_files(files, count);
    }
}

/* ---- writing ---- */

enum { TENSORS = 6, COUNT = 3000, ROWS = 16, COLS = 64 };

typedef struct writers {
    qz_writer *writer;
    size_t plain[TENSORS];
    qz_packed_tensor packed[TENSORS];
    unsigned number, threads;
    int failed;
} writers;

/* Each thread writes its pieces of each tensor, and its rows of each matrix. */
static void *write_pieces(void *of)
{
    enum { PIECE = 100, BLOCK = 8 };
    writers *w = of;
    float values[PIECE];
    uint8_t codes[BLOCK * COLS / 2];
    uint16_t scales[BLOCK * COLS / 32];
    for (size_t i = 0; i < TENSORS; i++) {
        for (uint64_t at = (uint64_t)w->number * PIECE; at < COUNT; at += (uint64_t)w->threads * PIECE) {
            for (size_t k = 0; k < PIECE; k++)
                values[k] = (float)(i * COUNT + at + k);
            w->failed |= qz_write(w->writer, w->plain[i], at, PIECE, values, NULL) != QZ_FILE_OK;
        }
        for (uint64_t row = (uint64_t)w->number * BLOCK; row < ROWS; row += (uint64_t)w->threads * BLOCK) {
            for (size_t k = 0; k < sizeof codes; k++)
                codes[k] = (uint8_t)(i + row + k);
            for (size_t k = 0; k < sizeof scales / sizeof scales[0]; k++)
                scales[k] = (uint16_t)(0x3c00 + i + row + k);
            const qz_packed block = {
                .codes = codes, .scales = scales, .code_stride = COLS / 2, .scale_stride = COLS / 32 * 2};
            w->failed |= qz_packed_write(w->writer, &w->packed[i], row, BLOCK, 0, COLS, &block, NULL) != QZ_FILE_OK;
        }
    }
    return NULL;
}

static void write_with(const char *path, const char *layout, uint64_t shard_bytes, unsigned count)
{
    const uint64_t shape[] = {COUNT}, matrix[] = {ROWS, COLS};
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    writers all[THREADS] = {{0}};
    pthread_t threads[THREADS];
    const qz_scheme *scheme = qz_scheme_by_name("q4_0");
    options.layout = layout;
    options.shard_bytes = shard_bytes;
    options.replace = 1;
    law(qz_create(path, &options, &all[0].writer, NULL) == QZ_FILE_OK, "an output begins");
    for (size_t i = 0; i < TENSORS; i++) {
        char name[40];
        snprintf(name, sizeof name, "t%zu", i);
        const qz_tensor t = {
            .name = name, .name_length = strlen(name), .element = QZ_ELEMENT_F32, .rank = 1, .shape = shape};
        law(qz_declare(all[0].writer, &t, &all[0].plain[i], NULL) == QZ_FILE_OK, "a tensor is declared");
        snprintf(name, sizeof name, "l%zu.weight", i);
        all[0].packed[i].size = sizeof all[0].packed[i];
        law(qz_packed_declare(all[0].writer, name, strlen(name), scheme, 2, matrix, 1, &all[0].packed[i], NULL) ==
                QZ_FILE_OK,
            "a matrix is declared");
    }
    for (unsigned t = count; t-- > 0;) {
        all[t] = all[0];
        all[t].number = t;
        all[t].threads = count;
        law(pthread_create(&threads[t], NULL, write_pieces, &all[t]) == 0, "a thread begins");
    }
    for (unsigned t = 0; t < count; t++) {
        pthread_join(threads[t], NULL);
        law(!all[t].failed, "all is written");
    }
    law(qz_commit(all[0].writer, NULL) == QZ_FILE_OK, "the output is complete");
}

/* A digest of the files that an output has. */
static uint64_t digest_of_files(const char *path, const char *const *names)
{
    uint64_t digest = 1;
    for (size_t i = 0; names[i]; i++) {
        char file[700];
        snprintf(file, sizeof file, "%s%s", path, names[i]);
        bytes b = get_file(file);
        law(b.n > 500, "a file has data");
        digest = digest_of(digest, b.data, b.n);
        clear(&b);
        unlink(file);
    }
    rmdir(path);
    return digest;
}

static void outputs_are_written_together(void **state)
{
    static const struct {
        const char *name, *layout;
        uint64_t shard_bytes;
        const char *files[4];
    } outputs[] = {
        {"a.npz", NULL, 0, {""}},
        {"a.safetensors", NULL, 0, {""}},
        {"b.safetensors", "gptq", 0, {""}},
        {"c.safetensors", "awq", 0, {""}},
        {"d.safetensors", "compressed-tensors", 0, {""}},
        {"a.gguf", NULL, 0, {""}},
        {"folder",
         NULL,
         50000,
         {"/model-00001-of-00002.safetensors", "/model-00002-of-00002.safetensors", "/model.safetensors.index.json"}},
        {"parts", "gguf", 50000, {"/model-00001-of-00002.gguf", "/model-00002-of-00002.gguf"}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof outputs / sizeof outputs[0]; i++) {
        char path[600];
        uint64_t digests[2];
        snprintf(path, sizeof path, "%s/%s", place, outputs[i].name);
        snprintf(trying, sizeof trying, "%s", outputs[i].name);
        for (unsigned k = 0; k < 2; k++) {
            write_with(path, outputs[i].layout, outputs[i].shard_bytes, k == 0 ? 1 : THREADS);
            digests[k] = digest_of_files(path, outputs[i].files);
        }
        law(digests[0] == digests[1], "several threads write the same file");
    }
}

int main(void)
{
    start_program("test_threads");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_read_together),
        cmocka_unit_test(outputs_are_written_together),
    };
    return cmocka_run_group_tests(tests, take_seeds, drop_seeds);
}
