/*
 * parts.h - a file whose tensors are in several files
 *
 * A first file, such as an index, names the others, and the user sees one file. Each of the others is opened by its own
 * container, read once for its list of tensors, and then parked (its descriptor is closed), so that only a few are open
 * at a time. All parts must be in the folder of the first file, whatever that file says.
 */
#ifndef QZ_FILE_PARTS_H
#define QZ_FILE_PARTS_H

#include "tensors.h"

/* Opens a part, whose name must be that of a file in the folder of `file`, and which must be of that kind. Its tensors
 * are in qz_parts_last(), and not yet in the file. A part that is missing is an error of `file`. */
qz_file_result qz_parts_add(qz_file *file, const char *name, const qz_container_type *kind, qz_file_error *error);
const qz_file *qz_parts_last(const qz_file *file);

/* The file in which a tensor lies, open for reading, and the number that the tensor has there. */
qz_file_result qz_parts_find(qz_file *file, qz_file **part, size_t *tensor, qz_file_error *error);

/* Adds the tensors of all parts to the file, after its own. */
qz_file_result qz_parts_join(qz_file *file, qz_file_error *error);

qz_file_result qz_parts_unchanged(const qz_file *file, qz_file_error *error);

/* Releases what is left when the parts were closed. */
void qz_parts_free(qz_parts *parts);

#endif
