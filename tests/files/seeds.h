/*
 * seeds.h - the good files of tests/fuzz/seeds, of every container and layout
 */
#ifndef SEEDS_H
#define SEEDS_H

#include "support.h"

#include "try_file.h"

enum { SEEDS = 200 };

static const char *place; /* the folder in which files are made */

typedef struct seed {
    char group[40], name[60];
    bytes whole;
} seed;

static const char seeds_folder[] = "tests/fuzz/seeds";
static seed seeds[SEEDS];
static size_t seed_count;

static inline int by_name(const void *a, const void *b)
{
    const seed *s = a, *t = b;
    int order = strcmp(s->group, t->group);
    return order != 0 ? order : strcmp(s->name, t->name);
}

static inline void take_group(const char *group)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", seeds_folder, group);
    DIR *list = opendir(path);
    assert_non_null(list);
    for (struct dirent *found; (found = readdir(list)) != NULL;) {
        if (found->d_name[0] == '.')
            continue;
        assert_true(seed_count < SEEDS && strlen(group) < 40 && strlen(found->d_name) < 60);
        seed *s = &seeds[seed_count++];
        snprintf(s->group, sizeof s->group, "%s", group);
        snprintf(s->name, sizeof s->name, "%.59s", found->d_name);
        snprintf(path, sizeof path, "%s/%s/%s", seeds_folder, group, s->name);
        s->whole = get_file(path);
    }
    closedir(list);
}

static inline int take_seeds(void **state)
{
    (void)state;
    place = make_place();
    DIR *list = opendir(seeds_folder);
    if (!list)
        return -1;
    for (struct dirent *found; (found = readdir(list)) != NULL;)
        if (found->d_name[0] != '.')
            take_group(found->d_name);
    closedir(list);
    qsort(seeds, seed_count, sizeof seeds[0], by_name);
    return 0;
}

static inline int drop_seeds(void **state)
{
    (void)state;
    for (size_t i = 0; i < seed_count; i++)
        clear(&seeds[i].whole);
    return rmdir(place);
}

/* The file, or the files of the folder, of a seed; at most FILES_OF_A_BUNDLE. */
static inline size_t files_of(const seed *s, bundled files[FILES_OF_A_BUNDLE])
{
    if (is_bundle(s->whole.data, s->whole.n))
        return unbundle(s->whole.data, s->whole.n, files);
    snprintf(files[0].name, sizeof files[0].name, "one");
    files[0].data = s->whole.data;
    files[0].n = s->whole.n;
    return 1;
}

static inline void put_piece(const char *name, const uint8_t *data, size_t n)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", place, name);
    put_bytes(path, data, n);
}

static inline void put_all(const bundled *files, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put_piece(files[i].name, files[i].data, files[i].n);
}

static inline void remove_files(const bundled *files, size_t count)
{
    char path[600];
    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", place, files[i].name);
        unlink(path);
    }
}

/* Where the file or the folder of a seed is, once it was put there. */
static inline const char *path_of_seed(const seed *s, char path[600])
{
    snprintf(path, 600, "%s%s", place, is_bundle(s->whole.data, s->whole.n) ? "" : "/one");
    return path;
}

#endif
