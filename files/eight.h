/*
 * eight.h - tensors of eight bits in files
 */
#ifndef QZ_FILE_EIGHT_H
#define QZ_FILE_EIGHT_H

#include "tensors.h"

/* Finds the tensors of eight bits in the library's own layout: their members are hidden, and the tensors that they are
 * follow all others. */
qz_file_result qz_eights_recognize(qz_file *file, qz_file_error *error);

#endif
