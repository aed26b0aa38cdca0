/*
 * foreign.h - functions that the layouts of other programs in safetensors share
 *
 * A layout finds its tensors by their names and describes them. If something is wrong with a tensor, the reason is kept
 * in words; it becomes an error when the tensor is read.
 */
#ifndef QZ_LAYOUTS_FOREIGN_H
#define QZ_LAYOUTS_FOREIGN_H

#include "../error.h"
#include "../layout.h"
#include "config.h"
#include "form.h"

typedef struct qz_foreign {
    const qz_form *form;
    qz_scheme scheme;
    unsigned rank; /* the last axis is the one along which rows run */
    uint64_t shape[QZ_MAX_RANK];
    const void *more; /* the layout's own */
    char wrong[300];  /* or empty */
} qz_foreign;

/* A tensor in the making: what is found about it while its layout looks. */
typedef struct qz_found {
    qz_file *file;
    const qz_layout *layout;
    const char *base; /* what the names of its members begin with */
    size_t base_length;
    size_t members[QZ_MEMBERS];
    qz_foreign is;
} qz_found;

/* Begins with tensor i if its name ends in `suffix`; 0 if it does not, or file is none that has such layouts. */
int qz_found_begin(qz_found *found, qz_file *file, const qz_layout *layout, size_t i, const char *suffix);

/* The tensor of which the name is that of the found one with another end; SIZE_MAX if there is none. */
size_t qz_found_sibling(const qz_found *found, const char *suffix);

/* Says what is wrong; the first word counts. */
void qz_found_wrong(qz_found *found, const char *format, ...) QZ_PRINTF(2, 3);

/* Whether a member is of one of some types (ended by 0) and of this shape; if not, that is wrong. An item of one byte
 * whose type the library does not know is QZ_ELEMENT_RAW. */
int qz_found_is(qz_found *found, size_t tensor, const qz_element *elements, unsigned rank, const uint64_t *shape);

/* Sets the scheme to the one of that name with other scales. */
void qz_found_scheme(qz_found *found, const char *name, qz_element scales, uint64_t group_size);

/* Sets the group size from the number of groups in a row, and from what is said beside the file. */
void qz_found_groups(qz_found *found, uint64_t cols, uint64_t groups, uint64_t said);

/* Whether every column belongs to the group that its place says: a list of int32, one for each of `cols`. */
qz_file_result qz_found_in_order(qz_found *found, size_t list, uint64_t cols, int *in_order, qz_file_error *error);

/* Adds the tensor to the list, called like the found one with that end. */
qz_file_result qz_found_note(const qz_found *found, const char *suffix, qz_file_error *error);

/* Adds to the notes of a file why tensors that look quantized are listed as ordinary ones: once for each reason. */
void qz_found_remark(const qz_found *found, const char *why);

extern const qz_element qz_elements_float[], qz_elements_i32[], qz_elements_byte[];

/* describe() and read() of all such layouts. */
qz_file_result qz_foreign_describe(qz_file *file, const qz_packed_entry *entry, qz_packed_tensor *packed,
                                   qz_file_error *error);
qz_file_result qz_foreign_read(qz_file *file, const qz_packed_tensor *packed, uint64_t row, uint64_t rows, uint64_t col,
                               uint64_t cols, const qz_packed *dst, qz_file_error *error);

/* ---- writing ---- */

/* The element in which scales of a type lie. */
qz_element qz_foreign_element(qz_dtype dtype);

/* Which names tensors of a layout have, and what the names of their members begin with. */
typedef enum qz_foreign_names {
    QZ_NAMES_ANY,    /* any, and all of it */
    QZ_NAMES_WEIGHT, /* they end in ".weight", and all of it */
    QZ_NAMES_MODULE  /* they end in ".weight", and what is before that */
} qz_foreign_names;

/* A member of a tensor that is written. */
typedef struct qz_foreign_member {
    const char *suffix;
    int member;         /* QZ_MEMBER_CODES...; QZ_MEMBER_HEADER: none of them, but one that holds `data` */
    qz_element element; /* 0: this tensor has no such member */
    unsigned rank;
    const uint64_t *shape;
    const void *data;
    const char *stored; /* see qz_tensor_stored(), or NULL */
} qz_foreign_member;

/* How a file names the type of scales that are bytes; NULL: as bytes. */
const char *qz_foreign_stored(const qz_scheme *scheme);

/* Declares the members of a tensor, and keeps what config.json must say for the file that is written: it is the same for
 * all tensors. */
qz_file_result qz_foreign_declare(qz_writer *writer, const char *name, size_t name_length, qz_packed_tensor *packed,
                                  qz_foreign_names names, const qz_foreign_member *members, size_t count,
                                  qz_file_error *error);

#endif
