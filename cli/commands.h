/*
 * commands.h - the functions of the commands: each runs one, and returns its exit code
 */
#ifndef QZ_CLI_COMMANDS_H
#define QZ_CLI_COMMANDS_H

#include "args.h"

int run_encode(const settings *s);
int run_decode(const settings *s);
int run_convert(const settings *s);
int run_compare(const settings *s);
int run_verify(const settings *s);
int run_info(const settings *s);
int run_search(const settings *s);
int run_bench(const settings *s);

#endif
