/*
 * config.c - reads and writes what the file beside a checkpoint says about its quantization
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../container.h"
#include "../containers/json.h"
#include "../error.h"

enum { MAX_CONFIG = 4 << 20, DEEPEST = 32 };

/* ---- understanding ---- */

typedef struct reader {
    qz_json json;
    qz_config *config;
    size_t room; /* for modules */
    qz_arena *arena;
} reader;

static void wrong(reader *r, const char *what)
{
    if (r->config->wrong[0] == '\0')
        snprintf(r->config->wrong, sizeof r->config->wrong, "%s", what);
}

static void take_text(reader *r, char *out, size_t room)
{
    char taken[32] = "";
    if (r->json.kind == QZ_JSON_STRING && r->json.length < room)
        snprintf(taken, sizeof taken, "%s", r->json.string);
    if (out[0] != '\0' && strcmp(out, taken) != 0)
        wrong(r, "says the same twice, in different words");
    snprintf(out, room, "%s", taken);
}

static void take_number(reader *r, uint64_t *out)
{
    uint64_t number = 0;
    if (r->json.kind == QZ_JSON_NUMBER && r->json.length == 2 && memcmp(r->json.string, "-1", 2) == 0)
        number = QZ_WHOLE_ROW;
    else if (r->json.kind == QZ_JSON_NUMBER && qz_json_whole(&r->json, &number))
        wrong(r, "has a number that is no size");
    if (*out != 0 && *out != number)
        wrong(r, "says the same twice, in different words");
    *out = number;
}

/* The value of a key of the words of a module, or of all. */
static int take_words(reader *r, const char *key, qz_config_words *words)
{
    if (strcmp(key, "bits") == 0 || strcmp(key, "w_bit") == 0)
        take_number(r, &words->bits);
    else if (strcmp(key, "group_size") == 0 || strcmp(key, "q_group_size") == 0)
        take_number(r, &words->group_size);
    else if (strcmp(key, "mode") == 0)
        take_text(r, words->mode, sizeof words->mode);
    else
        return 0;
    return 1;
}

static void take_module(reader *r, const char *name, size_t length)
{
    qz_config_module module = {.name = name, .name_length = length};
    while (qz_json_next(&r->json) == QZ_JSON_KEY) {
        char key[32];
        snprintf(key, sizeof key, "%s", r->json.string);
        qz_json_next(&r->json);
        take_words(r, key, &module.words);
        qz_json_skip(&r->json);
    }
    if (r->config->module_count == r->room) {
        size_t wider = r->room == 0 ? 16 : 2 * r->room;
        qz_config_module *modules = qz_arena_get(r->arena, wider * sizeof *modules);
        if (!modules) {
            wrong(r, "needs more memory than there is");
            return;
        }
        if (r->room != 0)
            memcpy(modules, r->config->modules, r->room * sizeof *modules);
        r->config->modules = modules;
        r->room = wider;
    }
    r->config->modules[r->config->module_count++] = module;
}

/* The object that says it all, of which the brace was read. */
static void take_object(reader *r)
{
    qz_config *config = r->config;
    while (qz_json_next(&r->json) == QZ_JSON_KEY) {
        const char *key = r->json.string;
        size_t length = r->json.length;
        qz_json_next(&r->json);
        if (strcmp(key, "quant_method") == 0)
            take_text(r, config->method, sizeof config->method);
        else if (strcmp(key, "checkpoint_format") == 0 || strcmp(key, "format") == 0)
            take_text(r, config->format, sizeof config->format);
        else if (!take_words(r, key, &config->words) && r->json.kind == QZ_JSON_OBJECT)
            take_module(r, key, length);
        qz_json_skip(&r->json);
    }
}

/* The text of a file, of which the object is the whole or stands under a key. Says whether it was there. */
static int understand(qz_file *file, qz_config *config, char *text, size_t length, int whole)
{
    reader r = {.config = config, .arena = &file->arena};
    int found = 0;
    qz_json_begin(&r.json, text, length, DEEPEST);
    if (qz_json_next(&r.json) == QZ_JSON_OBJECT && whole) {
        found = 1;
        take_object(&r);
    }
    while (!whole && qz_json_next(&r.json) == QZ_JSON_KEY) {
        int it = qz_json_is(&r.json, "quantization_config") || qz_json_is(&r.json, "quantization");
        if (qz_json_next(&r.json) == QZ_JSON_OBJECT && it) {
            found = 1;
            take_object(&r); /* the second time, too: MLX says it twice, and it must be the same */
        } else {
            qz_json_skip(&r.json);
        }
    }
    while (r.json.kind > QZ_JSON_END)
        qz_json_next(&r.json);
    if (r.json.kind == QZ_JSON_ERROR)
        wrong(&r, "is no JSON that can be read");
    return found || r.json.kind == QZ_JSON_ERROR;
}

/* ---- finding ---- */

/* Reads a file of the folder in which the file is. *text is NULL if there is none, or lives as long as the file. */
static qz_file_result read_beside(qz_file *file, const char *name, char **text, size_t *length)
{
    const char *path = file->input.path, *slash = path ? strrchr(path, '/') : NULL;
    size_t folder = slash ? (size_t)(slash - path) + 1 : 0;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_input input;
    char *beside = path ? qz_arena_get(&file->arena, folder + strlen(name) + 1) : NULL;
    *text = NULL;
    if (!beside)
        return path ? QZ_FILE_MEMORY : QZ_FILE_OK;
    memcpy(beside, path, folder);
    strcpy(beside + folder, name);
    qz_file_result result = qz_input_open_inside(&input, file->input.folder, beside, beside, &error);
    if (result != QZ_FILE_OK)
        return error.system == ENOENT ? QZ_FILE_OK : result;
    *length = input.size <= MAX_CONFIG ? (size_t)input.size : 0;
    *text = qz_arena_get(&file->arena, *length + 1);
    result = *text ? qz_input_read(&input, 0, *text, *length, &error) : QZ_FILE_MEMORY;
    qz_input_close(&input);
    return result;
}

/* Takes what a file beside it says. Returns 0 without memory. What is there and cannot be read is not as if it were not
 * there: nothing else is asked then. */
static int take_beside(qz_file *file, qz_config *config, const char *name, int whole)
{
    char *text;
    size_t length;
    qz_file_result result = read_beside(file, name, &text, &length);
    if (result == QZ_FILE_MEMORY)
        return 0;
    config->unread = result != QZ_FILE_OK;
    if (config->unread)
        snprintf(config->wrong, sizeof config->wrong, "cannot be read");
    if (result != QZ_FILE_OK || (text && understand(file, config, text, length, whole)))
        snprintf(config->where, sizeof config->where, "%s", name);
    return 1;
}

static char *metadata_of(qz_file *file, size_t *length)
{
    for (size_t i = 0; i < file->metadata.count; i++)
        if (strcmp(file->metadata.pairs[i].key, "quantization_config") == 0) {
            *length = file->metadata.pairs[i].value_length;
            return qz_arena_text(&file->arena, file->metadata.pairs[i].value, *length);
        }
    return NULL;
}

const qz_config *qz_config_of(qz_file *file)
{
    static const char *const files[] = {"config.json", "quantize_config.json"};
    if (file->config)
        return file->config;
    qz_config *config = qz_arena_get(&file->arena, sizeof *config);
    if (!config)
        return NULL;
    *config = (qz_config){0};
    size_t length;
    char *text = metadata_of(file, &length);
    if (text && understand(file, config, text, length, 1))
        snprintf(config->where, sizeof config->where, "__metadata__");
    for (int i = 0; i < 2 && config->where[0] == '\0'; i++)
        if (!take_beside(file, config, files[i], i == 1))
            return NULL;
    return file->config = config;
}

const qz_config_words *qz_config_module_words(const qz_config *config, const char *name, size_t name_length)
{
    for (size_t i = 0; i < config->module_count; i++) {
        const qz_config_module *module = &config->modules[i];
        if (module->name_length == name_length && memcmp(module->name, name, name_length) == 0)
            return &module->words;
    }
    return &config->words;
}

/* ---- saying ---- */

static const char *mode_of(const qz_scheme *scheme)
{
    return scheme->codes != QZ_FP4 ? "affine" : scheme->scale_dtype == QZ_E8M0 ? "mxfp4" : "nvfp4";
}

/* The group size as these files have it. */
static int64_t group_of(const qz_scheme *scheme)
{
    return scheme->group_size > (uint64_t)INT64_MAX ? -1 : (int64_t)scheme->group_size;
}

static void compressed_tensors_text(const qz_scheme *scheme, char *out, size_t out_size)
{
    int fp4 = scheme->codes == QZ_FP4;
    const char *format = !fp4                             ? "pack-quantized"
                         : scheme->scale_dtype == QZ_E8M0 ? "mxfp4-pack-quantized"
                                                          : "nvfp4-pack-quantized";
    char group[32] = "null";
    if (group_of(scheme) > 0)
        snprintf(group, sizeof group, "%" PRId64, group_of(scheme));
    snprintf(out, out_size,
             "{\"quant_method\": \"compressed-tensors\", \"format\": \"%s\", \"quantization_status\": \"compressed\", "
             "\"config_groups\": {\"group_0\": {\"targets\": [\"Linear\"], \"weights\": {\"num_bits\": 4, "
             "\"type\": \"%s\", \"symmetric\": %s, \"strategy\": \"%s\", \"group_size\": %s, \"dynamic\": false}, "
             "\"input_activations\": null, \"output_activations\": null}}}",
             format, fp4 ? "float" : "int", scheme->zero == QZ_ZERO_NONE ? "true" : "false",
             scheme->super_size != 0 ? "tensor_group"
             : group_of(scheme) > 0  ? "group"
                                     : "channel",
             group);
}

const char *qz_config_text(const char *layout, const qz_scheme *scheme, char *out, size_t out_size)
{
    int64_t group = group_of(scheme);
    out[0] = '\0';
    if (strncmp(layout, "gptq", 4) == 0)
        snprintf(out, out_size,
                 "{\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": %" PRId64
                 ", \"desc_act\": false, \"sym\": %s, \"checkpoint_format\": \"%s\"}",
                 group, scheme->zero == QZ_ZERO_NONE ? "true" : "false", layout);
    else if (strcmp(layout, "awq") == 0)
        snprintf(out, out_size,
                 "{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": %" PRId64
                 ", \"zero_point\": true, \"version\": \"gemm\"}",
                 group);
    else if (strcmp(layout, "mlx") == 0)
        snprintf(out, out_size, "{\"group_size\": %" PRId64 ", \"bits\": 4, \"mode\": \"%s\"}", group, mode_of(scheme));
    else if (strcmp(layout, "compressed-tensors") == 0)
        compressed_tensors_text(scheme, out, out_size);
    else if (strcmp(layout, "bitsandbytes") == 0)
        snprintf(out, out_size,
                 "{\"quant_method\": \"bitsandbytes\", \"load_in_4bit\": true, \"bnb_4bit_quant_type\": \"%s\", "
                 "\"bnb_4bit_use_double_quant\": false}",
                 scheme->codes == QZ_NF4 ? "nf4" : "fp4");
    else if (strcmp(layout, "modelopt") == 0)
        snprintf(out, out_size, "{\"quant_method\": \"modelopt\", \"quant_algo\": \"NVFP4\", \"group_size\": 16}");
    else if (strcmp(layout, "gpt-oss") == 0)
        snprintf(out, out_size, "{\"quant_method\": \"mxfp4\"}");
    return out;
}
