/*
 * form.h - forms: the places of the numbers of a quantized tensor in the files of other programs
 *
 * A form describes these places for each part of the tensor. The functions declared here are the only ones that read
 * and write by forms.
 */
#ifndef QZ_LAYOUTS_FORM_H
#define QZ_LAYOUTS_FORM_H

#include "../system.h"

#include "../quantize_file.h"

/* Where the number of row r at place i lies: i counts the columns of codes, the groups of scales and zeros. */
typedef enum qz_order {
    QZ_ORDER_ROWS,      /* [r, i]; nibbles low first, or words of eight, which is the same */
    QZ_ORDER_ACROSS,    /* [i, r]; nibbles are words of eight rows */
    QZ_ORDER_DOWN,      /* [i / 8, r], words of eight places: nibbles only */
    QZ_ORDER_DOWN_ROWS, /* [r / 8, i], words of eight rows: nibbles only */
    QZ_ORDER_HALVES,    /* as rows, of which a byte has the n-th nibble of all and that which is as many nibbles further
                           on as there are bytes: codes only, and they are only read */
    QZ_ORDER_BYTES, /* as rows, of which a byte has a code of int4, which is one of uint4 less 8: codes and zeros, and
                           they are only read */
    QZ_ORDER_ELSEWHERE /* of scales: they are not read here */
} qz_order;

/* What a file has for the super scale s of a whole matrix. */
typedef enum qz_super_form {
    QZ_SUPER_FACTOR,  /* s */
    QZ_SUPER_DIVISOR, /* 1 / s */
    QZ_SUPER_LARGEST  /* s * 448 * 6 */
} qz_super_form;

typedef struct qz_form {
    qz_order codes, scales, zeros;
    qz_super_form super;
    int evens_first;    /* words have their rows in the order 0 2 4 6 1 3 5 7 */
    int high_first;     /* the first nibble of a byte is the high one */
    int zeros_less_one; /* modulo 16 */
    int zeros_negated;  /* offsets are stored with the other sign */
} qz_form;

/* Codes of int4 are those of uint4 less 8 in all forms, and have zeros of 8 in forms that need zeros. */

/* As qz_packed_read(), of a block that was checked. */
qz_file_result qz_form_read(qz_file *file, const qz_form *form, const qz_packed_tensor *packed, uint64_t row,
                            uint64_t rows, uint64_t col, uint64_t cols, const qz_packed *dst, qz_file_error *error);

/* Why numbers of a block cannot be stored in the form, in words that go on from "it cannot: "; they may be in `out`.
 * NULL if they can. src NULL: asks of the scheme alone; "" if it depends on the numbers. */
const char *qz_form_refuses(const qz_form *form, const qz_scheme *scheme, uint64_t rows, uint64_t cols,
                            const qz_packed *src, char *out, size_t out_size);

/* As qz_packed_write(). Where words hold eight rows, blocks begin at a multiple of eight of them; where they hold eight
 * columns, at a multiple of eight columns. */
qz_file_result qz_form_write(qz_writer *writer, const qz_form *form, const qz_packed_tensor *packed, uint64_t row,
                             uint64_t rows, uint64_t col, uint64_t cols, const qz_packed *src, qz_file_error *error);

#endif
