/*
 * rules.c - decides by the name of a tensor what encode does with it: rules of the user, and the default list of
 * tensors that stay
 */
#include "rules.h"

#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "rule_file.h"

/* ---- patterns ---- */

static const char expression_mark[] = "re:";

/* Expressions are compiled by the C library, which takes memory for what they repeat: these limits bound it. */
enum { LONGEST_EXPRESSION = 1000, MOST_REPEATED = 1000, DEEPEST_BRACKETS = 100 };

static const char *skip_set(const char *at)
{
    at += at[1] == '^' ? 2 : 1;
    if (*at == ']') /* the first one is a character of the set */
        at++;
    while (*at != '\0' && *at != ']') {
        const char kind = at[0] == '[' && (at[1] == ':' || at[1] == '.' || at[1] == '=') ? at[1] : '\0';
        const char end[] = {kind, ']', '\0'}, *found = kind != '\0' ? strstr(at + 2, end) : NULL;
        at = found ? found + 2 : at + 1;
    }
    return at;
}

/* What is wrong with an expression that the C library might take, but not everywhere, or at any cost. `*at` becomes the
 * place. NULL: nothing. */
static const char *beyond_limits(const char *text, size_t *at)
{
    unsigned long repeated = 1, depth = 0;
    const char *i;
    *at = LONGEST_EXPRESSION;
    if (strlen(text) > LONGEST_EXPRESSION)
        return "more than 1000 characters";
    for (i = text; *i != '\0'; i++) {
        *at = (size_t)(i - text);
        if (*i == '\\' &&
            ((i[1] >= '0' && i[1] <= '9') || (i[1] >= 'a' && i[1] <= 'z') || (i[1] >= 'A' && i[1] <= 'Z')))
            return "a backslash before a letter or digit, which stands for nothing here";
        if (*i == '\\' && i[1] != '\0')
            i++;
        else if (*i == '[' && *(i = skip_set(i)) == '\0')
            return "a '[' without its ']'";
        else if (*i == '(' && ++depth > DEEPEST_BRACKETS)
            return "too many '(' within each other";
        else if (*i == ')' && depth-- == 0)
            return "a ')' without its '('";
        else if (*i == '{') {
            char *end;
            unsigned long least = strtoul(i + 1, &end, 10), most = *end == ',' ? strtoul(end + 1, &end, 10) : least;
            most = most > least ? most : least;
            repeated *= most > MOST_REPEATED ? MOST_REPEATED + 1 : most > 0 ? most : 1;
            if (repeated > MOST_REPEATED)
                return "repetitions of more than 1000 in all";
        }
    }
    *at = (size_t)(i - text);
    return depth != 0 ? "a '(' without its ')'" : NULL;
}

static int compile_expression(rule *r)
{
    const char *text = r->pattern + sizeof expression_mark - 1;
    size_t at = 0;
    char why[120], whole[LONGEST_EXPRESSION + 8];
    const char *wrong = beyond_limits(text, &at);
    if (wrong)
        return fail(USAGE, "%s: the expression has %s, at character %zu", r->place, wrong, at + 1);
    snprintf(whole, sizeof whole, "^(%s)$", text);
    int code = regcomp(&r->expression, whole, REG_EXTENDED | REG_NOSUB);
    if (code == REG_ESPACE)
        return fail_memory();
    if (code != 0) {
        regerror(code, &r->expression, why, sizeof why);
        return fail(USAGE, "%s: this is no extended regular expression: %s", r->place, why);
    }
    r->is_expression = 1;
    return DONE;
}

/* A test of item_passes(). */
static int has_pattern(const void *context, const char *name)
{
    const rule *r = context;
    if (!r->is_expression)
        return glob_matches(r->pattern, name);
    const int code = regexec(&r->expression, name, 0, NULL, 0);
    if (code == REG_ESPACE)
        names_lack_memory();
    return code == 0;
}

static int matches(const rule *r, const item *i)
{
    return item_passes(i, has_pattern, r);
}

int names_exactly(const rule *r, const item *i)
{
    return strlen(r->pattern) == i->name_length && memcmp(r->pattern, i->name, i->name_length) == 0;
}

/* ---- lists ---- */

/* Room for one more rule; NULL: there is no memory, which was said. */
static rule *add_rule(rule_list *rules, const char *pattern, size_t length)
{
    rule *items = realloc(rules->items, (rules->count + 1) * sizeof *items);
    if (!items) {
        fail_memory();
        return NULL;
    }
    rules->items = items;
    rule *r = &items[rules->count];
    *r = (rule){.pattern = strndup(pattern, length)};
    if (!r->pattern) {
        fail_memory();
        return NULL;
    }
    rules->count++;
    return r;
}

void free_rules(rule_list *rules)
{
    for (size_t i = 0; i < rules->count; i++) {
        rule *r = &rules->items[i];
        if (r->is_expression)
            regfree(&r->expression);
        free(r->pattern);
        free(r->action);
    }
    free(rules->items);
    *rules = (rule_list){0};
}

static int read_pattern(rule *r)
{
    return strncmp(r->pattern, expression_mark, sizeof expression_mark - 1) == 0 ? compile_expression(r) : DONE;
}

/* ---- rules of the user ---- */

typedef struct rule_reader {
    const settings *settings;
    rule_list *rules;
    const char *file;
} rule_reader;

static int take_action(const settings *s, rule *r, const char *action)
{
    r->action = strdup(action);
    if (!r->action)
        return fail_memory();
    r->keep = strcmp(action, "keep") == 0;
    int code = read_pattern(r);
    return code == DONE && !r->keep ? recipe_of_words(s, action, r->place, &r->how) : code;
}

/* "--rule 'PATTERN=ACTION'". */
static int take_option(rule_reader *reader, const char *value)
{
    char shown[NAME_TEXT];
    const char *equals = strchr(value, '=');
    qz_escape(value, strlen(value), shown, sizeof shown);
    if (!equals || equals == value)
        return fail(USAGE, "--rule '%s': write PATTERN=ACTION, '*.bias=keep' for example", shown);
    rule *r = add_rule(reader->rules, value, (size_t)(equals - value));
    if (!r)
        return LIMIT;
    snprintf(r->place, sizeof r->place, "--rule '%s'", shown);
    return take_action(reader->settings, r, equals + 1);
}

static int take_member(void *context, const char *match, const char *action, unsigned line)
{
    rule_reader *reader = context;
    char shown[NAME_TEXT];
    rule *r = add_rule(reader->rules, match, strlen(match));
    if (!r)
        return LIMIT;
    qz_escape(reader->file, strlen(reader->file), shown, sizeof shown);
    snprintf(r->place, sizeof r->place, "%s: line %u", shown, line);
    if (match[0] == '\0')
        return fail(USAGE, "%s: match is empty; '*' matches all names", r->place);
    return take_action(reader->settings, r, action);
}

int read_rules(const settings *s, rule_list *out)
{
    rule_reader reader = {.settings = s, .rules = out};
    int code = DONE;
    for (size_t i = 0; i + 1 < s->which.rules.count && code == DONE; i += 2) {
        reader.file = s->which.rules.items[i + 1];
        code = strcmp(s->which.rules.items[i], "--rules") == 0 ? read_rule_file(reader.file, take_member, &reader)
                                                               : take_option(&reader, reader.file);
    }
    return code;
}

const rule *first_rule(const rule_list *rules, const item *i)
{
    for (size_t r = 0; r < rules->count; r++)
        if (matches(&rules->items[r], i))
            return &rules->items[r];
    return NULL;
}

int check_rule_names(rule_list *rules, const source *in)
{
    for (size_t i = 0; i < in->count; i++)
        for (size_t r = 0, first = 1; r < rules->count; r++)
            if (matches(&rules->items[r], &in->items[i])) {
                rules->items[r].matched++;
                rules->items[r].decided += first;
                first = 0;
            }
    if (names_were_seen() != DONE)
        return LIMIT;
    for (size_t r = 0; r < rules->count; r++) {
        char shown[NAME_TEXT];
        const rule *it = &rules->items[r];
        qz_escape(it->pattern, strlen(it->pattern), shown, sizeof shown);
        if (it->matched == 0)
            return fail(USAGE, "%s: no tensor has a name that '%s' matches; 'quantize info' lists the names", it->place,
                        shown);
        if (it->decided == 0)
            say("note: %s decides nothing: rules before it match the names that it does", it->place);
    }
    return DONE;
}

/* ---- the default list ---- */

/* What stays in models: what such programs as llama.cpp and llm-compressor leave as it is. docs/cli.md has the same
 * table. A name is looked at by its last part before ".weight", where that says what a tensor is. */
static const struct {
    const char *what, *pattern;
    int of_experts;
} defaults[] = {
    {"embedding", "re:(.*[.])?[^.]*(embed|embd)[^.]*([.]weight)?", 0},
    {"embedding", "re:(.*[.])?(wte|wpe|shared|token_types|relative_attention_bias|attn_rel_b)[.]weight", 0},
    {"output head", "re:(.*[.])?(lm_head|output_layer)([.]weight)?", 0},
    {"output head", "re:(output|score|classifier|cls)[.](.*[.])?weight", 0},
    {"norm", "re:(.*[.])?([^.]*([Nn]orm|NORM)[0-9]*|ln_[^.]*)([.](weight|scale|gamma|beta))?", 0},
    {"bias", "re:(.*[._])?bias(es)?", 0},
    {"router", "re:(.*[.])?router([.].*)?", 0},
    {"router", "*ffn_gate_inp*", 0},
    {"router", "re:(.*[.])?(gate|shared_expert_gate)[.]weight", 1},
    {"convolution of a state space", "re:(.*[.])?(ssm_)?conv1d[.]weight", 0},
    {"vision or audio",
     "re:(.*[.])?(vision_tower|vision_model|visual|vision_encoder|vision_embedder|image_encoder|audio_tower)[.].*", 0},
    {"projector", "re:(.*[.])?(multi_modal_projector|mm_projector|vision_projector|audio_projector)[.].*", 0},
};
enum { DEFAULTS = sizeof defaults / sizeof defaults[0] };

static int ends_in_weight(const item *i)
{
    static const char end[] = ".weight";
    const size_t length = sizeof end - 1;
    return i->name_length > length && memcmp(i->name + i->name_length - length, end, length) == 0;
}

/* Whether a file is a model: it has two matrices or more that are called *.weight. */
static int is_model(const source *in)
{
    unsigned found = 0;
    for (size_t i = 0; i < in->count && found < 2; i++) {
        const qz_tensor *t = qz_tensor_at(in->file, in->items[i].tensor);
        int matrix = in->items[i].packed || (is_float(t->element) && t->rank >= 2);
        found += matrix && ends_in_weight(&in->items[i]);
    }
    return found == 2;
}

/* A test of item_passes(). */
static int speaks_of_experts(const void *context, const char *name)
{
    (void)context;
    return strstr(name, "expert") || strstr(name, "_exps");
}

/* Whether a model has experts: then a gate chooses among them, and is no layer of a plain network. */
static int has_experts(const source *in)
{
    for (size_t i = 0; i < in->count; i++)
        if (item_passes(&in->items[i], speaks_of_experts, NULL))
            return 1;
    return 0;
}

int default_rules(const source *in, rule_list *out)
{
    const int experts = has_experts(in);
    int code = DONE;
    for (size_t i = 0; i < DEFAULTS && code == DONE && is_model(in); i++) {
        if (defaults[i].of_experts && !experts)
            continue;
        rule *r = add_rule(out, defaults[i].pattern, strlen(defaults[i].pattern));
        if (!r)
            return LIMIT;
        r->what = defaults[i].what;
        r->keep = 1;
        code = read_pattern(r);
    }
    return code;
}
