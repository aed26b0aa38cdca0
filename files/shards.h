/*
 * shards.h - an output that is a folder, with a model in one or several files of one kind
 *
 * One file is called STEM.safetensors. Several files are numbered, as Hugging Face's tools and llama.cpp number them:
 * STEM-00001-of-00002.safetensors. The files are written one after another, so only one is open at a time.
 */
#ifndef QZ_FILE_SHARDS_H
#define QZ_FILE_SHARDS_H

#include "writer.h"

enum { QZ_SHARD_NAME = 64 };

/* The name of a file of a folder that was laid out. */
void qz_shards_name(const qz_writer *writer, size_t shard, char name[QZ_SHARD_NAME]);

/* Divides the tensors among files, and lays these out. */
qz_file_result qz_shards_layout(qz_writer *writer, qz_file_error *error);

/* Makes the file in which a tensor lies output->fd. */
qz_file_result qz_shards_select(qz_writer *writer, const qz_slot *slot, qz_file_error *error);

/* Completes the files, and writes the index, if this kind has one and there are several files. */
qz_file_result qz_shards_finish(qz_writer *writer, qz_file_error *error);

#endif
