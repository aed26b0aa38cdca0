/*
 * tensors.h - a file that is read, and the list of its tensors
 */
#ifndef QZ_FILE_TENSORS_H
#define QZ_FILE_TENSORS_H

#include "input.h"

#include <pthread.h>

#include "names.h"
#include "quantize_file.h"

typedef struct qz_entry {
    qz_tensor tensor;
    uint64_t offset; /* where its data begins: in the file, or in what the container's read() counts */
    qz_part part;    /* whether it belongs to a quantized tensor */
    size_t packed;   /* which one it is the header of, if it is */
    unsigned blocks; /* of items that are blocks of codes: which, as the container counts types; else 0 */
    unsigned coded;  /* ggml's type of the codes that its values are decoded from: see stored.c; 0: it has none */
    uint64_t stored; /* bytes of the codes that its values are decoded from; 0: it has none */

    /* Of a tensor whose values are in no place of the file, but are computed from others of it: reads some of them. */
    qz_file_result (*decode)(struct qz_file *file, const void *details, uint64_t first, uint64_t count, void *dst,
                             qz_file_error *error);
    const void *details; /* lives as long as the file */
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

/* Where a file is, and what it must be. */
typedef struct qz_place {
    int folder; /* AT_FDCWD, or one that stays open */
    const char *path, *shown;
    const qz_container_type *kind; /* NULL: any */
    uint64_t max_table;
    int inside; /* the last part of the path is the name that a folder or another file has for it: see inside.h */
    int opened; /* a descriptor above 2 that is to be taken over: `path` will be its place; 0: it is to be opened */
} qz_place;

/* Opens one file, without others that belong to it. *file is NULL if that fails. */
typedef qz_file_result (*qz_open_part)(const qz_place *place, const qz_open_options *options, qz_file **file,
                                       qz_file_error *error);

/* Reads elements of a tensor that lies in a part. */
typedef qz_file_result (*qz_read_part)(qz_file *file, size_t tensor, uint64_t first, uint64_t count, void *dst,
                                       qz_file_error *error);

/* Other files whose tensors follow the file's own: see parts.h. */
#define QZ_PARTS_AWAKE 4 /* that are open at a time */
typedef struct qz_parts {
    qz_file **files;
    size_t *first; /* of each, the number that its first tensor has in the whole */
    size_t count, capacity;
    int folder; /* where they are; a descriptor if there is a path */
    char *path; /* of the folder, with its slash */
    size_t awake[QZ_PARTS_AWAKE], turn;
    qz_open_part open; /* file.c sets it */
    qz_read_part read;
    pthread_mutex_t lock; /* held while a part is read, which no other thread may park meanwhile */
} qz_parts;

/* What a file says of itself. Its container writes it, or parts.c for one in several files; layouts, whether they are
 * told by it how tensors lie. */
typedef struct qz_file_metadata {
    const qz_metadata *pairs; /* live as long as the file */
    size_t count;
    int is_of_tensors; /* it says how quantized tensors lie that were recognized */
} qz_file_metadata;

/* The quantized tensors of a file. Layouts recognize them, packed_list.c writes the list. */
typedef struct qz_packed_list {
    qz_packed_entry *entries; /* in the order of their headers */
    size_t count, capacity;
    qz_names names; /* the first of each name */
} qz_packed_list;

/* A file that is read: file.c opens it, its container and layouts fill it in, and all else only reads it. */
struct qz_file {
    const qz_container_type *container;
    qz_input input;
    uint64_t bytes; /* of it and its parts */
    qz_open_options options;
    qz_arena arena;
    qz_names names;
    qz_entry *entries;
    size_t count, capacity;
    qz_packed_list packed;
    void *state;                    /* the container's own */
    const struct qz_config *config; /* what is said about quantization beside it; NULL: nobody has asked */
    qz_file_metadata metadata;
    qz_parts parts;
    uint64_t table_left; /* of options.max_table */
    char note[320];
};

/* Whether the tensor lies in a part. */
int qz_file_in_part(const qz_file *file, size_t tensor);

/* Whether that is one of the files that tensors are read from. */
int qz_file_has(const qz_file *file, dev_t device, ino_t inode);

/*
 * Adds a tensor that a container found: its name, element, rank, shape, column_major, swapped and, of raw items, type
 * and type_bytes, and the offset of its data. Name and type must live as long as the file, as what lies in its arena
 * does; the shape is copied, the sizes are computed. A name that another tensor has, too many axes or bytes, or data
 * beyond the end of the file are errors. A container with a read() of its own checks the data itself.
 */
qz_file_result qz_file_add(qz_file *file, const qz_tensor *described, uint64_t offset, qz_file_error *error);

#endif
