/*
 * beside.c - copies the files beside a model into an output folder
 *
 * It knows which files and folders are copied and which are left out, and nothing about tensors. The only file that it
 * changes is config.json (config_json.c).
 */
#include "quantize_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_json.h"
#include "descriptor.h"
#include "error.h"
#include "input.h"
#include "inside.h"
#include "layout.h"
#include "layouts/config.h"
#include "layouts/unquantized.h"
#include "output_folder.h"
#include "temporary.h"
#include "tensors.h"
#include "writer.h"

enum { PIECE = 1 << 20, LONGEST_CONFIG = 1 << 20, DEEPEST = 8 };

/* Ends of names that are not copied, and what they are. */
static const struct left_out {
    const char *end, *what;
} left_out[] = {
    {".safetensors", "other weights"},
    {".safetensors.index.json", "other weights"},
    {".gguf", "other weights"},
    {".bin", "can run code"},
    {".pt", "can run code"},
    {".pth", "can run code"},
    {".ckpt", "can run code"},
    {".pkl", "can run code"},
    {".pickle", "can run code"},
    {"quantize-manifest.json", "sums of other files"},
    {"quantize-report.html", "tells of other files"},
};

/* Files that speak of the layout that quantized tensors had before these were put into another one. */
static const char *const of_layouts[] = {"quantize_config.json", "quant_config.json", "hf_quant_config.json"};

typedef struct copying {
    qz_writer *writer;
    const qz_file *model;
    const char *quantization;
    int relaid;         /* quantized tensors, whosever they were, are in another layout */
    int folder;         /* that of the model, or one in it */
    const char *inside; /* what names in that folder begin with in the output: "" or "sub/folder/" */
    unsigned depth;
    size_t copied; /* files */
    char *note;
    size_t note_size;
    size_t more, noted; /* what the note has no room for; where it is counted */
} copying;

/* The path in the model, and in the output, of what is called `name` in the folder: to be freed, NULL without memory. */
static char *path_of(const copying *c, const char *name, const char *end)
{
    size_t room = strlen(c->inside) + strlen(name) + strlen(end) + 1;
    char *path = malloc(room);
    if (path)
        snprintf(path, room, "%s%s%s", c->inside, name, end);
    return path;
}

/* Adds to the note. What does not fit is counted; there is always room for the count. */
static void remark(copying *c, const char *name, const char *what)
{
    enum { MORE = 48 }; /* characters of the count */
    char shown[QZ_NAME_TEXT];
    size_t used = strlen(c->note), room = c->note_size > used + MORE ? c->note_size - used - MORE : 0;
    qz_escape(name, strlen(name), shown, sizeof shown);
    if (c->more == 0) {
        int length = snprintf(c->note + used, room, "%s%s %s", used != 0 ? "; " : "", shown, what);
        if (length >= 0 && (size_t)length < room)
            return;
        c->note[used] = '\0';
        c->noted = used;
    }
    snprintf(c->note + c->noted, c->note_size - c->noted, "%s%zu %sthat are left out or as they are",
             c->noted != 0 ? "; " : "", ++c->more, c->noted != 0 ? "more " : "");
}

static const char *why_left_out(const copying *c, const char *name)
{
    for (size_t i = 0; i < sizeof of_layouts / sizeof of_layouts[0] && c->relaid; i++)
        if (strcmp(name, of_layouts[i]) == 0)
            return "of the layout before";
    for (size_t i = 0; i < sizeof left_out / sizeof left_out[0]; i++) {
        size_t length = strlen(name), end = strlen(left_out[i].end);
        if (length >= end && strcmp(name + length - end, left_out[i].end) == 0)
            return left_out[i].what;
    }
    return NULL;
}

/* Whether the file is one of the model's own. */
static int is_model(const qz_file *model, const char *name)
{
    const char *path;
    for (size_t i = 0; (path = qz_file_path(model, i)) != NULL; i++) {
        const char *slash = i == 0 ? strrchr(path, '/') : NULL;
        if (strcmp(slash ? slash + 1 : path, name) == 0)
            return 1;
    }
    return 0;
}

static qz_file_result copy_bytes(copying *c, const qz_input *input, const char *name, qz_file_error *error)
{
    qz_output *output = &c->writer->output;
    char *piece = malloc(PIECE);
    if (!piece)
        return qz_fail_memory(error, input->label);
    qz_file_result result = qz_output_folder_file(output, name, 1, error);
    for (uint64_t at = 0; at < input->size && result == QZ_FILE_OK;) {
        size_t n = input->size - at < PIECE ? (size_t)(input->size - at) : PIECE;
        result = qz_input_read(input, at, piece, n, error);
        if (result == QZ_FILE_OK && !qz_pwrite_all(output->fd, piece, n, at))
            result = qz_fail_errno(error, output->label, "write");
        at += n;
    }
    free(piece);
    return result == QZ_FILE_OK ? qz_output_folder_end_file(output, error) : result;
}

/* The members of config.json: MLX's programs want a second one, of the same value. */
static const char *change_members(const copying *c, const char *text, size_t length, char **changed, size_t *bytes)
{
    const int whose = c->relaid ? QZ_CONFIG_ANY : QZ_CONFIG_OURS;
    const char *second = strcmp(c->writer->layout, "mlx") == 0 ? c->quantization : NULL, *wrong;
    char *once = NULL;
    if (!c->relaid)
        return qz_config_change(text, length, "quantization_config", c->quantization, whose, changed, bytes);
    wrong = qz_config_change(text, length, "quantization_config", c->quantization, whose, &once, bytes);
    if (!wrong && once)
        wrong = qz_config_change(once, *bytes, "quantization", second, whose, changed, bytes);
    free(once);
    return wrong;
}

static qz_file_result copy_config(copying *c, const qz_input *input, const char *name, qz_file_error *error)
{
    const char *wrong = "is longer than 1 MiB";
    char *text = NULL, *changed = NULL;
    size_t bytes = 0, length = (size_t)input->size;
    qz_file_result result = QZ_FILE_OK;
    if (input->size <= LONGEST_CONFIG) {
        text = malloc(length + 1);
        if (!text)
            return qz_fail_memory(error, input->label);
        result = qz_input_read(input, 0, text, length, error);
        wrong = result == QZ_FILE_OK ? change_members(c, text, length, &changed, &bytes) : NULL;
    }
    if (result == QZ_FILE_OK && wrong) {
        char what[160];
        snprintf(what, sizeof what, "%s and is copied as it is", wrong);
        remark(c, name, what);
        result = copy_bytes(c, input, name, error);
    } else if (result == QZ_FILE_OK) {
        result = changed ? qz_output_folder_write(&c->writer->output, name, changed, bytes, error)
                         : qz_fail_memory(error, input->label);
    }
    free(changed);
    free(text);
    return result;
}

static qz_file_result copy_file(copying *c, const char *name, const char *path, qz_file_error *error)
{
    qz_input input;
    qz_file_result result = qz_input_open_inside(&input, c->folder, name, path, error);
    if (result != QZ_FILE_OK)
        return result;
    result =
        strcmp(path, "config.json") == 0 ? copy_config(c, &input, path, error) : copy_bytes(c, &input, path, error);
    if (result == QZ_FILE_OK)
        result = qz_input_unchanged(&input, error);
    qz_input_close(&input);
    c->copied++;
    return result;
}

/* What the system refuses, of which a link to nothing is no error. */
static qz_file_result cannot_look(const char *name, const char **why, qz_file_error *error)
{
    char shown[QZ_NAME_TEXT];
    *why = "cannot be read";
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
        return QZ_FILE_OK;
    return qz_fail_errno(error, qz_escape(name, strlen(name), shown, sizeof shown), "look at the file");
}

/* Why what is of that name is not copied, whatever the name is: *why is NULL if it is. */
static qz_file_result look_at(const copying *c, const char *name, const char **why, qz_file_error *error)
{
    qz_inside place;
    struct stat status;
    *why = qz_inside_find(c->folder, name, &place);
    if (*why) {
        int refused = *(*why) == '\0';
        *why = "a link that leads out of the folder";
        return refused ? cannot_look(name, why, error) : QZ_FILE_OK;
    }
    qz_file_result result = QZ_FILE_OK;
    if (qz_inside_status(&place, &status) != 0)
        result = cannot_look(name, why, error);
    else if (!S_ISREG(status.st_mode))
        *why = S_ISDIR(status.st_mode) ? "a link to a folder" : "no regular file";
    qz_inside_free(&place);
    return result;
}

static qz_file_result copy_all(copying *c, const char *path, qz_file_error *error);

/* A folder in the model's, that is no link. It is made when there is something to put into it. */
static qz_file_result copy_folder(copying *c, const char *where, const char *name, const char *path,
                                  qz_file_error *error)
{
    const size_t before = c->copied;
    const copying outer = *c;
    if (name[0] == '.' || c->depth == DEEPEST) {
        remark(c, path, name[0] == '.' ? "is left out (a hidden folder)" : "is left out (a folder too deep)");
        return QZ_FILE_OK;
    }
    char *inside = path_of(c, name, "/"), *whole = path_of(&(copying){.inside = where}, name, "/");
    c->folder = qz_above_standard(openat(c->folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    c->inside = inside;
    c->depth++;
    qz_file_result result = c->folder < 0       ? qz_fail_errno(error, c->model->input.label, "open a folder in it")
                            : !inside || !whole ? qz_fail_memory(error, c->model->input.label)
                                                : copy_all(c, whole, error);
    if (result == QZ_FILE_OK && c->copied != before)
        result = qz_output_folder_end_folder(&c->writer->output, inside, error);
    if (c->folder >= 0)
        close(c->folder);
    c->folder = outer.folder;
    c->inside = outer.inside;
    c->depth = outer.depth;
    free(inside);
    free(whole);
    return result;
}

static qz_file_result take_path(copying *c, const char *where, const char *name, const char *path, qz_file_error *error)
{
    const char *why;
    char what[64];
    struct stat status;
    if (fstatat(c->folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode))
        return copy_folder(c, where, name, path, error);
    qz_file_result result = look_at(c, name, &why, error);
    if (result != QZ_FILE_OK)
        return result;
    why = why ? why : why_left_out(c, name);
    if (!why)
        return copy_file(c, name, path, error);
    snprintf(what, sizeof what, "is left out (%s)", why);
    remark(c, path, what);
    return QZ_FILE_OK;
}

static qz_file_result take(copying *c, const char *where, const char *name, qz_file_error *error)
{
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || qz_temporary_is(name) ||
        (c->depth == 0 && is_model(c->model, name)))
        return QZ_FILE_OK;
    char *path = path_of(c, name, "");
    qz_file_result result =
        path ? take_path(c, where, name, path, error) : qz_fail_memory(error, c->model->input.label);
    free(path);
    return result;
}

/* A list without names that are compared as a language has it: notes are the same everywhere. */
static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* The folder that is open as c->folder is listed by its path: names that another folder has by then are not there. */
static qz_file_result copy_all(copying *c, const char *path, qz_file_error *error)
{
    struct dirent **names;
    int count = scandir(path, &names, NULL, by_bytes);
    if (count < 0)
        return qz_fail_errno(error, c->model->input.label, "list the folder");
    qz_file_result result = QZ_FILE_OK;
    for (int i = 0; i < count; i++) {
        if (result == QZ_FILE_OK)
            result = take(c, path, names[i]->d_name, error);
        free(names[i]);
    }
    free(names);
    return result;
}

/* Whether there are quantized tensors, in a layout that was asked for. */
static int has_layout(const qz_writer *writer)
{
    int found = 0;
    for (size_t i = 0; i < writer->count && writer->layout[0] != '\0'; i++)
        found |= writer->slots[i].layout != NULL;
    return found;
}

/* Whether the output has a tensor of the model, with the same elements. */
static int has_tensor(const qz_writer *writer, const qz_tensor *t)
{
    const size_t i = qz_names_find(&writer->names, t->name, t->name_length);
    return i < writer->count && writer->slots[i].tensor.element == t->element;
}

/* Whether quantized tensors of the model lie as another program keeps them, and none do in the output, but in a layout
 * that was asked for. */
static int is_relaid(const qz_writer *writer, const qz_file *model)
{
    int found = 0;
    if (has_layout(writer))
        return 1;
    for (size_t i = 0; i < model->packed.count; i++) {
        const qz_packed_entry *entry = &model->packed.entries[i];
        if (entry->layout == &qz_layout_own || entry->layout == &qz_layout_gguf)
            continue;
        if (has_tensor(writer, &model->entries[entry->members[QZ_MEMBER_HEADER]].tensor))
            return 0;
        found = 1;
    }
    for (size_t i = 0; i < model->count; i++)
        if (model->entries[i].decode && model->entries[i].coded == 0)
            found |= has_tensor(writer, &model->entries[i].tensor);
    return found;
}

qz_file_result qz_copy_beside(qz_writer *writer, const qz_file *model, const char *quantization, char *note,
                              size_t note_size, qz_file_error *error)
{
    char nothing[1];
    qz_file_result result = qz_say_unquantized(writer, error);
    if (result != QZ_FILE_OK)
        return result;
    if (model->config && model->config->unread) /* what it says of tensors of other programs must go, or stay */
        return qz_fail(error, QZ_FILE_IO, model->input.label, NULL, QZ_NO_OFFSET,
                       "%s beside it could not be read when it was opened", model->config->where);
    copying c = {.writer = writer,
                 .model = model,
                 .quantization = quantization ? quantization : writer->said.text,
                 .relaid = is_relaid(writer, model),
                 .folder = -1,
                 .inside = "",
                 .note = note ? note : nothing,
                 .note_size = note ? note_size : 1};
    c.note[0] = '\0';
    if (writer->output.files < 0)
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, NULL, QZ_NO_OFFSET, "is no folder");
    const char *path = qz_file_path(model, 0), *slash = strrchr(path, '/');
    char *folder = !slash ? strdup("./") : strndup(path, (size_t)(slash + 1 - path));
    if (!folder)
        return qz_fail_memory(error, writer->output.label);
    writer->shards.open = SIZE_MAX; /* another file is open from here on */
    c.folder = qz_above_standard(open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct stat status;
    result = c.folder >= 0 ? copy_all(&c, folder, error) : qz_fail_errno(error, model->input.label, "open the folder");
    if (result == QZ_FILE_OK && writer->said.text && fstatat(c.folder, "config.json", &status, 0) != 0)
        remark(&c, "config.json",
               "is missing, and programs look there for the quantization_config that is in the "
               "metadata of the .safetensors files");
    if (c.folder >= 0)
        close(c.folder);
    free(folder);
    return result;
}
