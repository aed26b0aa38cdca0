/*
 * form.c - reads and writes blocks of quantized tensors in the forms of other programs
 *
 * A part of a tensor is a sheet: rows of bytes as they are in the file. A block is a rectangle of it. It is moved in
 * strips of bounded size, through memory in which its numbers are put into the other order (relayout.h).
 */
#include "form.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../element.h"
#include "../error.h"
#include "../tensors.h"
#include "../writer.h"
#include "relayout.h"

enum { STRIP = 1 << 20 }; /* bytes, but for eight rows that are longer: what stays in a cache next to a processor */

typedef struct sheet {
    qz_file *file;     /* read from this one, */
    qz_writer *writer; /* or written to this one */
    size_t tensor;
    uint64_t row_bytes;
    size_t each; /* bytes of an element */
    int words;   /* elements are words of nibbles, whose bytes keep the order of the file */
} sheet;

/* A block of a part: rows, and places in them. */
typedef struct area {
    uint64_t row, rows, first, count;
} area;

/* A rectangle of a sheet. */
typedef struct rectangle {
    uint64_t row, rows, byte;
    size_t bytes;
} rectangle;

static const qz_tensor *tensor_of(const sheet *s)
{
    return s->file ? qz_tensor_at(s->file, s->tensor) : &s->writer->slots[s->tensor].tensor;
}

static sheet sheet_of(qz_file *file, qz_writer *writer, size_t tensor, uint64_t rows, int words)
{
    sheet s = {file, writer, tensor, 0, 1, words};
    s.each = qz_element_size(tensor_of(&s)->element);
    s.row_bytes = rows != 0 ? tensor_of(&s)->bytes / rows : 0;
    return s;
}

static void turn_words(const sheet *s, uint8_t *data, size_t stride, uint64_t rows, size_t bytes)
{
    for (uint64_t r = 0; r < rows && s->words && s->each > 1 && qz_big_endian(); r++)
        qz_swap(data + r * stride, s->each, bytes / s->each);
}

/* Moves a rectangle between a sheet and memory, which is changed on the way where its words must be turned. */
static qz_file_result move(const sheet *s, const rectangle *r, uint8_t *data, size_t stride, qz_file_error *error)
{
    int together = r->bytes == s->row_bytes && stride == r->bytes;
    uint64_t step = together ? r->rows : 1;
    qz_file_result result = QZ_FILE_OK;
    if (s->writer)
        turn_words(s, data, stride, r->rows, r->bytes);
    for (uint64_t i = 0; i < r->rows && r->bytes != 0 && result == QZ_FILE_OK; i += step) {
        uint64_t first = ((r->row + i) * s->row_bytes + r->byte) / s->each, count = step * r->bytes / s->each;
        result = s->file ? qz_read(s->file, s->tensor, first, count, data + i * stride, error)
                         : qz_write(s->writer, s->tensor, first, count, data + i * stride, error);
    }
    if (s->file)
        turn_words(s, data, stride, r->rows, r->bytes);
    return result;
}

static uint8_t *get_memory(uint64_t bytes, const sheet *s, qz_file_error *error)
{
    uint8_t *memory = bytes <= SIZE_MAX / 4 ? malloc((size_t)bytes + 1) : NULL;
    if (!memory)
        qz_fail_memory(error, s->file ? s->file->input.label : s->writer->output.label);
    return memory;
}

/* How many rows of a rectangle make a strip: a multiple of eight. */
static uint64_t strip_rows(uint64_t bytes)
{
    uint64_t rows = bytes != 0 ? STRIP / bytes / 8 * 8 : 8;
    return rows != 0 ? rows : 8;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The bytes of whole elements in which `count` nibbles from `first` on lie. */
static void cover(rectangle *r, uint64_t first, uint64_t count, size_t each)
{
    uint64_t nibbles = 2 * (uint64_t)each, end = first + count;
    r->byte = first / nibbles * each;
    r->bytes = (size_t)((end / nibbles + (end % nibbles != 0)) * each - r->byte);
}

/* The rectangle of a sheet of nibbles that holds a block. */
static rectangle nibbles_in(const sheet *s, qz_order order, const area *a)
{
    rectangle r = {a->row, a->rows, 0, 0};
    uint64_t end_row = a->row + a->rows, end = a->first + a->count;
    switch (order) {
    case QZ_ORDER_ROWS:
        cover(&r, a->first, a->count, s->each);
        break;
    case QZ_ORDER_ACROSS:
        r.row = a->first;
        r.rows = a->count;
        cover(&r, a->row, a->rows, s->each);
        break;
    case QZ_ORDER_DOWN:
        r = (rectangle){a->first / 8, end / 8 + (end % 8 != 0) - a->first / 8, a->row * 4, (size_t)a->rows * 4};
        break;
    case QZ_ORDER_DOWN_ROWS:
        r = (rectangle){a->row / 8, end_row / 8 + (end_row % 8 != 0) - a->row / 8, a->first * 4, (size_t)a->count * 4};
        break;
    default:
        break;
    }
    return r;
}

/* ---- nibbles that are read ---- */

/* A strip of words that hold eight places of a row each: rows of the block from these words. */
static void take_down(const area *a, uint64_t word, uint64_t words, const uint8_t *strip, uint8_t *turned, uint8_t *dst,
                      size_t stride)
{
    qz_transpose(strip, (size_t)a->rows * 4, (size_t)words, (size_t)a->rows, 4, turned, (size_t)words * 4);
    uint64_t skip = word == 0 ? a->first % 8 : 0, at = 8 * word + skip - a->first % 8;
    uint64_t count = least(8 * words - skip, a->count - at);
    for (uint64_t r = 0; r < a->rows; r++)
        memcpy(dst + r * stride + at / 2, turned + r * words * 4 + skip / 2, (size_t)(count / 2 + count % 2));
}

/* A strip of words that hold eight rows each. */
static void take_down_rows(const area *a, uint64_t word, uint64_t words, const uint8_t *strip, uint8_t *turned,
                           uint8_t *dst, size_t stride)
{
    size_t bytes = (size_t)words * 4;
    qz_transpose(strip, (size_t)a->count * 4, (size_t)words, (size_t)a->count, 4, turned, bytes);
    uint64_t skip = word == 0 ? a->row % 8 : 0, at = 8 * word + skip - a->row % 8;
    uint64_t rows = least(8 * words - skip, a->rows - at);
    const qz_nibbles columns = {turned, bytes, (size_t)a->count, (size_t)skip, (size_t)rows, 0, 0, 0};
    qz_transpose_nibbles(&columns, dst + at * stride, stride);
}

/* A strip of rows of the file, from the `at`-th on of the rectangle, to where it belongs in the block. */
static void take_strip(const qz_form *form, qz_order order, const area *a, const rectangle *r, uint64_t at,
                       uint8_t *strip, uint8_t *turned, uint8_t *dst, size_t stride)
{
    uint64_t skip = (order == QZ_ORDER_ROWS ? a->first : a->row) - 2 * r->byte; /* nibbles before those of the block */
    if (form->high_first)
        qz_swap_nibbles(strip, r->bytes, (size_t)r->rows, 2 * r->bytes, 0);
    const qz_nibbles across = {strip,           r->bytes, (size_t)r->rows,   (size_t)skip,
                               (size_t)a->rows, 0,        form->evens_first, 0};
    switch (order) {
    case QZ_ORDER_ROWS:
        for (uint64_t i = 0; i < r->rows; i++)
            memcpy(dst + (at + i) * stride, strip + i * r->bytes + skip / 2, (size_t)(a->count / 2 + a->count % 2));
        break;
    case QZ_ORDER_ACROSS:
        qz_transpose_nibbles(&across, dst + at / 2, stride);
        break;
    case QZ_ORDER_DOWN:
        take_down(a, at, r->rows, strip, turned, dst, stride);
        break;
    case QZ_ORDER_DOWN_ROWS:
        take_down_rows(a, at, r->rows, strip, turned, dst, stride);
        break;
    default:
        break;
    }
}

static qz_file_result read_nibbles(const sheet *s, const qz_form *form, qz_order order, const area *a, uint8_t *dst,
                                   size_t stride, qz_file_error *error)
{
    rectangle whole = nibbles_in(s, order, a);
    if (order == QZ_ORDER_ROWS && !form->high_first && whole.byte * 2 == a->first && whole.bytes * 2 == a->count)
        return move(s, &whole, dst, stride, error); /* they lie so */
    uint64_t step = least(strip_rows(whole.bytes), whole.rows);
    uint8_t *strip = get_memory(2 * step * whole.bytes, s, error);
    qz_file_result result = strip ? QZ_FILE_OK : QZ_FILE_MEMORY;
    for (uint64_t at = 0; at < whole.rows && result == QZ_FILE_OK; at += step) {
        rectangle r = {whole.row + at, least(step, whole.rows - at), whole.byte, whole.bytes};
        result = move(s, &r, strip, r.bytes, error);
        if (result == QZ_FILE_OK)
            take_strip(form, order, a, &r, at, strip, strip + step * whole.bytes, dst, stride);
    }
    if (result == QZ_FILE_OK)
        qz_clear_padding(dst, stride, (size_t)a->rows, (size_t)a->count);
    free(strip);
    return result;
}

/* Bytes of the file that follow one another, with one nibble each of a row. */
typedef struct stretch {
    uint64_t first, count;
    int high; /* it is the high one */
} stretch;

/* The stretch that begins at a place of a row, in the orders whose bytes do not hold neighbours. */
static stretch stretch_from(const sheet *s, const qz_form *form, qz_order order, uint64_t cols, uint64_t row,
                            uint64_t col)
{
    uint64_t first = row * cols + col, half = tensor_of(s)->bytes;
    if (order == QZ_ORDER_BYTES)
        return (stretch){first, cols - col, 0};
    int second = first >= half;
    return (stretch){second ? first - half : first, second ? cols - col : half - first, second != form->high_first};
}

/* From bytes that are -8 to 7 to those that are 0 to 15. Returns whether they were. */
static int take_signed(uint8_t *bytes, uint64_t count)
{
    unsigned all = 0;
    for (uint64_t i = 0; i < count; i++)
        all |= bytes[i] = (uint8_t)(bytes[i] + 8);
    return all <= 15;
}

/* A block of a part with `cols` places in a row, in the orders whose bytes do not hold neighbours. */
static qz_file_result read_spread(const sheet *s, const qz_form *form, qz_order order, uint64_t cols, const area *a,
                                  uint8_t *dst, size_t stride, qz_file_error *error)
{
    uint8_t piece[8192];
    char shown[QZ_NAME_TEXT];
    const qz_tensor *t = tensor_of(s);
    for (uint64_t r = 0; r < a->rows; r++) {
        uint8_t *row = dst + r * stride;
        uint64_t n = 0;
        memset(row, 0, (size_t)(a->count / 2 + a->count % 2));
        for (uint64_t i = 0; i < a->count; i += n) {
            stretch from = stretch_from(s, form, order, cols, a->row + r, a->first + i);
            n = least(least(a->count - i, from.count), sizeof piece);
            qz_file_result result = qz_read(s->file, s->tensor, from.first, n, piece, error);
            if (result != QZ_FILE_OK)
                return result;
            if (order == QZ_ORDER_BYTES && !take_signed(piece, n))
                return qz_fail(error, QZ_FILE_FORMAT, s->file->input.label,
                               qz_escape(t->name, t->name_length, shown, sizeof shown), QZ_NO_OFFSET,
                               "has numbers beyond -8 to 7 in row %" PRIu64, a->row + r);
            qz_pick_nibbles(piece, (size_t)n, from.high, row, (size_t)i);
        }
    }
    return QZ_FILE_OK;
}

/* ---- nibbles that are written ---- */

/* Changes that codes or zeros need on their way out: the order in bytes, signs, and what is added. */
typedef struct change {
    int swap, flip;
    unsigned add;
} change;

/* A piece of a block on its way into a strip: rows from its `at`-th on, and places from its `right`-th on. */
typedef struct piece {
    uint64_t at, rows, right, count;
    const uint8_t *data; /* a copy that is padded to words, or where it is */
    size_t stride;
    change left; /* to be made */
} piece;

/* Copies a piece, padded to words, and changes it. */
static void take_piece(piece *p, uint8_t *copy, size_t stride)
{
    const size_t n = (size_t)p->rows, count = (size_t)p->count, used = count / 2 + count % 2;
    for (size_t i = 0; i < n; i++) {
        qz_copy_nibbles(p->data + i * p->stride, count, p->left.flip, copy + i * stride);
        memset(copy + i * stride + used, 0, stride - used);
    }
    if (p->left.swap)
        qz_swap_nibbles(copy, stride, n, count, 1);
    if (p->left.add != 0)
        qz_add_to_nibbles(copy, stride, n, count, p->left.add);
    p->data = copy;
    p->stride = stride;
    p->left = (change){0};
}

/* Puts a piece into the order of the file, where it is not in that order already. */
static void give_piece(const qz_form *form, qz_order order, const piece *p, const rectangle *r, uint8_t *strip)
{
    const qz_nibbles src = {p->data,           p->stride, (size_t)p->rows, 0, (size_t)p->count,
                            form->evens_first, 0,         p->left.flip};
    const size_t bytes = (size_t)r->rows * 4;
    uint8_t *across = strip + (size_t)r->rows * r->bytes;
    switch (order) {
    case QZ_ORDER_ACROSS:
        qz_transpose_nibbles(&src, strip + p->right * r->bytes + p->at / 2, r->bytes);
        break;
    case QZ_ORDER_DOWN:
        qz_transpose_words(p->data, p->stride, (size_t)p->rows, (size_t)(p->count / 8 + (p->count % 8 != 0)),
                           p->left.flip, strip + p->right / 8 * r->bytes + p->at * 4, r->bytes);
        break;
    case QZ_ORDER_DOWN_ROWS:
        memset(across, 0, (size_t)p->count * bytes);
        qz_transpose_nibbles(&src, across, bytes);
        qz_transpose(across, bytes, (size_t)p->count, (size_t)r->rows, 4, strip, r->bytes);
        break;
    default:
        break;
    }
}

/* How nibbles are written: strips of `step` rows and `most` places, in pieces of `few` rows and `wide` places. */
typedef struct strips {
    uint64_t step, most, few, wide;
    int turned; /* a strip is whole lines of the file where the block has all its rows, or all its columns */
} strips;

static strips strips_of(qz_order order, const area *whole)
{
    enum { FEW = 256, WIDE = 256 }; /* of a piece that stays in a near cache while it is turned */
    strips p = {.most = whole->count, .wide = whole->count};
    p.turned = order == QZ_ORDER_ACROSS || order == QZ_ORDER_DOWN;
    if (p.turned) {
        p.most = least(2 * strip_rows(whole->rows), whole->count);
        p.wide = least(WIDE, p.most);
    }
    p.step = p.turned ? whole->rows : least(strip_rows(p.wide / 2 + 8), whole->rows);
    p.few = p.turned ? least(FEW, p.step) : p.step;
    return p;
}

static qz_file_result write_nibbles(const sheet *s, const qz_form *form, qz_order order, const area *whole,
                                    const uint8_t *src, size_t stride, change changed, qz_file_error *error)
{
    const rectangle block = nibbles_in(s, order, whole);
    if (order == QZ_ORDER_ROWS && !changed.swap && !changed.flip && changed.add == 0 &&
        2 * block.bytes == whole->count && (s->each == 1 || !qz_big_endian()))
        return move(s, &block, (uint8_t *)(uintptr_t)src, stride, error); /* they lie so, and nothing is turned */
    const strips by = strips_of(order, whole);
    const uint64_t padded = by.wide / 2 + 8;
    uint8_t *memory = get_memory(by.few * padded + 2 * (by.step + 8) * (by.most + 64), s, error);
    qz_file_result result = memory ? QZ_FILE_OK : QZ_FILE_MEMORY;
    for (uint64_t row = 0; row < whole->rows; row += by.step)
        for (uint64_t col = 0; col < whole->count && result == QZ_FILE_OK; col += by.most) {
            const area a = {whole->row + row, least(by.step, whole->rows - row), whole->first + col,
                            least(by.most, whole->count - col)};
            const rectangle r = nibbles_in(s, order, &a);
            uint8_t *strip = order == QZ_ORDER_ROWS ? memory : memory + by.few * padded;
            if (order == QZ_ORDER_ACROSS && 2 * r.bytes != a.rows) /* rows are filled up with words */
                memset(strip, 0, (size_t)r.rows * r.bytes);
            for (uint64_t at = 0; at < a.rows; at += by.few)
                for (uint64_t right = 0; right < a.count; right += by.wide) {
                    piece p = {.at = at, .right = right};
                    p.rows = least(by.few, a.rows - at);
                    p.count = least(by.wide, a.count - right);
                    const size_t used = (size_t)(p.count / 2 + p.count % 2);
                    p.data = src + (row + at) * stride + (col + right) / 2;
                    p.stride = stride;
                    p.left = changed;
                    const int as_it_is = order == QZ_ORDER_ACROSS || (order == QZ_ORDER_DOWN && p.count % 8 == 0);
                    if (!as_it_is || changed.swap || changed.add != 0)
                        take_piece(&p, memory, order == QZ_ORDER_DOWN || s->each == 4 ? (used + 3) / 4 * 4 : used);
                    give_piece(form, order, &p, &r, strip);
                }
            result = move(s, &r, strip, r.bytes, error);
        }
    free(memory);
    return result;
}

/* The same number, 0 to 15, in each place of a block. */
static qz_file_result write_number(const sheet *s, qz_order order, const area *a, unsigned number, qz_file_error *error)
{
    const rectangle whole = nibbles_in(s, order, a);
    const uint64_t step = least(strip_rows(whole.bytes), whole.rows);
    uint8_t *strip = get_memory(step * whole.bytes, s, error);
    qz_file_result result = strip ? QZ_FILE_OK : QZ_FILE_MEMORY;
    for (uint64_t at = 0; at < whole.rows && result == QZ_FILE_OK; at += step) {
        const rectangle r = {whole.row + at, least(step, whole.rows - at), whole.byte, whole.bytes};
        memset(strip, (int)(number * 0x11), (size_t)r.rows * r.bytes); /* which move() may turn */
        result = move(s, &r, strip, r.bytes, error);
    }
    free(strip);
    return result;
}

/* ---- numbers ---- */

static qz_file_result move_across(const sheet *s, const area *a, uint8_t *data, size_t stride, qz_file_error *error)
{
    size_t bytes = (size_t)a->rows * s->each;
    uint64_t step = least(strip_rows(bytes), a->count);
    uint8_t *strip = get_memory(step * bytes, s, error);
    qz_file_result result = strip ? QZ_FILE_OK : QZ_FILE_MEMORY;
    for (uint64_t at = 0; at < a->count && result == QZ_FILE_OK; at += step) {
        rectangle r = {a->first + at, least(step, a->count - at), a->row * s->each, bytes};
        uint8_t *place = data + at * s->each;
        if (s->writer)
            qz_transpose(place, stride, (size_t)a->rows, (size_t)r.rows, s->each, strip, bytes);
        result = move(s, &r, strip, bytes, error);
        if (s->file && result == QZ_FILE_OK)
            qz_transpose(strip, bytes, (size_t)r.rows, (size_t)a->rows, s->each, place, stride);
    }
    free(strip);
    return result;
}

/* Scales and offsets: data is only changed when it is read. */
static qz_file_result move_numbers(const sheet *s, qz_order order, const area *a, void *data, int64_t stride,
                                   qz_file_error *error)
{
    if (order == QZ_ORDER_ACROSS)
        return move_across(s, a, data, (size_t)stride, error);
    rectangle r = {a->row, a->rows, a->first * s->each, (size_t)a->count * s->each};
    return move(s, &r, data, (size_t)stride, error);
}

static float largest_of(float super)
{
    return super * 2688.0f; /* 448 * 6 */
}

static float super_of(qz_super_form form, float stored)
{
    return form == QZ_SUPER_DIVISOR ? 1.0f / stored : form == QZ_SUPER_LARGEST ? stored / 2688.0f : stored;
}

/* The number from which readers make exactly this super scale; 0 if there is none. */
static float stored_of(qz_super_form form, float super)
{
    float near = form == QZ_SUPER_DIVISOR ? 1.0f / super : form == QZ_SUPER_LARGEST ? largest_of(super) : super;
    const float candidates[3] = {near, nextafterf(near, 0), nextafterf(near, INFINITY)};
    for (int i = 0; i < 3; i++)
        if (candidates[i] <= 3.4e38f && super_of(form, candidates[i]) == super)
            return candidates[i];
    return 0;
}

static qz_file_result read_super(qz_file *file, const qz_form *form, const qz_packed_tensor *packed, float *super,
                                 qz_file_error *error)
{
    qz_file_result result = qz_read(file, packed->members[QZ_MEMBER_SUPERS], 0, 1, super, error);
    if (result == QZ_FILE_OK)
        *super = super_of(form->super, *super);
    return result;
}

static qz_file_result write_super(qz_writer *writer, const qz_form *form, const qz_packed_tensor *packed,
                                  const float *super, qz_file_error *error)
{
    float stored = stored_of(form->super, *super);
    return qz_write(writer, packed->members[QZ_MEMBER_SUPERS], 0, 1, &stored, error);
}

/* ---- blocks ---- */

static area groups_of(const qz_packed_tensor *p, uint64_t row, uint64_t rows, uint64_t col, uint64_t cols)
{
    uint64_t size = p->scheme.group_size;
    if (size >= p->cols)
        return (area){row, rows, 0, cols != 0};
    return (area){row, rows, col / size, cols / size + (cols % size != 0)};
}

/* How many rows the sheet of a part has. */
static uint64_t sheet_rows(qz_order order, uint64_t rows, uint64_t places)
{
    switch (order) {
    case QZ_ORDER_ACROSS:
        return places;
    case QZ_ORDER_DOWN:
        return places / 8 + (places % 8 != 0);
    case QZ_ORDER_DOWN_ROWS:
        return rows / 8 + (rows % 8 != 0);
    default:
        return rows;
    }
}

static sheet part_of(qz_file *file, qz_writer *writer, const qz_packed_tensor *p, int member, qz_order order, int words)
{
    uint64_t places = member == QZ_MEMBER_CODES ? p->cols : p->sizes.row_groups;
    return sheet_of(file, writer, p->members[member], sheet_rows(order, p->rows, places), words);
}

static qz_file_result read_codes(qz_file *file, const qz_form *form, const qz_packed_tensor *p, const area *a,
                                 const qz_packed *dst, qz_file_error *error)
{
    sheet s = part_of(file, NULL, p, QZ_MEMBER_CODES, form->codes, 1);
    if (form->codes == QZ_ORDER_HALVES || form->codes == QZ_ORDER_BYTES)
        return read_spread(&s, form, form->codes, p->cols, a, dst->codes, (size_t)dst->code_stride, error);
    qz_file_result result = read_nibbles(&s, form, form->codes, a, dst->codes, (size_t)dst->code_stride, error);
    if (result == QZ_FILE_OK && p->scheme.codes == QZ_INT4)
        qz_flip_signs(dst->codes, (size_t)dst->code_stride, (size_t)a->rows, (size_t)a->count);
    return result;
}

static qz_file_result read_zeros(qz_file *file, const qz_form *form, const qz_packed_tensor *p, const area *a,
                                 const qz_packed *dst, qz_file_error *error)
{
    int nibbles = p->scheme.zero == QZ_ZERO_UINT4;
    sheet s = part_of(file, NULL, p, QZ_MEMBER_ZEROS, form->zeros, nibbles);
    if (!nibbles) {
        qz_file_result moved = move_numbers(&s, form->zeros, a, dst->zeros, dst->zero_stride, error);
        if (form->zeros_negated && moved == QZ_FILE_OK)
            qz_negate(dst->zeros, (size_t)dst->zero_stride, (size_t)a->rows, (size_t)a->count, s.each);
        return moved;
    }
    if (form->zeros == QZ_ORDER_BYTES)
        return read_spread(&s, form, form->zeros, p->sizes.row_groups, a, dst->zeros, (size_t)dst->zero_stride, error);
    qz_file_result result = read_nibbles(&s, form, form->zeros, a, dst->zeros, (size_t)dst->zero_stride, error);
    if (result == QZ_FILE_OK && form->zeros_less_one)
        qz_add_to_nibbles(dst->zeros, (size_t)dst->zero_stride, (size_t)a->rows, (size_t)a->count, 1);
    return result;
}

qz_file_result qz_form_read(qz_file *file, const qz_form *form, const qz_packed_tensor *packed, uint64_t row,
                            uint64_t rows, uint64_t col, uint64_t cols, const qz_packed *dst, qz_file_error *error)
{
    area codes = {row, rows, col, cols}, groups = groups_of(packed, row, rows, col, cols);
    if (rows == 0 || cols == 0)
        return QZ_FILE_OK;
    qz_file_result result = dst->codes ? read_codes(file, form, packed, &codes, dst, error) : QZ_FILE_OK;
    if (result == QZ_FILE_OK && form->scales != QZ_ORDER_ELSEWHERE) {
        sheet s = part_of(file, NULL, packed, QZ_MEMBER_SCALES, form->scales, 0);
        result = move_numbers(&s, form->scales, &groups, dst->scales, dst->scale_stride, error);
    }
    if (result == QZ_FILE_OK && packed->scheme.zero != QZ_ZERO_NONE)
        result = read_zeros(file, form, packed, &groups, dst, error);
    if (result == QZ_FILE_OK && packed->scheme.super_size != 0)
        result = read_super(file, form, packed, dst->supers, error);
    return result;
}

static qz_file_result write_zeros(qz_writer *writer, const qz_form *form, const qz_packed_tensor *p, const area *a,
                                  const qz_packed *src, qz_file_error *error)
{
    int numbers = p->scheme.zero == QZ_ZERO_OFFSET;
    sheet s = part_of(NULL, writer, p, QZ_MEMBER_ZEROS, form->zeros, !numbers);
    if (numbers)
        return move_numbers(&s, form->zeros, a, src->zeros, src->zero_stride, error);
    change changed = {0, 0, form->zeros_less_one ? 15 : 0};
    if (p->scheme.zero == QZ_ZERO_UINT4)
        return write_nibbles(&s, form, form->zeros, a, src->zeros, (size_t)src->zero_stride, changed, error);
    return write_number(&s, form->zeros, a, form->zeros_less_one ? 7 : 8, error); /* words are full */
}

/* ---- what has no place ---- */

/* Readers of zeros less one disagree about what 15 is then, which is what 0 would become. */
static int has_zero_0(uint64_t rows, uint64_t groups, const uint8_t *zeros, size_t stride)
{
    unsigned found = 0;
    for (uint64_t r = 0; r < rows && !found; r++) {
        const uint8_t *row = zeros + r * stride;
        for (uint64_t i = 0; i < groups / 2; i++)
            found |= (unsigned)((row[i] & 15) == 0) | (row[i] < 16);
        if (groups % 2 != 0)
            found |= (row[groups / 2] & 15) == 0;
    }
    return found != 0;
}

const char *qz_form_refuses(const qz_form *form, const qz_scheme *scheme, uint64_t rows, uint64_t cols,
                            const qz_packed *src, char *out, size_t out_size)
{
    int zeros = form->zeros_less_one && scheme->zero == QZ_ZERO_UINT4;
    int super = form->super != QZ_SUPER_FACTOR && scheme->super_size != 0 && scheme->super_dtype == QZ_F32;
    if (!src)
        return zeros || super ? "" : NULL;
    uint64_t size = scheme->group_size, groups = size >= cols ? cols != 0 : cols / size + (cols % size != 0);
    const float *supers = src->supers;
    if (zeros && has_zero_0(rows, groups, src->zeros, (size_t)src->zero_stride))
        return "a group has the zero 0, which it stores as -1, and its readers disagree about; gptq_v2 can hold it";
    if (!super || !supers || rows == 0 || cols == 0 || *supers == 0 || stored_of(form->super, *supers) != 0)
        return NULL;
    snprintf(out, out_size, "no float32 has exactly the %s of the super scale %.9g, which it stores",
             form->super == QZ_SUPER_DIVISOR ? "reciprocal" : "2688-fold", (double)*supers);
    return out;
}

/* Words are written whole. */
static int divides_words(const qz_form *form, const qz_packed_tensor *p, const area *codes)
{
    int rows_in_words =
        form->codes == QZ_ORDER_ACROSS || form->zeros == QZ_ORDER_ACROSS || form->zeros == QZ_ORDER_DOWN_ROWS;
    int zeros = p->members[QZ_MEMBER_ZEROS] != SIZE_MAX && p->scheme.zero != QZ_ZERO_OFFSET;
    int rows = rows_in_words && (zeros || form->codes == QZ_ORDER_ACROSS);
    return (rows && (codes->row % 8 != 0 || (codes->rows % 8 != 0 && codes->row + codes->rows != p->rows))) ||
           codes->first % 8 != 0 || (codes->count % 8 != 0 && codes->first + codes->count != p->cols);
}

qz_file_result qz_form_write(qz_writer *writer, const qz_form *form, const qz_packed_tensor *packed, uint64_t row,
                             uint64_t rows, uint64_t col, uint64_t cols, const qz_packed *src, qz_file_error *error)
{
    area codes = {row, rows, col, cols}, groups = groups_of(packed, row, rows, col, cols);
    if (rows == 0 || cols == 0)
        return QZ_FILE_OK;
    if (divides_words(form, packed, &codes))
        return qz_fail(error, QZ_FILE_ARGUMENT, writer->output.label, NULL, QZ_NO_OFFSET,
                       "a block begins or ends within eight rows or columns, which this layout keeps together");
    sheet s = part_of(NULL, writer, packed, QZ_MEMBER_CODES, form->codes, 1);
    change changed = {form->high_first, packed->scheme.codes == QZ_INT4, 0};
    qz_file_result result =
        write_nibbles(&s, form, form->codes, &codes, src->codes, (size_t)src->code_stride, changed, error);
    if (result == QZ_FILE_OK) {
        s = part_of(NULL, writer, packed, QZ_MEMBER_SCALES, form->scales, 0);
        result = move_numbers(&s, form->scales, &groups, src->scales, src->scale_stride, error);
    }
    if (result == QZ_FILE_OK && packed->members[QZ_MEMBER_ZEROS] != SIZE_MAX)
        result = write_zeros(writer, form, packed, &groups, src, error);
    if (result == QZ_FILE_OK && packed->scheme.super_size != 0 && row == 0 && col == 0)
        result = write_super(writer, form, packed, src->supers, error);
    return result;
}
