/*
 * test_npz.c - reading .npz: archives that all readers understand alike are read, all others refused
 *
 * Archives are built here byte by byte, by code that shares nothing with the reader or the writer.
 */
#include "support.h"

#include <time.h>
#include <zlib.h>

#define F4(shape) "{'descr': '<f4', 'fortran_order': False, 'shape': " shape ", }"

/* ---- building archives ---- */

enum { LOCAL = 30, CENTRAL = 46, END = 22 };

typedef struct entry {
    const char *name;
    size_t name_length; /* 0: strlen(name) */
    bytes content;
    unsigned method, flags;
    unsigned attributes; /* Unix mode */
    int descriptor;      /* bytes of a data descriptor: 0, 12, 16, 20 or 24 */
    bytes local_extra, central_extra;
    size_t local, central, data; /* where they are: filled in by build() */
    size_t packed;
    uint32_t crc;
} entry;

static bytes deflated(const bytes *b)
{
    bytes out = {0};
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
    add(&out, b->data, b->n); /* as much room as stored data would take, */
    for (int i = 0; i < 100; i++)
        add(&out, "0123456789", 10); /* and some more */
    z.next_in = b->data;
    z.avail_in = (uInt)b->n;
    z.next_out = out.data;
    z.avail_out = (uInt)out.n;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    out.n = z.total_out;
    deflateEnd(&z);
    return out;
}

static void add_local(bytes *b, entry *e, const bytes *packed)
{
    int later = e->descriptor != 0;
    unsigned flags = e->flags | (later ? 8u : 0u);
    e->local = b->n;
    add_number(b, 0x04034b50, 4);
    add_number(b, 20, 2);
    add_number(b, flags, 2);
    add_number(b, e->method, 2);
    add_number(b, 0, 4);
    add_number(b, later ? 0 : e->crc, 4);
    add_number(b, later ? 0 : packed->n, 4);
    add_number(b, later ? 0 : e->content.n, 4);
    add_number(b, e->name_length, 2);
    add_number(b, e->local_extra.n, 2);
    add(b, e->name, e->name_length);
    add(b, e->local_extra.data, e->local_extra.n);
    e->data = b->n;
    e->packed = packed->n;
    add(b, packed->data, packed->n);
    if (e->descriptor == 16 || e->descriptor == 24)
        add_number(b, 0x08074b50, 4);
    if (later) {
        size_t wide = e->descriptor >= 20 ? 8 : 4;
        add_number(b, e->crc, 4);
        add_number(b, packed->n, wide);
        add_number(b, e->content.n, wide);
    }
}

static void add_central(bytes *b, entry *e)
{
    e->central = b->n;
    add_number(b, 0x02014b50, 4);
    add_number(b, 3 << 8 | 20, 2);
    add_number(b, 20, 2);
    add_number(b, e->flags | (e->descriptor != 0 ? 8u : 0u), 2);
    add_number(b, e->method, 2);
    add_number(b, 0, 4);
    add_number(b, e->crc, 4);
    add_number(b, e->packed, 4);
    add_number(b, e->content.n, 4);
    add_number(b, e->name_length, 2);
    add_number(b, e->central_extra.n, 2);
    add_number(b, 0, 2);
    add_number(b, 0, 2);
    add_number(b, 0, 2);
    add_number(b, (uint64_t)e->attributes << 16, 4);
    add_number(b, e->local, 4);
    add(b, e->name, e->name_length);
    add(b, e->central_extra.data, e->central_extra.n);
}

static void add_end(bytes *b, size_t count, size_t directory)
{
    size_t n = b->n - directory;
    add_number(b, 0x06054b50, 4);
    add_number(b, 0, 4);
    add_number(b, count, 2);
    add_number(b, count, 2);
    add_number(b, n, 4);
    add_number(b, directory, 4);
    add_number(b, 0, 2);
}

static bytes build(entry *entries, size_t count)
{
    bytes b = {0};
    for (size_t i = 0; i < count; i++) {
        entry *e = &entries[i];
        if (e->name_length == 0)
            e->name_length = strlen(e->name);
        e->crc = (uint32_t)crc32(0, e->content.data, (uInt)e->content.n);
        bytes packed = e->method == 8 ? deflated(&e->content) : copy_of(&e->content);
        add_local(&b, e, &packed);
        clear(&packed);
    }
    size_t directory = b.n;
    for (size_t i = 0; i < count; i++)
        add_central(&b, &entries[i]);
    add_end(&b, count, directory);
    return b;
}

static void clear_entries(entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        clear(&entries[i].content);
        clear(&entries[i].local_extra);
        clear(&entries[i].central_extra);
    }
}

/* Two arrays, a stored and a compressed one. */
enum { GOOD = 2 };
static void good_entries(entry out[GOOD])
{
    out[0] = (entry){.name = "a.npy", .content = npy_bytes(1, F4("(2, 3)"), 24)};
    out[1] = (entry){.name = "b.npy", .content = npy_bytes(1, F4("(25,)"), 100), .method = 8};
}

/* ---- what is read ---- */

static void good_archives(void **state)
{
    (void)state;
    qz_file_error error = QZ_FILE_ERROR_INIT;
    entry e[GOOD];
    good_entries(e);
    bytes b = build(e, GOOD);
    put_file(path_of("a.npz"), b.data, b.n);
    qz_file *file;
    if (qz_open(path_of("a.npz"), NULL, &file, &error) != QZ_FILE_OK)
        fail_msg("%s\n", error.message);
    assert_string_equal(qz_container(file), "npz");
    assert_int_equal(qz_tensor_count(file), 2);
    assert_string_equal(qz_tensor_at(file, 0)->name, "a");
    assert_string_equal(qz_tensor_at(file, 1)->name, "b");
    assert_int_equal(qz_tensor_find(file, "b", 1), 1);
    assert_null(qz_note(file));
    qz_close(file);

    bytes c = copy_of(&b);
    set_number(&c, c.n - 2, 5, 2);
    add(&c, "hello", 5);
    expect("a comment", "a.npz", &c, NULL, QZ_FILE_OK, NULL);
    clear(&c);
    c = build(e, 0);
    expect("an empty archive", "a.npz", &c, NULL, QZ_FILE_OK, NULL);
    clear(&c);
    clear(&b);
    for (int size = 12; size <= 24; size += 4) {
        e[0].descriptor = e[1].descriptor = size;
        b = build(e, GOOD);
        expect("data descriptors", "a.npz", &b, NULL, QZ_FILE_OK, NULL);
        /* Each byte of a descriptor counts. */
        for (size_t i = 0; i < (size_t)size; i++) {
            b.data[e[0].data + e[0].packed + i] ^= 1;
            expect("a wrong descriptor", "a.npz", &b, NULL, QZ_FILE_FORMAT, "descriptor");
            b.data[e[0].data + e[0].packed + i] ^= 1;
        }
        clear(&b);
    }
    clear_entries(e, GOOD);
}

static void names(void **state)
{
    (void)state;
    static const char *const fine[] = {"/etc/passwd.npy", "../../x.npy",    "a\\b.npy", "a/b.npy",       ".npy",
                                       "\xff\xfe.npy",    "\x1b[31m\n.npy", "A.npy",    "e\xcc\x81.npy", "x.npy.npy"};
    entry e[11];
    for (size_t i = 0; i < 10; i++)
        e[i] = (entry){.name = fine[i], .content = npy_bytes(1, F4("()"), 4)};
    e[10] = (entry){.name = "a.npy", .content = npy_bytes(1, F4("()"), 4)}; /* beside A.npy */
    bytes b = build(e, 11);
    qz_file *file;
    put_file(path_of("a.npz"), b.data, b.n);
    assert_int_equal(qz_open(path_of("a.npz"), NULL, &file, NULL), QZ_FILE_OK);
    assert_string_equal(qz_tensor_at(file, 0)->name, "/etc/passwd");
    assert_string_equal(qz_tensor_at(file, 1)->name, "../../x");
    assert_string_equal(qz_tensor_at(file, 4)->name, "");
    assert_string_equal(qz_tensor_at(file, 5)->name, "\xff\xfe");
    assert_string_equal(qz_tensor_at(file, 9)->name, "x.npy");
    assert_int_equal(qz_tensor_find(file, "x.npy", 5), 9);
    qz_close(file);
    clear(&b);

    e[3].name = "A.npy";
    e[3].name_length = 0;
    b = build(e, 11);
    expect("a name twice", "a.npz", &b, NULL, QZ_FILE_FORMAT, "occurs twice");
    clear(&b);
    e[3].name = "a"; /* not an array, but numpy.load offers both as "a" */
    e[3].name_length = 0;
    b = build(e, 11);
    expect("a and a.npy", "a.npz", &b, NULL, QZ_FILE_FORMAT, "occurs twice");
    clear(&b);
    e[3].name = "a\0b.npy";
    e[3].name_length = 7;
    b = build(e, 11);
    expect("a name with 0", "a.npz", &b, NULL, QZ_FILE_FORMAT, "the character 0");
    clear(&b);
    clear_entries(e, 11);

    e[0] = (entry){.name = "readme.txt", .content = {0}};
    add(&e[0].content, "hello", 5);
    e[1] = (entry){.name = "folder/", .content = {0}, .attributes = 040755};
    e[2] = (entry){.name = "x.npy", .content = npy_bytes(1, F4("()"), 4)};
    b = build(e, 3);
    put_file(path_of("a.npz"), b.data, b.n);
    assert_int_equal(qz_open(path_of("a.npz"), NULL, &file, NULL), QZ_FILE_OK);
    assert_int_equal(qz_tensor_count(file), 1);
    assert_string_equal(qz_note(file), "member 'readme.txt' is not a .npy file and is left out, and so are 1 more");
    assert_true(qz_tensor_find(file, "readme.txt", 10) == SIZE_MAX);
    qz_close(file);
    clear(&b);
    e[1] = (entry){.name = "readme.txt", .content = {0}};
    b = build(e, 3);
    expect("a skipped name twice", "a.npz", &b, NULL, QZ_FILE_FORMAT, "occurs twice");
    clear(&b);
    e[1] = (entry){.name = "link.npy", .content = {0}, .attributes = 0120777};
    add(&e[1].content, "/etc/passwd", 11);
    b = build(e, 3);
    expect("a symbolic link", "a.npz", &b, NULL, QZ_FILE_FORMAT, "symbolic link");
    clear(&b);
    clear_entries(e, 3);
}

/* ---- what is refused ---- */

static void changed_records(void **state)
{
    (void)state;
    entry e[GOOD];
    good_entries(e);
    bytes good = build(e, GOOD);
    size_t end = good.n - END;
    const struct {
        const char *what;
        size_t at;
        uint64_t value;
        size_t n;
        const char *words;
    } changes[] = {
        {"first signature", 0, 0, 4, "neither"},
        {"second signature", e[1].local, 0, 4, "not where the directory says"},
        {"local name", e[0].local + LOCAL, 'x', 1, "on the name"},
        {"local name length", e[0].local + 26, 4, 2, "name, flags or method"},
        {"local extra length", e[0].local + 28, 1, 2, NULL},
        {"local extra length past the end", e[1].local + 28, 0xffff, 2, "reaches into the directory"},
        {"local flags", e[0].local + 6, 0x800, 2, "name, flags or method"},
        {"local method", e[0].local + 8, 8, 2, "name, flags or method"},
        {"local checksum", e[0].local + 14, 1, 4, "sizes or checksum"},
        {"local packed size", e[0].local + 18, 1, 4, "sizes or checksum"},
        {"local size", e[0].local + 22, 1, 4, "sizes or checksum"},
        {"local size that needs zip64", e[0].local + 22, 0xffffffff, 4, "zip64 field is missing"},
        {"central signature", e[1].central, 0, 4, "missing or damaged"},
        {"encrypted", e[0].central + 8, 1, 2, "encrypted"},
        {"strongly encrypted", e[0].central + 8, 0x41, 2, "encrypted"},
        {"masked", e[0].central + 8, 0x2000, 2, "encrypted"},
        {"patched", e[0].central + 8, 0x20, 2, "encrypted or a patch"},
        {"method 12", e[0].central + 10, 12, 2, "method 12 is not read"},
        {"method 9", e[1].central + 10, 9, 2, "method 9 is not read"},
        {"stored but compressed", e[1].central + 10, 0, 2, "two different sizes"},
        {"central checksum", e[0].central + 16, 1, 4, "sizes or checksum"},
        {"central packed size", e[1].central + 20, 1, 4, NULL},
        {"central size", e[1].central + 24, 1, 4, "sizes or checksum"},
        {"packed size past the end", e[1].central + 20, 0xfffffffe, 4, NULL},
        {"central name length", e[0].central + 28, 6, 2, NULL},
        {"central name length past the end", e[1].central + 28, 0xffff, 2, "beyond the directory"},
        {"central extra length past the end", e[1].central + 30, 0xffff, 2, "beyond the directory"},
        {"comment length past the end", e[1].central + 32, 0xffff, 2, "beyond the directory"},
        {"another part", e[0].central + 34, 1, 2, "another part"},
        {"offset past the end", e[1].central + 42, 0xfffffffe, 4, "points beyond"},
        {"offset to the middle", e[1].central + 42, 1, 4, "not where the directory says"},
        {"offset that needs zip64", e[1].central + 42, 0xffffffff, 4, "zip64 field is missing"},
        {"end signature", end, 0, 4, "no end record"},
        {"this part", end + 4, 1, 2, "several parts"},
        {"part of the directory", end + 6, 1, 2, "several parts"},
        {"count here", end + 8, 1, 2, "several parts"},
        {"directory size", end + 12, 1, 4, "does not end here"},
        {"directory size past the end", end + 12, 0xffffffff, 4, "does not end here"},
        {"directory offset", end + 16, 0, 4, "does not end here"},
        {"directory offset past the end", end + 16, 0xffffffff, 4, "does not end here"},
        {"comment length", end + 20, 1, 2, "no end record"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        bytes b = copy_of(&good);
        set_number(&b, changes[i].at, changes[i].value, changes[i].n);
        expect(changes[i].what, "a.npz", &b, NULL, QZ_FILE_FORMAT, changes[i].words);
        clear(&b);
    }
    static const uint8_t counts[] = {0, 1, 3, 255};
    for (size_t i = 0; i < sizeof counts; i++) {
        bytes b = copy_of(&good);
        set_number(&b, end + 8, counts[i], 2);
        set_number(&b, end + 10, counts[i], 2);
        expect("another count", "a.npz", &b, NULL, QZ_FILE_FORMAT, NULL);
        clear(&b);
    }
    clear(&good);
    clear_entries(e, GOOD);
}

static void bytes_of_nobody(void **state)
{
    (void)state;
    entry e[GOOD];
    good_entries(e);
    bytes good = build(e, GOOD), b;

    b = copy_of(&good);
    insert(&b, 0, "#!/bin/sh\n", 10);
    expect("a program before the archive", "a.npz", &b, NULL, QZ_FILE_FORMAT, "neither");
    clear(&b);
    /* The same with all offsets put right. */
    b = copy_of(&good);
    insert(&b, 0, "PK\3\4 hello", 10);
    set_number(&b, e[0].central + 10 + 42, e[0].local + 10, 4);
    set_number(&b, e[1].central + 10 + 42, e[1].local + 10, 4);
    set_number(&b, b.n - 6, e[0].central + 10, 4);
    expect("bytes before the first member", "a.npz", &b, NULL, QZ_FILE_FORMAT, "before the archive");
    clear(&b);

    b = copy_of(&good);
    add(&b, "more", 4);
    expect("appended bytes", "a.npz", &b, NULL, QZ_FILE_FORMAT, "no end record");
    clear(&b);
    b = copy_of(&good);
    add(&b, good.data, good.n);
    expect("two archives in a row", "a.npz", &b, NULL, QZ_FILE_FORMAT, NULL);
    clear(&b);
    b = copy_of(&good);
    set_number(&b, b.n - 2, END, 2);
    add(&b, good.data + good.n - END, END);
    expect("an end record in the comment", "a.npz", &b, NULL, QZ_FILE_FORMAT, "another one before it");
    clear(&b);

    b = copy_of(&good);
    insert(&b, e[1].local, "gap", 3);
    set_number(&b, e[1].central + 3 + 42, e[1].local + 3, 4);
    set_number(&b, b.n - 6, e[0].central + 3, 4);
    expect("a gap between members", "a.npz", &b, NULL, QZ_FILE_FORMAT, "belong to none");
    clear(&b);
    b = copy_of(&good);
    insert(&b, e[0].central, "gap", 3);
    set_number(&b, b.n - 6, e[0].central + 3, 4);
    expect("a gap before the directory", "a.npz", &b, NULL, QZ_FILE_FORMAT, "belong to none");
    clear(&b);
    b = copy_of(&good);
    insert(&b, b.n - END, "gap", 3);
    expect("a gap after the directory", "a.npz", &b, NULL, QZ_FILE_FORMAT, "does not end here");
    clear(&b);
    b = copy_of(&good);
    insert(&b, b.n - END, "gap", 3);
    set_number(&b, b.n - 10, good.n - END - e[0].central + 3, 4);
    expect("a gap at the end of the directory", "a.npz", &b, NULL, QZ_FILE_FORMAT, "more than the end record says");
    clear(&b);

    /* The directory in another order than the members: nothing is wrong with that. */
    b = copy_of(&good);
    size_t n = e[1].central - e[0].central;
    memcpy(b.data + e[0].central, good.data + e[1].central, n);
    memcpy(b.data + e[1].central, good.data + e[0].central, n);
    expect("directory in another order", "a.npz", &b, NULL, QZ_FILE_OK, NULL);
    clear(&b);
    clear(&good);
    clear_entries(e, GOOD);
}

/* Two names for one piece of data, as in archives that expand to more than they hold. */
static void shared_data(void **state)
{
    (void)state;
    entry e[3];
    good_entries(e);
    bytes b = build(e, 2);
    /* A third header in the directory that leads to the first member. */
    bytes more = {0};
    e[2] = e[0];
    add_central(&more, &e[2]);
    insert(&b, b.n - END, more.data, more.n);
    set_number(&b, b.n - END + 8, 3, 2);
    set_number(&b, b.n - END + 10, 3, 2);
    set_number(&b, b.n - END + 12, b.n - END - e[0].central, 4);
    expect("the same member twice", "a.npz", &b, NULL, QZ_FILE_FORMAT, "occurs twice");
    clear(&b);
    clear(&more);
    clear_entries(e, GOOD);

    /* A member that lies within another's data, under its own name. */
    entry inner[2] = {{.name = "x.npy", .content = npy_bytes(1, F4("()"), 4)},
                      {.name = "y.npy", .content = npy_bytes(1, F4("(500,)"), 2000)}};
    bytes alone = build(inner, 1);
    size_t header = inner[1].content.n - 2000;
    memcpy(inner[1].content.data + header, alone.data, inner[0].data + inner[0].packed);
    entry outer[1] = {inner[1]};
    b = build(outer, 1);
    inner[0].local = outer[0].data + header;
    more = (bytes){0};
    add_central(&more, &inner[0]);
    insert(&b, b.n - END, more.data, more.n);
    set_number(&b, b.n - END + 8, 2, 2);
    set_number(&b, b.n - END + 10, 2, 2);
    set_number(&b, b.n - END + 12, b.n - END - outer[0].central, 4);
    expect("a member within another", "a.npz", &b, NULL, QZ_FILE_FORMAT, "two members share bytes");
    clear(&b);
    clear(&more);
    clear(&alone);
    clear_entries(inner, 2);
}

static void damaged_data(void **state)
{
    (void)state;
    entry e[GOOD];
    good_entries(e);
    bytes good = build(e, GOOD);
    for (size_t i = 0; i < GOOD; i++)
        for (size_t at = 0; at < e[i].packed; at++) {
            bytes b = copy_of(&good);
            b.data[e[i].data + at] ^= 0x10;
            outcome o = open_bytes("a.npz", &b, NULL);
            if (o.result != QZ_FILE_FORMAT)
                fail_msg("byte %zu of member %zu may change: result %d %s\n", at, i, o.result, o.message);
            clear(&b);
        }
    clear(&good);
    clear_entries(e, GOOD);

    /* Sizes that lie, with checksums put right: the compressed data is longer or shorter than said. */
    for (size_t length = 96; length <= 104; length += 4) {
        bytes content = npy_bytes(1, F4("(25,)"), 100), longer = npy_bytes(1, F4("(25,)"), length);
        entry one[1] = {{.name = "a.npy", .content = longer, .method = 8}};
        bytes b = build(one, 1);
        set_number(&b, one[0].local + 22, content.n, 4);
        set_number(&b, one[0].central + 24, content.n, 4);
        expect("size of compressed data", "a.npz", &b, NULL, length == 100 ? QZ_FILE_OK : QZ_FILE_FORMAT,
               length < 100   ? "fewer bytes"
               : length > 100 ? "more bytes"
                              : NULL);
        clear(&b);
        clear(&content);
        clear(&longer);
    }
    /* Bytes after the end of the compressed data, within the member. */
    entry one[1] = {{.name = "a.npy", .content = npy_bytes(1, F4("(25,)"), 100), .method = 8}};
    bytes b = build(one, 1);
    insert(&b, one[0].data + one[0].packed, "hidden", 6);
    set_number(&b, one[0].local + 18, one[0].packed + 6, 4);
    set_number(&b, one[0].central + 6 + 20, one[0].packed + 6, 4);
    set_number(&b, b.n - 6, one[0].central + 6, 4);
    expect("bytes after compressed data", "a.npz", &b, NULL, QZ_FILE_FORMAT, "bytes follow the compressed data");
    clear(&b);
    clear_entries(one, 1);

    /* Members that are not what .npy promises. */
    static const struct {
        const char *text;
        size_t data;
        const char *words;
    } members[] = {
        {F4("(2,)"), 4, "only 4 follow"},
        {F4("(1,)"), 8, "4 bytes follow the array"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", 8, "Python objects"},
        {F4("(1000000000000,)"), 4, "only 4 follow"},
    };
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        for (unsigned method = 0; method <= 8; method += 8) {
            one[0] =
                (entry){.name = "a.npy", .content = npy_bytes(1, members[i].text, members[i].data), .method = method};
            b = build(one, 1);
            expect(members[i].text, "a.npz", &b, NULL, QZ_FILE_FORMAT, members[i].words);
            clear(&b);
            clear_entries(one, 1);
        }
    one[0] = (entry){.name = "a.npy", .content = {0}};
    b = build(one, 1);
    expect("an empty member", "a.npz", &b, NULL, QZ_FILE_FORMAT, "too short");
    clear(&b);
}

static void limits(void **state)
{
    (void)state;
    qz_open_options options = QZ_OPEN_OPTIONS_INIT;
    entry one[1] = {{.name = "a.npy", .content = npy_bytes(1, F4("(250000,)"), 1000000), .method = 8}};
    memset(one[0].content.data + one[0].content.n - 1000000, 0, 1000000);
    bytes b = build(one, 1);
    expect("a few zeros compressed 1000 times", "a.npz", &b, NULL, QZ_FILE_OK, NULL);
    options.max_bytes = 999999;
    expect("too large", "a.npz", &b, &options, QZ_FILE_LIMIT, "the limit is 999999");
    assert_int_equal(open_bytes("a.npz", &b, &options).option, QZ_OPTION_MAX_BYTES);
    clear(&b);
    clear_entries(one, 1);

    /* Many zeros: the file is opened and its other arrays can be read; these are refused when they are read. */
    enum { MANY = 68 << 20 };
    entry two[2] = {{.name = "a.npy", .content = npy_bytes(1, F4("(17825792,)"), MANY), .method = 8},
                    {.name = "b.npy", .content = npy_bytes(1, F4("(1,)"), 4)}};
    memset(two[0].content.data + two[0].content.n - MANY, 0, MANY);
    b = build(two, 2);
    put_file(path_of("a.npz"), b.data, b.n);
    for (uint64_t ratio = 200; ratio <= 1100; ratio += 900) {
        float first[4];
        qz_file *file;
        qz_file_error error = QZ_FILE_ERROR_INIT;
        options = (qz_open_options)QZ_OPEN_OPTIONS_INIT;
        options.max_ratio = ratio;
        assert_int_equal(qz_open(path_of("a.npz"), &options, &file, &error), QZ_FILE_OK);
        assert_int_equal(qz_read(file, 1, 0, 1, first, &error), QZ_FILE_OK);
        for (uint64_t count = 0; count <= 4; count += 4)
            assert_int_equal(qz_read(file, 0, 0, count, first, &error), ratio == 200 ? QZ_FILE_LIMIT : QZ_FILE_OK);
        if (ratio == 200)
            assert_true(strstr(error.message, "the limit is 200 times") && error.option == QZ_OPTION_MAX_RATIO);
        qz_close(file);
    }
    clear(&b);
    clear_entries(two, 2);
}

/* ---- zip64 ---- */

/* The archive with a zip64 end record; `lie` changes one number in it. */
static bytes with_zip64(const bytes *good, size_t count, size_t directory, int short_record_says_too, int lie)
{
    bytes b = {0};
    size_t end = good->n - END;
    add(&b, good->data, end);
    add_number(&b, 0x06064b50, 4);
    add_number(&b, 44 + (lie == 1), 8);
    add_number(&b, 45, 2);
    add_number(&b, 45, 2);
    add_number(&b, lie == 2, 4);
    add_number(&b, lie == 3, 4);
    add_number(&b, count + (lie == 4), 8);
    add_number(&b, count + (lie == 5 || lie == 4), 8);
    add_number(&b, end - directory + (lie == 6 ? 1u : 0u), 8);
    add_number(&b, directory + (lie == 7 ? 1u : 0u), 8);
    add_number(&b, 0x07064b50, 4);
    add_number(&b, lie == 8, 4);
    add_number(&b, lie == 9 ? UINT64_MAX - 10 : end + (lie == 10 ? 1u : 0u), 8);
    add_number(&b, 1 + (lie == 11), 4);
    add(&b, good->data + end, END);
    if (!short_record_says_too) {
        memset(b.data + b.n - END + 8, 0xff, 12);
    } else if (lie == 12) {
        set_number(&b, b.n - END + 8, count + 1, 2);
    }
    return b;
}

static void zip64(void **state)
{
    (void)state;
    entry e[GOOD];
    good_entries(e);
    /* All numbers of the second member in zip64 fields, as a writer that knows no sizes in advance does it. */
    for (int lie = 0; lie <= 6; lie++) {
        bytes packed = deflated(&e[1].content);
        bytes *local = &e[1].local_extra, *central = &e[1].central_extra;
        clear(local);
        clear(central);
        add_number(local, 1, 2);
        add_number(local, 16, 2);
        add_number(local, e[1].content.n + (lie == 1), 8);
        add_number(local, packed.n + (lie == 2), 8);
        bytes b = build(e, GOOD);
        set_number(&b, e[1].local + 18, 0xffffffff, 4);
        set_number(&b, e[1].local + 22, 0xffffffff, 4);
        expect("zip64 in the local header only", "a.npz", &b, NULL, lie == 1 || lie == 2 ? QZ_FILE_FORMAT : QZ_FILE_OK,
               NULL);
        size_t where = e[1].local;
        set_number(&b, e[1].local + 18, packed.n, 4);
        set_number(&b, e[1].local + 22, e[1].content.n, 4);
        expect("zip64 field that repeats the sizes", "a.npz", &b, NULL,
               lie == 1 || lie == 2 ? QZ_FILE_FORMAT : QZ_FILE_OK, lie == 1 || lie == 2 ? "other sizes" : NULL);
        clear(&b);
        add_number(central, 1, 2);
        add_number(central, lie == 6 ? 16 : 24, 2);
        add_number(central, e[1].content.n + (lie == 3), 8);
        add_number(central, packed.n + (lie == 4), 8);
        if (lie != 6)
            add_number(central, where + (lie == 5), 8);
        b = build(e, GOOD);
        set_number(&b, e[1].local + 18, 0xffffffff, 4);
        set_number(&b, e[1].local + 22, 0xffffffff, 4);
        set_number(&b, e[1].central + 20, 0xffffffff, 4);
        set_number(&b, e[1].central + 24, 0xffffffff, 4);
        set_number(&b, e[1].central + 42, 0xffffffff, 4);
        expect("zip64 in both headers", "a.npz", &b, NULL, lie == 0 ? QZ_FILE_OK : QZ_FILE_FORMAT, NULL);
        /* The field must go with the numbers that need it. */
        set_number(&b, e[1].central + 42, where, 4);
        expect("one number too many", "a.npz", &b, NULL, lie == 6 ? QZ_FILE_OK : QZ_FILE_FORMAT, NULL);
        clear(&b);
        clear(&packed);
    }
    clear_entries(e, GOOD);

    good_entries(e);
    static const uint8_t broken[] = {1, 0, 9, 0, 0};
    static const uint8_t second_name[] = {0x75, 0x70, 5, 0, 1, 0, 0, 0, 0};
    static const uint8_t filler[] = {0x35, 0xd9, 4, 0, 64, 0, 0, 0};
    for (int i = 0; i < 6; i++) {
        bytes *extra = i < 3 ? &e[0].local_extra : &e[0].central_extra;
        clear(&e[0].local_extra);
        clear(&e[0].central_extra);
        add(extra,
            i % 3 == 0   ? broken
            : i % 3 == 1 ? second_name
                         : filler,
            i % 3 == 0   ? sizeof broken
            : i % 3 == 1 ? sizeof second_name
                         : sizeof filler);
        bytes b = build(e, GOOD);
        expect("extra fields", "a.npz", &b, NULL, i % 3 == 2 ? QZ_FILE_OK : QZ_FILE_FORMAT,
               i % 3 == 0   ? "reaches beyond"
               : i % 3 == 1 ? "second name"
                            : NULL);
        clear(&b);
    }
    clear_entries(e, GOOD);

    good_entries(e);
    bytes good = build(e, GOOD);
    for (int lie = 0; lie <= 12; lie++)
        for (int short_too = 0; short_too <= 1; short_too++) {
            bytes b = with_zip64(&good, GOOD, e[0].central, short_too, lie);
            int fine = lie == 0 || (lie == 12 && !short_too);
            outcome o = open_bytes("a.npz", &b, NULL);
            if (o.result != (fine ? QZ_FILE_OK : QZ_FILE_FORMAT))
                fail_msg("zip64 end record, lie %d: result %d %s\n", lie, o.result, o.message);
            clear(&b);
        }
    clear(&good);
    clear_entries(e, GOOD);
}

/* ---- damage ---- */

static void every_prefix(void **state)
{
    (void)state;
    entry e[GOOD];
    good_entries(e);
    bytes b = build(e, GOOD);
    for (size_t n = 0; n < b.n; n++) {
        bytes prefix = {b.data, n, n};
        expect("prefix", "a.npz", &prefix, NULL, QZ_FILE_FORMAT, NULL);
    }
    clear(&b);
    clear_entries(e, GOOD);
}

/* Every bit of the whole archive, data included: refused, or without any effect on what is read. */
static void every_bit(void **state)
{
    (void)state;
    entry e[GOOD];
    good_entries(e);
    bytes b = build(e, GOOD);
    uint64_t digest = open_bytes("a.npz", &b, NULL).digest;
    size_t step = short_mode ? 7 : 1, without_effect = 0;
    assert_true(digest != 0);
    for (size_t bit = 0; bit < 8 * b.n; bit += step) {
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        outcome o = open_bytes("a.npz", &b, NULL);
        if (o.result == QZ_FILE_OK && o.digest != digest)
            fail_msg("bit %zu of byte %zu changes what is read and is not noticed\n", bit % 8, bit / 8);
        assert_true(o.result == QZ_FILE_OK || o.result == QZ_FILE_FORMAT || o.result == QZ_FILE_LIMIT);
        without_effect += o.result == QZ_FILE_OK;
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(without_effect < 8 * b.n / 8); /* times, versions, attributes */
    clear(&b);
    clear_entries(e, GOOD);
}

/* Several random changes at once, in archives of two kinds. (Changes may agree with each other, as in a name that is
 * changed alike in both places, so that other tensors are possible here: what counts is that nothing worse happens.) */
static void random_damage(void **state)
{
    (void)state;
    entry e[GOOD];
    good_entries(e);
    bytes good = build(e, GOOD), wide = with_zip64(&good, GOOD, e[0].central, 0, 0);
    uint64_t digest = open_bytes("a.npz", &good, NULL).digest;
    assert_true(open_bytes("a.npz", &wide, NULL).digest == digest);
    uint64_t seed = test_seed;
    for (size_t i = 0; i < cases(20000, 1000); i++) {
        bytes b = copy_of(i % 2 ? &wide : &good);
        for (int changes = 0; changes <= (int)(i % 4); changes++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
            size_t at = (size_t)(seed >> 33) % b.n;
            static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff, 'P', 8, 2};
            b.data[at] = values[seed >> 20 & 7];
        }
        outcome o = open_bytes("a.npz", &b, NULL);
        assert_true(o.result == QZ_FILE_FORMAT || o.result == QZ_FILE_LIMIT || o.result == QZ_FILE_OK);
        assert_true(o.tensors <= GOOD);
        clear(&b);
    }
    clear(&good);
    clear(&wide);
    clear_entries(e, GOOD);
}

/* ---- reading parts ---- */

static void ranges(void **state)
{
    (void)state;
    enum { N = 300000 };
    qz_file_error error = QZ_FILE_ERROR_INIT;
    entry e[2] = {{.name = "s.npy",
                   .content = npy_bytes(1, "{'descr': '>u2', 'fortran_order': False, 'shape': (300000,)}", 2 * N)},
                  {.name = "d.npy",
                   .content = npy_bytes(1, "{'descr': '<u2', 'fortran_order': False, 'shape': (300000,)}", 2 * N),
                   .method = 8}};
    qz_open_options options = QZ_OPEN_OPTIONS_INIT;
    options.max_ratio = 1000;
    bytes b = build(e, 2);
    put_file(path_of("a.npz"), b.data, b.n);
    uint16_t *whole = malloc(2 * N), *part = malloc(2 * N);
    for (size_t tensor = 0; tensor < 2; tensor++) {
        qz_file *file;
        assert_int_equal(qz_open(path_of("a.npz"), &options, &file, &error), QZ_FILE_OK);
        /* In order, in pieces; then again; then from anywhere. */
        for (int turn = 0; turn < 2; turn++)
            for (uint64_t at = 0; at < N; at += 7777) {
                uint64_t n = at + 7777 < N ? 7777 : N - at;
                if (qz_read(file, tensor, at, n, (turn == 0 ? whole : part) + at, &error) != QZ_FILE_OK)
                    fail_msg("%s\n", error.message);
            }
        assert_memory_equal(whole, part, 2 * N);
        for (size_t i = 0; i < N; i++) {
            uint16_t first = (uint8_t)(2 * i + 1), second = (uint8_t)(2 * i + 2);
            assert_int_equal(whole[i], tensor == 0 ? first << 8 | second : second << 8 | first);
        }
        qz_close(file);

        assert_int_equal(qz_open(path_of("a.npz"), &options, &file, &error), QZ_FILE_OK);
        uint64_t seed = 1;
        for (int i = 0; i < 200; i++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
            uint64_t at = (seed >> 33) % N, n = (seed >> 20) % 1000;
            if (n > N - at)
                n = N - at;
            assert_int_equal(qz_read(file, tensor, at, n, part, &error), QZ_FILE_OK);
            assert_memory_equal(part, whole + at, 2 * n);
        }
        qz_close(file);
    }
    /* Both at once, in turns. */
    qz_file *file;
    assert_int_equal(qz_open(path_of("a.npz"), &options, &file, &error), QZ_FILE_OK);
    for (uint64_t at = 0; at < N; at += 1000)
        for (size_t tensor = 0; tensor < 2; tensor++)
            assert_int_equal(qz_read(file, tensor, at, 1000, part, &error), QZ_FILE_OK);
    qz_close(file);

    /* Wrong data is noticed before any of it is handed out, wherever the read begins. */
    for (size_t tensor = 0; tensor < 2; tensor++) {
        bytes c = copy_of(&b);
        c.data[e[tensor].data + e[tensor].packed - 1] ^= 1;
        put_file(path_of("a.npz"), c.data, c.n);
        clear(&c);
        assert_int_equal(qz_open(path_of("a.npz"), &options, &file, &error), QZ_FILE_OK);
        assert_int_equal(qz_read(file, tensor, 5, 1, part, &error), QZ_FILE_FORMAT);
        assert_int_equal(qz_read(file, tensor, 5, 1, part, &error), QZ_FILE_FORMAT);
        assert_int_equal(qz_read(file, 1 - tensor, 5, 1, part, &error), QZ_FILE_OK);
        qz_close(file);
    }
    free(whole);
    free(part);
    clear(&b);
    clear_entries(e, 2);
}

/* ---- where members are expanded ---- */

static void temporary_folder(void **state)
{
    (void)state;
    const char *given = getenv("TMPDIR");
    char kept[4096], long_path[5000];
    snprintf(kept, sizeof kept, "%s", given ? given : "");
    memset(long_path, 'x', sizeof long_path);
    long_path[0] = '/';
    long_path[sizeof long_path - 1] = '\0';
    entry one[1] = {{.name = "a.npy", .content = npy_bytes(1, F4("(0,)"), 0), .method = 8}}; /* checked at once */
    bytes b = build(one, 1);
    unsetenv("TMPDIR");
    expect("no word", "a.npz", &b, NULL, QZ_FILE_OK, NULL);
    setenv("TMPDIR", "", 1);
    expect("an empty word", "a.npz", &b, NULL, QZ_FILE_OK, NULL);
    setenv("TMPDIR", folder, 1);
    int before = count_files();
    expect("a folder", "a.npz", &b, NULL, QZ_FILE_OK, NULL);
    assert_int_equal(count_files(), before);
    setenv("TMPDIR", path_of("nowhere"), 1);
    expect("no folder", "a.npz", &b, NULL, QZ_FILE_IO, "temporary file");
    setenv("TMPDIR", long_path, 1);
    expect("a long path", "a.npz", &b, NULL, QZ_FILE_IO, "temporary file");
    if (given)
        setenv("TMPDIR", kept, 1);
    else
        unsetenv("TMPDIR");
    clear(&b);
    clear_entries(one, 1);
}

/* ---- very many members ---- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double time_to_open(size_t count)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    qz_create_options options = QZ_CREATE_OPTIONS_INIT;
    options.replace = options.no_fsync = 1;
    qz_writer *writer;
    assert_int_equal(qz_create(path_of("many.npz"), &options, &writer, &error), QZ_FILE_OK);
    for (size_t i = 0; i < count; i++) {
        char name[32];
        int n = snprintf(name, sizeof name, "tensor.%zu", i);
        qz_tensor t = {
            .name = name, .name_length = (size_t)n, .element = QZ_ELEMENT_U8, .rank = 1, .shape = &(uint64_t){0}};
        assert_int_equal(qz_declare(writer, &t, NULL, &error), QZ_FILE_OK);
    }
    assert_int_equal(qz_commit(writer, &error), QZ_FILE_OK);
    double start = seconds();
    qz_file *file;
    assert_int_equal(qz_open(path_of("many.npz"), NULL, &file, &error), QZ_FILE_OK);
    assert_int_equal(qz_tensor_count(file), count);
    assert_int_equal(qz_tensor_find(file, "tensor.100", 10), 100);
    double taken = seconds() - start;
    qz_close(file);
    return taken;
}

static void many_members(void **state)
{
    (void)state;
    size_t n = cases(20000, 5000);
    double few = time_to_open(n), many = time_to_open(10 * n); /* also passes 65535 members: zip64 */
    print_message("%zu members: %.3f s, %zu: %.3f s\n", n, few, 10 * n, many);
    assert_true(many < 40 * few + 0.5); /* linear gives 10, comparing all pairs 100 */
}

int main(void)
{
    start_program("test_npz");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_archives),   cmocka_unit_test(names),
        cmocka_unit_test(changed_records), cmocka_unit_test(bytes_of_nobody),
        cmocka_unit_test(shared_data),     cmocka_unit_test(damaged_data),
        cmocka_unit_test(limits),          cmocka_unit_test(zip64),
        cmocka_unit_test(every_prefix),    cmocka_unit_test(every_bit),
        cmocka_unit_test(random_damage),   cmocka_unit_test(ranges),
        cmocka_unit_test(many_members),    cmocka_unit_test(temporary_folder),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
