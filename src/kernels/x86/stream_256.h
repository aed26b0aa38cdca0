/*
 * stream_256.h - stores that bypass the cache, for AVX2 and AVX-512
 *
 * It is included after simd_template.h. The vocabulary also has stream_line(to, from), which stores a line of 64 bytes.
 */

/* Whole lines bypass the cache; the ends, which share a line with a neighbour, go the ordinary way. No masked stores
 * here: even an empty one waits for all stores that are under way (AMD Zen 5, a third of the speed). */
static TARGET void stream(void *dst, const void *src, size_t bytes)
{
    char *to = dst;
    const char *from = src;
    size_t head = (0 - (uintptr_t)to) & 63, i = bytes < head + 64 ? bytes : head;
    if (i > 0)
        memcpy(to, from, i);
    for (; i + 64 <= bytes; i += 64)
        stream_line(to + i, from + i);
    if (i < bytes)
        memcpy(to + i, from + i, bytes - i);
}

static TARGET void stream_end(void)
{
    _mm_sfence();
}
