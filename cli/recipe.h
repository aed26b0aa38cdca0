/*
 * recipe.h - recipes: the scheme, method and axis with which a tensor is encoded, from options or from the words of a
 * rule
 */
#ifndef QZ_CLI_RECIPE_H
#define QZ_CLI_RECIPE_H

#include "args.h"

typedef struct recipe {
    qz_scheme scheme;
    int eight;        /* codes of eight bits: the scheme has but the words for it, and is none of the library's */
    qz_method method; /* QZ_DEFAULT: the scheme's own */
    int64_t axis;     /* from the end if negative */
    int weighted;     /* tensors must have weights */
} recipe;

/* The recipe of --scheme, --group-size, --scale-dtype, --method and --axis, if they go together. `numbers` NULL, or the
 * sixteen of --table, which must live as long as the recipe. */
int recipe_of_options(const settings *s, const float *numbers, recipe *out);

/* The recipe of words like "q4_k,method=exact,weights"; what they leave open is the scheme's own, and --axis. A failure
 * begins with `place`, which says where the words stand. */
int recipe_of_words(const settings *s, const char *words, const char *place, recipe *out);

/* Why such a tensor has no place in a layout, as qz_layout_refuses() says it; `t` NULL: of whatever shape. */
const char *recipe_refuses(const recipe *r, const char *layout, const qz_tensor *t, unsigned axis, char *out,
                           size_t out_size);
/* Its bytes in a layout that has a place for it. */
uint64_t recipe_bytes(const recipe *r, const char *layout, const qz_tensor *t, unsigned axis);

/* What a recipe uses, the scheme's own where it says nothing. */
qz_method method_of(const recipe *r);

#endif
