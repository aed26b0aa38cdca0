/*
 * element.h - types of elements: their sizes, the bytes of a shape, byte order
 */
#ifndef QZ_FILE_ELEMENT_H
#define QZ_FILE_ELEMENT_H

#include "system.h"

#include <stddef.h>
#include <stdint.h>

#include "quantize_file.h"

#define QZ_MAX_BYTES ((uint64_t)INT64_MAX) /* of a tensor */

/* Computes the number of items of a shape and their bytes. Returns 0 if either exceeds QZ_MAX_BYTES; sizes of 0 do not
 * make the others harmless: these are checked as if there were no zeros. */
int qz_shape_count(unsigned rank, const uint64_t *shape, uint64_t element_bytes, uint64_t *count, uint64_t *bytes);

/* Reverses the bytes of each element. */
void qz_swap(void *data, size_t element_bytes, size_t count);

static inline int qz_big_endian(void)
{
    const uint16_t one = 1;
    return *(const unsigned char *)&one == 0;
}

/* Refuses a tensor whose type an output does not have; `words` go on from "is of type T, which ". */
qz_file_result qz_fail_type(qz_file_error *error, const char *label, const char *field, const qz_tensor *tensor,
                            const char *words);

#endif
