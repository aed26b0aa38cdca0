/*
 * source.h - an input file as one list of tensors, quantized or not
 */
#ifndef QZ_CLI_SOURCE_H
#define QZ_CLI_SOURCE_H

#include "args.h"

typedef struct item {
    const char *name;
    size_t name_length;
    size_t tensor; /* index of the tensor, or of the header of the quantized one */
    int packed;
} item;

typedef struct source {
    qz_file *file;
    item *items;
    size_t count;
} source;

int source_open(const settings *s, const char *path, source *out);
/* The same, but what there is to note of it is said by source_note(), once it is known which tensors keep the codes
 * that they are decoded from: `keeps` says it of the item i. */
typedef int (*keeps_test)(const void *of, size_t i);
int source_open_quietly(const settings *s, const char *path, source *out);
void source_note(const source *s, keeps_test keeps, const void *of);
/* The output itself, complete but without its name. */
int source_open_written(const settings *s, qz_writer *writer, source *out);
void source_close(source *s);
/* The paths of its files: the member "inputs" of JSON. */
void source_paths(const source *s);
/* The item of that name; NULL if there is none. */
const item *source_find(const source *s, const char *name, size_t length);
/* The shape and so on of an item, and its bytes as it lies in the file: *packed is filled if it is quantized to four
 * bits. The result's name is the item's. */
int source_tensor(const source *s, const item *i, qz_tensor *tensor, qz_packed_tensor *packed);
int is_float(qz_element element);
/* Elements, or items of a type that is none of the library's. */
uint64_t item_count(const qz_tensor *tensor);
/* "float32", or <U3 for such a type; it may be in `out` (TYPE_TEXT characters). */
const char *type_text(const qz_tensor *tensor, char *out, size_t out_size);
#define TYPE_TEXT 128
/* Whether the rules by name (--include, --exclude) select it. */
int is_selected(const settings *s, const item *i);
int is_included(const settings *s, const item *i);
/* Whether the name of an item passes a test, which gets it with a NUL behind it. */
typedef int (*name_test)(const void *context, const char *name);
int item_passes(const item *i, name_test test, const void *context);
int glob_matches(const char *glob, const char *name);
/* A test that has no memory for its work calls the first and returns 0. What the tests decide counts when the second has
 * returned DONE. */
void names_lack_memory(void);
int names_were_seen(void);
/* Every --include and --exclude must match something: a typing error is reported. */
int check_rules(const settings *s, const source *in);
/* Works on `count` elements of a tensor from `first` on, which are in `data`. Returns DONE to go on. */
typedef int (*piece_work)(void *context, uint64_t first, uint64_t count, const void *data);
enum { PIECE_BYTES = 1 << 22 }; /* a piece has no more */

/* Reads a tensor in pieces, in the order of the file, and calls `work` for each. The first result of `work` that is not
 * DONE, or a signal, ends the loop and is its result. `work` NULL: the tensor is read, which verifies its checksum. */
int for_each_piece(const source *in, size_t tensor, piece_work work, void *context);

/* Copies a tensor as it is. */
int copy_tensor(const source *in, size_t tensor, qz_writer *writer, size_t index);
/* Copies the codes that a tensor is decoded from. */
int copy_stored(const source *in, size_t tensor, qz_writer *writer, size_t index);

#endif
