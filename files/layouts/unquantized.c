/*
 * unquantized.c - lists the layers whose weights stay floats, for programs whose configuration names them
 *
 * A layer is a matrix of floats called LAYER.weight. The output head is in the list unless it is quantized: in a model
 * that shares it with the embedding it has no tensor, but it is a layer.
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

static char *put_text(char *at, const char *text)
{
    while (*text)
        *at++ = *text++;
    return at;
}

/* An array of the layers. */
static char *put_list(const qz_writer *writer, const char *member, char *at)
{
    at = qz_json_put_string(at, member, strlen(member));
    at = put_text(at, ": [");
    const char *first = at;
    if (!has_head(writer))
        at = qz_json_put_string(at, head, sizeof head - 1);
    for (size_t i = 0; i < writer->count; i++) {
        const size_t length = layer_of(&writer->slots[i]);
        if (length == 0)
            continue;
        at = put_text(at, at == first ? "" : ", ");
        at = qz_json_put_string(at, writer->slots[i].tensor.name, length);
    }
    return put_text(at, "]");
}

/* ---- GPTQ ----
 *
 * GPTQModel and older vLLM leave out what a key of `dynamic` that begins with "-:" matches, an expression as of
 * Python's re.match(). transformers (Optimum) and newer vLLM quantize only what `modules_in_block_to_quantize` has, by
 * the ends of names or by parts of them, of which whole names are the longest. */

/* The length of LAYER of a quantized one; 0 for another tensor. */
static size_t quantized_layer_of(const qz_slot *slot)
{
    static const char codes[] = ".qweight";
    const qz_tensor *t = &slot->tensor;
    const size_t more = sizeof codes - 1;
    return t->element == QZ_ELEMENT_I32 && t->rank == 2 && t->name_length > more &&
                   memcmp(t->name + t->name_length - more, codes, more) == 0
               ? t->name_length - more
               : 0;
}

/* Programs do not look for the codes of a head unless they are told that there are some. */
static int has_quantized_head(const qz_writer *writer)
{
    int found = 0;
    for (size_t i = 0; i < writer->count; i++) {
        const size_t length = quantized_layer_of(&writer->slots[i]);
        found |= length == sizeof head - 1 && memcmp(writer->slots[i].tensor.name, head, length) == 0;
    }
    return found;
}

/* An expression that matches the whole name and nothing else, as a string of JSON. */
static char *put_expression(char *at, const char *name, size_t length, char *room)
{
    char *tail = put_text(room, "-:^");
    for (size_t i = 0; i < length; i++) {
        if (strchr("\\^$.|?*+()[]{}", name[i]))
            *tail++ = '\\';
        *tail++ = name[i];
    }
    *tail++ = '$';
    return qz_json_put_string(at, room, (size_t)(tail - room));
}

static char *put_gptq(const qz_writer *writer, char *room, char *at)
{
    at = put_text(at, "\"modules_in_block_to_quantize\": [[");
    const char *first = at;
    for (size_t i = 0; i < writer->count; i++) {
        const size_t length = quantized_layer_of(&writer->slots[i]);
        if (length == 0)
            continue;
        at = put_text(at, at == first ? "" : ", ");
        at = qz_json_put_string(at, writer->slots[i].tensor.name, length);
    }
    at = put_text(at, "]], \"dynamic\": {");
    first = at;
    for (size_t i = 0; i < writer->count; i++) {
        const size_t length = layer_of(&writer->slots[i]);
        if (length == 0)
            continue;
        at = put_text(at, at == first ? "" : ", ");
        at = put_expression(at, writer->slots[i].tensor.name, length, room);
        at = put_text(at, ": {}");
    }
    return put_text(at, has_quantized_head(writer) ? "}, \"lm_head\": true" : "}");
}

/* ---- what is said ---- */

qz_file_result qz_say_unquantized(qz_writer *writer, qz_file_error *error)
{
    const char *member = member_of(writer->layout);
    const int gptq = strncmp(writer->layout, "gptq", 4) == 0;
    if (!writer->said.text || (!member && !gptq) || writer->said.has_layers)
        return QZ_FILE_OK;
    enum { AROUND = 128, BETWEEN = 16 }; /* what stands around all names, and around each */
    const size_t said = strlen(writer->said.text);
    size_t room = said + AROUND, longest = 0;
    for (size_t i = 0; i < writer->count; i++) {
        const size_t length = writer->slots[i].tensor.name_length;
        room += 2 * length * QZ_JSON_ESCAPED + BETWEEN;
        longest = length > longest ? length : longest;
    }
    char *text = qz_arena_get(&writer->arena, room), *name = qz_arena_get(&writer->arena, 2 * longest + BETWEEN);
    if (!text || !name)
        return qz_fail_memory(error, writer->output.label);
    memcpy(text, writer->said.text, said - 1); /* without the brace at its end */
    char *at = put_text(text + said - 1, ", ");
    at = gptq ? put_gptq(writer, name, at) : put_list(writer, member, at);
    *put_text(at, "}") = '\0';
    writer->said.text = text;
    writer->said.has_layers = 1;
    return QZ_FILE_OK;
}
