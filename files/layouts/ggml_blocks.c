/*
 * ggml_blocks.c - converts ggml's blocks of 4-bit codes to the library's plain form and back
 *
 * A block has its scales first and its codes after them. ggml halves a run of n codes: byte j holds the codes j and j +
 * n/2. In the plain form a byte holds two neighbours. Codes are moved sixteen bytes at a time, in vectors, or eight, in a
 * machine word.
 */
#include "ggml_blocks.h"

#include <string.h>

#include "../element.h"

/* ---- codes ---- */

/* Numbers in memory with the first byte lowest, whatever the machine's order is. */
static inline uint64_t take64(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return qz_big_endian() ? __builtin_bswap64(word) : word;
}

static inline void give64(uint64_t word, uint8_t *at)
{
    word = qz_big_endian() ? __builtin_bswap64(word) : word;
    memcpy(at, &word, sizeof word);
}

static inline uint64_t take32(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return qz_big_endian() ? __builtin_bswap32(word) : word;
}

static inline void give32(uint64_t number, uint8_t *at)
{
    uint32_t word = (uint32_t)number;
    word = qz_big_endian() ? __builtin_bswap32(word) : word;
    memcpy(at, &word, sizeof word);
}

#define LOW_HALVES UINT64_C(0x0f0f0f0f0f0f0f0f)

/* Of eight bytes with a code each, four bytes with two. */
static inline uint64_t squeeze(uint64_t codes)
{
    codes = (codes | codes >> 4) & UINT64_C(0x00ff00ff00ff00ff);
    codes = (codes | codes >> 8) & UINT64_C(0x0000ffff0000ffff);
    return (codes | codes >> 16) & UINT64_C(0x00000000ffffffff);
}

/* The other way. */
static inline uint64_t spread(uint64_t pairs)
{
    pairs = (pairs | pairs << 16) & UINT64_C(0x0000ffff0000ffff);
    pairs = (pairs | pairs << 8) & UINT64_C(0x00ff00ff00ff00ff);
    return (pairs | pairs << 4) & LOW_HALVES;
}

/* Sixteen bytes as eight numbers, and eight bytes: vectors that GCC and Clang have for every processor. */
typedef uint16_t words __attribute__((vector_size(16)));
typedef uint8_t bytes __attribute__((vector_size(8)));

/* Of sixteen bytes with two codes each, the low codes and the high ones, in pairs of neighbours. */
static inline void join(const uint8_t *run, uint8_t flip, bytes *low, bytes *high)
{
    words both;
    memcpy(&both, run, sizeof both);
    *low = __builtin_convertvector((both & 15) | (both >> 4 & 0xf0), bytes) ^ flip;
    *high = __builtin_convertvector((both >> 4 & 15) | (both >> 8 & 0xf0), bytes) ^ flip;
}

/* The other way. */
static inline void split(bytes low, bytes high, uint8_t flip, uint8_t *run)
{
    const words a = __builtin_convertvector(low ^ flip, words), b = __builtin_convertvector(high ^ flip, words);
    const words both = (a & 15) | (b & 15) << 4 | (a & 0xf0) << 4 | (b & 0xf0) << 8;
    memcpy(run, &both, sizeof both);
}

/* Runs of 2 * half codes, half a multiple of 8. `flip` turns bits of both codes of a byte: 8 makes two's complement of
 * what counts from -8. */
static inline void join_halves(const uint8_t *restrict run, unsigned half, uint8_t flip, uint8_t *restrict pairs)
{
    const uint64_t flips = flip * UINT64_C(0x01010101);
    unsigned i = 0;
    for (bytes low, high; i + 16 <= half && !qz_big_endian(); i += 16) {
        join(run + i, flip, &low, &high);
        memcpy(pairs + i / 2, &low, sizeof low);
        memcpy(pairs + (half + i) / 2, &high, sizeof high);
    }
    for (; i < half; i += 8) {
        uint64_t word = take64(run + i);
        give32(squeeze(word & LOW_HALVES) ^ flips, pairs + i / 2);
        give32(squeeze(word >> 4 & LOW_HALVES) ^ flips, pairs + (half + i) / 2);
    }
}

static inline void split_halves(const uint8_t *restrict pairs, unsigned half, uint8_t flip, uint8_t *restrict run)
{
    const uint64_t flips = flip * UINT64_C(0x01010101);
    unsigned i = 0;
    for (bytes low, high; i + 16 <= half && !qz_big_endian(); i += 16) {
        memcpy(&low, pairs + i / 2, sizeof low);
        memcpy(&high, pairs + (half + i) / 2, sizeof high);
        split(low, high, flip, run + i);
    }
    for (; i < half; i += 8) {
        uint64_t low = spread(take32(pairs + i / 2) ^ flips), high = spread(take32(pairs + (half + i) / 2) ^ flips);
        give64(low | high << 4, run + i);
    }
}

/* Two runs of sixteen codes, eight bytes each, which vectors take together. */
static inline void join_two(const uint8_t *restrict runs, uint8_t *restrict pairs)
{
    bytes low, high;
    if (qz_big_endian()) {
        join_halves(runs, 8, 0, pairs);
        join_halves(runs + 8, 8, 0, pairs + 8);
        return;
    }
    join(runs, 0, &low, &high);
    for (int r = 0; r < 2; r++) {
        memcpy(pairs + 8 * r, (const char *)&low + 4 * r, 4);
        memcpy(pairs + 8 * r + 4, (const char *)&high + 4 * r, 4);
    }
}

static inline void split_two(const uint8_t *restrict pairs, uint8_t *restrict runs)
{
    bytes low, high;
    if (qz_big_endian()) {
        split_halves(pairs, 8, 0, runs);
        split_halves(pairs + 8, 8, 0, runs + 8);
        return;
    }
    for (int r = 0; r < 2; r++) {
        memcpy((char *)&low + 4 * r, pairs + 8 * r, 4);
        memcpy((char *)&high + 4 * r, pairs + 8 * r + 4, 4);
    }
    split(low, high, 0, runs);
}

/* ---- scales ---- */

/* A number of two bytes, of which files have the lower one first. */
static inline void take16(const uint8_t *from, void *to, size_t i)
{
    uint16_t number = (uint16_t)(from[0] | from[1] << 8);
    memcpy((char *)to + 2 * i, &number, 2);
}

static inline void give16(const void *from, size_t i, uint8_t *to)
{
    uint16_t number;
    memcpy(&number, (const char *)from + 2 * i, 2);
    to[0] = (uint8_t)number;
    to[1] = (uint8_t)(number >> 8);
}

/* ---- a float16 scale and 32 codes, with or without an offset: Q4_0, Q4_1, IQ4_NL ---- */

static inline void unpack_half(const uint8_t *blocks, size_t count, const qz_packed *plain, int offset, uint8_t flip)
{
    const size_t start = offset ? 4 : 2;
    for (size_t i = 0; i < count; i++, blocks += start + 16) {
        take16(blocks, plain->scales, i);
        if (offset)
            take16(blocks + 2, plain->zeros, i);
        join_halves(blocks + start, 16, flip, (uint8_t *)plain->codes + 16 * i);
    }
}

static inline void pack_half(const qz_packed *plain, size_t count, uint8_t *blocks, int offset, uint8_t flip)
{
    const size_t start = offset ? 4 : 2;
    for (size_t i = 0; i < count; i++, blocks += start + 16) {
        give16(plain->scales, i, blocks);
        if (offset)
            give16(plain->zeros, i, blocks + 2);
        split_halves((const uint8_t *)plain->codes + 16 * i, 16, flip, blocks + start);
    }
}

static void unpack_q4_0(const uint8_t *blocks, size_t count, const qz_packed *plain)
{
    unpack_half(blocks, count, plain, 0, 0x88);
}

static void pack_q4_0(const qz_packed *plain, size_t count, uint8_t *blocks)
{
    pack_half(plain, count, blocks, 0, 0x88);
}

static void unpack_q4_1(const uint8_t *blocks, size_t count, const qz_packed *plain)
{
    unpack_half(blocks, count, plain, 1, 0);
}

static void pack_q4_1(const qz_packed *plain, size_t count, uint8_t *blocks)
{
    pack_half(plain, count, blocks, 1, 0);
}

static void unpack_iq4_nl(const uint8_t *blocks, size_t count, const qz_packed *plain)
{
    unpack_half(blocks, count, plain, 0, 0);
}

static void pack_iq4_nl(const qz_packed *plain, size_t count, uint8_t *blocks)
{
    pack_half(plain, count, blocks, 0, 0);
}

/* ---- Q4_K: 256 values, two float16, eight scales and eight offsets of six bits in twelve bytes ---- */

/* Four low and four high: the upper two bits of the latter are those of the bytes of the former. */
static void take_six_bits(const uint8_t s[12], uint8_t scales[8], uint8_t offsets[8])
{
    for (int i = 0; i < 4; i++) {
        scales[i] = s[i] & 63;
        offsets[i] = s[i + 4] & 63;
        scales[i + 4] = (uint8_t)((s[i + 8] & 15) | s[i] >> 6 << 4);
        offsets[i + 4] = (uint8_t)(s[i + 8] >> 4 | s[i + 4] >> 6 << 4);
    }
}

static void give_six_bits(const uint8_t scales[8], const uint8_t offsets[8], uint8_t s[12])
{
    for (int i = 0; i < 4; i++) {
        s[i] = (uint8_t)((scales[i] & 63) | (scales[i + 4] & 0x30) << 2);
        s[i + 4] = (uint8_t)((offsets[i] & 63) | (offsets[i + 4] & 0x30) << 2);
        s[i + 8] = (uint8_t)((scales[i + 4] & 15) | (offsets[i + 4] & 15) << 4);
    }
}

static void unpack_q4_k(const uint8_t *blocks, size_t count, const qz_packed *plain)
{
    for (size_t i = 0; i < count; i++, blocks += 144) {
        take16(blocks, plain->supers, 2 * i);
        take16(blocks + 2, plain->supers, 2 * i + 1);
        take_six_bits(blocks + 4, (uint8_t *)plain->scales + 8 * i, (uint8_t *)plain->zeros + 8 * i);
        for (size_t run = 0; run < 4; run++)
            join_halves(blocks + 16 + 32 * run, 32, 0, (uint8_t *)plain->codes + 128 * i + 32 * run);
    }
}

static void pack_q4_k(const qz_packed *plain, size_t count, uint8_t *blocks)
{
    for (size_t i = 0; i < count; i++, blocks += 144) {
        give16(plain->supers, 2 * i, blocks);
        give16(plain->supers, 2 * i + 1, blocks + 2);
        give_six_bits((const uint8_t *)plain->scales + 8 * i, (const uint8_t *)plain->zeros + 8 * i, blocks + 4);
        for (size_t run = 0; run < 4; run++)
            split_halves((const uint8_t *)plain->codes + 128 * i + 32 * run, 32, 0, blocks + 16 + 32 * run);
    }
}

/* ---- IQ4_XS: 256 values, a float16, the upper two bits of eight scales, the lower four of each ---- */

static void unpack_iq4_xs(const uint8_t *blocks, size_t count, const qz_packed *plain)
{
    for (size_t i = 0; i < count; i++, blocks += 136) {
        unsigned high = blocks[2] | (unsigned)blocks[3] << 8;
        take16(blocks, plain->supers, i);
        for (unsigned g = 0; g < 8; g++) {
            unsigned low = blocks[4 + g / 2] >> 4 * (g % 2) & 15;
            ((int8_t *)plain->scales)[8 * i + g] = (int8_t)((int)(low | (high >> 2 * g & 3) << 4) - 32);
            join_halves(blocks + 8 + (size_t)16 * g, 16, 0, (uint8_t *)plain->codes + 128 * i + (size_t)16 * g);
        }
    }
}

static void pack_iq4_xs(const qz_packed *plain, size_t count, uint8_t *blocks)
{
    for (size_t i = 0; i < count; i++, blocks += 136) {
        unsigned high = 0;
        give16(plain->supers, i, blocks);
        memset(blocks + 4, 0, 4);
        for (unsigned g = 0; g < 8; g++) {
            unsigned scale = (unsigned)(((const int8_t *)plain->scales)[8 * i + g] + 32);
            blocks[4 + g / 2] |= (uint8_t)((scale & 15) << 4 * (g % 2));
            high |= (scale >> 4 & 3) << 2 * g;
            split_halves((const uint8_t *)plain->codes + 128 * i + (size_t)16 * g, 16, 0, blocks + 8 + (size_t)16 * g);
        }
        blocks[2] = (uint8_t)high;
        blocks[3] = (uint8_t)(high >> 8);
    }
}

/* ---- scales of a byte each: MXFP4, and NVFP4 with four in a block ---- */

static void unpack_mxfp4(const uint8_t *blocks, size_t count, const qz_packed *plain)
{
    for (size_t i = 0; i < count; i++, blocks += 17) {
        ((uint8_t *)plain->scales)[i] = blocks[0];
        join_halves(blocks + 1, 16, 0, (uint8_t *)plain->codes + 16 * i);
    }
}

static void pack_mxfp4(const qz_packed *plain, size_t count, uint8_t *blocks)
{
    for (size_t i = 0; i < count; i++, blocks += 17) {
        blocks[0] = ((const uint8_t *)plain->scales)[i];
        split_halves((const uint8_t *)plain->codes + 16 * i, 16, 0, blocks + 1);
    }
}

static void unpack_nvfp4(const uint8_t *blocks, size_t count, const qz_packed *plain)
{
    for (size_t i = 0; i < count; i++, blocks += 36) {
        memcpy((uint8_t *)plain->scales + 4 * i, blocks, 4);
        for (size_t two = 0; two < 2; two++)
            join_two(blocks + 4 + 16 * two, (uint8_t *)plain->codes + 32 * i + 16 * two);
    }
}

static void pack_nvfp4(const qz_packed *plain, size_t count, uint8_t *blocks)
{
    for (size_t i = 0; i < count; i++, blocks += 36) {
        memcpy(blocks, (const uint8_t *)plain->scales + 4 * i, 4);
        for (size_t two = 0; two < 2; two++)
            split_two((const uint8_t *)plain->codes + 32 * i + 16 * two, blocks + 4 + 16 * two);
    }
}

/* ---- the table ---- */

static const qz_ggml_packing table[] = {
    {2, "Q4_0", "q4_0", 32, 18, "|V18", 0, 2, 0, 0, unpack_q4_0, pack_q4_0},
    {3, "Q4_1", "q4_1", 32, 20, "|V20", 0, 2, 2, 0, unpack_q4_1, pack_q4_1},
    {12, "Q4_K", "q4_k", 256, 144, "|V144", 0, 8, 8, 4, unpack_q4_k, pack_q4_k},
    {20, "IQ4_NL", "iq4_nl", 32, 18, "|V18", 0, 2, 0, 0, unpack_iq4_nl, pack_iq4_nl},
    {23, "IQ4_XS", "iq4_xs", 256, 136, "|V136", 0, 8, 0, 2, unpack_iq4_xs, pack_iq4_xs},
    {39, "MXFP4", "mxfp4", 32, 17, "|V17", 0, 1, 0, 0, unpack_mxfp4, pack_mxfp4},
    {40, "NVFP4", "nvfp4", 64, 36, "|V36", 0x80, 4, 0, 0, unpack_nvfp4, pack_nvfp4},
};
enum { COUNT = sizeof table / sizeof table[0] };

const qz_ggml_packing *qz_ggml_packing_at(size_t i)
{
    return i < COUNT ? &table[i] : NULL;
}

const qz_ggml_packing *qz_ggml_packing_of(unsigned type)
{
    for (size_t i = 0; i < COUNT; i++)
        if (table[i].type == type)
            return &table[i];
    return NULL;
}
