/*
 * input.h - a file to read: opened safely, read exactly
 */
#ifndef QZ_FILE_INPUT_H
#define QZ_FILE_INPUT_H

#include "system.h"

#include <stdint.h>
#include <sys/types.h>

#include "quantize_file.h"

typedef struct qz_input {
    int fd;
    char *label;   /* the path, escaped */
    uint64_t size; /* when it was opened */
    dev_t device;
    ino_t inode;
    int64_t changed[2]; /* time of the last change: seconds, nanoseconds */
} qz_input;

qz_file_result qz_input_open(qz_input *input, const char *path, qz_file_error *error);
void qz_input_close(qz_input *input);
/* Exactly `bytes` bytes, or an error: the file must have them. */
qz_file_result qz_input_read(const qz_input *input, uint64_t offset, void *dst, size_t bytes, qz_file_error *error);
/* Returns QZ_FILE_FORMAT if size or time of change differ from those when the file was opened. */
qz_file_result qz_input_unchanged(const qz_input *input, qz_file_error *error);

/* A piece of a file that is kept, so that small reads that lie together cost one system call. */
typedef struct qz_window {
    const qz_input *input;
    uint64_t start;
    size_t bytes;
    uint8_t data[1024];
} qz_window;

/* qz_input_read() through the window. */
qz_file_result qz_window_read(qz_window *window, uint64_t offset, void *dst, size_t bytes, qz_file_error *error);

#endif
