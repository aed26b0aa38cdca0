/*
 * locate.c - finds the file of a folder that is the model
 *
 * It looks at names only, and opens no files.
 */
#include "locate.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "error.h"
#include "unread.h"

/* Kinds of files that a model can be, the first one that a folder has counts. `usual` is the name that the files of
 * models have, which is preferred to others. */
static const struct kind {
    const char *end, *usual;
} kinds[] = {
    {".safetensors.index.json", "model.safetensors.index.json"},
    {".safetensors", "model.safetensors"},
    {".gguf", NULL},
};
enum { INDEX, WHOLE, GGUF, KINDS };

typedef struct found {
    char *name; /* the usual one, or the first by name */
    size_t count;
    int usual;
    int later; /* there is a numbered file that is not the first */
} found;

int qz_numbered_name(const char *name, const char *end, unsigned *number, unsigned *of, size_t *stem)
{
    enum { NUMBERS = 15 }; /* -00002-of-00003 */
    size_t length = strlen(name), tail = strlen(end) + NUMBERS;
    if (length < tail || strcmp(name + length - strlen(end), end) != 0)
        return 0;
    const char *at = name + length - tail;
    int used = 0;
    if (strspn(at + 1, "0123456789") != 5 || strspn(at + 10, "0123456789") != 5 ||
        sscanf(at, "-%5u-of-%5u%n", number, of, &used) != 2 || used != NUMBERS)
        return 0;
    *stem = length - tail;
    return 1;
}

static int kind_of(const char *name)
{
    size_t length = strlen(name);
    int kind = 0;
    while (kind < KINDS &&
           (length <= strlen(kinds[kind].end) || strcmp(name + length - strlen(kinds[kind].end), kinds[kind].end) != 0))
        kind++;
    return name[0] == '.' ? KINDS : kind;
}

/* Notes a file of a folder. Returns 0 without memory. */
static int take(found *all, const char *name)
{
    unsigned number, of;
    size_t stem;
    int kind = kind_of(name);
    if (kind == KINDS)
        return 1;
    found *f = &all[kind];
    /* Of numbered files the first counts where it leads to the others; of those of an index none does. */
    int numbered = qz_numbered_name(name, kinds[kind].end, &number, &of, &stem);
    if (numbered && (kind == WHOLE || number != 1)) {
        f->later = 1;
        return 1;
    }
    f->count++;
    int usual = kinds[kind].usual && strcmp(name, kinds[kind].usual) == 0;
    if (f->name && !usual && (f->usual || strcmp(f->name, name) < 0))
        return 1;
    free(f->name);
    f->usual = usual;
    f->name = strdup(name);
    return f->name != NULL;
}

/* Whether a folder has a file that is a model. */
static int has_model(const char *path)
{
    int kind = KINDS;
    DIR *list = opendir(path);
    for (struct dirent *d; list && kind == KINDS && (d = readdir(list)) != NULL;)
        kind = kind_of(d->d_name);
    if (list)
        closedir(list);
    return kind != KINDS;
}

static char *join(const char *path, const char *name)
{
    size_t length = strlen(path), room = length + strlen(name) + 2;
    char *joined = malloc(room);
    if (joined)
        snprintf(joined, room, "%s%s%s", path, path[length - 1] == '/' ? "" : "/", name);
    return joined;
}

/* Folders of a folder that are models, and the first file in it that is known as unread. */
typedef struct folder_content {
    char **models;
    size_t count;
    char *unread;
} folder_content;

static void free_content(folder_content *c)
{
    for (size_t i = 0; i < c->count; i++)
        free(c->models[i]);
    free(c->models);
    free(c->unread);
    *c = (folder_content){NULL, 0, NULL};
}

static int by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* Returns 0 without memory. */
static int add_model(folder_content *c, const char *name)
{
    char **models = realloc(c->models, (c->count + 1) * sizeof *models);
    if (!models)
        return 0;
    c->models = models;
    c->models[c->count] = strdup(name);
    return c->models[c->count] && ++c->count;
}

/* Returns 0 if the folder cannot be listed, or without memory: with nothing in *c. */
static int list_content(const char *path, folder_content *c)
{
    DIR *list = opendir(path);
    int done = list != NULL;
    *c = (folder_content){NULL, 0, NULL};
    for (struct dirent *d; done && (d = readdir(list)) != NULL;) {
        char *inner = d->d_name[0] != '.' ? join(path, d->d_name) : NULL;
        done = inner || d->d_name[0] == '.';
        if (inner && has_model(inner)) {
            done = add_model(c, d->d_name);
        } else if (inner && qz_unread_kind((const uint8_t *)"", 0, d->d_name) &&
                   (!c->unread || strcmp(d->d_name, c->unread) < 0)) {
            free(c->unread);
            c->unread = strdup(d->d_name);
        }
        free(inner);
    }
    if (list)
        closedir(list);
    if (!done)
        free_content(c);
    else if (c->count > 1)
        qsort(c->models, c->count, sizeof *c->models, by_name);
    return done;
}

char *qz_models_in(const char *folder, size_t *count)
{
    folder_content c;
    char *names = NULL, *at;
    size_t room = 0;
    *count = list_content(folder, &c) ? c.count : 0;
    for (size_t i = 0; i < c.count; i++)
        room += strlen(c.models[i]) + 1;
    at = names = room != 0 ? malloc(room) : NULL;
    for (size_t i = 0; at && i < c.count; i++, at += strlen(at) + 1)
        strcpy(at, c.models[i]);
    free_content(&c);
    if (!names)
        *count = 0;
    return names;
}

/* A folder may be several models, each in a folder of its own, as those of diffusers; or a model of a kind that is not
 * read. */
static qz_file_result no_model(const char *path, const char *label, qz_file_error *error)
{
    static const char is_without[] = "is a folder without a model.safetensors.index.json, .safetensors or .gguf file";
    char names[400] = "", shown[64];
    folder_content c;
    (void)list_content(path, &c);
    for (size_t i = 0, used = 0; i < c.count && used + sizeof shown + 8 < sizeof names; i++) {
        int room_left = used + 2 * sizeof shown + 8 < sizeof names || i + 1 == c.count;
        const char *name = room_left ? qz_escape(c.models[i], strlen(c.models[i]), shown, sizeof shown) : "...";
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i == 0 ? "" : ", ", name);
    }
    if (c.unread)
        qz_escape(c.unread, strlen(c.unread), shown, sizeof shown);
    qz_file_result result =
        c.count == 0 && c.unread
            ? qz_fail(error, QZ_FILE_FORMAT, label, NULL, QZ_NO_OFFSET, "%s; %s in it is %s", is_without, shown,
                      qz_unread_kind((const uint8_t *)"", 0, c.unread))
            : qz_fail(error, QZ_FILE_FORMAT, label, NULL, QZ_NO_OFFSET, "%s; name a file%s%s", is_without,
                      c.count != 0 ? ", or a folder in it that is a model: " : "", names);
    free_content(&c);
    return result;
}

static qz_file_result choose(const found *all, const char *path, const char *label, const char **name,
                             qz_file_error *error)
{
    int kind = 0;
    while (kind < KINDS && all[kind].count == 0)
        kind++;
    if (kind == KINDS && (all[WHOLE].later || all[GGUF].later))
        return qz_fail(error, QZ_FILE_FORMAT, label, NULL, QZ_NO_OFFSET,
                       "is a folder with parts of a model, but without %s; the model is not complete",
                       all[WHOLE].later ? "a .safetensors.index.json that lists them" : "the first of them");
    if (kind == KINDS)
        return no_model(path, label, error);
    if (all[kind].count > 1 && !all[kind].usual)
        return qz_fail(error, QZ_FILE_FORMAT, label, NULL, QZ_NO_OFFSET,
                       "is a folder with %zu %s files, of which any could be meant; name one", all[kind].count,
                       kinds[kind].end);
    if (kind == INDEX && all[WHOLE].usual && all[INDEX].usual)
        return qz_fail(error, QZ_FILE_FORMAT, label, NULL, QZ_NO_OFFSET,
                       "is a folder with both %s and %s, of which either could be meant; name one", kinds[INDEX].usual,
                       kinds[WHOLE].usual);
    *name = all[kind].name;
    return QZ_FILE_OK;
}

static qz_file_result look_through(DIR *list, const char *path, const char *label, char **file, qz_file_error *error)
{
    found all[KINDS] = {{0}};
    const char *name = NULL;
    qz_file_result result = QZ_FILE_OK;
    errno = 0;
    for (struct dirent *d; result == QZ_FILE_OK && (d = readdir(list)) != NULL; errno = 0)
        if (!take(all, d->d_name))
            result = qz_fail_memory(error, label);
    if (result == QZ_FILE_OK && errno != 0)
        result = qz_fail_errno(error, label, "list the folder");
    if (result == QZ_FILE_OK)
        result = choose(all, path, label, &name, error);
    if (result == QZ_FILE_OK) {
        *file = join(path, name);
        if (!*file)
            result = qz_fail_memory(error, label);
    }
    for (int i = 0; i < KINDS; i++)
        free(all[i].name);
    return result;
}

qz_file_result qz_locate(const char *path, char **file, qz_file_error *error)
{
    struct stat status;
    char label[200];
    *file = NULL;
    qz_escape(path, strlen(path), label, sizeof label);
    if (stat(path, &status) != 0)
        return qz_fail_errno(error, label, "open");
    if (!S_ISDIR(status.st_mode))
        return QZ_FILE_OK;
    DIR *list = opendir(path);
    if (!list)
        return qz_fail_errno(error, label, "list the folder");
    qz_file_result result = look_through(list, path, label, file, error);
    closedir(list);
    return result;
}
