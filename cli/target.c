/*
 * target.c - an output: a file, or a folder where the input is a model in a folder
 */
#include "target.h"

#include <string.h>
#include <sys/stat.h>

#include "output.h"

/* Whether the output is a folder: the input is one, or a model in several files, and the name is that of no file. */
static int is_folder(const settings *s, const source *in)
{
    struct stat status;
    int from_folder = qz_file_path(in->file, 1) || (stat(s->files[0], &status) == 0 && S_ISDIR(status.st_mode));
    return from_folder && !qz_layout_of_output(s->files[1]);
}

/* Says what an output of another kind does not have. That a framework wrote the file, as nearly all metadata says, is
 * not worth a word, and what it says of how tensors are quantized need not hold for the output. */
static void note_metadata(const settings *s, const source *in, const qz_create_options *options)
{
    static const char *const of_no_interest[] = {"format", "quantization_config"};
    size_t count = qz_metadata_count(in->file), length = strlen(s->files[1]);
    size_t pairs = count;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < sizeof of_no_interest / sizeof of_no_interest[0]; k++)
            pairs -= strcmp(qz_metadata_at(in->file, i)->key, of_no_interest[k]) == 0;
    int keeps = options->shard_bytes != 0 || (length > 12 && strcmp(s->files[1] + length - 12, ".safetensors") == 0);
    if (pairs != 0 && !keeps)
        say("note: __metadata__ (%zu %s) is not passed on; a .safetensors output has it", pairs,
            pairs == 1 ? "pair" : "pairs");
}

int target_open(const settings *s, const source *in, qz_create_options *options, qz_writer **writer)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    if (is_folder(s, in))
        options->shard_bytes = s->max_shard_size != 0 ? s->max_shard_size : QZ_SHARD_BYTES;
    else if (s->max_shard_size != 0)
        return fail(USAGE, "--max-shard-size is for outputs that are folders: those of a model in a folder, when the "
                           "name of the output has no extension");
    if (qz_create(s->files[1], options, writer, &error) != QZ_FILE_OK)
        return fail_file(&error);
    note_metadata(s, in, options);
    return DONE;
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
