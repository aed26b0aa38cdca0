/*
 * ranking.c - keeps the best of many rows
 */
#include "ranking.h"

#include <math.h>

static int is_better(struct qz_ranked a, struct qz_ranked b)
{
    return a.key > b.key || (a.key == b.key && a.row < b.row);
}

/* Puts one at place i, or further down: each place is worse than the two below it. */
static void sink(struct qz_ranked *heap, size_t count, size_t i, struct qz_ranked one)
{
    for (size_t child; (child = 2 * i + 1) < count; i = child) {
        if (child + 1 < count && is_better(heap[child], heap[child + 1]))
            child++;
        if (!is_better(one, heap[child]))
            break;
        heap[i] = heap[child];
    }
    heap[i] = one;
}

static void rise(struct qz_ranked *heap, size_t i, struct qz_ranked one)
{
    for (size_t parent; i > 0; i = parent) {
        parent = (i - 1) / 2;
        if (!is_better(heap[parent], one))
            break;
        heap[i] = heap[parent];
    }
    heap[i] = one;
}

void qz_ranking_add(struct qz_ranking *ranking, struct qz_ranked one)
{
    if (ranking->count < ranking->most)
        rise(ranking->heap, ranking->count++, one);
    else if (ranking->most > 0 && is_better(one, ranking->heap[0]))
        sink(ranking->heap, ranking->count, 0, one);
}

double qz_ranking_least(const struct qz_ranking *ranking)
{
    if (ranking->count < ranking->most)
        return -(double)INFINITY;
    return ranking->most > 0 ? ranking->heap[0].key : (double)INFINITY;
}

void qz_ranking_sort(struct qz_ranking *ranking)
{
    struct qz_ranked *heap = ranking->heap;
    for (size_t left = ranking->count; left > 1; left--) {
        struct qz_ranked last = heap[left - 1];
        heap[left - 1] = heap[0];
        sink(heap, left - 1, 0, last);
    }
}
