/*
 * imatrix.c - reads importance matrices of llama.cpp (--imatrix): the weight of each column of a matrix
 */
#include "imatrix.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "output.h"
#include "resources.h"

/* An entry of the older form takes a dozen bytes in the file, and some more in memory. */
enum { MOST_ENTRIES = 1000000, LONGEST_NAME = 4096 };

static importance *add_importance(imatrix *m, const char *name, size_t length)
{
    importance *items = m->items;
    if ((m->count & (m->count - 1)) == 0) /* room for twice as many */
        items = realloc(m->items, (m->count != 0 ? 2 * m->count : 1) * sizeof *items);
    char *copy = items ? strndup(name, length) : NULL;
    if (items)
        m->items = items;
    if (!copy) {
        fail_memory();
        return NULL;
    }
    m->items[m->count] = (importance){.name = copy};
    return &m->items[m->count++];
}

/* ---- GGUF ---- */

static int ends_in(const qz_tensor *t, const char *end)
{
    const size_t length = strlen(end);
    return t->name_length > length && memcmp(t->name + t->name_length - length, end, length) == 0;
}

static int fail_tensor(const char *path, const qz_tensor *t, const char *what)
{
    char shown[NAME_TEXT], name[NAME_TEXT];
    return fail(MALFORMED, "%s: tensor '%s': %s", qz_escape(path, strlen(path), shown, sizeof shown),
                qz_escape(t->name, t->name_length, name, sizeof name), what);
}

static int add_pair(const char *path, imatrix *m, size_t sums)
{
    static const char sums_end[] = ".in_sum2", counts_end[] = ".counts";
    const qz_tensor *t = qz_tensor_at(m->in.file, sums);
    const size_t length = t->name_length - (sizeof sums_end - 1);
    importance *i = add_importance(m, t->name, length);
    char *name = malloc(length + sizeof counts_end);
    int code = i && name ? DONE : LIMIT;
    if (code == DONE) {
        memcpy(name, t->name, length);
        memcpy(name + length, counts_end, sizeof counts_end);
        i->place = sums;
        i->counts = qz_tensor_find(m->in.file, name, length + sizeof counts_end - 1);
        const qz_tensor *c = i->counts != SIZE_MAX ? qz_tensor_at(m->in.file, i->counts) : NULL;
        i->rows = c ? c->count : 0;
        i->cols = i->rows != 0 ? t->count / i->rows : 0;
        if (!c)
            code = fail_tensor(path, t, "there is no tensor of its counts; make the matrix again");
        else if (t->element != QZ_ELEMENT_F32 || c->element != QZ_ELEMENT_F32)
            code = fail_tensor(path, t, "sums and counts must be float32; make the matrix again");
        else if (i->cols == 0 || i->rows * i->cols != t->count || (t->rank > 1 && t->shape[t->rank - 1] != i->cols))
            code = fail_tensor(path, t, "its shape does not fit that of its counts; make the matrix again");
    }
    free(name);
    return code;
}

static int read_gguf(const settings *s, const char *path, imatrix *m)
{
    int code = source_open(s, path, &m->in);
    size_t n = code == DONE ? qz_tensor_count(m->in.file) : 0, counts = 0;
    for (size_t i = 0; i < n && code == DONE; i++) {
        const qz_tensor *t = qz_tensor_at(m->in.file, i);
        if (ends_in(t, ".in_sum2"))
            code = add_pair(path, m, i);
        else if (ends_in(t, ".counts"))
            counts++;
        else
            code = fail_tensor(path, t, "an importance matrix has tensors called *.in_sum2 and *.counts only");
    }
    if (code == DONE && (m->count == 0 || counts != m->count))
        return fail(MALFORMED, "--imatrix: the file is no importance matrix: it has %zu tensors of sums, %zu of counts",
                    m->count, counts);
    return code;
}

/* ---- the older form ---- */

/* A file that is read from its beginning, with the bytes that are left of it. */
typedef struct reader {
    FILE *file;
    const char *path; /* safe to print */
    uint64_t size, left;
} reader;

static int fail_here(const reader *r, const char *what)
{
    return fail(MALFORMED, "%s: at byte %" PRIu64 ": %s; it is no importance matrix of llama.cpp, or damaged", r->path,
                r->size - r->left, what);
}

static int read_bytes(reader *r, void *out, uint64_t count)
{
    if (count > r->left)
        return fail_here(r, "the file ends too early");
    if (fread(out, 1, (size_t)count, r->file) != count)
        return fail(IO_ERROR, "%s: cannot be read, or changed meanwhile", r->path);
    r->left -= count;
    return DONE;
}

/* A whole number of 32 bits, which is not negative. */
static int read_number(reader *r, uint32_t *out)
{
    unsigned char b[4] = {0};
    int code = read_bytes(r, b, sizeof b);
    *out = 0;
    if (code != DONE)
        return code;
    *out = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    return *out <= INT32_MAX ? DONE : fail_here(r, "a number is negative");
}

static int skip_bytes(reader *r, uint64_t count)
{
    if (count > r->left)
        return fail_here(r, "the file ends too early");
    r->left -= count;
    return fseeko(r->file, (off_t)(r->size - r->left), SEEK_SET) == 0 ? DONE : fail_here(r, strerror(errno));
}

static int read_entry(reader *r, imatrix *m)
{
    char name[LONGEST_NAME];
    uint32_t length, calls = 0, values = 0;
    int code = read_number(r, &length);
    if (code == DONE && (length == 0 || length > sizeof name))
        return fail_here(r, "a name must have 1 to 4096 bytes");
    if (code == DONE)
        code = read_bytes(r, name, length);
    if (code == DONE && memchr(name, '\0', length))
        return fail_here(r, "a name has a NUL in it");
    if (code == DONE)
        code = read_number(r, &calls);
    if (code == DONE)
        code = read_number(r, &values);
    if (code == DONE && values == 0)
        return fail_here(r, "a matrix without values");
    importance *i = code == DONE ? add_importance(m, name, length) : NULL;
    if (!i)
        return code == DONE ? LIMIT : code;
    *i = (importance){i->name, 1, values, r->size - r->left, 0, calls};
    return skip_bytes(r, 4 * (uint64_t)values);
}

static int read_entries(reader *r, imatrix *m)
{
    uint32_t count, last, length = 0;
    int code = read_number(r, &count);
    if (code == DONE && (count == 0 || count > MOST_ENTRIES))
        return fail_here(r, "there must be 1 to 1000000 matrices");
    for (uint32_t i = 0; i < count && code == DONE; i++)
        code = read_entry(r, m);
    if (code != DONE || r->left == 0)
        return code;
    code = read_number(r, &last); /* how often it was called, and what was read */
    if (code == DONE)
        code = read_number(r, &length);
    return code == DONE && length != r->left ? fail_here(r, "the name of the data must end the file") : code;
}

static int read_older(const char *path, imatrix *m)
{
    char shown[NAME_TEXT];
    struct stat status;
    reader r = {.path = qz_escape(path, strlen(path), shown, sizeof shown), .file = m->stream};
    if (fstat(fileno(r.file), &status) != 0 || !S_ISREG(status.st_mode))
        return fail(IO_ERROR, "%s: this is no regular file", shown);
    r.size = r.left = (uint64_t)status.st_size;
    return read_entries(&r, m);
}

/* ---- both ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const importance *)a)->name, ((const importance *)b)->name);
}

static int sort_names(imatrix *m)
{
    char name[NAME_TEXT];
    qsort(m->items, m->count, sizeof *m->items, by_name);
    for (size_t i = 1; i < m->count; i++)
        if (strcmp(m->items[i].name, m->items[i - 1].name) == 0)
            return fail(MALFORMED, "--imatrix: two matrices are called '%s'",
                        qz_escape(m->items[i].name, strlen(m->items[i].name), name, sizeof name));
    return DONE;
}

int imatrix_open(const settings *s, const char *path, imatrix *out)
{
    char magic[4];
    *out = (imatrix){.count = 0};
    out->stream = fopen(path, "rb");
    if (!out->stream)
        return fail_system(path, errno);
    int is_gguf = fread(magic, 1, sizeof magic, out->stream) == sizeof magic && memcmp(magic, "GGUF", 4) == 0;
    rewind(out->stream);
    int code = is_gguf ? read_gguf(s, path, out) : read_older(path, out);
    return code == DONE ? sort_names(out) : code;
}

void imatrix_close(imatrix *m)
{
    for (size_t i = 0; i < m->count; i++)
        free(m->items[i].name);
    free(m->items);
    if (m->stream)
        fclose(m->stream);
    source_close(&m->in);
    *m = (imatrix){.count = 0};
}

static const importance *find_name(const imatrix *m, char *name)
{
    const importance key = {.name = name};
    return m->count != 0 ? bsearch(&key, m->items, m->count, sizeof key, by_name) : NULL;
}

/* A name of Hugging Face's models as llama.cpp has it: of Llama, Mistral, Qwen, Gemma and those that call their layers
 * like them. Returns 0 if it is none. */
static int llama_name(const char *name, char *out, size_t out_size)
{
    static const char *const layers[] = {"model.layers.", "model.language_model.layers.",
                                         "language_model.model.layers."};
    static const char *const parts[][2] = {
        {".self_attn.q_proj.weight", "attn_q"}, {".self_attn.k_proj.weight", "attn_k"},
        {".self_attn.v_proj.weight", "attn_v"}, {".self_attn.o_proj.weight", "attn_output"},
        {".mlp.gate_proj.weight", "ffn_gate"},  {".mlp.up_proj.weight", "ffn_up"},
        {".mlp.down_proj.weight", "ffn_down"},
    };
    if (strcmp(name, "lm_head.weight") == 0 || strcmp(name, "model.embed_tokens.weight") == 0)
        return snprintf(out, out_size, "%s.weight", name[0] == 'l' ? "output" : "token_embd") > 0;
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        const size_t length = strlen(layers[i]);
        if (strncmp(name, layers[i], length) != 0)
            continue;
        const size_t digits = strspn(name + length, "0123456789");
        for (size_t k = 0; k < sizeof parts / sizeof parts[0] && digits > 0 && digits < 10; k++)
            if (strcmp(name + length + digits, parts[k][0]) == 0)
                return snprintf(out, out_size, "blk.%.*s.%s.weight", (int)digits, name + length, parts[k][1]) > 0;
    }
    return 0;
}

const importance *imatrix_find(const imatrix *m, const char *name, size_t length)
{
    char copy[LONGEST_NAME + 1], other[64];
    if (length > LONGEST_NAME)
        return NULL;
    memcpy(copy, name, length);
    copy[length] = '\0';
    const importance *found = find_name(m, copy);
    return !found && llama_name(copy, other, sizeof other) ? find_name(m, other) : found;
}

/* ---- values ---- */

static int read_values(const imatrix *m, const importance *i, float *out)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    const uint64_t count = i->rows * i->cols;
    if (m->in.file)
        return qz_read(m->in.file, (size_t)i->place, 0, count, out, &error) == QZ_FILE_OK ? DONE : fail_file(&error);
    if (fseeko(m->stream, (off_t)i->place, SEEK_SET) != 0 || fread(out, sizeof *out, count, m->stream) != count)
        return fail(IO_ERROR, "--imatrix: the file cannot be read, or changed meanwhile");
    for (uint64_t k = 0; k < count; k++) { /* little-endian in the file */
        const unsigned char *b = (const unsigned char *)&out[k];
        uint32_t bits = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
        memcpy(&out[k], &bits, sizeof bits);
    }
    return DONE;
}

/* What the sums of a row are divided by. */
static int read_count(const imatrix *m, const importance *i, uint64_t row, float *out)
{
    qz_file_error error = QZ_FILE_ERROR_INIT;
    *out = (float)i->calls;
    if (!m->in.file)
        return DONE;
    return qz_read(m->in.file, i->counts, row, 1, out, &error) == QZ_FILE_OK ? DONE : fail_file(&error);
}

static int fail_value(const importance *i, uint64_t row, uint64_t col)
{
    char name[NAME_TEXT];
    return fail(MALFORMED,
                "--imatrix: '%s': the sum or count of row %" PRIu64 ", column %" PRIu64
                " is negative or not finite; make the matrix again",
                qz_escape(i->name, strlen(i->name), name, sizeof name), row, col);
}

int imatrix_read(const imatrix *m, const importance *i, float *out)
{
    int code = read_values(m, i, out);
    for (uint64_t row = 0; row < i->rows && code == DONE; row++) {
        float count = 0;
        code = read_count(m, i, row, &count);
        for (uint64_t col = 0; col < i->cols && code == DONE; col++) {
            float *value = &out[row * i->cols + col];
            if (!(*value >= 0) || !isfinite(*value) || !(count >= 0) || !isfinite(count))
                code = fail_value(i, row, col);
            else if (count > 0)
                *value /= count;
            else if (m->in.file) /* an expert that no input went to */
                *value = 1;
        }
    }
    return code;
}
