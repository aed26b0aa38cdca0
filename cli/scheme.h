/*
 * scheme.h - describes schemes in words and as JSON
 */
#ifndef QZ_CLI_SCHEME_H
#define QZ_CLI_SCHEME_H

#include "cli.h"

/* Sizes of groups and super scales in words: "32", "row", "all". */
const char *size_text(uint64_t size, char *out, size_t out_size);
void json_size(const char *key, uint64_t size);
/* What a scheme is: "int4, groups of 32, float16 scales". */
const char *scheme_text(const qz_scheme *scheme, char *out, size_t out_size);
/* Type i of scales that need no super scale, which is the scheme's; 0, which has no name, behind the last one. */
qz_dtype scale_dtype_at(size_t i);
/* Name, sizes and types as members of an object. */
void json_scheme(const qz_scheme *scheme);
#define SCHEME_TEXT 160

#endif
