/*
 * container.h - a container: a kind of file, one row in the table of the known kinds
 */
#ifndef QZ_FILE_CONTAINER_H
#define QZ_FILE_CONTAINER_H

#include "tensors.h"
#include "writer.h"

typedef struct qz_folder_rules { /* see shards.h */
    unsigned most_files;
    const char
        *index; /* what the name of the file ends in that says which tensor is in which one; NULL: there is none */
} qz_folder_rules;

/*
 * A kind of file. A row says how such a file is recognized, what tensors it lists, how their data is read, and how a
 * file is laid out and finished. All else (opening, names, ranges, the order of bytes, atomic output) is done once for
 * all containers.
 */
struct qz_container_type {
    const char *name;
    const char *extension; /* with the dot, or both */
    unsigned max_tensors;  /* that an output can hold; 0: any number */
    const char *quantized; /* the layout that quantized tensors of an output have */

    /* Whether a file of that size that begins with these bytes (64, or all that it has) is one. */
    int (*probe)(const uint8_t *head, size_t bytes, uint64_t file_size);
    /* Reads the headers and adds the tensors, in the order of the file. */
    qz_file_result (*open)(qz_file *file, qz_file_error *error);
    /* Adds the files that belong to one that was opened, if it is the first of several; may be NULL. See parts.h. */
    qz_file_result (*parts)(qz_file *file, qz_file_error *error);
    /* Reads bytes of a tensor's data, or none, to see whether a limit forbids it; NULL: they lie at entry->offset in
     * the file. */
    qz_file_result (*read)(qz_file *file, size_t tensor, uint64_t offset, void *dst, size_t bytes,
                           qz_file_error *error);
    /* Reads blocks that the values of a tensor are decoded from, as they lie in the file. NULL: there are none. */
    qz_file_result (*read_blocks)(qz_file *file, size_t tensor, uint64_t first, size_t count, void *dst,
                                  qz_file_error *error);
    void (*close)(qz_file *file); /* releases file->state; may be NULL */
    /* The container's name for the type of raw items that came from a file of this kind, which `type` is told by its
     * address; NULL if it has none. May be NULL. An output keeps it as slot->stored. */
    const char *(*stored)(const qz_tensor *tensor);

    /* Checks a declaration, of which tensor and blocks count; may be NULL. */
    qz_file_result (*declare)(qz_writer *writer, const qz_slot *slot, qz_file_error *error);
    /* Sets start and offset of `count` slots from `first` on, which are those of the file that is open, and writes what
     * is known before the data, with the metadata of writer->metadata_from if that is of this kind. NULL: only read. */
    qz_file_result (*layout)(qz_writer *writer, size_t first, size_t count, qz_file_error *error);
    /* Told of each piece of data in order, as it lies in the file; may be NULL. */
    void (*wrote)(qz_slot *slot, const void *data, size_t bytes);
    /* Writes what is known after the data; may be NULL. */
    qz_file_result (*finish)(qz_writer *writer, qz_file_error *error);
    const qz_folder_rules *folder; /* of an output that is a folder of such files; NULL: there are no such outputs */
};

extern const qz_container_type qz_container_npy, qz_container_npz, qz_container_safetensors, qz_container_gguf,
    qz_container_index;

/* The container of a file of that size that begins with these bytes, or NULL. */
const qz_container_type *qz_container_by_content(const uint8_t *head, size_t bytes, uint64_t file_size);

/* The container that the extension of a path names, or NULL. */
const qz_container_type *qz_container_by_extension(const char *path);

/* The container of the files of a folder with quantized tensors in that layout. */
const qz_container_type *qz_container_of_folder(const char *layout);

/* The extensions of those that are read, or of those that are written, for messages. */
const char *qz_container_list(int written, const char *between, const char *last, char *out, size_t out_size);

#endif
