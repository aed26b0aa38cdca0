/*
 * npy_header.h - the header of an array in NumPy's format
 */
#ifndef QZ_FILE_NPY_HEADER_H
#define QZ_FILE_NPY_HEADER_H

#include "../names.h"
#include "../quantize_file.h"

#define QZ_NPY_MAGIC_BYTES  10   /* of version 1; versions 2 and 3 have two more */
#define QZ_NPY_HEADER_WRITE 2048 /* no header of ours is longer without its type: 64 sizes of 20 digits and more */

typedef struct qz_npy_header {
    qz_tensor tensor; /* without a name; its shape lies in `shape`, the type of raw items in the arena */
    uint64_t shape[QZ_MAX_RANK];
    uint64_t length; /* bytes from the magic to the data */
} qz_npy_header;

/* Where an array comes from, and how messages name the place. */
typedef struct qz_npy_source {
    /* Reads `bytes` bytes at `offset`, counted from the magic on. Offsets never go back. */
    qz_file_result (*read)(void *context, uint64_t offset, void *dst, size_t bytes, qz_file_error *error);
    void *context;
    uint64_t available; /* bytes of the array, header and data, that can be there at most */
    const char *label, *field;
    uint64_t base; /* offset of the array in the file, or QZ_NO_OFFSET */
} qz_npy_source;

/* Reads the header of an array and checks that its data is available. */
qz_file_result qz_npy_parse(qz_npy_header *header, const qz_npy_source *source, const qz_open_options *options,
                            qz_arena *arena, qz_file_error *error);

/* Bytes that qz_npy_format() may need. */
size_t qz_npy_room(const qz_tensor *tensor);

/* Writes the header to `out`, as numpy.save does; returns its length. */
size_t qz_npy_format(const qz_tensor *tensor, char *out);

#endif
