/*
 * target.c - an output: a file, or a folder where the input is a model in a folder
 */
#include "target.h"

#include <sys/stat.h>

#include "output.h"

/* Whether the output is a folder: the input is one, or a model in several files, and the name is that of no file. */
static int is_folder(const settings *s, const source *in)
{
    struct stat status;
    int from_folder = qz_file_path(in->file, 1) != NULL || (stat(s->files[0], &status) == 0 && S_ISDIR(status.st_mode));
    return from_folder && qz_layout_of_output(s->files[1]) == NULL;
}

int target_open(const settings *s, const source *in, qz_create_options *options, qz_writer **writer)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    if (is_folder(s, in))
        options->shard_bytes = s->max_shard_size != 0 ? s->max_shard_size : QZ_SHARD_BYTES;
    else if (s->max_shard_size != 0)
        return fail(USAGE, "--max-shard-size is for outputs that are folders: those of a model in a folder, when the "
                           "name of the output has no extension");
    return qz_create(s->files[1], options, writer, &error) == QZ_FILE_OK ? DONE : fail_file(&error);
}

int target_copy_beside(const settings *s, const source *in, qz_writer *writer, const char *quantization)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    char note[800];
    if (!is_folder(s, in))
        return DONE;
    if (qz_copy_beside(writer, in->file, quantization, note, sizeof note, &error) != QZ_FILE_OK)
        return fail_file(&error);
    if (note[0] != '\0')
        say("note: %s", note);
    return DONE;
}
