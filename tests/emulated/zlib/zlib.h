/*
 * The small part of zlib's interface that the file library uses, for cross builds, which have zlib only for the machine
 * they run on: checksums are right, and nothing is inflated or deflated. Tests of archives are compiled, and not run.
 */
#ifndef QZ_EMULATED_ZLIB_H
#define QZ_EMULATED_ZLIB_H

#include <stddef.h>

typedef unsigned char Bytef;
typedef unsigned int uInt;
typedef unsigned long uLong;

typedef struct z_stream {
    Bytef *next_in, *next_out;
    uInt avail_in, avail_out;
    uLong total_in, total_out;
    void *(*zalloc)(void *opaque, uInt items, uInt size);
    void (*zfree)(void *opaque, void *address);
} z_stream;

enum {
    Z_OK = 0,
    Z_STREAM_END = 1,
    Z_NO_FLUSH = 0,
    Z_SYNC_FLUSH = 2,
    Z_FINISH = 4,
    Z_DATA_ERROR = -3,
    Z_MEM_ERROR = -4,
    Z_BUF_ERROR = -5,
    Z_DEFLATED = 8,
    Z_DEFAULT_STRATEGY = 0
};
#define Z_NULL    NULL
#define MAX_WBITS 15

static inline uLong crc32(uLong sum, const Bytef *data, uInt n)
{
    sum = ~sum & 0xffffffff;
    for (uInt i = 0; data && i < n; i++) {
        sum ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            sum = sum >> 1 ^ (sum & 1 ? 0xedb88320 : 0);
    }
    return ~sum & 0xffffffff;
}

static inline int inflateInit2(z_stream *stream, int bits)
{
    (void)stream, (void)bits;
    return Z_OK;
}

static inline int inflateReset(z_stream *stream)
{
    (void)stream;
    return Z_OK;
}

static inline int inflate(z_stream *stream, int flush)
{
    (void)stream, (void)flush;
    return Z_DATA_ERROR;
}

static inline int inflateEnd(z_stream *stream)
{
    (void)stream;
    return Z_OK;
}

static inline int deflateInit2(z_stream *stream, int level, int method, int bits, int memory, int strategy)
{
    (void)stream, (void)level, (void)method, (void)bits, (void)memory, (void)strategy;
    return Z_MEM_ERROR;
}

static inline int deflate(z_stream *stream, int flush)
{
    (void)stream, (void)flush;
    return Z_DATA_ERROR;
}

static inline int deflateEnd(z_stream *stream)
{
    (void)stream;
    return Z_OK;
}

#endif
