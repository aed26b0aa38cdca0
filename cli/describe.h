/*
 * describe.h - prints the commands and their options: help pages, a manual page, and completions for shells
 */
#ifndef QZ_CLI_DESCRIBE_H
#define QZ_CLI_DESCRIBE_H

#include "args.h"

/* All commands, one line each. */
void print_usage(const command *commands, size_t count);

/* The page of a command. */
void print_help(const command *c);

/* What `quantize help FORMAT` prints: "--man" a manual page for man(1), "--bash", "--zsh" and "--fish" what these
 * shells read to complete the words of a command. Returns 0 if there is no such format. */
int print_description(const char *format, const command *commands, size_t count);

#endif
