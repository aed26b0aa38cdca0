/*
 * linear_bytes.h - products of bytes: rows of floats as multiples of steps, and codes as small integers
 *
 * In a group a value is scale * level + bias, with levels of 0..127. So the product of 32 columns with a known step is
 * scale * step * sum(level * byte) + bias * step * sum(byte). The first sum is a sum of integers.
 */
#ifndef QZ_LINEAR_BYTES_H
#define QZ_LINEAR_BYTES_H

#include "linear_inputs.h"
#include "linear_panels.h"

struct qz_byte_products {
    const struct qz_weights *weights;
    const struct qz_ready_weights *ready; /* NULL, or the same weights */
    uint8_t level[16];                    /* of codes: their values are unit * level + base */
    float unit, base;
    size_t most; /* the largest level */
};

/* Returns 0 if there are no products of bytes for these weights. */
int qz_byte_products_make(struct qz_byte_products *products, const struct qz_weights *weights);

/* Prepares weights [first, first + count), where `first` is a multiple of QZ_SIDE, and there are no more of them. */
void qz_make_ready(const struct qz_byte_products *products, uint64_t first, size_t count,
                   const struct qz_ready_weights *to);

/* Products of all rows of the inputs with such weights. */
void qz_byte_products(const struct qz_byte_products *products, uint64_t first, size_t count,
                      const struct qz_inputs *inputs, const struct qz_outputs *outputs);

#endif
