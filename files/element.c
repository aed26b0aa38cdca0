/*
 * element.c - types of elements: their names and sizes, the bytes of a shape, byte order
 */
#include "element.h"

#include <string.h>

#include "checked.h"
#include "error.h"

static const struct {
    qz_element element;
    unsigned bytes;
    const char *name;
} elements[] = {
    {QZ_ELEMENT_F32, 4, "float32"},   {QZ_ELEMENT_F64, 8, "float64"}, {QZ_ELEMENT_F16, 2, "float16"},
    {QZ_ELEMENT_BF16, 2, "bfloat16"}, {QZ_ELEMENT_I8, 1, "int8"},     {QZ_ELEMENT_I16, 2, "int16"},
    {QZ_ELEMENT_I32, 4, "int32"},     {QZ_ELEMENT_I64, 8, "int64"},   {QZ_ELEMENT_U8, 1, "uint8"},
    {QZ_ELEMENT_U16, 2, "uint16"},    {QZ_ELEMENT_U32, 4, "uint32"},  {QZ_ELEMENT_U64, 8, "uint64"},
    {QZ_ELEMENT_BOOL, 1, "bool"},     {QZ_ELEMENT_RAW, 1, "raw"},
};

size_t qz_element_size(qz_element element)
{
    for (size_t i = 0; i < sizeof elements / sizeof elements[0]; i++)
        if (elements[i].element == element)
            return elements[i].bytes;
    return 0;
}

const char *qz_element_name(qz_element element)
{
    for (size_t i = 0; i < sizeof elements / sizeof elements[0]; i++)
        if (elements[i].element == element)
            return elements[i].name;
    return NULL;
}

int qz_shape_count(unsigned rank, const uint64_t *shape, uint64_t element_bytes, uint64_t *count, uint64_t *bytes)
{
    uint64_t product = 1;
    int empty = 0;
    for (unsigned i = 0; i < rank; i++) {
        if (shape[i] == 0)
            empty = 1;
        else if (!qz_mul(product, shape[i], &product) || product > QZ_MAX_BYTES)
            return 0;
    }
    if (!qz_mul(product, element_bytes, bytes) || *bytes > QZ_MAX_BYTES)
        return 0;
    *count = empty ? 0 : product;
    if (empty)
        *bytes = 0;
    return 1;
}

void qz_swap(void *data, size_t element_bytes, size_t count)
{
    unsigned char *at = data;
    for (size_t i = 0; i < count; i++, at += element_bytes)
        for (size_t low = 0, high = element_bytes - 1; low < high; low++, high--) {
            unsigned char kept = at[low];
            at[low] = at[high];
            at[high] = kept;
        }
}

qz_file_result qz_fail_type(qz_file_error *error, const char *label, const char *field, const qz_tensor *tensor,
                            const char *words)
{
    const char *type = tensor->element == QZ_ELEMENT_RAW ? tensor->type : qz_element_name(tensor->element);
    const int is_void2 = strcmp(type + 1, "V2") == 0;
    return qz_fail_option(error, QZ_FILE_REFUSED, is_void2 ? QZ_OPTION_VOID2 : QZ_OPTION_NONE, label, field,
                          QZ_NO_OFFSET, "is of type %s, which %s", type, words);
}
