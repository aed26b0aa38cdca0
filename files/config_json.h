/*
 * config_json.h - adds and removes the member of a config.json that says how tensors are quantized
 */
#ifndef QZ_FILE_CONFIG_JSON_H
#define QZ_FILE_CONFIG_JSON_H

#include "system.h"

#include <stddef.h>

/* Whose member is changed: one that this program wrote, or any. */
enum { QZ_CONFIG_OURS, QZ_CONFIG_ANY };

/*
 * Makes *changed the text with the member `name` as `value` (JSON), or without it if `value` is NULL; no other byte
 * changes. It is to be released with free(), and NULL without memory. Returns NULL, or why the text must stay as it is,
 * in words that go on from "config.json": it is not understood, or the member is another program's.
 */
const char *qz_config_change(const char *text, size_t length, const char *name, const char *value, int whose,
                             char **changed, size_t *bytes);

#endif
