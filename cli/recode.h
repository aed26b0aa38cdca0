/*
 * recode.h - rewrites the numbers of one scheme as those of another scheme that decode to the same values
 */
#ifndef QZ_CLI_RECODE_H
#define QZ_CLI_RECODE_H

#include "cli.h"

typedef enum recode_grade {
    RECODE_NEVER,   /* some values of the one are none of the other */
    RECODE_PERHAPS, /* it depends on the numbers */
    RECODE_ALWAYS
} recode_grade;

/* Whether what one scheme holds can be held by another. */
recode_grade recode_grade_of(const qz_scheme *from, const qz_scheme *to);

/* Whether blocks of so many columns are the same in both. */
int recode_is_nothing(const qz_scheme *from, const qz_scheme *to, uint64_t cols);

/*
 * Fills in the plain form of `to` for rows x cols of `from`. Both have the strides of rows without gaps; `cols` are
 * whole groups or end the row, as qz_packed_read() gives them; without codes, if there are none. Returns 1, or 0 and in `why` the number that does not
 * fit and the row and group, counted in the block, in which it is.
 */
int recode_block(const qz_scheme *from, const qz_packed *src, const qz_scheme *to, const qz_packed *dst, uint64_t rows,
                 uint64_t cols, char *why, size_t why_size);

#endif
