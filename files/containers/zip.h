/*
 * zip.h - the structure of zip archives: their records, and how they are read
 *
 *     local header, name, extra, data      for each member, from byte 0 on, without gaps
 *     central header, name, extra          for each member again
 *     [zip64 end record, zip64 locator]    if a count or offset needs more than 16 or 32 bits
 *     end record
 *
 * All numbers are little-endian. If a number of 32 bits is all ones, its value is in the zip64 extra field (id 1), with
 * 64 bits, in this order: bytes, packed bytes, offset.
 */
#ifndef QZ_ZIP_H
#define QZ_ZIP_H

#include "../error.h"
#include "../input.h"

enum {
    ZIP_LOCAL = 0x04034b50,
    ZIP_CENTRAL = 0x02014b50,
    ZIP_DESCRIPTOR = 0x08074b50,
    ZIP_END = 0x06054b50,
    ZIP_END64 = 0x06064b50,
    ZIP_LOCATOR64 = 0x07064b50,

    ZIP_LOCAL_BYTES = 30,
    ZIP_CENTRAL_BYTES = 46,
    ZIP_END_BYTES = 22,
    ZIP_END64_BYTES = 56,
    ZIP_LOCATOR64_BYTES = 20,

    ZIP_STORED = 0,
    ZIP_DEFLATED = 8,

    ZIP_FLAG_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13,
    ZIP_FLAG_DESCRIPTOR = 1 << 3, /* sizes and checksum follow the data */
    ZIP_FLAG_PATCH = 1 << 5,
    ZIP_FLAG_UTF8 = 1 << 11,

    ZIP_EXTRA_ZIP64 = 0x0001,
    ZIP_EXTRA_NAME = 0x7075,  /* a second, different name */
    ZIP_EXTRA_ALIGN = 0xd935, /* filler, so that the data is aligned */
};

#define ZIP_MAX16 0xffffu
#define ZIP_MAX32 0xffffffffu

static inline uint32_t get16(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8;
}

static inline uint32_t get32(const uint8_t *at)
{
    return get16(at) | get16(at + 2) << 16;
}

static inline uint64_t get64(const uint8_t *at)
{
    return get32(at) | (uint64_t)get32(at + 4) << 32;
}

static inline uint8_t *put16(uint8_t *at, uint64_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
    return at + 2;
}

static inline uint8_t *put32(uint8_t *at, uint64_t value)
{
    return put16(put16(at, value), value >> 16);
}

static inline uint8_t *put64(uint8_t *at, uint64_t value)
{
    return put32(put32(at, value), value >> 32);
}

/* A member, as the directory and its local header describe it. */
typedef struct qz_zip_member {
    const char *name; /* as stored, not terminated; until found() returns */
    size_t name_length;
    char shown[QZ_NAME_TEXT]; /* the name, for messages */
    uint32_t flags, method, crc;
    uint64_t packed, bytes; /* in the file, and expanded */
    uint64_t header, start; /* offsets of the local header and of the data */
} qz_zip_member;

typedef qz_file_result (*qz_zip_found)(void *context, const qz_zip_member *member);

/* Reads the directory of an archive and calls found() for each member that is sound, in the order of the directory. The
 * first result of found() other than QZ_FILE_OK ends the reading and is returned. */
qz_file_result qz_zip_read(qz_window *window, qz_zip_found found, void *context, qz_file_error *error);

#endif
