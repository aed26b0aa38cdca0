/*
 * rules.h - decides by the name of a tensor what encode does with it: rules of the user, and the default list of
 * tensors that stay
 */
#ifndef QZ_CLI_RULES_H
#define QZ_CLI_RULES_H

#include "recipe.h" /* first: it asks for all of the C library */

#include <regex.h>

#include "source.h"
#include "text.h"

typedef struct rule {
    char *pattern;     /* a glob, or "re:" and an expression that must match the whole name */
    char *action;      /* as it was written; NULL in the default list */
    const char *what;  /* of the default list: what such tensors are */
    int keep;          /* the tensor stays as it is; else: */
    recipe how;        /* how it is encoded */
    int is_expression; /* `expression` is there */
    regex_t expression;
    uint64_t matched, decided;  /* tensors of its name, and those for which it was the first */
    char place[NAME_TEXT + 64]; /* where it stands, for messages */
} rule;

typedef struct rule_list {
    rule *items;
    size_t count;
} rule_list;

/* The rules of --rule and --rules, in their order. */
int read_rules(const settings *s, rule_list *out);
/* The default list, as far as it holds for a file: for a model, which has two matrices or more called *.weight. */
int default_rules(const source *in, rule_list *out);
void free_rules(rule_list *rules);

/* The first rule that matches; NULL if none does. */
const rule *first_rule(const rule_list *rules, const item *i);
/* Whether the rule's pattern is the name itself. */
int names_exactly(const rule *r, const item *i);
/* Every rule must match something: a typing error is reported. A rule that never comes first is worth a note. */
int check_rule_names(rule_list *rules, const source *in);

#endif
