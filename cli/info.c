/*
 * info.c - the command info: lists what a file holds, or what this program can do
 */
#include "commands.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "output.h"
#include "packed_block.h"
#include "scheme.h"
#include "source.h"
#include "table.h"

/* ---- without a file ---- */

/* Bits per value in rows so long that super scales of a row do not count. */
static double scheme_bits(const qz_scheme *scheme)
{
    qz_sizes sizes = {.size = sizeof sizes};
    return qz_scheme_sizes(scheme, 1, UINT64_C(1) << 40, &sizes) == QZ_OK ? sizes.bits_per_value : 0;
}

static void program_json(void)
{
    const qz_scheme *scheme;
    const char *name;
    int supported;
    json_begin(NULL, '{');
    json_text("command", "info");
    json_text("version", qz_version());
    json_text("kernels", qz_kernels());
    json_begin("kernel_sets", '[');
    for (size_t i = 0; (name = qz_kernels_at(i, &supported)) != NULL; i++) {
        json_begin(NULL, '{');
        json_text("name", name);
        json_bool("supported", supported);
        json_end();
    }
    json_end();
    json_whole("cpus", qz_cpu_count());
    json_begin("schemes", '[');
    for (size_t i = 0; (scheme = qz_scheme_at(i)) != NULL; i++) {
        json_begin(NULL, '{');
        json_text("name", scheme->name);
        json_text("summary", scheme->summary);
        json_scheme(scheme);
        json_real("bits_per_value", scheme_bits(scheme));
        json_text("method", qz_method_name(scheme->method));
        json_begin("methods", '[');
        for (int m = QZ_DEFAULT + 1; qz_method_name((qz_method)m); m++)
            if (qz_scheme_check(scheme, (qz_method)m) == QZ_OK)
                json_text(NULL, qz_method_name((qz_method)m));
        json_end();
        json_end();
    }
    json_end();
    json_end();
}

static int program_info(const settings *s)
{
    const qz_scheme *scheme;
    const char *name;
    int supported;
    if (s->say.json) {
        program_json();
        return DONE;
    }
    printf("quantize %s\nkernels in use: %s\nkernel sets:   ", qz_version(), qz_kernels());
    for (size_t i = 0; (name = qz_kernels_at(i, &supported)) != NULL; i++)
        printf(" %s%s", name, supported ? "" : " (not on this CPU)");
    printf("\nCPUs: %zu\n\n", qz_cpu_count());
    static const char *const titles[] = {"scheme", "group", "scales", "bits", "what it is"};
    table t;
    table_begin(&t, "lrlrl", titles);
    for (size_t i = 0; (scheme = qz_scheme_at(i)) != NULL; i++) {
        char group[32];
        table_cell(&t, "%s", scheme->name);
        table_cell(&t, "%s", size_text(scheme->group_size, group, sizeof group));
        table_cell(&t, "%s", qz_dtype_name(scheme->scale_dtype));
        table_cell(&t, "%.4g", scheme_bits(scheme));
        table_cell(&t, "%s", scheme->summary);
    }
    table_print(&t);
    return DONE;
}

/* ---- of a file ---- */

typedef struct totals {
    uint64_t values, bytes;
} totals;

/* The tensors of the file that a quantized one consists of; the first stands for it, and may be one of the others. */
static void members_json(const source *in, const qz_packed_tensor *p)
{
    json_begin("members", '[');
    for (size_t m = 0; m < QZ_MEMBERS; m++) {
        const size_t at = p->members[m];
        if (at == SIZE_MAX || (m != QZ_MEMBER_HEADER && at == p->members[QZ_MEMBER_HEADER]))
            continue;
        const qz_tensor *t = qz_tensor_at(in->file, at);
        json_name(NULL, t->name, t->name_length);
    }
    json_end();
}

enum { STORED_TEXT = 16 };

/* The type of the codes that a tensor is decoded from, as schemes are written; NULL: there are none. */
static const char *stored_text(const source *in, const item *i, char out[STORED_TEXT])
{
    const char *name = qz_stored_as(in->file, i->tensor);
    if (!name)
        return NULL;
    size_t n = 0;
    for (; name[n] != '\0' && n < STORED_TEXT - 1; n++)
        out[n] = (char)(name[n] >= 'A' && name[n] <= 'Z' ? name[n] - 'A' + 'a' : name[n]);
    out[n] = '\0';
    return out;
}

static void tensor_json(const source *in, const item *i, const qz_tensor *t, const qz_packed_tensor *p,
                        const char *stored)
{
    json_begin(NULL, '{');
    json_name("name", i->name, i->name_length);
    json_bool("quantized", i->packed);
    if (i->packed) {
        json_scheme(&p->scheme);
        json_whole("axis", p->axis);
        members_json(in, p);
    } else {
        json_text("dtype", t->element == QZ_ELEMENT_RAW ? t->type : qz_element_name(t->element));
        json_text("order", t->column_major ? "F" : "C");
        if (stored)
            json_text("stored", stored);
    }
    json_shape("shape", t->rank, t->shape);
    json_whole("count", item_count(t));
    json_whole("bytes", t->bytes);
    json_real("bits_per_value", t->count != 0 ? 8.0 * (double)t->bytes / (double)item_count(t) : 0);
    json_end();
}

static void tensor_row(table *out, const item *i, const qz_tensor *t, const qz_packed_tensor *p, const char *stored)
{
    char text[SHAPE_TEXT], scheme[SCHEME_TEXT];
    table_cell(out, "%s", qz_escape(i->name, i->name_length, text, NAME_TEXT));
    if (i->packed) {
        table_cell(out, "%s, axis %u", scheme_text(&p->scheme, scheme, sizeof scheme), p->axis);
    } else {
        char type[TYPE_TEXT];
        const char *codes = stored ? ", kept as " : t->bytes < t->count ? ", decoded" : "";
        table_cell(out, "%s%s%s%s", type_text(t, type, sizeof type), codes, stored ? stored : "",
                   t->column_major && t->rank > 1 ? ", Fortran order" : "");
    }
    table_cell(out, "%s", shape_text(t->rank, t->shape, text, sizeof text));
    table_cell(out, "%s", bytes_text((double)t->bytes));
    if (t->count != 0)
        table_cell(out, "%.4g", 8.0 * (double)t->bytes / (double)item_count(t));
    else
        table_cell(out, "%s", "");
}

static int file_info(const settings *s)
{
    static const char *const titles[] = {"name", "type", "shape", "size", "bits"};
    source in;
    table out;
    totals sum = {0};
    int code = source_open(s, s->files[0], &in);
    if (code != DONE)
        return code;
    /* All tensors are checked before anything is printed: a broken file gives an error and no part of a result. */
    for (size_t i = 0; i < in.count && code == DONE; i++) {
        qz_packed_tensor p;
        qz_tensor t;
        code = source_tensor(&in, &in.items[i], &t, &p);
        if (code == DONE && s->say.check)
            code = in.items[i].packed ? check_packed(&in, &in.items[i])
                                      : for_each_piece(&in, in.items[i].tensor, NULL, NULL);
    }
    if (code == DONE && s->say.json) {
        json_begin(NULL, '{');
        json_text("command", "info");
        json_name("file", s->files[0], strlen(s->files[0]));
        source_paths(&in);
        json_text("container", qz_container(in.file));
        json_whole("bytes", qz_file_bytes(in.file));
        json_bool("checked", s->say.check);
        if (qz_note(in.file))
            json_text("note", qz_note(in.file));
        json_text("kernels", qz_kernels());
        json_begin("tensors", '[');
    } else if (code == DONE) {
        table_begin(&out, "lllrr", titles);
    }
    for (size_t i = 0; i < in.count && code == DONE; i++) {
        qz_packed_tensor p;
        qz_tensor t;
        if (source_tensor(&in, &in.items[i], &t, &p) != DONE)
            continue; /* the file changed since the check above: qz_unchanged() reports it */
        sum.values += item_count(&t);
        sum.bytes += t.bytes;
        char text[STORED_TEXT];
        const char *stored = stored_text(&in, &in.items[i], text);
        if (s->say.json)
            tensor_json(&in, &in.items[i], &t, &p, stored);
        else
            tensor_row(&out, &in.items[i], &t, &p, stored);
    }
    if (code == DONE && s->say.json) {
        json_end();
        json_whole("values", sum.values);
        json_whole("tensor_bytes", sum.bytes);
        json_end();
    } else if (code == DONE) {
        table_print(&out);
        printf("\n%s: %s of %s, %" PRIu64 " values in %zu %s%s; kernels in use: %s\n", qz_container(in.file),
               bytes_text((double)sum.bytes), bytes_text((double)qz_file_bytes(in.file)), sum.values, in.count,
               in.count == 1 ? "tensor" : "tensors", s->say.check ? ", all data checked" : "", qz_kernels());
    }
    qz_file_error error = QZ_FILE_ERROR_INIT;
    if (code == DONE && qz_unchanged(in.file, &error) != QZ_FILE_OK)
        code = fail_file(&error);
    source_close(&in);
    return code;
}

int run_info(const settings *s)
{
    return s->file_count == 0 ? program_info(s) : file_info(s);
}
