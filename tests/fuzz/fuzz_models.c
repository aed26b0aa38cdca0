/*
 * fuzz_models.c - headers of models that a fuzzer makes up: no crash, nothing outside the file, and the law that what
 * was read is written and read again as the same
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined -DQZ_LIBFUZZER -D_GNU_SOURCE -Iinclude -Ifiles
 *           tests/fuzz/fuzz_models.c $(find files src -name '*.c') -lz -lm -pthread -o fuzz && ./fuzz corpus
 *
 * scripts/fuzz.py models does it. Without QZ_LIBFUZZER it is a plain program that does the same once with each file
 * named on its command line.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "containers/gguf.h"
#include "containers/json.h"
#include "containers/safetensors.h"

static void check(int law, const char *name)
{
    if (law)
        return;
    fprintf(stderr, "broken: %s\n", name);
    abort();
}

static void check_message(qz_file_result result, const qz_file_error *error)
{
    check(result != QZ_FILE_OK && result == error->code, "a refusal has its result");
    check(error->message[0] != '\0', "a refusal says why");
    for (const char *c = error->message; *c != '\0'; c++)
        check(*c >= ' ' && *c <= '~', "messages are printable");
}

static void check_model(const qz_model *model, const qz_input *input)
{
    for (size_t i = 0; i < model->count; i++) {
        const qz_model_tensor *t = &model->tensors[i];
        check(t->bytes <= input->size && t->offset <= input->size - t->bytes, "data lies in the file");
        check(strlen(t->name) == t->name_length, "names end where they end");
        check(qz_model_find(model, t->name, t->name_length) == i, "names are found");
        check(t->rank <= QZ_MAX_RANK, "shapes are short");
    }
}

static void check_same(const qz_model *a, const qz_model *b)
{
    check(a->count == b->count, "as many tensors");
    for (size_t i = 0; i < a->count; i++) {
        const qz_model_tensor *s = &a->tensors[i], *t = &b->tensors[i];
        check(strcmp(s->name, t->name) == 0 && s->type == t->type && s->rank == t->rank && s->bytes == t->bytes,
              "the same tensors");
        for (unsigned j = 0; j < s->rank; j++)
            check(s->shape[j] == t->shape[j], "the same shapes");
    }
}

/* An open file that holds only this header, and a hole for the data. */
static qz_input file_of(const char *header, size_t bytes, uint64_t file_bytes)
{
    static char path[64];
    static int fd = -1;
    static char label[] = "written";
    if (fd < 0) {
        strcpy(path, access("/dev/shm", W_OK) == 0 ? "/dev/shm/quantize-fuzz-XXXXXX" : "/tmp/quantize-fuzz-XXXXXX");
        fd = mkstemp(path);
        check(fd >= 0 && unlink(path) == 0, "a temporary file");
    }
    check(ftruncate(fd, 0) == 0 && ftruncate(fd, (off_t)file_bytes) == 0, "room for the file");
    check(pwrite(fd, header, bytes, 0) == (ssize_t)bytes, "a written header");
    return (qz_input){.fd = fd, .label = label, .size = file_bytes};
}

static qz_model_tensor *copy_tensors(const qz_model *model)
{
    qz_model_tensor *copy = malloc((model->count + 1) * sizeof *copy);
    check(copy != NULL, "memory");
    if (model->count != 0)
        memcpy(copy, model->tensors, model->count * sizeof *copy);
    return copy;
}

static void read_safetensors(const qz_input *input)
{
    qz_safetensors st, again;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_file_result result = qz_safetensors_read(&st, input, NULL, &error);
    if (result != QZ_FILE_OK) {
        check_message(result, &error);
        return;
    }
    check_model(&st.model, input);
    qz_model_tensor *tensors = copy_tensors(&st.model);
    char *header;
    size_t bytes;
    uint64_t all;
    check(qz_safetensors_format(tensors, st.model.count, st.metadata, st.metadata_count, &header, &bytes, &all, "w",
                                &error) == QZ_FILE_OK,
          "what is read can be written");
    qz_input written = file_of(header, bytes, all);
    check(qz_safetensors_read(&again, &written, NULL, &error) == QZ_FILE_OK, "what is written can be read");
    check_same(&st.model, &again.model);
    check(st.metadata_count == again.metadata_count, "as much metadata");
    for (size_t i = 0; i < st.metadata_count; i++)
        check(st.metadata[i].value_length == again.metadata[i].value_length &&
                  memcmp(st.metadata[i].value, again.metadata[i].value, st.metadata[i].value_length) == 0,
              "the same metadata");
    qz_safetensors_free(&again);
    qz_safetensors_free(&st);
    free(header);
    free(tensors);
}

static void read_gguf(const qz_input *input)
{
    qz_gguf gguf, again;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_file_result result = qz_gguf_read(&gguf, input, NULL, &error);
    if (result != QZ_FILE_OK) {
        check_message(result, &error);
        return;
    }
    check_model(&gguf.model, input);
    check(qz_gguf_load(&gguf, input, &error) == QZ_FILE_OK, "what is read can be loaded");
    qz_model_tensor *tensors = copy_tensors(&gguf.model);
    char *header;
    size_t bytes;
    uint64_t all;
    check(qz_gguf_format(tensors, gguf.model.count, gguf.values, gguf.value_count, &header, &bytes, &all, "w",
                         &error) == QZ_FILE_OK,
          "what is read can be written");
    qz_input written = file_of(header, bytes, all);
    check(qz_gguf_read(&again, &written, NULL, &error) == QZ_FILE_OK, "what is written can be read");
    check(qz_gguf_load(&again, &written, &error) == QZ_FILE_OK, "what is written can be loaded");
    check_same(&gguf.model, &again.model);
    check(gguf.value_count == again.value_count && gguf.alignment == again.alignment, "as many keys");
    for (size_t i = 0; i < gguf.value_count; i++) {
        const qz_gguf_value *v = &gguf.values[i], *w = &again.values[i];
        uint64_t number;
        check(strcmp(v->key, w->key) == 0 && v->type == w->type && v->bytes == w->bytes &&
                  memcmp(v->data, w->data, (size_t)v->bytes) == 0,
              "the same keys");
        check(qz_gguf_find(&gguf, v->key) == v, "keys are found");
        qz_gguf_whole(v, &number);
    }
    qz_gguf_free(&again);
    qz_gguf_free(&gguf);
    free(header);
    free(tensors);
}

static void read_json(const qz_input *input)
{
    size_t n = input->size < 100000 ? (size_t)input->size : 100000;
    char *text = malloc(n + (n == 0));
    check(text && qz_input_read(input, 0, text, n, NULL) == QZ_FILE_OK, "a read text");
    qz_json json;
    qz_json_begin(&json, text, n, 20);
    while (qz_json_next(&json) > QZ_JSON_END)
        check(json.start < n && json.depth <= 20, "tokens lie in the text");
    check(json.kind == QZ_JSON_END || (json.wrong && json.start <= n), "a refusal says why");
    free(text);
}

static void read_each(const qz_input *input)
{
    read_safetensors(input);
    read_gguf(input);
    read_json(input);
}

#if defined(QZ_LIBFUZZER)
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char path[64];
    static int fd = -1;
    static char label[] = "fuzz";
    if (fd < 0) { /* one file for all inputs, in memory where the system has such a place */
        strcpy(path, access("/dev/shm", W_OK) == 0 ? "/dev/shm/quantize-fuzz-XXXXXX" : "/tmp/quantize-fuzz-XXXXXX");
        fd = mkstemp(path);
        check(fd >= 0 && unlink(path) == 0, "a temporary file");
    }
    check(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size, "a written file");
    qz_input input = {.fd = fd, .label = label, .size = size};
    read_each(&input);
    return 0;
}
#else
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        qz_input input;
        if (qz_input_open(&input, argv[i], NULL) != QZ_FILE_OK)
            continue;
        read_each(&input);
        qz_input_close(&input);
    }
    printf("%d files read\n", argc - 1);
    return 0;
}
#endif
