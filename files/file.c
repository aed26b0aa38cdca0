/*
 * file.c - the public functions for reading, and the table of containers
 */
#include "tensors.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "checked.h"
#include "container.h"
#include "element.h"
#include "error.h"

/* ---- containers ---- */

/* One row for each kind of file. */
static const qz_container_type *const containers[] = {&qz_container_npy, &qz_container_npz};
enum { CONTAINERS = sizeof containers / sizeof containers[0] };

static const qz_container_type *container_by_extension(const char *path)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash != NULL ? slash : path, '.');
    for (size_t i = 0; dot != NULL && i < CONTAINERS; i++)
        if (strcasecmp(dot, containers[i]->extension) == 0)
            return containers[i];
    return NULL;
}

const qz_container_type *qz_container_for_output(const char *path)
{
    return container_by_extension(path);
}

/* ---- files of other programs ---- */

/* What a file is that we do not read, and how its tensors become ones that we do; NULL for what we do not know. */
static const char *foreign_kind(const uint8_t *head, size_t bytes, uint64_t file_size, const char *path)
{
    static const char safetensors[] =
        "a safetensors file, which is not read; in Python, numpy.savez(\"w.npz\", **safetensors.numpy.load_file(...)) "
        "makes an .npz of it";
    static const char gguf[] = "a GGUF file, which is not read; the Python package gguf (GGUFReader, "
                               "gguf.quants.dequantize) gives its tensors, and numpy.savez writes them to an .npz";
    static const char onnx[] = "an ONNX model, which is not read; in Python, onnx.load(...).graph.initializer and "
                               "onnx.numpy_helper.to_array give its tensors, and numpy.savez writes them to an .npz";
    static const char pickle[] = "a pickle, as PyTorch's .pt, .pth and .bin are, which is never read: that could run "
                                 "any program; torch.load(..., "
                                 "weights_only=True) gives its tensors, and numpy.savez writes them to an .npz";
    static const char hdf5[] =
        "an HDF5 file, which is not read; the Python package h5py gives its arrays, and numpy.savez "
        "writes them to an .npz";
    static const struct {
        const char *extension, *text;
    } known[] = {{".safetensors", safetensors},
                 {".gguf", gguf},
                 {".onnx", onnx},
                 {".pt", pickle},
                 {".pth", pickle},
                 {".bin", pickle},
                 {".pkl", pickle},
                 {".pickle", pickle},
                 {".h5", hdf5},
                 {".hdf5", hdf5}};
    if (bytes >= 4 && (memcmp(head, "GGUF", 4) == 0 || memcmp(head, "FUGG", 4) == 0))
        return gguf;
    if (bytes >= 8 && memcmp(head, "\x89HDF\r\n\x1a\n", 8) == 0)
        return hdf5;
    if (bytes >= 10 && head[8] == '{') { /* the length of a header of JSON, and its beginning */
        uint64_t length = 0;
        for (int i = 8; i-- > 0;)
            length = length << 8 | head[i];
        if (length >= 2 && length <= file_size - 8)
            return safetensors;
    }
    /* The protocol of a pickle, then a frame, a place in its memory, a container or an import. */
    if (bytes >= 3 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5 && head[2] != 0 &&
        strchr("\x95}](cKM\x8a\x8c", head[2]) != NULL)
        return pickle;
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash != NULL ? slash : path, '.');
    for (size_t i = 0; dot != NULL && i < sizeof known / sizeof known[0]; i++)
        if (strcasecmp(dot, known[i].extension) == 0)
            return known[i].text;
    return NULL;
}

/* ---- opening ---- */

static qz_file_result choose_container(qz_file *file, const char *path, qz_file_error *error)
{
    const qz_input *input = &file->input;
    uint8_t head[64];
    size_t bytes = input->size < sizeof head ? (size_t)input->size : sizeof head;
    if (bytes == 0)
        return qz_fail(error, QZ_FILE_FORMAT, input->label, NULL, QZ_NO_OFFSET, "the file is empty");
    qz_file_result result = qz_input_read(input, 0, head, bytes, error);
    if (result != QZ_FILE_OK)
        return result;
    for (size_t i = 0; i < CONTAINERS && file->container == NULL; i++)
        if (containers[i]->probe(head, bytes, input->size))
            file->container = containers[i];
    if (file->container == NULL) {
        const char *kind = foreign_kind(head, bytes, input->size, path);
        if (kind != NULL)
            return qz_fail(error, QZ_FILE_FORMAT, input->label, NULL, QZ_NO_OFFSET, "%s", kind);
        return qz_fail(error, QZ_FILE_FORMAT, input->label, NULL, 0,
                       "neither the header of a .npy nor that of a .npz file; no other kinds are read");
    }
    const qz_container_type *said = container_by_extension(path);
    if (said != NULL && said != file->container)
        return qz_fail(error, QZ_FILE_FORMAT, input->label, NULL, 0,
                       "the name ends in %s, but the content is that of a %s file; rename it", said->extension,
                       file->container->extension);
    return QZ_FILE_OK;
}

/* Copies what the caller's version of the structure has over the defaults. */
static qz_open_options complete(const qz_open_options *given)
{
    qz_open_options options = QZ_OPEN_OPTIONS_INIT;
    if (given != NULL) {
        memcpy(&options, given, given->size < sizeof options ? given->size : sizeof options);
        options.size = sizeof options;
    }
    return options;
}

qz_file_result qz_open(const char *path, const qz_open_options *options, qz_file **opened, qz_file_error *error)
{
    *opened = NULL;
    qz_file *file = calloc(1, sizeof *file);
    if (file == NULL)
        return qz_fail_memory(error, NULL);
    file->options = complete(options);
    qz_file_result result = qz_input_open(&file->input, path, error);
    if (result == QZ_FILE_OK)
        result = choose_container(file, path, error);
    if (result == QZ_FILE_OK)
        result = file->container->open(file, error);
    if (result != QZ_FILE_OK)
        qz_close(file);
    else
        *opened = file;
    return result;
}

void qz_close(qz_file *file)
{
    if (file == NULL)
        return;
    if (file->container != NULL && file->container->close != NULL)
        file->container->close(file);
    qz_names_free(&file->names);
    qz_arena_free(&file->arena);
    free(file->entries);
    qz_input_close(&file->input);
    free(file);
}

/* ---- what is in it ---- */

const char *qz_container(const qz_file *file)
{
    return file->container->name;
}

uint64_t qz_file_bytes(const qz_file *file)
{
    return file->input.size;
}

const char *qz_note(const qz_file *file)
{
    return file->note[0] != '\0' ? file->note : NULL;
}

qz_file_result qz_read(qz_file *file, size_t tensor, uint64_t first, uint64_t count, void *dst, qz_file_error *error)
{
    if (tensor >= file->count || !qz_within(first, count, file->entries[tensor].tensor.count))
        return qz_fail(error, QZ_FILE_ARGUMENT, file->input.label, NULL, QZ_NO_OFFSET,
                       "elements %" PRIu64 " to %" PRIu64 " of tensor %zu: there are none such", first, first + count,
                       tensor);
    const qz_entry *entry = &file->entries[tensor];
    /* No product wraps: the range lies within a tensor whose size in bytes was checked. */
    size_t each = qz_element_size(entry->tensor.element);
    uint64_t bytes = count * each, offset = first * each;
    if (bytes == 0)
        return QZ_FILE_OK;
    qz_file_result result = file->container->read != NULL
                                ? file->container->read(file, tensor, offset, dst, (size_t)bytes, error)
                                : qz_input_read(&file->input, entry->offset + offset, dst, (size_t)bytes, error);
    if (result == QZ_FILE_OK && entry->tensor.swapped)
        qz_swap(dst, each, (size_t)count);
    return result;
}

qz_file_result qz_unchanged(const qz_file *file, qz_file_error *error)
{
    return qz_input_unchanged(&file->input, error);
}
