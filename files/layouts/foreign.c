/*
 * foreign.c - functions that the layouts of other programs in safetensors share: members by name, type and shape
 *
 * It knows no layout. What is wrong with a tensor is kept in words.
 */
#include "foreign.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../container.h"
#include "../containers/safetensors.h"
#include "../packed_list.h"

const qz_element qz_elements_float[] = {QZ_ELEMENT_F16, QZ_ELEMENT_BF16, QZ_ELEMENT_F32, (qz_element)0};
const qz_element qz_elements_i32[] = {QZ_ELEMENT_I32, (qz_element)0};
const qz_element qz_elements_byte[] = {QZ_ELEMENT_U8, QZ_ELEMENT_RAW, (qz_element)0};

/* ---- finding ---- */

int qz_found_begin(qz_found *found, qz_file *file, const qz_layout *layout, size_t i, const char *suffix)
{
    const qz_tensor *t = qz_tensor_at(file, i);
    size_t more = strlen(suffix);
    if (strcmp(file->container->name, layout->container) != 0 || file->entries[i].part != QZ_PART_NONE ||
        t->name_length <= more || memcmp(t->name + t->name_length - more, suffix, more) != 0)
        return 0;
    *found = (qz_found){.file = file, .layout = layout, .base = t->name, .base_length = t->name_length - more};
    for (int m = 0; m < QZ_MEMBERS; m++)
        found->members[m] = SIZE_MAX;
    found->members[QZ_MEMBER_HEADER] = found->members[QZ_MEMBER_CODES] = i;
    return 1;
}

size_t qz_found_sibling(const qz_found *found, const char *suffix)
{
    char small[256];
    size_t more = strlen(suffix), length = found->base_length + more;
    char *whole = length < sizeof small ? small : malloc(length + 1);
    if (!whole)
        return SIZE_MAX;
    memcpy(whole, found->base, found->base_length);
    memcpy(whole + found->base_length, suffix, more + 1);
    size_t i = qz_tensor_find(found->file, whole, length);
    if (whole != small)
        free(whole);
    return i;
}

void qz_found_wrong(qz_found *found, const char *format, ...)
{
    va_list arguments;
    if (found->is.wrong[0] != '\0')
        return;
    va_start(arguments, format);
    vsnprintf(found->is.wrong, sizeof found->is.wrong, format, arguments);
    va_end(arguments);
}

/* "uint8 of shape [2, 20]". */
static const char *shape_text(const char *type, unsigned rank, const uint64_t *shape, char *out, size_t room)
{
    size_t n = (size_t)snprintf(out, room, "%s of shape [", type);
    for (unsigned i = 0; i < rank && n < room; i++)
        n += (size_t)snprintf(out + n, room - n, "%s%" PRIu64, i == 0 ? "" : ", ", shape[i]);
    if (n < room)
        snprintf(out + n, room - n, "]");
    return out;
}

static int is_element(const qz_tensor *t, const qz_element *elements)
{
    if (t->element == QZ_ELEMENT_RAW && t->type_bytes != 1)
        return 0;
    while (*elements != 0 && *elements != t->element)
        elements++;
    return *elements != 0;
}

int qz_found_is(qz_found *found, size_t tensor, const qz_element *elements, unsigned rank, const uint64_t *shape)
{
    const qz_tensor *t = qz_tensor_at(found->file, tensor);
    char shown[64], is[90], must[90];
    if (is_element(t, elements) && t->rank == rank && (rank == 0 || memcmp(t->shape, shape, rank * sizeof *shape) == 0))
        return 1;
    const char *last = t->name + found->base_length;
    qz_found_wrong(found, "'%s' is %s, but must be %s", qz_escape(last, strlen(last), shown, sizeof shown),
                   shape_text(qz_element_name(t->element), t->rank, t->shape, is, sizeof is),
                   shape_text(qz_element_name(*elements), rank, shape, must, sizeof must));
    return 0;
}

static qz_dtype dtype_of(qz_element element, qz_dtype byte)
{
    return element == QZ_ELEMENT_U8 || element == QZ_ELEMENT_RAW ? byte : (qz_dtype)element;
}

void qz_found_scheme(qz_found *found, const char *name, qz_element scales, uint64_t group_size)
{
    found->is.scheme = *qz_scheme_by_name(name);
    found->is.scheme.scale_dtype = dtype_of(scales, found->is.scheme.scale_dtype);
    found->is.scheme.group_size = group_size;
}

void qz_found_groups(qz_found *found, uint64_t cols, uint64_t groups, uint64_t said)
{
    uint64_t size = groups == 0 ? 0 : cols / groups;
    if (groups == 1)
        size = QZ_WHOLE_ROW;
    if (said != 0 && said < cols && cols / said + (cols % said != 0) == groups)
        size = said; /* the last group may be shorter */
    else if (groups == 0 || (cols % groups != 0))
        qz_found_wrong(found, "has %" PRIu64 " groups in rows of %" PRIu64 ", which are not of one size", groups, cols);
    found->is.scheme.group_size = size != 0 ? size : 1;
}

qz_file_result qz_found_in_order(qz_found *found, size_t list, uint64_t cols, int *in_order, qz_file_error *error)
{
    int32_t piece[1024];
    uint64_t size = found->is.scheme.group_size;
    qz_file_result result = QZ_FILE_OK;
    *in_order = 1;
    for (uint64_t i = 0; i < cols && *in_order && result == QZ_FILE_OK; i += 1024) {
        uint64_t n = cols - i < 1024 ? cols - i : 1024;
        result = qz_read(found->file, list, i, n, piece, error);
        for (uint64_t k = 0; k < n && result == QZ_FILE_OK; k++)
            *in_order &= piece[k] >= 0 && (uint64_t)piece[k] == (i + k) / size;
    }
    return result;
}

/* Scales of a byte whose type the file says must be of the type that they have here. */
static void check_bytes(const qz_found *found, qz_foreign *is)
{
    const qz_tensor *scales = qz_tensor_at(found->file, found->members[QZ_MEMBER_SCALES]);
    const char *type = is->scheme.scale_dtype == QZ_E4M3   ? qz_safetensors_items[QZ_SAFETENSORS_F8_E4M3]
                       : is->scheme.scale_dtype == QZ_E8M0 ? qz_safetensors_items[QZ_SAFETENSORS_F8_E8M0]
                                                           : NULL;
    if (is->wrong[0] == '\0' && scales && scales->element == QZ_ELEMENT_RAW && scales->type != type)
        snprintf(is->wrong, sizeof is->wrong, "has scales of another type than %s",
                 qz_dtype_name(is->scheme.scale_dtype));
}

qz_file_result qz_found_note(const qz_found *found, const char *suffix, qz_file_error *error)
{
    size_t more = strlen(suffix);
    qz_foreign *is = qz_arena_get(&found->file->arena, sizeof *is);
    char *name = qz_arena_get(&found->file->arena, found->base_length + more + 1);
    if (!is || !name)
        return qz_fail_memory(error, found->file->input.label);
    *is = found->is;
    check_bytes(found, is);
    memcpy(name, found->base, found->base_length);
    memcpy(name + found->base_length, suffix, more + 1);
    qz_packed_entry entry = {
        .name = name, .name_length = found->base_length + more, .layout = found->layout, .details = is};
    memcpy(entry.members, found->members, sizeof entry.members);
    return qz_packed_note(found->file, &entry, error);
}

void qz_found_remark(const qz_found *found, const char *why)
{
    char *note = found->file->note;
    size_t used = strlen(note), room = sizeof found->file->note;
    if (!strstr(note, why) && used < room)
        snprintf(note + used, room - used, "%s%s", used != 0 ? "; " : "", why);
}

/* ---- reading ---- */

qz_file_result qz_foreign_describe(qz_file *file, const qz_packed_entry *entry, qz_packed_tensor *packed,
                                   qz_file_error *error)
{
    const qz_foreign *is = entry->details;
    char shown[QZ_NAME_TEXT];
    const char *wrong = is->wrong;
    if (wrong[0] == '\0' && qz_scheme_check(&is->scheme, QZ_DEFAULT) != QZ_OK)
        wrong = "has types or sizes of scales that do not go with its codes";
    if (wrong[0] != '\0')
        return qz_fail(error, QZ_FILE_FORMAT, file->input.label,
                       qz_escape(entry->name, entry->name_length, shown, sizeof shown), QZ_NO_OFFSET, "%s", wrong);
    packed->scheme = is->scheme;
    packed->rank = is->rank;
    packed->axis = is->rank - 1;
    memcpy(packed->shape, is->shape, is->rank * sizeof *is->shape);
    return QZ_FILE_OK;
}

qz_file_result qz_foreign_read(qz_file *file, const qz_packed_tensor *packed, uint64_t row, uint64_t rows, uint64_t col,
                               uint64_t cols, const qz_packed *dst, qz_file_error *error)
{
    const qz_foreign *is = file->packed.entries[file->entries[packed->members[QZ_MEMBER_HEADER]].packed].details;
    return qz_form_read(file, is->form, packed, row, rows, col, cols, dst, error);
}

/* ---- writing ---- */

qz_element qz_foreign_element(qz_dtype dtype)
{
    return dtype == QZ_F32 || dtype == QZ_F16 || dtype == QZ_BF16 ? (qz_element)dtype : QZ_ELEMENT_U8;
}

const char *qz_foreign_stored(const qz_scheme *scheme)
{
    return scheme->scale_dtype == QZ_E4M3 ? "F8_E4M3" : NULL;
}

static const char weight[] = ".weight";

static int is_weight(const char *name, size_t length)
{
    return length > strlen(weight) && memcmp(name + length - strlen(weight), weight, strlen(weight)) == 0;
}

/* A row that is one group may be said to have groups of its length, or one group. */
static int is_one_group(const qz_packed_tensor *packed)
{
    return packed->scheme.group_size > packed->cols;
}

/* Whether one text can speak of this tensor and of those before. */
static int is_alike(const qz_said *said, const qz_packed_tensor *packed)
{
    const qz_scheme *a = &said->of, *b = &packed->scheme;
    const int open = a->group_size == QZ_WHOLE_ROW; /* all rows before were one group */
    const int fits = is_one_group(packed) ? open || a->group_size == packed->cols : open && said->row == b->group_size;
    return a->codes == b->codes && a->zero == b->zero && a->scale_dtype == b->scale_dtype &&
           a->super_size == b->super_size && (fits || a->group_size == b->group_size);
}

/* Keeps what config.json must say. */
static qz_file_result note_config(qz_writer *writer, const qz_packed_tensor *packed, qz_file_error *error)
{
    char text[700];
    qz_said *said = &writer->said;
    if (said->text && !is_alike(said, packed))
        return qz_fail(error, QZ_FILE_REFUSED, writer->output.label, NULL, QZ_NO_OFFSET,
                       "tensors of different schemes or group sizes cannot lie in one file of this layout, whose "
                       "config.json speaks of all of them");
    if (is_one_group(packed))
        said->row = said->row == 0 || said->row == packed->cols ? packed->cols : UINT64_MAX;
    if (said->text && (is_one_group(packed) || said->of.group_size != QZ_WHOLE_ROW))
        return QZ_FILE_OK;
    qz_config_text(packed->layout, &packed->scheme, text, sizeof text);
    said->of = packed->scheme;
    said->text = qz_arena_text(&writer->arena, text, strlen(text));
    return said->text ? QZ_FILE_OK : qz_fail_memory(error, writer->output.label);
}

static qz_file_result declare_member(qz_writer *writer, const char *base, size_t base_length, qz_packed_tensor *packed,
                                     const qz_foreign_member *member, qz_file_error *error)
{
    const size_t length = base_length + strlen(member->suffix);
    char *name = qz_arena_get(&writer->arena, length + 1);
    if (!name)
        return qz_fail_memory(error, writer->output.label);
    memcpy(name, base, base_length);
    strcpy(name + base_length, member->suffix);
    const qz_tensor t = {
        .name = name, .name_length = length, .element = member->element, .rank = member->rank, .shape = member->shape};
    size_t index;
    qz_file_result result = qz_declare(writer, &t, &index, error);
    if (result != QZ_FILE_OK)
        return result;
    if (member->stored)
        writer->slots[index].stored = member->stored;
    if (member->member == QZ_MEMBER_HEADER)
        return qz_writer_preset(writer, index, member->data, error);
    packed->members[member->member] = index;
    return QZ_FILE_OK;
}

qz_file_result qz_foreign_declare(qz_writer *writer, const char *name, size_t name_length, qz_packed_tensor *packed,
                                  qz_foreign_names names, const qz_foreign_member *members, size_t count,
                                  qz_file_error *error)
{
    char shown[QZ_NAME_TEXT];
    if (names != QZ_NAMES_ANY && !is_weight(name, name_length))
        return qz_fail(error, QZ_FILE_REFUSED, writer->output.label, qz_escape(name, name_length, shown, sizeof shown),
                       QZ_NO_OFFSET, "cannot lie in this layout: it has only tensors whose names end in .weight");
    const size_t base_length = names == QZ_NAMES_MODULE ? name_length - strlen(weight) : name_length;
    qz_file_result result = note_config(writer, packed, error);
    for (size_t i = 0; i < count && result == QZ_FILE_OK; i++)
        if (members[i].element != 0)
            result = declare_member(writer, name, base_length, packed, &members[i], error);
    packed->members[QZ_MEMBER_HEADER] = packed->members[QZ_MEMBER_CODES];
    return result;
}
