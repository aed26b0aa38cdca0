/*
 * zip_data.c - reads the data of a member of a zip archive: expands it, checks it, and reads it in any order
 *
 * A compressed member that is not read in order is expanded once, into a file without a name.
 */
#include "zip_data.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#include "../descriptor.h"
#include "../error.h"

struct qz_zip_stream { /* of a compressed member that is being read in order */
    z_stream z;
    uint64_t next, end; /* packed bytes in the file that were not read yet */
    uint8_t buffer[32768];
};

enum { MOST = 1 << 20 }; /* bytes that zlib, which counts them in 32 bits, is given at a time */

void qz_zip_stream_begin(qz_zip_stream *s, const qz_zip_data *m)
{
    inflateReset(&s->z);
    s->z.avail_in = 0;
    s->next = m->start;
    s->end = m->start + m->packed;
}

/* zlib's memory, which tests let run out as they do ours. */
static void *take_memory(void *context, uInt count, uInt each)
{
    (void)context;
    return calloc(count, each);
}

static void give_memory(void *context, void *memory)
{
    (void)context;
    free(memory);
}

qz_zip_stream *qz_zip_stream_new(void)
{
    qz_zip_stream *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->z.zalloc = take_memory;
    s->z.zfree = give_memory;
    if (inflateInit2(&s->z, -MAX_WBITS) != Z_OK) {
        free(s);
        return NULL;
    }
    return s;
}

void qz_zip_stream_free(qz_zip_stream *s)
{
    if (s)
        inflateEnd(&s->z);
    free(s);
}

static qz_file_result bad_data(const qz_input *input, const qz_zip_data *m, const char *what, qz_file_error *error)
{
    return qz_fail(error, QZ_FILE_FORMAT, input->label, "data of a member", m->start, "%s", what);
}

qz_file_result qz_zip_stream_read(qz_zip_stream *s, const qz_input *input, const qz_zip_data *m, void *dst,
                                  size_t bytes, qz_file_error *error)
{
    uint8_t spare;
    int at_end = bytes == 0;
    s->z.next_out = at_end ? &spare : dst;
    for (;;) {
        if (s->z.avail_in == 0 && s->next < s->end) {
            uint64_t left = s->end - s->next;
            size_t n = left < sizeof s->buffer ? (size_t)left : sizeof s->buffer;
            qz_file_result result = qz_input_read(input, s->next, s->buffer, n, error);
            if (result != QZ_FILE_OK)
                return result;
            s->z.next_in = s->buffer;
            s->z.avail_in = (uInt)n;
            s->next += n;
        }
        uInt room = at_end ? 1 : bytes < MOST ? (uInt)bytes : MOST;
        s->z.avail_out = room;
        int status = inflate(&s->z, Z_NO_FLUSH);
        size_t got = room - s->z.avail_out;
        if (status == Z_MEM_ERROR)
            return qz_fail_memory(error, input->label);
        if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
            return bad_data(input, m, "the compressed data is damaged", error);
        if (at_end) {
            if (got != 0)
                return bad_data(input, m, "expands to more bytes than its size says", error);
            if (status == Z_STREAM_END)
                return s->z.avail_in + (s->end - s->next) == 0
                           ? QZ_FILE_OK
                           : bad_data(input, m, "bytes follow the compressed data", error);
        }
        bytes -= got;
        if (!at_end && bytes == 0)
            return QZ_FILE_OK;
        if (status == Z_STREAM_END || status == Z_BUF_ERROR) /* nothing more could be done: the input is at its end */
            return bad_data(input, m, "expands to fewer bytes than its size says", error);
    }
}

static uint32_t crc_of(uint32_t before, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    while (bytes != 0) {
        uInt n = bytes < MOST ? (uInt)bytes : MOST;
        before = (uint32_t)crc32(before, at, n);
        at += n;
        bytes -= n;
    }
    return before;
}

/* Reads the next bytes of a member in order; checks size and checksum when the last one has been read. */
static qz_file_result read_next(const qz_input *input, qz_zip_data *m, void *dst, size_t bytes, qz_file_error *error)
{
    qz_file_result result;
    if (m->deflated) {
        if (!m->stream) {
            m->stream = qz_zip_stream_new();
            if (!m->stream)
                return qz_fail_memory(error, input->label);
            qz_zip_stream_begin(m->stream, m);
        }
        result = qz_zip_stream_read(m->stream, input, m, dst, bytes, error);
    } else {
        result = qz_input_read(input, m->start + m->position, dst, bytes, error);
    }
    if (result != QZ_FILE_OK)
        return result;
    m->running = crc_of(m->running, dst, bytes);
    m->position += bytes;
    if (m->position < m->bytes)
        return QZ_FILE_OK;
    if (m->deflated) {
        result = qz_zip_stream_read(m->stream, input, m, NULL, 0, error);
        qz_zip_stream_free(m->stream);
        m->stream = NULL;
    }
    if (result == QZ_FILE_OK && m->running != m->crc)
        return bad_data(input, m, "the checksum is wrong: the data is damaged", error);
    m->checked = result == QZ_FILE_OK;
    return result;
}

static void rewind_member(qz_zip_data *m)
{
    qz_zip_stream_free(m->stream);
    m->stream = NULL;
    m->position = 0;
    m->running = 0;
}

static int open_spool(void)
{
    const char *folder = getenv("TMPDIR");
    char path[4096];
    if (!folder || folder[0] == '\0')
        folder = "/tmp";
#if defined(O_TMPFILE)
    int unnamed = qz_above_standard(openat(AT_FDCWD, folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (unnamed >= 0)
        return unnamed;
#endif
    if ((size_t)snprintf(path, sizeof path, "%s/quantize-XXXXXX", folder) >= sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = mkstemp(path);
    if (fd >= 0)
        unlink(path);
    return qz_above_standard(fd);
}

qz_file_result qz_zip_check(const qz_input *input, qz_zip_spool *spool, qz_zip_data *m, qz_file_error *error)
{
    enum { PIECE = 1 << 16 };
    if (m->deflated && spool->fd < 0 && (spool->fd = open_spool()) < 0)
        return qz_fail_errno(error, input->label, "create a temporary file to expand a member into");
    uint8_t *piece = malloc(PIECE);
    if (!piece)
        return qz_fail_memory(error, input->label);
    qz_file_result result = QZ_FILE_OK;
    rewind_member(m);
    while (result == QZ_FILE_OK && m->position < m->bytes) {
        uint64_t at = m->position, left = m->bytes - at;
        size_t n = left < PIECE ? (size_t)left : PIECE;
        result = read_next(input, m, piece, n, error);
        if (result == QZ_FILE_OK && m->deflated && !qz_pwrite_all(spool->fd, piece, n, spool->end + at))
            result = qz_fail_errno(error, input->label, "expand a member into a temporary file");
    }
    free(piece);
    if (result == QZ_FILE_OK && m->deflated) {
        m->in_spool = 1;
        m->spooled = spool->end;
        spool->end += m->bytes;
    }
    return result;
}

qz_file_result qz_zip_data_read(const qz_input *input, qz_zip_spool *spool, qz_zip_data *m, uint64_t header,
                                uint64_t offset, void *dst, size_t bytes, qz_file_error *error)
{
    uint64_t at = header + offset;
    int available = m->deflated ? m->in_spool : m->checked;
    qz_file_result result = QZ_FILE_OK;
    /* The checksum includes the header, which was read when the file was opened. */
    while (!available && result == QZ_FILE_OK && at == header && m->position < header) {
        uint8_t skipped[512];
        uint64_t left = header - m->position;
        result = read_next(input, m, skipped, left < sizeof skipped ? (size_t)left : sizeof skipped, error);
    }
    if (result == QZ_FILE_OK && !available && at == m->position)
        return read_next(input, m, dst, bytes, error);
    if (result == QZ_FILE_OK && !available)
        result = qz_zip_check(input, spool, m, error);
    if (result != QZ_FILE_OK)
        return result;
    if (!m->deflated)
        return qz_input_read(input, m->start + at, dst, bytes, error);
    return qz_pread_all(spool->fd, dst, bytes, m->spooled + at)
               ? QZ_FILE_OK
               : qz_fail_errno(error, input->label, "read a temporary file");
}
