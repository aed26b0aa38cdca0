/*
 * cli.h - what the commands share
 *
 *     main.c      the table of commands; signals; help
 *     args.c      options: one table, one parser
 *     output.c    results on stdout, talk on stderr
 *     json.c      results for programs
 *     source.c    an input file as a list of tensors, quantized or not
 *     scheme.c    schemes in words
 *     block.c     a tensor as a matrix, read and written in blocks of bounded size
 *     memory_limit.c  what memory can do; bench/ uses it, too
 *     encode.c decode.c compare.c info.c bench.c      the commands
 *
 * The tool sees the public headers only.
 */
#ifndef QZ_CLI_H
#define QZ_CLI_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <quantize.h>
#include <quantize_file.h>

/* Exit codes; docs/cli.md explains them. An interrupted run exits with 128 + the signal's number. */
enum { DONE = 0, DIFFERENT = 1, USAGE = 2, MALFORMED = 3, REFUSED = 4, IO_ERROR = 5, LIMIT = 6, INTERNAL = 7 };

/* ---- args.c -------------------------------------------------------------------------------------------- */

typedef struct text_list {
    const char **items;
    size_t count;
} text_list;

typedef struct settings {
    const char *command;
    const char *files[2];
    int file_count;
    const char *scheme, *tensor, *weights, *table;
    uint64_t group_size; /* 0: the scheme's own */
    int64_t axis;
    int method, scale_dtype, nonfinite, dtype; /* values of the library's enums; 0: not given */
    uint64_t threads, size, max_header, max_ratio, max_bytes, seed, min_size;
    double min_sqnr, seconds; /* NAN: not given */
    text_list include, exclude;
    int json, quiet, force, no_fsync, dry_run, stats, check, help;
    int stochastic; /* --seed was given */
    int void2_bfloat16, allow_trailing;
} settings;

typedef struct command {
    const char *name;
    const char *files;       /* for people: "IN OUT" */
    int least, most;         /* how many files */
    const char *options;     /* the names it takes, each with a space before and after */
    const char *summary;     /* one line */
    const char *description; /* for its help page */
    int (*run)(const settings *s);
} command;

/* Reads what stands after the command. Returns DONE, or says what is wrong and returns USAGE. */
int parse_arguments(const command *c, int argc, char **argv, settings *s);
void free_arguments(settings *s);
void print_options(const command *c);
/* Appends the next one to a list in words: "a, b or c". `last` 1: it is the last one. */
void list_words(char *list, size_t size, const char *next, int last);
/* The candidate that `given` is a likely misspelling of, or NULL. */
const char *nearest(const char *given, const char *const *candidates, size_t count);

/* ---- output.c ------------------------------------------------------------------------------------------ */

/* What is to be said and how, for the whole run. */
void output_begin(const settings *s);

/* One line on stderr: "quantize COMMAND: ...". Returns `code`, and remembers the text for output_end(). */
int fail(int code, const char *format, ...);
int fail_file(const qz_file_error *error);
int fail_memory(void);

/* Talk that --quiet leaves out. */
void say(const char *format, ...);

/* Ends the output: with --json, a failure is an object too. Returns the exit code, which changes if stdout is full, but
 * not if its reader has seen enough. */
int output_end(int code);

/* A table on stdout: cells are added from left to right, and printed once all widths are known. */
typedef struct table {
    char **cells;
    size_t count, capacity, columns;
    const char *align; /* one character for each column: 'l' or 'r' */
} table;

void table_begin(table *t, const char *align, const char *const *titles);
void table_cell(table *t, const char *format, ...);
void table_print(table *t); /* and releases it */

/* "1.5 MB"; the result lives until the fourth next call. */
const char *bytes_text(double bytes);
/* "[3, 4]" of a shape or index. */
char *shape_text(unsigned rank, const uint64_t *shape, char *out, size_t out_size);
/* Room for a name with escapes, safe to print. */
#define NAME_TEXT 256
/* Room for a shape of 64 axes. */
#define SHAPE_TEXT 1500

/* Progress of something that has `total` steps: a bar on a terminal, now and then a line elsewhere. */
void progress_begin(const char *what, uint64_t total);
void progress_add(uint64_t steps);
void progress_end(void);

double seconds_now(void);

/* Set by the signal handler: the signal that asks us to stop, or 0. */
int stop_requested(void);

/* ---- json.c -------------------------------------------------------------------------------------------- */

/* Calls nest as the value does; commas and indentation come by themselves. `key` is NULL in arrays. */
void json_begin(const char *key, char bracket); /* '{' or '[' */
void json_end(void);
void json_text(const char *key, const char *text);
void json_name(const char *key, const char *text, size_t length); /* any bytes */
void json_whole(const char *key, uint64_t value);
void json_signed(const char *key, int64_t value);
void json_real(const char *key, double value); /* null unless finite */
void json_bool(const char *key, int value);
void json_null(const char *key);
void json_shape(const char *key, unsigned rank, const uint64_t *shape);

/* ---- source.c ------------------------------------------------------------------------------------------ */

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
void source_close(source *s);
/* The item of that name; NULL if there is none. */
const item *source_find(const source *s, const char *name, size_t length);
/* The shape and so on of an item: *packed is filled if it is quantized. The result's name is the item's. */
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
/* Every --include and --exclude must match something: a typing error is not to pass unnoticed. */
int check_rules(const settings *s, const source *in);
/* Sizes of groups and super scales in words: "32", "row", "all". */
const char *size_text(uint64_t size, char *out, size_t out_size);
void json_size(const char *key, uint64_t size);
/* What a scheme is: "int4, groups of 32, float16 scales". */
const char *scheme_text(const qz_scheme *scheme, char *out, size_t out_size);
/* Name, sizes and types as members of an object. */
void json_scheme(const qz_scheme *scheme);
#define SCHEME_TEXT 160
/* Copies a tensor as it is. */
int copy_tensor(const source *in, size_t tensor, qz_writer *writer, size_t index);

/* ---- block.c ------------------------------------------------------------------------------------------- */

/*
 * A tensor as a matrix whose rows run along one axis. The other axes, merged where their strides allow it, number the
 * rows in C order; strides are in elements of the file. The last two of them and the columns are the three dimensions
 * of a block, the ones before are walked through one by one.
 */
typedef struct grid {
    unsigned dims; /* of size and stride: at least 2 (of size 1 if there is nothing) */
    uint64_t size[QZ_MAX_RANK + 2], stride[QZ_MAX_RANK + 2];
    uint64_t rows, cols, col_stride;
} grid;

/* `merge` 0: axes stay apart, so that two grids of the same shape and axis have the same dimensions. */
void grid_of(const qz_tensor *tensor, unsigned axis, int merge, grid *out);

enum { OUTER, INNER, COLUMN, AXES }; /* rows are (outer, inner) */

typedef struct block_plan {
    const grid *grid;
    uint64_t total[AXES], step[AXES];
} block_plan;

/* Blocks with columns in multiples of `unit` (to the end of the row, the last one), of at most some million
 * elements if unit allows it. */
void plan_blocks(const grid *g, uint64_t unit, block_plan *out);

typedef struct block {
    uint64_t prefix; /* flat index over the dimensions that are walked through */
    uint64_t first[AXES], count[AXES];
    uint64_t row; /* row of (first outer, first inner); the next outer one is rows_apart further */
    uint64_t rows_apart;
    uint64_t buffer_stride[AXES]; /* in elements */
} block;

/* The block after *b: 0 if there is none. Begins with the first one if *started is 0. */
int next_block(const block_plan *plan, block *b, int *started);
/* The most elements that a block can have. */
uint64_t block_elements(const block_plan *plan);
/* Strides of a dense buffer in the order in which `g` lies in its file. */
void set_buffer_strides(const grid *g, block *b);

qz_file_result read_block(qz_file *file, size_t tensor, const grid *g, const block *b, size_t element_bytes,
                          void *buffer, qz_file_error *error);
qz_file_result write_block(qz_writer *writer, size_t tensor, const grid *g, const block *b, size_t element_bytes,
                           const void *buffer, qz_file_error *error);

/* The rows of one outer index of a block in its buffer, as a matrix. */
qz_matrix block_matrix(const block *b, uint64_t outer, void *buffer, qz_dtype dtype);

/* The columns at which a matrix of that scheme may be divided. */
uint64_t column_unit(const qz_scheme *scheme, uint64_t cols, int encoding);

/* malloc, but not of more than the machine has; NULL after it has said why not (then the exit code is LIMIT). */
void *allocate(uint64_t bytes);

/* Memory for the values of a block; NULL after it has said why not (then the exit code is LIMIT). */
void *allocate_block(const block_plan *plan, size_t element_bytes);

/* Memory for the plain form of `rows` x `cols`; one allocation, released with free(packed->codes). */
int allocate_packed(const qz_scheme *scheme, uint64_t rows, uint64_t cols, qz_packed *packed);

/* Sets the strides of rows of `cols` without gaps, and says what such a row needs. */
int shape_packed(const qz_scheme *scheme, uint64_t cols, qz_packed *packed, qz_sizes *sizes);

/* The plain form from a row on. */
qz_packed packed_row(const qz_scheme *scheme, const qz_packed *packed, uint64_t row);

/* Statistics of a matrix from those of its blocks. */
void add_stats(qz_stats *sum, const qz_stats *part, uint64_t row, uint64_t col, uint64_t part_cols, uint64_t cols);
/* ... in both kinds of output: of the columns name, SQNR dB, RMSE, largest error, at. */
void stats_cells(table *t, const item *i, const qz_stats *stats, const qz_tensor *tensor, unsigned axis);
void json_stats(const qz_stats *stats, const qz_tensor *tensor, unsigned axis, int weighted);
double sqnr(const qz_stats *s); /* dB; INFINITY without error */
double weighted_sqnr(const qz_stats *s);
double rmse(const qz_stats *s);
/* The index in the tensor of an element (row, col) of its matrix. */
void matrix_index(const qz_tensor *t, unsigned axis, uint64_t row, uint64_t col, uint64_t *index);

/* A qz_result of a tensor as an exit code, with the index in words. */
int fail_quantize(qz_result result, const qz_tensor *tensor, unsigned axis, uint64_t row, uint64_t col,
                  const qz_detail *detail);

/* Reads a quantized tensor in blocks and checks that it keeps its format. */
int check_packed(const source *in, const item *i);

/* A pool for work on that many elements. */
int start_pool(const settings *s, uint64_t elements, qz_pool **pool);

/* ---- commands ------------------------------------------------------------------------------------------ */

int run_encode(const settings *s);
int run_decode(const settings *s);
int run_compare(const settings *s);
int run_info(const settings *s);
int run_bench(const settings *s);

#endif
