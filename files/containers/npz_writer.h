/*
 * npz_writer.h - the functions by which npz.c writes, for its row in the table of containers
 */
#ifndef QZ_FILE_NPZ_WRITER_H
#define QZ_FILE_NPZ_WRITER_H

#include "../writer.h"

qz_file_result qz_npz_declare(qz_writer *writer, const qz_slot *slot, qz_file_error *error);
qz_file_result qz_npz_layout(qz_writer *writer, size_t first, size_t count, qz_file_error *error);
void qz_npz_wrote(qz_slot *slot, const void *data, size_t bytes);
qz_file_result qz_npz_finish(qz_writer *writer, qz_file_error *error);

#endif
