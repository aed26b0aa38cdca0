/*
 * layout.h - a layout: how a quantized tensor is stored in a file, one row in the table of the known layouts
 */
#ifndef QZ_FILE_LAYOUT_H
#define QZ_FILE_LAYOUT_H

#include "tensors.h"
#include "writer.h"

/*
 * A layout. A row says which tensors of a file are one quantized tensor, what that tensor is, and how its numbers go
 * between the file and the library's plain form. Arguments were checked before: a scheme that makes sense, an axis of
 * the shape, rows and columns of the matrix.
 *
 * members[QZ_MEMBER_HEADER] is a tensor in every layout: the one that stands for the whole.
 */
struct qz_layout {
    const char *name;
    const char *container; /* the only one that has it; NULL: any */
    int is_across;         /* neighbours in a row do not lie together */

    /* Looks through the tensors of a file that was just opened, and calls qz_packed_note() for each quantized one. What
     * does not fit together is noted as well: describe() refuses it. NULL: another layout looks for both. */
    qz_file_result (*recognize)(qz_file *file, qz_file_error *error);
    /* Fills in scheme, rank, shape and axis; the rest follows from them. */
    qz_file_result (*describe)(qz_file *file, const qz_packed_entry *entry, qz_packed_tensor *packed,
                               qz_file_error *error);
    /* Reads a block as qz_packed_read() promises it. */
    qz_file_result (*read)(qz_file *file, const qz_packed_tensor *packed, uint64_t row, uint64_t rows, uint64_t col,
                           uint64_t cols, const qz_packed *dst, qz_file_error *error);

    /* Bytes of a tensor in the file; NULL: those of the plain form. */
    uint64_t (*bytes)(const qz_packed_tensor *packed);

    /* Why such a tensor cannot lie in this layout, for people; NULL if it can. rank 0: asks about the scheme alone. The
     * text may be in `out`. */
    const char *(*refuses)(const qz_scheme *scheme, unsigned rank, const uint64_t *shape, unsigned axis, char *out,
                           size_t out_size);
    /* Declares the members of a tensor that it did not refuse; sets `members`. NULL: only read. */
    qz_file_result (*declare)(qz_writer *writer, const char *name, size_t name_length, qz_packed_tensor *packed,
                              qz_file_error *error);
    /* Writes a block as qz_packed_write() promises it. NULL: by the form. */
    qz_file_result (*write)(qz_writer *writer, const qz_packed_tensor *packed, uint64_t row, uint64_t rows,
                            uint64_t col, uint64_t cols, const qz_packed *src, qz_file_error *error);

    /* How its parts lie (form.h); NULL where no form says it. Some forms do not have all numbers. */
    const struct qz_form *form;
};

extern const qz_layout qz_layout_own, qz_layout_gguf;
extern const qz_layout qz_layout_gptq, qz_layout_gptq_v2, qz_layout_awq, qz_layout_compressed_tensors;
extern const qz_layout qz_layout_modelopt, qz_layout_gpt_oss, qz_layout_mlx, qz_layout_bitsandbytes;
extern const qz_layout qz_layout_hqq, qz_layout_quanto, qz_layout_torchao;

/* The layout of that name, or NULL. */
const qz_layout *qz_layout_named(const char *name);

/* Lets every layout look through the tensors of a file. */
qz_file_result qz_layouts_recognize(qz_file *file, qz_file_error *error);

#endif
