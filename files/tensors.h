/*
 * tensors.h - a file that is read, and the list of its tensors
 */
#ifndef QZ_FILE_TENSORS_H
#define QZ_FILE_TENSORS_H

#include "containers/npy_header.h"
#include "input.h"
#include "names.h"
#include "quantize_file.h"

typedef struct qz_entry {
    qz_tensor tensor;
    uint64_t offset; /* where its data is: in the file, or in what the container's read() counts */
} qz_entry;

typedef struct qz_container_type qz_container_type;

struct qz_file {
    const qz_container_type *container;
    qz_input input;
    qz_open_options options;
    qz_arena arena;
    qz_names names;
    qz_entry *entries;
    size_t count, capacity;
    void *state; /* the container's own */
    char note[320];
};

/* tensors.c. Adds a tensor; the name must be in the arena as the type is, the shape is copied. The name is not yet
 * entered in file->names. */
qz_file_result qz_file_add(qz_file *file, const char *name, size_t length, const qz_npy_header *header, uint64_t offset,
                           qz_file_error *error);

#endif
