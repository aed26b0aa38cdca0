/*
 * same_rows.h - remembers from which rows something was prepared, so that it is used only with these
 */
#ifndef QZ_SAME_ROWS_H
#define QZ_SAME_ROWS_H

#include "../kernels/kernels.h"

struct qz_made_of {
    qz_scheme scheme;
    float table[16]; /* of the scheme: the caller's may be gone by then */
    qz_packed packed;
    uint64_t rows, cols;
};

/* Notes rows. `to` stays where it is from then on. */
void qz_note_rows(struct qz_made_of *to, const qz_scheme *scheme, const qz_packed *packed, uint64_t rows,
                  uint64_t cols);

/* Whether these rows lie at the same places, as far as the scheme has them. */
int qz_same_rows(const struct qz_made_of *of, const qz_scheme *scheme, const qz_packed *packed, uint64_t rows,
                 uint64_t cols);

#endif
