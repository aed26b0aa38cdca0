/*
 * container.c - the table of containers
 *
 * A container is a kind of file. It is found by the content of a file to read, and by the extension of a file to write.
 */
#include "container.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* One row for each kind of file, in the order in which messages name them. */
static const qz_container_type *const containers[] = {
    &qz_container_npy, &qz_container_npz, &qz_container_safetensors, &qz_container_gguf, &qz_container_index,
};
enum { CONTAINERS = sizeof containers / sizeof containers[0] };

const qz_container_type *qz_container_by_content(const uint8_t *head, size_t bytes, uint64_t file_size)
{
    for (size_t i = 0; i < CONTAINERS; i++)
        if (containers[i]->probe(head, bytes, file_size))
            return containers[i];
    return NULL;
}

const qz_container_type *qz_container_by_extension(const char *path)
{
    size_t length = strlen(path);
    for (size_t i = 0; i < CONTAINERS; i++) {
        size_t end = strlen(containers[i]->extension);
        if (length >= end && strcasecmp(path + length - end, containers[i]->extension) == 0)
            return containers[i];
    }
    return NULL;
}

const qz_container_type *qz_container_of_folder(const char *layout)
{
    for (size_t i = 0; i < CONTAINERS; i++)
        if (containers[i]->folder && strcmp(containers[i]->quantized, layout) == 0)
            return containers[i];
    return &qz_container_safetensors;
}

const char *qz_container_list(int written, const char *between, const char *last, char *out, size_t out_size)
{
    const char *listed[CONTAINERS];
    size_t count = 0, used = 0;
    for (size_t i = 0; i < CONTAINERS; i++)
        if (!written || containers[i]->layout)
            listed[count++] = containers[i]->extension;
    out[0] = '\0';
    for (size_t i = 0; i < count && used < out_size; i++)
        used += (size_t)snprintf(out + used, out_size - used, "%s%s",
                                 i == 0           ? ""
                                 : i + 1 == count ? last
                                                  : between,
                                 listed[i]);
    return out;
}
