/*
 * pieces.h - packed matrices with super scales, and the places of their pieces
 */
#ifndef QZ_TEST_PIECES_H
#define QZ_TEST_PIECES_H

#include <stdint.h>
#include <stdlib.h>

#include "program.h"

struct pieces {
    qz_packed packed;
    qz_sizes sizes;
};

static inline struct pieces pieces_make(const qz_scheme *scheme, uint64_t rows, uint64_t cols)
{
    struct pieces p = {.sizes = {.size = sizeof p.sizes}};
    assert_int_equal(QZ_OK, qz_scheme_sizes(scheme, rows, cols, &p.sizes));
    p.packed = (qz_packed){calloc(rows + 1, p.sizes.code_bytes + 1),
                           calloc(rows + 1, p.sizes.scale_bytes + 1),
                           calloc(rows + 1, p.sizes.zero_bytes + 1),
                           (int64_t)p.sizes.code_bytes,
                           (int64_t)p.sizes.scale_bytes,
                           (int64_t)p.sizes.zero_bytes,
                           calloc(rows + 1, p.sizes.super_bytes + 1),
                           (int64_t)p.sizes.super_bytes};
    return p;
}

static inline void pieces_free(struct pieces *p)
{
    free(p->packed.codes);
    free(p->packed.scales);
    free(p->packed.zeros);
    free(p->packed.supers);
}

/* The places of what begins at (row, col), at an even group. */
static inline qz_packed pieces_at(const struct pieces *p, const qz_scheme *scheme, uint64_t row, uint64_t col)
{
    uint64_t group = col / scheme->group_size, each = qz_dtype_size(scheme->scale_dtype);
    qz_packed at = p->packed;
    at.codes = (char *)at.codes + row * p->sizes.code_bytes + col / 2;
    at.scales = (char *)at.scales + row * p->sizes.scale_bytes + group * each;
    at.zeros =
        (char *)at.zeros + row * p->sizes.zero_bytes + (scheme->zero == QZ_ZERO_UINT4 ? group / 2 : group * each);
    if (scheme->super_size < QZ_WHOLE_MATRIX && scheme->super_size != 0)
        at.supers = (char *)at.supers + row * p->sizes.super_bytes +
                    col / scheme->super_size *
                        (p->sizes.super_bytes /
                         ((p->sizes.row_groups * scheme->group_size + scheme->super_size - 1) / scheme->super_size));
    else if (scheme->super_size == QZ_WHOLE_ROW)
        at.supers = (char *)at.supers + row * p->sizes.super_bytes;
    return at;
}

static inline void assert_same_pieces(const struct pieces *a, const struct pieces *b, const qz_scheme *scheme,
                                      uint64_t rows)
{
    assert_memory_equal(a->packed.codes, b->packed.codes, rows * a->sizes.code_bytes);
    assert_memory_equal(a->packed.scales, b->packed.scales, rows * a->sizes.scale_bytes);
    assert_memory_equal(a->packed.zeros, b->packed.zeros, rows * a->sizes.zero_bytes);
    assert_memory_equal(a->packed.supers, b->packed.supers,
                        (scheme->super_size == QZ_WHOLE_MATRIX ? 1 : rows) * a->sizes.super_bytes);
}

#endif
