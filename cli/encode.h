/*
 * encode.h - what the files of the command encode share
 */
#ifndef QZ_CLI_ENCODE_H
#define QZ_CLI_ENCODE_H

#include "imatrix.h"
#include "part.h"
#include "recipe.h"
#include "rules.h"
#include "source.h"
#include "target.h"

/* Why a tensor stays as it is. */
typedef enum {
    ENCODED,
    PACKED,
    NO_FLOATS,
    SCALAR,
    BY_NAME,
    ONE_AXIS,
    SMALL,
    NO_PLACE,
    BY_RULE,
    BY_DEFAULT,
    TOO_LOSSY,
    REASONS
} reason;

/* What --gram has of the inputs of a layer. */
typedef struct gram_matrix {
    const item *matrix, *holdout; /* NULL: there is none */
    uint64_t examples;            /* that it is of; 0: not known */
} gram_matrix;

/* What there is of a tensor beside its values. */
typedef struct beside {
    const item *weights;          /* of --weights, or NULL */
    const importance *importance; /* of --imatrix, or NULL */
    gram_matrix gram;
} beside;

/* Where a tensor goes. */
typedef struct job_place {
    size_t index;             /* of a tensor in the output that is not quantized to four bits */
    qz_packed_tensor *packed; /* of one that is quantized there */
    int keeps_codes;          /* if it stays, it has the codes there that it is decoded from */
    int elsewhere;            /* in a file that --part does not make */
    int made_before;          /* in a file that an earlier run made: --resume */
} job_place;

typedef struct job_bytes {
    uint64_t before, after; /* in the input and in the output */
    uint64_t kept;          /* in the output, if it stays */
} job_bytes;

/* What a dry run expects. */
typedef struct likely {
    double seconds; /* of encoding it, once it was read; 0: not measured */
    double sqnr;    /* of a sample of it, of one that is encoded or too lossy; NAN: not measured */
} likely;

typedef struct job { /* one tensor of the input: encode_plan.c makes it, encode_tensor.c adds the last ones */
    const item *item;
    const qz_tensor *tensor;     /* as the file has it; what its codes decode to, where these are encoded again */
    struct packed_reader *codes; /* that are encoded again, or would be; else NULL */
    beside beside;
    int encoded;
    reason kept;
    const rule *rule;  /* that decided; NULL: none */
    const recipe *how; /* it is encoded, if it is */
    const char *words; /* the recipe that was chosen for it, as a rule would say it; NULL: none was */
    unsigned axis;
    uint64_t rows;
    job_bytes bytes;
    job_place place;
    likely likely;
    qz_stats stats;
    qz_gptq_outcome outcome; /* of one with a Gram matrix */
} job;

/* What GPTQ takes with a recipe: gptq_time.c. */
typedef struct gptq_pace {
    const recipe *how;  /* NULL: nothing was measured */
    uint64_t cols;      /* of the matrices that were */
    double inputs, row; /* seconds for them, and for each row of values */
    double power;       /* of the number of inputs, with which the first grows */
} gptq_pace;

/* How tensors may be encoded. */
typedef struct recipes {
    recipe usual;              /* of tensors without a rule */
    float numbers[16];         /* --table */
    rule_list rules, defaults; /* of the user; what stays in models */
    recipe *candidates;        /* of tensors for which one is chosen */
} recipes;

typedef struct totals {
    size_t floats;                              /* tensors that could be encoded */
    uint64_t values, bytes_before, bytes_after; /* of the encoded tensors */
} totals;

typedef struct encoder {
    const settings *s;
    source in, weights, grams, table;
    imatrix imatrix;
    qz_writer *writer;
    const char *layout; /* of quantized tensors in the output */
    recipes recipes;
    uint64_t likely_memory; /* bytes that a run takes, of a dry one; 0: not known */
    gptq_pace pace;         /* of a dry run */
    uint64_t part;          /* of a folder, as qz_create_options has it; 0: all */
    qz_shard made;          /* with --part N, that file */
    qz_pool *pool;
    job *jobs;
    totals total;
} encoder;

/* ---- encode_plan.c ---- */

/* How tensors are encoded, as the options and rules have it, if what they say goes together. */
int choose_recipes(encoder *e);
/* What becomes of each tensor of the input: e->jobs. */
int plan_tensors(encoder *e);
/* The fewest values that a tensor must have to be encoded. */
uint64_t min_size(const settings *s);

/* Whether the errors of all tensors that are encoded are measured; whether that of this one is. */
int measures_all(const settings *s);
int is_measured(const encoder *e, const job *j);
/* Whether a tensor is encoded from codes. */
int is_requantized(const job *j);
/* Whether a tensor keeps the codes that it is decoded from. */
int keeps_codes(const job *j);
/* Whether there are weights for a tensor, of which the diagonal of a Gram matrix is one kind; whether it is encoded
 * with them, or by GPTQ. */
int has_weights(const job *j);
int is_weighted(const job *j);
int is_gptq(const job *j);

/* ---- encode_choose.c ---- */

/* With --target-bits or --min-sqnr, the recipes of the tensors without a rule. */
int choose_schemes(encoder *e);
/* What a run would do with each tensor, from a sample: job.likely_sqnr and likely_seconds, encoder.likely_memory. */
int predict(encoder *e);

/* ---- encode_tensor.c ---- */

/* Encodes one tensor, and writes it if there is a writer. */
int encode_tensor(encoder *e, job *j);
/* Bytes of memory that its encoding takes. */
uint64_t memory_of(encoder *e, job *j);
/* How many elements are read for a tensor: of those that are read twice, twice as many. */
uint64_t steps_of(encoder *e, job *j);

/* ---- encode_output.c ---- */

/* Says what stays as it is and might be thought to be encoded. */
void say_kept(const encoder *e);
/* The names of the schemes that tensors are encoded by, in the order of the tensors. */
scheme_names used_schemes(const encoder *e);
void say_summary(const encoder *e, double seconds);
/* Bytes of all tensors, in the input or in the output. */
uint64_t total_bytes(const encoder *e, int after);
results encode_results(const encoder *e);
void print_encode_plan(const encoder *e);
void print_encode_stats(const encoder *e);

/* ---- encode_part.c ---- */

/* What encode tells of a folder that it makes file by file, but for the functions that make it. */
parted encode_parts(encoder *e);

/* ---- nonfinite.c ---- */

/* A tensor cannot be encoded: reads all of it again, to say which element is the first in the tensor's own order, and
 * how many there are. Blocks and threads know neither. */
int fail_nonfinite(const encoder *e, const job *j, const qz_tensor *t);

#endif
