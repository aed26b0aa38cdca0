/*
 * safetensors.h - the header of a .safetensors file: read strictly, written in one form only
 *
 *     N (8 bytes, least significant first)  {"name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},...}  data
 *
 * N counts the bytes of the JSON text. The tensors fill the data without gaps. All that the format's own library
 * accepts is accepted, except what two readers could understand differently: names or metadata that occur twice, and
 * white space before the text.
 */
#ifndef QZ_SAFETENSORS_H
#define QZ_SAFETENSORS_H

#include "model.h"

/* Types, in the order of the format's library: by alignment. */
typedef enum qz_safetensors_type {
    QZ_SAFETENSORS_BOOL,
    QZ_SAFETENSORS_F4,
    QZ_SAFETENSORS_F6_E2M3,
    QZ_SAFETENSORS_F6_E3M2,
    QZ_SAFETENSORS_U8,
    QZ_SAFETENSORS_I8,
    QZ_SAFETENSORS_F8_E5M2,
    QZ_SAFETENSORS_F8_E4M3,
    QZ_SAFETENSORS_F8_E8M0,
    QZ_SAFETENSORS_F8_E4M3FNUZ,
    QZ_SAFETENSORS_F8_E5M2FNUZ,
    QZ_SAFETENSORS_I16,
    QZ_SAFETENSORS_U16,
    QZ_SAFETENSORS_F16,
    QZ_SAFETENSORS_BF16,
    QZ_SAFETENSORS_I32,
    QZ_SAFETENSORS_U32,
    QZ_SAFETENSORS_F32,
    QZ_SAFETENSORS_C64,
    QZ_SAFETENSORS_F64,
    QZ_SAFETENSORS_I64,
    QZ_SAFETENSORS_U64,
    QZ_SAFETENSORS_TYPES
} qz_safetensors_type;

typedef struct qz_safetensors_row {
    const char *name;   /* as the file has it: "BF16" */
    unsigned bits;      /* of an element */
    qz_element element; /* QZ_ELEMENT_RAW: a type that is passed on as it is */
} qz_safetensors_row;

/* What a qz_tensor of QZ_ELEMENT_RAW has as its type: as NumPy writes it, of most all that can be said is the size of
 * the items. Which type of the format it is, is told by the address. Of types of less than a byte, the items are bytes,
 * and the last axis counts them. */
extern const char qz_safetensors_items[QZ_SAFETENSORS_TYPES][4];

/* The type of such items; of others QZ_SAFETENSORS_C64 if they are those, or QZ_SAFETENSORS_TYPES. */
unsigned qz_safetensors_type_of_items(const char *items);

/* The row of a type; NULL for a number that is none. */
const qz_safetensors_row *qz_safetensors_row_of(unsigned type);

/* The type of an element; QZ_SAFETENSORS_TYPES if there is none. */
unsigned qz_safetensors_type_of(qz_element element);

/* The bytes of a tensor of that type, which is one, and shape. Returns NULL, or what is wrong. */
const char *qz_safetensors_bytes(unsigned type, unsigned rank, const uint64_t *shape, uint64_t *bytes);

typedef qz_metadata qz_safetensors_pair;

typedef struct qz_safetensors {
    qz_model model;
    qz_safetensors_pair *metadata; /* in the order of the file */
    size_t metadata_count;
    uint64_t data;  /* where the data begins */
    char note[320]; /* what was left out, for people; empty if nothing */

    char *text; /* private: the header, in which the names are */
} qz_safetensors;

/* Whether a file of that size that begins with these bytes (9 are enough) is one. */
int qz_safetensors_probe(const uint8_t *head, size_t bytes, uint64_t file_size);

/* Reads the header. `limits` may be NULL. On QZ_FILE_OK the result is to be released with qz_safetensors_free();
 * otherwise there is nothing to release. */
qz_file_result qz_safetensors_read(qz_safetensors *safetensors, const qz_input *input, const qz_model_limits *limits,
                                   qz_file_error *error);

void qz_safetensors_free(qz_safetensors *safetensors);

/*
 * Makes the header of a file with these tensors, of which name, type, rank and shape count, and this metadata; sets
 * their offsets and bytes. The data lies in the order of the tensors, without gaps, from a multiple of 8 on.
 *
 * *header is to be released with free(); it has *header_bytes bytes and stands at the start of the file, which has
 * *file_bytes bytes. QZ_FILE_ARGUMENT if the format has no such file.
 */
qz_file_result qz_safetensors_format(qz_model_tensor *tensors, size_t count, const qz_safetensors_pair *metadata,
                                     size_t metadata_count, char **header, size_t *header_bytes, uint64_t *file_bytes,
                                     const char *label, qz_file_error *error);

#endif
