/*
 * own_blocks.h - reads and writes blocks of quantized tensors in the library's own layout; it knows no names
 */
#ifndef QZ_OWN_BLOCKS_H
#define QZ_OWN_BLOCKS_H

#include "../system.h"

#include "../quantize_file.h"

/* As qz_packed_read() and qz_packed_write(), of blocks that were checked. */
qz_file_result qz_own_read(qz_file *file, const qz_packed_tensor *packed, uint64_t row, uint64_t rows, uint64_t col,
                           uint64_t cols, const qz_packed *dst, qz_file_error *error);
qz_file_result qz_own_write(qz_writer *writer, const qz_packed_tensor *packed, uint64_t row, uint64_t rows,
                            uint64_t col, uint64_t cols, const qz_packed *src, qz_file_error *error);

#endif
