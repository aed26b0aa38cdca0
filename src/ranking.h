/*
 * ranking.h - the best of many rows
 *
 * Rows are ordered by a key, larger keys first, and rows with equal keys by their number. So no two rows are equal, and
 * the best rows do not depend on the order in which rows arrive.
 */
#ifndef QZ_RANKING_H
#define QZ_RANKING_H

#include <stddef.h>
#include <stdint.h>

struct qz_ranked {
    double key; /* a number */
    uint64_t row;
};

/* A heap, at the top of which is the worst. */
struct qz_ranking {
    struct qz_ranked *heap; /* room for `most` */
    size_t count, most;
};

void qz_ranking_add(struct qz_ranking *ranking, struct qz_ranked one);

/* The key that a row must reach to be among the best, now that these are known; -infinity while there is room. */
double qz_ranking_least(const struct qz_ranking *ranking);

/* Puts the best first. Nothing can be added afterwards. */
void qz_ranking_sort(struct qz_ranking *ranking);

#endif
