/*
 * output.h - messages, notes and progress on stderr, and the place of a failure
 */
#ifndef QZ_CLI_OUTPUT_H
#define QZ_CLI_OUTPUT_H

#include "args.h"
#include "text.h"

/* Sets for the whole run what is printed and how. */
void output_begin(const settings *s);

/* One line on stderr: "quantize COMMAND: ...". Returns `code`, and remembers the text for output_end(). What stands
 * behind the first "; " of the format is the remedy. */
int fail(int code, const char *format, ...);
int fail_file(const qz_file_error *error);
int fail_system(const char *path, int number); /* errno */
int fail_memory(void);

/* Where the program is: what a failure there says of its place. */
typedef struct failure_place {
    const char *name; /* of the tensor; NULL: none */
    size_t name_length;
    unsigned rank; /* of the index; 0: none is known */
    uint64_t index[QZ_MAX_RANK];
    uint64_t offset; /* in a file, or QZ_NO_OFFSET */
    int system;      /* errno, or 0 */
} failure_place;

typedef struct failure {
    int happened;
    char text[1024];
    size_t remedy; /* where in the text the remedy stands; 0: nowhere */
    failure_place at;
    char *name; /* a copy: the file that has it is closed before it is written as JSON */
} failure;

/* Failures of this thread from now on are kept there, and not told; NULL: they are told again. */
void keep_failures(failure *kept);
/* Tells one that was kept, and takes its name over. */
void tell_failure(const failure *kept);

/* The output is there whole: a failure that follows leaves it, and says so. */
void output_is_there(void);
int output_was_written(void);

/* The tensor that is worked on, and the element that is to blame: where a failure that follows happened. The name must
 * stay until the next call; NULL: it is no longer about a tensor. */
void at_tensor(const char *name, size_t length);
void at_index(const qz_tensor *tensor, const uint64_t *index);

/* Talk that --quiet leaves out; a note among the events of --jsonl. */
void say(const char *format, ...);
/* The same of a result, which --json and --jsonl have in numbers. */
void sum_up(const char *format, ...);

/* Events are the objects of --jsonl, one to a line on stdout: between the two calls come the members, by the functions
 * of json.h. Without --jsonl event_begin() is 0, and nothing may follow. */
int event_begin(const char *event);
void event_end(void);

/* Ends the output: with --json or --jsonl, a failure is an object too. Returns the exit code, which changes if stdout
 * is full, but not if its reader has seen enough. */
int output_end(int code);

/* Progress of something that has `total` steps: a bar on a terminal, now and then a line elsewhere, and events. */
void progress_begin(const char *what, uint64_t total);
void progress_add(uint64_t steps); /* by any thread */
void progress_end(void);
/* While another event is written, where several threads add to the progress. */
void progress_hold(void);
void progress_go_on(void);

double seconds_now(void);

/* The signal that asks the program to stop, or 0. */
int stop_requested(void);

/* The same as the library asks for it, in options of calls. */
int stop_asked(void *context);

#endif
