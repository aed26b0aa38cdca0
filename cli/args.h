/*
 * args.h - options: one table, one parser
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

typedef struct settings {
    const char *command;
    const char *files[2];
    int file_count;
    int argument_count; /* of the call, for the report */
    char **arguments;
    const char *scheme, *tensor, *weights, *imatrix, *gram, *table, *to, *report, *part, *choices;
    uint64_t group_size; /* 0: the scheme's own */
    int64_t axis;
    int method, scale_dtype, nonfinite, dtype, metric; /* values of the library's enums; 0: not given */
    uint64_t k, threads, size, max_header, max_ratio, max_bytes, max_table, seed, min_size, max_shard_size;
    double min_sqnr, target_bits, seconds; /* NAN: not given */
    text_list include, exclude;
    text_list rules; /* of --rule and --rules: the name of the option, then its value, and so on */
    int json, jsonl, quiet, force, no_fsync, dry_run, resume, stats, check, no_verify, requantize, help;
    int no_default_rules;
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
