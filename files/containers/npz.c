/*
 * npz.c - reading zip archives of arrays
 *
 * Strict: every byte of the archive must belong to exactly one record, and records that say the same thing must agree.
 * What is left is an archive that all readers understand alike.
 */
#include "npz_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "../checked.h"
#include "../container.h"
#include "../descriptor.h"
#include "../error.h"
#include "npy_header.h"
#include "zip.h"

/* ---- state ---- */

typedef struct stream { /* of a compressed member that is being read in order */
    z_stream z;
    uint64_t next, end; /* packed bytes in the file that were not read yet */
    uint8_t buffer[32768];
} stream;

typedef struct member {
    uint64_t start;    /* of the data in the file */
    uint64_t packed;   /* bytes in the file */
    uint64_t bytes;    /* bytes when expanded */
    uint64_t position; /* bytes that were read in order */
    uint64_t spooled;  /* where it begins in the spool, if `in_spool` */
    uint32_t crc, running;
    uint8_t deflated, checked, in_spool;
    stream *stream;
} member;

typedef struct archive {
    member *members; /* one for each entry of the file */
    size_t capacity;
    int spool; /* unnamed temporary file for expanded members, or -1 */
    uint64_t spool_end;
} archive;

/* What the central directory says of a member, and what is only needed while opening. */
typedef struct record {
    const char *name; /* as stored, not terminated */
    size_t name_length;
    uint32_t flags, method, crc;
    uint64_t packed, bytes, header;
} record;

typedef struct extent { /* of a member, from its local header to the end of its data */
    uint64_t start, end;
    uint64_t packed, bytes;
    uint32_t crc;
    int descriptor;
} extent;

typedef struct opener {
    qz_file *file;
    archive *archive;
    qz_file_error *error;
    stream *stream;
    extent *extents;
    size_t extent_count;
    uint64_t central, central_bytes, count; /* the directory */
    uint64_t skipped;
    int pickled; /* a member is called .../data.pkl, as in files of PyTorch */
    /* A piece of the file, so that small reads that lie together cost one system call. */
    uint64_t window_start;
    size_t window_bytes;
    uint8_t window[1024];
} opener;

static qz_file_result refuse(const opener *o, const char *field, uint64_t offset, const char *what)
{
    return qz_fail(o->error, QZ_FILE_FORMAT, o->file->input.label, field, offset, "%s", what);
}

/* ---- the end records ---- */

static qz_file_result read_end64(opener *o, const uint8_t *end, uint64_t end_at, const uint8_t *locator)
{
    uint64_t locator_at = end_at - ZIP_LOCATOR64_BYTES, record_at = get64(locator + 8);
    uint8_t r[ZIP_END64_BYTES];
    if (get32(locator + 4) != 0 || get32(locator + 16) != 1)
        return refuse(o, "zip64 locator", locator_at, "the archive has several parts");
    if (!qz_within(record_at, ZIP_END64_BYTES, locator_at))
        return refuse(o, "zip64 locator", locator_at, "points outside the archive");
    qz_file_result result = qz_input_read(&o->file->input, record_at, r, sizeof r, o->error);
    if (result != QZ_FILE_OK)
        return result;
    if (get32(r) != ZIP_END64 || get64(r + 4) != locator_at - record_at - 12)
        return refuse(o, "zip64 end record", record_at, "is not where the locator says, or has another length");
    if (get32(r + 16) != 0 || get32(r + 20) != 0 || get64(r + 24) != get64(r + 32))
        return refuse(o, "zip64 end record", record_at, "the archive has several parts");
    o->count = get64(r + 32), o->central_bytes = get64(r + 40), o->central = get64(r + 48);
    /* The short record either refers to the long one or says the same. */
    if ((get16(end + 8) != ZIP_MAX16 && get16(end + 8) != o->count) ||
        (get16(end + 10) != ZIP_MAX16 && get16(end + 10) != o->count) ||
        (get32(end + 12) != ZIP_MAX32 && get32(end + 12) != o->central_bytes) ||
        (get32(end + 16) != ZIP_MAX32 && get32(end + 16) != o->central))
        return refuse(o, "zip64 end record", record_at, "disagrees with the end record");
    if (!qz_within(o->central, o->central_bytes, record_at) || o->central + o->central_bytes != record_at)
        return refuse(o, "zip64 end record", record_at,
                      "the directory does not end here: bytes were put before the archive or into it");
    return QZ_FILE_OK;
}

/* Finds the directory. The end record is the last thing in the file but for a comment, whose length it gives. */
static qz_file_result find_directory(opener *o)
{
    enum { TAIL = ZIP_END_BYTES + ZIP_MAX16 + ZIP_LOCATOR64_BYTES };
    const qz_input *input = &o->file->input;
    size_t n = input->size < TAIL ? (size_t)input->size : TAIL, at = 0;
    int found = 0;
    uint8_t *tail = malloc(n + 1);
    if (tail == NULL)
        return qz_fail_memory(o->error, input->label);
    qz_file_result result = qz_input_read(input, input->size - n, tail, n, o->error);
    for (size_t i = 0; result == QZ_FILE_OK && i + ZIP_END_BYTES <= n; i++)
        if (get32(tail + i) == ZIP_END && i + ZIP_END_BYTES + get16(tail + i + 20) == n)
            at = i, found++;
    uint64_t end_at = input->size - n + at;
    const uint8_t *end = tail + at;
    if (result != QZ_FILE_OK) {
    } else if (found == 0) {
        result = refuse(o, NULL, QZ_NO_OFFSET,
                        "the archive has no end record: the file is cut off, or bytes were appended to it");
    } else if (found > 1) {
        result = refuse(o, "end record", end_at, "there is another one before it, so that the content is unclear");
    } else if (at >= ZIP_LOCATOR64_BYTES && get32(end - ZIP_LOCATOR64_BYTES) == ZIP_LOCATOR64) {
        result = read_end64(o, end, end_at, end - ZIP_LOCATOR64_BYTES);
    } else {
        o->count = get16(end + 10), o->central_bytes = get32(end + 12), o->central = get32(end + 16);
        if (get16(end + 4) != 0 || get16(end + 6) != 0 || get16(end + 8) != o->count)
            result = refuse(o, "end record", end_at, "the archive has several parts");
        else if (!qz_within(o->central, o->central_bytes, end_at) || o->central + o->central_bytes != end_at)
            result = refuse(o, "end record", end_at,
                            "the directory does not end here: bytes were put before the archive or into it");
    }
    free(tail);
    if (result == QZ_FILE_OK && o->count > o->central_bytes / ZIP_CENTRAL_BYTES)
        result = refuse(o, "end record", QZ_NO_OFFSET, "counts more members than its directory can hold");
    return result;
}

/* ---- one member ---- */

/* Reads the extra fields of a header: replaces the numbers that are all ones (`wide` of them, in order) by those of the
 * zip64 field. `sizes`: the two sizes of a local header, or NULL. Python before 3.11.4 repeats them in a zip64 field,
 * which NumPy asks for; there they must be the same. */
static const char *read_extra(const uint8_t *extra, size_t length, uint64_t **wide, size_t wide_count,
                              const uint64_t *sizes)
{
    int seen = 0;
    for (size_t at = 0; at < length;) {
        if (length - at < 4 || get16(extra + at + 2) > length - at - 4)
            return "an extra field reaches beyond the header";
        const uint8_t *field = extra + at + 4;
        size_t bytes = get16(extra + at + 2);
        if (get16(extra + at) == ZIP_EXTRA_NAME)
            return "gives the member a second name";
        if (get16(extra + at) == ZIP_EXTRA_ZIP64) {
            if (seen)
                return "has two zip64 fields";
            if (sizes != NULL && wide_count == 0 && bytes == 16) {
                if (get64(field) != sizes[0] || get64(field + 8) != sizes[1])
                    return "its zip64 field has other sizes than the header";
            } else if (bytes != 8 * wide_count) {
                return "its zip64 field does not have the numbers that it should";
            }
            for (size_t i = 0; i < wide_count; i++)
                *wide[i] = get64(field + 8 * i);
            seen = 1;
        }
        at += 4 + bytes;
    }
    return wide_count != 0 && !seen ? "a zip64 field is missing" : NULL;
}

static qz_file_result peek(opener *o, uint64_t offset, void *dst, size_t bytes)
{
    const qz_input *input = &o->file->input;
    if (bytes > sizeof o->window || !qz_within(offset, bytes, input->size))
        return qz_input_read(input, offset, dst, bytes, o->error);
    if (offset < o->window_start || !qz_within(offset - o->window_start, bytes, o->window_bytes)) {
        uint64_t left = input->size - offset;
        o->window_bytes = left < sizeof o->window ? (size_t)left : sizeof o->window;
        o->window_start = offset;
        qz_file_result result = qz_input_read(input, offset, o->window, o->window_bytes, o->error);
        if (result != QZ_FILE_OK) {
            o->window_bytes = 0;
            return result;
        }
    }
    memcpy(dst, o->window + (offset - o->window_start), bytes);
    return QZ_FILE_OK;
}

/* Compares the header before the data with the directory; *start becomes the offset of the data. */
static qz_file_result check_local(opener *o, const record *r, const char *shown, uint64_t *start)
{
    uint8_t h[ZIP_LOCAL_BYTES];
    char field[QZ_NAME_TEXT + 32];
    snprintf(field, sizeof field, "header of member '%s'", shown);
    qz_file_result result = peek(o, r->header, h, sizeof h);
    if (result != QZ_FILE_OK)
        return result;
    if (get32(h) != ZIP_LOCAL)
        return refuse(o, field, r->header, "is not where the directory says");
    size_t name_length = get16(h + 26), extra_length = get16(h + 28), more = name_length + extra_length;
    if (!qz_within(r->header + ZIP_LOCAL_BYTES, more, o->central))
        return refuse(o, field, r->header, "reaches into the directory");
    if (name_length != r->name_length || get16(h + 6) != r->flags || get16(h + 8) != r->method)
        return refuse(o, field, r->header, "disagrees with the directory on name, flags or method");
    uint8_t *text = malloc(more + 1);
    if (text == NULL)
        return qz_fail_memory(o->error, o->file->input.label);
    result = peek(o, r->header + ZIP_LOCAL_BYTES, text, more);
    uint64_t packed = get32(h + 18), bytes = get32(h + 22), *wide[2];
    size_t wide_count = 0;
    if (bytes == ZIP_MAX32)
        wide[wide_count++] = &bytes;
    if (packed == ZIP_MAX32)
        wide[wide_count++] = &packed;
    if (result == QZ_FILE_OK) {
        const uint64_t sizes[2] = {bytes, packed};
        const char *wrong = read_extra(text + name_length, extra_length, wide, wide_count, sizes);
        int later = (r->flags & ZIP_FLAG_DESCRIPTOR) != 0 && get32(h + 14) == 0 && packed == 0 && bytes == 0;
        if (wrong == NULL && memcmp(text, r->name, name_length) != 0)
            wrong = "disagrees with the directory on the name";
        if (wrong == NULL && !later && (get32(h + 14) != r->crc || packed != r->packed || bytes != r->bytes))
            wrong = "disagrees with the directory on sizes or checksum";
        if (wrong != NULL)
            result = refuse(o, field, r->header, wrong);
    }
    free(text);
    *start = r->header + ZIP_LOCAL_BYTES + more;
    if (result == QZ_FILE_OK && !qz_within(*start, r->packed, o->central))
        result = refuse(o, field, r->header, "the data reaches into the directory");
    return result;
}

/* ---- data of a member ---- */

static void stream_begin(stream *s, const member *m)
{
    inflateReset(&s->z);
    s->z.avail_in = 0;
    s->next = m->start;
    s->end = m->start + m->packed;
}

static stream *stream_new(void)
{
    stream *s = calloc(1, sizeof *s);
    if (s != NULL && inflateInit2(&s->z, -MAX_WBITS) != Z_OK) {
        free(s);
        s = NULL;
    }
    return s;
}

static void stream_free(stream *s)
{
    if (s != NULL)
        inflateEnd(&s->z);
    free(s);
}

static qz_file_result bad_data(const qz_input *input, const member *m, const char *what, qz_file_error *error)
{
    return qz_fail(error, QZ_FILE_FORMAT, input->label, "data of a member", m->start, "%s", what);
}

/* Expands exactly `bytes` bytes. With bytes 0, checks that nothing more comes. */
static qz_file_result stream_read(stream *s, const qz_input *input, const member *m, void *dst, size_t bytes,
                                  qz_file_error *error)
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
        uInt room = at_end ? 1 : bytes < 1u << 30 ? (uInt)bytes : 1u << 30;
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
                return s->z.avail_in == 0 && s->next == s->end
                           ? QZ_FILE_OK
                           : bad_data(input, m, "bytes follow the compressed data", error);
        }
        bytes -= got;
        if (!at_end && bytes == 0)
            return QZ_FILE_OK;
        if (status == Z_STREAM_END || (got == 0 && s->z.avail_in == 0 && s->next == s->end))
            return bad_data(input, m, "expands to fewer bytes than its size says", error);
    }
}

static uint32_t crc_of(uint32_t before, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    while (bytes != 0) {
        uInt n = bytes < 1u << 30 ? (uInt)bytes : 1u << 30;
        before = (uint32_t)crc32(before, at, n);
        at += n;
        bytes -= n;
    }
    return before;
}

/* Reads the next bytes of a member in order; checks size and checksum when the last one has been read. */
static qz_file_result read_next(const qz_input *input, member *m, void *dst, size_t bytes, qz_file_error *error)
{
    qz_file_result result;
    if (m->deflated) {
        if (m->stream == NULL) {
            m->stream = stream_new();
            if (m->stream == NULL)
                return qz_fail_memory(error, input->label);
            stream_begin(m->stream, m);
        }
        result = stream_read(m->stream, input, m, dst, bytes, error);
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
        result = stream_read(m->stream, input, m, NULL, 0, error);
        stream_free(m->stream);
        m->stream = NULL;
    }
    if (result == QZ_FILE_OK && m->running != m->crc)
        return bad_data(input, m, "the checksum is wrong: the data is damaged", error);
    m->checked = result == QZ_FILE_OK;
    return result;
}

static void rewind_member(member *m)
{
    stream_free(m->stream);
    m->stream = NULL;
    m->position = 0;
    m->running = 0;
}

static int open_spool(void)
{
    const char *folder = getenv("TMPDIR");
    char path[4096];
    if (folder == NULL || folder[0] == '\0')
        folder = "/tmp";
#if defined(O_TMPFILE)
    int unnamed = qz_above_standard(open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
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

/* Reads a whole member and checks it; a compressed one is kept expanded, so that any part of it can be read. */
static qz_file_result check_whole(qz_file *file, member *m, qz_file_error *error)
{
    enum { PIECE = 1 << 16 };
    archive *a = file->state;
    if (m->deflated && a->spool < 0 && (a->spool = open_spool()) < 0)
        return qz_fail_errno(error, file->input.label, "create a temporary file to expand a member into");
    uint8_t *piece = malloc(PIECE);
    if (piece == NULL)
        return qz_fail_memory(error, file->input.label);
    qz_file_result result = QZ_FILE_OK;
    rewind_member(m);
    while (result == QZ_FILE_OK && m->position < m->bytes) {
        uint64_t at = m->position, left = m->bytes - at;
        size_t n = left < PIECE ? (size_t)left : PIECE;
        result = read_next(&file->input, m, piece, n, error);
        if (result == QZ_FILE_OK && m->deflated && !qz_pwrite_all(a->spool, piece, n, a->spool_end + at))
            result = qz_fail_errno(error, file->input.label, "expand a member into a temporary file");
    }
    free(piece);
    if (result == QZ_FILE_OK && m->deflated) {
        m->in_spool = 1;
        m->spooled = a->spool_end;
        a->spool_end += m->bytes;
    }
    return result;
}

/* A small file can hold an array as large as a machine. Whoever lists a file need not care; whoever reads one does. */
static qz_file_result check_ratio(const qz_file *file, size_t tensor, const member *m, qz_file_error *error)
{
    char name[QZ_NAME_TEXT], field[QZ_NAME_TEXT + 16];
    if (!m->deflated || m->bytes <= QZ_RATIO_FREE ||
        m->bytes / (m->packed != 0 ? m->packed : 1) <= file->options.max_ratio)
        return QZ_FILE_OK;
    const qz_tensor *t = &file->entries[tensor].tensor;
    snprintf(field, sizeof field, "member '%s.npy'", qz_escape(t->name, t->name_length, name, sizeof name));
    return qz_fail(error, QZ_FILE_LIMIT, file->input.label, field, QZ_NO_OFFSET,
                   "would expand from %" PRIu64 " to %" PRIu64 " bytes, more than %" PRIu64
                   " times as many (--max-ratio raises this limit)",
                   m->packed, m->bytes, file->options.max_ratio);
}

static qz_file_result read_npz(qz_file *file, size_t tensor, uint64_t offset, void *dst, size_t bytes,
                               qz_file_error *error)
{
    archive *a = file->state;
    member *m = &a->members[tensor];
    uint64_t header = file->entries[tensor].offset, at = header + offset;
    qz_file_result result = check_ratio(file, tensor, m, error);
    int available = m->deflated ? m->in_spool : m->checked;
    /* The checksum includes the header, which was read when the file was opened. */
    while (!available && result == QZ_FILE_OK && at == header && m->position < header) {
        uint8_t skipped[512];
        uint64_t left = header - m->position;
        result = read_next(&file->input, m, skipped, left < sizeof skipped ? (size_t)left : sizeof skipped, error);
    }
    if (result == QZ_FILE_OK && !available && at == m->position)
        return read_next(&file->input, m, dst, bytes, error);
    if (result == QZ_FILE_OK && !available)
        result = check_whole(file, m, error);
    if (result != QZ_FILE_OK)
        return result;
    if (!m->deflated)
        return qz_input_read(&file->input, m->start + at, dst, bytes, error);
    return qz_pread_all(a->spool, dst, bytes, m->spooled + at)
               ? QZ_FILE_OK
               : qz_fail_errno(error, file->input.label, "read a temporary file");
}

/* ---- opening ---- */

typedef struct header_source {
    opener *opener;
    const member *member;
} header_source;

static qz_file_result header_bytes(void *context, uint64_t offset, void *dst, size_t bytes, qz_file_error *error)
{
    header_source *source = context;
    opener *o = source->opener;
    if (!source->member->deflated)
        return peek(o, source->member->start + offset, dst, bytes);
    return bytes == 0 ? QZ_FILE_OK : stream_read(o->stream, &o->file->input, source->member, dst, bytes, error);
}

/* Room for one more member. */
static qz_file_result grow_members(opener *o)
{
    archive *a = o->archive;
    if (o->file->count < a->capacity)
        return QZ_FILE_OK;
    size_t wider = a->capacity == 0 ? 16 : a->capacity * 2;
    member *members = wider <= SIZE_MAX / sizeof *members ? realloc(a->members, wider * sizeof *members) : NULL;
    if (members == NULL)
        return qz_fail_memory(o->error, o->file->input.label);
    a->members = members;
    a->capacity = wider;
    return QZ_FILE_OK;
}

static qz_file_result name_twice(const opener *o, const record *r, const char *shown)
{
    return qz_fail(o->error, QZ_FILE_FORMAT, o->file->input.label, "directory", r->header,
                   "the name '%s' occurs twice (with or without .npy), so that its meaning is unclear", shown);
}

/* A member called NAME.npy becomes the tensor NAME. */
static qz_file_result add_array(opener *o, const record *r, const char *shown, uint64_t start)
{
    qz_file *file = o->file;
    member m = {.start = start, .packed = r->packed, .bytes = r->bytes, .crc = r->crc, .deflated = r->method != 0};
    header_source context = {o, &m};
    qz_npy_header header;
    char field[QZ_NAME_TEXT + 16];
    snprintf(field, sizeof field, "member '%s'", shown);
    if (m.deflated) {
        if (r->bytes > file->options.max_bytes)
            return qz_fail(o->error, QZ_FILE_LIMIT, file->input.label, field, r->header,
                           "expands to %" PRIu64 " bytes; the limit is %" PRIu64 " (--max-bytes raises it)", r->bytes,
                           file->options.max_bytes);
        if (o->stream == NULL && (o->stream = stream_new()) == NULL)
            return qz_fail_memory(o->error, file->input.label);
        stream_begin(o->stream, &m);
    }
    const qz_npy_source source = {header_bytes,      &context, r->bytes,
                                  file->input.label, field,    m.deflated ? QZ_NO_OFFSET : start};
    qz_file_result result = qz_npy_parse(&header, &source, &file->options, &file->arena, o->error);
    if (result != QZ_FILE_OK)
        return result;
    qz_tensor *t = &header.tensor;
    if (header.length + t->bytes != r->bytes)
        return qz_fail(o->error, QZ_FILE_FORMAT, file->input.label, field,
                       m.deflated ? QZ_NO_OFFSET : start + header.length + t->bytes,
                       "%" PRIu64 " bytes follow the array", r->bytes - header.length - t->bytes);
    t->name_length = r->name_length - strlen(".npy");
    t->name = qz_arena_text(&file->arena, r->name, t->name_length);
    if (t->name == NULL)
        return qz_fail_memory(o->error, file->input.label);
    if (qz_names_has(&file->names, t->name, t->name_length))
        return name_twice(o, r, shown);
    result = grow_members(o);
    if (result != QZ_FILE_OK)
        return result;
    o->archive->members[file->count] = m;
    result = qz_file_add(file, t, header.length, o->error);
    /* An empty array is complete with its header, so that no later read would notice a wrong checksum. */
    if (result == QZ_FILE_OK && t->bytes == 0)
        result = check_whole(file, &o->archive->members[file->count - 1], o->error);
    return result;
}

/* Other members are left out; no array may have their names. */
static qz_file_result skip_member(opener *o, const record *r, const char *shown)
{
    qz_file *file = o->file;
    const char *name = qz_arena_text(&file->arena, r->name, r->name_length);
    if (name == NULL)
        return qz_fail_memory(o->error, file->input.label);
    o->pickled |= r->name_length >= 8 && memcmp(name + r->name_length - 8, "data.pkl", 8) == 0;
    if (o->skipped++ == 0)
        snprintf(file->note, sizeof file->note, "member '%s' is not a .npy file and is left out", shown);
    switch (qz_names_add(&file->names, name, r->name_length, SIZE_MAX)) {
    case QZ_NAME_NEW:
        return QZ_FILE_OK;
    case QZ_NAME_TWICE:
        return name_twice(o, r, shown);
    default:
        return qz_fail_memory(o->error, file->input.label);
    }
}

/* Reads one header of the directory, which has `left` bytes; *used becomes its length. */
static qz_file_result add_member(opener *o, const uint8_t *h, uint64_t left, uint64_t at, uint64_t *used)
{
    if (left < ZIP_CENTRAL_BYTES || get32(h) != ZIP_CENTRAL)
        return refuse(o, "directory", at, "a member's header is missing or damaged");
    size_t name_length = get16(h + 28), extra_length = get16(h + 30), comment_length = get16(h + 32);
    *used = ZIP_CENTRAL_BYTES + name_length + extra_length + comment_length;
    if (*used > left)
        return refuse(o, "directory", at, "a member's header reaches beyond the directory");
    record r = {(const char *)h + ZIP_CENTRAL_BYTES,
                name_length,
                get16(h + 8),
                get16(h + 10),
                get32(h + 16),
                get32(h + 20),
                get32(h + 24),
                get32(h + 42)};
    uint64_t *wide[3];
    size_t wide_count = 0;
    if (r.bytes == ZIP_MAX32)
        wide[wide_count++] = &r.bytes;
    if (r.packed == ZIP_MAX32)
        wide[wide_count++] = &r.packed;
    if (r.header == ZIP_MAX32)
        wide[wide_count++] = &r.header;
    const char *wrong = read_extra(h + ZIP_CENTRAL_BYTES + name_length, extra_length, wide, wide_count, NULL);
    char shown[QZ_NAME_TEXT], field[QZ_NAME_TEXT + 32];
    qz_escape(r.name, name_length, shown, sizeof shown);
    snprintf(field, sizeof field, "directory, member '%s'", shown);
    if (wrong != NULL)
        return refuse(o, field, at, wrong);
    if (r.flags & (ZIP_FLAG_ENCRYPTED | ZIP_FLAG_PATCH))
        return refuse(o, field, at, "is encrypted or a patch");
    if (get16(h + 34) != 0)
        return refuse(o, field, at, "lies in another part of the archive");
    if (r.method != ZIP_STORED && r.method != ZIP_DEFLATED)
        return qz_fail(o->error, QZ_FILE_FORMAT, o->file->input.label, field, at,
                       "compression method %u is not read; stored (0) and deflated (8) are", (unsigned)r.method);
    if (r.method == ZIP_STORED && r.packed != r.bytes)
        return refuse(o, field, at, "is stored, but has two different sizes");
    /* The upper half of the attributes is a Unix mode if a Unix wrote the entry; 0xa000 is a symbolic link. */
    if (h[5] == 3 && (get32(h + 38) >> 16 & 0xf000) == 0xa000)
        return refuse(o, field, at, "is a symbolic link");
    if ((r.flags & ZIP_FLAG_UTF8) && !qz_is_utf8(r.name, name_length))
        return refuse(o, field, at, "the name is said to be UTF-8, but is not");
    if (memchr(r.name, '\0', name_length) != NULL)
        return refuse(o, field, at, "the name holds the character 0, where other readers cut it off");
    if (!qz_within(r.header, ZIP_LOCAL_BYTES, o->central))
        return refuse(o, field, at, "points beyond the members");
    uint64_t start = 0;
    qz_file_result result = check_local(o, &r, shown, &start);
    if (result != QZ_FILE_OK)
        return result;
    o->extents[o->extent_count++] =
        (extent){r.header, start + r.packed, r.packed, r.bytes, r.crc, (r.flags & ZIP_FLAG_DESCRIPTOR) != 0};
    int is_array = name_length >= 4 && memcmp(r.name + name_length - 4, ".npy", 4) == 0;
    return is_array ? add_array(o, &r, shown, start) : skip_member(o, &r, shown);
}

static int by_start(const void *a, const void *b)
{
    const extent *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

/* Whether the `bytes` bytes after a member's data are the descriptor that repeats its sizes and checksum. */
static int is_descriptor(opener *o, const extent *e, uint64_t bytes)
{
    uint8_t d[24];
    if (!e->descriptor || (bytes != 12 && bytes != 16 && bytes != 20 && bytes != 24) ||
        qz_input_read(&o->file->input, e->end, d, (size_t)bytes, NULL) != QZ_FILE_OK)
        return 0;
    const uint8_t *at = d;
    if (bytes % 8 == 0) { /* with a signature */
        if (get32(at) != ZIP_DESCRIPTOR)
            return 0;
        at += 4;
    }
    return get32(at) == e->crc && (bytes < 20 ? get32(at + 4) == e->packed && get32(at + 8) == e->bytes
                                              : get64(at + 4) == e->packed && get64(at + 12) == e->bytes);
}

/* The members must fill the file up to the directory: no overlap, no gap. */
static qz_file_result check_extents(opener *o)
{
    extent *e = o->extents;
    size_t n = o->extent_count;
    for (size_t i = 1; i < n; i++)
        if (e[i].start < e[i - 1].start) {
            qsort(e, n, sizeof *e, by_start);
            break;
        }
    uint64_t first = n != 0 ? e[0].start : o->central;
    if (first != 0)
        return refuse(o, NULL, 0, "bytes that belong to no member stand before the archive");
    for (size_t i = 0; i < n; i++) {
        uint64_t next = i + 1 < n ? e[i + 1].start : o->central;
        if (e[i].end > next)
            return refuse(o, NULL, next, "two members share bytes");
        if (next != e[i].end || e[i].descriptor)
            if (!is_descriptor(o, &e[i], next - e[i].end))
                return refuse(o, NULL, e[i].end,
                              "between two members lie bytes that belong to none, or a wrong descriptor");
    }
    return QZ_FILE_OK;
}

static int probe(const uint8_t *head, size_t bytes, uint64_t file_size)
{
    (void)file_size;
    return bytes >= 4 && (get32(head) == ZIP_LOCAL || get32(head) == ZIP_END || get32(head) == ZIP_END64);
}

static void close_npz(qz_file *file)
{
    archive *a = file->state;
    if (a == NULL)
        return;
    for (size_t i = 0; i < file->count; i++)
        stream_free(a->members[i].stream);
    if (a->spool >= 0)
        close(a->spool);
    free(a->members);
    free(a);
}

static qz_file_result read_directory(opener *o)
{
    const qz_input *input = &o->file->input;
    if (!qz_fits_memory(o->central_bytes))
        return qz_fail_memory(o->error, input->label);
    uint8_t *directory = malloc((size_t)o->central_bytes + 1);
    o->extents = calloc((size_t)o->count + 1, sizeof *o->extents);
    qz_file_result result = directory == NULL || o->extents == NULL
                                ? qz_fail_memory(o->error, input->label)
                                : qz_input_read(input, o->central, directory, (size_t)o->central_bytes, o->error);
    uint64_t at = 0, used;
    for (uint64_t i = 0; result == QZ_FILE_OK && i < o->count; i++, at += used)
        result = add_member(o, directory + at, o->central_bytes - at, o->central + at, &used);
    if (result == QZ_FILE_OK && at != o->central_bytes)
        result = refuse(o, "directory", o->central + at, "holds more than the end record says");
    if (result == QZ_FILE_OK)
        result = check_extents(o);
    free(directory);
    return result;
}

static qz_file_result open_npz(qz_file *file, qz_file_error *error)
{
    archive *a = calloc(1, sizeof *a);
    if (a == NULL)
        return qz_fail_memory(error, file->input.label);
    a->spool = -1;
    file->state = a;
    opener *o = calloc(1, sizeof *o);
    if (o == NULL)
        return qz_fail_memory(error, file->input.label);
    o->file = file;
    o->archive = a;
    o->error = error;
    qz_file_result result = find_directory(o);
    if (result == QZ_FILE_OK)
        result = read_directory(o);
    if (result == QZ_FILE_OK && file->count == 0 && o->pickled)
        result =
            qz_fail(error, QZ_FILE_FORMAT, file->input.label, NULL, QZ_NO_OFFSET,
                    "a PyTorch checkpoint, whose pickle is never read: that could run any program; torch.load(..., "
                    "weights_only=True) gives its tensors, and numpy.savez writes them to an .npz");
    size_t length = strlen(file->note);
    if (result == QZ_FILE_OK && o->skipped > 1)
        snprintf(file->note + length, sizeof file->note - length, ", and so are %" PRIu64 " more", o->skipped - 1);
    stream_free(o->stream);
    free(o->extents);
    free(o);
    return result;
}

const qz_container_type qz_container_npz = {
    .name = "npz",
    .extension = ".npz",
    .probe = probe,
    .open = open_npz,
    .read = read_npz,
    .close = close_npz,
    .declare = qz_npz_declare,
    .layout = qz_npz_layout,
    .wrote = qz_npz_wrote,
    .finish = qz_npz_finish,
};
