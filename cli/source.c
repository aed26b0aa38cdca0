/*
 * source.c - an input file as one list of tensors, quantized or not
 */
#include "source.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "output.h"

static qz_open_options options_of(const settings *s)
{
    qz_open_options options = QZ_OPEN_OPTIONS_INIT;
    if (s->limits.max_header != 0)
        options.max_header = s->limits.max_header;
    if (s->limits.max_ratio != 0)
        options.max_ratio = s->limits.max_ratio;
    if (s->limits.max_bytes != 0)
        options.max_bytes = s->limits.max_bytes;
    if (s->limits.max_table != 0)
        options.max_table = s->limits.max_table;
    options.void2_bfloat16 = s->limits.void2_bfloat16;
    options.allow_trailing = s->limits.allow_trailing;
    options.alone = s->limits.alone;
    return options;
}

/* Makes the list of an open file. */
static int list_items(source *out)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    if (qz_packed_check(out->file, &error) != QZ_FILE_OK)
        return fail_file(&error);
    size_t n = qz_tensor_count(out->file);
    out->items = calloc(n + 1, sizeof *out->items);
    if (!out->items)
        return fail_memory();
    for (size_t i = 0, packed = 0; i < n; i++) {
        const qz_tensor *t = qz_tensor_at(out->file, i);
        qz_part part = qz_packed_part(out->file, i);
        item *next = &out->items[out->count];
        *next = (item){t->name, t->name_length, i, part == QZ_PART_HEADER};
        if (next->packed)
            next->name = qz_packed_name_at(out->file, packed++, &next->name_length);
        out->count += part != QZ_PART_DATA;
    }
    return DONE;
}

/* A part of a command line, in quotes where a shell would read something else; `inner` is in that folder. */
static void add_word(char *text, size_t size, const char *word, const char *inner)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%+,-./:=@_";
    char shown[NAME_TEXT], shown_inner[NAME_TEXT];
    const size_t used = strlen(text), length = strlen(word);
    const int quoted = length == 0 || strspn(word, plain) != length || strspn(inner, plain) != strlen(inner);
    qz_escape(word, length, shown, sizeof shown);
    qz_escape(inner, strlen(inner), shown_inner, sizeof shown_inner);
    snprintf(text + used, size - used, " %s%s%s%s%s", quoted ? "'" : "", shown,
             inner[0] != '\0' && length != 0 && word[length - 1] != '/' ? "/" : "", shown_inner, quoted ? "'" : "");
}

/* Where a folder holds several models: the commands for them, one for each. */
static void say_models(const settings *s, const char *path)
{
    size_t count;
    const char *out = s->files[1], *folder = out && strcmp(s->command, "compare") != 0 ? out : NULL;
    if (path != s->files[0] || (out && qz_layout_of_output(out)))
        return;
    char *names = qz_models_in(path, &count), text[1000] = "mkdir -p";
    const char *name = names;
    if (names)
        say("note: its models, one at a time%s:", folder ? "; what else is in the folder is to be copied" : "");
    if (names && folder) {
        add_word(text, sizeof text, folder, "");
        say("note: %s", text);
    }
    for (size_t i = 0; i < count; i++, name += strlen(name) + 1) {
        snprintf(text, sizeof text, "quantize %s", s->command);
        for (char **word = s->arguments; *word; word++) {
            int is_path = *word == s->files[0] || *word == s->files[1];
            add_word(text, sizeof text, *word, is_path ? name : "");
        }
        say("note: %s", text);
    }
    free(names);
}

int source_open_quietly(const settings *s, const char *path, source *out)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    const qz_open_options options = options_of(s);
    *out = (source){0};
    qz_file_result result = qz_open(path, &options, &out->file, &error);
    if (result == QZ_FILE_IO && strcmp(path, "-") == 0)
        return fail(USAGE, "-: there is no file of this name, and files are read in any order, which a pipe does not "
                           "allow; a file that is redirected is /dev/stdin");
    if (result != QZ_FILE_OK) {
        int code = fail_file(&error);
        if (result == QZ_FILE_FORMAT)
            say_models(s, path);
        return code;
    }
    int code = list_items(out);
    if (code != DONE)
        source_close(out);
    return code;
}

int source_open(const settings *s, const char *path, source *out)
{
    int code = source_open_quietly(s, path, out);
    if (code == DONE)
        source_note(out, NULL, NULL);
    return code;
}

/* Adds a type to a list of those that are decoded, once. */
static void list_type(char *list, size_t room, const char *name)
{
    const size_t used = strlen(list);
    if (strstr(list, name)) /* no name of these types is a part of another one */
        return;
    snprintf(list + used, room - used, "%s%s", used == 0 ? "" : ", ", name);
}

void source_note(const source *s, keeps_test keeps, const void *of)
{
    static const char decoded[] = "decoded to float32: ";
    const char *note = qz_note(s->file);
    char list[200] = "";
    if (note && (strcmp(qz_container(s->file), "gguf") != 0 || strncmp(note, decoded, sizeof decoded - 1) != 0)) {
        say("note: %s", note);
        return;
    }
    for (size_t i = 0; note && i < s->count; i++) {
        const char *type = qz_stored_as(s->file, s->items[i].tensor);
        if (type && !(keeps && keeps(of, i)))
            list_type(list, sizeof list, type);
    }
    if (list[0] != '\0')
        say("note: %s%s", decoded, list);
}

int source_open_written(const settings *s, qz_writer *writer, source *out)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    const qz_open_options options = options_of(s);
    *out = (source){0};
    if (qz_open_written(writer, &options, &out->file, &error) != QZ_FILE_OK)
        return fail_file(&error);
    int code = list_items(out);
    if (code != DONE)
        source_close(out);
    return code;
}

void source_close(source *s)
{
    free(s->items);
    qz_close(s->file);
    *s = (source){0};
}

/* Items are in the order of their tensors. */
static const item *item_of(const source *s, size_t tensor, int packed)
{
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->items[middle].tensor < tensor)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->count && s->items[low].tensor == tensor && s->items[low].packed == packed ? &s->items[low] : NULL;
}

void source_paths(const source *s)
{
    const char *path;
    json_begin("inputs", '[');
    for (size_t i = 0; (path = qz_file_path(s->file, i)) != NULL; i++)
        json_name(NULL, path, strlen(path));
    json_end();
}

const item *source_find(const source *s, const char *name, size_t length)
{
    const item *found = item_of(s, qz_tensor_find(s->file, name, length), 0);
    return found ? found : item_of(s, qz_packed_place_at(s->file, qz_packed_index(s->file, name, length)), 1);
}

int source_tensor(const source *s, const item *i, qz_tensor *tensor, qz_packed_tensor *packed)
{
    *tensor = *qz_tensor_at(s->file, i->tensor);
    if (i->packed) {
        qz_file_error error = QZ_FILE_ERROR_INIT;
        packed->size = sizeof *packed;
        if (qz_packed_find(s->file, i->name, i->name_length, packed, &error) != QZ_FILE_OK)
            return fail_file(&error);
        uint64_t count = packed->rows * packed->cols;
        *tensor = (qz_tensor){.element = QZ_ELEMENT_F32,
                              .rank = packed->rank,
                              .shape = packed->shape,
                              .count = count,
                              .bytes = packed->bytes};
    }
    if (!i->packed)
        tensor->bytes = qz_tensor_bytes(s->file, i->tensor);
    tensor->name = i->name;
    tensor->name_length = i->name_length;
    return DONE;
}

uint64_t item_count(const qz_tensor *tensor)
{
    return tensor->element == QZ_ELEMENT_RAW ? tensor->bytes / tensor->type_bytes : tensor->count;
}

const char *type_text(const qz_tensor *tensor, char *out, size_t out_size)
{
    if (tensor->element != QZ_ELEMENT_RAW)
        return qz_element_name(tensor->element);
    return qz_escape(tensor->type, strlen(tensor->type), out, out_size);
}

int is_float(qz_element element)
{
    return element == QZ_ELEMENT_F32 || element == QZ_ELEMENT_F64 || element == QZ_ELEMENT_F16 ||
           element == QZ_ELEMENT_BF16;
}

/* ---- rules by name ---- */

static int lack_memory; /* there was none to look at some name, which then passed no test */

void names_lack_memory(void)
{
    lack_memory = 1;
}

int names_were_seen(void)
{
    return lack_memory ? fail_memory() : DONE;
}

int item_passes(const item *i, name_test test, const void *context)
{
    char small[256];
    char *name = i->name_length < sizeof small ? small : malloc(i->name_length + 1);
    if (!name) {
        names_lack_memory();
        return 0;
    }
    memcpy(name, i->name, i->name_length);
    name[i->name_length] = '\0';
    int yes = test(context, name);
    if (name != small)
        free(name);
    return yes;
}

int glob_matches(const char *glob, const char *name)
{
    const int code = fnmatch(glob, name, 0);
    if (code != 0 && code != FNM_NOMATCH)
        names_lack_memory();
    return code == 0;
}

/* A test of item_passes(). */
static int has_glob(const void *context, const char *name)
{
    return glob_matches(context, name);
}

static int matches(const char *glob, const item *i)
{
    return item_passes(i, has_glob, glob);
}

static int matches_any(const text_list *globs, const item *i)
{
    for (size_t g = 0; g < globs->count; g++)
        if (matches(globs->items[g], i))
            return 1;
    return 0;
}

int is_included(const settings *s, const item *i)
{
    return matches_any(&s->which.include, i);
}

int is_selected(const settings *s, const item *i)
{
    return (s->which.include.count == 0 || is_included(s, i)) && !matches_any(&s->which.exclude, i);
}

int check_rules(const settings *s, const source *in)
{
    const text_list *lists[] = {&s->which.include, &s->which.exclude};
    static const char *const names[] = {"--include", "--exclude"};
    for (size_t l = 0; l < 2; l++)
        for (size_t g = 0; g < lists[l]->count; g++) {
            size_t i = 0;
            while (i < in->count && !matches(lists[l]->items[g], &in->items[i]))
                i++;
            if (i == in->count) {
                char shown[NAME_TEXT];
                if (names_were_seen() != DONE)
                    return LIMIT;
                qz_escape(lists[l]->items[g], strlen(lists[l]->items[g]), shown, sizeof shown);
                return fail(USAGE, "%s '%s': no tensor has such a name; 'quantize info' lists the names", names[l],
                            shown);
            }
        }
    return DONE;
}

/* ---- pieces ---- */

int for_each_piece(const source *in, size_t tensor, piece_work work, void *context)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    const qz_tensor *t = qz_tensor_at(in->file, tensor);
    uint64_t step = PIECE_BYTES / qz_element_size(t->element);
    void *data = malloc(PIECE_BYTES);
    if (!data)
        return fail_memory();
    int code = DONE;
    for (uint64_t first = 0; first < t->count && code == DONE; first += step) {
        uint64_t count = t->count - first < step ? t->count - first : step;
        if (stop_requested())
            code = 128 + stop_requested();
        else if (qz_read(in->file, tensor, first, count, data, &error) != QZ_FILE_OK)
            code = fail_file(&error);
        else if (work)
            code = work(context, first, count, data);
    }
    free(data);
    return code;
}

typedef struct copier {
    qz_writer *writer;
    size_t index;
} copier;

static int copy_piece(void *context, uint64_t first, uint64_t count, const void *data)
{
    const copier *c = context;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    progress_add(count);
    return qz_write(c->writer, c->index, first, count, data, &error) == QZ_FILE_OK ? DONE : fail_file(&error);
}

int copy_tensor(const source *in, size_t tensor, qz_writer *writer, size_t index)
{
    copier c = {writer, index};
    return for_each_piece(in, tensor, copy_piece, &c);
}

int copy_stored(const source *in, size_t tensor, qz_writer *writer, size_t index)
{
    enum { RUN = 1 << 20 }; /* values */
    qz_file_error error = QZ_FILE_ERROR_INIT;
    const uint64_t all = qz_tensor_at(in->file, tensor)->count;
    for (uint64_t at = 0; at < all; at += RUN) {
        const uint64_t n = all - at < RUN ? all - at : RUN;
        if (stop_requested())
            return 128 + stop_requested();
        if (qz_stored_copy(in->file, tensor, writer, index, at, n, &error) != QZ_FILE_OK)
            return fail_file(&error);
        progress_add(n);
    }
    return DONE;
}
