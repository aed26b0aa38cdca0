/*
 * zip_data.h - the data of a member of a zip archive: expanded, checked, read in any order
 */
#ifndef QZ_FILE_ZIP_DATA_H
#define QZ_FILE_ZIP_DATA_H

#include "../input.h"

/* A compressed member that is being read in order. */
typedef struct qz_zip_stream qz_zip_stream;

typedef struct qz_zip_data {
    uint64_t start;    /* of the data in the file */
    uint64_t packed;   /* bytes in the file */
    uint64_t bytes;    /* bytes when expanded */
    uint64_t position; /* bytes that were read in order */
    uint64_t spooled;  /* where it begins in the spool, if `in_spool` */
    uint32_t crc, running;
    uint8_t deflated, checked, in_spool;
    qz_zip_stream *stream;
} qz_zip_data;

/* An unnamed temporary file for expanded members. */
typedef struct qz_zip_spool {
    int fd; /* -1: there is none yet */
    uint64_t end;
} qz_zip_spool;

qz_zip_stream *qz_zip_stream_new(void); /* NULL without memory */
void qz_zip_stream_begin(qz_zip_stream *s, const qz_zip_data *m);
/* Expands exactly `bytes` bytes. With bytes 0, checks that nothing more comes. */
qz_file_result qz_zip_stream_read(qz_zip_stream *s, const qz_input *input, const qz_zip_data *m, void *dst,
                                  size_t bytes, qz_file_error *error);
void qz_zip_stream_free(qz_zip_stream *s); /* NULL is allowed */

/* Reads a whole member and checks it; a compressed one is kept expanded, so that any part of it can be read. */
qz_file_result qz_zip_check(const qz_input *input, qz_zip_spool *spool, qz_zip_data *m, qz_file_error *error);

/* Reads `bytes` bytes at `offset` after the first `header` bytes of a member. From the header to the end in order, the
 * checksum is compared with the last of them; the first read out of order checks the whole member before it returns. */
qz_file_result qz_zip_data_read(const qz_input *input, qz_zip_spool *spool, qz_zip_data *m, uint64_t header,
                                uint64_t offset, void *dst, size_t bytes, qz_file_error *error);

#endif
