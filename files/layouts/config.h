/*
 * config.h - what the file beside a checkpoint says about its quantization
 *
 * Programs keep this as "quantization_config" (or "quantization") in config.json, or in quantize_config.json. A single
 * file that was written here has it in its `__metadata__`.
 */
#ifndef QZ_LAYOUTS_CONFIG_H
#define QZ_LAYOUTS_CONFIG_H

#include "../tensors.h"

typedef struct qz_config_words { /* a text that was not there is empty, a number 0 */
    char mode[16];
    uint64_t bits;
    uint64_t group_size; /* QZ_WHOLE_ROW for -1 */
} qz_config_words;

typedef struct qz_config_module {
    const char *name;
    size_t name_length;
    qz_config_words words;
} qz_config_module;

typedef struct qz_config {
    char method[24]; /* "gptq", "awq", ... */
    char format[32]; /* "checkpoint_format" or "format" */
    char where[24];  /* the file that says it; empty: none does */
    qz_config_words words;
    qz_config_module *modules; /* that have words of their own */
    size_t module_count;
    char wrong[160]; /* why a file that is there was not understood, or empty */
    int unread;      /* the system could not read it: what is said there is not known */
} qz_config;

/* What is said about a file. It lives as long as the file. NULL without memory. */
const qz_config *qz_config_of(qz_file *file);

/* What is said about a module: its own words, or those for all. */
const qz_config_words *qz_config_module_words(const qz_config *config, const char *name, size_t name_length);

/* The text for tensors of a scheme in a layout, a JSON object; "" if such files have none. Returns `out`. */
const char *qz_config_text(const char *layout, const qz_scheme *scheme, char *out, size_t out_size);

#endif
