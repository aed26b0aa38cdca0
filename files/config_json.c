/*
 * config_json.c - adds and removes the member of a config.json that says how tensors are quantized
 *
 * The text is not written anew, because the order of members, their numbers and white space are the user's: only the
 * bytes of this one member change. Removing a member that was added gives the old text again. The functions work on
 * memory and read no files.
 */
#include "config_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "containers/json.h"

typedef struct place { /* where things are in the text */
    const char *name;  /* of the member */
    size_t members;    /* of the object */
    size_t found;      /* those of the name */
    size_t key, next;  /* where the member begins, and what follows it: a key, or the end of the object */
    size_t end;        /* the bracket that ends the object */
    int ours;          /* this program wrote the member */
} place;

/* Reads the rest of an object. Whether its "quant_method" is this program. */
static int is_ours(qz_json *json)
{
    int ours = 0;
    while (qz_json_next(json) == QZ_JSON_KEY) {
        int method = qz_json_is(json, "quant_method");
        if (qz_json_next(json) == QZ_JSON_STRING && method)
            ours = qz_json_is(json, "quantize");
        else
            qz_json_skip(json);
    }
    return ours;
}

static const char *look(char *text, size_t length, place *p)
{
    qz_json json;
    int was_it = 0;
    qz_json_begin(&json, text, length, QZ_JSON_DEEPEST);
    qz_json_kind kind = qz_json_next(&json);
    if (kind != QZ_JSON_OBJECT)
        return kind == QZ_JSON_ERROR ? "is no valid JSON" : "is no object";
    while ((kind = qz_json_next(&json)) == QZ_JSON_KEY) {
        int is_it = qz_json_is(&json, p->name);
        if (was_it)
            p->next = json.start;
        if (is_it)
            p->key = json.start;
        was_it = is_it;
        p->members++;
        p->found += (size_t)is_it;
        if (qz_json_next(&json) == QZ_JSON_OBJECT && is_it)
            p->ours = is_ours(&json);
        else
            qz_json_skip(&json);
    }
    p->end = json.start;
    if (was_it)
        p->next = p->end;
    if (kind != QZ_JSON_OBJECT_END || qz_json_next(&json) != QZ_JSON_END)
        return "is no valid JSON, or nested too deeply";
    if (p->found > 1)
        return "has two members of one name that say how tensors are quantized";
    return NULL;
}

/* Where the white space before a place begins. */
static size_t before_space(const char *text, size_t at)
{
    while (at > 0 && strchr(" \t\r\n", text[at - 1]))
        at--;
    return at;
}

/* Where the member's value ends. */
static size_t value_end(const char *text, const place *p)
{
    size_t end = before_space(text, p->next);
    return p->next == p->end ? end : before_space(text, end - 1);
}

/* The text with the bytes from `from` to `to` replaced. */
static void splice(const char *text, size_t length, size_t from, size_t to, const char *put, char **changed,
                   size_t *bytes)
{
    size_t more = strlen(put);
    *bytes = length - (to - from) + more;
    *changed = malloc(*bytes + 1);
    if (!*changed)
        return;
    memcpy(*changed, text, from);
    memcpy(*changed + from, put, more);
    memcpy(*changed + from + more, text + to, length - to);
}

static void put_in(const char *text, size_t length, const place *p, const char *value, char **changed, size_t *bytes)
{
    size_t end = before_space(text, p->end), from = p->found ? p->key : end, to = p->found ? value_end(text, p) : end;
    const char *comma = p->found || p->members == 0 ? "" : ",";
    const char *space = p->found ? "" : memchr(text + end, '\n', p->end - end) ? "\n  " : p->members ? " " : "";
    size_t room = strlen(value) + strlen(p->name) + 17;
    char *put = malloc(room);
    if (!put)
        return;
    snprintf(put, room, "%s%s\"%s\": %s", comma, space, p->name, value);
    splice(text, length, from, to, put, changed, bytes);
    free(put);
}

static void take_out(const char *text, size_t length, const place *p, char **changed, size_t *bytes)
{
    size_t from = p->key, to = p->next;
    if (p->found == 0) {
        from = to = 0;
    } else if (p->next == p->end) { /* the last one: a comma before it goes, and what follows it stays */
        from = before_space(text, p->key) - (p->members > 1);
        to = value_end(text, p);
    }
    splice(text, length, from, to, "", changed, bytes);
}

const char *qz_config_change(const char *text, size_t length, const char *name, const char *value, int whose,
                             char **changed, size_t *bytes)
{
    place p = {.name = name};
    *changed = NULL;
    char *copy = malloc(length + 1); /* strings are unescaped where they stand */
    if (!copy)
        return NULL;
    memcpy(copy, text, length);
    copy[length] = '\0';
    const char *wrong = look(copy, length, &p);
    free(copy);
    if (!wrong && p.found == 1 && !p.ours && whose == QZ_CONFIG_OURS)
        wrong = "has the quantization_config of another program";
    if (!wrong && value)
        put_in(text, length, &p, value, changed, bytes);
    else if (!wrong)
        take_out(text, length, &p, changed, bytes);
    return wrong;
}
