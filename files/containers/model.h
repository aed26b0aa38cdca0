/*
 * model.h - the tensors that the header of a model's file lists: any type, and the place of their bytes
 *
 * Containers whose headers stand before all data share it: safetensors.h and gguf.h. The memory for a header is
 * limited: a header of a real model is a hundred times shorter than one that was made long on purpose.
 */
#ifndef QZ_MODEL_H
#define QZ_MODEL_H

#include "../input.h"

#include "../checked.h"
#include "../element.h"
#include "../error.h"
#include "../names.h"

typedef struct qz_model_tensor {
    const char *name;   /* UTF-8 without NUL, then a NUL; may be empty. Escape it before printing */
    size_t name_length; /* bytes without the NUL */
    unsigned type;      /* of safetensors a qz_safetensors_type, of GGUF the id of a ggml type */
    unsigned rank;
    const uint64_t *shape; /* as NumPy has it: the last axis runs fastest */
    uint64_t offset;       /* of the data in the file */
    uint64_t bytes;
} qz_model_tensor;

typedef struct qz_model_limits {
    uint64_t max_header; /* bytes before the data */
    uint64_t max_table;  /* bytes of memory for what is kept of them */
} qz_model_limits;

/* 200,000 tensors with names of usual length. */
#define QZ_MODEL_LIMITS_INIT                                                                                           \
    {                                                                                                                  \
        100000000, (uint64_t)48 << 20                                                                                  \
    }

/* The limits where so much memory is left: a header may have as many bytes, or the usual ones. */
qz_model_limits qz_model_limits_of(uint64_t max_table);

typedef struct qz_model {
    qz_model_tensor *tensors; /* in the order of the header */
    size_t count;
    qz_names names; /* the index of each tensor */

    /* private */
    size_t capacity;
    qz_arena arena;
    uint64_t left; /* bytes of memory that may still be used */
} qz_model;

void qz_model_free(qz_model *model);

/* The index of the tensor of that name; SIZE_MAX if there is none. */
size_t qz_model_find(const qz_model *model, const char *name, size_t name_length);

/* ---- for readers ---- */

/* Memory of a name in a map and of a pointer to it, at the moment when the map grows. */
#define QZ_MODEL_NAME_COST 144

/* Counts `count` times `each` bytes of memory; QZ_FILE_LIMIT if they are too many. */
qz_file_result qz_model_charge(qz_model *model, uint64_t count, uint64_t each, const char *label, qz_file_error *error);

/* Makes room for exactly so many tensors, which were charged for. */
qz_file_result qz_model_reserve(qz_model *model, size_t capacity, const char *label, qz_file_error *error);

/* A copy of a shape in the model's memory. */
qz_file_result qz_model_keep_shape(qz_model *model, unsigned rank, const uint64_t *shape, const uint64_t **kept,
                                   const char *label, qz_file_error *error);

/* Adds a tensor for which there is room; its name and shape live as long as the model. The same name twice is refused,
 * at `place` in the file. */
qz_file_result qz_model_add(qz_model *model, const qz_model_tensor *tensor, uint64_t place, const char *label,
                            qz_file_error *error);

/* Writes "tensor 'NAME'" for messages. Returns `out`. */
#define QZ_MODEL_FIELD (QZ_NAME_TEXT + 16)
char *qz_model_field(const char *kind, const char *name, size_t name_length, char out[QZ_MODEL_FIELD]);

/* Why a name cannot be one of a tensor or key; NULL if it can. */
const char *qz_model_name_wrong(const char *name, size_t length);

/* Rounds up to a multiple of a power of two: the largest one where the next does not fit, which no file has. */
uint64_t qz_model_round_up(uint64_t value, uint64_t alignment);

#endif
