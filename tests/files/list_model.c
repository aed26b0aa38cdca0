/*
 * list_model.c - lists a file of a model, or copies it with the writer: what the tests in Python run
 *
 *     list_model safetensors|gguf FILE [COPY]
 *
 * Prints a line for each thing found, with tabs between its parts; of a file that is refused the result, the place and
 * the message.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "descriptor.h"
#include "containers/gguf.h"
#include "containers/safetensors.h"

static int refused(qz_file_result result, const qz_file_error *error)
{
    printf("refused\t%d\t%" PRId64 "\t%s\n", result, (int64_t)error->offset, error->message);
    return 0;
}

/* A text with everything that is not printable escaped. */
static void print_text(const char *text, size_t length)
{
    char shown[2000];
    printf("\t%s", qz_escape(text, length, shown, sizeof shown));
}

static void print_tensor(const qz_model_tensor *t, const char *type)
{
    printf("tensor");
    print_text(t->name, t->name_length);
    printf("\t%s\t", type);
    for (unsigned i = 0; i < t->rank; i++)
        printf(i == 0 ? "%" PRIu64 : ",%" PRIu64, t->shape[i]);
    printf("\t%" PRIu64 "\t%" PRIu64 "\n", t->offset, t->bytes);
}

/* Writes the header and the data, which is read where `from` says. */
static int write_copy(const char *path, const qz_input *input, const char *header, size_t header_bytes,
                      uint64_t file_bytes, const qz_model_tensor *from, const qz_model_tensor *to, size_t count)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int good = fd >= 0 && ftruncate(fd, (off_t)file_bytes) == 0 && qz_pwrite_all(fd, header, header_bytes, 0);
    for (size_t i = 0; good && i < count; i++) {
        char *data = malloc((size_t)to[i].bytes + 1);
        good = data && from[i].bytes == to[i].bytes &&
               qz_input_read(input, from[i].offset, data, (size_t)from[i].bytes, NULL) == QZ_FILE_OK &&
               qz_pwrite_all(fd, data, (size_t)to[i].bytes, to[i].offset);
        free(data);
    }
    if (fd >= 0)
        close(fd);
    return good ? 0 : 1;
}

static qz_model_tensor *copy_tensors(const qz_model *model)
{
    qz_model_tensor *copy = malloc((model->count + 1) * sizeof *copy);
    if (!copy)
        abort();
    if (model->count != 0)
        memcpy(copy, model->tensors, model->count * sizeof *copy);
    return copy;
}

static int list_safetensors(const qz_input *input, const char *copy_path)
{
    qz_safetensors st;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_file_result result = qz_safetensors_read(&st, input, NULL, &error);
    if (result != QZ_FILE_OK)
        return refused(result, &error);
    for (size_t i = 0; i < st.model.count; i++)
        print_tensor(&st.model.tensors[i], qz_safetensors_row_of(st.model.tensors[i].type)->name);
    for (size_t i = 0; i < st.metadata_count; i++) {
        printf("metadata");
        print_text(st.metadata[i].key, st.metadata[i].key_length);
        print_text(st.metadata[i].value, st.metadata[i].value_length);
        printf("\n");
    }
    if (st.note[0] != '\0')
        printf("note\t%s\n", st.note);
    int status = 0;
    if (copy_path) {
        qz_model_tensor *tensors = copy_tensors(&st.model);
        char *header;
        size_t header_bytes;
        uint64_t file_bytes;
        result = qz_safetensors_format(tensors, st.model.count, st.metadata, st.metadata_count, &header, &header_bytes,
                                       &file_bytes, copy_path, &error);
        if (result != QZ_FILE_OK)
            refused(result, &error);
        else
            status = write_copy(copy_path, input, header, header_bytes, file_bytes, st.model.tensors, tensors,
                                st.model.count);
        free(header);
        free(tensors);
    }
    qz_safetensors_free(&st);
    return status;
}

static int list_gguf(const qz_input *input, const char *copy_path)
{
    qz_gguf gguf;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_file_result result = qz_gguf_read(&gguf, input, NULL, &error);
    if (result != QZ_FILE_OK)
        return refused(result, &error);
    for (size_t i = 0; i < gguf.model.count; i++)
        print_tensor(&gguf.model.tensors[i], qz_ggml_type_of(gguf.model.tensors[i].type)->name);
    for (size_t i = 0; i < gguf.value_count; i++) {
        const qz_gguf_value *v = &gguf.values[i];
        printf("metadata");
        print_text(v->key, v->key_length);
        printf("\t%u\t%u\t%" PRIu64 "\t%" PRIu64 "\n", v->type, v->items, v->count, v->bytes);
    }
    int status = 0;
    if (copy_path) {
        qz_model_tensor *tensors = copy_tensors(&gguf.model);
        char *header = NULL;
        size_t header_bytes;
        uint64_t file_bytes;
        result = qz_gguf_load(&gguf, input, &error);
        if (result == QZ_FILE_OK)
            result = qz_gguf_format(tensors, gguf.model.count, gguf.values, gguf.value_count, &header, &header_bytes,
                                    &file_bytes, copy_path, &error);
        if (result != QZ_FILE_OK)
            refused(result, &error);
        else
            status = write_copy(copy_path, input, header, header_bytes, file_bytes, gguf.model.tensors, tensors,
                                gguf.model.count);
        free(header);
        free(tensors);
    }
    qz_gguf_free(&gguf);
    return status;
}

int main(int argc, char **argv)
{
    qz_input input;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    if (argc < 3)
        return 2;
    const char *copy_path = argc > 3 ? argv[3] : NULL;
    qz_file_result result = qz_input_open(&input, argv[2], &error);
    int status = 2;
    if (result != QZ_FILE_OK)
        return refused(result, &error);
    if (strcmp(argv[1], "safetensors") == 0)
        status = list_safetensors(&input, copy_path);
    if (strcmp(argv[1], "gguf") == 0)
        status = list_gguf(&input, copy_path);
    qz_input_close(&input);
    return status;
}
