/*
 * output_folder.h - an output that is a folder of files: it appears under its name whole, or not at all
 *
 * The files are made in a temporary folder beside the target (temporary.h), which is renamed at the end. One file is
 * open at a time, as output->fd.
 */
#ifndef QZ_FILE_OUTPUT_FOLDER_H
#define QZ_FILE_OUTPUT_FOLDER_H

#include "output.h"

/* Makes the temporary folder. The target must not be there, or be an empty folder. */
qz_file_result qz_output_folder_begin(qz_output *output, qz_file_error *error);

/* Opens a file of the folder, a new one or one that was made before, in place of the one that is open. The name may be
 * a path: the folders in which a new file lies are made. */
qz_file_result qz_output_folder_file(qz_output *output, const char *name, int is_new, qz_file_error *error);

/* Ends the file that is open: its bytes are on the medium, if that is wanted. */
qz_file_result qz_output_folder_end_file(qz_output *output, qz_file_error *error);

/* Ends a folder in the folder: its names are on the medium, if that is wanted. */
qz_file_result qz_output_folder_end_folder(qz_output *output, const char *name, qz_file_error *error);

/* Writes a whole file. */
qz_file_result qz_output_folder_write(qz_output *output, const char *name, const void *bytes, size_t count,
                                      qz_file_error *error);

/* Gives the folder its name. All files were ended. */
qz_file_result qz_output_folder_publish(qz_output *output, qz_file_error *error);

#endif
