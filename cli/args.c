/*
 * args.c - the table of options, and the parser of arguments
 *
 * It checks that a value has the form that its option needs, and knows nothing about what options do.
 */
#include "args.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "scheme.h"

/* ---- words that stand for values ---- */

typedef struct word {
    const char *text;
    int value;
} word;

static const word dtypes[] = {
    {"float32", QZ_F32}, {"float64", QZ_F64}, {"float16", QZ_F16}, {"bfloat16", QZ_BF16}, {NULL, 0}};
static const word nonfinites[] = {{"refuse", QZ_REFUSE}, {"clip", QZ_CLIP}, {NULL, 0}};

static const word metrics[] = {{"dot", QZ_DOT}, {"cosine", QZ_COSINE}, {"l2", QZ_L2}, {NULL, 0}};

/* ---- the table ---- */

typedef enum { FLAG, TEXT, LIST, CHOICE, WHOLE, BYTES, SIGNED, REAL, GROUP, SCHEME, METHOD, SCALES, SEED, NAMED } kind;

static const struct option {
    const char *name;
    const char *value; /* what it takes, for people; NULL for a flag */
    kind kind;
    size_t place; /* in settings */
    const word *words;
    uint64_t least, most; /* of WHOLE and BYTES */
    const char *help;
} options[] = {
#define PLACE(field) offsetof(settings, field)
    {"--scheme", "NAME", SCHEME, PLACE(how.scheme), NULL, 0, 0, "4-bit representation (int4), or q8_0: 8 bits"},
    {"--group-size", "N|row", GROUP, PLACE(how.group_size), NULL, 0, 0,
     "how many neighbours share a scale (the scheme's own)"},
    {"--axis", "N", SIGNED, PLACE(how.axis), NULL, 0, 0, "axis along which groups run, from the end if negative (-1)"},
    {"--table", "FILE", TEXT, PLACE(how.table), NULL, 0, 0,
     "sixteen numbers for codes 0 to 15, instead of the scheme's"},
    {"--method", "NAME", METHOD, PLACE(how.method), NULL, 0, 0,
     "search, exact, absmax, absmax7, minmax or reference (search)"},
    {"--weights", "FILE", TEXT, PLACE(how.weights), NULL, 0, 0, "how much the square of each value's error counts"},
    {"--imatrix", "FILE", TEXT, PLACE(how.imatrix), NULL, 0, 0,
     "weights of columns, as an importance matrix of llama.cpp"},
    {"--gram", "FILE", TEXT, PLACE(how.gram), NULL, 0, 0,
     "Gram matrices of the inputs of layers: choose codes by GPTQ"},
    {"--seed", "N", SEED, PLACE(how.seed), NULL, 0, UINT64_MAX,
     "round at random to one of the two codes around a value"},
    {"--scale-dtype", "TYPE", SCALES, PLACE(how.scale_dtype), NULL, 0, 0, "type of scales (the scheme's own)"},
    {"--nonfinite", "refuse|clip", CHOICE, PLACE(output.nonfinite), nonfinites, 0, 0,
     "what to do with NaN and infinity (refuse)"},
    {"--dtype", "TYPE", CHOICE, PLACE(output.dtype), dtypes, 0, 0, "type of the decoded values (float32)"},
    {"--tensor", "NAME", TEXT, PLACE(which.tensor), NULL, 0, 0, "only this tensor"},
    {"--include", "GLOB", LIST, PLACE(which.include), NULL, 0, 0, "only tensors whose name matches; may be repeated"},
    {"--exclude", "GLOB", LIST, PLACE(which.exclude), NULL, 0, 0, "not tensors whose name matches; may be repeated"},
    {"--rule", "PATTERN=ACTION", NAMED, PLACE(which.rules), NULL, 0, 0,
     "keep tensors by name, or give them a scheme; the first match counts"},
    {"--rules", "FILE", NAMED, PLACE(which.rules), NULL, 0, 0, "such rules from a .json or .toml file"},
    {"--no-default-rules", NULL, FLAG, PLACE(which.no_default_rules), NULL, 0, 0,
     "encode embeddings, output heads and routers of models, too"},
    {"--min-size", "N", WHOLE, PLACE(which.min_size), NULL, 0, UINT64_MAX, "copy tensors of fewer values (256)"},
    {"--min-sqnr", "DB", REAL, PLACE(goal.min_sqnr), NULL, 0, 0, "least SQNR of a tensor, signal to error"},
    {"--target-bits", "BITS", REAL, PLACE(goal.target_bits), NULL, 0, 0,
     "choose a scheme for each tensor, for so many bits a value in all"},
    {"--stats", NULL, FLAG, PLACE(say.stats), NULL, 0, 0, "print the error of each tensor"},
    {"--report", "FILE", TEXT, PLACE(output.report), NULL, 0, 0,
     "write a page of HTML with tables and pictures of the errors"},
    {"--dry-run", NULL, FLAG, PLACE(output.dry_run), NULL, 0, 0, "print what would be done and write nothing"},
    {"--to", "LAYOUT", TEXT, PLACE(output.to), NULL, 0, 0,
     "layout of quantized tensors in OUT (the one that OUT's name implies)"},
    {"--requantize", NULL, FLAG, PLACE(output.requantize), NULL, 0, 0,
     "encode again what is quantized, or cannot be converted, and print the error"},
    {"--no-verify", NULL, FLAG, PLACE(output.no_verify), NULL, 0, 0,
     "do not decode both files to prove that they are the same"},
    {"--k", "N", WHOLE, PLACE(search.k), NULL, 1, 1 << 20, "how many rows to find for each query, as -k (10)"},
    {"--metric", "NAME", CHOICE, PLACE(search.metric), metrics, 0, 0,
     "dot product, cosine, or l2: squared distance, of which less is better (dot)"},
    {"--approximate", NULL, FLAG, PLACE(search.approximate), NULL, 0, 0,
     "compare the rows of a short list only: faster with many queries, and may miss a row"},
    {"--check", NULL, FLAG, PLACE(say.check), NULL, 0, 0, "read all data: verify checksums and packed values"},
    {"--force", NULL, FLAG, PLACE(output.force), NULL, 0, 0, "replace an existing output"},
    {"--no-fsync", NULL, FLAG, PLACE(output.no_fsync), NULL, 0, 0,
     "do not wait until the output is safe on the medium"},
    {"--max-shard-size", "BYTES", BYTES, PLACE(output.max_shard_size), NULL, 1, (uint64_t)1 << 62,
     "bytes of tensors in one file of a folder (5G)"},
    {"--part", "N|rest|list", TEXT, PLACE(output.part), NULL, 0, 0,
     "make one file of a folder, or all else; or list them"},
    {"--choices", "FILE", TEXT, PLACE(output.choices), NULL, 0, 0, "with --part: the choices that --part list printed"},
    {"--resume", NULL, FLAG, PLACE(output.resume), NULL, 0, 0,
     "make a folder file by file; continue a run that was stopped"},
    {"--threads", "N", WHOLE, PLACE(threads), NULL, 1, 256, "threads (all CPUs for large files, otherwise one)"},
    {"--size", "BYTES", BYTES, PLACE(size), NULL, 65536, (uint64_t)1 << 40, "bytes of float32 to work on (64M)"},
    {"--seconds", "S", REAL, PLACE(seconds), NULL, 0, 0, "about how long the whole run takes (5)"},
    {"--max-header", "BYTES", BYTES, PLACE(limits.max_header), NULL, 1, UINT64_MAX,
     "longest header of an array (10000)"},
    {"--max-ratio", "N", WHOLE, PLACE(limits.max_ratio), NULL, 1, UINT64_MAX, "highest compression of a member (200)"},
    {"--max-bytes", "BYTES", BYTES, PLACE(limits.max_bytes), NULL, 1, UINT64_MAX,
     "largest compressed member, expanded (1T)"},
    {"--max-table", "BYTES", BYTES, PLACE(limits.max_table), NULL, 1, UINT64_MAX,
     "memory for the list of a model's tensors (48M)"},
    {"--void2-as-bfloat16", NULL, FLAG, PLACE(limits.void2_bfloat16), NULL, 0, 0,
     "take two-byte elements without type as bfloat16"},
    {"--allow-trailing", NULL, FLAG, PLACE(limits.allow_trailing), NULL, 0, 0,
     "ignore what follows the array of a .npy file"},
    {"--json", NULL, FLAG, PLACE(say.json), NULL, 0, 0, "results as JSON"},
    {"--jsonl", NULL, FLAG, PLACE(say.jsonl), NULL, 0, 0, "events as they happen: one JSON object a line"},
    {"--quiet", NULL, FLAG, PLACE(say.quiet), NULL, 0, 0, "print errors only"},
    {"--help", NULL, FLAG, PLACE(say.help), NULL, 0, 0, "print this page"},
#undef PLACE
};
enum { OPTIONS = sizeof options / sizeof options[0] };

/* Whether the command takes an option: its list has every name with a space before and after. */
static int takes(const command *c, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = c->options; (at = strstr(at, name)) != NULL; at += length)
        if (at[-1] == ' ' && at[length] == ' ')
            return 1;
    return 0;
}

int option_at(const command *c, size_t i, option_text *out)
{
    for (size_t k = 0; k < OPTIONS; k++)
        if (takes(c, options[k].name) && i-- == 0) {
            *out = (option_text){options[k].name, options[k].value, options[k].help, &options[k]};
            return 1;
        }
    return 0;
}

const char *option_choice(const option_text *o, size_t i)
{
    const qz_scheme *scheme;
    switch (o->option->kind) {
    case CHOICE:
        for (const word *w = o->option->words; w->text; w++)
            if (i-- == 0)
                return w->text;
        return NULL;
    case SCHEME:
        scheme = qz_scheme_at(i);
        return scheme ? scheme->name : i > 0 && qz_scheme_at(i - 1) ? EIGHT_SCHEME : NULL;
    case METHOD:
        return qz_method_name((qz_method)i);
    case SCALES:
        return qz_dtype_name(scale_dtype_at(i));
    default:
        return NULL;
    }
}

/* ---- misspellings ---- */

/* Insertions, deletions, replacements and exchanges of neighbours that turn one word into the other. */
static size_t distance(const char *a, const char *b)
{
    enum { LONGEST = 40 };
    size_t rows[3][LONGEST + 1], n = strlen(a), m = strlen(b);
    if (n > LONGEST || m > LONGEST)
        return SIZE_MAX;
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = rows[i % 3], *before = rows[(i + 2) % 3], *two_before = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = before[j - 1] + (a[i - 1] != b[j - 1]);
            if (before[j] + 1 < best)
                best = before[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && two_before[j - 2] + 1 < best)
                best = two_before[j - 2] + 1;
            now[j] = best;
        }
    }
    return rows[n % 3][m];
}

const char *nearest(const char *given, const char *const *candidates, size_t count)
{
    const char *best = NULL;
    size_t length = strlen(given), least = length / 3 + 1; /* with more mistakes it is another word */
    for (size_t i = 0; i < count; i++) {
        int begins = length > 2 && strncmp(candidates[i], given, length) == 0; /* a word that was cut is one mistake */
        size_t d = begins ? 1 : distance(given, candidates[i]);
        if (d <= least && (!best || d < least)) {
            best = candidates[i];
            least = d;
        }
    }
    return best;
}

/* ---- values ---- */

static const char *shown(const char *text)
{
    static char out[NAME_TEXT];
    return qz_escape(text, strlen(text), out, sizeof out);
}

static int bad_value(const struct option *o, const char *value, const char *wanted)
{
    return fail(USAGE, "%s '%s': the value must be %s", o->name, shown(value), wanted);
}

void list_words(char *list, size_t size, const char *next, int last)
{
    snprintf(list + strlen(list), size - strlen(list), "%s%s", list[0] == '\0' ? "" : last ? " or " : ", ", next);
}

/* The number of the word that is the value; -1, and what the words are, if it is none. */
static int which_choice(const struct option *o, const char *value)
{
    const option_text text = {o->name, o->value, o->help, o};
    const char *words[64], *choice;
    char list[600] = "";
    size_t n = 0;
    for (; n < 64 && (choice = option_choice(&text, n)) != NULL; n++) {
        if (strcmp(choice, value) == 0)
            return (int)n;
        words[n] = choice;
    }
    for (size_t i = 0; i < n; i++)
        list_words(list, sizeof list, words[i], i + 1 == n);
    const char *guess = nearest(value, words, n);
    if (guess)
        snprintf(list + strlen(list), sizeof list - strlen(list), "; did you mean %s?", guess);
    bad_value(o, value, list);
    return -1;
}

static int read_choice(const struct option *o, const char *value, void *place)
{
    int which = which_choice(o, value);
    if (which < 0)
        return USAGE;
    if (o->kind == SCHEME)
        *(const char **)place = value;
    else
        *(int *)place = o->kind == METHOD   ? which
                        : o->kind == SCALES ? (int)scale_dtype_at((size_t)which)
                                            : o->words[which].value;
    return DONE;
}

/* A whole number, for BYTES with k, M, G or T behind it (powers of 1024). */
static int read_whole(const struct option *o, const char *value, uint64_t *place)
{
    char wanted[128], *end = NULL;
    const char *const powers = "kMGT", *power;
    snprintf(wanted, sizeof wanted, "a whole number of %" PRIu64 " or more%s", o->least,
             o->kind == BYTES ? "; k (or K), M, G or T after it multiply by 1024, 1024^2, ..." : "");
    if (o->kind == SEED)
        snprintf(wanted, sizeof wanted, "a whole number from 0 to 2^64 - 1");
    else if (o->most != UINT64_MAX)
        snprintf(wanted, sizeof wanted, "a whole number from %" PRIu64 " to %" PRIu64 "%s", o->least, o->most,
                 o->kind == BYTES ? "; k (or K), M, G or T after it multiply by 1024, 1024^2, ..." : "");
    errno = 0;
    unsigned long long number = value[0] >= '0' && value[0] <= '9' ? strtoull(value, &end, 10) : 0;
    if (!end || errno != 0)
        return bad_value(o, value, wanted);
    if (o->kind == BYTES && *end != '\0' && (power = strchr(powers, *end == 'K' ? 'k' : *end)) != NULL) {
        for (ptrdiff_t i = power - powers; i >= 0; i--) {
            if (number > UINT64_MAX / 1024)
                return bad_value(o, value, wanted);
            number *= 1024;
        }
        end++;
    }
    if (*end != '\0' || number < o->least || number > o->most)
        return bad_value(o, value, wanted);
    *place = number;
    return DONE;
}

static int add_text(text_list *list, const char *text)
{
    const char **items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (!items)
        return fail_memory();
    list->items = items;
    list->items[list->count++] = text;
    return DONE;
}

static int read_value(const struct option *o, const char *value, settings *s)
{
    void *place = (char *)s + o->place;
    char *end = NULL;
    switch (o->kind) {
    case FLAG:
        *(int *)place = 1;
        return DONE;
    case TEXT:
        *(const char **)place = value;
        return DONE;
    case NAMED:
        return add_text(place, o->name) == DONE ? add_text(place, value) : LIMIT;
    case LIST:
        return add_text(place, value);
    case CHOICE:
    case SCHEME:
    case METHOD:
    case SCALES:
        return read_choice(o, value, place);
    case SEED:
        s->how.stochastic = 1;
        return read_whole(o, value, place);
    case WHOLE:
    case BYTES:
        return read_whole(o, value, place);
    case GROUP:
        if (strcmp(value, "row") == 0) {
            *(uint64_t *)place = QZ_WHOLE_ROW;
            return DONE;
        }
        errno = 0;
        unsigned long long number = value[0] >= '0' && value[0] <= '9' ? strtoull(value, &end, 10) : 0;
        if (!end || *end != '\0' || errno != 0 || number == 0 || number > INT64_MAX)
            return bad_value(o, value, "a whole number of 1 or more, or the word row for one group a row");
        *(uint64_t *)place = number;
        return DONE;
    case SIGNED:
        errno = 0;
        *(int64_t *)place = strtoll(value, &end, 10);
        if (end == value || *end != '\0' || errno != 0 || value[0] == ' ' || *(int64_t *)place > 63 ||
            *(int64_t *)place < -64)
            return bad_value(o, value, "the number of an axis: 0 is the first, -1 the last");
        return DONE;
    case REAL:
        errno = 0;
        *(double *)place = strtod(value, &end);
        if (end == value || *end != '\0' || value[0] == ' ' || !isfinite(*(double *)place))
            return bad_value(o, value, "a number");
        return DONE;
    }
    return INTERNAL;
}

/* ---- the parser ---- */

static const struct option *find(const char *name, size_t length)
{
    for (size_t i = 0; i < OPTIONS; i++)
        if (strlen(options[i].name) == length && memcmp(options[i].name, name, length) == 0)
            return &options[i];
    return NULL;
}

static int unknown_option(const command *c, const char *given)
{
    const char *names[OPTIONS];
    size_t n = 0;
    for (size_t i = 0; i < OPTIONS; i++)
        if (takes(c, options[i].name))
            names[n++] = options[i].name;
    const char *guess = nearest(given, names, n);
    if (guess)
        return fail(USAGE, "there is no option %s; did you mean %s?", shown(given), guess);
    return fail(USAGE, "there is no option %s; 'quantize help %s' lists them", shown(given), c->name);
}

static int read_option(const command *c, int argc, char **argv, int *i, settings *s)
{
    const char *given = argv[*i];
    if (strcmp(given, "-h") == 0)
        given = "--help";
    else if (strcmp(given, "-q") == 0)
        given = "--quiet";
    else if (strcmp(given, "-f") == 0)
        given = "--force";
    else if (strcmp(given, "-k") == 0)
        given = "--k";
    const char *equals = strchr(given, '=');
    size_t length = equals ? (size_t)(equals - given) : strlen(given);
    const struct option *o = find(given, length);
    char name[64];
    snprintf(name, sizeof name, "%.*s", length < 60 ? (int)length : 60, given);
    if (!o)
        return unknown_option(c, name);
    if (!takes(c, o->name))
        return fail(USAGE, "%s is not an option of %s; 'quantize help %s' lists those", o->name, c->name, c->name);
    if (!o->value && equals)
        return fail(USAGE, "%s takes no value; leave out '%s'", o->name, shown(equals));
    if (!o->value)
        return read_value(o, NULL, s);
    if (!equals && *i + 1 == argc)
        return fail(USAGE, "%s needs a value: %s %s", o->name, o->name, o->value);
    return read_value(o, equals ? equals + 1 : argv[++*i], s);
}

int parse_arguments(const command *c, int argc, char **argv, settings *s)
{
    *s = (settings){
        .command = c->name, .how.axis = -1, .which.min_size = UINT64_MAX, .goal = {NAN, NAN}, .seconds = NAN};
    output_begin(s);
    /* These count even if another argument is wrong: then the failure is an object. */
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        s->say.json |= strcmp(argv[i], "--json") == 0;
        s->say.jsonl |= takes(c, "--jsonl") && strcmp(argv[i], "--jsonl") == 0;
    }
    int only_files = 0;
    for (int i = 0; i < argc; i++) {
        if (!only_files && strcmp(argv[i], "--") == 0) {
            only_files = 1;
        } else if (!only_files && argv[i][0] == '-' && argv[i][1] != '\0') {
            int code = read_option(c, argc, argv, &i, s);
            if (code != DONE)
                return code;
        } else if (s->file_count == c->most) {
            return fail(USAGE, "'%s' is one argument too many; usage: quantize %s %s", shown(argv[i]), c->name,
                        c->files);
        } else {
            s->files[s->file_count++] = argv[i];
        }
    }
    if (s->say.json && s->say.jsonl)
        return fail(USAGE, "--json and --jsonl are two forms of the same results; leave one out");
    if (s->say.help || s->file_count >= c->least)
        return DONE;
    return fail(USAGE, "%s missing; usage: quantize %s %s",
                c->least == 1        ? "a file is"
                : s->file_count == 0 ? "both files are"
                                     : "the second file is",
                c->name, c->files);
}

void free_arguments(settings *s)
{
    free(s->which.include.items);
    free(s->which.exclude.items);
    free(s->which.rules.items);
}
