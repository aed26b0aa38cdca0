/*
 * npz_writer.c - writes zip archives of arrays, uncompressed
 *
 * All sizes are known when the tensors have been declared, so each member has its place from the beginning, and data
 * can arrive in any order. Only the checksums are known later, so headers are written last. Times in the archive are
 * the first that the format can express, so that they do not change the bytes. Padding in the headers puts the data of
 * each array at a multiple of 64 bytes, so that it can be used in place.
 */
#include "npz_writer.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "../checked.h"
#include "../descriptor.h"
#include "../error.h"
#include "npy_header.h"
#include "zip.h"

enum {
    MADE_BY_UNIX = 3 << 8,
    VERSION_PLAIN = 20,
    VERSION_ZIP64 = 45,
    EPOCH_DATE = 1 << 5 | 1, /* 1980-01-01 */
    ALIGNMENT = 64,
    FILLER_LEAST = 6, /* id, length, and the alignment that is aimed at */
    ZIP64_BOTH = 20,  /* a zip64 field with two numbers */
};
#define UNIX_MODE ((uint64_t)0100644 << 16) /* a regular file, rw-r--r-- */

static const char suffix[] = ".npy";

typedef struct layout { /* of one member */
    char *npy;          /* its array header: room for the longest of the file */
    size_t npy_bytes, name_bytes, filler;
    uint64_t bytes; /* of the member: array header and data */
    int zip64;      /* its sizes need 64 bits */
} layout;

/* Memory for the array header of any tensor of the file; NULL without memory. */
static char *header_room(const qz_writer *writer, size_t *bytes)
{
    *bytes = QZ_NPY_HEADER_WRITE;
    for (size_t i = 0; i < writer->count; i++) {
        size_t room = qz_npy_room(&writer->slots[i].tensor);
        *bytes = room > *bytes ? room : *bytes;
    }
    return malloc(*bytes);
}

static void lay_out(const qz_slot *slot, layout *l)
{
    l->npy_bytes = qz_npy_format(&slot->tensor, l->npy);
    l->name_bytes = slot->tensor.name_length + sizeof suffix - 1;
    l->bytes = l->npy_bytes + slot->tensor.bytes;
    l->zip64 = l->bytes >= ZIP_MAX32;
    uint64_t before = slot->start + ZIP_LOCAL_BYTES + l->name_bytes + (l->zip64 ? ZIP64_BOTH : 0);
    l->filler = (size_t)((ALIGNMENT - before % ALIGNMENT) % ALIGNMENT);
    if (l->filler != 0 && l->filler < FILLER_LEAST)
        l->filler += ALIGNMENT;
}

static size_t header_bytes(const layout *l)
{
    return ZIP_LOCAL_BYTES + l->name_bytes + (l->zip64 ? ZIP64_BOTH : 0) + l->filler;
}

qz_file_result qz_npz_declare(qz_writer *writer, const qz_slot *slot, qz_file_error *error)
{
    const qz_tensor *tensor = &slot->tensor;
    char name[QZ_NAME_TEXT];
    qz_escape(tensor->name, tensor->name_length, name, sizeof name);
    if (tensor->name_length + sizeof suffix - 1 > ZIP_MAX16)
        return qz_fail(error, QZ_FILE_REFUSED, writer->output.label, name, QZ_NO_OFFSET,
                       "the name is too long for a .npz file");
    return QZ_FILE_OK;
}

qz_file_result qz_npz_layout(qz_writer *writer, size_t first, size_t count, qz_file_error *error)
{
    uint64_t at = 0;
    size_t room;
    layout l = {.npy = header_room(writer, &room)};
    if (!l.npy)
        return qz_fail_memory(error, writer->output.label);
    qz_file_result result = QZ_FILE_OK;
    for (size_t i = first; i < first + count && result == QZ_FILE_OK; i++) {
        qz_slot *slot = &writer->slots[i];
        slot->start = at;
        lay_out(slot, &l);
        slot->offset = at + header_bytes(&l) + l.npy_bytes;
        if (!qz_add(slot->offset, slot->tensor.bytes, &at) || at > (uint64_t)INT64_MAX)
            result = qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, NULL, QZ_NO_OFFSET,
                             "the file would have more than 2^63 - 1 bytes");
        slot->crc_start = slot->crc = (uint32_t)crc32(0, (const Bytef *)l.npy, (uInt)l.npy_bytes);
    }
    free(l.npy);
    if (result == QZ_FILE_OK)
        qz_reserve(writer->output.fd, at);
    return result;
}

void qz_npz_wrote(qz_slot *slot, const void *data, size_t bytes)
{
    const Bytef *at = data;
    while (bytes != 0) {
        uInt n = bytes < 1u << 30 ? (uInt)bytes : 1u << 30;
        slot->crc = (uint32_t)crc32(slot->crc, at, n);
        at += n;
        bytes -= n;
    }
}

/* The checksum of data that was not written in order is taken from the file. */
static qz_file_result read_back(qz_writer *writer, qz_slot *slot, qz_file_error *error)
{
    enum { PIECE = 1 << 18 };
    unsigned char *piece = malloc(PIECE);
    if (!piece)
        return qz_fail_memory(error, writer->output.label);
    slot->crc = slot->crc_start;
    qz_file_result result = QZ_FILE_OK;
    for (uint64_t done = 0; done < slot->tensor.bytes && result == QZ_FILE_OK; done += PIECE) {
        uint64_t left = slot->tensor.bytes - done;
        size_t n = left < PIECE ? (size_t)left : PIECE;
        if (!qz_pread_all(writer->output.fd, piece, n, slot->offset + done))
            result = qz_fail_errno(error, writer->output.label, "read back what was written");
        else
            qz_npz_wrote(slot, piece, n);
    }
    free(piece);
    return result;
}

/* A flag marks names that are UTF-8; names of other bytes have none. */
static unsigned flags_for(const char *name, size_t length)
{
    int ascii = 1;
    for (size_t i = 0; i < length; i++)
        ascii = ascii && (unsigned char)name[i] < 0x80;
    return ascii || !qz_is_utf8(name, length) ? 0 : ZIP_FLAG_UTF8;
}

/* The part that both kinds of header share: version to checksum and sizes. */
static uint8_t *put_common(uint8_t *at, const qz_slot *slot, const layout *l, int zip64)
{
    at = put16(at, zip64 ? VERSION_ZIP64 : VERSION_PLAIN);
    at = put16(at, flags_for(slot->tensor.name, slot->tensor.name_length));
    at = put16(at, ZIP_STORED);
    at = put16(at, 0); /* time */
    at = put16(at, EPOCH_DATE);
    at = put32(at, slot->crc);
    at = put32(at, l->zip64 ? ZIP_MAX32 : l->bytes);
    at = put32(at, l->zip64 ? ZIP_MAX32 : l->bytes);
    return put16(at, l->name_bytes);
}

static uint8_t *put_name(uint8_t *at, const qz_slot *slot)
{
    memcpy(at, slot->tensor.name, slot->tensor.name_length);
    memcpy(at + slot->tensor.name_length, suffix, sizeof suffix - 1);
    return at + slot->tensor.name_length + sizeof suffix - 1;
}

static size_t put_local(uint8_t *out, const qz_slot *slot, const layout *l)
{
    uint8_t *at = put32(out, ZIP_LOCAL);
    at = put_common(at, slot, l, l->zip64);
    at = put16(at, (l->zip64 ? ZIP64_BOTH : 0) + l->filler);
    at = put_name(at, slot);
    if (l->zip64) {
        at = put16(put16(at, ZIP_EXTRA_ZIP64), 16);
        at = put64(put64(at, l->bytes), l->bytes);
    }
    if (l->filler != 0) {
        memset(at, 0, l->filler);
        put16(put16(put16(at, ZIP_EXTRA_ALIGN), l->filler - 4), ALIGNMENT);
        at += l->filler;
    }
    memcpy(at, l->npy, l->npy_bytes);
    return (size_t)(at - out) + l->npy_bytes;
}

static size_t put_central(uint8_t *out, const qz_slot *slot, const layout *l)
{
    int far = slot->start >= ZIP_MAX32;
    size_t numbers = (l->zip64 ? 2u : 0u) + (far ? 1u : 0u);
    uint8_t *at = put32(out, ZIP_CENTRAL);
    at = put16(at, MADE_BY_UNIX | (numbers != 0 ? VERSION_ZIP64 : VERSION_PLAIN));
    at = put_common(at, slot, l, numbers != 0);
    at = put16(at, numbers != 0 ? 4 + 8 * numbers : 0);
    at = put16(at, 0); /* comment */
    at = put16(at, 0); /* part of the archive */
    at = put16(at, 0); /* text or binary: not said */
    at = put32(at, UNIX_MODE);
    at = put32(at, far ? ZIP_MAX32 : slot->start);
    at = put_name(at, slot);
    if (numbers != 0)
        at = put16(put16(at, ZIP_EXTRA_ZIP64), 8 * numbers);
    if (l->zip64)
        at = put64(put64(at, l->bytes), l->bytes);
    if (far)
        at = put64(at, slot->start);
    return (size_t)(at - out);
}

static size_t put_end(uint8_t *out, uint64_t count, uint64_t start, uint64_t bytes)
{
    uint8_t *at = out;
    if (count >= ZIP_MAX16 || start >= ZIP_MAX32 || bytes >= ZIP_MAX32) {
        at = put64(put32(at, ZIP_END64), ZIP_END64_BYTES - 12);
        at = put16(put16(at, MADE_BY_UNIX | VERSION_ZIP64), VERSION_ZIP64);
        at = put32(put32(at, 0), 0);
        at = put64(put64(at, count), count);
        at = put64(put64(at, bytes), start);
        at = put32(put32(at, ZIP_LOCATOR64), 0);
        at = put32(put64(at, start + bytes), 1);
    }
    at = put32(at, ZIP_END);
    at = put16(put16(at, 0), 0);
    at = put16(at, count < ZIP_MAX16 ? count : ZIP_MAX16);
    at = put16(at, count < ZIP_MAX16 ? count : ZIP_MAX16);
    at = put32(at, bytes < ZIP_MAX32 ? bytes : ZIP_MAX32);
    at = put32(at, start < ZIP_MAX32 ? start : ZIP_MAX32);
    at = put16(at, 0); /* comment */
    return (size_t)(at - out);
}

qz_file_result qz_npz_finish(qz_writer *writer, qz_file_error *error)
{
    enum { DIRECTORY = 1 << 18 };
    layout l;
    size_t room;
    l.npy = header_room(writer, &room);
    /* The longest header: fixed part, name, extra fields, array header. */
    size_t longest = ZIP_CENTRAL_BYTES + 65536 + 256 + room;
    uint8_t *buffer = l.npy ? malloc(longest + DIRECTORY + longest) : NULL;
    if (!buffer) {
        free(l.npy);
        return qz_fail_memory(error, writer->output.label);
    }
    uint8_t *local = buffer, *directory = buffer + longest; /* the directory is written in large pieces */
    uint64_t start = 0, at = 0;
    size_t filled = 0;
    qz_file_result result = QZ_FILE_OK;
    if (writer->count != 0) {
        const qz_slot *last = &writer->slots[writer->count - 1];
        start = last->offset + last->tensor.bytes;
    }
    int fd = writer->output.fd, good = 1;
    for (size_t i = 0; i < writer->count && result == QZ_FILE_OK && good; i++) {
        qz_slot *slot = &writer->slots[i];
        lay_out(slot, &l);
        if (slot->disordered)
            result = read_back(writer, slot, error);
        good = qz_pwrite_all(fd, local, put_local(local, slot, &l), slot->start);
        filled += put_central(directory + filled, slot, &l);
        if (good && filled >= DIRECTORY) {
            good = qz_pwrite_all(fd, directory, filled, start + at);
            at += filled;
            filled = 0;
        }
    }
    if (result == QZ_FILE_OK && good) {
        size_t end = put_end(directory + filled, writer->count, start, at + filled);
        good = qz_pwrite_all(fd, directory, filled + end, start + at);
    }
    if (result == QZ_FILE_OK && !good)
        result = qz_fail_errno(error, writer->output.label, "write");
    free(l.npy);
    free(buffer);
    return result;
}
