/*
 * rule_file.c - reads a file of rules, in JSON or in TOML
 */
#include "rule_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "output.h"
#include "text.h"

/* A file of rules is written by hand, or by a small program. */
enum { LONGEST_FILE = 1 << 20 };

/* Where the reading is. Texts of strings are unescaped where they stand. */
typedef struct cursor {
    const char *path; /* safe to print */
    char *text;
    size_t length, at;
    unsigned line;
    size_t line_start;
    int toml;
    rule_taker take;
    void *context;
} cursor;

/* A rule while it is read: its texts, NULL until they are there. */
typedef struct entry {
    const char *match, *action;
    unsigned line;
} entry;

/* ---- characters ---- */

static int fail_at(const cursor *c, const char *what)
{
    return fail(MALFORMED, "%s: line %u, column %zu: %s", c->path, c->line, c->at - c->line_start + 1, what);
}

/* The next character, or -1 at the end. */
static int peek(const cursor *c)
{
    return c->at < c->length ? (unsigned char)c->text[c->at] : -1;
}

static void end_line(cursor *c)
{
    c->line++;
    c->line_start = c->at;
}

/* Skips spaces and, where `lines` says so, ends of lines. */
static void skip_space(cursor *c, int lines)
{
    for (int next = peek(c); next == ' ' || next == '\t' || (lines && (next == '\n' || next == '\r')); next = peek(c)) {
        c->at++;
        if (next == '\n')
            end_line(c);
    }
}

static int expect(cursor *c, char wanted, const char *what)
{
    if (peek(c) != wanted)
        return fail_at(c, what);
    c->at++;
    return DONE;
}

/* ---- strings ---- */

/* Digits of a hexadecimal number; UINT32_MAX if they are none. */
static uint32_t read_hex(cursor *c, unsigned digits)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < digits; i++, c->at++) {
        int digit = peek(c);
        if (digit >= '0' && digit <= '9')
            value = value << 4 | (uint32_t)(digit - '0');
        else if ((digit | 32) >= 'a' && (digit | 32) <= 'f')
            value = value << 4 | (uint32_t)((digit | 32) - 'a' + 10);
        else
            return UINT32_MAX;
    }
    return value;
}

/* A character by its number, after the backslash: uXXXX, in JSON two of them for a pair of surrogates, in TOML
 * UXXXXXXXX. UINT32_MAX if it is none. */
static uint32_t read_number(cursor *c)
{
    uint32_t first = read_hex(c, c->text[c->at++] == 'u' ? 4 : 8);
    if (c->toml || first < 0xd800 || first > 0xdbff)
        return first >= 0xd800 && first <= 0xdfff ? UINT32_MAX : first;
    if (c->length - c->at < 2 || c->text[c->at] != '\\' || c->text[c->at + 1] != 'u')
        return UINT32_MAX;
    c->at += 2;
    uint32_t second = read_hex(c, 4);
    return second < 0xdc00 || second > 0xdfff ? UINT32_MAX : 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
}

/* Writes a character as UTF-8, which is no longer than its escape. */
static char *put_utf8(char *out, uint32_t value)
{
    static const unsigned char leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    unsigned bytes = value < 0x80 ? 1 : value < 0x800 ? 2 : value < 0x10000 ? 3 : 4;
    for (unsigned i = bytes; i-- > 1; value >>= 6)
        out[i] = (char)(0x80 | (value & 0x3f));
    out[0] = (char)(leads[bytes] | value);
    return out + bytes;
}

/* What stands behind a backslash. */
static int read_escape(cursor *c, char **out)
{
    static const char names[] = "\"\\bfnrt/", values[] = "\"\\\b\f\n\r\t/";
    int next = peek(c);
    const char *which = next > 0 ? strchr(names, next) : NULL;
    if (which && !(c->toml && next == '/')) {
        *(*out)++ = values[which - names];
        c->at++;
        return DONE;
    }
    const size_t start = c->at;
    uint32_t value = next == 'u' || (c->toml && next == 'U') ? read_number(c) : UINT32_MAX;
    if (value == 0 || value > 0x10ffff) {
        c->at = start;
        return fail_at(c, "this is no escape of a character that a name can have; write \\\\ for a backslash");
    }
    *out = put_utf8(*out, value);
    return DONE;
}

/* Reads a string in quotes: in "..." with escapes, in TOML also in '...' without. */
static int read_string(cursor *c, const char **text)
{
    const int quote = peek(c);
    if (quote != '"' && !(c->toml && quote == '\''))
        return fail_at(c, c->toml ? "a string in \"...\" or '...' is needed" : "a string in \"...\" is needed");
    if (c->toml && c->length - c->at >= 3 && c->text[c->at + 1] == quote && c->text[c->at + 2] == quote)
        return fail_at(c, "strings of several lines are not read here; write it in one line");
    char *out = c->text + ++c->at;
    *text = out;
    for (int next = peek(c); next != quote; next = peek(c)) {
        if (next < 0 || next == '\n' || next == '\r')
            return fail_at(c, "the string does not end in its line; put a quote behind it");
        if ((next < 0x20 && next != '\t') || next == 0x7f || (next == '\t' && !c->toml))
            return fail_at(c, "a control character in a string; write it as \\u and four digits");
        c->at++;
        if (next != '\\' || quote == '\'')
            *out++ = (char)next;
        else if (read_escape(c, &out) != DONE)
            return MALFORMED;
    }
    c->at++;
    *out = '\0'; /* where the quote is, or before it */
    return DONE;
}

/* ---- rules ---- */

static int set_member(cursor *c, entry *e, const char *key, size_t length, const char **text)
{
    const char **place = length == 5 && memcmp(key, "match", 5) == 0    ? &e->match
                         : length == 6 && memcmp(key, "action", 6) == 0 ? &e->action
                                                                        : NULL;
    if (!place)
        return fail_at(c, "a rule has two members, match and action; this is another one");
    if (*place)
        return fail_at(c, "the rule has this member twice; leave one out");
    *text = NULL;
    return read_string(c, place);
}

static int end_rule(const cursor *c, const entry *e)
{
    if (e->match && e->action)
        return c->take(c->context, e->match, e->action, e->line);
    return fail(MALFORMED, "%s: line %u: the rule has no %s; it needs match and action", c->path, e->line,
                e->match ? "action" : "match");
}

/* ---- JSON ---- */

/* Reads what follows an element: 1 after a comma, 0 after the closing bracket, -1: neither. */
static int goes_on(cursor *c, char closing)
{
    skip_space(c, 1);
    int next = peek(c);
    if (next != ',' && next != closing)
        return -1;
    c->at++;
    skip_space(c, 1);
    return next == ',';
}

static int read_json_key(cursor *c, const char **key)
{
    int code = read_string(c, key);
    skip_space(c, 1);
    if (code == DONE)
        code = expect(c, ':', "a ':' is needed here");
    skip_space(c, 1);
    return code;
}

static int read_json_rule(cursor *c)
{
    entry e = {.line = c->line};
    const char *key, *text;
    int more = 1, code = expect(c, '{', "a rule is needed: {\"match\": \"...\", \"action\": \"...\"}");
    skip_space(c, 1);
    while (code == DONE && more == 1) {
        code = read_json_key(c, &key);
        if (code == DONE)
            code = set_member(c, &e, key, strlen(key), &text);
        if (code == DONE && (more = goes_on(c, '}')) < 0)
            code = fail_at(c, "a ',' or '}' is needed here");
    }
    return code == DONE ? end_rule(c, &e) : code;
}

static int read_json_list(cursor *c)
{
    int more = 1, code = expect(c, '[', "a list of rules is needed: [{\"match\": \"...\", \"action\": \"...\"}]");
    skip_space(c, 1);
    while (code == DONE && more == 1) {
        code = read_json_rule(c);
        if (code == DONE && (more = goes_on(c, ']')) < 0)
            code = fail_at(c, "a ',' or ']' is needed here");
    }
    return code;
}

static int read_json(cursor *c)
{
    static const char shape[] = "the file must be {\"rule\": [{\"match\": \"...\", \"action\": \"...\"}, ...]}";
    const char *key = "";
    skip_space(c, 1);
    int code = expect(c, '{', shape);
    skip_space(c, 1);
    if (code == DONE)
        code = read_json_key(c, &key);
    if (code == DONE && strcmp(key, "rule") != 0)
        code = fail_at(c, shape);
    if (code == DONE)
        code = read_json_list(c);
    if (code == DONE && goes_on(c, '}') != 0)
        code = fail_at(c, "a '}' is needed here");
    if (code == DONE && c->at != c->length)
        code = fail_at(c, "nothing may follow here");
    return code;
}

/* ---- TOML ---- */

static int read_line_end(cursor *c)
{
    skip_space(c, 0);
    if (peek(c) == '#')
        while (peek(c) >= 0 && peek(c) != '\n' && peek(c) != '\r') {
            if ((peek(c) < 0x20 && peek(c) != '\t') || peek(c) == 0x7f)
                return fail_at(c, "a control character in a comment; leave it out");
            c->at++;
        }
    if (peek(c) == '\r' && c->at + 1 < c->length && c->text[c->at + 1] == '\n')
        c->at++;
    if (peek(c) < 0)
        return DONE;
    if (expect(c, '\n', "the line must end here") != DONE)
        return MALFORMED;
    end_line(c);
    return DONE;
}

static int read_toml_member(cursor *c, entry *e)
{
    const char *text, *key = c->text + c->at;
    size_t length = 0;
    while (peek(c) >= 0 && (peek(c) == '_' || peek(c) == '-' || (peek(c) >= '0' && peek(c) <= '9') ||
                            ((peek(c) | 32) >= 'a' && (peek(c) | 32) <= 'z')))
        c->at++, length++;
    if (length == 0)
        return fail_at(c, "only [[rule]], match = \"...\" and action = \"...\" are read here");
    if (e->line == 0)
        return fail_at(c, "[[rule]] is needed in a line before this one");
    skip_space(c, 0);
    int code = expect(c, '=', "only a name and '=' with a string behind it are read here");
    skip_space(c, 0);
    return code == DONE ? set_member(c, e, key, length, &text) : code;
}

static int read_toml(cursor *c)
{
    static const char head[] = "[[rule]]";
    entry e = {.line = 0};
    int code = DONE;
    while (code == DONE && peek(c) >= 0) {
        skip_space(c, 0);
        if (peek(c) == '[') {
            if (c->length - c->at < sizeof head - 1 || memcmp(c->text + c->at, head, sizeof head - 1) != 0)
                return fail_at(c, "the only table that is read here is [[rule]]");
            code = e.line != 0 ? end_rule(c, &e) : DONE;
            e = (entry){.line = c->line};
            c->at += sizeof head - 1;
        } else if (peek(c) >= 0 && !strchr("#\r\n", peek(c))) {
            code = read_toml_member(c, &e);
        }
        if (code == DONE)
            code = read_line_end(c);
    }
    return code == DONE && e.line != 0 ? end_rule(c, &e) : code;
}

/* ---- the file ---- */

static int read_all(const char *path, const char *shown, char **text, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return fail_system(path, errno);
    *text = malloc(LONGEST_FILE + 1);
    if (!*text) {
        fclose(file);
        return fail_memory();
    }
    errno = 0;
    *length = fread(*text, 1, LONGEST_FILE + 1, file);
    int wrong = ferror(file), number = errno;
    fclose(file);
    if (wrong)
        return fail_system(path, number);
    return *length <= LONGEST_FILE ? DONE : fail(LIMIT, "%s: a file of rules has at most 1 MiB", shown);
}

/* All of the text must be UTF-8, as both formats want it. */
static int check_utf8(cursor *c)
{
    while (c->at < c->length) {
        size_t bytes = utf8_length((const unsigned char *)c->text + c->at, c->length - c->at);
        if (bytes == 0)
            return fail_at(c, "this is not UTF-8");
        c->at += bytes;
        if (c->text[c->at - 1] == '\n')
            end_line(c);
    }
    c->at = c->line_start = 0;
    c->line = 1;
    return DONE;
}

static int ends_in(const char *path, const char *extension)
{
    size_t length = strlen(path), wanted = strlen(extension);
    return length > wanted && strcasecmp(path + length - wanted, extension) == 0;
}

int read_rule_file(const char *path, rule_taker take, void *context)
{
    char shown[NAME_TEXT];
    qz_escape(path, strlen(path), shown, sizeof shown);
    cursor c = {.path = shown, .line = 1, .toml = ends_in(path, ".toml"), .take = take, .context = context};
    if (!c.toml && !ends_in(path, ".json"))
        return fail(USAGE, "--rules %s: the name must end in .json or .toml, which says how the file is written",
                    shown);
    int code = read_all(path, shown, &c.text, &c.length);
    if (code == DONE)
        code = check_utf8(&c);
    if (code == DONE)
        code = c.toml ? read_toml(&c) : read_json(&c);
    free(c.text);
    return code;
}
