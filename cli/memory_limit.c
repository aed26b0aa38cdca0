/*
 * memory_limit.c - the loops of memory_limit.h, once for each width of vectors
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* madvise */
#endif
#include "memory_limit.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

struct loops {
    size_t vector;
    void (*read)(const char *src, size_t bytes);
    void (*write)(char *dst, size_t bytes);
    void (*stream)(char *dst, size_t bytes);
    void (*stream_copy)(char *dst, const char *src, size_t bytes);
};

/* Where what was read goes, so that no compiler leaves reading out. */
static volatile char sink;

/* The functions read_NAME and so on, for vectors of type T and instructions TARGET. LOAD and STORE take any address;
 * PASS, the store past the caches, wants one that is a multiple of sizeof(T). END makes such stores visible in order.
 */
#define LOOPS(NAME, TARGET, T, LOAD, STORE, PASS, XOR, ONE, END)                                                       \
    TARGET static void read_##NAME(const char *p, size_t bytes)                                                        \
    {                                                                                                                  \
        T a = ONE, b = a, c = a, d = a;                                                                                \
        for (size_t i = 0; i + 4 * sizeof(T) <= bytes; i += 4 * sizeof(T)) {                                           \
            a = XOR(a, LOAD(p + i));                                                                                   \
            b = XOR(b, LOAD(p + i + sizeof(T)));                                                                       \
            c = XOR(c, LOAD(p + i + 2 * sizeof(T)));                                                                   \
            d = XOR(d, LOAD(p + i + 3 * sizeof(T)));                                                                   \
        }                                                                                                              \
        char all[sizeof(T)];                                                                                           \
        STORE(all, XOR(XOR(a, b), XOR(c, d)));                                                                         \
        sink = all[0];                                                                                                 \
    }                                                                                                                  \
    TARGET static void write_##NAME(char *p, size_t bytes)                                                             \
    {                                                                                                                  \
        T v = ONE;                                                                                                     \
        for (size_t i = 0; i + 4 * sizeof(T) <= bytes; i += 4 * sizeof(T)) {                                           \
            STORE(p + i, v);                                                                                           \
            STORE(p + i + sizeof(T), v);                                                                               \
            STORE(p + i + 2 * sizeof(T), v);                                                                           \
            STORE(p + i + 3 * sizeof(T), v);                                                                           \
        }                                                                                                              \
    }                                                                                                                  \
    TARGET static void stream_##NAME(char *p, size_t bytes)                                                            \
    {                                                                                                                  \
        T v = ONE;                                                                                                     \
        for (size_t i = 0; i + 4 * sizeof(T) <= bytes; i += 4 * sizeof(T)) {                                           \
            PASS(p + i, v);                                                                                            \
            PASS(p + i + sizeof(T), v);                                                                                \
            PASS(p + i + 2 * sizeof(T), v);                                                                            \
            PASS(p + i + 3 * sizeof(T), v);                                                                            \
        }                                                                                                              \
        END;                                                                                                           \
    }                                                                                                                  \
    TARGET static void stream_copy_##NAME(char *p, const char *from, size_t bytes)                                     \
    {                                                                                                                  \
        for (size_t i = 0; i + sizeof(T) <= bytes; i += sizeof(T))                                                     \
            PASS(p + i, LOAD(from + i));                                                                               \
        END;                                                                                                           \
    }                                                                                                                  \
    static const struct loops loops_##NAME = {sizeof(T), read_##NAME, write_##NAME, stream_##NAME, stream_copy_##NAME};

#if defined(__x86_64__)
#define LOAD_512(p)     _mm512_loadu_si512(p)
#define STORE_512(p, v) _mm512_storeu_si512(p, v)
#define PASS_512(p, v)  _mm512_stream_si512((void *)(p), v)
#define LOAD_256(p)     _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define STORE_256(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define PASS_256(p, v)  _mm256_stream_si256((__m256i *)(void *)(p), v)
#define LOAD_128(p)     _mm_loadu_si128((const __m128i *)(const void *)(p))
#define STORE_128(p, v) _mm_storeu_si128((__m128i *)(void *)(p), v)
#define PASS_128(p, v)  _mm_stream_si128((__m128i *)(void *)(p), v)

LOOPS(512, __attribute__((target("avx512f"))), __m512i, LOAD_512, STORE_512, PASS_512, _mm512_xor_si512,
      _mm512_set1_epi32(0x3f800000), _mm_sfence())
LOOPS(256, __attribute__((target("avx2"))), __m256i, LOAD_256, STORE_256, PASS_256, _mm256_xor_si256,
      _mm256_set1_epi32(0x3f800000), _mm_sfence())
LOOPS(128, , __m128i, LOAD_128, STORE_128, PASS_128, _mm_xor_si128, _mm_set1_epi32(0x3f800000), _mm_sfence())

static const struct loops *best(void)
{
    if (__builtin_cpu_supports("avx512f"))
        return &loops_512;
    return __builtin_cpu_supports("avx2") ? &loops_256 : &loops_128;
}
#else
/* Vectors of GCC and Clang, which have no stores past the caches in common. */
typedef uint32_t words __attribute__((vector_size(16)));

static inline words load_words(const char *p)
{
    words v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store_words(char *p, words v)
{
    memcpy(p, &v, sizeof v);
}

#define XOR_WORDS(a, b) ((a) ^ (b))

LOOPS(128, , words, load_words, store_words, store_words, XOR_WORDS,
      ((words){0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000}), (void)0)

static const struct loops *best(void)
{
    return &loops_128;
}
#endif

void *limit_memory(size_t bytes)
{
    enum { HUGE_PAGE = 2 << 20 };
    size_t room = (bytes + 4096 + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    char *start = malloc(room + HUGE_PAGE);
    if (!start)
        return NULL;
    char *p = start + HUGE_PAGE - (uintptr_t)start % HUGE_PAGE; /* at least 16 bytes behind it, as malloc has it */
#ifdef MADV_HUGEPAGE
    (void)madvise(p, room, MADV_HUGEPAGE);
#endif
    memset(p, 0, room);
    memcpy(p - sizeof start, &start, sizeof start);
    return p;
}

void limit_free(void *memory)
{
    char *start = NULL;
    if (memory)
        memcpy(&start, (char *)memory - sizeof start, sizeof start);
    free(start);
}

size_t limit_vector(void)
{
    return best()->vector;
}

void limit_read(const void *src, size_t bytes)
{
    best()->read(src, bytes);
}

void limit_write(void *dst, size_t bytes)
{
    best()->write(dst, bytes);
}

void limit_stream(void *dst, size_t bytes)
{
    best()->stream(dst, bytes);
}

void limit_copy(void *dst, const void *src, size_t bytes)
{
    memcpy(dst, src, bytes);
}

void limit_stream_copy(void *dst, const void *src, size_t bytes)
{
    best()->stream_copy(dst, src, bytes);
}
