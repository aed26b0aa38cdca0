/*
 * args.h - options: the settings of a call, and the parser that fills them in
 */
#ifndef QZ_CLI_ARGS_H
#define QZ_CLI_ARGS_H

#include "cli.h"

/* What encode takes as a scheme, though it is none of the library's: codes of eight bits. */
#define EIGHT_SCHEME "q8_0"

typedef struct text_list {
    const char **items;
    size_t count;
} text_list;

/* How tensors are encoded. Numbers of the library's enums are 0 where they were not given. */
typedef struct how_options {
    const char *scheme, *table, *weights, *imatrix, *gram;
    uint64_t group_size; /* 0: the scheme's own */
    int64_t axis;
    uint64_t seed;
    int stochastic; /* --seed was given */
    int method, scale_dtype;
} how_options;

/* Which tensors. */
typedef struct which_options {
    const char *tensor;
    text_list include, exclude;
    text_list rules; /* of --rule and --rules: the name of the option, then its value, and so on */
    int no_default_rules;
    uint64_t min_size;
} which_options;

/* What schemes are chosen for, or files must reach; NAN: not given. */
typedef struct goal_options {
    double min_sqnr, target_bits;
} goal_options;

/* What is written, and how. */
typedef struct output_options {
    const char *to, *report, *part, *choices;
    int dtype, nonfinite; /* values of the library's enums; 0: not given */
    uint64_t max_shard_size;
    int force, no_fsync, dry_run, resume, no_verify, requantize;
} output_options;

/* What files may be like. */
typedef struct limit_options {
    uint64_t max_header, max_ratio, max_bytes, max_table;
    int void2_bfloat16, allow_trailing;
    int alone; /* no option: a part of a model in several files is read without the others */
} limit_options;

/* What is told. */
typedef struct say_options {
    int json, jsonl, quiet, stats, check, help;
} say_options;

/* What is searched for, and how. */
typedef struct search_options {
    int metric, approximate; /* 0: not given */
    uint64_t k;
} search_options;

/* A call of the tool. parse_arguments makes it; nothing changes it, but for copies. */
typedef struct settings {
    const char *command;
    const char *files[2];
    int file_count;
    int argument_count; /* of the call, for the report */
    char **arguments;
    how_options how;
    which_options which;
    goal_options goal;
    output_options output;
    limit_options limits;
    say_options say;
    search_options search;
    uint64_t threads; /* 0: not given */
    uint64_t size;    /* of bench */
    double seconds;
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

/* Reads the arguments after the command. Returns DONE, or says what is wrong and returns USAGE. */
int parse_arguments(const command *c, int argc, char **argv, settings *s);
void free_arguments(settings *s);

/* An option, as a command's help describes it. */
typedef struct option_text {
    const char *name;  /* "--scheme" */
    const char *value; /* what it takes, for people; NULL for a flag */
    const char *help;
    const struct option *option;
} option_text;

/* Option i of those that a command takes; returns 0 if there are no more. */
int option_at(const command *c, size_t i, option_text *out);
/* Word i of those that an option takes; NULL if there are no more, or it takes other things. */
const char *option_choice(const option_text *o, size_t i);

/* Appends the next one to a list in words: "a, b or c". `last` 1: it is the last one. */
void list_words(char *list, size_t size, const char *next, int last);
/* The candidate that `given` is a likely misspelling of, or NULL. */
const char *nearest(const char *given, const char *const *candidates, size_t count);

#endif
