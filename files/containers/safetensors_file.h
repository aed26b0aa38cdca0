/*
 * safetensors_file.h - writes .safetensors files, for the containers that consist of them
 */
#ifndef QZ_SAFETENSORS_FILE_H
#define QZ_SAFETENSORS_FILE_H

#include "../writer.h"

/* Checks that the format has such a tensor. */
qz_file_result qz_safetensors_declare(qz_writer *writer, const qz_slot *slot, qz_file_error *error);

/* Sets where the data of `count` tensors from `first` on lie in the file that is open, and writes its header. */
qz_file_result qz_safetensors_lay_out(qz_writer *writer, size_t first, size_t count, qz_file_error *error);

/* The name that the format has for the type of raw items, where it has one: see container.h. */
const char *qz_safetensors_stored(const qz_tensor *tensor);

#endif
