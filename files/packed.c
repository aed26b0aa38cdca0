/*
 * packed.c - the public functions for quantized tensors
 *
 * They check their arguments and call the layout of the tensor. They know no layout themselves.
 */
#include "layout.h"
#include "layouts/form.h"

#include <stdio.h>
#include <string.h>

#include "checked.h"
#include "container.h"
#include "error.h"
#include "packed_list.h"

enum {
    FIRST_VERSION = offsetof(qz_packed_tensor, members) + sizeof((qz_packed_tensor *)0)->members
}; /* of the structure */

/* A caller's structure holds at least what the first version has. */
static qz_file_result check_size(const qz_packed_tensor *packed, const char *label, qz_file_error *error)
{
    return packed->size >= FIRST_VERSION ? QZ_FILE_OK
                                         : qz_fail(error, QZ_FILE_ARGUMENT, label, NULL, QZ_NO_OFFSET,
                                                   "the size of the qz_packed_tensor is not set");
}

/* Gives a caller as much as the caller's version has. */
static void hand_over(const qz_packed_tensor *from, qz_packed_tensor *packed)
{
    size_t size = packed->size;
    memcpy(packed, from, size < sizeof *packed ? size : sizeof *packed);
    packed->size = size;
}

/* ---- what there is ---- */

qz_part qz_packed_part(const qz_file *file, size_t tensor)
{
    return tensor < file->count ? file->entries[tensor].part : QZ_PART_NONE;
}

size_t qz_packed_count(const qz_file *file)
{
    return file->packed.count;
}

const char *qz_packed_name_at(const qz_file *file, size_t i, size_t *name_length)
{
    if (i >= file->packed.count)
        return NULL;
    *name_length = file->packed.entries[i].name_length;
    return file->packed.entries[i].name;
}

size_t qz_packed_place_at(const qz_file *file, size_t i)
{
    return i < file->packed.count ? file->packed.entries[i].members[QZ_MEMBER_HEADER] : SIZE_MAX;
}

size_t qz_packed_index(const qz_file *file, const char *name, size_t name_length)
{
    return qz_names_find(&file->packed.names, name, name_length);
}

/* Fills in what follows from the rest of the description; 0 if it is too large. */
static int complete(const qz_layout *layout, qz_packed_tensor *packed)
{
    if (!qz_packed_complete(packed))
        return 0;
    packed->layout = layout->name;
    packed->bytes = layout->bytes ? layout->bytes(packed) : packed->sizes.total_bytes;
    return 1;
}

static qz_file_result describe(qz_file *file, const qz_packed_entry *entry, qz_packed_tensor *packed,
                               qz_file_error *error)
{
    char shown[QZ_NAME_TEXT];
    qz_escape(entry->name, entry->name_length, shown, sizeof shown);
    if (entry->twice)
        return qz_fail(error, QZ_FILE_FORMAT, file->input.label, shown, QZ_NO_OFFSET,
                       "is stored twice, quantized in two ways, so that its meaning is unclear");
    memcpy(packed->members, entry->members, sizeof packed->members);
    qz_file_result result = entry->layout->describe(file, entry, packed, error);
    if (result == QZ_FILE_OK && !complete(entry->layout, packed))
        result =
            qz_fail(error, QZ_FILE_FORMAT, file->input.label, shown, QZ_NO_OFFSET, "has a shape that is too large");
    return result;
}

qz_file_result qz_packed_find(qz_file *file, const char *name, size_t name_length, qz_packed_tensor *packed,
                              qz_file_error *error)
{
    char shown[QZ_NAME_TEXT];
    size_t i = qz_packed_index(file, name, name_length);
    qz_packed_tensor found = {.size = sizeof found};
    qz_file_result result = check_size(packed, file->input.label, error);
    if (result == QZ_FILE_OK && i == SIZE_MAX)
        result = qz_fail(error, QZ_FILE_MISSING, file->input.label, NULL, QZ_NO_OFFSET,
                         "there is no quantized tensor '%s'", qz_escape(name, name_length, shown, sizeof shown));
    if (result == QZ_FILE_OK)
        result = describe(file, &file->packed.entries[i], &found, error);
    if (result == QZ_FILE_OK)
        hand_over(&found, packed);
    return result;
}

qz_file_result qz_packed_check(qz_file *file, qz_file_error *error)
{
    qz_file_result result = QZ_FILE_OK;
    for (size_t i = 0; i < file->packed.count && result == QZ_FILE_OK; i++) {
        const qz_packed_entry *entry = &file->packed.entries[i];
        size_t twin = qz_tensor_find(file, entry->name, entry->name_length);
        qz_packed_tensor packed = {.size = sizeof packed};
        char shown[QZ_NAME_TEXT];
        result = describe(file, entry, &packed, error);
        if (result == QZ_FILE_OK && twin != SIZE_MAX && qz_packed_part(file, twin) == QZ_PART_NONE)
            result = qz_fail(error, QZ_FILE_FORMAT, file->input.label,
                             qz_escape(entry->name, entry->name_length, shown, sizeof shown), QZ_NO_OFFSET,
                             "is stored twice, quantized and plain, so that its meaning is unclear");
    }
    return result;
}

/* ---- blocks ---- */

/* Whether a block is one that can be moved: at most the matrix, and no pair of groups and no super scale divided. */
static int is_block(const qz_packed_tensor *p, uint64_t row, uint64_t rows, uint64_t col, uint64_t cols)
{
    uint64_t group = p->scheme.group_size, super = p->scheme.super_size;
    int whole = group >= p->cols, to_end = col + cols == p->cols;
    if (!qz_within(row, rows, p->rows) || !qz_within(col, cols, p->cols))
        return 0;
    if (super != 0 && super < p->cols && (col % super != 0 || (!to_end && cols % super != 0)))
        return 0;
    if (whole)
        return col % 2 == 0 && (to_end || cols % 2 == 0);
    return col % group == 0 && col / group % 2 == 0 && (to_end || (cols % group == 0 && cols / group % 2 == 0));
}

static qz_file_result refuse_block(const char *label, const char *what, qz_file_error *error)
{
    return qz_fail(error, QZ_FILE_ARGUMENT, label, NULL, QZ_NO_OFFSET, "%s", what);
}

static const char no_block[] = "a block reaches beyond the matrix or divides a pair of groups";
static const char not_its_own[] = "the quantized tensor is none of this file";

qz_file_result qz_packed_read(qz_file *file, const qz_packed_tensor *packed, uint64_t row, uint64_t rows, uint64_t col,
                              uint64_t cols, const qz_packed *dst, qz_file_error *error)
{
    size_t header = packed->members[QZ_MEMBER_HEADER];
    if (qz_packed_part(file, header) != QZ_PART_HEADER)
        return refuse_block(file->input.label, not_its_own, error);
    if (!is_block(packed, row, rows, col, cols))
        return refuse_block(file->input.label, no_block, error);
    const qz_layout *layout = file->packed.entries[file->entries[header].packed].layout;
    return layout->read(file, packed, row, rows, col, cols, dst, error);
}

/* Whether the layout has all numbers of the block. Of `later` ones the super scale of the whole does not count. */
static qz_file_result check_numbers(const qz_writer *writer, const qz_layout *layout, const qz_packed_tensor *packed,
                                    int later, uint64_t rows, uint64_t cols, const qz_packed *src, qz_file_error *error)
{
    char why[200];
    qz_packed seen = *src;
    if (later)
        seen.supers = NULL;
    const char *wrong =
        layout->form ? qz_form_refuses(layout->form, &packed->scheme, rows, cols, &seen, why, sizeof why) : NULL;
    return !wrong ? QZ_FILE_OK
                  : qz_fail(error, QZ_FILE_REFUSED, writer->output.label, NULL, QZ_NO_OFFSET,
                            "numbers of a tensor cannot lie in the layout %s: %s", layout->name, wrong);
}

qz_file_result qz_packed_write(qz_writer *writer, const qz_packed_tensor *packed, uint64_t row, uint64_t rows,
                               uint64_t col, uint64_t cols, const qz_packed *src, qz_file_error *error)
{
    size_t header = packed->members[QZ_MEMBER_HEADER];
    const qz_layout *layout = header < writer->count ? writer->slots[header].layout : NULL;
    if (!layout)
        return refuse_block(writer->output.label, not_its_own, error);
    if (packed->scheme.group_size >= packed->cols && (col != 0 || cols != packed->cols))
        return refuse_block(writer->output.label, "a group that is a whole row cannot be written in parts", error);
    if (!is_block(packed, row, rows, col, cols))
        return refuse_block(writer->output.label, no_block, error);
    qz_file_result result = check_numbers(writer, layout, packed, row != 0 || col != 0, rows, cols, src, error);
    if (result != QZ_FILE_OK)
        return result;
    return layout->write ? layout->write(writer, packed, row, rows, col, cols, src, error)
                         : qz_form_write(writer, layout->form, packed, row, rows, col, cols, src, error);
}

/* ---- declaring ---- */

static const qz_layout *layout_of(const qz_writer *writer)
{
    return qz_layout_named(writer->layout[0] != '\0' ? writer->layout : writer->container->quantized);
}

const char *qz_layout_of_output(const char *path)
{
    const qz_container_type *container = qz_container_by_extension(path);
    return container && container->layout ? container->quantized : NULL;
}

int qz_layout_is_across(const char *name)
{
    const qz_layout *layout = qz_layout_named(name);
    return layout && layout->is_across;
}

/* Why a kind of file cannot have the layout; NULL if it can. */
static const char *refuses_kind(const qz_layout *layout, const qz_container_type *kind, char *out, size_t out_size)
{
    if (!layout->container || strcmp(layout->container, kind->name) == 0)
        return NULL;
    snprintf(out, out_size, "the layout '%s' is that of .%s files alone; give the output a name that ends so",
             layout->name, layout->container);
    return out;
}

const char *qz_layout_refuses_output(const char *name, const char *path, char *out, size_t out_size)
{
    const qz_layout *layout = qz_layout_named(name);
    const qz_container_type *kind = qz_container_by_extension(path);
    if (!layout)
        return "there is no layout of this name";
    return refuses_kind(layout, kind && kind->layout ? kind : qz_container_of_folder(name), out, out_size);
}

int qz_layout_is_written(const char *name)
{
    const qz_layout *layout = qz_layout_named(name);
    return layout && layout->declare;
}

const char *qz_layout_refuses(const char *name, const qz_scheme *scheme, unsigned rank, const uint64_t *shape,
                              unsigned axis, char *out, size_t out_size)
{
    const qz_layout *layout = qz_layout_named(name);
    if (!layout)
        return "there is no layout of this name";
    if (!layout->declare)
        return "the layout is only read";
    return layout->refuses ? layout->refuses(scheme, rank, shape, axis, out, out_size) : NULL;
}

const char *qz_layout_refuses_block(const char *name, const qz_scheme *scheme, uint64_t rows, uint64_t cols,
                                    const qz_packed *block, char *out, size_t out_size)
{
    const qz_layout *layout = qz_layout_named(name);
    return layout && layout->form ? qz_form_refuses(layout->form, scheme, rows, cols, block, out, out_size) : NULL;
}

uint64_t qz_layout_bytes(const char *name, const qz_scheme *scheme, unsigned rank, const uint64_t *shape, unsigned axis)
{
    char why[200];
    const qz_layout *layout = qz_layout_named(name);
    qz_packed_tensor packed = {.size = sizeof packed, .scheme = *scheme, .rank = rank, .axis = axis};
    if (rank == 0 || rank > QZ_MAX_RANK || axis >= rank ||
        qz_layout_refuses(name, scheme, rank, shape, axis, why, sizeof why))
        return 0;
    memcpy(packed.shape, shape, rank * sizeof *shape);
    return complete(layout, &packed) ? packed.bytes : 0;
}

/* Whether the writer has a layout that can hold the tensor. */
static qz_file_result check_layout(const qz_writer *writer, const qz_layout *layout, const qz_packed_tensor *p,
                                   const char *shown, qz_file_error *error)
{
    char why[200];
    const char *label = writer->output.label;
    if (!layout)
        return qz_fail(error, QZ_FILE_ARGUMENT, label, NULL, QZ_NO_OFFSET,
                       "there is no layout of the name that the output shall have");
    if (!layout->declare)
        return qz_fail(error, QZ_FILE_ARGUMENT, label, NULL, QZ_NO_OFFSET, "the layout '%s' is only read",
                       layout->name);
    if (refuses_kind(layout, writer->container, why, sizeof why))
        return qz_fail(error, QZ_FILE_ARGUMENT, label, NULL, QZ_NO_OFFSET, "%s", why);
    const char *wrong =
        layout->refuses ? layout->refuses(&p->scheme, p->rank, p->shape, p->axis, why, sizeof why) : NULL;
    return !wrong ? QZ_FILE_OK
                  : qz_fail(error, QZ_FILE_REFUSED, label, shown, QZ_NO_OFFSET, "cannot lie in a .%s file as it is: %s",
                            writer->container->name, wrong);
}

/* A matrix without values has no block that would bring the one super scale for all of it. */
static qz_file_result preset_super(qz_writer *writer, const qz_packed_tensor *packed, qz_file_error *error)
{
    const float one = 1.0f;
    const size_t super = packed->members[QZ_MEMBER_SUPERS];
    const qz_tensor *t = super != SIZE_MAX ? &writer->slots[super].tensor : NULL;
    if (!t || t->element != QZ_ELEMENT_F32 || t->count != 1 || (packed->rows != 0 && packed->cols != 0))
        return QZ_FILE_OK;
    return qz_writer_preset(writer, super, &one, error);
}

qz_file_result qz_packed_declare(qz_writer *writer, const char *name, size_t name_length, const qz_scheme *scheme,
                                 unsigned rank, const uint64_t *shape, unsigned axis, qz_packed_tensor *packed,
                                 qz_file_error *error)
{
    char shown[QZ_NAME_TEXT];
    const qz_layout *layout = layout_of(writer);
    qz_packed_tensor declared = {.size = sizeof declared, .scheme = *scheme, .rank = rank, .axis = axis};
    qz_file_result result = check_size(packed, writer->output.label, error);
    if (result != QZ_FILE_OK)
        return result;
    qz_escape(name, name_length, shown, sizeof shown);
    if (rank == 0 || rank > QZ_MAX_RANK || axis >= rank || qz_scheme_check(scheme, QZ_DEFAULT) != QZ_OK)
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, shown, QZ_NO_OFFSET,
                       "the scheme makes no sense, or the shape has no such axis");
    memcpy(declared.shape, shape, rank * sizeof *shape);
    for (int i = 0; i < QZ_MEMBERS; i++)
        declared.members[i] = SIZE_MAX;
    if (!qz_packed_complete(&declared))
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, shown, QZ_NO_OFFSET, "the shape is too large");
    result = check_layout(writer, layout, &declared, shown, error);
    if (result == QZ_FILE_OK) {
        size_t first = writer->count;
        declared.layout = layout->name; /* one function may declare for several */
        result = layout->declare(writer, name, name_length, &declared, error);
        for (size_t i = first + 1; i < writer->count; i++)
            writer->slots[i].joined = 1;
    }
    if (result == QZ_FILE_OK)
        result = preset_super(writer, &declared, error);
    if (result == QZ_FILE_OK) {
        complete(layout, &declared);
        writer->slots[declared.members[QZ_MEMBER_HEADER]].layout = layout;
        hand_over(&declared, packed);
    }
    return result;
}
