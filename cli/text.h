/*
 * text.h - text for people: names with the characters that the terminal can show, bytes, shapes
 */
#ifndef QZ_CLI_TEXT_H
#define QZ_CLI_TEXT_H

#include "cli.h"

/* "1.5 MB"; the result lives until the fourth next call. */
const char *bytes_text(double bytes);
/* "310 M values/s", for as long. */
const char *speed_text(double per_second);
/* "[3, 4]" of a shape or index. */
char *shape_text(unsigned rank, const uint64_t *shape, char *out, size_t out_size);
/* Room for a name with escapes, safe to print. */
#define NAME_TEXT 256
/* Room for a shape of 64 axes. */
#define SHAPE_TEXT 1500

/* The length of the well-formed UTF-8 character at text[0], of which `left` bytes are there, or 0. */
size_t utf8_length(const unsigned char *text, size_t left);
/* Whether characters beyond ASCII can be printed there as they are: a terminal in a UTF-8 locale. */
int takes_utf8(int fd);
/* Prints text in which names were escaped by qz_escape(), with \u{...} as the character where `plain` allows it.
 * Returns the columns that it takes; prints nothing without a stream. */
int put_text(FILE *stream, const char *text, int plain);

#endif
