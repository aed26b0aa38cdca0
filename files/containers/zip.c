/*
 * zip.c - reads the structure of zip archives strictly
 *
 * Every byte of the archive must belong to exactly one record, and records that say the same thing must agree. All
 * readers understand an archive that passes these checks in the same way.
 */
#include "zip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../checked.h"
#include "../error.h"

typedef struct extent { /* of a member, from its local header to the end of its data */
    uint64_t start, end;
    uint64_t packed, bytes;
    uint32_t crc;
    int descriptor;
} extent;

typedef struct reader {
    const qz_input *input;
    qz_window *window;
    qz_zip_found found;
    void *context;
    qz_file_error *error;
    extent *extents;
    size_t extent_count;
    uint64_t central, central_bytes, count; /* the directory */
} reader;

static qz_file_result refuse(const reader *o, const char *field, uint64_t offset, const char *what)
{
    return qz_fail(o->error, QZ_FILE_FORMAT, o->input->label, field, offset, "%s", what);
}

/* ---- the end records ---- */

static qz_file_result read_end64(reader *o, const uint8_t *end, uint64_t end_at, const uint8_t *locator)
{
    uint64_t locator_at = end_at - ZIP_LOCATOR64_BYTES, record_at = get64(locator + 8);
    uint8_t r[ZIP_END64_BYTES];
    if (get32(locator + 4) != 0 || get32(locator + 16) != 1)
        return refuse(o, "zip64 locator", locator_at, "the archive has several parts");
    if (!qz_within(record_at, ZIP_END64_BYTES, locator_at))
        return refuse(o, "zip64 locator", locator_at, "points outside the archive");
    qz_file_result result = qz_input_read(o->input, record_at, r, sizeof r, o->error);
    if (result != QZ_FILE_OK)
        return result;
    if (get32(r) != ZIP_END64 || get64(r + 4) != locator_at - record_at - 12)
        return refuse(o, "zip64 end record", record_at, "is not where the locator says, or has another length");
    if (get32(r + 16) != 0 || get32(r + 20) != 0 || get64(r + 24) != get64(r + 32))
        return refuse(o, "zip64 end record", record_at, "the archive has several parts");
    o->count = get64(r + 32), o->central_bytes = get64(r + 40), o->central = get64(r + 48);
    /* The short record either refers to the long one or repeats its numbers. */
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
static qz_file_result find_directory(reader *o)
{
    enum { TAIL = ZIP_END_BYTES + ZIP_MAX16 + ZIP_LOCATOR64_BYTES };
    const qz_input *input = o->input;
    size_t n = input->size < TAIL ? (size_t)input->size : TAIL, at = 0;
    int found = 0;
    uint8_t *tail = malloc(n + 1);
    if (!tail)
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
                        "the archive has no end record: the file is truncated, or bytes were appended to it");
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
            if (sizes && wide_count == 0 && bytes == 16) {
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

/* Compares the header before the data with the directory; r->start becomes the offset of the data. */
static qz_file_result check_local(reader *o, qz_zip_member *r)
{
    uint8_t h[ZIP_LOCAL_BYTES];
    char field[QZ_NAME_TEXT + 32];
    snprintf(field, sizeof field, "header of member '%s'", r->shown);
    qz_file_result result = qz_window_read(o->window, r->header, h, sizeof h, o->error);
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
    if (!text)
        return qz_fail_memory(o->error, o->input->label);
    result = qz_window_read(o->window, r->header + ZIP_LOCAL_BYTES, text, more, o->error);
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
        if (!wrong && memcmp(text, r->name, name_length) != 0)
            wrong = "disagrees with the directory on the name";
        if (!wrong && !later && (get32(h + 14) != r->crc || packed != r->packed || bytes != r->bytes))
            wrong = "disagrees with the directory on sizes or checksum";
        if (wrong)
            result = refuse(o, field, r->header, wrong);
    }
    free(text);
    r->start = r->header + ZIP_LOCAL_BYTES + more;
    if (result == QZ_FILE_OK && !qz_within(r->start, r->packed, o->central))
        result = refuse(o, field, r->header, "the data reaches into the directory");
    return result;
}

/* Reads one header of the directory, which has `left` bytes; *used becomes its length. */
static qz_file_result read_member(reader *o, const uint8_t *h, uint64_t left, uint64_t at, uint64_t *used)
{
    if (left < ZIP_CENTRAL_BYTES || get32(h) != ZIP_CENTRAL)
        return refuse(o, "directory", at, "a member's header is missing or damaged");
    size_t name_length = get16(h + 28), extra_length = get16(h + 30), comment_length = get16(h + 32);
    *used = ZIP_CENTRAL_BYTES + name_length + extra_length + comment_length;
    if (*used > left)
        return refuse(o, "directory", at, "a member's header reaches beyond the directory");
    qz_zip_member r = {.name = (const char *)h + ZIP_CENTRAL_BYTES,
                       .name_length = name_length,
                       .flags = get16(h + 8),
                       .method = get16(h + 10),
                       .crc = get32(h + 16),
                       .packed = get32(h + 20),
                       .bytes = get32(h + 24),
                       .header = get32(h + 42)};
    uint64_t *wide[3];
    size_t wide_count = 0;
    if (r.bytes == ZIP_MAX32)
        wide[wide_count++] = &r.bytes;
    if (r.packed == ZIP_MAX32)
        wide[wide_count++] = &r.packed;
    if (r.header == ZIP_MAX32)
        wide[wide_count++] = &r.header;
    const char *wrong = read_extra(h + ZIP_CENTRAL_BYTES + name_length, extra_length, wide, wide_count, NULL);
    char field[QZ_NAME_TEXT + 32];
    qz_escape(r.name, name_length, r.shown, sizeof r.shown);
    snprintf(field, sizeof field, "directory, member '%s'", r.shown);
    if (wrong)
        return refuse(o, field, at, wrong);
    if (r.flags & (ZIP_FLAG_ENCRYPTED | ZIP_FLAG_PATCH))
        return refuse(o, field, at, "is encrypted or a patch");
    if (get16(h + 34) != 0)
        return refuse(o, field, at, "lies in another part of the archive");
    if (r.method != ZIP_STORED && r.method != ZIP_DEFLATED)
        return qz_fail(o->error, QZ_FILE_FORMAT, o->input->label, field, at,
                       "compression method %u is not read; stored (0) and deflated (8) are", (unsigned)r.method);
    if (r.method == ZIP_STORED && r.packed != r.bytes)
        return refuse(o, field, at, "is stored, but has two different sizes");
    /* The upper half of the attributes is a Unix mode if a Unix wrote the entry; 0xa000 is a symbolic link. */
    if (h[5] == 3 && (get32(h + 38) >> 16 & 0xf000) == 0xa000)
        return refuse(o, field, at, "is a symbolic link");
    if ((r.flags & ZIP_FLAG_UTF8) && !qz_is_utf8(r.name, name_length))
        return refuse(o, field, at, "the name is said to be UTF-8, but is not");
    if (memchr(r.name, '\0', name_length))
        return refuse(o, field, at, "the name holds the character 0, where other readers truncate it");
    if (!qz_within(r.header, ZIP_LOCAL_BYTES, o->central))
        return refuse(o, field, at, "points beyond the members");
    qz_file_result result = check_local(o, &r);
    if (result != QZ_FILE_OK)
        return result;
    o->extents[o->extent_count++] =
        (extent){r.header, r.start + r.packed, r.packed, r.bytes, r.crc, (r.flags & ZIP_FLAG_DESCRIPTOR) != 0};
    return o->found(o->context, &r);
}

/* ---- all members ---- */

static int by_start(const void *a, const void *b)
{
    const extent *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

/* Whether the `bytes` bytes after a member's data are the descriptor that repeats its sizes and checksum. */
static int is_descriptor(reader *o, const extent *e, uint64_t bytes)
{
    uint8_t d[24];
    if (!e->descriptor || (bytes != 12 && bytes != 16 && bytes != 20 && bytes != 24) ||
        qz_input_read(o->input, e->end, d, (size_t)bytes, NULL) != QZ_FILE_OK)
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
static qz_file_result check_extents(reader *o)
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

static qz_file_result read_directory(reader *o)
{
    const qz_input *input = o->input;
    uint8_t *directory = qz_allocate(o->central_bytes + 1);
    o->extents = calloc((size_t)o->count + 1, sizeof *o->extents);
    if (!directory || !o->extents) {
        free(directory);
        return qz_fail_memory(o->error, input->label);
    }
    qz_file_result result = qz_input_read(input, o->central, directory, (size_t)o->central_bytes, o->error);
    uint64_t at = 0, used = 0;
    for (uint64_t i = 0; result == QZ_FILE_OK && i < o->count; i++, at += used)
        result = read_member(o, directory + at, o->central_bytes - at, o->central + at, &used);
    if (result == QZ_FILE_OK && at != o->central_bytes)
        result = refuse(o, "directory", o->central + at, "holds more than the end record says");
    if (result == QZ_FILE_OK)
        result = check_extents(o);
    free(directory);
    return result;
}

qz_file_result qz_zip_read(qz_window *window, qz_zip_found found, void *context, qz_file_error *error)
{
    reader o = {.input = window->input, .window = window, .found = found, .context = context, .error = error};
    qz_file_result result = find_directory(&o);
    if (result == QZ_FILE_OK)
        result = read_directory(&o);
    free(o.extents);
    return result;
}
