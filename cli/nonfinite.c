/*
 * nonfinite.c - where NaN and infinity are in a tensor
 */
#include "encode.h"

#include <stdlib.h>
#include <string.h>

#include "output.h"

static int is_finite(qz_element element, const char *at)
{
    uint64_t wide;
    uint32_t word;
    uint16_t half;
    switch (element) {
    case QZ_ELEMENT_F64:
        memcpy(&wide, at, sizeof wide);
        return (wide & UINT64_C(0x7ff0000000000000)) != UINT64_C(0x7ff0000000000000);
    case QZ_ELEMENT_F32:
        memcpy(&word, at, sizeof word);
        return (word & 0x7f800000) != 0x7f800000;
    default:
        memcpy(&half, at, sizeof half);
        return element == QZ_ELEMENT_F16 ? (half & 0x7c00) != 0x7c00 : (half & 0x7f80) != 0x7f80;
    }
}

/* The index in C order of the element that is at place `at` in the file. */
static uint64_t flat_index(const qz_tensor *t, uint64_t at)
{
    uint64_t flat = 0, step = t->count;
    if (!t->column_major)
        return at;
    for (unsigned i = 0; i < t->rank; i++) {
        step /= t->shape[i];
        flat += at % t->shape[i] * step;
        at /= t->shape[i];
    }
    return flat;
}

int fail_nonfinite(const encoder *e, const job *j, const qz_tensor *t)
{
    enum { PIECE = 1 << 20 };
    qz_file_error error = QZ_FILE_ERROR_INIT;
    size_t each = qz_element_size(t->element);
    uint64_t first = UINT64_MAX, count = 0, step = PIECE / each;
    char *buffer = malloc(PIECE);
    if (buffer == NULL)
        return fail_memory();
    for (uint64_t at = 0; at < t->count; at += step) {
        uint64_t n = t->count - at < step ? t->count - at : step;
        if (stop_requested() || qz_read(e->in.file, j->item->tensor, at, n, buffer, &error) != QZ_FILE_OK) {
            free(buffer);
            return stop_requested() ? 128 + stop_requested() : fail_file(&error);
        }
        for (uint64_t i = 0; i < n; i++)
            if (!is_finite(t->element, buffer + i * each)) {
                uint64_t flat = flat_index(t, at + i);
                first = flat < first ? flat : first;
                count++;
            }
    }
    free(buffer);
    char name[NAME_TEXT], place[SHAPE_TEXT];
    uint64_t index[QZ_MAX_RANK], rest = first;
    for (unsigned i = t->rank; i-- > 0; rest /= t->shape[i])
        index[i] = rest % t->shape[i];
    return fail(REFUSED,
                "tensor '%s' holds NaN or infinity, first at %s (flat index %" PRIu64 "), %" PRIu64
                " in all; --nonfinite clip makes NaN 0 and infinity the largest magnitude of its group",
                qz_escape(t->name, t->name_length, name, sizeof name), shape_text(t->rank, index, place, 200), first,
                count);
}
