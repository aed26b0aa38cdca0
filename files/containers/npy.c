/*
 * npy.c - .npy as a container: one array in a file
 *
 * The header is read and written by npy_header.c.
 */
#include "../container.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../descriptor.h"
#include "../error.h"
#include "npy_header.h"

static int probe(const uint8_t *head, size_t bytes, uint64_t file_size)
{
    (void)file_size;
    return bytes >= 6 && memcmp(head, "\x93NUMPY", 6) == 0;
}

static qz_file_result from_file(void *context, uint64_t offset, void *dst, size_t bytes, qz_file_error *error)
{
    return qz_input_read(context, offset, dst, bytes, error);
}

static qz_file_result open_npy(qz_file *file, qz_file_error *error)
{
    qz_npy_header header;
    const char *label = file->input.label;
    const qz_npy_source source = {from_file, &file->input, file->input.size, label, "header", 0};
    qz_file_result result = qz_npy_parse(&header, &source, &file->options, &file->arena, error);
    if (result != QZ_FILE_OK)
        return result;
    uint64_t end = header.length + header.tensor.bytes;
    if (end != file->input.size && !file->options.allow_trailing)
        return qz_fail_option(error, QZ_FILE_FORMAT, QZ_OPTION_ALLOW_TRAILING, label, NULL, end,
                              "%" PRIu64 " bytes follow the array", file->input.size - end);
    header.tensor.name = "data";
    header.tensor.name_length = strlen(header.tensor.name);
    return qz_file_add(file, &header.tensor, header.length, error);
}

static qz_file_result layout(qz_writer *writer, size_t first, size_t count, qz_file_error *error)
{
    if (count != 1)
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, NULL, QZ_NO_OFFSET, "a .npy file needs a tensor");
    qz_slot *slot = &writer->slots[first];
    char *header = malloc(qz_npy_room(&slot->tensor));
    if (!header)
        return qz_fail_memory(error, writer->output.label);
    slot->offset = qz_npy_format(&slot->tensor, header);
    qz_file_result result = QZ_FILE_OK;
    qz_reserve(writer->output.fd, slot->offset + slot->tensor.bytes);
    if (!qz_pwrite_all(writer->output.fd, header, (size_t)slot->offset, 0))
        result = qz_fail_errno(error, writer->output.label, "write");
    free(header);
    return result;
}

const qz_container_type qz_container_npy = {
    .name = "npy",
    .extension = ".npy",
    .quantized = "own",
    .max_tensors = 1,
    .probe = probe,
    .open = open_npy,
    .layout = layout,
};
