/*
 * gguf_types.c - the table of ggml's types: id, name, and the values and bytes of a block
 */
#include "gguf_types.h"

#include <string.h>

/* In the order of their ids. 4 and 5, 31 to 33 and 36 to 38 were given up; no file that is read today has them. */
static const qz_ggml_type types[] = {
    {0, "F32", 1, 4, QZ_ELEMENT_F32},         {1, "F16", 1, 2, QZ_ELEMENT_F16},
    {2, "Q4_0", 32, 18, QZ_ELEMENT_RAW},      {3, "Q4_1", 32, 20, QZ_ELEMENT_RAW},
    {6, "Q5_0", 32, 22, QZ_ELEMENT_RAW},      {7, "Q5_1", 32, 24, QZ_ELEMENT_RAW},
    {8, "Q8_0", 32, 34, QZ_ELEMENT_RAW},      {9, "Q8_1", 32, 36, QZ_ELEMENT_RAW},
    {10, "Q2_K", 256, 84, QZ_ELEMENT_RAW},    {11, "Q3_K", 256, 110, QZ_ELEMENT_RAW},
    {12, "Q4_K", 256, 144, QZ_ELEMENT_RAW},   {13, "Q5_K", 256, 176, QZ_ELEMENT_RAW},
    {14, "Q6_K", 256, 210, QZ_ELEMENT_RAW},   {15, "Q8_K", 256, 292, QZ_ELEMENT_RAW},
    {16, "IQ2_XXS", 256, 66, QZ_ELEMENT_RAW}, {17, "IQ2_XS", 256, 74, QZ_ELEMENT_RAW},
    {18, "IQ3_XXS", 256, 98, QZ_ELEMENT_RAW}, {19, "IQ1_S", 256, 50, QZ_ELEMENT_RAW},
    {20, "IQ4_NL", 32, 18, QZ_ELEMENT_RAW},   {21, "IQ3_S", 256, 110, QZ_ELEMENT_RAW},
    {22, "IQ2_S", 256, 82, QZ_ELEMENT_RAW},   {23, "IQ4_XS", 256, 136, QZ_ELEMENT_RAW},
    {24, "I8", 1, 1, QZ_ELEMENT_I8},          {25, "I16", 1, 2, QZ_ELEMENT_I16},
    {26, "I32", 1, 4, QZ_ELEMENT_I32},        {27, "I64", 1, 8, QZ_ELEMENT_I64},
    {28, "F64", 1, 8, QZ_ELEMENT_F64},        {29, "IQ1_M", 256, 56, QZ_ELEMENT_RAW},
    {30, "BF16", 1, 2, QZ_ELEMENT_BF16},      {34, "TQ1_0", 256, 54, QZ_ELEMENT_RAW},
    {35, "TQ2_0", 256, 66, QZ_ELEMENT_RAW},   {39, "MXFP4", 32, 17, QZ_ELEMENT_RAW},
    {40, "NVFP4", 64, 36, QZ_ELEMENT_RAW},    {41, "Q1_0", 128, 18, QZ_ELEMENT_RAW},
    {42, "Q2_0", 64, 18, QZ_ELEMENT_RAW},
};

enum { COUNT = sizeof types / sizeof types[0] };

const qz_ggml_type *qz_ggml_type_of(uint64_t id)
{
    for (size_t i = 0; i < COUNT; i++)
        if (types[i].id == id)
            return &types[i];
    return NULL;
}

const qz_ggml_type *qz_ggml_type_named(const char *name)
{
    for (size_t i = 0; i < COUNT; i++)
        if (strcmp(types[i].name, name) == 0)
            return &types[i];
    return NULL;
}

const qz_ggml_type *qz_ggml_type_of_element(qz_element element)
{
    for (size_t i = 0; i < COUNT; i++)
        if (types[i].element == element && element != QZ_ELEMENT_RAW)
            return &types[i];
    return NULL;
}
