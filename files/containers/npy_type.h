/*
 * npy_type.h - the types of NumPy's arrays: <f4, |b1, <U3, [('x', '<f4'), ('y', '<i2', (3,))]
 */
#ifndef QZ_FILE_NPY_TYPE_H
#define QZ_FILE_NPY_TYPE_H

#include "../names.h"
#include "npy_text.h"

/* Reads the type of a header: sets element, type, type_bytes and swapped of the tensor. `latin1`: the encoding of the
 * text, which is UTF-8 otherwise. */
qz_file_result qz_npy_take_type(qz_text *p, const qz_open_options *options, int latin1, qz_arena *arena,
                                qz_tensor *tensor);

/* Writes the type of a tensor as a header has it; returns its length. */
size_t qz_npy_put_type(const qz_tensor *tensor, char *out, size_t room);

#define QZ_TYPE_LONGEST 8000 /* bytes of a type that is written: with it a header keeps the default limit */

/* Bytes of an item of a type as qz_tensor has it; 0 with *wrong set if it is none that can be kept. */
uint64_t qz_type_bytes(const char *type, const char **wrong);

#endif
