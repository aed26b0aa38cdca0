/*
 * tensors.h - a file that is read, and the list of its tensors
 */
#ifndef QZ_FILE_TENSORS_H
#define QZ_FILE_TENSORS_H

#include "input.h"
#include "names.h"
#include "quantize_file.h"

typedef struct qz_entry {
    qz_tensor tensor;
    uint64_t offset; /* where its data begins: in the file, or in what the container's read() counts */
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

/*
 * Adds a tensor that a container found: its name, element, rank, shape, column_major, swapped and, of raw items, type
 * and type_bytes, and the offset of its data. Name and type must live as long as the file, as what lies in its arena
 * does; the shape is copied, the sizes are computed. A name that another tensor has, too many axes or bytes, or data
 * beyond the end of the file are errors. A container with a read() of its own checks the data itself.
 */
qz_file_result qz_file_add(qz_file *file, const qz_tensor *described, uint64_t offset, qz_file_error *error);

#endif
