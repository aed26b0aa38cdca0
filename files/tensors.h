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
    qz_part part;    /* whether it belongs to a quantized tensor */
    size_t packed;   /* which one it is the header of, if it is */
    unsigned blocks; /* of items that are blocks of codes: which, as the container counts types; else 0 */
} qz_entry;

typedef struct qz_container_type qz_container_type;
typedef struct qz_layout qz_layout;

typedef struct qz_packed_entry { /* a quantized tensor */
    const char *name;            /* ends at its length, not with a NUL; lives as long as the file */
    size_t name_length;
    const qz_layout *layout;
    size_t members[QZ_MEMBERS]; /* tensors of the file */
    const void *details;        /* the layout's own, which lives as long as the file */
    int twice;                  /* another one has its name */
} qz_packed_entry;

struct qz_file {
    const qz_container_type *container;
    qz_input input;
    qz_open_options options;
    qz_arena arena;
    qz_names names;
    qz_entry *entries;
    size_t count, capacity;
    qz_packed_entry *packed; /* in the order of their headers */
    size_t packed_count, packed_capacity;
    qz_names packed_names; /* the first of each name */
    void *state;           /* the container's own */
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
