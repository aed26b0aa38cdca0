/*
 * linear_bytes.h - products of bytes: rows of floats as multiples of steps, and codes as small whole numbers
 *
 * In a group a value is scale * level + bias, with levels of 0..127. So the product of 32 columns of which a step is
 * known is scale * step * sum(level * byte) + bias * step * sum(byte); the first sum is one of integers.
 */
#ifndef QZ_LINEAR_BYTES_H
#define QZ_LINEAR_BYTES_H

#include "linear_inputs.h"
#include "linear_panels.h"

struct qz_byte_products {
    const struct qz_weights *weights;
    uint8_t level[16]; /* of codes: their values are unit * level + base */
    float unit, base;
    size_t most; /* the largest level */
};

/* Returns 0 if there are no products of bytes for these weights. */
int qz_byte_products_make(struct qz_byte_products *products, const struct qz_weights *weights);

enum { QZ_BYTE_WEIGHTS = QZ_SIDE };

/* Products of all rows of the inputs with weights [first, first + count), QZ_BYTE_WEIGHTS at most. */
void qz_byte_products(const struct qz_byte_products *products, uint64_t first, size_t count,
                      const struct qz_inputs *inputs, const struct qz_outputs *outputs);

#endif
