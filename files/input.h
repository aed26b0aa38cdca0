/*
 * input.h - a file that is read: opened safely, and read exactly
 */
#ifndef QZ_FILE_INPUT_H
#define QZ_FILE_INPUT_H

#include "system.h"

#include <stdint.h>
#include <sys/types.h>

#include "quantize_file.h"

typedef struct qz_input {
    int fd;        /* -1 while it is parked */
    int folder;    /* where `path` begins: AT_FDCWD, or a folder that is open as long as the file */
    char *path;    /* NULL: cannot be parked */
    int inside;    /* a link is followed only as inside.h has it */
    char *label;   /* the path, escaped */
    uint64_t size; /* when it was opened */
    dev_t device;
    ino_t inode;
    int64_t changed[2]; /* time of the last change: seconds, nanoseconds */
} qz_input;

qz_file_result qz_input_open(qz_input *input, const char *path, qz_file_error *error);
/* The same for a file of an open folder, which is called `shown` in messages. */
qz_file_result qz_input_open_in(qz_input *input, int folder, const char *path, const char *shown, qz_file_error *error);
/* The same for one that a folder or another file names, not the caller: its last part may be a symbolic link only as
 * inside.h has it. */
qz_file_result qz_input_open_inside(qz_input *input, int folder, const char *path, const char *shown,
                                    qz_file_error *error);
/* A file that is open as `fd`, which becomes the input's, and will lie at `path`. */
qz_file_result qz_input_adopt(qz_input *input, int fd, const char *path, qz_file_error *error);
void qz_input_close(qz_input *input);
/* Closes the descriptor of a file that is to be read later: there can be more files than descriptors. */
void qz_input_park(qz_input *input);
/* Opens a file again that was parked. It must be the same one, unchanged. */
qz_file_result qz_input_wake(qz_input *input, qz_file_error *error);
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
