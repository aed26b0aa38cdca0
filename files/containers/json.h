/*
 * json.h - a strict reader of JSON, one token at a time
 *
 *     qz_json json;
 *     qz_json_begin(&json, text, length, 8);
 *     while (qz_json_next(&json) > QZ_JSON_END)
 *         ...
 *
 * It accepts exactly RFC 8259: no byte order mark, no comments, no trailing commas, and nothing but white space after
 * the value. Strings must be well-formed UTF-8, and escapes of surrogates must come in pairs. The reader neither
 * recurses nor allocates, and limits how deep arrays and objects are nested. It does not check whether keys occur
 * twice; the caller, who knows which keys matter, does.
 */
#ifndef QZ_JSON_H
#define QZ_JSON_H

#include <stddef.h>
#include <stdint.h>

typedef enum qz_json_kind {
    QZ_JSON_ERROR, /* `wrong` says what, `start` where; it stays so */
    QZ_JSON_END,   /* the whole text was read */
    QZ_JSON_OBJECT,
    QZ_JSON_OBJECT_END,
    QZ_JSON_ARRAY,
    QZ_JSON_ARRAY_END,
    QZ_JSON_KEY,
    QZ_JSON_STRING,
    QZ_JSON_NUMBER,
    QZ_JSON_TRUE,
    QZ_JSON_FALSE,
    QZ_JSON_NULL
} qz_json_kind;

#define QZ_JSON_DEEPEST 64 /* no limit can be higher */

typedef struct qz_json {
    qz_json_kind kind;  /* of the last token */
    size_t start;       /* where the last token begins */
    const char *string; /* of a key or string: unescaped, ended by a NUL that is not counted; of a number: its text */
    size_t length;
    const char *wrong; /* of QZ_JSON_ERROR */
    unsigned depth;    /* arrays and objects that are open */

    /* private */
    char *text;
    size_t at, end;
    unsigned deepest;
    uint64_t arrays; /* bit d: what is open at depth d is an array */
    int expected;
} qz_json;

/* Begins to read. The text is changed on the way, for strings are unescaped where they stand, and must live as long as
 * strings are used. */
void qz_json_begin(qz_json *json, char *text, size_t length, unsigned deepest);

qz_json_kind qz_json_next(qz_json *json);

/* After QZ_JSON_OBJECT or QZ_JSON_ARRAY: reads up to its end. After another value: does nothing. Returns the kind of
 * the last token. */
qz_json_kind qz_json_skip(qz_json *json);

/* The last token as a whole number from 0 to 2^63 - 1. Returns NULL, or what the token is instead, in words that
 * continue a sentence: "is negative". */
const char *qz_json_whole(const qz_json *json, uint64_t *value);

/* Whether the last token is a key or string of these characters. */
int qz_json_is(const qz_json *json, const char *text);

/* Writes a string in quotes, of well-formed UTF-8; what JSON does not demand to be escaped stays. Returns where it
 * ends: after at most QZ_JSON_ESCAPED bytes for each one, and 2. */
#define QZ_JSON_ESCAPED 6
char *qz_json_put_string(char *out, const char *text, size_t length);

#endif
