/*
 * output.h - talk on stderr, progress
 */
#ifndef QZ_CLI_OUTPUT_H
#define QZ_CLI_OUTPUT_H

#include "args.h"
#include "text.h"

/* Sets for the whole run what is printed and how. */
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

/* Progress of something that has `total` steps: a bar on a terminal, now and then a line elsewhere. */
void progress_begin(const char *what, uint64_t total);
void progress_add(uint64_t steps);
void progress_end(void);

double seconds_now(void);

/* The signal that asks the program to stop, or 0. */
int stop_requested(void);

#endif
