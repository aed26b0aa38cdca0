/*
 * unquantized.c - the layers whose weights stay floats, which some programs want to be told
 *
 * A layer is a matrix of floats called LAYER.weight. The output head is always among them unless it is quantized: where
 * a model shares it with the embedding it has no tensor, and is a layer all the same.
 */
#include "unquantized.h"

#include <string.h>

#include "../containers/json.h"
#include "../error.h"

static const char head[] = "lm_head", end[] = ".weight";

/* The member of the config that names them; NULL if the programs have none, or find out by themselves. */
static const char *member_of(const char *layout)
{
    static const struct {
        const char *layout, *member;
    } members[] = {
        {"compressed-tensors", "ignore"},
        {"bitsandbytes", "llm_int8_skip_modules"},
        {"awq", "modules_to_not_convert"},
    };
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        if (strcmp(layout, members[i].layout) == 0)
            return members[i].member;
    return NULL;
}

/* The length of LAYER; 0 for another tensor. */
static size_t layer_of(const qz_slot *slot)
{
    const qz_tensor *t = &slot->tensor;
    const size_t more = sizeof end - 1;
    int floats = t->element == QZ_ELEMENT_F16 || t->element == QZ_ELEMENT_BF16 || t->element == QZ_ELEMENT_F32 ||
                 t->element == QZ_ELEMENT_F64;
    return floats && t->rank == 2 && !slot->layout && t->name_length > more &&
                   memcmp(t->name + t->name_length - more, end, more) == 0
               ? t->name_length - more
               : 0;
}

/* Whether it is said anyway: it has a tensor of floats; or, being quantized, must not be said. */
static int has_head(const qz_writer *writer)
{
    for (size_t i = 0; i < writer->count; i++) {
        const qz_tensor *t = &writer->slots[i].tensor;
        if (t->name_length > sizeof head - 1 && memcmp(t->name, head, sizeof head - 1) == 0 &&
            t->name[sizeof head - 1] == '.')
            return 1;
    }
    return 0;
}

qz_file_result qz_say_unquantized(qz_writer *writer, qz_file_error *error)
{
    const char *member = member_of(writer->layout);
    if (!writer->said || !member || writer->said_layers)
        return QZ_FILE_OK;
    size_t said = strlen(writer->said), room = said + strlen(member) + sizeof head + 16;
    for (size_t i = 0; i < writer->count; i++)
        room += layer_of(&writer->slots[i]) * QZ_JSON_ESCAPED + 4;
    char *text = qz_arena_get(&writer->arena, room), *at = text;
    if (!text)
        return qz_fail_memory(error, writer->output.label);
    memcpy(at, writer->said, said - 1); /* without the brace at its end */
    at += said - 1;
    memcpy(at, ", ", 2);
    at = qz_json_put_string(at + 2, member, strlen(member));
    memcpy(at, ": [", 3);
    char *first = at += 3;
    if (!has_head(writer))
        at = qz_json_put_string(at, head, sizeof head - 1);
    for (size_t i = 0; i < writer->count; i++) {
        size_t length = layer_of(&writer->slots[i]);
        if (length == 0)
            continue;
        if (at != first) {
            memcpy(at, ", ", 2);
            at += 2;
        }
        at = qz_json_put_string(at, writer->slots[i].tensor.name, length);
    }
    memcpy(at, "]}", 3);
    writer->said = text;
    writer->said_layers = 1;
    return QZ_FILE_OK;
}
