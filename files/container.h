/*
 * container.h - a kind of file: one row of the table of those that are known
 */
#ifndef QZ_FILE_CONTAINER_H
#define QZ_FILE_CONTAINER_H

#include "tensors.h"
#include "writer.h"

struct qz_container_type {
    const char *name;
    const char *extension; /* with the dot */
    unsigned max_tensors;  /* 0: any number */

    /* Whether a file of that size that begins with these bytes is one. */
    int (*probe)(const uint8_t *head, size_t bytes, uint64_t file_size);
    /* Reads the headers and adds the tensors. */
    qz_file_result (*open)(qz_file *file, qz_file_error *error);
    /* Reads bytes of a tensor's data; NULL: they lie at entry->offset in the file. */
    qz_file_result (*read)(qz_file *file, size_t tensor, uint64_t offset, void *dst, size_t bytes,
                           qz_file_error *error);
    void (*close)(qz_file *file); /* releases file->state; may be NULL */

    /* Checks a declaration; may be NULL. */
    qz_file_result (*declare)(qz_writer *writer, const qz_tensor *tensor, qz_file_error *error);
    /* Sets start and offset of all slots, and writes what is known before the data. */
    qz_file_result (*layout)(qz_writer *writer, qz_file_error *error);
    /* Told of each piece of data in order, as it lies in the file; may be NULL. */
    void (*wrote)(qz_slot *slot, const void *data, size_t bytes);
    /* Writes what is known after the data; may be NULL. */
    qz_file_result (*finish)(qz_writer *writer, qz_file_error *error);
};

extern const qz_container_type qz_container_npy, qz_container_npz;

/* The container that the extension of an output names, or NULL. */
const qz_container_type *qz_container_for_output(const char *path);

#endif
