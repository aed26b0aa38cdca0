/*
 * unquantized.h - lists the layers whose weights stay floats, for programs whose configuration names them
 */
#ifndef QZ_FILE_UNQUANTIZED_H
#define QZ_FILE_UNQUANTIZED_H

#include "../writer.h"

/* Adds the layers to writer->said, where programs of the layout read such a list; all tensors are declared. Done once,
 * however often it is called. */
qz_file_result qz_say_unquantized(qz_writer *writer, qz_file_error *error);

#endif
