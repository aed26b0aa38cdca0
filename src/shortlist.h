/*
 * shortlist.h - short lists: rows that are probably among the best, chosen by their signs
 *
 * A query becomes integers, in each run of QZ_SIGN_MOST together at most. So the estimate of a score (signs.h) is an
 * integer, the same for every kernel set, and one or two products of float32 with it. Of equal estimates the first row is
 * better. Therefore the list depends only on the rows and the query.
 */
#ifndef QZ_SHORTLIST_H
#define QZ_SHORTLIST_H

#include "base/stop.h"
#include "scoring.h"
#include "signs.h"

/* The best so far of a query: entries order rows by estimates, and equal ones by their numbers. */
struct qz_list {
    uint64_t *entry;
    size_t count;
    float limit; /* rows with less are not among the best */
};

struct qz_shortlist {
    const struct qz_signs *signs; /* NULL: there are no lists */
    size_t most, kept;            /* rows of a list by first signs; and by all */
    void *room;
    uint8_t *table; /* of queries, in lines of `room` */
    int8_t *more;   /* of their columns in records: sums for each byte of these */
    float *start;   /* what the bias of a row is multiplied with */
    struct qz_list *lists;
    uint64_t *entries;
};

/* Decides whether k of these rows are found by lists: where lists are much shorter than the rows. */
void qz_shortlist_begin(struct qz_shortlist *list, const struct qz_signs *signs, uint64_t rows, uint64_t cols,
                        uint64_t k);

/* Room for `lists` lists and `queries` queries. Returns 0 if there is none. */
int qz_shortlist_room(struct qz_shortlist *list, size_t lists, size_t queries);
void qz_shortlist_free(struct qz_shortlist *list);

/* Takes queries that are ordinary. */
void qz_shortlist_take(struct qz_shortlist *list, const struct qz_queries *queries);

/* Which of some rows a mask, which may be NULL, leaves: a bit for each. */
static inline uint64_t qz_wanted_rows(const uint8_t *mask, uint64_t first, size_t count)
{
    uint64_t wanted = 0;
    if (!mask)
        return ~wanted;
    for (size_t r = 0; r < count; r++)
        wanted |= (uint64_t)(mask[first + r] != 0) << r;
    return wanted;
}

/* Fills a list for each query, from `lists` on, with the best of rows `first` to `end`. `first` starts a block. */
void qz_shortlist_fill(const struct qz_shortlist *list, const struct qz_queries *queries, const uint8_t *mask,
                       uint64_t first, uint64_t end, struct qz_list *lists, struct qz_stop *stop);

/* Puts the best of `lists` lists, `pitch` apart, into the first one. */
void qz_shortlist_merge(const struct qz_shortlist *list, struct qz_list *lists, size_t count, size_t pitch);

/* Keeps those of a list of query q that are best by their records, too. */
void qz_shortlist_refine(const struct qz_shortlist *list, struct qz_list *of, size_t q);

/* Which row an entry is. */
static inline uint64_t qz_listed_row(uint64_t entry)
{
    return (uint32_t)~entry;
}

#endif
