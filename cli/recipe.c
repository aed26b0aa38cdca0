/*
 * recipe.c - recipes: the scheme, method and axis with which a tensor is encoded, from options or from the words of a
 * rule
 */
#include "recipe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "scheme.h"

/* Codes of eight bits in the words of a scheme. */
static const qz_scheme eight_bits = {.size = sizeof eight_bits,
                                     .name = EIGHT_SCHEME,
                                     .summary = "eight bits, a scale for 32 neighbours",
                                     .group_size = QZ_EIGHT_GROUP,
                                     .scale_dtype = QZ_F16,
                                     .method = QZ_REFERENCE};

qz_method method_of(const recipe *r)
{
    return r->method != QZ_DEFAULT ? r->method : r->scheme.method;
}

static int fits(const recipe *r)
{
    return qz_scheme_check(&r->scheme, QZ_DEFAULT) == QZ_OK;
}

/* ---- where it has a place ---- */

const char *recipe_refuses(const recipe *r, const char *layout, const qz_tensor *t, unsigned axis, char *out,
                           size_t out_size)
{
    if (r->eight)
        return qz_eight_refuses(layout, t, out, out_size);
    return qz_layout_refuses(layout, &r->scheme, t ? t->rank : 0, t ? t->shape : NULL, axis, out, out_size);
}

uint64_t recipe_bytes(const recipe *r, const char *layout, const qz_tensor *t, unsigned axis)
{
    return r->eight ? qz_eight_bytes(t->count) : qz_layout_bytes(layout, &r->scheme, t->rank, t->shape, axis);
}

/* ---- methods that do not go with the scheme ---- */

/* Says with which options the rule of the scheme would make it; an empty text if there are none. */
static void reference_hint(const recipe *r, const qz_scheme *row, char *out, size_t out_size)
{
    out[0] = '\0';
    for (int i = 2; qz_dtype_name((qz_dtype)(i / 2)) && out[0] == '\0'; i++) {
        qz_scheme like = r->scheme;
        like.scale_dtype = (qz_dtype)(i / 2);
        like.group_size = i % 2 == 0 ? r->scheme.group_size : row->group_size;
        if (qz_scheme_check(&like, QZ_REFERENCE) != QZ_OK)
            continue;
        snprintf(out, out_size, " unless it has %s scales in groups of %" PRIu64, qz_dtype_name(like.scale_dtype),
                 like.group_size);
    }
}

/* `given` is how the method was asked for: "--method exact". */
static int fail_method(const char *given, const recipe *r, const qz_scheme *row)
{
    char hint[100] = "";
    if (r->method == QZ_REFERENCE)
        reference_hint(r, row, hint, sizeof hint);
    char list[160] = "";
    const char *names[16];
    size_t n = 0;
    for (int m = QZ_DEFAULT + 1; n < 16 && qz_method_name((qz_method)m); m++)
        if (qz_scheme_check(&r->scheme, (qz_method)m) == QZ_OK)
            names[n++] = qz_method_name((qz_method)m);
    for (size_t i = 0; i < n; i++)
        list_words(list, sizeof list, names[i], i + 1 == n);
    return fail(USAGE, "%s does not go with the scheme %s%s; use %s", given, r->scheme.name, hint, list);
}

/* ---- from options ---- */

static recipe eight_recipe(void)
{
    return (recipe){.scheme = eight_bits, .eight = 1, .method = QZ_REFERENCE, .axis = -1};
}

static int take_table(const float *numbers, recipe *r)
{
    qz_scheme *scheme = &r->scheme;
    const qz_scheme row = *scheme;
    scheme->codes = QZ_TABLE;
    scheme->table = numbers;
    scheme->name = "table";
    scheme->rule = QZ_RULE_NONE;
    if (row.zero != QZ_ZERO_NONE || row.codes == QZ_DUAL)
        return fail(USAGE, "--table does not go with the scheme %s: choose one without zeros or tables of its own",
                    row.name);
    if (!fits(r))
        return fail(USAGE, "--table: the numbers must be finite, at most 2^60, and not all equal%s",
                    row.positive ? "; some must be above 0, since scales of this scheme are" : "");
    return DONE;
}

/* Codes of eight bits have one form: what would make another one does not go with them. */
static int take_eight(const settings *s, recipe *out)
{
    const char *given = s->how.table                                                    ? "--table"
                        : s->how.group_size != 0 && s->how.group_size != QZ_EIGHT_GROUP ? "--group-size"
                        : s->how.axis != -1                                             ? "--axis"
                        : s->how.method != 0                                            ? "--method"
                        : s->how.scale_dtype != 0 && s->how.scale_dtype != QZ_F16       ? "--scale-dtype"
                        : s->how.stochastic                                             ? "--seed"
                        : s->how.weights                                                ? "--weights"
                        : s->how.imatrix                                                ? "--imatrix"
                        : s->how.gram                                                   ? "--gram"
                                                                                        : NULL;
    *out = eight_recipe();
    return given
               ? fail(USAGE,
                      "%s does not go with the scheme " EIGHT_SCHEME
                      ", which has one form: 32 neighbours in C order, a float16 scale, each error counting the same; "
                      "name its tensors with --rule 'NAME=" EIGHT_SCHEME "' if the option is for others",
                      given)
               : DONE;
}

int recipe_of_options(const settings *s, const float *numbers, recipe *out)
{
    if (s->how.scheme && strcmp(s->how.scheme, EIGHT_SCHEME) == 0)
        return take_eight(s, out);
    const qz_scheme *row = qz_scheme_by_name(s->how.scheme ? s->how.scheme : "int4");
    char text[SCHEME_TEXT];
    *out = (recipe){.scheme = *row, .method = (qz_method)s->how.method, .axis = s->how.axis};
    scheme_text(row, text, sizeof text);
    int code = numbers ? take_table(numbers, out) : DONE;
    if (code != DONE)
        return code;
    if (s->how.scale_dtype != 0)
        out->scheme.scale_dtype = (qz_dtype)s->how.scale_dtype;
    if (!fits(out))
        return fail(USAGE, "--scale-dtype %s does not go with this scheme: %s", qz_dtype_name(out->scheme.scale_dtype),
                    text);
    if (s->how.group_size != 0)
        out->scheme.group_size = s->how.group_size;
    if (!fits(out))
        return fail(USAGE,
                    "--group-size does not go with this scheme: %s; groups of at most 2048 must divide the values that "
                    "share a super scale, into 256 at most",
                    text);
    char given[40];
    snprintf(given, sizeof given, "--method %s", qz_method_name(out->method));
    if (qz_scheme_check(&out->scheme, out->method) != QZ_OK)
        return fail_method(given, out, row);
    if (s->how.stochastic && out->method == QZ_REFERENCE)
        return fail(USAGE, "--seed does not go with --method reference, which rounds as another tool does");
    return DONE;
}

/* ---- from words ---- */

/* One of the words behind the name of a scheme, "group=64", while it is read. */
typedef struct word_reader {
    const char *place; /* of all words, for messages */
    const char *value; /* behind the "="; NULL: there is none */
    recipe *recipe;
} word_reader;

static int fail_value(const word_reader *w, const char *name, const char *wanted)
{
    char shown[NAME_TEXT];
    return fail(USAGE, "%s: %s='%s': the value must be %s", w->place, name,
                qz_escape(w->value, strlen(w->value), shown, sizeof shown), wanted);
}

static int read_group(const word_reader *w)
{
    char *end = NULL;
    errno = 0;
    unsigned long long number = w->value[0] >= '0' && w->value[0] <= '9' ? strtoull(w->value, &end, 10) : 0;
    int row = strcmp(w->value, "row") == 0;
    if (!row && (!end || *end != '\0' || errno != 0 || number == 0 || number > INT64_MAX))
        return fail_value(w, "group", "a whole number of 1 or more, or row");
    w->recipe->scheme.group_size = row ? QZ_WHOLE_ROW : number;
    return DONE;
}

/* A short name of a type: "f16" of "float16", "bf16" of "bfloat16", "e4m3" of "float8_e4m3". */
static const char *short_name(const char *name, char out[16])
{
    const char *behind = strchr(name, '_'), *word = strstr(name, "float");
    if (behind || !word)
        return behind ? behind + 1 : name;
    snprintf(out, 16, "%.*sf%s", (int)(word - name), name, word + 5);
    return out;
}

static int read_scale(const word_reader *w)
{
    char list[200] = "", text[16];
    const char *name;
    for (size_t i = 0; (name = qz_dtype_name(scale_dtype_at(i))) != NULL; i++) {
        const char *word = short_name(name, text);
        if (strcmp(name, w->value) == 0 || strcmp(word, w->value) == 0) {
            w->recipe->scheme.scale_dtype = scale_dtype_at(i);
            return DONE;
        }
        list_words(list, sizeof list, word, !qz_dtype_name(scale_dtype_at(i + 1)));
    }
    snprintf(list + strlen(list), sizeof list - strlen(list), ", or the long name of one");
    return fail_value(w, "scale", list);
}

static int read_method(const word_reader *w)
{
    const char *names[16], *name;
    char list[200] = "";
    size_t n = 0;
    for (; n < 16 && (name = qz_method_name((qz_method)n)) != NULL; n++) {
        if (strcmp(name, w->value) == 0) {
            w->recipe->method = (qz_method)n;
            return DONE;
        }
        names[n] = name;
    }
    for (size_t i = 0; i < n; i++)
        list_words(list, sizeof list, names[i], i + 1 == n);
    const char *guess = nearest(w->value, names, n);
    if (guess)
        snprintf(list + strlen(list), sizeof list - strlen(list), "; did you mean %s?", guess);
    return fail_value(w, "method", list);
}

static int read_axis(const word_reader *w)
{
    char *end;
    errno = 0;
    long long number = strtoll(w->value, &end, 10);
    if (end == w->value || *end != '\0' || errno != 0 || w->value[0] == ' ' || number > 63 || number < -64)
        return fail_value(w, "axis", "the number of an axis: 0 is the first, -1 the last");
    w->recipe->axis = number;
    return DONE;
}

static int read_weights(const word_reader *w)
{
    w->recipe->weighted = 1;
    return DONE;
}

static const struct modifier {
    const char *name;
    int takes_value;
    int (*read)(const word_reader *w);
} modifiers[] = {
    {"group", 1, read_group}, {"scale", 1, read_scale},     {"method", 1, read_method},
    {"axis", 1, read_axis},   {"weights", 0, read_weights},
};
enum { MODIFIERS = sizeof modifiers / sizeof modifiers[0] };

static int unknown_word(const char *place, const char *word)
{
    char shown[NAME_TEXT];
    const char *names[MODIFIERS];
    for (size_t i = 0; i < MODIFIERS; i++)
        names[i] = modifiers[i].name;
    const char *guess = nearest(word, names, MODIFIERS);
    qz_escape(word, strlen(word), shown, sizeof shown);
    if (guess)
        return fail(USAGE, "%s: there is no '%s'; did you mean %s?", place, shown, guess);
    return fail(USAGE, "%s: there is no '%s'; after the scheme stand group=N, scale=TYPE, method=NAME, axis=N, weights",
                place, shown);
}

static int unknown_scheme(const char *place, const char *word)
{
    char shown[NAME_TEXT];
    const char *names[256];
    size_t n = 0;
    names[n++] = "keep";
    names[n++] = eight_bits.name;
    for (const qz_scheme *row; n < 256 && (row = qz_scheme_at(n - 2)) != NULL; n++)
        names[n] = row->name;
    const char *guess = nearest(word, names, n);
    qz_escape(word, strlen(word), shown, sizeof shown);
    if (guess)
        return fail(USAGE, "%s: there is no scheme '%s'; did you mean %s?", place, shown, guess);
    return fail(USAGE, "%s: there is no scheme '%s'; write keep, q8_0, or one that 'quantize info' lists", place,
                shown);
}

/* Reads "name" or "name=value"; `seen` has a bit for each modifier that was read. */
static int read_word(char *word, const char *place, recipe *out, unsigned *seen)
{
    char *equals = strchr(word, '='), text[SCHEME_TEXT], shown[NAME_TEXT];
    if (equals)
        *equals = '\0';
    size_t i = 0;
    while (i < MODIFIERS && strcmp(modifiers[i].name, word) != 0)
        i++;
    if (i == MODIFIERS)
        return unknown_word(place, word);
    if (modifiers[i].takes_value && !equals)
        return fail(USAGE, "%s: %s needs a value: %s=...", place, word, word);
    if (!modifiers[i].takes_value && equals)
        return fail(USAGE, "%s: %s takes no value", place, word);
    if (*seen & 1u << i)
        return fail(USAGE, "%s: %s stands there twice", place, word);
    *seen |= 1u << i;
    scheme_text(&out->scheme, text, sizeof text);
    const word_reader w = {place, equals ? equals + 1 : NULL, out};
    int code = modifiers[i].read(&w);
    if (code == DONE && !fits(out))
        return fail(USAGE, "%s: %s=%s does not go with the scheme: %s", place, word,
                    qz_escape(w.value, strlen(w.value), shown, sizeof shown), text);
    return code;
}

/* The next of some words with commas between them, without the spaces around it; NULL if there are no more. */
static char *next_word(char **rest)
{
    char *word = *rest;
    if (!word)
        return NULL;
    char *comma = strchr(word, ',');
    *rest = comma ? comma + 1 : NULL;
    if (comma)
        *comma = '\0';
    word += strspn(word, " \t");
    size_t length = strlen(word);
    while (length > 0 && (word[length - 1] == ' ' || word[length - 1] == '\t'))
        length--;
    word[length] = '\0';
    return word;
}

static int read_words(const settings *s, char *words, const char *place, recipe *out)
{
    char *rest = words, *word = next_word(&rest), given[NAME_TEXT + 40];
    const qz_scheme *row = qz_scheme_by_name(word);
    const int eight = strcmp(word, eight_bits.name) == 0;
    if ((strcmp(word, "keep") == 0 || eight) && rest)
        return fail(USAGE, "%s: nothing can stand after %s%s", place, word,
                    eight ? ", which has groups of 32 and float16 scales in all files" : "");
    if (eight) {
        *out = eight_recipe();
        return DONE;
    }
    if (!row)
        return unknown_scheme(place, word);
    *out = (recipe){.scheme = *row, .method = QZ_DEFAULT, .axis = s->how.axis};
    unsigned seen = 0;
    while ((word = next_word(&rest)) != NULL) {
        int code = read_word(word, place, out, &seen);
        if (code != DONE)
            return code;
    }
    snprintf(given, sizeof given, "%s: method=%s", place, qz_method_name(out->method));
    if (qz_scheme_check(&out->scheme, out->method) != QZ_OK)
        return fail_method(given, out, row);
    if (s->how.stochastic && out->method == QZ_REFERENCE)
        return fail(USAGE, "--seed does not go with %s, which rounds as another tool does", given);
    return DONE;
}

int recipe_of_words(const settings *s, const char *words, const char *place, recipe *out)
{
    char *copy = strdup(words);
    if (!copy)
        return fail_memory();
    int code = read_words(s, copy, place, out);
    free(copy);
    return code;
}
