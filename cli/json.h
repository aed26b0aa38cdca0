/*
 * json.h - writes JSON, for --json, --jsonl and reports
 */
#ifndef QZ_CLI_JSON_H
#define QZ_CLI_JSON_H

#include "cli.h"

/* From now on a value is a line without breaks. */
void json_lines(void);

/* From now on values go into a page of HTML, whose markup no name can end; NULL: to stdout. */
void json_into(FILE *page);

/* Calls nest as the value does; these functions put commas and indentation. `key` is NULL in arrays. */
void json_begin(const char *key, char bracket); /* '{' or '[' */
void json_end(void);
void json_text(const char *key, const char *text);
void json_name(const char *key, const char *text, size_t length); /* any bytes */
void json_whole(const char *key, uint64_t value);
void json_signed(const char *key, int64_t value);
void json_real(const char *key, double value); /* null unless finite */
void json_bool(const char *key, int value);
void json_null(const char *key);
void json_shape(const char *key, unsigned rank, const uint64_t *shape);

#endif
