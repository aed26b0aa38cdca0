/*
 * nonfinite.c - finds the NaN and infinities in a tensor that is to be encoded, and refuses it with the place of the
 * first one
 */
#include "encode.h"

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

typedef struct finder {
    const qz_tensor *tensor;
    uint64_t first, count; /* of those that are not finite: the index of the first, and how many there are */
} finder;

static int find_nonfinite(void *context, uint64_t first, uint64_t count, const void *data)
{
    finder *f = context;
    size_t each = qz_element_size(f->tensor->element);
    for (uint64_t i = 0; i < count; i++)
        if (!is_finite(f->tensor->element, (const char *)data + i * each)) {
            uint64_t flat = flat_index(f->tensor, first + i);
            f->first = flat < f->first ? flat : f->first;
            f->count++;
        }
    return DONE;
}

int fail_nonfinite(const encoder *e, const job *j, const qz_tensor *t)
{
    finder f = {t, UINT64_MAX, 0};
    char name[NAME_TEXT], place[SHAPE_TEXT];
    if (j->codes)
        return fail(REFUSED, "tensor '%s': its codes decode to numbers that are not finite",
                    qz_escape(t->name, t->name_length, name, sizeof name));
    int code = for_each_piece(&e->in, j->item->tensor, find_nonfinite, &f);
    if (code != DONE)
        return code;
    uint64_t index[QZ_MAX_RANK], rest = f.first;
    for (unsigned i = t->rank; i-- > 0; rest /= t->shape[i])
        index[i] = rest % t->shape[i];
    at_index(t, index);
    return fail(
        REFUSED, "tensor '%s' holds NaN or infinity, first at %s (flat index %" PRIu64 "), %" PRIu64 " in all; %s",
        qz_escape(t->name, t->name_length, name, sizeof name), shape_text(t->rank, index, place, 200), f.first, f.count,
        e->s->how.gram ? "--exclude it"
                       : "--nonfinite clip makes NaN 0 and infinity the largest magnitude of its group");
}
