/*
 * json.c - reads JSON strictly, one token at a time
 *
 * The reader has a few states, which say what may come next, and one bit for each open container, which says whether it
 * is an array. So depth costs neither stack nor memory, and each byte is looked at once.
 */
#include "json.h"

#include <string.h>

#include "../checked.h"
#include "../error.h"

/* What may come next. */
enum {
    VALUE,
    VALUE_OR_END, /* after [ */
    KEY,
    KEY_OR_END, /* after { */
    COLON,
    COMMA_OR_END,
    NOTHING
};

void qz_json_begin(qz_json *json, char *text, size_t length, unsigned deepest)
{
    *json = (qz_json){.kind = QZ_JSON_NULL,
                      .text = text,
                      .end = length,
                      .deepest = deepest < QZ_JSON_DEEPEST ? deepest : QZ_JSON_DEEPEST,
                      .expected = VALUE};
}

static qz_json_kind refuse(qz_json *json, size_t at, const char *wrong)
{
    json->start = at;
    json->wrong = wrong;
    return json->kind = QZ_JSON_ERROR;
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The byte at `at`; 0, which is allowed nowhere, at the end. */
static char look(const qz_json *json, size_t at)
{
    return at < json->end ? json->text[at] : '\0';
}

static void skip_space(qz_json *json)
{
    while (look(json, json->at) == ' ' || look(json, json->at) == '\n' || look(json, json->at) == '\r' ||
           look(json, json->at) == '\t')
        json->at++;
}

/* ---- strings ---- */

/* Four hexadecimal digits; -1 if they are none. */
static int32_t take_hex(qz_json *json)
{
    int32_t value = 0;
    for (int i = 0; i < 4; i++, json->at++) {
        char c = look(json, json->at);
        int digit = is_digit(c)            ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static char *put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        *out++ = (char)c;
        return out;
    }
    if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
    } else {
        if (c < 0x10000) {
            *out++ = (char)(0xe0 | c >> 12);
        } else {
            *out++ = (char)(0xf0 | c >> 18);
            *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        }
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
    }
    *out++ = (char)(0x80 | (c & 0x3f));
    return out;
}

/* An escape, of which the backslash was read: writes its character to *out. Returns what is wrong, or NULL. No escape
 * is shorter than its character. */
static const char *take_escape(qz_json *json, char **out)
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    char c = look(json, json->at++);
    const char *found = c != '\0' ? strchr(letters, c) : NULL;
    if (found) {
        *(*out)++ = meant[found - letters];
        return NULL;
    }
    if (c != 'u')
        return "an escape in a string is unknown";
    int32_t high = take_hex(json);
    if (high < 0)
        return "\\u in a string is not followed by four hexadecimal digits";
    uint32_t wide = (uint32_t)high;
    if (wide >= 0xd800 && wide < 0xe000) {
        int32_t low = -1;
        if (wide < 0xdc00 && look(json, json->at) == '\\' && look(json, json->at + 1) == 'u') {
            json->at += 2;
            low = take_hex(json);
        }
        if (low < 0xdc00 || low >= 0xe000)
            return "a string has half of a pair of surrogates, which is no character";
        wide = 0x10000 + ((wide - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
    }
    *out = put_utf8(*out, wide);
    return NULL;
}

/* A string, from its quote on. */
static qz_json_kind take_string(qz_json *json, qz_json_kind kind)
{
    char *out = json->text + json->at + 1;
    json->string = out;
    json->at++;
    int plain = 1; /* ASCII without escapes */
    for (;;) {
        unsigned char c = (unsigned char)look(json, json->at);
        if (c == '"')
            break;
        if (c < 0x20)
            return refuse(json, json->at,
                          json->at >= json->end ? "a string does not end"
                                                : "a string has a control character without escape");
        if (c != '\\') {
            plain &= c < 0x80;
            *out++ = json->text[json->at++];
            continue;
        }
        size_t at = json->at++;
        plain = 0;
        const char *wrong = take_escape(json, &out);
        if (wrong)
            return refuse(json, at, wrong);
    }
    json->at++;
    *out = '\0'; /* in the place of the quote, or before it */
    json->length = (size_t)(out - json->string);
    /* Bytes that are no characters by themselves cannot become some by an escape between them. */
    if (!plain && !qz_is_utf8(json->string, json->length))
        return refuse(json, json->start, "a string is not UTF-8");
    return json->kind = kind;
}

/* ---- numbers and words ---- */

static size_t after_digits(const qz_json *json, size_t at)
{
    while (is_digit(look(json, at)))
        at++;
    return at;
}

static qz_json_kind take_number(qz_json *json)
{
    size_t at = json->at, before;
    if (look(json, at) == '-')
        at++;
    before = at;
    at = look(json, at) == '0' ? at + 1 : after_digits(json, at);
    int good = at > before;
    if (good && look(json, at) == '.') {
        before = ++at;
        at = after_digits(json, at);
        good = at > before;
    }
    if (good && (look(json, at) == 'e' || look(json, at) == 'E')) {
        at++;
        if (look(json, at) == '+' || look(json, at) == '-')
            at++;
        before = at;
        at = after_digits(json, at);
        good = at > before;
    }
    if (!good || is_digit(look(json, at)))
        return refuse(json, json->start, "a number is not written as JSON has it");
    json->string = json->text + json->at;
    json->length = at - json->at;
    json->at = at;
    return json->kind = QZ_JSON_NUMBER;
}

static qz_json_kind take_word(qz_json *json)
{
    static const struct {
        const char *word;
        qz_json_kind kind;
    } words[] = {{"true", QZ_JSON_TRUE}, {"false", QZ_JSON_FALSE}, {"null", QZ_JSON_NULL}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t n = strlen(words[i].word);
        if (json->end - json->at >= n && memcmp(json->text + json->at, words[i].word, n) == 0) {
            json->at += n;
            return json->kind = words[i].kind;
        }
    }
    return refuse(json, json->start,
                  json->at >= json->end ? "the JSON text ends too soon" : "a JSON value is expected");
}

/* ---- the grammar ---- */

/* What may follow a whole value. */
static void value_ended(qz_json *json)
{
    json->expected = json->depth == 0 ? NOTHING : COMMA_OR_END;
}

static qz_json_kind open_container(qz_json *json, int array)
{
    if (json->depth == json->deepest)
        return refuse(json, json->start, "arrays and objects are nested too deep");
    uint64_t bit = (uint64_t)1 << json->depth++;
    json->arrays = array ? json->arrays | bit : json->arrays & ~bit;
    json->expected = array ? VALUE_OR_END : KEY_OR_END;
    json->at++;
    return json->kind = array ? QZ_JSON_ARRAY : QZ_JSON_OBJECT;
}

static int in_array(const qz_json *json)
{
    return (json->arrays >> (json->depth - 1) & 1) != 0;
}

static qz_json_kind close_container(qz_json *json)
{
    int array = in_array(json);
    json->depth--;
    json->at++;
    value_ended(json);
    return json->kind = array ? QZ_JSON_ARRAY_END : QZ_JSON_OBJECT_END;
}

static qz_json_kind take_value(qz_json *json)
{
    char c = look(json, json->at);
    if (c == '{' || c == '[')
        return open_container(json, c == '[');
    qz_json_kind kind = c == '"'                  ? take_string(json, QZ_JSON_STRING)
                        : c == '-' || is_digit(c) ? take_number(json)
                                                  : take_word(json);
    if (kind != QZ_JSON_ERROR)
        value_ended(json);
    return kind;
}

static qz_json_kind take_key(qz_json *json)
{
    if (look(json, json->at) != '"')
        return refuse(json, json->at, "a key in quotes is expected");
    if (take_string(json, QZ_JSON_KEY) == QZ_JSON_ERROR)
        return QZ_JSON_ERROR;
    json->expected = COLON;
    return json->kind;
}

qz_json_kind qz_json_next(qz_json *json)
{
    if (json->kind == QZ_JSON_ERROR || json->kind == QZ_JSON_END)
        return json->kind;
    skip_space(json);
    if (json->expected == COLON) {
        if (look(json, json->at) != ':')
            return refuse(json, json->at, "a ':' is expected after a key");
        json->at++;
        json->expected = VALUE;
        skip_space(json);
    } else if (json->expected == COMMA_OR_END && look(json, json->at) == ',') {
        json->at++;
        json->expected = in_array(json) ? VALUE : KEY;
        skip_space(json);
    }
    json->start = json->at;
    char c = look(json, json->at);
    switch (json->expected) {
    case VALUE:
        return take_value(json);
    case VALUE_OR_END:
        return c == ']' ? close_container(json) : take_value(json);
    case KEY:
        return take_key(json);
    case KEY_OR_END:
        return c == '}' ? close_container(json) : take_key(json);
    case COMMA_OR_END:
        if (c == (in_array(json) ? ']' : '}'))
            return close_container(json);
        return refuse(json, json->at, in_array(json) ? "a ',' or ']' is expected" : "a ',' or '}' is expected");
    default:
        if (json->at < json->end)
            return refuse(json, json->at, "something other than white space follows the JSON value");
        return json->kind = QZ_JSON_END;
    }
}

qz_json_kind qz_json_skip(qz_json *json)
{
    if (json->kind != QZ_JSON_OBJECT && json->kind != QZ_JSON_ARRAY)
        return json->kind;
    for (unsigned outside = json->depth - 1; json->depth > outside;)
        if (qz_json_next(json) == QZ_JSON_ERROR)
            break;
    return json->kind;
}

const char *qz_json_whole(const qz_json *json, uint64_t *value)
{
    *value = 0;
    if (json->kind != QZ_JSON_NUMBER)
        return "is not a number";
    if (json->string[0] == '-')
        return "is negative";
    for (size_t i = 0; i < json->length; i++) {
        if (!is_digit(json->string[i]))
            return "is not written as a whole number";
        if (!qz_mul(*value, 10, value) || !qz_add(*value, (uint64_t)(json->string[i] - '0'), value) ||
            *value > INT64_MAX)
            return "is beyond 2^63 - 1";
    }
    return NULL;
}

int qz_json_is(const qz_json *json, const char *text)
{
    return (json->kind == QZ_JSON_KEY || json->kind == QZ_JSON_STRING) && json->length == strlen(text) &&
           memcmp(json->string, text, json->length) == 0;
}

/* ---- writing ---- */

char *qz_json_put_string(char *out, const char *text, size_t length)
{
    static const char letters[] = "\"\\bfnrt", meant[] = "\"\\\b\f\n\r\t", digits[] = "0123456789abcdef";
    *out++ = '"';
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        const char *found = c != '\0' ? strchr(meant, c) : NULL;
        if (found) {
            *out++ = '\\';
            *out++ = letters[found - meant];
        } else if (c < 0x20) {
            for (const char *at = "\\u00"; *at != '\0';)
                *out++ = *at++;
            *out++ = digits[c >> 4];
            *out++ = digits[c & 15];
        } else {
            *out++ = (char)c;
        }
    }
    *out++ = '"';
    return out;
}
