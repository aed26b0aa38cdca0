/*
 * packed_list.h - the list of a file's quantized tensors, which layouts fill in
 */
#ifndef QZ_FILE_PACKED_LIST_H
#define QZ_FILE_PACKED_LIST_H

#include "tensors.h"

/* Adds a quantized tensor that a layout found: its name, which must live as long as the file, the layout and the
 * members (SIZE_MAX for those that there are not). Its members are no ordinary tensors any more. */
qz_file_result qz_packed_note(qz_file *file, const qz_packed_entry *found, qz_file_error *error);

/* Puts the list in the order of the file, once it is complete. */
qz_file_result qz_packed_sort(qz_file *file, qz_file_error *error);

/* A tensor that belongs to a quantized one beside the members that qz_packed_note() knows. */
void qz_packed_hide(qz_file *file, size_t tensor);

/* Fills in rows, cols and sizes from scheme, rank, shape and axis; 0 if they are too large. */
int qz_packed_complete(qz_packed_tensor *packed);

#endif
