/*
 * config_json.h - the member "quantization_config" of a config.json, put in and taken out
 */
#ifndef QZ_FILE_CONFIG_JSON_H
#define QZ_FILE_CONFIG_JSON_H

#include "system.h"

#include <stddef.h>

/*
 * Makes *changed the text with the member as `value` (JSON), or without it if `value` is NULL; no other byte changes.
 * It is to be released with free(), and NULL without memory. Returns NULL, or why the text must stay as it is, in words
 * that go on from "config.json": it is not understood, or the member is another program's.
 */
const char *qz_config_change(const char *text, size_t length, const char *value, char **changed, size_t *bytes);

#endif
