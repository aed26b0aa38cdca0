/*
 * internal.h - what the parts of the file layer share
 *
 * A container is one row of the table in file.c: how to recognise it, how to read its headers, and how to lay out and
 * finish a file of its kind. Everything else (opening, names, ranges, checksums of order, atomic output) is done once
 * for all of them.
 *
 *     checked.h     arithmetic on sizes from outside
 *     error.c       messages, escaping
 *     names.c       set of names, arena
 *     input.c       an open file: exact reads
 *     output.c      an output that appears whole or not at all
 *     element.c     types of elements, bytes of shapes, byte order
 *     tensors.c     the list of a file's tensors
 *     file.c        the public functions for reading, and the table of containers
 *     writer.c      the public functions for writing
 *     packed_npz.c  quantized tensors in an .npz
 *     containers/   npy.c with npy_header.c, npz.c with npz_writer.c
 *
 * Include this file first: it asks the system for 64-bit offsets and O_TMPFILE.
 */
#ifndef QZ_FILE_INTERNAL_H
#define QZ_FILE_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "checked.h"
#include "quantize_file.h"

/* ---- error.c ------------------------------------------------------------------------------------------- */

#if defined(__GNUC__)
#define QZ_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define QZ_PRINTF(text, first)
#endif

/* Fills *error (if there is one) with "label: field at byte offset: ...", without the parts that are NULL or
 * QZ_NO_OFFSET, and returns `code`. Texts must be printable already. */
qz_file_result qz_fail(qz_file_error *error, qz_file_result code, const char *label, const char *field, uint64_t offset,
                       const char *format, ...) QZ_PRINTF(6, 7);

/* The same for a system call that failed: "label: cannot ACTION: reason". Uses errno. */
qz_file_result qz_fail_errno(qz_file_error *error, const char *label, const char *action);

qz_file_result qz_fail_memory(qz_file_error *error, const char *label);

/* Whether the bytes are well-formed UTF-8. */
int qz_is_utf8(const char *text, size_t length);

#define QZ_NAME_TEXT 128 /* room for a name in a message */

/* ---- names.c ------------------------------------------------------------------------------------------- */

/* Memory that is released all at once. */
typedef struct qz_arena {
    struct qz_arena_block *last;
} qz_arena;

void *qz_arena_get(qz_arena *arena, size_t bytes); /* aligned for uint64_t; NULL without memory */
char *qz_arena_text(qz_arena *arena, const char *text, size_t length);
void qz_arena_free(qz_arena *arena);

typedef struct qz_name_slot {
    const char *name; /* NULL: free */
    size_t length;
    size_t value;
} qz_name_slot;

/* A map from names to numbers. Keyed hashing: nobody can prepare names that collide. */
typedef struct qz_names {
    qz_name_slot *slots;
    size_t capacity, used; /* capacity is a power of two, or 0 */
    uint64_t key[2];
} qz_names;

typedef enum { QZ_NAME_NEW, QZ_NAME_TWICE, QZ_NAME_NO_MEMORY } qz_name_result;

/* `name` must live as long as the set. */
qz_name_result qz_names_add(qz_names *names, const char *name, size_t length, size_t value);
size_t qz_names_find(const qz_names *names, const char *name, size_t length); /* SIZE_MAX: not there */
void qz_names_free(qz_names *names);

/* ---- input.c ------------------------------------------------------------------------------------------- */

typedef struct qz_input {
    int fd;
    char *label;   /* the path, escaped */
    uint64_t size; /* when it was opened */
    dev_t device;
    ino_t inode;
    int64_t changed[2]; /* time of the last change: seconds, nanoseconds */
} qz_input;

qz_file_result qz_input_open(qz_input *input, const char *path, qz_file_error *error);
void qz_input_close(qz_input *input);
/* Exactly `bytes` bytes, or an error: the file must have them. */
qz_file_result qz_input_read(const qz_input *input, uint64_t offset, void *dst, size_t bytes, qz_file_error *error);

/* The same open file under a number above 2, so that nothing that is meant for a terminal can go into it; closes fd. */
int qz_above_standard(int fd);

/* pread and pwrite until done; 0 with errno set (0 at the end of the file) if that is not possible. */
int qz_pread_all(int fd, void *dst, size_t bytes, uint64_t offset);
int qz_pwrite_all(int fd, const void *src, size_t bytes, uint64_t offset);

/* ---- output.c ------------------------------------------------------------------------------------------ */

typedef struct qz_output {
    int fd;
    int folder;    /* the target folder */
    char *base;    /* the last part of the path */
    char *label;   /* the path, escaped */
    char temp[48]; /* name of the temporary file; empty while it has none */
    int replace, no_fsync;
} qz_output;

qz_file_result qz_output_open(qz_output *output, const char *path, const qz_create_options *options,
                              qz_file_error *error);
qz_file_result qz_output_commit(qz_output *output, qz_file_error *error); /* releases it */
void qz_output_abort(qz_output *output);

/* ---- element.c ------------------------------------------------------------------------------------------ */

#define QZ_MAX_BYTES ((uint64_t)INT64_MAX) /* of a tensor */

/* The number of items of a shape and their bytes; 0 if either passes that, zeros among the sizes set aside. */
int qz_shape_count(unsigned rank, const uint64_t *shape, uint64_t element_bytes, uint64_t *count, uint64_t *bytes);

/* Reverses the bytes of each element. */
void qz_swap(void *data, size_t element_bytes, size_t count);

static inline int qz_big_endian(void)
{
    const uint16_t one = 1;
    return *(const unsigned char *)&one == 0;
}

/* ---- npy_header.c -------------------------------------------------------------------------------------- */

#define QZ_NPY_MAGIC_BYTES  10   /* of version 1; versions 2 and 3 have two more */
#define QZ_NPY_HEADER_WRITE 2048 /* no header of ours is longer without its type: 64 sizes of 20 digits and more */
#define QZ_TYPE_LONGEST     8000 /* bytes of a type that is written: with it a header keeps the default limit */

typedef struct qz_npy_header {
    qz_element element;
    int swap; /* the numbers have the other byte order */
    int column_major;
    unsigned rank;
    uint64_t shape[QZ_MAX_RANK];
    uint64_t count, bytes;
    char *type; /* of QZ_ELEMENT_RAW, in the arena; else NULL */
    uint64_t type_bytes;
    uint64_t length; /* bytes from the magic to the data */
} qz_npy_header;

/* How to get bytes from the start of an array on: `bytes` bytes at `offset`. Offsets never go back. */
typedef qz_file_result (*qz_npy_source)(void *context, uint64_t offset, void *dst, size_t bytes, qz_file_error *error);

/* Parses the header of an array that has `available` bytes. `label`, `field` and `base` (the offset of the array in
 * the file, or QZ_NO_OFFSET) are for messages; the type of raw items goes to the arena. */
qz_file_result qz_npy_parse(qz_npy_header *header, uint64_t available, const qz_open_options *options,
                            qz_npy_source source, void *context, qz_arena *arena, const char *label, const char *field,
                            uint64_t base, qz_file_error *error);

/* Bytes that qz_npy_format() may need. */
size_t qz_npy_room(const qz_tensor *tensor);

/* Writes the header to `out`, as numpy.save does; returns its length. */
size_t qz_npy_format(const qz_tensor *tensor, char *out);

/* Bytes of an item of a type as qz_tensor has it; 0 with *wrong set if it is none that can be kept. */
uint64_t qz_type_bytes(const char *type, const char **wrong);

/* ---- containers ---------------------------------------------------------------------------------------- */

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

typedef struct qz_slot { /* a tensor that is being written */
    qz_tensor tensor;
    uint64_t start;          /* of what the container puts before the data */
    uint64_t offset;         /* of the data */
    uint64_t next;           /* elements written in order */
    uint64_t written;        /* elements written */
    uint32_t crc_start, crc; /* container's own: of what stands before the data, and of all so far */
    int disordered;          /* the checksum is not that of the data */
    void *preset;            /* data given with the declaration, or NULL */
} qz_slot;

struct qz_writer {
    const qz_container_type *container;
    qz_output output;
    qz_arena arena;
    qz_names names;
    qz_slot *slots;
    size_t count, capacity;
    int laid_out;
    qz_file_result failed; /* of the first write that failed */
};

/* Gives all the data of a tensor right after its declaration; it is written when the file is laid out. */
qz_file_result qz_writer_preset(qz_writer *writer, size_t tensor, const void *data, qz_file_error *error);

/* Keeps a name, which must be in the arena, from later tensors; fails if an earlier one has it. */
qz_file_result qz_writer_reserve(qz_writer *writer, const char *name, size_t name_length, qz_file_error *error);

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
