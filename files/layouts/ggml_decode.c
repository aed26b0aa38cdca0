/*
 * ggml_decode.c - decodes ggml's blocks whose codes do not have 4 bits
 *
 * Each product and sum is rounded to float32 in the order in which ggml computes them, so that the values are the same
 * to the last bit. In the types with K in their name, blocks have 256 values, and scales are small integers times a
 * float16.
 */
#include "ggml_decode.h"

#include <stddef.h>

#include "../eight_codes.h"

/* The float16 with the lower byte first. */
static float half(const uint8_t at[2])
{
    return qz_half_value((uint16_t)(at[0] | at[1] << 8));
}

/* ---- blocks of 32 ---- */

static void decode_q8_0(const uint8_t *block, float *values)
{
    float d = half(block);
    for (int i = 0; i < 32; i++)
        values[i] = (float)(int8_t)block[2 + i] * d;
}

/* Four bits of each code in halves, as in Q4_0, and the fifth bits of all in four bytes. */
static int code_of_five(const uint8_t fifth[4], const uint8_t fours[16], int i)
{
    int low = i < 16 ? fours[i] & 15 : fours[i - 16] >> 4;
    return low | (fifth[i / 8] >> i % 8 & 1) << 4;
}

static void decode_q5_0(const uint8_t *block, float *values)
{
    float d = half(block);
    for (int i = 0; i < 32; i++)
        values[i] = (float)(code_of_five(block + 2, block + 6, i) - 16) * d;
}

static void decode_q5_1(const uint8_t *block, float *values)
{
    float d = half(block), offset = half(block + 2);
    for (int i = 0; i < 32; i++)
        values[i] = (float)code_of_five(block + 4, block + 8, i) * d + offset;
}

/* ---- blocks of 256 ---- */

/* Two bits of value i, in two runs of 32 bytes: a byte has those of four values that are 32 apart. */
static int two_bits(const uint8_t bytes[64], int i)
{
    return bytes[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
}

static void decode_q2_k(const uint8_t *block, float *values)
{
    float d = half(block + 80), dmin = half(block + 82);
    for (int g = 0; g < 16; g++) {
        float scale = d * (float)(block[g] & 15), offset = dmin * (float)(block[g] >> 4);
        for (int i = 16 * g; i < 16 * (g + 1); i++)
            values[i] = scale * (float)two_bits(block + 16, i) - offset;
    }
}

/* The third bit of a value says that nothing is subtracted; its byte has those of eight values that are 32 apart. */
static void decode_q3_k(const uint8_t *block, float *values)
{
    const uint8_t *third = block, *twos = block + 32, *scales = block + 96;
    float d = half(block + 108);
    for (int g = 0; g < 16; g++) {
        int low = g < 8 ? scales[g] & 15 : scales[g - 8] >> 4, high = scales[8 + g % 4] >> g / 4 * 2 & 3;
        float scale = d * (float)((low | high << 4) - 32);
        for (int i = 16 * g; i < 16 * (g + 1); i++)
            values[i] = scale * (float)(two_bits(twos, i) - (third[i % 32] >> i / 32 & 1 ? 0 : 4));
    }
}

/* Six bits of scale and offset of group g, as in Q4_K. */
static void six_bits(const uint8_t s[12], int g, int *scale, int *offset)
{
    *scale = g < 4 ? s[g] & 63 : (s[g + 4] & 15) | s[g - 4] >> 6 << 4;
    *offset = g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | s[g] >> 6 << 4;
}

static void decode_q5_k(const uint8_t *block, float *values)
{
    const uint8_t *fifth = block + 16, *fours = block + 48;
    float d = half(block), dmin = half(block + 2);
    for (int g = 0; g < 8; g++) {
        int scale_bits, offset_bits;
        six_bits(block + 4, g, &scale_bits, &offset_bits);
        float scale = d * (float)scale_bits, offset = dmin * (float)offset_bits;
        for (int i = 0; i < 32; i++) {
            int code = (fours[g / 2 * 32 + i] >> g % 2 * 4 & 15) | (fifth[i] >> g & 1) << 4;
            values[32 * g + i] = scale * (float)code - offset;
        }
    }
}

static void decode_q6_k(const uint8_t *block, float *values)
{
    const uint8_t *fours = block, *twos = block + 128, *scales = block + 192;
    float d = half(block + 208);
    for (int g = 0; g < 16; g++) {
        float scale = d * (float)(int8_t)scales[g];
        for (int i = 16 * g; i < 16 * (g + 1); i++) {
            int low = fours[i / 128 * 64 + i % 64] >> i % 128 / 64 * 4 & 15;
            values[i] = scale * (float)((low | two_bits(twos, i) << 4) - 32);
        }
    }
}

/* ---- -1, 0 and 1 ---- */

static void decode_tq2_0(const uint8_t *block, float *values)
{
    float d = half(block + 64);
    for (int i = 0; i < 256; i++)
        values[i] = (float)(two_bits(block, i) - 1) * d;
}

/* A byte is a fraction of 256; its digits to the base of 3 are values that lie `apart` from each other. */
static float *decode_threes(const uint8_t *bytes, int apart, int digits, float d, float *values)
{
    static const uint8_t powers[] = {1, 3, 9, 27, 81};
    for (int digit = 0; digit < digits; digit++)
        for (int i = 0; i < apart; i++) {
            uint8_t rest = (uint8_t)(bytes[i] * powers[digit]);
            *values++ = (float)((rest * 3 >> 8) - 1) * d;
        }
    return values;
}

static void decode_tq1_0(const uint8_t *block, float *values)
{
    float d = half(block + 52);
    values = decode_threes(block, 32, 5, d, values);
    values = decode_threes(block + 32, 16, 5, d, values);
    decode_threes(block + 48, 4, 4, d, values);
}

/* ---- the table ---- */

const qz_ggml_decoding *qz_ggml_decoding_of(unsigned type)
{
    static const qz_ggml_decoding table[] = {
        [6] = {decode_q5_0, {0, 0}},      [7] = {decode_q5_1, {0, 2}},      [8] = {decode_q8_0, {0, 0}},
        [10] = {decode_q2_k, {80, 82}},   [11] = {decode_q3_k, {108, 108}}, [13] = {decode_q5_k, {0, 2}},
        [14] = {decode_q6_k, {208, 208}}, [34] = {decode_tq1_0, {52, 52}},  [35] = {decode_tq2_0, {64, 64}},
    };
    return type < sizeof table / sizeof table[0] && table[type].decode ? &table[type] : NULL;
}

int qz_ggml_finite(const qz_ggml_decoding *decoding, const uint8_t *block)
{
    enum { EXPONENT = 0x7c }; /* all its bits are set in what is infinite or no number */
    return (block[decoding->halves[0] + 1] & EXPONENT) != EXPONENT &&
           (block[decoding->halves[1] + 1] & EXPONENT) != EXPONENT;
}
