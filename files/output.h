/*
 * output.h - an output that appears under its name whole, or not at all
 */
#ifndef QZ_FILE_OUTPUT_H
#define QZ_FILE_OUTPUT_H

#include "system.h"

#include "quantize_file.h"
#include "temporary.h"

typedef struct qz_output {
    int fd;
    int folder;              /* the target folder */
    int files;               /* of an output that is a folder: that folder; -1 otherwise */
    char *base;              /* the last part of the path */
    char *before;            /* the parts before it */
    char *path;              /* all of it, without slashes at the end */
    char *label;             /* the path, escaped */
    char temp[QZ_TEMPORARY]; /* name of the temporary file or folder; empty while it has none */
    int replace, no_fsync;
} qz_output;

qz_file_result qz_output_open(qz_output *output, const char *path, const qz_create_options *options,
                              qz_file_error *error);
qz_file_result qz_output_commit(qz_output *output, qz_file_error *error); /* releases it */
void qz_output_abort(qz_output *output);

#endif
