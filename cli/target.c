/*
 * target.c - opens the output: a file, or a folder if that is the natural form of a model
 */
#include "target.h"

#include <string.h>

#include "output.h"

/* Whether the input is a folder, or a model in several files. Of a folder the first path is that of the file in it. */
static int is_from_folder(const settings *s, const source *in)
{
    return qz_file_path(in->file, 1) || strcmp(qz_file_path(in->file, 0), s->files[0]) != 0;
}

/* Whether the output is a folder: the input is one, or files are to be small, and the name is that of no file. */
static int is_folder(const settings *s, const source *in)
{
    return (is_from_folder(s, in) || s->output.max_shard_size != 0) && !qz_layout_of_output(s->files[1]);
}

/* The kind of the files of the output. */
static int is_kind(const settings *s, const qz_create_options *options, const char *kind)
{
    const char *path = s->files[1], *layout = options->layout;
    const size_t length = strlen(path), end = strlen(kind);
    if (options->shard_bytes != 0)
        return (layout && strcmp(layout, "gguf") == 0) == (strcmp(kind, "gguf") == 0);
    return length > end && path[length - end - 1] == '.' && strcmp(path + length - end, kind) == 0;
}

/* Says what an output of another kind does not have. That a framework wrote the file, as nearly all metadata says, is
 * not worth a word, and what it says of how tensors are quantized need not hold for the output. */
static void note_metadata(const source *in, int keeps)
{
    static const char *const of_no_interest[] = {"format", "quantization_config"};
    size_t count = qz_metadata_count(in->file);
    size_t pairs = count;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < sizeof of_no_interest / sizeof of_no_interest[0]; k++)
            pairs -= strcmp(qz_metadata_at(in->file, i)->key, of_no_interest[k]) == 0;
    if (pairs != 0 && !keeps)
        say("note: __metadata__ (%zu %s) is not passed on; a .safetensors output has it", pairs,
            pairs == 1 ? "pair" : "pairs");
}

/* The same of the keys of GGUF. */
static void note_keys(const source *in, int keeps)
{
    if (strcmp(qz_container(in->file), "gguf") == 0 && !keeps)
        say("note: the keys of the GGUF file (architecture, tokenizer) are not passed on; a .gguf output has them");
}

/* Says which types become bytes without a name. */
static void note_types(const source *in, int keeps)
{
    const char *found = NULL;
    for (size_t i = 0; i < in->count && !keeps; i++) {
        size_t tensor = in->items[i].tensor;
        const char *stored = in->items[i].packed ? NULL : qz_tensor_stored(in->file, tensor);
        if (stored && qz_tensor_at(in->file, tensor)->type_bytes == 1) /* NumPy has complex numbers */
            found = stored;
    }
    if (found)
        say("note: tensors of type %s are passed on as bytes; a .safetensors output keeps the type", found);
}

const char *target_layout(const settings *s, const source *in)
{
    return s->output.to ? s->output.to : is_folder(s, in) ? "own" : qz_layout_of_output(s->files[1]);
}

/* A layout that outputs can have. */
static int check_layout(const char *layout)
{
    const char *names[32], *name, *more = "";
    char list[300] = "", shown[NAME_TEXT];
    size_t n = 0;
    if (qz_layout_is_written(layout))
        return DONE;
    for (size_t i = 0; n < 32 && (name = qz_layout_at(i)) != NULL; i++) {
        if (qz_layout_is_written(name))
            names[n++] = name;
        else if (strcmp(name, layout) == 0)
            more = "the layout is only read; ";
    }
    for (size_t i = 0; i < n; i++)
        list_words(list, sizeof list, names[i], i + 1 == n);
    return fail(USAGE, "--to '%s': %sthe value must be %s%s", qz_escape(layout, strlen(layout), shown, sizeof shown),
                more, list, strcmp(layout, "onnx") == 0 ? "; the Python package writes ONNX (quantize.onnx)" : "");
}

int target_check_layout(const settings *s)
{
    char shown[NAME_TEXT], why[200];
    const char *path = s->files[1], *layout = s->output.to;
    int code = layout ? check_layout(layout) : DONE;
    const char *wrong = code == DONE && layout ? qz_layout_refuses_output(layout, path, why, sizeof why) : NULL;
    return wrong ? fail(USAGE, "%s: %s", qz_escape(path, strlen(path), shown, sizeof shown), wrong) : code;
}

void note_scheme(scheme_names *schemes, const char *name)
{
    size_t i = 0;
    while (i < schemes->count && strcmp(schemes->name[i], name) != 0)
        i++;
    if (i == schemes->count && i < sizeof schemes->name / sizeof schemes->name[0])
        schemes->name[schemes->count++] = name;
}

/* What config.json says of tensors in the library's own layout. */
static const char *describe(const scheme_names *schemes, char *out, size_t out_size)
{
    const int one = schemes->count == 1, eight = one && strcmp(schemes->name[0], "q8_0") == 0;
    snprintf(out, out_size, "{\"quant_method\": \"quantize\", \"bits\": %d, %s", eight ? 8 : 4,
             one ? "\"scheme\": " : "\"schemes\": [");
    for (size_t i = 0; i < schemes->count; i++)
        snprintf(out + strlen(out), out_size - strlen(out), "%s\"%s\"", i > 0 ? ", " : "", schemes->name[i]);
    snprintf(out + strlen(out), out_size - strlen(out), "%s}", one ? "" : "]");
    return out;
}

qz_create_options target_options(const settings *s, const qz_file *const *inputs, size_t count)
{
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    options.replace = s->output.force;
    options.no_fsync = s->output.no_fsync;
    options.metadata_from = inputs[0];
    options.inputs = inputs;
    options.input_count = count;
    return options;
}

int target_open(const settings *s, const source *in, qz_create_options *options, qz_writer **writer)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    if (is_folder(s, in))
        options->shard_bytes = s->output.max_shard_size != 0 ? s->output.max_shard_size : QZ_SHARD_BYTES;
    else if (s->output.max_shard_size != 0)
        return fail(USAGE, "--max-shard-size is for outputs that are folders; choose a name without the extension of a "
                           "file");
    if (qz_create(s->files[1], options, writer, &error) != QZ_FILE_OK)
        return fail_file(&error);
    const int keeps = is_kind(s, options, "safetensors");
    note_metadata(in, keeps);
    note_keys(in, is_kind(s, options, "gguf"));
    note_types(in, keeps);
    return DONE;
}

int target_copy_beside(const settings *s, const source *in, qz_writer *writer, const char *layout,
                       const scheme_names *schemes)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    char description[1024], note[800];
    if (!is_folder(s, in) || !is_from_folder(s, in))
        return DONE;
    const int own = schemes && schemes->count != 0 && strcmp(layout, "own") == 0;
    const char *said = own ? describe(schemes, description, sizeof description) : NULL;
    if (qz_copy_beside(writer, in->file, said, note, sizeof note, &error) != QZ_FILE_OK)
        return fail_file(&error);
    if (note[0] != '\0')
        say("note: %s", note);
    return DONE;
}
