/*
 * writer.h - a file that is written, and its tensors
 */
#ifndef QZ_FILE_WRITER_H
#define QZ_FILE_WRITER_H

#include "names.h"

#include <pthread.h>

#include "output.h"
#include "quantize_file.h"

typedef struct qz_container_type qz_container_type;
typedef struct qz_layout qz_layout;

typedef struct qz_slot { /* a tensor that is being written */
    qz_tensor tensor;
    uint64_t start;          /* where what the container puts before the data begins */
    uint64_t offset;         /* where the data begins */
    uint64_t next;           /* elements written in order */
    uint64_t written;        /* elements written */
    uint32_t crc_start, crc; /* container's own: of what stands before the data, and of all so far */
    int joined;              /* lies in the same file as the tensor before */
    size_t shard;            /* the file of a folder in which it lies */
    int disordered;          /* the checksum is not that of the data */
    void *preset;            /* data given with the declaration, or NULL */
    const qz_layout *layout; /* of a quantized tensor's header: how that lies in the file */
    const char *stored;      /* the type that the container is to say, where its elements do not say it; or NULL */
    unsigned blocks;         /* of items that are blocks of codes: which, as the container counts types; else 0 */
    int is_eight;            /* codes of 8 bits: qz_eight_write() writes it, */
    uint64_t eight;          /* and it has so many values */
} qz_slot;

/* What config.json is to say about quantization; it goes into the metadata of a safetensors file. Layouts write it as
 * tensors are declared, unquantized.c completes it. */
typedef struct qz_said {
    const char *text; /* or NULL */
    qz_scheme of;     /* of which scheme that is said */
    uint64_t row;     /* how long rows are that are one group; 0: there are none; UINT64_MAX: of several lengths */
    int has_layers;   /* it names the layers that stay floats, if it has to */
} qz_said;

/* The files of an output that is a folder. qz_create() says what is wanted, shards.c divides the tensors. */
typedef struct qz_shards {
    uint64_t bytes; /* what one file holds at most; 0: the output is no folder */
    uint64_t part;  /* what is made of it, as in qz_create_options */
    size_t count;   /* of files with tensors */
    size_t open;    /* which one is open, or SIZE_MAX */
    char stem[33];  /* what their names begin with */
} qz_shards;

/* A file that is written: writer.c makes it, the container lays it out. */
struct qz_writer {
    const qz_container_type *container;
    qz_output output;
    qz_arena arena;
    qz_names names;
    qz_slot *slots;
    size_t count, capacity;
    int laid_out, complete;
    char layout[24];              /* of quantized tensors: its name, or "" for that of the container */
    qz_file_result failed;        /* of the first write that failed */
    const qz_file *metadata_from; /* the file whose metadata is passed on, or NULL */
    qz_said said;
    qz_shards shards;
    pthread_mutex_t writes; /* held while something is written */
};

/* qz_declare() of a tensor whose items are blocks of that type. */
qz_file_result qz_writer_declare(qz_writer *writer, const qz_tensor *tensor, unsigned blocks, size_t *index,
                                 qz_file_error *error);

/* Declares a tensor of blocks of a type of ggml; name and shape of `values`, whose rows are whole blocks, count. */
qz_file_result qz_writer_declare_blocks(qz_writer *writer, const qz_tensor *values, unsigned id, size_t *index,
                                        qz_file_error *error);

/* Gives all the data of a tensor right after its declaration; it is written when the file is laid out. */
qz_file_result qz_writer_preset(qz_writer *writer, size_t tensor, const void *data, qz_file_error *error);

/* Completes the file, but for its name: nothing can be written any more. Done once, however often it is called. */
qz_file_result qz_writer_complete(qz_writer *writer, qz_file_error *error);

/* Whether the data of a tensor belongs to what is made. */
static inline int qz_writer_makes(const qz_writer *writer, const qz_slot *slot)
{
    return writer->shards.part == 0 || writer->shards.part - 1 == slot->shard;
}

/* Keeps a name, which must be in the arena, from later tensors; fails if an earlier one has it. */
qz_file_result qz_writer_reserve(qz_writer *writer, const char *name, size_t name_length, qz_file_error *error);

#endif
