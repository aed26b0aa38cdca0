/*
 * rule_file.h - reads a file of rules, in JSON or in TOML
 *
 *     {"rule": [{"match": "*.bias", "action": "keep"}]}
 *
 *     [[rule]]
 *     match = "*.bias"
 *     action = 'keep'
 *
 * Only this much of both formats is read, and strictly: anything else is an error with its line and column.
 */
#ifndef QZ_CLI_RULE_FILE_H
#define QZ_CLI_RULE_FILE_H

#include "cli.h"

/* Takes a rule: its two texts, which live until the call returns, and the line where it begins. */
typedef int (*rule_taker)(void *context, const char *match, const char *action, unsigned line);

/* Calls `take` for each rule, in order. The first result that is not DONE ends the reading and is the result. */
int read_rule_file(const char *path, rule_taker take, void *context);

#endif
