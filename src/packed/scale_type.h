/*
 * scale_type.h - the types that scales are stored as: one row for each
 *
 * A type is a float of some width, or a byte that is a multiple of a super scale. The rows hold all that drivers,
 * searches and checks ask about it. How many bytes become floats at once is known to the kernels (byte_scales in
 * kernels.h); a type whose bytes are plain integers needs nothing new there.
 */
#ifndef QZ_SCALE_TYPE_H
#define QZ_SCALE_TYPE_H

#include "quantize.h"

/*
 * The positive and negative numbers of a type, in order: those of a binary format. Level i > 0 is
 *
 *     i * 2^step                                            for i < 2^mantissa, and else
 *     (2^mantissa + i % 2^mantissa) * 2^(step + i / 2^mantissa - 1)
 *
 * For float16, bfloat16, float32 and floats of a byte i is the bit pattern, for E8M0 one more than it. Integers are
 * levels whose mantissa is long enough. Positive scales have levels 1..most[0], negative ones 1..most[1]; 0 where there
 * are none.
 */
struct qz_levels {
    int mantissa, step;
    uint32_t most[2];
};

/* Whether scales are multiples of a super scale. */
enum qz_super_use {
    QZ_SUPER_NEVER,
    QZ_SUPER_MAY,
    QZ_SUPER_ALWAYS,
    QZ_SUPER_ROW_PART /* always, and no more groups share one than are part of a row */
};

struct qz_scale_type {
    enum qz_super_use super;
    unsigned zeros;            /* bit z: goes with zeros of kind z */
    int pairs;                 /* super scales come in pairs, for scales and for offsets */
    int dual;                  /* the lowest bit of a byte says which of two tables the group uses */
    float least, most;         /* integers, as multiples of the super scale; 0 and 0: a floating-point type */
    float top;                 /* of a super scale: what the largest plain scale becomes, in multiples of it */
    struct qz_levels levels;   /* of offsets, too, where they come in pairs */
    float (*nearest)(float x); /* the number of the type that is nearest to a scale, or to a multiple */
};

/* The row of a type; NULL if scales are not stored as such. */
const struct qz_scale_type *qz_scale_type_of(qz_dtype dtype);

/* Whether scales are floats that have no sign. */
static inline int qz_is_unsigned_float(qz_dtype dtype)
{
    const struct qz_scale_type *type = qz_scale_type_of(dtype);
    return type && type->most == 0.0f && type->levels.most[1] == 0;
}

/* Whether a byte is a number of the type. Floating-point types have the byte that is NaN, which decoding shows. */
int qz_is_scale_byte(const struct qz_scale_type *type, uint8_t byte);

/* The bytes of n scales that share a super scale, for a type of a byte. zero: read for dual types alone. */
void qz_bytes_of_scales(qz_dtype dtype, const float *scale, const float *zero, size_t n, float super, uint8_t *bytes);

/* The bytes of n offsets, which are not positive, that share a super scale. */
void qz_bytes_of_offsets(qz_dtype dtype, const float *offset, size_t n, float super, uint8_t *bytes);

#endif
