/*
 * kernels.h - the contract between the drivers and the inner loops
 *
 * A kernel set is a table of functions for one instruction set. scalar.c is the specification: every other set returns
 * the same bits for the same input. Kernels allocate nothing, keep no state, accept any alignment, never touch a byte
 * outside the ranges that they are given, and need the default floating-point environment (fpenv.h).
 */
#ifndef QZ_KERNELS_H
#define QZ_KERNELS_H

#include "../base/float8.h"
#include "../base/small.h"
#include "affine.h"
#include "rules.h"
#include "quantize.h"

#include <math.h>

/* CPU features a set may need, found by dispatch.c. */
enum {
    QZ_CPU_AVX2 = 1 << 0,       /* AVX2, FMA, F16C */
    QZ_CPU_AVX512 = 1 << 1,     /* AVX-512 F, CD, BW, DQ, VL, VBMI */
    QZ_CPU_NEON = 1 << 2,       /* AArch64 */
    QZ_CPU_AVX512VNNI = 1 << 3, /* AVX-512 VNNI */
    QZ_CPU_DOTPROD = 1 << 4,    /* AArch64 with FEAT_DotProd */
    QZ_CPU_AMX = 1 << 5,        /* AMX for bytes, which the system lets this process use */
    QZ_CPU_I8MM = 1 << 6        /* AArch64 with FEAT_I8MM */
};

/*
 * Whole-array codes for float32 input. The rule, code = clamp(rint(x / scale) + zero_point) in double, is monotone in
 * x, so it is fully described by the smallest float that reaches each code. A kernel guesses the code by float32
 * arithmetic, at most one too low, and one comparison makes it exact:
 *
 *     guess = trunc((x - middle) * inverse + bias)            in 0..15, is index or index - 1
 *     index = guess + (x >= next[guess])                      next[i]: the least x of index i + 1; next[15] = +inf
 *     code = index - 8
 *
 * `ordinary` is 0 when the scale is so small or large that float32 cannot guess; kernels then are not called and the
 * scalar rule is used directly.
 */
struct qz_steps {
    double scale, zero_point;
    float next[16];
    float middle, inverse, bias;
    int ordinary;
};

/* The drivers cut their work into tiles that stay in the first-level cache: 16 KiB of float32, which leaves room in a
 * small one for what else is in use. Group kernels are given QZ_TILE elements at most. */
enum { QZ_TILE = 4096 };

/* The longest groups that columns_ kernels are given. */
enum { QZ_COLUMN_MOST = 512 };

/* A super scale belongs to this many neighbours, and groups, at most, or to a whole row or matrix. */
enum { QZ_SUPER_MOST = QZ_TILE / 2, QZ_SUPER_GROUPS_MOST = 256 };

/* Whether it is a type of arrays, not of scales only. */
static inline int qz_is_array_dtype(qz_dtype dtype)
{
    return dtype >= QZ_F32 && dtype <= QZ_BF16;
}

/* How the scale of a group follows from its range: see fit in scalar.c. */
struct qz_fit {
    qz_method method; /* QZ_MINMAX or QZ_ABSMAX */
    qz_zero zero;
    qz_dtype scale_dtype; /* QZ_F32, QZ_F16 or QZ_BF16 */
    float end;            /* QZ_ABSMAX: what the largest magnitude becomes */
    int positive; /* QZ_ABSMAX: it becomes end or -end by a positive scale, else end by a scale of either sign */
};

/* What fit noticed in at least one group; the caller looks closer. */
enum {
    QZ_FIT_TIE = 1,  /* either sign: max == -min != 0, so the order of the elements decides; min was taken */
    QZ_FIT_TINY = 2, /* not all zeros, and |scale| is below the least normal number of its type (0 included) */
    QZ_FIT_HUGE = 4  /* |scale| > 2^120 or |offset| > 2^126, perhaps infinite */
};

/* Where the numbers of groups go: ranges, scales as stored, what codes follow from. `zero` is not touched for
 * QZ_ZERO_NONE. */
struct qz_numbers {
    float *min, *max, *scale, *inverse, *zero;
};

enum { QZ_CELLS = 32 };

/*
 * Codes of any values: y lies in cell k = clamp(rint(fma(y, factor, bias)), 0, 31), and of the thresholds of a grid,
 * least and most included, at most one lies there too: the code is code[2 * k + (y >= upper[k])], and y is clipped if
 * that index is 0 or 63.
 */
struct qz_cell_codes {
    float factor, bias;
    float upper[QZ_CELLS];
    uint8_t code[2 * QZ_CELLS];
};

/*
 * How values become codes within their group, and back. Uniform codes are the integers lo..hi. Any others are the index
 * of the nearest of 16 values: of y, it is how many i have y >= upper[i]. Ties are decided in `upper` itself, by
 * nextafterf where they go down; of equal values, all but one have an empty interval and are never chosen.
 *
 * The fields up to `value` are all that decoding looks at.
 */
struct qz_grid {
    qz_zero zero;
    int uniform;
    float shift;     /* QZ_ZERO_FLOAT: what zeros may be besides 0, where they are a bit of the scale; or 0 */
    float value[16]; /* by code as it is stored */

    int has_zero;      /* 0 is a value, in every group: what is 0 has no error */
    int lo, hi;        /* uniform: ends of the code range */
    float sorted[16];  /* ascending */
    float upper[16];   /* ascending; the last one is +infinity */
    int32_t code[16];  /* what is stored for sorted[i] */
    float least, most; /* y beyond these is clipped: half a step from the ends */

    int has_cells; /* codes of any values may follow from cells */
    struct qz_cell_codes cells;
};

/* Scales of groups, one after another, and their zeros or offsets, as they are stored. */
struct qz_stored {
    qz_dtype dtype; /* of scales, and of zeros and offsets but for QZ_ZERO_UINT4 */
    const void *scale;
    const void *zero; /* QZ_ZERO_UINT4: from the low half of a byte on. QZ_I7: not looked at, see byte_scales */
    /* Types of a byte: what numbers are multiplied with. The first one belongs to `first` groups, each other one to
     * `each`. Neither is 0; both are SIZE_MAX where there is one for all. */
    const float *super, *super_zero;
    size_t first, each;
};

/* What the sixteen values are, as far as it decides which instructions find them. */
enum { QZ_UNSIGNED, QZ_SIGNED, QZ_ANY_VALUES };

/* Groups that are searched side by side: element k of group l is v[QZ_BLOCK * k + l]. */
enum { QZ_CANDIDATES = 24 };

/*
 * How the scale of a group is searched. A candidate scale gives every element a code, least squares over these codes
 * give a better scale, and that, as stored, has a gain: by how much it lowers the sum of squares. Of 16 values two sets
 * may be had, of which each group takes one.
 */
struct qz_search {
    int uniform; /* values are the integers lo..hi, lo < 0 < hi, else those of a table */
    float lo, hi;
    float value[2][16]; /* ascending */
    float upper[2][16]; /* y is nearest to value[i], i being how many upper[i] <= y; the last one is +infinity */

    /* The same another way, where `cells` is 1: y, brought into -cell_most..cell_most, lies in cell
     * k = floor(y * cell_factor) + 16, and is nearest to value[cell_first[k] + (y >= cell_upper[k])]. */
    int cells;
    float cell_most[2], cell_factor[2];
    float cell_upper[2][QZ_CELLS];
    int32_t cell_first[2][QZ_CELLS];

    int positive; /* scales must be: else they may have either sign */
    int refit;    /* 0: no least squares, candidates are rounded as stored before they give codes */
    qz_dtype scale_dtype;
    float least, most;   /* integers that scales are multiples of; 0 and 0 where they are none */
    size_t as_stored;    /* of the first candidates: 1, the scale to begin with as it is stored; 2, then `other` too */
    size_t first, count; /* candidates: those from `first` on are for the second set of values */
    float factor[QZ_CANDIDATES]; /* a candidate after these is the scale to begin with, divided by this */
};

/* Groups that ggml's searches are given at once, and their length. For Q4_K they are two blocks of QZ_BLOCK. */
enum { QZ_RULE_SEARCHED = 32, QZ_RULE_TOGETHER = 2 * QZ_BLOCK };

/* What they find: scales; for Q4_K minima, too, and what codes follow from, rint((x - from) * by). */
struct qz_rule_groups {
    float scale[QZ_RULE_TOGETHER], min[QZ_RULE_TOGETHER], by[QZ_RULE_TOGETHER], from[QZ_RULE_TOGETHER];
};

/* What the best candidate of each group lowers the sum of squares by; what `other` does, if it is another one, else
 * -infinity; and that sum, of w x^2. Sums in float32 tell gains apart that differ by this factor: a later candidate
 * must gain so much more. */
#define QZ_GAINS_MORE (1.0f + 0x1p-19f)

struct qz_gains {
    float best[QZ_BLOCK], other[QZ_BLOCK], energy[QZ_BLOCK];
};

/*
 * Candidates for groups of integers -8..7 without weights, in integers of 16 bits. Values are rounded to units: there are
 * QZ_FIXED_STEP in a step of the base, the smaller one of two plain scales as stored, the other of which is at most
 * 1 / QZ_FIXED_RATIO times as large. The two are candidates 0 and 1; a further one is the base, divided by a multiple of
 * 1 / QZ_FIXED_ONE. QZ_FIXED_NEAR roots of n are as many units as two distances from the same group may differ by,
 * because of its rounding, if one belongs to the base, and QZ_FIXED_FAR if one belongs to the other plain scale.
 */
#define QZ_FIXED_STEP  1024.0f
#define QZ_FIXED_RATIO 0.8f
#define QZ_FIXED_NEAR  1.05f
#define QZ_FIXED_FAR   3.3f
#define QZ_FIXED_SLACK 0x1p-19f /* of the sum of squares: what float32 sums may be wrong by */
enum {
    QZ_FIXED_ONE = 32,
    QZ_FIXED_COUNT = 8,    /* candidates at most; */
    QZ_FIXED_TASKS = 2,    /* blocks in a call at most */
    QZ_FIXED_FIRST = 4,    /* the first ones are in one pass over a group, and others in a second one */
    QZ_FIXED_PART = 16,    /* squares of units that are summed in 32 bits */
    QZ_FIXED_LONGEST = 512 /* values in a group: sums of products fit 32 bits */
};

/*
 * With a zero or an offset there are QZ_FIXED_STEP units in a step of the plain scale, for candidates QZ_FIXED_COARSE. A
 * factor that makes codes of the latter is QZ_FIXED_FACTOR over a scale in steps; QZ_FIXED_PLAIN makes those of the
 * former by the plain scale. Of integer zeros values are up to QZ_FIXED_WHOLE units from 0, others QZ_FIXED_HALF from
 * code 8, which is within QZ_FIXED_FAR_OFF of 0; candidates move it by up to QZ_FIXED_SHIFT coarse units.
 */
#define QZ_FIXED_COARSE  256.0f
#define QZ_FIXED_FACTOR  128.0f
#define QZ_FIXED_PLAIN   0.25f
#define QZ_FIXED_WHOLE   16300.0f
#define QZ_FIXED_HALF    8800.0f
#define QZ_FIXED_FAR_OFF 0x1p17f
#define QZ_FIXED_SHIFT   8192.0f
/* The pair of a rule is compared if what its codes stand for is not farther from the plain one than that, in units; its
 * distance is known but for so many roots of n. */
#define QZ_FIXED_APART 512.0f
#define QZ_FIXED_RULE  3.8f
enum {
    QZ_FIXED_TRIES = 4, /* candidates in a pass over a group */
    QZ_FIXED_TO_COARSE = 8192,
    QZ_FIXED_AFFINE_PART = 8 /* squares of units that are summed in 32 bits */
};

struct qz_fixed {
    size_t first, count; /* candidates, `first` of them 2 to 4, at which no value is below -8.5 steps; others are 0 or
                            2 to 4. count 0: groups are searched in floats only. */
    int16_t factor[QZ_FIXED_COUNT];
    float most; /* units that values may have */
    int positive;
    qz_dtype scale_dtype; /* a float */
};

/*
 * What is seen of groups side by side before they are searched. Some values are looked at: value i of S is that of
 * element i * n / S; a value without weight counts as 0.
 */
enum { QZ_SAMPLES_UNIFORM = 8, QZ_SAMPLES_TABLE = 16, QZ_SAMPLES_LATTICE = 12 };

struct qz_survey {
    float weight[QZ_BLOCK]; /* sum of w, and of w^2; not touched without weights */
    float weight2[QZ_BLOCK];
    uint8_t repeats[QZ_BLOCK]; /* 1: two of QZ_SAMPLES_UNIFORM, or QZ_SAMPLES_TABLE, values are equal, or n is less */
    uint8_t lattice[QZ_BLOCK]; /* 1: QZ_SAMPLES_LATTICE values are near multiples of a sixth of the largest magnitude,
                                  or of a fifth or a fourth (of a table: an eighth), as small integers are */
};

/* Groups that were searched side by side, each of n values, w: NULL without weights, with their ranges. */
struct qz_look {
    const float *v, *w;
    size_t n;
    const float *low, *high;
};

/* Blocks of groups of one length, QZ_FIXED_TASKS at most: one waits less beside another. */
struct qz_fixed_affine_task {
    struct qz_look look;
    const float *unit;
    const struct qz_affine_rule *rule; /* or NULL */
    float *scale, *zero;
    struct qz_affine_error *error;
    uint8_t *sure;
};

/* What else is known of groups with neither a zero nor an offset. */
struct qz_symmetric_look {
    int uniform;               /* values are integers, not those of a table */
    int has_tiny;              /* values next to 0 have codes of their own */
    float least_spread;        /* that ordinary groups have, as a share of the energy */
    const float *scale, *unit; /* what was found, divided by unit */
    float few_steps;           /* scales below have so few steps of their type that what codes ask for is far from
                                        what is stored; or 0 */
    const float *super;        /* super scales, divided by unit, or NULL: */
    float coarse, end;         /* scales of few steps of a super scale, `coarse` and less; end as in qz_fit */
    const struct qz_gains *gains;
};

/* How near, in such multiples: the mean square of the distances. It is 1/12 where there is no lattice, and of twelve
 * values less than this in one of 1,000 groups. As a share of the mean square of the multiples: small values are near 0
 * wherever they are. */
#define QZ_NEAR_LATTICE  0.02f
#define QZ_LATTICE_SHARE 0x1p-7f

enum { QZ_WEIGHTED_LANES = 8 };

/* Sums of squares over at most QZ_TILE elements: element i goes to lane i % 32, lanes grow by fused multiply-add. */
enum { QZ_SUMS_LANES = 32 };

struct qz_sums {
    float signal[QZ_SUMS_LANES]; /* sum of x^2 */
    float error[QZ_SUMS_LANES];  /* sum of (x - y)^2 */
    float max_error;             /* max |x - y| */
};

/*
 * Memory that will be read next: blocks of `lines` lines of `line` bytes, `stride` apart, of which the second starts at
 * `after`. While columns_range and columns_codes work on 32 values they fetch 64 bytes of it, and no more: the hardware
 * drops requests that come in bursts, and lines that come too early are evicted before they are read.
 */
struct qz_ahead {
    uintptr_t at;
    size_t left, line;        /* bytes, multiples of 64: of the line that is begun, and of each */
    size_t lines_left, lines; /* the same for lines */
    uintptr_t stride, after;
};

/* Levels are small numbers that codes stand for, in blocks of so many. */
enum { QZ_LEVELS = 32, QZ_LEVEL_MOST = 127 };

/* Rows of codes, taken 32 at a time: chunk c of a row starts at byte 16 c, but the last one 16 bytes before the end. */
enum { QZ_CHUNK = 32 };

struct qz_scan {
    const uint8_t *codes;
    ptrdiff_t stride; /* bytes from one row to the next */
    size_t rows;
    size_t bytes, chunks;        /* of a row: 16 bytes or more */
    size_t group_chunks, groups; /* the last group may have fewer chunks */
    const uint8_t *level;        /* what 16 codes stand for; none is above QZ_LEVEL_MOST */
    /* Of each so many chunks of a group, products may be summed up in 16 bits: those of two neighbours in all, or in
     * both halves of every second one and of the last two. */
    size_t steps;
    size_t pitch; /* of the sums; not below `rows` */
};

/* Rows of codes side by side, at most QZ_BESIDE_ROWS of them and a multiple of 16. A step is four bytes of each row,
 * eight codes. A group is whole steps, or the row. */
enum { QZ_BESIDE_ROWS = 64, QZ_BESIDE_CODES = 8 };

struct qz_beside {
    const uint8_t *codes;
    size_t rows;
    size_t steps;               /* of a row */
    size_t group_steps, groups; /* the last group may have fewer steps */
    const uint8_t *level;       /* what 16 codes stand for; none is above QZ_LEVEL_MOST */
};

/*
 * Signs of 64 rows, a block: a step is six signs of each of them. Four steps are three bytes of each: the lower six bits
 * of a byte are a step, and the upper two of the three are the fourth one. Of two bytes that are neighbours each belongs
 * to another half of the rows (qz_sign_place): so the sums of a half lie in the same part of 16-bit lanes. A query
 * has six integers for each step: one is added where the bit is 1, and subtracted where it is 0. The magnitudes of the
 * integers of a run, QZ_SIGN_RUN steps, are QZ_SIGN_MOST together at most: so the sum of a run fits a byte, modulo 256
 * as those of its steps may be. The table of a query has all 64 sums of each step as such bytes, and behind those of all
 * steps 16 bytes for each: what the two upper signs, whatever the next two bits are, add to a sum of which they are 0.
 * The number of steps is a multiple of 4, and at most QZ_SIGN_STEPS: so all sums, QZ_SIGN_MIDDLE added to that of each
 * run, fit 15 bits.
 */
enum { QZ_SIGN_ROWS = 64, QZ_SIGN_CODES = 6, QZ_SIGN_RUN = 16, QZ_SIGN_MOST = 127, QZ_SIGN_MIDDLE = 128 };
enum { QZ_SIGN_STEPS = 684, QZ_SIGN_TABLE = 64, QZ_SIGN_UPPER = 16, QZ_SIGN_QUERIES = 8 };

struct qz_sign_rows {
    const uint8_t *plane;
    size_t steps, rows;         /* rows: of 64, those that are there */
    const float *factor, *bias; /* of 64 rows; bias may be NULL */
    const uint16_t *inverse;    /* of factors, as qz_sign_inverse says */
    float scale;
};

static inline size_t qz_sign_place(size_t row)
{
    return row % (QZ_SIGN_ROWS / 2) * 2 + row / (QZ_SIGN_ROWS / 2);
}

/* Bytes of a row. */
static inline size_t qz_sign_bytes(size_t steps)
{
    return steps / 4 * 3;
}

/* The signs of a step, given the first byte of the row. */
static inline unsigned qz_sign_step(const uint8_t *plane, size_t step)
{
    const uint8_t *three = plane + qz_sign_bytes(step) * QZ_SIGN_ROWS;
    if (step % 4 < 3)
        return three[step % 4 * QZ_SIGN_ROWS] & (QZ_SIGN_TABLE - 1);
    return three[0] >> 6 | three[QZ_SIGN_ROWS] >> 6 << 2 | three[2 * QZ_SIGN_ROWS] >> 6 << 4;
}

static inline size_t qz_sign_runs(size_t steps)
{
    return (steps + QZ_SIGN_RUN - 1) / QZ_SIGN_RUN;
}

/*
 * Without a bias, rows whose sum is below limit / factor do not reach a limit. That is an integer with 16-bit inverses
 * of the factors of a block: scale * inverse / 2^16 is not above 1 / factor, where the least factor that is not 0 has
 * the inverse 65535. A query has limit * scale, a bit less than that, as an integer; its product with an inverse, the
 * upper 16 bits, is the least sum.
 */
enum { QZ_SIGN_BEYOND = 1 << 14 }; /* more than any sum */

static inline uint16_t qz_sign_inverse(float factor, float scale)
{
    const double inverse = 65535.0 / ((double)factor * (double)scale);
    return inverse < 65535.0 ? (uint16_t)inverse : 65535;
}

static inline int qz_sign_least(float limit, float scale)
{
    float least = limit * scale * (1.0f - 0x1p-20f);
    least = least < (float)QZ_SIGN_BEYOND ? least : (float)QZ_SIGN_BEYOND;
    return (int)(least > 0.0f ? least : 0.0f);
}

/* The estimate of a score; `near` is the bias times that of the query, or 0. */
static inline float qz_sign_estimate(float factor, int16_t sum, float near)
{
    return factor * (float)sum + near;
}

/* Queries, QZ_SIGN_QUERIES at most, whose tables follow each other. */
struct qz_sign_queries {
    size_t count;
    const uint8_t *table;
    const float *start, *limit;
};

/* Whether rows that may reach a limit are told by their estimates, and not by inverses. A single query reads each number
 * of a row once: then one kind of numbers is enough. */
static inline int qz_sign_by_estimates(const struct qz_sign_rows *rows, const struct qz_sign_queries *queries)
{
    return rows->bias || queries->count == 1;
}

/* Bytes of a table: whole lines of the cache. */
static inline size_t qz_sign_table(size_t steps)
{
    return (steps * (QZ_SIGN_TABLE + QZ_SIGN_UPPER) + QZ_SIGN_TABLE - 1) / QZ_SIGN_TABLE * QZ_SIGN_TABLE;
}

/* How levels stand for values: nearly unit * level + base. */
struct qz_measure {
    float unit, base;
    float top;         /* the largest level */
    float least, most; /* rows whose parts are not 0 and less, or more, or NaN, have an infinite spread */
    float up;          /* by which the spread is multiplied */
    qz_zero kind;
};

/* Numbers of rows: number t of row r is at t * pitch + r. */
struct qz_reach {
    size_t rows, pitch, groups, terms;
    const float *scale, *bias;  /* `groups` and `terms` of them */
    const float *spread, *size; /* one */
};

/*
 * Products of bytes: QZ_SIDE weights, side by side, with rows of bytes, in blocks of QZ_LEVELS elements. A row of bytes
 * has of each eight elements the four even ones first; so it is with levels, where of each four elements those of one
 * weight follow those of another.
 */
enum { QZ_SIDE = 16, QZ_PRODUCT_CHAIN = 64, QZ_PRODUCT_ROWS = 12, QZ_PRODUCT_SIDES = 2, QZ_STORED_GROUPS = 8 };

struct qz_side {
    size_t blocks;             /* QZ_TILE / QZ_LEVELS at most */
    size_t most;               /* no level is above it; QZ_LEVEL_MOST at most */
    const float *scale, *bias; /* of block b and weight w: [b * QZ_SIDE + w] */
};

/* Ordinary scales, or 0, and biases: products with them stay within float32. */
#define QZ_ORDINARY_LEAST 0x1p-60f
#define QZ_ORDINARY_MOST  0x1p60f

struct qz_byte_rows {
    size_t rows, pitch; /* blocks from row to row */
    const int8_t *code; /* -127..127 */
    const float *step, *start;
};

/*
 * QZ_SIDE weights that were prepared: QZ_READY_BYTES of a block, in which bytes 4 f .. 4 f + 3 of the packed codes of
 * weight w are at 64 f + 4 w. Numbers of group g and weight w are at [g * QZ_SIDE + w].
 */
enum { QZ_READY_BYTES = QZ_SIDE * QZ_LEVELS / 2 };

struct qz_ready_side {
    const uint8_t *packed;
    size_t blocks;
    size_t head, each;         /* blocks: of the first group, before these; of a group */
    size_t most;               /* as in qz_side */
    const uint8_t *level;      /* of codes */
    const float *scale, *bias; /* bias is NULL where it is scale * base */
    float base;
};

/* Packed codes of QZ_SIDE weights, rows of `pitch` bytes, from a block of a group on that has `head` blocks before it.
 * Numbers of group g and weight w are at [g * QZ_SIDE + w]. */
struct qz_few {
    const uint8_t *packed;
    ptrdiff_t pitch;
    size_t blocks;     /* of QZ_LEVELS elements: whole chains */
    size_t head, each; /* blocks: of the first group, before these; of a group */
    const struct qz_grid *grid;
    const float *scale, *zero;
    int exact; /* whether zero is what product_stored calls bias, so that scale * code + zero is a value, exactly */
    int ready; /* whether codes, scales and, as zeros, biases are those of a qz_ready_side, values are whole numbers that
                  follow each other, and scale * level + bias is a value, exactly; zero is NULL for scale * least value */
};

struct qz_kernels {
    const char *name;
    uint32_t needs;

    /* ---- whole arrays --------------------------------------------------------------------------------------- */

    /* Smallest and largest of n > 0 values to range[0] and range[1]. Nonzero if any is NaN or infinite; range is then
     * meaningless. The sign of a zero is unspecified. */
    int (*range_f32)(const float *x, size_t n, float range[2]);
    int (*range_f64)(const double *x, size_t n, double range[2]);

    /* Whole-array codes. */
    void (*codes_f32)(const float *x, size_t n, const struct qz_steps *steps, int8_t *codes);
    void (*codes_f64)(const double *x, size_t n, double scale, double zero_point, int8_t *codes);

    /* dst[i] = table[codes[i] & 15]; nonzero if any code is outside -8..7. */
    int (*decode_f32)(const int8_t *codes, size_t n, const float table[16], float *dst);
    int (*decode_f64)(const int8_t *codes, size_t n, const double table[16], double *dst);

    /* Two codes a byte; pack returns nonzero if any code is outside -8..7. n may be odd. */
    int (*pack)(const int8_t *codes, size_t n, uint8_t *packed);
    void (*unpack)(const uint8_t *packed, size_t n, int8_t *codes);

    /* ---- numbers -------------------------------------------------------------------------------------------- */

    /* Conversions, rounding to nearest even; a NaN becomes quiet and keeps its upper payload, but f32_from_bf16 only
     * moves bits. f32_from_f64 returns nonzero if any result is NaN or infinite. */
    void (*f32_from_f16)(const uint16_t *src, size_t n, float *dst);
    void (*f32_from_bf16)(const uint16_t *src, size_t n, float *dst);
    int (*f32_from_f64)(const double *src, size_t n, float *dst);
    void (*f16_from_f32)(const float *src, size_t n, uint16_t *dst);
    void (*bf16_from_f32)(const float *src, size_t n, uint16_t *dst);

    /* Scales stored in a byte, QZ_E4M3 or a type beyond it: scale[i] is what bytes[i] stands for times super[i / each].
     * For QZ_I7, whose lowest bit is no part of the scale, zero[i] is -shift where that bit is set, else 0; for the
     * others it is not touched. */
    void (*byte_scales)(qz_dtype dtype, const uint8_t *bytes, size_t n, const float *super, size_t each, float shift,
                        float *scale, float *zero);

    /* ---- matrices and memory -------------------------------------------------------------------------------- */

    /* dst[r * dst_stride + c] = src[c * src_stride + r] for r < rows, c < cols. */
    void (*transpose)(const float *src, ptrdiff_t src_stride, size_t rows, size_t cols, float *dst,
                      ptrdiff_t dst_stride);

    /* y[c * y_pitch + r] = fma(a[k * a_pitch + c], x[k * x_pitch + r], y[c * y_pitch + r]) for k = 0, 1, ... depth - 1,
     * for all c < cols and r < rows; any of the three may be 0. */
    void (*multiply_add)(const double *a, size_t a_pitch, size_t cols, const double *x, size_t x_pitch, size_t rows,
                         size_t depth, double *y, size_t y_pitch);

    /* y[r * outs + j] becomes the sum of x[r * cols + i] * matrix[i * outs + j] in the order of i, from 0 on, for r < rows
     * and j < count: each product is rounded, then added. */
    void (*project)(const float *x, size_t rows, size_t cols, const float *matrix, size_t outs, size_t count, float *y);

    /* Adds to sum[(r * sides + s) * QZ_SIDE + c] the product of row r of x, of which element k is x[k * rows + r], and
     * weight c of side s, whose element k is w[s * w_pitch + k * QZ_SIDE + c]: of each QZ_PRODUCT_CHAIN elements a sum that
     * begins with 0 and grows by x * w, fused, in order, is added to it. QZ_PRODUCT_ROWS rows and QZ_PRODUCT_SIDES sides
     * at most. Elements of the rows that come next are `ahead` floats from these, if there are such rows. */
    void (*products)(const float *x, size_t rows, size_t ahead, const float *w, size_t w_pitch, size_t sides, size_t n,
                     float *sum);

    /* y[r * y_pitch + i] = sum[r * n + i] for r < rows and i < n, a multiple of QZ_SIDE; NaN becomes 0x7fc00000. */
    void (*product_outputs)(const float *sum, size_t rows, size_t n, float *y, ptrdiff_t y_pitch);

    /* Adds to sum[r * QZ_SIDE + c] the same, for few rows x_pitch apart, of weights that are packed. NULL where decoding
     * them first is as fast. */
    void (*products_few)(const struct qz_few *few, const float *x, ptrdiff_t x_pitch, size_t rows, float *sum);

    /* The values of any blocks of such weights: w[k * QZ_SIDE + c] of element k of weight c; zeros may have another sign.
     * NULL where products_few is. */
    void (*few_values)(const struct qz_few *few, float *w);

    /* Bytes of blocks of QZ_LEVELS floats: multiples of a step, the largest magnitude / 127, to nearest even; of each
     * eight the even ones come first. `start` is the step times the sum of the bytes. Where the largest magnitude, if it
     * is not 0, is not in QZ_ORDINARY_LEAST..MOST, or NaN, `strange` is 1 and all else 0. */
    void (*input_bytes)(const float *x, size_t blocks, int8_t *code, float *step, float *start, uint8_t *strange);

    /* Levels of QZ_SIDE rows of packed codes, side by side. */
    void (*product_levels)(const uint8_t *const packed[QZ_SIDE], size_t blocks, const uint8_t level[16], uint8_t *dst);

    /* Scales and zeros of groups of QZ_SIDE weights, side by side, become those of levels: bias, in place of the zero,
     * is scale * base + offset, or scale * base - scale * zero, each operation rounded; then scale is scale * unit.
     * strange[w] is 1 where the magnitude of a scale of weight w, if it is not 0, is not in QZ_ORDINARY_LEAST..MOST, or
     * that of a bias is above QZ_ORDINARY_MOST; else 0. */
    void (*product_numbers)(qz_zero kind, float unit, float base, size_t groups, float *scale, float *bias,
                            uint8_t strange[QZ_SIDE]);

    /* The same from scales, and zeros, as QZ_SIDE rows have them stored: scales of float16, and kind is QZ_ZERO_NONE or
     * QZ_ZERO_UINT4. `groups` is a multiple of QZ_STORED_GROUPS. Returns 0 if a scale is not finite; what was written is
     * then of no use. */
    int (*product_stored)(qz_zero kind, float unit, float base, const uint8_t *const scales[QZ_SIDE],
                          const uint8_t *const zeros[QZ_SIDE], size_t groups, float *scale, float *bias);

    /* Adds to sum[r * QZ_SIDE + w] the product of row r and weight w: for each block b in order, bias * start and then
     * (scale * step) times the sum of level * code, both fused. */
    void (*product_bytes)(const struct qz_side *side, const uint8_t *level, const struct qz_byte_rows *x, float *sum);

    /* The same, from packed codes, for few rows. */
    void (*product_packed)(const struct qz_side *side, const uint8_t *const packed[QZ_SIDE], const uint8_t level[16],
                           const struct qz_byte_rows *x, float *sum);

    /* The same, from weights that were prepared. */
    void (*product_ready)(const struct qz_ready_side *side, const struct qz_byte_rows *x, float *sum);

    /* memcpy with stores that bypass the cache where the machine has them. After the last one stream_end makes them
     * visible to other threads in order. */
    void (*stream)(void *dst, const void *src, size_t bytes);
    void (*stream_end)(void);

    /* ---- groups --------------------------------------------------------------------------------------------- */

    /*
     * Groups: n > 0 floats, at most QZ_TILE, one group after another, the last one possibly shorter; so there are
     * (n - 1) / group_size + 1 of them.
     * Codes start with the low half of a byte; when n is odd the last upper half is written as 0.
     */

    /* Range of each group; nonzero if any value is NaN or infinite, min and max then are meaningless. */
    int (*group_range)(const float *x, size_t n, size_t group_size, float *min, float *max);

    /* Scale as stored, 1 / scale (0 where that is tiny or huge: codes then come from the careful rule) and zero or
     * offset of each group. Returns QZ_FIT_ flags. `zero` is not touched for QZ_ZERO_NONE. */
    unsigned (*fit)(const struct qz_fit *rule, size_t groups, const float *min, const float *max, float *scale,
                    float *inverse, float *zero);

    /* Codes of each group; returns how many were clipped. Values may be beyond a table by any number of steps; where
     * codes are uniform, no |(x - offset) * inverse|, and no zero, is above 2^29. The scalar set takes these, too: what
     * is infinite, but not NaN. */
    size_t (*group_codes)(const float *x, size_t n, size_t group_size, const struct qz_grid *grid, const float *inverse,
                          const float *zero, uint8_t *packed);

    /* group_range, fit and group_codes, for groups whose numbers follow from their ranges alone. Ties are broken: see
     * qz_break_ties. Nonzero if a value is NaN or infinite, or fit noticed anything else; what was written is then of no
     * use. n may be more than QZ_TILE where two groups are not. */
    int (*group_encode)(const struct qz_fit *rule, const struct qz_grid *grid, const float *x, size_t n,
                        size_t group_size, const struct qz_numbers *to, uint8_t *packed);

    /* Codes of each group by the rule of another tool; by and from: one for each group. */
    void (*rule_codes)(const struct qz_rule_codes *rule, const float *x, size_t n, size_t group_size, const float *by,
                       const float *from, uint8_t *packed);

    /* The searches of ggml for QZ_RULE_TOGETHER groups of QZ_RULE_SEARCHED values, QZ_BLOCK of them side by side, and
     * then as many again: see rule_search_scalar.h. Numbers are not rounded yet. */
    void (*rule_iq4)(const float *v, struct qz_rule_groups *found);
    void (*rule_q4_k)(const float *v, struct qz_rule_groups *found);

    /* Values of each group. With a group size that is a multiple of 16, n may be more than QZ_TILE. */
    void (*group_decode)(const uint8_t *packed, size_t n, size_t group_size, const struct qz_grid *grid,
                         const float *scale, const float *zero, float *dst);

    /* The same for any number of whole groups, of a multiple of 16 each, whose scales are as they are stored. Values
     * become float32, or float16 or bfloat16, rounded to nearest even. Nonzero where such a type will not do: not all
     * of the 16 values that codes have in a group, used or not, are below what rounds to infinity. What was written is
     * then of no use. */
    int (*stored_decode)(const uint8_t *packed, size_t groups, size_t group_size, const struct qz_grid *grid,
                         const struct qz_stored *stored, qz_dtype dtype, void *dst);

    /* ---- groups down the columns ---------------------------------------------------------------------------- */

    /*
     * Groups that run down the columns of a matrix whose rows lie next to each other, `width` of them side by side:
     * element k of group i is x[k * stride + i]. width is a multiple of 16; a group has a multiple of 32 elements,
     * QZ_COLUMN_MOST at most. The codes of group i start at packed + i * pitch.
     */

    /* As group_range; and copies the values to rows of `width`. copy may be x. */
    int (*columns_range)(const float *x, ptrdiff_t stride, size_t lines, size_t width, float *copy, float *min,
                         float *max, struct qz_ahead *ahead);
    /* As group_codes. x: rows of `width`. */
    size_t (*columns_codes)(const float *x, size_t lines, size_t width, const struct qz_grid *grid,
                            const float *inverse, const float *zero, uint8_t *packed, ptrdiff_t pitch,
                            struct qz_ahead *ahead);
    /* As group_decode. dst[k * stride + i] is element k of group i. */
    void (*columns_decode)(const uint8_t *packed, ptrdiff_t pitch, size_t lines, size_t width,
                           const struct qz_grid *grid, const float *scale, const float *zero, float *dst,
                           ptrdiff_t stride);

    /* ---- errors --------------------------------------------------------------------------------------------- */

    /* Adds to sums; element 0 goes to lane 0. */
    void (*error)(const float *x, const float *y, size_t n, struct qz_sums *sums);

    /* group_codes, and the sums that error finds for x and the values of its codes. */
    size_t (*group_codes_error)(const float *x, size_t n, size_t group_size, const struct qz_grid *grid,
                                const float *scale, const float *inverse, const float *zero, uint8_t *packed,
                                struct qz_sums *sums);

    /* The first i with |x[i] - y[i]| == wanted, or n. */
    size_t (*find_error)(const float *x, const float *y, size_t n, float wanted);

    /* The sum of w (x - y)^2 in double: element i goes to lane i % 8, lanes grow by w times the rounded square, fused.
     * Lane l + 4 is added to lane l, then lane l + 2, then lane 1. */
    double (*weighted_error)(const float *x, const float *y, const float *w, size_t n);

    /* ---- search --------------------------------------------------------------------------------------------- */

    /* Lays QZ_BLOCK groups of n elements, one after another, side by side: to[QZ_BLOCK * k + l] = x[l * n + k]. */
    void (*interleave)(const float *x, size_t n, float *to);

    /*
     * Searched scales of QZ_BLOCK groups of n elements, multiplied by a power of two each so that the largest magnitude
     * of a group is in [0.5, 1), or all zeros. weight is NULL or as v, not negative. unit: that power of two, by which
     * scales are multiplied before they are rounded as stored. super: of those types that need it, the super scales,
     * divided by unit. other: NULL or another scale to try as it is stored, divided by unit. scale: goes in as the
     * scale to begin with, comes out as stored, both divided by unit; is what went in, as stored, where no candidate
     * has a gain. second: 1 where the second set of values is meant, else 0. lanes: of so many groups, the first ones,
     * the result is wanted; what comes out of the others is anything.
     */
    void (*search_scale)(const struct qz_search *rule, const float *v, const float *weight, size_t n, size_t lanes,
                         const float *unit, const float *super, const float *other, float *scale, uint8_t *second,
                         struct qz_gains *gains);

    /*
     * The same in integers, for groups of at most QZ_FIXED_LONGEST values, of which look->low and high are the ends, and
     * without weights: see fixed_scalar.h. sure[l] is 1 where the scale is known to be as good as both plain ones;
     * elsewhere what is said of a group means nothing.
     */
    void (*search_fixed)(const struct qz_fixed *rule, const struct qz_look *look, const float *unit, const float *other,
                         float *scale, struct qz_gains *gains, uint8_t sure[QZ_BLOCK]);

    /* search_affine in integers, of QZ_AFFINE_UINT4 or _OFFSET with QZ_AFFINE_USUAL and without weights, for an even
     * number of values, at most QZ_FIXED_LONGEST, for up to QZ_FIXED_TASKS blocks: see fixed_affine_scalar.h. sure[l] is 0 where what is said of a group
     * means nothing. error->rule: infinite where the pair of the rule is known to be no better than what comes out,
     * else 0. */
    void (*search_fixed_affine)(enum qz_affine_kind kind, qz_dtype dtype, const struct qz_fixed_affine_task *tasks,
                                size_t count);

    /* Looks at a block of groups that were searched, which may be special: QZ_SUSPECT_*, 0 for most. Returns nonzero
     * if any is suspected. spread: n largest^2, or the sum of the weights in place of n. */
    int32_t (*look_symmetric)(const struct qz_look *look, const struct qz_symmetric_look *more,
                              int32_t suspicion[QZ_BLOCK], float spread[QZ_BLOCK]);

    /*
     * Scale and zero of a block of groups, each of n values, with weights or NULL: see affine.h. In: the scale and zero
     * of QZ_MINMAX, divided by unit (QZ_AFFINE_UINT4 and _FLOAT: the scale only); out: those with less error, or the
     * same. For QZ_AFFINE_MIN nothing goes in; out come scale and offset before any rounding, and how the error grows.
     * rule: NULL, or pairs of which the error alone is told.
     */
    void (*search_affine)(enum qz_affine_kind kind, enum qz_affine_list list, qz_dtype dtype, const float *v,
                          const float *w, size_t n, const float *unit, const struct qz_affine_rule *rule, float *scale,
                          float *zero, struct qz_affine_error *error);

    /* The errors of two pairs for each group, as search_affine has them; not for QZ_AFFINE_MIN. */
    void (*pair_errors)(enum qz_affine_kind kind, const struct qz_look *look, const struct qz_affine_rule pair[2],
                        float error[2][QZ_BLOCK]);

    /* Looks at a block of groups that were searched with a zero, an integer or not, or an offset: QZ_SPECIAL_*. */
    void (*look_affine)(const struct qz_look *look, const struct qz_affine_error *error, int integer_zero,
                        int32_t special[QZ_BLOCK]);

    /* Finds groups with a zero or an offset whose scale and zero are not normal, or may not be (QZ_SPECIAL_CODES is
     * added to what is special about them), but makes those with integer zeros so. */
    void (*note_codes)(const struct qz_grid *grid, size_t count, const float *min, const float *max, const float *scale,
                       float *zero, int32_t *special);

    /* 1 / scales that were found, or 0 where it is of no use, and flags as those of `fit`, by the ranges of groups.
     * `half`: scales are stored as float16. */
    unsigned (*flag_scales)(int half, qz_zero kind, size_t count, const float *min, const float *max,
                            const float *scale, const float *zero, float *inverse);

    /* ---- neighbours ----------------------------------------------------------------------------------------- */

    /* The sums of x y, and of (x - y)^2, in double: element i goes to lane i % 8, and lanes are added as
     * weighted_error adds them. A lane grows by x y, which is exact, or by the square of the rounded difference, fused.
     */
    double (*dot)(const float *x, const float *y, size_t n);
    double (*distance)(const float *x, const float *y, size_t n);

    /* Sums of levels times a query: sum[g * pitch + r] for group g of row r. A query has 32 numbers for each chunk, none
     * of them -128: those for the lower halves of its 16 bytes, then those for the upper ones. */
    void (*scan)(const struct qz_scan *rows, const int8_t *query, int32_t *sum);

    /* The same for codes side by side and some queries, `pitch` numbers apart: sum[(q * groups + g) * rows + r]. Of each
     * eight numbers of a query the first four are for the lower halves of bytes. */
    void (*scan_beside)(const struct qz_beside *rows, const int8_t *query, size_t pitch, size_t queries, int32_t *sum);

    /* Sums of the integers of queries by the signs of rows: that of row r is sum[q * QZ_SIGN_ROWS + r]. Rows that are not
     * there have any. Bit r of within[q] says that row r may reach the limit: if qz_sign_by_estimates says so, that its
     * estimate is not below it; else that its sum is not below qz_sign_least times its inverse / 2^16, rounded down, or
     * the limit is not above 0. */
    void (*signs)(const struct qz_sign_rows *rows, const struct qz_sign_queries *queries, int16_t *sum,
                  uint64_t *within);

    /* Turns scales, and zeros or offsets, of `groups` groups of n rows into those of levels, and finds the spread and
     * the size of the rows: see qz_measure_group and qz_measure_row. Group g of row r is at g * pitch + r. Up to a
     * multiple of 16 rows may be changed. */
    void (*measure)(const struct qz_measure *rule, size_t n, size_t groups, size_t pitch, float *scale,
                    const float *zero, float *bias, float *spread, float *size);

    /*
     * Which of 64 rows, at most, are within reach of some queries whose sums are there. In float32, `near` grows from 0
     * by bias * start[t] for all terms t, then by scale * sum for all groups, fused; upper = fma(spread, factor[0],
     * fma(size, factor[1], near)). Bit r of within[q] says that upper of row r is not below limit[q]. NaN is not below
     * it; the limit is none. Sums of query q begin at q * groups * pitch, and its `start` at q * terms. Up to a
     * multiple of 16 rows may be read.
     */
    void (*reach)(const struct qz_reach *rows, const int32_t *sum, size_t queries, const float *start,
                  const float (*factor)[2], const float *limit, uint64_t *within);
};

/* The table of a file whose functions have the names of the entries: one place to add a kernel to every set. Those of
 * products of bytes, and those that search in integers, begin with `bytes`, so that one file can have two sets that
 * differ in them alone; `few` and `values` are the kernels products_few and few_values, or NULL. */
#define QZ_KERNEL_TABLE(set, features, bytes, few, values)                                                             \
    {                                                                                                                  \
        .name = set, .needs = features, .range_f32 = range_f32, .range_f64 = range_f64, .codes_f32 = codes_f32,        \
        .codes_f64 = codes_f64, .decode_f32 = decode_f32, .decode_f64 = decode_f64, .pack = pack, .unpack = unpack,    \
        .f32_from_f16 = f32_from_f16, .f32_from_bf16 = f32_from_bf16, .f32_from_f64 = f32_from_f64,                    \
        .f16_from_f32 = f16_from_f32, .bf16_from_f32 = bf16_from_f32, .byte_scales = byte_scales,                      \
        .transpose = transpose, .multiply_add = multiply_add, .project = project, .products = products,                \
        .product_outputs = product_outputs, .products_few = few, .few_values = values, .input_bytes = input_bytes,     \
        .product_levels = bytes##_levels, .product_numbers = product_numbers, .product_stored = product_stored,        \
        .product_bytes = bytes##_bytes, .product_packed = bytes##_packed, .product_ready = bytes##_ready,              \
        .stream = stream, .stream_end = stream_end, .group_range = group_range, .fit = fit,                            \
        .group_codes = group_codes, .group_encode = group_encode, .rule_codes = rule_codes, .rule_iq4 = rule_iq4,      \
        .rule_q4_k = rule_q4_k, .group_decode = group_decode, .stored_decode = stored_decode,                          \
        .columns_range = columns_range, .columns_codes = columns_codes, .columns_decode = columns_decode,              \
        .error = error, .group_codes_error = group_codes_error, .find_error = find_error,                              \
        .weighted_error = weighted_error, .interleave = interleave, .search_scale = search_scale,                      \
        .search_fixed = bytes##_fixed, .search_fixed_affine = bytes##_fixed_affine, .look_symmetric = look_symmetric,  \
        .search_affine = search_affine, .pair_errors = pair_errors, .look_affine = look_affine,                        \
        .note_codes = note_codes, .flag_scales = flag_scales, .dot = dot, .distance = distance, .scan = scan,          \
        .scan_beside = bytes##_beside, .signs = signs, .measure = measure, .reach = reach,                             \
    }

/* All sets compiled into the library, best first, ending with NULL; scalar is the last one. */
extern const struct qz_kernels *const qz_kernel_list[];
extern const struct qz_kernels qz_kernels_scalar;
extern const struct qz_kernels qz_kernels_avx2;
extern const struct qz_kernels qz_kernels_avx512;
extern const struct qz_kernels qz_kernels_avx512vnni;
extern const struct qz_kernels qz_kernels_avx512amx;
extern const struct qz_kernels qz_kernels_neon;
extern const struct qz_kernels qz_kernels_neondot;
extern const struct qz_kernels qz_kernels_neoni8mm;

/* Whether the compiler lets single functions use dotprod; older ones want it asked for with a flag. */
#if defined(__AARCH64EL__) && defined(__ARM_NEON) &&                                                                   \
    (defined(__ARM_FEATURE_DOTPROD) || (defined(__clang__) ? __clang_major__ >= 16 : __GNUC__ >= 8))
#define QZ_HAS_DOTPROD
#endif

/* The same for i8mm. */
#if defined(QZ_HAS_DOTPROD) &&                                                                                         \
    (defined(__ARM_FEATURE_MATMUL_INT8) || (defined(__clang__) ? __clang_major__ >= 16 : __GNUC__ >= 10))
#define QZ_HAS_I8MM
#endif

/* Whether the compiler knows the instructions of AMX, and there is a system that can be asked for them. */
#if defined(__x86_64__) && defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define QZ_HAS_AMX
#endif

/* What an x86-64 processor and its system say about themselves. */
struct qz_x86 {
    uint32_t leaf1[4], leaf7[4]; /* what CPUID returns: eax, ebx, ecx, edx */
    uint64_t saved;              /* XCR0: which registers the system saves */
    int (*may_use_tiles)(void);  /* asks the system; called only where the rest is there */
};

/* QZ_CPU_ bits of such a machine; of those in `wanted` alone, so that tiles are not asked for without need. */
uint32_t qz_x86_features(const struct qz_x86 *machine, uint32_t wanted);

/* Which of these QZ_CPU_ bits this machine has. */
uint32_t qz_cpu_features(uint32_t wanted);

/* The set in use, or NULL if QUANTIZE_KERNELS cannot be honoured. */
const struct qz_kernels *qz_kernels_active(void);

/* The careful rule for a group whose scale is not normal or is huge, in double: the nearest code whose value is finite,
 * as it is stored. Also the plainest statement of what a code is. *clipped is raised by one if the code was clipped. */
int qz_careful_code(float x, float scale, float zero, const struct qz_grid *grid, size_t *clipped);

/* Where the largest magnitude of a group is both max and -max, the first one wins: the other end of the range is drawn in
 * a little, so that fit finds no tie. For each group of n values x. */
void qz_break_ties(const float *x, size_t n, size_t group_size, float *min, float *max);

/* 1 / scale, or 0 for one that is not normal, or is huge. */
static inline float qz_inverse_of(float scale)
{
    const int32_t size = qz_magnitude_bits(scale), least = 0x00800000, most = 0x7b800000; /* FLT_MIN, 2^120 */
    const float inverse = 1.0f / scale;
    return qz_float(qz_either((size >= least) & (size <= most), qz_bits(inverse), 0));
}

/* scale * (v - zero) or scale * v + offset for the value v of a code, each operation rounded to float32. */
static inline float qz_value(float v, float scale, float zero, qz_zero kind)
{
    if (kind == QZ_ZERO_OFFSET) {
        float product = scale * v;
        return product + zero;
    }
    return kind == QZ_ZERO_NONE ? scale * v : scale * (v - zero);
}

/* What `distance` makes of a lane by one more value. */
static inline double qz_squared_difference(float x, float y, double lane)
{
    double difference = (double)x - (double)y;
    return fma(difference, difference, lane);
}

/* How many products of levels and queries 16 bits can sum up, two at a time. */
static inline size_t qz_level_steps(size_t most)
{
    return most ? INT16_MAX / (2 * QZ_LEVEL_MOST * most) : QZ_TILE;
}

/* At which byte of a row a chunk starts. */
static inline size_t qz_chunk_start(size_t bytes, size_t chunks, size_t chunk)
{
    return chunk + 1 < chunks ? chunk * (QZ_CHUNK / 2) : bytes - QZ_CHUNK / 2;
}

/* The chunk behind the last one of a group. */
static inline size_t qz_group_end(const struct qz_scan *rows, size_t group)
{
    return group + 1 < rows->groups ? (group + 1) * rows->group_chunks : rows->chunks;
}

/* The step behind the last one of a group, with codes side by side. */
static inline size_t qz_beside_group_end(const struct qz_beside *rows, size_t group)
{
    return group + 1 < rows->groups ? (group + 1) * rows->group_steps : rows->steps;
}

/* Fetches what comes 8 KiB after p, into the second-level cache. What is read in order by one query alone comes from
 * memory, and hardware does not look as far ahead. Inline, for gcc 12 takes a function that does nothing else for one
 * that does nothing. */
static inline __attribute__((always_inline)) void qz_fetch_ahead(const void *p)
{
    __builtin_prefetch((const char *)((uintptr_t)p + 8192), 0, 2);
}

/* Where the number of a query for element i of a row is, with codes side by side. */
static inline size_t qz_beside_place(size_t i)
{
    return i / QZ_BESIDE_CODES * QZ_BESIDE_CODES + i % 2 * (QZ_BESIDE_CODES / 2) + i % QZ_BESIDE_CODES / 2;
}

/* What `measure` makes of a group: level * scale + bias is nearly a value; no value is above `values`, nor the sum of
 * the magnitudes of what it is made of above `parts`. */
static inline void qz_measure_group(const struct qz_measure *rule, float *scale, float zero, float *bias, float *values,
                                    float *parts)
{
    const float least = rule->base, most = rule->unit * rule->top + rule->base;
    float s = *scale, part = fabsf(s * rule->unit) * rule->top, shift = s * least;
    float reach = fabsf(s) * qz_larger(fabsf(least), fabsf(most));
    *scale = s * rule->unit;
    *bias = shift;
    if (rule->kind != QZ_ZERO_NONE) {
        float of_zero = rule->kind == QZ_ZERO_OFFSET ? zero : -s * zero;
        reach = qz_larger(fabsf(shift + of_zero), fabsf(s * most + of_zero)) + part * 0x1p-20f;
        part += fabsf(of_zero);
        *bias = shift + of_zero;
    }
    part += fabsf(shift);
    *values = qz_larger(reach, *values);
    *parts = part <= rule->most ? qz_larger(part, *parts) : INFINITY;
}

/* The spread of a row, from the largest of its groups; its size is the parts. */
static inline float qz_measure_row(const struct qz_measure *rule, float values, float parts)
{
    int usable = parts <= rule->most && (parts >= rule->least || parts == 0.0f);
    return usable ? values * rule->up : INFINITY;
}

/* What `reach` makes of a row. */
static inline float qz_near_of_row(const struct qz_reach *rows, const int32_t *sum, const float *start, size_t r)
{
    float near = 0.0f;
    for (size_t t = 0; t < rows->terms; t++)
        near = fmaf(rows->bias[t * rows->pitch + r], start[t], near);
    for (size_t g = 0; g < rows->groups; g++)
        near = fmaf(rows->scale[g * rows->pitch + r], (float)sum[g * rows->pitch + r], near);
    return near;
}

static inline float qz_upper_of_row(const struct qz_reach *rows, const float factor[2], size_t r, float near)
{
    return fmaf(rows->spread[r], factor[0], fmaf(rows->size[r], factor[1], near));
}

/* What weighted_error makes of a lane by one more value, and of all lanes. */
static inline double qz_weighted_square(float x, float y, float w, double lane)
{
    double difference = (double)x - (double)y;
    return fma((double)w, difference * difference, lane);
}

static inline double qz_weighted_lanes(double lane[QZ_WEIGHTED_LANES])
{
    for (size_t half = QZ_WEIGHTED_LANES / 2; half > 0; half /= 2)
        for (size_t l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

#endif
